//! Parquet, read and written as JSON objects.
//!
//! **Writing.** Types are inferred from all rows: booleans, 64-bit integers, floats, text, lists and structs are
//! native Parquet (a list of messages is a list of structs, as `datasets` and TRL expect). What no such type holds
//! together (text in one row and a list in another, objects with more than 100 names, nesting deeper than 12, integers
//! above 2⁶³) becomes a text column marked as JSON, and is turned back on reading. Every column is optional; a field
//! that is `null` is the same as one that is absent. Compression is Snappy.
//!
//! **Reading.** Absent fields are left out. Decimals, dates, times and timestamps become text; bytes become text when
//! they are UTF-8, else `0x` and hexadecimal digits; NaN and infinities, which JSON lacks, are left out; maps become
//! objects. Snappy, gzip and uncompressed pages are read.

use super::parquet_schema::{Kind, Leaf, Values, file_schema, shred_rows};
use crate::error::{RememberError, Result};
use crate::fs;
use parquet::basic::{Compression, ConvertedType};
use parquet::column::writer::ColumnWriter;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::record::{Field, Row};
use parquet::schema::types::Type;
use serde_json::{Map, Number, Value};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

/// Rows per row group.
const ROWS_PER_GROUP: usize = 10_000;
/// More columns than any data set of texts has; inference compares names pairwise.
const MOST_COLUMNS: usize = 1_000;
/// What a value without text counts against the limit on reading.
const VALUE_BYTES: u64 = 16;

/// How to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParquetOptions {
    /// Bound on the rows in memory (16 bytes per value and the length of each text): a small file can hold billions
    /// of equal values.
    pub max_total_bytes: u64,
}

impl Default for ParquetOptions {
    /// 16 GiB.
    fn default() -> Self {
        ParquetOptions { max_total_bytes: 16 << 30 }
    }
}

/// Reads all rows.
///
/// # Errors
/// When the file cannot be read, is not Parquet, is damaged, uses a compression that is not built in (zstd, LZ4,
/// Brotli), or exceeds the limit.
pub fn read_parquet(path: impl AsRef<Path>, options: &ParquetOptions) -> Result<Vec<Map<String, Value>>> {
    let path = path.as_ref();
    let file = fs::open(path)?;
    // The parquet crate asserts what a well-formed file has; a hostile one must be an error all the same.
    catch_unwind(AssertUnwindSafe(|| read(path, file, options))).unwrap_or_else(|_| {
        Err(RememberError::Format {
            path: path.to_path_buf(),
            reason: "it is damaged: its parts contradict each other".into(),
            hint: "copy or write the file again",
        })
    })
}

fn read(path: &Path, file: std::fs::File, options: &ParquetOptions) -> Result<Vec<Map<String, Value>>> {
    let refused = |error: ParquetError| {
        let reason = error.to_string();
        let hint = if reason.contains("Disabled feature") {
            "write it with Snappy compression (`compression=\"snappy\"`), or as JSON Lines"
        } else {
            "is it a whole Parquet file? copy or write it again"
        };
        RememberError::Format { path: path.to_path_buf(), reason, hint }
    };
    let reader = SerializedFileReader::new(file).map_err(refused)?;
    let schema = reader.metadata().file_metadata().schema().clone();
    let mut rows = Vec::new();
    let mut counted = 0;
    for row in reader.get_row_iter(None).map_err(refused)? {
        rows.push(object(row.map_err(refused)?, Some(&schema), &mut counted));
        if counted > options.max_total_bytes {
            return Err(RememberError::TooLarge {
                path: path.to_path_buf(),
                what: "what its rows take in memory".into(),
                limit: options.max_total_bytes,
            });
        }
    }
    Ok(rows)
}

fn object(row: Row, group: Option<&Type>, counted: &mut u64) -> Map<String, Value> {
    let mut object = Map::new();
    for (name, field) in row.into_columns() {
        let child = group
            .filter(|group| group.is_group())
            .and_then(|group| group.get_fields().iter().find(|child| child.name() == name));
        let value = value(field, child.map(Arc::as_ref), counted);
        if !value.is_null() {
            *counted += name.len() as u64;
            object.insert(name, value);
        }
    }
    object
}

