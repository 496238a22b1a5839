//! One file per command.

pub mod improve;
pub mod pretrain;
pub mod resume;

use crate::arguments::{Arguments, Command};
use crate::failure::Failure;

/// Runs the command that was asked for.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let global = &arguments.global;
    match &arguments.command {
        Command::Improve(command) => improve::run(command, global),
        Command::Pretrain(command) => pretrain::run(command, global),
        Command::Resume(command) => resume::run(command, global),
    }
}
