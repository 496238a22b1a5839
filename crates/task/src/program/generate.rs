//! Generated problems: small functions over lists of integers, as a chain of operations.

use super::operations::{self, ENDINGS, Ending, LETTERS, Operation, Value};
use super::rows::{self, ProgramData};
use super::settings::ProgramSettings;
use crate::{Split, TaskError};
use elenchus_trace::Problem;
use rand::seq::index::sample;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::HashSet;

/// The function that generated problems ask for.
pub(super) const ENTRY: &str = "solve";

/// What stands for an operation that a description leaves out.
const LEFT_OUT: &str = "one more operation, which is left out here: the examples show what it does";

/// A function: operations in order, then what is returned.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Function {
    operations: Vec<Operation>,
    ending: Ending,
}

impl Function {
    fn apply(&self, input: &[i64]) -> Value {
        let list = self.operations.iter().fold(input.to_vec(), |list, operation| operation.apply(&list));
        self.ending.apply(list)
    }

    /// The order in the compact notation: `e;m3;S`. It determines the function, so it also decides the split.
    fn order(&self) -> String {
        self.order_without(&[])
    }

    /// The same with `_` for the operations at these places: `e;_;S`.
    fn order_without(&self, left_out: &[usize]) -> String {
        let letter = |(place, operation): (usize, &Operation)| match operation.letter() {
            _ if left_out.contains(&place) => "_".to_string(),
            (letter, Some(number)) => format!("{letter}{number}"),
            (letter, None) => letter.to_string(),
        };
        let mut words: Vec<String> = self.operations.iter().enumerate().map(letter).collect();
        words.extend(self.ending.letter().map(String::from));
        words.join(";")
    }

    fn python(&self) -> String {
        let mut text = format!("def {ENTRY}(numbers):\n");
        for operation in &self.operations {
            text.push_str(&format!("    {}\n", operation.python()));
        }
        text.push_str(&format!("    {}\n", self.ending.python()));
        text
    }

    /// The program as a chain of the compact notation: `a=e(x);b=m(a,3)#S(b)`.
    fn compact(&self) -> String {
        let mut before = 'x';
        let mut steps = Vec::new();
        // Names that are no operation's, because a step would hide it.
        for (operation, name) in self.operations.iter().zip(['a', 'b', 'h', 'i', 'j', 'k', 'q', 'w']) {
            steps.push(match operation.letter() {
                (letter, Some(number)) => format!("{name}={letter}({before},{number})"),
                (letter, None) => format!("{name}={letter}({before})"),
            });
            before = name;
        }
        let result = match self.ending.letter() {
            Some(letter) => format!("{letter}({before})"),
            None => before.to_string(),
        };
        format!("{}#{result}", steps.join(";"))
    }
}

/// A compact reply as Python: the steps before `#` and the expression behind it, on the letters' definitions. `None`
/// when the reply has no `#`.
pub(super) fn expand_compact(reply: &str) -> Option<String> {
    let (steps, result) = reply.trim().rsplit_once('#')?;
    if result.trim().is_empty() {
        return None;
    }
    let mut text = format!("{LETTERS}def {ENTRY}(x):\n");
    for step in steps.split([';', '\n']).map(str::trim).filter(|step| !step.is_empty()) {
        text.push_str(&format!("    {step}\n"));
    }
    text.push_str(&format!("    return {}\n", result.trim()));
    Some(text)
}

fn draw_input(random: &mut ChaCha8Rng) -> Vec<i64> {
    let length = random.random_range(2..=7);
    (0..length).map(|_| random.random_range(-9..=20)).collect()
}

/// What a problem is made of.
struct Drawn {
    function: Function,
    /// The inputs of its tests, the visible ones first.
    inputs: Vec<Vec<i64>>,
    /// Operations that the description leaves out.
    left_out: Vec<usize>,
}

