//! What every call for one problem looks at, and what several responses to it have in common.

use elenchus_evaluate::{CandidateSize, Evaluator};
use elenchus_generate::Context;
use elenchus_task::Task;
use elenchus_trace::Problem;

/// What every call for one problem looks at.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub context: &'a Context,
    pub task: &'a dyn Task,
    pub problem: &'a Problem,
}

/// Whether several responses are one text: an endpoint that ignores the temperature looks like perfect agreement.
pub(crate) fn all_identical(texts: &[&str]) -> bool {
    texts.len() > 1 && texts.windows(2).all(|pair| pair[0] == pair[1])
}

/// The fewest calls in which an evaluator judges this many candidates: one each, or fewer where it judges them together.
pub(crate) fn fewest_calls(evaluator: &dyn Evaluator, candidates: u64) -> u64 {
    let size = CandidateSize { candidates, prompt_tokens: 1, completion_tokens: 1 };
    evaluator.cost(size).calls.min(candidates)
}
