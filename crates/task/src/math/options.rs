use elenchus_trace::PairRow;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Why an answer pair or a problem file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum MathError {
    /// A pair asks for something that does not exist.
    #[error("pair `{id}`: field `{field}` {problem}\nhint: {hint}")]
    Pair {
        /// The pair.
        id: String,
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
        /// What to do.
        hint: String,
    },
    /// A problem file cannot be opened or read.
    #[error(
        "cannot read `{file}`, line {line}: {source}\nhint: check the path and that the file is UTF-8 text, one JSON object a line"
    )]
    Read {
        /// The file.
        file: String,
        /// 1-based line; 0 when the file did not open.
        line: usize,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A line of a problem file is not what it must be.
    #[error("`{file}`, line {line}, field `{field}`: {problem}\nhint: {hint}")]
    Row {
        /// The file.
        file: String,
        /// 1-based line.
        line: usize,
        /// The field; `(line)` when the line as a whole is wrong.
        field: &'static str,
        /// What is wrong.
        problem: String,
        /// What to do.
        hint: String,
    },
}

/// A way to find an answer in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Extractor {
    /// LaTeX in `$…$`, `$$…$$`, `\(…\)`, `\[…\]`, `\boxed{…}`, or a bare `\frac{a}{b}`.
    Latex,
    /// Plain numbers and arithmetic such as `1,000.5`, `-3`, `28 %`, `(1+6)/3`.
    Expr,
    /// One of a few strings, such as the letter of an option.
    String,
}

/// How answers are found and compared. The defaults are those of HF Math-Verify.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Which extractors to use.
    pub extract: Vec<Extractor>,
    /// Where `\boxed{}` stands among the patterns: 0 first, 50 behind "final answer is", negative not at all.
    pub boxed_match_priority: i64,
    /// Decimal digits to which numbers are rounded before a decimal is compared.
    pub precision: u32,
    /// Whether the names of variables matter and an ordered tuple differs from a set.
    pub strict: bool,
    /// Whether a predicted relation may equal the gold set that it describes (a gold relation and a predicted set are
    /// always compared).
    pub allow_set_relation_comp: bool,
    /// What the string extractor looks for.
    pub strings: Vec<String>,
    /// Whether the string extractor gives its finding in lower case.
    pub lowercase: bool,
    /// Whether a text without any LaTeX environment is read as one LaTeX expression before the extractors are tried.
    pub bare: bool,
    /// Whether `2e-3` is 0.002. Math-Verify reads a small `e` as Euler's number (`2E-3` is 0.002 there too), so this is
    /// off by default; the task over problem files turns it on.
    pub scientific: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            extract: vec![Extractor::Latex, Extractor::Expr],
            boxed_match_priority: 50,
            precision: 6,
            strict: true,
            allow_set_relation_comp: false,
            strings: ["A", "B", "C", "D"].map(String::from).to_vec(),
            lowercase: true,
            bare: true,
            scientific: false,
        }
    }
}

impl Options {
    /// The options of a line of `pairs.jsonl`. A row that names extractors gets exactly those; a row that names none is
    /// a bare answer or a response, whichever it looks like.
    pub fn from_row(row: &PairRow) -> Result<Options, MathError> {
        let mut options = Options::default();
        if let Some(names) = &row.extract {
            options.bare = false;
            options.extract = names
                .iter()
                .map(|name| match name.as_str() {
                    "latex" => Ok(Extractor::Latex),
                    "expr" => Ok(Extractor::Expr),
                    "string" => Ok(Extractor::String),
                    other => Err(MathError::Pair {
                        id: row.id.clone(),
                        field: "extract",
                        problem: format!("names the extractor `{other}`, which does not exist"),
                        hint: "use `latex`, `expr` and `string`".into(),
                    }),
                })
                .collect::<Result<_, _>>()?;
        }
        if let Some(priority) = row.boxed_match_priority {
            options.boxed_match_priority = priority;
        }
        if let Some(precision) = row.precision {
            if precision > MAX_PRECISION_DIGITS {
                return Err(MathError::Pair {
                    id: row.id.clone(),
                    field: "precision",
                    problem: format!("is {precision} digits"),
                    hint: format!("use 0 to {MAX_PRECISION_DIGITS}"),
                });
            }
            options.precision = precision;
        }
        if let Some(strict) = row.strict {
            options.strict = strict;
        }
        if let Some(allow) = row.allow_set_relation_comp {
            options.allow_set_relation_comp = allow;
        }
        Ok(options)
    }
}

/// Most decimal digits a pair may ask for.
pub const MAX_PRECISION_DIGITS: u32 = 100;

/// What was found out about two answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    /// They mean the same.
    Equivalent,
    /// They do not.
    Different,
    /// It cannot be told: no answer was found, or the comparison ran into a limit.
    Undecided,
}

/// The verdict on a pair of answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Equivalence {
    /// What was found out.
    pub relation: Relation,
    /// Why, in words.
    pub reason: Cow<'static, str>,
}

impl Equivalence {
    /// `true`, `false`, or `None` for undecided.
    pub fn verdict(&self) -> Option<bool> {
        match self.relation {
            Relation::Equivalent => Some(true),
            Relation::Different => Some(false),
            Relation::Undecided => None,
        }
    }
}
