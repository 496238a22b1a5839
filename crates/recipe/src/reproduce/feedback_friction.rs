//! Feedback friction (arXiv 2506.11930): how far a solver follows feedback that knows the right answer and hides it.
//! The feedback is the task's exact verifier, so it is right and sufficient by construction (q = 1) and what stays
//! unsolved is the solver's. Against fresh samples without feedback, at the same number of attempts.

use super::asked::{Asked, mean, unit};
use super::resampling::Resampling;
use super::{Findings, Reproduce};
use crate::RecipeError;
use elenchus_control::{
    AttemptLog, Draw, RetryRound, RetryWithFeedback, RetryWithFeedbackSettings, SelfConsistency,
    SelfConsistencySettings,
};
use elenchus_evaluate::{FeedbackSource, WhyUnsolved, group_answers};
use elenchus_learn::rollouts::mix;
use elenchus_measure::{
    Axis, Bootstrap, Cell, Chart, Interval, Plot, Scale, Section, Series, Table, auroc, semantic_entropy,
    target_accuracy,
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

/// Share of the wrong answers whose feedback is right and sufficient: all, since the exact verifier writes it.
const SUFFICIENT: f64 = 1.0;

/// What a loop did with one question.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Course {
    /// Round in which it was solved.
    solved: Option<usize>,
    /// Spent until the end of each round that was made.
    spent: Vec<Usage>,
    rounds: Vec<RetryRound>,
    /// The first wrong step of each attempt, where the verifier names one.
    wrong: Vec<Option<usize>>,
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

    /// Whether the last attempt is wrong first at the step at which the one before it was: the solver did not take up what it
    /// was told. `None` where the verifier names no step of one of them: no step is not the same step.
    fn stuck(&self) -> Option<bool> {
        match self.wrong.as_slice() {
            [.., Some(before), Some(last)] => Some(before == last),
            _ => None,
        }
    }

    /// Why a question is unsolved though its feedback was right and sufficient, as the exact verifier can tell.
    fn why(&self) -> WhyUnsolved {
        if self.answered { WhyUnsolved::NotFollowing } else { WhyUnsolved::Format }
    }
}

/// An arm: one way of giving feedback, or none.
struct Arm {
    name: String,
    /// Whether its feedback is right and sufficient. What brings nothing, as a bare `wrong`, cannot be resisted.
    sufficient: bool,
    /// Per model, per question.
    courses: Vec<Vec<Course>>,
}

impl Arm {
    fn new(name: &str, sufficient: bool) -> Self {
        Arm { name: name.into(), sufficient, courses: Vec::new() }
    }

    /// Solved by round r, question behind question and model behind model.
    fn solved(&self, round: usize) -> Vec<f64> {
        self.courses.iter().flatten().map(|course| unit(course.solved_by(round))).collect()
    }

    /// What would be solved if its feedback were followed.
    fn target(&self) -> Vec<f64> {
        self.solved(0).into_iter().map(|at_once| target_accuracy(at_once, SUFFICIENT)).collect()
    }
}

fn course(task: &dyn Task, answer: &Answer) -> Result<Course, RecipeError> {
    let log = AttemptLog::of(&answer.trace).unwrap_or_default();
    let right = log.judged(task, &answer.trace)?;
    let first = log.attempts.first().and_then(|attempt| attempt.node);
    let wrong = (0..log.attempts.len())
        .map(|attempt| match log.text(&answer.trace, attempt) {
            Some(text) => Ok(task.verify(&answer.trace.problem, text)?.first_wrong_step()),
            None => Ok(None),
        })
        .collect::<Result<_, RecipeError>>()?;
    Ok(Course {
        wrong,
        solved: right.iter().position(|&right| right),
        spent: (0..right.len()).map(|round| log.spent_until(round)).collect(),
        rounds: RetryRound::all(&answer.trace),
        confidence: first.and_then(|node| answer.trace.completion(node)).and_then(|c| c.mean_logprob()),
        answered: answer.answer.is_some(),
    })
}

/// Fresh samples of one question in the order in which they were drawn.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Fresh {
    right: Vec<bool>,
    /// Tokens of each sample as a call of its own: it reads the prompt and writes.
    spent: Vec<Usage>,
    /// Of the answers, nats.
    entropy: Option<f64>,
}

