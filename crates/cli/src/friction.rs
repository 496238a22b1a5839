//! What retries with feedback left unsolved, why, and how far that is from what the feedback would allow.

use crate::failure::Failure;
use crate::loops::{Followed, Judged};
use crate::output;
use elenchus_control::{RetryEnd, RetryRound, why_unsolved};
use elenchus_evaluate::{FeedbackSource, WhyUnsolved};
use elenchus_measure::{Bootstrap, Friction, FrictionQuestion, Interval, accuracy, friction};
use elenchus_task::Task;
use elenchus_trace::Answer;
use serde::Serialize;
use std::collections::BTreeMap;

/// Of the problems that stayed unsolved through all rounds.
#[derive(Debug, Serialize)]
pub struct Unsolved {
    /// How many there are.
    problems: usize,
    /// Problems on which the budget ended the rounds; they are not among these.
    cut: usize,
    /// Those whose last attempt gives again an answer that was wrong before.
    repeated: usize,
    /// Those whose last attempt is wrong first at the same step as the one before it, where the task checks steps.
    same_step: usize,
    /// Those whose last attempt has no answer.
    no_answer: usize,
    /// Pieces of feedback that a model did not give, over all problems: the solver read a bare "wrong".
    silent_feedback: usize,
    /// Why, as the model in role `judge` says, where it was asked (`why_unsolved`).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    why: BTreeMap<WhyUnsolved, usize>,
    /// Share of those that do not follow right feedback among all whose judge could be read; `unknown` is not among them.
    #[serde(skip_serializing_if = "Option::is_none")]
    resistance: Option<Interval>,
    /// What would be solved if feedback were followed, and how much is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    friction: Option<Friction>,
    /// Why there is no target.
    #[serde(skip_serializing_if = "Option::is_none")]
    no_target: Option<String>,
}

/// Whether the feedback on a problem was right and sufficient. The verifier's own correction is; of a model's words the
/// problem that it solved says so, or the judge. `None` where nobody does.
fn sufficient(rounds: &[RetryRound], solved: bool, why: Option<WhyUnsolved>) -> Option<bool> {
    let given = rounds.iter().filter(|round| round.silent.is_none());
    match rounds.first().and_then(|round| round.feedback)? {
        // Where the verifier finds no wrong step in an attempt, all it says is that it was wrong.
        FeedbackSource::Step => Some(solved || rounds.iter().any(|round| round.first_wrong.is_some())),
        FeedbackSource::Own | FeedbackSource::Critic => match why {
            _ if solved => Some(true),
            _ if given.count() == 0 => Some(false),
            Some(WhyUnsolved::NotFollowing | WhyUnsolved::Format) => Some(true),
            Some(WhyUnsolved::FeedbackIsWrong) => Some(false),
            Some(WhyUnsolved::Impossible | WhyUnsolved::TooComplicated | WhyUnsolved::Unknown) | None => None,
        },
        // They say too little to be followed.
        FeedbackSource::Binary | FeedbackSource::Location => None,
    }
}

impl Unsolved {
    /// Of the traces of a strategy; `None` where it does not retry with feedback.
    pub fn of(
        followed: &[Followed],
        answers: &[Answer],
        task: &dyn Task,
        seed: u64,
    ) -> Result<Option<Self>, Failure> {
        let mut found = Unsolved {
            problems: 0,
            cut: 0,
            repeated: 0,
            same_step: 0,
            no_answer: 0,
            silent_feedback: 0,
            why: BTreeMap::new(),
            resistance: None,
            friction: None,
            no_target: None,
        };
        let (mut questions, mut source) = (Vec::new(), None);
        let mut retries = false;
        for (one, answer) in followed.iter().zip(answers) {
            let Some(judged) = one.as_loop() else { continue };
            let Judged { log, right } = judged;
            let rounds = RetryRound::all(&answer.trace);
            let end = RetryEnd::of(&answer.trace);
            retries |= end.is_some() || !rounds.is_empty();
            found.silent_feedback += rounds.iter().filter(|round| round.silent.is_some()).count();
            source = source.or(rounds.first().and_then(|round| round.feedback));
            let Some(end) = end else {
                found.cut += 1;
                continue;
            };
            let why = why_unsolved(&answer.trace);
            questions.push(FrictionQuestion {
                at_once: right.first().copied().unwrap_or(false),
                solved: end.right,
                sufficient: sufficient(&rounds, end.right, why),
            });
            if end.right {
                continue;
            }
            found.problems += 1;
            if let Some(why) = why {
                *found.why.entry(why).or_default() += 1;
            }
            let same = |left: &str, right: &str| task.equivalent(&answer.trace.problem, left, right);
            let last = log.attempts.len().saturating_sub(1);
            found.repeated += usize::from(judged.repeats(last, &same));
            found.no_answer +=
                usize::from(log.attempts.last().is_some_and(|attempt| attempt.answer.is_none()));
            let before = rounds.last().and_then(|round| round.first_wrong);
            found.same_step += usize::from(before.is_some() && before == end.first_wrong);
        }
        if !retries {
            return Ok(None);
        }
        let read: usize =
            found.why.iter().filter(|(why, _)| **why != WhyUnsolved::Unknown).map(|(_, n)| n).sum();
        if read > 0 {
            let resisting = found.why.get(&WhyUnsolved::NotFollowing).copied().unwrap_or(0);
            found.resistance = Some(accuracy(resisting, read)?);
        }
        found.target(&questions, source, seed)?;
        Ok(Some(found))
    }

