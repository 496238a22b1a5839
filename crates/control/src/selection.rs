//! Sample, evaluate, choose: what the votes, best-of-n and RPC share. Each of them is settings, a [`Rule`], and perhaps
//! an evaluator.

use crate::attempts::budget_over;
use crate::draw::{ask, ask_last, check_samples};
use crate::place::{Place, all_identical, fewest_calls};
use crate::vote::is_settled;
use crate::{
    Ballot, ControlError, Draw, Estimate, EstimateInput, EvaluateKind, Keeps, Minimum, Rule, Sampled, Trail,
    Triple,
};
use elenchus_evaluate::{CandidateSize, EvaluateInput, Evaluator, Needs, RoleNeeds, evaluate_all, evaluator};
use elenchus_generate::{ACTOR, Context, GenerateError, LogprobDetail};
use elenchus_task::Task;
use elenchus_trace::{Answer, Feedback, Problem, Usage};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::Arc;

#[derive(Clone)]
pub(crate) struct Selection {
    strategy: &'static str,
    samples: usize,
    draw: Draw,
    rule: Rule,
    evaluator: Option<Arc<dyn Evaluator>>,
    early_stop: bool,
    fallback: bool,
    least: Option<f64>,
}

impl std::fmt::Debug for Selection {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let evaluator = self.evaluator.as_ref().map(|evaluator| evaluator.name());
        formatter
            .debug_struct("Selection")
            .field("strategy", &self.strategy)
            .field("samples", &self.samples)
            .field("rule", &self.rule)
            .field("evaluator", &evaluator)
            .finish_non_exhaustive()
    }
}

impl Selection {
    /// A choice among samples by a rule.
    pub(crate) fn new(
        strategy: &'static str,
        samples: usize,
        draw: Draw,
        rule: Rule,
    ) -> Result<Self, ControlError> {
        check_samples(strategy, samples)?;
        draw.check(strategy)?;
        Ok(Selection {
            strategy,
            samples,
            draw,
            rule,
            evaluator: None,
            early_stop: false,
            fallback: false,
            least: None,
        })
    }

    /// With the scores of an evaluator.
    pub(crate) fn by(mut self, name: &str, settings: Value) -> Result<Self, ControlError> {
        self.evaluator = Some(evaluator(name, settings)?);
        Ok(self)
    }

    /// Draws in waves, each half of what is left, until the lead cannot be overtaken; only for rules with
    /// [`Rule::most_per_sample`].
    pub(crate) fn stopping_early(mut self, early_stop: bool) -> Self {
        self.early_stop = early_stop && self.rule.most_per_sample().is_some();
        self
    }

    /// Counts answers when the evaluator has no score for any sample, instead of abstaining.
    pub(crate) fn falling_back(mut self, fallback: bool) -> Self {
        self.fallback = fallback;
        self
    }

    /// Abstains when the chosen response has a score below this.
    pub(crate) fn at_least(mut self, least: Option<f64>) -> Self {
        self.least = least;
        self
    }

    pub(crate) fn triple(&self) -> Triple {
        let evaluate = match &self.evaluator {
            Some(evaluator) => EvaluateKind::of(evaluator.as_ref()),
            None => EvaluateKind::SelfAssessment,
        };
        Triple { evaluate, ..Triple::SELF_VOTE }
    }

    pub(crate) fn needs(&self) -> Needs {
        let actor = Needs::role(RoleNeeds::new(ACTOR));
        match &self.evaluator {
            Some(evaluator) if !self.fallback => actor.and(evaluator.needs()),
            _ => actor,
        }
    }

    /// The answer is a sample. An evaluator that looks at tokens has none to look at in a call of a tool.
    pub(crate) fn keeps(&self) -> Keeps {
        let reads_text =
            |evaluator: &Arc<dyn Evaluator>| evaluator.needs().of(ACTOR).detail() == LogprobDetail::None;
        match self.evaluator.as_ref().is_none_or(reads_text) || self.fallback {
            true => Keeps::SAMPLE,
            false => Keeps::TEXT_SAMPLE,
        }
    }

