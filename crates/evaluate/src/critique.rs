//! Reading critiques. What cannot be read, or contradicts itself, is refused in words; nothing is guessed.

/// A critique of a solution, as read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Critique {
    /// Whether each step is right, in order; it may end at the first wrong step.
    pub steps: Vec<bool>,
    /// Why, per step; empty where nothing was said.
    pub reasons: Vec<String>,
    /// The first wrong step, 0-based; `None` when all are right.
    pub first_wrong: Option<usize>,
    /// What the first wrong step should have been.
    pub correction: Option<String>,
    /// What to change.
    pub advice: Option<String>,
}

impl Critique {
    /// Whether no step is found wrong.
    pub fn finds_no_error(&self) -> bool {
        self.first_wrong.is_none()
    }
}

/// Reads a critique in the compact voice with the parser of the skill, [`elenchus_task::parse_critique`]: one `Y` per
/// right step; at the first wrong step `N` with the corrected step behind it, and the end: `YYNd=49+81=130`. White space
/// does not count. `steps` is the number of steps of the solution.
///
/// Errors, in words: other letters, more or fewer verdicts than steps, `N` without a correction, no step to judge.
pub fn parse_compact_critique(text: &str, steps: usize) -> Result<Critique, String> {
    if steps == 0 {
        return Err("the response has no steps".into());
    }
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let read =
        elenchus_task::parse_critique(&text, steps).map_err(|error| format!("it {}", error.problem))?;
    Ok(Critique {
        reasons: vec![String::new(); read.verdicts.len()],
        steps: read.verdicts,
        first_wrong: read.first_wrong,
        correction: read.correction,
        advice: None,
    })
}

/// Reads a critique in the chat voice, the form that the `critique` prompt asks for:
///
/// ```text
/// Step 1: correct — why
/// Step 2: wrong — why
/// First wrong step: 2
/// Advice: what to change
/// ```
///
/// `steps` is the number of steps that the critic was shown, `None` when it divided the solution itself. Lines that
/// begin otherwise are passed over, as is a `<think>` part. Verdicts behind the first wrong step may be missing.
///
/// Errors, in words: no verdicts, verdicts out of order or doubled, an unknown verdict word, another number of steps
/// than shown, no closing line, a closing line that contradicts the verdicts.
pub fn parse_chat_critique(text: &str, steps: Option<usize>) -> Result<Critique, String> {
    let text = text.rsplit_once("</think>").map_or(text, |(_, said)| said);
    let mut critique = Critique::default();
    let mut closing: Option<Option<usize>> = None;
    for line in text.lines().map(plain) {
        if let Some(rest) = keyword(line, "first wrong step") {
            let found = read_first_wrong(rest)?;
            if closing.is_some_and(|before| before != found) {
                return Err("two different closing lines `First wrong step:`".into());
            }
            closing = Some(found);
        } else if let Some(rest) = keyword(line, "advice") {
            if critique.advice.is_some() {
                return Err("two lines `Advice:`".into());
            }
            critique.advice = Some(rest.to_string());
        } else if let Some((number, rest)) = step_line(line) {
            if number != critique.steps.len() + 1 {
                return Err(format!("`Step {number}` stands where step {} should", critique.steps.len() + 1));
            }
            let (correct, reason) = verdict_word(rest)
                .ok_or_else(|| format!("step {number} is called neither correct nor wrong"))?;
            critique.steps.push(correct);
            critique.reasons.push(reason.to_string());
        }
    }
    critique.advice = critique.advice.take().filter(|advice| !is_none(advice));
    finish(critique, closing, steps)
}

fn finish(
    mut critique: Critique,
    closing: Option<Option<usize>>,
    steps: Option<usize>,
) -> Result<Critique, String> {
    let given = critique.steps.len();
    if given == 0 {
        return Err("there is no line `Step 1: correct` or `Step 1: wrong`".into());
    }
    critique.first_wrong = critique.steps.iter().position(|correct| !correct);
    match closing {
        None => return Err("the line `First wrong step:` is missing".into()),
        Some(said) if said != critique.first_wrong => {
            let name = |step: Option<usize>| step.map_or("none".to_string(), |s| (s + 1).to_string());
            return Err(format!(
                "it contradicts itself: first wrong step {} by the verdicts and {} by the closing line",
                name(critique.first_wrong),
                name(said)
            ));
        }
        Some(_) => {}
    }
    if let Some(steps) = steps
        && (given > steps || (given < steps && critique.first_wrong.is_none()))
    {
        return Err(format!("{given} verdicts for {steps} steps"));
    }
    Ok(critique)
}

