//! Metrics, statistics, plots and the HTML report.
//!
//! Knows: numbers about questions and samples. Does not know: models, files, prompts. Everything is a pure function of
//! its input and, where draws are involved, of a seed.

mod association;
mod bootstrap;
mod calibration;
mod calibrator;
mod compare;
mod consistency;
mod consistency_report;
mod correction;
mod diversity;
mod error;
mod escape;
pub mod format;
mod friction;
mod independent_second;
mod interval;
mod judging;
mod persuasion;
mod plot;
mod report;
mod sampling;
mod seeds;
mod special;
mod temperature;

pub use association::*;
pub use bootstrap::{Bootstrap, BootstrapMethod};
pub use calibration::*;
pub use calibrator::*;
pub use compare::*;
pub use consistency::{Consistency, consistency, covariance_spectrum, log_spread, population_variance};
pub use consistency_report::{ConsistencyReport, auroc_interval};
pub use correction::*;
pub use diversity::*;
pub use error::MeasureError;
pub use friction::*;
pub use independent_second::*;
pub use interval::*;
pub use judging::*;
pub use persuasion::*;
pub use plot::*;
pub use report::*;
pub use sampling::*;
pub use seeds::*;
pub use special::ln_gamma;
pub use temperature::{at_temperature, fit_temperature};