/// A function at random with the inputs of its tests; `None` when it is too plain: two inputs in three have to give
/// different values, and every operation has to matter.
fn draw(settings: &ProgramSettings, random: &mut ChaCha8Rng) -> Option<Drawn> {
    let [fewest, most] = settings.operations;
    let count = random.random_range(fewest..=most);
    let operations: Vec<Operation> = (0..count).map(|_| Operation::draw(random)).collect();
    let function = Function { operations, ending: ENDINGS[random.random_range(0..ENDINGS.len())] };
    let wanted = settings.visible_tests + settings.hidden_tests;
    let mut inputs: Vec<Vec<i64>> = Vec::with_capacity(wanted);
    while inputs.len() < wanted {
        // The last hidden test is the empty list; the rest are drawn.
        let input = if inputs.len() + 1 == wanted { Vec::new() } else { draw_input(random) };
        if !inputs.contains(&input) {
            inputs.push(input);
        }
    }
    let values: Vec<Value> = inputs.iter().map(|input| function.apply(input)).collect();
    let different: HashSet<&Value> = values.iter().collect();
    if different.len() * 3 < inputs.len() * 2 && inputs.len() > 3 {
        return None;
    }
    for left_out in 0..count {
        let mut shorter = function.clone();
        shorter.operations.remove(left_out);
        if inputs.iter().zip(&values).all(|(input, value)| shorter.apply(input) == *value) {
            return None;
        }
    }
    // Nothing is drawn where nothing is left out: the problems of those settings stay what they are.
    let left_out = match settings.left_out {
        0 => Vec::new(),
        few => sample(random, count, few.min(count)).into_vec(),
    };
    Some(Drawn { function, inputs, left_out })
}

fn problem(settings: &ProgramSettings, drawn: &Drawn) -> Problem {
    let Drawn { function, inputs, left_out } = drawn;
    let test = |input: &Vec<i64>| {
        format!("assert {ENTRY}({}) == {}", operations::list(input), function.apply(input).python())
    };
    let (visible, hidden) = inputs.split_at(settings.visible_tests);
    let visible_tests: Vec<String> = visible.iter().map(test).collect();
    let hidden_tests: Vec<String> = hidden.iter().map(test).collect();
    let mut question = format!("Write a Python function `{ENTRY}(numbers)` of a list of integers.");
    if settings.described {
        question.push_str(" It has to do the following, in this order:\n");
        let orders = function.operations.iter().enumerate().map(|(place, operation)| {
            if left_out.contains(&place) { LEFT_OUT.to_string() } else { operation.words() }
        });
        for (index, words) in orders.chain([function.ending.words().to_string()]).enumerate() {
            question.push_str(&format!("{}. {words}\n", index + 1));
        }
        question.push_str("\nExamples:\n");
    } else {
        question.push_str(" What it does is shown by examples only:\n");
    }
    let examples: Vec<String> = visible_tests.iter().map(|test| test.replacen("assert ", "", 1)).collect();
    question.push_str(&format!(
        "```python\n{}\n```\nReply with the whole function in one fenced code block.",
        examples.join("\n")
    ));
    let shown: Vec<String> = visible
        .iter()
        .map(|input| format!("{}={}", operations::compact_list(input), function.apply(input).compact()))
        .collect();
    let compact = match settings.described {
        true => format!("x:{}:{}?", function.order_without(left_out), shown.join(";")),
        false => format!("x:{}?", shown.join(";")),
    };
    let id =
        blake3::hash(format!("{compact}\n{}", hidden_tests.join("\n")).as_bytes()).to_hex()[..16].to_string();
    let data = ProgramData {
        entry: ENTRY.to_string(),
        prompt: String::new(),
        visible: visible_tests.join("\n"),
        hidden: hidden_tests.join("\n"),
        setup: String::new(),
        reference: function.compact(),
    };
    let mut problem = rows::problem(id, question, Some(function.python()), &data);
    problem.compact = Some(compact);
    problem
}