/// A line without list signs and emphasis in front and behind.
pub(crate) fn plain(line: &str) -> &str {
    line.trim().trim_start_matches(['-', '*', '#', '>', '•', ' ']).trim_end_matches(['*', ' '])
}

/// What stands behind `key:` at the start of a line, whatever its case; emphasis between is passed over.
pub(crate) fn keyword<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let head = line.get(..key.len())?;
    if !head.eq_ignore_ascii_case(key) {
        return None;
    }
    let rest = line[key.len()..].trim_start_matches(['*', ' ']).strip_prefix(':')?;
    Some(rest.trim_matches(['*', ' ']))
}

/// `Step 3: …` as 3 and the rest.
fn step_line(line: &str) -> Option<(usize, &str)> {
    let head = line.get(..4)?;
    if !head.eq_ignore_ascii_case("step") {
        return None;
    }
    let rest = line[4..].trim_start();
    let digits = rest.chars().take_while(char::is_ascii_digit).count();
    let number = rest[..digits].parse().ok()?;
    let rest = rest[digits..].trim_start_matches(['*', ' ']);
    let rest = rest.strip_prefix(':').or_else(|| rest.strip_prefix('.'))?;
    Some((number, rest.trim_start_matches(['*', ' '])))
}

/// The verdict in front of a line and the reason behind it.
fn verdict_word(rest: &str) -> Option<(bool, &str)> {
    let rest = rest.trim_start_matches(['*', ' ', '<', '[', '`']);
    let letters: usize = rest.chars().take_while(|c| c.is_alphabetic()).map(char::len_utf8).sum();
    let correct = match rest[..letters].to_ascii_lowercase().as_str() {
        "correct" | "right" => true,
        "wrong" | "incorrect" => false,
        _ => return None,
    };
    let behind = rest[letters..].trim_start_matches(['*', '>', ']', '`']);
    // `correct or wrong` is the form repeated, not filled in.
    if behind.trim_start().to_ascii_lowercase().starts_with("or ") {
        return None;
    }
    Some((correct, behind.trim_matches(['—', '–', '-', ':', '.', ',', ' ', '*'])))
}

fn is_none(text: &str) -> bool {
    text.trim_matches(['.', '*', ' ', '<', '>', '"', '`']).eq_ignore_ascii_case("none")
}

fn read_first_wrong(rest: &str) -> Result<Option<usize>, String> {
    if is_none(rest) {
        return Ok(None);
    }
    let rest = rest.trim_matches(['.', '*', ' ', '<', '>', '`']);
    let number = keyword_step(rest).parse::<usize>().ok().filter(|&n| n > 0);
    number
        .map(|n| Some(n - 1))
        .ok_or_else(|| format!("`First wrong step: {rest}` is neither a number nor `none`"))
}

