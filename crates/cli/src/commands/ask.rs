//! `elenchus ask`

use crate::arguments::Global;
use crate::asking::{self, Asking, BudgetOptions, ModelOptions};
use crate::failure::Failure;
use crate::kept::{self, KeepOptions, KeptConfig};
use crate::output;
use crate::remarks;
use crate::trace_view;
use clap::Args;
use elenchus_generate::CancelToken;
use elenchus_remember::Run;
use elenchus_trace::{Answer, Problem};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Ask one question
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  elenchus ask 'g=50;e=g-1;d=e+81;d?'
  elenchus ask 'What is 12 * 7 + 5?' --strategy self-consistency --set samples=5 \\
      --endpoint http://localhost:11434/v1 --model qwen3:4b
  elenchus ask 'What is 12 * 7 + 5?' --strategy 'self-consistency then critique-and-refine' \\
      --set self-consistency.samples=3 --endpoint http://localhost:11434/v1 --model qwen3:4b")]
pub struct Ask {
    /// The question; the embedded model reads the compact notation of its own tasks
    question: String,
    /// A strategy, a recipe (`elenchus recipes`) or a recipe file, or several: `a then b`, `best of a, b by judge`, `a else b`
    #[arg(long, visible_alias = "recipe", default_value = "self-consistency")]
    strategy: String,
    /// Change a setting of the strategy; of several with the part in front, `self-consistency.samples=3`, or `by.` for
    /// those of the evaluator that chooses
    #[arg(long = "set", value_name = "NAME=VALUE")]
    settings: Vec<String>,
    /// Task whose rules extract and compare answers
    #[arg(long, default_value = "math")]
    task: String,
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    budget: BudgetOptions,
    #[command(flatten)]
    keep: KeepOptions,
}

/// Everything that determines an `ask` run.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AskConfig {
    question: String,
    strategy: String,
    settings: Vec<String>,
    task: String,
    pub asking: Asking,
}

/// Runs the command.
pub fn run(command: &Ask, global: &Global) -> Result<(), Failure> {
    let config = AskConfig {
        question: command.question.clone(),
        strategy: command.strategy.clone(),
        settings: command.settings.clone(),
        task: command.task.clone(),
        asking: Asking::new(
            &command.model,
            &command.budget,
            &asking::needs_of([(command.strategy.as_str(), command.settings.clone())])?,
            global,
        )?,
    };
    kept::run(&command.keep, &KeptConfig::Ask(config), global)
}

impl AskConfig {
    /// Asks, or goes on with a run.
    pub fn execute(&self, run: Option<&Run>, global: &Global) -> Result<(), Failure> {
        let task = elenchus_task::task(&self.task, &serde_json::Value::Null)?;
        let strategy = asking::named_strategy(&self.strategy, &self.settings)?;
        let cancel = CancelToken::new();
        let context = self.asking.context(cancel.clone(), run)?;
        let problem = Problem::new("question", task.name(), &self.question);
        let waiting = spinner(&self.strategy, global.quiet);
        let answer = asking::block_on(&cancel, run, async {
            Ok(strategy.run(&context, task.as_ref(), &problem).await?)
        });
        waiting.finish_and_clear();
        let answer = answer?;
        let result = serde_json::json!({
            "answer": answer.answer, "confidence": answer.confidence, "abstained": answer.abstained, "usage": answer.usage,
        });
        kept::record_result(run, &result)?;
        if global.json {
            return output::json(&answer);
        }
        print(&answer, global.quiet)?;
        if self.asking.is_embedded() && !global.quiet {
            anstream::eprintln!(
                "note: the embedded model knows small arithmetic in its own notation and reads no other text; another model \
                 answers with `--endpoint URL --model NAME`"
            );
        }
        Ok(())
    }
}

/// Says on a terminal that somebody is being waited for, and how long.
fn spinner(name: &str, quiet: bool) -> ProgressBar {
    if quiet {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner().with_prefix(name.to_string());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix}: asking, {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

fn print(answer: &Answer, quiet: bool) -> Result<(), Failure> {
    if !quiet {
        for line in trace_view::lines(&answer.trace) {
            anstream::eprintln!("{line}");
        }
        for note in remarks::of_trace(&answer.trace) {
            anstream::eprintln!("note: {note}");
        }
        anstream::eprintln!();
    }
    if let Some(reason) = &answer.abstained {
        anstream::eprintln!("no answer: {reason}");
    }
    output::line(answer.answer.as_deref().unwrap_or(&answer.text))?;
    if !quiet {
        let confidence =
            answer.confidence.map_or(String::new(), |c| format!("confidence {:.0} % (raw)  ", 100.0 * c));
        let u = answer.usage;
        let cost = output::money(u.money).map_or(String::new(), |money| format!("  cost {money}"));
        anstream::eprintln!(
            "{confidence}{} calls  {} tokens  {:.2} s of model time{cost}",
            u.calls,
            u.tokens(),
            u.seconds
        );
    }
    Ok(())
}
