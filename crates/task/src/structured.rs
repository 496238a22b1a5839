//! Answers that are JSON, or calls of tools, instead of something that a task finds in a text.

use crate::{Split, Task, TaskError};
use elenchus_trace::{Problem, Step, Verdict, canonical_json, is_calls_text};
use serde_json::Value;
use std::sync::Arc;

/// A task whose problems want a form: with `response_format`, the answer is the response's JSON value in canonical text,
/// and two are equivalent when they are equal as JSON. Calls of tools (see [`elenchus_trace::calls_text`]) are equivalent
/// when they are equal. Everything else is as the task inside says.
pub struct Structured {
    inner: Arc<dyn Task>,
}

impl Structured {
    /// Around a task.
    pub fn new(inner: Arc<dyn Task>) -> Self {
        Structured { inner }
    }
}

/// The JSON value of a response: all of it, or what stands in its fence.
fn json_of(response: &str) -> Option<Value> {
    let text = response.trim();
    let fenced = || {
        let (_, behind) = text.split_once("```")?;
        let (inside, _) = behind.split_once("```")?;
        serde_json::from_str(inside.strip_prefix("json").unwrap_or(inside).trim()).ok()
    };
    serde_json::from_str(text).ok().or_else(fenced)
}

impl Task for Structured {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn summary(&self) -> &'static str {
        self.inner.summary()
    }

    fn problems(&self, split: Split, count: usize, seed: u64) -> Result<Vec<Problem>, TaskError> {
        self.inner.problems(split, count, seed)
    }

    fn extract(&self, problem: &Problem, response: &str) -> Option<String> {
        match problem.wants_json() {
            true => json_of(response).as_ref().map(canonical_json),
            false => self.inner.extract(problem, response),
        }
    }

    fn equivalent(&self, problem: &Problem, left: &str, right: &str) -> bool {
        if problem.wants_json() || is_calls_text(left) || is_calls_text(right) {
            return left == right;
        }
        self.inner.equivalent(problem, left, right)
    }

    fn verify(&self, problem: &Problem, response: &str) -> Result<Verdict, TaskError> {
        self.inner.verify(problem, response)
    }

    fn grade(&self, problem: &Problem, response: &str, verdict: &Verdict) -> Result<f64, TaskError> {
        self.inner.grade(problem, response, verdict)
    }

    fn steps(&self, problem: &Problem, response: &str) -> Vec<Step> {
        self.inner.steps(problem, response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_is_compared_as_json_and_text_as_the_task_says() {
        let task = Structured::new(Arc::from(crate::task("math", &Value::Null).unwrap()));
        let mut problem = Problem::new("p", "math", "?");
        assert_eq!(task.extract(&problem, "so\nAnswer: 1/2").as_deref(), Some("1/2"));
        assert!(task.equivalent(&problem, "1/2", "0.5"));
        let (one, two) = ("call f({\"a\":1})", "call f({\"a\":2})");
        assert!(task.equivalent(&problem, one, one) && !task.equivalent(&problem, one, two));
        assert!(!task.equivalent(&problem, one, "1"));
        problem.wants.insert("response_format".into(), json!({"type": "json_object"}));
        let answer = task.extract(&problem, "{\"b\": 1.0, \"a\": []}").unwrap();
        assert_eq!(answer, "{\"a\":[],\"b\":1}");
        assert_eq!(
            task.extract(&problem, "Here:\n```json\n{\"a\": [], \"b\": 1}\n```").as_ref(),
            Some(&answer)
        );
        assert_eq!(task.extract(&problem, "Answer: 4 {"), None);
        assert!(!task.equivalent(&problem, "1", "1.0"), "both are canonical already");
    }
}
