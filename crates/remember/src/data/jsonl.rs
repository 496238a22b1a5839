//! JSON Lines: one JSON value per line, plain or gzip.
//!
//! The reader takes files as people have them: gzip is recognised by its first bytes whatever the name says, a UTF-8
//! byte order mark, CRLF and blank lines are no matter. A broken line is an error that names file, line, column and
//! field, or, with [`JsonlOptions::skip_bad_lines`], is left out, counted and reported.

use crate::error::{RememberError, Result};
use crate::fs;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use std::fmt;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

/// Of how many skipped lines the details are kept; the others are only counted.
pub(super) const MOST_DETAILS: usize = 1_000;
/// First bytes of a gzip stream.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// How to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JsonlOptions {
    /// Leave broken lines out, count and report them, instead of failing at the first.
    pub skip_bad_lines: bool,
    /// Whether a file without rows is fine.
    pub allow_empty: bool,
    /// Longest line in bytes.
    pub max_line_bytes: usize,
    /// Largest file in bytes, after unpacking: a small gzip file can hold terabytes.
    pub max_total_bytes: u64,
}

impl Default for JsonlOptions {
    /// Fail at the first broken line and on a file without rows; lines up to 32 MiB, files up to 16 GiB.
    fn default() -> Self {
        JsonlOptions {
            skip_bad_lines: false,
            allow_empty: false,
            max_line_bytes: 32 << 20,
            max_total_bytes: 16 << 30,
        }
    }
}

/// A line that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BadLine {
    /// Number of the line, from 1.
    pub line: u64,
    /// Byte in the line, from 1, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// Path of the field, for example `samples[0].text`, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What is wrong.
    pub problem: String,
}

impl fmt::Display for BadLine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "line {}", self.line)?;
        if let Some(column) = self.column {
            write!(formatter, ", column {column}")?;
        }
        if let Some(field) = &self.field {
            write!(formatter, ", field `{field}`")?;
        }
        write!(formatter, ": {}", self.problem)
    }
}

/// All rows of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonlRows<T> {
    /// The rows, in the order of the file.
    pub rows: Vec<T>,
    /// The line number of each row, from 1.
    pub line_numbers: Vec<u64>,
    /// How many broken lines were left out.
    pub skipped_count: usize,
    /// Which, up to the first thousand.
    pub skipped: Vec<BadLine>,
}

/// Reads all rows of a file.
///
/// # Errors
/// When the file cannot be read, exceeds a limit, is not UTF-8 JSON Lines, has a broken line (unless skipped), or has
/// no rows (unless allowed).
pub fn read_jsonl<T: DeserializeOwned>(
    path: impl AsRef<Path>,
    options: &JsonlOptions,
) -> Result<JsonlRows<T>> {
    JsonlReader::open(path, options)?.read_all()
}

/// A reader that yields one row at a time with its line number.
pub struct JsonlReader<T> {
    source: Box<dyn BufRead + Send>,
    path: PathBuf,
    options: JsonlOptions,
    buffer: Vec<u8>,
    line: u64,
    total_bytes: u64,
    rows: usize,
    skipped_count: usize,
    skipped: Vec<BadLine>,
    gzip: bool,
    finished: bool,
    row_type: PhantomData<fn() -> T>,
}

impl<T> fmt::Debug for JsonlReader<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("JsonlReader").field("path", &self.path).field("line", &self.line).finish()
    }
}

