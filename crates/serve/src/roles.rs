//! Models of roles beside the actor's: the `[roles]` tables of the configuration.

use crate::state::{Live, State};
use crate::{ApiError, ServeError};
use elenchus_generate::{HostLimits, LanguageModel, LayerSettings, OpenAi, OpenAiConfig, Voice, stack};
use elenchus_recipe::{EndpointDefaults, models};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where the key is looked for when the table does not say, as on the command line.
const API_KEY_VARIABLE: &str = "OPENAI_API_KEY";

/// Whom a role asks.
pub(crate) enum RoleModel {
    /// The embedded model.
    Embedded,
    /// A server of its own.
    Server(Arc<dyn LanguageModel>),
    /// A model of the upstreams, by name.
    Upstream(String),
}

/// The models of all roles that have a table.
///
/// # Errors
/// A table names no model, or an address that cannot be.
pub(crate) fn open(
    tables: &BTreeMap<String, EndpointDefaults>,
) -> Result<BTreeMap<String, RoleModel>, ServeError> {
    // Roles at one server share its limit.
    let hosts = HostLimits::default();
    let made = tables.iter().map(|(role, table)| Ok((role.clone(), one(role, table, &hosts)?)));
    made.collect()
}

fn one(role: &str, table: &EndpointDefaults, hosts: &HostLimits) -> Result<RoleModel, ServeError> {
    let Some(model) = table.model.clone() else {
        return Err(ServeError::setting(
            format!("the role `{role}` has a table and no model"),
            "write `model` under its `[roles]` table",
        ));
    };
    if model == models::EMBEDDED {
        return Ok(RoleModel::Embedded);
    }
    let Some(base_url) = table.base_url.clone() else { return Ok(RoleModel::Upstream(model)) };
    let config = OpenAiConfig {
        base_url,
        model,
        api_key_variable: table.api_key_variable.clone().unwrap_or_else(|| API_KEY_VARIABLE.into()),
        timeouts: table.layers.timeouts,
        most_body_bytes: table.layers.most_body_bytes,
        ca_file: table.ca_file.clone(),
        prefix: table.prefix,
        abilities: table.abilities,
        embedding_model: table.embedding_model.clone(),
        ..OpenAiConfig::default()
    };
    let layers = LayerSettings { hosts: hosts.clone(), ..table.layers.settings() };
    Ok(RoleModel::Server(stack(Arc::new(OpenAi::new(config)?), &layers)?))
}

/// The model of a role with its voice and the name that it has in the table of prices; `None` when it is the actor's.
pub(crate) async fn model(
    state: &State,
    live: &Live,
    role: &str,
    caller_key: Option<&str>,
) -> Result<Option<(Arc<dyn LanguageModel>, Voice, String)>, ApiError> {
    Ok(match live.roles.get(role) {
        None => None,
        Some(RoleModel::Embedded) => {
            Some((state.embedded().await?, Voice::Compact, models::EMBEDDED.to_string()))
        }
        Some(RoleModel::Server(model)) => Some((Arc::clone(model), Voice::Chat, model.name().to_string())),
        Some(RoleModel::Upstream(name)) => {
            Some((live.pool.model(name, caller_key)?, Voice::Chat, name.clone()))
        }
    })
}
