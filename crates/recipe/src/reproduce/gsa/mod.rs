//! Generative self-aggregation (arXiv 2503.04104): a new response in view of three drafts, against a vote, a choice and a
//! refinement with as many responses. Closed answers: arithmetic; open ones, where a vote finds hardly two that are equal:
//! programs with hidden tests, and Countdown.

mod arms;
mod reading;
mod report;
#[cfg(test)]
mod tests;

use self::arms::{Bench, Outcomes, common, extras};
use super::pool::{fit, mean_tokens};
use super::{Findings, Reproduce};
use crate::lab::program_writer::{self, PROGRAM_WRITER};
use crate::{RecipeError, models};
use elenchus_learn::NativePolicy;
use elenchus_learn::policy::Policy;
use elenchus_learn::rollouts::mix;
use elenchus_learn::trainer::TrainSettings;
use elenchus_task::{Split, Task};
use serde::Deserialize;
use serde_json::Value;

/// Settings of the experiment.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// Which questions all arms are measured on: `validation` while settings are chosen, else `test`.
    split: Split,
    /// Questions of the closed task.
    questions: usize,
    /// Questions of Countdown; 0 leaves it out.
    open_questions: usize,
    /// Temperature of the drafts.
    temperature: f32,
    /// Further temperatures of the drafts, for the closed task.
    temperatures: Vec<f32>,
    /// Numbers of drafts beside 1 and 3, for the closed task.
    counts: Vec<usize>,
    /// How the model learns to read drafts of arithmetic and Countdown.
    reading: Reading,
    /// Open answers that are programs.
    programs: Programs,
}

/// How a model learns to read drafts.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reading {
    /// Training questions of each task.
    questions: usize,
    /// Numbers of drafts that a row may have; each is as frequent.
    counts: Vec<usize>,
    /// Training of the model that reads drafts and of the one on questions alone; `batch` counts rows of the former.
    train: TrainSettings,
}

/// Settings of the part on programs.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Programs {
    /// Questions; 0 leaves this part out.
    questions: usize,
    /// Settings of the task.
    task: Value,
    /// Training seeds of the lab's `program-writer`, which learns to read drafts.
    writers: Vec<u64>,
    /// As on the other tasks.
    reading: Reading,
}

/// Drafts of the comparison; with the new response there are four.
const DRAFTS: usize = 3;
/// Responses that every arm of the comparison gets.
const RESPONSES: usize = DRAFTS + 1;
/// Samples drawn per question: the drafts, and those of the larger votes and sets.
const SAMPLES: usize = 8;
/// Tokens of one response at most, where it is no program.
const LENGTH: usize = 160;

const GSA: &str = "GSA (3 + 1)";
const VOTE: &str = "vote of 4";
const GREEDY: &str = "greedy (1 response)";
const ONE_DRAFT: &str = "one draft (1 response)";
const REWRITE: &str = "GSA (1 + 1)";
const CHOICE: &str = "choice of one of 3 (3 + 1)";
const REFINE: &str = "critique, refine, again (4)";
const COPIES: &str = "GSA, three copies of one draft";
const WRONG: &str = "GSA, drafts of another question";
const PLAIN: &str = "vote of 4, trained on questions alone";
const UNTUNED: &str = "GSA, as embedded";

/// The model that reads drafts, and the one trained on questions alone with as many steps of as many tokens.
struct Trained {
    reader: Box<dyn Policy>,
    solver: Box<dyn Policy>,
}

impl Trained {
    fn on(
        input: &Reproduce<'_>,
        start: &mut NativePolicy,
        tasks: &[&dyn Task],
        reading: &Reading,
        longest: usize,
        label: &str,
    ) -> Result<Self, RecipeError> {
        let [plain, with_drafts] = reading::rows(input, start, tasks, reading, longest, label)?;
        let batch = reading.train.batch;
        let plain_batch = (batch as f64 * mean_tokens(&with_drafts) / mean_tokens(&plain)).round() as usize;
        let train = |what: &str, rows, batch| fit(input, start, &reading.train, what, || Ok((rows, batch)));
        let name = label.replace('/', " ");
        Ok(Trained {
            reader: train(&format!("{name} drafts"), with_drafts, batch)?,
            solver: train(&format!("{name} plain"), plain, plain_batch)?,
        })
    }
}

/// Everything that was measured, by task.
#[derive(Default)]
struct Measured {
    arithmetic: Outcomes,
    countdown: Outcomes,
    programs: Outcomes,
}

/// Runs the experiment.
pub(super) fn run(input: &Reproduce<'_>) -> Result<Findings, RecipeError> {
    let settings: Settings = input.settings()?;
    let mut measured = Measured::default();
    for (m, name) in input.models.iter().enumerate() {
        closed_and_countdown(input, &settings, name, &m.to_string(), &mut measured)?;
        if settings.programs.questions > 0 {
            for &writer in &settings.programs.writers {
                let label = format!("programs/{m}/{writer}");
                programs(input, &settings, name, writer, label, &mut measured.programs)?;
            }
        }
    }
    report::findings(input, &settings, &measured)
}

/// One model on arithmetic and Countdown.
fn closed_and_countdown(
    input: &Reproduce<'_>,
    settings: &Settings,
    model: &str,
    label: &str,
    measured: &mut Measured,
) -> Result<(), RecipeError> {
    let closed = elenchus_task::task("arithmetic", &Value::Null)?;
    let open = elenchus_task::task("countdown", &Value::Null)?;
    let mut start = models::load(model)?.policy();
    let tasks = [closed.as_ref(), open.as_ref()];
    let mut trained = Trained::on(input, &mut start, &tasks, &settings.reading, LENGTH, label)?;
    let bench = |task, count, salt, what: &str| -> Result<Bench<'_>, RecipeError> {
        let task: &dyn Task = task;
        let problems = task.problems(settings.split, count, mix(input.seed, salt))?;
        Ok(Bench { input, task, problems, longest: LENGTH, label: format!("{label}/{what}") })
    };
    let arithmetic = bench(closed.as_ref(), settings.questions, 12, "closed")?;
    common(&arithmetic, &mut trained, settings.temperature, &mut measured.arithmetic)?;
    extras(&arithmetic, trained.reader.as_mut(), &mut start, settings, &mut measured.arithmetic)?;
    if settings.open_questions > 0 {
        let countdown = bench(open.as_ref(), settings.open_questions, 13, "open")?;
        common(&countdown, &mut trained, settings.temperature, &mut measured.countdown)?;
    }
    Ok(())
}

/// One writer of programs over one model.
fn programs(
    input: &Reproduce<'_>,
    settings: &Settings,
    model: &str,
    writer: u64,
    label: String,
    outcomes: &mut Outcomes,
) -> Result<(), RecipeError> {
    let Programs { questions, task, reading, .. } = &settings.programs;
    let task = elenchus_task::task("program", task)?;
    let mut start = input.lab_model(PROGRAM_WRITER, model, writer)?.load()?.policy();
    let longest = program_writer::LONGEST;
    let mut trained = Trained::on(input, &mut start, &[task.as_ref()], reading, longest, &label)?;
    let problems = task.problems(settings.split, *questions, mix(input.seed, 14))?;
    let bench = Bench { input, task: task.as_ref(), problems, longest, label };
    common(&bench, &mut trained, settings.temperature, outcomes)
}
