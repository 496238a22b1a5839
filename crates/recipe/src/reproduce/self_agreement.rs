//! Self-agreement (arXiv 2311.08154): a model counts the answers of its own samples, against votes over texts and over
//! normal forms, a choice of one response, and greedy decoding, in three scenarios of what is known beforehand.

use super::pool::{Arm, Asked, Drawing, Pool, arms_table, credit, draw, mean};
use super::resampling::{Resampling, smallest};
use super::{Findings, Reproduce};
use crate::RecipeError;
use crate::lab::counter::{
    COUNT_TOKENS, COUNTER, Question, choice_prompt, chosen, count_prompt, true_majority, voted,
};
use crate::lab::stream::{LONGEST, MixedStream, STREAM, Scenario, written_answer};
use elenchus_control::majority;
use elenchus_learn::policy::Policy;
use elenchus_learn::rollouts::mix;
use elenchus_measure::{Bootstrap, Cell, Interval, Table, compare_over_seeds};
use elenchus_task::{Skill, Split, Task};
use elenchus_trace::Problem;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;

/// Settings of the experiment.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// Test questions of each scenario, the kinds mixed.
    questions: usize,
    /// k: samples that are counted.
    samples: usize,
    /// Other numbers of counted samples, below k.
    counts: Vec<usize>,
    /// Temperature of the samples.
    temperature: f32,
    /// Other temperatures, for the second scenario.
    temperatures: Vec<f32>,
    /// Model seeds of the lab's checkpoint.
    seeds: Vec<u64>,
}

/// What a count of some samples of one question led to.
#[derive(Debug, Clone, Copy)]
struct Counted {
    /// Whether the answer that is returned is right.
    right: bool,
    /// Whether the reply names an answer of a sample; else the vote over texts is returned.
    valid: bool,
    /// Whether the reply names the true majority; `None` where there is no single one.
    faithful: Option<bool>,
    /// Whether the reply is right though no sample is: it can only have been solved anew.
    solved: bool,
}

/// One scenario of one checkpoint.
struct Bench<'a> {
    input: &'a Reproduce<'a>,
    task: MixedStream,
    scenario: Scenario,
    problems: Vec<Problem>,
    label: String,
}

impl Bench<'_> {
    fn ask(
        &self,
        policy: &mut dyn Policy,
        what: &str,
        drawing: Drawing,
        prompt: impl Fn(usize, &Problem) -> String,
    ) -> Result<Vec<Pool>, RecipeError> {
        let asked: Vec<Asked<'_>> = self
            .problems
            .iter()
            .enumerate()
            .map(|(q, problem)| Asked::new(problem, prompt(q, problem)))
            .collect();
        draw(self.input, policy, &self.task, &asked, drawing, &format!("{}/{what}", self.label))
    }

    fn solve(
        &self,
        policy: &mut dyn Policy,
        what: &str,
        samples: usize,
        temperature: f32,
    ) -> Result<Vec<Pool>, RecipeError> {
        let seed = mix(self.input.seed, 31 + (temperature * 100.0) as u64);
        let drawing = Drawing { samples, temperature, max_new_tokens: LONGEST, seed };
        self.ask(policy, what, drawing, |_, problem| Skill::Solve.prompt(problem, &[]))
    }

    /// The order in which the first samples of a question are shown.
    fn order(&self, question: usize, count: usize, turn: u64) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        let seed = mix(mix(self.input.seed, 50 + turn), question as u64);
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        order
    }

    /// Counts the first samples of every question, greedily.
    fn count(
        &self,
        policy: &mut dyn Policy,
        what: &str,
        pools: &[Pool],
        count: usize,
        place: Question,
        turn: u64,
    ) -> Result<(Arm, Vec<Counted>), RecipeError> {
        let replies = self.ask(policy, what, greedy(COUNT_TOKENS), |q, problem| {
            count_prompt(problem, &texts(&pools[q], &self.order(q, count, turn)), place)
        })?;
        let (mut arm, mut counted) = (Arm::default(), Vec::new());
        for (q, (pool, reply)) in pools.iter().zip(&replies).enumerate() {
            let found = judged(pool, &self.order(q, count, turn), &reply.samples[0].text, &self.problems[q]);
            arm.push(credit(found.right), pool.spent(count) + reply.spent(1));
            counted.push(found);
        }
        Ok((arm, counted))
    }

    /// Lets the model choose one of the first samples; the first of them where it names none.
    fn choose(
        &self,
        policy: &mut dyn Policy,
        pools: &[Pool],
        count: usize,
    ) -> Result<(Arm, f64), RecipeError> {
        let replies = self.ask(policy, "choice", greedy(4), |q, problem| {
            choice_prompt(problem, &texts(&pools[q], &self.order(q, count, 0)))
        })?;
        let (mut arm, mut named) = (Arm::default(), Vec::new());
        for (q, (pool, reply)) in pools.iter().zip(&replies).enumerate() {
            let order = self.order(q, count, 0);
            let pick = chosen(&reply.samples[0].text, count);
            let sample = order[pick.unwrap_or(0)];
            arm.push(credit(pool.samples[sample].correct), pool.spent(count) + reply.spent(1));
            named.push(credit(pick.is_some()));
        }
        Ok((arm, mean(&named)))
    }
}

