//! Ask, then ask the same again in the same dialogue (arXiv 2412.19513).

use crate::attempts::{Account, attempt};
use crate::draw::{Sampled, ask_last, first};
use crate::place::{Place, all_identical};
use crate::vote::majority;
use crate::{
    ControlError, ControlKind, Draw, Estimate, EstimateInput, EvaluateKind, FeedbackLine, GenerateKind,
    Keeps, Minimum, Strategy, Trail, Triple,
};
use async_trait::async_trait;
use elenchus_evaluate::{Candidate, Needs, RoleNeeds};
use elenchus_generate::{ACTOR, Context, GenerateError, GenerateRequest, LogprobDetail, PromptSlots, Voice};
use elenchus_task::{Skill, Task};
use elenchus_trace::{Answer, Completion, Message, NodeId, Problem, Usage};
use futures::future::join_all;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

const NAME: &str = "ask-again";

/// What stands in front of the question when it is asked again. None of it says whether the first answer was right.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Steering {
    /// Nothing: the question alone.
    #[default]
    None,
    /// Be confident, stand by your work: shall raise what is kept and lower what is repaired.
    Confidence,
    /// Be critical, look for mistakes: the opposite.
    Critique,
}

impl Steering {
    /// The template of its words.
    fn template(self) -> Option<&'static str> {
        match self {
            Steering::None => None,
            Steering::Confidence => Some("ask_again_confidence"),
            Steering::Critique => Some("ask_again_critique"),
        }
    }
}

/// Settings of `ask-again`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AskAgainSettings {
    /// Independent dialogues S of two turns. With one, a changed answer cannot be told from sampling noise; the paper has 10.
    pub dialogues: usize,
    /// What stands in front of the question when it is asked again (chat voice only).
    pub steering: Steering,
    /// How both answers are drawn.
    #[serde(flatten)]
    pub draw: Draw,
}

impl Default for AskAgainSettings {
    fn default() -> Self {
        AskAgainSettings { dialogues: 10, steering: Steering::None, draw: Draw::default() }
    }
}

/// Holds S independent dialogues of two turns: the model answers, and is asked the same question again with its answer
/// in view. No hint whether the answer was right, no critique, no feedback: what changes is the model's own doing. `eval`
/// counts what the second answers keep of right first ones (CL) and repair of wrong ones (CS), beside what a second
/// answer drawn independently of the first would. Words in front of the question can ask for confidence or for critique.
///
/// The answer is the most frequent second answer, the one seen first on a tie; confidence is its share of the dialogues
/// where there are several. A second response without an answer has no vote; a dialogue whose second turn did not come
/// (the budget ended, the first response was empty) counts with its first answer. Without any answer it abstains.
///
/// Costs 1 call for all first answers and 1 for each second one, which reads question, answer and question. The second
/// calls go out together. In the compact voice the second turn is the skill `again`.
#[derive(Debug, Clone)]
pub struct AskAgain {
    settings: AskAgainSettings,
}

/// One dialogue.
struct Course {
    first: Candidate,
    first_node: NodeId,
    second: Option<(Candidate, NodeId)>,
    stopped: String,
}

impl Course {
    /// The response that stands.
    fn last(&self) -> (&Candidate, NodeId) {
        match &self.second {
            Some((second, node)) => (second, *node),
            None => (&self.first, self.first_node),
        }
    }
}

impl AskAgain {
    /// Errors: [`ControlError::Setting`].
    pub fn new(settings: AskAgainSettings) -> Result<Self, ControlError> {
        settings.draw.check(NAME)?;
        if !(1..=1000).contains(&settings.dialogues) {
            let problem = format!("{} is out of range", settings.dialogues);
            return Err(ControlError::setting(
                NAME,
                "dialogues",
                problem,
                "between 1 and 1000; the paper has 10",
            ));
        }
        if settings.dialogues > 1 && settings.draw.temperature == Some(0.0) {
            let hint = "leave `temperature` out, or set `dialogues = 1`";
            return Err(ControlError::setting(
                NAME,
                "temperature",
                "greedy dialogues are all the same",
                hint,
            ));
        }
        Ok(AskAgain { settings })
    }

    fn several(&self) -> bool {
        self.settings.dialogues > 1
    }

    /// The question again, in words: as it was asked the first time, without what was said before it.
    fn again(&self, place: Place<'_>) -> Result<Message, ControlError> {
        let Place { context, problem, .. } = place;
        let mut slots = PromptSlots::new(problem);
        let asked = match self.settings.draw.asks_as_it_stands(problem) {
            true => problem.question.clone(),
            false => context.insert(ACTOR, &self.settings.draw.skill, &slots)?,
        };
        let steering = match self.settings.steering.template() {
            Some(template) => context.insert(ACTOR, template, &slots)?,
            None => String::new(),
        };
        slots.extra.insert("asked".into(), json!(asked));
        slots.extra.insert("steering".into(), json!(steering));
        Ok(Message::user(context.insert(ACTOR, "ask_again", &slots)?))
    }

