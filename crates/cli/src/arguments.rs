//! The command line.

use crate::commands;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use elenchus_task::Split;

/// Makes a language model better with feedback, and shows by measurement that it did.
#[derive(Debug, Parser)]
#[command(
    name = "elenchus",
    version,
    propagate_version = true,
    after_help = "Examples:
  elenchus improve                          the embedded model improves itself; about 3 minutes
  elenchus ask 'What is 12 * 7?' --strategy self-consistency --model qwen3:4b \\
      --endpoint http://localhost:11434/v1
  elenchus compare --strategy single --strategy self-consistency --problems 200
  elenchus serve --upstream http://localhost:11434/v1
  elenchus reproduce self-certainty --quick

Results go to standard output, everything else to standard error. Exit codes: 0 done, 1 failed, 2
wrong command line, 3 wrong input file, 4 model or endpoint failed, 5 budget, 6 disk or run
folder, 130 interrupted."
)]
pub struct Arguments {
    /// Options that every command has.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options that every command has.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Print the result as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Seed of all randomness; the same seed gives the same result
    #[arg(long, global = true, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// No progress display
    #[arg(long, short, global = true)]
    pub quiet: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Let a model improve itself in rounds: solve, verify, select, train, measure
    Improve(commands::improve::Improve),
    /// Ask one question
    Ask(commands::ask::Ask),
    /// Measure one strategy on a task
    Eval(commands::eval::Eval),
    /// Two or more strategies on the same problems, with paired differences
    Compare(commands::compare::Compare),
    /// Every triple of generator, evaluator and controller on the same problems, at one token budget
    Grid(commands::grid::Grid),
    /// How far a model can be talked out of right answers by judges of every intent and knowledge
    Audit(commands::audit::Audit),
    /// What a strategy or a training run will cost, before anything is spent
    Estimate(commands::estimate::Estimate),
    /// Turn recorded outputs of others into our formats
    Import(commands::import::Import),
    /// Vote or select among recorded samples
    Select(commands::select::Select),
    /// Calibration and discrimination of recorded confidences
    Measure(commands::measure::Measure),
    /// Whether predicted answers mean the same as reference answers
    Verify(commands::verify::Verify),
    /// Which temperature yields the most distinct right responses; writes them as training rows
    Probe(commands::probe::Probe),
    /// Make the embedded model again from nothing
    Pretrain(commands::pretrain::Pretrain),
    /// Train a checkpoint on rows in TRL's formats
    Train(commands::train::Train),
    /// Run a paper's acceptance: arms at equal budget, seeds, intervals, the verdict
    Reproduce(commands::reproduce::Reproduce),
    /// Serve the OpenAI API and a web page: any client gets a recipe's answers, and can say what it thinks of them
    Serve(commands::serve::Serve),
    /// Fit what a recipe's confidences mean, from answers with a known verdict; the gateway applies it then
    Calibrate(commands::calibrate::Calibrate),
    /// Keys of the gateway: who may ask, and how much
    Keys(commands::keys::Keys),
    /// The small checkpoints that experiments need: train them once, find them again
    Lab(commands::lab::Command),
    /// Go on with a run that was interrupted
    Resume(commands::resume::Resume),
    /// Path and summary of the report of a run
    Report(commands::lists::Report),
    /// The recipes, or one of them whole; with `--parts` the parts they are made of
    Recipes(commands::lists::Recipes),
    /// The tasks and their settings
    Tasks(commands::lists::Tasks),
    /// The models that can be named
    Models(commands::lists::Models),
    /// Completions for a shell, to be sourced
    Completions(commands::lists::Completions),
}