fn greedy(max_new_tokens: usize) -> Drawing {
    Drawing { samples: 1, temperature: 0.0, max_new_tokens, seed: 1 }
}

fn texts<'a>(pool: &'a Pool, order: &[usize]) -> Vec<&'a str> {
    order.iter().map(|&sample| pool.samples[sample].text.as_str()).collect()
}

/// Reads a count. Samples carry their answers in digits; the reply is compared with those.
fn judged(pool: &Pool, order: &[usize], reply: &str, problem: &Problem) -> Counted {
    let answers: Vec<Option<&str>> = order.iter().map(|&s| pool.samples[s].answer.as_deref()).collect();
    let named = voted(reply);
    let of_a_sample = named.filter(|named| answers.contains(&Some(named)));
    let right = match of_a_sample {
        Some(answer) => problem.gold.as_deref() == Some(answer),
        None => by_text(pool, order.iter().copied()),
    };
    let gold = problem.gold.as_deref();
    Counted {
        right,
        valid: of_a_sample.is_some(),
        faithful: true_majority(&answers).filter(|m| m.unique).map(|m| named == Some(m.answer)),
        solved: named.is_some() && named == gold && !answers.contains(&gold),
    }
}

/// A vote over answers as they are written; ties go to the one seen first.
fn by_text(pool: &Pool, samples: impl Iterator<Item = usize>) -> bool {
    let samples: Vec<usize> = samples.collect();
    let answers: Vec<Option<&str>> = samples
        .iter()
        .map(|&s| Some(written_answer(&pool.samples[s].text)).filter(|answer| !answer.is_empty()))
        .collect();
    majority(&answers, |a, b| a == b).sample().is_some_and(|place| pool.samples[samples[place]].correct)
}

/// The vote over texts of the first samples of every question.
fn text_vote(pools: &[Pool], count: usize) -> Arm {
    let mut arm = Arm::default();
    for pool in pools {
        arm.push(credit(by_text(pool, 0..count)), pool.spent(count));
    }
    arm
}

/// The vote over answers in digits: what a program that knows all forms would do.
fn normal_vote(pools: &[Pool], count: usize) -> Arm {
    let mut arm = Arm::default();
    for pool in pools {
        let answers: Vec<Option<&str>> =
            pool.samples.iter().take(count).map(|sample| sample.answer.as_deref()).collect();
        let winner = majority(&answers, |a, b| a == b).sample();
        arm.push(credit(winner.is_some_and(|sample| pool.samples[sample].correct)), pool.spent(count));
    }
    arm
}

