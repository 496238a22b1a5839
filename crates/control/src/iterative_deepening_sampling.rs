//! Iterative deepening sampling: triggers of self-correction at growing distances within one response (arXiv 2502.05449).

use crate::continuation::{Continuation, Injection, Purpose, Span, Spending};
use crate::place::Place;
use crate::selection::Selection;
use crate::{
    ControlError, ControlKind, Draw, Estimate, EstimateInput, FeedbackLine, GenerateKind, Minimum, Rule,
    Sampled, Strategy, Trail, Triple,
};
use async_trait::async_trait;
use elenchus_evaluate::{Candidate, CandidateSize, Needs, evaluator};
use elenchus_generate::{ACTOR, Context, GenerateError, LogprobDetail};
use elenchus_task::Task;
use elenchus_trace::{Answer, FinishReason, Problem, Usage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

const NAME: &str = "iterative-deepening-sampling";

/// What happens when the model ends its response by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnEnd {
    /// The response stands.
    #[default]
    Stop,
    /// The end is removed, the trigger put in, and the response goes on, until the cap.
    Reflect,
}

/// What is put in when a budget is used up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// The call to rethink from scratch (template `reflect`).
    #[default]
    Reflect,
    /// Words as long that say nothing (template `filler`): a control.
    Filler,
}

/// Settings of `iterative-deepening-sampling`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct IterativeDeepeningSamplingSettings {
    /// Number of responses N.
    pub samples: usize,
    /// Tokens b₀ before the first trigger. For a new model, a quarter of the median length of a failed response.
    pub first_budget: u32,
    /// Factor γ by which the budget grows from trigger to trigger; 1 is a fixed interval.
    pub growth: f64,
    /// What happens when the model ends its response by itself.
    pub on_end: OnEnd,
    /// What is put in.
    pub trigger: Trigger,
    /// Other words for the trigger, in place of the template's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger_text: Option<String>,
    /// Most triggers in one response; absent, as many as fit. With 1, `on_end = "reflect"` and a first budget as large as
    /// the cap, there is one trigger at the end; 0 is plain sampling.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub most_triggers: Option<usize>,
    /// Most tokens of an answer that is forced where the cap is reached or no answer stands behind the last trigger; 0
    /// forces none, and the text is left as it was cut.
    pub answer_tokens: u32,
    /// Evaluator whose highest score chooses among the responses (`evaluators()` lists the names); absent, their answers
    /// are voted on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evaluator: Option<String>,
    /// Settings of that evaluator.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub evaluator_settings: Value,
    /// How responses are drawn; `max_tokens` is the cap on what is written into one response, triggers included.
    #[serde(flatten)]
    pub draw: Draw,
}

impl Default for IterativeDeepeningSamplingSettings {
    fn default() -> Self {
        IterativeDeepeningSamplingSettings {
            samples: 8,
            first_budget: 256,
            growth: 2.0,
            on_end: OnEnd::Stop,
            trigger: Trigger::Reflect,
            trigger_text: None,
            most_triggers: None,
            answer_tokens: 32,
            evaluator: None,
            evaluator_settings: Value::Null,
            draw: Draw::default(),
        }
    }
}

/// The budgets b₀, ⌊γ b₀⌋, ⌊γ ⌊γ b₀⌋⌋, …, in tokens.
///
/// k rounds write b₀ (γᵏ − 1)/(γ − 1) tokens but for the rounding, at most γ/(γ − 1) times the last budget: the early
/// triggers cost little.
pub fn deepening_budgets(first: u32, growth: f64) -> impl Iterator<Item = u32> {
    std::iter::successors(Some(first), move |&budget| {
        // A cast from floating point saturates.
        Some(((f64::from(budget) * growth).floor() as u32).max(1))
    })
}

