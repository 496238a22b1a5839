//! `evidence-reader`: reads streams of evidence in both views, answers at once or by a chain, and checks a chain again with
//! key segments at full resolution.

use super::{Figure, LabModel, Plan, Start};
use elenchus_learn::objective::TrainingRow;
use elenchus_learn::policy::{Encode, MatrixUpdate, Policy, text_row};
use elenchus_learn::rollouts::{RolloutSettings, judged_rollouts, mix};
use elenchus_learn::trainer::{BatchSource, Decay, TrainSettings};
use elenchus_learn::{LearnError, NativePolicy, Session};
use elenchus_task::evidence::{self, EvidenceSettings, Query, Stream};
use elenchus_task::{Skill, Split, Task};
use elenchus_trace::Problem;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Shares of the kinds of rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Kinds {
    /// All facts in another order: every token behind a key has to be looked up by that key.
    pub recall: f64,
    /// The options in another order, each as the end of a chain (`7#B`): the letter is looked up by the value, past the
    /// sign between them. Among chains alone it stays a guess.
    pub letters: f64,
    /// `S{problem}` → chain and letter.
    pub chain: f64,
    /// `D{problem}` → letter.
    pub direct: f64,
    /// `R{problem}{chain}!{key segments}!` → chain and letter.
    pub recheck: f64,
    /// `A{problem}{chain}!` → chain and letter: a second look without new evidence.
    pub again: f64,
}

impl Kinds {
    fn draw(&self, random: &mut ChaCha8Rng) -> usize {
        let shares = [self.recall, self.chain, self.direct, self.recheck, self.again, self.letters];
        let mut at = random.random::<f64>() * shares.iter().sum::<f64>();
        for (kind, share) in shares.iter().enumerate() {
            at -= share;
            if at < 0.0 {
                return kind;
            }
        }
        1
    }
}

/// Some steps with streams of a length and a mixture of their own: keys are learned on short streams first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// Optimiser steps.
    pub steps: usize,
    /// Rows of a batch.
    pub batch: usize,
    /// Fewest and most segments.
    pub segments: [usize; 2],
    /// Share of rows whose stream is readable whole; in the others tokens are blanked as in the first view.
    pub clear: f64,
    /// Their mixture.
    pub kinds: Kinds,
}

/// The model of the experiment on evidence streams (arXiv 2506.07971, sheet 47): the base model, which looks names up,
/// taught to look facts up by three signs at once and letters by values, then both in a chain. It reads low-resolution
/// streams and, behind a chain, segments at full resolution. Its chains of unreadable facts are guesses, as they are in
/// the paper: the target is the true chain, whatever the first view shows.
#[derive(Debug, Clone, PartialEq)]
pub struct EvidenceReader {
    /// The curriculum.
    pub stages: Vec<Stage>,
    /// Validation problems for the card.
    pub validation: usize,
    /// The training; its steps are those of all stages.
    pub train: TrainSettings,
}

impl Default for EvidenceReader {
    fn default() -> Self {
        let nothing = Kinds { recall: 0.0, letters: 0.0, chain: 0.0, direct: 0.0, recheck: 0.0, again: 0.0 };
        let stage = |steps, batch, segments, clear, kinds| Stage { steps, batch, segments, clear, kinds };
        let stages = vec![
            stage(600, 24, [4, 8], 1.0, Kinds { recall: 0.5, letters: 0.5, ..nothing }),
            stage(600, 16, [4, 12], 1.0, Kinds { recall: 0.15, letters: 0.25, chain: 0.6, ..nothing }),
            stage(
                600,
                16,
                [12, 24],
                0.6,
                Kinds { recall: 0.05, letters: 0.05, chain: 0.5, direct: 0.2, recheck: 0.2, again: 0.0 },
            ),
            stage(
                800,
                16,
                [26, 36],
                0.3,
                Kinds { chain: 0.35, direct: 0.25, recheck: 0.33, again: 0.07, ..nothing },
            ),
        ];
        let steps = stages.iter().map(|stage| stage.steps).sum();
        EvidenceReader {
            stages,
            validation: 300,
            train: TrainSettings {
                steps,
                batch: 16,
                learning_rate: 1e-3,
                warmup_steps: 100,
                decay: Decay::Cosine,
                hold: 0.4,
                floor: 0.03,
                matrices: MatrixUpdate::Muon,
                weight_decay: 0.05,
                ..TrainSettings::default()
            },
        }
    }
}

/// Weight of a looked-up or computed digit and of the letter; keys are copied from the question.
const FOUND_WEIGHT: f32 = 4.0;
/// Weight of the letter of a direct answer: it is the only token of its row.
const DIRECT_WEIGHT: f32 = 12.0;

