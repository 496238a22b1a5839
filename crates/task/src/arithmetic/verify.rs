//! Judges a response step by step.
//!
//! A step is right iff
//! 1. it is an equation about a variable of the problem,
//! 2. every computed variable that its statement uses has been written before it,
//! 3. it writes the expression of its statement with the true values (operands of `+` and `*` may be swapped), and
//!    every side has the true value.
//!
//! A value that was wrong before therefore makes the steps that use it wrong too; the first wrong step is where it
//! began. Restating a given value, or a value that was computed before, needs no expression. A right step about a
//! distractor is right, though superfluous. What is missing at the end (the asked variable, or an answer that agrees
//! with it) is one more wrong step with what was written in its place, often nothing. So a response has no wrong step
//! exactly when its answer follows from right steps, and a right answer with a wrong or missing step shows as
//! `is_correct() && first_wrong_step().is_some()`.

use super::chain::{Plan, PlannedStep};
use super::forms::{Exercise, Kind, LABELS};
use super::parse::{self, Equation, Part, Term, Voice};
use elenchus_trace::{Outcome, Step, StepVerdict, Verdict};
use serde::{Deserialize, Serialize};

/// What is wrong with a step or a response.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The right statement with a wrong value in it, or a given value copied wrongly.
    WrongOperand,
    /// An expression that belongs to another statement, or to none.
    WrongStatement,
    /// A step before this one was left out.
    Skipped,
    /// The expression of a distractor in the place of the right one; or, in a response without any wrong step, a
    /// superfluous step about a distractor.
    Distractor,
    /// The response ends before the asked variable.
    StoppedEarly,
    /// The right expression with a wrong result.
    Arithmetic,
    /// Right steps, and an answer that is not their result.
    WrongAnswer,
    /// Not an equation about a variable of the problem, or no answer where one is due.
    Format,
}

/// One judged step.
#[derive(Debug, Clone, PartialEq)]
pub struct JudgedStep {
    /// The step.
    pub step: Step,
    /// What is wrong with it; `None` when it is right.
    pub error: Option<ErrorKind>,
    /// The true step where the written one is wrong, in the notation of the response.
    pub expected: Option<String>,
    /// Whether it is about a distractor.
    pub distractor: bool,
}

/// What was found in a response.
#[derive(Debug, Clone, PartialEq)]
pub struct Examination {
    /// The notation.
    pub voice: Voice,
    /// The written steps, and one more for what is missing at the end.
    pub steps: Vec<JudgedStep>,
    /// How many of them were written.
    pub written: usize,
    /// The answer in its normal form.
    pub answer: Option<String>,
    /// Whether the answer is right.
    pub outcome: Outcome,
}

impl Examination {
    /// Index of the first wrong step.
    pub fn first_wrong(&self) -> Option<usize> {
        self.steps.iter().position(|step| step.error.is_some())
    }

    /// The first error; a superfluous distractor step when nothing is wrong; `None` for a clean response.
    pub fn error(&self) -> Option<ErrorKind> {
        self.steps
            .iter()
            .find_map(|step| step.error)
            .or_else(|| self.steps.iter().any(|step| step.distractor).then_some(ErrorKind::Distractor))
    }

    /// The verdict in the common form.
    pub fn verdict(&self) -> Verdict {
        let reason = self.first_wrong().map(|index| {
            let step = &self.steps[index];
            let what = match step.error {
                Some(ErrorKind::WrongOperand) => "uses a wrong value",
                Some(ErrorKind::WrongStatement) => "is not what the problem says of its variable",
                Some(ErrorKind::Skipped) => "comes before a step that it needs",
                Some(ErrorKind::Distractor) => "uses a statement that does not matter",
                Some(ErrorKind::StoppedEarly) => "is missing",
                Some(ErrorKind::Arithmetic) => "has a wrong result",
                Some(ErrorKind::WrongAnswer) => "is not the result of the steps",
                Some(ErrorKind::Format) | None => "is not an equation of the problem, or there is no answer",
            };
            let expected =
                step.expected.as_deref().map(|text| format!(" (expected `{text}`)")).unwrap_or_default();
            format!("step {}: `{}` {what}{expected}", index + 1, step.step.text)
        });
        Verdict {
            outcome: self.outcome,
            answer: self.answer.clone(),
            steps: self
                .steps
                .iter()
                .map(|step| StepVerdict {
                    step: step.step.clone(),
                    correct: step.error.is_none(),
                    expected: step.expected.clone(),
                })
                .collect(),
            reason,
        }
    }
}