/// Draws N responses, each in rounds: when a budget of tokens is used up, the response is stopped, a sentence that calls
/// for rethinking is put in, and the same response goes on with a budget γ times as large:
///
/// b₀, γ b₀, γ² b₀, … tokens (each rounded down), as far as the cap `max_tokens` leaves room for; triggers count.
///
/// So triggers are dense early and sparse late, and k rounds write at most γ/(γ − 1) times the last budget. Nothing is
/// thrown away: what was written stays in view. A response that the model ends by itself stands, or, with `on_end =
/// "reflect"`, goes on behind a trigger. Where the cap is reached, or no answer stands behind the last trigger, the answer
/// is forced: the opener of the answer line, and at most `answer_tokens` of the likeliest tokens. Only what stands behind
/// the last trigger counts as a response; the answers are voted on, or the evaluator's highest score chooses. No verifier
/// stops a response early: that would be a choice among rounds with the answer known.
///
/// Helps a model that has learned to find its own errors when told to look, and whose first thoughts often run into one;
/// compare with `self-consistency` at as many tokens. A model that has not learned it is only disturbed. A cut never falls
/// within a word or a number. With `growth = 1` the interval is fixed, with `trigger = "filler"` nothing is said: both
/// are controls.
///
/// Costs, for each response of r rounds, r calls (the first is shared), and every call after the first reads the prompt
/// and the response so far again: `reread_tokens` in the trace; a server that caches prefixes does not compute them anew.
/// Needs a model that continues its own words. Where an endpoint cannot, turns stand in for it: the response so far is an
/// answer, the trigger the user's next message; that is another prompt, and the trace marks it as emulated. Hidden
/// thoughts of reasoning models cannot be continued either way.
#[derive(Debug, Clone)]
pub struct IterativeDeepeningSampling {
    settings: IterativeDeepeningSamplingSettings,
    selection: Selection,
}

/// One response in the making.
struct Sample {
    text: Continuation,
    /// Budget of the next round.
    budget: u32,
    rounds: usize,
    /// Why it is finished.
    stopped: Option<Stopped>,
    forced: bool,
}

/// Why a response got no further round.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stopped {
    /// The model ended it.
    Ended,
    /// There is no room below the cap for a trigger and one more token.
    Cap,
    /// It cannot go on: a tool call, or content withheld.
    Finish(FinishReason),
    /// The last call wrote nothing, and did not end the response either.
    Silent,
    /// The next call failed.
    Failed(String),
}

impl Stopped {
    fn words(&self) -> String {
        match self {
            Stopped::Ended => "ended by itself".into(),
            Stopped::Cap => "the cap is reached".into(),
            Stopped::Finish(reason) => format!("cannot go on: {reason:?}"),
            Stopped::Silent => "a call wrote nothing".into(),
            Stopped::Failed(why) => why.clone(),
        }
    }
}

/// One finished response, for those who choose among responses in their own way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeepenedResponse {
    /// What stands behind the last trigger.
    pub text: String,
    /// Its mean log-probability per token, nats, where the model gives it.
    pub mean_logprob: Option<f64>,
    /// Rounds of generation, a forced answer not counted.
    pub rounds: usize,
    /// Triggers that were put in.
    pub triggers: usize,
    /// Why it got no further round.
    pub stopped: Option<String>,
    /// Whether its answer was forced.
    pub forced: bool,
    /// The answer in each stretch between triggers: how answers change across a trigger is read off here.
    pub answers: Vec<Option<String>>,
    /// What it cost.
    pub spending: Spending,
}

/// The words that are put in, for one problem.
struct Words {
    trigger: Injection,
    opener: Injection,
}

/// The bounds of the next round of a response.
enum Next {
    /// Go on with at most this many tokens.
    Write(u32),
    /// No further round.
    Over(Stopped),
}

