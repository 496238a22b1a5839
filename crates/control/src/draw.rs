//! Drawing responses from the actor; shared by all strategies.

use crate::{ControlError, Trail};
use elenchus_evaluate::Candidate;
use elenchus_generate::{
    ACTOR, Context, GenerateError, GenerateRequest, LiveAnswer, LogprobDetail, Lost, PromptSlots, Sampling,
    StreamEvent,
};
use elenchus_task::Task;
use elenchus_trace::{Completion, FinishReason, Message, NodeId, Problem, nearest};
use futures::StreamExt;
use futures::future::join_all;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the actor's responses are drawn. Part of the settings of every strategy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Draw {
    /// Skill that the actor is asked for: `solve` (with a chain of steps), `direct`, or `asked`: the question as it stands.
    pub skill: String,
    /// Temperature; absent, 0 for strategies that draw one response and 0.6 for those that draw several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// Smallest set of tokens with this probability mass; absent, 1 for one response and 0.9 for several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f32>,
    /// Keep this many of the likeliest tokens; 0 keeps all.
    pub top_k: u32,
    /// Drop tokens below this share of the likeliest one; 0 keeps all.
    pub min_p: f32,
    /// Most tokens of one response.
    pub max_tokens: u32,
    /// Strings that end a response.
    pub stop: Vec<String>,
    /// Another seed draws other responses under the same seed of the run.
    pub seed: u64,
}

impl Default for Draw {
    fn default() -> Self {
        Draw {
            skill: "solve".into(),
            temperature: None,
            top_p: None,
            top_k: 0,
            min_p: 0.0,
            max_tokens: 1024,
            stop: Vec::new(),
            seed: 0,
        }
    }
}

/// Skills whose prompt needs nothing but the problem.
const SKILLS: [&str; 4] = ["solve", "direct", "backward", ASKED];
/// The question as it stands, without a prompt of ours.
const ASKED: &str = "asked";

/// Responses with their place in the trace.
#[derive(Debug, Clone, Default)]
pub struct Sampled {
    /// The responses and their answers.
    pub candidates: Vec<Candidate>,
    /// Their nodes.
    pub nodes: Vec<NodeId>,
    /// Responses that were asked for and did not come; the trace says why.
    pub lost: usize,
}

impl Sampled {
    /// The answers, in order.
    pub fn answers(&self) -> Vec<Option<&str>> {
        self.candidates.iter().map(|candidate| candidate.answer.as_deref()).collect()
    }

    /// The answers as votes: a response that did not come abstains.
    pub fn ballots(&self) -> Vec<Option<&str>> {
        let mut ballots = self.answers();
        ballots.resize(ballots.len() + self.lost, None);
        ballots
    }

    /// The whole responses, in order.
    pub fn texts(&self) -> Vec<&str> {
        self.candidates.iter().map(|candidate| candidate.completion.text.as_str()).collect()
    }

    /// More responses behind these.
    pub fn extend(&mut self, more: Sampled) {
        self.candidates.extend(more.candidates);
        self.nodes.extend(more.nodes);
        self.lost += more.lost;
    }
}

impl Draw {
    /// Errors: [`ControlError::Setting`] for a value out of its range, or a skill that needs more than the problem.
    pub fn check(&self, strategy: &str) -> Result<(), ControlError> {
        let wrong = |field: &str, value: f32, hint: &str| {
            Err(ControlError::setting(strategy, field, format!("{value} is out of range"), hint))
        };
        if let Some(temperature) = self.temperature
            && !(0.0..=10.0).contains(&temperature)
        {
            return wrong(
                "temperature",
                temperature,
                "0 takes the likeliest token always, 1 samples as trained",
            );
        }
        if let Some(top_p) = self.top_p
            && !(top_p > 0.0 && top_p <= 1.0)
        {
            return wrong("top_p", top_p, "above 0 and up to 1");
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            return wrong("min_p", self.min_p, "between 0 and 1");
        }
        if self.max_tokens == 0 {
            return wrong("max_tokens", 0.0, "at least 1");
        }
        if !SKILLS.contains(&self.skill.as_str()) {
            let problem = format!("`{}` is no skill that needs only the problem", self.skill);
            return Err(ControlError::setting(strategy, "skill", problem, nearest(&self.skill, SKILLS)));
        }
        Ok(())
    }

    /// The same with a paper's temperature and top_p where none are given.
    pub(crate) fn or_sampling(mut self, temperature: f32, top_p: f32) -> Self {
        self.temperature.get_or_insert(temperature);
        self.top_p.get_or_insert(top_p);
        self
    }

