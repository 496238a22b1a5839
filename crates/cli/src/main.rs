//! The `elenchus` command: reads the command line, joins the crates, prints. No logic lives here.

mod arguments;
mod asking;
mod commands;
mod failure;
mod files;
mod kept;
mod output;
mod progress;
mod settings;

use arguments::Arguments;
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match commands::run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            anstream::eprintln!("error: {failure}");
            ExitCode::from(failure.code as u8)
        }
    }
}
