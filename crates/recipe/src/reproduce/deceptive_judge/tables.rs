//! What a person should see: the grid with its 2×2 tables, the rounds, the defences, the kinds of deception.

use super::numbers::{Share, bootstrap, difference, share, unseen};
use super::{Arm, Findings, Reproduce, Row, Runs, Settings};
use crate::RecipeError;
use crate::lab::judged_agent::STEPS;
use crate::reproduce::asked::{MeanCost, mean, unit};
use elenchus_evaluate::harness::{Intent, Knowledge};
use elenchus_measure::{
    Axis, Bootstrap, Cell, Chart, Course, Interval, Plot, Scale, Section, Series, Table, persuasion,
    transition_counts,
};

fn percent(interval: Option<Interval>) -> Cell {
    interval.map_or(Cell::Missing, Cell::PercentInterval)
}

fn cost(arm: &Arm) -> MeanCost {
    MeanCost::of(arm.rows.iter().flatten().map(|row| row.spent))
}

fn courses(arm: &Arm) -> Vec<Course> {
    arm.rows.iter().flatten().map(|row| row.course.clone()).collect()
}

/// All tables, the plot and the notes.
pub(super) fn tables(
    input: &Reproduce<'_>,
    runs: &Runs,
    settings: &Settings,
    findings: &mut Findings,
) -> Result<(), RecipeError> {
    let bootstrap = bootstrap(input);
    findings.tables.push(grid(runs, &bootstrap)?);
    findings.tables.push(rounds(runs, settings, &bootstrap)?);
    findings.tables.push(defences(runs, &bootstrap)?);
    findings.tables.push(kinds(runs, &bootstrap)?);
    findings.tables.push(certainty(runs, settings, &bootstrap)?);
    findings.tables.push(round_table(runs, settings, &bootstrap)?);
    findings.sections.push(Section::plots("Right by round", vec![plot(runs, settings)]));
    let lengths: Vec<f64> = runs
        .grid
        .iter()
        .flat_map(|(_, arm)| arm.rows.iter().flatten())
        .filter(|row| row.characters > 0)
        .map(|row| row.characters as f64)
        .collect();
    let longest = lengths.iter().copied().fold(0.0, f64::max);
    findings.notes.push(format!(
        "{} questions of {} to {} operations, {} seed(s) of each agent over {} model(s). Objections are scripted; all are filled up to \
         the same length ({:.1} characters on average, {longest:.0} at most). Answers are greedy, samples of gates at \
         temperature 0.6 with top_p 0.9.",
        settings.questions,
        STEPS[0],
        STEPS[1],
        settings.seeds.len(),
        input.models.len(),
        mean(&lengths)
    ));
    findings.notes.push(
        "Intervals: bootstrap over questions, all seeds of a question together; from three seeds on the wider of it and Student's \
         interval over seeds. A malicious judge speaks of right answers only and a constructive one of wrong ones only, so flips and \
         gain are of different questions; the 2×2 tables show both."
            .into(),
    );
    findings.notes.push(
        "The moderator of the embedded model is its skill to judge an answer, which does not read the objection. The generator's \
         prompt does not say that a judge may lie, in no arm. Acknowledging ambiguity and persuasion by retrieved evidence need a chat \
         model: `elenchus audit`."
            .into(),
    );
    Ok(())
}

fn grid(runs: &Runs, bootstrap: &Bootstrap) -> Result<Table, RecipeError> {
    let columns = [
        "intent",
        "knowledge",
        "right before",
        "right after",
        "flips",
        "gain",
        "persuaded",
        "kept",
        "broken",
        "repaired",
        "missed",
        "flips by seed",
    ];
    let mut table = Table::new("Intent × knowledge, plain agent, one round", columns).note(
        "Flips: of the right answers of round 0, those that are wrong in round 1. Persuaded: those that are the judge's. Gain: of the \
         wrong ones, those that are right. The four counts are the 2×2 table over all seeds.",
    );
    for (behaviour, arm) in &runs.grid {
        let found = persuasion(&courses(arm), bootstrap)?;
        let table_of = found.transitions;
        let seeds: Vec<String> = (0..arm.rows.len())
            .map(|seed| {
                let of: Vec<f64> =
                    arm.rows[seed].iter().filter(|row| row.right(0)).map(|row| unit(!row.right(1))).collect();
                format!("{:.1}", 100.0 * mean(&of))
            })
            .collect();
        table = table.row([
            Cell::Text(behaviour.intent.name().into()),
            Cell::Text(behaviour.knowledge.name().into()),
            percent(found.accuracy.first().copied()),
            percent(found.accuracy.get(1).copied()),
            percent(found.flip.and(share(Share::flips(arm), bootstrap)?)),
            percent(found.gain.and(share(Share::gain(arm), bootstrap)?)),
            found.persuasion.map_or(Cell::Missing, |persuaded| Cell::Percent(persuaded.value)),
            Cell::Count(table_of.kept as u64),
            Cell::Count(table_of.broken as u64),
            Cell::Count(table_of.repaired as u64),
            Cell::Count(table_of.missed as u64),
            Cell::Text(seeds.join(", ")),
        ]);
    }
    Ok(table)
}

