//! Search traces with the four habits of arXiv 2503.01307 as switches, and a rule-based count of the habits.
//!
//! A trace is a list of events. In the compact notation they are separated by `;`:
//! `3*5=15` combines two numbers in play, `15=22N` compares a result with the target (`22=22Y` when reached),
//! `<1` goes back to the state after the first combination (`<0` to the start), `>15` names a sub-goal,
//! `~22-7=15` works back from the target: 15 is what the other numbers must give. The answer follows `#`.

use super::expression::Expression;
use crate::arithmetic::chain::Operator;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt::Write;

/// Which habits a trace shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Habits {
    /// Compares results with the target.
    pub verification: bool,
    /// Gives up paths and goes back to an earlier state.
    pub backtracking: bool,
    /// Names an intermediate target.
    pub subgoals: bool,
    /// Reasons from the target towards the numbers.
    pub backward_chaining: bool,
    /// Most paths that are tried and given up before the last one; only with backtracking.
    pub most_dead_ends: usize,
    /// End with a wrong expression: the incorrect-only condition of the paper.
    pub incorrect: bool,
}

impl Default for Habits {
    /// All four habits, up to two dead ends, a right answer.
    fn default() -> Self {
        Habits {
            verification: true,
            backtracking: true,
            subgoals: true,
            backward_chaining: true,
            most_dead_ends: 2,
            incorrect: false,
        }
    }
}

/// One event of a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Two numbers in play become one.
    Combine {
        /// Left operand.
        left: i64,
        /// Operator.
        operator: Operator,
        /// Right operand.
        right: i64,
        /// Result as written.
        value: i64,
    },
    /// A result is compared with the target.
    Check {
        /// The result.
        value: i64,
        /// The target as written.
        target: i64,
        /// Whether they are said to agree.
        reached: bool,
    },
    /// All but the first combinations are undone.
    Back {
        /// How many are kept.
        keep: usize,
    },
    /// An intermediate target is named.
    Subgoal {
        /// What is to be made.
        value: i64,
    },
    /// A step from the target towards the numbers.
    Backward {
        /// Left operand.
        left: i64,
        /// Operator.
        operator: Operator,
        /// Right operand.
        right: i64,
        /// What the remaining numbers must give.
        value: i64,
    },
}

/// A search and the expression it ends with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchTrace {
    /// What happens, in order.
    pub events: Vec<Event>,
    /// The final expression.
    pub answer: Expression,
    /// The target.
    pub target: i64,
}

/// How often each habit occurs in a text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HabitCounts {
    /// Explicit comparisons of a result with the target.
    pub verification: usize,
    /// Paths given up for another one.
    pub backtracking: usize,
    /// Intermediate targets named.
    pub subgoals: usize,
    /// Steps from the target towards the numbers.
    pub backward_chaining: usize,
}

/// A number in play and how it was made.
#[derive(Clone)]
struct Item {
    value: i64,
    made: Expression,
}

fn start(numbers: &[i64]) -> Vec<Item> {
    numbers.iter().map(|&value| Item { value, made: Expression::Number(value) }).collect()
}

/// Combines two items of a pool by value; `None` when they are not there or the result is no positive whole number.
fn combine(pool: &mut Vec<Item>, left: i64, operator: Operator, right: i64) -> Option<i64> {
    let value = operator_value(left, operator, right).filter(|&value| value > 0)?;
    let left_place = pool.iter().position(|item| item.value == left)?;
    let right_place = (0..pool.len()).find(|&place| place != left_place && pool[place].value == right)?;
    let right = pool[right_place].made.clone();
    let left = pool[left_place].made.clone();
    let (later, earlier) = (left_place.max(right_place), left_place.min(right_place));
    pool.remove(later);
    pool.remove(earlier);
    pool.push(Item { value, made: Expression::Operation(operator, Box::new(left), Box::new(right)) });
    Some(value)
}

pub(super) fn operator_value(left: i64, operator: Operator, right: i64) -> Option<i64> {
    operator.apply(left, right)
}

/// The operations of a solution whose values are all positive whole numbers; `None` when one is not.
fn whole_operations(solution: &Expression) -> Option<Vec<(i64, Operator, i64, i64)>> {
    solution
        .operations()
        .into_iter()
        .map(|(left, operator, right, value)| {
            let whole = |number: super::expression::Rational| {
                (number.is_integer() && *number.numer() > 0)
                    .then(|| i64::try_from(*number.numer()).ok())
                    .flatten()
            };
            Some((whole(left)?, operator, whole(right)?, whole(value)?))
        })
        .collect()
}

