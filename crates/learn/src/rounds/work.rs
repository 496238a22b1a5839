//! How much work an experiment is, counted before any of it is done, and how fast this machine does such work.

use super::RoundSettings;
use crate::objective::{Sft, TrainingRow};
use crate::policy::{Policy, text_row};
use crate::reward::StepReward;
use crate::rollouts::{Judged, RolloutSettings, judged_rollouts, mix};
use crate::trainer::{Epochs, train};
use crate::{LearnError, Session};
use elenchus_task::{Skill, Split, Task};
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// What an experiment will do, by its settings alone. An early stop makes it less.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// Responses drawn to choose temperature and threshold.
    pub probed: usize,
    /// Responses drawn to learn from.
    pub sampled: usize,
    /// Responses drawn to measure, the start and the control included.
    pub measured: usize,
    /// Optimiser steps, those of the control included.
    pub steps: usize,
    /// Rows read in these steps, each as often as it is read.
    pub rows_read: usize,
    /// Responses that a learned model of step scores reads at most; 0 where steps are scored by rule.
    pub scored: usize,
}

impl Work {
    /// The work of [`super::improve`], and with `control` that of [`super::gold_control`] beside it: with R rounds,
    /// R · (probe.problems · probe.samples · |temperatures| + problems · samples) responses to learn from,
    /// (R + 1) · evaluate.problems · (1 + evaluate.samples) to measure, R · train.steps steps of train.batch rows.
    pub fn of(settings: &RoundSettings, control: bool) -> Self {
        let RoundSettings { rounds, probe, train, evaluate, .. } = settings;
        let arms = 1 + usize::from(control);
        let probed = match settings.searches() {
            true => rounds * probe.problems * probe.samples * probe.temperatures.len(),
            false => 0,
        };
        let sampled = rounds * settings.problems * settings.samples;
        let steps = arms * rounds * train.steps;
        Work {
            probed,
            sampled,
            measured: (rounds + arms) * evaluate.problems * (1 + evaluate.samples),
            steps,
            rows_read: steps * train.batch,
            scored: if settings.reward.step == StepReward::Learned { probed + sampled } else { 0 },
        }
    }

    /// All responses.
    pub fn responses(&self) -> usize {
        self.probed + self.sampled + self.measured
    }
}

/// How fast a policy works on this machine, and how long its texts are, from a short trial.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Pace {
    /// Mean tokens of a response.
    pub response_tokens: f64,
    /// Mean tokens of a training row, the prompt included.
    pub row_tokens: f64,
    /// Tokens written per second, verdicts included.
    pub sampled_per_second: f64,
    /// Tokens read per second in training.
    pub trained_per_second: f64,
    /// Seconds that the trial took.
    pub seconds: f64,
}

/// Problems that are sampled at first: few, so that a slow model does not keep anybody waiting; then twice as many each time.
const FEWEST_PROBLEMS: usize = 16;
/// Problems that are sampled at a time at most: enough to fill the batch as the experiment does.
const MOST_PROBLEMS: usize = 128;
/// Steps that are not counted: the first one makes the memory that all use.
const WARM_UP: usize = 1;

