//! Making the embedded model from nothing: first the skills on gold and corrupted solutions, then again with the
//! model's own samples, so that judge, critique, refine, again and aggregate see the errors that it really makes.

use crate::objective::{Sft, TrainingRow};
use crate::policy::{Encode, MatrixUpdate, Policy, RolloutRequest, text_row};
use crate::rollouts::mix;
use crate::step_reward::StepRewardSettings;
use crate::stretches::{TrainAccount, train_in_stretches};
use crate::trainer::{BatchSource, Blend, Epochs, Generated, TrainSettings};
use crate::{LearnError, Session};
use elenchus_task::arithmetic::skills::{SkillGenerator, SkillMix, SkillRow};
use elenchus_task::arithmetic::{ArithmeticSettings, Form, Preset, Steps, Surface, skills};
use elenchus_task::countdown::{Countdown, CountdownSettings};
use elenchus_task::{Skill, Split, Task, arithmetic::Arithmetic};
use elenchus_trace::Problem;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// Shares of the kinds of rows in a batch; they need not add up to 1. A kind that is left out of a written mixture has
/// none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default = "Mixture::nothing")]
pub struct Mixture {
    /// Chains in the symbol notation.
    pub solve: f64,
    /// Chains in the word notation.
    pub words: f64,
    /// Four-option problems.
    pub choice: f64,
    /// Countdown with a search trace.
    pub countdown: f64,
    /// Answer at once.
    pub direct: f64,
    /// Find the masked number.
    pub backward: f64,
    /// Is this answer right?
    pub judge: f64,
    /// Check step by step.
    pub critique: f64,
    /// Solve again, given a critique.
    pub refine: f64,
    /// Solve again, given an earlier solution.
    pub again: f64,
    /// Solve, given drafts.
    pub aggregate: f64,
    /// Say the statements again in another order: many look-ups by name in one row.
    pub recall: f64,
}

impl Default for Mixture {
    fn default() -> Self {
        Mixture {
            solve: 0.12,
            words: 0.2,
            choice: 0.06,
            countdown: 0.16,
            direct: 0.02,
            backward: 0.14,
            judge: 0.04,
            critique: 0.1,
            refine: 0.03,
            again: 0.03,
            aggregate: 0.03,
            recall: 0.04,
        }
    }
}

/// Some steps with a mixture of their own. Names first: every token of a recall row behind a name has to be looked up
/// by that name, while a row that asks for one value is too thin a signal, and among chains a copy by place is learned
/// instead. Then chains, then all skills.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Optimiser steps.
    pub steps: usize,
    /// Their mixture.
    pub mixture: Mixture,
}

/// The kinds of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Solve,
    Words,
    Choice,
    Countdown,
    Recall,
    Skill(Skill),
}

impl Mixture {
    /// No row of any kind: what a written mixture starts from.
    pub fn nothing() -> Mixture {
        Mixture {
            solve: 0.0,
            words: 0.0,
            choice: 0.0,
            countdown: 0.0,
            direct: 0.0,
            backward: 0.0,
            judge: 0.0,
            critique: 0.0,
            refine: 0.0,
            again: 0.0,
            aggregate: 0.0,
            recall: 0.0,
        }
    }

    fn weights(&self) -> [(Kind, f64); 12] {
        [
            (Kind::Solve, self.solve),
            (Kind::Words, self.words),
            (Kind::Choice, self.choice),
            (Kind::Countdown, self.countdown),
            (Kind::Skill(Skill::Direct), self.direct),
            (Kind::Skill(Skill::Backward), self.backward),
            (Kind::Skill(Skill::Judge), self.judge),
            (Kind::Skill(Skill::Critique), self.critique),
            (Kind::Skill(Skill::Refine), self.refine),
            (Kind::Skill(Skill::Again), self.again),
            (Kind::Skill(Skill::Aggregate), self.aggregate),
            (Kind::Recall, self.recall),
        ]
    }

    fn draw(&self, random: &mut ChaCha8Rng) -> Kind {
        let weights = self.weights();
        let mut at = random.random::<f64>() * weights.iter().map(|w| w.1).sum::<f64>();
        for (kind, weight) in weights {
            at -= weight;
            if at < 0.0 {
                return kind;
            }
        }
        Kind::Solve
    }
}

/// Own samples for the second phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OwnSamples {
    /// Training problems that are sampled.
    pub problems: usize,
    /// Samples per problem.
    pub samples: usize,
    /// Share of rows made of own samples in the second phase; the rest is the first phase's mixture.
    pub share: f64,
}

