//! Training rows from traces: what was generated and judged becomes what is learned from.

use super::{Form, PreferenceRow, PromptCompletionRow, Turns, UnpairedPreferenceRow};
use crate::error::{RememberError, Result};
use elenchus_trace::{Completion, FinishReason, Message, NodeId, NodeKind, Trace};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::{HashMap, HashSet};

/// Which completions are worth imitating.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// Those with a verdict `correct`.
    #[default]
    Correct,
    /// The one that the strategy chose in its last decision, whether a verdict exists or not.
    Selected,
}

/// How rows are made from traces.
///
/// A completion counts as right or wrong by the last verdict on it (of `evaluator`, where one is named); without a
/// verdict it is neither. Completions that were cut by us (`cancelled`, `interrupted`) are never used; those cut by
/// the token limit or withheld by the server serve as wrong ones only, since a model must not learn to break off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TraceRows {
    /// Standard or conversational.
    pub form: Form,
    /// Which completions become prompt-completion rows.
    pub keep: Keep,
    /// Roles whose completions are used.
    pub roles: Vec<String>,
    /// Whose verdicts count; all when absent.
    pub evaluator: Option<String>,
    /// At most so many rows (or pairs) per problem.
    pub per_problem: Option<usize>,
    /// Leave out a completion whose text was there before for the same prompt.
    pub deduplicate: bool,
}

impl Default for TraceRows {
    fn default() -> Self {
        TraceRows {
            form: Form::Conversational,
            keep: Keep::Correct,
            roles: vec!["actor".into()],
            evaluator: None,
            per_problem: None,
            deduplicate: true,
        }
    }
}

/// A completion with what is known of it.
struct Candidate<'a> {
    problem: ProblemKey<'a>,
    prompt: &'a [Message],
    completion: &'a Completion,
    right: Option<bool>,
    selected: bool,
}

/// Problems are told apart by task and identifier; traces of several runs of one problem belong together.
type ProblemKey<'a> = (&'a str, &'a str);

impl TraceRows {
    /// Prompt-completion rows, in the order of the traces.
    ///
    /// # Errors
    /// When a completion has no prompt in its trace, or a prompt of several messages shall become plain text.
    pub fn prompt_completion(&self, traces: &[Trace]) -> Result<Vec<PromptCompletionRow>> {
        let mut rows = Vec::new();
        let mut taken: HashMap<ProblemKey, usize> = HashMap::new();
        for (index, candidate) in self.candidates(traces)? {
            let wanted = match self.keep {
                Keep::Correct => candidate.right == Some(true),
                Keep::Selected => candidate.selected,
            };
            if wanted && is_whole(candidate.completion) && self.has_room(&mut taken, candidate.problem) {
                rows.push(PromptCompletionRow {
                    prompt: self.prompt(index, candidate.prompt)?,
                    completion: self.completion(candidate.completion),
                    extra: columns(&candidate),
                });
            }
        }
        Ok(rows)
    }

