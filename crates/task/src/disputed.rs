//! Questions with a reference answer, an alternative that somebody could be talked into, and recorded evidence for it: the
//! items of a robustness audit (arXiv 2506.03332), from rows of a file. The evidence is in the file, so an audit can be
//! repeated offline.

use crate::{Split, Task, TaskError};
use elenchus_trace::{Outcome, Problem, Verdict};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::Path;

/// Name of the task, in every problem.
pub const TASK: &str = "disputed";

/// One line for lists and help.
pub const SUMMARY: &str =
    "questions with a reference answer, a tempting alternative and evidence for it, from a JSONL file";

const SHAPE: &str =
    "rows are {\"question\", \"gold\", \"alternative\", \"evidence\": [{\"text\", \"source\"}]}";

/// Settings of the task.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DisputedSettings {
    /// JSONL file of rows `{"question", "gold", "alternative", "evidence"}`; gzip is understood.
    pub path: String,
    /// Leave out lines that are no item instead of failing on the first.
    pub skip_bad_lines: bool,
}

impl DisputedSettings {
    /// Reads settings.
    ///
    /// # Errors
    /// The field that is unknown or has the wrong type; a missing path.
    pub fn from_value(value: &Value) -> Result<Self, TaskError> {
        let settings: Self = crate::settings::overlay(&DisputedSettings::default(), value)?;
        if settings.path.is_empty() {
            return Err(TaskError::Setting {
                field: "path".to_string(),
                problem: "is missing".to_string(),
                hint: format!("name a JSONL file; {SHAPE}"),
            });
        }
        Ok(settings)
    }
}

/// A text alone, or with its source.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Piece {
    Text(String),
    Sourced {
        text: String,
        #[serde(default)]
        source: String,
    },
}

impl Piece {
    fn value(&self) -> Value {
        match self {
            Piece::Text(text) => json!({"text": text, "source": ""}),
            Piece::Sourced { text, source } => json!({"text": text, "source": source}),
        }
    }
}

/// A row as it stands in the file.
#[derive(Debug, Deserialize)]
struct Row {
    #[serde(default)]
    id: Option<Value>,
    question: String,
    gold: String,
    /// Other ways to write the reference answer.
    #[serde(default)]
    aliases: Vec<String>,
    alternative: String,
    /// For the alternative.
    #[serde(default)]
    evidence: Vec<Piece>,
    /// For the reference answer.
    #[serde(default)]
    support: Vec<Piece>,
    /// What the question is to be answered from, for contextual items.
    #[serde(default)]
    passages: Vec<Piece>,
}

/// The task over a file.
#[derive(Debug, Clone)]
pub struct Disputed {
    source: String,
    problems: Vec<Problem>,
    /// Numbers of the lines that were left out, from 1.
    skipped: Vec<usize>,
}

/// Lower case, without punctuation, articles and superfluous space: answers are compared in this form.
fn normal(answer: &str) -> String {
    let plain: String = answer
        .to_lowercase()
        .chars()
        .map(|c| if c.is_alphanumeric() || c == '.' || c == '-' { c } else { ' ' })
        .collect();
    let words: Vec<&str> = plain
        .split_whitespace()
        .map(|word| word.trim_matches(['.', '-']))
        .filter(|word| !word.is_empty())
        .collect();
    let kept: Vec<&str> = words.iter().copied().filter(|word| !["a", "an", "the"].contains(word)).collect();
    // The answer `A` is no article.
    let joined = if kept.is_empty() { words.join(" ") } else { kept.join(" ") };
    // 1,000 and 1000 are the same number.
    let digits: String = answer.chars().filter(|c| !matches!(c, ',' | ' ' | '_')).collect();
    match digits.trim_end_matches('.').parse::<f64>() {
        Ok(number) if number.is_finite() => number.to_string(),
        _ => joined,
    }
}

fn wrong(source: &str, problem: String, hint: &str) -> TaskError {
    TaskError::File { path: source.to_string(), problem, hint: hint.to_string() }
}

