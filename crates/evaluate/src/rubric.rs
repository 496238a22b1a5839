//! A model that scores a response by named criteria and says why (the decomposed judge of arXiv 2504.01931).

use crate::critique::{keyword, plain};
use crate::judge::abstain_or_fail;
use crate::{CandidateSize, EvaluateError, EvaluateInput, Evaluator, Needs, RoleNeeds, each};
use async_trait::async_trait;
use elenchus_generate::{GenerateError, GenerateRequest, PromptSlots, Sampling};
use elenchus_trace::{Feedback, FinishReason, Usage};
use futures::future::try_join_all;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

const NAME: &str = "rubric";

/// More criteria than this are no rubric any more, and no reply has room for them.
const MOST_CRITERIA: usize = 20;

/// One thing that a response is scored by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Criterion {
    /// A word or two; the judge writes it in front of its score.
    pub name: String,
    /// What deserves a high score.
    pub description: String,
    /// Weight in the mean, above 0.
    #[serde(default = "one")]
    pub weight: f64,
}

fn one() -> f64 {
    1.0
}

impl Criterion {
    fn new(name: &str, description: &str) -> Self {
        Criterion { name: name.into(), description: description.into(), weight: 1.0 }
    }
}

/// Settings of the `rubric` evaluator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RubricSettings {
    /// The role whose model judges.
    pub role: String,
    /// What responses are scored by, each with a name, a description and perhaps a weight.
    pub criteria: Vec<Criterion>,
    /// The highest score of a criterion; the lowest is 0, and all are whole numbers.
    pub highest: u32,
    /// Ask a second time with the criteria in reversed order and take the mean, so that what stands first weighs no more.
    pub swap: bool,
    /// Temperature of the judge; 0 takes the likeliest scores.
    pub temperature: f32,
    /// Most tokens of one reply; a model that thinks before it answers needs more. What stands in front of `</think>` is
    /// passed over.
    pub max_tokens: u32,
}

impl Default for RubricSettings {
    fn default() -> Self {
        RubricSettings {
            role: "judge".into(),
            criteria: vec![
                Criterion::new(
                    "correctness",
                    "every statement and every calculation is right, and so is the final answer",
                ),
                Criterion::new(
                    "completeness",
                    "everything that is asked for is there, and no step that matters is missing",
                ),
                Criterion::new(
                    "instructions",
                    "it does what the problem asks for, in the form that it asks for",
                ),
            ],
            highest: 10,
            swap: true,
            temperature: 0.0,
            max_tokens: 1024,
        }
    }
}

/// What a judge wrote of one criterion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CriterionScore {
    /// From 0 to the highest.
    pub score: u32,
    /// Why; empty where nothing was said.
    pub reason: String,
}

/// Reads the scores of a rubric, one line for each criterion, in the form that the `rubric` prompt asks for:
///
/// ```text
/// correctness: 7 — the second sum is wrong
/// completeness: 10/10 — nothing is missing
/// ```
///
/// Returns them in the order of `names`, in whatever order they were written. Lines that begin otherwise are passed over, as
/// is a `<think>` part.
///
/// Errors, in words: a criterion without a line or with two, something else than a whole number from 0 to `highest`
/// (`7.5`, `7 or 8`, `7/5`, the form repeated).
pub fn parse_rubric(text: &str, names: &[&str], highest: u32) -> Result<Vec<CriterionScore>, String> {
    let text = text.rsplit_once("</think>").map_or(text, |(_, said)| said);
    let mut found: Vec<Option<CriterionScore>> = vec![None; names.len()];
    for line in text.lines().map(plain) {
        let Some((place, rest)) =
            names.iter().enumerate().find_map(|(place, name)| Some((place, keyword(line, name)?)))
        else {
            continue;
        };
        let name = names[place];
        if found[place].is_some() {
            return Err(format!("two lines `{name}:`"));
        }
        let (score, reason) = read_score(rest, highest)
            .ok_or_else(|| format!("`{name}: {rest}` is no whole number from 0 to {highest}"))?;
        found[place] = Some(CriterionScore { score, reason: reason.into() });
    }
    found
        .into_iter()
        .zip(names)
        .map(|(score, name)| score.ok_or_else(|| format!("there is no line `{name}:` with a score")))
        .collect()
}

