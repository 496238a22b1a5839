//! Arms side by side at equal tokens: how one response is chosen among several, differences, tables.

use super::Seed;
use super::arms::{Kept, Kind, Plan};
use crate::RecipeError;
use crate::reproduce::pool::{credit, mean};
use crate::reproduce::wider;
use elenchus_control::majority;
use elenchus_measure::{Bootstrap, Cell, Interval, Table, over_seeds};

/// The responses of one arm under one model seed, with the probability that the judge gives each.
pub(super) struct Drawn {
    pub(super) responses: Vec<Vec<Kept>>,
    pub(super) judged: Vec<Vec<f64>>,
}

/// How one of several responses is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Choice {
    Vote,
    Judge,
    Likelihood,
    /// Any: the upper line.
    Pass,
}

/// Credit of a choice among the first `count` responses to a question.
pub(super) fn chosen(drawn: &Drawn, q: usize, count: usize, choice: Choice) -> f64 {
    let list = &drawn.responses[q][..count.min(drawn.responses[q].len())];
    let best = |score: &dyn Fn(usize) -> Option<f64>| -> f64 {
        let mut best: Option<(f64, bool)> = None;
        for (i, kept) in list.iter().enumerate().filter(|(_, kept)| kept.answer.is_some()) {
            if let Some(score) = score(i)
                && best.is_none_or(|(highest, _)| score > highest)
            {
                best = Some((score, kept.right));
            }
        }
        best.map_or(0.0, |(_, right)| credit(right))
    };
    match choice {
        Choice::Vote => {
            let answers: Vec<Option<&str>> = list.iter().map(|kept| kept.answer.as_deref()).collect();
            let tied = majority(&answers, |left, right| left == right).tied();
            mean(&tied.iter().map(|&i| credit(list[i].right)).collect::<Vec<_>>())
        }
        Choice::Judge => best(&|i| drawn.judged[q].get(i).copied()),
        Choice::Likelihood => best(&|i| list[i].logprob),
        Choice::Pass => credit(list.iter().any(|kept| kept.right)),
    }
}

/// The smallest number of responses to a question that cost at least so many tokens; all where they do not suffice.
pub(super) fn enough(list: &[Kept], tokens: u64) -> usize {
    let mut sum = 0;
    for (i, kept) in list.iter().enumerate() {
        sum += kept.tokens;
        if sum >= tokens {
            return i + 1;
        }
    }
    list.len()
}

/// Everything that the findings look at, per seed and question.
pub(super) struct View<'a> {
    pub(super) plans: Vec<Plan>,
    pub(super) seeds: &'a [Seed],
    pub(super) reference: usize,
    pub(super) hard: Vec<bool>,
    pub(super) bootstrap: Bootstrap,
}

impl View<'_> {
    pub(super) fn arm(&self, kind: Kind) -> Option<usize> {
        self.plans.iter().position(|plan| plan.kind == kind)
    }

    /// Responses of an arm that cost at least as much as the reference arm's first `size`.
    pub(super) fn count(&self, seed: &Seed, arm: usize, q: usize, size: usize) -> usize {
        if arm == self.reference {
            return size;
        }
        let spent = seed.arms[self.reference].responses[q].iter().take(size).map(|kept| kept.tokens).sum();
        enough(&seed.arms[arm].responses[q], spent)
    }

    /// Credit by seed and question.
    pub(super) fn rows(&self, arm: usize, size: usize, choice: Choice) -> Vec<Vec<f64>> {
        self.seeds
            .iter()
            .map(|seed| {
                (0..self.hard.len())
                    .map(|q| chosen(&seed.arms[arm], q, self.count(seed, arm, q, size), choice))
                    .collect()
            })
            .collect()
    }

    /// The mean over the questions of one half, or all, with the wider interval.
    pub(super) fn mean(
        &self,
        rows: &[Vec<f64>],
        half: Option<bool>,
    ) -> Result<Option<Interval>, RecipeError> {
        let kept: Vec<Vec<f64>> = rows
            .iter()
            .map(|row| {
                row.iter()
                    .zip(&self.hard)
                    .filter(|(_, hard)| half.is_none_or(|h| h == **hard))
                    .map(|(v, _)| *v)
            })
            .map(Iterator::collect)
            .collect();
        if kept.iter().any(Vec::is_empty) {
            return Ok(None);
        }
        Ok(Some(wider(&over_seeds(&kept, &self.bootstrap)?)))
    }

    /// One arm's credit minus another's.
    pub(super) fn difference(
        &self,
        [left, right]: [usize; 2],
        size: usize,
        choice: Choice,
        half: Option<bool>,
    ) -> Result<Option<Interval>, RecipeError> {
        let (left, right) = (self.rows(left, size, choice), self.rows(right, size, choice));
        let rows: Vec<Vec<f64>> =
            left.iter().zip(&right).map(|(l, r)| l.iter().zip(r).map(|(l, r)| l - r).collect()).collect();
        self.mean(&rows, half)
    }

    /// Credit over all questions and seeds.
    pub(super) fn value(&self, arm: usize, size: usize, choice: Choice) -> f64 {
        mean(&self.rows(arm, size, choice).concat())
    }
}

