//! FOBAR (arXiv 2308.07758): votes times a backward check, against votes alone with as many chains.

use super::pool::{Arm, Asked, Drawing, Pool, Spent, arms_table, credit, draw, mean};
use super::resampling::Resampling;
use super::{Findings, Reproduce};
use crate::{RecipeError, models};
use elenchus_control::{
    Backward, FobarSettings, Fusion, backward_questions, forward_backward, majority, usable_masks,
};
use elenchus_learn::NativePolicy;
use elenchus_learn::rollouts::mix;
use elenchus_measure::{Axis, Bootstrap, Cell, Chart, Interval, Plot, Scale, Section, Series, Table};
use elenchus_task::{Skill, Split, Task};
use elenchus_trace::Problem;
use serde::Deserialize;
use serde_json::Value;

/// Settings of the experiment.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The checkpoint of the lab that solves in both directions; `given` takes the given model itself.
    model: String,
    /// Its seeds; each answers the same questions.
    seeds: Vec<u64>,
    /// Settings of the task `arithmetic`.
    #[serde(default)]
    task: Value,
    /// Test questions.
    questions: usize,
    /// Forward chains M_F.
    samples: usize,
    /// Backward chains M_B per hidden number and candidate.
    backward_samples: usize,
    /// Most candidates that are checked, those with the most votes. The others keep their votes and have no hits.
    candidates: usize,
    /// Temperature, forward and backward.
    temperature: f32,
    /// Weights α of the forward share.
    alphas: Vec<f64>,
    /// Numbers of chains of the curve of the vote.
    votes: Vec<usize>,
}

const LENGTH: usize = 160;

/// Backward chains of one candidate and hidden number: which of them find the number.
struct Tries {
    hits: Vec<bool>,
    /// Whether the true final value determines the hidden number.
    unique: bool,
    spent: Spent,
}

/// One question with all its chains.
struct Question {
    /// Forward chains: the first M_F decide, the others stand for the same budget spent on votes.
    forward: Pool,
    /// First sample of each candidate, by falling votes.
    candidates: Vec<usize>,
    /// Of all parsed answers: the forward share is one of these, whatever is checked.
    votes: Vec<usize>,
    /// `[candidate][hidden number]`, of the candidates that are checked; they stand in front.
    tries: Vec<Vec<Tries>>,
}

/// The candidates among the first chains: first sample and votes of each distinct answer, most votes first.
fn candidates(forward: &Pool, samples: usize) -> (Vec<usize>, Vec<usize>) {
    let answers: Vec<Option<&str>> =
        forward.samples.iter().take(samples).map(|s| s.answer.as_deref()).collect();
    let vote = majority(&answers, |a, b| a == b);
    let mut groups: Vec<usize> = (0..vote.counts.len()).collect();
    groups.sort_by_key(|&group| std::cmp::Reverse(vote.counts[group]));
    groups.iter().map(|&g| (vote.groups.first[g], vote.counts[g])).unzip()
}

/// How a question is decided.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Rule {
    alpha: f64,
    fusion: Fusion,
    /// Backward chains that count, of those drawn.
    backward_samples: usize,
    /// Hidden numbers that count.
    masks: usize,
}

impl Question {
    /// Backward hits of each candidate.
    fn hits(&self, rule: Rule) -> Vec<usize> {
        let found = |tries: &Tries| tries.hits.iter().take(rule.backward_samples).filter(|hit| **hit).count();
        self.tries.iter().map(|tries| tries.iter().take(rule.masks).map(found).sum()).collect()
    }

    /// Whether the candidate with the largest weight is right; without candidates nothing is.
    fn right(&self, rule: Rule) -> f64 {
        let settings = FobarSettings { alpha: rule.alpha, fusion: rule.fusion, ..FobarSettings::default() };
        let checked = self.tries.iter().any(|tries| !tries.is_empty());
        let weights = match checked {
            true => forward_backward(&self.votes, &self.hits(rule), &settings),
            false => self.votes.iter().map(|&votes| votes as f64).collect(),
        };
        let best = elenchus_control::heaviest(&weights);
        credit(best.is_some_and(|best| self.forward.samples[self.candidates[best]].correct))
    }

