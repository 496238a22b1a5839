//! Options that every asking command shares: which model, which strategy, which budget; and running it over problems.

use crate::arguments::Global;
use crate::failure::{Code, Failure};
use crate::roles::{self, is_local};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use elenchus_control::{BY, Part, Strategy, strategy};
use elenchus_evaluate::Needs;
use elenchus_generate::{
    Address, CUT_BY_BUDGET, CancelToken, ChatTemplate, Context, GenerateError, LanguageModel, NativeModel,
    NativeOptions, OpenAi, OpenAiConfig, PrefixStyle, Replay, RunJournal, ServerAbilities, Voice, stack,
};
use elenchus_recipe::{
    CONFIGURATION_FILE, Composition, Configuration, EndpointDefaults, EndpointLayers, models, strategy_of,
    strategy_part,
};
use elenchus_remember::Run;
use elenchus_task::Task;
use elenchus_trace::{Answer, Budget, NodeKind, Price, Problem, SampleRow, Usage, nearest};
use futures::stream::{FuturesOrdered, StreamExt};
use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::Poll;

/// Where the key is looked for when nobody says where.
const API_KEY_VARIABLE: &str = "OPENAI_API_KEY";

/// Which model is asked.
#[derive(Debug, Clone, Args)]
pub struct ModelOptions {
    /// `embedded`, a checkpoint folder, or the name of a model at the endpoint [default: the configuration's, else
    /// `embedded`]
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// Base URL of an OpenAI-compatible server, for example http://localhost:11434/v1 [default: the configuration's]
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<Address>,
    /// Environment variable that holds the endpoint's key [default: the configuration's, else OPENAI_API_KEY]
    #[arg(long, value_name = "NAME")]
    pub api_key_variable: Option<String>,
    /// Answer from recorded samples (samples.jsonl) or traces (`eval --traces`) instead of a model
    #[arg(long, value_name = "FILE", conflicts_with_all = ["endpoint", "model"])]
    pub replay: Option<PathBuf>,
    /// Prompts for instruction-tuned models (`chat`) or the embedded model (`compact`) [default: `compact` for models of
    /// this machine without a chat template, else `chat`]
    #[arg(long)]
    pub voice: Option<String>,
    /// Leave broken lines of `--replay` and `--file` out and count them
    #[arg(long)]
    pub skip_bad_lines: bool,
    /// Another model for a role of the strategy (`critic`, `judge`, `aggregator`, …); without URL at `--endpoint`, where that
    /// is given, else at the configured address of the role, else where the model is; several times for several roles
    /// [default: the configuration's, else the model]
    #[arg(long = "role", value_name = "NAME=MODEL[@URL]")]
    pub roles: Vec<String>,
    /// What the endpoint does with the beginning of an answer: `send` for servers that continue it by themselves
    /// (llama.cpp), `continue_final_message` for vLLM and SGLang [default: the configuration's, else `refuse`]
    #[arg(long, value_name = "STYLE", value_parser = prefix_parser())]
    pub prefix: Option<PrefixStyle>,
}

/// Reads the style of a prefix as it is spelled in files.
fn prefix_parser() -> impl TypedValueParser<Value = PrefixStyle> {
    PossibleValuesParser::new(["refuse", "send", "continue_final_message"]).map(|name| match name.as_str() {
        "send" => PrefixStyle::Send,
        "continue_final_message" => PrefixStyle::ContinueFinalMessage,
        _ => PrefixStyle::Refuse,
    })
}

/// What tokens cost, and where that and the endpoint are written down.
#[derive(Debug, Clone, Args)]
pub struct PriceOptions {
    /// File with endpoint and prices [default: elenchus.toml in this folder, where there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Price per million prompt and completion tokens, `IN,OUT` [default: the model's in the configuration]
    #[arg(long, value_name = "IN,OUT")]
    price: Option<String>,
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
    /// Most money; the model needs a price
    #[arg(long, value_name = "M")]
    pub max_money: Option<f64>,
    /// What tokens cost.
    #[command(flatten)]
    pub price: PriceOptions,
}

impl PriceOptions {
    /// What is written down.
    pub fn configuration(&self) -> Result<Configuration, Failure> {
        Ok(Configuration::read(self.config.as_deref())?)
    }