impl Default for OwnSamples {
    fn default() -> Self {
        OwnSamples { problems: 4000, samples: 4, share: 0.5 }
    }
}

/// Shape of the model to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ModelShape {
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the SwiGLU layer.
    pub intermediate_size: usize,
    /// Blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Longest sequence.
    pub max_positions: usize,
}

impl Default for ModelShape {
    fn default() -> Self {
        ModelShape {
            hidden_size: 128,
            intermediate_size: 384,
            layers: 4,
            heads: 4,
            kv_heads: 4,
            max_positions: 1024,
        }
    }
}

/// How the embedded model is made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PretrainSettings {
    /// Its shape.
    pub model: ModelShape,
    /// First phase: generated rows.
    pub base: TrainSettings,
    /// Its mixture.
    pub mixture: Mixture,
    /// Stages of its first steps with mixtures of their own; the mixture holds for the steps behind them.
    pub curriculum: Vec<Stage>,
    /// Second phase: generated rows and rows of own samples.
    pub skills: TrainSettings,
    /// Its own samples.
    pub own: OwnSamples,
    /// The step reward model that is made beside it.
    pub step_reward: StepRewardSettings,
    /// Optimiser steps between checkpoints of the first phase.
    pub checkpoint_every: usize,
}

impl Default for PretrainSettings {
    fn default() -> Self {
        let train = TrainSettings {
            batch: 16,
            learning_rate: 2e-3,
            warmup_steps: 100,
            hold: 0.2,
            decay: crate::trainer::Decay::Cosine,
            floor: 0.02,
            matrices: MatrixUpdate::Muon,
            weight_decay: 0.05,
            ..Default::default()
        };
        PretrainSettings {
            model: ModelShape::default(),
            base: TrainSettings { steps: 5_600, hold: 0.4, ..train.clone() },
            mixture: Mixture::default(),
            curriculum: vec![
                Stage { steps: 1_200, mixture: Mixture { recall: 1.0, ..Mixture::nothing() } },
                Stage { steps: 1_400, mixture: Mixture { solve: 0.9, recall: 0.1, ..Mixture::nothing() } },
            ],
            // AdamW here: judging own samples was learned better with it than with Muon (AUROC 0.68 against 0.63).
            skills: TrainSettings {
                steps: 1_000,
                batch: 32,
                learning_rate: 1e-3,
                hold: 0.0,
                matrices: MatrixUpdate::AdamW,
                ..train
            },
            own: OwnSamples::default(),
            step_reward: StepRewardSettings::default(),
            checkpoint_every: 1_000,
        }
    }
}

fn settings(form: Form, surface: Surface) -> ArithmeticSettings {
    ArithmeticSettings { form, surface, ..ArithmeticSettings::preset(Preset::Pretraining) }
}

fn generated_row(kind: Kind, seed: u64) -> Result<SkillRow, LearnError> {
    let make = |form, surface, skill| -> Result<SkillRow, LearnError> {
        let settings = settings(form, surface);
        Ok(SkillGenerator::new(&settings, SkillMix::default(), Split::Train, seed)?.next_row(skill)?)
    };
    match kind {
        Kind::Solve => make(Form::Chain, Surface::Symbols, Skill::Solve),
        Kind::Words => make(Form::Chain, Surface::Words, Skill::Solve),
        Kind::Choice => make(Form::Choice, Surface::Symbols, Skill::Solve),
        Kind::Countdown => countdown_row(seed),
        Kind::Recall => Ok(recall_row(seed)),
        Kind::Skill(Skill::Direct) => make(Form::Direct, Surface::Symbols, Skill::Direct),
        Kind::Skill(skill) => make(Form::Chain, Surface::Symbols, skill),
    }
}

/// Replies of fewer tokens than this weigh more.
const FULL_LENGTH: f32 = 40.0;
/// Most weight of a token outside verdicts.
const MOST_WEIGHT: f32 = 12.0;
/// Weight of the verdict of a critique that names the fault.
const FAULT_WEIGHT: f32 = 24.0;

