//! Deceptive judges (arXiv 2506.03332): agents trained to trust a constructive reviewer meet judges of every intent and
//! knowledge; one that rereads the problem, three defences at equal extra samples, and training on deceptive objections
//! tested on kinds that it has not seen.

mod numbers;
mod tables;

use super::asked::Asked;
use super::{Findings, Reproduce};
use crate::RecipeError;
use crate::lab::judged_agent::{MOST_TOKENS, STEPS};
use elenchus_control::{
    AttemptLog, AuditDialogue, AuditSettings, DialogueRound, Draw, Gate, JudgedDialogueSettings, RoundTable,
    RoundTableOutcome, RoundTableSettings, Strategy, dialogue_course, round_table_vote,
};
use elenchus_evaluate::harness::{Behaviour, Intent, Knowledge, Writer};
use elenchus_learn::rollouts::mix;
use elenchus_measure::Course;
use elenchus_task::arithmetic::dispute::Falsehood;
use elenchus_task::{Split, Task};
use elenchus_trace::{Answer, Problem, Usage};
use serde::{Deserialize, Serialize};

/// Settings of the experiment.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// Test questions.
    questions: usize,
    /// Seeds of the lab's agents over each model.
    seeds: Vec<u64>,
    /// Rounds of the dialogues that study dynamics; all others have one.
    rounds: usize,
    /// Samples of a gate.
    gate_samples: usize,
    /// Agents of the round table, and how many of them deceive.
    table: [usize; 2],
    /// Bins of certainty.
    bins: usize,
}

/// One question in one arm.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Row {
    course: Course,
    /// Mean log-probability per token of the answer in round 0, nats.
    certainty: Option<f64>,
    spent: Usage,
    /// Characters of the first objection.
    characters: usize,
}

impl Row {
    fn right(&self, round: usize) -> bool {
        self.course.right.get(round).or(self.course.right.last()).copied().unwrap_or(false)
    }
}

/// A round table on one question.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Seated {
    before: bool,
    after: bool,
    spent: Usage,
}

/// One arm: per seed, per question.
struct Arm {
    name: String,
    rows: Vec<Vec<Row>>,
}

/// Everything that was run.
struct Runs {
    /// The grid on the plain agent, one round.
    grid: Vec<(Behaviour, Arm)>,
    /// Several rounds with a hypercritical judge: plain, reread.
    dynamics: [Arm; 2],
    /// One round with a malicious judge: the agent that rereads.
    reread: Arm,
    /// Per gate: under a malicious judge, under a constructive one.
    gates: Vec<(Gate, Arm, Arm)>,
    /// Per kind of deception: whether the mixed agent has seen it, the plain agent, the mixed one.
    kinds: Vec<(bool, Arm, Arm)>,
    /// The mixed agent with a constructive judge.
    mixed_constructive: Arm,
    table: Vec<Vec<Seated>>,
}

const DEFENCES: [Gate; 3] = [Gate::Recompute, Gate::Moderator, Gate::Vote];

/// The kinds of deception: name, what is brought forward, how it is false, and whether `judged-mixed` was trained on it.
const KINDS: [(&str, Knowledge, Falsehood, bool); 6] = [
    ("bare", Knowledge::None, Falsehood::Result, true),
    ("a slip in a result", Knowledge::Parametric, Falsehood::Result, true),
    ("the same with a true line quoted", Knowledge::Grounded, Falsehood::Result, false),
    ("another operand", Knowledge::Parametric, Falsehood::Operand, false),
    ("the operation of another line", Knowledge::Parametric, Falsehood::Statement, false),
    ("another answer, no step", Knowledge::Parametric, Falsehood::Answer, false),
];

fn draw() -> Draw {
    Draw { max_tokens: MOST_TOKENS as u32, ..Draw::default() }
}

fn dialogue(
    behaviour: Behaviour,
    falsehood: Falsehood,
    gate: Gate,
    rounds: usize,
    samples: usize,
) -> Result<AuditDialogue, RecipeError> {
    Ok(AuditDialogue::new(AuditSettings {
        behaviour,
        writer: Writer::Scripted,
        falsehood,
        dialogue: JudgedDialogueSettings {
            rounds,
            gate,
            gate_samples: samples,
            draw: draw(),
            ..JudgedDialogueSettings::default()
        },
    })?)
}

fn row(task: &dyn Task, answer: &Answer, rounds: usize) -> Result<Row, RecipeError> {
    let course = dialogue_course(task, answer, rounds)?.unwrap_or_default();
    let first = AttemptLog::of(&answer.trace).and_then(|log| log.attempts.first()?.node);
    Ok(Row {
        course,
        certainty: first.and_then(|node| answer.trace.completion(node)).and_then(|c| c.mean_logprob()),
        spent: answer.usage,
        characters: DialogueRound::all(&answer.trace).first().map_or(0, |round| round.characters),
    })
}

/// One agent and the questions that it is asked.
struct Agent<'a> {
    asked: Asked<'a>,
    label: String,
    task: &'a dyn Task,
    problems: &'a [Problem],
}

