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
  elenchus ask 'What is 12 * 7?' --recipe self-certainty --endpoint http://localhost:11434/v1 --model qwen3:4b
  elenchus compare --strategy single --strategy self-consistency --problems 200
  elenchus serve --upstream http://localhost:11434/v1
  elenchus reproduce self-certainty --quick

Results go to standard output, everything else to standard error. Exit codes: 0 done, 1 failed, 2 wrong command line,
3 wrong input file, 4 model or endpoint failed, 5 budget, 6 disk or run folder, 130 interrupted."
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
    /// What a strategy will cost, before anything is spent
    Estimate(commands::estimate::Estimate),
    /// Turn recorded outputs of others into our formats
    Import(commands::import::Import),
    /// Vote or select among recorded samples
    Select(commands::select::Select),
    /// Calibration and discrimination of recorded confidences
    Measure(commands::measure::Measure),
    /// Whether predicted answers mean the same as reference answers
    Verify(commands::verify::Verify),
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