/// A row whose digits and option letters weigh more.
fn row(encoder: &dyn Encode, prompt: &str, target: &str, found: f32) -> Result<TrainingRow, LearnError> {
    let row = text_row(encoder, prompt, target)?;
    // One token per sign, and the end of the text.
    let signs = target
        .chars()
        .map(|sign| if sign.is_ascii_digit() || ('A'..='D').contains(&sign) { found } else { 1.0 });
    let weights: Vec<f32> = signs.chain([1.0]).collect();
    let weights = if weights.len() == row.targets() { weights } else { vec![1.0; row.targets()] };
    Ok(TrainingRow { weights, ..row })
}

/// A problem of this stage.
fn problem(stage: &Stage, random: &mut ChaCha8Rng, seed: u64) -> Result<(Query, Problem), LearnError> {
    let [fewest, most] = stage.segments;
    let settings = EvidenceSettings {
        segments: random.random_range(fewest..=most.max(fewest)),
        needed: [1, if most < 6 { 2 } else { 3 }],
        ..EvidenceSettings::default()
    };
    let task = evidence::Evidence::open(settings)?;
    let problem =
        task.problems(Split::Train, 1, seed)?.into_iter().next().ok_or_else(|| LearnError::Data {
            what: "the evidence task gave no problem".into(),
            hint: "look at its settings".into(),
        })?;
    let query = Query::of(&problem)?;
    if random.random_bool(stage.clear) {
        let query = query.at_full_resolution();
        let problem = query.problem()?;
        return Ok((query, problem));
    }
    Ok((query, problem))
}

/// Key segments for a row: each needed one with probability 0.7, others up to five in all; at least one.
fn key_segments(query: &Query, random: &mut ChaCha8Rng) -> Vec<usize> {
    let mut chosen: Vec<usize> = query.needed.iter().copied().filter(|_| random.random_bool(0.7)).collect();
    let mut others: Vec<usize> = (0..query.facts.len()).filter(|at| !query.needed.contains(at)).collect();
    others.shuffle(random);
    let wanted = random.random_range(chosen.len().max(1)..=5);
    chosen.extend(others.into_iter().take(wanted - chosen.len()));
    chosen.sort_unstable();
    chosen
}

/// `L:3Q7B…?` → `7#B;3#Q;…`: letters by value, past the sign that stands between them at the end of a chain. More pairs
/// than a question has options, so that a row is rich in look-ups.
fn letters(encoder: &dyn Encode, random: &mut ChaCha8Rng) -> Result<TrainingRow, LearnError> {
    let mut values: Vec<char> = ('0'..='9').collect();
    let mut names: Vec<char> = ('A'..='Z').collect();
    values.shuffle(random);
    names.shuffle(random);
    let count = random.random_range(4..=10);
    let mut pairs: Vec<(char, char)> = values.into_iter().zip(names).take(count).collect();
    let shown: String = pairs.iter().flat_map(|(value, name)| [*value, *name]).collect();
    pairs.shuffle(random);
    let said: Vec<String> = pairs.iter().map(|(value, name)| format!("{value}#{name}")).collect();
    let row = text_row(encoder, &format!("L:{shown}?"), &said.join(";"))?;
    // One token per sign: every fourth is a letter that was looked up.
    let weights = (0..row.targets()).map(|at| if at % 4 == 2 { FOUND_WEIGHT } else { 1.0 }).collect();
    Ok(TrainingRow { weights, ..row })
}

fn training_row(stage: &Stage, encoder: &dyn Encode, seed: u64) -> Result<TrainingRow, LearnError> {
    let random = &mut ChaCha8Rng::seed_from_u64(seed);
    let (query, problem) = problem(stage, random, mix(seed, 1))?;
    let gold = problem.gold.clone().unwrap_or_default();
    let chain = format!("{}#{gold}", query.chain().concat());
    let first = |random: &mut ChaCha8Rng| query.chain_of_first_view(|| random.random_range(0..10));
    match stage.kinds.draw(random) {
        0 => {
            let mut facts: Vec<String> = query.facts.iter().map(|fact| fact.compact([false; 4])).collect();
            let prompt = format!("L;{}?", facts.join(";"));
            facts.shuffle(random);
            row(encoder, &prompt, &facts.join(";"), FOUND_WEIGHT)
        }
        2 => row(encoder, &Skill::Direct.prompt(&problem, &[]), &format!("#{gold}"), DIRECT_WEIGHT),
        3 => {
            let (said, stream) = (first(random), Stream::of(&problem)?);
            let shown = stream.compact(&key_segments(&query, random));
            row(encoder, &Skill::Refine.prompt(&problem, &[&said, &shown]), &chain, FOUND_WEIGHT)
        }
        4 => {
            let said = first(random);
            row(encoder, &Skill::Again.prompt(&problem, &[&said]), &chain, FOUND_WEIGHT)
        }
        5 => letters(encoder, random),
        _ => row(encoder, &Skill::Solve.prompt(&problem, &[]), &chain, FOUND_WEIGHT),
    }
}

