/// Why learning could not go on.
#[derive(Debug, thiserror::Error)]
pub enum LearnError {
    /// A setting is wrong.
    #[error("setting `{field}` {problem}\nhint: {hint}")]
    Setting {
        /// The setting.
        field: String,
        /// What is wrong.
        problem: String,
        /// What to do.
        hint: String,
    },
    /// There is nothing to learn from.
    #[error("{what}\nhint: {hint}")]
    Data {
        /// What is missing.
        what: String,
        /// What to do.
        hint: String,
    },
    /// The loss or a gradient is not a number any more.
    #[error(
        "training diverged at step {step}: {what}\nhint: lower the learning rate or tighten gradient clipping"
    )]
    Diverged {
        /// The optimiser step.
        step: usize,
        /// What was seen.
        what: String,
    },
    /// A task refused.
    #[error(transparent)]
    Task(#[from] elenchus_task::TaskError),
    /// A measurement refused its input.
    #[error(transparent)]
    Measure(#[from] elenchus_measure::MeasureError),
    /// The run folder failed.
    #[error(transparent)]
    Remember(#[from] elenchus_remember::RememberError),
    /// The model failed.
    #[error(transparent)]
    Native(#[from] elenchus_native::NativeError),
    /// Decoding failed.
    #[error(transparent)]
    Decode(#[from] elenchus_native::DecodeError),
    /// Stopped from outside; what was done is in the run.
    #[error("interrupted\nhint: do the same again; what a run folder holds already is not done twice")]
    Interrupted,
}
