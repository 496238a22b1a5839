//! A chain of statements: its values, its canonical form and the plan of a right solution.

use crate::{Split, TaskError};
use std::borrow::Cow;

/// The character that stands for the masked number in the backward form.
pub const MASK: &str = "_";

/// An arithmetic operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operator {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`, which occurs in inverse chains only, and there without remainder.
    Divide,
}

impl Operator {
    /// The operator as one character.
    pub fn symbol(self) -> char {
        match self {
            Operator::Add => '+',
            Operator::Subtract => '-',
            Operator::Multiply => '*',
            Operator::Divide => '/',
        }
    }

    /// The operator a character stands for.
    pub fn from_symbol(symbol: char) -> Option<Self> {
        match symbol {
            '+' => Some(Operator::Add),
            '-' => Some(Operator::Subtract),
            '*' => Some(Operator::Multiply),
            '/' => Some(Operator::Divide),
            _ => None,
        }
    }

    /// `left operator right`; `None` on overflow and on a division that leaves a remainder.
    pub fn apply(self, left: i64, right: i64) -> Option<i64> {
        match self {
            Operator::Add => left.checked_add(right),
            Operator::Subtract => left.checked_sub(right),
            Operator::Multiply => left.checked_mul(right),
            Operator::Divide => (left.checked_rem(right)? == 0).then(|| left / right),
        }
    }

    /// Whether the operands may be swapped.
    pub fn commutes(self) -> bool {
        matches!(self, Operator::Add | Operator::Multiply)
    }
}

/// The second operand of a computed statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operand {
    /// A constant.
    Number(i64),
    /// The variable of an earlier statement, by its index.
    Variable(usize),
}

/// The right-hand side of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Expression {
    /// The value is given.
    Given(i64),
    /// The value is computed from an earlier statement.
    Computed {
        /// Index of the statement whose variable is the left operand.
        left: usize,
        /// The operator.
        operator: Operator,
        /// The right operand.
        right: Operand,
    },
}

/// A statement: a variable and what it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Statement {
    /// The variable: a letter or a name.
    pub name: Cow<'static, str>,
    /// What it is.
    pub expression: Expression,
}

impl Statement {
    /// The number that stands in the statement, which is the one that can be masked.
    pub fn number(&self) -> Option<i64> {
        match self.expression {
            Expression::Given(value) | Expression::Computed { right: Operand::Number(value), .. } => {
                Some(value)
            }
            Expression::Computed { .. } => None,
        }
    }
}

/// Statements in dependency order, and which variable is asked for. Every value is known and fits the notation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    statements: Vec<Statement>,
    values: Vec<i64>,
    asked: usize,
}

/// One step of a right solution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedStep {
    /// The variable.
    pub name: Cow<'static, str>,
    /// A second name under which the step may be written (the variable whose given value is masked).
    pub alias: Option<Cow<'static, str>>,
    /// Left operand, operator, right operand; `None` for a given value.
    pub operation: Option<(i64, Operator, i64)>,
    /// The value.
    pub value: i64,
    /// Indices in the plan of the steps that the left and the right operand come from, where there are such steps.
    pub sources: [Option<usize>; 2],
    /// Whether the answer depends on the step. Steps about distractors and restated givens are not needed.
    pub needed: bool,
    /// Whether the step is about a distractor.
    pub distractor: bool,
}

impl PlannedStep {
    /// The step in the compact notation: `e=50-1=49`, or `g=50` for a given value.
    pub fn compact(&self) -> String {
        let mut text = String::with_capacity(16);
        self.write(&mut text, "");
        text
    }

    /// The step as a line of a chat answer: `e = 50 - 1 = 49`.
    pub fn chat(&self) -> String {
        let mut text = String::with_capacity(24);
        self.write(&mut text, " ");
        // The mask is written `X` for models that read English.
        if self.name == MASK { text.replacen(MASK, "X", 1) } else { text }
    }

