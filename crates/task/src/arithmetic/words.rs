//! Letters, names and words: the vocabulary of all compact texts, and how a chain is put in words.

use super::chain::{Chain, Expression, MASK, Operand, Operator, push_number};
use std::borrow::Cow;

/// Variables of the symbol surface; a problem uses the first `letters` of the settings.
pub const LETTERS: [&str; 26] = [
    "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t", "u",
    "v", "w", "x", "y", "z",
];

/// Variables of the word surface. None is the beginning of another or of a word, so texts without spaces read back.
pub const NAMES: [&str; 40] = [
    "Ann", "Bob", "Carl", "Dora", "Emil", "Fay", "Gus", "Hana", "Ivan", "Judy", "Kofi", "Lena", "Mia",
    "Nils", "Olga", "Paul", "Quin", "Rosa", "Sam", "Tina", "Uma", "Vera", "Will", "Xena", "Yuri", "Zoe",
    "Alma", "Boris", "Cleo", "Dimitri", "Edda", "Felix", "Greta", "Hugo", "Iris", "Jonas", "Kira", "Leo",
    "Marta", "Noor",
];

/// Words of the compact word surface.
const WORDS: [&str; 13] =
    ["has", "owns", "holds", "keeps", "more", "less", "fewer", "than", "times", "as", "many", "how", "and"];

/// Punctuation and operators of compact texts.
const SYMBOLS: [&str; 18] =
    ["+", "-", "*", "/", "=", ";", "?", "#", "!", "_", ".", ",", "(", ")", "<", ">", ":", "~"];

/// What people own in English questions: one of them, several of them.
const ITEMS: [(&str, &str); 8] = [
    ("marble", "marbles"),
    ("book", "books"),
    ("stamp", "stamps"),
    ("coin", "coins"),
    ("shell", "shells"),
    ("card", "cards"),
    ("apple", "apples"),
    ("pencil", "pencils"),
];

/// Every token that compact prompts and responses of the tasks here can contain, in a fixed order: digits, symbols,
/// lower-case letters, upper-case letters (tags, verdicts, options), words, names. Spaces are no tokens: a text with
/// its spaces dropped reads back the same, taking the longest token first.
pub fn vocabulary() -> Vec<String> {
    (b'0'..=b'9')
        .map(|digit| (digit as char).to_string())
        .chain(SYMBOLS.iter().map(|symbol| symbol.to_string()))
        .chain(LETTERS.iter().map(|letter| letter.to_string()))
        .chain(LETTERS.iter().map(|letter| letter.to_uppercase()))
        .chain(WORDS.iter().map(|word| word.to_string()))
        .chain(NAMES.iter().map(|name| name.to_string()))
        .collect()
}

/// A name as a constant where it is one of ours, so that reading a problem allocates nothing for it.
pub(super) fn interned(name: &str) -> Cow<'static, str> {
    if let [letter @ b'a'..=b'z'] = name.as_bytes() {
        return Cow::Borrowed(LETTERS[usize::from(letter - b'a')]);
    }
    match NAMES.iter().find(|known| **known == name) {
        Some(known) => Cow::Borrowed(known),
        None => Cow::Owned(name.to_string()),
    }
}

/// How a text varies: small numbers derived from the problem's content, so that a problem always reads the same.
#[derive(Debug, Clone, Copy)]
pub(super) struct Variant {
    bits: u64,
}

impl Variant {
    pub(super) fn new(bits: u64) -> Self {
        Variant { bits }
    }

    fn choose(self, place: u32, options: usize) -> usize {
        // Each place reads other bits; options are few, so the bias of the remainder is far below one in a million.
        (self.bits.rotate_left(place * 11) % 1_000_003) as usize % options
    }
}

/// What stands for the number of a statement.
struct Slot<'a> {
    masked: bool,
    mask: &'a str,
}

impl Slot<'_> {
    fn push(&self, text: &mut String, number: i64) {
        if self.masked { text.push_str(self.mask) } else { push_number(text, number) }
    }
}