    /// Whether one of the candidates that are checked is right.
    fn within_reach(&self) -> f64 {
        let checked = self.candidates.iter().take(self.tries.len());
        credit(checked.into_iter().any(|&sample| self.forward.samples[sample].correct))
    }

    /// A vote over the first `count` forward chains.
    fn voted(&self, count: usize) -> f64 {
        let answers: Vec<Option<&str>> =
            self.forward.samples.iter().take(count).map(|s| s.answer.as_deref()).collect();
        let chosen = majority(&answers, |a, b| a == b).sample();
        credit(chosen.is_some_and(|sample| self.forward.samples[sample].correct))
    }

    /// What the method costs: the forward chains and all backward ones.
    fn spent(&self, samples: usize) -> Spent {
        self.tries.iter().flatten().fold(self.forward.spent(samples), |sum, tries| sum + tries.spent)
    }

    /// Chains of the method in all: what the vote gets, too.
    fn chains(&self, samples: usize) -> usize {
        samples + self.tries.iter().flatten().map(|tries| tries.hits.len()).sum::<usize>()
    }
}

/// Runs the experiment.
pub(super) fn run(input: &Reproduce<'_>) -> Result<Findings, RecipeError> {
    let settings: Settings = input.settings()?;
    let task = elenchus_task::task("arithmetic", &settings.task)?;
    let task = task.as_ref();
    let problems = task.problems(Split::Test, settings.questions, mix(input.seed, 12))?;
    let mut questions: Vec<Question> = Vec::new();
    for (m, name) in input.models.iter().enumerate() {
        for &seed in &settings.seeds {
            let mut policy = match settings.model.as_str() {
                "given" => models::load(name)?.policy(),
                trained => input.lab_model(trained, name, seed)?.load()?.policy(),
            };
            questions.extend(played(input, &settings, &mut policy, task, &problems, &format!("{m}/{seed}"))?);
        }
    }
    findings(input, &settings, &questions)
}

/// All questions with the chains of one model, forward and backward.
fn played(
    input: &Reproduce<'_>,
    settings: &Settings,
    policy: &mut NativePolicy,
    task: &dyn Task,
    problems: &[Problem],
    label: &str,
) -> Result<Vec<Question>, RecipeError> {
    let drawing = Drawing {
        samples: settings.samples,
        temperature: settings.temperature,
        max_new_tokens: LENGTH,
        seed: mix(input.seed, 22),
    };
    let asked: Vec<Asked<'_>> =
        problems.iter().map(|problem| Asked::new(problem, Skill::Solve.prompt(problem, &[]))).collect();
    let mut forward = draw(input, policy, task, &asked, drawing, &format!("{label}/forward"))?;
    // Every (question, candidate, hidden number) is one backward problem.
    let mut places: Vec<(usize, usize, bool)> = Vec::new();
    let mut hidden: Vec<Problem> = Vec::new();
    let mut found = Vec::with_capacity(problems.len());
    for (q, (problem, pool)) in problems.iter().zip(&forward).enumerate() {
        let (first, votes) = candidates(pool, settings.samples);
        let checked = first.iter().take(settings.candidates);
        let answers: Vec<&str> = checked.filter_map(|&s| pool.samples[s].answer.as_deref()).collect();
        if answers.len() > 1 {
            let asked: Vec<Vec<Backward>> =
                answers.iter().map(|answer| backward_questions(task, problem, answer)).collect();
            for mask in usable_masks(&asked, &answers, usize::MAX) {
                for (candidate, backward) in asked.iter().enumerate() {
                    let problem = &backward[mask].problem;
                    let unique = problem.data.get("unique").and_then(Value::as_bool).unwrap_or(true);
                    places.push((q, candidate, unique));
                    hidden.push(problem.clone());
                }
            }
        }
        found.push((first, votes));
    }
    let backward: Vec<Asked<'_>> =
        hidden.iter().map(|problem| Asked::new(problem, Skill::Backward.prompt(problem, &[]))).collect();
    let drawing = Drawing { samples: settings.backward_samples, seed: mix(input.seed, 23), ..drawing };
    let pools = draw(input, policy, task, &backward, drawing, &format!("{label}/backward"))?;
    let mut tries: Vec<Vec<Vec<Tries>>> = found
        .iter()
        .map(|(first, _)| first.iter().take(settings.candidates).map(|_| Vec::new()).collect())
        .collect();
    for (&(q, candidate, unique), pool) in places.iter().zip(&pools) {
        let hits: Vec<bool> = pool.samples.iter().map(|sample| sample.correct).collect();
        let spent = pool.spent(hits.len());
        tries[q][candidate].push(Tries { hits, unique, spent });
    }
    // The same budget spent on votes: as many further forward chains as there are backward ones, and enough for
    // the curve.
    let curve = settings.votes.iter().copied().max().unwrap_or(0);
    let more: Vec<Asked<'_>> = problems
        .iter()
        .zip(&tries)
        .map(|(problem, tries)| {
            let checks = tries.iter().flatten().map(|tries| tries.hits.len()).sum::<usize>();
            let samples = Some(checks.max(curve.saturating_sub(settings.samples)));
            Asked { samples, ..Asked::new(problem, Skill::Solve.prompt(problem, &[])) }
        })
        .collect();
    let drawing = Drawing { seed: mix(input.seed, 24), ..drawing };
    let further = draw(input, policy, task, &more, drawing, &format!("{label}/more forward"))?;
    for (pool, further) in forward.iter_mut().zip(further) {
        pool.samples.extend(further.samples);
    }
    let parts = forward.into_iter().zip(found).zip(tries);
    Ok(parts
        .map(|((forward, (candidates, votes)), tries)| Question { forward, candidates, votes, tries })
        .collect())
}

