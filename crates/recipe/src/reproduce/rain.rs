//! RAIN (arXiv 2309.07124) on the task `rules`: does a model that judges its own beginnings keep a rule more often than
//! it does by sampling, by rejection and by best-of-n with the same judge at as many generated and judged tokens, and is
//! it as helpful?

use super::asked::{Asked, mean, unit};
use super::pool::{Asked as Prompted, Drawing, Pool, Sample, draw};
use super::resampling::Resampling;
use super::{Findings, Reproduce};
use crate::RecipeError;
use crate::lab::rules::{Excerpt, excerpt, kept};
use async_trait::async_trait;
use elenchus_control::{Rain, RainSettings, Single, SingleSettings, Strategy};
use elenchus_evaluate::{EvaluateError, EvaluateInput, Evaluator, Judge, JudgeSettings, Needs};
use elenchus_learn::NativePolicy;
use elenchus_learn::policy::{Policy, text_row};
use elenchus_learn::rollouts::mix;
use elenchus_measure::{Bootstrap, Cell, Interval, Table};
use elenchus_task::rules::{Request, Rules, RulesSettings};
use elenchus_task::{Skill, Split, Task};
use elenchus_trace::{Answer, Feedback, NodeKind, Problem};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
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
    /// Samples of best-of-n at most, whatever RAIN spends.
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
const SEARCHES: [&str; 6] =
    ["RAIN", "one order of labels", "no shared values", "no added children", "no rewinding", "random judge"];
const RAIN: usize = 0;
const ONE_ORDER: usize = 1;
const NOT_SHARED: usize = 2;
const NOT_WIDENED: usize = 3;
const NOT_REWOUND: usize = 4;
const COIN: usize = 5;

