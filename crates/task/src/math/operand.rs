//! Operands: what stands between operators.

use super::expression::{Binder, Constant, Expression, Function};
use super::lexer::Token;
use super::names::{function_named, inverse_of, is_symbol, number_set};
use super::parser::{ParseError, Parser, number_value, product, quotient};
use num_traits::Zero;

type Parsed<T> = Result<T, ParseError>;

/// Most entries of one matrix.
const MAX_ENTRIES: usize = 400;

impl Parser {
    pub(super) fn operand(&mut self) -> Parsed<Expression> {
        let Some(token) = self.peek().cloned() else {
            return Err(ParseError::new("ends too early"));
        };
        self.at += 1;
        match token {
            Token::Number(text, point) => {
                let value = number_value(&text)
                    .ok_or_else(|| ParseError::new("has a number with too many digits"))?;
                Ok(if point && !text.contains('e') {
                    Expression::Decimal(value)
                } else {
                    Expression::Number(value)
                })
            }
            Token::Letter(letter) => self.letter(letter),
            Token::Text(content) => self.text(&content),
            Token::Operator(name) => self.operator(&name),
            Token::Begin(kind) => self.environment(&kind),
            Token::Bar(true) => self.outside_bars(|p| {
                let inner = p.additive()?;
                if p.peek() != Some(&Token::Bar(false)) {
                    return Err(ParseError::new("has a bar that is never closed"));
                }
                p.at += 1;
                Ok(absolute(inner))
            }),
            Token::Sign('|') => self.enter_bars(|p| {
                let inner = p.additive()?;
                p.expect('|')?;
                Ok(absolute(inner))
            }),
            Token::Sign('‖') => self.enter_bars(|p| {
                let inner = p.additive()?;
                p.expect('‖')?;
                Ok(Expression::Apply(Function::Norm, vec![inner]))
            }),
            Token::Sign(open @ ('(' | '[')) => self.bracketed(open),
            Token::Sign(open @ ('{' | '⦃')) => self.braces(open),
            Token::Command(name) => self.command(name),
            Token::Sign(sign) => Err(ParseError::new(format!("has a `{sign}` where a value is due"))),
            Token::End | Token::Row | Token::Bar(false) => Err(ParseError::new("lacks a value")),
        }
    }

    fn letter(&mut self, letter: char) -> Parsed<Expression> {
        // `dx` inside an integral ends its body.
        if letter == 'd'
            && let Some((_, None)) = &self.integral
            && let Some(variable) = self.variable_name()
        {
            if let Some((_, differential)) = &mut self.integral {
                *differential = Some(variable);
            }
            return Ok(Expression::integer(1));
        }
        let name: String = letter.to_lowercase().collect();
        if self.is_sign(0, '_') {
            return self.named(name);
        }
        match letter {
            'e' => return Ok(Expression::Constant(Constant::E)),
            'I' => return Ok(Expression::Constant(Constant::I)),
            'i' if !self.bound.iter().any(|b| b == "i") => return Ok(Expression::Constant(Constant::I)),
            _ => {}
        }
        self.named(name)
    }

    /// A name with its subscript and, where it is a function, its arguments.
    fn named(&mut self, mut name: String) -> Parsed<Expression> {
        while self.is_sign(0, '\'') {
            self.at += 1;
            name.push('\'');
        }
        if self.eat('_') {
            let script = self.script_text()?;
            name.push('_');
            name.push_str(&script);
        }
        Ok(match self.call_arguments()? {
            Some(arguments) => Expression::Call(name, arguments),
            None => Expression::Symbol(name),
        })
    }

