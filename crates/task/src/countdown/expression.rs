//! Expressions over whole numbers with `+ - * /` and parentheses: reading, writing, exact value.

use crate::arithmetic::chain::Operator;
use num_rational::Ratio;
use num_traits::{CheckedAdd, CheckedDiv, CheckedMul, CheckedSub};
use std::fmt;

/// Exact value of an expression.
pub type Rational = Ratio<i128>;

/// Longest text that is read as an expression, in bytes: six numbers need far less.
pub const LONGEST: usize = 400;

/// Deepest nesting that is read.
pub const DEEPEST: usize = 32;

/// An expression.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Expression {
    /// A number.
    Number(i64),
    /// An operation.
    Operation(Operator, Box<Expression>, Box<Expression>),
}

/// Why a text is not an expression with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ExpressionError {
    /// Not of the form.
    #[error("position {0} is not what an expression of numbers, `+ - * /` and parentheses has there")]
    Syntax(usize),
    /// Too long, too deep, or a number with too many digits.
    #[error("the expression is too long, too deep, or has too large a number")]
    Size,
    /// Division by zero.
    #[error("the expression divides by zero")]
    Zero,
    /// A value does not fit 128 bits.
    #[error("a value in the expression is too large")]
    Overflow,
}

/// `left operator right`, exactly.
pub fn apply(operator: Operator, left: &Rational, right: &Rational) -> Result<Rational, ExpressionError> {
    match operator {
        Operator::Add => left.checked_add(right),
        Operator::Subtract => left.checked_sub(right),
        Operator::Multiply => left.checked_mul(right),
        Operator::Divide if *right.numer() == 0 => return Err(ExpressionError::Zero),
        Operator::Divide => left.checked_div(right),
    }
    .ok_or(ExpressionError::Overflow)
}

impl Expression {
    /// Reads an expression. `×`, `·`, `÷`, `−`, `\times`, `\cdot`, `\div` and square brackets are understood; spaces
    /// are ignored.
    ///
    /// # Errors
    /// See [`ExpressionError`].
    pub fn parse(text: &str) -> Result<Self, ExpressionError> {
        if text.len() > LONGEST {
            return Err(ExpressionError::Size);
        }
        let text = text.replace("\\times", "*").replace("\\cdot", "*").replace("\\div", "/");
        let characters: Vec<char> = text
            .chars()
            .filter(|character| !character.is_whitespace() && *character != '$')
            .map(|character| match character {
                '\u{d7}' | '\u{b7}' | '\u{22c5}' => '*',
                '\u{f7}' => '/',
                '\u{2212}' | '\u{2013}' => '-',
                '[' => '(',
                ']' => ')',
                other => other,
            })
            .collect();
        let mut parser = Parser { characters: &characters, at: 0 };
        let expression = parser.sum(0)?;
        if parser.at < characters.len() {
            return Err(ExpressionError::Syntax(parser.at));
        }
        Ok(expression)
    }

    /// The exact value.
    ///
    /// # Errors
    /// Division by zero, overflow.
    pub fn value(&self) -> Result<Rational, ExpressionError> {
        match self {
            Expression::Number(number) => Ok(Rational::from_integer(i128::from(*number))),
            Expression::Operation(operator, left, right) => apply(*operator, &left.value()?, &right.value()?),
        }
    }

    /// The numbers, from left to right.
    pub fn numbers(&self) -> Vec<i64> {
        let mut numbers = Vec::new();
        self.collect(&mut numbers);
        numbers
    }

    fn collect(&self, numbers: &mut Vec<i64>) {
        match self {
            Expression::Number(number) => numbers.push(*number),
            Expression::Operation(_, left, right) => {
                left.collect(numbers);
                right.collect(numbers);
            }
        }
    }

    /// The operations from the innermost to the outermost, as (left value, operator, right value, value). Empty when
    /// a value does not exist.
    pub fn operations(&self) -> Vec<(Rational, Operator, Rational, Rational)> {
        let mut operations = Vec::new();
        if self.list(&mut operations).is_err() {
            operations.clear();
        }
        operations
    }

    fn list(
        &self,
        out: &mut Vec<(Rational, Operator, Rational, Rational)>,
    ) -> Result<Rational, ExpressionError> {
        match self {
            Expression::Number(_) => self.value(),
            Expression::Operation(operator, left, right) => {
                let (left, right) = (left.list(out)?, right.list(out)?);
                let value = apply(*operator, &left, &right)?;
                out.push((left, *operator, right, value));
                Ok(value)
            }
        }
    }

    fn strength(&self) -> u8 {
        match self {
            Expression::Operation(Operator::Add | Operator::Subtract, ..) => 1,
            Expression::Operation(..) => 2,
            Expression::Number(number) if *number < 0 => 1,
            Expression::Number(_) => 3,
        }
    }
}

