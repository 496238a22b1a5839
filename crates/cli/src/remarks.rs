//! What makes answers worth less than they cost, told to a person in one line: what an endpoint did with samples, responses
//! that were cut, a role whose model fails.

use crate::failure::{Code, Failure};
use elenchus_generate::{ACTOR, CUT_BY_BUDGET};
use elenchus_trace::{Answer, NodeKind, Trace};
use std::collections::{BTreeMap, BTreeSet};

/// How an evaluator begins its abstention when its model gave no answer.
const MODEL_FAILED: &str = "its model failed";

/// What the endpoint's layer noted of the replies (samples that are one and the same text, a stop string that was ignored),
/// each once, in order.
fn noted(trace: &Trace) -> Vec<String> {
    let mut notes: Vec<String> = Vec::new();
    for (_, completion) in trace.completions() {
        if let Some(note) = completion.extra.get("note").and_then(|note| note.as_str())
            && !notes.iter().any(|known| known == note)
        {
            notes.push(note.to_string());
        }
    }
    notes
}

/// Responses that were cut before they ended, of all that were written.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Cut {
    cut: usize,
    by_budget: usize,
    all: usize,
}

impl Cut {
    fn of<'a>(traces: impl IntoIterator<Item = &'a Trace>) -> Self {
        let mut found = Cut::default();
        for (_, completion) in traces.into_iter().flat_map(Trace::completions) {
            found.all += 1;
            found.cut += usize::from(completion.was_cut());
            found.by_budget += usize::from(completion.extra.contains_key(CUT_BY_BUDGET));
        }
        found
    }

    fn line(self) -> Option<String> {
        let Cut { cut, by_budget, all } = self;
        let hint = match by_budget {
            0 => "raise `max_tokens` with `--set`",
            _ if by_budget < cut => "raise the budget, and `max_tokens` with `--set`",
            _ => "raise the budget",
        };
        (cut > 0).then(|| {
            format!(
                "{cut} of {all} responses were cut before they ended, and what is cut has no answer: {hint}"
            )
        })
    }
}

/// Per evaluator: how often its model failed, how often it was asked, and what it said first.
fn failures<'a>(traces: impl IntoIterator<Item = &'a Trace>) -> BTreeMap<&'a str, (usize, usize, &'a str)> {
    let mut found: BTreeMap<&str, (usize, usize, &str)> = BTreeMap::new();
    for node in traces.into_iter().flat_map(|trace| &trace.nodes) {
        let NodeKind::Evaluated { feedback, .. } = &node.kind else { continue };
        let entry = found.entry(&feedback.evaluator).or_insert((0, 0, ""));
        entry.1 += 1;
        if let Some(reason) = feedback.abstained.as_deref().filter(|reason| reason.starts_with(MODEL_FAILED))
        {
            if entry.0 == 0 {
                entry.2 = reason;
            }
            entry.0 += 1;
        }
    }
    found.retain(|_, (failed, ..)| *failed > 0);
    found
}

/// What is to be said of one answer.
pub fn of_trace(trace: &Trace) -> Vec<String> {
    noted(trace).into_iter().chain(Cut::of([trace]).line()).collect()
}

/// What is to be said of answers to many problems.
pub fn of_answers(answers: &[Answer]) -> Option<String> {
    let traces = || answers.iter().map(|answer| &answer.trace);
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for note in traces().flat_map(noted) {
        *counts.entry(note).or_default() += 1;
    }
    // Where samples of some problem differ, the server draws; that others are alike means that their answer is short.
    let draws = traces().any(|trace| {
        let written = trace.nodes.iter().filter_map(|node| match &node.kind {
            NodeKind::Generated { role, completion, .. } if role == ACTOR => Some(completion.text.as_str()),
            _ => None,
        });
        written.collect::<BTreeSet<_>>().len() > 1
    });
    counts.retain(|note, _| !draws || !note.ends_with(elenchus_generate::REPEATS_ITSELF));
    let told =
        counts.iter().map(|(note, count)| format!("{note} (on {count} of {} problems)", answers.len()));
    let failed = failures(traces()).into_iter().map(|(evaluator, (failed, asked, reason))| {
        format!("{evaluator} gave nothing in {failed} of {asked} cases, first since {}", flat(reason))
    });
    let told: Vec<String> = told.chain(Cut::of(traces()).line()).chain(failed).collect();
    (!told.is_empty()).then(|| told.join("; "))
}

