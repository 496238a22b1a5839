//! `elenchus serve`

use crate::arguments::Global;
use crate::failure::{Code, Failure};
use clap::Args;
use elenchus_generate::Address;
use elenchus_recipe::{Configuration, LogLevel, ServiceSettings, UpstreamSettings};
use elenchus_serve::{Gateway, Handle, Options, Reloaded};
use std::collections::HashMap;
use std::path::PathBuf;

/// Serve the OpenAI API and a web page: any client gets a recipe's answers, and can say what it thinks of them
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  elenchus serve                                        the embedded model, on http://127.0.0.1:8080
  elenchus serve --upstream http://localhost:11434/v1   in front of any compatible server
  curl http://127.0.0.1:8080/v1/chat/completions -d \\
      '{\"model\": \"elenchus/self-consistency@5/embedded\",
        \"messages\": [{\"role\": \"user\", \"content\": \"g=50;e=g-1;e?\"}]}'")]
pub struct Serve {
    /// Port; 0 takes a free one [default: the configuration's, else 8080]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Address to listen on; beyond loopback, keys are needed [default: the configuration's, else 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    host: Option<String>,
    /// Base URL of a server to stand in front of; several divide the requests [default: the configuration's]
    #[arg(long = "upstream", value_name = "URL")]
    upstreams: Vec<Address>,
    /// Environment variable that holds the key of `--upstream` [default: the caller's key is passed on]
    #[arg(long, value_name = "NAME", requires = "upstreams")]
    api_key_variable: Option<String>,
    /// The model of requests that name none [default: the configuration's]
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// Do not serve the embedded model
    #[arg(long)]
    no_embedded: bool,
    /// Where traces, feedback and keys are kept: a file, or `postgres://user@host/database` [default: the
    /// configuration's, else gateway.sqlite in the data folder]
    #[arg(long, value_name = "FILE|URL")]
    store: Option<String>,
    /// Folder of runs (`elenchus improve --out DIR/NAME`) that the page shows [default: the configuration's]
    #[arg(long, value_name = "DIR")]
    runs: Option<PathBuf>,
    /// Log lines on standard error: `off`, `problems` or `requests` [default: the configuration's, else `problems`]
    #[arg(long, value_parser = ["off", "problems", "requests"])]
    log: Option<String>,
    /// File with settings and prices, read again on SIGHUP [default: elenchus.toml in this folder, where there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Serve {
    /// What the configuration says, and what the command line changes.
    fn read(&self) -> Result<Reloaded, Failure> {
        let configuration = Configuration::read(self.config.as_deref())?;
        let mut settings: ServiceSettings = configuration.serve.clone();
        if let Some(port) = self.port {
            settings.port = port;
        }
        if let Some(host) = &self.host {
            settings.host.clone_from(host);
        }
        if !self.upstreams.is_empty() {
            let upstream = |url: &Address| UpstreamSettings {
                api_key_variable: self.api_key_variable.clone(),
                ..UpstreamSettings::new(url.clone())
            };
            settings.upstreams = self.upstreams.iter().map(upstream).collect();
        } else if let (true, Some(url)) = (settings.upstreams.is_empty(), &configuration.endpoint.base_url) {
            // The endpoint of the folder is what every other command asks.
            let endpoint = &configuration.endpoint;
            let variable = endpoint.api_key_variable.clone().unwrap_or_else(|| "OPENAI_API_KEY".into());
            settings.upstreams = vec![UpstreamSettings {
                api_key_variable: Some(variable),
                ..UpstreamSettings::new(url.clone()).at_endpoint(endpoint)
            }];
            if settings.retry == ServiceSettings::default().retry {
                settings.retry = endpoint.layers.retry;
            }
            settings.model = settings.model.or_else(|| endpoint.model.clone());
        }
        if let Some(model) = &self.model {
            settings.model = Some(model.clone());
        }
        settings.roles = configuration
            .roles
            .keys()
            .filter_map(|name| Some((name.clone(), configuration.role(name)?)))
            .collect();
        settings.embedded &= !self.no_embedded;
        if let Some(store) = &self.store {
            settings.store = Some(store.clone());
        }
        if let Some(runs) = &self.runs {
            settings.runs = Some(runs.clone());
        }
        settings.log = match self.log.as_deref() {
            Some("off") => LogLevel::Off,
            Some("requests") => LogLevel::Requests,
            Some(_) => LogLevel::Problems,
            None => settings.log,
        };
        if !settings.embedded && settings.upstreams.is_empty() {
            return Err(Failure::new(
                Code::Usage,
                "there is no model to serve",
                "give `--upstream URL`, or leave `--no-embedded` out",
            ));
        }
        let prices: HashMap<_, _> = configuration
            .prices
            .keys()
            .filter_map(|name| Some((name.clone(), configuration.price(name)?)))
            .collect();
        Ok((settings, prices))
    }
}

