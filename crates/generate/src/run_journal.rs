//! The calls of a run, kept in its folder.

use crate::GenerateError;
use crate::cache::{CacheKey, storage};
use crate::journal::{CallAnswer, CallRecord, JournalSink};
use elenchus_remember::Journal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Entries of calls begin with this.
const PREFIX: &str = "call";

/// The calls of a run in the journal of its folder, one entry per call that was made.
///
/// A call that was answered is the entry `call/HASH` with HASH the content key of its request; the call is never made
/// again in this run, in this process or a later one. A call without an answer (it failed, was cancelled, was cut
/// off) is an entry `call/HASH/unanswered/…`, and is made again when it is wanted again. An entry holds request key,
/// answer, usage and time, and is on the disk before the answer is used; a call that was running when the process was
/// killed has none. Answers that a cache gave are no calls and have none.
pub struct RunJournal {
    journal: Arc<Journal>,
    unanswered: AtomicU64,
}

impl RunJournal {
    /// Over the journal of a run folder.
    pub fn new(journal: Arc<Journal>) -> Self {
        RunJournal { journal, unanswered: AtomicU64::new(0) }
    }

    /// How many calls were answered.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn answered(&self) -> Result<usize, GenerateError> {
        let keys = self.journal.keys(PREFIX).map_err(|error| storage(&error))?;
        Ok(keys.iter().filter(|key| !key.contains("/unanswered/")).count())
    }

    /// All calls of the run, in the order in which they ended.
    ///
    /// # Errors
    /// When the journal cannot be read or an entry is not a record.
    pub fn records(&self) -> Result<Vec<CallRecord>, GenerateError> {
        let entries = self.journal.scan(PREFIX).map_err(|error| storage(&error))?;
        entries
            .iter()
            .map(|entry| {
                serde_json::from_slice(&entry.payload).map_err(|error| GenerateError::Storage {
                    what: format!("entry `{}` in `{}`: {error}", entry.key, self.journal.path().display()),
                    hint: "read the run with the version that wrote it".into(),
                })
            })
            .collect()
    }
}

impl JournalSink for RunJournal {
    fn record(&self, record: &CallRecord) -> Result<(), GenerateError> {
        if record.cached {
            return Ok(());
        }
        let key = match record.answer {
            Some(_) => format!("{PREFIX}/{}", record.request_hash),
            None => {
                let number = self.unanswered.fetch_add(1, Ordering::Relaxed);
                let (hash, time) = (&record.request_hash, record.started_unix_ms);
                format!("{PREFIX}/{hash}/unanswered/{time}-{number}")
            }
        };
        self.journal.put(&key, record).map(|_| ()).map_err(|error| storage(&error))
    }

