//! CyberV (arXiv 2506.07971) on streams of evidence that are partly unreadable at first: the score forest against a
//! majority, the second round with the segments that attention has lost against random, needed and no segments, at as
//! many forward tokens.

use super::asked::{Asked, mean, unit};
use super::{Findings, Reproduce, wider};
use crate::RecipeError;
use elenchus_control::{CyberVLog, EvidenceBy, Forest, Sensed, Signal, lost_attention, majority, strategy};
use elenchus_measure::{
    Axis, Bootstrap, Cell, Chart, Interval, Plot, Scale, Section, Series, Table, over_seeds,
};
use elenchus_task::evidence::Stream;
use elenchus_task::{Split, Task};
use elenchus_trace::{Answer, Problem};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Settings of the experiment.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The checkpoint of the lab that reads streams; `given` takes the given model itself.
    reader: String,
    /// Its seeds.
    seeds: Vec<u64>,
    /// Test questions.
    questions: usize,
    /// Validation questions on which θ is chosen.
    validation: usize,
    /// Responses N.
    samples: usize,
    /// Most responses of an arm without feedback.
    most: usize,
    /// Numbers of responses that are compared.
    counts: Vec<usize>,
    /// Candidates for θ, in order; 0 and 1 among them are the ends of the sweep.
    thresholds: Vec<f64>,
    /// Test questions on which segments are left out one by one; 0 leaves the arm out.
    left_out: usize,
    /// Settings of the task.
    task: Value,
    /// Settings of the strategy beside those that the arms differ in.
    strategy: Value,
}

/// What is kept of an answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Kept {
    /// The responses; attention as its sum over segments.
    sensed: Vec<Sensed>,
    shares: bool,
    written: Vec<u64>,
    read: [u64; 2],
    second: Option<String>,
    /// Tokens of the second round, each text read once, and of choosing its segments.
    second_tokens: u64,
    attention_tokens: u64,
    chosen: Vec<usize>,
    needed: Vec<usize>,
    segments: usize,
    /// Place of the needed segments in the order of lost attention, as a share: 0 first, 1 last.
    rank_of_needed: Option<f64>,
    gold: String,
}

fn keep(problem: &Problem, answer: &Answer) -> Result<Kept, RecipeError> {
    let log = CyberVLog::of(&answer.trace).unwrap_or_default();
    let stream = Stream::of(problem)?;
    let needed = stream.needed();
    let rank_of_needed = lost_attention(&log.sensed).map(|change| {
        let place = |segment: &usize| {
            change.iter().filter(|&&other| other < change[*segment]).count() as f64
                / (change.len().max(2) - 1) as f64
        };
        mean(&needed.iter().map(place).collect::<Vec<_>>())
    });
    let mut sensed = log.sensed;
    for one in &mut sensed {
        one.attention = one.attention.as_ref().map(|attention| vec![attention.iter().sum()]);
    }
    let second = log.second_usage.tokens().saturating_sub(log.reread[1]);
    Ok(Kept {
        sensed,
        shares: log.shares,
        written: log.written,
        read: log.read,
        second: log.second,
        second_tokens: second + log.ranking_usage.tokens(),
        attention_tokens: log.attention_usage.tokens(),
        chosen: log.ranked.map(|ranked| ranked.chosen).unwrap_or_default(),
        needed,
        segments: stream.segments.len(),
        rank_of_needed,
        gold: problem.gold.clone().unwrap_or_default(),
    })
}

fn same(left: &str, right: &str) -> bool {
    left == right
}

impl Kept {
    fn right(&self, answer: Option<&str>) -> f64 {
        unit(answer == Some(self.gold.as_str()))
    }

    fn forest(&self, count: usize, used: &[Signal]) -> Forest {
        Forest::of(&self.sensed[..count.min(self.sensed.len())], used, self.shares, same)
    }

    /// The forest's answer.
    fn best(&self, forest: &Forest) -> Option<&str> {
        self.sensed.get(forest.representative?)?.answer.as_deref()
    }

