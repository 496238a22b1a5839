//! Selection among the recorded samples of many questions, on all processors.

use crate::{ControlError, RecordedChoice, RecordedSettings, select_recorded};
use elenchus_task::Task;
use elenchus_trace::{Problem, SampleRow};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Questions that a thread takes at a time.
const ROWS_AT_ONCE: usize = 128;

/// [`select_recorded`] for all rows by the rules of a task, on all processors; results stand in the order of the rows.
///
/// Errors: that of the first row that has one.
pub fn select_all(
    rows: &[SampleRow],
    settings: &RecordedSettings,
    task: &dyn Task,
) -> Result<Vec<RecordedChoice>, ControlError> {
    let select = |row: &SampleRow| {
        let mut problem = Problem::new(&row.id, task.name(), &row.question);
        problem.gold.clone_from(&row.gold);
        let extract = |text: &str| task.extract(&problem, text);
        select_recorded(row, settings, extract, |left, right| task.equivalent(&problem, left, right))
    };
    let blocks: Vec<&[SampleRow]> = rows.chunks(ROWS_AT_ONCE).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(block) = blocks.get(place) else { return done };
            let found: Result<Vec<_>, _> = block.iter().map(select).collect();
            let failed = found.is_err();
            done.push((place, found));
            if failed {
                return done;
            }
        }
    };
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let mut done = std::thread::scope(|scope| {
        let others: Vec<_> = (1..processors.min(blocks.len())).map(|_| scope.spawn(work)).collect();
        let mut done = work();
        for thread in others {
            match thread.join() {
                Ok(more) => done.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        done
    });
    done.sort_by_key(|(place, _)| *place);
    let mut choices = Vec::with_capacity(rows.len());
    for (_, found) in done {
        choices.extend(found?);
    }
    Ok(choices)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RecordedMethod;
    use serde_json::json;

    fn row() -> SampleRow {
        let samples = json!([
            {"text": "x#8", "certainty": 9}, {"text": "x#8", "certainty": 8}, {"text": "x#7", "certainty": 3},
            {"text": "x#7", "certainty": 2}, {"text": "x#7", "certainty": 1}
        ]);
        serde_json::from_value(json!({"id": 1, "question": "q", "gold": "7", "samples": samples})).unwrap()
    }

    fn borda() -> RecordedSettings {
        RecordedSettings::new(RecordedMethod::Borda)
    }

    #[test]
    fn all_rows_on_all_processors_are_the_rows_one_by_one() {
        let task = elenchus_task::task("math", &serde_json::Value::Null).unwrap();
        let rows: Vec<SampleRow> = (0..1000)
            .map(|i| {
                let mut row = row();
                row.id = format!("q{i}");
                row.samples.rotate_left(i % 5);
                row
            })
            .collect();
        let found = select_all(&rows, &borda(), task.as_ref()).unwrap();
        assert_eq!(found.len(), rows.len());
        for (row, found) in rows.iter().zip(&found) {
            let equal = |a: &str, b: &str| task.equivalent(&Problem::new("", "math", ""), a, b);
            let extract = |text: &str| task.extract(&Problem::new("", "math", ""), text);
            assert_eq!(*found, select_recorded(row, &borda(), extract, equal).unwrap());
        }
        let mut broken = rows;
        for at in [700, 300] {
            broken[at].samples.iter_mut().for_each(|sample| sample.certainty = None);
        }
        let error = select_all(&broken, &borda(), task.as_ref()).unwrap_err().to_string();
        assert!(error.contains("q300"), "the first row with an error is named: {error}");
        assert!(select_all(&[], &borda(), task.as_ref()).unwrap().is_empty());
    }
}
