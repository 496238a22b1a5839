//! How a value found at a leaf reaches the nodes above it, and their siblings.

use super::{Likeness, NodeIndex, Tree};

/// Brings a value into the tree.
pub trait Backup<D>: Send + Sync {
    /// Takes the value of the last node of a path (from the root down) into the statistics.
    fn back_up(&self, tree: &mut Tree<D>, path: &[NodeIndex], value: f64);
}

/// Every node of the path takes the value into its running mean, as one visit.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct RunningMean;

impl<D> Backup<D> for RunningMean {
    fn back_up(&self, tree: &mut Tree<D>, path: &[NodeIndex], value: f64) {
        for &index in path {
            let statistics = &mut tree.node_mut(index).statistics;
            statistics.take(value, 1.0);
            statistics.true_visits += 1;
            tree.note_value(index);
        }
    }
}

/// Data whose likeness to that of a sibling can be told.
pub trait Alike {
    /// What it is like; `None` before anything is known.
    fn likeness(&self) -> Option<&Likeness>;
}

/// As [`RunningMean`], and siblings of the path's nodes that are alike take the value too, with the weight
/// w = share · s, where s is their similarity; only those with s > least (arXiv 2309.07124). What they take is no true visit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ShareAlike {
    /// Similarity above which a value is shared.
    pub least: f64,
    /// Weight of a shared value at similarity 1; 0 shares nothing.
    pub share: f64,
}

impl<D: Alike> Backup<D> for ShareAlike {
    fn back_up(&self, tree: &mut Tree<D>, path: &[NodeIndex], value: f64) {
        RunningMean.back_up(tree, path, value);
        if self.share <= 0.0 {
            return;
        }
        for &index in path {
            let alike: Vec<(NodeIndex, f64)> = tree
                .siblings(index)
                .filter_map(|sibling| {
                    let similarity =
                        tree.data(index).likeness()?.similarity(tree.data(sibling).likeness()?)?;
                    (similarity > self.least).then_some((sibling, similarity))
                })
                .collect();
            for (sibling, similarity) in alike {
                tree.node_mut(sibling).statistics.take(value, self.share * similarity);
                tree.note_value(sibling);
            }
        }
    }
}
