//! The door to training: who computes what on which thread.

use crate::kernels::drain_into;
use crate::sequence::{check_gradient, check_sequence};
use crate::train::{Batch, Keep, PACK_ROWS, Pass, Place, Share, Worker, gather_batches};
use crate::{
    ForwardOptions, Gradient, Model, ModelConfig, NativeError, Sequence, SequenceGradient, SequenceOutput,
};

/// The loss of one group of sequences and its derivatives: `(group index, outputs) -> (loss, gradients)`.
///
/// Called once per group, possibly from several threads at once. It returns one gradient per sequence of the group.
pub type Objective<'a> = dyn Fn(usize, &[SequenceOutput]) -> (f64, Vec<SequenceGradient>) + Sync + 'a;

/// Working memory of the training half: one arena per thread, reused from call to call, bound to no model.
#[derive(Debug, Default)]
pub struct Engine {
    workers: Vec<Worker>,
    /// Set while gradient buffers may hold numbers: an objective that panicked must not leave them for the next call.
    dirty: bool,
}

/// Work of one sequence in multiply-adds, for an even split.
fn cost(model: &Model, sequence: &Sequence) -> u64 {
    let (t, c) = (sequence.tokens.len() as u64, model.config());
    let attention = c.layers as u64 * c.query_width() as u64 * t * t;
    let embedding = (c.vocab_size * c.hidden_size) as u64;
    let trunk = (model.layout().total() as u64).saturating_sub(embedding).max(1);
    t * trunk + attention + sequence.targets() as u64 * embedding
}

/// Longest first, each to the least loaded; ties go to the lower index. Returns lists in index order and the largest load.
fn split(costs: &[u64], workers: usize) -> (Vec<Vec<usize>>, u64) {
    let mut order: Vec<usize> = (0..costs.len()).collect();
    order.sort_by_key(|i| (std::cmp::Reverse(costs[*i]), *i));
    let (mut lists, mut loads) = (vec![Vec::new(); workers], vec![0u64; workers]);
    for index in order {
        let least = (0..workers).min_by_key(|w| (loads[*w], *w)).unwrap_or(0);
        lists[least].push(index);
        loads[least] += costs[index];
    }
    lists.iter_mut().for_each(|list| list.sort_unstable());
    (lists, loads.into_iter().max().unwrap_or(0))
}

