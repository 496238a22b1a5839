//! Queries in a notation that the embedded model can write: clauses that begin with one capital letter, names of one
//! lower-case letter.
//!
//! | compact | SQL |
//! |---|---|
//! | `Sn,a` | `SELECT name, age`; `S*` all columns |
//! | `Un` | `SELECT DISTINCT name` |
//! | `N*` in a list | `COUNT(*)`; `Aa` `AVG(age)`, `Xa` `MAX(age)`, `Ia` `MIN(age)`, `Ta` `SUM(age)` |
//! | `Fp` | `FROM people`; `Fp,c` joins the two tables over their reference |
//! | `Wa>30,h<9` | `WHERE age > 30 AND height < 9`, with `<`, `>`, `=` and numbers |
//! | `Ga` | `GROUP BY age` |
//! | `Oa`, `O-a` | `ORDER BY age`, `ORDER BY age DESC`; `O-N*` by a count |
//! | `L1` | `LIMIT 1` |
//!
//! Clauses are divided by `;` and stand in the order of SQL: `Sn;Fp,c;Wz>5;O-a;L1`.

use super::generate::Theme;

/// The SQL of a compact query over a theme's tables; `None` when it is not one.
pub fn expand(compact: &str, theme: &Theme) -> Option<String> {
    let mut clauses = compact.trim().split(';').map(str::trim).filter(|clause| !clause.is_empty()).peekable();
    let first = clauses.next()?;
    let (keyword, list) = match first.split_at_checked(1)? {
        ("S", list) => ("SELECT", list),
        ("U", list) => ("SELECT DISTINCT", list),
        _ => return None,
    };
    let items: Vec<String> = match list {
        "*" => vec!["*".to_string()],
        list => list.split(',').map(|item| expression(item, theme)).collect::<Option<_>>()?,
    };
    let tables = clauses.next()?.strip_prefix('F')?;
    let from = match tables {
        "p" => theme.child.table.to_string(),
        "c" => theme.parent.table.to_string(),
        "p,c" | "c,p" => format!(
            "{} JOIN {} ON {} = {}",
            theme.child.table,
            theme.parent.table,
            theme.qualified('r')?,
            theme.qualified('i')?
        ),
        _ => return None,
    };
    let mut query = format!("{keyword} {} FROM {from}", items.join(", "));
    for (letter, keyword) in [('W', "WHERE"), ('G', "GROUP BY"), ('O', "ORDER BY"), ('L', "LIMIT")] {
        let Some(rest) = clauses.peek().and_then(|clause| clause.strip_prefix(letter)) else { continue };
        let text = match letter {
            'W' => {
                rest.split(',').map(|one| condition(one, theme)).collect::<Option<Vec<_>>>()?.join(" AND ")
            }
            'G' => theme.qualified(single(rest)?)?,
            'O' => match rest.strip_prefix('-') {
                Some(column) => format!("{} DESC", expression(column, theme)?),
                None => expression(rest, theme)?,
            },
            _ => number(rest)?.to_string(),
        };
        query.push_str(&format!(" {keyword} {text}"));
        clauses.next();
    }
    clauses.next().is_none().then_some(query)
}

fn single(text: &str) -> Option<char> {
    let mut characters = text.chars();
    let first = characters.next()?;
    characters.next().is_none().then_some(first)
}

fn number(text: &str) -> Option<u64> {
    let digits = (1..=9).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

/// A column, or a function of one.
fn expression(item: &str, theme: &Theme) -> Option<String> {
    if item == "N*" {
        return Some("COUNT(*)".to_string());
    }
    let function = match item.chars().next()? {
        'A' => "AVG",
        'X' => "MAX",
        'I' => "MIN",
        'T' => "SUM",
        _ => return theme.qualified(single(item)?),
    };
    Some(format!("{function}({})", theme.qualified(single(&item[1..])?)?))
}

fn condition(text: &str, theme: &Theme) -> Option<String> {
    let mut characters = text.chars();
    let column = theme.qualified(characters.next()?)?;
    let operator = characters.next().filter(|operator| "<>=".contains(*operator))?;
    Some(format!("{column} {operator} {}", number(characters.as_str())?))
}

#[cfg(test)]
mod tests {
    use super::super::generate::THEMES;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn clauses_become_sql() {
        let theme = &THEMES[0];
        for (compact, wanted) in [
            ("Sn;Fp", "SELECT people.name FROM people"),
            (
                "Sn,a;Fp;Wa>30,h<9",
                "SELECT people.name, people.age FROM people WHERE people.age > 30 AND people.height < 9",
            ),
            ("SN*;Fp", "SELECT COUNT(*) FROM people"),
            ("Um;Fp,c", "SELECT DISTINCT cities.name FROM people JOIN cities ON people.city_id = cities.id"),
            (
                "Sm,N*;Fp,c;Gm;O-N*;L1",
                "SELECT cities.name, COUNT(*) FROM people JOIN cities ON people.city_id = cities.id GROUP BY cities.name \
                 ORDER BY COUNT(*) DESC LIMIT 1",
            ),
            ("S*;Fc;Oz;", "SELECT * FROM cities ORDER BY cities.size"),
            ("SXa,Ih,Ta;Fp", "SELECT MAX(people.age), MIN(people.height), SUM(people.age) FROM people"),
        ] {
            assert_eq!(expand(compact, theme).as_deref(), Some(wanted), "{compact}");
        }
    }

    #[test]
    fn what_is_no_query_is_none() {
        for text in [
            "",
            "S",
            "Sn",
            "Fp",
            "Sq;Fp",
            "Sn;Fx",
            "Sn;Fp;L1;Wa>3",
            "Sn;Fp;Wa!3",
            "Sn;Fp;Wa>x",
            "Sn;Fp;L-1",
            "Sn;Fp;Wa>3;Wa>4",
            "Sn n;Fp",
            "SELECT 1",
            "Sn;Fp;DROP",
            "Sn;Fp;Wa>1;--",
            "Sé;Fp",
            "é",
        ] {
            assert_eq!(expand(text, &THEMES[0]), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_becomes_anything_but_a_select(text in "([SUFWGOLNAXIT*;,<>=0-9a-z-]|\\PC){0,30}") {
            if let Some(query) = expand(&text, &THEMES[1]) {
                prop_assert!(query.starts_with("SELECT ") && !query.contains(';') && !query.contains('\''));
            }
        }
    }
}
