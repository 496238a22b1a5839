//! The list of all tasks, and how to make one from its name and settings.

use crate::arithmetic::{self, Arithmetic, ArithmeticSettings};
use crate::choice::{self, Choice, ChoiceSettings};
use crate::countdown::{self, Countdown, CountdownSettings};
use crate::math::{self, MathSettings, MathTask};
use crate::{Task, TaskError};
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
        name: math::TASK,
        summary: math::SUMMARY,
        schema: schema::<MathSettings>,
        make: |settings| Ok(Box::new(MathTask::open(&MathSettings::from_value(settings)?)?)),
    },
];

/// The task of this name with these settings (null: the defaults).
///
/// # Errors
/// No task has the name (the error lists the nearest ones), or a setting is wrong (the error names it).
pub fn task(name: &str, settings: &Value) -> Result<Box<dyn Task>, TaskError> {
    let Some(entry) = TASKS.iter().find(|entry| entry.name == name) else {
        let names: Vec<&str> = TASKS.iter().map(|entry| entry.name).collect();
        let near = nearest(name, &names, 3);
        let hint = if near.is_empty() {
            format!("known tasks are `{}`", names.join("`, `"))
        } else {
            format!("did you mean `{}`? known tasks are `{}`", near.join("` or `"), names.join("`, `"))
        };
        return Err(TaskError::Unknown { name: name.to_string(), hint });
    };
    (entry.make)(settings)
}

/// The names nearest to a mistyped one by edit distance, at most `count`, nearest first; only those within a third of
/// its length, or 2.
pub(crate) fn nearest<'a>(name: &str, names: &[&'a str], count: usize) -> Vec<&'a str> {
    let limit = (name.chars().count() / 3).max(2);
    let mut near: Vec<(usize, &str)> = names
        .iter()
        .map(|known| (edit_distance(name, known), *known))
        .filter(|(distance, _)| *distance <= limit)
        .collect();
    near.sort();
    near.into_iter().take(count).map(|(_, name)| name).collect()
}

/// Levenshtein distance in characters, ignoring case.
fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.to_lowercase().chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let substitution = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = substitution.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
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
        for name in ["arithmetic", "countdown"] {
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
        assert!(message("zzz", Value::Null).contains("known tasks are `arithmetic`"));
        let error = message("countdown", serde_json::json!({"number": [3, 4]}));
        assert!(error.contains("`number`") && error.contains("did you mean `numbers`?"), "{error}");
        let error = message("arithmetic", serde_json::json!({"steps": [4, 6], "multiply": "often"}));
        assert!(error.contains("`multiply`") && !error.contains("`steps`"), "{error}");
    }

    #[test]
    fn edit_distance_counts_changes() {
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("Same", "same"), 0);
    }
}
