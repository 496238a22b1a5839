/// Why something could not be measured.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum MeasureError {
    /// There is nothing to measure.
    #[error("{what}: no data\nhint: {hint}")]
    Empty {
        /// The metric or the input.
        what: String,
        /// What to do.
        hint: String,
    },
    /// A value is outside what its meaning allows.
    #[error("{what}: {problem}\nhint: {hint}")]
    Value {
        /// The metric or the input, with the position of the value where there is one (0-based).
        what: String,
        /// What is wrong.
        problem: String,
        /// What to do.
        hint: String,
    },
    /// Two inputs that belong together differ in length.
    #[error("{what}: {left} and {right} values\nhint: {hint}")]
    Length {
        /// The metric or the inputs.
        what: String,
        /// Length of the first input.
        left: usize,
        /// Length of the second input.
        right: usize,
        /// What to do.
        hint: String,
    },
}

impl MeasureError {
    pub(crate) fn empty(what: &str, hint: &str) -> Self {
        MeasureError::Empty { what: what.to_string(), hint: hint.to_string() }
    }

    pub(crate) fn value(what: impl Into<String>, problem: impl Into<String>, hint: &str) -> Self {
        MeasureError::Value { what: what.into(), problem: problem.into(), hint: hint.to_string() }
    }

    pub(crate) fn length(what: &str, left: usize, right: usize, hint: &str) -> Self {
        MeasureError::Length { what: what.to_string(), left, right, hint: hint.to_string() }
    }
}

/// Refuses NaN and infinities, naming the first by its position.
pub(crate) fn finite(what: &str, values: &[f64]) -> Result<(), MeasureError> {
    match values.iter().position(|v| !v.is_finite()) {
        None => Ok(()),
        Some(at) => Err(MeasureError::value(
            format!("{what}, value {at}"),
            format!("`{}` is not a finite number", values[at]),
            "remove the row or find out where the value came from; it is not counted as zero",
        )),
    }
}

/// Refuses a confidence level outside (0, 1).
pub(crate) fn level_in_range(level: f64) -> Result<(), MeasureError> {
    if level > 0.0 && level < 1.0 {
        Ok(())
    } else {
        Err(MeasureError::value("confidence level", format!("`{level}` is not between 0 and 1"), "use 0.95"))
    }
}
