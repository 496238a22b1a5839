//! A trace as lines for a person: what happened when, how long it took, and what it cost.

use elenchus_trace::{Node, NodeKind, Trace, Usage};

/// One line per node under a heading: start and duration in milliseconds, tokens read and written. A stage has what was
/// done in it: from its beginning to the end of its last node, and the tokens of all of them.
pub fn lines(trace: &Trace) -> Vec<String> {
    let whole = whole(trace);
    let rows = trace.nodes.iter().zip(&whole).map(|(node, (took, usage))| {
        let tokens = match usage.tokens() {
            0 => String::new(),
            _ => format!("{} + {}", usage.prompt_tokens, usage.completion_tokens),
        };
        format!("{:8.0} {took:8.0} {tokens:>13}  {}", node.started_ms, said(node))
    });
    let heading = format!("{:>8} {:>8} {:>13}", "start ms", "took ms", "tokens in+out");
    std::iter::once(heading).chain(rows).collect()
}

/// Duration and cost of each node with all that hangs on it, where it is a stage; of the others their own.
fn whole(trace: &Trace) -> Vec<(f64, Usage)> {
    let own = |node: &Node| (node.elapsed_ms, node.usage);
    let mut whole: Vec<(f64, Usage)> = trace.nodes.iter().map(own).collect();
    for node in &trace.nodes {
        let end = node.started_ms + node.elapsed_ms;
        let mut above = node.parent;
        // Parents stand before their children, so the way up ends.
        while let Some(id) = above {
            let at = id.0 as usize;
            let Some(parent) = trace.nodes.get(at) else { break };
            if matches!(parent.kind, NodeKind::Stage { .. }) {
                whole[at].0 = whole[at].0.max(end - parent.started_ms);
                whole[at].1 += node.usage;
            }
            above = parent.parent.filter(|up| up.0 < id.0);
        }
    }
    whole
}

fn said(node: &Node) -> String {
    match &node.kind {
        NodeKind::Generated { role, completion, .. } => format!("{role}: {}", completion.text.trim()),
        NodeKind::Evaluated { feedback, .. } => match (feedback.score, &feedback.abstained) {
            (Some(score), _) => format!("{}: {score:.4}", feedback.evaluator),
            (None, Some(reason)) => format!("{} abstains: {reason}", feedback.evaluator),
            (None, None) => feedback.evaluator.clone(),
        },
        NodeKind::Decided { decision, .. } => format!("decided: {decision}"),
        NodeKind::Stage { name } => format!("\u{2014} {name}"),
        NodeKind::Failed { error } => format!("failed: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use elenchus_trace::{Completion, NodeId, Problem};

    #[test]
    fn a_stage_has_the_time_and_the_tokens_of_what_was_done_in_it() {
        let mut trace = Trace::new("t", "s", Problem::new("p", "math", "?"));
        let node =
            |parent: Option<u32>, kind: NodeKind, started_ms: f64, elapsed_ms: f64, tokens: u64| Node {
                parent: parent.map(NodeId),
                kind,
                started_ms,
                elapsed_ms,
                usage: Usage { prompt_tokens: tokens, completion_tokens: 2 * tokens, ..Usage::default() },
            };
        let generated = || NodeKind::Generated {
            role: "actor".into(),
            model: "m".into(),
            prompt: Vec::new(),
            completion: Box::new(Completion::text("4")),
        };
        trace.push(node(None, NodeKind::Stage { name: "round 1".into() }, 10.0, 0.0, 0));
        trace.push(node(Some(0), NodeKind::Stage { name: "samples".into() }, 20.0, 0.0, 0));
        trace.push(node(Some(1), generated(), 20.0, 30.0, 5));
        trace.push(node(Some(1), generated(), 20.0, 40.0, 7));
        trace.push(node(
            None,
            NodeKind::Decided { decision: "over".into(), chosen: None, data: Default::default() },
            70.0,
            0.0,
            0,
        ));
        let lines = lines(&trace);
        assert_eq!(lines.len(), 6, "a heading and a line each");
        let columns = |line: &str| line.split_whitespace().take(5).collect::<Vec<_>>().join(" ");
        assert_eq!(columns(&lines[1]), "10 50 12 + 24", "the outer stage holds the inner one: {lines:?}");
        assert_eq!(columns(&lines[2]), "20 40 12 + 24");
        assert_eq!(columns(&lines[4]), "20 40 7 + 14");
        assert!(lines[5].ends_with("decided: over"));
    }
}
