//! Connections to a PostgreSQL server: made when they are needed, and made anew when they were lost.

use crate::error::ServerFailure;
use std::collections::HashMap;
use std::error::Error as _;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Client, Config, Error, NoTls, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// First pause after a connection that failed; it doubles with each further one.
const FIRST_REST: Duration = Duration::from_millis(50);
/// How often it doubles: up to 1.6 s.
const MOST_DOUBLINGS: u32 = 5;

/// Why the server did not do what was asked.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub kind: ServerFailure,
    pub reason: String,
    /// Nothing was done and the same may be asked again at once: a deadlock, or a connection that was lost.
    pub again: bool,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = error.code().map(|code| code.code().to_string()).unwrap_or_default();
        let kind = match code.as_str() {
            "" => ServerFailure::Unreachable,
            "53100" => ServerFailure::Full,
            "57014" | "55P03" => ServerFailure::Slow,
            "53300" => ServerFailure::Unreachable,
            "25006" | "3D000" | "3F000" | "42501" => ServerFailure::Refused,
            code if code.starts_with("28") => ServerFailure::Refused,
            code if code.starts_with("57P") || code.starts_with("08") => ServerFailure::Unreachable,
            // Data, integrity and program limits (SQLSTATE classes).
            code if ["22", "23", "54"].contains(&&code[..2]) => ServerFailure::Value,
            _ => ServerFailure::Other,
        };
        let again = matches!(code.as_str(), "40P01" | "40001")
            || error.is_closed()
            || (kind == ServerFailure::Unreachable && code != "53300");
        let reason = match error.as_db_error() {
            Some(said) => said.message().to_string(),
            None => {
                let mut reason = error.to_string();
                let mut cause = error.source();
                while let Some(next) = cause {
                    reason = format!("{reason}: {next}");
                    cause = next.source();
                }
                reason
            }
        };
        // What cannot be turned into our types is no matter of the network.
        let ours = code.is_empty() && (reason.contains("serializing") || reason.contains("column"));
        let refused = code.is_empty()
            && (reason.starts_with("invalid configuration") || reason.starts_with("authentication"));
        let kind = match (ours, refused) {
            (true, _) if reason.contains("serializing") => ServerFailure::Value,
            (true, _) => ServerFailure::Other,
            (_, true) => ServerFailure::Refused,
            _ => kind,
        };
        Failure { kind, reason, again: again && !ours && !refused }
    }
}

impl Failure {
    pub fn slow(within: Duration) -> Self {
        let reason = format!("no answer within {} s", within.as_secs_f64());
        Failure { kind: ServerFailure::Slow, reason, again: false }
    }
}

/// Makes connections. After one that failed nothing is tried for a moment, so that a server that is gone costs its
/// callers no time.
pub(super) struct Connector {
    config: Config,
    /// Absent where no connection is encrypted.
    tls: Option<MakeRustlsConnect>,
    rest: Mutex<Option<(Instant, u32, Failure)>>,
}

/// Whether a connection to this host leaves the machine.
fn is_remote(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => {
            name != "localhost" && !name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        #[cfg(unix)]
        Host::Unix(_) => false,
    }
}

