//! How compositions are written: `a then b`, `best of a, b by judge`, `a else b`, or the same as JSON.
//!
//! | text | JSON |
//! |---|---|
//! | `a@5` | `{"recipe": "a", "samples": 5, "settings": {…}}` |
//! | `a then b` | `{"then": ["a", "b"]}` |
//! | `best of a, b by judge` | `{"best_of": ["a", "b"], "by": "judge", "by_settings": {…}}` |
//! | `a else b` | `{"else": ["a", "b"]}` |
//!
//! `then` binds closer than `else`; parentheses group. `plain` asks the question as it stands, once.

use crate::{BestOf, ControlError, Member, Otherwise, Strategy, Then};
use elenchus_trace::nearest;
use serde_json::{Map, Value, json};
use std::fmt;
use std::sync::Arc;

/// Strategies of one composition at most; bounds what one request can start.
const MOST_PARTS: usize = 16;
/// Deepest nesting.
const MOST_DEPTH: usize = 8;
/// Asks the question as it stands.
const PLAIN: &str = "plain";
/// Who chooses when nobody is named.
const JUDGE: &str = "judge";
/// The word before the evaluator that chooses, and the name of its settings.
pub const BY: &str = "by";
/// How the files of recipes end; their names are taken as they are.
pub const RECIPE_FILE: &str = ".toml";

/// A strategy or a recipe with settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// Settings that win over its own.
    pub settings: Map<String, Value>,
}

/// A composition as it was written.
#[derive(Debug, Clone, PartialEq)]
pub enum Composition {
    /// One strategy or recipe.
    Part(Part),
    /// One after the other.
    Then(Vec<Composition>),
    /// The best of several.
    BestOf {
        /// Who answers.
        of: Vec<Composition>,
        /// The evaluator that chooses.
        by: String,
        /// Its settings.
        by_settings: Value,
    },
    /// One in the place of another that failed.
    Else(Vec<Composition>),
}

fn wrong(problem: impl Into<String>) -> ControlError {
    let hint = "write `a then b`, `best of a, b by judge`, `a else b`, with parentheses where needed";
    ControlError::setting("composition", "recipe", problem, hint)
}

impl Composition {
    /// Whether a text is more than one name.
    pub fn is_composed(text: &str) -> bool {
        text.contains(['@', '(', ',']) || text.split_whitespace().count() > 1
    }

    /// Reads the text form.
    ///
    /// # Errors
    /// [`ControlError::Setting`] with the word that does not fit.
    pub fn parse(text: &str) -> Result<Self, ControlError> {
        let mut parser = Parser { words: words(text), at: 0, parts: 0 };
        let whole = parser.alternative(0)?;
        match parser.peek() {
            None => Ok(whole),
            Some(word) => Err(wrong(format!("`{word}` does not fit behind `{whole}`"))),
        }
    }

    /// Reads the text or the JSON form.
    ///
    /// # Errors
    /// [`ControlError::Setting`] with what does not fit.
    pub fn read(value: &Value) -> Result<Self, ControlError> {
        let made = Self::read_at(value, 0)?;
        if made.parts().len() > MOST_PARTS {
            return Err(wrong(format!("there are more than {MOST_PARTS} strategies")));
        }
        Ok(made)
    }

    fn read_at(value: &Value, depth: usize) -> Result<Self, ControlError> {
        if depth > MOST_DEPTH {
            return Err(wrong(format!("it is nested deeper than {MOST_DEPTH} levels")));
        }
        let fields = match value {
            Value::String(text) => return Self::parse(text),
            Value::Object(fields) => fields,
            _ => return Err(wrong("it is neither a text nor an object")),
        };
        let list = |name: &str| -> Result<Vec<Composition>, ControlError> {
            let items = fields.get(name).and_then(Value::as_array);
            let items = items.ok_or_else(|| wrong(format!("`{name}` is no list")))?;
            items.iter().map(|item| Self::read_at(item, depth + 1)).collect()
        };
        let (made, known): (Composition, &[&str]) = if fields.contains_key("then") {
            (Composition::Then(list("then")?), &["then"])
        } else if fields.contains_key("else") {
            (Composition::Else(list("else")?), &["else"])
        } else if fields.contains_key("best_of") {
            let by = fields
                .get("by")
                .map_or(Some(JUDGE), Value::as_str)
                .ok_or_else(|| wrong("`by` is no text"))?;
            let by_settings = fields.get("by_settings").cloned().unwrap_or(Value::Null);
            let made = Composition::BestOf { of: list("best_of")?, by: by.into(), by_settings };
            (made, &["best_of", "by", "by_settings"])
        } else {
            let name = fields
                .get("recipe")
                .and_then(Value::as_str)
                .ok_or_else(|| wrong("a part names no `recipe`"))?;
            let mut part = Part { name: normal(name), settings: Map::new() };
            match fields.get("settings") {
                None | Some(Value::Null) => {}
                Some(Value::Object(settings)) => part.settings.clone_from(settings),
                Some(_) => return Err(wrong("`settings` is no object")),
            }
            if let Some(samples) = fields.get("samples") {
                part.settings.insert("samples".into(), samples.clone());
            }
            (Composition::Part(part), &["recipe", "samples", "settings"])
        };
        match fields.keys().find(|name| !known.contains(&name.as_str())) {
            None => Ok(made),
            Some(name) => Err(wrong(format!("the field `{name}` does not belong to {known:?}"))),
        }
    }