    fn write(&self, text: &mut String, space: &str) {
        text.push_str(&self.name);
        text.push_str(space);
        text.push('=');
        text.push_str(space);
        if let Some((left, operator, right)) = self.operation {
            push_number(text, left);
            text.push_str(space);
            text.push(operator.symbol());
            text.push_str(space);
            push_number(text, right);
            text.push_str(space);
            text.push('=');
            text.push_str(space);
        }
        push_number(text, self.value);
    }
}

/// One step of the way down from the asked variable to the masked number.
struct Inverse {
    /// The variable that becomes known; `None` for a masked constant.
    finds: Option<usize>,
    /// The operation on values.
    operation: (i64, Operator, i64),
    /// Which operand (0 left, 1 right) is the value that the step before found.
    from_above: usize,
    /// The known variable that the other operand is.
    uses: Option<usize>,
}

/// The steps of the right solution, in order, then the steps that may be written beside them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// All steps; the ones of the gold solution stand first, in order.
    pub steps: Vec<PlannedStep>,
    /// How many of them are the gold solution.
    pub gold_length: usize,
    /// The value asked for.
    pub value: i64,
}

impl Plan {
    /// The gold steps in order.
    pub fn gold(&self) -> &[PlannedStep] {
        &self.steps[..self.gold_length]
    }
}