    /// Preference rows: right against wrong completions of one problem and one prompt. With r right and w wrong ones
    /// there are max(r, w) pairs, each completion used at least once, the scarcer side repeated in turn.
    ///
    /// # Errors
    /// As [`TraceRows::prompt_completion`].
    pub fn preference(&self, traces: &[Trace]) -> Result<Vec<PreferenceRow>> {
        #[derive(Default)]
        struct Group<'a> {
            right: Vec<Candidate<'a>>,
            wrong: Vec<Candidate<'a>>,
        }
        let mut groups: Vec<(usize, Group)> = Vec::new();
        let mut places: HashMap<(ProblemKey, String), usize> = HashMap::new();
        for (index, candidate) in self.candidates(traces)? {
            let Some(right) = candidate.right else { continue };
            if right && !is_whole(candidate.completion) {
                continue;
            }
            let place = *places.entry((candidate.problem, identity(candidate.prompt))).or_insert_with(|| {
                groups.push((index, Group::default()));
                groups.len() - 1
            });
            let group = &mut groups[place].1;
            if right { group.right.push(candidate) } else { group.wrong.push(candidate) }
        }
        let mut rows = Vec::new();
        let mut taken: HashMap<ProblemKey, usize> = HashMap::new();
        for (index, group) in &groups {
            if group.right.is_empty() || group.wrong.is_empty() {
                continue;
            }
            for pair in 0..group.right.len().max(group.wrong.len()) {
                let right = &group.right[pair % group.right.len()];
                let wrong = &group.wrong[pair % group.wrong.len()];
                let (chosen, rejected) =
                    (self.completion(right.completion), self.completion(wrong.completion));
                // A verifier may judge one text in two ways (a cut one for example); that is no preference.
                if chosen != rejected && self.has_room(&mut taken, right.problem) {
                    rows.push(PreferenceRow {
                        prompt: Some(self.prompt(*index, right.prompt)?),
                        chosen,
                        rejected,
                        extra: columns(right),
                    });
                }
            }
        }
        Ok(rows)
    }

    /// Unpaired preference rows: every completion with a verdict, in the order of the traces.
    ///
    /// # Errors
    /// As [`TraceRows::prompt_completion`].
    pub fn unpaired_preference(&self, traces: &[Trace]) -> Result<Vec<UnpairedPreferenceRow>> {
        let mut rows = Vec::new();
        let mut taken: HashMap<ProblemKey, usize> = HashMap::new();
        for (index, candidate) in self.candidates(traces)? {
            let Some(label) = candidate.right else { continue };
            if (label && !is_whole(candidate.completion)) || !self.has_room(&mut taken, candidate.problem) {
                continue;
            }
            rows.push(UnpairedPreferenceRow {
                prompt: self.prompt(index, candidate.prompt)?,
                completion: self.completion(candidate.completion),
                label,
                extra: columns(&candidate),
            });
        }
        Ok(rows)
    }

    fn candidates<'a>(&self, traces: &'a [Trace]) -> Result<Vec<(usize, Candidate<'a>)>> {
        let mut seen: HashSet<(ProblemKey, String, &str, Option<bool>)> = HashSet::new();
        let mut found = Vec::new();
        for (index, trace) in traces.iter().enumerate() {
            let (verdicts, selected) = self.judgements(trace);
            for (position, node) in trace.nodes.iter().enumerate() {
                let NodeKind::Generated { role, completion, .. } = &node.kind else { continue };
                if !self.roles.contains(role)
                    || matches!(completion.finish, FinishReason::Cancelled | FinishReason::Interrupted)
                {
                    continue;
                }
                let id = NodeId(position as u32);
                let right = verdicts.get(&id).copied();
                let prompt = prompt_of(trace, id).ok_or_else(|| RememberError::Row {
                    row: index,
                    reason: format!(
                        "trace `{}`: node {position} has no prompt, nor has a node above it",
                        trace.id
                    ),
                    hint: "rows can only be made from traces that were recorded with their prompts",
                })?;
                let problem = (trace.problem.task.as_str(), trace.problem.id.as_str());
                let selected = selected == Some(id);
                let text = completion.text.as_str();
                // A selected completion is no duplicate of one that was not selected.
                let fresh = seen.insert((problem, identity(prompt), text, right));
                if fresh || !self.deduplicate || (selected && self.keep == Keep::Selected) {
                    found.push((index, Candidate { problem, prompt, completion, right, selected }));
                }
            }
        }
        Ok(found)
    }

    /// The verdict on each node, and the node chosen last.
    fn judgements(&self, trace: &Trace) -> (HashMap<NodeId, bool>, Option<NodeId>) {
        let mut verdicts = HashMap::new();
        let mut selected = None;
        for node in &trace.nodes {
            match &node.kind {
                NodeKind::Evaluated { of, feedback } => {
                    let counts = self.evaluator.as_ref().is_none_or(|name| *name == feedback.evaluator);
                    if let Some(verdict) = feedback.verdict.as_ref().filter(|_| counts) {
                        verdicts.insert(*of, verdict.is_correct());
                    }
                }
                NodeKind::Decided { chosen: Some(chosen), .. } => {
                    // A strategy may point at the judgement that convinced it instead of at the judged.
                    selected = match trace.node(*chosen).map(|node| &node.kind) {
                        Some(NodeKind::Evaluated { of, .. }) => Some(*of),
                        _ => Some(*chosen),
                    };
                }
                _ => {}
            }
        }
        (verdicts, selected)
    }

    fn has_room<'a>(&self, taken: &mut HashMap<ProblemKey<'a>, usize>, problem: ProblemKey<'a>) -> bool {
        let count = taken.entry(problem).or_default();
        let room = self.per_problem.is_none_or(|most| *count < most);
        *count += usize::from(room);
        room
    }

    fn prompt(&self, trace: usize, messages: &[Message]) -> Result<Turns> {
        match (self.form, messages) {
            (Form::Conversational, _) => Ok(Turns::Messages(messages.to_vec())),
            (Form::Standard, [message]) => Ok(Turns::Text(message.text())),
            (Form::Standard, _) => Err(RememberError::Row {
                row: trace,
                reason: format!("a prompt of {} messages has no plain text", messages.len()),
                hint: "choose the conversational form",
            }),
        }
    }

    fn completion(&self, completion: &Completion) -> Turns {
        match self.form {
            Form::Standard => Turns::Text(completion.text.clone()),
            Form::Conversational => {
                let message =
                    completion.message.clone().unwrap_or_else(|| Message::assistant(completion.text.clone()));
                Turns::Messages(vec![message])
            }
        }
    }
}

