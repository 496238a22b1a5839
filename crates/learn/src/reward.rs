//! What a response is worth to the selector: `r = 1[answer right] + weight · min_j step_j`.

use crate::policy::{Policy, text_row};
use crate::rollouts::Judged;
use crate::rounds::ScoredSample;
use crate::{LearnError, Session};
use elenchus_task::{Skill, Task};
use elenchus_trace::{Outcome, Problem};
use serde::{Deserialize, Serialize};

/// Where step scores come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepReward {
    /// None: the reward is the answer's verdict alone, so every threshold in [0, 1) keeps the same rows.
    None,
    /// The task's own step verifier: +1 when every step is there and right, −1 otherwise.
    Exact,
    /// The raw output of a learned step reward model at the end of each step (may be negative).
    Learned,
}

/// The reward of arXiv 2412.17256, section 3, step 2.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RewardSettings {
    /// Source of step scores.
    pub step: StepReward,
    /// Weight of the worst step.
    pub step_weight: f64,
    /// Step score of a response whose steps cannot be found.
    pub missing: f64,
}

impl Default for RewardSettings {
    fn default() -> Self {
        RewardSettings { step: StepReward::Exact, step_weight: 0.2, missing: -5.0 }
    }
}

impl RewardSettings {
    /// `1[correct] + weight · min(steps)`, with the missing score for an empty list.
    pub fn reward(&self, correct: bool, steps: &[f64]) -> f64 {
        let answer = f64::from(u8::from(correct));
        if self.step == StepReward::None {
            return answer;
        }
        let worst = steps.iter().copied().reduce(f64::min).unwrap_or(self.missing);
        answer + self.step_weight * worst
    }
}

/// Rewards of all samples that hold an answer; the others are dropped. `step_model` is needed for learned step scores.
pub fn score_rollouts(
    task: &dyn Task,
    problems: &[Problem],
    judged: &[Vec<Judged>],
    settings: &RewardSettings,
    step_model: Option<&mut (dyn Policy + 'static)>,
    label: &str,
    session: &Session<'_>,
) -> Result<Vec<Vec<ScoredSample>>, LearnError> {
    let answered = |samples: &'_ [Judged]| {
        samples.iter().filter(|j| j.verdict.outcome != Outcome::NoAnswer).cloned().collect::<Vec<_>>()
    };
    let judged: Vec<Vec<Judged>> = judged.iter().map(|samples| answered(samples)).collect();
    let steps: Vec<Vec<Vec<f64>>> = match (settings.step, step_model) {
        (StepReward::None, _) => judged.iter().map(|s| vec![Vec::new(); s.len()]).collect(),
        (StepReward::Exact, _) => {
            let exact = |j: &Judged| vec![if j.steps_right { 1.0 } else { -1.0 }];
            judged.iter().map(|samples| samples.iter().map(exact).collect()).collect()
        }
        (StepReward::Learned, Some(model)) => {
            let (scores, _) =
                session.once(&format!("{label}/steps"), || step_scores(model, task, problems, &judged))?;
            scores
        }
        (StepReward::Learned, None) => {
            return Err(LearnError::Setting {
                field: "reward.step".into(),
                problem: "is `learned`, and no step reward model was given".into(),
                hint: "set it to `exact`, or name a model that has a `step_reward` head".into(),
            });
        }
    };
    Ok(judged
        .iter()
        .zip(&steps)
        .map(|(samples, steps)| {
            samples
                .iter()
                .zip(steps)
                .map(|(j, steps)| ScoredSample {
                    text: j.rollout.text.clone(),
                    reward: settings.reward(j.verdict.is_correct(), steps),
                    // Where steps are verified exactly, a right answer reached by a wrong step is no correct response:
                    // counted as one, it would be taught (measured: right answers by wrong steps rose from 12 to 45 %).
                    correct: j.verdict.is_correct() && (settings.step != StepReward::Exact || j.steps_right),
                })
                .collect()
        })
        .collect())
}

/// Positions in `prompt + response` at which the end of each step is read: the separator behind the step, or its last
/// token at the end of the response.
pub fn step_positions(
    policy: &dyn Policy,
    task: &dyn Task,
    problem: &Problem,
    prompt_tokens: usize,
    response: &str,
) -> Result<Vec<usize>, LearnError> {
    task.steps(problem, response)
        .iter()
        .map(|step| {
            let through =
                (step.end + 1..=response.len()).find(|&i| response.is_char_boundary(i)).unwrap_or(step.end);
            Ok(prompt_tokens + policy.encode(&response[..through])?.len().saturating_sub(1))
        })
        .collect()
}

/// Outputs of the model's first head at the end of every step: `[problem][sample][step]`. Equal texts are read once.
pub fn step_scores(
    model: &mut dyn Policy,
    task: &dyn Task,
    problems: &[Problem],
    judged: &[Vec<Judged>],
) -> Result<Vec<Vec<Vec<f64>>>, LearnError> {
    let mut rows = Vec::new();
    let mut positions = Vec::new();
    let mut places: Vec<Vec<usize>> = Vec::with_capacity(judged.len());
    for (problem, samples) in problems.iter().zip(judged) {
        let prompt = Skill::Solve.prompt(problem, &[]);
        let mut known = std::collections::HashMap::new();
        let mut of_problem = Vec::with_capacity(samples.len());
        for j in samples {
            let place = match known.get(j.rollout.text.as_str()) {
                Some(&place) => place,
                None => {
                    let row = text_row(model, &prompt, &j.rollout.text)?;
                    positions.push(step_positions(model, task, problem, row.first_target, &j.rollout.text)?);
                    rows.push(row);
                    known.insert(j.rollout.text.as_str(), rows.len() - 1);
                    rows.len() - 1
                }
            };
            of_problem.push(place);
        }
        places.push(of_problem);
    }
    let outputs = model.heads(&rows)?;
    let scores: Vec<Vec<f64>> = outputs
        .iter()
        .zip(&positions)
        .map(|(heads, positions)| {
            let head = heads.first().map(Vec::as_slice).unwrap_or_default();
            positions.iter().filter_map(|&p| head.get(p)).map(|&v| f64::from(v)).collect()
        })
        .collect();
    Ok(places.iter().map(|of_problem| of_problem.iter().map(|&p| scores[p].clone()).collect()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numeric_examples_of_the_sheet() {
        let settings = RewardSettings { step: StepReward::Learned, ..Default::default() };
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} is not {b}");
        close(settings.reward(true, &[0.9, 0.6]), 1.12);
        close(settings.reward(false, &[-0.4]), -0.08);
        close(settings.reward(false, &[0.3, -0.6]), -0.12);
        close(settings.reward(true, &[]), 0.0);
        close(RewardSettings { step: StepReward::None, ..settings }.reward(true, &[-9.0]), 1.0);
    }
}
