//! Supervised rows for every skill, from gold and corrupted solutions or from a model's own samples.
//!
//! The functions that take texts serve a trainer that has sampled a model: labels come from the exact verifier, never
//! from the text. [`SkillGenerator`] makes rows from nothing.

use super::ExerciseGenerator;
use super::corrupt::{self, Corrupted};
use super::forms::{Exercise, Kind};
use super::parse::Voice;
use super::settings::{ArithmeticSettings, Form};
use super::verify;
use crate::skill::{Critique, Skill};
use crate::{Split, TaskError};
use elenchus_trace::{Outcome, Problem};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// One supervised row in the compact voice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SkillRow {
    /// The skill that is taught.
    pub skill: Skill,
    /// The whole prompt, tag included.
    pub prompt: String,
    /// The reply, without end-of-text.
    pub target: String,
}

fn row(skill: Skill, problem: &Problem, parts: &[&str], target: String) -> SkillRow {
    SkillRow { skill, prompt: skill.prompt(problem, parts), target }
}

fn gold_of(problem: &Problem, exercise: &Exercise) -> Result<String, TaskError> {
    let plan = exercise.plan().ok_or_else(|| TaskError::Problem {
        id: problem.id.clone(),
        problem: "has no solution by a chain of single steps".to_string(),
        hint: "mask another number, or set `unique_only = true`".to_string(),
    })?;
    Ok(corrupt::compact_text(plan.gold(), &exercise.gold()))
}

fn refused(problem: &Problem, what: &str, hint: &str) -> TaskError {
    TaskError::Problem { id: problem.id.clone(), problem: what.to_string(), hint: hint.to_string() }
}

/// Solve with a chain; the target is the gold solution.
///
/// # Errors
/// The problem is not of this task, or is a backward problem that no chain of single steps solves.
pub fn solve_row(problem: &Problem) -> Result<SkillRow, TaskError> {
    let exercise = Exercise::from_problem(problem)?;
    if matches!(exercise.kind, Kind::Backward { .. }) {
        return backward_row(problem);
    }
    Ok(row(Skill::Solve, problem, &[], gold_of(problem, &exercise)?))
}

/// Answer at once.
///
/// # Errors
/// The problem is not of this task.
pub fn direct_row(problem: &Problem) -> Result<SkillRow, TaskError> {
    let exercise = Exercise::from_problem(problem)?;
    Ok(row(Skill::Direct, problem, &[], format!("#{}", exercise.gold())))
}

/// Is the answer of a solution right? The label is the exact verifier's; a solution without an answer is wrong.
///
/// # Errors
/// The problem is not of this task.
pub fn judge_row(problem: &Problem, solution: &str) -> Result<SkillRow, TaskError> {
    let examination = verify::examine(&Exercise::from_problem(problem)?, solution);
    let label = if examination.outcome == Outcome::Correct { "Y" } else { "N" };
    Ok(row(Skill::Judge, problem, &[solution], label.to_string()))
}

/// The true critique of a compact solution.
///
/// # Errors
/// The problem is not of this task, or the solution is not compact (its steps could not be pointed at).
pub fn true_critique(problem: &Problem, solution: &str) -> Result<Critique, TaskError> {
    if Voice::of(solution) != Voice::Compact {
        return Err(refused(
            problem,
            "was given a solution that is not in the compact notation",
            "critiques count the steps between `;`; pass samples of the embedded model",
        ));
    }
    let examination = verify::examine(&Exercise::from_problem(problem)?, solution);
    Ok(match examination.first_wrong() {
        None => Critique { verdicts: vec![true; examination.written], first_wrong: None, correction: None },
        Some(first) => {
            let mut verdicts = vec![true; first];
            verdicts.push(false);
            Critique {
                verdicts,
                first_wrong: Some(first),
                correction: examination.steps[first].expected.clone(),
            }
        }
    })
}

/// Check a solution step by step.
///
/// # Errors
/// As [`true_critique`]; and a solution without any step that is right as a whole, which has nothing to point at.
pub fn critique_row(problem: &Problem, solution: &str) -> Result<SkillRow, TaskError> {
    let critique = true_critique(problem, solution)?;
    if critique.verdicts.is_empty() {
        return Err(refused(
            problem,
            "was given a solution without steps",
            "critique solutions of the chain form",
        ));
    }
    Ok(row(Skill::Critique, problem, &[solution], critique.compact()))
}

