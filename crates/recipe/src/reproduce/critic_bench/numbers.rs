//! Claims and tables. Intervals are over questions, the two items of a question and what all seeds make of it together.

use super::bench::{Bench, Item, Question, Said, terciles};
use super::{PerModel, PerSeed, Settings};
use crate::RecipeError;
use crate::reproduce::Findings;
use crate::reproduce::asked::{MeanCost, mean, unit};
use crate::reproduce::resampling::Resampling;
use elenchus_learn::rollouts::mix;
use elenchus_measure::{Bootstrap, Cell, Interval, Table, error_reduction};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The threshold with the highest validation accuracy; the lowest, which checks least, on a tie.
pub(super) fn choose(questions: &[Question], settings: &Settings) -> f64 {
    let mut best: Option<(f64, f64)> = None;
    for &threshold in &settings.thresholds {
        let right: Vec<f64> =
            questions.iter().map(|q| unit(q.self_check(settings.samples, threshold))).collect();
        if best.is_none_or(|(_, most)| mean(&right) > most + 1e-12) {
            best = Some((threshold, mean(&right)));
        }
    }
    best.map_or(1.0, |(threshold, _)| threshold)
}

/// What is measured of self-checks of one model, at a threshold per seed; question behind question, seed behind seed.
struct Checks<'a> {
    models: Vec<&'a PerModel>,
    samples: usize,
    seed: u64,
}

impl Checks<'_> {
    fn each<T>(&self, thresholds: &[f64], of: impl Fn(&Question, f64, usize) -> T) -> Vec<T> {
        let rows = self.models.iter().zip(thresholds);
        rows.flat_map(|(model, &c)| model.test.iter().enumerate().map(move |(q, question)| (q, question, c)))
            .map(|(q, question, c)| of(question, c, q))
            .collect()
    }

    fn vote(&self) -> Vec<f64> {
        self.each(&self.at(0.0), |q, _, _| unit(q.vote(self.samples)))
    }

    /// The same threshold in all seeds.
    fn at(&self, threshold: f64) -> Vec<f64> {
        vec![threshold; self.models.len()]
    }

    fn checked(&self, thresholds: &[f64]) -> Vec<f64> {
        self.each(thresholds, |q, c, _| unit(q.self_check(self.samples, c)))
    }

    /// A vote with as many samples as samples and critiques.
    fn equal(&self, thresholds: &[f64]) -> Vec<f64> {
        let n = self.samples;
        self.each(thresholds, |q, c, _| unit(q.vote(n + q.critiques(n, c))))
    }

    /// Whether a question is checked.
    fn gated(&self, thresholds: &[f64]) -> Vec<bool> {
        self.each(thresholds, |q, c, _| q.certainty(self.samples) < c)
    }

    /// Verdicts that know nothing, as often `wrong` as the critic's on the questions that are checked.
    fn random(&self, thresholds: &[f64]) -> Vec<f64> {
        let n = self.samples;
        let checked = self
            .models
            .iter()
            .zip(thresholds)
            .flat_map(|(model, &c)| model.test.iter().filter(move |question| question.certainty(n) < c));
        let said: Vec<f64> =
            checked.flat_map(|question| &question.said).map(|said| unit(said.discards())).collect();
        let rate = if said.is_empty() { 0.0 } else { mean(&said) };
        self.each(thresholds, |q, c, index| {
            if q.certainty(n) >= c {
                return unit(q.vote(n));
            }
            let mut random = ChaCha8Rng::seed_from_u64(mix(mix(self.seed, 4), index as u64));
            let discarded: Vec<bool> = (0..n).map(|_| random.random_bool(rate)).collect();
            unit(q.checked(n, &discarded))
        })
    }

    fn cost(&self, thresholds: &[f64], of: impl Fn(&Question, f64) -> elenchus_trace::Usage) -> MeanCost {
        let rows = self.models.iter().zip(thresholds);
        MeanCost::of(
            rows.flat_map(|(model, &c)| model.test.iter().map(move |q| (q, c))).map(|(q, c)| of(q, c)),
        )
    }
}

