//! The arms: how their responses are drawn, and what a trigger does to a response that is cut or has ended.

use super::Settings;
use crate::RecipeError;
use crate::reproduce::Reproduce;
use crate::reproduce::asked::Asked;
use elenchus_control::{
    Continuation, ControlError, DeepenedResponse, Draw, Injection, IterativeDeepeningSampling,
    IterativeDeepeningSamplingSettings, OnEnd, Purpose, Span, Trail, Trigger,
};
use elenchus_generate::{ACTOR, Context, LogprobDetail, PromptSlots, Sampling};
use elenchus_learn::rollouts::mix;
use elenchus_task::{Skill, Split, Task};
use elenchus_trace::Problem;
use serde::{Deserialize, Serialize};

/// What is kept of a response.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) text: String,
    pub(super) answer: Option<String>,
    pub(super) right: bool,
    /// Generated and injected tokens.
    pub(super) tokens: u64,
    pub(super) read: u64,
    pub(super) triggers: usize,
    pub(super) forced: bool,
    pub(super) logprob: Option<f64>,
}

impl Kept {
    fn of(task: &dyn Task, problem: &Problem, response: DeepenedResponse) -> Result<Self, RecipeError> {
        let verdict = task.verify(problem, &response.text).map_err(ControlError::from)?;
        Ok(Kept {
            right: verdict.is_correct(),
            answer: verdict.answer,
            tokens: response.spending.length(),
            read: response.spending.usage.prompt_tokens,
            triggers: response.triggers,
            forced: response.forced,
            logprob: response.mean_logprob,
            text: response.text,
        })
    }
}

/// An arm: how its responses are drawn.
pub(super) struct Plan {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) settings: IterativeDeepeningSamplingSettings,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    Plain,
    AtEnd,
    /// By its growth; 1 is the fixed interval.
    Growing(f64),
    Filler,
}

pub(super) fn plans(settings: &Settings, first: u32) -> Vec<Plan> {
    let most = settings.sizes.iter().copied().max().unwrap_or(1).max(settings.claims_at);
    let base = IterativeDeepeningSamplingSettings {
        samples: most,
        first_budget: first,
        growth: settings.growth,
        answer_tokens: settings.answer_tokens,
        draw: Draw {
            temperature: Some(settings.temperature),
            top_p: Some(1.0),
            max_tokens: settings.cap,
            ..Draw::default()
        },
        ..Default::default()
    };
    let plan = |name: String, kind, change: &dyn Fn(&mut IterativeDeepeningSamplingSettings)| {
        let mut settings = base.clone();
        change(&mut settings);
        Plan { name, kind, settings }
    };
    let mut plans = vec![
        plan("plain samples".into(), Kind::Plain, &|s| {
            (s.samples, s.most_triggers, s.first_budget) = (settings.plain, Some(0), settings.cap);
        }),
        plan("one trigger at the end".into(), Kind::AtEnd, &|s| {
            (s.on_end, s.most_triggers, s.first_budget) = (OnEnd::Reflect, Some(1), settings.cap);
        }),
        plan("fixed interval".into(), Kind::Growing(1.0), &|s| s.growth = 1.0),
    ];
    plans.extend(
        settings
            .growths
            .iter()
            .map(|&g| plan(format!("growth {g}"), Kind::Growing(g), &move |s| s.growth = g)),
    );
    plans.push(plan(format!("filler, growth {}", settings.growth), Kind::Filler, &|s| {
        s.trigger = Trigger::Filler;
    }));
    plans
}

/// What a trigger did to one response.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Crossed {
    /// Cut behind the first budget: right when it simply goes on, behind a trigger, behind a filler.
    pub(super) within: Option<[bool; 3]>,
    /// Ended by itself: right before and behind a trigger.
    pub(super) end: Option<[bool; 2]>,
}

