//! `elenchus grid`

use super::eval::{ProblemOptions, bar};
use crate::arguments::Global;
use crate::asking::{self, Asking, BudgetOptions, ModelOptions};
use crate::failure::{Code, Failure};
use crate::kept::{self, KeepOptions, KeptConfig};
use crate::output;
use clap::Args;
use elenchus_control::ControlError;
use elenchus_evaluate::Needs;
use elenchus_generate::{CancelToken, Context};
use elenchus_measure::accuracy;
use elenchus_recipe::RecipeError;
use elenchus_recipe::grid::{
    Combination, Controller, EXTERNAL, Generator, GridRow, Judging, calibrate, grid_table, tokens_per_solved,
};
use elenchus_remember::Run;
use elenchus_task::Task;
use elenchus_trace::{Answer, Problem};
use serde::{Deserialize, Serialize};

/// Every triple of generator, evaluator and controller on the same problems, at one token budget
#[derive(Debug, Args)]
#[command(
    after_help = "The number of samples, rounds or chains of each triple is chosen so that its mean tokens per
problem come near the budget; only tokens are counted for that, on the first problems. The coin is
a control: what an evaluator that knows nothing would get.

Examples:
  elenchus grid --task countdown --problems 100 --times 16
  elenchus grid --file gsm8k.jsonl --problems 50 --evaluators self,tool,coin \\
      --controllers vote,select,beam \\
    --endpoint http://localhost:8000/v1 --model qwen2.5-7b --max-total-tokens 2000000
  elenchus grid --file gsm8k.jsonl --problems 50 --evaluators self,model \\
      --controllers vote,select,loop --endpoint http://localhost:8000/v1 --model qwen2.5-7b \\
      --role judge=qwen2.5-32b@http://localhost:8001/v1"
)]
pub struct Grid {
    /// How responses come about: `direct`, `steps`
    #[arg(long, value_delimiter = ',', default_value = "direct,steps")]
    generators: Vec<String>,
    /// What judges them: `none`, `coin`, `self`, `tool`, `model` [default: all, `model` where
    /// `--role judge=` names one]
    #[arg(long, value_delimiter = ',')]
    evaluators: Option<Vec<String>>,
    /// What decides: `greedy`, `vote`, `select`, `loop`, `beam`, `until-stable`, `step-search`
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "greedy,vote,select,loop,beam,until-stable,step-search"
    )]
    controllers: Vec<String>,
    /// Tokens per problem, in greedy chains
    #[arg(long, default_value_t = 8.0, value_name = "X")]
    times: f64,
    /// Tokens per problem, read and written, instead of `--times`
    #[arg(long, value_name = "N", conflicts_with = "times")]
    tokens: Option<u64>,
    /// Problems on which numbers of samples are chosen
    #[arg(long, default_value_t = 8)]
    pilot: usize,
    /// Temperature of all controllers but greedy
    #[arg(long, default_value_t = 0.8)]
    temperature: f32,
    #[command(flatten)]
    problems: ProblemOptions,
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    budget: BudgetOptions,
    #[command(flatten)]
    keep: KeepOptions,
}

/// Everything that determines a `grid` run.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GridConfig {
    triples: Vec<Combination>,
    times: f64,
    tokens: Option<u64>,
    pilot: usize,
    temperature: f32,
    problems: ProblemOptions,
    pub asking: Asking,
}

#[derive(Serialize)]
struct Found {
    /// Tokens per problem that every triple but the greedy ones was made equal to.
    budget: f64,
    rows: Vec<GridRow>,
    /// Triples that the model cannot do.
    skipped: Vec<Skipped>,
}

#[derive(Serialize)]
struct Skipped {
    triple: String,
    why: String,
}

/// Runs the command.
pub fn run(command: &Grid, global: &Global) -> Result<(), Failure> {
    fn named<T>(words: &[String], read: fn(&str) -> Result<T, RecipeError>) -> Result<Vec<T>, Failure> {
        Ok(words.iter().map(|word| read(word.trim())).collect::<Result<_, _>>()?)
    }
    let judge = format!("{EXTERNAL}=");
    let judged = command.model.roles.iter().any(|role| role.trim_start().starts_with(&judge));
    let evaluators = match &command.evaluators {
        Some(words) => named(words, Judging::named)?,
        None => Judging::ALL.iter().copied().filter(|one| *one != Judging::Model || judged).collect(),
    };
    let triples = Combination::all(
        &named(&command.generators, Generator::named)?,
        &evaluators,
        &named(&command.controllers, Controller::named)?,
    );
    if triples.is_empty() {
        return Err(Failure::new(
            Code::Usage,
            "these parts make no triple",
            "greedy and until-stable go with `none`; select, loop, beam and step-search need an evaluator",
        ));
    }
    if !(command.times.is_finite() && command.times >= 1.0) || command.pilot == 0 || command.tokens == Some(0)
    {
        return Err(Failure::new(
            Code::Usage,
            "there is no budget or no problem to set it on",
            "`--times` of at least 1, `--pilot` of at least 1",
        ));
    }
    let voice = Default::default();
    let needs = triples.iter().try_fold(Needs::default(), |needs, one| {
        Ok::<_, Failure>(needs.and(one.strategy(1, command.temperature, voice)?.needs()))
    })?;
    let asking = Asking::new(&command.model, &command.budget, &needs, global)?;
    if triples.iter().any(|one| one.evaluator == Judging::Model) && !asking.binds(EXTERNAL) {
        return Err(Failure::new(
            Code::Usage,
            format!("the evaluator `model` is another model, and the role `{EXTERNAL}` has none"),
            format!("name it with `--role {EXTERNAL}=MODEL@URL`, or take `self`, the model's own judgement"),
        ));
    }
    let config = GridConfig {
        triples,
        times: command.times,
        tokens: command.tokens,
        pilot: command.pilot,
        temperature: command.temperature,
        problems: command.problems.clone(),
        asking,
    };
    kept::run(&command.keep, &KeptConfig::Grid(config), global)
}

