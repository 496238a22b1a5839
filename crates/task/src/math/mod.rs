//! Mathematical answers: find them in a response, parse them, and decide whether two of them mean the same.
//!
//! Made to replace HF Math-Verify: the options mean what they mean there ([`Options`]), and so do the rules below unless
//! they say otherwise. Nothing here is symmetric by design: the gold answer sets the form.
//!
//! # From text to answer
//!
//! [`extract`] looks for "final answer is …", `\boxed{…}`, "answer: …", LaTeX environments and plain numbers, in order of
//! priority; of one priority the last place wins, and of that the first that parses. A text without any of these, with
//! [`Options::bare`], is one LaTeX expression; `#### …` marks an answer as GSM8K does. The text is cleaned of units,
//! currency signs, thousands separators and percent words, cut into tokens (a command is the longest known one, so
//! `\pik` is `\pi k`), and parsed by recursive descent into an [`Expression`].
//!
//! # What is compared how
//!
//! 1. The same text, or the same tree up to the order of sums, products and sets, is equivalent.
//! 2. A gold `x = 1` is compared as 1 with a value; of a predicted equation the last side counts when gold is none.
//! 3. Numbers are exact rationals. When one was written with a decimal point, both are rounded to
//!    [`Options::precision`] digits. `28 %` equals 0.28 and also 28.
//! 4. Expressions are brought to a quotient of polynomials with rational coefficients. When they differ and hold only
//!    variables, they are different; else they are evaluated in double precision (complex where needed) at twelve
//!    points that a hash of the variables' names determines, half of them with positive values only. Points where just
//!    one side is real do not count, unless an absolute value stands on one side only: `\ln(xy)` equals
//!    `\ln x + \ln y`, `\sqrt{x^2}` does not equal `x`.
//! 5. Equations are the same when one is a multiple of the other, inequalities when the factor's sign fits the
//!    direction; chains may be read from either end. An inequality in one unknown equals the set of its solutions
//!    (roots up to degree eight, absolute values by cases); the other way round only with
//!    [`Options::allow_set_relation_comp`].
//! 6. A gold set is matched in any order, also against a tuple; a gold tuple keeps its order. `(a, b)` may be an open
//!    interval or a pair. Unions, intersections and differences with real ends are compared as sets of numbers.
//! 7. Matrices are compared by entries, after sums, products and determinants are carried out.
//! 8. Sums and products with integer bounds are added up, definite integrals are computed; indefinite integrals,
//!    derivatives, limits and unknown functions such as `f(x)` are the same when their arguments are.
//! 9. `i` and `I` are the imaginary unit, except as the index of a sum. Names are compared without regard to case.
//!    A degree sign is dropped, not converted.
//!
//! # Limits
//!
//! Work is bounded by counters, never by time, so that the same pair has the same verdict everywhere: 4,000 tokens,
//! 48 levels, 40,000 bits of an exact number, 256 terms of a polynomial, powers multiplied out up to 32, 2,000 terms of
//! a sum, 200,000 evaluations of parts at a point, 64 elements matched in any order, 6,000 comparisons of parts, 200 kB
//! of text from its end. What lies beyond is [`Relation::Undecided`] when both sides are too large to compute
//! (`9^{9^9}` and another such number), else different.

mod compare;
mod complex;
mod evaluate;
mod expression;
mod extract;
mod lexer;
mod matrix;
mod names;
mod normalize;
mod operand;
mod options;
mod parser;
mod plain;
mod polynomial;
mod sets;
mod settings;
mod task;

