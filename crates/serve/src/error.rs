//! What can go wrong: at the start ([`ServeError`]), and while a request is answered ([`ApiError`]).

use elenchus_generate::GenerateError;
use elenchus_recipe::{Cause, RecipeError};
use elenchus_remember::RememberError;
use hyper::StatusCode;
use serde_json::{Value, json};

/// Why the gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}\nhint: {hint}")]
    Listen {
        /// The address.
        address: String,
        /// What the system said.
        source: std::io::Error,
        /// What to do.
        hint: &'static str,
    },
    /// A setting cannot be.
    #[error("{what}\nhint: {hint}")]
    Setting {
        /// What is wrong.
        what: String,
        /// What to do.
        hint: String,
    },
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] RememberError),
    /// A recipe or a model cannot be had.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// A model cannot be asked.
    #[error(transparent)]
    Generate(#[from] GenerateError),
}

impl ServeError {
    pub(crate) fn setting(what: impl Into<String>, hint: impl Into<String>) -> Self {
        ServeError::Setting { what: what.into(), hint: hint.into() }
    }
}

/// An error as a response, in OpenAI's form.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiError {
    /// HTTP status.
    pub status: StatusCode,
    /// `invalid_request_error`, `server_error`, …
    pub kind: &'static str,
    /// A word for programs.
    pub code: &'static str,
    /// The field that is wrong.
    pub param: Option<String>,
    /// What is wrong, for people.
    pub message: String,
    /// When to try again, seconds.
    pub retry_after_seconds: Option<u64>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        let kind = match status {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::FORBIDDEN => "permission_error",
            StatusCode::TOO_MANY_REQUESTS => "insufficient_quota",
            status if status.is_client_error() => "invalid_request_error",
            _ => "server_error",
        };
        ApiError { status, kind, code, param: None, message: message.into(), retry_after_seconds: None }
    }

    pub(crate) fn bad(param: &str, message: impl Into<String>) -> Self {
        ApiError {
            param: Some(param.to_string()).filter(|param| !param.is_empty()),
            ..Self::new(StatusCode::BAD_REQUEST, "invalid_value", message)
        }
    }

    pub(crate) fn not_found(what: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", what)
    }

    pub(crate) fn store(error: &RememberError) -> Self {
        let message = format!("the store cannot be used: {error}");
        ApiError { retry_after_seconds: Some(1), ..Self::unavailable("store_unavailable", message) }
    }

    pub(crate) fn unavailable(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message)
    }

    /// The gateway ends, and takes the request no further.
    pub(crate) fn stopping() -> Self {
        let message = "the gateway is being stopped";
        ApiError { retry_after_seconds: Some(2), ..Self::unavailable("stopping", message) }
    }

    pub(crate) fn param(mut self, param: &str) -> Self {
        self.param = Some(param.into());
        self
    }

    /// Whether nothing went wrong but that nobody wants the answer any more, or the gateway ends.
    pub(crate) fn is_cancelled(&self) -> bool {
        matches!(self.code, "cancelled" | "stopping")
    }

    /// The body of the response.
    pub fn body(&self) -> Value {
        json!({"error": {
            "message": self.message, "type": self.kind, "param": self.param, "code": self.code,
        }})
    }
}

impl From<&GenerateError> for ApiError {
    fn from(error: &GenerateError) -> Self {
        // What an upstream refuses, it refuses with the same status whether a recipe asked or nobody did.
        let said = error.http_status().and_then(|status| StatusCode::from_u16(status).ok());
        let (status, code) = match error {
            GenerateError::Budget { option, .. } if option == "budget.seconds" => {
                (StatusCode::GATEWAY_TIMEOUT, "request_timeout")
            }
            _ if said == Some(StatusCode::TOO_MANY_REQUESTS) => {
                (StatusCode::TOO_MANY_REQUESTS, "upstream_rate_limited")
            }
            GenerateError::Request { what, .. }
                if matches!(said, Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)) =>
            {
                let hint = "the upstream wants another key: who runs the gateway names its variable in \
                            `api_key_variable` of the upstream";
                let message = format!("{what}\nhint: {hint}");
                return ApiError::new(said.unwrap_or_default(), "upstream_refused_key", message);
            }
            GenerateError::Request { .. } if said == Some(StatusCode::NOT_FOUND) => {
                (StatusCode::NOT_FOUND, "model_not_found")
            }
            GenerateError::Capability { .. } => (StatusCode::BAD_REQUEST, "model_cannot"),
            GenerateError::Request { .. } => {
                let said = said.filter(|status| status.is_client_error());
                (said.unwrap_or(StatusCode::BAD_REQUEST), "model_refused")
            }
            GenerateError::Budget { .. } => (StatusCode::TOO_MANY_REQUESTS, "budget_exhausted"),
            // The same as where nobody asked with a recipe.
            error if crate::upstream::is_resting(error) => {
                (StatusCode::SERVICE_UNAVAILABLE, "upstream_resting")
            }
            GenerateError::Unavailable { .. } => (StatusCode::BAD_GATEWAY, "upstream_failed"),
            GenerateError::Cancelled => (StatusCode::SERVICE_UNAVAILABLE, "cancelled"),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        };
        let retry_after_seconds = match error {
            GenerateError::Unavailable { retry_after_seconds, .. } => {
                retry_after_seconds.map(|seconds| seconds.max(0.0).ceil() as u64)
            }
            _ => None,
        };
        ApiError { retry_after_seconds, ..ApiError::new(status, code, error.to_string()) }
    }
}

impl From<GenerateError> for ApiError {
    fn from(error: GenerateError) -> Self {
        (&error).into()
    }
}

impl From<RecipeError> for ApiError {
    fn from(error: RecipeError) -> Self {
        let message = error.to_string();
        match error.cause() {
            Cause::Model(error) => error.into(),
            Cause::NotFound => ApiError::new(StatusCode::NOT_FOUND, "recipe_not_found", message),
            Cause::Request => ApiError::bad("elenchus", message),
            Cause::Budget => ApiError::new(StatusCode::TOO_MANY_REQUESTS, "budget_exhausted", message),
            Cause::Ours => ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message),
        }
    }
}