/// Random combinations from a pool down to one number that is not the target; `None` when none was found.
fn wrong_path(pool: &[Item], target: i64, random: &mut ChaCha8Rng) -> Option<(Vec<Event>, Item)> {
    'tries: for _ in 0..32 {
        let mut pool = pool.to_vec();
        let mut events = Vec::new();
        while pool.len() > 1 {
            let mut done = false;
            for _ in 0..16 {
                let first = random.random_range(0..pool.len());
                let second = random.random_range(0..pool.len());
                let operator = [Operator::Add, Operator::Subtract, Operator::Multiply, Operator::Divide]
                    [random.random_range(0..4)];
                let (left, right) = (pool[first].value, pool[second].value);
                // Results far above the target are no honest attempt.
                let near =
                    operator_value(left, operator, right).is_some_and(|value| value <= target * 4 + 50);
                if first == second || !near {
                    continue;
                }
                if let Some(value) = combine(&mut pool, left, operator, right) {
                    events.push(Event::Combine { left, operator, right, value });
                    done = true;
                    break;
                }
            }
            if !done {
                continue 'tries;
            }
        }
        if let Some(last) = pool.pop().filter(|last| last.value != target && !events.is_empty()) {
            return Some((events, last));
        }
    }
    None
}

/// Writes a search for the numbers and the target that ends with `solution` (or wrongly, see [`Habits::incorrect`]).
/// `None` when the solution has a value that is not a positive whole number, or no wrong path was found where one is
/// needed. The same seed gives the same trace.
pub fn search_trace(
    numbers: &[i64],
    target: i64,
    solution: &Expression,
    habits: &Habits,
    seed: u64,
) -> Option<SearchTrace> {
    let random = &mut ChaCha8Rng::seed_from_u64(seed);
    let path = whole_operations(solution)?;
    let mut events = Vec::new();
    if habits.backward_chaining
        && let Some(event) = backward_step(solution, target)
    {
        events.push(event);
    }
    let mut depth = 0;
    if habits.backtracking && habits.most_dead_ends > 0 && path.len() > 1 {
        for _ in 0..random.random_range(1..=habits.most_dead_ends) {
            // A dead end may leave the right path late; then only the wrong part is undone.
            let leave = random.random_range(depth..path.len() - 1);
            let mut pool = start(numbers);
            for (index, &(left, operator, right, value)) in path[..leave].iter().enumerate() {
                combine(&mut pool, left, operator, right)?;
                if index >= depth {
                    events.push(Event::Combine { left, operator, right, value });
                }
            }
            let (wrong, last) = wrong_path(&pool, target, random)?;
            events.extend(wrong);
            if habits.verification {
                events.push(Event::Check { value: last.value, target, reached: false });
            }
            events.push(Event::Back { keep: leave });
            depth = leave;
        }
    }
    let mut pool = start(numbers);
    for &(left, operator, right, _) in &path[..depth] {
        combine(&mut pool, left, operator, right)?;
    }
    if habits.subgoals && path.len() >= 2 {
        let value = path[path.len() - 2].3;
        if value != target && depth < path.len() - 1 {
            events.push(Event::Subgoal { value });
        }
    }
    let last = if habits.incorrect {
        let (wrong, last) = wrong_path(&pool, target, random)?;
        events.extend(wrong);
        last
    } else {
        for &(left, operator, right, value) in &path[depth..] {
            combine(&mut pool, left, operator, right)?;
            events.push(Event::Combine { left, operator, right, value });
        }
        pool.pop()?
    };
    if habits.verification {
        events.push(Event::Check { value: last.value, target, reached: last.value == target });
    }
    Some(SearchTrace { events, answer: last.made, target })
}

/// The step back from the target over the outermost operation of the solution, where one of its sides is a single
/// number.
fn backward_step(solution: &Expression, target: i64) -> Option<Event> {
    let Expression::Operation(operator, left, right) = solution else { return None };
    let step = |a: i64, operator: Operator, b: i64| {
        let value = operator_value(a, operator, b).filter(|&value| value > 0)?;
        Some(Event::Backward { left: a, operator, right: b, value })
    };
    match (left.as_ref(), right.as_ref()) {
        (_, Expression::Number(number)) => match operator {
            Operator::Add => step(target, Operator::Subtract, *number),
            Operator::Subtract => step(target, Operator::Add, *number),
            Operator::Multiply => step(target, Operator::Divide, *number),
            Operator::Divide => step(target, Operator::Multiply, *number),
        },
        (Expression::Number(number), _) => match operator {
            Operator::Add => step(target, Operator::Subtract, *number),
            Operator::Subtract => step(*number, Operator::Subtract, target),
            Operator::Multiply => step(target, Operator::Divide, *number),
            Operator::Divide => step(*number, Operator::Divide, target),
        },
        _ => None,
    }
}

