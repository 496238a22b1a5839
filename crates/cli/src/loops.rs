//! Strategies that try a problem more than once: their accounts with what was right, round by round.

use crate::failure::Failure;
use crate::output;
use elenchus_control::AttemptLog;
use elenchus_measure::{Interval, accuracy};
use elenchus_task::Task;
use elenchus_trace::Answer;
use serde::Serialize;

/// The account of one loop, and which of its attempts are right.
pub struct Judged {
    pub log: AttemptLog,
    pub right: Vec<bool>,
}

/// What a strategy did with one problem.
pub enum Followed {
    /// One loop.
    Loop(Judged),
    /// Several dialogues side by side.
    Dialogues(Vec<Judged>),
}

impl Followed {
    /// Of every answer; `None` when a strategy writes no account.
    pub fn all(answers: &[Answer], task: &dyn Task) -> Result<Option<Vec<Followed>>, Failure> {
        let mut all = Vec::with_capacity(answers.len());
        for answer in answers {
            let judged = |log: AttemptLog| -> Result<Judged, Failure> {
                let right = log.judged(task, &answer.trace)?;
                Ok(Judged { log, right })
            };
            let dialogues = AttemptLog::dialogues(&answer.trace);
            if !dialogues.is_empty() {
                let judged = dialogues.into_iter().map(judged).collect::<Result<_, _>>()?;
                all.push(Followed::Dialogues(judged));
                continue;
            }
            match AttemptLog::of(&answer.trace) {
                Some(log) if !log.attempts.is_empty() => all.push(Followed::Loop(judged(log)?)),
                _ => return Ok(None),
            }
        }
        Ok((!all.is_empty()).then_some(all))
    }

    /// The loop, where there is one.
    pub fn as_loop(&self) -> Option<&Judged> {
        match self {
            Followed::Loop(judged) => Some(judged),
            Followed::Dialogues(_) => None,
        }
    }
}

impl Judged {
    /// Whether the attempt that stands at the end of a round is right; a loop that ended before keeps its last one.
    pub fn right_after(&self, round: usize) -> bool {
        let incumbents = self.log.incumbents();
        let at = incumbents.get(round).or(incumbents.last());
        at.and_then(|&attempt| self.right.get(attempt)).copied().unwrap_or(false)
    }

    /// Whether an attempt gives again an answer that was wrong before.
    pub fn repeats(&self, attempt: usize, same: &dyn Fn(&str, &str) -> bool) -> bool {
        let attempts = &self.log.attempts;
        let Some(answer) = attempts.get(attempt).and_then(|attempt| attempt.answer.as_deref()) else {
            return false;
        };
        let before = attempts.iter().zip(&self.right).take(attempt);
        before
            .filter(|(_, right)| !**right)
            .filter_map(|(old, _)| old.answer.as_deref())
            .any(|old| same(old, answer))
    }

    /// The last round that was made.
    pub fn last_round(&self) -> usize {
        self.log.attempts.last().map_or(0, |attempt| attempt.round)
    }
}

/// One round over all problems.
#[derive(Debug, Clone, Serialize)]
pub struct Round {
    /// 0 for the first attempts.
    pub round: usize,
    /// Problems whose attempt that stands at its end is right; one whose loop ended before keeps its last attempt.
    pub accuracy: Interval,
    /// Problems on which an attempt was made in it.
    pub attempts: usize,
    /// Attempts that give again an answer that was wrong before.
    pub repeated: usize,
    /// Problems that went from wrong to right.
    pub repaired: usize,
    /// Problems that went from right to wrong.
    pub broken: usize,
    /// Attempts without an answer.
    pub no_answer: usize,
    /// Tokens per problem, read and written, until its end.
    pub tokens: f64,
}

/// The rounds of the loops; none where no loop made a second attempt.
pub fn rounds(followed: &[Followed], answers: &[Answer], task: &dyn Task) -> Result<Vec<Round>, Failure> {
    let loops: Vec<(&Judged, &Answer)> =
        followed.iter().zip(answers).filter_map(|(one, answer)| Some((one.as_loop()?, answer))).collect();
    let last = loops.iter().map(|(judged, _)| judged.last_round()).max().unwrap_or(0);
    if last == 0 || loops.len() < followed.len() {
        return Ok(Vec::new());
    }
    (0..=last)
        .map(|round| {
            let right = loops.iter().filter(|(judged, _)| judged.right_after(round)).count();
            let mut found = Round {
                round,
                accuracy: accuracy(right, loops.len())?,
                attempts: 0,
                repeated: 0,
                repaired: 0,
                broken: 0,
                no_answer: 0,
                tokens: 0.0,
            };
            for (judged, answer) in &loops {
                let problem = &answer.trace.problem;
                found.tokens += judged.log.spent_until(round).tokens() as f64 / loops.len() as f64;
                if round > 0 {
                    let change = (judged.right_after(round - 1), judged.right_after(round));
                    found.repaired += usize::from(change == (false, true));
                    found.broken += usize::from(change == (true, false));
                }
                let of_round = judged.log.attempts.iter().enumerate().filter(|(_, a)| a.round == round);
                for (index, attempt) in of_round {
                    found.attempts += 1;
                    found.no_answer += usize::from(attempt.answer.is_none());
                    let same = |left: &str, right: &str| task.equivalent(problem, left, right);
                    found.repeated += usize::from(judged.repeats(index, &same));
                }
            }
            Ok(found)
        })
        .collect()
}

/// A table of the rounds.
pub fn table(rounds: &[Round]) -> String {
    let heading =
        ["round", "accuracy", "attempts", "repeated", "repaired", "broken", "no answer", "tokens/problem"];
    let mut rows = vec![heading.map(String::from).to_vec()];
    rows.extend(rounds.iter().map(|round| {
        vec![
            round.round.to_string(),
            output::percent(&round.accuracy),
            round.attempts.to_string(),
            round.repeated.to_string(),
            round.repaired.to_string(),
            round.broken.to_string(),
            round.no_answer.to_string(),
            format!("{:.0}", round.tokens),
        ]
    }));
    output::table(&rows)
}
