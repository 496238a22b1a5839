//! `elenchus keys`

use crate::arguments::Global;
use crate::failure::{Code, Failure};
use crate::output;
use clap::{Args, Subcommand};
use elenchus_recipe::Configuration;
use elenchus_remember::service::{KeyEntry, ServiceStore, StorePlace, Write, Written};
use elenchus_serve::{SCOPES, hash_secret, new_secret};
use std::path::PathBuf;

/// Keys of the gateway: who may ask, and how much
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  elenchus keys add web-app --scope ask --scope feedback --tokens 1000000 --window-hours 24
  elenchus keys list
  elenchus keys revoke web-app")]
pub struct Keys {
    /// What to do
    #[command(subcommand)]
    command: Command,
    /// Where the gateway keeps them: a file, or `postgres://user@host/database` [default: the configuration's, else
    /// gateway.sqlite in the data folder]
    #[arg(long, value_name = "FILE|URL", global = true)]
    store: Option<String>,
    /// File with settings [default: elenchus.toml in this folder, where there is one]
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a key; it is shown once and only its hash is stored
    Add {
        /// Name of the application or person
        name: String,
        /// What it may do; several times [default: ask and feedback]
        #[arg(long = "scope", value_parser = SCOPES)]
        scopes: Vec<String>,
        /// Most tokens in a window
        #[arg(long, value_name = "N")]
        tokens: Option<u64>,
        /// Most money in a window
        #[arg(long, value_name = "M")]
        money: Option<f64>,
        /// Length of the window
        #[arg(long, value_name = "H", default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=87_600))]
        window_hours: u64,
    },
    /// The keys, without their secrets
    List,
    /// End a key; a running gateway takes up to two seconds to notice
    Revoke {
        /// Its name
        name: String,
    },
}

/// Runs the command.
pub fn run(keys: &Keys, global: &Global) -> Result<(), Failure> {
    let configuration = Configuration::read(keys.config.as_deref())?;
    let place = keys.store.as_ref().map_or_else(|| configuration.serve.store_place(), StorePlace::new);
    let store = place.open()?;
    let store = store.as_ref();
    match &keys.command {
        Command::Add { name, scopes, tokens, money, window_hours } => {
            let scopes =
                if scopes.is_empty() { vec!["ask".into(), "feedback".into()] } else { scopes.clone() };
            add(store, name, scopes, *tokens, *money, *window_hours, global)
        }
        Command::List => list(store, global),
        Command::Revoke { name } => match store.write(&[Write::RevokeKey(name.clone())])?.first() {
            Some(Written::Stored) => Ok(()),
            _ => Err(Failure::new(
                Code::Usage,
                format!("there is no key `{name}`"),
                "`elenchus keys list` shows them",
            )),
        },
    }
}

fn add(
    store: &dyn ServiceStore,
    name: &str,
    scopes: Vec<String>,
    tokens: Option<u64>,
    money: Option<f64>,
    window_hours: u64,
    global: &Global,
) -> Result<(), Failure> {
    if name.trim().is_empty() || name.len() > 100 {
        return Err(Failure::new(Code::Usage, "the name is empty or longer than 100 bytes", "take a word"));
    }
    if money.is_some_and(|money| !(money.is_finite() && money >= 0.0)) {
        return Err(Failure::new(Code::Usage, "`--money` is no amount", "0 or more"));
    }
    let created_ms = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64);
    let secret = new_secret();
    let entry = KeyEntry {
        name: name.into(),
        hash: hash_secret(&secret),
        scopes,
        tokens,
        money,
        window_seconds: window_hours * 3600,
        created_ms,
    };
    match store.write(&[Write::Key(entry)])?.first() {
        Some(Written::Stored) if global.json => {
            output::json(&serde_json::json!({"name": name, "key": secret}))
        }
        Some(Written::Stored) => {
            output::line(&secret)?;
            if !global.quiet {
                anstream::eprintln!("this is shown once; only its hash is stored");
            }
            Ok(())
        }
        _ => Err(Failure::new(
            Code::Usage,
            format!("there is a key `{name}` already"),
            "take another name, or revoke it first",
        )),
    }
}

fn list(store: &dyn ServiceStore, global: &Global) -> Result<(), Failure> {
    let keys = store.keys()?;
    if global.json {
        let shown: Vec<_> = keys
            .iter()
            .map(|key| {
                serde_json::json!({
                    "name": key.name, "scopes": key.scopes, "tokens": key.tokens, "money": key.money,
                    "window_seconds": key.window_seconds, "created_ms": key.created_ms,
                })
            })
            .collect();
        return output::json(&shown);
    }
    let mut rows = vec![["name", "scopes", "tokens", "money", "window"].map(String::from).to_vec()];
    let bound = |bound: Option<String>| bound.unwrap_or_else(|| "–".into());
    rows.extend(keys.iter().map(|key| {
        vec![
            key.name.clone(),
            key.scopes.join(", "),
            bound(key.tokens.map(|tokens| tokens.to_string())),
            bound(key.money.map(|money| money.to_string())),
            format!("{} h", key.window_seconds / 3600),
        ]
    }));
    output::line(output::table(&rows).trim_end())
}
