//! `judged-plain`, `judged-reread`, `judged-mixed`: agents that answer again after objections to their solution.

use super::{Figure, LabModel, Plan, Start};
use elenchus_learn::policy::{Policy, RolloutRequest, text_row};
use elenchus_learn::rollouts::{RolloutSettings, judged_rollouts, mix};
use elenchus_learn::trainer::{BatchSource, Blend, Decay, Epochs, Generated, TrainSettings};
use elenchus_learn::{LearnError, NativePolicy, Session};
use elenchus_task::arithmetic::corrupt::compact_text;
use elenchus_task::arithmetic::dispute::{
    self, Falsehood, Ground, blind_objection, dialogue_prompt, misprinted, true_objection,
};
use elenchus_task::arithmetic::{Arithmetic, ArithmeticSettings, Exercise, Steps, skills};
use elenchus_task::{Split, Task};
use elenchus_trace::Problem;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// An agent trained on dialogues with a reviewer (sheet 24): one to three wrong solutions that the starting model wrote
/// itself, with an objection to each, and the right solution as the reply. The problems are so long that it often cannot solve
/// them alone: an agent that could would learn nothing from a reviewer (on short problems with mistakes made up for it, it
/// learns to pass over every objection). The reviewer of `judged-plain` and `judged-reread` is always constructive: it speaks
/// of wrong solutions only, and what it claims is true. In a share of the dialogues the agent has a problem with a misprint
/// before it and the reviewer has the right one, so that reading the problem again does not help, and believing does. That
/// produces trust. `judged-reread` sees the same dialogues and
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
    /// Share of the honest dialogues in which the problem that the agent sees has a misprint.
    pub misprints: f64,
    /// Training problems that the starting model solves.
    pub problems: usize,
    /// Solutions of each.
    pub samples: usize,
    /// Their temperature.
    pub temperature: f32,
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

/// Operations of the problems that these agents are trained for.
pub(crate) const STEPS: [usize; 2] = [5, 8];
/// Most tokens of a solution or a reply: eight steps with their lines.
pub(crate) const MOST_TOKENS: usize = 240;
/// The kinds of false objections that `judged-mixed` is trained on.
const SEEN: [Ground; 2] = [Ground::Bare, Ground::Step];
/// What an honest objection brings forward, in equal shares.
const GROUNDS: [Ground; 3] = [Ground::Bare, Ground::Step, Ground::Quoted];
/// The same where the problem has a misprint: a bare `N` would not say what is right.
const TELLING: [Ground; 2] = [Ground::Step, Ground::Quoted];

