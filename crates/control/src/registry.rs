//! Strategies by name. A new strategy is one file and one line here.

use crate::{
    Act, AskAgain, Beam, BestOfN, Borda, ClosedLoopCritique, Composition, ConsistencyGate, ControlError,
    CritiqueAndRefine, CyberV, Fobar, Gsa, Iad, IterativeDeepeningSampling, JudgedDialogue, Rain,
    RetryWithFeedback, Rpc, SelfAgreement, SelfCheck, SelfConsistency, Single, StepSearch, Strategy, Triple,
    UniversalSelfConsistency, UntilStable,
};
use elenchus_evaluate::Needs;
use elenchus_trace::nearest;
use schemars::{JsonSchema, schema_for};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::sync::Arc;

/// What is known of a strategy without running it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StrategyEntry {
    /// Name in recipes and on the command line.
    pub name: &'static str,
    /// One line.
    pub summary: &'static str,
    /// Its place in the taxonomy, with default settings.
    pub triple: Triple,
    /// What it needs, with default settings.
    pub needs: Needs,
    /// What it costs, with default settings, n samples, p prompt and c completion tokens.
    pub cost: String,
    /// JSON schema of its settings.
    pub settings: Value,
}

struct Row {
    name: &'static str,
    make: fn(Value) -> Result<Arc<dyn Strategy>, ControlError>,
    schema: fn() -> Value,
}

macro_rules! rows {
    ($($name:literal => $strategy:ident, $settings:ty;)*) => {
        &[$(Row {
            name: $name,
            make: |value| Ok(Arc::new($strategy::new(read::<$settings>($name, value)?)?)),
            schema: schema::<$settings>,
        }),*]
    };
}

const ROWS: &[Row] = rows! {
    "single" => Single, crate::SingleSettings;
    "self-consistency" => SelfConsistency, crate::SelfConsistencySettings;
    "best-of-n" => BestOfN, crate::BestOfNSettings;
    "act" => Act, crate::ActSettings;
    "beam" => Beam, crate::BeamSettings;
    "borda" => Borda, crate::BordaSettings;
    "rpc" => Rpc, crate::RpcSettings;
    "fobar" => Fobar, crate::FobarSettings;
    "critique-and-refine" => CritiqueAndRefine, crate::CritiqueAndRefineSettings;
    "until-stable" => UntilStable, crate::UntilStableSettings;
    "self-check" => SelfCheck, crate::SelfCheckSettings;
    "ask-again" => AskAgain, crate::AskAgainSettings;
    "closed-loop-critique" => ClosedLoopCritique, crate::ClosedLoopCritiqueSettings;
    "retry-with-feedback" => RetryWithFeedback, crate::RetryWithFeedbackSettings;
    "self-agreement" => SelfAgreement, crate::SelfAgreementSettings;
    "consistency-gate" => ConsistencyGate, crate::ConsistencyGateSettings;
    "gsa" => Gsa, crate::GsaSettings;
    "iad" => Iad, crate::IadSettings;
    "cyberv" => CyberV, crate::CyberVSettings;
    "iterative-deepening-sampling" => IterativeDeepeningSampling, crate::IterativeDeepeningSamplingSettings;
    "rain" => Rain, crate::RainSettings;
    "step-search" => StepSearch, crate::StepSearchSettings;
    "judged-dialogue" => JudgedDialogue, crate::JudgedDialogueSettings;
    "universal-self-consistency" => UniversalSelfConsistency, crate::UniversalSelfConsistencySettings;
};

fn read<S: DeserializeOwned + JsonSchema>(strategy: &str, value: Value) -> Result<S, ControlError> {
    let value = if value.is_null() { Value::Object(Default::default()) } else { value };
    if let Value::Object(given) = &value {
        let schema = schema::<S>();
        let known: Vec<&str> =
            schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
        if let Some(unknown) = given.keys().find(|name| !known.contains(&name.as_str())) {
            // Settings are spelled with `_`, names of parts with `-`.
            let hint = nearest(unknown, known.iter().copied());
            return Err(ControlError::setting(strategy, unknown, "there is no such setting", hint));
        }
    }
    serde_json::from_value(value).map_err(|error| {
        let hint = format!("`elenchus recipes --parts {strategy}` prints its settings with their types");
        ControlError::setting(strategy, "settings", error.to_string(), hint)
    })
}

fn schema<S: JsonSchema>() -> Value {
    schema_for!(S).to_value()
}