fn value(field: Field, schema: Option<&Type>, counted: &mut u64) -> Value {
    *counted += VALUE_BYTES;
    match field {
        Field::Null => Value::Null,
        Field::Bool(value) => value.into(),
        Field::Byte(value) => value.into(),
        Field::Short(value) => value.into(),
        Field::Int(value) => value.into(),
        Field::Long(value) => value.into(),
        Field::UByte(value) => value.into(),
        Field::UShort(value) => value.into(),
        Field::UInt(value) => value.into(),
        Field::ULong(value) => value.into(),
        Field::Float16(value) => float(value.into()),
        // Through its shortest text: 0.1 in 32 bits is 0.1 and not 0.10000000149011612.
        Field::Float(value) => value.to_string().parse().map_or(Value::Null, float),
        Field::Double(value) => float(value),
        Field::Str(text) => {
            *counted += text.len() as u64;
            let json =
                schema.is_some_and(|schema| schema.get_basic_info().converted_type() == ConvertedType::JSON);
            if json && let Ok(value) = serde_json::from_str(&text) {
                return value;
            }
            Value::String(text)
        }
        Field::Bytes(bytes) => {
            *counted += 2 * bytes.len() as u64;
            match bytes.as_utf8() {
                Ok(text) => text.into(),
                Err(_) => {
                    let digits: String = bytes.data().iter().map(|byte| format!("{byte:02x}")).collect();
                    format!("0x{digits}").into()
                }
            }
        }
        Field::Decimal(_)
        | Field::Date(_)
        | Field::TimeMillis(_)
        | Field::TimeMicros(_)
        | Field::TimestampMillis(_)
        | Field::TimestampMicros(_) => field.to_string().into(),
        Field::Group(row) => Value::Object(object(row, schema, counted)),
        Field::ListInternal(list) => {
            let element = schema.and_then(element_type);
            list.elements().iter().map(|field| value(field.clone(), element, counted)).collect()
        }
        Field::MapInternal(map) => {
            let entry = schema.and_then(|schema| first_field(schema));
            let entry_value =
                entry.filter(|entry| entry.is_group()).and_then(|entry| entry.get_fields().get(1));
            let mut object = Map::new();
            for (key, field) in map.entries() {
                let key = match value(key.clone(), None, counted) {
                    Value::String(text) => text,
                    other => other.to_string(),
                };
                object.insert(key, value(field.clone(), entry_value.map(Arc::as_ref), counted));
            }
            Value::Object(object)
        }
    }
}

fn float(value: f64) -> Value {
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}

fn first_field(schema: &Type) -> Option<&Type> {
    if schema.is_group() { schema.get_fields().first().map(Arc::as_ref) } else { None }
}

/// The type of the elements of a list: below the repeated group, or the repeated node itself in files of old writers.
fn element_type(list: &Type) -> Option<&Type> {
    let repeated = first_field(list)?;
    if repeated.is_group() && repeated.get_fields().len() == 1 {
        first_field(repeated)
    } else {
        Some(repeated)
    }
}

/// Writes rows; the file appears whole or not at all.
///
/// # Errors
/// When there are more than 1,000 columns or none, or the disk refuses.
pub fn write_parquet(path: impl AsRef<Path>, rows: &[Map<String, Value>]) -> Result<()> {
    let path = path.as_ref();
    let columns = Kind::of_rows(rows);
    if columns.is_empty() || columns.len() > MOST_COLUMNS {
        return Err(RememberError::Format {
            path: path.to_path_buf(),
            reason: format!(
                "a Parquet file has 1 to {MOST_COLUMNS} columns and these rows have {}",
                columns.len()
            ),
            hint: "write JSON Lines instead",
        });
    }
    let file = fs::AtomicFile::create(path)?;
    let failed = |error: ParquetError| match error {
        ParquetError::External(source) => match source.downcast::<std::io::Error>() {
            Ok(source) => RememberError::io("write", path, *source),
            Err(source) => RememberError::io("write", path, std::io::Error::other(source)),
        },
        other => RememberError::io("write", path, std::io::Error::other(other)),
    };
    write(file, &columns, rows).map_err(failed)?.commit()
}

fn write(
    file: fs::AtomicFile,
    columns: &[(String, Kind)],
    rows: &[Map<String, Value>],
) -> std::result::Result<fs::AtomicFile, ParquetError> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_created_by(concat!("elenchus version ", env!("CARGO_PKG_VERSION")).to_string())
        .build();
    let mut writer = SerializedFileWriter::new(file, file_schema(columns)?, Arc::new(properties))?;
    for group in rows.chunks(ROWS_PER_GROUP) {
        let mut row_group = writer.next_row_group()?;
        for leaf in shred_rows(columns, group) {
            let Some(mut column) = row_group.next_column()? else { break };
            write_leaf(column.untyped(), &leaf)?;
            column.close()?;
        }
        row_group.close()?;
    }
    writer.into_inner()
}

