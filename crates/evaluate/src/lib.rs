//! Evaluators: what is a response worth, and how do we know?
//!
//! Knows: verifiers, certainty from log-probabilities, votes, judges, critics, and how to read what a judge or critic
//! writes. Does not know: what to do next (crate `control`), or how a model is reached (crate `generate`).
//!
//! An evaluator that fails, or whose words cannot be read, gives an error or an abstention: never a score.

mod ambiguity;
mod certainty;
mod closed_loop;
mod coin_flip;
mod critic;
mod critique;
mod dialogue_judge;
mod evaluator;
mod gold_feedback;
mod group;
pub mod harness;
mod judge;
mod judgment;
mod latent;
mod likelihood;
mod needs;
mod outlook;
mod recompute;
mod redact;
mod registry;
mod rubric;
mod support;
#[cfg(test)]
mod testing;
mod verifier;
mod vote_share;

pub use ambiguity::states_ambiguity;
pub use certainty::{
    Certainty, CertaintyMeasure, CertaintySettings, LEAST_MISSING_MASS, LOWEST_LOGPROB, TopK, certainty,
    distribution_statistics, top_k_statistics,
};
pub use closed_loop::{ClosedLoopCritique, parse_closed_loop_critique};
pub use coin_flip::{CoinFlip, CoinFlipSettings};
pub use critic::{Critic, CriticSettings};
pub use critique::{Critique, parse_chat_critique, parse_compact_critique};
pub use dialogue_judge::{
    DialogueJudge, ModelJudge, Question, Review, ReviewInput, ReviewedTurn, parse_review, parse_verdict_line,
};
pub(crate) use evaluator::each;
pub use evaluator::{Basis, Candidate, CandidateSize, EvaluateError, EvaluateInput, Evaluator, evaluate_all};
pub use gold_feedback::{FeedbackSource, GoldFeedback, GoldFeedbackInput, PastAttempt, WhyUnsolved};
pub use group::{Groups, group_answers};
pub use judge::{Judge, JudgeExample, JudgeReading, JudgeSettings, Property, Shown};
pub use judgment::{CompactJudgment, Judgment, JudgmentSettings, parse_judgment};
pub use latent::{
    AttentionDrift, SegmentAttention, attention_drift, head_tokens, last_states, layer_tokens,
    segment_attention,
};
pub use likelihood::{Likelihood, LikelihoodSettings, Reduction};
pub use needs::{Needs, RoleNeeds, Unmet};
pub use outlook::{Outlook, OutlookSettings};
pub use recompute::{Recompute, RecomputeSettings};
pub use redact::{Redacted, redact, redact_aliases, redact_number, redact_option};
pub use registry::{EvaluatorEntry, evaluator, evaluators};
pub use rubric::{Criterion, CriterionScore, Rubric, RubricSettings, parse_rubric};
pub use support::{Support, SupportMethod, SupportSettings};
pub use verifier::{Verifier, VerifierSettings};
pub use vote_share::{VoteShare, VoteShareSettings};
