//! FOBAR: answers are voted on and checked backwards (arXiv 2308.07758).

use crate::draw::{ask, ask_all, check_samples};
use crate::masks::{Backward, backward_questions, usable_masks};
use crate::vote::{majority, tally};
use crate::{ControlError, Draw, Estimate, EstimateInput, Minimum, Strategy, Trail, Triple};
use async_trait::async_trait;
use elenchus_evaluate::{Needs, RoleNeeds};
use elenchus_generate::{ACTOR, Context, GenerateError, GenerateRequest, LogprobDetail, PromptSlots, Voice};
use elenchus_task::{Skill, Task};
use elenchus_trace::{Answer, Problem, Usage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

const NAME: &str = "fobar";

/// How the forward share P_f and the backward share P_b become one weight.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fusion {
    /// P_f^α · P_b^(1−α)
    #[default]
    Geometric,
    /// α P_f + (1 − α) P_b
    Arithmetic,
}

/// Settings of `fobar`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FobarSettings {
    /// Number of forward responses M_F.
    pub samples: usize,
    /// Backward responses M_B per hidden number and candidate answer.
    pub backward_samples: usize,
    /// Weight α of the forward share: 1 is self-consistency, 0 the backward check alone.
    pub alpha: f64,
    /// How the two shares are combined.
    pub fusion: Fusion,
    /// ε of the backward share, which keeps it above 0.
    pub epsilon: f64,
    /// Votes that an answer needs to be a candidate.
    pub threshold: usize,
    /// Check only so many candidates, those with the most votes; absent, all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub candidates: Option<usize>,
    /// Hide only so many numbers, the first ones; absent, all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub masks: Option<usize>,
    /// How the responses are drawn, forward and backward; the paper samples at temperature 0.7.
    #[serde(flatten)]
    pub draw: Draw,
}

impl Default for FobarSettings {
    fn default() -> Self {
        FobarSettings {
            samples: 10,
            backward_samples: 8,
            alpha: 0.5,
            fusion: Fusion::Geometric,
            epsilon: 1e-8,
            threshold: 1,
            candidates: None,
            masks: None,
            draw: Draw::default(),
        }
    }
}

/// Draws M_F responses and votes. Where they disagree, it hides one number of the problem at a time, gives a candidate
/// answer c instead, and draws M_B responses that look for the hidden number. With Z_c the number of those that find it,
/// over all hidden numbers:
///
/// P_f(c) = votes of c / votes, P_b(c) = (Z_c + ε/|C|) / (Σ Z + ε), P(c) ∝ P_f(c)^α · P_b(c)^(1−α).
///
/// Returns the first response with the answer of the largest P; ties go to the answer seen first. Confidence is P,
/// normalised over the candidates. Responses without an answer are in neither share. A number whose value is one of the
/// candidates is not hidden: copying the given answer would find it. When all agree, or no number can be hidden, the vote
/// decides and nothing more is spent. When the budget ends during the backward phase, the vote decides, too, and the
/// trace says so.
///
/// Costs 1 + |C| · N_B calls for N_B hidden numbers, the backward ones at the same time. Temperature is 0.7 and top_p 1
/// unless given. Needs samples only. The embedded model knows backward problems of the task `arithmetic`; chat models
/// those of any text with numbers.
#[derive(Debug, Clone)]
pub struct Fobar {
    settings: FobarSettings,
}

/// The weights P of candidates by their votes and backward hits, normalised to 1: see [`Fobar`].
///
/// With `votes` = (5, 4, 1), `hits` = (2, 13, 1) and the defaults: (0.278, 0.634, 0.088).
pub fn forward_backward(votes: &[usize], hits: &[usize], settings: &FobarSettings) -> Vec<f64> {
    let share = |count: usize, total: usize| count as f64 / total.max(1) as f64;
    let forward = votes.iter().sum::<usize>();
    let found = hits.iter().sum::<usize>() as f64 + settings.epsilon;
    let even = settings.epsilon / votes.len().max(1) as f64;
    let fused: Vec<f64> = votes
        .iter()
        .enumerate()
        .map(|(index, &count)| {
            let p_forward = share(count, forward);
            let p_backward = (hits.get(index).copied().unwrap_or(0) as f64 + even) / found;
            match settings.fusion {
                Fusion::Geometric => p_forward.powf(settings.alpha) * p_backward.powf(1.0 - settings.alpha),
                Fusion::Arithmetic => settings.alpha * p_forward + (1.0 - settings.alpha) * p_backward,
            }
        })
        .collect();
    let total: f64 = fused.iter().sum();
    fused.iter().map(|weight| if total > 0.0 { weight / total } else { 0.0 }).collect()
}

