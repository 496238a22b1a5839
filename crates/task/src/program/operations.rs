//! The operations that generated programs are made of: what they are called, how they compute, and their Python.
//!
//! Every operation is named by one letter in the compact notation, so that a model with a small vocabulary can write
//! programs: `a=e(x);b=m(a,3)#S(b)` keeps the even numbers, multiplies them by 3 and returns the sum.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// From a list to a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Even,
    Odd,
    Greater(i64),
    Less(i64),
    Divisible(i64),
    Add(i64),
    Multiply(i64),
    Remainder(i64),
    Reverse,
    Sort,
    First(i64),
    Drop(i64),
    Distinct,
    Totals,
    Differences,
}

/// From a list to a number, or the list itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    List,
    Sum,
    Largest,
    Smallest,
    Count,
}

pub(super) const OPERATIONS: usize = 15;
pub(super) const ENDINGS: [Ending; 5] =
    [Ending::List, Ending::Sum, Ending::Largest, Ending::Smallest, Ending::Count];

/// What the letters mean in Python, in front of a compact program.
pub(super) const LETTERS: &str = "\
def e(x): return [i for i in x if i % 2 == 0]
def o(x): return [i for i in x if i % 2 == 1]
def g(x, k): return [i for i in x if i > k]
def l(x, k): return [i for i in x if i < k]
def d(x, k): return [i for i in x if i % k == 0]
def p(x, k): return [i + k for i in x]
def m(x, k): return [i * k for i in x]
def r(x, k): return [i % k for i in x]
def v(x): return x[::-1]
def s(x): return sorted(x)
def t(x, k): return x[:k]
def u(x, k): return x[k:]
def n(x): return [i for j, i in enumerate(x) if i not in x[:j]]
def c(x): return [sum(x[:j + 1]) for j in range(len(x))]
def f(x): return [x[j + 1] - x[j] for j in range(len(x) - 1)]
def S(x): return sum(x)
def M(x): return max(x) if x else 0
def N(x): return min(x) if x else 0
def L(x): return len(x)
";

impl Operation {
    /// One at random; its number is 2 to 9.
    pub fn draw(random: &mut ChaCha8Rng) -> Self {
        let number = random.random_range(2..=9);
        match random.random_range(0..OPERATIONS) {
            0 => Operation::Even,
            1 => Operation::Odd,
            2 => Operation::Greater(number),
            3 => Operation::Less(number),
            // Not 2: those are the even ones, and one function must not have two names.
            4 => Operation::Divisible(3 + number % 3),
            5 => Operation::Add(number),
            6 => Operation::Multiply(number),
            7 => Operation::Remainder(number),
            8 => Operation::Reverse,
            9 => Operation::Sort,
            10 => Operation::First(2 + number % 3),
            11 => Operation::Drop(1 + number % 3),
            12 => Operation::Distinct,
            13 => Operation::Totals,
            _ => Operation::Differences,
        }
    }

    /// What it does to a list.
    pub fn apply(self, list: &[i64]) -> Vec<i64> {
        let keep = |test: &dyn Fn(i64) -> bool| list.iter().copied().filter(|item| test(*item)).collect();
        let each = |change: &dyn Fn(i64) -> i64| list.iter().copied().map(change).collect();
        let count = |number: i64| usize::try_from(number).unwrap_or(0).min(list.len());
        match self {
            Operation::Even => keep(&|item| item % 2 == 0),
            Operation::Odd => keep(&|item| item.rem_euclid(2) == 1),
            Operation::Greater(number) => keep(&|item| item > number),
            Operation::Less(number) => keep(&|item| item < number),
            Operation::Divisible(number) => keep(&|item| item % number == 0),
            Operation::Add(number) => each(&|item| item + number),
            Operation::Multiply(number) => each(&|item| item * number),
            // Python's remainder has the sign of the divisor.
            Operation::Remainder(number) => each(&|item| item.rem_euclid(number)),
            Operation::Reverse => list.iter().rev().copied().collect(),
            Operation::Sort => {
                let mut list = list.to_vec();
                list.sort_unstable();
                list
            }
            Operation::First(number) => list[..count(number)].to_vec(),
            Operation::Drop(number) => list[count(number)..].to_vec(),
            Operation::Distinct => {
                let mut kept = Vec::new();
                for item in list {
                    if !kept.contains(item) {
                        kept.push(*item);
                    }
                }
                kept
            }
            Operation::Totals => list
                .iter()
                .scan(0, |total, item| {
                    *total += item;
                    Some(*total)
                })
                .collect(),
            Operation::Differences => list.windows(2).map(|pair| pair[1] - pair[0]).collect(),
        }
    }

    /// An order to a person.
    pub fn words(self) -> String {
        match self {
            Operation::Even => "keep only the even numbers".to_string(),
            Operation::Odd => "keep only the odd numbers".to_string(),
            Operation::Greater(number) => format!("keep only the numbers greater than {number}"),
            Operation::Less(number) => format!("keep only the numbers less than {number}"),
            Operation::Divisible(number) => format!("keep only the numbers divisible by {number}"),
            Operation::Add(number) => format!("add {number} to every number"),
            Operation::Multiply(number) => format!("multiply every number by {number}"),
            Operation::Remainder(number) => {
                format!("replace every number by its remainder (0 or more) after division by {number}")
            }
            Operation::Reverse => "reverse the order".to_string(),
            Operation::Sort => "sort from smallest to largest".to_string(),
            Operation::First(number) => format!("keep only the first {number} numbers"),
            Operation::Drop(number) => format!("leave out the first {number} numbers"),
            Operation::Distinct => "keep only the first occurrence of each number".to_string(),
            Operation::Totals => {
                "replace every number by the sum of all numbers up to and including it".to_string()
            }
            Operation::Differences => {
                "replace the list by the differences of neighbours, each number less the one before"
                    .to_string()
            }
        }
    }