    fn majority(&self, count: usize) -> Option<&str> {
        let first = &self.sensed[..count.min(self.sensed.len())];
        let answers: Vec<Option<&str>> = first.iter().map(|one| one.answer.as_deref()).collect();
        majority(&answers, same).sample().and_then(|sample| answers[sample])
    }

    /// Forward tokens of the first `count` responses: both prompts once, and what was written.
    fn tokens(&self, count: usize) -> f64 {
        let read = if count > 1 { self.read[0] + self.read[1] } else { self.read[0] };
        (read + self.written.iter().take(count).sum::<u64>()) as f64
    }
}

/// How a loop decides.
#[derive(Clone, Copy)]
struct Decision<'a> {
    count: usize,
    threshold: f64,
    used: &'a [Signal],
    any: bool,
}

/// Answer and tokens of a loop whose second round is there for every question.
fn play<'k>(kept: &'k Kept, decision: Decision<'_>) -> (Option<&'k str>, f64, bool) {
    let forest = kept.forest(decision.count, decision.used);
    let first = kept.best(&forest);
    let tokens = kept.tokens(decision.count);
    if forest.accepts(decision.threshold) {
        return (first, tokens, false);
    }
    let known = |answer: &&str| {
        kept.sensed.iter().take(decision.count).any(|one| one.answer.as_deref() == Some(*answer))
    };
    let second = kept.second.as_deref().filter(|answer| decision.any || known(answer));
    (second.or(first), tokens + kept.second_tokens as f64, true)
}

/// The loops, by the way their segments are chosen.
const LOOPS: [(&str, EvidenceBy); 4] = [
    ("attention", EvidenceBy::Attention),
    ("random", EvidenceBy::Random),
    ("needed", EvidenceBy::Needed),
    ("nothing", EvidenceBy::Nothing),
];

/// Everything of one model on one set of questions.
struct Played {
    /// `most` responses, no second round.
    wide: Vec<Kept>,
    /// One for each of [`LOOPS`], always with a second round.
    loops: Vec<Vec<Kept>>,
    /// The same by leaving segments out, on the first questions.
    left_out: Vec<Kept>,
}

impl Settings {
    fn strategy(
        &self,
        samples: usize,
        threshold: f64,
        evidence: EvidenceBy,
    ) -> Result<std::sync::Arc<dyn elenchus_control::Strategy>, RecipeError> {
        let mut settings = self.strategy.clone();
        settings["samples"] = json!(samples);
        settings["threshold"] = json!(threshold);
        settings["evidence"] = json!(evidence);
        Ok(strategy("cyberv", settings)?)
    }
}

fn played(
    asked: &Asked<'_>,
    settings: &Settings,
    task: &dyn Task,
    problems: &[Problem],
    label: &str,
    loops: &[(&str, EvidenceBy)],
    left_out: usize,
) -> Result<Played, RecipeError> {
    let run = |what: &str, samples, threshold, by, problems: &[Problem]| {
        let strategy = settings.strategy(samples, threshold, by)?;
        let label = format!("{label}/{what}");
        asked.answers(&label, strategy.as_ref(), task, problems, |problem, answer| keep(problem, &answer))
    };
    let wide = run("wide", settings.most, 0.0, EvidenceBy::Auto, problems)?;
    let of = |(name, by): &(&str, EvidenceBy)| run(name, settings.samples, 1.0, *by, problems);
    let loops = loops.iter().map(of).collect::<Result<_, _>>()?;
    let few = &problems[..left_out.min(problems.len())];
    let left_out = match few.len() {
        0 => Vec::new(),
        _ => run("left out", settings.samples, 1.0, EvidenceBy::LeaveOneOut, few)?,
    };
    Ok(Played { wide, loops, left_out })
}

/// Accuracy of the loop with attention for each θ.
fn sweep(kept: &[Kept], settings: &Settings) -> Vec<f64> {
    let at = |&threshold: &f64| {
        let decision = Decision { count: settings.samples, threshold, used: &Signal::ALL, any: false };
        mean(&kept.iter().map(|kept| kept.right(play(kept, decision).0)).collect::<Vec<_>>())
    };
    settings.thresholds.iter().map(at).collect()
}

