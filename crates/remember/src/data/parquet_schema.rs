//! The shape of JSON rows as Parquet columns: inference, schema, and the levels of nested values.

use parquet::basic::{LogicalType, Repetition, Type as PhysicalType};
use parquet::data_type::ByteArray;
use parquet::errors::Result as ParquetResult;
use parquet::schema::types::{Type, TypePtr};
use serde_json::{Map, Value};
use std::sync::Arc;

/// Objects with more names than this are maps rather than structs and become JSON text.
const MOST_FIELDS: usize = 100;
/// Deeper values become JSON text.
const DEEPEST: usize = 12;
/// Integers up to here are exact as floats.
const EXACT_INTEGER: u64 = 1 << 53;

/// What a column holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    /// Only nulls so far.
    Unknown,
    Boolean,
    /// 64-bit integers; whether all of them are exact as floats.
    Integer {
        exact: bool,
    },
    Float,
    Text,
    List(Box<Kind>),
    Struct(Vec<(String, Kind)>),
    /// Values that no other kind holds together: JSON text.
    Json,
}

impl Kind {
    /// The kind of all rows together.
    pub(super) fn of_rows(rows: &[Map<String, Value>]) -> Vec<(String, Kind)> {
        let mut columns = Vec::new();
        for row in rows {
            widen_fields(&mut columns, row, 0);
        }
        for (_, kind) in &mut columns {
            kind.settle();
        }
        columns
    }

    fn of(value: &Value, depth: usize) -> Kind {
        let mut kind = Kind::Unknown;
        kind.widen(value, depth);
        kind
    }

    /// Makes the kind hold this value too.
    fn widen(&mut self, value: &Value, depth: usize) {
        if depth > DEEPEST && !value.is_null() {
            *self = Kind::Json;
            return;
        }
        match (&mut *self, value) {
            (_, Value::Null) | (Kind::Json, _) => {}
            (Kind::Unknown, Value::Bool(_)) => *self = Kind::Boolean,
            (Kind::Unknown, Value::String(_)) => *self = Kind::Text,
            (Kind::Unknown, Value::Number(number)) => {
                *self = match number.as_i64() {
                    Some(integer) => Kind::Integer { exact: integer.unsigned_abs() <= EXACT_INTEGER },
                    None if number.is_f64() => Kind::Float,
                    None => Kind::Json,
                }
            }
            (Kind::Unknown, Value::Array(elements)) => {
                let mut element = Kind::Unknown;
                for value in elements {
                    element.widen(value, depth + 1);
                }
                *self = Kind::List(Box::new(element));
            }
            (Kind::Unknown, Value::Object(object)) => {
                let mut fields = Vec::new();
                widen_fields(&mut fields, object, depth + 1);
                *self = if fields.len() > MOST_FIELDS { Kind::Json } else { Kind::Struct(fields) };
            }
            (Kind::Boolean, Value::Bool(_)) | (Kind::Text, Value::String(_)) => {}
            (Kind::List(element), Value::Array(elements)) => {
                for value in elements {
                    element.widen(value, depth + 1);
                }
            }
            (Kind::Struct(fields), Value::Object(object)) => {
                widen_fields(fields, object, depth + 1);
                if fields.len() > MOST_FIELDS {
                    *self = Kind::Json;
                }
            }
            (Kind::Integer { exact }, Value::Number(_)) => match Kind::of(value, depth) {
                Kind::Integer { exact: also } => *exact &= also,
                Kind::Float if *exact => *self = Kind::Float,
                _ => *self = Kind::Json,
            },
            (Kind::Float, Value::Number(_)) => match Kind::of(value, depth) {
                Kind::Float | Kind::Integer { exact: true } => {}
                _ => *self = Kind::Json,
            },
            _ => *self = Kind::Json,
        }
    }

    /// Decides what was left open: Parquet has no columns without type and no structs without fields.
    fn settle(&mut self) {
        match self {
            Kind::Unknown => *self = Kind::Text,
            Kind::List(element) => element.settle(),
            Kind::Struct(fields) if fields.is_empty() => *self = Kind::Json,
            Kind::Struct(fields) => fields.iter_mut().for_each(|(_, kind)| kind.settle()),
            _ => {}
        }
    }

    fn schema(&self, name: &str) -> ParquetResult<TypePtr> {
        let primitive =
            |physical| Type::primitive_type_builder(name, physical).with_repetition(Repetition::OPTIONAL);
        let group =
            |fields| Type::group_type_builder(name).with_repetition(Repetition::OPTIONAL).with_fields(fields);
        let built = match self {
            Kind::Boolean => primitive(PhysicalType::BOOLEAN).build(),
            Kind::Integer { .. } => primitive(PhysicalType::INT64).build(),
            Kind::Float => primitive(PhysicalType::DOUBLE).build(),
            Kind::Text | Kind::Unknown => {
                primitive(PhysicalType::BYTE_ARRAY).with_logical_type(Some(LogicalType::String)).build()
            }
            Kind::Json => {
                primitive(PhysicalType::BYTE_ARRAY).with_logical_type(Some(LogicalType::Json)).build()
            }
            Kind::Struct(fields) => group(schemas(fields)?).build(),
            Kind::List(element) => {
                let repeated = Type::group_type_builder("list")
                    .with_repetition(Repetition::REPEATED)
                    .with_fields(vec![element.schema("element")?])
                    .build()?;
                group(vec![Arc::new(repeated)]).with_logical_type(Some(LogicalType::List)).build()
            }
        };
        built.map(Arc::new)
    }

