//! `--role NAME=MODEL[@URL]` and the `[roles]` tables: models beside the actor's.

use crate::asking::ModelChoice;
use crate::failure::{Code, Failure};
use elenchus_control::strategies;
use elenchus_evaluate::Needs;
use elenchus_generate::{ACTOR, Address, hide_users};
use elenchus_recipe::{CONFIGURATION_FILE, Configuration, EndpointDefaults, models};
use std::collections::BTreeMap;
use std::path::Path;

/// Whether a name means a model of this machine.
pub fn is_local(name: &str) -> bool {
    name == models::EMBEDDED || Path::new(name).join("config.json").is_file()
}

/// `NAME=MODEL[@URL]`. Names of models hold `/`, `:` and `@`, so an address is told by its beginning.
fn parse(spelled: &str) -> Result<(&str, &str, Option<&str>), Failure> {
    let wrong = || {
        Failure::new(
            Code::Usage,
            format!("`{}` binds no role to a model", hide_users(spelled)),
            "write `--role NAME=MODEL` or `--role NAME=MODEL@URL`, for example \
             critic=qwen2.5-32b@http://localhost:8001/v1",
        )
    };
    let (name, rest) = spelled.split_once('=').ok_or_else(wrong)?;
    let at = ["@http://", "@https://"].iter().filter_map(|begin| rest.rfind(begin)).max();
    let (model, url) = match at {
        Some(at) => (&rest[..at], Some(&rest[at + 1..])),
        None => (rest, None),
    };
    if name.trim().is_empty() || model.trim().is_empty() {
        return Err(wrong());
    }
    Ok((name.trim(), model.trim(), url))
}

/// The models of all roles but the actor's, by role: those of the command line, then those of the configuration for the
/// roles that `needs` names.
///
/// Where a model of the command line is that is given without URL, the first of these says: `endpoint`, which is the
/// command line's `--endpoint` (the command line wins over the file, for roles as for the model); the address in the
/// role's table; where the model is.
///
/// # Errors
/// What is spelled binds nothing; a role that nobody uses; a model without a server.
pub fn bind(
    spelled: &[String],
    endpoint: Option<&Address>,
    actor: &ModelChoice,
    configuration: &Configuration,
    needs: &Needs,
) -> Result<BTreeMap<String, ModelChoice>, Failure> {
    let used: Vec<&str> =
        needs.roles.iter().map(|needs| needs.role.as_str()).filter(|role| *role != ACTOR).collect();
    let mut bound = BTreeMap::new();
    for one in spelled {
        let (name, model, url) = parse(one)?;
        if !used.contains(&name) {
            return Err(unknown(name, &used));
        }
        let written = configuration.role(name).unwrap_or_default();
        // Of what the file says about the role, what belongs to its server is kept where this is the same one.
        let at = match (url, &written.base_url) {
            (Some(url), Some(base)) if url == base.reveal() => written,
            (Some(url), _) => at_url(url, configuration),
            // `choice` puts it beside the actor, which is there.
            (None, _) if endpoint.is_some() => EndpointDefaults::default(),
            (None, Some(_)) if configuration.roles.contains_key(name) => written,
            (None, _) => EndpointDefaults::default(),
        };
        bound.insert(name.to_string(), choice(name, Some(model), at, actor, configuration)?);
    }
    for name in configuration.roles.keys() {
        if used.contains(&name.as_str()) && !bound.contains_key(name) {
            let table = configuration.role(name).unwrap_or_default();
            bound.insert(name.clone(), choice(name, None, table, actor, configuration)?);
        }
    }
    Ok(bound)
}

/// A server that was named by its address: what `[endpoint]` says where it is that one.
fn at_url(url: &str, configuration: &Configuration) -> EndpointDefaults {
    let same = configuration.endpoint.base_url.as_ref().is_some_and(|base| base.reveal() == url);
    let layers = configuration.endpoint.layers;
    let known = if same {
        configuration.endpoint.clone()
    } else {
        EndpointDefaults { layers, ..EndpointDefaults::default() }
    };
    EndpointDefaults { base_url: Some(url.into()), model: None, ..known }
}

fn choice(
    name: &str,
    model: Option<&str>,
    at: EndpointDefaults,
    actor: &ModelChoice,
    configuration: &Configuration,
) -> Result<ModelChoice, Failure> {
    let Some(model) = model.map(str::to_string).or_else(|| at.model.clone()) else {
        return Err(Failure::new(
            Code::Usage,
            format!("the role `{name}` has a table and no model"),
            format!("write `model` under `[roles.{name}]` in {CONFIGURATION_FILE}"),
        ));
    };
    if is_local(&model) {
        return Ok(ModelChoice::local(model));
    }
    if at.base_url.is_some() {
        return Ok(ModelChoice::at(model, at));
    }
    // Without an address of its own it is where the actor is.
    if actor.endpoint().is_some() {
        return Ok(actor.beside(model));
    }
    if configuration.endpoint.base_url.is_some() {
        return Ok(ModelChoice::at(model, configuration.endpoint.clone()));
    }
    Err(Failure::new(
        Code::Usage,
        format!("the model `{model}` of the role `{name}` is neither on this machine nor at a server"),
        format!(
            "write `--role {name}={model}@URL`, or `base_url` under `[roles.{name}]` in {CONFIGURATION_FILE}"
        ),
    ))
}

fn unknown(name: &str, used: &[&str]) -> Failure {
    if name == ACTOR {
        return Failure::new(
            Code::Usage,
            "the actor's model is no further role",
            "give it with `--model` and `--endpoint`",
        );
    }
    let hint = match used {
        [] => {
            let mut others: Vec<String> = strategies()
                .into_iter()
                .flat_map(|entry| entry.needs.roles)
                .map(|needs| needs.role)
                .collect();
            others.retain(|role| role != ACTOR);
            others.sort_unstable();
            others.dedup();
            format!("it asks the actor alone; other strategies use {}", others.join(", "))
        }
        used => format!("beside the actor it asks {}", used.join(", ")),
    };
    Failure::new(Code::Usage, format!("the strategy has no role `{name}`"), hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_models_may_hold_what_stands_in_addresses() {
        assert_eq!(parse("critic=qwen3:4b").unwrap(), ("critic", "qwen3:4b", None));
        let url = "http://localhost:8001/v1";
        assert_eq!(parse("judge=a/b@2@http://localhost:8001/v1").unwrap(), ("judge", "a/b@2", Some(url)));
        assert_eq!(parse("judge=m@main").unwrap(), ("judge", "m@main", None));
        for wrong in ["critic", "critic=", "=m", "critic=@http://x/v1"] {
            let text = parse(wrong).unwrap_err().to_string();
            assert!(text.contains(wrong) && text.contains("hint:"), "{text}");
        }
    }
}
