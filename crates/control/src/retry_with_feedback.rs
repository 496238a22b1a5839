//! Try again with feedback from somebody who knows the answer (arXiv 2506.11930).

use crate::arrangement::{Arrangement, Kept, OptionExchange};
use crate::attempts::{Account, attempt, budget_over};
use crate::draw::{Sampled, ask, first};
use crate::place::{Place, all_identical};
use crate::{
    ControlError, ControlKind, Draw, Estimate, EstimateInput, EvaluateKind, FeedbackLine, GenerateKind,
    Minimum, Strategy, Trail, Triple,
};
use async_trait::async_trait;
use elenchus_evaluate::{
    Candidate, FeedbackSource, GoldFeedbackInput, Needs, PastAttempt, RoleNeeds, WhyUnsolved,
};
use elenchus_generate::{ACTOR, Context, GenerateRequest, LogprobDetail, PromptSlots, Sampling, Voice};
use elenchus_task::{Skill, Task};
use elenchus_trace::{Answer, Completion, Message, NodeId, NodeKind, Problem, Trace, Usage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

const NAME: &str = "retry-with-feedback";
const JUDGE: &str = "judge";

/// Settings of `retry-with-feedback`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetryWithFeedbackSettings {
    /// Most attempts R, the first one included.
    pub rounds: usize,
    /// Who gives feedback, and how much.
    pub feedback: FeedbackSource,
    /// Attempts that a prompt shows at most: the first one and the latest. The embedded model sees the latest alone.
    pub history: usize,
    /// Temperature rises by this much a round, from 0: T_r = min(step · r, cap). 0 leaves it as the draw says.
    pub temperature_step: f32,
    /// Where the rising temperature stops.
    pub temperature_cap: f32,
    /// From the second attempt on draw so many responses, and take one at random among those whose answer was not tried
    /// yet; 0 draws one and takes it. The paper draws 25.
    pub novelty_samples: usize,
    /// Name the answers that were tried, and the options that are left, in the prompt (chat voice only).
    pub name_tried: bool,
    /// For lettered questions: after each wrong attempt the right option and the one that was chosen change places, which
    /// tells a solver that sticks to a place from one that sticks to what it believes (chat voice only). Two options that
    /// move between attempts give the right one away to whoever compares them, so what is solved then is no measure of
    /// feedback being followed.
    pub exchange_options: bool,
    /// Let the model in role `judge` say of an unsolved problem why it is unsolved (chat voice only).
    pub why_unsolved: bool,
    /// How responses are drawn: greedy unless a temperature is given or rises.
    #[serde(flatten)]
    pub draw: Draw,
}

impl Default for RetryWithFeedbackSettings {
    fn default() -> Self {
        RetryWithFeedbackSettings {
            rounds: 10,
            feedback: FeedbackSource::Critic,
            history: 10,
            temperature_step: 0.0,
            temperature_cap: 1.5,
            novelty_samples: 0,
            name_tried: false,
            exchange_options: false,
            why_unsolved: false,
            draw: Draw::default(),
        }
    }
}

/// T_r = min(`step` · `round`, `cap`), from T_0 = 0.
pub fn rising_temperature(round: usize, step: f32, cap: f32) -> f32 {
    (step * round as f32).min(cap)
}

/// Which samples have an answer that is equivalent to none that was tried.
pub fn novel(
    tried: &[&str],
    samples: &[Option<&str>],
    equivalent: impl Fn(&str, &str) -> bool,
) -> Vec<usize> {
    let fresh = |answer: &str| !tried.iter().any(|old| equivalent(old, answer));
    (0..samples.len()).filter(|&index| samples[index].is_some_and(fresh)).collect()
}

/// What happened between two attempts; stands in the trace, see [`RetryRound::all`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RetryRound {
    /// Round of the attempt that followed, from 1.
    pub round: usize,
    /// Its temperature.
    pub temperature: f32,
    /// The first wrong step of the attempt before it, 0-based, where the task checks steps.
    pub first_wrong: Option<usize>,
    /// Who gave the feedback; absent in traces of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feedback: Option<FeedbackSource>,
    /// Why a model gave none, so that the solver read a bare "wrong".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent: Option<String>,
    /// How often the answer was hidden in the feedback.
    pub hidden: usize,
    /// Whether the attempt gives an answer that was tried before.
    pub repeated: bool,
    /// With novelty sampling: how many samples had an answer that was not tried.
    pub eligible: Option<usize>,
    /// With several samples at a temperature: whether all are the same text, as from a server that ignores temperature.
    pub identical: bool,
    /// Where options change places: which ones did before the attempt, and what it kept. Labels as they were before the
    /// exchange.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange: Option<OptionExchange>,
}

