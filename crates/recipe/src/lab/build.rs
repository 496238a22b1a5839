//! Finding a checkpoint in the cache, or making it.

use super::vocabulary::extend;
use super::{Figure, Identity, LabModel, Start, checkpoint};
use crate::models::{self, Loaded};
use crate::{RecipeError, models::EMBEDDED};
use elenchus_learn::policy::Policy;
use elenchus_learn::rollouts::mix;
use elenchus_learn::stretches::train_in_stretches;
use elenchus_learn::{LearnError, NativePolicy, Session, objective};
use elenchus_native::ScalarHead;
use elenchus_remember::{RememberError, Run, fs};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Name of the finished checkpoint in its run folder.
const MODEL: &str = "model";
/// The card beside its weights.
const CARD: &str = "card.json";
/// Steps that a killed build loses at most.
const STEPS_PER_STRETCH: usize = 200;
/// How often a build looks whether another process has finished the same checkpoint.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// Digits of the key in the name of the folder; the whole identity is compared when it is opened.
const DIGITS: usize = 16;

/// What a finished checkpoint is, beside its weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// Name.
    pub name: String,
    /// Model seed.
    pub seed: u64,
    /// Hash of everything that determines it.
    pub key: String,
    /// Numbers in the model, heads not counted.
    pub parameters: usize,
    /// Optimiser steps.
    pub steps: usize,
    /// Tokens read in training, prompts included.
    pub tokens: usize,
    /// Mean loss at the end, nats.
    pub final_loss: f64,
    /// Seconds of preparation, training and validation, on the machine that made it.
    pub seconds: f64,
    /// How well it does its job.
    pub figure: Figure,
}

impl Card {
    /// Name, seed and the first digits of the key: how a result names it.
    pub fn label(&self) -> String {
        format!("{} seed {} ({})", self.name, self.seed, &self.key[..DIGITS.min(self.key.len())])
    }
}

/// A checkpoint of the lab, ready to be used.
#[derive(Debug, Clone, PartialEq)]
pub struct Built {
    /// Its model folder, in the Hugging Face format.
    pub folder: PathBuf,
    /// Its card.
    pub card: Card,
    /// Whether it was made now, or found.
    pub made: bool,
}

impl Built {
    /// The weights.
    pub fn load(&self) -> Result<Loaded, RecipeError> {
        models::load_folder(&self.folder)
    }
}

/// Where a checkpoint stands.
#[derive(Debug, Clone, PartialEq)]
pub enum Standing {
    /// Nothing is there.
    Missing,
    /// A build was begun and goes on when it is asked for.
    Begun,
    /// It can be used.
    Ready(Box<Built>),
    /// Something in its folder is not what was written; why.
    Damaged(String),
}

/// The checkpoints of one cache folder over one base model, and which of them were handed out.
#[derive(Debug, Clone)]
pub struct Lab {
    folder: PathBuf,
    base: String,
    used: Arc<Mutex<Vec<Built>>>,
}

impl Lab {
    /// The checkpoints under `cache` (else the user's cache folder, see [`models::cache_folder`]) over the embedded
    /// model.
    pub fn new(cache: Option<&Path>) -> Self {
        let folder = cache.map_or_else(models::cache_folder, Path::to_path_buf).join("lab");
        Lab { folder, base: EMBEDDED.into(), used: Arc::default() }
    }

    /// The same over another base model: `embedded`, or a folder. What is handed out is noted in both.
    pub fn over(&self, base: &str) -> Self {
        Lab { base: base.into(), ..self.clone() }
    }

    /// What was handed out so far, each once, in order.
    pub fn used(&self) -> Vec<Built> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The run folder of a checkpoint, there or not.
    pub fn folder(&self, model: &dyn LabModel, seed: u64) -> Result<PathBuf, RecipeError> {
        let key = Identity::of(model, &self.base, seed)?.key()?;
        Ok(self.folder.join(format!("{}-{seed}-{}", model.name(), &key[..DIGITS])))
    }

    /// Where a checkpoint stands; every file of a finished one is compared with what was written.
    pub fn look(&self, model: &dyn LabModel, seed: u64) -> Result<Standing, RecipeError> {
        let identity = Identity::of(model, &self.base, seed)?;
        self.look_for(&identity, &self.folder(model, seed)?)
    }

    fn look_for(&self, identity: &Identity, folder: &Path) -> Result<Standing, RecipeError> {
        if !folder.join("config.json").exists() {
            return Ok(Standing::Missing);
        }
        let run = match Run::open_read_only(folder) {
            Ok(run) => run,
            // Another process has begun and not yet written its journal, or one was killed there.
            Err(RememberError::NotARun { .. }) => return Ok(Standing::Missing),
            Err(error) => return Ok(Standing::Damaged(first_line(&error))),
        };
        match run.config::<Identity>() {
            Ok(found) if found == *identity => {}
            Ok(_) => {
                return Ok(Standing::Damaged("its configuration is the one of another checkpoint".into()));
            }
            Err(error) => return Ok(Standing::Damaged(first_line(&error))),
        }
        if !run.checkpoints().contains(MODEL) {
            return Ok(Standing::Begun);
        }
        let folder = match run.checkpoints().verified(MODEL) {
            Ok(folder) => folder,
            Err(error) => return Ok(Standing::Damaged(first_line(&error))),
        };
        let card = fs::read(folder.join(CARD))?;
        match serde_json::from_slice::<Card>(&card) {
            Ok(card) => Ok(Standing::Ready(Box::new(Built { folder, card, made: false }))),
            Err(error) => Ok(Standing::Damaged(format!("its card cannot be read: {error}"))),
        }
    }

