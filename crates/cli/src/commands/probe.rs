//! `elenchus probe`

use crate::arguments::Global;
use crate::asking::{self, Asking, BudgetOptions, ModelOptions, needs_of};
use crate::commands::eval::{Asked, ProblemOptions, answer, judged};
use crate::failure::{Code, Failure};
use crate::kept::{self, KeepOptions, KeptConfig};
use crate::output;
use clap::Args;
use elenchus_control::{Estimate, EstimateInput};
use elenchus_generate::ACTOR;
use elenchus_recipe::{Probed, ProbedSample, ProbedTemperature, probe_temperatures};
use elenchus_remember::Run;
use elenchus_remember::data::{TraceRows, write_jsonl};
use elenchus_task::{Split, Task};
use elenchus_trace::{NodeKind, Problem, Trace, Usage};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Which temperature yields the most distinct right responses; writes them as training rows
#[derive(Debug, Args)]
#[command(
    after_help = "Draws as many responses to each training problem at every temperature, verifies them, and chooses
the temperature with the highest balance score (recipe `b-star`). Needs no weights: any endpoint
will do. One that ignores the temperature is told, with exit code 4 and no rows.

Examples:
  elenchus probe --temperatures 0.4,0.7,1.0 --samples 8 --problems 64
  elenchus probe --file train.jsonl --problems 200 --rows sft.jsonl --pairs dpo.jsonl \\
      --endpoint http://localhost:8000/v1 --model qwen2.5-7b --max-total-tokens 2000000"
)]
pub struct Probe {
    /// Task (`elenchus tasks`)
    #[arg(long, default_value = "arithmetic")]
    task: String,
    /// Change a setting of the task
    #[arg(long = "task-set", value_name = "NAME=VALUE")]
    task_settings: Vec<String>,
    /// Your training problems (JSON Lines, as `eval --file` reads them) instead of generated ones
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// How many training problems
    #[arg(long, default_value_t = 64)]
    problems: usize,
    /// Problems at once
    #[arg(long, default_value_t = 16)]
    at_once: usize,
    /// The temperatures to choose among
    #[arg(long, value_delimiter = ',', default_values_t = [0.4, 0.7, 1.0])]
    temperatures: Vec<f64>,
    /// Responses to each problem at each temperature
    #[arg(long, default_value_t = 8)]
    samples: usize,
    /// Distinct right responses that are wanted per problem, n* of the balance score
    #[arg(long, default_value_t = 2)]
    wanted: usize,
    /// Write the kept right responses of the chosen temperature as prompt-completion rows (JSON Lines): `train` reads them
    #[arg(long, value_name = "FILE")]
    rows: Option<PathBuf>,
    /// Write right responses of the chosen temperature against wrong ones as preference rows (JSON Lines)
    #[arg(long, value_name = "FILE")]
    pairs: Option<PathBuf>,
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    budget: BudgetOptions,
    #[command(flatten)]
    keep: KeepOptions,
}

/// Everything that determines a `probe` run.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeConfig {
    temperatures: Vec<f64>,
    samples: usize,
    wanted: usize,
    rows: Option<PathBuf>,
    pairs: Option<PathBuf>,
    problems: ProblemOptions,
    pub asking: Asking,
}

/// The JSON of `probe --json`.
#[derive(Serialize)]
struct Result_ {
    #[serde(flatten)]
    probed: Probed,
    problems: usize,
    usage: Usage,
    /// Rows written to `--rows`.
    rows: Option<usize>,
    /// Rows written to `--pairs`.
    pairs: Option<usize>,
}

/// Draws samples and votes on them; what is wanted here is that it draws them all, independently.
const STRATEGY: &str = "self-consistency";

fn settings(samples: usize, temperature: f64) -> Vec<String> {
    vec![format!("samples={samples}"), "early_stop=false".into(), format!("temperature={temperature}")]
}

