//! What is particular to the store on a server; skipped, with the reason, where PostgreSQL is not installed.

use crate::postgres_server::PostgresServer;
use crate::suite::{Home, said, suite, trace};
use elenchus_remember::RememberError;
use elenchus_remember::ServerFailure;
use elenchus_remember::service::{PostgresStore, ServiceStore, StorePlace, Write, Written};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub struct Database {
    server: Arc<PostgresServer>,
    name: String,
}

impl Home for Database {
    fn new() -> Option<Self> {
        let server = PostgresServer::shared()?;
        let name = server.database();
        Some(Database { server, name })
    }

    fn open(&self) -> Arc<dyn ServiceStore> {
        StorePlace::new(self.server.url(&self.name)).open().unwrap()
    }

    fn spoil(&self, statement: &str) {
        self.server.execute(&self.name, statement);
    }

    fn keys_table(&self) -> &'static str {
        "elenchus_keys"
    }

    fn shown(&self) -> String {
        format!("/{}", self.name)
    }
}

suite!(Database);

fn kind(error: &RememberError) -> ServerFailure {
    match error {
        RememberError::Server { kind, .. } => *kind,
        other => panic!("{other}"),
    }
}

#[test]
fn several_gateways_may_start_at_once_and_newer_tables_are_refused() {
    let Some(home) = Database::new() else { return };
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| home.open());
        }
    });
    assert_eq!(home.server.execute(&home.name, "SELECT count(*) FROM elenchus_store"), "1");
    home.spoil("UPDATE elenchus_store SET version = 9");
    let error = PostgresStore::open(&home.server.url(&home.name)).unwrap_err().to_string();
    assert!(error.contains("version 9") && error.contains("hint:"), "{error}");
}

#[test]
fn what_cannot_be_opened_says_why_and_never_the_password() {
    let Some(home) = Database::new() else { return };
    for (url, wanted, word) in [
        (home.server.url("nothing"), ServerFailure::Refused, "nothing"),
        ("postgres://a:secret@localhost/x?colour=red".into(), ServerFailure::Address, "colour"),
        ("postgres://a:secret@127.0.0.1:1/x".into(), ServerFailure::Unreachable, "refused"),
        ("postgres://a:secret@nowhere.invalid/x".into(), ServerFailure::Unreachable, "hint:"),
    ] {
        let error = PostgresStore::open(&url).unwrap_err();
        let text = error.to_string();
        assert_eq!(kind(&error), wanted, "{text}");
        assert!(text.contains(word) && text.contains("hint:") && !text.contains("secret"), "{text}");
    }
}

#[test]
fn a_lock_of_somebody_else_is_waited_for_and_then_an_error() {
    let Some(home) = Database::new() else { return };
    let store = home.open();
    store.write(&[Write::Trace(Box::new(trace("t1", 1)))]).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| home.spoil("BEGIN; LOCK TABLE elenchus_feedback; SELECT pg_sleep(7); COMMIT"));
        std::thread::sleep(Duration::from_millis(500));
        let begun = Instant::now();
        let error = store.write(&[Write::Feedback(Box::new(said("f1", "t1")))]).unwrap_err();
        assert_eq!(kind(&error), ServerFailure::Slow, "{error}");
        assert!(begun.elapsed() < Duration::from_millis(6500), "{:?}", begun.elapsed());
        assert_eq!(store.trace("t1").unwrap().unwrap().summary.id, "t1", "others are not held up");
    });
    let again = store.write(&[Write::Feedback(Box::new(said("f1", "t1")))]).unwrap();
    assert_eq!(again, [Written::Stored], "nothing of the first attempt is left");
}

#[test]
fn connections_that_the_server_ends_are_made_anew_and_nothing_is_noticed() {
    let Some(home) = Database::new() else { return };
    let store = home.open();
    store.write(&[Write::Trace(Box::new(trace("t1", 1)))]).unwrap();
    store.traces(&Default::default()).unwrap();
    home.server.execute(
        "postgres",
        &format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'", home.name),
    );
    assert_eq!(store.write(&[Write::Feedback(Box::new(said("f1", "t1")))]).unwrap(), [Written::Stored]);
    for _ in 0..4 {
        store.traces(&Default::default()).unwrap();
        assert_eq!(store.feedback("t1").unwrap().len(), 1);
    }
}

#[test]
fn a_server_that_is_away_fails_at_once_and_is_found_again() {
    // Its own server: the others' must not go away.
    let Some(server) = PostgresServer::start() else { return };
    let name = server.database();
    let store = PostgresStore::open(&server.url(&name)).unwrap();
    store.write(&[Write::Trace(Box::new(trace("t1", 1)))]).unwrap();
    server.crash();
    let begun = Instant::now();
    for _ in 0..50 {
        let error = store.write(&[Write::Trace(Box::new(trace("t2", 1)))]).unwrap_err();
        assert_eq!(kind(&error), ServerFailure::Unreachable, "{error}");
        assert_eq!(kind(&store.trace("t1").unwrap_err()), ServerFailure::Unreachable);
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    server.run();
    let begun = Instant::now();
    while store.write(&[Write::Feedback(Box::new(said("f1", "t1")))]).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(10), "never found again");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(store.trace("t1").unwrap().unwrap().summary.id, "t1", "what was acknowledged is there");
    assert_eq!(store.trace("t2").unwrap(), None, "what was not is not");
}

#[test]
fn a_store_may_be_used_and_dropped_in_a_runtime() {
    let Some(home) = Database::new() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = home.open();
        store.write(&[Write::Trace(Box::new(trace("t1", 1)))]).unwrap();
        assert!(store.trace("t1").unwrap().is_some());
    });
}
