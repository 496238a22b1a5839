//! Critique, refine, and keep what is not worse.

use crate::attempts::{Account, attempt, budget_over};
use crate::draw::{ask, ask_last, first};
use crate::place::Place;
use crate::{
    ControlError, ControlKind, Draw, Estimate, EstimateInput, EvaluateKind, FeedbackLine, GenerateKind,
    Keeps, Minimum, Strategy, Trail, Triple,
};
use async_trait::async_trait;
use elenchus_evaluate::{
    Candidate, CandidateSize, Critic, CriticSettings, EvaluateInput, Evaluator, Needs, RoleNeeds,
    evaluate_all, evaluator,
};
use elenchus_generate::{ACTOR, Context, GenerateRequest, LogprobDetail, PromptSlots};
use elenchus_task::Task;
use elenchus_trace::{Answer, Completion, Feedback, NodeId, Outcome, Problem, Usage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;

/// When a refined solution takes the place of the incumbent. One that lost the answer never does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Acceptance {
    /// Always.
    Always,
    /// When the evaluator's score of it is at least that of the incumbent. An abstention is no score, so the incumbent
    /// stays.
    #[default]
    NotWorse,
    /// When the critic finds no error in it.
    NoError,
}

/// Settings of `critique-and-refine`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CritiqueAndRefineSettings {
    /// Most refinements.
    pub rounds: usize,
    /// The critic.
    pub critic: CriticSettings,
    /// Role that refines.
    pub refiner: String,
    /// When a refined solution is taken over.
    pub acceptance: Acceptance,
    /// Evaluator whose scores `not_worse` compares; absent, the critic's own score.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evaluator: Option<String>,
    /// Settings of that evaluator.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub evaluator_settings: Value,
    /// How the first solution and the refined ones are drawn. Without a temperature everything is greedy, but a second
    /// attempt at the same solution is sampled at 0.6, because it would repeat the first.
    #[serde(flatten)]
    pub draw: Draw,
}

impl Default for CritiqueAndRefineSettings {
    fn default() -> Self {
        CritiqueAndRefineSettings {
            rounds: 3,
            critic: CriticSettings::default(),
            refiner: "refiner".into(),
            acceptance: Acceptance::NotWorse,
            evaluator: None,
            evaluator_settings: Value::Null,
            draw: Draw::default(),
        }
    }
}

/// Solves once; then up to `rounds` times a critic checks the incumbent solution step by step, a refiner writes it anew
/// with the critique before it, and an acceptance test decides which of the two stays. Stops when the critic finds no
/// error, abstains, the rounds are over, or the budget is (the incumbent is then the answer).
///
/// Helps as far as the critic finds real errors: compare with `self-consistency` at equal tokens. Confidence is the
/// probability that the acceptance evaluator claims for the incumbent, if any.
#[derive(Clone)]
pub struct CritiqueAndRefine {
    settings: CritiqueAndRefineSettings,
    critic: Critic,
    evaluator: Option<Arc<dyn Evaluator>>,
}

/// A solution that may become the answer.
struct Solution {
    candidate: Candidate,
    node: NodeId,
    critique: Option<Feedback>,
    score: Option<Feedback>,
    /// Refinements of it so far.
    attempts: usize,
}

/// Why the loop ended, in words for the trace.
enum Stop {
    Rounds,
    NoError,
    Abstained(String),
}

