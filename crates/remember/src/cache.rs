//! A cache of what costs time or money to make: content-addressed, bounded in size, shared by processes.
//!
//! The key is a hash of everything that determines the value (see [`Cache::key`]), so an entry never goes stale and
//! is only ever removed to make room, least recently used first.

use crate::database::{BUSY_TIMEOUT, write_ahead};
use crate::error::{RememberError, Result};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Version of the cache's table. Another version is emptied: a cache may always be lost.
const CACHE_VERSION: i64 = 1;
/// `elch` in ASCII: marks the SQLite file as ours.
const APPLICATION_ID: i64 = 0x656c_6368;
/// Counted per entry beside key and value: the row and its two index entries.
const OVERHEAD_BYTES: u64 = 64;
/// Room is made down to this share of the limit, so that not every put has to remove something.
const SHRINK_TO: f64 = 0.9;
/// Uses are noted in the file after this many: a hit then costs a read and not a commit.
const NOTE_USES_AFTER: usize = 64;

/// A size-bounded key-value cache in one SQLite file.
///
/// Several threads and processes may use the same file. A put survives the end of the process, but not for certain
/// the loss of power (`synchronous=NORMAL`): what is lost is computed again.
#[derive(Debug)]
pub struct Cache {
    inner: Mutex<Inner>,
    path: PathBuf,
    limit_bytes: u64,
}

#[derive(Debug)]
struct Inner {
    connection: Connection,
    /// Keys that were read since the last note, oldest first.
    used: Vec<String>,
}

