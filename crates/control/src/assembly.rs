//! One trace of several runs: each run grows its branch, and whoever watches sees the nodes with the numbers that they
//! have in the whole.

use crate::{ControlError, Strategy, attempts};
use elenchus_generate::{Context, TraceObserver};
use elenchus_task::Task;
use elenchus_trace::{Answer, Node, NodeId, NodeKind, Problem, Trace, Usage};
use futures::future::try_join_all;
use serde_json::Value;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// A trace that several runs write at the same time.
#[derive(Debug)]
pub(crate) struct Assembly {
    trace: Mutex<Trace>,
    start: Instant,
    observer: Option<Arc<dyn TraceObserver>>,
}

impl Assembly {
    pub(crate) fn new(context: &Context, strategy: &str, problem: &Problem) -> Arc<Self> {
        Arc::new(Assembly {
            trace: Mutex::new(context.new_trace(strategy, problem)),
            start: Instant::now(),
            observer: context.observer().cloned(),
        })
    }

    fn now(&self) -> f64 {
        self.start.elapsed().as_secs_f64() * 1e3
    }

    fn push(&self, node: Node) -> NodeId {
        // Under the lock also the observer sees the nodes in the order of their numbers.
        let mut trace = self.trace.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(observer) = &self.observer {
            observer.node(NodeId(trace.nodes.len() as u32), &node);
        }
        trace.push(node)
    }

    fn add(&self, parent: Option<NodeId>, kind: NodeKind, usage: Usage) -> NodeId {
        self.push(Node { parent, kind, started_ms: self.now(), elapsed_ms: 0.0, usage })
    }

    pub(crate) fn stage(&self, name: impl Into<String>) -> NodeId {
        self.add(None, NodeKind::Stage { name: name.into() }, Usage::default())
    }

    pub(crate) fn failed(&self, parent: NodeId, error: impl Into<String>) -> NodeId {
        self.add(Some(parent), NodeKind::Failed { error: error.into() }, Usage::default())
    }

    pub(crate) fn evaluated(&self, of: NodeId, feedback: elenchus_trace::Feedback) -> NodeId {
        let usage = feedback.usage;
        self.add(Some(of), NodeKind::Evaluated { of, feedback: Box::new(feedback) }, usage)
    }

    pub(crate) fn decided(&self, decision: impl Into<String>, chosen: Option<NodeId>, data: Value) -> NodeId {
        self.add(None, NodeKind::Decided { decision: decision.into(), chosen, data }, Usage::default())
    }

    /// A place for one run to grow under a node.
    pub(crate) fn branch(self: &Arc<Self>, parent: NodeId) -> Arc<Branch> {
        let offset_ms = self.now();
        Arc::new(Branch { assembly: Arc::clone(self), parent, offset_ms, numbers: Mutex::default() })
    }