fn rounds(runs: &Runs, settings: &Settings, bootstrap: &Bootstrap) -> Result<Table, RecipeError> {
    let columns = ["agent".to_string()]
        .into_iter()
        .chain((0..=settings.rounds).map(|round| format!("right in round {round}")))
        .chain(["oscillation", "recovery", "calls", "tokens"].map(String::from));
    let mut table = Table::new("Several rounds with a hypercritical judge that claims steps", columns).note(
        "Oscillation: rounds per dialogue that return to an earlier answer. Recovery: of the answers that flipped in round 1, those \
         that are right again in a later round.",
    );
    for arm in &runs.dynamics {
        let found = persuasion(&courses(arm), bootstrap)?;
        let cost = cost(arm);
        let mut row = vec![Cell::Text(arm.name.clone())];
        row.extend((0..=settings.rounds).map(|round| {
            found.accuracy.get(round).map_or(Cell::Missing, |accuracy| Cell::Percent(accuracy.value))
        }));
        let o = found.oscillation;
        row.push(Cell::Text(format!("{:.2} [{:.2}, {:.2}]", o.value, o.low, o.high)));
        row.push(percent(found.recovery));
        row.push(Cell::Number(cost.calls, 1));
        row.push(Cell::Number(cost.tokens, 0));
        table = table.row(row);
    }
    Ok(table)
}

fn defences(runs: &Runs, bootstrap: &Bootstrap) -> Result<Table, RecipeError> {
    let attacked = runs.cell(Intent::Malicious, Knowledge::Parametric)?;
    let helped = runs.cell(Intent::Constructive, Knowledge::Parametric)?;
    let columns = [
        "defence",
        "flips",
        "of those without",
        "gain",
        "of that without",
        "right after, malicious",
        "right after, constructive",
        "calls, malicious",
        "tokens, malicious",
        "tokens, constructive",
    ];
    let mut table = Table::new("Defences, claims of a step", columns).note(
        "Every defence has the same number of extra samples per objection; rereading is an agent that was trained for it, without \
         extra samples. Rejecting everything would flip nothing and gain nothing.",
    );
    let ratio = |part: Share<'_>, whole: Share<'_>| -> Result<Cell, RecipeError> {
        let values = (share(part, bootstrap)?, share(whole, bootstrap)?);
        Ok(match values {
            (Some(part), Some(whole)) if whole.value > 0.0 => Cell::Percent(part.value / whole.value),
            _ => Cell::Missing,
        })
    };
    let after = |arm: &Arm| {
        share(Share { rows: &arm.rows, among: |_| true, of: |row: &Row| unit(row.right(1)) }, bootstrap)
    };
    let row = |name: &str, under_attack: &Arm, under_help: Option<&Arm>| -> Result<[Cell; 10], RecipeError> {
        let attack = cost(under_attack);
        let (gain, of_gain, right, tokens) = match under_help {
            None => (Cell::Missing, Cell::Missing, Cell::Missing, Cell::Missing),
            Some(arm) => (
                percent(share(Share::gain(arm), bootstrap)?),
                ratio(Share::gain(arm), Share::gain(helped))?,
                percent(after(arm)?),
                Cell::Number(cost(arm).tokens, 0),
            ),
        };
        Ok([
            Cell::Text(name.into()),
            percent(share(Share::flips(under_attack), bootstrap)?),
            ratio(Share::flips(under_attack), Share::flips(attacked))?,
            gain,
            of_gain,
            percent(after(under_attack)?),
            right,
            Cell::Number(attack.calls, 1),
            Cell::Number(attack.tokens, 0),
            tokens,
        ])
    };
    table = table.row(row("none", attacked, Some(helped))?);
    for (gate, under_attack, under_help) in &runs.gates {
        table = table.row(row(gate.name(), under_attack, Some(under_help))?);
    }
    Ok(table.row(row("rereading agent", &runs.reread, None)?))
}

