//! `elenchus audit`

use crate::arguments::Global;
use crate::asking::{self, Asking, BudgetOptions, ModelOptions};
use crate::failure::{Code, Failure};
use crate::kept::{self, KeepOptions, KeptConfig};
use crate::output;
use clap::Args;
use clap::builder::PossibleValuesParser;
use elenchus_control::{
    AuditDialogue, AuditSettings, Draw, Gate, JudgeReport, JudgedDialogueSettings, RoundTable,
    RoundTableOutcome, RoundTableSettings, Silence, Strategy, dialogue_course, judge_item,
};
use elenchus_evaluate::harness::{Behaviour, Intent, Knowledge, Writer};
use elenchus_evaluate::{Evaluator, Judge, JudgeSettings, Needs};
use elenchus_generate::CancelToken;
use elenchus_measure::{Bootstrap, Course, Interval, Persuasion, TransitionCounts, persuasion};
use elenchus_remember::Run;
use elenchus_task::arithmetic::{self, dispute::Falsehood};
use elenchus_task::disputed::{Disputed, DisputedSettings};
use elenchus_task::{Split, Task};
use elenchus_trace::{Answer, Problem, Usage};
use futures::stream::{self, StreamExt};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::PathBuf;

/// How far a model can be talked out of right answers: judges of every intent and knowledge object to them
#[derive(Debug, Args)]
#[command(after_help = "ITEMS is a JSON Lines file, one item per line:
  {\"question\": \"…\", \"gold\": \"…\", \"aliases\": [\"…\"], \"alternative\": \"…\",
   \"evidence\": [{\"text\": \"…\", \"source\": \"…\"}], \"support\": [{\"text\": \"…\", \"source\": \"…\"}]}
`evidence` speaks for the alternative, `support` (for grounded constructive judges) for the
reference answer. Without ITEMS the problems are generated arithmetic. Objections are recorded
evidence and fixed words unless `--writer model`, so a run can be repeated offline. Some of these
judges say what is not true: their words stay in this test, labelled.

Examples:
  elenchus audit items.jsonl --endpoint http://localhost:8000/v1 --model qwen2.5-7b
  elenchus audit items.jsonl --intent malicious --gate none --gate recompute --rounds 4 \\
      --endpoint URL --model M
  elenchus audit --items 100 --intent malicious --table 5:1")]
pub struct Audit {
    /// Items with question, gold, alternative and evidence (JSON Lines)
    items: Option<PathBuf>,
    /// How many items
    #[arg(long = "items", default_value_t = 100, value_name = "N")]
    count: usize,
    /// Intents of the judge [default: all]
    #[arg(long, value_parser = PossibleValuesParser::new(Intent::ALL.map(Intent::name)))]
    intent: Vec<String>,
    /// What its objections rest on [default: all]
    #[arg(long, value_parser = PossibleValuesParser::new(Knowledge::ALL.map(Knowledge::name)))]
    knowledge: Vec<String>,
    /// Rounds of objection and reply
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// What stands between judge and generator; several are compared [default: none]
    #[arg(long, value_parser = PossibleValuesParser::new(Gate::ALL.map(Gate::name)))]
    gate: Vec<String>,
    /// Samples of a gate
    #[arg(long, default_value_t = 3)]
    gate_samples: usize,
    /// For the gate `confidence`: the mean log-probability below which objections pass
    #[arg(long, default_value_t = -0.05, allow_hyphen_values = true)]
    confidence: f64,
    /// Who writes the objections: fixed words, or the audited model itself
    #[arg(long, default_value = "scripted", value_parser = PossibleValuesParser::new(["scripted", "model"]))]
    writer: String,
    /// Ask the model to say so when the evidence conflicts or the question is ambiguous
    #[arg(long)]
    acknowledge: bool,
    /// Also a round table of AGENTS with DECEPTIVE ones among them, who speak as `--knowledge` says
    #[arg(long, value_name = "AGENTS:DECEPTIVE")]
    table: Vec<String>,
    /// Audit the model as a judge instead: agreement with the truth, preference for a label and for length, calibration
    #[arg(long, conflicts_with_all = ["intent", "knowledge", "gate", "table", "acknowledge", "traces"])]
    judge: bool,
    /// Temperature of the answers [default: 0]
    #[arg(long)]
    temperature: Option<f32>,
    /// Most tokens of one answer
    #[arg(long, default_value_t = 1024)]
    max_tokens: u32,
    /// Items at once
    #[arg(long, default_value_t = 16)]
    at_once: usize,
    /// Write every trace to this file (JSON Lines)
    #[arg(long, value_name = "FILE")]
    traces: Option<PathBuf>,
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    budget: BudgetOptions,
    #[command(flatten)]
    keep: KeepOptions,
}

/// Everything that determines an `audit` run.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditConfig {
    items: Option<PathBuf>,
    count: usize,
    cells: Vec<Behaviour>,
    rounds: usize,
    gates: Vec<Gate>,
    gate_samples: usize,
    confidence: f64,
    writer: Writer,
    acknowledge: bool,
    tables: Vec<(usize, usize)>,
    judge: bool,
    draw: Draw,
    at_once: usize,
    traces: Option<PathBuf>,
    pub asking: Asking,
}

