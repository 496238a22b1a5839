//! `elenchus select`

use crate::arguments::Global;
use crate::failure::{Code, Failure};
use crate::{files, output, paired};
use clap::Args;
use elenchus_control::{
    Power, RecordedChoice, RecordedMethod, RecordedSettings, ScoreField, recorded_methods, select_all,
};
use elenchus_measure::{Bootstrap, Comparison, Interval, accuracy, compare};
use elenchus_trace::SampleRow;
use serde::Serialize;
use serde_json::json;
use std::path::PathBuf;

/// Vote or select among recorded samples
#[derive(Debug, Args)]
#[command(after_help = "FILE is samples.jsonl (docs/formats.md), also .jsonl.gz or .parquet.

With --against the method is compared with others on the same samples: the paired difference with
its interval, McNemar's test (adjusted by Holm's rule for several), and a sentence. Each method can
be followed by settings of its own: by, power, samples, drop_unanswered.

Examples:
  elenchus select samples.jsonl --method self-consistency
  elenchus select samples.jsonl --method borda --by mean_logprob --power 0.5
  elenchus select samples.jsonl --method rpc --against self-consistency --against sum:by=score
  elenchus select samples.jsonl --method self-consistency --against self-consistency:samples=3
  elenchus select --list")]
pub struct Select {
    /// Recorded samples
    #[arg(required_unless_present = "list")]
    file: Option<PathBuf>,
    /// Method, with settings of its own behind a colon where it has any: `borda:by=mean_logprob,power=0.5`
    #[arg(long, default_value = "self-consistency", value_name = "METHOD[:SETTING=VALUE,…]")]
    method: String,
    /// Another method on the same samples, and the paired difference to it; several times for several
    #[arg(long, value_name = "METHOD[:SETTING=VALUE,…]", requires = "file")]
    against: Vec<String>,
    /// The number that `--method` compares: score, certainty, mean_logprob or sum_logprob [default: the method's own]
    #[arg(long)]
    by: Option<String>,
    /// Exponent of Borda weights [default: by the number of samples]
    #[arg(long)]
    power: Option<f64>,
    /// Use only the first N samples of each question; `--against` too
    #[arg(long, value_name = "N")]
    samples: Option<usize>,
    /// Task whose rules extract and compare answers
    #[arg(long, default_value = "math")]
    task: String,
    /// Leave broken lines out and count them
    #[arg(long)]
    skip_bad_lines: bool,
    /// List the methods
    #[arg(long)]
    list: bool,
}

#[derive(Serialize)]
struct Selected<'a> {
    method: &'static str,
    questions: usize,
    accuracy: Option<Interval>,
    results: &'a [RecordedChoice],
    #[serde(flatten)]
    compared: Option<Compared<'a>>,
}

/// What `--against` adds.
#[derive(Serialize)]
struct Compared<'a> {
    against: Vec<Other<'a>>,
    /// The method less each of the others, in their order, on the questions of which it is known what is right.
    comparisons: Vec<Comparison>,
    /// Holm-adjusted p-values of McNemar's test.
    adjusted_p: Vec<Option<f64>>,
}

#[derive(Serialize)]
struct Other<'a> {
    method: &'a str,
    accuracy: Option<Interval>,
    results: &'a [RecordedChoice],
}

/// A method with its settings and what it chose.
struct Arm {
    /// As results name it: the method, and behind it the settings that are not its own defaults.
    name: String,
    settings: RecordedSettings,
    results: Vec<RecordedChoice>,
}

impl Arm {
    /// Share of right choices among the questions of which it is known what is right.
    fn accuracy(&self) -> Result<Option<Interval>, Failure> {
        let judged: Vec<bool> = self.results.iter().filter_map(|choice| choice.correct).collect();
        let right = judged.iter().filter(|correct| **correct).count();
        Ok(if judged.is_empty() { None } else { Some(accuracy(right, judged.len())?) })
    }

    fn line(&self) -> Result<Option<String>, Failure> {
        let unknown = self.results.iter().filter(|choice| choice.correct.is_none()).count();
        Ok(self.accuracy()?.map(|accuracy| {
            format!(
                "{} on {} questions: {} ({unknown} without a reference)",
                self.name,
                self.results.len(),
                output::percent(&accuracy),
            )
        }))
    }
}

/// `METHOD` or `METHOD:SETTING=VALUE,…`, over `base`.
fn settings_of(spelled: &str, samples: Option<usize>) -> Result<RecordedSettings, Failure> {
    let (name, own) = spelled.split_once(':').unwrap_or((spelled, ""));
    let method = RecordedMethod::named(name)?;
    let mut whole = json!({ "method": method.name(), "samples": samples });
    for one in own.split(',').filter(|one| !one.is_empty()) {
        crate::settings::set(&mut whole, one)?;
    }
    if let Some(by) = whole["by"].as_str() {
        whole["by"] = json!(ScoreField::named(by)?.name());
    }
    serde_json::from_value(whole).map_err(|error| {
        Failure::new(
            Code::Usage,
            format!("`{spelled}`: {error}"),
            "a method takes `by`, `power`, `samples` and `drop_unanswered`, for example borda:by=mean_logprob,power=0.5",
        )
    })
}

/// The name of a method with the settings that differ from its defaults; `samples` when it differs from the others'.
fn name_of(settings: &RecordedSettings, samples: Option<usize>) -> String {
    let mut own = Vec::new();
    own.extend(settings.by.map(|by| format!("by={}", by.name())));
    if let Power::Given(power) = settings.power {
        own.push(format!("power={power}"));
    }
    own.extend(
        settings.samples.filter(|_| settings.samples != samples).map(|count| format!("samples={count}")),
    );
    own.extend(settings.drop_unanswered.then(|| "drop_unanswered=true".to_string()));
    let method = settings.method.name();
    if own.is_empty() { method.to_string() } else { format!("{method}:{}", own.join(",")) }
}

