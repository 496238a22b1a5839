//! Images as `data:` addresses, and frames cut from a video by ffmpeg.

use crate::TaskError;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Largest image file that is sent, bytes.
const MOST_IMAGE_BYTES: u64 = 20 << 20;

fn wrong(path: &Path, problem: impl Into<String>, hint: &str) -> TaskError {
    TaskError::File { path: path.display().to_string(), problem: problem.into(), hint: hint.into() }
}

/// The address of an image: web and `data:` addresses as they are, a file as a `data:` address.
///
/// # Errors
/// The file cannot be read, is too large, or is no PNG, JPEG, WebP or GIF.
pub(super) fn address(written: &str, folder: &Path) -> Result<String, TaskError> {
    if ["data:", "http://", "https://"].iter().any(|scheme| written.starts_with(scheme)) {
        return Ok(written.to_string());
    }
    let path = folder.join(written);
    let size = std::fs::metadata(&path)
        .map_err(|error| {
            wrong(&path, format!("cannot be read: {error}"), "paths of images are relative to the JSONL file")
        })?
        .len();
    if size > MOST_IMAGE_BYTES {
        return Err(wrong(
            &path,
            format!("has {size} bytes"),
            "endpoints take images up to 20 MiB: make it smaller",
        ));
    }
    let bytes = std::fs::read(&path)
        .map_err(|error| wrong(&path, format!("cannot be read: {error}"), "check its permissions"))?;
    let kind = kind(&bytes).ok_or_else(|| {
        wrong(&path, "is no PNG, JPEG, WebP or GIF", "convert it, or give a page as an image")
    })?;
    Ok(format!("data:image/{kind};base64,{}", STANDARD.encode(bytes)))
}

/// By the first bytes, whatever the name says.
fn kind(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => Some("png"),
        [0xff, 0xd8, 0xff, ..] => Some("jpeg"),
        [b'G', b'I', b'F', b'8', ..] => Some("gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("webp"),
        _ => None,
    }
}

/// One frame of a video.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Frame {
    /// The image as a `data:` address.
    pub address: String,
    /// Seconds from and up to which it stands for.
    pub seconds: [f64; 2],
}

/// The programs that cut frames.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Programs {
    ffmpeg: PathBuf,
    ffprobe: PathBuf,
}

impl Programs {
    /// Those on the search path.
    ///
    /// # Errors
    /// One of them is not there.
    pub(super) fn on(search_path: Option<&OsStr>) -> Result<Self, TaskError> {
        let find = |name: &str| {
            let name = if cfg!(windows) { format!("{name}.exe") } else { name.to_string() };
            let found = search_path
                .into_iter()
                .flat_map(std::env::split_paths)
                .map(|folder| folder.join(&name))
                .find(|path| path.is_file());
            found.ok_or_else(|| TaskError::File {
                path: name,
                problem: "is not on the search path, and frames of a video are cut with it".into(),
                hint: "install ffmpeg (https://ffmpeg.org/download.html), or cut the frames yourself and name them in \
                       `images`"
                    .into(),
            })
        };
        Ok(Programs { ffmpeg: find("ffmpeg")?, ffprobe: find("ffprobe")? })
    }

    /// `count` frames, evenly over the whole video.
    ///
    /// # Errors
    /// The video is missing or cannot be read; the words of the program.
    pub(super) fn frames(&self, video: &Path, count: usize, width: usize) -> Result<Vec<Frame>, TaskError> {
        if !video.is_file() {
            return Err(wrong(video, "is no file", "paths of videos are relative to the JSONL file"));
        }
        let seconds = self.length(video)?;
        let folder = tempfile::tempdir().map_err(|error| {
            wrong(video, format!("no temporary folder: {error}"), "set `TMPDIR` to one that can be written")
        })?;
        let rate = count as f64 / seconds;
        let mut command = Command::new(&self.ffmpeg);
        command.args(["-nostdin", "-v", "error", "-protocol_whitelist", "file", "-i"]).arg(input(video));
        command.args([
            "-vf",
            &format!("fps={rate:.9},scale={width}:-2"),
            "-frames:v",
            &count.to_string(),
            "-q:v",
            "3",
        ]);
        command.arg(folder.path().join("%05d.jpg"));
        run(command, video)?;
        let mut frames = Vec::with_capacity(count);
        for place in 0..count {
            let name = format!("{:05}.jpg", place + 1);
            if !folder.path().join(&name).exists() {
                break;
            }
            let (from, each) = (place as f64 / rate, 1.0 / rate);
            frames.push(Frame { address: address(&name, folder.path())?, seconds: [from, from + each] });
        }
        if frames.is_empty() {
            return Err(wrong(video, "gave no frame", "is it a video that ffmpeg can read?"));
        }
        Ok(frames)
    }

