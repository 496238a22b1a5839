//! Beam search over steps: several chains grow side by side, an evaluator decides which go on (arXiv 2305.10601, 2407.11511).

use crate::attempts::budget_over;
use crate::draw::check_samples;
use crate::place::fewest_calls;
use crate::{
    ControlError, ControlKind, Draw, Estimate, EstimateInput, EvaluateKind, FeedbackLine, GenerateKind,
    Minimum, Strategy, Trail, Triple,
};
use async_trait::async_trait;
use elenchus_evaluate::{
    Candidate, CandidateSize, EvaluateInput, Evaluator, Needs, RoleNeeds, evaluate_all, evaluator,
};
use elenchus_generate::{ACTOR, Context, GenerateRequest, LogprobDetail, PromptSlots, Sampling, Voice};
use elenchus_task::Task;
use elenchus_trace::{Answer, Completion, Feedback, FinishReason, Message, NodeId, Problem, Usage};
use futures::future::join_all;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::Arc;

const NAME: &str = "beam";

/// Settings of `beam`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BeamSettings {
    /// Chains b that are kept after each step.
    pub width: usize,
    /// Next steps n that are drawn for each kept chain; n · b for the first step, so that every depth has as many.
    pub expand: usize,
    /// Most steps of a chain.
    pub depth: usize,
    /// Evaluator that scores the chains as far as they go; `evaluators()` lists the names. `recompute` checks with a tool,
    /// `judge` and `outlook` ask a model.
    pub evaluator: String,
    /// Settings of that evaluator.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub evaluator_settings: Value,
    /// What ends a step; absent, `;` in the compact voice and a new line in the chat voice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_end: Option<String>,
    /// How steps are drawn: at temperature 0.7 and top_p 1 unless given. `max_tokens` bounds one step.
    #[serde(flatten)]
    pub draw: Draw,
}

impl Default for BeamSettings {
    fn default() -> Self {
        BeamSettings {
            width: 5,
            expand: 2,
            depth: 16,
            evaluator: "recompute".into(),
            evaluator_settings: Value::Null,
            step_end: None,
            draw: Draw { max_tokens: 256, ..Draw::default() },
        }
    }
}

/// Which of some values a beam keeps: the `width` largest, the earlier of two equal ones; those without a value never.
/// In the order of rank.
pub fn keep_best(values: &[Option<f64>], width: usize) -> Vec<usize> {
    let mut valued: Vec<(usize, f64)> = values
        .iter()
        .enumerate()
        .filter_map(|(index, value)| Some((index, value.filter(|value| !value.is_nan())?)))
        .collect();
    // A stable sort: ties stay in their order.
    valued.sort_by(|(_, left), (_, right)| right.total_cmp(left));
    valued.into_iter().take(width).map(|(index, _)| index).collect()
}

/// Grows chains step by step. At each depth n next steps are drawn for every unfinished chain, all chains are scored by an
/// evaluator as far as they go, and the b best are kept (ties go to the earlier one); finished chains keep their score
/// and their place only as long as they are among the best. Ends when all kept chains are finished, at the last depth, or
/// with the budget; the answer is the finished chain with the highest score.
///
/// Helps as far as the evaluator can tell good beginnings from bad ones. Compare with `best-of-n` with the same evaluator at
/// equal tokens: the beam reads the beginning of a chain again at every step. Unfinished chains for which the evaluator
/// abstains stand behind those with a score, in the order in which they were drawn; finished ones are dropped. Both are
/// counted. Equal chains are kept once.
///
/// A model that continues a begun answer (the embedded one, some servers) writes up to the end of a step; any other is asked
/// to write only the next step, with the steps so far in the prompt. Costs at most D(nb + b) calls with a model as
/// evaluator, D·b without. Confidence is the probability that the evaluator claims for the winner, if any.
#[derive(Clone)]
pub struct Beam {
    settings: BeamSettings,
    evaluator: Arc<dyn Evaluator>,
}