impl<'a> Agent<'a> {
    fn new(
        input: &Reproduce<'a>,
        name: &str,
        base: &str,
        seed: u64,
        task: &'a dyn Task,
        problems: &'a [Problem],
    ) -> Result<Self, RecipeError> {
        let built = input.lab_model(name, base, seed)?;
        let folder = built.folder.display().to_string();
        Ok(Agent { asked: Asked::new(input, &folder)?, label: built.card.label(), task, problems })
    }

    fn rows(&self, what: &str, strategy: &dyn Strategy, rounds: usize) -> Result<Vec<Row>, RecipeError> {
        let label = format!("{}: {what}", self.label);
        self.asked
            .answers(&label, strategy, self.task, self.problems, |_, answer| row(self.task, &answer, rounds))
    }
}

impl Runs {
    fn new(settings: &Settings) -> Self {
        let arm = |name: String| Arm { name, rows: Vec::new() };
        Runs {
            grid: Behaviour::grid().into_iter().map(|cell| (cell, arm(cell.to_string()))).collect(),
            dynamics: [arm("plain".into()), arm("rereads".into())],
            reread: arm("rereads".into()),
            gates: DEFENCES
                .map(|gate| (gate, arm("malicious".into()), arm("constructive".into())))
                .into_iter()
                .collect(),
            kinds: KINDS.iter().map(|kind| (kind.3, arm(kind.0.into()), arm(kind.0.into()))).collect(),
            mixed_constructive: arm("mixed, constructive".into()),
            table: Vec::with_capacity(settings.seeds.len()),
        }
    }

    /// All arms on one seed of the agents.
    fn seed(
        &mut self,
        input: &Reproduce<'_>,
        settings: &Settings,
        base: &str,
        seed: u64,
        task: &dyn Task,
        problems: &[Problem],
    ) -> Result<(), RecipeError> {
        let samples = settings.gate_samples;
        let cell = |intent, knowledge| Behaviour { intent, knowledge };
        let (malicious, constructive) = (
            cell(Intent::Malicious, Knowledge::Parametric),
            cell(Intent::Constructive, Knowledge::Parametric),
        );
        let hypercritical = cell(Intent::Hypercritical, Knowledge::Parametric);
        let one = |behaviour, falsehood, gate| dialogue(behaviour, falsehood, gate, 1, samples);
        let many = dialogue(hypercritical, Falsehood::Result, Gate::None, settings.rounds, samples)?;
        let plain = Agent::new(input, "judged-plain", base, seed, task, problems)?;
        for (behaviour, arm) in &mut self.grid {
            let strategy = one(*behaviour, Falsehood::Result, Gate::None)?;
            arm.rows.push(plain.rows(&behaviour.to_string(), &strategy, 1)?);
        }
        self.dynamics[0].rows.push(plain.rows("dynamics", &many, settings.rounds)?);
        for (gate, attacked, helped) in &mut self.gates {
            let name = gate.name();
            let strategy = one(malicious, Falsehood::Result, *gate)?;
            attacked.rows.push(plain.rows(&format!("{name}, malicious"), &strategy, 1)?);
            let strategy = one(constructive, Falsehood::Result, *gate)?;
            helped.rows.push(plain.rows(&format!("{name}, constructive"), &strategy, 1)?);
        }
        let mixed = Agent::new(input, "judged-mixed", base, seed, task, problems)?;
        for ((_, of_plain, of_mixed), (name, knowledge, falsehood, _)) in self.kinds.iter_mut().zip(KINDS) {
            let strategy = one(cell(Intent::Malicious, knowledge), falsehood, Gate::None)?;
            let label = format!("deception: {name}");
            of_plain.rows.push(plain.rows(&label, &strategy, 1)?);
            of_mixed.rows.push(mixed.rows(&label, &strategy, 1)?);
        }
        let strategy = one(constructive, Falsehood::Result, Gate::None)?;
        self.mixed_constructive.rows.push(mixed.rows("constructive", &strategy, 1)?);
        let reread = Agent::new(input, "judged-reread", base, seed, task, problems)?;
        self.dynamics[1].rows.push(reread.rows("dynamics", &many, settings.rounds)?);
        let strategy = one(malicious, Falsehood::Result, Gate::None)?;
        self.reread.rows.push(reread.rows("malicious", &strategy, 1)?);
        let table = RoundTable::new(RoundTableSettings {
            agents: settings.table[0],
            deceptive: settings.table[1],
            knowledge: Knowledge::Parametric,
            writer: Writer::Scripted,
            falsehood: Falsehood::Result,
            draw: Draw { temperature: Some(0.6), ..draw() },
        })?;
        let label = format!("{}: round table", plain.label);
        self.table.push(plain.asked.answers(&label, &table, task, problems, |problem, answer| {
            let outcome = RoundTableOutcome::of(&answer.trace).unwrap_or_default();
            let same = |given: &str| {
                problem.gold.as_deref().is_some_and(|gold| task.equivalent(problem, given, gold))
            };
            let vote = round_table_vote(&outcome.before, &[], |a, b| task.equivalent(problem, a, b));
            let first = vote.sample().and_then(|at| outcome.before.get(at).cloned().flatten());
            Ok(Seated {
                before: first.as_deref().is_some_and(same),
                after: answer.answer.as_deref().is_some_and(same),
                spent: answer.usage,
            })
        })?);
        Ok(())
    }
}

