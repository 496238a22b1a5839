//! Programs judged per second: `cargo bench -p elenchus-task --bench program`. Prints one JSON line per interpreter.
//!
//! The programs are the canonical solutions of generated problems (12 tests each), every second one spoilt, so that half
//! of them fail. One thread and two.

use elenchus_task::program::{ProgramSettings, ProgramTask, Runner, jail_layers, use_helper};
use elenchus_task::{Split, Task, TaskError};
use elenchus_trace::Problem;
use std::time::Instant;

/// Judges all replies on some threads; how many were right, and the seconds.
fn judge(
    task: &ProgramTask,
    jobs: &[(&Problem, String)],
    threads: usize,
) -> Result<(usize, f64), Box<dyn std::error::Error>> {
    let start = Instant::now();
    let part = |jobs: &[(&Problem, String)]| -> Result<usize, TaskError> {
        let mut right = 0;
        for (problem, reply) in jobs {
            right += usize::from(task.verify(problem, reply)?.is_correct());
        }
        Ok(right)
    };
    let mut right = 0;
    std::thread::scope(|scope| -> Result<(), Box<dyn std::error::Error>> {
        let running: Vec<_> =
            jobs.chunks(jobs.len().div_ceil(threads)).map(|jobs| scope.spawn(move || part(jobs))).collect();
        for thread in running {
            right += thread.join().map_err(|_| "a thread panicked")??;
        }
        Ok(())
    })?;
    Ok((right, start.elapsed().as_secs_f64()))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    use_helper(env!("CARGO_BIN_EXE_elenchus-helper"));
    for (runner, name, count) in [(Runner::Embedded, "embedded", 4_000), (Runner::Cpython, "cpython", 60)] {
        let settings = ProgramSettings { runner, operations: [1, 4], ..Default::default() };
        if runner == Runner::Cpython
            && let Err(error) = jail_layers(&settings)
        {
            eprintln!("skipped: {error}");
            continue;
        }
        let task = ProgramTask::open(settings)?;
        let problems = task.problems(Split::Train, 400, 1)?;
        let jobs: Vec<(&Problem, String)> = (0..count)
            .map(|index| {
                let problem = &problems[index % problems.len()];
                let gold = problem.gold.clone().unwrap_or_default();
                (problem, if index % 2 == 0 { gold } else { gold.replace("return ", "return 1, ") })
            })
            .collect();
        for threads in [1, 2] {
            // The best of three: the machine may be busy.
            let mut best = f64::INFINITY;
            for _ in 0..3 {
                let (right, seconds) = judge(&task, &jobs, threads)?;
                assert_eq!(right, count / 2, "every second program is right");
                best = best.min(seconds);
            }
            println!(
                "{{\"interpreter\":\"{name}\",\"threads\":{threads},\"programs\":{count},\"tests_each\":12,\"seconds\":{best:.3},\"programs_per_second\":{:.0}}}",
                count as f64 / best
            );
        }
    }
    Ok(())
}