impl Fresh {
    /// As a loop that draws one sample and then `per_round` at a time, one request each, and stops after the round of the
    /// first right one.
    fn course(&self, per_round: usize) -> Course {
        let solved = self.right.iter().position(|&right| right).map(|sample| sample.div_ceil(per_round));
        let last = solved.unwrap_or(self.right.len().saturating_sub(1).div_ceil(per_round));
        let mut total = Usage::default();
        let spent = (0..=last)
            .map(|round| {
                let from = if round == 0 { 0 } else { 1 + (round - 1) * per_round };
                let samples = self.spent.iter().take(1 + round * per_round).skip(from);
                for (place, &usage) in samples.enumerate() {
                    total += if place == 0 { usage } else { Usage { calls: 0, prompt_tokens: 0, ..usage } };
                }
                total
            })
            .collect();
        Course { solved, spent, rounds: Vec::new(), wrong: Vec::new(), confidence: None, answered: true }
    }
}

/// Fresh samples as many per round as novelty sampling draws, until one is right or the rounds are over: the first is that of
/// `begun`.
fn fresh_at_novelty_budget(
    asked: &Asked<'_>,
    label: &str,
    task: &dyn Task,
    problems: &[Problem],
    settings: &Settings,
    temperature: f32,
    begun: &[Fresh],
) -> Result<Vec<Course>, RecipeError> {
    let mut all: Vec<Fresh> = begun
        .iter()
        .map(|fresh| Fresh {
            right: fresh.right[..1].to_vec(),
            spent: fresh.spent[..1].to_vec(),
            entropy: None,
        })
        .collect();
    for round in 1..settings.rounds {
        let open: Vec<usize> = (0..all.len()).filter(|&q| !all[q].right.contains(&true)).collect();
        if open.is_empty() {
            break;
        }
        let left: Vec<Problem> = open.iter().map(|&q| problems[q].clone()).collect();
        let drawing = Drawing { samples: settings.novelty_samples, temperature, seed: 11 + round as u64 };
        let drawn = fresh(asked, &format!("{label}/{round}"), task, &left, drawing)?;
        for (q, more) in open.into_iter().zip(drawn) {
            all[q].right.extend(more.right);
            all[q].spent.extend(more.spent);
        }
    }
    Ok(all.iter().map(|fresh| fresh.course(settings.novelty_samples)).collect())
}

/// How fresh samples are drawn.
#[derive(Debug, Clone, Copy)]
struct Drawing {
    samples: usize,
    temperature: f32,
    seed: u64,
}

fn fresh(
    asked: &Asked<'_>,
    label: &str,
    task: &dyn Task,
    problems: &[Problem],
    Drawing { samples, temperature, seed }: Drawing,
) -> Result<Vec<Fresh>, RecipeError> {
    let draw =
        Draw { temperature: Some(temperature), top_p: Some(1.0), max_tokens: 160, seed, ..Draw::default() };
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
    let mut arms: Vec<Arm> = loops
        .iter()
        .map(|(name, settings)| Arm::new(name, settings.feedback == FeedbackSource::Step))
        .collect();
    let mut resampled = Arm::new("fresh samples, no feedback", false);
    let mut many = Arm::new("as many fresh samples as novelty sampling draws", false);
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
            let drawing = Drawing { samples: settings.rounds, temperature, seed: 11 };
            let found = fresh(&asked, &label, task, &validation, drawing)?;
            let solved = mean(&found.iter().map(|f| unit(f.right.contains(&true))).collect::<Vec<_>>());
            if best.is_none_or(|(_, most)| solved > most + 1e-12) {
                best = Some((temperature, solved));
            }
        }
        let temperature = best.map_or(1.0, |(temperature, _)| temperature);
        chosen.push(temperature);
        let drawing = Drawing { samples: settings.rounds, temperature, seed: 11 };
        let found = fresh(&asked, &format!("{m}/fresh samples"), task, &test, drawing)?;
        entropies.push(found.iter().map(|f| f.entropy).collect());
        resampled.courses.push(found.iter().map(|fresh| fresh.course(1)).collect());
        let label = format!("{m}/fresh samples at novelty's budget");
        let courses = fresh_at_novelty_budget(&asked, &label, task, &test, &settings, temperature, &found)?;
        many.courses.push(courses);
    }
    findings(input.seed, &settings, &arms, [&resampled, &many], &entropies, &test, &chosen)
}

