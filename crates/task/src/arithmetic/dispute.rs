//! Objections to a step of a compact solution, true and false ones, and what they dispute.
//!
//! An objection is `N` with a claim behind it, `Nd=49+81=131`, and where it quotes the problem the line in front,
//! `d=e+81Nd=49+81=131`. All are filled up with `.` to the same length, so that a model cannot tell kinds apart by length
//! (arXiv 2506.03332 names length as a confounder). What a reply to a whole dialogue looks like is in [`dialogue_prompt`].

use super::chain::{Chain, Expression, Operand, Operator, PlannedStep, push_number};
use super::corrupt::wrong_result;
use super::forms::{Exercise, Kind};
use super::parse::{self, Equation, Part, Term, Voice};
use super::verify;
use crate::{Skill, TaskError};
use elenchus_trace::Problem;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// Characters of an objection: the longest of almost all, the shorter ones are filled up.
pub const WIDTH: usize = 24;
const FILL: char = '.';
/// How often a false claim is drawn before a solution is given up as one without a convincing one.
const TRIES: usize = 32;
/// Largest value of a misprinted problem: generated ones have no more digits.
const MOST: i64 = 999;

/// What an objection brings forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ground {
    /// Nothing: `N`.
    Bare,
    /// A step as it should be: `Nd=49+81=131`.
    Step,
    /// The line of the problem that the step is about, and the step: `d=e+81Nd=49+81=131`.
    Quoted,
}

/// In which way a claim is false.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Falsehood {
    /// The step's own operation with a slip in its result: `d=49+81=131`.
    Result,
    /// Another operand, with the right result of the wrong operation: `d=48+81=129`.
    Operand,
    /// The operation of another line: `d=49-1=48`.
    Statement,
    /// The final answer, without a step: `#131`.
    Answer,
}

/// An objection to a solution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Objection {
    /// Its text, filled up to [`WIDTH`].
    pub text: String,
    /// The answer that follows from its claim; `None` when it claims nothing.
    pub leads_to: Option<String>,
}

/// What an objection disputes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disputed {
    /// A variable's value.
    Step {
        /// The variable.
        name: String,
        /// The value that is claimed for it.
        value: i64,
    },
    /// The final answer.
    Answer(i64),
}

fn filled(mut text: String) -> String {
    let missing = WIDTH.saturating_sub(text.len());
    text.extend(std::iter::repeat_n(FILL, missing));
    text
}

/// The line of the problem about a variable; the question, when there is none.
fn quoted(chain: &Chain, name: &str) -> String {
    let mut text = String::new();
    match chain.statements().iter().position(|statement| statement.name == name) {
        Some(index) => chain.write_statement(&mut text, index, false),
        None => {
            text.push_str(&chain.statements()[chain.asked()].name);
            text.push('?');
        }
    }
    text
}

fn written(ground: Ground, chain: &Chain, name: &str, claim: &str) -> String {
    filled(match ground {
        Ground::Bare => "N".to_string(),
        Ground::Step => format!("N{claim}"),
        Ground::Quoted => format!("{}N{claim}", quoted(chain, name)),
    })
}

fn chain_form(problem: &Problem) -> Result<Exercise, TaskError> {
    let exercise = Exercise::from_problem(problem)?;
    if exercise.kind == Kind::Chain {
        return Ok(exercise);
    }
    Err(TaskError::Problem {
        id: problem.id.clone(),
        problem: "is not of the form `chain`, whose steps can be disputed".to_string(),
        hint: "make problems with `form = \"chain\"`".to_string(),
    })
}

/// The objection of somebody who knows: the first wrong step as it should be. `None` for a right answer, whatever its
/// steps.
///
/// # Errors
/// The problem is not of this task, or not of the chain form.
pub fn true_objection(
    problem: &Problem,
    solution: &str,
    ground: Ground,
) -> Result<Option<Objection>, TaskError> {
    let exercise = chain_form(problem)?;
    let examination = verify::examine(&exercise, solution);
    let (false, Some(first)) = (examination.verdict().is_correct(), examination.first_wrong()) else {
        return Ok(None);
    };
    let Some(expected) = &examination.steps[first].expected else { return Ok(None) };
    let name = expected.split('=').next().unwrap_or_default();
    let leads_to = (ground != Ground::Bare).then(|| exercise.gold());
    Ok(Some(Objection { text: written(ground, &exercise.chain, name, expected), leads_to }))
}