    fn answer(&self, key: &CacheKey) -> Result<Option<CallAnswer>, GenerateError> {
        let payload = self.journal.get_bytes(&format!("{PREFIX}/{key}")).map_err(|error| storage(&error))?;
        // An entry of another version counts as none: the call is made again.
        let record: Option<CallRecord> = payload.and_then(|payload| serde_json::from_slice(&payload).ok());
        Ok(record.and_then(|record| record.answer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ACTOR, Context, GenerateRequest, LanguageModel, Scored, Scripted, StreamEvent};
    use elenchus_trace::{Completion, FinishReason, Message, Price, Usage};
    use futures::StreamExt;
    use std::path::Path;
    use std::time::Duration;

    fn request(text: &str) -> GenerateRequest {
        GenerateRequest::new(vec![Message::user(text)])
    }

    fn open(folder: &Path) -> Arc<RunJournal> {
        Arc::new(RunJournal::new(Arc::new(Journal::open(folder.join("journal.sqlite")).unwrap())))
    }

    fn context(model: Arc<dyn LanguageModel>, journal: &Arc<RunJournal>) -> Context {
        Context::builder()
            .role(ACTOR, model)
            .price("m", Price { prompt_per_million: 1e6, completion_per_million: 1e6 })
            .journal(journal.clone())
            .build()
            .unwrap()
    }

    #[tokio::test]
    async fn a_second_process_asks_nobody_and_has_the_same_account() {
        let folder = tempfile::tempdir().unwrap();
        let mut drawn = Completion::text("drawn");
        drawn.logprobs = vec![-0.1, f32::MIN_POSITIVE, -12.345_679];
        drawn.usage = Usage { prompt_tokens: 2, completion_tokens: 3, calls: 1, seconds: 0.25, money: 0.0 };
        let mut accounts = Vec::new();
        for process in 0..2 {
            let scores = Scored { logprobs: vec![-1.5], distributions: vec![], usage: Usage::default() };
            let model = Scripted::new("m")
                .on_completions("", [Ok(drawn.clone())])
                .scores(move |_, _| Ok(scores.clone()))
                .shared();
            let journal = open(folder.path());
            let context = context(model.clone(), &journal);
            let completions = context.generate(ACTOR, &request("x")).await.unwrap();
            assert_eq!(completions[0].logprobs, drawn.logprobs, "to the last bit");
            let streamed: Vec<_> = context.stream(ACTOR, &request("x")).await.unwrap().collect().await;
            assert!(
                matches!(&streamed[1], Ok(StreamEvent::Done { completion, .. }) if completion.text == "drawn")
            );
            let score = crate::ScoreRequest {
                messages: vec![Message::user("x")],
                continuations: vec!["Y".into()],
                distributions: false,
                with_end: false,
            };
            assert_eq!(context.score(ACTOR, &score).await.unwrap()[0].logprobs, [-1.5]);
            assert_eq!(model.calls(), if process == 0 { 2 } else { 0 });
            accounts.push(context.usage());
            let records = journal.records().unwrap();
            assert_eq!(journal.answered().unwrap(), 2);
            assert_eq!(records.len(), 2, "each call is recorded once");
            assert_eq!(records[0].usage.money, 5.0);
            assert!(records.iter().all(|record| record.answer.is_some() && record.role == ACTOR));
        }
        assert_eq!(accounts[0], accounts[1]);
        // Drawn for 5, streamed from the record for 5, scored for 2.
        assert_eq!(accounts[0].money, 12.0, "a second call of the same content books what the first cost");
    }

    #[tokio::test]
    async fn what_failed_or_was_cut_off_is_recorded_and_asked_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut cut = Completion::text("half");
        cut.finish = FinishReason::Interrupted;
        let refused = GenerateError::Request { model: "m".into(), what: "no".into(), hint: "h".into() };
        let model = Scripted::new("m")
            .on_completions("", [Err(refused), Ok(cut), Ok(Completion::text("whole"))])
            .shared();
        let journal = open(folder.path());
        let context = context(model.clone(), &journal);
        context.generate(ACTOR, &request("x")).await.unwrap_err();
        for text in ["half", "whole", "whole"] {
            assert_eq!(context.generate(ACTOR, &request("x")).await.unwrap()[0].text, text);
        }
        assert_eq!(model.calls(), 3);
        let records = journal.records().unwrap();
        let errors: Vec<bool> = records.iter().map(|record| record.error.is_some()).collect();
        assert_eq!(errors, [true, false, false]);
        assert_eq!(journal.answered().unwrap(), 1);
        assert!(records[1].answer.is_none() && records[2].answer.is_some());
    }

    #[tokio::test]
    async fn equal_calls_at_once_are_one_call() {
        let folder = tempfile::tempdir().unwrap();
        let model = Scripted::new("m").delay(Duration::from_millis(20)).on("", ["first", "second"]).shared();
        let context = context(model.clone(), &open(folder.path()));
        let (one, two) = (request("x"), request("x"));
        let (left, right) = tokio::join!(context.generate(ACTOR, &one), context.generate("judge", &two));
        assert_eq!(left.unwrap()[0].text, right.unwrap()[0].text);
        assert_eq!(model.calls(), 1);
    }

    /// A budget lowers `max_tokens`, and by how much depends on what runs beside: whoever goes on with more must find what
    /// was paid for, unless it was cut.
    #[tokio::test]
    async fn a_larger_budget_finds_what_a_smaller_one_paid_for() {
        let folder = tempfile::tempdir().unwrap();
        let whole = Completion { usage: Usage { calls: 1, ..Usage::default() }, ..Completion::text("whole") };
        let cut = Completion { finish: FinishReason::Length, ..whole.clone() };
        let model = Scripted::new("m")
            .on_completions(
                "",
                [Ok(whole), Ok(Completion { text: "cut".into(), ..cut }), Ok(Completion::text("again"))],
            )
            .shared();
        let bounded = |tokens| {
            Context::builder()
                .role(ACTOR, model.clone() as Arc<dyn LanguageModel>)
                .budget(elenchus_trace::Budget { tokens, ..Default::default() })
                .journal(open(folder.path()))
                .build()
                .unwrap()
        };
        let ask = async |tokens, text: &str| {
            bounded(tokens).generate(ACTOR, &request(text)).await.unwrap().remove(0)
        };
        assert_eq!(ask(Some(100), "x").await.text, "whole");
        assert_eq!(ask(Some(90), "x").await.text, "whole");
        let lowered = ask(Some(100), "y").await;
        assert!(lowered.text == "cut" && lowered.extra.contains_key(crate::CUT_BY_BUDGET), "{lowered:?}");
        assert_eq!(ask(Some(100), "y").await.text, "cut", "the same bound asks for the same");
        assert_eq!(model.calls(), 2);
        assert_eq!(ask(None, "y").await.text, "again");
        assert_eq!(ask(Some(90), "y").await.text, "again", "what was said to its end serves every bound");
        assert_eq!(model.calls(), 3);
    }
}
