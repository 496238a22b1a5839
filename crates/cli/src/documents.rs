//! What documents and help texts say one can type is something one can type: the parser of the command line takes it, and the
//! strategies, recipes and tasks in it exist.

use crate::arguments::Arguments;
use crate::asking::named_strategy;
use clap::{ArgMatches, Command, CommandFactory};
use std::path::Path;

/// Words of a command as a shell makes them, up to a comment, a pipe or a redirection. `$(…)` is one word.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word) = (Vec::new(), None::<String>);
    let (mut quote, mut depth) = (None, 0);
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            _ if quote == Some(character) => quote = None,
            _ if quote.is_some() => word.get_or_insert_default().push(character),
            '$' if characters.peek() == Some(&'(') => {
                depth += 1;
                word.get_or_insert_default().push(character);
            }
            _ if depth > 0 => {
                depth -= i32::from(character == ')');
                word.get_or_insert_default().push(character);
            }
            '\'' | '"' => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            '#' if word.is_none() => break,
            '|' | '>' | '&' | ';' => break,
            // What is left out for shortness.
            '…' => {}
            ' ' => words.extend(word.take()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    words
}

/// Lines of a text, those that end in `\` joined with what follows.
fn joined(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut open = false;
    for line in text.lines() {
        let (part, goes_on) = match line.trim_end().strip_suffix('\\') {
            Some(part) => (part, true),
            None => (line, false),
        };
        match lines.last_mut().filter(|_| open) {
            Some(last) => last.push_str(part),
            None => lines.push(part.to_string()),
        }
        open = goes_on;
    }
    lines
}

/// A command as it stands somewhere. One that is only mentioned may lack what it needs: `elenchus train`.
#[derive(Debug)]
struct Typed {
    line: String,
    mentioned: bool,
}

/// The commands of a Markdown text: lines of its blocks for the shell, and what stands in backticks.
fn commands_of_page(text: &str) -> Vec<Typed> {
    let mut found = Vec::new();
    for (index, part) in text.split("```").enumerate() {
        if index % 2 == 1 {
            if let Some(block) = part.strip_prefix("sh\n") {
                found.extend(joined(block).into_iter().map(|line| (line.trim().to_string(), false)));
            }
        } else {
            found.extend(part.split('`').skip(1).step_by(2).map(|code| (code.replace('\n', " "), true)));
        }
    }
    let ours = |(line, mentioned): (String, bool)| match line.strip_prefix("cargo run --release -- ") {
        Some(rest) => Some(Typed { line: format!("elenchus {rest}"), mentioned }),
        None => line.starts_with("elenchus ").then_some(Typed { line, mentioned }),
    };
    found.into_iter().filter_map(ours).collect()
}

/// The examples of a command's help and of the commands below it; what they do stands behind three spaces.
fn examples(command: &Command) -> Vec<Typed> {
    let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let lines = joined(&text).into_iter().filter(|line| line.starts_with("  elenchus "));
    let mut found: Vec<Typed> = lines
        .map(|line| {
            let line = line.trim();
            // Continued lines are indented, too.
            let end = line.find("   ").filter(|at| !line[*at..].trim_start().starts_with('-'));
            Typed { line: line[..end.unwrap_or(line.len())].to_string(), mentioned: false }
        })
        .collect();
    found.extend(command.get_subcommands().flat_map(examples));
    found
}

/// What is wrong with a command, if anything is.
fn fault(Typed { line, mentioned }: &Typed) -> Option<String> {
    use clap::error::ErrorKind as Kind;
    let incomplete = [
        Kind::MissingRequiredArgument,
        Kind::MissingSubcommand,
        Kind::DisplayHelpOnMissingArgumentOrSubcommand,
    ];
    let matches = match Arguments::command().try_get_matches_from(words(line)) {
        Ok(matches) => matches,
        Err(error) if !error.use_stderr() || *mentioned && incomplete.contains(&error.kind()) => return None,
        Err(error) => return Some(error.to_string().lines().next().unwrap_or_default().to_string()),
    };
    let (name, given) = matches.subcommand()?;
    unknown_names(name, given)
}

/// `NAME` stands for any name.
fn is_placeholder(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c == '_')
}

