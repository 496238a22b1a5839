//! Generative self-aggregation: a new response written in view of several drafts (arXiv 2503.04104).

use crate::drafts::{DraftCall, Drafts};
use crate::draw::check_samples;
use crate::place::Place;
use crate::{
    ControlError, ControlKind, Draw, Estimate, EstimateInput, EvaluateKind, FeedbackLine, GenerateKind,
    Keeps, Minimum, Strategy, Trail, Triple,
};
use async_trait::async_trait;
use elenchus_evaluate::{Needs, RoleNeeds};
use elenchus_generate::{ACTOR, Context, LogprobDetail, PromptSlots, Sampling};
use elenchus_task::{Skill, Task};
use elenchus_trace::{Answer, Problem, Usage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

const NAME: &str = "gsa";

/// Settings of `gsa`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GsaSettings {
    /// Number of drafts N; all of them stand whole in one prompt. 1 is a rewrite.
    pub samples: usize,
    /// Role that writes the new response; the method has the same model in both roles.
    pub aggregator: String,
    /// Temperature of the new response.
    pub aggregator_temperature: f32,
    /// Most tokens of the new response; absent, those of a draft.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aggregator_max_tokens: Option<u32>,
    /// Show the drafts in an order drawn by the seed; off, in the order in which they were drawn.
    pub shuffle: bool,
    /// How the drafts are drawn, at temperature 0.7 and top_p 1 unless given: they must differ.
    #[serde(flatten)]
    pub draw: Draw,
}

impl Default for GsaSettings {
    fn default() -> Self {
        GsaSettings {
            samples: 3,
            aggregator: "aggregator".into(),
            aggregator_temperature: 0.0,
            aggregator_max_tokens: None,
            shuffle: true,
            draw: Draw::default(),
        }
    }
}

/// Draws N drafts in one request and shows all of them, whole and without scores, in a second one that asks for a new,
/// complete response r*. The answer of r* is the answer, read by the task's ordinary parser, whether or not any draft
/// has it: nothing is chosen, compared, counted, or said to be right.
///
/// Helps where answers cannot be voted on (programs, free text), and where drafts disagree. When r* has no answer that the
/// task can extract, when the second call fails, or when the budget ends before it, the vote of the drafts decides and
/// the trace says so (`fallback`). The trace also says whether r* repeats the drafts' majority and whether its answer is
/// in no draft (`novel`). No confidence is claimed for r*. Where somebody listens while r* is written, what they heard
/// stands, and the draft that the vote chose follows behind it.
///
/// Costs 2 calls, N + 1 responses; the second prompt holds all drafts, so the context must hold N responses. Needs
/// samples only. The embedded model knows the skill for the problems of `arithmetic`.
#[derive(Debug, Clone)]
pub struct Gsa {
    settings: GsaSettings,
}

impl Gsa {
    /// Errors: [`ControlError::Setting`].
    pub fn new(settings: GsaSettings) -> Result<Self, ControlError> {
        check_samples(NAME, settings.samples)?;
        let temperature = settings.aggregator_temperature;
        if !(0.0..=10.0).contains(&temperature) {
            let hint = "0 takes the likeliest token always, 1 samples as trained";
            let problem = format!("{temperature} is out of range");
            return Err(ControlError::setting(NAME, "aggregator_temperature", problem, hint));
        }
        if let Some(tokens) = settings.aggregator_max_tokens {
            crate::drafts::check_reply_tokens(NAME, "aggregator_max_tokens", tokens)?;
        }
        let settings = GsaSettings { draw: settings.draw.clone().or_sampling(0.7, 1.0), ..settings };
        settings.draw.check(NAME)?;
        Ok(Gsa { settings })
    }
}

