//! One file per command.

pub mod ask;
pub mod audit;
pub mod calibrate;
pub mod compare;
pub mod estimate;
pub mod eval;
pub mod grid;
pub mod import;
pub mod improve;
pub mod keys;
pub mod lab;
pub mod lists;
pub mod measure;
pub mod pretrain;
pub mod probe;
pub mod reproduce;
pub mod resume;
pub mod select;
pub mod serve;
pub mod train;
pub mod verify;

use crate::arguments::{Arguments, Command};
use crate::failure::Failure;

/// Runs the command that was asked for.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let global = &arguments.global;
    match &arguments.command {
        Command::Improve(command) => improve::run(command, global),
        Command::Ask(command) => ask::run(command, global),
        Command::Eval(command) => eval::run(command, global),
        Command::Compare(command) => compare::run(command, global),
        Command::Grid(command) => grid::run(command, global),
        Command::Audit(command) => audit::run(command, global),
        Command::Estimate(command) => estimate::run(command, global),
        Command::Import(command) => import::run(command, global),
        Command::Select(command) => select::run(command, global),
        Command::Measure(command) => measure::run(command, global),
        Command::Verify(command) => verify::run(command, global),
        Command::Probe(command) => probe::run(command, global),
        Command::Pretrain(command) => pretrain::run(command, global),
        Command::Train(command) => train::run(command, global),
        Command::Reproduce(command) => reproduce::run(command, global),
        Command::Serve(command) => serve::run(command, global),
        Command::Calibrate(command) => calibrate::run(command, global),
        Command::Keys(command) => keys::run(command, global),
        Command::Lab(command) => lab::run(command, global),
        Command::Resume(command) => resume::run(command, global),
        Command::Report(command) => lists::report(command, global),
        Command::Recipes(command) => lists::recipes(command, global),
        Command::Tasks(command) => lists::tasks(command, global),
        Command::Models(command) => lists::list_models(command, global),
        Command::Completions(command) => lists::completions(command),
    }
}
