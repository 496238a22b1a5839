//! Tests of a program, prepared so that they run in another interpreter than the program.
//!
//! The program under test is hostile until shown otherwise: it may redefine `==`, end the process with success, or print
//! what a test would print. So the tests never share an interpreter with it. They run as a script of their own in which
//! each name of the program is a stand-in that hands its arguments over and gets a plain value (numbers, texts, lists,
//! tuples, sets, dictionaries) or an exception back; only the script says what passed.

use crate::TaskError;
use ruff_python_ast::visitor::{self, Visitor};
use ruff_python_ast::{Alias, ExceptHandler, Expr, ExprContext, Parameter, Stmt};
use ruff_text_size::{Ranged, TextRange};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Hands a call over to the program; the interpreter that runs the script provides it.
pub(super) const CALL: &str = "elenchus_call";
/// Reports the result of a test; the interpreter that runs the script provides it.
pub(super) const REPORT: &str = "elenchus_report";

/// In front of every script. `elenchus_last` holds the last value that the program returned, for the explanation.
const PREAMBLE: &str = "\
elenchus_last = []
def elenchus_test(index, thunk):
    try:
        right = bool(thunk())
    except Exception as error:
        elenchus_report(index, 'raised', type(error).__name__ + ': ' + str(error))
    else:
        if right:
            elenchus_report(index, 'passed', '')
        elif elenchus_last:
            elenchus_report(index, 'failed', 'the program returned ' + repr(elenchus_last[-1])[:200])
        else:
            elenchus_report(index, 'failed', '')
";

/// The tests of a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suite {
    /// The whole script.
    pub(super) script: String,
    /// The text of every test: the assertions in the order of the source.
    pub tests: Vec<String>,
}

impl Suite {
    /// The tests of a Python text: every `assert` in it, wherever it stands.
    ///
    /// `setup` is trusted code that runs before the tests (its functions that consist of a docstring only are left
    /// out). Every name that neither tests nor setup nor Python define is one of the program. `entry` is the function
    /// under test; when the tests define `check`, it is called with it.
    ///
    /// # Errors
    /// Setup or tests are no Python, or hold no assertion.
    pub fn new(problem: &str, setup: &str, tests: &str, entry: &str) -> Result<Self, TaskError> {
        let wrong = |what: String| TaskError::Problem {
            id: problem.to_string(),
            problem: what,
            hint:
                "tests are Python statements with `assert`, or a function `check(candidate)` that holds them"
                    .to_string(),
        };
        let setup =
            definitions(setup, entry).map_err(|error| wrong(format!("the setup is no Python: {error}")))?;
        let parsed = parse(tests).map_err(|error| wrong(format!("the tests are no Python: {error}")))?;
        let mut names = Names::default();
        let mut found = Assertions::default();
        for statement in &parsed {
            names.visit_stmt(statement);
            found.visit_stmt(statement);
        }
        if found.places.is_empty() {
            return Err(wrong("the tests hold no `assert`".to_string()));
        }
        // Setup may call the program too, for example `def double_entry(x): return entry(entry(x))`.
        let prepared = parse(&setup).map_err(|error| wrong(format!("the setup is no Python: {error}")))?;
        for statement in &prepared {
            names.visit_stmt(statement);
        }
        let check = parsed.iter().find_map(|statement| match statement {
            Stmt::FunctionDef(function) if function.name.as_str() == "check" => {
                Some((function.name.range(), function.range()))
            }
            _ => None,
        });
        let mut checks = Uses { name: "check", places: Vec::new() };
        parsed.iter().for_each(|statement| checks.visit_stmt(statement));
        if let Some((_, whole)) = check
            && checks.places.iter().any(|place| whole.contains_range(*place))
        {
            // Inside of the function `check` of the tests, `check` is a function of the program.
            names.bound.remove("check");
        }
        let mut foreign: BTreeSet<&str> = names.used.difference(&names.bound).map(String::as_str).collect();
        foreign.retain(|name| !BUILTINS.contains(name));
        foreign.insert(entry);
        let mut script = String::from(PREAMBLE);
        for name in foreign {
            if MODULES.contains(&name) && name != entry {
                script.push_str(&format!("import {name}\n"));
                continue;
            }
            script.push_str(&format!(
                "def {name}(*arguments, **named):\n    value = {CALL}('{name}', arguments, named)\n    \
                 elenchus_last.clear()\n    elenchus_last.append(value)\n    return value\n"
            ));
        }
        script.push_str(&setup);
        script.push('\n');
        let slice = |range: TextRange| &tests[range.start().to_usize()..range.end().to_usize()];
        let texts: Vec<String> = found.places.iter().map(|(_, test)| slice(*test).to_string()).collect();
        let mut changes: Vec<(TextRange, String)> = found
            .places
            .iter()
            .zip(&texts)
            .enumerate()
            .map(|(index, ((whole, _), text))| {
                (*whole, format!("elenchus_test({index}, lambda: (\n{text}\n))"))
            })
            .collect();
        // So it gets another name, also where the tests call it themselves.
        let mut called = false;
        if let Some((name, whole)) = check {
            changes.push((name, "elenchus_check".to_string()));
            for place in checks.places.iter().filter(|place| !whole.contains_range(**place)) {
                called = true;
                changes.push((*place, "elenchus_check".to_string()));
            }
        }
        changes.sort_by_key(|(range, _)| range.start());
        let mut written = 0;
        for (range, text) in changes {
            script.push_str(&tests[written..range.start().to_usize()]);
            script.push_str(&text);
            written = range.end().to_usize();
        }
        script.push_str(&tests[written..]);
        script.push('\n');
        if check.is_some() && !called {
            script.push_str(&format!("elenchus_check({entry})\n"));
        }
        Ok(Suite { script, tests: texts })
    }
}

