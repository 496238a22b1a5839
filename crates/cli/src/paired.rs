//! Paired comparisons as the commands print them.

use crate::failure::Failure;
use crate::output;
use elenchus_measure::{Comparison, holm};

/// Holm-adjusted p-values of McNemar's test, in the order of the comparisons; a comparison without the test (outcomes that
/// are not right or wrong) has none and counts for none.
///
/// # Errors
/// A p-value outside 0 to 1.
pub fn adjusted_p<'a>(
    comparisons: impl IntoIterator<Item = &'a Comparison>,
) -> Result<Vec<Option<f64>>, Failure> {
    let raw: Vec<Option<f64>> =
        comparisons.into_iter().map(|comparison| comparison.mcnemar.as_ref().map(|m| m.p_value)).collect();
    let tested: Vec<f64> = raw.iter().copied().flatten().collect();
    let mut adjusted = if tested.is_empty() { Vec::new() } else { holm(&tested)? }.into_iter();
    Ok(raw.into_iter().map(|p| p.and_then(|_| adjusted.next())).collect())
}

/// The sentence of a comparison, with the adjusted p-value behind it.
pub fn sentence(comparison: &Comparison, adjusted_p: Option<f64>) -> String {
    let p = adjusted_p.map_or(String::new(), |p| format!(" (McNemar p = {p:.4}, Holm-adjusted)"));
    format!("{}{p}", comparison.sentence)
}

/// Prints the sentence of a comparison, and below it how often which of the two was right.
pub fn lines(comparison: &Comparison, adjusted_p: Option<f64>) -> Result<(), Failure> {
    output::line(&sentence(comparison, adjusted_p))?;
    let Some(m) = &comparison.mcnemar else { return Ok(()) };
    output::line(&format!(
        "  right by {} only: {}; by {} only: {}; by both: {}; by neither: {}",
        comparison.first, m.only_first, comparison.second, m.only_second, m.both, m.neither
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use elenchus_measure::{Bootstrap, compare};

    #[test]
    fn a_comparison_without_the_test_shifts_no_p_value() {
        let compared = |second: &[f64]| {
            let first = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0];
            compare("a", &first, "b", second, &Bootstrap::default()).unwrap()
        };
        let clear = compared(&[0.0; 6]);
        let graded = compared(&[0.5; 6]);
        let slight = compared(&[0.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
        let found = adjusted_p([&clear, &graded, &slight]).unwrap();
        // 2 / 2^6, twice for two tests; the other is 1.
        assert!((found[0].unwrap() - 0.0625).abs() < 1e-12 && found[1..] == [None, Some(1.0)], "{found:?}");
        assert!(sentence(&clear, found[0]).ends_with("(McNemar p = 0.0625, Holm-adjusted)"));
        assert_eq!(sentence(&graded, None), graded.sentence);
        assert!(adjusted_p([]).unwrap().is_empty());
    }
}
