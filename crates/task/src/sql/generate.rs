//! Small databases of two tables, and questions about them whose answers nothing simpler gives.

use super::equivalence::same_result;
use super::guard::{SqlDatabase, SqlLimits};
use crate::TaskError;
use elenchus_trace::Problem;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use std::fmt::Write;

/// A table of a theme. Its letters are those of the compact notation.
#[derive(Debug, PartialEq, Eq)]
pub struct Side {
    /// Name of the table.
    pub table: &'static str,
    /// One of its things, in words.
    pub one: &'static str,
    /// Several.
    pub many: &'static str,
    /// Name of the column with the name of a thing.
    pub name: &'static str,
    /// Columns with numbers: name, in words, smallest, largest value.
    pub numbers: &'static [(&'static str, &'static str, i64, i64)],
    /// What things are called.
    pub names: &'static [&'static str],
}

/// Two tables: each row of the child names a row of the parent.
#[derive(Debug, PartialEq, Eq)]
pub struct Theme {
    /// The table that names rows of the other: letter `p`, columns `n` (name), `a` and `h` (numbers), `r` (reference).
    pub child: Side,
    /// The other: letter `c`, columns `i` (number of the row), `m` (name), `z` (number).
    pub parent: Side,
    /// Column of the child that names a row of the parent.
    pub reference: &'static str,
    /// How a child belongs to its parent, between the two: `who live in`.
    pub belongs: &'static str,
}

const PEOPLE: &[&str] = &[
    "Ann", "Bob", "Carl", "Dora", "Emil", "Fay", "Gus", "Hana", "Ivan", "Judy", "Kofi", "Lena", "Mia",
    "Nils", "Olga", "Paul", "Rosa", "Sam", "Tina", "Uma", "Vera", "Will", "Yuri", "Zoe",
];
const CITIES: &[&str] = &["Arna", "Belmo", "Corva", "Delta", "Elmira", "Fonda", "Garda", "Hollo"];
const BOOKS: &[&str] = &[
    "Amber",
    "Bridges",
    "Candles",
    "Dust",
    "Embers",
    "Forests",
    "Glass",
    "Harbour",
    "Islands",
    "Junctions",
    "Keys",
    "Lanterns",
    "Mirrors",
    "Nests",
    "Orchards",
    "Paths",
    "Quarries",
    "Rivers",
    "Snow",
    "Towers",
];
const ITEMS: &[&str] = &[
    "anvil", "basket", "chair", "drum", "easel", "fan", "globe", "hammer", "iron", "jar", "kettle", "lamp",
    "mirror", "needle", "oven", "pan", "rope", "saw", "table", "vase",
];
const SHOPS: &[&str] = &["North", "South", "East", "West", "Central", "Harbour", "Station", "Market"];

/// What databases are about.
pub static THEMES: [Theme; 3] = [
    Theme {
        child: Side {
            table: "people",
            one: "person",
            many: "people",
            name: "name",
            numbers: &[("age", "age", 18, 80), ("height", "height", 150, 199)],
            names: PEOPLE,
        },
        parent: Side {
            table: "cities",
            one: "city",
            many: "cities",
            name: "name",
            numbers: &[("size", "size", 1, 60)],
            names: CITIES,
        },
        reference: "city_id",
        belongs: "who live in",
    },
    Theme {
        child: Side {
            table: "books",
            one: "book",
            many: "books",
            name: "title",
            numbers: &[("pages", "number of pages", 80, 600), ("price", "price", 5, 60)],
            names: BOOKS,
        },
        parent: Side {
            table: "authors",
            one: "author",
            many: "authors",
            name: "name",
            numbers: &[("age", "age", 25, 90)],
            names: PEOPLE,
        },
        reference: "author_id",
        belongs: "written by",
    },
    Theme {
        child: Side {
            table: "items",
            one: "item",
            many: "items",
            name: "label",
            numbers: &[("weight", "weight", 1, 90), ("stock", "stock", 0, 40)],
            names: ITEMS,
        },
        parent: Side {
            table: "shops",
            one: "shop",
            many: "shops",
            name: "name",
            numbers: &[("floors", "number of floors", 1, 12)],
            names: SHOPS,
        },
        reference: "shop_id",
        belongs: "sold in",
    },
];

impl Theme {
    /// The theme with this child table.
    pub fn of(table: &str) -> Option<&'static Theme> {
        THEMES.iter().find(|theme| theme.child.table == table)
    }

    /// Table and column of a letter of the compact notation.
    pub fn qualified(&self, letter: char) -> Option<String> {
        let Theme { child, parent, reference, .. } = self;
        let (table, column) = match letter {
            'n' => (child.table, child.name),
            'a' => (child.table, child.numbers.first()?.0),
            'h' => (child.table, child.numbers.get(1)?.0),
            'r' => (child.table, *reference),
            'i' => (parent.table, "id"),
            'm' => (parent.table, parent.name),
            'z' => (parent.table, parent.numbers.first()?.0),
            _ => return None,
        };
        Some(format!("{table}.{column}"))
    }

    /// A number column in words.
    fn in_words(&self, letter: char) -> &'static str {
        match letter {
            'a' => self.child.numbers.first().map_or("", |column| column.1),
            'h' => self.child.numbers.get(1).map_or("", |column| column.1),
            _ => self.parent.numbers.first().map_or("", |column| column.1),
        }
    }
}