/// The number in front of a line, and the reason behind it.
fn read_score(rest: &str, highest: u32) -> Option<(u32, &str)> {
    const DECORATION: [char; 6] = ['*', '`', '[', ']', '<', '>'];
    let (score, behind) = digits(rest.trim_start_matches(DECORATION))?;
    let mut behind = behind.trim_start_matches(DECORATION);
    if let Some(scale) = behind.trim_start().strip_prefix('/') {
        let (scale, rest) = digits(scale.trim_start_matches(DECORATION).trim_start())?;
        if scale != highest {
            return None;
        }
        behind = rest.trim_start_matches(DECORATION);
    }
    // `7.5`, `7-8`, `7 or 8`, `7th`, `70 %` are no scores: a sign and no digit must stand between number and reason.
    let reason = behind.trim_start();
    let mut signs = reason.chars();
    let separated = match (signs.next(), signs.next()) {
        (None, _) => true,
        (Some('.' | ',' | '-' | '–' | '—' | ':'), next) => next.is_none_or(|next| !next.is_ascii_digit()),
        (Some(';' | '('), _) => true,
        _ => false,
    };
    // A range with spaces, `7 - 8`, too.
    let reason = reason.trim_start_matches(['—', '–', '-', ':', '.', ',', ';', ' ', '*']);
    let range = reason.len() < behind.len()
        && reason.starts_with(|sign: char| sign.is_ascii_digit())
        && digits(reason).is_some_and(|(_, rest)| rest.trim_matches(['*', '.', ' ']).is_empty());
    (score <= highest && separated && !range).then_some((score, reason))
}

/// The digits at the start of a text as a number, and the rest.
fn digits(text: &str) -> Option<(u32, &str)> {
    let count = text.bytes().take_while(u8::is_ascii_digit).count();
    Some((text[..count].parse().ok()?, &text[count..]))
}

/// Asks the model in role `judge` to score each candidate by each criterion with a whole number from 0 to `highest` and to say
/// why in one sentence, once with the criteria in the given order and once in reversed order.
///
/// With sᵢₒ the score of criterion i in order o, out of h, and weights wᵢ: score = Σᵢ wᵢ mᵢ / Σᵢ wᵢ, where
/// mᵢ = (sᵢ₁ + sᵢ₂) / 2h. It lies between 0 and 1 and is no probability. The text has one line per criterion, its mean score
/// and the judge's reason, of the order that gave less where they differ: words to improve by. `orders` of the feedback has
/// the score of each order alone; how far they lie apart is a matter of the order and not of the response.
///
/// A reply that does not have every criterion exactly once with a number in range, or that was cut at `max_tokens`, is an
/// abstention with what was written, whichever order it is; so is a judge that fails. Two calls per candidate, one where
/// there is one criterion or `swap` is off. Chat voice only. To see what its scores are worth, compare `best-of-n` with it and
/// `self-consistency` at as many samples on problems with known answers.
///
/// Default criteria: correctness, completeness, and following the instructions, of equal weight.
#[derive(Debug, Clone)]
pub struct Rubric {
    settings: RubricSettings,
}

/// What one order of the criteria gave: the scores in the given order, or why there are none.
struct Asked {
    scores: Result<Vec<CriterionScore>, String>,
    text: String,
    usage: Usage,
}

