//! The addresses: one table, which the router, the metrics and the API description read.

use crate::keys::Scope;
use hyper::Method;

/// One address.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// Name in metrics and logs.
    pub name: &'static str,
    /// Method.
    pub method: &'static str,
    /// Path; a part in braces stands for anything.
    pub path: &'static str,
    /// What a key must be allowed; `None` needs no key.
    pub scope: Option<Scope>,
    /// One line for the API description.
    pub summary: &'static str,
}

impl Route {
    /// Whether it does something for a caller, unlike pages and probes.
    pub(crate) fn is_work(&self) -> bool {
        self.scope.is_some_and(|scope| scope != Scope::Metrics)
    }
}

const fn route(
    name: &'static str,
    method: &'static str,
    path: &'static str,
    scope: Option<Scope>,
    summary: &'static str,
) -> Route {
    Route { name, method, path, scope, summary }
}

/// All addresses.
pub const ROUTES: &[Route] = &[
    route("page", "GET", "/", None, "The web page."),
    route("page_css", "GET", "/page.css", None, "Its style."),
    route("page_script", "GET", "/page/{file}", None, "Its script, in parts."),
    route("icon", "GET", "/favicon.ico", None, "No icon."),
    route("healthz", "GET", "/healthz", None, "Whether the process works."),
    route(
        "readyz",
        "GET",
        "/readyz",
        None,
        "Whether requests can be answered: store, upstreams, embedded model.",
    ),
    route("metrics", "GET", "/metrics", Some(Scope::Metrics), "Counters in Prometheus' text form."),
    route("openapi", "GET", "/openapi.json", None, "This description."),
    route("models", "GET", "/v1/models", Some(Scope::Ask), "The models, alone and with every recipe."),
    route("model", "GET", "/v1/models/{model}", Some(Scope::Ask), "One model."),
    route("recipes", "GET", "/v1/recipes", Some(Scope::Ask), "The recipes with their settings and costs."),
    route("estimate", "POST", "/v1/estimate", Some(Scope::Ask), "What a chat request would cost at most."),
    route("chat", "POST", "/v1/chat/completions", Some(Scope::Ask), "Ask a model, or a recipe over a model."),
    route(
        "chat_recipe",
        "POST",
        "/v1/{recipe}/chat/completions",
        Some(Scope::Ask),
        "Ask with the recipe in the path.",
    ),
    route(
        "responses",
        "POST",
        "/v1/responses",
        Some(Scope::Ask),
        "The same by OpenAI's Responses API: text, functions, earlier responses.",
    ),
    route(
        "responses_recipe",
        "POST",
        "/v1/{recipe}/responses",
        Some(Scope::Ask),
        "The same with the recipe in the path.",
    ),
    route("response", "GET", "/v1/responses/{id}", Some(Scope::Ask), "A stored response."),
    route(
        "response_delete",
        "DELETE",
        "/v1/responses/{id}",
        Some(Scope::Ask),
        "Let no later request name a response; its trace is kept.",
    ),
    route("completions", "POST", "/v1/completions", Some(Scope::Ask), "Passed on to an upstream."),
    route("embeddings", "POST", "/v1/embeddings", Some(Scope::Ask), "Passed on to an upstream."),
    route(
        "feedback",
        "POST",
        "/v1/feedback",
        Some(Scope::Feedback),
        "Say what you think of an answer or a stage.",
    ),
    route("traces", "GET", "/v1/traces", Some(Scope::Read), "Traces, newest first, with filters."),
    route("trace", "GET", "/v1/traces/{id}", Some(Scope::Read), "One trace, whole, with its feedback."),
    route(
        "rerun",
        "POST",
        "/v1/traces/{id}/rerun",
        Some(Scope::Ask),
        "Run a recipe again from an edited stage, the earlier ones as they were.",
    ),
    route("totals", "GET", "/v1/totals", Some(Scope::Read), "Feedback per recipe, with intervals."),
    route(
        "runs",
        "GET",
        "/v1/runs",
        Some(Scope::Read),
        "Runs of the folder that was named, last written first.",
    ),
    route("run", "GET", "/v1/runs/{name}", Some(Scope::Read), "One run, with what it measured so far."),
    route("run_report", "GET", "/v1/runs/{name}/report", None, "The report of a run, by its ticket."),
    route("export", "GET", "/v1/export", Some(Scope::Export), "Training rows from feedback."),
];

/// What an address leads to.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    /// A route, with what stands in the place of its braces.
    Route(&'static Route, Option<&'a str>),
    /// The path is there, with other methods.
    Method(Vec<&'static str>),
    /// Nothing.
    Nothing,
}

/// What stands in the place of the braces, when the path fits.
fn fits<'a>(pattern: &str, path: &'a str) -> Option<Option<&'a str>> {
    let Some((before, rest)) = pattern.split_once('{') else { return (pattern == path).then_some(None) };
    let (_, after) = rest.split_once('}')?;
    let inner = path.strip_prefix(before)?.strip_suffix(after)?;
    // Names of models hold slashes; nothing else does.
    let whole = !inner.is_empty() && (pattern == "/v1/models/{model}" || !inner.contains('/'));
    whole.then_some(Some(inner))
}

/// Looks an address up.
pub(crate) fn find<'a>(method: &Method, path: &'a str) -> Found<'a> {
    let mut others = Vec::new();
    for route in ROUTES {
        let Some(inner) = fits(route.path, path) else { continue };
        if route.method == method.as_str() || (route.method == "GET" && *method == Method::HEAD) {
            return Found::Route(route, inner);
        }
        others.push(route.method);
    }
    if others.is_empty() { Found::Nothing } else { Found::Method(others) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(method: Method, path: &str) -> Option<(&'static str, Option<String>)> {
        match find(&method, path) {
            Found::Route(route, inner) => Some((route.name, inner.map(str::to_string))),
            _ => None,
        }
    }

    #[test]
    fn addresses_lead_where_they_should() {
        assert_eq!(name(Method::GET, "/"), Some(("page", None)));
        assert_eq!(name(Method::HEAD, "/healthz"), Some(("healthz", None)));
        assert_eq!(name(Method::POST, "/v1/gsa/chat/completions"), Some(("chat_recipe", Some("gsa".into()))));
        assert_eq!(name(Method::POST, "/v1/chat/completions"), Some(("chat", None)));
        assert_eq!(name(Method::GET, "/v1/models/a/b"), Some(("model", Some("a/b".into()))));
        assert_eq!(name(Method::GET, "/v1/traces/x"), Some(("trace", Some("x".into()))));
        for path in ["/v1/traces/../keys", "/v1/traces/", "/v1/a/b/chat/completions", "/../etc/passwd", "/v1"]
        {
            assert_eq!(name(Method::GET, path), None, "{path}");
            assert_eq!(name(Method::POST, path), None, "{path}");
        }
        assert!(matches!(find(&Method::GET, "/v1/feedback"), Found::Method(others) if others == ["POST"]));
    }
}
