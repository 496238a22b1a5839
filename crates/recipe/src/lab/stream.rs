//! `mixed-stream`: the base model after training on a stream of several kinds of questions whose answers are written in
//! several ways, and the task of that stream.

use super::{Figure, LabModel, Plan, Start};
use elenchus_learn::objective::TrainingRow;
use elenchus_learn::policy::{Policy, text_row};
use elenchus_learn::rollouts::{RolloutSettings, judged_rollouts, mix};
use elenchus_learn::trainer::{BatchSource, Decay, Generated, TrainSettings};
use elenchus_learn::{LearnError, NativePolicy, Session};
use elenchus_task::arithmetic::{Arithmetic, ArithmeticSettings, Form, Steps, Surface};
use elenchus_task::facts::{Facts, FactsSettings};
use elenchus_task::{Skill, Split, Task, TaskError};
use elenchus_trace::{Outcome, Problem, Verdict};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Name of the checkpoint.
pub const STREAM: &str = "mixed-stream";

/// The digits in words, and the words around an answer: what is added to the vocabulary.
const DIGITS: [&str; 10] = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
const SO: &str = "so";
const UNIT: &str = "coins";

/// Words that the stream adds to the vocabulary.
pub(super) fn words() -> Vec<String> {
    DIGITS.iter().chain([&SO, &UNIT]).map(|word| (*word).to_string()).collect()
}

/// What is known of questions and answers beforehand (arXiv 2311.08154, section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// Neither the kind of a question nor the form of an answer: no sign stands before an answer, and it is written in
    /// any of the forms.
    Unknown,
    /// Questions of any kind; `#` stands before an answer, which is written in any of the forms.
    FormatKnown,
    /// `#` stands before an answer, which is written in digits.
    BothKnown,
}

impl Scenario {
    /// All of them.
    pub const ALL: [Scenario; 3] = [Scenario::Unknown, Scenario::FormatKnown, Scenario::BothKnown];

    /// In front of a question: what examples of solutions in a prompt would tell a larger model.
    fn mark(self) -> &'static str {
        match self {
            Scenario::Unknown => "~",
            Scenario::FormatKnown => ">",
            Scenario::BothKnown => "",
        }
    }

    fn before_answer(self) -> char {
        if self == Scenario::Unknown { ';' } else { '#' }
    }
}

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    /// `49`
    Digits,
    /// `49coins`
    WithUnit,
    /// `so49coins`
    Sentence,
    /// `four-nine`
    Words,
}

impl Written {
    const ALL: [Written; 4] = [Written::Digits, Written::WithUnit, Written::Sentence, Written::Words];

    fn text(self, value: &str) -> String {
        match self {
            Written::Digits => value.to_string(),
            Written::WithUnit => format!("{value}{UNIT}"),
            Written::Sentence => format!("{SO}{value}{UNIT}"),
            Written::Words => {
                let word = |c: char| c.to_digit(10).map_or("", |digit| DIGITS[digit as usize]);
                value.chars().map(word).collect::<Vec<_>>().join("-")
            }
        }
    }
}

/// The answer of a response as it is written: what stands behind the last `#` or `;`.
pub(crate) fn written_answer(response: &str) -> &str {
    response.rfind(['#', ';']).map_or(response, |at| &response[at + 1..]).trim()
}

/// The number that an answer means, in digits, however it is written; `None` where it means none.
pub(crate) fn normal_answer(written: &str) -> Option<String> {
    let plain = written.trim().strip_prefix(SO).unwrap_or(written.trim());
    let plain = plain.strip_suffix(UNIT).unwrap_or(plain);
    let digit = |word: &str| DIGITS.iter().position(|known| *known == word).map(|digit| digit.to_string());
    let digits = match plain.split('-').map(digit).collect::<Option<String>>() {
        Some(spelled) => spelled,
        None => plain.to_string(),
    };
    let number = !digits.is_empty() && digits.len() < 10 && digits.bytes().all(|byte| byte.is_ascii_digit());
    // `07` means 7.
    number.then(|| digits.trim_start_matches('0')).map(|d| if d.is_empty() { "0".into() } else { d.into() })
}

/// A stream of questions of four kinds, as many of each: chains of operations, a masked number, problems in words, and
/// statements in which one is looked up. All have a whole number as their answer.
pub(crate) struct MixedStream {
    scenario: Scenario,
    kinds: Vec<Box<dyn Task>>,
}

