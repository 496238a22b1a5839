//! The figures of a model card: accuracy per task and number of steps, and what each skill is worth on the model's own
//! solutions.

use crate::objective::TrainingRow;
use crate::policy::{Policy, RolloutRequest};
use crate::rollouts::{Judged, judge, mix};
use crate::{LearnError, Session};
use elenchus_measure::{Ballot, Interval, accuracy, auroc, student_interval};
use elenchus_task::arithmetic::skills::true_critique;
use elenchus_task::arithmetic::{Arithmetic, ArithmeticSettings, Form, Preset, Steps, Surface};
use elenchus_task::countdown::{Countdown, CountdownSettings};
use elenchus_task::{Skill, Split, Task, parse_critique};
use elenchus_trace::Problem;
use serde::{Deserialize, Serialize};

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CardSettings {
    /// The split of all problems: `test`, or `validation` while settings of the making are being chosen.
    pub split: Split,
    /// Problems per line.
    pub problems: usize,
    /// Samples per problem at temperature 1.
    pub samples: usize,
    /// Seed of problems and samples.
    pub seed: u64,
}

/// One kind of problem.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskLine {
    /// What was asked.
    pub task: String,
    /// Problems.
    pub problems: usize,
    /// Greedy accuracy.
    pub greedy: Interval,
    /// Accuracy of one sample.
    pub sampled: Interval,
    /// Accuracy of the majority of the samples.
    pub vote: Interval,
    /// Share of problems with a right sample.
    pub pass: Interval,
}

/// One figure about a skill.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SkillLine {
    /// The skill.
    pub skill: Skill,
    /// What the figure says.
    pub figure: String,
    /// Cases behind it.
    pub cases: usize,
    /// The figure; an AUROC comes without interval (`low == high == value`).
    pub value: Interval,
}

/// The figures of a card.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// Accuracy per task.
    pub tasks: Vec<TaskLine>,
    /// Skills that look at solutions, on the model's own samples of the default problems.
    pub skills: Vec<SkillLine>,
}

struct Measurer<'a, 'p> {
    policy: &'p mut dyn Policy,
    settings: &'a CardSettings,
    session: &'a Session<'a>,
}

/// Measures everything a card tells of a model that was made by [`crate::pretrain`].
pub fn measure_card(
    policy: &mut dyn Policy,
    settings: &CardSettings,
    session: &Session<'_>,
) -> Result<Card, LearnError> {
    let mut measurer = Measurer { policy, settings, session };
    let mut tasks = Vec::new();
    for (name, skill, task) in measured_tasks()? {
        tasks.push(measurer.task_line(name, skill, task.as_ref())?);
    }
    let skills = measurer.skill_lines()?;
    Ok(Card { tasks, skills })
}

type MeasuredTask = (String, Skill, Box<dyn Task>);

fn measured_tasks() -> Result<Vec<MeasuredTask>, LearnError> {
    let default = ArithmeticSettings::preset(Preset::Default);
    let mixed = ArithmeticSettings::preset(Preset::Mixed);
    let arithmetic = |settings: ArithmeticSettings| -> Result<Box<dyn Task>, LearnError> {
        Ok(Box::new(Arithmetic::new(settings)?))
    };
    let mut tasks =
        vec![("default: chain of 4 to 6 steps".to_string(), Skill::Solve, arithmetic(default.clone())?)];
    for steps in 1..=8 {
        let settings = ArithmeticSettings { steps: Steps::Exactly(steps), ..default.clone() };
        let plural = if steps == 1 { "" } else { "s" };
        tasks.push((format!("chain of {steps} step{plural}"), Skill::Solve, arithmetic(settings)?));
    }
    let forms = [
        ("in words, 2 to 6 steps", Form::Chain, Surface::Words, Skill::Solve),
        ("four options, 2 to 6 steps", Form::Choice, Surface::Symbols, Skill::Solve),
        ("masked number (backward), 2 to 6 steps", Form::Backward, Surface::Symbols, Skill::Backward),
        ("answer at once (direct), 2 to 6 steps", Form::Direct, Surface::Symbols, Skill::Direct),
    ];
    for (name, form, surface, skill) in forms {
        let settings = ArithmeticSettings { form, surface, ..mixed.clone() };
        tasks.push((name.to_string(), skill, arithmetic(settings)?));
    }
    for numbers in [3, 4] {
        let settings = CountdownSettings { numbers: [numbers, numbers], ..CountdownSettings::default() };
        tasks.push((
            format!("Countdown with {numbers} numbers"),
            Skill::Solve,
            Box::new(Countdown::new(settings)?),
        ));
    }
    Ok(tasks)
}