impl std::fmt::Debug for Beam {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Beam").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// A chain of steps.
#[derive(Debug, Clone, Default)]
struct Chain {
    steps: Vec<String>,
    text: String,
    node: Option<NodeId>,
    finished: bool,
    feedback: Feedback,
}

/// How chains are continued.
#[derive(Debug, Clone)]
enum Way {
    /// The text so far as the beginning of the reply, up to the string that ends a step.
    Prefix {
        /// The string.
        end: String,
        /// Whether `#` begins the answer.
        compact: bool,
    },
    /// A prompt that shows the steps so far and asks for one more.
    Prompt,
}

impl Beam {
    /// Errors: [`ControlError::Setting`]; [`ControlError::Evaluate`] for an unknown evaluator or a wrong setting of it.
    pub fn new(settings: BeamSettings) -> Result<Self, ControlError> {
        check_samples(NAME, settings.width.saturating_mul(settings.expand))?;
        if !(1..=1000).contains(&settings.depth) {
            let problem = format!("{} is out of range", settings.depth);
            return Err(ControlError::setting(NAME, "depth", problem, "between 1 and 1000 steps"));
        }
        if settings.step_end.as_ref().is_some_and(String::is_empty) {
            let hint = "leave it out, or give the string that ends a step";
            return Err(ControlError::setting(NAME, "step_end", "it is empty", hint));
        }
        if settings.draw.skill != "solve" {
            let hint = "leave `skill` out: only `solve` writes steps";
            let problem = format!("`{}` has no steps to search over", settings.draw.skill);
            return Err(ControlError::setting(NAME, "skill", problem, hint));
        }
        let settings = BeamSettings { draw: settings.draw.clone().or_sampling(0.7, 1.0), ..settings };
        settings.draw.check(NAME)?;
        let evaluator = evaluator(&settings.evaluator, settings.evaluator_settings.clone())?;
        Ok(Beam { settings, evaluator })
    }

    fn way(&self, context: &Context) -> Way {
        let voice = context.voice_of(ACTOR);
        let usual = if voice == Voice::Compact { ";" } else { "\n" };
        let end = self.settings.step_end.clone().unwrap_or_else(|| usual.to_string());
        match context.model(ACTOR).capabilities().prefix {
            true => Way::Prefix { end, compact: voice == Voice::Compact },
            false => Way::Prompt,
        }
    }

    /// The request for the next steps of a chain.
    fn request(
        &self,
        context: &Context,
        problem: &Problem,
        way: &Way,
        chain: &Chain,
        samples: usize,
    ) -> Result<GenerateRequest, ControlError> {
        let mut slots = PromptSlots::new(problem);
        let (messages, stop) = match way {
            Way::Prefix { end, .. } => {
                let mut messages = context.prompt(ACTOR, "solve", &slots)?;
                if !chain.text.is_empty() {
                    messages.push(Message::assistant(chain.text.as_str()));
                }
                (messages, vec![end.clone()])
            }
            Way::Prompt => {
                slots = slots.steps(chain.steps.iter().map(|step| step.trim_end()));
                (context.prompt(ACTOR, "next_step", &slots)?, Vec::new())
            }
        };
        let label = format!("beam\0{}\0{}\0{}", problem.task, problem.id, chain.text);
        let sampling = self.settings.draw.sampling(true, context.seed_for(&label, self.settings.draw.seed));
        let stop = self.settings.draw.stop.iter().cloned().chain(stop).collect();
        Ok(GenerateRequest {
            samples,
            sampling: Sampling { stop, ..sampling },
            logprobs: match self.evaluator.needs().of(ACTOR).detail() {
                LogprobDetail::None => LogprobDetail::Offered,
                detail => detail,
            },
            ..GenerateRequest::new(messages)
        })
    }

    /// Draws the next steps of all unfinished chains at the same time. An error of one is the error of all, once the others
    /// are in the trace.
    async fn grow(
        &self,
        trail: &mut Trail,
        context: &Context,
        problem: &Problem,
        stage: NodeId,
        open: &[Chain],
    ) -> Result<Vec<(Chain, Completion)>, ControlError> {
        let way = self.way(context);
        let BeamSettings { width, expand, .. } = self.settings;
        let samples = if open.iter().all(|chain| chain.steps.is_empty()) { width * expand } else { expand };
        let requests: Vec<GenerateRequest> = open
            .iter()
            .map(|chain| self.request(context, problem, &way, chain, samples))
            .collect::<Result<_, _>>()?;
        let started = trail.now();
        let replies = join_all(requests.iter().map(|request| context.generate(ACTOR, request))).await;
        let model = context.model(ACTOR).name().to_string();
        let mut grown = Vec::new();
        let mut failed = None;
        let mut seen: HashSet<String> = HashSet::new();
        for ((chain, request), reply) in open.iter().zip(&requests).zip(replies) {
            let completions = match reply {
                Ok(completions) => completions,
                Err(error) => {
                    failed = failed.or(Some(error));
                    continue;
                }
            };
            for (index, completion) in completions.into_iter().enumerate() {
                let prompt = if index == 0 { request.messages.clone() } else { Vec::new() };
                let parent = chain.node.or(Some(stage));
                let node = trail.generated(parent, ACTOR, &model, prompt, &completion, started);
                let next = extend(chain, &completion, &way, node);
                if seen.insert(next.text.clone()) {
                    grown.push((next, completion));
                }
            }
        }
        match failed {
            Some(error) => Err(error.into()),
            None => Ok(grown),
        }
    }