/// Solve again, given a solution and its critique.
///
/// # Errors
/// The problem is not of this task or has no solution by single steps.
pub fn refine_row(problem: &Problem, solution: &str, critique: &str) -> Result<SkillRow, TaskError> {
    let exercise = Exercise::from_problem(problem)?;
    Ok(row(Skill::Refine, problem, &[solution, critique], gold_of(problem, &exercise)?))
}

/// Solve again, given an earlier solution, right or wrong.
///
/// # Errors
/// The problem is not of this task or has no solution by single steps.
pub fn again_row(problem: &Problem, earlier: &str) -> Result<SkillRow, TaskError> {
    let exercise = Exercise::from_problem(problem)?;
    Ok(row(Skill::Again, problem, &[earlier], gold_of(problem, &exercise)?))
}

/// Find the masked number of a backward problem.
///
/// # Errors
/// The problem is not a backward problem of this task, or no chain of single steps recovers its number.
pub fn backward_row(problem: &Problem) -> Result<SkillRow, TaskError> {
    let exercise = Exercise::from_problem(problem)?;
    if !matches!(exercise.kind, Kind::Backward { .. }) {
        return Err(refused(
            problem,
            "has no masked number",
            "make it with `form = \"backward\"`, or mask it with `backward_problems`",
        ));
    }
    Ok(row(Skill::Backward, problem, &[], gold_of(problem, &exercise)?))
}

/// Solve, given drafts.
///
/// # Errors
/// The problem is not of this task or has no solution by single steps; there is no draft.
pub fn aggregate_row(problem: &Problem, drafts: &[&str]) -> Result<SkillRow, TaskError> {
    if drafts.is_empty() {
        return Err(refused(problem, "was given no drafts", "aggregate one draft or more"));
    }
    let exercise = Exercise::from_problem(problem)?;
    Ok(row(Skill::Aggregate, problem, drafts, gold_of(problem, &exercise)?))
}

/// One backward problem for each number that the answer depends on: that number masked, the candidate given as the
/// final value (arXiv 2308.07758). The gold answer of each is the masked number; `data.unique` says whether the true
/// final value determines it.
///
/// # Errors
/// The problem is not of this task, or the candidate is no whole number (nor, in the choice form, a letter).
pub fn backward_problems(problem: &Problem, candidate: &str) -> Result<Vec<Problem>, TaskError> {
    let exercise = Exercise::from_problem(problem)?;
    let letter = problem.options.iter().find(|option| option.label == candidate.trim());
    let text = letter.map_or(candidate, |option| &option.text);
    let given = super::parse::normal_number(text).ok_or_else(|| {
        refused(
            problem,
            &format!("was given the candidate `{candidate}`"),
            "a candidate is a whole number or a letter",
        )
    })?;
    Ok(exercise.backward(given).iter().map(Exercise::problem).collect())
}

/// How rows are mixed where a skill is shown both right and wrong material.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SkillMix {
    /// Share of right solutions in judge rows.
    pub judge_right: f64,
    /// Share of right solutions in critique and refine rows.
    pub critique_right: f64,
    /// Share of right earlier solutions in again rows.
    pub again_right: f64,
    /// Share of right drafts in aggregate rows.
    pub draft_right: f64,
    /// Drafts per aggregate row.
    pub drafts: usize,
}

impl Default for SkillMix {
    fn default() -> Self {
        SkillMix { judge_right: 0.5, critique_right: 0.3, again_right: 0.4, draft_right: 0.5, drafts: 3 }
    }
}

/// Makes rows of any skill from generated problems with gold and corrupted solutions.
#[derive(Debug, Clone)]
pub struct SkillGenerator {
    exercises: ExerciseGenerator,
    masked: ExerciseGenerator,
    mix: SkillMix,
    random: ChaCha8Rng,
}

