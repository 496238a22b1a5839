//! Options that change places while a problem is tried again (arXiv 2506.11930): who goes by the place of an option is told
//! from who goes by what it says.

use elenchus_task::choice::exchanged;
use elenchus_trace::{NodeId, NodeKind, Problem, Trace};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::borrow::Cow;

/// Under this name a trace keeps, beside the calls of a stage, which labels had changed places by then.
const EXCHANGES: &str = "exchanges";

/// What an attempt kept of the answer before it after the right option and the chosen one had changed places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    /// The label: another option stands there now, the right one, so that the attempt is right without having been
    /// convinced of anything.
    Label,
    /// What the option says, under the label where it stands now.
    Option,
}

/// Two options that changed places before an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OptionExchange {
    /// Where the right option stood.
    pub right: String,
    /// Where the chosen one stood.
    pub chosen: String,
    /// What the attempt kept; `None` when it names a third option, or none.
    pub kept: Option<Kept>,
}

/// A problem as it stands now, and how its options came there.
#[derive(Debug, Clone)]
pub(crate) struct Arrangement {
    problem: Problem,
    /// Pairs of labels in the order in which their options changed places.
    exchanges: Vec<[String; 2]>,
}

impl Arrangement {
    /// As the problem was put.
    pub(crate) fn new(problem: &Problem) -> Self {
        Arrangement { problem: problem.clone(), exchanges: Vec::new() }
    }

    /// The problem as it stands now.
    pub(crate) fn problem(&self) -> &Problem {
        &self.problem
    }

    /// Whether any options have changed places.
    pub(crate) fn is_changed(&self) -> bool {
        !self.exchanges.is_empty()
    }

    /// Lets the options of two labels change places; whether there were two.
    pub(crate) fn exchange(&mut self, left: &str, right: &str) -> bool {
        let Some(problem) = exchanged(&self.problem, left, right) else { return false };
        self.problem = problem;
        self.exchanges.push([left.into(), right.into()]);
        true
    }

    /// The label under which the problem as it was put has the option that has this label now. An answer that is no label
    /// stays as it is.
    pub(crate) fn original(&self, label: &str) -> String {
        self.exchanges.iter().rev().fold(label.to_string(), moved)
    }

    /// The label that an option has now, by the one that it had as the problem was put.
    pub(crate) fn current(&self, label: &str) -> String {
        self.exchanges.iter().fold(label.to_string(), moved)
    }

    /// What stands in the trace beside the calls that were made with this arrangement.
    pub(crate) fn data(&self) -> Value {
        json!({ EXCHANGES: self.exchanges })
    }
}

fn moved(label: String, pair: &[String; 2]) -> String {
    match pair.iter().position(|one| *one == label) {
        Some(at) => pair[1 - at].clone(),
        None => label,
    }
}

/// The problem as it was put to a model at a node of a trace: that of the trace, with the options in the places that they
/// had then.
pub fn posed_problem(trace: &Trace, node: NodeId) -> Cow<'_, Problem> {
    let stage = trace.nodes.get(node.0 as usize).and_then(|node| node.parent);
    let exchanges =
        trace.nodes.iter().filter(|other| stage.is_some() && other.parent == stage).find_map(|other| {
            let NodeKind::Decided { data, .. } = &other.kind else { return None };
            serde_json::from_value::<Vec<[String; 2]>>(data.get(EXCHANGES)?.clone()).ok()
        });
    let Some(exchanges) = exchanges else { return Cow::Borrowed(&trace.problem) };
    let mut arrangement = Arrangement::new(&trace.problem);
    for [left, right] in &exchanges {
        arrangement.exchange(left, right);
    }
    Cow::Owned(arrangement.problem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use elenchus_trace::ChoiceOption;

    fn problem() -> Problem {
        let option = |label: &str| ChoiceOption { label: label.into(), text: format!("was {label}") };
        Problem {
            options: ["A", "B", "C"].map(option).to_vec(),
            ..Problem::new("p", "choice", "?").with_gold("C")
        }
    }

    #[test]
    fn labels_are_followed_through_all_exchanges_and_back() {
        let mut arrangement = Arrangement::new(&problem());
        assert!(arrangement.exchange("C", "A") && arrangement.exchange("A", "B"));
        assert!(!arrangement.exchange("B", "D") && arrangement.is_changed());
        // A C B: the right option went from C to A and on to B.
        let texts: Vec<&str> =
            arrangement.problem().options.iter().map(|option| option.text.as_str()).collect();
        assert_eq!(texts, ["was B", "was C", "was A"]);
        assert_eq!(arrangement.problem().gold.as_deref(), Some("B"));
        for (option, original) in arrangement.problem().options.iter().zip(["B", "C", "A"]) {
            assert_eq!(arrangement.original(&option.label), original);
            assert_eq!(arrangement.current(original), option.label);
        }
        assert_eq!(arrangement.original("seven"), "seven");
    }
}
