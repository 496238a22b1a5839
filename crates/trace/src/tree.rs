use crate::{Budget, Completion, Feedback, Message, Problem, Usage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Version of the JSON form of a [`Trace`]. A reader refuses versions above its own.
pub const TRACE_VERSION: u32 = 1;

/// Index of a node in its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct NodeId(pub u32);

/// What happened at a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum NodeKind {
    /// A model wrote something.
    Generated {
        /// Role of the model in the strategy: `actor`, `critic`, `judge`, …
        role: String,
        /// Name of the model.
        model: String,
        /// What it was asked; empty when the parent's request holds (further samples of one request).
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        prompt: Vec<Message>,
        /// What it wrote.
        completion: Box<Completion>,
    },
    /// An evaluator judged a node.
    Evaluated {
        /// The node that is judged.
        of: NodeId,
        /// What was said.
        feedback: Box<Feedback>,
    },
    /// The strategy decided something.
    Decided {
        /// What was decided, in words.
        decision: String,
        /// The node that was chosen.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        chosen: Option<NodeId>,
        /// What the decision rests on (vote table, thresholds …).
        #[serde(default, skip_serializing_if = "Value::is_null")]
        data: Value,
    },
    /// A stage that groups nodes (a round, a branch).
    Stage {
        /// Its name.
        name: String,
    },
    /// Something failed and the strategy went on without it.
    Failed {
        /// What failed and why.
        error: String,
    },
}

/// One node of the tree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Node {
    /// The node this one grew from; `None` at the root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<NodeId>,
    /// What happened.
    #[serde(flatten)]
    pub kind: NodeKind,
    /// Start, milliseconds after the start of the trace.
    pub started_ms: f64,
    /// Duration in milliseconds.
    pub elapsed_ms: f64,
    /// What this node alone cost.
    #[serde(default)]
    pub usage: Usage,
}

/// Everything that happened between a problem and its answer: a tree of generated, evaluated and decided nodes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Trace {
    /// [`TRACE_VERSION`] of the writer.
    pub version: u32,
    /// Unique identifier.
    pub id: String,
    /// Name of the strategy or recipe.
    pub strategy: String,
    /// The problem.
    pub problem: Problem,
    /// Start, milliseconds after 1970-01-01 UTC.
    pub started_unix_ms: u64,
    /// The budget in force.
    #[serde(default)]
    pub budget: Budget,
    /// The nodes; a parent stands before its children.
    pub nodes: Vec<Node>,
}

/// Why a trace could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// Not JSON, or not the JSON of a trace.
    #[error(
        "not a trace: {0}\nhint: a trace is the JSON object that `elenchus ask --json` prints under `trace`"
    )]
    Json(#[from] serde_json::Error),
    /// Written by a newer program.
    #[error(
        "trace `{id}` has format version {found}, this program reads up to {TRACE_VERSION}\nhint: update elenchus"
    )]
    Version {
        /// The trace.
        id: String,
        /// Its version.
        found: u32,
    },
    /// A node names a node that does not stand before it.
    #[error(
        "trace `{id}`: node {node} refers to node {target}, which does not stand before it\nhint: the file was edited or cut"
    )]
    Order {
        /// The trace.
        id: String,
        /// The node.
        node: u32,
        /// What it refers to.
        target: u32,
    },
}

impl Trace {
    /// An empty trace.
    pub fn new(id: impl Into<String>, strategy: impl Into<String>, problem: Problem) -> Self {
        let started_unix_ms = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map(|d| d.as_millis() as u64)
            .unwrap_or(0);
        Trace {
            version: TRACE_VERSION,
            id: id.into(),
            strategy: strategy.into(),
            problem,
            started_unix_ms,
            budget: Budget::default(),
            nodes: Vec::new(),
        }
    }

    /// Adds a node and returns its id.
    pub fn push(&mut self, node: Node) -> NodeId {
        let id = NodeId(self.nodes.len() as u32);
        self.nodes.push(node);
        id
    }

    /// The node with this id.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id.0 as usize)
    }

    /// Ids of the children of a node, in order; `None` asks for the roots.
    pub fn children(&self, parent: Option<NodeId>) -> impl Iterator<Item = NodeId> + '_ {
        self.nodes.iter().enumerate().filter(move |(_, n)| n.parent == parent).map(|(i, _)| NodeId(i as u32))
    }

    /// The completion of a generated node.
    pub fn completion(&self, id: NodeId) -> Option<&Completion> {
        match &self.node(id)?.kind {
            NodeKind::Generated { completion, .. } => Some(completion),
            _ => None,
        }
    }

    /// The node that the last decision chose.
    pub fn chosen(&self) -> Option<NodeId> {
        self.nodes.iter().rev().find_map(|node| match &node.kind {
            NodeKind::Decided { chosen, .. } => *chosen,
            _ => None,
        })
    }

    /// All completions with their node ids, in order.
    pub fn completions(&self) -> impl Iterator<Item = (NodeId, &Completion)> {
        self.nodes.iter().enumerate().filter_map(|(i, n)| match &n.kind {
            NodeKind::Generated { completion, .. } => Some((NodeId(i as u32), completion.as_ref())),
            _ => None,
        })
    }

    /// What all nodes cost together.
    pub fn usage(&self) -> Usage {
        self.nodes.iter().map(|n| n.usage).sum()
    }

    /// Reads a trace and checks its version and that every reference points backwards.
    pub fn from_json(text: &str) -> Result<Self, TraceError> {
        let trace: Trace = serde_json::from_str(text)?;
        if trace.version > TRACE_VERSION {
            return Err(TraceError::Version { id: trace.id, found: trace.version });
        }
        for (index, node) in trace.nodes.iter().enumerate() {
            let target = match &node.kind {
                NodeKind::Evaluated { of, .. } => Some(*of),
                NodeKind::Decided { chosen, .. } => *chosen,
                _ => None,
            };
            for reference in [node.parent, target].into_iter().flatten() {
                if reference.0 as usize >= index {
                    return Err(TraceError::Order { id: trace.id, node: index as u32, target: reference.0 });
                }
            }
        }
        Ok(trace)
    }
}
