//! I1: the three-layer meter. Latent: the next token when one head of a layer speaks alone, and the next token read off
//! each layer; decoding: the next token under several ways of decoding; response: the answers of several chains.

use super::{Bench, Findings, models};
use crate::RecipeError;
use crate::lab::chains::Length;
use crate::reproduce::asked::Asked;
use elenchus_control::consistency_labels;
use elenchus_evaluate::{group_answers, head_tokens, last_states, layer_tokens};
use elenchus_generate::{ACTOR, Context, GenerateRequest, Sampling};
use elenchus_measure::{Cell, Interval, Table, auroc_interval, consistency, log_spread, population_variance};
use elenchus_task::{Split, Task};
use elenchus_trace::{Message, Problem};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;

/// Expressions that are compared at every layer: as many as the model has heads.
const EXPRESSIONS: usize = 4;
/// Responses of the response layer.
const RESPONSES: usize = 5;
/// What is added to the eigenvalues of the states' covariance.
const RIDGE: f64 = 1e-3;

/// What was read of one problem.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Read {
    /// `[layer][head]`: the token when this head of the layer speaks alone.
    heads: Vec<Vec<String>>,
    /// The token read off each layer.
    lens: Vec<String>,
    /// Greedy, beam of 5, sampling, top-k 50, top-p 0.95; one token.
    decoding: Vec<String>,
    /// Answers of the chains.
    response: Vec<Option<String>>,
    /// Which of them are right.
    right: Vec<bool>,
    /// Log-volume of the chains' last-token states in the middle of the model.
    spread: f64,
}

async fn read(
    context: Context,
    task: Arc<dyn Task>,
    problem: Problem,
    layers: usize,
) -> Result<Read, RecipeError> {
    let evaluated = |error| RecipeError::Control(elenchus_control::ControlError::Evaluate(error));
    let direct = [Message::user(Length::Direct.prompt(&problem))];
    let behind = [direct[0].clone(), Message::assistant("#")];
    let tokens = head_tokens(&context, ACTOR, &direct, "#", &[], 0.0).await.map_err(evaluated)?;
    let mut heads: Vec<Vec<String>> = vec![Vec::new(); layers];
    for token in tokens {
        if let Some(of_layer) = heads.get_mut(token.layer) {
            of_layer.push(token.text);
        }
    }
    let lens = layer_tokens(&context, ACTOR, &direct, "#").await.map_err(evaluated)?;
    let one = |temperature: f32, top_k: u32, top_p: f32, place: u64| {
        let seed = context.seed_for(&problem.id, place);
        GenerateRequest {
            sampling: Sampling { temperature, top_k, top_p, max_tokens: 1, seed, ..Sampling::default() },
            ..GenerateRequest::new(behind.to_vec())
        }
    };
    let mut decoding = Vec::new();
    // The best of a beam of one token is the likeliest token.
    let ways = [(0.0, 0, 1.0), (0.0, 0, 1.0), (1.0, 0, 1.0), (1.0, 50, 1.0), (1.0, 0, 0.95)];
    for (place, (temperature, top_k, top_p)) in ways.into_iter().enumerate() {
        let written = context.generate(ACTOR, &one(temperature, top_k, top_p, place as u64)).await?;
        decoding.extend(written.into_iter().next().map(|completion| completion.text));
    }
    let chain = [Message::user(Length::Full.prompt(&problem))];
    let request = GenerateRequest {
        samples: RESPONSES,
        sampling: Sampling { max_tokens: 120, seed: context.seed_for(&problem.id, 9), ..Sampling::default() },
        ..GenerateRequest::new(chain.to_vec())
    };
    let (mut response, mut right, mut states) = (Vec::new(), Vec::new(), Vec::new());
    for completion in context.generate(ACTOR, &request).await? {
        response.push(task.extract(&problem, &completion.text));
        right.push(task.verify(&problem, &completion.text)?.is_correct());
        let read = last_states(&context, ACTOR, &chain, &completion.text, &[layers / 2]).await;
        states.extend(read.map_err(evaluated)?);
    }
    let lens = lens.into_iter().map(|token| token.text).collect();
    Ok(Read { heads, lens, decoding, response, right, spread: log_spread(&states, RIDGE)? })
}

