//! Iterative agentic decoding: rounds of candidates, each in view of the best and the worst so far (arXiv 2504.01931).

use crate::attempts::budget_over;
use crate::drafts::{DraftCall, DraftReply};
use crate::draw::{ask, check_samples};
use crate::place::{Place, all_identical, fewest_calls};
use crate::{
    ControlError, ControlKind, Draw, Estimate, EstimateInput, EvaluateKind, FeedbackLine, GenerateKind,
    Minimum, Sampled, Strategy, Trail, Triple,
};
use async_trait::async_trait;
use elenchus_evaluate::{CandidateSize, EvaluateInput, Evaluator, Needs, RoleNeeds, evaluate_all, evaluator};
use elenchus_generate::{ACTOR, Context, GenerateError, LogprobDetail, PromptSlots, Voice};
use elenchus_task::Task;
use elenchus_trace::{Answer, Feedback, NodeId, Problem, Usage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;

const NAME: &str = "iad";

/// Who judges where no evaluator is named: with words for the next round where the judge's model is spoken to in words.
const IN_WORDS: &str = "rubric";
const IN_NOTATION: &str = "judge";
/// The role that both have by default.
const JUDGE: &str = "judge";

/// What a round after the first one sees of the candidates before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Contrast {
    /// The best and the worst so far.
    #[default]
    BestAndWorst,
    /// The best so far alone.
    Best,
    /// Nothing: every round resamples, which is best-of-n in several calls (a control).
    Nothing,
}

/// When a new candidate takes the place of the incumbent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Takeover {
    /// When its score is higher, so that the incumbent's score never falls.
    #[default]
    Better,
    /// Always: the best of the last round (refinement without an acceptance test, a control).
    Always,
}

/// Settings of `iad`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct IadSettings {
    /// Candidates K of each round.
    pub samples: usize,
    /// Rounds T, the first one included; 1 is best-of-n.
    pub rounds: usize,
    /// Evaluator that scores candidates (`evaluators()` lists the names); absent, `rubric`, whose words later rounds see,
    /// and in the compact voice, which has no words, `judge`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evaluator: Option<String>,
    /// Settings of that evaluator, where it is named.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub evaluator_settings: Value,
    /// What later rounds see.
    pub contrast: Contrast,
    /// Show what the evaluator says in words of the best candidate (chat voice). `rubric`, `critic`, `judgment`, `recompute`
    /// and `verifier` have words; `judge` and certainty have a number only.
    pub feedback: bool,
    /// When a new candidate is taken over.
    pub takeover: Takeover,
    /// Stop when the incumbent's score reaches this; absent, when the evaluator's verdict calls it right or nothing can score
    /// higher.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enough: Option<f64>,
    /// Whether a response without an answer can be the incumbent: for open-ended tasks.
    pub allow_unanswered: bool,
    /// How candidates are drawn, in all rounds alike, at temperature 0.6 and top_p 1 unless given.
    #[serde(flatten)]
    pub draw: Draw,
}

impl Default for IadSettings {
    fn default() -> Self {
        IadSettings {
            samples: 2,
            rounds: 3,
            evaluator: None,
            evaluator_settings: Value::Null,
            contrast: Contrast::BestAndWorst,
            feedback: true,
            takeover: Takeover::Better,
            enough: None,
            allow_unanswered: false,
            draw: Draw::default(),
        }
    }
}

/// The best and the worst candidate so far, by index and score.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Standing {
    /// The incumbent: the first of the highest score.
    pub best: Option<(usize, f64)>,
    /// The last of the lowest score.
    pub worst: Option<(usize, f64)>,
    /// The incumbent's score after each candidate; `None` before there is one.
    pub best_so_far: Vec<Option<f64>>,
    /// Times that a later round replaced the incumbent.
    pub accepted: usize,
    /// Candidates seen.
    seen: usize,
}

impl Standing {
    /// Takes in the scores of one round. A candidate without a score (the evaluator abstained) is neither best nor
    /// worst; one that may not win (`eligible` is false) can be the worst.
    pub fn round(&mut self, scores: &[Option<f64>], eligible: &[bool], takeover: Takeover) {
        let first = self.seen;
        let before = self.best;
        if takeover == Takeover::Always && scores.iter().zip(eligible).any(|(s, e)| s.is_some() && *e) {
            self.best = None;
        }
        for (offset, score) in scores.iter().enumerate() {
            let index = first + offset;
            if let Some(score) = score.filter(|score| score.is_finite()) {
                let may = eligible.get(offset).copied().unwrap_or(true);
                if may && self.best.is_none_or(|(_, best)| score > best) {
                    self.best = Some((index, score));
                }
                if self.worst.is_none_or(|(_, worst)| score <= worst) {
                    self.worst = Some((index, score));
                }
            }
            self.best_so_far.push(self.best.map(|(_, score)| score));
        }
        self.seen += scores.len();
        if before.is_some() && self.best != before {
            self.accepted += 1;
        }
    }
}

