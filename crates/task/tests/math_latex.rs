//! latex2sympy's cases: each LaTeX text against the SymPy expression it must be, written out fully bracketed.

mod shared;

use elenchus_task::math::{Options, equivalent};

/// A SymPy expression as text (Python calls and operators), turned into LaTeX in which nothing depends on precedence.
struct Python<'t> {
    text: &'t [u8],
    at: usize,
}

#[derive(Debug, Clone)]
enum Value {
    Math(String),
    Text(String),
    List(Vec<Value>),
    Keyword(String, String),
}

impl Value {
    fn math(&self) -> Option<String> {
        match self {
            Value::Math(m) => Some(m.clone()),
            _ => None,
        }
    }
}

impl Python<'_> {
    fn space(&mut self) {
        while self.text.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
    }

    fn eat(&mut self, sign: &str) -> bool {
        self.space();
        let found = self.text[self.at..].starts_with(sign.as_bytes());
        self.at += if found { sign.len() } else { 0 };
        found
    }

    fn sum(&mut self) -> Option<Value> {
        let mut left = self.product()?;
        loop {
            let sign = if self.eat("+") {
                "+"
            } else if self.eat("-") {
                "-"
            } else {
                return Some(left);
            };
            left = Value::Math(format!("({}{sign}{})", left.math()?, self.product()?.math()?));
        }
    }

    fn product(&mut self) -> Option<Value> {
        let mut left = self.unary()?;
        loop {
            self.space();
            if self.text[self.at..].starts_with(b"**") {
                return Some(left);
            }
            left = if self.eat("*") {
                Value::Math(format!("({}*{})", left.math()?, self.unary()?.math()?))
            } else if self.eat("/") {
                Value::Math(format!("\\frac{{{}}}{{{}}}", left.math()?, self.unary()?.math()?))
            } else {
                return Some(left);
            };
        }
    }

    fn unary(&mut self) -> Option<Value> {
        if self.eat("-") {
            return Some(Value::Math(format!("(-{})", self.unary()?.math()?)));
        }
        let base = self.atom()?;
        if self.eat("**") {
            return Some(Value::Math(format!("{{({})}}^{{{}}}", base.math()?, self.unary()?.math()?)));
        }
        Some(base)
    }

    fn items(&mut self, close: &str) -> Option<Vec<Value>> {
        let mut out = Vec::new();
        while !self.eat(close) {
            out.push(self.sum()?);
            self.eat(",");
        }
        Some(out)
    }

    fn atom(&mut self) -> Option<Value> {
        self.space();
        let first = *self.text.get(self.at)?;
        if first == b'\'' {
            let end = self.at + 1 + self.text[self.at + 1..].iter().position(|b| *b == b'\'')?;
            let text = std::str::from_utf8(&self.text[self.at + 1..end]).ok()?.to_string();
            self.at = end + 1;
            return Some(Value::Text(text));
        }
        if self.eat("[") {
            return Some(Value::List(self.items("]")?));
        }
        if self.eat("(") {
            let mut items = self.items(")")?;
            return if items.len() == 1 { items.pop() } else { Some(Value::List(items)) };
        }
        if first.is_ascii_digit() {
            let from = self.at;
            while self.text.get(self.at).is_some_and(|b| b.is_ascii_digit() || *b == b'.' || *b == b'e')
                || self.text.get(self.at) == Some(&b'+') && self.text[self.at - 1] == b'e'
            {
                self.at += 1;
            }
            let number = std::str::from_utf8(&self.text[from..self.at]).ok()?;
            return Some(Value::Math(match number.split_once("e+") {
                Some((mantissa, power)) => format!("({mantissa}*10^{{{power}}})"),
                None => number.to_string(),
            }));
        }
        let from = self.at;
        while self.text.get(self.at).is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.')) {
            self.at += 1;
        }
        let name = std::str::from_utf8(&self.text[from..self.at]).ok()?.to_string();
        if name.is_empty() {
            return None;
        }
        self.space();
        if self.text.get(self.at) == Some(&b'=') {
            self.at += 1;
            let value = self.atom()?;
            let value = value.math().unwrap_or_default();
            return Some(Value::Keyword(name, value));
        }
        if !self.eat("(") {
            return Some(Value::Math(constant(&name)));
        }
        let mut arguments = self.items(")")?;
        let mut keywords = Vec::new();
        arguments.retain(|a| match a {
            Value::Keyword(k, v) => {
                keywords.push((k.clone(), v.clone()));
                false
            }
            _ => true,
        });
        // `Function('f')(x)`
        if name == "Function" && self.eat("(") {
            let inner = self.items(")")?;
            let Some(Value::Text(function)) = arguments.first() else { return None };
            return Some(Value::Math(format!("{function}({})", inner.first()?.math()?)));
        }
        call(&name, &arguments, &keywords).map(Value::Math)
    }
}

fn constant(name: &str) -> String {
    match name {
        "E" => "e".into(),
        "I" => "I".into(),
        "oo" => "\\infty".into(),
        "pi" | "theta" | "gamma" => format!("\\{name}"),
        "S.Rationals" => "\\mathbb{Q}".into(),
        "S.EmptySet" => "\\emptyset".into(),
        "True" | "False" => name.into(),
        other => other.into(),
    }
}

