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
    #[error("training diverged at step {step}: {what}\nhint: lower the learning rate or tighten gradient clipping")]
    Diverged {
        /// The optimiser step.
        step: usize,
        /// What was seen.
        what: String,
    },
    /// A task refused.
    #[error(transparent)]
    Task(#[from] elenchus_task::TaskError),
    /// Stopped from outside; what was done is in the run.
    #[error("interrupted; everything finished so far is kept\nhint: go on with `elenchus resume RUN`")]
    Interrupted,
}