impl Fobar {
    /// Errors: [`ControlError::Setting`].
    pub fn new(settings: FobarSettings) -> Result<Self, ControlError> {
        check_samples(NAME, settings.samples)?;
        let refuse =
            |field: &str, problem: String, hint: &str| Err(ControlError::setting(NAME, field, problem, hint));
        if !(1..=10_000).contains(&settings.backward_samples) {
            let problem = format!("{} is out of range", settings.backward_samples);
            return refuse("backward_samples", problem, "between 1 and 10000; the paper draws 8");
        }
        if !(0.0..=1.0).contains(&settings.alpha) {
            return refuse(
                "alpha",
                format!("{} is out of range", settings.alpha),
                "0 is backward, 1 forward only",
            );
        }
        if !(settings.epsilon > 0.0 && settings.epsilon <= 1.0) {
            return refuse(
                "epsilon",
                format!("{} is out of range", settings.epsilon),
                "above 0; the paper has 1e-8",
            );
        }
        for (field, value) in [
            ("threshold", Some(settings.threshold)),
            ("candidates", settings.candidates),
            ("masks", settings.masks),
        ] {
            if value == Some(0) {
                return refuse(field, "0 leaves nothing to check".into(), "take 1 or more, or leave it out");
            }
        }
        let settings = FobarSettings { draw: settings.draw.clone().or_sampling(0.7, 1.0), ..settings };
        settings.draw.check(NAME)?;
        Ok(Fobar { settings })
    }

    fn request(
        &self,
        context: &Context,
        problem: &Problem,
        backward: &Backward,
        place: (usize, usize),
    ) -> Result<GenerateRequest, ControlError> {
        let mut slots = PromptSlots::new(&backward.problem);
        if let Some((mask, given)) = &backward.shown {
            slots = slots.mask(mask).answer(given);
        }
        let label = format!("fobar\0{}\0{}\0{}\0{}", problem.task, problem.id, place.0, place.1);
        let draw = &self.settings.draw;
        Ok(GenerateRequest {
            samples: self.settings.backward_samples,
            sampling: draw.sampling(true, context.seed_for(&label, draw.seed)),
            logprobs: LogprobDetail::Offered,
            ..GenerateRequest::new(context.prompt(ACTOR, Skill::Backward, &slots)?)
        })
    }
}

