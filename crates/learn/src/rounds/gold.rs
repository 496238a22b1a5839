//! The control arm: as many reference solutions, for as many steps, instead of the model's own selected samples.

use super::{Continuation, RoundReport, RoundSettings, train_round};
use crate::evaluation::{Evaluation, evaluate};
use crate::policy::{Policy, text_row};
use crate::rollouts::mix;
use crate::{LearnError, Session};
use elenchus_task::{Skill, Split, Task};

/// Trains `policy` (the starting weights) round by round on the reference solutions of fresh training problems, as
/// many rows per round as the experiment kept (`rows_per_round`), with the same steps and schedule, and measures it at
/// the end on the same held-out problems with the same seeds.
pub fn gold_control(
    policy: &mut dyn Policy,
    task: &dyn Task,
    settings: &RoundSettings,
    rows_per_round: &[usize],
    seed: u64,
    name: &str,
    session: &Session<'_>,
) -> Result<(RoundReport, Evaluation), LearnError> {
    let last = rows_per_round.len();
    let start = policy.copy();
    let mut tokens = 0;
    let begun = std::time::Instant::now();
    for (index, &rows) in rows_per_round.iter().enumerate() {
        let round = index + 1;
        let checkpoint = format!("{name}-round-{round}");
        if let Some(folder) = session.checkpoint(&checkpoint)? {
            policy.load(&folder)?;
            continue;
        }
        let round_seed = mix(seed, 500 + round as u64);
        let problems = task.problems(Split::Train, rows, round_seed)?;
        let groups = problems
            .iter()
            .map(|problem| {
                let reference = task.reference(problem).ok_or_else(|| LearnError::Data {
                    what: format!("task `{}` writes no reference solutions", task.name()),
                    hint: "run `improve --no-control`".into(),
                })?;
                Ok(vec![text_row(policy, &Skill::Solve.prompt(problem, &[]), &reference)?])
            })
            .collect::<Result<Vec<_>, LearnError>>()?;
        if settings.continuation == Continuation::Restart {
            policy.set_weights_from(start.as_ref())?;
        }
        tokens += train_round(policy, settings, round, &groups, round_seed, session)?;
        session.save_checkpoint(&checkpoint, |folder| policy.save(folder, true))?;
    }
    let held_out = task.problems(settings.evaluate.split, settings.evaluate.problems, mix(seed, 1))?;
    session.observer.phase(last, "measure control", 2 * held_out.len());
    let evaluation = evaluate(
        policy,
        task,
        &held_out,
        &settings.evaluate,
        mix(seed, 2),
        &format!("{name}/{last}/measure"),
        session,
    )?;
    let mut report = RoundReport::measured(last, &evaluation)?;
    report.rows = rows_per_round.iter().sum();
    report.tokens += tokens;
    report.seconds = begun.elapsed().as_secs_f64();
    Ok((report, evaluation))
}
