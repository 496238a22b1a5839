//! Recipes: TOML files that name parts and their settings; parsed, checked, run, reproduced.
//!
//! Knows: how parts are composed and what a paper claims. Does not know: how any part works.

mod acceptance;
mod calibrations;
mod catalogue;
mod configuration;
mod error;
pub mod grid;
mod improve;
mod improve_estimate;
pub mod lab;
pub mod models;
mod parse;
mod probe;
mod recipe;
pub mod reproduce;
mod revising;
mod service_settings;
mod serving;

pub use acceptance::{Acceptance, Claim, ClaimResult, Reproduction, Size};
pub use calibrations::{
    CalibrationEntry, Calibrations, FeedbackJudgements, composition_name, feedback_judgements,
};
pub use catalogue::{BUILT_IN, built_in, built_in_or_file, built_in_recipes};
pub use configuration::{CONFIGURATION_FILE, Configuration, EndpointDefaults, EndpointLayers, TokenPrice};
pub use elenchus_control::{Composition, Keeps, Repeated};
pub use error::RecipeError;
pub use improve::{ImproveConfig, Improvement, run_improve};
pub use improve_estimate::{ImproveEstimate, ImproveTokens, estimate_improve};
pub use parse::parse;
pub use probe::{Probed, ProbedSample, ProbedTemperature, probe_temperatures, shared_beginning};
pub use recipe::{Kind, Recipe, State, StrategyPart, Triple};
pub use service_settings::{LogLevel, ServiceSettings, TelemetrySettings, UpstreamSettings, data_folder};
pub use serving::{
    Cause, Offer, Serving, answer_in, embedded_examples, offer_of, offers, steps_of, strategy_of,
    strategy_part,
};
