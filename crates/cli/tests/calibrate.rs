//! `elenchus calibrate`, and a gateway that applies it.

mod support;

use serde_json::Value;
use support::{code, json_of, run, scratch, stderr};

#[test]
fn a_calibration_is_fitted_on_problems_and_written_down() {
    let folder = scratch();
    let arguments = [
        "calibrate",
        "self-consistency@4",
        "--problems",
        "120",
        "--calibrations",
        "made/calibrations.json",
        "--json",
        "--quiet",
        "--set",
        "temperature=1.2",
        "--set",
        "early_stop=false",
    ];
    let output = run(folder.path(), &arguments);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let told = json_of(&output);
    let entry = &told[0]["entry"];
    assert_eq!(
        (entry["recipe"].as_str(), entry["model"].as_str()),
        (Some("self-consistency"), Some("embedded"))
    );
    assert_eq!(entry["task"], "arithmetic");
    let file = std::fs::read_to_string(folder.path().join("made/calibrations.json")).expect("it is written");
    let file: Value = serde_json::from_str(&file).expect("JSON");
    assert_eq!(file["calibrations"][0]["recipe"], "self-consistency");
    assert!(entry["judgements"].as_u64().is_some_and(|count| count > 60), "{entry}");
}

#[test]
fn what_cannot_be_fitted_is_said() {
    let folder = scratch();
    let few = run(
        folder.path(),
        &["calibrate", "self-consistency", "--problems", "8", "--calibrations", "c.json", "--quiet"],
    );
    assert_ne!(code(&few), 0);
    assert!(stderr(&few).contains("too few") && stderr(&few).contains("hint:"), "{}", stderr(&few));
    let silent = run(
        folder.path(),
        &["calibrate", "single", "--problems", "8", "--calibrations", "c.json", "--quiet"],
    );
    assert_eq!(code(&silent), 2);
    assert!(stderr(&silent).contains("no confidence"), "{}", stderr(&silent));
    let nobody =
        run(folder.path(), &["calibrate", "--feedback", "--store", "s.sqlite", "--calibrations", "c.json"]);
    assert_eq!(code(&nobody), 3);
    assert!(stderr(&nobody).contains("/v1/feedback"), "{}", stderr(&nobody));
    assert_eq!(code(&run(folder.path(), &["calibrate"])), 2, "neither recipe nor feedback");
    assert!(!folder.path().join("c.json").exists());
}
