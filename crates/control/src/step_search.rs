//! Monte-Carlo tree search over the steps of a response, with any evaluator of whole responses.

use crate::attempts::budget_over;
use crate::place::fewest_calls;
use crate::tree::{Child, Explorer, Extremes, NodeIndex, RunningMean, Tree, Uct, search};
use crate::{
    ControlError, ControlKind, Draw, Estimate, EstimateInput, EvaluateKind, FeedbackLine, GenerateKind,
    Minimum, Strategy, Trail, Triple,
};
use async_trait::async_trait;
use elenchus_evaluate::{
    Candidate, CandidateSize, EvaluateInput, Evaluator, Needs, RoleNeeds, evaluate_all, evaluator,
};
use elenchus_generate::{ACTOR, Context, GenerateRequest, LogprobDetail, PromptSlots, Sampling};
use elenchus_task::Task;
use elenchus_trace::{Answer, Completion, FinishReason, Message, Problem, Usage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;

const NAME: &str = "step-search";

/// Settings of `step-search`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StepSearchSettings {
    /// Searches of the tree, each with one finished response.
    pub searches: usize,
    /// Next steps that are drawn at a node.
    pub children: usize,
    /// c of UCT, where scores lie between 0 and 1.
    pub exploration: f64,
    /// Steps of a response at most; what is behind the last one is written in one go.
    pub steps: usize,
    /// What ends a step; at most 4, which is what servers take.
    pub step_ends: Vec<String>,
    /// Tokens of a step at most.
    pub step_tokens: u32,
    /// Evaluator of finished responses; `evaluators()` lists the names.
    pub evaluator: String,
    /// Settings of that evaluator.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub evaluator_settings: Value,
    /// How steps are drawn, at temperature 1 and top_p 1 unless given; `max_tokens` bounds what is written to finish.
    #[serde(flatten)]
    pub draw: Draw,
}

impl Default for StepSearchSettings {
    fn default() -> Self {
        StepSearchSettings {
            searches: 16,
            children: 3,
            exploration: 1.0,
            steps: 12,
            step_ends: [";", "\n"].map(String::from).into(),
            step_tokens: 64,
            evaluator: "judge".into(),
            evaluator_settings: Value::Null,
            draw: Draw::default(),
        }
    }
}

/// Searches over steps: a node is a beginning that ends at the end of a step, its children are sampled next steps. What a
/// node is worth is what an evaluator says of a response that was written on from there to its end. A search goes down by
/// q + c·√(ln n_parent / n), unvisited children first, and backs the score up. The answer is the finished response with
/// the highest score.
///
/// Helps as far as the evaluator is right, and where a good beginning is worth more samples than a bad one; compare with
/// `best-of-n` at the same tokens. The evaluator never sees a beginning, only finished responses; `beam` is for evaluators
/// of beginnings. A response for
/// which it abstains counts as no visit; when it abstains for all, so does the answer. When the budget ends, the best so
/// far is the answer.
///
/// Costs one finished response with its judgement per search, and one call for the steps of every node that a search comes
/// back to. Needs a model that continues a prefix.
#[derive(Clone)]
pub struct StepSearch {
    settings: StepSearchSettings,
    evaluator: Arc<dyn Evaluator>,
}

impl std::fmt::Debug for StepSearch {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("StepSearch").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// A step behind its parent.
#[derive(Debug, Clone, Default)]
struct StepNode {
    text: String,
    terminal: bool,
}

/// A finished response with its score.
#[derive(Debug, Clone)]
struct Finished {
    candidate: Candidate,
    score: f64,
    probability: Option<f64>,
}

struct Walker<'a> {
    settings: &'a StepSearchSettings,
    context: &'a Context,
    task: &'a dyn Task,
    problem: &'a Problem,
    evaluator: &'a dyn Evaluator,
    prompt: Vec<Message>,
    best: Option<Finished>,
    responses: usize,
    abstentions: usize,
    why_abstained: Option<String>,
    expansions: usize,
    usage: Usage,
    drawn: u64,
}