    /// Its strategies and recipes, in order.
    pub fn parts(&self) -> Vec<&Part> {
        match self {
            Composition::Part(part) => vec![part],
            Composition::Then(list) | Composition::Else(list) | Composition::BestOf { of: list, .. } => {
                list.iter().flat_map(Composition::parts).collect()
            }
        }
    }

    fn each(&mut self, change: &mut dyn FnMut(&mut Part)) {
        match self {
            Composition::Part(part) => change(part),
            Composition::Then(list) | Composition::Else(list) | Composition::BestOf { of: list, .. } => {
                list.iter_mut().for_each(|one| one.each(change));
            }
        }
    }

    /// With settings: of a single part as they are, of several by the name of the part,
    /// `{"self-consistency": {"samples": 3}}`, and those of the evaluator that chooses as `{"by": {…}}`. One that is given
    /// in the composition wins.
    ///
    /// # Errors
    /// [`ControlError::Setting`] for a name that is no part of it.
    pub fn with_settings(mut self, settings: &Map<String, Value>) -> Result<Self, ControlError> {
        if let Composition::Part(part) = &mut self {
            for (field, value) in settings {
                part.settings.entry(field.clone()).or_insert_with(|| value.clone());
            }
            return Ok(self);
        }
        for (name, value) in settings {
            let name = normal(name);
            let names: Vec<String> = self.parts().iter().map(|part| part.name.clone()).collect();
            let Value::Object(fields) = value else {
                let problem = format!("`{name}` has no settings of its own");
                let hint =
                    format!("name the part: `{}.{name}`", names.first().map_or("part", String::as_str));
                return Err(ControlError::setting("composition", &name, problem, hint));
            };
            if name == BY && self.choosers() > 0 {
                self.each_chooser(&mut |settings| {
                    let mut all = fields.clone();
                    all.extend(settings.as_object().cloned().unwrap_or_default());
                    *settings = Value::Object(all);
                });
                continue;
            }
            if !names.contains(&name) {
                let hint = nearest(&name, names.iter().map(String::as_str));
                return Err(ControlError::setting(
                    "composition",
                    &name,
                    "it is no part of the composition",
                    hint,
                ));
            }
            self.each(&mut |part| {
                if part.name == name {
                    for (field, value) in fields {
                        part.settings.entry(field.clone()).or_insert_with(|| value.clone());
                    }
                }
            });
        }
        Ok(self)
    }

    /// How many evaluators choose in it.
    pub fn choosers(&self) -> usize {
        match self {
            Composition::Part(_) => 0,
            Composition::Then(list) | Composition::Else(list) => list.iter().map(Composition::choosers).sum(),
            Composition::BestOf { of, .. } => 1 + of.iter().map(Composition::choosers).sum::<usize>(),
        }
    }

    fn each_chooser(&mut self, change: &mut dyn FnMut(&mut Value)) {
        match self {
            Composition::Part(_) => {}
            Composition::Then(list) | Composition::Else(list) => {
                list.iter_mut().for_each(|one| one.each_chooser(change));
            }
            Composition::BestOf { of, by_settings, .. } => {
                change(by_settings);
                of.iter_mut().for_each(|one| one.each_chooser(change));
            }
        }
    }

    /// With a setting for every part that does not say it itself.
    pub fn with_default(mut self, field: &str, value: &Value) -> Self {
        self.each(&mut |part| {
            part.settings.entry(field.to_string()).or_insert_with(|| value.clone());
        });
        self
    }

