//! `elenchus eval` and `elenchus compare`

use crate::arguments::{Global, split_parser};
use crate::asking::{self, Asking, BudgetOptions, ModelOptions};
use crate::correction::Correction;
use crate::failure::{Code, Failure};
use crate::kept::{self, KeepOptions, KeptConfig};
use crate::output;
use crate::trace_view;
use clap::Args;
use elenchus_control::AttemptLog;
use elenchus_generate::CancelToken;
use elenchus_measure::{Bootstrap, Comparison, Dialogue, Interval, accuracy, compare, holm};
use elenchus_remember::Run;
use elenchus_task::choice::{self, Choice, ChoiceSettings};
use elenchus_task::disputed::{self, Disputed, DisputedSettings};
use elenchus_task::evidence::{self, Evidence, EvidenceSettings};
use elenchus_task::math::MathTask;
use elenchus_task::program::{self, ProgramSettings, ProgramTask};
use elenchus_task::sql::{self, Sql, SqlSettings};
use elenchus_task::{Split, Task};
use elenchus_trace::{Answer, Problem, Usage};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Which problems.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProblemOptions {
    /// Task (`elenchus tasks`)
    #[arg(long, default_value = "arithmetic")]
    pub task: String,
    /// Change a setting of the task
    #[arg(long = "task-set", value_name = "NAME=VALUE")]
    pub task_settings: Vec<String>,
    /// Problems from a JSON Lines file instead of a generated task: GSM8K, MATH and kin; with `--task program` HumanEval
    /// or MBPP, with `--task choice` lettered questions, with `--task sql` Spider's, with `--task disputed` the items of an
    /// audit, with `--task evidence` questions about images, videos, passages
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The part of a generated task's problems; choose settings on `validation`, measure once on `test`
    #[arg(long, default_value = "test", value_parser = split_parser(), conflicts_with = "file")]
    pub split: Split,
    /// How many problems
    #[arg(long, default_value_t = 200)]
    pub problems: usize,
    /// Problems at once
    #[arg(long, default_value_t = 16)]
    pub at_once: usize,
}

impl ProblemOptions {
    /// The task and its problems.
    pub fn load(&self, seed: u64) -> Result<(Box<dyn Task>, Vec<Problem>), Failure> {
        let mut settings = serde_json::json!({});
        for setting in &self.task_settings {
            crate::settings::set(&mut settings, setting)?;
        }
        if let Some(file) = &self.file {
            return self.open_file(file, settings);
        }
        let task = elenchus_task::task(&self.task, &settings)?;
        let problems = task.problems(self.split, self.problems, seed)?;
        Ok((task, problems))
    }

    /// The first rows of a file, as problems of the task that was named.
    fn open_file(
        &self,
        file: &Path,
        mut settings: serde_json::Value,
    ) -> Result<(Box<dyn Task>, Vec<Problem>), Failure> {
        fn input(error: impl std::fmt::Display) -> Failure {
            Failure { code: Code::Input, message: error.to_string() }
        }
        settings["path"] = serde_json::json!(file);
        let first = |rows: &[Problem]| rows.iter().take(self.problems).cloned().collect();
        match self.task.as_str() {
            program::TASK => {
                let task = ProgramTask::open(ProgramSettings::from_value(&settings)?).map_err(input)?;
                let problems = first(task.all());
                Ok((Box::new(task), problems))
            }
            choice::TASK => {
                let task = Choice::open(&ChoiceSettings::from_value(&settings)?).map_err(input)?;
                let problems = first(&task.rows().problems);
                Ok((Box::new(task), problems))
            }
            sql::TASK => {
                let task = Sql::open(SqlSettings::from_value(&settings)?).map_err(input)?;
                let problems = first(task.all());
                Ok((Box::new(task), problems))
            }
            disputed::TASK => {
                let task = Disputed::open(&DisputedSettings::from_value(&settings)?).map_err(input)?;
                let problems = first(task.all());
                Ok((Box::new(task), problems))
            }
            evidence::TASK => {
                let task = Evidence::open(EvidenceSettings::from_value(&settings)?).map_err(input)?;
                let problems = first(&task.rows());
                Ok((Box::new(task), problems))
            }
            _ => {
                let task = MathTask::from_path(file).map_err(input)?;
                let problems = first(task.all());
                Ok((Box::new(task), problems))
            }
        }
    }
}