    /// Arguments behind a name: `f(x)` with a single letter or number, or several values separated by commas.
    /// `x(y + 1)` is a product.
    pub(super) fn call_arguments(&mut self) -> Parsed<Option<Vec<Expression>>> {
        if !self.is_sign(0, '(') {
            return Ok(None);
        }
        let single = match self.tokens.get(self.at + 1) {
            Some(Token::Number(..) | Token::Letter(_) | Token::Text(_)) => true,
            Some(Token::Command(c)) => {
                function_named(c).is_none() && !matches!(*c, "frac" | "sum" | "prod" | "int" | "lim")
            }
            _ => false,
        };
        let mut depth = 0usize;
        let mut several = false;
        let mut close = None;
        for (offset, token) in self.tokens[self.at..].iter().enumerate() {
            match token {
                Token::Sign('(' | '[' | '{' | '⦃') => depth += 1,
                Token::Sign(')' | ']' | '}' | '⦄') => {
                    depth -= 1;
                    if depth == 0 {
                        close = Some(offset);
                        break;
                    }
                }
                Token::Sign(',') if depth == 1 => several = true,
                _ => {}
            }
        }
        let subscripted = close.is_some_and(|c| {
            c > 2
                && matches!(self.tokens.get(self.at + 2), Some(Token::Sign('_')))
                && !self.tokens[self.at..self.at + c].iter().any(|t| {
                    matches!(t, Token::Sign('+' | '-' | '*' | '/' | '^') | Token::Command("cdot" | "times"))
                })
        });
        if !(several || single && (close == Some(2) || subscripted)) {
            return Ok(None);
        }
        self.at += 1;
        let groups = self.outside_bars(Parser::groups)?;
        self.expect(')')?;
        Ok(Some(groups.into_iter().flatten().collect()))
    }

    /// The text of a subscript, without spaces and braces.
    pub(super) fn script_text(&mut self) -> Parsed<String> {
        let mut out = String::new();
        let mut depth = 0usize;
        loop {
            let Some(token) = self.peek() else {
                return Err(ParseError::new("ends in a subscript"));
            };
            match token {
                Token::Sign('{') => depth += 1,
                Token::Sign('}') if depth > 0 => depth -= 1,
                Token::Number(text, _) => out.push_str(text),
                Token::Letter(c) => out.extend(c.to_lowercase()),
                Token::Command(name) => out.push_str(name),
                Token::Text(text) | Token::Operator(text) => out.push_str(text.trim()),
                Token::Sign(c) if depth > 0 => out.push(*c),
                _ => return Err(ParseError::new("has a subscript that is not a name")),
            }
            self.at += 1;
            if depth == 0 {
                return Ok(out);
            }
        }
    }

    fn text(&mut self, content: &str) -> Parsed<Expression> {
        if let Some(name) = content.strip_prefix("variable ") {
            return Ok(Expression::Symbol(name.to_string()));
        }
        let name: String = content
            .chars()
            .filter(|c| !c.is_whitespace() && !matches!(c, '(' | ')'))
            .flat_map(char::to_lowercase)
            .collect();
        match name.as_str() {
            "e" => return Ok(Expression::Constant(Constant::E)),
            "i" => return Ok(Expression::Constant(Constant::I)),
            "" => return Err(ParseError::new("has an empty text")),
            _ => {}
        }
        self.named(name)
    }

    fn bracketed(&mut self, open: char) -> Parsed<Expression> {
        let groups = self.outside_bars(Parser::groups)?;
        let close = match self.peek() {
            Some(Token::Sign(c @ (')' | ']'))) => *c,
            _ => return Err(ParseError::new("has a bracket that is never closed")),
        };
        self.at += 1;
        let mut parts: Vec<Expression> = groups.into_iter().flatten().collect();
        match parts.len() {
            1 => {
                if (open == '(') != (close == ')') {
                    return Err(ParseError::new("has brackets that do not match"));
                }
                parts.pop().ok_or_else(|| ParseError::new("has empty brackets"))
            }
            2 => {
                let right = parts.pop();
                let left = parts.pop();
                let (Some(left), Some(right)) = (left, right) else {
                    return Err(ParseError::new("has empty brackets"));
                };
                let (left_open, right_open) = (open == '(', close == ')');
                // What would be an empty interval is a pair.
                let empty = match (super::evaluate::real_value(&left), super::evaluate::real_value(&right)) {
                    (Some(a), Some(b)) => {
                        left_open && right_open && b <= a || !left_open && !right_open && b < a
                    }
                    _ => false,
                };
                if empty
                    || matches!(
                        (&left, &right),
                        (Expression::Relation(..), _) | (_, Expression::Relation(..))
                    )
                {
                    return Ok(Expression::Tuple(vec![left, right]));
                }
                Ok(Expression::Interval {
                    left: Box::new(left),
                    right: Box::new(right),
                    left_open,
                    right_open,
                })
            }
            _ => Ok(Expression::Tuple(parts)),
        }
    }

