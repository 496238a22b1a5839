//! Whatever the text, the comparison ends, quickly and without a panic, and an answer equals itself.

use elenchus_task::math::{Extractor, Options, Relation, equivalent, extract, parse};
use proptest::prelude::*;
use std::time::{Duration, Instant};

/// A bound on wall time that only a hang or a work limit that fails can reach, also on a loaded machine.
const LONGEST: Duration = Duration::from_secs(30);

/// Pieces of real answers, to be glued together at random.
const PIECES: &[&str] = &[
    "\\frac{1}{2}",
    "\\frac12",
    "\\frac",
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    "\\{",
    "\\}",
    "|",
    "||",
    "\\left|",
    "\\right|",
    "^",
    "_",
    "^{2}",
    "!",
    "%",
    "\\%",
    ",",
    ";",
    ":",
    "=",
    "\\le",
    "<",
    ">",
    "\\in",
    "\\cup",
    "\\setminus",
    "\\pm",
    "+",
    "-",
    "*",
    "/",
    "x",
    "y",
    "i",
    "e",
    "\\pi",
    "\\infty",
    "\\sqrt",
    "\\sqrt[3]{x}",
    "\\sin",
    "\\log_2",
    "9^9^9^9",
    "10!!!!",
    "1e999999",
    "0",
    "1/0",
    "\\text{and}",
    "\\text{",
    "\\boxed{",
    "$",
    "$$",
    "\\[",
    "\\]",
    "\\(",
    "answer is",
    "1,000",
    "3,14",
    ".5",
    "\\begin{pmatrix}",
    "\\end{pmatrix}",
    "&",
    "\\\\",
    "\\int",
    "\\sum_{k=1}^{100000000}",
    "dx",
    "\\frac{d}{dx}",
    "\\mathbb{R}",
    "\\binom{1000000}{500000}",
    "é",
    "√",
    "²",
    "####",
    " ",
    "\n",
    "\\gcd(",
    "\\mod",
    "\\lfloor",
    "f(x)",
    "'",
];

fn all_options() -> Vec<Options> {
    let loose = Options {
        strict: false,
        allow_set_relation_comp: true,
        bare: false,
        extract: vec![Extractor::String, Extractor::Latex, Extractor::Expr],
        boxed_match_priority: 0,
        scientific: true,
        ..Options::default()
    };
    vec![Options::default(), loose]
}

fn ends(gold: &str, pred: &str) {
    let start = Instant::now();
    for options in all_options() {
        let _ = equivalent(gold, pred, &options);
    }
    let took = start.elapsed();
    assert!(took < LONGEST, "{took:?} for {gold:?} and {pred:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 800, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn glued_pieces_never_hang_or_panic(
        gold in prop::collection::vec(0..PIECES.len(), 0..24),
        pred in prop::collection::vec(0..PIECES.len(), 0..24),
    ) {
        let glue = |v: &[usize]| v.iter().map(|i| PIECES[*i]).collect::<String>();
        ends(&glue(&gold), &glue(&pred));
    }

    #[test]
    fn any_text_never_hangs_or_panics(gold in "\\PC{0,60}", pred in "\\PC{0,60}") {
        ends(&gold, &pred);
    }

    #[test]
    fn an_answer_equals_itself(pieces in prop::collection::vec(0..PIECES.len(), 1..12)) {
        let text: String = pieces.iter().map(|i| PIECES[*i]).collect();
        for options in all_options() {
            if extract(&text, &options).is_some_and(|e| !e.text.is_empty()) {
                prop_assert_eq!(equivalent(&text, &text, &options).relation, Relation::Equivalent, "{}", text);
            }
        }
    }

    #[test]
    fn fractions_equal_their_decimals(numerator in -999i64..999, power in 0u32..6) {
        let below = 10i64.pow(power);
        let latex = format!("\\frac{{{numerator}}}{{{below}}}");
        let sign = if numerator < 0 { "-" } else { "" };
        let size = numerator.unsigned_abs();
        let scale = below.unsigned_abs();
        let decimal = format!("{sign}{}.{:0width$}", size / scale, size % scale, width = power.max(1) as usize);
        prop_assert_eq!(equivalent(&latex, &decimal, &Options::default()).verdict(), Some(true), "{} {}", latex, decimal);
    }

    #[test]
    fn a_changed_coefficient_is_seen(a in 1i64..50, b in 1i64..50, c in 1i64..50, wrong in 1i64..9) {
        let right = format!("({a}x+{b})({c}x-1)");
        let expanded = |extra: i64| format!("{}x^2+{}x-{}", a * c, b * c - a + extra, b);
        let verdict = |p: String| equivalent(&right, &p, &Options::default()).verdict();
        prop_assert_eq!(verdict(expanded(0).replace("+-", "-")), Some(true));
        prop_assert_eq!(verdict(expanded(wrong).replace("+-", "-")), Some(false));
    }
}

#[test]
fn known_traps_end_quickly() {
    let nested = |open: &str, close: &str, n: usize| format!("{}1{}", open.repeat(n), close.repeat(n));
    let traps = [
        "9^9^9".to_string(),
        "9^{9^{9^{9}}}".into(),
        "(10^{1000})!".into(),
        "1000000!".into(),
        "\\binom{1000000000}{500000000}".into(),
        "1e-999999999".into(),
        "(x+y+z+w)^{32}(a+b+c+d)^{32}".into(),
        "\\sum_{a=1}^{2000}\\sum_{b=1}^{2000}\\sum_{c=1}^{2000} abc".into(),
        "\\int_0^1\\int_0^1\\int_0^1\\int_0^1 xyzw dx".into(),
        nested("(", ")", 10_000),
        nested("\\sqrt{", "}", 3_000),
        nested("\\boxed{", "}", 2_000),
        nested("\\frac{1}{", "}", 40),
        nested("|", "|", 40),
        "-".repeat(100_000),
        "!".repeat(10_000),
        format!("1{}", "!".repeat(40)),
        "x^".repeat(5_000),
        "1,".repeat(3_000),
        "x,y;".repeat(900),
        "$".repeat(20_000),
        "answer ".repeat(8_000),
        "final answer ".repeat(5_000),
        "1 ".repeat(20_000),
        "\\boxed{1} and ".repeat(5_000),
        format!("{}1{}", "\\left(".repeat(500), "\\right)".repeat(500)),
        "|x|+|x-1|+|x-2|+|x-3|+|x-4|>5".into(),
        "9".repeat(100_000),
        "\u{0}".into(),
    ];
    for trap in &traps {
        let shown: String = trap.chars().take(40).collect();
        for other in ["(0,x)", trap.as_str()] {
            let start = Instant::now();
            for options in all_options() {
                let _ = equivalent(trap, other, &options);
                let _ = equivalent(other, trap, &options);
            }
            assert!(start.elapsed() < LONGEST, "{:?} for {shown}", start.elapsed());
        }
        let _ = parse(trap);
    }
}
