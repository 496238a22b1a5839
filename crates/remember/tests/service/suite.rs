//! What every store of the gateway does.

use elenchus_remember::service::{
    FeedbackEntry, KeyEntry, Reaction, ServiceStore, StageEdit, StagePart, TraceEntry, TraceFilter,
    TraceStatus, TraceSummary, Write, Written,
};
use elenchus_trace::Usage;
use std::sync::Arc;

/// A place for a store, empty at first.
pub trait Home: Sized + Sync {
    /// `None`, said on standard error, where there is no such place.
    fn new() -> Option<Self>;
    /// Opens the store; several may be open at once.
    fn open(&self) -> Arc<dyn ServiceStore>;
    /// Does something behind its back.
    fn spoil(&self, statement: &str);
    /// Name of the table of keys.
    fn keys_table(&self) -> &'static str;
    /// What its errors show of the place.
    fn shown(&self) -> String;
}

/// Makes every function of the suite a test of a home.
macro_rules! suite {
    ($home:ty) => {
        $crate::suite::suite!(
            $home,
            what_is_written_is_read_also_after_a_restart,
            feedback_is_stored_once_and_never_for_nothing,
            keys_have_one_name_and_one_end,
            a_batch_is_written_whole_or_not_at_all,
            several_writers_share_a_store,
            the_same_feedback_by_several_writers_is_stored_once,
            lists_are_filtered_and_paged,
            totals_count_the_last_reaction_of_a_person,
            labelled_traces_come_in_the_order_of_their_names,
            odd_text_is_kept_or_at_least_harmless,
            a_window_sums_what_all_gateways_stored,
            counts_beyond_all_measure_harm_nothing_else,
        );
    };
    ($home:ty, $($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            if let Some(home) = <$home as $crate::suite::Home>::new() {
                $crate::suite::$name(&home);
            }
        })*
    };
}
pub(crate) use suite;

pub fn trace(id: &str, created_ms: u64) -> TraceEntry {
    TraceEntry {
        summary: TraceSummary {
            id: id.into(),
            created_ms,
            recipe: "vote".into(),
            model: "m".into(),
            key: "app".into(),
            question: "Why?".into(),
            answer: "Because.".into(),
            confidence: Some(0.5),
            status: TraceStatus::Answered,
            elapsed_ms: 1.5,
            usage: Usage { prompt_tokens: 3, completion_tokens: 4, calls: 1, seconds: 0.5, money: 0.25 },
        },
        request: b"{}".to_vec(),
        response: Some(b"{\"a\":1}".to_vec()),
        trace: None,
    }
}

pub fn said(id: &str, trace_id: &str) -> FeedbackEntry {
    FeedbackEntry {
        id: id.into(),
        trace_id: trace_id.into(),
        stage: None,
        reaction: Some(Reaction::Up),
        metric: None,
        score: None,
        comment: None,
        correction: None,
        edit: None,
        key: String::new(),
        created_ms: 5,
    }
}

fn key(name: &str, hash: &str) -> KeyEntry {
    KeyEntry {
        name: name.into(),
        hash: hash.into(),
        scopes: vec!["ask".into()],
        tokens: None,
        money: None,
        window_seconds: 60,
        created_ms: 1,
    }
}

fn put(store: &dyn ServiceStore, entry: TraceEntry) {
    assert_eq!(store.write(&[Write::Trace(Box::new(entry))]).unwrap(), [Written::Stored]);
}

fn say(store: &dyn ServiceStore, entry: FeedbackEntry) -> Written {
    store.write(&[Write::Feedback(Box::new(entry))]).unwrap()[0]
}

fn listed(store: &dyn ServiceStore, filter: TraceFilter) -> Vec<String> {
    let filter = TraceFilter { limit: if filter.limit == 0 { 1000 } else { filter.limit }, ..filter };
    store.traces(&filter).unwrap().into_iter().map(|listed| listed.summary.id).collect()
}