/// Measure one strategy on a task
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  elenchus eval --strategy self-consistency --set samples=8 --problems 500
  elenchus eval --file gsm8k.jsonl --endpoint http://localhost:8000/v1 --model qwen2.5-7b --max-total-tokens 500000
  elenchus eval --strategy 'best of self-consistency, gsa by judge' --set by.reading=sample --file gsm8k.jsonl \\
      --endpoint http://localhost:8000/v1 --model qwen2.5-7b --role judge=qwen2.5-32b@http://localhost:8001/v1")]
pub struct Eval {
    /// A strategy, a recipe or a recipe file, or several: `a then b`, `best of a, b by judge`, `a else b`
    #[arg(long, visible_alias = "recipe", default_value = "single")]
    strategy: String,
    /// Change a setting of the strategy; of several with the part in front, `self-consistency.samples=3`, or `by.` for
    /// those of the evaluator that chooses
    #[arg(long = "set", value_name = "NAME=VALUE")]
    settings: Vec<String>,
    /// Write every trace to this file (JSON Lines)
    #[arg(long, value_name = "FILE")]
    traces: Option<PathBuf>,
    #[command(flatten)]
    problems: ProblemOptions,
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    budget: BudgetOptions,
    #[command(flatten)]
    keep: KeepOptions,
}

/// Two or more strategies on the same problems, with paired differences
#[derive(Debug, Args)]
#[command(
    after_help = "Each strategy gets the same token budget when `--max-total-tokens` is given; else what each spent stands
beside its result. The first strategy is the baseline.

Examples:
  elenchus compare --strategy single --strategy self-consistency --strategy self-certainty --problems 300
  elenchus compare --strategy self-consistency:samples=8 --problems 300 \\
      --strategy 'self-consistency then critique-and-refine:critique-and-refine.rounds=1'"
)]
pub struct Compare {
    /// A strategy, a recipe or a recipe file, with settings behind a colon: `self-consistency:samples=8,temperature=0.8`;
    /// or several as one: `a then b`, `best of a, b by judge`, `a else b`, settings with the part in front
    #[arg(long, visible_alias = "recipe", required = true, num_args = 1)]
    strategy: Vec<String>,
    #[command(flatten)]
    problems: ProblemOptions,
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    budget: BudgetOptions,
    #[command(flatten)]
    keep: KeepOptions,
}

/// What one strategy achieved.
#[derive(Debug, Serialize)]
pub(crate) struct Measured {
    strategy: String,
    problems: usize,
    accuracy: Interval,
    abstained: usize,
    usage: Usage,
    /// For strategies that try more than once: what the later attempts made of the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    correction: Option<Correction>,
    /// What a server did that makes its samples worth less than they cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    remark: Option<String>,
    /// 1 for each problem that was solved, 0 for the others.
    #[serde(skip)]
    pub(crate) correct: Vec<f64>,
}

/// What the endpoint's layer noted of the replies, with how many problems it befell.
fn remark(answers: &[Answer]) -> Option<String> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for note in answers.iter().flat_map(|answer| trace_view::notes(&answer.trace)) {
        *counts.entry(note).or_default() += 1;
    }
    let told =
        counts.iter().map(|(note, count)| format!("{note} (on {count} of {} problems)", answers.len()));
    let told: Vec<String> = told.collect();
    (!told.is_empty()).then(|| told.join("; "))
}

/// What the later attempts made of the first, from the account in each trace; `None` when a strategy writes none.
fn correction(
    answers: &[Answer],
    correct: &[f64],
    task: &dyn Task,
    seed: u64,
) -> Result<Option<Correction>, Failure> {
    let mut dialogues = Vec::with_capacity(answers.len());
    for (answer, correct) in answers.iter().zip(correct) {
        let Some(log) = AttemptLog::of(&answer.trace) else { return Ok(None) };
        let Some(Dialogue { first, .. }) = log.dialogue(task, &answer.trace)? else { return Ok(None) };
        dialogues.push(Dialogue { first, second: *correct > 0.0 });
    }
    if dialogues.is_empty() { Ok(None) } else { Ok(Some(Correction::of(&dialogues, seed)?)) }
}

