//! Critique ability and self-check (arXiv 2310.04815): a balanced benchmark of right and convincingly wrong responses, the
//! critics on it by class, by generator and by certainty; then a vote that checks itself where it is uncertain, against a
//! vote that spends the critiques on samples.

mod bench;
mod numbers;

use super::asked::Asked;
use super::{Findings, Reproduce};
use crate::RecipeError;
use crate::lab::own_critic::OWN_CRITIC;
use crate::lab::small::SMALL;
use bench::{Bench, Drawn, Question, Said, Wrong};
use elenchus_control::{
    AttemptLog, ClosedLoopCritique, ClosedLoopCritiqueSettings, CritiqueOf, Draw, SelfConsistency,
    SelfConsistencySettings, Single, SingleSettings,
};
use elenchus_evaluate::{CompactJudgment, Judgment, JudgmentSettings};
use elenchus_learn::rollouts::mix;
use elenchus_measure::Dialogue;
use elenchus_task::{Split, Task};
use elenchus_trace::Problem;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;

/// Settings of the experiment.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// Test questions.
    questions: usize,
    /// Validation questions on which the threshold is chosen.
    validation: usize,
    /// N: samples of a vote. Twice as many are drawn, so that a vote can spend the critiques on samples.
    samples: usize,
    /// Sampling temperature.
    temperature: f32,
    /// Judgments per item of the benchmark.
    votes: usize,
    /// Fixed thresholds of certainty: the paper's. The claims are about the first.
    gates: Vec<f64>,
    /// Thresholds of certainty to choose among.
    thresholds: Vec<f64>,
    /// Model seeds of the lab's checkpoints.
    seeds: Vec<u64>,
}

/// The models of one seed, smallest first, each after training to answer again in view of right and wrong answers of its own: those that are given, or the lab's
/// small one and the given one where there is one only.
fn critics<'a>(input: &Reproduce<'a>, seed: u64) -> Result<Vec<Asked<'a>>, RecipeError> {
    let mut bases: Vec<String> = input.models.to_vec();
    if bases.len() == 1 {
        let small = input.lab_model(SMALL, &bases[0], seed)?;
        bases.insert(0, small.folder.display().to_string());
    }
    let trained = |base: &String| {
        let folder = input.lab_model(OWN_CRITIC, base, seed)?.folder;
        Asked::new(input, &folder.display().to_string())
    };
    bases.iter().map(trained).collect()
}

/// Everything measured on one model of one seed as critic and generator.
struct PerModel {
    validation: Vec<Question>,
    test: Vec<Question>,
    greedy: Vec<bool>,
}

/// Everything measured on the models of one seed.
struct PerSeed {
    /// Smallest first.
    models: Vec<PerModel>,
    /// Convincing wrong responses, judged by answering again.
    convincing: Bench,
    /// The same by one letter, and step by step: skills that only the base model was taught.
    letter: Bench,
    steps: Bench,
    /// Any wrong responses.
    uniform: Bench,
    /// Per model: the course of each of its own items of `convincing`, in their order.
    corrected: Vec<Vec<Dialogue>>,
}

fn collect(
    asked: &Asked<'_>,
    label: &str,
    settings: &Settings,
    task: &dyn Task,
    problems: &[Problem],
) -> Result<Vec<Question>, RecipeError> {
    let draw = Draw {
        temperature: Some(settings.temperature),
        top_p: Some(1.0),
        max_tokens: 160,
        seed: 5,
        ..Draw::default()
    };
    let samples = 2 * settings.samples;
    let vote = SelfConsistency::new(SelfConsistencySettings { samples, early_stop: false, draw })?;
    let drawn = asked.answers(&format!("{label}/samples"), &vote, task, problems, |problem, answer| {
        let mut drawn = Vec::with_capacity(samples);
        for (_, completion) in answer.trace.completions() {
            drawn.push(Drawn {
                answer: task.extract(problem, &completion.text),
                right: task.verify(problem, &completion.text)?.is_correct(),
                steps: task.steps(problem, &completion.text).len(),
                usage: completion.usage,
                text: completion.text.clone(),
            });
        }
        Ok(drawn)
    })?;
    let texts: Vec<(&Problem, &str)> = problems
        .iter()
        .zip(&drawn)
        .flat_map(|(problem, drawn)| {
            drawn.iter().take(settings.samples).map(move |d| (problem, d.text.as_str()))
        })
        .collect();
    let mut said =
        judge(asked, &format!("{label}/check"), task, &texts, 1, CompactJudgment::Again)?.into_iter();
    Ok(drawn
        .into_iter()
        .map(|drawn| {
            let count = settings.samples.min(drawn.len());
            Question { said: said.by_ref().take(count).collect(), drawn }
        })
        .collect())
}

