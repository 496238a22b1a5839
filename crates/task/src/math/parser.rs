use super::expression::{Binder, Comparison, Constant, Expression, Function, Rational};
use super::lexer::{Token, tokens};
use super::names::function_named;
use num_bigint::BigInt;
use num_traits::{Pow, Zero};

/// Most tokens that one answer may have.
const MAX_TOKENS: usize = 4_000;
/// Deepest nesting of groups, scripts and function arguments.
const MAX_DEPTH: usize = 48;
/// Largest decimal exponent of a number in scientific notation.
const MAX_DECIMAL_EXPONENT: i64 = 4_000;
/// Most digits of one number.
const MAX_DIGITS: usize = 4_000;

/// Why a text is not a mathematical expression that we understand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the expression {problem}\nhint: compare such answers as text")]
pub struct ParseError {
    problem: String,
}

impl ParseError {
    pub(super) fn new(problem: impl Into<String>) -> ParseError {
        ParseError { problem: problem.into() }
    }
}

type Parsed<T> = Result<T, ParseError>;

/// Parses normalized LaTeX or plain mathematics.
///
/// `scientific` reads `2e-3` as 0.002 (with a large `E` it always is). Work is bounded: tokens, nesting and digits have
/// limits, beyond which the text is refused.
pub(super) fn parse(text: &str, scientific: bool) -> Parsed<Expression> {
    let mut list = tokens(text, scientific, MAX_TOKENS)?;
    if !list.iter().any(|t| matches!(t, Token::Begin(_))) {
        list.retain(|t| !matches!(t, Token::Sign('&')));
    }
    let bars = list.contains(&Token::Sign('|'));
    let first = Parser::new(list.clone(), false).whole();
    // `||x||y||` is only readable when a bar behind an operand opens.
    if first.is_err() && bars { Parser::new(list, true).whole() } else { first }
}

/// Parses a plain arithmetic expression: numbers and operators, no implied multiplication.
pub(super) fn parse_arithmetic(text: &str) -> Parsed<Expression> {
    let mut parser = Parser::new(tokens(text, true, MAX_TOKENS)?, false);
    parser.plain = true;
    parser.whole()
}