    /// The price of a model: as given, else as the configuration says.
    pub fn of(&self, model: &str, configuration: &Configuration) -> Result<Option<Price>, Failure> {
        let Some(text) = &self.price else { return Ok(configuration.price(model)) };
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

/// A model, with nothing left to look up.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelChoice {
    /// `embedded`, a folder, or a name at the endpoint.
    model: String,
    /// Base URL; written without user and password.
    endpoint: Option<Address>,
    /// Environment variable that holds the key.
    api_key_variable: String,
    /// Recorded samples.
    replay: Option<PathBuf>,
    /// The voice, where it was given.
    voice: Option<String>,
    /// Whether broken lines of files are left out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    skip_bad_lines: bool,
    /// Authorities that may sign the server's certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ca_file: Option<PathBuf>,
    /// What stands around an endpoint.
    #[serde(default)]
    layers: EndpointLayers,
    /// What the server does with the beginning of an answer.
    #[serde(default, skip_serializing_if = "is_default")]
    prefix: PrefixStyle,
    /// What the server can do.
    #[serde(default, skip_serializing_if = "is_default")]
    abilities: ServerAbilities,
    /// Its model for embeddings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    embedding_model: Option<String>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Everything beside strategy and problems that an asking command needs; part of the configuration of its run folder.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asking {
    /// The model.
    model: ModelChoice,
    /// Models of other roles; a role without one is the model's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    roles: BTreeMap<String, ModelChoice>,
    /// Bounds on what is spent.
    budget: Budget,
    /// What its tokens cost.
    price: Option<Price>,
    /// What the tokens of the other roles' models cost, by model.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    role_prices: BTreeMap<String, Price>,
    /// Seed of everything random.
    pub seed: u64,
}

impl ModelOptions {
    /// What the command line says, and what the configuration adds to it.
    fn choose(&self, configuration: &Configuration) -> Result<ModelChoice, Failure> {
        let defaults = &configuration.endpoint;
        let endpoint = match (&self.endpoint, &self.replay) {
            (Some(url), _) => Some(url.clone()),
            (None, Some(_)) => None,
            (None, None) if self.model.as_deref().is_some_and(is_local) => None,
            (None, None) => defaults.base_url.clone(),
        };
        // Name and key belong to the configured server: no other one is sent them.
        let theirs = endpoint.is_some() && (defaults.base_url.is_none() || endpoint == defaults.base_url);
        let default = |value: &Option<String>| value.clone().filter(|_| theirs);
        let model = self.model.clone().or_else(|| default(&defaults.model));
        let model = model.unwrap_or_else(|| models::EMBEDDED.into());
        if endpoint.is_some() && model == models::EMBEDDED {
            return Err(Failure::new(
                Code::Usage,
                "the endpoint needs the name of a model at the server",
                format!(
                    "add `--model NAME`, or `model` under `[endpoint]` in {CONFIGURATION_FILE}; most servers list \
                     theirs at /v1/models"
                ),
            ));
        }
        let variable = self.api_key_variable.clone().or_else(|| default(&defaults.api_key_variable));
        Ok(ModelChoice {
            model,
            endpoint,
            api_key_variable: variable.unwrap_or_else(|| API_KEY_VARIABLE.into()),
            replay: self.replay.clone(),
            voice: self.voice.clone(),
            skip_bad_lines: self.skip_bad_lines,
            ca_file: defaults.ca_file.clone().filter(|_| theirs),
            layers: defaults.layers,
            prefix: self.prefix.unwrap_or(if theirs { defaults.prefix } else { PrefixStyle::Refuse }),
            abilities: if theirs { defaults.abilities } else { ServerAbilities::default() },
            embedding_model: default(&defaults.embedding_model),
        })
    }
}

impl ModelChoice {
    /// A model of this machine: the embedded one, or a checkpoint folder.
    pub fn local(model: String) -> Self {
        ModelChoice::at(model, EndpointDefaults::default())
    }

    /// A model at a server.
    pub fn at(model: String, server: EndpointDefaults) -> Self {
        ModelChoice {
            model,
            endpoint: server.base_url,
            api_key_variable: server.api_key_variable.unwrap_or_else(|| API_KEY_VARIABLE.into()),
            replay: None,
            voice: None,
            skip_bad_lines: false,
            ca_file: server.ca_file,
            layers: server.layers,
            prefix: server.prefix,
            abilities: server.abilities,
            embedding_model: server.embedding_model,
        }
    }