/// One cell of the grid under one gate.
#[derive(Debug, Serialize)]
struct Found {
    intent: Intent,
    knowledge: Knowledge,
    gate: Gate,
    /// Rounds in which the judge gave no objection though it should have, or could not be read, with the first reason.
    silence: Silence,
    usage: Usage,
    #[serde(flatten)]
    measured: Persuasion,
}

/// A round table.
#[derive(Debug, Serialize)]
struct Seated {
    agents: usize,
    deceptive: usize,
    knowledge: Knowledge,
    /// Share right by the majority of the honest agents before the discussion, all honest.
    before: Interval,
    /// By the majority of all behind it.
    after: Interval,
    /// Share of honest agents that were right and then gave another answer.
    persuaded: Option<Interval>,
    usage: Usage,
}

#[derive(Debug, Serialize)]
struct Audited {
    items: usize,
    cells: Vec<Found>,
    tables: Vec<Seated>,
}

fn seats(spelled: &str) -> Result<(usize, usize), Failure> {
    let parts = spelled.split_once(':').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    parts.ok_or_else(|| {
        Failure::new(
            Code::Usage,
            format!("`{spelled}` is no round table"),
            "write AGENTS:DECEPTIVE, such as 5:1",
        )
    })
}

/// Runs `audit`.
pub fn run(command: &Audit, global: &Global) -> Result<(), Failure> {
    let named = |given: &[String], all: &[&'static str]| -> Vec<String> {
        if given.is_empty() { all.iter().map(|name| name.to_string()).collect() } else { given.to_vec() }
    };
    let intents = named(&command.intent, &Intent::ALL.map(Intent::name));
    let knowledges = named(&command.knowledge, &Knowledge::ALL.map(Knowledge::name));
    let cells: Vec<Behaviour> = intents
        .iter()
        .filter_map(|intent| Intent::from_name(intent))
        .flat_map(|intent| {
            let knowledges = knowledges.iter().filter_map(|name| Knowledge::from_name(name));
            knowledges.map(move |knowledge| Behaviour { intent, knowledge })
        })
        .collect();
    let gates: Vec<Gate> =
        named(&command.gate, &["none"]).iter().filter_map(|name| Gate::from_name(name)).collect();
    let writer = if command.writer == "model" { Writer::Model } else { Writer::Scripted };
    let needs = needs(command.judge, &cells, &gates, writer)?;
    let config = AuditConfig {
        items: command.items.clone(),
        count: command.count,
        cells,
        rounds: command.rounds,
        gates,
        gate_samples: command.gate_samples,
        confidence: command.confidence,
        writer,
        acknowledge: command.acknowledge,
        tables: command.table.iter().map(|spelled| seats(spelled)).collect::<Result<_, _>>()?,
        judge: command.judge,
        draw: Draw { temperature: command.temperature, max_tokens: command.max_tokens, ..Draw::default() },
        at_once: command.at_once,
        traces: command.traces.clone(),
        asking: Asking::new(&command.model, &command.budget, &needs, global)?,
    };
    kept::run(&command.keep, &KeptConfig::Audit(Box::new(config)), global)
}

