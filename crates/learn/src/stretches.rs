//! Long training that survives its process: the schedule in stretches, each kept as a checkpoint with the optimiser.

use crate::objective::Objective;
use crate::policy::Policy;
use crate::trainer::{BatchSource, TrainSettings, train};
use crate::{LearnError, Session};
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;
use std::time::Instant;

/// What a training run did, stretches of earlier processes included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainAccount {
    /// Optimiser steps.
    pub steps: usize,
    /// Tokens read, prompts included.
    pub tokens: usize,
    /// Seconds of the finished stretches.
    pub seconds: f64,
    /// Mean loss over the last tenth of the last stretch.
    pub final_loss: f64,
}

/// Trains over the whole schedule in stretches of `every` steps. Each ends with the checkpoint `NAME-STEP`, optimiser
/// included; stretches that are there already are skipped, so a killed run loses at most one. The result is the one of
/// an undisturbed run. The caller announces the phase; this advances it.
///
/// # Errors
/// As [`train`], and when a checkpoint is damaged or cannot be written.
pub fn train_in_stretches(
    policy: &mut dyn Policy,
    objective: &dyn Objective,
    settings: &TrainSettings,
    source: &mut dyn BatchSource,
    every: usize,
    name: &str,
    session: &Session<'_>,
) -> Result<TrainAccount, LearnError> {
    let every = every.max(1);
    let mut total = TrainAccount::default();
    // The weights in memory lag behind while finished stretches are skipped.
    let mut behind = false;
    let mut first = 0;
    for end in (0..settings.steps).step_by(every).map(|start| (start + every).min(settings.steps)) {
        let checkpoint = format!("{name}-{end}");
        let key = format!("{name}/stretch/{end}");
        if session.checkpoint(&checkpoint)?.is_some() {
            let known: Option<TrainAccount> =
                session.run.map(|run| run.journal().get(&key)).transpose()?.flatten();
            total = add(total, known.unwrap_or_default(), end);
            session.observer.advance(end - first, 0, true);
            (first, behind) = (end, true);
            continue;
        }
        if behind && let Some(folder) = session.checkpoint(&format!("{name}-{first}"))? {
            policy.load(&folder)?;
            behind = false;
        }
        let begun = Instant::now();
        let summary = train(policy, objective, settings, source, first..end, &mut |_, step| {
            session.observer.advance(1, step.tokens, false);
            if session.stop.stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        let account = TrainAccount {
            steps: end - first,
            tokens: summary.tokens,
            seconds: begun.elapsed().as_secs_f64(),
            final_loss: summary.final_loss,
        };
        // Before the checkpoint: where there is a checkpoint there is its account.
        if let Some(run) = session.run {
            run.journal().put(&key, &account)?;
        }
        session.save_checkpoint(&checkpoint, |folder| policy.save(folder, true))?;
        total = add(total, account, end);
        first = end;
    }
    if behind && let Some(folder) = session.checkpoint(&format!("{name}-{first}"))? {
        policy.load(&folder)?;
    }
    Ok(total)
}

fn add(total: TrainAccount, stretch: TrainAccount, end: usize) -> TrainAccount {
    TrainAccount {
        steps: end,
        tokens: total.tokens + stretch.tokens,
        seconds: total.seconds + stretch.seconds,
        final_loss: stretch.final_loss,
    }
}
