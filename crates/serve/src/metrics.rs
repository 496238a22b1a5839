//! Counters in Prometheus' text form.

use elenchus_recipe::Composition;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Upper bounds of the classes of durations, seconds.
const BOUNDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0, 120.0];

#[derive(Debug, Clone, Copy, Default)]
struct Durations {
    classes: [u64; BOUNDS.len()],
    count: u64,
    seconds: f64,
}

#[derive(Debug, Default)]
struct Counted {
    /// By route and status.
    requests: BTreeMap<(&'static str, u16), u64>,
    durations: BTreeMap<&'static str, Durations>,
    /// By recipe: prompt and completion tokens, money.
    tokens: BTreeMap<String, (u64, u64, f64)>,
    feedback: u64,
}

/// The label of everything that is composed: the text of a composition is the client's, and each would be a series.
const COMPOSED: &str = "composed";

/// All counters. Labels come from lists of ours, so the number of series is bounded.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    counted: Mutex<Counted>,
    pub in_flight: AtomicI64,
    pub connections: AtomicI64,
}

/// What other parts know.
pub(crate) struct Gauges<'a> {
    /// Name, whether it is healthy, requests, failures.
    pub upstreams: Vec<(&'a str, bool, u64, u64)>,
    pub store_failures: u64,
    /// Spans sent and given up, where they are recorded.
    pub spans: Option<(u64, u64)>,
}

impl Metrics {
    fn counted(&self) -> std::sync::MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn request(&self, route: &'static str, status: u16, took: Duration) {
        let mut counted = self.counted();
        *counted.requests.entry((route, status)).or_default() += 1;
        let durations = counted.durations.entry(route).or_default();
        let seconds = took.as_secs_f64();
        durations.count += 1;
        durations.seconds += seconds;
        for (class, bound) in durations.classes.iter_mut().zip(BOUNDS) {
            *class += u64::from(seconds <= bound);
        }
    }

    pub fn spent(&self, recipe: &str, usage: &elenchus_trace::Usage) {
        let recipe = if Composition::is_composed(recipe) { COMPOSED } else { recipe };
        let mut counted = self.counted();
        if let Some(sum) = counted.tokens.get_mut(recipe) {
            // An upstream may count absurdly, and a counter never goes down.
            sum.0 = sum.0.saturating_add(usage.prompt_tokens);
            sum.1 = sum.1.saturating_add(usage.completion_tokens);
            sum.2 += usage.money;
        } else {
            let sum = (usage.prompt_tokens, usage.completion_tokens, usage.money);
            counted.tokens.insert(recipe.to_string(), sum);
        }
    }

    pub fn feedback(&self) {
        self.counted().feedback += 1;
    }

