//! `own-critic`: the base model after training to answer again in view of a response of its own, right or wrong.

use super::own_samples::{LONGEST, OwnSamples, arithmetic, solve_rows};
use super::{Figure, LabModel, Plan, Start};
use elenchus_control::majority;
use elenchus_learn::objective::TrainingRow;
use elenchus_learn::policy::{Encode, Policy, RolloutRequest, text_row};
use elenchus_learn::rollouts::{Judged, mix};
use elenchus_learn::trainer::{BatchSource, Blend, Decay, Epochs, TrainSettings};
use elenchus_learn::{LearnError, NativePolicy, Session};
use elenchus_task::arithmetic::skills;
use elenchus_task::{Skill, Split, Task};
use elenchus_trace::Problem;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Name of the checkpoint.
pub const OWN_CRITIC: &str = "own-critic";

/// A critic that works the problem out again in view of the response, for a benchmark of critics (arXiv 2310.04815, sheet 09):
/// rows `A{problem}{response}!` → reference. Its judgment is whether its answer is another one
/// ([`elenchus_evaluate::CompactJudgment::Again`]). Responses are own samples of training problems, one right and one
/// convincing wrong one (with the most frequent wrong answer) of each question that has both. Rows `S{problem}` → reference
/// keep the model able to solve.
///
/// Three other forms were tried on the embedded model, with 500 steps each, and none learned to compare: the letter `Y` or `N`
/// alone puts the right response above the wrong one in 47 % of the pairs; each step worked out again with a letter behind it
/// has the right steps and calls all of them right (49.2 % right judgments), and with heavier letters it calls the first
/// multiplication wrong (49.7 %).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OwnCritic {
    /// Training problems that are sampled.
    pub problems: usize,
    /// Samples of each.
    pub samples: usize,
    /// Fewest and most operations of a problem.
    pub steps: [usize; 2],
    /// Solve rows in a batch; the rest answer again.
    pub solve_rows: usize,
    /// Validation problems for the card.
    pub validation: usize,
    /// The training.
    pub train: TrainSettings,
}

impl Default for OwnCritic {
    fn default() -> Self {
        OwnCritic {
            problems: 4000,
            samples: 5,
            steps: [2, 8],
            solve_rows: 8,
            validation: 300,
            train: TrainSettings {
                steps: 500,
                batch: 32,
                learning_rate: 1e-3,
                warmup_steps: 20,
                decay: Decay::Cosine,
                floor: 0.05,
                ..TrainSettings::default()
            },
        }
    }
}

/// The first right answer and the first with the most frequent wrong answer, where a question has both; replies that were
/// cut or have no answer are neither.
fn right_and_wrong(samples: &[Judged]) -> Option<[&Judged; 2]> {
    let answered = |judged: &&Judged| judged.rollout.finished && judged.verdict.answer.is_some();
    let (right, wrong): (Vec<&Judged>, Vec<&Judged>) =
        samples.iter().filter(answered).partition(|judged| judged.verdict.is_correct());
    let answers: Vec<Option<&str>> = wrong.iter().map(|judged| judged.verdict.answer.as_deref()).collect();
    // Answers are in the task's normal form, so equal means the same text.
    let convincing = majority(&answers, |a, b| a == b).sample()?;
    Some([*right.first()?, wrong[convincing]])
}

/// Both responses of a question, none where it has not both.
fn rows(encoder: &dyn Encode, problem: &Problem, samples: &[Judged]) -> Result<Vec<TrainingRow>, LearnError> {
    let pair = right_and_wrong(samples).into_iter().flatten();
    pair.map(|sample| {
        let row = skills::again_row(problem, &sample.rollout.text)?;
        text_row(encoder, &row.prompt, &row.target)
    })
    .collect()
}

