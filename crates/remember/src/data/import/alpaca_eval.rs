//! AlpacaEval records: a judge compares the responses of many systems with a baseline's.
//!
//! Each system is one sample, ordered by name; `score` is the judge's probability that its response is better than the
//! baseline's (the recorded preference minus 1). There is no human label. One thing is known: the system `NullModel`
//! answers every instruction with the same text, made to win the judge over, so it is never the right choice
//! (`correct` false; absent for the others). `select --method best-of-n` then says how often the judge would choose it.

use super::{Format, Imported, Importer, Rows, Source, refused};
use crate::data::VerdictRow;
use crate::error::Result;
use elenchus_trace::{Sample, SampleRow};
use serde::Deserialize;
use serde_json::{Map, json};
use std::collections::BTreeMap;

/// The system whose response does not depend on the instruction.
const CONSTANT: &str = "NullModel";

pub(super) const SAMPLES: Importer = Importer {
    name: "alpaca-eval",
    reads: "AlpacaEval judge records: instruction, dataset, baseline, judged{system: {preference, len_model}}",
    writes: Format::Samples,
    summary: "the systems as samples; score is the judge's probability that the system beats the baseline; only NullModel is known to be wrong",
    fields: &[],
    companion: None,
    run: samples,
};

/// The source draws at random which of the two responses the judge sees first, as `m`, and which second, as `M`, and
/// records the preference for the system alone. Which letter stood for it follows from the judge's log-probabilities: the
/// preference is that of `m` or that of `M`. Where both are alike nothing tells, and the comparison is left out.
pub(super) const VERDICTS: Importer = Importer {
    name: "alpaca-eval-verdicts",
    reads: "AlpacaEval judge records with log-probabilities: judged{system: {preference, len_baseline, len_model, judge_top_logprobs}}",
    writes: Format::Verdicts,
    summary: "one comparison per system; first is the judge's probability for the response it saw first; no reference",
    fields: &[],
    companion: None,
    run: verdicts,
};

/// How far a recorded preference may lie from the one that the log-probabilities give.
const SAME: f64 = 0.01;

#[derive(Deserialize)]
struct Row {
    instruction: String,
    dataset: String,
    baseline: String,
    judged: BTreeMap<String, Judged>,
}

#[derive(Deserialize)]
struct Judged {
    preference: f64,
    len_model: u64,
    #[serde(default)]
    len_baseline: Option<u64>,
    /// Null where the source has none.
    #[serde(default)]
    judge_top_logprobs: Option<BTreeMap<String, f64>>,
}

fn samples(source: &Source<'_>) -> Result<Imported> {
    let made = source.each(|line, row: Row| {
        let mut samples = Vec::with_capacity(row.judged.len());
        for (system, judged) in row.judged {
            if !(1.0..=2.0).contains(&judged.preference) {
                let problem = format!("{} is not between 1 and 2", judged.preference);
                return refused(format!("judged.{system}.preference"), problem);
            }
            samples.push(Sample {
                correct: (system == CONSTANT).then_some(false),
                answer: Some(system),
                score: Some(judged.preference - 1.0),
                extra: Map::from_iter([("characters".to_owned(), json!(judged.len_model))]),
                ..Sample::default()
            });
        }
        Ok(SampleRow {
            id: line.to_string(),
            question: row.instruction,
            gold: None,
            samples,
            extra: Map::from_iter([
                ("dataset".to_owned(), json!(row.dataset)),
                ("baseline".to_owned(), json!(row.baseline)),
            ]),
        })
    })?;
    Ok(made.imported(Rows::Samples))
}

/// The probability of `m`, and whether `m` stood for the system; `None` when the record does not tell.
fn first_and_place(judged: &Judged) -> Option<(f64, bool)> {
    let likely = judged.judge_top_logprobs.as_ref()?;
    let mass = |letter: &str| likely.get(letter).map_or(0.0, |logprob| logprob.exp());
    let (m, other) = (mass("m"), mass("M"));
    let first = m / (m + other);
    let wanted = judged.preference - 1.0;
    let (as_m, as_other) = ((wanted - first).abs(), (wanted - (1.0 - first)).abs());
    let told = m + other > 0.0 && as_m.min(as_other) <= SAME && (as_m - as_other).abs() > SAME;
    told.then_some((first, as_m < as_other))
}

fn verdicts(source: &Source<'_>) -> Result<Imported> {
    let mut untold = 0_usize;
    let made = source.each(|line, row: Row| {
        let mut rows = Vec::with_capacity(row.judged.len());
        for (system, judged) in row.judged {
            if !(1.0..=2.0).contains(&judged.preference) {
                let problem = format!("{} is not between 1 and 2", judged.preference);
                return refused(format!("judged.{system}.preference"), problem);
            }
            let Some((first, system_first)) = first_and_place(&judged) else {
                untold += 1;
                continue;
            };
            let (mine, theirs) = (judged.len_model as f64, judged.len_baseline.map(|length| length as f64));
            let lengths = theirs.map(|theirs| if system_first { [mine, theirs] } else { [theirs, mine] });
            rows.push(VerdictRow {
                id: format!("{line}/{system}"),
                swapped: false,
                first: Some(first),
                lengths,
                reference: None,
                extra: Map::from_iter([
                    ("model".to_owned(), json!(system)),
                    ("model_first".to_owned(), json!(system_first)),
                    ("dataset".to_owned(), json!(row.dataset)),
                ]),
            });
        }
        Ok(rows)
    })?;
    let mut imported = made.imported(|rows| Rows::Verdicts(rows.into_iter().flatten().collect()));
    if untold > 0 {
        imported.notes.push(format!("{untold} comparisons do not tell which response the judge saw first"));
    }
    Ok(imported)
}
