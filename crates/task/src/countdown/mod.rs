//! Countdown: combine numbers with `+ - * /` to reach a target, each number exactly once.

pub mod expression;
pub mod habits;
pub mod solver;

pub use expression::{Expression, ExpressionError, Rational};
pub use habits::{HabitCounts, Habits, SearchTrace, count_habits, search_trace};
pub use solver::{solutions, solve};

use crate::arithmetic::chain::Operator;
use crate::{Recheck, Split, Task, TaskError};
use elenchus_trace::{Outcome, Problem, Step, StepVerdict, Verdict};
use habits::Event;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::HashSet;

/// Name of the task, in every problem.
pub const TASK: &str = "countdown";

/// One line for lists and help.
pub const SUMMARY: &str = "reach a target from 3 to 6 numbers with + - * /, each number exactly once";

/// Settings of the countdown task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CountdownSettings {
    /// Fewest and most numbers, from 3 to 6.
    pub numbers: [usize; 2],
    /// Numbers lie in 1 to this.
    pub largest_number: i64,
    /// Smallest and largest target.
    pub target: [i64; 2],
    /// What the reference solution in the compact notation shows; by default none of the habits, one path only.
    pub habits: Habits,
}

impl Default for CountdownSettings {
    /// 3 or 4 numbers of 1 to 15, target 10 to 50: few enough facts for a small model to learn.
    fn default() -> Self {
        CountdownSettings {
            numbers: [3, 4],
            largest_number: 15,
            target: [10, 50],
            habits: Habits {
                verification: false,
                backtracking: false,
                subgoals: false,
                backward_chaining: false,
                ..Habits::default()
            },
        }
    }
}

impl CountdownSettings {
    /// Reads settings; absent fields have their defaults.
    ///
    /// # Errors
    /// The field that is unknown, has the wrong type, or is out of range.
    pub fn from_value(value: &Value) -> Result<Self, TaskError> {
        let settings: Self = crate::settings::overlay(&CountdownSettings::default(), value)?;
        settings.check()?;
        Ok(settings)
    }

    /// Whether all settings are in range.
    ///
    /// # Errors
    /// The first one that is not.
    pub fn check(&self) -> Result<(), TaskError> {
        let setting = |field: &str, problem: String, hint: &str| {
            Err(TaskError::Setting { field: field.to_string(), problem, hint: hint.to_string() })
        };
        let [fewest, most] = self.numbers;
        if fewest < 3 || most > 6 || fewest > most {
            return setting("numbers", format!("is {fewest} to {most}"), "use [fewest, most] within 3 to 6");
        }
        if !(2..=999).contains(&self.largest_number) {
            return setting("largest_number", format!("is {}", self.largest_number), "use 2 to 999");
        }
        let [smallest, largest] = self.target;
        if smallest < 1 || smallest > largest || largest > 99_999 {
            return setting(
                "target",
                format!("is {smallest} to {largest}"),
                "use [smallest, largest] within 1 to 99999",
            );
        }
        // Otherwise no draw would ever fit.
        if smallest > self.largest_number * self.largest_number {
            return setting(
                "target",
                format!("starts at {smallest}, which numbers up to {} hardly reach", self.largest_number),
                "lower the target or raise `largest_number`",
            );
        }
        if self.habits.incorrect {
            return setting(
                "habits",
                "asks for incorrect reference solutions".to_string(),
                "make incorrect traces with `search_trace`, not as a reference",
            );
        }
        Ok(())
    }
}

/// Why an answer is not a solution.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Not an expression, or one without a value.
    #[error("`{text}`: {error}")]
    Expression {
        /// The answer.
        text: String,
        /// What is wrong with it.
        error: ExpressionError,
    },
    /// Not exactly the given numbers.
    #[error("uses {used:?}, not each of {given:?} exactly once")]
    Numbers {
        /// The numbers in the expression, sorted.
        used: Vec<i64>,
        /// The given numbers, sorted.
        given: Vec<i64>,
    },
    /// Another value.
    #[error("has the value {value}, not {target}")]
    Value {
        /// The value.
        value: String,
        /// The target.
        target: i64,
    },
}

