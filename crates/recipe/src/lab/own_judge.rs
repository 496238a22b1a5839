//! `own-judge`: the base model after training to judge its own answers, with and without other samples shown;
//! `own-critic`: the same with a right and a wrong answer of every question.

use super::{Figure, LabModel, Plan, Start};
use elenchus_control::majority;
use elenchus_learn::objective::TrainingRow;
use elenchus_learn::policy::{Encode, Policy, text_row};
use elenchus_learn::rollouts::{Judged, RolloutSettings, judged_rollouts, mix};
use elenchus_learn::trainer::{BatchSource, Blend, Decay, Epochs, Generated, TrainSettings};
use elenchus_learn::{LearnError, NativePolicy, Session};
use elenchus_measure::auroc;
use elenchus_task::arithmetic::{ArithmeticSettings, Steps, skills};
use elenchus_task::{Skill, Split, Task, arithmetic::Arithmetic};
use elenchus_trace::Problem;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Names of the checkpoints.
pub const OWN_JUDGE: &str = "own-judge";
pub const OWN_CRITIC: &str = "own-critic";

/// Judge-format lines in training (arXiv 2207.05221, sheet 06): a model this small cannot judge from examples in its
/// prompt, so rows `J{problem}{answer}!` → `Y` or `N` on its own samples of training problems take their place, labelled
/// by the exact verifier. Half of the judge rows show the answers of the samples in front, `#130!#127!…`, as the
/// comparison form of P(True) does; half of each end in `~`, which exchanges the labels. Rows `S{problem}` → reference keep it able to solve, so that the finished model
/// judges what it writes itself.
///
/// With rows as the samples come, the question alone tells a lot: hard ones have wrong answers. So `own-critic` takes one right
/// and one convincing wrong answer of each question that has both (the most frequent wrong one), alone and in both orders of
/// the labels: what is left to learn is in the answer. Its probabilities say nothing of how often answers are right.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OwnJudge {
    /// Training problems that are sampled.
    pub problems: usize,
    /// Samples of each; also how many answers are shown.
    pub samples: usize,
    /// Fewest and most operations of a problem.
    pub steps: [usize; 2],
    /// Solve rows in a batch; the rest are judge rows.
    pub solve_rows: usize,
    /// Whether each question gives one right and one convincing wrong answer, or all its answers.
    pub balanced: bool,
    /// Validation problems for the card.
    pub validation: usize,
    /// The training.
    pub train: TrainSettings,
}

