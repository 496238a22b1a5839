//! Acting in a world, one action at a time.

use crate::attempts::budget_over;
use crate::{
    ControlError, ControlKind, Draw, Estimate, EstimateInput, EvaluateKind, GenerateKind, Minimum, Strategy,
    Trail, Triple,
};
use async_trait::async_trait;
use elenchus_evaluate::{Needs, RoleNeeds};
use elenchus_generate::{ACTOR, Context, GenerateRequest, LogprobDetail, PromptSlots, Voice};
use elenchus_task::{Ended, Environment, Observation, Task, TaskError};
use elenchus_trace::{Answer, Problem, Usage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

const NAME: &str = "act";

/// Settings of `act`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ActSettings {
    /// Past actions that are shown (chat voice); the world itself says where one stands.
    pub shown: usize,
    /// Most model calls; the world has a bound of its own.
    pub calls: usize,
    /// How actions are drawn; greedy unless a temperature is given.
    #[serde(flatten)]
    pub draw: Draw,
}

impl Default for ActSettings {
    fn default() -> Self {
        ActSettings { shown: 8, calls: 100, draw: Draw { max_tokens: 256, ..Draw::default() } }
    }
}

/// Acts in the world of a problem: what can be seen goes into the prompt, the reply is one action, and the world says what
/// came of it, until every goal is reached, the world's patience or the budget is over. An action that cannot be done
/// counts, and the next prompt says why it did nothing. The answer is the list of actions that were done; the trace holds
/// what was seen, and the share of sub-goals.
///
/// For tasks with an environment (`world`). In the compact voice an observation is a problem, the reply a plan, and the first
/// action of it is done: compare with `single`, which writes the whole plan at once. At most one call per action.
#[derive(Debug, Clone)]
pub struct Act {
    settings: ActSettings,
}

impl Act {
    /// Errors: [`ControlError::Setting`].
    pub fn new(settings: ActSettings) -> Result<Self, ControlError> {
        settings.draw.check(NAME)?;
        if settings.draw.skill != "solve" {
            let problem = format!("`{}` is not how this strategy asks", settings.draw.skill);
            return Err(ControlError::setting(NAME, "skill", problem, "leave `skill` out"));
        }
        if settings.calls == 0 {
            return Err(ControlError::setting(NAME, "calls", "0 is out of range", "at least 1"));
        }
        Ok(Act { settings })
    }

    fn request(
        &self,
        context: &Context,
        problem: &Problem,
        seen: &Observation,
        past: &[Value],
        step: usize,
    ) -> Result<GenerateRequest, ControlError> {
        let mut slots = PromptSlots::new(problem);
        let shown = &past[past.len().saturating_sub(self.settings.shown)..];
        slots.extra = json!({
            "observation": seen.text, "state": seen.compact, "actions": seen.actions, "past": shown,
        })
        .as_object()
        .cloned()
        .unwrap_or_default();
        let label = format!("act\0{}\0{}\0{step}", problem.task, problem.id);
        Ok(GenerateRequest {
            sampling: self.settings.draw.sampling(false, context.seed_for(&label, self.settings.draw.seed)),
            logprobs: LogprobDetail::Offered,
            ..GenerateRequest::new(context.prompt(ACTOR, "act", &slots)?)
        })
    }
}

/// The action of a reply: in the compact voice the first of its plan, else its last line that says something.
fn action_of(reply: &str, voice: Voice) -> &str {
    match voice {
        Voice::Compact => reply.split([';', '#']).next().unwrap_or_default(),
        Voice::Chat => {
            let reply = reply.rsplit("</think>").next().unwrap_or_default();
            let line = reply.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
            line.trim_matches(|c: char| "*`\"'-> ".contains(c))
        }
    }
}

