//! Self-consistency that criticises its own candidates where it is uncertain (arXiv 2310.04815).

use crate::attempts::budget_over;
use crate::draw::{ask, check_samples};
use crate::vote::{VoteResult, majority};
use crate::{ControlError, Draw, Estimate, EstimateInput, Keeps, Minimum, Strategy, Trail, Triple};
use async_trait::async_trait;
use elenchus_evaluate::{
    Candidate, CandidateSize, EvaluateInput, Evaluator, Judgment, JudgmentSettings, Needs, RoleNeeds,
    evaluate_all,
};
use elenchus_generate::{ACTOR, Context, LogprobDetail};
use elenchus_measure::vote_certainty;
use elenchus_task::Task;
use elenchus_trace::{Answer, Feedback, Outcome, Problem, Usage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

const NAME: &str = "self-check";

/// How sure a vote is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VoteCertainty {
    /// ln(f₁ / f₂), with f₁ and f₂ the samples of the most and the second most frequent answer; infinite when all agree.
    #[default]
    LogRatio,
    /// (f₁ − f₂) / n over all n samples.
    Margin,
}

/// Settings of `self-check`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SelfCheckSettings {
    /// Number of responses n.
    pub samples: usize,
    /// Check the candidates when the certainty of the vote lies below this. The paper takes 1 and 2 for the log-ratio.
    pub threshold: f64,
    /// How sure a vote is.
    pub certainty: VoteCertainty,
    /// The critic; its role falls back to the actor, which makes it a check of itself.
    pub critic: JudgmentSettings,
    /// How the responses are drawn.
    #[serde(flatten)]
    pub draw: Draw,
}

impl Default for SelfCheckSettings {
    fn default() -> Self {
        SelfCheckSettings {
            samples: 10,
            threshold: 1.0,
            certainty: VoteCertainty::LogRatio,
            critic: JudgmentSettings::default(),
            draw: Draw::default(),
        }
    }
}

/// Draws n responses and votes. Where the vote is sure (certainty at or above the threshold) its winner is the answer.
/// Else each response with an answer is criticised, those judged incorrect are discarded, and the others vote again; when
/// none is left, the first vote stands. A critique that cannot be used discards nothing, and the trace counts it.
///
/// It filters and never creates: an answer that no sample has stays out of reach. Compare with `self-consistency` at
/// n plus the critiques it makes. Confidence is the winner's share of the votes that count.
///
/// Costs 1 call, and n more on uncertain questions, all at the same time. Needs text only.
#[derive(Debug, Clone)]
pub struct SelfCheck {
    settings: SelfCheckSettings,
    critic: Judgment,
}

/// The certainty of a vote: [`vote_certainty`], or the margin; `None` when no sample has an answer.
fn certainty_of(kind: VoteCertainty, vote: &VoteResult, samples: usize) -> Option<f64> {
    match kind {
        VoteCertainty::LogRatio => vote_certainty(&vote.counts),
        VoteCertainty::Margin => {
            let mut counts = vote.counts.clone();
            counts.sort_unstable_by(|a, b| b.cmp(a));
            let first = *counts.first()?;
            Some((first - counts.get(1).copied().unwrap_or(0)) as f64 / samples.max(1) as f64)
        }
    }
}

/// The vote of the samples that are not discarded; the vote of all when none with an answer is left.
pub fn checked_vote<'a>(
    answers: &[Option<&'a str>],
    discarded: &[bool],
    mut equivalent: impl FnMut(&str, &str) -> bool,
) -> (VoteResult, bool) {
    let left: Vec<Option<&'a str>> = answers
        .iter()
        .enumerate()
        .map(|(index, answer)| answer.filter(|_| !discarded.get(index).copied().unwrap_or(false)))
        .collect();
    let vote = majority(&left, &mut equivalent);
    match vote.winner {
        Some(_) => (vote, true),
        None => (majority(answers, equivalent), false),
    }
}

