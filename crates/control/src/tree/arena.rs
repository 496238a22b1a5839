//! The tree: nodes in one vector, with their statistics.

/// Index of a node in its tree. Only valid until the tree is rooted anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIndex(usize);

/// What search knows of a node.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Statistics {
    /// Prior probability among its siblings.
    pub prior: f64,
    /// Visits; not a whole number where values are shared among siblings.
    pub visits: f64,
    /// Visits that went through this node itself.
    pub true_visits: u64,
    /// Mean of the values backed up; 0 before the first.
    pub value: f64,
}

impl Statistics {
    /// A node that nobody visited.
    pub fn fresh(prior: f64) -> Self {
        Statistics { prior, visits: 0.0, true_visits: 0, value: 0.0 }
    }

    /// Takes a value into the running mean, as `weight` visits: n ← n + w, q ← (q·n_old + w·v) / (n_old + w).
    pub fn take(&mut self, value: f64, weight: f64) {
        let visits = self.visits + weight;
        if visits > 0.0 {
            self.value = (self.value * self.visits + weight * value) / visits;
            self.visits = visits;
        }
    }
}

/// A node: what search knows, and what the method keeps there.
#[derive(Debug, Clone)]
pub struct TreeNode<D> {
    parent: Option<NodeIndex>,
    children: Vec<NodeIndex>,
    /// What search knows.
    pub statistics: Statistics,
    /// What the method keeps.
    pub data: D,
}

/// A child that does not stand in the tree yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Child<D> {
    /// Its prior; normalised over the siblings by whoever proposes them.
    pub prior: f64,
    /// What the method keeps there.
    pub data: D,
}

/// The lowest and the highest mean value seen in a tree.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Extremes {
    /// The lowest.
    pub low: f64,
    /// The highest.
    pub high: f64,
}

impl Extremes {
    /// Widens the range where a value lies outside.
    pub fn include(&mut self, value: f64) {
        self.low = self.low.min(value);
        self.high = self.high.max(value);
    }
}

/// A search tree over any data.
#[derive(Debug, Clone)]
pub struct Tree<D> {
    nodes: Vec<TreeNode<D>>,
    extremes: Extremes,
}

impl<D> Tree<D> {
    /// A tree of one node. `extremes` is the range of values that is known before any was seen.
    pub fn new(data: D, extremes: Extremes) -> Self {
        let root = TreeNode { parent: None, children: Vec::new(), statistics: Statistics::fresh(1.0), data };
        Tree { nodes: vec![root], extremes }
    }

    /// The root.
    pub fn root(&self) -> NodeIndex {
        NodeIndex(0)
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is no node; a tree always has its root.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The node.
    pub fn node(&self, index: NodeIndex) -> &TreeNode<D> {
        &self.nodes[index.0]
    }

    /// The node, to change it.
    pub fn node_mut(&mut self, index: NodeIndex) -> &mut TreeNode<D> {
        &mut self.nodes[index.0]
    }

    /// What search knows of a node.
    pub fn statistics(&self, index: NodeIndex) -> &Statistics {
        &self.nodes[index.0].statistics
    }

    /// What the method keeps at a node.
    pub fn data(&self, index: NodeIndex) -> &D {
        &self.nodes[index.0].data
    }

    /// The children, in the order in which they were added.
    pub fn children(&self, index: NodeIndex) -> &[NodeIndex] {
        &self.nodes[index.0].children
    }

    /// The parent; none of the root.
    pub fn parent(&self, index: NodeIndex) -> Option<NodeIndex> {
        self.nodes[index.0].parent
    }

    /// The other children of its parent.
    pub fn siblings(&self, index: NodeIndex) -> impl Iterator<Item = NodeIndex> + '_ {
        let family = self.parent(index).map_or(&[][..], |parent| self.children(parent));
        family.iter().copied().filter(move |sibling| *sibling != index)
    }

    /// Nodes from the root down to this one, both included.
    pub fn path(&self, index: NodeIndex) -> Vec<NodeIndex> {
        let mut path: Vec<NodeIndex> =
            std::iter::successors(Some(index), |node| self.parent(*node)).collect();
        path.reverse();
        path
    }

    /// Steps from the root to this node.
    pub fn depth(&self, index: NodeIndex) -> usize {
        self.path(index).len() - 1
    }

    /// Adds a child behind its siblings.
    pub fn add(&mut self, parent: NodeIndex, child: Child<D>) -> NodeIndex {
        let index = NodeIndex(self.nodes.len());
        self.nodes.push(TreeNode {
            parent: Some(parent),
            children: Vec::new(),
            statistics: Statistics::fresh(child.prior),
            data: child.data,
        });
        self.nodes[parent.0].children.push(index);
        index
    }

    /// The lowest and highest mean value so far.
    pub fn extremes(&self) -> &Extremes {
        &self.extremes
    }

    /// Widens the extremes by the present value of a node.
    pub fn note_value(&mut self, index: NodeIndex) {
        let value = self.nodes[index.0].statistics.value;
        self.extremes.include(value);
    }

    /// Changes the priors of all children of a node.
    pub fn set_priors(&mut self, index: NodeIndex, new: impl Fn(f64) -> f64) {
        for child in self.nodes[index.0].children.clone() {
            let prior = &mut self.nodes[child.0].statistics.prior;
            *prior = new(*prior);
        }
    }

    /// The child that was truly visited most; of several the one with the highest value, then the earlier one.
    pub fn most_visited(&self, index: NodeIndex) -> Option<NodeIndex> {
        let key = |child: &NodeIndex| (self.statistics(*child).true_visits, self.statistics(*child).value);
        self.children(index).iter().copied().reduce(|best, child| {
            let ((best_visits, best_value), (visits, value)) = (key(&best), key(&child));
            if visits > best_visits || visits == best_visits && value > best_value { child } else { best }
        })
    }
}

impl<D: Default> Tree<D> {
    /// Makes a node the root and keeps the tree below it with all statistics; everything else is dropped. The extremes
    /// stay: they belong to the whole search.
    pub fn reroot(&mut self, root: NodeIndex) {
        let mut kept = vec![root];
        let mut next = 0;
        while let Some(index) = kept.get(next).copied() {
            kept.extend(self.children(index).iter().copied());
            next += 1;
        }
        let mut place = vec![None; self.nodes.len()];
        for (new, old) in kept.iter().enumerate() {
            place[old.0] = Some(NodeIndex(new));
        }
        let nodes = kept.iter().map(|old| {
            let node = &mut self.nodes[old.0];
            TreeNode {
                parent: node.parent.and_then(|parent| place[parent.0]),
                children: node.children.iter().filter_map(|child| place[child.0]).collect(),
                statistics: node.statistics,
                data: std::mem::take(&mut node.data),
            }
        });
        self.nodes = nodes.collect();
    }
}
