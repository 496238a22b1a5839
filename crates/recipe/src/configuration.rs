//! `elenchus.toml`: what holds for every command in a working folder: the endpoint and the prices.

use crate::parse::read_toml;
use crate::{RecipeError, ServiceSettings};
use elenchus_generate::{LayerSettings, LimitSettings, RetrySettings, Timeouts};
use elenchus_trace::Price;
use schemars::JsonSchema;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Name of the file in the working folder.
pub const CONFIGURATION_FILE: &str = "elenchus.toml";

const HINT: &str = "docs/guide.md shows a whole configuration";

/// What the file says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Configuration {
    /// The endpoint that is asked when the command line names none.
    pub endpoint: EndpointDefaults,
    /// What tokens cost, by the name of the model.
    pub prices: BTreeMap<String, TokenPrice>,
    /// What `elenchus serve` runs with.
    pub serve: ServiceSettings,
}

/// The `[endpoint]` table.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EndpointDefaults {
    /// Address of an OpenAI-compatible server, usually ending in `/v1`.
    #[serde(deserialize_with = "address", skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// Name of the model at the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Environment variable that holds the key; the key itself has no place in a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key_variable: Option<String>,
    /// How long is waited, how often a failed call is made again, how many calls run at once: at any endpoint.
    pub layers: EndpointLayers,
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

fn limit<'de, D: Deserializer<'de>>(from: D) -> Result<LimitSettings, D::Error> {
    let settings = LimitSettings::deserialize(from)?;
    settings.check().map_err(|problem| D::Error::custom(format!("the limit on calls at once: {problem}")))?;
    Ok(settings)
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

fn address<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let address = String::deserialize(from)?;
    if address.starts_with("http://") || address.starts_with("https://") {
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
            layers: EndpointLayers::default(),
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