/// Runs one closure per worker, the first on the calling thread; results in order of workers.
pub(crate) fn on_all<T: Send, I: Send>(items: Vec<I>, run: &(dyn Fn(I) -> T + Sync)) -> Vec<T> {
    let mut items = items.into_iter();
    let Some(first) = items.next() else { return Vec::new() };
    std::thread::scope(|scope| {
        let handles: Vec<_> = items.map(|item| scope.spawn(move || run(item))).collect();
        let mut results = vec![run(first)];
        for handle in handles {
            // A panic (of an objective, say) goes on in the caller as if there had been no thread.
            results.push(handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        results
    })
}

/// How the groups of a call are dealt out.
enum Schedule {
    /// Each worker runs whole groups from forward to backward.
    Groups(Vec<Vec<usize>>),
    /// Workers share every batch: few or very unequal groups.
    Sequences(Vec<(Batch, Vec<Vec<Place>>)>),
}

impl Schedule {
    fn new(model: &Model, groups: &[Vec<Sequence>], workers: usize) -> Self {
        let costs = |group: &Vec<Sequence>| group.iter().map(|s| cost(model, s)).collect::<Vec<_>>();
        let group_costs: Vec<u64> = groups.iter().map(|group| costs(group).iter().sum()).collect();
        let (lists, longest) = split(&group_costs, workers);
        if workers == 1 {
            return Schedule::Groups(lists);
        }
        let all: Vec<usize> = (0..groups.len()).collect();
        let mut shared_longest = 0;
        let batches = gather_batches(&all, groups, PACK_ROWS * workers).into_iter().map(|batch| {
            let places: Vec<Place> =
                batch.iter().flat_map(|g| (0..groups[*g].len()).map(move |s| (*g, s))).collect();
            let costs: Vec<u64> = places.iter().map(|(g, s)| cost(model, &groups[*g][*s])).collect();
            let (lists, longest) = split(&costs, workers);
            shared_longest += longest;
            let lists = lists.into_iter().map(|list| list.into_iter().map(|i| places[i]).collect()).collect();
            (batch, lists)
        });
        let batches = batches.collect();
        // Sharing costs two meetings per batch, so it must win by more than a little.
        if longest as f64 > 1.1 * shared_longest as f64 {
            return Schedule::Sequences(batches);
        }
        Schedule::Groups(lists)
    }
}

/// Blocks whose activations backward needs.
fn keep_for(model: &Model, plan: &crate::gradient::Plan) -> Keep {
    let c: &ModelConfig = model.config();
    let lowest = plan.lowest_block.unwrap_or(c.layers);
    let read = model.heads.iter().filter_map(|head| head.layer).min().unwrap_or(c.layers);
    Keep { from: lowest.min(read) }
}

/// Loss of each group of a batch, in order, and the gradients of its sequences.
type Judged = Vec<(usize, f64, Vec<SequenceGradient>)>;

/// Calls the objective for every group of a batch. `outputs` come in any order.
fn judge(
    batch: &[usize],
    groups: &[Vec<Sequence>],
    mut outputs: Vec<(Place, SequenceOutput)>,
    objective: &Objective<'_>,
) -> Result<Judged, NativeError> {
    outputs.sort_by_key(|(place, _)| *place);
    let mut outputs = outputs.into_iter().map(|(_, output)| output);
    let mut judged = Vec::with_capacity(batch.len());
    for group in batch {
        let outputs: Vec<SequenceOutput> = outputs.by_ref().take(groups[*group].len()).collect();
        let (loss, gradients) = objective(*group, &outputs);
        if gradients.len() != outputs.len() {
            return Err(NativeError::argument(
                "forward_backward",
                format!(
                    "the objective returned {} gradients for the {} sequences of group {group}",
                    gradients.len(),
                    outputs.len()
                ),
                "return one gradient per sequence",
            ));
        }
        for (index, (output, gradient)) in outputs.iter().zip(&gradients).enumerate() {
            check_gradient(&|| format!("sequence {index} of group {group}"), output, gradient)?;
        }
        judged.push((*group, loss, gradients));
    }
    Ok(judged)
}

fn gradient_of(judged: &Judged, (group, index): Place) -> &SequenceGradient {
    static NONE: SequenceGradient =
        SequenceGradient { logprobs: Vec::new(), entropies: Vec::new(), heads: Vec::new() };
    let found = judged.binary_search_by_key(&group, |(group, ..)| *group);
    found.map_or(&NONE, |at| &judged[at].2[index])
}

impl Engine {
    /// An engine without any memory yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn workers(&mut self, count: usize) -> &mut [Worker] {
        while self.workers.len() < count {
            self.workers.push(Worker::default());
        }
        &mut self.workers[..count]
    }

    /// Forward only: what the model says about each sequence, in order.
    ///
    /// Errors when the model's parts, a sequence or an option do not fit.
    pub fn logprobs(
        &mut self,
        model: &Model,
        sequences: &[Sequence],
        options: &ForwardOptions,
    ) -> Result<Vec<SequenceOutput>, NativeError> {
        model.check_parts()?;
        options.check("logprobs")?;
        for (index, sequence) in sequences.iter().enumerate() {
            check_sequence("logprobs", model, &|| format!("sequence {index}"), sequence)?;
        }
        let pass = Pass { model, options, training: false, keep: Keep::nothing(model.config()), mask: None };
        let costs: Vec<u64> = sequences.iter().map(|s| cost(model, s)).collect();
        let workers = options.workers().min(sequences.len()).max(1);
        let (lists, _) = split(&costs, workers);
        let items: Vec<_> = self.workers(workers).iter_mut().zip(lists).collect();
        let results = on_all(items, &|(worker, list): (&mut Worker, Vec<usize>)| {
            let chosen = list.iter().map(|index| ((0, *index), &sequences[*index]));
            worker.forward(&pass, &Share::new(chosen, options.dropout_seed))
        });
        let mut outputs: Vec<_> = results.into_iter().flatten().collect();
        outputs.sort_by_key(|(place, _)| *place);
        Ok(outputs.into_iter().map(|(_, output)| output).collect())
    }

    /// Runs every group forward, asks the objective for its loss and derivatives, runs backward and adds the
    /// derivatives by everything that learns to `gradient`. Returns the summed loss.
    ///
    /// The split over threads depends only on the lengths, and sums are taken in a fixed order: the same call with
    /// the same number of threads gives the same bits. Errors when parts, sequences, options or the objective's
    /// gradients do not fit; `gradient` is then partly added to and should be zeroed.
    pub fn forward_backward(
        &mut self,
        model: &Model,
        groups: &[Vec<Sequence>],
        options: &ForwardOptions,
        objective: &Objective<'_>,
        gradient: &mut Gradient,
    ) -> Result<f64, NativeError> {
        model.check_parts()?;
        options.check("forward_backward")?;
        gradient.check("forward_backward", model)?;
        for (g, group) in groups.iter().enumerate() {
            for (s, sequence) in group.iter().enumerate() {
                let at = || format!("sequence {s} of group {g}");
                check_sequence("forward_backward", model, &at, sequence)?;
            }
        }
        let sequences = groups.iter().map(Vec::len).sum::<usize>();
        let count = options.workers().min(sequences).max(1);
        let pass = Pass { model, options, training: true, keep: keep_for(model, &gradient.plan), mask: None };
        let schedule = Schedule::new(model, groups, count);
        let Gradient { values, plan } = gradient;
        let dirty = std::mem::replace(&mut self.dirty, true);
        let workers = self.workers(count);
        for worker in workers.iter_mut().skip(1) {
            worker.prepare_gradient(plan.total, dirty);
        }
        let result = match schedule {
            Schedule::Groups(lists) => {
                let owns = std::iter::once(Some(&mut values[..])).chain(std::iter::repeat_with(|| None));
                let items: Vec<_> = workers.iter_mut().zip(lists).zip(owns).collect();
                type Item<'w> = ((&'w mut Worker, Vec<usize>), Option<&'w mut [f32]>);
                let results = on_all(items, &|((worker, list), mut own): Item<'_>| {
                    let mut losses = Vec::new();
                    for batch in gather_batches(&list, groups, PACK_ROWS) {
                        let places = batch
                            .iter()
                            .flat_map(|g| groups[*g].iter().enumerate().map(move |(s, q)| ((*g, s), q)));
                        let share = Share::new(places, options.dropout_seed);
                        let outputs = worker.forward(&pass, &share);
                        let judged = judge(&batch, groups, outputs, objective)?;
                        worker.backward(
                            &pass,
                            &share,
                            plan,
                            &|place| gradient_of(&judged, place),
                            own.as_deref_mut(),
                        );
                        losses.extend(judged.into_iter().map(|(group, loss, _)| (group, loss)));
                    }
                    Ok(losses)
                });
                results.into_iter().collect::<Result<Vec<_>, NativeError>>().map(|lists| lists.concat())
            }
            Schedule::Sequences(batches) => shared(&pass, workers, groups, batches, objective, plan, values),
        };
        // Drained on errors too: the buffers must be zero before the next call.
        drain(workers, values);
        self.dirty = false;
        let mut losses = result?;
        losses.sort_by_key(|(group, _)| *group);
        Ok(losses.into_iter().map(|(_, loss)| loss).sum())
    }
}

