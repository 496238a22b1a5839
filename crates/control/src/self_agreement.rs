//! Self-agreement: the model reads its samples once more and names the answer that most of them agree on
//! (arXiv 2311.08154).

use crate::drafts::{DraftCall, Drafts, check_reply_tokens};
use crate::draw::check_samples;
use crate::loose_answer::{bare, last_line_answer, loose_majority, loosely_equal};
use crate::place::Place;
use crate::{ControlError, Draw, Estimate, EstimateInput, Keeps, Minimum, Strategy, Trail, Triple};
use async_trait::async_trait;
use elenchus_evaluate::{Needs, RoleNeeds};
use elenchus_generate::{ACTOR, Context, LogprobDetail, PromptSlots, Sampling, Voice};
use elenchus_task::Task;
use elenchus_trace::{Answer, Problem, Usage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

const NAME: &str = "self-agreement";

/// What stands in front of the answer in a reply.
const TRIGGER: &str = "the majority voted answer is";

/// Settings of `self-agreement`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SelfAgreementSettings {
    /// Number of responses k; all of them stand in one prompt. 5 to 10 give most of the gain.
    pub samples: usize,
    /// Role that counts; the method has the same model in both roles.
    pub counter: String,
    /// Most tokens of the count.
    pub counter_max_tokens: u32,
    /// Show the responses in an order drawn by the seed; off, in the order in which they were drawn.
    pub shuffle: bool,
    /// Most characters of all responses in the prompt; when they have more, the longest are cut to their last two lines
    /// until the rest fits, and the trace says how many were cut. Absent, none is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub most_characters: Option<usize>,
    /// How the responses are drawn; the paper samples at temperature 0.7.
    #[serde(flatten)]
    pub draw: Draw,
}

impl Default for SelfAgreementSettings {
    fn default() -> Self {
        SelfAgreementSettings {
            samples: 20,
            counter: "counter".into(),
            counter_max_tokens: 512,
            shuffle: true,
            most_characters: None,
            draw: Draw::default(),
        }
    }
}

/// Draws k responses, shows all of them in one more prompt, and asks, greedily, for a majority vote over their final
/// answers in four steps: understand the question, list the answers, count them, name the most frequent. Works where no
/// program can find or compare the answers; that is left to the model.
///
/// The text behind the last `The majority voted answer is` counts, when it is the answer of a response: equivalent to one
/// that the task extracts, or equal to the last line of a response but for units and decoration. Otherwise the model has
/// solved the problem anew, which the method forbids. Fallbacks, counted in the trace (`fallback`): the answer in the
/// last line of the reply, if it is that of a response; else the most frequent answer of the responses, each read by the
/// task, and where it finds none, from its last line. Without any answer it abstains. The text is that of the first response
/// with the voted answer.
///
/// Costs 2 calls, k + 1 responses; the second prompt holds all of them. Confidence is the share of responses with the
/// voted answer. Temperature is 0.7 and top_p 1 unless given. Chat voice only.
#[derive(Debug, Clone)]
pub struct SelfAgreement {
    settings: SelfAgreementSettings,
}

impl SelfAgreement {
    /// Errors: [`ControlError::Setting`].
    pub fn new(settings: SelfAgreementSettings) -> Result<Self, ControlError> {
        check_samples(NAME, settings.samples)?;
        check_reply_tokens(NAME, "counter_max_tokens", settings.counter_max_tokens)?;
        if settings.most_characters == Some(0) {
            let hint = "leave it out, or give the room that the context has";
            return Err(ControlError::setting(NAME, "most_characters", "0 leaves no room", hint));
        }
        let settings =
            SelfAgreementSettings { draw: settings.draw.clone().or_sampling(0.7, 1.0), ..settings };
        settings.draw.check(NAME)?;
        Ok(SelfAgreement { settings })
    }
}

/// The text behind the last trigger phrase, to the end of its line, without decoration; `None` without the phrase or with
/// nothing behind it.
pub fn parse_voted_answer(reply: &str) -> Option<&str> {
    let lower = reply.to_ascii_lowercase();
    let behind = &reply[lower.rfind(TRIGGER)? + TRIGGER.len()..];
    let line = behind.trim_start_matches([':', ' ', '\t', '\r', '\n', '*']).lines().next()?;
    let voted = bare(line);
    (!voted.is_empty()).then_some(voted)
}

