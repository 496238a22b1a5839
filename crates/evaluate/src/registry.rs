//! Evaluators by name. A new evaluator is one file and one line here.

use crate::{
    Certainty, CoinFlip, Critic, EvaluateError, Evaluator, Judge, Judgment, Likelihood, Needs, Outlook,
    Recompute, Rubric, Support, Verifier, VoteShare,
};
use elenchus_trace::nearest;
use schemars::{JsonSchema, schema_for};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::sync::Arc;

/// What is known of an evaluator without running it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EvaluatorEntry {
    /// Name in recipes and on the command line.
    pub name: &'static str,
    /// One line.
    pub summary: &'static str,
    /// What it needs with its default settings.
    pub needs: Needs,
    /// JSON schema of its settings.
    pub settings: Value,
}

struct Row {
    name: &'static str,
    make: fn(Value) -> Result<Arc<dyn Evaluator>, EvaluateError>,
    schema: fn() -> Value,
}

macro_rules! rows {
    ($($name:literal => $settings:ty, $make:expr;)*) => {
        &[$(Row {
            name: $name,
            make: |value| {
                let settings: $settings = read($name, value)?;
                Ok(Arc::new(($make)(settings)?))
            },
            schema: schema::<$settings>,
        }),*]
    };
}

const ROWS: &[Row] = rows! {
    "verifier" => crate::VerifierSettings, |s| Ok::<_, EvaluateError>(Verifier::new(s));
    "certainty" => crate::CertaintySettings, Certainty::new;
    "likelihood" => crate::LikelihoodSettings, |s| Ok::<_, EvaluateError>(Likelihood::new(s));
    "vote-share" => crate::VoteShareSettings, |s| Ok::<_, EvaluateError>(VoteShare::new(s));
    "support" => crate::SupportSettings, |s| Ok::<_, EvaluateError>(Support::new(s));
    "judge" => crate::JudgeSettings, Judge::new;
    "judgment" => crate::JudgmentSettings, Judgment::new;
    "rubric" => crate::RubricSettings, Rubric::new;
    "critic" => crate::CriticSettings, Critic::new;
    "recompute" => crate::RecomputeSettings, |s| Ok::<_, EvaluateError>(Recompute::new(s));
    "outlook" => crate::OutlookSettings, Outlook::new;
    "coin-flip" => crate::CoinFlipSettings, |s| Ok::<_, EvaluateError>(CoinFlip::new(s));
};

fn read<S: DeserializeOwned>(evaluator: &str, value: Value) -> Result<S, EvaluateError> {
    let value = if value.is_null() { Value::Object(Default::default()) } else { value };
    serde_json::from_value(value).map_err(|error| EvaluateError::Setting {
        evaluator: evaluator.into(),
        field: "settings".into(),
        problem: error.to_string(),
        hint: format!("`elenchus recipes --parts {evaluator}` prints its settings with their types"),
    })
}

fn schema<S: JsonSchema>() -> Value {
    schema_for!(S).to_value()
}

/// The evaluator of this name (`_` and `-` are the same) with its settings; `null` takes the defaults.
///
/// Errors: [`EvaluateError::Unknown`] with the nearest names; [`EvaluateError::Setting`] for an unknown or wrong
/// setting.
pub fn evaluator(name: &str, settings: Value) -> Result<Arc<dyn Evaluator>, EvaluateError> {
    let wanted = name.replace('_', "-");
    match ROWS.iter().find(|row| row.name == wanted) {
        Some(row) => (row.make)(settings),
        None => Err(EvaluateError::Unknown {
            name: name.into(),
            hint: nearest(name, ROWS.iter().map(|row| row.name)),
        }),
    }
}

/// All evaluators, in the order of the registry.
pub fn evaluators() -> Vec<EvaluatorEntry> {
    ROWS.iter()
        .filter_map(|row| {
            let part = (row.make)(Value::Null).ok()?;
            Some(EvaluatorEntry {
                name: row.name,
                summary: part.summary(),
                needs: part.needs(),
                settings: (row.schema)(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_row_makes_its_evaluator_with_default_settings() {
        let entries = evaluators();
        assert_eq!(entries.len(), ROWS.len(), "an evaluator without defaults would vanish from the lists");
        for entry in entries {
            assert_eq!(evaluator(entry.name, Value::Null).unwrap().name(), entry.name);
            assert!(!entry.summary.is_empty());
            assert_eq!(entry.settings["additionalProperties"], json!(false), "{}", entry.name);
            let described = entry.settings["properties"].as_object().unwrap();
            assert!(!described.is_empty(), "{}", entry.name);
            for (field, schema) in described {
                assert!(schema.get("description").is_some(), "{}.{field} says nothing", entry.name);
            }
        }
    }

    #[test]
    fn unknown_names_and_settings_are_refused_with_a_hint() {
        let message =
            |name: &str, settings| evaluator(name, settings).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(message("certanty", Value::Null).contains("did you mean `certainty`"));
        let unknown = message("certainty", json!({"mesure": "gini"}));
        assert!(
            unknown.contains("mesure") && unknown.contains("measure") && unknown.contains("hint:"),
            "{unknown}"
        );
        assert!(message("certainty", json!({"measure": 3})).contains("hint:"));
        assert!(message("certainty", json!({"top_k": {"k": 0, "vocabulary": 9}})).contains("top_k"));
        assert!(evaluator("vote_share", json!({"only_answered": true})).is_ok());
    }
}