impl RetryRound {
    /// All rounds in a trace, in order.
    pub fn all(trace: &Trace) -> Vec<RetryRound> {
        let of = |kind: &NodeKind| match kind {
            NodeKind::Decided { data, .. } => serde_json::from_value(data.get("retry_round")?.clone()).ok(),
            _ => None,
        };
        trace.nodes.iter().filter_map(|node| of(&node.kind)).collect()
    }
}

/// How the last attempt was judged, which no further round follows; stands in the trace, see [`RetryEnd::of`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryEnd {
    /// Round of the attempt, from 0.
    pub round: usize,
    /// Whether it is right.
    pub right: bool,
    /// Its first wrong step, 0-based, where the task checks steps.
    pub first_wrong: Option<usize>,
}

impl RetryEnd {
    /// The end in a trace; `None` where the budget ended before the last attempt was judged.
    pub fn of(trace: &Trace) -> Option<RetryEnd> {
        trace.nodes.iter().rev().find_map(|node| match &node.kind {
            NodeKind::Decided { data, .. } => serde_json::from_value(data.get("retry_end")?.clone()).ok(),
            _ => None,
        })
    }
}

/// Solves; while the answer is wrong and rounds are left, gives feedback that knows the right answer but hides it, and
/// tries again with all attempts and feedback in view. Measures how far a model follows feedback: an experiment with the
/// answers at hand, no way to answer new questions. A problem that is solved leaves the loop, so the share solved by
/// round r can only rise and no right answer is ever lost.
///
/// Feedback is a bare "wrong" (`binary`), the first wrong step by the task's verifier (`location`), that step with its
/// correction (`step`), or words of the solver (`own`) or of the role `critic` that are shown the right answer. The
/// answer is hidden behind `[masked]` (`_` in the compact voice) and the trace counts how often. Against repeating
/// oneself: a rising temperature, novelty sampling, naming what was tried. Against going by the place of an option:
/// `exchange_options`; the answer is then given by the label in the question as it was put.
///
/// Costs up to R attempts and R − 1 pieces of feedback; those of the verifier cost nothing. In the compact voice the
/// embedded model reads the latest attempt only, with the skills `again` (binary) and `refine`. Needs text only; problems
/// need reference answers.
#[derive(Debug, Clone)]
pub struct RetryWithFeedback {
    settings: RetryWithFeedbackSettings,
}

/// The attempt that stands. Its answer is the label in the problem as it was put.
struct Latest {
    candidate: Candidate,
    node: NodeId,
}

/// What is kept between two attempts.
#[derive(Default)]
struct Course {
    account: Account,
    past: Vec<PastAttempt>,
}

/// How an answer is told by its label alone.
fn labelled(label: &str) -> String {
    format!("Answer: {label}")
}

impl RetryWithFeedback {
    /// Errors: [`ControlError::Setting`].
    pub fn new(settings: RetryWithFeedbackSettings) -> Result<Self, ControlError> {
        let refuse =
            |field: &str, problem: String, hint: &str| Err(ControlError::setting(NAME, field, problem, hint));
        settings.draw.check(NAME)?;
        if !(1..=1000).contains(&settings.rounds) {
            return refuse(
                "rounds",
                format!("{} is out of range", settings.rounds),
                "between 1 and 1000; the paper has 10",
            );
        }
        if settings.history == 0 {
            return refuse("history", "0 shows no attempt".into(), "at least 1, the latest");
        }
        for (field, value) in
            [("temperature_step", settings.temperature_step), ("temperature_cap", settings.temperature_cap)]
        {
            if !(0.0..=10.0).contains(&value) {
                return refuse(
                    field,
                    format!("{value} is out of range"),
                    "between 0 and 10; the paper has 0.15 and 1.5",
                );
            }
        }
        let rises = settings.temperature_step > 0.0;
        if rises && settings.draw.temperature.is_some() {
            let hint = "leave `temperature` out, or set `temperature_step = 0`";
            return refuse("temperature", "a rising temperature starts from 0".into(), hint);
        }
        let warm = rises || settings.draw.temperature.is_some_and(|temperature| temperature > 0.0);
        if settings.novelty_samples > 1 && !warm {
            let hint = "set `temperature_step = 0.15`, or a `temperature`";
            return refuse("novelty_samples", "greedy samples are all the same".into(), hint);
        }
        if settings.novelty_samples > 10_000 {
            return refuse(
                "novelty_samples",
                format!("{} is out of range", settings.novelty_samples),
                "at most 10000",
            );
        }
        Ok(RetryWithFeedback { settings })
    }

