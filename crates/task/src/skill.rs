//! What the embedded model can be asked to do, in the compact voice: tags, prompts, and strict parsers of replies.

use elenchus_trace::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A skill of the embedded model. A prompt is the tag, the compact problem, and parts that each end with `!`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Skill {
    /// Solve with a chain: `S{problem}` → `g=50;e=50-1=49#49`.
    Solve,
    /// Answer at once: `D{problem}` → `#49`.
    Direct,
    /// Is the answer right? `J{problem}{solution}!` → `Y` or `N`.
    Judge,
    /// Check step by step: `C{problem}{solution}!` → `YY`, or `YNe=50-1=49` with the step as it should be.
    Critique,
    /// Solve again, given a solution and its critique: `R{problem}{solution}!{critique}!` → a solution.
    Refine,
    /// Solve again, given an earlier solution: `A{problem}{solution}!` → a solution.
    Again,
    /// Find the masked number: `B{masked problem}` → an inverse chain whose last step defines `_`.
    Backward,
    /// Solve, given drafts: `G{problem}{draft}!{draft}!` → a solution.
    Aggregate,
}

impl Skill {
    /// All skills.
    pub const ALL: [Skill; 8] = [
        Skill::Solve,
        Skill::Direct,
        Skill::Judge,
        Skill::Critique,
        Skill::Refine,
        Skill::Again,
        Skill::Backward,
        Skill::Aggregate,
    ];

    /// The name, as in recipes.
    pub fn name(self) -> &'static str {
        match self {
            Skill::Solve => "solve",
            Skill::Direct => "direct",
            Skill::Judge => "judge",
            Skill::Critique => "critique",
            Skill::Refine => "refine",
            Skill::Again => "again",
            Skill::Backward => "backward",
            Skill::Aggregate => "aggregate",
        }
    }

    /// The first character of a compact prompt.
    pub fn tag(self) -> char {
        match self {
            Skill::Solve => 'S',
            Skill::Direct => 'D',
            Skill::Judge => 'J',
            Skill::Critique => 'C',
            Skill::Refine => 'R',
            Skill::Again => 'A',
            Skill::Backward => 'B',
            Skill::Aggregate => 'G',
        }
    }

    /// The skill of a name.
    pub fn from_name(name: &str) -> Option<Skill> {
        Skill::ALL.into_iter().find(|skill| skill.name() == name)
    }

    /// The skill of a tag.
    pub fn from_tag(tag: char) -> Option<Skill> {
        Skill::ALL.into_iter().find(|skill| skill.tag() == tag)
    }

    /// How many parts stand behind the problem in a prompt; `None` for any number from one.
    pub fn parts(self) -> Option<usize> {
        match self {
            Skill::Solve | Skill::Direct | Skill::Backward => Some(0),
            Skill::Judge | Skill::Critique | Skill::Again => Some(1),
            Skill::Refine => Some(2),
            Skill::Aggregate => None,
        }
    }

    /// The compact prompt: tag, compact problem, and each part followed by `!`. A problem without a compact text is
    /// asked with its question.
    pub fn prompt(self, problem: &Problem, parts: &[&str]) -> String {
        let compact = problem.compact.as_deref().unwrap_or(&problem.question);
        let length = compact.len() + parts.iter().map(|part| part.len() + 1).sum::<usize>() + 1;
        let mut prompt = String::with_capacity(length);
        prompt.push(self.tag());
        prompt.push_str(compact);
        for part in parts {
            prompt.push_str(part);
            prompt.push('!');
        }
        prompt
    }
}

impl std::fmt::Display for Skill {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Why a reply is not what its skill demands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the {skill} reply `{reply}` {problem}\nhint: count it as an abstention, never as a score")]
pub struct ReplyError {
    /// The skill.
    pub skill: Skill,
    /// The reply, cut after 200 characters.
    pub reply: String,
    /// What is wrong with it.
    pub problem: String,
}

impl ReplyError {
    fn new(skill: Skill, reply: &str, problem: impl Into<String>) -> Self {
        ReplyError { skill, reply: reply.chars().take(200).collect(), problem: problem.into() }
    }
}

/// A critique, step by step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Critique {
    /// One verdict per step, up to and including the first wrong one.
    pub verdicts: Vec<bool>,
    /// Index of the first wrong step; equal to the number of steps when something is missing at the end.
    pub first_wrong: Option<usize>,
    /// The step as it should be, `e=50-1=49`, or the answer, `#49`.
    pub correction: Option<String>,
}