impl Walker<'_> {
    fn text(&self, tree: &Tree<StepNode>, node: NodeIndex) -> String {
        tree.path(node).into_iter().map(|node| tree.data(node).text.as_str()).collect()
    }

    async fn draw(
        &mut self,
        text: &str,
        samples: usize,
        most: u32,
        stop: &[String],
    ) -> Result<Vec<Completion>, ControlError> {
        self.drawn += 1;
        let label = format!("step-search\0{}\0{}\0{}", self.problem.task, self.problem.id, self.drawn);
        let sampling =
            self.settings.draw.sampling(true, self.context.seed_for(&label, self.settings.draw.seed));
        let mut messages = self.prompt.clone();
        if !text.is_empty() {
            messages.push(Message::assistant(text));
        }
        let request = GenerateRequest {
            samples,
            sampling: Sampling {
                max_tokens: most.min(sampling.max_tokens),
                stop: [&sampling.stop[..], stop].concat(),
                ..sampling
            },
            logprobs: LogprobDetail::Offered,
            ..GenerateRequest::new(messages)
        };
        let completions = self.context.generate(ACTOR, &request).await?;
        self.usage += completions.iter().map(|completion| completion.usage).sum();
        Ok(completions)
    }
}

#[async_trait]
impl Explorer<StepNode> for Walker<'_> {
    fn is_terminal(&self, data: &StepNode) -> bool {
        data.terminal
    }

    async fn expand(
        &mut self,
        tree: &Tree<StepNode>,
        node: NodeIndex,
    ) -> Result<Vec<Child<StepNode>>, ControlError> {
        if tree.depth(node) >= self.settings.steps {
            return Ok(Vec::new());
        }
        let text = self.text(tree, node);
        let ends = self.settings.step_ends.clone();
        let completions = self.draw(&text, self.settings.children, self.settings.step_tokens, &ends).await?;
        self.expansions += 1;
        let mut steps: Vec<StepNode> = Vec::new();
        for completion in completions {
            let mut step = completion.text;
            let answered = self.task.extract(self.problem, &format!("{text}{step}")).is_some();
            // The end of the response and the end of a step look alike; only a finished response has an answer.
            let terminal = completion.finish == FinishReason::Stop && (answered || step.is_empty());
            if completion.finish == FinishReason::Stop && !terminal {
                step.push_str(self.settings.step_ends.first().map_or("", String::as_str));
            }
            if !steps.iter().any(|known| known.text == step) {
                steps.push(StepNode { text: step, terminal });
            }
        }
        let prior = 1.0 / steps.len().max(1) as f64;
        Ok(steps.into_iter().map(|data| Child { prior, data }).collect())
    }

    async fn evaluate(
        &mut self,
        tree: &mut Tree<StepNode>,
        path: &[NodeIndex],
    ) -> Result<Option<f64>, ControlError> {
        let Some(&leaf) = path.last() else { return Ok(None) };
        let text = self.text(tree, leaf);
        let mut completion = Completion::text(text.clone());
        if !tree.data(leaf).terminal {
            let Some(rest) = self.draw(&text, 1, u32::MAX, &[]).await?.into_iter().next() else {
                return Ok(None);
            };
            // Log-probabilities of the rest alone would say nothing of the whole.
            completion.text.push_str(&rest.text);
            completion.finish = rest.finish;
        }
        let candidate = Candidate::extract(self.task, self.problem, completion);
        let input = EvaluateInput {
            context: self.context,
            task: self.task,
            problem: self.problem,
            candidates: std::slice::from_ref(&candidate),
        };
        let feedback = evaluate_all(self.evaluator, input).await?.into_iter().next().unwrap_or_default();
        self.usage += feedback.usage;
        self.responses += 1;
        let Some(score) = feedback.score.filter(|score| score.is_finite()) else {
            self.abstentions += 1;
            self.why_abstained = self.why_abstained.take().or(feedback.abstained);
            return Ok(None);
        };
        if candidate.answer.is_some() && self.best.as_ref().is_none_or(|best| score > best.score) {
            self.best = Some(Finished { candidate, score, probability: feedback.probability });
        }
        Ok(Some(score))
    }
}

