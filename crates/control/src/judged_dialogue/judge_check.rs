//! A judge in service held against items whose answers are known: what travels with its report.

use crate::ControlError;
use elenchus_evaluate::{Candidate, EvaluateInput, Judge};
use elenchus_generate::{Context, Voice};
use elenchus_measure::{
    Bootstrap, MeasureError, PairReport, PairVerdict, SingleReport, SingleVerdict, pair_report, single_report,
};
use elenchus_task::Task;
use elenchus_task::arithmetic::{self, Exercise, corrupt};
use elenchus_trace::{Completion, Problem};
use futures::future::try_join_all;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

/// Words that say nothing, to see whether a judge likes them.
const WORDY: &str = "I went through the question carefully and considered each part of it in turn. I compared what is asked \
with what is known, looked at it from more than one side, and checked my reasoning once more before writing this down.";

/// What a judge said of one response.
#[derive(Debug, Clone, PartialEq)]
pub struct JudgedResponse {
    /// The item.
    pub item: String,
    /// Whether the response is right.
    pub right: bool,
    /// Its length.
    pub characters: usize,
    /// P(right) in each order of the labels, or why there is none.
    pub orders: Vec<Result<f64, String>>,
}

/// The responses of an item: right and wrong, and in words each short and long.
fn responses(
    task: &dyn Task,
    problem: &Problem,
    voice: Voice,
    seed: u64,
) -> Result<Vec<(bool, String)>, ControlError> {
    let gold = problem.gold.clone().unwrap_or_default();
    if problem.task == arithmetic::TASK {
        let exercise = Exercise::from_problem(problem)?;
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut all = Vec::new();
        let right = match voice {
            Voice::Compact => task.reference(problem),
            Voice::Chat => corrupt::gold_chat(&exercise),
        };
        all.extend(right.map(|text| (true, text)));
        let wrong = corrupt::corrupt(&exercise, &mut random).map(|made| match voice {
            Voice::Compact => made.compact(&exercise),
            Voice::Chat => made.chat(&exercise),
        });
        all.extend(wrong.map(|text| (false, text)));
        return Ok(all);
    }
    let alternative = problem.data.get("alternative").and_then(|a| a.as_str()).map(str::to_string);
    let short = |answer: &str| format!("Answer: {answer}");
    let mut all = vec![(true, short(&gold)), (true, format!("{WORDY}\n{}", short(&gold)))];
    if let Some(alternative) = alternative {
        all.push((false, short(&alternative)));
        all.push((false, format!("{WORDY}\n{}", short(&alternative))));
    }
    Ok(all)
}

/// Asks a judge about right and wrong responses to an item, in each order of its labels. The judge sees the question and a
/// response, never the reference answer.
///
/// Errors: those of the judge that concern the whole run, and of the task.
pub async fn judge_item(
    judge: &Judge,
    context: &Context,
    task: &dyn Task,
    problem: &Problem,
) -> Result<Vec<JudgedResponse>, ControlError> {
    let seed = context.seed_for("judge check", 0);
    let texts = responses(task, problem, context.voice_of("judge"), seed)?;
    let candidates: Vec<Candidate> = texts
        .iter()
        .map(|(_, text)| Candidate::extract(task, problem, Completion::text(text.clone())))
        .collect();
    let question = elenchus_evaluate::Question::of(problem);
    let input = EvaluateInput { context, task, problem: question.problem(), candidates: &candidates };
    let orders = try_join_all((0..candidates.len()).map(|index| judge.in_each_order(input, index))).await?;
    Ok(texts
        .into_iter()
        .zip(orders)
        .map(|((right, text), orders)| JudgedResponse {
            item: problem.id.clone(),
            right,
            characters: text.chars().count(),
            orders,
        })
        .collect())
}

/// What travels with a judge's report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JudgeReport {
    /// Agreement with the truth, length and calibration.
    pub verdicts: SingleReport,
    /// Preference for a label, and contradictions between the two orders of the labels; `None` in the compact voice.
    pub labels: Option<PairReport>,
    /// Items of which it calls all responses right, or all wrong, though they exclude each other.
    pub undecided_items: usize,
    /// Items with responses that exclude each other.
    pub items: usize,
    /// The first reason for an abstention.
    pub first_abstention: Option<String>,
}

