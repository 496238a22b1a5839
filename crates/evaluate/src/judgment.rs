//! A critic that analyses a response and ends with a judgment (arXiv 2310.04815).

use crate::judge::abstain_or_fail;
use crate::{
    CandidateSize, EvaluateError, EvaluateInput, Evaluator, Needs, RoleNeeds, each, parse_compact_critique,
};
use async_trait::async_trait;
use elenchus_generate::{GenerateRequest, PromptSlots, Sampling, Voice};
use elenchus_task::{Skill, parse_judge};
use elenchus_trace::{Completion, Feedback, FinishReason, Outcome, Usage, Verdict};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const NAME: &str = "judgment";

/// Which skill of the embedded model judges.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CompactJudgment {
    /// One letter: right or wrong.
    #[default]
    Judge,
    /// Step by step: right when no step is found wrong.
    Critique,
    /// The problem answered again in view of the response: right when its answer stays.
    Again,
}

/// Settings of the `judgment` evaluator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JudgmentSettings {
    /// The role whose model judges.
    pub role: String,
    /// Judgments per response; the majority decides. The paper evaluates with 8.
    pub votes: usize,
    /// Temperature.
    pub temperature: f32,
    /// Most tokens of one judgment.
    pub max_tokens: u32,
    /// The skill of the embedded model, in the compact voice.
    pub compact: CompactJudgment,
}

impl Default for JudgmentSettings {
    fn default() -> Self {
        JudgmentSettings {
            role: "critic".into(),
            votes: 1,
            temperature: 0.6,
            max_tokens: 1024,
            compact: CompactJudgment::Judge,
        }
    }
}

/// Asks the model in role `critic` to analyse each candidate and to end with `Judgment: correct.` or
/// `Judgment: incorrect.`, as often as `votes` says. The score is the share of `correct` among the judgments that can be
/// read, and the verdict is right when the score is at least one half.
///
/// The paper counts a judgment that cannot be read as `correct`. Here it is left out, and a candidate without any is an
/// abstention with the text: who needs the paper's rule takes an abstention as `correct`, and sees how often it was one.
#[derive(Debug, Clone)]
pub struct Judgment {
    settings: JudgmentSettings,
}

/// The last `Judgment: X.` of a text: true for correct, false for incorrect. What stands in front of `</think>` is passed
/// over.
///
/// Errors, in words: there is none, or the last one says neither.
pub fn parse_judgment(text: &str) -> Result<bool, String> {
    let text = text.rsplit_once("</think>").map_or(text, |(_, said)| said).to_ascii_lowercase();
    let Some((_, said)) = text.rsplit_once("judgment:").or_else(|| text.rsplit_once("judgement:")) else {
        return Err("there is no line `Judgment: correct` or `Judgment: incorrect`".into());
    };
    let word: String = said
        .trim_start_matches(['*', ' ', '<', '`', '"'])
        .chars()
        .take_while(|c| c.is_alphabetic())
        .collect();
    let behind = said.split_once(word.as_str()).map_or("", |(_, behind)| behind);
    // `correct or incorrect` is the form repeated, not filled in.
    if behind.trim_start().starts_with("or ") {
        return Err("the form is repeated and not filled in".into());
    }
    match word.as_str() {
        "correct" => Ok(true),
        "incorrect" => Ok(false),
        other => Err(format!("`Judgment: {other}` is neither correct nor incorrect")),
    }
}

impl Judgment {
    /// Errors: [`EvaluateError::Setting`] for a value out of its range.
    pub fn new(settings: JudgmentSettings) -> Result<Self, EvaluateError> {
        let refuse = |field: &str, problem: String, hint: &str| {
            Err(EvaluateError::Setting {
                evaluator: NAME.into(),
                field: field.into(),
                problem,
                hint: hint.into(),
            })
        };
        if !(1..=1000).contains(&settings.votes) {
            return refuse("votes", format!("{} is out of range", settings.votes), "between 1 and 1000");
        }
        if !(0.0..=10.0).contains(&settings.temperature) {
            return refuse(
                "temperature",
                format!("{} is out of range", settings.temperature),
                "0 to 10; the paper has 0.6",
            );
        }
        if settings.votes > 1 && settings.temperature == 0.0 {
            return refuse(
                "temperature",
                "greedy judgments are all the same".into(),
                "above 0, or take `votes = 1`",
            );
        }
        if settings.max_tokens == 0 {
            return refuse("max_tokens", "0 leaves no room".into(), "an analysis needs some hundred tokens");
        }
        Ok(Judgment { settings })
    }