impl Pace {
    /// Samples training problems for about `seconds` / 2, more at a time each time, and trains a copy of the policy on what
    /// came out for as long. The policy stays as it is. Temperature is the middle one of those to choose among; the speed of
    /// sampling is that of the last problems, which fill the batch best.
    ///
    /// # Errors
    /// Problems that cannot be made or written in the model's vocabulary; [`LearnError::Interrupted`].
    pub fn measure(
        policy: &mut dyn Policy,
        task: &dyn Task,
        settings: &RoundSettings,
        seed: u64,
        seconds: f64,
        session: &Session<'_>,
    ) -> Result<Pace, LearnError> {
        let begun = Instant::now();
        // What is no time is as short as can be.
        let half = Duration::try_from_secs_f64(seconds / 2.0).unwrap_or_default();
        let temperatures = &settings.probe.temperatures;
        let mut rows: Vec<(bool, TrainingRow)> = Vec::new();
        let (mut responses, mut tokens, mut sampled_per_second) = (0, 0, 0.0);
        let mut at_once = FEWEST_PROBLEMS;
        for trial in 0.. {
            let (before, tokens_before) = (Instant::now(), tokens);
            let problems = task.problems(Split::Train, at_once, mix(seed, 900 + trial))?;
            let rollouts = RolloutSettings {
                samples: settings.samples,
                temperature: temperatures.get(temperatures.len() / 2).copied().unwrap_or(1.0),
                max_new_tokens: settings.max_new_tokens,
                seed: mix(seed, 800 + trial),
                distributions: false,
            };
            let label = format!("pace/{trial}");
            let judged = judged_rollouts(policy, task, &problems, &rollouts, &label, session)?;
            for (problem, Judged { rollout, verdict, .. }) in problems
                .iter()
                .zip(judged)
                .flat_map(|(problem, all)| all.into_iter().map(move |one| (problem, one)))
            {
                responses += 1;
                tokens += rollout.tokens.len();
                let row = text_row(policy, &Skill::Solve.prompt(problem, &[]), &rollout.text)?;
                rows.push((verdict.is_correct(), row));
            }
            let written: usize = tokens - tokens_before;
            sampled_per_second = written as f64 / before.elapsed().as_secs_f64().max(1e-9);
            if begun.elapsed() >= half {
                break;
            }
            at_once = (2 * at_once).min(MOST_PROBLEMS);
        }
        // Right responses are what is learned, and they may be shorter than others.
        let some_right = rows.iter().any(|(right, _)| *right);
        let groups: Vec<Vec<TrainingRow>> =
            rows.into_iter().filter(|(right, _)| *right || !some_right).map(|(_, row)| vec![row]).collect();
        let row_tokens = groups.iter().flatten().map(|row| row.tokens.len()).sum::<usize>() as f64
            / groups.len().max(1) as f64;
        let trained_per_second = trained_per_second(policy, settings, &groups, seed, half, session)?;
        Ok(Pace {
            response_tokens: tokens as f64 / responses.max(1) as f64,
            row_tokens,
            sampled_per_second,
            trained_per_second,
            seconds: begun.elapsed().as_secs_f64(),
        })
    }
}

/// Steps on a copy of the policy until the time is over, at least one that counts.
fn trained_per_second(
    policy: &dyn Policy,
    settings: &RoundSettings,
    groups: &[Vec<TrainingRow>],
    seed: u64,
    time: Duration,
    session: &Session<'_>,
) -> Result<f64, LearnError> {
    let mut copy = policy.copy();
    let mut source = Epochs::new(groups, settings.train.batch, seed)?;
    let (mut tokens, mut seconds) = (0, 0.0);
    let begun = Instant::now();
    for step in 0.. {
        session.check()?;
        let before = Instant::now();
        let done = train(
            copy.as_mut(),
            &Sft::default(),
            &settings.train,
            &mut source,
            step..step + 1,
            &mut |_, _| ControlFlow::Continue(()),
        )?;
        if step >= WARM_UP {
            tokens += done.tokens;
            seconds += before.elapsed().as_secs_f64();
            if begun.elapsed() >= time {
                break;
            }
        }
    }
    Ok(tokens as f64 / seconds.max(1e-9))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::EvaluationSettings;
    use crate::reward::RewardSettings;
    use crate::rounds::ProbeSettings;
    use crate::trainer::TrainSettings;

    #[test]
    fn work_is_counted_from_the_settings() {
        let settings = RoundSettings {
            rounds: 2,
            problems: 100,
            samples: 4,
            probe: ProbeSettings {
                problems: 10,
                samples: 3,
                temperatures: vec![0.5, 1.0],
                ..ProbeSettings::default()
            },
            train: TrainSettings { steps: 7, batch: 8, ..TrainSettings::default() },
            evaluate: EvaluationSettings { problems: 50, samples: 5, ..EvaluationSettings::default() },
            ..RoundSettings::default()
        };
        let alone = Work { probed: 120, sampled: 800, measured: 900, steps: 14, rows_read: 112, scored: 0 };
        assert_eq!(Work::of(&settings, false), alone);
        assert_eq!(alone.responses(), 1820);
        let both = Work { measured: 1200, steps: 28, rows_read: 224, ..alone };
        assert_eq!(Work::of(&settings, true), both, "the control trains as long and is measured once");
        let learned = RoundSettings {
            reward: RewardSettings { step: StepReward::Learned, ..RewardSettings::default() },
            ..settings.clone()
        };
        assert_eq!(Work::of(&learned, false).scored, 920);
        let fixed =
            ProbeSettings { temperatures: vec![1.0], thresholds: vec![0.0], ..settings.probe.clone() };
        assert_eq!(
            Work::of(&RoundSettings { probe: fixed, ..settings }, false).probed,
            0,
            "nothing to choose"
        );
    }
}