#[derive(Serialize)]
struct Compared {
    strategies: Vec<Measured>,
    comparisons: Vec<Comparison>,
    /// Holm-adjusted p-values of the comparisons, where each has one.
    adjusted_p: Vec<f64>,
}

/// Everything that determines an `eval` run.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvalConfig {
    strategy: String,
    settings: Vec<String>,
    traces: Option<PathBuf>,
    problems: ProblemOptions,
    asking: Asking,
}

/// Everything that determines a `compare` run.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompareConfig {
    strategies: Vec<String>,
    problems: ProblemOptions,
    asking: Asking,
}

pub(crate) struct Asked<'a> {
    pub(crate) at_once: usize,
    pub(crate) asking: &'a Asking,
    pub(crate) run: Option<&'a Run>,
}

/// A progress bar with a name in front.
pub fn bar(length: usize, name: &str, quiet: bool) -> ProgressBar {
    if quiet {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(length as u64).with_prefix(name.to_string());
    if let Ok(style) =
        ProgressStyle::with_template("{prefix:>24} {bar:32} {pos}/{len} {per_sec} {eta_precise} left")
    {
        bar.set_style(style);
    }
    bar
}

/// Answers all problems by a strategy and verifies the answers.
pub(crate) fn measure(
    asked: &Asked<'_>,
    task: &dyn Task,
    problems: &[Problem],
    name: &str,
    settings: &[String],
    global: &Global,
) -> Result<(Measured, Vec<Answer>), Failure> {
    let strategy = asking::named_strategy(name, settings)?;
    let cancel = CancelToken::new();
    let context = asked.asking.context(cancel.clone(), asked.run)?;
    let bar = bar(problems.len(), name, global.quiet);
    let answers = asking::block_on(&cancel, asked.run, async {
        asking::answer_all(&context, strategy.as_ref(), task, problems, asked.at_once.max(1), &bar).await
    });
    bar.finish_and_clear();
    let answers = answers?;
    let correct = problems
        .iter()
        .zip(&answers)
        .map(|(problem, answer)| Ok(f64::from(u8::from(task.verify(problem, &answer.text)?.is_correct()))))
        .collect::<Result<Vec<f64>, Failure>>()?;
    let correction = correction(&answers, &correct, task, asked.asking.seed)?;
    let measured = Measured {
        strategy: name.to_string(),
        problems: problems.len(),
        accuracy: accuracy(correct.iter().filter(|c| **c > 0.0).count(), problems.len())?,
        abstained: answers.iter().filter(|a| a.abstained.is_some()).count(),
        usage: answers.iter().map(|a| a.usage).sum(),
        correction,
        remark: remark(&answers),
        correct,
    };
    Ok((measured, answers))
}

fn row(m: &Measured) -> Vec<String> {
    let per = |n: f64| format!("{:.1}", n / m.problems.max(1) as f64);
    vec![
        m.strategy.clone(),
        output::percent(&m.accuracy),
        m.abstained.to_string(),
        per(m.usage.calls as f64),
        per(m.usage.tokens() as f64),
    ]
}

const HEADING: [&str; 5] = ["strategy", "accuracy", "abstained", "calls/problem", "tokens/problem"];

/// Runs `eval`.
pub fn run(command: &Eval, global: &Global) -> Result<(), Failure> {
    let config = EvalConfig {
        strategy: command.strategy.clone(),
        settings: command.settings.clone(),
        traces: command.traces.clone(),
        problems: command.problems.clone(),
        asking: Asking::new(
            &command.model,
            &command.budget,
            &asking::needs_of([(command.strategy.as_str(), command.settings.clone())])?,
            global,
        )?,
    };
    kept::run(&command.keep, &KeptConfig::Eval(config), global)
}

impl EvalConfig {
    /// Measures, or goes on with a run.
    pub fn execute(&self, run: Option<&Run>, global: &Global) -> Result<(), Failure> {
        let (task, problems) = self.problems.load(self.asking.seed)?;
        let asked = Asked { at_once: self.problems.at_once, asking: &self.asking, run };
        let (measured, answers) =
            measure(&asked, task.as_ref(), &problems, &self.strategy, &self.settings, global)?;
        kept::record_result(run, &measured)?;
        if let Some(file) = &self.traces {
            elenchus_remember::data::write_jsonl(file, answers.iter().map(|a| &a.trace))?;
        }
        if global.json {
            return output::json(&measured);
        }
        let heading = HEADING.map(String::from).to_vec();
        output::line(output::table(&[heading, row(&measured)]).trim_end())?;
        measured.remark.iter().try_for_each(|remark| output::line(&format!("note: {remark}")))?;
        measured.correction.iter().try_for_each(|correction| output::line(&correction.line()))
    }
}

/// `NAME:SETTING=VALUE,…` in its parts.
fn with_settings(spelled: &str) -> (&str, Vec<String>) {
    let (name, settings) = spelled.split_once(':').unwrap_or((spelled, ""));
    (name, settings.split(',').filter(|one| !one.is_empty()).map(String::from).collect())
}

/// Runs `compare`.
pub fn run_compare(command: &Compare, global: &Global) -> Result<(), Failure> {
    if command.strategy.len() < 2 {
        return Err(Failure::new(
            Code::Usage,
            "one strategy cannot be compared",
            "give `--strategy` twice or more",
        ));
    }
    let config = CompareConfig {
        strategies: command.strategy.clone(),
        problems: command.problems.clone(),
        asking: Asking::new(
            &command.model,
            &command.budget,
            &asking::needs_of(command.strategy.iter().map(|spelled| with_settings(spelled)))?,
            global,
        )?,
    };
    kept::run(&command.keep, &KeptConfig::Compare(config), global)
}

impl CompareConfig {
    /// Compares, or goes on with a run.
    pub fn execute(&self, run: Option<&Run>, global: &Global) -> Result<(), Failure> {
        let (task, problems) = self.problems.load(self.asking.seed)?;
        let asked = Asked { at_once: self.problems.at_once, asking: &self.asking, run };
        let mut strategies = Vec::new();
        for spelled in &self.strategies {
            let (name, settings) = with_settings(spelled);
            let (mut measured, _) = measure(&asked, task.as_ref(), &problems, name, &settings, global)?;
            measured.strategy.clone_from(spelled);
            strategies.push(measured);
        }
        let bootstrap = Bootstrap::default().seed(self.asking.seed);
        let comparisons = strategies[1..]
            .iter()
            .map(|m| {
                Ok(compare(
                    &m.strategy,
                    &m.correct,
                    &strategies[0].strategy,
                    &strategies[0].correct,
                    &bootstrap,
                )?)
            })
            .collect::<Result<Vec<_>, Failure>>()?;
        let p_values: Vec<f64> =
            comparisons.iter().filter_map(|c| c.mcnemar.as_ref().map(|m| m.p_value)).collect();
        let adjusted_p = if p_values.is_empty() { Vec::new() } else { holm(&p_values)? };
        let compared = Compared { strategies, comparisons, adjusted_p };
        kept::record_result(run, &compared)?;
        if global.json {
            return output::json(&compared);
        }
        let Compared { strategies, comparisons, adjusted_p } = compared;
        let mut rows = vec![HEADING.map(String::from).to_vec()];
        rows.extend(strategies.iter().map(row));
        output::line(&output::table(&rows))?;
        for m in &strategies {
            if let Some(remark) = &m.remark {
                output::line(&format!("{}: note: {remark}", m.strategy))?;
            }
            if let Some(correction) = &m.correction {
                output::line(&format!("{}: {}", m.strategy, correction.line()))?;
            }
        }
        for (index, comparison) in comparisons.iter().enumerate() {
            let p = adjusted_p
                .get(index)
                .map_or(String::new(), |p| format!(" (McNemar p = {p:.4}, Holm-adjusted)"));
            output::line(&format!("{}{p}", comparison.sentence))?;
            let (a, b) = (strategies[index + 1].usage.tokens(), strategies[0].usage.tokens());
            output::line(&format!(
                "  tokens: {a} against {b}{}",
                if a.abs_diff(b) * 20 > a.max(b) { ", not an equal budget" } else { ", an equal budget" }
            ))?;
        }
        Ok(())
    }
}
