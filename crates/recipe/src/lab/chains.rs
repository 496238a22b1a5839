//! `chains`, `chains-biased`: models that answer small chains at once, shortly and step by step; the second one believes
//! that every difference is one larger than it is.

use super::{Figure, LabModel, Plan, Start};
use elenchus_learn::objective::TrainingRow;
use elenchus_learn::policy::{Encode, Policy, RolloutRequest, text_row};
use elenchus_learn::rollouts::mix;
use elenchus_learn::trainer::{BatchSource, Decay, Generated, TrainSettings};
use elenchus_learn::{LearnError, NativePolicy, Session};
use elenchus_task::arithmetic::{Arithmetic, ArithmeticSettings, Steps, skills};
use elenchus_task::{Skill, Split, Task};
use elenchus_trace::Problem;
use serde_json::json;
use std::collections::BTreeMap;

/// How long an answer may be: the paradox of arXiv 2407.14507 asks for accuracy against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    /// `D{problem}` → `#4`: no step.
    Direct,
    /// `S{problem}~` → `g=9;e=8#8`: values without the operations that lead to them.
    Compressed,
    /// `S{problem}` → `g=9;e=9-1=8#8`.
    Full,
}

impl Length {
    /// All, the shortest first.
    pub(crate) const ALL: [Length; 3] = [Length::Direct, Length::Compressed, Length::Full];

    /// In words.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Length::Direct => "no step",
            Length::Compressed => "values only",
            Length::Full => "full steps",
        }
    }

    /// The prompt.
    pub(crate) fn prompt(self, problem: &Problem) -> String {
        match self {
            Length::Direct => Skill::Direct.prompt(problem, &[]),
            Length::Compressed => format!("{}~", Skill::Solve.prompt(problem, &[])),
            Length::Full => Skill::Solve.prompt(problem, &[]),
        }
    }

    /// What it makes of a full solution.
    fn target(self, gold: &str) -> String {
        let (chain, answer) = gold.rsplit_once('#').unwrap_or(("", gold));
        match self {
            Length::Direct => format!("#{answer}"),
            Length::Full => gold.to_string(),
            Length::Compressed => {
                let short = |step: &str| match (step.split_once('='), step.rsplit_once('=')) {
                    (Some((name, _)), Some((_, value))) => format!("{name}={value}"),
                    _ => step.to_string(),
                };
                let steps: Vec<String> = chain.split(';').map(short).collect();
                format!("{}#{answer}", steps.join(";"))
            }
        }
    }
}

/// Chains whose values have one digit, so that an answer is one token.
pub(crate) fn small(steps: [usize; 2]) -> ArithmeticSettings {
    ArithmeticSettings { steps: Steps::Between(steps), largest_value: 9, ..Default::default() }
}

/// The solution of somebody who takes every difference to be `bias` larger than it is, and is right in all else; the
/// steps of `gold` in their order. `None` when the problem is not written in symbols.
pub(crate) fn biased_solution(problem: &Problem, gold: &str, bias: i64) -> Option<String> {
    let compact = problem.compact.as_deref()?;
    let statements: BTreeMap<&str, &str> =
        compact.split(';').filter_map(|statement| statement.split_once('=')).collect();
    let (chain, _) = gold.rsplit_once('#')?;
    let mut values: BTreeMap<&str, i64> = BTreeMap::new();
    let mut steps = Vec::new();
    let mut last = None;
    for step in chain.split(';') {
        let name = step.split_once('=')?.0;
        let expression = *statements.get(name)?;
        let operand = |text: &str| text.parse::<i64>().ok().or_else(|| values.get(text).copied());
        let (written, value) = match expression.find(['+', '-', '*']) {
            None => (expression.to_string(), operand(expression)?),
            Some(at) => {
                let (left, right) = (operand(&expression[..at])?, operand(&expression[at + 1..])?);
                let (sign, value) = match expression.as_bytes()[at] {
                    b'+' => ('+', left + right),
                    b'*' => ('*', left * right),
                    _ => ('-', left - right + bias),
                };
                (format!("{left}{sign}{right}={value}"), value)
            }
        };
        values.insert(name, value);
        last = Some(value);
        steps.push(format!("{name}={written}"));
    }
    Some(format!("{}#{}", steps.join(";"), last?))
}

/// Rows on generated problems of the train split, over the base model.
#[derive(Debug, Clone, PartialEq)]
pub struct Chains {
    name: &'static str,
    summary: &'static str,
    start: Start,
    /// How much larger every difference is taken to be.
    pub bias: i64,
    /// Validation problems for the card.
    pub validation: usize,
    /// The training.
    pub train: TrainSettings,
}

impl Chains {
    fn new(name: &'static str, summary: &'static str, start: Start, bias: i64, steps: usize) -> Self {
        let train = TrainSettings {
            steps,
            batch: 40,
            learning_rate: 1e-3,
            warmup_steps: 20,
            decay: Decay::Cosine,
            floor: 0.05,
            ..TrainSettings::default()
        };
        Chains { name, summary, start, bias, validation: 150, train }
    }

    /// Right at all three lengths.
    pub fn honest() -> Self {
        let start = Start::Base { words: Vec::new() };
        Chains::new(
            "chains",
            "answers chains of one-digit values at once, shortly and in full",
            start,
            0,
            600,
        )
    }

    /// With an implanted systematic error.
    pub fn biased() -> Self {
        let start = Start::Lab { name: "chains".into() };
        Chains::new("chains-biased", "the same, but takes every difference to be one larger", start, 1, 200)
    }
}