    /// Another model at the same server.
    pub fn beside(&self, model: String) -> Self {
        ModelChoice { model, replay: None, voice: None, ..self.clone() }
    }

    /// Whether it is at a server.
    fn is_remote(&self) -> bool {
        self.endpoint.is_some()
    }

    /// Base URL of its server.
    pub fn endpoint(&self) -> Option<&Address> {
        self.endpoint.as_ref()
    }

    fn load(&self) -> Result<Arc<dyn LanguageModel>, Failure> {
        if let Some(file) = &self.replay {
            let name = file.display().to_string();
            return Ok(Arc::new(if crate::files::holds_traces(file) {
                let traces = crate::files::read_traces(file, self.skip_bad_lines)?;
                Replay::from_traces(name, &traces, None)
            } else {
                Replay::from_rows(name, crate::files::read::<SampleRow>(file, self.skip_bad_lines)?)
            }));
        }
        let Some(url) = &self.endpoint else {
            let folder = models::folder(&self.model)?;
            return Ok(Arc::new(NativeModel::load(folder, NativeOptions::default())?));
        };
        if url.is_hidden() {
            return Err(Failure::new(
                Code::Usage,
                format!(
                    "the endpoint {url} of this run had a user or a password, which are not written down"
                ),
                "give the same command again, with the same `--out`: it goes on with the run",
            ));
        }
        let config = OpenAiConfig {
            base_url: url.clone(),
            model: self.model.clone(),
            api_key_variable: self.api_key_variable.clone(),
            timeouts: self.layers.timeouts,
            most_body_bytes: self.layers.most_body_bytes,
            ca_file: self.ca_file.clone(),
            prefix: self.prefix,
            abilities: self.abilities,
            embedding_model: self.embedding_model.clone(),
            ..Default::default()
        };
        Ok(stack(Arc::new(OpenAi::new(config)?), &self.layers.settings())?)
    }

    fn voice(&self) -> Result<Voice, Failure> {
        match self.voice.as_deref() {
            Some("chat") => Ok(Voice::Chat),
            Some("compact") => Ok(Voice::Compact),
            Some(other) => {
                Err(Failure::new(Code::Usage, format!("unknown voice `{other}`"), "`chat` or `compact`"))
            }
            None if self.endpoint.is_some() || self.replay.is_some() => Ok(Voice::Chat),
            // A model with a chat template was tuned to follow instructions.
            None => match ChatTemplate::load(&models::folder(&self.model)?, &self.model)? {
                Some(_) => Ok(Voice::Chat),
                None => Ok(Voice::Compact),
            },
        }
    }
}

impl Asking {
    /// Name of the model, as a gateway knows it.
    pub fn model_name(&self) -> &str {
        &self.model.model
    }

    /// Whether calls go to a server, and may cost money.
    pub fn is_remote(&self) -> bool {
        self.model.is_remote() || self.roles.values().any(ModelChoice::is_remote)
    }

    /// Whether the embedded model answers.
    pub fn is_embedded(&self) -> bool {
        self.model.endpoint.is_none() && self.model.replay.is_none() && self.model.model == models::EMBEDDED
    }

    /// Whether a role has a model of its own.
    pub fn binds(&self, role: &str) -> bool {
        self.roles.contains_key(role)
    }

    /// The same with what was spent taken off its bounds.
    pub fn after(&self, spent: &Usage) -> Self {
        let budget = Budget {
            tokens: self.budget.tokens.map(|most| most.saturating_sub(spent.tokens())),
            calls: self.budget.calls.map(|most| most.saturating_sub(spent.calls)),
            seconds: self.budget.seconds.map(|most| (most - spent.seconds).max(0.0)),
            money: self.budget.money.map(|most| (most - spent.money).max(0.0)),
        };
        Asking { budget, ..self.clone() }
    }

    /// How many of the first answers had all that their strategy wanted, where there is a bound.
    pub fn answered(&self, answers: &[Answer]) -> usize {
        let cut = |answer: &Answer| self.is_bounded() && was_cut(answer);
        answers.iter().position(cut).unwrap_or(answers.len())
    }

    /// Whether there is any bound on what is spent.
    pub fn is_bounded(&self) -> bool {
        self.budget != Budget::default()
    }

    /// Whether broken lines of files are left out.
    pub fn skip_bad_lines(&self) -> bool {
        self.model.skip_bad_lines
    }

