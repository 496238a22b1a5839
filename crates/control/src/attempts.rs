//! The account of a loop that tries a problem more than once: attempts, the incumbent, what changed and what it cost.
//!
//! Critique-and-refine, closed-loop critique, retry with feedback and asking again all write the same account into their
//! trace, as the data of a decision at its end. [`AttemptLog::of`] reads it back, so that whoever knows the right answers
//! can count what went from right to wrong and from wrong to right ([`AttemptLog::judged`]) without asking how a loop works.

use crate::{ControlError, Trail, posed_problem};
use elenchus_evaluate::{Candidate, EvaluateError};
use elenchus_generate::GenerateError;
use elenchus_measure::Dialogue;
use elenchus_task::Task;
use elenchus_trace::{NodeId, NodeKind, Problem, Trace, Usage};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::borrow::Cow;

/// What later attempts did, without knowing what is right.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transitions {
    /// Later attempts that were taken over.
    pub accepted: usize,
    /// Later attempts that were not.
    pub rejected: usize,
    /// Later attempts with an answer equivalent to the incumbent's.
    pub same_answer: usize,
    /// With another answer.
    pub changed_answer: usize,
    /// With an answer where the incumbent has none.
    pub gained_answer: usize,
    /// Without an answer where the incumbent has one.
    pub lost_answer: usize,
    /// Without an answer, as the incumbent.
    pub still_no_answer: usize,
}

/// One attempt of a loop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// 0 for the first; a later one counts its round.
    pub round: usize,
    /// The node of its response; absent when the response was given and not generated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
    /// The text that counts where it is not the whole response: one that was given, or the part that holds the solution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Its answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// Whether it became the incumbent.
    pub accepted: bool,
    /// Why, or why not.
    pub reason: String,
    /// What was spent since the attempt before it.
    pub spent: Usage,
}

/// The account of one loop.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AttemptLog {
    /// All attempts, in order.
    pub attempts: Vec<Attempt>,
    /// Why the loop ended.
    pub stopped: String,
    /// What was spent behind the last attempt (a critique that led to no further one, for example).
    pub spent_after: Usage,
    /// What later attempts did to the incumbent.
    pub transitions: Transitions,
}

/// Gives the attempts of an account in the data of a decision the numbers that their nodes have in a whole.
pub(crate) fn renumber(data: &mut Value, number: impl Fn(NodeId) -> NodeId) {
    let attempts = data.pointer_mut("/loop/attempts").and_then(|attempts| attempts.as_array_mut());
    for node in attempts.into_iter().flatten().filter_map(|attempt| attempt.get_mut("node")) {
        if let Ok(own) = NodeId::deserialize(&*node) {
            *node = json!(number(own));
        }
    }
}

impl AttemptLog {
    /// The account in a trace; `None` for a strategy that writes none. Of a strategy that goes on several times side by side
    /// the last one, see [`AttemptLog::dialogues`].
    pub fn of(trace: &Trace) -> Option<AttemptLog> {
        AttemptLog::numbered(trace).next().map(|(log, _)| log)
    }

    /// The accounts of the dialogues that a strategy held side by side about the problem, in their order; none for a loop
    /// that goes on once.
    pub fn dialogues(trace: &Trace) -> Vec<AttemptLog> {
        let mut found = Vec::new();
        for (log, dialogue) in AttemptLog::numbered(trace) {
            // A loop in front of these belongs to a strategy that this one followed.
            let Some(dialogue) = dialogue else { break };
            found.push(log);
            if dialogue == 0 {
                break;
            }
        }
        found.reverse();
        found
    }

    /// The accounts from the last one to the first, with the number of the dialogue where there are several.
    fn numbered(trace: &Trace) -> impl Iterator<Item = (AttemptLog, Option<u64>)> {
        trace.nodes.iter().rev().filter_map(|node| match &node.kind {
            NodeKind::Decided { data, .. } => {
                let log = serde_json::from_value(data.get("loop")?.clone()).ok()?;
                Some((log, data.get("dialogue").and_then(Value::as_u64)))
            }
            _ => None,
        })
    }

    /// The text of an attempt that counts.
    pub fn text<'a>(&'a self, trace: &'a Trace, attempt: usize) -> Option<&'a str> {
        let attempt = self.attempts.get(attempt)?;
        match (&attempt.text, attempt.node) {
            (Some(text), _) => Some(text),
            (None, Some(node)) => trace.completion(node).map(|completion| completion.text.as_str()),
            (None, None) => None,
        }
    }

    /// The attempt that was the incumbent at the end of each round from 0 to the last one that was made.
    pub fn incumbents(&self) -> Vec<usize> {
        let last = self.attempts.last().map_or(0, |attempt| attempt.round);
        let of_round = |round: usize| {
            let until = self.attempts.iter().enumerate().take_while(|(_, a)| a.round <= round);
            until.filter(|(_, a)| a.accepted).map(|(index, _)| index).last().unwrap_or(0)
        };
        if self.attempts.is_empty() { Vec::new() } else { (0..=last).map(of_round).collect() }
    }

