//! CyberV: answers that are sensed, scored and, where their sum is too low, checked again with the evidence that was lost
//! from sight (arXiv 2506.07971).

use crate::continuation::{Continuation, Injection, Purpose, Span};
use crate::draw::ask;
use crate::key_evidence::{Ranked, rank};
use crate::place::{Place, all_identical};
use crate::score_forest::{Forest, KeyLimits, LEAST_PROBABILITY, Sensed, Signal, repeats};
use crate::sense::{answer_probability, attention_of, probability_detail};
use crate::{
    ControlError, ControlKind, Draw, Estimate, EstimateInput, EvaluateKind, FeedbackLine, GenerateKind,
    Minimum, Strategy, Trail, Triple,
};
use async_trait::async_trait;
use elenchus_evaluate::{Needs, RoleNeeds};
use elenchus_generate::{
    ACTOR, Context, GenerateError, GenerateRequest, LogprobDetail, PromptSlots, Sampling, Voice,
};
use elenchus_task::Task;
use elenchus_task::evidence::Stream;
use elenchus_trace::{
    Answer, Completion, Content, ContentPart, Message, NodeId, NodeKind, Problem, Trace, Usage,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

pub(crate) const NAME: &str = "cyberv";
/// Most tokens of a direct and of a forced answer.
const ANSWER_TOKENS: u32 = 32;
/// Temperature of the second round.
const SECOND_TEMPERATURE: f32 = 0.01;

/// Which segments the second round shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EvidenceBy {
    /// By attention where the model shows it, else by a relevance call (chat voice) or by leaving segments out.
    #[default]
    Auto,
    /// Those that the chains look at less than the direct answer does (the paper's way; embedded models).
    Attention,
    /// Those without which the direct answer is less probable: one call for each segment.
    LeaveOneOut,
    /// Those that the model names when asked which ones matter (chat voice).
    Relevance,
    /// As many as attention would choose (else `key_segments`), at random: a control.
    Random,
    /// Those that are known to be needed: an upper line, not a method.
    Needed,
    /// None: the model is told to think again, and sees nothing new (a control).
    Nothing,
}

/// Which answers of the second round are taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Accept {
    /// Those that the first round gave too; with two responses any.
    #[default]
    AmongFirst,
    /// Any (a control).
    Any,
}

/// Settings of `cyberv`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CyberVSettings {
    /// Responses N of the first round: one direct answer and N − 1 chains.
    pub samples: usize,
    /// θ: the best answer stands when its scores sum to more than N θ. 0 never corrects, 1 always.
    pub threshold: f64,
    /// What responses are scored by, with equal weights; absent, all five, without attention where the model shows none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signals: Option<Vec<Signal>>,
    /// Which segments are shown again.
    pub evidence: EvidenceBy,
    /// Most segments that are shown again for themselves, and most lines of subtitles that point at frames.
    pub key_segments: usize,
    /// Most frames that are shown because a chosen line of subtitles is spoken over them.
    pub subtitle_frames: usize,
    /// Which answers of the second round are taken.
    pub accept: Accept,
    /// How chains are drawn, at temperature 1 and top_p 0.5 unless given (the paper adds `top_k = 5`). `skill` is that of
    /// open questions, which get one plain answer.
    #[serde(flatten)]
    pub draw: Draw,
}

impl Default for CyberVSettings {
    fn default() -> Self {
        CyberVSettings {
            samples: 8,
            threshold: 0.3,
            signals: None,
            evidence: EvidenceBy::Auto,
            key_segments: 5,
            subtitle_frames: 10,
            accept: Accept::AmongFirst,
            draw: Draw::default(),
        }
    }
}

/// The account of one answer, in its trace.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CyberVLog {
    /// What was sensed of each response, the direct one first.
    pub sensed: Vec<Sensed>,
    /// Whether probabilities are shares of the vote, for want of log-probabilities.
    pub shares: bool,
    /// Score of each response.
    pub scores: Vec<f64>,
    /// S(best).
    pub best_sum: f64,
    /// The best answer of the first round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<String>,
    /// Whether there was a second round.
    pub triggered: bool,
    /// How its segments were chosen; negative numbers count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranked: Option<Ranked>,
    /// The answer of the second round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second: Option<String>,
    /// Whether it was taken.
    pub accepted: bool,
    /// What is missing of the method, and what failed.
    pub notes: Vec<String>,
    /// Tokens written by each response, forced answer included.
    pub written: Vec<u64>,
    /// Tokens of the prompts of the direct answer and of the chains, each once.
    pub read: [u64; 2],
    /// What the first round cost, without attention.
    pub first_usage: Usage,
    /// What looking inside cost.
    pub attention_usage: Usage,
    /// What choosing segments cost, where that took calls.
    pub ranking_usage: Usage,
    /// What the second round cost.
    pub second_usage: Usage,
    /// Tokens that calls read again which go on with a text, in the first and second round.
    pub reread: [u64; 2],
}