impl SelfCheck {
    /// Errors: [`ControlError::Setting`]; [`ControlError::Evaluate`] for settings that the critic refuses.
    pub fn new(settings: SelfCheckSettings) -> Result<Self, ControlError> {
        settings.draw.check(NAME)?;
        check_samples(NAME, settings.samples)?;
        if settings.threshold.is_nan() || settings.threshold < 0.0 {
            let problem = format!("{} is out of range", settings.threshold);
            let hint = "0 never checks; the paper takes 1 and 2 for the log-ratio";
            return Err(ControlError::setting(NAME, "threshold", problem, hint));
        }
        Ok(SelfCheck { critic: Judgment::new(settings.critic.clone())?, settings })
    }
}

#[async_trait]
impl Strategy for SelfCheck {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "a vote; where it is uncertain, candidates that a critic calls incorrect are discarded and the others vote again"
    }

    fn triple(&self) -> Triple {
        Triple::SELF_VOTE
    }

    fn needs(&self) -> Needs {
        Needs::role(RoleNeeds::new(ACTOR)).and(self.critic.needs())
    }

    fn keeps(&self) -> Keeps {
        Keeps::SAMPLE
    }

    fn minimum(&self) -> Minimum {
        // Responses that agree need no check.
        Minimum { calls: 1, tokens: 1 + self.settings.samples as u64 }
    }

    fn estimate(&self, input: &EstimateInput) -> Estimate {
        let samples = self.settings.samples as u64;
        let size = CandidateSize {
            candidates: samples,
            prompt_tokens: input.prompt_tokens,
            completion_tokens: input.completion_tokens,
        };
        let drawn = Usage {
            calls: 1,
            prompt_tokens: input.prompt_tokens,
            completion_tokens: samples * input.completion_tokens,
            ..Usage::default()
        };
        Estimate {
            usage: drawn + self.critic.cost(size),
            formula: format!(
                "1 call and p + nc tokens where the vote is sure, else 1 + n calls and about n(p + c) more to read and n \
                 critiques to write, n = {samples}"
            ),
        }
    }

    async fn attempt(
        &self,
        context: &Context,
        task: &dyn Task,
        problem: &Problem,
    ) -> Result<Answer, ControlError> {
        let mut trail = Trail::new(context, NAME, problem);
        let several = self.settings.samples > 1;
        let detail = LogprobDetail::Offered;
        let request =
            self.settings.draw.request(context, problem, self.settings.samples, several, detail, 0)?;
        let drawn = ask(&mut trail, context, task, problem, ACTOR, None, &request).await?;
        let answers = drawn.ballots();
        let equivalent = |left: &str, right: &str| task.equivalent(problem, left, right);
        let first = majority(&answers, equivalent);
        let certainty = certainty_of(self.settings.certainty, &first, answers.len());
        let Some(certainty) = certainty else {
            let reason = format!(
                "none of the {} responses has an answer that the task can extract",
                drawn.nodes.len()
            );
            trail.decided(None, reason.clone(), None, json!(null));
            let text = drawn.texts().first().copied().unwrap_or_default().to_string();
            return Ok(trail.answer(text, None, None, Vec::new(), Some(reason)));
        };
        let mut vote = first;
        // JSON has no infinity: a vote without a second answer has no finite log-ratio.
        let finite = certainty.is_finite().then_some(certainty);
        let mut data = json!({ "certainty": finite, "threshold": self.settings.threshold, "checked": false });
        let mut decision = "the vote is sure".to_string();
        if certainty < self.settings.threshold {
            let stage = trail.stage(None, "check");
            let indices: Vec<usize> = (0..answers.len()).filter(|&index| answers[index].is_some()).collect();
            let candidates: Vec<Candidate> =
                indices.iter().map(|&index| drawn.candidates[index].clone()).collect();
            let started = trail.now();
            let input = EvaluateInput { context, task, problem, candidates: &candidates };
            match evaluate_all(&self.critic, input).await {
                Ok(found) => {
                    let mut discarded = vec![false; answers.len()];
                    let incorrect = |feedback: &Feedback| {
                        feedback.verdict.as_ref().is_some_and(|verdict| verdict.outcome == Outcome::Wrong)
                    };
                    for (&index, feedback) in indices.iter().zip(&found) {
                        trail.evaluated(drawn.nodes[index], feedback, started);
                        discarded[index] = incorrect(feedback);
                    }
                    let abstained = found.iter().filter(|feedback| feedback.abstained.is_some()).count();
                    let (checked, survived) = checked_vote(&answers, &discarded, equivalent);
                    let gone = discarded.iter().filter(|&&gone| gone).count();
                    decision = match survived {
                        true => format!("{gone} of {} candidates are discarded", indices.len()),
                        false => "every candidate is called incorrect: the first vote stands".into(),
                    };
                    data = json!({
                        "certainty": finite, "threshold": self.settings.threshold, "checked": true,
                        "discarded": discarded, "abstained": abstained, "survived": survived,
                    });
                    vote = checked;
                }
                // A part of the critiques would favour the candidates that were not reached.
                Err(error) => {
                    decision = format!(
                        "the first vote stands: {}",
                        budget_over(&mut trail, Some(stage), error.into())?
                    )
                }
            }
        }
        let table = vote.table(&answers);
        let sample = vote.sample();
        trail.decided(None, decision, sample.and_then(|at| drawn.nodes.get(at).copied()), data);
        let Some(chosen) = sample.and_then(|at| drawn.candidates.get(at)) else {
            return Ok(trail.answer("", None, None, table, Some("no answer has a vote".into())));
        };
        let counted: usize = vote.counts.iter().sum();
        let share = vote.winner.map(|winner| vote.counts[winner] as f64 / counted.max(1) as f64);
        let (text, answer) = (chosen.completion.text.clone(), chosen.answer.clone());
        Ok(trail.answer(text, answer, share, table, None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{compact, context, context_with, run};
    use elenchus_generate::Scripted;
    use elenchus_trace::{Budget, NodeKind};

    fn strategy(settings: SelfCheckSettings) -> SelfCheck {
        SelfCheck::new(settings).unwrap()
    }

    fn greedy() -> SelfCheckSettings {
        SelfCheckSettings {
            critic: JudgmentSettings { temperature: 0.0, ..Default::default() },
            ..Default::default()
        }
    }

    /// 18 four times, 20 and 16 three times each: certainty ln(4/3). The critic rejects three of the 18s and two of the 16s.
    #[test]
    fn the_numeric_example() {
        let texts =
            ["a=1#18", "a=2#18", "a=3#18", "a=4#18", "b#20", "b#20", "b#20", "c=1#16", "c=2#16", "c=3#16"];
        let mut model = Scripted::new("m").on_exact("Sa=2+5;a?", texts);
        for text in ["a=1#18", "a=2#18", "a=3#18", "c=1#16", "c=2#16"] {
            model = model.on_exact(format!("Ja=2+5;a?{text}!"), ["N"]);
        }
        let model = model.on("J", ["Y"]).shared();
        let answer = run(&strategy(greedy()), &compact(model.clone())).unwrap();
        assert_eq!(answer.answer.as_deref(), Some("20"), "the plain vote says 18");
        assert_eq!((model.calls(), answer.confidence), (11, Some(0.6)));
        let votes: Vec<(&str, usize)> = answer.votes.iter().map(|v| (v.answer.as_str(), v.count)).collect();
        assert_eq!(votes, [("20", 3), ("18", 1), ("16", 1)]);
        let data = answer.trace.nodes.iter().rev().find_map(|node| match &node.kind {
            NodeKind::Decided { data, .. } => Some(data.clone()),
            _ => None,
        });
        assert!((data.unwrap()["certainty"].as_f64().unwrap() - 0.287_682).abs() < 1e-6);
        assert_eq!(answer.usage, answer.trace.usage());
    }

    #[test]
    fn a_sure_vote_costs_one_call() {
        // 12 against 2: ln 6 = 1.79, above 1 and below 2.
        let texts = || std::iter::repeat_n("x#7", 12).chain(["x#8", "x#8"]);
        for (threshold, calls) in [(1.0, 1), (2.0, 15)] {
            let model = Scripted::new("m").on_exact("Sa=2+5;a?", texts()).on("J", ["Y"]).shared();
            let settings = SelfCheckSettings { samples: 14, threshold, ..greedy() };
            let answer = run(&strategy(settings), &compact(model.clone())).unwrap();
            assert_eq!((answer.answer.as_deref(), model.calls()), (Some("7"), calls), "C = {threshold}");
        }
        let all = Scripted::always(["x#7"]).shared();
        let never_sure = SelfCheckSettings { threshold: f64::MAX, ..greedy() };
        let answer = run(&strategy(never_sure), &compact(all.clone())).unwrap();
        assert_eq!((answer.confidence, all.calls()), (Some(1.0), 1), "all agree: no threshold is above that");
    }

    #[test]
    fn the_margin_is_the_other_certainty() {
        let answers: Vec<Option<String>> = ["7", "7", "7", "8", "8", "9"]
            .iter()
            .map(|a| Some((*a).to_string()))
            .chain([None, None])
            .collect();
        let vote = majority(&answers, |a, b| a == b);
        assert_eq!(certainty_of(VoteCertainty::Margin, &vote, 8), Some(0.125));
        assert!((certainty_of(VoteCertainty::LogRatio, &vote, 8).unwrap() - 1.5f64.ln()).abs() < 1e-12);
        let none: [Option<&str>; 2] = [None, None];
        assert_eq!(certainty_of(VoteCertainty::Margin, &majority(&none, |a, b| a == b), 2), None);
    }

    #[test]
    fn hostile_critics_change_nothing_or_are_outvoted_by_the_first_vote() {
        let texts = ["x#7", "x#7", "x#8"];
        // Says always yes, always no, cannot be read, contradicts itself, is half a JSON, gives orders.
        for said in [
            "Judgment: correct",
            "Judgment: incorrect",
            "Ja.",
            "Judgment: correct or incorrect",
            "{\"judgment\"",
            "SAY 8!",
        ] {
            let model = Scripted::new("m").on("Judge a response", [said]).on("Solve", texts).shared();
            let settings = SelfCheckSettings { samples: 3, ..greedy() };
            let answer = run(&strategy(settings), &context(model.clone())).unwrap();
            assert_eq!((answer.answer.as_deref(), model.calls()), (Some("7"), 4), "{said}");
        }
    }

    #[test]
    fn without_answers_it_abstains_and_a_budget_that_ends_leaves_the_vote() {
        let answer = run(&strategy(greedy()), &context(Scripted::always(["hm"]).shared())).unwrap();
        assert!(answer.abstained.unwrap().contains("none of the 10 responses"));
        let model =
            Scripted::new("m").on("Solve", ["x#7", "x#8", "x#7"]).on("", ["Judgment: incorrect"]).shared();
        let budget = Budget { calls: Some(1), ..Budget::default() };
        let settings = SelfCheckSettings { samples: 3, ..greedy() };
        let answer = run(&strategy(settings), &context_with(model, budget)).unwrap();
        assert_eq!(answer.answer.as_deref(), Some("7"));
        assert!(
            serde_json::to_string(&answer.trace)
                .unwrap()
                .contains("the first vote stands: the budget is over")
        );
    }

    #[test]
    fn settings_are_checked() {
        for wrong in [
            SelfCheckSettings { samples: 0, ..Default::default() },
            SelfCheckSettings { threshold: -1.0, ..Default::default() },
            SelfCheckSettings { threshold: f64::NAN, ..Default::default() },
            SelfCheckSettings {
                critic: JudgmentSettings { votes: 0, ..Default::default() },
                ..Default::default()
            },
        ] {
            let error = SelfCheck::new(wrong).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains("hint:"), "{error}");
        }
    }
}
