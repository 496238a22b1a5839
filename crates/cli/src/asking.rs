//! Options that every asking command shares: which model, which strategy, which budget; and running it over problems.

use crate::failure::{Code, Failure};
use clap::Args;
use elenchus_control::{Strategy, strategy};
use elenchus_generate::{
    CancelToken, Context, LanguageModel, LayerSettings, NativeModel, NativeOptions, OpenAi, OpenAiConfig,
    Replay, Voice, stack,
};
use elenchus_recipe::{built_in, models};
use elenchus_task::Task;
use elenchus_trace::{Answer, Budget, Price, Problem, SampleRow};
use futures::stream::{self, StreamExt};
use indicatif::ProgressBar;
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;

/// Which model is asked.
#[derive(Debug, Clone, Args)]
pub struct ModelOptions {
    /// `embedded`, a checkpoint folder, or the name of a model at `--endpoint`
    #[arg(long, default_value = models::EMBEDDED)]
    pub model: String,
    /// Base URL of an OpenAI-compatible server, for example http://localhost:11434/v1
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,
    /// Environment variable that holds the endpoint's key
    #[arg(long, value_name = "NAME", default_value = "OPENAI_API_KEY")]
    pub api_key_variable: String,
    /// Answer from recorded samples instead of a model (samples.jsonl)
    #[arg(long, value_name = "FILE", conflicts_with = "endpoint")]
    pub replay: Option<PathBuf>,
    /// Prompts for instruction-tuned models (`chat`) or the embedded model (`compact`) [default: by model]
    #[arg(long)]
    pub voice: Option<String>,
}

/// What may be spent, over all problems together.
#[derive(Debug, Clone, Args)]
pub struct BudgetOptions {
    /// Most prompt and completion tokens
    #[arg(long, value_name = "N")]
    pub max_total_tokens: Option<u64>,
    /// Most model calls
    #[arg(long, value_name = "N")]
    pub max_calls: Option<u64>,
    /// Most seconds
    #[arg(long, value_name = "S")]
    pub max_seconds: Option<f64>,
    /// Most money; needs `--price`
    #[arg(long, value_name = "M", requires = "price")]
    pub max_money: Option<f64>,
    /// Price per million prompt and completion tokens, `IN,OUT`
    #[arg(long, value_name = "IN,OUT")]
    pub price: Option<String>,
}

impl BudgetOptions {
    /// The bounds.
    pub fn budget(&self) -> Budget {
        Budget {
            tokens: self.max_total_tokens,
            calls: self.max_calls,
            seconds: self.max_seconds,
            money: self.max_money,
        }
    }

    /// The price, where given.
    pub fn price(&self) -> Result<Option<Price>, Failure> {
        let Some(text) = &self.price else { return Ok(None) };
        let parts: Vec<f64> = text.split(',').filter_map(|p| p.trim().parse().ok()).collect();
        match parts.as_slice() {
            [prompt, completion] if *prompt >= 0.0 && *completion >= 0.0 => {
                Ok(Some(Price { prompt_per_million: *prompt, completion_per_million: *completion }))
            }
            _ => Err(Failure::new(
                Code::Usage,
                format!("`{text}` is no price"),
                "write IN,OUT, for example 0.15,0.60",
            )),
        }
    }
}

/// The model and its name.
pub fn model(options: &ModelOptions) -> Result<Arc<dyn LanguageModel>, Failure> {
    if let Some(file) = &options.replay {
        let rows = crate::files::read::<SampleRow>(file, false)?;
        return Ok(Arc::new(Replay::from_rows(file.display().to_string(), rows)));
    }
    let Some(url) = &options.endpoint else {
        let folder = models::folder(&options.model)?;
        return Ok(Arc::new(NativeModel::load(folder, NativeOptions::default())?));
    };
    if options.model == models::EMBEDDED {
        return Err(Failure::new(
            Code::Usage,
            "`--endpoint` needs the name of a model at the server",
            "add `--model NAME`; most servers list theirs at /v1/models",
        ));
    }
    let config = OpenAiConfig {
        base_url: url.clone(),
        model: options.model.clone(),
        api_key_variable: options.api_key_variable.clone(),
        ..Default::default()
    };
    Ok(stack(Arc::new(OpenAi::new(config)?), &LayerSettings::default())?)
}

/// The voice the model is asked in.
pub fn voice(options: &ModelOptions) -> Result<Voice, Failure> {
    match options.voice.as_deref() {
        Some("chat") => Ok(Voice::Chat),
        Some("compact") => Ok(Voice::Compact),
        Some(other) => {
            Err(Failure::new(Code::Usage, format!("unknown voice `{other}`"), "`chat` or `compact`"))
        }
        None if options.endpoint.is_some() || options.replay.is_some() => Ok(Voice::Chat),
        None => Ok(Voice::Compact),
    }
}

/// A context over the model, its budget and its price.
pub fn context(
    options: &ModelOptions,
    budget: &BudgetOptions,
    seed: u64,
    cancel: CancelToken,
) -> Result<Context, Failure> {
    let model = model(options)?;
    let name = model.name().to_string();
    let mut builder = Context::builder()
        .role("actor", model)
        .budget(budget.budget())
        .voice(voice(options)?)
        .seed(seed)
        .cancel(cancel);
    if let Some(price) = budget.price()? {
        builder = builder.price(name, price);
    }
    Ok(builder.build()?)
}

/// A strategy by its own name, or the one of a recipe; `settings` are `PATH=VALUE`.
pub fn named_strategy(name: &str, settings: &[String]) -> Result<Arc<dyn Strategy>, Failure> {
    let (part, mut values) = match built_in(name).ok().and_then(|recipe| recipe.strategy) {
        Some(part) => (part.name, part.settings),
        None => (name.to_string(), Value::Null),
    };
    if values.is_null() && !settings.is_empty() {
        values = Value::Object(Default::default());
    }
    for setting in settings {
        crate::settings::set(&mut values, setting)?;
    }
    Ok(strategy(&part, values)?)
}

/// Answers of a strategy to many problems, in order; as many at once as keep the model busy. Stops at the first error.
pub async fn answer_all(
    context: &Context,
    strategy: &dyn Strategy,
    task: &dyn Task,
    problems: &[Problem],
    at_once: usize,
    bar: &ProgressBar,
) -> Result<Vec<Answer>, Failure> {
    let mut answers = Vec::with_capacity(problems.len());
    let mut running =
        stream::iter(problems.iter().map(|problem| strategy.run(context, task, problem))).buffered(at_once);
    while let Some(answer) = running.next().await {
        answers.push(answer?);
        bar.inc(1);
    }
    Ok(answers)
}

/// Runs work on an asynchronous runtime; Ctrl-C cancels the calls in flight.
pub fn block_on<T>(
    cancel: &CancelToken,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        tokio::select! {
            result = work => result,
            _ = tokio::signal::ctrl_c() => {
                cancel.cancel();
                Err(Failure::new(Code::Interrupted, "interrupted", "nothing was kept; run the command again"))
            }
        }
    })
}