impl Rubric {
    /// Errors: [`EvaluateError::Setting`] for criteria that cannot be told apart in a reply, and for values out of range.
    pub fn new(settings: RubricSettings) -> Result<Self, EvaluateError> {
        let refuse = |field: &str, problem: String, hint: &str| {
            Err(EvaluateError::Setting {
                evaluator: NAME.into(),
                field: field.into(),
                problem,
                hint: hint.into(),
            })
        };
        let criteria = &settings.criteria;
        if !(1..=MOST_CRITERIA).contains(&criteria.len()) {
            let problem = format!("{} criteria", criteria.len());
            return refuse("criteria", problem, "between 1 and 20, or leave it out for the default ones");
        }
        for (place, criterion) in criteria.iter().enumerate() {
            let name = criterion.name.as_str();
            let readable = plain(name) == name && name.starts_with(char::is_alphabetic);
            if !readable || name.contains([':', '\n', '\r', '`']) {
                let hint = "a word or two that begin with a letter, without `:`, as `correctness`";
                return refuse(
                    "criteria",
                    format!("the name {name:?} cannot stand in front of a score"),
                    hint,
                );
            }
            if criteria[..place].iter().any(|other| other.name.eq_ignore_ascii_case(name)) {
                return refuse(
                    "criteria",
                    format!("two have the name `{name}`"),
                    "give each a name of its own",
                );
            }
            if criterion.description.trim().is_empty() {
                let hint = "say what deserves a high score";
                return refuse("criteria", format!("`{name}` has no description"), hint);
            }
            if !(criterion.weight.is_finite() && criterion.weight > 0.0) {
                let problem = format!("the weight {} of `{name}` is out of range", criterion.weight);
                return refuse("criteria", problem, "above 0; leave the criterion out to give it none");
            }
        }
        if !(1..=1000).contains(&settings.highest) {
            let problem = format!("{} is out of range", settings.highest);
            return refuse("highest", problem, "between 1 and 1000; models use few values beyond 10");
        }
        if !(0.0..=10.0).contains(&settings.temperature) {
            let problem = format!("{} is out of range", settings.temperature);
            return refuse("temperature", problem, "0 for the likeliest scores, or up to about 1");
        }
        if settings.max_tokens == 0 {
            return refuse("max_tokens", "0 leaves no room".into(), "a criterion needs some 40 tokens");
        }
        Ok(Rubric { settings })
    }

