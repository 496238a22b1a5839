//! The latent meters: what is read inside the embedded model while it answers.
//!
//! Any other model gives one error, "not measurable": nothing measured outside stands in for it.

use crate::EvaluateError;
use elenchus_generate::{
    Context, InnerToken, LatentRead, LatentReading, LatentRequest, LatentValues, Segment, Stretch,
};
use elenchus_trace::{Message, Usage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the attention of the rows that wrote an answer is divided over segments of the prompt, and the rest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SegmentAttention {
    /// `[heads][segments + 1]`, the rest last; each head sums to 1.
    pub heads: Vec<Vec<f64>>,
    /// What it cost.
    pub usage: Usage,
}

impl SegmentAttention {
    /// `[segments + 1]`: the sum over heads; all of it together is the number of heads.
    pub fn summed(&self) -> Vec<f64> {
        let width = self.heads.first().map_or(0, Vec::len);
        (0..width).map(|segment| self.heads.iter().map(|head| head[segment]).sum()).collect()
    }

    /// `[segments + 1]`: the mean over heads; all of it together is 1.
    pub fn averaged(&self) -> Vec<f64> {
        let heads = self.heads.len().max(1) as f64;
        self.summed().iter().map(|mass| mass / heads).collect()
    }
}

/// How much less (negative) or more an answer looks at each segment than another one does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AttentionDrift {
    /// `A_i - A_1` per segment; the rest is left out.
    pub segments: Vec<f64>,
    /// Their sum: below 0 when the answer looks less at the segments as a whole.
    pub total: f64,
}

impl AttentionDrift {
    /// The `count` segments that lost most, the greatest loss first; only those that lost something.
    pub fn neglected(&self, count: usize) -> Vec<usize> {
        let mut lost: Vec<usize> = (0..self.segments.len()).filter(|&s| self.segments[s] < 0.0).collect();
        lost.sort_by(|&a, &b| self.segments[a].total_cmp(&self.segments[b]));
        lost.truncate(count);
        lost
    }
}

/// The drift between two attentions over the same segments (averaged or summed, both alike), their rest last. `None`
/// when they are not over as many segments.
///
/// CyberV (arXiv 2506.07971): `Drift_i = Σ_segments (A_i − A_1)`, with `A_1` that of the direct answer.
pub fn attention_drift(answer: &[f64], direct: &[f64]) -> Option<AttentionDrift> {
    if answer.len() != direct.len() || answer.is_empty() {
        return None;
    }
    let segments: Vec<f64> =
        answer.iter().zip(direct).take(answer.len() - 1).map(|(answer, direct)| answer - direct).collect();
    let total = segments.iter().sum();
    Some(AttentionDrift { segments, total })
}

/// How the last layer's attention of the rows that wrote the answer is divided over segments of the prompt.
///
/// `messages` is the dialogue, `text` what the assistant says behind it, `answer` the place of the answer in `text`,
/// `segments` the parts of the prompt, which must not overlap. The row of a token is that of the position before it,
/// where the model decides what to write. One call, one forward pass.
///
/// Errors: [`elenchus_generate::GenerateError::Capability`] for a model whose insides are not visible;
/// [`elenchus_generate::GenerateError::Request`] for a segment or an answer that is not there.
pub async fn segment_attention(
    context: &Context,
    role: &str,
    messages: &[Message],
    text: &str,
    answer: Stretch,
    segments: &[Segment],
) -> Result<SegmentAttention, EvaluateError> {
    let read = LatentRead::Attention { rows: answer, segments: segments.to_vec(), layer: None };
    let LatentReading { values, usage } = look(context, role, messages, text, read).await?;
    match values {
        LatentValues::Attention(heads) => {
            let wide = |head: Vec<f32>| head.into_iter().map(f64::from).collect();
            Ok(SegmentAttention { heads: heads.into_iter().map(wide).collect(), usage })
        }
        _ => Err(other_values()),
    }
}

/// The next token as each layer says it, embedding first ("logit lens"), behind `text`.
///
/// Errors: as [`segment_attention`].
pub async fn layer_tokens(
    context: &Context,
    role: &str,
    messages: &[Message],
    text: &str,
) -> Result<Vec<InnerToken>, EvaluateError> {
    tokens(look(context, role, messages, text, LatentRead::Layers).await?)
}

