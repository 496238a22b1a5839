//! `elenchus eval`, and what it shares with the other commands that measure strategies.

use crate::arguments::{Global, split_parser};
use crate::asking::{self, Asking, BudgetOptions, ModelOptions};
use crate::consistency::ConsistencyFound;
use crate::course::Course;
use crate::exchanges::Exchanges;
use crate::failure::{Code, Failure};
use crate::judgements::Judged;
use crate::kept::{self, KeepOptions, KeptConfig};
use crate::output;
use crate::remarks;
use clap::Args;
use elenchus_control::posed_problem;
use elenchus_generate::{ACTOR, CancelToken};
use elenchus_measure::{Interval, accuracy};
use elenchus_remember::Run;
use elenchus_task::choice::{self, Choice, ChoiceSettings};
use elenchus_task::disputed::{self, Disputed, DisputedSettings};
use elenchus_task::evidence::{self, Evidence, EvidenceSettings};
use elenchus_task::math::{self, MathSettings, MathTask};
use elenchus_task::program::{self, ProgramSettings, ProgramTask};
use elenchus_task::sql::{self, Sql, SqlSettings};
use elenchus_task::{Split, Task};
use elenchus_trace::{Answer, Feedback, Node, NodeId, NodeKind, Problem, Trace, Usage, Verdict, nearest};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::HashMap;
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
    pub fn load(&self, asking: &Asking) -> Result<(Box<dyn Task>, Vec<Problem>), Failure> {
        let mut settings = serde_json::json!({});
        for setting in &self.task_settings {
            crate::settings::set(&mut settings, setting)?;
        }
        if let Some(file) = &self.file {
            let (task, problems, skipped) = self.open_file(file, settings, asking.skip_bad_lines())?;
            crate::files::tell_skipped(&skipped, file);
            if problems.is_empty() {
                return Err(Failure::new(
                    Code::Input,
                    format!(
                        "`{}` has no problems ({} broken lines were left out)",
                        file.display(),
                        skipped.len()
                    ),
                    "see docs/formats.md for what a row looks like",
                ));
            }
            return Ok((task, problems));
        }
        let task = elenchus_task::task(&self.task, &settings)?;
        let problems = task.problems(self.split, self.problems, asking.seed)?;
        Ok((task, problems))
    }

    /// The first rows of a file, as problems of the task that was named, and which broken lines were left out.
    fn open_file(
        &self,
        file: &Path,
        mut settings: serde_json::Value,
        skip: bool,
    ) -> Result<(Box<dyn Task>, Vec<Problem>, Vec<usize>), Failure> {
        fn input(error: impl std::fmt::Display) -> Failure {
            Failure { code: Code::Input, message: error.to_string() }
        }
        settings["path"] = serde_json::json!(file);
        let first = |rows: &[Problem]| rows.iter().take(self.problems).cloned().collect();
        if skip {
            settings["skip_bad_lines"] = serde_json::json!(true);
        }
        Ok(match self.task.as_str() {
            program::TASK => {
                let task = ProgramTask::open(ProgramSettings::from_value(&settings)?).map_err(input)?;
                let (problems, skipped) = (first(task.all()), task.skipped().to_vec());
                (Box::new(task), problems, skipped)
            }
            choice::TASK => {
                let task = Choice::open(&ChoiceSettings::from_value(&settings)?).map_err(input)?;
                let (problems, skipped) = (first(&task.rows().problems), task.rows().skipped.clone());
                (Box::new(task), problems, skipped)
            }
            sql::TASK => {
                let task = Sql::open(SqlSettings::from_value(&settings)?).map_err(input)?;
                let (problems, skipped) = (first(task.all()), task.skipped().to_vec());
                (Box::new(task), problems, skipped)
            }
            disputed::TASK => {
                let task = Disputed::open(&DisputedSettings::from_value(&settings)?).map_err(input)?;
                let (problems, skipped) = (first(task.all()), task.skipped().to_vec());
                (Box::new(task), problems, skipped)
            }
            evidence::TASK => {
                let task = Evidence::open(EvidenceSettings::from_value(&settings)?).map_err(input)?;
                let (problems, skipped) = (first(&task.rows()), task.skipped().to_vec());
                (Box::new(task), problems, skipped)
            }
            // The default, which stands for: whatever the file holds.
            math::TASK | "arithmetic" => {
                let task = MathTask::open(&MathSettings::from_value(&settings)?).map_err(input)?;
                if crate::files::first_row_has(file, "choices") {
                    anstream::eprintln!(
                        "note: the rows have `choices`, which `--task choice` reads; so they are asked without them"
                    );
                }
                let (problems, skipped) = (first(task.all()), task.skipped().to_vec());
                (Box::new(task), problems, skipped)
            }
            other => {
                const WITH_FILES: [&str; 6] =
                    [math::TASK, program::TASK, choice::TASK, sql::TASK, disputed::TASK, evidence::TASK];
                return Err(Failure::new(
                    Code::Usage,
                    format!("the task `{other}` reads no file of problems"),
                    nearest(other, WITH_FILES),
                ));
            }
        })
    }
}

