//! One thread's part of a call: packs of sequences, their activations, its gradient buffer.

use super::backward::{OutputGradient, Sink, backward};
use super::forward::{Pass, forward};
use super::pack::{Activations, Pack, Scratch};
use crate::gradient::Plan;
use crate::random::mix_all;
use crate::{Sequence, SequenceGradient, SequenceOutput};

/// Rows a pack aims at: enough for fast products, few enough that one block's activations stay in the cache.
pub(crate) const PACK_ROWS: usize = 256;

/// Activations one worker may keep between forward and backward. A share that needs more is run forward twice.
const ACTIVATION_BUDGET_BYTES: usize = 256 << 20;

/// Buffers of one thread, reused from call to call.
#[derive(Debug, Default)]
pub(crate) struct Worker {
    kept: Vec<Activations>,
    scratch: Scratch,
    d_outputs: OutputGradient,
    /// Gradient of workers other than the first; zero between calls.
    pub gradient: Vec<f32>,
}

/// Whole groups that are run together, by index.
pub(crate) type Batch = Vec<usize>;

/// A sequence's group and its place in the group.
pub(crate) type Place = (usize, usize);

/// The sequences one worker runs of a batch, as packs.
#[derive(Debug, Default)]
pub(crate) struct Share {
    packs: Vec<(Pack, Vec<Place>)>,
}

/// Cuts groups into batches of about `rows` rows, in order.
pub(crate) fn gather_batches(indices: &[usize], groups: &[Vec<Sequence>], rows: usize) -> Vec<Batch> {
    let (mut batches, mut batch, mut held) = (Vec::new(), Batch::new(), 0);
    for index in indices {
        let more: usize = groups[*index].iter().map(|s| s.tokens.len()).sum();
        if held > 0 && held + more > rows {
            batches.push(std::mem::take(&mut batch));
            held = 0;
        }
        batch.push(*index);
        held += more;
    }
    if !batch.is_empty() {
        batches.push(batch);
    }
    batches
}

impl Share {
    /// Packs the sequences in the given order.
    pub(crate) fn new<'a>(sequences: impl Iterator<Item = (Place, &'a Sequence)>, dropout_seed: u64) -> Self {
        let mut packs: Vec<(Pack, Vec<Place>)> = Vec::new();
        for (place, sequence) in sequences {
            let fits = packs.last().is_some_and(|(pack, _)| pack.rows() + sequence.tokens.len() <= PACK_ROWS);
            if !fits {
                packs.push(Default::default());
            }
            if let Some((pack, places)) = packs.last_mut() {
                pack.push(sequence, mix_all(&[dropout_seed, place.0 as u64, place.1 as u64]));
                places.push(place);
            }
        }
        Share { packs }
    }
}

impl Worker {
    /// Makes room for a gradient of `total` numbers. What is there is zero unless a call ended in a panic.
    pub(crate) fn prepare_gradient(&mut self, total: usize, dirty: bool) {
        if dirty {
            self.gradient.fill(0.0);
        }
        super::pack::ensure(&mut self.gradient, total);
    }

    /// Whether all activations of a share may be kept at once.
    fn keeps_all(pass: &Pass<'_>, share: &Share) -> bool {
        let rows: usize = share.packs.iter().map(|(pack, _)| pack.rows()).sum();
        rows * Activations::bytes_per_row(pass.model.config(), pass.keep) <= ACTIVATION_BUDGET_BYTES
    }

    /// Runs forward; keeps the activations when a backward pass follows and they fit.
    pub(crate) fn forward(&mut self, pass: &Pass<'_>, share: &Share) -> Vec<(Place, SequenceOutput)> {
        let keeps = pass.training && Self::keeps_all(pass, share);
        let mut outputs = Vec::new();
        for (index, (pack, places)) in share.packs.iter().enumerate() {
            let at = if keeps { index } else { 0 };
            if self.kept.len() <= at {
                self.kept.push(Activations::default());
            }
            let kept = &mut self.kept[at];
            forward(pass, pack, kept, &mut self.scratch);
            collect(pass, pack, places, kept, &mut outputs);
        }
        outputs
    }

    /// Runs backward over a share that was just run forward. `own` takes the place of the worker's own buffer.
    pub(crate) fn backward<'g>(
        &mut self,
        pass: &Pass<'_>,
        share: &Share,
        plan: &Plan,
        gradient_of: &dyn Fn(Place) -> &'g SequenceGradient,
        own: Option<&mut [f32]>,
    ) {
        let keeps = Self::keeps_all(pass, share);
        let values = match own {
            Some(values) => values,
            None => &mut self.gradient[..plan.total],
        };
        let mut sink = Sink { plan, values };
        for (index, (pack, places)) in share.packs.iter().enumerate() {
            let kept = &mut self.kept[if keeps { index } else { 0 }];
            if !keeps {
                forward(pass, pack, kept, &mut self.scratch);
            }
            spread(pass, pack, places, gradient_of, &mut self.d_outputs);
            backward(pass, pack, kept, &mut self.scratch, &self.d_outputs, &mut sink);
        }
    }
}

/// Cuts the outputs of a pack into those of its sequences.
fn collect(
    pass: &Pass<'_>,
    pack: &Pack,
    places: &[Place],
    kept: &Activations,
    outputs: &mut Vec<(Place, SequenceOutput)>,
) {
    let (mut target, n) = (0, pack.rows());
    for (segment, place) in pack.segments.iter().zip(places) {
        let targets = target..target + segment.targets();
        target = targets.end;
        let entropies =
            if pass.options.entropies { kept.entropies[targets.clone()].to_vec() } else { Vec::new() };
        let rows = |head: usize| head * n + segment.start..head * n + segment.start + segment.length;
        let heads = (0..pass.model.heads.len()).map(|h| kept.head_values[rows(h)].to_vec()).collect();
        let logprobs = kept.logprobs[targets].to_vec();
        outputs.push((*place, SequenceOutput { logprobs, entropies, heads }));
    }
}

/// Lays the gradients of sequences end to end as their pack is laid.
fn spread<'g>(
    pass: &Pass<'_>,
    pack: &Pack,
    places: &[Place],
    gradient_of: &dyn Fn(Place) -> &'g SequenceGradient,
    d: &mut OutputGradient,
) {
    let (targets, n, heads) = (pack.target_rows.len(), pack.rows(), pass.model.heads.len());
    for (buffer, length) in
        [(&mut d.logprobs, targets), (&mut d.entropies, targets), (&mut d.heads, heads * n)]
    {
        buffer.clear();
        buffer.resize(length, 0.0);
    }
    let (mut target, mut any_entropy) = (0, false);
    for (segment, place) in pack.segments.iter().zip(places) {
        let gradient = gradient_of(*place);
        let at = target..target + segment.targets();
        target = at.end;
        if !gradient.logprobs.is_empty() {
            d.logprobs[at.clone()].copy_from_slice(&gradient.logprobs);
        }
        if !gradient.entropies.is_empty() {
            any_entropy = true;
            d.entropies[at].copy_from_slice(&gradient.entropies);
        }
        for (head, values) in gradient.heads.iter().enumerate().filter(|(_, values)| !values.is_empty()) {
            d.heads[head * n + segment.start..][..segment.length].copy_from_slice(values);
        }
    }
    if !any_entropy {
        d.entropies.clear();
    }
}