    fn braces(&mut self, open: char) -> Parsed<Expression> {
        let close = if open == '{' { '}' } else { '⦄' };
        // `\{1,2}` and `{1,2\}` are met in the wild.
        let closes = |p: &mut Parser| p.eat(close) || p.eat(if close == '}' { '⦄' } else { '}' });
        if closes(self) {
            return Ok(Expression::Set(Vec::new()));
        }
        let mut parts: Vec<Expression> = self.outside_bars(Parser::groups)?.into_iter().flatten().collect();
        if parts.len() == 1 && self.is_command("choose") {
            self.at += 1;
            let lower = self.additive()?;
            parts.push(lower);
            if !closes(self) {
                return Err(ParseError::new("has a brace that is never closed"));
            }
            return Ok(Expression::Apply(Function::Binomial, parts));
        }
        if !closes(self) {
            return Err(ParseError::new("has a brace that is never closed"));
        }
        if parts.len() == 1 && open == '{' {
            let only = parts.pop().ok_or_else(|| ParseError::new("has empty braces"))?;
            // `{x}_1`
            return match only {
                Expression::Symbol(name) if self.is_sign(0, '_') => self.named(name),
                other => Ok(other),
            };
        }
        Ok(Expression::Set(parts))
    }

    /// A group in braces, or a single digit, letter or command, as TeX takes it.
    fn argument(&mut self) -> Parsed<Expression> {
        match self.peek().cloned() {
            Some(Token::Sign('{')) => {
                self.at += 1;
                let value = self.outside_bars(Parser::additive)?;
                self.expect('}')?;
                Ok(value)
            }
            Some(Token::Number(text, false))
                if text.len() > 1 && text.bytes().all(|b| b.is_ascii_digit()) =>
            {
                let (head, tail) = text.split_at(1);
                let value =
                    number_value(head).ok_or_else(|| ParseError::new("has no digit where one is due"))?;
                self.tokens[self.at] = Token::Number(tail.to_string(), false);
                Ok(Expression::Number(value))
            }
            Some(_) => self.deeper(Parser::operand),
            None => Err(ParseError::new("lacks an argument")),
        }
    }

    fn variable_name(&mut self) -> Option<String> {
        let name = match self.peek()? {
            Token::Letter(c) => c.to_lowercase().collect(),
            Token::Command(c) if is_symbol(c) => (*c).to_string(),
            _ => return None,
        };
        self.at += 1;
        Some(name)
    }

    fn fraction(&mut self) -> Parsed<Expression> {
        if let Some(result) = self.derivative()? {
            return Ok(result);
        }
        let above = self.argument()?;
        // `\frac123` is one over twenty-three.
        let below = match self.peek() {
            Some(Token::Number(text, _)) if !text.contains('e') => {
                let value = number_value(text).ok_or_else(|| ParseError::new("has too many digits"))?;
                self.at += 1;
                Expression::Number(value)
            }
            _ => self.argument()?,
        };
        Ok(quotient(above, below))
    }

    /// `\frac{d}{dx} …` and `\frac{dy}{dx}`.
    fn derivative(&mut self) -> Parsed<Option<Expression>> {
        let is_d = |t: Option<&Token>| matches!(t, Some(Token::Letter('d') | Token::Command("partial")));
        let start = self.at;
        if self.integral.is_some() || !(self.is_sign(0, '{') && is_d(self.tokens.get(start + 1))) {
            return Ok(None);
        }
        let mut depth = 0usize;
        let Some(end) = self.tokens[start..].iter().position(|t| {
            match t {
                Token::Sign('{') => depth += 1,
                Token::Sign('}') => depth -= 1,
                _ => {}
            }
            depth == 0
        }) else {
            return Ok(None);
        };
        let below = start + end + 1;
        if !(self.tokens.get(below) == Some(&Token::Sign('{')) && is_d(self.tokens.get(below + 1))) {
            return Ok(None);
        }
        self.at = below + 2;
        let variable = self.variable_name();
        let (Some(variable), true) = (variable, self.is_sign(0, '}')) else {
            self.at = start;
            return Ok(None);
        };
        let behind = self.at + 1;
        let body = if end == 2 {
            self.at = behind;
            self.side_by_side(true)?
        } else {
            self.at = start + 2;
            let body = self.outside_bars(Parser::additive)?;
            self.expect('}')?;
            self.at = behind;
            body
        };
        Ok(Some(Expression::Bind(Binder::Derivative, Box::new(body), variable, Vec::new())))
    }

