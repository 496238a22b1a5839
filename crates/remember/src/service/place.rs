//! Where a store lies, as it is written in settings and on the command line.

use super::{PostgresStore, ServiceStore, SqliteStore};
use crate::error::Result;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// The place of a store. Its text never shows a password.
#[derive(Clone, PartialEq, Eq)]
pub enum StorePlace {
    /// One SQLite file.
    File(PathBuf),
    /// A PostgreSQL server, `postgres://user@host/database`; several gateways may share it.
    Server(String),
}

impl StorePlace {
    /// `postgres://…` and `postgresql://…` are servers, everything else is the path of a file.
    pub fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        match text.starts_with("postgres://") || text.starts_with("postgresql://") {
            true => StorePlace::Server(text),
            false => StorePlace::File(text.into()),
        }
    }

    /// Opens the store, making its tables when they are missing.
    ///
    /// # Errors
    /// The file cannot be opened, the server cannot be reached, or what lies there is not ours.
    pub fn open(&self) -> Result<Arc<dyn ServiceStore>> {
        Ok(match self {
            StorePlace::File(path) => Arc::new(SqliteStore::open(path)?),
            StorePlace::Server(url) => Arc::new(PostgresStore::open(url)?),
        })
    }
}

impl fmt::Display for StorePlace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StorePlace::File(path) => write!(formatter, "{}", path.display()),
            StorePlace::Server(url) => formatter.write_str(&super::postgres::shown(url)),
        }
    }
}

impl fmt::Debug for StorePlace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "StorePlace({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_file_or_a_server_and_keeps_its_password_to_itself() {
        assert_eq!(StorePlace::new("a/b.sqlite"), StorePlace::File("a/b.sqlite".into()));
        for (url, shown) in [
            ("postgres://ann:secret@db.example:5433/feedback", "postgres://ann@db.example:5433/feedback"),
            ("postgresql://ann@db.example/x?password=secret", "postgres://ann@db.example:5432/x"),
            ("postgres:///x?host=/run/postgresql&user=ann", "postgres://ann@/run/postgresql/x"),
            ("postgres://a:secret@one,two/x", "postgres://a@one:5432,two:5432/x"),
            ("postgres://a:secret@h/x?nonsense=1", "postgres://…"),
        ] {
            let place = StorePlace::new(url);
            assert_eq!(place.to_string(), shown);
            assert!(!format!("{place:?}").contains("secret"));
        }
    }
}
