//! The web page, as it lies in `crates/serve/page/`: three files in the binary, nothing from outside.

use crate::body::{Reply, full};
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, HeaderValue};

const HTML: &str = include_str!("../page/page.html");
const CSS: &str = include_str!("../page/page.css");
const JS: &str = include_str!("../page/page.js");

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

pub(crate) fn js() -> Reply {
    file("text/javascript; charset=utf-8", JS)
}