/// Checks an answer exactly: each number once, value equal to the target.
///
/// # Errors
/// The first [`Fault`] found.
pub fn check(numbers: &[i64], target: i64, answer: &str) -> Result<(), Fault> {
    let wrong = |error: ExpressionError| Fault::Expression { text: answer.chars().take(80).collect(), error };
    let expression = Expression::parse(answer).map_err(wrong)?;
    let mut used = expression.numbers();
    used.sort_unstable();
    let mut given = numbers.to_vec();
    given.sort_unstable();
    if used != given {
        return Err(Fault::Numbers { used, given });
    }
    let value = expression.value().map_err(wrong)?;
    if value != Rational::from_integer(i128::from(target)) {
        return Err(Fault::Value { value: value.to_string(), target });
    }
    Ok(())
}

/// The reward of arXiv 2503.01307: the last `<answer>` of the last line counts; none gives 0, an answer that is not a
/// solution 0.1, a solution 1.
pub fn tagged_reward(numbers: &[i64], target: i64, response: &str) -> f64 {
    let behind = response.rsplit_once("Assistant:").map_or(response, |(_, behind)| behind);
    let line = behind.lines().next_back().unwrap_or("");
    match tagged(line) {
        None => 0.0,
        Some(answer) if check(numbers, target, answer).is_ok() => 1.0,
        Some(_) => 0.1,
    }
}

fn tagged(text: &str) -> Option<&str> {
    let (_, behind) = text.rsplit_once("<answer>")?;
    behind.split_once("</answer>").map(|(answer, _)| answer.trim())
}

/// The answer of a response as written: of `<answer>…</answer>`, `\boxed{…}`, `#…` and `Answer: …` the first kind
/// that is there, its last occurrence; a trailing `= value` is dropped.
fn answer_text(response: &str) -> Option<&str> {
    let line = |text: &'_ str| -> usize { text.find('\n').unwrap_or(text.len()) };
    let boxed = || {
        let inside = &response[response.rfind("\\boxed{")? + 7..];
        inside.find('}').map(|end| &inside[..end])
    };
    let marked = || {
        let rest = &response[response.rfind('#')? + 1..];
        Some(&rest[..line(rest)])
    };
    let said = || {
        let bytes = response.as_bytes();
        let place = (0..bytes.len().saturating_sub(5))
            .rev()
            .find(|&place| bytes[place..place + 6].eq_ignore_ascii_case(b"answer"))?;
        let rest = &response[place + 6..];
        let rest = rest[..line(rest)].trim_start_matches(|c: char| c.is_whitespace() || "*:".contains(c));
        Some(
            rest.strip_prefix("is")
                .unwrap_or(rest)
                .trim_start_matches(|c: char| c.is_whitespace() || "*:".contains(c)),
        )
    };
    let text = tagged(response).or_else(boxed).or_else(marked).or_else(said)?;
    let text = text.split('=').next().unwrap_or(text);
    let text = text.trim().trim_end_matches(['.', ',', '*', '`']).trim_start_matches(['*', '`']).trim();
    text.contains(|c: char| c.is_ascii_digit()).then_some(text)
}

/// The countdown task.
#[derive(Debug, Clone)]
pub struct Countdown {
    settings: CountdownSettings,
}

/// The numbers and the target of a problem.
///
/// # Errors
/// The problem is not of this task.
pub fn given(problem: &Problem) -> Result<(Vec<i64>, i64), TaskError> {
    let numbers: Option<Vec<i64>> = problem
        .data
        .get("numbers")
        .and_then(Value::as_array)
        .map(|numbers| numbers.iter().filter_map(Value::as_i64).collect());
    let target = problem.data.get("target").and_then(Value::as_i64);
    match (problem.task == TASK, numbers, target) {
        (true, Some(numbers), Some(target)) if (1..=8).contains(&numbers.len()) => Ok((numbers, target)),
        _ => Err(TaskError::Problem {
            id: problem.id.clone(),
            problem: "is not a countdown problem".to_string(),
            hint: "its `task` is `countdown` and its `data` is {numbers: [3, 5, 7], target: 22}".to_string(),
        }),
    }
}