#[async_trait]
impl Strategy for Fobar {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "vote times a backward check: does a candidate answer lead back to the numbers of the problem?"
    }

    fn triple(&self) -> Triple {
        Triple::SELF_VOTE
    }

    fn needs(&self) -> Needs {
        Needs::role(RoleNeeds::new(ACTOR))
    }

    fn minimum(&self) -> Minimum {
        // Responses that agree need no check.
        Minimum { calls: 1, tokens: 1 + self.settings.samples as u64 }
    }

    fn estimate(&self, input: &EstimateInput) -> Estimate {
        let FobarSettings { samples, backward_samples, candidates, masks, .. } = self.settings;
        let (candidates, masks) = (candidates.unwrap_or(3) as u64, masks.unwrap_or(4) as u64);
        let (samples, backward) = (samples as u64, backward_samples as u64);
        let checks = candidates * masks;
        Estimate {
            usage: Usage {
                calls: 1 + checks,
                prompt_tokens: (1 + checks) * input.prompt_tokens,
                completion_tokens: (samples + checks * backward) * input.completion_tokens,
                ..Usage::default()
            },
            formula: format!(
                "1 call and p + nc tokens where all agree, else 1 + CB calls, (1 + CB)p + (n + CBm)c tokens, n = \
                 {samples}, m = {backward}, with C candidates and B hidden numbers; here C = {candidates}, B = {masks}"
            ),
        }
    }

    async fn attempt(
        &self,
        context: &Context,
        task: &dyn Task,
        problem: &Problem,
    ) -> Result<Answer, ControlError> {
        if context.voice_of(ACTOR) == Voice::Compact && task.backward(problem, "").is_none() {
            return Err(ControlError::Capability {
                strategy: NAME.into(),
                role: ACTOR.into(),
                what: format!("backward problems of the task `{}` in the compact voice", problem.task),
                hint: "the embedded model knows those of `arithmetic` only: bind an endpoint, or use \
                       `self-consistency`"
                    .into(),
            });
        }
        let settings = &self.settings;
        let mut trail = Trail::new(context, NAME, problem);
        let several = settings.samples > 1;
        let detail = LogprobDetail::Offered;
        let request = settings.draw.request(context, problem, settings.samples, several, detail, 0)?;
        let drawn = ask(&mut trail, context, task, problem, ACTOR, None, &request).await?;
        let answers = drawn.ballots();
        let vote = majority(&answers, |left, right| task.equivalent(problem, left, right));
        if vote.winner.is_none() {
            let reason = format!(
                "none of the {} responses has an answer that the task can extract",
                drawn.nodes.len()
            );
            trail.decided(None, reason.clone(), None, json!(null));
            let text = drawn.texts().first().copied().unwrap_or_default().to_string();
            return Ok(trail.answer(text, None, None, Vec::new(), Some(reason)));
        }

        // Candidates by falling votes, first seen first among equals.
        let mut groups: Vec<usize> =
            (0..vote.groups.len()).filter(|&g| vote.counts[g] >= settings.threshold).collect();
        groups.sort_by_key(|&group| std::cmp::Reverse(vote.counts[group]));
        groups.truncate(settings.candidates.unwrap_or(usize::MAX));
        let texts: Vec<&str> = groups.iter().filter_map(|&g| answers[vote.groups.first[g]]).collect();
        let mut questions: Vec<Vec<Backward>> = Vec::new();
        if texts.len() > 1 {
            for text in &texts {
                questions.push(backward_questions(task, problem, text));
            }
        }
        let masks = usable_masks(&questions, &texts, settings.masks.unwrap_or(usize::MAX));
        let mut hits = vec![0usize; groups.len()];
        let mut skipped = match (texts.len(), masks.len()) {
            (0 | 1, _) => Some("there is one candidate".to_string()),
            (_, 0) => Some("no number of the problem can be hidden".to_string()),
            _ => None,
        };
        if skipped.is_none() {
            let stage = trail.stage(None, "backward");
            let places: Vec<(usize, usize)> =
                (0..texts.len()).flat_map(|c| masks.iter().map(move |&m| (c, m))).collect();
            let mut requests = Vec::with_capacity(places.len());
            for &(candidate, mask) in &places {
                let backward = &questions[candidate][mask];
                requests.push(self.request(context, problem, backward, (candidate, mask))?);
            }
            match ask_all(&mut trail, context, ACTOR, Some(stage), &requests).await {
                Ok(replies) => {
                    for (&(candidate, mask), replies) in places.iter().zip(&replies) {
                        let backward = &questions[candidate][mask];
                        hits[candidate] +=
                            replies.iter().filter(|reply| backward.is_recovered(task, &reply.text)).count();
                    }
                }
                // A part of the checks would favour the candidates that were checked.
                Err(ControlError::Generate(error @ GenerateError::Budget { .. })) => {
                    trail.failed(Some(stage), error.to_string());
                    skipped = Some("the budget ended during the backward phase".into());
                }
                Err(error) => return Err(error),
            }
        }

        let votes: Vec<usize> = groups.iter().map(|&group| vote.counts[group]).collect();
        let fused = match &skipped {
            None => forward_backward(&votes, &hits, settings),
            Some(_) => Vec::new(),
        };
        let result = match fused.is_empty() {
            true => tally(vote.groups, |sample| f64::from(u8::from(answers[sample].is_some()))),
            false => {
                // Each sample carries its share of what its answer weighs.
                let (of, counts) = (vote.groups.of.clone(), &vote.counts);
                tally(vote.groups, |sample| {
                    let place = of[sample].and_then(|g| Some((g, groups.iter().position(|&c| c == g)?)));
                    place.map_or(0.0, |(group, position)| fused[position] / counts[group] as f64)
                })
            }
        };
        let table = result.table(&answers);
        let data = json!({
            "candidates": texts, "votes": votes, "hits": hits, "hidden_numbers": masks.len(), "weights": fused,
            "tries": masks.len() * settings.backward_samples, "vote_only": skipped,
        });
        let Some(sample) = result.sample() else {
            let reason = "no answer has a weight".to_string();
            trail.decided(None, reason.clone(), None, data);
            return Ok(trail.answer("", None, None, table, Some(reason)));
        };
        let decision = match &skipped {
            Some(why) => format!("vote alone: {why}"),
            None => format!("forward and backward over {} candidates", texts.len()),
        };
        trail.decided(None, decision, drawn.nodes.get(sample).copied(), data);
        let chosen = &drawn.candidates[sample];
        Ok(trail.answer(chosen.completion.text.clone(), chosen.answer.clone(), result.share(), table, None))
    }
}

#[cfg(test)]
#[path = "fobar_tests.rs"]
mod tests;
