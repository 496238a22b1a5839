//! A task and contexts for the tests of this crate.

use crate::{ControlError, Strategy};
use elenchus_generate::{Context, GenerateError, LanguageModel, Voice};
use elenchus_task::{Split, Task, TaskError};
use elenchus_trace::{Answer, Budget, Completion, Outcome, Problem, Step, TokenDistribution, Verdict};
use std::sync::Arc;

/// Answers are integers behind `#`; steps end at `;`.
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
        let answer = self.extract(problem, response);
        let outcome = match (&answer, &problem.gold) {
            (Some(answer), Some(gold)) if self.equivalent(problem, answer, gold) => Outcome::Correct,
            (Some(_), _) => Outcome::Wrong,
            (None, _) => Outcome::NoAnswer,
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

/// A completion of one token with this self-certainty.
pub(crate) fn completion(text: &str, certainty: f32) -> Completion {
    let mut completion = Completion::text(text);
    completion.distributions =
        vec![TokenDistribution { kl_from_uniform: certainty, entropy: 1.0, gini: 0.5, max_logprob: -0.5 }];
    completion.logprobs = vec![-1.0 / (1.0 + certainty)];
    completion.top = vec![vec![elenchus_trace::TopToken { token: "x".into(), logprob: -0.5 }]];
    completion
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

pub(crate) fn context(model: Arc<dyn LanguageModel>) -> Context {
    context_with(model, Budget::default())
}

pub(crate) fn context_with(model: Arc<dyn LanguageModel>, budget: Budget) -> Context {
    Context::builder().role("actor", model).budget(budget).build().unwrap()
}

pub(crate) fn compact(model: Arc<dyn LanguageModel>) -> Context {
    Context::builder().role("actor", model).voice(Voice::Compact).build().unwrap()
}

pub(crate) fn seeded(model: Arc<dyn LanguageModel>, seed: u64) -> Context {
    Context::builder().role("actor", model).seed(seed).build().unwrap()
}

pub(crate) fn run(strategy: &dyn Strategy, context: &Context) -> Result<Answer, ControlError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(strategy.run(context, &Toy, &problem()))
}