impl StepSearch {
    /// Errors: [`ControlError::Setting`]; [`ControlError::Evaluate`] for an unknown evaluator or a wrong setting of it.
    pub fn new(settings: StepSearchSettings) -> Result<Self, ControlError> {
        let counts = [
            ("searches", settings.searches),
            ("children", settings.children),
            ("steps", settings.steps),
            ("step_tokens", settings.step_tokens as usize),
        ];
        for (field, value) in counts {
            if !(1..=100_000).contains(&value) {
                let problem = format!("{value} is out of range");
                return Err(ControlError::setting(NAME, field, problem, "between 1 and 100000"));
            }
        }
        if settings.step_ends.is_empty()
            || settings.step_ends.len() > 4
            || settings.step_ends.iter().any(String::is_empty)
        {
            let problem = format!("{:?} is no list of 1 to 4 signs", settings.step_ends);
            return Err(ControlError::setting(NAME, "step_ends", problem, "for example [\";\", \"\\n\"]"));
        }
        if !(settings.exploration >= 0.0 && settings.exploration.is_finite()) {
            let problem = format!("{} is out of range", settings.exploration);
            return Err(ControlError::setting(NAME, "exploration", problem, "0 or more"));
        }
        let settings = StepSearchSettings { draw: settings.draw.clone().or_sampling(1.0, 1.0), ..settings };
        settings.draw.check(NAME)?;
        let evaluator = evaluator(&settings.evaluator, settings.evaluator_settings.clone())?;
        Ok(StepSearch { settings, evaluator })
    }

