//! Self-assessment of an unfinished solution: is it still going to be right? (Tree of Thoughts, arXiv 2305.10601; sheet 41)

use crate::{CandidateSize, EvaluateError, EvaluateInput, Evaluator, Needs, RoleNeeds, each};
use async_trait::async_trait;
use elenchus_generate::{GenerateError, GenerateRequest, PromptSlots, Sampling};
use elenchus_trace::{Feedback, Usage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings of the `outlook` evaluator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OutlookSettings {
    /// The role whose model is asked; the actor itself unless another is named.
    pub role: String,
    /// Votes per candidate.
    pub votes: usize,
    /// Temperature of the votes.
    pub temperature: f32,
    /// Most tokens of a vote; a model that thinks before it answers needs more.
    pub max_tokens: u32,
    /// What `sure`, `likely` and `impossible` are worth.
    pub worth: [f64; 3],
}

impl Default for OutlookSettings {
    fn default() -> Self {
        OutlookSettings {
            role: elenchus_generate::ACTOR.into(),
            votes: 3,
            temperature: 0.7,
            max_tokens: 256,
            worth: [20.0, 1.0, 0.001],
        }
    }
}

/// Asks a model several times whether an unfinished or finished solution can still become right, in one word: `sure`,
/// `likely` or `impossible`. The value is the sum of what the votes are worth, v = Σ worth(vote), 20, 1 and 0.001 in the
/// paper; so one `sure` outweighs many `likely`. A vote that says none of the words is left out and counted in the text;
/// when none is left, the candidate abstains. One call per candidate, all at once. For the chat voice: the embedded model
/// was not taught the question, use `judge` there.
#[derive(Debug, Clone)]
pub struct Outlook {
    settings: OutlookSettings,
}

/// A vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Vote {
    Sure,
    Likely,
    Impossible,
}

/// The vote of a reply: the last of the three words in it, as a word of its own.
fn parse_vote(reply: &str) -> Option<Vote> {
    let reply = reply.rsplit("</think>").next().unwrap_or(reply).to_lowercase();
    reply.split(|c: char| !c.is_alphabetic()).rev().find_map(|word| match word {
        "sure" => Some(Vote::Sure),
        "likely" => Some(Vote::Likely),
        "impossible" => Some(Vote::Impossible),
        _ => None,
    })
}

impl Outlook {
    /// Errors: [`EvaluateError::Setting`] for a number out of range.
    pub fn new(settings: OutlookSettings) -> Result<Self, EvaluateError> {
        let wrong = |field: &str, problem: String, hint: &str| {
            Err(EvaluateError::Setting {
                evaluator: "outlook".into(),
                field: field.into(),
                problem,
                hint: hint.into(),
            })
        };
        if !(1..=1000).contains(&settings.votes) {
            return wrong(
                "votes",
                format!("{} is out of range", settings.votes),
                "between 1 and 1000; 3 in the paper",
            );
        }
        if settings.max_tokens == 0 {
            return wrong("max_tokens", "0 is out of range".into(), "at least 1");
        }
        if !(0.0..=10.0).contains(&settings.temperature) {
            return wrong(
                "temperature",
                format!("{} is out of range", settings.temperature),
                "between 0 and 10",
            );
        }
        if settings.worth.iter().any(|worth| !worth.is_finite()) {
            return wrong("worth", "it holds no finite number".into(), "for example [20, 1, 0.001]");
        }
        Ok(Outlook { settings })
    }

    fn value(&self, votes: &[Option<Vote>]) -> Option<f64> {
        let [sure, likely, impossible] = self.settings.worth;
        let worth = votes.iter().flatten().map(|vote| match vote {
            Vote::Sure => sure,
            Vote::Likely => likely,
            Vote::Impossible => impossible,
        });
        votes.iter().any(Option::is_some).then(|| worth.sum())
    }