pub fn what_is_written_is_read_also_after_a_restart(home: &impl Home) {
    let store = home.open();
    let entry = trace("t1", 7);
    let batch = [Write::Trace(Box::new(entry.clone())), Write::Feedback(Box::new(said("f1", "t1")))];
    assert_eq!(store.write(&batch).unwrap(), [Written::Stored, Written::Stored]);
    drop(store);
    let store = home.open();
    assert_eq!(store.trace("t1").unwrap(), Some(entry.clone()));
    assert_eq!(store.feedback("t1").unwrap(), [said("f1", "t1")]);
    assert_eq!(store.trace("t2").unwrap(), None);
    assert_eq!(store.feedback("t2").unwrap(), []);
    assert_eq!(store.spent("app", 0).unwrap().tokens(), 7);
    assert_eq!(store.spent("app", 8).unwrap().tokens(), 0, "before the window");
    assert_eq!(store.spent("other", 0).unwrap().tokens(), 0);
    // The same trace again replaces what became of it.
    let mut end = TraceEntry {
        request: b"{\"b\":1}".to_vec(),
        response: None,
        trace: Some("{\"nodes\":[]}".into()),
        ..entry
    };
    end.summary =
        TraceSummary { answer: "No.".into(), confidence: None, status: TraceStatus::Failed, ..end.summary };
    put(store.as_ref(), end.clone());
    assert_eq!(store.trace("t1").unwrap(), Some(end));
    assert_eq!(store.write(&[]).unwrap(), []);
}

pub fn feedback_is_stored_once_and_never_for_nothing(home: &impl Home) {
    let store = home.open();
    put(store.as_ref(), trace("t1", 7));
    let write = |entry| say(store.as_ref(), entry);
    assert_eq!(write(said("f1", "t1")), Written::Stored);
    let later = FeedbackEntry { created_ms: 99, ..said("f1", "t1") };
    assert_eq!(write(later), Written::Known, "the time says nothing");
    let other = FeedbackEntry { reaction: Some(Reaction::Down), ..said("f1", "t1") };
    assert_eq!(write(other), Written::Conflict);
    assert_eq!(write(said("f2", "t2")), Written::Missing);
    assert_eq!(write(said("f1", "t2")), Written::Missing);
    assert_eq!(store.feedback("t1").unwrap().len(), 1);
    let earlier = FeedbackEntry { created_ms: 1, stage: Some(3), ..said("f0", "t1") };
    assert_eq!(write(earlier.clone()), Written::Stored);
    assert_eq!(store.feedback("t1").unwrap(), [earlier, said("f1", "t1")], "oldest first");
}

pub fn keys_have_one_name_and_one_end(home: &impl Home) {
    let store = home.open();
    let key = key("a", "h");
    let write = |write: Write| store.write(&[write]).unwrap()[0];
    assert_eq!(write(Write::Key(key.clone())), Written::Stored);
    assert_eq!(write(Write::Key(KeyEntry { hash: "other".into(), ..key.clone() })), Written::Conflict);
    assert_eq!(write(Write::Key(KeyEntry { name: "other".into(), ..key.clone() })), Written::Conflict);
    assert_eq!(store.keys().unwrap(), [key]);
    assert_eq!(home.open().keys().unwrap().len(), 1, "others see it");
    assert_eq!(write(Write::RevokeKey("a".into())), Written::Stored);
    assert_eq!(write(Write::RevokeKey("a".into())), Written::Missing);
    assert_eq!(store.keys().unwrap(), []);
}

pub fn a_batch_is_written_whole_or_not_at_all(home: &impl Home) {
    let store = home.open();
    home.spoil(&format!("DROP TABLE {}", home.keys_table()));
    let batch = [Write::Trace(Box::new(trace("t1", 7))), Write::RevokeKey("a".into())];
    let error = store.write(&batch).unwrap_err().to_string();
    assert!(error.contains(&home.shown()) && error.contains("hint:"), "{error}");
    assert_eq!(store.trace("t1").unwrap(), None);
    put(store.as_ref(), trace("t1", 7));
}