/// The arms of one scenario, each with a row per model seed.
#[derive(Default)]
struct Outcomes {
    arms: Vec<(String, Vec<Arm>)>,
    /// Per seed.
    counted: Vec<(String, Vec<Vec<Counted>>)>,
    choices_named: Vec<f64>,
}

impl Outcomes {
    fn add(&mut self, name: &str, arm: Arm) {
        match self.arms.iter_mut().find(|(known, _)| known == name) {
            Some((_, arms)) => arms.push(arm),
            None => self.arms.push((name.into(), vec![arm])),
        }
    }

    fn counted(&mut self, name: &str, counted: Vec<Counted>) {
        match self.counted.iter_mut().find(|(known, _)| known == name) {
            Some((_, all)) => all.push(counted),
            None => self.counted.push((name.into(), vec![counted])),
        }
    }

    /// Per seed and question.
    fn right(&self, name: &str) -> Vec<Vec<f64>> {
        let found = self.arms.iter().find(|(known, _)| known == name);
        found.map(|(_, arms)| arms.iter().map(|arm| arm.right.clone()).collect()).unwrap_or_default()
    }
}

const GREEDY: &str = "greedy (1 response)";
const TEXTS: &str = "vote over answers as written (k + 1)";
const NORMAL: &str = "vote over normal forms (k + 1)";
const CHOICE: &str = "choice of one response (k + 1)";
const AGREEMENT: &str = "self-agreement (k + 1)";

fn agreement(count: usize) -> String {
    format!("self-agreement, k = {count}")
}

fn at_temperature(name: &str, temperature: f32) -> String {
    format!("{name} at temperature {temperature}")
}

/// Runs the experiment.
pub(super) fn run(input: &Reproduce<'_>) -> Result<Findings, RecipeError> {
    let settings: Settings = input.settings()?;
    let k = settings.samples;
    let mut all: Vec<Outcomes> = Scenario::ALL.iter().map(|_| Outcomes::default()).collect();
    for (m, model) in input.models.iter().enumerate() {
        for &seed in &settings.seeds {
            let built = input.lab_model(COUNTER, model, seed)?;
            let mut policy = built.load()?.policy();
            for (scenario, outcomes) in Scenario::ALL.into_iter().zip(&mut all) {
                let task = MixedStream::new(scenario)?;
                let problems = task.problems(Split::Test, settings.questions, mix(input.seed, 21))?;
                let label = format!("{m}/{seed}/{scenario:?}");
                let bench = Bench { input, task, scenario, problems, label };
                measure(&bench, &mut policy, &settings, k, outcomes)?;
            }
        }
    }
    findings(input, &settings, &all)
}

fn measure(
    bench: &Bench<'_>,
    policy: &mut dyn Policy,
    settings: &Settings,
    k: usize,
    outcomes: &mut Outcomes,
) -> Result<(), RecipeError> {
    let first = bench.solve(policy, "greedy", 1, 0.0)?;
    outcomes.add(GREEDY, normal_vote(&first, 1));
    let pools = bench.solve(policy, "samples", k + 1, settings.temperature)?;
    outcomes.add(TEXTS, text_vote(&pools, k + 1));
    outcomes.add(NORMAL, normal_vote(&pools, k + 1));
    let (choice, named) = bench.choose(policy, &pools, k)?;
    outcomes.add(CHOICE, choice);
    outcomes.choices_named.push(named);
    let (arm, counted) = bench.count(policy, "count", &pools, k, Question::InFront, 0)?;
    outcomes.add(AGREEMENT, arm);
    outcomes.counted(AGREEMENT, counted);
    for &count in settings.counts.iter().filter(|&&count| count < k) {
        let name = agreement(count);
        let (arm, counted) = bench.count(policy, &name, &pools, count, Question::InFront, 0)?;
        outcomes.add(&name, arm);
        outcomes.counted(&name, counted);
    }
    for (name, place, turn) in [
        ("another order", Question::InFront, 1),
        ("question behind", Question::Behind, 0),
        ("no question", Question::LeftOut, 0),
    ] {
        let (arm, counted) = bench.count(policy, name, &pools, k, place, turn)?;
        outcomes.add(name, arm);
        outcomes.counted(name, counted);
    }
    if bench.scenario == Scenario::FormatKnown {
        for &temperature in &settings.temperatures {
            let what = format!("samples at {temperature}");
            let pools = bench.solve(policy, &what, k + 1, temperature)?;
            outcomes.add(&at_temperature(TEXTS, temperature), text_vote(&pools, k + 1));
            let name = at_temperature(AGREEMENT, temperature);
            let (arm, counted) = bench.count(policy, &name, &pools, k, Question::InFront, 0)?;
            outcomes.add(&name, arm);
            outcomes.counted(&name, counted);
        }
    }
    Ok(())
}

