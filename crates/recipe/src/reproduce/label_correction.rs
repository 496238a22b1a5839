//! Two estimates of the same decomposition (arXiv 2412.19513) on four-option questions answered at once: from label
//! probabilities, which costs one score per label, and from S sampled dialogues. They must agree.

use super::Reproduce;
use crate::RecipeError;
use elenchus_learn::LearnError;
use elenchus_learn::objective::TrainingRow;
use elenchus_learn::policy::{Policy, RolloutRequest};
use elenchus_learn::rollouts::mix;
use elenchus_measure::{CorrectionQuestion, Dialogue, SelfCorrection, self_correction};
use elenchus_task::{Skill, Split};
use elenchus_trace::Problem;
use serde::Deserialize;
use serde_json::json;

/// Size of the comparison.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LabelSettings {
    /// Four-option test questions.
    pub questions: usize,
    /// S: sampled dialogues per question.
    pub dialogues: usize,
}

/// Both estimates.
pub(super) struct Estimates {
    pub labels: SelfCorrection,
    pub samples: SelfCorrection,
}

impl Estimates {
    /// The largest distance between the two estimates of Acc1, Acc2, CL and CS, as a share. A quantity that only one
    /// of them defines has no distance.
    pub fn distance(&self) -> f64 {
        let (a, b) = (&self.labels, &self.samples);
        [
            Some((a.acc1 - b.acc1).abs()),
            Some((a.acc2 - b.acc2).abs()),
            a.cl.zip(b.cl).map(|(a, b)| (a - b).abs()),
            a.cs.zip(b.cs).map(|(a, b)| (a - b).abs()),
        ]
        .into_iter()
        .flatten()
        .fold(0.0, f64::max)
    }
}

/// What stands before the label in every reply.
const ANSWER: &str = "#";

fn first_prompt(problem: &Problem) -> String {
    format!("{}{ANSWER}", Skill::Direct.prompt(problem, &[]))
}

fn second_prompt(problem: &Problem, label: &str) -> String {
    format!("{}{ANSWER}", Skill::Again.prompt(problem, &[&format!("{ANSWER}{label}")]))
}

/// Probabilities of the labels behind a prompt, not normalised.
fn label_probabilities(
    policy: &mut dyn Policy,
    prompts: &[(String, Vec<String>)],
) -> Result<Vec<Vec<f64>>, LearnError> {
    let mut rows = Vec::new();
    for (prompt, labels) in prompts {
        let prompt = policy.encode(prompt)?;
        for label in labels {
            rows.push(TrainingRow::new(&prompt, &policy.encode(label)?));
        }
    }
    let mut found = policy
        .logprobs(&rows)?
        .into_iter()
        .map(|tokens| tokens.iter().map(|&l| f64::from(l)).sum::<f64>().exp())
        .collect::<Vec<f64>>()
        .into_iter();
    Ok(prompts.iter().map(|(_, labels)| found.by_ref().take(labels.len()).collect()).collect())
}

fn labels_of(problem: &Problem) -> Vec<String> {
    problem.options.iter().map(|option| option.label.clone()).collect()
}

/// One score per label for the first answer, and again for the second one behind every possible first.
fn from_labels(
    policy: &mut dyn Policy,
    problems: &[Problem],
) -> Result<Vec<CorrectionQuestion>, RecipeError> {
    let firsts: Vec<_> = problems.iter().map(|p| (first_prompt(p), labels_of(p))).collect();
    let first = label_probabilities(policy, &firsts)?;
    let seconds: Vec<_> = problems
        .iter()
        .flat_map(|p| labels_of(p).into_iter().map(move |l| (second_prompt(p, &l), labels_of(p))))
        .collect();
    let mut second = label_probabilities(policy, &seconds)?.into_iter();
    problems
        .iter()
        .zip(first)
        .map(|(problem, first)| {
            let gold = gold_label(problem)?;
            let after: Vec<f64> = second
                .by_ref()
                .take(first.len())
                .map(|p| p.get(gold).copied().unwrap_or(0.0) / p.iter().sum::<f64>())
                .collect();
            Ok(CorrectionQuestion::from_labels(&first, &after, gold)?)
        })
        .collect()
}