    fn root(&mut self) -> Parsed<Expression> {
        let index = if self.eat('[') {
            let index = self.outside_bars(Parser::additive)?;
            self.expect(']')?;
            index
        } else {
            Expression::integer(2)
        };
        let radicand = self.argument()?;
        if matches!(&index, Expression::Number(n) if n.is_zero()) {
            return Err(ParseError::new("has a root of index zero"));
        }
        Ok(Expression::Apply(Function::Root, vec![radicand, index]))
    }

    /// A function with its power, base and argument.
    fn function(&mut self, name: &str, function: Function) -> Parsed<Expression> {
        let mut power = None;
        let mut base = None;
        for _ in 0..2 {
            if power.is_none() && self.eat('^') {
                power = self.script()?;
            }
            if base.is_none() && self.eat('_') {
                base = Some(self.argument()?);
            }
        }
        let arguments =
            if self.is_sign(0, '(') || self.is_sign(0, '[') || self.is_sign(0, '{') || self.is_sign(0, '⦃')
            {
                let close = match self.peek() {
                    Some(Token::Sign('(')) => ')',
                    Some(Token::Sign('[')) => ']',
                    Some(Token::Sign('{')) => '}',
                    _ => '⦄',
                };
                self.at += 1;
                let groups = self.outside_bars(Parser::groups)?;
                self.expect(close)?;
                groups.into_iter().flatten().collect()
            } else {
                vec![self.bare_argument()?]
            };
        let many = matches!(function, Function::Gcd | Function::Lcm | Function::Max | Function::Min);
        if arguments.len() != 1 && !many {
            return Err(ParseError::new(format!("gives `{name}` {} arguments", arguments.len())));
        }
        let inverse = power == Some(Expression::integer(-1));
        let (function, power) = match inverse_of(function) {
            Some(other) if inverse => (other, None),
            _ => (function, power),
        };
        let value = match (name, arguments) {
            ("exp", mut arguments) => {
                let exponent = arguments.pop().ok_or_else(|| ParseError::new("lacks an argument"))?;
                Expression::Power(Box::new(Expression::Constant(Constant::E)), Box::new(exponent))
            }
            ("log" | "ln" | "lg", mut arguments) => {
                arguments.push(match (base, name) {
                    (Some(base), _) => base,
                    (None, "ln") => Expression::Constant(Constant::E),
                    (None, _) => Expression::integer(10),
                });
                Expression::Apply(Function::Log, arguments)
            }
            ("sqrt", mut arguments) => {
                arguments.push(Expression::integer(2));
                Expression::Apply(Function::Root, arguments)
            }
            (_, arguments) => {
                // gcd(x, gcd(y, z)) is gcd(x, y, z).
                let nested =
                    many && arguments.iter().any(|a| matches!(a, Expression::Apply(f, _) if *f == function));
                let flat = |a: Expression| match a {
                    Expression::Apply(f, inner) if nested && f == function => inner,
                    other => vec![other],
                };
                Expression::Apply(function, arguments.into_iter().flat_map(flat).collect())
            }
        };
        Ok(match power {
            Some(power) => Expression::Power(Box::new(value), Box::new(power)),
            None => value,
        })
    }

    /// The argument of a function without brackets: factors up to the next function, sum or relation.
    fn bare_argument(&mut self) -> Parsed<Expression> {
        self.deeper(|p| {
            let negative = p.eat('-');
            let mut value = p.side_by_side(false)?;
            loop {
                let divides = match p.peek() {
                    Some(Token::Sign('*') | Token::Command("cdot" | "times")) => false,
                    Some(Token::Sign('/')) => true,
                    _ => break,
                };
                p.at += 1;
                if !p.starts_operand(false) {
                    p.at -= 1;
                    break;
                }
                let next = p.side_by_side(false)?;
                value = if divides { quotient(value, next) } else { product(value, next) };
            }
            Ok(if negative { value.negated() } else { value })
        })
    }

    fn operator(&mut self, name: &str) -> Parsed<Expression> {
        if let Some(function) = function_named(name) {
            return self.function(name, function);
        }
        match self.call_arguments()? {
            Some(arguments) => Ok(Expression::Call(name.to_string(), arguments)),
            None if self.is_sign(0, '(') => {
                self.at += 1;
                let groups = self.outside_bars(Parser::groups)?;
                self.expect(')')?;
                Ok(Expression::Call(name.to_string(), groups.into_iter().flatten().collect()))
            }
            None => Ok(Expression::Symbol(name.to_lowercase())),
        }
    }

