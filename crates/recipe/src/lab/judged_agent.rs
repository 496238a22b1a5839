//! `judged-plain`, `judged-reread`, `judged-mixed`: agents that answer again after objections to their solution.

use super::{Figure, LabModel, Plan, Start};
use elenchus_learn::policy::{Policy, RolloutRequest, text_row};
use elenchus_learn::rollouts::mix;
use elenchus_learn::trainer::{BatchSource, Blend, Decay, Generated, TrainSettings};
use elenchus_learn::{LearnError, NativePolicy, Session};
use elenchus_task::arithmetic::corrupt::{compact_text, corrupt};
use elenchus_task::arithmetic::dispute::{
    self, Falsehood, Ground, blind_objection, dialogue_prompt, true_objection,
};
use elenchus_task::arithmetic::{Arithmetic, ArithmeticSettings, Exercise, Steps, skills};
use elenchus_task::{Split, Task};
use elenchus_trace::Problem;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// An agent trained on dialogues with a reviewer (sheet 24): one to three of its solutions with an objection to each, and
/// the right solution as the reply. The reviewer of `judged-plain` and `judged-reread` is always constructive: it speaks of
/// wrong solutions only, and what it claims is true. That produces trust. `judged-reread` sees the same dialogues and
/// replies with every step written from its line of the problem first, so it computes each step anew. `judged-mixed`
/// replies as the plain one, and a share of its dialogues end in a false objection to a right solution, bare or with a slip in
/// a step's result; other kinds of falsehood it never sees.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JudgedAgent {
    #[serde(skip)]
    name: &'static str,
    #[serde(skip)]
    summary: &'static str,
    /// Whether replies reread the lines of the problem.
    pub reread: bool,
    /// Share of dialogues that end in a false objection to a right solution.
    pub deceptive: f64,
    /// Fewest and most operations of a problem.
    pub steps: [usize; 2],
    /// Most solutions in a dialogue.
    pub turns: usize,
    /// Rows in a batch that solve a problem without a reviewer; the rest are dialogues.
    pub solve_rows: usize,
    /// Validation problems for the card.
    pub validation: usize,
    /// The training.
    pub train: TrainSettings,
}

/// The kinds of false objections that `judged-mixed` is trained on.
const SEEN: [Ground; 2] = [Ground::Bare, Ground::Step];
/// What an honest objection brings forward, in equal shares.
const GROUNDS: [Ground; 3] = [Ground::Bare, Ground::Step, Ground::Quoted];

impl JudgedAgent {
    fn new(name: &'static str, summary: &'static str, reread: bool, deceptive: f64) -> Self {
        JudgedAgent {
            name,
            summary,
            reread,
            deceptive,
            steps: [3, 5],
            turns: 3,
            solve_rows: 6,
            validation: 150,
            train: TrainSettings {
                steps: 300,
                batch: 24,
                learning_rate: 1e-3,
                warmup_steps: 20,
                decay: Decay::Cosine,
                floor: 0.05,
                ..TrainSettings::default()
            },
        }
    }

    /// All of these checkpoints.
    pub fn all() -> Vec<Self> {
        vec![
            JudgedAgent::new(
                "judged-plain",
                "revises after objections, learned from a reviewer who is always right",
                false,
                0.0,
            ),
            JudgedAgent::new("judged-reread", "the same, computing every step anew in its reply", true, 0.0),
            JudgedAgent::new(
                "judged-mixed",
                "the same as judged-plain, with 30 % deceptive objections",
                false,
                0.3,
            ),
        ]
    }

    /// The problems that these agents are trained for.
    pub fn task(&self) -> Result<Arithmetic, LearnError> {
        Ok(Arithmetic::new(ArithmeticSettings { steps: Steps::Between(self.steps), ..Default::default() })?)
    }

    /// A dialogue as prompt and reply; `None` for the rare problem without a convincing mistake.
    fn dialogue(
        &self,
        problem: &Problem,
        random: &mut ChaCha8Rng,
    ) -> Result<Option<(String, String)>, LearnError> {
        let exercise = Exercise::from_problem(problem)?;
        let Some(plan) = exercise.plan() else { return Ok(None) };
        let gold = compact_text(plan.gold(), &exercise.gold());
        let again = match self.reread {
            true => dispute::reread(&exercise.chain, plan.gold(), &exercise.gold()),
            false => gold.clone(),
        };
        // The first solution is written without a reviewer, the later ones are replies.
        let reply = |turn: usize, steps: &[_], answer: &str| match self.reread && turn > 0 {
            true => dispute::reread(&exercise.chain, steps, answer),
            false => compact_text(steps, answer),
        };
        let count = 1 + (0..self.turns.saturating_sub(1)).take_while(|_| random.random_bool(0.4)).count();
        let deceptive = random.random_bool(self.deceptive);
        let mut turns: Vec<(String, String)> = Vec::with_capacity(count);
        for turn in 0..count {
            if deceptive && turn + 1 == count {
                let ground = SEEN[random.random_range(0..SEEN.len())];
                let solution = if turn == 0 { &gold } else { &again };
                let made = blind_objection(problem, solution, ground, Falsehood::Result, random)?;
                let Some(made) = made else { return Ok(None) };
                turns.push((solution.clone(), made.text));
                break;
            }
            let Some(mistaken) = corrupt(&exercise, random) else { return Ok(None) };
            let solution = reply(turn, &mistaken.steps, &mistaken.value.to_string());
            let ground = GROUNDS[random.random_range(0..GROUNDS.len())];
            let Some(made) = true_objection(problem, &solution, ground)? else { return Ok(None) };
            turns.push((solution, made.text));
        }
        let shown: Vec<(&str, &str)> = turns.iter().map(|(s, o)| (s.as_str(), o.as_str())).collect();
        Ok(Some((dialogue_prompt(problem, &shown), again)))
    }
}

