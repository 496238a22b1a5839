//! The append-only journal of a run: what was done, keyed by unit of work.
//!
//! A unit of work (`round/2/sample/chunk/17`) looks itself up before it computes and puts its result when it is done.
//! After `kill -9` only the units without an entry are computed again, and since every unit is a function of its
//! configuration and seed, the final result is that of an undisturbed run.

use crate::database::{BUSY_TIMEOUT, write_ahead};
use crate::error::{RememberError, Result};
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Version of the journal's tables. A reader refuses versions above its own.
pub const JOURNAL_VERSION: u32 = 1;

/// `elen` in ASCII: marks the SQLite file as ours.
const APPLICATION_ID: i64 = 0x656c_656e;
/// Payloads of at least this many bytes are compressed; below it zlib gains nothing.
const COMPRESS_FROM_BYTES: usize = 512;
/// Longest key in bytes.
const LONGEST_KEY: usize = 512;
/// Largest payload, before compression: far above any unit of work, below SQLite's limit of 1 GB.
const LARGEST_PAYLOAD: usize = 512 << 20;

/// What a put did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOutcome {
    /// The entry is new.
    Written,
    /// The key was there with this very payload.
    Same,
    /// The key was there with another payload, which stays: the journal is append-only.
    KeptEarlier,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Place in the order of writing, from 1.
    pub sequence: u64,
    /// The unit of work.
    pub key: String,
    /// Its result.
    pub payload: Vec<u8>,
}

/// The journal of a run: an SQLite file in WAL mode, shared by the threads of one process.
///
/// A put has returned only when its entry survives `kill -9` and loss of power: the file is written with
/// `synchronous=FULL`, one fsync per commit. `NORMAL` would survive `kill -9` as well, but entries are paid for with
/// model calls and minutes of sampling, and an entry that a checkpoint builds on must not be younger than it.
/// Callers with many small entries use [`Journal::put_many`], one commit for all.
#[derive(Debug)]
pub struct Journal {
    connection: Mutex<Connection>,
    path: PathBuf,
}