/// The compact word surface: `Ann has 50.Bob has 1 less than Ann.how many has Bob?`, in the backward form
/// `Ann has 50.Bob has _ less than Ann.Bob has 49.how many is _?` without the words of the question: `…Bob has 49._?`
pub(super) fn compact_words(chain: &Chain, masked: Option<usize>, given: i64, variant: Variant) -> String {
    let mut text = String::with_capacity(chain.statements().len() * 28 + 20);
    let verb = ["has", "owns", "holds", "keeps"][variant.choose(0, 4)];
    let less = ["less", "fewer"][variant.choose(1, 2)];
    for (index, statement) in chain.statements().iter().enumerate() {
        let slot = Slot { masked: masked == Some(index), mask: MASK };
        text.push_str(&statement.name);
        text.push(' ');
        text.push_str(verb);
        text.push(' ');
        match statement.expression {
            Expression::Given(value) => slot.push(&mut text, value),
            Expression::Computed { left, operator, right } => {
                let left = &chain.statements()[left].name;
                let push_right = |text: &mut String| match right {
                    Operand::Number(value) => slot.push(text, value),
                    Operand::Variable(variable) => text.push_str(&chain.statements()[variable].name),
                };
                push_right(&mut text);
                match operator {
                    Operator::Add => text.push_str(" more than "),
                    Operator::Subtract => {
                        text.push(' ');
                        text.push_str(less);
                        text.push_str(" than ");
                    }
                    Operator::Multiply => text.push_str(" times as many as "),
                    // Statements of generated problems never divide.
                    Operator::Divide => text.push_str(" / than "),
                }
                text.push_str(left);
            }
        }
        text.push('.');
    }
    let asked = &chain.statements()[chain.asked()].name;
    if masked.is_some() {
        text.push_str(asked);
        text.push(' ');
        text.push_str(verb);
        text.push(' ');
        push_number(&mut text, given);
        text.push_str("._?");
    } else {
        text.push_str("how many ");
        text.push_str(verb);
        text.push(' ');
        text.push_str(asked);
        text.push('?');
    }
    text
}

/// The compact symbol surface: `g=50;e=g-1;e?`, in the backward form `g=50;e=g-_;e=49;_?`.
pub(super) fn compact_symbols(chain: &Chain, masked: Option<usize>, given: i64) -> String {
    let mut text = String::with_capacity(chain.statements().len() * 8 + 8);
    for index in 0..chain.statements().len() {
        chain.write_statement(&mut text, index, masked == Some(index));
        text.push(';');
    }
    let asked = &chain.statements()[chain.asked()].name;
    if masked.is_some() {
        text.push_str(asked);
        text.push('=');
        push_number(&mut text, given);
        text.push(';');
        text.push_str(MASK);
    } else {
        text.push_str(asked);
    }
    text.push('?');
    text
}

fn plural(items: (&'static str, &'static str), number: i64, masked: bool) -> &'static str {
    if number == 1 && !masked { items.0 } else { items.1 }
}

