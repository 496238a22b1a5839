//! Generated streams: facts, the question about some of them, and what the first view shows.

use super::{EvidenceSettings, Segment, Stream, TASK, data, lettered};
use crate::TaskError;
use elenchus_trace::Problem;
use rand::RngExt;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// Letters of the entities; each is a word in plain language.
pub const ENTITIES: &str = "abcdefghijkl";
/// Letters of the attributes and their words.
pub const ATTRIBUTES: [(char, &str); 4] =
    [('H', "height"), ('P', "price"), ('T', "temperature"), ('W', "weight")];
/// Letters of the times, one an hour from 8:00 on.
pub const TIMES: &str = "mnopqrstuvwx";
/// Words of the entities, in the order of their letters.
const NAMES: [&str; 12] = [
    "anchor", "barrel", "candle", "drum", "engine", "flute", "gate", "hammer", "island", "jar", "kettle",
    "lamp",
];
/// What stands in the place of a blanked token.
const BLANK: char = '_';
/// The same in plain language.
const BLANK_WORD: &str = "▢";
/// Options of a question.
const OPTIONS: usize = 4;

/// One fact: of what, which attribute, when, and its value from 0 to 9.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fact {
    /// Letter of the entity.
    pub entity: char,
    /// Letter of the attribute.
    pub attribute: char,
    /// Letter of the time.
    pub time: char,
    /// The value.
    pub value: u8,
}

impl Fact {
    /// Entity, attribute and time.
    pub fn key(&self) -> String {
        [self.entity, self.attribute, self.time].iter().collect()
    }

    fn signs(&self) -> [char; 4] {
        [self.entity, self.attribute, self.time, char::from(b'0' + self.value)]
    }

    /// `gHm7`, with `_` in the place of each blanked token.
    pub fn compact(&self, blanked: [bool; 4]) -> String {
        self.signs().iter().zip(blanked).map(|(&sign, blank)| if blank { BLANK } else { sign }).collect()
    }

    /// `12:00, height of the gate: 7`.
    fn words(&self, blanked: [bool; 4]) -> String {
        let [entity, attribute, time, value] = blanked;
        let or_blank = |blank: bool, word: String| if blank { BLANK_WORD.to_string() } else { word };
        format!(
            "{}, {} of the {}: {}",
            or_blank(time, hour(self.time)),
            or_blank(attribute, attribute_word(self.attribute).into()),
            or_blank(entity, name(self.entity).into()),
            or_blank(value, self.value.to_string())
        )
    }

    /// `the height of the gate at 12:00`.
    fn asked(&self) -> String {
        format!("the {} of the {} at {}", attribute_word(self.attribute), name(self.entity), hour(self.time))
    }
}

fn name(letter: char) -> &'static str {
    ENTITIES.find(letter).and_then(|place| NAMES.get(place)).copied().unwrap_or("thing")
}

fn attribute_word(letter: char) -> &'static str {
    ATTRIBUTES.iter().find(|(known, _)| *known == letter).map_or("value", |(_, word)| word)
}

fn hour(letter: char) -> String {
    format!("{}:00", 8 + TIMES.find(letter).unwrap_or(0))
}

/// What is computed from the values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// The last digit of the sum.
    Sum,
    /// The difference of two, without its sign.
    Difference,
    /// The largest.
    Largest,
}

impl Operation {
    /// Its sign in the compact notation.
    pub fn sign(self) -> char {
        match self {
            Operation::Sum => '+',
            Operation::Difference => '-',
            Operation::Largest => '>',
        }
    }

    /// The result of one more value.
    pub fn apply(self, result: u8, value: u8) -> u8 {
        match self {
            Operation::Sum => (result + value) % 10,
            Operation::Difference => result.abs_diff(value),
            Operation::Largest => result.max(value),
        }
    }
}

/// A stream with a question about it; what the problem's `data` holds beside the segments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Query {
    /// The facts in the order of the stream.
    pub facts: Vec<Fact>,
    /// Which of the four tokens of each segment the first view blanks: entity, attribute, time, value.
    pub blanked: Vec<[bool; 4]>,
    /// Indices of the segments that are asked about, in the order of the question.
    pub needed: Vec<usize>,
    /// What is computed.
    pub operation: Operation,
    /// Values of the options A, B, C, D.
    pub options: Vec<u8>,
}