/// A row whose tokens weigh `clamp(40 / targets, 1, 12)`, and 40 where the label of a judgement stands: in a loss per
/// token one `Y` would drown among chains. The `N` of a critique weighs 24: right steps are
/// many times as frequent, and with the weight of the others the critic learns to say `Y` alone.
fn weighted_row(encoder: &dyn Encode, row: &SkillRow) -> Result<TrainingRow, LearnError> {
    let judgement = row.skill == Skill::Judge;
    // Verdicts stand before anything else in a reply, each one token.
    let label = match row.skill {
        Skill::Judge => Some((0, FULL_LENGTH)),
        Skill::Critique => row.target.find('N').map(|index| (index, FAULT_WEIGHT)),
        _ => None,
    };
    let row = text_row(encoder, &row.prompt, &row.target)?;
    let weight = (FULL_LENGTH / row.targets().max(1) as f32).clamp(1.0, MOST_WEIGHT);
    let mut weights = vec![if judgement { 1.0 } else { weight }; row.targets()];
    if let Some((index, heavier)) = label
        && let Some(weight) = weights.get_mut(index)
    {
        *weight = heavier;
    }
    Ok(TrainingRow { weights, ..row })
}

/// Tag of recall rows. It is no skill: nothing asks for it but this training.
const RECALL: char = 'L';

/// Statements such as `g=50` and `e=g-1`, to be said again in another order. Each refers to any earlier one, so that no
/// place tells what a name means.
fn recall_row(seed: u64) -> SkillRow {
    let random = &mut ChaCha8Rng::seed_from_u64(seed);
    let mut letters: Vec<char> = ('a'..='l').collect();
    letters.shuffle(random);
    letters.truncate(random.random_range(4..=9));
    let mut statements: Vec<String> = letters
        .iter()
        .enumerate()
        .map(|(index, name)| {
            let number = random.random_range(1..=99);
            if index == 0 || random.random_bool(0.3) {
                return format!("{name}={number}");
            }
            let earlier = letters[random.random_range(0..index)];
            let operator = ['+', '-', '*'][random.random_range(0..3)];
            format!("{name}={earlier}{operator}{number}")
        })
        .collect();
    let prompt = format!("{RECALL}{}?", statements.join(";"));
    statements.shuffle(random);
    SkillRow { skill: Skill::Solve, prompt, target: statements.join(";") }
}

fn countdown_row(seed: u64) -> Result<SkillRow, LearnError> {
    let task = Countdown::new(CountdownSettings::default())?;
    let made = task.problems(Split::Train, 1, seed)?.into_iter().next().and_then(|problem| {
        let target = task.reference(&problem)?;
        Some(SkillRow { skill: Skill::Solve, prompt: Skill::Solve.prompt(&problem, &[]), target })
    });
    made.ok_or_else(|| LearnError::Data {
        what: "the countdown task gave no problem".into(),
        hint: "set `mixture.countdown = 0`".into(),
    })
}

/// Rows of the mixture: kind and content follow from the seed.
fn mixed<'a>(
    mixture: &'a Mixture,
    batch: usize,
    seed: u64,
    row: impl Fn(&SkillRow) -> Result<TrainingRow, LearnError> + 'a,
) -> Generated<impl FnMut(u64) -> Result<TrainingRow, LearnError> + 'a> {
    Generated::new(batch, seed, move |seed| {
        let kind = mixture.draw(&mut ChaCha8Rng::seed_from_u64(seed));
        row(&generated_row(kind, mix(seed, 1))?)
    })
}

/// The rows of the first phase: the stages of the curriculum one after another, then the mixture.
pub struct BaseRows {
    curriculum: Vec<Stage>,
    mixture: Mixture,
    batch: usize,
    encoder: Box<dyn Encode>,
    seed: u64,
}

impl BaseRows {
    /// The rows that these settings ask for, determined by the seed.
    pub fn new(settings: &PretrainSettings, encoder: Box<dyn Encode>, seed: u64) -> Self {
        let (curriculum, mixture) = (settings.curriculum.clone(), settings.mixture.clone());
        BaseRows { curriculum, mixture, batch: settings.base.batch, encoder, seed }
    }

    fn mixture(&self, step: usize) -> &Mixture {
        let mut end = 0;
        let stage = self.curriculum.iter().find(|stage| {
            end += stage.steps;
            step < end
        });
        stage.map_or(&self.mixture, |stage| &stage.mixture)
    }
}

impl BatchSource for BaseRows {
    fn batch(&mut self, step: usize) -> Result<Vec<Vec<TrainingRow>>, LearnError> {
        let row = |row: &SkillRow| text_row(self.encoder.as_ref(), &row.prompt, &row.target);
        mixed(self.mixture(step), self.batch, self.seed, row).batch(step)
    }
}