impl IterativeDeepeningSampling {
    /// Errors: [`ControlError::Setting`]; [`ControlError::Evaluate`] for an unknown evaluator or a wrong setting of it.
    pub fn new(settings: IterativeDeepeningSamplingSettings) -> Result<Self, ControlError> {
        let IterativeDeepeningSamplingSettings { first_budget, growth, .. } = settings;
        let wrong =
            |field: &str, problem: String, hint: &str| Err(ControlError::setting(NAME, field, problem, hint));
        if first_budget == 0 {
            let hint = "take a quarter of the median length of a failed response";
            return wrong("first_budget", "0 leaves no room".into(), hint);
        }
        if !(1.0..=100.0).contains(&growth) {
            let hint = "1 is a fixed interval; 1.5, 2 and 4 are usual";
            return wrong("growth", format!("{growth} is out of range"), hint);
        }
        if settings.trigger_text.as_deref().is_some_and(|text| text.trim().is_empty()) {
            return wrong("trigger_text", "it is empty".into(), "give a sentence, or leave it out");
        }
        if settings.evaluator.is_none() && !settings.evaluator_settings.is_null() {
            return wrong("evaluator_settings", "there is no evaluator".into(), "name one in `evaluator`");
        }
        let rule = match settings.evaluator {
            Some(_) => Rule::Argmax { allow_unanswered: false },
            None => Rule::Majority,
        };
        let mut selection = Selection::new(NAME, settings.samples, settings.draw.clone(), rule)?;
        if let Some(name) = &settings.evaluator {
            selection = selection.by(name, settings.evaluator_settings.clone())?;
        }
        Ok(IterativeDeepeningSampling { settings, selection })
    }

    /// Draws the responses of one problem without choosing among them, in the budget of `context`.
    pub async fn responses(
        &self,
        context: &Context,
        task: &dyn Task,
        problem: &Problem,
    ) -> Result<Vec<DeepenedResponse>, ControlError> {
        let mut trail = Trail::new(context, NAME, problem);
        let all = self.sample(&mut trail, Place { context, task, problem }).await?;
        Ok(all.iter().map(|sample| self.response(sample, task, problem)).collect())
    }

    /// All rounds of all responses, and the answers that have to be forced.
    async fn sample(&self, trail: &mut Trail, place: Place<'_>) -> Result<Vec<Sample>, ControlError> {
        let detail = self.selection.detail(place.context);
        let words = self.words(place.context, place.problem)?;
        let mut all = self.draw(trail, place, &words, detail).await?;
        self.answer(trail, place, &words, detail, &mut all).await?;
        Ok(all)
    }

    fn response(&self, sample: &Sample, task: &dyn Task, problem: &Problem) -> DeepenedResponse {
        let purpose = self.purpose();
        let completion = sample.text.completion();
        let attempts = sample.text.attempts();
        DeepenedResponse {
            mean_logprob: completion.mean_logprob(),
            text: completion.text,
            rounds: sample.rounds,
            triggers: sample.text.injections(purpose),
            stopped: sample.stopped.as_ref().map(Stopped::words),
            forced: sample.forced,
            answers: attempts.iter().map(|attempt| task.extract(problem, attempt)).collect(),
            spending: sample.text.spending(),
        }
    }

    /// What the words that are put in mean.
    fn purpose(&self) -> Purpose {
        match self.settings.trigger {
            Trigger::Reflect => Purpose::Restart,
            Trigger::Filler => Purpose::Filler,
        }
    }

    fn words(&self, context: &Context, problem: &Problem) -> Result<Words, GenerateError> {
        let purpose = self.purpose();
        let template = match self.settings.trigger {
            Trigger::Reflect => "reflect",
            Trigger::Filler => "filler",
        };
        let trigger = match &self.settings.trigger_text {
            Some(text) => Injection::words(context.voice_of(ACTOR), text, text, purpose),
            None => Injection::of(context, ACTOR, problem, template, purpose)?,
        };
        Ok(Words {
            trigger,
            opener: Injection::of(context, ACTOR, problem, "final_answer", Purpose::Opener)?,
        })
    }