/// A problem from numbers and a target, with a known solution as its reference.
pub fn problem(numbers: &[i64], target: i64, solution: Option<&Expression>) -> Problem {
    let listed: Vec<String> = numbers.iter().map(i64::to_string).collect();
    let compact = format!("K{}={target}?", listed.join(","));
    let hash = blake3::hash(compact.as_bytes());
    let id = hash.to_hex()[..16].to_string();
    let (last, first) = match listed.split_last() {
        Some((last, first)) if !first.is_empty() => (last.as_str(), first.join(", ")),
        Some((last, _)) => (last.as_str(), String::new()),
        None => ("", String::new()),
    };
    let question = match hash.as_bytes()[8] % 3 {
        0 => format!(
            "Using the numbers {first} and {last}, each exactly once, with +, -, *, / and parentheses, write an \
             expression that equals {target}."
        ),
        1 => format!(
            "Combine {first} and {last} to make {target}. Use every number exactly once; you may add, subtract, \
             multiply, divide and use parentheses."
        ),
        _ => format!(
            "Find an arithmetic expression with the value {target} that uses each of {first} and {last} exactly once \
             (allowed: + - * / and parentheses)."
        ),
    };
    let mut problem = Problem::new(id, TASK, question);
    problem.compact = Some(compact);
    problem.gold = solution.map(Expression::to_string);
    problem.data = json!({ "numbers": numbers, "target": target });
    problem
}

impl Countdown {
    /// The task with these settings.
    ///
    /// # Errors
    /// A setting out of range.
    pub fn new(settings: CountdownSettings) -> Result<Self, TaskError> {
        settings.check()?;
        Ok(Countdown { settings })
    }

    /// Random numbers and an expression over them with positive whole values; `None` when the draw does not fit.
    fn draw(&self, random: &mut ChaCha8Rng) -> Option<(Vec<i64>, i64, Expression)> {
        let [fewest, most] = self.settings.numbers;
        let count = random.random_range(fewest..=most);
        let numbers: Vec<i64> =
            (0..count).map(|_| random.random_range(1..=self.settings.largest_number)).collect();
        let mut pool: Vec<(i64, Expression)> =
            numbers.iter().map(|&number| (number, Expression::Number(number))).collect();
        let [smallest, largest] = self.settings.target;
        while pool.len() > 1 {
            let (left, left_made) = pool.swap_remove(random.random_range(0..pool.len()));
            let (right, right_made) = pool.swap_remove(random.random_range(0..pool.len()));
            let operator = [Operator::Add, Operator::Subtract, Operator::Multiply, Operator::Divide]
                [random.random_range(0..4)];
            let value =
                operator.apply(left, right).filter(|&value| value > 0 && value <= largest.max(100) * 4)?;
            pool.push((value, Expression::Operation(operator, Box::new(left_made), Box::new(right_made))));
        }
        let (target, solution) = pool.pop()?;
        (smallest..=largest).contains(&target).then_some((numbers, target, solution))
    }

    /// The solution that a problem carries, or one that is found.
    fn solution(problem: &Problem) -> Option<(Vec<i64>, i64, Expression)> {
        let (numbers, target) = given(problem).ok()?;
        let known = problem.gold.as_deref().and_then(|gold| {
            check(&numbers, target, gold).ok()?;
            Expression::parse(gold).ok()
        });
        let solution = known.or_else(|| solve(&numbers, target))?;
        Some((numbers, target, solution))
    }
}

/// The split of a problem: by its sorted numbers and target, so the order of the numbers does not matter.
pub fn split(numbers: &[i64], target: i64) -> Split {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable();
    let bytes: Vec<u8> =
        sorted.iter().chain(std::iter::once(&target)).flat_map(|number| number.to_le_bytes()).collect();
    crate::split_of(&bytes)
}