    pub(crate) fn minimum(&self) -> Minimum {
        let samples = self.samples as u64;
        let drawn = if self.early_stop { samples.div_ceil(2) } else { samples };
        // Where answers are counted when there are no scores, only the samples are certain.
        let judged = match &self.evaluator {
            Some(evaluator) if !self.fallback => fewest_calls(evaluator.as_ref(), drawn),
            _ => 0,
        };
        Minimum { calls: 1 + judged, tokens: 1 + drawn + judged }
    }

    pub(crate) fn estimate(&self, input: &EstimateInput) -> Estimate {
        let samples = self.samples as u64;
        let waves = if self.early_stop { u64::from(samples.ilog2()) + 1 } else { 1 };
        let drawn = Usage {
            calls: waves,
            prompt_tokens: waves * input.prompt_tokens,
            completion_tokens: samples * input.completion_tokens,
            ..Usage::default()
        };
        let mut formula = match self.early_stop {
            true => {
                format!(
                    "1 to {waves} calls, at most {waves}p + nc tokens, at least p + ⌈n/2⌉c, n = {samples}"
                )
            }
            false => format!("1 call, p + nc tokens, n = {samples}"),
        };
        let Some(evaluator) = &self.evaluator else { return Estimate { usage: drawn, formula } };
        let judged = evaluator.cost(CandidateSize {
            candidates: samples,
            prompt_tokens: input.prompt_tokens,
            completion_tokens: input.completion_tokens,
        });
        let name = evaluator.name();
        formula.push_str(&match judged.calls {
            0 => format!("; `{name}` costs nothing"),
            calls => format!("; `{name}` adds {calls} calls and {} tokens", judged.tokens()),
        });
        Estimate { usage: drawn + judged, formula }
    }

    /// Whether no further sample can change the winner.
    fn is_over(&self, drawn: &Sampled, scores: &[Option<f64>], task: &dyn Task, problem: &Problem) -> bool {
        let remaining = self.samples.saturating_sub(drawn.nodes.len() + drawn.lost);
        if remaining == 0 {
            return true;
        }
        let (true, Some(most)) = (self.early_stop, self.rule.most_per_sample()) else { return false };
        let (answers, paths) = (drawn.answers(), drawn.texts());
        let counted = Ballot { answers: &answers, scores, paths: &paths }
            .count(self.rule, |left, right| task.equivalent(problem, left, right));
        counted.is_some_and(|(result, _)| is_settled(&result.weights, most * remaining as f64))
    }

    pub(crate) async fn attempt(
        &self,
        context: &Context,
        task: &dyn Task,
        problem: &Problem,
    ) -> Result<Answer, ControlError> {
        let mut trail = Trail::new(context, self.strategy, problem);
        let place = Place { context, task, problem };
        let detail = self.detail(context);
        let mut drawn = Sampled::default();
        let mut feedback: Vec<Feedback> = Vec::new();
        let mut scores: Vec<Option<f64>> = Vec::new();
        let (mut waves, mut cut) = (0, false);
        while !self.is_over(&drawn, &scores, task, problem) {
            let so_far = drawn.nodes.len();
            // What was lost was tried often enough.
            let remaining = self.samples.saturating_sub(so_far + drawn.lost);
            let wave = if self.early_stop { remaining.div_ceil(2) } else { remaining };
            let several = self.samples > 1;
            let request = self.draw.request(context, problem, wave, several, detail, so_far + drawn.lost)?;
            // An only sample is the answer, whatever is thought of it.
            let drawing = match self.samples {
                1 => ask_last(&mut trail, context, task, problem, ACTOR, None, &request).await,
                _ => ask(&mut trail, context, task, problem, ACTOR, None, &request).await,
            };
            match drawing {
                Ok(more) => drawn.extend(more),
                // What was drawn can still be voted on.
                Err(ControlError::Generate(error @ GenerateError::Budget { .. })) if so_far > 0 => {
                    trail.failed(None, error.to_string());
                    cut = true;
                    break;
                }
                Err(ControlError::Generate(error @ GenerateError::Unavailable { .. })) if so_far > 0 => {
                    trail.failed(None, format!("{wave} responses did not come: {error}"));
                    drawn.lost += wave;
                    break;
                }
                Err(error) => return Err(error),
            }
            waves += 1;
            if drawn.nodes.len() == so_far {
                break;
            }
            let judged = match self.judge(&mut trail, place, &drawn, so_far).await {
                Ok(judged) => judged,
                // What the budget left unjudged abstains; what was judged before can still be chosen.
                Err(error) => {
                    let reason = budget_over(&mut trail, None, error)?;
                    cut = true;
                    let name = self.evaluator.as_ref().map_or("", |evaluator| evaluator.name());
                    vec![Feedback::abstain(name, reason); drawn.nodes.len() - so_far]
                }
            };
            scores.extend(judged.iter().map(|feedback| feedback.score));
            scores.resize(drawn.nodes.len(), None);
            if !judged.is_empty() {
                // Earlier samples may have had nothing to judge.
                feedback.resize_with(so_far, Feedback::default);
                feedback.extend(judged);
            }
            if cut {
                break;
            }
        }
        let mut data = json!({
            "drawn": drawn.nodes.len(), "of": self.samples, "waves": waves, "budget_cut": cut,
        });
        if drawn.lost > 0 {
            data["lost"] = json!(drawn.lost);
        }
        Ok(self.conclude(trail, place, &drawn, &feedback, data))
    }

