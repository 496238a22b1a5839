//! Checkpoints of a run: folders that are there whole or not at all.

use crate::error::{RememberError, Result};
use crate::fs;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Lists the files of a checkpoint with their sizes and hashes; written last, before the folder gets its name.
const MANIFEST: &str = "manifest.json";
/// Begins the name under which a checkpoint waits while a new one of the same name takes its place.
const REPLACED_PREFIX: &str = ".replaced-";

/// What the manifest says.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    /// Place in the order of commits, from 1.
    sequence: u64,
    files: BTreeMap<String, FileRecord>,
}

#[derive(Debug, Serialize, Deserialize)]
struct FileRecord {
    bytes: u64,
    blake3: String,
}

/// One committed checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointInfo {
    /// Its name.
    pub name: String,
    /// Its folder.
    pub path: PathBuf,
    /// Place in the order of commits, from 1.
    pub sequence: u64,
    /// Size of all its files.
    pub bytes: u64,
}

/// The folder `checkpoints/` of a run.
#[derive(Debug)]
pub struct Checkpoints {
    path: PathBuf,
}

impl Checkpoints {
    /// Opens the folder, creates it when missing, and clears away what a killed process left unfinished.
    ///
    /// # Errors
    /// When the folder cannot be made, listed or cleaned.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let checkpoints = Checkpoints { path: path.as_ref().to_path_buf() };
        fs::create_dir_all(&checkpoints.path)?;
        for entry in fs::list(&checkpoints.path)? {
            let name = file_name(&entry);
            if name.starts_with(fs::PARTIAL_PREFIX) {
                fs::remove_dir_all(&entry)?;
            } else if let Some(name) = name.strip_prefix(REPLACED_PREFIX) {
                // Killed between the two renames of a replacement: the earlier one is the one that counts.
                if checkpoints.folder(name).exists() {
                    fs::remove_dir_all(&entry)?;
                } else {
                    fs::rename(&entry, checkpoints.folder(name))?;
                }
            }
        }
        Ok(checkpoints)
    }

    /// The same folder for reading only: nothing is created or cleaned.
    pub fn open_read_only(path: impl AsRef<Path>) -> Self {
        Checkpoints { path: path.as_ref().to_path_buf() }
    }

    /// Where the checkpoints lie.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a checkpoint: `write` fills the empty folder it is given; then every file is hashed and made durable
    /// and the folder gets its name. A checkpoint of the same name is replaced. Killed at any moment, the
    /// checkpoint is there whole or not at all.
    ///
    /// # Errors
    /// Those of `write`; when the name breaks the rules (1 to 128 letters, digits, `-`, `_`, `.`, not beginning with
    /// a dot); when the disk refuses. Then the earlier checkpoints are untouched.
    pub fn commit<E: From<RememberError>>(
        &self,
        name: &str,
        write: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<CheckpointInfo, E> {
        check_name(name)?;
        let partial = Partial(fs::partial_beside(&self.folder(name)));
        fs::create_dir_all(&partial.0)?;
        write(&partial.0)?;
        Ok(self.seal(name, partial)?)
    }

    fn seal(&self, name: &str, partial: Partial) -> Result<CheckpointInfo> {
        let mut files = BTreeMap::new();
        hash_files(&partial.0, "", &mut files)?;
        let sequence = self.list()?.iter().map(|info| info.sequence).max().unwrap_or(0) + 1;
        let bytes = files.values().map(|file| file.bytes).sum();
        let manifest = Manifest { sequence, files };
        let text = serde_json::to_vec_pretty(&manifest).map_err(|source| RememberError::Json {
            what: "manifest".into(),
            path: partial.0.clone(),
            source,
            hint: "name the files of a checkpoint in UTF-8",
        })?;
        fs::write_atomic(partial.0.join(MANIFEST), &text)?;
        fs::sync_tree(&partial.0)?;
        let folder = self.folder(name);
        let replaced = self.path.join(format!("{REPLACED_PREFIX}{name}"));
        if folder.exists() {
            fs::remove_dir_all(&replaced)?;
            fs::rename(&folder, &replaced)?;
        }
        fs::rename(&partial.0, &folder)?;
        fs::sync_dir(&self.path)?;
        fs::remove_dir_all(&replaced)?;
        Ok(CheckpointInfo { name: name.into(), path: folder, sequence, bytes })
    }

    /// All committed checkpoints, oldest commit first.
    ///
    /// # Errors
    /// When the folder cannot be listed or a manifest cannot be read.
    pub fn list(&self) -> Result<Vec<CheckpointInfo>> {
        let mut found = Vec::new();
        if !self.path.exists() {
            return Ok(found);
        }
        for path in fs::list(&self.path)? {
            let name = file_name(&path);
            if name.starts_with('.') || !path.join(MANIFEST).exists() {
                continue;
            }
            let manifest = read_manifest(&path)?;
            let bytes = manifest.files.values().map(|file| file.bytes).sum();
            found.push(CheckpointInfo { name, path, sequence: manifest.sequence, bytes });
        }
        found.sort_by_key(|info| info.sequence);
        Ok(found)
    }

    /// The newest checkpoint.
    ///
    /// # Errors
    /// As [`Checkpoints::list`].
    pub fn latest(&self) -> Result<Option<CheckpointInfo>> {
        Ok(self.list()?.pop())
    }

    /// Whether a checkpoint of this name is committed.
    pub fn contains(&self, name: &str) -> bool {
        check_name(name).is_ok() && self.folder(name).join(MANIFEST).exists()
    }

    /// The folder of a checkpoint, after every file was found to be what was written.
    ///
    /// # Errors
    /// When there is no such checkpoint, or a file is missing, cut or changed.
    pub fn verified(&self, name: &str) -> Result<PathBuf> {
        if !self.contains(name) {
            let known: Vec<String> = self.list()?.into_iter().map(|info| info.name).collect();
            let known = if known.is_empty() { "none".into() } else { known.join(", ") };
            return Err(RememberError::NoCheckpoint { path: self.path.clone(), name: name.into(), known });
        }
        let folder = self.folder(name);
        for (file, record) in &read_manifest(&folder)?.files {
            let path = folder.join(file);
            let damaged = |reason: String| RememberError::Damaged {
                what: format!("checkpoint `{name}`"),
                path: path.clone(),
                reason,
                hint: "remove this checkpoint and resume from the one before it",
            };
            let bytes = fs::size(&path)?;
            if bytes != record.bytes {
                return Err(damaged(format!("{bytes} bytes where {} were written", record.bytes)));
            }
            if hash_file(&path)? != record.blake3 {
                return Err(damaged("its hash is not the one in the manifest".into()));
            }
        }
        Ok(folder)
    }

    /// Removes all but the newest `count` checkpoints; those named in `protected` stay and are not counted.
    /// Returns the names removed.
    ///
    /// # Errors
    /// When the folder cannot be listed or a checkpoint cannot be removed.
    pub fn keep_last(&self, count: usize, protected: &[&str]) -> Result<Vec<String>> {
        let mut candidates = self.list()?;
        candidates.retain(|info| !protected.contains(&info.name.as_str()));
        candidates.truncate(candidates.len().saturating_sub(count));
        let mut removed = Vec::new();
        for info in candidates {
            // Renamed first, so that a kill in the middle of the removal does not leave a half checkpoint.
            let trash = fs::partial_beside(&info.path);
            fs::rename(&info.path, &trash)?;
            fs::remove_dir_all(&trash)?;
            removed.push(info.name);
        }
        Ok(removed)
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// An unfinished folder; gone when dropped, unless it got its name before.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        // The next `open` removes what cannot be removed now.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn check_name(name: &str) -> Result<()> {
    let reason = if name.is_empty() {
        "it is empty"
    } else if name.len() > 128 {
        "it is longer than 128 characters"
    } else if name.starts_with('.') {
        "it begins with a dot"
    } else if !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')) {
        "it holds another character"
    } else {
        return Ok(());
    };
    let name = name.chars().take(60).collect();
    Err(RememberError::Name { what: "checkpoint name", name, reason, slashes: false })
}

