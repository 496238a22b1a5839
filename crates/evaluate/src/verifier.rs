//! The task's own exact verifier.

use crate::{EvaluateError, EvaluateInput, Evaluator, Needs, redact};
use async_trait::async_trait;
use elenchus_trace::{Feedback, Outcome, Problem, Verdict};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings of the `verifier` evaluator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VerifierSettings {
    /// Report one score per checked step, 1 right and 0 wrong.
    pub steps: bool,
}

/// Scores 1 a response that the task's exact verifier finds right; one that it finds wrong by how near it comes, where the
/// task knows degrees (the share of tests passed, the distance to a target), else 0, as one without an answer. The verdict
/// says which, and the text why: the first wrong step without what it should have been, or the task's reason with the right
/// answer hidden and no hidden test named. It knows the reference answer: use it as an oracle, for measuring and for training
/// rows, never to claim what a model can do by itself. A verifier that fails is an error. Costs no model call.
#[derive(Debug, Clone, Copy)]
pub struct Verifier {
    settings: VerifierSettings,
}

impl Verifier {
    /// The evaluator with its settings.
    pub fn new(settings: VerifierSettings) -> Self {
        Verifier { settings }
    }
}

/// What who tries again may read: the first wrong step, in the words of the response, without what it should have been;
/// else the task's reason with the right answer hidden, which some tasks name there.
fn told(problem: &Problem, verdict: &Verdict) -> Option<String> {
    let wrong = verdict.steps.iter().enumerate().find(|(_, step)| !step.correct);
    match wrong {
        Some((index, step)) if step.step.text.is_empty() => Some(format!("step {} is missing", index + 1)),
        Some((index, step)) => Some(format!("step {}: `{}` is wrong", index + 1, step.step.text)),
        None => verdict.reason.as_deref().map(|why| redact(problem, why, "[masked]").text),
    }
}

#[async_trait]
impl Evaluator for Verifier {
    fn name(&self) -> &'static str {
        "verifier"
    }

    fn summary(&self) -> &'static str {
        "the task's exact verifier (knows the reference answer)"
    }

    fn needs(&self) -> Needs {
        Needs { oracle: true, ..Needs::default() }
    }

    fn advises(&self) -> bool {
        true
    }

    async fn evaluate(&self, input: EvaluateInput<'_>) -> Result<Vec<Feedback>, EvaluateError> {
        input
            .candidates
            .iter()
            .map(|candidate| {
                let verdict = input.task.verify(input.problem, &candidate.completion.text)?;
                let right = verdict.outcome == Outcome::Correct;
                let response = &candidate.completion.text;
                let score = match right {
                    true => 1.0,
                    false => input.task.grade(input.problem, response, &verdict)?,
                };
                let step_scores = match self.settings.steps {
                    true => verdict.steps.iter().map(|step| f64::from(u8::from(step.correct))).collect(),
                    false => Vec::new(),
                };
                let feedback = Feedback::score(self.name(), score);
                let probability = Some(if right { 1.0 } else { 0.0 });
                let text = told(input.problem, &verdict);
                Ok(Feedback { probability, text, verdict: Some(verdict), step_scores, ..feedback })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, candidates};

    #[test]
    fn right_wrong_and_missing_answers() {
        let samples = candidates(&[("a=1#7", None), ("a=1#8", None), ("mumbling", None)]);
        let found = testing::evaluate(&Verifier::new(VerifierSettings { steps: true }), &samples).unwrap();
        let scores: Vec<_> = found.iter().map(|f| f.score).collect();
        assert_eq!(scores, [Some(1.0), Some(0.0), Some(0.0)]);
        let outcomes: Vec<_> = found.iter().map(|f| f.verdict.as_ref().unwrap().outcome).collect();
        assert_eq!(outcomes, [Outcome::Correct, Outcome::Wrong, Outcome::NoAnswer]);
    }

    #[test]
    fn tasks_that_know_degrees_are_scored_by_them() {
        let task = elenchus_task::task("countdown", &serde_json::Value::Null).unwrap();
        let mut problem = task.problems(elenchus_task::Split::Test, 1, 1).unwrap().remove(0);
        problem.data["numbers"] = serde_json::json!([3, 5, 20]);
        problem.data["target"] = serde_json::json!(32);
        let samples = candidates(&[("#3+5+20", None), ("#20+5", None), ("#20*5-3", None), ("hm", None)]);
        let model = elenchus_generate::Scripted::always(["x"]).shared();
        let context = elenchus_generate::Context::builder().role("actor", model).build().unwrap();
        let input =
            EvaluateInput { context: &context, task: task.as_ref(), problem: &problem, candidates: &samples };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let found = runtime.block_on(Verifier::new(VerifierSettings::default()).evaluate(input)).unwrap();
        let scores: Vec<f64> = found.iter().filter_map(|feedback| feedback.score).collect();
        // 28 misses 32 by an eighth; 97 is further away than the target is large; the others are no expressions of it.
        assert_eq!(scores, [0.875, 0.0, 0.0, 0.0]);
        assert!(found[0].text.as_deref().unwrap().contains("has the value 28"), "{found:?}");
        assert!(found.iter().all(|feedback| feedback.probability == Some(0.0)));
    }

    #[test]
    fn the_text_never_names_the_right_answer() {
        let task = elenchus_task::task("facts", &serde_json::Value::Null).unwrap();
        let problem = task.problems(elenchus_task::Split::Test, 1, 1).unwrap().remove(0);
        let gold = problem.gold.clone().unwrap();
        let samples = candidates(&[("#31415", None)]);
        let why = task.verify(&problem, "#31415").unwrap().reason.unwrap();
        assert!(why.ends_with(&format!("it is {gold}")), "this task says what is right: {why}");
        let model = elenchus_generate::Scripted::always(["x"]).shared();
        let context = elenchus_generate::Context::builder().role("actor", model).build().unwrap();
        let input =
            EvaluateInput { context: &context, task: task.as_ref(), problem: &problem, candidates: &samples };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let found = runtime.block_on(Verifier::new(VerifierSettings::default()).evaluate(input)).unwrap();
        assert_eq!(found[0].text.as_deref(), Some("says 31415, it is [masked]"));
    }

    #[test]
    fn a_wrong_step_is_named_without_what_it_should_be() {
        let task = elenchus_task::task("arithmetic", &serde_json::Value::Null).unwrap();
        let problem = task.problems(elenchus_task::Split::Test, 1, 1).unwrap().remove(0);
        let right = task.reference(&problem).unwrap();
        let last = right.rfind('#').unwrap();
        let wrong = format!("{}9#{}9", &right[..last], &right[last + 1..]);
        let verdict = task.verify(&problem, &wrong).unwrap();
        assert!(verdict.reason.as_deref().unwrap().contains("expected"), "the task says it: {verdict:?}");
        let text = told(&problem, &verdict).unwrap();
        assert!(text.starts_with("step ") && text.ends_with("is wrong"), "{text}");
        assert!(!text.contains("expected") && !text.contains("[masked]"), "{text}");
    }

    #[test]
    fn a_verifier_that_fails_is_an_error_and_no_score() {
        let samples = candidates(&[("broken#7", None)]);
        let error = testing::evaluate(&Verifier::new(VerifierSettings::default()), &samples).unwrap_err();
        assert!(error.to_string().contains("hint:"), "{error}");
    }
}