fn write_leaf(column: &mut ColumnWriter<'_>, leaf: &Leaf) -> std::result::Result<usize, ParquetError> {
    let (definition, repetition) = (Some(leaf.definition.as_slice()), Some(leaf.repetition.as_slice()));
    match (column, &leaf.values) {
        (ColumnWriter::BoolColumnWriter(writer), Values::Boolean(values)) => {
            writer.write_batch(values, definition, repetition)
        }
        (ColumnWriter::Int64ColumnWriter(writer), Values::Integer(values)) => {
            writer.write_batch(values, definition, repetition)
        }
        (ColumnWriter::DoubleColumnWriter(writer), Values::Float(values)) => {
            writer.write_batch(values, definition, repetition)
        }
        (ColumnWriter::ByteArrayColumnWriter(writer), Values::Text(values) | Values::Json(values)) => {
            writer.write_batch(values, definition, repetition)
        }
        _ => Err(ParquetError::General("the schema and the columns do not agree".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rows(values: Value) -> Vec<Map<String, Value>> {
        serde_json::from_value(values).unwrap()
    }

    fn round_trip(values: Value) -> Vec<Map<String, Value>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.parquet");
        write_parquet(&path, &rows(values)).unwrap();
        read_parquet(&path, &ParquetOptions::default()).unwrap()
    }

    #[test]
    fn nested_rows_come_back() {
        let values = json!([
            {"id": 1, "prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
             "label": true, "scores": [[0.5], [], [1.5, -2.0]], "one": {"field": "x"}},
            {"id": -9_007_199_254_740_993_i64, "prompt": [], "label": false, "scores": [], "tail": "ü"},
            {"id": 3, "prompt": [{"role": "user"}], "one": {}, "tail": ""},
        ]);
        assert_eq!(Value::from_iter(round_trip(values.clone()).into_iter().map(Value::Object)), values);
    }

    #[test]
    fn columns_of_mixed_kinds_are_json_text_and_come_back() {
        let values = json!([
            {"content": "text", "number": 1, "open": {}, "large": 18_446_744_073_709_551_615_u64},
            {"content": [{"type": "text", "text": "part"}], "number": "one", "open": {"a": null}, "large": 1},
            {"content": null, "number": [null, 1], "large": -1},
        ]);
        let back = Value::from_iter(round_trip(values).into_iter().map(Value::Object));
        assert_eq!(back[0]["content"], "text");
        assert_eq!(back[1]["content"][0]["text"], "part");
        assert_eq!(back[2].get("content"), None, "null is absent");
        assert_eq!(back[1]["number"], "one");
        assert_eq!(back[2]["number"], json!([null, 1]));
        assert_eq!(back[0]["large"], 18_446_744_073_709_551_615_u64);
    }

    #[test]
    fn schema_is_native_where_types_agree() {
        let columns = Kind::of_rows(&rows(json!([
            {"prompt": [{"role": "user", "content": "a"}], "n": 1, "x": 1},
            {"prompt": [{"role": "user", "content": "b"}], "n": 2, "x": 0.5},
        ])));
        let schema = file_schema(&columns).unwrap();
        let mut text = Vec::new();
        parquet::schema::printer::print_schema(&mut text, &schema);
        let expected = "message schema {
  OPTIONAL group prompt (LIST) {
    REPEATED group list {
      OPTIONAL group element {
        OPTIONAL BYTE_ARRAY role (STRING);
        OPTIONAL BYTE_ARRAY content (STRING);
      }
    }
  }
  OPTIONAL INT64 n;
  OPTIONAL DOUBLE x;
}
";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }

    #[test]
    fn several_row_groups_and_the_same_bytes_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let many: Vec<_> =
            (0..ROWS_PER_GROUP * 2 + 1).flat_map(|i| rows(json!([{"i": i, "t": ["x", "x"]}]))).collect();
        let paths = [folder.path().join("a.parquet"), folder.path().join("b.parquet")];
        for path in &paths {
            write_parquet(path, &many).unwrap();
        }
        assert_eq!(fs::read(&paths[0]).unwrap(), fs::read(&paths[1]).unwrap());
        assert_eq!(read_parquet(&paths[0], &ParquetOptions::default()).unwrap(), many);
        let error = read_parquet(&paths[0], &ParquetOptions { max_total_bytes: 10_000 }).unwrap_err();
        assert!(matches!(error, RememberError::TooLarge { limit: 10_000, .. }), "{error}");
    }

    #[test]
    fn what_is_no_parquet_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.parquet");
        std::fs::write(&path, "PAR1 and then nothing PAR1").unwrap();
        let error = read_parquet(&path, &ParquetOptions::default()).unwrap_err().to_string();
        assert!(error.contains("x.parquet` cannot be read") && error.contains("\nhint:"), "{error}");
        let error = write_parquet(&path, &[]).unwrap_err().to_string();
        assert!(error.contains("these rows have 0"), "{error}");
        assert!(path.exists(), "a refused write leaves the earlier file");
    }
}