/// Rows by model seed: one value for each question.
type Rows = Vec<Vec<f64>>;

fn summary(rows: &Rows) -> Result<Interval, RecipeError> {
    Ok(wider(&over_seeds(rows, &Bootstrap::default())?))
}

fn difference(left: &Rows, right: &Rows) -> Rows {
    let one = |(left, right): (&Vec<f64>, &Vec<f64>)| left.iter().zip(right).map(|(l, r)| l - r).collect();
    left.iter().zip(right).map(one).collect()
}

/// An arm over all seeds.
#[derive(Default)]
struct Arm {
    right: Rows,
    tokens: Rows,
}

impl Arm {
    fn seed(&mut self, results: impl IntoIterator<Item = (f64, f64)>) {
        let (right, tokens) = results.into_iter().unzip();
        self.right.push(right);
        self.tokens.push(tokens);
    }
}

/// Mean over the questions of a selection, with those left out not counted: a ratio over questions.
fn selected(values: &[(f64, bool)]) -> Result<Option<Interval>, RecipeError> {
    let kept: Vec<f64> = values.iter().filter(|(_, chosen)| *chosen).map(|(value, _)| *value).collect();
    if kept.is_empty() { Ok(None) } else { Ok(Some(Bootstrap::default().mean(&kept)?)) }
}

/// Runs the experiment.
pub(super) fn run(input: &Reproduce<'_>) -> Result<Findings, RecipeError> {
    let settings: Settings = input.settings()?;
    let task = elenchus_task::task("evidence", &settings.task)?;
    let seed = elenchus_learn::rollouts::mix(input.seed, 47);
    let problems = task.problems(Split::Test, settings.questions, seed)?;
    let tuning = task.problems(Split::Validation, settings.validation, seed)?;
    let (mut all, mut thresholds, mut tuned) = (Vec::new(), Vec::new(), Vec::new());
    let given = input.models.first().map_or(crate::models::EMBEDDED, String::as_str);
    for &model_seed in &settings.seeds {
        let folder = match settings.reader.as_str() {
            "given" => given.to_string(),
            name => input.lab_model(name, given, model_seed)?.folder.display().to_string(),
        };
        let asked = Asked::remembering(input, &folder)?;
        let label = format!("cyberv/{model_seed}");
        let on_tuning = format!("{label}/validation");
        let attention = &LOOPS[..1];
        let found = played(&asked, &settings, task.as_ref(), &tuning, &on_tuning, attention, 0)?;
        let curve = sweep(&found.loops[0], &settings);
        let best = elenchus_control::heaviest(&curve).unwrap_or(0);
        thresholds.push(settings.thresholds.get(best).copied().unwrap_or(0.3));
        tuned.push(curve);
        all.push(played(&asked, &settings, task.as_ref(), &problems, &label, &LOOPS, settings.left_out)?);
    }
    report(&settings, &all, &thresholds, &tuned)
}