    /// What stands in the way of options that change places, before any call: the reason and a hint.
    fn unmovable(&self, task: &dyn Task, problem: &Problem) -> Option<(String, &'static str)> {
        if !self.settings.exchange_options {
            return None;
        }
        let hint = "it is for lettered questions: `--task choice --file FILE`; leave it out for others";
        let label =
            problem.gold.as_ref().filter(|gold| problem.options.iter().any(|option| option.label == **gold));
        let Some(label) = label else {
            return Some((
                format!("problem `{}` has no option with the label of its answer", problem.id),
                hint,
            ));
        };
        let read = task.extract(problem, &labelled(label));
        (read.as_ref() != Some(label)).then(|| (format!("the task `{}` reads no label", problem.task), hint))
    }

    fn sampling(&self, place: Place<'_>, round: usize) -> Sampling {
        let Place { context, problem, .. } = place;
        let draw = &self.settings.draw;
        let label = format!("{NAME}\0{}\0{}\0{}", problem.task, problem.id, draw.seed);
        let mut sampling = draw.sampling(false, context.seed_for(&label, round as u64));
        if self.settings.temperature_step > 0.0 {
            sampling.temperature =
                rising_temperature(round, self.settings.temperature_step, self.settings.temperature_cap);
        }
        sampling
    }