impl SearchTrace {
    /// The trace in the compact notation.
    pub fn compact(&self) -> String {
        let mut text = String::new();
        for event in &self.events {
            // Writing to a string cannot fail.
            let _ = match event {
                Event::Combine { left, operator, right, value } => {
                    write!(text, "{left}{}{right}={value};", operator.symbol())
                }
                Event::Check { value, target, reached } => {
                    write!(text, "{value}={target}{};", if *reached { 'Y' } else { 'N' })
                }
                Event::Back { keep } => write!(text, "<{keep};"),
                Event::Subgoal { value } => write!(text, ">{value};"),
                Event::Backward { left, operator, right, value } => {
                    write!(text, "~{left}{}{right}={value};", operator.symbol())
                }
            };
        }
        text.pop();
        let _ = write!(text, "#{}", self.answer);
        text
    }

    /// The trace in English, ending with `Answer: …`.
    pub fn english(&self) -> String {
        let mut text = String::new();
        let mut made: Vec<String> = Vec::new();
        for event in &self.events {
            let _ = match event {
                Event::Combine { left, operator, right, value } => {
                    let equation = format!("{left} {} {right} = {value}", operator.symbol());
                    let written = write!(text, "{equation}. ");
                    made.push(equation);
                    written
                }
                Event::Check { value, reached: true, .. } => write!(text, "{value} is the target, reached. "),
                Event::Check { value, target, .. } => write!(text, "{value} is not {target}. "),
                Event::Back { keep } => {
                    made.truncate(*keep);
                    match made.last() {
                        Some(equation) => write!(text, "Go back to {equation} and try something else. "),
                        None => write!(text, "Start again and try something else. "),
                    }
                }
                Event::Subgoal { value } => write!(text, "First try to make {value}. "),
                Event::Backward { left, operator, right, value } => write!(
                    text,
                    "Work backwards from {}: {left} {} {right} = {value}. ",
                    self.target,
                    operator.symbol()
                ),
            };
        }
        let _ = write!(text, "\nAnswer: {}", self.answer);
        text
    }
}

/// Reads one compact event.
pub fn parse_event(text: &str) -> Option<Event> {
    let number = |text: &str| -> Option<i64> {
        let digits = !text.is_empty() && text.len() <= 15 && text.bytes().all(|byte| byte.is_ascii_digit());
        if digits { text.parse().ok() } else { None }
    };
    let equation = |text: &str| -> Option<(i64, Operator, i64, i64)> {
        let (left_side, value) = text.split_once('=')?;
        let place = left_side.find(['+', '-', '*', '/'])?;
        let operator = left_side[place..].chars().next().and_then(Operator::from_symbol)?;
        Some((number(&left_side[..place])?, operator, number(&left_side[place + 1..])?, number(value)?))
    };
    if let Some(keep) = text.strip_prefix('<') {
        return Some(Event::Back { keep: usize::try_from(number(keep)?).ok()? });
    }
    if let Some(value) = text.strip_prefix('>') {
        return Some(Event::Subgoal { value: number(value)? });
    }
    if let Some(step) = text.strip_prefix('~') {
        let (left, operator, right, value) = equation(step)?;
        return Some(Event::Backward { left, operator, right, value });
    }
    if let Some((left, operator, right, value)) = equation(text) {
        return Some(Event::Combine { left, operator, right, value });
    }
    let (value, rest) = text.split_once('=')?;
    let reached = match rest.chars().last()? {
        'Y' => true,
        'N' => false,
        _ => return None,
    };
    Some(Event::Check { value: number(value)?, target: number(&rest[..rest.len() - 1])?, reached })
}