fn read_manifest(folder: &Path) -> Result<Manifest> {
    let path = folder.join(MANIFEST);
    serde_json::from_slice(&fs::read(&path)?).map_err(|source| RememberError::Json {
        what: "manifest".into(),
        path,
        source,
        hint: "remove this checkpoint and resume from the one before it",
    })
}

fn hash_files(folder: &Path, below: &str, files: &mut BTreeMap<String, FileRecord>) -> Result<()> {
    for path in fs::list(folder)? {
        let name = format!("{below}{}", file_name(&path));
        if path.is_dir() {
            hash_files(&path, &format!("{name}/"), files)?;
        } else {
            let record = FileRecord { bytes: fs::size(&path)?, blake3: hash_file(&path)? };
            files.insert(name, record);
        }
    }
    Ok(())
}

fn hash_file(path: &Path) -> Result<String> {
    let mut file = fs::open(path)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finalize().to_hex().to_string()),
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(RememberError::io("read", path, source)),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoints() -> (tempfile::TempDir, Checkpoints) {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::open(folder.path().join("checkpoints")).unwrap();
        (folder, checkpoints)
    }

    fn commit(checkpoints: &Checkpoints, name: &str, text: &str) -> CheckpointInfo {
        checkpoints
            .commit(name, |folder| {
                fs::create_dir_all(folder.join("optimizer"))?;
                fs::write_atomic(folder.join("model.safetensors"), text.as_bytes())?;
                fs::write_atomic(folder.join("optimizer/state"), b"momentum")
            })
            .unwrap()
    }

    #[test]
    fn commits_are_listed_in_order_and_verified() {
        let (_folder, checkpoints) = checkpoints();
        commit(&checkpoints, "z-first", "one");
        let second = commit(&checkpoints, "a-second", "two!");
        let names: Vec<String> = checkpoints.list().unwrap().into_iter().map(|info| info.name).collect();
        assert_eq!(names, ["z-first", "a-second"], "the order is that of the commits, not of the names");
        assert_eq!(checkpoints.latest().unwrap(), Some(second.clone()));
        assert_eq!(second.bytes, 4 + 8);
        assert_eq!(checkpoints.verified("a-second").unwrap(), second.path);
    }

    #[test]
    fn failed_write_leaves_nothing_and_keeps_the_earlier() {
        let (_folder, checkpoints) = checkpoints();
        commit(&checkpoints, "c", "old");
        let failed = checkpoints.commit("c", |folder| {
            fs::write_atomic(folder.join("model.safetensors"), b"half")?;
            fs::read("/nowhere").map(drop)
        });
        assert!(failed.is_err());
        assert_eq!(fs::list(checkpoints.path()).unwrap().len(), 1, "nothing unfinished may stay");
        assert_eq!(fs::read(checkpoints.verified("c").unwrap().join("model.safetensors")).unwrap(), b"old");
        commit(&checkpoints, "c", "new");
        assert_eq!(fs::read(checkpoints.verified("c").unwrap().join("model.safetensors")).unwrap(), b"new");
    }

    #[test]
    fn opening_repairs_what_a_kill_left() {
        let (_folder, checkpoints) = checkpoints();
        commit(&checkpoints, "kept", "k");
        commit(&checkpoints, "half-replaced", "h");
        // Killed while writing, and between the two renames of a replacement.
        std::fs::create_dir(checkpoints.path().join(".partial-1-0-next")).unwrap();
        std::fs::rename(
            checkpoints.path().join("half-replaced"),
            checkpoints.path().join(".replaced-half-replaced"),
        )
        .unwrap();
        let again = Checkpoints::open(checkpoints.path()).unwrap();
        let names: Vec<String> = again.list().unwrap().into_iter().map(|info| info.name).collect();
        assert_eq!(names, ["kept", "half-replaced"]);
        assert_eq!(fs::list(again.path()).unwrap().len(), 2);
    }

    #[test]
    fn damage_is_found() {
        let (_folder, checkpoints) = checkpoints();
        let info = commit(&checkpoints, "c", "weights");
        std::fs::write(info.path.join("model.safetensors"), "weightz").unwrap();
        let error = checkpoints.verified("c").unwrap_err().to_string();
        assert!(error.contains("checkpoint `c`") && error.contains("hash"), "{error}");
        std::fs::write(info.path.join("model.safetensors"), "weig").unwrap();
        let error = checkpoints.verified("c").unwrap_err().to_string();
        assert!(error.contains("4 bytes where 7 were written"), "{error}");
        let error = checkpoints.verified("d").unwrap_err().to_string();
        assert!(error.contains("no checkpoint `d`") && error.contains("there are: c"), "{error}");
    }

    #[test]
    fn keep_last_removes_the_oldest_but_not_the_protected() {
        let (_folder, checkpoints) = checkpoints();
        for name in ["a", "b", "c", "d"] {
            commit(&checkpoints, name, name);
        }
        assert_eq!(checkpoints.keep_last(1, &["a"]).unwrap(), ["b", "c"]);
        let names: Vec<String> = checkpoints.list().unwrap().into_iter().map(|info| info.name).collect();
        assert_eq!(names, ["a", "d"]);
    }

    #[test]
    fn names_that_would_leave_the_folder_are_refused() {
        let (_folder, checkpoints) = checkpoints();
        for name in ["", "..", "a/b", ".hidden", "x y", "ä"] {
            let refused = checkpoints.commit(name, |_| Ok::<_, RememberError>(()));
            assert!(matches!(refused, Err(RememberError::Name { .. })), "{name}");
            assert!(!checkpoints.contains(name));
        }
    }
}