/// One stream with a question.
pub(super) fn draw(settings: &EvidenceSettings, random: &mut ChaCha8Rng) -> Query {
    let [fewest, most] = settings.needed;
    let count = random.random_range(fewest..=most);
    let mut facts: Vec<Fact> = Vec::with_capacity(settings.segments);
    let mut known: HashSet<String> = HashSet::new();
    let mut add = |fact: Fact, facts: &mut Vec<Fact>| {
        if known.insert(fact.key()) {
            facts.push(fact);
        }
    };
    while facts.len() < count {
        let fact = any(random);
        add(fact, &mut facts);
    }
    let asked = facts.clone();
    while facts.len() < settings.segments {
        let mut fact = any(random);
        if random.random_bool(settings.near) {
            let like = asked.choose(random).copied().unwrap_or(fact);
            let (value, changed) = (fact.value, fact);
            fact = Fact { value, ..like };
            match random.random_range(0..3) {
                0 => fact.entity = changed.entity,
                1 => fact.attribute = changed.attribute,
                _ => fact.time = changed.time,
            }
        }
        add(fact, &mut facts);
    }
    facts.shuffle(random);
    let needed: Vec<usize> =
        asked.iter().filter_map(|fact| facts.iter().position(|other| other == fact)).collect();
    let [least, greatest] = settings.blanked;
    let share = least + (greatest - least) * random.random::<f64>();
    let blanked = facts.iter().map(|_| std::array::from_fn(|_| random.random_bool(share))).collect();
    let operation = match count {
        2 => [Operation::Sum, Operation::Difference, Operation::Largest][random.random_range(0..3)],
        _ => [Operation::Sum, Operation::Largest][random.random_range(0..2)],
    };
    let mut query = Query { facts, blanked, needed, operation, options: Vec::new() };
    let right = query.result();
    let mut others: Vec<u8> = (0..=9).filter(|&value| value != right).collect();
    others.shuffle(random);
    others.truncate(OPTIONS - 1);
    others.push(right);
    others.shuffle(random);
    query.options = others;
    query
}

fn any(random: &mut ChaCha8Rng) -> Fact {
    let letter = |letters: &str, random: &mut ChaCha8Rng| {
        let at = random.random_range(0..letters.len());
        char::from(letters.as_bytes()[at])
    };
    Fact {
        entity: letter(ENTITIES, random),
        attribute: ATTRIBUTES[random.random_range(0..ATTRIBUTES.len())].0,
        time: letter(TIMES, random),
        value: random.random_range(0..=9),
    }
}

impl Query {
    /// What a problem of this task asks.
    ///
    /// # Errors
    /// The problem was not generated by this task.
    pub fn of(problem: &Problem) -> Result<Self, TaskError> {
        let read = || serde_json::from_value(problem.data.get("query")?.clone()).ok();
        read().filter(|_| problem.task == TASK).ok_or_else(|| TaskError::Problem {
            id: problem.id.clone(),
            problem: "is not a generated stream of evidence".into(),
            hint: "take problems from the task `evidence` without a `path`".into(),
        })
    }

    fn asked(&self) -> impl Iterator<Item = &Fact> {
        self.needed.iter().filter_map(|&place| self.facts.get(place))
    }

    /// The result of the computation.
    pub fn result(&self) -> u8 {
        let mut values = self.asked().map(|fact| fact.value);
        let first = values.next().unwrap_or(0);
        values.fold(first, |result, value| self.operation.apply(result, value))
    }

    /// Everything but the blanks: what makes two problems the same.
    pub(super) fn content(&self) -> String {
        let facts: Vec<String> = self.facts.iter().map(|fact| fact.compact([false; 4])).collect();
        format!("{}{}", self.head(), facts.join(";"))
    }

    /// `gHm+cPq:3A7B1C9D`: question and options.
    fn head(&self) -> String {
        let keys: Vec<String> = self.asked().map(Fact::key).collect();
        let mut text = keys.join(&self.operation.sign().to_string());
        text.push(':');
        for (value, letter) in self.options.iter().zip('A'..='Z') {
            text.push_str(&format!("{value}{letter}"));
        }
        text
    }

