use super::*;
use crate::models;
use elenchus_learn::objective::TrainingRow;
use elenchus_learn::policy::{Policy, text_row};
use elenchus_learn::rollouts::mix;
use elenchus_learn::trainer::Generated;
use elenchus_learn::{Observer, StopFlag};
use std::collections::HashSet;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A checkpoint of a few hundred numbers: it learns to write the digit it is shown.
#[derive(Clone)]
struct Tiny {
    plan: Plan,
}

impl Tiny {
    fn new() -> Self {
        let shape = ModelShape {
            hidden_size: 8,
            intermediate_size: 8,
            layers: 1,
            heads: 1,
            kv_heads: 1,
            max_positions: 16,
        };
        Tiny {
            plan: Plan {
                version: 1,
                start: Start::Fresh { shape, words: Vec::new() },
                heads: Vec::new(),
                objective: "sft".into(),
                objective_settings: Value::Null,
                train: TrainSettings { steps: 500, batch: 2, learning_rate: 3e-3, ..Default::default() },
                rows: serde_json::json!({ "digits": 10 }),
            },
        }
    }
}

impl LabModel for Tiny {
    fn name(&self) -> &'static str {
        "tiny"
    }

    fn summary(&self) -> &'static str {
        "copies a digit"
    }

    fn plan(&self) -> Plan {
        self.plan.clone()
    }

    fn source(
        &self,
        policy: &mut NativePolicy,
        seed: u64,
        session: &Session<'_>,
    ) -> Result<Box<dyn BatchSource>, LearnError> {
        session.once("first", || Ok(1))?;
        let encoder = policy.encoder();
        Ok(Box::new(Generated::new(self.plan.train.batch, seed, move |seed| {
            let digit = (mix(seed, 1) % 10).to_string();
            text_row(encoder.as_ref(), &format!("D{digit}"), &digit)
        })))
    }

    fn validate(&self, policy: &mut NativePolicy, _: u64, _: &Session<'_>) -> Result<Figure, LearnError> {
        let rows = (0..10)
            .map(|digit| text_row(policy, &format!("D{digit}"), &digit.to_string()))
            .collect::<Result<Vec<TrainingRow>, _>>()?;
        let value = policy.logprobs(&rows)?.iter().map(|l| f64::from(l[0])).sum::<f64>() / 10.0;
        Ok(Figure { name: "log-probability of the digit".into(), value, problems: 10 })
    }
}

/// Counts units that were done and replayed; stops after some.
#[derive(Default)]
struct Watch {
    done: AtomicUsize,
    replayed: AtomicUsize,
    stop_after: Option<usize>,
    stop: StopFlag,
    notes: Mutex<Vec<String>>,
}

impl Observer for Watch {
    fn phase(&self, _: usize, _: &str, _: usize) {}

    fn advance(&self, units: usize, _: usize, replayed: bool) {
        if replayed {
            self.replayed.fetch_add(units, Ordering::SeqCst);
            return;
        }
        let done = self.done.fetch_add(units, Ordering::SeqCst) + units;
        if self.stop_after.is_some_and(|n| done >= n) {
            self.stop.stop();
        }
    }

    fn note(&self, text: &str) {
        self.notes.lock().unwrap().push(text.into());
    }
}

impl Watch {
    fn session(&self) -> Session<'_> {
        Session { run: None, observer: self, stop: self.stop.clone() }
    }
}

fn weights(built: &Built) -> Vec<f32> {
    built.load().unwrap().model.parameters
}

fn make(cache: &Path, seed: u64) -> Built {
    Lab::new(Some(cache)).obtain(&Tiny::new(), seed, &Watch::default().session()).unwrap()
}

#[test]
fn the_key_changes_with_everything_that_determines_the_weights() {
    let key =
        |model: &dyn LabModel, seed| Identity::of(model, models::EMBEDDED, seed).unwrap().key().unwrap();
    let tiny = Tiny::new();
    let mut keys = HashSet::from([key(&tiny, 1), key(&tiny, 2)]);
    assert_eq!(key(&tiny, 1), key(&Tiny::new(), 1), "the same again");
    let changes: [fn(&mut Plan); 8] = [
        |p| p.version = 2,
        |p| p.heads.push("value".into()),
        |p| p.objective = "dpo".into(),
        |p| p.objective_settings = serde_json::json!({ "per_token": false }),
        |p| p.train.learning_rate *= 2.0,
        |p| p.train.steps += 1,
        |p| p.rows = serde_json::json!({ "digits": 9 }),
        |p| p.start = Start::Base { words: Vec::new() },
    ];
    for change in changes {
        let mut other = Tiny::new();
        change(&mut other.plan);
        assert!(keys.insert(key(&other, 1)), "{:?}", other.plan);
    }
    let mut word = Tiny::new();
    word.plan.start = Start::Base { words: vec!["lamp".into()] };
    assert!(keys.insert(key(&word, 1)));
    let mut behind = Tiny::new();
    behind.plan.start = Start::Lab { name: "own-judge".into() };
    assert!(keys.insert(key(&behind, 1)) && keys.insert(key(&behind, 2)), "the key of its start counts");
    // Other base weights: another model in a folder.
    let folder = tempfile::tempdir().unwrap();
    let base = make(folder.path(), 1).folder.display().to_string();
    let mut over = Tiny::new();
    over.plan.start = Start::Base { words: Vec::new() };
    assert!(keys.insert(Identity::of(&over, &base, 1).unwrap().key().unwrap()));
}