    /// The first attempt and the latest ones, as many as a prompt shows.
    fn shown<'a>(&self, past: &'a [PastAttempt]) -> Vec<&'a PastAttempt> {
        let most = self.settings.history;
        if past.len() <= most {
            return past.iter().collect();
        }
        let latest = past.len() - most.saturating_sub(1).max(1);
        past.iter().take(usize::from(most > 1)).chain(&past[latest..]).collect()
    }

    /// The prompt for another attempt. `place` has the problem as it stands now, `tried` its labels.
    fn prompt(
        &self,
        place: Place<'_>,
        past: &[PastAttempt],
        tried: &[String],
    ) -> Result<Vec<Message>, ControlError> {
        let Place { context, problem, .. } = place;
        let slots = PromptSlots::new(problem);
        if context.voice_of(ACTOR) == Voice::Compact {
            let Some(latest) = past.last() else {
                return Ok(context.prompt(ACTOR, self.settings.draw.skill.as_str(), &slots)?);
            };
            let slots = slots.solution(&latest.text);
            return Ok(match latest.feedback.as_str() {
                "" => context.prompt(ACTOR, Skill::Again, &slots)?,
                critique => context.prompt(ACTOR, Skill::Refine, &slots.critique(critique))?,
            });
        }
        let named = if self.settings.name_tried { tried } else { &[] };
        let left: Vec<&String> = match named.is_empty() {
            true => Vec::new(),
            false => {
                let open = problem.options.iter().map(|option| &option.label);
                open.filter(|label| !named.contains(label)).collect()
            }
        };
        let mut slots = slots;
        slots.extra.insert("attempts".into(), json!(self.shown(past)));
        slots.extra.insert("tried".into(), json!(named));
        slots.extra.insert("left".into(), json!(left));
        slots.extra.insert("exchanged".into(), json!(self.settings.exchange_options));
        Ok(context.prompt(ACTOR, "retry", &slots)?)
    }

    /// One of several samples: at random among those that are new, else among all.
    fn choose(
        &self,
        place: Place<'_>,
        drawn: &Sampled,
        tried: &[&str],
        round: usize,
    ) -> (usize, Option<usize>, bool) {
        let Place { context, task, problem } = place;
        if self.settings.novelty_samples == 0 {
            return (0, None, false);
        }
        let eligible = novel(tried, &drawn.answers(), |left, right| task.equivalent(problem, left, right));
        let texts = drawn.texts();
        let identical = all_identical(&texts);
        let label = format!("{NAME}\0novelty\0{}\0{}", problem.task, problem.id);
        let number = context.seed_for(&label, round as u64);
        let at = |length: usize| (number % length.max(1) as u64) as usize;
        let index = match eligible.as_slice() {
            [] => at(texts.len()),
            some => some[at(some.len())],
        };
        (index, Some(eligible.len()), identical)
    }

    /// Lets the right option and the chosen one change places; nothing where there is no answer, or no option of its label.
    fn exchange(&self, arrangement: &mut Arrangement, latest: &Latest) -> Option<OptionExchange> {
        if !self.settings.exchange_options {
            return None;
        }
        let chosen = arrangement.current(latest.candidate.answer.as_deref()?);
        let right = arrangement.problem().gold.clone()?;
        arrangement.exchange(&right, &chosen).then_some(OptionExchange { right, chosen, kept: None })
    }

    /// Rounds of feedback and another attempt, until one is right; why they ended.
    async fn rounds(
        &self,
        trail: &mut Trail,
        place: Place<'_>,
        latest: &mut Latest,
        arrangement: &mut Arrangement,
        course: &mut Course,
    ) -> Result<String, ControlError> {
        let Place { context, task, problem } = place;
        let Course { account, past } = course;
        for round in 1..=self.settings.rounds {
            let text = latest.candidate.completion.text.clone();
            let verdict = task.verify(arrangement.problem(), &text)?;
            let right = verdict.is_correct();
            if !right {
                let options = &arrangement.problem().options;
                let options = if self.settings.exchange_options { options.clone() } else { Vec::new() };
                past.push(PastAttempt { number: round, text, feedback: String::new(), options });
            }
            if right || round == self.settings.rounds {
                let end = RetryEnd { round: round - 1, right, first_wrong: verdict.first_wrong_step() };
                let said = match right {
                    true => format!("right in round {}", round - 1),
                    false => "the rounds are over".into(),
                };
                trail.decided(Some(latest.node), said.clone(), None, json!({ "retry_end": end }));
                return Ok(said);
            }
            let started = trail.now();
            let input = GoldFeedbackInput {
                context,
                task,
                problem: arrangement.problem(),
                attempts: past,
                verdict: &verdict,
                max_tokens: self.settings.draw.max_tokens,
            };
            let written = self.settings.feedback.write(input).await?;
            trail.evaluated(latest.node, &written.feedback, started);
            if let Some(last) = past.last_mut() {
                last.feedback = written.text;
            }
            let mut exchange = self.exchange(arrangement, latest);
            let posed = arrangement.problem();
            let answers: Vec<String> = account.answers().into_iter().flatten().map(String::from).collect();
            let tried: Vec<&str> = answers.iter().map(String::as_str).collect();
            let tried_now: Vec<String> = tried.iter().map(|label| arrangement.current(label)).collect();
            let sampling = self.sampling(place, round);
            let temperature = sampling.temperature;
            let prompt = self.prompt(Place { problem: posed, ..place }, past, &tried_now)?;
            let request = GenerateRequest {
                samples: self.settings.novelty_samples.max(1),
                sampling,
                logprobs: LogprobDetail::Offered,
                ..GenerateRequest::new(prompt)
            };
            let stage = trail.stage(Some(latest.node), format!("attempt {}", round + 1));
            if arrangement.is_changed() {
                let said = match &exchange {
                    Some(OptionExchange { right, chosen, .. }) => {
                        format!("the options {right} and {chosen} change places")
                    }
                    None => "the options stay where they are".into(),
                };
                trail.decided(Some(stage), said, None, arrangement.data());
            }
            let mut drawn = ask(trail, context, task, posed, ACTOR, Some(stage), &request).await?;
            for answer in drawn.candidates.iter_mut().filter_map(|candidate| candidate.answer.as_mut()) {
                *answer = arrangement.original(answer);
            }
            let (index, eligible, identical) = self.choose(place, &drawn, &tried, round);
            let (Some(candidate), Some(&node)) =
                (drawn.candidates.into_iter().nth(index), drawn.nodes.get(index))
            else {
                return Ok("the model gave no response".into());
            };
            if let Some(OptionExchange { right, chosen, kept }) = &mut exchange {
                let said = candidate.answer.as_deref().map(|answer| arrangement.current(answer));
                *kept = said.and_then(|said| match said {
                    said if said == *chosen => Some(Kept::Label),
                    said if said == *right => Some(Kept::Option),
                    _ => None,
                });
            }
            let again = |answer: &String| tried.iter().any(|old| task.equivalent(problem, old, answer));
            let report = RetryRound {
                round,
                temperature,
                first_wrong: verdict.first_wrong_step(),
                feedback: Some(self.settings.feedback),
                silent: written.feedback.abstained.clone(),
                hidden: written.hidden,
                repeated: candidate.answer.as_ref().is_some_and(again),
                eligible,
                identical,
                exchange,
            };
            let decision = match (&report, eligible) {
                (RetryRound { identical: true, .. }, _) => {
                    "all samples are the same: does the server ignore the temperature?".to_string()
                }
                (_, Some(0)) => "no sample has a new answer".into(),
                (_, Some(count)) => format!("one of {count} samples with a new answer"),
                (RetryRound { repeated: true, .. }, None) => "an answer that was tried before".into(),
                _ => "another attempt".into(),
            };
            trail.decided(Some(stage), decision.clone(), Some(node), json!({ "retry_round": report }));
            let before = latest.candidate.answer.clone();
            let made = attempt(round, Some(node), &candidate, true, decision);
            account.later(trail, task, problem, before.as_deref(), made);
            *latest = Latest { candidate, node };
        }
        Ok("the rounds are over".into())
    }

    /// What the judge says of an unsolved problem.
    async fn ask_why(
        &self,
        trail: &mut Trail,
        place: Place<'_>,
        latest: &Latest,
        past: &[PastAttempt],
    ) -> Result<(), ControlError> {
        let Place { context, task, problem } = place;
        let mut slots = PromptSlots::new(problem).solution(&latest.candidate.completion.text);
        // The last attempt got no feedback any more: it is the last answer.
        let before = &past[..past.len().saturating_sub(1)];
        slots.extra.insert("attempts".into(), json!(self.shown(before)));
        slots.extra.insert("gold".into(), json!(problem.gold));
        let request = GenerateRequest {
            sampling: Sampling { temperature: 0.0, ..self.sampling(place, self.settings.rounds) },
            ..GenerateRequest::new(context.prompt(JUDGE, "why_unsolved", &slots)?)
        };
        let drawn = ask(trail, context, task, problem, JUDGE, Some(latest.node), &request).await?;
        let said = drawn.texts().first().copied().unwrap_or_default();
        let why = WhyUnsolved::parse(said);
        trail.decided(
            drawn.nodes.first().copied(),
            "why it is unsolved",
            None,
            json!({ "why_unsolved": why }),
        );
        Ok(())
    }
}

