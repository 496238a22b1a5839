//! What is trained, and the gradient of it.

use crate::{Model, NativeError};
use std::ops::Range;

/// Which numbers of a model learn. The scalar heads of the model always do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trainable {
    /// Every parameter, and the adapter if there is one.
    All,
    /// The last k blocks, the final norm, and the output matrix when it is not the embedding.
    LastBlocks(usize),
    /// Only the LoRA adapter: no gradient of the frozen matrices is computed.
    Adapter,
    /// Only the scalar heads: nothing flows back into the trunk.
    Heads,
}

/// Which stretches of which vectors a flat gradient stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub trainable: Trainable,
    /// Stretch of `Model::parameters`.
    pub base: Range<usize>,
    /// Place of the adapter in the flat gradient.
    pub adapter: Range<usize>,
    /// Place of each head in the flat gradient: weight, then bias.
    pub heads: Vec<Range<usize>>,
    /// Blocks below this one are not walked back; `None` leaves the whole trunk alone.
    pub lowest_block: Option<usize>,
    pub total: usize,
}

impl Plan {
    pub(crate) fn new(model: &Model, trainable: Trainable) -> Result<Self, NativeError> {
        let (layers, total) = (model.config().layers, model.layout().total());
        let adapter_numbers = model.adapter.as_ref().map_or(0, |a| a.numbers.len());
        let refuse = |problem: String, hint| Err(NativeError::argument("trainable parts", problem, hint));
        let (base, adapter_numbers, lowest_block) = match trainable {
            Trainable::All => (0..total, adapter_numbers, Some(0)),
            Trainable::LastBlocks(k) if k == 0 || k > layers => {
                let problem = format!("the last {k} of {layers} blocks are asked for");
                return refuse(problem, "give 1 to the number of blocks");
            }
            Trainable::LastBlocks(k) => {
                (model.layout().blocks[layers - k].attention_norm.start..total, 0, Some(layers - k))
            }
            Trainable::Adapter if adapter_numbers == 0 => {
                return refuse("the model has no adapter".into(), "set `model.adapter` first");
            }
            Trainable::Adapter => (0..0, adapter_numbers, Some(0)),
            Trainable::Heads if model.heads.is_empty() => {
                return refuse("the model has no scalar heads".into(), "push a head to `model.heads` first");
            }
            Trainable::Heads => (0..0, 0, None),
        };
        let adapter = base.len()..base.len() + adapter_numbers;
        let mut next = adapter.end;
        let heads = model.heads.iter().map(|head| {
            let place = next..next + head.numbers();
            next = place.end;
            place
        });
        let heads = heads.collect();
        Ok(Plan { trainable, base, adapter, heads, lowest_block, total: next })
    }
}

/// The derivative of a loss by everything that is trained, as one flat vector.
///
/// Order: the trained stretch of [`Model::parameters`], the adapter, then each head (weight, bias).
#[derive(Debug, Clone, PartialEq)]
pub struct Gradient {
    /// All numbers; add to them, scale them, read them freely.
    pub values: Vec<f32>,
    pub(crate) plan: Plan,
}

impl Gradient {
    /// Zeros for what is trained of this model. Errors when `trainable` asks for what the model does not have.
    pub fn new(model: &Model, trainable: Trainable) -> Result<Self, NativeError> {
        model.check_parts()?;
        let plan = Plan::new(model, trainable)?;
        Ok(Gradient { values: vec![0.0; plan.total], plan })
    }

    /// Sets every number to 0, for the next step.
    pub fn zero(&mut self) {
        self.values.fill(0.0);
    }

    /// Which numbers learn.
    pub fn trainable(&self) -> Trainable {
        self.plan.trainable
    }

    /// The stretch of [`Model::parameters`] that [`Gradient::parameters`] belongs to.
    pub fn parameter_range(&self) -> Range<usize> {
        self.plan.base.clone()
    }

    /// Derivatives by the trained stretch of the parameters.
    pub fn parameters(&self) -> &[f32] {
        &self.values[..self.plan.base.len()]
    }

    /// Derivatives by [`crate::LoraAdapter::numbers`]; empty when it is not trained.
    pub fn adapter(&self) -> &[f32] {
        &self.values[self.plan.adapter.clone()]
    }

    /// Derivatives by the weights of head `index` and, last, by its bias.
    pub fn head(&self, index: usize) -> Option<&[f32]> {
        self.plan.heads.get(index).map(|place| &self.values[place.clone()])
    }

    /// Euclidean norm, summed in f64 in a fixed order.
    pub fn norm(&self) -> f64 {
        crate::kernels::sum_of_squares(&self.values).sqrt()
    }

    /// Multiplies every number, for example by one over the number of examples.
    pub fn scale(&mut self, factor: f32) {
        self.values.iter_mut().for_each(|value| *value *= factor);
    }

    /// Refuses a model whose parts are not those this gradient was made for.
    pub(crate) fn check(&self, operation: &'static str, model: &Model) -> Result<(), NativeError> {
        let plan = Plan::new(model, self.plan.trainable)?;
        if plan == self.plan && self.values.len() == plan.total {
            return Ok(());
        }
        Err(NativeError::argument(
            operation,
            format!("the gradient has {} numbers, this model needs {}", self.values.len(), plan.total),
            "make the gradient with `Gradient::new` after the model has its heads and adapter",
        ))
    }
}
