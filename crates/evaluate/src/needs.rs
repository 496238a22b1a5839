//! What a part needs of the models it calls, checked before the first call.

use elenchus_generate::{Capabilities, Context, LogprobDetail, Voice};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is needed of the model bound to one role.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RoleNeeds {
    /// The role: `actor`, `judge`, `critic`, `refiner`, …
    pub role: String,
    /// Log-probabilities of the tokens it writes.
    pub logprobs: bool,
    /// That many of the likeliest tokens at each position.
    pub top_logprobs: u8,
    /// Statistics of the full distributions of the tokens it writes.
    pub distributions: bool,
    /// Log-probabilities of given text.
    pub score: bool,
    /// Continuing an assistant prefix.
    pub prefix: bool,
    /// Hidden states and attention.
    pub latent: bool,
    /// Reading and writing in words: the chat voice.
    pub words: bool,
}

impl RoleNeeds {
    /// Nothing but that the role is bound to a model.
    pub fn new(role: impl Into<String>) -> Self {
        RoleNeeds { role: role.into(), ..Default::default() }
    }

    /// How much a sampler must ask for about each token.
    ///
    /// Full distributions include the chosen token; a model gives either distributions or likeliest tokens, so
    /// `distributions` wins when both are needed.
    pub fn detail(&self) -> LogprobDetail {
        match (self.distributions, self.top_logprobs, self.logprobs) {
            (true, _, _) => LogprobDetail::Distribution,
            (false, 0, true) => LogprobDetail::Chosen,
            (false, 0, false) => LogprobDetail::None,
            (false, k, _) => LogprobDetail::Top(k),
        }
    }

    fn missing(&self, has: &Capabilities) -> Option<(String, &'static str)> {
        if self.distributions && !has.distributions {
            return Some((
                "statistics of full token distributions".into(),
                "only models with weights give them; for an endpoint that gives log-probabilities say how many of the likeliest \
                 tokens it reports and how many its model has: `--set evaluator_settings.top_k.k=20 --set \
                 evaluator_settings.top_k.vocabulary=151936`; or take another evaluator, `--set evaluator=judge`",
            ));
        }
        if self.top_logprobs > has.top_logprobs {
            return Some((
                format!("the {} likeliest tokens (it gives {})", self.top_logprobs, has.top_logprobs),
                "ask for fewer, or vote with `self-consistency`, which needs only samples",
            ));
        }
        if self.logprobs && !has.logprobs {
            return Some((
                "log-probabilities of its tokens".into(),
                "use a model that gives them, or vote with `self-consistency`, which needs only samples",
            ));
        }
        if self.score && !has.score {
            return Some((
                "log-probabilities of given text".into(),
                "use the embedded model, or let the judge read its labels from likely tokens or samples",
            ));
        }
        if self.prefix && !has.prefix {
            return Some((
                "continuations of a prefix".into(),
                "vLLM, SGLang and llama.cpp give them: say how with `--prefix`, or `prefix` under `[endpoint]`; or use the \
                 embedded model",
            ));
        }
        if self.latent && !has.latent {
            return Some((
                "latent states, which are not measurable from outside".into(),
                "use the embedded model, or measure only the decoding and response layers",
            ));
        }
        None
    }
}

/// What a part needs as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Needs {
    /// Roles whose models are called, or whose samples must carry something. The actor is always there.
    pub roles: Vec<RoleNeeds>,
    /// Whether it looks at the reference answer: no test-time method then, but an oracle.
    pub oracle: bool,
    /// Whether it acts in the environment of a task: nothing for a question then.
    pub environment: bool,
}

/// One need that a model does not meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmet {
    /// The role.
    pub role: String,
    /// What is missing, in words.
    pub what: String,
    /// What to do.
    pub hint: String,
}

impl Needs {
    /// The needs of one role.
    pub fn role(role: RoleNeeds) -> Self {
        Needs { roles: vec![role], ..Needs::default() }
    }