fn findings(
    input: &Reproduce<'_>,
    settings: &Settings,
    questions: &[Question],
) -> Result<Findings, RecipeError> {
    let seeds = input.models.len() * settings.seeds.len();
    let resampling = Resampling::new(Bootstrap::default().seed(mix(input.seed, 99)), seeds);
    let mut findings = Findings::default();
    let paper = Rule {
        alpha: 0.5,
        fusion: Fusion::Geometric,
        backward_samples: settings.backward_samples,
        masks: usize::MAX,
    };
    let samples = settings.samples;
    let right = |rule: Rule| -> Vec<f64> { questions.iter().map(|q| q.right(rule)).collect() };
    let voted = |count: usize| -> Vec<f64> { questions.iter().map(|q| q.voted(count)).collect() };
    let same_budget: Vec<f64> = questions.iter().map(|q| q.voted(q.chains(samples))).collect();
    let disputed = |q: usize| questions[q].candidates.len() > 1;
    let fobar = right(paper);
    let on_disputed = |left: &[f64], right: &[f64]| {
        let difference: Vec<f64> = left.iter().zip(right).map(|(l, r)| l - r).collect();
        resampling.mean_where(&difference, disputed)
    };
    let claims: [(&str, Vec<f64>, Vec<f64>); 5] = [
        ("over-vote", fobar.clone(), same_budget.clone()),
        ("over-forward", fobar.clone(), voted(samples)),
        ("over-backward", fobar.clone(), right(Rule { alpha: 0.0, ..paper })),
        ("all-numbers", fobar.clone(), right(Rule { masks: 1, ..paper })),
        ("geometric", fobar.clone(), right(Rule { fusion: Fusion::Arithmetic, ..paper })),
    ];
    for (id, left, right) in &claims {
        if let Some(interval) = on_disputed(left, right)? {
            findings.estimates.insert((*id).into(), interval);
        }
    }
    let more = right(Rule { backward_samples: 1, ..paper });
    if let Some(interval) = on_disputed(&fobar, &more)? {
        findings.estimates.insert("more-backward".into(), interval);
    }
    if let (Some(&few), Some(&many)) = (settings.votes.iter().min(), settings.votes.iter().max()) {
        let rise = resampling.paired(&voted(many), &voted(few))?;
        findings.estimates.insert(
            "vote-is-flat".into(),
            Interval {
                value: 0.005 - rise.value.abs(),
                low: 0.005 - rise.low.abs().max(rise.high.abs()),
                high: 0.005,
            },
        );
    }
    let by_alpha: Vec<(f64, Vec<f64>)> =
        settings.alphas.iter().map(|&alpha| (alpha, right(Rule { alpha, ..paper }))).collect();
    let best = |inside: bool| {
        let mut rows = by_alpha.iter().filter(|(alpha, _)| (*alpha > 0.0 && *alpha < 1.0) == inside);
        let first = rows.next()?;
        Some(rows.fold(first, |best, row| if mean(&row.1) > mean(&best.1) { row } else { best }))
    };
    if let (Some(inside), Some(end)) = (best(true), best(false)) {
        findings.estimates.insert("alpha-inside".into(), resampling.paired(&inside.1, &end.1)?);
    }
    mechanism(questions, &resampling, &mut findings)?;

    let mut arms: Vec<(String, Arm)> = Vec::new();
    let mut arm = |name: String, right: &[f64], spent: &dyn Fn(&Question) -> Spent| {
        let mut arm = Arm::default();
        for (q, question) in questions.iter().enumerate() {
            arm.push(right[q], spent(question));
        }
        arms.push((name, arm));
    };
    arm(format!("vote of {samples}"), &voted(samples), &|q| q.forward.spent(samples));
    for &count in &settings.votes {
        arm(format!("vote of {count}"), &voted(count), &|q| q.forward.spent(count));
    }
    arm("vote, as many chains as FOBAR".into(), &same_budget, &|q| q.forward.spent(q.chains(samples)));
    arm("FOBAR".into(), &fobar, &|q| q.spent(samples));
    arm("backward alone (alpha = 0)".into(), &right(Rule { alpha: 0.0, ..paper }), &|q| q.spent(samples));
    let arithmetic = right(Rule { fusion: Fusion::Arithmetic, ..paper });
    arm("FOBAR, arithmetic mean".into(), &arithmetic, &|q| q.spent(samples));
    let everyone: Vec<(String, &Arm)> = arms.iter().map(|(name, arm)| (name.clone(), arm)).collect();
    let note = "Per question; backward chains are drawn only where the forward ones disagree.";
    findings.tables.push(arms_table("All questions", note, "accuracy", &resampling, &everyone)?);
    let kept: Vec<(String, Arm)> = arms
        .iter()
        .map(|(name, arm)| {
            let mut only = Arm::default();
            (0..questions.len()).filter(|&q| disputed(q)).for_each(|q| only.push(arm.right[q], arm.spent[q]));
            (name.clone(), only)
        })
        .collect();
    let kept: Vec<(String, &Arm)> = kept.iter().map(|(name, arm)| (name.clone(), arm)).collect();
    let note = "Questions with two candidates or more.";
    findings.tables.push(arms_table(
        "Questions on which the chains disagree",
        note,
        "accuracy",
        &resampling,
        &kept,
    )?);

    let mut sweep = Table::new("Settings, on disputed questions", ["setting", "value", "accuracy"]);
    let mut points = Vec::new();
    for (alpha, right) in &by_alpha {
        let Some(interval) = resampling.mean_where(right, disputed)? else { continue };
        points.push((*alpha, interval));
        sweep = sweep.row(["alpha".into(), Cell::Number(*alpha, 2), Cell::PercentInterval(interval)]);
    }
    let mut count = 1;
    while count <= settings.backward_samples {
        let right = right(Rule { backward_samples: count, ..paper });
        if let Some(interval) = resampling.mean_where(&right, disputed)? {
            sweep = sweep.row(["M_B".into(), Cell::Count(count as u64), Cell::PercentInterval(interval)]);
        }
        count *= 2;
    }
    for masks in [1, 2, usize::MAX] {
        let right = right(Rule { masks, ..paper });
        if let Some(interval) = resampling.mean_where(&right, disputed)? {
            let shown = if masks == usize::MAX { "all".to_string() } else { masks.to_string() };
            sweep = sweep.row(["hidden numbers".into(), Cell::Text(shown), Cell::PercentInterval(interval)]);
        }
    }
    findings.tables.push(sweep);
    findings.sections.push(Section::plots(
        "Accuracy by the weight of the forward share",
        vec![Plot::new(
            "Accuracy by the weight of the forward share",
            "Disputed questions; 0 is the backward check alone, 1 the vote.",
            Chart::Line {
                x: Axis::new("alpha", Scale::Number),
                y: Axis::new("accuracy", Scale::Percent),
                series: vec![Series::new("FOBAR", points)],
            },
        )],
    ));
    let answered = |question: &Question| credit(question.forward.samples.first().is_some_and(|s| s.correct));
    let forward = mean(&questions.iter().map(answered).collect::<Vec<_>>());
    let share = mean(&(0..questions.len()).map(|q| credit(disputed(q))).collect::<Vec<_>>());
    findings.notes.push(format!(
        "One forward chain is right in {:.1} % of the questions; the chains disagree on {:.1} % of them.",
        100.0 * forward,
        100.0 * share
    ));
    let within: Vec<f64> =
        questions.iter().filter(|q| q.candidates.len() > 1).map(Question::within_reach).collect();
    findings.notes.push(format!(
        "Where they disagree, a candidate that is checked is right in {:.1} %: no weighing of what was drawn can be right more often.",
        100.0 * mean(&within)
    ));
    findings.notes.push(format!(
        "At most {} candidates of a question are checked, those with the most votes. The forward share is of all parsed answers.",
        settings.candidates
    ));
    findings.notes.push(
        "The product of the two shares orders candidates as their geometric mean does. A statement rewritten from \
         question and answer is not compared: the compact notation has one form of a given answer."
            .into(),
    );
    Ok(findings)
}