/// The right to wrong and wrong to right changes between two answers to the same problems.
fn transitions(before: &[bool], after: &[bool]) -> Result<[(usize, Interval); 2], LearnError> {
    let change = |from: bool| -> Result<(usize, Interval), LearnError> {
        let cases = before.iter().filter(|&&b| b == from).count();
        let changed = before.iter().zip(after).filter(|&(&b, &a)| b == from && a != from).count();
        Ok((cases, accuracy(changed, cases.max(1))?))
    };
    Ok([change(true)?, change(false)?])
}

impl Measurer<'_, '_> {
    fn answers(
        &mut self,
        task: &dyn Task,
        problems: &[Problem],
        prompts: Vec<String>,
        samples: usize,
        temperature: f32,
    ) -> Result<Vec<Vec<Judged>>, LearnError> {
        self.session.check()?;
        let requests: Vec<RolloutRequest> = prompts
            .into_iter()
            .enumerate()
            .map(|(i, prompt)| RolloutRequest {
                prompt,
                samples,
                seed: mix(self.settings.seed, i as u64),
                temperature,
                max_new_tokens: 160,
                distributions: false,
            })
            .collect();
        let rollouts = self.policy.sample(&requests)?;
        let tokens = rollouts.iter().flatten().map(|r| r.tokens.len()).sum();
        self.session.observer.advance(problems.len(), tokens, false);
        problems.iter().zip(rollouts).map(|(problem, rollouts)| judge(task, problem, rollouts)).collect()
    }

    fn task_line(&mut self, name: String, skill: Skill, task: &dyn Task) -> Result<TaskLine, LearnError> {
        let CardSettings { split, problems, samples, seed } = *self.settings;
        self.session.observer.phase(0, &name, 2 * problems);
        let problems = task.problems(split, problems, mix(seed, 1))?;
        let prompts: Vec<String> = problems.iter().map(|p| skill.prompt(p, &[])).collect();
        let greedy = self.answers(task, &problems, prompts.clone(), 1, 0.0)?;
        let sampled = self.answers(task, &problems, prompts, samples, 1.0)?;
        let right = |pool: &[Judged]| pool.iter().filter(|j| j.verdict.is_correct()).count();
        let shares: Vec<f64> = sampled.iter().map(|pool| right(pool) as f64 / samples as f64).collect();
        let votes = sampled
            .iter()
            .map(|pool| {
                let ballots = pool.iter().map(|j| (j.verdict.answer.as_deref(), j.verdict.is_correct()));
                Ok(Ballot::from_answers(ballots)?.majority_at(samples, 0)?)
            })
            .collect::<Result<Vec<f64>, LearnError>>()?;
        let count = problems.len();
        Ok(TaskLine {
            task: name,
            problems: count,
            greedy: accuracy(greedy.iter().filter(|pool| right(pool) > 0).count(), count)?,
            sampled: within_unit(student_interval(&shares, 0.95)?),
            vote: within_unit(student_interval(&votes, 0.95)?),
            pass: accuracy(sampled.iter().filter(|pool| right(pool) > 0).count(), count)?,
        })
    }

    /// `P(Y) / (P(Y) + P(N))` behind each judge prompt.
    fn judge_scores(&mut self, prompts: &[String]) -> Result<Vec<f64>, LearnError> {
        let mut rows = Vec::with_capacity(2 * prompts.len());
        for prompt in prompts {
            let prompt = self.policy.encode(prompt)?;
            for label in ["Y", "N"] {
                rows.push(TrainingRow::new(&prompt, &self.policy.encode(label)?));
            }
        }
        let logprobs = self.policy.logprobs(&rows)?;
        let first = |row: &[f32]| row.first().map_or(f64::NAN, |&l| f64::from(l));
        Ok(logprobs.chunks(2).map(|pair| 1.0 / (1.0 + (first(&pair[1]) - first(&pair[0])).exp())).collect())
    }

