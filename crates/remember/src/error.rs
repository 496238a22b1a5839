//! What can go wrong in this room; every message says what, where, and ends with a hint.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// What kind of failure a database server's is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerFailure {
    /// The address is no address of a server.
    Address,
    /// It cannot be reached, or it is being started or stopped.
    Unreachable,
    /// It does not let this user do that.
    Refused,
    /// Its disk is full.
    Full,
    /// It did not answer in time, or waited for somebody else's lock.
    Slow,
    /// What was to be stored cannot be: out of range, against a constraint, too large.
    Value,
    /// Anything else.
    Other,
}

impl ServerFailure {
    fn hint(self) -> &'static str {
        match self {
            ServerFailure::Address => "an address is `postgres://user@host:5432/database`",
            ServerFailure::Unreachable => {
                "check that the server runs and takes connections (and, where it has no certificate that this machine \
                 trusts, `?sslmode=disable`); it is tried again by itself"
            }
            ServerFailure::Refused => {
                "check user, password (`PGPASSWORD`), database, and what the user may do there"
            }
            ServerFailure::Full => "free some space on the server's disk",
            ServerFailure::Slow => "the server is busy or another client holds a lock; try again",
            ServerFailure::Value => "this one cannot be stored as it is; others can",
            ServerFailure::Other => "check that the tables `elenchus_…` are as elenchus made them",
        }
    }
}

/// Why something could not be remembered or read back.
#[derive(Debug, thiserror::Error)]
pub enum RememberError {
    /// A file operation failed.
    #[error("cannot {operation} `{}`: {source}\nhint: {}", path.display(), io_hint(source))]
    Io {
        /// What was tried, as a verb: `read`, `write`, `rename` …
        operation: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// SQLite refused.
    #[error("cannot {operation} in `{}`: {source}\nhint: {}", path.display(), database_hint(source))]
    Database {
        /// What was tried.
        operation: &'static str,
        /// The database file.
        path: PathBuf,
        /// What SQLite said.
        source: Box<rusqlite::Error>,
    },
    /// A database server refused, or cannot be reached.
    #[error("cannot {operation} in {place}: {reason}\nhint: {}", kind.hint())]
    Server {
        /// What was tried.
        operation: &'static str,
        /// The server and the database, without a password.
        place: String,
        /// What the server or the network said.
        reason: String,
        /// What kind of failure it is.
        kind: ServerFailure,
    },
    /// Another process works on the run folder.
    #[error("run folder `{}` is in use by {holder}\nhint: wait for it or stop it; two processes never work on one run; `elenchus report` reads a run that is in use", path.display())]
    Locked {
        /// The run folder.
        path: PathBuf,
        /// Who holds it, for example `process 4711`.
        holder: String,
    },
    /// The folder holds no run.
    #[error("`{}` is not a run folder: {reason}\nhint: a run folder is made by `--out DIR` and holds `config.json` and `journal.sqlite`", path.display())]
    NotARun {
        /// The folder.
        path: PathBuf,
        /// What is missing or foreign.
        reason: String,
    },
    /// The folder holds a run already.
    #[error("`{}` holds a run already\nhint: `elenchus resume {}` continues it; give another `--out` for a new one", path.display(), path.display())]
    RunExists {
        /// The folder.
        path: PathBuf,
    },
    /// A new run shall not be mixed with foreign files.
    #[error("`{}` is not empty: it holds `{found}`\nhint: give `--out` a new or empty folder", path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
        /// One of the foreign names.
        found: String,
    },
    /// Written by a newer program.
    #[error("`{}` has format version {found}, this program reads up to {known}\nhint: update elenchus", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The highest version known here.
        known: u32,
    },
    /// A name or key breaks its rules.
    #[error("{what} `{name}` is refused: {reason}\nhint: use letters, digits, `-`, `_`, `.`{}", if *slashes { " and `/` between parts" } else { "" })]
    Name {
        /// `journal key`, `checkpoint name`.
        what: &'static str,
        /// The name as given, cut to a readable length.
        name: String,
        /// Which rule it breaks.
        reason: &'static str,
        /// Whether `/` is allowed.
        slashes: bool,
    },
    /// A value could not be turned into JSON or back.
    #[error("{what} in `{}` has not the expected form: {source}\nhint: {hint}", path.display())]
    Json {
        /// What was read or written, for example ``entry `round/2` ``.
        what: String,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
        /// What to try.
        hint: &'static str,
    },
    /// Stored bytes are not what was written.
    #[error("{what} in `{}` is damaged: {reason}\nhint: {hint}", path.display())]
    Damaged {
        /// What is damaged.
        what: String,
        /// The file or folder.
        path: PathBuf,
        /// How one can tell.
        reason: String,
        /// What to try.
        hint: &'static str,
    },
    /// A checkpoint that is not there.
    #[error("no checkpoint `{name}` in `{}`; there are: {known}\nhint: name one of these, or run again without a checkpoint", path.display())]
    NoCheckpoint {
        /// The folder of checkpoints.
        path: PathBuf,
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// A line of a data file is broken.
    #[error("`{}` {line}\nhint: {hint}", path.display())]
    BadLine {
        /// The file.
        path: PathBuf,
        /// Where and what.
        line: crate::data::BadLine,
        /// What to try.
        hint: &'static str,
    },
    /// A data file has no rows.
    #[error("`{}` has no rows{}\nhint: see docs/formats.md for what a row looks like", path.display(), if *skipped == 0 { String::new() } else { format!(" ({skipped} broken lines were left out)") })]
    NoRows {
        /// The file.
        path: PathBuf,
        /// How many broken lines were left out.
        skipped: usize,
    },
    /// Larger than the reader is allowed to hold.
    #[error("`{}` is too large: {what} exceeds {limit} bytes\nhint: split the file, or raise the limit if its source is trusted", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Which part: `line 7`, `the unpacked file`.
        what: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// The file is in a form that is not read here.
    #[error("`{}` cannot be read: {reason}\nhint: {hint}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
        /// What to try.
        hint: &'static str,
    },
    /// Rows that cannot be written in the form asked for.
    #[error("row {row}: {reason}\nhint: {hint}")]
    Row {
        /// 0-based index of the row or trace.
        row: usize,
        /// Why.
        reason: String,
        /// What to try.
        hint: &'static str,
    },
    /// An importer, or a setting of one, that does not exist or is missing.
    #[error("{problem}\nhint: {hint}")]
    Import {
        /// What is wrong.
        problem: String,
        /// What to try.
        hint: String,
    },
}

