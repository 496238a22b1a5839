//! The task over problem files.

use super::{MathError, Options, Relation, equivalent, extract};
use crate::{Split, Task, TaskError};
use elenchus_trace::{Outcome, Problem, Step, Verdict};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// Fields that may hold the question, in order of preference.
const QUESTION_FIELDS: [&str; 3] = ["question", "problem", "input"];
/// Fields that may hold the reference answer, in order of preference. A solution counts by the answer in it.
const ANSWER_FIELDS: [&str; 4] = ["answer", "target", "gold", "solution"];
/// Fields that may hold an identifier.
const ID_FIELDS: [&str; 3] = ["id", "unique_id", "task_id"];
/// Fields that are kept in the problem's data.
const KEPT_FIELDS: [&str; 4] = ["level", "subject", "type", "solution"];

/// How the problems of a file are divided.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Default,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Division {
    /// By a hash of the question: 80 % train, 10 % validation, 10 % test. For files to train on.
    #[default]
    ByHash,
    /// The whole file is for measuring: every problem is of the test part, the other parts are empty.
    Benchmark,
}

/// Mathematical problems from a JSONL file (GSM8K, MATH and kin), verified by the equivalence of answers.
///
/// A row has a question (`question`, `problem` or `input`) and an answer (`answer`, `target`, `gold`, or a `solution`
/// that holds it: behind `####` or in `\boxed{}`); `id`, `level`, `subject` and `type` are kept where present.
/// Which rows a split gives is decided by [`Division`].
#[derive(Debug, Clone)]
pub struct MathTask {
    source: String,
    problems: Vec<Problem>,
    division: Division,
    options: Options,
    /// Numbers of the lines that were left out, from 1.
    skipped: Vec<usize>,
}

/// The problem of a line.
fn problem(
    source: &str,
    line_number: usize,
    line: &str,
    options: &Options,
    seen: &mut HashSet<String>,
) -> Result<Problem, MathError> {
    let fail = |field: &'static str, problem: String, hint: &str| MathError::Row {
        file: source.into(),
        line: line_number,
        field,
        problem,
        hint: hint.into(),
    };
    let row: Map<String, Value> = serde_json::from_str(line)
        .map_err(|e| fail("(line)", format!("is not a JSON object: {e}"), "write one JSON object a line"))?;
    let question = text_of(&row, &QUESTION_FIELDS).ok_or_else(|| {
        let hint = "put the question as text into `question`, `problem` or `input`";
        fail("question", "has no text".into(), hint)
    })?;
    let written = text_of(&row, &ANSWER_FIELDS).ok_or_else(|| {
        let hint =
            "put the answer into `answer`, `target` or `gold`, or a solution that holds it into `solution`";
        fail("answer", "has no text".into(), hint)
    })?;
    let answer = gold(&written, is_solution(&row), options).ok_or_else(|| {
        fail("answer", "holds no answer".into(), "end a solution with `#### answer` or `\\boxed{answer}`")
    })?;
    let id = text_of(&row, &ID_FIELDS)
        .unwrap_or_else(|| blake3::hash(question.as_bytes()).to_hex()[..16].to_string());
    if !seen.insert(id.clone()) {
        let hint = "give every row an identifier of its own, or none at all when no question stands twice";
        return Err(fail("id", format!("`{id}` stands on an earlier line too"), hint));
    }
    let mut problem = Problem::new(id, "math", question).with_gold(answer);
    let kept: Map<String, Value> =
        KEPT_FIELDS.iter().filter_map(|f| row.get(*f).map(|v| ((*f).to_string(), v.clone()))).collect();
    if !kept.is_empty() {
        problem.data = Value::Object(kept);
    }
    Ok(problem)
}

impl MathTask {
    /// Reads problems; `source` is the name that errors give the input.
    pub fn from_reader(source: &str, reader: impl BufRead) -> Result<MathTask, MathError> {
        MathTask::read(source, reader, false)
    }

    /// Reads problems; with `skip_bad_lines`, lines that are no problem are left out and counted.
    pub fn read(source: &str, reader: impl BufRead, skip_bad_lines: bool) -> Result<MathTask, MathError> {
        let options = Options { scientific: true, ..Options::default() };
        let (mut problems, mut skipped) = (Vec::new(), Vec::new());
        let mut seen = HashSet::new();
        for (index, line) in reader.lines().enumerate() {
            let number = index + 1;
            let line = match line {
                Ok(line) if line.trim().is_empty() => continue,
                Ok(line) => line,
                // A line that is no text.
                Err(error) if skip_bad_lines && error.kind() == std::io::ErrorKind::InvalidData => {
                    skipped.push(number);
                    continue;
                }
                Err(source_error) => {
                    return Err(MathError::Read { file: source.into(), line: number, source: source_error });
                }
            };
            match problem(source, number, &line, &options, &mut seen) {
                Ok(problem) => problems.push(problem),
                Err(_) if skip_bad_lines => skipped.push(number),
                Err(error) => return Err(error),
            }
        }
        Ok(MathTask { source: source.into(), problems, skipped, division: Division::default(), options })
    }

