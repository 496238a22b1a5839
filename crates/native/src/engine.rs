//! placeholder while the passes are written
use crate::*;
/// The loss of one group of sequences and its derivatives: `(group index, outputs) -> (loss, gradients)`.
pub type Objective<'a> = dyn Fn(usize, &[SequenceOutput]) -> (f64, Vec<SequenceGradient>) + Sync + 'a;
/// Working memory.
#[derive(Debug, Default)]
pub struct Engine {}
impl Engine {
    /// An engine.
    pub fn new() -> Self {
        Self::default()
    }
    /// Forward only.
    pub fn logprobs(
        &mut self,
        _model: &Model,
        _sequences: &[Sequence],
        _options: &ForwardOptions,
    ) -> Result<Vec<SequenceOutput>, NativeError> {
        Err(NativeError::argument("logprobs", "is being written", "wait"))
    }
    /// Forward and backward.
    pub fn forward_backward(
        &mut self,
        _model: &Model,
        _groups: &[Vec<Sequence>],
        _options: &ForwardOptions,
        _objective: &Objective<'_>,
        _gradient: &mut Gradient,
    ) -> Result<f64, NativeError> {
        Err(NativeError::argument("forward_backward", "is being written", "wait"))
    }
}