/// Draws K candidates, scores them with an evaluator, and then for T − 1 rounds draws K more in view of the best and the
/// worst so far with their scores, and of what the evaluator says of the best. A new candidate takes the incumbent's
/// place only when its score is higher, so the incumbent's score never falls. Returns the incumbent.
///
/// Unless an evaluator is named, `rubric` scores: a judge on named criteria that says what is missing, because a bare number
/// helps little. Where tests, a tool or a checker can be run, name `verifier` or `recompute` instead.
///
/// Helps as far as the evaluator is right: it is the bottleneck. Compare with `best-of-n` at K·T samples with the same
/// evaluator. Where best and worst have the same score there is no contrast, and the prompt says only that both fall
/// short. Candidates for which the evaluator abstains are neither; when it abstains for all of them, so does the answer.
/// Stops early when the evaluator's verdict calls the incumbent right, when it has the highest score that there is (or
/// `enough`), and when the budget ends; the incumbent is then the answer. The score is the evaluator's: what it is worth is measured with the
/// task's own verifier, never with the evaluator again. Reference answers never reach the prompt.
///
/// Costs T calls for K·T responses, and the evaluator's. Needs samples only. In the compact voice best and worst stand in
/// the prompt of the skill `aggregate`, the better one last, and the best alone in that of `again`; scores and words are
/// left out, and `judge` scores unless another evaluator is named.
#[derive(Clone)]
pub struct Iad {
    settings: IadSettings,
    evaluator: Arc<dyn Evaluator>,
    /// In its place where the judge's model is spoken to in the compact voice; `None` where an evaluator is named.
    in_notation: Option<Arc<dyn Evaluator>>,
}

impl std::fmt::Debug for Iad {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Iad").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Everything drawn and judged so far.
#[derive(Default)]
struct Seen {
    drawn: Sampled,
    feedback: Vec<Feedback>,
    standing: Standing,
}

impl Iad {
    /// Errors: [`ControlError::Setting`]; [`ControlError::Evaluate`] for an unknown evaluator or a wrong setting of it.
    pub fn new(settings: IadSettings) -> Result<Self, ControlError> {
        check_samples(NAME, settings.samples)?;
        if !(1..=100).contains(&settings.rounds) {
            let problem = format!("{} is out of range", settings.rounds);
            return Err(ControlError::setting(
                NAME,
                "rounds",
                problem,
                "between 1 and 100; 3 or 4 are usual",
            ));
        }
        if settings.enough.is_some_and(|enough| !enough.is_finite()) {
            return Err(ControlError::setting(
                NAME,
                "enough",
                "it is not a number",
                "leave it out, or give a score",
            ));
        }
        let settings = IadSettings { draw: settings.draw.clone().or_sampling(0.6, 1.0), ..settings };
        settings.draw.check(NAME)?;
        let (evaluator, in_notation) = match &settings.evaluator {
            Some(name) => (evaluator(name, settings.evaluator_settings.clone())?, None),
            None if settings.evaluator_settings.is_null() => {
                (evaluator(IN_WORDS, Value::Null)?, Some(evaluator(IN_NOTATION, Value::Null)?))
            }
            None => {
                let hint = "name it, as `evaluator = \"rubric\"`";
                return Err(ControlError::setting(NAME, "evaluator_settings", "no evaluator is named", hint));
            }
        };
        Ok(Iad { settings, evaluator, in_notation })
    }

    /// Who scores candidates.
    fn evaluator(&self, context: &Context) -> &dyn Evaluator {
        match &self.in_notation {
            Some(judge) if context.voice_of(JUDGE) == Voice::Compact => judge.as_ref(),
            _ => self.evaluator.as_ref(),
        }
    }