impl CritiqueAndRefine {
    /// Errors: [`ControlError::Setting`]; [`ControlError::Evaluate`] for a wrong critic or evaluator.
    pub fn new(settings: CritiqueAndRefineSettings) -> Result<Self, ControlError> {
        const NAME: &str = "critique-and-refine";
        settings.draw.check(NAME)?;
        if !(1..=100).contains(&settings.rounds) {
            let problem = format!("{} is out of range", settings.rounds);
            return Err(ControlError::setting(
                NAME,
                "rounds",
                problem,
                "between 1 and 100; 2 or 3 are usual",
            ));
        }
        if settings.evaluator.is_some() && settings.acceptance != Acceptance::NotWorse {
            let hint = "set `acceptance = \"not_worse\"`, or leave `evaluator` out";
            return Err(ControlError::setting(
                NAME,
                "evaluator",
                "this acceptance test compares no scores",
                hint,
            ));
        }
        if settings.evaluator.is_none() && !settings.evaluator_settings.is_null() {
            let hint = "name the evaluator, or leave its settings out";
            return Err(ControlError::setting(NAME, "evaluator_settings", "there is no `evaluator`", hint));
        }
        let scorer = match &settings.evaluator {
            Some(name) => Some(evaluator(name, settings.evaluator_settings.clone())?),
            None => None,
        };
        Ok(CritiqueAndRefine { critic: Critic::new(settings.critic.clone())?, evaluator: scorer, settings })
    }

    /// Asks an evaluator about one solution, and writes it into the trace.
    async fn judge(
        &self,
        trail: &mut Trail,
        evaluator: &dyn Evaluator,
        place: Place<'_>,
        candidate: &Candidate,
        node: NodeId,
    ) -> Result<Feedback, ControlError> {
        let started = trail.now();
        let input = EvaluateInput {
            context: place.context,
            task: place.task,
            problem: place.problem,
            candidates: std::slice::from_ref(candidate),
        };
        let feedback = evaluate_all(evaluator, input)
            .await?
            .into_iter()
            .next()
            .unwrap_or_else(|| Feedback::abstain(evaluator.name(), "it gave no feedback"));
        trail.evaluated(node, &feedback, started);
        Ok(feedback)
    }

