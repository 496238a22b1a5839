//! Recorded outputs of real models, turned into our formats. One file per format of a source.
//!
//! Knows: what the published files of others look like, and which of our formats says the same. Does not know: how
//! anything is chosen or measured from them.
//!
//! An importer is a row of [`IMPORTERS`]; `elenchus import` lists them. It makes no number up: what a source does not
//! record stays absent, and where one of our fields can only stand for something narrower than its name, the file of
//! the importer says so.

mod alpaca_eval;
mod autoj;
mod codet;
mod cotuq;
mod mint;
mod mr_gsm8k;
mod processbench;
mod qwen_math_rm;
mod realcritic;
mod realmistake;
mod verify_cot;

use super::jsonl::{BadLine, JsonlOptions, JsonlReader, MOST_DETAILS};
use super::{VerdictRow, write_rows};
use crate::error::{RememberError, Result};
use elenchus_trace::{JudgementRow, PairRow, SampleRow, nearest};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// One of our formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// `samples.jsonl`, for `select`.
    Samples,
    /// `judgements.jsonl`, for `measure`.
    Judgements,
    /// `pairs.jsonl`, for `verify`.
    Pairs,
    /// `verdicts.jsonl`, for `measure --judge`.
    Verdicts,
}

impl Format {
    /// Its name in `docs/formats.md`.
    pub fn name(self) -> &'static str {
        match self {
            Format::Samples => "samples.jsonl",
            Format::Judgements => "judgements.jsonl",
            Format::Pairs => "pairs.jsonl",
            Format::Verdicts => "verdicts.jsonl",
        }
    }
}

/// How one kind of file is turned into one of our formats.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Importer {
    /// Its name on the command line.
    pub name: &'static str,
    /// Whose file, and what it holds.
    pub reads: &'static str,
    /// What comes out.
    pub writes: Format,
    /// What a row of the outcome means.
    pub summary: &'static str,
    /// The numbers of the source among which one is chosen with `--field`, the default first; empty when there is no
    /// choice.
    pub fields: &'static [&'static str],
    /// What the second file (`--with`) is, for importers that need one.
    pub companion: Option<&'static str>,
    #[serde(skip)]
    run: fn(&Source<'_>) -> Result<Imported>,
}

/// All importers.
pub const IMPORTERS: &[Importer] = &[
    cotuq::SAMPLES,
    cotuq::JUDGEMENTS,
    qwen_math_rm::SAMPLES,
    codet::SAMPLES,
    realmistake::SAMPLES,
    alpaca_eval::SAMPLES,
    alpaca_eval::VERDICTS,
    autoj::SAMPLES,
    autoj::VERDICTS,
    processbench::JUDGEMENTS,
    mr_gsm8k::STEPS,
    mr_gsm8k::REASONS,
    realcritic::SAMPLES,
    mint::SAMPLES,
    verify_cot::SAMPLES,
    verify_cot::CHAINS,
];

/// The importer of this name (`_` and `-` are the same).
///
/// # Errors
/// [`RememberError::Import`] with the nearest names.
pub fn importer(name: &str) -> Result<&'static Importer> {
    let wanted = name.replace('_', "-");
    IMPORTERS.iter().find(|known| known.name == wanted).ok_or_else(|| RememberError::Import {
        problem: format!("there is no importer `{name}`"),
        hint: format!("{}; `elenchus import` lists them", nearest(name, IMPORTERS.iter().map(|i| i.name))),
    })
}

/// How to import.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportSettings {
    /// One of [`Importer::fields`]; absent, the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The second file, for importers with a [`Importer::companion`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub with: Option<PathBuf>,
    /// Leave broken lines out and count them, instead of failing at the first.
    #[serde(default)]
    pub skip_bad_lines: bool,
}

/// Rows in one of our formats.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Rows {
    /// For `select`.
    Samples(Vec<SampleRow>),
    /// For `measure`.
    Judgements(Vec<JudgementRow>),
    /// For `verify`.
    Pairs(Vec<PairRow>),
    /// For `measure --judge`.
    Verdicts(Vec<VerdictRow>),
}

impl Rows {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Rows::Samples(rows) => rows.len(),
            Rows::Judgements(rows) => rows.len(),
            Rows::Pairs(rows) => rows.len(),
            Rows::Verdicts(rows) => rows.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes them as [`write_rows`] does.
    ///
    /// # Errors
    /// As [`write_rows`].
    pub fn write(&self, path: &Path) -> Result<()> {
        match self {
            Rows::Samples(rows) => write_rows(path, rows),
            Rows::Judgements(rows) => write_rows(path, rows),
            Rows::Pairs(rows) => write_rows(path, rows),
            Rows::Verdicts(rows) => write_rows(path, rows),
        }
    }

    /// Hands each row over as one line of JSON, until `take` fails.
    ///
    /// # Errors
    /// Those of `take`; [`RememberError::Row`], turned into its error, for a row that JSON cannot hold.
    pub fn each_line<E: From<RememberError>>(
        &self,
        mut take: impl FnMut(&str) -> Result<(), E>,
    ) -> Result<(), E> {
        fn lines<T: Serialize, E: From<RememberError>>(
            rows: &[T],
            take: &mut impl FnMut(&str) -> Result<(), E>,
        ) -> Result<(), E> {
            for (row, item) in rows.iter().enumerate() {
                let text = serde_json::to_string(item).map_err(|error| RememberError::Row {
                    row,
                    reason: error.to_string(),
                    hint: "every number of a row must be finite",
                })?;
                take(&text)?;
            }
            Ok(())
        }
        match self {
            Rows::Samples(rows) => lines(rows, &mut take),
            Rows::Judgements(rows) => lines(rows, &mut take),
            Rows::Pairs(rows) => lines(rows, &mut take),
            Rows::Verdicts(rows) => lines(rows, &mut take),
        }
    }
}

