//! Prints how long the heavier metrics take: `cargo run --release -p elenchus-measure --example speed`.

use elenchus_measure::{
    AnswerClass, BINS, Ballot, Bootstrap, Judgement, Judgements, MeasureError, over_seeds,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::time::Instant;

fn report(what: &str, start: Instant) {
    println!("{:>9.1} ms  {what}", start.elapsed().as_secs_f64() * 1e3);
}

fn main() -> Result<(), MeasureError> {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let judgements: Vec<Judgement> = (0..1_000_000)
        .map(|_| {
            let confidence = random.random::<f64>();
            Judgement { confidence, correct: random.random::<f64>() < confidence }
        })
        .collect();
    let start = Instant::now();
    Judgements::new(judgements)?.summary(BINS)?;
    report("all calibration metrics of 1,000,000 judgements", start);

    let values: Vec<f64> = (0..1000).map(|i| f64::from(i % 3)).collect();
    let start = Instant::now();
    Bootstrap::default().mean(&values)?;
    report("bootstrap of a mean, 1,000 questions, 10,000 resamples", start);

    let start = Instant::now();
    over_seeds(&vec![values; 5], &Bootstrap::default())?;
    report("bootstrap over 5 seeds and 1,000 questions, 10,000 resamples", start);

    let mut classes = vec![AnswerClass { count: 1, correct: false }; 30];
    classes.push(AnswerClass { count: 20, correct: true });
    classes.push(AnswerClass { count: 14, correct: false });
    let ballot = Ballot { classes, unanswered: 0 };
    let start = Instant::now();
    ballot.majority_at(32, 0)?;
    report("exact maj@32 of 64 samples with 32 different answers", start);
    Ok(())
}
