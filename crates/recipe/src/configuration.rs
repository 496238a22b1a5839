//! `elenchus.toml`: what holds for every command in a working folder: the endpoint, further models by role, the prices.

use crate::parse::read_toml;
use crate::{RecipeError, ServiceSettings};
use elenchus_generate::{
    Address, LayerSettings, LimitSettings, PrefixStyle, RetrySettings, ServerAbilities, Timeouts,
};
use elenchus_trace::Price;
use schemars::JsonSchema;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Name of the file in the working folder.
pub const CONFIGURATION_FILE: &str = "elenchus.toml";

const HINT: &str = "docs/guide.md shows a whole configuration";

/// What the file says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Configuration {
    /// The endpoint that is asked when the command line names none.
    pub endpoint: EndpointDefaults,
    /// Models of roles other than the actor, by role: `[roles.critic]`. A role without a table is the actor's model.
    pub roles: BTreeMap<String, EndpointDefaults>,
    /// What tokens cost, by the name of the model.
    pub prices: BTreeMap<String, TokenPrice>,
    /// What `elenchus serve` runs with.
    pub serve: ServiceSettings,
}

/// The `[endpoint]` table, and each `[roles.NAME]` table.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EndpointDefaults {
    /// Address of an OpenAI-compatible server, usually ending in `/v1`.
    #[serde(deserialize_with = "address", skip_serializing_if = "Option::is_none")]
    pub base_url: Option<Address>,
    /// Name of the model at the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Environment variable that holds the key; the key itself has no place in a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key_variable: Option<String>,
    /// File (PEM) of the authorities that may sign the server's certificate, beside those of the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// How long is waited, how often a failed call is made again, how many calls run at once: at any endpoint.
    pub layers: EndpointLayers,
    /// What the server does with the beginning of an answer: `send` for those that continue it by themselves (llama.cpp),
    /// `continue_final_message` for vLLM and SGLang, `refuse` for those that begin a second answer.
    #[serde(skip_serializing_if = "is_default")]
    pub prefix: PrefixStyle,
    /// What the server can do.
    #[serde(skip_serializing_if = "is_default")]
    pub abilities: ServerAbilities,
    /// Model for embeddings; that of the chat when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedding_model: Option<String>,
}

/// The `[endpoint.layers]` table.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EndpointLayers {
    /// How long is waited for what.
    pub timeouts: Timeouts,
    /// When and how often a failed call is made again.
    pub retry: RetrySettings,
    /// How many calls run at once; found out between these bounds.
    #[serde(deserialize_with = "limit")]
    pub limit: LimitSettings,
    /// Longest answer that is read, bytes.
    pub most_body_bytes: usize,
}

impl Default for EndpointLayers {
    fn default() -> Self {
        EndpointLayers {
            timeouts: Timeouts::default(),
            retry: RetrySettings::default(),
            limit: LimitSettings::default(),
            most_body_bytes: elenchus_generate::OpenAiConfig::default().most_body_bytes,
        }
    }
}

impl EndpointLayers {
    /// As the layers around a model are set.
    pub fn settings(&self) -> LayerSettings {
        LayerSettings {
            retry: self.retry,
            limit: self.limit,
            timeouts: self.timeouts,
            ..LayerSettings::default()
        }
    }
}

pub(crate) fn limit<'de, D: Deserializer<'de>>(from: D) -> Result<LimitSettings, D::Error> {
    let settings = LimitSettings::deserialize(from)?;
    settings.check().map_err(|problem| D::Error::custom(format!("the limit on calls at once: {problem}")))?;
    Ok(settings)
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// One `[prices."MODEL"]` table: money per million tokens, in any currency as long as it is the same everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenPrice {
    /// Per million prompt tokens.
    #[serde(deserialize_with = "amount")]
    pub input: f64,
    /// Per million completion tokens.
    #[serde(deserialize_with = "amount")]
    pub output: f64,
}

fn amount<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    let amount = f64::deserialize(from)?;
    if amount.is_finite() && amount >= 0.0 {
        return Ok(amount);
    }
    Err(D::Error::custom(format!("{amount} is no price: money per million tokens, 0 or more")))
}

fn address<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Address>, D::Error> {
    let address = Address::deserialize(from)?;
    if ["http://", "https://"].iter().any(|scheme| address.reveal().starts_with(scheme)) {
        return Ok(Some(address));
    }
    Err(D::Error::custom(format!("`{address}` is no address: it begins with http:// or https://")))
}

impl Configuration {
    /// Reads a file; without one, [`CONFIGURATION_FILE`] in the working folder where it is there.
    ///
    /// # Errors
    /// A file that was named and cannot be read; what is wrong in it, with its line and the nearest valid word.
    pub fn read(file: Option<&Path>) -> Result<Self, RecipeError> {
        let file = match file {
            Some(file) => file,
            None if Path::new(CONFIGURATION_FILE).is_file() => Path::new(CONFIGURATION_FILE),
            None => return Ok(Configuration::default()),
        };
        let text = elenchus_remember::fs::read_to_string(file)?;
        Configuration::parse(&file.display().to_string(), &text)
    }

    /// Reads the text of a file, which is only named in errors.
    ///
    /// # Errors
    /// As [`Configuration::read`].
    pub fn parse(file: &str, text: &str) -> Result<Self, RecipeError> {
        read_toml(file, text, HINT)
    }