    fn add_leaves(&self, leaves: &mut Vec<Leaf>) {
        let values = match self {
            Kind::Boolean => Values::Boolean(Vec::new()),
            Kind::Integer { .. } => Values::Integer(Vec::new()),
            Kind::Float => Values::Float(Vec::new()),
            Kind::Text | Kind::Unknown => Values::Text(Vec::new()),
            Kind::Json => Values::Json(Vec::new()),
            Kind::List(element) => return element.add_leaves(leaves),
            Kind::Struct(fields) => return fields.iter().for_each(|(_, kind)| kind.add_leaves(leaves)),
        };
        leaves.push(Leaf { values, definition: Vec::new(), repetition: Vec::new() });
    }

    /// Appends a value to the leaves of this kind, which begin at `leaves[*place]`; moves `place` behind them.
    ///
    /// `definition` is the level of the parent, `repetition` that of this value, `depth` how many lists are above it.
    fn shred(&self, value: Option<&Value>, at: Level, leaves: &mut [Leaf], place: &mut usize) {
        let value = value.filter(|value| !value.is_null());
        let present = Level { definition: at.definition + 1, ..at };
        match (self, value) {
            (Kind::Struct(fields), Some(Value::Object(object))) => {
                for (name, kind) in fields {
                    kind.shred(object.get(name), present, leaves, place);
                }
            }
            (Kind::Struct(fields), _) => {
                for (_, kind) in fields {
                    kind.absent(at, leaves, place);
                }
            }
            (Kind::List(element), Some(Value::Array(elements))) if !elements.is_empty() => {
                let first = *place;
                let inside = Level { definition: at.definition + 2, lists: at.lists + 1, ..at };
                for (index, value) in elements.iter().enumerate() {
                    *place = first;
                    let repetition = if index == 0 { at.repetition } else { inside.lists };
                    element.shred(Some(value), Level { repetition, ..inside }, leaves, place);
                }
            }
            (Kind::List(element), Some(Value::Array(_))) => element.absent(present, leaves, place),
            (Kind::List(element), _) => element.absent(at, leaves, place),
            (_, value) => {
                if let Some(leaf) = leaves.get_mut(*place) {
                    let stored = value.is_some_and(|value| leaf.values.push(value));
                    leaf.definition.push(if stored { present.definition } else { at.definition });
                    leaf.repetition.push(at.repetition);
                }
                *place += 1;
            }
        }
    }

    /// Appends to every leaf that there is nothing below this level.
    fn absent(&self, at: Level, leaves: &mut [Leaf], place: &mut usize) {
        match self {
            Kind::Struct(fields) => fields.iter().for_each(|(_, kind)| kind.absent(at, leaves, place)),
            Kind::List(element) => element.absent(at, leaves, place),
            _ => {
                if let Some(leaf) = leaves.get_mut(*place) {
                    leaf.definition.push(at.definition);
                    leaf.repetition.push(at.repetition);
                }
                *place += 1;
            }
        }
    }
}

/// Where a value stands.
#[derive(Clone, Copy)]
struct Level {
    /// Optional and repeated nodes above it that are there.
    definition: i16,
    /// At which list it is a further element; 0 begins a row.
    repetition: i16,
    /// Lists above it.
    lists: i16,
}

fn widen_fields(fields: &mut Vec<(String, Kind)>, object: &Map<String, Value>, depth: usize) {
    for (name, value) in object {
        match fields.iter_mut().find(|(known, _)| known == name) {
            Some((_, kind)) => kind.widen(value, depth),
            None => fields.push((name.clone(), Kind::of(value, depth))),
        }
    }
}

fn schemas(fields: &[(String, Kind)]) -> ParquetResult<Vec<TypePtr>> {
    fields.iter().map(|(name, kind)| kind.schema(name)).collect()
}

/// The schema of a file with these columns.
pub(super) fn file_schema(columns: &[(String, Kind)]) -> ParquetResult<TypePtr> {
    Type::group_type_builder("schema").with_fields(schemas(columns)?).build().map(Arc::new)
}

/// The values of one Parquet column with their levels.
pub(super) struct Leaf {
    pub(super) values: Values,
    pub(super) definition: Vec<i16>,
    pub(super) repetition: Vec<i16>,
}

/// The values that are there.
pub(super) enum Values {
    Boolean(Vec<bool>),
    Integer(Vec<i64>),
    Float(Vec<f64>),
    Text(Vec<ByteArray>),
    Json(Vec<ByteArray>),
}

impl Values {
    /// Appends a value; false when it is not of this column's kind, which inference rules out.
    fn push(&mut self, value: &Value) -> bool {
        match (self, value) {
            (Values::Boolean(values), Value::Bool(value)) => values.push(*value),
            (Values::Integer(values), Value::Number(number)) => match number.as_i64() {
                Some(integer) => values.push(integer),
                None => return false,
            },
            (Values::Float(values), Value::Number(number)) => match number.as_f64() {
                Some(float) => values.push(float),
                None => return false,
            },
            (Values::Text(values), Value::String(text)) => values.push(ByteArray::from(text.as_str())),
            (Values::Json(values), value) => values.push(ByteArray::from(value.to_string().into_bytes())),
            _ => return false,
        }
        true
    }
}

/// Cuts rows into the columns of the file.
pub(super) fn shred_rows(columns: &[(String, Kind)], rows: &[Map<String, Value>]) -> Vec<Leaf> {
    let mut leaves = Vec::new();
    columns.iter().for_each(|(_, kind)| kind.add_leaves(&mut leaves));
    for row in rows {
        let mut place = 0;
        for (name, kind) in columns {
            let top = Level { definition: 0, repetition: 0, lists: 0 };
            kind.shred(row.get(name), top, &mut leaves, &mut place);
        }
    }
    leaves
}
