//! The `elenchus` command: reads the command line, joins the crates, prints. No logic lives here.

mod arguments;
mod asking;
mod commands;
mod consistency;
mod correction;
mod course;
mod critiques;
#[cfg(test)]
mod documents;
mod exchanges;
mod failure;
mod files;
mod friction;
mod judgements;
mod kept;
mod loops;
mod output;
mod paired;
mod progress;
mod remarks;
mod roles;
mod settings;
mod trace_view;

use arguments::Arguments;
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Programs are run in processes of this executable; does not return in those.
    elenchus_task::program::serve_when_asked();
    let arguments = Arguments::try_parse().unwrap_or_else(|error| usage(&error));
    match commands::run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            anstream::eprintln!("error: {failure}");
            ExitCode::from(failure.code as u8)
        }
    }
}

/// Prints what the parser of the command line says: help and version as they are, mistakes with a hint.
fn usage(error: &clap::Error) -> ! {
    if error.use_stderr() {
        // It repeats what was typed.
        let said = elenchus_generate::hide_users(&error.render().ansi().to_string());
        anstream::eprint!("{said}");
        anstream::eprintln!("hint: `--help` behind a command shows its options with an example");
        std::process::exit(error.exit_code());
    }
    error.exit()
}