    fn between(&mut self, close: &str, function: Function) -> Parsed<Expression> {
        let inner = self.outside_bars(Parser::additive)?;
        if !self.is_command(close) {
            return Err(ParseError::new(format!("lacks `\\{close}`")));
        }
        self.at += 1;
        Ok(Expression::Apply(function, vec![inner]))
    }

    fn command(&mut self, name: &'static str) -> Parsed<Expression> {
        if name != "sqrt"
            && let Some(function) = function_named(name)
        {
            return self.function(name, function);
        }
        match name {
            "frac" => self.fraction(),
            "sqrt" => self.root(),
            "binom" => {
                let upper = self.argument()?;
                let lower = self.argument()?;
                Ok(Expression::Apply(Function::Binomial, vec![upper, lower]))
            }
            "pi" => Ok(Expression::Constant(Constant::Pi)),
            "exponentialE" => Ok(Expression::Constant(Constant::E)),
            "i" | "imath" => Ok(Expression::Constant(Constant::I)),
            "infty" => Ok(Expression::Constant(Constant::Infinity)),
            "emptyset" | "varnothing" => Ok(Expression::Set(Vec::new())),
            "lfloor" => self.between("rfloor", Function::Floor),
            "lceil" => self.between("rceil", Function::Ceil),
            "langle" => {
                let groups = self.outside_bars(Parser::groups)?;
                if !self.is_command("rangle") {
                    return Err(ParseError::new("lacks `\\rangle`"));
                }
                self.at += 1;
                Ok(Expression::Tuple(groups.into_iter().flatten().collect()))
            }
            "sum" | "prod" => self.repeated(name == "sum"),
            "int" => self.integral(),
            "lim" => self.limit(),
            "mathbb" => {
                let letter = self.script_text()?;
                number_set(&letter.to_uppercase())
                    .map(Expression::Named)
                    .ok_or_else(|| ParseError::new("has a blackboard letter that names no set"))
            }
            "angle" | "triangle" => self.deeper(Parser::operand),
            "overline" | "bar" | "vec" | "overrightarrow" | "hat" | "widehat" | "tilde" | "widetilde"
            | "dot" | "ddot" => {
                let mark = match name {
                    "overline" => "bar",
                    "overrightarrow" => "vec",
                    "widehat" => "hat",
                    "widetilde" => "tilde",
                    other => other,
                };
                let inner = self.script_text()?;
                self.named(format!("{mark}{{{inner}}}"))
            }
            symbol if is_symbol(symbol) => self.named(symbol.to_string()),
            other => Err(ParseError::new(format!("has `\\{other}` where a value is due"))),
        }
    }

    /// `\sum_{k=1}^{n} …` and `\prod…`.
    fn repeated(&mut self, is_sum: bool) -> Parsed<Expression> {
        let mut variable = None;
        let mut lower = None;
        let mut upper = None;
        for _ in 0..2 {
            if self.eat('_') {
                self.expect('{')?;
                variable = self.variable_name();
                self.expect('=')?;
                lower = Some(self.outside_bars(Parser::additive)?);
                self.expect('}')?;
            } else if self.eat('^') {
                upper = self.bound_script()?;
            }
        }
        let (Some(variable), Some(lower), Some(upper)) = (variable, lower, upper) else {
            return Err(ParseError::new("has a sum or product without bounds"));
        };
        self.bound.push(variable.clone());
        let body = self.deeper(Parser::term);
        self.bound.pop();
        let kind = if is_sum { Binder::Sum } else { Binder::Product };
        Ok(Expression::Bind(kind, Box::new(body?), variable, vec![lower, upper]))
    }

    /// A bound of a sum or integral: a group, or one token that takes no script of its own.
    fn bound_script(&mut self) -> Parsed<Option<Expression>> {
        match self.peek() {
            Some(Token::Letter(_) | Token::Command(_)) => {
                // The parser sees nothing behind the token.
                let behind = self.tokens.split_off(self.at + 1);
                let value = self.deeper(Parser::operand);
                self.tokens.extend(behind);
                Ok(Some(value?))
            }
            Some(Token::Number(..)) => Ok(Some(self.deeper(Parser::operand)?)),
            _ => self.script(),
        }
    }