/// How often the hidden number is found when the candidate is right, and when it is wrong.
fn mechanism(
    questions: &[Question],
    resampling: &Resampling,
    findings: &mut Findings,
) -> Result<(), RecipeError> {
    // Per question: hits and tries of right candidates, hits and tries of wrong ones, for all and for unique numbers.
    let sums = |unique_only: bool| -> Vec<[f64; 4]> {
        questions
            .iter()
            .map(|question| {
                let mut row = [0.0; 4];
                for (&first, tries) in question.candidates.iter().zip(&question.tries) {
                    let side = if question.forward.samples[first].correct { 0 } else { 2 };
                    for tries in tries.iter().filter(|tries| tries.unique || !unique_only) {
                        row[side] += tries.hits.iter().filter(|hit| **hit).count() as f64;
                        row[side + 1] += tries.hits.len() as f64;
                    }
                }
                row
            })
            .collect()
    };
    let gap = |[a, b, c, d]: [f64; 4]| (b > 0.0 && d > 0.0).then(|| a / b - c / d);
    let mut table = Table::new("Finding the hidden number", ["numbers", "candidate right", "candidate wrong", "gap"])
        .note("Share of backward chains; the interval is over questions and seeds. Unique: determined by the true final value.");
    for (name, unique_only) in [("all", false), ("unique", true)] {
        let rows = sums(unique_only);
        let Some(interval) = resampling.sums("recovery", &rows, gap)? else { continue };
        let right = resampling.sums("recovery", &rows, |[a, b, ..]| (b > 0.0).then(|| a / b))?;
        let wrong = resampling.sums("recovery", &rows, |[.., c, d]| (d > 0.0).then(|| c / d))?;
        let cell = |interval: Option<Interval>| interval.map_or(Cell::Missing, Cell::PercentInterval);
        table = table.row([name.into(), cell(right), cell(wrong), Cell::Points(interval)]);
        if !unique_only {
            findings.estimates.insert("mechanism".into(), interval);
        }
    }
    findings.tables.push(table);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reproduce::pool::Sample;

    /// Votes 18 : 20 : 9 = 5 : 4 : 1 and hits 2, 13, 1 of 2 × 8 chains: the numbers of the sheet; 20 is right.
    fn sheet() -> Question {
        let answers = ["18", "20", "9", "18", "20", "18", "18", "20", "20", "18"];
        let sample = |answer: &&str| Sample {
            text: format!("#{answer}"),
            answer: Some((*answer).to_string()),
            correct: *answer == "20",
            tokens: 1,
            sum_logprob: -1.0,
        };
        let forward = Pool { prompt_tokens: 3, samples: answers.iter().map(sample).collect() };
        let (candidates, votes) = candidates(&forward, 10);
        let tries = [2usize, 13, 1].map(|hits| {
            let part = |found: usize| Tries {
                hits: (0..8).map(|i| i < found).collect(),
                unique: true,
                spent: Spent { responses: 8.0, written: 16.0, read: 3.0, prefill: 24.0 },
            };
            vec![part(hits.min(8)), part(hits.saturating_sub(8))]
        });
        Question { forward, candidates, votes, tries: tries.into() }
    }

    const PAPER: Rule =
        Rule { alpha: 0.5, fusion: Fusion::Geometric, backward_samples: 8, masks: usize::MAX };

    #[test]
    fn the_sheet_s_question() {
        let question = sheet();
        assert_eq!(
            (question.votes.as_slice(), question.hits(PAPER).as_slice()),
            (&[5, 4, 1][..], &[2, 13, 1][..])
        );
        assert_eq!((question.voted(10), question.right(PAPER)), (0.0, 1.0), "the vote says 18, the check 20");
        assert_eq!(question.right(Rule { alpha: 1.0, ..PAPER }), 0.0, "alpha = 1 is the vote");
        assert_eq!(question.within_reach(), 1.0, "20 is right and checked");
        assert_eq!(question.chains(10), 10 + 3 * 2 * 8);
        assert_eq!(question.spent(10), Spent { responses: 58.0, written: 106.0, read: 21.0, prefill: 174.0 });
        assert_eq!(question.hits(Rule { masks: 1, ..PAPER }), [2, 8, 1]);
        assert_eq!(question.hits(Rule { backward_samples: 1, ..PAPER }), [1, 2, 1]);
    }

    #[test]
    fn the_forward_share_is_of_all_parsed_answers_whatever_is_checked() {
        // Only 18 and 20 are checked: 9 keeps its vote, so the shares are 0.5 and 0.4 and not 5/9 and 4/9.
        let mut question = sheet();
        question.tries.truncate(2);
        assert_eq!(
            (question.votes.as_slice(), question.hits(PAPER).as_slice()),
            (&[5, 4, 1][..], &[2, 13][..])
        );
        let weights = |question: &Question| {
            let settings = FobarSettings { alpha: 1.0, ..FobarSettings::default() };
            forward_backward(&question.votes, &question.hits(PAPER), &settings)
        };
        for (found, wanted) in weights(&question).iter().zip([0.5, 0.4, 0.1]) {
            assert!((found - wanted).abs() < 1e-9, "{found} is not {wanted}");
        }
        assert_eq!(question.right(PAPER), 1.0);
    }

    #[test]
    fn without_hits_or_checks_the_vote_decides() {
        let mut question = sheet();
        question.tries.truncate(1);
        assert_eq!(question.within_reach(), 0.0, "only 18 is checked");
        let mut question = sheet();
        question.tries.iter_mut().flatten().for_each(|tries| tries.hits.fill(false));
        assert_eq!(question.right(PAPER), 0.0);
        question.tries.iter_mut().for_each(Vec::clear);
        assert_eq!((question.right(Rule { alpha: 0.0, ..PAPER }), question.chains(10)), (0.0, 10));
    }

    #[test]
    fn the_gap_between_right_and_wrong_candidates() {
        let mut findings = Findings::default();
        mechanism(&[sheet(), sheet()], &Resampling::new(Bootstrap::default(), 1), &mut findings).unwrap();
        let gap = findings.estimates["mechanism"].value;
        assert!((gap - (13.0 / 16.0 - 3.0 / 32.0)).abs() < 1e-12, "{gap}");
    }
}