    /// Whether each attempt is right, by the task's verifier. An attempt without text that counts is not. A response is
    /// judged by the problem as it was put to the model, see [`crate::posed_problem`].
    ///
    /// Errors: the task cannot verify the problem.
    pub fn judged(&self, task: &dyn Task, trace: &Trace) -> Result<Vec<bool>, ControlError> {
        (0..self.attempts.len())
            .map(|attempt| {
                let node = self.attempts[attempt].node.filter(|_| self.attempts[attempt].text.is_none());
                let problem = node.map_or(Cow::Borrowed(&trace.problem), |node| posed_problem(trace, node));
                match self.text(trace, attempt) {
                    Some(text) => Ok(task.verify(&problem, text)?.is_correct()),
                    None => Ok(false),
                }
            })
            .collect()
    }

    /// Whether the first attempt and the last incumbent are right; `None` without attempts.
    ///
    /// Errors: the task cannot verify the problem.
    pub fn dialogue(&self, task: &dyn Task, trace: &Trace) -> Result<Option<Dialogue>, ControlError> {
        let right = self.judged(task, trace)?;
        let last = self.incumbents().last().copied();
        Ok(right
            .first()
            .zip(last.and_then(|last| right.get(last)))
            .map(|(&first, &second)| Dialogue { first, second }))
    }

    /// What rounds 0 to `round` cost together.
    pub fn spent_until(&self, round: usize) -> Usage {
        self.attempts.iter().take_while(|attempt| attempt.round <= round).map(|attempt| attempt.spent).sum()
    }
}

/// An account that is being written.
#[derive(Debug, Default)]
pub(crate) struct Account {
    log: AttemptLog,
    booked: Usage,
}

impl Account {
    /// What was spent since the last booking.
    fn book(&mut self, trail: &Trail) -> Usage {
        let now = trail.usage();
        let spent = Usage {
            prompt_tokens: now.prompt_tokens - self.booked.prompt_tokens,
            completion_tokens: now.completion_tokens - self.booked.completion_tokens,
            calls: now.calls - self.booked.calls,
            seconds: now.seconds - self.booked.seconds,
            money: now.money - self.booked.money,
        };
        self.booked = now;
        spent
    }

    /// The first attempt, which is the incumbent. `text` when it is not the whole response of `node`.
    pub(crate) fn first(
        &mut self,
        trail: &Trail,
        node: Option<NodeId>,
        text: Option<&str>,
        answer: Option<&str>,
    ) {
        let spent = self.book(trail);
        self.begin(node, text, answer, spent);
    }

    /// [`Account::first`] where the cost is known and not what the trail spent last: other attempts were made meanwhile.
    pub(crate) fn begin(
        &mut self,
        node: Option<NodeId>,
        text: Option<&str>,
        answer: Option<&str>,
        spent: Usage,
    ) {
        self.log.attempts.push(Attempt {
            round: 0,
            node,
            text: text.map(str::to_owned),
            answer: answer.map(str::to_owned),
            accepted: true,
            reason: if node.is_some() { "the first attempt".into() } else { "it was given".into() },
            spent,
        });
    }

    /// A later attempt, compared with the answer of the incumbent before it.
    pub(crate) fn later(
        &mut self,
        trail: &Trail,
        task: &dyn Task,
        problem: &Problem,
        incumbent: Option<&str>,
        attempt: Attempt,
    ) {
        let spent = self.book(trail);
        self.go_on(task, problem, incumbent, Attempt { spent, ..attempt });
    }

    /// [`Account::later`] where the attempt knows its cost.
    pub(crate) fn go_on(
        &mut self,
        task: &dyn Task,
        problem: &Problem,
        incumbent: Option<&str>,
        attempt: Attempt,
    ) {
        let transitions = &mut self.log.transitions;
        let counter = match (incumbent, attempt.answer.as_deref()) {
            (Some(left), Some(right)) if task.equivalent(problem, left, right) => {
                &mut transitions.same_answer
            }
            (Some(_), Some(_)) => &mut transitions.changed_answer,
            (None, Some(_)) => &mut transitions.gained_answer,
            (Some(_), None) => &mut transitions.lost_answer,
            (None, None) => &mut transitions.still_no_answer,
        };
        *counter += 1;
        if attempt.accepted {
            transitions.accepted += 1;
        } else {
            transitions.rejected += 1;
        }
        self.log.attempts.push(attempt);
    }

    /// Answers of all attempts so far, in order.
    pub(crate) fn answers(&self) -> Vec<Option<&str>> {
        self.log.attempts.iter().map(|attempt| attempt.answer.as_deref()).collect()
    }