/// The value of a number as written: digits, a point, an exponent behind `e`.
pub(super) fn number_value(text: &str) -> Option<Rational> {
    let (mantissa, exponent) = match text.split_once('e') {
        Some((m, e)) => (m, e.parse::<i64>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let shift = exponent - i64::try_from(fraction.len()).ok()?;
    if whole.len() + fraction.len() > MAX_DIGITS || shift.abs() > MAX_DECIMAL_EXPONENT {
        return None;
    }
    let digits: BigInt = format!("{whole}{fraction}").parse().ok()?;
    let scale = BigInt::from(10).pow(u32::try_from(shift.unsigned_abs()).ok()?);
    Some(if shift >= 0 { Rational::from_integer(digits * scale) } else { Rational::new(digits, scale) })
}

/// Whether an expression is made of names only, so that `name = value` gives it a value: `x`, `f(2)`, `|AB|`, `A:B`.
pub(super) fn is_name(e: &Expression) -> bool {
    match e {
        Expression::Symbol(_) | Expression::Call(..) => true,
        Expression::Constant(c) => matches!(c, Constant::E | Constant::I),
        Expression::Product(v) | Expression::Tuple(v) => v.iter().all(is_name),
        Expression::Apply(Function::Abs | Function::Norm, v) => v.iter().all(is_name),
        Expression::Interval { left, right, left_open: true, right_open: true } => {
            is_name(left) && is_name(right)
        }
        Expression::Power(a, b) => is_name(a) && (**b == Expression::integer(-1) || is_name(b)),
        Expression::Bind(Binder::Derivative, body, ..) => is_name(body),
        _ => false,
    }
}

fn has_choice(e: &Expression) -> bool {
    e.any(&|x| matches!(x, Expression::PlusMinus(..)))
}

fn choose(e: &Expression, plus: bool) -> Expression {
    match e {
        Expression::PlusMinus(a, b) => {
            let (a, b) = (choose(a, plus), choose(b, plus));
            let b = if plus { b } else { b.negated() };
            if matches!(&a, Expression::Number(n) if n.is_zero()) { b } else { Expression::Sum(vec![a, b]) }
        }
        other => other.map_children(&mut |c| choose(c, plus)),
    }
}

/// An element, or the two that `±` stands for.
fn expanded(e: Expression, out: &mut Vec<Expression>) {
    if has_choice(&e) {
        out.push(choose(&e, true));
        out.push(choose(&e, false));
    } else {
        out.push(e);
    }
}

pub(super) struct Parser {
    pub(super) tokens: Vec<Token>,
    pub(super) at: usize,
    depth: usize,
    open_bars: usize,
    bars_open_first: bool,
    plain: bool,
    pub(super) bound: Vec<String>,
    /// Inside an integral: the depth of its body, and the variable once `dx` was read.
    pub(super) integral: Option<(usize, Option<String>)>,
}

impl Parser {
    fn new(tokens: Vec<Token>, bars_open_first: bool) -> Parser {
        Parser {
            tokens,
            at: 0,
            depth: 0,
            open_bars: 0,
            bars_open_first,
            plain: false,
            bound: Vec::new(),
            integral: None,
        }
    }

    pub(super) fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    pub(super) fn is_sign(&self, offset: usize, sign: char) -> bool {
        self.tokens.get(self.at + offset) == Some(&Token::Sign(sign))
    }

    pub(super) fn is_command(&self, name: &str) -> bool {
        matches!(self.peek(), Some(Token::Command(c)) if *c == name)
    }

    pub(super) fn eat(&mut self, sign: char) -> bool {
        let found = self.is_sign(0, sign);
        self.at += usize::from(found);
        found
    }

    pub(super) fn expect(&mut self, sign: char) -> Parsed<()> {
        if self.eat(sign) { Ok(()) } else { Err(ParseError::new(format!("lacks a `{sign}`"))) }
    }

    /// Runs a part one level deeper.
    pub(super) fn deeper<T>(&mut self, part: impl FnOnce(&mut Parser) -> Parsed<T>) -> Parsed<T> {
        if self.depth >= MAX_DEPTH {
            return Err(ParseError::new("is nested too deeply"));
        }
        self.depth += 1;
        let result = part(self);
        self.depth -= 1;
        result
    }

    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    fn whole(&mut self) -> Parsed<Expression> {
        let groups = self.groups()?;
        if self.at < self.tokens.len() {
            return Err(ParseError::new("goes on behind its end"));
        }
        collect(groups)
    }

    /// Elements separated by commas, in groups separated by semicolons.
    pub(super) fn groups(&mut self) -> Parsed<Vec<Vec<Expression>>> {
        let mut groups = vec![Vec::new()];
        loop {
            let element = self.deeper(Parser::relation)?;
            if let Some(group) = groups.last_mut() {
                expanded(element, group);
            }
            if self.eat(';') {
                groups.push(Vec::new());
            } else if !self.eat(',') {
                return Ok(groups);
            }
        }
    }

    fn comparison(&mut self) -> Option<Sign> {
        let (sign, length) = match self.peek()? {
            Token::Sign('=') => match (self.is_sign(1, '='), self.is_sign(1, '<'), self.is_sign(1, '>')) {
                (true, ..) => (Sign::Is(Comparison::Equal), 2),
                (_, true, _) => (Sign::Is(Comparison::LessEqual), 2),
                _ => (Sign::Is(Comparison::Equal), 1),
            },
            Token::Sign('<') if self.is_sign(1, '=') => (Sign::Is(Comparison::LessEqual), 2),
            Token::Sign('<') => (Sign::Is(Comparison::Less), 1),
            Token::Sign('>') if self.is_sign(1, '=') => (Sign::Is(Comparison::GreaterEqual), 2),
            Token::Sign('>') => (Sign::Is(Comparison::Greater), 1),
            Token::Sign('!') if self.is_sign(1, '=') => (Sign::Is(Comparison::NotEqual), 2),
            Token::Command(name) => (
                match *name {
                    "le" | "leq" | "leqslant" => Sign::Is(Comparison::LessEqual),
                    "ge" | "geq" | "geqslant" => Sign::Is(Comparison::GreaterEqual),
                    "lt" => Sign::Is(Comparison::Less),
                    "gt" => Sign::Is(Comparison::Greater),
                    "ne" | "neq" => Sign::Is(Comparison::NotEqual),
                    "in" | "equiv" => Sign::Is(Comparison::Equal),
                    "notin" => Sign::Is(Comparison::NotIn),
                    "subset" | "subseteq" => Sign::Is(Comparison::Subset),
                    "supset" | "supseteq" => Sign::Is(Comparison::Superset),
                    "approx" | "sim" => Sign::About,
                    _ => return None,
                },
                1,
            ),
            _ => return None,
        };
        self.at += length;
        Some(sign)
    }

    fn relation(&mut self) -> Parsed<Expression> {
        let mut terms = vec![self.set_level(0)?];
        let mut signs = Vec::new();
        while let Some(sign) = self.comparison() {
            let right = self.set_level(0)?;
            match sign {
                Sign::Is(comparison) => {
                    terms.push(right);
                    signs.push(comparison);
                }
                // Of an approximation the exact side counts, unless it is only a name.
                Sign::About if signs.is_empty() && is_name(&terms[0]) => terms[0] = right,
                Sign::About => {}
            }
        }
        if signs.is_empty() {
            return terms.pop().ok_or_else(|| ParseError::new("is empty"));
        }
        Ok(Expression::Relation(terms, signs))
    }

    /// Set operations by rising precedence: difference, union, intersection; then sums.
    fn set_level(&mut self, level: usize) -> Parsed<Expression> {
        if level == 3 {
            return self.additive();
        }
        let mut left = self.set_level(level + 1)?;
        loop {
            let found = match self.peek() {
                Some(Token::Command("setminus" | "backslash")) => level == 0,
                Some(Token::Command("cup")) => level == 1,
                Some(Token::Command("cap")) => level == 2,
                _ => false,
            };
            if !found {
                return Ok(left);
            }
            self.at += 1;
            let right = as_set(self.set_level(level + 1)?);
            let (a, b) = (Box::new(as_set(left)), Box::new(right));
            left = match level {
                0 => Expression::Difference(a, b),
                1 => Expression::Union(a, b),
                _ => Expression::Intersection(a, b),
            };
        }
    }

    pub(super) fn integral_done(&self) -> bool {
        matches!(&self.integral, Some((depth, Some(_))) if *depth == self.depth)
    }

    pub(super) fn additive(&mut self) -> Parsed<Expression> {
        let mut terms = Vec::new();
        if matches!(self.peek(), Some(Token::Command("pm" | "mp"))) {
            terms.push(Expression::integer(0));
        } else {
            terms.push(self.term()?);
        }
        loop {
            if self.integral_done() {
                break;
            }
            if self.eat('+') {
                terms.push(self.term()?);
            } else if self.eat('-') {
                terms.push(self.term()?.negated());
            } else if matches!(self.peek(), Some(Token::Command("pm" | "mp"))) {
                let minus_first = self.is_command("mp");
                self.at += 1;
                let right = self.term()?;
                let left = sum(std::mem::take(&mut terms));
                let right = if minus_first { right.negated() } else { right };
                terms.push(Expression::PlusMinus(Box::new(left), Box::new(right)));
            } else {
                break;
            }
        }
        Ok(sum(terms))
    }

    /// Products and quotients, left to right; factors side by side bind tighter.
    pub(super) fn term(&mut self) -> Parsed<Expression> {
        let mut left = self.unary()?;
        loop {
            if self.integral_done() {
                return Ok(left);
            }
            left = match self.peek() {
                Some(Token::Sign('*') | Token::Command("cdot" | "times" | "ast")) => {
                    self.at += 1;
                    // `**` is a power in plain text.
                    if self.is_sign(0, '*') {
                        return Err(ParseError::new("has two operators in a row"));
                    }
                    product(left, self.unary()?)
                }
                Some(Token::Sign('/' | ':') | Token::Command("div")) => {
                    self.at += 1;
                    quotient(left, self.unary()?)
                }
                Some(Token::Command("mod" | "bmod" | "pmod")) => {
                    self.at += 1;
                    let right = self.unary()?;
                    if matches!(right, Expression::Matrix(_)) {
                        return Err(ParseError::new("divides by a matrix"));
                    }
                    Expression::Apply(Function::Mod, vec![left, right])
                }
                _ => return Ok(left),
            };
        }
    }

    fn unary(&mut self) -> Parsed<Expression> {
        let mut negative = false;
        loop {
            if self.eat('-') {
                negative = !negative;
            } else if !self.eat('+') {
                break;
            }
        }
        let value = self.side_by_side(true)?;
        Ok(if negative { value.negated() } else { value })
    }

    /// Whether the next token begins an operand that may stand right behind another.
    pub(super) fn starts_operand(&self, functions: bool) -> bool {
        match self.peek() {
            Some(Token::Number(..) | Token::Letter(_) | Token::Text(_) | Token::Begin(_)) => true,
            Some(Token::Operator(_)) => functions,
            Some(Token::Bar(opens)) => *opens,
            Some(Token::Sign('(' | '[' | '{' | '⦃')) => true,
            Some(Token::Sign('‖')) => self.open_bars == 0,
            Some(Token::Sign('|')) => self.open_bars == 0 || self.bars_open_first && self.bar_can_open(),
            Some(Token::Command(name)) => {
                if function_named(name).is_some() || matches!(*name, "sum" | "prod" | "int" | "lim") {
                    return functions;
                }
                !matches!(
                    *name,
                    "cdot"
                        | "times"
                        | "div"
                        | "ast"
                        | "pm"
                        | "mp"
                        | "le"
                        | "leq"
                        | "leqslant"
                        | "ge"
                        | "geq"
                        | "geqslant"
                        | "lt"
                        | "gt"
                        | "ne"
                        | "neq"
                        | "approx"
                        | "sim"
                        | "equiv"
                        | "in"
                        | "notin"
                        | "cup"
                        | "cap"
                        | "setminus"
                        | "backslash"
                        | "subset"
                        | "subseteq"
                        | "supset"
                        | "supseteq"
                        | "rfloor"
                        | "rceil"
                        | "rangle"
                        | "to"
                        | "rightarrow"
                        | "mod"
                        | "bmod"
                        | "pmod"
                        | "choose"
                        | "mid"
                        | "land"
                        | "lor"
                        | "wedge"
                        | "vee"
                )
            }
            _ => false,
        }
    }

    /// Whether a bar may open: an operand follows it, and bars enough are left to close everything.
    fn bar_can_open(&self) -> bool {
        let left = self.tokens[self.at..].iter().filter(|t| **t == Token::Sign('|')).count();
        let operand = matches!(
            self.tokens.get(self.at + 1),
            Some(Token::Number(..) | Token::Letter(_) | Token::Command(_) | Token::Sign('(' | '{' | '-'))
        );
        operand && left >= self.open_bars + 2
    }

    /// Factors without a sign between them. `functions`: whether later factors may be functions (in the argument of a
    /// function without brackets they may not).
    pub(super) fn side_by_side(&mut self, functions: bool) -> Parsed<Expression> {
        let first_number = match self.peek() {
            Some(Token::Number(text, false)) => Some(text.clone()),
            _ => None,
        };
        let start = self.at;
        let mut value = self.postfix()?;
        let mut bare_number = first_number.is_some() && self.at == start + 1;
        while !self.integral_done() && self.starts_operand(functions) {
            if self.plain {
                return Err(ParseError::new("has two operands side by side"));
            }
            match self.peek() {
                Some(Token::Number(text, point)) if bare_number => {
                    let (text, point) = (text.clone(), *point);
                    value = self.beside_number(value, first_number.as_deref().unwrap_or(""), &text, point)?;
                    bare_number = false;
                    continue;
                }
                Some(Token::Command("frac")) if bare_number => {
                    let part = self.postfix()?;
                    value = match (&value, &part) {
                        (Expression::Number(whole), Expression::Number(f)) if *f > Rational::zero() => {
                            Expression::Number(whole + f)
                        }
                        _ => product(value, part),
                    };
                }
                _ => {
                    let next = self.postfix()?;
                    value = product(value, next);
                }
            }
            bare_number = false;
        }
        Ok(value)
    }

    /// A number behind a number: `1 000` is a thousand, `2 1/2` two and a half; anything else is refused.
    fn beside_number(
        &mut self,
        left: Expression,
        first: &str,
        next: &str,
        point: bool,
    ) -> Parsed<Expression> {
        let refused = || ParseError::new("has two numbers side by side");
        let digits = next.split('.').next().unwrap_or("");
        if digits.len() == 3 && first.len() <= 3 && !self.is_sign(1, '/') {
            let mut joined = format!("{first}{next}");
            self.at += 1;
            while let Some(Token::Number(more, p)) = self.peek()
                && more.split('.').next().is_some_and(|d| d.len() == 3)
                && !joined.contains('.')
            {
                let _ = p;
                joined.push_str(more);
                self.at += 1;
            }
            let value = number_value(&joined).ok_or_else(refused)?;
            return Ok(if joined.contains('.') {
                Expression::Decimal(value)
            } else {
                Expression::Number(value)
            });
        }
        let below = match self.tokens.get(self.at + 2) {
            Some(Token::Number(text, false)) if self.is_sign(1, '/') && !point => number_value(text),
            _ => None,
        };
        let (Some(below), Some(above), Expression::Number(whole)) = (below, number_value(next), left) else {
            return Err(refused());
        };
        if below.is_zero() {
            return Err(refused());
        }
        self.at += 3;
        Ok(Expression::Number(whole + above / below))
    }

    /// An operand with what follows it: powers, factorials, percent and degree signs.
    pub(super) fn postfix(&mut self) -> Parsed<Expression> {
        let literal =
            matches!(self.peek(), Some(Token::Number(..) | Token::Sign('(' | '{') | Token::Command("frac")));
        let mut value = self.deeper(Parser::operand)?;
        let mut repeats = 0;
        loop {
            repeats += 1;
            if repeats > MAX_DEPTH {
                return Err(ParseError::new("has too many signs in a row"));
            }
            match self.peek() {
                Some(Token::Sign('!')) if !self.is_sign(1, '=') => {
                    self.at += 1;
                    value = Expression::Apply(Function::Factorial, vec![value]);
                }
                Some(Token::Sign('%')) if literal => {
                    self.at += 1;
                    value = Expression::Percent(Box::new(value));
                }
                Some(Token::Command("circ" | "degree")) => self.at += 1,
                Some(Token::Sign('\'') | Token::Command("prime")) => {
                    self.at += 1;
                    value = primed(value)?;
                }
                Some(Token::Sign('_')) => {
                    // A number's subscript says its base or its index; it does not change the value compared.
                    self.at += 1;
                    self.script_text()?;
                }
                Some(Token::Sign('^')) => {
                    self.at += 1;
                    value = self.raised(value)?;
                }
                Some(Token::Sign('*')) if self.plain && self.is_sign(1, '*') => {
                    self.at += 2;
                    value = self.raised(value)?;
                }
                _ => return Ok(value),
            }
        }
    }

    fn raised(&mut self, base: Expression) -> Parsed<Expression> {
        let exponent = match self.script()? {
            Some(exponent) => exponent,
            None => return Ok(base),
        };
        if let (Expression::Symbol(name), Expression::Symbol(mark)) = (&base, &exponent)
            && mark == "prime"
        {
            return Ok(Expression::Symbol(format!("{name}'")));
        }
        // `f^{-1}(x)`: the power belongs to the value.
        if let Expression::Symbol(name) = &base
            && exponent == Expression::integer(-1)
            && let Some(arguments) = self.call_arguments()?
        {
            let call = Expression::Call(name.clone(), arguments);
            return Ok(Expression::Power(Box::new(call), Box::new(exponent)));
        }
        Ok(Expression::Power(Box::new(base), Box::new(exponent)))
    }

    /// The argument of `^`; `None` for a degree sign.
    pub(super) fn script(&mut self) -> Parsed<Option<Expression>> {
        self.deeper(|p| {
            let mut negative = false;
            while p.is_sign(0, '-') || p.is_sign(0, '+') {
                negative ^= p.is_sign(0, '-');
                p.at += 1;
            }
            let braces = p.is_sign(0, '{');
            let inner = p.at + usize::from(braces);
            if let Some(Token::Command(mark @ ("circ" | "degree" | "prime"))) = p.tokens.get(inner) {
                let prime = *mark == "prime";
                p.at = inner + 1;
                if braces {
                    p.expect('}')?;
                }
                return Ok(prime.then(|| Expression::Symbol("prime".into())));
            }
            let value = if braces {
                p.at += 1;
                let value = p.relation()?;
                p.expect('}')?;
                value
            } else {
                let value = p.operand()?;
                // Powers bind to the right.
                if p.eat('^') { p.raised(value)? } else { value }
            };
            Ok(Some(if negative { value.negated() } else { value }))
        })
    }

    pub(super) fn enter_bars<T>(&mut self, part: impl FnOnce(&mut Parser) -> Parsed<T>) -> Parsed<T> {
        self.open_bars += 1;
        let result = part(self);
        self.open_bars -= 1;
        result
    }

    /// Runs a part in which bars of the surroundings do not count.
    pub(super) fn outside_bars<T>(&mut self, part: impl FnOnce(&mut Parser) -> Parsed<T>) -> Parsed<T> {
        let saved = std::mem::take(&mut self.open_bars);
        let result = part(self);
        self.open_bars = saved;
        result
    }
}

enum Sign {
    Is(Comparison),
    About,
}

fn primed(value: Expression) -> Parsed<Expression> {
    match value {
        Expression::Symbol(name) => Ok(Expression::Symbol(format!("{name}'"))),
        // Feet and minutes.
        other @ (Expression::Number(_) | Expression::Decimal(_)) => Ok(other),
        _ => Err(ParseError::new("has a prime behind something that is not a name")),
    }
}

pub(super) fn sum(mut terms: Vec<Expression>) -> Expression {
    if terms.len() == 1
        && let Some(only) = terms.pop()
    {
        return only;
    }
    Expression::Sum(terms)
}

pub(super) fn product(left: Expression, right: Expression) -> Expression {
    match left {
        Expression::Product(mut factors) => {
            factors.push(right);
            Expression::Product(factors)
        }
        other => Expression::Product(vec![other, right]),
    }
}

pub(super) fn quotient(above: Expression, below: Expression) -> Expression {
    match (&above, &below) {
        (Expression::Number(a), Expression::Number(b)) if !b.is_zero() => Expression::Number(a / b),
        _ => product(above, below.inverse()),
    }
}

/// What is used as a set: a tuple stands for the set of its parts.
fn as_set(e: Expression) -> Expression {
    match e {
        Expression::Tuple(parts) => Expression::Set(parts),
        collection if collection.is_collection() => collection,
        Expression::Symbol(_) => e,
        other => Expression::Set(vec![other]),
    }
}

/// The value of a whole answer: one element, a set, or a set of tuples.
fn collect(mut groups: Vec<Vec<Expression>>) -> Parsed<Expression> {
    if groups.len() == 1 {
        let mut elements = groups.pop().unwrap_or_default();
        if elements.len() == 1 {
            return elements.pop().ok_or_else(|| ParseError::new("is empty"));
        }
        // `a = 4, -8, -10`: all of them are values of `a`.
        if let [Expression::Relation(terms, signs), rest @ ..] = elements.as_slice()
            && signs.as_slice() == [Comparison::Equal]
            && is_name(&terms[0])
            && rest.iter().all(|e| !matches!(e, Expression::Relation(..)))
        {
            let mut values = vec![terms[1].clone()];
            values.extend(rest.iter().cloned());
            return Ok(Expression::Relation(
                vec![terms[0].clone(), Expression::Set(values)],
                vec![Comparison::Equal],
            ));
        }
        // `x, y = 1, 2` and `x, y ∈ …`.
        if let Some(split) = elements.iter().position(|e| matches!(e, Expression::Relation(..)))
            && split > 0
            && elements[..split].iter().all(is_name)
            && elements[split + 1..].iter().all(|e| !matches!(e, Expression::Relation(..)))
            && let Expression::Relation(terms, signs) = &elements[split]
            && signs.as_slice() == [Comparison::Equal]
            && is_name(&terms[0])
        {
            let mut names = elements[..split].to_vec();
            names.push(terms[0].clone());
            let mut values = vec![terms[1].clone()];
            values.extend(elements[split + 1..].iter().cloned());
            let value = match values.pop() {
                Some(only) if values.is_empty() => only,
                Some(last) => {
                    values.push(last);
                    Expression::Tuple(values)
                }
                None => return Err(ParseError::new("is empty")),
            };
            return Ok(Expression::Relation(vec![Expression::Tuple(names), value], vec![Comparison::Equal]));
        }
        return Ok(Expression::Set(elements));
    }
    if groups.iter().all(|g| g.len() == 1) {
        return Ok(Expression::Set(groups.into_iter().flatten().collect()));
    }
    Ok(Expression::Set(groups.into_iter().map(Expression::Tuple).collect()))
}