impl Critique {
    /// The compact text of the critique.
    pub fn compact(&self) -> String {
        let mut text: String = self.verdicts.iter().map(|&right| if right { 'Y' } else { 'N' }).collect();
        if let Some(correction) = &self.correction {
            text.push_str(correction);
        }
        text
    }
}

/// Reads a judge's reply: `Y` is right, `N` is wrong, and nothing else is a judgement.
///
/// # Errors
/// Any other reply.
pub fn parse_judge(reply: &str) -> Result<bool, ReplyError> {
    match reply.trim() {
        "Y" => Ok(true),
        "N" => Ok(false),
        _ => Err(ReplyError::new(Skill::Judge, reply, "is neither `Y` nor `N`")),
    }
}

/// Reads a critique of a solution with `steps` steps: `Y` for each step, or `Y` for the steps before the first wrong
/// one, `N`, and the correction. `N` behind a `Y` for every step says that something is missing at the end.
///
/// # Errors
/// Too few or too many verdicts, an `N` without correction, a correction that is no equation and no answer.
pub fn parse_critique(reply: &str, steps: usize) -> Result<Critique, ReplyError> {
    let wrong = |problem: String| Err(ReplyError::new(Skill::Critique, reply, problem));
    let text = reply.trim();
    let right = text.bytes().take_while(|&byte| byte == b'Y').count();
    let rest = &text[right..];
    if rest.is_empty() {
        if right != steps {
            return wrong(format!("has {right} verdicts for {steps} steps"));
        }
        return Ok(Critique { verdicts: vec![true; steps], first_wrong: None, correction: None });
    }
    let Some(correction) = rest.strip_prefix('N') else {
        return wrong("has something other than `Y` and `N` where a verdict is due".to_string());
    };
    if right > steps {
        return wrong(format!("has {} verdicts for {steps} steps", right + 1));
    }
    let answer = correction.strip_prefix('#').is_some_and(|answer| !answer.is_empty());
    let equation =
        correction.split_once('=').is_some_and(|(name, value)| !name.is_empty() && !value.is_empty());
    if !answer && !equation {
        return wrong("has no corrected step behind `N`".to_string());
    }
    let mut verdicts = vec![true; right];
    verdicts.push(false);
    Ok(Critique { verdicts, first_wrong: Some(right), correction: Some(correction.to_string()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_and_tags_read_back() {
        for skill in Skill::ALL {
            assert_eq!(Skill::from_name(skill.name()), Some(skill));
            assert_eq!(Skill::from_tag(skill.tag()), Some(skill));
        }
    }

    #[test]
    fn judge_accepts_two_replies_only() {
        assert_eq!(parse_judge("Y"), Ok(true));
        assert_eq!(parse_judge(" N\n"), Ok(false));
        for reply in ["", "YN", "y", "Yes", "g=1"] {
            assert!(parse_judge(reply).is_err(), "{reply} must not count as a judgement");
        }
    }

    #[test]
    fn critique_is_strict() {
        let critique = parse_critique("YYNd=49+81=130", 3).unwrap();
        assert_eq!(critique.first_wrong, Some(2));
        assert_eq!(critique.correction.as_deref(), Some("d=49+81=130"));
        assert_eq!(critique.compact(), "YYNd=49+81=130");
        assert_eq!(parse_critique("YYY", 3).unwrap().first_wrong, None);
        assert_eq!(parse_critique("YYYN#130", 3).unwrap().first_wrong, Some(3), "missing at the end");
        for reply in ["YY", "YYYY", "YYN", "YYYYNd=1", "YXN", "Nd", "N=1", "N#", "", "YYNd="] {
            let error = parse_critique(reply, 3).unwrap_err().to_string();
            assert!(error.contains("hint: "), "{error}");
        }
    }

    proptest! {
        #[test]
        fn parsers_never_panic(text in "[YN]{0,6}\\PC{0,20}", steps in 0usize..6) {
            let _ = parse_judge(&text);
            if let Ok(critique) = parse_critique(&text, steps) {
                prop_assert_eq!(critique.compact(), text.trim());
                prop_assert!(critique.verdicts.len() <= steps + 1);
            }
        }
    }
}
