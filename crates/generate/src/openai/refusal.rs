//! The status that an error body means, where a server sends it with a status of success.

use serde_json::Value;

/// The HTTP status that the `error` of a body means: its `code` or `status` where that is one (as a number or as text),
/// else what its `code` or `type` stands for in the words of OpenAI, Anthropic and vLLM. `None` where the body has no error,
/// or one that says nothing of this kind.
pub fn error_status(body: &Value) -> Option<u16> {
    let error = body.get("error").filter(|error| !error.is_null())?;
    let told = if error.is_object() { error } else { body };
    let fields = || ["code", "status", "type"].iter().filter_map(|name| told.get(name));
    let number = |value: &Value| {
        let number = value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())?;
        u16::try_from(number).ok().filter(|status| (400..600).contains(status))
    };
    let word = |value: &Value| meaning(value.as_str()?);
    fields().find_map(number).or_else(|| fields().find_map(word))
}

/// The status that a word of an error stands for; upper and lower case, `_` and none are the same.
fn meaning(word: &str) -> Option<u16> {
    let plain: String =
        word.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    Some(match plain.as_str() {
        "invalidrequesterror"
        | "invalidrequest"
        | "badrequesterror"
        | "badrequest"
        | "invalidargument"
        | "contextlengthexceeded"
        | "exceedcontextsizeerror"
        | "unsupportedparameter"
        | "invalidvalue"
        | "contentpolicyviolation" => 400,
        "authenticationerror" | "invalidapikey" | "unauthenticated" => 401,
        "permissionerror" | "permissiondenied" | "permissiondeniederror" => 403,
        "notfounderror" | "notfound" | "modelnotfound" => 404,
        "requesttoolarge" => 413,
        "unprocessableentity" | "unprocessableentityerror" => 422,
        "ratelimiterror" | "ratelimitexceeded" | "insufficientquota" | "resourceexhausted" => 429,
        "servererror" | "internalservererror" | "internalerror" | "apierror" => 500,
        "overloadederror" | "overloaded" | "serviceunavailable" | "serviceunavailableerror" => 503,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn errors_say_their_status_in_the_ways_of_servers() {
        for (body, status) in [
            (json!({"error": {"code": 400, "message": "context length exceeded"}}), Some(400)),
            (json!({"error": {"code": "404", "message": "no"}}), Some(404)),
            (json!({"error": {"code": "context_length_exceeded", "type": null}}), Some(400)),
            (json!({"error": {"code": null, "type": "invalid_request_error"}}), Some(400)),
            (json!({"error": {"code": "odd", "type": "BadRequestError"}}), Some(400)),
            (json!({"error": {"type": "rate_limit_error"}}), Some(429)),
            (json!({"error": "no such model", "code": 404}), Some(404)),
            (json!({"error": {"code": 7, "message": "odd"}}), None),
            (json!({"error": {"message": "odd"}}), None),
            (json!({"error": null, "code": 400}), None),
            (json!({"choices": []}), None),
        ] {
            assert_eq!(error_status(&body), status, "{body}");
        }
    }
}
