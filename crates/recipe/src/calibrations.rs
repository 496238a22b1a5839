//! The calibrations that a gateway applies: one file, an entry for each recipe, model and task.

use crate::RecipeError;
use elenchus_control::Composition;
use elenchus_measure::{CalibrationFit, Calibrator, Judgement};
use elenchus_remember::RememberError;
use elenchus_remember::service::{Labelled, ServiceStore, TraceStatus};
use elenchus_trace::Trace;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Version of the file; a newer one is refused.
const VERSION: u32 = 1;

/// A calibration and what it was fitted on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CalibrationEntry {
    /// The recipe, or the composition as text.
    pub recipe: String,
    /// The model, as the gateway names it.
    pub model: String,
    /// The task whose rules extract and compare answers.
    pub task: String,
    /// From confidences to probabilities.
    pub calibrator: Calibrator,
    /// Answers with a known verdict that it was fitted on.
    pub judgements: usize,
    /// Expected calibration error (bins of equal numbers) of the confidences as they were.
    pub raw_error: f64,
    /// The same for calibrated confidences of answers that the calibration was not fitted on.
    pub held_out_error: f64,
    /// When it was fitted, milliseconds after 1970-01-01 UTC.
    pub fitted_ms: u64,
}

impl CalibrationEntry {
    /// An entry of a fit, made now.
    pub fn new(recipe: &str, model: &str, task: &str, fit: &CalibrationFit) -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        CalibrationEntry {
            recipe: recipe.into(),
            model: model.into(),
            task: task.into(),
            calibrator: fit.calibrator.clone(),
            judgements: fit.raw.n,
            raw_error: fit.raw.ece.equal_mass,
            held_out_error: fit.held_out.ece.equal_mass,
            fitted_ms: now.map_or(0, |since| since.as_millis() as u64),
        }
    }

    fn is_for(&self, recipe: &str, model: &str, task: &str) -> bool {
        self.recipe == recipe && self.model == model && self.task == task
    }
}

/// All calibrations.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Calibrations {
    version: u32,
    calibrations: Vec<CalibrationEntry>,
}

impl Calibrations {
    /// Reads the file; one that is not there holds none.
    ///
    /// # Errors
    /// It cannot be read, is none of ours, of a newer version, or an entry is no rising map.
    pub fn read(path: &Path) -> Result<Self, RecipeError> {
        if !path.exists() {
            return Ok(Calibrations::default());
        }
        let refuse = |reason: String| RememberError::Format {
            path: path.to_path_buf(),
            reason,
            hint: "it is written by `elenchus calibrate`; remove it and fit again",
        };
        let text = elenchus_remember::fs::read_to_string(path)?;
        let found: Calibrations = serde_json::from_str(&text)
            .map_err(|error| refuse(format!("it is no file of calibrations: {error}")))?;
        if found.version > VERSION {
            let (found, known) = (found.version, VERSION);
            return Err(RememberError::Version { path: path.to_path_buf(), found, known }.into());
        }
        if let Some(wrong) = found.calibrations.iter().find(|entry| !entry.calibrator.is_valid()) {
            return Err(refuse(format!("the calibration of `{}` is no rising map", wrong.recipe)).into());
        }
        Ok(found)
    }

    /// Writes the file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), RecipeError> {
        let written = Calibrations { version: VERSION, calibrations: self.calibrations.clone() };
        // Numbers and texts always serialize.
        let text = serde_json::to_string_pretty(&written).unwrap_or_default() + "\n";
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            elenchus_remember::fs::create_dir_all(folder)?;
        }
        Ok(elenchus_remember::fs::write_atomic(path, text.as_bytes())?)
    }

    /// The calibration for answers of a recipe over a model in a task.
    pub fn find(&self, recipe: &str, model: &str, task: &str) -> Option<&CalibrationEntry> {
        self.calibrations.iter().find(|entry| entry.is_for(recipe, model, task))
    }

    /// All of them.
    pub fn entries(&self) -> &[CalibrationEntry] {
        &self.calibrations
    }

    /// Puts one in the place of an older one for the same.
    pub fn insert(&mut self, entry: CalibrationEntry) {
        self.calibrations.retain(|old| !old.is_for(&entry.recipe, &entry.model, &entry.task));
        self.calibrations.push(entry);
    }
}

