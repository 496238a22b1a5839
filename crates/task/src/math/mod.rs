//! Mathematical answers: find them in a response, parse them, and decide whether two of them mean the same.

mod compare;
mod complex;
mod evaluate;
mod expression;
mod extract;
mod lexer;
mod matrix;
mod normalize;
mod operand;
mod options;
mod parser;
mod polynomial;
mod sets;
mod task;

pub use extract::{Extraction, extract, extract_string};
pub use options::{Equivalence, Extractor, MAX_PRECISION_DIGITS, MathError, Options, Relation};
pub use expression::Expression;
pub use parser::ParseError;
pub use task::{Division, MathTask};

/// Parses one answer in LaTeX or plain mathematics, as written: no search for an answer, no units.
pub fn parse(text: &str) -> Result<Expression, ParseError> {
    parser::parse(text, false)
}

/// Decides whether the answer in `pred` means the same as the answer in `gold`.
///
/// Both texts may be bare answers or whole responses; [`Options`] says how answers are found and compared.
pub fn equivalent(gold: &str, pred: &str, options: &Options) -> Equivalence {
    let verdict = |relation, reason: &'static str| Equivalence { relation, reason: reason.into() };
    let Some(left) = extract(gold, options) else {
        return verdict(Relation::Undecided, "no answer in the gold text");
    };
    let Some(right) = extract(pred, options) else {
        return verdict(Relation::Different, "no answer in the predicted text");
    };
    let text = |e: &Extraction| e.text.split_whitespace().collect::<String>();
    let (a, b) = (text(&left), text(&right));
    if !a.is_empty() && a == b {
        return verdict(Relation::Equivalent, "same text");
    }
    match (&left.value, &right.value) {
        (Some(x), Some(y)) => compare::compare(x, y, options),
        (None, None) => verdict(Relation::Different, "neither parses, and the texts differ"),
        (None, _) => verdict(Relation::Different, "the gold answer does not parse, and the texts differ"),
        (_, None) => verdict(Relation::Different, "the predicted answer does not parse, and the texts differ"),
    }
}
