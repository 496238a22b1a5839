//! `elenchus calibrate`

use crate::arguments::Global;
use crate::asking::{Asking, BudgetOptions, ModelOptions, needs_of};
use crate::commands::eval::{Asked, ProblemOptions, measure};
use crate::failure::{Code, Failure};
use crate::kept::{self, KeepOptions, KeptConfig};
use crate::output;
use clap::{Args, ValueEnum};
use elenchus_measure::{CalibrationFit, CalibrationMethod, Judgement, fit_calibration};
use elenchus_recipe::{CalibrationEntry, Calibrations, Configuration, composition_name, feedback_judgements};
use elenchus_remember::Run;
use elenchus_remember::service::StorePlace;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Fit what a recipe's confidences mean, from answers with a known verdict; the gateway applies it then
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  elenchus calibrate self-consistency --file gsm8k.jsonl --task math --problems 300 \\
      --endpoint http://localhost:8000/v1 --model qwen2.5-7b
  elenchus calibrate --feedback      every recipe, model and task that people judged often enough")]
pub struct Calibrate {
    /// A strategy, a recipe or a composition; with `--feedback` only that one
    #[arg(required_unless_present = "feedback")]
    recipe: Option<String>,
    /// Change a setting of the strategy: fit with those that are served
    #[arg(long = "set", value_name = "NAME=VALUE", requires = "recipe")]
    settings: Vec<String>,
    /// Fit on what people said of a gateway's answers instead of problems: `love` and `up` are right, `down` is wrong; a score
    /// of the metric `correct` counts first
    #[arg(long)]
    feedback: bool,
    /// Store of traces and feedback, for `--feedback`: a file, or `postgres://…` [default: the configuration's, else
    /// gateway.sqlite in the data folder]
    #[arg(long, value_name = "FILE|URL", requires = "feedback")]
    store: Option<String>,
    /// How to fit [default: what does better on answers that were not fitted on]
    #[arg(long)]
    method: Option<Method>,
    /// File of the calibrations [default: the configuration's, else calibrations.json in the data folder]
    #[arg(long, value_name = "FILE")]
    calibrations: Option<PathBuf>,
    #[command(flatten)]
    problems: ProblemOptions,
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    budget: BudgetOptions,
    #[command(flatten)]
    keep: KeepOptions,
}

/// How to fit.
#[derive(Debug, Clone, Copy, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Two numbers; does with few answers
    Platt,
    /// Any rising curve; needs some hundred answers
    Isotonic,
}

impl Method {
    fn of(self) -> CalibrationMethod {
        match self {
            Method::Platt => CalibrationMethod::Platt,
            Method::Isotonic => CalibrationMethod::Isotonic,
        }
    }
}

/// Everything that determines a `calibrate` run over problems.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CalibrateConfig {
    recipe: String,
    settings: Vec<String>,
    method: Option<Method>,
    calibrations: PathBuf,
    problems: ProblemOptions,
    pub asking: Asking,
}

/// What came of one recipe, model and task.
#[derive(Serialize)]
struct Fitted {
    entry: CalibrationEntry,
    /// Whether it is stored: unseen answers are not worse off.
    stored: bool,
    accuracy: f64,
    /// Before, and after on answers that were not fitted on.
    brier: [f64; 2],
    /// The same; `null` when all are right or all are wrong.
    auroc: [Option<f64>; 2],
}

/// Runs the command.
pub fn run(command: &Calibrate, global: &Global) -> Result<(), Failure> {
    let configuration = command.budget.price.configuration()?;
    let file = command.calibrations.clone().unwrap_or_else(|| configuration.serve.calibrations_file());
    if command.feedback {
        return from_feedback(command, &configuration, &file, global);
    }
    let recipe = command.recipe.as_deref().unwrap_or_default();
    let needs = needs_of([(recipe, command.settings.clone())])?;
    let config = CalibrateConfig {
        recipe: command.recipe.clone().unwrap_or_default(),
        settings: command.settings.clone(),
        method: command.method,
        calibrations: file,
        problems: command.problems.clone(),
        asking: Asking::new(&command.model, &command.budget, &needs, global)?,
    };
    kept::run(&command.keep, &KeptConfig::Calibrate(Box::new(config)), global)
}

