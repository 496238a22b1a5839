//! From TOML text to a checked recipe.

use crate::{Kind, Recipe, RecipeError};
use elenchus_control::ControlError;
use elenchus_generate::hide_users;
use elenchus_learn::LearnError;
use elenchus_trace::nearest;
use serde::de::DeserializeOwned;

/// Reads a recipe. `file` is only named in errors.
pub fn parse(file: &str, text: &str) -> Result<Recipe, RecipeError> {
    let recipe = read_toml(file, text, HINT)?;
    check(&recipe).map_err(|fault| RecipeError::Parse {
        file: file.into(),
        line: line_of(text, fault.table, &fault.word),
        problem: fault.problem,
        hint: fault.hint,
    })?;
    Ok(recipe)
}

const HINT: &str = "docs/reference/recipes.md lists every field with its type";

/// Reads TOML; `file` is only named in errors, `hint` is what helps when there is no nearest word.
pub(crate) fn read_toml<T: DeserializeOwned>(file: &str, text: &str, hint: &str) -> Result<T, RecipeError> {
    toml::from_str(text).map_err(|error| {
        let line =
            error.span().map_or(1, |span| 1 + text[..span.start.min(text.len())].matches('\n').count());
        let message = error.message();
        let hint = nearest_word(message).unwrap_or_else(|| hint.into());
        // What stands in the wrong place may be an address with a password.
        RecipeError::Parse { file: file.into(), line, hint, problem: hide_users(&first_line(message)) }
    })
}

fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_string()
}

/// The nearest valid word when the message lists the valid ones, in backticks behind the wrong one.
fn nearest_word(message: &str) -> Option<String> {
    let words: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    match words.as_slice() {
        [wrong, valid @ ..] if message.contains("expected") && !valid.is_empty() => {
            Some(nearest(wrong, valid.iter().copied()))
        }
        _ => None,
    }
}

/// What is wrong with a well-formed recipe, and where that stands.
struct Fault {
    /// The table, without brackets; empty for the fields in front of all tables.
    table: &'static str,
    /// A word of the line in that table.
    word: String,
    problem: String,
    hint: String,
}

impl Fault {
    fn new(
        table: &'static str,
        word: impl Into<String>,
        problem: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Fault { table, word: word.into(), problem: problem.into(), hint: hint.into() }
    }

    /// Takes a part's own `… hint: …` message apart.
    fn of(table: &'static str, word: impl Into<String>, message: &str) -> Self {
        let (problem, hint) = message.split_once("\nhint: ").unwrap_or((message, HINT));
        Fault::new(table, word, problem, hint)
    }
}

/// The line of a table with this key or this text in quotes, else that of the table's name, else the first; from 1. Of
/// two claims with one id it is the second.
fn line_of(text: &str, table: &str, word: &str) -> usize {
    let quoted = format!("\"{word}\"");
    let is_key = |line: &str| {
        line.match_indices(word).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            let begins = before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != '-');
            begins && line[at + word.len()..].trim_start().starts_with('=')
        })
    };
    let mut inside = table.is_empty();
    let (mut named, mut found) = (None, None);
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.starts_with('[') {
            let name = line.trim_start_matches('[').strip_prefix(table);
            inside = !table.is_empty() && name.is_some_and(|rest| rest.starts_with([']', '.']));
            if inside {
                named.get_or_insert(index + 1);
            }
        }
        let here = inside && !line.starts_with('#') && !word.is_empty();
        if here && (line.contains(&quoted) || is_key(line)) && (found.is_none() || table == "acceptance") {
            found = Some(index + 1);
        }
    }
    found.or(named).unwrap_or(1)
}