#[test]
fn a_checkpoint_is_made_once_and_its_card_says_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let lab = Lab::new(Some(folder.path()));
    let first = lab.obtain(&Tiny::new(), 1, &Watch::default().session()).unwrap();
    assert!(first.made);
    let card = &first.card;
    assert_eq!((card.steps, card.seed, card.name.as_str()), (500, 1, "tiny"));
    assert_eq!(card.tokens, 500 * 2 * 4, "tag, digit, digit, end: four tokens in each row");
    assert!(card.figure.value > -1.5 && card.seconds > 0.0, "it learned to copy: {card:?}");
    let watch = Watch::default();
    let again = lab.obtain(&Tiny::new(), 1, &watch.session()).unwrap();
    assert_eq!(again, Built { made: false, ..first.clone() });
    assert_eq!(watch.done.load(Ordering::SeqCst), 0, "nothing was trained");
    let other = lab.obtain(&Tiny::new(), 2, &watch.session()).unwrap();
    assert_ne!(weights(&other), weights(&first), "another seed, another model");
    let used: Vec<u64> = lab.used().iter().map(|built| built.card.seed).collect();
    assert_eq!(used, [1, 2], "each once");
    assert_eq!(
        weights(&make(tempfile::tempdir().unwrap().path(), 1)),
        weights(&first),
        "made anew, the same"
    );
}

#[test]
fn a_build_that_was_stopped_goes_on_and_ends_as_an_undisturbed_one() {
    let (folder, undisturbed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let lab = Lab::new(Some(folder.path()));
    let watch = Watch { stop_after: Some(250), ..Default::default() };
    let stopped = lab.obtain(&Tiny::new(), 1, &watch.session());
    assert!(matches!(stopped, Err(RecipeError::Learn(LearnError::Interrupted))), "{stopped:?}");
    assert_eq!(lab.look(&Tiny::new(), 1).unwrap(), Standing::Begun);
    let watch = Watch::default();
    let built = lab.obtain(&Tiny::new(), 1, &watch.session()).unwrap();
    assert_eq!(watch.replayed.load(Ordering::SeqCst), 200, "one stretch was finished before the stop");
    let whole = make(undisturbed.path(), 1);
    assert_eq!(weights(&built), weights(&whole));
    assert_eq!(built.card.tokens, whole.card.tokens, "tokens of both processes");
    let kept = std::fs::read_dir(built.folder.parent().unwrap()).unwrap().count();
    assert_eq!(kept, 1, "the stretches are cleared away");
}

#[test]
fn a_damaged_checkpoint_is_noticed_and_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let lab = Lab::new(Some(folder.path()));
    let mut short = Tiny::new();
    short.plan.train.steps = 20;
    let before = lab.obtain(&short, 1, &Watch::default().session()).unwrap();
    let expected = weights(&before);
    let damages: [fn(&Path); 4] = [
        |model| {
            let path = model.join("model.safetensors");
            let mut bytes = std::fs::read(&path).unwrap();
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            std::fs::write(path, bytes).unwrap();
        },
        |model| std::fs::remove_file(model.join("tokenizer.json")).unwrap(),
        |model| std::fs::write(model.join("card.json"), "{}").unwrap(),
        |model| std::fs::write(model.parent().unwrap().parent().unwrap().join("config.json"), "{").unwrap(),
    ];
    for damage in damages {
        damage(&before.folder);
        assert!(matches!(lab.look(&short, 1).unwrap(), Standing::Damaged(_)));
        let watch = Watch::default();
        let again = lab.obtain(&short, 1, &watch.session()).unwrap();
        assert!(again.made && weights(&again) == expected);
        let notes = watch.notes.lock().unwrap().join("\n");
        assert!(notes.contains("damaged, it is made again"), "{notes}");
    }
}