    /// The page that Prometheus reads.
    pub fn page(&self, gauges: &Gauges<'_>) -> String {
        let counted = self.counted();
        let mut page = String::new();
        let head = |page: &mut String, name: &str, kind: &str, help: &str| {
            let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}");
        };
        head(&mut page, "elenchus_requests_total", "counter", "Requests by route and status.");
        for ((route, status), count) in &counted.requests {
            let _ =
                writeln!(page, "elenchus_requests_total{{route=\"{route}\",status=\"{status}\"}} {count}");
        }
        head(
            &mut page,
            "elenchus_request_seconds",
            "histogram",
            "Time to the head of the response, by route.",
        );
        for (route, durations) in &counted.durations {
            for (bound, count) in BOUNDS.iter().zip(durations.classes) {
                let _ = writeln!(
                    page,
                    "elenchus_request_seconds_bucket{{route=\"{route}\",le=\"{bound}\"}} {count}"
                );
            }
            let Durations { count, seconds, .. } = durations;
            let _ = writeln!(
                page,
                "elenchus_request_seconds_bucket{{route=\"{route}\",le=\"+Inf\"}} {count}\n\
                 elenchus_request_seconds_sum{{route=\"{route}\"}} {seconds}\n\
                 elenchus_request_seconds_count{{route=\"{route}\"}} {count}"
            );
        }
        head(&mut page, "elenchus_tokens_total", "counter", "Tokens by recipe and kind.");
        for (recipe, (prompt, completion, _)) in &counted.tokens {
            let recipe = escape(recipe);
            let _ = writeln!(
                page,
                "elenchus_tokens_total{{recipe=\"{recipe}\",kind=\"prompt\"}} {prompt}\n\
                 elenchus_tokens_total{{recipe=\"{recipe}\",kind=\"completion\"}} {completion}"
            );
        }
        head(
            &mut page,
            "elenchus_money_total",
            "counter",
            "Money by recipe, in the currency of the price table.",
        );
        for (recipe, (_, _, money)) in &counted.tokens {
            let _ = writeln!(page, "elenchus_money_total{{recipe=\"{}\"}} {money}", escape(recipe));
        }
        head(&mut page, "elenchus_feedback_total", "counter", "Feedback entries stored.");
        let _ = writeln!(page, "elenchus_feedback_total {}", counted.feedback);
        head(&mut page, "elenchus_in_flight", "gauge", "Requests being answered.");
        let _ = writeln!(page, "elenchus_in_flight {}", self.in_flight.load(Ordering::Relaxed));
        head(&mut page, "elenchus_connections", "gauge", "Open connections.");
        let _ = writeln!(page, "elenchus_connections {}", self.connections.load(Ordering::Relaxed));
        head(&mut page, "elenchus_store_failures_total", "counter", "Writes that the store refused.");
        let _ = writeln!(page, "elenchus_store_failures_total {}", gauges.store_failures);
        if let Some((sent, dropped)) = gauges.spans {
            head(&mut page, "elenchus_spans_total", "counter", "Spans by what became of them.");
            let _ = writeln!(
                page,
                "elenchus_spans_total{{outcome=\"sent\"}} {sent}\n\
                 elenchus_spans_total{{outcome=\"dropped\"}} {dropped}"
            );
        }
        head(&mut page, "elenchus_upstream_healthy", "gauge", "Whether an upstream is asked.");
        for (name, healthy, ..) in &gauges.upstreams {
            let healthy = u8::from(*healthy);
            let _ = writeln!(page, "elenchus_upstream_healthy{{upstream=\"{}\"}} {healthy}", escape(name));
        }
        head(&mut page, "elenchus_upstream_requests_total", "counter", "Requests to an upstream.");
        for (name, _, requests, _) in &gauges.upstreams {
            let _ = writeln!(
                page,
                "elenchus_upstream_requests_total{{upstream=\"{}\"}} {requests}",
                escape(name)
            );
        }
        head(&mut page, "elenchus_upstream_failures_total", "counter", "Requests that an upstream failed.");
        for (name, _, _, failures) in &gauges.upstreams {
            let _ = writeln!(
                page,
                "elenchus_upstream_failures_total{{upstream=\"{}\"}} {failures}",
                escape(name)
            );
        }
        page
    }
}

fn escape(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_cumulative_and_labels_escaped() {
        let metrics = Metrics::default();
        metrics.request("chat", 200, Duration::from_millis(3));
        metrics.request("chat", 200, Duration::from_secs(500));
        for text in ["gsa then critique-and-refine", "gsa@3 else plain", "best of gsa, iad by judge"] {
            metrics.spent(text, &elenchus_trace::Usage { prompt_tokens: 3, ..Default::default() });
        }
        metrics.spent("a\"b", &elenchus_trace::Usage { prompt_tokens: 2, ..Default::default() });
        for _ in 0..2 {
            let absurd = elenchus_trace::Usage {
                prompt_tokens: 1 << 63,
                completion_tokens: 1 << 63,
                ..Default::default()
            };
            metrics.spent("iad", &absurd);
        }
        let page = metrics.page(&Gauges {
            upstreams: vec![("u", true, 3, 1)],
            store_failures: 0,
            spans: Some((4, 2)),
        });
        for line in [
            "elenchus_requests_total{route=\"chat\",status=\"200\"} 2",
            "elenchus_request_seconds_bucket{route=\"chat\",le=\"0.0025\"} 0",
            "elenchus_request_seconds_bucket{route=\"chat\",le=\"0.005\"} 1",
            "elenchus_request_seconds_bucket{route=\"chat\",le=\"120\"} 1",
            "elenchus_request_seconds_bucket{route=\"chat\",le=\"+Inf\"} 2",
            "elenchus_tokens_total{recipe=\"a\\\"b\",kind=\"prompt\"} 2",
            "elenchus_tokens_total{recipe=\"composed\",kind=\"prompt\"} 9",
            "elenchus_tokens_total{recipe=\"iad\",kind=\"prompt\"} 18446744073709551615",
            "elenchus_tokens_total{recipe=\"iad\",kind=\"completion\"} 18446744073709551615",
            "elenchus_upstream_failures_total{upstream=\"u\"} 1",
            "elenchus_spans_total{outcome=\"dropped\"} 2",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} in\n{page}");
        }
        assert!(!page.contains("gsa"), "what clients compose is no label\n{page}");
    }
}
