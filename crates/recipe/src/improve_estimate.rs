//! What an `improve` run will take, before it is begun.

use crate::ImproveConfig;
use elenchus_learn::policy::Policy;
use elenchus_learn::rounds::{Pace, Work};
use elenchus_learn::{LearnError, Session};
use elenchus_task::Task;
use serde::Serialize;

/// Tokens of an `improve` run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ImproveTokens {
    /// Written to choose temperature and threshold.
    pub probed: u64,
    /// Written to learn from.
    pub sampled: u64,
    /// Written to measure.
    pub measured: u64,
    /// Read in training, prompts included, each row as often as it is read.
    pub trained: u64,
}

/// What an `improve` run will take.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ImproveEstimate {
    /// Responses, steps and rows: exact, but for a run that stops early.
    pub work: Work,
    /// Tokens, from the lengths of a trial: the model's texts may grow shorter or longer while it learns.
    pub tokens: ImproveTokens,
    /// Seconds on this machine at the speed of the trial, without what a learned model of step scores reads.
    pub seconds: f64,
    /// The trial.
    pub pace: Pace,
}

impl ImproveEstimate {
    /// Tokens are numbers of texts times their mean length; seconds are tokens over their rates.
    pub fn new(work: Work, pace: Pace) -> Self {
        let written = |responses: usize| (responses as f64 * pace.response_tokens).round() as u64;
        let tokens = ImproveTokens {
            probed: written(work.probed),
            sampled: written(work.sampled),
            measured: written(work.measured),
            trained: (work.rows_read as f64 * pace.row_tokens).round() as u64,
        };
        let responses = (tokens.probed + tokens.sampled + tokens.measured) as f64;
        let seconds = responses / pace.sampled_per_second.max(1e-9)
            + tokens.trained as f64 / pace.trained_per_second.max(1e-9);
        ImproveEstimate { work, tokens, seconds, pace }
    }
}

/// What a run with this configuration will take: its work counted, and the speed of `policy` measured for about `seconds`.
/// Nothing is kept, and the policy stays as it is.
///
/// # Errors
/// Settings that cannot be meant, and those of [`Pace::measure`].
pub fn estimate_improve(
    policy: &mut dyn Policy,
    task: &dyn Task,
    config: &ImproveConfig,
    seconds: f64,
    session: &Session<'_>,
) -> Result<ImproveEstimate, LearnError> {
    config.rounds.check()?;
    let pace = Pace::measure(policy, task, &config.rounds, config.seed, seconds, session)?;
    Ok(ImproveEstimate::new(Work::of(&config.rounds, config.control), pace))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_and_seconds_follow_from_counts_and_rates() {
        let work = Work { probed: 10, sampled: 20, measured: 30, steps: 4, rows_read: 8, scored: 0 };
        let pace = Pace {
            response_tokens: 50.0,
            row_tokens: 100.0,
            sampled_per_second: 1000.0,
            trained_per_second: 400.0,
            seconds: 1.0,
        };
        let found = ImproveEstimate::new(work, pace);
        let tokens = ImproveTokens { probed: 500, sampled: 1000, measured: 1500, trained: 800 };
        assert_eq!(found.tokens, tokens);
        assert!((found.seconds - (3.0 + 2.0)).abs() < 1e-12);
    }
}