    /// The trace as it stands.
    pub(crate) fn trace(&self) -> Trace {
        self.trace.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Gives the nodes of one run their numbers in the whole.
#[derive(Debug)]
pub(crate) struct Branch {
    assembly: Arc<Assembly>,
    parent: NodeId,
    offset_ms: f64,
    /// By the run's own numbers.
    numbers: Mutex<Vec<NodeId>>,
}

impl Branch {
    /// Number in the whole of a node of the run; the branch's root for one that was never seen.
    pub(crate) fn number(&self, node: NodeId) -> NodeId {
        let numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        numbers.get(node.0 as usize).copied().unwrap_or(self.parent)
    }

    /// The node in the whole that an answer of this run is: what its last decision chose, else the branch's root.
    pub(crate) fn chosen(&self, answer: &Answer) -> NodeId {
        answer.trace.chosen().map_or(self.parent, |node| self.number(node))
    }
}

impl TraceObserver for Branch {
    fn node(&self, _: NodeId, node: &Node) {
        let mut node = node.clone();
        node.parent = Some(node.parent.map_or(self.parent, |parent| self.number(parent)));
        node.started_ms += self.offset_ms;
        match &mut node.kind {
            NodeKind::Evaluated { of, .. } => *of = self.number(*of),
            NodeKind::Decided { chosen, data, .. } => {
                *chosen = chosen.map(|chosen| self.number(chosen));
                attempts::renumber(data, |own| self.number(own));
            }
            _ => {}
        }
        let number = self.assembly.push(node);
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner).push(number);
    }
}

/// Several independent answers to one problem, with everything that happened in one trace.
#[derive(Debug, Clone, PartialEq)]
pub struct Repeated {
    /// The answers; each has the trace of its own run.
    pub answers: Vec<Answer>,
    /// All runs together: a stage for each, its nodes under it. The last decision chooses the first answer.
    pub trace: Trace,
}

/// Answers a problem `count` times at once, each time with a seed of its own, all under the budget of `context`.
///
/// # Errors
/// Those of [`Strategy::run`]; the first of them ends all runs.
pub async fn repeat(
    strategy: &dyn Strategy,
    context: &Context,
    task: &dyn Task,
    problem: &Problem,
    count: usize,
) -> Result<Repeated, ControlError> {
    let assembly = Assembly::new(context, strategy.name(), problem);
    let runs = (0..count.max(1)).map(|index| {
        let branch = assembly.branch(assembly.stage(format!("choice {}", index + 1)));
        let label = format!("choice\0{}\0{}", problem.task, problem.id);
        // The first choice is the answer that one alone would be.
        let seed = if index == 0 { context.seed() } else { context.seed_for(&label, index as u64) };
        let live = context.live().map(|live| live.choice(index));
        let inner = context.branch(seed, Some(Arc::clone(&branch) as Arc<dyn TraceObserver>), live);
        async move { Ok::<_, ControlError>((strategy.run(&inner, task, problem).await?, branch)) }
    });
    let done = try_join_all(runs).await?;
    if let Some((first, branch)) = done.first() {
        assembly.decided(format!("{} answers", done.len()), Some(branch.chosen(first)), Value::Null);
    }
    let answers = done.into_iter().map(|(answer, _)| answer).collect();
    Ok(Repeated { answers, trace: assembly.trace() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Toy, problem};
    use crate::{SelfConsistency, SelfConsistencySettings};
    use elenchus_generate::{GenerateError, Scripted};
    use elenchus_trace::Budget;

    #[derive(Debug, Default)]
    struct Seen(Mutex<Vec<(NodeId, Node)>>);

    impl TraceObserver for Seen {
        fn node(&self, id: NodeId, node: &Node) {
            self.0.lock().unwrap().push((id, node.clone()));
        }
    }

    #[tokio::test]
    async fn answers_are_independent_and_share_one_trace_and_one_budget() {
        let model = Scripted::always(["x#7", "x#8", "x#7", "x#8", "x#8", "x#7"]).shared();
        let seen = Arc::new(Seen::default());
        let context = Context::builder()
            .role("actor", model.clone())
            .observer(Arc::clone(&seen) as Arc<dyn TraceObserver>)
            .seed(5)
            .build()
            .unwrap();
        let settings = SelfConsistencySettings { samples: 3, early_stop: false, ..Default::default() };
        let strategy = SelfConsistency::new(settings).unwrap();
        let found = repeat(&strategy, &context, &Toy, &problem(), 2).await.unwrap();
        let answers: Vec<_> = found.answers.iter().map(|answer| answer.answer.as_deref()).collect();
        assert_eq!(answers, [Some("7"), Some("8")]);
        let seeds: Vec<u64> = model.requests().iter().map(|request| request.sampling.seed).collect();
        assert_ne!(seeds[0], seeds[1]);
        let trace = &found.trace;
        assert!(
            Trace::from_json(&serde_json::to_string(trace).unwrap()).is_ok(),
            "every node stands behind its parent"
        );
        assert_eq!(trace.completions().count(), 6);
        assert_eq!(trace.usage(), context.usage());
        let chosen = trace.chosen().and_then(|node| trace.completion(node)).unwrap();
        assert_eq!(chosen.text, "x#7", "the first answer");
        let seen = seen.0.lock().unwrap().clone();
        assert!(
            seen.iter().enumerate().all(|(index, (id, _))| id.0 as usize == index),
            "numbered as in the trace"
        );
        assert!(seen.iter().zip(&trace.nodes).all(|((_, seen), node)| seen == node));

        let tight = Context::builder()
            .role("actor", Scripted::always(["x#7"]).shared())
            .budget(Budget { calls: Some(1), ..Budget::default() })
            .build()
            .unwrap();
        let error = repeat(&strategy, &tight, &Toy, &problem(), 2).await.unwrap_err();
        assert!(
            matches!(
                error,
                ControlError::Generate(GenerateError::Budget { .. }) | ControlError::Budget { .. }
            ),
            "{error}"
        );
    }
}
