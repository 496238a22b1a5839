//! The embedded transformer as a [`Policy`].

use crate::LearnError;
use crate::objective::{BatchScale, Objective, RowGradient, RowOutput, TrainingRow};
use crate::policy::{Encode, MatrixUpdate, OptimiserSettings, Policy, Rollout, RolloutRequest};
use elenchus_native::{
    AdamW, AdamWConfig, DecodeFinish, DecodeRequest, Decoder, DecoderOptions, Detail, Engine, ForwardOptions,
    Gradient, Model, Precision, Sequence, SequenceGradient, SequenceOutput, Tokenizer, Trainable,
};
use std::path::Path;
use std::sync::Arc;

/// A model of crate `native` with its tokenizer, optimiser and decoder. Engine, decoder and optimiser are made when
/// they are first needed, so a copy that only decodes costs only its weights.
pub struct NativePolicy {
    model: Model,
    encoder: NativeEncoder,
    trainable: Trainable,
    threads: usize,
    engine: Engine,
    training: Option<Training>,
    decoder: Option<Decoder>,
    /// Whether the decoder's weights are older than the model's.
    stale: bool,
}

struct Training {
    gradient: Gradient,
    optimiser: AdamW,
}

impl NativePolicy {
    /// A policy; `threads = 0` uses every core.
    pub fn new(model: Model, tokenizer: Arc<Tokenizer>, trainable: Trainable, threads: usize) -> Self {
        NativePolicy {
            encoder: NativeEncoder::new(tokenizer, &model),
            model,
            trainable,
            threads,
            engine: Engine::new(),
            training: None,
            decoder: None,
            stale: true,
        }
    }

    /// The weights.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.encoder.tokenizer
    }

    fn options(&self) -> ForwardOptions {
        ForwardOptions { threads: self.threads, ..Default::default() }
    }

    fn training(&mut self) -> Result<&mut Training, LearnError> {
        let training = match self.training.take() {
            Some(training) => training,
            None => {
                let gradient = Gradient::new(&self.model, self.trainable)?;
                let optimiser = AdamW::new(AdamWConfig::default(), &gradient);
                Training { gradient, optimiser }
            }
        };
        Ok(self.training.insert(training))
    }

    fn decoder(&mut self) -> Result<&mut Decoder, LearnError> {
        let decoder = match self.decoder.take() {
            Some(mut decoder) => {
                if self.stale {
                    decoder.swap(&self.model)?;
                }
                decoder
            }
            None => {
                Decoder::new(&self.model, DecoderOptions { threads: self.threads, ..Default::default() })?
            }
        };
        self.stale = false;
        Ok(self.decoder.insert(decoder))
    }

    fn forward(&mut self, rows: &[TrainingRow]) -> Result<Vec<SequenceOutput>, LearnError> {
        let sequences: Vec<Sequence> = rows.iter().map(sequence).collect();
        let options = self.options();
        Ok(self.engine.logprobs(&self.model, &sequences, &options)?)
    }
}

fn sequence(row: &TrainingRow) -> Sequence {
    Sequence { tokens: row.tokens.clone(), first_target: row.first_target }
}

fn sequence_gradient(gradient: RowGradient) -> SequenceGradient {
    SequenceGradient { logprobs: gradient.logprobs, entropies: gradient.entropies, heads: gradient.heads }
}

/// The tokenizer of a policy with the token that ends its texts.
#[derive(Clone)]
struct NativeEncoder {
    tokenizer: Arc<Tokenizer>,
    end_of_text: u32,
}

impl NativeEncoder {
    fn new(tokenizer: Arc<Tokenizer>, model: &Model) -> Self {
        let end_of_text =
            tokenizer.eos().or_else(|| model.config().eos_token_ids.first().copied()).unwrap_or(0);
        NativeEncoder { tokenizer, end_of_text }
    }
}

impl Encode for NativeEncoder {
    fn encode(&self, text: &str) -> Result<Vec<u32>, LearnError> {
        let tokens = self.tokenizer.encode(text)?;
        if let Some(unknown) = self.tokenizer.unknown()
            && tokens.contains(&unknown)
        {
            return Err(LearnError::Data {
                what: format!(
                    "the model's vocabulary cannot write `{}`",
                    text.chars().take(80).collect::<String>()
                ),
                hint: "the embedded model reads the compact notation of its own tasks only".into(),
            });
        }
        Ok(tokens)
    }

    fn end_of_text(&self) -> u32 {
        self.end_of_text
    }
}

impl Encode for NativePolicy {
    fn encode(&self, text: &str) -> Result<Vec<u32>, LearnError> {
        self.encoder.encode(text)
    }

    fn end_of_text(&self) -> u32 {
        self.encoder.end_of_text()
    }
}

impl Policy for NativePolicy {
    fn encoder(&self) -> Box<dyn Encode> {
        Box::new(self.encoder.clone())
    }

    fn max_positions(&self) -> usize {
        self.model.config().max_positions
    }