fn report(
    settings: &Settings,
    all: &[Played],
    thresholds: &[f64],
    tuned: &[Vec<f64>],
) -> Result<Findings, RecipeError> {
    let n = settings.samples;
    let mut findings = Findings::default();
    let arm = |name: &str, of: &dyn Fn(usize, &Played) -> Vec<(f64, f64)>| {
        let mut arm = Arm::default();
        all.iter().enumerate().for_each(|(seed, played)| arm.seed(of(seed, played)));
        (name.to_string(), arm)
    };
    let decide =
        |seed: usize| Decision { count: n, threshold: thresholds[seed], used: &Signal::ALL, any: false };
    let looped = |index: usize| {
        move |seed: usize, played: &Played| -> Vec<(f64, f64)> {
            let one = |kept: &Kept| {
                let (answer, tokens, _) = play(kept, decide(seed));
                (kept.right(answer), tokens)
            };
            played.loops[index].iter().map(one).collect()
        }
    };
    let forest_of = |count: usize| {
        move |_: usize, played: &Played| -> Vec<(f64, f64)> {
            let one =
                |kept: &Kept| (kept.right(kept.best(&kept.forest(count, &Signal::ALL))), kept.tokens(count));
            played.wide.iter().map(one).collect()
        }
    };
    let majority_of = |count: usize| {
        move |_: usize, played: &Played| -> Vec<(f64, f64)> {
            played.wide.iter().map(|kept| (kept.right(kept.majority(count)), kept.tokens(count))).collect()
        }
    };
    let direct = arm("direct", &|_, played| {
        let one = |kept: &Kept| {
            let answer = kept.sensed.first().and_then(|one| one.answer.as_deref());
            (kept.right(answer), kept.tokens(1))
        };
        played.wide.iter().map(one).collect()
    });
    let full = arm("full loop, by attention", &looped(0));
    let random = arm("loop, random segments", &looped(1));
    let needed = arm("loop, needed segments (upper line)", &looped(2));
    let nothing = arm("loop, told to think again", &looped(3));
    // As many responses as the loop's tokens buy, at least.
    let cost = mean(&full.1.tokens.concat());
    let wide_cost = |count: usize| {
        mean(&all.iter().flat_map(|played| &played.wide).map(|kept| kept.tokens(count)).collect::<Vec<_>>())
    };
    let equal = (n..=settings.most).find(|&count| wide_cost(count) >= cost).unwrap_or(settings.most);
    let majority_n = arm(&format!("majority of {n}"), &majority_of(n));
    let forest_n = arm(&format!("score forest of {n}"), &forest_of(n));
    let majority_equal = arm(&format!("majority of {equal}"), &majority_of(equal));
    let forest_equal = arm(&format!("score forest of {equal}"), &forest_of(equal));
    let arms =
        [&direct, &majority_n, &majority_equal, &forest_n, &forest_equal, &full, &random, &needed, &nothing];
    let mut table = Table::new("Arms", ["arm", "right", "forward tokens"]).note(format!(
        "N = {n}, θ = {thresholds:?} by model seed, chosen on validation questions. Tokens: every text that a method reads \
         or writes, once; the arms of {equal} responses cost at least as much as the full loop ({}). Looking inside is not \
         counted: {:.0} tokens a question here, where it takes a second pass.",
        if wide_cost(equal) >= cost { "they do" } else { "the most that was drawn; it still costs less" },
        mean(&all.iter().flat_map(|p| &p.loops[0]).map(|kept| kept.attention_tokens as f64).collect::<Vec<_>>())
    ));
    for (name, arm) in arms {
        table = table.row([
            Cell::Text(name.clone()),
            Cell::PercentInterval(summary(&arm.right)?),
            Cell::Number(mean(&arm.tokens.concat()), 0),
        ]);
    }
    findings.tables.push(table);
    let mut claim = |id: &str, left: &Rows, right: &Rows| -> Result<(), RecipeError> {
        findings.estimates.insert(id.into(), summary(&difference(left, right))?);
        Ok(())
    };
    claim("forest-over-majority", &forest_n.1.right, &majority_n.1.right)?;
    // Where the responses that were drawn cost less than the loop, budgets are not equal and nothing is told.
    if wide_cost(equal) >= cost {
        claim("loop-over-forest", &full.1.right, &forest_equal.1.right)?;
    }
    claim("attention-over-random", &full.1.right, &random.1.right)?;
    claim("evidence-over-reflection", &full.1.right, &nothing.1.right)?;
    claim("needed-over-forest", &needed.1.right, &forest_equal.1.right)?;
    // Ablations: a signal left out of scores, choice and trigger.
    let mut ablations =
        Table::new("Without a signal", ["left out", "full loop", "difference, points", "score forest"])
            .note("θ as chosen with all five.");
    let mut most_lost = f64::NEG_INFINITY;
    let mut lost = Interval::exact(0.0);
    for dropped in Signal::ALL {
        let used: Vec<Signal> = Signal::ALL.into_iter().filter(|&signal| signal != dropped).collect();
        let without = arm("", &|seed, played| {
            let one = |kept: &Kept| (kept.right(play(kept, Decision { used: &used, ..decide(seed) }).0), 0.0);
            played.loops[0].iter().map(one).collect()
        });
        let forest = arm("", &|_, played| {
            let one = |kept: &Kept| (kept.right(kept.best(&kept.forest(n, &used))), 0.0);
            played.wide.iter().map(one).collect()
        });
        let gain = summary(&difference(&full.1.right, &without.1.right))?;
        if gain.value > most_lost {
            (most_lost, lost) = (gain.value, gain);
        }
        ablations = ablations.row([
            Cell::Text(json!(dropped).as_str().unwrap_or_default().to_string()),
            Cell::PercentInterval(summary(&without.1.right)?),
            Cell::Points(gain),
            Cell::PercentInterval(summary(&forest.1.right)?),
        ]);
    }
    findings.estimates.insert(
        "no-signal-alone".into(),
        Interval { value: 0.02 - lost.value, low: 0.02 - lost.high, high: 0.02 - lost.low },
    );
    let any = arm("", &|seed, played| {
        let one = |kept: &Kept| (kept.right(play(kept, Decision { any: true, ..decide(seed) }).0), 0.0);
        played.loops[0].iter().map(one).collect()
    });
    ablations = ablations.row([
        Cell::Text("the filter on the second answer".into()),
        Cell::PercentInterval(summary(&any.1.right)?),
        Cell::Points(summary(&difference(&full.1.right, &any.1.right))?),
        Cell::Text("–".into()),
    ]);
    findings.tables.push(ablations);
    // N.
    let mut counts = Table::new("Number of responses", ["N", "majority", "score forest"]);
    let mut by_count = Vec::new();
    for &count in &settings.counts {
        let (majority, forest) = (arm("", &majority_of(count)).1, arm("", &forest_of(count)).1);
        counts = counts.row([
            Cell::Count(count as u64),
            Cell::PercentInterval(summary(&majority.right)?),
            Cell::PercentInterval(summary(&forest.right)?),
        ]);
        by_count.push(forest.right);
    }
    findings.tables.push(counts);
    if let (Some(fewest), Some(most)) = (by_count.first(), by_count.last()) {
        findings.estimates.insert("more-responses".into(), summary(&difference(most, fewest))?);
    }
    sweep_of(settings, all, tuned, &mut findings)?;
    triggers(all, &decide, &mut findings)?;
    evidence(settings, all, &decide, &mut findings)?;
    findings.notes.push(
        "Streams of tokens stand for video: no frames, no subtitles, no zoom. The paper's models and benchmarks were not run."
            .into(),
    );
    findings.notes.push(
        "Every loop was run with its second round on every question; θ, ablations and the filter are applied to these runs \
         afterwards, which changes nothing in what each arm sees and is charged for."
            .into(),
    );
    Ok(findings)
}

