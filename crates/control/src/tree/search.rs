//! One search: down to a leaf, look at it, and back.

use super::{Backup, Child, NodeIndex, Selection, Tree, select};
use crate::ControlError;
use async_trait::async_trait;

/// What a method does at the nodes of a tree: everything that costs model calls.
#[async_trait]
pub trait Explorer<D: Send>: Send {
    /// Whether nothing comes behind this node.
    fn is_terminal(&self, data: &D) -> bool;

    /// The first children of a node; none where it has no continuation.
    async fn expand(&mut self, tree: &Tree<D>, node: NodeIndex) -> Result<Vec<Child<D>>, ControlError>;

    /// One more child for a node that has some, where the method's width rule asks for one.
    async fn widen(&mut self, tree: &mut Tree<D>, node: NodeIndex) -> Result<Option<Child<D>>, ControlError> {
        let _ = (tree, node);
        Ok(None)
    }

    /// What the last node of a path is worth, and what was learned on the way (kept in the nodes' data). `None` where
    /// the evaluator abstained: nothing is backed up then, and nothing counts as a visit.
    async fn evaluate(&mut self, tree: &mut Tree<D>, path: &[NodeIndex])
    -> Result<Option<f64>, ControlError>;
}

/// Goes from the root to a leaf by the selection formula, evaluates the leaf, and backs its value up.
///
/// A leaf is expanded when a later search comes to it again, not when it is first seen: the tree of every later search is
/// the same, and the continuations of leaves that nobody comes back to are never generated. Returns the value.
pub async fn search<D: Send>(
    tree: &mut Tree<D>,
    selection: &dyn Selection,
    backup: &dyn Backup<D>,
    explorer: &mut dyn Explorer<D>,
) -> Result<Option<f64>, ControlError> {
    let mut path = vec![tree.root()];
    let mut node = tree.root();
    while !explorer.is_terminal(tree.data(node)) {
        if tree.children(node).is_empty() {
            if tree.statistics(node).true_visits == 0 {
                break;
            }
            for child in explorer.expand(tree, node).await? {
                tree.add(node, child);
            }
        } else if let Some(child) = explorer.widen(tree, node).await? {
            tree.add(node, child);
        }
        let Some(child) = select(tree, selection, node) else { break };
        node = child;
        path.push(node);
    }
    let value = explorer.evaluate(tree, &path).await?;
    if let Some(value) = value {
        backup.back_up(tree, &path, value);
    }
    Ok(value)
}
