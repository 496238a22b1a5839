//! Writes a report with invented numbers, for looking at: `cargo run --example sample_report > report.html`.

use elenchus_measure::{
    Attempt, Axis, BarSeries, Bootstrap, Cell, Chart, Claim, HistogramSeries, Interval, Judgement,
    Judgements, MeasureError, Plot, Report, RoundRecord, Scale, Section, Series, Table, TokenBudget, Tone,
    TraceSample, TraceStep, accuracy, calibration_sections, compare, rounds_plots, rounds_table,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn main() -> Result<(), MeasureError> {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let mut draw = |share: f64| f64::from(u8::from(random.random::<f64>() < share));
    let before: Vec<f64> = (0..1000).map(|_| draw(0.44)).collect();
    let after: Vec<f64> = before.iter().map(|b| if *b == 1.0 { draw(0.93) } else { draw(0.34) }).collect();
    let control: Vec<f64> = before.iter().map(|b| if *b == 1.0 { draw(0.88) } else { draw(0.22) }).collect();
    let gain = compare("After 6 rounds", &after, "the start", &before, &Bootstrap::default())?;
    let against = compare("self-improvement", &after, "the control arm", &control, &Bootstrap::default())?;
    let budget = TokenBudget::new("self-improvement", 4_210_000, "the control arm", 4_180_000);

    let rounds: Vec<RoundRecord> = (0..=6).map(round).collect::<Result<_, _>>()?;
    let control_points: Vec<(f64, Interval)> = (0..=6)
        .map(|r| accuracy(440 + 18 * r - r * r, 1000).map(|a| (r as f64, a)))
        .collect::<Result<_, _>>()?;
    let judgements = Judgements::new((0..1000).map(|i| {
        let confidence = (f64::from(i) + 0.5) / 1000.0;
        Judgement { confidence, correct: draw(0.15 + 0.7 * confidence.powf(0.7)) == 1.0 }
    }))?;

    let summary = Table::new("Summary", ["what", "start", "after", "difference", "control arm"])
        .note("1,000 held-out problems, greedy answers unless said otherwise. Differences are paired, in points.")
        .row([
            "greedy accuracy".into(),
            Cell::PercentInterval(gain.second_mean),
            Cell::PercentInterval(gain.first_mean),
            Cell::Points(gain.difference),
            Cell::PercentInterval(against.second_mean),
        ])
        .row([
            "right answers by wrong steps".into(),
            Cell::Percent(0.031),
            Cell::Percent(0.018),
            Cell::PointsDown(Interval { value: -0.013, low: -0.025, high: -0.002 }),
            Cell::Percent(0.027),
        ])
        .row([
            "pass@8".into(),
            Cell::PercentInterval(rounds[0].pass),
            Cell::PercentInterval(rounds[6].pass),
            Cell::Points(Interval { value: 0.006, low: -0.012, high: 0.024 }),
            Cell::Missing,
        ]);

    let claims = vec![
        claim("a", "Greedy accuracy rises by at least 10 points (points).", true, 15.9, 12.1, 19.6),
        claim(
            "b",
            "The balance score does not fall from round to round (smallest step).",
            true,
            0.011,
            0.002,
            0.02,
        ),
        claim(
            "temperature",
            "The last temperature is at least the first (difference).",
            false,
            -0.1,
            -0.2,
            0.0,
        ),
    ];

    let report = Report::new("Self-improvement of the embedded model")
        .headline(Tone::Good, gain.sentence.clone())
        .fact("model", "seedling, 1.2 million parameters")
        .fact("seed", "7")
        .fact("rounds", "6")
        .fact("tokens", "4.2 million")
        .fact("time", "2 min 41 s on 2 cores")
        .fact("held-out problems", "1,000")
        .fact("command", "elenchus improve --rounds 6 --seed 7 --out runs/improve-7 --problems 1000")
        .configuration("[improve]\nrounds = 6\nseed = 7\n\n[select]\nwanted = 8\nthreshold = -0.1")
        .section(Section::text(
            "In words",
            format!("{}\n\n{}\n\n{}", gain.sentence, against.sentence, budget.sentence),
        ))
        .section(summary.into())
        .section(Section::claims("Claims", claims))
        .section(Section::plots("Rounds", rounds_plots(&rounds, 8, Some(("control arm", &control_points)))))
        .section(rounds_table(&rounds, 8).into())
        .section(Section::plots("Other charts", other_charts(&mut draw)?))
        .section(Section::traces(
            "What changed in the answers",
            "Drawn at random from the problems whose greedy answer was wrong before and is right after.",
            traces(),
        ))
        .sections(calibration_sections("the judge skill", &judgements)?);
    println!("{}", report.to_html());
    Ok(())
}

fn round(r: usize) -> Result<RoundRecord, MeasureError> {
    let right = |start: usize, gain: usize| accuracy(start + gain * r - r * r * 2, 1000);
    Ok(RoundRecord {
        round: r,
        greedy: right(440, 36)?,
        sampled: right(390, 42)?,
        vote: right(520, 30)?,
        pass: right(760, 14)?,
        wrong_steps: 0.031 - 0.002 * r as f64,
        temperature: (r > 0).then_some(0.7 + 0.05 * r as f64),
        threshold: (r > 0).then_some(-0.1),
        balance: (r > 0).then_some(0.47 + 0.04 * r as f64 - 0.002 * (r * r) as f64),
        rows: if r == 0 { 0 } else { 3550 },
        tokens: if r == 0 { 0 } else { 702_113 },
        seconds: if r == 0 { 4.1 } else { 25.7 },
    })
}

fn claim(id: &str, text: &str, holds: bool, estimate: f64, low: f64, high: f64) -> Claim {
    Claim { id: id.to_string(), text: text.to_string(), holds, estimate, low, high }
}

fn other_charts(draw: &mut impl FnMut(f64) -> f64) -> Result<Vec<Plot>, MeasureError> {
    let methods = ["first answer", "majority of 8", "Borda, p = 0.3", "self-certainty"];
    let bars = |shift: usize| -> Result<Vec<Option<Interval>>, MeasureError> {
        [390, 520, 541, 455].iter().map(|n| accuracy(n + shift, 1000).map(Some)).collect()
    };
    let mut normal = |centre: f64| centre + (0..12).map(|_| draw(0.5)).sum::<f64>() / 4.0;
    let right: Vec<f64> = (0..400).map(|_| normal(1.5) + normal(0.0) * 0.37).collect();
    let wrong: Vec<f64> = (0..400).map(|_| normal(1.0) + normal(0.0) * 0.41).collect();
    let cloud: Vec<(f64, f64)> =
        right.iter().map(|c| (*c, 20.0 + 9.0 * c + 14.0 * normal(0.0))).take(300).collect();
    Ok(vec![
        Plot::new(
            "Methods at equal budget",
            "Accuracy with 95 % intervals.",
            Chart::Bar {
                y: Axis::new("accuracy", Scale::Percent),
                categories: methods.map(str::to_string).to_vec(),
                series: vec![
                    BarSeries { name: "start".to_string(), values: bars(0)? },
                    BarSeries { name: "after 6 rounds".to_string(), values: bars(110)? },
                ],
            },
        ),
        Plot::new(
            "Accuracy against samples",
            "Votes gain from more samples; the horizontal axis is logarithmic.",
            Chart::Line {
                x: Axis::new("samples", Scale::Log2),
                y: Axis::new("accuracy", Scale::Percent),
                series: vec![
                    Series::new("majority", log_points(390, 30)?),
                    Series::new("Borda", log_points(392, 35)?),
                    Series::new("self-certainty", log_points(388, 14)?),
                ],
            },
        ),
        Plot::new(
            "Self-certainty of right and wrong answers",
            "The further apart, the better the score tells them apart.",
            Chart::Histogram {
                x: Axis::new("self-certainty, nats", Scale::Number),
                series: vec![
                    HistogramSeries { name: "right".to_string(), values: right },
                    HistogramSeries { name: "wrong".to_string(), values: wrong },
                ],
                bins: 24,
            },
        ),
        Plot::new(
            "Self-certainty against length",
            "A score that depends on length prefers long or short answers.",
            Chart::Scatter {
                x: Axis::new("self-certainty, nats", Scale::Number),
                y: Axis::new("tokens", Scale::Number),
                series: vec![Series::exact("samples", cloud)],
            },
        ),
    ])
}

fn log_points(start: usize, gain: usize) -> Result<Vec<(f64, Interval)>, MeasureError> {
    (0..7).map(|i| accuracy(start + gain * i, 1000).map(|a| (f64::from(1 << i), a))).collect()
}

fn traces() -> Vec<TraceSample> {
    let step = |text: &str, correct: bool, expected: Option<&str>| TraceStep {
        text: text.to_string(),
        correct: Some(correct),
        expected: expected.map(str::to_string),
    };
    let attempt = |label: &str, steps: Vec<TraceStep>, answer: &str, correct: bool| Attempt {
        label: label.to_string(),
        text: String::new(),
        answer: Some(answer.to_string()),
        correct: Some(correct),
        confidence: Some(if correct { 0.81 } else { 0.46 }),
        tokens: Some(24),
        seconds: Some(0.0061),
        steps,
    };
    let first = TraceSample {
        label: "test-0412".to_string(),
        problem: "g=50;e=g-1;d=e+81;l=89;d?".to_string(),
        gold: Some("130".to_string()),
        attempts: vec![
            attempt(
                "before",
                vec![
                    step("g=50", true, None),
                    step("e=50-1=49", true, None),
                    step("d=49+81=120", false, Some("d=49+81=130")),
                ],
                "120",
                false,
            ),
            attempt(
                "after 6 rounds",
                vec![
                    step("g=50", true, None),
                    step("e=50-1=49", true, None),
                    step("d=49+81=130", true, None),
                ],
                "130",
                true,
            ),
            attempt(
                "control arm",
                vec![
                    step("g=50", true, None),
                    step("e=50-1=48", false, Some("e=50-1=49")),
                    step("d=48+81=129", true, None),
                ],
                "129",
                false,
            ),
        ],
        open: true,
    };
    let hostile = TraceSample {
        label: "test-0077".to_string(),
        problem: "Ann has 12 pens.Bob has 3 times as many as Ann.<script>alert(1)</script> how many has Bob?"
            .to_string(),
        gold: Some("36".to_string()),
        attempts: vec![
            Attempt {
                label: "before".to_string(),
                text: "</pre><script>alert('x')</script> I do not know \u{202e}what to say".to_string(),
                correct: Some(false),
                ..Attempt::default()
            },
            attempt(
                "after 6 rounds",
                vec![step("Ann=12", true, None), step("Bob=12*3=36", true, None)],
                "36",
                true,
            ),
        ],
        open: false,
    };
    vec![first, hostile]
}
