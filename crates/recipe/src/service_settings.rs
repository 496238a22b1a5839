//! The `[serve]` table of `elenchus.toml`: what `elenchus serve` runs with.

use crate::{EndpointDefaults, EndpointLayers};
use elenchus_generate::{Address, LimitSettings, PrefixStyle, RetrySettings, ServerAbilities};
use elenchus_remember::service::StorePlace;
use elenchus_trace::Budget;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
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
    /// When and how often a recipe's call is made again once no upstream answered it; what is passed on is never.
    pub retry: RetrySettings,
    /// Bounds on what one request may spend; a request may ask for less.
    pub budget: Budget,
    /// Largest request body, bytes.
    pub most_body_bytes: usize,
    /// Bytes of request bodies above 64 KiB that are held at once, at least `most_body_bytes`: further ones wait, and get 503
    /// with the time to wait after some seconds. A recipe's calls and trace take many times its request.
    pub most_bytes_in_flight: usize,
    /// Most samples that a request may ask of its recipes, over all parts and choices.
    pub most_samples: u64,
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
            retry: RetrySettings::default(),
            budget: Budget::default(),
            most_body_bytes: 32 << 20,
            most_bytes_in_flight: 64 << 20,
            most_samples: 1000,
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
    /// Address of an OpenAI-compatible API, usually ending in `/v1`. A user and a password in it are sent in place of a key.
    pub base_url: Address,
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
    /// File (PEM) of the authorities that may sign its certificate, beside those of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Longest wait for a connection, seconds.
    #[serde(default = "ten_seconds")]
    pub connect_seconds: f64,
    /// Longest wait for the head of an answer, seconds.
    #[serde(default = "two_minutes")]
    pub first_byte_seconds: f64,
    /// Longest pause in the middle of an answer, seconds.
    #[serde(default = "two_minutes")]
    pub idle_seconds: f64,
    /// Longest time of one call of a recipe, seconds; `request_seconds` bounds what is passed on.
    #[serde(default = "twenty_minutes")]
    pub total_seconds: f64,
    /// Longest answer that is read as a whole, bytes; streams are not.
    #[serde(default = "most_answer_bytes")]
    pub most_body_bytes: usize,
    /// How many requests of recipes and passed on ones run at once, found out between these bounds; absent, 1 to 256 calls
    /// of recipes, and what is passed on waits only after the upstream refused some (429, 503).
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "limit")]
    pub limit: Option<LimitSettings>,
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

fn ten_seconds() -> f64 {
    10.0
}

fn two_minutes() -> f64 {
    120.0
}

fn twenty_minutes() -> f64 {
    1200.0
}

fn most_answer_bytes() -> usize {
    64 << 20
}

fn limit<'de, D: Deserializer<'de>>(from: D) -> Result<Option<LimitSettings>, D::Error> {
    crate::configuration::limit(from).map(Some)
}

impl UpstreamSettings {
    /// An upstream with default settings.
    pub fn new(base_url: impl Into<Address>) -> Self {
        UpstreamSettings {
            name: None,
            base_url: base_url.into(),
            api_key_variable: None,
            weight: one(),
            models: Vec::new(),
            ca_file: None,
            connect_seconds: ten_seconds(),
            first_byte_seconds: two_minutes(),
            idle_seconds: two_minutes(),
            total_seconds: twenty_minutes(),
            most_body_bytes: most_answer_bytes(),
            limit: None,
            prefix: PrefixStyle::Refuse,
            abilities: ServerAbilities::default(),
            embedding_model: None,
        }
    }

    /// With what the `[endpoint]` table says of its server and how it is asked.
    pub fn at_endpoint(self, endpoint: &EndpointDefaults) -> Self {
        let EndpointLayers { timeouts, limit, most_body_bytes, .. } = endpoint.layers;
        let usual = EndpointLayers::default();
        let mut upstream = UpstreamSettings {
            ca_file: endpoint.ca_file.clone(),
            prefix: endpoint.prefix,
            abilities: endpoint.abilities,
            embedding_model: endpoint.embedding_model.clone(),
            most_body_bytes,
            limit: (limit != usual.limit).then_some(limit),
            ..self
        };
        // What the table leaves out stays as it is for upstreams.
        for (said, usual, here) in [
            (timeouts.connect_seconds, usual.timeouts.connect_seconds, &mut upstream.connect_seconds),
            (
                timeouts.first_byte_seconds,
                usual.timeouts.first_byte_seconds,
                &mut upstream.first_byte_seconds,
            ),
            (timeouts.idle_seconds, usual.timeouts.idle_seconds, &mut upstream.idle_seconds),
            (timeouts.total_seconds, usual.timeouts.total_seconds, &mut upstream.total_seconds),
        ] {
            if said != usual {
                *here = said;
            }
        }
        upstream
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Configuration;

    #[test]
    fn the_layers_of_the_endpoint_are_those_of_its_upstream() {
        let text = "[endpoint]\nbase_url = \"https://x/v1\"\nca_file = \"ours.pem\"\n[endpoint.layers]\n\
                    timeouts.first_byte_seconds = 5\nlimit = { start = 2, most = 3 }\nmost_body_bytes = 7\n";
        let endpoint = Configuration::parse("c.toml", text).unwrap().endpoint;
        let upstream = UpstreamSettings::new("https://x/v1").at_endpoint(&endpoint);
        assert_eq!((upstream.first_byte_seconds, upstream.idle_seconds), (5.0, 120.0));
        assert_eq!(upstream.limit.map(|limit| (limit.start, limit.most)), Some((2, 3)));
        assert_eq!((upstream.most_body_bytes, upstream.ca_file), (7, Some("ours.pem".into())));
        let plain = UpstreamSettings::new("https://x/v1");
        assert_eq!(
            plain.clone().at_endpoint(&EndpointDefaults::default()),
            plain,
            "what is left out changes nothing"
        );
    }

    #[test]
    fn a_limit_of_an_upstream_that_cannot_be_is_refused() {
        let text = "[[serve.upstreams]]\nbase_url = \"http://x/v1\"\nlimit = { start = 0 }\n";
        let error = Configuration::parse("c.toml", text).unwrap_err().to_string();
        assert!(error.contains("1 ≤ least ≤ start ≤ most"), "{error}");
    }
}