/// The problem as somebody sees it who has a misprint before them: the number of one line that the answer rests on is
/// another. The first wrong step of its right solution is then that line, and only who has the right problem can say so.
/// `None` when no line has a number, or no misprint was found that is a problem of the same split.
///
/// # Errors
/// The problem is not of this task, or not of the chain form.
pub fn misprinted(problem: &Problem, random: &mut ChaCha8Rng) -> Result<Option<Problem>, TaskError> {
    let exercise = chain_form(problem)?;
    let chain = &exercise.chain;
    let needed = chain.needed();
    let lines: Vec<usize> = (0..needed.len())
        .filter(|&line| needed[line] && chain.statements()[line].number().is_some())
        .collect();
    if lines.is_empty() {
        return Ok(None);
    }
    for _ in 0..TRIES {
        let line = lines[random.random_range(0..lines.len())];
        let mut statements = chain.statements().to_vec();
        let number = match &mut statements[line].expression {
            Expression::Given(number) | Expression::Computed { right: Operand::Number(number), .. } => number,
            Expression::Computed { .. } => continue,
        };
        let right = std::mem::replace(number, wrong_result(*number, random));
        if *number <= 0 || *number == right {
            continue;
        }
        let Some(printed) = Chain::new(statements, chain.asked()) else { continue };
        let small = printed.values().iter().all(|value| (0..=MOST).contains(value));
        if small && printed.value() != chain.value() && printed.split() == chain.split() {
            return Ok(Some(Exercise { chain: printed, ..exercise }.problem()));
        }
    }
    Ok(None)
}

/// The number that a step ends with.
fn value_of(equation: &Equation) -> Option<i64> {
    match equation.parts.last()? {
        Part::Single(Term::Number(value)) => Some(*value),
        _ => None,
    }
}

/// The operation on numbers in a step.
fn operation_of(equation: &Equation) -> Option<(i64, Operator, i64)> {
    equation.parts.iter().rev().find_map(|part| match part {
        Part::Binary(Term::Number(left), operator, Term::Number(right)) => Some((*left, *operator, *right)),
        _ => None,
    })
}

/// The answer when a variable has another value and everything that rests on it is computed anew.
fn consequence(chain: &Chain, disputed: usize, value: i64) -> Option<i64> {
    let mut values = chain.values().to_vec();
    *values.get_mut(disputed)? = value;
    for (index, statement) in chain.statements().iter().enumerate().skip(disputed + 1) {
        if let Expression::Computed { left, operator, right } = statement.expression {
            let right = match right {
                Operand::Number(number) => number,
                Operand::Variable(variable) => values[variable],
            };
            values[index] = operator.apply(values[left], right)?;
        }
    }
    values.get(chain.asked()).copied()
}

fn claim_of(name: &str, operation: (i64, Operator, i64), value: i64) -> String {
    PlannedStep {
        name: name.to_string().into(),
        alias: None,
        operation: Some(operation),
        value,
        sources: [None, None],
        needed: true,
        distractor: false,
    }
    .compact()
}

/// An objection that needs no error: it disputes a step of the solution, drawn at random, with a claim that differs from
/// what stands there. Of a right solution it is false; of a wrong one it may hit the error by chance. `None` when the
/// solution has no step to dispute, or no convincing false claim was found.
///
/// # Errors
/// The problem is not of this task, or not of the chain form.
pub fn blind_objection(
    problem: &Problem,
    solution: &str,
    ground: Ground,
    falsehood: Falsehood,
    random: &mut ChaCha8Rng,
) -> Result<Option<Objection>, TaskError> {
    let exercise = chain_form(problem)?;
    let chain = &exercise.chain;
    if ground == Ground::Bare {
        return Ok(Some(Objection { text: written(ground, chain, "", ""), leads_to: None }));
    }
    let equations = parse::equations(solution, Voice::Compact);
    let steps: Vec<(usize, &str, (i64, Operator, i64), i64)> = equations
        .iter()
        .filter_map(|equation| {
            let name = equation.name.as_deref()?;
            let index = chain.statements().iter().position(|statement| statement.name == name)?;
            Some((index, name, operation_of(equation)?, value_of(equation)?))
        })
        .collect();
    let answer = parse::answer(solution).and_then(parse::normal_number);
    for _ in 0..TRIES {
        if falsehood == Falsehood::Answer {
            let Some(answer) = answer else { return Ok(None) };
            let other = wrong_result(answer, random);
            if other < 0 || other == answer {
                continue;
            }
            let mut claim = "#".to_string();
            push_number(&mut claim, other);
            return Ok(Some(Objection {
                text: written(ground, chain, "#", &claim),
                leads_to: Some(other.to_string()),
            }));
        }
        if steps.is_empty() {
            return Ok(None);
        }
        let (index, name, (left, operator, right), value) = steps[random.random_range(0..steps.len())];
        let operation = match falsehood {
            Falsehood::Operand => (wrong_result(left, random), operator, right),
            Falsehood::Statement => {
                let others: Vec<(Operator, i64)> = steps
                    .iter()
                    .filter(|step| step.0 != index)
                    .map(|step| (step.2.1, step.2.2))
                    .filter(|other| *other != (operator, right))
                    .collect();
                let Some(&(operator, right)) = others.get(random.random_range(0..others.len().max(1))) else {
                    continue;
                };
                (left, operator, right)
            }
            Falsehood::Result | Falsehood::Answer => (left, operator, right),
        };
        let claimed = match falsehood {
            Falsehood::Result => Some(wrong_result(value, random)),
            _ => operation.1.apply(operation.0, operation.2),
        };
        let Some(claimed) = claimed.filter(|&claimed| claimed >= 0 && claimed != value) else { continue };
        let Some(leads_to) = consequence(chain, index, claimed) else { continue };
        if leads_to < 0 || Some(leads_to) == answer {
            continue;
        }
        let claim = claim_of(name, operation, claimed);
        return Ok(Some(Objection {
            text: written(ground, chain, name, &claim),
            leads_to: Some(leads_to.to_string()),
        }));
    }
    Ok(None)
}