    /// The request for a second answer. `begun` is the prompt of the first one.
    fn request(
        &self,
        place: Place<'_>,
        begun: &[Message],
        first: &str,
        dialogue: usize,
    ) -> Result<GenerateRequest, ControlError> {
        let Place { context, problem, .. } = place;
        let draw = &self.settings.draw;
        let messages = match context.voice_of(ACTOR) {
            Voice::Compact => {
                context.prompt(ACTOR, Skill::Again, &PromptSlots::new(problem).solution(first))?
            }
            Voice::Chat => {
                let mut messages = begun.to_vec();
                messages.extend([Message::assistant(first), self.again(place)?]);
                messages
            }
        };
        let label = format!("{NAME}\0{}\0{}\0{}", problem.task, problem.id, draw.seed);
        Ok(GenerateRequest {
            sampling: draw.sampling(self.several(), context.seed_for(&label, dialogue as u64)),
            logprobs: LogprobDetail::Offered,
            extra: problem.wants.clone(),
            ..GenerateRequest::new(messages)
        })
    }

    /// The second turns of all dialogues, asked at the same time.
    async fn second_turns(
        &self,
        trail: &mut Trail,
        place: Place<'_>,
        begun: &[Message],
        drawn: Sampled,
    ) -> Result<Vec<Course>, ControlError> {
        let Place { context, task, problem } = place;
        let mut courses: Vec<Course> = drawn
            .candidates
            .into_iter()
            .zip(drawn.nodes)
            .map(|(first, first_node)| Course { first, first_node, second: None, stopped: String::new() })
            .collect();
        let mut requests = Vec::with_capacity(courses.len());
        for (dialogue, course) in courses.iter_mut().enumerate() {
            let text = &course.first.completion.text;
            if text.trim().is_empty() {
                // Servers refuse a turn without content, and there is no answer to ask about again.
                course.stopped = "the first response is empty, so it is not asked again".into();
                continue;
            }
            requests.push((dialogue, self.request(place, begun, text, dialogue)?));
        }
        // An only dialogue's second response is the answer, and may be told while it is written.
        if let ([course], [(_, request)]) = (courses.as_mut_slice(), requests.as_slice())
            && !problem.wants_form()
        {
            let stage = trail.stage(Some(course.first_node), "ask again");
            match ask_last(trail, context, task, problem, ACTOR, Some(stage), request).await {
                Ok(second) => {
                    course.second = second.candidates.into_iter().zip(second.nodes).next();
                    course.stopped = ended(course.second.is_some());
                }
                Err(ControlError::Generate(error)) => course.stopped = missing(trail, stage, error)?,
                Err(error) => return Err(error),
            }
            return Ok(courses);
        }
        let started = trail.now();
        let replies = join_all(requests.iter().map(|(_, request)| context.generate(ACTOR, request))).await;
        let model = context.model(ACTOR).name().to_string();
        let mut failed = None;
        for ((dialogue, request), reply) in requests.into_iter().zip(replies) {
            let course = &mut courses[dialogue];
            let stage = trail.stage(Some(course.first_node), format!("ask again {}", dialogue + 1));
            match reply {
                // What was paid for is in the trace, also when another request failed.
                Ok(completions) => {
                    course.second = completions.into_iter().next().map(|completion| {
                        let node = trail.generated(
                            Some(stage),
                            ACTOR,
                            &model,
                            request.messages,
                            &completion,
                            started,
                        );
                        (Candidate::extract(task, problem, completion), node)
                    });
                    course.stopped = ended(course.second.is_some());
                }
                Err(error) => match missing(trail, stage, error) {
                    Ok(stopped) => course.stopped = stopped,
                    Err(error) => failed = failed.or(Some(error)),
                },
            }
        }
        failed.map_or(Ok(courses), Err)
    }
}

/// How a dialogue ended whose second call came back.
fn ended(answered: bool) -> String {
    if answered { "asked again".into() } else { "the model gave no second response".into() }
}

/// A second turn that the budget did not allow leaves the first one; any other failure is passed on.
fn missing(trail: &mut Trail, stage: NodeId, error: GenerateError) -> Result<String, ControlError> {
    crate::attempts::budget_over(trail, Some(stage), error.into())
}