impl CyberVLog {
    /// The account in a trace; `None` for another strategy.
    pub fn of(trace: &Trace) -> Option<CyberVLog> {
        trace.nodes.iter().rev().find_map(|node| match &node.kind {
            NodeKind::Decided { data, .. } => serde_json::from_value(data.get("cyberv")?.clone()).ok(),
            _ => None,
        })
    }
}

/// One response of the first round.
pub(crate) struct Response {
    /// Everything that the assistant said.
    pub text: String,
    /// The same without the forced answer: what shows that a server ignores the temperature.
    pub thought: String,
    /// What it answered to.
    pub messages: Vec<Message>,
    pub answer: Option<String>,
    /// The call that wrote the answer's token.
    pub last: Option<Completion>,
    pub node: Option<NodeId>,
}

/// One direct answer (greedy, only the letter) and N − 1 chains, each ended by a forced final answer (greedy). Each response
/// i has a score in [0, 1], the mean of five signals:
///
/// s1 = prob_i, the probability of its answer's token (10⁻⁴ without one); s2 = 0 if (prob_i − prob_1)/prob_1 < −0.5, else
/// 1; s3 = 0 if a text of 15 characters or more comes back five times; s4 = 0 if drift_i < −0.1, where drift_i = Σ over
/// segments of (A_i − A_1) and A is the attention of the answer's token in the last layer, mean over heads; s5 = rank_i / N.
///
/// S(y) sums the scores of the responses that answer y. If S(best) > N θ the best answer stands. Else the segments with the
/// most negative Σ over chains of (A_i − A_1), which the chains have lost from sight, are shown again at full resolution
/// behind a new chain (at most five, none from 0 on; chosen lines of subtitles stand for their frames), and the model
/// rechecks its thinking. Its answer is taken only if the first round has it too (with N = 2: any); else the
/// highest-scored response with the best answer stands. There is one such round.
///
/// Helps where the first look at long evidence is coarse: frames of a video, pages, passages (`elenchus_task::evidence`
/// says what the segments of a problem are). Without segments, or where nothing was lost from sight, the first round
/// decides. An open question gets one plain answer. No answer found weighs nothing, while in the released code it competes.
///
/// Where attention cannot be seen (any endpoint), s4 is left out, the other four weigh 0.25 each, and segments are chosen
/// by a relevance call or by leaving them out; without log-probabilities prob_i is the share of the vote and s2 = 1. The
/// trace names what is missing.
///
/// Costs 2 requests and N − 1 forced answers, and in the second round 2 chains with forced answers (plus one call for
/// relevance, or one for each segment); attention takes one more pass over each response.
#[derive(Debug, Clone)]
pub struct CyberV {
    settings: CyberVSettings,
}

impl CyberV {
    /// Errors: [`ControlError::Setting`].
    pub fn new(settings: CyberVSettings) -> Result<Self, ControlError> {
        let wrong =
            |field: &str, problem: String, hint: &str| Err(ControlError::setting(NAME, field, problem, hint));
        if !(2..=1000).contains(&settings.samples) {
            return wrong(
                "samples",
                format!("{} is out of range", settings.samples),
                "a direct answer and at least one chain: 2 to 1000",
            );
        }
        if !(0.0..=1.0).contains(&settings.threshold) {
            return wrong(
                "threshold",
                format!("{} is out of range", settings.threshold),
                "0 never corrects, 1 always",
            );
        }
        if settings.signals.as_ref().is_some_and(Vec::is_empty) {
            return wrong("signals", "is empty".into(), "name at least one, or leave it out");
        }
        if settings.key_segments == 0 {
            return wrong(
                "key_segments",
                "0 shows nothing".into(),
                "use `evidence = \"nothing\"` to show nothing",
            );
        }
        let settings = CyberVSettings { draw: settings.draw.clone().or_sampling(1.0, 0.5), ..settings };
        settings.draw.check(NAME)?;
        Ok(CyberV { settings })
    }