impl Journal {
    /// Opens the journal for writing, creating it when missing.
    ///
    /// # Errors
    /// When the file cannot be opened, is not a journal, or was written by a newer program.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        let fail = || RememberError::database("open the journal", &path);
        let mut connection = Connection::open(&path).map_err(fail())?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(fail())?;
        let found = check_version(&connection, &path)?;
        write_ahead(&connection).map_err(fail())?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(fail())?;
        if found == 0 {
            let transaction = connection.transaction().map_err(fail())?;
            transaction
                .execute_batch(
                    "CREATE TABLE IF NOT EXISTS entries (
                         sequence INTEGER PRIMARY KEY AUTOINCREMENT,
                         key TEXT NOT NULL UNIQUE,
                         bytes INTEGER NOT NULL, -- size of the payload before compression
                         packed INTEGER NOT NULL, -- 0: as it is, 1: zlib
                         payload BLOB NOT NULL
                     ) STRICT;",
                )
                .map_err(fail())?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(fail())?;
            transaction.pragma_update(None, "user_version", JOURNAL_VERSION).map_err(fail())?;
            transaction.commit().map_err(fail())?;
        }
        Ok(Journal { connection: Mutex::new(connection), path })
    }

    /// Opens an existing journal for reading only, also while another process writes it.
    ///
    /// # Errors
    /// When there is no journal, it cannot be read, or it was written by a newer program.
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        let fail = || RememberError::database("open the journal", &path);
        crate::fs::size(&path)?;
        let connection =
            Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(fail())?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(fail())?;
        check_version(&connection, &path)?;
        Ok(Journal { connection: Mutex::new(connection), path })
    }

    /// Where the journal lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes an entry; atomic and idempotent. The first payload of a key stays.
    ///
    /// # Errors
    /// When the key breaks the rules (1 to 512 bytes, no control characters, no empty part), the payload is larger
    /// than 512 MiB, or the disk refuses; then nothing of this entry is there and everything before is.
    pub fn put_bytes(&self, key: &str, payload: &[u8]) -> Result<PutOutcome> {
        let mut connection = self.lock();
        let transaction = connection.transaction().map_err(self.failed("write"))?;
        let outcome = self.insert(&transaction, key, payload)?;
        transaction.commit().map_err(self.failed("write"))?;
        Ok(outcome)
    }

    /// Writes several entries in one commit: all of them or none.
    ///
    /// # Errors
    /// As [`Journal::put_bytes`].
    pub fn put_many<'a>(
        &self,
        entries: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    ) -> Result<Vec<PutOutcome>> {
        let mut connection = self.lock();
        let transaction = connection.transaction().map_err(self.failed("write"))?;
        let mut outcomes = Vec::new();
        for (key, payload) in entries {
            outcomes.push(self.insert(&transaction, key, payload)?);
        }
        transaction.commit().map_err(self.failed("write"))?;
        Ok(outcomes)
    }

    /// The payload of a key.
    ///
    /// # Errors
    /// When the file cannot be read or the payload is damaged.
    pub fn get_bytes(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let connection = self.lock();
        self.lookup(&connection, key)
    }

    /// Writes a value as JSON. Mind that JSON has no NaN and no infinities: they become `null`.
    ///
    /// # Errors
    /// As [`Journal::put_bytes`], and when the value cannot be written as JSON.
    pub fn put<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<PutOutcome> {
        let payload = serde_json::to_vec(value).map_err(|source| self.not_json(key, source))?;
        self.put_bytes(key, &payload)
    }

    /// Reads a value written by [`Journal::put`].
    ///
    /// # Errors
    /// As [`Journal::get_bytes`], and when the payload is not JSON of `T`.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        match self.get_bytes(key)? {
            None => Ok(None),
            Some(payload) => {
                serde_json::from_slice(&payload).map(Some).map_err(|source| self.not_json(key, source))
            }
        }
    }

    /// The result of a unit of work: from the journal, or computed now and put.
    ///
    /// What is returned is always what the journal holds, read back, so that a resumed run and an undisturbed one
    /// see the same value even where JSON does not keep all of `T`.
    ///
    /// # Errors
    /// Those of `compute`, and those of [`Journal::get`] and [`Journal::put`].
    pub fn once<T, E>(&self, key: &str, compute: impl FnOnce() -> Result<T, E>) -> Result<T, E>
    where
        T: Serialize + DeserializeOwned,
        E: From<RememberError>,
    {
        if let Some(done) = self.get(key)? {
            return Ok(done);
        }
        let payload = serde_json::to_vec(&compute()?).map_err(|source| self.not_json(key, source))?;
        // Read back before it is put: a value that cannot be read must fail now and not at the next resume.
        let value = serde_json::from_slice(&payload).map_err(|source| self.not_json(key, source))?;
        match self.put_bytes(key, &payload)? {
            PutOutcome::Written | PutOutcome::Same => Ok(value),
            PutOutcome::KeptEarlier => Ok(self.get(key)?.unwrap_or(value)),
        }
    }

    /// Whether there is an entry for a key.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn contains(&self, key: &str) -> Result<bool> {
        let connection = self.lock();
        connection
            .prepare_cached("SELECT 1 FROM entries WHERE key = ?1")
            .and_then(|mut statement| statement.exists(params![key]))
            .map_err(self.failed("read"))
    }

    /// Entries under a prefix, in the order in which they were written. `round/2` means that key and every key that
    /// begins with `round/2/`, not `round/20`; the empty prefix means all.
    ///
    /// # Errors
    /// When the file cannot be read or a payload is damaged.
    pub fn scan(&self, prefix: &str) -> Result<Vec<Entry>> {
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached(
                "SELECT sequence, key, bytes, packed, payload FROM entries
                 WHERE ?1 = '' OR key = ?1 OR (key >= ?2 AND key < ?3) ORDER BY sequence",
            )
            .map_err(self.failed("read"))?;
        let (from, to) = below(prefix);
        let mut rows = statement.query(params![prefix, from, to]).map_err(self.failed("read"))?;
        let mut entries = Vec::new();
        while let Some(row) = rows.next().map_err(self.failed("read"))? {
            let read = |row: &rusqlite::Row| -> rusqlite::Result<(u64, String, usize, i64, Vec<u8>)> {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
            };
            let (sequence, key, bytes, packed, payload) = read(row).map_err(self.failed("read"))?;
            let payload = self.unpack(&key, bytes, packed, payload)?;
            entries.push(Entry { sequence, key, payload });
        }
        Ok(entries)
    }

    /// Keys under a prefix, in the order in which they were written; see [`Journal::scan`].
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn keys(&self, prefix: &str) -> Result<Vec<String>> {
        let connection = self.lock();
        let (from, to) = below(prefix);
        let read = || -> rusqlite::Result<Vec<String>> {
            let mut statement = connection.prepare_cached(
                "SELECT key FROM entries
                 WHERE ?1 = '' OR key = ?1 OR (key >= ?2 AND key < ?3) ORDER BY sequence",
            )?;
            statement.query_map(params![prefix, from, to], |row| row.get(0))?.collect()
        };
        read().map_err(self.failed("read"))
    }

    /// How many entries there are under a prefix; see [`Journal::scan`].
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn count(&self, prefix: &str) -> Result<u64> {
        let connection = self.lock();
        let (from, to) = below(prefix);
        connection
            .query_row(
                "SELECT count(*) FROM entries WHERE ?1 = '' OR key = ?1 OR (key >= ?2 AND key < ?3)",
                params![prefix, from, to],
                |row| row.get(0),
            )
            .map_err(self.failed("read"))
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A thread that panicked inside left at most an open transaction, which its guard rolled back.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn insert(&self, connection: &Connection, key: &str, payload: &[u8]) -> Result<PutOutcome> {
        check_key(key)?;
        if payload.len() > LARGEST_PAYLOAD {
            let what = format!("entry `{key}`");
            return Err(RememberError::TooLarge {
                path: self.path.clone(),
                what,
                limit: LARGEST_PAYLOAD as u64,
            });
        }
        if let Some(earlier) = self.lookup(connection, key)? {
            return Ok(if earlier == payload { PutOutcome::Same } else { PutOutcome::KeptEarlier });
        }
        let (packed, stored) = pack(payload);
        connection
            .prepare_cached("INSERT INTO entries (key, bytes, packed, payload) VALUES (?1, ?2, ?3, ?4)")
            .and_then(|mut statement| {
                statement.execute(params![key, payload.len() as i64, packed, stored.as_ref()])
            })
            .map_err(self.failed("write"))?;
        Ok(PutOutcome::Written)
    }

    fn lookup(&self, connection: &Connection, key: &str) -> Result<Option<Vec<u8>>> {
        let row: Option<(usize, i64, Vec<u8>)> = connection
            .prepare_cached("SELECT bytes, packed, payload FROM entries WHERE key = ?1")
            .and_then(|mut statement| {
                statement
                    .query_row(params![key], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
                    .optional()
            })
            .map_err(self.failed("read"))?;
        row.map(|(bytes, packed, payload)| self.unpack(key, bytes, packed, payload)).transpose()
    }

    fn unpack(&self, key: &str, bytes: usize, packed: i64, stored: Vec<u8>) -> Result<Vec<u8>> {
        let damaged = |reason: String| RememberError::Damaged {
            what: format!("entry `{key}`"),
            path: self.path.clone(),
            reason,
            hint: "restore the run folder from a copy, or start anew in another folder",
        };
        let payload = match packed {
            0 => stored,
            1 => {
                let mut payload = Vec::with_capacity(bytes.min(LARGEST_PAYLOAD));
                // One byte more than promised is enough to notice that the promise is wrong.
                ZlibDecoder::new(stored.as_slice())
                    .take(bytes.min(LARGEST_PAYLOAD) as u64 + 1)
                    .read_to_end(&mut payload)
                    .map_err(|error| damaged(error.to_string()))?;
                payload
            }
            other => return Err(damaged(format!("unknown packing {other}"))),
        };
        if payload.len() != bytes {
            return Err(damaged(format!("{} bytes where {bytes} were written", payload.len())));
        }
        Ok(payload)
    }

    fn failed(&self, operation: &'static str) -> impl FnOnce(rusqlite::Error) -> RememberError {
        RememberError::database(operation, &self.path)
    }

    fn not_json(&self, key: &str, source: serde_json::Error) -> RememberError {
        RememberError::Json {
            what: format!("entry `{key}`"),
            path: self.path.clone(),
            source,
            hint: "the run was made by another version of the program: resume it with that version, or start anew",
        }
    }
}

/// The half-open range of the keys below a prefix: `prefix/` up to `prefix0`, since `0` follows `/` in ASCII.
fn below(prefix: &str) -> (String, String) {
    (format!("{prefix}/"), format!("{prefix}0"))
}

fn check_version(connection: &Connection, path: &Path) -> Result<u32> {
    let read = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let found = read("user_version").map_err(RememberError::database("read", path))?;
    let application = read("application_id").map_err(RememberError::database("read", path))?;
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(RememberError::database("read", path))?;
    if tables > 0 && application != APPLICATION_ID {
        return Err(RememberError::Format {
            path: path.to_path_buf(),
            reason: "it is an SQLite file of another program".into(),
            hint: "choose a run folder that elenchus made",
        });
    }
    let found = u32::try_from(found).unwrap_or(u32::MAX);
    if found > JOURNAL_VERSION {
        return Err(RememberError::Version { path: path.to_path_buf(), found, known: JOURNAL_VERSION });
    }
    Ok(found)
}

fn check_key(key: &str) -> Result<()> {
    let reason = if key.is_empty() {
        "it is empty"
    } else if key.len() > LONGEST_KEY {
        "it is longer than 512 bytes"
    } else if key.chars().any(char::is_control) {
        "it holds a control character"
    } else if key.split('/').any(str::is_empty) {
        "one of its parts is empty"
    } else {
        return Ok(());
    };
    let name = key.chars().take(60).collect::<String>().escape_debug().to_string();
    Err(RememberError::Name { what: "journal key", name, reason, slashes: true })
}

fn pack(payload: &[u8]) -> (i64, std::borrow::Cow<'_, [u8]>) {
    if payload.len() >= COMPRESS_FROM_BYTES {
        // Level 1: JSON shrinks to a third at several hundred MB/s; higher levels cost time for a few percent.
        let mut encoder = ZlibEncoder::new(Vec::with_capacity(payload.len() / 2), Compression::fast());
        if encoder.write_all(payload).is_ok()
            && let Ok(packed) = encoder.finish()
            && packed.len() < payload.len()
        {
            return (1, packed.into());
        }
    }
    (0, payload.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal() -> (tempfile::TempDir, Journal) {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(folder.path().join("journal.sqlite")).unwrap();
        (folder, journal)
    }

    #[test]
    fn put_is_idempotent_and_the_first_payload_stays() {
        let (_folder, journal) = journal();
        assert_eq!(journal.put("a/1", &7).unwrap(), PutOutcome::Written);
        assert_eq!(journal.put("a/1", &7).unwrap(), PutOutcome::Same);
        assert_eq!(journal.put("a/1", &8).unwrap(), PutOutcome::KeptEarlier);
        assert_eq!(journal.get::<i32>("a/1").unwrap(), Some(7), "append-only: the first value stays");
        assert_eq!(journal.get::<i32>("a/2").unwrap(), None);
        assert!(journal.contains("a/1").unwrap() && !journal.contains("a").unwrap());
    }

    #[test]
    fn scan_keeps_order_and_respects_parts() {
        let (_folder, journal) = journal();
        for key in ["round/2/b", "round/20/a", "round/2", "round/2/a", "other"] {
            journal.put_bytes(key, key.as_bytes()).unwrap();
        }
        assert_eq!(journal.keys("round/2").unwrap(), ["round/2/b", "round/2", "round/2/a"]);
        assert_eq!(journal.count("round").unwrap(), 4);
        assert_eq!(journal.count("").unwrap(), 5);
        let entries = journal.scan("round/2").unwrap();
        assert_eq!(entries.iter().map(|e| e.sequence).collect::<Vec<_>>(), [1, 3, 4]);
        assert!(entries.iter().all(|e| e.key.as_bytes() == e.payload));
    }

    #[test]
    fn large_payloads_are_packed_and_come_back() {
        let (_folder, journal) = journal();
        let text = "{\"logprob\":-0.5}".repeat(10_000);
        journal.put_bytes("large", text.as_bytes()).unwrap();
        assert_eq!(journal.get_bytes("large").unwrap().unwrap(), text.as_bytes());
        let stored: i64 =
            journal.lock().query_row("SELECT length(payload) FROM entries", [], |row| row.get(0)).unwrap();
        assert!((stored as usize) < text.len() / 10, "stored {stored} of {}", text.len());
    }

    #[test]
    fn damaged_payload_is_an_error_not_a_value() {
        let (_folder, journal) = journal();
        journal.put_bytes("x", &vec![1; 5_000]).unwrap();
        journal.lock().execute("UPDATE entries SET bytes = 4999", []).unwrap();
        let error = journal.get_bytes("x").unwrap_err().to_string();
        assert!(
            error.contains("entry `x`") && error.contains("damaged") && error.contains("hint:"),
            "{error}"
        );
    }

    #[test]
    fn once_computes_once_and_returns_what_is_stored() {
        let (_folder, journal) = journal();
        let mut runs = 0;
        for _ in 0..3 {
            let value: f64 = journal
                .once("pi", || {
                    runs += 1;
                    Ok::<_, RememberError>(0.1 + 0.2)
                })
                .unwrap();
            assert_eq!(value.to_bits(), (0.1_f64 + 0.2).to_bits(), "floats come back to the bit");
        }
        assert_eq!(runs, 1);
        let lossy = journal.once("nan", || Ok::<_, RememberError>(f64::NAN));
        assert!(lossy.is_err(), "a value that could not be read at resume fails at once");
        assert!(!journal.contains("nan").unwrap());
    }

    #[test]
    fn many_are_written_in_one_commit_or_not_at_all() {
        let (_folder, journal) = journal();
        let error = journal.put_many([("a", b"1".as_slice()), ("b//c", b"2")]).unwrap_err();
        assert!(error.to_string().contains("one of its parts is empty"), "{error}");
        assert_eq!(journal.count("").unwrap(), 0);
        assert_eq!(journal.put_many([("a", b"1".as_slice()), ("b", b"2")]).unwrap().len(), 2);
    }

    #[test]
    fn foreign_and_newer_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("foreign.sqlite");
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
        assert!(Journal::open(&path).unwrap_err().to_string().contains("another program"));
        let path = folder.path().join("newer.sqlite");
        drop(Journal::open(&path).unwrap());
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 9).unwrap();
        assert!(matches!(Journal::open(&path), Err(RememberError::Version { found: 9, .. })));
        let path = folder.path().join("text.sqlite");
        std::fs::write(&path, "this is no database at all, but long enough to be looked at".repeat(40))
            .unwrap();
        let error = Journal::open(&path).unwrap_err().to_string();
        assert!(error.contains("text.sqlite") && error.contains("hint: the file is damaged"), "{error}");
    }

    #[test]
    fn readers_see_what_a_writer_has_committed() {
        let (folder, journal) = journal();
        journal.put("a", &1).unwrap();
        let reader = Journal::open_read_only(folder.path().join("journal.sqlite")).unwrap();
        assert_eq!(reader.get::<i32>("a").unwrap(), Some(1));
        journal.put("b", &2).unwrap();
        assert_eq!(reader.get::<i32>("b").unwrap(), Some(2));
        let error = reader.put("c", &3).unwrap_err().to_string();
        assert!(error.contains("cannot write"), "{error}");
    }

    #[test]
    fn threads_share_it() {
        let (_folder, journal) = journal();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let journal = &journal;
                scope.spawn(move || {
                    for i in 0..20 {
                        journal.put(&format!("t/{thread}/{i}"), &i).unwrap();
                        journal.put(&format!("shared/{i}"), &i).unwrap();
                    }
                });
            }
        });
        assert_eq!(journal.count("t").unwrap(), 80);
        assert_eq!(journal.count("shared").unwrap(), 20);
    }
}