    /// Draws the candidates of a round; `Err` says in words why there are none, and is in the trace.
    async fn candidates(
        &self,
        trail: &mut Trail,
        place: Place<'_>,
        stage: NodeId,
        round: usize,
        seen: &Seen,
        detail: LogprobDetail,
    ) -> Result<Result<Sampled, String>, ControlError> {
        let Place { context, task, problem } = place;
        let IadSettings { samples, draw, contrast, .. } = &self.settings;
        let Some((best, best_score)) =
            seen.standing.best.filter(|_| round > 0 && *contrast != Contrast::Nothing)
        else {
            let request = draw.request(context, problem, *samples, true, detail, round * samples)?;
            return match ask(trail, context, task, problem, ACTOR, Some(stage), &request).await {
                Ok(drawn) => Ok(Ok(drawn)),
                Err(ControlError::Generate(
                    error @ (GenerateError::Budget { .. } | GenerateError::Unavailable { .. }),
                )) if round > 0 => {
                    trail.failed(Some(stage), error.to_string());
                    Ok(Err(error.to_string()))
                }
                Err(error) => Err(error),
            };
        };
        let texts = seen.drawn.texts();
        // One text is no contrast to itself.
        let worst = seen.standing.worst.filter(|(worst, _)| texts[*worst] != texts[best]);
        let worst = worst.filter(|_| *contrast == Contrast::BestAndWorst);
        let advises = self.settings.feedback && self.evaluator(context).advises();
        let said = seen.feedback[best].text.as_deref().filter(|_| advises);
        let mut slots = PromptSlots::new(problem);
        slots.extra = json!({
            "best": texts[best], "best_score": shown(best_score),
            "worst": worst.map(|(worst, _)| texts[worst]), "worst_score": worst.map(|(_, score)| shown(score)),
            "tied": worst.is_some_and(|(_, score)| score >= best_score), "feedback": said,
        })
        .as_object()
        .cloned()
        .unwrap_or_default();
        let call = DraftCall {
            role: ACTOR,
            skill: "contrast",
            samples: *samples,
            sampling: draw.sampling(true, draw.seed.wrapping_mul(1009).wrapping_add(round as u64)),
            writes_answer: true,
        };
        match call.ask(trail, place, Some(stage), &slots).await? {
            DraftReply::Given(drawn) => Ok(Ok(drawn)),
            DraftReply::Missing(why) => Ok(Err(why)),
        }
    }

    /// Scores the candidates of a round and brings the standing up to date.
    async fn judge(
        &self,
        trail: &mut Trail,
        place: Place<'_>,
        seen: &mut Seen,
        fresh: Sampled,
    ) -> Result<(), ControlError> {
        let Place { context, task, problem } = place;
        let started = trail.now();
        let input = EvaluateInput { context, task, problem, candidates: &fresh.candidates };
        let feedback = evaluate_all(self.evaluator(context), input).await?;
        for (&node, feedback) in fresh.nodes.iter().zip(&feedback) {
            trail.evaluated(node, feedback, started);
        }
        let scores: Vec<Option<f64>> = feedback.iter().map(|feedback| feedback.score).collect();
        let eligible: Vec<bool> = fresh
            .candidates
            .iter()
            .map(|candidate| self.settings.allow_unanswered || candidate.answer.is_some())
            .collect();
        seen.standing.round(&scores, &eligible, self.settings.takeover);
        seen.feedback.extend(feedback);
        seen.drawn.extend(fresh);
        Ok(())
    }

    /// Why no further round is needed, if none is.
    fn is_enough(&self, seen: &Seen, evaluator: &dyn Evaluator) -> Option<String> {
        let (best, score) = seen.standing.best?;
        match self.settings.enough {
            Some(enough) if score >= enough => Some(format!("the score {score} is enough")),
            Some(_) => None,
            None => {
                let right = seen.feedback[best].verdict.as_ref().is_some_and(|verdict| verdict.is_correct());
                let highest = evaluator.highest().is_some_and(|highest| score >= highest);
                match (right, highest) {
                    (true, _) => Some("the evaluator calls the incumbent right".to_string()),
                    (false, true) => Some(format!("no score is higher than {score}")),
                    (false, false) => None,
                }
            }
        }
    }
}

/// A score as a prompt shows it.
fn shown(score: f64) -> String {
    format!("{score:.2}")
}

#[async_trait]
impl Strategy for Iad {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "rounds of candidates in view of the best and the worst so far; a better score replaces the incumbent"
    }

    fn triple(&self) -> Triple {
        Triple {
            generate: GenerateKind::ModelGenerated,
            evaluate: EvaluateKind::of(self.evaluator.as_ref()),
            control: ControlKind::Reinforcement,
            line: Some(FeedbackLine::RefiningIteratively),
        }
    }

    fn needs(&self) -> Needs {
        // Without a named evaluator the voice decides who judges, and both take what any model gives.
        Needs::role(RoleNeeds::new(ACTOR)).and(self.in_notation.as_ref().unwrap_or(&self.evaluator).needs())
    }

    fn minimum(&self) -> Minimum {
        // One round with its judgement; the rest depends on how that goes.
        let samples = self.settings.samples as u64;
        let calls = fewest_calls(self.evaluator.as_ref(), samples);
        Minimum { calls: 1 + calls, tokens: 1 + samples + calls }
    }