/// What the dialogues of an audit need, or its judge.
fn needs(judge: bool, cells: &[Behaviour], gates: &[Gate], writer: Writer) -> Result<Needs, Failure> {
    if judge {
        return Ok(own_judge()?.needs());
    }
    let mut needs = Needs::default();
    for &gate in gates {
        for &behaviour in cells {
            let dialogue = JudgedDialogueSettings { gate, ..JudgedDialogueSettings::default() };
            let settings = AuditSettings { behaviour, writer, falsehood: Falsehood::Result, dialogue };
            needs = needs.and(AuditDialogue::new(settings)?.needs());
        }
    }
    Ok(needs)
}

fn own_judge() -> Result<Judge, Failure> {
    Judge::new(JudgeSettings::default())
        .map_err(|error| Failure { code: Code::Failed, message: error.to_string() })
}

fn bar(length: usize, name: &str, quiet: bool) -> ProgressBar {
    if quiet {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(length as u64).with_prefix(name.to_string());
    if let Ok(style) = ProgressStyle::with_template("{prefix:>40} {bar:32} {pos}/{len} {eta_precise} left") {
        bar.set_style(style);
    }
    bar
}

impl AuditConfig {
    fn load(&self) -> Result<(Box<dyn Task>, Vec<Problem>), Failure> {
        let Some(path) = &self.items else {
            let task = elenchus_task::task(arithmetic::TASK, &Value::Null)?;
            let problems = task.problems(Split::Test, self.count, self.asking.seed)?;
            return Ok((task, problems));
        };
        let settings = DisputedSettings {
            path: path.display().to_string(),
            skip_bad_lines: self.asking.skip_bad_lines(),
        };
        let task = Disputed::open(&settings)
            .map_err(|error| Failure { code: Code::Input, message: error.to_string() })?;
        crate::files::tell_skipped(task.skipped(), path);
        let problems = task.all().iter().take(self.count).cloned().collect();
        Ok((Box::new(task), problems))
    }

    fn answers(
        &self,
        task: &dyn Task,
        problems: &[Problem],
        strategy: &dyn Strategy,
        name: &str,
        run: Option<&Run>,
        global: &Global,
    ) -> Result<Vec<Answer>, Failure> {
        let cancel = CancelToken::new();
        let context = self.asking.context(cancel.clone(), run)?;
        let bar = bar(problems.len(), name, global.quiet);
        let answers = asking::block_on(&cancel, run, async {
            asking::answer_all(&context, strategy, task, problems, self.at_once.max(1), &bar).await
        });
        bar.finish_and_clear();
        answers
    }

    /// Audits, or goes on with a run.
    pub fn execute(&self, run: Option<&Run>, global: &Global) -> Result<(), Failure> {
        let (task, problems) = self.load()?;
        if self.judge {
            return self.audit_judge(task.as_ref(), &problems, run, global);
        }
        let bootstrap = Bootstrap::default().seed(self.asking.seed);
        let (mut cells, mut traces) = (Vec::new(), Vec::new());
        for &gate in &self.gates {
            for &behaviour in &self.cells {
                let strategy = AuditDialogue::new(AuditSettings {
                    behaviour,
                    writer: self.writer,
                    falsehood: Falsehood::Result,
                    dialogue: JudgedDialogueSettings {
                        rounds: self.rounds,
                        gate,
                        gate_samples: self.gate_samples,
                        confidence: self.confidence,
                        acknowledge: self.acknowledge,
                        draw: self.draw.clone(),
                        ..JudgedDialogueSettings::default()
                    },
                })?;
                let name = format!("{behaviour}, gate {}", gate.name());
                let answers = self.answers(task.as_ref(), &problems, &strategy, &name, run, global)?;
                let mut courses: Vec<Course> = Vec::with_capacity(answers.len());
                for answer in &answers {
                    courses.extend(dialogue_course(task.as_ref(), answer, self.rounds)?);
                }
                cells.push(Found {
                    intent: behaviour.intent,
                    knowledge: behaviour.knowledge,
                    gate,
                    silence: Silence::of(&answers),
                    usage: answers.iter().map(|answer| answer.usage).sum(),
                    measured: persuasion(&courses, &bootstrap)?,
                });
                if self.traces.is_some() {
                    traces.extend(answers.into_iter().map(|answer| answer.trace));
                }
            }
        }
        let mut tables = Vec::new();
        for &(agents, deceptive) in &self.tables {
            let mut knowledges: Vec<Knowledge> = self.cells.iter().map(|cell| cell.knowledge).collect();
            knowledges.sort_unstable();
            knowledges.dedup();
            for knowledge in knowledges {
                let (seated, answers) = self.seat(
                    (agents, deceptive, knowledge),
                    task.as_ref(),
                    &problems,
                    &bootstrap,
                    run,
                    global,
                )?;
                tables.push(seated);
                if self.traces.is_some() {
                    traces.extend(answers.into_iter().map(|answer| answer.trace));
                }
            }
        }
        let audited = Audited { items: problems.len(), cells, tables };
        kept::record_result(run, &audited)?;
        if let Some(file) = &self.traces {
            elenchus_remember::data::write_jsonl(file, traces.iter())?;
        }
        if global.json {
            return output::json(&audited);
        }
        print(&audited)
    }

    /// The model as a judge.
    fn audit_judge(
        &self,
        task: &dyn Task,
        problems: &[Problem],
        run: Option<&Run>,
        global: &Global,
    ) -> Result<(), Failure> {
        let judge = own_judge()?;
        let cancel = CancelToken::new();
        let context = self.asking.context(cancel.clone(), run)?;
        let bar = bar(problems.len(), "judge", global.quiet);
        let judged = asking::block_on(&cancel, run, async {
            let mut all = Vec::new();
            let mut asked =
                stream::iter(problems.iter().map(|problem| judge_item(&judge, &context, task, problem)))
                    .buffered(self.at_once.max(1));
            while let Some(found) = asked.next().await {
                all.extend(found?);
                bar.inc(1);
            }
            Ok(all)
        });
        bar.finish_and_clear();
        let report = JudgeReport::of(&judged?, &Bootstrap::default().seed(self.asking.seed))?;
        kept::record_result(run, &report)?;
        if global.json { output::json(&report) } else { print_judge(&report) }
    }

    fn seat(
        &self,
        (agents, deceptive, knowledge): (usize, usize, Knowledge),
        task: &dyn Task,
        problems: &[Problem],
        bootstrap: &Bootstrap,
        run: Option<&Run>,
        global: &Global,
    ) -> Result<(Seated, Vec<Answer>), Failure> {
        let strategy = RoundTable::new(RoundTableSettings {
            agents,
            deceptive,
            knowledge,
            writer: self.writer,
            falsehood: Falsehood::Result,
            draw: self.draw.clone(),
        })?;
        let name = format!("table {agents}:{deceptive}, {}", knowledge.name());
        let answers = self.answers(task, problems, &strategy, &name, run, global)?;
        let (mut before, mut after) = (Vec::new(), Vec::new());
        let (mut lost, mut right) = (Vec::new(), Vec::new());
        for (problem, answer) in problems.iter().zip(&answers) {
            let outcome = RoundTableOutcome::of(&answer.trace).unwrap_or_default();
            let same = |given: &str| {
                problem.gold.as_deref().is_some_and(|gold| task.equivalent(problem, given, gold))
            };
            let is_right = |given: &Option<String>| given.as_deref().is_some_and(same);
            let first = elenchus_control::round_table_vote(&outcome.before, &[], |a, b| {
                task.equivalent(problem, a, b)
            });
            let first = first.sample().and_then(|at| outcome.before.get(at));
            before.push(f64::from(u8::from(first.is_some_and(is_right))));
            after.push(f64::from(u8::from(is_right(&answer.answer))));
            let were: Vec<bool> = outcome.before.iter().map(is_right).collect();
            let turned = were.iter().zip(&outcome.after).filter(|(was, now)| **was && !is_right(now)).count();
            lost.push(turned as f64);
            right.push(were.iter().filter(|&&was| was).count() as f64);
        }
        let seated = Seated {
            agents,
            deceptive,
            knowledge,
            before: bootstrap.mean(&before)?,
            after: bootstrap.mean(&after)?,
            persuaded: bootstrap.ratio(&lost, &right)?,
            usage: answers.iter().map(|answer| answer.usage).sum(),
        };
        Ok((seated, answers))
    }
}

fn print(audited: &Audited) -> Result<(), Failure> {
    let share = |found: &Option<Interval>| found.as_ref().map_or("–".into(), output::percent);
    let table = |t: &TransitionCounts| format!("{} {} {} {}", t.kept, t.broken, t.repaired, t.missed);
    let heading = [
        "intent",
        "knowledge",
        "gate",
        "right before",
        "right after",
        "flip rate",
        "gain",
        "persuasion",
        "recovery",
        "oscillation",
        "acknowledged",
        "kept broken repaired missed",
        "calls",
        "tokens",
    ];
    let mut rows = vec![heading.map(String::from).to_vec()];
    for cell in &audited.cells {
        let m = &cell.measured;
        let last = m.accuracy.last().or(m.accuracy.first());
        rows.push(vec![
            cell.intent.name().into(),
            cell.knowledge.name().into(),
            cell.gate.name().into(),
            m.accuracy.first().map_or(String::new(), output::percent),
            last.map_or(String::new(), output::percent),
            share(&m.flip),
            share(&m.gain),
            share(&m.persuasion),
            share(&m.recovery),
            format!("{:.2}", m.oscillation.value),
            share(&m.acknowledgement),
            table(&m.transitions),
            cell.usage.calls.to_string(),
            cell.usage.tokens().to_string(),
        ]);
    }
    output::line(&format!(
        "{} items; flip rate, gain, persuasion and the 2×2 table are those of round 1",
        audited.items
    ))?;
    output::line(output::table(&rows).trim_end())?;
    for cell in audited.cells.iter().filter(|cell| cell.silence.count > 0) {
        output::line(&format!(
            "{}, {}: no objection {} times: {}",
            cell.intent.name(),
            cell.knowledge.name(),
            cell.silence.count,
            cell.silence.first.as_deref().unwrap_or("no reason given")
        ))?;
    }
    for cell in audited.cells.iter().filter(|cell| cell.silence.without_answer > 0) {
        output::line(&format!(
            "{}, {}: {} replies had no answer, the one before stands",
            cell.intent.name(),
            cell.knowledge.name(),
            cell.silence.without_answer
        ))?;
    }
    if audited.tables.is_empty() {
        return Ok(());
    }
    let heading =
        ["agents", "deceptive", "knowledge", "right before", "right after", "persuaded", "calls", "tokens"];
    let mut rows = vec![heading.map(String::from).to_vec()];
    for seated in &audited.tables {
        rows.push(vec![
            seated.agents.to_string(),
            seated.deceptive.to_string(),
            seated.knowledge.name().into(),
            output::percent(&seated.before),
            output::percent(&seated.after),
            share(&seated.persuaded),
            seated.usage.calls.to_string(),
            seated.usage.tokens().to_string(),
        ]);
    }
    output::line("")?;
    output::line(output::table(&rows).trim_end())
}

fn print_judge(report: &JudgeReport) -> Result<(), Failure> {
    let verdicts = &report.verdicts;
    let optional = |found: &Option<Interval>| found.as_ref().map_or("undefined".into(), output::percent);
    let calibration = &verdicts.calibration;
    let mut rows = vec![
        ("responses", verdicts.n.to_string()),
        ("abstained", verdicts.abstained.to_string()),
        ("called right", output::percent(&verdicts.says_right)),
        ("agreement", output::percent(&verdicts.agreement)),
        ("Cohen's kappa", kappa(&verdicts.kappa)),
        (
            "longer half, P(right)",
            verdicts.length_bias.map_or("not told".into(), |bias| format!("{bias:+.3}")),
        ),
        ("ECE, equal mass", format!("{:.4}", calibration.ece.equal_mass)),
        ("AUROC", calibration.auroc.map_or("undefined".into(), |auroc| format!("{auroc:.4}"))),
        ("undecided items", format!("{} of {}", report.undecided_items, report.items)),
    ];
    if let Some(labels) = &report.labels {
        rows.push(("prefers the first label", output::percent(&labels.first)));
        rows.push(("same in both orders", optional(&labels.consistent)));
    }
    rows.into_iter().try_for_each(|(name, value)| output::line(&format!("{name:<24} {value}")))?;
    let labels = report.labels.iter().flat_map(|labels| &labels.remarks);
    for remark in verdicts.remarks.iter().chain(labels) {
        output::line(&format!("the judge {remark}"))?;
    }
    report.first_abstention.iter().try_for_each(|reason| output::line(&format!("first abstention: {reason}")))
}

/// `0.400 [0.101, 0.650]`
pub fn kappa(found: &Option<Interval>) -> String {
    found.map_or("undefined".into(), |k| format!("{:.3} [{:.3}, {:.3}]", k.value, k.low, k.high))
}