/// The strategy of this name (`_` and `-` are the same) with its settings; `null` takes the defaults. A composition
/// ([`Composition`]) has settings by the names of its parts.
///
/// Errors: [`ControlError::Unknown`] with the nearest names; [`ControlError::Setting`] for an unknown or wrong setting.
pub fn strategy(name: &str, settings: Value) -> Result<Arc<dyn Strategy>, ControlError> {
    if Composition::is_composed(name) {
        let composition = match settings {
            Value::Object(settings) => Composition::parse(name)?.with_settings(&settings)?,
            _ => Composition::parse(name)?,
        };
        return composition.build(&|part| strategy(&part.name, Value::Object(part.settings.clone())));
    }
    let wanted = name.replace('_', "-");
    match ROWS.iter().find(|row| row.name == wanted) {
        Some(row) => (row.make)(settings),
        None => Err(ControlError::Unknown {
            kind: "strategy",
            name: name.into(),
            hint: nearest(name, ROWS.iter().map(|row| row.name)),
        }),
    }
}

/// Names of the strategies that are so with default settings.
pub fn strategies_that(are: impl Fn(&dyn Strategy) -> bool) -> Vec<&'static str> {
    let made = |row: &Row| (row.make)(Value::Null).is_ok_and(|strategy| are(strategy.as_ref()));
    ROWS.iter().filter(|row| made(row)).map(|row| row.name).collect()
}

/// All strategies, in the order of the registry.
pub fn strategies() -> Vec<StrategyEntry> {
    ROWS.iter()
        .filter_map(|row| {
            let part = (row.make)(Value::Null).ok()?;
            Some(StrategyEntry {
                name: row.name,
                summary: part.summary(),
                triple: part.triple(),
                needs: part.needs(),
                cost: part
                    .estimate(&crate::EstimateInput { prompt_tokens: 100, completion_tokens: 100 })
                    .formula,
                settings: (row.schema)(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EstimateInput;
    use serde_json::json;

    #[test]
    fn every_row_makes_its_strategy_with_default_settings() {
        let entries = strategies();
        assert_eq!(entries.len(), ROWS.len(), "a strategy without defaults would vanish from the lists");
        for entry in entries {
            let made = strategy(entry.name, Value::Null).unwrap();
            assert_eq!(made.name(), entry.name);
            assert!(!entry.summary.is_empty() && !entry.cost.is_empty());
            let properties = entry.settings["properties"].as_object().unwrap();
            assert!(properties.contains_key("temperature"), "{}: flattened settings are listed", entry.name);
            for (field, schema) in properties {
                assert!(schema.get("description").is_some(), "{}.{field} says nothing", entry.name);
            }
            let minimum = made.minimum();
            let estimate = made.estimate(&EstimateInput { prompt_tokens: 50, completion_tokens: 20 }).usage;
            assert!(minimum.calls <= estimate.calls && minimum.tokens <= estimate.tokens(), "{}", entry.name);
        }
    }

    #[test]
    fn settings_mix_own_and_shared_fields_and_refuse_others() {
        let settings =
            json!({"samples": 4, "temperature": 1, "power": "auto", "max_tokens": 64, "stop": ["\n\n"]});
        assert!(strategy("borda", settings).is_ok());
        let message =
            |name: &str, settings| strategy(name, settings).err().map(|e| e.to_string()).unwrap_or_default();
        let unknown = message("borda", json!({"sample": 4}));
        assert!(unknown.contains("`sample`") && unknown.contains("`samples`"), "{unknown}");
        assert!(message("single", json!({"temprature": 1})).contains("`temperature`"));
        assert!(message("self-consistency", json!({"samples": "many"})).contains("hint:"));
        assert!(message("self-consistency", json!({"samples": 0})).contains("samples"));
        assert!(message("single", json!([1])).contains("hint:"));
        assert!(message("self-consistancy", Value::Null).contains("did you mean `self-consistency`"));
        assert!(message("best-of-n", json!({"evaluator_settings": {"measure": "ginni"}})).contains("gini"));
        assert!(strategy("best_of_n", Value::Null).is_ok());
    }

    #[test]
    fn serde_alone_refuses_unknown_fields_beside_flattened_ones() {
        let found: Result<crate::BordaSettings, _> = serde_json::from_value(json!({"sample": 4}));
        assert!(found.is_err(), "recipes read settings without the registry, too");
    }
}