/// `count` problems of a split. Functions are told apart by their order, whatever their examples are.
pub(super) fn problems(
    settings: &ProgramSettings,
    split: Split,
    count: usize,
    seed: u64,
) -> Result<Vec<Problem>, TaskError> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(1 + split as u64);
    let mut seen = HashSet::with_capacity(count);
    let mut problems = Vec::with_capacity(count);
    let mut fruitless = 0usize;
    while problems.len() < count {
        fruitless += 1;
        // A draw fits about once in twenty times; a hundred thousand in a row mean that hardly anything is left.
        if fruitless > 100_000 {
            return Err(TaskError::Setting {
                field: "count".to_string(),
                problem: format!(
                    "asks for {count} problems, but these settings give only about {} distinct ones in this split",
                    problems.len()
                ),
                hint: "ask for fewer problems, or allow more `operations`".to_string(),
            });
        }
        let Some(drawn) = draw(settings, &mut random) else { continue };
        let order = drawn.function.order();
        if crate::split_of(order.as_bytes()) == split && seen.insert(order) {
            problems.push(problem(settings, &drawn));
            fruitless = 0;
        }
    }
    Ok(problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_determined_by_the_seed_and_split_by_their_function() {
        let settings = ProgramSettings::default();
        let splits = [Split::Train, Split::Validation, Split::Test];
        let sets = splits.map(|split| problems(&settings, split, 60, 5).unwrap());
        assert_eq!(sets[2], problems(&settings, Split::Test, 60, 5).unwrap());
        assert_ne!(sets[2], problems(&settings, Split::Test, 60, 6).unwrap());
        let golds = |problems: &[Problem]| -> HashSet<String> {
            problems.iter().map(|problem| problem.gold.clone().unwrap()).collect()
        };
        let golds = sets.each_ref().map(|set| golds(set));
        assert!(golds.iter().all(|golds| golds.len() == 60));
        assert!(
            golds[0].is_disjoint(&golds[1])
                && golds[0].is_disjoint(&golds[2])
                && golds[1].is_disjoint(&golds[2])
        );
    }

    #[test]
    fn a_known_function_in_all_its_forms() {
        let function = Function {
            operations: vec![Operation::Even, Operation::Multiply(3), Operation::Drop(1)],
            ending: Ending::Sum,
        };
        assert_eq!(function.apply(&[1, 2, 4, -6, 7]), Value::Number(-6));
        assert_eq!(function.order(), "e;m3;u1;S");
        assert_eq!(function.compact(), "a=e(x);b=m(a,3);h=u(b,1)#S(h)");
        assert!(function.python().ends_with("    numbers = numbers[1:]\n    return sum(numbers)\n"));
        let settings = ProgramSettings { visible_tests: 1, hidden_tests: 1, ..Default::default() };
        let drawn = |left_out: &[usize]| Drawn {
            function: function.clone(),
            inputs: vec![vec![2, 3, 4], vec![]],
            left_out: left_out.to_vec(),
        };
        let problem = problem(&settings, &drawn(&[]));
        assert_eq!(problem.compact.as_deref(), Some("x:e;m3;u1;S:(2,3,4)=12?"));
        assert!(problem.question.contains("2. multiply every number by 3\n"), "{}", problem.question);
        assert!(problem.question.contains("solve([2, 3, 4]) == 12\n"));
        assert!(!problem.question.contains("[]"), "hidden tests stay hidden");
        let partly = super::problem(&settings, &drawn(&[0, 2]));
        assert_eq!(partly.compact.as_deref(), Some("x:_;m3;_;S:(2,3,4)=12?"));
        assert!(
            partly.question.contains("3. one more operation, which is left out here"),
            "{}",
            partly.question
        );
        assert!(!partly.question.contains("even") && partly.gold == problem.gold);
        let hard = ProgramSettings { described: false, ..settings };
        let shown = super::problem(&hard, &drawn(&[]));
        assert!(!shown.question.contains("multiply") && shown.compact.as_deref() == Some("x:(2,3,4)=12?"));
        assert_eq!(Operation::Remainder(4).apply(&[-3]), [1]);
        assert_eq!(Operation::Odd.apply(&[-3, 2]), [-3]);
    }

    #[test]
    fn a_description_leaves_out_as_many_operations_as_it_is_told() {
        let whole = ProgramSettings { operations: [2, 3], ..Default::default() };
        for few in [1, 2] {
            let settings = ProgramSettings { left_out: few, ..whole.clone() };
            let problems = problems(&settings, Split::Train, 40, 1).unwrap();
            let places = |problem: &Problem| -> Vec<usize> {
                let order = problem.compact.as_deref().unwrap().split(':').nth(1).unwrap();
                order
                    .split(';')
                    .enumerate()
                    .filter(|(_, word)| *word == "_")
                    .map(|(place, _)| place)
                    .collect()
            };
            let found: HashSet<Vec<usize>> = problems.iter().map(places).collect();
            assert!(found.iter().all(|places| places.len() == few), "{found:?}");
            assert!(found.len() >= 3, "at any place: {found:?}");
        }
        let wrong = ProgramSettings { left_out: 3, ..whole }.check().unwrap_err().to_string();
        assert!(wrong.contains("`left_out`") && wrong.contains("hint: "), "{wrong}");
    }

    #[test]
    fn the_dial_moves_the_length_and_small_settings_run_dry() {
        for length in [1, 4] {
            let settings = ProgramSettings { operations: [length, length], ..Default::default() };
            for problem in problems(&settings, Split::Train, 20, 1).unwrap() {
                assert_eq!(problem.gold.unwrap().lines().count(), length + 2);
            }
        }
        let settings = ProgramSettings { operations: [1, 1], ..Default::default() };
        let error = problems(&settings, Split::Test, 5_000, 1).unwrap_err().to_string();
        assert!(error.contains("`count`") && error.contains("hint: "), "{error}");
    }
}