/// Rows per question of each seed, one behind the other.
fn stacked<const N: usize>(found: &[PerSeed], of: impl Fn(&PerSeed) -> Vec<[f64; N]>) -> Vec<[f64; N]> {
    found.iter().flat_map(of).collect()
}

fn share([part, whole]: [f64; 2]) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

/// Difference of two shares whose sums per question stand side by side.
fn apart(
    resampling: &Resampling,
    left: &[[f64; 2]],
    right: &[[f64; 2]],
) -> Result<Option<Interval>, RecipeError> {
    let rows: Vec<[f64; 4]> = left.iter().zip(right).map(|(l, r)| [l[0], l[1], r[0], r[1]]).collect();
    resampling.sums("critique accuracy", &rows, |[a, n, b, m]| Some(share([a, n])? - share([b, m])?))
}

/// Right judgments and items per question, by tercile of something known of each item.
fn by_tercile(
    bench: &Bench,
    critic: usize,
    generator: usize,
    known: impl Fn(Said, &Item) -> f64,
) -> [Vec<[f64; 2]>; 3] {
    let values: Vec<f64> =
        bench.judged(critic, Some(generator)).map(|(said, item)| known(said, item)).collect();
    let mut rows = [(); 3].map(|()| vec![[0.0; 2]; bench.questions]);
    for ((said, item), tercile) in bench.judged(critic, Some(generator)).zip(terciles(&values)) {
        let row = &mut rows[tercile][item.question];
        row[0] += said.accuracy(item.right);
        row[1] += 1.0;
    }
    rows
}

/// The terciles of all seeds, one behind the other.
fn joined(found: &[PerSeed], of: impl Fn(&PerSeed) -> [Vec<[f64; 2]>; 3]) -> [Vec<[f64; 2]>; 3] {
    let mut all: [Vec<[f64; 2]>; 3] = Default::default();
    for seed in found {
        for (into, rows) in all.iter_mut().zip(of(seed)) {
            into.extend(rows);
        }
    }
    all
}