    /// Reads a problem file.
    pub fn from_path(path: impl AsRef<Path>) -> Result<MathTask, MathError> {
        MathTask::read_path(path, false)
    }

    /// Reads a problem file; with `skip_bad_lines`, lines that are no problem are left out and counted.
    pub fn read_path(path: impl AsRef<Path>, skip_bad_lines: bool) -> Result<MathTask, MathError> {
        let name = path.as_ref().display().to_string();
        let file = std::fs::File::open(path.as_ref()).map_err(|e| MathError::Read {
            file: name.clone(),
            line: 0,
            source: e,
        })?;
        MathTask::read(&name, BufReader::new(file), skip_bad_lines)
    }

    /// The same problems, divided another way.
    pub fn with_division(mut self, division: Division) -> MathTask {
        self.division = division;
        self
    }

    /// The same problems, with answers found and compared another way.
    pub fn with_options(mut self, options: Options) -> MathTask {
        self.options = options;
        self
    }

    /// All problems, in the order of the file.
    pub fn all(&self) -> &[Problem] {
        &self.problems
    }

    /// Numbers of the lines that were left out, from 1.
    pub fn skipped(&self) -> &[usize] {
        &self.skipped
    }

    fn part(&self, problem: &Problem) -> Split {
        match self.division {
            Division::Benchmark => Split::Test,
            Division::ByHash => {
                let hash = blake3::hash(problem.question.trim().as_bytes());
                match hash.as_bytes()[0] as u32 * 256 + hash.as_bytes()[1] as u32 {
                    n if n < 52_429 => Split::Train,
                    n if n < 58_982 => Split::Validation,
                    _ => Split::Test,
                }
            }
        }
    }
}

fn text_of(row: &Map<String, Value>, fields: &[&str]) -> Option<String> {
    fields.iter().find_map(|field| match row.get(*field)? {
        Value::String(text) if !text.trim().is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Array(list) if list.len() == 1 => list[0].as_str().map(String::from),
        _ => None,
    })
}

/// Whether the reference stands in `solution` alone; an answer of its own, however long, is no solution.
fn is_solution(row: &Map<String, Value>) -> bool {
    text_of(row, &ANSWER_FIELDS[..3]).is_none()
}

/// The reference answer in what was written: all of a short answer, the marked part of a solution.
fn gold(written: &str, solution: bool, options: &Options) -> Option<String> {
    if !solution && !written.contains("####") && !written.contains("\\boxed") {
        return Some(written.trim().to_string());
    }
    if solution && !written.contains("####") && !written.contains("\\boxed") && written.len() < 60 {
        return Some(written.trim().to_string());
    }
    if written.contains("####") || written.contains("\\boxed") {
        extract(written, options).map(|e| e.text)
    } else {
        None
    }
}