pub use expression::Expression;
pub use extract::{Extraction, extract, extract_string};
pub use options::{Equivalence, Extractor, MAX_PRECISION_DIGITS, MathError, Options, Relation};
pub use parser::ParseError;
pub use settings::{MathSettings, SUMMARY, TASK};
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
        (_, None) => {
            verdict(Relation::Different, "the predicted answer does not parse, and the texts differ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(gold: &str, pred: &str) -> Option<bool> {
        equivalent(gold, pred, &Options::default()).verdict()
    }

    #[test]
    fn answers_that_mean_the_same() {
        for (gold, pred) in [
            (r"\frac{3}{4}", "0.75"),
            (r"\frac34", "3/4"),
            (r"2\frac{1}{2}", "5/2"),
            (r"-2\frac{1}{2}", "-2.5"),
            ("1,234,567", "1234567"),
            (r"\$1{,}500", "1500"),
            ("12%", "0.12"),
            (r"12\%", "12"),
            (r"\sqrt{50}", r"5\sqrt2"),
            (r"\frac{6}{\sqrt3}", r"2\sqrt{3}"),
            (r"\sqrt[3]{-27}", "-3"),
            (r"(x-3)(x+5)", r"x^2+2x-15"),
            (r"\frac{x^2-9}{x-3}", "x+3"),
            (r"\sin^2 t+\cos^2 t", "1"),
            (r"\cos 2a", r"1-2\sin^2 a"),
            (r"e^{a+b}", r"e^a e^b"),
            (r"\log_2 32", "5"),
            (r"\binom{7}{3}", "35"),
            ("6!", "720"),
            (r"\sum_{k=1}^{20}k^2", "2870"),
            (r"\int_0^2 3x^2 dx", "8"),
            (r"x=7", "7"),
            ("7", r"y=7"),
            (r"3x-6y=9", r"x-2y=3"),
            (r"y=\frac{x}{2}-1", r"x-2y-2=0"),
            (r"x<4", r"4>x"),
            (r"-2x\ge 6", r"x\le -3"),
            (r"|x-1|\le 2", r"[-1,3]"),
            (r"x^2>4", r"(-\infty,-2)\cup(2,\infty)"),
            (r"x\ne 0", r"\mathbb{R}\setminus\{0\}"),
            (r"[0,1]\cup[1,3)", "[0,3)"),
            (r"\{5,2,9\}", "2,5,9"),
            (r"\pm 3", r"\{3,-3\}"),
            (r"x=2\pm\sqrt5", r"2+\sqrt5,\ 2-\sqrt5"),
            (r"(3,-1)", r"\left(3,-1\right)"),
            (r"(1,2),(3,4)", r"(3,4)\text{ and }(1,2)"),
            (r"\begin{pmatrix}1/2\\2\end{pmatrix}", r"\begin{bmatrix}0.5\\2\end{bmatrix}"),
            (r"\begin{vmatrix}1&2\\3&4\end{vmatrix}", "-2"),
            (r"(2+i)(2-i)", "5"),
            (r"\text{Tuesday}", "Tuesday"),
            (r"45^\circ", "45"),
            (r"8\text{ cm}^2", "8"),
            ("10 km", "10"),
            (r"1.2\times10^{4}", "12000"),
            (r"2^{64}", "18446744073709551616"),
            ("the sum is $4+5$ so the answer is 9.", "9"),
        ] {
            assert_eq!(verdict(gold, pred), Some(true), "{gold} and {pred}");
        }
    }

    #[test]
    fn answers_that_do_not() {
        for (gold, pred) in [
            (r"\frac{3}{4}", "0.751"),
            ("12%", "1.2"),
            ("1,2,3", "1,2"),
            ("(1,2)", "[1,2]"),
            ("(2,1)", "(1,2)"),
            (r"x<4", r"x\le 4"),
            (r"x<4", r"x>4"),
            (r"-2x\ge 6", r"x\ge -3"),
            ("x=7", "y=7"),
            ("x+y=7", "7"),
            (r"\sqrt{x^2}", "x"),
            (r"\sin x", r"\cos x"),
            (r"x^2", r"x^3"),
            (r"\begin{pmatrix}1&2\end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}"),
            (r"\text{red}", r"\text{green}"),
            (r"f(x)", r"f(y)"),
            ("5", "(5,5)"),
            ("12:30", "1:30"),
            (r"\pi", "3.14"),
            (r"\infty", r"-\infty"),
            ("3+4i", "3-4i"),
        ] {
            assert_eq!(verdict(gold, pred), Some(false), "{gold} and {pred}");
        }
    }

    #[test]
    fn options_change_the_verdict() {
        let with = |change: fn(&mut Options), gold: &str, pred: &str| {
            let mut options = Options::default();
            change(&mut options);
            equivalent(gold, pred, &options).verdict()
        };
        assert_eq!(with(|o| o.precision = 2, "1/3", "0.33"), Some(true));
        assert_eq!(verdict("1/3", "0.33"), Some(false));
        assert_eq!(with(|o| o.strict = false, "f(x)+2x", "f(y)+2y"), Some(true));
        assert_eq!(with(|o| o.strict = false, "(1,3)", r"\{3,1\}"), Some(true));
        assert_eq!(with(|o| o.allow_set_relation_comp = true, "(1,2)", "1<x<2"), Some(true));
        assert_eq!(verdict("(1,2)", "1<x<2"), Some(false));
        assert_eq!(with(|o| o.scientific = true, r"10^{-3}", "1e-3"), Some(true));
        assert_eq!(
            verdict(r"10^{-3}", "1e-3"),
            Some(false),
            "a small e is Euler's number, as in Math-Verify"
        );
        assert_eq!(with(|o| o.extract = vec![Extractor::String], "A", "The answer is A."), Some(true));
    }

    #[test]
    fn too_large_to_compute_is_undecided() {
        let found = equivalent("9^{9^{9}}", "8^{8^{8^8}}", &Options::default());
        assert_eq!(found.relation, Relation::Undecided, "{found:?}");
        assert_eq!(verdict("9^{9^{9}}", "9^{9^{9}}"), Some(true));
    }
}
