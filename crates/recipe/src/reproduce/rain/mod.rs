//! RAIN (arXiv 2309.07124) on the task `rules`: does a model that judges its own beginnings keep a rule more often than
//! it does by sampling, by rejection and by best-of-n with the same judge at as many generated and judged tokens, and is
//! it as helpful?

mod report;

use super::asked::{Asked, mean, unit};
use super::pool::{Asked as Prompted, Drawing, Pool, Sample, draw};
use super::{Findings, Reproduce};
use crate::RecipeError;
use crate::lab::rules::{Excerpt, excerpt, kept};
use async_trait::async_trait;
use elenchus_control::{Rain, RainSettings, Single, SingleSettings, Strategy};
use elenchus_evaluate::{EvaluateError, EvaluateInput, Evaluator, Judge, JudgeSettings, Needs};
use elenchus_learn::NativePolicy;
use elenchus_learn::policy::{Encode, Policy, text_row};
use elenchus_learn::rollouts::mix;
use elenchus_task::rules::{Request, Rules, RulesSettings};
use elenchus_task::{Skill, Split, Task};
use elenchus_trace::{Answer, Feedback, NodeKind, Problem};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;

/// Settings of the experiment.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// Test requests of the main arms.
    questions: usize,
    /// How many of them the ablations see.
    ablation_questions: usize,
    /// The lab's checkpoints: that of all arms, and a smaller one to compare its gain with.
    checkpoints: [String; 2],
    /// Model seeds of the lab's checkpoints.
    seeds: Vec<u64>,
    /// Samples of best-of-n at most, whatever RAIN spends; also those among which replies as long as RAIN's are looked for.
    most_samples: usize,
    /// Validation excerpts on which the judge's accuracy is measured.
    excerpts: usize,
    /// The method.
    rain: RainSettings,
}

/// One finished reply and what was spent on it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Reply {
    text: String,
    kept: bool,
    completed: bool,
    clauses: usize,
    /// Tokens of the reply itself.
    length: usize,
    /// Tokens that were written.
    generated: u64,
    /// Tokens that the judge read and wrote.
    judged: u64,
    /// Tokens of the text so far that calls read again: a server with a prefix cache computes none of them anew.
    reread: u64,
    searches: u64,
    committed: u64,
}

impl Reply {
    fn of(task: &Rules, problem: &Problem, text: &str) -> Result<Self, RecipeError> {
        let ruling = task.ruling(problem, text)?;
        Ok(Reply {
            text: text.to_string(),
            kept: ruling.kept(),
            completed: ruling.completed,
            clauses: task.steps(problem, text).len(),
            ..Reply::default()
        })
    }

    /// What arms are made equal in.
    fn spent(&self) -> u64 {
        self.generated + self.judged
    }
}

/// A judge that knows nothing: two votes by a coin that depends on the text.
struct Coin {
    seed: u64,
}

#[async_trait]
impl Evaluator for Coin {
    fn name(&self) -> &'static str {
        "coin"
    }

    fn summary(&self) -> &'static str {
        "chance, as a control"
    }

    fn needs(&self) -> Needs {
        Needs::default()
    }

    async fn evaluate(&self, input: EvaluateInput<'_>) -> Result<Vec<Feedback>, EvaluateError> {
        let toss = |text: &str| {
            let hash = blake3::hash(format!("{}\0{text}", self.seed).as_bytes());
            f64::from(hash.as_bytes()[0] & 1) / 2.0 + f64::from(hash.as_bytes()[1] & 1) / 2.0
        };
        let tossed = input.candidates.iter().map(|c| Feedback::score("coin", toss(&c.completion.text)));
        Ok(tossed.collect())
    }
}