/// The name under which a gateway knows a recipe or a composition: that of its answers, and of their calibration.
///
/// # Errors
/// It is no composition.
pub fn composition_name(text: &str) -> Result<String, RecipeError> {
    Ok(match Composition::parse(text)? {
        Composition::Part(part) => part.name,
        composed => composed.to_string(),
    })
}

/// Answers of one recipe over one model in one task that people judged.
#[derive(Debug, Clone, PartialEq)]
pub struct FeedbackJudgements {
    /// The recipe.
    pub recipe: String,
    /// The model.
    pub model: String,
    /// The task.
    pub task: String,
    /// Confidences and verdicts.
    pub judgements: Vec<Judgement>,
}

/// Name of the metric whose score says whether an answer is right: at least one half is.
const CORRECT: &str = "correct";
/// Traces read at once.
const PAGE: usize = 200;

/// What people said of a whole answer: the last score of the metric `correct`; without one the last reaction; without one a
/// correction, which says that the answer was wrong unless it is the same.
fn verdict(labelled: &Labelled) -> Option<bool> {
    let of_all = || labelled.feedback.iter().rev().filter(|said| said.stage.is_none());
    let score = of_all().find(|said| said.metric.as_deref() == Some(CORRECT)).and_then(|said| said.score);
    let reaction = || of_all().find_map(|said| said.reaction).map(|reaction| reaction.is_good());
    let correction = || of_all().find_map(|said| said.correction.as_ref());
    score
        .map(|score| score >= 0.5)
        .or_else(reaction)
        .or_else(|| correction().map(|should| should.trim() == labelled.trace.summary.answer.trim()))
}

