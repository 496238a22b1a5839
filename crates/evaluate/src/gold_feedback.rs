//! Feedback by somebody who knows the right answer and may not say it (arXiv 2506.11930).

use crate::judge::abstain_or_fail;
use crate::{EvaluateError, redact};
use elenchus_generate::{ACTOR, Context, GenerateRequest, PromptSlots, Sampling, Voice};
use elenchus_task::{Task, TaskError};
use elenchus_trace::{ChoiceOption, Completion, Feedback, Problem, Verdict};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

const NAME: &str = "gold-feedback";

/// Who gives feedback to a wrong answer, and how much.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FeedbackSource {
    /// One sentence: it was wrong (F1).
    Binary,
    /// The task's verifier says which step is the first wrong one.
    Location,
    /// And what it should have been, the answer hidden.
    Step,
    /// The solver itself, shown the right answer (F2).
    Own,
    /// The model in role `critic`, shown the right answer (F3).
    #[default]
    Critic,
}

/// An earlier attempt, as prompts show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PastAttempt {
    /// From 1.
    pub number: usize,
    /// The response.
    pub text: String,
    /// The feedback to it; empty while it is being written.
    pub feedback: String,
    /// The options in the places that they had for this attempt, where they change places between attempts; else none.
    pub options: Vec<ChoiceOption>,
}

/// Feedback with the answer hidden.
#[derive(Debug, Clone, PartialEq)]
pub struct GoldFeedback {
    /// For the trace: text, verdict, cost, and why a model gave none.
    pub feedback: Feedback,
    /// What the solver reads: a sentence, or a critique in the compact voice (empty for [`FeedbackSource::Binary`]).
    pub text: String,
    /// How often the answer was hidden in it.
    pub hidden: usize,
}

/// What [`FeedbackSource::write`] looks at.
#[derive(Clone, Copy)]
pub struct GoldFeedbackInput<'a> {
    /// The way to the models.
    pub context: &'a Context,
    /// The task.
    pub task: &'a dyn Task,
    /// The problem; its reference answer is known.
    pub problem: &'a Problem,
    /// All attempts so far; the last one is to be given feedback.
    pub attempts: &'a [PastAttempt],
    /// What the verifier says of the last one.
    pub verdict: &'a Verdict,
    /// Most tokens of feedback that a model writes.
    pub max_tokens: u32,
}

const WRONG: &str = "Your answer was incorrect.";

impl FeedbackSource {
    /// Whether a model writes it.
    pub fn asks_a_model(self) -> bool {
        matches!(self, FeedbackSource::Own | FeedbackSource::Critic)
    }