    fn skill_lines(&mut self) -> Result<Vec<SkillLine>, LearnError> {
        let CardSettings { split, problems, samples, seed } = *self.settings;
        let task = Arithmetic::new(ArithmeticSettings::preset(Preset::Default))?;
        let problems = task.problems(split, problems, mix(seed, 1))?;
        self.session.observer.phase(0, "skills on own samples", 5 * problems.len());
        let prompts = problems.iter().map(|p| Skill::Solve.prompt(p, &[])).collect();
        let own = self.answers(&task, &problems, prompts, samples, 1.0)?;
        let mut lines = Vec::new();
        self.judge_lines(&problems, &own, &mut lines)?;
        self.critique_lines(&problems, &own, &mut lines)?;
        self.second_answers(&task, &problems, &own, &mut lines)?;
        Ok(lines)
    }

    fn judge_lines(
        &mut self,
        problems: &[Problem],
        own: &[Vec<Judged>],
        lines: &mut Vec<SkillLine>,
    ) -> Result<(), LearnError> {
        let each = || problems.iter().zip(own).flat_map(|(p, pool)| pool.iter().map(move |j| (p, j)));
        let prompts: Vec<String> =
            each().map(|(p, j)| Skill::Judge.prompt(p, &[j.rollout.text.as_str()])).collect();
        let scores = self.judge_scores(&prompts)?;
        let correct: Vec<bool> = each().map(|(_, j)| j.verdict.is_correct()).collect();
        let certainty: Vec<f64> = each().map(|(_, j)| j.rollout.mean_logprob()).collect();
        for (figure, scores) in [
            ("AUROC of P(Y) over own samples", &scores),
            ("AUROC of the mean log-probability, beside it", &certainty),
        ] {
            if let Some(value) = auroc(scores, &correct)? {
                lines.push(SkillLine {
                    skill: Skill::Judge,
                    figure: figure.into(),
                    cases: correct.len(),
                    value: Interval::exact(value),
                });
            }
        }
        Ok(())
    }

    fn critique_lines(
        &mut self,
        problems: &[Problem],
        own: &[Vec<Judged>],
        lines: &mut Vec<SkillLine>,
    ) -> Result<(), LearnError> {
        // One sample per problem; what has no steps has nothing to point at.
        let mut cases = Vec::new();
        for (problem, pool) in problems.iter().zip(own) {
            if let Some(first) = pool.first()
                && let Ok(truth) = true_critique(problem, &first.rollout.text)
                && !truth.verdicts.is_empty()
            {
                cases.push((Skill::Critique.prompt(problem, &[first.rollout.text.as_str()]), truth));
            }
        }
        let requests: Vec<RolloutRequest> = cases
            .iter()
            .map(|(prompt, _)| RolloutRequest {
                prompt: prompt.clone(),
                samples: 1,
                seed: 0,
                temperature: 0.0,
                max_new_tokens: 60,
                distributions: false,
            })
            .collect();
        let replies = self.policy.sample(&requests)?;
        let (mut right, mut wrong) = ((0, 0), (0, 0));
        for ((_, truth), reply) in cases.iter().zip(&replies) {
            let steps = truth.verdicts.len();
            let text = reply.first().map_or("", |r| r.text.as_str());
            // A reply that cannot be read names no place.
            let place = parse_critique(text, steps).map(|c| c.first_wrong);
            let counter = if truth.first_wrong.is_none() { &mut right } else { &mut wrong };
            counter.1 += 1;
            counter.0 += usize::from(place.ok() == Some(truth.first_wrong));
        }
        for (figure, (hit, cases)) in [
            ("clean solutions that it passes", right),
            ("first wrong step named, over faulty solutions", wrong),
        ] {
            if cases > 0 {
                let value = accuracy(hit, cases)?;
                lines.push(SkillLine { skill: Skill::Critique, figure: figure.into(), cases, value });
            }
        }
        Ok(())
    }

