//! The problem solved again in view of the solution before, until the answer stays (progressive-hint prompting,
//! arXiv 2304.09797; sheet 41).

use crate::attempts::{Account, attempt};
use crate::drafts::{DraftCall, DraftReply};
use crate::draw::ask;
use crate::place::Place;
use crate::{
    ControlError, ControlKind, Draw, Estimate, EstimateInput, EvaluateKind, FeedbackLine, GenerateKind,
    Minimum, Strategy, Trail, Triple,
};
use async_trait::async_trait;
use elenchus_evaluate::{Candidate, Needs, RoleNeeds};
use elenchus_generate::{ACTOR, Context, LogprobDetail, PromptSlots};
use elenchus_task::Task;
use elenchus_trace::{Answer, NodeId, Problem, Usage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const NAME: &str = "until-stable";

/// Settings of `until-stable`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UntilStableSettings {
    /// Responses at most, the first one included.
    pub rounds: usize,
    /// Answers in a row that must be the same; the paper takes 2.
    pub equal: usize,
    /// How responses are drawn; greedily unless a temperature is given.
    #[serde(flatten)]
    pub draw: Draw,
}

impl Default for UntilStableSettings {
    fn default() -> Self {
        UntilStableSettings { rounds: 6, equal: 2, draw: Draw::default() }
    }
}

/// Solves the problem, then solves it again in view of the solution before, and stops as soon as the answer is the same as
/// the one before (`equal` answers in a row), or after `rounds` responses. Returns the last response that has an answer.
///
/// No evaluator is asked: that an answer stays is all that speaks for it, and a model that repeats its mistakes, or what it is
/// shown, stops with them. Compare with `self-consistency` at as many tokens, whose samples do not see each other. A
/// response without an answer ends a row of equal ones and never replaces one with an answer; without any it abstains. When
/// the budget ends or a later call fails, the last response with an answer stands.
///
/// The paper adds the answers before as hints behind the question; here the whole solution before is shown, by the prompt of
/// the skill `again`, which the embedded model was taught.
///
/// Costs 2 to T calls, one response each. Needs text only.
#[derive(Debug, Clone)]
pub struct UntilStable {
    settings: UntilStableSettings,
}

/// How long the answer has been the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Row {
    answer: Option<String>,
    length: usize,
}

impl Row {
    /// Takes in the next answer; returns how many equal ones stand in a row now, 0 where there is none.
    fn next(&mut self, answer: Option<&str>, same: impl Fn(&str, &str) -> bool) -> usize {
        self.length = match (self.answer.as_deref(), answer) {
            (_, None) => 0,
            (Some(before), Some(now)) if same(before, now) => self.length + 1,
            (_, Some(_)) => 1,
        };
        self.answer = answer.map(str::to_owned);
        self.length
    }
}

impl UntilStable {
    /// Errors: [`ControlError::Setting`].
    pub fn new(settings: UntilStableSettings) -> Result<Self, ControlError> {
        let UntilStableSettings { rounds, equal, draw } = &settings;
        if *equal < 2 {
            let problem = format!("{equal} is no row");
            return Err(ControlError::setting(NAME, "equal", problem, "at least 2 answers can be the same"));
        }
        if !(*equal..=10_000).contains(rounds) {
            let problem = format!("{rounds} is out of range");
            let hint = format!("between `equal`, which is {equal}, and 10000");
            return Err(ControlError::setting(NAME, "rounds", problem, hint));
        }
        draw.check(NAME)?;
        Ok(UntilStable { settings })
    }

    /// The response of a round after the first one; `Err` says in words why there is none, and is in the trace.
    async fn again(
        &self,
        trail: &mut Trail,
        place: Place<'_>,
        before: NodeId,
        solution: &str,
        round: usize,
    ) -> Result<Result<(Candidate, NodeId), String>, ControlError> {
        let draw = &self.settings.draw;
        let slots = PromptSlots::new(place.problem).solution(solution);
        let call = DraftCall {
            role: ACTOR,
            skill: "again",
            samples: 1,
            sampling: draw.sampling(false, draw.seed.wrapping_mul(1009).wrapping_add(round as u64)),
            writes_answer: true,
        };
        let reply: DraftReply = call.ask(trail, place, Some(before), &slots).await?;
        Ok(reply.first())
    }
}