/// The script of a database.
fn script(theme: &Theme, random: &mut ChaCha8Rng) -> String {
    let parents = random.random_range(3..=5usize);
    let children = random.random_range(7..=12usize);
    let mut text = String::new();
    let columns = |side: &Side| -> String {
        let numbers: Vec<String> =
            side.numbers.iter().map(|column| format!(", {} INTEGER", column.0)).collect();
        numbers.concat()
    };
    let Theme { child, parent, reference, .. } = theme;
    // Writing to a text cannot fail.
    let _ = writeln!(
        text,
        "CREATE TABLE {} (id INTEGER PRIMARY KEY, {} TEXT{});",
        parent.table,
        parent.name,
        columns(parent)
    );
    let _ = writeln!(
        text,
        "CREATE TABLE {} (id INTEGER PRIMARY KEY, {} TEXT{}, {reference} INTEGER REFERENCES {}(id));",
        child.table,
        child.name,
        columns(child),
        parent.table
    );
    for (side, count) in [(parent, parents), (child, children)] {
        let mut names: Vec<&str> = side.names.to_vec();
        names.shuffle(random);
        let rows: Vec<String> = (0..count)
            .map(|row| {
                let numbers: String = side
                    .numbers
                    .iter()
                    .map(|(_, _, least, most)| format!(", {}", random.random_range(*least..=*most)))
                    .collect();
                let of = match std::ptr::eq(side, child) {
                    true => format!(", {}", random.random_range(1..=parents)),
                    false => String::new(),
                };
                format!("({}, '{}'{numbers}{of})", row + 1, names[row % names.len()])
            })
            .collect();
        let _ = writeln!(text, "INSERT INTO {} VALUES {};", side.table, rows.join(", "));
    }
    text
}

/// A question in words and in compact words, its compact query, and simpler queries that must not give the same result.
struct Draft {
    question: String,
    asked: String,
    query: String,
    simpler: Vec<String>,
}

/// A threshold between the values of a column, in words and signs.
fn threshold(theme: &Theme, letter: char, random: &mut ChaCha8Rng) -> (String, String, String) {
    let (_, _, least, most) = match letter {
        'a' => theme.child.numbers[0],
        'h' => theme.child.numbers[theme.child.numbers.len() - 1],
        _ => theme.parent.numbers[0],
    };
    let value = random.random_range(least + (most - least) / 5..=most - (most - least) / 5);
    let more = random.random_bool(0.5);
    let (word, compact, sign) = if more { ("above", "morethan", '>') } else { ("below", "lessthan", '<') };
    (
        format!("{} {word} {value}", theme.in_words(letter)),
        format!("{letter}{compact}{value}"),
        format!("{letter}{sign}{value}"),
    )
}