impl fmt::Display for Expression {
    /// With no more parentheses than needed: `(3+5)*7`, `9-(4-1)`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expression::Number(number) => write!(formatter, "{number}"),
            Expression::Operation(operator, left, right) => {
                let own = self.strength();
                let write_side = |formatter: &mut fmt::Formatter<'_>, side: &Expression, bracket: bool| {
                    if bracket { write!(formatter, "({side})") } else { write!(formatter, "{side}") }
                };
                write_side(formatter, left, left.strength() < own)?;
                write!(formatter, "{}", operator.symbol())?;
                let right_bracket =
                    right.strength() < own || (right.strength() == own && !operator.commutes());
                // The tree is written as it is: a+(b-c) keeps its parentheses only where the value needs them.
                let right_bracket = right_bracket
                    || (*operator == Operator::Multiply
                        && matches!(**right, Expression::Operation(Operator::Divide, ..)));
                write_side(formatter, right, right_bracket)
            }
        }
    }
}

struct Parser<'a> {
    characters: &'a [char],
    at: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<char> {
        self.characters.get(self.at).copied()
    }

    fn sum(&mut self, depth: usize) -> Result<Expression, ExpressionError> {
        let mut left = self.product(depth)?;
        while let Some(operator) = self.peek().filter(|c| "+-".contains(*c)).and_then(Operator::from_symbol) {
            self.at += 1;
            let right = self.product(depth)?;
            left = Expression::Operation(operator, Box::new(left), Box::new(right));
        }
        Ok(left)
    }

    fn product(&mut self, depth: usize) -> Result<Expression, ExpressionError> {
        let mut left = self.atom(depth)?;
        while let Some(operator) = self.peek().filter(|c| "*/".contains(*c)).and_then(Operator::from_symbol) {
            self.at += 1;
            let right = self.atom(depth)?;
            left = Expression::Operation(operator, Box::new(left), Box::new(right));
        }
        Ok(left)
    }

    fn atom(&mut self, depth: usize) -> Result<Expression, ExpressionError> {
        if depth > DEEPEST {
            return Err(ExpressionError::Size);
        }
        match self.peek() {
            Some('(') => {
                self.at += 1;
                let inner = self.sum(depth + 1)?;
                if self.peek() != Some(')') {
                    return Err(ExpressionError::Syntax(self.at));
                }
                self.at += 1;
                Ok(inner)
            }
            Some(digit) if digit.is_ascii_digit() => {
                let mut value = 0i64;
                let start = self.at;
                while let Some(digit) = self.peek().and_then(|digit| digit.to_digit(10)) {
                    value = value * 10 + i64::from(digit);
                    self.at += 1;
                    if self.at - start > 15 {
                        return Err(ExpressionError::Size);
                    }
                }
                Ok(Expression::Number(value))
            }
            _ => Err(ExpressionError::Syntax(self.at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_are_exact() {
        for (text, value) in [
            ("3 * 7 + 25", "46"),
            ("(25 - 3) * 7", "154"),
            ("6 / (1 - 3 / 4)", "24"),
            ("9-(4-1)", "6"),
            ("8/3/2", "4/3"),
        ] {
            assert_eq!(Expression::parse(text).unwrap().value().unwrap().to_string(), value, "{text}");
        }
        assert_eq!(Expression::parse("1/(2-2)").unwrap().value(), Err(ExpressionError::Zero));
        assert_eq!(Expression::parse("3\u{d7}[7\u{2212}2]").unwrap().to_string(), "3*(7-2)");
    }

    #[test]
    fn hostile_texts_are_refused() {
        let deep = "(".repeat(200);
        let long = "1+".repeat(300);
        let huge = format!("{}1", "999999999999999*".repeat(12));
        assert_eq!(Expression::parse(&deep), Err(ExpressionError::Size));
        assert_eq!(Expression::parse(&long), Err(ExpressionError::Size));
        assert_eq!(Expression::parse(&huge).unwrap().value(), Err(ExpressionError::Overflow));
        for text in ["", "3+", "(3", "3)", "3 4x", "a+b", "-3+4", "3**4", "3//4", "1e5", "9999999999999999"] {
            assert!(Expression::parse(text).is_err(), "{text}");
        }
    }

    fn tree() -> impl Strategy<Value = Expression> {
        let leaf = (1i64..30).prop_map(Expression::Number);
        let operator = prop_oneof![
            Just(Operator::Add),
            Just(Operator::Subtract),
            Just(Operator::Multiply),
            Just(Operator::Divide)
        ];
        leaf.prop_recursive(4, 16, 2, move |inner| {
            (operator.clone(), inner.clone(), inner).prop_map(|(operator, left, right)| {
                Expression::Operation(operator, Box::new(left), Box::new(right))
            })
        })
    }

    proptest! {
        #[test]
        fn writing_and_reading_keep_the_value(tree in tree()) {
            let text = tree.to_string();
            let read = Expression::parse(&text).unwrap();
            prop_assert_eq!(read.value(), tree.value(), "{}", text);
            prop_assert_eq!(read.numbers(), tree.numbers());
        }

        #[test]
        fn any_text_is_read_without_panic(text in "[0-9+*/()\\[\\] .x-]{0,80}", other in "\\PC{0,40}") {
            let _ = Expression::parse(&text).and_then(|expression| expression.value());
            let _ = Expression::parse(&other).and_then(|expression| expression.value());
        }
    }
}