    /// The table of a role with what `[endpoint]` adds to it: the address where it has none; the layers where it sets none;
    /// key, authorities, abilities and embeddings of that server where it says nothing of them itself. The server's things
    /// belong to its address: no other one is sent the key.
    pub fn role(&self, name: &str) -> Option<EndpointDefaults> {
        let mut role = self.roles.get(name)?.clone();
        let theirs = &self.endpoint;
        role.base_url = role.base_url.or_else(|| theirs.base_url.clone());
        if is_default(&role.layers) {
            role.layers = theirs.layers;
        }
        if role.base_url == theirs.base_url {
            role.api_key_variable = role.api_key_variable.or_else(|| theirs.api_key_variable.clone());
            role.ca_file = role.ca_file.or_else(|| theirs.ca_file.clone());
            role.embedding_model = role.embedding_model.or_else(|| theirs.embedding_model.clone());
            if is_default(&role.prefix) {
                role.prefix = theirs.prefix;
            }
            if is_default(&role.abilities) {
                role.abilities = theirs.abilities;
            }
        }
        Some(role)
    }

    /// What the tokens of a model cost.
    pub fn price(&self, model: &str) -> Option<Price> {
        let price = self.prices.get(model)?;
        Some(Price { prompt_per_million: price.input, completion_per_million: price.output })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_configuration_is_read() {
        let text = r#"
[endpoint]
base_url = "http://localhost:8000/v1"
model = "m"
api_key_variable = "MY_KEY"

[prices."a/b:4"]
input = 1
output = 2.5
"#;
        let configuration = Configuration::parse("elenchus.toml", text).unwrap();
        let price = configuration.price("a/b:4").unwrap();
        assert_eq!((price.prompt_per_million, price.completion_per_million), (1.0, 2.5));
        assert_eq!(configuration.price("m"), None);
        let endpoint = EndpointDefaults {
            base_url: Some("http://localhost:8000/v1".into()),
            model: Some("m".into()),
            api_key_variable: Some("MY_KEY".into()),
            ..EndpointDefaults::default()
        };
        assert_eq!(configuration.endpoint, endpoint);
        assert_eq!(Configuration::parse("elenchus.toml", "").unwrap(), Configuration::default());
    }

    #[test]
    fn what_is_waited_for_an_endpoint_can_be_set() {
        let text =
            "[endpoint.layers]\ntimeouts.first_byte_seconds = 5\nretry.attempts = 2\nlimit.most = 32\n";
        let layers = Configuration::parse("c.toml", text).unwrap().endpoint.layers.settings();
        assert_eq!((layers.timeouts.first_byte_seconds, layers.timeouts.idle_seconds), (5.0, 120.0));
        assert_eq!((layers.retry.attempts, layers.limit.most), (2, 32));
    }

    #[test]
    fn roles_are_at_the_endpoint_unless_they_say_otherwise() {
        let text = r#"
[endpoint]
base_url = "http://localhost:8000/v1"
model = "m"
api_key_variable = "MY_KEY"
prefix = "continue_final_message"
abilities = { top_logprobs = 5 }
ca_file = "ours.pem"

[endpoint.layers]
retry.attempts = 2

[roles.critic]
model = "large"

[roles.judge]
model = "other"
base_url = "http://localhost:9000/v1"
layers = { retry = { attempts = 3 } }
"#;
        let configuration = Configuration::parse("elenchus.toml", text).unwrap();
        let critic = configuration.role("critic").unwrap();
        assert_eq!(critic.model.as_deref(), Some("large"));
        assert_eq!(critic.base_url, configuration.endpoint.base_url);
        assert_eq!(critic.api_key_variable.as_deref(), Some("MY_KEY"));
        assert_eq!((critic.prefix, critic.abilities.top_logprobs), (PrefixStyle::ContinueFinalMessage, 5));
        assert_eq!(critic.ca_file.as_deref(), Some(Path::new("ours.pem")));
        assert_eq!(critic.layers.retry.attempts, 2, "what holds for any endpoint");
        let judge = configuration.role("judge").unwrap();
        assert_eq!(judge.api_key_variable, None, "the key of one server is not sent to another");
        assert_eq!((judge.prefix, judge.abilities.top_logprobs), (PrefixStyle::Refuse, 20));
        assert_eq!((judge.layers.retry.attempts, &judge.ca_file), (3, &None));
        assert_eq!(configuration.role("counter"), None);
    }

    #[test]
    fn errors_name_file_line_and_the_nearest_word() {
        let error = |text: &str| Configuration::parse("c.toml", text).unwrap_err().to_string();
        let wrong = error("[endpoint]\nmodel = \"m\"\nbase-url = \"http://x\"\n");
        assert!(wrong.starts_with("c.toml:3: unknown field `base-url`"), "{wrong}");
        assert!(wrong.contains("did you mean `base_url`"), "{wrong}");
        let wrong = error("[price.m]\ninput = 1\n");
        assert!(wrong.contains("did you mean `prices`"), "{wrong}");
        let wrong = error("[prices.m]\ninput = -1\noutput = 1\n");
        assert!(wrong.starts_with("c.toml:2: -1 is no price"), "{wrong}");
        let wrong = error("[prices.m]\ninput = 1\n");
        assert!(wrong.contains("missing field `output`") && wrong.contains("docs/guide.md"), "{wrong}");
        let wrong = error("[endpoint]\n\nbase_url = \"localhost:8000\"\n");
        assert!(wrong.starts_with("c.toml:3: `localhost:8000` is no address"), "{wrong}");
        assert!(error("[endpoint\n").starts_with("c.toml:1: "));
        let wrong = error("[endpoint.layers.timeouts]\nfirst_bite_seconds = 3\n");
        assert!(wrong.contains("c.toml:2") && wrong.contains("did you mean `first_byte_seconds`"), "{wrong}");
        let wrong = error("[endpoint.layers]\nlimit = { start = 0 }\n");
        assert!(wrong.starts_with("c.toml:2: ") && wrong.contains("1 ≤ least ≤ start ≤ most"), "{wrong}");
    }
}
