//! `reflection`: the base model after training on chains that are begun, broken off by a sign and begun anew.

use super::{Figure, LabModel, Plan, Start};
use elenchus_control::boundary;
use elenchus_generate::{PromptSlots, Prompts, Voice};
use elenchus_learn::objective::TrainingRow;
use elenchus_learn::policy::{Encode, Policy, RolloutRequest, text_row};
use elenchus_learn::rollouts::{RolloutSettings, judge, judged_rollouts, mix};
use elenchus_learn::trainer::{BatchSource, Decay, Generated, TrainSettings};
use elenchus_learn::{LearnError, NativePolicy, Session};
use elenchus_task::arithmetic::{Arithmetic, ArithmeticSettings, Exercise, Steps, corrupt};
use elenchus_task::{Skill, Split, Task};
use elenchus_trace::Problem;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

/// A tiny model knows no trigger, so self-correction has to be in its training (arXiv 2502.05449, sheet 11): a share of the
/// rows is `S{problem}{begun}~` → reference, where what was begun mostly holds a wrong step at a random place and breaks
/// off somewhere behind it, and now and then is right so far: a trigger does not say that there is a mistake. Some rows
/// have several broken attempts. A smaller share is `S{problem}{begun}:` → the rest of the reference, where what was begun
/// is right: the sign of the filler means nothing. The rest is plain. The loss is on what stands behind the sign, so the
/// model learns neither to make the mistakes nor to write the signs by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Reflection {
    /// Fewest and most operations of a problem.
    pub steps: [usize; 2],
    /// Share of rows with a trigger.
    pub triggers: f64,
    /// Share of those whose begun attempts are right so far.
    pub right: f64,
    /// Most begun attempts of a row.
    pub most_attempts: usize,
    /// Share of rows with a filler.
    pub fillers: f64,
    /// Validation problems for the card.
    pub validation: usize,
    /// The training.
    pub train: TrainSettings,
}

impl Default for Reflection {
    fn default() -> Self {
        Reflection {
            steps: [4, 8],
            triggers: 0.3,
            right: 0.25,
            most_attempts: 3,
            fillers: 0.1,
            validation: 200,
            train: TrainSettings {
                steps: 600,
                batch: 32,
                learning_rate: 1e-3,
                warmup_steps: 20,
                decay: Decay::Cosine,
                floor: 0.05,
                ..TrainSettings::default()
            },
        }
    }
}

/// The arithmetic that this checkpoint is trained and asked on.
pub(crate) fn chains(steps: [usize; 2]) -> Result<Arithmetic, LearnError> {
    Ok(Arithmetic::new(ArithmeticSettings { steps: Steps::Between(steps), ..Default::default() })?)
}

/// The signs of the compact voice.
#[derive(Debug, Clone, PartialEq)]
struct Signs {
    trigger: String,
    filler: String,
}

impl Signs {
    fn read() -> Result<Self, LearnError> {
        let problem = Problem::new("", "", "");
        let read = |name: &str| {
            let found = Prompts::embedded()
                .and_then(|prompts| prompts.insert(Voice::Compact, name, &PromptSlots::new(&problem)));
            found.map_err(|error| LearnError::Data {
                what: format!("the sign `{name}` cannot be read: {error}"),
                hint: "mend the template under `prompts/compact`".into(),
            })
        };
        Ok(Signs { trigger: read("reflect")?, filler: read("filler")? })
    }
}

/// Prompt and target of a row.
#[derive(Debug, PartialEq)]
struct Trace {
    prompt: String,
    target: String,
}