/// Everything that is printed and claimed, of the models of all seeds.
pub(super) fn findings(seed: u64, settings: &Settings, found: &[PerSeed]) -> Result<Findings, RecipeError> {
    let resampling = Resampling::new(Bootstrap::default().seed(mix(seed, 99)), found.len());
    let mut findings = Findings::default();
    let models = found.first().map_or(0, |seed| seed.models.len());
    let (Some(largest), Some(&gate)) = (models.checked_sub(1), settings.gates.first()) else {
        return Ok(findings);
    };
    let mut claim = |id: &str, interval: Option<Interval>| {
        if let Some(interval) = interval {
            findings.estimates.insert(id.to_string(), interval);
        }
    };
    let judged = |critic, generator| stacked(found, |seed| seed.convincing.accuracy(critic, generator));
    if models > 1 {
        claim("scale", apart(&resampling, &judged(largest, None), &judged(0, None))?);
        let (smaller, own) = (judged(largest, Some(0)), judged(largest, Some(largest)));
        claim("own-is-hardest", apart(&resampling, &smaller, &own)?);
    }
    let policy =
        joined(found, |seed| by_tercile(&seed.convincing, largest, largest, |_, item| item.certainty));
    claim("certainty", apart(&resampling, &policy[2], &policy[0])?);
    let critic = joined(found, |seed| {
        by_tercile(&seed.convincing, largest, largest, |said, _| said.certainty(settings.votes))
    });
    claim("critic-certainty", apart(&resampling, &critic[2], &critic[0])?);
    let uniform = stacked(found, |seed| seed.uniform.accuracy(largest, None));
    claim("convincing-is-harder", apart(&resampling, &uniform, &judged(largest, None))?);

    // The vote that checks itself, one model at a time: models of two sizes are not two seeds.
    let of_model = |model: usize| Checks {
        models: found.iter().map(|seed| &seed.models[model]).collect(),
        samples: settings.samples,
        seed,
    };
    let chosen = |checks: &Checks<'_>| -> Vec<f64> {
        checks.models.iter().map(|model| choose(&model.validation, settings)).collect()
    };
    let checks = of_model(largest);
    let vote = checks.vote();
    for (place, &threshold) in settings.gates.iter().enumerate() {
        let at = checks.at(threshold);
        let (checked, gated) = (checks.checked(&at), checks.gated(&at));
        let gain: Vec<f64> = checked.iter().zip(&vote).map(|(c, v)| c - v).collect();
        let on_gated = resampling.mean_where(&gain, |q| gated[q])?;
        let over_equal = resampling.paired(&checked, &checks.equal(&at))?;
        // The first gate is what is claimed, the others are observed.
        let name = |id: &str| if place == 0 { id.to_string() } else { format!("{id}-at-{threshold}") };
        claim(&name("gated-over-vote"), on_gated);
        claim(&name("not-below-equal-vote"), Some(over_equal));
    }
    let at = checks.at(gate);
    claim("over-random", Some(resampling.paired(&checks.checked(&at), &checks.random(&at))?));
    let all = checks.checked(&checks.at(f64::INFINITY));
    claim("over-all", Some(resampling.paired(&checks.checked(&at), &all)?));
    let validated = chosen(&checks);
    let over_equal = resampling.paired(&checks.checked(&validated), &checks.equal(&validated))?;
    claim("chosen-not-below-equal-vote", Some(over_equal));

    findings.tables.push(critics_table(found, models, &resampling)?);
    findings.tables.push(terciles_table("vote on the question", &policy, &resampling)?);
    findings.tables.push(terciles_table("critic on the response", &critic, &resampling)?);
    for model in 0..models {
        let checks = of_model(model);
        findings.tables.push(checks_table(model, settings, &checks, &chosen(&checks), &resampling)?);
    }
    findings.tables.push(abilities_table(found, models, &resampling)?);
    findings.notes.push(format!(
        "{models} models of {} seed(s), {} items, half of them right by construction (chance 50 %); {} judgments per item at \
         temperature 0.6, their mean counts. The paper's rule takes a judgment that cannot be read as `correct`, ours as not right. \
         Threshold chosen on validation questions for the largest model: {}; where it is 0 nothing is checked.",
        found.len(),
        found.iter().map(|seed| seed.convincing.items.len()).sum::<usize>(),
        settings.votes,
        validated.iter().map(|c| format!("{c:.1}")).collect::<Vec<_>>().join(", "),
    ));
    findings.notes.push(
        "A critic answers the question again in view of the response, and calls it wrong where its answer is another one \
         (checkpoint `own-critic`: training on own samples of training questions, one right and one convincing wrong response of \
         each, not a prompt with examples). Letters and steps are judged with what is left of the base model's skills. Model 1 is \
         the smallest; claims of the self-check are about the largest. Queries are those with a right and a wrong sample among the \
         draws. Not run: a third size, and programs."
            .into(),
    );
    Ok(findings)
}

fn terciles_table(
    of: &str,
    rows: &[Vec<[f64; 2]>; 3],
    resampling: &Resampling,
) -> Result<Table, RecipeError> {
    let mut table = Table::new(
        format!("By certainty of the {of}, the largest model's own responses"),
        ["certainty", "items", "right judgments"],
    )
    .note("ln(f1/f2) over answers or over verdicts. Equal certainties are in one third, so a third can be empty.");
    for (rows, name) in rows.iter().zip(["lowest third", "middle third", "highest third"]) {
        let found = resampling.sums("right judgments", rows, share)?;
        table = table.row([
            Cell::Text(name.into()),
            Cell::Count(rows.iter().map(|row| row[1]).sum::<f64>() as u64),
            found.map_or(Cell::Missing, Cell::PercentInterval),
        ]);
    }
    Ok(table)
}