fn unknown_names(command: &str, given: &ArgMatches) -> Option<String> {
    let values = |id: &str| -> Vec<String> {
        // Not every command has every option, or as text.
        given.try_get_many::<String>(id).ok().flatten().into_iter().flatten().cloned().collect()
    };
    let mut faults = Vec::new();
    let settings = values("settings");
    if matches!(command, "ask" | "eval" | "compare" | "estimate") {
        for spelled in values("strategy") {
            let (name, behind) = spelled.split_once(':').unwrap_or((&spelled, ""));
            let behind = behind.split(',').filter(|s| !s.is_empty()).map(String::from);
            let settings: Vec<String> = behind.chain(settings.iter().cloned()).collect();
            if !is_placeholder(name) {
                faults.extend(named_strategy(name, &settings).err().map(|failure| failure.to_string()));
            }
        }
    }
    let recipes = match command {
        "improve" => values("recipe"),
        "reproduce" | "recipes" => values("name"),
        _ => Vec::new(),
    };
    let parts = given.try_get_one::<bool>("parts").ok().flatten() == Some(&true);
    for name in recipes.iter().filter(|name| !is_placeholder(name) && !name.ends_with(".toml") && !parts) {
        faults.extend(elenchus_recipe::built_in(name).err().map(|error| error.to_string()));
    }
    let tasks = [values("task"), if command == "tasks" { values("name") } else { Vec::new() }].concat();
    for name in tasks.iter().filter(|name| !is_placeholder(name)) {
        if !elenchus_task::TASKS.iter().any(|task| task.name == name.as_str()) {
            faults.push(format!("no task is named `{name}`"));
        }
    }
    (!faults.is_empty()).then(|| faults.join("; "))
}

fn all_can_be_typed(place: &str, commands: &[Typed]) {
    let faults: Vec<String> =
        commands.iter().filter_map(|typed| Some(format!("{}\n    {}", typed.line, fault(typed)?))).collect();
    assert!(faults.is_empty(), "{place}:\n{}", faults.join("\n"));
}

#[test]
fn commands_of_the_documents_can_be_typed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for (page, least) in [
        ("README.md", 10),
        ("docs/guide.md", 40),
        ("docs/gateway.md", 5),
        ("docs/formats.md", 2),
        ("docs/concepts.md", 0),
    ] {
        let commands = commands_of_page(&std::fs::read_to_string(root.join(page)).unwrap());
        assert!(commands.len() >= least, "{page}: only {} commands were found: {commands:?}", commands.len());
        all_can_be_typed(page, &commands);
    }
}

#[test]
fn every_command_has_an_example_that_can_be_typed() {
    let command = Arguments::command();
    all_can_be_typed("elenchus --help", &examples(&command));
    for one in command.get_subcommands() {
        let found = examples(one);
        let begins = format!("elenchus {}", one.get_name());
        assert!(
            found.iter().any(|typed| typed.line.starts_with(&begins)),
            "`{begins} --help` has no example"
        );
    }
}

#[test]
fn mistakes_are_found() {
    for (line, word) in [
        ("elenchus compare --strategy single --strategy self-refine", "self-refine"),
        ("elenchus eval --strategy self-consistency --set sampels=3", "sampels"),
        ("elenchus compare --strategy single --strategy self-consistency:sampels=3", "sampels"),
        ("elenchus eval --problem 3", "--problem"),
        ("elenchus eval --task arithmatic", "arithmatic"),
        ("elenchus reproduce b-tsar", "b-tsar"),
        ("elenchus improve --recipe b-tsar", "b-tsar"),
        ("elenchus frobnicate", "frobnicate"),
    ] {
        let typed = Typed { line: line.to_string(), mentioned: false };
        let said = fault(&typed).unwrap_or_else(|| panic!("nothing is found in `{line}`"));
        assert!(said.contains(word), "{said}");
    }
    let line = "elenchus ask 'What is 2 > 1?' --set \"a=b c\" $(elenchus lab path x) # as said";
    assert_eq!(
        words(line),
        ["elenchus", "ask", "What is 2 > 1?", "--set", "a=b c", "$(elenchus lab path x)"]
    );
}