    /// The role that writes it, where a model does.
    pub fn role(self) -> &'static str {
        if self == FeedbackSource::Critic { "critic" } else { ACTOR }
    }

    /// What stands in the way of this source on a problem, before any call: the reason and a hint.
    pub fn obstacle(
        self,
        voice: Voice,
        task: &dyn Task,
        problem: &Problem,
    ) -> Result<Option<(String, &'static str)>, TaskError> {
        if problem.gold.is_none() {
            let what = format!("problem `{}` has no reference answer", problem.id);
            return Ok(Some((what, "feedback that knows the answer needs problems with answers")));
        }
        Ok(match self {
            FeedbackSource::Binary => None,
            FeedbackSource::Own | FeedbackSource::Critic => (voice == Voice::Compact).then(|| {
                let what = "the embedded model neither writes nor reads feedback in words".to_string();
                (what, "take `feedback = \"step\"`, `location` or `binary`, or a chat model")
            }),
            FeedbackSource::Location | FeedbackSource::Step => {
                let checked = match task.reference(problem) {
                    Some(reference) => !task.verify(problem, &reference)?.steps.is_empty(),
                    None => false,
                };
                (!checked).then(|| {
                    let what = format!("the task `{}` does not check single steps", problem.task);
                    (what, "take `feedback = \"critic\"`, `own` or `binary`")
                })
            }
        })
    }

    /// Feedback to the last attempt, which is wrong.
    ///
    /// A model that fails or writes nothing is an abstention in the trace, and the solver reads that its answer was
    /// wrong. Errors: a budget that is over, a template that is broken.
    pub async fn write(self, input: GoldFeedbackInput<'_>) -> Result<GoldFeedback, EvaluateError> {
        let voice = input.context.voice_of(ACTOR);
        let mask = if voice == Voice::Compact { "_" } else { "[masked]" };
        let (said, mut feedback) = match self {
            FeedbackSource::Binary => (binary(voice), Feedback::default()),
            FeedbackSource::Location | FeedbackSource::Step => {
                let with_step = self == FeedbackSource::Step;
                (by_rule(voice, input.verdict, with_step), Feedback::default())
            }
            FeedbackSource::Own | FeedbackSource::Critic => self.ask(input).await?,
        };
        let hidden = redact(input.problem, &said, mask);
        feedback.evaluator = NAME.into();
        feedback.verdict = Some(input.verdict.clone());
        feedback.text = Some(hidden.text.clone());
        Ok(GoldFeedback { feedback, text: hidden.text, hidden: hidden.hidden })
    }

    async fn ask(self, input: GoldFeedbackInput<'_>) -> Result<(String, Feedback), EvaluateError> {
        let GoldFeedbackInput { context, task, problem, attempts, .. } = input;
        let mut slots = PromptSlots::new(problem);
        slots.extra.insert("attempts".into(), json!(attempts));
        slots.extra.insert("gold".into(), json!(problem.gold));
        // A recorded solution may be somebody's wrong one.
        let recorded = problem.data.get("solution").and_then(|text| text.as_str());
        let right = match recorded {
            Some(text) if task.verify(problem, text)?.is_correct() => Some(text.to_string()),
            _ => None,
        };
        slots.extra.insert("process".into(), json!(task.reference(problem).or(right)));
        let label = format!("{NAME}\0{}\0{}", problem.task, problem.id);
        let request = GenerateRequest {
            sampling: Sampling {
                temperature: 0.0,
                max_tokens: input.max_tokens,
                seed: context.seed_for(&label, attempts.len() as u64),
                ..Sampling::default()
            },
            ..GenerateRequest::new(context.prompt(self.role(), "gold_feedback", &slots)?)
        };
        let completion = match context.generate(self.role(), &request).await {
            Ok(completions) => completions.into_iter().next(),
            Err(error) => return Ok((WRONG.into(), abstain_or_fail(NAME, error)?)),
        };
        let Some(Completion { text, usage, .. }) = completion else {
            return Ok((WRONG.into(), Feedback::abstain(NAME, "the model gave no completion")));
        };
        let said = text.rsplit_once("</think>").map_or(text.as_str(), |(_, said)| said).trim();
        if said.is_empty() {
            let silent = Feedback { usage, ..Feedback::abstain(NAME, "the model wrote nothing") };
            return Ok((WRONG.into(), silent));
        }
        Ok((format!("{WRONG} {said}"), Feedback { usage, ..Feedback::default() }))
    }
}

fn binary(voice: Voice) -> String {
    if voice == Voice::Compact { String::new() } else { WRONG.into() }
}

/// Where the first wrong step is, and when wanted what it should have been, in the words of the voice.
fn by_rule(voice: Voice, verdict: &Verdict, with_step: bool) -> String {
    let Some(first) = verdict.first_wrong_step() else { return binary(voice) };
    let wrong = &verdict.steps[first];
    let expected = wrong.expected.as_deref().filter(|_| with_step);
    match voice {
        Voice::Compact => format!("{}N{}", "Y".repeat(first), expected.unwrap_or_default()),
        Voice::Chat => {
            let place = match wrong.step.text.trim() {
                "" => format!("{WRONG} Steps 1 to {first} are right, and something is missing behind them."),
                text => format!("{WRONG} The first wrong step is step {}: `{text}`.", first + 1),
            };
            expected.map_or(place.clone(), |expected| format!("{place} It should be: `{expected}`."))
        }
    }
}