/// Runs the command.
pub fn run(command: &Probe, global: &Global) -> Result<(), Failure> {
    let refuse = |problem: String, hint: &str| Err(Failure::new(Code::Usage, problem, hint));
    if let Some(bad) = command.temperatures.iter().find(|t| !(**t > 0.0 && t.is_finite())) {
        return refuse(
            format!("`--temperatures`: {bad} draws nothing"),
            "give values above 0, for example 0.4,0.7,1.0",
        );
    }
    let mut sorted = command.temperatures.clone();
    sorted.sort_by(f64::total_cmp);
    if let Some(two) = sorted.windows(2).find(|two| two[0] == two[1]) {
        return refuse(format!("`--temperatures` has {} twice", two[0]), "give each once");
    }
    if command.samples < 2 || command.problems == 0 || command.wanted == 0 {
        return refuse(
            "a probe needs two samples or more, and a problem and a wanted response at least".into(),
            "for example `--samples 8 --problems 64 --wanted 2`",
        );
    }
    let needs = needs_of([(STRATEGY, settings(command.samples, sorted[0]))])?;
    let config = ProbeConfig {
        temperatures: command.temperatures.clone(),
        samples: command.samples,
        wanted: command.wanted,
        rows: command.rows.clone(),
        pairs: command.pairs.clone(),
        problems: ProblemOptions {
            task: command.task.clone(),
            task_settings: command.task_settings.clone(),
            file: command.file.clone(),
            // Choosing a temperature on test problems would be learning from them.
            split: Split::Train,
            problems: command.problems,
            at_once: command.at_once,
        },
        asking: Asking::new(&command.model, &command.budget, &needs, global)?,
    };
    kept::run(&command.keep, &KeptConfig::Probe(Box::new(config)), global)
}

impl ProbeConfig {
    /// Draws, verifies and chooses, or goes on with a run.
    pub fn execute(&self, run: Option<&Run>, global: &Global) -> Result<(), Failure> {
        let (task, problems) = self.problems.load(&self.asking)?;
        if !global.quiet {
            self.announce(&problems)?;
        }
        let (mut spent, mut samples, mut traces) = (Usage::default(), Vec::new(), Vec::new());
        for &temperature in &self.temperatures {
            if !global.quiet {
                anstream::eprintln!("temperature {temperature}");
            }
            // The bounds hold for all temperatures together.
            let asking = self.asking.after(&spent);
            let asked = Asked { at_once: self.problems.at_once, asking: &asking, run };
            let settings = settings(self.samples, temperature);
            let (answers, failure) = answer(&asked, task.as_ref(), &problems, STRATEGY, &settings, global)?;
            if let Some(failure) = failure {
                return Err(asking::explained(failure, run));
            }
            // An answer that had to do with fewer samples would make its temperature look worse.
            if answers.iter().any(asking::was_cut) {
                let failure = Failure::new(
                    Code::Budget,
                    format!("the budget ended before temperature {temperature} was probed"),
                    "raise it, or give fewer `--problems`, `--samples` or `--temperatures`; answered calls are kept",
                );
                return Err(asking::explained(failure, run));
            }
            spent += answers.iter().map(|answer| answer.usage).sum();
            let verified: Vec<Trace> = problems
                .iter()
                .zip(&answers)
                .map(|(problem, answer)| judged(task.as_ref(), problem, answer))
                .collect::<Result<_, _>>()?;
            let pools = problems.iter().zip(&verified);
            let pools: Vec<_> = pools
                .map(|(problem, trace)| pool(task.as_ref(), problem, trace))
                .collect::<Result<_, _>>()?;
            samples.push((temperature, pools));
            traces.push((temperature, verified));
        }
        let probed = probe_temperatures(&samples, self.wanted, self.asking.seed)?;
        let mut result = Result_ { probed, problems: problems.len(), usage: spent, rows: None, pairs: None };
        let mut outcome = Ok(());
        match &result.probed.ignored {
            Some(why) => {
                outcome = Err(Failure::new(
                    Code::Model,
                    format!("the endpoint seems to ignore the temperature: {why}"),
                    "ask the server for `temperature` to be honoured; where it is, temperatures further apart or more \
                     `--problems` tell them apart. No rows are written",
                ));
            }
            None => {
                let chosen = traces.iter().find(|(temperature, _)| *temperature == result.probed.chosen);
                let verified = chosen.map_or(&[][..], |(_, verified)| verified);
                (result.rows, result.pairs) = self.write(verified, &result.probed)?;
            }
        }
        kept::record_result(run, &result)?;
        if global.json {
            output::json(&result)?
        } else {
            self.tell(&result)?
        }
        outcome
    }

