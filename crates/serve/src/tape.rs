//! The calls of a recipe, kept with its trace: so that it can be run again from any stage without making the earlier calls
//! again.

use crate::chat::ChoiceReport;
use crate::choose::PLAIN;
use async_trait::async_trait;
use elenchus_generate::{
    Capabilities, GenerateError, GenerateRequest, LanguageModel, LatentReading, LatentRequest, LogprobDetail,
    ScoreRequest, Scored, StreamEvent, replay_stream,
};
use elenchus_trace::{Completion, FinishReason, Message, NodeId, NodeKind, Trace, Usage};
use futures::StreamExt;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Longest reply whose statistics of tokens are kept: judges are read by them. Those of long texts are many times the text.
const MOST_TOKENS: usize = 32;
/// A greedy model would write a rejected text again: it is sampled at this temperature then.
pub(crate) const ANOTHER_TEMPERATURE: f32 = 0.6;

/// A call and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Call {
    /// Hash of role and request.
    key: String,
    /// Hash of the messages.
    prompt: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    completions: Vec<Completion>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    scored: Vec<Scored>,
    /// Whether statistics of tokens that the recipe asked for are left out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    cut: bool,
    /// The messages, in the store only where no node of the trace holds them: those that an evaluator sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    messages: Vec<Message>,
}

fn hash<T: Serialize>(parts: &T) -> String {
    // As it is written, because a request may be large.
    let mut hasher = blake3::Hasher::new();
    // Requests are texts and numbers and always serialize.
    let _ = serde_json::to_writer(&mut hasher, parts);
    hasher.finalize().to_hex()[..32].to_string()
}

impl Call {
    /// A request with what came of it.
    fn of(key: String, request: &GenerateRequest, completions: &[Completion]) -> Self {
        let slimmed = completions.iter().map(|completion| slim(completion.clone(), request.logprobs));
        let (completions, cut): (Vec<Completion>, Vec<bool>) = slimmed.unzip();
        let prompt = prompt_hash(&request.messages);
        let cut = cut.contains(&true);
        Call { key, prompt, completions, scored: Vec::new(), cut, messages: Vec::new() }
    }
}

fn prompt_hash(messages: &[Message]) -> String {
    hash(&messages)
}

/// A completion for the store, and whether something that was asked for had to be left out.
fn slim(mut completion: Completion, detail: LogprobDetail) -> (Completion, bool) {
    let tokens = completion.logprobs.len().max(completion.distributions.len());
    let wanted = !matches!(detail, LogprobDetail::None | LogprobDetail::Offered);
    let cut = tokens > MOST_TOKENS || (tokens > 0 && !wanted);
    completion.token_ids = Vec::new();
    completion.extra.remove("response");
    if cut {
        completion.token_texts = Vec::new();
        completion.logprobs = Vec::new();
        completion.top = Vec::new();
        completion.distributions = Vec::new();
        completion.vocabulary = None;
    }
    (completion, cut && wanted)
}

/// What is run again: the calls of a trace up to one, and another text in the place of one of its replies.
#[derive(Debug)]
pub(crate) struct Replay {
    calls: Vec<Call>,
    /// The calls of each key that were not given yet.
    waiting: Mutex<HashMap<String, VecDeque<usize>>>,
    /// Call and sample that are edited.
    edited: (usize, usize),
    /// The new text; absent, the model writes another one.
    text: Option<String>,
}

impl Replay {
    /// Errors with why the stage cannot be the beginning.
    pub fn new(trace: &Trace, calls: Vec<Call>, stage: u32, text: Option<String>) -> Result<Self, String> {
        let edited = *places(trace, &calls)
            .get(stage as usize)
            .ok_or_else(|| format!("the trace has no stage {stage}"))?
            .as_ref()
            .map_err(ToString::to_string)?;
        check_kept(&calls, edited)?;
        let mut waiting: HashMap<String, VecDeque<usize>> = HashMap::new();
        for (index, call) in calls.iter().enumerate().take(edited.0 + 1) {
            waiting.entry(call.key.clone()).or_default().push_back(index);
        }
        Ok(Replay { calls, waiting: Mutex::new(waiting), edited, text })
    }