    /// What is needed of a role; nothing when it is not named.
    pub fn of(&self, role: &str) -> RoleNeeds {
        self.roles.iter().find(|needs| needs.role == role).cloned().unwrap_or_else(|| RoleNeeds::new(role))
    }

    /// Both needs together.
    pub fn and(mut self, other: Needs) -> Self {
        for needs in other.roles {
            match self.roles.iter_mut().find(|mine| mine.role == needs.role) {
                None => self.roles.push(needs),
                Some(mine) => {
                    mine.logprobs |= needs.logprobs;
                    mine.top_logprobs = mine.top_logprobs.max(needs.top_logprobs);
                    mine.distributions |= needs.distributions;
                    mine.score |= needs.score;
                    mine.prefix |= needs.prefix;
                    mine.latent |= needs.latent;
                    mine.words |= needs.words;
                }
            }
        }
        self.oracle |= other.oracle;
        self.environment |= other.environment;
        self
    }

    /// Checks the needs against the models; `capabilities` gives those of the model that stands in a role. Returns the
    /// first need that is not met.
    pub fn unmet(&self, capabilities: impl Fn(&str) -> Capabilities) -> Option<Unmet> {
        self.roles.iter().find_map(|needs| {
            let (what, hint) = needs.missing(&capabilities(&needs.role))?;
            Some(Unmet { role: needs.role.clone(), what, hint: hint.into() })
        })
    }

    /// The same against the models of a context, and the voices in which they are spoken to.
    pub fn unmet_by(&self, context: &Context) -> Option<Unmet> {
        let wordless = |needs: &&RoleNeeds| needs.words && context.voice_of(&needs.role) == Voice::Compact;
        self.unmet(|role| context.model(role).capabilities()).or_else(|| {
            let role = self.roles.iter().find(wordless)?.role.clone();
            let hint = format!(
                "the embedded model is spoken to in the compact voice, which has none; give the role a model that chats, as \
                 `--role {role}=MODEL@URL`"
            );
            Some(Unmet { role, what: "judging in words".into(), hint })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint() -> Capabilities {
        Capabilities {
            logprobs: true,
            top_logprobs: 20,
            distributions: false,
            score: false,
            prefix: false,
            latent: false,
            weights: false,
            tools: true,
            images: false,
            seeded: false,
        }
    }

    #[test]
    fn needs_add_up_by_role() {
        let left = Needs::role(RoleNeeds { logprobs: true, ..RoleNeeds::new("actor") });
        let right = Needs::role(RoleNeeds { top_logprobs: 5, ..RoleNeeds::new("actor") }).and(Needs {
            roles: vec![RoleNeeds::new("judge")],
            oracle: true,
            environment: false,
        });
        let both = left.and(right);
        assert_eq!(both.roles.len(), 2);
        assert_eq!(both.of("actor").detail(), LogprobDetail::Top(5));
        assert_eq!(both.of("judge").detail(), LogprobDetail::None);
        assert!(both.oracle);
    }

    #[test]
    fn what_is_missing_is_said_with_role_and_hint() {
        let needs = Needs::role(RoleNeeds { distributions: true, ..RoleNeeds::new("actor") });
        let unmet = needs.unmet(|_| endpoint()).unwrap();
        assert!(unmet.what.contains("full token distributions") && unmet.hint.contains("top_k"), "{unmet:?}");
        let needs = Needs::role(RoleNeeds { top_logprobs: 21, ..RoleNeeds::new("actor") });
        assert!(needs.unmet(|_| endpoint()).unwrap().what.contains("gives 20"));
        let needs = Needs::role(RoleNeeds { score: true, ..RoleNeeds::new("judge") });
        assert_eq!(needs.unmet(|_| endpoint()).unwrap().role, "judge");
        let needs = Needs::role(RoleNeeds { latent: true, ..RoleNeeds::new("actor") });
        assert!(needs.unmet(|_| endpoint()).unwrap().what.contains("not measurable"));
        assert_eq!(Needs::default().unmet(|_| endpoint()), None);
    }
}
