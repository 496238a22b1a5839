//! `elenchus pretrain`

use crate::arguments::Global;
use crate::failure::Failure;
use crate::output;
use crate::progress::{Display, stop_on_interrupt};
use clap::Args;
use elenchus_learn::Session;
use elenchus_learn::policy::Policy;
use elenchus_learn::pretrain::{PretrainSettings, pretrain};
use elenchus_learn::step_reward::train_step_reward;
use elenchus_recipe::models;
use elenchus_remember::Run;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Instant;

/// Make the embedded model again from nothing
#[derive(Debug, Args)]
#[command(
    after_help = "Trains the tiny transformer on generated problems, first on gold and corrupted solutions, then on
its own samples for the skills that look at solutions. The same seed gives the same weights on the
same machine.

Examples:
  elenchus pretrain --out runs/seedling
  elenchus pretrain --set base.steps=2000 --out runs/short"
)]
pub struct Pretrain {
    /// Folder of the run; the model is in its `model` folder
    #[arg(long, value_name = "DIR", default_value = "runs/pretrain")]
    out: PathBuf,
    /// Change a setting, `PATH=VALUE` with the value as JSON
    #[arg(long = "set", value_name = "PATH=VALUE")]
    settings: Vec<String>,
}

/// Everything that determines a `pretrain` run.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretrainConfig {
    settings: PretrainSettings,
    seed: u64,
}

/// Runs the command.
pub fn run(command: &Pretrain, global: &Global) -> Result<(), Failure> {
    let mut whole = serde_json::json!(PretrainSettings::default());
    for setting in &command.settings {
        crate::settings::set(&mut whole, setting)?;
    }
    let config = PretrainConfig { settings: crate::settings::read("pretrain", whole)?, seed: global.seed };
    let run = Run::create(&command.out, &super::improve::RunConfig::Pretrain(config.clone()))?;
    execute(&config, &run, global)
}

/// Runs, or goes on with, a `pretrain` run.
pub fn execute(config: &PretrainConfig, run: &Run, global: &Global) -> Result<(), Failure> {
    let begun = Instant::now();
    let mut policy = models::fresh(&config.settings.model, config.seed)?.policy();
    let display = Display::new(0, 0, global.quiet);
    let session = Session { run: Some(run), observer: &display, stop: stop_on_interrupt() };
    let outcome = pretrain(&mut policy, &config.settings, config.seed, &session);
    let folder = run.path().join("model");
    let outcome = outcome.and_then(|account| {
        policy.save(&folder, false)?;
        let task = elenchus_task::task("arithmetic", &serde_json::Value::Null)?;
        let (reward, quality) = train_step_reward(
            &mut policy,
            task.as_ref(),
            &config.settings.step_reward,
            config.seed,
            "steps",
            &session,
        )?;
        Ok((account, reward, quality))
    });
    display.finish();
    let saved = outcome.and_then(|(account, reward, quality)| {
        reward.save(&folder.join("step_reward"), false)?;
        Ok((account, quality))
    });
    let (account, quality) = saved.map_err(|error| Failure::from(error).in_run(run))?;
    let seconds = begun.elapsed().as_secs_f64();
    if global.json {
        return output::json(&serde_json::json!({
            "model": folder,
            "phases": account,
            "step_reward_auroc": quality,
            "seconds": seconds,
        }));
    }
    let millions = |tokens: usize| tokens as f64 / 1e6;
    output::line(&format!(
        "model   {}\ntokens  {:.1} million in the first phase, {:.1} million in the second\n\
         AUROC of the step reward model {quality:.3}\n{seconds:.0} seconds",
        folder.display(),
        millions(account.base.tokens),
        millions(account.skills.tokens),
    ))
}
