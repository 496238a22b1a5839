//! What a program does on the inputs that its question shows and on variations of them: what a vote groups programs by.
//!
//! Two programs that compute the same in different words are one answer. No reference answer and no hidden test takes
//! part: the inputs are the calls in the visible tests and in the examples of the prompt (`>>> f(1)`), each also with its
//! whole numbers changed. CodeT (arXiv 2207.10397) groups programs by the tests they pass; this groups them by what they
//! return.

use super::interpreter::Interpreter;
use super::outcome::RunReport;
use super::rows::ProgramData;
use super::suite::{Suite, parse};
use crate::TaskError;
use ruff_python_ast::visitor::{self, Visitor};
use ruff_python_ast::{Expr, Number};
use ruff_text_size::{Ranged, TextRange};

/// Most calls of a question that are tried.
const MOST_CALLS: usize = 8;

/// Calls all thunks and leaves two checksums of what came back, and how many calls raised, where the script looks for
/// the last value of the program; a set and a dictionary have no order. The second parameter is that place.
const PROBE: &str = "
def elenchus_probe(thunks, elenchus_last):
    whole = ''
    raised = 0
    for thunk in thunks:
        try:
            value = thunk()
            if isinstance(value, (set, frozenset)):
                value = sorted([repr(item) for item in value])
            elif isinstance(value, dict):
                value = sorted([repr(item) for item in value.items()])
            whole = whole + repr(value) + ';'
        except Exception as error:
            raised = raised + 1
            whole = whole + 'raised ' + type(error).__name__ + ';'
    first = 7
    second = 11
    for letter in whole:
        first = (first * 1000003 + ord(letter)) % 2147483647
        second = (second * 69069 + ord(letter)) % 2147483629
    elenchus_last.clear()
    elenchus_last.append([first, second, raised])
    return False
";

/// The behaviour of a program: equal for programs that return the same for every input. `None` where the question shows
/// no call, and for a program that returns nothing (it is no program, every call raises, the limits end it).
///
/// # Errors
/// The machinery failed.
pub(super) fn behaviour(
    interpreter: &dyn Interpreter,
    problem: &str,
    data: &ProgramData,
    program: &str,
) -> Result<Option<String>, TaskError> {
    let shown = calls(data);
    if shown.is_empty() {
        return Ok(None);
    }
    let Some(mut found) = returned(interpreter, problem, data, program, &shown)? else { return Ok(None) };
    let changed: Vec<String> = shown.iter().flat_map(|call| variations(call)).collect();
    if !changed.is_empty() {
        // A run of its own: a variation may be out of reach (a large factorial) where the shown call is not.
        let more = returned(interpreter, problem, data, program, &changed)?;
        found.push('|');
        found.push_str(more.as_deref().unwrap_or("nothing"));
    }
    Ok(Some(found))
}

fn returned(
    interpreter: &dyn Interpreter,
    problem: &str,
    data: &ProgramData,
    program: &str,
    calls: &[String],
) -> Result<Option<String>, TaskError> {
    let thunks: Vec<String> = calls.iter().map(|call| format!("lambda: {call}")).collect();
    let test = format!("assert elenchus_probe([{}], elenchus_last)", thunks.join(", "));
    let setup = format!("{}\n{}\n{PROBE}", data.prompt, data.setup);
    let suite = Suite::new(problem, &setup, &test, &data.entry)?;
    let said = returned_by(&interpreter.probe(problem, program, &suite)?);
    Ok(said.filter(|(_, raised)| *raised < calls.len()).map(|(sums, _)| sums))
}

/// The checksums that a run left, and how many calls raised; `None` when it did not come so far.
pub(super) fn returned_by(report: &RunReport) -> Option<(String, usize)> {
    let inside = report.returned()?.strip_prefix('[')?.split_once(']')?.0;
    let (sums, raised) = inside.rsplit_once(", ")?;
    Some((sums.to_string(), raised.parse().ok()?))
}

/// The calls of the function under test that a question shows, as they are written; only those that name nothing else.
fn calls(data: &ProgramData) -> Vec<String> {
    let examples = data.prompt.lines().filter_map(|line| line.trim().strip_prefix(">>> "));
    let texts = std::iter::once(data.visible.as_str()).chain(examples);
    let mut found: Vec<String> = Vec::new();
    for text in texts {
        let Ok(statements) = parse(text) else { continue };
        let mut calls = Calls { entry: &data.entry, places: Vec::new() };
        statements.iter().for_each(|statement| calls.visit_stmt(statement));
        for place in calls.places {
            let call = slice(text, place).to_string();
            if found.len() < MOST_CALLS && !found.contains(&call) {
                found.push(call);
            }
        }
    }
    found
}

fn slice(text: &str, range: TextRange) -> &str {
    &text[range.start().to_usize()..range.end().to_usize()]
}