    async fn mcts(&self, tree: &mut Tree<StepNode>, walker: &mut Walker<'_>) -> Result<(), ControlError> {
        let uct = Uct { exploration: self.settings.exploration, factor: 1.0 };
        for _ in 0..self.settings.searches {
            search(tree, &uct, &RunningMean, walker).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Strategy for StepSearch {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "Monte-Carlo tree search over the steps of a response, with any evaluator of whole ones"
    }

    fn triple(&self) -> Triple {
        Triple {
            generate: GenerateKind::HandWritten,
            evaluate: EvaluateKind::of(self.evaluator.as_ref()),
            control: ControlKind::Reinforcement,
            line: Some(FeedbackLine::ReasoningTopologically),
        }
    }

    fn needs(&self) -> Needs {
        Needs::role(RoleNeeds { prefix: true, ..RoleNeeds::new(ACTOR) }).and(self.evaluator.needs())
    }

    fn minimum(&self) -> Minimum {
        // One response and its judgement.
        let calls = fewest_calls(self.evaluator.as_ref(), 1);
        Minimum { calls: 1 + calls, tokens: 2 + calls }
    }

    fn estimate(&self, input: &EstimateInput) -> Estimate {
        let StepSearchSettings { searches, children, .. } = &self.settings;
        let (responses, expansions) = (*searches as u64, *searches as u64);
        let c = input.completion_tokens;
        let drawn = Usage {
            calls: responses + expansions,
            prompt_tokens: (responses + expansions) * (input.prompt_tokens + c),
            completion_tokens: responses * c
                + expansions * *children as u64 * u64::from(self.settings.step_tokens),
            ..Usage::default()
        };
        let judged = self.evaluator.cost(CandidateSize {
            candidates: responses,
            prompt_tokens: input.prompt_tokens,
            completion_tokens: c,
        });
        let formula = format!(
            "at most {responses} responses of c tokens with their judgement and {expansions} calls for {children} steps each"
        );
        Estimate { usage: drawn + judged, formula }
    }

    async fn attempt(
        &self,
        context: &Context,
        task: &dyn Task,
        problem: &Problem,
    ) -> Result<Answer, ControlError> {
        let mut trail = Trail::new(context, NAME, problem);
        let started = trail.now();
        let mut walker = Walker {
            settings: &self.settings,
            context,
            task,
            problem,
            evaluator: self.evaluator.as_ref(),
            prompt: context.prompt(ACTOR, self.settings.draw.skill.as_str(), &PromptSlots::new(problem))?,
            best: None,
            responses: 0,
            abstentions: 0,
            why_abstained: None,
            expansions: 0,
            usage: Usage::default(),
            drawn: 0,
        };
        let mut tree = Tree::new(StepNode::default(), Extremes { low: 0.0, high: 1.0 });
        let searched = self.mcts(&mut tree, &mut walker).await;
        let cut = match searched {
            Ok(()) => None,
            // What was found before still stands.
            Err(error) => Some(budget_over(&mut trail, None, error)?),
        };
        let data = json!({
            "responses": walker.responses, "expansions": walker.expansions, "nodes": tree.len(),
            "abstentions": walker.abstentions, "score": walker.best.as_ref().map(|best| best.score), "cut": &cut,
        });
        let stage = trail.called(
            None,
            format!("{} finished responses", walker.responses),
            started,
            walker.usage,
            data,
        );
        let Some(best) = walker.best else {
            let mut reason = format!("none of {} responses has both an answer and a score", walker.responses);
            if let Some(why) = &walker.why_abstained {
                reason.push_str(&format!(": `{}` abstained, {why}", self.evaluator.name()));
            }
            if let Some(why) = &cut {
                reason.push_str(&format!("; {why}"));
            }
            return Ok(trail.answer("", None, None, Vec::new(), Some(reason)));
        };
        trail.decided(Some(stage), format!("the highest score is {}", best.score), None, Value::Null);
        let Candidate { completion, answer } = best.candidate;
        Ok(trail.answer(completion.text, answer, best.probability, Vec::new(), None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{context, context_with, run};
    use elenchus_generate::{Capabilities, LanguageModel, Scored, Scripted};
    use elenchus_trace::{Budget, Role};

    /// Three steps, each `g;` or `b;`, then `#` and how many were good; the judge believes in good ones.
    fn model() -> Scripted {
        Scripted::new("m")
            .on_with(
                |_| true,
                |request, sample| {
                    let last = request.messages.last().unwrap();
                    let mut text = if last.role == Role::Assistant { last.text() } else { String::new() };
                    let before = text.len();
                    let one = !request.sampling.stop.is_empty();
                    while text.matches(';').count() < 3 {
                        let step = if (request.sampling.seed >> sample) & 1 == 0 { 'g' } else { 'b' };
                        if one {
                            return Ok(Completion::text(step));
                        }
                        text.push(step);
                        text.push(';');
                    }
                    text.push_str(&format!("#{}", text.matches('g').count()));
                    Ok(Completion::text(&text[before..]))
                },
            )
            .scores(|request, index| {
                let text = request.messages.last().unwrap().text();
                let good = text.matches("g;").count() as f32;
                let right = (request.continuations[index] == "A") != text.contains("(A) wrong");
                let logprob = if right { good - 4.0 } else { -2.0 };
                Ok(Scored { logprobs: vec![logprob], distributions: Vec::new(), usage: Usage::default() })
            })
    }

    fn step_search(settings: Value) -> StepSearch {
        StepSearch::new(serde_json::from_value(settings).unwrap()).unwrap()
    }

    #[test]
    fn it_finds_the_best_steps() {
        let strategy = step_search(json!({"searches": 40, "children": 4}));
        let answer = run(&strategy, &context(model().shared())).unwrap();
        assert_eq!((answer.text.as_str(), answer.answer.as_deref()), ("g;g;g;#3", Some("3")));
        let (whole, trace) = (answer.usage, answer.trace.usage());
        assert_eq!((whole.calls, whole.tokens()), (trace.calls, trace.tokens()));
    }

    #[test]
    fn a_prefix_is_needed_and_said_before_any_call() {
        let model = model();
        let has = Capabilities { prefix: false, ..LanguageModel::capabilities(&model) };
        let model = model.with_capabilities(has).shared();
        let error = run(&step_search(json!({})), &context(model.clone())).unwrap_err();
        assert!(matches!(error, ControlError::Capability { .. }), "{error}");
        assert_eq!(model.calls(), 0);
    }

    #[test]
    fn a_budget_that_ends_leaves_the_best_so_far() {
        let budget = Budget { calls: Some(12), ..Budget::default() };
        let answer = run(&step_search(json!({})), &context_with(model().shared(), budget)).unwrap();
        assert!(answer.answer.is_some() && answer.usage.calls <= 12);
        let budget = Budget { calls: Some(2), ..Budget::default() };
        let answer = run(&step_search(json!({})), &context_with(model().shared(), budget)).unwrap();
        let reason = answer.abstained.unwrap();
        assert!(reason.contains("the budget is over: "), "{reason}");
    }

    #[test]
    fn an_evaluator_that_abstains_gives_no_answer() {
        let strategy = step_search(json!({"evaluator": "likelihood", "searches": 5}));
        let answer = run(&strategy, &context(model().shared())).unwrap();
        assert!(answer.answer.is_none());
        assert!(answer.abstained.unwrap().contains("`likelihood` abstained"));
    }

    #[test]
    fn settings_are_checked() {
        for (settings, field) in [
            (json!({"searches": 0}), "searches"),
            (json!({"children": 0}), "children"),
            (json!({"step_ends": []}), "step_ends"),
            (json!({"step_ends": [""]}), "step_ends"),
            (json!({"exploration": -0.1}), "exploration"),
        ] {
            let error = StepSearch::new(serde_json::from_value(settings).unwrap()).unwrap_err().to_string();
            assert!(error.contains(field) && error.contains("hint:"), "{error}");
        }
    }
}
