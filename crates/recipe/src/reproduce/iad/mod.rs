//! Iterative agentic decoding (arXiv 2504.01931) where verifiers know degrees, on Countdown and on programs with tests: rounds
//! in view of the best and the worst candidate against best-of-n with as many candidates, the controls without and with
//! foreign feedback, and verifiers that are noisy or sparse.

mod play;
mod report;

use self::play::{Bench, EXACT, Plan, Played, Seen, Verifier};
use super::pool::{Asked, Drawing, draw, fit};
use super::{Findings, Reproduce};
use crate::lab::program_reviser::{LESSON, PROGRAM_REVISER};
use crate::revising::{Lesson, Substrate};
use crate::{RecipeError, models};
use elenchus_control::Takeover;
use elenchus_learn::NativePolicy;
use elenchus_learn::policy::Policy;
use elenchus_learn::rollouts::mix;
use elenchus_learn::trainer::TrainSettings;
use elenchus_task::{Skill, Split};
use serde::Deserialize;
use serde_json::Value;

/// Settings of the experiment.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// Problems of Countdown.
    questions: usize,
    /// Which problems all arms are measured on: `validation` while settings are chosen, else `test`.
    split: Split,
    /// Numbers of candidates a round K and of rounds T.
    shapes: Vec<[usize; 2]>,
    /// Which of them the verifier sweep uses.
    swept: [usize; 2],
    /// Standard deviations of Gaussian noise on the score.
    noise: Vec<f64>,
    /// Thresholds of sparse verifiers: 1 from here on, else 0.
    thresholds: Vec<f64>,
    /// Temperature of all candidates.
    temperature: f32,
    /// Temperature of the later rounds of the arm whose candidates differ by what they see and hardly by chance.
    low_temperature: f32,
    /// The model that reads earlier responses of Countdown, which every arm uses.
    revision: Training,
    /// The same on programs.
    programs: Programs,
}

/// How a model learns to read earlier responses of Countdown.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Training {
    /// Training problems.
    questions: usize,
    /// Own samples per training problem.
    samples: usize,
    /// Whether the task's own solution is what follows a worst and a best sample where no sample solves the problem. Else
    /// the best of the samples is, so that what is learned may be better and still wrong.
    solutions: bool,
    /// Whether prompts carry the verifier's score behind each response they show.
    feedback: bool,
    train: TrainSettings,
}

impl Training {
    fn lesson(&self) -> Lesson {
        Lesson { solutions: self.solutions, feedback: self.feedback }
    }
}

/// Settings of the part on programs.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Programs {
    /// Problems; 0 leaves this part out.
    questions: usize,
    /// Settings of the task.
    task: Value,
    /// Training seeds of the lab's `program-reviser`, which every arm uses.
    revisers: Vec<u64>,
}

/// The arms at one shape.
const ARMS: [(&str, Seen, Takeover); 7] = [
    ("IAD", Seen::BestAndWorst, Takeover::Better),
    ("best only", Seen::Best, Takeover::Better),
    ("no feedback", Seen::Nothing, Takeover::Better),
    ("feedback of another problem", Seen::Foreign, Takeover::Better),
    ("no acceptance test", Seen::BestAndWorst, Takeover::Always),
    ("best-of-n", Seen::Nothing, Takeover::Better),
    ("low temperature after the first round", Seen::BestAndWorst, Takeover::Better),
];
const IAD: usize = 0;
const BEST_ONLY: usize = 1;
const NO_FEEDBACK: usize = 2;
const FOREIGN: usize = 3;
const NO_TEST: usize = 4;
const BEST_OF_N: usize = 5;
const LOW: usize = 6;

/// Best-of-n draws all candidates in one round.
fn plan(settings: &Settings, arm: usize, [per_round, rounds]: [usize; 2], verifier: Verifier) -> Plan {
    let (_, seen, takeover) = ARMS[arm];
    let (per_round, rounds) = if arm == BEST_OF_N { (per_round * rounds, 1) } else { (per_round, rounds) };
    let temperature = settings.temperature;
    let later_temperature = if arm == LOW { settings.low_temperature } else { temperature };
    Plan { per_round, rounds, seen, takeover, verifier, temperature, later_temperature }
}

/// Gain of IAD on best-of-n per problem, by verifier.
struct Swept {
    verifier: Verifier,
    iad: Vec<f64>,
    best_of_n: Vec<f64>,
    /// What the verifier says of IAD's selection, minus its true value.
    gap: Vec<f64>,
}

/// The arms on one substrate.
struct Arms {
    /// Models.
    seeds: usize,
    /// Per shape and arm, model behind model.
    played: Vec<Vec<Played>>,
}

impl Arms {
    fn none(settings: &Settings) -> Self {
        let arms = || ARMS.iter().map(|_| Played::default()).collect();
        Arms { seeds: 0, played: settings.shapes.iter().map(|_| arms()).collect() }
    }