impl Reflection {
    /// The row of a seed. Errors when the task gives no problem or no reference.
    fn trace(&self, task: &Arithmetic, signs: &Signs, seed: u64) -> Result<Trace, LearnError> {
        let nothing = |what: &str| LearnError::Data {
            what: what.into(),
            hint: "set `steps` to a range that has problems".into(),
        };
        let problem = task.problems(Split::Train, 1, seed)?.into_iter().next();
        let problem = problem.ok_or_else(|| nothing("the arithmetic task gave no problem"))?;
        let reference =
            task.reference(&problem).ok_or_else(|| nothing("an arithmetic problem has no reference"))?;
        let mut random = ChaCha8Rng::seed_from_u64(mix(seed, 1));
        let mut prompt = Skill::Solve.prompt(&problem, &[]);
        let kind = random.random_range(0.0..1.0);
        if kind < self.triggers {
            let exercise = Exercise::from_problem(&problem)?;
            let attempts = random.random_range(1..=self.most_attempts.max(1));
            for _ in 0..attempts {
                prompt.push_str(&self.begun(&exercise, &reference, &mut random));
                prompt.push_str(&signs.trigger);
            }
            return Ok(Trace { prompt, target: reference });
        }
        if kind < self.triggers + self.fillers {
            let begun = cut(&reference, 1, &mut random);
            if !begun.is_empty() {
                prompt.push_str(begun);
                prompt.push_str(&signs.filler);
                return Ok(Trace { target: reference[begun.len()..].to_string(), prompt });
            }
        }
        Ok(Trace { prompt, target: reference })
    }

    /// An attempt that was broken off: right so far, or behind a wrong step.
    fn begun(&self, exercise: &Exercise, reference: &str, random: &mut ChaCha8Rng) -> String {
        if !random.random_bool(self.right)
            && let Some(slip) = corrupt::corrupt(exercise, random)
        {
            let text = slip.compact(exercise);
            let wrong: usize =
                slip.steps.iter().take(slip.place + 1).map(|step| step.compact().len() + 1).sum();
            // A chain that stops early is wrong by its answer.
            let from = if slip.place >= slip.steps.len() { text.len() } else { wrong.min(text.len()) };
            return cut(&text, from, random).to_string();
        }
        cut(reference, 1, random).to_string()
    }
}

/// The beginning of a text, cut at a random place from `from` on, as a strategy cuts: not within a number.
fn cut<'t>(text: &'t str, from: usize, random: &mut ChaCha8Rng) -> &'t str {
    let at = random.random_range(from.min(text.len())..=text.len());
    if at == text.len() {
        return text;
    }
    let kept = boundary(&text[..at]);
    // What holds the mistake stays whole.
    if kept < from { &text[..from.min(text.len())] } else { &text[..kept] }
}

fn row(encoder: &dyn Encode, trace: &Trace) -> Result<TrainingRow, LearnError> {
    text_row(encoder, &trace.prompt, &trace.target)
}

