//! The list of all tasks, and how to make one from its name and settings.

use crate::arithmetic::{self, Arithmetic, ArithmeticSettings};
use crate::choice::{self, Choice, ChoiceSettings};
use crate::countdown::{self, Countdown, CountdownSettings};
use crate::disputed::{self, Disputed, DisputedSettings};
use crate::evidence::{self, Evidence, EvidenceSettings};
use crate::facts::{self, Facts, FactsSettings};
use crate::math::{self, MathSettings, MathTask};
use crate::program::{self, ProgramSettings, ProgramTask};
use crate::rules::{self, Rules, RulesSettings};
use crate::sql::{self, Sql, SqlSettings};
use crate::world::{self, World, WorldSettings};
use crate::{Task, TaskError};
use elenchus_trace::nearest;
use serde_json::Value;

/// A task in the registry.
pub struct TaskEntry {
    /// Its name.
    pub name: &'static str,
    /// One line for lists and help.
    pub summary: &'static str,
    /// JSON schema of its settings.
    pub schema: fn() -> Value,
    make: fn(&Value) -> Result<Box<dyn Task>, TaskError>,
}

impl std::fmt::Debug for TaskEntry {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("TaskEntry").field("name", &self.name).field("summary", &self.summary).finish()
    }
}

fn schema<T: schemars::JsonSchema>() -> Value {
    schemars::schema_for!(T).to_value()
}

/// All tasks, by name.
pub static TASKS: &[TaskEntry] = &[
    TaskEntry {
        name: arithmetic::TASK,
        summary: arithmetic::SUMMARY,
        schema: schema::<ArithmeticSettings>,
        make: |settings| Ok(Box::new(Arithmetic::new(ArithmeticSettings::from_value(settings)?)?)),
    },
    TaskEntry {
        name: countdown::TASK,
        summary: countdown::SUMMARY,
        schema: schema::<CountdownSettings>,
        make: |settings| Ok(Box::new(Countdown::new(CountdownSettings::from_value(settings)?)?)),
    },
    TaskEntry {
        name: choice::TASK,
        summary: choice::SUMMARY,
        schema: schema::<ChoiceSettings>,
        make: |settings| Ok(Box::new(Choice::open(&ChoiceSettings::from_value(settings)?)?)),
    },
    TaskEntry {
        name: evidence::TASK,
        summary: evidence::SUMMARY,
        schema: schema::<EvidenceSettings>,
        make: |settings| Ok(Box::new(Evidence::open(EvidenceSettings::from_value(settings)?)?)),
    },
    TaskEntry {
        name: disputed::TASK,
        summary: disputed::SUMMARY,
        schema: schema::<DisputedSettings>,
        make: |settings| Ok(Box::new(Disputed::open(&DisputedSettings::from_value(settings)?)?)),
    },
    TaskEntry {
        name: facts::TASK,
        summary: facts::SUMMARY,
        schema: schema::<FactsSettings>,
        make: |settings| Ok(Box::new(Facts::new(FactsSettings::from_value(settings)?)?)),
    },
    TaskEntry {
        name: math::TASK,
        summary: math::SUMMARY,
        schema: schema::<MathSettings>,
        make: |settings| Ok(Box::new(MathTask::open(&MathSettings::from_value(settings)?)?)),
    },
    TaskEntry {
        name: program::TASK,
        summary: program::SUMMARY,
        schema: schema::<ProgramSettings>,
        make: |settings| Ok(Box::new(ProgramTask::open(ProgramSettings::from_value(settings)?)?)),
    },
    TaskEntry {
        name: rules::TASK,
        summary: rules::SUMMARY,
        schema: schema::<RulesSettings>,
        make: |settings| Ok(Box::new(Rules::new(RulesSettings::from_value(settings)?)?)),
    },
    TaskEntry {
        name: sql::TASK,
        summary: sql::SUMMARY,
        schema: schema::<SqlSettings>,
        make: |settings| Ok(Box::new(Sql::open(SqlSettings::from_value(settings)?)?)),
    },
    TaskEntry {
        name: world::TASK,
        summary: world::SUMMARY,
        schema: schema::<WorldSettings>,
        make: |settings| Ok(Box::new(World::new(WorldSettings::from_value(settings)?)?)),
    },
];

/// The task of this name with these settings (null: the defaults).
///
/// # Errors
/// No task has the name (the error lists the nearest ones), or a setting is wrong (the error names it).
pub fn task(name: &str, settings: &Value) -> Result<Box<dyn Task>, TaskError> {
    let Some(entry) = TASKS.iter().find(|entry| entry.name == name) else {
        let hint = nearest(name, TASKS.iter().map(|entry| entry.name));
        return Err(TaskError::Unknown { name: name.to_string(), hint });
    };
    (entry.make)(settings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Split;

    #[test]
    fn every_task_has_a_schema_of_its_settings() {
        for entry in TASKS {
            let schema = (entry.schema)();
            assert!(
                schema["properties"].as_object().is_some_and(|fields| !fields.is_empty()),
                "{}",
                entry.name
            );
            assert!(!entry.summary.is_empty());
        }
        for name in ["arithmetic", "countdown", "evidence", "facts", "rules", "sql", "world"] {
            let task = task(name, &Value::Null).unwrap();
            assert_eq!(task.name(), name);
            let problem = &task.problems(Split::Validation, 1, 0).unwrap()[0];
            let reference = task.reference(problem).unwrap();
            let verdict = task.verify(problem, &reference).unwrap();
            assert!(verdict.is_correct() && task.steps_right(problem, &verdict));
        }
    }

    fn message(name: &str, settings: Value) -> String {
        task(name, &settings).map(|task| task.name()).unwrap_err().to_string()
    }

    #[test]
    fn errors_name_the_nearest_words() {
        let error = message("arithmetics", Value::Null);
        assert!(
            error.contains("unknown task `arithmetics`") && error.contains("did you mean `arithmetic`?"),
            "{error}"
        );
        assert!(message("zzz", Value::Null).contains("known are `arithmetic`"));
        let error = message("countdown", serde_json::json!({"number": [3, 4]}));
        assert!(error.contains("`number`") && error.contains("did you mean `numbers`"), "{error}");
        let error = message("arithmetic", serde_json::json!({"steps": [4, 6], "multiply": "often"}));
        assert!(error.contains("`multiply`") && !error.contains("`steps`"), "{error}");
    }
}