impl Connector {
    /// Errors with what is wrong with the address or with the certificates of this machine.
    pub fn new(url: &str) -> Result<Self, String> {
        let mut config: Config = url.parse().map_err(|error: Error| match error.source() {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        })?;
        if config.get_password().is_none()
            && let Ok(password) = std::env::var("PGPASSWORD")
        {
            config.password(password);
        }
        if config.get_application_name().is_none() {
            config.application_name("elenchus");
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        config.keepalives_idle(Duration::from_secs(30));
        // Within one machine encryption protects from nobody, and servers there mostly have no certificate to trust.
        let remote = config.get_hosts().iter().any(is_remote);
        if !remote && config.get_ssl_mode() == SslMode::Prefer {
            config.ssl_mode(SslMode::Disable);
        }
        let tls = match config.get_ssl_mode() {
            SslMode::Disable => None,
            _ => Some(MakeRustlsConnect::new(certificates()?)),
        };
        Ok(Connector { config, tls, rest: Mutex::default() })
    }

    fn rest(&self) -> std::sync::MutexGuard<'_, Option<(Instant, u32, Failure)>> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connect(&self, statement_timeout: Duration) -> Result<Connected, Failure> {
        let failures = match &*self.rest() {
            Some((until, _, failure)) if Instant::now() < *until => return Err(failure.clone()),
            Some((_, failures, _)) => *failures,
            None => 0,
        };
        match self.try_connect(statement_timeout).await {
            Ok(connected) => {
                *self.rest() = None;
                Ok(connected)
            }
            Err(failure) => {
                let failure = Failure { again: false, ..failure };
                let pause = FIRST_REST * 2u32.pow(failures.min(MOST_DOUBLINGS));
                *self.rest() = Some((Instant::now() + pause, failures + 1, failure.clone()));
                Err(failure)
            }
        }
    }

    async fn try_connect(&self, statement_timeout: Duration) -> Result<Connected, Failure> {
        // What drives a connection ends when its client is dropped or the server goes away; the client then says so.
        let client = match &self.tls {
            Some(tls) => {
                let (client, connection) = self.config.connect(tls.clone()).await?;
                tokio::spawn(connection);
                client
            }
            None => {
                let (client, connection) = self.config.connect(NoTls).await?;
                tokio::spawn(connection);
                client
            }
        };
        let milliseconds = statement_timeout.as_millis();
        client.batch_execute(&format!("SET statement_timeout = {milliseconds}")).await?;
        Ok(Connected { client, statements: Mutex::default() })
    }
}

/// Encryption with the certificates that this machine trusts.
fn certificates() -> Result<rustls::ClientConfig, String> {
    use rustls_platform_verifier::BuilderVerifierExt;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_platform_verifier())
        .map_err(|error| error.to_string())?;
    Ok(config.with_no_client_auth())
}

/// A connection with the statements that were prepared on it.
pub(super) struct Connected {
    pub client: Client,
    statements: Mutex<HashMap<String, Statement>>,
}

impl Connected {
    /// A statement, prepared once.
    pub async fn statement(&self, sql: &str) -> Result<Statement, Error> {
        let known = |statements: &Mutex<HashMap<String, Statement>>| {
            statements.lock().unwrap_or_else(PoisonError::into_inner).get(sql).cloned()
        };
        if let Some(statement) = known(&self.statements) {
            return Ok(statement);
        }
        let statement = self.client.prepare(sql).await?;
        let mut statements = self.statements.lock().unwrap_or_else(PoisonError::into_inner);
        statements.insert(sql.to_string(), statement.clone());
        Ok(statement)
    }
}

/// The place of one connection.
#[derive(Default)]
pub(super) struct Line {
    connected: tokio::sync::Mutex<Option<Arc<Connected>>>,
}

impl Line {
    /// The connection, made when there is none that works. Several may use it at once; their statements go out one
    /// behind another without waiting for answers.
    pub async fn shared(&self, connector: &Connector, timeout: Duration) -> Result<Arc<Connected>, Failure> {
        let mut connected = self.connected.lock().await;
        if let Some(working) = connected.as_ref().filter(|known| !known.client.is_closed()) {
            return Ok(Arc::clone(working));
        }
        *connected = None;
        let new = Arc::new(connector.connect(timeout).await?);
        *connected = Some(Arc::clone(&new));
        Ok(new)
    }

    /// Lends the connection to one transaction. Work that is cut off takes it along, with whatever it had begun.
    pub async fn alone<T>(
        &self,
        connector: &Connector,
        timeout: Duration,
        work: impl AsyncFnOnce(&Connected) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut place = self.connected.lock().await;
        let connected = match place.take().filter(|known| !known.client.is_closed()) {
            Some(working) => working,
            None => Arc::new(connector.connect(timeout).await?),
        };
        let outcome = work(&connected).await;
        if !connected.client.is_closed() {
            *place = Some(connected);
        }
        outcome
    }
}