impl SkillGenerator {
    /// A generator of rows on problems of one split. The form of the settings holds for all skills but backward,
    /// which has its own.
    ///
    /// # Errors
    /// A setting out of range.
    pub fn new(
        settings: &ArithmeticSettings,
        mix: SkillMix,
        split: Split,
        seed: u64,
    ) -> Result<Self, TaskError> {
        for (field, value) in [
            ("judge_right", mix.judge_right),
            ("critique_right", mix.critique_right),
            ("again_right", mix.again_right),
            ("draft_right", mix.draft_right),
        ] {
            if !(0.0..=1.0).contains(&value) {
                return Err(TaskError::Setting {
                    field: field.to_string(),
                    problem: format!("is {value}"),
                    hint: "a share lies in 0 to 1".to_string(),
                });
            }
        }
        if mix.drafts == 0 {
            return Err(TaskError::Setting {
                field: "drafts".to_string(),
                problem: "is 0".to_string(),
                hint: "aggregate one draft or more".to_string(),
            });
        }
        let forward = match settings.form {
            Form::Backward => ArithmeticSettings { form: Form::Chain, ..settings.clone() },
            _ => settings.clone(),
        };
        let backward = ArithmeticSettings { form: Form::Backward, unique_only: true, ..settings.clone() };
        Ok(SkillGenerator {
            exercises: ExerciseGenerator::new(&forward, Some(split), seed)?,
            masked: ExerciseGenerator::new(&backward, Some(split), seed)?,
            mix,
            random: ChaCha8Rng::seed_from_u64(seed ^ 0x534b_494c_4c53),
        })
    }

