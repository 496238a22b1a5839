//! The experiments of test-time methods run from end to end at a size that says nothing, and report what their recipes
//! ask for.

use super::*;
use crate::{built_in, models};
use elenchus_learn::{Quiet, StopFlag};
use serde_json::{Value, json};

/// Runs the experiment of a recipe with these settings in place of the quick ones; without a run folder.
fn tiny(name: &str, settings: Value) -> Reproduced {
    let mut recipe = built_in(name).unwrap();
    let experiment = recipe.reproduce.as_mut().unwrap();
    let full: Vec<&String> = experiment.full.as_object().unwrap().keys().collect();
    for field in settings.as_object().unwrap().keys() {
        assert!(full.contains(&field), "{name}: `{field}` is not set at the full size");
    }
    experiment.quick = settings;
    let session = Session { run: None, observer: &Quiet, stop: StopFlag::default() };
    let models = [models::EMBEDDED.to_string()];
    let lab = crate::lab::Lab::new(None);
    reproduce(&Reproduce {
        recipe: &recipe,
        size: Size::Quick,
        seed: 1,
        models: &models,
        lab,
        session: &session,
    })
    .unwrap()
}

/// Every claim of the recipe has an estimate, and every estimate a claim.
fn answers_every_claim(name: &str, settings: Value) {
    let found = tiny(name, settings);
    for claim in &found.reproduction.claims {
        assert!(claim.estimate.is_some_and(f64::is_finite), "{name}: `{}` has no estimate", claim.id);
    }
    for id in found.findings.estimates.keys() {
        let known = found.reproduction.claims.iter().any(|claim| claim.id == *id);
        assert!(known, "{name}: `{id}` is estimated and no claim asks for it");
    }
    assert!(!found.findings.tables.is_empty() && !found.findings.notes.is_empty(), "{name}");
}

#[test]
fn rpc_from_end_to_end() {
    let settings = json!({
        "questions": 4, "samples": 8, "sizes": [4, 8], "draws": 2, "temperature": 1.0, "temperatures": [0.7, 1.0],
        "trials": 400,
    });
    answers_every_claim("rpc", settings);
}

#[test]
fn fobar_from_end_to_end() {
    let settings = json!({
        "model": "given", "seeds": [1], "questions": 12, "samples": 4, "backward_samples": 2, "candidates": 3, "temperature": 1.0,
        "alphas": [0.0, 0.5, 1.0], "votes": [4, 8],
    });
    answers_every_claim("fobar", settings);
}

/// What needs a checkpoint of the lab can be left out, and is then told as such.
fn leaves_out(name: &str, settings: Value, left_out: impl Fn(&str) -> bool) -> Reproduced {
    let found = tiny(name, settings);
    for claim in &found.reproduction.claims {
        assert_eq!(claim.estimate.is_none(), left_out(&claim.id), "{name}: {}", claim.id);
    }
    assert!(!found.reproduction.holds, "a required claim that was not looked at does not hold");
    found
}

#[test]
fn self_certainty_without_checkpoints() {
    let settings = json!({
        "questions": 4, "validation": 2, "samples": 16, "sizes": [8, 16], "draws": 2, "temperature": 1.0,
        "powers": [0.0, 1.0], "open_questions": 2, "choice_samples": 0,
        "programs": {"questions": 0, "task": {}, "writers": []},
    });
    let left_out = |id: &str| id.starts_with("programs") || id == "majority-over-choice";
    let found = leaves_out("self-certainty", settings, left_out);
    assert_eq!(found.findings.tables[0].title, "Accuracy by number of samples");
}

#[test]
fn gsa_from_end_to_end() {
    let settings = json!({
        "split": "test", "questions": 10, "open_questions": 3, "temperature": 1.0, "temperatures": [1.3], "counts": [2],
        "reading": {"questions": 3, "counts": [1, 3], "train": {"steps": 1, "batch": 2}},
        "programs": {"questions": 0, "task": {}, "writers": [],
            "reading": {"questions": 1, "counts": [3], "train": {}}},
    });
    leaves_out("gsa", settings, |id| id.starts_with("programs"));
}

#[test]
fn iad_from_end_to_end() {
    let settings = json!({
        "split": "test", "questions": 3, "shapes": [[2, 3]], "swept": [2, 3], "noise": [0.4], "thresholds": [1.0],
        "temperature": 1.0, "low_temperature": 0.3,
        "revision": {
            "questions": 6, "samples": 4, "solutions": false, "feedback": true, "train": {"steps": 1, "batch": 2},
        },
        "programs": {"questions": 0, "task": {}, "revisers": []},
    });
    leaves_out("iad", settings, |id| id.starts_with("programs"));
}

