//! Estimates of the claims, tables and notes.

use super::arms::{Made, Outcomes};
use super::{CHOICE, COPIES, GREEDY, GSA, Measured, PLAIN, REFINE, REWRITE, Settings, VOTE};
use crate::RecipeError;
use crate::reproduce::pool::{Arm, arms_table, credit, mean};
use crate::reproduce::resampling::Resampling;
use crate::reproduce::{Findings, Reproduce};
use elenchus_learn::rollouts::mix;
use elenchus_measure::{Bootstrap, Cell, Interval, Table};
use elenchus_task::Split;

/// Rates over the questions for which the drafts were so.
pub(super) fn rate(
    resampling: &Resampling,
    made: &[Made],
    of: impl Fn(&Made) -> bool,
    keep: impl Fn(&Made) -> bool,
) -> Result<Option<Interval>, RecipeError> {
    let values: Vec<f64> = made.iter().map(|m| credit(of(m))).collect();
    resampling.mean_where(&values, |q| keep(&made[q]))
}

/// How much more often the new response is right with the question's own drafts than with another's, where the drafts' most
/// frequent answer is wrong.
fn rescue_by_the_drafts(
    resampling: &Resampling,
    outcomes: &Outcomes,
) -> Result<Option<Interval>, RecipeError> {
    let pairs = outcomes.made.iter().zip(&outcomes.wrong_drafts);
    let by_drafts: Vec<f64> = pairs.map(|(own, other)| credit(own.right) - credit(other.right)).collect();
    resampling.mean_where(&by_drafts, |q| !outcomes.made[q].majority_right)
}

