/// Why a recipe cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// The file is not a recipe.
    #[error("{file}:{line}: {problem}\nhint: {hint}")]
    Parse {
        /// The file.
        file: String,
        /// Line, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
        /// What to do.
        hint: String,
    },
    /// The recipe is well-formed and means nothing.
    #[error("recipe `{recipe}`: {problem}\nhint: {hint}")]
    Check {
        /// The recipe.
        recipe: String,
        /// What is wrong.
        problem: String,
        /// What to do.
        hint: String,
    },
    /// The file cannot be read.
    #[error(transparent)]
    Remember(#[from] elenchus_remember::RememberError),
    /// Learning or measuring failed.
    #[error(transparent)]
    Learn(#[from] elenchus_learn::LearnError),
    /// A strategy or an evaluator failed.
    #[error(transparent)]
    Control(#[from] elenchus_control::ControlError),
    /// A model cannot be asked.
    #[error(transparent)]
    Generate(#[from] elenchus_generate::GenerateError),
    /// A model cannot be loaded.
    #[error(transparent)]
    Native(#[from] elenchus_native::NativeError),
    /// A task refused.
    #[error(transparent)]
    Task(#[from] elenchus_task::TaskError),
    /// A measurement refused its input.
    #[error(transparent)]
    Measure(#[from] elenchus_measure::MeasureError),
    /// No recipe, or no model, has this name.
    #[error("unknown {what} `{name}`\nhint: {hint}")]
    Unknown {
        /// `recipe` or `model`.
        what: &'static str,
        /// The name.
        name: String,
        /// The nearest names.
        hint: String,
    },
}