#[test]
fn real_critic_from_end_to_end() {
    let settings = json!({
        "items": 16, "temperatures": [1.0], "tries": 4, "turns": 2, "validation": 2, "vote_temperatures": [0.3, 0.7],
    });
    answers_every_claim("real-critic", settings);
}

#[test]
fn feedback_friction_from_end_to_end() {
    let settings = json!({
        "questions": 16, "validation": 2, "rounds": 3, "temperature_step": 0.3, "novelty_samples": 3,
        "temperatures": [0.7],
    });
    answers_every_claim("feedback-friction", settings);
}

#[test]
fn the_full_size_says_beforehand_that_one_model_tells_nothing() {
    let mut recipe = built_in("rpc").unwrap();
    recipe.reproduce.as_mut().unwrap().full = json!({
        "questions": 2, "samples": 8, "sizes": [4, 8], "draws": 2, "temperature": 1.0, "temperatures": [1.0], "trials": 100,
    });
    let run = |models: &[String]| {
        let heard = Heard::default();
        let session = Session { run: None, observer: &heard, stop: StopFlag::default() };
        let lab = crate::lab::Lab::new(None);
        let input = Reproduce { recipe: &recipe, size: Size::Full, seed: 1, models, lab, session: &session };
        let found = reproduce(&input).unwrap();
        (found, heard.notes.lock().unwrap().join(" "))
    };
    let one = models::EMBEDDED.to_string();
    let (found, said) = run(std::slice::from_ref(&one));
    assert!(said.contains("needs 3 seeds and has 1") && said.contains("--model"), "{said}");
    assert!(found.reproduction.claims.iter().all(|claim| claim.holds.is_none()), "nothing is told");
    assert!(
        found.reproduction.claims.iter().any(|claim| claim.estimate.is_some()),
        "and yet it was measured"
    );
    assert!(
        found.findings.notes.iter().any(|note| note.contains("needs 3 seeds")),
        "{:?}",
        found.findings.notes
    );
    let (_, said) = run(&[one.clone(), one.clone(), one.clone()]);
    assert!(said.contains("has 1"), "one model named three times is one: {said}");
    let folders: Vec<tempfile::TempDir> = (0..2).map(|_| copy_of_embedded()).collect();
    let copies = folders.iter().map(|folder| folder.path().display().to_string());
    let (found, said) = run(&std::iter::once(one).chain(copies).collect::<Vec<_>>());
    assert!(said.is_empty() && found.reproduction.claims.iter().any(|claim| claim.holds.is_some()), "{said}");
}

/// The embedded model in a folder of its own.
fn copy_of_embedded() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/seedling");
    for entry in std::fs::read_dir(source).unwrap().map(Result::unwrap) {
        if entry.path().is_file() {
            std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
        }
    }
    folder
}

/// Keeps what is noted.
#[derive(Default)]
struct Heard {
    notes: std::sync::Mutex<Vec<String>>,
}

impl elenchus_learn::Observer for Heard {
    fn phase(&self, _: usize, _: &str, _: usize) {}

    fn advance(&self, _: usize, _: usize, _: bool) {}

    fn note(&self, text: &str) {
        self.notes.lock().unwrap().push(text.to_string());
    }
}

#[test]
fn the_taxonomy_grid_from_end_to_end() {
    let settings = json!({
        "tasks": ["arithmetic", "countdown"], "questions": 8, "pilot": 2, "seeds": 2, "times": 3.0, "temperature": 0.8,
    });
    answers_every_claim("taxonomy-grid", settings);
}

#[test]
fn cyberv_from_end_to_end() {
    let settings = json!({
        "reader": "given", "seeds": [1], "questions": 4, "validation": 3, "samples": 3, "most": 4, "counts": [2, 4],
        "thresholds": [0.0, 0.5, 1.0], "left_out": 2, "task": {"segments": 6}, "strategy": {"max_tokens": 16},
    });
    // The embedded model has not learned to read streams, and may trigger on every question or on none.
    let found = tiny("cyberv", settings);
    for claim in &found.reproduction.claims {
        let told = claim.estimate.is_some_and(f64::is_finite);
        assert!(told || claim.id == "triggered-are-harder", "`{}` has no estimate", claim.id);
    }
    assert!(found.findings.tables.len() >= 6 && !found.findings.notes.is_empty());
}