fn sweep_of(
    settings: &Settings,
    all: &[Played],
    tuned: &[Vec<f64>],
    findings: &mut Findings,
) -> Result<(), RecipeError> {
    let mut table = Table::new("Threshold θ", ["θ", "full loop, test", "corrected", "validation"])
        .note("θ is chosen on validation questions; the test column is shown and was not chosen by.");
    let mut rows_of = Vec::new();
    for (place, &threshold) in settings.thresholds.iter().enumerate() {
        let decision = Decision { count: settings.samples, threshold, used: &Signal::ALL, any: false };
        let (mut rows, mut triggered): (Rows, Vec<f64>) = (Vec::new(), Vec::new());
        for played in all {
            let results: Vec<_> = played.loops[0].iter().map(|kept| (kept, play(kept, decision))).collect();
            triggered.extend(results.iter().map(|(_, result)| unit(result.2)));
            rows.push(results.iter().map(|(kept, result)| kept.right(result.0)).collect());
        }
        table = table.row([
            Cell::Number(threshold, 2),
            Cell::PercentInterval(summary(&rows)?),
            Cell::Percent(mean(&triggered)),
            Cell::Percent(mean(&tuned.iter().map(|curve| curve[place]).collect::<Vec<_>>())),
        ]);
        rows_of.push((threshold, rows));
    }
    findings.tables.push(table);
    let value = |rows: &Rows| mean(&rows.concat());
    let (ends, inner): (Vec<_>, Vec<_>) =
        rows_of.iter().partition(|(threshold, _)| *threshold <= 0.0 || *threshold >= 1.0);
    let best = |of: &[&(f64, Rows)]| of.iter().map(|(_, rows)| value(rows)).reduce(f64::max);
    let top = |of: Vec<&(f64, Rows)>| {
        let most = best(&of)?;
        of.into_iter().find(|(_, rows)| value(rows) >= most).map(|(_, rows)| rows.clone())
    };
    if let (Some(ends), Some(inner)) = (top(ends), top(inner)) {
        findings.estimates.insert("inner-threshold".into(), summary(&difference(&inner, &ends))?);
    }
    let points = rows_of
        .iter()
        .map(|(threshold, rows)| (*threshold, Interval::exact(value(rows))))
        .collect::<Vec<_>>();
    findings.sections.push(Section::plots(
        "Accuracy by threshold",
        vec![Plot::new(
            "Accuracy by threshold",
            "0 never corrects, 1 always.",
            Chart::Line {
                x: Axis::new("θ", Scale::Number),
                y: Axis::new("right", Scale::Percent),
                series: vec![Series::new("full loop", points)],
            },
        )],
    ));
    Ok(())
}