/// All arms at the tokens of the reference arm's first `size` responses.
pub(super) fn arms_at(view: &View<'_>, size: usize) -> Result<Table, RecipeError> {
    let mut table = Table::new(
        format!("At the tokens of {size} response(s)"),
        ["arm", "vote", "best by judge", "best by likelihood", "any right", "responses", "tokens written", "tokens read"],
    )
    .note("Tokens written: generated and injected, per question. Tokens read: prompts and responses so far, without a prefix cache.");
    for (arm, plan) in view.plans.iter().enumerate() {
        let cell = |choice| -> Result<Cell, RecipeError> {
            let found = view.mean(&view.rows(arm, size, choice), None)?;
            Ok(found.map_or(Cell::Text("–".into()), Cell::PercentInterval))
        };
        let spent = |of: &dyn Fn(&Kept) -> f64| -> f64 {
            let per: Vec<f64> = view
                .seeds
                .iter()
                .flat_map(|seed| {
                    (0..view.hard.len()).map(move |q| {
                        let count = view.count(seed, arm, q, size);
                        seed.arms[arm].responses[q].iter().take(count).map(of).sum()
                    })
                })
                .collect();
            mean(&per)
        };
        table = table.row([
            Cell::Text(plan.name.clone()),
            cell(Choice::Vote)?,
            cell(Choice::Judge)?,
            cell(Choice::Likelihood)?,
            cell(Choice::Pass)?,
            Cell::Number(spent(&|_| 1.0), 1),
            Cell::Number(spent(&|kept| kept.tokens as f64), 1),
            Cell::Number(spent(&|kept| kept.read as f64), 1),
        ]);
    }
    Ok(table)
}

/// The largest size, by difficulty.
pub(super) fn halves(view: &View<'_>, size: usize) -> Result<Table, RecipeError> {
    let mut table = Table::new(
        format!("By difficulty, at the tokens of {size} responses"),
        ["arm", "vote, easy", "vote, hard", "judge, easy", "judge, hard"],
    )
    .note("Hard: more operations than the median problem.");
    for (arm, plan) in view.plans.iter().enumerate() {
        let mut row = vec![Cell::Text(plan.name.clone())];
        for choice in [Choice::Vote, Choice::Judge] {
            let rows = view.rows(arm, size, choice);
            for half in [false, true] {
                let found = view.mean(&rows, Some(half))?;
                row.push(found.map_or(Cell::Text("–".into()), Cell::PercentInterval));
            }
        }
        table = table.row(row);
    }
    Ok(table)
}

/// What single responses are like.
pub(super) fn responses(view: &View<'_>) -> Result<Table, RecipeError> {
    let mut table = Table::new(
        "Single responses",
        ["arm", "right", "tokens written", "tokens read", "triggers", "forced answers"],
    )
    .note("Mean over all responses drawn. Without answer or cut counts as wrong.");
    for (arm, plan) in view.plans.iter().enumerate() {
        let rows: Vec<Vec<f64>> = view
            .seeds
            .iter()
            .map(|seed| {
                let right =
                    |list: &Vec<Kept>| mean(&list.iter().map(|k| credit(k.right)).collect::<Vec<_>>());
                seed.arms[arm].responses.iter().map(right).collect()
            })
            .collect();
        let all: Vec<&Kept> =
            view.seeds.iter().flat_map(|seed| seed.arms[arm].responses.iter().flatten()).collect();
        let average = |of: &dyn Fn(&Kept) -> f64| mean(&all.iter().map(|kept| of(kept)).collect::<Vec<_>>());
        let right = view.mean(&rows, None)?;
        table = table.row([
            Cell::Text(plan.name.clone()),
            right.map_or(Cell::Text("–".into()), Cell::PercentInterval),
            Cell::Number(average(&|kept| kept.tokens as f64), 1),
            Cell::Number(average(&|kept| kept.read as f64), 1),
            Cell::Number(average(&|kept| kept.triggers as f64), 2),
            Cell::Number(average(&|kept| credit(kept.forced)), 3),
        ]);
    }
    Ok(table)
}
