//! Which known names a mistyped one may have meant.

/// Up to three known names by edit distance, nearest first, as a phrase for a `hint:` line; all names when none is
/// near (more than half of the letters differ). Case and the choice between `-` and `_` do not count.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let wanted = plain(name);
    let mut ranked: Vec<(usize, &str)> = known
        .iter()
        .map(|candidate| (plain(candidate), *candidate))
        .map(|(spelled, candidate)| (distance(&wanted, &spelled), spelled, candidate))
        .filter(|(distance, spelled, _)| {
            2 * distance <= spelled.chars().count().max(wanted.chars().count()) || spelled.contains(&wanted)
        })
        .map(|(distance, _, candidate)| (distance, candidate))
        .collect();
    ranked.sort();
    ranked.truncate(3);
    let quoted =
        |names: Vec<&str>| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if ranked.is_empty() || wanted.is_empty() {
        format!("known are {}", quoted(known))
    } else {
        format!("did you mean {}?", quoted(ranked.into_iter().map(|(_, name)| name).collect()))
    }
}

/// A name without what people mix up.
fn plain(name: &str) -> String {
    name.to_lowercase().replace('_', "-")
}

/// Levenshtein distance in characters.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, r) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(l != *r);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_offered_and_far_ones_listed() {
        let known = ["certainty", "judge", "critic"];
        assert_eq!(nearest("certanty", known), "did you mean `certainty`?");
        assert_eq!(nearest("Jugde", known), "did you mean `judge`?");
        assert_eq!(nearest("zzzzzz", known), "known are `certainty`, `judge`, `critic`");
        assert_eq!(nearest("", known), "known are `certainty`, `judge`, `critic`");
        assert_eq!(nearest("max-token", ["max_tokens", "min_p"]), "did you mean `max_tokens`?");
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
    }
}