    /// The steps of a right chain: `gHm7`, `+cPq4=1`.
    pub fn chain(&self) -> Vec<String> {
        let mut result = None;
        self.asked()
            .map(|fact| {
                let said = fact.compact([false; 4]);
                match result {
                    None => {
                        result = Some(fact.value);
                        said
                    }
                    Some(before) => {
                        let now = self.operation.apply(before, fact.value);
                        result = Some(now);
                        format!("{}{said}={now}", self.operation.sign())
                    }
                }
            })
            .collect()
    }

    /// A chain that reads what the first view shows: a value that is blanked, or stands behind a blanked key, is taken
    /// from `guess`. What a model can know before it has seen a segment at full resolution.
    pub fn chain_of_first_view(&self, mut guess: impl FnMut() -> u8) -> String {
        let mut seen = self.clone();
        for &place in &self.needed {
            if self.blanked.get(place).is_some_and(|blanked| blanked.contains(&true))
                && let Some(fact) = seen.facts.get_mut(place)
            {
                fact.value = guess() % 10;
            }
        }
        seen.chain().concat()
    }

    /// The same stream, every token readable.
    pub fn at_full_resolution(mut self) -> Self {
        self.blanked = vec![[false; 4]; self.facts.len()];
        self
    }

    /// `gHm7+cPq4=1#C`.
    pub(super) fn reference(&self, problem: &Problem) -> Option<String> {
        Some(format!("{}#{}", self.chain().concat(), problem.gold.as_deref()?))
    }

    /// The question in plain language.
    fn words(&self) -> String {
        let asked: Vec<String> = self.asked().map(Fact::asked).collect();
        let listed = match asked.as_slice() {
            [] => String::new(),
            [one] => return format!("What is {one}?"),
            [all @ .., last] => format!("{} and {last}", all.join(", ")),
        };
        match self.operation {
            Operation::Sum => format!("What is the last digit of the sum of {listed}?"),
            Operation::Difference => {
                format!("What is the difference, without its sign, of {listed}?")
            }
            Operation::Largest => format!("What is the largest of {listed}?"),
        }
    }

    /// The problem, at the resolution of the first view.
    ///
    /// # Errors
    /// The result is not among the options.
    pub fn problem(&self) -> Result<Problem, TaskError> {
        let id = blake3::hash(self.content().as_bytes()).to_hex()[..16].to_string();
        let options = lettered(self.options.iter().map(u8::to_string));
        let right = self.options.iter().position(|&value| value == self.result());
        let gold = right.and_then(|place| options.get(place)).map(|option| option.label.clone());
        let gold = gold.ok_or_else(|| TaskError::Problem {
            id: id.clone(),
            problem: "has no option with the right value".into(),
            hint: "give the result among `options`".into(),
        })?;
        let mut compact = self.head();
        let mut text = format!(
            "These are {} segments of a record. What could not be made out is shown as {BLANK_WORD}.\n",
            self.facts.len()
        );
        let mut segments = Vec::with_capacity(self.facts.len());
        for (place, fact) in self.facts.iter().enumerate() {
            let blanked = self.blanked.get(place).copied().unwrap_or([false; 4]);
            let label = format!("Segment {}", place + 1);
            compact.push(';');
            let in_compact = [compact.len(), compact.len() + 4];
            compact.push_str(&fact.compact(blanked));
            let line = format!("{label}: {}", fact.words(blanked));
            let in_question = [text.len(), text.len() + line.len()];
            text.push_str(&line);
            text.push('\n');
            segments.push(Segment {
                text: Some(fact.words([false; 4])),
                compact: Some(fact.compact([false; 4])),
                in_compact: Some(in_compact),
                in_question: Some(in_question),
                needed: self.needed.contains(&place),
                ..Segment::new(label)
            });
        }
        compact.push('?');
        text.push_str(&self.words());
        let mut problem = Problem::new(id, TASK, text).with_gold(gold);
        problem.compact = Some(compact);
        problem.options = options;
        problem.data = data(&Stream { segments }, Some(self));
        Ok(problem)
    }
}