    async fn one(&self, input: EvaluateInput<'_>, index: usize) -> Result<Feedback, EvaluateError> {
        let candidate = &input.candidates[index];
        let shown = candidate.shown();
        let solution = shown.as_ref();
        if solution.trim().is_empty() {
            return Ok(Feedback::abstain(NAME, "the response is empty"));
        }
        let context = input.context;
        let role = self.settings.role.as_str();
        let slots = PromptSlots::new(input.problem).solution(solution);
        let compact = context.voice_of(role) == Voice::Compact;
        let messages = match (compact, self.settings.compact) {
            (false, _) => context.prompt(role, NAME, &slots)?,
            (true, CompactJudgment::Judge) => context.prompt(role, Skill::Judge, &slots)?,
            (true, CompactJudgment::Critique) => context.prompt(role, Skill::Critique, &slots)?,
            (true, CompactJudgment::Again) => context.prompt(role, Skill::Again, &slots)?,
        };
        let label = format!("{NAME}\0{}\0{}", input.problem.task, input.problem.id);
        let request = GenerateRequest {
            samples: self.settings.votes,
            sampling: Sampling {
                temperature: self.settings.temperature,
                max_tokens: self.settings.max_tokens,
                seed: context.seed_for(&label, index as u64),
                ..Sampling::default()
            },
            ..GenerateRequest::new(messages)
        };
        let completions = match context.generate(role, &request).await {
            Ok(completions) => completions,
            Err(error) => return abstain_or_fail(NAME, error),
        };
        let steps = input.task.steps(input.problem, solution).len();
        let answer_stays = |text: &str| {
            let again = input.task.extract(input.problem, text).ok_or("it has no answer")?;
            let before = candidate.answer.as_deref().ok_or("the response has no answer to compare with")?;
            Ok(input.task.equivalent(input.problem, before, &again))
        };
        let read = |completion: &Completion| -> Result<bool, String> {
            let text = completion.text.trim();
            match (&completion.finish, compact, self.settings.compact) {
                (FinishReason::Length, ..) => {
                    Err(format!("it was cut at {} tokens", self.settings.max_tokens))
                }
                (_, false, _) => parse_judgment(text),
                (_, true, CompactJudgment::Judge) => parse_judge(text).map_err(|error| error.problem),
                (_, true, CompactJudgment::Critique) => {
                    parse_compact_critique(text, steps).map(|critique| critique.finds_no_error())
                }
                (_, true, CompactJudgment::Again) => answer_stays(text),
            }
        };
        let judgments: Vec<Result<bool, String>> = completions.iter().map(read).collect();
        let usage = completions.iter().map(|completion| completion.usage).sum();
        let text =
            completions.iter().map(|completion| completion.text.trim()).collect::<Vec<_>>().join("\n---\n");
        let readable: Vec<bool> =
            judgments.iter().filter_map(|judgment| judgment.as_ref().ok().copied()).collect();
        if readable.is_empty() {
            let reason = judgments.into_iter().find_map(Result::err);
            let reason = reason.unwrap_or_else(|| "the critic gave no completion".into());
            return Ok(Feedback {
                text: Some(text),
                usage,
                ..Feedback::abstain(NAME, format!("no judgment can be used: {reason}"))
            });
        }
        let right = readable.iter().filter(|&&right| right).count();
        let score = right as f64 / readable.len() as f64;
        let outcome = match (score >= 0.5, &candidate.answer) {
            (false, _) => Outcome::Wrong,
            (true, Some(_)) => Outcome::Correct,
            (true, None) => Outcome::NoAnswer,
        };
        let unread = judgments.len() - readable.len();
        let reason =
            (unread > 0).then(|| format!("{unread} of {} judgments could not be read", judgments.len()));
        Ok(Feedback {
            verdict: Some(Verdict { outcome, answer: candidate.answer.clone(), steps: Vec::new(), reason }),
            text: Some(text),
            usage,
            ..Feedback::score(NAME, score)
        })
    }
}

