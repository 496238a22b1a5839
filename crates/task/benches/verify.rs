//! Pairs of answers decided per second, over a `pairs.jsonl` file: `cargo bench -p elenchus-task --bench verify -- FILE`.
//!
//! Without a file it reads the real pairs of the shared data. Prints one JSON line; `benches/peers/verify_peer.py` runs
//! HF Math-Verify on the same file and divides.

use elenchus_task::math::{Options, equivalent};
use elenchus_trace::PairRow;
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/peer_math_verdicts/pairs.jsonl");
    let path = std::env::args().skip(1).find(|a| !a.starts_with("--")).unwrap_or_else(|| default.into());
    let Ok(text) = std::fs::read_to_string(&path) else {
        eprintln!("skipped: {path} cannot be read");
        return Ok(());
    };
    let mut pairs = Vec::new();
    for line in text.lines().filter(|l| !l.trim().is_empty()) {
        let row: PairRow = serde_json::from_str(line)?;
        let options = Options::from_row(&row)?;
        pairs.push((row, options));
    }
    let run =
        || pairs.iter().filter(|(r, o)| equivalent(&r.gold, &r.pred, o).verdict() == Some(true)).count();
    // The first pass alone is what a person waits for; the best of the others is what the code can do.
    let start = Instant::now();
    let equal = run();
    let first = start.elapsed().as_secs_f64();
    let mut best = first;
    for _ in 0..9 {
        let start = Instant::now();
        assert_eq!(run(), equal, "every pass decides the same");
        best = best.min(start.elapsed().as_secs_f64());
    }
    let per_second = |seconds: f64| pairs.len() as f64 / seconds;
    println!(
        "{{\"pairs\":{},\"equivalent\":{equal},\"seconds\":{first:.6},\"pairs_per_second\":{:.0},\"best_pairs_per_second\":{:.0}}}",
        pairs.len(),
        per_second(first),
        per_second(best)
    );
    Ok(())
}
