//! Wrong solutions that look right: one wrong step of known place and kind, and everything after it consistent.

use super::chain::{Chain, Operator, Plan, PlannedStep, push_number};
use super::forms::{Exercise, Kind, LABELS};
use super::verify::ErrorKind;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// A solution with one mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corrupted {
    /// The steps as written.
    pub steps: Vec<PlannedStep>,
    /// Index of the first wrong step; equal to the number of steps when the solution stops early.
    pub place: usize,
    /// What is wrong there.
    pub kind: ErrorKind,
    /// The value that the solution ends with.
    pub value: i64,
}

/// Shares of the kinds of mistakes, out of 100: wrong operand, wrong statement, left-out step, arithmetic; the rest
/// stops early. Models that learn the task make mostly copying mistakes, so these are shown most.
const SHARES: [(ErrorKind, u32); 5] = [
    (ErrorKind::WrongOperand, 45),
    (ErrorKind::WrongStatement, 12),
    (ErrorKind::Skipped, 12),
    (ErrorKind::Arithmetic, 23),
    (ErrorKind::StoppedEarly, 8),
];

/// How often a mistake is drawn before a chain is given up as one without a convincing mistake.
const TRIES: usize = 48;

/// A mistake in the solution of an exercise. `None` when the exercise has no plan, or (rarely) no mistake was found
/// that changes the answer.
pub fn corrupt(exercise: &Exercise, random: &mut ChaCha8Rng) -> Option<Corrupted> {
    corrupt_chain(&exercise.chain, &exercise.plan()?, random)
}

/// The same on a plan; `chain` supplies the values that a copying mistake may pick up.
pub(super) fn corrupt_chain(chain: &Chain, plan: &Plan, random: &mut ChaCha8Rng) -> Option<Corrupted> {
    let largest = chain.values().iter().copied().max().unwrap_or(0).max(999);
    for _ in 0..TRIES {
        let mut at = random.random_range(0..100u32);
        let kind = SHARES
            .iter()
            .find(|(_, share)| {
                let here = at < *share;
                at = at.saturating_sub(*share);
                here
            })
            .map_or(ErrorKind::WrongOperand, |(kind, _)| *kind);
        if let Some(corrupted) = attempt(chain, plan, kind, largest, random)
            && corrupted.value != plan.value
            && corrupted.steps.iter().all(|step| (0..=largest).contains(&step.value))
        {
            return Some(corrupted);
        }
    }
    None
}

fn attempt(
    chain: &Chain,
    plan: &Plan,
    kind: ErrorKind,
    largest: i64,
    random: &mut ChaCha8Rng,
) -> Option<Corrupted> {
    let gold = plan.gold();
    let computed: Vec<usize> = (0..gold.len()).filter(|&index| gold[index].operation.is_some()).collect();
    let pick = |from: &[usize], random: &mut ChaCha8Rng| -> Option<usize> {
        (!from.is_empty()).then(|| from[random.random_range(0..from.len())])
    };
    match kind {
        ErrorKind::StoppedEarly => {
            let at = pick(&computed[..computed.len().saturating_sub(1)], random)?;
            let steps = gold[..=at].to_vec();
            Some(Corrupted { place: steps.len(), kind, value: steps[at].value, steps })
        }
        ErrorKind::Skipped => {
            let at = pick(&computed[..computed.len().saturating_sub(1)], random)?;
            // Whoever used the left-out value takes the value that it would have been made from.
            let (left, _, _) = gold[at].operation?;
            let place = gold.iter().position(|step| step.sources.contains(&Some(at)))? - 1;
            let changed = propagate(gold, at, left, largest)?;
            let steps: Vec<PlannedStep> = changed
                .into_iter()
                .enumerate()
                .filter(|(index, _)| *index != at)
                .map(|(_, step)| step)
                .collect();
            let value = steps.last()?.value;
            Some(Corrupted { place, kind, value, steps })
        }
        ErrorKind::Arithmetic => {
            let at = pick(&computed, random)?;
            let value = wrong_result(gold[at].value, random);
            let steps = propagate(gold, at, value, largest)?;
            let value = steps.last()?.value;
            Some(Corrupted { place: at, kind, value, steps })
        }
        ErrorKind::WrongStatement => {
            let at = pick(&computed, random)?;
            let (left, operator, right) = gold[at].operation?;
            let others: Vec<(Operator, i64)> = plan
                .steps
                .iter()
                .filter(|step| !step.distractor)
                .filter_map(|step| step.operation)
                .map(|(_, operator, right)| (operator, right))
                .filter(|&(other, number)| (other, number) != (operator, right) && other != operator)
                .collect();
            let &(operator, right) = others.get(random.random_range(0..others.len().max(1)))?;
            // The verifier would call an expression that a distractor has by another name.
            let of_distractor = plan.steps.iter().any(|step| {
                step.distractor && step.operation.is_some_and(|(_, o, r)| (o, r) == (operator, right))
            });
            if of_distractor {
                return None;
            }
            with_operation(gold, at, (left, operator, right), kind, largest)
        }
        _ => {
            let at = random.random_range(0..gold.len());
            let Some((left, operator, right)) = gold[at].operation else {
                let value = miscopied(gold[at].value, chain, random);
                if value == gold[at].value {
                    return None;
                }
                let steps = propagate(gold, at, value, largest)?;
                let value = steps.last()?.value;
                return Some(Corrupted { place: at, kind: ErrorKind::WrongOperand, value, steps });
            };
            // Mostly the variable is taken from the wrong place; now and then the constant.
            let operation = if random.random_bool(0.7) {
                (miscopied(left, chain, random), operator, right)
            } else {
                (left, operator, miscopied(right, chain, random))
            };
            let swapped = operator.commutes() && (operation.0, operation.2) == (right, left);
            if operation == (left, operator, right) || swapped {
                return None;
            }
            with_operation(gold, at, operation, ErrorKind::WrongOperand, largest)
        }
    }
}