/// Appends a decimal number; formatting machinery costs more than the digits here.
pub(super) fn push_number(text: &mut String, number: i64) {
    if number < 0 {
        text.push('-');
    }
    let mut digits = [0u8; 20];
    let mut start = digits.len();
    let mut rest = number.unsigned_abs();
    loop {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    text.extend(digits[start..].iter().map(|&digit| digit as char));
}

impl Chain {
    /// A chain from statements in dependency order. `None` when a statement uses a later one, a value overflows, a
    /// division leaves a remainder, a name occurs twice, or `asked` is no statement.
    pub fn new(statements: Vec<Statement>, asked: usize) -> Option<Self> {
        if asked >= statements.len() {
            return None;
        }
        let mut values: Vec<i64> = Vec::with_capacity(statements.len());
        for (index, statement) in statements.iter().enumerate() {
            if statements[..index].iter().any(|earlier| earlier.name == statement.name) {
                return None;
            }
            let value = match statement.expression {
                Expression::Given(value) => value,
                Expression::Computed { left, operator, right } => {
                    let right = match right {
                        Operand::Number(number) => number,
                        Operand::Variable(variable) => *values.get(variable)?,
                    };
                    operator.apply(*values.get(left)?, right)?
                }
            };
            values.push(value);
        }
        Some(Chain { statements, values, asked })
    }

    /// For the generator, which has checked everything that [`Chain::new`] checks.
    pub(super) fn from_parts(statements: Vec<Statement>, values: Vec<i64>, asked: usize) -> Self {
        Chain { statements, values, asked }
    }

    /// The statements in order.
    pub fn statements(&self) -> &[Statement] {
        &self.statements
    }

    /// The value of each statement's variable.
    pub fn values(&self) -> &[i64] {
        &self.values
    }

    /// Index of the statement whose variable is asked for.
    pub fn asked(&self) -> usize {
        self.asked
    }

    /// The value asked for.
    pub fn value(&self) -> i64 {
        self.values[self.asked]
    }

    /// The same chain under other names, one per statement.
    pub fn renamed(mut self, names: impl IntoIterator<Item = Cow<'static, str>>) -> Self {
        for (statement, name) in self.statements.iter_mut().zip(names) {
            statement.name = name;
        }
        self
    }

    /// Which statements the answer depends on.
    pub fn needed(&self) -> Vec<bool> {
        let mut needed = vec![false; self.statements.len()];
        needed[self.asked] = true;
        for index in (0..=self.asked).rev() {
            if needed[index]
                && let Expression::Computed { left, right, .. } = self.statements[index].expression
            {
                needed[left] = true;
                if let Operand::Variable(variable) = right {
                    needed[variable] = true;
                }
            }
        }
        needed
    }

    /// Operations on the way to the answer.
    pub fn steps(&self) -> usize {
        let needed = self.needed();
        let computed = |statement: &Statement| matches!(statement.expression, Expression::Computed { .. });
        self.statements
            .iter()
            .zip(&needed)
            .filter(|(statement, needed)| **needed && computed(statement))
            .count()
    }

    /// The part of the problems this chain belongs to: train 80 %, validation 10 %, test 10 %, by a BLAKE3 hash of
    /// the statements that the answer depends on, with the variables numbered. Names, distractors, surface and form
    /// do not matter, so no rewording of a chain is in another part.
    pub fn split(&self) -> Split {
        let needed = self.needed();
        let mut number = [0u8; 64];
        let mut bytes: Vec<u8> = Vec::with_capacity(self.statements.len() * 12);
        let mut next = 0u8;
        for (index, statement) in self.statements.iter().enumerate() {
            if !needed[index] {
                continue;
            }
            if let Some(slot) = number.get_mut(index) {
                *slot = next;
            }
            next = next.wrapping_add(1);
            let numbered = |variable: usize| number.get(variable).copied().unwrap_or(u8::MAX);
            match statement.expression {
                Expression::Given(value) => {
                    bytes.push(b'=');
                    bytes.extend_from_slice(&value.to_le_bytes());
                }
                Expression::Computed { left, operator, right } => {
                    bytes.push(operator.symbol() as u8);
                    bytes.push(numbered(left));
                    match right {
                        Operand::Number(value) => bytes.extend_from_slice(&value.to_le_bytes()),
                        Operand::Variable(variable) => bytes.extend_from_slice(&[b'v', numbered(variable)]),
                    }
                }
            }
        }
        crate::split_of(&bytes)
    }

    /// Appends one statement, `e=g-1`, with its number replaced by `_` when it is masked.
    pub fn write_statement(&self, text: &mut String, index: usize, masked: bool) {
        let statement = &self.statements[index];
        text.push_str(&statement.name);
        text.push('=');
        let push = |text: &mut String, value: i64| {
            if masked { text.push_str(MASK) } else { push_number(text, value) }
        };
        match statement.expression {
            Expression::Given(value) => push(text, value),
            Expression::Computed { left, operator, right } => {
                text.push_str(&self.statements[left].name);
                text.push(operator.symbol());
                match right {
                    Operand::Number(value) => push(text, value),
                    Operand::Variable(variable) => text.push_str(&self.statements[variable].name),
                }
            }
        }
    }

    /// Reads statements of the form `g=50`, `e=g-1`, `f=e+g`. `id` is for the error.
    pub fn parse(statements: &[&str], asked: &str, id: &str) -> Result<Self, TaskError> {
        let wrong = |problem: String| {
            TaskError::Problem {
            id: id.to_string(),
            problem,
            hint: "`data` must be as the arithmetic task wrote it: {statements: [\"g=50\", \"e=g-1\"], asked: \"e\"}"
                .to_string(),
        }
        };
        let mut parsed: Vec<Statement> = Vec::with_capacity(statements.len());
        for text in statements {
            let (name, right) =
                text.split_once('=').ok_or_else(|| wrong(format!("statement `{text}` has no `=`")))?;
            let variable = |name: &str| parsed.iter().position(|statement| statement.name == name);
            let expression = if let Ok(value) = right.parse::<i64>() {
                Expression::Given(value)
            } else {
                let place = right.find(['+', '-', '*', '/']).ok_or_else(|| {
                    wrong(format!("statement `{text}` is neither a number nor an operation"))
                })?;
                let left = variable(&right[..place]).ok_or_else(|| {
                    wrong(format!("statement `{text}` uses a variable that is not defined before it"))
                })?;
                let operator = right[place..]
                    .chars()
                    .next()
                    .and_then(Operator::from_symbol)
                    .ok_or_else(|| wrong(format!("statement `{text}` has no operator")))?;
                let operand = &right[place + 1..];
                let right = match operand.parse::<i64>() {
                    Ok(value) => Operand::Number(value),
                    Err(_) => Operand::Variable(variable(operand).ok_or_else(|| {
                        wrong(format!("statement `{text}` uses `{operand}`, which is not defined before it"))
                    })?),
                };
                Expression::Computed { left, operator, right }
            };
            parsed.push(Statement { name: super::words::interned(name), expression });
        }
        let asked = parsed
            .iter()
            .position(|statement| statement.name == asked)
            .ok_or_else(|| wrong(format!("the asked variable `{asked}` is not defined")))?;
        Chain::new(parsed, asked)
            .ok_or_else(|| wrong("the statements have no exact values, or a name occurs twice".to_string()))
    }

    /// The plan of a forward solution: the needed statements in order, then the distractors.
    pub fn plan(&self) -> Plan {
        let needed = self.needed();
        let order = (0..self.statements.len())
            .filter(|&index| needed[index])
            .chain((0..self.statements.len()).filter(|&index| !needed[index]));
        let mut place = vec![None; self.statements.len()];
        let mut steps = Vec::with_capacity(self.statements.len());
        for index in order {
            place[index] = Some(steps.len());
            steps.push(self.forward_step(index, needed[index], &place));
        }
        let gold_length = needed.iter().filter(|needed| **needed).count();
        Plan { steps, gold_length, value: self.value() }
    }

    /// The step that computes a statement from the ones before it; `place` maps statements to plan indices.
    fn forward_step(&self, index: usize, needed: bool, place: &[Option<usize>]) -> PlannedStep {
        let (operation, sources) = match self.statements[index].expression {
            Expression::Given(_) => (None, [None; 2]),
            Expression::Computed { left, operator, right: Operand::Number(value) } => {
                (Some((self.values[left], operator, value)), [place[left], None])
            }
            Expression::Computed { left, operator, right: Operand::Variable(right) } => {
                (Some((self.values[left], operator, self.values[right])), [place[left], place[right]])
            }
        };
        PlannedStep {
            name: self.statements[index].name.clone(),
            alias: None,
            operation,
            value: self.values[index],
            sources,
            needed,
            distractor: !needed,
        }
    }

    /// The asked value as a linear function a·x + b of the number x in a statement: every chain is one, because
    /// variables are never multiplied with each other. The masked number is recoverable uniquely iff a ≠ 0.
    pub fn slope(&self, masked: usize) -> i64 {
        let mut slopes = vec![0i64; self.statements.len()];
        for (index, statement) in self.statements.iter().enumerate() {
            let here = index == masked;
            slopes[index] = match statement.expression {
                Expression::Given(_) => i64::from(here),
                Expression::Computed { left, operator, right } => {
                    let (right_value, right_slope) = match right {
                        Operand::Number(value) => (value, i64::from(here)),
                        Operand::Variable(variable) => (self.values[variable], slopes[variable]),
                    };
                    match operator {
                        Operator::Add => slopes[left].saturating_add(right_slope),
                        Operator::Subtract => slopes[left].saturating_sub(right_slope),
                        Operator::Multiply if here => self.values[left],
                        Operator::Multiply => slopes[left].saturating_mul(right_value),
                        // Division is never generated in a statement; a nonzero slope stays nonzero under it.
                        Operator::Divide => slopes[left],
                    }
                }
            };
        }
        slopes[self.asked]
    }

    /// The plan that recovers the masked number from the value of the asked variable: the forward steps it needs,
    /// then the inverse steps from the asked variable down to `_`. `None` when the number is not recoverable
    /// uniquely, or when the unknown enters one statement through both operands (no chain of single steps inverts
    /// that).
    pub fn backward_plan(&self, masked: usize) -> Option<Plan> {
        if self.slope(masked) == 0 {
            return None;
        }
        let count = self.statements.len();
        // Which values depend on the masked number.
        let mut unknown = vec![false; count];
        for (index, statement) in self.statements.iter().enumerate() {
            unknown[index] = index == masked
                || match statement.expression {
                    Expression::Given(_) => false,
                    Expression::Computed { left, right, .. } => {
                        unknown[left] || matches!(right, Operand::Variable(variable) if unknown[variable])
                    }
                };
        }
        let mut inverse: Vec<Inverse> = Vec::new();
        let mut at = self.asked;
        loop {
            let value = self.values[at];
            match self.statements[at].expression {
                Expression::Given(_) => break,
                Expression::Computed { left, operator, right } => {
                    let left_unknown = unknown[left];
                    let right_unknown = match right {
                        Operand::Number(_) => at == masked,
                        Operand::Variable(variable) => unknown[variable],
                    };
                    let (right_value, right_variable) = match right {
                        Operand::Number(number) => (number, None),
                        Operand::Variable(variable) => (self.values[variable], Some(variable)),
                    };
                    match (left_unknown, right_unknown) {
                        (true, true) | (false, false) => return None,
                        (true, false) => {
                            let operation = match operator {
                                Operator::Add => (value, Operator::Subtract, right_value),
                                Operator::Subtract => (value, Operator::Add, right_value),
                                Operator::Multiply if right_value != 0 => {
                                    (value, Operator::Divide, right_value)
                                }
                                _ => return None,
                            };
                            inverse.push(Inverse {
                                finds: Some(left),
                                operation,
                                from_above: 0,
                                uses: right_variable,
                            });
                            at = left;
                        }
                        (false, true) => {
                            let left_value = self.values[left];
                            let (operation, from_above) = match operator {
                                Operator::Add => ((value, Operator::Subtract, left_value), 0),
                                Operator::Subtract => ((left_value, Operator::Subtract, value), 1),
                                Operator::Multiply if left_value != 0 => {
                                    ((value, Operator::Divide, left_value), 0)
                                }
                                _ => return None,
                            };
                            inverse.push(Inverse {
                                finds: right_variable,
                                operation,
                                from_above,
                                uses: Some(left),
                            });
                            match right_variable {
                                Some(variable) => at = variable,
                                None => break,
                            }
                        }
                    }
                }
            }
        }
        // Known variables that the inverse steps use, with all they rest on.
        let mut wanted = vec![false; count];
        for variable in inverse.iter().filter_map(|step| step.uses) {
            wanted[variable] = true;
        }
        for index in (0..count).rev() {
            if wanted[index]
                && let Expression::Computed { left, right, .. } = self.statements[index].expression
            {
                wanted[left] = true;
                if let Operand::Variable(variable) = right {
                    wanted[variable] = true;
                }
            }
        }
        let computed =
            |index: usize| matches!(self.statements[index].expression, Expression::Computed { .. });
        let needed_forward = self.needed();
        let mut place = vec![None; count];
        let mut steps = Vec::new();
        for index in (0..count).filter(|&index| wanted[index] && computed(index)) {
            place[index] = Some(steps.len());
            steps.push(self.forward_step(index, true, &place));
        }
        let mut previous: Option<usize> = None;
        let last = inverse.len().checked_sub(1)?;
        for (position, step) in inverse.into_iter().enumerate() {
            let Inverse { finds, operation, from_above, uses } = step;
            let mut sources = [None; 2];
            sources[from_above] = previous;
            sources[1 - from_above] = uses.and_then(|used| place[used]);
            let value = operation.1.apply(operation.0, operation.2)?;
            let own = finds.map(|variable| self.statements[variable].name.clone());
            let (name, alias) = if position == last { (Cow::Borrowed(MASK), own) } else { (own?, None) };
            previous = Some(steps.len());
            steps.push(PlannedStep {
                name,
                alias,
                operation: Some(operation),
                value,
                sources,
                needed: true,
                distractor: false,
            });
        }
        let gold_length = steps.len();
        let value = self.statements[masked].number()?;
        if steps.last().map(|step| step.value) != Some(value) {
            return None;
        }
        // What may be restated: known values that the gold solution does not write, and the given final value.
        for index in 0..count {
            let done = wanted[index] && computed(index);
            if !unknown[index] && !done {
                place[index] = Some(steps.len());
                let mut step = self.forward_step(index, false, &place);
                step.distractor = !needed_forward[index];
                steps.push(step);
            }
        }
        steps.push(PlannedStep {
            name: self.statements[self.asked].name.clone(),
            alias: None,
            operation: None,
            value: self.value(),
            sources: [None; 2],
            needed: false,
            distractor: false,
        });
        Some(Plan { steps, gold_length, value })
    }
}
