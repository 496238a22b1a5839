//! Estimates of the claims, tables and plots.

use super::play::{Played, Verifier};
use super::{ARMS, Arms, BEST_OF_N, BEST_ONLY, FOREIGN, IAD, LOW, NO_FEEDBACK, NO_TEST, Settings, Swept};
use crate::RecipeError;
use crate::lab::program_reviser::PROGRAM_REVISER;
use crate::reproduce::pool::{Arm, arms_table, mean};
use crate::reproduce::resampling::{Resampling, smallest};
use crate::reproduce::{Findings, Reproduce};
use elenchus_learn::rollouts::mix;
use elenchus_measure::{Axis, Bootstrap, Cell, Chart, Interval, Plot, Scale, Section, Series, Table};
use elenchus_task::Split;

/// Estimates by arm on one substrate; `prefix` stands before the ids of its claims.
fn arm_claims(
    resampling: &Resampling,
    settings: &Settings,
    arms: &Arms,
    prefix: &str,
    findings: &mut Findings,
) -> Result<(), RecipeError> {
    // Per problem, averaged over the shapes of 6 to 12 candidates.
    let shapes = settings.shapes.iter().zip(&arms.played);
    let counted: Vec<&Vec<Played>> =
        shapes.filter(|([k, t], _)| (6..=12).contains(&(k * t))).map(|(_, played)| played).collect();
    if counted.is_empty() {
        return Ok(());
    }
    let over = |arm: usize, of: fn(&Played) -> &Vec<f64>| -> Vec<f64> {
        let rows: Vec<&Vec<f64>> = counted.iter().map(|played| of(&played[arm])).collect();
        let problem = |q: usize| mean(&rows.iter().map(|row| row[q]).collect::<Vec<_>>());
        (0..rows[0].len()).map(problem).collect()
    };
    let value = |arm| over(arm, |played| &played.arm.right);
    let solved = |arm| over(arm, |played| &played.solved);
    let pair = |left: usize, right: usize| resampling.paired(&value(left), &value(right));
    let mut claim = |id: &str, interval: Interval| {
        findings.estimates.insert(format!("{prefix}{id}"), interval);
    };
    claim("over-best-of-n", pair(IAD, BEST_OF_N)?);
    claim("solved-over-best-of-n", resampling.paired(&solved(IAD), &solved(BEST_OF_N))?);
    let idle = pair(NO_FEEDBACK, BEST_OF_N)?;
    // Within 3 points on either side is what "as good as" means here.
    let apart = idle.low.abs().max(idle.high.abs());
    let left = Interval { value: 0.03 - idle.value.abs(), low: 0.03 - apart, high: 0.03 };
    claim("resampling-is-best-of-n", left);
    claim("foreign-feedback", pair(BEST_OF_N, FOREIGN)?);
    claim("acceptance", pair(IAD, NO_TEST)?);
    claim("contrast", pair(IAD, BEST_ONLY)?);
    claim("over-no-feedback", pair(IAD, NO_FEEDBACK)?);
    claim("low-temperature", pair(LOW, BEST_OF_N)?);
    Ok(())
}

/// What noise and sparsity do to the gain on best-of-n: from every verifier to the next worse one it must shrink, so the
/// smallest step is what counts.
pub(super) fn sweep_claims(
    resampling: &Resampling,
    swept: &[Swept],
    findings: &mut Findings,
) -> Result<(), RecipeError> {
    let gain =
        |swept: &Swept| -> Vec<f64> { swept.iad.iter().zip(&swept.best_of_n).map(|(i, b)| i - b).collect() };
    let shrinks = |by: fn(&Verifier) -> Option<f64>| -> Result<Option<Interval>, RecipeError> {
        let mut line: Vec<(f64, &Swept)> =
            swept.iter().filter_map(|swept| Some((by(&swept.verifier)?, swept))).collect();
        line.sort_by(|a, b| a.0.total_cmp(&b.0));
        let steps = line.windows(2).map(|pair| resampling.paired(&gain(pair[0].1), &gain(pair[1].1)));
        Ok(smallest(steps.collect::<Result<Vec<_>, _>>()?))
    };
    let noise = shrinks(|verifier| verifier.threshold.is_none().then_some(verifier.noise))?;
    // The graded verifier is the least sparse.
    let sparse = shrinks(|verifier| (verifier.noise == 0.0).then_some(verifier.threshold.unwrap_or(0.0)))?;
    for (id, found) in [("noise", noise), ("sparsity", sparse)] {
        if let Some(interval) = found {
            findings.estimates.insert(id.into(), interval);
        }
    }
    let noisiest = swept.iter().max_by(|a, b| a.verifier.noise.total_cmp(&b.verifier.noise));
    if let Some(noisy) = noisiest.filter(|swept| swept.verifier.noise > 0.0) {
        let reversed = resampling.paired(&noisy.best_of_n, &noisy.iad)?;
        findings.estimates.insert("noise-reverses".into(), reversed);
    }
    Ok(())
}