fn draft(theme: &Theme, random: &mut ChaCha8Rng) -> Draft {
    let Theme { child, parent, belongs, .. } = theme;
    let (one, many, name) = (child.one, child.many, child.name);
    let letter = *['a', 'h'].choose(random).unwrap_or(&'a');
    let other = if letter == 'a' { 'h' } else { 'a' };
    let words = theme.in_words(letter);
    match random.random_range(0..9u32) {
        0 => {
            let (english, compact, sign) = threshold(theme, letter, random);
            Draft {
                question: format!("List the {name} of every {one} with {english}."),
                asked: format!("n,p:{compact}"),
                query: format!("Sn;Fp;W{sign}"),
                simpler: vec!["Sn;Fp".into()],
            }
        }
        1 => {
            let (english, compact, sign) = threshold(theme, letter, random);
            Draft {
                question: format!("How many {many} have a {english}?"),
                asked: format!("howmanyp:{compact}"),
                query: format!("SN*;Fp;W{sign}"),
                simpler: vec!["SN*;Fp".into()],
            }
        }
        2 => {
            let (word, sign) = *[("average", 'A'), ("highest", 'X'), ("lowest", 'I'), ("total", 'T')]
                .choose(random)
                .unwrap_or(&("average", 'A'));
            let (english, compact, where_sign) = threshold(theme, other, random);
            Draft {
                question: format!("What is the {word} {words} of {many} with {english}?"),
                asked: format!("{sign}{letter},p:{compact}"),
                query: format!("S{sign}{letter};Fp;W{where_sign}"),
                simpler: vec![format!("S{sign}{letter};Fp")],
            }
        }
        3 => {
            let (word, compact, sign) = *[("highest", "more", "-"), ("lowest", "less", "")]
                .choose(random)
                .unwrap_or(&("highest", "more", "-"));
            Draft {
                question: format!("What is the {name} of the {one} with the {word} {words}?"),
                asked: format!("n,p:{compact}{letter}"),
                query: format!("Sn;Fp;O{sign}{letter};L1"),
                simpler: vec!["Sn;Fp;L1".into()],
            }
        }
        4 => Draft {
            question: format!(
                "For each {}, give its {} and the number of {many}; leave out those without any.",
                parent.one, parent.name
            ),
            asked: "m,howmanyp".into(),
            query: "Sm,N*;Fp,c;Gm".into(),
            simpler: vec!["Sm,i;Fc".into()],
        },
        5 => {
            let (english, compact, sign) = threshold(theme, 'z', random);
            Draft {
                question: format!("List the {name} of all {many} {belongs} {} with {english}.", parent.many),
                asked: format!("n,p,c:{compact}"),
                query: format!("Sn;Fp,c;W{sign}"),
                simpler: vec!["Sn;Fp".into()],
            }
        }
        6 => {
            let (english, compact, sign) = threshold(theme, letter, random);
            let (of_parent, compact_parent, sign_parent) = threshold(theme, 'z', random);
            Draft {
                question: format!(
                    "How many {many} with {english} are {} {} with {of_parent}?",
                    belongs.trim_start_matches("who "),
                    parent.many
                )
                .replace(" are live in ", " live in "),
                asked: format!("howmanyp,c:{compact}and{compact_parent}"),
                query: format!("SN*;Fp,c;W{sign},{sign_parent}"),
                simpler: vec![format!("SN*;Fp;W{sign}"), format!("SN*;Fp,c;W{sign_parent}")],
            }
        }
        7 => {
            let (word, compact, sign) = *[("rising", "less", ""), ("falling", "more", "-")]
                .choose(random)
                .unwrap_or(&("rising", "less", ""));
            Draft {
                question: format!("List {name} and {words} of all {many}, in the order of {word} {words}."),
                asked: format!("n,{letter},p:as{compact}{letter}"),
                query: format!("Sn,{letter};Fp;O{sign}{letter}"),
                simpler: vec![format!("Sn,{letter};Fp")],
            }
        }
        _ => Draft {
            question: format!("Which {} has the most {many}? Give its {}.", parent.one, parent.name),
            asked: "m,c:morep".into(),
            query: "Sm;Fp,c;Gm;O-N*;L1".into(),
            simpler: vec!["Sm;Fc;L1".into()],
        },
    }
}

/// A problem from a seed; `None` when the draw is no good question: its result is empty, a simpler query gives the same, or
/// ties leave it open which rows come.
pub(super) fn problem(seed: u64) -> Result<Option<Problem>, TaskError> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let theme = THEMES.choose(&mut random).unwrap_or(&THEMES[0]);
    let script = script(theme, &mut random);
    let Draft { question, asked, query, simpler } = draft(theme, &mut random);
    let Some(gold) = super::compact::expand(&query, theme) else { return Ok(None) };
    let database = SqlDatabase::from_script(theme.child.table, &script, SqlLimits::default())?;
    let result =
        |query: &str| super::compact::expand(query, theme).and_then(|query| database.run(&query).ok());
    let Ok(found) = database.run(&gold) else { return Ok(None) };
    let empty = found.rows.is_empty()
        || found.rows == [[super::guard::SqlValue::Null]]
        || found.rows == [[super::guard::SqlValue::Integer(0)]];
    let ordered = super::equivalence::is_ordered(&gold);
    if empty
        || simpler
            .iter()
            .any(|simple| result(simple).is_none_or(|simple| same_result(&found, &simple, ordered)))
    {
        return Ok(None);
    }
    if ordered && tied(&query, theme, &database) {
        return Ok(None);
    }
    let id = blake3::hash(format!("{script}{gold}").as_bytes()).to_hex()[..16].to_string();
    let schema = database.schema()?;
    let mut problem = Problem::new(id, super::TASK, super::asked(&schema, &question)).with_gold(gold);
    problem.compact = Some(format!("{asked}?"));
    problem.data =
        json!({"theme": theme.child.table, "script": script, "question": question, "query": query});
    Ok(Some(problem))
}

/// Whether rows that have the same place in the order of a query stand where it matters: everywhere in a whole list, at
/// the cut of a limited one.
fn tied(query: &str, theme: &Theme, database: &SqlDatabase) -> bool {
    let by = query.split(';').find_map(|clause| clause.strip_prefix('O')).unwrap_or_default();
    let limited = query.contains(";L");
    let unlimited = query.split(";L").next().unwrap_or(query);
    // The value that is ordered by, row by row.
    let Some((_, rest)) = unlimited.split_once(';') else { return true };
    let keys = format!("S{};{rest}", by.trim_start_matches('-'));
    let Some(rows) = super::compact::expand(&keys, theme).and_then(|query| database.run(&query).ok()) else {
        return true;
    };
    let mut pairs = rows.rows.windows(2);
    if limited {
        pairs.next().is_some_and(|pair| pair[0] == pair[1])
    } else {
        pairs.any(|pair| pair[0] == pair[1])
    }
}