    /// How tokens are drawn; `several` says which defaults hold.
    pub fn sampling(&self, several: bool, seed: u64) -> Sampling {
        let (temperature, top_p) = if several { (0.6, 0.9) } else { (0.0, 1.0) };
        Sampling {
            temperature: self.temperature.unwrap_or(temperature),
            top_p: self.top_p.unwrap_or(top_p),
            top_k: self.top_k,
            min_p: self.min_p,
            max_tokens: self.max_tokens,
            stop: self.stop.clone(),
            seed,
        }
    }

    /// Whether the question is asked without a prompt of ours.
    pub(crate) fn asks_as_it_stands(&self, problem: &Problem) -> bool {
        problem.wants_form() || self.skill == ASKED
    }

    /// The request for `samples` responses. `offset` counts the responses of this problem that were drawn before.
    ///
    /// Seeds depend on the run, the problem and the setting `seed`, and not on the strategy: strategies that draw the
    /// same number at once draw the same responses, and can be compared on them.
    pub fn request(
        &self,
        context: &Context,
        problem: &Problem,
        samples: usize,
        several: bool,
        detail: LogprobDetail,
        offset: usize,
    ) -> Result<GenerateRequest, ControlError> {
        let label = format!("draw\0{}\0{}\0{}\0{offset}", problem.task, problem.id, self.skill);
        // Who wants JSON or calls of tools has said how the answer shall look; our own prompt would say otherwise.
        let messages = match self.asks_as_it_stands(problem) {
            true if problem.history.is_empty() => vec![Message::user(&problem.question)],
            true => problem.history.clone(),
            false => context.prompt(ACTOR, self.skill.as_str(), &PromptSlots::new(problem))?,
        };
        Ok(GenerateRequest {
            samples,
            sampling: self.sampling(several, context.seed_for(&label, self.seed)),
            logprobs: detail,
            extra: problem.wants.clone(),
            ..GenerateRequest::new(messages)
        })
    }
}

/// Asks a role and writes the responses into the trace.
pub(crate) async fn ask(
    trail: &mut Trail,
    context: &Context,
    task: &dyn Task,
    problem: &Problem,
    role: &str,
    parent: Option<NodeId>,
    request: &GenerateRequest,
) -> Result<Sampled, ControlError> {
    let started = trail.now();
    let completions = context.generate(role, request).await?;
    let model = context.model(role).name().to_string();
    let lost = note_lost(trail, parent, &completions);
    let mut sampled = Sampled { lost, ..Sampled::default() };
    for (index, completion) in completions.into_iter().enumerate() {
        // Further samples of one request share its prompt.
        let prompt: Vec<Message> = if index == 0 { request.messages.clone() } else { Vec::new() };
        sampled.nodes.push(trail.generated(parent, role, &model, prompt, &completion, started));
        sampled.candidates.push(Candidate::extract(task, problem, completion));
    }
    Ok(sampled)
}

/// Says in the trace what is missing of the samples of a call; gives their number.
fn note_lost(trail: &mut Trail, parent: Option<NodeId>, completions: &[Completion]) -> usize {
    let Some(Lost { samples, why }) = Lost::of(completions) else { return 0 };
    let all = completions.len() + samples;
    trail.failed(parent, format!("{samples} of {all} responses did not come: {why}"));
    samples
}

/// [`ask`] for the one call whose text is the answer, or as much of it as is known before the call: where somebody listens
/// to the answer, they hear it while it is written.
pub(crate) async fn ask_last(
    trail: &mut Trail,
    context: &Context,
    task: &dyn Task,
    problem: &Problem,
    role: &str,
    parent: Option<NodeId>,
    request: &GenerateRequest,
) -> Result<Sampled, ControlError> {
    let Some(live) = context.live() else {
        return ask(trail, context, task, problem, role, parent, request).await;
    };
    let started = trail.now();
    let (completion, broken) = match hear(context, live, role, request).await? {
        Heard::Whole(completion) => (completion, None),
        Heard::Broken(completion, error) => (completion, Some(error)),
        Heard::Nothing => return ask(trail, context, task, problem, role, parent, request).await,
    };
    let model = context.model(role).name().to_string();
    let node = trail.generated(parent, role, &model, request.messages.clone(), &completion, started);
    match broken {
        Some(error) => Err(error.into()),
        None => {
            let candidates = vec![Candidate::extract(task, problem, *completion)];
            Ok(Sampled { candidates, nodes: vec![node], lost: 0 })
        }
    }
}