/// 1 for each count that names the true majority.
fn faithful(counted: &[Counted]) -> Vec<f64> {
    counted.iter().map(|c| credit(c.faithful == Some(true))).collect()
}

/// Share of counts that name the true majority, over those with a single one, with its interval; seed behind seed.
fn fidelity(resampling: &Resampling, counted: &[Counted]) -> Result<Option<Interval>, RecipeError> {
    resampling.mean_where(&faithful(counted), |place| counted[place].faithful.is_some())
}

fn findings(input: &Reproduce<'_>, settings: &Settings, all: &[Outcomes]) -> Result<Findings, RecipeError> {
    let bootstrap = Bootstrap::default().seed(mix(input.seed, 99));
    let mut findings = Findings::default();
    let [unknown, format, known] = all else { return Ok(findings) };
    let resampling = Resampling::new(bootstrap, unknown.right(AGREEMENT).len());
    let difference = |a: &[Vec<f64>], b: &[Vec<f64>]| -> Result<Interval, RecipeError> {
        Ok(super::wider(&compare_over_seeds("a", a, "b", b, &bootstrap)?.difference))
    };
    let pair = |outcomes: &Outcomes, a: &str, b: &str| difference(&outcomes.right(a), &outcomes.right(b));
    let mut claim = |id: &str, interval: Option<Interval>| {
        if let Some(interval) = interval {
            findings.estimates.insert(id.to_string(), interval);
        }
    };
    // Seed behind seed, in each all scenarios.
    let counts = |name: &str| -> Vec<Counted> {
        let found: Vec<_> =
            all.iter().flat_map(|outcomes| &outcomes.counted).filter(|(known, _)| known == name).collect();
        let of_seed = |seed: usize| found.iter().filter_map(move |(_, counted)| counted.get(seed)).flatten();
        (0..resampling.seeds).flat_map(of_seed).copied().collect()
    };
    claim("fidelity", fidelity(&resampling, &counts(AGREEMENT))?);
    claim("unknown-over-texts", Some(pair(unknown, AGREEMENT, TEXTS)?));
    claim("format-over-texts", Some(pair(format, AGREEMENT, TEXTS)?));
    claim("known-near-vote", Some(pair(known, AGREEMENT, NORMAL)?));
    let over =
        |b: &str| all.iter().map(|outcomes| pair(outcomes, AGREEMENT, b)).collect::<Result<Vec<_>, _>>();
    claim("over-greedy", smallest(over(GREEDY)?));
    // All scenarios one behind the other, per seed.
    let joined = |name: &str| -> Vec<Vec<f64>> {
        let mut rows: Vec<Vec<f64>> = vec![Vec::new(); unknown.right(name).len()];
        for outcomes in all {
            rows.iter_mut().zip(outcomes.right(name)).for_each(|(row, right)| row.extend(right));
        }
        rows
    };
    claim("over-choice", Some(difference(&joined(AGREEMENT), &joined(CHOICE))?));
    let mut sizes: Vec<usize> = settings.counts.iter().copied().filter(|&c| c < settings.samples).collect();
    sizes.sort_unstable();
    if let (Some(&fewest), Some(&most)) = (sizes.first(), sizes.last()) {
        let at = |count: usize| joined(&agreement(count));
        claim("rises", Some(difference(&joined(AGREEMENT), &at(fewest))?));
        if fewest < most {
            let gain = |to: &[Vec<f64>], from: &[Vec<f64>]| -> Vec<Vec<f64>> {
                to.iter().zip(from).map(|(t, f)| t.iter().zip(f).map(|(t, f)| t - f).collect()).collect()
            };
            let (early, late) = (gain(&at(most), &at(fewest)), gain(&joined(AGREEMENT), &at(most)));
            claim("levels", Some(difference(&early, &late)?));
        }
    }
    let mut over_texts = Vec::new();
    for &temperature in &settings.temperatures {
        let name = |arm| at_temperature(arm, temperature);
        over_texts.push(pair(format, &name(AGREEMENT), &name(TEXTS))?);
    }
    claim("temperatures", smallest(over_texts));
    claim("reworded", Some(difference(&joined("question behind"), &joined(AGREEMENT))?));
    // The same samples, so the same questions have a single majority.
    let (with, without) = (counts(AGREEMENT), counts("no question"));
    let less: Vec<f64> = faithful(&without).iter().zip(faithful(&with)).map(|(a, b)| a - b).collect();
    claim("counts-not-solves", resampling.mean_where(&less, |place| with[place].faithful.is_some())?);

    for (outcomes, title) in all.iter().zip([
        "Scenario 1: kind of question and form of answer unknown",
        "Scenario 2: kind of question unknown, a sign before the answer",
        "Scenario 3: both known, answers in digits behind a sign",
    ]) {
        let flat: Vec<(String, Arm)> = outcomes
            .arms
            .iter()
            .map(|(name, arms)| {
                let mut flat = Arm::default();
                for arm in arms {
                    flat.right.extend(&arm.right);
                    flat.spent.extend(&arm.spent);
                }
                (name.clone(), flat)
            })
            .collect();
        let arms: Vec<(String, &Arm)> = flat.iter().map(|(name, arm)| (name.clone(), arm)).collect();
        let note = format!(
            "k = {}; k + 1 responses in every arm that says so, the same samples in all. Normal forms: a program that knows every form, which the method does not have.",
            settings.samples
        );
        findings.tables.push(arms_table(title, &note, "accuracy", &resampling, &arms)?);
    }
    findings.tables.push(counts_table(all, &resampling)?);
    let named: Vec<f64> = all.iter().flat_map(|outcomes| outcomes.choices_named.iter().copied()).collect();
    findings.notes.push(format!(
        "The counter is the lab's `{COUNTER}`, made from `{STREAM}`: a model this small cannot follow the instruction, so it \
         learned the vote task on its own samples of training questions with their true majority as target, and as many \
         choices of one response. {} kinds of questions in a stream; answers as `49`, `49coins`, `so49coins`, `four-nine` \
         (digits read out). A choice names a response of the list in {:.1} % of the cases.",
        MixedStream::KINDS.len(),
        100.0 * mean(&named)
    ));
    findings.notes.push(
        "A reply that names no answer of a sample is replaced by the vote over answers as written, in all scenarios. Reworded: \
         the question stands behind the responses, which the model never saw in training. Not run: a smaller model."
            .into(),
    );
    Ok(findings)
}