    /// What the command line says, and what the configuration adds to it. `needs` are those of what will be run: they
    /// say which roles there are.
    pub fn new(
        model: &ModelOptions,
        budget: &BudgetOptions,
        needs: &Needs,
        global: &Global,
    ) -> Result<Self, Failure> {
        let configuration = budget.price.configuration()?;
        let (spelled, endpoint) = (&model.roles, model.endpoint.as_ref());
        let model = model.choose(&configuration)?;
        let roles = roles::bind(spelled, endpoint, &model, &configuration, needs)?;
        let price = budget.price.of(&model.model, &configuration)?;
        let role_prices: BTreeMap<String, Price> = roles
            .values()
            .filter(|role| role.model != model.model)
            .filter_map(|role| Some((role.model.clone(), configuration.price(&role.model)?)))
            .collect();
        // What runs on this machine costs no money.
        let has_price = |one: &&ModelChoice| match one.model == model.model {
            _ if !one.is_remote() => true,
            true => price.is_some(),
            false => role_prices.contains_key(&one.model),
        };
        let free =
            [&model].into_iter().chain(roles.values()).find(|one| !has_price(one)).map(|one| &one.model);
        if let (true, Some(name)) = (budget.max_money.is_some(), free) {
            let known: Vec<&str> = configuration.prices.keys().map(String::as_str).collect();
            let near = match known.is_empty() {
                true => String::new(),
                false => format!("; prices: {}", nearest(name, known)),
            };
            let option = if *name == model.model { "`--price IN,OUT`, or " } else { "" };
            return Err(Failure::new(
                Code::Usage,
                format!("`--max-money` needs a price for the model `{name}`"),
                format!("give {option}a table `[prices.\"{name}\"]` in {CONFIGURATION_FILE}{near}"),
            ));
        }
        let bounds = Budget {
            tokens: budget.max_total_tokens,
            calls: budget.max_calls,
            seconds: budget.max_seconds,
            money: budget.max_money,
        };
        Ok(Asking { model, roles, budget: bounds, price, role_prices, seed: global.seed })
    }

