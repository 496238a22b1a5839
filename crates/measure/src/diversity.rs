//! Equation diversity (arXiv 2412.17256): how many of the equations that the samples of a question write are different.

use crate::MeasureError;
use std::collections::HashSet;

/// Equations of a compact chain: `g=50;e=50-1=49#49` gives `g=50` and `e=50-1=49`.
///
/// Steps are divided by `;`, the chain ends at the first `#`; white space is dropped, steps without `=` are left out.
pub fn chain_equations(chain: &str) -> Vec<String> {
    let chain = chain.split('#').next().unwrap_or("");
    chain
        .split(';')
        .map(|step| step.chars().filter(|c| !c.is_whitespace()).collect::<String>())
        .filter(|step| is_equation(step))
        .collect()
}

/// Equations in running text: in marked mathematics (`$…$`, `\(…\)`, `\[…\]`, `<<…>>`) and in plain words.
///
/// An equation is the longest run of numbers, operators, brackets, LaTeX commands and single-letter names around one
/// or more `=`. It is returned without white space, dollar signs and thousands separators; `×`, `\times`, `\cdot`, `·`
/// become `*`, `÷` and `\div` become `/`, `−` becomes `-`. An equation that GSM8K annotates (`<<3*4=12>>`) right after
/// writing it out counts once.
pub fn text_equations(text: &str) -> Vec<String> {
    let mut equations: Vec<String> = Vec::new();
    let mut run = String::new();
    // Inside an annotation; its equation is dropped when it repeats the written one.
    let mut annotated = false;
    let finish = |run: &mut String, equations: &mut Vec<String>, annotated: bool| {
        let equation = trimmed(run);
        if is_equation(equation)
            && !(annotated && equations.last().is_some_and(|last| same_sides(last, equation)))
        {
            equations.push(equation.to_string());
        }
        run.clear();
    };
    for token in (Tokens { text, at: 0 }) {
        match token {
            Token::Math(piece) => run.push_str(&piece),
            Token::Space => {}
            Token::Open => {
                // The run before an annotation goes on after it: "3*4=<<3*4=12>>12". It is cut at its open `=`.
                let written = trimmed(&run).to_string();
                run.clear();
                if is_equation(&written) {
                    equations.push(written);
                }
                annotated = true;
            }
            Token::Close => {
                finish(&mut run, &mut equations, annotated);
                annotated = false;
            }
            Token::Break => finish(&mut run, &mut equations, annotated),
        }
    }
    finish(&mut run, &mut equations, annotated);
    equations
}

/// Different equations divided by all equations of one question's samples; `None` when there is no equation.
pub fn question_diversity<S: AsRef<str>>(equations: &[S]) -> Option<f64> {
    let distinct: HashSet<&str> = equations.iter().map(AsRef::as_ref).collect();
    (!equations.is_empty()).then(|| distinct.len() as f64 / equations.len() as f64)
}

/// Mean of [`question_diversity`] over questions; every question is a list of all equations in all its samples.
///
/// Questions without any equation are left out, since they have no diversity to speak of.
///
/// # Errors
/// No question has an equation.
pub fn equation_diversity(questions: &[Vec<String>]) -> Result<f64, MeasureError> {
    let values: Vec<f64> = questions.iter().filter_map(|q| question_diversity(q)).collect();
    if values.is_empty() {
        return Err(MeasureError::empty(
            "equation diversity",
            "no sample holds an equation; check that the samples are chains of thought, not bare answers",
        ));
    }
    Ok(values.iter().sum::<f64>() / values.len() as f64)
}

/// Both sides of every `=` must hold something that can be a quantity.
fn is_equation(text: &str) -> bool {
    text.contains('=') && text.split('=').all(|side| side.chars().any(char::is_alphanumeric))
}

/// Cuts operators and brackets that the run caught at its ends, and an open last side.
fn trimmed(run: &str) -> &str {
    let run = run.trim_start_matches(['+', '*', '/', '=', '^', ')', '.', ',', '}', ']', '%']);
    run.trim_end_matches(['+', '-', '*', '/', '=', '^', '(', '.', ',', '{', '['])
}

/// Whether the second equation says what the first said, up to the spelling of the middle.
fn same_sides(left: &str, right: &str) -> bool {
    left == right || left.ends_with(right)
}

enum Token {
    Math(String),
    Space,
    Open,
    Close,
    Break,
}

struct Tokens<'a> {
    text: &'a str,
    at: usize,
}

impl Iterator for Tokens<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        let rest = &self.text[self.at..];
        let first = rest.chars().next()?;
        let (length, token) = read_token(rest, first);
        self.at += length;
        Some(token)
    }
}