pub fn several_writers_share_a_store(home: &impl Home) {
    std::thread::scope(|scope| {
        for writer in 0..4 {
            scope.spawn(move || {
                let store = home.open();
                for index in 0..50 {
                    put(store.as_ref(), trace(&format!("{writer}-{index}"), index));
                }
            });
        }
    });
    let all = home.open().traces(&TraceFilter { limit: 1000, ..TraceFilter::default() }).unwrap();
    assert_eq!(all.len(), 200);
    assert!(
        all.windows(2).all(|pair| pair[0].summary.created_ms >= pair[1].summary.created_ms),
        "newest first"
    );
}

pub fn the_same_feedback_by_several_writers_is_stored_once(home: &impl Home) {
    let store = home.open();
    put(store.as_ref(), trace("t1", 7));
    let outcomes: Vec<Vec<Written>> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                scope.spawn(move || {
                    let store = home.open();
                    // In opposite orders, so that transactions meet each other crosswise.
                    let mut batch: Vec<Write> = (0..20)
                        .map(|index| Write::Feedback(Box::new(said(&format!("f{index}"), "t1"))))
                        .collect();
                    if writer % 2 == 1 {
                        batch.reverse();
                    }
                    store.write(&batch).unwrap()
                })
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    let all: Vec<Written> = outcomes.concat();
    assert_eq!(all.iter().filter(|written| **written == Written::Stored).count(), 20);
    assert_eq!(all.iter().filter(|written| **written == Written::Known).count(), 60);
    assert_eq!(store.feedback("t1").unwrap().len(), 20);
}

pub fn lists_are_filtered_and_paged(home: &impl Home) {
    let store = home.open();
    for index in 0..6u64 {
        let mut entry = trace(&format!("t{index}"), 10 + index / 2);
        entry.summary.recipe = if index == 0 { "plain" } else { "vote" }.into();
        entry.summary.model = if index == 1 { "other" } else { "m" }.into();
        entry.summary.key = if index == 2 { "" } else { "app" }.into();
        entry.summary.question = format!("Number {index}: 100%_sure? {}", "é".repeat(500));
        entry.summary.answer = if index == 3 { "It IS." } else { "No." }.into();
        entry.summary.status = if index == 4 { TraceStatus::Failed } else { TraceStatus::Answered };
        put(store.as_ref(), entry);
    }
    say(store.as_ref(), FeedbackEntry { reaction: Some(Reaction::Love), ..said("f1", "t5") });
    say(store.as_ref(), FeedbackEntry { reaction: None, comment: Some("x".into()), ..said("f2", "t4") });
    let all = || TraceFilter::default();
    let some = |text: &str| Some(text.to_string());
    assert_eq!(listed(store.as_ref(), all()), ["t5", "t4", "t3", "t2", "t1", "t0"], "newest first");
    for (filter, wanted) in [
        (TraceFilter { recipe: some("plain"), ..all() }, vec!["t0"]),
        (TraceFilter { model: some("other"), ..all() }, vec!["t1"]),
        (TraceFilter { key: some(""), ..all() }, vec!["t2"]),
        (TraceFilter { status: Some(TraceStatus::Failed), ..all() }, vec!["t4"]),
        (TraceFilter { text: some("it is"), ..all() }, vec!["t3"]),
        (TraceFilter { text: some("NUMBER 4"), ..all() }, vec!["t4"]),
        (TraceFilter { text: some("' OR 1=1 --"), ..all() }, vec![]),
        (TraceFilter { text: some("0%_s"), limit: 2, ..all() }, vec!["t5", "t4"]),
        (TraceFilter { reaction: some("any"), ..all() }, vec!["t5"]),
        (TraceFilter { reaction: some("love"), ..all() }, vec!["t5"]),
        (TraceFilter { reaction: some("down"), ..all() }, vec![]),
        (TraceFilter { reaction: some("none"), recipe: some("plain"), ..all() }, vec!["t0"]),
        (TraceFilter { before: Some((12, "t4".into())), limit: 2, ..all() }, vec!["t3", "t2"]),
        (TraceFilter { before: Some((u64::MAX, String::new())), limit: 1, ..all() }, vec!["t5"]),
    ] {
        assert_eq!(listed(store.as_ref(), filter.clone()), wanted, "{filter:?}");
    }
    let first = store.traces(&TraceFilter { limit: 1, ..all() }).unwrap();
    assert_eq!(first[0].summary.question.chars().count(), 400, "cut for lists");
    assert_eq!(first[0].reaction, Some(Reaction::Love), "what was said of it stands in the list");
}

