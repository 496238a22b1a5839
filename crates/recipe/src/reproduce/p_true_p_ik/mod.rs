//! P(True) and P(IK) (arXiv 2207.05221): a model judges its own answers, alone and beside its other samples; a head says
//! from the question alone whether the model will answer right; and two models with different knowledge each know
//! their own.

mod p_ik;
mod p_true;
mod self_knowledge;

use super::resampling::Resampling;
use super::{Findings, Reproduce};
use crate::RecipeError;
use elenchus_measure::{Binning, Bootstrap, Interval, Judgement, Judgements};
use serde::Deserialize;

/// Settings of the experiment.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// Arithmetic test questions.
    questions: usize,
    /// Countdown test questions, the other distribution.
    countdown: usize,
    /// Arithmetic validation questions, on which temperatures are fitted.
    validation: usize,
    /// S: samples per question for the share that P(IK) predicts.
    samples: usize,
    /// Test questions about facts.
    facts: usize,
    /// Questions on which hints are shown.
    hints: usize,
    /// Model seeds of the lab's checkpoints.
    seeds: Vec<u64>,
}

/// Bins of the calibration errors: of equal numbers, as in the paper.
const BINS: usize = 10;

/// Resamples of statistics that sort all judgements anew: ten thousand samples a thousand times over take seconds.
const RESAMPLES: usize = 2_000;

/// Runs the experiment.
pub(super) fn run(input: &Reproduce<'_>) -> Result<Findings, RecipeError> {
    let settings: Settings = input.settings()?;
    let mut findings = Findings::default();
    p_true::run(input, &settings, &mut findings)?;
    p_ik::run(input, &settings, &mut findings)?;
    self_knowledge::run(input, &settings, &mut findings)?;
    findings.notes.push(
        "A model this small cannot judge from examples in its prompt: the paper's 20 solved examples are replaced by training \
         on judgements of its own samples of training questions (checkpoint `own-judge`). The samples shown in the comparison \
         form are shown as their answers."
            .into(),
    );
    findings.notes.push(
        "Model seeds are seeds of the lab's fine-tuning; they start from the same base weights. A question is resampled with what \
         all of them made of it, and the interval over seeds stands where it is wider. Give several `--model` for \
         several bases. Not looked at here: the size of the model, `none of the above` as an option, and models sharpened by \
         preference training."
            .into(),
    );
    Ok(findings)
}

/// Judgements grouped by question, seed behind seed; questions are what is resampled, each with what all seeds made of it.
type Grouped = Vec<Vec<Judgement>>;

/// A statistic of all judgements with an interval over questions and seeds.
fn over_questions(
    resampling: &Resampling,
    what: &str,
    groups: &[&Grouped],
    statistic: impl Fn(&[Judgements]) -> Option<f64>,
) -> Result<Option<Interval>, RecipeError> {
    let questions = groups.first().map_or(0, |group| group.len() / resampling.seeds);
    let of = |counts: &[u32], seeds: std::ops::Range<usize>| -> Option<f64> {
        let lists: Option<Vec<Judgements>> = groups
            .iter()
            .map(|group| {
                let chosen = &group[seeds.start * questions..seeds.end * questions];
                let repeated = chosen.iter().zip(counts.iter().cycle()).flat_map(|(judgements, &count)| {
                    std::iter::repeat_n(judgements, count as usize).flatten().copied()
                });
                Judgements::new(repeated).ok()
            })
            .collect();
        statistic(&lists?)
    };
    let bootstrap = Bootstrap { resamples: RESAMPLES, ..resampling.bootstrap };
    Resampling { bootstrap, ..*resampling }.counts(what, questions, of)
}

fn auroc(lists: &[Judgements]) -> Option<f64> {
    lists.first()?.auroc()
}

fn ece(lists: &[Judgements]) -> Option<f64> {
    lists.first()?.ece(Binning::EqualMass, BINS).ok()
}

/// Difference of a statistic of the first two lists.
fn difference(statistic: fn(&[Judgements]) -> Option<f64>) -> impl Fn(&[Judgements]) -> Option<f64> {
    move |lists| Some(statistic(&lists[..1])? - statistic(&lists[1..])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(confidence: f64, correct: bool) -> Judgement {
        Judgement { confidence, correct }
    }

    /// The eight judgements of the sheet.
    fn eight() -> Grouped {
        let p = [0.9, 0.8, 0.7, 0.6, 0.4, 0.3, 0.2, 0.1];
        let y = [1, 1, 0, 1, 1, 0, 0, 0];
        p.iter().zip(y).map(|(&p, y)| vec![told(p, y == 1)]).collect()
    }

    #[test]
    fn the_numbers_of_the_sheet() {
        let all = Judgements::new(eight().into_iter().flatten()).unwrap();
        assert!((all.brier() - 0.15).abs() < 1e-12);
        assert!((all.auroc().unwrap() - 0.875).abs() < 1e-12);
        assert!((all.ece(Binning::EqualMass, 4).unwrap() - 0.15).abs() < 1e-12);
        assert!((all.rms_calibration_error(Binning::EqualMass, 4).unwrap() - 0.15).abs() < 1e-12);
    }

    #[test]
    fn a_statistic_over_questions_is_the_one_of_the_data_with_an_interval_round_it() {
        let (resampling, groups) = (Resampling::new(Bootstrap::default().seed(1), 1), eight());
        let found = over_questions(&resampling, "AUROC", &[&groups], auroc).unwrap().unwrap();
        assert!((found.value - 0.875).abs() < 1e-12);
        assert!(found.low < 0.875 && found.high > 0.875, "{found:?}");
        let same =
            over_questions(&resampling, "AUROC", &[&groups, &groups], difference(auroc)).unwrap().unwrap();
        assert_eq!((same.value, same.low, same.high), (0.0, 0.0, 0.0), "paired: the same resamples for both");
        // Three seeds that judge alike know no more than one does.
        let thrice: Grouped = (0..3).flat_map(|_| eight()).collect();
        let three = Resampling { seeds: 3, ..resampling };
        let joint = over_questions(&three, "AUROC", &[&thrice], auroc).unwrap().unwrap();
        assert!((joint.low - found.low).abs() < 0.02 && (joint.high - found.high).abs() < 0.02, "{joint:?}");
    }
}
