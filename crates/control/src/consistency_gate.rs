//! Consistency-gated sampling: evaluate how well the answers agree, stop when they agree enough, else update
//! (arXiv 2407.14507).

use crate::consistency_record::ConsistencyRecord;
use crate::drafts::{DraftCall, DraftReply};
use crate::draw::{ask, check_samples};
use crate::place::{Place, all_identical};
use crate::{
    ControlError, ControlKind, Draw, Estimate, EstimateInput, EvaluateKind, FeedbackLine, GenerateKind,
    Keeps, Minimum, Sampled, Strategy, Trail, Triple, majority,
};
use async_trait::async_trait;
use elenchus_evaluate::{Groups, Needs, RoleNeeds};
use elenchus_generate::{ACTOR, Context, GenerateError, LogprobDetail, PromptSlots};
use elenchus_measure::{Consistency, consistency};
use elenchus_task::Task;
use elenchus_trace::{Answer, NodeId, Problem, Usage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

const NAME: &str = "consistency-gate";

/// What stands for the consistency of the answers so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConsistencyMeasure {
    /// Share of pairs of answers that agree. The only one whose expectation does not depend on how many were drawn, so
    /// that one threshold fits all rounds.
    #[default]
    Agreement,
    /// c = 1 − H / log2 n.
    Normalised,
    /// Share of the most frequent answer.
    Majority,
    /// 1 − (distinct − 1) / (n − 1).
    Unique,
}

impl ConsistencyMeasure {
    /// The number in [0, 1]; `None` for a single answer, which agrees with nobody.
    pub fn of(self, found: &Consistency) -> Option<f64> {
        let n = found.count as f64;
        match self {
            ConsistencyMeasure::Agreement => found.agreement,
            ConsistencyMeasure::Normalised => found.normalised,
            ConsistencyMeasure::Majority => found.agreement.map(|_| found.majority_share),
            ConsistencyMeasure::Unique => {
                found.agreement.map(|_| 1.0 - (found.unique_ratio * n - 1.0) / (n - 1.0))
            }
        }
    }
}

/// What is done while the answers do not agree enough.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConsistencyUpdate {
    /// Draw more responses to the same prompt.
    #[default]
    Sample,
    /// Draw more in view of a response with the most frequent answer and one with the answer next to it, told apart by
    /// their vote shares alone (prompt `contrast`). While there is only one answer, as `sample`.
    Contrast,
}

/// Settings of `consistency-gate`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ConsistencyGateSettings {
    /// Responses before the first look.
    pub first: usize,
    /// Responses of each update.
    pub more: usize,
    /// Most responses in all.
    pub samples: usize,
    /// What is looked at.
    pub measure: ConsistencyMeasure,
    /// Stop when it reaches this; tune it on validation problems.
    pub enough: f64,
    /// What is done otherwise.
    pub update: ConsistencyUpdate,
    /// Give no answer when the consistency is below this at the end; absent, the most frequent answer is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub abstain_below: Option<f64>,
    /// How responses are drawn, in all rounds alike. At temperature 0 all agree and nothing is learned: it is refused.
    #[serde(flatten)]
    pub draw: Draw,
}

impl Default for ConsistencyGateSettings {
    fn default() -> Self {
        ConsistencyGateSettings {
            first: 3,
            more: 2,
            samples: 15,
            measure: ConsistencyMeasure::Agreement,
            enough: 0.6,
            update: ConsistencyUpdate::Sample,
            abstain_below: None,
            draw: Draw::default(),
        }
    }
}

/// The label of each sample: its group, or one of its own where there is no answer, since that agrees with nothing.
pub fn consistency_labels(groups: &Groups) -> Vec<usize> {
    groups.of.iter().enumerate().map(|(sample, group)| group.unwrap_or(groups.len() + sample)).collect()
}

/// How many of a stream of responses a gate draws: it looks after `first` of them and after each `more`, and stops
/// where the value of `measure` over the labels so far reaches `enough`.
pub fn gated_count(
    labels: &[usize],
    first: usize,
    more: usize,
    measure: ConsistencyMeasure,
    enough: f64,
) -> usize {
    let mut drawn = first.min(labels.len());
    while drawn < labels.len() && !is_enough(&labels[..drawn], measure, enough) {
        drawn = (drawn + more.max(1)).min(labels.len());
    }
    drawn
}