/// Rows of the stage that a step lies in; kind and content follow from seed and step.
struct Staged {
    stages: Vec<Stage>,
    encoder: Box<dyn Encode>,
    seed: u64,
}

impl BatchSource for Staged {
    fn batch(&mut self, step: usize) -> Result<Vec<Vec<TrainingRow>>, LearnError> {
        let mut end = 0;
        let inside = |stage: &&Stage| {
            end += stage.steps;
            step < end
        };
        let stage = self.stages.iter().find(inside).or(self.stages.last());
        let Some(stage) = stage else { return Ok(Vec::new()) };
        let seed = mix(self.seed, step as u64);
        (0..stage.batch)
            .map(|place| Ok(vec![training_row(stage, self.encoder.as_ref(), mix(seed, place as u64))?]))
            .collect()
    }
}

impl LabModel for EvidenceReader {
    fn name(&self) -> &'static str {
        "evidence-reader"
    }

    fn summary(&self) -> &'static str {
        "reads streams of evidence in both views, answers at once or by a chain, and rechecks with key segments"
    }

    fn plan(&self) -> Plan {
        Plan {
            version: 1,
            start: Start::Base { words: Vec::new() },
            heads: Vec::new(),
            objective: "sft".into(),
            objective_settings: serde_json::Value::Null,
            train: self.train.clone(),
            rows: json!({ "stages": self.stages, "validation": self.validation }),
        }
    }

    fn source(
        &self,
        policy: &mut NativePolicy,
        seed: u64,
        _: &Session<'_>,
    ) -> Result<Box<dyn BatchSource>, LearnError> {
        Ok(Box::new(Staged { stages: self.stages.clone(), encoder: policy.encoder(), seed }))
    }

    /// Right answers by one greedy chain in the first view; what is blanked can only be guessed.
    fn validate(
        &self,
        policy: &mut NativePolicy,
        seed: u64,
        session: &Session<'_>,
    ) -> Result<Figure, LearnError> {
        let task = evidence::Evidence::open(EvidenceSettings::default())?;
        let problems = task.problems(Split::Validation, self.validation, mix(seed, 1))?;
        let settings = RolloutSettings {
            samples: 1,
            temperature: 0.0,
            max_new_tokens: 40,
            seed: mix(seed, 2),
            distributions: false,
        };
        let judged = judged_rollouts(policy, &task, &problems, &settings, "validation", session)?;
        let right = judged.iter().flatten().filter(|judged| judged.verdict.is_correct()).count();
        let value = right as f64 / problems.len().max(1) as f64;
        Ok(Figure { name: "right chains in the first view".into(), value, problems: problems.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One token per byte.
    struct Bytes;

    impl Encode for Bytes {
        fn encode(&self, text: &str) -> Result<Vec<u32>, LearnError> {
            Ok(text.bytes().map(u32::from).collect())
        }

        fn end_of_text(&self) -> u32 {
            0
        }
    }

    #[test]
    fn rows_of_every_kind_end_in_the_right_answer() {
        let stages = EvidenceReader::default().stages;
        let mut tags = std::collections::BTreeSet::new();
        for seed in 0..200 {
            for stage in &stages {
                let row = training_row(stage, &Bytes, seed).unwrap();
                let text: String = row.tokens.iter().map(|&token| char::from(token as u8)).collect();
                let (prompt, target) = text.split_at(row.first_target);
                let tag = prompt.chars().next().unwrap();
                tags.insert(tag);
                assert_eq!(row.weights.len(), row.targets());
                let letter = target.trim_end_matches('\0').chars().last().unwrap();
                if tag == 'L' {
                    continue;
                }
                assert!(('A'..='D').contains(&letter), "{text}");
                if tag == 'S' {
                    let result = target.split('#').next().unwrap().chars().last().unwrap();
                    assert!(
                        prompt.contains(&format!("{result}{letter}")),
                        "the option of the result: {text}"
                    );
                }
                if tag == 'R' {
                    assert_eq!(prompt.matches('!').count(), 2, "{prompt}");
                }
            }
        }
        assert_eq!(tags.into_iter().collect::<String>(), "ADLRS");
    }

    #[test]
    fn a_step_has_the_rows_of_its_stage() {
        let stages = EvidenceReader::default().stages;
        let (first, second) = (stages[0].steps, stages[1].steps);
        let mut source = Staged { stages, encoder: Box::new(Bytes), seed: 1 };
        let mut longest = |step| {
            source
                .batch(step)
                .unwrap()
                .iter()
                .flatten()
                .map(|row: &TrainingRow| row.tokens.len())
                .max()
                .unwrap()
        };
        assert!(longest(first - 1) < 100);
        assert!(longest(first + second) > 100);
    }
}
