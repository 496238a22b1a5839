//! The paper's claim about programs: where answers are programs that unit tests judge, the most certain of 16 samples beats
//! greedy decoding. The model is the lab's `program-writer`.

use super::{
    CLAIMED, Draw, Findings, MEASURES, Method, PerModel, Questions, Reproduce, collect, first_right,
};
use super::{per_question, subset, subset_seed};
use crate::RecipeError;
use crate::lab::program_writer::PROGRAM_WRITER;
use crate::reproduce::pool::{credit, mean};
use crate::reproduce::resampling::Resampling;
use elenchus_learn::rollouts::mix;
use elenchus_measure::{Bootstrap, Cell, Interval, Table};
use elenchus_task::Split;
use serde::Deserialize;
use serde_json::Value;

/// Settings of this part.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    /// Test problems; 0 leaves this part out.
    questions: usize,
    /// Settings of the task.
    task: Value,
    /// Training seeds of the checkpoint.
    writers: Vec<u64>,
}

/// One checkpoint on the test problems.
pub(super) struct Programs {
    samples: Questions,
    /// Per problem: whether the greedy program passes.
    greedy: Vec<f64>,
}

/// Draws programs of every checkpoint over `model`.
pub(super) fn measure(
    input: &Reproduce<'_>,
    model: &str,
    m: usize,
    settings: &Settings,
    draw: Draw,
) -> Result<Vec<Programs>, RecipeError> {
    if settings.questions == 0 {
        return Ok(Vec::new());
    }
    let task = elenchus_task::task("program", &settings.task)?;
    let mut found = Vec::with_capacity(settings.writers.len());
    for &seed in &settings.writers {
        let mut policy = input.lab_model(PROGRAM_WRITER, model, seed)?.load()?.policy();
        let mut drawn = |what: &str, draw: Draw| {
            let label = format!("{what}/{m}/{seed}");
            collect(input, &mut policy, task.as_ref(), Split::Test, settings.questions, draw, &label)
        };
        let samples = drawn("programs", draw)?;
        let greedy = first_right(&drawn("greedy programs", Draw { samples: 1, temperature: 0.0 })?);
        found.push(Programs { samples, greedy });
    }
    Ok(found)
}

/// Per problem: whether any of so many samples passes, averaged over the draws.
fn any_right(questions: &Questions, size: usize, draws: usize, seed: u64) -> Vec<f64> {
    let right = |q: usize, samples: &Vec<super::Scored>| {
        let draws = if size >= samples.len() { 1 } else { draws };
        let any =
            |draw| subset(seed, q, size, draw, samples.len()).iter().any(|&place| samples[place].correct);
        mean(&(0..draws).map(|draw| credit(any(draw))).collect::<Vec<f64>>())
    };
    questions.iter().enumerate().map(|(q, samples)| right(q, samples)).collect()
}

/// Estimates of the claims about programs, and the table of methods.
pub(super) fn report(
    input: &Reproduce<'_>,
    settings: &super::Settings,
    found: &[PerModel],
    findings: &mut Findings,
) -> Result<(), RecipeError> {
    let all: Vec<&Programs> = found.iter().flat_map(|model| &model.programs).collect();
    if all.is_empty() {
        return Ok(());
    }
    let seed = subset_seed(input.seed);
    let resampling = Resampling::new(Bootstrap::default().seed(mix(seed, 1)), all.len());
    let pooled = |of: &dyn Fn(&Programs) -> Vec<f64>| -> Vec<f64> {
        all.iter().flat_map(|programs| of(programs)).collect()
    };
    let by = |method: Method, size: usize| {
        pooled(&|programs| per_question(&programs.samples, method, size, settings.draws, seed))
    };
    let greedy = pooled(&|programs| programs.greedy.clone());
    let mut claim = |id: &str, left: &[f64], right: &[f64]| -> Result<(), RecipeError> {
        findings.estimates.insert(id.into(), resampling.paired(left, right)?);
        Ok(())
    };
    let certain = by(Method::Argmax(0), CLAIMED);
    claim("programs", &certain, &greedy)?;
    claim("programs-over-first", &certain, &by(Method::First, CLAIMED))?;
    claim("programs-logprob", &by(Method::Argmax(1), CLAIMED), &greedy)?;

    let sizes = &settings.sizes;
    let mut table = Table::new(
        "Programs that pass all tests",
        std::iter::once("method".to_string()).chain(sizes.iter().map(|n| format!("N = {n}"))),
    )
    .note("All methods but greedy decoding choose among the same samples; the most frequent program is that of equal texts.");
    let mut line = |name: String, of: &dyn Fn(usize) -> Vec<f64>| -> Result<(), RecipeError> {
        let intervals: Vec<Interval> =
            sizes.iter().map(|&n| resampling.mean(&of(n))).collect::<Result<_, _>>()?;
        let cells = std::iter::once(Cell::Text(name)).chain(intervals.into_iter().map(Cell::PercentInterval));
        table = table.clone().row(cells);
        Ok(())
    };
    line("greedy".into(), &|_| greedy.clone())?;
    line("first sample".into(), &|n| by(Method::First, n))?;
    line("most frequent program".into(), &|n| by(Method::Majority, n))?;
    for (index, (name, _)) in MEASURES.iter().enumerate() {
        line(format!("argmax {name}"), &|n| by(Method::Argmax(index), n))?;
    }
    line("any (oracle)".into(), &|n| {
        pooled(&|programs| any_right(&programs.samples, n, settings.draws, seed))
    })?;
    findings.tables.push(table);
    findings.notes.push(format!(
        "Programs: the lab's `{PROGRAM_WRITER}` on the task `program` with {}; {} problems whose functions were not \
         taught.",
        settings.programs.task, settings.programs.questions
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Scored;
    use super::*;

    #[test]
    fn an_oracle_finds_what_is_there_and_more_samples_find_more() {
        let sample =
            |correct| Scored { text: String::new(), answer: None, correct, length: 1, scores: vec![0.0] };
        let questions: Questions =
            vec![(0..16).map(|place| sample(place == 3)).collect(), (0..16).map(|_| sample(false)).collect()];
        assert_eq!(any_right(&questions, 16, 5, 1), [1.0, 0.0]);
        let few = any_right(&questions, 4, 200, 1);
        assert!((few[0] - 0.25).abs() < 0.1 && few[1] == 0.0, "4 of 16 places: {few:?}");
    }
}
