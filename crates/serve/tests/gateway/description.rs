//! The checked-in API description is that of the code, and says what the gateway answers.

use crate::schema::problems;
use crate::support::{Running, Stub, question};
use elenchus_serve::{ROUTES, openapi};
use serde_json::{Value, json};
use std::path::Path;

#[test]
fn the_checked_in_description_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/openapi.json");
    let wanted = serde_json::to_string_pretty(&openapi::description()).unwrap() + "\n";
    if std::env::var_os("ELENCHUS_UPDATE").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == wanted,
        "docs/reference/openapi.json is stale: ELENCHUS_UPDATE=1 cargo test --release -p elenchus-serve"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_what_the_description_says() {
    let stub = Stub::answering(&["Answer: 4", "Answer: 5"]).await;
    let gateway = Running::before(&[&stub]).await;
    let (status, description) = gateway.get("/openapi.json").await;
    assert_eq!(status, 200);
    assert_eq!(description, openapi::description());
    for route in ROUTES {
        assert!(description["paths"][route.path][route.method.to_lowercase()].is_object(), "{}", route.path);
    }
    let check = |name: &str, value: &Value| {
        let problems = problems(&description, &description["components"]["schemas"][name], value);
        assert!(problems.is_empty(), "{name}: {problems:?}\n{value}");
    };
    let (_, answer) = gateway.ask(question("elenchus/self-consistency@3/little", "2+2?")).await;
    check("ChatCompletion", &answer);
    let id = answer["elenchus"]["trace_id"].as_str().unwrap();
    let (_, said) = gateway.send("/v1/feedback", json!({"trace_id": id, "reaction": "love"})).await;
    check("FeedbackReply", &said);
    check("TraceList", &gateway.get("/v1/traces").await.1);
    check("TraceReply", &gateway.get(&format!("/v1/traces/{id}")).await.1);
    check("TotalsRow", &gateway.get("/v1/totals").await.1["data"][0]);
    check("Offer", &gateway.get("/v1/recipes").await.1["data"][0]);
    check("EstimateReply", &gateway.send("/v1/estimate", question("little", "x")).await.1);
    check("RunList", &gateway.get("/v1/runs").await.1);
    check("Error", &gateway.send("/v1/feedback", json!({})).await.1);
    check("Error", &gateway.get("/nowhere").await.1);
}