    /// Whether each order is reversed.
    fn orders(&self) -> &'static [bool] {
        // One criterion is its own reverse.
        if self.settings.swap && self.settings.criteria.len() > 1 { &[false, true] } else { &[false] }
    }

    async fn one(&self, input: EvaluateInput<'_>, index: usize) -> Result<Feedback, EvaluateError> {
        let shown = input.candidates[index].shown();
        if shown.trim().is_empty() {
            return Ok(Feedback::abstain(NAME, "the response is empty"));
        }
        let asked =
            try_join_all(self.orders().iter().map(|&reversed| self.ask(input, index, &shown, reversed)));
        let asked = match asked.await {
            Ok(asked) => asked,
            Err(error) => return abstain_or_fail(NAME, error),
        };
        let usage = asked.iter().map(|one| one.usage).sum();
        let scores: Result<Vec<&[CriterionScore]>, &String> =
            asked.iter().map(|one| one.scores.as_deref()).collect();
        match scores {
            Ok(scores) => Ok(Feedback { usage, ..self.feedback(&scores) }),
            Err(reason) => {
                let text = asked.iter().map(|one| one.text.as_str()).collect::<Vec<_>>().join("\n---\n");
                let abstained = Feedback::abstain(NAME, format!("the scores cannot be used: {reason}"));
                Ok(Feedback { text: Some(text), usage, ..abstained })
            }
        }
    }

    async fn ask(
        &self,
        input: EvaluateInput<'_>,
        index: usize,
        solution: &str,
        reversed: bool,
    ) -> Result<Asked, GenerateError> {
        let RubricSettings { role, criteria, highest, temperature, max_tokens, .. } = &self.settings;
        let mut listed: Vec<&Criterion> = criteria.iter().collect();
        if reversed {
            listed.reverse();
        }
        let mut slots = PromptSlots::new(input.problem).solution(solution);
        slots.extra.insert("criteria".into(), json!(listed));
        slots.extra.insert("highest".into(), json!(highest));
        let label = format!("{NAME}\0{}\0{}\0{reversed}", input.problem.task, input.problem.id);
        let request = GenerateRequest {
            sampling: Sampling {
                temperature: *temperature,
                max_tokens: *max_tokens,
                seed: input.context.seed_for(&label, index as u64),
                ..Sampling::default()
            },
            ..GenerateRequest::new(input.context.prompt(role, NAME, &slots)?)
        };
        let Some(completion) = input.context.generate(role, &request).await?.into_iter().next() else {
            let scores = Err("the judge gave no completion".into());
            return Ok(Asked { scores, text: String::new(), usage: Usage::default() });
        };
        let text = completion.text.trim().to_string();
        let names: Vec<&str> = criteria.iter().map(|criterion| criterion.name.as_str()).collect();
        let scores = match completion.finish {
            FinishReason::Length => Err(format!("they were cut at {max_tokens} tokens")),
            _ => parse_rubric(&text, &names, *highest),
        };
        Ok(Asked { scores, text, usage: completion.usage })
    }

    /// The feedback of all orders; each has one score per criterion.
    fn feedback(&self, orders: &[&[CriterionScore]]) -> Feedback {
        let RubricSettings { criteria, highest, .. } = &self.settings;
        let weights: f64 = criteria.iter().map(|criterion| criterion.weight).sum();
        let weighted = |score: &dyn Fn(usize) -> f64| -> f64 {
            let sum: f64 =
                criteria.iter().enumerate().map(|(place, criterion)| criterion.weight * score(place)).sum();
            sum / weights / f64::from(*highest)
        };
        let mean = |place: usize| -> f64 {
            orders.iter().map(|scores| f64::from(scores[place].score)).sum::<f64>() / orders.len() as f64
        };
        let line = |(place, criterion): (usize, &Criterion)| {
            let said = orders.iter().map(|scores| &scores[place]).min_by_key(|said| said.score);
            let reason = said.map(|said| said.reason.as_str()).filter(|reason| !reason.is_empty());
            let reason = reason.map(|reason| format!(" — {reason}")).unwrap_or_default();
            format!("{}: {} of {highest}{reason}", criterion.name, mean(place))
        };
        let alone = |scores: &&[CriterionScore]| weighted(&|place| f64::from(scores[place].score));
        Feedback {
            orders: if orders.len() > 1 { orders.iter().map(alone).collect() } else { Vec::new() },
            text: Some(criteria.iter().enumerate().map(line).collect::<Vec<_>>().join("\n")),
            ..Feedback::score(NAME, weighted(&mean))
        }
    }
}

#[async_trait]
impl Evaluator for Rubric {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "a model scores each response by named criteria and says why, averaged over both orders of the criteria"
    }

    fn needs(&self) -> Needs {
        Needs::role(RoleNeeds { words: true, ..RoleNeeds::new(&self.settings.role) })
    }

    fn advises(&self) -> bool {
        true
    }

    fn highest(&self) -> Option<f64> {
        Some(1.0)
    }

    fn cost(&self, size: CandidateSize) -> Usage {
        // The instruction of the prompt is some 200 tokens, a criterion some 40 in two places, a line of the reply some 40.
        let criteria = self.settings.criteria.len() as u64;
        let calls = size.candidates * self.orders().len() as u64;
        Usage {
            calls,
            prompt_tokens: calls * (200 + 40 * criteria + size.prompt_tokens + size.completion_tokens),
            completion_tokens: calls * (40 * criteria).min(self.settings.max_tokens.into()),
            ..Usage::default()
        }
    }

    async fn evaluate(&self, input: EvaluateInput<'_>) -> Result<Vec<Feedback>, EvaluateError> {
        each(self.name(), input.candidates.len(), |index| self.one(input, index)).await
    }
}

#[cfg(test)]
#[path = "rubric_tests.rs"]
mod tests;