/// Cuts the longest texts to their last two lines until all together have at most `most` characters, as far as that can
/// be reached; returns the texts and how many were cut.
pub(crate) fn cut_to_fit<'t>(texts: &[&'t str], most: usize) -> (Vec<&'t str>, usize) {
    let mut shown = texts.to_vec();
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(texts[i].chars().count()));
    let mut cut = 0;
    for longest in order {
        if shown.iter().map(|text| text.chars().count()).sum::<usize>() <= most {
            break;
        }
        let ends = last_lines(shown[longest], 2);
        cut += usize::from(ends.len() < shown[longest].len());
        shown[longest] = ends;
    }
    (shown, cut)
}

/// The end of a text from its n-th last line that is not empty.
fn last_lines(text: &str, n: usize) -> &str {
    let text = text.trim_end();
    let mut start = text.len();
    for _ in 0..n {
        let before = text[..start].trim_end();
        start = before.rfind('\n').map_or(0, |at| at + 1);
    }
    &text[start..]
}

/// A voted answer that belongs to a response.
struct Voted {
    /// The first response with it.
    sample: usize,
    /// Responses with it.
    count: usize,
    /// The answer: as the task reads it where it does.
    answer: String,
}

impl SelfAgreement {
    /// Finds the responses that have an answer; `None` when none has it.
    fn among(&self, drafts: &Drafts, place: Place<'_>, voted: &str) -> Option<Voted> {
        // The reply may decorate the answer in ways that only the task understands.
        let read = place.task.extract(place.problem, &format!("Answer: {voted}"));
        let same = |answer: &str| {
            let equal = |other: &str| place.task.equivalent(place.problem, answer, other);
            equal(voted) || read.as_deref().is_some_and(equal) || loosely_equal(answer, voted)
        };
        let samples = &drafts.drawn.candidates;
        let has = |sample: usize| match samples[sample].answer.as_deref() {
            Some(answer) => same(answer),
            None => last_line_answer(&samples[sample].completion.text)
                .is_some_and(|answer| loosely_equal(answer, voted)),
        };
        let with: Vec<usize> = (0..samples.len()).filter(|&sample| has(sample)).collect();
        let &sample = with.first()?;
        let known = with.iter().find_map(|&sample| samples[sample].answer.clone());
        Some(Voted { sample, count: with.len(), answer: known.or(read).unwrap_or_else(|| voted.to_string()) })
    }
}

