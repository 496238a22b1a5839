//! `elenchus train`

use crate::arguments::Global;
use crate::failure::{Code, Failure};
use crate::progress::{Display, stop_on_interrupt};
use crate::{files, output};
use clap::Args;
use elenchus_learn::Observer;
use elenchus_learn::objective::{TrainingRow, objective};
use elenchus_learn::policy::{Policy, text_row};
use elenchus_learn::trainer::{Epochs, TrainSettings, train};
use elenchus_recipe::models;
use elenchus_remember::data::{PreferenceRow, PromptCompletionRow};
use std::ops::ControlFlow;
use std::path::PathBuf;

/// Train a checkpoint on rows in TRL's formats
#[derive(Debug, Args)]
#[command(
    after_help = "sft reads prompt-completion rows, dpo, ipo and orpo preference rows (docs/formats.md); JSON Lines or Parquet.

Examples:
  elenchus train rows.jsonl --out runs/sft/model
  elenchus train pairs.parquet --objective dpo --set beta=0.2 --train-set steps=200 --out runs/dpo/model"
)]
pub struct Train {
    /// Training rows
    file: PathBuf,
    /// Folder of the trained checkpoint
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// sft, dpo, ipo or orpo
    #[arg(long, default_value = "sft")]
    objective: String,
    /// Change a setting of the objective
    #[arg(long = "set", value_name = "NAME=VALUE")]
    settings: Vec<String>,
    /// Change a setting of the training
    #[arg(long = "train-set", value_name = "NAME=VALUE")]
    train_settings: Vec<String>,
    /// The checkpoint to start from
    #[arg(long, default_value = models::EMBEDDED)]
    model: String,
    /// Leave broken lines out and count them
    #[arg(long)]
    skip_bad_lines: bool,
}

/// Runs the command.
pub fn run(command: &Train, global: &Global) -> Result<(), Failure> {
    let mut values = serde_json::json!({});
    for setting in &command.settings {
        crate::settings::set(&mut values, setting)?;
    }
    let objective = objective(&command.objective, values)?;
    let mut whole = serde_json::json!(TrainSettings::default());
    for setting in &command.train_settings {
        crate::settings::set(&mut whole, setting)?;
    }
    let settings: TrainSettings = crate::settings::read("train", whole)?;
    let mut policy = models::load(&command.model)?.policy();
    let mut groups = groups(command, &policy)?;
    if objective.needs().reference {
        for group in &mut groups {
            let references = policy.logprobs(group)?;
            for (row, reference) in group.iter_mut().zip(references) {
                row.reference = reference;
            }
        }
    }
    let display = Display::new(0, 0, global.quiet);
    let stop = stop_on_interrupt();
    display.phase(0, &command.objective, settings.steps);
    let mut source = Epochs::new(&groups, settings.batch, global.seed)?;
    let outcome =
        train(&mut policy, objective.as_ref(), &settings, &mut source, 0..settings.steps, &mut |_, step| {
            display.advance(1, step.tokens, false);
            if stop.stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
    display.finish();
    // What was learned so far is worth keeping, also after Ctrl-C.
    policy.save(&command.out, true)?;
    let summary = outcome.map_err(|error| match error {
        elenchus_learn::LearnError::Interrupted => Failure::new(
            Code::Interrupted,
            format!("interrupted; the weights so far are in {}", command.out.display()),
            "start again from them with `--model`",
        ),
        other => other.into(),
    })?;
    if global.json {
        return output::json(
            &serde_json::json!({ "model": command.out, "rows": groups.len(), "summary": summary }),
        );
    }
    output::line(&format!(
        "{} steps on {} rows, loss of the last tenth {:.4}\nmodel   {}",
        summary.steps,
        groups.len(),
        summary.final_loss,
        command.out.display()
    ))
}

fn groups(command: &Train, policy: &dyn Policy) -> Result<Vec<Vec<TrainingRow>>, Failure> {
    let row = |prompt: String, response: String| -> Result<TrainingRow, Failure> {
        Ok(text_row(policy, &prompt, &response)?)
    };
    match command.objective.as_str() {
        "sft" => files::read::<PromptCompletionRow>(&command.file, command.skip_bad_lines)?
            .iter()
            .map(|r| Ok(vec![row(r.prompt.text(), r.completion.text())?]))
            .collect(),
        "dpo" | "ipo" | "orpo" => files::read::<PreferenceRow>(&command.file, command.skip_bad_lines)?
            .into_iter()
            .map(|r| {
                let r = r.with_explicit_prompt();
                let prompt = r.prompt.as_ref().map(|p| p.text()).unwrap_or_default();
                Ok(vec![row(prompt.clone(), r.chosen.text())?, row(prompt, r.rejected.text())?])
            })
            .collect(),
        other => Err(Failure::new(
            Code::Usage,
            format!("objective `{other}` needs more than rows of text"),
            "sft, dpo, ipo and orpo can be trained from files; the others belong to recipes",
        )),
    }
}