/// What came of an import.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// The rows, in the order of the source.
    pub rows: Rows,
    /// How many lines of the source could not be read and were left out; zero unless skipping was asked for.
    pub skipped_count: usize,
    /// Which, up to the first thousand.
    pub skipped: Vec<BadLine>,
    /// What else was left out of good lines, in words with counts.
    pub notes: Vec<String>,
}

impl Importer {
    /// Reads a file of the source (JSON Lines, plain or gzip).
    ///
    /// # Errors
    /// [`RememberError::Import`] for a setting that this importer does not have or lacks; [`RememberError::BadLine`]
    /// with file, line and field for a row that is not as the source documents it (unless skipped); the errors of
    /// [`super::read_jsonl`].
    pub fn import(&self, path: &Path, settings: &ImportSettings) -> Result<Imported> {
        let fields = || format!("`{}`", self.fields.join("`, `"));
        let field = match (&settings.field, self.fields.first()) {
            (None, first) => first.copied().unwrap_or_default(),
            (Some(_), None) => {
                return Err(RememberError::Import {
                    problem: format!("`{}` has no choice of `--field`", self.name),
                    hint: "leave it out".into(),
                });
            }
            (Some(wanted), Some(_)) => {
                self.fields.iter().find(|known| *known == wanted).ok_or_else(|| RememberError::Import {
                    problem: format!("`{}` has no field `{wanted}`", self.name),
                    hint: format!("take one of {}", fields()),
                })?
            }
        };
        match (self.companion, &settings.with) {
            (Some(companion), None) => Err(RememberError::Import {
                problem: format!("`{}` needs a second file: {companion}", self.name),
                hint: "name it with `--with FILE`".into(),
            }),
            (None, Some(_)) => Err(RememberError::Import {
                problem: format!("`{}` reads one file only", self.name),
                hint: "leave `--with` out".into(),
            }),
            (_, with) => (self.run)(&Source {
                path,
                field,
                with: with.as_deref(),
                skip_bad_lines: settings.skip_bad_lines,
            }),
        }
    }
}

/// What an importer is given: settings that are already checked.
struct Source<'a> {
    path: &'a Path,
    field: &'a str,
    with: Option<&'a Path>,
    skip_bad_lines: bool,
}

/// Why a line that is well-formed is refused all the same.
struct Refused {
    field: String,
    problem: String,
}

fn refused<T>(field: impl Into<String>, problem: impl Into<String>) -> Result<T, Refused> {
    Err(Refused { field: field.into(), problem: problem.into() })
}

/// The rows that were made, and the lines of which none was.
struct Made<T> {
    rows: Vec<T>,
    skipped_count: usize,
    skipped: Vec<BadLine>,
}

impl<T> Made<T> {
    fn imported(self, rows: impl FnOnce(Vec<T>) -> Rows) -> Imported {
        Imported {
            rows: rows(self.rows),
            skipped_count: self.skipped_count,
            skipped: self.skipped,
            notes: Vec::new(),
        }
    }
}

impl Source<'_> {
    /// Makes one value of each line of the file.
    fn each<R: DeserializeOwned, T>(
        &self,
        make: impl FnMut(u64, R) -> Result<T, Refused>,
    ) -> Result<Made<T>> {
        self.each_of(self.path, make)
    }

    /// Makes one value of each line of the second file.
    fn each_with<R: DeserializeOwned, T>(
        &self,
        make: impl FnMut(u64, R) -> Result<T, Refused>,
    ) -> Result<Made<T>> {
        self.each_of(self.with.unwrap_or(self.path), make)
    }

    fn each_of<R: DeserializeOwned, T>(
        &self,
        path: &Path,
        mut make: impl FnMut(u64, R) -> Result<T, Refused>,
    ) -> Result<Made<T>> {
        let options = JsonlOptions { skip_bad_lines: self.skip_bad_lines, ..JsonlOptions::default() };
        let mut reader = JsonlReader::<R>::open(path, &options)?;
        let (mut rows, mut refusals) = (Vec::new(), Vec::new());
        for item in reader.by_ref() {
            let (line, row) = item?;
            match make(line, row) {
                Ok(made) => rows.push(made),
                Err(Refused { field, problem }) => {
                    let bad = BadLine { line, column: None, field: Some(field), problem };
                    if !self.skip_bad_lines {
                        let hint = "is this the file of this importer? `elenchus import` says what each reads; `--skip-bad-lines` leaves broken lines out";
                        return Err(RememberError::BadLine { path: path.to_path_buf(), line: bad, hint });
                    }
                    refusals.push(bad);
                }
            }
        }
        let skipped_count = reader.skipped_count() + refusals.len();
        if rows.is_empty() {
            return Err(RememberError::NoRows { path: path.to_path_buf(), skipped: skipped_count });
        }
        let mut skipped = reader.skipped().to_vec();
        skipped.extend(refusals);
        skipped.sort_by_key(|bad| bad.line);
        skipped.truncate(MOST_DETAILS);
        Ok(Made { rows, skipped_count, skipped })
    }
}

/// A text, or a number that is kept as its text.
#[derive(Deserialize)]
#[serde(untagged)]
enum TextOrNumber {
    Text(String),
    Number(serde_json::Number),
}

impl From<TextOrNumber> for String {
    /// A whole number loses its `.0`, which comes from the program that wrote the source and is no part of an answer.
    fn from(value: TextOrNumber) -> String {
        match value {
            TextOrNumber::Text(text) => text,
            TextOrNumber::Number(number) => {
                let text = number.to_string();
                text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
            }
        }
    }
}

#[cfg(test)]
mod tests;