/// What both phases of a pretraining read and how long they took.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PretrainAccount {
    /// First phase: generated rows.
    pub base: TrainAccount,
    /// Second phase: half of the rows made of the model's own samples.
    pub skills: TrainAccount,
}

/// Trains `policy` (fresh weights) through both phases. Interrupted runs go on from the last checkpoint.
pub fn pretrain(
    policy: &mut dyn Policy,
    settings: &PretrainSettings,
    seed: u64,
    session: &Session<'_>,
) -> Result<PretrainAccount, LearnError> {
    let base = base_phase(policy, settings, seed, session)?;
    let rows = own_rows(policy, &settings.own, mix(seed, 2), session)?;
    let skills = skills_phase(policy, settings, &rows, mix(seed, 3), session)?;
    Ok(PretrainAccount { base, skills })
}

fn base_phase(
    policy: &mut dyn Policy,
    settings: &PretrainSettings,
    seed: u64,
    session: &Session<'_>,
) -> Result<TrainAccount, LearnError> {
    session.observer.phase(0, "first phase", settings.base.steps);
    let mut source = BaseRows::new(settings, policy.encoder(), mix(seed, 1));
    let every = settings.checkpoint_every;
    train_in_stretches(policy, &Sft::default(), &settings.base, &mut source, every, "base", session)
}

/// Supervised rows for the skills that look at solutions, from the policy's own samples on training problems. Labels
/// come from the exact verifier.
pub fn own_rows(
    policy: &mut dyn Policy,
    own: &OwnSamples,
    seed: u64,
    session: &Session<'_>,
) -> Result<Vec<Vec<TrainingRow>>, LearnError> {
    let steps = Steps::Between([2, 8]);
    let task = Arithmetic::new(ArithmeticSettings { steps, ..ArithmeticSettings::preset(Preset::Mixed) })?;
    let problems = task.problems(Split::Train, own.problems, mix(seed, 1))?;
    session.observer.phase(0, "own samples", problems.len());
    let mut rows = Vec::new();
    for (unit, chunk) in problems.chunks(128).enumerate() {
        let (texts, replayed) = session.once(&format!("own/{unit}"), || {
            let requests: Vec<RolloutRequest> = chunk
                .iter()
                .enumerate()
                .map(|(i, problem)| RolloutRequest {
                    prompt: Skill::Solve.prompt(problem, &[]),
                    samples: own.samples,
                    seed: mix(seed, 2 + (unit * 128 + i) as u64),
                    temperature: 1.0,
                    max_new_tokens: 160,
                    distributions: false,
                })
                .collect();
            let rollouts = policy.sample(&requests)?;
            Ok(rollouts
                .into_iter()
                .map(|samples| samples.into_iter().filter(|s| s.finished).map(|s| s.text).collect())
                .collect::<Vec<Vec<String>>>())
        })?;
        session.observer.advance(chunk.len(), texts.iter().flatten().map(String::len).sum(), replayed);
        for (problem, samples) in chunk.iter().zip(&texts) {
            for row in rows_of_problem(problem, samples)? {
                rows.push(vec![weighted_row(policy, &row)?]);
            }
        }
    }
    Ok(rows)
}

/// Rows of one problem: every sample is judged, one right and one wrong sample criticised where both exist, a wrong one
/// refined; an again row is made of any.
fn rows_of_problem(problem: &Problem, samples: &[String]) -> Result<Vec<SkillRow>, LearnError> {
    let mut rows = Vec::new();
    let examined = samples
        .iter()
        .map(|text| Ok((text, Arithmetic::examine(problem, text)?)))
        .collect::<Result<Vec<_>, LearnError>>()?;
    let right = examined.iter().find(|(_, e)| e.outcome == elenchus_trace::Outcome::Correct);
    let wrong = examined.iter().find(|(_, e)| e.outcome == elenchus_trace::Outcome::Wrong);
    for (text, _) in &examined {
        rows.push(skills::judge_row(problem, text)?);
    }
    for (text, _) in right.into_iter().chain(wrong) {
        // A response without steps has no critique to learn.
        rows.extend(skills::critique_row(problem, text));
    }
    if let Some((text, _)) = wrong
        && let Ok(critique) = skills::true_critique(problem, text)
    {
        rows.push(skills::refine_row(problem, text, &critique.compact())?);
    }
    if let Some(first) = samples.first() {
        rows.push(skills::again_row(problem, first)?);
    }
    if samples.len() >= 3 {
        let drafts: Vec<&str> = samples.iter().take(3).map(String::as_str).collect();
        rows.push(skills::aggregate_row(problem, &drafts)?);
    }
    Ok(rows)
}

