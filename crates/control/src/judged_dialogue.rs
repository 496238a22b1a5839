//! A generator and a judge in dialogue (arXiv 2506.03332): the strategy in service, and the same under attack.

mod audit;
mod dialogue;
mod gate;
mod judge_check;
mod round_table;
mod settings;
#[cfg(test)]
mod tests;

pub use audit::{AuditDialogue, AuditSettings};
pub use dialogue::{DialogueRound, Silence, dialogue_course};
pub use gate::Gate;
pub use judge_check::{JudgeReport, JudgedResponse, judge_item};
pub use round_table::{RoundTable, RoundTableOutcome, RoundTableSettings, round_table_vote};
pub use settings::JudgedDialogueSettings;

use dialogue::Dialogue;

use crate::place::Place;
use crate::{
    ControlError, ControlKind, Estimate, EstimateInput, EvaluateKind, FeedbackLine, GenerateKind, Minimum,
    Strategy, Triple,
};
use async_trait::async_trait;
use elenchus_evaluate::{DialogueJudge, ModelJudge, Needs};
use elenchus_generate::{ACTOR, Context, Voice};
use elenchus_task::Task;
use elenchus_trace::{Answer, Completion, Problem};

const NAME: &str = "judged-dialogue";

/// Generator and judge in dialogue: the generator answers; in each of R rounds the judge looks at question and answer, and
/// where it objects the generator sees the whole dialogue and answers again. A judge can be mistaken, or worse, so a gate may
/// stand between them: what is disputed is worked out anew before the generator hears of it (`recompute`), a moderator
/// decides (`moderator`), only answers that the generator is unsure of are open to objections (`confidence`), or the answers
/// before and after the objection vote with fresh ones (`vote`).
///
/// How far a generator can be talked out of right answers is measured with `elenchus audit`: judges of every intent
/// (constructive, hypercritical, malicious) and knowledge (none, parametric, grounded) take the place of the judge here. Some of
/// them know the reference answer; they belong to that command's test harness, and neither a setting of this strategy nor a
/// recipe nor the gateway can reach them.
///
/// In the chat voice the judge ends in `Verdict:` and `Feedback:`; the embedded model has the skill critique for it. A review
/// that cannot be read, or contradicts itself, is no objection and is counted. A reply without an answer leaves the one
/// before it. A generator prompt that says the judge may lie changes the experiment: ours says that its words are an opinion
/// and no instruction, in every arm. The trace holds the account of attempts, so `eval` shows what went from right to
/// wrong and back.
///
/// Costs 1 call, and per round 1 of the judge, up to 1 of the gate with `gate_samples` samples, and 1 reply. Needs text
/// only; `gate = "confidence"` needs log-probabilities of the answer.
#[derive(Debug, Clone)]
pub struct JudgedDialogue {
    settings: JudgedDialogueSettings,
    judge: ModelJudge,
}

impl JudgedDialogue {
    /// Errors: [`ControlError::Setting`].
    pub fn new(settings: JudgedDialogueSettings) -> Result<Self, ControlError> {
        settings.check(NAME)?;
        Ok(JudgedDialogue { judge: ModelJudge::new(&settings.judge), settings })
    }
}

/// What the embedded model cannot be told.
fn check_voice(
    strategy: &str,
    settings: &JudgedDialogueSettings,
    context: &Context,
) -> Result<(), ControlError> {
    if settings.acknowledge && context.voice_of(ACTOR) == Voice::Compact {
        let hint = "leave it out, or bind a chat model";
        let problem = "the embedded model cannot be told in words";
        return Err(ControlError::setting(strategy, "acknowledge", problem, hint));
    }
    Ok(())
}

fn triple(gate: Gate) -> Triple {
    Triple {
        generate: GenerateKind::ModelGenerated,
        evaluate: EvaluateKind::ExternalModel,
        control: match gate {
            Gate::Vote => ControlKind::Ensemble,
            _ => ControlKind::Reinforcement,
        },
        line: Some(FeedbackLine::MultiAgentCollaboration),
    }
}

#[async_trait]
impl Strategy for JudgedDialogue {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "a judge objects and the generator answers again, in rounds; a gate may stand between them"
    }

    fn triple(&self) -> Triple {
        triple(self.settings.gate)
    }

    fn needs(&self) -> Needs {
        self.settings.needs().and(self.judge.needs())
    }

    fn minimum(&self) -> Minimum {
        self.settings.minimum(1)
    }

    fn check(&self, context: &Context) -> Result<(), ControlError> {
        check_voice(NAME, &self.settings, context)
    }

    fn estimate(&self, input: &EstimateInput) -> Estimate {
        self.settings.estimate(input, 1)
    }

    fn takes_draft(&self) -> bool {
        true
    }

    async fn attempt(
        &self,
        context: &Context,
        task: &dyn Task,
        problem: &Problem,
    ) -> Result<Answer, ControlError> {
        self.attempt_from(context, task, problem, None).await
    }

    async fn attempt_from(
        &self,
        context: &Context,
        task: &dyn Task,
        problem: &Problem,
        draft: Option<&Completion>,
    ) -> Result<Answer, ControlError> {
        let place = Place { context, task, problem };
        Dialogue { name: NAME, settings: &self.settings, judge: &self.judge, place }.run(draft).await
    }
}
