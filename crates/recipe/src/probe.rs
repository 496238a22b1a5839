//! Which temperature yields the most distinct right responses: the probe of B-STaR (arXiv 2412.17256) on samples of any
//! model, without its weights.

use crate::RecipeError;
use elenchus_learn::rounds::{Pools, ScoredSample};
use elenchus_measure::{Bootstrap, Interval, accuracy, distinct_correct, normalised_text};
use serde::Serialize;

/// A response to a problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbedSample {
    /// The response.
    pub text: String,
    /// Whether the verifier accepts it.
    pub correct: bool,
}

/// What the samples at one temperature are worth.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProbedTemperature {
    /// The temperature.
    pub temperature: f64,
    /// Responses that came.
    pub responses: usize,
    /// Share of right responses, mean over problems.
    pub accuracy: Interval,
    /// Distinct right responses, as a share of all responses.
    pub distinct_right: f64,
    /// Share of problems with a right response.
    pub pass: Interval,
    /// Mean balance score: over problems, min(n' / n*, 1) · n' / n, of n kept responses n' distinct and right. A verifier
    /// keeps right ones only, so that the second factor is 1 and the score says how much of what is wanted was found.
    pub balance: f64,
    /// How alike the responses to one problem are: [`shared_beginning`], mean over problems.
    pub shared_beginning: f64,
    /// Responses that are kept to learn from.
    pub kept: usize,
    /// Most of one problem among them.
    pub most_per_problem: usize,
}

/// The result of a probe.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Probed {
    /// One per temperature, in the order in which they were given.
    pub temperatures: Vec<ProbedTemperature>,
    /// The temperature with the highest balance score, of equal ones the lowest.
    pub chosen: f64,
    /// By how much more the responses to one problem share at the lowest temperature than at the highest; `None` with one
    /// temperature.
    pub told_apart: Option<Interval>,
    /// Why the endpoint is held to ignore the temperature; then nothing should be chosen.
    pub ignored: Option<String>,
}

/// How much of their beginnings responses share: the words that two responses begin with in common, as a share of the
/// longer one's, mean over pairs. 1 when all are one text; falls as the temperature rises, also where hardly two responses
/// are the same. `None` for fewer than two.
pub fn shared_beginning(texts: &[&str]) -> Option<f64> {
    let words: Vec<Vec<&str>> = texts.iter().map(|text| text.split_whitespace().collect()).collect();
    let (mut sum, mut pairs) = (0.0, 0usize);
    for (at, left) in words.iter().enumerate() {
        for right in &words[at + 1..] {
            let longer = left.len().max(right.len());
            let shared = left.iter().zip(right).take_while(|(left, right)| left == right).count();
            sum += if longer == 0 { 1.0 } else { shared as f64 / longer as f64 };
            pairs += 1;
        }
    }
    (pairs > 0).then(|| sum / pairs as f64)
}

/// What samples at several temperatures `[temperature][problem][sample]` are worth; `wanted` is n*, the distinct right
/// responses that are wanted per problem. All temperatures have the same problems.
///
/// # Errors
/// No temperature, or no problem.
pub fn probe_temperatures(
    samples: &[(f64, Vec<Vec<ProbedSample>>)],
    wanted: usize,
    seed: u64,
) -> Result<Probed, RecipeError> {
    let bootstrap = Bootstrap::default().seed(seed);
    let mut temperatures = Vec::with_capacity(samples.len());
    // [temperature][problem]
    let mut alike: Vec<Vec<Option<f64>>> = Vec::with_capacity(samples.len());
    for (temperature, problems) in samples {
        let share = |pool: &Vec<ProbedSample>| {
            pool.iter().filter(|sample| sample.correct).count() as f64 / pool.len().max(1) as f64
        };
        let distinct: usize = problems
            .iter()
            .map(|pool| distinct_correct(pool.iter().map(|one| (one.text.as_str(), one.correct))).len())
            .sum();
        let scored: Vec<Vec<ScoredSample>> = problems.iter().map(|pool| scored(pool)).collect();
        let pools = Pools::new(&scored);
        // The verifier's reward is 1 or 0: any threshold between keeps the right ones.
        let most = problems.iter().map(Vec::len).max().unwrap_or(1);
        let selection = pools.select(0.5, wanted * problems.len(), most);
        let shared: Vec<Option<f64>> = problems
            .iter()
            .map(|pool| shared_beginning(&pool.iter().map(|one| one.text.as_str()).collect::<Vec<_>>()))
            .collect();
        let known: Vec<f64> = shared.iter().flatten().copied().collect();
        let responses = problems.iter().map(Vec::len).sum::<usize>();
        temperatures.push(ProbedTemperature {
            temperature: *temperature,
            responses,
            accuracy: bootstrap.mean(&problems.iter().map(share).collect::<Vec<_>>())?,
            distinct_right: distinct as f64 / responses.max(1) as f64,
            pass: accuracy(problems.iter().filter(|pool| share(pool) > 0.0).count(), problems.len())?,
            balance: pools.balance(&selection, wanted as f64),
            shared_beginning: known.iter().sum::<f64>() / known.len().max(1) as f64,
            kept: selection.kept.len(),
            most_per_problem: selection.cap,
        });
        alike.push(shared);
    }
    let by_temperature = |left: &&ProbedTemperature, right: &&ProbedTemperature| {
        left.temperature.total_cmp(&right.temperature)
    };
    let chosen = temperatures
        .iter()
        .max_by(|left, right| left.balance.total_cmp(&right.balance).then(by_temperature(right, left)))
        .map_or(f64::NAN, |best| best.temperature);
    let place = |wanted: Option<&ProbedTemperature>| {
        temperatures.iter().position(|one| Some(one.temperature) == wanted.map(|found| found.temperature))
    };
    let lowest = place(temperatures.iter().min_by(by_temperature));
    let highest = place(temperatures.iter().max_by(by_temperature));
    let told_apart = match (lowest, highest) {
        (Some(low), Some(high)) if low != high => {
            let both = alike[low].iter().zip(&alike[high]);
            let differences: Vec<f64> = both.filter_map(|(low, high)| Some((*low)? - (*high)?)).collect();
            if differences.is_empty() { None } else { Some(bootstrap.mean(&differences)?) }
        }
        _ => None,
    };
    let ignored = ignored(samples, told_apart, lowest.zip(highest));
    Ok(Probed { temperatures, chosen, told_apart, ignored })
}

