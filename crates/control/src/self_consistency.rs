//! Self-consistency: many samples, one vote (arXiv 2203.11171).

use crate::draw::{ask, check_samples};
use crate::vote::{is_decided, majority};
use crate::{
    ControlError, ControlKind, Draw, Estimate, EstimateInput, EvaluateKind, FeedbackLine, GenerateKind,
    Minimum, Sampled, Strategy, Trail, Triple,
};
use async_trait::async_trait;
use elenchus_evaluate::{Needs, RoleNeeds};
use elenchus_generate::{ACTOR, Context, GenerateError, LogprobDetail};
use elenchus_task::Task;
use elenchus_trace::{Answer, Problem, Usage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Settings of `self-consistency`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SelfConsistencySettings {
    /// Number of responses n.
    pub samples: usize,
    /// Stop when the leading answer cannot be overtaken. The responses are then drawn in waves, each half of what is
    /// left: the vote cannot be over before half of them agree. Cheaper, in up to log₂ n + 1 turns instead of one.
    pub early_stop: bool,
    /// How the responses are drawn.
    #[serde(flatten)]
    pub draw: Draw,
}

impl Default for SelfConsistencySettings {
    fn default() -> Self {
        SelfConsistencySettings { samples: 8, early_stop: true, draw: Draw::default() }
    }
}

/// Draws n responses, groups their answers by the task's own equivalence, and returns the first response with the most
/// frequent answer; ties go to the answer seen first. Confidence is the share of the winner among all responses drawn,
/// those without an answer included. When no response has an answer, it abstains.
///
/// Helps when the right answer is more frequent than any single wrong one; hurts when one wrong answer is.
#[derive(Debug, Clone)]
pub struct SelfConsistency {
    settings: SelfConsistencySettings,
}

impl SelfConsistency {
    /// Errors: [`ControlError::Setting`].
    pub fn new(settings: SelfConsistencySettings) -> Result<Self, ControlError> {
        check_samples("self-consistency", settings.samples)?;
        settings.draw.check("self-consistency")?;
        Ok(SelfConsistency { settings })
    }
}

#[async_trait]
impl Strategy for SelfConsistency {
    fn name(&self) -> &'static str {
        "self-consistency"
    }

    fn summary(&self) -> &'static str {
        "majority vote over sampled answers, stopping when the lead cannot be overtaken"
    }

    fn triple(&self) -> Triple {
        Triple {
            generate: GenerateKind::HandWritten,
            evaluate: EvaluateKind::SelfAssessment,
            control: ControlKind::Ensemble,
            line: Some(FeedbackLine::ReasoningTopologically),
        }
    }

    fn needs(&self) -> Needs {
        Needs::role(RoleNeeds::new(ACTOR))
    }

    fn minimum(&self) -> Minimum {
        let samples = self.settings.samples as u64;
        let drawn = if self.settings.early_stop { samples.div_ceil(2) } else { samples };
        Minimum { calls: 1, tokens: 1 + drawn }
    }

    fn estimate(&self, input: &EstimateInput) -> Estimate {
        let samples = self.settings.samples as u64;
        let waves = if self.settings.early_stop { u64::from(samples.ilog2()) + 1 } else { 1 };
        Estimate {
            usage: Usage {
                calls: waves,
                prompt_tokens: waves * input.prompt_tokens,
                completion_tokens: samples * input.completion_tokens,
                ..Usage::default()
            },
            formula: match self.settings.early_stop {
                true => format!(
                    "1 to {waves} calls, at most {waves}p + nc tokens, at least p + ⌈n/2⌉c, n = {samples}"
                ),
                false => format!("1 call, p + nc tokens, n = {samples}"),
            },
        }
    }

    async fn attempt(
        &self,
        context: &Context,
        task: &dyn Task,
        problem: &Problem,
    ) -> Result<Answer, ControlError> {
        let mut trail = Trail::new(context, self.name(), problem);
        let total = self.settings.samples;
        let equivalent = |left: &str, right: &str| task.equivalent(problem, left, right);
        let mut drawn = Sampled::default();
        let mut waves = 0;
        let mut cut = None;
        loop {
            let so_far = drawn.nodes.len();
            let remaining = total - so_far;
            let wave = match self.settings.early_stop {
                true if is_decided(&majority(&drawn.answers(), equivalent).counts, remaining) => 0,
                true => remaining.div_ceil(2),
                false => remaining,
            };
            if wave == 0 {
                break;
            }
            let request = self.settings.draw.request(
                context,
                problem,
                wave,
                total > 1,
                LogprobDetail::Offered,
                so_far,
            )?;
            match ask(&mut trail, context, task, problem, ACTOR, None, &request).await {
                Ok(more) => drawn.extend(more),
                // What was drawn can still be voted on.
                Err(ControlError::Generate(error @ GenerateError::Budget { .. })) if so_far > 0 => {
                    cut = Some(trail.failed(None, error.to_string()));
                    break;
                }
                Err(error) => return Err(error),
            }
            waves += 1;
            if drawn.nodes.len() == so_far {
                break;
            }
        }
        let answers = drawn.answers();
        let result = majority(&answers, equivalent);
        let votes = result.table(&answers);
        let data = json!({
            "votes": votes, "drawn": answers.len(), "of": total, "waves": waves, "budget_cut": cut.is_some(),
        });
        let Some(sample) = result.sample() else {
            let reason =
                format!("none of the {} responses has an answer that the task can extract", answers.len());
            trail.decided(None, reason.clone(), None, data);
            let text = drawn.candidates.first().map(|c| c.completion.text.clone()).unwrap_or_default();
            return Ok(trail.answer(text, None, None, votes, Some(reason)));
        };
        let decision = format!("{} of {} votes", votes.first().map_or(0, |v| v.count), answers.len());
        trail.decided(None, decision, Some(drawn.nodes[sample]), data);
        let chosen = &drawn.candidates[sample];
        Ok(trail.answer(chosen.completion.text.clone(), chosen.answer.clone(), result.share(), votes, None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{context, context_with, run};
    use elenchus_generate::Scripted;
    use elenchus_trace::{Budget, NodeKind};
    use proptest::prelude::{ProptestConfig, prop, prop_assert_eq, proptest};
    use std::time::{Duration, Instant};

    fn strategy(samples: usize, early_stop: bool) -> SelfConsistency {
        let settings = SelfConsistencySettings { samples, early_stop, ..Default::default() };
        SelfConsistency::new(settings).unwrap()
    }

    #[test]
    fn equivalent_answers_vote_together() {
        let model = Scripted::always(["x#8", "x#7", "x#07", "mumbling", "x#7"]).shared();
        let answer = run(&strategy(5, false), &context(model.clone())).unwrap();
        assert_eq!((answer.answer.as_deref(), answer.confidence), (Some("7"), Some(0.6)));
        assert_eq!(answer.text, "x#7", "the first response with the winning answer");
        assert_eq!((answer.votes[0].count, answer.votes[1].count), (3, 1));
        assert_eq!(model.calls(), 1, "all responses in one request");
        assert_eq!(answer.trace.completions().count(), 5);
        let last = &answer.trace.nodes.last().unwrap().kind;
        assert!(matches!(last, NodeKind::Decided { chosen: Some(node), .. } if node.0 == 1));
        assert!(elenchus_trace::Trace::from_json(&serde_json::to_string(&answer.trace).unwrap()).is_ok());
    }

    #[test]
    fn unanimous_responses_stop_at_half() {
        let model = Scripted::always(["x#7"]).shared();
        let answer = run(&strategy(8, true), &context(model.clone())).unwrap();
        assert_eq!((model.calls(), answer.votes[0].count, answer.confidence), (1, 4, Some(1.0)));
    }

    #[test]
    fn five_concurrent_samples_take_one_delay() {
        let model = Scripted::new("slow").delay(Duration::from_millis(50)).on("", ["x#7"]).shared();
        let start = Instant::now();
        let answer = run(&strategy(5, false), &context(model)).unwrap();
        let elapsed = start.elapsed();
        assert_eq!(answer.votes[0].count, 5);
        assert!(elapsed >= Duration::from_millis(50) && elapsed < Duration::from_millis(200), "{elapsed:?}");
    }

    #[test]
    fn without_answers_it_abstains() {
        let answer = run(&strategy(4, true), &context(Scripted::always(["hm"]).shared())).unwrap();
        assert_eq!((answer.answer, answer.confidence), (None, None));
        assert!(answer.abstained.unwrap().contains("none of the 4 responses"));
        assert_eq!(answer.usage.completion_tokens, 4);
    }

    #[test]
    fn a_budget_that_cannot_suffice_is_said_before_the_first_call() {
        let model = Scripted::always(["x#7"]).shared();
        for budget in [
            Budget { tokens: Some(8), ..Budget::default() },
            Budget { calls: Some(0), ..Budget::default() },
            Budget { seconds: Some(0.0), ..Budget::default() },
            Budget { money: Some(0.0), ..Budget::default() },
        ] {
            let error = run(&strategy(8, false), &context_with(model.clone(), budget)).unwrap_err();
            assert!(matches!(error, ControlError::Budget { .. }), "{error}");
            assert!(error.to_string().contains("hint: raise `budget."), "{error}");
        }
        assert_eq!(model.calls(), 0);
    }

    #[test]
    fn a_budget_that_ends_in_between_votes_on_what_is_there() {
        let model = Scripted::always(["x#1", "x#2", "x#2", "x#3"]).shared();
        let budget = Budget { calls: Some(1), ..Budget::default() };
        let answer = run(&strategy(8, true), &context_with(model, budget)).unwrap();
        assert_eq!((answer.answer.as_deref(), answer.confidence), (Some("2"), Some(0.5)));
        assert!(
            answer.trace.nodes.iter().any(|n| matches!(n.kind, NodeKind::Failed { .. })),
            "the trace says so"
        );
    }

    #[test]
    fn a_single_sample_is_a_vote_of_one() {
        let answer = run(&strategy(1, true), &context(Scripted::always(["x#7"]).shared())).unwrap();
        assert_eq!(answer.confidence, Some(1.0));
        assert!(SelfConsistency::new(SelfConsistencySettings { samples: 0, ..Default::default() }).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_early_stop_finds_the_winner_of_the_whole_vote(ballots in prop::collection::vec(0u8..4, 1..16)) {
            let texts: Vec<String> =
                ballots.iter().map(|&b| if b == 0 { "hm".into() } else { format!("x#{b}") }).collect();
            let all = run(&strategy(texts.len(), false), &context(Scripted::always(texts.clone()).shared())).unwrap();
            let model = Scripted::always(texts.clone()).shared();
            let early = run(&strategy(texts.len(), true), &context(model.clone())).unwrap();
            prop_assert_eq!(early.answer, all.answer);
            prop_assert_eq!(early.text, all.text);
            let waves = model.calls();
            assert!(waves <= texts.len().ilog2() as usize + 1, "{waves} waves for {} samples", texts.len());
        }
    }
}
