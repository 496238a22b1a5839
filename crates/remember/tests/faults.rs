//! What was acknowledged survives: processes killed in the middle of writes, two processes on one run, full disks.
//!
//! Each test starts this very test binary again as a child that runs one `child_…` function, which does nothing
//! unless it is told a folder by the environment.

use elenchus_remember::{Checkpoints, RememberError, Run};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

const FOLDER: &str = "ELENCHUS_TEST_RUN_FOLDER";
/// Units of work of the run that is killed again and again.
const UNITS: usize = 120;

fn folder_from_environment() -> Option<PathBuf> {
    std::env::var_os(FOLDER).map(PathBuf::from)
}

#[expect(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]
fn this_binary() -> PathBuf {
    std::env::current_exe().unwrap()
}

fn child(name: &str, folder: &Path) -> Command {
    let mut command = Command::new(this_binary());
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]).env(FOLDER, folder);
    command.stdin(Stdio::null()).stderr(Stdio::null());
    command
}

/// A unit of work: a function of its index alone, as real ones are of configuration and seed.
fn unit(index: usize) -> Value {
    let text = (0..index % 40).fold(String::new(), |mut text, i| {
        let _ = write!(text, "{}=", (index * 31 + i * 17) % 97);
        text
    });
    json!({"index": index, "logprob": -(index as f64) / 7.0, "text": text})
}

/// Does what is not done yet and tells what is acknowledged.
fn work(folder: &Path, mut acknowledge: impl FnMut(&str)) -> Result<(), RememberError> {
    let run = Run::open_or_create(folder, &json!({"seed": 1}))?;
    for index in 0..UNITS {
        let key = format!("round/{}/unit/{index}", index / 40);
        let _: Value = run.journal().once(&key, || Ok::<_, RememberError>(unit(index)))?;
        acknowledge(&key);
        if index % 10 == 9 {
            run.metrics()
                .record(&format!("unit/{index}"), &json!({"unit": index, "mean": index as f64 / 3.0}))?;
        }
        if index % 30 == 29 {
            let name = format!("after-{index:03}");
            if !run.checkpoints().contains(&name) {
                run.checkpoints().commit(&name, |folder| {
                    elenchus_remember::fs::write_atomic(folder.join("weights"), &vec![index as u8; 100_000])
                })?;
                run.checkpoints().keep_last(2, &[])?;
            }
        }
    }
    Ok(())
}

/// Everything that a finished run says: entries of the journal, metrics, names of the checkpoints.
type RunResult = (Vec<(String, Vec<u8>)>, String, Vec<String>);

#[expect(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]
fn result_of(folder: &Path) -> RunResult {
    let run = Run::open(folder).unwrap();
    let entries: Vec<_> = run.journal().scan("").unwrap().into_iter().map(|e| (e.key, e.payload)).collect();
    let metrics = std::fs::read_to_string(run.metrics().path()).unwrap();
    let checkpoints = run.checkpoints().list().unwrap();
    for info in &checkpoints {
        run.checkpoints().verified(&info.name).unwrap();
    }
    (entries, metrics, checkpoints.into_iter().map(|info| info.name).collect())
}

#[test]
fn child_works() {
    if let Some(folder) = folder_from_environment() {
        work(&folder, |key| println!("acknowledged {key}")).unwrap();
    }
}

#[test]
fn child_holds_a_run() {
    if let Some(folder) = folder_from_environment() {
        let _run = Run::open(&folder).unwrap();
        println!("holding");
        std::thread::sleep(Duration::from_secs(60));
    }
}

#[test]
fn child_fills_the_disk() {
    let Some(folder) = folder_from_environment() else { return };
    // Not compressible, so that the file grows.
    let mut state = 1_u64;
    let mut noise = || -> Vec<u8> {
        (0..20_000)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            })
            .collect()
    };
    let run = Run::open(&folder).unwrap();
    for index in 0..1_000 {
        match run.journal().put_bytes(&format!("noise/{index}"), &noise()) {
            Ok(_) => println!("acknowledged {index}"),
            Err(error) => {
                println!("journal: {error}");
                break;
            }
        }
    }
    let large: Vec<u8> = (0..400).flat_map(|_| noise()).collect();
    let failed = run
        .checkpoints()
        .commit("large", |folder| elenchus_remember::fs::write_atomic(folder.join("weights"), &large));
    match failed {
        Ok(_) => println!("checkpoint: there was room"),
        Err(error) => println!("checkpoint: full={} {error}", error.is_disk_full()),
    }
}

#[expect(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]
fn lines(child: &mut Child) -> BufReader<ChildStdout> {
    BufReader::new(child.stdout.take().unwrap())
}

#[test]
fn killed_at_any_moment_nothing_acknowledged_is_lost_and_the_result_is_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let undisturbed = folder.path().join("undisturbed");
    work(&undisturbed, |_| ()).unwrap();
    let expected = result_of(&undisturbed);
    assert_eq!(expected.0.len(), UNITS + UNITS / 10);

    let disturbed = folder.path().join("disturbed");
    let (mut kills, mut acknowledged) = (0, std::collections::BTreeSet::new());
    for round in 0..60_u64 {
        let mut process = child("child_works", &disturbed).stdout(Stdio::piped()).spawn().unwrap();
        let reader = lines(&mut process);
        // Killed a little after some acknowledgements: within a journal write, a checkpoint, a metrics line, a start.
        let wait_for = (round * 7 % 12) as usize;
        let mut told = 0;
        let mut finished = true;
        for line in reader.lines().map_while(Result::ok) {
            if let Some((_, key)) = line.split_once("acknowledged ") {
                acknowledged.insert(key.to_string());
                told += 1;
            }
            // What is there already is told at once, so count only what is new.
            if told > wait_for && acknowledged.len() > kills * 6 {
                std::thread::sleep(Duration::from_micros(round * 137 % 3_000));
                process.kill().unwrap();
                finished = false;
                break;
            }
        }
        let status = process.wait().unwrap();
        let run = Run::open_read_only(&disturbed);
        if let Ok(run) = run {
            for key in &acknowledged {
                assert!(
                    run.journal().contains(key).unwrap(),
                    "{key} was acknowledged and is lost, round {round}"
                );
            }
        } else {
            assert!(acknowledged.is_empty(), "the run cannot be opened though it had begun");
        }
        if finished {
            assert!(status.success(), "the child failed by itself in round {round}");
            break;
        }
        kills += 1;
    }
    eprintln!("{kills} kills");
    assert!(kills >= 5, "only {kills} kills: the test does not test");
    work(&disturbed, |_| ()).unwrap();
    assert_eq!(result_of(&disturbed), expected, "after {kills} kills");
}