fn checks_table(
    model: usize,
    settings: &Settings,
    checks: &Checks<'_>,
    chosen: &[f64],
    resampling: &Resampling,
) -> Result<Table, RecipeError> {
    let n = settings.samples;
    let mut table = Table::new(
        format!("Self-check, model {}", model + 1),
        ["method", "checked", "calls", "tokens", "accuracy", "error reduction"],
    )
    .note(
        "Test questions. Checked: share of questions below the threshold. Error reduction: against the vote.",
    );
    let plain = checks.vote();
    let before = 1.0 - mean(&plain);
    let mut row = |name: String, checked: Option<f64>, cost: Option<MeanCost>, right: &[f64]| {
        let accuracy = resampling.mean(right)?;
        let reduction = error_reduction(before, 1.0 - accuracy.value);
        let cells = [
            Cell::Text(name),
            checked.map_or(Cell::Missing, Cell::Percent),
            cost.map_or(Cell::Missing, |cost| Cell::Number(cost.calls, 1)),
            cost.map_or(Cell::Missing, |cost| Cell::Number(cost.tokens, 0)),
            Cell::PercentInterval(accuracy),
            reduction.map_or(Cell::Missing, Cell::Percent),
        ];
        table = table.clone().row(cells);
        Ok::<(), RecipeError>(())
    };
    let none = checks.at(0.0);
    row("vote".into(), None, Some(checks.cost(&none, |q, c| q.spent(n, c))), &plain)?;
    let mut gates: Vec<(String, Vec<f64>)> =
        settings.gates.iter().map(|&c| (format!("C = {c}"), checks.at(c))).collect();
    let names: Vec<String> = chosen.iter().map(|c| format!("{c}")).collect();
    gates.push((format!("C chosen ({})", names.join(", ")), chosen.to_vec()));
    for (name, at) in &gates {
        let share = mean(&checks.gated(at).iter().map(|&gated| unit(gated)).collect::<Vec<_>>());
        let cost = checks.cost(at, |q, c| q.spent(n, c));
        row(format!("checks below {name}"), Some(share), Some(cost), &checks.checked(at))?;
        let equal = checks.cost(at, |q, c| q.spent(n + q.critiques(n, c), 0.0));
        row(format!("vote with as many samples, {name}"), None, Some(equal), &checks.equal(at))?;
        row(format!("random verdicts of the same rate, {name}"), Some(share), None, &checks.random(at))?;
    }
    let all = checks.at(f64::INFINITY);
    let share = mean(&checks.gated(&all).iter().map(|&gated| unit(gated)).collect::<Vec<_>>());
    let cost = checks.cost(&all, |q, c| q.spent(n, c));
    row("checks wherever samples differ".into(), Some(share), Some(cost), &checks.checked(&all))?;
    Ok(table)
}