fn findings(
    seed: u64,
    settings: &Settings,
    arms: &[Arm],
    [fresh, many]: [&Arm; 2],
    entropies: &[Vec<Option<f64>>],
    test: &[Problem],
    temperatures: &[f32],
) -> Result<Findings, RecipeError> {
    let resampling = Resampling::new(Bootstrap::default().seed(mix(seed, 99)), fresh.courses.len());
    let mut findings = Findings::default();
    let [binary, location, step, rising, novel] = arms else { return Ok(findings) };
    let last = settings.rounds - 1;
    let difference = |a: Vec<f64>, b: Vec<f64>| resampling.paired(&a, &b);
    let mut claim = |id: &str, interval: Interval| findings.estimates.insert(id.to_string(), interval);
    let early = 2.min(last);
    let late = 4.min(last);
    let weigh = |round_from: usize, round_to: usize, weight: f64| -> Vec<f64> {
        let (from, to) = (step.solved(round_from), step.solved(round_to));
        from.iter().zip(&to).map(|(from, to)| weight * (to - from)).collect()
    };
    claim("flattens", difference(weigh(0, early, 1.0), weigh(late, last, 3.0))?);
    claim("gap", difference(step.target(), step.solved(last))?);
    let at = 3.min(last);
    claim("location-over-binary", difference(location.solved(at), binary.solved(at))?);
    claim("step-over-location", difference(step.solved(at), location.solved(at))?);
    claim("step-over-binary", difference(step.solved(at), binary.solved(at))?);
    claim("over-resampling", difference(step.solved(last), fresh.solved(last))?);
    claim("temperature-helps", difference(rising.solved(last), step.solved(last))?);
    claim("temperature-below-target", difference(rising.target(), rising.solved(last))?);
    claim("novelty-helps", difference(novel.solved(last), step.solved(last))?);
    claim("novelty-below-target", difference(novel.target(), novel.solved(last))?);
    claim("novelty-over-resampling", difference(novel.solved(last), many.solved(last))?);
    let courses: Vec<&Course> = step.courses.iter().flatten().collect();
    let repeats: Vec<f64> = courses.iter().map(|course| unit(course.repeats()) - 0.5).collect();
    if let Some(interval) = resampling.mean_where(&repeats, |q| courses[q].solved.is_none())? {
        claim("repeats", interval);
    }

    let all: Vec<&Arm> = arms.iter().chain([fresh, many]).collect();
    findings.tables.push(arms_table(settings, &all, &resampling)?);
    findings.tables.push(unsolved_table(arms));
    findings.tables.push(causes_table(step, entropies, test, &resampling)?);
    findings.sections.push(Section::plots("Solved by round", vec![plot(settings, &all)]));
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
        "The embedded model reads the latest attempt with its feedback, not the whole history: under greedy decoding an attempt \
         that comes again is followed by what followed it before, so greedy loops stand still by construction once they repeat. \
         The answer was hidden {hidden} times in {given} pieces of feedback with a correction. As many fresh samples as novelty \
         sampling draws are all looked at, of which novelty sampling is shown one per round. Naming what was tried, feedback in words and the judge of \
         unsolved questions need a chat model and are not run here."
    ));
    Ok(findings)
}

fn arms_table(settings: &Settings, arms: &[&Arm], resampling: &Resampling) -> Result<Table, RecipeError> {
    let last = settings.rounds - 1;
    let shown: Vec<usize> = [0, 1, 3, last].into_iter().filter(|&round| round <= last).collect();
    let columns = ["feedback".to_string(), "calls".into(), "tokens".into()]
        .into_iter()
        .chain(shown.iter().map(|round| format!("round {round}")))
        .chain(["below target".to_string()]);
    let mut table = Table::new("Solved by round, per question", columns)
        .note("Calls and tokens until a question is solved or the rounds are over. 95 % intervals over questions and models.");
    for arm in arms {
        let spent = |course: &Course| course.spent.last().copied().unwrap_or_default();
        let cost = super::asked::MeanCost::of(arm.courses.iter().flatten().map(spent));
        let mut row =
            vec![Cell::Text(arm.name.clone()), Cell::Number(cost.calls, 1), Cell::Number(cost.tokens, 0)];
        for &round in &shown {
            row.push(Cell::PercentInterval(resampling.mean(&arm.solved(round))?));
        }
        row.push(Cell::Percent(mean(&arm.target()) - mean(&arm.solved(last))));
        table = table.row(row);
    }
    Ok(table)
}