fn judge(
    asked: &Asked<'_>,
    label: &str,
    task: &dyn Task,
    texts: &[(&Problem, &str)],
    votes: usize,
    compact: CompactJudgment,
) -> Result<Vec<Said>, RecipeError> {
    let settings = JudgmentSettings { votes, compact, max_tokens: 160, ..Default::default() };
    let critic = Judgment::new(settings).map_err(|error| RecipeError::Control(error.into()))?;
    let found = asked.feedback(label, &critic, task, texts)?;
    Ok(found.iter().map(|feedback| Said::of(feedback, votes)).collect())
}

/// Runs the experiment.
pub(super) fn run(input: &Reproduce<'_>) -> Result<Findings, RecipeError> {
    let settings: Settings = input.settings()?;
    let task = elenchus_task::task("arithmetic", &serde_json::Value::Null)?;
    let task = task.as_ref();
    let test = task.problems(Split::Test, settings.questions, mix(input.seed, 1))?;
    let validation = task.problems(Split::Validation, settings.validation, mix(input.seed, 2))?;
    let mut found = Vec::new();
    for &seed in &settings.seeds {
        found.push(one_seed(input, &settings, task, [&validation, &test], seed)?);
    }
    numbers::findings(input.seed, &settings, &found)
}

/// Draws, checks, judges and corrects with the models of one seed.
fn one_seed(
    input: &Reproduce<'_>,
    settings: &Settings,
    task: &dyn Task,
    [validation, test]: [&[Problem]; 2],
    seed: u64,
) -> Result<PerSeed, RecipeError> {
    let critics = critics(input, seed)?;
    let single = Single::new(SingleSettings { draw: Draw { max_tokens: 160, ..Draw::default() } })?;
    let mut models = Vec::new();
    for (m, asked) in critics.iter().enumerate() {
        let label = |what: &str| format!("{seed}/{m}/{what}");
        models.push(PerModel {
            validation: collect(asked, &label("validation"), settings, task, validation)?,
            test: collect(asked, &label("test"), settings, task, test)?,
            greedy: asked.answers(&label("greedy"), &single, task, test, |problem, answer| {
                Ok(task.verify(problem, &answer.text)?.is_correct())
            })?,
        });
    }
    let bench = |name: &str, wrong: Wrong, compact: CompactJudgment| -> Result<Bench, RecipeError> {
        let mut random = ChaCha8Rng::seed_from_u64(mix(input.seed, 3));
        let items = Bench::items(&models, wrong, &mut random, settings.samples);
        let texts: Vec<(&Problem, &str)> =
            items.iter().map(|item| (&test[item.question], item.text.as_str())).collect();
        let said = critics
            .iter()
            .enumerate()
            .map(|(m, asked)| {
                judge(asked, &format!("{seed}/{m}/{name}"), task, &texts, settings.votes, compact)
            })
            .collect::<Result<_, _>>()?;
        Ok(Bench { items, said, questions: test.len() })
    };
    let convincing = bench("convincing", Wrong::Convincing, CompactJudgment::Again)?;
    let letter = bench("convincing, by letter", Wrong::Convincing, CompactJudgment::Judge)?;
    let steps = bench("convincing, by steps", Wrong::Convincing, CompactJudgment::Critique)?;
    let uniform = bench("any wrong", Wrong::Uniform, CompactJudgment::Again)?;
    // What the critique of a response leads to, on each model's own items.
    let closed = ClosedLoopCritique::new(ClosedLoopCritiqueSettings {
        solution: CritiqueOf::Given,
        draw: Draw { max_tokens: 160, ..Draw::default() },
        ..Default::default()
    })?;
    let mut corrected = Vec::new();
    for (m, asked) in critics.iter().enumerate() {
        let problems: Vec<Problem> = convincing
            .items
            .iter()
            .filter(|item| item.generator == m)
            .map(|item| {
                let mut problem = test[item.question].clone();
                if let Some(data) = problem.data.as_object_mut() {
                    data.insert("solution".into(), item.text.clone().into());
                }
                problem
            })
            .collect();
        let label = format!("{seed}/{m}/correction");
        corrected.push(asked.answers(&label, &closed, task, &problems, |_, answer| {
            let log = AttemptLog::of(&answer.trace).unwrap_or_default();
            let dialogue = log.dialogue(task, &answer.trace)?;
            Ok(dialogue.unwrap_or(Dialogue { first: false, second: false }))
        })?);
    }
    Ok(PerSeed { models, convincing, letter, steps, uniform, corrected })
}

#[cfg(test)]
mod tests;