/// What came of a call that was told while it was written.
enum Heard {
    Whole(Box<Completion>),
    /// It broke off in the middle, and some of it was told.
    Broken(Box<Completion>, GenerateError),
    /// The model cannot stream, or broke off before anything was told: it can be asked for the whole.
    Nothing,
}

async fn hear(
    context: &Context,
    live: &LiveAnswer,
    role: &str,
    request: &GenerateRequest,
) -> Result<Heard, GenerateError> {
    // What was tried again without success, was refused for its cost or is not wanted any more is not asked for again.
    let or_whole = |error: GenerateError| match error {
        GenerateError::Cancelled
        | GenerateError::Budget { .. }
        | GenerateError::Unavailable { retryable: true, .. } => Err(error),
        _ => Ok(Heard::Nothing),
    };
    let mut stream = match context.stream(role, request).await {
        Ok(stream) => stream,
        Err(error) => return or_whole(error),
    };
    let (mut told, mut written) = (String::new(), None);
    // To its end, behind which the layers of the model count it as done.
    while let Some(event) = stream.next().await {
        match event {
            Ok(StreamEvent::Text { text, .. }) => {
                live.add(&text);
                told.push_str(&text);
            }
            Ok(StreamEvent::Done { completion, .. }) => written = Some(completion),
            Err(error) if told.is_empty() => return or_whole(error),
            // What somebody has read stands in the trace.
            Err(error) => {
                let begun = Completion { finish: FinishReason::Interrupted, ..Completion::text(told) };
                return Ok(Heard::Broken(Box::new(begun), error));
            }
        }
    }
    Ok(match written {
        Some(completion) if completion.finish != FinishReason::Interrupted => Heard::Whole(completion),
        Some(completion) if !told.is_empty() => {
            let note = completion.extra.get("note").and_then(|note| note.as_str());
            let error = GenerateError::Unavailable {
                model: context.model(role).name().into(),
                what: note.unwrap_or("the answer ended in its middle").into(),
                hint: "ask again; the beginning of the answer is in the trace".into(),
                retry_after_seconds: None,
                retryable: false,
            };
            Heard::Broken(completion, error)
        }
        _ => Heard::Nothing,
    })
}

/// The first response: the draft where one is given, which costs nothing, else what the actor writes.
pub(crate) async fn first(
    trail: &mut Trail,
    context: &Context,
    task: &dyn Task,
    problem: &Problem,
    draft: Option<&Completion>,
    request: &GenerateRequest,
) -> Result<Sampled, ControlError> {
    let Some(draft) = draft else { return ask(trail, context, task, problem, ACTOR, None, request).await };
    let draft = Completion { usage: Default::default(), ..draft.clone() };
    let (model, started) = (context.model(ACTOR).name().to_string(), trail.now());
    let node = trail.generated(None, ACTOR, &model, request.messages.clone(), &draft, started);
    Ok(Sampled { candidates: vec![Candidate::extract(task, problem, draft)], nodes: vec![node], lost: 0 })
}

/// Asks a role several things at the same time and writes the replies into the trace, in the order of the requests.
pub(crate) async fn ask_all(
    trail: &mut Trail,
    context: &Context,
    role: &str,
    parent: Option<NodeId>,
    requests: &[GenerateRequest],
) -> Result<Vec<Vec<Completion>>, ControlError> {
    let started = trail.now();
    let replies = join_all(requests.iter().map(|request| context.generate(role, request))).await;
    let model = context.model(role).name().to_string();
    let mut all = Vec::with_capacity(replies.len());
    let mut failed = None;
    for (request, reply) in requests.iter().zip(replies) {
        match reply {
            // What was paid for is in the trace, also when another request failed.
            Ok(completions) => {
                note_lost(trail, parent, &completions);
                for (index, completion) in completions.iter().enumerate() {
                    let prompt = if index == 0 { request.messages.clone() } else { Vec::new() };
                    trail.generated(parent, role, &model, prompt, completion, started);
                }
                all.push(completions);
            }
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(all), |error| Err(error.into()))
}

/// Checks a number of samples.
pub(crate) fn check_samples(strategy: &str, samples: usize) -> Result<(), ControlError> {
    if (1..=100_000).contains(&samples) {
        return Ok(());
    }
    let problem = format!("{samples} is out of range");
    Err(ControlError::setting(strategy, "samples", problem, "between 1 and 100000 samples"))
}