/// The top-level statements of a text without the function under test and without functions that are only declared (a
/// docstring, `pass` or `...`): imports and helpers.
///
/// # Errors
/// The text is no Python.
pub(super) fn definitions(text: &str, entry: &str) -> Result<String, String> {
    let mut kept = String::new();
    for statement in &parse(text)? {
        let declared = match statement {
            Stmt::FunctionDef(function) => {
                function.name.as_str() == entry
                    || function.body.iter().all(|line| match line {
                        Stmt::Pass(_) => true,
                        Stmt::Expr(line) => {
                            matches!(&*line.value, Expr::StringLiteral(_) | Expr::EllipsisLiteral(_))
                        }
                        _ => false,
                    })
            }
            _ => false,
        };
        if !declared {
            let range = statement.range();
            kept.push_str(&text[range.start().to_usize()..range.end().to_usize()]);
            kept.push('\n');
        }
    }
    Ok(kept)
}

/// A prompt with a solution that continues it. Where the two do not fit together (some sets indent their solutions
/// otherwise than their docstrings), the solution takes the place of the body of the prompt's last function.
pub(super) fn joined(prompt: &str, solution: &str) -> String {
    let whole = format!("{prompt}{solution}");
    if parse(&whole).is_ok() {
        return whole;
    }
    let Ok(statements) = parse(prompt) else { return whole };
    let Some(Stmt::FunctionDef(function)) = statements.last() else { return whole };
    let Some(body) = function.body.first() else { return whole };
    let start = prompt[..body.range().start().to_usize()].rfind('\n').map_or(0, |place| place + 1);
    format!("{}{solution}", &prompt[..start])
}

pub(super) fn parse(text: &str) -> Result<ruff_python_ast::Suite, String> {
    match ruff_python_parser::parse_module(text) {
        Ok(parsed) => Ok(parsed.into_suite()),
        Err(error) => Err(error.to_string()),
    }
}

/// Names that a text uses and binds, without regard to scopes.
#[derive(Default)]
struct Names {
    used: BTreeSet<String>,
    bound: BTreeSet<String>,
}

impl<'a> Visitor<'a> for Names {
    fn visit_stmt(&mut self, statement: &'a Stmt) {
        match statement {
            Stmt::FunctionDef(function) => {
                self.bound.insert(function.name.to_string());
            }
            Stmt::ClassDef(class) => {
                self.bound.insert(class.name.to_string());
            }
            _ => {}
        }
        visitor::walk_stmt(self, statement);
    }

    fn visit_expr(&mut self, expression: &'a Expr) {
        if let Expr::Name(name) = expression {
            match name.ctx {
                ExprContext::Load => self.used.insert(name.id.to_string()),
                _ => self.bound.insert(name.id.to_string()),
            };
        }
        visitor::walk_expr(self, expression);
    }

    fn visit_parameter(&mut self, parameter: &'a Parameter) {
        self.bound.insert(parameter.name.to_string());
        visitor::walk_parameter(self, parameter);
    }

    fn visit_alias(&mut self, alias: &'a Alias) {
        let name = match &alias.asname {
            Some(name) => name.as_str(),
            None => alias.name.as_str().split('.').next().unwrap_or_default(),
        };
        self.bound.insert(name.to_string());
    }

    fn visit_except_handler(&mut self, handler: &'a ExceptHandler) {
        let ExceptHandler::ExceptHandler(inner) = handler;
        if let Some(name) = &inner.name {
            self.bound.insert(name.to_string());
        }
        visitor::walk_except_handler(self, handler);
    }
}

/// Where a name is used.
struct Uses<'n> {
    name: &'n str,
    places: Vec<TextRange>,
}

impl<'a> Visitor<'a> for Uses<'_> {
    fn visit_expr(&mut self, expression: &'a Expr) {
        if let Expr::Name(name) = expression
            && name.id.as_str() == self.name
        {
            self.places.push(name.range());
        }
        visitor::walk_expr(self, expression);
    }
}

/// Where the assertions stand: the whole statement and its condition. `assert True` tests nothing and is left alone.
#[derive(Default)]
struct Assertions {
    places: Vec<(TextRange, TextRange)>,
}

