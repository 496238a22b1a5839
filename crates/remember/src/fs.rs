//! `std::fs` with the path in the error, and writes that are either whole or not there.
//!
//! Everything in elenchus that touches files goes through here, so no error ever reads "No such file or directory"
//! without saying which.

use crate::error::{RememberError, Result};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Names that begin so are unfinished and may be removed by whoever owns the folder.
pub(crate) const PARTIAL_PREFIX: &str = ".partial-";

/// Opens a file for reading.
pub fn open(path: impl AsRef<Path>) -> Result<File> {
    File::open(&path).map_err(|source| RememberError::io("open", path, source))
}

/// Creates a file, or empties the one that is there.
pub fn create(path: impl AsRef<Path>) -> Result<File> {
    File::create(&path).map_err(|source| RememberError::io("create", path, source))
}

/// Opens a file to write at its end, creating it when missing.
pub fn open_append(path: impl AsRef<Path>) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(|source| RememberError::io("open", path, source))
}

/// Reads a whole file.
pub fn read(path: impl AsRef<Path>) -> Result<Vec<u8>> {
    std::fs::read(&path).map_err(|source| RememberError::io("read", path, source))
}

/// Reads a whole file as UTF-8.
pub fn read_to_string(path: impl AsRef<Path>) -> Result<String> {
    std::fs::read_to_string(&path).map_err(|source| RememberError::io("read", path, source))
}

/// What the system knows of a file or folder.
pub fn metadata(path: impl AsRef<Path>) -> Result<std::fs::Metadata> {
    std::fs::metadata(&path).map_err(|source| RememberError::io("look at", path, source))
}

/// Creates a folder and the folders above it.
pub fn create_dir_all(path: impl AsRef<Path>) -> Result<()> {
    std::fs::create_dir_all(&path).map_err(|source| RememberError::io("create folder", path, source))
}

/// Renames a file or folder; the error names the source and the target.
pub fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<()> {
    std::fs::rename(&from, &to).map_err(|source| {
        let kind = source.kind();
        let told = std::io::Error::new(kind, format!("to `{}`: {source}", to.as_ref().display()));
        RememberError::io("rename", from, told)
    })
}

/// Removes a file; one that is not there is fine.
pub fn remove_file(path: impl AsRef<Path>) -> Result<()> {
    match std::fs::remove_file(&path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(RememberError::io("remove", path, source))
        }
        _ => Ok(()),
    }
}

/// Removes a folder with all it holds; one that is not there is fine.
pub fn remove_dir_all(path: impl AsRef<Path>) -> Result<()> {
    match std::fs::remove_dir_all(&path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(RememberError::io("remove folder", path, source))
        }
        _ => Ok(()),
    }
}

/// Size of a file in bytes.
pub fn size(path: impl AsRef<Path>) -> Result<u64> {
    std::fs::metadata(&path)
        .map(|metadata| metadata.len())
        .map_err(|source| RememberError::io("look at", path, source))
}

/// Paths of what a folder holds, sorted by name, so that nothing depends on the order of the file system.
pub fn list(path: impl AsRef<Path>) -> Result<Vec<PathBuf>> {
    let path = path.as_ref();
    let fail = |source| RememberError::io("list", path, source);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).map_err(fail)? {
        found.push(entry.map_err(fail)?.path());
    }
    found.sort();
    Ok(found)
}

/// Writes a file so that a reader, or a restart after a crash, sees the old content or the new one, never a part:
/// temporary file beside it, fsync, rename, fsync of the folder.
pub fn write_atomic(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    let mut file = AtomicFile::create(path)?;
    file.write(bytes)?;
    file.commit()
}

/// A file that appears under its name only when it is committed; dropped before that, it leaves nothing.
#[derive(Debug)]
pub struct AtomicFile {
    file: File,
    partial: PathBuf,
    path: PathBuf,
    committed: bool,
}

impl AtomicFile {
    /// Begins a file; its folder must exist.
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        let partial = partial_beside(&path);
        let file = File::create(&partial).map_err(|source| RememberError::io("create", &path, source))?;
        Ok(AtomicFile { file, partial, path, committed: false })
    }

    /// Writes bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|source| RememberError::io("write", &self.path, source))
    }

    /// The name that the file will have.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the file durable and gives it its name.
    pub fn commit(mut self) -> Result<()> {
        self.file.sync_all().map_err(|source| RememberError::io("write", &self.path, source))?;
        rename(&self.partial, &self.path)?;
        self.committed = true;
        sync_parent(&self.path)
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if !self.committed {
            // Nothing can be done about a failure here, and the name says that it is unfinished.
            let _ = std::fs::remove_file(&self.partial);
        }
    }
}

/// A name beside `path` that no other thread or process uses.
pub(crate) fn partial_beside(path: &Path) -> PathBuf {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{PARTIAL_PREFIX}{}-{number}-{name}", std::process::id()))
}

/// Makes a rename in the folder of `path` durable.
pub(crate) fn sync_parent(path: &Path) -> Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_dir(parent),
        _ => sync_dir(Path::new(".")),
    }
}

/// Makes the names in a folder durable.
pub(crate) fn sync_dir(path: &Path) -> Result<()> {
    // Only Unix lets one open a folder; elsewhere renames are journalled by the file system.
    if cfg!(unix) {
        open(path)?.sync_all().map_err(|source| RememberError::io("write", path, source))?;
    }
    Ok(())
}

/// Makes every file and folder under `path` durable.
pub(crate) fn sync_tree(path: &Path) -> Result<()> {
    for entry in list(path)? {
        if entry.is_dir() {
            sync_tree(&entry)?;
        } else {
            open(&entry)?.sync_all().map_err(|source| RememberError::io("write", &entry, source))?;
        }
    }
    sync_dir(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_operation_path_and_hint() {
        let error = read("/nowhere/at/all.json").unwrap_err().to_string();
        assert!(error.contains("cannot read `/nowhere/at/all.json`"), "{error}");
        assert!(error.contains("\nhint: check the spelling"), "{error}");
    }

    #[test]
    fn atomic_write_replaces_whole_and_leaves_no_partial_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        write_atomic(&path, b"old").unwrap();
        write_atomic(&path, b"new").unwrap();
        assert_eq!(read(&path).unwrap(), b"new");
        let mut abandoned = AtomicFile::create(&path).unwrap();
        AtomicFile::write(&mut abandoned, b"half").unwrap();
        drop(abandoned);
        assert_eq!(read(&path).unwrap(), b"new", "an uncommitted write must not show");
        assert_eq!(list(folder.path()).unwrap(), vec![path], "no partial file may stay behind");
    }

    #[test]
    fn rename_names_both_ends() {
        let folder = tempfile::tempdir().unwrap();
        let error = rename(folder.path().join("x"), folder.path().join("y")).unwrap_err().to_string();
        assert!(error.contains("/x`: to `") && error.contains("/y`"), "{error}");
    }
}