impl LabModel for Reflection {
    fn name(&self) -> &'static str {
        "reflection"
    }

    fn summary(&self) -> &'static str {
        "the base model, trained to begin a chain anew behind a sign, mostly after a mistake"
    }

    fn plan(&self) -> Plan {
        Plan {
            version: 1,
            start: Start::Base { words: Vec::new() },
            heads: Vec::new(),
            objective: "sft".into(),
            objective_settings: serde_json::Value::Null,
            train: self.train.clone(),
            rows: json!({
                "steps": self.steps, "triggers": self.triggers, "right": self.right,
                "most_attempts": self.most_attempts, "fillers": self.fillers, "validation": self.validation,
            }),
        }
    }

    fn source(
        &self,
        policy: &mut NativePolicy,
        seed: u64,
        _: &Session<'_>,
    ) -> Result<Box<dyn BatchSource>, LearnError> {
        let (model, task, signs) = (self.clone(), chains(self.steps)?, Signs::read()?);
        let encoder = policy.encoder();
        Ok(Box::new(Generated::new(self.train.batch, seed, move |seed| {
            row(encoder.as_ref(), &model.trace(&task, &signs, seed)?)
        })))
    }

    /// Wrong samples that a trigger at their end makes right.
    fn validate(
        &self,
        policy: &mut NativePolicy,
        seed: u64,
        session: &Session<'_>,
    ) -> Result<Figure, LearnError> {
        let (task, signs) = (chains(self.steps)?, Signs::read()?);
        let problems = task.problems(Split::Validation, self.validation, mix(seed, 1))?;
        let settings = RolloutSettings {
            samples: 1,
            temperature: 1.0,
            max_new_tokens: 200,
            seed: mix(seed, 2),
            distributions: false,
        };
        let judged = judged_rollouts(policy, &task, &problems, &settings, "validation", session)?;
        let wrong: Vec<(&Problem, String)> = problems
            .iter()
            .zip(judged.iter().flatten())
            .filter(|(_, sample)| sample.rollout.finished && !sample.verdict.is_correct())
            .map(|(problem, sample)| {
                let begun = format!("{}{}", sample.rollout.text, signs.trigger);
                (problem, Skill::Solve.prompt(problem, &[]) + &begun)
            })
            .collect();
        let requests: Vec<RolloutRequest> = wrong
            .iter()
            .enumerate()
            .map(|(i, (_, prompt))| RolloutRequest {
                prompt: prompt.clone(),
                samples: 1,
                seed: mix(settings.seed, i as u64),
                temperature: 1.0,
                max_new_tokens: 200,
                distributions: false,
            })
            .collect();
        let mut right = 0usize;
        for ((problem, _), rollouts) in wrong.iter().zip(policy.sample(&requests)?) {
            let again = judge(&task, problem, rollouts)?;
            right += again.iter().filter(|sample| sample.verdict.is_correct()).count();
        }
        let value = right as f64 / wrong.len().max(1) as f64;
        Ok(Figure { name: "wrong samples made right behind a trigger".into(), value, problems: wrong.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_plain_broken_off_or_interrupted_by_nothing() {
        let (model, signs) = (Reflection::default(), Signs::read().unwrap());
        let task = chains(model.steps).unwrap();
        let (mut triggers, mut fillers, mut wrong, mut several, mut whole) = (0, 0, 0, 0, 0);
        let count = 1000;
        for seed in 0..count {
            let trace = model.trace(&task, &signs, seed).unwrap();
            let problem = task.problems(Split::Train, 1, seed).unwrap().remove(0);
            let begun = trace.prompt.strip_prefix(&Skill::Solve.prompt(&problem, &[])).unwrap();
            let reference = task.reference(&problem).unwrap();
            if begun.contains(&signs.trigger) {
                triggers += 1;
                assert_eq!(trace.target, reference, "a clean restart");
                let attempts: Vec<&str> = begun.split_terminator(&signs.trigger).collect();
                several += usize::from(attempts.len() > 1);
                wrong += usize::from(attempts.iter().any(|attempt| !reference.starts_with(attempt)));
                whole += usize::from(attempts.iter().any(|attempt| attempt.contains('#')));
            } else if let Some(begun) = begun.strip_suffix(&signs.filler) {
                fillers += 1;
                assert_eq!(format!("{begun}{}", trace.target), reference, "the filler interrupts nothing");
            } else {
                assert_eq!((begun, trace.target.as_str()), ("", reference.as_str()));
            }
        }
        let share = |n: usize| n as f64 / count as f64;
        assert!((share(triggers) - model.triggers).abs() < 0.06, "{triggers}");
        assert!((share(fillers) - model.fillers).abs() < 0.04, "{fillers}");
        let part = wrong as f64 / triggers as f64;
        assert!(part > 0.7 && part < 0.98, "most triggers come after a mistake, not all: {part}");
        assert!(several > triggers / 2 && whole > 0 && whole < triggers, "{several} {whole}");
    }

    #[test]
    fn it_is_made_and_validated() {
        let folder = tempfile::tempdir().unwrap();
        let session = Session {
            run: None,
            observer: &elenchus_learn::Quiet,
            stop: elenchus_learn::StopFlag::default(),
        };
        let train = TrainSettings { steps: 2, batch: 4, ..Reflection::default().train };
        let small = Reflection { validation: 12, train, ..Reflection::default() };
        let lab = crate::lab::Lab::new(Some(folder.path()));
        let built = lab.obtain(&small, 1, &session).unwrap();
        assert!(built.made && built.card.steps == 2);
        let figure = &built.card.figure;
        assert!((0.0..=1.0).contains(&figure.value), "{figure:?}");
        assert!(figure.problems <= 12, "only the wrong ones are tried again: {figure:?}");
    }

    #[test]
    fn a_cut_keeps_the_mistake_and_no_half_number() {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let text = "g=50;e=50-1=48;d=48+81=129#129";
        for _ in 0..300 {
            let kept = cut(text, 15, &mut random);
            assert!(text.starts_with(kept) && kept.len() >= 15, "{kept}");
            let next = text[kept.len()..].chars().next();
            let number = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
            assert!(!(number(kept.chars().next_back()) && number(next)), "{kept}");
        }
    }
}