#[async_trait]
impl Strategy for Act {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "acts in the world of a problem, one action and one look at a time"
    }

    fn triple(&self) -> Triple {
        Triple {
            generate: GenerateKind::ExternalKnowledge,
            evaluate: EvaluateKind::Tool,
            control: ControlKind::Reinforcement,
            line: None,
        }
    }

    fn needs(&self) -> Needs {
        Needs { environment: true, ..Needs::role(RoleNeeds::new(ACTOR)) }
    }

    fn minimum(&self) -> Minimum {
        Minimum { calls: 1, tokens: 2 }
    }

    fn estimate(&self, input: &EstimateInput) -> Estimate {
        let calls = self.settings.calls as u64;
        Estimate {
            usage: Usage {
                calls,
                prompt_tokens: calls * input.prompt_tokens,
                completion_tokens: calls * input.completion_tokens,
                ..Usage::default()
            },
            formula: format!("at most T calls, each p + c tokens, T = {calls} or the patience of the world"),
        }
    }

    async fn attempt(
        &self,
        context: &Context,
        task: &dyn Task,
        problem: &Problem,
    ) -> Result<Answer, ControlError> {
        let mut world: Box<dyn Environment> =
            task.environment(problem)?.ok_or_else(|| TaskError::Problem {
                id: problem.id.clone(),
                problem: format!("is of the task `{}`, which has no world to act in", task.name()),
                hint: "use the task `world`, or another strategy".to_string(),
            })?;
        let mut trail = Trail::new(context, NAME, problem);
        let voice = context.voice_of(ACTOR);
        let model = context.model(ACTOR).name().to_string();
        let mut seen = world.reset();
        let mut past: Vec<Value> = Vec::new();
        let mut stopped = None;
        let mut refused = 0;
        for step in 0..self.settings.calls {
            if seen.ended.is_some() {
                break;
            }
            let request = self.request(context, problem, &seen, &past, step)?;
            let started = trail.now();
            let replies = match context.generate(ACTOR, &request).await {
                Ok(replies) => replies,
                Err(error) if step > 0 => {
                    stopped = Some(budget_over(&mut trail, None, error.into())?);
                    break;
                }
                Err(error) => return Err(error.into()),
            };
            let Some(reply) = replies.into_iter().next() else {
                stopped = Some("the model gave no reply".to_string());
                break;
            };
            let node = trail.generated(None, ACTOR, &model, request.messages, &reply, started);
            let action = action_of(&reply.text, voice).to_string();
            seen = world.step(&action);
            refused += usize::from(seen.refused.is_some());
            past.push(json!({"action": action, "refused": seen.refused}));
            let decision = match &seen.refused {
                Some(why) => format!("`{action}` did nothing: {why}"),
                None => format!("`{action}`"),
            };
            let data = json!({"observation": seen.text, "progress": seen.progress, "ended": seen.ended});
            trail.decided(Some(node), decision, Some(node), data);
        }
        let stopped = stopped.unwrap_or_else(|| {
            match seen.ended {
                Some(Ended::Success) => "every goal is reached",
                Some(Ended::OutOfActions) => "the patience of the world is over",
                None => "the calls are over",
            }
            .to_string()
        });
        let text = world.done().join(";");
        let data = json!({
            "actions": world.done().len(), "refused": refused, "progress": seen.progress, "ended": seen.ended,
            "stopped": stopped,
        });
        let share = 100.0 * seen.progress;
        trail.decided(None, format!("{stopped}; {share:.0} % of the sub-goals are reached"), None, data);
        let answer = task.extract(problem, &text);
        let abstained = answer.is_none().then(|| format!("no action was done: {stopped}"));
        Ok(trail.answer(text, answer, None, Vec::new(), abstained))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use elenchus_generate::Scripted;
    use elenchus_task::Split;
    use elenchus_trace::{Budget, NodeKind};
    use std::sync::Arc;

    fn world() -> (Box<dyn Task>, Problem) {
        let task = elenchus_task::task("world", &Value::Null).unwrap();
        let problem = task.problems(Split::Test, 1, 3).unwrap().remove(0);
        (task, problem)
    }

    fn run(model: Arc<Scripted>, voice: Voice, settings: ActSettings, calls: Option<u64>) -> Answer {
        let (task, problem) = world();
        let context = Context::builder()
            .role("actor", model)
            .voice(voice)
            .budget(Budget { calls, ..Budget::default() })
            .build()
            .unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let act = Act::new(settings).unwrap();
        runtime.block_on(act.run(&context, task.as_ref(), &problem)).unwrap()
    }

    fn last(answer: &Answer) -> Value {
        let data = answer.trace.nodes.iter().rev().find_map(|node| match &node.kind {
            NodeKind::Decided { data, .. } => Some(data.clone()),
            _ => None,
        });
        data.unwrap_or_default()
    }

    #[test]
    fn a_planner_reaches_the_goal_through_the_compact_observations() {
        let (task, problem) = world();
        // Solves whatever state it is shown.
        let expert = Scripted::new("expert").on_with(
            |_| true,
            |request, _| {
                let text = request.messages.last().map(|message| message.text()).unwrap_or_default();
                Ok(elenchus_trace::Completion::text(solve(&text[1..])))
            },
        );
        let answer = run(expert.shared(), Voice::Compact, ActSettings::default(), None);
        assert!(task.verify(&problem, &answer.text).unwrap().is_correct(), "{}", answer.text);
        let found = last(&answer);
        assert_eq!((&found["stopped"], &found["refused"]), (&json!("every goal is reached"), &json!(0)));
        assert_eq!(found["progress"], 1.0);
        let shortest = task.verify(&problem, &task.reference(&problem).unwrap()).unwrap().steps.len();
        assert_eq!(answer.usage.calls, shortest as u64, "one call per action of a shortest plan");
    }

    /// The expert's plan for a compact state of the test's world, found by playing all short plans.
    fn solve(state: &str) -> String {
        let (task, problem) = world();
        let (layout, start) = elenchus_task::world::given(&problem).unwrap();
        // States along the expert's way, by their compact texts.
        let mut at = start;
        for action in layout.solve(&start).unwrap() {
            let here = elenchus_task::world::problem(&layout, &at).unwrap();
            if here.compact.as_deref() == Some(state) {
                return task.reference(&here).unwrap();
            }
            at = layout.act(&at, action).unwrap();
        }
        format!("unknown state {state}")
    }

    #[test]
    fn what_cannot_be_done_is_said_in_the_next_prompt_and_counts() {
        let model = Scripted::always(["I think I will\n`fly away`"]).shared();
        let settings = ActSettings { calls: 3, ..ActSettings::default() };
        let answer = run(Arc::clone(&model), Voice::Chat, settings, None);
        let found = last(&answer);
        assert_eq!((&found["stopped"], &found["refused"]), (&json!("the calls are over"), &json!(3)));
        let prompts: Vec<String> =
            model.requests().iter().map(|request| request.messages[0].text()).collect();
        assert!(!prompts[0].contains("did nothing") && prompts[0].contains("What you can do:\ngo to the"));
        assert!(prompts[1].contains("fly away (did nothing: `fly away` is no action)"), "{}", prompts[1]);
        assert_eq!(answer.usage.calls, 3);
    }

    #[test]
    fn the_world_loses_patience_and_a_budget_ends() {
        let answer = run(Scripted::always(["?"]).shared(), Voice::Compact, ActSettings::default(), None);
        assert_eq!(last(&answer)["stopped"], "the patience of the world is over");
        let answer = run(Scripted::always(["?"]).shared(), Voice::Compact, ActSettings::default(), Some(2));
        let found = last(&answer);
        assert!(
            found["stopped"].as_str().is_some_and(|why| why.starts_with("the budget is over")),
            "{found}"
        );
        assert_eq!(found["actions"], 2);
    }

    #[test]
    fn a_task_without_a_world_is_refused_before_any_call() {
        let model = Scripted::always(["ga"]).shared();
        let act = Act::new(ActSettings::default()).unwrap();
        let error = testing::run(&act, &testing::compact(model.clone())).unwrap_err().to_string();
        assert!(error.contains("no world") && error.contains("hint:"), "{error}");
        assert_eq!(model.calls(), 0);
        assert!(Act::new(ActSettings { calls: 0, ..ActSettings::default() }).is_err());
    }
}