    async fn one(&self, input: EvaluateInput<'_>, index: usize) -> Result<Feedback, EvaluateError> {
        let OutlookSettings { role, votes, temperature, max_tokens, .. } = &self.settings;
        let text = input.candidates[index].completion.text.as_str();
        if text.trim().is_empty() {
            return Ok(Feedback::abstain(self.name(), "the response is empty"));
        }
        let messages =
            input.context.prompt(role, "outlook", &PromptSlots::new(input.problem).solution(text))?;
        let label = format!("outlook\0{}\0{}\0{text}", input.problem.task, input.problem.id);
        let request = GenerateRequest {
            samples: *votes,
            sampling: Sampling {
                temperature: *temperature,
                max_tokens: *max_tokens,
                seed: input.context.seed_for(&label, index as u64),
                ..Sampling::default()
            },
            ..GenerateRequest::new(messages)
        };
        let replies = match input.context.generate(role, &request).await {
            Ok(replies) => replies,
            Err(error @ (GenerateError::Unavailable { .. } | GenerateError::Request { .. })) => {
                return Ok(Feedback::abstain(self.name(), error.to_string()));
            }
            Err(error) => return Err(error.into()),
        };
        let usage: Usage = replies.iter().map(|reply| reply.usage).sum();
        let cast: Vec<Option<Vote>> = replies.iter().map(|reply| parse_vote(&reply.text)).collect();
        let unread = cast.iter().filter(|vote| vote.is_none()).count();
        let count = |wanted: Vote| cast.iter().filter(|vote| **vote == Some(wanted)).count();
        let remark = format!(
            "{} sure, {} likely, {} impossible, {unread} unreadable",
            count(Vote::Sure),
            count(Vote::Likely),
            count(Vote::Impossible)
        );
        let feedback = match self.value(&cast) {
            Some(value) => Feedback::score(self.name(), value),
            None => {
                let said = replies.first().map(|reply| reply.text.chars().take(80).collect::<String>());
                Feedback::abstain(self.name(), format!("no vote can be read: `{}`", said.unwrap_or_default()))
            }
        };
        Ok(Feedback { text: Some(remark), usage, ..feedback })
    }
}

#[async_trait]
impl Evaluator for Outlook {
    fn name(&self) -> &'static str {
        "outlook"
    }

    fn summary(&self) -> &'static str {
        "the model's own votes whether an unfinished solution is sure, likely or impossible to become right"
    }

    fn needs(&self) -> Needs {
        Needs::role(RoleNeeds::new(self.settings.role.as_str()))
    }

    fn cost(&self, size: CandidateSize) -> Usage {
        Usage {
            calls: size.candidates,
            prompt_tokens: size.candidates * (size.prompt_tokens + size.completion_tokens),
            completion_tokens: size.candidates
                * self.settings.votes as u64
                * u64::from(self.settings.max_tokens),
            ..Usage::default()
        }
    }

    async fn evaluate(&self, input: EvaluateInput<'_>) -> Result<Vec<Feedback>, EvaluateError> {
        each(self.name(), input.candidates.len(), |index| self.one(input, index)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, candidates};
    use elenchus_generate::{Scripted, Voice};

    fn value(replies: &[&str]) -> Feedback {
        let model = Scripted::new("m").on("", replies.iter().copied());
        let outlook = Outlook::new(OutlookSettings::default()).unwrap();
        let samples = candidates(&[("a=2+5=7", None)]);
        testing::evaluate_with(model, Voice::Chat, &outlook, &samples).unwrap().remove(0)
    }

    #[test]
    fn the_values_of_the_sheet() {
        assert_eq!(value(&["sure", "likely", "impossible"]).score, Some(21.001));
        assert_eq!(value(&["likely", "likely", "impossible"]).score, Some(2.001));
    }

    #[test]
    fn the_last_word_counts_and_a_vote_without_one_is_left_out() {
        assert_eq!(value(&["It is not impossible. Sure.", "Likely!", "hm"]).score, Some(21.0));
        assert_eq!(value(&["surely", "unlikely", "certain"]).score, None, "parts of words are no votes");
        let silent = value(&["hm", "hm", "hm"]);
        assert!(silent.abstained.as_deref().is_some_and(|why| why.contains("`hm`")), "{silent:?}");
        assert_eq!(silent.text.as_deref(), Some("0 sure, 0 likely, 0 impossible, 3 unreadable"));
    }

    #[test]
    fn a_model_that_is_away_abstains_and_settings_are_checked() {
        let model = Scripted::new("m").on_completions("", [Err(testing::away())]);
        let outlook = Outlook::new(OutlookSettings::default()).unwrap();
        let samples = candidates(&[("a=2+5=7", None), ("", None)]);
        let found = testing::evaluate_with(model, Voice::Chat, &outlook, &samples).unwrap();
        assert!(found.iter().all(|feedback| feedback.abstained.is_some()));
        for wrong in [
            OutlookSettings { votes: 0, ..Default::default() },
            OutlookSettings { max_tokens: 0, ..Default::default() },
            OutlookSettings { worth: [f64::NAN, 1.0, 0.0], ..Default::default() },
        ] {
            assert!(Outlook::new(wrong).unwrap_err().to_string().contains("hint:"));
        }
    }
}
