//! When two results say the same: execution accuracy as Spider's test suite means it (arXiv 2010.02840).
//!
//! - Rows are a multiset. Their order counts only when the reference query orders its own result (an `ORDER BY` outside of
//!   parentheses).
//! - Columns may stand in another order, the same for all rows; names of columns do not matter.
//! - Numbers are compared by value, whole or not, up to 9 significant digits: sums over another order of rows differ in
//!   the last bits. A number is never equal to a text, `2014` not to `'2014'`. NULL equals NULL. Texts are compared as they
//!   are, case included.

use super::guard::{SqlRows, SqlValue};
use std::collections::HashMap;

/// Rearrangements of columns that are tried at most; beyond, results count as different.
const MOST_TRIES: usize = 20_000;

/// Whether a query orders its own result.
pub fn is_ordered(query: &str) -> bool {
    let mut depth = 0usize;
    let mut words: Vec<String> = Vec::new();
    let mut word = String::new();
    let mut characters = query.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\'' | '"' | '`' | '[' => {
                let close = if character == '[' { ']' } else { character };
                for next in characters.by_ref() {
                    if next == close {
                        break;
                    }
                }
            }
            '-' if characters.peek() == Some(&'-') => {
                for next in characters.by_ref() {
                    if next == '\n' {
                        break;
                    }
                }
            }
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ if depth == 0 && (character.is_alphanumeric() || character == '_') => {
                word.extend(character.to_lowercase());
                continue;
            }
            _ => {}
        }
        if !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
    }
    words.push(word);
    words.windows(2).any(|pair| pair[0] == "order" && pair[1] == "by")
}

/// A value in a form in which equal means the same.
fn key(value: &SqlValue) -> String {
    match value {
        SqlValue::Null => "null".to_string(),
        SqlValue::Integer(value) => number(*value as f64, Some(*value)),
        SqlValue::Real(value) => number(*value, None),
        SqlValue::Text(text) => format!("t{text}"),
        SqlValue::Blob(blob) => format!("b{blob:?}"),
    }
}

fn number(value: f64, exact: Option<i64>) -> String {
    // Whole numbers that a float holds exactly are written the same way from either type; larger ones keep all digits.
    let whole = value.fract() == 0.0 && value.abs() < 1e15;
    match exact {
        _ if value == 0.0 => "n0".to_string(),
        Some(exact) if !whole => format!("n{exact}"),
        _ if whole && value.abs() < 1e9 => format!("n{}", value as i64),
        Some(exact) => format!("n{exact}"),
        None if whole => format!("n{}", value as i64),
        None => format!("n{value:.8e}"),
    }
}

/// Whether two results are the same; see the module.
pub fn same_result(left: &SqlRows, right: &SqlRows, ordered: bool) -> bool {
    let width = left.columns.len();
    if left.rows.len() != right.rows.len() || width != right.columns.len() {
        return false;
    }
    if left.rows.is_empty() {
        return true;
    }
    let keys = |rows: &SqlRows| -> Vec<Vec<String>> {
        rows.rows.iter().map(|row| row.iter().map(key).collect()).collect()
    };
    let (left, right) = (keys(left), keys(right));
    // Only columns with the same values can stand for each other.
    let columns = |rows: &[Vec<String>]| -> Vec<Vec<String>> {
        (0..width)
            .map(|column| {
                let mut values: Vec<String> = rows.iter().map(|row| row[column].clone()).collect();
                if !ordered {
                    values.sort_unstable();
                }
                values
            })
            .collect()
    };
    let (of_left, of_right) = (columns(&left), columns(&right));
    let choices: Vec<Vec<usize>> = of_left
        .iter()
        .map(|values| (0..width).filter(|&column| of_right[column] == *values).collect())
        .collect();
    let mut search = Search { left: &left, right: &right, ordered, choices: &choices, tries: 0 };
    search.from(&mut Vec::with_capacity(width))
}

struct Search<'a> {
    left: &'a [Vec<String>],
    right: &'a [Vec<String>],
    ordered: bool,
    choices: &'a [Vec<usize>],
    tries: usize,
}