impl<'a> Visitor<'a> for Assertions {
    fn visit_stmt(&mut self, statement: &'a Stmt) {
        if let Stmt::Assert(assertion) = statement {
            if !matches!(&*assertion.test, Expr::BooleanLiteral(literal) if literal.value) {
                self.places.push((assertion.range(), assertion.test.range()));
            }
            return;
        }
        visitor::walk_stmt(self, statement);
    }
}

/// Modules that published tests use without importing them.
const MODULES: &[&str] = &["cmath", "collections", "itertools", "math", "re"];

/// Names that are Python's own. Others count as the program's.
const BUILTINS: &[&str] = &[
    "ArithmeticError",
    "AssertionError",
    "AttributeError",
    "BaseException",
    "Exception",
    "False",
    "FileNotFoundError",
    "IndexError",
    "KeyError",
    "LookupError",
    "NameError",
    "None",
    "NotImplemented",
    "NotImplementedError",
    "OSError",
    "OverflowError",
    "RecursionError",
    "RuntimeError",
    "StopIteration",
    "SyntaxError",
    "True",
    "TypeError",
    "UnicodeError",
    "ValueError",
    "ZeroDivisionError",
    "abs",
    "all",
    "any",
    "ascii",
    "bin",
    "bool",
    "bytearray",
    "bytes",
    "callable",
    "chr",
    "classmethod",
    "complex",
    "delattr",
    "dict",
    "dir",
    "divmod",
    "enumerate",
    "eval",
    "exec",
    "filter",
    "float",
    "format",
    "frozenset",
    "getattr",
    "globals",
    "hasattr",
    "hash",
    "hex",
    "id",
    "input",
    "int",
    "isinstance",
    "issubclass",
    "iter",
    "len",
    "list",
    "locals",
    "map",
    "max",
    "memoryview",
    "min",
    "next",
    "object",
    "oct",
    "open",
    "ord",
    "pow",
    "print",
    "property",
    "range",
    "repr",
    "reversed",
    "round",
    "set",
    "setattr",
    "slice",
    "sorted",
    "staticmethod",
    "str",
    "sum",
    "super",
    "tuple",
    "type",
    "vars",
    "zip",
    "__name__",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assertions_become_reports_and_foreign_names_stand_ins() {
        let suite = Suite::new(
            "p",
            "import math\ndef helper(x):\n    return x + 1\ndef entry(x):\n    \"\"\"Says.\"\"\"\n",
            "def check(candidate):\n    for i in range(3):\n        assert candidate(i) == helper(i), 'why'\n    \
             assert True, 'nothing'\n    assert other([\n        1, # one\n    ]) == 2 # two\n",
            "entry",
        )
        .unwrap();
        assert_eq!(suite.tests, ["candidate(i) == helper(i)", "other([\n        1, # one\n    ]) == 2"]);
        assert!(
            suite.script.contains("def entry(*arguments") && suite.script.contains("def other(*arguments")
        );
        assert!(!suite.script.contains("def helper(*") && !suite.script.contains("def candidate(*"));
        assert!(!suite.script.contains("Says.") && suite.script.ends_with("elenchus_check(entry)\n"));
        parse(&suite.script).unwrap();
    }

    #[test]
    fn names_of_published_sets_are_understood() {
        // A function under test that is called like the function of its tests; a module that nobody imports.
        let tests = "def check(candidate):\n    assert math.isclose(check(7), 0.5)\n";
        let script = Suite::new("p", "", tests, "check").unwrap().script;
        assert!(script.contains("def check(*arguments") && script.contains("def elenchus_check(candidate)"));
        assert!(script.contains("import math\n") && script.ends_with("elenchus_check(check)\n"), "{script}");
        let own = Suite::new("p", "", "def check(c):\n    assert c(1)\ncheck(f)\n", "f").unwrap().script;
        assert!(own.ends_with("elenchus_check(f)\n\n") && !own.contains("def check("), "{own}");
        // A declared function whose body is more than a docstring.
        let setup = "def f(x):\n    import math\n    \"\"\"Says.\"\"\"\n";
        assert!(!Suite::new("p", setup, "assert f(1)", "f").unwrap().script.contains("Says."));
        assert_eq!(joined("def f(x):\n    'a'\n", "    return 1\n"), "def f(x):\n    'a'\n    return 1\n");
        assert_eq!(
            joined("import re\ndef f(x):\n    'a'\n", "  return 1\n"),
            "import re\ndef f(x):\n  return 1\n"
        );
    }

    #[test]
    fn what_is_no_test_is_refused() {
        for (setup, tests, what) in [
            ("", "f(1) == 2", "no `assert`"),
            ("", "assert f(1 == 2", "tests are no Python"),
            ("def", "assert f(1) == 2", "setup is no Python"),
        ] {
            let error = Suite::new("p7", setup, tests, "f").unwrap_err().to_string();
            assert!(error.contains(what) && error.contains("`p7`") && error.contains("hint: "), "{error}");
        }
        // Deep nesting is an error of the parser, not the end of the process.
        let deep = format!("assert {}1{}", "(".repeat(100_000), ")".repeat(100_000));
        assert!(Suite::new("p", "", &deep, "f").is_err());
    }
}
