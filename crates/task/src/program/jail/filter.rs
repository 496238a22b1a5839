//! The system calls that a jailed process may make.

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Compare, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};
use std::collections::BTreeMap;

/// Calls of a process that only computes and speaks on descriptors that it already has.
const COMPUTE: &[i64] = &[
    libc::SYS_brk,
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_gettimeofday,
    libc::SYS_madvise,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_sigaltstack,
    libc::SYS_write,
    libc::SYS_writev,
];

/// What an interpreter needs besides: files, threads, clocks, facts about itself.
const INTERPRETER: &[i64] = &[
    libc::SYS_chdir,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_copy_file_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_execve,
    libc::SYS_faccessat,
    libc::SYS_fadvise64,
    libc::SYS_fallocate,
    libc::SYS_fchdir,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fcntl,
    libc::SYS_fdatasync,
    libc::SYS_flock,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getgroups,
    libc::SYS_getitimer,
    libc::SYS_getpgid,
    libc::SYS_getppid,
    libc::SYS_getresgid,
    libc::SYS_getresuid,
    libc::SYS_getrusage,
    libc::SYS_getsid,
    libc::SYS_getuid,
    libc::SYS_linkat,
    libc::SYS_lseek,
    libc::SYS_membarrier,
    libc::SYS_mincore,
    libc::SYS_mkdirat,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_pipe2,
    libc::SYS_ppoll,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_pselect6,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_readlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_rseq,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sendfile,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_setitimer,
    libc::SYS_statfs,
    libc::SYS_statx,
    libc::SYS_symlinkat,
    libc::SYS_sysinfo,
    libc::SYS_times,
    libc::SYS_truncate,
    libc::SYS_umask,
    libc::SYS_uname,
    libc::SYS_unlinkat,
    libc::SYS_utimensat,
    libc::SYS_wait4,
];

/// Older forms of the same calls that only this architecture has.
#[cfg(target_arch = "x86_64")]
const OLDER: &[i64] = &[
    libc::SYS_access,
    libc::SYS_alarm,
    libc::SYS_arch_prctl,
    libc::SYS_chmod,
    libc::SYS_dup2,
    libc::SYS_getpgrp,
    libc::SYS_link,
    libc::SYS_lstat,
    libc::SYS_mkdir,
    libc::SYS_open,
    libc::SYS_pause,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_rename,
    libc::SYS_rmdir,
    libc::SYS_select,
    libc::SYS_stat,
    libc::SYS_symlink,
    libc::SYS_time,
    libc::SYS_unlink,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[i64] = &[];

fn target() -> Result<TargetArch, String> {
    TargetArch::try_from(std::env::consts::ARCH)
        .map_err(|_| format!("system calls cannot be filtered on `{}`", std::env::consts::ARCH))
}

fn program(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<BpfProgram, String> {
    SeccompFilter::new(rules, otherwise, matched, target()?)
        .and_then(BpfProgram::try_from)
        .map_err(|error| format!("the filter of system calls cannot be made: {error}"))
}

fn refuse(error: i32) -> SeccompAction {
    SeccompAction::Errno(error.unsigned_abs())
}

fn condition(argument: u8, length: Length, compare: Compare, value: u64) -> Result<SeccompCondition, String> {
    SeccompCondition::new(argument, length, compare, value)
        .map_err(|error| format!("the filter of system calls cannot be made: {error}"))
}

fn rule(conditions: Vec<SeccompCondition>) -> Result<SeccompRule, String> {
    SeccompRule::new(conditions)
        .map_err(|error| format!("the filter of system calls cannot be made: {error}"))
}

/// For the embedded interpreter: no file, no process, no thread.
pub fn worker() -> Result<Vec<BpfProgram>, String> {
    let rules = COMPUTE.iter().map(|call| (*call, Vec::new())).collect();
    Ok(vec![program(rules, refuse(libc::EPERM), SeccompAction::Allow)?])
}

/// For an interpreter in a process of its own.
pub fn interpreter() -> Result<Vec<BpfProgram>, String> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        COMPUTE.iter().chain(INTERPRETER).chain(OLDER).map(|call| (*call, Vec::new())).collect();
    // Threads, no processes.
    let thread = u64::from(libc::CLONE_THREAD.unsigned_abs());
    let threads = condition(0, Length::Qword, Compare::MaskedEq(thread), thread)?;
    rules.insert(libc::SYS_clone, vec![rule(vec![threads])?]);
    // Limits may be asked for, not set.
    let asks =
        vec![condition(0, Length::Dword, Compare::Eq, 0)?, condition(2, Length::Qword, Compare::Eq, 0)?];
    rules.insert(libc::SYS_prlimit64, vec![rule(asks)?]);
    // Is this a terminal; close on exec.
    let mut requests = Vec::new();
    for request in [libc::TCGETS, libc::FIOCLEX, libc::FIONCLEX, libc::FIONBIO, libc::FIONREAD] {
        requests.push(rule(vec![condition(1, Length::Dword, Compare::Eq, request)?])?);
    }
    rules.insert(libc::SYS_ioctl, requests);
    // The arguments of these lie in memory, where no filter looks; the C library falls back to the older calls.
    let unknown = [libc::SYS_clone3, libc::SYS_faccessat2, libc::SYS_openat2].map(|call| (call, Vec::new()));
    // Of two refusals the kernel takes that of the later filter, so the second one has to let these pass; and it must
    // be the second, because it does not let a filter be installed.
    rules.extend(unknown.clone());
    Ok(vec![
        program(BTreeMap::from(unknown), SeccompAction::Allow, refuse(libc::ENOSYS))?,
        program(rules, refuse(libc::EPERM), SeccompAction::Allow)?,
    ])
}