struct Calls<'n> {
    entry: &'n str,
    places: Vec<TextRange>,
}

impl<'a> Visitor<'a> for Calls<'_> {
    fn visit_expr(&mut self, expression: &'a Expr) {
        if let Expr::Call(call) = expression
            && matches!(&*call.func, Expr::Name(name) if name.id.as_str() == self.entry)
        {
            let mut names = Named(false);
            call.arguments.args.iter().for_each(|argument| names.visit_expr(argument));
            call.arguments.keywords.iter().for_each(|keyword| names.visit_expr(&keyword.value));
            if !names.0 {
                self.places.push(call.range());
            }
        }
        visitor::walk_expr(self, expression);
    }
}

/// Whether an expression uses any name.
struct Named(bool);

impl<'a> Visitor<'a> for Named {
    fn visit_expr(&mut self, expression: &'a Expr) {
        self.0 |= matches!(expression, Expr::Name(_));
        visitor::walk_expr(self, expression);
    }
}

/// The whole numbers of an expression, where they stand.
#[derive(Default)]
struct Numbers {
    found: Vec<(TextRange, u64)>,
}

impl<'a> Visitor<'a> for Numbers {
    fn visit_expr(&mut self, expression: &'a Expr) {
        if let Expr::NumberLiteral(literal) = expression
            && let Number::Int(value) = &literal.value
            && let Some(value) = value.as_u64()
        {
            self.found.push((literal.range(), value));
        }
        visitor::walk_expr(self, expression);
    }
}

/// A call with other whole numbers: each one larger, each twice as large, and the same ones in turned order. The kinds
/// of the arguments stay what they were. None where the call has no number.
fn variations(call: &str) -> Vec<String> {
    let Ok(statements) = parse(call) else { return Vec::new() };
    let mut numbers = Numbers::default();
    statements.iter().for_each(|statement| numbers.visit_stmt(statement));
    let found = numbers.found;
    if found.is_empty() {
        return Vec::new();
    }
    let with = |value: &dyn Fn(usize) -> u64| {
        let (mut text, mut written) = (String::with_capacity(call.len() + 8), 0);
        for (index, (range, _)) in found.iter().enumerate() {
            text.push_str(&call[written..range.start().to_usize()]);
            text.push_str(&value(index).to_string());
            written = range.end().to_usize();
        }
        text.push_str(&call[written..]);
        text
    };
    let mut all = vec![
        with(&|index| found[index].1.saturating_add(1)),
        with(&|index| found[index].1.saturating_mul(2)),
        with(&|index| found[found.len() - 1 - index].1),
    ];
    all.retain(|other| other != call);
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::super::outcome::ProgramOutcome;
    use super::*;
    use crate::program::Engine;

    fn data(visible: &str, prompt: &str) -> ProgramData {
        ProgramData {
            entry: "f".into(),
            prompt: prompt.into(),
            visible: visible.into(),
            hidden: String::new(),
            setup: String::new(),
            reference: String::new(),
        }
    }

    #[test]
    fn the_calls_that_a_question_shows() {
        let shown =
            "assert f([1, 2]) == 3\nassert f([]) == f([0])\nassert f([1, 2]) == 3\nx = 4\nassert f(x) == 5";
        assert_eq!(calls(&data(shown, "")), ["f([1, 2])", "f([])", "f([0])"], "a name cannot be followed");
        let prompt = "def f(text, n=1):\n    \"\"\" Repeats.\n    >>> f('ab', n=2)\n    'abab'\n    \"\"\"\n";
        assert_eq!(calls(&data("", prompt)), ["f('ab', n=2)"]);
        assert!(calls(&data("assert g(1) == 2", "")).is_empty());
    }

    #[test]
    fn variations_change_whole_numbers_and_nothing_else() {
        assert_eq!(
            variations("f([1, -2], 'a1', 0.5)"),
            ["f([2, -3], 'a1', 0.5)", "f([2, -4], 'a1', 0.5)", "f([2, -1], 'a1', 0.5)"]
        );
        assert_eq!(variations("f(0)"), ["f(1)"], "twice 0 and its turned order are the call itself");
        assert!(variations("f('a')").is_empty() && variations("f(").is_empty());
    }

    #[test]
    fn the_checksums_are_read_out_of_a_report() {
        let report = |outcome| RunReport { outcome, tests: vec![false], engine: Engine::Embedded };
        let told = ProgramOutcome::WrongAnswer("the program returned [12, 34, 1]".into());
        assert_eq!(returned_by(&report(told)), Some(("12, 34".to_string(), 1)));
        assert_eq!(returned_by(&report(ProgramOutcome::Time)), None);
        assert_eq!(returned_by(&report(ProgramOutcome::WrongAnswer("the program returned 5".into()))), None);
    }
}