impl<T: DeserializeOwned> JsonlReader<T> {
    /// Opens a file.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: impl AsRef<Path>, options: &JsonlOptions) -> Result<Self> {
        let path = path.as_ref();
        if path.is_dir() {
            let error = std::io::Error::from(std::io::ErrorKind::IsADirectory);
            return Err(RememberError::io("read", path, error));
        }
        Self::new(fs::open(path)?, path, options)
    }

    /// Reads from any source; `name` stands in errors where a path would.
    ///
    /// # Errors
    /// When its first bytes cannot be read.
    pub fn new(
        source: impl Read + Send + 'static,
        name: impl AsRef<Path>,
        options: &JsonlOptions,
    ) -> Result<Self> {
        let path = name.as_ref().to_path_buf();
        let mut source: Box<dyn BufRead + Send> = Box::new(BufReader::with_capacity(1 << 16, source));
        let gzip = first_bytes(&mut source, &path)?.starts_with(&GZIP_MAGIC);
        if gzip {
            source = Box::new(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(source)));
        }
        Ok(JsonlReader {
            source,
            path,
            options: *options,
            buffer: Vec::new(),
            line: 0,
            total_bytes: 0,
            rows: 0,
            skipped_count: 0,
            skipped: Vec::new(),
            gzip,
            finished: false,
            row_type: PhantomData,
        })
    }

    /// How many broken lines were left out so far.
    pub fn skipped_count(&self) -> usize {
        self.skipped_count
    }

    /// Which lines were left out so far, up to the first thousand.
    pub fn skipped(&self) -> &[BadLine] {
        &self.skipped
    }

    /// Reads what is left.
    ///
    /// # Errors
    /// As [`read_jsonl`].
    pub fn read_all(mut self) -> Result<JsonlRows<T>> {
        let (mut rows, mut line_numbers) = (Vec::new(), Vec::new());
        for item in self.by_ref() {
            let (line, row) = item?;
            rows.push(row);
            line_numbers.push(line);
        }
        Ok(JsonlRows { rows, line_numbers, skipped_count: self.skipped_count, skipped: self.skipped })
    }

    /// The next row; `None` at the end.
    fn next_row(&mut self) -> Result<Option<(u64, T)>> {
        while self.next_line()? {
            if self.buffer.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            if self.buffer.len() > self.options.max_line_bytes {
                let what = format!("line {}", self.line);
                let limit = self.options.max_line_bytes as u64;
                if !self.options.skip_bad_lines {
                    return Err(RememberError::TooLarge { path: self.path.clone(), what, limit });
                }
                self.skip(BadLine {
                    line: self.line,
                    column: None,
                    field: None,
                    problem: format!("longer than {limit} bytes"),
                });
                continue;
            }
            match parse_line(&self.buffer, self.line) {
                Ok(row) => {
                    self.rows += 1;
                    return Ok(Some((self.line, row)));
                }
                Err((bad, _)) if self.options.skip_bad_lines => self.skip(bad),
                Err((bad, kind)) => {
                    let array = self.rows == 0 && self.buffer.trim_ascii_start().starts_with(b"[");
                    let hint = if array { ARRAY_HINT } else { hint(kind) };
                    return Err(RememberError::BadLine { path: self.path.clone(), line: bad, hint });
                }
            }
        }
        if self.rows == 0 && !self.options.allow_empty {
            return Err(RememberError::NoRows { path: self.path.clone(), skipped: self.skipped_count });
        }
        Ok(None)
    }

    /// Fills the buffer with the next line, at most one byte more than is allowed; false at the end.
    fn next_line(&mut self) -> Result<bool> {
        self.buffer.clear();
        let bound = self.options.max_line_bytes as u64 + 1;
        let mut buffer = std::mem::take(&mut self.buffer);
        let read = self.read_until_newline(bound, &mut buffer);
        self.buffer = buffer;
        let read = read?;
        if read == 0 {
            return Ok(false);
        }
        self.line += 1;
        if self.buffer.last() == Some(&b'\n') {
            self.buffer.pop();
        } else if read == bound {
            // Too long. The rest is read past in pieces, so that the lines behind it keep their numbers.
            let mut piece = Vec::new();
            while self.read_until_newline(1 << 16, &mut piece)? > 0 && piece.last() != Some(&b'\n') {
                piece.clear();
            }
        }
        if self.line == 1 {
            if self.buffer.starts_with(&[0xff, 0xfe]) || self.buffer.starts_with(&[0xfe, 0xff]) {
                return Err(RememberError::Format {
                    path: self.path.clone(),
                    reason: "it is UTF-16".into(),
                    hint: "save it as UTF-8",
                });
            }
            if self.buffer.starts_with(b"\xef\xbb\xbf") {
                self.buffer.drain(..3);
            }
        }
        Ok(true)
    }

    /// Reads on to the next newline or the bound, whichever comes first; returns the number of bytes.
    fn read_until_newline(&mut self, bound: u64, buffer: &mut Vec<u8>) -> Result<u64> {
        let read = (&mut self.source).take(bound).read_until(b'\n', buffer).map_err(|source| {
            if self.gzip {
                RememberError::Format {
                    path: self.path.clone(),
                    reason: format!("its gzip stream breaks off behind line {}: {source}", self.line),
                    hint: "copy the file again",
                }
            } else {
                RememberError::io("read", &self.path, source)
            }
        })?;
        self.count(read as u64)?;
        Ok(read as u64)
    }

    fn count(&mut self, bytes: u64) -> Result<()> {
        self.total_bytes += bytes;
        if self.total_bytes > self.options.max_total_bytes {
            return Err(RememberError::TooLarge {
                path: self.path.clone(),
                what: if self.gzip { "the unpacked file" } else { "the file" }.into(),
                limit: self.options.max_total_bytes,
            });
        }
        Ok(())
    }

    fn skip(&mut self, bad: BadLine) {
        self.skipped_count += 1;
        if self.skipped.len() < MOST_DETAILS {
            self.skipped.push(bad);
        }
    }
}

