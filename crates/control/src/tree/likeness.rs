//! How alike two nodes are: by the texts that were generated behind them.

use std::collections::BTreeMap;

/// The running mean of what texts look like.
#[derive(Debug, Clone, PartialEq)]
pub enum Likeness {
    /// The mean of embeddings, each of length 1; similarity is the cosine.
    Embedding {
        /// The mean.
        mean: Vec<f64>,
        /// How many texts.
        count: u32,
    },
    /// The mean of the sets of words, a substitute where there are no embeddings; similarity is the Jaccard index of the
    /// means, Σ min / Σ max.
    Words {
        /// Share of the texts that hold each word.
        mean: BTreeMap<String, f64>,
        /// How many texts.
        count: u32,
    },
}

impl Likeness {
    /// Of one embedding; `None` where it has no length or is not finite.
    pub fn embedding(vector: &[f32]) -> Option<Self> {
        let length = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
        (length.is_finite() && length > 0.0).then(|| Likeness::Embedding {
            mean: vector.iter().map(|&x| f64::from(x) / length).collect(),
            count: 1,
        })
    }

    /// Of the words of one text; `None` where it has none.
    pub fn words(text: &str) -> Option<Self> {
        let mean: BTreeMap<String, f64> = text
            .split(|c: char| !c.is_alphanumeric())
            .filter(|word| !word.is_empty())
            .map(|word| (word.to_lowercase(), 1.0))
            .collect();
        (!mean.is_empty()).then_some(Likeness::Words { mean, count: 1 })
    }

    /// Takes one more text into the mean. One of another kind or size is left out.
    pub fn take(&mut self, other: &Likeness) {
        match (self, other) {
            (Likeness::Embedding { mean, count }, Likeness::Embedding { mean: new, .. })
                if mean.len() == new.len() =>
            {
                *count += 1;
                let share = 1.0 / f64::from(*count);
                for (old, new) in mean.iter_mut().zip(new) {
                    *old += (new - *old) * share;
                }
            }
            (Likeness::Words { mean, count }, Likeness::Words { mean: new, .. }) => {
                *count += 1;
                let share = 1.0 / f64::from(*count);
                for word in new.keys() {
                    mean.entry(word.clone()).or_insert(0.0);
                }
                for (word, old) in mean.iter_mut() {
                    *old += (new.get(word).copied().unwrap_or(0.0) - *old) * share;
                }
            }
            _ => {}
        }
    }

    /// Cosine or Jaccard index; `None` between kinds or sizes.
    pub fn similarity(&self, other: &Likeness) -> Option<f64> {
        match (self, other) {
            (Likeness::Embedding { mean: left, .. }, Likeness::Embedding { mean: right, .. })
                if left.len() == right.len() =>
            {
                let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
                let lengths = (dot(left, left) * dot(right, right)).sqrt();
                (lengths > 0.0).then(|| dot(left, right) / lengths)
            }
            (Likeness::Words { mean: left, .. }, Likeness::Words { mean: right, .. }) => {
                let (mut smaller, mut larger) = (0.0, 0.0);
                for (word, l) in left {
                    let r = right.get(word).copied().unwrap_or(0.0);
                    smaller += l.min(r);
                    larger += l.max(r);
                }
                larger +=
                    right.iter().filter(|(word, _)| !left.contains_key(*word)).map(|(_, r)| r).sum::<f64>();
                (larger > 0.0).then(|| smaller / larger)
            }
            _ => None,
        }
    }

    /// The components, each by a key that is the same for all nodes of a tree.
    fn components(&self) -> BTreeMap<String, f64> {
        match self {
            Likeness::Embedding { mean, .. } => {
                mean.iter().enumerate().map(|(place, value)| (place.to_string(), *value)).collect()
            }
            Likeness::Words { mean, .. } => {
                // Brought to length 1, as embeddings are.
                let length = mean.values().map(|v| v * v).sum::<f64>().sqrt();
                mean.iter()
                    .map(|(word, value)| (word.clone(), value / length.max(f64::MIN_POSITIVE)))
                    .collect()
            }
        }
    }
}

/// How far several nodes are apart: the Euclidean norm of the variances of the components. 0 of fewer than two.
pub fn spread(nodes: &[&Likeness]) -> f64 {
    if nodes.len() < 2 {
        return 0.0;
    }
    let count = nodes.len() as f64;
    let mut sums: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    for node in nodes {
        for (key, value) in node.components() {
            let entry = sums.entry(key).or_default();
            entry.0 += value;
            entry.1 += value * value;
        }
    }
    sums.values()
        .map(|(sum, squares)| {
            let mean = sum / count;
            let variance = (squares / count - mean * mean).max(0.0);
            variance * variance
        })
        .sum::<f64>()
        .sqrt()
}
