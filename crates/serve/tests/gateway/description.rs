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
    check(
        "Response",
        &gateway.send("/v1/responses", json!({"model": "elenchus/gsa/little", "input": "2+2?"})).await.1,
    );
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

/// The table of docs/gateway.md that says what each recipe keeps, against what the recipes themselves say.
#[test]
fn the_guide_says_what_each_recipe_keeps() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/gateway.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (_, table) =
        text.split_once("| recipes and strategies | `response_format`").expect("the table is there");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let rows: Vec<(Vec<&str>, [bool; 3])> = rows
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            (cells[0].split('`').skip(1).step_by(2).collect(), [1, 2, 3].map(|cell| cells[cell] == "yes"))
        })
        .collect();
    for offer in elenchus_recipe::offers() {
        let keeps = [offer.keeps.response_format, offer.keeps.tools, offer.keeps.logprobs];
        let named: Vec<_> = rows.iter().filter(|(names, _)| names.contains(&offer.name.as_str())).collect();
        match keeps.contains(&true) {
            true => assert!(named.iter().any(|(_, said)| *said == keeps), "{}: {keeps:?}", offer.name),
            false => assert!(named.is_empty(), "{} keeps nothing", offer.name),
        }
    }
}
