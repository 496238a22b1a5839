//! `elenchus train`

use crate::arguments::Global;
use crate::failure::{Code, Failure};
use crate::progress::{Display, stop_on_interrupt};
use crate::{files, output};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use elenchus_generate::ChatTemplate;
use elenchus_learn::Observer;
use elenchus_learn::objective::{TrainingRow, objective};
use elenchus_learn::policy::{Policy, text_row};
use elenchus_learn::trainer::{Epochs, TrainSettings, train};
use elenchus_recipe::models;
use elenchus_remember::RememberError;
use elenchus_remember::data::{self, Keep, PreferenceRow, PromptCompletionRow, TraceRows, Turns};
use elenchus_trace::Trace;
use std::ops::ControlFlow;
use std::path::PathBuf;

/// Train a checkpoint on rows in TRL's formats
#[derive(Debug, Args)]
#[command(
    after_help = "sft reads prompt-completion rows, dpo, ipo and orpo preference rows (docs/formats.md); JSON Lines
or Parquet. Rows of messages are written as the checkpoint's chat template wants them. A file of
traces (`elenchus eval --traces`) is turned into rows: what was right, against what was wrong.

Examples:
  elenchus train traces.jsonl --out runs/mine/model
  elenchus train rows.jsonl --out runs/sft/model
  elenchus train pairs.parquet --objective dpo --set beta=0.2 --train-set steps=200 \\
      --out runs/dpo/model"
)]
pub struct Train {
    /// Training rows, or traces
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
    /// Which completions of traces sft imitates: those judged `correct`, or those that the strategy `selected`
    #[arg(long, default_value = "correct", value_parser = keep_parser())]
    keep: Keep,
    /// Leave broken lines out and count them
    #[arg(long)]
    skip_bad_lines: bool,
}

fn keep_parser() -> impl TypedValueParser<Value = Keep> {
    PossibleValuesParser::new(["correct", "selected"]).map(|name| match name.as_str() {
        "selected" => Keep::Selected,
        _ => Keep::Correct,
    })
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
    let template = ChatTemplate::load(&models::folder(&command.model)?, &command.model)?;
    let writer = RowWriter { policy, template, model: &command.model };
    match command.objective.as_str() {
        "sft" => {
            let rows = rows::<PromptCompletionRow>(command, TraceRows::prompt_completion)?;
            let made = rows
                .iter()
                .enumerate()
                .map(|(index, row)| Ok(vec![writer.row(index, &row.prompt, &row.completion)?]));
            made.collect()
        }
        "dpo" | "ipo" | "orpo" => {
            let rows = rows::<PreferenceRow>(command, TraceRows::preference)?;
            let made = rows.into_iter().enumerate().map(|(index, row)| {
                let row = row.with_explicit_prompt();
                let prompt = row.prompt.unwrap_or(Turns::Text(String::new()));
                Ok(vec![writer.row(index, &prompt, &row.chosen)?, writer.row(index, &prompt, &row.rejected)?])
            });
            made.collect()
        }
        other => Err(Failure::new(
            Code::Usage,
            format!("objective `{other}` needs more than rows of text"),
            "sft, dpo, ipo and orpo can be trained from files; the others belong to recipes",
        )),
    }
}

/// The rows of the file, or those that `make` makes of its traces.
fn rows<T: data::TrainingRow>(
    command: &Train,
    make: fn(&TraceRows, &[Trace]) -> Result<Vec<T>, RememberError>,
) -> Result<Vec<T>, Failure> {
    let file = &command.file;
    if !files::holds_traces(file) {
        let rows = files::read::<T>(file, command.skip_bad_lines)?;
        data::check_rows(&rows)?;
        return Ok(rows);
    }
    let settings = TraceRows { keep: command.keep, ..Default::default() };
    let rows = make(&settings, &files::read_traces(file, command.skip_bad_lines)?)?;
    if rows.is_empty() {
        return Err(Failure::new(
            Code::Input,
            format!("`{}`: nothing in these traces makes a {} row", file.display(), T::FORMAT),
            "verdicts are written by `elenchus eval --traces`; preference needs right and wrong samples of one problem; \
             `--keep selected` takes what the strategy chose",
        ));
    }
    Ok(rows)
}

/// Writes rows as the model reads them.
struct RowWriter<'a> {
    policy: &'a dyn Policy,
    template: Option<ChatTemplate>,
    model: &'a str,
}

impl RowWriter<'_> {
    fn row(&self, index: usize, prompt: &Turns, completion: &Turns) -> Result<TrainingRow, Failure> {
        let refuse = |problem: String, hint: &str| {
            Err(Failure::new(Code::Input, format!("row {}: {problem}", index + 1), hint))
        };
        let (Turns::Messages(before), Turns::Messages(said)) = (prompt, completion) else {
            return Ok(text_row(self.policy, &prompt.text(), &completion.text())?);
        };
        let [reply] = said.as_slice() else {
            return refuse(
                format!("its completion has {} messages", said.len()),
                "write a row for each message of the assistant, with all that came before it as its prompt",
            );
        };
        let before = match (&self.template, before.as_slice()) {
            (Some(template), before) => template.render(before, self.model)?,
            (None, [only]) => only.text(),
            (None, several) => {
                return refuse(
                    format!(
                        "its prompt has {} messages, and `{}` has no chat template",
                        several.len(),
                        self.model
                    ),
                    "put `chat_template.jinja` into the folder of the model, or write prompts as text",
                );
            }
        };
        Ok(text_row(self.policy, &before, &reply.text())?)
    }
}