/// Measure one strategy on a task
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  elenchus eval --strategy self-consistency --set samples=8 --problems 500
  elenchus eval --file gsm8k.jsonl --endpoint http://localhost:8000/v1 --model qwen2.5-7b \\
      --max-total-tokens 500000
  elenchus eval --strategy 'best of self-consistency, gsa by judge' --set by.reading=sample \\
      --file gsm8k.jsonl \\
      --endpoint http://localhost:8000/v1 --model qwen2.5-7b \\
      --role judge=qwen2.5-32b@http://localhost:8001/v1")]
pub struct Eval {
    /// A strategy, a recipe or a recipe file, or several: `a then b`, `best of a, b by judge`, `a else b`
    #[arg(long, visible_alias = "recipe", default_value = "single")]
    strategy: String,
    /// Change a setting of the strategy; of several with the part in front, `self-consistency.samples=3`, or `by.` for
    /// those of the evaluator that chooses
    #[arg(long = "set", value_name = "NAME=VALUE")]
    settings: Vec<String>,
    /// Write every trace to this file (JSON Lines), with verdicts: `--replay` and `train` read it
    #[arg(long, value_name = "FILE")]
    traces: Option<PathBuf>,
    /// Write the confidence of each answer, and whether it is right, to this file (JSON Lines): `measure` reads it
    #[arg(long, value_name = "FILE")]
    judgements: Option<PathBuf>,
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
    pub(crate) strategy: String,
    pub(crate) problems: usize,
    pub(crate) accuracy: Interval,
    pub(crate) abstained: usize,
    pub(crate) usage: Usage,
    /// Whether a bound ended it before all problems were answered.
    pub(crate) reached_bound: bool,
    /// For strategies that try more than once.
    #[serde(flatten)]
    pub(crate) course: Course,
    /// For strategies that let options change places between attempts: what the attempts kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) exchanges: Option<Exchanges>,
    /// For strategies that record how far the answers agree: what that says about being right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) consistency: Option<ConsistencyFound>,
    /// What went into the file of judgements.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) judgements: Option<Judged>,
    /// What a server did that makes its samples worth less than they cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) remark: Option<String>,
    /// 1 for each problem that was solved, 0 for the others.
    #[serde(skip)]
    pub(crate) correct: Vec<f64>,
}

/// Everything that determines an `eval` run.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvalConfig {
    strategy: String,
    settings: Vec<String>,
    traces: Option<PathBuf>,
    #[serde(default)]
    judgements: Option<PathBuf>,
    problems: ProblemOptions,
    pub asking: Asking,
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
    match answer(asked, task, problems, name, settings, global)? {
        (_, Some(failure)) => Err(asking::explained(failure, asked.run)),
        (answers, None) => {
            let correct = verify(task, problems, &answers)?;
            Ok((Measured::of(name, task, &answers, correct, asked.asking.seed)?, answers))
        }
    }
}