impl CalibrateConfig {
    /// Answers the problems, fits and stores.
    pub fn execute(&self, run: Option<&Run>, global: &Global) -> Result<(), Failure> {
        let name = composition_name(&self.recipe)?;
        let (task, problems) = self.problems.load(&self.asking)?;
        let asked = Asked { at_once: self.problems.at_once, asking: &self.asking, run };
        let (measured, answers) =
            measure(&asked, task.as_ref(), &problems, &self.recipe, &self.settings, global)?;
        let told = answers.iter().zip(&measured.correct).filter(|(answer, _)| answer.abstained.is_none());
        let judgements: Vec<Judgement> = told
            .filter_map(|(answer, correct)| {
                Some(Judgement { confidence: answer.confidence?, correct: *correct > 0.0 })
            })
            .collect();
        if judgements.is_empty() {
            return Err(Failure::new(
                Code::Usage,
                format!("`{name}` says no confidence with its answers"),
                "recipes that vote or judge do, for example `self-consistency`",
            ));
        }
        let fit = fit_calibration(&judgements, self.method.map(Method::of))?;
        let fitted = fitted(&name, self.asking.model_name(), task.name(), &fit);
        kept::record_result(run, &fitted)?;
        finish(vec![fitted], &self.calibrations, global)
    }
}

fn from_feedback(
    command: &Calibrate,
    configuration: &Configuration,
    file: &Path,
    global: &Global,
) -> Result<(), Failure> {
    let place = command.store.as_ref().map_or_else(|| configuration.serve.store_place(), StorePlace::new);
    let store = place.open()?;
    let only = command.recipe.as_deref().map(composition_name).transpose()?;
    let mut all = Vec::new();
    let mut refused = None;
    for group in feedback_judgements(store.as_ref())? {
        if only.as_ref().is_some_and(|only| *only != group.recipe) {
            continue;
        }
        match fit_calibration(&group.judgements, command.method.map(Method::of)) {
            Ok(fit) => all.push(fitted(&group.recipe, &group.model, &group.task, &fit)),
            Err(error) => {
                let why = error.to_string();
                if !global.quiet {
                    let first = why.lines().next().unwrap_or_default();
                    anstream::eprintln!("{} over {} in {}: {first}", group.recipe, group.model, group.task);
                }
                refused = Some(error);
            }
        }
    }
    if all.is_empty() {
        return Err(match refused {
            Some(error) => error.into(),
            None => Failure::new(
                Code::Input,
                "nobody judged an answer that has a confidence",
                "send reactions, or scores of the metric `correct`, to /v1/feedback",
            ),
        });
    }
    finish(all, file, global)
}

fn fitted(recipe: &str, model: &str, task: &str, fit: &CalibrationFit) -> Fitted {
    Fitted {
        entry: CalibrationEntry::new(recipe, model, task, fit),
        stored: fit.helps(),
        accuracy: fit.raw.accuracy,
        brier: [fit.raw.brier, fit.held_out.brier],
        auroc: [fit.raw.auroc, fit.held_out.auroc],
    }
}

/// Stores what helps, and tells all.
fn finish(all: Vec<Fitted>, file: &Path, global: &Global) -> Result<(), Failure> {
    let mut calibrations = Calibrations::read(file)?;
    for one in all.iter().filter(|one| one.stored) {
        calibrations.insert(one.entry.clone());
    }
    let any = all.iter().any(|one| one.stored);
    if any {
        calibrations.write(file)?;
    }
    if global.json {
        output::json(&all)?;
    } else {
        let mut rows = vec![
            [
                "recipe",
                "model",
                "task",
                "answers",
                "right",
                "method",
                "ECE before",
                "after",
                "Brier before",
                "after",
                "AUROC",
                "",
            ]
            .map(String::from)
            .to_vec(),
        ];
        for one in &all {
            let CalibrationEntry {
                recipe,
                model,
                task,
                calibrator,
                judgements,
                raw_error,
                held_out_error,
                ..
            } = &one.entry;
            rows.push(vec![
                recipe.clone(),
                model.clone(),
                task.clone(),
                judgements.to_string(),
                format!("{:.1} %", 100.0 * one.accuracy),
                format!("{:?}", calibrator.method()).to_lowercase(),
                format!("{raw_error:.3}"),
                format!("{held_out_error:.3}"),
                format!("{:.3}", one.brier[0]),
                format!("{:.3}", one.brier[1]),
                one.auroc[0].map_or("undefined".into(), |auroc| format!("{auroc:.3}")),
                if one.stored { "stored" } else { "not stored: it does harm" }.into(),
            ]);
        }
        output::line(output::table(&rows).trim_end())?;
    }
    if !any {
        return Err(Failure::new(
            Code::Failed,
            "no calibration is stored: answers that were not fitted on are worse off with it",
            "fit on more answers, or keep the confidence as it is",
        ));
    }
    if !global.quiet {
        anstream::eprintln!(
            "ECE is the expected calibration error, Brier the mean squared distance from the truth, `after` on answers that were \
             not fitted on; AUROC is the chance that a right answer has more confidence than a wrong one, which a calibration \
             hardly changes; {} holds {} calibrations; a running gateway takes it on SIGHUP",
            file.display(),
            calibrations.entries().len()
        );
    }
    Ok(())
}