/// The arms that search, by name and change; the first is the method itself.
const SEARCHES: [&str; 7] = [
    "RAIN",
    "one order of labels",
    "no shared values",
    "no added children",
    "no rewinding",
    "random judge",
    "probabilities, not votes",
];
const RAIN: usize = 0;
const ONE_ORDER: usize = 1;
const NOT_SHARED: usize = 2;
const NOT_WIDENED: usize = 3;
const NOT_REWOUND: usize = 4;
const COIN: usize = 5;
const PROBABLE: usize = 6;

fn searching(arm: usize, settings: &RainSettings, seed: u64) -> Result<Rain, RecipeError> {
    let mut settings = settings.clone();
    match arm {
        ONE_ORDER => settings.judge.swap = false,
        NOT_SHARED => settings.share = 0.0,
        NOT_WIDENED => settings.most_children = settings.children,
        // A judge that is not sure says so: v = 2·(p − ½) with p the mean of both orders.
        PROBABLE => settings.judge.vote = false,
        // The first child that was looked at is committed, whatever was seen.
        NOT_REWOUND => (settings.least_visits, settings.enough) = (0, -1.5),
        _ => {}
    }
    Ok(match arm {
        COIN => Rain::with_evaluator(settings, Arc::new(Coin { seed }))?,
        _ => Rain::new(settings)?,
    })
}

/// What the search wrote down of its spending.
fn account(answer: &Answer) -> Option<(u64, u64, u64, u64)> {
    let data = answer.trace.nodes.iter().rev().find_map(|node| match &node.kind {
        NodeKind::Decided { data, .. } if data.get("account").is_some() => Some(data),
        _ => None,
    })?;
    let of = |name: &str| data["account"][name].as_u64();
    Some((of("generated_tokens")?, of("judged_tokens")?, of("searches")?, data["commits"].as_u64()?))
}

/// One model of the lab, ready to be asked and to be looked at.
struct Bench<'a> {
    input: &'a Reproduce<'a>,
    settings: &'a Settings,
    task: &'a Rules,
    asked: Asked<'a>,
    policy: NativePolicy,
    label: String,
    seed: u64,
}

impl<'a> Bench<'a> {
    fn new(
        input: &'a Reproduce<'a>,
        settings: &'a Settings,
        task: &'a Rules,
        checkpoint: &str,
        base: &str,
        seed: u64,
    ) -> Result<Self, RecipeError> {
        let built = input.lab_model(checkpoint, base, seed)?;
        let asked = Asked::new(input, &built.folder.to_string_lossy())?;
        let policy = built.load()?.policy();
        Ok(Bench { input, settings, task, asked, policy, label: format!("{checkpoint}/{base}/{seed}"), seed })
    }

    fn search(&self, arm: usize, problems: &[Problem]) -> Result<Vec<Reply>, RecipeError> {
        let strategy = searching(arm, &self.settings.rain, self.seed)?;
        let label = format!("{}/{}", self.label, SEARCHES[arm]);
        self.asked.answers(&label, &strategy as &dyn Strategy, self.task, problems, |problem, answer| {
            let Some((generated, judged, searches, committed)) = account(&answer) else {
                return Err(self.input.refuse("RAIN's trace has no account"));
            };
            let reply = Reply::of(self.task, problem, &answer.text)?;
            let reread = answer.usage.tokens().saturating_sub(generated + judged);
            Ok(Reply { generated, judged, reread, searches, committed, ..reply })
        })
    }

    /// One sample at temperature 1.
    fn vanilla(&self, problems: &[Problem]) -> Result<Vec<Reply>, RecipeError> {
        let mut settings = SingleSettings::default();
        settings.draw.temperature = Some(1.0);
        settings.draw.top_p = Some(1.0);
        settings.draw.max_tokens = self.settings.rain.draw.max_tokens;
        let single = Single::new(settings)?;
        let label = format!("{}/vanilla", self.label);
        self.asked.answers(&label, &single, self.task, problems, |problem, answer| {
            let (generated, reread) = (answer.usage.completion_tokens, answer.usage.prompt_tokens);
            Ok(Reply { generated, reread, ..Reply::of(self.task, problem, &answer.text)? })
        })
    }