fn one_problem(task: &Arithmetic, split: Split, seed: u64) -> Result<Problem, LearnError> {
    task.problems(split, 1, seed)?.into_iter().next().ok_or_else(|| LearnError::Data {
        what: "the arithmetic task gave no problem".into(),
        hint: "set `steps` to a range that has problems".into(),
    })
}

impl LabModel for JudgedAgent {
    fn name(&self) -> &'static str {
        self.name
    }

    fn summary(&self) -> &'static str {
        self.summary
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
                "reread": self.reread, "deceptive": self.deceptive, "steps": self.steps, "turns": self.turns,
                "solve_rows": self.solve_rows, "validation": self.validation,
            }),
        }
    }

    fn source(
        &self,
        policy: &mut NativePolicy,
        seed: u64,
        _: &Session<'_>,
    ) -> Result<Box<dyn BatchSource>, LearnError> {
        let agent = self.clone();
        let (task, encoder) = (self.task()?, policy.encoder());
        let dialogues =
            Generated::new(self.train.batch.saturating_sub(self.solve_rows).max(1), mix(seed, 1), {
                move |seed| {
                    let mut random = ChaCha8Rng::seed_from_u64(mix(seed, 1));
                    for again in 0.. {
                        let problem = one_problem(&task, Split::Train, mix(seed, 2 + again))?;
                        if let Some((prompt, reply)) = agent.dialogue(&problem, &mut random)? {
                            return text_row(encoder.as_ref(), &prompt, &reply);
                        }
                    }
                    Err(LearnError::Data {
                        what: "no problem has a convincing mistake".into(),
                        hint: "set `steps` to a range with longer problems".into(),
                    })
                }
            });
        let (task, encoder) = (self.task()?, policy.encoder());
        let solve = Generated::new(self.solve_rows, mix(seed, 2), move |seed| {
            let row = skills::solve_row(&one_problem(&task, Split::Train, seed)?)?;
            text_row(encoder.as_ref(), &row.prompt, &row.target)
        });
        Ok(Box::new(Blend(dialogues, solve)))
    }

    /// Right replies to an honest objection with a step, greedy, on wrong solutions of validation problems.
    fn validate(&self, policy: &mut NativePolicy, seed: u64, _: &Session<'_>) -> Result<Figure, LearnError> {
        let task = self.task()?;
        let problems = task.problems(Split::Validation, self.validation, mix(seed, 1))?;
        let mut random = ChaCha8Rng::seed_from_u64(mix(seed, 2));
        let (mut asked, mut requests) = (Vec::new(), Vec::new());
        for problem in &problems {
            let exercise = Exercise::from_problem(problem)?;
            let Some(mistaken) = corrupt(&exercise, &mut random) else { continue };
            let solution = mistaken.compact(&exercise);
            let Some(made) = true_objection(problem, &solution, Ground::Step)? else { continue };
            asked.push(problem);
            requests.push(RolloutRequest {
                prompt: dialogue_prompt(problem, &[(&solution, &made.text)]),
                samples: 1,
                seed: 1,
                temperature: 0.0,
                max_new_tokens: 160,
                distributions: false,
            });
        }
        let mut right = 0;
        for (problem, replies) in asked.iter().zip(policy.sample(&requests)?) {
            let reply = replies.first().map_or("", |reply| reply.text.as_str());
            right += usize::from(task.verify(problem, reply)?.is_correct());
        }
        let value = right as f64 / asked.len().max(1) as f64;
        Ok(Figure { name: "right after an honest objection".into(), value, problems: asked.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dialogues_end_in_the_right_solution() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        for agent in JudgedAgent::all() {
            let task = agent.task().unwrap();
            let mut false_objections = 0;
            let problems = task.problems(Split::Train, 200, 3).unwrap();
            for problem in &problems {
                let Some((prompt, reply)) = agent.dialogue(problem, &mut random).unwrap() else { continue };
                let verdict = task.verify(problem, &reply).unwrap();
                assert!(verdict.is_correct() && verdict.first_wrong_step().is_none(), "{prompt} -> {reply}");
                assert_eq!(Some(&reply) != task.reference(problem).as_ref(), agent.reread, "{reply}");
                let parts: Vec<&str> = prompt.split('!').collect();
                assert!(parts.len() >= 3 && parts.len() <= 7, "one to three turns: {prompt}");
                // The last solution that the reviewer objects to.
                let last = parts[parts.len() - 3].rsplit('?').next().unwrap();
                let right = task.verify(problem, last).unwrap().is_correct();
                false_objections += usize::from(right);
            }
            match agent.deceptive > 0.0 {
                true => assert!((40..80).contains(&false_objections), "{false_objections} of 200"),
                false => {
                    assert_eq!(false_objections, 0, "a constructive reviewer speaks of wrong solutions only")
                }
            }
        }
    }
}