/// The result of this room.
pub type Result<T, E = RememberError> = std::result::Result<T, E>;

impl RememberError {
    pub(crate) fn io(operation: &'static str, path: impl AsRef<Path>, source: std::io::Error) -> Self {
        RememberError::Io { operation, path: path.as_ref().to_path_buf(), source }
    }

    pub(crate) fn database(
        operation: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(rusqlite::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| RememberError::Database { operation, path, source: Box::new(source) }
    }

    /// Whether what was to be stored is at fault, and not the store: other changes can be made meanwhile.
    pub fn is_of_the_value(&self) -> bool {
        use rusqlite::ErrorCode as Code;
        match self {
            RememberError::Database { source, .. } => matches!(
                source.sqlite_error_code(),
                None | Some(Code::ConstraintViolation | Code::TypeMismatch | Code::TooBig)
            ),
            RememberError::Server { kind, .. } => *kind == ServerFailure::Value,
            _ => false,
        }
    }

    /// Whether the disk, or the process's share of it, is full: what was done is kept, and the work can be
    /// resumed once there is room.
    pub fn is_disk_full(&self) -> bool {
        match self {
            RememberError::Io { source, .. } => is_full(source.kind()),
            RememberError::Database { source, .. } => {
                matches!(source.sqlite_error_code(), Some(rusqlite::ErrorCode::DiskFull))
            }
            RememberError::Server { kind, .. } => *kind == ServerFailure::Full,
            _ => false,
        }
    }
}

fn is_full(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
}

fn io_hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::NotFound => "check the spelling of the path",
        ErrorKind::PermissionDenied => "check who owns the path and its permissions",
        ErrorKind::ReadOnlyFilesystem => "choose a folder that can be written",
        ErrorKind::IsADirectory => "a file is expected here, not a folder",
        ErrorKind::NotADirectory => "a part of the path is a file, not a folder",
        ErrorKind::AlreadyExists => "choose another name",
        ErrorKind::Unsupported => "this file system lacks the operation; choose a folder on a local disk",
        kind if is_full(kind) => {
            "free some space, then `elenchus resume` the run; what was done before is kept"
        }
        _ => "check that the disk works and the path is reachable",
    }
}

fn database_hint(error: &rusqlite::Error) -> &'static str {
    use rusqlite::ErrorCode as Code;
    match error.sqlite_error_code() {
        Some(Code::DiskFull) => {
            "free some space, then `elenchus resume` the run; what was done before is kept"
        }
        Some(Code::SystemIoFailure) => {
            "check free space, quotas and the disk, then `elenchus resume` the run; what was done before is kept"
        }
        Some(Code::DatabaseBusy | Code::DatabaseLocked) => {
            "another process has held the file for long; stop it or try again"
        }
        Some(Code::CannotOpen | Code::PermissionDenied | Code::ReadOnly) => {
            "check that the folder exists and can be written"
        }
        Some(Code::NotADatabase | Code::DatabaseCorrupt) => {
            "the file is damaged or not ours; restore it from a copy or start anew in another folder"
        }
        _ => "check that the file is on a local disk and was not edited",
    }
}
