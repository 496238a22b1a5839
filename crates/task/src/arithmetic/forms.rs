//! From a chain to a problem and back: the forms and surfaces.

use super::chain::{Chain, Plan, push_number};
use super::corrupt;
use super::settings::{ArithmeticSettings, Form, Surface};
use super::words::{self, NAMES, Variant};
use crate::TaskError;
use elenchus_trace::{ChoiceOption, Problem};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value};
use std::borrow::Cow;

/// Name of the task, in every problem.
pub const TASK: &str = "arithmetic";

/// The labels of the four-option form.
pub const LABELS: [&str; 4] = ["A", "B", "C", "D"];

/// A problem as the arithmetic task means it: a chain with its form.
#[derive(Debug, Clone, PartialEq)]
pub struct Exercise {
    /// The statements and what is asked.
    pub chain: Chain,
    /// Whether the text is about people and things.
    pub in_words: bool,
    /// The form.
    pub kind: Kind,
}

/// What a form needs beside the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A value after its steps.
    Chain,
    /// A value alone.
    Direct,
    /// Four values, one of which is right.
    Choice {
        /// The values of `A` to `D`.
        values: [i64; 4],
        /// Index of the right one.
        right: usize,
    },
    /// One number masked.
    Backward {
        /// The statement whose number is masked.
        masked: usize,
        /// The value that is claimed for the asked variable: the true one, or a candidate answer that is on trial.
        given: i64,
    },
}

impl Exercise {
    /// An exercise of the settings' form and surface on a chain.
    pub fn draw(chain: Chain, settings: &ArithmeticSettings, random: &mut ChaCha8Rng) -> Option<Self> {
        let in_words = match settings.surface {
            Surface::Symbols => false,
            Surface::Words => true,
            Surface::Mixed(share) => random.random_bool(share),
        };
        let chain = if in_words { with_names(chain, random) } else { chain };
        let kind = match settings.form {
            Form::Chain => Kind::Chain,
            Form::Direct => Kind::Direct,
            Form::Choice => choice(&chain, random),
            Form::Backward => {
                let needed = chain.needed();
                let maskable: Vec<usize> = (0..needed.len())
                    .filter(|&index| needed[index] && chain.statements()[index].number().is_some())
                    .filter(|&index| !settings.unique_only || chain.backward_plan(index).is_some())
                    .collect();
                if maskable.is_empty() {
                    return None;
                }
                let masked = maskable[random.random_range(0..maskable.len())];
                Kind::Backward { masked, given: chain.value() }
            }
        };
        Some(Exercise { chain, in_words, kind })
    }

    /// The compact text, without a skill's tag.
    pub fn compact(&self) -> String {
        let mut text = self.compact_base();
        if let Kind::Choice { values, .. } = &self.kind {
            for (label, value) in LABELS.iter().zip(values) {
                text.push_str(label);
                push_number(&mut text, *value);
            }
        }
        text
    }

    fn compact_base(&self) -> String {
        let (masked, given) = self.masked();
        if self.in_words {
            words::compact_words(&self.chain, masked, given, Variant::new(self.content_bits()))
        } else {
            words::compact_symbols(&self.chain, masked, given)
        }
    }

    fn masked(&self) -> (Option<usize>, i64) {
        match self.kind {
            Kind::Backward { masked, given } => (Some(masked), given),
            _ => (None, 0),
        }
    }