    /// The strategy; `make` makes its parts, except `plain`.
    ///
    /// # Errors
    /// What `make` says; [`ControlError::Setting`] where parts do not go together.
    pub fn build<E: From<ControlError>>(
        &self,
        make: &dyn Fn(&Part) -> Result<Arc<dyn Strategy>, E>,
    ) -> Result<Arc<dyn Strategy>, E> {
        let members = |list: &[Composition]| -> Result<Vec<Member>, E> {
            list.iter().map(|one| Ok(Member { label: one.to_string(), strategy: one.build(make)? })).collect()
        };
        Ok(match self {
            Composition::Part(part) if part.name == PLAIN => {
                let mut settings = part.settings.clone();
                settings.insert("skill".into(), json!("asked"));
                crate::strategy("single", Value::Object(settings))?
            }
            Composition::Part(part) => make(part)?,
            Composition::Then(list) => Arc::new(Then::new(members(list)?)?),
            Composition::BestOf { of, by, by_settings } => {
                Arc::new(BestOf::new(members(of)?, by, by_settings.clone())?)
            }
            Composition::Else(list) => Arc::new(Otherwise::new(members(list)?)?),
        })
    }
}

impl fmt::Display for Composition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = |one: &Composition| match one {
            Composition::Part(_) => one.to_string(),
            group => format!("({group})"),
        };
        let joined = |list: &[Composition], by: &str| list.iter().map(inner).collect::<Vec<_>>().join(by);
        match self {
            Composition::Part(part) => match part.settings.get("samples") {
                Some(samples) => write!(formatter, "{}@{samples}", part.name),
                None => formatter.write_str(&part.name),
            },
            Composition::Then(list) => formatter.write_str(&joined(list, " then ")),
            Composition::Else(list) => formatter.write_str(&joined(list, " else ")),
            Composition::BestOf { of, by, .. } => write!(formatter, "best of {} by {by}", joined(of, ", ")),
        }
    }
}

fn normal(name: &str) -> String {
    let name = name.trim();
    if name.ends_with(RECIPE_FILE) { name.to_string() } else { name.replace('_', "-") }
}

/// Words, with signs as words of their own.
fn words(text: &str) -> Vec<String> {
    let mut spaced = text.to_string();
    for sign in ["(", ")", ","] {
        spaced = spaced.replace(sign, &format!(" {sign} "));
    }
    spaced.split_whitespace().map(str::to_string).collect()
}

const KEYWORDS: [&str; 8] = ["then", "else", "best", "of", BY, "(", ")", ","];

struct Parser {
    words: Vec<String>,
    at: usize,
    parts: usize,
}

impl Parser {
    fn peek(&self) -> Option<&str> {
        self.words.get(self.at).map(String::as_str)
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.peek() == Some(word);
        self.at += usize::from(found);
        found
    }

    fn alternative(&mut self, depth: usize) -> Result<Composition, ControlError> {
        let mut list = vec![self.sequence(depth)?];
        while self.take("else") {
            list.push(self.sequence(depth)?);
        }
        Ok(if list.len() == 1 { list.remove(0) } else { Composition::Else(list) })
    }

    fn sequence(&mut self, depth: usize) -> Result<Composition, ControlError> {
        let mut list = vec![self.one(depth)?];
        while self.take("then") {
            list.push(self.one(depth)?);
        }
        Ok(if list.len() == 1 { list.remove(0) } else { Composition::Then(list) })
    }

    fn one(&mut self, depth: usize) -> Result<Composition, ControlError> {
        if depth > MOST_DEPTH {
            return Err(wrong(format!("it is nested deeper than {MOST_DEPTH} levels")));
        }
        if self.take("(") {
            let inside = self.alternative(depth + 1)?;
            return if self.take(")") {
                Ok(inside)
            } else {
                Err(wrong(format!("`)` is missing behind `{inside}`")))
            };
        }
        if self.peek() == Some("best") && self.words.get(self.at + 1).is_some_and(|word| word == "of") {
            self.at += 2;
            let mut of = vec![self.one(depth + 1)?];
            while self.take(",") {
                of.push(self.one(depth + 1)?);
            }
            let by = match self.take(BY) {
                false => JUDGE.to_string(),
                true => self.name("an evaluator")?,
            };
            return Ok(Composition::BestOf { of, by, by_settings: Value::Null });
        }
        let name = self.name("a strategy or recipe")?;
        self.parts += 1;
        if self.parts > MOST_PARTS {
            return Err(wrong(format!("there are more than {MOST_PARTS} strategies")));
        }
        let mut settings = Map::new();
        let name = match name.split_once('@') {
            None => name,
            Some((name, count)) => {
                let count: u64 =
                    count.parse().map_err(|_| wrong(format!("`@{count}` is no number of samples")))?;
                settings.insert("samples".into(), count.into());
                name.to_string()
            }
        };
        Ok(Composition::Part(Part { name: normal(&name), settings }))
    }