#[async_trait]
impl Strategy for SelfAgreement {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "the model lists and counts the answers of its samples; needs no parser and no answer format"
    }

    fn triple(&self) -> Triple {
        Triple::SELF_VOTE
    }

    fn needs(&self) -> Needs {
        Needs::role(RoleNeeds::new(ACTOR)).and(Needs::role(RoleNeeds::new(&self.settings.counter)))
    }

    fn keeps(&self) -> Keeps {
        Keeps::TEXT_SAMPLE
    }

    fn minimum(&self) -> Minimum {
        Minimum { calls: 2, tokens: 3 + self.settings.samples as u64 }
    }

    fn estimate(&self, input: &EstimateInput) -> Estimate {
        let samples = self.settings.samples as u64;
        let reply = input.completion_tokens.min(self.settings.counter_max_tokens.into());
        // The instruction of the second prompt is some 180 tokens.
        Estimate {
            usage: Usage {
                calls: 2,
                prompt_tokens: 2 * input.prompt_tokens + samples * input.completion_tokens + 180,
                completion_tokens: samples * input.completion_tokens + reply,
                ..Usage::default()
            },
            formula: format!("2 calls, about 2p + kc + 180 read and (k + 1)c written, k = {samples}"),
        }
    }

    fn check(&self, context: &Context) -> Result<(), ControlError> {
        if context.voice_of(&self.settings.counter) == Voice::Chat {
            return Ok(());
        }
        Err(ControlError::Capability {
            strategy: NAME.into(),
            role: self.settings.counter.clone(),
            what: "the chat voice".into(),
            hint:
                "the embedded model does not know how to count answers: use `self-consistency`, or bind an \
                   endpoint to the role"
                    .into(),
        })
    }

    async fn attempt(
        &self,
        context: &Context,
        task: &dyn Task,
        problem: &Problem,
    ) -> Result<Answer, ControlError> {
        let place = Place { context, task, problem };
        let settings = &self.settings;
        let mut trail = Trail::new(context, NAME, problem);
        let drafts =
            Drafts::draw(&mut trail, place, &settings.draw, settings.samples, LogprobDetail::Offered)
                .await?
                .shuffled(place, settings.shuffle);
        let stage = trail.stage(None, "count");
        let (shown, cut) = match settings.most_characters {
            Some(most) => cut_to_fit(&drafts.shown(), most),
            None => (drafts.shown(), 0),
        };
        let call = DraftCall {
            role: &settings.counter,
            skill: "count",
            samples: 1,
            sampling: Sampling {
                temperature: 0.0,
                max_tokens: settings.counter_max_tokens,
                seed: settings.draw.seed,
                ..Sampling::default()
            },
            writes_answer: false,
        };
        let slots = PromptSlots::new(problem).drafts(shown);
        let reply = call.ask(&mut trail, place, Some(stage), &slots).await?.first();
        let answers = drafts.drawn.answers();
        let mut data = json!({
            "answers": answers, "cut": cut, "identical": drafts.identical(), "fallback": Value::Null,
        });
        let reply = match reply {
            Ok((reply, _)) => reply.completion.text,
            Err(why) => return Ok(self.fall_back(trail, &drafts, place, &why, data)),
        };
        let voted = parse_voted_answer(&reply);
        data["voted"] = json!(voted);
        let mut found = voted.and_then(|voted| self.among(&drafts, place, voted));
        if found.is_none() {
            let why = match voted {
                Some(voted) => format!("`{voted}` is the answer of no response"),
                None => "the count names no voted answer".to_string(),
            };
            found = last_line_answer(&reply).and_then(|answer| self.among(&drafts, place, answer));
            if found.is_none() {
                return Ok(self.fall_back(trail, &drafts, place, &why, data));
            }
            data["fallback"] = json!(format!("{why}: the last line of the reply instead"));
        }
        let Some(Voted { sample, count, answer }) = found else {
            return Ok(self.fall_back(trail, &drafts, place, "the count names no voted answer", data));
        };
        data["votes"] = json!(count);
        let decision =
            drafts.noting_identical(format!("{count} of {} responses have the voted answer", answers.len()));
        trail.decided(Some(stage), decision, drafts.drawn.nodes.get(sample).copied(), data);
        let share = count as f64 / drafts.drawn.ballots().len().max(1) as f64;
        let text = drafts.drawn.texts()[sample].to_string();
        Ok(trail.answer(text, Some(answer), Some(share), Vec::new(), None))
    }
}

impl SelfAgreement {
    /// The vote by rules: the answer of a response that the task reads, and where it reads none, that in its last line.
    fn fall_back(
        &self,
        mut trail: Trail,
        drafts: &Drafts,
        place: Place<'_>,
        why: &str,
        mut data: Value,
    ) -> Answer {
        let texts = drafts.drawn.texts();
        let read = drafts.drawn.answers();
        let same = |left: &str, right: &str| place.task.equivalent(place.problem, left, right);
        let unread = read.iter().any(Option::is_none);
        let loose = if unread { loose_majority(&texts, &read, same) } else { None };
        let Some((sample, count, answer)) = loose else {
            let text = texts.first().copied().unwrap_or_default().to_string();
            return drafts.end_by_vote(trail, place, why, data, text);
        };
        data["fallback"] = json!(why);
        let decision = drafts.noting_identical(format!("{why}: the vote over last lines instead"));
        trail.decided(None, decision, drafts.drawn.nodes.get(sample).copied(), data);
        let share = count as f64 / texts.len().max(1) as f64;
        trail.answer(texts[sample].to_string(), Some(answer), Some(share), Vec::new(), None)
    }
}

#[cfg(test)]
#[path = "self_agreement_tests.rs"]
mod tests;