    /// The same judge on whole replies: its probability, not its votes, so that many replies have an order.
    fn judge(&self, label: &str, texts: &[(&Problem, &str)]) -> Result<Vec<Feedback>, RecipeError> {
        let settings =
            JudgeSettings { vote: false, examples: Vec::new(), ..self.settings.rain.judge.clone() };
        let judge = Judge::new(settings).map_err(elenchus_control::ControlError::from)?;
        self.asked.feedback(&format!("{}/{label}", self.label), &judge, self.task, texts)
    }

    /// Best-of-n and rejection among the same samples: what the judge likes best, and the first that it calls kept.
    fn chosen(
        &mut self,
        problems: &[Problem],
        samples: usize,
    ) -> Result<(Vec<Reply>, Vec<Reply>), RecipeError> {
        let asked: Vec<Prompted<'_>> =
            problems.iter().map(|p| Prompted::new(p, Skill::Solve.prompt(p, &[]))).collect();
        let drawing = Drawing {
            samples,
            temperature: 1.0,
            max_new_tokens: self.settings.rain.draw.max_tokens as usize,
            seed: mix(self.input.seed, mix(self.seed, 40)),
        };
        let label = format!("{}/samples", self.label);
        let pools = draw(self.input, &mut self.policy, self.task, &asked, drawing, &label)?;
        // A text is judged once, and paid for as often as it was drawn.
        let mut unique: Vec<(&Problem, &str)> = Vec::new();
        let mut places: Vec<HashMap<&str, usize>> = Vec::new();
        for (problem, pool) in problems.iter().zip(&pools) {
            let mut known = HashMap::new();
            for sample in &pool.samples {
                known.entry(sample.text.as_str()).or_insert_with(|| {
                    unique.push((problem, sample.text.as_str()));
                    unique.len() - 1
                });
            }
            places.push(known);
        }
        let feedback = self.judge("best-of-n", &unique)?;
        let (mut best, mut first) = (Vec::new(), Vec::new());
        for ((problem, pool), known) in problems.iter().zip(&pools).zip(&places) {
            let told: Vec<&Feedback> = pool
                .samples
                .iter()
                .filter_map(|sample| known.get(sample.text.as_str()).and_then(|at| feedback.get(*at)))
                .collect();
            let (b, f) = pick(&told);
            best.push(paid(self.task, problem, pool, &told, b, pool.samples.len())?);
            first.push(paid(self.task, problem, pool, &told, f, f + 1)?);
        }
        Ok((best, first))
    }

    /// Of many samples of a request the one whose length is nearest to that of a given reply: what is due to length alone.
    fn as_long(&mut self, problems: &[Problem], replies: &[Reply]) -> Result<Vec<Reply>, RecipeError> {
        let asked: Vec<Prompted<'_>> =
            problems.iter().map(|p| Prompted::new(p, Skill::Solve.prompt(p, &[]))).collect();
        let drawing = Drawing {
            samples: self.settings.most_samples,
            temperature: 1.0,
            max_new_tokens: self.settings.rain.draw.max_tokens as usize,
            seed: mix(self.input.seed, mix(self.seed, 41)),
        };
        let label = format!("{}/samples as long", self.label);
        let pools = draw(self.input, &mut self.policy, self.task, &asked, drawing, &label)?;
        let mut found = Vec::with_capacity(problems.len());
        for ((problem, pool), reply) in problems.iter().zip(&pools).zip(replies) {
            let lengths = pool
                .samples
                .iter()
                .map(|sample| Ok(self.policy.encode(&sample.text)?.len()))
                .collect::<Result<Vec<usize>, RecipeError>>()?;
            let chosen = nearest(&lengths, reply.length);
            let sample = &pool.samples[chosen];
            let of = Reply::of(self.task, problem, &sample.text)?;
            found.push(Reply { generated: sample.tokens as u64, length: lengths[chosen], ..of });
        }
        Ok(found)
    }

