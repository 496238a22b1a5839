//! What people and programs see of a trace's nodes.

use crate::judged::steps;
use crate::tape::{Call, fixed};
use elenchus_generate::ACTOR;
use elenchus_trace::{Node, NodeId, NodeKind, ToolCall, Trace};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One node, shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StageView {
    /// Number of the node in its trace.
    pub id: u32,
    /// The node it grew from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<u32>,
    /// `generated`, `evaluated`, `decided`, `stage` or `failed`.
    pub kind: String,
    /// Role of the model, name of the evaluator or of the stage.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub title: String,
    /// What was written, said or decided.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub text: String,
    /// Tools that the model called.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub tool_calls: Vec<ToolCall>,
    /// The model that wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The node that is judged, or was chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<u32>,
    /// Score of an evaluator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// Tokens read.
    pub prompt_tokens: u64,
    /// Tokens written.
    pub completion_tokens: u64,
    /// Start, milliseconds after the start of the trace.
    pub started_ms: f64,
    /// Duration in milliseconds.
    pub elapsed_ms: f64,
    /// The answer in what the actor wrote, by the rules of the task; absent while the recipe still runs.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub answer: Option<String>,
    /// The steps of what was written that an edit can address by their number, from 0; only in a whole trace, and where
    /// there are several.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub steps: Vec<String>,
    /// Why the recipe cannot be run again from here; absent where it can, and while it still runs.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fixed: Option<String>,
}

impl StageView {
    /// Shows a node.
    pub fn new(id: NodeId, node: &Node) -> Self {
        let mut view = StageView {
            id: id.0,
            parent: node.parent.map(|parent| parent.0),
            kind: String::new(),
            title: String::new(),
            text: String::new(),
            tool_calls: Vec::new(),
            model: None,
            of: None,
            score: None,
            prompt_tokens: node.usage.prompt_tokens,
            completion_tokens: node.usage.completion_tokens,
            started_ms: node.started_ms,
            elapsed_ms: node.elapsed_ms,
            answer: None,
            steps: Vec::new(),
            fixed: None,
        };
        let kind = match &node.kind {
            NodeKind::Generated { role, model, completion, .. } => {
                view.title = role.clone();
                view.model = Some(model.clone());
                view.text = completion.text.clone();
                let calls = completion.message.as_ref().map(|message| message.tool_calls.clone());
                view.tool_calls = calls.unwrap_or_default();
                "generated"
            }
            NodeKind::Evaluated { of, feedback } => {
                view.title = feedback.evaluator.clone();
                view.of = Some(of.0);
                view.score = feedback.score.or(feedback.probability);
                view.text = match (&feedback.abstained, &feedback.text) {
                    (Some(reason), _) => format!("abstains: {reason}"),
                    (None, Some(text)) => text.clone(),
                    (None, None) => String::new(),
                };
                "evaluated"
            }
            NodeKind::Decided { decision, chosen, .. } => {
                view.text = decision.clone();
                view.of = chosen.map(|chosen| chosen.0);
                "decided"
            }
            NodeKind::Stage { name } => {
                view.title = name.clone();
                "stage"
            }
            NodeKind::Failed { error } => {
                view.text = error.clone();
                "failed"
            }
        };
        view.kind = kind.into();
        view
    }

    /// With its text cut, and without its steps.
    pub fn cut(mut self, characters: usize) -> Self {
        self.steps = Vec::new();
        if let Some((at, _)) = self.text.char_indices().nth(characters) {
            self.text.truncate(at);
            self.text.push('…');
        }
        self
    }
}

/// All nodes of a trace, shown; `calls` are those that were kept of its run.
pub(crate) fn views(trace: &Trace, calls: &[Call]) -> Vec<StageView> {
    let nodes = trace.nodes.iter().enumerate();
    let views = nodes.map(|(index, node)| {
        let mut view = StageView::new(NodeId(index as u32), node);
        if let NodeKind::Generated { role, .. } = &node.kind {
            let found = steps(trace, &view.text);
            if found.len() > 1 {
                view.steps = found.into_iter().map(|step| step.text).collect();
            }
            if role == ACTOR {
                view.answer = elenchus_recipe::answer_in(&trace.problem, &view.text);
            }
        }
        view
    });
    views.zip(fixed(trace, calls)).map(|(view, fixed)| StageView { fixed, ..view }).collect()
}

/// What is kept of a node: everything but the statistics of single tokens, which nobody reads back and which are many
/// times the text.
pub(crate) fn slim(mut node: Node) -> Node {
    if let NodeKind::Generated { completion, .. } = &mut node.kind {
        completion.token_ids = Vec::new();
        completion.token_texts = Vec::new();
        completion.logprobs = Vec::new();
        completion.top = Vec::new();
        completion.distributions = Vec::new();
        completion.vocabulary = None;
    }
    if let NodeKind::Decided { data, .. } = &mut node.kind
        && data.to_string().len() > 64 << 10
    {
        *data = Value::Null;
    }
    node
}
