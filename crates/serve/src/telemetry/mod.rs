//! OpenTelemetry: what a request did, as spans in the GenAI conventions, sent to the collector that the settings name.
//! Without one nothing is recorded. Questions and answers are never sent.

mod export;
mod span;

use crate::ServeError;
use elenchus_recipe::TelemetrySettings;
use elenchus_remember::service::TraceSummary;
use elenchus_trace::Trace;
use export::{Counts, Exporter, Target};
use hyper::StatusCode;
use hyper::header::HeaderMap;
pub(crate) use span::{Link, outgoing};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

/// Name of the service where nothing else is said.
const SERVICE: &str = "elenchus";

/// The way to the collector; does nothing where there is none.
pub(crate) struct Telemetry {
    exporter: RwLock<Option<Arc<Exporter>>>,
    counts: Arc<Counts>,
    /// Where tasks that send run.
    runtime: Handle,
}

/// Another way to a collector, or none, that is ready to be taken.
pub(crate) struct Next(Option<Arc<Exporter>>);

impl Telemetry {
    /// Looks at the settings and at the standard environment variables, and starts the task that sends.
    ///
    /// # Errors
    /// The address is none, a header cannot be sent, or the variables ask for a protocol that is not spoken.
    pub fn start(settings: &TelemetrySettings) -> Result<Self, ServeError> {
        let telemetry =
            Telemetry { exporter: RwLock::default(), counts: Arc::default(), runtime: Handle::current() };
        telemetry.take(telemetry.next(settings)?);
        Ok(telemetry)
    }

    /// What other settings ask for; the task that sends goes on where they change nothing.
    ///
    /// # Errors
    /// As [`Telemetry::start`].
    pub fn next(&self, settings: &TelemetrySettings) -> Result<Next, ServeError> {
        let Some(target) = target(settings, |name| std::env::var(name).ok())? else { return Ok(Next(None)) };
        let known = self.exporter().filter(|exporter| exporter.target == target);
        if known.is_some() {
            return Ok(Next(known));
        }
        let _runtime = self.runtime.enter();
        Ok(Next(Some(Arc::new(Exporter::start(target, Arc::clone(&self.counts))?))))
    }

    /// Takes another way from now on. What waits for the one before is still sent there.
    pub fn take(&self, next: Next) {
        *self.exporter.write().unwrap_or_else(PoisonError::into_inner) = next.0;
    }

