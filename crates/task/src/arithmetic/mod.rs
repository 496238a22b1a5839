//! Generated multi-step arithmetic, with every step verified.
//!
//! A problem is a chain of statements (`g=50;e=g-1;d=e+81;l=89;d?`); a solution writes one equation per step
//! (`g=50;e=50-1=49;d=49+81=130#130`). Four forms, two surfaces, a dial of 1 to 10 operations.

pub mod chain;
pub mod corrupt;
pub mod forms;
pub mod generate;
pub mod parse;
pub mod settings;
pub mod skills;
pub mod verify;
pub mod words;

pub use chain::{Chain, Plan};
pub use corrupt::{Corrupted, gold_chat, gold_compact};
pub use forms::{Exercise, TASK};
pub use generate::ChainGenerator;
pub use settings::{ArithmeticSettings, Form, Preset, Steps, Surface};
pub use skills::{SkillGenerator, SkillMix, SkillRow};
pub use verify::{ErrorKind, Examination};
pub use words::vocabulary;

use crate::{Split, Task, TaskError};
use elenchus_trace::{Problem, Step, Verdict};
use std::collections::HashSet;

/// The arithmetic task.
#[derive(Debug, Clone)]
pub struct Arithmetic {
    settings: ArithmeticSettings,
}

/// Draws exercises one after another; they may repeat.
#[derive(Debug, Clone)]
pub struct ExerciseGenerator {
    settings: ArithmeticSettings,
    chains: ChainGenerator,
}

impl ExerciseGenerator {
    /// A generator for exercises of a split (`None`: of all splits).
    ///
    /// # Errors
    /// A setting out of range.
    pub fn new(settings: &ArithmeticSettings, split: Option<Split>, seed: u64) -> Result<Self, TaskError> {
        Ok(ExerciseGenerator {
            settings: settings.clone(),
            chains: ChainGenerator::new(settings, split, seed)?,
        })
    }

    /// The next exercise.
    pub fn next_exercise(&mut self) -> Exercise {
        loop {
            let chain = self.chains.next_chain();
            if let Some(exercise) = Exercise::draw(chain, &self.settings, self.chains.random()) {
                return exercise;
            }
        }
    }
}

impl Arithmetic {
    /// The task with these settings.
    ///
    /// # Errors
    /// A setting out of range.
    pub fn new(settings: ArithmeticSettings) -> Result<Self, TaskError> {
        settings.check()?;
        Ok(Arithmetic { settings })
    }

    /// The settings.
    pub fn settings(&self) -> &ArithmeticSettings {
        &self.settings
    }

    /// What is right and wrong in a response, with the kind of each error.
    ///
    /// # Errors
    /// The problem is not of this task.
    pub fn examine(problem: &Problem, response: &str) -> Result<Examination, TaskError> {
        Ok(verify::examine(&Exercise::from_problem(problem)?, response))
    }

    /// The kind of the first error of a response; `None` for a clean one.
    ///
    /// # Errors
    /// The problem is not of this task.
    pub fn error_kind(problem: &Problem, response: &str) -> Result<Option<ErrorKind>, TaskError> {
        Ok(Self::examine(problem, response)?.error())
    }
}

impl Task for Arithmetic {
    fn name(&self) -> &'static str {
        TASK
    }

    fn summary(&self) -> &'static str {
        SUMMARY
    }

    fn problems(&self, split: Split, count: usize, seed: u64) -> Result<Vec<Problem>, TaskError> {
        let mut generator = ExerciseGenerator::new(&self.settings, Some(split), seed)?;
        let mut seen: HashSet<String> = HashSet::with_capacity(count);
        let mut problems = Vec::with_capacity(count);
        let mut repeated = 0usize;
        while problems.len() < count {
            let problem = generator.next_exercise().problem();
            if seen.insert(problem.id.clone()) {
                problems.push(problem);
                repeated = 0;
            } else {
                repeated += 1;
                // With a share p of new problems left, so many repetitions in a row have probability (1-p)^10000.
                if repeated > 10_000 {
                    return Err(TaskError::Setting {
                        field: "count".to_string(),
                        problem: format!(
                            "asks for {count} problems, but these settings give only about {} distinct ones in this split",
                            problems.len()
                        ),
                        hint: "ask for fewer problems, or allow more steps, letters or larger values"
                            .to_string(),
                    });
                }
            }
        }
        Ok(problems)
    }

    fn extract(&self, problem: &Problem, response: &str) -> Option<String> {
        verify::extract(&Exercise::from_problem(problem).ok()?, response)
    }

    fn equivalent(&self, problem: &Problem, left: &str, right: &str) -> bool {
        let normal = |answer: &str| match parse::normal_number(answer) {
            Some(number) => problem
                .options
                .iter()
                .find(|option| option.text == number.to_string())
                .map_or_else(|| number.to_string(), |option| option.label.clone()),
            None => answer.trim().to_string(),
        };
        normal(left) == normal(right)
    }

    fn verify(&self, problem: &Problem, response: &str) -> Result<Verdict, TaskError> {
        Ok(Self::examine(problem, response)?.verdict())
    }

    fn reference(&self, problem: &Problem) -> Option<String> {
        gold_compact(&Exercise::from_problem(problem).ok()?)
    }

    fn steps(&self, _problem: &Problem, response: &str) -> Vec<Step> {
        let voice = parse::Voice::of(response);
        parse::equations(response, voice).into_iter().map(|equation| equation.step).collect()
    }
}

