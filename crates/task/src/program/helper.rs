//! The process in which programs run, and how it is started.
//!
//! It is this very program once more: a `main` that calls [`serve_when_asked`] first (as `elenchus` does) turns into a
//! helper when it is started as one. A program that cannot (an extension module, a test) finds the `elenchus` or
//! `elenchus-helper` command, or is told where one is.

use super::embedded;
use super::jail::{self, JailRequest, Layers};
use super::wire::{self, Frame};
use crate::TaskError;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Set in the environment of a helper.
const ASKED: &str = "ELENCHUS_HELPER_ASKED";
/// Environment variable with the path of a helper command.
pub const HELPER_VARIABLE: &str = "ELENCHUS_HELPER";
static HELPER: OnceLock<PathBuf> = OnceLock::new();

/// What a helper is started for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Role {
    /// Answers jobs with the embedded interpreter until nobody asks any more.
    Embedded {
        /// Bytes that programs may use.
        memory_bytes: u64,
    },
    /// Becomes a jail and runs one command in it.
    Jail(JailRequest),
}

/// Turns this process into a helper when it was started as one (and then does not return); otherwise only notes that
/// this executable can be used as a helper. Call it first in `main`.
pub fn serve_when_asked() {
    if std::env::var_os(ASKED).is_none() {
        if let Ok(path) = std::env::current_exe() {
            let _ = HELPER.set(path);
        }
        return;
    }
    let code = match serve() {
        Ok(code) => code,
        Err(problem) => {
            // Nobody listens any more when this cannot be said.
            if let Ok(mut channel) = channel() {
                let _ = wire::write(&mut channel, b'!', problem.as_bytes());
            }
            1
        }
    };
    std::process::exit(code);
}

/// Names the executable that serves as helper: one whose `main` begins with [`serve_when_asked`]. Only the first call
/// of this or of [`serve_when_asked`] counts.
pub fn use_helper(path: impl Into<PathBuf>) {
    let _ = HELPER.set(path.into());
}

/// The socket to the one who asked. Plain reads and writes, because those are the calls that stay allowed.
fn channel() -> Result<File, String> {
    use std::os::fd::AsFd;
    let owned = std::io::stdin().as_fd().try_clone_to_owned().map_err(|error| format!("stdin: {error}"))?;
    Ok(File::from(owned))
}

fn serve() -> Result<i32, String> {
    jail::close_inherited();
    let mut channel = channel()?;
    let asked = wire::read(&mut channel).map_err(|error| format!("no request: {error}"))?;
    let role: Role = serde_json::from_slice(&asked.payload).map_err(|error| format!("request: {error}"))?;
    match role {
        Role::Embedded { memory_bytes } => embedded::serve(channel, memory_bytes),
        Role::Jail(request) => jail::run_jailed(&request, |report| {
            let said = serde_json::to_vec(&report).unwrap_or_default();
            let _ = wire::write(&mut channel, b'J', &said);
        }),
    }
}

/// An error of the machinery that runs programs, never of a program.
pub(super) fn broken(problem: impl Into<String>, hint: &str) -> TaskError {
    TaskError::Sandbox { problem: problem.into(), hint: hint.to_string() }
}

fn executable() -> Result<PathBuf, TaskError> {
    if let Some(path) = std::env::var_os(HELPER_VARIABLE) {
        return Ok(PathBuf::from(path));
    }
    if let Some(path) = HELPER.get() {
        return Ok(path.clone());
    }
    let beside = std::env::current_exe().ok().and_then(|path| path.parent().map(PathBuf::from));
    let folders = std::env::var_os("PATH").unwrap_or_default();
    beside
        .into_iter()
        .chain(std::env::split_paths(&folders))
        .flat_map(|folder| ["elenchus", "elenchus-helper"].map(|name| folder.join(name)))
        .find(|path| path.is_file())
        .ok_or_else(|| {
            broken(
                "no helper to run programs in",
                "begin `main` with `elenchus_task::program::serve_when_asked()`, put `elenchus` on the PATH, or name it \
                 in ELENCHUS_HELPER",
            )
        })
}

/// Why a helper said nothing.
#[derive(Debug)]
pub(super) enum Silence {
    /// The deadline passed; the helper has been killed.
    Deadline,
    /// It ended, with this status.
    Ended(ExitStatus),
    /// It said more than [`wire::MOST_BYTES`], or no frame.
    Nonsense(String),
}

/// A running helper. Dropping it ends its whole process group.
#[derive(Debug)]
pub(super) struct Helper {
    process: std::process::Child,
    channel: UnixStream,
    output: File,
    /// A folder that belongs to it.
    _scratch: Option<Scratch>,
}