impl Task for Countdown {
    fn name(&self) -> &'static str {
        TASK
    }

    fn summary(&self) -> &'static str {
        SUMMARY
    }

    fn problems(&self, wanted: Split, count: usize, seed: u64) -> Result<Vec<Problem>, TaskError> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(1 + wanted as u64);
        let mut seen: HashSet<(Vec<i64>, i64)> = HashSet::with_capacity(count);
        let mut problems = Vec::with_capacity(count);
        let mut fruitless = 0usize;
        while problems.len() < count {
            fruitless += 1;
            // A draw fits the settings and the split about once in a hundred times; a million in a row means that
            // hardly anything new is left.
            if fruitless > 1_000_000 {
                return Err(TaskError::Setting {
                    field: "count".to_string(),
                    problem: format!(
                        "asks for {count} problems, but these settings give only about {} distinct ones in this split",
                        problems.len()
                    ),
                    hint: "ask for fewer problems, or allow more numbers, larger numbers or more targets"
                        .to_string(),
                });
            }
            let Some((numbers, target, solution)) = self.draw(&mut random) else { continue };
            if split(&numbers, target) != wanted {
                continue;
            }
            let mut key = numbers.clone();
            key.sort_unstable();
            if seen.insert((key, target)) {
                problems.push(problem(&numbers, target, Some(&solution)));
                fruitless = 0;
            }
        }
        Ok(problems)
    }

    fn extract(&self, _problem: &Problem, response: &str) -> Option<String> {
        let text = answer_text(response)?;
        Some(Expression::parse(text).map_or_else(|_| text.to_string(), |expression| expression.to_string()))
    }

    /// Two answers mean the same when both are solutions, or when they use the same numbers and have the same value.
    fn equivalent(&self, problem: &Problem, left: &str, right: &str) -> bool {
        let Ok((numbers, target)) = given(problem) else { return left == right };
        let solves = |answer: &str| check(&numbers, target, answer).is_ok();
        if solves(left) && solves(right) {
            return true;
        }
        let read = |answer: &str| {
            let expression = Expression::parse(answer).ok()?;
            let mut used = expression.numbers();
            used.sort_unstable();
            Some((used, expression.value().ok()?))
        };
        match (read(left), read(right)) {
            (Some(left), Some(right)) => left == right,
            _ => left.trim() == right.trim(),
        }
    }

    fn verify(&self, problem: &Problem, response: &str) -> Result<Verdict, TaskError> {
        let (numbers, target) = given(problem)?;
        let answer = self.extract(problem, response);
        let (outcome, reason) = match &answer {
            None => (
                Outcome::NoAnswer,
                Some("no expression after `#`, `Answer:`, <answer> or \\boxed".to_string()),
            ),
            Some(answer) => match check(&numbers, target, answer) {
                Ok(()) => (Outcome::Correct, None),
                Err(fault) => (Outcome::Wrong, Some(fault.to_string())),
            },
        };
        let steps = judge_steps(&numbers, target, self.steps(problem, response), response);
        Ok(Verdict { outcome, answer, steps, reason })
    }

    /// 1 - |value - target| / |target|, at least 0, of an expression that uses the given numbers; 0 for any other.
    fn grade(&self, problem: &Problem, _: &str, verdict: &Verdict) -> Result<f64, TaskError> {
        let (numbers, target) = given(problem)?;
        let Some(answer) = &verdict.answer else { return Ok(0.0) };
        let Err(Fault::Value { value, .. }) = check(&numbers, target, answer) else { return Ok(0.0) };
        let (over, under) = value.split_once('/').unwrap_or((&value, "1"));
        let value = over.parse::<f64>().unwrap_or(f64::NAN) / under.parse::<f64>().unwrap_or(f64::NAN);
        let grade = 1.0 - (value - target as f64).abs() / (target as f64).abs();
        // `max` passes a missing value over.
        Ok(grade.max(0.0))
    }

    /// Numbers and target stand in the problem, so that the exact check is a tool here and no oracle.
    fn recheck(&self, problem: &Problem, response: &str) -> Result<Recheck, TaskError> {
        let verdict = self.verify(problem, response)?;
        let answer = verdict.answer.is_some().then(|| verdict.outcome == Outcome::Correct);
        Ok(Recheck {
            steps: verdict.steps,
            answer,
            reason: verdict.reason.filter(|_| verdict.answer.is_some()),
        })
    }

    fn reference(&self, problem: &Problem) -> Option<String> {
        let (numbers, target, solution) = Countdown::solution(problem)?;
        let bits = blake3::hash(problem.id.as_bytes());
        let seed = bits.as_bytes().iter().take(8).fold(0u64, |seed, byte| seed << 8 | u64::from(*byte));
        match search_trace(&numbers, target, &solution, &self.settings.habits, seed) {
            Some(trace) => Some(trace.compact()),
            // A solution over fractions or negative values has no whole steps to show.
            None => Some(format!("#{solution}")),
        }
    }

    /// Compact responses: the pieces between `;` before `#`. Others: every `a op b = c` in them.
    fn steps(&self, _problem: &Problem, response: &str) -> Vec<Step> {
        if is_compact(response) {
            let body = response.split('#').next().unwrap_or("");
            let mut start = 0;
            let mut steps = Vec::new();
            for piece in body.split(';') {
                let end = start + piece.len();
                if !piece.trim().is_empty() {
                    steps.push(Step { text: piece.to_string(), start, end });
                }
                start = end + 1;
            }
            return steps;
        }
        plain_equations(response)
    }
}