    /// The critique of a solution, made once.
    async fn critique<'a>(
        &self,
        trail: &mut Trail,
        place: Place<'_>,
        solution: &'a mut Solution,
    ) -> Result<&'a Feedback, ControlError> {
        let feedback = match solution.critique.take() {
            Some(feedback) => feedback,
            None => self.judge(trail, &self.critic, place, &solution.candidate, solution.node).await?,
        };
        Ok(solution.critique.insert(feedback))
    }

    /// The score that the acceptance test compares, made once.
    async fn score(
        &self,
        trail: &mut Trail,
        place: Place<'_>,
        solution: &mut Solution,
    ) -> Result<Option<f64>, ControlError> {
        let Some(evaluator) = self.evaluator.clone() else {
            return Ok(self.critique(trail, place, solution).await?.score);
        };
        if solution.score.is_none() {
            let feedback =
                self.judge(trail, evaluator.as_ref(), place, &solution.candidate, solution.node).await?;
            solution.score = Some(feedback);
        }
        Ok(solution.score.as_ref().and_then(|feedback| feedback.score))
    }

    fn refinement(
        &self,
        place: Place<'_>,
        incumbent: &Solution,
        critique: &str,
        round: usize,
        detail: LogprobDetail,
    ) -> Result<GenerateRequest, ControlError> {
        let role = self.settings.refiner.as_str();
        let slots =
            PromptSlots::new(place.problem).solution(&incumbent.candidate.completion.text).critique(critique);
        let again = incumbent.attempts > 0;
        let label =
            format!("refine\0{}\0{}\0{}", place.problem.task, place.problem.id, self.settings.draw.seed);
        Ok(GenerateRequest {
            sampling: self.settings.draw.sampling(again, place.context.seed_for(&label, round as u64)),
            logprobs: detail,
            extra: place.problem.wants.clone(),
            ..GenerateRequest::new(place.context.prompt(role, "refine", &slots)?)
        })
    }

    async fn accepts(
        &self,
        trail: &mut Trail,
        place: Place<'_>,
        incumbent: &mut Solution,
        refined: &mut Solution,
    ) -> Result<(bool, String), ControlError> {
        if refined.candidate.answer.is_none() && incumbent.candidate.answer.is_some() {
            return Ok((false, "it has no answer any more".into()));
        }
        match self.settings.acceptance {
            Acceptance::Always => Ok((true, "every refinement is taken over".into())),
            Acceptance::NoError => {
                let critique = self.critique(trail, place, refined).await?;
                let reason = match (&critique.abstained, finds_no_error(critique)) {
                    (Some(reason), _) => format!("the critic abstained: {reason}"),
                    (None, true) => "the critic finds no error".into(),
                    (None, false) => "the critic finds an error".into(),
                };
                Ok((finds_no_error(critique), reason))
            }
            Acceptance::NotWorse => {
                let before = self.score(trail, place, incumbent).await?;
                let after = self.score(trail, place, refined).await?;
                Ok(match (before, after) {
                    (Some(before), Some(after)) if after >= before => {
                        (true, format!("score {before} to {after}"))
                    }
                    (Some(before), Some(after)) => (false, format!("score {before} to {after}")),
                    (None, Some(after)) => (true, format!("no score to {after}")),
                    (_, None) => (false, "the evaluator abstained for it".into()),
                })
            }
        }
    }

    /// Runs the rounds; the incumbent at the end is in `incumbent`.
    async fn rounds(
        &self,
        trail: &mut Trail,
        place: Place<'_>,
        incumbent: &mut Solution,
        account: &mut Account,
        detail: LogprobDetail,
    ) -> Result<Stop, ControlError> {
        for round in 1..=self.settings.rounds {
            let critique = self.critique(trail, place, incumbent).await?;
            if let Some(reason) = &critique.abstained {
                return Ok(Stop::Abstained(reason.clone()));
            }
            if finds_no_error(critique) {
                return Ok(Stop::NoError);
            }
            let Some(text) = critique.text.clone() else {
                return Ok(Stop::Abstained("the critic found an error and said nothing about it".into()));
            };
            let stage = trail.stage(Some(incumbent.node), format!("refinement {round}"));
            let request = self.refinement(place, incumbent, &text, round, detail)?;
            let role = self.settings.refiner.as_str();
            let Place { context, task, problem } = place;
            // Nothing is asked behind it. It is not the answer where it has none; then that follows behind it, which JSON
            // cannot.
            let is_last = round == self.settings.rounds && self.settings.acceptance == Acceptance::Always;
            let drawn = match is_last && !problem.wants_form() {
                true => ask_last(trail, context, task, problem, role, Some(stage), &request).await?,
                false => ask(trail, context, task, problem, role, Some(stage), &request).await?,
            };
            incumbent.attempts += 1;
            let (Some(candidate), Some(&node)) = (drawn.candidates.into_iter().next(), drawn.nodes.first())
            else {
                trail.failed(Some(stage), "the refiner gave no response");
                continue;
            };
            let mut refined = Solution { candidate, node, critique: None, score: None, attempts: 0 };
            let (accepted, reason) = self.accepts(trail, place, incumbent, &mut refined).await?;
            let word = if accepted { "accepted" } else { "rejected" };
            let kept = if accepted { refined.node } else { incumbent.node };
            trail.decided(Some(stage), format!("{word}: {reason}"), Some(kept), Value::Null);
            let made = attempt(round, Some(refined.node), &refined.candidate, accepted, reason);
            account.later(trail, task, problem, incumbent.candidate.answer.as_deref(), made);
            if accepted {
                *incumbent = refined;
            }
        }
        Ok(Stop::Rounds)
    }
}

/// Whether a critique that was read calls nothing wrong.
fn finds_no_error(critique: &Feedback) -> bool {
    critique.verdict.as_ref().is_some_and(|verdict| verdict.outcome != Outcome::Wrong)
}