    fn forward_backward(
        &mut self,
        batch: &[Vec<TrainingRow>],
        objective: &dyn Objective,
        dropout: f32,
        step: usize,
    ) -> Result<f64, LearnError> {
        let scale = BatchScale::of(batch);
        let groups: Vec<Vec<Sequence>> =
            batch.iter().map(|group| group.iter().map(sequence).collect()).collect();
        let options = ForwardOptions {
            entropies: objective.needs().entropies,
            dropout,
            dropout_seed: step as u64,
            threads: self.threads,
        };
        let evaluate = |index: usize, outputs: &[SequenceOutput]| {
            let group: Vec<RowOutput<'_>> = batch[index]
                .iter()
                .zip(outputs)
                .map(|(row, output)| RowOutput {
                    row,
                    logprobs: &output.logprobs,
                    entropies: &output.entropies,
                    heads: &output.heads,
                })
                .collect();
            let (loss, gradients) = objective.evaluate(&scale, &group);
            (loss, gradients.into_iter().map(sequence_gradient).collect())
        };
        self.training()?;
        let NativePolicy { model, engine, training, .. } = self;
        let Some(training) = training else { return Ok(0.0) };
        Ok(engine.forward_backward(model, &groups, &options, &evaluate, &mut training.gradient)?)
    }

    fn optimiser_step(&mut self, settings: &OptimiserSettings) -> Result<f64, LearnError> {
        self.training()?;
        let NativePolicy { model, training, stale, threads, .. } = self;
        let Some(training) = training else { return Ok(0.0) };
        training.optimiser.config = AdamWConfig {
            learning_rate: settings.learning_rate as f32,
            beta1: settings.beta1 as f32,
            beta2: settings.beta2 as f32,
            weight_decay: settings.weight_decay as f32,
            clip_norm: settings.clip_norm as f32,
            matrices: match settings.matrices {
                MatrixUpdate::AdamW => elenchus_native::MatrixUpdate::AdamW,
                MatrixUpdate::Muon => elenchus_native::MatrixUpdate::Muon,
            },
            ..training.optimiser.config
        };
        let report = training.optimiser.step(model, &training.gradient, 1.0, *threads)?;
        training.gradient.zero();
        *stale = true;
        Ok(report.gradient_norm)
    }

    fn reset_optimiser(&mut self) {
        self.training = None;
    }

    fn logprobs(&mut self, rows: &[TrainingRow]) -> Result<Vec<Vec<f32>>, LearnError> {
        Ok(self.forward(rows)?.into_iter().map(|output| output.logprobs).collect())
    }

    fn heads(&mut self, rows: &[TrainingRow]) -> Result<Vec<Vec<Vec<f32>>>, LearnError> {
        let only_heads: Vec<TrainingRow> = rows
            .iter()
            .map(|row| TrainingRow {
                tokens: row.tokens.clone(),
                first_target: row.tokens.len(),
                ..Default::default()
            })
            .collect();
        Ok(self.forward(&only_heads)?.into_iter().map(|output| output.heads).collect())
    }

    fn sample(&mut self, requests: &[RolloutRequest]) -> Result<Vec<Vec<Rollout>>, LearnError> {
        let decode: Vec<DecodeRequest> = requests
            .iter()
            .map(|request| {
                Ok(DecodeRequest {
                    prompt: self.encode(&request.prompt)?,
                    samples: request.samples,
                    seed: request.seed,
                    max_new_tokens: request.max_new_tokens,
                    temperature: request.temperature,
                    detail: if request.distributions { Detail::Distribution } else { Detail::Chosen },
                    ..Default::default()
                })
            })
            .collect::<Result<_, LearnError>>()?;
        let decoded = self.decoder()?.decode(&decode)?;
        decoded
            .into_iter()
            .map(|samples| {
                samples
                    .into_iter()
                    .map(|sample| {
                        Ok(Rollout {
                            text: self.encoder.tokenizer.decode(&sample.tokens[..sample.text_tokens])?,
                            finished: sample.finish == DecodeFinish::EndOfText,
                            tokens: sample.tokens,
                            logprobs: sample.logprobs,
                            distributions: sample.distributions,
                        })
                    })
                    .collect()
            })
            .collect()
    }

    fn copy(&self) -> Box<dyn Policy> {
        Box::new(NativePolicy::new(
            self.model.clone(),
            Arc::clone(&self.encoder.tokenizer),
            self.trainable,
            self.threads,
        ))
    }

    fn set_weights_from(&mut self, other: &dyn Policy) -> Result<(), LearnError> {
        let Some(other) = other.as_any().downcast_ref::<NativePolicy>() else {
            return Err(LearnError::Data {
                what: "weights of another kind of policy".into(),
                hint: "copy weights between models of the same engine".into(),
            });
        };
        self.model = other.model.clone();
        self.stale = true;
        Ok(())
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn save(&self, folder: &Path, with_optimiser: bool) -> Result<(), LearnError> {
        self.model.save(folder, Precision::F32)?;
        self.encoder.tokenizer.save(folder)?;
        if with_optimiser && let Some(training) = &self.training {
            training.optimiser.save(folder)?;
        }
        Ok(())
    }

    fn load(&mut self, folder: &Path) -> Result<(), LearnError> {
        self.model = Model::load(folder)?;
        self.encoder = NativeEncoder::new(Arc::clone(&self.encoder.tokenizer), &self.model);
        self.stale = true;
        self.training = None;
        if folder.join("optimizer.safetensors").exists() {
            let training = self.training()?;
            training.optimiser = AdamW::load(folder, training.optimiser.config, &training.gradient)?;
        }
        Ok(())
    }
}
