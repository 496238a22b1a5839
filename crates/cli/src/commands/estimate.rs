//! `elenchus estimate`

use super::improve::ImproveOptions;
use crate::arguments::Global;
use crate::asking::{self, PriceOptions};
use crate::failure::Failure;
use crate::output;
use crate::progress::stop_on_interrupt;
use clap::{Args, Subcommand};
use elenchus_control::EstimateInput;
use elenchus_learn::{Quiet, Session};
use elenchus_recipe::{ImproveEstimate, estimate_improve, models};

/// What a strategy or a training run will cost, before anything is spent
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:
  elenchus estimate --strategy self-consistency --set samples=10 --problems 1319 \\
      --prompt-tokens 120 --completion-tokens 250 --price 0.15,0.60 --tokens-per-second 80
  elenchus estimate improve --rounds 4"
)]
pub struct Estimate {
    #[command(subcommand)]
    of: Option<Of>,
    /// A strategy or a recipe
    #[arg(long, visible_alias = "recipe", required = true)]
    strategy: Option<String>,
    /// Change a setting of the strategy
    #[arg(long = "set", value_name = "NAME=VALUE")]
    settings: Vec<String>,
    /// Number of problems
    #[arg(long, default_value_t = 1)]
    problems: u64,
    /// Tokens of a typical prompt
    #[arg(long, default_value_t = 150)]
    prompt_tokens: u64,
    /// Tokens of a typical response
    #[arg(long, default_value_t = 300)]
    completion_tokens: u64,
    /// Tokens per second that the model writes in all, for the time
    #[arg(long)]
    tokens_per_second: Option<f64>,
    /// Model whose price the configuration says [default: the configuration's]
    #[arg(long)]
    model: Option<String>,
    #[command(flatten)]
    price: PriceOptions,
}

/// What else can be estimated.
#[derive(Debug, Subcommand)]
enum Of {
    /// What `improve` with the same options will do: responses, steps, tokens, and seconds on this machine
    Improve(OfImprove),
}

/// What `improve` with the same options will do
#[derive(Debug, Args)]
#[command(
    after_help = "Responses, steps and rows are counted from the settings. Tokens are these times the lengths
that the model has in a short trial, seconds are tokens at the trial's speed; nothing of it is kept.

Examples:
  elenchus estimate improve
  elenchus estimate improve --small --trial-seconds 4 --set rounds.train.steps=300"
)]
struct OfImprove {
    #[command(flatten)]
    options: ImproveOptions,
    /// How long model and machine are tried, half of it sampling and half of it training
    #[arg(long, default_value_t = 2.0, value_name = "S")]
    trial_seconds: f64,
}

/// Runs the command.
pub fn run(command: &Estimate, global: &Global) -> Result<(), Failure> {
    match (&command.of, &command.strategy) {
        (Some(Of::Improve(of)), _) => improve(of, global),
        (None, Some(strategy)) => asking_cost(command, strategy, global),
        // The parser asks for one of them.
        (None, None) => Ok(()),
    }
}

fn improve(of: &OfImprove, global: &Global) -> Result<(), Failure> {
    let config = of.options.configuration(global)?;
    let task = elenchus_task::task(&config.task, &config.task_settings)?;
    let mut policy = models::load(&config.model)?.policy();
    let session = Session { run: None, observer: &Quiet, stop: stop_on_interrupt() };
    let found = estimate_improve(&mut policy, task.as_ref(), &config, of.trial_seconds, &session)?;
    if global.json {
        return output::json(&found);
    }
    let ImproveEstimate { work, tokens, seconds, pace } = found;
    let control = if config.control { " and the control" } else { "" };
    output::line(&format!(
        "{} rounds of `{}` on `{}`{control}",
        config.rounds.rounds, config.recipe, config.task
    ))?;
    let mut rows = vec![["", "number", "tokens"].map(String::from).to_vec()];
    for (name, number, tokens) in [
        ("responses to choose settings", work.probed, tokens.probed),
        ("responses to learn from", work.sampled, tokens.sampled),
        ("responses to measure", work.measured, tokens.measured),
        ("rows read in training", work.rows_read, tokens.trained),
    ] {
        rows.push(vec![name.into(), number.to_string(), tokens.to_string()]);
    }
    output::line(output::table(&rows).trim_end())?;
    output::line(&format!("optimiser steps  {}", work.steps))?;
    if work.scored > 0 {
        output::line(&format!("and the model of step scores reads up to {} responses", work.scored))?;
    }
    output::line(&format!(
        "seconds          {seconds:.0} on this machine ({:.1}k tokens/s sampling, {:.1}k training, tried for {:.1} s)",
        pace.sampled_per_second / 1000.0,
        pace.trained_per_second / 1000.0,
        pace.seconds
    ))
}

fn asking_cost(command: &Estimate, strategy: &str, global: &Global) -> Result<(), Failure> {
    let strategy = asking::named_strategy(strategy, &command.settings)?;
    let input =
        EstimateInput { prompt_tokens: command.prompt_tokens, completion_tokens: command.completion_tokens };
    let estimate = strategy.estimate(&input);
    let mut usage = estimate.usage;
    usage.calls *= command.problems;
    usage.prompt_tokens *= command.problems;
    usage.completion_tokens *= command.problems;
    let configuration = command.price.configuration()?;
    let model = command.model.as_deref().or(configuration.endpoint.model.as_deref()).unwrap_or_default();
    let money = command.price.of(model, &configuration)?.map(|price| price.of(&usage));
    let seconds =
        command.tokens_per_second.filter(|r| *r > 0.0).map(|rate| usage.completion_tokens as f64 / rate);
    if global.json {
        return output::json(&serde_json::json!({
            "strategy": strategy.name(), "problems": command.problems, "calls": usage.calls,
            "prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens,
            "money": money, "seconds": seconds, "formula": estimate.formula,
        }));
    }
    output::line(&format!("at most, for {} problems ({})", command.problems, estimate.formula))?;
    output::line(&format!("calls              {}", usage.calls))?;
    output::line(&format!("prompt tokens      {}", usage.prompt_tokens))?;
    output::line(&format!("completion tokens  {}", usage.completion_tokens))?;
    if let Some(money) = money {
        output::line(&format!("money              {money:.2}"))?;
    }
    if let Some(seconds) = seconds {
        output::line(&format!("seconds            {seconds:.0}"))?;
    }
    Ok(())
}
