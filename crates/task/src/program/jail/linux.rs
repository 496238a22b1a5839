//! Entering the jail, in a process that has one thread and nothing to lose.

use super::{JailReport, JailRequest, filter};
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetStatus, Scope, path_beneath_rules,
};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{chdir, getgid, getuid, pivot_root};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The newest version of Landlock that is asked for; older kernels give what they have.
const LANDLOCK: ABI = ABI::V6;
/// Where programs may write, inside the jail.
const SCRATCH: &str = "/scratch";
/// User and group inside the jail.
const NOBODY: u32 = 65_534;

fn said(what: &str) -> impl Fn(Errno) -> String + '_ {
    move |error| format!("{what}: {}", error.desc())
}

/// Closes what the parent left open by mistake. To be called before this process has opened anything itself.
pub fn close_inherited() {
    for descriptor in 3..256 {
        // Most of these are not open.
        let _ = nix::unistd::close(descriptor);
    }
}

/// Confines this thread and everything that it starts to computing: no files, processes, network; `memory_bytes` more
/// than now.
pub fn confine_worker(memory_bytes: u64) -> Result<(), String> {
    let status =
        std::fs::read_to_string("/proc/self/status").map_err(|e| format!("/proc/self/status: {e}"))?;
    let now: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmData:")?.trim().strip_suffix("kB")?.trim().parse().ok())
        .ok_or("/proc/self/status does not say VmData")?;
    limit(Resource::RLIMIT_DATA, now * 1024 + memory_bytes)?;
    limit(Resource::RLIMIT_CORE, 0)?;
    limit(Resource::RLIMIT_FSIZE, 1 << 20)?;
    // Where the kernel knows no Landlock this does nothing; seccomp alone already leaves no call that opens anything.
    ruleset(&[], None)?.restrict_self().map_err(|error| format!("Landlock: {error}"))?;
    for program in filter::worker()? {
        seccompiler::apply_filter(&program).map_err(|error| format!("seccomp: {error}"))?;
    }
    Ok(())
}

fn limit(resource: Resource, most: u64) -> Result<(), String> {
    setrlimit(resource, most, most).map_err(said("a resource limit cannot be set"))
}

/// Runs a command in the jail and waits for it. `ready` is called when everything is in force, before the command
/// starts. Returns its exit status, or 128 + the number of the signal that ended it.
pub fn run_jailed(request: &JailRequest, ready: impl FnOnce(JailReport)) -> Result<i32, String> {
    // The jail does not outlive the one who waits for it.
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(said("PR_SET_PDEATHSIG"))?;
    let mut missing = Vec::new();
    let own_root = match request.layers.namespaces {
        true => own_root(request).map_err(|error| missing.push(format!("namespaces ({error})"))).is_ok(),
        false => false,
    };
    let scratch = if own_root { SCRATCH } else { &request.scratch };
    chdir(scratch).map_err(said("the scratch folder"))?;
    let mut rules = match request.layers.landlock {
        true => ruleset(&request.readable, Some(scratch))
            .and_then(|rules| supported().map(|()| rules))
            .map_err(|error| missing.push(format!("Landlock ({error})")))
            .ok(),
        false => None,
    };
    let report = JailReport { namespaces: own_root, landlock: rules.is_some() };
    if !report.namespaces && !report.landlock {
        return Err(format!(
            "the file system cannot be bounded: {}",
            if missing.is_empty() { "both layers are switched off".to_string() } else { missing.join("; ") }
        ));
    }
    let filters = filter::interpreter()?;
    let (memory, seconds, file) = (request.memory_bytes, request.cpu_seconds, request.file_bytes);
    let mut command = Command::new(&request.executable);
    command.args(&request.arguments).env_clear().envs([
        ("LANG", "C.UTF-8"),
        ("HOME", scratch),
        ("TMPDIR", scratch),
        // Sets print in the same order every time.
        ("PYTHONHASHSEED", "0"),
    ]);
    let enter = move || -> std::io::Result<()> {
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        setrlimit(Resource::RLIMIT_AS, memory, memory)?;
        // The first process of a namespace ignores the warning signal of the lower limit; the upper one kills.
        setrlimit(Resource::RLIMIT_CPU, seconds, seconds + 1)?;
        setrlimit(Resource::RLIMIT_FSIZE, file, file)?;
        setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
        setrlimit(Resource::RLIMIT_NOFILE, 64, 64)?;
        if own_root {
            // Elsewhere all processes of the user would count. Processes are refused by the filter in any case.
            setrlimit(Resource::RLIMIT_NPROC, 64, 64)?;
        }
        let failed = |_| std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        if let Some(rules) = rules.take() {
            let status = rules.restrict_self().map_err(|_| failed(()))?;
            if status.ruleset == RulesetStatus::NotEnforced {
                return Err(failed(()));
            }
        }
        for program in &filters {
            seccompiler::apply_filter(program).map_err(|_| failed(()))?;
        }
        Ok(())
    };
    // SAFETY: this process has a single thread (it was made for this call), so between fork and exec the child may
    // do whatever the parent could.
    unsafe {
        command.pre_exec(enter);
    }
    ready(report);
    let status =
        command.status().map_err(|error| format!("`{}` cannot be run: {error}", request.executable))?;
    // As shells do it: a signal sent to ourselves might be caught by what the Rust runtime installs.
    if let Some(signal) = status.signal() {
        return Ok(128 + signal);
    }
    Ok(status.code().unwrap_or(1))
}

