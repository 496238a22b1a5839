//! Asking the models of an experiment through the same strategies and the same context that a user's calls go through.

use super::Reproduce;
use crate::{RecipeError, models};
use elenchus_control::Strategy;
use elenchus_evaluate::{Candidate, EvaluateError, EvaluateInput, Evaluator, evaluate_all};
use elenchus_generate::{ACTOR, Context, NativeModel, NativeOptions, Voice};
use elenchus_learn::Session;
use elenchus_task::Task;
use elenchus_trace::{Answer, Completion, Feedback, Problem, Usage};
use futures::stream::{self, StreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Problems whose results are kept together.
const PROBLEMS_PER_UNIT: usize = 256;
/// Problems in flight: enough to fill the batch of the engine.
const AT_ONCE: usize = 64;

/// One model, ready to be asked.
pub(super) struct Asked<'a> {
    session: &'a Session<'a>,
    context: Context,
    runtime: tokio::runtime::Runtime,
}

impl<'a> Asked<'a> {
    /// The model of this name, spoken to in the compact voice, without bounds: what is spent is reported.
    pub(super) fn new(input: &Reproduce<'a>, model: &str) -> Result<Self, RecipeError> {
        let model = NativeModel::load(models::folder(model)?, NativeOptions::default())?;
        let context = Context::builder()
            .role(ACTOR, std::sync::Arc::new(model))
            .voice(Voice::Compact)
            .seed(input.seed)
            .build()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.map_err(|error| input.refuse(&format!("no runtime: {error}")))?;
        Ok(Asked { session: input.session, context, runtime })
    }

    /// The result of a unit of work, from the journal of the run where it is there.
    fn once<T: Serialize + DeserializeOwned>(
        &self,
        key: &str,
        compute: impl FnOnce() -> Result<T, RecipeError>,
    ) -> Result<(T, bool), RecipeError> {
        self.session.check()?;
        let Some(run) = self.session.run else { return Ok((compute()?, false)) };
        if let Some(known) = run.journal().get(key)? {
            return Ok((known, true));
        }
        let value = compute()?;
        run.journal().put(key, &value)?;
        Ok((value, false))
    }

    /// Runs a strategy over problems; `take` keeps of each answer what the experiment needs.
    pub(super) fn answers<T: Serialize + DeserializeOwned>(
        &self,
        label: &str,
        strategy: &dyn Strategy,
        task: &dyn Task,
        problems: &[Problem],
        take: impl Fn(&Problem, Answer) -> Result<T, RecipeError>,
    ) -> Result<Vec<T>, RecipeError> {
        let take = &take;
        self.each(label, problems, |context, problem| async move {
            take(problem, strategy.run(context, task, problem).await?)
        })
    }

    /// Does something for every problem, many at once; its results are kept in the order of the problems.
    pub(super) fn each<'s, T: Serialize + DeserializeOwned, F>(
        &'s self,
        label: &str,
        problems: &'s [Problem],
        work: impl Fn(&'s Context, &'s Problem) -> F,
    ) -> Result<Vec<T>, RecipeError>
    where
        F: Future<Output = Result<T, RecipeError>>,
    {
        self.session.observer.phase(0, label, problems.len());
        let mut all = Vec::with_capacity(problems.len());
        for (unit, chunk) in problems.chunks(PROBLEMS_PER_UNIT).enumerate() {
            let (taken, replayed) = self.once(&format!("{label}/{unit}"), || {
                self.runtime.block_on(async {
                    let mut running = stream::iter(chunk.iter().map(|problem| work(&self.context, problem)))
                        .buffered(AT_ONCE);
                    let mut taken = Vec::with_capacity(chunk.len());
                    while let Some(found) = running.next().await {
                        taken.push(found?);
                    }
                    Ok::<Vec<T>, RecipeError>(taken)
                })
            })?;
            self.session.observer.advance(chunk.len(), 0, replayed);
            all.extend(taken);
        }
        Ok(all)
    }

    /// One feedback per problem on the text that stands beside it.
    pub(super) fn feedback(
        &self,
        label: &str,
        evaluator: &dyn Evaluator,
        task: &dyn Task,
        solutions: &[(&Problem, &str)],
    ) -> Result<Vec<Feedback>, RecipeError> {
        self.session.observer.phase(0, label, solutions.len());
        let mut all = Vec::with_capacity(solutions.len());
        for (unit, chunk) in solutions.chunks(PROBLEMS_PER_UNIT).enumerate() {
            let (found, replayed) = self.once(&format!("{label}/{unit}"), || {
                self.runtime.block_on(async {
                    let one = |&(problem, text): &(&Problem, &str)| {
                        let candidate = Candidate::extract(task, problem, Completion::text(text));
                        let problem = problem.clone();
                        async move {
                            let input = EvaluateInput {
                                context: &self.context,
                                task,
                                problem: &problem,
                                candidates: std::slice::from_ref(&candidate),
                            };
                            Ok::<Feedback, EvaluateError>(
                                evaluate_all(evaluator, input).await?.into_iter().next().unwrap_or_default(),
                            )
                        }
                    };
                    let mut running = stream::iter(chunk.iter().map(one)).buffered(AT_ONCE);
                    let mut found: Vec<Feedback> = Vec::with_capacity(chunk.len());
                    while let Some(feedback) = running.next().await {
                        found.push(feedback.map_err(|error| RecipeError::Control(error.into()))?);
                    }
                    Ok::<Vec<Feedback>, RecipeError>(found)
                })
            })?;
            self.session.observer.advance(chunk.len(), 0, replayed);
            all.extend(found);
        }
        Ok(all)
    }
}

/// Mean calls and tokens of some usages.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct MeanCost {
    /// Model calls per problem.
    pub(super) calls: f64,
    /// Prompt and completion tokens per problem.
    pub(super) tokens: f64,
}

impl MeanCost {
    /// The mean over problems.
    pub(super) fn of(usages: impl IntoIterator<Item = Usage>) -> Self {
        let (mut total, mut count) = (Usage::default(), 0usize);
        for usage in usages {
            total += usage;
            count += 1;
        }
        let n = count.max(1) as f64;
        MeanCost { calls: total.calls as f64 / n, tokens: total.tokens() as f64 / n }
    }
}

/// 1 for true, 0 for false.
pub(super) fn unit(flag: bool) -> f64 {
    f64::from(u8::from(flag))
}

/// Mean; 0 of nothing.
pub(super) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}
