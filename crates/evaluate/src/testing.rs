//! A task, candidates and contexts for the tests of this crate.

use crate::{Candidate, EvaluateError, EvaluateInput, Evaluator, evaluate_all};
use elenchus_generate::{Context, GenerateError, LanguageModel, Scripted, Voice};
use elenchus_task::{Split, Task, TaskError};
use elenchus_trace::{Completion, Feedback, Outcome, Problem, Step, Verdict};
use std::sync::Arc;

/// Answers are integers behind `#`; steps end at `;`; a response with `broken` in it breaks the verifier.
pub(crate) struct Toy;

impl Task for Toy {
    fn name(&self) -> &'static str {
        "toy"
    }

    fn summary(&self) -> &'static str {
        "integers"
    }

    fn problems(&self, _: Split, _: usize, _: u64) -> Result<Vec<Problem>, TaskError> {
        Ok(vec![problem()])
    }

    fn extract(&self, _: &Problem, response: &str) -> Option<String> {
        response.rsplit_once('#').map(|(_, answer)| answer.trim().to_string())
    }

    fn equivalent(&self, _: &Problem, left: &str, right: &str) -> bool {
        match (left.parse::<i64>(), right.parse::<i64>()) {
            (Ok(left), Ok(right)) => left == right,
            _ => left == right,
        }
    }

    fn verify(&self, problem: &Problem, response: &str) -> Result<Verdict, TaskError> {
        if response.contains("broken") {
            return Err(TaskError::Problem {
                id: problem.id.clone(),
                problem: "the verifier broke".into(),
                hint: "mend it".into(),
            });
        }
        let answer = self.extract(problem, response);
        let right = answer.as_ref().zip(problem.gold.as_ref()).map(|(a, g)| self.equivalent(problem, a, g));
        let outcome = match right {
            Some(true) => Outcome::Correct,
            Some(false) => Outcome::Wrong,
            None => Outcome::NoAnswer,
        };
        Ok(Verdict { outcome, answer, steps: Vec::new(), reason: None })
    }

    fn steps(&self, _: &Problem, response: &str) -> Vec<Step> {
        let chain = response.split('#').next().unwrap_or_default();
        let mut start = 0;
        chain
            .split(';')
            .map(|text| {
                let step = Step { text: text.into(), start, end: start + text.len() };
                start += text.len() + 1;
                step
            })
            .collect()
    }
}

pub(crate) fn problem() -> Problem {
    let mut problem = Problem::new("p1", "toy", "What is 2 + 5?").with_gold("7");
    problem.compact = Some("a=2+5;a?".into());
    problem
}

pub(crate) fn candidates(samples: &[(&str, Option<&str>)]) -> Vec<Candidate> {
    samples
        .iter()
        .map(|(text, answer)| Candidate {
            completion: Completion::text(*text),
            answer: answer.map(Into::into),
        })
        .collect()
}

pub(crate) fn away() -> GenerateError {
    GenerateError::Unavailable {
        model: "m".into(),
        what: "it is away".into(),
        hint: "wait".into(),
        retry_after_seconds: None,
        retryable: true,
    }
}

/// Runs an evaluator that calls no model.
pub(crate) fn evaluate(
    evaluator: &dyn Evaluator,
    samples: &[Candidate],
) -> Result<Vec<Feedback>, EvaluateError> {
    evaluate_with(Scripted::new("silent"), Voice::Chat, evaluator, samples)
}

pub(crate) fn evaluate_with(
    model: Scripted,
    voice: Voice,
    evaluator: &dyn Evaluator,
    samples: &[Candidate],
) -> Result<Vec<Feedback>, EvaluateError> {
    evaluate_shared(model.shared(), voice, evaluator, samples)
}

pub(crate) fn evaluate_shared(
    model: Arc<dyn LanguageModel>,
    voice: Voice,
    evaluator: &dyn Evaluator,
    samples: &[Candidate],
) -> Result<Vec<Feedback>, EvaluateError> {
    let context = Context::builder().role("actor", model).voice(voice).build().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(evaluate_all(
        evaluator,
        EvaluateInput { context: &context, task: &Toy, problem: &problem(), candidates: samples },
    ))
}
