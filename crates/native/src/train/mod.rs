//! The training half: forward with activations kept, backward, and their scheduling over threads.
//!
//! The unit of work is a `Pack`: whole sequences laid end to end, a few hundred rows, so that every product has
//! enough rows to be fast while the activations of one block stay in the cache.

mod attention;
mod backward;
mod forward;
mod heads;
mod inside;
mod lora;
mod pack;
mod vocabulary;
mod worker;

pub(crate) use forward::Pass;
pub(crate) use inside::Inside;
pub(crate) use pack::Keep;
pub(crate) use worker::{Batch, PACK_ROWS, Place, Share, Worker, gather_batches};