impl MixedStream {
    /// The stream in a scenario.
    pub fn new(scenario: Scenario) -> Result<Self, TaskError> {
        let arithmetic = |form, surface, steps| {
            let settings = ArithmeticSettings {
                form,
                surface,
                steps: Steps::Between(steps),
                distractors: [0, 1],
                ..Default::default()
            };
            Arithmetic::new(settings).map(|task| Box::new(task) as Box<dyn Task>)
        };
        let lookup = FactsSettings { entities: 600, shown: 3, unanswerable: 0.0, ..Default::default() };
        let kinds = vec![
            arithmetic(Form::Chain, Surface::Symbols, [2, 4])?,
            arithmetic(Form::Backward, Surface::Symbols, [2, 3])?,
            arithmetic(Form::Chain, Surface::Words, [2, 3])?,
            Box::new(Facts::new(lookup)?),
        ];
        Ok(MixedStream { scenario, kinds })
    }

    /// Names of the kinds; a problem's `data` has the index.
    pub const KINDS: [&str; 4] = ["chain", "masked number", "in words", "look-up"];

    /// What is to be written: the reference of the kind, its answer in a form drawn by `random`.
    fn target(&self, problem: &Problem, random: &mut ChaCha8Rng) -> Option<String> {
        let reference = problem.data["reference"].as_str()?;
        let (steps, answer) = reference.rsplit_once('#')?;
        let written = match self.scenario {
            Scenario::BothKnown => Written::Digits,
            _ => Written::ALL[random.random_range(0..Written::ALL.len())],
        };
        let text = written.text(answer);
        // Nothing stands before an answer that has no steps and no sign.
        let before = match (self.scenario, steps.is_empty()) {
            (Scenario::Unknown, true) => String::new(),
            (scenario, _) => scenario.before_answer().to_string(),
        };
        Some(format!("{steps}{before}{text}"))
    }
}

impl Task for MixedStream {
    fn name(&self) -> &'static str {
        STREAM
    }

    fn summary(&self) -> &'static str {
        "questions of four kinds with answers written in several ways"
    }

    fn problems(&self, split: Split, count: usize, seed: u64) -> Result<Vec<Problem>, TaskError> {
        let mut stream = Vec::with_capacity(count);
        for (kind, task) in self.kinds.iter().enumerate() {
            let wanted = (count + self.kinds.len() - 1 - kind) / self.kinds.len();
            for problem in task.problems(split, wanted, mix(seed, kind as u64))? {
                let mut asked = Problem::new(format!("{kind}-{}", problem.id), STREAM, &problem.question);
                let compact = problem.compact.as_deref().unwrap_or(&problem.question);
                asked.compact = Some(format!("{}{compact}", self.scenario.mark()));
                asked.data = json!({ "kind": kind, "reference": task.reference(&problem) });
                asked.gold = problem.gold;
                stream.push(asked);
            }
        }
        stream.shuffle(&mut ChaCha8Rng::seed_from_u64(mix(seed, 9)));
        Ok(stream)
    }

    fn extract(&self, _: &Problem, response: &str) -> Option<String> {
        normal_answer(written_answer(response))
    }

    fn equivalent(&self, _: &Problem, left: &str, right: &str) -> bool {
        left == right
    }

    fn verify(&self, problem: &Problem, response: &str) -> Result<Verdict, TaskError> {
        let answer = self.extract(problem, response);
        let outcome = match &answer {
            None => Outcome::NoAnswer,
            Some(_) if answer == problem.gold => Outcome::Correct,
            Some(_) => Outcome::Wrong,
        };
        Ok(Verdict { outcome, answer, steps: Vec::new(), reason: None })
    }
}

/// The base model on the mixed stream, in all three scenarios.
#[derive(Debug, Clone, PartialEq)]
pub struct Stream {
    /// Training problems of each scenario.
    pub problems: usize,
    /// Validation problems for the card.
    pub validation: usize,
    /// The training.
    pub train: TrainSettings,
}

impl Default for Stream {
    fn default() -> Self {
        Stream {
            problems: 4000,
            validation: 120,
            train: TrainSettings {
                steps: 500,
                batch: 32,
                learning_rate: 1e-3,
                warmup_steps: 20,
                decay: Decay::Linear,
                floor: 0.1,
                ..TrainSettings::default()
            },
        }
    }
}