    /// Plays every arm at every shape with one more model.
    fn play(
        &mut self,
        settings: &Settings,
        bench: &Bench<'_>,
        model: &mut dyn Policy,
    ) -> Result<(), RecipeError> {
        self.seeds += 1;
        for (shape, into) in settings.shapes.iter().zip(&mut self.played) {
            for (arm, into) in into.iter_mut().enumerate() {
                let what = format!("{} {shape:?}", ARMS[arm].0);
                into.extend(bench.play(model, plan(settings, arm, *shape, EXACT), &what)?);
            }
        }
        Ok(())
    }
}

/// The model of all arms on Countdown: `start`, trained further on what its own samples teach.
fn revising(
    input: &Reproduce<'_>,
    training: &Training,
    mut start: NativePolicy,
    substrate: &Substrate,
    label: &str,
) -> Result<Box<dyn Policy>, RecipeError> {
    let task = substrate.task();
    let problems = task.problems(Split::Train, training.questions, mix(input.seed, 61))?;
    let asked: Vec<Asked<'_>> =
        problems.iter().map(|problem| Asked::new(problem, Skill::Solve.prompt(problem, &[]))).collect();
    let seed = mix(input.seed, 71);
    let drawing =
        Drawing { samples: training.samples, temperature: 1.0, max_new_tokens: substrate.longest(), seed };
    let pools = draw(input, &mut start, task, &asked, drawing, &format!("{label}/train samples"))?;
    let mut rows = Vec::new();
    for (q, (problem, pool)) in problems.iter().zip(&pools).enumerate() {
        let samples: Vec<&str> = pool.samples.iter().map(|sample| sample.text.as_str()).collect();
        let seed = mix(input.seed, q as u64);
        let made = training.lesson().rows(&start, substrate, problem, &samples, seed)?;
        rows.extend(made.into_iter().map(|row| vec![row]));
    }
    let train = &training.train;
    fit(input, &start, train, &format!("{label} revision"), || Ok((rows, train.batch)))
}

/// Runs the experiment.
pub(super) fn run(input: &Reproduce<'_>) -> Result<Findings, RecipeError> {
    let settings: Settings = input.settings()?;
    let countdown = Substrate::countdown()?;
    let problems = countdown.task().problems(settings.split, settings.questions, mix(input.seed, 13))?;
    let verifiers = std::iter::once(EXACT)
        .chain(settings.noise.iter().map(|&noise| Verifier { noise, threshold: None }))
        .chain(settings.thresholds.iter().map(|&t| Verifier { noise: 0.0, threshold: Some(t) }));
    let mut swept: Vec<Swept> = verifiers
        .map(|verifier| Swept { verifier, iad: Vec::new(), best_of_n: Vec::new(), gap: Vec::new() })
        .collect();
    let mut arms = Arms::none(&settings);
    for (m, name) in input.models.iter().enumerate() {
        let label = format!("{m}");
        let mut model =
            revising(input, &settings.revision, models::load(name)?.policy(), &countdown, &label)?;
        let lesson = settings.revision.lesson();
        let bench = Bench { input, substrate: &countdown, problems: &problems, lesson, label };
        arms.play(&settings, &bench, model.as_mut())?;
        for into in &mut swept {
            let mut played = |name: &str, arm| {
                let plan = plan(&settings, arm, settings.swept, into.verifier);
                bench.play(model.as_mut(), plan, &format!("{name} {:?}", into.verifier))
            };
            let (iad, bon) = (played("iad", IAD)?, played("bon", BEST_OF_N)?);
            into.gap.extend(iad.recorded.iter().zip(&iad.arm.right).map(|(said, value)| said - value));
            into.iad.extend(iad.arm.right);
            into.best_of_n.extend(bon.arm.right);
        }
    }
    let programs = programs(input, &settings)?;
    report::findings(input, &settings, &arms, &swept, programs.as_ref())
}

/// The arms on programs, by every checkpoint of the lab over every model.
fn programs(input: &Reproduce<'_>, settings: &Settings) -> Result<Option<Arms>, RecipeError> {
    let Programs { questions, task, revisers } = &settings.programs;
    if *questions == 0 {
        return Ok(None);
    }
    let substrate = Substrate::programs(task)?;
    let problems = substrate.task().problems(settings.split, *questions, mix(input.seed, 14))?;
    let mut arms = Arms::none(settings);
    for (m, name) in input.models.iter().enumerate() {
        for &seed in revisers {
            let mut model = input.lab_model(PROGRAM_REVISER, name, seed)?.load()?.policy();
            let label = format!("programs/{m}/{seed}");
            let bench = Bench { input, substrate: &substrate, problems: &problems, lesson: LESSON, label };
            arms.play(settings, &bench, &mut model)?;
        }
    }
    Ok(Some(arms))
}

#[cfg(test)]
mod tests;