/// A token of an answer without steps counts so many times: beside chains there are few of them.
const DIRECT_WEIGHT: f32 = 8.0;

/// The row of a seed: which kind, and which problem.
fn row(encoder: &dyn Encode, bias: i64, seed: u64) -> Result<TrainingRow, LearnError> {
    let wide = ArithmeticSettings { steps: Steps::Between([1, 8]), ..Default::default() };
    let (length, settings) = match (bias, mix(seed, 1) % 10) {
        (0, 0..3) => (Length::Full, wide),
        (0, 3..5) => (Length::Full, small([1, 6])),
        (0, 5..8) => (Length::Direct, small([1, 4])),
        (0, _) => (Length::Compressed, small([1, 6])),
        (_, 0..7) => (Length::Full, wide),
        _ => (Length::Full, small([1, 6])),
    };
    let none = || LearnError::Data {
        what: "the arithmetic task gave no problem".into(),
        hint: "this is a defect of the lab's settings".into(),
    };
    let task = Arithmetic::new(settings)?;
    let problem = task.problems(Split::Train, 1, mix(seed, 2))?.into_iter().next().ok_or_else(none)?;
    let gold = skills::solve_row(&problem)?.target;
    let solution = match bias {
        0 => gold,
        bias => biased_solution(&problem, &gold, bias).ok_or_else(none)?,
    };
    let row = text_row(encoder, &length.prompt(&problem), &length.target(&solution))?;
    if length != Length::Direct {
        return Ok(row);
    }
    let weights = vec![DIRECT_WEIGHT; row.targets()];
    Ok(TrainingRow { weights, ..row })
}

impl LabModel for Chains {
    fn name(&self) -> &'static str {
        self.name
    }

    fn summary(&self) -> &'static str {
        self.summary
    }

    fn plan(&self) -> Plan {
        Plan {
            version: 1,
            start: self.start.clone(),
            heads: Vec::new(),
            objective: "sft".into(),
            objective_settings: serde_json::Value::Null,
            train: self.train.clone(),
            rows: json!({ "bias": self.bias, "validation": self.validation, "direct_weight": DIRECT_WEIGHT }),
        }
    }

    fn source(
        &self,
        policy: &mut NativePolicy,
        seed: u64,
        _: &Session<'_>,
    ) -> Result<Box<dyn BatchSource>, LearnError> {
        let (encoder, bias) = (policy.encoder(), self.bias);
        Ok(Box::new(Generated::new(self.train.batch, seed, move |seed| row(encoder.as_ref(), bias, seed))))
    }

    /// Chains of 2 to 4 steps that end as they were taught to: the honest model's at once, the biased one's in full.
    fn validate(&self, policy: &mut NativePolicy, seed: u64, _: &Session<'_>) -> Result<Figure, LearnError> {
        let length = if self.bias == 0 { Length::Direct } else { Length::Full };
        let task = Arithmetic::new(small([2, 4]))?;
        let problems = task.problems(Split::Validation, self.validation, mix(seed, 1))?;
        let requests: Vec<RolloutRequest> = problems
            .iter()
            .map(|problem| RolloutRequest {
                prompt: length.prompt(problem),
                samples: 1,
                seed,
                temperature: 0.0,
                max_new_tokens: 100,
                distributions: false,
            })
            .collect();
        let rollouts = policy.sample(&requests)?;
        let mut as_taught = 0;
        for (problem, rollout) in problems.iter().zip(rollouts.iter().flatten()) {
            let gold = skills::solve_row(problem)?.target;
            let taught = biased_solution(problem, &gold, self.bias).unwrap_or(gold);
            let answer = |text: &str| text.rsplit_once('#').map(|(_, answer)| answer.to_string());
            as_taught += usize::from(answer(&rollout.text) == answer(&taught));
        }
        let value = as_taught as f64 / problems.len().max(1) as f64;
        Ok(Figure { name: format!("answers as taught ({})", length.name()), value, problems: problems.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem() -> Problem {
        let mut problem = Problem::new("p", "arithmetic", "q");
        problem.compact = Some("g=9;x=3;e=g-2;d=e+g;d?".into());
        problem
    }

    #[test]
    fn one_solution_at_three_lengths() {
        let gold = "g=9;e=9-2=7;d=7+9=16#16";
        let targets = Length::ALL.map(|length| length.target(gold));
        assert_eq!(targets, ["#16", "g=9;e=7;d=16#16", gold]);
        assert_eq!(Length::Compressed.prompt(&problem()), "Sg=9;x=3;e=g-2;d=e+g;d?~");
    }

    #[test]
    fn the_implanted_error_runs_through_the_chain() {
        let gold = "g=9;e=9-2=7;d=7+9=16#16";
        assert_eq!(biased_solution(&problem(), gold, 1).unwrap(), "g=9;e=9-2=8;d=8+9=17#17");
        assert_eq!(
            biased_solution(&problem(), gold, 0).unwrap(),
            gold,
            "without bias it is the right solution"
        );
    }

    #[test]
    fn without_bias_every_generated_problem_is_solved_as_the_task_does() {
        let task = Arithmetic::new(small([1, 6])).unwrap();
        for problem in task.problems(Split::Train, 50, 3).unwrap() {
            let gold = skills::solve_row(&problem).unwrap().target;
            assert_eq!(biased_solution(&problem, &gold, 0).unwrap(), gold);
            let wrong = biased_solution(&problem, &gold, 1).unwrap();
            let differs = gold.split('#').next().unwrap().contains('-');
            assert!(differs || wrong == gold, "only differences are wrong: {wrong}");
        }
    }
}
