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
    /// No recipe has this name.
    #[error("unknown recipe `{name}`\nhint: {hint}")]
    Unknown {
        /// The name.
        name: String,
        /// The nearest names.
        hint: String,
    },
}