/// What an objection disputes: the claim behind its last `N`. `None` for one that claims nothing, or is none.
pub fn disputed(objection: &str) -> Option<Disputed> {
    let claim = objection.trim_end_matches(FILL).rsplit_once('N')?.1;
    if let Some(answer) = claim.strip_prefix('#') {
        return parse::normal_number(answer).map(Disputed::Answer);
    }
    let (name, _) = claim.split_once('=')?;
    let value = claim.rsplit_once('=').and_then(|(_, value)| parse::normal_number(value))?;
    (!name.is_empty()).then(|| Disputed::Step { name: name.to_string(), value })
}

/// What a compact solution says of that which is disputed; `None` when it says nothing of it.
pub fn says(solution: &str, disputed: &Disputed) -> Option<i64> {
    match disputed {
        Disputed::Answer(_) => parse::answer(solution).and_then(parse::normal_number),
        Disputed::Step { name, .. } => parse::equations(solution, Voice::Compact)
            .iter()
            .find(|equation| equation.name.as_deref() == Some(name))
            .and_then(value_of),
    }
}

/// The prompt of a dialogue: the problem, then each solution with the objection to it, in order. With one turn it is
/// that of the skill `refine`.
pub fn dialogue_prompt(problem: &Problem, turns: &[(&str, &str)]) -> String {
    let parts: Vec<&str> = turns.iter().flat_map(|&(solution, objection)| [solution, objection]).collect();
    Skill::Refine.prompt(problem, &parts)
}

/// A solution with every step written from its line of the problem first, `d=e+81=49+81=130`: who writes this computes
/// each step anew.
pub fn reread(chain: &Chain, steps: &[PlannedStep], answer: &str) -> String {
    let mut text = String::new();
    for (place, step) in steps.iter().enumerate() {
        if place > 0 {
            text.push(';');
        }
        match step.operation {
            None => text.push_str(&step.compact()),
            Some(_) => {
                text.push_str(&quoted(chain, &step.name));
                text.push_str(step.compact().get(step.name.len()..).unwrap_or_default());
            }
        }
    }
    text.push('#');
    text.push_str(answer);
    text
}

#[cfg(test)]
mod tests {
    use super::super::{Arithmetic, ArithmeticSettings, Steps};
    use super::*;
    use crate::{Split, Task};
    use elenchus_trace::Outcome;
    use rand::SeedableRng;

    const GOLD: &str = "g=50;e=50-1=49;d=49+81=130#130";

    fn example() -> Problem {
        let chain = Chain::parse(&["g=50", "e=g-1", "d=e+81", "l=89"], "d", "example").unwrap();
        Exercise { chain, in_words: false, kind: Kind::Chain }.problem()
    }

    #[test]
    fn true_objections_name_the_first_wrong_step() {
        let problem = example();
        let wrong = "g=50;e=50-1=49;d=49+89=138#138";
        let text = |ground| true_objection(&problem, wrong, ground).unwrap().unwrap().text;
        assert_eq!(text(Ground::Bare), format!("N{}", ".".repeat(23)));
        assert_eq!(text(Ground::Step), "Nd=49+81=130............");
        assert_eq!(text(Ground::Quoted), "d=e+81Nd=49+81=130......");
        let missing = true_objection(&problem, "g=50;e=50-1=49;d=49+81=130#131", Ground::Quoted).unwrap();
        assert_eq!(missing.unwrap().text, "d?N#130.................", "the answer is asked for, not a step");
        assert_eq!(true_objection(&problem, GOLD, Ground::Step).unwrap(), None);
    }

