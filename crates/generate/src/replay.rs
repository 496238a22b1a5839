//! Recorded answers instead of a model.

use crate::cache::replay_stream;
use crate::scripted::shorten;
use crate::{Capabilities, GenerateError, GenerateRequest, LanguageModel, LogprobDetail, StreamEvent};
use async_trait::async_trait;
use elenchus_trace::{Completion, Message, NodeKind, SampleRow, Trace, Usage};
use futures::stream::BoxStream;
use serde_json::json;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A model that serves recorded samples, each once and in the order in which they were drawn.
///
/// Which question a request is about is found, in this order: by the field `metadata.problem` of the request (the id);
/// by a dialogue that was recorded word for word; by the longest recorded question that the request's dialogue
/// contains, looking at its last message first. A request for more samples than are left is an error and takes none.
pub struct Replay {
    name: String,
    capabilities: Capabilities,
    questions: Vec<Question>,
    by_id: HashMap<String, usize>,
    by_prompt: HashMap<String, usize>,
    by_text: HashMap<String, usize>,
    /// Indices of questions, longest text first.
    by_length: Vec<(String, usize)>,
    served: Arc<Mutex<Vec<usize>>>,
}

struct Question {
    id: String,
    samples: Vec<Completion>,
}

impl Replay {
    /// From rows of `samples.jsonl`. Rows of the same id are one question.
    pub fn from_rows(name: impl Into<String>, rows: impl IntoIterator<Item = SampleRow>) -> Self {
        let mut builder = Builder::default();
        for row in rows {
            let index = builder.question(&row.id);
            builder.text(&row.question, index);
            let samples = row.samples.into_iter().enumerate().map(|(place, sample)| {
                let mut completion = Completion::text(sample.text);
                completion.logprobs = sample.token_logprobs.unwrap_or_default();
                completion.extra = sample.extra;
                let numbers = [
                    ("mean_logprob", sample.mean_logprob),
                    ("sum_logprob", sample.sum_logprob),
                    ("certainty", sample.certainty),
                    ("score", sample.score),
                ];
                for (field, number) in numbers {
                    if let Some(number) = number {
                        completion.extra.insert(field.into(), json!(number));
                    }
                }
                if let Some(answer) = sample.answer {
                    completion.extra.insert("answer".into(), json!(answer));
                }
                if let Some(correct) = sample.correct {
                    completion.extra.insert("correct".into(), json!(correct));
                }
                completion.usage = Usage {
                    calls: u64::from(place == 0),
                    completion_tokens: match completion.logprobs.len() {
                        // Rows without token data: four bytes per token is the usual rule of thumb.
                        0 => (completion.text.len() as u64).div_ceil(4),
                        tokens => tokens as u64,
                    },
                    ..Usage::default()
                };
                completion
            });
            builder.questions[index].samples.extend(samples);
        }
        builder.finish(name.into())
    }

    /// From traces: what `role` generated in them, or every role when `None`.
    pub fn from_traces<'a>(
        name: impl Into<String>,
        traces: impl IntoIterator<Item = &'a Trace>,
        role: Option<&str>,
    ) -> Self {
        let mut builder = Builder::default();
        for trace in traces {
            let problem = &trace.problem;
            // A dialogue that was recorded has its own list: a judge's reply must not answer a solver's request.
            let mut dialogue: Option<usize> = None;
            for node in &trace.nodes {
                let NodeKind::Generated { role: of, prompt, completion, .. } = &node.kind else { continue };
                if role.is_some_and(|role| role != of) {
                    continue;
                }
                let mut completion = completion.as_ref().clone();
                if completion.usage == Usage::default() {
                    completion.usage = node.usage;
                }
                if !prompt.is_empty() {
                    let key = dialogue_key(prompt);
                    let index = match builder.by_prompt.get(&key) {
                        Some(&index) => index,
                        None => {
                            let index = builder.push(&problem.id);
                            builder.by_prompt.insert(key, index);
                            index
                        }
                    };
                    dialogue = Some(index);
                }
                if let Some(index) = dialogue {
                    builder.questions[index].samples.push(completion.clone());
                }
                let index = builder.question(&problem.id);
                builder.text(&problem.question, index);
                if let Some(compact) = &problem.compact {
                    builder.text(compact, index);
                }
                builder.questions[index].samples.push(completion);
            }
        }
        builder.finish(name.into())
    }

    /// The same records under another name, served from the beginning.
    pub fn rewound(&self) -> Self {
        Replay {
            name: self.name.clone(),
            capabilities: self.capabilities,
            questions: self
                .questions
                .iter()
                .map(|question| Question { id: question.id.clone(), samples: question.samples.clone() })
                .collect(),
            by_id: self.by_id.clone(),
            by_prompt: self.by_prompt.clone(),
            by_text: self.by_text.clone(),
            by_length: self.by_length.clone(),
            served: Arc::new(Mutex::new(vec![0; self.questions.len()])),
        }
    }

    /// Identifiers of the questions, in the order of the records.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        let mut ids: Vec<(&str, usize)> =
            self.by_id.iter().map(|(id, index)| (id.as_str(), *index)).collect();
        ids.sort_by_key(|(_, index)| *index);
        ids.into_iter().map(|(id, _)| id)
    }

    fn find(&self, request: &GenerateRequest) -> Option<usize> {
        let id = request.extra.get("metadata").and_then(|metadata| metadata.get("problem"));
        if let Some(id) = id.and_then(|id| id.as_str()) {
            return self.by_id.get(id).copied();
        }
        if let Some(index) = self.by_prompt.get(&dialogue_key(&request.messages)) {
            return Some(*index);
        }
        request.messages.iter().rev().find_map(|message| {
            let text = message.text();
            if let Some(index) = self.by_text.get(text.trim()) {
                return Some(*index);
            }
            self.by_length.iter().find(|(question, _)| text.contains(question)).map(|(_, index)| *index)
        })
    }

    fn check(&self, request: &GenerateRequest) -> Result<(), GenerateError> {
        let has = match request.logprobs {
            LogprobDetail::None | LogprobDetail::Offered => true,
            LogprobDetail::Chosen => self.capabilities.logprobs,
            LogprobDetail::Top(count) => count <= self.capabilities.top_logprobs,
            LogprobDetail::Distribution => self.capabilities.distributions,
        };
        if has {
            return Ok(());
        }
        Err(GenerateError::Capability {
            model: self.name.clone(),
            what: format!("{:?} log-probabilities: not every recorded sample has them", request.logprobs),
            hint: "record the samples with token log-probabilities, or use a method that needs only text"
                .into(),
        })
    }
}