#[async_trait]
impl Strategy for Gsa {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "a new response written in view of several drafts; works where no vote is possible"
    }

    fn triple(&self) -> Triple {
        Triple {
            generate: GenerateKind::ModelGenerated,
            evaluate: EvaluateKind::None,
            control: ControlKind::Ensemble,
            line: Some(FeedbackLine::RefiningWithResponses),
        }
    }

    fn needs(&self) -> Needs {
        Needs::role(RoleNeeds::new(ACTOR)).and(Needs::role(RoleNeeds::new(&self.settings.aggregator)))
    }

    fn keeps(&self) -> Keeps {
        Keeps::FORM
    }

    fn minimum(&self) -> Minimum {
        Minimum { calls: 2, tokens: 3 + self.settings.samples as u64 }
    }

    fn estimate(&self, input: &EstimateInput) -> Estimate {
        let samples = self.settings.samples as u64;
        // The instruction of the second prompt is some 60 tokens.
        Estimate {
            usage: Usage {
                calls: 2,
                prompt_tokens: 2 * input.prompt_tokens + samples * input.completion_tokens + 60,
                completion_tokens: (samples + 1) * input.completion_tokens,
                ..Usage::default()
            },
            formula: format!("2 calls, 2p + nc read and (n + 1)c written, n = {samples}"),
        }
    }

    async fn attempt(
        &self,
        context: &Context,
        task: &dyn Task,
        problem: &Problem,
    ) -> Result<Answer, ControlError> {
        let place = Place { context, task, problem };
        let settings = &self.settings;
        let mut trail = Trail::new(context, NAME, problem);
        let drafts =
            Drafts::draw(&mut trail, place, &settings.draw, settings.samples, LogprobDetail::Offered)
                .await?
                .shuffled(place, settings.shuffle);
        let stage = trail.stage(None, "aggregate");
        let call = DraftCall {
            role: &settings.aggregator,
            skill: Skill::Aggregate.name(),
            samples: 1,
            // Its reply is the answer: what the caller wants of the sampling holds for it, too.
            sampling: Sampling {
                temperature: settings.aggregator_temperature,
                max_tokens: settings.aggregator_max_tokens.unwrap_or(settings.draw.max_tokens),
                ..settings.draw.sampling(true, settings.draw.seed)
            },
            writes_answer: true,
        };
        let slots = PromptSlots::new(problem).drafts(drafts.shown());
        let reply = call.ask_last(&mut trail, place, Some(stage), &slots).await?;
        let answers = drafts.drawn.answers();
        let vote = drafts.vote(place);
        let majority = vote.sample().and_then(|draft| answers[draft]);
        let mut data = json!({
            "drafts": answers, "majority": majority, "distinct_answers": vote.groups.len(),
            "identical": drafts.identical(),
        });
        match reply.first() {
            Err(why) => {
                let text = drafts.drawn.texts().first().copied().unwrap_or_default().to_string();
                Ok(drafts.end_by_vote(trail, place, &why, data, text))
            }
            Ok((written, _)) if written.answer.is_none() => {
                let why = "the aggregated response has no answer that the task can extract";
                Ok(drafts.end_by_vote(trail, place, why, data, written.completion.text))
            }
            Ok((written, node)) => {
                let answer = written.answer.as_deref().unwrap_or_default();
                let repeats = majority.is_some_and(|majority| task.equivalent(problem, majority, answer));
                let novel = !drafts.holds(place, answer);
                (data["repeats_majority"], data["novel"]) = (json!(repeats), json!(novel));
                let decision = match (repeats, novel) {
                    (true, _) => "the aggregated response repeats the drafts' majority",
                    (false, true) => "the aggregated response has an answer that no draft has",
                    (false, false) => "the aggregated response follows a minority of the drafts",
                };
                trail.decided(Some(stage), drafts.noting_identical(decision.into()), Some(node), data);
                Ok(trail.answer(written.completion.text, written.answer, None, Vec::new(), None))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{away, compact, context, context_with, run};
    use elenchus_generate::Scripted;
    use elenchus_trace::{Budget, Message, NodeKind};
    use serde_json::Value;

    fn gsa(settings: Value) -> Gsa {
        Gsa::new(serde_json::from_value(settings).unwrap()).unwrap()
    }

    fn decided(answer: &Answer) -> (String, Value) {
        let last = answer.trace.nodes.iter().rev().find_map(|node| match &node.kind {
            NodeKind::Decided { decision, data, .. } => Some((decision.clone(), data.clone())),
            _ => None,
        });
        last.unwrap()
    }

    /// Drafts 12, 15, 15; the aggregator writes `reply`.
    fn sheet(reply: &str) -> Scripted {
        Scripted::new("m").on("Draft 3", [reply]).on("Solve", ["a=12#12", "b=15#15", "c=15#15"])
    }

    #[test]
    fn the_answer_is_the_new_response_s_and_no_vote() {
        let model = sheet("9 + 9 = 18. #18").shared();
        let answer = run(&gsa(json!({})), &context(model.clone())).unwrap();
        assert_eq!(answer.answer.as_deref(), Some("18"), "it does not vote: the majority is 15");
        let (decision, data) = decided(&answer);
        assert!(decision.contains("no draft"), "{decision}");
        assert_eq!((&data["novel"], &data["majority"]), (&json!(true), &json!("15")));
        assert_eq!((answer.confidence, model.calls()), (None, 2));
        assert_eq!(answer.usage, answer.trace.usage(), "the trace accounts for every call");
        let asked = model.requests();
        assert_eq!((asked[0].samples, asked[1].samples), (3, 1), "four responses in two calls");
        assert_eq!((asked[0].sampling.temperature, asked[1].sampling.temperature), (0.7, 0.0));
    }

    #[test]
    fn the_prompt_shows_whole_drafts_and_asks_for_no_choice() {
        let model = sheet("#15").shared();
        let answer = run(&gsa(json!({})), &context(model.clone())).unwrap();
        assert_eq!(decided(&answer).1["repeats_majority"], json!(true));
        let prompt = model.requests()[1].messages[0].text().to_lowercase();
        for draft in ["a=12#12", "b=15#15", "c=15#15"] {
            assert!(prompt.contains(draft), "{prompt}");
        }
        for word in ["majority", "frequent", "compare", "choose", "pick", "best", "error", "score", "count"] {
            assert!(!prompt.contains(word), "`{word}` would turn it into another method: {prompt}");
        }
    }

    #[test]
    fn the_order_of_the_drafts_is_drawn_unless_asked_otherwise() {
        let order = |settings: Value, seed: u64| -> Vec<String> {
            let model = sheet("#15").shared();
            run(&gsa(settings), &crate::testing::seeded(model.clone(), seed)).unwrap();
            let text = model.requests()[1].messages[0].text();
            let mut found: Vec<(usize, &str)> =
                ["a=12", "b=15", "c=15"].iter().map(|d| (text.find(d).unwrap(), *d)).collect();
            found.sort_unstable();
            found.into_iter().map(|(_, draft)| draft.to_string()).collect()
        };
        assert_eq!(order(json!({"shuffle": false}), 3), ["a=12", "b=15", "c=15"]);
        assert_eq!(order(json!({}), 3), order(json!({}), 3), "the same seed gives the same order");
        assert!((0..20).any(|seed| order(json!({}), seed) != order(json!({}), 20)));
    }

    #[test]
    fn a_reply_without_answer_leaves_the_vote_and_says_so() {
        for reply in ["I cannot tell.", "{\"answer\": ", "La respuesta no está clara", ""] {
            let answer = run(&gsa(json!({})), &context(sheet(reply).shared())).unwrap();
            assert_eq!(answer.answer.as_deref(), Some("15"), "{reply}");
            assert!(decided(&answer).1["fallback"].as_str().unwrap().contains("no answer"), "{reply}");
        }
        let failing =
            Scripted::new("m").on_completions("Draft 3", [Err(away())]).on("Solve", ["x#1", "x#2", "x#2"]);
        let answer = run(&gsa(json!({})), &context(failing.shared())).unwrap();
        assert_eq!(answer.answer.as_deref(), Some("2"));
        let said = serde_json::to_string(&answer.trace).unwrap();
        assert!(said.contains("it is away"), "the failure is in the trace");
    }

    #[test]
    fn drafts_without_answers_can_still_be_aggregated() {
        let model =
            Scripted::new("m").on("Draft 3", ["so #7"]).on("Solve", ["hm", "well", "who knows"]).shared();
        let answer = run(&gsa(json!({})), &context(model)).unwrap();
        assert_eq!(answer.answer.as_deref(), Some("7"));
        let model = Scripted::always(["hm"]).shared();
        let silent = run(&gsa(json!({})), &context(model)).unwrap();
        let reason = silent.abstained.unwrap();
        assert!(reason.contains("none of the 3 drafts"), "{reason}");
    }

    #[test]
    fn identical_drafts_are_said() {
        let model = Scripted::always(["x#7"]).shared();
        let answer = run(&gsa(json!({})), &context(model)).unwrap();
        let (decision, data) = decided(&answer);
        assert!(
            decision.contains("all drafts are identical") && data["identical"] == json!(true),
            "{decision}"
        );
    }

    #[test]
    fn wanted_json_is_wanted_of_drafts_and_reply_and_asked_for_in_no_other_form() {
        let model = Scripted::always(["{\"a\": 1}", "{\"a\": 2}", "{\"a\": 2}", "{ \"a\": 3 }"]).shared();
        let mut problem = crate::testing::problem();
        let format = json!({"type": "json_object"});
        problem.wants.insert("response_format".into(), format.clone());
        let task = elenchus_task::Structured::new(std::sync::Arc::new(crate::testing::Toy));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let answer = runtime.block_on(gsa(json!({})).run(&context(model.clone()), &task, &problem)).unwrap();
        assert_eq!((answer.answer.as_deref(), answer.text.as_str()), (Some("{\"a\":3}"), "{ \"a\": 3 }"));
        for request in model.requests() {
            assert_eq!(request.extra["response_format"], format);
            assert!(!request.messages.last().unwrap().text().contains("Answer:"), "{request:?}");
        }
    }

    #[test]
    fn a_budget_for_one_call_is_refused_before_it() {
        let model = sheet("#18").shared();
        let budget = Budget { calls: Some(1), ..Budget::default() };
        let error = run(&gsa(json!({})), &context_with(model.clone(), budget)).unwrap_err();
        assert!(matches!(error, ControlError::Budget { .. }), "{error}");
        assert_eq!(model.calls(), 0);
        let tokens = Budget { tokens: Some(5), ..Budget::default() };
        assert!(run(&gsa(json!({})), &context_with(model.clone(), tokens)).is_err());
        assert_eq!(model.calls(), 0);
    }

    #[test]
    fn the_embedded_model_s_notation() {
        let model = Scripted::new("m").on("G", ["#18"]).on("S", ["a=12#12", "b=15#15"]).shared();
        let answer = run(&gsa(json!({"samples": 2, "shuffle": false})), &compact(model.clone())).unwrap();
        assert_eq!(answer.answer.as_deref(), Some("18"));
        assert_eq!(model.requests()[1].messages, [Message::user("Ga=2+5;a?a=12#12!b=15#15!")]);
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        for (field, settings) in [
            ("samples", json!({"samples": 0})),
            ("aggregator_temperature", json!({"aggregator_temperature": -1.0})),
            ("aggregator_max_tokens", json!({"aggregator_max_tokens": 0})),
        ] {
            let message = Gsa::new(serde_json::from_value(settings).unwrap()).unwrap_err().to_string();
            assert!(message.contains(field) && message.contains("hint:"), "{message}");
        }
    }
}