fn numbered(answers: &[Option<&str>]) -> Vec<usize> {
    consistency_labels(&group_answers(answers, |left, right| left == right))
}

/// c at n = 4: the mean over all choices of 4 of the labels, so that layers with more expressions compare.
fn at_four(labels: &[usize]) -> f64 {
    let c = |labels: &[usize]| consistency(labels).ok().and_then(|found| found.normalised).unwrap_or(0.0);
    if labels.len() <= EXPRESSIONS {
        return c(labels);
    }
    let values: Vec<f64> = (0u32..1 << labels.len())
        .filter(|mask| mask.count_ones() as usize == EXPRESSIONS)
        .map(|mask| {
            let kept: Vec<usize> =
                labels.iter().enumerate().filter(|(i, _)| mask >> i & 1 == 1).map(|(_, &l)| l).collect();
            c(&kept)
        })
        .collect();
    super::mean(&values)
}

/// The variance of answers that are numbers; `None` when one is not.
fn variance(answers: &[Option<&str>]) -> Option<f64> {
    let numbers: Option<Vec<f64>> = answers.iter().map(|answer| answer.as_ref()?.parse().ok()).collect();
    population_variance(&numbers?).ok()
}

/// A layer of the table: its name and, per seed and question, its answers.
type Row = (String, Vec<Vec<Vec<Option<String>>>>);