fn critics_table(found: &[PerSeed], models: usize, resampling: &Resampling) -> Result<Table, RecipeError> {
    let mut table = Table::new(
        "Critics on the balanced benchmark",
        [
            "critic",
            "items",
            "responses of",
            "right judgments",
            "by the paper's rule",
            "right recalled",
            "wrong recalled",
            "precision of wrong",
            "F1 of wrong",
            "unreadable",
        ],
    )
    .note("Chance is 50 %. Mean over the judgments of an item. By the paper's rule what cannot be read counts as `correct`. 95 % intervals over questions and seeds.");
    let benches: [(&str, fn(&PerSeed) -> &Bench); 4] = [
        ("answering again", |seed| &seed.convincing),
        ("by letter", |seed| &seed.letter),
        ("by steps", |seed| &seed.steps),
        ("answering again, any wrong response", |seed| &seed.uniform),
    ];
    for (name, bench) in benches {
        for critic in 0..models {
            for generator in 0..models {
                let rows = |of: fn(Said, bool) -> [f64; 2]| {
                    stacked(found, |seed| {
                        bench(seed).per_question(critic, Some(generator), |said, item| of(said, item.right))
                    })
                };
                let percent = |of: fn(Said, bool) -> [f64; 2]| {
                    let sum = rows(of).iter().fold([0.0; 2], |s, r| [s[0] + r[0], s[1] + r[1]]);
                    share(sum).map_or(Cell::Missing, Cell::Percent)
                };
                let interval = |of: fn(Said, bool) -> [f64; 2]| -> Result<Cell, RecipeError> {
                    let found = resampling.sums("right judgments", &rows(of), share)?;
                    Ok(found.map_or(Cell::Missing, Cell::PercentInterval))
                };
                let items = rows(|_, _| [0.0, 1.0]).iter().map(|row| row[1]).sum::<f64>();
                if items == 0.0 {
                    continue;
                }
                table = table.row([
                    Cell::Text(format!("model {}, {name}", critic + 1)),
                    Cell::Count(items as u64),
                    Cell::Text(format!("model {}", generator + 1)),
                    interval(|said, right| [said.accuracy(right), 1.0])?,
                    interval(|said, right| [said.accuracy_of_the_paper(right), 1.0])?,
                    percent(|said, right| if right { [said.right, 1.0] } else { [0.0; 2] }),
                    percent(|said, right| if right { [0.0; 2] } else { [said.wrong, 1.0] }),
                    percent(|said, right| [if right { 0.0 } else { said.wrong }, said.wrong]),
                    // 2 hits over what is called wrong and what is wrong.
                    percent(|said, right| {
                        [if right { 0.0 } else { 2.0 * said.wrong }, said.wrong + unit(!right)]
                    }),
                    percent(|said, _| [said.unread, 1.0]),
                ]);
            }
        }
    }
    Ok(table)
}

/// Generation, critique and correction of the same model, side by side.
fn abilities_table(found: &[PerSeed], models: usize, resampling: &Resampling) -> Result<Table, RecipeError> {
    let mut table = Table::new(
        "Generation, critique and correction of the same model",
        [
            "model",
            "greedy answers right",
            "right judgments",
            "right after correction",
            "right kept",
            "wrong repaired",
        ],
    )
    .note("Critique and correction on the model's own responses of the benchmark, half of them right.");
    for m in 0..models {
        let greedy: Vec<f64> =
            found.iter().flat_map(|seed| &seed.models[m].greedy).map(|&right| unit(right)).collect();
        let judged = stacked(found, |seed| seed.convincing.accuracy(m, Some(m)));
        let rows = |of: fn(bool, bool) -> [f64; 2]| {
            stacked(found, |seed| {
                let mut dialogues = seed.corrected[m].iter();
                seed.convincing
                    .per_question(m, Some(m), |_, _| [0.0, 1.0])
                    .into_iter()
                    .map(|[_, items]| {
                        // The items of a question stand one behind the other, in the order of the questions.
                        dialogues.by_ref().take(items as usize).fold([0.0; 2], |sum, dialogue| {
                            let [part, whole] = of(dialogue.first, dialogue.second);
                            [sum[0] + part, sum[1] + whole]
                        })
                    })
                    .collect()
            })
        };
        let cell = |rows: Vec<[f64; 2]>| -> Result<Cell, RecipeError> {
            Ok(resampling.sums("corrections", &rows, share)?.map_or(Cell::Missing, Cell::PercentInterval))
        };
        table = table.row([
            Cell::Text(format!("model {}", m + 1)),
            Cell::PercentInterval(resampling.mean(&greedy)?),
            cell(judged)?,
            cell(rows(|_, second| [unit(second), 1.0]))?,
            cell(rows(|first, second| if first { [unit(second), 1.0] } else { [0.0; 2] }))?,
            cell(rows(|first, second| if first { [0.0; 2] } else { [unit(second), 1.0] }))?,
        ]);
    }
    Ok(table)
}
