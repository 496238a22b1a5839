//! Writing a trace while a strategy runs.

use elenchus_generate::{Context, LiveAnswer, TraceObserver};
use elenchus_trace::{
    Answer, Completion, Feedback, Message, Node, NodeId, NodeKind, Problem, Trace, Usage, Votes,
};
use serde_json::Value;
use std::sync::Arc;
use std::time::Instant;

/// A trace that is being written, with its clock.
#[derive(Debug)]
pub struct Trail {
    trace: Trace,
    start: Instant,
    observer: Option<Arc<dyn TraceObserver>>,
    live: Option<Arc<LiveAnswer>>,
}

impl Trail {
    /// An empty trace; its clock starts now.
    pub fn new(context: &Context, strategy: &str, problem: &Problem) -> Self {
        Trail {
            trace: context.new_trace(strategy, problem),
            start: Instant::now(),
            observer: context.observer().cloned(),
            live: context.live().cloned(),
        }
    }

    /// Milliseconds since the start.
    pub fn now(&self) -> f64 {
        self.start.elapsed().as_secs_f64() * 1e3
    }

    /// What the nodes so far have cost.
    pub fn usage(&self) -> Usage {
        self.trace.usage()
    }

    /// The completion of a generated node.
    pub fn completion(&self, node: NodeId) -> Option<&Completion> {
        self.trace.completion(node)
    }

    fn push(&mut self, parent: Option<NodeId>, kind: NodeKind, started: f64, usage: Usage) -> NodeId {
        let elapsed_ms = self.now() - started;
        let node = Node { parent, kind, started_ms: started, elapsed_ms, usage };
        if let Some(observer) = &self.observer {
            observer.node(NodeId(self.trace.nodes.len() as u32), &node);
        }
        self.trace.push(node)
    }

    /// A model wrote something; `started` is the time at which it was asked.
    pub fn generated(
        &mut self,
        parent: Option<NodeId>,
        role: &str,
        model: &str,
        prompt: Vec<Message>,
        completion: &Completion,
        started: f64,
    ) -> NodeId {
        let usage = completion.usage;
        let kind = NodeKind::Generated {
            role: role.into(),
            model: model.into(),
            prompt,
            completion: Box::new(completion.clone()),
        };
        self.push(parent, kind, started, usage)
    }

    /// An evaluator judged a node.
    pub fn evaluated(&mut self, of: NodeId, feedback: &Feedback, started: f64) -> NodeId {
        let kind = NodeKind::Evaluated { of, feedback: Box::new(feedback.clone()) };
        self.push(Some(of), kind, started, feedback.usage)
    }

    /// The strategy decided something.
    pub fn decided(
        &mut self,
        parent: Option<NodeId>,
        decision: impl Into<String>,
        chosen: Option<NodeId>,
        data: Value,
    ) -> NodeId {
        let started = self.now();
        self.push(
            parent,
            NodeKind::Decided { decision: decision.into(), chosen, data },
            started,
            Usage::default(),
        )
    }

    /// Many small calls as one node: what they were for, and what they cost together.
    pub fn called(
        &mut self,
        parent: Option<NodeId>,
        what: impl Into<String>,
        started: f64,
        usage: Usage,
        data: Value,
    ) -> NodeId {
        self.push(parent, NodeKind::Decided { decision: what.into(), chosen: None, data }, started, usage)
    }

    /// Something failed and the strategy goes on without it.
    pub fn failed(&mut self, parent: Option<NodeId>, error: impl Into<String>) -> NodeId {
        let started = self.now();
        self.push(parent, NodeKind::Failed { error: error.into() }, started, Usage::default())
    }

    /// A stage that groups nodes.
    pub fn stage(&mut self, parent: Option<NodeId>, name: impl Into<String>) -> NodeId {
        let started = self.now();
        self.push(parent, NodeKind::Stage { name: name.into() }, started, Usage::default())
    }

    /// The answer with this trace; its usage is that of the trace until the strategy's scope is known. Its text begins
    /// with what was told of it already.
    pub fn answer(
        self,
        text: impl Into<String>,
        answer: Option<String>,
        confidence: Option<f64>,
        votes: Vec<Votes>,
        abstained: Option<String>,
    ) -> Answer {
        let usage = self.trace.usage();
        let mut text = text.into();
        if let Some(live) = self.live {
            text = live.settled(text);
        }
        Answer { text, answer, confidence, votes, abstained, usage, trace: self.trace }
    }
}