    /// Says what will be asked, before the first call.
    fn announce(&self, problems: &[Problem]) -> Result<(), Failure> {
        let mut calls = 0;
        for &temperature in &self.temperatures {
            let strategy = asking::named_strategy(STRATEGY, &settings(self.samples, temperature))?;
            let input = EstimateInput { prompt_tokens: 0, completion_tokens: 0 };
            let Estimate { usage, .. } = strategy.estimate(&input);
            calls += usage.calls * problems.len() as u64;
        }
        let responses = self.temperatures.len() * problems.len() * self.samples;
        anstream::eprintln!(
            "{} temperatures, {} problems, {} samples of each: {responses} responses in {calls} calls (a server without `n` \
             takes a call for each response)",
            self.temperatures.len(),
            problems.len(),
            self.samples
        );
        Ok(())
    }

    /// Writes the rows of the chosen temperature; says how many, where files were asked for.
    fn write(&self, traces: &[Trace], probed: &Probed) -> Result<(Option<usize>, Option<usize>), Failure> {
        let most = probed
            .temperatures
            .iter()
            .find(|one| one.temperature == probed.chosen)
            .map(|one| one.most_per_problem);
        let settings = TraceRows { per_problem: most, ..TraceRows::default() };
        let rows = match &self.rows {
            Some(file) => {
                let rows = settings.prompt_completion(traces)?;
                write_jsonl(file, &rows)?;
                Some(rows.len())
            }
            None => None,
        };
        let pairs = match &self.pairs {
            Some(file) => {
                let pairs = settings.preference(traces)?;
                write_jsonl(file, &pairs)?;
                Some(pairs.len())
            }
            None => None,
        };
        Ok((rows, pairs))
    }

    fn tell(&self, result: &Result_) -> Result<(), Failure> {
        let pass = format!("pass@{}", self.samples);
        let heading =
            ["temperature", "right", "distinct right", &pass, "shared beginning", "balance", "kept"];
        let mut table = vec![heading.map(String::from).to_vec()];
        for one in &result.probed.temperatures {
            let ProbedTemperature { accuracy, distinct_right, pass, shared_beginning, balance, kept, .. } =
                one;
            table.push(vec![
                one.temperature.to_string(),
                output::percent(accuracy),
                format!("{:.1} %", 100.0 * distinct_right),
                output::percent(pass),
                format!("{:.1} %", 100.0 * shared_beginning),
                format!("{balance:.3}"),
                kept.to_string(),
            ]);
        }
        output::line(output::table(&table).trim_end())?;
        if result.probed.ignored.is_none() {
            output::line(&format!("chosen temperature {}", result.probed.chosen))?;
        }
        for (count, file, what) in [
            (result.rows, &self.rows, "prompt-completion rows"),
            (result.pairs, &self.pairs, "preference rows"),
        ] {
            if let (Some(count), Some(file)) = (count, file) {
                output::line(&format!("{count} {what} in {}", file.display()))?;
            }
        }
        output::line(&format!("{} calls, {} tokens", result.usage.calls, result.usage.tokens()))
    }
}

/// What the actor wrote in a trace, verified.
fn pool(task: &dyn Task, problem: &Problem, trace: &Trace) -> Result<Vec<ProbedSample>, Failure> {
    let texts = trace.nodes.iter().filter_map(|node| match &node.kind {
        NodeKind::Generated { role, completion, .. } if role == ACTOR => Some(completion.text.clone()),
        _ => None,
    });
    texts.map(|text| Ok(ProbedSample { correct: task.verify(problem, &text)?.is_correct(), text })).collect()
}