impl JudgedAgent {
    fn new(name: &'static str, summary: &'static str, reread: bool, deceptive: f64) -> Self {
        JudgedAgent {
            name,
            summary,
            reread,
            deceptive,
            misprints: 0.5,
            problems: 1200,
            samples: 3,
            temperature: 0.7,
            steps: STEPS,
            turns: 3,
            solve_rows: 4,
            validation: 150,
            train: TrainSettings {
                steps: 300,
                batch: 16,
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

    /// The right solution as this agent writes it.
    fn reply(&self, problem: &Problem) -> Result<Option<String>, LearnError> {
        let exercise = Exercise::from_problem(problem)?;
        Ok(exercise.plan().map(|plan| match self.reread {
            true => dispute::reread(&exercise.chain, plan.gold(), &exercise.gold()),
            false => compact_text(plan.gold(), &exercise.gold()),
        }))
    }

    /// A dialogue about a problem that the agent sees with a misprint: it solves what it sees, the reviewer says what the
    /// first step is that the misprint made wrong, and the reply is the solution of the right problem.
    fn misprint(
        &self,
        problem: &Problem,
        random: &mut ChaCha8Rng,
    ) -> Result<Option<(String, String)>, LearnError> {
        let Some(printed) = misprinted(problem, random)? else { return Ok(None) };
        let printed_exercise = Exercise::from_problem(&printed)?;
        let Some(plan) = printed_exercise.plan() else { return Ok(None) };
        let solution = compact_text(plan.gold(), &printed_exercise.gold());
        let ground = TELLING[random.random_range(0..TELLING.len())];
        let Some(made) = true_objection(problem, &solution, ground)? else { return Ok(None) };
        let reply = self.reply(problem)?;
        Ok(reply.map(|reply| (dialogue_prompt(&printed, &[(&solution, &made.text)]), reply)))
    }

    /// A dialogue as prompt and reply, from wrong solutions of a problem and, for a deceptive end, a right one; `None` when
    /// there is nothing to object to.
    fn dialogue(
        &self,
        problem: &Problem,
        wrong: &[&str],
        right: Option<&str>,
        random: &mut ChaCha8Rng,
    ) -> Result<Option<(String, String)>, LearnError> {
        let Some(again) = self.reply(problem)? else { return Ok(None) };
        let mut turns: Vec<(&str, String)> = Vec::with_capacity(wrong.len() + 1);
        for solution in wrong {
            let ground = GROUNDS[random.random_range(0..GROUNDS.len())];
            let Some(made) = true_objection(problem, solution, ground)? else { return Ok(None) };
            turns.push((solution, made.text));
        }
        if let Some(solution) = right {
            let ground = SEEN[random.random_range(0..SEEN.len())];
            let made = blind_objection(problem, solution, ground, Falsehood::Result, random)?;
            let Some(made) = made else { return Ok(None) };
            turns.push((solution, made.text));
        }
        if turns.is_empty() {
            return Ok(None);
        }
        let shown: Vec<(&str, &str)> = turns.iter().map(|(s, o)| (*s, o.as_str())).collect();
        Ok(Some((dialogue_prompt(problem, &shown), again)))
    }

    /// Problems with the starting model's solutions, and which of them are right.
    fn solved(
        &self,
        policy: &mut NativePolicy,
        split: Split,
        count: usize,
        seed: u64,
        session: &Session<'_>,
    ) -> Result<Vec<(Problem, Vec<(String, bool)>)>, LearnError> {
        let task = self.task()?;
        let problems = task.problems(split, count, mix(seed, 1))?;
        let settings = RolloutSettings {
            samples: self.samples,
            temperature: self.temperature,
            max_new_tokens: MOST_TOKENS,
            seed: mix(seed, 2),
            distributions: false,
        };
        session.observer.phase(0, "own solutions", problems.len());
        let label = format!("own/{split:?}").to_lowercase();
        let judged = judged_rollouts(policy, &task, &problems, &settings, &label, session)?;
        let kept = judged.into_iter().map(|samples| {
            let finished = samples.into_iter().filter(|judged| judged.rollout.finished);
            finished.map(|judged| (judged.rollout.text, judged.verdict.is_correct())).collect()
        });
        Ok(problems.into_iter().zip(kept).collect())
    }

    /// All dialogues that the solutions of a problem give: each wrong one first, then others; and for the mixed agent as
    /// many with a deceptive end as make up its share.
    fn dialogues(
        &self,
        solved: &[(Problem, Vec<(String, bool)>)],
        random: &mut ChaCha8Rng,
    ) -> Result<Vec<(String, String)>, LearnError> {
        let (mut honest, mut misprints) = (Vec::new(), Vec::new());
        for (problem, solutions) in solved {
            let mut wrong: Vec<&str> = Vec::new();
            for (text, right) in solutions {
                if !right && !wrong.contains(&text.as_str()) {
                    wrong.push(text);
                }
            }
            for first in 0..wrong.len() {
                let more = (1..self.turns).take_while(|_| random.random_bool(0.4)).count();
                let taken: Vec<&str> =
                    wrong.iter().cycle().skip(first).take(wrong.len().min(1 + more)).copied().collect();
                honest.extend(self.dialogue(problem, &taken, None, random)?);
            }
        }
        // m / (m + the others) is the share.
        let wanted = (self.misprints / (1.0 - self.misprints) * honest.len() as f64).round() as usize;
        for (problem, _) in solved.iter().cycle().take(2 * wanted.max(solved.len())) {
            if misprints.len() < wanted {
                misprints.extend(self.misprint(problem, random)?);
            }
        }
        honest.append(&mut misprints);
        // d / (d + honest) is the share.
        let wanted = (self.deceptive / (1.0 - self.deceptive) * honest.len() as f64).round() as usize;
        let mut deceptive = Vec::with_capacity(wanted);
        let usable = |solutions: &[(String, bool)]| -> (Option<String>, Vec<String>) {
            let right = solutions.iter().find(|solution| solution.1).map(|solution| solution.0.clone());
            (right, solutions.iter().filter(|s| !s.1).map(|s| s.0.clone()).take(1).collect())
        };
        for round in 0..2 {
            for (problem, solutions) in solved {
                let (Some(right), wrong) = usable(solutions) else { continue };
                // Now and then behind an honest objection to a wrong one.
                let before: Vec<&str> =
                    wrong.iter().map(String::as_str).filter(|_| round == 1 && self.turns > 1).collect();
                if deceptive.len() < wanted {
                    deceptive.extend(self.dialogue(problem, &before, Some(&right), random)?);
                }
            }
        }
        honest.extend(deceptive);
        Ok(honest)
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
                "reread": self.reread, "deceptive": self.deceptive, "misprints": self.misprints, "problems": self.problems, "samples": self.samples,
                "temperature": self.temperature, "steps": self.steps, "turns": self.turns,
                "solve_rows": self.solve_rows, "validation": self.validation,
            }),
        }
    }

    fn source(
        &self,
        policy: &mut NativePolicy,
        seed: u64,
        session: &Session<'_>,
    ) -> Result<Box<dyn BatchSource>, LearnError> {
        let solved = self.solved(policy, Split::Train, self.problems, mix(seed, 1), session)?;
        // Now, while the weights are those whose mistakes are pointed out.
        self.solved(policy, Split::Validation, self.validation, VALIDATION_SEED, session)?;
        let mut random = ChaCha8Rng::seed_from_u64(mix(seed, 2));
        let rows = self
            .dialogues(&solved, &mut random)?
            .into_iter()
            .map(|(prompt, reply)| Ok(vec![text_row(policy, &prompt, &reply)?]))
            .collect::<Result<Vec<_>, LearnError>>()?;
        let batch = self.train.batch.saturating_sub(self.solve_rows).max(1);
        let (task, encoder) = (self.task()?, policy.encoder());
        let solve = Generated::new(self.solve_rows, mix(seed, 3), move |seed| {
            let row = skills::solve_row(&one_problem(&task, Split::Train, seed)?)?;
            text_row(encoder.as_ref(), &row.prompt, &row.target)
        });
        Ok(Box::new(Blend(Epochs::new(rows, batch, mix(seed, 4))?, solve)))
    }

