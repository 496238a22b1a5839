//! What is particular to the store in a file.

use crate::suite::{Home, suite, trace};
use elenchus_remember::service::{ServiceStore, SqliteStore, Write};
use std::path::PathBuf;
use std::sync::Arc;

pub struct File(tempfile::TempDir);

impl File {
    fn path(&self) -> PathBuf {
        self.0.path().join("new/store.sqlite")
    }
}

impl Home for File {
    fn new() -> Option<Self> {
        Some(File(tempfile::tempdir().unwrap()))
    }

    fn open(&self) -> Arc<dyn ServiceStore> {
        Arc::new(SqliteStore::open(self.path()).unwrap())
    }

    fn spoil(&self, statement: &str) {
        rusqlite::Connection::open(self.path()).unwrap().execute_batch(statement).unwrap();
    }

    fn keys_table(&self) -> &'static str {
        "keys"
    }

    fn shown(&self) -> String {
        "store.sqlite".into()
    }
}

suite!(File);

#[test]
fn files_of_others_and_of_newer_programs_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.sqlite");
    rusqlite::Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    assert!(SqliteStore::open(&path).unwrap_err().to_string().contains("another program"));
    let home = File::new().unwrap();
    drop(home.open());
    home.spoil("PRAGMA user_version = 9");
    assert!(SqliteStore::open(home.path()).unwrap_err().to_string().contains("version 9"));
}

#[cfg(unix)]
#[test]
fn a_file_that_is_gone_acknowledges_nothing_until_it_is_back() {
    let home = File::new().unwrap();
    let store = home.open();
    store.write(&[Write::Trace(Box::new(trace("t1", 1)))]).unwrap();
    let aside = home.path().with_extension("aside");
    std::fs::rename(home.path(), &aside).unwrap();
    let error = store.write(&[Write::Trace(Box::new(trace("t2", 1)))]).unwrap_err().to_string();
    assert!(error.contains("removed") && error.contains("hint:"), "{error}");
    std::fs::rename(&aside, home.path()).unwrap();
    store.write(&[Write::Trace(Box::new(trace("t3", 1)))]).unwrap();
    assert!(home.open().trace("t3").unwrap().is_some(), "it is in the file");
}

#[test]
fn a_file_that_another_process_locks_is_an_error_and_then_works_again() {
    let home = File::new().unwrap();
    let store = home.open();
    let other = rusqlite::Connection::open(home.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = store.write(&[Write::Trace(Box::new(trace("t1", 1)))]).unwrap_err().to_string();
    assert!(error.contains("locked") && error.contains("hint:"), "{error}");
    assert_eq!(store.trace("t1").unwrap(), None, "readers do not wait");
    other.execute_batch("ROLLBACK").unwrap();
    store.write(&[Write::Trace(Box::new(trace("t1", 1)))]).unwrap();
}
