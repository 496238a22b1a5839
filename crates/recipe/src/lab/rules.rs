//! `rules`, `rules-small`: models that reply as the corpus of the task `rules` does, and judge replies under its rule.

use super::own_judge::{judge_row, p_true};
use super::{Figure, LabModel, Plan, Start};
use elenchus_learn::policy::{Policy, text_row};
use elenchus_learn::pretrain::ModelShape;
use elenchus_learn::rollouts::mix;
use elenchus_learn::trainer::{BatchSource, Blend, Decay, Generated, TrainSettings};
use elenchus_learn::{LearnError, NativePolicy, Session};
use elenchus_task::rules::{self, RulesSettings, Ruling};
use elenchus_task::{Skill, Task};
use elenchus_trace::Problem;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

/// Two kinds of rows. `S{request}` → a reply of the corpus, which knows nothing of the rule. `J{request}{reply}!` → `Y` or
/// `N`, where the reply stops at the end of one of its clauses or is whole: whether the *whole* reply keeps the rule,
/// so the judge of a beginning says where it leads. Half of the judge rows end in `~`, which exchanges the labels. All
/// rows are of training requests (arXiv 2309.07124, sheet 54, section 6).
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    name: &'static str,
    summary: &'static str,
    /// The shape of fresh weights; `None` starts from the base model, which copies names already.
    pub shape: Option<ModelShape>,
    /// The task.
    pub rules: RulesSettings,
    /// Reply rows in a batch; the rest are judge rows.
    pub reply_rows: usize,
    /// Requests for the card, none of which was trained on.
    pub validation: usize,
    /// The training.
    pub train: TrainSettings,
}

impl Rules {
    fn with_shape(name: &'static str, summary: &'static str, shape: Option<ModelShape>) -> Self {
        Rules {
            name,
            summary,
            shape,
            rules: RulesSettings::default(),
            reply_rows: 40,
            validation: 400,
            train: TrainSettings {
                steps: 900,
                batch: 128,
                learning_rate: 2e-3,
                warmup_steps: 40,
                decay: Decay::Cosine,
                floor: 0.05,
                ..TrainSettings::default()
            },
        }
    }

    /// The model of the experiment.
    pub fn large() -> Self {
        Rules::with_shape("rules", "gives advice as its corpus does, and judges it under a rule", None)
    }

    /// A model of about an eighth of its size, whose judgement is worse.
    pub fn small() -> Self {
        let shape = ModelShape {
            hidden_size: 48,
            intermediate_size: 144,
            layers: 3,
            heads: 2,
            kv_heads: 2,
            max_positions: 256,
        };
        Rules::with_shape("rules-small", "the same, smaller, with a worse judgement", Some(shape))
    }
}

/// A request, a reply of the corpus up to the end of one of its clauses (or all of it), and the ruling on the whole.
pub(crate) struct Excerpt {
    pub problem: Problem,
    pub text: String,
    pub ruling: Ruling,
}

/// Share of judge rows whose reply is whole.
const WHOLE: f64 = 0.3;

/// An excerpt for judging. What ends a clause is left out, as when a search stops there.
pub(crate) fn excerpt(
    task: &rules::Rules,
    problem: Problem,
    random: &mut ChaCha8Rng,
) -> Result<Excerpt, LearnError> {
    let reply = task.conversation(&rules::Request::of(&problem)?, random);
    let ruling = task.ruling(&problem, &reply)?;
    let ends: Vec<usize> = reply.match_indices([',', '.']).map(|(at, _)| at).collect();
    let end = match ends.get(random.random_range(0..ends.len().max(1))) {
        Some(end) if !random.random_bool(WHOLE) => *end,
        _ => reply.len(),
    };
    Ok(Excerpt { problem, text: reply[..end].to_string(), ruling })
}

/// The judge's prompt.
pub(crate) fn prompt(problem: &Problem, text: &str, swapped: bool) -> String {
    let mut prompt = Skill::Judge.prompt(problem, &[text]);
    if swapped {
        prompt.push('~');
    }
    prompt
}

/// Whether both orders of the labels together say that a text keeps the rule, as a probability.
pub(crate) fn kept(policy: &mut NativePolicy, excerpts: &[Excerpt]) -> Result<Vec<f64>, LearnError> {
    let both = |e: &Excerpt| [false, true].map(|swapped| (prompt(&e.problem, &e.text, swapped), swapped));
    let prompts: Vec<(String, bool)> = excerpts.iter().flat_map(both).collect();
    Ok(p_true(policy, &prompts)?.chunks(2).map(|pair| pair.iter().sum::<f64>() / 2.0).collect())
}