/// How hard triggered questions are in the first round.
fn triggers<'a>(
    all: &[Played],
    decide: &dyn Fn(usize) -> Decision<'a>,
    findings: &mut Findings,
) -> Result<(), RecipeError> {
    let mut values = Vec::new();
    let mut after = Vec::new();
    for (seed, played) in all.iter().enumerate() {
        for kept in &played.loops[0] {
            let decision = decide(seed);
            let (answer, _, triggered) = play(kept, decision);
            let forest = kept.forest(decision.count, decision.used);
            values.push((kept.right(kept.best(&forest)), triggered));
            after.push((kept.right(answer), triggered));
        }
    }
    let turned =
        |values: &[(f64, bool)]| -> Vec<(f64, bool)> { values.iter().map(|(v, t)| (*v, !t)).collect() };
    let (hard, easy) = (selected(&values)?, selected(&turned(&values))?);
    let mut table =
        Table::new("Triggered and other questions", ["questions", "share", "first round", "full loop"]);
    let share = mean(&values.iter().map(|(_, triggered)| unit(*triggered)).collect::<Vec<_>>());
    let cell = |interval: Option<Interval>| interval.map_or(Cell::Text("–".into()), Cell::PercentInterval);
    table = table.row([
        Cell::Text("triggered".into()),
        Cell::Percent(share),
        cell(hard),
        cell(selected(&after)?),
    ]);
    table = table.row([
        Cell::Text("not triggered".into()),
        Cell::Percent(1.0 - share),
        cell(easy),
        cell(selected(&turned(&after))?),
    ]);
    findings.tables.push(table);
    if let (Some(hard), Some(easy)) = (hard, easy) {
        // Different questions on both sides: the ends of both intervals, which is on the careful side.
        let interval = Interval {
            value: easy.value - hard.value,
            low: easy.low - hard.high,
            high: easy.high - hard.low,
        };
        findings.estimates.insert("triggered-are-harder".into(), interval);
    }
    Ok(())
}