    /// The signals in use with this model.
    fn signals(&self, attention: bool) -> Vec<Signal> {
        match &self.settings.signals {
            Some(named) => named.clone(),
            None => Signal::ALL.into_iter().filter(|&s| attention || s != Signal::Attention).collect(),
        }
    }

    fn chain_span(&self, place: Place<'_>, opener: &Injection, temperature: Option<f32>, round: u64) -> Span {
        let draw = &self.settings.draw;
        let label = format!("cyberv\0{}\0{}\0{round}", place.problem.task, place.problem.id);
        let mut sampling = draw.sampling(true, place.context.seed_for(&label, draw.seed));
        if let Some(temperature) = temperature {
            sampling.temperature = temperature;
        }
        // The final answer is forced, with words that are the same for all.
        sampling.stop.push(opener.text.trim().to_string());
        Span { sampling, logprobs: LogprobDetail::Offered }
    }

    /// One direct answer and N − 1 chains with forced answers.
    async fn first_round(
        &self,
        trail: &mut Trail,
        place: Place<'_>,
        stage: NodeId,
        opener: &Injection,
        log: &mut CyberVLog,
    ) -> Result<Vec<Response>, ControlError> {
        let Place { context, task, problem } = place;
        let detail = probability_detail(&context.model(ACTOR).capabilities());
        let direct = GenerateRequest {
            sampling: Sampling { temperature: 0.0, max_tokens: ANSWER_TOKENS, ..Sampling::default() },
            logprobs: detail,
            ..GenerateRequest::new(context.prompt(ACTOR, "direct", &PromptSlots::new(problem))?)
        };
        let drawn = ask(trail, context, task, problem, ACTOR, Some(stage), &direct).await?;
        let mut responses = Vec::with_capacity(self.settings.samples);
        for (candidate, node) in drawn.candidates.into_iter().zip(drawn.nodes).take(1) {
            log.written.push(candidate.completion.usage.completion_tokens);
            log.read[0] = candidate.completion.usage.prompt_tokens;
            responses.push(Response {
                text: candidate.completion.text.clone(),
                thought: String::new(),
                messages: direct.messages.clone(),
                answer: candidate.answer,
                last: Some(candidate.completion),
                node: Some(node),
            });
        }
        let dialogue = context.prompt(ACTOR, "think", &PromptSlots::new(problem))?;
        let start = Continuation::begin(context, ACTOR, problem, dialogue.clone(), Some(stage))?;
        let span = self.chain_span(place, opener, None, 1);
        let mut chains = start.branch(trail, context, self.settings.samples - 1, &span).await?;
        log.read[1] = chains.iter().map(|chain| chain.spending().usage.prompt_tokens).sum();
        let thoughts: Vec<String> = chains.iter().map(Continuation::text).collect();
        let texts = chains.iter_mut().collect();
        let forced = Continuation::force_answers(trail, context, texts, opener, ANSWER_TOKENS, detail).await;
        for ((chain, thought), forced) in chains.into_iter().zip(thoughts).zip(forced) {
            let failed = match forced {
                Ok(()) => None,
                Err(error @ (GenerateError::Unavailable { .. } | GenerateError::Budget { .. })) => {
                    trail.failed(chain.node(), error.to_string());
                    log.notes.push(format!("a forced answer failed: {}", first_line(&error)));
                    Some(())
                }
                Err(error) => return Err(error.into()),
            };
            let answer = if failed.is_some() { None } else { task.extract(problem, &chain.final_text()) };
            let last = chain.node().and_then(|node| trail.completion(node)).cloned();
            log.written.push(chain.spending().generated_tokens + chain.spending().injected_tokens);
            log.reread[0] += chain.spending().reread_tokens;
            responses.push(Response {
                text: chain.text(),
                thought,
                messages: dialogue.clone(),
                answer,
                last: last.filter(|_| failed.is_none()),
                node: chain.node(),
            });
        }
        Ok(responses)
    }