    /// Target and gap, or why there are none.
    fn target(
        &mut self,
        questions: &[FrictionQuestion],
        source: Option<FeedbackSource>,
        seed: u64,
    ) -> Result<(), Failure> {
        let asks_a_model = source.is_some_and(FeedbackSource::asks_a_model);
        let reason = match source {
            None => "no feedback was given",
            Some(FeedbackSource::Binary | FeedbackSource::Location) => {
                "feedback without a correction is no measure of what can be followed"
            }
            // What was solved alone would make all feedback look sufficient.
            Some(_) if asks_a_model && self.problems > 0 && self.why.is_empty() => {
                "nobody judged the feedback on the unsolved problems: set `why_unsolved=true`"
            }
            Some(_) => {
                self.friction = friction(questions, &Bootstrap::default().seed(seed))?;
                "of no feedback it is known whether it was sufficient"
            }
        };
        if self.friction.is_none() {
            self.no_target = Some(reason.into());
        }
        Ok(())
    }

    /// In lines.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!(
            "unsolved: {} problems; last attempts that repeat a wrong answer {}, wrong at the same step {}, without an \
             answer {}",
            self.problems, self.repeated, self.same_step, self.no_answer
        )];
        if self.cut > 0 {
            lines.push(format!("the budget ended the rounds of {} more problems", self.cut));
        }
        if self.silent_feedback > 0 {
            lines.push(format!("{} pieces of feedback did not come from the model", self.silent_feedback));
        }
        if !self.why.is_empty() {
            let why: Vec<String> =
                self.why.iter().map(|(why, count)| format!("{} {count}", words(*why))).collect();
            lines.push(format!("why, by the judge: {}", why.join(", ")));
        }
        if let Some(resistance) = &self.resistance {
            lines.push(format!("resistance to right feedback {}", output::percent(resistance)));
        }
        match (&self.friction, &self.no_target) {
            (Some(Friction { q, target, gap, untold, .. }), _) => {
                let untold = match untold {
                    0 => String::new(),
                    n => format!(" (unknown on {n} problems)"),
                };
                lines.push(format!(
                    "sufficient feedback {}{untold}: target {}, missing {}",
                    output::percent(q),
                    output::percent(target),
                    output::points(gap)
                ));
            }
            (None, Some(reason)) => lines.push(format!("no target: {reason}")),
            (None, None) => {}
        }
        lines
    }
}

/// A category in the paper's words.
fn words(why: WhyUnsolved) -> &'static str {
    match why {
        WhyUnsolved::Impossible => "impossible to solve",
        WhyUnsolved::TooComplicated => "too complicated",
        WhyUnsolved::FeedbackIsWrong => "feedback is wrong",
        WhyUnsolved::NotFollowing => "not following the feedback",
        WhyUnsolved::Format => "style or format",
        WhyUnsolved::Unknown => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(feedback: FeedbackSource, first_wrong: Option<usize>, silent: bool) -> RetryRound {
        RetryRound {
            round: 1,
            temperature: 0.0,
            first_wrong,
            feedback: Some(feedback),
            silent: silent.then(|| "it is away".to_string()),
            hidden: 0,
            repeated: false,
            eligible: None,
            identical: false,
            exchange: None,
        }
    }

    #[test]
    fn sufficient_is_what_the_verifier_corrects_and_what_a_judge_or_a_solution_confirms() {
        use FeedbackSource::{Binary, Critic, Step};
        use WhyUnsolved::{FeedbackIsWrong, NotFollowing, TooComplicated};
        let of =
            |source, wrong, silent, solved, why| sufficient(&[round(source, wrong, silent)], solved, why);
        assert_eq!(of(Step, Some(1), false, false, None), Some(true));
        assert_eq!(of(Step, None, false, false, None), Some(false), "no more than a bare wrong");
        assert_eq!(of(Critic, None, false, true, None), Some(true));
        assert_eq!(of(Critic, None, false, false, Some(NotFollowing)), Some(true));
        assert_eq!(of(Critic, None, false, false, Some(FeedbackIsWrong)), Some(false));
        assert_eq!(of(Critic, None, true, false, Some(NotFollowing)), Some(false), "there was none");
        assert_eq!(of(Critic, None, false, false, Some(TooComplicated)), None);
        assert_eq!(of(Critic, None, false, false, None), None, "nobody judged it");
        assert_eq!(of(Binary, None, false, true, None), None);
        assert_eq!(sufficient(&[], true, None), None);
    }
}