/// The next token behind `text` when of one layer only one head speaks, for every head of the layers named (none named:
/// all). The others of the layer are multiplied by `factor` before the output projection: behind it, where the module
/// released with arXiv 2407.14507 scales slices, a slice belongs to no head.
///
/// Errors: as [`segment_attention`].
pub async fn head_tokens(
    context: &Context,
    role: &str,
    messages: &[Message],
    text: &str,
    layers: &[usize],
    factor: f32,
) -> Result<Vec<InnerToken>, EvaluateError> {
    let read = LatentRead::Heads { layers: layers.to_vec(), factor };
    tokens(look(context, role, messages, text, read).await?)
}

/// The residual stream at the last token behind `text`, one vector per layer named (0: the embedding).
///
/// Errors: as [`segment_attention`].
pub async fn last_states(
    context: &Context,
    role: &str,
    messages: &[Message],
    text: &str,
    layers: &[usize],
) -> Result<Vec<Vec<f32>>, EvaluateError> {
    let read = LatentRead::States { layers: layers.to_vec() };
    match look(context, role, messages, text, read).await?.values {
        LatentValues::States(states) => Ok(states),
        _ => Err(other_values()),
    }
}

async fn look(
    context: &Context,
    role: &str,
    messages: &[Message],
    text: &str,
    read: LatentRead,
) -> Result<LatentReading, EvaluateError> {
    let request = LatentRequest { messages: messages.to_vec(), continuation: text.to_string(), read };
    Ok(context.latent(role, &request).await?)
}

fn tokens(reading: LatentReading) -> Result<Vec<InnerToken>, EvaluateError> {
    match reading.values {
        LatentValues::Tokens(tokens) => Ok(tokens),
        _ => Err(other_values()),
    }
}

/// A model that answers another question than it was asked.
fn other_values() -> EvaluateError {
    elenchus_generate::GenerateError::Request {
        model: "latent".into(),
        what: "it gave other values than those that were asked for".into(),
        hint: "this is a defect of the model's backend".into(),
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use elenchus_generate::{GenerateError, Scripted};

    fn attention() -> SegmentAttention {
        let heads = vec![vec![0.5, 0.2, 0.3], vec![0.1, 0.6, 0.3]];
        SegmentAttention { heads, usage: Usage::default() }
    }

    fn close(found: &[f64], wanted: &[f64]) {
        assert_eq!(found.len(), wanted.len());
        assert!(found.iter().zip(wanted).all(|(f, w)| (f - w).abs() < 1e-12), "{found:?} {wanted:?}");
    }

    #[test]
    fn heads_are_averaged_or_summed() {
        close(&attention().averaged(), &[0.3, 0.4, 0.3]);
        close(&attention().summed(), &[0.6, 0.8, 0.6]);
    }

    #[test]
    fn negative_drift_is_evidence_lost() {
        let drift = attention_drift(&[0.1, 0.2, 0.05, 0.65], &[0.3, 0.15, 0.2, 0.35]).unwrap();
        close(&drift.segments, &[-0.2, 0.05, -0.15]);
        assert!((drift.total + 0.3).abs() < 1e-12, "the rest does not count");
        assert_eq!(drift.neglected(5), [0, 2], "a segment that gained is not neglected");
        assert_eq!(drift.neglected(1), [0]);
        assert!(attention_drift(&[1.0], &[0.5, 0.5]).is_none() && attention_drift(&[], &[]).is_none());
    }

    #[tokio::test]
    async fn a_model_seen_from_outside_is_not_measurable() {
        let model = Scripted::always(["#7"]).shared();
        let context = Context::builder().role("actor", model.clone()).build().unwrap();
        let messages = [Message::user("2+5?")];
        let answer = Stretch::Tokens { from: 0, to: 1 };
        let errors = [
            segment_attention(&context, "actor", &messages, "#7", answer, &[]).await.err(),
            layer_tokens(&context, "actor", &messages, "#").await.err(),
            head_tokens(&context, "actor", &messages, "#", &[], 0.0).await.err(),
            last_states(&context, "actor", &messages, "#7", &[1]).await.err(),
        ];
        for error in errors {
            let error = error.unwrap();
            assert!(matches!(&error, EvaluateError::Generate(GenerateError::Capability { .. })), "{error}");
            assert!(error.to_string().contains("not measurable"), "{error}");
        }
        assert_eq!(model.calls(), 0, "nothing else is asked in its place");
    }
}