/// Answers to the first problems, as far as the budget goes, and the failure that ended them where one did.
pub(crate) fn answer(
    asked: &Asked<'_>,
    task: &dyn Task,
    problems: &[Problem],
    name: &str,
    settings: &[String],
    global: &Global,
) -> Result<(Vec<Answer>, Option<Failure>), Failure> {
    let strategy = asking::named_strategy(name, settings)?;
    let cancel = CancelToken::new();
    let context = asked.asking.context(cancel.clone(), asked.run)?;
    let bar = bar(problems.len(), name, global.quiet);
    let at_once = asked.at_once.max(1);
    let answers = asking::block_on(&cancel, asked.run, async {
        asking::answer_within_budget(&context, strategy.as_ref(), task, problems, at_once, &bar).await
    });
    bar.finish_and_clear();
    answers
}

/// 1 for each problem that was solved, 0 for the others.
pub(crate) fn verify(task: &dyn Task, problems: &[Problem], answers: &[Answer]) -> Result<Vec<f64>, Failure> {
    let pairs = problems.iter().zip(answers);
    pairs
        .map(|(problem, answer)| Ok(f64::from(u8::from(task.verify(problem, &answer.text)?.is_correct()))))
        .collect()
}

impl Measured {
    /// What answers to problems are worth; `correct` is 1 for each that is right.
    pub(crate) fn of(
        name: &str,
        task: &dyn Task,
        answers: &[Answer],
        correct: Vec<f64>,
        seed: u64,
    ) -> Result<Self, Failure> {
        if let Some(failure) = remarks::silent_role(answers) {
            return Err(failure);
        }
        Ok(Measured {
            strategy: name.to_string(),
            problems: answers.len(),
            accuracy: accuracy(correct.iter().filter(|c| **c > 0.0).count(), answers.len())?,
            abstained: answers.iter().filter(|a| a.abstained.is_some()).count(),
            usage: answers.iter().map(|a| a.usage).sum(),
            reached_bound: false,
            course: Course::of(answers, &correct, task, seed)?,
            exchanges: Exchanges::of(answers.iter().map(|answer| &answer.trace)),
            consistency: ConsistencyFound::of(answers, &correct, seed)?,
            judgements: None,
            remark: remarks::of_answers(answers),
            correct,
        })
    }
}

impl Measured {
    /// On how many problems, where fewer were there than asked for also that, and what they cost.
    pub(crate) fn size(&self, wanted: usize) -> String {
        let Measured { problems, reached_bound, usage, .. } = self;
        let all = match *problems < wanted && !reached_bound {
            true => format!(" (all there are; {wanted} were asked for)"),
            false => String::new(),
        };
        let cost = output::money(usage.money).map(|all| {
            let each = output::money(usage.money / (*problems).max(1) as f64).unwrap_or_default();
            format!("; cost {all}, {each} a problem")
        });
        format!("{problems} problems{all}{}", cost.unwrap_or_default())
    }
}

pub(crate) fn row(m: &Measured) -> Vec<String> {
    let per = |n: f64| format!("{:.1}", n / m.problems.max(1) as f64);
    vec![
        m.strategy.clone(),
        output::percent(&m.accuracy),
        m.abstained.to_string(),
        per(m.usage.calls as f64),
        per(m.usage.tokens() as f64),
    ]
}

pub(crate) const HEADING: [&str; 5] =
    ["strategy", "accuracy", "abstained", "calls/problem", "tokens/problem"];

