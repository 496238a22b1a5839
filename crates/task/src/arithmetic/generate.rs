//! Random chains.
//!
//! The default distribution is the measured one of the embedded model: the start value and the added constants are
//! 1 to 99, `*` has a factor of 2 to 9 and probability 0.3, `+` and `-` share the rest equally, every value lies in
//! 0 to 999, the second operand is an earlier variable of the chain with probability 0.1 (never for `*`), up to two
//! distractors (constants, or built on other distractors only) stand at random places, and the statements keep their
//! dependency order. An operation whose value would leave the range is drawn again, operator included.

use super::chain::{Chain, Expression, Operand, Operator, Statement};
use super::settings::ArithmeticSettings;
use super::words::LETTERS;
use crate::{Split, TaskError};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::borrow::Cow;

/// Draws chains of one split. The same settings, split and seed give the same chains in the same order.
#[derive(Debug, Clone)]
pub struct ChainGenerator {
    settings: ArithmeticSettings,
    split: Option<Split>,
    step_weights: Vec<f64>,
    random: ChaCha8Rng,
}

/// How often an operation is drawn again before the chain is begun anew; only narrow value ranges come close.
const OPERATION_TRIES: usize = 64;

impl ChainGenerator {
    /// A generator for chains of a split (`None`: of all splits).
    ///
    /// # Errors
    /// A setting out of range.
    pub fn new(settings: &ArithmeticSettings, split: Option<Split>, seed: u64) -> Result<Self, TaskError> {
        settings.check()?;
        let steps = settings.steps.smallest()..=settings.steps.largest();
        let step_weights =
            steps.map(|k| settings.step_weight.powi((k - settings.steps.smallest()) as i32)).collect();
        // Splits draw from different streams, so a prefix of one says nothing about another.
        let stream = match split {
            None => 0,
            Some(Split::Train) => 1,
            Some(Split::Validation) => 2,
            Some(Split::Test) => 3,
        };
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(stream);
        Ok(ChainGenerator { settings: settings.clone(), split, step_weights, random })
    }

    /// The next chain, under letters.
    pub fn next_chain(&mut self) -> Chain {
        loop {
            let steps = self.draw_steps();
            if let Some(chain) = self.draw(steps)
                && self.split.is_none_or(|split| chain.split() == split)
            {
                return chain;
            }
        }
    }

    /// The generator's source of randomness, for what is drawn on top of a chain.
    pub fn random(&mut self) -> &mut ChaCha8Rng {
        &mut self.random
    }

    fn draw_steps(&mut self) -> usize {
        let total: f64 = self.step_weights.iter().sum();
        let mut at = self.random.random::<f64>() * total;
        for (index, weight) in self.step_weights.iter().enumerate() {
            at -= weight;
            if at < 0.0 {
                return self.settings.steps.smallest() + index;
            }
        }
        self.settings.steps.largest()
    }

    fn draw(&mut self, steps: usize) -> Option<Chain> {
        let settings = &self.settings;
        let random = &mut self.random;
        let largest = settings.largest_value;
        let constant = 1..=largest.min(99);
        let room = settings.letters - (steps + 1);
        let [fewest, most] = settings.distractors;
        let distractors = random.random_range(fewest.min(room)..=most.min(room));
        let count = steps + 1 + distractors;

        // Names: the first `count` of a partial shuffle of the letters.
        let mut letters = [0u8; LETTERS.len()];
        for (index, letter) in letters.iter_mut().enumerate() {
            *letter = index as u8;
        }
        for index in 0..count {
            let other = random.random_range(index..settings.letters);
            letters.swap(index, other);
        }

        // Places of the distractors: `is_distractor[i]` by selection sampling, so every subset is equally likely.
        // The question stands last; a distractor may stand behind the asked statement.
        let mut statements = Vec::with_capacity(count);
        let mut values: Vec<i64> = Vec::with_capacity(count);
        let mut chain: [usize; LETTERS.len()] = [0; LETTERS.len()];
        let mut chain_length = 0;
        let mut decoys: [usize; LETTERS.len()] = [0; LETTERS.len()];
        let mut decoys_length = 0;
        let mut asked = 0;
        for index in 0..count {
            let left_to_place = distractors - decoys_length;
            let decoy = random.random_range(0..count - index) < left_to_place;
            let own = if decoy { &decoys[..decoys_length] } else { &chain[..chain_length] };
            // A distractor is a constant, or with equal chance built on the distractor before it.
            let given = own.is_empty() || (decoy && random.random_bool(0.5));
            let (expression, value) = if given {
                let value = random.random_range(constant.clone());
                (Expression::Given(value), value)
            } else {
                let left = own[own.len() - 1];
                let mut drawn = None;
                for _ in 0..OPERATION_TRIES {
                    let (operator, right, right_value) = if random.random_bool(settings.multiply) {
                        let factor = random.random_range(2..=9);
                        (Operator::Multiply, Operand::Number(factor), factor)
                    } else {
                        let operator =
                            if random.random_bool(0.5) { Operator::Add } else { Operator::Subtract };
                        if own.len() > 1 && random.random_bool(settings.second_variable) {
                            let variable = own[random.random_range(0..own.len() - 1)];
                            (operator, Operand::Variable(variable), values[variable])
                        } else {
                            let number = random.random_range(constant.clone());
                            (operator, Operand::Number(number), number)
                        }
                    };
                    if let Some(value) = operator.apply(values[left], right_value)
                        && (0..=largest).contains(&value)
                    {
                        drawn = Some((Expression::Computed { left, operator, right }, value));
                        break;
                    }
                }
                drawn?
            };
            if decoy {
                decoys[decoys_length] = index;
                decoys_length += 1;
            } else {
                chain[chain_length] = index;
                chain_length += 1;
                asked = index;
            }
            statements.push(Statement { name: Cow::Borrowed(LETTERS[letters[index] as usize]), expression });
            values.push(value);
        }
        Some(Chain::from_parts(statements, values, asked))
    }
}