    fn take(&self, key: &str) -> Option<usize> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).get_mut(key)?.pop_front()
    }

    /// What was said before, which costs nothing again.
    async fn completions(
        &self,
        index: usize,
        inner: &dyn LanguageModel,
        request: &GenerateRequest,
    ) -> Result<Vec<Completion>, GenerateError> {
        let mut completions = self.calls[index].completions.clone();
        for completion in &mut completions {
            completion.usage = Usage::default();
        }
        let (call, sample) = self.edited;
        if index != call {
            return Ok(completions);
        }
        let Some(place) = completions.get_mut(sample) else { return Ok(completions) };
        match &self.text {
            Some(text) => *place = Completion::text(text),
            None => {
                let mut another = GenerateRequest { samples: 1, ..request.clone() };
                another.sampling.seed ^= 0x9e37_79b9_7f4a_7c15;
                another.sampling.temperature = another.sampling.temperature.max(ANOTHER_TEMPERATURE);
                if let Some(fresh) = inner.generate(&another).await?.into_iter().next() {
                    *place = fresh;
                }
            }
        }
        Ok(completions)
    }
}

/// Call and sample.
type Place = (usize, usize);

/// Whether all that was decided before a call can be decided again.
fn check_kept(calls: &[Call], (call, _): Place) -> Result<(), String> {
    match calls[..=call].iter().any(|call| call.cut) {
        true => {
            Err("the recipe decides by statistics of tokens, and those of long texts are not kept".into())
        }
        false => Ok(()),
    }
}

/// For each stage, why nothing can be run again from there; `None` where it can.
pub(crate) fn fixed(trace: &Trace, calls: &[Call]) -> Vec<Option<String>> {
    if calls.is_empty() {
        return trace
            .nodes
            .iter()
            .map(|node| without_calls(trace, &node.kind).err().map(str::to_string))
            .collect();
    }
    let why = |(stage, place): (usize, Result<Place, &'static str>)| match (&trace.nodes[stage].kind, place) {
        (NodeKind::Decided { .. }, _) => choices(trace, stage as u32).err().map(str::to_string),
        (_, Ok(place)) => check_kept(calls, place).err(),
        (_, Err(why)) => Some(why.to_string()),
    };
    places(trace, calls).into_iter().enumerate().map(why).collect()
}

/// Whether a request whose calls are not kept can be made again: one that asked a model once, without a recipe.
///
/// # Errors
/// Why not.
pub(crate) fn without_calls(trace: &Trace, kind: &NodeKind) -> Result<(), &'static str> {
    match (trace.strategy.as_str(), kind) {
        (PLAIN | "completions", NodeKind::Generated { .. } | NodeKind::Failed { .. }) => Ok(()),
        (PLAIN | "completions", _) => Err("it is no answer of the model"),
        ("embeddings", _) => Err("embeddings are numbers, and no text that could be another one"),
        _ => Err("no recipe ran here whose calls are kept, so nothing follows from it"),
    }
}

