use super::parser::ParseError;

/// A lexical unit of LaTeX or plain mathematics.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// Digits with an optional decimal point; separators are removed. `true` when a point was written.
    Number(String, bool),
    /// One letter.
    Letter(char),
    /// A known command, without the backslash.
    Command(&'static str),
    /// The content of `\text{…}` and its kin.
    Text(String),
    /// The name of `\operatorname{…}`.
    Operator(String),
    /// `\begin{…}` of a matrix-like environment.
    Begin(String),
    /// `\end{…}`.
    End,
    /// `\\`: the next row.
    Row,
    /// Opening or closing bar that is known to be one; `true` opens.
    Bar(bool),
    /// Anything of one character: operators, brackets, signs.
    Sign(char),
}

/// Commands that the parser understands. The longest that fits is taken, so that `\pik` is `\pi k`.
const COMMANDS: &[&str] = &[
    "frac",
    "sqrt",
    "binom",
    "choose",
    "sin",
    "cos",
    "tan",
    "csc",
    "sec",
    "cot",
    "sinh",
    "cosh",
    "tanh",
    "arcsin",
    "arccos",
    "arctan",
    "arccsc",
    "arcsec",
    "arccot",
    "arcsinh",
    "arccosh",
    "arctanh",
    "arsinh",
    "arcosh",
    "artanh",
    "log",
    "ln",
    "lg",
    "exp",
    "exponentialE",
    "gcd",
    "lcm",
    "max",
    "min",
    "floor",
    "ceil",
    "det",
    "mod",
    "bmod",
    "pmod",
    "sum",
    "prod",
    "int",
    "lim",
    "infty",
    "pi",
    "cdot",
    "times",
    "div",
    "pm",
    "mp",
    "le",
    "leq",
    "leqslant",
    "ge",
    "geq",
    "geqslant",
    "lt",
    "gt",
    "ne",
    "neq",
    "approx",
    "sim",
    "equiv",
    "in",
    "notin",
    "cup",
    "cap",
    "setminus",
    "backslash",
    "subset",
    "subseteq",
    "supset",
    "supseteq",
    "emptyset",
    "varnothing",
    "mathbb",
    "lfloor",
    "rfloor",
    "lceil",
    "rceil",
    "lvert",
    "rvert",
    "vert",
    "lbrace",
    "rbrace",
    "lbrack",
    "rbrack",
    "langle",
    "rangle",
    "to",
    "rightarrow",
    "circ",
    "degree",
    "prime",
    "cdots",
    "dots",
    "partial",
    "overline",
    "bar",
    "vec",
    "overrightarrow",
    "hat",
    "widehat",
    "tilde",
    "widetilde",
    "dot",
    "ddot",
    "variable",
    "hline",
    "angle",
    "triangle",
    "ell",
    "hbar",
    "alpha",
    "beta",
    "gamma",
    "Gamma",
    "delta",
    "Delta",
    "epsilon",
    "varepsilon",
    "zeta",
    "eta",
    "theta",
    "vartheta",
    "Theta",
    "iota",
    "kappa",
    "lambda",
    "Lambda",
    "mu",
    "nu",
    "xi",
    "Xi",
    "Pi",
    "varpi",
    "rho",
    "varrho",
    "sigma",
    "varsigma",
    "Sigma",
    "tau",
    "upsilon",
    "Upsilon",
    "phi",
    "varphi",
    "Phi",
    "chi",
    "psi",
    "Psi",
    "omega",
    "Omega",
    "imath",
    "i",
    "nabla",
    "mid",
    "land",
    "wedge",
    "lor",
    "vee",
    "ast",
];

/// Commands without meaning for the value.
const IGNORED: &[&str] = &[
    "left",
    "right",
    "mleft",
    "mright",
    "big",
    "Big",
    "bigg",
    "Bigg",
    "bigl",
    "bigr",
    "Bigl",
    "Bigr",
    "biggl",
    "biggr",
    "Biggl",
    "Biggr",
    "quad",
    "qquad",
    "displaystyle",
    "textstyle",
    "scriptstyle",
    "limits",
    "nolimits",
    "hfill",
    "centering",
    "boldsymbol",
    "bm",
    "bf",
    "rm",
    "it",
    "cal",
    "thinspace",
    "medspace",
    "space",
    "kern",
];

/// Commands whose braces hold words.
const TEXTUAL: &[&str] = &[
    "text",
    "mbox",
    "textrm",
    "textbf",
    "textit",
    "textnormal",
    "mathrm",
    "mathbf",
    "mathit",
    "mathsf",
    "mathtt",
    "mathcal",
    "mathscr",
    "mathfrak",
];

