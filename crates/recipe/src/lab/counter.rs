//! `vote-counter`: the model of the mixed stream after training to count the answers of its own samples.

use super::stream::{LONGEST, MixedStream, STREAM, Scenario, solving};
use super::{Figure, LabModel, Plan, Start};
use elenchus_learn::objective::TrainingRow;
use elenchus_learn::policy::{Encode, Policy, text_row};
use elenchus_learn::rollouts::{Judged, RolloutSettings, judged_rollouts, mix};
use elenchus_learn::trainer::{BatchSource, Blend, Decay, Generated, TrainSettings};
use elenchus_learn::{LearnError, NativePolicy, Session};
use elenchus_task::{Split, Task};
use elenchus_trace::Problem;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Name of the checkpoint.
pub const COUNTER: &str = "vote-counter";

/// The tag of a count, and that of a choice of one response.
const COUNT: char = 'V';
const CHOOSE: char = 'W';

/// The vote task of self-agreement (arXiv 2311.08154; sheet 33, section 6): the question and k of the model's own samples
/// of it, `V{question}{sample}!{sample}!…` → every answer in digits with how often it has come so far, then the voted
/// one: `49:1,49:2,52:1,49:3#49`. The samples are those of training questions; the target is their true majority after
/// normalisation, never the reference answer, so that what is learned is counting and not solving.
///
/// As many rows teach the other way to let a model vote (universal self-consistency): `W…` → the number of the first
/// response with the most frequent answer. Rows of the stream keep it able to solve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Counter {
    /// Training problems of each scenario that are sampled.
    pub problems: usize,
    /// Samples of each, of which rows take some.
    pub samples: usize,
    /// Fewest and most samples in a row. From one on, which the sheet does not ask for: a count of one is what the gain of
    /// more is measured against, and must be no stranger to the model than they are.
    pub shown: [usize; 2],
    /// Temperature of the samples.
    pub temperature: f32,
    /// Rows of the stream in a batch; half of the others are counts, half are choices.
    pub solve_rows: usize,
    /// Validation problems of each scenario for the card.
    pub validation: usize,
    /// The training.
    pub train: TrainSettings,
}

impl Default for Counter {
    fn default() -> Self {
        Counter {
            problems: 1000,
            samples: 12,
            shown: [1, 9],
            temperature: 0.9,
            solve_rows: 4,
            validation: 100,
            train: TrainSettings {
                steps: 1200,
                batch: 20,
                learning_rate: 1e-3,
                warmup_steps: 30,
                decay: Decay::Linear,
                floor: 0.05,
                ..TrainSettings::default()
            },
        }
    }
}

/// Where the question stands in the prompt of a count; the model learns [`Question::InFront`], the others are to see
/// whether it counts or solves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    /// Before the responses.
    InFront,
    /// Behind them.
    Behind,
    /// Nowhere.
    LeftOut,
}

/// The prompt of a count.
pub(crate) fn count_prompt(problem: &Problem, texts: &[&str], place: Question) -> String {
    prompt(COUNT, problem, texts, place)
}

/// The prompt of a choice.
pub(crate) fn choice_prompt(problem: &Problem, texts: &[&str]) -> String {
    prompt(CHOOSE, problem, texts, Question::InFront)
}

fn prompt(tag: char, problem: &Problem, texts: &[&str], place: Question) -> String {
    let question = problem.compact.as_deref().unwrap_or(&problem.question);
    let shown: String = texts.iter().map(|text| format!("{text}!")).collect();
    match place {
        Question::InFront => format!("{tag}{question}{shown}"),
        Question::Behind => format!("{tag}{shown}{question}"),
        Question::LeftOut => format!("{tag}{shown}"),
    }
}

/// The right count of answers: each with its running number, then the first that reached the largest one.
pub(crate) fn count_of(answers: &[Option<&str>]) -> String {
    let mut seen: Vec<(&str, usize)> = Vec::new();
    let mut parts = Vec::with_capacity(answers.len());
    let mut best: Option<(&str, usize)> = None;
    for answer in answers {
        let Some(answer) = answer else {
            parts.push("?".to_string());
            continue;
        };
        let place = seen.iter().position(|(known, _)| known == answer).unwrap_or_else(|| {
            seen.push((answer, 0));
            seen.len() - 1
        });
        seen[place].1 += 1;
        parts.push(format!("{answer}:{}", seen[place].1));
        if best.is_none_or(|(_, most)| seen[place].1 > most) {
            best = Some(seen[place]);
        }
    }
    format!("{}#{}", parts.join(","), best.map_or("?", |(answer, _)| answer))
}

/// The voted answer of a count: what stands behind the last `#`.
pub(crate) fn voted(reply: &str) -> Option<&str> {
    let voted = reply.rsplit_once('#')?.1.trim();
    (!voted.is_empty()).then_some(voted)
}

/// The number of the chosen response, from 0.
pub(crate) fn chosen(reply: &str, count: usize) -> Option<usize> {
    let number: usize = reply.trim().parse().ok()?;
    (1..=count).contains(&number).then(|| number - 1)
}