#[async_trait]
impl Strategy for RetryWithFeedback {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "tries again with feedback that knows the answer and hides it: how far does a model follow? (needs answers)"
    }

    fn triple(&self) -> Triple {
        Triple {
            generate: GenerateKind::ModelGenerated,
            evaluate: match self.settings.feedback {
                FeedbackSource::Own => EvaluateKind::SelfAssessment,
                FeedbackSource::Critic => EvaluateKind::ExternalModel,
                _ => EvaluateKind::Tool,
            },
            control: ControlKind::Reinforcement,
            line: Some(FeedbackLine::RefiningIteratively),
        }
    }

    fn needs(&self) -> Needs {
        let mut needs = Needs { oracle: true, ..Needs::role(RoleNeeds::new(ACTOR)) };
        if self.settings.feedback.asks_a_model() {
            needs = needs.and(Needs::role(RoleNeeds::new(self.settings.feedback.role())));
        }
        if self.settings.why_unsolved {
            needs = needs.and(Needs::role(RoleNeeds::new(JUDGE)));
        }
        needs
    }

    fn minimum(&self) -> Minimum {
        Minimum { calls: 1, tokens: 2 }
    }

    fn check(&self, context: &Context) -> Result<(), ControlError> {
        let RetryWithFeedbackSettings { name_tried, exchange_options, why_unsolved, .. } = self.settings;
        let in_words = [
            ("name_tried", name_tried),
            ("exchange_options", exchange_options),
            ("why_unsolved", why_unsolved),
        ];
        if context.voice_of(ACTOR) == Voice::Compact
            && let Some((field, _)) = in_words.into_iter().find(|(_, wanted)| *wanted)
        {
            let hint = "leave it out, or bind a chat model";
            return Err(ControlError::setting(
                NAME,
                field,
                "the embedded model cannot be told in words",
                hint,
            ));
        }
        Ok(())
    }

    fn estimate(&self, input: &EstimateInput) -> Estimate {
        let rounds = self.settings.rounds as u64;
        let (p, c) = (input.prompt_tokens, input.completion_tokens);
        let samples = self.settings.novelty_samples.max(1) as u64;
        let written = if self.settings.feedback.asks_a_model() { 1 } else { 0 };
        let later = rounds - 1;
        // Attempt r reads the attempts before it and the feedback to them, as many as are shown.
        let read: u64 = (1..=later).map(|r| r.min(self.settings.history as u64) * 2 * c).sum();
        Estimate {
            usage: Usage {
                calls: 1 + later * (1 + written) + u64::from(self.settings.why_unsolved),
                prompt_tokens: p + later * (1 + written) * p + (1 + written) * read,
                completion_tokens: c + later * (samples + written) * c,
                ..Usage::default()
            },
            formula: format!(
                "1 to {rounds} attempts; attempt r reads p and up to r earlier attempts of c with their feedback{}",
                if written == 1 { ", which costs one more call each" } else { ", which costs no call" }
            ),
        }
    }

    fn takes_draft(&self) -> bool {
        true
    }

    async fn attempt(
        &self,
        context: &Context,
        task: &dyn Task,
        problem: &Problem,
    ) -> Result<Answer, ControlError> {
        self.attempt_from(context, task, problem, None).await
    }

    async fn attempt_from(
        &self,
        context: &Context,
        task: &dyn Task,
        problem: &Problem,
        draft: Option<&Completion>,
    ) -> Result<Answer, ControlError> {
        let place = Place { context, task, problem };
        if let Some((what, hint)) = self.settings.feedback.obstacle(context.voice_of(ACTOR), task, problem)? {
            return Err(ControlError::setting(NAME, "feedback", what, hint));
        }
        if let Some((what, hint)) = self.unmovable(task, problem) {
            return Err(ControlError::setting(NAME, "exchange_options", what, hint));
        }
        let mut trail = Trail::new(context, NAME, problem);
        let mut request =
            self.settings.draw.request(context, problem, 1, false, LogprobDetail::Offered, 0)?;
        if self.settings.temperature_step > 0.0 {
            request.sampling.temperature = 0.0;
        }
        let drawn = first(&mut trail, context, task, problem, draft, &request).await?;
        let (Some(candidate), Some(&node)) = (drawn.candidates.into_iter().next(), drawn.nodes.first())
        else {
            return Ok(trail.answer("", None, None, Vec::new(), Some("the model gave no response".into())));
        };
        let mut latest = Latest { candidate, node };
        let mut arrangement = Arrangement::new(problem);
        let mut course = Course::default();
        course.account.first(&trail, Some(node), None, latest.candidate.answer.as_deref());
        let ended = self.rounds(&mut trail, place, &mut latest, &mut arrangement, &mut course).await;
        let stopped = match ended {
            Ok(stopped) => stopped,
            Err(error) => budget_over(&mut trail, Some(latest.node), error)?,
        };
        let Course { account, past } = course;
        let posed = Place { problem: arrangement.problem(), ..place };
        if self.settings.why_unsolved
            && past.len() == self.settings.rounds
            && let Err(error) = self.ask_why(&mut trail, posed, &latest, &past).await
        {
            budget_over(&mut trail, Some(latest.node), error)?;
        }
        account.close(&mut trail, stopped, Some(latest.node));
        let Candidate { completion, answer } = latest.candidate;
        let abstained =
            answer.is_none().then(|| "the last attempt has no answer that the task can extract".to_string());
        // The response names the option by the place that it had then; the asker knows the question as it was put.
        let text = match &answer {
            Some(label) if arrangement.is_changed() => labelled(label),
            _ => completion.text,
        };
        Ok(trail.answer(text, answer, None, Vec::new(), abstained))
    }
}

/// What the judge of unsolved problems said, where it was asked.
pub fn why_unsolved(trace: &Trace) -> Option<WhyUnsolved> {
    trace.nodes.iter().rev().find_map(|node| match &node.kind {
        NodeKind::Decided { data: Value::Object(data), .. } => {
            serde_json::from_value(data.get("why_unsolved")?.clone()).ok()
        }
        _ => None,
    })
}

#[cfg(test)]
#[path = "retry_with_feedback_tests.rs"]
mod tests;