/// The trace of an answer, with the task's verdict on everything that the actor wrote, by the problem as it was put to it:
/// `train` reads what is right.
pub(crate) fn judged(task: &dyn Task, problem: &Problem, answer: &Answer) -> Result<Trace, Failure> {
    let mut trace = answer.trace.clone();
    let written = trace.nodes.iter().enumerate().filter_map(|(index, node)| match &node.kind {
        NodeKind::Generated { role, completion, .. } if role == ACTOR => {
            Some((NodeId(index as u32), completion.text.clone(), node.started_ms + node.elapsed_ms))
        }
        _ => None,
    });
    let mut verdicts: HashMap<String, Verdict> = HashMap::new();
    for (of, text, started_ms) in written.collect::<Vec<_>>() {
        let moved = match posed_problem(&answer.trace, of) {
            Cow::Owned(posed) => Some(posed),
            Cow::Borrowed(_) => None,
        };
        let verdict = match (&moved, verdicts.get(&text).cloned()) {
            (Some(posed), _) => task.verify(posed, &text)?,
            (None, Some(verdict)) => verdict,
            (None, None) => {
                let verdict = task.verify(problem, &text)?;
                verdicts.insert(text, verdict.clone());
                verdict
            }
        };
        let feedback = Feedback { evaluator: VERIFIER.into(), verdict: Some(verdict), ..Default::default() };
        let kind = NodeKind::Evaluated { of, feedback: Box::new(feedback) };
        trace.push(Node { parent: Some(of), kind, started_ms, elapsed_ms: 0.0, usage: Usage::default() });
    }
    Ok(trace)
}

/// Who says in a written trace what is right.
const VERIFIER: &str = "verifier";

/// Runs `eval`.
pub fn run(command: &Eval, global: &Global) -> Result<(), Failure> {
    let config = EvalConfig {
        strategy: command.strategy.clone(),
        settings: command.settings.clone(),
        traces: command.traces.clone(),
        judgements: command.judgements.clone(),
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
        let (task, problems) = self.problems.load(&self.asking)?;
        let asked = Asked { at_once: self.problems.at_once, asking: &self.asking, run };
        let (mut answers, ended) =
            answer(&asked, task.as_ref(), &problems, &self.strategy, &self.settings, global)?;
        answers.truncate(self.asking.answered(&answers));
        if answers.is_empty() {
            return Err(asking::explained(
                ended.unwrap_or_else(|| asking::bound_reached(0, problems.len())),
                run,
            ));
        }
        let wanted = problems.len();
        let problems = &problems[..answers.len()];
        let correct = verify(task.as_ref(), problems, &answers)?;
        let mut measured = Measured::of(&self.strategy, task.as_ref(), &answers, correct, self.asking.seed)?;
        measured.reached_bound = answers.len() < wanted;
        kept::record_result(run, &measured)?;
        if let Some(file) = &self.traces {
            let pairs = answers.iter().zip(problems);
            let traces: Vec<Trace> = pairs
                .map(|(answer, problem)| judged(task.as_ref(), problem, answer))
                .collect::<Result<_, _>>()?;
            elenchus_remember::data::write_jsonl(file, &traces)?;
        }
        let mut written = Ok(());
        if let Some(file) = &self.judgements {
            let (judged, rows) = Judged::rows(problems, &answers, &measured.correct);
            written = judged.write(file, &rows);
            measured.judgements = Some(judged);
        }
        // What was measured is told also when the file cannot be written.
        match global.json {
            true => output::json(&measured)?,
            false => tell(&measured, self.problems.problems, wanted)?,
        }
        written?;
        // What was answered is told, and a script learns from the exit code that it is not all.
        match measured.reached_bound {
            false => Ok(()),
            true => {
                let answered = measured.problems;
                let ended = ended.unwrap_or_else(|| asking::bound_reached(answered, wanted));
                Err(asking::explained(ended, run))
            }
        }
    }
}

/// Prints what was measured; `asked` problems were wanted on the command line, and `there` there were.
fn tell(measured: &Measured, asked: usize, there: usize) -> Result<(), Failure> {
    let heading = HEADING.map(String::from).to_vec();
    output::line(output::table(&[heading, row(measured)]).trim_end())?;
    output::line(&measured.size(asked))?;
    if measured.reached_bound {
        output::line(&format!(
            "its bound was reached after {} of {there} problems; more with a larger bound",
            measured.problems
        ))?;
    }
    measured.remark.iter().try_for_each(|remark| output::line(&format!("note: {remark}")))?;
    measured.course.print()?;
    measured.exchanges.iter().try_for_each(|exchanges| output::line(&exchanges.line()))?;
    let consistency = measured.consistency.iter().flat_map(ConsistencyFound::lines);
    let judgements = measured.judgements.iter().filter_map(Judged::line);
    consistency.chain(judgements).try_for_each(|line| output::line(&line))
}