    /// Scores chains as far as they go.
    async fn judge(
        &self,
        trail: &mut Trail,
        place: (&Context, &dyn Task, &Problem),
        grown: Vec<(Chain, Completion)>,
    ) -> Result<Vec<Chain>, ControlError> {
        let (context, task, problem) = place;
        let (mut chains, candidates): (Vec<Chain>, Vec<Candidate>) = grown
            .into_iter()
            .map(|(chain, completion)| {
                // What is known of the tokens is known of the last step.
                let whole = Completion { text: chain.text.clone(), ..completion };
                (chain, Candidate::extract(task, problem, whole))
            })
            .unzip();
        let started = trail.now();
        let input = EvaluateInput { context, task, problem, candidates: &candidates };
        let feedback = evaluate_all(self.evaluator.as_ref(), input).await?;
        for (chain, feedback) in chains.iter_mut().zip(feedback) {
            if let Some(node) = chain.node {
                trail.evaluated(node, &feedback, started);
            }
            chain.feedback = feedback;
        }
        Ok(chains)
    }
}

/// A chain with one more step.
fn extend(chain: &Chain, completion: &Completion, way: &Way, node: NodeId) -> Chain {
    let mut next = Chain { node: Some(node), feedback: Feedback::default(), ..chain.clone() };
    // The reply was cut in the middle of a step: it goes no further.
    let cut = completion.finish != FinishReason::Stop;
    let (step, end) = match way {
        Way::Prefix { end, .. } => (completion.text.clone(), end.as_str()),
        Way::Prompt => {
            let reply = completion.text.rsplit("</think>").next().unwrap_or_default().trim();
            // A model may write more steps than it was asked for; the first one counts, and an answer behind it.
            let step = match reply.lines().find(|line| is_answer(line)) {
                Some(_) => reply,
                None => reply.lines().next().unwrap_or_default(),
            };
            (step.to_string(), "\n")
        }
    };
    let ended = step.trim().is_empty();
    let answered = step.lines().any(is_answer)
        || (matches!(way, Way::Prefix { compact: true, .. }) && step.contains('#'));
    next.finished = cut || ended || answered;
    next.text.push_str(&step);
    if !next.finished {
        next.text.push_str(end);
    }
    next.steps.push(step);
    next
}

/// Whether a line gives the final answer.
fn is_answer(line: &str) -> bool {
    let start = line.trim_start_matches(|c: char| c.is_whitespace() || "*#>-".contains(c));
    start.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("answer:"))
        || line.contains("\\boxed{")
        || line.contains("</answer>")
}