impl<T: DeserializeOwned> Iterator for JsonlReader<T> {
    type Item = Result<(u64, T)>;

    /// The next row with its line number. After an error there is nothing more.
    fn next(&mut self) -> Option<Self::Item> {
        if self.finished {
            return None;
        }
        let item = self.next_row().transpose();
        self.finished = !matches!(item, Some(Ok(_)));
        item
    }
}

const ARRAY_HINT: &str =
    "this looks like one JSON array; write one object per line, for example with `jq -c '.[]'`";

fn hint(kind: Category) -> &'static str {
    match kind {
        Category::Data => {
            "see docs/formats.md for the fields of a row; `--skip-bad-lines` leaves broken lines out"
        }
        Category::Eof => {
            "the line ends too early: is the file whole, one JSON value per line? `--skip-bad-lines` leaves broken lines out"
        }
        Category::Syntax | Category::Io => {
            "every line is one JSON value; `--skip-bad-lines` leaves broken lines out"
        }
    }
}

fn first_bytes<'a>(source: &'a mut Box<dyn BufRead + Send>, path: &Path) -> Result<&'a [u8]> {
    source.fill_buf().map_err(|error| RememberError::io("read", path, error))
}

/// Reads one line; the error says where and of what kind it is.
fn parse_line<T: DeserializeOwned>(bytes: &[u8], line: u64) -> std::result::Result<T, (BadLine, Category)> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let failure = match serde_path_to_error::deserialize(&mut deserializer) {
        Ok(row) => match deserializer.end() {
            Ok(()) => return Ok(row),
            Err(error) => (error, None),
        },
        Err(error) => {
            let field = error.path().to_string();
            (error.into_inner(), Some(field).filter(|field| field != "." && !field.is_empty()))
        }
    };
    let (error, field) = failure;
    let mut problem = error.to_string();
    // serde_json counts lines within the value; the line that matters is that of the file.
    if let Some(place) = problem.rfind(" at line ") {
        problem.truncate(place);
    }
    let column = Some(error.column()).filter(|&column| column > 0);
    Err((BadLine { line, column, field, problem }, error.classify()))
}

/// Writes rows, one per line; gzip when the name ends in `.gz`. The file appears whole or not at all.
///
/// # Errors
/// When the file cannot be written or a row is not representable as JSON.
pub fn write_jsonl<'a, T: Serialize + 'a>(
    path: impl AsRef<Path>,
    rows: impl IntoIterator<Item = &'a T>,
) -> Result<()> {
    let mut writer = JsonlWriter::create(path)?;
    for row in rows {
        writer.write(row)?;
    }
    writer.finish()
}

/// A writer that takes one row at a time; without [`JsonlWriter::finish`] there is no file.
#[derive(Debug)]
pub struct JsonlWriter {
    sink: Sink,
    path: PathBuf,
    rows: usize,
}

#[derive(Debug)]
enum Sink {
    Plain(BufWriter<fs::AtomicFile>),
    Gzip(GzEncoder<BufWriter<fs::AtomicFile>>),
}