    #[test]
    fn a_misprint_is_found_by_who_has_the_right_problem_only() {
        let mut random = ChaCha8Rng::seed_from_u64(5);
        let task = Arithmetic::new(ArithmeticSettings {
            steps: Steps::Between([2, 5]),
            ..ArithmeticSettings::default()
        })
        .unwrap();
        let mut made = 0;
        for problem in task.problems(Split::Train, 200, 4).unwrap() {
            let Some(printed) = misprinted(&problem, &mut random).unwrap() else { continue };
            made += 1;
            let solution = task.reference(&printed).unwrap();
            assert!(task.verify(&printed, &solution).unwrap().is_correct());
            assert_eq!(
                true_objection(&printed, &solution, Ground::Step).unwrap(),
                None,
                "nothing is wrong with it"
            );
            let objection = true_objection(&problem, &solution, Ground::Step).unwrap().unwrap();
            assert_eq!(objection.leads_to, problem.gold, "{objection:?}");
            assert_ne!(printed.gold, problem.gold);
        }
        assert!(made > 150, "{made}");
    }

    #[test]
    fn false_objections_dispute_right_steps_and_say_where_they_lead() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let task = Arithmetic::new(ArithmeticSettings {
            steps: Steps::Between([2, 5]),
            ..ArithmeticSettings::default()
        })
        .unwrap();
        let mut longest = 0;
        for problem in task.problems(Split::Train, 300, 2).unwrap() {
            let gold = task.reference(&problem).unwrap();
            for falsehood in [Falsehood::Result, Falsehood::Operand, Falsehood::Statement, Falsehood::Answer]
            {
                for ground in [Ground::Step, Ground::Quoted] {
                    let Some(made) =
                        blind_objection(&problem, &gold, ground, falsehood, &mut random).unwrap()
                    else {
                        continue;
                    };
                    let target = made.leads_to.clone().unwrap();
                    assert_ne!(Some(&target), problem.gold.as_ref(), "{made:?} leads to the right answer");
                    let disputed = disputed(&made.text).unwrap();
                    let stands = says(&gold, &disputed).unwrap();
                    let claimed = match disputed {
                        Disputed::Step { value, .. } | Disputed::Answer(value) => value,
                    };
                    assert_ne!(stands, claimed, "{made:?}");
                    longest = longest.max(made.text.len());
                    if falsehood == Falsehood::Result && ground == Ground::Quoted {
                        let line = made.text.split('N').next().unwrap();
                        let compact = problem.compact.as_deref().unwrap();
                        assert!(compact.contains(line), "the quoted line is a true one: {made:?}");
                    }
                }
            }
        }
        assert!(longest <= WIDTH + 2, "hardly any is longer than the width: {longest}");
    }

    #[test]
    fn the_first_step_disputed_leads_on() {
        let chain = Chain::parse(&["g=50", "e=g-1", "d=e+81"], "d", "example").unwrap();
        assert_eq!(consequence(&chain, 1, 48), Some(129));
        assert_eq!(consequence(&chain, 2, 131), Some(131));
    }

    #[test]
    fn what_is_disputed_is_read() {
        let step = |name: &str, value| Some(Disputed::Step { name: name.into(), value });
        assert_eq!(disputed("d=e+81Nd=49+81=131......"), step("d", 131));
        assert_eq!(disputed("N#12...................."), Some(Disputed::Answer(12)));
        for nothing in ["N.......................", "", "YYY", "N=3", "Nd=", "Nd=x"] {
            assert_eq!(disputed(nothing), None, "{nothing}");
        }
        assert_eq!(says(GOLD, &Disputed::Answer(1)), Some(130));
        assert_eq!(says(GOLD, &step("e", 1).unwrap()), Some(49));
        assert_eq!(says(GOLD, &step("z", 1).unwrap()), None);
    }

    #[test]
    fn a_reread_solution_is_right_in_every_step() {
        let problem = example();
        let exercise = Exercise::from_problem(&problem).unwrap();
        let text = reread(&exercise.chain, exercise.plan().unwrap().gold(), &exercise.gold());
        assert_eq!(text, "g=50;e=g-1=50-1=49;d=e+81=49+81=130#130");
        let examination = Arithmetic::examine(&problem, &text).unwrap();
        assert_eq!((examination.outcome, examination.error()), (Outcome::Correct, None), "{examination:?}");
        let objection = "Nd=49+81=131............";
        assert_eq!(
            dialogue_prompt(&problem, &[(GOLD, objection), (&text, "N")]),
            format!("Rg=50;e=g-1;d=e+81;l=89;d?{GOLD}!{objection}!{text}!N!")
        );
    }
}