/// One response cut, taken on in three ways from the same point, and reflected on at its end.
pub(super) async fn cross(
    context: &Context,
    task: &dyn Task,
    problem: &Problem,
    settings: &Settings,
    first: u32,
) -> Result<Vec<Crossed>, RecipeError> {
    let injection = |name, purpose| Injection::of(context, ACTOR, problem, name, purpose);
    let trigger = injection("reflect", Purpose::Restart)?;
    let filler = injection("filler", Purpose::Filler)?;
    let span = |what: u64, max_tokens: u32| Span {
        sampling: Sampling {
            temperature: settings.temperature,
            max_tokens,
            seed: context.seed_for(&format!("crossing\0{}", problem.id), what),
            ..Sampling::default()
        },
        logprobs: LogprobDetail::None,
    };
    let right = |text: &Continuation| -> Result<bool, RecipeError> {
        Ok(task.verify(problem, &text.final_text()).map_err(ControlError::from)?.is_correct())
    };
    let mut trail = Trail::new(context, "crossing", problem);
    let dialogue = context.prompt(ACTOR, Skill::Solve, &PromptSlots::new(problem))?;
    let start = Continuation::begin(context, ACTOR, problem, dialogue, None)?;
    let begun = start.branch(&mut trail, context, settings.crossings, &span(0, first)).await?;
    let mut crossed = Vec::with_capacity(begun.len());
    for (index, mut text) in begun.into_iter().enumerate() {
        let place = 10 * (index as u64 + 1);
        let (mut found, mut at_cut) = (Crossed { within: None, end: None }, None);
        if !text.has_ended() {
            if !text.cut_to_boundary() {
                continue;
            }
            at_cut = Some(text.mark());
            text.generate(&mut trail, context, &span(place, settings.cap)).await?;
        }
        let plain = right(&text)?;
        if text.has_ended() {
            let at_end = text.mark();
            text.inject(&mut trail, context, &trigger);
            text.generate(&mut trail, context, &span(place + 1, settings.cap)).await?;
            found.end = Some([plain, right(&text)?]);
            text.rewind(&mut trail, &at_end);
        }
        if let Some(mark) = at_cut {
            let mut behind = [plain; 3];
            for (way, words) in [(1, &trigger), (2, &filler)] {
                text.rewind(&mut trail, &mark);
                text.inject(&mut trail, context, words);
                text.generate(&mut trail, context, &span(place + 1 + way as u64, settings.cap)).await?;
                behind[way] = right(&text)?;
            }
            found.within = Some(behind);
        }
        crossed.push(found);
    }
    Ok(crossed)
}

/// A quarter of the median length of plain responses to validation problems that are wrong.
pub(super) fn first_budget(
    asked: &Asked<'_>,
    settings: &Settings,
    task: &dyn Task,
    input: &Reproduce<'_>,
    label: &str,
) -> Result<u32, RecipeError> {
    let problems = task.problems(Split::Validation, settings.validation, mix(input.seed, 15))?;
    let plans = plans(settings, 1);
    let plain = plans.iter().find(|plan| plan.kind == Kind::Plain).map(|plan| plan.settings.clone());
    let one = IterativeDeepeningSamplingSettings { samples: 1, ..plain.unwrap_or_default() };
    let drawn = draw(asked, task, &problems, &one, label)?;
    let mut lengths: Vec<u64> =
        drawn.iter().flatten().filter(|kept| !kept.right).map(|kept| kept.tokens).collect();
    lengths.sort_unstable();
    let median = lengths.get(lengths.len() / 2).copied().unwrap_or(u64::from(settings.cap));
    Ok(u32::try_from(median / 4).unwrap_or(settings.cap).max(1))
}

pub(super) fn draw(
    asked: &Asked<'_>,
    task: &dyn Task,
    problems: &[Problem],
    settings: &IterativeDeepeningSamplingSettings,
    label: &str,
) -> Result<Vec<Vec<Kept>>, RecipeError> {
    let strategy = &IterativeDeepeningSampling::new(settings.clone())?;
    asked.each(label, problems, |context, problem| async move {
        let responses = strategy.responses(context, task, problem).await?;
        responses.into_iter().map(|response| Kept::of(task, problem, response)).collect()
    })
}