    /// The next row of a skill.
    ///
    /// # Errors
    /// None on problems that this generator makes; a row function's error is passed on.
    pub fn next_row(&mut self, skill: Skill) -> Result<SkillRow, TaskError> {
        if skill == Skill::Backward {
            return backward_row(&self.masked.next_exercise().problem());
        }
        // A chain without a convincing mistake is passed over; hardly any is.
        loop {
            let exercise = self.exercises.next_exercise();
            let problem = exercise.problem();
            let gold = gold_of(&problem, &exercise)?;
            let solution = |right: f64, random: &mut ChaCha8Rng| {
                if random.random_bool(right) {
                    return Some(gold.clone());
                }
                corrupt::corrupt(&exercise, random).map(|corrupted: Corrupted| corrupted.compact(&exercise))
            };
            let random = &mut self.random;
            let made = match skill {
                Skill::Solve => Some(row(skill, &problem, &[], gold)),
                Skill::Direct => Some(direct_row(&problem)?),
                Skill::Backward => None,
                Skill::Judge => match solution(self.mix.judge_right, random) {
                    Some(solution) => Some(judge_row(&problem, &solution)?),
                    None => None,
                },
                Skill::Critique => match solution(self.mix.critique_right, random) {
                    Some(solution) => Some(critique_row(&problem, &solution)?),
                    None => None,
                },
                Skill::Refine => match solution(self.mix.critique_right, random) {
                    Some(solution) => {
                        let critique = true_critique(&problem, &solution)?.compact();
                        Some(refine_row(&problem, &solution, &critique)?)
                    }
                    None => None,
                },
                Skill::Again => match solution(self.mix.again_right, random) {
                    Some(earlier) => Some(again_row(&problem, &earlier)?),
                    None => None,
                },
                Skill::Aggregate => {
                    let drafts: Option<Vec<String>> =
                        (0..self.mix.drafts).map(|_| solution(self.mix.draft_right, random)).collect();
                    match drafts {
                        Some(drafts) => {
                            let drafts: Vec<&str> = drafts.iter().map(String::as_str).collect();
                            Some(aggregate_row(&problem, &drafts)?)
                        }
                        None => None,
                    }
                }
            };
            if let Some(row) = made {
                return Ok(row);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Steps, Surface};
    use super::*;
    use crate::skill::{parse_critique, parse_judge};

    fn example() -> Problem {
        let chain = super::super::Chain::parse(&["g=50", "e=g-1", "d=e+81", "l=89"], "d", "example").unwrap();
        Exercise { chain, in_words: false, kind: Kind::Chain }.problem()
    }

    #[test]
    fn rows_read_as_documented() {
        let problem = example();
        let p = "g=50;e=g-1;d=e+81;l=89;d?";
        let gold = "g=50;e=50-1=49;d=49+81=130#130";
        let wrong = "g=50;e=50-1=49;d=49+89=138#138";
        let check = |row: SkillRow, prompt: String, target: &str| {
            assert_eq!((row.prompt, row.target), (prompt, target.to_string()));
        };
        check(solve_row(&problem).unwrap(), format!("S{p}"), gold);
        check(direct_row(&problem).unwrap(), format!("D{p}"), "#130");
        check(judge_row(&problem, gold).unwrap(), format!("J{p}{gold}!"), "Y");
        check(judge_row(&problem, wrong).unwrap(), format!("J{p}{wrong}!"), "N");
        check(critique_row(&problem, gold).unwrap(), format!("C{p}{gold}!"), "YYY");
        check(critique_row(&problem, wrong).unwrap(), format!("C{p}{wrong}!"), "YYNd=49+81=130");
        let critique = "YYNd=49+81=130";
        check(refine_row(&problem, wrong, critique).unwrap(), format!("R{p}{wrong}!{critique}!"), gold);
        check(again_row(&problem, wrong).unwrap(), format!("A{p}{wrong}!"), gold);
        check(aggregate_row(&problem, &[wrong, gold]).unwrap(), format!("G{p}{wrong}!{gold}!"), gold);
        let masked = &backward_problems(&problem, "130").unwrap()[1];
        check(
            backward_row(masked).unwrap(),
            "Bg=50;e=g-_;d=e+81;l=89;d=130;_?".to_string(),
            "e=130-81=49;_=50-49=1#1",
        );
    }

    #[test]
    fn own_samples_of_every_error_get_true_critiques() {
        let problem = example();
        for (solution, target) in [
            ("g=50;e=50-1=49#49", "YYNd=49+81=130"),
            ("g=50;d=50+81=131#131", "YNe=50-1=49"),
            ("g=50;e=50-1=48;d=48+81=129#129", "YNe=50-1=49"),
            ("l=89;e=89-1=88;d=88+81=169#169", "YNe=50-1=49"),
            ("g=51;e=51-1=50;d=50+81=131#131", "Ng=50"),
            ("g=50;e=50-1=49;d=49+81=130#131", "YYYN#130"),
            ("g=50;e=50-1=49;d=49+81=130", "YYYN#130"),
            ("g=50;;d=1#1", "YNe=50-1=49"),
            ("g=50;e=5-;d", "YNe=50-1=49"),
        ] {
            assert_eq!(critique_row(&problem, solution).unwrap().target, target, "{solution}");
        }
    }

    #[test]
    fn generated_rows_agree_with_their_parsers() {
        let settings = ArithmeticSettings {
            steps: Steps::Between([2, 6]),
            surface: Surface::Mixed(0.3),
            ..ArithmeticSettings::default()
        };
        let mut generator = SkillGenerator::new(&settings, SkillMix::default(), Split::Train, 1).unwrap();
        let mut judged = [0; 2];
        for skill in Skill::ALL {
            for _ in 0..200 {
                let row = generator.next_row(skill).unwrap();
                assert!(row.prompt.starts_with(skill.tag()));
                match skill {
                    Skill::Judge => judged[usize::from(parse_judge(&row.target).unwrap())] += 1,
                    Skill::Critique => {
                        let (_, solution) = row.prompt.split_once('?').unwrap();
                        let steps = solution.split(';').count();
                        parse_critique(&row.target, steps).unwrap();
                    }
                    _ => assert!(row.target.contains('#')),
                }
            }
        }
        assert!(judged.iter().all(|&count| count > 60), "both labels occur: {judged:?}");
    }

    #[test]
    fn every_row_is_within_the_vocabulary_and_reads_back_without_spaces() {
        let vocabulary = super::super::vocabulary();
        let longest = vocabulary.iter().map(String::len).max().unwrap();
        let encode = |text: &str| -> Vec<String> {
            let mut tokens = Vec::new();
            let mut rest = text;
            while !rest.is_empty() {
                let token = (1..=longest.min(rest.len()))
                    .rev()
                    .filter_map(|length| rest.get(..length))
                    .find(|start| vocabulary.iter().any(|token| token == start))
                    .unwrap_or_else(|| panic!("`{rest}` of `{text}` is not in the vocabulary"));
                tokens.push(token.to_string());
                rest = &rest[token.len()..];
            }
            tokens
        };
        for form in [Form::Chain, Form::Choice] {
            let settings = ArithmeticSettings {
                steps: Steps::Between([1, 8]),
                surface: Surface::Mixed(0.7),
                form,
                ..ArithmeticSettings::default()
            };
            let mut generator = SkillGenerator::new(&settings, SkillMix::default(), Split::Train, 2).unwrap();
            for skill in Skill::ALL {
                for _ in 0..100 {
                    let row = generator.next_row(skill).unwrap();
                    for text in [row.prompt, row.target] {
                        let words: Vec<String> = text.split(' ').flat_map(&encode).collect();
                        assert_eq!(words, encode(&text.replace(' ', "")), "{text}");
                    }
                }
            }
        }
    }
}