/// Runs the command.
pub fn run(command: &Serve, global: &Global) -> Result<(), Failure> {
    let (settings, prices) = command.read()?;
    let place = settings.store_place();
    let store = place.open()?;
    raise_the_limit_on_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let models = describe(&settings);
        let gateway = Gateway::bind(Options { settings, prices, store }).await?;
        let address = gateway.address();
        if global.json {
            let started = serde_json::json!({"url": format!("http://{address}"), "store": place.to_string()});
            crate::output::line(&started.to_string())?;
        } else {
            crate::output::line(&format!("http://{address}"))?;
        }
        if !global.quiet {
            anstream::eprintln!("page http://{address}/  API http://{address}/v1  {models}");
            anstream::eprintln!("traces and feedback in {place}; Ctrl-C stops");
        }
        let handle = gateway.handle();
        reload_on_hangup(command.clone(), handle.clone());
        gateway.run(stop()).await;
        match handle.unstored() {
            0 if global.quiet => {}
            0 => anstream::eprintln!("stopped; everything is stored"),
            changes => anstream::eprintln!("stopped; {changes} changes could not be stored"),
        }
        Ok(())
    })
}

/// Every connection is an open file, and the usual limit of 1,024 is for programs of long ago.
fn raise_the_limit_on_open_files() {
    #[cfg(unix)]
    {
        use nix::sys::resource::{Resource, getrlimit, setrlimit};
        if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
            && soft < hard
        {
            // Where it stays as it was, connections beyond it wait until others end.
            let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
        }
    }
}

fn describe(settings: &ServiceSettings) -> String {
    let mut parts: Vec<String> =
        settings.upstreams.iter().map(|upstream| format!("upstream {}", upstream.base_url)).collect();
    if settings.embedded {
        parts.push("the embedded model".into());
    }
    parts.join(", ")
}

/// Ready on Ctrl-C, and on SIGTERM where there is such a thing.
async fn stop() {
    let interrupt = async {
        if tokio::signal::ctrl_c().await.is_err() {
            // Without a handler the system's own ends the process.
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                () = interrupt => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    interrupt.await;
}

/// Reads the configuration again on SIGHUP. One that cannot be read changes nothing.
fn reload_on_hangup(command: Serve, handle: Handle) {
    #[cfg(unix)]
    tokio::spawn(async move {
        use tokio::signal::unix::{SignalKind, signal};
        let Ok(mut hangups) = signal(SignalKind::hangup()) else { return };
        while hangups.recv().await.is_some() {
            match command.read().and_then(|read| handle.reload(read).map_err(Failure::from)) {
                Ok(fixed) if fixed.is_empty() => {}
                Ok(fixed) => {
                    let names = fixed.join("`, `");
                    anstream::eprintln!("reloaded but for `{names}`: start the gateway again for that");
                }
                Err(failure) => anstream::eprintln!("not reloaded: {failure}"),
            }
        }
    });
    #[cfg(not(unix))]
    drop((command, handle));
}
