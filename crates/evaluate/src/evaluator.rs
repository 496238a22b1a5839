//! The border of this crate.

use crate::Needs;
use async_trait::async_trait;
use elenchus_generate::{Context, GenerateError};
use elenchus_task::{Task, TaskError};
use elenchus_trace::{Completion, Feedback, Problem, ToolCall, Usage, calls_text};
use futures::future::try_join_all;
use std::borrow::Cow;

/// A response to judge.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// What was generated.
    pub completion: Completion,
    /// The answer extracted from it by the task, where there is one.
    pub answer: Option<String>,
}

impl Candidate {
    /// A completion with the answer that the task finds in it; calls of tools are an answer of their own. A text that was
    /// cut has none: what stands last in it is where it was cut.
    pub fn extract(task: &dyn Task, problem: &Problem, completion: Completion) -> Self {
        match completion.was_cut() && calls_of(&completion).is_empty() {
            true => Candidate { completion, answer: None },
            false => Self::extract_forced(task, problem, completion),
        }
    }

    /// The same for a response that was led to its answer and is allowed a few tokens for it: where it is cut, it has said
    /// it.
    pub fn extract_forced(task: &dyn Task, problem: &Problem, completion: Completion) -> Self {
        let answer = match calls_of(&completion) {
            [] => task.extract(problem, &completion.text),
            calls => Some(calls_text(calls)),
        };
        Candidate { completion, answer }
    }

    /// What a judge is shown: the text, and the calls of tools behind it.
    pub fn shown(&self) -> Cow<'_, str> {
        let text = self.completion.text.as_str();
        match calls_of(&self.completion) {
            [] => Cow::Borrowed(text),
            calls if text.trim().is_empty() => Cow::Owned(calls_text(calls)),
            calls => Cow::Owned(format!("{text}\n{}", calls_text(calls))),
        }
    }
}

fn calls_of(completion: &Completion) -> &[ToolCall] {
    completion.message.as_ref().map_or(&[], |message| &message.tool_calls)
}

/// How much there is to judge, for estimates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CandidateSize {
    /// How many candidates.
    pub candidates: u64,
    /// Tokens of the problem as a prompt.
    pub prompt_tokens: u64,
    /// Tokens of one candidate.
    pub completion_tokens: u64,
}

/// What an evaluator looks at.
#[derive(Clone, Copy)]
pub struct EvaluateInput<'a> {
    /// The way to the models.
    pub context: &'a Context,
    /// The task of the problem.
    pub task: &'a dyn Task,
    /// The problem.
    pub problem: &'a Problem,
    /// The responses, in the order in which they were drawn.
    pub candidates: &'a [Candidate],
}

/// Why an evaluation failed as a whole.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    /// A setting is out of range or of the wrong type.
    #[error("evaluator `{evaluator}`: setting `{field}`: {problem}\nhint: {hint}")]
    Setting {
        /// The evaluator.
        evaluator: String,
        /// The setting.
        field: String,
        /// What is wrong.
        problem: String,
        /// What to do.
        hint: String,
    },
    /// No evaluator has this name.
    #[error("unknown evaluator `{name}`\nhint: {hint}")]
    Unknown {
        /// The name.
        name: String,
        /// The nearest names.
        hint: String,
    },
    /// A model cannot give what the evaluator needs.
    #[error("evaluator `{evaluator}` needs of the model in role `{role}`: {what}\nhint: {hint}")]
    Capability {
        /// The evaluator.
        evaluator: String,
        /// The role.
        role: String,
        /// What is missing.
        what: String,
        /// What to do.
        hint: String,
    },
    /// An evaluator broke its promise of one feedback per candidate.
    #[error(
        "evaluator `{evaluator}` gave {given} feedbacks for {candidates} candidates\nhint: this is a defect of the evaluator"
    )]
    Count {
        /// The evaluator.
        evaluator: String,
        /// Feedbacks.
        given: usize,
        /// Candidates.
        candidates: usize,
    },
    /// A model call failed.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// The task's verifier failed.
    #[error(transparent)]
    Task(#[from] TaskError),
}

/// What an evaluation rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Basis {
    /// Nothing: a control.
    Nothing,
    /// A model, the actor or another one.
    Model,
    /// A tool: verifier, calculator, interpreter.
    Tool,
}

/// Says what candidates are worth.
#[async_trait]
pub trait Evaluator: Send + Sync {
    /// Name in the registry.
    fn name(&self) -> &'static str;

    /// One line for lists and help.
    fn summary(&self) -> &'static str;

    /// What it needs of the models, with its settings.
    fn needs(&self) -> Needs;

    /// What its judgement rests on.
    fn basis(&self) -> Basis {
        if self.needs().oracle { Basis::Tool } else { Basis::Model }
    }

    /// Whether the text of its feedback is about the response, so that the next attempt can learn from it. The text of
    /// others says only how their number came about.
    fn advises(&self) -> bool {
        false
    }

    /// The highest score that it can give, where there is one and no more than that can be wished for.
    fn highest(&self) -> Option<f64> {
        None
    }

    /// What judging some candidates costs at most, in calls and tokens; nothing for evaluators that call no model.
    fn cost(&self, size: CandidateSize) -> Usage {
        let _ = size;
        Usage::default()
    }

    /// One [`Feedback`] per candidate, in order. A candidate that cannot be judged gets an abstention with the
    /// reason; a failure that concerns all of them is an error. Never a score that stands for a failure.
    async fn evaluate(&self, input: EvaluateInput<'_>) -> Result<Vec<Feedback>, EvaluateError>;
}

/// Asks for feedback on each of `count` candidates at once. Where the budget ended between them, what it left unjudged
/// abstains.
///
/// Errors: the first failure of any other kind; the budget, where it left all unjudged.
pub(crate) async fn each<F>(
    evaluator: &str,
    count: usize,
    one: impl Fn(usize) -> F,
) -> Result<Vec<Feedback>, EvaluateError>
where
    F: Future<Output = Result<Feedback, EvaluateError>>,
{
    let judged = try_join_all((0..count).map(|index| {
        let asked = one(index);
        async move {
            match asked.await {
                Err(error @ EvaluateError::Generate(GenerateError::Budget { .. })) => Ok(Err(error)),
                judged => judged.map(Ok),
            }
        }
    }))
    .await?;
    if judged.iter().all(Result::is_err) {
        return judged.into_iter().collect();
    }
    let unjudged = |error: EvaluateError| {
        let said = error.to_string();
        Feedback::abstain(
            evaluator,
            format!("the budget is over: {}", said.lines().next().unwrap_or_default()),
        )
    };
    Ok(judged.into_iter().map(|judged| judged.unwrap_or_else(unjudged)).collect())
}

/// Runs an evaluator with both of its promises held: its needs are checked before any call, and there is one
/// feedback per candidate.
pub async fn evaluate_all(
    evaluator: &dyn Evaluator,
    input: EvaluateInput<'_>,
) -> Result<Vec<Feedback>, EvaluateError> {
    if let Some(unmet) = evaluator.needs().unmet_by(input.context) {
        return Err(EvaluateError::Capability {
            evaluator: evaluator.name().into(),
            role: unmet.role,
            what: unmet.what,
            hint: unmet.hint,
        });
    }
    let feedback = evaluator.evaluate(input).await?;
    if feedback.len() != input.candidates.len() {
        return Err(EvaluateError::Count {
            evaluator: evaluator.name().into(),
            given: feedback.len(),
            candidates: input.candidates.len(),
        });
    }
    Ok(feedback)
}