fn call(name: &str, arguments: &[Value], keywords: &[(String, String)]) -> Option<String> {
    let math: Vec<String> = arguments.iter().filter_map(Value::math).collect();
    let all = || (math.len() == arguments.len()).then_some(());
    let first = || math.first().cloned();
    let bounds = || match arguments.get(1)? {
        Value::List(items) => Some(items.iter().filter_map(Value::math).collect::<Vec<_>>()),
        _ => None,
    };
    Some(match name {
        "_Add" | "Add" | "MatAdd" => format!("({})", math.join("+")),
        "_Mul" | "Mul" | "MatMul" => math.iter().map(|m| format!("({m})")).collect::<Vec<_>>().join("*"),
        "_Pow" | "Pow" => format!("{{({})}}^{{{}}}", math.first()?, math.get(1)?),
        "sqrt" | "sin" | "cos" | "tan" | "csc" | "sec" | "exp" => format!("\\{name}{{{}}}", first()?),
        "asin" | "acos" | "atan" => format!("\\arc{}({})", &name[1..], first()?),
        "asinh" | "acosh" | "atanh" => format!("\\operatorname{{arc{}}}({})", &name[1..], first()?),
        "floor" => format!("\\lfloor {} \\rfloor", first()?),
        "ceiling" => format!("\\lceil {} \\rceil", first()?),
        "_Abs" => format!("\\left|{}\\right|", first()?),
        "_factorial" => format!("({})!", first()?),
        "_log" => format!("\\log_{{{}}}({})", math.get(1)?, first()?),
        "binomial" => format!("\\binom{{{}}}{{{}}}", first()?, math.get(1)?),
        "gcd" | "igcd" | "lcm" | "ilcm" => {
            format!("\\operatorname{{{}}}({})", name.trim_start_matches('i'), math.join(","))
        }
        "Max" | "Min" => format!("\\{}({})", name.to_lowercase(), math.join(",")),
        "Mod" => format!("(({}) \\mod ({}))", first()?, math.get(1)?),
        "UnevaluatedExpr" | "Integer" | "nsimplify" => first()?,
        "Rational" | "Float" | "Number" => match arguments {
            [Value::Text(t)] => match t.split_once('/') {
                Some((a, b)) => format!("\\frac{{{a}}}{{{b}}}"),
                None => format!("({t})"),
            },
            _ if math.len() == 2 => format!("\\frac{{{}}}{{{}}}", math[0], math[1]),
            _ => first()?,
        },
        "Symbol" => match arguments.first()? {
            Value::Text(t) => format!("\\variable{{{}}}", t.replace("\\\\", "\\").to_lowercase()),
            _ => return None,
        },
        "Eq" | "Ne" | "LessThan" | "StrictLessThan" => {
            let sign = match name {
                "Eq" => "=",
                "Ne" => "\\ne ",
                "LessThan" => "\\le ",
                _ => "<",
            };
            format!("{}{sign}{}", first()?, math.get(1)?)
        }
        "FiniteSet" => {
            all()?;
            format!("\\{{{}\\}}", math.join(","))
        }
        "Union" => format!("{} \\cup {}", first()?, math.get(1)?),
        "Intersection" => format!("{} \\cap {}", first()?, math.get(1)?),
        "Complement" => format!("{} \\setminus {}", first()?, math.get(1)?),
        "Interval" => {
            let open = |side: &str| keywords.iter().any(|(k, v)| k == side && v == "True");
            format!(
                "{}{},{}{}",
                if open("left_open") { "(" } else { "[" },
                first()?,
                math.get(1)?,
                if open("right_open") { ")" } else { "]" }
            )
        }
        "Matrix" => {
            let Value::List(rows) = arguments.first()? else { return None };
            let rows: Vec<String> = rows
                .iter()
                .map(|row| match row {
                    Value::List(entries) => {
                        entries.iter().filter_map(Value::math).collect::<Vec<_>>().join("&")
                    }
                    other => other.math().unwrap_or_default(),
                })
                .collect();
            format!("\\begin{{pmatrix}}{}\\end{{pmatrix}}", rows.join("\\\\"))
        }
        "Limit" => format!("\\lim_{{{}\\to {}}} ({})", math.get(1)?, math.get(2)?, first()?),
        "Derivative" => format!("\\frac{{d}}{{d{}}} ({})", math.get(1)?, first()?),
        "Integral" => match bounds() {
            Some(b) => format!("\\int_{{{}}}^{{{}}} ({}) d{}", b.get(1)?, b.get(2)?, first()?, b.first()?),
            None => format!("\\int ({}) d{}", first()?, math.get(1)?),
        },
        "Sum" | "Product" => {
            let b = bounds()?;
            let command = if name == "Sum" { "sum" } else { "prod" };
            format!("\\{command}_{{{}={}}}^{{{}}} ({})", b.first()?, b.get(1)?, b.get(2)?, first()?)
        }
        _ => return None,
    })
}

#[test]
fn latex_means_what_latex2sympy_says() {
    let Some(text) = shared::text("latex2sympy_cases/pairs.jsonl") else { return };
    let options = Options::default();
    let (mut agree, mut total, mut wrong, mut unread) = (0, 0, Vec::new(), Vec::new());
    for line in text.lines() {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        let (latex, sympy) = (row["latex"].as_str().unwrap(), row["sympy"].as_str().unwrap());
        let mut python = Python { text: sympy.as_bytes(), at: 0 };
        let expected = python.sum().and_then(|v| v.math()).filter(|_| python.at == sympy.len());
        let Some(expected) = expected else {
            unread.push(format!("{latex}  {sympy}"));
            continue;
        };
        total += 1;
        let verdict = equivalent(&expected, latex, &options);
        if verdict.verdict() == Some(true) {
            agree += 1;
        } else {
            wrong.push(format!("{latex}  {sympy}  {expected}  {}", verdict.reason));
        }
    }
    eprintln!("{agree} of {total} agree; {} SymPy texts are beyond this test's reader", unread.len());
    eprintln!("unread:\n{}\ndifferent:\n{}", unread.join("\n"), wrong.join("\n"));
    assert!(total >= 330, "only {total} SymPy texts could be read");
    assert!(agree * 100 >= total * 95, "{agree} of {total} agree");
}