    /// A line of Python on `numbers`.
    pub fn python(self) -> String {
        let value = match self {
            Operation::Even => "[number for number in numbers if number % 2 == 0]".to_string(),
            Operation::Odd => "[number for number in numbers if number % 2 == 1]".to_string(),
            Operation::Greater(k) => format!("[number for number in numbers if number > {k}]"),
            Operation::Less(k) => format!("[number for number in numbers if number < {k}]"),
            Operation::Divisible(k) => format!("[number for number in numbers if number % {k} == 0]"),
            Operation::Add(k) => format!("[number + {k} for number in numbers]"),
            Operation::Multiply(k) => format!("[number * {k} for number in numbers]"),
            Operation::Remainder(k) => format!("[number % {k} for number in numbers]"),
            Operation::Reverse => "numbers[::-1]".to_string(),
            Operation::Sort => "sorted(numbers)".to_string(),
            Operation::First(k) => format!("numbers[:{k}]"),
            Operation::Drop(k) => format!("numbers[{k}:]"),
            Operation::Distinct => {
                "[number for place, number in enumerate(numbers) if number not in numbers[:place]]"
                    .to_string()
            }
            Operation::Totals => "[sum(numbers[:place + 1]) for place in range(len(numbers))]".to_string(),
            Operation::Differences => {
                "[numbers[place + 1] - numbers[place] for place in range(len(numbers) - 1)]".to_string()
            }
        };
        format!("numbers = {value}")
    }

    /// Letter and number of the compact notation.
    pub fn letter(self) -> (char, Option<i64>) {
        match self {
            Operation::Even => ('e', None),
            Operation::Odd => ('o', None),
            Operation::Greater(k) => ('g', Some(k)),
            Operation::Less(k) => ('l', Some(k)),
            Operation::Divisible(k) => ('d', Some(k)),
            Operation::Add(k) => ('p', Some(k)),
            Operation::Multiply(k) => ('m', Some(k)),
            Operation::Remainder(k) => ('r', Some(k)),
            Operation::Reverse => ('v', None),
            Operation::Sort => ('s', None),
            Operation::First(k) => ('t', Some(k)),
            Operation::Drop(k) => ('u', Some(k)),
            Operation::Distinct => ('n', None),
            Operation::Totals => ('c', None),
            Operation::Differences => ('f', None),
        }
    }
}

impl Ending {
    /// What it returns: a list, or one number in it.
    pub fn apply(self, list: Vec<i64>) -> Value {
        match self {
            Ending::List => Value::List(list),
            Ending::Sum => Value::Number(list.iter().sum()),
            Ending::Largest => Value::Number(list.iter().copied().max().unwrap_or(0)),
            Ending::Smallest => Value::Number(list.iter().copied().min().unwrap_or(0)),
            Ending::Count => Value::Number(i64::try_from(list.len()).unwrap_or(i64::MAX)),
        }
    }

    /// An order to a person.
    pub fn words(self) -> &'static str {
        match self {
            Ending::List => "return the list",
            Ending::Sum => "return the sum of the numbers",
            Ending::Largest => "return the largest number, or 0 when there is none",
            Ending::Smallest => "return the smallest number, or 0 when there is none",
            Ending::Count => "return how many numbers are left",
        }
    }

    /// A line of Python on `numbers`.
    pub fn python(self) -> &'static str {
        match self {
            Ending::List => "return numbers",
            Ending::Sum => "return sum(numbers)",
            Ending::Largest => "return max(numbers) if numbers else 0",
            Ending::Smallest => "return min(numbers) if numbers else 0",
            Ending::Count => "return len(numbers)",
        }
    }

    /// Letter of the compact notation; the list itself has none.
    pub fn letter(self) -> Option<char> {
        match self {
            Ending::List => None,
            Ending::Sum => Some('S'),
            Ending::Largest => Some('M'),
            Ending::Smallest => Some('N'),
            Ending::Count => Some('L'),
        }
    }
}

/// What a generated function returns.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Value {
    List(Vec<i64>),
    Number(i64),
}

/// A list as Python writes it.
pub(super) fn list(items: &[i64]) -> String {
    let items: Vec<String> = items.iter().map(i64::to_string).collect();
    format!("[{}]", items.join(", "))
}

impl Value {
    /// As Python writes it.
    pub fn python(&self) -> String {
        match self {
            Value::List(items) => list(items),
            Value::Number(number) => number.to_string(),
        }
    }

    /// As the compact notation writes it.
    pub fn compact(&self) -> String {
        match self {
            Value::List(items) => compact_list(items),
            Value::Number(number) => number.to_string(),
        }
    }
}

/// `(3,-4)`: the notation has no square brackets.
pub(super) fn compact_list(items: &[i64]) -> String {
    let items: Vec<String> = items.iter().map(i64::to_string).collect();
    format!("({})", items.join(","))
}