pub(super) fn findings(
    input: &Reproduce<'_>,
    settings: &Settings,
    measured: &Measured,
) -> Result<Findings, RecipeError> {
    let Measured { arithmetic: closed, countdown: open, programs } = measured;
    let seeds = |count| Resampling::new(Bootstrap::default().seed(mix(input.seed, 99)), count);
    let resampling = seeds(input.models.len());
    let writers = seeds(input.models.len() * settings.programs.writers.len());
    let mut findings = Findings::default();
    let pair = |outcomes: &Outcomes, left: &str, right: &str| {
        resampling.paired(outcomes.right(left), outcomes.right(right))
    };
    let found = &mut findings.estimates;
    found.insert("closed-over-vote".into(), pair(closed, GSA, VOTE)?);
    found.insert("closed-over-choice".into(), pair(closed, GSA, CHOICE)?);
    found.insert("over-refinement".into(), pair(closed, GSA, REFINE)?);
    found.insert("over-copies".into(), pair(closed, GSA, COPIES)?);
    found.insert("over-plain-training".into(), pair(closed, GSA, PLAIN)?);
    let rescue = |made: &[Made]| rate(&resampling, made, |m| m.right, |m| !m.majority_right);
    if let Some(rescue) = rescue(&closed.made)? {
        found.insert("rescue".into(), rescue);
    }
    if let Some(difference) = rescue_by_the_drafts(&resampling, closed)? {
        found.insert("rescue-by-the-drafts".into(), difference);
    }
    if !programs.made.is_empty() {
        let over = |right: &str| writers.paired(programs.right(GSA), programs.right(right));
        found.insert("programs-over-greedy".into(), over(GREEDY)?);
        found.insert("programs-over-choice".into(), over(CHOICE)?);
        if let Some(difference) = rescue_by_the_drafts(&writers, programs)? {
            found.insert("programs-rescue-by-the-drafts".into(), difference);
        }
    }
    if !open.made.is_empty() {
        found.insert("open-over-greedy".into(), pair(open, GSA, GREEDY)?);
        found.insert("open-over-choice".into(), pair(open, GSA, CHOICE)?);
    }
    found.insert("more-drafts".into(), pair(closed, GSA, REWRITE)?);
    // The worst of the temperatures, so that one good one does not hide the others.
    let mut worst = pair(closed, GSA, VOTE)?;
    for t in &settings.temperatures {
        let at = pair(closed, &format!("GSA at temperature {t}"), &format!("vote of 4 at temperature {t}"))?;
        if at.value < worst.value {
            worst = at;
        }
    }
    found.insert("temperatures".into(), worst);
    let repeats = mean(&closed.made.iter().map(|m| credit(m.repeats)).collect::<Vec<_>>());
    found.insert("no-vote".into(), Interval::exact(0.95 - repeats));
    let unanimous = |m: &Made| m.unanimous && m.majority_right;
    if let Some(damage) = rate(&resampling, &closed.made, |m| !m.right, unanimous)? {
        let spare = Interval { value: 0.02 - damage.value, low: 0.02 - damage.high, high: 0.02 - damage.low };
        found.insert("unanimous-damage".into(), spare);
    }
    let written: Vec<f64> = closed.made.iter().map(|m| m.logprob).collect();
    if written.len() == closed.choice_logprobs.len() {
        found.insert("likelihood".into(), resampling.paired(&written, &closed.choice_logprobs)?);
    }
    for (title, outcomes, resampling) in [
        ("Closed answers: arithmetic", closed, &resampling),
        ("Open answers: programs", programs, &writers),
        ("Open answers: Countdown", open, &resampling),
    ] {
        let arms: Vec<(String, &Arm)> = outcomes.arms.iter().map(|(name, arm)| (name.clone(), arm)).collect();
        if !arms.is_empty() {
            let note = "Per question. Open answers are expressions and programs: a vote counts equal texts, few are.";
            findings.tables.push(arms_table(title, note, "accuracy", resampling, &arms)?);
        }
    }
    let mut drafts = Table::new(
        "What became of the drafts",
        ["", "rescue", "damage", "damage, unanimous", "repeats majority", "novel answer", "no draft right"],
    )
    .note(
        "Rescue: right although the drafts' majority is wrong. Damage: wrong although it is right. The last column: \
         right although no draft is.",
    );
    let cell = |interval: Option<Interval>| interval.map_or(Cell::Missing, Cell::PercentInterval);
    for (name, made, resampling) in [
        ("arithmetic", &closed.made, &resampling),
        ("arithmetic, drafts of another question", &closed.wrong_drafts, &resampling),
        ("programs", &programs.made, &writers),
        ("programs, drafts of another question", &programs.wrong_drafts, &writers),
        ("Countdown", &open.made, &resampling),
    ] {
        let rate = |of: fn(&Made) -> bool, keep: fn(&Made) -> bool| rate(resampling, made, of, keep);
        drafts = drafts.row([
            Cell::Text(name.into()),
            cell(rate(|m| m.right, |m| !m.majority_right)?),
            cell(rate(|m| !m.right, |m| m.majority_right)?),
            cell(rate(|m| !m.right, |m| m.majority_right && m.unanimous)?),
            cell(rate(|m| m.repeats, |_| true)?),
            cell(rate(|m| m.novel, |_| true)?),
            cell(rate(|m| m.right, |m| !m.any_right)?),
        ]);
    }
    findings.tables.push(drafts);
    findings.notes.push(
        "The model that reads drafts is the given one, or the lab's program writer over it, trained further with equal weight on \
         questions, on questions with own drafts (as many as it is shown later) and on choices among three of them; all arms but \
         those that say otherwise run on it. The vote of the model trained on questions alone had as many steps of as many \
         tokens."
            .into(),
    );
    if !programs.made.is_empty() {
        findings.notes.push(format!(
            "Programs: task `program` with {}; right is a program that passes the hidden tests, too.",
            settings.programs.task
        ));
    }
    if settings.split != Split::Test {
        findings.notes.push("Measured on validation problems, to choose settings: no result.".into());
    }
    let named: Vec<f64> =
        [closed, open, programs].iter().flat_map(|outcomes| &outcomes.choices_named).copied().collect();
    findings.notes.push(format!(
        "The choice is one greedy reply with the number of a draft, a skill that the same model was taught on as many rows as \
         reading drafts; the target is a right draft. It names a draft in {:.1} % of the cases.",
        100.0 * mean(&named)
    ));
    Ok(findings)
}