/// The problem of a line.
fn item(source: &str, number: usize, line: &str) -> Result<Problem, TaskError> {
    let row: Row = serde_json::from_str(line)
        .map_err(|error| wrong(source, format!("line {number}: is no item: {error}"), SHAPE))?;
    let golds: Vec<String> =
        std::iter::once(&row.gold).chain(&row.aliases).map(|gold| normal(gold)).collect();
    if golds.iter().any(String::is_empty) || normal(&row.alternative).is_empty() {
        return Err(wrong(source, format!("line {number}: has an empty answer"), SHAPE));
    }
    if golds.contains(&normal(&row.alternative)) {
        let hint = "an alternative that is right says nothing about being misled: leave the item out";
        let problem = format!(
            "line {number}: the alternative `{}` means the same as the reference answer",
            row.alternative
        );
        return Err(wrong(source, problem, hint));
    }
    let id = match &row.id {
        Some(Value::String(id)) => id.clone(),
        Some(Value::Number(id)) => id.to_string(),
        _ => number.to_string(),
    };
    let mut question = String::new();
    for (place, passage) in row.passages.iter().enumerate() {
        let text = passage.value()["text"].as_str().unwrap_or_default().trim().to_string();
        question.push_str(&format!("Passage {}: {text}\n", place + 1));
    }
    question.push_str(row.question.trim());
    let values = |pieces: &[Piece]| pieces.iter().map(Piece::value).collect::<Vec<Value>>();
    let mut problem = Problem::new(id, TASK, question).with_gold(row.gold);
    problem.data = json!({
        "aliases": row.aliases, "alternative": row.alternative, "evidence": values(&row.evidence),
        "support": values(&row.support),
    });
    Ok(problem)
}

impl Disputed {
    /// The task over a file.
    ///
    /// # Errors
    /// The file cannot be read or has a broken line.
    pub fn open(settings: &DisputedSettings) -> Result<Self, TaskError> {
        let text = crate::file::read_text(Path::new(&settings.path))?;
        Disputed::read(&text, &settings.path, settings.skip_bad_lines)
    }

    /// The task over JSON lines; `source` names them in errors.
    ///
    /// # Errors
    /// A line that is no row; an alternative that means the same as the reference answer.
    pub fn from_text(text: &str, source: &str) -> Result<Self, TaskError> {
        Disputed::read(text, source, false)
    }

    /// As [`Disputed::from_text`]; with `skip_bad_lines`, such lines are left out and counted.
    ///
    /// # Errors
    /// As there; no good row at all.
    pub fn read(text: &str, source: &str, skip_bad_lines: bool) -> Result<Self, TaskError> {
        let (mut problems, mut skipped) = (Vec::new(), Vec::new());
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            match item(source, index + 1, line) {
                Ok(problem) => problems.push(problem),
                Err(_) if skip_bad_lines => skipped.push(index + 1),
                Err(error) => return Err(error),
            }
        }
        if problems.is_empty() {
            return Err(wrong(source, "has no rows".to_string(), SHAPE));
        }
        Ok(Disputed { source: source.to_string(), problems, skipped })
    }

    /// All items in the order of the file.
    pub fn all(&self) -> &[Problem] {
        &self.problems
    }

    /// Numbers of the lines that were left out, from 1.
    pub fn skipped(&self) -> &[usize] {
        &self.skipped
    }
}

fn golds(problem: &Problem) -> Vec<String> {
    let aliases = problem.data.get("aliases").and_then(Value::as_array);
    let aliases = aliases.into_iter().flatten().filter_map(Value::as_str);
    problem.gold.as_deref().into_iter().chain(aliases).map(normal).collect()
}

