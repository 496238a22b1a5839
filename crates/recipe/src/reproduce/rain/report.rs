//! The claims and tables.

use super::{
    COIN, Found, NOT_REWOUND, NOT_SHARED, NOT_WIDENED, ONE_ORDER, PROBABLE, RAIN, Reply, SEARCHES, Settings,
};
use crate::RecipeError;
use crate::reproduce::asked::{mean, unit};
use crate::reproduce::resampling::Resampling;
use crate::reproduce::{Findings, Reproduce};
use elenchus_learn::rollouts::mix;
use elenchus_measure::{Bootstrap, Cell, Interval, Table};
use std::collections::HashSet;

pub(super) fn mean_of(replies: &[Reply], of: impl Fn(&Reply) -> f64) -> f64 {
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

pub(super) fn report(
    input: &Reproduce<'_>,
    settings: &Settings,
    found: &Found,
) -> Result<Findings, RecipeError> {
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
    tell("over-length", difference(&rain, &keeps(&found.as_long))?);
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
    tell("probabilities", difference(&keeps(&found.ablations[PROBABLE]), &method)?);
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
        ["arm", "keep the rule", "of the longest", "complete the task", "both", "clauses", "length", "generated", "judged", "reread"],
    )
    .note(format!(
        "Tokens per request. Length: of the reply. As long as RAIN's: of {} samples the one nearest in length, without a judge. Generated and judged ones are as many for best-of-n as for RAIN ({:.0} samples); rejection stops \
         early. RAIN spends {ratio:.0} times what a single reply takes to write.",
        settings.most_samples,
        mean(&found.samples)
    ));
    for (name, replies) in [
        ("vanilla", &found.vanilla),
        ("rejection until judged good", &found.rejection),
        ("best-of-n, same judge", &found.best),
        ("RAIN", &found.rain),
        ("sampled, as long as RAIN's", &found.as_long),
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
            Cell::Number(mean_of(replies, |reply| reply.length as f64), 1),
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
            "length",
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
            Cell::Number(mean_of(replies, |reply| reply.length as f64), 1),
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
         a beginning says where that leads. Intervals are the wider of those over seeds and over requests and seeds."
            .into(),
    );
    findings.notes.push(
        "The larger model is the embedded one after training on the task, the smaller one is made anew: 0.9 and 0.1 million \
         numbers (the sheet asks for 1 to 10 million). Not looked at: adversarial prompts, truthfulness, free text of instruction-tuned models."
            .into(),
    );
    Ok(findings)
}