fn is_compact(response: &str) -> bool {
    !response.trim().contains(char::is_whitespace)
}

/// The equations `a op b = c` between whole numbers in free text.
fn plain_equations(text: &str) -> Vec<Step> {
    let bytes = text.as_bytes();
    let mut steps = Vec::new();
    for (place, _) in text.match_indices('=') {
        let allowed = |byte: u8| byte.is_ascii_digit() || b"+-*/ ".contains(&byte);
        let start = (0..place).rev().take_while(|&at| allowed(bytes[at])).last().unwrap_or(place);
        let spaces = bytes[place + 1..].iter().take_while(|byte| **byte == b' ').count();
        let digits = bytes[place + 1 + spaces..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let end = place + 1 + spaces + digits;
        // The range holds ASCII only, so its bounds are character bounds.
        let whole = text[start..end].trim_start();
        let start = end - whole.len();
        let dense: String = whole.chars().filter(|c| *c != ' ').collect();
        if matches!(habits::parse_event(&dense), Some(Event::Combine { .. })) {
            steps.push(Step { text: whole.to_string(), start, end });
        }
    }
    steps
}

/// Judges steps. In a compact trace the numbers in play are followed: a combination must use numbers that are in play
/// and have the right result, a comparison must be true of the last result, a step back must keep no more
/// combinations than there are, and a step from the target must use a number that is given. In free text only the
/// results are judged, because going back is said in too many ways.
fn judge_steps(numbers: &[i64], target: i64, steps: Vec<Step>, response: &str) -> Vec<StepVerdict> {
    let compact = is_compact(response);
    let mut states: Vec<(Vec<i64>, Option<i64>)> = vec![(numbers.to_vec(), None)];
    let mut goal = target;
    let verdict =
        |step: Step, correct: bool, expected: Option<String>| StepVerdict { step, correct, expected };
    let mut verdicts = Vec::with_capacity(steps.len());
    for step in steps {
        let dense: String = step.text.chars().filter(|c| !c.is_whitespace()).collect();
        let event = habits::parse_event(&dense);
        let judged = match event {
            None => verdict(step, false, None),
            Some(Event::Combine { left, operator, right, value }) => {
                let truth = operator.apply(left, right);
                let corrected = truth
                    .filter(|truth| *truth != value)
                    .map(|truth| format!("{left}{}{right}={truth}", operator.symbol()));
                let (mut pool, _) = states.last().cloned().unwrap_or_default();
                let mut take = |number: i64| {
                    pool.iter()
                        .position(|&other| other == number)
                        .map(|place| pool.swap_remove(place))
                        .is_some()
                };
                let available = take(left) && take(right);
                if available {
                    pool.push(value);
                    states.push((pool, Some(value)));
                }
                verdict(step, truth == Some(value) && (available || !compact), corrected)
            }
            Some(Event::Check { value, target: written, reached }) => {
                let last = states.last().and_then(|(_, last)| *last);
                let whole = states.last().is_some_and(|(pool, _)| pool.len() == 1);
                let truth = value == target && whole;
                let right = last == Some(value) && written == target && reached == truth;
                let expected = last.map(|last| {
                    format!("{last}={target}{}", if last == target && whole { 'Y' } else { 'N' })
                });
                verdict(step, right, expected.filter(|_| !right))
            }
            Some(Event::Back { keep }) => {
                let possible = keep + 1 < states.len();
                states.truncate((keep + 1).max(1));
                verdict(step, possible, None)
            }
            Some(Event::Subgoal { value }) => verdict(step, value != target, None),
            Some(Event::Backward { left, operator, right, value }) => {
                let truth = operator.apply(left, right);
                let given =
                    (left == goal && numbers.contains(&right)) || (right == goal && numbers.contains(&left));
                let corrected = truth
                    .filter(|truth| *truth != value)
                    .map(|truth| format!("~{left}{}{right}={truth}", operator.symbol()));
                if truth == Some(value) && given {
                    goal = value;
                }
                verdict(step, truth == Some(value) && given, corrected)
            }
        };
        verdicts.push(judged);
    }
    verdicts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rewards_of_the_example_of_the_sheet() {
        let reward = |text: &str| tagged_reward(&[3, 7, 25], 46, text);
        assert_eq!(reward("<answer>3 * 7 + 25</answer>"), 1.0);
        assert_eq!(reward("<answer>(25 - 3) * 7</answer>"), 0.1);
        assert_eq!(reward("<answer>25 + 21</answer>"), 0.1);
        assert_eq!(reward("<answer>7 * 3 + 25 + 3 - 3</answer>"), 0.1);
        assert_eq!(reward("3 * 7 + 25"), 0.0);
        assert_eq!(reward("<answer>3 * 7 + 25</answer>\nDone."), 0.0);
        assert_eq!(tagged_reward(&[1, 3, 4, 6], 24, "Assistant: so\n<answer>6 / (1 - 3 / 4)</answer>"), 1.0);
    }

    #[test]
    fn references_verify_and_problems_are_solvable() {
        for habits in [CountdownSettings::default().habits, Habits::default()] {
            let settings =
                CountdownSettings { numbers: [3, 6], target: [10, 200], habits, ..Default::default() };
            let task = Countdown::new(settings).unwrap();
            for split_wanted in [Split::Train, Split::Test] {
                let problems = task.problems(split_wanted, 150, 4).unwrap();
                let mut keys = HashSet::new();
                for problem in &problems {
                    let (numbers, target) = given(problem).unwrap();
                    assert_eq!(split(&numbers, target), split_wanted);
                    assert!((10..=200).contains(&target) && (3..=6).contains(&numbers.len()));
                    let mut reversed = numbers.clone();
                    reversed.reverse();
                    assert_eq!(split(&reversed, target), split_wanted, "order does not matter");
                    let mut sorted = numbers.clone();
                    sorted.sort_unstable();
                    assert!(keys.insert((sorted, target)), "distinct");
                    let solution = solve(&numbers, target).expect("a generated problem is solvable");
                    check(&numbers, target, &solution.to_string()).unwrap();
                    let reference = task.reference(problem).unwrap();
                    let verdict = task.verify(problem, &reference).unwrap();
                    assert!(verdict.is_correct(), "{problem:?} {reference} {verdict:?}");
                    assert_eq!(verdict.first_wrong_step(), None, "{problem:?} {reference} {verdict:?}");
                    assert_eq!(verdict.steps.len(), task.steps(problem, &reference).len());
                    assert!(!verdict.steps.is_empty());
                }
                assert_eq!(problems, task.problems(split_wanted, 150, 4).unwrap(), "the seed decides");
            }
        }
    }

    #[test]
    fn wrong_steps_are_found() {
        let task = Countdown::new(CountdownSettings::default()).unwrap();
        let problem = problem(&[3, 5, 7], 22, None);
        assert_eq!(problem.compact.as_deref(), Some("K3,5,7=22?"));
        for (response, outcome, first) in [
            ("3*5=15;15+7=22#3*5+7", Outcome::Correct, None),
            ("3*5=16;16+7=23#3*5+7", Outcome::Correct, Some(0)),
            ("3*5=15;5+7=12#3*5+7", Outcome::Correct, Some(1)),
            ("3+5=8;8+7=15;15=22N;<0;3*5=15;15+7=22;22=22Y#3*5+7", Outcome::Correct, None),
            ("3+5=8;8+7=15;15=22Y#3+5+7", Outcome::Wrong, Some(2)),
            ("3+5=8;<1;3*5=15#3*5+7", Outcome::Correct, Some(1)),
            ("~22-7=15;>15;3*5=15;15+7=22#3*5+7", Outcome::Correct, None),
            ("~22-6=16#3*5+7", Outcome::Correct, Some(0)),
            ("what#3*5+", Outcome::Wrong, Some(0)),
            ("3*5=15;15+7=22", Outcome::NoAnswer, None),
        ] {
            let verdict = task.verify(&problem, response).unwrap();
            assert_eq!(verdict.outcome, outcome, "{response} {verdict:?}");
            assert_eq!(verdict.first_wrong_step(), first, "{response} {verdict:?}");
        }
        let chat = "3 * 5 = 15.\nThen 15 + 7 = 22.\nAnswer: (3 * 5) + 7 = 22";
        let verdict = task.verify(&problem, chat).unwrap();
        assert_eq!((verdict.outcome, verdict.steps.len()), (Outcome::Correct, 2), "{verdict:?}");
        assert!(task.equivalent(&problem, "3*5+7", "7+5*3") && !task.equivalent(&problem, "3*5+7", "3+5+7"));
        assert!(task.equivalent(&problem, "3+5+7", "7+5+3"), "wrong answers of one value are one answer");
    }

    #[test]
    fn settings_are_checked() {
        for (json, field) in [
            (json!({"numbers": [2, 4]}), "`numbers`"),
            (json!({"target": [0, 4]}), "`target`"),
            (json!({"largest": 4}), "`largest`"),
            (json!({"habits": {"verify": true}}), "`habits`"),
        ] {
            let error = CountdownSettings::from_value(&json).unwrap_err().to_string();
            assert!(error.contains(field) && error.contains("hint: "), "{error}");
        }
        let few =
            CountdownSettings { numbers: [3, 3], largest_number: 3, target: [9, 9], ..Default::default() };
        let error = Countdown::new(few).unwrap().problems(Split::Train, 1000, 1).unwrap_err().to_string();
        assert!(error.contains("distinct"), "{error}");
    }

    #[test]
    fn compact_texts_stay_within_the_vocabulary() {
        let vocabulary = crate::arithmetic::vocabulary();
        let settings = CountdownSettings { habits: Habits::default(), ..Default::default() };
        let task = Countdown::new(settings).unwrap();
        for problem in task.problems(Split::Train, 200, 2).unwrap() {
            for text in [task.reference(&problem).unwrap(), problem.compact.unwrap()] {
                let known = |c: char| vocabulary.iter().any(|token| token.len() == 1 && token.starts_with(c));
                assert!(text.chars().all(known), "{text}");
            }
        }
    }

    /// Prints rates; run with `cargo test --release -p elenchus-task rates -- --ignored --nocapture`.
    #[test]
    #[ignore = "a measurement, not a check"]
    fn rates() {
        let task = Countdown::new(CountdownSettings::default()).unwrap();
        let start = std::time::Instant::now();
        task.problems(Split::Train, 5_000, 1).unwrap();
        println!("countdown: {:.0} problems/s", 5_000.0 / start.elapsed().as_secs_f64());
        for count in 4..=6 {
            let settings = CountdownSettings {
                numbers: [count, count],
                largest_number: 50,
                target: [100, 999],
                ..Default::default()
            };
            let problems = Countdown::new(settings).unwrap().problems(Split::Train, 20, 1).unwrap();
            let start = std::time::Instant::now();
            for problem in &problems {
                let (numbers, target) = given(problem).unwrap();
                assert!(solve(&numbers, target).is_some());
            }
            println!("{count} numbers: {:.2} ms per solution", start.elapsed().as_secs_f64() * 1000.0 / 20.0);
        }
    }

    proptest! {
        #[test]
        fn any_response_is_judged_without_panic(text in "[0-9+*/=;<>~#YN ().-]{0,60}", other in "\\PC{0,40}") {
            let task = Countdown::new(CountdownSettings::default()).unwrap();
            let problem = problem(&[3, 5, 7], 22, None);
            for response in [text.clone(), other.clone(), format!("{other}{text}"), format!("<answer>{text}</answer>"), format!("Answer: {other}")] {
                let verdict = task.verify(&problem, &response).unwrap();
                for judged in &verdict.steps {
                    prop_assert_eq!(&response[judged.step.start..judged.step.end], &judged.step.text);
                }
                count_habits(&response);
            }
        }

        #[test]
        fn checker_agrees_with_solver(numbers in proptest::collection::vec(1i64..12, 3..5), target in 1i64..60) {
            match solve(&numbers, target) {
                Some(solution) => prop_assert_eq!(check(&numbers, target, &solution.to_string()), Ok(())),
                None => prop_assert!(solutions(&numbers, target, 1).is_empty()),
            }
            for solution in solutions(&numbers, target, 5) {
                prop_assert_eq!(check(&numbers, target, &solution.to_string()), Ok(()));
            }
        }
    }
}