impl Cache {
    /// Opens the cache, creating it when missing; it will hold at most `limit_bytes` of keys and values.
    ///
    /// # Errors
    /// When the file cannot be opened or is an SQLite file of another program.
    pub fn open(path: impl AsRef<Path>, limit_bytes: u64) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        let fail = || RememberError::database("open the cache", &path);
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            crate::fs::create_dir_all(folder)?;
        }
        let mut connection = Connection::open(&path).map_err(fail())?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(fail())?;
        connection.pragma_update(None, "synchronous", "NORMAL").map_err(fail())?;
        // Immediate: of two processes that open a new file at once, the second finds the table made.
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fail())?;
        let read = |name: &str| transaction.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let version = read("user_version").map_err(fail())?;
        let application = read("application_id").map_err(fail())?;
        let tables: i64 = transaction
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
            .map_err(fail())?;
        if tables > 0 && application != APPLICATION_ID {
            return Err(RememberError::Format {
                path: path.clone(),
                reason: "it is an SQLite file of another program".into(),
                hint: "give the cache a path of its own",
            });
        }
        if version != CACHE_VERSION {
            transaction
                .execute_batch(
                    "DROP TABLE IF EXISTS entries;
                     DROP TABLE IF EXISTS total;
                     CREATE TABLE entries (
                         key TEXT PRIMARY KEY,
                         value BLOB NOT NULL,
                         bytes INTEGER NOT NULL,
                         used INTEGER NOT NULL -- grows with every use: the smallest goes first
                     ) STRICT;
                     CREATE INDEX entries_by_use ON entries (used);
                     CREATE TABLE total (bytes INTEGER NOT NULL) STRICT;
                     INSERT INTO total VALUES (0);",
                )
                .and_then(|()| transaction.pragma_update(None, "application_id", APPLICATION_ID))
                .and_then(|()| transaction.pragma_update(None, "user_version", CACHE_VERSION))
                .map_err(fail())?;
        }
        transaction.commit().map_err(fail())?;
        write_ahead(&connection).map_err(fail())?;
        Ok(Cache { inner: Mutex::new(Inner { connection, used: Vec::new() }), path, limit_bytes })
    }

    /// The key of a value that is determined by these parts, in this order: BLAKE3 over each part's length and bytes,
    /// as 64 hexadecimal digits. `["ab", "c"]` and `["a", "bc"]` have different keys.
    pub fn key<P: AsRef<[u8]>>(parts: impl IntoIterator<Item = P>) -> String {
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            let part = part.as_ref();
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        hasher.finalize().to_hex().to_string()
    }

    /// The value of a key, if it is (still) there.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let mut inner = self.lock();
        let value: Option<Vec<u8>> = inner
            .connection
            .prepare_cached("SELECT value FROM entries WHERE key = ?1")
            .and_then(|mut statement| statement.query_row(params![key], |row| row.get(0)).optional())
            .map_err(self.failed("read"))?;
        if value.is_some() {
            inner.used.push(key.to_string());
            if inner.used.len() >= NOTE_USES_AFTER {
                // A full disk or a busy writer must not turn a hit into a failure: the uses stay noted here.
                let _ = note_uses(&mut inner);
            }
        }
        Ok(value)
    }

    /// Stores a value, replacing the one that is there, and makes room for it. A value that alone exceeds the limit
    /// is not stored; the answer says whether it was.
    ///
    /// # Errors
    /// When the file cannot be written; the cache is then as it was.
    pub fn put(&self, key: &str, value: &[u8]) -> Result<bool> {
        let bytes = key.len() as u64 + value.len() as u64 + OVERHEAD_BYTES;
        if bytes > self.limit_bytes {
            return Ok(false);
        }
        let mut inner = self.lock();
        note_uses(&mut inner).map_err(self.failed("write"))?;
        self.insert(&mut inner.connection, key, value, bytes).map_err(self.failed("write"))?;
        Ok(true)
    }

    fn insert(
        &self,
        connection: &mut Connection,
        key: &str,
        value: &[u8],
        bytes: u64,
    ) -> rusqlite::Result<()> {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let earlier: u64 = transaction
            .prepare_cached("SELECT bytes FROM entries WHERE key = ?1")?
            .query_row(params![key], |row| row.get(0))
            .optional()?
            .unwrap_or(0);
        transaction
            .prepare_cached(
                "INSERT OR REPLACE INTO entries (key, value, bytes, used)
                 VALUES (?1, ?2, ?3, (SELECT ifnull(max(used), 0) + 1 FROM entries))",
            )?
            .execute(params![key, value, bytes])?;
        let mut total: u64 = transaction.query_row("SELECT bytes FROM total", [], |row| row.get(0))?;
        total = total.saturating_sub(earlier) + bytes;
        if total > self.limit_bytes {
            let target = (self.limit_bytes as f64 * SHRINK_TO) as u64;
            let mut oldest = transaction.prepare_cached("SELECT key, bytes FROM entries ORDER BY used")?;
            let mut rows = oldest.query([])?;
            let mut leaving = Vec::new();
            while total > target
                && let Some(row) = rows.next()?
            {
                let (old, size): (String, u64) = (row.get(0)?, row.get(1)?);
                if old != key {
                    total = total.saturating_sub(size);
                    leaving.push(old);
                }
            }
            drop(rows);
            let mut delete = transaction.prepare_cached("DELETE FROM entries WHERE key = ?1")?;
            for old in leaving {
                delete.execute(params![old])?;
            }
        }
        transaction.execute("UPDATE total SET bytes = ?1", params![total])?;
        transaction.commit()
    }

    /// How many entries there are and how many bytes they count, keys and overhead included.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn size(&self) -> Result<CacheSize> {
        self.lock()
            .connection
            .query_row("SELECT (SELECT count(*) FROM entries), (SELECT bytes FROM total)", [], |row| {
                Ok(CacheSize { entries: row.get(0)?, bytes: row.get(1)? })
            })
            .map_err(self.failed("read"))
    }

    /// Removes every entry.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn clear(&self) -> Result<()> {
        let mut inner = self.lock();
        inner.used.clear();
        inner
            .connection
            .execute_batch("BEGIN IMMEDIATE; DELETE FROM entries; UPDATE total SET bytes = 0; COMMIT;")
            .map_err(self.failed("write"))
    }

    /// Where the file lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, operation: &'static str) -> impl FnOnce(rusqlite::Error) -> RememberError {
        RememberError::database(operation, &self.path)
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        // Only the order of eviction hangs on it.
        let _ = note_uses(&mut self.lock());
    }
}

/// The size of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheSize {
    /// Number of entries.
    pub entries: u64,
    /// Bytes of keys and values with a fixed overhead for each.
    pub bytes: u64,
}