pub fn totals_count_the_last_reaction_of_a_person(home: &impl Home) {
    let store = home.open();
    assert_eq!(store.totals().unwrap(), []);
    for (id, recipe) in [("t1", "vote"), ("t2", "vote"), ("t3", "Plain")] {
        let mut entry = trace(id, 1);
        entry.summary.recipe = recipe.into();
        put(store.as_ref(), entry);
    }
    for (id, status) in [
        ("t4", TraceStatus::Failed),
        ("t5", TraceStatus::Failed),
        ("t6", TraceStatus::Abstained),
        ("t7", TraceStatus::Cancelled),
    ] {
        let mut entry = trace(id, 1);
        entry.summary.recipe = "odd".into();
        entry.summary.status = status;
        put(store.as_ref(), entry);
    }
    let edit = StageEdit { part: StagePart::Answer, text: None, step: None };
    for entry in [
        FeedbackEntry { reaction: Some(Reaction::Love), ..said("a", "t1") },
        FeedbackEntry { reaction: Some(Reaction::Down), ..said("b", "t1") },
        FeedbackEntry { reaction: Some(Reaction::Up), key: "other".into(), ..said("c", "t1") },
        FeedbackEntry { reaction: Some(Reaction::Up), stage: Some(1), ..said("d", "t2") },
        FeedbackEntry { reaction: None, correction: Some("x".into()), ..said("e", "t2") },
        FeedbackEntry { reaction: None, edit: Some(edit), stage: Some(0), ..said("f", "t2") },
    ] {
        assert_eq!(say(store.as_ref(), entry), Written::Stored);
    }
    let totals = store.totals().unwrap();
    let names: Vec<&str> = totals.iter().map(|row| row.recipe.as_str()).collect();
    assert_eq!(names, ["Plain", "odd", "vote"], "by bytes, as everywhere");
    let odd = &totals[1];
    let ends = (odd.traces, odd.answered, odd.abstained, odd.failed, odd.cancelled);
    assert_eq!(ends, (4, 0, 1, 2, 1), "a failure is no answer");
    let vote = &totals[2];
    assert_eq!((vote.answered, vote.failed), (2, 0));
    assert_eq!((vote.traces, vote.love, vote.up, vote.down, vote.corrections), (2, 0, 1, 1, 2));
    assert_eq!((vote.usage.tokens(), vote.usage.calls, vote.usage.money), (14, 2, 0.5));
}

pub fn labelled_traces_come_in_the_order_of_their_names(home: &impl Home) {
    let store = home.open();
    for id in ["b", "B", "a", "c"] {
        put(store.as_ref(), trace(id, 1));
    }
    for (id, trace_id) in [("1", "b"), ("2", "B"), ("3", "a"), ("4", "a")] {
        say(store.as_ref(), said(id, trace_id));
    }
    let page = store.labelled("", 2).unwrap();
    let names: Vec<&str> = page.iter().map(|item| item.trace.summary.id.as_str()).collect();
    assert_eq!(names, ["B", "a"]);
    assert_eq!(page[1].feedback, [said("3", "a"), said("4", "a")]);
    let rest = store.labelled("a", 10).unwrap();
    assert_eq!(rest.len(), 1);
    assert_eq!((rest[0].trace.summary.id.as_str(), rest[0].feedback.len()), ("b", 1));
}