    /// Writes down how long replies are.
    fn measured(&self, replies: &mut [Reply]) -> Result<(), RecipeError> {
        for reply in replies {
            reply.length = self.policy.encode(&reply.text)?.len();
        }
        Ok(())
    }

    /// Mean log-probability per token of the replies under the model itself, as a perplexity.
    fn perplexity(&mut self, problems: &[Problem], replies: &[Reply]) -> Result<f64, RecipeError> {
        let rows = problems
            .iter()
            .zip(replies)
            .filter(|(_, reply)| !reply.text.is_empty())
            .map(|(problem, reply)| text_row(&self.policy, &Skill::Solve.prompt(problem, &[]), &reply.text))
            .collect::<Result<Vec<_>, _>>()?;
        let scored = self.policy.logprobs(&rows)?;
        let (sum, count) =
            scored.iter().flatten().fold((0.0, 0usize), |(s, n), &l| (s + f64::from(l), n + 1));
        Ok((-sum / count.max(1) as f64).exp())
    }
}

/// The place of the first length that is nearest to `wanted`.
fn nearest(lengths: &[usize], wanted: usize) -> usize {
    let places = lengths.iter().enumerate();
    places.min_by_key(|(_, length)| length.abs_diff(wanted)).map_or(0, |(place, _)| place)
}

/// The sample with the highest probability, and the first above one half (else the last): where the judge abstains a
/// sample is neither.
fn pick(told: &[&Feedback]) -> (usize, usize) {
    let score = |place: usize| told.get(place).and_then(|feedback| feedback.score);
    let best = (0..told.len()).fold(None, |best: Option<(usize, f64)>, place| match score(place) {
        Some(new) if best.is_none_or(|(_, old)| new > old) => Some((place, new)),
        _ => best,
    });
    let first = (0..told.len()).find(|place| score(*place).is_some_and(|score| score > 0.5));
    (best.map_or(0, |(place, _)| place), first.unwrap_or(told.len().saturating_sub(1)))
}

/// A sample as the reply, with the cost of the first `drawn` of its pool and of their judgements.
fn paid(
    task: &Rules,
    problem: &Problem,
    pool: &Pool,
    told: &[&Feedback],
    chosen: usize,
    drawn: usize,
) -> Result<Reply, RecipeError> {
    let text = pool.samples.get(chosen).map(|sample: &Sample| sample.text.as_str()).unwrap_or_default();
    Ok(Reply {
        generated: pool.samples.iter().take(drawn).map(|sample| sample.tokens as u64).sum(),
        judged: told.iter().take(drawn).map(|feedback| feedback.usage.tokens()).sum(),
        reread: pool.prompt_tokens as u64,
        ..Reply::of(task, problem, text)?
    })
}

/// Everything found, over models and seeds, request by request.
#[derive(Default)]
struct Found {
    vanilla: Vec<Reply>,
    best: Vec<Reply>,
    rejection: Vec<Reply>,
    rain: Vec<Reply>,
    /// Samples that are as long as RAIN's replies.
    as_long: Vec<Reply>,
    /// Whether a request is one of the longest.
    long: Vec<bool>,
    /// By search arm, on the first requests of each model; `RAIN` and vanilla there, too.
    ablations: Vec<Vec<Reply>>,
    plain: Vec<Reply>,
    small_vanilla: Vec<Reply>,
    small_rain: Vec<Reply>,
    /// Whether the judge is right about excerpts and about whole replies; the same of the small model.
    excerpts: Vec<f64>,
    whole: Vec<f64>,
    small_excerpts: Vec<f64>,
    perplexity: [Vec<f64>; 3],
    samples: Vec<f64>,
}