/// Counts the habits in a trace, compact or English.
///
/// The English rules demand more than a cue word: a comparison needs a number in its sentence, and the other three
/// need an equation behind the cue (for backtracking another one than stood before it), so that repeating cue words
/// counts for nothing.
pub fn count_habits(text: &str) -> HabitCounts {
    let mut counts = HabitCounts::default();
    if !text.trim().contains(char::is_whitespace) {
        let body = text.split('#').next().unwrap_or("");
        for event in body.split(';').filter_map(parse_event) {
            match event {
                Event::Combine { .. } => {}
                Event::Check { .. } => counts.verification += 1,
                Event::Back { .. } => counts.backtracking += 1,
                Event::Subgoal { .. } => counts.subgoals += 1,
                Event::Backward { .. } => counts.backward_chaining += 1,
            }
        }
        return counts;
    }
    let sentences: Vec<String> = text
        .to_lowercase()
        .split(['.', '\n', '!', '?'])
        .map(|sentence| sentence.trim().to_string())
        .collect();
    let has = |sentence: &str, cues: &[&str]| cues.iter().any(|cue| sentence.contains(cue));
    let next_equation =
        |from: usize| -> Option<String> { sentences[from..].iter().find_map(|s| equation_in(s)) };
    for (index, sentence) in sentences.iter().enumerate() {
        let digits = sentence.contains(|c: char| c.is_ascii_digit());
        let compares =
            has(sentence, &[" is not ", "reached", "is the target", "equals the target", "not equal to"])
                || has(sentence, &["too high", "too low", "too big", "too small", "too large"]);
        if digits && compares {
            counts.verification += 1;
        }
        let gives_up = has(
            sentence,
            &[
                "try something else",
                "start over",
                "start again",
                "go back to",
                "another way",
                "try again",
                "try a different",
            ],
        );
        if gives_up {
            let before = sentences[..index].iter().rev().find_map(|s| equation_in(s));
            let after = next_equation(index + 1);
            if after.is_some() && after != before {
                counts.backtracking += 1;
            }
        }
        let backwards =
            has(sentence, &["work backward", "working backward", "work back from", "working back from"]);
        if backwards && next_equation(index).is_some() {
            counts.backward_chaining += 1;
        }
        let aims = has(
            sentence,
            &["first try to make", "first make ", "try to make ", "try to get ", "sub-goal", "subgoal"],
        );
        if aims && digits && !backwards && next_equation(index + 1).is_some() {
            counts.subgoals += 1;
        }
    }
    counts
}

/// The first `a op b = c` of a sentence, spaces dropped.
fn equation_in(sentence: &str) -> Option<String> {
    let dense: String = sentence.chars().filter(|c| !c.is_whitespace()).collect();
    let place = dense.find('=')?;
    let left = dense[..place].rsplit(|c: char| !(c.is_ascii_digit() || "+-*/()".contains(c))).next()?;
    let right: String = dense[place + 1..].chars().take_while(char::is_ascii_digit).collect();
    (left.contains(['+', '-', '*', '/']) && !right.is_empty()).then(|| format!("{left}={right}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_the_example_of_the_sheet() {
        let text = "12+2=14. 14 is not 24. Try something else. Work backwards: 24/2=12. 12*2=24, reached.";
        let expected = HabitCounts { verification: 2, backtracking: 1, backward_chaining: 1, subgoals: 0 };
        assert_eq!(count_habits(text), expected);
        let stuffed =
            "Try something else. Try something else. Work backwards. Try to make. Is not. 3 + 4 = 7.";
        let counts = count_habits(stuffed);
        assert!(counts.verification == 0 && counts.subgoals == 0, "{counts:?}");
        let same = count_habits("3 + 4 = 7. Try something else. 3 + 4 = 7.");
        assert_eq!(same.backtracking, 0, "the same path again is no backtracking");
    }

    #[test]
    fn each_switch_controls_its_habit() {
        let numbers = [3, 5, 7, 2];
        let solution = Expression::parse("(3*5-2)+7").unwrap();
        for mask in 0..16u32 {
            let habits = Habits {
                verification: mask & 1 > 0,
                backtracking: mask & 2 > 0,
                subgoals: mask & 4 > 0,
                backward_chaining: mask & 8 > 0,
                ..Habits::default()
            };
            for incorrect in [false, true] {
                for seed in 0..20 {
                    let habits = Habits { incorrect, ..habits };
                    let trace = search_trace(&numbers, 20, &solution, &habits, seed).unwrap();
                    let mut used = trace.answer.numbers();
                    used.sort_unstable();
                    assert_eq!(used, [2, 3, 5, 7]);
                    let value = trace.answer.value().unwrap();
                    assert_eq!(value == super::super::expression::Rational::from_integer(20), !incorrect);
                    for text in [trace.compact(), trace.english()] {
                        let counts = count_habits(&text);
                        assert_eq!(counts.verification > 0, habits.verification, "{text}");
                        assert_eq!(counts.backtracking > 0, habits.backtracking, "{text}");
                        assert_eq!(counts.backward_chaining > 0, habits.backward_chaining, "{text}");
                        assert!(counts.subgoals == 0 || habits.subgoals, "{text}");
                    }
                    assert_eq!(
                        count_habits(&trace.compact()),
                        count_habits(&trace.english()),
                        "{}",
                        trace.english()
                    );
                    for event in trace.compact().split('#').next().unwrap().split(';') {
                        assert!(parse_event(event).is_some(), "{event}");
                    }
                }
            }
        }
        let habits = Habits { backtracking: false, ..Habits::default() };
        let trace = search_trace(&numbers, 20, &solution, &habits, 1).unwrap();
        assert_eq!(trace.compact(), "~20-7=13;>13;3*5=15;15-2=13;13+7=20;20=20Y#3*5-2+7");
    }
}