pub fn odd_text_is_kept_or_at_least_harmless(home: &impl Home) {
    let store = home.open();
    let mut entry = trace("t1", 1);
    entry.summary.question = "zero \0 and 𝄞 and '; DROP TABLE x; --".into();
    entry.summary.answer = "\u{202e}right to left, \\u0000 and \"quotes\"".into();
    entry.summary.usage.prompt_tokens = 1 << 60;
    entry.request = vec![0, 255, 254, b'{'];
    entry.response = Some(vec![0; 3]);
    entry.trace = Some("{\"text\":\"\\u0000\"}".into());
    put(store.as_ref(), entry.clone());
    let read = store.trace("t1").unwrap().unwrap();
    assert_eq!((&read.request, &read.response, &read.trace), (&entry.request, &entry.response, &entry.trace));
    assert_eq!(read.summary.answer, entry.summary.answer);
    assert!(read.summary.question.ends_with(" and 𝄞 and '; DROP TABLE x; --"), "{}", read.summary.question);
    for odd in ["t\0", "t1\0", "", "' OR ''='", "\u{fffd}"] {
        assert_eq!(store.trace(odd).unwrap(), None, "{odd:?}");
        assert_eq!(store.feedback(odd).unwrap(), [], "{odd:?}");
        assert_eq!(
            listed(store.as_ref(), TraceFilter { recipe: Some(odd.into()), ..TraceFilter::default() }).len(),
            0
        );
        assert_eq!(say(store.as_ref(), said("f", odd)), Written::Missing);
    }
    let comment = FeedbackEntry { comment: Some("zero \0".into()), ..said("f\0", "t1") };
    assert_eq!(say(store.as_ref(), comment.clone()), Written::Stored);
    assert_eq!(say(store.as_ref(), comment.clone()), Written::Known);
    assert_eq!(store.feedback("t1").unwrap(), [comment]);
}

pub fn a_window_sums_what_all_gateways_stored(home: &impl Home) {
    let (first, second) = (home.open(), home.open());
    for (store, id, at) in [(&first, "a", 10), (&second, "b", 20), (&first, "c", 30)] {
        put(store.as_ref(), trace(id, at));
    }
    for store in [&first, &second] {
        assert_eq!(store.spent("app", 0).unwrap().tokens(), 21);
        assert_eq!(store.spent("app", 20).unwrap().tokens(), 14, "the window includes its first moment");
        assert_eq!(store.spent("app", 20).unwrap().money, 0.5);
        assert_eq!(store.spent("app", 31).unwrap(), Usage::default());
    }
}

pub fn counts_beyond_all_measure_harm_nothing_else(home: &impl Home) {
    let store = home.open();
    let absurd = |id: &str| {
        let mut entry = trace(id, u64::MAX);
        let usage = &mut entry.summary.usage;
        (usage.prompt_tokens, usage.completion_tokens, usage.calls) = (u64::MAX, 1 << 63, u64::MAX);
        entry
    };
    let later = FeedbackEntry { created_ms: u64::MAX, ..said("f1", "b") };
    let batch = [
        Write::Trace(Box::new(absurd("a"))),
        Write::Trace(Box::new(trace("b", 1))),
        Write::Feedback(Box::new(later)),
        Write::Trace(Box::new(absurd("c"))),
    ];
    assert_eq!(store.write(&batch).unwrap(), [Written::Stored; 4]);
    let most = i64::MAX as u64;
    let read = store.trace("a").unwrap().unwrap().summary;
    assert_eq!((read.usage.prompt_tokens, read.usage.calls, read.created_ms), (most, most, most));
    // Sums beyond the integers end there, too.
    let spent = store.spent("app", 0).unwrap();
    assert_eq!((spent.prompt_tokens, spent.completion_tokens, spent.calls), (most, most, most));
    assert_eq!(store.spent("app", u64::MAX).unwrap().money, 0.5);
    assert_eq!(store.totals().unwrap()[0].usage.prompt_tokens, most);
    assert_eq!(listed(store.as_ref(), TraceFilter::default()).len(), 3);
}