#[async_trait]
impl Strategy for AskAgain {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "answers, and is asked the same again: what is kept, what is repaired; a vote over the second answers"
    }

    fn triple(&self) -> Triple {
        Triple {
            generate: GenerateKind::ModelGenerated,
            evaluate: EvaluateKind::SelfAssessment,
            control: ControlKind::Reinforcement,
            line: Some(FeedbackLine::RefiningIteratively),
        }
    }

    fn needs(&self) -> Needs {
        Needs::role(RoleNeeds::new(ACTOR))
    }

    fn minimum(&self) -> Minimum {
        // All first answers, and the second one of one dialogue.
        Minimum { calls: 2, tokens: 3 + self.settings.dialogues as u64 }
    }

    fn estimate(&self, input: &EstimateInput) -> Estimate {
        let dialogues = self.settings.dialogues as u64;
        let (p, c) = (input.prompt_tokens, input.completion_tokens);
        Estimate {
            usage: Usage {
                calls: 1 + dialogues,
                prompt_tokens: p + dialogues * (2 * p + c),
                completion_tokens: 2 * dialogues * c,
                ..Usage::default()
            },
            formula: format!(
                "1 + S calls; p + Sc tokens for the first answers and 2p + 2c for each second one, S = {dialogues}"
            ),
        }
    }

    fn keeps(&self) -> Keeps {
        Keeps::FORM
    }

    /// A given response is the first turn of one dialogue: several would not be independent.
    fn takes_draft(&self) -> bool {
        !self.several()
    }

    fn check(&self, context: &Context) -> Result<(), ControlError> {
        if context.voice_of(ACTOR) == Voice::Compact && self.settings.steering != Steering::None {
            let hint = "set `steering = \"none\"`, or bind a chat model";
            return Err(ControlError::setting(
                NAME,
                "steering",
                "the embedded model cannot be told in words",
                hint,
            ));
        }
        Ok(())
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
        let AskAgainSettings { dialogues, steering, draw } = &self.settings;
        let mut trail = Trail::new(context, NAME, problem);
        let request =
            draw.request(context, problem, *dialogues, self.several(), LogprobDetail::Offered, 0)?;
        let drawn = first(&mut trail, context, task, problem, draft, &request).await?;
        let lost = drawn.lost;
        if drawn.candidates.is_empty() {
            return Ok(trail.answer("", None, None, Vec::new(), Some("the model gave no response".into())));
        }
        let courses = self.second_turns(&mut trail, place, &request.messages, drawn).await?;
        for (dialogue, course) in courses.iter().enumerate() {
            let mut account = Account::default();
            let first = course.first.answer.as_deref();
            // Further samples of one call share its prompt; the first of them carries what it cost.
            account.begin(Some(course.first_node), None, first, course.first.completion.usage);
            if let Some((second, node)) = &course.second {
                let made = attempt(1, Some(*node), second, true, "asked again");
                let made = crate::Attempt { spent: second.completion.usage, ..made };
                account.go_on(task, problem, first, made);
            }
            account.close_dialogue(&mut trail, dialogue, &course.stopped, Some(course.last().1));
        }
        let mut ballots: Vec<Option<&str>> =
            courses.iter().map(|course| course.last().0.answer.as_deref()).collect();
        ballots.resize(courses.len() + lost, None);
        let vote = majority(&ballots, |left, right| task.equivalent(problem, left, right));
        let table = vote.table(&ballots);
        let seconds: Vec<&str> = courses
            .iter()
            .filter_map(|c| c.second.as_ref())
            .map(|(c, _)| c.completion.text.as_str())
            .collect();
        let firsts: Vec<Option<&str>> = courses.iter().map(|course| course.first.answer.as_deref()).collect();
        let data = json!({
            "dialogues": courses.len(), "of": dialogues, "asked_again": seconds.len(), "steering": steering,
            "first_answers": firsts, "votes": table, "identical": all_identical(&seconds),
        });
        let Some(winner) = vote.sample().and_then(|sample| courses.get(sample)) else {
            let reason = match courses.len() {
                1 => "the last response has no answer that the task can extract".to_string(),
                count => {
                    format!("none of the {count} dialogues ends with an answer that the task can extract")
                }
            };
            trail.decided(None, reason.clone(), None, data);
            let text = courses.first().map(|course| course.last().0.completion.text.clone());
            return Ok(trail.answer(text.unwrap_or_default(), None, None, table, Some(reason)));
        };
        let count = table.first().map_or(0, |votes| votes.count);
        let mut decision = format!("{count} of {} dialogues end with the answer", ballots.len());
        if all_identical(&seconds) {
            decision.push_str("; all second responses are identical");
        }
        let (candidate, node) = winner.last();
        trail.decided(None, decision, Some(node), data);
        let confidence = vote.share().filter(|_| self.several());
        let (text, answer) = (candidate.completion.text.clone(), candidate.answer.clone());
        Ok(trail.answer(text, answer, confidence, table, None))
    }
}

#[cfg(test)]
#[path = "ask_again_tests.rs"]
mod tests;
