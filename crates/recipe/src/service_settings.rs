//! The `[serve]` table of `elenchus.toml`: what `elenchus serve` runs with.

use crate::EndpointDefaults;
use elenchus_generate::{PrefixStyle, ServerAbilities};
use elenchus_remember::service::StorePlace;
use elenchus_trace::Budget;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What the gateway writes to standard error, as lines of JSON.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// Nothing but its start and its end.
    Off,
    /// What went wrong on our side or upstream.
    #[default]
    Problems,
    /// Every request.
    Requests,
}

/// The `[serve]` table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServiceSettings {
    /// Address to listen on. Beyond loopback, keys are needed (`elenchus keys add`).
    pub host: String,
    /// Whether requests need a key; absent, beyond loopback always, and on loopback once a key was made or when a proxy
    /// handed the request on (`Forwarded`, `X-Forwarded-For`, `X-Real-IP`). Beyond loopback it cannot be `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub require_keys: Option<bool>,
    /// Port; 0 takes a free one.
    pub port: u16,
    /// Where traces, feedback and keys are kept: a file, or `postgres://user@host/database`, which several gateways may
    /// share; absent, `gateway.sqlite` in the user's data folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    /// File of calibrations (`elenchus calibrate` writes it); absent, `calibrations.json` in the user's data folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibrations: Option<PathBuf>,
    /// The model of requests that name none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Whether the embedded model is served, too.
    pub embedded: bool,
    /// Servers that are asked.
    pub upstreams: Vec<UpstreamSettings>,
    /// Bounds on what one request may spend; a request may ask for less.
    pub budget: Budget,
    /// Largest request body, bytes.
    pub most_body_bytes: usize,
    /// Deepest nesting of a request's JSON.
    pub most_depth: usize,
    /// Most connections at once.
    pub most_connections: usize,
    /// Most recipes that run at once; further requests get 503 with the time to wait.
    pub most_recipes: usize,
    /// Longest wait for the head of a request, also on an idle connection, seconds.
    pub header_seconds: f64,
    /// Longest wait for a whole request body, seconds.
    pub body_seconds: f64,
    /// Longest wait for a client to take the next piece of its answer, seconds.
    pub write_seconds: f64,
    /// Longest time of one request, of a recipe or passed on, seconds.
    pub request_seconds: f64,
    /// How long requests in flight may finish when the gateway is stopped, seconds.
    pub grace_seconds: f64,
    /// Log lines.
    pub log: LogLevel,
    /// Folder with run folders (of `elenchus improve --out` and others) that the page shows; absent, none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runs: Option<PathBuf>,
    /// Spans for OpenTelemetry; without an endpoint here or in the standard environment variables, none.
    pub telemetry: TelemetrySettings,
    /// The `[roles]` tables of the configuration, with what `[endpoint]` adds to them.
    #[serde(skip)]
    pub roles: BTreeMap<String, EndpointDefaults>,
}

/// The `[serve.telemetry]` table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetrySettings {
    /// Address of a collector that takes OTLP over HTTP, usually ending in `/v1/traces`; absent,
    /// `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` or `OTEL_EXPORTER_OTLP_ENDPOINT`, and without these nothing is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Name of this service; absent, `OTEL_SERVICE_NAME`, else `elenchus`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_name: Option<String>,
    /// Environment variable that holds headers for the collector, `name=value,name=value`; these win over those in
    /// `OTEL_EXPORTER_OTLP_HEADERS`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers_variable: Option<String>,
}

impl Default for ServiceSettings {
    fn default() -> Self {
        ServiceSettings {
            host: "127.0.0.1".into(),
            require_keys: None,
            port: 8080,
            store: None,
            calibrations: None,
            model: None,
            embedded: true,
            upstreams: Vec::new(),
            budget: Budget::default(),
            most_body_bytes: 32 << 20,
            most_depth: 64,
            most_connections: 10_000,
            most_recipes: 256,
            header_seconds: 60.0,
            body_seconds: 60.0,
            write_seconds: 60.0,
            request_seconds: 600.0,
            grace_seconds: 20.0,
            log: LogLevel::Problems,
            runs: None,
            telemetry: TelemetrySettings::default(),
            roles: BTreeMap::new(),
        }
    }
}

/// Where what a person wants to keep lies: `$ELENCHUS_DATA`, else `$XDG_DATA_HOME/elenchus`, else
/// `~/.local/share/elenchus`, else the cache folder.
pub fn data_folder() -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("ELENCHUS_DATA")
        .or_else(|| variable("XDG_DATA_HOME").map(|folder| folder.join("elenchus")))
        .or_else(|| variable("HOME").map(|folder| folder.join(".local/share/elenchus")))
        .unwrap_or_else(crate::models::cache_folder)
}

impl ServiceSettings {
    /// The file of calibrations.
    pub fn calibrations_file(&self) -> PathBuf {
        self.calibrations.clone().unwrap_or_else(|| data_folder().join("calibrations.json"))
    }

    /// Where the store lies.
    pub fn store_place(&self) -> StorePlace {
        match &self.store {
            Some(place) => StorePlace::new(place),
            None => StorePlace::File(data_folder().join("gateway.sqlite")),
        }
    }
}

/// One `[[serve.upstreams]]` table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamSettings {
    /// Name in metrics and messages; host and port when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Address of an OpenAI-compatible API, usually ending in `/v1`.
    pub base_url: String,
    /// Environment variable that holds its key; absent, the key of the caller is passed on where the gateway itself
    /// asks for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_variable: Option<String>,
    /// Share of the requests, relative to the others'.
    #[serde(default = "one")]
    pub weight: u32,
    /// The models it is asked for; empty, all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// Longest wait for the head of an answer, seconds.
    #[serde(default = "two_minutes")]
    pub first_byte_seconds: f64,
    /// Longest pause in the middle of an answer, seconds.
    #[serde(default = "two_minutes")]
    pub idle_seconds: f64,
    /// What it does with the beginning of an answer: `send` for servers that continue it by themselves (llama.cpp),
    /// `continue_final_message` for vLLM and SGLang, `refuse` for those that begin a second answer.
    #[serde(default)]
    pub prefix: PrefixStyle,
    /// What it can do.
    #[serde(default)]
    pub abilities: ServerAbilities,
    /// Model for the embeddings of recipes; that of the chat when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding_model: Option<String>,
}

fn one() -> u32 {
    1
}

fn two_minutes() -> f64 {
    120.0
}

impl UpstreamSettings {
    /// An upstream with default settings.
    pub fn new(base_url: impl Into<String>) -> Self {
        UpstreamSettings {
            name: None,
            base_url: base_url.into(),
            api_key_variable: None,
            weight: one(),
            models: Vec::new(),
            first_byte_seconds: two_minutes(),
            idle_seconds: two_minutes(),
            prefix: PrefixStyle::Refuse,
            abilities: ServerAbilities::default(),
            embedding_model: None,
        }
    }
}