    /// A new chain, the key segments, a recheck with its forced answer. `Err` says in words why there is none.
    async fn second_round(
        &self,
        trail: &mut Trail,
        place: Place<'_>,
        stage: NodeId,
        opener: &Injection,
        shown: Option<(&Stream, &[usize])>,
        log: &mut CyberVLog,
    ) -> Result<Result<Continuation, String>, ControlError> {
        let Place { context, problem, .. } = place;
        let detail = probability_detail(&context.model(ACTOR).capabilities());
        let span = self.chain_span(place, opener, Some(SECOND_TEMPERATURE), 2);
        let dialogue = context.prompt(ACTOR, "think", &PromptSlots::new(problem))?;
        let mut chain = Continuation::begin(context, ACTOR, problem, dialogue.clone(), Some(stage))?;
        if let Err(error) = chain.generate(trail, context, &span).await {
            return given_up(trail, stage, error);
        }
        let dialogue = recheck_dialogue(place, dialogue, &chain.text(), shown)?;
        let mut recheck = Continuation::begin(context, ACTOR, problem, dialogue, Some(stage))?;
        let outcome = match recheck.generate(trail, context, &span).await {
            Ok(()) => recheck.force_answer(trail, context, opener, ANSWER_TOKENS, detail).await,
            Err(error) => Err(error),
        };
        log.second_usage = chain.spending().usage + recheck.spending().usage;
        log.reread[1] = recheck.spending().reread_tokens;
        match outcome {
            Ok(()) => Ok(Ok(recheck)),
            Err(error) => given_up(trail, stage, error),
        }
    }
}

/// Failures of the other side and an exhausted budget end the second round; anything else is an error.
fn given_up<T>(
    trail: &mut Trail,
    stage: NodeId,
    error: ControlError,
) -> Result<Result<T, String>, ControlError> {
    match error {
        ControlError::Generate(
            error @ (GenerateError::Unavailable { .. } | GenerateError::Budget { .. }),
        ) => {
            trail.failed(Some(stage), error.to_string());
            Ok(Err(first_line(&error)))
        }
        error => Err(error),
    }
}

fn first_line(error: &GenerateError) -> String {
    error.to_string().lines().next().unwrap_or_default().to_string()
}

/// What the model reads before it rechecks: the problem, its chain, and the key segments at full resolution. Without any,
/// it is only told to think again.
fn recheck_dialogue(
    place: Place<'_>,
    mut dialogue: Vec<Message>,
    chain: &str,
    shown: Option<(&Stream, &[usize])>,
) -> Result<Vec<Message>, ControlError> {
    let Place { context, problem, .. } = place;
    let mut slots = PromptSlots::new(problem).solution(chain);
    if context.voice_of(ACTOR) == Voice::Compact {
        let Some((stream, chosen)) = shown else { return Ok(context.prompt(ACTOR, "again", &slots)?) };
        slots.extra.insert("segments".into(), json!(stream.compact(chosen)));
        return Ok(context.prompt(ACTOR, "recheck", &slots)?);
    }
    dialogue.push(Message::assistant(chain));
    let Some((stream, chosen)) = shown else {
        dialogue.push(Message::user(context.insert(ACTOR, "reflect", &slots)?));
        return Ok(dialogue);
    };
    let mut parts = stream.shown(problem, chosen);
    parts.push(ContentPart::text(context.insert(ACTOR, "recheck", &slots)?));
    dialogue.push(Message { content: Some(Content::Parts(parts)), ..Message::user("") });
    Ok(dialogue)
}

