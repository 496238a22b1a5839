//! The lab: small checkpoints that experiments need beside the embedded model, trained once.
//!
//! Knows: what determines a checkpoint, where it lies, how it is made and found again. Does not know: what an
//! experiment does with it. A checkpoint is named by a key, the BLAKE3 hash of its [`Identity`]; it lies in the user's
//! cache folder as a run folder, so a build that was killed goes on, and one whose files were changed is noticed
//! and made again.

mod build;
pub(crate) mod chains;
pub(crate) mod counter;
mod evidence;
mod facts;
pub(crate) mod forward_backward;
mod identity;
pub mod judged_agent;
pub mod knows;
pub(crate) mod own_critic;
pub(crate) mod own_judge;
mod own_samples;
pub(crate) mod program_reviser;
pub(crate) mod program_writer;
pub(crate) mod reflection;
pub(crate) mod response_chooser;
pub(crate) mod rules;
pub(crate) mod small;
mod solved;
pub(crate) mod stream;
mod taught;
mod vocabulary;

pub use build::{Built, Card, Lab, Standing};
pub use chains::Chains;
pub use counter::Counter;
pub use evidence::EvidenceReader;
pub use facts::Facts;
pub use forward_backward::ForwardBackward;
pub use identity::{Identity, Origin};
pub use judged_agent::JudgedAgent;
pub use knows::Knows;
pub use own_critic::OwnCritic;
pub use own_judge::OwnJudge;
pub use program_reviser::ProgramReviser;
pub use program_writer::{Lesson, ProgramWriter};
pub use reflection::Reflection;
pub use response_chooser::ResponseChooser;
pub use rules::Rules;
pub use small::Small;
pub use stream::Stream;
pub use taught::Taught;

use crate::RecipeError;
use elenchus_learn::pretrain::ModelShape;
use elenchus_learn::trainer::{BatchSource, TrainSettings};
use elenchus_learn::{LearnError, NativePolicy, Session};
use elenchus_trace::nearest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// From which weights a checkpoint starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// The base model: the embedded one, or the one that was asked for.
    Base {
        /// Words added to its vocabulary; their embeddings begin as small random numbers.
        words: Vec<String>,
    },
    /// Fresh weights over the embedded model's vocabulary.
    Fresh {
        /// The shape.
        shape: ModelShape,
        /// Words added to the vocabulary.
        words: Vec<String>,
    },
    /// Another checkpoint of the lab with the same model seed.
    Lab {
        /// Its name.
        name: String,
    },
}

/// Everything that determines a checkpoint, beside its seed and the weights it starts from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Raised whenever the code that makes the rows changes what it makes: nothing else can tell.
    pub version: u32,
    /// The start.
    pub start: Start,
    /// Scalar heads that are added, zero at first, in this order behind those of the start.
    pub heads: Vec<String>,
    /// Name of the objective in the registry.
    pub objective: String,
    /// Its settings; null for its defaults.
    pub objective_settings: Value,
    /// The training.
    pub train: TrainSettings,
    /// Settings of the rows.
    pub rows: Value,
}

/// One figure that tells whether a checkpoint learned its job, measured on validation problems, never on test ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// What it is, for example `AUROC of own answers`.
    pub name: String,
    /// Its value.
    pub value: f64,
    /// On how many problems.
    pub problems: usize,
}

/// A checkpoint that the lab can make. One file each; [`checkpoints`] lists them.
pub trait LabModel: Send + Sync {
    /// Name on the command line.
    fn name(&self) -> &'static str;

    /// What it is for, in one line.
    fn summary(&self) -> &'static str;

    /// Everything that determines it.
    fn plan(&self) -> Plan;

    /// The batches: a function of seed and step, so that a resumed build sees what it would have seen. `policy` has the
    /// starting weights and may be sampled; samples go through `session.once`, so that they are drawn once.
    fn source(
        &self,
        policy: &mut NativePolicy,
        seed: u64,
        session: &Session<'_>,
    ) -> Result<Box<dyn BatchSource>, LearnError>;

    /// The figure on the card of the finished checkpoint.
    fn validate(
        &self,
        policy: &mut NativePolicy,
        seed: u64,
        session: &Session<'_>,
    ) -> Result<Figure, LearnError>;
}

/// All checkpoints, by name.
pub fn checkpoints() -> Vec<Box<dyn LabModel>> {
    let mut all: Vec<Box<dyn LabModel>> = vec![
        Box::new(OwnJudge::default()),
        Box::new(OwnCritic::default()),
        Box::new(Facts::first_view()),
        Box::new(Facts::second_view()),
        Box::new(Reflection::default()),
        Box::new(Chains::honest()),
        Box::new(Chains::biased()),
        Box::new(EvidenceReader::default()),
        Box::new(Rules::large()),
        Box::new(Rules::small()),
        Box::new(Stream::default()),
        Box::new(Counter::default()),
        Box::new(ResponseChooser::default()),
        Box::new(ProgramWriter::default()),
        Box::new(ProgramReviser::default()),
        Box::new(Small::default()),
        Box::new(ForwardBackward::default()),
    ];
    all.extend(Taught::all().into_iter().map(|model| Box::new(model) as Box<dyn LabModel>));
    all.extend(Knows::all().into_iter().map(|model| Box::new(model) as Box<dyn LabModel>));
    all.extend(JudgedAgent::all().into_iter().map(|model| Box::new(model) as Box<dyn LabModel>));
    all
}

/// The checkpoint of this name.
///
/// # Errors
/// None has it; the error names the nearest.
pub fn checkpoint(name: &str) -> Result<Box<dyn LabModel>, RecipeError> {
    let all = checkpoints();
    let hint = nearest(name, all.iter().map(|model| model.name()));
    all.into_iter().find(|model| model.name() == name).ok_or_else(|| RecipeError::Unknown {
        what: "checkpoint of the lab",
        name: name.into(),
        hint,
    })
}

#[cfg(test)]
pub(crate) mod tests;