fn is_enough(labels: &[usize], measure: ConsistencyMeasure, enough: f64) -> bool {
    consistency(labels).ok().and_then(|found| measure.of(&found)).is_some_and(|value| value >= enough)
}

/// Draws a few responses, measures how well their answers agree, and stops when they agree enough; otherwise draws more
/// (or writes more in view of the two strongest answers) and looks again, up to `samples`. Answers with the most
/// frequent one, ties going to the answer seen first. No reference answer, no verifier and no other model is looked at.
///
/// Helps where easy and hard problems are mixed: it spends on those whose answers disagree. Consistency is not
/// correctness: a model that errs systematically agrees with itself, and the loop stops early on its error. A response
/// without an answer agrees with none. Responses that are all one text are said to be: an endpoint that ignores the
/// temperature looks perfectly consistent.
///
/// With n answers, of which n_a are a:
///
/// agreement = Σ_a n_a (n_a − 1) / (n (n − 1));  c = 1 − H / log2 n, H = −Σ_a p_a log2 p_a in bits
///
/// Costs 1 to 1 + ⌈(N − first) / more⌉ calls, N the most responses. Needs samples only. The consistency at the end is
/// in the trace; confidence is the share of the winner.
#[derive(Debug, Clone)]
pub struct ConsistencyGate {
    settings: ConsistencyGateSettings,
}

impl ConsistencyGate {
    /// Errors: [`ControlError::Setting`].
    pub fn new(settings: ConsistencyGateSettings) -> Result<Self, ControlError> {
        check_samples(NAME, settings.samples)?;
        if settings.first < 2 || settings.first > settings.samples {
            let problem = format!("{} of at most {} responses", settings.first, settings.samples);
            let hint = "at least 2, for one response agrees with nobody, and at most `samples`";
            return Err(ControlError::setting(NAME, "first", problem, hint));
        }
        if settings.more == 0 {
            return Err(ControlError::setting(NAME, "more", "0 draws nothing", "at least 1"));
        }
        for (field, value) in [("enough", Some(settings.enough)), ("abstain_below", settings.abstain_below)] {
            if value.is_some_and(|value| !(0.0..=1.0).contains(&value)) {
                let problem = format!("{} is out of range", value.unwrap_or_default());
                return Err(ControlError::setting(NAME, field, problem, "between 0 and 1"));
            }
        }
        settings.draw.check(NAME)?;
        if settings.draw.temperature == Some(0.0) {
            let hint = "sample above 0: at 0 all responses are one, and their agreement says nothing";
            return Err(ControlError::setting(NAME, "temperature", "it is 0", hint));
        }
        Ok(ConsistencyGate { settings })
    }

    fn rounds(&self) -> u64 {
        let ConsistencyGateSettings { first, more, samples, .. } = &self.settings;
        1 + samples.saturating_sub(*first).div_ceil(*more) as u64
    }

    /// Draws the responses of a round; `Err` says in words why there are none, and is in the trace.
    async fn draw(
        &self,
        trail: &mut Trail,
        place: Place<'_>,
        stage: NodeId,
        drawn: &Sampled,
        wanted: usize,
    ) -> Result<Result<Sampled, String>, ControlError> {
        let Place { context, task, problem } = place;
        let draw = &self.settings.draw;
        let so_far = drawn.candidates.len();
        if self.settings.update == ConsistencyUpdate::Contrast
            && let Some(slots) = contrast(place, drawn)
        {
            let call = DraftCall {
                role: ACTOR,
                skill: "contrast",
                samples: wanted,
                sampling: draw.sampling(true, draw.seed.wrapping_mul(1009).wrapping_add(so_far as u64)),
                writes_answer: true,
            };
            return Ok(match call.ask(trail, place, Some(stage), &slots).await? {
                DraftReply::Given(fresh) => Ok(fresh),
                DraftReply::Missing(why) => Err(why),
            });
        }
        let request = draw.request(context, problem, wanted, true, LogprobDetail::Offered, so_far)?;
        match ask(trail, context, task, problem, ACTOR, Some(stage), &request).await {
            Ok(fresh) => Ok(Ok(fresh)),
            Err(ControlError::Generate(
                error @ (GenerateError::Budget { .. } | GenerateError::Unavailable { .. }),
            )) if so_far > 0 => {
                trail.failed(Some(stage), error.to_string());
                Ok(Err(error.to_string().lines().next().unwrap_or_default().to_string()))
            }
            Err(error) => Err(error),
        }
    }
}