#[async_trait]
impl Strategy for CyberV {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "scores a direct answer and chains by five signals; a low sum shows the lost evidence again and rechecks"
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
        let needs =
            RoleNeeds { score: self.settings.evidence == EvidenceBy::LeaveOneOut, ..RoleNeeds::new(ACTOR) };
        Needs { oracle: self.settings.evidence == EvidenceBy::Needed, ..Needs::role(needs) }
    }

    fn minimum(&self) -> Minimum {
        let samples = self.settings.samples as u64;
        Minimum { calls: 1 + samples, tokens: 2 + 2 * samples }
    }

    fn estimate(&self, input: &EstimateInput) -> Estimate {
        let n = self.settings.samples as u64;
        let EstimateInput { prompt_tokens: p, completion_tokens: c } = *input;
        // Forced answers are some 4 tokens; each reads prompt and chain again.
        let first = (2 * p + (n - 1) * (p + c), (n - 1) * (c + 4) + 4);
        let second = if self.settings.threshold > 0.0 { (4 * p + 5 * c, 2 * c + 4) } else { (0, 0) };
        Estimate {
            usage: Usage {
                calls: 1 + n + if self.settings.threshold > 0.0 { 3 } else { 0 },
                prompt_tokens: first.0 + second.0,
                completion_tokens: first.1 + second.1,
                ..Usage::default()
            },
            formula: format!(
                "at most 1 + n + 3 calls, (n + 5)p + (n + 4)c read and (n + 1)c written, n = {n}; key segments, a relevance \
                 call, leaving segments out (one pass each) and looking inside (one pass for each response) come on top"
            ),
        }
    }

    fn check(&self, context: &Context) -> Result<(), ControlError> {
        let model = context.model(ACTOR);
        let lacks = |what: &str, hint: &str| {
            Err(ControlError::Capability {
                strategy: NAME.into(),
                role: ACTOR.into(),
                what: what.into(),
                hint: hint.into(),
            })
        };
        let wants_attention = self.settings.evidence == EvidenceBy::Attention
            || self.settings.signals.as_ref().is_some_and(|named| named.contains(&Signal::Attention));
        if wants_attention && !model.capabilities().latent {
            return lacks(
                "attention",
                "leave `evidence` and `signals` out: then the form without attention is used, and the trace says so",
            );
        }
        if self.settings.evidence == EvidenceBy::Relevance && context.voice_of(ACTOR) == Voice::Compact {
            return lacks("a reply in words to which segments matter", "use `evidence = \"leave_one_out\"`");
        }
        Ok(())
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
        if problem.options.is_empty() {
            let request = settings.draw.request(context, problem, 1, false, LogprobDetail::Offered, 0)?;
            let drawn = ask(&mut trail, context, task, problem, ACTOR, None, &request).await?;
            trail.decided(
                None,
                "an open question: one plain answer",
                drawn.nodes.first().copied(),
                json!({}),
            );
            let one = drawn.candidates.into_iter().next();
            let (text, answer) = one.map(|one| (one.completion.text, one.answer)).unwrap_or_default();
            let silent =
                answer.is_none().then(|| "the response has no answer that the task can extract".to_string());
            return Ok(trail.answer(text, answer, None, Vec::new(), silent));
        }
        let mut log = CyberVLog::default();
        let opener = Injection::of(context, ACTOR, problem, "final_answer", Purpose::Opener)?;
        let stage = trail.stage(None, "first round");
        let responses = self.first_round(&mut trail, place, stage, &opener, &mut log).await?;
        log.first_usage = trail.usage();
        let stream = match Stream::of(problem) {
            Ok(stream) => Some(stream),
            Err(error) => {
                log.notes.push(error.to_string().lines().next().unwrap_or_default().to_string());
                None
            }
        };
        let visible = context.model(ACTOR).capabilities().latent;
        let attention = match &stream {
            Some(stream) if visible => {
                attention_of(&mut trail, place, stage, &responses, stream, &mut log).await?
            }
            _ => vec![None; responses.len()],
        };
        let signals = self.signals(visible && stream.is_some());
        if !signals.contains(&Signal::Attention) && settings.signals.is_none() {
            log.notes.push("attention cannot be seen: four signals of 0.25 each".into());
        }
        log.sensed = sense(&responses, attention, &mut log.shares, |left, right| {
            task.equivalent(problem, left, right)
        });
        if log.shares {
            log.notes
                .push("no log-probabilities: probabilities are shares of the vote, and none can fall".into());
        }
        let equivalent = |left: &str, right: &str| task.equivalent(problem, left, right);
        let forest = Forest::of(&log.sensed, &signals, log.shares, equivalent);
        log.scores.clone_from(&forest.scores);
        log.best_sum = forest.best_sum();
        let answers: Vec<Option<&str>> = responses.iter().map(|one| one.answer.as_deref()).collect();
        let votes = forest.vote.table(&answers);
        log.first = forest.representative.and_then(|best| responses[best].answer.clone());
        let limit = responses.len() as f64 * settings.threshold;
        let chains: Vec<&str> = responses.iter().skip(1).map(|one| one.thought.as_str()).collect();
        let identical = all_identical(&chains);
        let mut chosen = forest.representative.map(|best| {
            let one = &responses[best];
            (one.text.clone(), one.answer.clone(), one.node)
        });
        let mut decision = if forest.accepts(settings.threshold) {
            format!("accepted in the first round: {:.3} > {limit:.3}", log.best_sum)
        } else {
            log.triggered = true;
            let stage = trail.stage(None, "second round");
            let rechecked =
                self.correct(&mut trail, place, stage, &opener, stream.as_ref(), &mut log).await?;
            match rechecked {
                Ok(recheck) => {
                    let text = recheck.final_text();
                    log.second = task.extract(problem, &text);
                    let known = |answer: &String| {
                        answers.iter().flatten().any(|first| task.equivalent(problem, first, answer))
                    };
                    let any = settings.accept == Accept::Any || responses.len() == 2;
                    log.accepted = log.second.as_ref().is_some_and(|answer| any || known(answer));
                    if log.accepted {
                        chosen = Some((text, log.second.clone(), recheck.node()));
                        "the second round's answer is taken".to_string()
                    } else if responses.len() == 2 && log.second.is_none() {
                        // The chain in front of the direct answer.
                        let fallback = responses.iter().rev().find(|one| one.answer.is_some());
                        chosen = fallback.map(|one| (one.text.clone(), one.answer.clone(), one.node));
                        "the second round has no answer: the first round's chain, else its direct answer"
                            .to_string()
                    } else {
                        match &log.second {
                            None => "the second round has no answer: the first round's best stands".into(),
                            Some(_) => {
                                "no response of the first round has the second one's answer: its best stands"
                                    .into()
                            }
                        }
                    }
                }
                Err(why) => {
                    log.notes.push(why.clone());
                    format!("no second round ({why}): the first round's best stands")
                }
            }
        };
        if identical {
            decision.push_str("; all chains are identical");
        }
        let node = chosen.as_ref().and_then(|(_, _, node)| *node);
        let confidence = (log.best_sum / responses.len().max(1) as f64).clamp(0.0, 1.0);
        let confidence = (!log.triggered).then_some(confidence);
        trail.decided(None, decision, node, json!({ "cyberv": log }));
        match chosen {
            Some((text, answer, _)) => Ok(trail.answer(text, answer, confidence, votes, None)),
            None => {
                let reason = format!(
                    "none of the {} responses has an answer that the task can extract",
                    responses.len()
                );
                let text = responses.first().map(|one| one.text.clone()).unwrap_or_default();
                Ok(trail.answer(text, None, None, votes, Some(reason)))
            }
        }
    }
}

