//! `elenchus resume`

use super::improve::RunConfig;
use crate::arguments::Global;
use crate::failure::Failure;
use crate::kept::{self, KeptConfig};
use clap::Args;
use elenchus_remember::Run;
use std::path::PathBuf;

/// Go on with a run that was interrupted
#[derive(Debug, Args)]
#[command(
    after_help = "Finished units of work come from the journal, the rest is done now; the result is the one that an
undisturbed run would have had. A finished run is only reported again. Runs of `improve`,
`reproduce`, `pretrain`, and of `ask`, `eval`, `compare`, `grid`, `audit`, `calibrate` and
`probe` with `--out`; without it, the folder that is named when such a command asks an endpoint
and does not end.

Example:
  elenchus resume runs/improve-1"
)]
pub struct Resume {
    /// Folder of the run
    run: PathBuf,
}

/// Runs the command.
pub fn run(command: &Resume, global: &Global) -> Result<(), Failure> {
    let run = Run::open(&command.run)?;
    let command = run.config_value()["command"].as_str().unwrap_or_default();
    if KeptConfig::COMMANDS.contains(&command) {
        return kept::resume(run, global);
    }
    match run.config()? {
        RunConfig::Improve(config) => super::improve::execute(&config, &run, global),
        RunConfig::Reproduce(config) => super::reproduce::execute(&config, &run, global),
        RunConfig::Pretrain(config) => super::pretrain::execute(&config, &run, global),
    }
}