/// What share of the needed segments each ranking finds, and what the loop makes of it.
fn evidence<'a>(
    settings: &Settings,
    all: &[Played],
    decide: &dyn Fn(usize) -> Decision<'a>,
    findings: &mut Findings,
) -> Result<(), RecipeError> {
    let found = |kept: &Kept| {
        let hits = kept.needed.iter().filter(|needed| kept.chosen.contains(needed)).count();
        hits as f64 / kept.needed.len().max(1) as f64
    };
    let chance = |kept: &Kept| kept.chosen.len() as f64 / kept.segments.max(1) as f64;
    let mut table = Table::new(
        "Which segments are shown again",
        ["chosen by", "questions", "segments", "needed ones among them", "by chance", "full loop"],
    )
    .note(format!(
        "Over all questions, triggered or not. The order of lost attention puts the needed segments at {:.3} of the way \
         (0 first, 0.5 by chance, 1 last).",
        mean(&all.iter().flat_map(|p| &p.loops[0]).filter_map(|kept| kept.rank_of_needed).collect::<Vec<_>>())
    ));
    let left_out = |played: &Played| played.left_out.clone();
    let by_loop = |index: usize| move |played: &Played| played.loops[index].clone();
    let mut lines: Vec<(&str, Vec<Vec<Kept>>)> = vec![
        ("attention", all.iter().map(by_loop(0)).collect()),
        ("random", all.iter().map(by_loop(1)).collect()),
    ];
    if settings.left_out > 0 {
        lines.push(("leaving one out", all.iter().map(left_out).collect()));
    }
    for (name, kept) in &lines {
        let rows = |of: &dyn Fn(&Kept) -> f64| -> Rows {
            kept.iter().map(|kept| kept.iter().map(of).collect()).collect()
        };
        let right: Rows = kept
            .iter()
            .enumerate()
            .map(|(seed, kept)| kept.iter().map(|kept| kept.right(play(kept, decide(seed)).0)).collect())
            .collect();
        table = table.row([
            Cell::Text((*name).into()),
            Cell::Count(kept.first().map_or(0, Vec::len) as u64),
            Cell::Number(mean(&rows(&|kept| kept.chosen.len() as f64).concat()), 2),
            Cell::PercentInterval(summary(&rows(&found))?),
            Cell::Percent(mean(&rows(&chance).concat())),
            Cell::PercentInterval(summary(&right)?),
        ]);
        let over_chance = difference(&rows(&found), &rows(&chance));
        match *name {
            "attention" => {
                findings.estimates.insert("overlap-over-chance".into(), summary(&over_chance)?);
            }
            "leaving one out" => {
                findings.estimates.insert("left-out-overlap".into(), summary(&over_chance)?);
                let random: Rows = all
                    .iter()
                    .enumerate()
                    .map(|(seed, played)| {
                        let few = played.loops[1].iter().take(played.left_out.len());
                        few.map(|kept| kept.right(play(kept, decide(seed)).0)).collect()
                    })
                    .collect();
                findings
                    .estimates
                    .insert("left-out-over-random".into(), summary(&difference(&right, &random))?);
            }
            _ => {}
        }
    }
    findings.tables.push(table);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sensed(answer: &str, probability: f64) -> Sensed {
        Sensed { answer: Some(answer.into()), probability, repeats: false, attention: Some(vec![0.5]) }
    }

    fn kept(second: &str) -> Kept {
        Kept {
            sensed: vec![sensed("A", 0.9), sensed("B", 0.6), sensed("B", 0.7), sensed("A", 0.8)],
            shares: false,
            written: vec![3, 20, 30, 40],
            read: [100, 101],
            second: Some(second.into()),
            second_tokens: 200,
            attention_tokens: 50,
            chosen: vec![1],
            needed: vec![1, 2],
            segments: 8,
            rank_of_needed: None,
            gold: "B".into(),
        }
    }

    #[test]
    fn a_loop_pays_for_its_second_round_and_a_filtered_answer_falls_back() {
        let decide = |threshold, any| Decision { count: 4, threshold, used: &Signal::ALL, any };
        let kept_b = kept("B");
        assert_eq!(play(&kept_b, decide(0.0, false)), (Some("A"), 294.0, false));
        assert_eq!(play(&kept_b, decide(1.0, false)), (Some("B"), 494.0, true));
        let kept_d = kept("D");
        assert_eq!(play(&kept_d, decide(1.0, false)).0, Some("A"), "D is no answer of the first round");
        assert_eq!(play(&kept_d, decide(1.0, true)).0, Some("D"));
        assert_eq!((kept_b.tokens(1), kept_b.tokens(2)), (103.0, 224.0));
        assert_eq!(kept_b.majority(3), Some("B"));
    }
}