    /// How much the cap leaves.
    fn room(&self, text: &Continuation) -> u32 {
        let used = u32::try_from(text.spending().length()).unwrap_or(u32::MAX);
        self.settings.draw.max_tokens.saturating_sub(used)
    }

    /// Prepares the next round of a response: puts the trigger in where one is due.
    fn next(&self, trail: &mut Trail, context: &Context, words: &Words, sample: &mut Sample) -> Next {
        let text = &mut sample.text;
        let triggers = text.injections(words.trigger.purpose);
        let may_trigger = self.settings.most_triggers.is_none_or(|most| triggers < most);
        let reflects = self.settings.on_end == OnEnd::Reflect && may_trigger;
        match text.finish() {
            Some(FinishReason::Stop) if !reflects => return Next::Over(Stopped::Ended),
            Some(reason) if !text.can_go_on() => return Next::Over(Stopped::Finish(reason.clone())),
            // A server that gives nothing and says that it was cut would be asked for ever.
            Some(FinishReason::Length) if !text.has_news() => return Next::Over(Stopped::Silent),
            _ => {}
        }
        if !may_trigger {
            // Without a trigger the rest of the cap is one round.
            return match self.room(text) {
                0 => Next::Over(Stopped::Cap),
                room => Next::Write(room),
            };
        }
        if u64::from(self.room(text)) <= text.injection_tokens(context, &words.trigger) {
            let ended = text.has_ended();
            return Next::Over(if ended { Stopped::Ended } else { Stopped::Cap });
        }
        // A word longer than the round is written to its end before a trigger is put behind it.
        if text.cut_to_boundary() {
            text.inject(trail, context, &words.trigger);
        }
        Next::Write(sample.budget.min(self.room(text)).max(1))
    }

    fn span(
        &self,
        context: &Context,
        problem: &Problem,
        detail: LogprobDetail,
        [sample, round]: [usize; 2],
        most: u32,
    ) -> Span {
        let label = format!("{NAME}\0{}\0{}\0{sample}\0{round}", problem.task, problem.id);
        let seed = context.seed_for(&label, self.settings.draw.seed);
        let mut sampling = self.settings.draw.sampling(true, seed);
        sampling.max_tokens = most;
        Span { sampling, logprobs: detail }
    }

    /// Draws all responses, round by round; those of one round run at once.
    async fn draw(
        &self,
        trail: &mut Trail,
        place: Place<'_>,
        words: &Words,
        detail: LogprobDetail,
    ) -> Result<Vec<Sample>, ControlError> {
        let Place { context, problem, .. } = place;
        let IterativeDeepeningSamplingSettings { samples, first_budget, growth, draw, .. } = &self.settings;
        let mut budgets = deepening_budgets(*first_budget, *growth);
        let first = budgets.next().unwrap_or(*first_budget);
        let stage = trail.stage(None, "round 1");
        // As other strategies draw their responses: at the same seed, the first words are theirs.
        let request = draw.request(context, problem, *samples, true, detail, 0)?;
        let start = Continuation::begin(context, ACTOR, problem, request.messages, Some(stage))?;
        let mut span = Span { sampling: request.sampling, logprobs: detail };
        span.sampling.max_tokens = first.min(draw.max_tokens);
        let mut all: Vec<Sample> = start
            .branch(trail, context, *samples, &span)
            .await?
            .into_iter()
            .map(|text| Sample { text, budget: 0, rounds: 1, stopped: None, forced: false })
            .collect();
        for (round, budget) in (2usize..).zip(budgets) {
            let mut going: Vec<(usize, u32)> = Vec::new();
            for (index, sample) in all.iter_mut().enumerate().filter(|(_, sample)| sample.stopped.is_none()) {
                sample.budget = budget;
                match self.next(trail, context, words, sample) {
                    Next::Write(most) => going.push((index, most)),
                    Next::Over(why) => sample.stopped = Some(why),
                }
            }
            if going.is_empty() {
                break;
            }
            let spans: Vec<Span> = going
                .iter()
                .map(|&(index, most)| self.span(context, problem, detail, [index, round], most))
                .collect();
            let running =
                all.iter_mut().enumerate().filter(|(index, _)| going.iter().any(|(i, _)| i == index));
            let texts = running.zip(spans).map(|((_, sample), span)| (&mut sample.text, span)).collect();
            let outcomes = Continuation::generate_all(trail, context, texts).await;
            for (&(index, _), outcome) in going.iter().zip(outcomes) {
                all[index].rounds = round;
                all[index].stopped = stands(trail, &all[index].text, outcome)?;
            }
        }
        Ok(all)
    }

