//! Confidences are calibrated where that was fitted for the recipe, the model and the task, and raw elsewhere.

use crate::support::{Running, Stub, question};
use elenchus_measure::{Judgement, fit_calibration};
use elenchus_recipe::{CalibrationEntry, Calibrations, ServiceSettings, UpstreamSettings};
use serde_json::{Value, json};
use std::collections::HashMap;

/// A fit of `self-consistency` over the stub's model.
pub fn fitted() -> Calibrations {
    // Says two thirds and is right in one fifth of the cases.
    let told: Vec<Judgement> = (0..200)
        .flat_map(|at| [(2.0 / 3.0, at % 5 == 0), (1.0, at % 10 != 0)])
        .map(|(confidence, correct)| Judgement { confidence, correct })
        .collect();
    let fit = fit_calibration(&told, None).unwrap();
    let mut calibrations = Calibrations::default();
    calibrations.insert(CalibrationEntry::new("self-consistency", "little", "math", &fit));
    calibrations
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fitted_calibration_is_applied_and_nothing_else_is_touched() {
    let stub = Stub::answering(&["Answer: 4", "Answer: 4", "Answer: 5"]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("calibrations.json");
    fitted().write(&file).unwrap();
    let gateway = Running::over(folder, &[&stub], HashMap::new(), |_| {}).await;
    let ask = async |recipe: &str, task: &str| {
        let mut body = question(&format!("elenchus/{recipe}/little"), "2+2?");
        body["elenchus"] = json!({"task": task, "settings": {"samples": 3, "early_stop": false}});
        let (status, answer) = gateway.ask(body).await;
        assert_eq!(status, 200, "{answer}");
        answer["elenchus"]["confidence"].clone()
    };
    let confidence = ask("self-consistency", "math").await;
    assert_eq!(confidence["kind"], "calibrated");
    let (value, raw) = (confidence["value"].as_f64().unwrap(), confidence["raw"].as_f64().unwrap());
    assert!((raw - 2.0 / 3.0).abs() < 1e-9 && (value - 0.2).abs() < 0.05, "{confidence}");
    let id = gateway.traces(1).await[0]["id"].as_str().unwrap().to_string();
    let (_, trace) = gateway.get(&format!("/v1/traces/{id}")).await;
    assert_eq!(trace["given"]["confidence"], confidence, "the trace says what was told");
    let other = ask("self-consistency", "arithmetic").await;
    assert!(other.is_null() || other["kind"] == "raw", "another task: {other}");
    let (_, trace) = gateway.get("/v1/traces?limit=2").await;
    let stored: Vec<&Value> =
        trace["data"].as_array().unwrap().iter().map(|trace| &trace["confidence"]).collect();
    assert!(
        stored.iter().any(|stored| stored.as_f64() == Some(raw)),
        "what is fitted on stays raw: {stored:?}"
    );

    // A reload reads the file again, and one that is damaged changes nothing.
    std::fs::write(&file, "{").unwrap();
    let settings = ServiceSettings {
        calibrations: Some(file.clone()),
        upstreams: vec![UpstreamSettings::new(&stub.url)],
        ..ServiceSettings::default()
    };
    let error = gateway.handle.reload((settings.clone(), HashMap::new())).unwrap_err().to_string();
    assert!(error.contains("calibrat"), "{error}");
    assert_eq!(ask("self-consistency", "math").await["kind"], "calibrated");
    std::fs::remove_file(&file).unwrap();
    gateway.handle.reload((settings, HashMap::new())).unwrap();
    let raw = ask("self-consistency", "math").await;
    assert_eq!((&raw["kind"], &raw["raw"]), (&json!("raw"), &Value::Null));
}