/// The responses that a decision could have taken instead.
///
/// # Errors
/// Why it cannot be another one.
pub(crate) fn choices(trace: &Trace, stage: u32) -> Result<Vec<NodeId>, &'static str> {
    let (before, behind) = trace.nodes.split_at((stage as usize + 1).min(trace.nodes.len()));
    if behind.iter().any(|node| !matches!(node.kind, NodeKind::Stage { .. })) {
        return Err(
            "what came after this decision followed from it by the rules of the recipe; the last one can be another, \
                    and so can the texts before it",
        );
    }
    let taken = match before.last().map(|node| &node.kind) {
        Some(NodeKind::Decided { chosen, .. }) => *chosen,
        _ => return Err("it is no decision"),
    };
    let has_text = |node: &NodeKind| match node {
        NodeKind::Generated { completion, .. } => {
            !completion.text.trim().is_empty()
                || completion.message.as_ref().is_some_and(|message| !message.tool_calls.is_empty())
        }
        _ => false,
    };
    let all = (0..stage).map(NodeId).filter(|id| trace.node(*id).is_some_and(|node| has_text(&node.kind)));
    let others: Vec<NodeId> = all.filter(|id| Some(*id) != taken).collect();
    match others.is_empty() {
        true => Err("there was nothing else to choose"),
        false => Ok(others),
    }
}

/// What a critic was told that said what stands at a stage.
pub(crate) fn critics_prompt(trace: &Trace, calls: &[Call], stage: u32) -> Option<Vec<Message>> {
    let (call, _) = places(trace, calls).into_iter().nth(stage as usize)?.ok()?;
    let call = &calls[call];
    if !call.messages.is_empty() {
        return Some(call.messages.clone());
    }
    trace.nodes.iter().find_map(|node| match &node.kind {
        NodeKind::Generated { prompt, .. } if prompt_hash(prompt) == call.prompt => Some(prompt.clone()),
        _ => None,
    })
}

/// Call and sample of each stage: of a response by prompt and text, of a critique by its text; or why it has none.
fn places(trace: &Trace, calls: &[Call]) -> Vec<Result<Place, &'static str>> {
    let mut free: HashSet<Place> = HashSet::new();
    for (index, call) in calls.iter().enumerate() {
        free.extend((0..call.completions.len()).map(|sample| (index, sample)));
    }
    let mut take = |fits: &dyn Fn(&Call, &Completion) -> bool| {
        let found = calls.iter().enumerate().find_map(|(index, call)| {
            let mut samples = call.completions.iter().enumerate();
            let (sample, _) =
                samples.find(|(sample, said)| free.contains(&(index, *sample)) && fits(call, said))?;
            Some((index, sample))
        });
        found.inspect(|place| {
            free.remove(place);
        })
    };
    // Further samples of one request share its prompt.
    let mut prompts: HashMap<(Option<NodeId>, &str), String> = HashMap::new();
    let nobody = "it is no text that a model wrote for this trace";
    let mut places: Vec<Result<Place, &'static str>> = vec![Err(nobody); trace.nodes.len()];
    for (node, found) in trace.nodes.iter().zip(&mut places) {
        let NodeKind::Generated { role, prompt, completion, .. } = &node.kind else { continue };
        if !prompt.is_empty() {
            prompts.insert((node.parent, role), prompt_hash(prompt));
        }
        let Some(asked) = prompts.get(&(node.parent, role.as_str())) else { continue };
        let place = take(&|call, said| call.prompt == *asked && said.text == completion.text);
        *found = place.ok_or(nobody);
    }
    // What evaluators were told has no node of its own.
    for (node, found) in trace.nodes.iter().zip(&mut places) {
        let NodeKind::Evaluated { feedback, .. } = &node.kind else { continue };
        let Some(text) = feedback.text.as_deref().map(str::trim).filter(|text| !text.is_empty()) else {
            *found = Err("it is no text that could be edited, only a score");
            continue;
        };
        *found = take(&|_, said| said.text.trim() == text).ok_or(nobody);
    }
    places
}

/// The calls of one run, as they are made.
#[derive(Debug, Default)]
pub(crate) struct Tape {
    made: Mutex<Made>,
    replay: Option<Replay>,
}

#[derive(Debug, Default)]
struct Made {
    /// Without their messages.
    calls: Vec<Option<Call>>,
    /// The messages by their hash: the samples of a recipe share them, and they may be large.
    prompts: HashMap<String, Vec<Message>>,
}

