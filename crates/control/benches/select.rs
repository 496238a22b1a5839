//! Selection among a million recorded samples: `cargo bench -p elenchus-control --bench select`. Prints one JSON line per
//! method: seconds without reading the file.
//!
//! With `-- --write FILE` it writes the samples as `samples.jsonl` instead, for `elenchus select FILE --method rpc`, which
//! reads them too. The samples are invented: 64 to a question, short whole numbers as answers, right ones somewhat more
//! probable, two in a hundred without an answer.

use elenchus_control::{RecordedMethod, RecordedSettings, select_all};
use elenchus_trace::{Sample, SampleRow};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::io::Write;
use std::time::Instant;

const SAMPLES: usize = 1_000_000;
const PER_QUESTION: usize = 64;

fn rows() -> Vec<SampleRow> {
    let random = &mut ChaCha8Rng::seed_from_u64(1);
    (0..SAMPLES.div_ceil(PER_QUESTION))
        .map(|question| {
            let gold: i64 = random.random_range(1..1000);
            let skill = random.random::<f64>();
            let count = PER_QUESTION.min(SAMPLES - question * PER_QUESTION);
            let samples = (0..count)
                .map(|_| {
                    let right = random.random_bool(skill);
                    let answer = if right { gold } else { (gold + random.random_range(-15..=15)).max(0) };
                    let scale = if right { 0.12 } else { 0.25 };
                    let logprob = -0.02 + scale * (1.0 - random.random::<f64>()).ln();
                    Sample {
                        text: format!("step {} gives {answer}", random.random_range(0..100_000)),
                        answer: random.random_bool(0.98).then(|| answer.to_string()),
                        mean_logprob: Some(logprob),
                        certainty: Some(0.6 + 0.1 * random.random::<f64>() + if right { 0.1 } else { 0.0 }),
                        ..Sample::default()
                    }
                })
                .collect();
            SampleRow {
                id: format!("q{question}"),
                question: format!("What is question {question}?"),
                gold: Some(gold.to_string()),
                samples,
                extra: serde_json::Map::new(),
            }
        })
        .collect()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let rows = rows();
    let mut arguments = std::env::args().skip_while(|argument| argument != "--write").skip(1);
    if let Some(path) = arguments.next() {
        let mut file = std::io::BufWriter::new(std::fs::File::create(&path)?);
        for row in &rows {
            serde_json::to_writer(&mut file, row)?;
            file.write_all(b"\n")?;
        }
        return Ok(());
    }
    let task = elenchus_task::task("math", &serde_json::Value::Null)?;
    for method in ["self-consistency", "borda", "perplexity-consistency", "rpc"] {
        let settings = RecordedSettings::new(RecordedMethod::named(method)?);
        let start = Instant::now();
        let choices = select_all(&rows, &settings, task.as_ref())?;
        let seconds = start.elapsed().as_secs_f64();
        let right = choices.iter().filter(|choice| choice.correct == Some(true)).count();
        println!(
            "{{\"method\":\"{method}\",\"samples\":{SAMPLES},\"questions\":{},\"right\":{right},\"seconds\":{seconds:.2}}}",
            choices.len()
        );
    }
    Ok(())
}