    fn estimate(&self, input: &EstimateInput) -> Estimate {
        let IadSettings { samples, rounds, contrast, .. } = &self.settings;
        let (k, t) = (*samples as u64, *rounds as u64);
        let shown = match contrast {
            Contrast::BestAndWorst => 2,
            Contrast::Best => 1,
            Contrast::Nothing => 0,
        };
        let drawn = Usage {
            calls: t,
            prompt_tokens: t * input.prompt_tokens + (t - 1) * shown * input.completion_tokens,
            completion_tokens: t * k * input.completion_tokens,
            ..Usage::default()
        };
        let judged = self.evaluator.cost(CandidateSize {
            candidates: t * k,
            prompt_tokens: input.prompt_tokens,
            completion_tokens: input.completion_tokens,
        });
        // The judge of the compact voice costs no more than the rubric: one order, and a letter.
        let mut formula = format!(
            "at most {t} calls, Tp + {shown}(T - 1)c read and TKc written, T = {t}, K = {k}; `{}` ",
            self.evaluator.name()
        );
        formula.push_str(&match judged.calls {
            0 => "costs nothing".to_string(),
            calls => format!("adds at most {calls} calls and {} tokens", judged.tokens()),
        });
        Estimate { usage: drawn + judged, formula }
    }

    async fn attempt(
        &self,
        context: &Context,
        task: &dyn Task,
        problem: &Problem,
    ) -> Result<Answer, ControlError> {
        let place = Place { context, task, problem };
        let mut trail = Trail::new(context, NAME, problem);
        let evaluator = self.evaluator(context);
        let detail = match evaluator.needs().of(ACTOR).detail() {
            LogprobDetail::None => LogprobDetail::Offered,
            detail => detail,
        };
        let mut seen = Seen::default();
        let mut stopped = "all rounds are over".to_string();
        let mut rounds = 0;
        for round in 0..self.settings.rounds {
            let stage = trail.stage(None, format!("round {}", round + 1));
            let fresh = match self.candidates(&mut trail, place, stage, round, &seen, detail).await? {
                Ok(fresh) => fresh,
                Err(why) => {
                    stopped = why;
                    break;
                }
            };
            let before = seen.standing.best;
            match self.judge(&mut trail, place, &mut seen, fresh).await {
                Ok(()) => {}
                // What was judged before still stands.
                Err(error) => {
                    stopped = budget_over(&mut trail, Some(stage), error)?;
                    break;
                }
            }
            rounds += 1;
            let decision = match (before, seen.standing.best) {
                (_, None) => "no candidate has both a score and an answer".to_string(),
                (None, Some((_, score))) => format!("the first incumbent has the score {score}"),
                (Some((old, was)), Some((new, score))) if old != new => {
                    format!("accepted: score {was} to {score}")
                }
                (Some((_, score)), _) => format!("rejected: no candidate is above {score}"),
            };
            let node = seen.standing.best.map(|(best, _)| seen.drawn.nodes[best]);
            trail.decided(Some(stage), decision, node, Value::Null);
            if let Some(why) = self.is_enough(&seen, evaluator) {
                stopped = why;
                break;
            }
        }
        let texts = seen.drawn.texts();
        let identical = all_identical(&texts);
        let scores: Vec<Option<f64>> = seen.feedback.iter().map(|feedback| feedback.score).collect();
        let data = json!({
            "evaluator": evaluator.name(), "rounds": rounds, "stopped": stopped, "scores": scores,
            "best_so_far": seen.standing.best_so_far, "best": seen.standing.best, "worst": seen.standing.worst,
            "accepted": seen.standing.accepted, "abstentions": scores.iter().filter(|s| s.is_none()).count(),
            "identical": identical,
        });
        let Some((best, score)) = seen.standing.best else {
            let mut reason = match seen.drawn.answers().iter().all(Option::is_none) {
                true => {
                    format!("none of the {} candidates has an answer that the task can extract", texts.len())
                }
                false => format!("none of the {} candidates has both an answer and a score", texts.len()),
            };
            if let Some(why) = seen.feedback.iter().find_map(|feedback| feedback.abstained.as_deref()) {
                reason.push_str(&format!(": `{}` abstained, {why}", evaluator.name()));
            }
            reason.push_str(&format!("; {stopped}"));
            trail.decided(None, reason.clone(), None, data);
            let text = texts.first().copied().unwrap_or_default().to_string();
            return Ok(trail.answer(text, None, None, Vec::new(), Some(reason)));
        };
        let mut decision = format!("incumbent of {rounds} rounds, score {score}: {stopped}");
        if identical {
            decision.push_str("; all candidates are identical");
        }
        trail.decided(None, decision, seen.drawn.nodes.get(best).copied(), data);
        let chosen = &seen.drawn.candidates[best];
        let claimed = seen.feedback[best].probability;
        Ok(trail.answer(chosen.completion.text.clone(), chosen.answer.clone(), claimed, Vec::new(), None))
    }
}

#[cfg(test)]
#[path = "iad_tests.rs"]
mod tests;