impl LabModel for Rules {
    fn name(&self) -> &'static str {
        self.name
    }

    fn summary(&self) -> &'static str {
        self.summary
    }

    fn plan(&self) -> Plan {
        Plan {
            version: 1,
            start: match self.shape {
                Some(shape) => Start::Fresh { shape, words: rules::words() },
                None => Start::Base { words: rules::words() },
            },
            heads: Vec::new(),
            objective: "sft".into(),
            objective_settings: serde_json::Value::Null,
            train: self.train.clone(),
            rows: json!({
                "rules": self.rules, "reply_rows": self.reply_rows, "validation": self.validation, "whole": WHOLE,
            }),
        }
    }

    fn source(
        &self,
        policy: &mut NativePolicy,
        seed: u64,
        _: &Session<'_>,
    ) -> Result<Box<dyn BatchSource>, LearnError> {
        let task = rules::Rules::new(self.rules.clone())?;
        let (encoder, teacher) = (policy.encoder(), task.clone());
        let replies = Generated::new(self.reply_rows, mix(seed, 1), move |seed| {
            let row = teacher.teach(seed);
            text_row(encoder.as_ref(), &row.prompt, &row.target)
        });
        let encoder = policy.encoder();
        let judged = self.train.batch.saturating_sub(self.reply_rows).max(1);
        let judged = Generated::new(judged, mix(seed, 2), move |seed| {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let problem = task.problem(&task.training_request(&mut random));
            let excerpt = excerpt(&task, problem, &mut random)?;
            let swapped = random.random_bool(0.5);
            let prompt = prompt(&excerpt.problem, &excerpt.text, swapped);
            judge_row(encoder.as_ref(), &prompt, excerpt.ruling.kept(), swapped)
        });
        Ok(Box::new(Blend(replies, judged)))
    }

    /// How often both orders of the labels say of an excerpt what the whole reply comes to. Of a beginning nobody can know
    /// that for sure.
    fn validate(&self, policy: &mut NativePolicy, seed: u64, _: &Session<'_>) -> Result<Figure, LearnError> {
        let task = rules::Rules::new(self.rules.clone())?;
        let problems = task.problems(elenchus_task::Split::Validation, self.validation, mix(seed, 3))?;
        let mut random = ChaCha8Rng::seed_from_u64(mix(seed, 4));
        let excerpts = problems
            .into_iter()
            .map(|problem| excerpt(&task, problem, &mut random))
            .collect::<Result<Vec<_>, _>>()?;
        let kept = kept(policy, &excerpts)?;
        let right = kept.iter().zip(&excerpts).filter(|(p, e)| (**p > 0.5) == e.ruling.kept()).count();
        let value = right as f64 / excerpts.len().max(1) as f64;
        Ok(Figure { name: "accuracy of the judge".into(), value, problems: excerpts.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use elenchus_task::Split;

    #[test]
    fn excerpts_end_at_clauses_and_are_labelled_by_the_whole() {
        let task = rules::Rules::new(RulesSettings::default()).unwrap();
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let (mut whole, mut hidden) = (0, 0);
        for problem in task.problems(Split::Train, 400, 1).unwrap() {
            let found = excerpt(&task, problem, &mut random).unwrap();
            assert!(!found.text.is_empty() && !found.text.ends_with(','), "{}", found.text);
            whole += usize::from(found.text.ends_with('.'));
            let so_far = task.ruling(&found.problem, &found.text).unwrap();
            assert!(so_far.kept() || !found.ruling.kept(), "what is broken stays broken");
            hidden += usize::from(so_far.kept() && !found.ruling.kept());
        }
        assert!((80..160).contains(&whole), "{whole} of 400 are whole");
        assert!(hidden > 40, "some beginnings lead to what is not there yet: {hidden}");
    }

    #[test]
    fn the_vocabulary_holds_every_text() {
        let (plan, shape) = (Rules::small().plan(), Rules::small().shape.unwrap());
        let Start::Fresh { words, .. } = &plan.start else { panic!("it starts fresh") };
        let mut all = elenchus_task::arithmetic::vocabulary();
        all.extend(
            words.iter().filter(|word| !elenchus_task::arithmetic::vocabulary().contains(word)).cloned(),
        );
        let tokenizer = elenchus_native::Tokenizer::word_level(&all).unwrap();
        let task = rules::Rules::new(RulesSettings::default()).unwrap();
        let unknown = tokenizer.unknown().unwrap();
        for seed in 0..200 {
            let row = task.teach(seed);
            let text = format!("{}{}", row.prompt, row.target);
            let tokens = tokenizer.encode(&text).unwrap();
            assert!(!tokens.contains(&unknown), "{text}");
            assert_eq!(tokenizer.decode(&tokens).unwrap(), text);
            // A verb runs into its noun and is spelled by letters; prompt, reply and its end must fit all the same.
            assert!(tokens.len() < shape.max_positions, "{}", tokens.len());
        }
    }
}
