//! CodeT records (CodeGen-16B on HumanEval): 100 programs per problem, the model's own assertions, and which program
//! passes which assertion.
//!
//! A sample's `answer` is its class: programs that pass the same assertions share the number (from 1) of the first of
//! them. Its `score` is how many of the unique assertions it passes. So `select --method sum --by score` weighs a class
//! by (programs in it) x (assertions passed), the dual agreement of CodeT (Chen et al. 2022, arXiv 2207.10397, section
//! 2.3: f(S) = |S_x| |S_y|); `self-consistency` is the largest class, `best-of-n` the program that passes most.

use super::{Format, Imported, Importer, Rows, Source, refused};
use crate::error::Result;
use elenchus_trace::{Sample, SampleRow};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::HashMap;

pub(super) const SAMPLES: Importer = Importer {
    name: "codet",
    reads: "CodeT records of the model's own tests: task_id, tests[], matrix[] of 0/1 texts",
    writes: Format::Samples,
    summary: "all programs of a problem; answer is the class of programs that pass the same own tests, score how many they pass",
    fields: &[],
    companion: Some("the programs: task_id, prompt, samples[], pass[]"),
    run: samples,
};

#[derive(Deserialize)]
struct Matrix {
    task_id: String,
    tests: Vec<String>,
    matrix: Vec<String>,
}

#[derive(Deserialize)]
struct Programs {
    task_id: String,
    prompt: String,
    samples: Vec<String>,
    pass: Vec<u8>,
}

fn samples(source: &Source<'_>) -> Result<Imported> {
    let programs = source.each_with(|_, row: Programs| {
        if row.pass.len() != row.samples.len() {
            let problem = format!("{} outcomes for {} programs", row.pass.len(), row.samples.len());
            return refused("pass", problem);
        }
        match row.pass.iter().position(|pass| *pass > 1) {
            Some(index) => refused(format!("pass[{index}]"), "is neither 0 nor 1"),
            None => Ok((row.task_id.clone(), row)),
        }
    })?;
    let (broken, mut details) = (programs.skipped_count, programs.skipped);
    let mut programs: HashMap<String, Programs> = programs.rows.into_iter().collect();
    let made = source.each(|_, row: Matrix| {
        let Some(programs) = programs.remove(&row.task_id) else {
            return refused("task_id", format!("the second file has no `{}` left", row.task_id));
        };
        if row.matrix.len() != programs.samples.len() {
            let problem = format!("{} rows for {} programs", row.matrix.len(), programs.samples.len());
            return refused("matrix", problem);
        }
        let mut classes: HashMap<&str, usize> = HashMap::new();
        let mut samples = Vec::with_capacity(programs.samples.len());
        let outcomes = row.matrix.iter().zip(programs.samples).zip(programs.pass);
        for (index, ((passed, text), pass)) in outcomes.enumerate() {
            if passed.len() != row.tests.len() || passed.bytes().any(|mark| !matches!(mark, b'0' | b'1')) {
                let problem = format!("is not a text of {} marks 0 or 1", row.tests.len());
                return refused(format!("matrix[{index}]"), problem);
            }
            let class = *classes.entry(passed).or_insert(index + 1);
            samples.push(Sample {
                text,
                answer: Some(class.to_string()),
                correct: Some(pass == 1),
                score: Some(passed.bytes().filter(|mark| *mark == b'1').count() as f64),
                ..Sample::default()
            });
        }
        Ok(SampleRow {
            id: row.task_id,
            question: programs.prompt,
            gold: None,
            samples,
            extra: Map::from_iter([("own_tests".to_owned(), Value::from(row.tests.len()))]),
        })
    })?;
    let mut imported = made.imported(Rows::Samples);
    if !programs.is_empty() {
        imported.notes.push(format!("{} problems without own tests left out", programs.len()));
    }
    imported.skipped_count += broken;
    imported.skipped.append(&mut details);
    Ok(imported)
}
