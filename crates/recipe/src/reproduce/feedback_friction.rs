//! Feedback friction (arXiv 2506.11930): how far a solver follows feedback that knows the right answer and hides it.
//! The feedback is the task's exact verifier, so it is right and sufficient by construction (q = 1) and what stays
//! unsolved is the solver's. Against fresh samples without feedback, at the same number of attempts.

use super::asked::{Asked, mean, unit};
use super::{Findings, Reproduce};
use crate::RecipeError;
use elenchus_control::{
    AttemptLog, Draw, RetryRound, RetryWithFeedback, RetryWithFeedbackSettings, SelfConsistency,
    SelfConsistencySettings,
};
use elenchus_evaluate::{FeedbackSource, group_answers};
use elenchus_learn::rollouts::mix;
use elenchus_measure::{
    Axis, Bootstrap, Cell, Chart, Interval, Plot, Scale, Section, Series, Table, auroc, compare_over_seeds,
    semantic_entropy,
};
use elenchus_task::{Split, Task};
use elenchus_trace::{Answer, Problem, Usage};
use serde::{Deserialize, Serialize};

/// Settings of the experiment.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// Test questions.
    questions: usize,
    /// Validation questions on which the temperature of the fresh samples is chosen.
    validation: usize,
    /// R: attempts per question.
    rounds: usize,
    /// What the temperature rises by per round in the arms against repetition.
    temperature_step: f32,
    /// Samples per round of novelty sampling.
    novelty_samples: usize,
    /// Temperatures of fresh samples to choose among.
    temperatures: Vec<f32>,
}

/// What a loop did with one question.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Course {
    /// Round in which it was solved.
    solved: Option<usize>,
    /// Spent until the end of each round that was made.
    spent: Vec<Usage>,
    rounds: Vec<RetryRound>,
    /// Mean log-probability per token of the first response, nats.
    confidence: Option<f64>,
    /// Whether the last attempt has an answer.
    answered: bool,
}

impl Course {
    fn solved_by(&self, round: usize) -> bool {
        self.solved.is_some_and(|solved| solved <= round)
    }

    /// Whether the last attempt gives an answer that was given before.
    fn repeats(&self) -> bool {
        self.rounds.last().is_some_and(|round| round.repeated)
    }

    /// Whether the last piece of feedback was about the same step as the one before: the solver did not take it up.
    fn stuck(&self) -> bool {
        match self.rounds.as_slice() {
            [.., before, last] => before.first_wrong == last.first_wrong,
            _ => false,
        }
    }
}

/// An arm: one way of giving feedback, or none.
struct Arm {
    name: String,
    /// Per model, per question.
    courses: Vec<Vec<Course>>,
}

impl Arm {
    /// Solved by round r, per model and question.
    fn solved(&self, round: usize) -> Vec<Vec<f64>> {
        self.courses
            .iter()
            .map(|rows| rows.iter().map(|course| unit(course.solved_by(round))).collect())
            .collect()
    }
}

fn course(task: &dyn Task, answer: &Answer) -> Result<Course, RecipeError> {
    let log = AttemptLog::of(&answer.trace).unwrap_or_default();
    let right = log.judged(task, &answer.trace)?;
    let first = log.attempts.first().and_then(|attempt| attempt.node);
    Ok(Course {
        solved: right.iter().position(|&right| right),
        spent: (0..right.len()).map(|round| log.spent_until(round)).collect(),
        rounds: RetryRound::all(&answer.trace),
        confidence: first.and_then(|node| answer.trace.completion(node)).and_then(|c| c.mean_logprob()),
        answered: answer.answer.is_some(),
    })
}

/// Fresh samples of one question in the order in which they were drawn.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Fresh {
    right: Vec<bool>,
    /// Tokens of each sample as a call of its own: it reads the prompt and writes.
    spent: Vec<Usage>,
    /// Of the answers, nats.
    entropy: Option<f64>,
}