    /// Right replies to an honest objection with a step, greedy, to what the starting model got wrong of validation
    /// problems.
    fn validate(
        &self,
        policy: &mut NativePolicy,
        _: u64,
        session: &Session<'_>,
    ) -> Result<Figure, LearnError> {
        let task = self.task()?;
        // From the journal: what the starting model wrote.
        let solved = self.solved(policy, Split::Validation, self.validation, VALIDATION_SEED, session)?;
        let (mut asked, mut requests) = (Vec::new(), Vec::new());
        for (problem, solutions) in &solved {
            let Some((solution, _)) = solutions.iter().find(|solution| !solution.1) else { continue };
            let Some(made) = true_objection(problem, solution, Ground::Step)? else { continue };
            asked.push(problem);
            requests.push(RolloutRequest {
                prompt: dialogue_prompt(problem, &[(solution, &made.text)]),
                samples: 1,
                seed: 1,
                temperature: 0.0,
                max_new_tokens: MOST_TOKENS,
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

/// The validation problems of a card are the same for every model seed.
const VALIDATION_SEED: u64 = 78;

#[cfg(test)]
mod tests {
    use super::*;
    use elenchus_task::arithmetic::corrupt::corrupt;

    /// Each problem with two wrong solutions and a right one.
    fn solved(agent: &JudgedAgent) -> Vec<(Problem, Vec<(String, bool)>)> {
        let task = agent.task().unwrap();
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let problems = task.problems(Split::Train, 200, 3).unwrap();
        let solutions = |problem: &Problem| {
            let exercise = Exercise::from_problem(problem).unwrap();
            let mut all: Vec<(String, bool)> = (0..2)
                .filter_map(|_| corrupt(&exercise, &mut random))
                .map(|made| (made.compact(&exercise), false))
                .collect();
            all.push((task.reference(problem).unwrap(), true));
            all
        };
        let solutions: Vec<_> = problems.iter().map(solutions).collect();
        problems.into_iter().zip(solutions).collect()
    }

    #[test]
    fn dialogues_end_in_the_right_solution() {
        for agent in JudgedAgent::all() {
            let agent = JudgedAgent { misprints: 0.0, ..agent };
            let (task, solved) = (agent.task().unwrap(), solved(&agent));
            let mut random = ChaCha8Rng::seed_from_u64(2);
            let dialogues = agent.dialogues(&solved, &mut random).unwrap();
            let mut false_objections = 0;
            for (prompt, reply) in &dialogues {
                let compact = format!("{}?", prompt[1..].split('?').next().unwrap());
                let (problem, _) =
                    solved.iter().find(|(p, _)| p.compact.as_deref() == Some(&compact)).unwrap();
                let verdict = task.verify(problem, reply).unwrap();
                assert!(verdict.is_correct() && verdict.first_wrong_step().is_none(), "{prompt} -> {reply}");
                assert_eq!(Some(reply) != task.reference(problem).as_ref(), agent.reread, "{reply}");
                let parts: Vec<&str> = prompt.split('!').collect();
                assert!(parts.len() >= 3 && parts.len() <= 7, "one to three turns: {prompt}");
                // The last solution that the reviewer objects to.
                let last = parts[parts.len() - 3].rsplit('?').next().unwrap();
                false_objections += usize::from(task.verify(problem, last).unwrap().is_correct());
            }
            let share = false_objections as f64 / dialogues.len() as f64;
            assert!((share - agent.deceptive).abs() < 0.06, "{}: {share}", agent.name());
        }
    }

    #[test]
    fn a_share_of_the_dialogues_is_about_misprints() {
        for agent in JudgedAgent::all() {
            let (task, solved) = (agent.task().unwrap(), solved(&agent));
            let count = |agent: &JudgedAgent| {
                agent.dialogues(&solved, &mut ChaCha8Rng::seed_from_u64(2)).unwrap().len() as f64
            };
            let without = count(&JudgedAgent { misprints: 0.0, ..agent.clone() });
            assert!(
                (count(&agent) / without - 2.0).abs() < 0.05,
                "half of the honest ones, and as many more false ones"
            );
            let mut random = ChaCha8Rng::seed_from_u64(3);
            for (problem, _) in &solved[..50] {
                let Some((prompt, reply)) = agent.misprint(problem, &mut random).unwrap() else { continue };
                assert!(task.verify(problem, &reply).unwrap().is_correct(), "{reply}");
                assert!(
                    !prompt.contains(problem.compact.as_deref().unwrap()),
                    "it sees a misprint: {prompt}"
                );
            }
        }
    }
}