/// Length in bytes and meaning of the token at the start of `rest`.
fn read_token(rest: &str, first: char) -> (usize, Token) {
    if rest.starts_with("<<") {
        return (2, Token::Open);
    }
    if rest.starts_with(">>") {
        return (2, Token::Close);
    }
    match first {
        '\n' => (1, Token::Break),
        '$' => (1, Token::Space),
        c if c.is_whitespace() => (c.len_utf8(), Token::Space),
        '0'..='9' | '.' => read_number(rest),
        '\\' => read_command(rest),
        '+' | '-' | '*' | '/' | '=' | '^' | '(' | ')' | '{' | '}' | '%' | '!' => {
            (1, Token::Math(first.to_string()))
        }
        '×' | '·' => (first.len_utf8(), Token::Math("*".to_string())),
        '÷' => (first.len_utf8(), Token::Math("/".to_string())),
        '−' => (first.len_utf8(), Token::Math("-".to_string())),
        c if c.is_alphabetic() => {
            let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let word = &rest[..length];
            // "x", "x_1", "n2" are names of quantities; "x" between numbers is a multiplication written as a letter,
            // which equal texts write alike; anything longer is a word.
            let letters = word.chars().filter(|c| c.is_alphabetic()).count();
            let name = letters == 1 && word.len() <= 4 && !matches!(word, "a" | "A" | "I");
            (length, if name { Token::Math(word.to_string()) } else { Token::Break })
        }
        c => (c.len_utf8(), Token::Break),
    }
}

/// A number with thousands separators dropped; a point that ends a sentence breaks the run.
fn read_number(rest: &str) -> (usize, Token) {
    let bytes = rest.as_bytes();
    let digit = |i: usize| bytes.get(i).is_some_and(u8::is_ascii_digit);
    let mut number = String::new();
    let mut i = 0;
    while i < bytes.len() {
        match bytes[i] {
            b @ b'0'..=b'9' => number.push(char::from(b)),
            b'.' if digit(i + 1) => number.push('.'),
            b',' if !number.is_empty() && digit(i + 1) && digit(i + 2) && digit(i + 3) && !digit(i + 4) => {}
            _ => break,
        }
        i += 1;
    }
    if i == 0 { (1, Token::Break) } else { (i, Token::Math(number)) }
}

/// A LaTeX command: multiplication and division as one sign, brackets of a formula as its ends, spacing as nothing.
fn read_command(rest: &str) -> (usize, Token) {
    let letters = rest[1..].find(|c: char| !c.is_ascii_alphabetic()).map_or(rest.len(), |i| i + 1);
    if letters == 1 {
        let sign = rest[1..].chars().next();
        let length = 1 + sign.map_or(0, char::len_utf8);
        return match sign {
            Some('(' | '[' | ')' | ']' | '\\') | None => (length, Token::Break),
            Some('$') => (length, Token::Space),
            Some('%') => (length, Token::Math("%".to_string())),
            Some(_) => (length, Token::Space),
        };
    }
    let command = &rest[..letters];
    let token = match command {
        "\\times" | "\\cdot" => Token::Math("*".to_string()),
        "\\div" => Token::Math("/".to_string()),
        "\\left" | "\\right" => Token::Space,
        "\\quad" | "\\qquad" | "\\text" | "\\boxed" | "\\implies" | "\\Rightarrow" => Token::Break,
        _ => Token::Math(command.to_string()),
    };
    (letters, token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn equations_of_a_chain() {
        assert_eq!(
            chain_equations("g=50;e=50-1=49; d = 49+81=130#130"),
            ["g=50", "e=50-1=49", "d=49+81=130"]
        );
        assert_eq!(chain_equations("#130"), Vec::<String>::new());
        assert_eq!(chain_equations("e=;=4;x"), Vec::<String>::new());
    }

    #[test]
    fn equations_of_running_text() {
        assert_eq!(
            text_equations("She sold 48 / 2 = 24 clips in May. Altogether 48 + 24 = 72 clips."),
            ["48/2=24", "48+24=72"]
        );
        assert_eq!(text_equations("She sold 48/2 = <<48/2=24>>24 clips."), ["48/2=24"]);
        assert_eq!(
            text_equations("So \\(x = 3 \\times 4 = 12\\) and $y=\\frac{1}{2}$."),
            ["x=3*4=12", "y=\\frac{1}{2}"]
        );
        assert_eq!(text_equations("It costs $1,200 + $34 = $1,234."), ["1200+34=1234"]);
        assert_eq!(text_equations("The total = what Ann has."), Vec::<String>::new());
        assert_eq!(text_equations("2 − 1 = 1\n3 × 5 = 15"), ["2-1=1", "3*5=15"]);
    }

    #[test]
    fn diversity_is_averaged_over_questions() {
        let q = |items: &[&str]| items.iter().map(ToString::to_string).collect::<Vec<_>>();
        // 2 of 4 and 3 of 3; the question without equations does not count.
        let questions = [q(&["a=1", "a=1", "b=2", "a=1"]), q(&["a=1", "b=2", "c=3"]), q(&[])];
        assert_eq!(equation_diversity(&questions).unwrap(), 0.75);
        assert!(equation_diversity(&[q(&[])]).unwrap_err().to_string().contains("hint: "));
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in ".*") {
            for equation in text_equations(&text).iter().chain(&chain_equations(&text)) {
                prop_assert!(is_equation(equation));
            }
        }

        #[test]
        fn formulas_are_read(text in "[0-9=+*/()<> .,$\\\\a-c-]{0,60}") {
            for equation in text_equations(&text) {
                prop_assert!(is_equation(&equation));
            }
        }

        #[test]
        fn written_equations_are_found(a in 0u32..10_000, b in 0u32..10_000) {
            let text = format!("First, {a} + {b} = {}.", a + b);
            prop_assert_eq!(text_equations(&text), [format!("{a}+{b}={}", a + b)]);
        }
    }
}
