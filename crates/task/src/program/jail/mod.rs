//! What a helper process does to itself before anything that is not trusted runs in it. Linux only.
//!
//! Layers, from the outside in:
//! 1. namespaces (user, mount, PID, network, IPC, host name): a file system of its own that holds the interpreter and its
//!    libraries read-only and an empty scratch folder in memory; no other process to be seen; no network device;
//! 2. resource limits: memory, CPU time, size of files (and so of output), descriptors, no core dumps;
//! 3. Landlock: the same paths once more, no TCP, no signals to processes outside;
//! 4. seccomp: a list of allowed system calls; no sockets, no new processes (threads only), no signals to others, no
//!    tracing, no mounting. Everything else fails with `EPERM`.
//!
//! The least that is accepted: resource limits, seccomp, and the file system bounded by a mount namespace *or* by
//! Landlock (Linux 5.13). With less, nothing is run and the error says what is missing.

#[cfg(target_os = "linux")]
mod filter;
#[cfg(target_os = "linux")]
mod linux;

#[cfg(target_os = "linux")]
pub(super) use linux::{close_inherited, confine_worker, run_jailed};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which optional layers are tried. Both are, unless one of them misbehaves on a machine; at least one must work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Layers {
    /// Linux namespaces.
    pub namespaces: bool,
    /// Landlock.
    pub landlock: bool,
}

impl Default for Layers {
    fn default() -> Self {
        Layers { namespaces: true, landlock: true }
    }
}

/// What a jail is asked to run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct JailRequest {
    /// The interpreter.
    pub executable: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Files and folders that may be read and executed.
    pub readable: Vec<String>,
    /// An empty folder of the host, removed afterwards: where the new root is mounted, or the scratch folder itself.
    pub scratch: String,
    /// Bytes of address space.
    pub memory_bytes: u64,
    /// Seconds of CPU time, rounded up.
    pub cpu_seconds: u64,
    /// Bytes of a file, and of the output.
    pub file_bytes: u64,
    /// Optional layers.
    pub layers: Layers,
}

/// The layers that are in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct JailReport {
    pub namespaces: bool,
    pub landlock: bool,
}

#[cfg(not(target_os = "linux"))]
mod elsewhere {
    use super::JailRequest;

    const MISSING: &str =
        "programs are run on Linux only: the jail is made of namespaces, seccomp and Landlock";

    pub fn close_inherited() {}

    pub fn confine_worker(_memory_bytes: u64) -> Result<(), String> {
        Err(MISSING.to_string())
    }

    pub fn run_jailed(_request: &JailRequest, _ready: impl FnOnce(super::JailReport)) -> Result<i32, String> {
        Err(MISSING.to_string())
    }
}
#[cfg(not(target_os = "linux"))]
pub(super) use elsewhere::{close_inherited, confine_worker, run_jailed};