impl Fresh {
    /// As a loop that stops at the first right sample.
    fn course(&self) -> Course {
        let solved = self.right.iter().position(|&right| right);
        let made = solved.map_or(self.right.len(), |at| at + 1);
        let spent = (1..=made).map(|n| self.spent.iter().take(n).copied().sum()).collect();
        Course { solved, spent, rounds: Vec::new(), confidence: None, answered: true }
    }
}

fn fresh(
    asked: &Asked<'_>,
    label: &str,
    task: &dyn Task,
    problems: &[Problem],
    samples: usize,
    temperature: f32,
) -> Result<Vec<Fresh>, RecipeError> {
    let draw = Draw {
        temperature: Some(temperature),
        top_p: Some(1.0),
        max_tokens: 160,
        seed: 11,
        ..Draw::default()
    };
    let vote = SelfConsistency::new(SelfConsistencySettings { samples, early_stop: false, draw })?;
    asked.answers(label, &vote, task, problems, |problem, answer| {
        let prompt = answer.usage.prompt_tokens;
        let drawn: Vec<_> = answer.trace.completions().map(|(_, completion)| completion.clone()).collect();
        let answers: Vec<Option<String>> = drawn.iter().map(|c| task.extract(problem, &c.text)).collect();
        let texts: Vec<Option<&str>> = answers.iter().map(Option::as_deref).collect();
        let groups = group_answers(&texts, |left, right| task.equivalent(problem, left, right));
        let mut counts = vec![0usize; groups.first.len()];
        groups.of.iter().flatten().for_each(|&group| counts[group] += 1);
        let mut right = Vec::with_capacity(drawn.len());
        for completion in &drawn {
            right.push(task.verify(problem, &completion.text)?.is_correct());
        }
        let alone = |usage: Usage| Usage { calls: 1, prompt_tokens: prompt, ..usage };
        Ok(Fresh {
            right,
            spent: drawn.iter().map(|completion| alone(completion.usage)).collect(),
            entropy: semantic_entropy(&counts),
        })
    })
}

/// Runs the experiment.
pub(super) fn run(input: &Reproduce<'_>) -> Result<Findings, RecipeError> {
    let settings: Settings = input.settings()?;
    let task = elenchus_task::task("arithmetic", &serde_json::Value::Null)?;
    let task = task.as_ref();
    let test = task.problems(Split::Test, settings.questions, mix(input.seed, 1))?;
    let validation = task.problems(Split::Validation, settings.validation, mix(input.seed, 2))?;
    let base = RetryWithFeedbackSettings {
        rounds: settings.rounds,
        draw: Draw { max_tokens: 160, ..Draw::default() },
        ..Default::default()
    };
    let greedy = |feedback| RetryWithFeedbackSettings { feedback, ..base.clone() };
    let rising = RetryWithFeedbackSettings {
        temperature_step: settings.temperature_step,
        ..greedy(FeedbackSource::Step)
    };
    let novel = RetryWithFeedbackSettings { novelty_samples: settings.novelty_samples, ..rising.clone() };
    let loops = [
        ("wrong, no more", greedy(FeedbackSource::Binary)),
        ("first wrong step", greedy(FeedbackSource::Location)),
        ("and its correction", greedy(FeedbackSource::Step)),
        ("and rising temperature", rising),
        ("and novelty sampling", novel),
    ];
    let mut arms: Vec<Arm> =
        loops.iter().map(|(name, _)| Arm { name: (*name).into(), courses: Vec::new() }).collect();
    let mut resampled = Arm { name: "fresh samples, no feedback".into(), courses: Vec::new() };
    let mut entropies: Vec<Vec<Option<f64>>> = Vec::new();
    let mut chosen = Vec::new();
    for (m, model) in input.models.iter().enumerate() {
        let asked = Asked::new(input, model)?;
        for ((name, loop_settings), arm) in loops.iter().zip(&mut arms) {
            let strategy = RetryWithFeedback::new(loop_settings.clone())?;
            let label = format!("{m}/{name}");
            arm.courses
                .push(asked.answers(&label, &strategy, task, &test, |_, answer| course(task, &answer))?);
        }
        // The temperature that solves most validation questions within R samples; the lowest on a tie.
        let mut best: Option<(f32, f64)> = None;
        for &temperature in &settings.temperatures {
            let label = format!("{m}/validation/{temperature}");
            let found = fresh(&asked, &label, task, &validation, settings.rounds, temperature)?;
            let solved = mean(&found.iter().map(|f| unit(f.right.contains(&true))).collect::<Vec<_>>());
            if best.is_none_or(|(_, most)| solved > most + 1e-12) {
                best = Some((temperature, solved));
            }
        }
        let temperature = best.map_or(1.0, |(temperature, _)| temperature);
        chosen.push(temperature);
        let found = fresh(&asked, &format!("{m}/fresh samples"), task, &test, settings.rounds, temperature)?;
        entropies.push(found.iter().map(|f| f.entropy).collect());
        resampled.courses.push(found.iter().map(Fresh::course).collect());
    }
    findings(input, &settings, &arms, &resampled, &entropies, &test, &chosen)
}