impl Select {
    /// The method, then those it is compared with.
    fn arms(&self) -> Result<Vec<RecordedSettings>, Failure> {
        let mut first = settings_of(&self.method, self.samples)?;
        if let Some(by) = &self.by {
            first.by = Some(ScoreField::named(by)?);
        }
        if let Some(power) = self.power {
            first.power = Power::Given(power);
        }
        let others = self.against.iter().map(|spelled| settings_of(spelled, self.samples));
        let all: Vec<RecordedSettings> =
            std::iter::once(Ok(first)).chain(others).collect::<Result<_, Failure>>()?;
        for settings in &all {
            settings.check()?;
        }
        Ok(all)
    }
}

/// Runs the command.
pub fn run(command: &Select, global: &Global) -> Result<(), Failure> {
    if command.list {
        if global.json {
            let rows: Vec<_> = recorded_methods()
                .map(|(name, summary)| json!({ "name": name, "summary": summary }))
                .collect();
            return output::json(&rows);
        }
        for (name, summary) in recorded_methods() {
            output::line(&format!("{name:<24} {summary}"))?;
        }
        return Ok(());
    }
    let Some(file) = &command.file else { return Ok(()) };
    let settings = command.arms()?;
    let rows: Vec<SampleRow> = files::read(file, command.skip_bad_lines)?;
    let task = elenchus_task::task(&command.task, &serde_json::Value::Null)?;
    let input = |message: String| Failure { code: Code::Input, message };
    let arms: Vec<Arm> = settings
        .into_iter()
        .map(|settings| {
            let results = select_all(&rows, &settings, task.as_ref())
                .map_err(|error| input(format!("{}: {error}", file.display())))?;
            Ok(Arm { name: name_of(&settings, command.samples), settings, results })
        })
        .collect::<Result<_, Failure>>()?;
    let [first, others @ ..] = arms.as_slice() else { return Ok(()) };
    let compared = match others {
        [] => None,
        others => Some(compared(first, others, global).map_err(|failure| Failure {
            message: format!("{}: {}", file.display(), failure.message),
            ..failure
        })?),
    };
    if global.json {
        return output::json(&Selected {
            method: first.settings.method.name(),
            questions: first.results.len(),
            accuracy: first.accuracy()?,
            results: &first.results,
            compared,
        });
    }
    let Some(line) = first.line()? else {
        for choice in &first.results {
            output::line(&format!("{}\t{}", choice.id, choice.answer.as_deref().unwrap_or("–")))?;
        }
        return Ok(());
    };
    output::line(&line)?;
    for other in others {
        other.line()?.iter().try_for_each(|line| output::line(line))?;
    }
    let Some(compared) = compared else { return Ok(()) };
    for (comparison, p) in compared.comparisons.iter().zip(&compared.adjusted_p) {
        paired::lines(comparison, *p)?;
    }
    Ok(())
}

/// The first method less each of the others, on the questions of which all know what is right.
fn compared<'a>(first: &Arm, others: &'a [Arm], global: &Global) -> Result<Compared<'a>, Failure> {
    let bootstrap = Bootstrap::default().seed(global.seed);
    let known = |index: &usize| {
        first.results[*index].correct.is_some()
            && others.iter().all(|arm| arm.results[*index].correct.is_some())
    };
    let places: Vec<usize> = (0..first.results.len()).filter(known).collect();
    if places.is_empty() {
        return Err(Failure::new(
            Code::Input,
            "no question says what is right, so that nothing can be compared",
            "rows need `gold`, or samples `correct` (docs/formats.md)",
        ));
    }
    let correct = |arm: &Arm| -> Vec<f64> {
        places.iter().map(|&index| f64::from(u8::from(arm.results[index].correct == Some(true)))).collect()
    };
    let own = correct(first);
    let comparisons = others
        .iter()
        .map(|other| Ok(compare(&first.name, &own, &other.name, &correct(other), &bootstrap)?))
        .collect::<Result<Vec<Comparison>, Failure>>()?;
    let adjusted_p = paired::adjusted_p(&comparisons)?;
    let against = others
        .iter()
        .map(|arm| Ok(Other { method: &arm.name, accuracy: arm.accuracy()?, results: &arm.results }))
        .collect::<Result<_, Failure>>()?;
    Ok(Compared { against, comparisons, adjusted_p })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_spelled_with_its_settings() {
        let spelled = |text: &str| settings_of(text, Some(9)).map(|settings| name_of(&settings, Some(9)));
        assert_eq!(spelled("majority").unwrap(), "self-consistency");
        assert_eq!(spelled("borda:by=mean-logprob,power=0.5").unwrap(), "borda:by=mean_logprob,power=0.5");
        assert_eq!(spelled("self-consistency:samples=3").unwrap(), "self-consistency:samples=3");
        assert_eq!(settings_of("borda:power=auto", Some(9)).unwrap().samples, Some(9));
        for (wrong, said) in [
            ("bordda", "`borda`"),
            ("borda:by=certanty", "`certainty`"),
            ("borda:pover=1", "pover"),
            ("borda:power", "PATH=VALUE"),
            ("borda:samples=many", "samples"),
        ] {
            let text = settings_of(wrong, None).unwrap_err().to_string();
            assert!(text.contains(said) && text.contains("hint:"), "{wrong}: {text}");
        }
    }
}