fn flat(reason: &str) -> String {
    reason.lines().collect::<Vec<_>>().join("; ")
}

/// A role whose model never answered: what was measured then is no measure of the strategy.
pub fn silent_role(answers: &[Answer]) -> Option<Failure> {
    let failures = failures(answers.iter().map(|answer| &answer.trace));
    let (evaluator, (asked, _, reason)) =
        failures.into_iter().find(|(_, (failed, asked, _))| failed == asked)?;
    let reason = reason.strip_prefix(MODEL_FAILED).unwrap_or(reason).trim_start_matches(": ");
    Some(Failure {
        code: Code::Model,
        message: format!(
            "`{evaluator}` gave nothing in all {asked} cases, so nothing was measured: {reason}"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use elenchus_trace::{Completion, Feedback, FinishReason, Node, NodeId, Problem, Usage};

    fn answer(completions: &[Completion], abstained: &[Option<&str>]) -> Answer {
        let mut trace = Trace::new("t", "s", Problem::new("p", "math", "?"));
        let mut push = |kind| {
            trace.push(Node { parent: None, kind, started_ms: 0.0, elapsed_ms: 0.0, usage: Usage::default() })
        };
        for completion in completions {
            push(NodeKind::Generated {
                role: ACTOR.into(),
                model: "m".into(),
                prompt: Vec::new(),
                completion: Box::new(completion.clone()),
            });
        }
        for reason in abstained {
            let feedback = Feedback {
                evaluator: "critic".into(),
                abstained: reason.map(String::from),
                ..Feedback::default()
            };
            push(NodeKind::Evaluated { of: NodeId(0), feedback: Box::new(feedback) });
        }
        Answer {
            text: String::new(),
            answer: None,
            confidence: None,
            votes: Vec::new(),
            abstained: None,
            usage: Usage::default(),
            trace,
        }
    }

    fn cut(by_budget: bool) -> Completion {
        let mut completion = Completion { finish: FinishReason::Length, ..Completion::text("Line 31: we") };
        if by_budget {
            completion.extra.insert(CUT_BY_BUDGET.into(), true.into());
        }
        completion
    }

    #[test]
    fn cut_responses_are_counted_with_what_helps() {
        let said = |completions: &[Completion]| of_answers(&[answer(completions, &[])]);
        assert_eq!(said(&[Completion::text("4")]), None);
        let told = said(&[Completion::text("4"), cut(false)]).unwrap();
        assert!(
            told.starts_with("1 of 2 responses were cut")
                && told.ends_with("raise `max_tokens` with `--set`")
        );
        assert!(said(&[cut(true)]).unwrap().ends_with(": raise the budget"));
        assert!(
            said(&[cut(true), cut(false)])
                .unwrap()
                .ends_with("raise the budget, and `max_tokens` with `--set`")
        );
        assert_eq!(of_trace(&answer(&[cut(false)], &[]).trace).len(), 1);
    }

    #[test]
    fn a_server_that_draws_elsewhere_does_not_repeat_itself() {
        let mut same = Completion::text("x");
        let note = format!(
            "all 2 samples are the same text at temperature 1: {}",
            elenchus_generate::REPEATS_ITSELF
        );
        same.extra.insert("note".into(), note.into());
        let alike = answer(&[same.clone(), same], &[]);
        assert!(of_answers(std::slice::from_ref(&alike)).unwrap().ends_with("(on 1 of 1 problems)"));
        let differing = answer(&[Completion::text("1"), Completion::text("2")], &[]);
        assert_eq!(of_answers(&[alike, differing]), None);
    }

    #[test]
    fn a_role_that_never_answers_ends_the_measurement() {
        let failed = Some("its model failed: model `c` refused the request: 404\nhint: its name");
        let all = answer(&[], &[failed, failed]);
        let failure = silent_role(std::slice::from_ref(&all)).unwrap();
        assert!(
            failure.code == Code::Model && failure.message.contains("`critic` gave nothing in all 2 cases")
        );
        assert!(failure.message.contains("404\nhint: "), "{}", failure.message);
        let one = answer(&[], &[None, failed]);
        assert!(silent_role(std::slice::from_ref(&one)).is_none());
        assert!(
            of_answers(&[one])
                .unwrap()
                .starts_with("critic gave nothing in 1 of 2 cases, first since its model")
        );
        assert!(silent_role(&[answer(&[], &[Some("no label")])]).is_none(), "it was asked, and abstains");
    }
}