/// The answer of a response in its normal form: a whole number, or a letter in the choice form (a value that is one
/// of the options counts as its letter).
pub fn extract(exercise: &Exercise, response: &str) -> Option<String> {
    let text = parse::answer(response)?;
    let number = parse::normal_number(text);
    match &exercise.kind {
        Kind::Choice { values, .. } => match number {
            Some(number) => values.iter().position(|&value| value == number).map(|at| LABELS[at].to_string()),
            None => LABELS.contains(&text).then(|| text.to_string()),
        },
        _ => number.map(|number| number.to_string()),
    }
}

/// Examines a response. Without a plan (a masked number that no chain of single steps recovers), and in the direct
/// form without written steps, only the answer is judged.
pub fn examine(exercise: &Exercise, response: &str) -> Examination {
    let voice = Voice::of(response);
    let answer = extract(exercise, response);
    let gold = exercise.gold();
    let outcome = match &answer {
        None => Outcome::NoAnswer,
        Some(answer) if *answer == gold => Outcome::Correct,
        Some(_) => Outcome::Wrong,
    };
    let mut examination = Examination { voice, steps: Vec::new(), written: 0, answer, outcome };
    let Some(plan) = exercise.plan() else { return examination };
    let equations = parse::equations(response, voice);
    let mut written = vec![false; plan.steps.len()];
    for equation in &equations {
        let judged = judge(&plan, &written, equation, voice);
        if let Some(index) = position(&plan, equation) {
            written[index] = true;
        }
        examination.steps.push(judged);
    }
    examination.written = equations.len();
    if equations.is_empty() && exercise.kind == Kind::Direct {
        return examination;
    }
    // What is missing stands where the answer begins.
    let end = match voice {
        Voice::Compact => response.find('#').unwrap_or(response.len()),
        Voice::Chat => response.len(),
    };
    if let Some(missing) = first_missing(&plan, &written, plan.gold_length.saturating_sub(1)) {
        examination.steps.push(JudgedStep {
            step: Step { text: String::new(), start: end, end },
            error: Some(ErrorKind::StoppedEarly),
            expected: Some(text_of(&plan.steps[missing], voice)),
            distractor: false,
        });
    } else if examination.first_wrong().is_none() && outcome != Outcome::Correct {
        let error = if outcome == Outcome::Wrong { ErrorKind::WrongAnswer } else { ErrorKind::Format };
        let expected = match voice {
            Voice::Compact => format!("#{gold}"),
            Voice::Chat => format!("Answer: {gold}"),
        };
        let text = if voice == Voice::Compact { response[end..].to_string() } else { String::new() };
        examination.steps.push(JudgedStep {
            step: Step { text, start: end, end: response.len() },
            error: Some(error),
            expected: Some(expected),
            distractor: false,
        });
    }
    examination
}

fn text_of(step: &PlannedStep, voice: Voice) -> String {
    match voice {
        Voice::Compact => step.compact(),
        Voice::Chat => step.chat(),
    }
}

/// The planned step that an equation is about.
fn position(plan: &Plan, equation: &Equation) -> Option<usize> {
    let name = parse::canonical_name(equation.name.as_deref()?);
    plan.steps
        .iter()
        .position(|step| step.name == name)
        .or_else(|| plan.steps.iter().position(|step| step.alias.as_deref() == Some(name)))
}

/// The first computed step, in plan order, that `target` rests on (itself included) and that is not written.
fn first_missing(plan: &Plan, written: &[bool], target: usize) -> Option<usize> {
    let mut wanted = vec![false; target + 1];
    *wanted.last_mut()? = true;
    let mut first = None;
    // Sources stand before their step in the plan, and a step that is written vouches for what it rests on.
    for index in (0..=target).rev() {
        if wanted[index] && !written[index] && plan.steps[index].operation.is_some() {
            first = Some(index);
            for &source in plan.steps[index].sources.iter().flatten().filter(|&&source| source < index) {
                wanted[source] = true;
            }
        }
    }
    first
}