    /// Writes the account into the trace, as the data of the decision that ends the loop.
    pub(crate) fn close(
        mut self,
        trail: &mut Trail,
        stopped: impl Into<String>,
        chosen: Option<NodeId>,
    ) -> AttemptLog {
        self.log.spent_after = self.book(trail);
        self.log.stopped = stopped.into();
        trail.decided(chosen, self.log.stopped.clone(), chosen, json!({ "loop": self.log }));
        self.log
    }

    /// The same for one of several dialogues that went on side by side, each of whose attempts knows its cost.
    pub(crate) fn close_dialogue(
        mut self,
        trail: &mut Trail,
        dialogue: usize,
        stopped: &str,
        chosen: Option<NodeId>,
    ) {
        self.log.stopped = stopped.into();
        trail.decided(chosen, stopped, chosen, json!({ "loop": self.log, "dialogue": dialogue }));
    }
}

/// The budget that ends in the middle of a loop ends the loop and not the answer: why it stopped, in words, written into
/// the trace too. Any other error is passed on.
pub(crate) fn budget_over(
    trail: &mut Trail,
    incumbent: Option<NodeId>,
    error: ControlError,
) -> Result<String, ControlError> {
    match error {
        ControlError::Generate(error @ GenerateError::Budget { .. })
        | ControlError::Evaluate(EvaluateError::Generate(error @ GenerateError::Budget { .. })) => {
            let said = error.to_string();
            trail.failed(incumbent, said.clone());
            Ok(format!("the budget is over: {}", said.lines().next().unwrap_or_default()))
        }
        error => Err(error),
    }
}

/// A later attempt made of a response.
pub(crate) fn attempt(
    round: usize,
    node: Option<NodeId>,
    candidate: &Candidate,
    accepted: bool,
    reason: impl Into<String>,
) -> Attempt {
    Attempt {
        round,
        node,
        text: None,
        answer: candidate.answer.clone(),
        accepted,
        reason: reason.into(),
        spent: Usage::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Toy, context, problem};
    use elenchus_generate::Scripted;
    use elenchus_trace::Completion;

    fn candidate(text: &str) -> Candidate {
        Candidate::extract(&Toy, &problem(), Completion::text(text))
    }

    /// Attempts: 8 (given), then 7 accepted, then 9 rejected, then one without an answer rejected.
    fn written() -> Trace {
        let context = context(Scripted::always(["x"]).shared());
        let mut trail = Trail::new(&context, "loop", &problem());
        let mut account = Account::default();
        account.first(&trail, None, Some("a=8#8"), Some("8"));
        let mut incumbent = "8";
        for (round, text, accepted, tokens) in
            [(1, "a=7#7", true, 10), (2, "a=9#9", false, 20), (3, "hm", false, 5)]
        {
            let usage = Usage { calls: 1, completion_tokens: tokens, ..Usage::default() };
            let completion = Completion { usage, ..Completion::text(text) };
            let node = trail.generated(None, "refiner", "m", Vec::new(), &completion, 0.0);
            let made = candidate(text);
            account.later(
                &trail,
                &Toy,
                &problem(),
                Some(incumbent),
                attempt(round, Some(node), &made, accepted, "r"),
            );
            if accepted {
                incumbent = "7";
            }
        }
        assert_eq!(account.answers(), [Some("8"), Some("7"), Some("9"), None]);
        account.close(&mut trail, "the rounds are over", None);
        trail.answer("a=7#7", Some("7".into()), None, Vec::new(), None).trace
    }

    #[test]
    fn the_account_is_read_back_from_the_trace() {
        let trace = written();
        let log = AttemptLog::of(&trace).unwrap();
        let expected = Transitions {
            accepted: 1,
            rejected: 2,
            changed_answer: 2,
            lost_answer: 1,
            ..Transitions::default()
        };
        assert_eq!(log.transitions, expected);
        assert_eq!(log.incumbents(), [0, 1, 1, 1], "a rejected attempt never becomes the incumbent");
        assert_eq!(log.text(&trace, 0), Some("a=8#8"), "a given text stands in the account");
        assert_eq!(log.text(&trace, 2), Some("a=9#9"), "a generated one in its node");
        assert_eq!(log.judged(&Toy, &trace).unwrap(), [false, true, false, false]);
        assert_eq!(log.dialogue(&Toy, &trace).unwrap(), Some(Dialogue { first: false, second: true }));
        assert_eq!(log.spent_until(1).completion_tokens, 10);
        assert_eq!(log.spent_until(3).completion_tokens, trace.usage().completion_tokens);
        assert_eq!(log.spent_until(9).calls, 3, "rounds behind the last one cost nothing");
    }

    #[test]
    fn a_trace_without_an_account_has_none() {
        let context = context(Scripted::always(["x"]).shared());
        let trail = Trail::new(&context, "single", &problem());
        assert_eq!(AttemptLog::of(&trail.answer("x", None, None, Vec::new(), None).trace), None);
        let empty = AttemptLog::default();
        assert!(empty.incumbents().is_empty());
        assert_eq!(empty.dialogue(&Toy, &written()).unwrap(), None);
    }
}
