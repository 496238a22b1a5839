//! The web page, as it lies in `crates/serve/page/`: its files in the binary, nothing from outside.

use crate::ApiError;
use crate::body::{Reply, full};
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, HeaderValue};

const HTML: &str = include_str!("../page/page.html");
const CSS: &str = include_str!("../page/page.css");
/// The script, one file for each concern; `page.js` imports the others.
const SCRIPTS: &[(&str, &str)] = &[
    ("api.js", include_str!("../page/api.js")),
    ("ask.js", include_str!("../page/ask.js")),
    ("browse.js", include_str!("../page/browse.js")),
    ("dom.js", include_str!("../page/dom.js")),
    ("edit.js", include_str!("../page/edit.js")),
    ("page.js", include_str!("../page/page.js")),
    ("panel.js", include_str!("../page/panel.js")),
    ("pickers.js", include_str!("../page/pickers.js")),
    ("runs.js", include_str!("../page/runs.js")),
    ("stages.js", include_str!("../page/stages.js")),
    ("totals.js", include_str!("../page/totals.js")),
];

/// Only our own script runs, whatever a model or a person wrote; and no other site may frame the page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    frame-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

fn file(kind: &'static str, text: &'static str) -> Reply {
    let mut reply = full(StatusCode::OK, kind, text);
    let headers = reply.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("content-security-policy", HeaderValue::from_static(POLICY));
    headers.insert("referrer-policy", HeaderValue::from_static("no-referrer"));
    reply
}

pub(crate) fn html() -> Reply {
    file("text/html; charset=utf-8", HTML)
}

pub(crate) fn css() -> Reply {
    file("text/css; charset=utf-8", CSS)
}

/// `GET /page/{file}`
pub(crate) fn script(name: &str) -> Result<Reply, ApiError> {
    let found = SCRIPTS.iter().find(|(known, _)| *known == name);
    let (_, text) = found.ok_or_else(|| ApiError::not_found("there is nothing here"))?;
    Ok(file("text/javascript; charset=utf-8", text))
}