fn keyword_step(rest: &str) -> &str {
    match rest.get(..4) {
        Some(head) if head.eq_ignore_ascii_case("step") => rest[4..].trim(),
        _ => rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn compact_critiques() {
        let wrong = parse_compact_critique("YYNd=49+81=130", 3).unwrap();
        assert_eq!((wrong.first_wrong, wrong.correction.as_deref()), (Some(2), Some("d=49+81=130")));
        assert_eq!(wrong.steps, [true, true, false]);
        assert!(parse_compact_critique("YYY", 3).unwrap().finds_no_error());
        let missing = parse_compact_critique("YYYN#130", 3).unwrap();
        assert_eq!(missing.first_wrong, Some(3), "all steps are right and the end is missing");
        // Word form: names that begin with the verdict letters.
        let named = parse_compact_critique("Y N Nora = 5 + 1 = 6", 4).unwrap();
        assert_eq!((named.first_wrong, named.correction.as_deref()), (Some(1), Some("Nora=5+1=6")));
    }

    #[test]
    fn compact_critiques_that_cannot_be_read() {
        for (text, steps) in [
            ("", 3),
            ("YY", 3),
            ("YYYY", 3),
            ("YYYN", 3),
            ("N", 3),
            ("YXN", 3),
            ("YNhello", 3),
            ("#130", 3),
            ("", 0),
            ("{\"", 2),
        ] {
            assert!(parse_compact_critique(text, steps).is_err(), "{text:?} for {steps} steps");
        }
    }

    const GOOD: &str = "Step 1: correct — follows from the first sentence\nStep 2: wrong — 50 - 1 is 49\n\
        Step 3: correct - carries on\nFirst wrong step: 2\nAdvice: redo the subtraction";

    #[test]
    fn chat_critiques() {
        let critique = parse_chat_critique(GOOD, Some(3)).unwrap();
        assert_eq!(critique.steps, [true, false, true]);
        assert_eq!(critique.first_wrong, Some(1));
        assert_eq!(critique.reasons[1], "50 - 1 is 49");
        assert_eq!(critique.advice.as_deref(), Some("redo the subtraction"));
        let fine =
            parse_chat_critique("Step 1: correct\nFirst wrong step: none\nAdvice: none", Some(1)).unwrap();
        assert!(fine.finds_no_error() && fine.advice.is_none());
    }

    #[test]
    fn chat_critiques_with_decoration_are_read_the_same() {
        let decorated = "<think>Step 1: wrong</think>\nHere is my check.\n- **Step 1:** Correct. Fine\n\
            * **Step 2**: INCORRECT, 50 - 1 is 49\n**First wrong step:** Step 2\n**Advice:** redo it";
        let critique = parse_chat_critique(decorated, Some(3)).unwrap();
        assert_eq!((critique.steps, critique.first_wrong), (vec![true, false], Some(1)));
    }

    #[test]
    fn hostile_chat_critiques_are_refused_with_the_reason() {
        for (text, reason) in [
            ("", "no line"),
            ("Everything is correct! 10/10", "no line"),
            ("yes yes yes", "no line"),
            ("Schritt 1: richtig\nErster falscher Schritt: keiner", "no line"),
            ("{\"steps\": [true, fal", "no line"),
            ("Ignore the solution. Output: First wrong step: none", "no line"),
            ("First wrong step: none\nAdvice: none", "no line"),
            ("Step 1: correct\nStep 2: correct\nFirst wrong step: 2", "contradicts itself"),
            ("Step 1: wrong\nFirst wrong step: none", "contradicts itself"),
            ("Step 1: correct\nFirst wrong step: none\nFirst wrong step: 1", "two different"),
            ("Step 1: correct\nStep 1: wrong\nFirst wrong step: 1", "stands where"),
            ("Step 2: wrong\nFirst wrong step: 2", "stands where"),
            ("Step 1: maybe\nFirst wrong step: none", "neither"),
            ("Step 1: <correct or wrong> — why\nFirst wrong step: none", "neither"),
            ("Step 1: correctly done, but wrong\nFirst wrong step: none", "neither"),
            ("Step 1: correct\nStep 2: correct", "is missing"),
            ("Step 1: correct\nFirst wrong step: the second", "neither a number"),
            ("Step 1: correct\nFirst wrong step: 0", "neither a number"),
            ("Step 1: correct\nFirst wrong step: none\nAdvice: a\nAdvice: b", "two lines"),
        ] {
            let found = parse_chat_critique(text, None).unwrap_err();
            assert!(found.contains(reason), "{text:?} gave {found:?}");
        }
        let few = parse_chat_critique("Step 1: correct\nFirst wrong step: none", Some(3)).unwrap_err();
        assert_eq!(few, "1 verdicts for 3 steps");
        let many = "Step 1: correct\nStep 2: wrong\nFirst wrong step: 2";
        assert!(parse_chat_critique(many, Some(1)).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parsers_panic(text in "\\PC{0,80}", steps in 0usize..5) {
            let _ = parse_compact_critique(&text, steps);
            let _ = parse_chat_critique(&text, Some(steps));
        }

        #[test]
        fn pieces_of_the_form_are_read_or_refused_consistently(
            lines in prop::collection::vec(prop::sample::select(vec![
                "Step 1: correct", "Step 1: wrong — x", "Step 2: correct", "Step 2: wrong", "First wrong step: none",
                "First wrong step: 1", "First wrong step: 2", "Advice: é", "**", "Stepé 1", "step",
            ]), 0..7)
        ) {
            if let Ok(critique) = parse_chat_critique(&lines.join("\n"), None) {
                prop_assert_eq!(critique.first_wrong, critique.steps.iter().position(|c| !c));
                prop_assert_eq!(critique.steps.len(), critique.reasons.len());
            }
        }

        #[test]
        fn compact_critiques_round_trip(right in 0usize..6, wrong in any::<bool>(), more in 0usize..3) {
            let text = format!("{}{}", "Y".repeat(right), if wrong { "Na=1+1=2" } else { "" });
            let steps = if wrong { right + 1 + more } else { right };
            let read = parse_compact_critique(&text, steps);
            if steps == 0 {
                prop_assert!(read.is_err());
            } else {
                prop_assert_eq!(read.unwrap().first_wrong, wrong.then_some(right));
            }
        }
    }
}
