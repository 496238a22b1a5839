//! Strategies: what to do next at test time.
//!
//! Knows: how to spend model calls on a problem and when to stop, how answers are voted on and chosen, also among
//! recorded samples. Does not know: how a response is judged (crate `evaluate`), how a model is reached (crate
//! `generate`), or weights.

mod act;
mod arrangement;
mod ask_again;
mod assembly;
mod attempts;
mod ballot;
mod beam;
mod best_of_n;
mod borda;
mod closed_loop_critique;
mod compose;
mod composition;
mod consistency_gate;
mod consistency_record;
mod continuation;
mod critique_and_refine;
mod cyberv;
mod drafts;
mod draw;
mod fobar;
mod gsa;
mod iad;
mod iterative_deepening_sampling;
mod judged_dialogue;
mod key_evidence;
mod loose_answer;
mod masks;
mod path;
mod place;
mod rain;
mod recorded;
mod recorded_rows;
mod registry;
mod retry_with_feedback;
mod rpc;
mod score_forest;
mod selection;
mod self_agreement;
mod self_check;
mod self_consistency;
mod sense;
mod single;
mod step_search;
mod strategy;
mod taxonomy;
#[cfg(test)]
mod testing;
mod trail;
pub mod tree;
mod universal_self_consistency;
mod until_stable;
mod vote;
mod weibull;

pub use act::{Act, ActSettings};
pub use arrangement::{Kept, OptionExchange, posed_problem};
pub use ask_again::{AskAgain, AskAgainSettings, Steering};
pub use assembly::{Repeated, repeat};
pub use attempts::{Attempt, AttemptLog, Transitions};
pub use ballot::{Ballot, Choice, Power, Rule, borda_weights, choose, rule_of_thumb};
pub use beam::{Beam, BeamSettings, keep_best};
pub use best_of_n::{BestOfN, BestOfNSettings};
pub use borda::{Borda, BordaRule, BordaSettings};
pub use closed_loop_critique::{
    ClosedLoopCritique, ClosedLoopCritiqueSettings, CritiqueOf, CritiqueTurn, Unreadable,
};
pub use compose::{BestOf, Member, Otherwise, Then};
pub use composition::{BY, Composition, Part, RECIPE_FILE};
pub use consistency_gate::{
    ConsistencyGate, ConsistencyGateSettings, ConsistencyMeasure, ConsistencyUpdate, consistency_labels,
    gated_count,
};
pub use consistency_record::ConsistencyRecord;
pub use continuation::{Continuation, Injection, Mark, Purpose, Resumption, Span, Spending, boundary};
pub use critique_and_refine::{Acceptance, CritiqueAndRefine, CritiqueAndRefineSettings};
pub use cyberv::{Accept, CyberV, CyberVLog, CyberVSettings, EvidenceBy};
pub use draw::{Draw, Sampled};
pub use fobar::{Fobar, FobarSettings, Fusion, forward_backward};
pub use gsa::{Gsa, GsaSettings};
pub use iad::{Contrast, Iad, IadSettings, Standing, Takeover};
pub use iterative_deepening_sampling::{
    DeepenedResponse, IterativeDeepeningSampling, IterativeDeepeningSamplingSettings, OnEnd, Trigger,
    deepening_budgets,
};
pub use judged_dialogue::{
    AuditDialogue, AuditSettings, DialogueRound, Gate, JudgeReport, JudgedDialogue, JudgedDialogueSettings,
    JudgedResponse, RoundTable, RoundTableOutcome, RoundTableSettings, Silence, dialogue_course, judge_item,
    round_table_vote,
};
pub use key_evidence::Ranked;
pub use masks::{Backward, backward_questions, usable_masks};
pub use path::{PathCount, PathRule, PathWeight, PathWeights, path_weights, pruned};
pub use rain::{Rain, RainSettings, SimilarityFrom, Simulate, StopRule};
pub use recorded::{
    RecordedChoice, RecordedMethod, RecordedSettings, ScoreField, recorded_methods, select_recorded,
};
pub use recorded_rows::select_all;
pub use registry::{StrategyEntry, strategies, strategies_that, strategy};
pub use retry_with_feedback::{
    RetryEnd, RetryRound, RetryWithFeedback, RetryWithFeedbackSettings, novel, rising_temperature,
    why_unsolved,
};
pub use rpc::{Rpc, RpcSettings};
pub use score_forest::{Forest, KeyLimits, Sensed, Signal, drift, key_segments, lost_attention, repeats};
pub use self_agreement::{SelfAgreement, SelfAgreementSettings, parse_voted_answer};
pub use self_check::{SelfCheck, SelfCheckSettings, VoteCertainty, checked_vote};
pub use self_consistency::{SelfConsistency, SelfConsistencySettings};
pub use single::{Single, SingleSettings};
pub use step_search::{StepSearch, StepSearchSettings};
pub use strategy::{ControlError, Estimate, EstimateInput, Keeps, Minimum, Strategy};
pub use taxonomy::{ControlKind, EvaluateKind, FeedbackLine, GenerateKind, Triple};
pub use trail::Trail;
pub use universal_self_consistency::{
    UniversalSelfConsistency, UniversalSelfConsistencySettings, parse_response_number,
};
pub use until_stable::{UntilStable, UntilStableSettings};
pub use vote::{VoteResult, heaviest, is_decided, is_settled, majority, tally, vote};
pub use weibull::{LEAST_DISTINCT, Weibull, WeibullMixture};
