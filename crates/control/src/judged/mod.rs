//! A generator and a judge in dialogue (arXiv 2506.03332): the strategy in service, and the same under attack.

mod audit;
mod dialogue;
mod gate;
mod judge_check;
mod round_table;
mod settings;
mod strategy;
#[cfg(test)]
mod tests;

pub use audit::{AuditDialogue, AuditSettings};
pub use dialogue::{DialogueRound, Silence, dialogue_course};
pub use gate::Gate;
pub use judge_check::{JudgeReport, JudgedResponse, judge_item};
pub use round_table::{RoundTable, RoundTableOutcome, RoundTableSettings, round_table_vote};
pub use settings::JudgedDialogueSettings;
pub use strategy::JudgedDialogue;
