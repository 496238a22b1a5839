//! `elenchus compare`

use super::eval::{Asked, HEADING, Measured, ProblemOptions, answer, row, verify};
use crate::arguments::Global;
use crate::asking::{self, Asking, BudgetOptions, ModelOptions};
use crate::failure::{Code, Failure};
use crate::kept::{self, Done, KeepOptions, KeptConfig};
use crate::{output, paired};
use clap::Args;
use elenchus_measure::{Bootstrap, Comparison, compare};
use elenchus_recipe::grid::calibrate;
use elenchus_remember::Run;
use elenchus_task::Task;
use elenchus_trace::{Answer, Problem, Usage};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Two or more strategies on the same problems, with paired differences
#[derive(Debug, Args)]
#[command(
    after_help = "With `--max-total-tokens` (or another bound) each strategy may spend that much. One that reaches
it is no failure: what is compared are the first problems, those that every strategy answered
within its bound. What each spent on them stands beside its result, and the sentence says when
that was not the same. `--tokens` makes it the same: it chooses how many samples each strategy
draws. The first strategy is the baseline.

Examples:
  elenchus compare --strategy single --strategy self-consistency --strategy self-certainty \\
      --problems 300
  elenchus compare --strategy self-consistency --strategy gsa --tokens 2000 --problems 300
  elenchus compare --strategy self-consistency:samples=8 --problems 300 \\
      --strategy 'self-consistency then critique-and-refine:critique-and-refine.rounds=1'"
)]
pub struct Compare {
    /// A strategy, a recipe or a recipe file, with settings behind a colon: `self-consistency:samples=8,temperature=0.8`;
    /// or several as one: `a then b`, `best of a, b by judge`, `a else b`, settings with the part in front
    #[arg(long, visible_alias = "recipe", required = true, num_args = 1)]
    strategy: Vec<String>,
    /// Tokens per problem, read and written, that every strategy shall take: chooses the setting `samples` of those that
    /// have it and are not given it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    tokens: Option<u64>,
    /// Problems on which `--tokens` chooses numbers of samples
    #[arg(long, default_value_t = 8, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pilot: u32,
    #[command(flatten)]
    problems: ProblemOptions,
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    budget: BudgetOptions,
    #[command(flatten)]
    keep: KeepOptions,
}

/// Everything that determines a `compare` run.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompareConfig {
    strategies: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pilot: Option<u32>,
    problems: ProblemOptions,
    pub asking: Asking,
}

/// One strategy of a comparison.
#[derive(Serialize)]
struct Arm {
    /// On the problems that are compared.
    #[serde(flatten)]
    measured: Measured,
    /// Tokens on the problems that are compared.
    tokens: u64,
    /// Problems that it answered within its bound, from the first one on.
    answered: usize,
    /// Whether its bound ended it before the last problem.
    reached_bound: bool,
    /// What all its answers cost, those that are not compared and those that chose its number of samples included.
    spent: Usage,
}

#[derive(Serialize)]
struct Compared {
    /// Problems that are compared: the first ones, which every strategy answered.
    problems: usize,
    strategies: Vec<Arm>,
    comparisons: Vec<Paired>,
    /// Holm-adjusted p-values of the comparisons, where each has one.
    adjusted_p: Vec<Option<f64>>,
    /// Whether all strategies took the same number of tokens, to a twentieth.
    equal_budget: bool,
}

#[derive(Serialize)]
struct Paired {
    #[serde(flatten)]
    comparison: Comparison,
    /// Tokens of the first and of the second.
    tokens: [u64; 2],
    /// Whether these are the same, to a twentieth.
    equal_budget: bool,
}

/// A strategy with its settings as spelled on the command line, and its answers to the first problems.
struct Tried {
    spelled: String,
    name: String,
    answers: Vec<Answer>,
    answered: usize,
    /// What it cost to choose its number of samples, beside these answers.
    pilot: Usage,
}

/// What choosing a number of samples found and cost.
#[derive(Default)]
struct Pilot {
    /// The number, where one was chosen.
    samples: Option<usize>,
    /// Answers to the first problems, by number of samples.
    answers: BTreeMap<usize, Vec<Answer>>,
}

impl Pilot {
    /// What its answers cost.
    fn cost(&self) -> Usage {
        self.answers.values().flatten().map(|answer| answer.usage).sum()
    }
}