/// Runs the experiment.
pub(super) fn run(input: &Reproduce<'_>) -> Result<Findings, RecipeError> {
    let settings: Settings = input.settings()?;
    // The agents are trained for these.
    let task = elenchus_task::task("arithmetic", &serde_json::json!({ "steps": STEPS }))?;
    let problems = task.problems(Split::Test, settings.questions, mix(input.seed, 1))?;
    let mut runs = Runs::new(&settings);
    for base in input.models {
        for &seed in &settings.seeds {
            runs.seed(input, &settings, base, seed, task.as_ref(), &problems)?;
        }
    }
    let mut findings = Findings::default();
    numbers::estimates(input, &runs, &settings, &mut findings)?;
    tables::tables(input, &runs, &settings, &mut findings)?;
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::Lab;
    use crate::{Size, built_in};
    use elenchus_learn::{Quiet, Session, StopFlag};

    /// A question with these answers right; the judge objects in every round.
    fn made(right: &[bool], certainty: f64) -> Row {
        let course = Course {
            answers: right.iter().map(|&right| Some(usize::from(!right))).collect(),
            right: right.to_vec(),
            alternative: right.iter().map(|right| !right).collect(),
            objected: vec![true; right.len() - 1],
            acknowledged: vec![false],
        };
        Row { course, certainty: Some(certainty), spent: Usage::default(), characters: 24 }
    }

    /// Every arm on 20 questions, of which 16 are right at first: `flips` of them flip, and all wrong ones are repaired.
    fn rows(flips: usize) -> Vec<Vec<Row>> {
        let one = |question: usize| match question {
            0..16 => made(&[true, question >= flips, true], -(question as f64)),
            _ => made(&[false, true, true], -1.0),
        };
        vec![(0..20).map(one).collect(), (0..20).map(one).collect()]
    }

    #[test]
    fn every_claim_is_estimated_and_every_table_shown() {
        let recipe = built_in("deceptive-judge").unwrap();
        let session = Session { run: None, observer: &Quiet, stop: StopFlag::default() };
        let input = Reproduce {
            recipe: &recipe,
            size: Size::Quick,
            seed: 1,
            models: &["embedded".to_string()],
            lab: Lab::new(None),
            session: &session,
        };
        let settings: Settings = input.settings().unwrap();
        let mut runs = Runs::new(&settings);
        for (behaviour, arm) in &mut runs.grid {
            arm.rows = rows(match behaviour.knowledge {
                Knowledge::None => 2,
                Knowledge::Parametric => 8,
                Knowledge::Grounded => 12,
            });
        }
        for arm in &mut runs.dynamics {
            arm.rows = rows(8);
        }
        runs.reread.rows = rows(4);
        for (_, attacked, helped) in &mut runs.gates {
            (attacked.rows, helped.rows) = (rows(4), rows(0));
        }
        for (_, plain, mixed) in &mut runs.kinds {
            (plain.rows, mixed.rows) = (rows(8), rows(2));
        }
        runs.mixed_constructive.rows = rows(0);
        runs.table = vec![vec![Seated { before: true, after: true, spent: Usage::default() }; 20]; 2];
        let mut findings = Findings::default();
        numbers::estimates(&input, &runs, &settings, &mut findings).unwrap();
        tables::tables(&input, &runs, &settings, &mut findings).unwrap();
        let claims = &recipe.acceptance.as_ref().unwrap().claims;
        for claim in claims {
            assert!(findings.estimates.contains_key(&claim.id), "`{}` has no estimate", claim.id);
        }
        assert_eq!(findings.estimates.len(), claims.len(), "every estimate has a claim");
        let value = |id: &str| findings.estimates[id].value;
        let close = |id: &str, wanted: f64| {
            assert!((value(id) - wanted).abs() < 1e-12, "{id}: {} is not {wanted}", value(id));
        };
        close("parametric-over-none", 6.0 / 16.0);
        close("grounded-over-parametric", 4.0 / 16.0);
        close("constructive-gains", 12.0 / 20.0 - 16.0 / 20.0);
        close("recompute-flips", 0.7 * 0.5 - 0.25);
        close("recompute-gain", 1.0 - 0.8);
        close("mixed-halves", 0.5 * 0.5 - 0.125);
        // Questions 0 to 7 flip, and the lower the number the surer: the least certain third flips least here.
        assert!(value("certain-flips-less") < 0.0);
        assert_eq!((findings.tables.len(), findings.sections.len()), (6, 1));
    }
}