/// Whether the model itself ended the text.
fn is_whole(completion: &Completion) -> bool {
    matches!(completion.finish, FinishReason::Stop | FinishReason::ToolCalls | FinishReason::Other(_))
}

/// The request of a node: its own, that of the nearest sample of the same role beside it and before it (further samples
/// of one request), or that of the nearest generated node above it.
fn prompt_of(trace: &Trace, id: NodeId) -> Option<&[Message]> {
    let own = |id: NodeId| match &trace.node(id)?.kind {
        NodeKind::Generated { prompt, role, .. } => Some((prompt.as_slice(), role)),
        _ => None,
    };
    let mut current = Some(id);
    while let Some(id) = current {
        let node = trace.node(id)?;
        if let Some((prompt, role)) = own(id) {
            if !prompt.is_empty() {
                return Some(prompt);
            }
            let beside = (0..id.0)
                .rev()
                .map(NodeId)
                .filter(|other| trace.node(*other).is_some_and(|found| found.parent == node.parent));
            let mut beside = beside.filter_map(own).filter(|(_, other)| *other == role);
            if let Some((prompt, _)) = beside.find(|(prompt, _)| !prompt.is_empty()) {
                return Some(prompt);
            }
        }
        // A parent stands before its children, so this ends also in a trace that nobody checked.
        current = node.parent.filter(|parent| *parent < id);
    }
    None
}

/// Text that is equal exactly when two prompts are.
fn identity(prompt: &[Message]) -> String {
    serde_json::to_string(prompt).unwrap_or_default()
}

fn columns(candidate: &Candidate) -> Map<String, Value> {
    let mut columns = Map::new();
    columns.insert("task".into(), candidate.problem.0.into());
    columns.insert("id".into(), candidate.problem.1.into());
    columns
}

#[cfg(test)]
mod tests {
    use super::*;
    use elenchus_trace::{Feedback, Node, Outcome, Problem, Usage, Verdict};

    fn node(parent: Option<NodeId>, kind: NodeKind) -> Node {
        Node { parent, kind, started_ms: 0.0, elapsed_ms: 0.0, usage: Usage::default() }
    }

    fn generated(prompt: &[&str], text: &str, finish: FinishReason) -> NodeKind {
        NodeKind::Generated {
            role: "actor".into(),
            model: "m".into(),
            prompt: prompt.iter().map(|text| Message::user(*text)).collect(),
            completion: Box::new(Completion { finish, ..Completion::text(text) }),
        }
    }

    fn judged(of: NodeId, correct: bool) -> NodeKind {
        let outcome = if correct { Outcome::Correct } else { Outcome::Wrong };
        let verdict = Verdict { outcome, answer: None, steps: Vec::new(), reason: None };
        let feedback = Feedback { evaluator: "exact".into(), verdict: Some(verdict), ..Feedback::default() };
        NodeKind::Evaluated { of, feedback: Box::new(feedback) }
    }

    /// One request with samples `(text, correct, finish)`; the further samples inherit the prompt of the first.
    fn trace(id: &str, samples: &[(&str, bool, FinishReason)], chosen: Option<u32>) -> Trace {
        let mut trace = Trace::new(id, "vote", Problem::new("p1", "arithmetic", "1+1?"));
        let mut ids = Vec::new();
        for (index, (text, _, finish)) in samples.iter().enumerate() {
            let prompt: &[&str] = if index == 0 { &["S1+1?"] } else { &[] };
            let parent = ids.first().copied();
            ids.push(trace.push(node(parent, generated(prompt, text, finish.clone()))));
        }
        for (id, (_, correct, _)) in ids.iter().zip(samples) {
            trace.push(node(Some(*id), judged(*id, *correct)));
        }
        let data = Value::Null;
        trace.push(node(
            None,
            NodeKind::Decided { decision: "vote".into(), chosen: chosen.map(NodeId), data },
        ));
        trace
    }