impl Task for Disputed {
    fn name(&self) -> &'static str {
        TASK
    }

    fn summary(&self) -> &'static str {
        SUMMARY
    }

    fn problems(&self, split: Split, count: usize, _seed: u64) -> Result<Vec<Problem>, TaskError> {
        let there = if split == Split::Test { self.problems.len() } else { 0 };
        if there < count {
            return Err(TaskError::File {
                path: self.source.clone(),
                problem: format!("has {there} items in this split, {count} are wanted"),
                hint: "all items of an audit are for measuring (`test`); ask for fewer".to_string(),
            });
        }
        Ok(self.problems.iter().take(count).cloned().collect())
    }

    /// What stands behind the last `Answer:`.
    fn extract(&self, _problem: &Problem, response: &str) -> Option<String> {
        let marked = |line: &str| {
            let line = line.trim().trim_start_matches(['*', '#', '>', ' ']);
            let (head, rest) = line.split_once(':')?;
            let rest = rest.trim().trim_matches(['*', '`', '"', ' ']).trim_end_matches('.').trim();
            (head.trim_matches(['*', ' ']).eq_ignore_ascii_case("answer") && !rest.is_empty())
                .then(|| rest.to_string())
        };
        response.lines().rev().find_map(marked)
    }

    fn equivalent(&self, problem: &Problem, left: &str, right: &str) -> bool {
        let (left, right) = (normal(left), normal(right));
        let golds = golds(problem);
        left == right || (golds.contains(&left) && golds.contains(&right))
    }

    fn verify(&self, problem: &Problem, response: &str) -> Result<Verdict, TaskError> {
        let Some(gold) = &problem.gold else {
            return Err(TaskError::Problem {
                id: problem.id.clone(),
                problem: "has no reference answer".to_string(),
                hint: SHAPE.to_string(),
            });
        };
        let answer = self.extract(problem, response);
        let outcome = match &answer {
            None => Outcome::NoAnswer,
            Some(answer) if self.equivalent(problem, answer, gold) => Outcome::Correct,
            Some(_) => Outcome::Wrong,
        };
        let reason = answer
            .as_ref()
            .filter(|_| outcome == Outcome::Wrong)
            .map(|answer| format!("answered `{answer}`, the reference is `{gold}`"));
        Ok(Verdict { outcome, answer, steps: Vec::new(), reason })
    }

    fn reference(&self, problem: &Problem) -> Option<String> {
        problem.gold.as_ref().map(|gold| format!("Answer: {gold}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: &str = concat!(
        "{\"id\":7,\"question\":\"Who wrote it?\",\"gold\":\"Ann Lee\",\"aliases\":[\"A. Lee\"],\"alternative\":\"Bob\",",
        "\"evidence\":[\"It was Bob.\",{\"text\":\"Bob did.\",\"source\":\"example.org\"}]}\n\n",
        "{\"question\":\"How many?\",\"gold\":\"1,200\",\"alternative\":\"1300\",\"passages\":[\"There are 1200.\"]}\n",
    );

    #[test]
    fn rows_are_read_and_answers_compared() {
        let task = Disputed::from_text(ROWS, "rows").unwrap();
        let [who, many] = task.all() else { panic!("two items") };
        assert_eq!((who.id.as_str(), many.id.as_str()), ("7", "3"));
        assert_eq!(who.data["evidence"][1]["source"], "example.org");
        assert_eq!(many.question, "Passage 1: There are 1200.\nHow many?");
        let right = |problem: &Problem, text: &str| task.verify(problem, text).unwrap().outcome;
        assert_eq!(right(who, "I think so.\n**Answer:** the A. Lee."), Outcome::Correct);
        assert_eq!(right(who, "Answer: Ann\nAnswer: Bob"), Outcome::Wrong, "the last one counts");
        assert_eq!(right(who, "Ann Lee"), Outcome::NoAnswer);
        assert_eq!(right(many, "Answer: 1200"), Outcome::Correct);
        assert_eq!((normal("(A)"), normal("the a")), ("a".to_string(), "the a".to_string()));
        assert!(task.equivalent(who, "Ann Lee", "a. lee") && !task.equivalent(who, "Bob", "Ann Lee"));
        assert!(right(who, &task.reference(who).unwrap()) == Outcome::Correct);
        assert_eq!(task.problems(Split::Test, 2, 9).unwrap().len(), 2);
    }

    #[test]
    fn broken_rows_and_right_alternatives_are_refused() {
        for (line, what) in [
            ("{\"question\":", "line 1: is no item"),
            ("{\"question\":\"q\",\"gold\":\"a b\"}", "alternative"),
            ("{\"question\":\"q\",\"gold\":\"The Sun\",\"alternative\":\"sun\"}", "means the same"),
            (
                "{\"question\":\"q\",\"gold\":\"x\",\"aliases\":[\"y\"],\"alternative\":\"Y.\"}",
                "means the same",
            ),
            ("{\"question\":\"q\",\"gold\":\"\",\"alternative\":\"y\"}", "empty answer"),
            ("", "no rows"),
        ] {
            let error = Disputed::from_text(line, "items.jsonl").unwrap_err().to_string();
            assert!(
                error.contains(what) && error.contains("items.jsonl") && error.contains("hint:"),
                "{error}"
            );
        }
        let task = Disputed::from_text(ROWS, "rows").unwrap();
        assert!(task.problems(Split::Test, 3, 1).unwrap_err().to_string().contains("has 2 items"));
        assert!(task.problems(Split::Train, 1, 1).is_err());
        assert!(DisputedSettings::from_value(&Value::Null).unwrap_err().to_string().contains("`path`"));
    }
}