fn skills_phase(
    policy: &mut dyn Policy,
    settings: &PretrainSettings,
    rows: &[Vec<TrainingRow>],
    seed: u64,
    session: &Session<'_>,
) -> Result<TrainAccount, LearnError> {
    session.observer.phase(0, "second phase", settings.skills.steps);
    let own_batch = (settings.own.share * settings.skills.batch as f64).round() as usize;
    let encoder = policy.encoder();
    let generated = settings.skills.batch - own_batch.min(settings.skills.batch);
    let mut source = Blend(
        Epochs::new(rows, own_batch, mix(seed, 2))?,
        mixed(&settings.mixture, generated, mix(seed, 1), |row| weighted_row(encoder.as_ref(), row)),
    );
    policy.reset_optimiser();
    let every = settings.checkpoint_every;
    train_in_stretches(policy, &Sft::default(), &settings.skills, &mut source, every, "skills", session)
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

    fn weights(skill: Skill, target: &str) -> Vec<f32> {
        let row = SkillRow { skill, prompt: "P".into(), target: target.into() };
        weighted_row(&Bytes, &row).unwrap().weights
    }

    #[test]
    fn short_replies_weigh_more_and_a_judgements_label_most() {
        assert_eq!(weights(Skill::Judge, "Y"), [40.0, 1.0], "the label, then the end of the text");
        assert_eq!(weights(Skill::Direct, "#49"), [10.0; 4], "40 / 4");
        assert_eq!(weights(Skill::Critique, "Y"), [12.0; 2], "no more than 12");
        assert_eq!(weights(Skill::Critique, "YN#7"), [8.0, 24.0, 8.0, 8.0, 8.0], "a fault found");
        assert_eq!(weights(Skill::Solve, &"a".repeat(59)), [1.0; 60], "no less than 1");
    }

    #[test]
    fn a_recall_row_says_the_same_statements_in_another_order() {
        let mut moved = 0;
        for seed in 0..200 {
            let row = recall_row(seed);
            let shown = row.prompt.strip_prefix(RECALL).and_then(|p| p.strip_suffix('?')).unwrap();
            let mut said: Vec<&str> = row.target.split(';').collect();
            let mut shown: Vec<&str> = shown.split(';').collect();
            moved += usize::from(said != shown);
            said.sort_unstable();
            shown.sort_unstable();
            assert_eq!(said, shown);
            let names: std::collections::HashSet<char> =
                said.iter().filter_map(|s| s.chars().next()).collect();
            assert_eq!(names.len(), said.len(), "a name means one thing");
        }
        assert!(moved > 180, "the order is another one");
    }

    #[test]
    fn a_stage_of_the_curriculum_has_its_own_mixture() {
        let recall = Mixture { recall: 1.0, ..Mixture::nothing() };
        let solve = Mixture { solve: 1.0, ..Mixture::nothing() };
        let settings = PretrainSettings {
            base: TrainSettings { batch: 4, ..Default::default() },
            curriculum: vec![Stage { steps: 2, mixture: recall }],
            mixture: solve,
            ..PretrainSettings::default()
        };
        let mut source = BaseRows::new(&settings, Box::new(Bytes), 1);
        for step in 0..4 {
            let batch = source.batch(step).unwrap();
            let tags: Vec<u32> = batch.iter().flatten().map(|row| row.tokens[0]).collect();
            assert_eq!(tags, [u32::from(if step < 2 { RECALL } else { 'S' }); 4], "step {step}");
        }
    }

    #[test]
    fn every_sample_is_judged_with_the_verifiers_label() {
        let task = Arithmetic::new(ArithmeticSettings::preset(Preset::Default)).unwrap();
        let problem = task.problems(Split::Train, 1, 1).unwrap().remove(0);
        let gold = task.reference(&problem).unwrap();
        let samples = [gold.clone(), "a=1#1000".to_string(), gold];
        let rows = rows_of_problem(&problem, &samples).unwrap();
        let labels: Vec<&str> =
            rows.iter().filter(|r| r.skill == Skill::Judge).map(|r| r.target.as_str()).collect();
        assert_eq!(labels, ["Y", "N", "Y"]);
        for skill in [Skill::Critique, Skill::Refine, Skill::Again, Skill::Aggregate] {
            assert!(rows.iter().any(|r| r.skill == skill), "{skill} is taught too");
        }
    }
}