    fn stop(text: &str, correct: bool) -> (&str, bool, FinishReason) {
        (text, correct, FinishReason::Stop)
    }

    #[test]
    fn supervised_rows_are_the_correct_ones_without_doubles() {
        let traces = [trace("t", &[stop("#2", true), stop("#3", false), stop("#2", true)], Some(1))];
        let rows = TraceRows { form: Form::Standard, ..TraceRows::default() };
        let made = rows.prompt_completion(&traces).unwrap();
        assert_eq!(made.len(), 1);
        assert_eq!((made[0].prompt.text(), made[0].completion.text()), ("S1+1?".into(), "#2".into()));
        assert_eq!(made[0].extra["id"], "p1");
        let all = TraceRows { deduplicate: false, ..rows.clone() };
        assert_eq!(all.prompt_completion(&traces).unwrap().len(), 2);
        let selected = TraceRows { keep: Keep::Selected, ..rows };
        let made = selected.prompt_completion(&traces).unwrap();
        assert_eq!(made.iter().map(|row| row.completion.text()).collect::<Vec<_>>(), ["#3"]);
    }

    #[test]
    fn pairs_join_right_and_wrong_of_one_problem_across_traces() {
        let traces = [
            trace("t1", &[stop("#2", true), stop("#3", false)], None),
            trace("t2", &[stop("#4", false), stop("#3", false)], None),
        ];
        let rows = TraceRows::default();
        let pairs = rows.preference(&traces).unwrap();
        let texts: Vec<_> = pairs.iter().map(|row| (row.chosen.text(), row.rejected.text())).collect();
        assert_eq!(texts, [("#2".into(), "#3".into()), ("#2".into(), "#4".into())]);
        super::super::check_rows(&pairs).unwrap();
        let capped = TraceRows { per_problem: Some(1), ..rows.clone() };
        assert_eq!(capped.preference(&traces).unwrap().len(), 1);
        let unpaired = rows.unpaired_preference(&traces).unwrap();
        assert_eq!(unpaired.iter().map(|row| row.label).collect::<Vec<_>>(), [true, false, false]);
    }

    /// Strategies write the samples of one request beside each other, the prompt at the first.
    #[test]
    fn samples_beside_each_other_share_the_prompt_of_the_first() {
        let mut beside = trace("t", &[stop("#2", true), stop("#3", false)], None);
        for node in &mut beside.nodes {
            if matches!(node.kind, NodeKind::Generated { .. }) {
                node.parent = None;
            }
        }
        let rows = TraceRows::default().preference(&[beside.clone()]).unwrap();
        assert_eq!(rows.len(), 1, "right against wrong of one prompt");
        for node in &mut beside.nodes {
            if let NodeKind::Generated { prompt, .. } = &mut node.kind {
                prompt.clear();
            }
        }
        let error = TraceRows::default().preference(&[beside]).unwrap_err().to_string();
        assert!(error.contains("has no prompt"), "{error}");
    }

    #[test]
    fn cut_texts_are_never_imitated() {
        let traces = [trace(
            "t",
            &[
                ("#2 and", true, FinishReason::Length),
                ("#2 a", true, FinishReason::Cancelled),
                ("#9", false, FinishReason::Length),
                ("#8", false, FinishReason::Interrupted),
                stop("#2", true),
            ],
            None,
        )];
        let rows = TraceRows::default();
        let texts: Vec<_> =
            rows.prompt_completion(&traces).unwrap().iter().map(|row| row.completion.text()).collect();
        assert_eq!(texts, ["#2"]);
        let pairs = rows.preference(&traces).unwrap();
        assert_eq!(pairs.len(), 1);
        assert_eq!((pairs[0].chosen.text(), pairs[0].rejected.text()), ("#2".into(), "#9".into()));
    }

    #[test]
    fn missing_and_long_prompts_are_errors() {
        let mut missing = trace("t", &[stop("#2", true)], None);
        if let NodeKind::Generated { prompt, .. } = &mut missing.nodes[0].kind {
            prompt.clear();
        }
        let error = TraceRows::default().prompt_completion(&[missing.clone()]).unwrap_err().to_string();
        assert!(error.contains("trace `t`: node 0 has no prompt"), "{error}");
        missing.nodes[0].kind = generated(&["a", "b"], "#2", FinishReason::Stop);
        let standard = TraceRows { form: Form::Standard, ..TraceRows::default() };
        let error = standard.prompt_completion(&[missing]).unwrap_err().to_string();
        assert!(error.contains("a prompt of 2 messages") && error.contains("hint: choose"), "{error}");
    }
}