impl Tape {
    pub fn new(replay: Option<Replay>) -> Self {
        Tape { made: Mutex::default(), replay }
    }

    /// The calls for the store, beside the trace that they belong to.
    pub fn kept(&self, trace: &Trace) -> Vec<Call> {
        let prompts = trace.nodes.iter().filter_map(|node| match &node.kind {
            NodeKind::Generated { prompt, .. } if !prompt.is_empty() => Some(prompt_hash(prompt)),
            _ => None,
        });
        let held: HashSet<String> = prompts.collect();
        let mut calls = self.calls();
        let made = self.made();
        for call in calls.iter_mut().filter(|call| !held.contains(&call.prompt)) {
            call.messages = made.prompts.get(&call.prompt).cloned().unwrap_or_default();
        }
        calls
    }

    /// The calls that were answered, in the order in which they were begun, without their messages.
    pub fn calls(&self) -> Vec<Call> {
        self.made().calls.iter().flatten().cloned().collect()
    }

    fn made(&self) -> MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The call of the trace that is run again, where this is one of its calls.
    fn known(&self, key: &str) -> Option<(&Replay, usize)> {
        let replay = self.replay.as_ref()?;
        Some((replay, replay.take(key)?))
    }

    fn begin(&self) -> usize {
        let mut made = self.made();
        made.calls.push(None);
        made.calls.len() - 1
    }

    fn end(&self, place: usize, call: Call, messages: &[Message]) {
        let mut made = self.made();
        if !made.prompts.contains_key(&call.prompt) {
            made.prompts.insert(call.prompt.clone(), messages.to_vec());
        }
        if let Some(slot) = made.calls.get_mut(place) {
            *slot = Some(call);
        }
    }
}

/// The part of a stored trace that holds its calls; they stand beside its nodes.
pub(crate) fn calls_of(trace: &str) -> Vec<Call> {
    #[derive(Deserialize)]
    struct Kept {
        #[serde(default)]
        calls: Vec<Call>,
    }
    serde_json::from_str::<Kept>(trace).map(|kept| kept.calls).unwrap_or_default()
}

/// A trace for the store.
#[derive(Serialize)]
pub(crate) struct Kept<'a> {
    #[serde(flatten)]
    pub trace: &'a Trace,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<Call>,
    /// What was said of the answer when it was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub given: Option<&'a ChoiceReport>,
}

/// The part of a stored trace that says what was told of its answer.
pub(crate) fn given_of(trace: &str) -> Option<ChoiceReport> {
    #[derive(Deserialize)]
    struct Kept {
        #[serde(default)]
        given: Option<ChoiceReport>,
    }
    serde_json::from_str::<Kept>(trace).ok()?.given
}

/// A model in a role whose calls are kept, and given from what was kept before where they are the same.
pub(crate) struct Taped {
    inner: Arc<dyn LanguageModel>,
    role: String,
    tape: Arc<Tape>,
}

impl Taped {
    pub fn around(inner: Arc<dyn LanguageModel>, role: &str, tape: &Arc<Tape>) -> Arc<dyn LanguageModel> {
        Arc::new(Taped { inner, role: role.into(), tape: Arc::clone(tape) })
    }

    fn key(&self, request: &GenerateRequest) -> String {
        hash(&("generate", &self.role, request))
    }
}

#[async_trait]
impl LanguageModel for Taped {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn fingerprint(&self) -> String {
        self.inner.fingerprint()
    }

    fn count_tokens(&self, text: &str) -> u64 {
        self.inner.count_tokens(text)
    }

    fn price(&self) -> Option<elenchus_trace::Price> {
        self.inner.price()
    }

    fn host(&self) -> Option<String> {
        self.inner.host()
    }