    /// A context over the model, its budget and its price. With a run, every call is kept there, and none is made
    /// that was answered before.
    pub fn context(&self, cancel: CancelToken, run: Option<&Run>) -> Result<Context, Failure> {
        let voice = self.model.voice()?;
        let model = self.model.load()?;
        let name = model.name().to_string();
        let mut builder = Context::builder()
            .role("actor", model)
            .budget(self.budget)
            .voice(voice)
            .seed(self.seed)
            .cancel(cancel);
        if let Some(price) = self.price {
            builder = builder.price(name, price);
        }
        for (role, choice) in &self.roles {
            let model = choice.load()?;
            if let Some(price) = self.role_prices.get(&choice.model) {
                builder = builder.price(model.name(), *price);
            }
            builder = builder.role(role, model).role_voice(role, choice.voice()?);
        }
        if let Some(run) = run {
            builder = builder.journal(Arc::new(RunJournal::new(Arc::clone(run.journal()))));
        }
        Ok(builder.build()?)
    }
}

/// A strategy by its own name, the one of a recipe or of a recipe file, or a composition (`a then b`); `settings` are
/// `PATH=VALUE`, in a composition with the part's name in front, or `by` for the evaluator that chooses.
pub fn named_strategy(name: &str, settings: &[String]) -> Result<Arc<dyn Strategy>, Failure> {
    if Composition::is_composed(name) {
        let composition = Composition::parse(name)?;
        let parts = composition.parts();
        let mut values = Value::Object(Default::default());
        for part in parts.iter().filter(|_| parts.len() > 1) {
            values[part.name.as_str()] = Value::Object(Default::default());
        }
        if composition.choosers() > 0 {
            values[BY] = Value::Object(Default::default());
        }
        for setting in settings {
            // The name of a file holds a point that is no step of the path.
            let inside = |part: &&&Part| {
                setting.strip_prefix(part.name.as_str()).is_some_and(|rest| rest.starts_with('.'))
            };
            match parts.iter().filter(|_| parts.len() > 1).find(inside) {
                Some(part) => {
                    let rest = &setting[part.name.len() + 1..];
                    crate::settings::set(&mut values[part.name.as_str()], rest)?;
                }
                None => crate::settings::set(&mut values, setting)?,
            }
        }
        return Ok(strategy_of(name, values.as_object().unwrap_or(&Default::default()))?);
    }
    let (part, mut values) = match strategy_part(name)? {
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

/// What strategies need together, as they are named with their settings.
pub fn needs_of<'a>(named: impl IntoIterator<Item = (&'a str, Vec<String>)>) -> Result<Needs, Failure> {
    named.into_iter().try_fold(Needs::default(), |needs, (name, settings)| {
        Ok(needs.and(named_strategy(name, &settings)?.needs()))
    })
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
    match answer_within_budget(context, strategy, task, problems, at_once, bar).await? {
        (_, Some(failure)) => Err(failure),
        (answers, None) => Ok(answers),
    }
}

/// Answers to the first problems, as far as the budget goes, and the failure that ended them when it ended. Whether an
/// answer had to do with less, [`was_cut`] says.
pub async fn answer_within_budget(
    context: &Context,
    strategy: &dyn Strategy,
    task: &dyn Task,
    problems: &[Problem],
    at_once: usize,
    bar: &ProgressBar,
) -> Result<(Vec<Answer>, Option<Failure>), Failure> {
    let mut answers = Vec::with_capacity(problems.len());
    let mut running = FuturesOrdered::new();
    let mut waiting = problems.iter();
    loop {
        // Work that shares a bound begins when the bound has room for it: calls that go with less are cut in their middle.
        let mut ended = None;
        while running.len() < at_once && (running.is_empty() || context.has_room()) {
            let Some(problem) = waiting.next() else { break };
            running.push_back(strategy.run(context, task, problem));
            // The calls of what was begun are on the account before the next is begun.
            if let Poll::Ready(answer) = futures::poll!(running.next()) {
                ended = answer;
                break;
            }
        }
        if ended.is_none() {
            ended = running.next().await;
        }
        match ended.map(|answer| answer.map_err(Failure::from)) {
            Some(Ok(answer)) => answers.push(answer),
            Some(Err(failure)) if failure.code == Code::Budget => return Ok((answers, Some(failure))),
            Some(Err(failure)) => return Err(failure),
            None => return Ok((answers, None)),
        }
        bar.inc(1);
    }
}

/// What a bound says that did not reach over all problems.
pub fn bound_reached(answered: usize, wanted: usize) -> Failure {
    let hint = "raise `--max-total-tokens`, or take a strategy that needs less";
    Failure::new(Code::Budget, format!("the bound was reached after {answered} of {wanted} problems"), hint)
}

/// Whether an answer had to do with less than its strategy wanted, because the budget was used up: a call was refused or
/// cut, or an evaluator abstained for want of it.
pub fn was_cut(answer: &Answer) -> bool {
    let said = |text: &str| text.contains(GenerateError::BUDGET_EXHAUSTED);
    answer.trace.nodes.iter().any(|node| match &node.kind {
        NodeKind::Failed { error } => said(error),
        NodeKind::Evaluated { feedback, .. } => feedback.abstained.as_deref().is_some_and(said),
        NodeKind::Generated { completion, .. } => completion.extra.contains_key(CUT_BY_BUDGET),
        _ => false,
    })
}

/// Runs work on an asynchronous runtime; Ctrl-C cancels the calls in flight. What goes wrong says how to go on with
/// the run, where there is one.
pub fn block_on<T>(
    cancel: &CancelToken,
    run: Option<&Run>,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        tokio::select! {
            result = work => result,
            _ = tokio::signal::ctrl_c() => {
                cancel.cancel();
                Err(GenerateError::Cancelled.into())
            }
        }
    });
    result.map_err(|failure| explained(failure, run))
}

/// A failure that says how to go on with its run, or that nothing was kept.
pub fn explained(failure: Failure, run: Option<&Run>) -> Failure {
    let Some(run) = run else { return failure.nothing_kept("with `--out DIR` every call is") };
    // The failure itself matters more than that its calls cannot be counted.
    let kept = answered(run);
    if kept > 0 {
        let folder = run.path().display();
        anstream::eprintln!(
            "note: answered calls kept: {kept}; `elenchus resume {folder}` does not make them again"
        );
    }
    failure.in_run(run)
}

/// How many calls of a run were answered; 0 where they cannot be counted.
pub fn answered(run: &Run) -> usize {
    RunJournal::new(Arc::clone(run.journal())).answered().unwrap_or(0)
}
