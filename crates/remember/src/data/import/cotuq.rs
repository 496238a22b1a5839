//! CoT-UQ records (Llama-3.1-8B): up to ten answers per question with fourteen confidences each.
//!
//! The source keeps the probabilities of the tokens of the *answer*, not of the whole response. `mean_logprob` and
//! `sum_logprob` of a sample are therefore over the answer's tokens, in nats: mean and sum of ln p. The number named
//! by `--field` becomes `score` (samples) or `confidence` (judgements); all of them stay under `conf`.

use super::{Format, Imported, Importer, Made, Rows, Source, TextOrNumber, refused};
use crate::error::{RememberError, Result};
use elenchus_trace::{JudgementRow, Sample, SampleRow};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The confidences of the source, as it names them.
const FIELDS: &[&str] = &[
    "probas-mean-bl",
    "probas-min-bl",
    "probas-mean",
    "probas-min",
    "p-true-bl",
    "p-true-allsteps",
    "p-true-keystep",
    "self-probing-bl",
    "self-probing-allsteps",
    "self-probing-keystep",
    "token-sar-bl",
    "token-sar",
    "probas-mean-alltokens",
    "entropy-geo-alltokens",
];

pub(super) const SAMPLES: Importer = Importer {
    name: "cotuq",
    reads: "CoT-UQ records: id, question, gold, samples[]{method, run, text, answer, correct, answer_token_probs, conf}",
    writes: Format::Samples,
    summary: "all answers of a question; score is the confidence named by --field, the log-probabilities are the answer's tokens'",
    fields: FIELDS,
    companion: None,
    run: samples,
};

pub(super) const JUDGEMENTS: Importer = Importer {
    name: "cotuq-judgements",
    reads: "CoT-UQ records, as `cotuq`",
    writes: Format::Judgements,
    summary: "one judgement per answer: the confidence named by --field, and whether the answer is right",
    fields: FIELDS,
    companion: None,
    run: judgements,
};

#[derive(Deserialize)]
struct Row {
    id: TextOrNumber,
    question: String,
    gold: TextOrNumber,
    samples: Vec<Answer>,
}

#[derive(Deserialize)]
struct Answer {
    method: String,
    run: u64,
    text: String,
    answer: String,
    correct: bool,
    answer_token_probs: Vec<f64>,
    conf: BTreeMap<String, Option<f64>>,
}

fn samples(source: &Source<'_>) -> Result<Imported> {
    let made = source.each(|_, row: Row| {
        let mut samples = Vec::with_capacity(row.samples.len());
        for (index, answer) in row.samples.into_iter().enumerate() {
            let probabilities = &answer.answer_token_probs;
            if let Some(token) = probabilities.iter().position(|p| !(*p > 0.0 && *p <= 1.0)) {
                return refused(
                    format!("samples[{index}].answer_token_probs[{token}]"),
                    format!("{} is no probability above 0", probabilities[token]),
                );
            }
            let sum: f64 = probabilities.iter().map(|p| p.ln()).sum();
            let recorded = !probabilities.is_empty();
            samples.push(Sample {
                text: answer.text,
                answer: Some(answer.answer),
                correct: Some(answer.correct),
                mean_logprob: recorded.then(|| sum / probabilities.len() as f64),
                sum_logprob: recorded.then_some(sum),
                score: answer.conf.get(source.field).copied().flatten(),
                extra: Map::from_iter([
                    ("method".to_owned(), json!(answer.method)),
                    ("run".to_owned(), json!(answer.run)),
                    ("conf".to_owned(), json!(answer.conf)),
                ]),
                ..Sample::default()
            });
        }
        Ok(SampleRow {
            id: row.id.into(),
            question: row.question,
            gold: Some(row.gold.into()),
            samples,
            extra: Map::from_iter([("score_is".to_owned(), Value::from(source.field))]),
        })
    })?;
    Ok(made.imported(Rows::Samples))
}

fn judgements(source: &Source<'_>) -> Result<Imported> {
    let mut absent = 0_usize;
    let made = source.each(|_, row: Row| {
        let id = String::from(row.id);
        let mut judgements = Vec::with_capacity(row.samples.len());
        for (index, answer) in row.samples.iter().enumerate() {
            match answer.conf.get(source.field).copied().flatten() {
                None => absent += 1,
                Some(confidence) if (0.0..=1.0).contains(&confidence) => judgements.push(JudgementRow {
                    id: format!("{id}/{}/{}", answer.method, answer.run),
                    confidence,
                    correct: answer.correct,
                }),
                Some(other) => {
                    return refused(
                        format!("samples[{index}].conf.{}", source.field),
                        format!("{other} is not between 0 and 1"),
                    );
                }
            }
        }
        Ok(judgements)
    })?;
    let Made { rows, skipped_count, skipped } = made;
    let rows: Vec<JudgementRow> = rows.into_iter().flatten().collect();
    if rows.is_empty() {
        return Err(RememberError::Import {
            problem: format!("`{}` records `{}` for no answer", source.path.display(), source.field),
            hint: "take another `--field`".into(),
        });
    }
    let notes = match absent {
        0 => Vec::new(),
        _ => vec![format!("{absent} answers without `{}` left out", source.field)],
    };
    Ok(Imported { rows: Rows::Judgements(rows), skipped_count, skipped, notes })
}