/// The table of arms at each shape.
fn arm_tables(
    resampling: &Resampling,
    settings: &Settings,
    arms: &Arms,
    of: &str,
    findings: &mut Findings,
) -> Result<(), RecipeError> {
    for (shape, played) in settings.shapes.iter().zip(&arms.played) {
        let [k, t] = shape;
        let arms: Vec<(String, &Arm)> =
            ARMS.iter().zip(played).map(|((name, ..), played)| ((*name).to_string(), &played.arm)).collect();
        let title = format!("{of}, K = {k}, T = {t}: {} candidates", k * t);
        let note = "Value of the selected candidate, 1 a solution; per problem. No arm stops early. Without the acceptance test the \
                    answer is the best of the last round's K candidates, in the other arms of all K·T.";
        let mut table = arms_table(&title, note, "value", resampling, &arms)?;
        table.columns.push("solved".into());
        for (row, played) in table.rows.iter_mut().zip(played) {
            row.push(Cell::PercentInterval(resampling.mean(&played.solved)?));
        }
        findings.tables.push(table);
    }
    Ok(())
}

/// The table of verifiers.
fn verifier_table(
    resampling: &Resampling,
    settings: &Settings,
    swept: &[Swept],
) -> Result<Table, RecipeError> {
    let mut verifiers = Table::new(
        "Verifiers of Countdown",
        ["verifier", "IAD", "best-of-n", "gain, points", "score above the value"],
    )
    .note(format!(
        "K = {}, T = {}. The last column: what the verifier says of IAD's selection minus its true value.",
        settings.swept[0], settings.swept[1]
    ));
    for one in swept {
        let name = match one.verifier {
            Verifier { noise: 0.0, threshold: None } => "exact and graded".to_string(),
            Verifier { noise, threshold: None } => format!("noise of {noise}"),
            Verifier { threshold: Some(threshold), .. } => format!("1 from {threshold} on, else 0"),
        };
        verifiers = verifiers.row([
            Cell::Text(name),
            Cell::PercentInterval(resampling.mean(&one.iad)?),
            Cell::PercentInterval(resampling.mean(&one.best_of_n)?),
            Cell::Points(resampling.paired(&one.iad, &one.best_of_n)?),
            Cell::Number(mean(&one.gap), 3),
        ]);
    }
    Ok(verifiers)
}

/// The incumbent by candidates used, at the last shape.
fn curves(settings: &Settings, arms: &Arms, of: &str, findings: &mut Findings) {
    let (Some(shape), Some(played)) = (settings.shapes.last(), arms.played.last()) else { return };
    let title = format!("{of}: score of the incumbent by candidates used");
    let series = ARMS
        .iter()
        .zip(played)
        .map(|((name, ..), played)| {
            let after =
                |used: usize| mean(&played.curves.iter().map(|curve| curve[used - 1]).collect::<Vec<_>>());
            Series::exact(*name, (1..=shape[0] * shape[1]).map(|used| (used as f64, after(used))))
        })
        .collect();
    findings.sections.push(Section::plots(
        title.clone(),
        vec![Plot::new(
            title,
            "Mean over problems and models, after each candidate; the verifier is exact. It can fall where nothing is tested.",
            Chart::Line {
                x: Axis::new("candidates", Scale::Number),
                y: Axis::new("value", Scale::Percent),
                series,
            },
        )],
    ));
}

/// What all of it says; `programs` is the part on programs.
pub(super) fn findings(
    input: &Reproduce<'_>,
    settings: &Settings,
    countdown: &Arms,
    swept: &[Swept],
    programs: Option<&Arms>,
) -> Result<Findings, RecipeError> {
    let resampling =
        |arms: &Arms| Resampling::new(Bootstrap::default().seed(mix(input.seed, 99)), arms.seeds);
    let mut findings = Findings::default();
    for (arms, prefix, of) in
        [(Some(countdown), "", "Countdown"), (programs, "programs-", "Programs")].into_iter()
    {
        let Some(arms) = arms else { continue };
        let resampling = resampling(arms);
        arm_claims(&resampling, settings, arms, prefix, &mut findings)?;
        arm_tables(&resampling, settings, arms, of, &mut findings)?;
        curves(settings, arms, of, &mut findings);
    }
    sweep_claims(&resampling(countdown), swept, &mut findings)?;
    findings.tables.push(verifier_table(&resampling(countdown), settings, swept)?);
    let target = match settings.revision.solutions {
        true => "their best one, or the task's solution where none solves the problem",
        false => "their best one",
    };
    findings.notes.push(format!(
        "All arms of a task run on one model: the given one trained further, or the lab's `{PROGRAM_REVISER}` over it. It learns \
         from problems and, on training problems, in view of a worst and a best and of a best own sample alone. What follows \
         those: on Countdown {target}; on programs their best one, or the task's solution where none solves the problem."
    ));
    findings.notes.push(format!(
        "Prompts show a response with {}; on programs with its score, the first shown test that fails and what came back in it.",
        if settings.revision.feedback { "its score on Countdown" } else { "nothing on Countdown" }
    ));
    if settings.split != Split::Test {
        findings.notes.push("Measured on validation problems, to choose settings: no result.".into());
    }
    findings.notes.push(
        "The verifier of Countdown needs no hidden answer: numbers and target are in the problem. So it may be used at \
         run time; with the exact verifier, best-of-n is the best of its candidates."
            .into(),
    );
    if programs.is_some() {
        findings.notes.push(format!(
            "Programs: the task `program` with {}. At run time the verifier sees the share \
             of the shown tests that pass; the value is the share of the hidden ones, and solved is a program that passes \
             all. Of equally many shown tests the first candidate stays.",
            settings.programs.task
        ));
    }
    findings.notes.push("Text-to-SQL, text worlds and agents were not looked at.".into());
    Ok(findings)
}
