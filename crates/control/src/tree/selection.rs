//! Which child to go down to.

use super::{Extremes, NodeIndex, Statistics, Tree};

/// A selection formula: what a child is worth on the way down, higher first.
pub trait Selection: Send + Sync {
    /// The score of a child of this parent, given the extremes of mean values in the tree.
    fn score(&self, parent: &Statistics, child: &Statistics, extremes: &Extremes) -> f64;
}

/// q + c · p · √n_parent / (1 + n), where q is the mean value of a child and p its prior.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Puct {
    /// c.
    pub exploration: f64,
    /// Whether q is brought into 0 … 1 by the extremes of the tree first, (q − low) / (high − low + 10⁻⁵), and is 0 for a
    /// child without visits (arXiv 2309.07124). Otherwise q is taken as it is.
    pub normalise: bool,
}

/// Keeps the normalised value finite where all values are the same.
const SMALLEST_RANGE: f64 = 1e-5;

impl Selection for Puct {
    fn score(&self, parent: &Statistics, child: &Statistics, extremes: &Extremes) -> f64 {
        let value = match (self.normalise, child.visits > 0.0) {
            (false, _) => child.value,
            (true, false) => 0.0,
            (true, true) => (child.value - extremes.low) / (extremes.high - extremes.low + SMALLEST_RANGE),
        };
        value + self.exploration * child.prior * parent.visits.sqrt() / (1.0 + child.visits)
    }
}

/// q + c · √(f · ln n_parent / n); a child without visits comes first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Uct {
    /// c.
    pub exploration: f64,
    /// f under the root: 1 (arXiv 2404.12253) or 2 (arXiv 2411.11053).
    pub factor: f64,
}

impl Selection for Uct {
    fn score(&self, parent: &Statistics, child: &Statistics, _: &Extremes) -> f64 {
        if child.visits <= 0.0 {
            return f64::INFINITY;
        }
        // Below one visit the logarithm would turn the bonus into no number.
        let log = parent.visits.max(1.0).ln();
        child.value + self.exploration * (self.factor * log / child.visits).sqrt()
    }
}

/// The child with the highest score, the earlier one of several; none where there are no children.
pub fn select<D>(tree: &Tree<D>, selection: &dyn Selection, node: NodeIndex) -> Option<NodeIndex> {
    let parent = tree.statistics(node);
    let mut best: Option<(NodeIndex, f64)> = None;
    for &child in tree.children(node) {
        let score = selection.score(parent, tree.statistics(child), tree.extremes());
        if best.is_none_or(|(_, highest)| score > highest) {
            best = Some((child, score));
        }
    }
    best.map(|(child, _)| child)
}