pub(super) fn run(bench: &Bench<'_>, findings: &mut Findings) -> Result<(), RecipeError> {
    let task: Arc<dyn Task> = Arc::from(bench.task(&json!({"steps": [2, 4], "largest_value": 9}))?);
    let problems = bench.problems(task.as_ref(), Split::Test, bench.settings.layer_questions, 20)?;
    let mut all: Vec<Vec<Read>> = Vec::new();
    for (label, built) in models(bench, "chains")? {
        let layers = built.load()?.model.config().layers;
        let asked = Asked::new(bench.input, &built.folder.display().to_string())?;
        all.push(asked.each(&format!("{label} layers"), &problems, |context, problem| {
            read(context.clone(), Arc::clone(&task), problem.clone(), layers)
        })?);
    }
    let layers = all.iter().flatten().map(|read| read.heads.len()).min().unwrap_or(0);
    let collect = |of: &dyn Fn(&Read) -> Vec<Option<String>>| -> Vec<Vec<Vec<Option<String>>>> {
        all.iter().map(|seed| seed.iter().map(of).collect()).collect()
    };
    let owned = |tokens: &[String]| tokens.iter().cloned().map(Some).collect::<Vec<_>>();
    let mut rows: Vec<Row> = (0..layers)
        .map(|layer| {
            (format!("latent: heads of layer {}", layer + 1), collect(&|read| owned(&read.heads[layer])))
        })
        .collect();
    rows.push(("latent: read off each layer".into(), collect(&|read| owned(&read.lens[1..]))));
    rows.push(("decoding".into(), collect(&|read| owned(&read.decoding))));
    rows.push(("response".into(), collect(&|read| read.response.clone())));
    let mut table = Table::new(
        "Three layers",
        [
            "layer",
            "c at n = 4",
            "entropy, bits",
            "pairs that agree",
            "distinct",
            "variance",
            "majority right",
        ],
    )
    .note("Per problem, then the mean. Variance where all answers are numbers.");
    let mut c_of: Vec<Vec<Vec<f64>>> = Vec::new();
    for (name, answers) in &rows {
        let c: Vec<Vec<f64>> = answers
            .iter()
            .map(|seed| seed.iter().map(|one| at_four(&numbered(&borrowed(one)))).collect())
            .collect();
        let flat: Vec<&Vec<Option<String>>> = answers.iter().flatten().collect();
        let over = |of: &dyn Fn(&[Option<&str>]) -> Option<f64>| -> Vec<f64> {
            flat.iter().filter_map(|one| of(&borrowed(one))).collect()
        };
        let found = |one: &[Option<&str>]| consistency(&numbered(one)).ok();
        let gold = problems.iter().map(|problem| problem.gold.as_deref()).cycle();
        let right: Vec<f64> = flat
            .iter()
            .zip(gold)
            .map(|(one, gold)| {
                let majority = found(&borrowed(one)).and_then(|found| one[found.majority].as_deref());
                f64::from(u8::from(majority.is_some() && majority == gold))
            })
            .collect();
        let variances = over(&variance);
        table = table.row([
            Cell::Text(name.clone()),
            Cell::PercentInterval(bench.over(&c)?),
            Cell::Number(super::mean(&over(&|one| Some(found(one)?.entropy_bits))), 3),
            Cell::Percent(super::mean(&over(&|one| found(one)?.agreement))),
            Cell::Percent(super::mean(&over(&|one| Some(found(one)?.unique_ratio)))),
            if variances.is_empty() { Cell::Missing } else { Cell::Number(super::mean(&variances), 3) },
            Cell::PercentInterval(bench.bootstrap.mean(&right)?),
        ]);
        c_of.push(c);
    }
    findings.tables.push(table);
    let apart = |left: usize, right: usize| -> Result<Interval, RecipeError> {
        let pairs = c_of[left].iter().zip(&c_of[right]);
        bench.over(&pairs.map(|(a, b)| a.iter().zip(b).map(|(a, b)| a - b).collect()).collect::<Vec<_>>())
    };
    if layers > 1 {
        let (early, late, decoding, response) = (0, layers - 1, layers + 1, layers + 2);
        findings.estimates.insert("late-over-early".into(), apart(late, early)?);
        findings.estimates.insert("decoding-over-early".into(), apart(decoding, early)?);
        findings.estimates.insert("decoding-over-response".into(), apart(decoding, response)?);
    }
    let scored: Vec<(f64, bool)> = all
        .iter()
        .flatten()
        .map(|read| {
            let answers: Vec<Option<&str>> = read.response.iter().map(Option::as_deref).collect();
            let majority = consistency(&numbered(&answers)).ok().map(|found| found.majority);
            (-read.spread, majority.and_then(|at| read.right.get(at).copied()).unwrap_or(false))
        })
        .collect();
    if let Some(interval) = auroc_interval(&bench.bootstrap, "AUROC of the spread", &scored)? {
        findings.estimates.insert("spread-auroc".into(), interval);
    }
    Ok(())
}

fn borrowed(answers: &[Option<String>]) -> Vec<Option<&str>> {
    answers.iter().map(Option::as_deref).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_compare_at_the_same_number_of_expressions() {
        // 4, 4, 3, 4, 4: four choices hold one 3 (H = 0.811278 bits), one holds none.
        let found = at_four(&[0, 0, 1, 0, 0]);
        assert!((found - (4.0 * (1.0 - 0.811_278_124 / 2.0) + 1.0) / 5.0).abs() < 1e-6, "{found}");
        assert_eq!(at_four(&[0, 1, 2, 3]), 0.0);
        assert_eq!(at_four(&[2, 2, 2, 2]), 1.0);
    }

    #[test]
    fn only_numbers_have_a_variance() {
        let decoding = ["4", "4", "3", "4", "4"].map(String::from);
        assert!(
            (variance(&decoding.each_ref().map(|token| Some(token.as_str()))).unwrap() - 0.16).abs() < 1e-12
        );
        assert_eq!(variance(&[Some("4"), Some("#")]), None);
        assert_eq!(variance(&[Some("4"), None]), None);
    }
}