/// Runs the command.
pub fn run(command: &Compare, global: &Global) -> Result<(), Failure> {
    if command.strategy.len() < 2 {
        return Err(Failure::new(
            Code::Usage,
            "one strategy cannot be compared",
            "give `--strategy` twice or more",
        ));
    }
    let config = CompareConfig {
        strategies: command.strategy.clone(),
        tokens: command.tokens,
        pilot: command.tokens.map(|_| command.pilot),
        problems: command.problems.clone(),
        asking: Asking::new(
            &command.model,
            &command.budget,
            &asking::needs_of(command.strategy.iter().map(|spelled| with_settings(spelled)))?,
            global,
        )?,
    };
    kept::run(&command.keep, &KeptConfig::Compare(config), global)
}

/// `NAME:SETTING=VALUE,…` in its parts.
fn with_settings(spelled: &str) -> (&str, Vec<String>) {
    let (name, settings) = spelled.split_once(':').unwrap_or((spelled, ""));
    (name, settings.split(',').filter(|one| !one.is_empty()).map(String::from).collect())
}

/// Whether two numbers of tokens are the same to a twentieth.
fn equal(a: u64, b: u64) -> bool {
    a.abs_diff(b) * 20 <= a.max(b)
}

impl CompareConfig {
    /// Answers of one strategy, as far as its bound goes; one that cannot answer a single problem fails.
    fn tried(
        &self,
        asked: &Asked<'_>,
        task: &dyn Task,
        problems: &[Problem],
        spelled: &str,
        global: &Global,
    ) -> Result<Tried, Failure> {
        let (name, mut settings) = with_settings(spelled);
        let mut spelled = spelled.to_string();
        let mut pilot = Pilot::default();
        if let Some(tokens) = self.tokens {
            pilot = self.samples_for(tokens, (asked, task, problems), name, &settings, global)?;
        }
        if let Some(samples) = pilot.samples {
            settings.push(format!("samples={samples}"));
            spelled = format!("{name}:{}", settings.join(","));
        }
        // The first problems are answered already.
        let left = self.asking.after(&pilot.cost());
        let mut answers =
            pilot.samples.and_then(|samples| pilot.answers.remove(&samples)).unwrap_or_default();
        let rest = Asked { asking: &left, ..*asked };
        let (more, ended) = answer(&rest, task, &problems[answers.len()..], name, &settings, global)?;
        answers.extend(more);
        let answered = self.asking.answered(&answers);
        if answered == 0 {
            let failure = ended.unwrap_or_else(|| asking::bound_reached(0, problems.len()));
            return Err(asking::explained(
                Failure {
                    message: format!("`{spelled}` answered no problem: {}", failure.message),
                    ..failure
                },
                asked.run,
            ));
        }
        answers.truncate(answered);
        Ok(Tried { spelled, name: name.to_string(), answers, answered, pilot: pilot.cost() })
    }