/// The judged answers of a gateway that have a confidence, by recipe, model and task; in the order of their random
/// identifiers, which means nothing.
///
/// # Errors
/// The store cannot be read.
pub fn feedback_judgements(store: &dyn ServiceStore) -> Result<Vec<FeedbackJudgements>, RecipeError> {
    let mut groups: BTreeMap<[String; 3], Vec<Judgement>> = BTreeMap::new();
    let mut after = String::new();
    loop {
        let page = store.labelled(&after, PAGE)?;
        let Some(last) = page.last() else { break };
        after.clone_from(&last.trace.summary.id);
        for labelled in &page {
            let summary = &labelled.trace.summary;
            let (Some(confidence), TraceStatus::Answered) = (summary.confidence, summary.status) else {
                continue;
            };
            let Some(correct) = verdict(labelled) else { continue };
            let trace = labelled.trace.trace.as_deref().and_then(|trace| Trace::from_json(trace).ok());
            let Some(trace) = trace else { continue };
            let group = [summary.recipe.clone(), summary.model.clone(), trace.problem.task];
            groups.entry(group).or_default().push(Judgement { confidence, correct });
        }
    }
    let made = groups.into_iter().map(|([recipe, model, task], judgements)| FeedbackJudgements {
        recipe,
        model,
        task,
        judgements,
    });
    Ok(made.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use elenchus_measure::{Judgement, fit_calibration};

    #[test]
    fn written_read_found_and_replaced() {
        let rows =
            (0..100).map(|at| Judgement { confidence: f64::from(at % 10) / 10.0, correct: at % 10 > 6 });
        let fit = fit_calibration(&rows.collect::<Vec<_>>(), None).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deeper/calibrations.json");
        assert_eq!(Calibrations::read(&path).unwrap(), Calibrations::default());
        let mut all = Calibrations::default();
        all.insert(CalibrationEntry::new("a", "m", "math", &fit));
        all.insert(CalibrationEntry::new("b", "m", "math", &fit));
        all.insert(CalibrationEntry { judgements: 7, ..CalibrationEntry::new("a", "m", "math", &fit) });
        all.write(&path).unwrap();
        let read = Calibrations::read(&path).unwrap();
        assert_eq!(read.entries().len(), 2);
        assert_eq!(read.find("a", "m", "math").map(|entry| entry.judgements), Some(7));
        assert!(read.find("a", "m", "arithmetic").is_none() && read.find("a", "other", "math").is_none());
        let text = std::fs::read_to_string(&path).unwrap();
        for (wrong, said) in [
            (text.replace("\"version\": 1", "\"version\": 2"), "version"),
            ("{".into(), "no file of calibrations"),
        ] {
            std::fs::write(&path, &wrong).unwrap();
            let error = Calibrations::read(&path).unwrap_err().to_string();
            assert!(error.contains(said) && error.contains("hint"), "{error}");
        }
        let falling = Calibrator::Platt { slope: -1.0, intercept: 0.0 };
        let mut all = Calibrations::default();
        all.insert(CalibrationEntry { calibrator: falling, ..CalibrationEntry::new("a", "m", "math", &fit) });
        all.write(&path).unwrap();
        assert!(Calibrations::read(&path).unwrap_err().to_string().contains("rising"));
    }

    #[test]
    fn what_people_said_is_a_verdict() {
        use elenchus_remember::service::{
            FeedbackEntry, Reaction, SqliteStore, TraceEntry, TraceSummary, Write,
        };
        use elenchus_trace::{Problem, Usage};
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path().join("s.sqlite")).unwrap();
        let entry = |id: &str, confidence: Option<f64>| {
            let trace = Trace::new(id, "vote", Problem::new("p", "math", "Q"));
            let summary = TraceSummary {
                id: id.into(),
                created_ms: 1,
                recipe: "vote".into(),
                model: "m".into(),
                key: String::new(),
                question: "Q".into(),
                answer: "4".into(),
                confidence,
                status: TraceStatus::Answered,
                elapsed_ms: 1.0,
                usage: Usage::default(),
            };
            let trace = serde_json::to_string(&trace).ok();
            Write::Trace(Box::new(TraceEntry { summary, request: b"{}".to_vec(), response: None, trace }))
        };
        let mut said = 0;
        let mut says = |id: &str, change: &dyn Fn(&mut FeedbackEntry)| {
            said += 1;
            let mut entry = FeedbackEntry {
                id: format!("f{said}"),
                trace_id: id.into(),
                stage: None,
                reaction: None,
                metric: None,
                score: None,
                comment: None,
                correction: None,
                edit: None,
                key: String::new(),
                created_ms: said,
            };
            change(&mut entry);
            Write::Feedback(Box::new(entry))
        };
        let reaction = |reaction| move |entry: &mut FeedbackEntry| entry.reaction = Some(reaction);
        let correct = |score| {
            move |entry: &mut FeedbackEntry| {
                (entry.metric, entry.score) = (Some("correct".into()), Some(score))
            }
        };
        let writes = [
            entry("a", Some(0.1)),
            entry("b", Some(0.2)),
            entry("c", Some(0.3)),
            entry("d", Some(0.4)),
            entry("e", None),
            entry("f", Some(0.6)),
            says("a", &reaction(Reaction::Down)),
            says("a", &reaction(Reaction::Love)),
            says("b", &reaction(Reaction::Up)),
            says("b", &correct(0.0)),
            says("c", &|entry| entry.correction = Some("5".into())),
            says("d", &|entry| entry.comment = Some("hm".into())),
            says("e", &reaction(Reaction::Up)),
            says("f", &|entry| (entry.stage, entry.reaction) = (Some(0), Some(Reaction::Down))),
        ];
        store.write(&writes).unwrap();
        let found = feedback_judgements(&store).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].recipe.as_str(), found[0].task.as_str()), ("vote", "math"));
        let told: Vec<(f64, bool)> = found[0].judgements.iter().map(|j| (j.confidence, j.correct)).collect();
        assert_eq!(
            told,
            [(0.1, true), (0.2, false), (0.3, false)],
            "the last counts, and only what is of the whole"
        );
    }

    #[test]
    fn names_are_those_of_the_gateway() {
        assert_eq!(composition_name("self_consistency@5").unwrap(), "self-consistency");
        assert_eq!(composition_name("a  then b").unwrap(), "a then b");
    }
}
