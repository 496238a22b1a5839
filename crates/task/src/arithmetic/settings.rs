//! What can be set about the arithmetic problems.

use super::words::LETTERS;
use crate::TaskError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Number of operations: one number, or the smallest and the largest of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a number of steps such as 5, or a range such as [4, 6]")]
pub enum Steps {
    /// Always so many.
    Exactly(usize),
    /// From the first to the second, both included.
    Between([usize; 2]),
}

impl Steps {
    /// The smallest number of operations.
    pub fn smallest(self) -> usize {
        match self {
            Steps::Exactly(steps) | Steps::Between([steps, _]) => steps,
        }
    }

    /// The largest number of operations.
    pub fn largest(self) -> usize {
        match self {
            Steps::Exactly(steps) | Steps::Between([_, steps]) => steps,
        }
    }
}

/// What is asked and how it is answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// The value, after one equation per step.
    #[default]
    Chain,
    /// The value alone; no step is required.
    Direct,
    /// The letter of one of four values, after one equation per step.
    Choice,
    /// The final value is given and one number of the statements is masked by `_`: find it.
    Backward,
}

/// How a problem is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Surface {
    /// `g=50;e=g-1;e?`
    #[default]
    Symbols,
    /// `Ann has 50.Bob has 1 less than Ann.how many has Bob?`
    Words,
    /// Words with this probability, symbols otherwise.
    Mixed(f64),
}

/// A named set of settings; what is written beside it overrides it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// 4 to 6 operations.
    #[default]
    Default,
    /// 2 to 6 operations.
    Mixed,
    /// 1 to 10 operations, the share falling by 0.75 per operation: the whole dial, short problems more often.
    Pretraining,
}

/// Settings of the arithmetic task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ArithmeticSettings {
    /// Where the other settings start from.
    pub preset: Preset,
    /// Operations of a problem, 1 to 10.
    pub steps: Steps,
    /// A problem with one more operation is so many times as likely; 1 is uniform.
    pub step_weight: f64,
    /// Largest value of any variable; the smallest is 0.
    pub largest_value: i64,
    /// How many letters variables are drawn from, at most 26.
    pub letters: usize,
    /// Probability of `*`.
    pub multiply: f64,
    /// Probability that the second operand of `+` or `-` is an earlier variable.
    pub second_variable: f64,
    /// Fewest and most statements that do not matter; fewer when the letters run out.
    pub distractors: [usize; 2],
    /// What is asked.
    pub form: Form,
    /// How it is written.
    pub surface: Surface,
    /// Backward form: mask only numbers that the final value determines uniquely. When off, the flag `unique` in the
    /// problem's `data` says which ones are.
    pub unique_only: bool,
}

impl Default for ArithmeticSettings {
    fn default() -> Self {
        ArithmeticSettings::preset(Preset::Default)
    }
}

impl ArithmeticSettings {
    /// The settings a preset stands for.
    pub fn preset(preset: Preset) -> Self {
        let (steps, step_weight) = match preset {
            Preset::Default => ([4, 6], 1.0),
            Preset::Mixed => ([2, 6], 1.0),
            Preset::Pretraining => ([1, 10], 0.75),
        };
        ArithmeticSettings {
            preset,
            steps: Steps::Between(steps),
            step_weight,
            largest_value: 999,
            letters: 12,
            multiply: 0.3,
            second_variable: 0.1,
            distractors: [0, 2],
            form: Form::Chain,
            surface: Surface::Symbols,
            unique_only: true,
        }
    }

    /// Reads settings; fields that are absent come from the preset.
    ///
    /// # Errors
    /// The field that is unknown, has the wrong type, or is out of range.
    pub fn from_value(value: &serde_json::Value) -> Result<Self, TaskError> {
        let preset = match value.get("preset") {
            None => Preset::default(),
            Some(name) => Preset::deserialize(name).map_err(|error| TaskError::Setting {
                field: "preset".to_string(),
                problem: format!("is not a preset: {error}"),
                hint: "one of `default`, `mixed`, `pretraining`".to_string(),
            })?,
        };
        let settings: Self = crate::settings::overlay(&ArithmeticSettings::preset(preset), value)?;
        settings.check()?;
        Ok(settings)
    }

    /// Whether all settings are in range.
    ///
    /// # Errors
    /// The first one that is not.
    pub fn check(&self) -> Result<(), TaskError> {
        let setting = |field: &str, problem: String, hint: &str| {
            Err(TaskError::Setting { field: field.to_string(), problem, hint: hint.to_string() })
        };
        let (smallest, largest) = (self.steps.smallest(), self.steps.largest());
        if smallest == 0 || largest > 10 || smallest > largest {
            return setting(
                "steps",
                format!("is {smallest} to {largest}"),
                "use 1 to 10 operations, for example [4, 6]",
            );
        }
        if !(self.step_weight > 0.0 && self.step_weight.is_finite()) {
            return setting(
                "step_weight",
                format!("is {}", self.step_weight),
                "use a positive number; 1 is uniform",
            );
        }
        if self.letters > LETTERS.len() || self.letters < largest + 1 {
            return setting(
                "letters",
                format!("is {}", self.letters),
                "use at most 26, and one more than the largest number of steps",
            );
        }
        if !(9..=999_999).contains(&self.largest_value) {
            return setting("largest_value", format!("is {}", self.largest_value), "use 9 to 999999");
        }
        for (field, value) in [("multiply", self.multiply), ("second_variable", self.second_variable)] {
            if !(0.0..=1.0).contains(&value) {
                return setting(field, format!("is {value}"), "a probability lies in 0 to 1");
            }
        }
        if self.multiply > 0.9 {
            return setting(
                "multiply",
                format!("is {}", self.multiply),
                "at most 0.9, or values leave their range",
            );
        }
        let [fewest, most] = self.distractors;
        if fewest > most || most > 8 {
            return setting(
                "distractors",
                format!("is {fewest} to {most}"),
                "use [fewest, most] with at most 8, for example [0, 2]",
            );
        }
        if let Surface::Mixed(share) = self.surface
            && !(0.0..=1.0).contains(&share)
        {
            return setting("surface", format!("is mixed with {share}"), "the share of words lies in 0 to 1");
        }
        Ok(())
    }
}