impl JsonlWriter {
    /// Begins a file.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        let file = BufWriter::with_capacity(1 << 16, fs::AtomicFile::create(&path)?);
        let gzip = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gz"));
        // flate2 writes no time and no name into the header: the same rows give the same bytes.
        let sink =
            if gzip { Sink::Gzip(GzEncoder::new(file, Compression::default())) } else { Sink::Plain(file) };
        Ok(JsonlWriter { sink, path, rows: 0 })
    }

    /// Writes a row.
    ///
    /// # Errors
    /// When the row is not representable as JSON or the disk refuses.
    pub fn write<T: Serialize + ?Sized>(&mut self, row: &T) -> Result<()> {
        let mut line = serde_json::to_vec(row).map_err(|source| RememberError::Json {
            what: format!("row {}", self.rows),
            path: self.path.clone(),
            source,
            hint: "maps need text keys",
        })?;
        line.push(b'\n');
        let written = match &mut self.sink {
            Sink::Plain(file) => file.write_all(&line),
            Sink::Gzip(file) => file.write_all(&line),
        };
        written.map_err(|source| RememberError::io("write", &self.path, source))?;
        self.rows += 1;
        Ok(())
    }

    /// Completes the file and gives it its name.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn finish(self) -> Result<()> {
        let fail = |source| RememberError::io("write", &self.path, source);
        let file = match self.sink {
            Sink::Plain(file) => file,
            Sink::Gzip(file) => file.finish().map_err(fail)?,
        };
        file.into_inner().map_err(|error| fail(error.into_error()))?.commit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use elenchus_trace::{PairRow, SampleRow};
    use serde_json::{Value, json};
    use std::io::Cursor;

    fn read_bytes<T: DeserializeOwned>(bytes: &[u8], options: &JsonlOptions) -> Result<JsonlRows<T>> {
        JsonlReader::new(Cursor::new(bytes.to_vec()), "rows.jsonl", options)?.read_all()
    }

    fn message(text: &str) -> String {
        read_bytes::<SampleRow>(text.as_bytes(), &JsonlOptions::default()).unwrap_err().to_string()
    }

    #[test]
    fn files_as_people_have_them_are_read() {
        let text = "\u{feff}{\"id\": 1, \"gold\": \"2\", \"pred\": 2}\r\n\r\n  \n{\"id\": \"b\", \"gold\": \"3\", \"pred\": \"4\"}";
        let mut packed = GzEncoder::new(Vec::new(), Compression::default());
        packed.write_all(text.as_bytes()).unwrap();
        for bytes in [text.as_bytes().to_vec(), packed.finish().unwrap()] {
            let read: JsonlRows<PairRow> = read_bytes(&bytes, &JsonlOptions::default()).unwrap();
            assert_eq!(read.line_numbers, [1, 4]);
            assert_eq!(read.rows[0].id, "1");
            assert_eq!(read.rows[1].pred, "4");
        }
    }

    #[test]
    fn broken_lines_name_line_column_field_and_hint() {
        let good = r#"{"id":"a","samples":[{"text":"x"}]}"#;
        let error = message(&format!("{good}\n{{\"id\":\"b\",\"samples\":[{{\"text\":5}}]}}\n"));
        assert!(error.contains("`rows.jsonl` line 2, column 30, field `samples[0].text`"), "{error}");
        assert!(
            error.contains("invalid type: integer `5`") && error.contains("hint: see docs/formats.md"),
            "{error}"
        );
        let error = message(&format!("{good}\n{{\"id\":\"b\"}}"));
        assert!(error.contains("line 2") && error.contains("missing field `samples`"), "{error}");
        let error = message(&format!("{good}\n\n{{\"id\":\"b\", oops}}"));
        assert!(error.contains("line 3, column 12") && error.contains("hint: every line"), "{error}");
        let error = message(&format!("{good}\n{}", &good[..20]));
        assert!(error.contains("line 2") && error.contains("hint: the line ends too early"), "{error}");
        let error = message("[\n{\"id\": 1}\n]");
        assert!(error.contains("looks like one JSON array"), "{error}");
        let error = message("{\"id\":\"b\",\"samples\":[]} trailing");
        assert!(error.contains("line 1") && error.contains("trailing characters"), "{error}");
    }

    #[test]
    fn skipping_counts_and_reports() {
        let options = JsonlOptions { skip_bad_lines: true, ..JsonlOptions::default() };
        let text = b"{\"a\":1}\nnonsense\n\xff\xfe\xfd\n{\"a\":2}\n[1\n";
        let read: JsonlRows<Value> = read_bytes(text, &options).unwrap();
        assert_eq!(read.rows, [json!({"a": 1}), json!({"a": 2})]);
        assert_eq!(read.skipped_count, 3);
        assert_eq!(read.skipped.iter().map(|bad| bad.line).collect::<Vec<_>>(), [2, 3, 5]);
        let error = read_bytes::<Value>(b"x\ny\n", &options).unwrap_err().to_string();
        assert!(error.contains("has no rows (2 broken lines were left out)"), "{error}");
        let many = "x\n".repeat(MOST_DETAILS + 10) + "1";
        let read: JsonlRows<Value> = read_bytes(many.as_bytes(), &options).unwrap();
        assert_eq!((read.skipped_count, read.skipped.len()), (MOST_DETAILS + 10, MOST_DETAILS));
    }

    #[test]
    fn empty_data_is_an_error_unless_allowed() {
        let error = message("\n \n").to_string();
        assert!(error.contains("`rows.jsonl` has no rows\nhint:"), "{error}");
        let allowed = JsonlOptions { allow_empty: true, ..JsonlOptions::default() };
        assert!(read_bytes::<Value>(b"", &allowed).unwrap().rows.is_empty());
    }

    #[test]
    fn hostile_sizes_are_bounded() {
        let mut options = JsonlOptions { max_line_bytes: 10, ..JsonlOptions::default() };
        let exactly: JsonlRows<Value> = read_bytes(b"\"12345678\"\n\"12345678\"", &options).unwrap();
        assert_eq!(exactly.rows.len(), 2, "a line of the limit is fine");
        let long = format!("1\n\"{}\"\n2\n\"123456789\"\n3", "x".repeat(200_000));
        let error = read_bytes::<Value>(long.as_bytes(), &options).unwrap_err().to_string();
        assert!(error.contains("line 2 exceeds 10 bytes"), "{error}");
        options.skip_bad_lines = true;
        let read: JsonlRows<Value> = read_bytes(long.as_bytes(), &options).unwrap();
        assert_eq!(read.line_numbers, [1, 3, 5], "lines behind a long one keep their numbers");
        let bomb = {
            let mut packed = GzEncoder::new(Vec::new(), Compression::best());
            packed.write_all(&vec![b' '; 4 << 20]).unwrap();
            packed.finish().unwrap()
        };
        let small = JsonlOptions { max_total_bytes: 1 << 20, ..JsonlOptions::default() };
        let error = read_bytes::<Value>(&bomb, &small).unwrap_err().to_string();
        assert!(bomb.len() < 10_000 && error.contains("the unpacked file exceeds 1048576 bytes"), "{error}");
        let deep = "[".repeat(100_000);
        assert!(read_bytes::<Value>(deep.as_bytes(), &JsonlOptions::default()).is_err(), "deep nesting");
    }

    #[test]
    fn cut_gzip_and_utf16_are_named() {
        let mut packed = GzEncoder::new(Vec::new(), Compression::default());
        for i in 0..10_000 {
            writeln!(packed, "{{\"i\":{}}}", i * 7_919 % 10_007).unwrap();
        }
        let packed = packed.finish().unwrap();
        let error = read_bytes::<Value>(&packed[..packed.len() / 2], &JsonlOptions::default()).unwrap_err();
        assert!(error.to_string().contains("gzip stream breaks off behind line"), "{error}");
        let utf16: Vec<u8> = "\u{feff}{\"a\":1}".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let error = read_bytes::<Value>(&utf16, &JsonlOptions::default()).unwrap_err().to_string();
        assert!(error.contains("it is UTF-16\nhint: save it as UTF-8"), "{error}");
    }

    #[test]
    fn written_files_are_whole_or_absent_and_repeatable() {
        let folder = tempfile::tempdir().unwrap();
        let rows = [json!({"a": 1.0e-7}), json!({"b": "ü\n"})];
        for name in ["rows.jsonl", "rows.jsonl.gz"] {
            let path = folder.path().join(name);
            write_jsonl(&path, &rows).unwrap();
            let first = fs::read(&path).unwrap();
            write_jsonl(&path, &rows).unwrap();
            assert_eq!(fs::read(&path).unwrap(), first, "the same rows give the same bytes");
            assert_eq!(read_jsonl::<Value>(&path, &JsonlOptions::default()).unwrap().rows, rows);
        }
        let mut unfinished = JsonlWriter::create(folder.path().join("never.jsonl")).unwrap();
        unfinished.write(&1).unwrap();
        drop(unfinished);
        assert_eq!(fs::list(folder.path()).unwrap().len(), 2);
        let error = read_jsonl::<Value>(folder.path(), &JsonlOptions::default()).unwrap_err().to_string();
        assert!(error.contains("a file is expected here, not a folder"), "{error}");
    }
}
