//! What a person sees of critics, modes, authors and turns.

use super::{Arm, Item, Outcome, PerModel, Settings, right_verdicts};
use crate::RecipeError;
use crate::reproduce::asked::{MeanCost, mean, unit};
use crate::reproduce::resampling::Resampling;
use elenchus_measure::{
    Axis, Cell, Chart, CorrectionQuestion, Dialogue, Interval, Plot, Scale, Series, Table,
    self_correction_intervals,
};
use std::collections::BTreeMap;

/// 2×2 table over right and wrong solutions, with the shares that the paper gives.
fn correction(before: &[bool], after: &[f64]) -> Result<Vec<CorrectionQuestion>, RecipeError> {
    let question = |(&first, &second): (&bool, &f64)| {
        Ok(CorrectionQuestion::from_dialogues(&[Dialogue { first, second: second > 0.5 }])?)
    };
    before.iter().zip(after).map(question).collect()
}

fn share_cell(interval: Option<Interval>, complement: bool) -> Cell {
    interval.map_or(Cell::Missing, |i| Cell::Percent(if complement { 1.0 - i.value } else { i.value }))
}

pub(super) fn critics(items: &[Item], arms: &[Arm], resampling: &Resampling) -> Result<Table, RecipeError> {
    let mut table = Table::new(
        "Cross-critique of recorded solutions, half of them right",
        ["critic", "calls", "tokens", "right verdicts", "right after", "delta", "right kept", "right broken", "wrong repaired"],
    )
    .note("Greedy. Delta: points above the 50 % of the recorded solutions. 95 % intervals over items and models.");
    let before: Vec<bool> = items.iter().map(|item| item.right).collect();
    for arm in arms {
        let firsts: Vec<bool> = before.iter().copied().cycle().take(arm.after.len()).collect();
        let m = self_correction_intervals(&correction(&firsts, &arm.after)?, &resampling.bootstrap)?;
        let parrot: Vec<f64> = firsts.iter().map(|&right| unit(right)).collect();
        let said = right_verdicts(arm, items);
        let silent = arm.verdicts.iter().all(Option::is_none);
        table = table.row([
            Cell::Text(arm.name.clone()),
            Cell::Number(arm.cost.calls, 1),
            Cell::Number(arm.cost.tokens, 0),
            if silent { Cell::Missing } else { Cell::PercentInterval(resampling.mean(&said)?) },
            Cell::PercentInterval(resampling.mean(&arm.after)?),
            Cell::Points(resampling.paired(&arm.after, &parrot)?),
            share_cell(m.cl, false),
            share_cell(m.cl, true),
            share_cell(m.cs, false),
        ]);
    }
    Ok(table)
}

pub(super) fn modes(
    found: &[PerModel],
    settings: &Settings,
    resampling: &Resampling,
) -> Result<Table, RecipeError> {
    let mut table = Table::new(
        "Modes and turns",
        [
            "mode",
            "turn",
            "calls",
            "tokens",
            "right before",
            "right after",
            "delta",
            "right broken",
            "wrong repaired",
        ],
    )
    .note(
        "Calls and tokens until the end of the turn. Each turn looks at the correction of the turn before.",
    );
    let modes: [(&str, fn(&PerModel) -> &[Outcome]); 2] =
        [("cross", PerModel::cross), ("self", PerModel::own)];
    for (name, of) in modes {
        let outcomes: Vec<&Outcome> = found.iter().flat_map(of).collect();
        let before: Vec<bool> = outcomes.iter().map(|o| o.before).collect();
        for turn in 1..=settings.turns {
            let after: Vec<f64> = outcomes.iter().map(|o| unit(o.after(turn))).collect();
            let m = self_correction_intervals(&correction(&before, &after)?, &resampling.bootstrap)?;
            let firsts: Vec<f64> = before.iter().map(|&right| unit(right)).collect();
            let cost = MeanCost::of(outcomes.iter().map(|o| o.spent(turn)));
            table = table.row([
                Cell::Text(name.into()),
                Cell::Count(turn as u64),
                Cell::Number(cost.calls, 1),
                Cell::Number(cost.tokens, 0),
                Cell::PercentInterval(resampling.mean(&firsts)?),
                Cell::PercentInterval(resampling.mean(&after)?),
                Cell::Points(resampling.paired(&after, &firsts)?),
                share_cell(m.cl, true),
                share_cell(m.cs, false),
            ]);
        }
    }
    Ok(table)
}

pub(super) fn authors(
    items: &[Item],
    found: &[PerModel],
    resampling: &Resampling,
) -> Result<Table, RecipeError> {
    let mut by_author: BTreeMap<&str, Vec<[f64; 2]>> = BTreeMap::new();
    for model in found {
        for ((item, outcome), solved) in items.iter().zip(&model.cross).zip(&model.solved) {
            by_author.entry(&item.author).or_default().push([unit(outcome.after(1)), unit(solved.0)]);
        }
    }
    let mut table = Table::new(
        "By author of the recorded solution",
        ["author", "solutions", "right after", "solved from scratch"],
    );
    let mut means = [0.0; 2];
    for (author, rows) in &by_author {
        let column = |i: usize| resampling.mean(&rows.iter().map(|r| r[i]).collect::<Vec<_>>());
        let (after, solved) = (column(0)?, column(1)?);
        means[0] += after.value / by_author.len() as f64;
        means[1] += solved.value / by_author.len() as f64;
        table = table.row([
            Cell::Text((*author).to_string()),
            Cell::Count(rows.len() as u64),
            Cell::PercentInterval(after),
            Cell::PercentInterval(solved),
        ]);
    }
    Ok(table.row([
        Cell::Text("mean over authors".into()),
        Cell::Missing,
        Cell::Percent(means[0]),
        Cell::Percent(means[1]),
    ]))
}

pub(super) fn turns(found: &[PerModel], settings: &Settings) -> Plot {
    let line = |name: &str, of: fn(&PerModel) -> &[Outcome]| {
        let outcomes: Vec<&Outcome> = found.iter().flat_map(of).collect();
        let right = |turn: usize| {
            let after = |o: &&Outcome| unit(if turn == 0 { o.before } else { o.after(turn) });
            mean(&outcomes.iter().map(after).collect::<Vec<_>>())
        };
        Series::exact(name, (0..=settings.turns).map(|turn| (turn as f64, right(turn))))
    };
    Plot::new(
        "Right answers by turn",
        "Turn 0: the solution that is criticised.",
        Chart::Line {
            x: Axis::new("turn", Scale::Whole),
            y: Axis::new("right", Scale::Percent),
            series: vec![line("cross-critique", PerModel::cross), line("self-critique", PerModel::own)],
        },
    )
}
