//! Files of rows, plain or gzip, through every reader.

#![no_main]

use elenchus_remember::data::{
    JsonlOptions, JsonlReader, JsonlRows, PreferenceRow, PromptCompletionRow, UnpairedPreferenceRow,
};
use elenchus_task::{choice, math::MathTask};
use elenchus_trace::{JudgementRow, PairRow, SampleRow, Trace};
use libfuzzer_sys::fuzz_target;
use serde::de::DeserializeOwned;
use std::io::Cursor;

fn rows<T: DeserializeOwned>(data: &[u8], skip_bad_lines: bool) -> Option<JsonlRows<T>> {
    let options =
        JsonlOptions { skip_bad_lines, allow_empty: true, max_line_bytes: 1 << 16, max_total_bytes: 1 << 20 };
    JsonlReader::new(Cursor::new(data.to_vec()), "fuzz.jsonl", &options).ok()?.read_all().ok()
}

/// What is read without a broken line is read the same when broken lines may be left out.
fn check<T: DeserializeOwned>(data: &[u8]) {
    let lenient = rows::<T>(data, true);
    if let Some(strict) = rows::<T>(data, false) {
        let lenient = lenient.as_ref().map(|rows| (&rows.line_numbers, rows.skipped_count));
        assert_eq!(lenient, Some((&strict.line_numbers, 0)), "the same file, read twice");
    }
}

fuzz_target!(|data: &[u8]| {
    check::<SampleRow>(data);
    check::<PairRow>(data);
    check::<JudgementRow>(data);
    check::<Trace>(data);
    check::<PromptCompletionRow>(data);
    check::<PreferenceRow>(data);
    check::<UnpairedPreferenceRow>(data);
    let _ = MathTask::from_reader("fuzz.jsonl", Cursor::new(data));
    if let Ok(text) = std::str::from_utf8(data) {
        for skip in [false, true] {
            let _ = choice::read_rows(text, "fuzz.jsonl", "choice", skip);
        }
    }
});