fn findings(
    input: &Reproduce<'_>,
    settings: &Settings,
    arms: &[Arm],
    fresh: &Arm,
    entropies: &[Vec<Option<f64>>],
    test: &[Problem],
    temperatures: &[f32],
) -> Result<Findings, RecipeError> {
    let bootstrap = Bootstrap::default().seed(mix(input.seed, 99));
    let mut findings = Findings::default();
    let [binary, location, step, rising, novel] = arms else { return Ok(findings) };
    let last = settings.rounds - 1;
    let difference = |a: Vec<Vec<f64>>, b: Vec<Vec<f64>>| -> Result<Interval, RecipeError> {
        Ok(super::wider(&compare_over_seeds("a", &a, "b", &b, &bootstrap)?.difference))
    };
    // With feedback that is right and sufficient every question could be solved: the target is 1.
    let target = |arm: &Arm| vec![vec![1.0; test.len()]; arm.courses.len()];
    let mut claim = |id: &str, interval: Interval| findings.estimates.insert(id.to_string(), interval);
    let early = 2.min(last);
    let late = 4.min(last);
    let weigh = |round_from: usize, round_to: usize, weight: f64| -> Vec<Vec<f64>> {
        let (from, to) = (step.solved(round_from), step.solved(round_to));
        from.iter()
            .zip(&to)
            .map(|(from, to)| from.iter().zip(to).map(|(from, to)| weight * (to - from)).collect())
            .collect()
    };
    claim("flattens", difference(weigh(0, early, 1.0), weigh(late, last, 3.0))?);
    claim("gap", difference(target(step), step.solved(last))?);
    let at = 3.min(last);
    claim("location-over-binary", difference(location.solved(at), binary.solved(at))?);
    claim("step-over-location", difference(step.solved(at), location.solved(at))?);
    claim("step-over-binary", difference(step.solved(at), binary.solved(at))?);
    claim("over-resampling", difference(step.solved(last), fresh.solved(last))?);
    claim("temperature-helps", difference(rising.solved(last), step.solved(last))?);
    claim("novelty-helps", difference(novel.solved(last), step.solved(last))?);
    claim("novelty-below-target", difference(target(novel), novel.solved(last))?);
    let unsolved: Vec<&Course> =
        step.courses.iter().flatten().filter(|course| course.solved.is_none()).collect();
    if !unsolved.is_empty() {
        let repeats: Vec<f64> = unsolved.iter().map(|course| unit(course.repeats()) - 0.5).collect();
        claim("repeats", bootstrap.mean(&repeats)?);
    }

    findings.tables.push(arms_table(settings, arms, fresh, &bootstrap)?);
    findings.tables.push(unsolved_table(arms));
    findings.tables.push(causes_table(step, entropies, test, &bootstrap)?);
    findings.sections.push(Section::plots("Solved by round", vec![plot(settings, arms, fresh)]));
    findings.notes.push(format!(
        "Feedback comes from the exact verifier, right and sufficient by construction, so the target is 100 %. A question \
         that is solved leaves the loop: curves can only rise and no right answer is ever lost. Temperature of the fresh \
         samples, chosen on {} validation questions: {}.",
        settings.validation,
        temperatures.iter().map(|t| format!("{t:.1}")).collect::<Vec<_>>().join(", ")
    ));
    let hidden: usize =
        step.courses.iter().flatten().flat_map(|course| &course.rounds).map(|r| r.hidden).sum();
    let given: usize = step.courses.iter().flatten().map(|course| course.rounds.len()).sum();
    findings.notes.push(format!(
        "The embedded model reads the latest attempt with its feedback, not the whole history; the answer was hidden {hidden} \
         times in {given} pieces of feedback with a correction. Naming what was tried, feedback in words and the judge of \
         unsolved questions need a chat model and are not run here."
    ));
    Ok(findings)
}