fn longest(word: &str, table: &[&'static str]) -> Option<&'static str> {
    let mut best: Option<&'static str> = None;
    for candidate in table {
        if word.starts_with(candidate) && best.is_none_or(|b| candidate.len() > b.len()) {
            best = Some(candidate);
        }
    }
    best
}

/// Content of a braced group that starts at `open` (a `{`), and the position behind its `}`.
pub(super) fn braced(chars: &[char], open: usize) -> Option<(String, usize)> {
    let mut depth = 0usize;
    for (offset, &c) in chars.iter().enumerate().skip(open) {
        match c {
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return Some((chars[open + 1..offset].iter().collect(), offset + 1));
                }
            }
            _ => {}
        }
    }
    None
}

/// Letters that name the same thing as a command.
fn unicode(c: char) -> Option<Token> {
    Some(Token::Command(match c {
        'π' => "pi",
        '∞' => "infty",
        '√' => "sqrt",
        '≤' | '⩽' => "le",
        '≥' | '⩾' => "ge",
        '≠' => "ne",
        '≈' => "approx",
        '×' => "times",
        '·' | '⋅' | '∙' => "cdot",
        '÷' => "div",
        '±' => "pm",
        '∓' => "mp",
        '∪' => "cup",
        '∩' => "cap",
        '∖' => "setminus",
        '∈' => "in",
        '∉' => "notin",
        '⊂' | '⊆' => "subseteq",
        '⊃' | '⊇' => "supseteq",
        '∅' => "emptyset",
        '°' => "circ",
        'α' => "alpha",
        'β' => "beta",
        'γ' => "gamma",
        'δ' => "delta",
        'ε' => "epsilon",
        'θ' => "theta",
        'λ' => "lambda",
        'μ' => "mu",
        'ρ' => "rho",
        'σ' => "sigma",
        'τ' => "tau",
        'φ' => "phi",
        'ω' => "omega",
        'Δ' => "Delta",
        'Ω' => "Omega",
        _ => return None,
    }))
}

/// Cuts a normalized text into tokens. At most `limit` tokens.
pub(super) fn tokens(text: &str, scientific: bool, limit: usize) -> Result<Vec<Token>, ParseError> {
    let chars: Vec<char> = text.chars().collect();
    let mut out = Vec::new();
    let mut i = 0;
    while i < chars.len() {
        if out.len() >= limit {
            return Err(ParseError::new("is longer than the parser reads"));
        }
        let c = chars[i];
        if c.is_whitespace() || c == '~' || c == '\u{200b}' {
            i += 1;
        } else if c.is_ascii_digit() || (c == '.' && chars.get(i + 1).is_some_and(char::is_ascii_digit)) {
            i = number(&chars, i, scientific, &mut out);
        } else if c == '\\' {
            i = command(&chars, i, &mut out)?;
        } else if let Some(token) = unicode(c) {
            out.push(token);
            i += 1;
        } else if let Some(power) = "⁰¹²³⁴⁵⁶⁷⁸⁹".chars().position(|s| s == c) {
            out.push(Token::Sign('^'));
            out.push(Token::Number(power.to_string(), false));
            i += 1;
        } else if c == '−' || c == '–' {
            out.push(Token::Sign('-'));
            i += 1;
        } else if c.is_alphabetic() {
            out.push(Token::Letter(c));
            i += 1;
        } else {
            out.push(Token::Sign(c));
            i += 1;
        }
    }
    Ok(out)
}

/// Reads a number at `start`, with thousands separators and an exponent; gives the position behind it.
fn number(chars: &[char], start: usize, scientific: bool, out: &mut Vec<Token>) -> usize {
    let digit = |k: usize| chars.get(k).is_some_and(char::is_ascii_digit);
    let mut i = start;
    let mut text = String::new();
    while digit(i) {
        text.push(chars[i]);
        i += 1;
    }
    let mut point = false;
    if chars.get(i) == Some(&'.') && digit(i + 1) {
        point = true;
        if text.is_empty() {
            text.push('0');
        }
        text.push('.');
        i += 1;
        while digit(i) {
            text.push(chars[i]);
            i += 1;
        }
    } else if chars.get(i) == Some(&'.') && !text.is_empty() {
        // `5.` is the number five, when nothing that belongs to it follows.
        i += 1;
    }
    let small = scientific && chars.get(i) == Some(&'e');
    if chars.get(i) == Some(&'E') || small {
        let signed = matches!(chars.get(i + 1), Some('+' | '-'));
        let first = i + 1 + usize::from(signed);
        if digit(first) {
            text.push('e');
            if chars.get(i + 1) == Some(&'-') {
                text.push('-');
            }
            i = first;
            while digit(i) {
                text.push(chars[i]);
                i += 1;
            }
        }
    }
    out.push(Token::Number(text, point));
    i
}