#[test]
fn a_checkpoint_killed_anywhere_is_whole_or_absent() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    for round in 0..12_u64 {
        let mut process = child("child_works", &path).stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(3 + round * 11));
        // It may have ended by itself, which is as good.
        let _ = process.kill();
        process.wait().unwrap();
        let checkpoints = Checkpoints::open(path.join("checkpoints")).unwrap();
        for info in checkpoints.list().unwrap() {
            checkpoints.verified(&info.name).unwrap();
        }
    }
}

#[test]
fn a_second_process_gets_one_clear_error_and_a_dead_one_frees_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    drop(Run::create(&path, &json!({})).unwrap());
    let mut holder = child("child_holds_a_run", &path).stdout(Stdio::piped()).spawn().unwrap();
    let held = lines(&mut holder).lines().map_while(Result::ok).any(|line| line.contains("holding"));
    assert!(held, "the child never opened the run");
    let error = Run::open(&path).unwrap_err().to_string();
    assert!(error.contains(&format!("in use by process {}", holder.id())), "{error}");
    assert!(Run::open_read_only(&path).is_ok(), "readers are let in");
    holder.kill().unwrap();
    holder.wait().unwrap();
    let start = Instant::now();
    Run::open(&path).unwrap();
    assert!(start.elapsed() < Duration::from_secs(5), "a killed process must not leave a lock");
}

/// What the filling child and the counting child print, run by a shell script.
#[expect(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]
fn fill(script: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let output = Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(this_binary())
        .env(FOLDER, &path)
        .env("ELENCHUS_TEST_MOUNT", folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("checkpoint: "), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

const RUN_CHILD: &str = "exec \"$1\" --exact child_fills_the_disk --nocapture --test-threads=1";
const MAKE_RUN: &str = "\"$1\" --exact child_makes_a_run --nocapture --test-threads=1 >/dev/null";

#[test]
fn child_makes_a_run() {
    if let Some(folder) = folder_from_environment() {
        drop(Run::create(folder, &json!({})).unwrap());
    }
}

#[test]
fn child_counts_the_noise() {
    if let Some(folder) = folder_from_environment() {
        let run = Run::open_read_only(folder).unwrap();
        println!("kept {}", run.journal().count("noise").unwrap());
        println!("checkpoints {}", run.checkpoints().list().unwrap().len());
    }
}

fn assert_full_disk_lost_nothing(text: &str) {
    let acknowledged = text.matches("acknowledged ").count();
    assert!(acknowledged >= 3, "{text}");
    assert!(text.contains(&format!("kept {acknowledged}\n")), "what was acknowledged must be there: {text}");
    assert!(text.contains("checkpoints 0\n"), "half a checkpoint must not be listed: {text}");
    assert!(text.contains("checkpoint: full=true cannot write `"), "{text}");
    assert!(text.contains("hint: free some space, then `elenchus resume` the run"), "{text}");
    assert!(text.contains("journal: cannot write in `") && text.contains("journal.sqlite`"), "{text}");
}

/// A script that makes a run, fills the disk, and counts what is there: with the signal ignored, writes beyond the limit
/// fail as on a full disk, and that needs no right that anybody lacks. `ulimit -f` counts blocks of 512 or 1024 bytes.
fn by_a_limit() -> String {
    let count = RUN_CHILD.replace("exec ", "").replace("child_fills_the_disk", "child_counts_the_noise");
    let fill_it = RUN_CHILD.replace("exec ", "");
    format!("{MAKE_RUN} && (trap '' XFSZ; ulimit -f 400 && {fill_it}); {count}")
}

#[test]
fn a_full_disk_is_told_and_loses_nothing() {
    // In a mount namespace of its own, so that nothing stays mounted however this ends: with the right to mount, or as the
    // user that is root in a user namespace. Where the system allows neither, by a limit.
    let count = RUN_CHILD.replace("exec ", "").replace("child_fills_the_disk", "child_counts_the_noise");
    let fill_it = RUN_CHILD.replace("exec ", "");
    let mount = "mount -t tmpfs -o size=2m tmpfs \"$ELENCHUS_TEST_MOUNT\"";
    let script = format!(
        "for inside in 'unshare -m' 'unshare -rm'; do
            $inside sh -c '{mount}' 2>/dev/null || continue
            exec $inside sh -c '{mount} && {MAKE_RUN} && {fill_it}; {count}' sh \"$1\"
        done
        {}",
        by_a_limit()
    );
    assert_full_disk_lost_nothing(&fill(&script));
}

#[test]
fn a_file_size_limit_is_told_and_loses_nothing() {
    assert_full_disk_lost_nothing(&fill(&by_a_limit()));
}
