//! Questions with lettered options, from rows of a file.

mod exchange;
mod extract;
mod rows;

pub use exchange::exchanged;
pub use extract::extract_label;
pub use rows::{Rows, read_rows};

use crate::{Split, Task, TaskError};
use elenchus_trace::{Outcome, Problem, Verdict};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Name of the task, in every problem.
pub const TASK: &str = "choice";

/// One line for lists and help.
pub const SUMMARY: &str = "questions with lettered options from a JSONL file";

/// To which split the rows of a file belong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FileSplit {
    /// All rows are for measuring: a benchmark.
    #[default]
    Test,
    /// All rows are for training.
    Train,
    /// 80 / 10 / 10 % by a hash of the question without its options.
    Hash,
}

impl FileSplit {
    /// Whether a row with this content belongs to a split.
    pub fn holds(self, split: Split, content: &str) -> bool {
        match self {
            FileSplit::Test => split == Split::Test,
            FileSplit::Train => split == Split::Train,
            FileSplit::Hash => crate::split_of(content.trim().as_bytes()) == split,
        }
    }
}

/// Settings of the choice task.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ChoiceSettings {
    /// JSONL file of rows `{"id", "question", "choices", "answer"}`; gzip is understood.
    pub path: String,
    /// To which split its rows belong.
    pub split: FileSplit,
    /// Pass over lines that are no rows.
    pub skip_bad_lines: bool,
}

impl ChoiceSettings {
    /// Reads settings.
    ///
    /// # Errors
    /// The field that is unknown or has the wrong type; a missing path.
    pub fn from_value(value: &Value) -> Result<Self, TaskError> {
        let settings: Self = crate::settings::overlay(&ChoiceSettings::default(), value)?;
        if settings.path.is_empty() {
            return Err(TaskError::Setting {
                field: "path".to_string(),
                problem: "is missing".to_string(),
                hint: "name a JSONL file of rows {\"id\", \"question\", \"choices\", \"answer\"}".to_string(),
            });
        }
        Ok(settings)
    }
}

/// Lettered questions.
#[derive(Debug, Clone)]
pub struct Choice {
    source: String,
    split: FileSplit,
    rows: Rows,
}

impl Choice {
    /// The task over a file.
    ///
    /// # Errors
    /// The file cannot be read or has a broken line.
    pub fn open(settings: &ChoiceSettings) -> Result<Self, TaskError> {
        let text = crate::file::read_text(std::path::Path::new(&settings.path))?;
        Choice::from_text(&text, &settings.path, settings.split, settings.skip_bad_lines)
    }

    /// The task over JSON lines; `source` names them in errors.
    ///
    /// # Errors
    /// A broken line.
    pub fn from_text(
        text: &str,
        source: &str,
        split: FileSplit,
        skip_bad_lines: bool,
    ) -> Result<Self, TaskError> {
        let rows = read_rows(text, source, TASK, skip_bad_lines)?;
        Ok(Choice { source: source.to_string(), split, rows })
    }

    /// All rows in the order of the file.
    pub fn rows(&self) -> &Rows {
        &self.rows
    }
}

fn same_question(problem: &Problem) -> &str {
    let options: usize =
        problem.options.iter().map(|option| option.label.len() + option.text.trim().len() + 3).sum();
    problem.question.get(..problem.question.len().saturating_sub(options)).unwrap_or(&problem.question)
}