/// What keeps the unsolved questions unsolved, by what the exact verifier saw.
fn unsolved_table(arms: &[Arm]) -> Table {
    let mut table = Table::new(
        "Questions that stay unsolved",
        [
            "feedback",
            "unsolved",
            "no answer",
            "repeats an answer",
            "same step wrong again",
            "another step wrong",
            "no step named",
            "resistance",
        ],
    )
    .note("Of the last attempt, beside the one before it. Resistance: share of the unsolved that answer wrongly though the feedback \
           was right and sufficient; an attempt without an answer counts as form, feedback that is at fault there is none. Repeating under greedy decoding after a bare `wrong` is no resistance: it brings nothing new.");
    for arm in arms {
        let unsolved: Vec<&Course> = arm.courses.iter().flatten().filter(|c| c.solved.is_none()).collect();
        let count = |of: &dyn Fn(&Course) -> bool| unsolved.iter().filter(|course| of(course)).count() as u64;
        table = table.row([
            Cell::Text(arm.name.clone()),
            Cell::Count(unsolved.len() as u64),
            Cell::Count(count(&|course| !course.answered)),
            Cell::Count(count(&Course::repeats)),
            Cell::Count(count(&|course| course.stuck() == Some(true))),
            Cell::Count(count(&|course| course.stuck() == Some(false))),
            Cell::Count(count(&|course| course.stuck().is_none())),
            match arm.sufficient && !unsolved.is_empty() {
                true => Cell::Percent(resistance(&unsolved)),
                false => Cell::Missing,
            },
        ]);
    }
    table
}

/// Share of unsolved questions that are unsolved because sufficient feedback was not followed.
fn resistance(unsolved: &[&Course]) -> f64 {
    let resists = |course: &&Course| unit(course.why() == WhyUnsolved::NotFollowing);
    mean(&unsolved.iter().map(resists).collect::<Vec<_>>())
}

/// How well each suspected cause tells, at round 0, which wrong answers are never repaired.
fn causes_table(
    step: &Arm,
    entropies: &[Vec<Option<f64>>],
    test: &[Problem],
    resampling: &Resampling,
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
        // Per model and question; nothing where the first answer is right.
        let row = |(m, q, course): (usize, usize, &Course)| {
            let value = if course.solved == Some(0) { None } else { value(m, q) };
            value.map(|value| (value, course.solved.is_none()))
        };
        let rows: Vec<Vec<Option<(f64, bool)>>> = step
            .courses
            .iter()
            .enumerate()
            .map(|(m, courses)| courses.iter().enumerate().map(|(q, course)| row((m, q, course))).collect())
            .collect();
        let of = |counts: &[u32], models: std::ops::Range<usize>| -> Option<f64> {
            let drawn = rows[models].iter().flat_map(|rows| {
                rows.iter().zip(counts).flat_map(|(row, &n)| std::iter::repeat_n(row, n as usize).flatten())
            });
            let (values, stays): (Vec<f64>, Vec<bool>) = drawn.copied().unzip();
            auroc(&values, &stays).ok().flatten()
        };
        let quick = Bootstrap { resamples: 1000, ..resampling.bootstrap };
        let found = Resampling { bootstrap: quick, ..*resampling }.counts("AUROC", test.len(), of)?;
        let count = rows.iter().flatten().flatten().count();
        let cell = found
            .map_or(Cell::Missing, |i| Cell::Text(format!("{:.3} [{:.3}, {:.3}]", i.value, i.low, i.high)));
        table = table.row([Cell::Text(name.into()), cell, Cell::Count(count as u64)]);
    }
    Ok(table)
}

