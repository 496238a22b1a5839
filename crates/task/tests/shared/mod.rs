//! The shared data, which is not part of the repository.

use std::io::Write;
use std::path::PathBuf;

/// The text of a file of the shared data. Where it is not there, that is said past the harness, which hides what passing
/// tests print.
pub fn text(path: &str) -> Option<String> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data")).join(path);
    match std::fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(error) => {
            let name = std::thread::current().name().unwrap_or("a test").to_string();
            let said = format!("skipped {name}: shared data `{}`: {error}", path.display());
            // Standard error that is gone is no reason to fail.
            let _ = writeln!(std::io::stderr(), "{said}");
            None
        }
    }
}