impl Task for Choice {
    fn name(&self) -> &'static str {
        TASK
    }

    fn summary(&self) -> &'static str {
        SUMMARY
    }

    fn problems(&self, split: Split, count: usize, seed: u64) -> Result<Vec<Problem>, TaskError> {
        let mut seen = std::collections::HashSet::new();
        let mut problems: Vec<&Problem> = self
            .rows
            .problems
            .iter()
            .filter(|problem| self.split.holds(split, same_question(problem)))
            .filter(|problem| seen.insert(&problem.question))
            .collect();
        if problems.len() < count {
            return Err(TaskError::File {
                path: self.source.clone(),
                problem: format!("has {} different rows in this split, {count} are wanted", problems.len()),
                hint: "ask for fewer problems, or set `split` (`test`, `train`, `hash`)".to_string(),
            });
        }
        problems.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        Ok(problems.into_iter().take(count).cloned().collect())
    }

    fn extract(&self, problem: &Problem, response: &str) -> Option<String> {
        extract_label(&problem.options, response)
    }

    fn equivalent(&self, problem: &Problem, left: &str, right: &str) -> bool {
        let label = |answer: &str| {
            let known =
                |option: &&elenchus_trace::ChoiceOption| option.label.eq_ignore_ascii_case(answer.trim());
            match problem.options.iter().find(known) {
                Some(option) => option.label.clone(),
                None => extract_label(&problem.options, answer).unwrap_or_else(|| answer.trim().to_string()),
            }
        };
        label(left) == label(right)
    }

    fn verify(&self, problem: &Problem, response: &str) -> Result<Verdict, TaskError> {
        let gold = problem.gold.as_deref().filter(|_| !problem.options.is_empty()).ok_or_else(|| {
            TaskError::Problem {
                id: problem.id.clone(),
                problem: "has no options or no reference label".to_string(),
                hint: "choice problems carry `options` and a label in `gold`".to_string(),
            }
        })?;
        let answer = self.extract(problem, response);
        let (outcome, reason) = match &answer {
            None => (Outcome::NoAnswer, Some("the response names no single option".to_string())),
            Some(answer) if self.equivalent(problem, answer, gold) => (Outcome::Correct, None),
            Some(answer) => (Outcome::Wrong, Some(format!("chose {answer}, the answer is {gold}"))),
        };
        Ok(Verdict { outcome, answer, steps: Vec::new(), reason })
    }

    fn reference(&self, problem: &Problem) -> Option<String> {
        problem.gold.as_ref().map(|gold| format!("#{gold}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use elenchus_trace::ChoiceOption;

    const ROWS: &str = concat!(
        "{\"id\":1,\"question\":\"Where?\",\"choices\":{\"A\":\"bank\",\"B\":\"mall\"},\"answer\":\"B\"}\n",
        "\n",
        "{\"question\":\"When?\",\"choices\":[\"05/01/2021\",\"02/23/2021\"],\"answer\":\"02/23/2021\"}\n",
        "{\"question\":\"How?\",\"options\":[\"A)5\",\"B)6\",\"C)7\"],\"correct\":\"C\"}\n",
    );

    #[test]
    fn rows_of_all_shapes_are_read() {
        let task = Choice::from_text(ROWS, "rows", FileSplit::Test, false).unwrap();
        let problems = &task.rows().problems;
        assert_eq!(problems[0].question, "Where?\nA) bank\nB) mall");
        assert_eq!(same_question(&problems[0]), "Where?");
        let golds: Vec<_> = problems.iter().map(|problem| problem.gold.as_deref().unwrap()).collect();
        assert_eq!(golds, ["B", "B", "C"]);
        assert_eq!(problems[2].options[2].text, "7");
        assert!(task.verify(&problems[1], "The answer is 02/23/2021.").unwrap().is_correct());
        assert_eq!(task.verify(&problems[1], "(A)").unwrap().outcome, Outcome::Wrong);
        assert_eq!(task.verify(&problems[1], "Who knows").unwrap().outcome, Outcome::NoAnswer);
        assert!(task.equivalent(&problems[2], "7", "C") && !task.equivalent(&problems[2], "A", "C"));
        assert_eq!(task.problems(Split::Test, 3, 1).unwrap().len(), 3);
    }

    #[test]
    fn errors_name_file_and_line() {
        for (line, what) in [
            ("{\"question\":", "line 4: is not JSON"),
            ("{\"question\":\"x\"}", "line 4: has no `choices`"),
            ("{\"question\":\"x\",\"choices\":[\"a\"],\"answer\":\"A\"}", "line 4: has 1 choices"),
            ("{\"question\":\"x\",\"choices\":[\"a\",\"b\"],\"answer\":\"C\"}", "none of the options"),
            ("{\"question\":\"x\",\"choices\":3,\"answer\":\"C\"}", "`choices`"),
        ] {
            let text = ROWS.replace("{\"question\":\"How", &format!("{line}\n{{\"question\":\"How"));
            let error =
                Choice::from_text(&text, "file.jsonl", FileSplit::Test, false).unwrap_err().to_string();
            assert!(
                error.contains("file.jsonl") && error.contains(what) && error.contains("hint: "),
                "{error}"
            );
            let skipped = Choice::from_text(&text, "file.jsonl", FileSplit::Test, true).unwrap();
            assert_eq!((skipped.rows().skipped.as_slice(), skipped.rows().problems.len()), (&[4][..], 3));
        }
        assert!(
            Choice::from_text("", "empty", FileSplit::Test, false)
                .unwrap_err()
                .to_string()
                .contains("no rows")
        );
        let task = Choice::from_text(ROWS, "rows", FileSplit::Test, false).unwrap();
        let error = task.problems(Split::Test, 9, 1).unwrap_err().to_string();
        assert!(error.contains("has 3 different rows"), "{error}");
        let missing = ChoiceSettings { path: "no/such/file.jsonl".to_string(), ..Default::default() };
        let error = Choice::open(&missing).unwrap_err().to_string();
        assert!(error.contains("no/such/file.jsonl") && error.contains("hint: "), "{error}");
        let error =
            ChoiceSettings::from_value(&serde_json::json!({"split": "hash"})).unwrap_err().to_string();
        assert!(error.contains("`path`"), "{error}");
    }

    fn shared(name: &str) -> Option<String> {
        let path = format!("{}/../../../shared/data/{name}", env!("CARGO_MANIFEST_DIR"));
        match crate::file::read_text(std::path::Path::new(&path)) {
            Ok(text) => Some(text),
            Err(error) => {
                eprintln!("skipped: {error}");
                None
            }
        }
    }

    #[test]
    fn benchmarks_load_and_their_own_answers_verify() {
        for (name, count) in [
            ("arc_challenge/test.jsonl.gz", 1172),
            ("commonsenseqa/dev.jsonl", 1221),
            ("date_understanding/test.jsonl", 369),
            ("mmlu/test_20_per_subject.jsonl.gz", 1140),
            ("aqua/test.jsonl", 254),
        ] {
            let Some(text) = shared(name) else { continue };
            let task = Choice::from_text(&text, name, FileSplit::Hash, false).unwrap();
            let problems = &task.rows().problems;
            assert_eq!(problems.len(), count, "{name}");
            let mut by_text = 0;
            for problem in problems {
                let gold = problem.gold.as_deref().unwrap();
                for response in [
                    format!("The answer is ({gold})."),
                    format!("Answer: {gold}"),
                    format!("Thinking.\n\\boxed{{{gold}}}"),
                    format!("{gold}."),
                ] {
                    assert!(
                        task.verify(problem, &response).unwrap().is_correct(),
                        "{name} {problem:?} {response}"
                    );
                }
                let option = problem.options.iter().find(|option| option.label == gold).unwrap();
                let response = format!("The answer is {}.", option.text.trim_end_matches('.'));
                by_text += usize::from(task.verify(problem, &response).unwrap().is_correct());
            }
            // Options that read the same, or begin like a label, cannot be told apart by their text.
            assert!(by_text as f64 >= 0.97 * count as f64, "{name}: {by_text} of {count} answered by text");
            let parts = [Split::Train, Split::Validation, Split::Test].map(|split| {
                problems.iter().filter(|problem| task.split.holds(split, same_question(problem))).count()
            });
            assert_eq!(parts.iter().sum::<usize>(), count);
            assert!(parts[0] > count * 7 / 10 && parts[2] > count / 25, "{name}: {parts:?}");
        }
    }

    /// Recorded outputs of a real model; the recorded letter was extracted by its authors with a looser rule.
    #[test]
    fn letters_of_recorded_outputs_agree() {
        for name in [
            "aqua_zero_shot.jsonl",
            "aqua_zero_shot_cot.jsonl",
            "commonsensqa_zero_shot.jsonl",
            "commonsensqa_zero_shot_cot.jsonl.gz",
        ] {
            let Some(text) = shared(&format!("rec_zero_shot_cot_davinci/{name}")) else { continue };
            let (mut agree, mut all, mut left_open) = (0, 0, 0);
            for line in text.lines() {
                let row: Value = serde_json::from_str(line).unwrap();
                let question = row["question"].as_str().unwrap();
                let (Some((_, choices)), Some(recorded)) = (
                    question.split_once("Answer Choices:"),
                    row["answer"].as_str().filter(|a| !a.is_empty()),
                ) else {
                    continue;
                };
                let places: Vec<(usize, String)> = ["A", "B", "C", "D", "E"]
                    .iter()
                    .filter_map(|label| Some((choices.find(&format!("({label})"))?, label.to_string())))
                    .collect();
                let options: Vec<ChoiceOption> = places
                    .iter()
                    .enumerate()
                    .map(|(index, (place, label))| {
                        let end = places.get(index + 1).map_or(choices.len(), |next| next.0.max(place + 3));
                        ChoiceOption {
                            label: label.clone(),
                            text: choices[place + 3..end].trim().to_string(),
                        }
                    })
                    .collect();
                // The records are cut; only a text that still ends with its answer can be read.
                let text = row["text"].as_str().unwrap();
                let raw = row["raw_answer"].as_str().unwrap().trim();
                if raw.is_empty() || !text.trim_end().ends_with(raw) {
                    continue;
                }
                // "C or E": the authors took the first letter; we say that nothing was chosen.
                if raw.contains(" or ") || raw.contains(" and ") {
                    left_open += 1;
                    continue;
                }
                all += 1;
                let found = extract_label(&options, text);
                if found.as_deref() == Some(recorded) {
                    agree += 1;
                } else {
                    eprintln!("{name}: recorded {recorded}, found {found:?} in the end of: {raw}");
                }
            }
            eprintln!("{name}: {agree} of {all} agree, {left_open} more leave it open");
            assert!(all > 100 && f64::from(agree) >= 0.99 * f64::from(all), "{name}: {agree} of {all} agree");
        }
    }
}