#[async_trait]
impl Strategy for UntilStable {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "the problem solved again in view of the solution before, until the answer stays the same"
    }

    fn triple(&self) -> Triple {
        Triple {
            generate: GenerateKind::ModelGenerated,
            evaluate: EvaluateKind::SelfAssessment,
            control: ControlKind::Reinforcement,
            line: Some(FeedbackLine::RefiningIteratively),
        }
    }

    fn needs(&self) -> Needs {
        Needs::role(RoleNeeds::new(ACTOR))
    }

    fn minimum(&self) -> Minimum {
        Minimum { calls: 1, tokens: 2 }
    }

    fn estimate(&self, input: &EstimateInput) -> Estimate {
        let rounds = self.settings.rounds as u64;
        Estimate {
            usage: Usage {
                calls: rounds,
                prompt_tokens: rounds * input.prompt_tokens + (rounds - 1) * input.completion_tokens,
                completion_tokens: rounds * input.completion_tokens,
                ..Usage::default()
            },
            formula: format!(
                "{} to {rounds} calls, at most Tp + (T - 1)c read and Tc written, T = {rounds}",
                self.settings.equal
            ),
        }
    }

    async fn attempt(
        &self,
        context: &Context,
        task: &dyn Task,
        problem: &Problem,
    ) -> Result<Answer, ControlError> {
        let place = Place { context, task, problem };
        let UntilStableSettings { rounds, equal, draw } = &self.settings;
        let mut trail = Trail::new(context, NAME, problem);
        let mut account = Account::default();
        let mut row = Row::default();
        let same = |left: &str, right: &str| task.equivalent(problem, left, right);
        let request = draw.request(context, problem, 1, false, LogprobDetail::Offered, 0)?;
        let drawn = ask(&mut trail, context, task, problem, ACTOR, None, &request).await?;
        let Some((mut standing, mut node)) = drawn.candidates.into_iter().zip(drawn.nodes).next() else {
            let reason = "the model gave no response";
            trail.failed(None, reason);
            return Ok(trail.answer("", None, None, Vec::new(), Some(reason.into())));
        };
        account.first(&trail, Some(node), None, standing.answer.as_deref());
        row.next(standing.answer.as_deref(), same);
        let mut stopped = format!("no {equal} answers in a row are the same in {rounds} responses");
        for round in 1..*rounds {
            let again = self.again(&mut trail, place, node, &standing.completion.text, round).await?;
            let (candidate, made) = match again {
                Ok(made) => made,
                Err(why) => {
                    stopped = why;
                    break;
                }
            };
            let accepted = candidate.answer.is_some() || standing.answer.is_none();
            let length = row.next(candidate.answer.as_deref(), same);
            let reason = match length {
                0 => "it has no answer".to_string(),
                1 => "its answer is another one".to_string(),
                length => format!("{length} answers in a row are the same"),
            };
            let entry = attempt(round, Some(made), &candidate, accepted, reason);
            account.later(&trail, task, problem, standing.answer.as_deref(), entry);
            if accepted {
                (standing, node) = (candidate, made);
            }
            if length >= *equal {
                stopped = format!("stable: {length} answers in a row are the same");
                break;
            }
        }
        account.close(&mut trail, stopped.clone(), Some(node));
        let abstained = standing
            .answer
            .is_none()
            .then(|| format!("no response has an answer that the task can extract; {stopped}"));
        Ok(trail.answer(standing.completion.text, standing.answer, None, Vec::new(), abstained))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{away, compact, context, context_with, run};
    use crate::{AttemptLog, Transitions};
    use elenchus_generate::Scripted;
    use elenchus_trace::{Budget, Completion, Message};
    use proptest::prelude::*;
    use serde_json::json;

    fn strategy(settings: serde_json::Value) -> UntilStable {
        UntilStable::new(serde_json::from_value(settings).unwrap()).unwrap()
    }

    /// The first response, then those in view of one before.
    fn scripted(first: &'static str, later: &[&'static str]) -> Scripted {
        Scripted::new("m").on("Earlier solution", later.iter().copied()).on("Solve", [first])
    }

    #[test]
    fn it_stops_as_soon_as_the_answer_is_the_one_before() {
        let model = scripted("x#8", &["y#7", "z#07", "w#9"]).shared();
        let answer = run(&strategy(json!({})), &context(model.clone())).unwrap();
        assert_eq!((answer.answer.as_deref(), answer.text.as_str()), (Some("07"), "z#07"));
        assert_eq!(model.calls(), 3, "8, 7, 7: equal as the task sees it");
        assert!(model.requests()[1].messages[0].text().contains("Earlier solution:\nx#8"));
        assert!(model.requests()[2].messages[0].text().contains("Earlier solution:\ny#7"));
        let log = AttemptLog::of(&answer.trace).unwrap();
        assert!(log.stopped.starts_with("stable: 2"), "{}", log.stopped);
        let expected =
            Transitions { accepted: 2, changed_answer: 1, same_answer: 1, ..Transitions::default() };
        assert_eq!(log.transitions, expected);
        assert_eq!(answer.usage, answer.trace.usage(), "the trace accounts for every call");
    }

    #[test]
    fn a_longer_row_and_the_cap() {
        let model = scripted("x#7", &["y#7", "z#8", "w#8", "v#8"]).shared();
        let answer = run(&strategy(json!({"equal": 3})), &context(model.clone())).unwrap();
        assert_eq!((answer.answer.as_deref(), model.calls()), (Some("8"), 5), "7 7 8 8 8");
        let model = scripted("x#1", &["y#2", "z#3", "w#4"]).shared();
        let answer = run(&strategy(json!({"rounds": 3})), &context(model.clone())).unwrap();
        assert_eq!((answer.answer.as_deref(), model.calls()), (Some("3"), 3));
        assert!(AttemptLog::of(&answer.trace).unwrap().stopped.contains("no 2 answers in a row"));
    }

    #[test]
    fn a_response_without_an_answer_ends_the_row_and_replaces_none() {
        let model = scripted("x#7", &["hm", "y#7", "z#7"]).shared();
        let answer = run(&strategy(json!({})), &context(model.clone())).unwrap();
        assert_eq!((answer.text.as_str(), model.calls()), ("z#7", 4), "7, none, 7, 7");
        assert!(model.requests()[2].messages[0].text().contains("Earlier solution:\nx#7"));
        let silent = run(&strategy(json!({})), &context(Scripted::always(["hm"]).shared())).unwrap();
        assert!(silent.abstained.unwrap().contains("no response has an answer"));
        assert_eq!(silent.answer, None);
    }

    #[test]
    fn the_embedded_model_is_asked_by_its_skill() {
        let model = Scripted::new("m").on("A", ["a=2+5=7#7"]).on("S", ["a=2+5=8#8"]).shared();
        let answer = run(&strategy(json!({})), &compact(model.clone())).unwrap();
        assert_eq!((answer.answer.as_deref(), model.calls()), (Some("7"), 3));
        assert_eq!(model.requests()[1].messages, [Message::user("Aa=2+5;a?a=2+5=8#8!")]);
    }

    #[test]
    fn a_budget_that_ends_or_a_call_that_fails_leaves_what_stands() {
        let model = scripted("x#8", &["y#7"]).shared();
        let budget = Budget { calls: Some(2), ..Budget::default() };
        let answer = run(&strategy(json!({})), &context_with(model.clone(), budget)).unwrap();
        assert_eq!((answer.answer.as_deref(), model.calls()), (Some("7"), 2));
        assert!(AttemptLog::of(&answer.trace).unwrap().stopped.contains("budget"));
        let model = Scripted::new("m")
            .on_completions("Earlier solution", [Err(away())])
            .on_completions("Solve", [Ok(Completion::text("x#8"))]);
        let answer = run(&strategy(json!({})), &context(model.shared())).unwrap();
        assert_eq!(answer.answer.as_deref(), Some("8"));
        assert!(AttemptLog::of(&answer.trace).unwrap().stopped.contains("away"));
        let first = Scripted::new("m").on_completions("", [Err(away())]);
        assert!(
            run(&strategy(json!({})), &context(first.shared())).is_err(),
            "without a first one, an error"
        );
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        for (field, settings) in [
            ("equal", json!({"equal": 1})),
            ("rounds", json!({"rounds": 1})),
            ("rounds", json!({"rounds": 2, "equal": 3})),
            ("temperature", json!({"temperature": -1.0})),
        ] {
            let settings = serde_json::from_value(settings).unwrap();
            let message = UntilStable::new(settings).unwrap_err().to_string();
            assert!(message.contains(field) && message.contains("hint:"), "{message}");
        }
    }

    proptest! {
        #[test]
        fn the_row_is_the_equal_end_of_the_answers(answers in prop::collection::vec(prop::option::of(0u8..3), 0..9)) {
            let mut row = Row::default();
            let texts: Vec<Option<String>> = answers.iter().map(|a| a.map(|a| a.to_string())).collect();
            for end in 0..texts.len() {
                let found = row.next(texts[end].as_deref(), |left, right| left == right);
                let wanted = match &texts[end] {
                    None => 0,
                    last => texts[..=end].iter().rev().take_while(|one| *one == last).count(),
                };
                prop_assert_eq!(found, wanted);
            }
        }
    }
}