/// The answer that most samples have, and how many; `unique` says whether no other has as many.
pub(crate) struct Majority<'a> {
    pub answer: &'a str,
    pub unique: bool,
}

/// The majority of answers that are in their normal form.
pub(crate) fn true_majority<'a>(answers: &[Option<&'a str>]) -> Option<Majority<'a>> {
    let vote = elenchus_control::majority(answers, |left, right| left == right);
    let winner = vote.winner?;
    let most = vote.counts[winner];
    let unique = vote.counts.iter().filter(|&&count| count == most).count() == 1;
    Some(Majority { answer: answers[vote.groups.first[winner]]?, unique })
}

type Sampled = Vec<(Problem, Vec<Judged>)>;

impl Counter {
    fn sampled(
        &self,
        policy: &mut NativePolicy,
        split: Split,
        count: usize,
        seed: u64,
        session: &Session<'_>,
    ) -> Result<Sampled, LearnError> {
        let mut sampled = Vec::new();
        for (place, scenario) in Scenario::ALL.into_iter().enumerate() {
            let task = MixedStream::new(scenario)?;
            let problems = task.problems(split, count, mix(seed, place as u64))?;
            let settings = RolloutSettings {
                samples: self.samples,
                temperature: self.temperature,
                max_new_tokens: LONGEST,
                seed: mix(seed, 10 + place as u64),
                distributions: false,
            };
            session.observer.phase(0, "own answers", problems.len());
            let label = format!("own/{split:?}/{scenario:?}").to_lowercase();
            let judged = judged_rollouts(policy, &task, &problems, &settings, &label, session)?;
            sampled.extend(problems.into_iter().zip(judged));
        }
        Ok(sampled)
    }
}

/// Some of the samples of a question, in random order.
pub(super) fn drawn<'a>(samples: &'a [Judged], count: usize, random: &mut ChaCha8Rng) -> Vec<&'a Judged> {
    let mut all: Vec<&Judged> = samples.iter().collect();
    let (shown, _) = all.partial_shuffle(random, count);
    shown.to_vec()
}

/// The row of a count or of a choice; `None` where no sample has an answer.
pub(super) fn row(
    encoder: &dyn Encode,
    problem: &Problem,
    shown: &[&Judged],
    count: bool,
) -> Result<Option<TrainingRow>, LearnError> {
    let answers: Vec<Option<&str>> = shown.iter().map(|judged| judged.verdict.answer.as_deref()).collect();
    let texts: Vec<&str> = shown.iter().map(|judged| judged.rollout.text.as_str()).collect();
    let Some(majority) = true_majority(&answers) else { return Ok(None) };
    if count {
        return text_row(encoder, &count_prompt(problem, &texts, Question::InFront), &count_of(&answers))
            .map(Some);
    }
    let first = answers.iter().position(|answer| *answer == Some(majority.answer)).map_or(1, |at| at + 1);
    text_row(encoder, &choice_prompt(problem, &texts), &first.to_string()).map(Some)
}

impl LabModel for Counter {
    fn name(&self) -> &'static str {
        COUNTER
    }

    fn summary(&self) -> &'static str {
        "the model of the mixed stream, trained to count the answers of its own samples"
    }

    fn plan(&self) -> Plan {
        Plan {
            version: 1,
            start: Start::Lab { name: STREAM.into() },
            heads: Vec::new(),
            objective: "sft".into(),
            objective_settings: serde_json::Value::Null,
            train: self.train.clone(),
            rows: json!({
                "problems": self.problems, "samples": self.samples, "shown": self.shown,
                "temperature": self.temperature, "solve_rows": self.solve_rows, "validation": self.validation,
            }),
        }
    }

    fn source(
        &self,
        policy: &mut NativePolicy,
        seed: u64,
        session: &Session<'_>,
    ) -> Result<Box<dyn BatchSource>, LearnError> {
        let sampled = self.sampled(policy, Split::Train, self.problems, mix(seed, 1), session)?;
        let encoder = policy.encoder();
        let [fewest, most] = self.shown;
        let most = most.min(self.samples);
        let batch = self.train.batch.saturating_sub(self.solve_rows).max(1);
        let votes = Generated::new(batch, mix(seed, 2), move |seed| {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            // Questions whose samples have no answer at all teach nothing about counting; there are few.
            for _ in 0..100 {
                let (problem, samples) = &sampled[random.random_range(0..sampled.len())];
                let count = random.random_range(fewest.min(most)..=most);
                let shown = drawn(samples, count, &mut random);
                if let Some(row) = row(encoder.as_ref(), problem, &shown, random.random_bool(0.5))? {
                    return Ok(row);
                }
            }
            Err(LearnError::Data {
                what: "the samples of the mixed stream have no answers to count".into(),
                hint: "train the checkpoint `mixed-stream` for more steps".into(),
            })
        });
        Ok(Box::new(Blend(votes, solving(policy, self.problems, self.solve_rows, mix(seed, 3))?)))
    }

    /// Share of counts that name the true majority, where there is one, over 1, 3, 5 and 9 samples.
    fn validate(
        &self,
        policy: &mut NativePolicy,
        seed: u64,
        session: &Session<'_>,
    ) -> Result<Figure, LearnError> {
        let sampled = self.sampled(policy, Split::Validation, self.validation, mix(seed, 1), session)?;
        let (mut right, mut asked) = (0usize, 0usize);
        for count in [1, 3, 5, 9] {
            let mut cases = Vec::new();
            for (problem, samples) in &sampled {
                let shown = &samples[..count.min(samples.len())];
                let answers: Vec<Option<&str>> = shown.iter().map(|j| j.verdict.answer.as_deref()).collect();
                if let Some(majority) = true_majority(&answers).filter(|majority| majority.unique) {
                    let texts: Vec<&str> = shown.iter().map(|j| j.rollout.text.as_str()).collect();
                    cases.push((
                        count_prompt(problem, &texts, Question::InFront),
                        majority.answer.to_string(),
                    ));
                }
            }
            let (found, _) = session.once::<usize>(&format!("fidelity/{count}"), || {
                let requests: Vec<_> = cases
                    .iter()
                    .map(|(prompt, _)| elenchus_learn::policy::RolloutRequest {
                        prompt: prompt.clone(),
                        samples: 1,
                        seed: 1,
                        temperature: 0.0,
                        max_new_tokens: COUNT_TOKENS,
                        distributions: false,
                    })
                    .collect();
                let replies = policy.sample(&requests)?;
                let named =
                    |(replies, (_, majority)): &(Vec<elenchus_learn::policy::Rollout>, &(String, String))| {
                        replies.first().and_then(|reply| voted(&reply.text)) == Some(majority.as_str())
                    };
                Ok(replies.into_iter().zip(&cases).filter(named).count())
            })?;
            right += found;
            asked += cases.len();
        }
        let value = right as f64 / asked.max(1) as f64;
        Ok(Figure { name: "counts that name the true majority".into(), value, problems: asked })
    }
}