/// Answers to problems; `Err` inside says why the model cannot do it.
type Tried = Result<Vec<Answer>, String>;

impl GridConfig {
    fn answers(
        &self,
        place: (&Context, &CancelToken, Option<&Run>, &dyn Task),
        problems: &[Problem],
        one: Combination,
        units: usize,
        quiet: bool,
    ) -> Result<Tried, Failure> {
        let (context, cancel, run, task) = place;
        let strategy = one.strategy(units, self.temperature, context.voice_of(one.role()))?;
        if let Some(unmet) = strategy.needs().unmet_by(context) {
            return Ok(Err(format!("it needs {} of the model; {}", unmet.what, unmet.hint)));
        }
        if let Err(error @ ControlError::Capability { .. }) = strategy.check(context) {
            return Ok(Err(error.to_string()));
        }
        let bar = bar(problems.len(), &one.label(), quiet);
        let answers = asking::block_on(cancel, run, async {
            asking::answer_all(context, strategy.as_ref(), task, problems, self.problems.at_once.max(1), &bar)
                .await
        });
        bar.finish_and_clear();
        Ok(Ok(answers?))
    }

    /// Runs the grid, or goes on with a run.
    pub fn execute(&self, run: Option<&Run>, global: &Global) -> Result<(), Failure> {
        let (task, problems) = self.problems.load(&self.asking)?;
        let cancel = CancelToken::new();
        let context = self.asking.context(cancel.clone(), run)?;
        let place = (&context, &cancel, run, task.as_ref());
        let pilot = &problems[..self.pilot.min(problems.len())];
        let mean = |answers: &[Answer]| {
            answers.iter().map(|a| a.usage.tokens() as f64).sum::<f64>() / answers.len().max(1) as f64
        };
        let greedy = Combination {
            generator: Generator::Steps,
            evaluator: Judging::None,
            controller: Controller::Greedy,
        };
        let budget = match self.tokens {
            Some(tokens) => tokens as f64,
            None => match self.answers(place, pilot, greedy, 1, global.quiet)? {
                Ok(answers) => self.times * mean(&answers),
                Err(why) => return Err(Failure::new(Code::Model, why, "give another model")),
            },
        };
        let mut found = Found { budget, rows: Vec::new(), skipped: Vec::new() };
        for &one in &self.triples {
            let mut refused = None;
            let units = match one.scales() {
                false => 1,
                true => {
                    let cost = |units: usize| -> Result<f64, Failure> {
                        match self.answers(place, pilot, one, units, global.quiet)? {
                            Ok(answers) => Ok(mean(&answers)),
                            Err(why) => {
                                refused = Some(why);
                                Ok(budget)
                            }
                        }
                    };
                    calibrate(budget, cost)?.0
                }
            };
            let answers = match refused {
                Some(why) => Err(why),
                None => self.answers(place, &problems, one, units, global.quiet)?,
            };
            let answers = match answers {
                Ok(answers) => answers,
                Err(why) => {
                    found.skipped.push(Skipped { triple: one.label(), why });
                    continue;
                }
            };
            let mut right = 0;
            for (problem, answer) in problems.iter().zip(&answers) {
                // An abstention shows a text that is no answer.
                let given = answer.abstained.is_none();
                right += usize::from(given && task.verify(problem, &answer.text)?.is_correct());
            }
            let voice = context.voice_of(one.role());
            let strategy = one.strategy(units, self.temperature, voice)?;
            let calls: u64 = answers.iter().map(|answer| answer.usage.calls).sum();
            let (accuracy, tokens) = (accuracy(right, problems.len())?, mean(&answers));
            found.rows.push(GridRow {
                combination: one,
                strategy: one.part(units, self.temperature, voice).0,
                axes: strategy.triple(),
                units,
                tokens_per_solved: tokens_per_solved(tokens, accuracy.value),
                accuracy,
                abstained: answers.iter().filter(|answer| answer.abstained.is_some()).count(),
                tokens,
                calls: calls as f64 / problems.len().max(1) as f64,
            });
        }
        kept::record_result(run, &found)?;
        if global.json {
            return output::json(&found);
        }
        let title = format!("{}: {} problems, {budget:.0} tokens a problem", task.name(), problems.len());
        let table = grid_table(&title, budget, &found.rows);
        output::line(output::report_table(&table).trim_end())?;
        output::line(&format!("\n{}", table.note))?;
        for Skipped { triple, why } in &found.skipped {
            output::line(&format!("skipped {triple}: {why}"))?;
        }
        Ok(())
    }
}
