//! `program-writer`: a model that writes the generated small programs of the task `program` in the compact notation.

use super::solved::solved;
use super::{Figure, LabModel, Plan, Start};
use elenchus_learn::objective::TrainingRow;
use elenchus_learn::policy::{Encode, Policy, text_row};
use elenchus_learn::rollouts::mix;
use elenchus_learn::trainer::{BatchSource, Decay, Generated, TrainSettings};
use elenchus_learn::{LearnError, NativePolicy, Session};
use elenchus_task::{Skill, Split, Task};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Name of the checkpoint.
pub const PROGRAM_WRITER: &str = "program-writer";

/// Most tokens of a program: eight operations and a result have fewer than seventy.
pub(crate) const LONGEST: usize = 80;

/// One kind of problems that are taught.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lesson {
    /// Rows of this kind per ten.
    pub tenths: u64,
    /// Settings of the task.
    pub settings: Value,
}

/// Rows `S{problem}` → program: `Sx:e;m3;S:(3,4)=12;(2,9)=6?` → `a=e(x);b=m(a,3)#S(b)`, on functions of the train split
/// with fresh inputs in every row. Half of the rows are of short functions, half of longer ones, in which one slip is one of many
/// chances. (Where a description leaves an operation out, so that it has to be found by the examples, a model this small passes
/// in 11 % after 1,000 steps.) The target is the program that the problem was made of; every other one that passes the tests is as right, and
/// is not taught.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProgramWriter {
    /// What is taught.
    pub lessons: Vec<Lesson>,
    /// Settings of the validation problems.
    pub examined: Value,
    /// Validation problems for the card.
    pub validation: usize,
    /// The training.
    pub train: TrainSettings,
}

impl Default for ProgramWriter {
    fn default() -> Self {
        ProgramWriter {
            lessons: vec![
                Lesson { tenths: 5, settings: json!({ "operations": [1, 4] }) },
                Lesson { tenths: 5, settings: json!({ "operations": [3, 8] }) },
            ],
            examined: json!({ "operations": [5, 8], "runner": "embedded" }),
            validation: 200,
            train: TrainSettings {
                steps: 400,
                batch: 64,
                learning_rate: 2e-3,
                warmup_steps: 50,
                decay: Decay::Cosine,
                floor: 0.05,
                ..TrainSettings::default()
            },
        }
    }
}

/// The row of a seed: which lesson, and which problem of it.
fn row(encoder: &dyn Encode, lessons: &[(u64, Box<dyn Task>)], seed: u64) -> Result<TrainingRow, LearnError> {
    let none = || LearnError::Data {
        what: "the lessons of the program writer gave no problem".into(),
        hint: "this is a defect of the lab's settings".into(),
    };
    let all: u64 = lessons.iter().map(|(tenths, _)| tenths).sum();
    let mut place = mix(seed, 1) % all.max(1);
    let mut chosen = lessons.first().ok_or_else(none)?;
    for lesson in lessons {
        if place < lesson.0 {
            chosen = lesson;
            break;
        }
        place -= lesson.0;
    }
    let problem = chosen.1.problems(Split::Train, 1, mix(seed, 2))?.into_iter().next().ok_or_else(none)?;
    let program = chosen.1.reference(&problem).ok_or_else(none)?;
    text_row(encoder, &Skill::Solve.prompt(&problem, &[]), &program)
}

impl ProgramWriter {
    fn tasks(&self) -> Result<Vec<(u64, Box<dyn Task>)>, LearnError> {
        let task = |lesson: &Lesson| Ok((lesson.tenths, elenchus_task::task("program", &lesson.settings)?));
        self.lessons.iter().map(task).collect()
    }
}

impl LabModel for ProgramWriter {
    fn name(&self) -> &'static str {
        PROGRAM_WRITER
    }

    fn summary(&self) -> &'static str {
        "writes the generated small programs of the task `program`"
    }

    fn plan(&self) -> Plan {
        Plan {
            version: 1,
            start: Start::Base { words: Vec::new() },
            heads: Vec::new(),
            objective: "sft".into(),
            objective_settings: Value::Null,
            train: self.train.clone(),
            rows: json!({
                "lessons": self.lessons, "examined": self.examined, "validation": self.validation,
            }),
        }
    }

    fn source(
        &self,
        policy: &mut NativePolicy,
        seed: u64,
        _: &Session<'_>,
    ) -> Result<Box<dyn BatchSource>, LearnError> {
        let (encoder, lessons) = (policy.encoder(), self.tasks()?);
        Ok(Box::new(Generated::new(self.train.batch, seed, move |seed| {
            row(encoder.as_ref(), &lessons, seed)
        })))
    }

    /// Programs that pass all tests, one sample each at temperature 1.
    fn validate(
        &self,
        policy: &mut NativePolicy,
        seed: u64,
        session: &Session<'_>,
    ) -> Result<Figure, LearnError> {
        let task = elenchus_task::task("program", &self.examined)?;
        let (value, problems) = solved(policy, task.as_ref(), self.validation, 1.0, LONGEST, seed, session)?;
        Ok(Figure { name: "programs that pass, one sample at temperature 1".into(), value, problems })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models;

    #[test]
    fn rows_are_of_every_lesson_stay_in_the_vocabulary_and_fit() {
        let loaded = models::load(models::EMBEDDED).unwrap();
        let (tokenizer, longest) = (loaded.tokenizer.clone(), loaded.model.config().max_positions);
        let unknown = tokenizer.unknown().unwrap();
        let encoder = loaded.policy().encoder();
        let lessons = ProgramWriter::default().tasks().unwrap();
        let mut long = 0;
        for seed in 0..300 {
            let row = row(encoder.as_ref(), &lessons, seed).unwrap();
            assert!(!row.tokens.contains(&unknown) && row.tokens.len() < longest, "{row:?}");
            assert!(row.tokens.len() - row.first_target <= LONGEST, "{row:?}");
            let text = tokenizer.decode(&row.tokens[..row.tokens.len() - 1]).unwrap();
            assert!(text.starts_with("Sx:") && text.contains("?a="), "{text}");
            let operations = text.rsplit('?').next().unwrap().matches('=').count();
            assert!((1..=8).contains(&operations), "{text}");
            long += usize::from(operations > 4);
        }
        // Long functions are rarer than they are drawn: one that does the same as a shorter one is no problem.
        assert!((15..80).contains(&long), "{long} of 300 are long");
    }

    /// Functions of the test split must not be among those that are taught: a problem of another split is no row.
    #[test]
    fn what_is_examined_is_not_taught() {
        let writer = ProgramWriter::default();
        let programs = |settings: &Value, split| -> std::collections::HashSet<String> {
            let task = elenchus_task::task("program", settings).unwrap();
            task.problems(split, 150, 3).unwrap().iter().filter_map(|p| task.reference(p)).collect()
        };
        let examined = programs(&writer.examined, Split::Test);
        for lesson in &writer.lessons {
            assert!(programs(&lesson.settings, Split::Train).is_disjoint(&examined), "{lesson:?}");
        }
    }
}