/// Most tokens of a count of nine answers of three digits.
pub(crate) const COUNT_TOKENS: usize = 70;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_names_the_first_answer_that_reached_the_most_votes() {
        let answers = [Some("49"), Some("52"), None, Some("52"), Some("49"), Some("49")];
        assert_eq!(count_of(&answers), "49:1,52:1,?,52:2,49:2,49:3#49");
        assert_eq!(voted(&count_of(&answers)), Some("49"));
        assert_eq!(
            count_of(&[Some("7"), Some("8"), Some("8"), Some("7")]),
            "7:1,8:1,8:2,7:2#8",
            "the first to have two"
        );
        assert_eq!(count_of(&[None, None]), "?,?#?");
        for (reply, wanted) in [("49:1#49", Some("49")), ("49:1", None), ("49:1#", None), ("#1#2", Some("2"))]
        {
            assert_eq!(voted(reply), wanted, "{reply}");
        }
    }

    #[test]
    fn rows_have_as_few_samples_as_the_experiment_counts() {
        let experiment = crate::built_in("self-agreement").unwrap().reproduce.unwrap();
        let [fewest, most] = Counter::default().shown;
        for size in [&experiment.quick, &experiment.full] {
            let counts = size["counts"].as_array().unwrap().iter().chain([&size["samples"]]);
            for count in counts.map(|count| count.as_u64().unwrap() as usize) {
                assert!((fewest..=most).contains(&count), "{count} samples are counted and never learned");
            }
        }
    }

    #[test]
    fn the_majority_of_the_sheet_is_that_of_normal_forms() {
        // "6 hours", "6", "8", "6 hours per week", "8" in this notation: 8 has most as a text, 6 as a number.
        let written = ["6coins", "6", "8", "so6coins", "8"];
        let exact = elenchus_control::majority(&written.map(Some), |a, b| a == b);
        assert_eq!(exact.sample().map(|s| written[s]), Some("8"));
        let normal: Vec<Option<String>> =
            written.iter().map(|text| super::super::stream::normal_answer(text)).collect();
        let normal: Vec<Option<&str>> = normal.iter().map(Option::as_deref).collect();
        let majority = true_majority(&normal).unwrap();
        assert_eq!((majority.answer, majority.unique), ("6", true));
        assert!(!true_majority(&[Some("6"), Some("8")]).unwrap().unique);
        assert!(true_majority(&[None, None]).is_none());
    }

    #[test]
    fn a_chosen_response_is_one_of_the_list() {
        assert_eq!(
            (chosen("3", 5), chosen("0", 5), chosen("6", 5), chosen("3!", 5)),
            (Some(2), None, None, None)
        );
        let mut problem = Problem::new("p", "t", "q");
        problem.compact = Some("e?".into());
        assert_eq!(count_prompt(&problem, &["a", "b"], Question::InFront), "Ve?a!b!");
        assert_eq!(count_prompt(&problem, &["a"], Question::Behind), "Va!e?");
        assert_eq!(count_prompt(&problem, &["a"], Question::LeftOut), "Va!");
        assert_eq!(choice_prompt(&problem, &["a"]), "We?a!");
    }
}