    /// Bits that decide between templates, determined by the chain.
    fn content_bits(&self) -> u64 {
        // FNV-1a over the symbol text: stable across versions of the standard library, unlike its hasher.
        let text = words::compact_symbols(&self.chain, None, 0);
        let bits = text.bytes().fold(0xcbf2_9ce4_8422_2325u64, |bits, byte| {
            (bits ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        bits ^ (bits >> 29)
    }

    /// The plan of a right solution. `None` in the backward form when the masked number is not recoverable uniquely
    /// by a chain of single steps.
    pub fn plan(&self) -> Option<Plan> {
        match self.kind {
            Kind::Backward { masked, .. } => self.chain.backward_plan(masked),
            _ => Some(self.chain.plan()),
        }
    }

    /// The reference answer: a number, or a letter in the choice form.
    pub fn gold(&self) -> String {
        match &self.kind {
            Kind::Chain | Kind::Direct => self.chain.value().to_string(),
            Kind::Choice { right, .. } => LABELS[*right].to_string(),
            Kind::Backward { masked, .. } => {
                self.chain.statements()[*masked].number().unwrap_or_default().to_string()
            }
        }
    }

    /// The problem of this exercise. Its identifier is a hash of form and compact text.
    pub fn problem(&self) -> Problem {
        let compact = self.compact();
        let (masked, given) = self.masked();
        let variant = Variant::new(self.content_bits());
        let mut question = if self.in_words {
            words::english_words(&self.chain, masked, given, variant)
        } else {
            words::english_symbols(&self.chain, masked, given, variant)
        };
        let mut options = Vec::new();
        if let Kind::Choice { values, .. } = &self.kind {
            for (label, value) in LABELS.iter().zip(values) {
                question.push('\n');
                question.push_str(label);
                question.push_str(") ");
                push_number(&mut question, *value);
                options.push(ChoiceOption { label: label.to_string(), text: value.to_string() });
            }
        }
        let mut data = Map::new();
        let form = match self.kind {
            Kind::Chain => "chain",
            Kind::Direct => "direct",
            Kind::Choice { .. } => "choice",
            Kind::Backward { .. } => "backward",
        };
        data.insert("form".to_string(), Value::from(form));
        data.insert("surface".to_string(), Value::from(if self.in_words { "words" } else { "symbols" }));
        let statements = (0..self.chain.statements().len()).map(|index| {
            let mut text = String::with_capacity(12);
            self.chain.write_statement(&mut text, index, false);
            Value::from(text)
        });
        data.insert("statements".to_string(), Value::Array(statements.collect()));
        data.insert("asked".to_string(), Value::from(&*self.chain.statements()[self.chain.asked()].name));
        data.insert("steps".to_string(), Value::from(self.chain.steps()));
        if let Kind::Backward { masked, given } = self.kind {
            data.insert("masked".to_string(), Value::from(masked));
            data.insert("given".to_string(), Value::from(given));
            data.insert("unique".to_string(), Value::from(self.chain.slope(masked) != 0));
        }
        Problem {
            id: identifier(form, &compact),
            task: TASK.to_string(),
            question,
            gold: Some(self.gold()),
            compact: Some(compact),
            options,
            history: Vec::new(),
            wants: Map::new(),
            data: Value::Object(data),
        }
    }

    /// Reads the exercise back from a problem of this task.
    ///
    /// # Errors
    /// The problem is of another task, or its `data` is not what this task writes.
    pub fn from_problem(problem: &Problem) -> Result<Self, TaskError> {
        let wrong = |what: String, hint: &str| TaskError::Problem {
            id: problem.id.clone(),
            problem: what,
            hint: hint.to_string(),
        };
        let hint = "problems of this task carry `data` with form, surface, statements and asked";
        if problem.task != TASK {
            return Err(wrong(
                format!("is of the task `{}`, not `{TASK}`", problem.task),
                "verify a problem with the task that made it",
            ));
        }
        let text = |field: &str| {
            problem
                .data
                .get(field)
                .and_then(Value::as_str)
                .ok_or_else(|| wrong(format!("`data.{field}` is missing"), hint))
        };
        let statements = problem
            .data
            .get("statements")
            .and_then(Value::as_array)
            .ok_or_else(|| wrong("`data.statements` is missing".to_string(), hint))?;
        let statements: Vec<&str> = statements.iter().filter_map(Value::as_str).collect();
        let chain = Chain::parse(&statements, text("asked")?, &problem.id)?;
        let kind = match text("form")? {
            "chain" => Kind::Chain,
            "direct" => Kind::Direct,
            "choice" => {
                let mut values = [0i64; 4];
                if problem.options.len() != values.len() {
                    return Err(wrong(format!("has {} options, not 4", problem.options.len()), hint));
                }
                for (value, option) in values.iter_mut().zip(&problem.options) {
                    *value = option
                        .text
                        .parse()
                        .map_err(|_| wrong(format!("option `{}` is no number", option.text), hint))?;
                }
                let right = values
                    .iter()
                    .position(|&value| value == chain.value())
                    .ok_or_else(|| wrong("no option is right".to_string(), hint))?;
                Kind::Choice { values, right }
            }
            "backward" => {
                let number = |field: &str| {
                    problem
                        .data
                        .get(field)
                        .and_then(Value::as_i64)
                        .ok_or_else(|| wrong(format!("`data.{field}` is missing"), hint))
                };
                let masked = usize::try_from(number("masked")?).unwrap_or(usize::MAX);
                if chain.statements().get(masked).and_then(|statement| statement.number()).is_none() {
                    return Err(wrong(format!("`data.masked` = {masked} has no number to mask"), hint));
                }
                Kind::Backward { masked, given: number("given")? }
            }
            other => {
                return Err(wrong(
                    format!("`data.form` is `{other}`"),
                    "forms are chain, direct, choice and backward",
                ));
            }
        };
        Ok(Exercise { chain, in_words: text("surface")? == "words", kind })
    }

    /// One backward exercise for each number that the asked value depends on: that number masked, and `candidate`
    /// given as the asked variable's value (arXiv 2308.07758). Its gold answer is the masked number; whether it can
    /// be found from the candidate is what is tried.
    pub fn backward(&self, candidate: i64) -> Vec<Exercise> {
        let needed = self.chain.needed();
        (0..needed.len())
            .filter(|&index| needed[index] && self.chain.statements()[index].number().is_some())
            .map(|masked| Exercise {
                chain: self.chain.clone(),
                in_words: self.in_words,
                kind: Kind::Backward { masked, given: candidate },
            })
            .collect()
    }
}

/// Identifier of a problem: 16 hexadecimal digits of a BLAKE3 hash.
fn identifier(form: &str, compact: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(form.as_bytes());
    hasher.update(b"\n");
    hasher.update(compact.as_bytes());
    let mut identifier = String::with_capacity(16);
    for byte in &hasher.finalize().as_bytes()[..8] {
        for half in [byte >> 4, byte & 15] {
            identifier.push(char::from_digit(u32::from(half), 16).unwrap_or('0'));
        }
    }
    identifier
}

/// The chain under people's names instead of letters.
fn with_names(chain: Chain, random: &mut ChaCha8Rng) -> Chain {
    let mut order: [u8; NAMES.len()] = [0; NAMES.len()];
    for (index, place) in order.iter_mut().enumerate() {
        *place = index as u8;
    }
    let count = chain.statements().len();
    for index in 0..count {
        let other = random.random_range(index..NAMES.len());
        order.swap(index, other);
    }
    chain.renamed(order.into_iter().map(|index| Cow::Borrowed(NAMES[usize::from(index)])))
}

/// Four values: the right one and the results of solutions with one wrong step; small differences fill up.
fn choice(chain: &Chain, random: &mut ChaCha8Rng) -> Kind {
    let gold = chain.value();
    let mut wrong: Vec<i64> = Vec::with_capacity(3);
    let plan = chain.plan();
    for _ in 0..24 {
        if wrong.len() == 3 {
            break;
        }
        // A fixed number of draws from the main stream, whatever the corruptor needs.
        let mut own = ChaCha8Rng::seed_from_u64(random.next_u64());
        if let Some(corrupted) = corrupt::corrupt_chain(chain, &plan, &mut own)
            && corrupted.value != gold
            && !wrong.contains(&corrupted.value)
        {
            wrong.push(corrupted.value);
        }
    }
    let mut distance = 1;
    while wrong.len() < 3 {
        for value in [gold + distance, gold - distance] {
            if wrong.len() < 3 && value >= 0 && !wrong.contains(&value) {
                wrong.push(value);
            }
        }
        distance += 1;
    }
    let right = random.random_range(0..4);
    let mut values = [gold; 4];
    for (value, slot) in wrong.into_iter().zip((0..4).filter(|&slot| slot != right)) {
        values[slot] = value;
    }
    Kind::Choice { values, right }
}