/// The solution with another operation at a step.
fn with_operation(
    gold: &[PlannedStep],
    at: usize,
    operation: (i64, Operator, i64),
    kind: ErrorKind,
    largest: i64,
) -> Option<Corrupted> {
    let value = operation.1.apply(operation.0, operation.2)?;
    let mut steps = propagate(gold, at, value, largest)?;
    steps[at].operation = Some(operation);
    let value = steps.last()?.value;
    Some(Corrupted { steps, place: at, kind, value })
}

/// The steps with `value` for step `at`, and everything that rests on it computed anew. `None` when a value leaves
/// 0..=`largest` or a division leaves a remainder.
fn propagate(gold: &[PlannedStep], at: usize, value: i64, largest: i64) -> Option<Vec<PlannedStep>> {
    let mut steps = gold.to_vec();
    steps[at].value = value;
    for index in at + 1..steps.len() {
        let [left_source, right_source] = steps[index].sources;
        let Some((left, operator, right)) = steps[index].operation else { continue };
        let value_of = |source: Option<usize>, own: i64| match source {
            Some(source) if source >= at && source < index => steps[source].value,
            _ => own,
        };
        let operation = (value_of(left_source, left), operator, value_of(right_source, right));
        let value = operator.apply(operation.0, operation.2)?;
        if !(0..=largest).contains(&value) {
            return None;
        }
        steps[index].operation = Some(operation);
        steps[index].value = value;
    }
    Some(steps)
}

/// A slip in a result: off by a little, a lost or extra carry, two digits exchanged, one digit wrong.
pub(super) fn wrong_result(value: i64, random: &mut ChaCha8Rng) -> i64 {
    let sign = if random.random_bool(0.5) { 1 } else { -1 };
    match random.random_range(0..10) {
        0..4 => value + sign * random.random_range(1..=2),
        4..7 => value + sign * 10,
        7 => value + sign * 100,
        8 => {
            let mut digits = value.to_string().into_bytes();
            if digits.len() > 1 {
                let place = random.random_range(0..digits.len() - 1);
                digits.swap(place, place + 1);
            }
            let swapped: i64 =
                std::str::from_utf8(&digits).ok().and_then(|text| text.parse().ok()).unwrap_or(value);
            // A number with a leading zero, or of equal digits, is no slip anyone makes.
            if swapped == value || digits.first() == Some(&b'0') { value + sign } else { swapped }
        }
        _ => value + sign * random.random_range(3..=9),
    }
}

/// A value copied from the wrong place: another value of the problem, or the right one with a slip.
fn miscopied(value: i64, chain: &Chain, random: &mut ChaCha8Rng) -> i64 {
    if random.random_bool(0.7) {
        let count = chain.statements().len();
        let other = random.random_range(0..count * 2);
        if other < count {
            chain.values()[other]
        } else {
            chain.statements()[other - count].number().unwrap_or(chain.values()[other - count])
        }
    } else {
        wrong_result(value, random)
    }
}

/// The steps and the answer in the compact notation.
pub fn compact_text(steps: &[PlannedStep], answer: &str) -> String {
    let mut text = String::with_capacity(steps.len() * 14 + 8);
    for (index, step) in steps.iter().enumerate() {
        if index > 0 {
            text.push(';');
        }
        text.push_str(&step.compact());
    }
    text.push('#');
    text.push_str(answer);
    text
}

/// The steps, one equation per line, and the answer as a chat model should write them.
pub fn chat_text(steps: &[PlannedStep], answer: &str) -> String {
    let mut text = String::with_capacity(steps.len() * 24 + 16);
    for step in steps {
        text.push_str(&step.chat());
        text.push('\n');
    }
    text.push_str("Answer: ");
    text.push_str(answer);
    text
}

/// The answer that a solution ending with `value` would give: the value, or in the choice form the letter of the
/// nearest option (of a wrong one, when the value is wrong).
pub fn answer_for(exercise: &Exercise, value: i64) -> String {
    match &exercise.kind {
        Kind::Choice { values, right } => {
            let gold = values[*right];
            let nearest = (0..values.len())
                .filter(|&index| (values[index] == gold) == (value == gold))
                .min_by_key(|&index| values[index].abs_diff(value));
            LABELS[nearest.unwrap_or(*right)].to_string()
        }
        _ => {
            let mut text = String::new();
            push_number(&mut text, value);
            text
        }
    }
}

impl Corrupted {
    /// The wrong solution in the compact notation.
    pub fn compact(&self, exercise: &Exercise) -> String {
        compact_text(&self.steps, &answer_for(exercise, self.value))
    }

    /// The wrong solution as a chat answer.
    pub fn chat(&self, exercise: &Exercise) -> String {
        chat_text(&self.steps, &answer_for(exercise, self.value))
    }
}

/// The gold solution in the compact notation; `None` when the exercise has no plan. The direct form has no steps.
pub fn gold_compact(exercise: &Exercise) -> Option<String> {
    match exercise.kind {
        Kind::Direct => Some(format!("#{}", exercise.gold())),
        _ => Some(compact_text(exercise.plan()?.gold(), &exercise.gold())),
    }
}

/// The gold solution as a chat answer; `None` when the exercise has no plan. The direct form has no steps.
pub fn gold_chat(exercise: &Exercise) -> Option<String> {
    match exercise.kind {
        Kind::Direct => Some(format!("Answer: {}", exercise.gold())),
        _ => Some(chat_text(exercise.plan()?.gold(), &exercise.gold())),
    }
}
