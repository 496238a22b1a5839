//! The dialogue under attack: the same rounds with a judge of the test harness. It has no name in the registry of
//! strategies, so nothing that reads a setting can reach it.

use super::dialogue::Dialogue;
use super::settings::JudgedDialogueSettings;
use super::{check_voice, triple};
use crate::place::Place;
use crate::{ControlError, Estimate, EstimateInput, Minimum, Strategy, Triple};
use async_trait::async_trait;
use elenchus_evaluate::Needs;
use elenchus_evaluate::harness::{AnswerKey, Behaviour, HarnessJudge, Writer};
use elenchus_generate::Context;
use elenchus_task::Task;
use elenchus_task::arithmetic::dispute::Falsehood;
use elenchus_trace::{Answer, Problem};

const NAME: &str = "audited-dialogue";

/// What is tested.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditSettings {
    /// The judge.
    pub behaviour: Behaviour,
    /// Who writes its objections.
    pub writer: Writer,
    /// How its claims are false, in the notation of arithmetic.
    pub falsehood: Falsehood,
    /// The dialogue; its setting `judge` is not looked at.
    pub dialogue: JudgedDialogueSettings,
}

/// A dialogue with a judge of known intent and knowledge. Measure it with [`super::dialogue_course`].
#[derive(Debug, Clone)]
pub struct AuditDialogue {
    settings: AuditSettings,
}

impl AuditDialogue {
    /// Errors: [`ControlError::Setting`].
    pub fn new(settings: AuditSettings) -> Result<Self, ControlError> {
        settings.dialogue.check(NAME)?;
        Ok(AuditDialogue { settings })
    }

    fn judge_calls(&self) -> u64 {
        u64::from(self.settings.writer == Writer::Model)
    }
}

#[async_trait]
impl Strategy for AuditDialogue {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "a dialogue with a judge of known intent and knowledge: a robustness test"
    }

    fn triple(&self) -> Triple {
        triple(self.settings.dialogue.gate)
    }

    fn needs(&self) -> Needs {
        self.settings.dialogue.needs().and(HarnessJudge::needs_of(self.settings.writer))
    }

    fn minimum(&self) -> Minimum {
        self.settings.dialogue.minimum(self.judge_calls())
    }

    fn check(&self, context: &Context) -> Result<(), ControlError> {
        check_voice(NAME, &self.settings.dialogue, context)
    }

    fn estimate(&self, input: &EstimateInput) -> Estimate {
        self.settings.dialogue.estimate(input, self.judge_calls())
    }

    async fn attempt(
        &self,
        context: &Context,
        task: &dyn Task,
        problem: &Problem,
    ) -> Result<Answer, ControlError> {
        let AuditSettings { behaviour, writer, falsehood, dialogue } = &self.settings;
        let judge = HarnessJudge::new(*behaviour, *writer, *falsehood, AnswerKey::of(problem)?);
        let place = Place { context, task, problem };
        Dialogue { name: NAME, settings: dialogue, judge: &judge, place }.run(None).await
    }
}