#[test]
fn two_at_once_make_it_once() {
    let folder = tempfile::tempdir().unwrap();
    let made: Vec<bool> = std::thread::scope(|scope| {
        let work: Vec<_> = (0..2).map(|_| scope.spawn(|| make(folder.path(), 1).made)).collect();
        work.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(made.iter().filter(|&&made| made).count(), 1, "the other one waited: {made:?}");
}

#[test]
fn checkpoints_are_found_by_name_and_their_plans_can_be_meant() {
    for model in checkpoints() {
        let plan = checkpoint(model.name()).unwrap().plan();
        plan.train.check().unwrap();
        elenchus_learn::objective::objective(&plan.objective, plan.objective_settings).unwrap();
        Identity::of(model.as_ref(), models::EMBEDDED, 1).unwrap().key().unwrap();
        assert!(!model.summary().is_empty());
    }
    let error = checkpoint("own-juge").map(|m| m.name()).unwrap_err().to_string();
    assert!(error.contains("own-judge") && error.contains("hint:"), "{error}");
}

/// The smallest settings with which `own-judge` runs through all its parts.
#[test]
fn own_judge_learns_from_its_own_samples() {
    let folder = tempfile::tempdir().unwrap();
    let model = OwnJudge {
        problems: 8,
        samples: 2,
        steps: [1, 2],
        solve_rows: 1,
        validation: 8,
        train: TrainSettings { steps: 2, batch: 4, ..Default::default() },
    };
    let built = Lab::new(Some(folder.path())).obtain(&model, 1, &Watch::default().session()).unwrap();
    assert!((0.0..=1.0).contains(&built.card.figure.value), "{:?}", built.card);
    assert_ne!(
        built.card.key,
        Identity::of(&OwnJudge::default(), models::EMBEDDED, 1).unwrap().key().unwrap()
    );
}

/// The smallest settings with which the mixed stream is learned and its samples become rows of counts and choices.
#[test]
fn the_counter_learns_from_samples_of_the_mixed_stream() {
    let folder = tempfile::tempdir().unwrap();
    let stream = Stream {
        problems: 8,
        validation: 4,
        train: TrainSettings { steps: 2, batch: 4, ..Default::default() },
    };
    let watch = Watch::default();
    let built = Lab::new(Some(folder.path())).obtain(&stream, 1, &watch.session()).unwrap();
    assert!((0.0..=1.0).contains(&built.card.figure.value), "{:?}", built.card);
    let counter = Counter {
        problems: 8,
        samples: 4,
        shown: [2, 4],
        solve_rows: 1,
        validation: 4,
        train: TrainSettings { steps: 2, batch: 9, ..Default::default() },
        ..Default::default()
    };
    let mut policy = built.load().unwrap().policy();
    let tokenizer = built.load().unwrap().tokenizer;
    let mut source = counter.source(&mut policy, 1, &watch.session()).unwrap();
    let tags: Vec<String> = (0..4)
        .flat_map(|step| source.batch(step).unwrap())
        .map(|group| tokenizer.token_text(group[0].tokens[0]).unwrap())
        .collect();
    let count = |tag: &str| tags.iter().filter(|found| *found == tag).count();
    assert_eq!((tags.len(), count("S")), (36, 4), "{tags:?}");
    assert!(count("V") > 5 && count("W") > 5, "{tags:?}");
    let figure = counter.validate(&mut policy, 1, &watch.session()).unwrap();
    assert!((0.0..=1.0).contains(&figure.value), "{figure:?}");
}

/// The smallest settings with which the chooser samples, learns and is examined.
#[test]
fn the_response_chooser_learns_from_its_own_samples_of_chains() {
    let folder = tempfile::tempdir().unwrap();
    let chooser = ResponseChooser {
        problems: 8,
        samples: 4,
        shown: [2, 4],
        solve_rows: 1,
        validation: 4,
        train: TrainSettings { steps: 2, batch: 9, ..Default::default() },
        ..Default::default()
    };
    let watch = Watch::default();
    let built = Lab::new(Some(folder.path())).obtain(&chooser, 1, &watch.session()).unwrap();
    assert!((0.0..=1.0).contains(&built.card.figure.value), "{:?}", built.card);
    let mut policy = built.load().unwrap().policy();
    let tokenizer = built.load().unwrap().tokenizer;
    let mut source = chooser.source(&mut policy, 1, &watch.session()).unwrap();
    let rows: Vec<TrainingRow> = (0..6).flat_map(|step| source.batch(step).unwrap()).flatten().collect();
    let tagged = |tag: &str| -> Vec<&TrainingRow> {
        rows.iter().filter(|row| tokenizer.token_text(row.tokens[0]).as_deref() == Some(tag)).collect()
    };
    assert_eq!((rows.len(), tagged("S").len()), (54, 6), "one chain in each batch");
    assert!(tagged("V").len() > 10, "counts");
    let choices = tagged("W");
    assert!(choices.len() > 10, "choices");
    for row in choices {
        let target = tokenizer.decode(&row.tokens[row.first_target..row.tokens.len() - 1]).unwrap();
        assert!((1..=4).contains(&target.parse::<usize>().unwrap()), "{target}");
    }
}

/// Whether programs can be run: `cargo test -p elenchus-recipe` alone does not build what runs them.
pub(crate) fn can_run_programs() -> bool {
    let beside_tests = std::env::current_exe().unwrap();
    let runner = beside_tests.parent().unwrap().parent().unwrap().join("elenchus");
    if !runner.is_file() {
        eprintln!("skipped: there is no `elenchus` to run programs in; add `-p elenchus-cli`");
        return false;
    }
    elenchus_task::program::use_helper(runner);
    true
}

/// The smallest settings with which the program writer learns, writes and is judged by tests.
#[test]
fn the_program_writer_is_judged_by_unit_tests() {
    if !can_run_programs() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let writer = ProgramWriter {
        validation: 4,
        train: TrainSettings { steps: 2, batch: 4, ..Default::default() },
        ..Default::default()
    };
    let built = Lab::new(Some(folder.path())).obtain(&writer, 1, &Watch::default().session()).unwrap();
    assert_eq!((built.card.figure.problems, built.card.steps), (4, 2));
    assert!((0.0..=1.0).contains(&built.card.figure.value), "{:?}", built.card);
}

/// Writes the one digit among four letters.
struct Pointer;

/// Where the digit stands follows from the number, so that every place is tried.
fn pointed(number: u64) -> (String, String, usize) {
    let (place, digit) = ((number % 5) as usize, (number / 5) % 10);
    let mut signs: Vec<char> = (0..5).map(|i| char::from(b'a' + ((number / 7 + 3 * i) % 12) as u8)).collect();
    signs[place] = char::from(b'0' + digit as u8);
    (format!("S{}?", signs.into_iter().collect::<String>()), digit.to_string(), place)
}

impl LabModel for Pointer {
    fn name(&self) -> &'static str {
        "pointer"
    }

    fn summary(&self) -> &'static str {
        "copies the one digit that it is shown"
    }

    fn plan(&self) -> Plan {
        let shape = ModelShape {
            hidden_size: 32,
            intermediate_size: 32,
            layers: 1,
            heads: 2,
            kv_heads: 2,
            max_positions: 16,
        };
        let train = TrainSettings { steps: 1600, batch: 16, learning_rate: 3e-3, ..Default::default() };
        Plan { start: Start::Fresh { shape, words: Vec::new() }, train, ..Tiny::new().plan }
    }

    fn source(
        &self,
        policy: &mut NativePolicy,
        seed: u64,
        _: &Session<'_>,
    ) -> Result<Box<dyn BatchSource>, LearnError> {
        let encoder = policy.encoder();
        Ok(Box::new(Generated::new(16, seed, move |seed| {
            let (prompt, digit, _) = pointed(seed % 100_000);
            text_row(encoder.as_ref(), &prompt, &digit)
        })))
    }

    fn validate(&self, _: &mut NativePolicy, _: u64, _: &Session<'_>) -> Result<Figure, LearnError> {
        Ok(Figure { name: "none".into(), value: 0.0, problems: 0 })
    }
}

