use super::*;

fn store() -> (tempfile::TempDir, SqliteStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("new/store.sqlite")).unwrap();
    (folder, store)
}

fn trace(id: &str, created_ms: u64) -> TraceEntry {
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

fn said(id: &str, trace_id: &str) -> FeedbackEntry {
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

#[test]
fn what_is_written_is_read_also_after_a_restart() {
    let (folder, store) = store();
    let entry = trace("t1", 7);
    let outcome = store
        .write(&[Write::Trace(Box::new(entry.clone())), Write::Feedback(Box::new(said("f1", "t1")))])
        .unwrap();
    assert_eq!(outcome, [Written::Stored, Written::Stored]);
    drop(store);
    let store = SqliteStore::open(folder.path().join("new/store.sqlite")).unwrap();
    assert_eq!(store.trace("t1").unwrap(), Some(entry));
    assert_eq!(store.feedback("t1").unwrap(), [said("f1", "t1")]);
    assert_eq!(store.trace("t2").unwrap(), None);
    assert_eq!(store.spent("app", 0).unwrap().tokens(), 7);
    assert_eq!(store.spent("app", 8).unwrap().tokens(), 0, "before the window");
    assert_eq!(store.spent("other", 0).unwrap().tokens(), 0);
}

#[test]
fn feedback_is_stored_once_and_never_for_nothing() {
    let (_folder, store) = store();
    store.write(&[Write::Trace(Box::new(trace("t1", 7)))]).unwrap();
    let write = |entry: FeedbackEntry| store.write(&[Write::Feedback(Box::new(entry))]).unwrap()[0];
    assert_eq!(write(said("f1", "t1")), Written::Stored);
    let later = FeedbackEntry { created_ms: 99, ..said("f1", "t1") };
    assert_eq!(write(later), Written::Known, "the time says nothing");
    let other = FeedbackEntry { reaction: Some(Reaction::Down), ..said("f1", "t1") };
    assert_eq!(write(other), Written::Conflict);
    assert_eq!(write(said("f2", "t2")), Written::Missing);
    assert_eq!(store.feedback("t1").unwrap().len(), 1);
}

#[test]
fn keys_have_one_name_and_one_end() {
    let (_folder, store) = store();
    let key = KeyEntry {
        name: "a".into(),
        hash: "h".into(),
        scopes: vec!["ask".into()],
        tokens: None,
        money: None,
        window_seconds: 60,
        created_ms: 1,
    };
    let write = |write: Write| store.write(&[write]).unwrap()[0];
    assert_eq!(write(Write::Key(key.clone())), Written::Stored);
    assert_eq!(write(Write::Key(KeyEntry { hash: "other".into(), ..key.clone() })), Written::Conflict);
    assert_eq!(store.keys().unwrap(), [key]);
    assert_eq!(write(Write::RevokeKey("a".into())), Written::Stored);
    assert_eq!(write(Write::RevokeKey("a".into())), Written::Missing);
}

#[test]
fn a_batch_is_written_whole_or_not_at_all() {
    let (folder, store) = store();
    let other = rusqlite::Connection::open(folder.path().join("new/store.sqlite")).unwrap();
    other.execute_batch("DROP TABLE keys").unwrap();
    let batch = [Write::Trace(Box::new(trace("t1", 7))), Write::RevokeKey("a".into())];
    let error = store.write(&batch).unwrap_err().to_string();
    assert!(error.contains("store.sqlite"), "{error}");
    assert_eq!(store.trace("t1").unwrap(), None);
}

#[test]
fn files_of_others_and_of_newer_programs_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.sqlite");
    rusqlite::Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    assert!(SqliteStore::open(&path).unwrap_err().to_string().contains("another program"));
    let (folder, store) = store();
    drop(store);
    let path = folder.path().join("new/store.sqlite");
    rusqlite::Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 9").unwrap();
    assert!(SqliteStore::open(&path).unwrap_err().to_string().contains("version 9"));
}

#[test]
fn several_writers_share_a_file() {
    let (folder, store) = store();
    let path = folder.path().join("new/store.sqlite");
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let path = &path;
            scope.spawn(move || {
                let store = SqliteStore::open(path).unwrap();
                for index in 0..50 {
                    store
                        .write(&[Write::Trace(Box::new(trace(&format!("{writer}-{index}"), index)))])
                        .unwrap();
                }
            });
        }
    });
    let all = store.traces(&TraceFilter { limit: 1000, ..TraceFilter::default() }).unwrap();
    assert_eq!(all.len(), 200);
    assert!(all.windows(2).all(|pair| pair[0].created_ms >= pair[1].created_ms), "newest first");
}