#[async_trait]
impl Strategy for CritiqueAndRefine {
    fn name(&self) -> &'static str {
        "critique-and-refine"
    }

    fn summary(&self) -> &'static str {
        "a critic finds the first wrong step, a refiner writes anew, the better of both stays"
    }

    fn triple(&self) -> Triple {
        Triple {
            generate: GenerateKind::ModelGenerated,
            evaluate: EvaluateKind::ExternalModel,
            control: ControlKind::Reinforcement,
            line: Some(FeedbackLine::RefiningIteratively),
        }
    }

    fn needs(&self) -> Needs {
        let mut needs = Needs::role(RoleNeeds::new(ACTOR)).and(self.critic.needs());
        if let Some(evaluator) = &self.evaluator {
            needs = needs.and(evaluator.needs());
        }
        // What the evaluator looks at must be in the refiner's responses too.
        let refiner = RoleNeeds { role: self.settings.refiner.clone(), ..needs.of(ACTOR) };
        needs.and(Needs::role(refiner))
    }

    fn minimum(&self) -> Minimum {
        // A solution and its critique; the rest depends on what the critic finds.
        Minimum { calls: 2, tokens: 4 }
    }

    fn estimate(&self, input: &EstimateInput) -> Estimate {
        let rounds = self.settings.rounds as u64;
        let size = CandidateSize {
            candidates: rounds + 1,
            prompt_tokens: input.prompt_tokens,
            completion_tokens: input.completion_tokens,
        };
        let judged = self.evaluator.as_ref().map(|e| e.cost(size)).unwrap_or_default();
        let written = Usage {
            calls: 1 + rounds,
            prompt_tokens: input.prompt_tokens + rounds * (input.prompt_tokens + 2 * input.completion_tokens),
            completion_tokens: (1 + rounds) * input.completion_tokens,
            ..Usage::default()
        };
        Estimate {
            usage: written + self.critic.cost(size) + judged,
            formula: format!(
                "2 to {} calls; p + c, then a critique of p + 2c and a refinement of p + 3c tokens a round, at most {rounds} rounds",
                2 * rounds + 2
            ),
        }
    }

    fn keeps(&self) -> Keeps {
        Keeps::FORM
    }

    fn takes_draft(&self) -> bool {
        true
    }

    async fn attempt(
        &self,
        context: &Context,
        task: &dyn Task,
        problem: &Problem,
    ) -> Result<Answer, ControlError> {
        self.attempt_from(context, task, problem, None).await
    }

    async fn attempt_from(
        &self,
        context: &Context,
        task: &dyn Task,
        problem: &Problem,
        draft: Option<&Completion>,
    ) -> Result<Answer, ControlError> {
        let place = Place { context, task, problem };
        let mut trail = Trail::new(context, self.name(), problem);
        let detail = match self.needs().of(ACTOR).detail() {
            LogprobDetail::None => LogprobDetail::Offered,
            detail => detail,
        };
        let request = self.settings.draw.request(context, problem, 1, false, detail, 0)?;
        let drawn = first(&mut trail, context, task, problem, draft, &request).await?;
        let (Some(candidate), Some(&node)) = (drawn.candidates.into_iter().next(), drawn.nodes.first())
        else {
            return Ok(trail.answer("", None, None, Vec::new(), Some("the model gave no response".into())));
        };
        let mut incumbent = Solution { candidate, node, critique: None, score: None, attempts: 0 };
        let mut account = Account::default();
        account.first(&trail, Some(incumbent.node), None, incumbent.candidate.answer.as_deref());
        let why = match self.rounds(&mut trail, place, &mut incumbent, &mut account, detail).await {
            Ok(Stop::Rounds) => "the rounds are over".to_string(),
            Ok(Stop::NoError) => "the critic finds no error".into(),
            Ok(Stop::Abstained(reason)) => format!("the critic abstained: {reason}"),
            Err(error) => budget_over(&mut trail, Some(incumbent.node), error)?,
        };
        account.close(&mut trail, why, Some(incumbent.node));
        let confidence = incumbent.score.as_ref().and_then(|feedback| feedback.probability);
        let Candidate { completion, answer } = incumbent.candidate;
        let abstained =
            answer.is_none().then(|| "no solution has an answer that the task can extract".to_string());
        Ok(trail.answer(completion.text, answer, confidence, Vec::new(), abstained))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{away, compact, context, context_with, run};
    use crate::{AttemptLog, Transitions};
    use elenchus_generate::Scripted;
    use elenchus_trace::Budget;
    use serde_json::json;

    fn strategy(settings: CritiqueAndRefineSettings) -> CritiqueAndRefine {
        CritiqueAndRefine::new(settings).unwrap()
    }

    fn transitions(answer: &Answer) -> Transitions {
        AttemptLog::of(&answer.trace).unwrap().transitions
    }

    const WRONG: &str = "a=2+5=8;b=8#8";
    const RIGHT: &str = "a=2+5=7;b=7#7";

    #[test]
    fn a_wrong_step_is_found_and_repaired() {
        let model = Scripted::new("m")
            .on_exact("Sa=2+5;a?", [WRONG])
            .on_exact(format!("Ca=2+5;a?{WRONG}!"), ["Na=2+5=7"])
            .on_exact(format!("Ra=2+5;a?{WRONG}!Na=2+5=7!"), [RIGHT])
            .on_exact(format!("Ca=2+5;a?{RIGHT}!"), ["YY"])
            .shared();
        let answer = run(&strategy(CritiqueAndRefineSettings::default()), &compact(model.clone())).unwrap();
        assert_eq!((answer.answer.as_deref(), answer.text.as_str()), (Some("7"), RIGHT));
        assert_eq!(model.calls(), 4, "the critique for the acceptance test is the next round's critique");
        let counted = transitions(&answer);
        assert_eq!(counted, Transitions { accepted: 1, changed_answer: 1, ..Default::default() });
        assert_eq!(answer.usage, answer.trace.usage());
    }

    #[test]
    fn a_worse_refinement_is_rejected_and_the_incumbent_kept() {
        // The critic places the error of the refinement earlier: score 1/2 to 0.
        let model = Scripted::new("m")
            .on_exact("Sa=2+5;a?", [WRONG])
            .on_exact(format!("Ca=2+5;a?{WRONG}!"), ["YNb=7"])
            .on("R", ["a=1=1;b=1#1"])
            .on("C", ["Na=2"])
            .shared();
        let settings = CritiqueAndRefineSettings { rounds: 2, ..Default::default() };
        let answer = run(&strategy(settings), &compact(model.clone())).unwrap();
        assert_eq!(answer.answer.as_deref(), Some("8"));
        assert_eq!(
            transitions(&answer),
            Transitions { rejected: 2, changed_answer: 2, ..Default::default() }
        );
        let temperatures: Vec<f32> = model
            .requests()
            .iter()
            .filter(|r| r.messages[0].text().starts_with('R'))
            .map(|r| r.sampling.temperature)
            .collect();
        assert_eq!(temperatures, [0.0, 0.6], "a second greedy attempt would repeat the first");
    }

    #[test]
    fn a_refinement_that_loses_the_answer_is_never_taken() {
        let model = Scripted::new("m")
            .on("Check the proposed", ["Step 1: wrong — no\nFirst wrong step: 1\nAdvice: none"])
            .on("Improve the proposed", ["I am sorry."])
            .on("Solve", ["x#8"])
            .shared();
        let settings =
            CritiqueAndRefineSettings { rounds: 1, acceptance: Acceptance::Always, ..Default::default() };
        let answer = run(&strategy(settings), &context(model)).unwrap();
        assert_eq!(answer.answer.as_deref(), Some("8"));
        assert_eq!(transitions(&answer), Transitions { rejected: 1, lost_answer: 1, ..Default::default() });
    }

    #[test]
    fn the_critic_that_finds_nothing_costs_two_calls() {
        let said = "Step 1: correct\nFirst wrong step: none\nAdvice: none";
        let model = Scripted::new("m").on("Check the proposed", [said]).on("Solve", ["x#7"]).shared();
        let answer = run(&strategy(CritiqueAndRefineSettings::default()), &context(model.clone())).unwrap();
        assert_eq!((answer.answer.as_deref(), model.calls()), (Some("7"), 2));
    }

    #[test]
    fn a_critic_that_cannot_be_read_or_fails_leaves_the_first_solution() {
        for reply in [Ok(elenchus_trace::Completion::text("10/10, great!")), Err(away())] {
            let model = Scripted::new("m")
                .on_completions("Check the proposed", [reply])
                .on("Solve", ["x#8"])
                .shared();
            let answer =
                run(&strategy(CritiqueAndRefineSettings::default()), &context(model.clone())).unwrap();
            assert_eq!((answer.answer.as_deref(), model.calls()), (Some("8"), 2));
            assert_eq!(transitions(&answer), Transitions::default());
            let said = serde_json::to_string(&answer.trace).unwrap();
            assert!(said.contains("the critic abstained"), "the trace says why it stopped");
        }
    }

    #[test]
    fn acceptance_by_another_evaluator_and_its_confidence() {
        let model = Scripted::new("m")
            .on("Check the proposed", ["Step 1: wrong — no\nFirst wrong step: 1\nAdvice: add"])
            .on("Improve the proposed", ["x#7"])
            .on("Solve", ["x#8"])
            .shared();
        let settings =
            CritiqueAndRefineSettings { rounds: 1, evaluator: Some("verifier".into()), ..Default::default() };
        let answer = run(&strategy(settings), &context(model)).unwrap();
        assert_eq!((answer.answer.as_deref(), answer.confidence), (Some("7"), Some(1.0)));
    }

    #[test]
    fn no_error_accepts_only_what_the_critic_passes() {
        let model = Scripted::new("m")
            .on("Check the proposed", ["Step 1: wrong — no\nFirst wrong step: 1\nAdvice: add"])
            .on("Improve the proposed", ["x#7"])
            .on("Solve", ["x#8"])
            .shared();
        let settings =
            CritiqueAndRefineSettings { rounds: 1, acceptance: Acceptance::NoError, ..Default::default() };
        let answer = run(&strategy(settings), &context(model)).unwrap();
        assert_eq!(answer.answer.as_deref(), Some("8"));
    }

    #[test]
    fn a_budget_that_ends_in_the_loop_returns_the_incumbent() {
        let model = Scripted::new("m")
            .on("Check the proposed", ["Step 1: wrong — no\nFirst wrong step: 1\nAdvice: add"])
            .on("Solve", ["x#8"])
            .shared();
        let budget = Budget { calls: Some(2), ..Budget::default() };
        let answer =
            run(&strategy(CritiqueAndRefineSettings::default()), &context_with(model.clone(), budget))
                .unwrap();
        assert_eq!((answer.answer.as_deref(), model.calls()), (Some("8"), 2));
        let tiny = Budget { calls: Some(1), ..Budget::default() };
        let error =
            run(&strategy(CritiqueAndRefineSettings::default()), &context_with(model, tiny)).unwrap_err();
        assert!(matches!(error, ControlError::Budget { .. }));
    }

    #[test]
    fn settings_that_would_be_ignored_are_refused() {
        for settings in [
            CritiqueAndRefineSettings { rounds: 0, ..Default::default() },
            CritiqueAndRefineSettings {
                acceptance: Acceptance::Always,
                evaluator: Some("judge".into()),
                ..Default::default()
            },
            CritiqueAndRefineSettings { evaluator_settings: json!({"swap": false}), ..Default::default() },
        ] {
            let error = CritiqueAndRefine::new(settings).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(error.contains("hint:"), "{error}");
        }
    }
}