    fn length(&self, video: &Path) -> Result<f64, TaskError> {
        let mut command = Command::new(&self.ffprobe);
        command.args(["-v", "error", "-protocol_whitelist", "file"]);
        command.args(["-show_entries", "format=duration", "-of", "default=noprint_wrappers=1:nokey=1"]);
        command.arg(input(video));
        let said = run(command, video)?;
        let seconds = said.trim().parse::<f64>().ok().filter(|seconds| seconds.is_finite() && *seconds > 0.0);
        seconds.ok_or_else(|| {
            wrong(video, format!("has no length (`{}`)", said.trim()), "is it a video that ffmpeg can read?")
        })
    }
}

/// A path that no program takes for an option or another protocol.
fn input(video: &Path) -> OsString {
    let mut address = OsString::from("file:");
    address.push(video);
    address
}

fn run(mut command: Command, video: &Path) -> Result<String, TaskError> {
    let hint = "run the program by hand to see what it says";
    let done = command.stdin(Stdio::null()).output().map_err(|error| {
        wrong(video, format!("`{}` cannot be started: {error}", command.get_program().display()), hint)
    })?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    let said = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("nothing");
    Err(wrong(video, format!("`{}` failed: {said}", command.get_program().display()), hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PNG: [u8; 6] = [0x89, b'P', b'N', b'G', 13, 10];

    #[test]
    fn files_become_addresses_by_their_content() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("page.jpg"), PNG).unwrap();
        std::fs::write(folder.path().join("text.png"), "hello").unwrap();
        let read = |name: &str| address(name, folder.path());
        assert_eq!(read("page.jpg").unwrap(), "data:image/png;base64,iVBORw0K", "not by its name");
        for kept in ["https://example.org/a.png", "data:image/png;base64,AAAA"] {
            assert_eq!(read(kept).unwrap(), kept);
        }
        for (name, what) in [("text.png", "is no PNG"), ("none.png", "cannot be read")] {
            let error = read(name).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(what) && error.contains("hint: "), "{error}");
        }
        assert_eq!(kind(b"RIFF0000WEBPVP8 "), Some("webp"));
        assert_eq!((kind(b"GIF89a"), kind(b"RIFF0000WAVE"), kind(b"")), (Some("gif"), None, None));
    }

    #[test]
    fn a_missing_program_is_named_with_a_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let error = Programs::on(Some(folder.path().as_os_str())).unwrap_err().to_string();
        assert!(
            error.contains("ffmpeg") && error.contains("install ffmpeg") && error.contains("`images`"),
            "{error}"
        );
        assert!(Programs::on(None).is_err());
    }

    #[cfg(unix)]
    fn program(folder: &Path, name: &str, script: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = folder.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Programs of the same names that note what they were told and write three small images.
    #[cfg(unix)]
    #[test]
    fn frames_are_asked_for_evenly_and_carry_their_times() {
        let folder = tempfile::tempdir().unwrap();
        let told = folder.path().join("told");
        program(folder.path(), "ffprobe", "echo 60.0");
        program(
            folder.path(),
            "ffmpeg",
            &format!(
                "echo \"$@\" > {}\nfor out; do :; done\nfor i in 1 2 3; do printf '\\377\\330\\377x' > \"$(dirname \"$out\")/0000$i.jpg\"; done",
                told.display()
            ),
        );
        let video = folder.path().join("-clip.mp4");
        std::fs::write(&video, "video").unwrap();
        let programs = Programs::on(Some(folder.path().as_os_str())).unwrap();
        let frames = programs.frames(&video, 3, 320).unwrap();
        assert_eq!(frames.len(), 3);
        assert!(frames.iter().all(|frame| frame.address.starts_with("data:image/jpeg;base64,/9j/")));
        assert_eq!(frames[1].seconds, [20.0, 40.0]);
        let told = std::fs::read_to_string(told).unwrap();
        assert!(told.contains("fps=0.050000000,scale=320:-2") && told.contains("-frames:v 3"), "{told}");
        assert!(told.contains("-i file:") && told.contains("-protocol_whitelist file"), "{told}");

        program(folder.path(), "ffmpeg", "echo 'moov atom not found' >&2; exit 1");
        let error = programs.frames(&video, 3, 320).unwrap_err().to_string();
        assert!(error.contains("moov atom not found") && error.contains("-clip.mp4"), "{error}");
        let error = programs.frames(&folder.path().join("none.mp4"), 3, 320).unwrap_err().to_string();
        assert!(error.contains("is no file"), "{error}");
    }
}