/// How well the counts of each form count.
fn counts_table(all: &[Outcomes], resampling: &Resampling) -> Result<Table, RecipeError> {
    let mut table = Table::new(
        "Counts",
        ["scenario", "count", "names the true majority", "names an answer of a sample", "solves anew"],
    )
    .note("The true majority is that of normal forms, where there is a single one. Solves anew: names the right answer though no sample has it.");
    for (outcomes, scenario) in all.iter().zip(["1", "2", "3"]) {
        for (name, counted) in &outcomes.counted {
            let counted = counted.concat();
            let share = |of: &dyn Fn(&Counted) -> bool| -> Vec<f64> {
                counted.iter().map(|counted| credit(of(counted))).collect()
            };
            let faithful = fidelity(resampling, &counted)?;
            table = table.row([
                scenario.into(),
                Cell::Text(name.clone()),
                faithful.map_or(Cell::Missing, Cell::PercentInterval),
                Cell::PercentInterval(resampling.mean(&share(&|c| c.valid))?),
                Cell::PercentInterval(resampling.mean(&share(&|c| c.solved))?),
            ]);
        }
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::stream::normal_answer;
    use crate::reproduce::pool::Sample;

    /// The five answers of the sheet in the notation of the stream; 6 is right.
    fn sheet() -> (Pool, Problem) {
        let texts = ["e=3+3=6;6coins", "6", "8", "so6coins", "8"];
        let sample = |text: &&str| {
            let answer = normal_answer(written_answer(text));
            Sample {
                text: (*text).to_string(),
                correct: answer.as_deref() == Some("6"),
                answer,
                tokens: 2,
                sum_logprob: -1.0,
            }
        };
        let pool = Pool { prompt_tokens: 4, samples: texts.iter().map(sample).collect() };
        (pool, Problem::new("p", STREAM, "q").with_gold("6"))
    }

    /// 20 chains of 150 tokens, a question of 120 and the instruction of 180: 3300 tokens in the last prompt.
    #[test]
    fn the_last_prompt_of_the_sheet() {
        use elenchus_control::{EstimateInput, SelfAgreement, SelfAgreementSettings, Strategy};
        let strategy =
            SelfAgreement::new(SelfAgreementSettings { samples: 20, ..Default::default() }).unwrap();
        let found = strategy.estimate(&EstimateInput { prompt_tokens: 120, completion_tokens: 150 });
        assert_eq!(
            (found.usage.calls, found.usage.prompt_tokens - 120),
            (2, 3300),
            "k samples are one request"
        );
    }

    #[test]
    fn a_vote_over_texts_says_8_and_one_over_normal_forms_6() {
        let (pool, _) = sheet();
        let pools = [pool];
        assert_eq!((text_vote(&pools, 5).right[0], normal_vote(&pools, 5).right[0]), (0.0, 1.0));
        assert_eq!(text_vote(&pools, 5).mean_spent().responses, 5.0);
    }

    #[test]
    fn a_count_is_read_and_its_faults_are_told_apart() {
        let (pool, problem) = sheet();
        let order = [3, 1, 4, 0, 2];
        let good = judged(&pool, &order, "6:1,6:2,8:1,6:3,8:2#6", &problem);
        assert!(good.right && good.valid && !good.solved && good.faithful == Some(true));
        let other = judged(&pool, &order, "6:1,6:2,8:1,6:3,8:2#8", &problem);
        assert!(!other.right && other.valid && other.faithful == Some(false));
        let strange = judged(&pool, &order, "6:1#7", &problem);
        assert!(!strange.valid && !strange.right, "7 is the answer of no sample: the vote over texts says 8");
        let silent = judged(&pool, &order, "6:1", &problem);
        assert!(!silent.valid && silent.faithful == Some(false));
        let wrong_samples = judged(&pool, &[2, 4], "8:1,8:2#6", &problem);
        assert!(
            wrong_samples.solved && !wrong_samples.valid && !wrong_samples.right,
            "solving anew does not count"
        );
        assert_eq!(judged(&pool, &[0, 2], "6:1,8:1#6", &problem).faithful, None, "a tie has no majority");
    }
}