fn command(chars: &[char], start: usize, out: &mut Vec<Token>) -> Result<usize, ParseError> {
    let Some(&next) = chars.get(start + 1) else {
        return Err(ParseError::new("ends in a backslash"));
    };
    if !next.is_ascii_alphabetic() {
        match next {
            '\\' => out.push(Token::Row),
            '{' | '}' => out.push(Token::Sign(if next == '{' { '⦃' } else { '⦄' })),
            '|' => out.push(Token::Sign('‖')),
            '%' | '#' | '&' | '_' => out.push(Token::Sign(next)),
            ',' | ';' | ':' | '!' | ' ' | '>' | '/' | '$' | '-' => {}
            other => return Err(ParseError::new(format!("has the unknown command `\\{other}`"))),
        }
        return Ok(start + 2);
    }
    let word: String = chars[start + 1..].iter().take_while(|c| c.is_ascii_alphabetic()).collect();
    // A size command may be followed by a bar whose direction it tells.
    if matches!(word.as_str(), "left" | "mleft" | "right" | "mright") {
        let mut i = start + 1 + word.len();
        while chars.get(i).is_some_and(|c| c.is_whitespace()) {
            i += 1;
        }
        return Ok(match chars.get(i) {
            Some('|') => {
                out.push(Token::Bar(word.ends_with("left")));
                i + 1
            }
            Some('.') => i + 1,
            _ => i,
        });
    }
    let behind_space = |mut i: usize| {
        while chars.get(i).is_some_and(|c| c.is_whitespace()) {
            i += 1;
        }
        i
    };
    let known = longest(&word, COMMANDS);
    for table in [TEXTUAL, &["operatorname", "begin", "end"][..]] {
        let Some(name) = longest(&word, table) else { continue };
        if known.is_some_and(|k| k.len() > name.len()) {
            continue;
        }
        let mut open = start + 1 + name.len();
        if chars.get(open) == Some(&'*') {
            open += 1;
        }
        open = behind_space(open);
        if chars.get(open) != Some(&'{') {
            // `\mathbf x`: the mark alone says nothing.
            if table == TEXTUAL {
                return Ok(open);
            }
            return Err(ParseError::new(format!("has `\\{name}` without braces")));
        }
        let (content, end) =
            braced(chars, open).ok_or_else(|| ParseError::new("has a brace that is never closed"))?;
        match name {
            "operatorname" => out.push(Token::Operator(content.trim().to_string())),
            "begin" => {
                let mut end = end;
                // Column specification of an array.
                if content == "array" && chars.get(end) == Some(&'{') {
                    end = braced(chars, end).map_or(end, |(_, behind)| behind);
                }
                out.push(Token::Begin(content.trim_end_matches('*').to_string()));
                return Ok(end);
            }
            "end" => out.push(Token::End),
            _ => {
                // `\text{a} _b`: the name as one symbol.
                out.push(Token::Text(content));
            }
        }
        return Ok(end);
    }
    match (known, longest(&word, IGNORED)) {
        (Some(name), ignored) if ignored.is_none_or(|i| i.len() <= name.len()) => {
            match name {
                "lvert" => out.push(Token::Bar(true)),
                "rvert" => out.push(Token::Bar(false)),
                "vert" => out.push(Token::Sign('|')),
                "lbrace" => out.push(Token::Sign('⦃')),
                "rbrace" => out.push(Token::Sign('⦄')),
                "lbrack" => out.push(Token::Sign('[')),
                "rbrack" => out.push(Token::Sign(']')),
                _ => out.push(Token::Command(name)),
            }
            if name == "variable" {
                let open = behind_space(start + 1 + name.len());
                if chars.get(open) == Some(&'{')
                    && let Some((content, end)) = braced(chars, open)
                {
                    out.pop();
                    out.push(Token::Text(format!("variable {content}")));
                    return Ok(end);
                }
            }
            Ok(start + 1 + name.len())
        }
        (_, Some(name)) => Ok(start + 1 + name.len()),
        _ => Err(ParseError::new(format!("has the unknown command `\\{word}`"))),
    }
}