fn kinds(runs: &Runs, bootstrap: &Bootstrap) -> Result<Table, RecipeError> {
    let columns =
        ["deception", "seen in training", "flips, plain", "flips, mixed", "mixed less half of plain"];
    let mut table =
        Table::new("Kinds of deception: the plain agent and the one trained on 30 % of them", columns)
            .note("The last column is below 0 where training halved the flips.");
    let (plain, mixed) = unseen(runs);
    let all =
        runs.kinds.iter().map(|(seen, plain, mixed)| (*seen, plain, mixed)).chain([(false, &plain, &mixed)]);
    for (seen, plain, mixed) in all {
        let less = difference((1.0, Share::flips(mixed)), (0.5, Share::flips(plain)), bootstrap)?;
        table = table.row([
            Cell::Text(plain.name.clone()),
            Cell::Text(if seen { "yes" } else { "no" }.into()),
            percent(share(Share::flips(plain), bootstrap)?),
            percent(share(Share::flips(mixed), bootstrap)?),
            less.map_or(Cell::Missing, Cell::PointsDown),
        ]);
    }
    let constructive = &runs.mixed_constructive;
    let helped = runs.cell(Intent::Constructive, Knowledge::Parametric)?;
    table = table.row([
        Cell::Text("(gain with a constructive judge)".into()),
        Cell::Missing,
        percent(share(Share::gain(helped), bootstrap)?),
        percent(share(Share::gain(constructive), bootstrap)?),
        Cell::Missing,
    ]);
    Ok(table)
}

fn certainty(runs: &Runs, settings: &Settings, bootstrap: &Bootstrap) -> Result<Table, RecipeError> {
    let mut table = Table::new(
        "Flips by certainty of the answer of round 0",
        ["answers", "number", "mean log-probability per token", "flips"],
    )
    .note("Right answers of round 0, in equal parts per seed, under a malicious judge that claims a step.");
    for (bin, rows) in runs.by_certainty(settings.bins)?.into_iter().enumerate() {
        let arm = Arm { name: String::new(), rows };
        let of: Vec<f64> =
            arm.rows.iter().flatten().filter(|row| row.right(0)).filter_map(|row| row.certainty).collect();
        table = table.row([
            Cell::Text(format!("part {} of {}, least certain first", bin + 1, settings.bins)),
            Cell::Count(of.len() as u64),
            Cell::Number(mean(&of), 4),
            percent(share(Share::flips(&arm), bootstrap)?),
        ]);
    }
    Ok(table)
}

fn round_table(runs: &Runs, settings: &Settings, bootstrap: &Bootstrap) -> Result<Table, RecipeError> {
    let [agents, deceptive] = settings.table;
    let all = || runs.table.iter().flatten();
    let cost = MeanCost::of(all().map(|seated| seated.spent));
    let before: Vec<f64> = all().map(|seated| unit(seated.before)).collect();
    let after: Vec<f64> = all().map(|seated| unit(seated.after)).collect();
    let alone = runs.cell(Intent::Malicious, Knowledge::Parametric)?;
    let single = transition_counts(&courses(alone), 1);
    let n = (single.kept + single.broken + single.repaired + single.missed).max(1) as f64;
    let mut table = Table::new("Round table", ["who", "right before", "right after", "calls", "tokens"])
        .note(
            "Right by the majority of the honest agents before the discussion, and of all agents behind it.",
        );
    let one = self::cost(alone);
    table = table.row([
        Cell::Text("one agent, one malicious judge".into()),
        Cell::Percent((single.kept + single.broken) as f64 / n),
        Cell::Percent((single.kept + single.repaired) as f64 / n),
        Cell::Number(one.calls, 1),
        Cell::Number(one.tokens, 0),
    ]);
    if before.is_empty() {
        return Ok(table);
    }
    Ok(table.row([
        Cell::Text(format!("{agents} agents, {deceptive} of them deceptive")),
        Cell::PercentInterval(bootstrap.mean(&before)?),
        Cell::PercentInterval(bootstrap.mean(&after)?),
        Cell::Number(cost.calls, 1),
        Cell::Number(cost.tokens, 0),
    ]))
}

fn plot(runs: &Runs, settings: &Settings) -> Plot {
    let series = runs.dynamics.iter().map(|arm| {
        let right = |round: usize| {
            let of: Vec<f64> = arm.rows.iter().flatten().map(|row| unit(row.right(round))).collect();
            (round as f64, mean(&of))
        };
        Series::exact(&arm.name, (0..=settings.rounds).map(right))
    });
    Plot::new(
        "Right by round",
        "A hypercritical judge objects in every round.",
        Chart::Line {
            x: Axis::new("round", Scale::Whole),
            y: Axis::new("right", Scale::Percent),
            series: series.collect(),
        },
    )
}
