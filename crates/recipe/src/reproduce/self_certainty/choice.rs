//! Universal self-consistency (arXiv 2311.17311) among the same samples: a checkpoint of the lab that learned to choose says
//! which response agrees most with the others.

use super::{Questions, Reproduce, Scored, questions, subset, subset_seed};
use crate::RecipeError;
use crate::lab::counter::{choice_prompt, chosen, true_majority};
use crate::lab::response_chooser::{CHOICE_TOKENS, RESPONSE_CHOOSER, choice_request};
use crate::reproduce::pool::{credit, mean};
use elenchus_learn::policy::{Encode, Policy};
use elenchus_task::{Split, Task};
use std::collections::BTreeMap;

/// The training of the chooser: a baseline, of which one is enough.
const TRAINING: u64 = 1;
/// Prompts that are asked and journalled together.
const PROMPTS_PER_UNIT: usize = 256;

/// What the chooser made of the samples.
pub(super) struct Choice {
    /// Per question: the share of draws whose chosen response is right.
    pub right: Vec<f64>,
    /// Share of replies that name a response of the list.
    named: f64,
    /// Share of choices with the most frequent answer, where there is a single one.
    faithful: f64,
}

/// The response that counts: the named one, else the first; when it has no answer, the first that has one (as the comparison
/// of arXiv 2502.18581 does).
fn counted(samples: &[&Scored], pick: Option<usize>) -> usize {
    let taken = pick.unwrap_or(0);
    match samples.get(taken) {
        Some(sample) if sample.answer.is_some() => taken,
        _ => samples.iter().position(|sample| sample.answer.is_some()).unwrap_or(0),
    }
}

/// Lets the checkpoint over `model` choose among `count` samples of every question, on the subsets that the other methods see.
pub(super) fn choose(
    input: &Reproduce<'_>,
    model: &str,
    m: usize,
    task: &dyn Task,
    test: &Questions,
    count: usize,
    draws: usize,
) -> Result<Choice, RecipeError> {
    let mut policy = input.lab_model(RESPONSE_CHOOSER, model, TRAINING)?.load()?.policy();
    let problems = questions(input, task, Split::Test, test.len())?;
    let mut shown: Vec<(usize, Vec<&Scored>)> = Vec::new();
    for (q, samples) in test.iter().enumerate() {
        let draws = if count >= samples.len() { 1 } else { draws };
        for draw in 0..draws {
            let places = subset(subset_seed(input.seed), q, count, draw, samples.len());
            shown.push((q, places.into_iter().map(|place| &samples[place]).collect()));
        }
    }
    // What does not fit into the model is no question to it: the first response counts there.
    let mut asked = Vec::new();
    for (place, (q, samples)) in shown.iter().enumerate() {
        let texts: Vec<&str> = samples.iter().map(|sample| sample.text.as_str()).collect();
        let prompt = choice_prompt(&problems[*q], &texts);
        if policy.encode(&prompt)?.len() + CHOICE_TOKENS <= policy.max_positions() {
            asked.push((place, prompt));
        }
    }
    let label = format!("choice/{m}");
    input.session.observer.phase(0, &label, asked.len());
    let mut replies: BTreeMap<usize, String> = BTreeMap::new();
    for (unit, chunk) in asked.chunks(PROMPTS_PER_UNIT).enumerate() {
        let (found, replayed) = input.session.once::<Vec<String>>(&format!("{label}/{unit}"), || {
            let requests: Vec<_> = chunk.iter().map(|(_, prompt)| choice_request(prompt.clone())).collect();
            let first = |samples: Vec<elenchus_learn::policy::Rollout>| {
                samples.into_iter().next().map(|sample| sample.text).unwrap_or_default()
            };
            Ok(policy.sample(&requests)?.into_iter().map(first).collect())
        })?;
        input.session.observer.advance(chunk.len(), 0, replayed);
        replies.extend(chunk.iter().map(|(place, _)| *place).zip(found));
    }
    let mut right = vec![Vec::new(); test.len()];
    let (mut named, mut faithful) = (Vec::new(), Vec::new());
    for (place, (q, samples)) in shown.iter().enumerate() {
        let pick = replies.get(&place).and_then(|reply| chosen(reply, samples.len()));
        let sample = samples[counted(samples, pick)];
        right[*q].push(credit(sample.correct));
        named.push(credit(pick.is_some()));
        let answers: Vec<Option<&str>> = samples.iter().map(|sample| sample.answer.as_deref()).collect();
        if let Some(majority) = true_majority(&answers).filter(|majority| majority.unique) {
            faithful.push(credit(sample.answer.as_deref() == Some(majority.answer)));
        }
    }
    let right = right.iter().map(|draws| mean(draws)).collect();
    Ok(Choice { right, named: mean(&named), faithful: mean(&faithful) })
}

/// What is worth knowing of the chooser.
pub(super) fn note(choices: &[&Choice], count: usize) -> String {
    let share = |of: &dyn Fn(&Choice) -> f64| {
        100.0 * mean(&choices.iter().map(|choice| of(choice)).collect::<Vec<f64>>())
    };
    format!(
        "Universal self-consistency among {count}: the lab's `{RESPONSE_CHOOSER}`, the same model after learning to name the first \
         response with the most frequent answer, on its own samples of training questions. It names a response of the list in \
         {:.1} % of the cases, and where one answer is more frequent than all others, a response with that answer in {:.1} %.",
        share(&|choice| choice.named),
        share(&|choice| choice.faithful),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(answer: Option<&str>) -> Scored {
        Scored {
            text: String::new(),
            answer: answer.map(str::to_string),
            correct: false,
            length: 1,
            scores: Vec::new(),
        }
    }

    #[test]
    fn a_choice_without_number_or_answer_falls_back_to_the_first_with_one() {
        let samples = [sample(None), sample(Some("7")), sample(None), sample(Some("8"))];
        let all: Vec<&Scored> = samples.iter().collect();
        assert_eq!([Some(3), Some(2), None].map(|pick| counted(&all, pick)), [3, 1, 1]);
        let none = [sample(None), sample(None)];
        assert_eq!(
            counted(&none.iter().collect::<Vec<_>>(), Some(1)),
            0,
            "nothing to choose: the first, which is wrong"
        );
    }

    #[test]
    fn the_note_says_how_well_the_chooser_chooses() {
        let choice = |faithful| Choice { right: vec![1.0], named: 1.0, faithful };
        let (one, other) = (choice(0.5), choice(0.7));
        let text = note(&[&one, &other], 8);
        assert!(text.contains("among 8") && text.contains("100.0 %") && text.contains("60.0 %"), "{text}");
    }
}