    /// How much a sampler must ask for about each token.
    pub(crate) fn detail(&self, context: &Context) -> LogprobDetail {
        let needs = self.usable(context).map(|evaluator| evaluator.needs()).unwrap_or_default();
        match needs.of(ACTOR).detail() {
            LogprobDetail::None => LogprobDetail::Offered,
            detail => detail,
        }
    }

    /// An evaluator whose need is not met has nothing to say; without the fallback that was refused before.
    fn usable(&self, context: &Context) -> Option<&Arc<dyn Evaluator>> {
        self.evaluator.as_ref().filter(|evaluator| evaluator.needs().unmet_by(context).is_none())
    }

    fn needs_answers(&self) -> bool {
        !matches!(self.rule, Rule::Argmax { allow_unanswered: true })
    }

    /// Feedback on the samples from `so_far` on; none where there is no evaluator or nothing that could be chosen.
    pub(crate) async fn judge(
        &self,
        trail: &mut Trail,
        place: Place<'_>,
        drawn: &Sampled,
        so_far: usize,
    ) -> Result<Vec<Feedback>, ControlError> {
        let Place { context, task, problem } = place;
        let fresh = &drawn.candidates[so_far..];
        // Where nothing could be chosen, nothing is spent on judging.
        let worth_judging = !self.needs_answers() || fresh.iter().any(|candidate| candidate.answer.is_some());
        let (Some(evaluator), true) = (self.usable(context), worth_judging) else { return Ok(Vec::new()) };
        let started = trail.now();
        let input = EvaluateInput { context, task, problem, candidates: fresh };
        let judged = evaluate_all(evaluator.as_ref(), input).await?;
        for (&node, feedback) in drawn.nodes[so_far..].iter().zip(&judged) {
            trail.evaluated(node, feedback, started);
        }
        Ok(judged)
    }