/// The samples with the verifier's reward; texts that differ in white space alone are one.
fn scored(pool: &[ProbedSample]) -> Vec<ScoredSample> {
    pool.iter()
        .map(|sample| ScoredSample {
            text: normalised_text(&sample.text),
            reward: f64::from(u8::from(sample.correct)),
            correct: sample.correct,
        })
        .collect()
}

/// In words, why the samples do not depend on the temperature, where they do not.
fn ignored(
    samples: &[(f64, Vec<Vec<ProbedSample>>)],
    told_apart: Option<Interval>,
    ends: Option<(usize, usize)>,
) -> Option<String> {
    let one_text =
        |pool: &Vec<ProbedSample>| pool.len() > 1 && pool.windows(2).all(|two| two[0].text == two[1].text);
    let several = |pool: &&Vec<ProbedSample>| pool.len() > 1;
    let mut pools = samples.iter().flat_map(|(_, problems)| problems).filter(several).peekable();
    if pools.peek().is_some() && pools.all(one_text) {
        return Some("all responses to each problem are one and the same text at every temperature".into());
    }
    let (difference, (low, high)) = told_apart.zip(ends)?;
    (difference.low <= 0.0).then(|| {
        format!(
            "responses at {} and at {} cannot be told apart: they share as much of their beginnings (difference {:+.1} points \
             [{:+.1}, {:+.1}])",
            samples[low].0,
            samples[high].0,
            100.0 * difference.value,
            100.0 * difference.low,
            100.0 * difference.high
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(samples: &[(&str, bool)]) -> Vec<ProbedSample> {
        samples
            .iter()
            .map(|(text, correct)| ProbedSample { text: (*text).into(), correct: *correct })
            .collect()
    }

    #[test]
    fn beginnings_are_shared_word_by_word() {
        assert_eq!(shared_beginning(&["a b c d", "a b x"]), Some(0.5));
        assert_eq!(shared_beginning(&["a b", "a  b", "a b"]), Some(1.0));
        // Pairs: 1/2, 0, 0.
        assert!((shared_beginning(&["a b", "a c", "b"]).unwrap() - 0.5 / 3.0).abs() < 1e-12);
        assert_eq!(shared_beginning(&["a"]), None, "one response shares with nobody");
    }

    #[test]
    fn the_temperature_with_the_most_wanted_distinct_right_responses_is_chosen() {
        let cold = vec![pool(&[("so 4", true), ("so 4", true), ("so 4", true), ("so 4", true)]); 6];
        let warm = vec![pool(&[("so 4", true), ("thus 4", true), ("hence 5", false), ("so  4", true)]); 6];
        let hot = vec![pool(&[("x", false), ("y", false), ("z", false), ("it is 4", true)]); 6];
        let found = probe_temperatures(&[(0.4, cold), (0.8, warm), (1.2, hot)], 2, 1).unwrap();
        let balance: Vec<f64> = found.temperatures.iter().map(|one| one.balance).collect();
        assert_eq!(balance, [0.5, 1.0, 0.5]);
        let [_, warm, hot] = &found.temperatures[..] else { panic!("three temperatures") };
        assert_eq!((warm.accuracy.value, warm.distinct_right, warm.pass.value), (0.75, 0.5, 1.0));
        assert_eq!((warm.kept, warm.most_per_problem, hot.kept), (12, 2, 6));
        assert_eq!((found.chosen, found.ignored), (0.8, None));
    }

    #[test]
    fn of_equal_scores_the_lowest_temperature_is_chosen() {
        let alike = |first: &str| vec![pool(&[("so 4", true), (first, true)]); 4];
        let found = probe_temperatures(&[(1.0, alike("oh 4")), (0.5, alike("so it is 4"))], 2, 1).unwrap();
        assert_eq!((found.chosen, found.ignored), (0.5, None));
    }

    #[test]
    fn a_temperature_that_changes_nothing_is_told() {
        let same = vec![pool(&[("so 4", true), ("so 4", true)]); 4];
        let found = probe_temperatures(&[(0.4, same.clone()), (1.0, same.clone())], 2, 1).unwrap();
        assert!(found.ignored.unwrap().contains("one and the same text"));
        let alone = probe_temperatures(&[(0.7, same)], 2, 1).unwrap();
        assert!(alone.ignored.is_some() && alone.told_apart.is_none());
        // Samples differ, but at both temperatures alike.
        let some = vec![pool(&[("so 4", true), ("thus 5", false)]); 4];
        let found = probe_temperatures(&[(0.4, some.clone()), (1.0, some.clone())], 2, 1).unwrap();
        assert!(found.ignored.unwrap().contains("at 0.4 and at 1 cannot be told apart"));
        let alone = probe_temperatures(&[(0.7, some)], 2, 1).unwrap();
        assert_eq!(alone.ignored, None, "one temperature has nothing to be told from");
        assert!(probe_temperatures(&[(0.7, Vec::new())], 2, 1).is_err(), "no problem, no number");
    }
}