    /// The number of samples with which a strategy takes about so many tokens per problem; nothing for a strategy that
    /// has no such setting or was given it.
    fn samples_for(
        &self,
        tokens: u64,
        (asked, task, problems): (&Asked<'_>, &dyn Task, &[Problem]),
        name: &str,
        settings: &[String],
        global: &Global,
    ) -> Result<Pilot, Failure> {
        let mut pilot = Pilot::default();
        let with = |samples: usize| [settings, &[format!("samples={samples}")]].concat();
        let given = settings.iter().any(|setting| setting.split('=').next() == Some("samples"));
        if given || asking::named_strategy(name, &with(2)).is_err() {
            return Ok(pilot);
        }
        let first = &problems[..problems.len().min(self.pilot.unwrap_or(1) as usize)];
        let cost = |samples: usize| -> Result<f64, Failure> {
            let left = self.asking.after(&pilot.cost());
            let within = Asked { asking: &left, ..*asked };
            let (answers, ended) = answer(&within, task, first, name, &with(samples), global)?;
            if let Some(failure) = ended {
                let message =
                    format!("choosing `samples` of `{name}` for `--tokens` ended early: {}", failure.message);
                return Err(asking::explained(Failure { message, ..failure }, asked.run));
            }
            let tokens: u64 = answers.iter().map(|answer| answer.usage.tokens()).sum();
            let mean = tokens as f64 / answers.len().max(1) as f64;
            pilot.answers.insert(samples, answers);
            Ok(mean)
        };
        let samples = calibrate(tokens as f64, cost)?.0;
        Ok(Pilot { samples: Some(samples), ..pilot })
    }

    /// Compares, or goes on with a run.
    pub fn execute(&self, run: Option<&Run>, global: &Global) -> Result<Done, Failure> {
        let (task, problems) = self.problems.load(&self.asking)?;
        let task = task.as_ref();
        let asked = Asked { at_once: self.problems.at_once, asking: &self.asking, run };
        let tried = self
            .strategies
            .iter()
            .map(|spelled| self.tried(&asked, task, &problems, spelled, global))
            .collect::<Result<Vec<_>, Failure>>()?;
        let compared = self.compared(task, &problems, tried)?;
        kept::record_result(run, &compared)?;
        match global.json {
            true => output::json(&compared)?,
            false => print(&compared, problems.len())?,
        }
        let whole = compared.strategies.iter().all(|arm| !arm.reached_bound);
        Ok(if whole { Done::All } else { Done::ToTheBound })
    }

    fn compared(
        &self,
        task: &dyn Task,
        problems: &[Problem],
        tried: Vec<Tried>,
    ) -> Result<Compared, Failure> {
        let common = tried.iter().map(|one| one.answered).min().unwrap_or(0);
        let mut arms = Vec::with_capacity(tried.len());
        for Tried { spelled, name, answers, answered, pilot } in tried {
            let spent = pilot + answers.iter().map(|answer| answer.usage).sum::<Usage>();
            let answers = &answers[..common];
            let correct = verify(task, problems, answers)?;
            let mut measured = Measured::of(&name, task, answers, correct, self.asking.seed)?;
            measured.strategy = spelled;
            let tokens = measured.usage.tokens();
            arms.push(Arm { measured, tokens, answered, reached_bound: answered < problems.len(), spent });
        }
        let bootstrap = Bootstrap::default().seed(self.asking.seed);
        let baseline = &arms[0];
        let comparisons = arms[1..]
            .iter()
            .map(|arm| {
                let (a, b) = (&arm.measured, &baseline.measured);
                let mut comparison = compare(&a.strategy, &a.correct, &b.strategy, &b.correct, &bootstrap)?;
                let tokens = [arm.tokens, baseline.tokens];
                let equal_budget = equal(arm.tokens, baseline.tokens);
                if !equal_budget {
                    comparison.sentence.push_str(&format!(
                        " The budgets were not equal: {} tokens against {}.",
                        arm.tokens, baseline.tokens
                    ));
                }
                Ok(Paired { comparison, tokens, equal_budget })
            })
            .collect::<Result<Vec<_>, Failure>>()?;
        let adjusted_p = paired::adjusted_p(comparisons.iter().map(|paired| &paired.comparison))?;
        let tokens = || arms.iter().map(|arm| arm.tokens);
        let equal_budget = equal(tokens().min().unwrap_or(0), tokens().max().unwrap_or(0));
        Ok(Compared { problems: common, strategies: arms, comparisons, adjusted_p, equal_budget })
    }
}

fn print(compared: &Compared, wanted: usize) -> Result<(), Failure> {
    let mut rows = vec![HEADING.map(String::from).to_vec()];
    rows.extend(compared.strategies.iter().map(|arm| row(&arm.measured)));
    output::line(&output::table(&rows))?;
    for Arm { measured, answered, reached_bound, .. } in &compared.strategies {
        let name = &measured.strategy;
        output::line(&format!("{name}: {}", measured.size(measured.problems)))?;
        if *reached_bound {
            output::line(&format!("{name}: its bound was reached after {answered} of {wanted} problems"))?;
        }
        if let Some(remark) = &measured.remark {
            output::line(&format!("{name}: note: {remark}"))?;
        }
        for line in measured.course.lines() {
            output::line(&format!("{name}: {line}"))?;
        }
        if let Some(exchanges) = &measured.exchanges {
            output::line(&format!("{name}: {}", exchanges.line()))?;
        }
    }
    if compared.problems < wanted {
        output::line(&format!(
            "compared on the first {} problems, which every strategy answered; more with a larger bound",
            compared.problems
        ))?;
    }
    for (pair, p) in compared.comparisons.iter().zip(&compared.adjusted_p) {
        output::line(&paired::sentence(&pair.comparison, *p))?;
        let [a, b] = pair.tokens;
        if pair.equal_budget {
            output::line(&format!("  tokens: {a} against {b}, an equal budget"))?;
        }
    }
    Ok(())
}
