//! Files of rows: the one place of this crate that reads a disk, so that every error names the path.

use crate::TaskError;
use std::io::Read;
use std::path::Path;

/// Most bytes that are read from one file, after decompression.
const MOST_BYTES: u64 = 1 << 30;

/// The text of a file; a gzip file is recognised by its first bytes and unpacked.
///
/// # Errors
/// The file cannot be read, is larger than 1 GiB, or is not UTF-8; with its path.
pub fn read_text(path: &Path) -> Result<String, TaskError> {
    let wrong = |problem: String, hint: &str| TaskError::File {
        path: path.display().to_string(),
        problem,
        hint: hint.to_string(),
    };
    let file = std::fs::File::open(path)
        .map_err(|error| wrong(format!("cannot be opened: {error}"), "check the path and its permissions"))?;
    let mut bytes = Vec::new();
    let unreadable = |error: std::io::Error| wrong(format!("cannot be read: {error}"), "is the file whole?");
    let mut limited = file.take(MOST_BYTES + 1);
    limited.read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.starts_with(&[0x1f, 0x8b]) {
        let mut unpacked = Vec::new();
        flate2::read::MultiGzDecoder::new(bytes.as_slice())
            .take(MOST_BYTES + 1)
            .read_to_end(&mut unpacked)
            .map_err(unreadable)?;
        bytes = unpacked;
    }
    if bytes.len() as u64 > MOST_BYTES {
        return Err(wrong("is larger than 1 GiB".to_string(), "split it into smaller files"));
    }
    String::from_utf8(bytes).map_err(|error| {
        wrong(format!("is not UTF-8 (byte {})", error.utf8_error().valid_up_to()), "convert it to UTF-8")
    })
}
