//! File access that names the path in its errors and never leaves a half-written file behind.

use crate::NativeError;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Reads a whole file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, NativeError> {
    fs::read(path).map_err(|e| NativeError::file("read", path, e, "check the path and its permissions"))
}

/// Reads and parses JSON.
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, NativeError> {
    serde_json::from_slice(&read(path)?).map_err(|e| {
        NativeError::checkpoint(path, format!("is not the expected JSON: {e}"), "the file may be damaged")
    })
}

/// Creates a folder and those above it.
pub(crate) fn create_folder(path: &Path) -> Result<(), NativeError> {
    fs::create_dir_all(path)
        .map_err(|e| NativeError::file("create", path, e, "choose a folder that can be written"))
}

/// Writes through a temporary neighbour that takes the name only when complete.
pub(crate) fn write_atomically(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<(), NativeError> {
    let hint = "check free space and permissions of the folder";
    let temporary = neighbour(path);
    let attempt = || -> std::io::Result<()> {
        let mut writer = BufWriter::with_capacity(1 << 20, File::create(&temporary)?);
        write(&mut writer)?;
        let file = writer.into_inner().map_err(|e| e.into_error())?;
        // Without this a crash after the rename could leave a complete name on incomplete data.
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    attempt().map_err(|e| {
        // The temporary file is ours; failing to remove it changes nothing about the error to report.
        let _ = fs::remove_file(&temporary);
        NativeError::file("write", path, e, hint)
    })
}

/// Writes pretty JSON atomically.
pub(crate) fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<(), NativeError> {
    write_atomically(path, |w| {
        serde_json::to_writer_pretty(&mut *w, value).map_err(std::io::Error::other)?;
        w.write_all(b"\n")
    })
}

/// Removes a file that may be absent.
pub(crate) fn remove_if_present(path: &Path) -> Result<(), NativeError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(NativeError::file("remove", path, e, "check the permissions of the folder"))
        }
        _ => Ok(()),
    }
}

fn neighbour(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.partial", std::process::id()));
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_rubbish() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        write_json(&path, &1).unwrap();
        let failed = write_atomically(&path, |w| {
            w.write_all(b"half")?;
            Err(std::io::Error::other("disk full"))
        });
        assert!(failed.unwrap_err().to_string().contains("disk full"), "the cause is named");
        assert_eq!(read(&path).unwrap(), b"1\n", "the old content survives");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no partial file remains");
    }
}