/// Runs batches whose sequences are shared by all workers.
fn shared(
    pass: &Pass<'_>,
    workers: &mut [Worker],
    groups: &[Vec<Sequence>],
    batches: Vec<(Batch, Vec<Vec<Place>>)>,
    objective: &Objective<'_>,
    plan: &crate::gradient::Plan,
    values: &mut [f32],
) -> Result<Vec<(usize, f64)>, NativeError> {
    let mut losses = Vec::new();
    for (batch, lists) in batches {
        let seed = pass.options.dropout_seed;
        let pack = |list: &Vec<Place>| {
            Share::new(list.iter().map(|place| (*place, &groups[place.0][place.1])), seed)
        };
        let shares: Vec<Share> = lists.iter().map(pack).collect();
        let items: Vec<_> = workers.iter_mut().zip(&shares).collect();
        let outputs = on_all(items, &|(worker, share): (&mut Worker, &Share)| worker.forward(pass, share));
        let judged = judge(&batch, groups, outputs.concat(), objective)?;
        let owns = std::iter::once(Some(&mut values[..])).chain(std::iter::repeat_with(|| None));
        let items: Vec<_> = workers.iter_mut().zip(&shares).zip(owns).collect();
        type Item<'w> = ((&'w mut Worker, &'w Share), Option<&'w mut [f32]>);
        on_all(items, &|((worker, share), own): Item<'_>| {
            worker.backward(pass, share, plan, &|place| gradient_of(&judged, place), own);
        });
        losses.extend(judged.into_iter().map(|(group, loss, _)| (group, loss)));
    }
    Ok(losses)
}

/// Adds the buffers of all workers but the first to `values`, in order, and leaves them zero.
fn drain(workers: &mut [Worker], values: &mut [f32]) {
    let (count, total) = (workers.len(), values.len());
    if count < 2 || total == 0 {
        return;
    }
    let size = total.div_ceil(count);
    let mut sources: Vec<_> =
        workers.iter_mut().skip(1).map(|worker| worker.gradient[..total].chunks_mut(size)).collect();
    let parts = values
        .chunks_mut(size)
        .map(|part| (part, sources.iter_mut().filter_map(Iterator::next).collect::<Vec<_>>()));
    let items: Vec<_> = parts.collect();
    on_all(items, &|(part, sources): (&mut [f32], Vec<&mut [f32]>)| {
        for source in sources {
            drain_into(part, source);
        }
    });
}
