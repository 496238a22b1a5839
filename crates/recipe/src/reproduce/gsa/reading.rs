//! What teaches a model to read drafts of its own, and to choose one by its number.

use super::arms::texts;
use super::{DRAFTS, Reading};
use crate::RecipeError;
use crate::lab::counter::choice_prompt;
use crate::reproduce::Reproduce;
use crate::reproduce::pool::{Asked, Drawing, Pool, draw};
use elenchus_learn::objective::TrainingRow;
use elenchus_learn::policy::{Policy, text_row};
use elenchus_learn::rollouts::mix;
use elenchus_task::{Skill, Split, Task};

/// Training rows: question to reference and, with equal weight each, question with own drafts to reference and question
/// with own drafts to the number of a right one. The questions alone are the rows of the model without drafts.
pub(super) fn rows(
    input: &Reproduce<'_>,
    policy: &mut dyn Policy,
    tasks: &[&dyn Task],
    reading: &Reading,
    longest: usize,
    label: &str,
) -> Result<[Vec<Vec<TrainingRow>>; 2], RecipeError> {
    let (mut plain, mut with_drafts) = (Vec::new(), Vec::new());
    for (t, task) in tasks.iter().enumerate() {
        let problems = task.problems(Split::Train, reading.questions, mix(input.seed, 60 + t as u64))?;
        let asked: Vec<Asked<'_>> =
            problems.iter().map(|problem| Asked::new(problem, Skill::Solve.prompt(problem, &[]))).collect();
        let seed = mix(input.seed, 70 + t as u64);
        let samples = reading.counts.iter().copied().fold(DRAFTS, usize::max);
        let drawing = Drawing { samples, temperature: 1.0, max_new_tokens: longest, seed };
        let drafts =
            draw(input, policy, *task, &asked, drawing, &format!("{label}/train drafts {}", task.name()))?;
        let mut examples = 0;
        for (problem, pool) in problems.iter().zip(&drafts) {
            let Some(reference) = task.reference(problem) else { continue };
            let solve = text_row(policy, &Skill::Solve.prompt(problem, &[]), &reference)?;
            // Samples have no order, so theirs is random; the reference is a target only and never a draft.
            let shown = reading.counts.get(examples % reading.counts.len().max(1)).copied();
            let prompt = Skill::Aggregate.prompt(problem, &texts(pool, shown.unwrap_or(DRAFTS)));
            plain.push(vec![solve.clone()]);
            with_drafts.push(vec![solve]);
            with_drafts.push(vec![text_row(policy, &prompt, &reference)?]);
            examples += 1;
        }
        for (question, order, target) in choices(&drafts, examples) {
            let shown: Vec<&str> =
                order.iter().map(|&draft| drafts[question].samples[draft].text.as_str()).collect();
            let prompt = choice_prompt(&problems[question], &shown);
            with_drafts.push(vec![text_row(policy, &prompt, &target.to_string())?]);
        }
    }
    Ok([plain, with_drafts])
}

/// `count` examples of choosing: a question with a right draft, an order of its drafts, and the place, from 1, of the first
/// right one. Questions without a right draft teach no choice; the others come again, each time in the next order, so
/// that right drafts stand in all places.
pub(super) fn choices(drafts: &[Pool], count: usize) -> Vec<(usize, Vec<usize>, usize)> {
    let able: Vec<usize> =
        (0..drafts.len()).filter(|&q| drafts[q].samples.iter().take(DRAFTS).any(|s| s.correct)).collect();
    if able.is_empty() {
        return Vec::new();
    }
    (0..count)
        .map(|example| {
            let question = able[example % able.len()];
            let samples = &drafts[question].samples;
            let shown = DRAFTS.min(samples.len());
            let turn = example % able.len() + example / able.len();
            let order: Vec<usize> = (0..shown).map(|place| (place + turn) % shown).collect();
            let right = order.iter().position(|&draft| samples[draft].correct).unwrap_or(0);
            (question, order, right + 1)
        })
        .collect()
}