    /// Chooses among samples; `feedback` holds one per sample, or nothing where nothing was judged. `data` goes into the
    /// trace with the decision.
    pub(crate) fn conclude(
        &self,
        mut trail: Trail,
        place: Place<'_>,
        drawn: &Sampled,
        feedback: &[Feedback],
        mut data: Value,
    ) -> Answer {
        let Place { context, task, problem } = place;
        let (evaluator, needs_answers) = (self.usable(context), self.needs_answers());
        let mut scores: Vec<Option<f64>> = feedback.iter().map(|feedback| feedback.score).collect();
        scores.resize(drawn.nodes.len(), None);
        let (mut answers, texts) = (drawn.answers(), drawn.texts());
        let distinct = texts.iter().collect::<HashSet<_>>().len();
        let abstentions = feedback.iter().filter(|f| f.score.is_none()).count();
        data["distinct"] = json!(distinct);
        let mut put = |name: &str, value: Value| data[name] = value;
        if let Some(evaluator) = evaluator {
            put("evaluator", json!(evaluator.name()));
            put("scores", json!(scores));
            put("abstentions", json!(abstentions));
        }
        let mut rule = self.rule;
        if self.fallback && answers.iter().any(Option::is_some) && scores.iter().all(Option::is_none) {
            rule = Rule::Majority;
            put("fallback", json!("answers were counted: no response carries what the method weighs"));
        }
        if matches!(rule, Rule::Majority) {
            answers = drawn.ballots();
        }
        let equivalent = |left: &str, right: &str| task.equivalent(problem, left, right);
        let chosen = if needs_answers && answers.iter().all(Option::is_none) {
            Err(format!(
                "none of the {} responses that came has an answer that the task can extract",
                drawn.nodes.len()
            ))
        } else {
            let ballot = Ballot { answers: &answers, scores: &scores, paths: &texts };
            ballot.choose(rule, equivalent).map_err(|reason| {
                match (evaluator, feedback.iter().find_map(|f| f.abstained.as_deref())) {
                    (Some(evaluator), Some(why)) => {
                        format!("{reason}: `{}` abstained, {why}", evaluator.name())
                    }
                    _ => reason,
                }
            })
        };
        let choice = match chosen {
            Ok(choice) => choice,
            Err(reason) => {
                trail.decided(None, reason.clone(), None, data);
                let text = texts.first().copied().unwrap_or_default();
                return trail.answer(text, None, None, Vec::new(), Some(reason));
            }
        };
        put("votes", json!(choice.votes));
        if choice.tied.len() > 1 {
            put("tied", json!(choice.tied.len()));
        }
        if let Some(paths) = choice.paths {
            put("paths", json!(paths));
        }
        let score = scores.get(choice.sample).copied().flatten();
        let mut decision = match rule {
            Rule::Argmax { .. } => {
                format!("highest score{}", score.map(|s| format!(", {s:.6}")).unwrap_or_default())
            }
            Rule::Majority => {
                format!("{} of {} votes", choice.votes.first().map_or(0, |v| v.count), answers.len())
            }
            _ => format!("heaviest answer of {}", choice.votes.len()),
        };
        if all_identical(&texts) {
            decision.push_str("; all responses are identical");
        }
        if let Some(least) = self.least.filter(|least| score.is_some_and(|score| score < *least)) {
            let reason = format!("{decision}: below {least}, no answer is given");
            trail.decided(None, reason.clone(), None, data);
            let claimed = feedback.get(choice.sample).and_then(|f| f.probability);
            return trail.answer(texts[choice.sample], None, claimed, Vec::new(), Some(reason));
        }
        trail.decided(None, decision, drawn.nodes.get(choice.sample).copied(), data);
        let claimed = feedback.get(choice.sample).and_then(|f| f.probability);
        let confidence = if choice.votes.is_empty() { claimed } else { choice.share };
        let answer = drawn.candidates.get(choice.sample).and_then(|c| c.answer.clone());
        trail.answer(texts[choice.sample], answer, confidence, choice.votes, None)
    }
}

/// Makes a strategy of a struct whose only field is a [`Selection`] named `selection`.
macro_rules! selection_strategy {
    ($strategy:ident, $name:literal, $summary:literal) => {
        #[async_trait::async_trait]
        impl $crate::Strategy for $strategy {
            fn name(&self) -> &'static str {
                $name
            }

            fn summary(&self) -> &'static str {
                $summary
            }

            fn triple(&self) -> $crate::Triple {
                self.selection.triple()
            }

            fn needs(&self) -> elenchus_evaluate::Needs {
                self.selection.needs()
            }

            fn minimum(&self) -> $crate::Minimum {
                self.selection.minimum()
            }

            fn estimate(&self, input: &$crate::EstimateInput) -> $crate::Estimate {
                self.selection.estimate(input)
            }

            fn keeps(&self) -> $crate::Keeps {
                self.selection.keeps()
            }

            async fn attempt(
                &self,
                context: &elenchus_generate::Context,
                task: &dyn elenchus_task::Task,
                problem: &elenchus_trace::Problem,
            ) -> Result<elenchus_trace::Answer, $crate::ControlError> {
                self.selection.attempt(context, task, problem).await
            }
        }
    };
}
pub(crate) use selection_strategy;