impl Helper {
    /// Starts a helper and gives it its role.
    pub fn start(role: &Role, scratch: Option<Scratch>) -> Result<Self, TaskError> {
        let path = executable()?;
        let wrong = |what: &str, error: std::io::Error| {
            broken(format!("{what}: {error}"), "is the machine out of memory, processes or descriptors?")
        };
        let (channel, theirs) = UnixStream::pair().map_err(|error| wrong("no socket", error))?;
        let output = output_file().map_err(|error| wrong("no place for output", error))?;
        let streams = (output.try_clone(), output.try_clone());
        let (Ok(stdout), Ok(stderr)) = streams else {
            return Err(broken("no descriptor left", "close files"));
        };
        let process = Command::new(&path)
            .env_clear()
            .env(ASKED, "1")
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(stdout))
            .stderr(Stdio::from(stderr))
            .process_group(0)
            .spawn()
            .map_err(|error| wrong(&format!("`{}` cannot be started", path.display()), error))?;
        let mut helper = Helper { process, channel, output, _scratch: scratch };
        let role = serde_json::to_vec(role).map_err(|error| broken(error.to_string(), "report this"))?;
        helper.send(b'!', &role);
        Ok(helper)
    }

    /// Sends a frame. A helper that is gone shows when it is listened to.
    pub fn send(&mut self, kind: u8, payload: &[u8]) {
        // A program that does not read must not hold us up for ever.
        let _ = self.channel.set_write_timeout(Some(Duration::from_secs(10)));
        let _ = wire::write(&mut self.channel, kind, payload);
    }

    /// The next frame, or why there is none.
    pub fn receive(&mut self, deadline: Instant) -> Result<Frame, Silence> {
        let mut reader = Until { channel: &self.channel, deadline };
        match wire::read(&mut reader) {
            Ok(frame) => Ok(frame),
            Err(error) => match error.kind() {
                ErrorKind::TimedOut | ErrorKind::WouldBlock => {
                    self.kill();
                    Err(Silence::Deadline)
                }
                ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                    match self.wait(deadline) {
                        Some(status) => Err(Silence::Ended(status)),
                        None => {
                            self.kill();
                            Err(Silence::Deadline)
                        }
                    }
                }
                _ => {
                    self.kill();
                    Err(Silence::Nonsense(error.to_string()))
                }
            },
        }
    }

    /// What it wrote to its standard output and error, the last 2,000 bytes.
    pub fn said(&mut self) -> String {
        let mut text = Vec::new();
        let end = self.output.seek(SeekFrom::End(0)).unwrap_or(0);
        let _ = self.output.seek(SeekFrom::Start(end.saturating_sub(2_000)));
        let _ = self.output.read_to_end(&mut text);
        String::from_utf8_lossy(&text).trim().to_string()
    }

    fn wait(&mut self, deadline: Instant) -> Option<ExitStatus> {
        loop {
            match self.process.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(1)),
                _ => return None,
            }
        }
    }

    /// Ends the process and its whole group, and waits until it is gone.
    fn kill(&mut self) {
        #[cfg(target_os = "linux")]
        if let Ok(None) = self.process.try_wait()
            && let Ok(group) = i32::try_from(self.process.id())
        {
            // Its number is still its own: it has not been waited for.
            let _ = nix::sys::signal::killpg(
                nix::unistd::Pid::from_raw(group),
                nix::sys::signal::Signal::SIGKILL,
            );
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
        // The other end closes when the last process of the jail is gone.
        let mut rest = Until { channel: &self.channel, deadline: Instant::now() + Duration::from_secs(5) };
        let mut buffer = [0; 4096];
        while rest.read(&mut buffer).is_ok_and(|count| count > 0) {}
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Reads with one deadline for all pieces.
struct Until<'a> {
    channel: &'a UnixStream,
    deadline: Instant,
}

impl Read for Until<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        self.channel.set_read_timeout(Some(left))?;
        let mut channel = self.channel;
        channel.read(buffer)
    }
}

/// A file in memory that both ends have.
#[cfg(target_os = "linux")]
fn output_file() -> std::io::Result<File> {
    let file = nix::sys::memfd::memfd_create(c"elenchus-output", nix::sys::memfd::MFdFlags::MFD_CLOEXEC)?;
    Ok(File::from(file))
}

#[cfg(not(target_os = "linux"))]
fn output_file() -> std::io::Result<File> {
    Err(std::io::Error::other("programs are run on Linux only"))
}

/// A new empty folder that is removed when it is dropped.
#[derive(Debug)]
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Result<Self, TaskError> {
        use std::sync::atomic::{AtomicU64, Ordering};
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let parent = std::env::temp_dir();
        // A name that is taken, by whomever, is passed over: the folder must be new.
        for _ in 0..1_000 {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = parent.join(format!("elenchus-jail-{}-{count}", std::process::id()));
            let mut builder = std::fs::DirBuilder::new();
            std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
            match builder.create(&path) {
                Ok(()) => return Ok(Scratch(path)),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(broken(
                        format!("no scratch folder in {}: {error}", parent.display()),
                        "set TMPDIR to a folder that can be written",
                    ));
                }
            }
        }
        Err(broken(
            format!("no scratch folder in {}", parent.display()),
            "remove old folders `elenchus-jail-*`",
        ))
    }

    pub fn path(&self) -> &std::path::Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The layers and limits of a jail that a caller chose.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bounds {
    pub seconds: f64,
    pub memory_bytes: u64,
    pub output_bytes: u64,
    pub layers: Layers,
}