/// Reads the name of a split.
pub fn split_parser() -> impl TypedValueParser<Value = Split> {
    PossibleValuesParser::new(["train", "validation", "test"]).map(|name| match name.as_str() {
        "train" => Split::Train,
        "validation" => Split::Validation,
        _ => Split::Test,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use elenchus_recipe::{built_in, built_in_recipes, lab};
    use std::path::Path;

    /// The words of a line, with quotes as a shell reads them.
    fn words(line: &str) -> Vec<String> {
        let (mut words, mut word, mut quote, mut begun) = (Vec::new(), String::new(), None, false);
        for sign in line.chars() {
            match (quote, sign) {
                (None, '\'' | '"') => (quote, begun) = (Some(sign), true),
                (Some(open), _) if open == sign => quote = None,
                (None, ' ') => {
                    if begun {
                        words.push(std::mem::take(&mut word));
                    }
                    begun = false;
                }
                _ => {
                    word.push(sign);
                    begun = true;
                }
            }
        }
        if begun {
            words.push(word);
        }
        assert_eq!(quote, None, "a quote is open: {line}");
        words
    }

    /// The values of the options of these names.
    fn values<'a>(words: &'a [String], options: &[&str]) -> Vec<&'a str> {
        let named = words.windows(2).filter(|pair| options.contains(&pair[0].as_str()));
        named.map(|pair| pair[1].as_str()).collect()
    }

    /// That a line means something: it is read, and what it names is there.
    fn check(line: &str) {
        let words = words(line);
        let arguments = Arguments::try_parse_from(&words).unwrap_or_else(|error| panic!("{line}\n{error}"));
        let settings: Vec<String> = values(&words, &["--set"]).into_iter().map(String::from).collect();
        for spelled in values(&words, &["--strategy", "--recipe"]) {
            let (name, own) = spelled.split_once(':').unwrap_or((spelled, ""));
            let own: Vec<String> = own.split(',').filter(|one| !one.is_empty()).map(String::from).collect();
            let trains =
                built_in(name).is_ok_and(|recipe| recipe.strategy.is_none() && recipe.rounds.is_some());
            let settings = if own.is_empty() { &settings } else { &own };
            if !trains {
                crate::asking::named_strategy(name, settings)
                    .unwrap_or_else(|error| panic!("{line}\n{error}"));
            }
        }
        // The rows of a task over a file are in that file.
        let opens = words.iter().all(|word| word != "--file");
        for task in values(&words, &["--task"]) {
            assert!(elenchus_task::TASKS.iter().any(|entry| entry.name == task), "{line}");
        }
        for task in values(&words, &["--task"]).into_iter().filter(|_| opens) {
            elenchus_task::task(task, &serde_json::Value::Null)
                .unwrap_or_else(|error| panic!("{line}\n{error}"));
        }
        match (&arguments.command, words[1].as_str()) {
            (Command::Reproduce(_), _) => {
                built_in(&words[2]).unwrap_or_else(|error| panic!("{line}\n{error}"));
            }
            (Command::Lab(_), _) if words[2] == "build" => {
                for name in words[3..].iter().take_while(|word| !word.starts_with('-')) {
                    lab::checkpoint(name).unwrap_or_else(|error| panic!("{line}\n{error}"));
                }
            }
            _ => {}
        }
    }

    /// The commands of a Markdown page.
    fn commands(page: &str) -> Vec<String> {
        let blocks = page.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
        let joined = blocks.map(|block| block.replace("\\\n", " ")).collect::<String>();
        joined.lines().map(str::to_string).filter(|line| line.starts_with("elenchus ")).collect()
    }

    #[test]
    fn every_example_of_every_recipe_is_a_command_that_this_program_takes() {
        let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/recipes");
        for recipe in built_in_recipes().unwrap() {
            recipe.examples.iter().for_each(|line| check(line));
            let page = std::fs::read_to_string(pages.join(format!("{}.md", recipe.name))).unwrap();
            let shown = commands(&page);
            assert!(!shown.is_empty(), "the page of `{}` shows no command", recipe.name);
            shown.iter().for_each(|line| check(line));
        }
    }

    /// A line that the terminal breaks is no command that can be copied.
    #[test]
    fn what_help_says_below_the_options_fits_a_terminal() {
        fn check(command: &clap::Command, path: &str) {
            for line in command.get_after_help().map(ToString::to_string).unwrap_or_default().lines() {
                assert!(line.chars().count() <= 100, "{path}: {line}");
            }
            for inner in command.get_subcommands() {
                check(inner, &format!("{path} {}", inner.get_name()));
            }
        }
        check(&<Arguments as clap::CommandFactory>::command(), "elenchus");
    }

    /// Who builds the checkpoints as the recipe says has those that its reproduction needs.
    #[test]
    fn the_checkpoints_of_an_example_are_those_of_the_quick_size() {
        for recipe in built_in_recipes().unwrap() {
            let Some(experiment) = &recipe.reproduce else { continue };
            let Some(needed) = experiment.quick["seeds"].as_array() else { continue };
            for line in recipe.examples.iter().filter(|line| line.starts_with("elenchus lab build")) {
                let words = words(line);
                let built: Vec<&str> =
                    values(&words, &["--seeds"]).into_iter().flat_map(|s| s.split(',')).collect();
                let missing = needed.iter().find(|seed| !built.contains(&seed.to_string().as_str()));
                assert!(missing.is_none(), "`{}`: {line} leaves seed {missing:?} out", recipe.name);
            }
        }
    }
}