fn gold_label(problem: &Problem) -> Result<usize, RecipeError> {
    problem
        .options
        .iter()
        .position(|option| Some(&option.label) == problem.gold.as_ref())
        .ok_or_else(|| LearnError::Data {
            what: format!("problem `{}` names no gold label among its options", problem.id),
            hint: "use the four-option form of the task".into(),
        })
        .map_err(RecipeError::from)
}

/// S dialogues per question; replies that are no label are drawn again from further samples, as the label probabilities
/// are normalised over labels. A question that gives fewer than S labels keeps those it gave.
fn from_samples(
    policy: &mut dyn Policy,
    problems: &[Problem],
    dialogues: usize,
    seed: u64,
) -> Result<Vec<CorrectionQuestion>, RecipeError> {
    let request = |prompt: String, samples: usize, seed: u64| RolloutRequest {
        prompt,
        samples,
        seed,
        temperature: 1.0,
        max_new_tokens: 1,
        distributions: false,
    };
    let firsts: Vec<_> = problems
        .iter()
        .enumerate()
        .map(|(i, p)| request(first_prompt(p), 2 * dialogues, mix(seed, i as u64)))
        .collect();
    let mut answers: Vec<Vec<String>> = Vec::new();
    let mut requests = Vec::new();
    for (i, (problem, replies)) in problems.iter().zip(policy.sample(&firsts)?).enumerate() {
        let labels = labels_of(problem);
        let kept: Vec<String> =
            replies.into_iter().map(|r| r.text).filter(|t| labels.contains(t)).take(dialogues).collect();
        for label in &labels {
            let times = kept.iter().filter(|text| *text == label).count();
            let seed = mix(mix(seed, 1_000_003 + i as u64), requests.len() as u64);
            requests.push(request(second_prompt(problem, label), 2 * times, seed));
        }
        answers.push(kept);
    }
    let mut replies = policy.sample(&requests)?.into_iter();
    let mut questions = Vec::new();
    for (problem, kept) in problems.iter().zip(&answers) {
        let gold = gold_label(problem)?;
        let labels = labels_of(problem);
        let mut pairs = Vec::new();
        for (index, label) in labels.iter().enumerate() {
            let times = kept.iter().filter(|text| *text == label).count();
            let seconds = replies.next().unwrap_or_default().into_iter().map(|r| r.text);
            pairs.extend(
                seconds
                    .filter(|text| labels.contains(text))
                    .take(times)
                    .map(|text| Dialogue { first: index == gold, second: text == labels[gold] }),
            );
        }
        questions.push(CorrectionQuestion::from_dialogues(&pairs)?);
    }
    Ok(questions)
}

/// Both estimates on the same questions.
pub(super) fn run(
    input: &Reproduce<'_>,
    settings: LabelSettings,
    policy: &mut dyn Policy,
    label: &str,
) -> Result<Estimates, RecipeError> {
    let task = elenchus_task::task("arithmetic", &json!({ "form": "choice", "steps": [2, 3] }))?;
    let problems = task.problems(Split::Test, settings.questions, mix(input.seed, 11))?;
    input.session.observer.phase(0, "label probabilities", problems.len());
    let seed = mix(input.seed, 12);
    let labels = from_labels(policy, &problems)?;
    let samples = from_samples(policy, &problems, settings.dialogues, seed)?;
    input.session.observer.advance(problems.len(), 0, false);
    input.session.observer.note(&format!("label probabilities of model {label} compared"));
    Ok(Estimates { labels: self_correction(&labels)?, samples: self_correction(&samples)? })
}