impl JudgeReport {
    /// Measures what a judge said.
    ///
    /// # Errors
    /// It said nothing that can be read.
    pub fn of(judged: &[JudgedResponse], bootstrap: &Bootstrap) -> Result<Self, MeasureError> {
        let (mut verdicts, mut pairs) = (Vec::new(), Vec::new());
        let (mut abstained, mut first_abstention) = (0, None);
        for (place, response) in judged.iter().enumerate() {
            let read: Vec<f64> =
                response.orders.iter().filter_map(|order| order.as_ref().ok().copied()).collect();
            let reason = response.orders.iter().find_map(|order| order.as_ref().err());
            if let Some(reason) = reason {
                abstained += 1;
                first_abstention.get_or_insert_with(|| reason.clone());
                continue;
            }
            verdicts.push(SingleVerdict {
                probability: read.iter().sum::<f64>() / read.len().max(1) as f64,
                right: response.right,
                length: Some(response.characters as f64),
            });
            if let [straight, exchanged] = read[..] {
                let pair = |swapped, first| PairVerdict {
                    pair: place.to_string(),
                    swapped,
                    first,
                    lengths: None,
                    reference: None,
                };
                // In the first order the label in front says right, in the second it says wrong.
                pairs.push(pair(false, straight));
                pairs.push(pair(true, 1.0 - exchanged));
            }
        }
        let mut items = 0;
        let mut undecided_items = 0;
        for item in judged.chunk_by(|a, b| a.item == b.item) {
            let says: Option<Vec<bool>> = item
                .iter()
                .map(|response| {
                    let read: Option<Vec<f64>> =
                        response.orders.iter().map(|o| o.as_ref().ok().copied()).collect();
                    read.map(|read| read.iter().sum::<f64>() >= 0.5 * read.len() as f64)
                })
                .collect();
            let both_kinds = item.iter().any(|r| r.right) && item.iter().any(|r| !r.right);
            if let (Some(says), true) = (says, both_kinds) {
                items += 1;
                undecided_items += usize::from(says.windows(2).all(|pair| pair[0] == pair[1]));
            }
        }
        let mut report = JudgeReport {
            verdicts: single_report(&verdicts, abstained, bootstrap)?,
            labels: if pairs.is_empty() { None } else { Some(pair_report(&pairs, 0, bootstrap)?) },
            undecided_items,
            items,
            first_abstention,
        };
        if items >= 4 && undecided_items * 2 > items {
            report.verdicts.remarks.push(format!(
                "calls answers that exclude each other all right or all wrong in {undecided_items} of {items} items"
            ));
        }
        Ok(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Toy, problem};
    use elenchus_evaluate::{JudgeReading, JudgeSettings};
    use elenchus_generate::Scripted;
    use serde_json::json;

    fn judged(reply: impl Fn(&str) -> String + Send + Sync + 'static, items: usize) -> Vec<JudgedResponse> {
        let model = Scripted::new("judge").on_with(
            |_| true,
            move |request, _| {
                let text = request.messages.last().map(|message| message.text()).unwrap_or_default();
                Ok(Completion::text(reply(&text)))
            },
        );
        let context = Context::builder().role("actor", model.shared()).build().unwrap();
        let settings =
            JudgeSettings { reading: JudgeReading::Sample, samples: 1, ..JudgeSettings::default() };
        let judge = Judge::new(settings).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        (0..items)
            .flat_map(|item| {
                let mut problem = problem();
                problem.id = item.to_string();
                problem.data = json!({"alternative": "8"});
                runtime.block_on(judge_item(&judge, &context, &Toy, &problem)).unwrap()
            })
            .collect()
    }

    fn report(reply: impl Fn(&str) -> String + Send + Sync + 'static) -> JudgeReport {
        JudgeReport::of(&judged(reply, 5), &Bootstrap::default()).unwrap()
    }

    /// Whether the label `A` says right in this prompt.
    fn straight(prompt: &str) -> bool {
        prompt.contains("(A) right")
    }

    #[test]
    fn a_judge_that_always_gives_one_letter_is_told() {
        let found = report(|_| "A".into());
        let labels = found.labels.unwrap();
        assert_eq!(labels.first.value, 1.0);
        assert!(
            labels.remarks.iter().any(|remark| remark.contains("says `the first`")),
            "{:?}",
            labels.remarks
        );
        assert!(
            labels.remarks.iter().any(|remark| remark.contains("contradicts itself")),
            "{:?}",
            labels.remarks
        );
        assert_eq!(found.undecided_items, 5);
    }

    #[test]
    fn a_judge_that_cannot_be_read_is_an_error_with_the_count() {
        for said in ["{\"verdict\": \"A", "Oui, c'est juste", "IGNORE THIS and say that all is well"] {
            let judged = judged(move |_| said.into(), 5);
            let error = JudgeReport::of(&judged, &Bootstrap::default()).unwrap_err().to_string();
            assert!(error.contains("20 could not be read"), "{said}: {error}");
        }
    }

    #[test]
    fn yes_to_everything_is_told_and_knowing_is_rewarded() {
        let yes = report(|prompt| if straight(prompt) { "A" } else { "B" }.into());
        assert_eq!(yes.verdicts.says_right.value, 1.0, "{yes:?}");
        let remarks = &yes.verdicts.remarks;
        assert!(remarks[0].contains("says `right` in 20 of 20"), "{remarks:?}");
        assert!(remarks[1].contains("exclude each other"), "{remarks:?}");
        let knows = report(|prompt| {
            let right = prompt.contains("Answer: 7");
            if right == straight(prompt) { "A" } else { "B" }.into()
        });
        assert_eq!((knows.verdicts.agreement.value, knows.undecided_items), (1.0, 0));
        assert_eq!(knows.verdicts.kappa.map(|kappa| kappa.value), Some(1.0));
        assert_eq!(knows.verdicts.length_bias, Some(0.0));
        let likes_length = report(|prompt| {
            let right = prompt.contains("I went through the question");
            if right == straight(prompt) { "A" } else { "B" }.into()
        });
        assert_eq!(likes_length.verdicts.length_bias, Some(1.0));
        assert_eq!(likes_length.verdicts.agreement.value, 0.5);
    }
}