    fn integral(&mut self) -> Parsed<Expression> {
        let mut bounds = [None, None];
        for _ in 0..2 {
            for (bound, sign) in bounds.iter_mut().zip(['_', '^']) {
                if bound.is_none() && self.eat(sign) {
                    // `\int_{ }^{ }` has no bounds.
                    if self.is_sign(0, '{') && self.is_sign(1, '}') {
                        self.at += 2;
                    } else {
                        *bound = self.bound_script()?;
                    }
                }
            }
        }
        let saved = self.integral.take();
        let body = self.deeper(|p| {
            p.integral = Some((p.depth(), None));
            p.additive()
        });
        let variable = self.integral.take().and_then(|(_, v)| v).unwrap_or_else(|| "x".into());
        self.integral = saved;
        let bounds = match bounds {
            [Some(lower), Some(upper)] => vec![lower, upper],
            _ => Vec::new(),
        };
        Ok(Expression::Bind(Binder::Integral, Box::new(body?), variable, bounds))
    }

    fn limit(&mut self) -> Parsed<Expression> {
        if !(self.eat('_') && self.eat('{')) {
            return Err(ParseError::new("has a limit without a point"));
        }
        let variable =
            self.variable_name().ok_or_else(|| ParseError::new("has a limit without a variable"))?;
        if !(self.is_command("to") || self.is_command("rightarrow")) {
            return Err(ParseError::new("has a limit without an arrow"));
        }
        self.at += 1;
        let point = self.outside_bars(Parser::additive)?;
        if self.eat('^') {
            self.at += 1;
        }
        self.expect('}')?;
        let body = self.deeper(Parser::term)?;
        Ok(Expression::Bind(Binder::Limit, Box::new(body), variable, vec![point]))
    }

    fn environment(&mut self, kind: &str) -> Parsed<Expression> {
        let matrix = kind.ends_with("matrix") || kind == "array";
        if !(matrix || matches!(kind, "cases" | "aligned" | "gathered" | "align" | "equation" | "split")) {
            return Err(ParseError::new(format!("has the unknown environment `{kind}`")));
        }
        let mut rows: Vec<Vec<Expression>> = vec![Vec::new()];
        let mut entries = 0;
        loop {
            match self.peek() {
                None => return Err(ParseError::new("has an environment that is never closed")),
                Some(Token::End) => {
                    self.at += 1;
                    break;
                }
                Some(Token::Row) => {
                    self.at += 1;
                    rows.push(Vec::new());
                }
                Some(Token::Command("hline")) => self.at += 1,
                Some(Token::Sign('&')) => self.at += 1,
                Some(Token::Sign(',')) if !matrix => self.at += 1,
                Some(_) => {
                    entries += 1;
                    if entries > MAX_ENTRIES {
                        return Err(ParseError::new("has a matrix with too many entries"));
                    }
                    let mut groups = self.outside_bars(Parser::groups)?;
                    let entry = match (groups.pop(), groups.is_empty()) {
                        (Some(mut g), true) if g.len() == 1 => g.pop(),
                        _ => None,
                    };
                    let entry = entry.ok_or_else(|| ParseError::new("has a matrix entry that is a list"))?;
                    if let Some(row) = rows.last_mut() {
                        row.push(entry);
                    }
                }
            }
        }
        rows.retain(|r| !r.is_empty());
        let width = rows.first().map_or(0, Vec::len);
        if width == 0 || rows.iter().any(|r| r.len() != width) {
            return Err(ParseError::new("has rows of different length"));
        }
        if !matrix {
            let mut parts: Vec<Expression> = rows.into_iter().flatten().collect();
            return match parts.len() {
                1 => parts.pop().ok_or_else(|| ParseError::new("is empty")),
                _ if width == 1 => Ok(Expression::Set(parts)),
                _ => Err(ParseError::new("has cases with conditions")),
            };
        }
        let result = Expression::Matrix(rows);
        Ok(if kind == "vmatrix" { Expression::Apply(Function::Det, vec![result]) } else { result })
    }
}

fn absolute(inner: Expression) -> Expression {
    if matches!(inner, Expression::Matrix(_)) {
        Expression::Apply(Function::Det, vec![inner])
    } else {
        Expression::Apply(Function::Abs, vec![inner])
    }
}