impl Default for OwnJudge {
    fn default() -> Self {
        OwnJudge {
            problems: 2000,
            samples: 5,
            steps: [2, 8],
            solve_rows: 8,
            balanced: false,
            validation: 200,
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

/// What a token behind the label counts: that the reply ends there is known before.
const END_WEIGHT: f32 = 0.1;

impl OwnJudge {
    /// `own-critic`: more questions, since only those with both kinds of answers count.
    pub fn critic() -> Self {
        OwnJudge { problems: 4000, balanced: true, ..OwnJudge::default() }
    }

    /// The rows about the samples of one question.
    fn rows(
        &self,
        encoder: &dyn Encode,
        problem: &Problem,
        samples: &[Judged],
    ) -> Result<Vec<TrainingRow>, LearnError> {
        let row = |shown: &[Judged], answer: &Judged, swapped: bool| {
            let prompt = judge_prompt(problem, shown, answer, swapped);
            judge_row(encoder, &prompt, answer.verdict.is_correct(), swapped)
        };
        if self.balanced {
            let Some(pair) = right_and_wrong(samples) else { return Ok(Vec::new()) };
            let both = pair.into_iter().flat_map(|answer| [false, true].map(|swapped| (answer, swapped)));
            return both.map(|(answer, swapped)| row(&[], answer, swapped)).collect();
        }
        let mut rows = Vec::new();
        for (place, answer) in samples.iter().enumerate().filter(|(_, j)| j.rollout.finished) {
            // Both forms in both orders of the labels, in turn.
            for (form, shown) in [&[][..], samples].into_iter().enumerate() {
                rows.push(row(shown, answer, (place + form) % 2 == 1)?);
            }
        }
        Ok(rows)
    }

    fn task(&self) -> Result<Arithmetic, LearnError> {
        Ok(Arithmetic::new(ArithmeticSettings { steps: Steps::Between(self.steps), ..Default::default() })?)
    }

    fn sampled(
        &self,
        policy: &mut NativePolicy,
        split: Split,
        count: usize,
        seed: u64,
        session: &Session<'_>,
    ) -> Result<(Vec<Problem>, Vec<Vec<Judged>>), LearnError> {
        let task = self.task()?;
        let problems = task.problems(split, count, mix(seed, 1))?;
        let settings = RolloutSettings {
            samples: self.samples,
            temperature: 1.0,
            max_new_tokens: 160,
            seed: mix(seed, 2),
            distributions: false,
        };
        session.observer.phase(0, "own answers", problems.len());
        let label = format!("own/{split:?}").to_lowercase();
        let judged = judged_rollouts(policy, &task, &problems, &settings, &label, session)?;
        Ok((problems, judged))
    }
}

/// The prompt in which the model judges its answer, with the answers of other samples (its own among them) in front.
/// `swapped` puts `~` at the end: then `Y` says wrong and `N` right, so that a preference for a label can be seen, and
/// cancelled by the mean of both.
pub(crate) fn judge_prompt(problem: &Problem, shown: &[Judged], answer: &Judged, swapped: bool) -> String {
    let ideas: Vec<String> =
        shown.iter().map(|j| format!("#{}", j.verdict.answer.as_deref().unwrap_or_default())).collect();
    let mut parts: Vec<&str> = ideas.iter().map(String::as_str).collect();
    parts.push(&answer.rollout.text);
    let mut prompt = Skill::Judge.prompt(problem, &parts);
    if swapped {
        prompt.push('~');
    }
    prompt
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

/// In how many questions the right answer has the higher P(True) of the two; a tie counts half.
fn within_questions(
    policy: &mut NativePolicy,
    problems: &[Problem],
    judged: &[Vec<Judged>],
) -> Result<Figure, LearnError> {
    let mut prompts = Vec::new();
    for (problem, samples) in problems.iter().zip(judged) {
        for answer in right_and_wrong(samples).into_iter().flatten() {
            prompts.push((judge_prompt(problem, &[], answer, false), false));
        }
    }
    let scores = p_true(policy, &prompts)?;
    let above = |pair: &[f64]| if pair[0] == pair[1] { 0.5 } else { f64::from(u8::from(pair[0] > pair[1])) };
    let pairs = scores.len() / 2;
    let value = scores.chunks_exact(2).map(above).sum::<f64>() / pairs.max(1) as f64;
    Ok(Figure { name: "right above wrong of the same question".into(), value, problems: pairs })
}

/// The reply that says right or wrong.
pub(crate) fn judge_label(right: bool, swapped: bool) -> &'static str {
    if right == swapped { "N" } else { "Y" }
}

/// P(True) of each prompt: both replies are scored and normalised over the two.
pub(crate) fn p_true(policy: &mut NativePolicy, prompts: &[(String, bool)]) -> Result<Vec<f64>, LearnError> {
    let mut rows = Vec::with_capacity(2 * prompts.len());
    for (prompt, swapped) in prompts {
        for right in [true, false] {
            rows.push(judge_row(policy, prompt, right, *swapped)?);
        }
    }
    let label = |logprobs: &Vec<f32>| f64::from(logprobs.first().copied().unwrap_or(f32::NEG_INFINITY));
    let scored = policy.logprobs(&rows)?;
    Ok(scored.chunks(2).map(|pair| 1.0 / (1.0 + (label(&pair[1]) - label(&pair[0])).exp())).collect())
}

/// A row that teaches the reply to a judge's prompt.
pub(crate) fn judge_row(
    encoder: &dyn Encode,
    prompt: &str,
    right: bool,
    swapped: bool,
) -> Result<TrainingRow, LearnError> {
    let row = text_row(encoder, prompt, judge_label(right, swapped))?;
    let mut weights = vec![END_WEIGHT; row.targets()];
    if let Some(label) = weights.first_mut() {
        *label = 1.0;
    }
    Ok(TrainingRow { weights, ..row })
}

impl LabModel for OwnJudge {
    fn name(&self) -> &'static str {
        if self.balanced { OWN_CRITIC } else { OWN_JUDGE }
    }

    fn summary(&self) -> &'static str {
        if self.balanced {
            return "the base model, trained to tell right from convincing wrong answers of its own to the same question";
        }
        "the base model, trained to say whether its own answers are right, alone or beside its other samples"
    }

    fn plan(&self) -> Plan {
        let mut rows = json!({
            "problems": self.problems, "samples": self.samples, "steps": self.steps,
            "solve_rows": self.solve_rows, "validation": self.validation,
        });
        if self.balanced {
            rows["balanced"] = true.into();
        }
        Plan {
            version: 1,
            start: Start::Base { words: Vec::new() },
            heads: Vec::new(),
            objective: "sft".into(),
            objective_settings: serde_json::Value::Null,
            train: self.train.clone(),
            rows,
        }
    }

    fn source(
        &self,
        policy: &mut NativePolicy,
        seed: u64,
        session: &Session<'_>,
    ) -> Result<Box<dyn BatchSource>, LearnError> {
        let (problems, judged) = self.sampled(policy, Split::Train, self.problems, mix(seed, 1), session)?;
        let mut rows = Vec::new();
        for (problem, samples) in problems.iter().zip(&judged) {
            rows.extend(self.rows(policy, problem, samples)?.into_iter().map(|row| vec![row]));
        }
        let (task, encoder) = (self.task()?, policy.encoder());
        let solve = Generated::new(self.solve_rows, mix(seed, 2), move |seed| {
            let problem = task.problems(Split::Train, 1, seed)?.into_iter().next();
            let row =
                problem.as_ref().map(skills::solve_row).transpose()?.ok_or_else(|| LearnError::Data {
                    what: "the arithmetic task gave no problem".into(),
                    hint: "set `steps` to a range that has problems".into(),
                })?;
            text_row(encoder.as_ref(), &row.prompt, &row.target)
        });
        let batch = self.train.batch.saturating_sub(self.solve_rows).max(1);
        Ok(Box::new(Blend(Epochs::new(rows, batch, mix(seed, 3))?, solve)))
    }

    fn validate(
        &self,
        policy: &mut NativePolicy,
        seed: u64,
        session: &Session<'_>,
    ) -> Result<Figure, LearnError> {
        let (problems, judged) =
            self.sampled(policy, Split::Validation, self.validation, mix(seed, 1), session)?;
        if self.balanced {
            return within_questions(policy, &problems, &judged);
        }
        let (mut prompts, mut labels) = (Vec::new(), Vec::new());
        for (problem, samples) in problems.iter().zip(&judged) {
            for answer in samples {
                prompts.push((judge_prompt(problem, &[], answer, false), false));
                labels.push(answer.verdict.is_correct());
            }
        }
        let scores = p_true(policy, &prompts)?;
        let value = auroc(&scores, &labels)?.unwrap_or(0.5);
        Ok(Figure { name: "AUROC of P(True) over own answers".into(), value, problems: problems.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use elenchus_learn::policy::Rollout;
    use elenchus_trace::{Outcome, Verdict};

    fn judged(answer: &str, right: bool, finished: bool) -> Judged {
        Judged {
            rollout: Rollout {
                text: format!("#{answer}"),
                tokens: Vec::new(),
                logprobs: Vec::new(),
                distributions: Vec::new(),
                finished,
            },
            verdict: Verdict {
                outcome: if right { Outcome::Correct } else { Outcome::Wrong },
                answer: Some(answer.into()),
                steps: Vec::new(),
                reason: None,
            },
            steps_right: right,
        }
    }

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

    #[test]
    fn a_question_gives_one_right_and_one_convincing_wrong_answer() {
        let samples = [
            judged("7", false, true),
            judged("5", true, true),
            judged("9", false, false),
            judged("8", false, true),
            judged("9", false, false),
            judged("8", false, true),
            judged("5", true, true),
        ];
        let [right, wrong] = right_and_wrong(&samples).unwrap();
        assert_eq!((right.rollout.text.as_str(), wrong.rollout.text.as_str()), ("#5", "#8"), "9 was cut");
        assert!(right_and_wrong(&samples[1..2]).is_none() && right_and_wrong(&samples[..1]).is_none());
    }

    #[test]
    fn rows_of_the_critic_are_balanced_within_each_question() {
        let mut problem = Problem::new("p", "t", "q");
        problem.compact = Some("e?".into());
        let samples = [judged("7", false, true), judged("5", true, true), judged("5", true, true)];
        let rows = OwnJudge::critic().rows(&Letters, &problem, &samples).unwrap();
        let label = |row: &TrainingRow| char::from_u32(row.tokens[row.first_target]).unwrap();
        let asked = |row: &TrainingRow| -> String {
            row.tokens[..row.first_target].iter().map(|&token| char::from_u32(token).unwrap()).collect()
        };
        let found: Vec<(bool, bool, char)> = rows
            .iter()
            .map(|row| (asked(row).contains("#5"), asked(row).ends_with('~'), label(row)))
            .collect();
        let wanted = [(true, false, 'Y'), (true, true, 'N'), (false, false, 'N'), (false, true, 'Y')];
        assert_eq!(found, wanted, "right and wrong, each in both orders of the labels");
        assert!(OwnJudge::critic().rows(&Letters, &problem, &samples[1..]).unwrap().is_empty());
        assert_eq!(
            OwnJudge::default().rows(&Letters, &problem, &samples).unwrap().len(),
            6,
            "all as they come"
        );
    }
}
