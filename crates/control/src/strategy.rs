//! The border of this crate.

use crate::Triple;
use async_trait::async_trait;
use elenchus_evaluate::{EvaluateError, Needs};
use elenchus_generate::{Context, GenerateError};
use elenchus_task::{Task, TaskError};
use elenchus_trace::{Answer, Budget, Completion, Problem, Usage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What an estimate is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EstimateInput {
    /// Tokens of the problem as a prompt.
    pub prompt_tokens: u64,
    /// Tokens of a typical response.
    pub completion_tokens: u64,
}

/// What one problem costs at most, when responses are as long as assumed; an early stop makes it less.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Estimate {
    /// Calls and tokens; seconds and money are left to who knows the model.
    pub usage: Usage,
    /// How calls and tokens come about, with n samples, p prompt and c completion tokens.
    pub formula: String,
}

/// What a strategy cannot do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Minimum {
    /// Model calls.
    pub calls: u64,
    /// Tokens: one per sample and prompt.
    pub tokens: u64,
}

/// What the asker may want of the response itself (see [`Problem::wants`]), and whether it outlives a strategy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Keeps {
    /// The answer is JSON when JSON is wanted.
    pub response_format: bool,
    /// The answer may be calls of tools.
    pub tools: bool,
    /// The log-probabilities of the answer's tokens are those of the response that it is.
    pub logprobs: bool,
}

impl Keeps {
    /// Nothing: the answer is written in view of other texts, or put together.
    pub const NOTHING: Keeps = Keeps { response_format: false, tools: false, logprobs: false };
    /// JSON: the answer is written in view of other texts, and the call that writes it can be held to a form.
    pub const FORM: Keeps = Keeps { response_format: true, ..Keeps::NOTHING };
    /// Everything: the answer is one of the actor's responses to the problem, whole and as it was sampled.
    pub const SAMPLE: Keeps = Keeps { response_format: true, tools: true, logprobs: true };
    /// The same where the choice among the responses reads their text, and calls of tools have none.
    pub const TEXT_SAMPLE: Keeps = Keeps { tools: false, ..Keeps::SAMPLE };

    /// What both keep.
    pub fn and(self, other: Keeps) -> Keeps {
        Keeps {
            response_format: self.response_format && other.response_format,
            tools: self.tools && other.tools,
            logprobs: self.logprobs && other.logprobs,
        }
    }
}

/// Why a strategy could not run.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// A setting is out of range or of the wrong type.
    #[error("strategy `{strategy}`: setting `{field}`: {problem}\nhint: {hint}")]
    Setting {
        /// The strategy or selection method.
        strategy: String,
        /// The setting.
        field: String,
        /// What is wrong.
        problem: String,
        /// What to do.
        hint: String,
    },
    /// No strategy has this name.
    #[error("unknown {kind} `{name}`\nhint: {hint}")]
    Unknown {
        /// `strategy` or `selection method`.
        kind: &'static str,
        /// The name.
        name: String,
        /// The nearest names.
        hint: String,
    },
    /// A model cannot give what the strategy needs.
    #[error("strategy `{strategy}` needs of the model in role `{role}`: {what}\nhint: {hint}")]
    Capability {
        /// The strategy.
        strategy: String,
        /// The role.
        role: String,
        /// What is missing.
        what: String,
        /// What to do.
        hint: String,
    },
    /// The budget cannot suffice, whatever the model writes.
    #[error("strategy `{strategy}` needs at least {needs}, and the budget leaves {left}\nhint: {hint}")]
    Budget {
        /// The strategy.
        strategy: String,
        /// The least that it needs.
        needs: String,
        /// What is left.
        left: String,
        /// What to do.
        hint: String,
    },
    /// Recorded samples lack what a selection method looks at.
    #[error("question `{question}`: {problem}\nhint: {hint}")]
    Recorded {
        /// Identifier of the question.
        question: String,
        /// What is missing.
        problem: String,
        /// What to do.
        hint: String,
    },
    /// A model call failed.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// An evaluator failed.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// The task failed.
    #[error(transparent)]
    Task(#[from] TaskError),
}

impl ControlError {
    pub(crate) fn setting(
        strategy: &str,
        field: &str,
        problem: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        ControlError::Setting {
            strategy: strategy.into(),
            field: field.into(),
            problem: problem.into(),
            hint: hint.into(),
        }
    }
}

/// Answers a problem by spending model calls.
#[async_trait]
pub trait Strategy: Send + Sync {
    /// Name in the registry.
    fn name(&self) -> &'static str;