impl LabModel for OwnCritic {
    fn name(&self) -> &'static str {
        OWN_CRITIC
    }

    fn summary(&self) -> &'static str {
        "the base model, trained to answer again in view of right and convincing wrong answers of its own"
    }

    fn plan(&self) -> Plan {
        Plan {
            version: 4,
            start: Start::Base { words: Vec::new() },
            heads: Vec::new(),
            objective: "sft".into(),
            objective_settings: Value::Null,
            train: self.train.clone(),
            rows: json!({
                "problems": self.problems, "samples": self.samples, "steps": self.steps,
                "solve_rows": self.solve_rows, "validation": self.validation,
            }),
        }
    }

    fn source(
        &self,
        policy: &mut NativePolicy,
        seed: u64,
        session: &Session<'_>,
    ) -> Result<Box<dyn BatchSource>, LearnError> {
        let task = arithmetic(self.steps)?;
        let own = OwnSamples { samples: self.samples, temperature: 1.0 };
        let drawn = own.draw(policy, &task, Split::Train, self.problems, mix(seed, 1), session)?;
        let mut again = Vec::new();
        for (problem, samples) in &drawn {
            again.extend(rows(policy, problem, samples)?.into_iter().map(|row| vec![row]));
        }
        let solve = solve_rows(task, policy.encoder(), self.solve_rows, mix(seed, 2));
        let batch = self.train.batch.saturating_sub(self.solve_rows).max(1);
        Ok(Box::new(Blend(Epochs::new(again, batch, mix(seed, 3))?, solve)))
    }

    /// Right judgments of greedy answers, over as many right as convincing wrong responses; where there is no answer, there is
    /// no right judgment.
    fn validate(
        &self,
        policy: &mut NativePolicy,
        seed: u64,
        session: &Session<'_>,
    ) -> Result<Figure, LearnError> {
        let task = arithmetic(self.steps)?;
        let own = OwnSamples { samples: self.samples, temperature: 1.0 };
        let drawn = own.draw(policy, &task, Split::Validation, self.validation, mix(seed, 1), session)?;
        let (mut requests, mut cases) = (Vec::new(), Vec::new());
        for (problem, samples) in &drawn {
            for sample in right_and_wrong(samples).into_iter().flatten() {
                requests.push(RolloutRequest {
                    prompt: Skill::Again.prompt(problem, &[sample.rollout.text.as_str()]),
                    samples: 1,
                    seed: 0,
                    temperature: 0.0,
                    max_new_tokens: LONGEST,
                    distributions: false,
                });
                cases.push((problem, &sample.verdict));
            }
        }
        let replies = policy.sample(&requests)?;
        let mut right = 0;
        for ((problem, verdict), reply) in cases.iter().zip(&replies) {
            let again = reply.first().and_then(|reply| task.extract(problem, &reply.text));
            right += usize::from(
                again.is_some_and(|answer| (Some(answer) == verdict.answer) == verdict.is_correct()),
            );
        }
        let value = right as f64 / cases.len().max(1) as f64;
        Ok(Figure {
            name: "right judgments of own answers, half of them right".into(),
            value,
            problems: cases.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use elenchus_learn::policy::Rollout;

    /// Writes every letter as a token.
    struct Letters;

    impl Encode for Letters {
        fn encode(&self, text: &str) -> Result<Vec<u32>, LearnError> {
            Ok(text.chars().map(u32::from).collect())
        }

        fn end_of_text(&self) -> u32 {
            0
        }
    }

    fn judged(problem: &Problem, text: &str, finished: bool) -> Judged {
        let verdict = arithmetic([2, 2]).unwrap().verify(problem, text).unwrap();
        let rollout = Rollout {
            text: text.into(),
            tokens: Vec::new(),
            logprobs: Vec::new(),
            distributions: Vec::new(),
            finished,
        };
        Judged { rollout, steps_right: verdict.is_correct(), verdict }
    }

    #[test]
    fn a_question_gives_one_right_and_one_convincing_wrong_answer_with_their_checks() {
        let task = arithmetic([2, 2]).unwrap();
        let problem = task.problems(Split::Train, 1, 1).unwrap().remove(0);
        let gold = task.reference(&problem).unwrap();
        let (start, answer) = gold.rsplit_once('#').unwrap();
        let right: i64 = answer.parse().unwrap();
        let wrong = |off: i64| format!("{start}#{}", right + off);
        let samples = [
            judged(&problem, &wrong(1), true),
            judged(&problem, &gold, true),
            judged(&problem, &wrong(2), true),
            judged(&problem, &wrong(3), false),
            judged(&problem, &wrong(3), false),
            judged(&problem, &wrong(2), true),
        ];
        let [one, other] = right_and_wrong(&samples).unwrap();
        assert_eq!(
            (one.rollout.text.as_str(), other.rollout.text.as_str()),
            (gold.as_str(), &*wrong(2)),
            "3 was cut"
        );
        assert!(right_and_wrong(&samples[1..2]).is_none() && right_and_wrong(&samples[..1]).is_none());
        let rows = rows(&Letters, &problem, &samples).unwrap();
        let said: Vec<String> = rows
            .iter()
            .map(|row| {
                row.tokens[row.first_target..].iter().filter_map(|&token| char::from_u32(token)).collect()
            })
            .collect();
        assert_eq!(said.len(), 2);
        assert!(said.iter().all(|said| said.trim_end_matches('\0') == gold), "{said:?}");
    }
}