    async fn generate(&self, request: &GenerateRequest) -> Result<Vec<Completion>, GenerateError> {
        let key = self.key(request);
        let place = self.tape.begin();
        let completions = match self.tape.known(&key) {
            Some((replay, index)) => replay.completions(index, self.inner.as_ref(), request).await?,
            None => self.inner.generate(request).await?,
        };
        self.tape.end(place, Call::of(key, request, &completions), &request.messages);
        Ok(completions)
    }

    async fn stream(
        &self,
        request: &GenerateRequest,
    ) -> Result<BoxStream<'static, Result<StreamEvent, GenerateError>>, GenerateError> {
        // The same call, however its answer comes.
        let key = self.key(request);
        let place = self.tape.begin();
        if let Some((replay, index)) = self.tape.known(&key) {
            let completions = replay.completions(index, self.inner.as_ref(), request).await?;
            self.tape.end(place, Call::of(key, request, &completions), &request.messages);
            return Ok(replay_stream(completions));
        }
        let inner = self.inner.stream(request).await?;
        let (tape, request) = (Arc::clone(&self.tape), request.clone());
        let mut seen: BTreeMap<usize, Completion> = BTreeMap::new();
        let taped = inner.inspect(move |event| {
            let Ok(StreamEvent::Done { index, completion }) = event else { return };
            // One that broke off is no answer that could be given again.
            if completion.finish != FinishReason::Interrupted {
                seen.insert(*index, completion.as_ref().clone());
            }
            if seen.len() == request.samples {
                let completions: Vec<Completion> = seen.values().cloned().collect();
                tape.end(place, Call::of(key.clone(), &request, &completions), &request.messages);
            }
        });
        Ok(taped.boxed())
    }

    async fn score(&self, request: &ScoreRequest) -> Result<Vec<Scored>, GenerateError> {
        let key = hash(&("score", &self.role, request));
        let place = self.tape.begin();
        let scored = match self.tape.known(&key) {
            Some((replay, index)) => {
                let free = |scored: &Scored| Scored { usage: Usage::default(), ..scored.clone() };
                replay.calls[index].scored.iter().map(free).collect()
            }
            None => self.inner.score(request).await?,
        };
        let long = |scored: &Scored| scored.logprobs.len() > MOST_TOKENS || !scored.distributions.is_empty();
        let cut = scored.iter().any(long);
        let prompt = prompt_hash(&request.messages);
        let kept = if cut { Vec::new() } else { scored.clone() };
        let (completions, messages) = (Vec::new(), Vec::new());
        self.tape.end(
            place,
            Call { key, prompt, completions, scored: kept, cut, messages },
            &request.messages,
        );
        Ok(scored)
    }

    async fn latent(&self, request: &LatentRequest) -> Result<LatentReading, GenerateError> {
        self.inner.latent(request).await
    }

    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, GenerateError> {
        self.inner.embed(texts).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use elenchus_generate::Scripted;
    use elenchus_trace::{Feedback, Node, Problem};

    fn request(text: &str, samples: usize) -> GenerateRequest {
        GenerateRequest { samples, ..GenerateRequest::new(vec![Message::user(text)]) }
    }

    fn texts(completions: &[Completion]) -> Vec<&str> {
        completions.iter().map(|completion| completion.text.as_str()).collect()
    }

    fn node(kind: NodeKind) -> Node {
        Node { parent: None, kind, started_ms: 0.0, elapsed_ms: 0.0, usage: Usage::default() }
    }

    /// A trace of two responses and a critique of the first, and its tape.
    async fn recorded() -> (Trace, Vec<Call>) {
        let tape = Arc::new(Tape::default());
        let model = Scripted::new("m").on("Solve", ["one", "two"]).on("Check", ["a critique"]).shared();
        let actor = Taped::around(model.clone(), "actor", &tape);
        let critic = Taped::around(model, "critic", &tape);
        let drawn = actor.generate(&request("Solve", 2)).await.unwrap();
        critic.generate(&request("Check one", 1)).await.unwrap();
        let mut trace = Trace::new("t", "s", Problem::new("p", "task", "Q"));
        for (index, completion) in drawn.iter().enumerate() {
            let prompt = if index == 0 { vec![Message::user("Solve")] } else { Vec::new() };
            let (role, model) = ("actor".into(), "m".into());
            trace.push(node(NodeKind::Generated {
                role,
                model,
                prompt,
                completion: Box::new(completion.clone()),
            }));
        }
        let feedback = Feedback { text: Some("a critique".into()), ..Feedback::score("critic", 0.0) };
        trace.push(node(NodeKind::Evaluated { of: NodeId(0), feedback: Box::new(feedback) }));
        trace.push(node(NodeKind::Stage { name: "end".into() }));
        let kept =
            serde_json::to_string(&Kept { trace: &trace, calls: tape.kept(&trace), given: None }).unwrap();
        assert_eq!(Trace::from_json(&kept).unwrap(), trace, "the calls do not disturb who reads the trace");
        (trace, calls_of(&kept))
    }

    #[tokio::test]
    async fn what_came_before_is_given_again_and_what_comes_after_is_asked() {
        let (trace, calls) = recorded().await;
        let model = Scripted::always(["new"]).shared();
        let replay = Replay::new(&trace, calls.clone(), 1, Some("edited".into())).unwrap();
        let tape = Arc::new(Tape::new(Some(replay)));
        let actor = Taped::around(model.clone(), "actor", &tape);
        let critic = Taped::around(model.clone(), "critic", &tape);
        let drawn = actor.generate(&request("Solve", 2)).await.unwrap();
        assert_eq!(texts(&drawn), ["one", "edited"]);
        assert_eq!(drawn[0].usage, Usage::default(), "paid for already");
        assert_eq!(model.calls(), 0);
        let critique = critic.generate(&request("Check one", 1)).await.unwrap();
        assert_eq!((texts(&critique), model.calls()), (vec!["new"], 1), "behind the edited stage all is new");
        assert_eq!(tape.calls().len(), 2, "and the new run can be run again");

        let replay = Replay::new(&trace, calls, 2, Some("another critique".into())).unwrap();
        let critic = Taped::around(model, "critic", &Arc::new(Tape::new(Some(replay))));
        assert_eq!(texts(&critic.generate(&request("Check one", 1)).await.unwrap()), ["another critique"]);
    }

    #[tokio::test]
    async fn a_rejected_text_is_written_anew_and_the_others_stay() {
        let (trace, calls) = recorded().await;
        let model = Scripted::always(["fresh"]).shared();
        let replay = Replay::new(&trace, calls, 0, None).unwrap();
        let actor = Taped::around(model.clone(), "actor", &Arc::new(Tape::new(Some(replay))));
        let wanted = request("Solve", 2);
        assert_eq!(texts(&actor.generate(&wanted).await.unwrap()), ["fresh", "two"]);
        let asked = &model.requests()[0];
        assert_eq!(asked.samples, 1);
        assert_ne!(asked.sampling.seed, wanted.sampling.seed);
    }

    #[tokio::test]
    async fn what_no_model_wrote_or_tokens_decided_is_refused() {
        let (trace, mut calls) = recorded().await;
        for (stage, why) in [(3, "no text"), (99, "no stage")] {
            assert!(Replay::new(&trace, calls.clone(), stage, None).unwrap_err().contains(why));
        }
        calls[0].cut = true;
        assert!(Replay::new(&trace, calls, 1, None).unwrap_err().contains("statistics"));
        let mut long = Completion::text("x");
        long.logprobs = vec![-0.1; MOST_TOKENS + 1];
        assert!(slim(long.clone(), LogprobDetail::Chosen).1 && !slim(long.clone(), LogprobDetail::Offered).1);
        long.logprobs.truncate(1);
        assert_eq!(
            slim(long.clone(), LogprobDetail::Chosen),
            (long, false),
            "a judge's letter keeps its probability"
        );
    }
}