fn accuracy(
    policy: &mut NativePolicy,
    task: &Rules,
    count: usize,
    seed: u64,
) -> Result<Vec<f64>, RecipeError> {
    let mut random = ChaCha8Rng::seed_from_u64(mix(seed, 5));
    let excerpts: Vec<Excerpt> = task
        .problems(Split::Validation, count, mix(seed, 6))?
        .into_iter()
        .map(|problem| excerpt(task, problem, &mut random))
        .collect::<Result<_, _>>()?;
    let told = kept(policy, &excerpts)?;
    Ok(told.iter().zip(&excerpts).map(|(p, e)| unit((*p > 0.5) == e.ruling.kept())).collect())
}

/// Runs the experiment.
pub(super) fn run(input: &Reproduce<'_>) -> Result<Findings, RecipeError> {
    let settings: Settings = input.settings()?;
    let task = Rules::new(RulesSettings::default())?;
    let problems = task.problems(Split::Test, settings.questions, mix(input.seed, 31))?;
    let few = &problems[..settings.ablation_questions.min(problems.len())];
    let [large, small] = &settings.checkpoints;
    let [_, most] = RulesSettings::default().things;
    let mut found = Found { ablations: vec![Vec::new(); SEARCHES.len()], ..Found::default() };
    for base in input.models {
        for &seed in &settings.seeds {
            let mut bench = Bench::new(input, &settings, &task, large, base, seed)?;
            found.excerpts.extend(accuracy(&mut bench.policy, &task, settings.excerpts, input.seed)?);
            let mut vanilla = bench.vanilla(&problems)?;
            bench.measured(&mut vanilla)?;
            let shown: Vec<(&Problem, &str)> =
                problems.iter().zip(&vanilla).map(|(p, reply)| (p, reply.text.as_str())).collect();
            let told = bench.judge("whole replies", &shown)?;
            let right = |(told, reply): (&Feedback, &Reply)| {
                told.score.map(|score| unit((score > 0.5) == reply.kept))
            };
            found.whole.extend(told.iter().zip(&vanilla).filter_map(right));
            let mut rain = bench.search(RAIN, &problems)?;
            bench.measured(&mut rain)?;
            // As many samples as RAIN's tokens pay for, on the average over requests.
            let one = report::mean_of(&vanilla, |reply| reply.generated as f64)
                + mean(&told.iter().map(|told| told.usage.tokens() as f64).collect::<Vec<_>>());
            let samples =
                (report::mean_of(&rain, |reply| reply.spent() as f64) / one.max(1.0)).ceil() as usize;
            let samples = samples.clamp(1, settings.most_samples);
            found.samples.push(samples as f64);
            let (mut best, mut rejection) = bench.chosen(&problems, samples)?;
            bench.measured(&mut best)?;
            bench.measured(&mut rejection)?;
            found.as_long.extend(bench.as_long(&problems, &rain)?);
            for (into, replies) in found.perplexity.iter_mut().zip([&vanilla, &best, &rain]) {
                into.push(bench.perplexity(&problems, replies)?);
            }
            found.long.extend(problems.iter().map(|p| Request::of(p).is_ok_and(|r| r.things == most)));
            found.plain.extend(vanilla.iter().take(few.len()).cloned());
            found.ablations[RAIN].extend(rain.iter().take(few.len()).cloned());
            for arm in 1..SEARCHES.len() {
                let mut replies = bench.search(arm, few)?;
                bench.measured(&mut replies)?;
                found.ablations[arm].extend(replies);
            }
            found.vanilla.extend(vanilla);
            found.best.extend(best);
            found.rejection.extend(rejection);
            found.rain.extend(rain);
            let mut small = Bench::new(input, &settings, &task, small, base, seed)?;
            found.small_excerpts.extend(accuracy(&mut small.policy, &task, settings.excerpts, input.seed)?);
            found.small_vanilla.extend(small.vanilla(few)?);
            found.small_rain.extend(small.search(RAIN, few)?);
        }
    }
    report::report(input, &settings, &found)
}

#[cfg(test)]
mod tests;
