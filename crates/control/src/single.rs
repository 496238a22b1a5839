//! One response.

use crate::draw::ask_last;
use crate::{
    ControlError, ControlKind, Draw, Estimate, EstimateInput, EvaluateKind, GenerateKind, Keeps, Minimum,
    Strategy, Trail, Triple,
};
use async_trait::async_trait;
use elenchus_evaluate::{Needs, RoleNeeds};
use elenchus_generate::{ACTOR, Context, LogprobDetail};
use elenchus_task::Task;
use elenchus_trace::{Answer, Problem, Usage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Settings of `single`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SingleSettings {
    /// How the response is drawn; greedy unless a temperature is given.
    #[serde(flatten)]
    pub draw: Draw,
}

/// Draws one response and returns it: greedy decoding, or one sample when a temperature is set. One call. The baseline
/// of every other strategy. A response without an answer is returned as it is, and the answer abstains.
#[derive(Debug, Clone)]
pub struct Single {
    settings: SingleSettings,
}

impl Single {
    /// Errors: [`ControlError::Setting`].
    pub fn new(settings: SingleSettings) -> Result<Self, ControlError> {
        settings.draw.check("single")?;
        Ok(Single { settings })
    }
}

#[async_trait]
impl Strategy for Single {
    fn name(&self) -> &'static str {
        "single"
    }

    fn summary(&self) -> &'static str {
        "one response, greedy or sampled"
    }

    fn triple(&self) -> Triple {
        Triple {
            generate: GenerateKind::HandWritten,
            evaluate: EvaluateKind::None,
            control: ControlKind::Greedy,
            line: None,
        }
    }

    fn needs(&self) -> Needs {
        Needs::role(RoleNeeds::new(ACTOR))
    }

    fn keeps(&self) -> Keeps {
        Keeps::SAMPLE
    }

    fn minimum(&self) -> Minimum {
        Minimum { calls: 1, tokens: 2 }
    }

    fn estimate(&self, input: &EstimateInput) -> Estimate {
        Estimate {
            usage: Usage {
                calls: 1,
                prompt_tokens: input.prompt_tokens,
                completion_tokens: input.completion_tokens,
                ..Usage::default()
            },
            formula: "1 call, p + c tokens".into(),
        }
    }

    async fn attempt(
        &self,
        context: &Context,
        task: &dyn Task,
        problem: &Problem,
    ) -> Result<Answer, ControlError> {
        let mut trail = Trail::new(context, self.name(), problem);
        let request = self.settings.draw.request(context, problem, 1, false, LogprobDetail::Offered, 0)?;
        let drawn = ask_last(&mut trail, context, task, problem, ACTOR, None, &request).await?;
        let (Some(candidate), Some(&node)) = (drawn.candidates.into_iter().next(), drawn.nodes.first())
        else {
            return Ok(trail.answer("", None, None, Vec::new(), Some("the model gave no response".into())));
        };
        trail.decided(Some(node), "the only response", Some(node), Value::Null);
        let abstained = candidate.answer.is_none().then(|| match candidate.completion.was_cut() {
            true => format!(
                "the response was cut after {} tokens, before its answer: raise `max_tokens`",
                candidate.completion.usage.completion_tokens
            ),
            false => "the response has no answer that the task can extract".to_string(),
        });
        Ok(trail.answer(candidate.completion.text, candidate.answer, None, Vec::new(), abstained))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Toy, context, problem, run};
    use elenchus_generate::Scripted;

    fn single(settings: SingleSettings) -> Single {
        Single::new(settings).unwrap()
    }

    #[test]
    fn greedy_by_default_and_sampled_with_a_temperature() {
        let model = Scripted::always(["a=1#7"]).shared();
        let answer = run(&single(SingleSettings::default()), &context(model.clone())).unwrap();
        assert_eq!((answer.answer.as_deref(), answer.text.as_str()), (Some("7"), "a=1#7"));
        assert_eq!((answer.usage.calls, answer.trace.usage()), (1, answer.usage));
        let warm = Draw { temperature: Some(0.8), ..Draw::default() };
        run(&single(SingleSettings { draw: warm }), &context(model.clone())).unwrap();
        let temperatures: Vec<f32> = model.requests().iter().map(|r| r.sampling.temperature).collect();
        assert_eq!(temperatures, [0.0, 0.8]);
    }

    #[test]
    fn a_response_without_answer_is_returned_and_abstains() {
        let answer =
            run(&single(SingleSettings::default()), &context(Scripted::always(["hm"]).shared())).unwrap();
        assert_eq!((answer.text.as_str(), answer.answer), ("hm", None));
        assert!(answer.abstained.is_some());
    }

    #[test]
    fn ranges_are_checked() {
        for draw in [
            Draw { temperature: Some(-1.0), ..Draw::default() },
            Draw { temperature: Some(f32::NAN), ..Draw::default() },
            Draw { top_p: Some(0.0), ..Draw::default() },
            Draw { min_p: 2.0, ..Draw::default() },
            Draw { max_tokens: 0, ..Draw::default() },
            Draw { skill: "solv".into(), ..Draw::default() },
        ] {
            let message = Single::new(SingleSettings { draw }).unwrap_err().to_string();
            assert!(message.contains("hint:"), "{message}");
        }
    }

    #[test]
    fn the_same_seed_asks_the_same() {
        let requests = |seed: u64| {
            let model = Scripted::always(["a=1#7"]).shared();
            let context = crate::testing::seeded(model.clone(), seed);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(single(SingleSettings::default()).run(&context, &Toy, &problem())).unwrap();
            model.requests()
        };
        assert_eq!(requests(1), requests(1));
        assert_ne!(requests(1)[0].sampling.seed, requests(2)[0].sampling.seed);
    }
}