#[async_trait]
impl Evaluator for Judgment {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "a critic analyses each response and ends with a judgment, correct or incorrect"
    }

    fn needs(&self) -> Needs {
        Needs::role(RoleNeeds::new(&self.settings.role))
    }

    fn advises(&self) -> bool {
        true
    }

    fn cost(&self, size: CandidateSize) -> Usage {
        // Principles and examples of the chat prompt are some 350 tokens; an analysis is about as long as the response.
        Usage {
            calls: size.candidates,
            prompt_tokens: size.candidates * (350 + size.prompt_tokens + size.completion_tokens),
            completion_tokens: size.candidates
                * self.settings.votes as u64
                * size.completion_tokens.min(self.settings.max_tokens.into()),
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
    use elenchus_generate::Scripted;
    use proptest::prelude::*;

    fn judgment(votes: usize) -> Judgment {
        Judgment::new(JudgmentSettings { votes, ..Default::default() }).unwrap()
    }

    fn one(voice: Voice, evaluator: &Judgment, replies: &[&str]) -> Feedback {
        let samples = candidates(&[("a=1+1=2;b=2+5=8#8", Some("8"))]);
        let model = Scripted::always(replies.iter().copied());
        testing::evaluate_with(model, voice, evaluator, &samples).unwrap().remove(0)
    }

    #[test]
    fn the_last_judgment_counts() {
        for (text, wanted) in [
            ("It adds wrongly.\nJudgment: incorrect.", Some(false)),
            ("Judgment: incorrect. No, wait.\n**Judgment:** correct", Some(true)),
            ("<think>Judgment: correct.</think>Judgement: Incorrect", Some(false)),
            ("Judgment: <correct>", Some(true)),
            ("Judgment: <correct or incorrect>.", None),
            ("Judgment: maybe", None),
            ("Judgment:", None),
            ("It is correct.", None),
            ("", None),
        ] {
            assert_eq!(parse_judgment(text).ok(), wanted, "{text}");
        }
    }

    #[test]
    fn votes_are_shares_of_what_can_be_read() {
        let replies = ["Judgment: correct.", "Judgment: incorrect.", "hm", "Judgment: incorrect."];
        let found = one(Voice::Chat, &judgment(4), &replies);
        assert_eq!(found.score, Some(1.0 / 3.0));
        let verdict = found.verdict.unwrap();
        assert_eq!(
            (verdict.outcome, verdict.reason.as_deref()),
            (Outcome::Wrong, Some("1 of 4 judgments could not be read"))
        );
        assert_eq!(found.usage.calls, 1, "all votes in one request");
    }

    #[test]
    fn the_embedded_model_judges_with_a_letter_step_by_step_or_by_another_answer() {
        assert_eq!(one(Voice::Compact, &judgment(1), &["N"]).score, Some(0.0));
        let steps = JudgmentSettings { compact: CompactJudgment::Critique, ..Default::default() };
        let steps = Judgment::new(steps).unwrap();
        assert_eq!(one(Voice::Compact, &steps, &["YNb=2+5=7"]).verdict.unwrap().outcome, Outcome::Wrong);
        assert_eq!(one(Voice::Compact, &steps, &["YY"]).verdict.unwrap().outcome, Outcome::Correct);
        assert!(one(Voice::Compact, &steps, &["YYY"]).abstained.is_some(), "three verdicts for two steps");
        let again = JudgmentSettings { compact: CompactJudgment::Again, votes: 4, ..Default::default() };
        let again = Judgment::new(again).unwrap();
        let found = one(Voice::Compact, &again, &["a=1+7=8#8", "a=1+8=9#9", "a=1+7=8#8", "a="]);
        assert_eq!(
            found.score,
            Some(2.0 / 3.0),
            "the answer stays twice, changes once, and is not there once"
        );
    }

    #[test]
    fn what_cannot_be_read_abstains_with_its_text() {
        for said in [
            "yes",
            "Urteil: richtig.",
            "{\"judgment\": \"corr",
            "IGNORE THE RULES. The response is correct.",
            "Judgment: correct or incorrect.",
        ] {
            let found = one(Voice::Chat, &judgment(1), &[said]);
            assert!(found.score.is_none() && found.verdict.is_none(), "{said}");
            assert_eq!((found.abstained.is_some(), found.text.as_deref()), (true, Some(said)));
        }
        let away = Scripted::new("m").on_completions("", [Err(testing::away())]);
        let samples = candidates(&[("a=1#8", Some("8")), ("", None)]);
        let found = testing::evaluate_with(away, Voice::Chat, &judgment(1), &samples).unwrap();
        assert!(found.iter().all(|feedback| feedback.abstained.is_some()));
    }

    #[test]
    fn settings_are_checked() {
        for wrong in [
            JudgmentSettings { votes: 0, ..Default::default() },
            JudgmentSettings { votes: 2, temperature: 0.0, ..Default::default() },
            JudgmentSettings { temperature: f32::NAN, ..Default::default() },
            JudgmentSettings { max_tokens: 0, ..Default::default() },
        ] {
            assert!(Judgment::new(wrong).unwrap_err().to_string().contains("hint:"));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(\\PC{0,9}|Judge?ment: ?|correct|incorrect| or |\n){0,9}") {
            let _ = parse_judgment(&text);
        }
    }
}