    fn second_answers(
        &mut self,
        task: &dyn Task,
        problems: &[Problem],
        own: &[Vec<Judged>],
        lines: &mut Vec<SkillLine>,
    ) -> Result<(), LearnError> {
        let firsts: Vec<&str> =
            own.iter().map(|p| p.first().map_or("", |j| j.rollout.text.as_str())).collect();
        let before: Vec<bool> =
            own.iter().map(|p| p.first().is_some_and(|j| j.verdict.is_correct())).collect();
        let right = |pools: Vec<Vec<Judged>>| -> Vec<bool> {
            pools.iter().map(|p| p.first().is_some_and(|j| j.verdict.is_correct())).collect()
        };

        let critiques: Vec<String> = problems
            .iter()
            .zip(&firsts)
            .map(|(p, text)| true_critique(p, text).map(|c| c.compact()).unwrap_or_default())
            .collect();
        let faulty: Vec<usize> = (0..problems.len()).filter(|&i| critiques[i].contains('N')).collect();
        let chosen: Vec<Problem> = faulty.iter().map(|&i| problems[i].clone()).collect();
        let prompts = faulty
            .iter()
            .map(|&i| Skill::Refine.prompt(&problems[i], &[firsts[i], critiques[i].as_str()]))
            .collect();
        let refined = right(self.answers(task, &chosen, prompts, 1, 0.0)?);
        if !refined.is_empty() {
            lines.push(SkillLine {
                skill: Skill::Refine,
                figure: "faulty solutions made right, given the true critique".into(),
                cases: refined.len(),
                value: accuracy(refined.iter().filter(|&&r| r).count(), refined.len())?,
            });
        }

        let prompts = problems.iter().zip(&firsts).map(|(p, t)| Skill::Again.prompt(p, &[t])).collect();
        let again = right(self.answers(task, problems, prompts, 1, 0.0)?);
        let figures = ["right answers made wrong", "wrong answers made right"];
        for (figure, (cases, value)) in figures.into_iter().zip(transitions(&before, &again)?) {
            lines.push(SkillLine { skill: Skill::Again, figure: figure.into(), cases, value });
        }

        let prompts = problems
            .iter()
            .zip(own)
            .map(|(p, pool)| {
                let drafts: Vec<&str> = pool.iter().take(3).map(|j| j.rollout.text.as_str()).collect();
                Skill::Aggregate.prompt(p, &drafts)
            })
            .collect();
        let aggregated = right(self.answers(task, problems, prompts, 1, 0.0)?);
        lines.push(SkillLine {
            skill: Skill::Aggregate,
            figure: "right answers from three own drafts".into(),
            cases: aggregated.len(),
            value: accuracy(aggregated.iter().filter(|&&r| r).count(), aggregated.len())?,
        });
        Ok(())
    }
}

fn within_unit(interval: Interval) -> Interval {
    Interval { value: interval.value, low: interval.low.max(0.0), high: interval.high.min(1.0) }
}

impl Card {
    /// The card's tables in Markdown.
    pub fn markdown(&self, split: Split, samples: usize) -> String {
        let percent =
            |i: &Interval| format!("{:.1} % [{:.1}, {:.1}]", 100.0 * i.value, 100.0 * i.low, 100.0 * i.high);
        let split = match split {
            Split::Train => "training",
            Split::Validation => "validation",
            Split::Test => "test",
        };
        let mut text = format!(
            "| {split} problems | greedy | one sample | vote of {samples} | pass@{samples} |\n|---|---|---|---|---|\n"
        );
        for line in &self.tasks {
            text.push_str(&format!(
                "| {} | {} | {} | {} | {} |\n",
                line.task,
                percent(&line.greedy),
                percent(&line.sampled),
                percent(&line.vote),
                percent(&line.pass)
            ));
        }
        text.push_str("\n| skill | figure | cases | value |\n|---|---|---|---|\n");
        for line in &self.skills {
            let value = if line.value.low == line.value.high {
                format!("{:.3}", line.value.value)
            } else {
                percent(&line.value)
            };
            text.push_str(&format!("| {} | {} | {} | {value} |\n", line.skill, line.figure, line.cases));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transitions_count_changes_of_each_kind_over_their_own_cases() {
        let before = [true, true, true, false, false];
        let after = [true, false, true, true, false];
        let [right, wrong] = transitions(&before, &after).unwrap();
        assert_eq!((right.0, wrong.0), (3, 2));
        assert!((right.1.value - 1.0 / 3.0).abs() < 1e-12 && (wrong.1.value - 0.5).abs() < 1e-12);
    }
}