impl Search<'_> {
    /// Whether some order of the right columns that begins with `taken` makes the rows equal.
    fn from(&mut self, taken: &mut Vec<usize>) -> bool {
        if taken.len() == self.choices.len() {
            self.tries += 1;
            return self.equal(taken);
        }
        for &column in &self.choices[taken.len()] {
            if self.tries >= MOST_TRIES {
                return false;
            }
            if taken.contains(&column) {
                continue;
            }
            taken.push(column);
            if self.from(taken) {
                return true;
            }
            taken.pop();
        }
        false
    }

    fn equal(&self, order: &[usize]) -> bool {
        let moved =
            |row: &'_ [String]| -> Vec<String> { order.iter().map(|&column| row[column].clone()).collect() };
        if self.ordered {
            return self.left.iter().zip(self.right).all(|(left, right)| *left == moved(right));
        }
        let mut counts: HashMap<Vec<String>, i64> = HashMap::with_capacity(self.left.len());
        for row in self.left {
            *counts.entry(row.clone()).or_default() += 1;
        }
        for row in self.right {
            *counts.entry(moved(row)).or_default() -= 1;
        }
        counts.values().all(|count| *count == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rows(rows: &[&[SqlValue]]) -> SqlRows {
        let width = rows.first().map_or(0, |row| row.len());
        SqlRows {
            columns: (0..width).map(|column| format!("c{column}")).collect(),
            rows: rows.iter().map(|row| row.to_vec()).collect(),
        }
    }

    fn n(value: i64) -> SqlValue {
        SqlValue::Integer(value)
    }

    fn t(text: &str) -> SqlValue {
        SqlValue::Text(text.into())
    }

    #[test]
    fn rows_are_a_multiset_unless_the_query_orders_them() {
        let (one, other) = (rows(&[&[n(1)], &[n(2)], &[n(2)]]), rows(&[&[n(2)], &[n(1)], &[n(2)]]));
        assert!(same_result(&one, &other, false));
        assert!(!same_result(&one, &other, true));
        assert!(
            !same_result(&one, &rows(&[&[n(1)], &[n(1)], &[n(2)]]), false),
            "how often a row comes matters"
        );
        assert!(!same_result(&one, &rows(&[&[n(1)], &[n(2)]]), false));
    }

    #[test]
    fn columns_may_stand_in_another_order_but_rows_stay_together() {
        let one = rows(&[&[n(1), t("x")], &[n(2), t("y")]]);
        assert!(same_result(&one, &rows(&[&[t("y"), n(2)], &[t("x"), n(1)]]), false));
        assert!(
            !same_result(&one, &rows(&[&[t("y"), n(1)], &[t("x"), n(2)]]), false),
            "the columns agree, the rows do not"
        );
        assert!(!same_result(&one, &rows(&[&[n(1)], &[n(2)]]), false));
        // Both columns hold the same values: either may stand for either.
        let twice = rows(&[&[n(1), n(2)], &[n(2), n(1)], &[n(3), n(3)]]);
        assert!(same_result(&twice, &rows(&[&[n(2), n(1)], &[n(1), n(2)], &[n(3), n(3)]]), true));
        assert!(!same_result(&twice, &rows(&[&[n(1), n(1)], &[n(2), n(2)], &[n(3), n(3)]]), false));
    }

    #[test]
    fn numbers_are_compared_by_value_and_never_with_texts() {
        let same =
            |left: SqlValue, right: SqlValue| same_result(&rows(&[&[left]]), &rows(&[&[right]]), false);
        assert!(same(n(5), SqlValue::Real(5.0)) && same(SqlValue::Real(0.1 + 0.2), SqlValue::Real(0.3)));
        assert!(same(SqlValue::Real(-0.0), n(0)) && same(SqlValue::Null, SqlValue::Null));
        assert!(!same(n(2014), t("2014")) && !same(SqlValue::Null, n(0)) && !same(t("a"), t("A")));
        assert!(!same(SqlValue::Real(5.0001), n(5)) && !same(n(i64::MAX), n(i64::MAX - 1)));
        assert!(!same(t("null"), SqlValue::Null));
    }

    #[test]
    fn empty_results_of_the_same_width_are_equal() {
        let empty = |width: usize| SqlRows { columns: vec![String::new(); width], rows: Vec::new() };
        assert!(same_result(&empty(2), &empty(2), true) && !same_result(&empty(2), &empty(1), false));
    }

    #[test]
    fn only_an_order_of_the_result_itself_counts() {
        for (query, ordered) in [
            ("SELECT a FROM t ORDER BY a", true),
            ("select a from t order  by a desc limit 1", true),
            ("SELECT a FROM (SELECT a FROM t ORDER BY b LIMIT 3)", false),
            ("SELECT a FROM t WHERE b = 'order by'", false),
            ("SELECT \"order by\" FROM t", false),
            ("SELECT a FROM t -- ORDER BY a", false),
            ("SELECT a FROM t WHERE a IN (SELECT b FROM u) ORDER BY a", true),
            ("SELECT order_by FROM t", false),
            ("", false),
        ] {
            assert_eq!(is_ordered(query), ordered, "{query}");
        }
    }

    proptest! {
        #[test]
        fn any_order_of_rows_and_columns_is_the_same_result(
            values in prop::collection::vec(prop::collection::vec(0i64..3, 3), 1..7), turn in 0usize..6, swap in 0usize..3,
        ) {
            let table: Vec<Vec<SqlValue>> =
                values.iter().map(|row| row.iter().map(|value| n(*value)).collect()).collect();
            let columns = vec![String::new(); 3];
            let one = SqlRows { columns: columns.clone(), rows: table.clone() };
            let mut moved = table;
            let turned = turn % moved.len();
            moved.rotate_left(turned);
            for row in &mut moved {
                row.swap(0, swap);
            }
            let other = SqlRows { columns, rows: moved };
            prop_assert!(same_result(&one, &other, false));
            prop_assert!(same_result(&other, &one, false));
        }
    }
}