fn check(recipe: &Recipe) -> Result<(), Fault> {
    if recipe.name.is_empty()
        || !recipe.name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    {
        return Err(Fault::new(
            "",
            "name",
            format!("the name `{}` must be lower-case letters, digits and `-`", recipe.name),
            "for example `self-certainty`",
        ));
    }
    if let Some(part) = &recipe.strategy {
        elenchus_control::strategy(&part.name, part.settings.clone()).map_err(|error| {
            let word = match &error {
                ControlError::Setting { field, .. } => field.clone(),
                _ => part.name.clone(),
            };
            Fault::of("strategy", word, &error.to_string())
        })?;
        if let (Some(written), Some(known)) = (recipe.triple.axes, recipe.axes())
            && written != known
        {
            return Err(Fault::new(
                "triple.axes",
                "",
                format!("[triple.axes] is not the place of the strategy `{}`", part.name),
                "leave [triple.axes] out: the strategy says it",
            ));
        }
    }
    if let Some(rounds) = &recipe.rounds {
        rounds.check().map_err(|error| {
            let word = match &error {
                LearnError::Setting { field, .. } => field.rsplit('.').next().unwrap_or_default().into(),
                _ => String::new(),
            };
            Fault::of("rounds", word, &error.to_string())
        })?;
    }
    if recipe.kind == Kind::TestTime && recipe.strategy.is_none() {
        return Err(Fault::new(
            "",
            "kind",
            "a test-time recipe names no strategy",
            "add a [strategy] table with `name`",
        ));
    }
    if let Some(acceptance) = &recipe.acceptance {
        let mut seen = std::collections::HashSet::new();
        if let Some(twice) = acceptance.claims.iter().find(|c| !seen.insert(c.id.as_str())) {
            return Err(Fault::new(
                "acceptance",
                &twice.id,
                format!("two claims have the id `{}`", twice.id),
                "give each claim its own id",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
name = "mine"
title = "t"
paper = "arXiv:0000.00000"
sheet = 7
summary = "s"
kind = "test-time"
state = "preview"

[triple]
generate = "sample"
evaluate = "vote share"
control = "vote"
learner = "none"

[strategy]
name = "self-consistency"
settings = { samples = 4 }
"#;

    #[test]
    fn a_good_recipe_is_read() {
        let recipe = parse("mine.toml", GOOD).unwrap();
        assert_eq!(recipe.strategy.unwrap().settings["samples"], 4);
    }

    #[test]
    fn the_registered_words_of_the_taxonomy_are_those_of_the_strategy() {
        let vote = "\n[triple.axes]\ngenerate = \"hand-written\"\nevaluate = \"self-assessment\"\n\
                    control = \"ensemble\"\nline = \"reasoning-topologically\"\n\n[strategy]";
        let recipe = parse("mine.toml", &GOOD.replace("\n[strategy]", vote)).unwrap();
        assert_eq!(recipe.axes(), recipe.triple.axes);
        assert_eq!(parse("mine.toml", GOOD).unwrap().axes(), recipe.axes());
        let wrong = GOOD.replace("\n[strategy]", &vote.replace("self-assessment", "tool"));
        let error = parse("mine.toml", &wrong).unwrap_err().to_string();
        assert!(error.contains("[triple.axes]") && error.contains("hint:"), "{error}");
        let unknown = GOOD.replace("\n[strategy]", &vote.replace("\"ensemble\"", "\"guess\""));
        assert!(parse("mine.toml", &unknown).unwrap_err().to_string().contains("guess"));
    }

    #[test]
    fn errors_name_file_line_and_the_nearest_word() {
        let wrong = GOOD.replace("learner =", "lerner =");
        let error = parse("mine.toml", &wrong).unwrap_err().to_string();
        assert!(error.starts_with("mine.toml:14: unknown field `lerner`"), "{error}");
        assert!(error.ends_with("hint: did you mean `learner`?"), "{error}");
        let error = parse("mine.toml", &GOOD.replace("self-consistency", "self-consistancy"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("self-consistency"), "the nearest strategy is offered: {error}");
        let error = parse("mine.toml", &GOOD.replace("samples = 4", "sampels = 4")).unwrap_err().to_string();
        assert!(error.contains("sampels"), "a setting of a part is checked too: {error}");
        assert!(parse("mine.toml", &GOOD.replace("sheet = 7", "sheet = \"seven\"")).is_err(), "wrong type");
        assert!(parse("mine.toml", "").is_err(), "empty file");
    }

    #[test]
    fn what_means_nothing_is_named_with_file_and_line() {
        let said = |text: &str| parse("mine.toml", text).unwrap_err().to_string();
        let setting = said(&GOOD.replace("samples = 4", "sampels = 4"));
        assert!(
            setting.starts_with("mine.toml:18: strategy `self-consistency`: setting `sampels`"),
            "{setting}"
        );
        let name = said(&GOOD.replace("self-consistency", "self-consistancy"));
        assert!(name.starts_with("mine.toml:17: unknown strategy `self-consistancy`"), "{name}");
        let name = said(&GOOD.replace("\"mine\"", "\"Mine\""));
        assert!(name.starts_with("mine.toml:2: the name `Mine`"), "{name}");
        let kind = said(&GOOD[..GOOD.find("[strategy]").unwrap()]);
        assert!(kind.starts_with("mine.toml:7: a test-time recipe names no strategy"), "{kind}");
        let claim = "\n[[acceptance.claims]]\nid = \"a\"\n";
        assert_eq!(line_of(&format!("x = 1{claim}{claim}"), "acceptance", "a"), 6, "the second of two");
        let (_, b_star) = crate::BUILT_IN.iter().find(|(file, _)| file.ends_with("/b-star.toml")).unwrap();
        let at = 1 + b_star.lines().position(|line| line.starts_with("temperatures")).unwrap();
        let probe = said(&b_star.replacen("temperatures = [", "temperatures = [-1.0, ", 1));
        assert!(probe.starts_with(&format!("mine.toml:{at}: setting `probe.temperatures`")), "{probe}");
        for error in [setting, name, kind, probe] {
            assert!(error.contains("\nhint: "), "{error}");
        }
    }

    #[test]
    fn every_built_in_recipe_has_its_place_among_the_registered_words() {
        for (file, text) in crate::BUILT_IN {
            let recipe = parse(file, text).unwrap();
            let place =
                recipe.axes().unwrap_or_else(|| panic!("{file} has neither a strategy nor [triple.axes]"));
            let words = serde_json::to_value(place).unwrap();
            assert!(words["generate"].is_string() && words["evaluate"].is_string(), "{file}: {words}");
            let said = [&recipe.triple.generate, &recipe.triple.evaluate, &recipe.triple.control];
            assert!(
                said.iter().all(|words| !words.trim().is_empty()),
                "{file}: and says it in its own words"
            );
        }
    }

    #[test]
    fn every_built_in_recipe_is_valid_and_named_like_its_file() {
        for (file, text) in crate::BUILT_IN {
            let recipe = parse(file, text).unwrap();
            assert_eq!(format!("recipes/{}.toml", recipe.name), *file);
        }
    }
}