    /// Forces the answers that are missing.
    async fn answer(
        &self,
        trail: &mut Trail,
        place: Place<'_>,
        words: &Words,
        detail: LogprobDetail,
        all: &mut [Sample],
    ) -> Result<(), ControlError> {
        let Place { context, task, problem } = place;
        if self.settings.answer_tokens == 0 {
            return Ok(());
        }
        let missing = |sample: &Sample| match sample.stopped {
            Some(Stopped::Cap) => true,
            Some(Stopped::Ended) => task.extract(problem, &sample.text.final_text()).is_none(),
            _ => false,
        };
        let forced: Vec<&mut Sample> = all.iter_mut().filter(|sample| missing(sample)).collect();
        if forced.is_empty() {
            return Ok(());
        }
        let (mut texts, mut flags) = (Vec::new(), Vec::new());
        for Sample { text, forced, stopped, .. } in forced {
            texts.push(text);
            flags.push((forced, stopped));
        }
        let nodes: Vec<_> = texts.iter().map(|text| text.node()).collect();
        let outcomes = Continuation::force_answers(
            trail,
            context,
            texts,
            &words.opener,
            self.settings.answer_tokens,
            detail,
        )
        .await;
        for (((forced, stopped), outcome), node) in flags.into_iter().zip(outcomes).zip(nodes) {
            match outcome {
                Ok(()) => *forced = true,
                Err(error) => *stopped = Some(survived(trail, node, error)?),
            }
        }
        Ok(())
    }
}

/// What a failed call means for its response: the response stands as it is, unless a smaller request would fail too.
fn survived(
    trail: &mut Trail,
    node: Option<elenchus_trace::NodeId>,
    error: GenerateError,
) -> Result<Stopped, ControlError> {
    match error {
        GenerateError::Budget { .. } | GenerateError::Unavailable { .. } => {
            trail.failed(node, error.to_string());
            Ok(Stopped::Failed(error.to_string()))
        }
        error => Err(error.into()),
    }
}

fn stands(
    trail: &mut Trail,
    text: &Continuation,
    outcome: Result<(), GenerateError>,
) -> Result<Option<Stopped>, ControlError> {
    match outcome {
        Ok(()) => Ok(None),
        Err(error) => survived(trail, text.node(), error).map(Some),
    }
}