fn arms_table(
    settings: &Settings,
    arms: &[Arm],
    fresh: &Arm,
    bootstrap: &Bootstrap,
) -> Result<Table, RecipeError> {
    let last = settings.rounds - 1;
    let shown: Vec<usize> = [0, 1, 3, last].into_iter().filter(|&round| round <= last).collect();
    let columns = ["feedback".to_string(), "calls".into(), "tokens".into()]
        .into_iter()
        .chain(shown.iter().map(|round| format!("round {round}")))
        .chain(["below target".to_string()]);
    let mut table = Table::new("Solved by round, per question", columns)
        .note("Calls and tokens until a question is solved or the rounds are over. 95 % bootstrap intervals over questions.");
    for arm in arms.iter().chain([fresh]) {
        let spent = |course: &Course| course.spent.last().copied().unwrap_or_default();
        let cost = super::asked::MeanCost::of(arm.courses.iter().flatten().map(spent));
        let mut row =
            vec![Cell::Text(arm.name.clone()), Cell::Number(cost.calls, 1), Cell::Number(cost.tokens, 0)];
        for &round in &shown {
            row.push(Cell::PercentInterval(bootstrap.mean(&arm.solved(round).concat())?));
        }
        row.push(Cell::Percent(1.0 - mean(&arm.solved(last).concat())));
        table = table.row(row);
    }
    Ok(table)
}

/// What keeps the unsolved questions unsolved, by what the exact verifier saw.
fn unsolved_table(arms: &[Arm]) -> Table {
    let mut table = Table::new(
        "Questions that stay unsolved",
        ["feedback", "unsolved", "no answer", "repeats an answer", "same step wrong again", "another step wrong"],
    )
    .note("Of the last attempt. Repeating under greedy decoding after a bare `wrong` is no resistance: it brings nothing new.");
    for arm in arms {
        let unsolved: Vec<&Course> = arm.courses.iter().flatten().filter(|c| c.solved.is_none()).collect();
        let count = |of: &dyn Fn(&Course) -> bool| unsolved.iter().filter(|course| of(course)).count() as u64;
        table = table.row([
            Cell::Text(arm.name.clone()),
            Cell::Count(unsolved.len() as u64),
            Cell::Count(count(&|course| !course.answered)),
            Cell::Count(count(&Course::repeats)),
            Cell::Count(count(&Course::stuck)),
            Cell::Count(count(&|course| !course.stuck())),
        ]);
    }
    table
}