    fn exporter(&self) -> Option<Arc<Exporter>> {
        self.exporter.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The span of a request that begins now: a child of the caller's where it names one. `None` where nothing is
    /// recorded, also because the caller says so.
    pub fn begin(&self, headers: &HeaderMap) -> Option<Link> {
        self.exporter()?;
        let link = Link::of(headers);
        link.sampled.then_some(link)
    }

    /// The request has its answer, or the head of it.
    pub fn responded(
        &self,
        link: Option<&Link>,
        (method, route): (&'static str, &'static str),
        status: StatusCode,
        started: Instant,
    ) {
        let Some(link) = link else { return };
        if let Some(exporter) = self.exporter() {
            exporter.add(span::request(link, method, route, status, started.elapsed()));
        }
    }

    /// What was done for the request, with its model calls; `trace` is absent where a request was passed on.
    pub fn answered(&self, link: Option<&Link>, summary: &TraceSummary, trace: Option<&Trace>) {
        let Some(link) = link else { return };
        if let Some(exporter) = self.exporter() {
            span::calls(link, summary, trace).into_iter().for_each(|span| exporter.add(span));
        }
    }

    /// Spans that were sent, and those that were given up; `None` where none are recorded.
    pub fn counts(&self) -> Option<(u64, u64)> {
        self.exporter()?;
        Some((self.counts.sent.load(Ordering::Relaxed), self.counts.dropped.load(Ordering::Relaxed)))
    }

    /// Sends what is left, for as long as is given.
    pub async fn flush(&self, within: Duration) {
        if let Some(exporter) = self.exporter() {
            exporter.flush(within).await;
        }
    }
}

/// Where spans go: the settings win over the environment.
fn target(
    settings: &TelemetrySettings,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Target>, ServeError> {
    let variable =
        |name: &str| variable(name).map(|value| value.trim().to_string()).filter(|v| !v.is_empty());
    if variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Ok(None);
    }
    let general = || {
        let base = variable("OTEL_EXPORTER_OTLP_ENDPOINT")?;
        Some(format!("{}/v1/traces", base.trim_end_matches('/')))
    };
    let from_environment = || variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or_else(general);
    let Some(endpoint) = settings.endpoint.clone().or_else(from_environment) else { return Ok(None) };
    let protocol =
        variable("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL").or_else(|| variable("OTEL_EXPORTER_OTLP_PROTOCOL"));
    if settings.endpoint.is_none() && protocol.as_deref() == Some("grpc") {
        return Err(ServeError::setting(
            "telemetry is asked for over gRPC (`OTEL_EXPORTER_OTLP_PROTOCOL`)",
            "the gateway speaks OTLP over HTTP; collectors take it on port 4318",
        ));
    }
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    for name in ["OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"] {
        headers.extend(pairs(name, &variable(name).unwrap_or_default())?);
    }
    if let Some(name) = &settings.headers_variable {
        headers.extend(pairs(name, &variable(name).unwrap_or_default())?);
    }
    let mut resource: BTreeMap<String, String> =
        pairs("OTEL_RESOURCE_ATTRIBUTES", &variable("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default())?
            .into_iter()
            .collect();
    let service = settings.service_name.clone().or_else(|| variable("OTEL_SERVICE_NAME"));
    if let Some(service) = service {
        resource.insert("service.name".into(), service);
    }
    resource.entry("service.name".into()).or_insert_with(|| SERVICE.into());
    resource.entry("service.version".into()).or_insert_with(|| env!("CARGO_PKG_VERSION").into());
    Ok(Some(Target { endpoint, headers, resource }))
}

/// `name=value,name=value`, values percent-encoded.
fn pairs(variable: &str, text: &str) -> Result<Vec<(String, String)>, ServeError> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (name, value) = part.split_once('=').ok_or_else(|| {
                ServeError::setting(
                    format!("`{variable}` holds something that is no `name=value`"),
                    "write `name=value,name=value`",
                )
            })?;
            // Plus signs stand for themselves here.
            let encoded = format!("v={}", value.trim().replace('+', "%2B").replace('&', "%26"));
            let decoded =
                form_urlencoded::parse(encoded.as_bytes()).next().map(|(_, value)| value.into_owned());
            Ok((name.trim().to_string(), decoded.unwrap_or_default()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(settings: &TelemetrySettings, variables: &[(&str, &str)]) -> Result<Option<Target>, String> {
        let lookup = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_string())
        };
        target(settings, lookup).map_err(|error| error.to_string())
    }

    #[test]
    fn settings_and_standard_variables_name_the_collector() {
        let none = TelemetrySettings::default();
        assert!(found(&none, &[]).unwrap().is_none(), "off by default");
        let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/");
        let target = found(&none, &[base]).unwrap().unwrap();
        assert_eq!(target.endpoint, "http://collector:4318/v1/traces");
        assert_eq!(target.resource["service.name"], "elenchus");
        let traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://other/x");
        let rest = [
            ("OTEL_SERVICE_NAME", "answers"),
            ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test, service.name=no"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20a+b%26,x=1"),
            ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x=2"),
        ];
        let target = found(&none, &[&[base, traces], &rest[..]].concat()).unwrap().unwrap();
        assert_eq!(target.endpoint, "http://other/x", "as it is");
        assert_eq!(target.resource["service.name"], "answers");
        assert_eq!(target.resource["deployment.environment.name"], "test");
        assert_eq!(
            (target.headers["authorization"].as_str(), target.headers["x"].as_str()),
            ("Bearer a+b&", "2")
        );
        let set = TelemetrySettings {
            endpoint: Some("http://set/v1/traces".into()),
            service_name: Some("mine".into()),
            headers_variable: Some("MINE".into()),
        };
        let target = found(&set, &[base, ("OTEL_SERVICE_NAME", "x"), ("MINE", "k=v")]).unwrap().unwrap();
        assert_eq!(
            (target.endpoint.as_str(), target.resource["service.name"].as_str()),
            ("http://set/v1/traces", "mine")
        );
        assert_eq!(target.headers["k"], "v");
        assert!(found(&set, &[("OTEL_SDK_DISABLED", "true")]).unwrap().is_none());
        let grpc = found(&none, &[base, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]);
        assert!(grpc.is_err_and(|error| error.contains("4318")));
        assert!(found(&none, &[base, ("OTEL_EXPORTER_OTLP_HEADERS", "nonsense")]).is_err());
    }
}