/// Whether this kernel knows Landlock at all: a ruleset that must be enforced can be made.
fn supported() -> Result<(), String> {
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V1))
        .and_then(Ruleset::create)
        .map(drop)
        .map_err(|error| error.to_string())
}

fn ruleset(readable: &[String], scratch: Option<&str>) -> Result<RulesetCreated, String> {
    let say = |error: landlock::RulesetError| error.to_string();
    let reads: BitFlags<AccessFs> = AccessFs::from_read(LANDLOCK);
    let writes: BitFlags<AccessFs> = AccessFs::from_all(LANDLOCK) & !AccessFs::Execute;
    let all = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(LANDLOCK))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(LANDLOCK)))
        .and_then(|rules| rules.scope(Scope::from_all(LANDLOCK)))
        .and_then(Ruleset::create)
        .map_err(say)?;
    let existing = readable.iter().filter(|path| Path::new(path).exists());
    all.add_rules(path_beneath_rules(existing, reads))
        .and_then(|rules| rules.add_rules(path_beneath_rules(["/dev/null"], reads | AccessFs::WriteFile)))
        .and_then(|rules| rules.add_rules(path_beneath_rules(scratch, writes)))
        .map_err(say)
}

/// New namespaces, and a root folder in memory with the readable paths and a scratch folder in it.
fn own_root(request: &JailRequest) -> Result<(), String> {
    let (user, group) = (getuid(), getgid());
    let spaces = CloneFlags::CLONE_NEWUSER
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    unshare(spaces).map_err(said("unshare"))?;
    let write =
        |path: &str, text: String| std::fs::write(path, text).map_err(|error| format!("{path}: {error}"));
    write("/proc/self/setgroups", "deny".to_string())?;
    write("/proc/self/uid_map", format!("{NOBODY} {user} 1"))?;
    write("/proc/self/gid_map", format!("{NOBODY} {group} 1"))?;
    const NONE: Option<&str> = None;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).map_err(said("mount /"))?;
    let root = Path::new(&request.scratch);
    let plain = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), root, Some("tmpfs"), plain, Some("size=1m,mode=755"))
        .map_err(said("mount the root"))?;
    let inside = |path: &Path| -> PathBuf { root.join(path.strip_prefix("/").unwrap_or(path)) };
    for path in request.readable.iter().map(String::as_str).chain(["/dev/null"]) {
        let path = Path::new(path);
        let Ok(kind) = path.symlink_metadata() else { continue };
        let target = inside(path);
        let say = |error: std::io::Error| format!("{}: {error}", target.display());
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent).map_err(say)?;
        }
        if kind.is_symlink() {
            let leads_to = std::fs::read_link(path).map_err(say)?;
            std::os::unix::fs::symlink(leads_to, &target).map_err(say)?;
            continue;
        }
        match kind.is_dir() {
            true => std::fs::create_dir_all(&target).map_err(say)?,
            false => std::fs::write(&target, "").map_err(say)?,
        }
        mount(Some(path), &target, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE).map_err(said("bind"))?;
        if path != Path::new("/dev/null") {
            let again = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | plain;
            mount(NONE, &target, NONE, again, NONE).map_err(said("make read-only"))?;
        }
    }
    let scratch = inside(Path::new(SCRATCH));
    std::fs::create_dir_all(&scratch).map_err(|error| format!("the scratch folder: {error}"))?;
    let size = format!("size={},mode=700", request.file_bytes.saturating_mul(4));
    mount(Some("tmpfs"), &scratch, Some("tmpfs"), plain | MsFlags::MS_NOEXEC, Some(size.as_str()))
        .map_err(said("mount the scratch folder"))?;
    let again = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | plain;
    mount(NONE, root, NONE, again, NONE).map_err(said("make the root read-only"))?;
    chdir(root).map_err(said("chdir"))?;
    // Put on top of each other, the old root is taken off again.
    pivot_root(".", ".").map_err(said("pivot_root"))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(said("take the old root off"))?;
    chdir("/").map_err(said("chdir"))
}