/// The value of a text that is nothing but a whole number of few digits.
fn whole_number(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = (1..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

impl Task for MathTask {
    fn name(&self) -> &'static str {
        "math"
    }

    fn summary(&self) -> &'static str {
        "Mathematical problems from a JSONL file, verified by the equivalence of answers"
    }

    fn problems(&self, split: Split, count: usize, seed: u64) -> Result<Vec<Problem>, TaskError> {
        let mut chosen: Vec<&Problem> = self.problems.iter().filter(|p| self.part(p) == split).collect();
        if chosen.len() < count {
            return Err(TaskError::Setting {
                field: "count".into(),
                problem: format!(
                    "asks for {count} problems, but the {split:?} part of `{}` has {}",
                    self.source,
                    chosen.len()
                ),
                hint: match self.division {
                    Division::Benchmark => "ask for fewer; a benchmark file has only a test part".into(),
                    Division::ByHash => "ask for fewer, or read a longer file".into(),
                },
            });
        }
        chosen.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        Ok(chosen.into_iter().take(count).cloned().collect())
    }

    fn extract(&self, _problem: &Problem, response: &str) -> Option<String> {
        extract(response, &self.options).map(|e| e.text)
    }

    fn equivalent(&self, _problem: &Problem, left: &str, right: &str) -> bool {
        // A vote compares every new answer with those before it; most are whole numbers, and reading both costs 6 µs.
        if self.options.bare
            && let (Some(left), Some(right)) = (whole_number(left), whole_number(right))
        {
            return left == right;
        }
        equivalent(left, right, &self.options).relation == Relation::Equivalent
    }

    fn verify(&self, problem: &Problem, response: &str) -> Result<Verdict, TaskError> {
        let Some(gold) = &problem.gold else {
            return Err(TaskError::Problem {
                id: problem.id.clone(),
                problem: "has no reference answer".into(),
                hint: "give it `gold`".into(),
            });
        };
        let answer = extract(response, &self.options).map(|e| e.text);
        let found = equivalent(gold, response, &self.options);
        let outcome = match (&answer, found.relation) {
            (None, _) => Outcome::NoAnswer,
            (_, Relation::Equivalent) => Outcome::Correct,
            _ => Outcome::Wrong,
        };
        Ok(Verdict { outcome, answer, steps: Vec::new(), reason: Some(found.reason.into_owned()) })
    }

    /// The lines of the response that are not empty.
    fn steps(&self, _problem: &Problem, response: &str) -> Vec<Step> {
        let mut start = 0;
        let mut out = Vec::new();
        for line in response.split_inclusive('\n') {
            let text = line.trim();
            if !text.is_empty() {
                let lead = line.len() - line.trim_start().len();
                let from = start + lead;
                out.push(Step { text: text.to_string(), start: from, end: from + text.len() });
            }
            start += line.len();
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r##"{"question": "How many?", "answer": "He has 3*4=12.\n#### 1,012"}
{"problem": "What is $x$?", "solution": "So $x=\\boxed{\\frac{1}{2}}$.", "level": 3, "subject": "Algebra"}

{"input": "And now?", "target": 7}
"##;

    fn task() -> MathTask {
        MathTask::from_reader("file.jsonl", FILE.as_bytes()).unwrap()
    }

    #[test]
    fn rows_of_the_known_forms_are_read() {
        let task = task();
        let golds: Vec<_> = task.all().iter().map(|p| p.gold.clone().unwrap()).collect();
        assert_eq!(golds, ["1012", r"\frac{1}{2}", "7"]);
        assert_eq!(task.all()[1].data["subject"], "Algebra");
    }

    #[test]
    fn a_recorded_solution_beside_the_answer_is_kept_and_the_answer_is_taken_whole() {
        let row = r#"{"id": 3, "question": "Which?", "gold": "the set of all whole numbers that are even and larger than ten", "solution": "12 is one.", "correct": false}"#;
        let task = MathTask::from_reader("f", row.as_bytes()).unwrap();
        let problem = &task.all()[0];
        let whole = "the set of all whole numbers that are even and larger than ten";
        assert_eq!(problem.gold.as_deref(), Some(whole));
        assert_eq!(problem.data["solution"], "12 is one.");
    }

    #[test]
    fn whole_numbers_compare_as_the_whole_comparison_does() {
        let task = task();
        let texts = [
            "0",
            "-0",
            "00",
            "7",
            "-7",
            "007",
            "12",
            "1012",
            "999999999999999",
            "999999999999998",
            "- 7",
            "+7",
        ];
        for left in texts {
            for right in texts {
                let whole = equivalent(left, right, &task.options).relation == Relation::Equivalent;
                assert_eq!(task.equivalent(&task.all()[0], left, right), whole, "{left} {right}");
            }
        }
        assert_eq!(
            (whole_number("-"), whole_number(""), whole_number("1.0"), whole_number("٣")),
            (None, None, None, None)
        );
    }

    #[test]
    fn a_response_is_verified() {
        let task = task();
        let outcome = |i: usize, text: &str| task.verify(&task.all()[i], text).unwrap().outcome;
        assert_eq!(outcome(0, "12 and then more.\n#### 1012"), Outcome::Correct);
        assert_eq!(outcome(1, "Therefore the answer is 0.5."), Outcome::Correct);
        assert_eq!(outcome(1, r"so $\boxed{\frac{1}{3}}$"), Outcome::Wrong);
        assert_eq!(outcome(2, ""), Outcome::NoAnswer);
    }

    #[test]
    fn errors_name_file_line_and_field() {
        for (text, field) in
            [("{\"answer\": 1}", "question"), ("{\"question\": \"a\"}", "answer"), ("nonsense", "(line)")]
        {
            let file = format!("{{\"question\": \"q\", \"answer\": \"1\"}}\n{text}\n");
            let message = MathTask::from_reader("f.jsonl", file.as_bytes()).unwrap_err().to_string();
            assert!(message.contains("`f.jsonl`, line 2") && message.contains(field), "{message}");
            assert!(message.contains("\nhint: "), "{message}");
        }
    }

    #[test]
    fn a_benchmark_is_all_test_and_a_hash_divides() {
        let text: String =
            (0..2000).map(|i| format!("{{\"question\": \"q{i}\", \"answer\": {i}}}\n")).collect();
        let task = MathTask::from_reader("f", text.as_bytes()).unwrap();
        let sizes: Vec<usize> = [Split::Train, Split::Validation, Split::Test]
            .into_iter()
            .map(|s| task.all().iter().filter(|p| task.part(p) == s).count())
            .collect();
        assert_eq!(sizes.iter().sum::<usize>(), 2000);
        assert!((1500..1700).contains(&sizes[0]) && sizes[1] > 120 && sizes[2] > 120, "{sizes:?}");
        let benchmark = task.with_division(Division::Benchmark);
        assert_eq!(benchmark.problems(Split::Test, 2000, 1).unwrap().len(), 2000);
        let message = benchmark.problems(Split::Train, 1, 1).unwrap_err().to_string();
        assert!(message.contains("has 0") && message.contains("hint"), "{message}");
        let (a, b) =
            (benchmark.problems(Split::Test, 5, 7).unwrap(), benchmark.problems(Split::Test, 5, 7).unwrap());
        assert_eq!(a, b, "same seed, same problems");
    }
}
