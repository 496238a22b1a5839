//! Sample, evaluate, choose: what best-of-n and the Borda vote share.

use crate::draw::{ask, check_samples};
use crate::{
    ControlError, ControlKind, Draw, Estimate, EstimateInput, EvaluateKind, FeedbackLine, GenerateKind,
    Minimum, Rule, Trail, Triple, choose,
};
use elenchus_evaluate::{CandidateSize, EvaluateInput, Evaluator, Needs, RoleNeeds, evaluate_all, evaluator};
use elenchus_generate::{ACTOR, Context, LogprobDetail};
use elenchus_task::Task;
use elenchus_trace::{Answer, Problem, Usage};
use serde_json::{Value, json};
use std::sync::Arc;

#[derive(Clone)]
pub(crate) struct Ranked {
    strategy: &'static str,
    samples: usize,
    draw: Draw,
    evaluator: Arc<dyn Evaluator>,
    rule: Rule,
}

impl std::fmt::Debug for Ranked {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let fields = (self.strategy, self.samples, self.evaluator.name(), self.rule);
        formatter.debug_tuple("Ranked").field(&fields).finish()
    }
}

impl Ranked {
    pub(crate) fn new(
        strategy: &'static str,
        samples: usize,
        draw: Draw,
        name: &str,
        settings: Value,
        rule: Rule,
    ) -> Result<Self, ControlError> {
        check_samples(strategy, samples)?;
        draw.check(strategy)?;
        Ok(Ranked { strategy, samples, draw, evaluator: evaluator(name, settings)?, rule })
    }

    pub(crate) fn triple(&self) -> Triple {
        let needs = self.evaluator.needs();
        Triple {
            generate: GenerateKind::HandWritten,
            evaluate: match (needs.oracle, needs.roles.iter().any(|role| role.role != ACTOR)) {
                (true, _) => EvaluateKind::Tool,
                // The role may be played by the same model; the method does not rely on it.
                (false, true) => EvaluateKind::ExternalModel,
                (false, false) => EvaluateKind::SelfAssessment,
            },
            control: ControlKind::Ensemble,
            line: Some(FeedbackLine::ReasoningTopologically),
        }
    }

    pub(crate) fn needs(&self) -> Needs {
        Needs::role(RoleNeeds::new(ACTOR)).and(self.evaluator.needs())
    }

    pub(crate) fn minimum(&self) -> Minimum {
        // An evaluator may have nothing to judge, so only the samples are certain.
        Minimum { calls: 1, tokens: 1 + self.samples as u64 }
    }

    pub(crate) fn estimate(&self, input: &EstimateInput) -> Estimate {
        let samples = self.samples as u64;
        let judged = self.evaluator.cost(CandidateSize {
            candidates: samples,
            prompt_tokens: input.prompt_tokens,
            completion_tokens: input.completion_tokens,
        });
        let drawn = Usage {
            calls: 1,
            prompt_tokens: input.prompt_tokens,
            completion_tokens: samples * input.completion_tokens,
            ..Usage::default()
        };
        let name = self.evaluator.name();
        Estimate {
            usage: drawn + judged,
            formula: match judged.calls {
                0 => format!("1 call, p + nc tokens, n = {samples}; `{name}` costs nothing"),
                calls => format!(
                    "1 call, p + nc tokens, n = {samples}; `{name}` adds {calls} calls and {} tokens",
                    judged.tokens()
                ),
            },
        }
    }

    pub(crate) async fn attempt(
        &self,
        context: &Context,
        task: &dyn Task,
        problem: &Problem,
    ) -> Result<Answer, ControlError> {
        let mut trail = Trail::new(context, self.strategy, problem);
        let detail = match self.needs().of(ACTOR).detail() {
            LogprobDetail::None => LogprobDetail::Offered,
            detail => detail,
        };
        let several = self.samples > 1;
        let request = self.draw.request(context, problem, self.samples, several, detail, 0)?;
        let drawn = ask(&mut trail, context, task, problem, ACTOR, None, &request).await?;
        let answers = drawn.answers();
        let text = |sample: usize| {
            drawn.candidates.get(sample).map(|c| c.completion.text.clone()).unwrap_or_default()
        };

        let needs_answers = !matches!(self.rule, Rule::Argmax { allow_unanswered: true });
        if needs_answers && answers.iter().all(Option::is_none) {
            // Nothing could be chosen, so nothing is spent on judging.
            let reason =
                format!("none of the {} responses has an answer that the task can extract", answers.len());
            trail.decided(None, reason.clone(), None, Value::Null);
            return Ok(trail.answer(text(0), None, None, Vec::new(), Some(reason)));
        }

        let started = trail.now();
        let input = EvaluateInput { context, task, problem, candidates: &drawn.candidates };
        let feedback = evaluate_all(self.evaluator.as_ref(), input).await?;
        for (&node, feedback) in drawn.nodes.iter().zip(&feedback) {
            trail.evaluated(node, feedback, started);
        }
        let scores: Vec<Option<f64>> = feedback.iter().map(|f| f.score).collect();
        let chosen =
            choose(self.rule, &answers, &scores, |left, right| task.equivalent(problem, left, right));
        let abstentions = feedback.iter().filter(|f| f.score.is_none()).count();
        let choice = match chosen {
            Ok(choice) => choice,
            Err(reason) => {
                let why = feedback.iter().find_map(|f| f.abstained.as_deref());
                let reason = match why {
                    Some(why) => format!("{reason}: `{}` abstained, {why}", self.evaluator.name()),
                    None => reason,
                };
                trail.decided(None, reason.clone(), None, json!({ "abstentions": abstentions }));
                return Ok(trail.answer(text(0), None, None, Vec::new(), Some(reason)));
            }
        };
        let score = scores.get(choice.sample).copied().flatten();
        let data = json!({
            "evaluator": self.evaluator.name(), "scores": scores, "votes": choice.votes, "abstentions": abstentions,
        });
        let decision = match self.rule {
            Rule::Argmax { .. } => {
                format!("highest score{}", score.map(|s| format!(", {s:.6}")).unwrap_or_default())
            }
            _ => format!("heaviest answer of {}", choice.votes.len()),
        };
        trail.decided(None, decision, drawn.nodes.get(choice.sample).copied(), data);
        let claimed = feedback.get(choice.sample).and_then(|f| f.probability);
        let confidence = if choice.votes.is_empty() { claimed } else { choice.share };
        let answer = drawn.candidates.get(choice.sample).and_then(|c| c.answer.clone());
        Ok(trail.answer(text(choice.sample), answer, confidence, choice.votes, None))
    }
}