/// Why a problem stayed unsolved through all rounds, as a judge of the whole course sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhyUnsolved {
    /// Nobody could solve it as it is written.
    Impossible,
    /// Too hard for the solver, whatever the feedback.
    TooComplicated,
    /// The feedback misleads.
    FeedbackIsWrong,
    /// The feedback is right and the solver does not do what it says: friction.
    NotFollowing,
    /// Right in substance, wrong in form.
    Format,
    /// None of these, or the judge cannot be read.
    Unknown,
}

impl WhyUnsolved {
    /// Reads the judge's last line `The error is: …`; anything else is [`WhyUnsolved::Unknown`].
    pub fn parse(text: &str) -> Self {
        let said = text.to_ascii_lowercase();
        let Some((_, said)) = said.rsplit_once("the error is:") else { return WhyUnsolved::Unknown };
        let said = said.lines().next().unwrap_or_default();
        let known = [
            ("impossible to solve", WhyUnsolved::Impossible),
            ("too complicated", WhyUnsolved::TooComplicated),
            ("feedback is wrong", WhyUnsolved::FeedbackIsWrong),
            ("not following the feedback", WhyUnsolved::NotFollowing),
            ("style/format", WhyUnsolved::Format),
        ];
        let mut named = known.iter().filter(|(words, _)| said.contains(words));
        match (named.next(), named.next()) {
            (Some((_, one)), None) => *one,
            // None of them, or several.
            _ => WhyUnsolved::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use elenchus_trace::{Outcome, Step, StepVerdict};

    fn verdict(last: &str) -> Verdict {
        let step = |text: &str, expected: Option<&str>| StepVerdict {
            step: Step { text: text.into(), start: 0, end: text.len() },
            correct: expected.is_none(),
            expected: expected.map(String::from),
        };
        Verdict {
            outcome: Outcome::Wrong,
            answer: Some("138".into()),
            steps: vec![step("g=50", None), step(last, Some("d=50+80=130"))],
            reason: None,
        }
    }

    #[test]
    fn the_verifier_says_where_and_what() {
        let wrong = verdict("d=50+88=138");
        assert_eq!(by_rule(Voice::Compact, &wrong, false), "YN");
        assert_eq!(by_rule(Voice::Compact, &wrong, true), "YNd=50+80=130");
        let place = by_rule(Voice::Chat, &wrong, false);
        assert!(place.contains("step 2: `d=50+88=138`") && !place.contains("130"), "{place}");
        assert!(by_rule(Voice::Chat, &wrong, true).ends_with("It should be: `d=50+80=130`."));
        assert!(by_rule(Voice::Chat, &verdict(""), false).contains("Steps 1 to 1 are right"));
        let hidden = redact(&Problem::new("p", "t", "q").with_gold("130"), "YNd=50+80=130", "_");
        assert_eq!((hidden.text.as_str(), hidden.hidden), ("YNd=50+80=_", 1));
    }

    #[test]
    fn categories_are_read_strictly() {
        for (text, category) in [
            ("It ignores it.\nThe error is: model is not following the feedback", WhyUnsolved::NotFollowing),
            ("The error is: <feedback is wrong>.", WhyUnsolved::FeedbackIsWrong),
            ("THE ERROR IS: Too complicated", WhyUnsolved::TooComplicated),
            ("The error is: impossible to solve", WhyUnsolved::Impossible),
            ("The error is: style/format issue", WhyUnsolved::Format),
            ("The error is: too complicated, or feedback is wrong", WhyUnsolved::Unknown),
            ("The error is: unknown", WhyUnsolved::Unknown),
            ("It is not following the feedback", WhyUnsolved::Unknown),
            ("{\"error\": \"too compl", WhyUnsolved::Unknown),
            ("", WhyUnsolved::Unknown),
        ] {
            assert_eq!(WhyUnsolved::parse(text), category, "{text}");
        }
    }
}