fn searching(arm: usize, settings: &RainSettings, seed: u64) -> Result<Rain, RecipeError> {
    let mut settings = settings.clone();
    match arm {
        ONE_ORDER => settings.judge.swap = false,
        NOT_SHARED => settings.share = 0.0,
        NOT_WIDENED => settings.most_children = settings.children,
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
            let vanilla = bench.vanilla(&problems)?;
            let shown: Vec<(&Problem, &str)> =
                problems.iter().zip(&vanilla).map(|(p, reply)| (p, reply.text.as_str())).collect();
            let told = bench.judge("whole replies", &shown)?;
            let right = |(told, reply): (&Feedback, &Reply)| {
                told.score.map(|score| unit((score > 0.5) == reply.kept))
            };
            found.whole.extend(told.iter().zip(&vanilla).filter_map(right));
            let rain = bench.search(RAIN, &problems)?;
            // As many samples as RAIN's tokens pay for, on the average over requests.
            let one = mean_of(&vanilla, |reply| reply.generated as f64)
                + mean(&told.iter().map(|told| told.usage.tokens() as f64).collect::<Vec<_>>());
            let samples = (mean_of(&rain, |reply| reply.spent() as f64) / one.max(1.0)).ceil() as usize;
            let samples = samples.clamp(1, settings.most_samples);
            found.samples.push(samples as f64);
            let (best, rejection) = bench.chosen(&problems, samples)?;
            for (into, replies) in found.perplexity.iter_mut().zip([&vanilla, &best, &rain]) {
                into.push(bench.perplexity(&problems, replies)?);
            }
            found.long.extend(problems.iter().map(|p| Request::of(p).is_ok_and(|r| r.things == most)));
            found.plain.extend(vanilla.iter().take(few.len()).cloned());
            found.ablations[RAIN].extend(rain.iter().take(few.len()).cloned());
            for arm in 1..SEARCHES.len() {
                let replies = bench.search(arm, few)?;
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
    report(input, &settings, &found)
}

fn mean_of(replies: &[Reply], of: impl Fn(&Reply) -> f64) -> f64 {
    mean(&replies.iter().map(of).collect::<Vec<_>>())
}

fn keeps(replies: &[Reply]) -> Vec<f64> {
    replies.iter().map(|reply| unit(reply.kept)).collect()
}

fn completes(replies: &[Reply]) -> Vec<f64> {
    replies.iter().map(|reply| unit(reply.completed)).collect()
}

/// Replies that differ in what they advise, whatever they were asked, as a share.
fn distinct(replies: &[Reply]) -> f64 {
    let advice: HashSet<&str> = replies
        .iter()
        .map(|r| r.text.rsplit_once(",then").map_or(r.text.as_str(), |(advice, _)| advice))
        .collect();
    advice.len() as f64 / replies.len().max(1) as f64
}

fn report(input: &Reproduce<'_>, settings: &Settings, found: &Found) -> Result<Findings, RecipeError> {
    let seeds = input.models.len() * settings.seeds.len();
    let resampling = Resampling::new(Bootstrap::default().seed(mix(input.seed, 54)), seeds);
    let mut findings = Findings::default();
    let long = |replies: &[Reply]| -> Vec<f64> {
        replies.iter().zip(&found.long).filter(|(_, long)| **long).map(|(r, _)| unit(r.kept)).collect()
    };
    let difference = |left: &[f64], right: &[f64]| resampling.paired(left, right);
    let (vanilla, rain, best) = (keeps(&found.vanilla), keeps(&found.rain), keeps(&found.best));
    let mut tell = |id: &str, interval: Interval| findings.estimates.insert(id.into(), interval);
    tell("over-vanilla", difference(&rain, &vanilla)?);
    if found.long.contains(&true) {
        tell("over-best-of-n-long", difference(&long(&found.rain), &long(&found.best))?);
    }
    tell("over-best-of-n", difference(&rain, &best)?);
    tell("over-rejection", difference(&rain, &keeps(&found.rejection))?);
    tell("helpful", difference(&completes(&found.rain), &completes(&found.vanilla))?);
    let method = keeps(&found.ablations[RAIN]);
    for (arm, id) in [
        (ONE_ORDER, "both-orders"),
        (NOT_SHARED, "shared-values"),
        (NOT_WIDENED, "added-children"),
        (NOT_REWOUND, "rewinding"),
    ] {
        tell(id, difference(&method, &keeps(&found.ablations[arm]))?);
    }
    let plain = keeps(&found.plain);
    let chance = difference(&keeps(&found.ablations[COIN]), &plain)?;
    // What is left of 5 points: a judge that knows nothing must not gain.
    tell(
        "random-judge",
        Interval { value: 0.05 - chance.value, low: 0.05 - chance.high, high: 0.05 - chance.low },
    );
    let gain =
        |rain: &[f64], plain: &[f64]| -> Vec<f64> { rain.iter().zip(plain).map(|(r, p)| r - p).collect() };
    let small = gain(&keeps(&found.small_rain), &keeps(&found.small_vanilla));
    tell("larger-model", difference(&gain(&method, &plain), &small)?);
    let judged = resampling.mean(&found.excerpts)?;
    // Between 75 and 95 %: how far inside the range the accuracy lies.
    let inside = |x: f64| (x - 0.75).min(0.95 - x);
    let (low, high) = (inside(judged.low), inside(judged.high));
    tell("judge-accuracy", Interval { value: inside(judged.value), low: low.min(high), high: low.max(high) });

    let spent = |replies: &[Reply]| mean_of(replies, |reply| reply.spent() as f64);
    let ratio = spent(&found.rain) / mean_of(&found.vanilla, |reply| reply.generated as f64).max(1.0);
    let mut table = Table::new(
        "Replies",
        ["arm", "keep the rule", "of the longest", "complete the task", "both", "clauses", "generated", "judged", "reread"],
    )
    .note(format!(
        "Tokens per request. Generated and judged ones are as many for best-of-n as for RAIN ({:.0} samples); rejection stops \
         early. RAIN spends {ratio:.0} times what a single reply takes to write.",
        mean(&found.samples)
    ));
    for (name, replies) in [
        ("vanilla", &found.vanilla),
        ("rejection until judged good", &found.rejection),
        ("best-of-n, same judge", &found.best),
        ("RAIN", &found.rain),
    ] {
        let both: Vec<f64> = replies.iter().map(|reply| unit(reply.kept && reply.completed)).collect();
        let longest = long(replies);
        table = table.row([
            Cell::Text(name.into()),
            Cell::PercentInterval(resampling.mean(&keeps(replies))?),
            if longest.is_empty() { Cell::Text("–".into()) } else { Cell::Percent(mean(&longest)) },
            Cell::PercentInterval(resampling.mean(&completes(replies))?),
            Cell::Percent(mean(&both)),
            Cell::Number(mean_of(replies, |reply| reply.clauses as f64), 1),
            Cell::Number(mean_of(replies, |reply| reply.generated as f64), 0),
            Cell::Number(mean_of(replies, |reply| reply.judged as f64), 0),
            Cell::Number(mean_of(replies, |reply| reply.reread as f64), 0),
        ]);
    }
    findings.tables.push(table);
    let mut searches = Table::new(
        "Searches",
        [
            "arm",
            "keep the rule",
            "RAIN minus it",
            "complete the task",
            "generated",
            "judged",
            "searches",
            "sets",
        ],
    )
    .note("On the requests of the ablations, with the same model and settings but for one thing.");
    for (name, replies) in SEARCHES.iter().zip(&found.ablations) {
        searches = searches.row([
            Cell::Text((*name).into()),
            Cell::PercentInterval(resampling.mean(&keeps(replies))?),
            Cell::Points(difference(&method, &keeps(replies))?),
            Cell::Percent(mean(&completes(replies))),
            Cell::Number(mean_of(replies, |reply| reply.generated as f64), 0),
            Cell::Number(mean_of(replies, |reply| reply.judged as f64), 0),
            Cell::Number(mean_of(replies, |reply| reply.searches as f64), 1),
            Cell::Number(mean_of(replies, |reply| reply.committed as f64), 1),
        ]);
    }
    findings.tables.push(searches);
    let models = Table::new("Judges", ["model", "right about excerpts", "vanilla keeps", "RAIN keeps", "gain, points"])
        .note(format!(
            "Excerpts are of validation requests: most of them beginnings, judged by the whole reply. About whole replies \
             of its own the larger model is right in {:.1} % of {}.",
            100.0 * mean(&found.whole),
            found.whole.len()
        ))
        .row([
            Cell::Text(settings.checkpoints[0].clone()),
            Cell::PercentInterval(judged),
            Cell::Percent(mean(&plain)),
            Cell::Percent(mean(&method)),
            Cell::Points(difference(&method, &plain)?),
        ])
        .row([
            Cell::Text(settings.checkpoints[1].clone()),
            Cell::PercentInterval(resampling.mean(&found.small_excerpts)?),
            Cell::Percent(mean(&keeps(&found.small_vanilla))),
            Cell::Percent(mean(&keeps(&found.small_rain))),
            Cell::Points(difference(&keeps(&found.small_rain), &keeps(&found.small_vanilla))?),
        ]);
    findings.tables.push(models);
    let mut texts = Table::new("Texts", ["arm", "perplexity", "distinct advice"]).note(
        "Perplexity per token under the model itself, mean over models. Distinct: of all requests together.",
    );
    let arms = [("vanilla", &found.vanilla), ("best-of-n, same judge", &found.best), ("RAIN", &found.rain)];
    for ((name, replies), perplexity) in arms.into_iter().zip(&found.perplexity) {
        texts = texts.row([
            Cell::Text(name.into()),
            Cell::Number(mean(perplexity), 2),
            Cell::Percent(distinct(replies)),
        ]);
    }
    findings.tables.push(texts);
    findings.notes.push(
        "The exact rule says only in the end whether a reply keeps it; what searches, rejects and chooses is the model's own \
         judgement, learned from replies to training requests. The judge's labels are of whole replies, so its judgement of \
         a beginning says where that leads."
            .into(),
    );
    findings.notes.push(
        "Models are made anew for the task, of 0.8 and 0.1 million numbers (the sheet asks for 1 to 10 million). Not looked \
         at: adversarial prompts, truthfulness, free text of instruction-tuned models."
            .into(),
    );
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choosing_among_judged_samples() {
        let told = |scores: &[Option<f64>]| -> Vec<Feedback> {
            scores
                .iter()
                .map(|score| match score {
                    Some(score) => Feedback::score("judge", *score),
                    None => Feedback::abstain("judge", "unreadable"),
                })
                .collect()
        };
        let pick = |scores: &[Option<f64>]| pick(&told(scores).iter().collect::<Vec<_>>());
        assert_eq!(pick(&[Some(0.2), Some(0.6), Some(0.9)]), (2, 1));
        assert_eq!(pick(&[None, Some(0.4), Some(0.3)]), (1, 2), "nothing is judged good: the last");
        assert_eq!(pick(&[None, None]), (0, 1), "an abstention is no score");
    }

    #[test]
    fn ablations_change_one_thing_each() {
        let whole = RainSettings::default();
        for (arm, name) in SEARCHES.iter().enumerate() {
            let strategy = searching(arm, &whole, 1).unwrap();
            assert_eq!(strategy.name(), "rain", "{name}");
            // The coin judges without a model, every other arm asks the judge.
            assert_eq!(strategy.needs().roles.iter().any(|role| role.role == "judge"), arm != COIN, "{name}");
        }
    }

    #[test]
    fn spending_counts_the_samples_that_were_drawn() {
        let task = Rules::new(RulesSettings::default()).unwrap();
        let problem = task.problems(Split::Train, 1, 1).unwrap().remove(0);
        let sample = |text: &str, tokens| Sample {
            text: text.into(),
            answer: None,
            correct: false,
            tokens,
            sum_logprob: -1.0,
        };
        let pool = Pool { prompt_tokens: 7, samples: vec![sample("goshed", 3), sample("gobarn", 5)] };
        let mut feedback = Feedback::score("judge", 0.5);
        feedback.usage.prompt_tokens = 20;
        let told = [&feedback, &feedback];
        let all = paid(&task, &problem, &pool, &told, 1, 2).unwrap();
        assert_eq!((all.text.as_str(), all.generated, all.judged, all.spent()), ("gobarn", 8, 40, 48));
        let first = paid(&task, &problem, &pool, &told, 0, 1).unwrap();
        assert_eq!((first.generated, first.judged), (3, 20), "rejection stops there");
    }
}