    /// One line for lists and help.
    fn summary(&self) -> &'static str;

    /// Its place in the taxonomy.
    fn triple(&self) -> Triple;

    /// What it needs of the models, with its settings.
    fn needs(&self) -> Needs;

    /// The least that one problem takes.
    fn minimum(&self) -> Minimum;

    /// What one problem costs at most.
    fn estimate(&self, input: &EstimateInput) -> Estimate;

    /// What of the asker's wishes for the response itself it keeps.
    fn keeps(&self) -> Keeps {
        Keeps::NOTHING
    }

    /// Checks what only the context can tell, beyond needs and budget (the voice, for example), before any call.
    fn check(&self, context: &Context) -> Result<(), ControlError> {
        let _ = context;
        Ok(())
    }

    /// Answers one problem. Called by [`Strategy::run`], which checks needs and budget first and measures the usage.
    async fn attempt(
        &self,
        context: &Context,
        task: &dyn Task,
        problem: &Problem,
    ) -> Result<Answer, ControlError>;

    /// Whether it can begin with a response that it is given, in the place of its own first one.
    fn takes_draft(&self) -> bool {
        false
    }

    /// [`Strategy::attempt`] that begins with a draft, for strategies that take one. The draft was paid for.
    async fn attempt_from(
        &self,
        context: &Context,
        task: &dyn Task,
        problem: &Problem,
        draft: Option<&Completion>,
    ) -> Result<Answer, ControlError> {
        let _ = draft;
        self.attempt(context, task, problem).await
    }

    /// Whether these models and what is left of the budget can do at all, without any call.
    ///
    /// # Errors
    /// [`ControlError::Capability`] for a need that is not met, [`ControlError::Budget`] when what is left cannot suffice, and
    /// what [`Strategy::check`] says.
    fn ready(&self, context: &Context) -> Result<(), ControlError> {
        if let Some(unmet) = self.needs().unmet_by(context) {
            return Err(ControlError::Capability {
                strategy: self.name().into(),
                role: unmet.role,
                what: unmet.what,
                hint: unmet.hint,
            });
        }
        self.check(context)?;
        afford(self.name(), self.minimum(), &context.remaining())
    }

    /// Answers one problem, in a budget scope of its own under that of `context`.
    ///
    /// Errors, before any call: [`ControlError::Capability`] for a need that is not met, [`ControlError::Budget`] when
    /// what is left cannot suffice. Afterwards: failures of models, evaluators and tasks. That no sample has an answer
    /// is no error: the answer then says why it abstains.
    async fn run(
        &self,
        context: &Context,
        task: &dyn Task,
        problem: &Problem,
    ) -> Result<Answer, ControlError> {
        self.run_from(context, task, problem, None).await
    }

    /// [`Strategy::run`], beginning with a draft where there is one and the strategy takes one.
    async fn run_from(
        &self,
        context: &Context,
        task: &dyn Task,
        problem: &Problem,
        draft: Option<&Completion>,
    ) -> Result<Answer, ControlError> {
        self.ready(context)?;
        let scope = context.child(Budget::default());
        let mut answer = match draft.filter(|_| self.takes_draft()) {
            Some(draft) => self.attempt_from(&scope, task, problem, Some(draft)).await?,
            None => self.attempt(&scope, task, problem).await?,
        };
        answer.usage = scope.usage();
        Ok(answer)
    }
}

fn afford(strategy: &str, minimum: Minimum, remaining: &Budget) -> Result<(), ControlError> {
    let short = |needs: String, left: String, option: &str| {
        Err(ControlError::Budget {
            strategy: strategy.into(),
            needs,
            left,
            hint: format!("raise `{option}`, or ask for fewer samples or rounds"),
        })
    };
    match (remaining.calls, remaining.tokens, remaining.seconds, remaining.money) {
        (Some(calls), ..) if calls < minimum.calls => {
            short(format!("{} calls", minimum.calls), format!("{calls}"), "budget.calls")
        }
        (_, Some(tokens), ..) if tokens < minimum.tokens => {
            short(format!("{} tokens", minimum.tokens), format!("{tokens}"), "budget.tokens")
        }
        (.., Some(seconds), _) if seconds <= 0.0 => {
            short("some time".into(), "none".into(), "budget.seconds")
        }
        (.., Some(money)) if money <= 0.0 => short("some money".into(), "none".into(), "budget.money"),
        _ => Ok(()),
    }
}