    /// The checkpoint, made now if it is not there. A build that was killed goes on; a damaged one is thrown away and
    /// made again; while another process makes it, this one waits. `session` says who watches and who may stop it; its
    /// run is not used.
    ///
    /// # Errors
    /// Those of training, and of the disk.
    pub fn obtain(
        &self,
        model: &dyn LabModel,
        seed: u64,
        session: &Session<'_>,
    ) -> Result<Built, RecipeError> {
        let identity = Identity::of(model, &self.base, seed)?;
        let folder = self.folder(model, seed)?;
        let note = |text: &str| session.observer.note(&format!("{} seed {seed}: {text}", model.name()));
        let mut waiting = false;
        loop {
            session.check()?;
            match self.look_for(&identity, &folder)? {
                Standing::Ready(built) => return Ok(self.hand_out(*built)),
                Standing::Damaged(_) => match Run::open(&folder) {
                    Err(RememberError::Locked { .. }) => {
                        std::thread::sleep(LOOK_AGAIN);
                        continue;
                    }
                    // Under the lock (a folder too damaged to be locked is nobody's): nobody has begun anew meanwhile.
                    _held => {
                        if let Standing::Damaged(reason) = self.look_for(&identity, &folder)? {
                            note(&format!("damaged, it is made again ({reason})"));
                            fs::remove_dir_all(&folder)?;
                        }
                        continue;
                    }
                },
                Standing::Missing | Standing::Begun => {}
            }
            match Run::open_or_create(&folder, &identity) {
                // Between the look and the lock another process may have finished it.
                Ok(run) if run.checkpoints().contains(MODEL) => {}
                Ok(run) => {
                    let begun = Instant::now();
                    let card = self.make(model, &identity, &run, session)?;
                    note(&format!(
                        "made in {:.0} s, {} {:.3}",
                        begun.elapsed().as_secs_f64(),
                        card.figure.name,
                        card.figure.value
                    ));
                    let folder = run.checkpoints().verified(MODEL)?;
                    return Ok(self.hand_out(Built { folder, card, made: true }));
                }
                Err(RememberError::Locked { holder, .. }) => {
                    if !waiting {
                        note(&format!("{holder} makes it, waiting"));
                    }
                    waiting = true;
                    std::thread::sleep(LOOK_AGAIN);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn hand_out(&self, built: Built) -> Built {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.iter().all(|known| known.card.key != built.card.key) {
            used.push(built.clone());
        }
        built
    }

    /// The weights that a checkpoint starts from.
    fn start(&self, identity: &Identity, session: &Session<'_>) -> Result<NativePolicy, RecipeError> {
        let seed = mix(identity.seed, 1);
        let mut loaded = match &identity.plan.start {
            Start::Base { words } => extend(models::load(&self.base)?, words, seed)?,
            Start::Fresh { shape, words } => extend(models::fresh(shape, seed)?, words, mix(seed, 1))?,
            Start::Lab { name } => self.obtain(checkpoint(name)?.as_ref(), identity.seed, session)?.load()?,
        };
        let width = loaded.model.config().hidden_size;
        loaded
            .model
            .heads
            .extend(identity.plan.heads.iter().map(|name| ScalarHead::zeros(name, None, width)));
        Ok(loaded.policy())
    }

    fn make(
        &self,
        model: &dyn LabModel,
        identity: &Identity,
        run: &Run,
        session: &Session<'_>,
    ) -> Result<Card, RecipeError> {
        let (plan, seed) = (&identity.plan, identity.seed);
        let key = identity.key()?;
        let objective = objective::objective(&plan.objective, plan.objective_settings.clone())?;
        let mut policy = self.start(identity, session)?;
        let session = Session { run: Some(run), observer: session.observer, stop: session.stop.clone() };
        let begun = Instant::now();
        let mut source = model.source(&mut policy, mix(seed, 2), &session)?;
        // Of a preparation that was interrupted, the part of the process that finished it.
        let (prepared, _) = session.once("prepared", || Ok(begun.elapsed().as_secs_f64()))?;
        session.observer.phase(0, &format!("{} seed {seed}", model.name()), plan.train.steps);
        let account = train_in_stretches(
            &mut policy,
            objective.as_ref(),
            &plan.train,
            source.as_mut(),
            STEPS_PER_STRETCH,
            "train",
            &session,
        )?;
        let begun = Instant::now();
        let figure = model.validate(&mut policy, mix(seed, 3), &session)?;
        let card = Card {
            name: identity.name.clone(),
            seed,
            key,
            parameters: policy.model().layout().total(),
            steps: account.steps,
            tokens: account.tokens,
            final_loss: account.final_loss,
            seconds: prepared + account.seconds + begun.elapsed().as_secs_f64(),
            figure,
        };
        let text = serde_json::to_vec_pretty(&card).map_err(|error| LearnError::Data {
            what: format!("the card of `{}` cannot be written: {error}", identity.name),
            hint: "a figure must be a finite number".into(),
        })?;
        run.checkpoints().commit(MODEL, |folder| {
            policy.save(folder, false)?;
            fs::write_atomic(folder.join(CARD), &text)?;
            Ok::<(), LearnError>(())
        })?;
        // The stretches have done their work.
        run.checkpoints().keep_last(0, &[MODEL])?;
        Ok(card)
    }
}

fn first_line(error: &RememberError) -> String {
    error.to_string().lines().next().unwrap_or_default().to_string()
}