#[async_trait]
impl Strategy for IterativeDeepeningSampling {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "responses that are told to rethink when a budget of tokens is used up, each budget larger than the last"
    }

    fn triple(&self) -> Triple {
        Triple {
            generate: GenerateKind::HandWritten,
            control: ControlKind::Reinforcement,
            line: Some(FeedbackLine::RefiningIteratively),
            ..self.selection.triple()
        }
    }

    fn needs(&self) -> Needs {
        self.selection.needs()
    }

    fn minimum(&self) -> Minimum {
        // A response may end in its first round.
        Minimum { calls: 1, tokens: 1 + self.settings.samples as u64 }
    }

    fn estimate(&self, input: &EstimateInput) -> Estimate {
        let IterativeDeepeningSamplingSettings { samples, first_budget, growth, draw, answer_tokens, .. } =
            &self.settings;
        let n = *samples as u64;
        // A response is as long as assumed, or up to the cap where its end is removed.
        let cap = u64::from(draw.max_tokens);
        let length = match self.settings.on_end {
            OnEnd::Stop => input.completion_tokens.min(cap),
            OnEnd::Reflect => cap,
        };
        let most = self.settings.most_triggers.map_or(u64::MAX, |most| most as u64);
        let (mut rounds, mut written, mut reread) = (1u64, 0u64, 0u64);
        for budget in deepening_budgets(*first_budget, *growth) {
            written += u64::from(budget);
            if written >= length || rounds > most {
                break;
            }
            rounds += 1;
            reread += input.prompt_tokens + written;
        }
        let forced = u64::from(*answer_tokens > 0);
        let answer = u64::from(*answer_tokens);
        let drawn = Usage {
            calls: 1 + n * (rounds - 1 + forced),
            prompt_tokens: input.prompt_tokens + n * (reread + forced * (input.prompt_tokens + length)),
            completion_tokens: n * (length + answer),
            ..Usage::default()
        };
        let mut formula = format!(
            "at most 1 + N(r - 1 + {forced}) calls, N(c + {answer}) tokens written and, without a prefix cache, p and the \
             response so far read again by each, N = {n}, r = {rounds} rounds of {first_budget} tokens growing by {growth}"
        );
        let judged = self.settings.evaluator.as_ref().and_then(|name| {
            // The name was checked when the strategy was made.
            evaluator(name, self.settings.evaluator_settings.clone()).ok()
        });
        let mut usage = drawn;
        if let Some(evaluator) = judged {
            let cost = evaluator.cost(CandidateSize {
                candidates: n,
                prompt_tokens: input.prompt_tokens,
                completion_tokens: input.completion_tokens,
            });
            formula.push_str(&match cost.calls {
                0 => format!("; `{}` costs nothing", evaluator.name()),
                calls => {
                    format!("; `{}` adds {calls} calls and {} tokens", evaluator.name(), cost.tokens())
                }
            });
            usage = drawn + cost;
        }
        Estimate { usage, formula }
    }

    async fn attempt(
        &self,
        context: &Context,
        task: &dyn Task,
        problem: &Problem,
    ) -> Result<Answer, ControlError> {
        let place = Place { context, task, problem };
        let mut trail = Trail::new(context, NAME, problem);
        let all = self.sample(&mut trail, place).await?;
        let mut drawn = Sampled::default();
        for sample in &all {
            if let Some(node) = sample.text.node() {
                drawn.nodes.push(node);
                drawn.candidates.push(Candidate::extract_forced(task, problem, sample.text.completion()));
            }
        }
        let responses: Vec<DeepenedResponse> =
            all.iter().map(|sample| self.response(sample, task, problem)).collect();
        let spent =
            |field: fn(&Spending) -> u64| -> u64 { responses.iter().map(|r| field(&r.spending)).sum() };
        let shown: Vec<Value> = responses
            .iter()
            .map(|r| {
                json!({
                    "rounds": r.rounds, "triggers": r.triggers, "stopped": r.stopped, "forced": r.forced,
                    "generated_tokens": r.spending.generated_tokens,
                    "injected_tokens": r.spending.injected_tokens,
                    "reread_tokens": r.spending.reread_tokens, "answers": r.answers,
                })
            })
            .collect();
        let data = json!({
            "drawn": all.len(), "of": self.settings.samples,
            "resumption": all.first().map(|sample| sample.text.resumption()),
            "generated_tokens": spent(|s| s.generated_tokens), "injected_tokens": spent(|s| s.injected_tokens),
            "reread_tokens": spent(|s| s.reread_tokens), "responses": shown,
        });
        let feedback = self.selection.judge(&mut trail, place, &drawn, 0).await?;
        Ok(self.selection.conclude(trail, place, &drawn, &feedback, data))
    }
}

#[cfg(test)]
#[path = "iterative_deepening_sampling_tests.rs"]
mod tests;