impl CyberV {
    /// Chooses segments and rechecks with them.
    async fn correct(
        &self,
        trail: &mut Trail,
        place: Place<'_>,
        stage: NodeId,
        opener: &Injection,
        stream: Option<&Stream>,
        log: &mut CyberVLog,
    ) -> Result<Result<Continuation, String>, ControlError> {
        let Some(stream) = stream else {
            return Ok(Err("the problem has no segments to show again".into()));
        };
        if self.settings.evidence == EvidenceBy::Nothing {
            return self.second_round(trail, place, stage, opener, None, log).await;
        }
        let limits =
            KeyLimits { segments: self.settings.key_segments, by_subtitle: self.settings.subtitle_frames };
        let ranked = match rank(trail, place, stage, self.settings.evidence, stream, limits, log).await {
            Ok(ranked) => ranked,
            Err(error) => return given_up(trail, stage, error),
        };
        let chosen = ranked.chosen.clone();
        log.ranked = Some(ranked);
        if chosen.is_empty() {
            return Ok(Err("no evidence was lost from sight".into()));
        }
        self.second_round(trail, place, stage, opener, Some((stream, &chosen)), log).await
    }
}

/// The signals' raw material. Without log-probabilities of any answer, probabilities are shares of the vote.
fn sense(
    responses: &[Response],
    attention: Vec<Option<Vec<f64>>>,
    shares: &mut bool,
    equivalent: impl FnMut(&str, &str) -> bool,
) -> Vec<Sensed> {
    let read: Vec<Option<f64>> =
        responses.iter().map(|one| answer_probability(one.last.as_ref()?, one.answer.as_deref()?)).collect();
    *shares = responses.iter().any(|one| one.answer.is_some()) && read.iter().all(Option::is_none);
    let answers: Vec<Option<&str>> = responses.iter().map(|one| one.answer.as_deref()).collect();
    let vote = crate::majority(&answers, equivalent);
    let share = |index: usize| {
        let group = vote.groups.of[index]?;
        Some(vote.counts[group] as f64 / responses.len() as f64)
    };
    responses
        .iter()
        .zip(attention)
        .enumerate()
        .map(|(index, (one, attention))| Sensed {
            answer: one.answer.clone(),
            probability: if *shares { share(index) } else { read[index] }.unwrap_or(LEAST_PROBABILITY),
            repeats: repeats(&one.text),
            attention,
        })
        .collect()
}

#[cfg(test)]
#[path = "cyberv_tests.rs"]
mod tests;