/// The question in English about people and things. A masked number is called X.
pub(super) fn english_words(chain: &Chain, masked: Option<usize>, given: i64, variant: Variant) -> String {
    let items = ITEMS[variant.choose(2, ITEMS.len())];
    let style = variant.choose(3, 3);
    let mut text = String::with_capacity(chain.statements().len() * 48 + 64);
    for (index, statement) in chain.statements().iter().enumerate() {
        let slot = Slot { masked: masked == Some(index), mask: "X" };
        let name = &statement.name;
        text.push_str(name);
        match statement.expression {
            Expression::Given(value) => {
                text.push_str([" has ", " owns ", " has collected "][style]);
                slot.push(&mut text, value);
                text.push(' ');
                text.push_str(plural(items, value, slot.masked));
            }
            Expression::Computed { left, operator, right } => {
                let left = &chain.statements()[left].name;
                match right {
                    Operand::Number(value) => {
                        text.push_str([" has ", " owns ", " has "][style]);
                        slot.push(&mut text, value);
                        text.push_str(match operator {
                            Operator::Add => " more ",
                            Operator::Subtract => " fewer ",
                            Operator::Multiply => " times as many ",
                            Operator::Divide => " times fewer ",
                        });
                        let multiplied = operator == Operator::Multiply;
                        text.push_str(plural(items, value, slot.masked || multiplied));
                        text.push_str(if multiplied { " as " } else { " than " });
                        text.push_str(left);
                    }
                    Operand::Variable(variable) => {
                        let right = &chain.statements()[variable].name;
                        text.push_str([" has as many ", " owns as many ", " has as many "][style]);
                        text.push_str(items.1);
                        text.push_str(" as ");
                        match operator {
                            Operator::Add => {
                                text.push_str(left);
                                text.push_str(" and ");
                                text.push_str(right);
                                text.push_str(" together");
                            }
                            _ => {
                                text.push_str(left);
                                text.push_str(" would have after giving away as many as ");
                                text.push_str(right);
                                text.push_str(" has");
                            }
                        }
                    }
                }
            }
        }
        text.push_str(". ");
    }
    let asked = &chain.statements()[chain.asked()].name;
    if masked.is_some() {
        text.push_str("If ");
        text.push_str(asked);
        text.push_str(" has ");
        push_number(&mut text, given);
        text.push(' ');
        text.push_str(plural(items, given, false));
        text.push_str(", what is the number X?");
    } else {
        text.push_str(["How many ", "Find out how many ", "How many "][style]);
        text.push_str(items.1);
        if style == 1 {
            text.push(' ');
            text.push_str(asked);
            text.push_str(" owns.");
        } else {
            text.push_str(" does ");
            text.push_str(asked);
            text.push_str(" have?");
        }
    }
    text
}

/// The question in English about letters. A masked number is called X.
pub(super) fn english_symbols(chain: &Chain, masked: Option<usize>, given: i64, variant: Variant) -> String {
    let style = variant.choose(3, 4);
    let spoken = style == 2;
    let mut text = String::with_capacity(chain.statements().len() * 24 + 96);
    text.push_str(
        [
            "The following values are defined: ",
            "Work with these definitions.\n",
            "Several numbers are described one after another: ",
            "Given that ",
        ][style],
    );
    for (index, statement) in chain.statements().iter().enumerate() {
        let slot = Slot { masked: masked == Some(index), mask: "X" };
        if index > 0 {
            text.push_str(["; ", "\n", ", ", ", "][style]);
        }
        text.push_str(&statement.name);
        text.push_str(if spoken { " is " } else { " = " });
        match statement.expression {
            Expression::Given(value) => slot.push(&mut text, value),
            Expression::Computed { left, operator, right } => {
                text.push_str(&chain.statements()[left].name);
                text.push_str(match (operator, spoken) {
                    (Operator::Add, true) => " plus ",
                    (Operator::Subtract, true) => " minus ",
                    (Operator::Multiply, true) => " times ",
                    (Operator::Divide, true) => " divided by ",
                    (Operator::Add, false) => " + ",
                    (Operator::Subtract, false) => " - ",
                    (Operator::Multiply, false) => " * ",
                    (Operator::Divide, false) => " / ",
                });
                match right {
                    Operand::Number(value) => slot.push(&mut text, value),
                    Operand::Variable(variable) => text.push_str(&chain.statements()[variable].name),
                }
            }
        }
    }
    let asked = &chain.statements()[chain.asked()].name;
    if masked.is_some() {
        text.push_str([". If ", "\nIf ", ". If ", ", and that "][style]);
        text.push_str(asked);
        text.push_str(" = ");
        push_number(&mut text, given);
        text.push_str(", what is the number X?");
    } else {
        text.push_str([". What is the value of ", "\nCompute ", ". What is ", ", find the value of "][style]);
        text.push_str(asked);
        text.push_str(["?", ".", "?", "."][style]);
    }
    text
}
