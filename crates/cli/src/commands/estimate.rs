//! `elenchus estimate`

use crate::arguments::Global;
use crate::asking::{self, PriceOptions};
use crate::failure::Failure;
use crate::output;
use clap::Args;
use elenchus_control::EstimateInput;

/// What a strategy will cost, before anything is spent
#[derive(Debug, Args)]
#[command(after_help = "Example:
  elenchus estimate --strategy self-consistency --set samples=10 --problems 1319 \\
      --prompt-tokens 120 --completion-tokens 250 --price 0.15,0.60 --tokens-per-second 80")]
pub struct Estimate {
    /// A strategy or a recipe
    #[arg(long, visible_alias = "recipe")]
    strategy: String,
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

/// Runs the command.
pub fn run(command: &Estimate, global: &Global) -> Result<(), Failure> {
    let strategy = asking::named_strategy(&command.strategy, &command.settings)?;
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
