//! Generated multi-step arithmetic, with every step verified.
//!
//! A problem is a chain of statements (`g=50;e=g-1;d=e+81;l=89;d?`); a solution writes one equation per step
//! (`g=50;e=50-1=49;d=49+81=130#130`). Four forms, two surfaces, a dial of 1 to 10 operations.

pub mod chain;
pub mod corrupt;
pub mod dispute;
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
pub use words::{NAMES, vocabulary};

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

    fn backward(&self, problem: &Problem, candidate: &str) -> Option<Vec<Problem>> {
        Some(skills::backward_problems(problem, candidate).unwrap_or_default())
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

    /// The measured distribution of the embedded model's task: mean 38 prompt and 55 answer tokens over 2 to 6 steps,
    /// one token per character.
    #[test]
    fn lengths_match_the_measured_distribution() {
        let settings = ArithmeticSettings::preset(Preset::Mixed);
        let problems = Arithmetic::new(settings).unwrap().problems(Split::Train, 4000, 1).unwrap();
        let (mut prompt, mut target) = (0.0, 0.0);
        for problem in &problems {
            prompt += problem.compact.as_ref().unwrap().len() as f64;
            target += gold_compact(&Exercise::from_problem(problem).unwrap()).unwrap().len() as f64;
        }
        let (prompt, target) = (prompt / problems.len() as f64, target / problems.len() as f64);
        assert!((36.0..40.0).contains(&prompt), "mean prompt {prompt}");
        assert!((51.0..57.0).contains(&target), "mean answer {target}");
    }

    /// Prints rates; run with `cargo test --release -p elenchus-task rates -- --ignored --nocapture`.
    #[test]
    #[ignore = "a measurement, not a check"]
    fn rates() {
        for (name, settings) in [
            ("default train", ArithmeticSettings::default()),
            ("words", ArithmeticSettings { surface: Surface::Words, ..Default::default() }),
            ("choice", ArithmeticSettings { form: Form::Choice, ..Default::default() }),
            ("backward", ArithmeticSettings { form: Form::Backward, ..Default::default() }),
        ] {
            let task = Arithmetic::new(settings.clone()).unwrap();
            for (split, count) in [(Split::Train, 100_000), (Split::Test, 20_000)] {
                let start = std::time::Instant::now();
                let problems = task.problems(split, count, 1).unwrap();
                let made = count as f64 / start.elapsed().as_secs_f64();
                let references: Vec<String> = problems.iter().map(|p| task.reference(p).unwrap()).collect();
                let start = std::time::Instant::now();
                for (problem, reference) in problems.iter().zip(&references) {
                    assert!(task.verify(problem, reference).unwrap().is_correct());
                }
                let verified = count as f64 / start.elapsed().as_secs_f64();
                println!("{name} {split:?}: {made:.0} problems/s, {verified:.0} verdicts/s");
            }
            let mut chains = ChainGenerator::new(&settings, Some(Split::Train), 1).unwrap();
            let start = std::time::Instant::now();
            let sum: i64 = (0..200_000).map(|_| chains.next_chain().value()).sum();
            println!("{name}: {:.0} chains/s ({sum})", 200_000.0 / start.elapsed().as_secs_f64());
        }
        let mut rows =
            SkillGenerator::new(&Default::default(), SkillMix::default(), Split::Train, 1).unwrap();
        for skill in crate::Skill::ALL {
            let start = std::time::Instant::now();
            for _ in 0..20_000 {
                rows.next_row(skill).unwrap();
            }
            println!("{skill}: {:.0} rows/s", 20_000.0 / start.elapsed().as_secs_f64());
        }
    }

    #[test]
    fn splits_share_no_chain_and_have_their_sizes() {
        let settings = ArithmeticSettings { steps: Steps::Exactly(1), ..Default::default() };
        let mut generator = ChainGenerator::new(&settings, None, 7).unwrap();
        let mut counts = [0usize; 3];
        for _ in 0..20_000 {
            let chain = generator.next_chain();
            let split = chain.split();
            counts[split as usize] += 1;
            let names = ["Ann", "Bob", "Carl", "Dora", "Emil", "Fay"].map(std::borrow::Cow::Borrowed);
            assert_eq!(chain.renamed(names).split(), split, "names do not move a chain to another split");
        }
        assert!((15_600..16_400).contains(&counts[0]), "{counts:?}");
        assert!((1_700..2_300).contains(&counts[1]) && (1_700..2_300).contains(&counts[2]), "{counts:?}");
        let task = Arithmetic::new(settings).unwrap();
        let chains = |split| -> HashSet<String> {
            let problems: Vec<Problem> = task.problems(split, 2_000, 1).unwrap();
            problems
                .iter()
                .map(|problem| {
                    let exercise = Exercise::from_problem(problem).unwrap();
                    assert_eq!(exercise.chain.split(), split);
                    exercise.plan().unwrap().gold()[1].compact()[1..].to_string()
                })
                .collect()
        };
        assert!(chains(Split::Train).is_disjoint(&chains(Split::Test)), "no chain is in two splits");
    }

    #[test]
    fn problems_are_distinct_and_determined_by_the_seed() {
        let task = Arithmetic::new(ArithmeticSettings::default()).unwrap();
        let problems = task.problems(Split::Test, 500, 3).unwrap();
        assert_eq!(problems, task.problems(Split::Test, 500, 3).unwrap());
        assert_ne!(problems, task.problems(Split::Test, 500, 4).unwrap());
        let ids: HashSet<&str> = problems.iter().map(|problem| problem.id.as_str()).collect();
        assert_eq!(ids.len(), 500);
        for problem in &problems {
            let exercise = Exercise::from_problem(problem).unwrap();
            assert!((4..=6).contains(&exercise.chain.steps()));
            assert!(exercise.chain.values().iter().all(|value| (0..=999).contains(value)));
            let distractors = exercise.chain.needed().iter().filter(|needed| !**needed).count();
            assert!(distractors <= 2, "{problem:?}");
            assert_eq!(exercise.problem(), *problem, "a problem reads back");
        }
        let narrow = ArithmeticSettings {
            steps: Steps::Exactly(1),
            letters: 2,
            largest_value: 9,
            distractors: [0, 0],
            ..Default::default()
        };
        let error = Arithmetic::new(narrow).unwrap().problems(Split::Test, 5_000, 1).unwrap_err().to_string();
        assert!(error.contains("distinct ones in this split") && error.contains("hint: "), "{error}");
    }

    #[test]
    fn right_answers_by_wrong_steps_are_told_apart() {
        let problem = example(Kind::Chain);
        let task = Arithmetic::new(ArithmeticSettings::default()).unwrap();
        for (response, kind, first) in [
            // Two slips that cancel.
            ("g=50;e=50-1=48;d=49+81=130#130", ErrorKind::Arithmetic, 1),
            // A step left out, whose value is used all the same.
            ("g=50;d=49+81=130#130", ErrorKind::Skipped, 1),
            // The answer out of nowhere.
            ("g=50#130", ErrorKind::StoppedEarly, 1),
            ("#130", ErrorKind::StoppedEarly, 0),
            ("g = 50\ne = 50 - 1 = 49\nAnswer: 130", ErrorKind::StoppedEarly, 2),
            // No expression.
            ("g=50;e=49;d=49+81=130#130", ErrorKind::Format, 1),
        ] {
            let verdict = task.verify(&problem, response).unwrap();
            assert!(verdict.is_correct(), "{response}");
            assert_eq!(verdict.first_wrong_step(), Some(first), "{response}");
            assert_eq!(Arithmetic::error_kind(&problem, response).unwrap(), Some(kind), "{response}");
        }
        let superfluous = "g=50;l=89;e=50-1=49;d=49+81=130#130";
        assert_eq!(task.verify(&problem, superfluous).unwrap().first_wrong_step(), None);
        assert_eq!(Arithmetic::error_kind(&problem, superfluous).unwrap(), Some(ErrorKind::Distractor));
    }

    #[test]
    fn chat_answers_are_read() {
        let task = Arithmetic::new(ArithmeticSettings::default()).unwrap();
        let problem = example(Kind::Chain);
        for response in [
            "Let's go step by step.\n\n1. We know g = 50.\n2. e = g - 1 = 50 - 1 = 49\n3. d = e + 81 = 49 + 81 = 130\n\nAnswer: 130",
            "**e = 50 \u{2212} 1 = 49**\n**d = 49 + 81 = 130**\n\nThe final answer is **130**.",
            "$e = 50 - 1 = 49$\n$d = 81 + 49 = 130$\nSo the answer is $\\boxed{130}$.",
            "e = 50 - 1 = 49; d = 49 + 81 = 130\n#### 130",
            "e = g - 1\ne = 50 - 1 = 49\nd = 49 + 81\nd = 130\nAnswer: d = 130",
            "### Step 1\ne = 50 - 1 = 49\n### Step 2\nd = 49 + 81 = 130.\nAnswer: 130.",
        ] {
            let examination = Arithmetic::examine(&problem, response).unwrap();
            assert_eq!(examination.outcome, Outcome::Correct, "{response}");
            assert_eq!(examination.error(), None, "{response}\n{:?}", examination.steps);
        }
        let wrong = "e = 50 - 1 = 49\nd = 50 + 81 = 131\nAnswer: 131";
        let verdict = task.verify(&problem, wrong).unwrap();
        assert_eq!(verdict.first_wrong_step(), Some(1));
        assert_eq!(verdict.steps[1].expected.as_deref(), Some("d = 49 + 81 = 130"));
        assert_eq!(verdict.answer.as_deref(), Some("131"));
        let people = {
            let chain = Chain::parse(&["Ann=50", "Bob=Ann-1", "Carl=Bob*3"], "Carl", "people").unwrap();
            Exercise { chain, in_words: true, kind: Kind::Chain }.problem()
        };
        assert!(people.question.contains("1 fewer "), "{}", people.question);
        let response = "Bob has 1 fewer than Ann.\nBob has 50 marbles - 1 marble = 49 marbles.\n\
                        Carl has 3 \u{d7} 49 = 147 marbles.\nAnswer: 147 marbles";
        let examination = Arithmetic::examine(&people, response).unwrap();
        assert_eq!(
            (examination.outcome, examination.error()),
            (Outcome::Correct, None),
            "{:?}",
            examination.steps
        );
        assert_eq!(examination.written, 2);
        let masked = example(Kind::Backward { masked: 0, given: 130 });
        for response in ["e = 130 - 81 = 49\nX = 49 + 1 = 50\nAnswer: 50", "e=130-81=49;g=49+1=50#50"] {
            let examination = Arithmetic::examine(&masked, response).unwrap();
            assert_eq!(
                (examination.outcome, examination.error()),
                (Outcome::Correct, None),
                "{:?}",
                examination.steps
            );
        }
        let choice = example(Kind::Choice { values: [12, 130, 131, 7], right: 1 });
        assert_eq!(choice.compact.as_deref(), Some("g=50;e=g-1;d=e+81;l=89;d?A12B130C131D7"));
        for response in
            ["e = 50 - 1 = 49\nd = 49 + 81 = 130\nAnswer: B", "x\nAnswer: (B)", "so \\boxed{130} it is"]
        {
            assert_eq!(task.verify(&choice, response).unwrap().outcome, Outcome::Correct, "{response}");
        }
        assert!(task.equivalent(&choice, "130", "B") && !task.equivalent(&choice, "131", "B"));
    }

    #[test]
    fn uniqueness_is_exact() {
        // d = (g - g') * 0 … is not generated with factor 0; a value of 0 under `*` and a cancelled unknown are.
        let unique = |statements: &[&str], asked: &str, masked: usize| {
            let chain = Chain::parse(statements, asked, "test").unwrap();
            let plan = chain.backward_plan(masked);
            let problem =
                Exercise { chain, in_words: false, kind: Kind::Backward { masked, given: 0 } }.problem();
            (problem.data["unique"].as_bool().unwrap(), plan.is_some())
        };
        assert_eq!(unique(&["a=5", "b=a-5", "c=b*3"], "c", 2), (false, false), "0 * _ says nothing of _");
        assert_eq!(unique(&["a=5", "b=a-5", "c=b*3"], "c", 1), (true, true));
        assert_eq!(unique(&["a=5", "b=a+3", "c=b-a"], "c", 0), (false, false), "the unknown cancels");
        assert_eq!(unique(&["a=5", "b=a*3", "c=b-a"], "c", 0), (true, false), "unique, but not step by step");
        assert_eq!(unique(&["a=5", "b=a+3", "l=9"], "b", 2), (false, false), "a distractor");
        // Brute force agrees on generated chains.
        let settings =
            ArithmeticSettings { steps: Steps::Between([1, 6]), second_variable: 0.5, ..Default::default() };
        let mut generator = ChainGenerator::new(&settings, None, 9).unwrap();
        for _ in 0..300 {
            let chain = generator.next_chain();
            for masked in 0..chain.statements().len() {
                let Some(number) = chain.statements()[masked].number() else { continue };
                let others = [number + 1, number + 7, 0].into_iter().filter(|&other| other != number);
                let same = others
                    .filter(|&other| {
                        let mut statements = chain.statements().to_vec();
                        use chain::{Expression, Operand};
                        statements[masked].expression = match statements[masked].expression {
                            Expression::Given(_) => Expression::Given(other),
                            Expression::Computed { left, operator, .. } => {
                                Expression::Computed { left, operator, right: Operand::Number(other) }
                            }
                        };
                        Chain::new(statements, chain.asked()).unwrap().value() == chain.value()
                    })
                    .count();
                assert_eq!(chain.slope(masked) == 0, same > 0, "{chain:?} masked {masked}");
            }
        }
    }

    #[test]
    fn settings_name_the_wrong_field() {
        let read = |json: serde_json::Value| {
            ArithmeticSettings::from_value(&json).map_err(|error| error.to_string())
        };
        assert_eq!(read(serde_json::Value::Null).unwrap(), ArithmeticSettings::default());
        let mixed = read(serde_json::json!({"preset": "mixed", "multiply": 0.2})).unwrap();
        assert_eq!((mixed.steps, mixed.multiply), (Steps::Between([2, 6]), 0.2));
        assert_eq!(read(serde_json::json!({"steps": 7})).unwrap().steps, Steps::Exactly(7));
        for (json, field, hint) in [
            (serde_json::json!({"step": [1, 2]}), "`step`", "did you mean `steps`"),
            (serde_json::json!({"steps": "many"}), "`steps`", "hint"),
            (serde_json::json!({"steps": [0, 3]}), "`steps`", "1 to 10"),
            (serde_json::json!({"multiply": 1.5}), "`multiply`", "0 to 1"),
            (serde_json::json!({"letters": 5}), "`letters`", "at most 26"),
            (serde_json::json!({"preset": "hard"}), "`preset`", "pretraining"),
            (serde_json::json!({"form": "essay"}), "`form`", "hint"),
            (serde_json::json!([1]), "`settings`", "table"),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains(field) && error.contains(hint), "{error}");
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
