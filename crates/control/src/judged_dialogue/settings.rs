//! Settings of a dialogue with a judge.

use super::Gate;
use crate::draw::check_samples;
use crate::{ControlError, Draw, Estimate, EstimateInput, Minimum};
use elenchus_evaluate::{Needs, RoleNeeds};
use elenchus_generate::ACTOR;
use elenchus_trace::Usage;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings of `judged-dialogue`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JudgedDialogueSettings {
    /// Rounds R of objection and reply.
    pub rounds: usize,
    /// Role of the judge.
    pub judge: String,
    /// What stands between an objection and the generator.
    pub gate: Gate,
    /// Samples of the gate: recomputations, moderators, or fresh answers in the vote.
    pub gate_samples: usize,
    /// Role that recomputes or moderates.
    pub checker: String,
    /// For `gate = "confidence"`: objections reach the generator when the mean log-probability per token of its answer lies
    /// below this, in nats.
    pub confidence: f64,
    /// Ask the generator to say so when the evidence conflicts or the question is ambiguous (chat voice only).
    pub acknowledge: bool,
    /// How answers are drawn; greedy unless a temperature is given. Samples of a gate at 0.6 then.
    #[serde(flatten)]
    pub draw: Draw,
}

impl Default for JudgedDialogueSettings {
    fn default() -> Self {
        JudgedDialogueSettings {
            rounds: 1,
            judge: "judge".into(),
            gate: Gate::None,
            gate_samples: 3,
            checker: "checker".into(),
            confidence: -0.05,
            acknowledge: false,
            draw: Draw::default(),
        }
    }
}

impl JudgedDialogueSettings {
    /// Errors: [`ControlError::Setting`].
    pub fn check(&self, strategy: &str) -> Result<(), ControlError> {
        self.draw.check(strategy)?;
        check_samples(strategy, self.gate_samples)?;
        if !(1..=100).contains(&self.rounds) {
            let problem = format!("{} is out of range", self.rounds);
            let hint = "between 1 and 100; the paper has 1, and several to study dynamics";
            return Err(ControlError::setting(strategy, "rounds", problem, hint));
        }
        if !self.confidence.is_finite() || self.confidence > 0.0 {
            let problem = format!("{} is no mean log-probability", self.confidence);
            let hint = "0 lets every objection through, -0.05 those to answers of less than 95 % per token";
            return Err(ControlError::setting(strategy, "confidence", problem, hint));
        }
        Ok(())
    }

    /// What generator and gate need.
    pub(super) fn needs(&self) -> Needs {
        let actor = RoleNeeds { logprobs: self.gate == Gate::Confidence, ..RoleNeeds::new(ACTOR) };
        match self.gate {
            Gate::Recompute | Gate::Moderator => {
                Needs::role(actor).and(Needs::role(RoleNeeds::new(&self.checker)))
            }
            _ => Needs::role(actor),
        }
    }

    fn gate_calls(&self) -> u64 {
        u64::from(matches!(self.gate, Gate::Recompute | Gate::Moderator | Gate::Vote))
    }

    /// One whole round: answer, review, gate, reply. `judge` is 1 when a model judges.
    pub(super) fn minimum(&self, judge: u64) -> Minimum {
        let calls = 2 + judge + self.gate_calls();
        let samples = 2 + judge + self.gate_calls() * self.gate_samples as u64;
        Minimum { calls, tokens: calls + samples }
    }

    pub(super) fn estimate(&self, input: &EstimateInput, judge: u64) -> Estimate {
        let (p, c, rounds) = (input.prompt_tokens, input.completion_tokens, self.rounds as u64);
        let (gate, samples) = (self.gate_calls(), self.gate_samples as u64);
        // Reply r reads the answers and objections before it; judge and gate read the problem and the answer.
        let read: u64 = (1..=rounds).map(|round| p + 2 * round * c).sum();
        let each = (judge + gate) * (150 + p + c);
        Estimate {
            usage: Usage {
                calls: 1 + rounds * (1 + judge + gate),
                prompt_tokens: p + read + rounds * each,
                completion_tokens: c + rounds * c * (1 + judge + gate * samples),
                ..Usage::default()
            },
            formula: format!(
                "1 call, and for each of {rounds} rounds {judge} of the judge, {} of the gate and 1 reply that reads p + 2rc in \
                 round r",
                if gate == 0 { "none".into() } else { format!("1 with {samples} samples") }
            ),
        }
    }
}
