//! Spending K·T candidates: rounds, what they see, and how they are scored.

use crate::RecipeError;
use crate::reproduce::Reproduce;
use crate::reproduce::pool::{Arm, Asked, Drawing, Pool, Sample, Spent, credit, draw};
use crate::revising::{Lesson, Substrate, contrast_prompt};
use elenchus_control::{Standing, Takeover};
use elenchus_learn::policy::Policy;
use elenchus_learn::rollouts::mix;
use elenchus_task::Skill;
use elenchus_trace::Problem;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What later rounds see.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Seen {
    BestAndWorst,
    Best,
    Nothing,
    /// Best and worst of another problem.
    Foreign,
}

/// How candidates are scored at run time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Verifier {
    pub noise: f64,
    pub threshold: Option<f64>,
}

pub(super) const EXACT: Verifier = Verifier { noise: 0.0, threshold: None };

impl Verifier {
    /// The score that the method sees. The noise of a candidate depends on its problem, place and seed alone, so that
    /// all arms have the same luck.
    pub fn score(self, value: f64, seed: u64, problem: usize, place: usize) -> f64 {
        let mut score = value;
        if self.noise > 0.0 {
            let mut random = ChaCha8Rng::seed_from_u64(mix(mix(seed, problem as u64), place as u64));
            let (a, b): (f64, f64) = (random.random(), random.random());
            // Box and Muller.
            score += self.noise * (-2.0 * (1.0 - a).ln()).sqrt() * (std::f64::consts::TAU * b).cos();
        }
        match self.threshold {
            Some(threshold) => f64::from(u8::from(score >= threshold)),
            None => score,
        }
    }
}

/// One way of spending K·T candidates.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub per_round: usize,
    pub rounds: usize,
    pub seen: Seen,
    pub takeover: Takeover,
    pub verifier: Verifier,
    /// Of the first round.
    pub temperature: f32,
    /// Of the later ones.
    pub later_temperature: f32,
}

/// What a plan came to, per problem.
#[derive(Default)]
pub(super) struct Played {
    /// The true value of what was selected, and what was spent.
    pub arm: Arm,
    /// Whether it is a solution.
    pub solved: Vec<f64>,
    /// The verifier's score of the incumbent after each candidate, 0 before there is one.
    pub curves: Vec<Vec<f64>>,
    /// The verifier's score of what was selected.
    pub recorded: Vec<f64>,
}

impl Played {
    /// What another model came to, behind.
    pub fn extend(&mut self, other: Played) {
        self.arm.right.extend(other.arm.right);
        self.arm.spent.extend(other.arm.spent);
        self.solved.extend(other.solved);
        self.recorded.extend(other.recorded);
        self.curves.extend(other.curves);
    }
}

/// Problems on which plans are played.
pub(super) struct Bench<'a> {
    pub input: &'a Reproduce<'a>,
    pub substrate: &'a Substrate,
    pub problems: &'a [Problem],
    /// What the model has learned to read.
    pub lesson: Lesson,
    pub label: String,
}

impl Bench<'_> {
    /// Plays a plan on all problems. There is no early stop in any arm: each has K·T candidates of every problem.
    pub fn play(&self, policy: &mut dyn Policy, plan: Plan, what: &str) -> Result<Played, RecipeError> {
        let seed = self.input.seed;
        let count = self.problems.len();
        let mut standings = vec![Standing::default(); count];
        let mut drawn: Vec<Vec<Sample>> = vec![Vec::new(); count];
        let mut truths: Vec<Vec<f64>> = vec![Vec::new(); count];
        // As a later prompt shows them.
        let mut shown: Vec<Vec<String>> = vec![Vec::new(); count];
        let mut spent = vec![Spent::default(); count];
        for round in 0..plan.rounds {
            let prompt = |q: usize| -> String {
                let from = if plan.seen == Seen::Foreign { (q + 1) % count } else { q };
                let problem = &self.problems[q];
                let Some((best, _)) =
                    standings[from].best.filter(|_| round > 0 && plan.seen != Seen::Nothing)
                else {
                    return Skill::Solve.prompt(problem, &[]);
                };
                let text = |i: usize| drawn[from][i].text.as_str();
                let worst = standings[from].worst.filter(|(worst, _)| text(*worst) != text(best));
                let worst = worst.filter(|_| plan.seen != Seen::Best);
                let shown = |i: usize| shown[from][i].as_str();
                contrast_prompt(problem, shown(best), worst.map(|(worst, _)| shown(worst)))
            };
            let asked: Vec<Asked<'_>> =
                (0..count).map(|q| Asked::new(&self.problems[q], prompt(q))).collect();
            let drawing = Drawing {
                samples: plan.per_round,
                temperature: if round == 0 { plan.temperature } else { plan.later_temperature },
                max_new_tokens: self.substrate.longest(),
                // The first round is the same in all arms of one shape.
                seed: mix(seed, 300 + round as u64),
            };
            // First rounds are drawn once; later ones belong to their plan.
            let label = match round {
                0 => format!("{}/first of {}", self.label, plan.per_round),
                _ => format!("{}/{what}/{round}", self.label),
            };
            let pools: Vec<Pool> = draw(self.input, policy, self.substrate.task(), &asked, drawing, &label)?;
            for (q, pool) in pools.into_iter().enumerate() {
                spent[q] = spent[q] + pool.spent(plan.per_round);
                let mut scores = Vec::with_capacity(pool.samples.len());
                for sample in &pool.samples {
                    let worth = self.substrate.worth(&self.problems[q], &sample.text)?;
                    let score = plan.verifier.score(worth.seen, mix(seed, 400), q, truths[q].len());
                    scores.push(Some(score));
                    truths[q].push(worth.truth);
                    shown[q].push(self.lesson.shown(&sample.text, score, &worth.fault));
                }
                let eligible: Vec<bool> = pool.samples.iter().map(|s| s.answer.is_some()).collect();
                standings[q].round(&scores, &eligible, plan.takeover);
                drawn[q].extend(pool.samples);
            }
        }
        let mut played = Played::default();
        for q in 0..count {
            let best = standings[q].best;
            played.arm.push(best.map_or(0.0, |(best, _)| truths[q][best]), spent[q]);
            played.solved.push(best.map_or(0.0, |(best, _)| credit(drawn[q][best].correct)));
            played.recorded.push(best.map_or(0.0, |(_, score)| score));
            played.curves.push(curve(&standings[q]));
        }
        Ok(played)
    }
}

/// The incumbent's score after each candidate.
pub(super) fn curve(standing: &Standing) -> Vec<f64> {
    standing.best_so_far.iter().map(|score| score.unwrap_or(0.0)).collect()
}