/// One line for lists and help.
pub const SUMMARY: &str =
    "generated multi-step arithmetic with every step verified (1 to 10 operations, four forms)";

#[cfg(test)]
mod tests {
    use super::*;
    use elenchus_trace::Outcome;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    fn settings(form: Form, surface: Surface) -> ArithmeticSettings {
        ArithmeticSettings {
            form,
            surface,
            steps: Steps::Between([1, 10]),
            letters: 13,
            ..Default::default()
        }
    }

    fn all_settings() -> Vec<ArithmeticSettings> {
        let mut all = Vec::new();
        for form in [Form::Chain, Form::Direct, Form::Choice, Form::Backward] {
            for surface in [Surface::Symbols, Surface::Words] {
                all.push(settings(form, surface));
                all.push(ArithmeticSettings { second_variable: 0.6, ..settings(form, surface) });
            }
        }
        all
    }

    /// The problem of the brief: `g=50;e=g-1;d=e+81;l=89;d?`.
    fn example(form: Kind) -> Problem {
        let chain = Chain::parse(&["g=50", "e=g-1", "d=e+81", "l=89"], "d", "example").unwrap();
        Exercise { chain, in_words: false, kind: form }.problem()
    }

    use forms::Kind;

    #[test]
    fn example_reads_as_documented() {
        let problem = example(Kind::Chain);
        assert_eq!(problem.compact.as_deref(), Some("g=50;e=g-1;d=e+81;l=89;d?"));
        let exercise = Exercise::from_problem(&problem).unwrap();
        assert_eq!(gold_compact(&exercise).unwrap(), "g=50;e=50-1=49;d=49+81=130#130");
        assert_eq!(gold_chat(&exercise).unwrap(), "g = 50\ne = 50 - 1 = 49\nd = 49 + 81 = 130\nAnswer: 130");
        let masked = example(Kind::Backward { masked: 1, given: 130 });
        assert_eq!(masked.compact.as_deref(), Some("g=50;e=g-_;d=e+81;l=89;d=130;_?"));
        let exercise = Exercise::from_problem(&masked).unwrap();
        assert_eq!(gold_compact(&exercise).unwrap(), "e=130-81=49;_=50-49=1#1");
    }

    #[test]
    fn gold_always_verifies_without_a_wrong_step() {
        for settings in all_settings() {
            let task = Arithmetic::new(settings.clone()).unwrap();
            for problem in task.problems(Split::Train, 300, 5).unwrap() {
                let exercise = Exercise::from_problem(&problem).unwrap();
                for text in [gold_compact(&exercise).unwrap(), gold_chat(&exercise).unwrap()] {
                    let examination = Arithmetic::examine(&problem, &text).unwrap();
                    assert_eq!(examination.outcome, Outcome::Correct, "{problem:?}\n{text}");
                    assert_eq!(examination.error(), None, "{problem:?}\n{text}\n{examination:?}");
                    let verdict = task.verify(&problem, &text).unwrap();
                    assert!(verdict.is_correct() && verdict.first_wrong_step().is_none());
                    assert_eq!(verdict.answer, problem.gold);
                }
            }
        }
    }

    #[test]
    fn corruption_is_found_at_its_place_with_its_kind() {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        for settings in all_settings() {
            let task = Arithmetic::new(settings).unwrap();
            for problem in task.problems(Split::Train, 300, 6).unwrap() {
                let exercise = Exercise::from_problem(&problem).unwrap();
                let Some(corrupted) = corrupt::corrupt(&exercise, &mut random) else { continue };
                for text in [corrupted.compact(&exercise), corrupted.chat(&exercise)] {
                    let examination = Arithmetic::examine(&problem, &text).unwrap();
                    assert_eq!(examination.outcome, Outcome::Wrong, "{problem:?}\n{text}");
                    assert_eq!(
                        examination.first_wrong(),
                        Some(corrupted.place),
                        "{problem:?}\n{text}\n{examination:?}"
                    );
                    assert_eq!(examination.error(), Some(corrupted.kind), "{problem:?}\n{text}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_is_judged_without_panic(text in "\\PC{0,60}", tail in "[a-z0-9=;#+*/ _XAB.,\\n\\\\{}-]{0,60}") {
            for kind in [Kind::Chain, Kind::Choice { values: [1, 130, 2, 3], right: 1 }, Kind::Backward { masked: 0, given: 130 }] {
                let problem = example(kind);
                let response = format!("{text}{tail}");
                let examination = Arithmetic::examine(&problem, &response).unwrap();
                for step in &examination.steps {
                    prop_assert_eq!(&response[step.step.start..step.step.end], &step.step.text);
                }
                let task = Arithmetic::new(ArithmeticSettings::default()).unwrap();
                prop_assert_eq!(task.steps(&problem, &response).len(), examination.written);
            }
        }
    }
}