fn note_uses(inner: &mut Inner) -> rusqlite::Result<()> {
    if inner.used.is_empty() {
        return Ok(());
    }
    let transaction = inner.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    {
        let mut note = transaction
            .prepare_cached("UPDATE entries SET used = (SELECT max(used) + 1 FROM entries) WHERE key = ?1")?;
        for key in &inner.used {
            note.execute(params![key])?;
        }
    }
    transaction.commit()?;
    inner.used.clear();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(limit_bytes: u64) -> (tempfile::TempDir, Cache) {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path().join("new/cache.sqlite"), limit_bytes).unwrap();
        (folder, cache)
    }

    #[test]
    fn what_is_put_is_got() {
        let (folder, cache) = cache(1 << 20);
        assert_eq!(cache.get("k").unwrap(), None);
        assert!(cache.put("k", b"one").unwrap());
        assert!(cache.put("k", b"other").unwrap());
        assert_eq!(cache.get("k").unwrap().unwrap(), b"other");
        assert_eq!(cache.size().unwrap(), CacheSize { entries: 1, bytes: 1 + 5 + OVERHEAD_BYTES });
        drop(cache);
        let cache = Cache::open(folder.path().join("new/cache.sqlite"), 1 << 20).unwrap();
        assert_eq!(cache.get("k").unwrap().unwrap(), b"other", "it outlives the process");
        cache.clear().unwrap();
        assert_eq!(cache.size().unwrap(), CacheSize { entries: 0, bytes: 0 });
    }

    #[test]
    fn the_least_recently_used_goes_first_and_the_limit_holds() {
        let (_folder, cache) = cache(10 * 200);
        let value = vec![0; 200 - 2 - OVERHEAD_BYTES as usize];
        for i in 10..20 {
            cache.put(&i.to_string(), &value).unwrap();
        }
        assert_eq!(cache.size().unwrap().entries, 10);
        assert!(cache.get("10").unwrap().is_some(), "10 is now the most recently used");
        cache.put("20", &value).unwrap();
        assert!(cache.size().unwrap().bytes <= 10 * 200);
        assert!(cache.get("10").unwrap().is_some());
        assert!(cache.get("11").unwrap().is_none());
        assert!(cache.get("20").unwrap().is_some(), "the new one never makes room for itself");
        assert!(!cache.put("huge", &vec![0; 2_000]).unwrap());
        assert!(cache.get("19").unwrap().is_some(), "a value too large for the cache displaces nothing");
    }

    #[test]
    fn keys_depend_on_the_borders_of_the_parts() {
        assert_ne!(Cache::key(["ab", "c"]), Cache::key(["a", "bc"]));
        assert_ne!(Cache::key(["a"]), Cache::key(["a", ""]));
        assert_eq!(Cache::key(["a", "b"]), Cache::key([b"a", b"b"]));
        assert_eq!(Cache::key(["a"]).len(), 64);
    }

    #[test]
    fn two_connections_share_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache.sqlite");
        std::thread::scope(|scope| {
            for thread in 0..3 {
                let path = &path;
                scope.spawn(move || {
                    let cache = Cache::open(path, 100_000).unwrap();
                    for i in 0..30 {
                        cache.put(&format!("{thread}/{i}"), &[thread; 100]).unwrap();
                        cache.get(&format!("0/{i}")).unwrap();
                    }
                });
            }
        });
        let cache = Cache::open(&path, 100_000).unwrap();
        let counted: u64 = cache
            .lock()
            .connection
            .query_row("SELECT sum(bytes) FROM entries", [], |row| row.get(0))
            .unwrap();
        assert_eq!(cache.size().unwrap(), CacheSize { entries: 90, bytes: counted });
    }

    #[test]
    fn foreign_files_are_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.sqlite");
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE entries (x)").unwrap();
        let error = Cache::open(&path, 1_000).unwrap_err().to_string();
        assert!(error.contains("another program"), "{error}");
        let tables: i64 = Connection::open(&path)
            .unwrap()
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
            .unwrap();
        assert_eq!(tables, 1);
    }
}