/// The prompt in view of the two strongest answers; `None` while there are not two.
fn contrast<'p>(place: Place<'p>, drawn: &Sampled) -> Option<PromptSlots<'p>> {
    let ballots = drawn.ballots();
    let votes = majority(&ballots, |left, right| place.task.equivalent(place.problem, left, right));
    let winner = votes.winner?;
    let rival = (0..votes.counts.len()).filter(|&group| group != winner).max_by_key(|&group| {
        // Of equals the one seen first.
        (votes.counts[group], std::cmp::Reverse(group))
    })?;
    let texts = drawn.texts();
    let total = ballots.len() as f64;
    let share = |group: usize| format!("{:.2}", votes.counts[group] as f64 / total);
    let mut slots = PromptSlots::new(place.problem);
    slots.extra = json!({
        "best": texts[votes.groups.first[winner]], "best_score": share(winner),
        "worst": texts[votes.groups.first[rival]], "worst_score": share(rival),
        "tied": votes.counts[winner] == votes.counts[rival], "feedback": null,
    })
    .as_object()
    .cloned()
    .unwrap_or_default();
    Some(slots)
}

#[async_trait]
impl Strategy for ConsistencyGate {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "samples until the answers agree enough with each other, then the most frequent one"
    }

    fn triple(&self) -> Triple {
        Triple {
            generate: match self.settings.update {
                ConsistencyUpdate::Sample => GenerateKind::HandWritten,
                ConsistencyUpdate::Contrast => GenerateKind::ModelGenerated,
            },
            evaluate: EvaluateKind::SelfAssessment,
            control: ControlKind::Reinforcement,
            line: Some(FeedbackLine::RefiningWithResponses),
        }
    }

    fn needs(&self) -> Needs {
        Needs::role(RoleNeeds::new(ACTOR))
    }

    fn keeps(&self) -> Keeps {
        match self.settings.update {
            ConsistencyUpdate::Sample => Keeps::SAMPLE,
            // Later responses are asked for in view of earlier ones.
            ConsistencyUpdate::Contrast => Keeps::NOTHING,
        }
    }

    fn minimum(&self) -> Minimum {
        Minimum { calls: 1, tokens: 1 + self.settings.first as u64 }
    }

    fn estimate(&self, input: &EstimateInput) -> Estimate {
        let ConsistencyGateSettings { first, samples, update, .. } = &self.settings;
        let (rounds, n) = (self.rounds(), *samples as u64);
        let shown = match update {
            ConsistencyUpdate::Sample => 0,
            ConsistencyUpdate::Contrast => 2,
        };
        let usage = Usage {
            calls: rounds,
            prompt_tokens: rounds * input.prompt_tokens + (rounds - 1) * shown * input.completion_tokens,
            completion_tokens: n * input.completion_tokens,
            ..Usage::default()
        };
        let formula = format!(
            "1 to {rounds} calls, at least p + {first}c and at most {rounds}p + {}c tokens",
            n + (rounds - 1) * shown
        );
        Estimate { usage, formula }
    }

    async fn attempt(
        &self,
        context: &Context,
        task: &dyn Task,
        problem: &Problem,
    ) -> Result<Answer, ControlError> {
        let ConsistencyGateSettings { first, more, samples, measure, enough, .. } = self.settings;
        let place = Place { context, task, problem };
        let mut trail = Trail::new(context, NAME, problem);
        let mut drawn = Sampled::default();
        let mut found: Option<Consistency> = None;
        let mut history: Vec<Option<f64>> = Vec::new();
        let mut stopped = format!("all {samples} responses are drawn");
        loop {
            // What did not come was tried often enough.
            let so_far = drawn.candidates.len() + drawn.lost;
            if so_far >= samples {
                break;
            }
            let wanted = if so_far == 0 { first } else { more.min(samples - so_far) };
            let stage = trail.stage(None, format!("round {}", history.len() + 1));
            match self.draw(&mut trail, place, stage, &drawn, wanted).await? {
                Ok(fresh) if fresh.candidates.is_empty() => {
                    stopped = "the model gave no more responses".into();
                    break;
                }
                Ok(fresh) => drawn.extend(fresh),
                Err(why) => {
                    stopped = why;
                    break;
                }
            }
            let votes = majority(&drawn.ballots(), |left, right| task.equivalent(problem, left, right));
            found = consistency(&consistency_labels(&votes.groups)).ok();
            let value = found.as_ref().and_then(|found| measure.of(found));
            history.push(value);
            let over = value.is_some_and(|value| value >= enough);
            let said = match value {
                Some(value) if over => format!("consistency {value:.3}: enough"),
                Some(value) => format!("consistency {value:.3} below {enough}"),
                None => "one response agrees with nobody".to_string(),
            };
            trail.decided(Some(stage), said.clone(), None, json!(found));
            if over {
                stopped = said;
                break;
            }
        }
        let (ballots, texts) = (drawn.ballots(), drawn.texts());
        let votes = majority(&ballots, |left, right| task.equivalent(problem, left, right));
        let identical = all_identical(&texts);
        let value = history.last().copied().flatten();
        let table = votes.table(&ballots);
        let record = ConsistencyRecord {
            drawn: texts.len(),
            of: samples,
            rounds: history.len(),
            measure,
            enough,
            history,
            consistency: found,
            stopped: stopped.clone(),
            identical,
            votes: table.clone(),
        };
        let data = json!(record);
        let Some(chosen) = votes.sample() else {
            let reason =
                format!("none of the {} responses has an answer that the task can extract", texts.len());
            trail.decided(None, reason.clone(), None, data);
            let text = texts.first().copied().unwrap_or_default().to_string();
            return Ok(trail.answer(text, None, None, Vec::new(), Some(reason)));
        };
        let mut decision = format!("{} of {} votes; {stopped}", table[0].count, ballots.len());
        if identical {
            decision.push_str("; all responses are identical, so their agreement says nothing");
        }
        let text = texts[chosen].to_string();
        if let Some(least) = self.settings.abstain_below
            && value.is_none_or(|value| value < least)
        {
            let reason = format!("{decision}: the consistency is below {least}, no answer is given");
            trail.decided(None, reason.clone(), None, data);
            return Ok(trail.answer(text, None, votes.share(), table, Some(reason)));
        }
        trail.decided(None, decision, drawn.nodes.get(chosen).copied(), data);
        let answer = drawn.candidates[chosen].answer.clone();
        Ok(trail.answer(text, answer, votes.share(), table, None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{compact, context, context_with, run};
    use elenchus_generate::Scripted;
    use elenchus_trace::{Budget, NodeKind};
    use serde_json::Value;

    fn gate(settings: Value) -> ConsistencyGate {
        ConsistencyGate::new(serde_json::from_value(settings).unwrap()).unwrap()
    }

    fn data(answer: &Answer) -> Value {
        match &answer.trace.nodes.last().unwrap().kind {
            NodeKind::Decided { data, .. } => data.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn agreement_at_once_costs_one_call() {
        let model = Scripted::always(["x#7", "y#7", "z#07"]).shared();
        let answer = run(&gate(json!({})), &context(model.clone())).unwrap();
        assert_eq!((answer.answer.as_deref(), answer.confidence), (Some("7"), Some(1.0)));
        assert_eq!(model.calls(), 1);
        assert_eq!(data(&answer)["history"], json!([1.0]), "`7` and `07` mean the same");
    }

    #[test]
    fn disagreement_draws_until_it_ends() {
        // 1 of 3 pairs, then 3 of 10, then 10 of 21, then 20 of 36 pairs.
        let replies = ["a#8", "b#7", "c#7", "d#9", "e#7", "f#7", "g#7", "h#7", "i#8"];
        let model = Scripted::always(replies).shared();
        let answer = run(&gate(json!({"enough": 0.47})), &context(model.clone())).unwrap();
        assert_eq!((model.calls(), answer.answer.as_deref()), (3, Some("7")));
        let history = data(&answer)["history"].clone();
        let wanted = [1.0 / 3.0, 3.0 / 10.0, 10.0 / 21.0];
        for (found, wanted) in history.as_array().unwrap().iter().zip(wanted) {
            assert!((found.as_f64().unwrap() - wanted).abs() < 1e-12, "{history}");
        }
        assert_eq!(answer.text, "b#7", "the first response with the winning answer");
        let all =
            run(&gate(json!({"enough": 1.0, "samples": 6})), &context(Scripted::always(replies).shared()));
        let all = all.unwrap();
        assert_eq!(data(&all)["drawn"], json!(6), "never more than `samples`");
    }

    #[test]
    fn the_loop_and_the_count_on_recorded_labels_agree() {
        let labels = [0, 1, 1, 2, 1, 1, 1, 1, 0];
        let count = |enough| gated_count(&labels, 3, 2, ConsistencyMeasure::Agreement, enough);
        assert_eq!((count(0.3), count(0.47), count(0.99)), (3, 7, 9));
        assert_eq!(gated_count(&labels[..2], 3, 2, ConsistencyMeasure::Agreement, 0.9), 2);
    }

    #[test]
    fn the_numbers_of_the_sheet_by_every_measure() {
        // Response layer: 5, 3, 3, 3, 3.
        let found = consistency(&[5, 3, 3, 3, 3]).unwrap();
        for (measure, wanted) in [
            (ConsistencyMeasure::Agreement, 0.6),
            (ConsistencyMeasure::Normalised, 0.689_082),
            (ConsistencyMeasure::Majority, 0.8),
            (ConsistencyMeasure::Unique, 0.75),
        ] {
            assert!((measure.of(&found).unwrap() - wanted).abs() < 1e-6, "{measure:?}");
            assert_eq!(measure.of(&consistency(&[1]).unwrap()), None);
        }
    }

    #[test]
    fn no_answer_agrees_with_no_answer() {
        let model = Scripted::always(["hm", "hm", "hm"]).shared();
        let answer = run(&gate(json!({"samples": 5})), &context(model)).unwrap();
        assert!(answer.abstained.unwrap().contains("none of the 5 responses"));
        let half = Scripted::always(["x#7", "hm", "hm", "hm", "hm"]).shared();
        let answer = run(&gate(json!({"samples": 5, "abstain_below": 0.2})), &context(half)).unwrap();
        assert_eq!(answer.answer, None);
        assert!(answer.abstained.unwrap().contains("below 0.2"));
        assert_eq!(answer.confidence, Some(0.2), "what would have been said is not hidden");
    }

    #[test]
    fn identical_responses_are_said() {
        let answer = run(&gate(json!({})), &context(Scripted::always(["x#7"]).shared())).unwrap();
        let NodeKind::Decided { decision, .. } = &answer.trace.nodes.last().unwrap().kind else { panic!() };
        assert!(decision.contains("identical"), "{decision}");
        assert_eq!(data(&answer)["identical"], json!(true));
    }

    #[test]
    fn the_two_strongest_answers_are_contrasted() {
        let model =
            Scripted::new("m").on("Ga=2+5;a?", ["r#7", "s#7"]).on("S", ["a=8#8", "b=7#7", "c=7#7"]).shared();
        let settings = json!({"update": "contrast", "samples": 5, "enough": 0.5});
        let answer = run(&gate(settings), &compact(model.clone())).unwrap();
        assert_eq!((model.calls(), answer.answer.as_deref()), (2, Some("7")));
        let prompt = model.requests()[1].messages[0].text();
        assert_eq!(prompt, "Ga=2+5;a?a=8#8!b=7#7!", "the weaker answer first, as in the template");
    }

    #[test]
    fn a_budget_that_ends_in_between_answers_with_what_is_there() {
        let model = Scripted::always(["a#1", "b#2", "c#2"]).shared();
        let budget = Budget { calls: Some(1), ..Budget::default() };
        let answer = run(&gate(json!({"enough": 0.9})), &context_with(model, budget)).unwrap();
        assert_eq!(answer.answer.as_deref(), Some("2"));
        assert!(data(&answer)["stopped"].as_str().unwrap().contains("budget"));
        let none = Scripted::always(["a#1"]).shared();
        let nothing = Budget { calls: Some(0), ..Budget::default() };
        let error = run(&gate(json!({})), &context_with(none.clone(), nothing)).unwrap_err();
        assert!(matches!(error, ControlError::Budget { .. }) && none.calls() == 0, "{error}");
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        for settings in [
            json!({"first": 1}),
            json!({"first": 9, "samples": 5}),
            json!({"more": 0}),
            json!({"enough": 1.5}),
            json!({"abstain_below": -0.1}),
            json!({"temperature": 0.0}),
        ] {
            let refused = ConsistencyGate::new(serde_json::from_value(settings.clone()).unwrap());
            assert!(refused.unwrap_err().to_string().contains("hint:"), "{settings}");
        }
    }
}