/// Who said what, word for word.
fn dialogue_key(messages: &[Message]) -> String {
    serde_json::to_string(messages).unwrap_or_default()
}

#[derive(Default)]
struct Builder {
    questions: Vec<Question>,
    by_id: HashMap<String, usize>,
    by_prompt: HashMap<String, usize>,
    by_text: HashMap<String, usize>,
}

impl Builder {
    fn push(&mut self, id: &str) -> usize {
        self.questions.push(Question { id: id.into(), samples: Vec::new() });
        self.questions.len() - 1
    }

    fn question(&mut self, id: &str) -> usize {
        if let Some(index) = self.by_id.get(id) {
            return *index;
        }
        let index = self.push(id);
        self.by_id.insert(id.into(), index);
        index
    }

    /// A text that names a question; the first question keeps a text that several share.
    fn text(&mut self, text: &str, index: usize) {
        let text = text.trim();
        if !text.is_empty() {
            self.by_text.entry(text.into()).or_insert(index);
        }
    }

    fn finish(self, name: String) -> Replay {
        let all = |has: fn(&Completion) -> bool| {
            self.questions.iter().flat_map(|question| &question.samples).all(|c| c.text.is_empty() || has(c))
        };
        let top = self.questions.iter().flat_map(|question| &question.samples).map(|completion| {
            completion.top.iter().map(Vec::len).min().unwrap_or(0).min(usize::from(u8::MAX)) as u8
        });
        let capabilities = Capabilities {
            logprobs: all(|c| !c.logprobs.is_empty()),
            top_logprobs: top.min().unwrap_or(0),
            distributions: all(|c| !c.distributions.is_empty()),
            score: false,
            prefix: true,
            latent: false,
            weights: false,
            tools: true,
            images: true,
            seeded: false,
        };
        let mut by_length: Vec<(String, usize)> =
            self.by_text.iter().map(|(text, index)| (text.clone(), *index)).collect();
        by_length.sort_by(|(left, a), (right, b)| (right.len(), a).cmp(&(left.len(), b)));
        let served = Arc::new(Mutex::new(vec![0; self.questions.len()]));
        Replay {
            name,
            capabilities,
            questions: self.questions,
            by_id: self.by_id,
            by_prompt: self.by_prompt,
            by_text: self.by_text,
            by_length,
            served,
        }
    }
}