impl LabModel for Stream {
    fn name(&self) -> &'static str {
        STREAM
    }

    fn summary(&self) -> &'static str {
        "answers four kinds of questions in several forms, with and without a sign before the answer"
    }

    fn plan(&self) -> Plan {
        Plan {
            version: 1,
            start: Start::Base { words: words() },
            heads: Vec::new(),
            objective: "sft".into(),
            objective_settings: serde_json::Value::Null,
            train: self.train.clone(),
            rows: json!({ "problems": self.problems, "validation": self.validation }),
        }
    }

    fn source(
        &self,
        policy: &mut NativePolicy,
        seed: u64,
        _: &Session<'_>,
    ) -> Result<Box<dyn BatchSource>, LearnError> {
        Ok(Box::new(solving(policy, self.problems, self.train.batch, seed)?))
    }

    /// Right answers of one sample each, all scenarios.
    fn validate(
        &self,
        policy: &mut NativePolicy,
        seed: u64,
        session: &Session<'_>,
    ) -> Result<Figure, LearnError> {
        let (mut right, mut asked) = (0, 0);
        for scenario in Scenario::ALL {
            let task = MixedStream::new(scenario)?;
            let problems = task.problems(Split::Validation, self.validation, mix(seed, 1))?;
            let settings = RolloutSettings {
                samples: 1,
                temperature: 0.7,
                max_new_tokens: LONGEST,
                seed: mix(seed, 2),
                distributions: false,
            };
            let label = format!("validation/{scenario:?}").to_lowercase();
            let judged = judged_rollouts(policy, &task, &problems, &settings, &label, session)?;
            right += judged.iter().flatten().filter(|judged| judged.verdict.is_correct()).count();
            asked += problems.len();
        }
        let value = right as f64 / asked.max(1) as f64;
        Ok(Figure { name: "right answers, one sample at temperature 0.7".into(), value, problems: asked })
    }
}

/// Most tokens of a response to a question of the stream.
pub(crate) const LONGEST: usize = 90;

/// Rows of training problems in all scenarios, `S{problem}` → reference with its answer in any form.
pub(super) fn solving(
    policy: &NativePolicy,
    problems: usize,
    batch: usize,
    seed: u64,
) -> Result<Generated<impl FnMut(u64) -> Result<TrainingRow, LearnError> + Send + 'static>, LearnError> {
    let mut asked = Vec::new();
    for (place, scenario) in Scenario::ALL.into_iter().enumerate() {
        let task = MixedStream::new(scenario)?;
        let problems = task.problems(Split::Train, problems, mix(seed, 10 + place as u64))?;
        asked.push((task, problems));
    }
    let encoder = policy.encoder();
    Ok(Generated::new(batch, mix(seed, 1), move |seed| {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let (task, problems) = &asked[random.random_range(0..asked.len())];
        let problem = &problems[random.random_range(0..problems.len())];
        let target = task.target(problem, &mut random).ok_or_else(|| LearnError::Data {
            what: format!("problem `{}` of the mixed stream has no reference", problem.id),
            hint: "take kinds of questions whose task writes references".into(),
        })?;
        text_row(encoder.as_ref(), &Skill::Solve.prompt(problem, &[]), &target)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_means_the_same_in_every_form() {
        for value in ["0", "7", "49", "130", "905"] {
            for written in Written::ALL {
                let text = written.text(value);
                assert_eq!(normal_answer(&text).as_deref(), Some(value), "{text}");
            }
        }
        assert_eq!(Written::Words.text("905"), "nine-zero-five");
        assert_eq!(Written::Sentence.text("49"), "so49coins");
        assert_eq!(normal_answer("07").as_deref(), Some("7"));
        for none in ["", "so", "coins", "e=50", "four-", "4-9", "so four", "99999999999"] {
            assert_eq!(normal_answer(none), None, "{none}");
        }
    }

    #[test]
    fn the_answer_stands_behind_the_last_sign() {
        assert_eq!(written_answer("g=50;e=50-1=49;so49coins"), "so49coins");
        assert_eq!(written_answer("g=50;e=50-1=49#four-nine"), "four-nine");
        assert_eq!(written_answer("47"), "47");
        assert_eq!(written_answer(""), "");
    }

    #[test]
    fn the_stream_has_all_kinds_and_its_references_are_right_in_every_scenario() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        for scenario in Scenario::ALL {
            let task = MixedStream::new(scenario).unwrap();
            let problems = task.problems(Split::Train, 202, 3).unwrap();
            assert_eq!(problems.len(), 202);
            let mut seen = [0; 4];
            for problem in &problems {
                seen[problem.data["kind"].as_u64().unwrap() as usize] += 1;
                let target = task.target(problem, &mut random).unwrap();
                assert!(task.verify(problem, &target).unwrap().is_correct(), "{problem:?} {target}");
                assert_eq!(target.contains('#'), scenario != Scenario::Unknown, "{target}");
            }
            assert_eq!(seen, [51, 51, 50, 50]);
        }
        let task = MixedStream::new(Scenario::Unknown).unwrap();
        let ids = |split| -> Vec<String> {
            task.problems(split, 100, 3).unwrap().into_iter().map(|problem| problem.id).collect()
        };
        let train = ids(Split::Train);
        assert!(ids(Split::Test).iter().all(|id| !train.contains(id)), "no problem is in two splits");
    }
}