#[async_trait]
impl Strategy for Beam {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "chains that grow step by step; the best b by an evaluator go on"
    }

    fn triple(&self) -> Triple {
        Triple {
            generate: GenerateKind::HandWritten,
            evaluate: EvaluateKind::of(self.evaluator.as_ref()),
            control: ControlKind::Reinforcement,
            line: Some(FeedbackLine::ReasoningTopologically),
        }
    }

    fn needs(&self) -> Needs {
        Needs::role(RoleNeeds::new(ACTOR)).and(self.evaluator.needs())
    }

    fn minimum(&self) -> Minimum {
        // One step that is an answer, and its judgement.
        let calls = fewest_calls(self.evaluator.as_ref(), 1);
        let drawn = (self.settings.width * self.settings.expand) as u64;
        Minimum { calls: 1 + calls, tokens: 1 + drawn + calls }
    }

    fn estimate(&self, input: &EstimateInput) -> Estimate {
        let BeamSettings { width, expand, depth, .. } = self.settings;
        let (b, n, d) = (width as u64, expand as u64, depth as u64);
        let calls = 1 + (d - 1) * b;
        // A chain of c tokens is read half on average; every depth writes nb steps of c/D tokens.
        let drawn = Usage {
            calls,
            prompt_tokens: calls * (input.prompt_tokens + input.completion_tokens / 2),
            completion_tokens: n * b * input.completion_tokens,
            ..Usage::default()
        };
        let judged = self.evaluator.cost(CandidateSize {
            candidates: d * n * b,
            prompt_tokens: input.prompt_tokens,
            completion_tokens: input.completion_tokens / 2,
        });
        let mut formula = format!(
            "at most 1 + (D - 1)b calls, each p + c/2 read, and nbc written, b = {b}, n = {n}, D = {d}; `{}` ",
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
        let mut trail = Trail::new(context, NAME, problem);
        let mut kept = vec![Chain::default()];
        let (mut depths, mut drawn, mut abstentions) = (0, 0, 0);
        let mut why = None;
        let mut stopped = format!("{} steps were taken", self.settings.depth);
        for depth in 0..self.settings.depth {
            let open: Vec<Chain> = kept.iter().filter(|chain| !chain.finished).cloned().collect();
            if open.is_empty() {
                stopped = "all kept chains are finished".into();
                break;
            }
            let stage = trail.stage(None, format!("step {}", depth + 1));
            let place = (context, task, problem);
            let grown = match self.grow(&mut trail, context, problem, stage, &open).await {
                Ok(grown) => self.judge(&mut trail, place, grown).await,
                Err(error) => Err(error),
            };
            let judged = match grown {
                Ok(judged) => judged,
                Err(error) if depth > 0 => {
                    stopped = budget_over(&mut trail, Some(stage), error)?;
                    break;
                }
                Err(error) => return Err(error),
            };
            depths += 1;
            drawn += judged.len();
            abstentions += judged.iter().filter(|chain| chain.feedback.score.is_none()).count();
            why = why.or_else(|| judged.iter().find_map(|chain| chain.feedback.abstained.clone()));
            // Finished chains stand in front, so that they win ties against unfinished ones.
            let mut pool: Vec<Chain> = kept.into_iter().filter(|chain| chain.finished).collect();
            pool.extend(judged);
            let values: Vec<Option<f64>> = pool.iter().map(|chain| chain.feedback.score).collect();
            let mut best = keep_best(&values, self.settings.width);
            // A beginning of which nothing can be said yet is not a bad one: it goes on behind those with a score.
            let unsaid = (0..pool.len()).filter(|&index| values[index].is_none() && !pool[index].finished);
            best.extend(unsaid.take(self.settings.width - best.len()));
            kept = best.iter().map(|&index| pool[index].clone()).collect();
            let decision = format!("{} of {} chains are kept", kept.len(), values.len());
            let node = kept.first().and_then(|chain| chain.node);
            trail.decided(Some(stage), decision, node, json!({"values": values, "kept": best}));
            if kept.is_empty() {
                stopped = "no chain has a score".into();
                break;
            }
        }
        let finished: Vec<(Chain, Option<String>)> = kept
            .iter()
            .filter(|chain| chain.finished)
            .map(|chain| (chain.clone(), task.extract(problem, &chain.text)))
            .collect();
        let data = json!({
            "evaluator": self.evaluator.name(), "depths": depths, "drawn": drawn, "finished": finished.len(),
            "abstentions": abstentions, "stopped": stopped,
        });
        // Kept chains stand in the order of their scores.
        let Some((chain, answer)) = finished.into_iter().find(|(_, answer)| answer.is_some()) else {
            let mut reason = format!("{stopped}, and no kept chain has an answer that the task can extract");
            if let Some(why) = why {
                reason.push_str(&format!(": `{}` abstained, {why}", self.evaluator.name()));
            }
            trail.decided(None, reason.clone(), None, data);
            let text = kept.first().map(|chain| chain.text.clone()).unwrap_or_default();
            return Ok(trail.answer(text, None, None, Vec::new(), Some(reason)));
        };
        let score = chain.feedback.score.unwrap_or_default();
        trail.decided(
            None,
            format!("the best finished chain, score {score:.6}: {stopped}"),
            chain.node,
            data,
        );
        Ok(trail.answer(chain.text, answer, chain.feedback.probability, Vec::new(), None))
    }
}

#[cfg(test)]
#[path = "beam_tests.rs"]
mod tests;