fn judge(plan: &Plan, written: &[bool], equation: &Equation, voice: Voice) -> JudgedStep {
    let judged = |error: Option<ErrorKind>, expected: Option<&PlannedStep>, distractor: bool| JudgedStep {
        step: equation.step.clone(),
        error,
        expected: error.and(expected).map(|step| text_of(step, voice)),
        distractor,
    };
    let next =
        || (0..plan.gold_length).find(|&index| !written[index] && plan.steps[index].operation.is_some());
    let Some(index) = position(plan, equation) else {
        let error = if equation.name.is_some() { ErrorKind::WrongStatement } else { ErrorKind::Format };
        return judged(
            Some(error),
            next().or(plan.gold_length.checked_sub(1)).map(|at| &plan.steps[at]),
            false,
        );
    };
    let planned = &plan.steps[index];
    if !written[index]
        && let Some(missing) = first_missing(plan, written, index).filter(|&missing| missing != index)
    {
        return judged(Some(ErrorKind::Skipped), Some(&plan.steps[missing]), false);
    }
    let error = compare(plan, planned, written[index], equation, voice);
    judged(error, Some(planned), planned.distractor)
}

/// What is wrong with an equation about a planned step whose operands are all known.
fn compare(
    plan: &Plan,
    planned: &PlannedStep,
    restated: bool,
    equation: &Equation,
    voice: Voice,
) -> Option<ErrorKind> {
    let resolve = |term: &Term| match term {
        Term::Number(number) => Some(*number),
        Term::Name(name) => {
            let name = parse::canonical_name(name);
            plan.steps.iter().find(|step| step.name == name).map(|step| step.value)
        }
    };
    let mut has_expression = false;
    let mut wrong_expression = None;
    let mut wrong_result = false;
    for (place, part) in equation.parts.iter().enumerate() {
        match part {
            Part::Other => return Some(ErrorKind::Format),
            Part::Single(term) => match resolve(term) {
                Some(value) => wrong_result |= value != planned.value,
                None => return Some(ErrorKind::WrongStatement),
            },
            Part::Binary(left, operator, right) => {
                let (Some(left), Some(right)) = (resolve(left), resolve(right)) else {
                    return Some(ErrorKind::WrongStatement);
                };
                let same =
                    planned.operation.is_some_and(|(planned_left, planned_operator, planned_right)| {
                        *operator == planned_operator
                            && ((left, right) == (planned_left, planned_right)
                                || (operator.commutes() && (right, left) == (planned_left, planned_right)))
                    });
                has_expression |= same;
                if !same && place == 0 {
                    wrong_expression = Some((left, *operator, right));
                } else if operator.apply(left, right) != Some(planned.value) {
                    wrong_result = true;
                }
            }
        }
    }
    if let Some((left, operator, right)) = wrong_expression {
        return Some(classify(plan, planned, left, operator, right));
    }
    let Some(last) = equation.parts.last() else { return Some(ErrorKind::Format) };
    if voice == Voice::Compact && !matches!(last, Part::Single(Term::Number(_))) {
        return Some(ErrorKind::Format);
    }
    if wrong_result {
        // A given value has no expression: a wrong number there is a wrong copy.
        return Some(if has_expression { ErrorKind::Arithmetic } else { ErrorKind::WrongOperand });
    }
    (!has_expression && planned.operation.is_some() && !restated).then_some(ErrorKind::Format)
}

/// The kind of a wrong expression.
fn classify(
    plan: &Plan,
    planned: &PlannedStep,
    left: i64,
    operator: super::chain::Operator,
    right: i64,
) -> ErrorKind {
    if let Some((planned_left, planned_operator, planned_right)) = planned.operation
        && operator == planned_operator
        && (left == planned_left || right == planned_right)
    {
        return ErrorKind::WrongOperand;
    }
    let of_distractor = plan.steps.iter().any(|step| {
        step.distractor
            && step.operation.is_some_and(|(_, known, constant)| (known, constant) == (operator, right))
    });
    if of_distractor { ErrorKind::Distractor } else { ErrorKind::WrongStatement }
}