/// How well each suspected cause tells, at round 0, which wrong answers are never repaired.
fn causes_table(
    step: &Arm,
    entropies: &[Vec<Option<f64>>],
    test: &[Problem],
    bootstrap: &Bootstrap,
) -> Result<Table, RecipeError> {
    let mut table = Table::new("Suspected causes, among first answers that are wrong", ["cause", "AUROC of staying unsolved", "questions"])
        .note("0.5: tells nothing. Length stands for familiarity: longer problems are rarer in training, and harder.");
    type Value<'a> = Box<dyn Fn(usize, usize) -> Option<f64> + 'a>;
    let causes: [(&str, Value<'_>); 3] = [
        (
            "confidence: mean log-probability of the first response",
            Box::new(|m, q| step.courses[m][q].confidence),
        ),
        (
            "agreement: negative semantic entropy of fresh samples",
            Box::new(|m, q| entropies[m][q].map(|e| -e)),
        ),
        ("unfamiliarity: operations of the problem", Box::new(|_, q| test[q].data.get("steps")?.as_f64())),
    ];
    for (name, value) in causes {
        let mut rows: Vec<(f64, bool)> = Vec::new();
        for (m, courses) in step.courses.iter().enumerate() {
            for (q, course) in courses.iter().enumerate() {
                if course.solved != Some(0)
                    && let Some(value) = value(m, q)
                {
                    rows.push((value, course.solved.is_none()));
                }
            }
        }
        let of = |counts: &[u32]| -> Option<f64> {
            let drawn = rows.iter().zip(counts).flat_map(|(row, &n)| std::iter::repeat_n(row, n as usize));
            let (values, stays): (Vec<f64>, Vec<bool>) = drawn.copied().unzip();
            auroc(&values, &stays).ok().flatten()
        };
        let quick = Bootstrap { resamples: 1000, ..*bootstrap };
        let found = if rows.is_empty() { None } else { quick.of_counts("AUROC", rows.len(), of)? };
        let cell = found
            .map_or(Cell::Missing, |i| Cell::Text(format!("{:.3} [{:.3}, {:.3}]", i.value, i.low, i.high)));
        table = table.row([Cell::Text(name.into()), cell, Cell::Count(rows.len() as u64)]);
    }
    Ok(table)
}

fn plot(settings: &Settings, arms: &[Arm], fresh: &Arm) -> Plot {
    let series = arms.iter().chain([fresh]).map(|arm| {
        let solved = |round: usize| (round as f64, mean(&arm.solved(round).concat()));
        Series::exact(&arm.name, (0..settings.rounds).map(solved))
    });
    Plot::new(
        "Solved by round",
        "Round 0: the first answer, or the first fresh sample.",
        Chart::Line {
            x: Axis::new("round", Scale::Whole),
            y: Axis::new("solved", Scale::Percent),
            series: series.collect(),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn solved(round: Option<usize>) -> Course {
        Course { solved: round, spent: Vec::new(), rounds: Vec::new(), confidence: None, answered: true }
    }

    /// 20 questions: 8 solved at once, then 4, 2 and 1 more: 0.40, 0.60, 0.70, 0.75, 0.75; with 11 of 12 pieces of feedback
    /// good the target is 0.95 and the gap at the end 0.20.
    #[test]
    fn the_numeric_example() {
        let rounds = [(Some(0), 8), (Some(1), 4), (Some(2), 2), (Some(3), 1), (None, 5)];
        let courses = rounds.iter().flat_map(|&(round, n)| std::iter::repeat_n(solved(round), n)).collect();
        let arm = Arm { name: "a".into(), courses: vec![courses] };
        let curve: Vec<f64> = (0..5).map(|round| mean(&arm.solved(round).concat())).collect();
        for (found, wanted) in curve.iter().zip([0.40, 0.60, 0.70, 0.75, 0.75]) {
            assert!((found - wanted).abs() < 1e-12, "{curve:?}");
        }
        let target = curve[0] + (1.0 - curve[0]) * 11.0 / 12.0;
        assert!((target - 0.95).abs() < 1e-12 && (target - curve[4] - 0.20).abs() < 1e-12);
    }

    #[test]
    fn fresh_samples_stop_at_the_first_right_one() {
        let usage = Usage { calls: 1, prompt_tokens: 10, completion_tokens: 5, ..Usage::default() };
        let fresh = Fresh { right: vec![false, true, true], spent: vec![usage; 3], entropy: None };
        let course = fresh.course();
        assert_eq!((course.solved, course.spent.len()), (Some(1), 2));
        assert_eq!(course.spent[1].tokens(), 30, "what comes behind the right one is not paid for");
        let never = Fresh { right: vec![false; 3], spent: vec![usage; 3], entropy: None }.course();
        assert_eq!((never.solved, never.spent[2].calls), (None, 3));
    }
}