fn plot(settings: &Settings, arms: &[&Arm]) -> Plot {
    let series = arms.iter().map(|arm| {
        let solved = |round: usize| (round as f64, mean(&arm.solved(round)));
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
        Course {
            solved: round,
            spent: Vec::new(),
            rounds: Vec::new(),
            wrong: Vec::new(),
            confidence: None,
            answered: true,
        }
    }

    /// 20 questions: 8 solved at once, then 4, 2 and 1 more: 0.40, 0.60, 0.70, 0.75, 0.75; with 11 of 12 pieces of feedback
    /// good the target is 0.95 and the gap at the end 0.20.
    #[test]
    fn the_numeric_example() {
        let rounds = [(Some(0), 8), (Some(1), 4), (Some(2), 2), (Some(3), 1), (None, 5)];
        let courses = rounds.iter().flat_map(|&(round, n)| std::iter::repeat_n(solved(round), n)).collect();
        let arm = Arm { courses: vec![courses], ..Arm::new("a", true) };
        let curve: Vec<f64> = (0..5).map(|round| mean(&arm.solved(round))).collect();
        for (found, wanted) in curve.iter().zip([0.40, 0.60, 0.70, 0.75, 0.75]) {
            assert!((found - wanted).abs() < 1e-12, "{curve:?}");
        }
        let wanted = target_accuracy(curve[0], 11.0 / 12.0);
        assert!((wanted - 0.95).abs() < 1e-12 && (wanted - curve[4] - 0.20).abs() < 1e-12);
        assert_eq!(mean(&arm.target()), 1.0, "with the exact verifier as the writer of feedback");
    }

    #[test]
    fn fresh_samples_stop_at_the_first_right_one() {
        let usage = Usage { calls: 1, prompt_tokens: 10, completion_tokens: 5, ..Usage::default() };
        let fresh = Fresh { right: vec![false, true, true], spent: vec![usage; 3], entropy: None };
        let course = fresh.course(1);
        assert_eq!((course.solved, course.spent.len()), (Some(1), 2));
        assert_eq!(course.spent[1].tokens(), 30, "what comes behind the right one is not paid for");
        let never = Fresh { right: vec![false; 3], spent: vec![usage; 3], entropy: None }.course(1);
        assert_eq!((never.solved, never.spent[2].calls), (None, 3));
    }

    #[test]
    fn fresh_samples_at_the_budget_of_novelty_sampling_are_drawn_and_paid_for_by_rounds() {
        let usage = Usage { calls: 1, prompt_tokens: 10, completion_tokens: 5, ..Usage::default() };
        let right = |at: usize| (0..7).map(|i| i == at).collect();
        // One sample, then three a round: the fourth is of round 1, the fifth of round 2.
        let course = |at| Fresh { right: right(at), spent: vec![usage; 7], entropy: None }.course(3);
        let rounds: Vec<Option<usize>> = [0, 3, 4, 9].map(|at| course(at).solved).to_vec();
        assert_eq!(rounds, [Some(0), Some(1), Some(2), None]);
        let spent = course(2).spent;
        assert_eq!(spent.iter().map(|s| (s.calls, s.tokens())).collect::<Vec<_>>(), [(1, 15), (2, 40)]);
        assert_eq!(course(9).spent.len(), 3);
    }

    #[test]
    fn a_step_that_is_not_named_is_not_the_same_step() {
        let course = |wrong: &[Option<usize>]| Course { wrong: wrong.to_vec(), ..solved(None) };
        assert_eq!(course(&[Some(0), Some(2), Some(2)]).stuck(), Some(true));
        assert_eq!(course(&[Some(2), Some(2), Some(1)]).stuck(), Some(false), "the last two attempts count");
        assert_eq!(course(&[Some(2), None, None]).stuck(), None);
        assert_eq!(course(&[Some(2)]).stuck(), None, "one attempt has none before it");
    }

    #[test]
    fn resistance_is_a_wrong_answer_after_sufficient_feedback() {
        let silent = Course { answered: false, ..solved(None) };
        assert_eq!((silent.why(), solved(None).why()), (WhyUnsolved::Format, WhyUnsolved::NotFollowing));
        assert_eq!(resistance(&[&silent, &solved(None), &solved(None), &solved(None)]), 0.75);
    }
}