/// Capture of attention: a model that copies its answer from one segment must be seen to look there (sheet 47).
#[test]
fn attention_lies_on_the_segment_that_the_answer_is_copied_from() {
    use elenchus_generate::{
        LanguageModel, LatentRead, LatentRequest, LatentValues, NativeModel, NativeOptions, Segment, Stretch,
    };
    let folder = tempfile::tempdir().unwrap();
    let built = Lab::new(Some(folder.path())).obtain(&Pointer, 1, &Watch::default().session()).unwrap();
    let model = NativeModel::load(&built.folder, NativeOptions::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut found = 0;
    for number in 0..40 {
        let (prompt, digit, place) = pointed(number * 13);
        let request = LatentRequest {
            messages: vec![elenchus_trace::Message::user(prompt)],
            continuation: digit,
            read: LatentRead::Attention {
                rows: Stretch::Bytes { from: 0, to: 1 },
                segments: (1..6).map(|at| Segment::Bytes { message: 0, from: at, to: at + 1 }).collect(),
                layer: None,
            },
        };
        let LatentValues::Attention(heads) = runtime.block_on(model.latent(&request)).unwrap().values else {
            panic!("attention was asked for")
        };
        for head in &heads {
            let sum: f32 = head.iter().sum();
            assert!((sum - 1.0).abs() < 1e-4, "segments and the rest are all there is: {sum}");
        }
        let mass = |segment: usize| heads.iter().map(|head| head[segment]).sum::<f32>();
        let largest = (0..5).max_by(|&a, &b| mass(a).total_cmp(&mass(b))).unwrap();
        found += usize::from(largest == place);
    }
    assert!(found >= 38, "{found} of 40");
}