    fn name(&mut self, what: &str) -> Result<String, ControlError> {
        match self.words.get(self.at) {
            Some(word) if !KEYWORDS.contains(&word.as_str()) => {
                self.at += 1;
                Ok(word.clone())
            }
            Some(word) => Err(wrong(format!("`{word}` stands where {what} should"))),
            None => Err(wrong(format!("it ends where {what} should stand"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        Composition::parse(text).unwrap().to_string()
    }

    #[test]
    fn texts_and_json_mean_the_same() {
        for (text, value) in [
            ("gsa", json!("gsa")),
            ("self_consistency@5", json!({"recipe": "self-consistency", "samples": 5})),
            ("a then b then c", json!({"then": ["a", "b", "c"]})),
            ("a then b else plain", json!({"else": [{"then": ["a", "b"]}, "plain"]})),
            ("best of a, (b then c) by judge", json!({"best_of": ["a", {"then": ["b", "c"]}]})),
            ("best of a,b by certainty", json!({"best_of": ["a", "b"], "by": "certainty"})),
            ("(a else b) then c", json!({"then": [{"else": ["a", "b"]}, "c"]})),
        ] {
            let (parsed, read) = (Composition::parse(text).unwrap(), Composition::read(&value).unwrap());
            assert_eq!(parsed, read, "{text}");
            assert_eq!(
                Composition::parse(&parsed.to_string()).unwrap(),
                parsed,
                "{text}: written and read again"
            );
        }
        assert_eq!(shown("a then b else c"), "(a then b) else c");
        assert!(Composition::is_composed("a then b") && Composition::is_composed("a@3"));
        assert!(!Composition::is_composed("self-consistency"));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        for (text, said) in [
            ("a then", "ends"),
            ("then b", "`then` stands"),
            ("a b", "`b` does not fit"),
            ("(a then b", "`)` is missing"),
            ("a@many", "`@many`"),
            ("best of a by", "ends"),
            ("best of", "ends"),
            ("", "ends"),
        ] {
            let error = Composition::parse(text).unwrap_err().to_string();
            assert!(error.contains(said) && error.contains("hint:"), "{text}: {error}");
        }
        let deep = "(".repeat(100) + "a" + &")".repeat(100);
        assert!(Composition::parse(&deep).unwrap_err().to_string().contains("nested"));
        let long = vec!["a"; 17].join(" else ");
        assert!(Composition::parse(&long).unwrap_err().to_string().contains("more than 16"));
        for value in [
            json!(3),
            json!({"than": ["a", "b"]}),
            json!({"then": "a"}),
            json!({"then": ["a", "b"], "by": "x"}),
        ] {
            assert!(Composition::read(&value).is_err(), "{value}");
        }
    }

    #[test]
    fn settings_belong_to_parts() {
        let settings = json!({"a": {"samples": 3, "temperature": 1}});
        let made =
            Composition::parse("a@5 then b").unwrap().with_settings(settings.as_object().unwrap()).unwrap();
        let parts = made.parts();
        assert_eq!(Value::Object(parts[0].settings.clone()), json!({"samples": 5, "temperature": 1}));
        assert!(parts[1].settings.is_empty());
        for settings in [json!({"samples": 3}), json!({"c": {}})] {
            let error = Composition::parse("a then b").unwrap().with_settings(settings.as_object().unwrap());
            assert!(error.unwrap_err().to_string().contains("hint:"));
        }
        let settings = json!({"by": {"reading": "sample"}, "a": {"samples": 3}});
        let made = Composition::parse("best of a, b by judge").unwrap();
        let made = made.with_settings(settings.as_object().unwrap()).unwrap();
        assert_eq!(
            made,
            Composition::read(&json!({
                "best_of": [{"recipe": "a", "samples": 3}, "b"], "by_settings": {"reading": "sample"}
            }))
            .unwrap()
        );
        let nobody = json!({"by": {"reading": "sample"}});
        let error = Composition::parse("a then b").unwrap().with_settings(nobody.as_object().unwrap());
        assert!(error.unwrap_err().to_string().contains("`by`"), "nobody chooses there");
        let error =
            crate::strategy("self-consistency then self-consistency", Value::Null).err().unwrap().to_string();
        assert!(error.contains("critique-and-refine"), "who can is named: {error}");
    }
}