#[async_trait]
impl LanguageModel for Replay {
    fn name(&self) -> &str {
        &self.name
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    async fn generate(&self, request: &GenerateRequest) -> Result<Vec<Completion>, GenerateError> {
        self.check(request)?;
        let Some(index) = self.find(request) else {
            let last = request.messages.last().map(Message::text).unwrap_or_default();
            return Err(GenerateError::NotRecorded {
                what: format!("a prompt that ends in `{}`", shorten(&last)),
                hint: format!(
                    "`{}` knows {} questions; check that the records belong to these problems",
                    self.name,
                    self.by_id.len()
                ),
            });
        };
        let question = &self.questions[index];
        let start = {
            let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
            let left = question.samples.len() - served[index];
            if left < request.samples {
                return Err(GenerateError::NotRecorded {
                    what: format!(
                        "{} samples of question `{}`: {left} of {} are left",
                        request.samples,
                        question.id,
                        question.samples.len()
                    ),
                    hint: "ask for fewer samples, or record more".into(),
                });
            }
            let start = served[index];
            served[index] += request.samples;
            start
        };
        let mut completions = question.samples[start..start + request.samples].to_vec();
        for (place, completion) in completions.iter_mut().enumerate() {
            // One request is one call, whichever calls the samples came from; the time is past and costs nothing now.
            completion.usage.calls = u64::from(place == 0);
            completion.usage.seconds = 0.0;
            completion.usage.money = 0.0;
        }
        Ok(completions)
    }

    async fn stream(
        &self,
        request: &GenerateRequest,
    ) -> Result<BoxStream<'static, Result<StreamEvent, GenerateError>>, GenerateError> {
        Ok(replay_stream(self.generate(request).await?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use elenchus_trace::{Node, Problem, Sample};

    fn row(id: &str, question: &str, texts: &[&str]) -> SampleRow {
        let samples = texts.iter().map(|text| Sample { text: (*text).into(), ..Sample::default() }).collect();
        SampleRow { id: id.into(), question: question.into(), gold: None, samples, extra: Default::default() }
    }

    fn request(text: &str, samples: usize) -> GenerateRequest {
        GenerateRequest { samples, ..GenerateRequest::new(vec![Message::user(text)]) }
    }

    fn texts(completions: Vec<Completion>) -> Vec<String> {
        completions.into_iter().map(|completion| completion.text).collect()
    }

    #[tokio::test]
    async fn samples_come_in_order_and_never_twice() {
        let replay = Replay::from_rows("r", [row("1", "What is 2+2?", &["a", "b", "c"])]);
        let prompt = "Solve.\n\nProblem:\nWhat is 2+2?";
        assert_eq!(texts(replay.generate(&request(prompt, 2)).await.unwrap()), ["a", "b"]);
        let error = replay.generate(&request(prompt, 2)).await.unwrap_err().to_string();
        assert!(error.contains("1 of 3 are left"), "{error}");
        assert_eq!(texts(replay.generate(&request(prompt, 1)).await.unwrap()), ["c"], "a refusal takes none");
        assert_eq!(texts(replay.rewound().generate(&request(prompt, 1)).await.unwrap()), ["a"]);
    }

    #[tokio::test]
    async fn the_longest_question_wins_and_the_id_wins_over_all() {
        let replay = Replay::from_rows(
            "r",
            [row("short", "What is 2", &["s"]), row("long", "What is 2+2?", &["l", "m"])],
        );
        assert_eq!(texts(replay.generate(&request("What is 2+2?!", 1)).await.unwrap()), ["l"]);
        let mut by_id = request("What is 2+2?", 1);
        by_id.extra.insert("metadata".into(), json!({"problem": "short"}));
        assert_eq!(texts(replay.generate(&by_id).await.unwrap()), ["s"]);
        let error = replay.generate(&request("Who?", 1)).await.unwrap_err();
        assert!(matches!(error, GenerateError::NotRecorded { .. }));
    }

    #[tokio::test]
    async fn traces_answer_the_dialogue_that_was_recorded() {
        let mut trace = Trace::new("t", "s", Problem::new("p", "task", "How many?"));
        let mut push = |role: &str, prompt: Vec<Message>, text: &str| {
            trace.push(Node {
                parent: None,
                kind: NodeKind::Generated {
                    role: role.into(),
                    model: "m".into(),
                    prompt,
                    completion: Box::new(Completion::text(text)),
                },
                started_ms: 0.0,
                elapsed_ms: 0.0,
                usage: Usage { calls: 1, completion_tokens: 3, ..Usage::default() },
            });
        };
        push("actor", vec![Message::user("Solve: How many?")], "one");
        push("actor", vec![], "two");
        push("judge", vec![Message::user("Judge: How many? one")], "A");
        let replay = Replay::from_traces("r", [&trace], None);
        assert_eq!(texts(replay.generate(&request("Judge: How many? one", 1)).await.unwrap()), ["A"]);
        let both = replay.generate(&request("Solve: How many?", 2)).await.unwrap();
        assert_eq!(both.iter().map(|c| c.usage.calls).sum::<u64>(), 1, "one request is one call");
        assert_eq!(texts(both), ["one", "two"]);
        let actor = Replay::from_traces("r", [&trace], Some("actor"));
        assert_eq!(
            texts(actor.generate(&request("Another prompt. How many?", 2)).await.unwrap()),
            ["one", "two"]
        );
    }

    #[tokio::test]
    async fn log_probabilities_that_were_not_recorded_are_refused() {
        let replay = Replay::from_rows("r", [row("1", "Q?", &["a"])]);
        let mut wants = request("Q?", 1);
        wants.logprobs = LogprobDetail::Chosen;
        assert!(matches!(replay.generate(&wants).await, Err(GenerateError::Capability { .. })));
    }
}
