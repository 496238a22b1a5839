//! Certainty from token distributions: self-certainty and its rivals (arXiv 2502.18581).
//!
//! With yᵢ the tokens of a response, n their number, V the size of the vocabulary and pᵢ the full, untruncated
//! next-token distribution at temperature 1 in front of token i, the score of a response is the mean over all its
//! tokens (an end-of-text token that was generated counts as a token, for every measure alike) of
//!
//! | measure | per token | unit |
//! |---|---|---|
//! | `kl_uniform` | Cᵢ = KL(U‖pᵢ) = −(1/V) Σⱼ log(V pᵢ(j)) ≥ 0 | nats |
//! | `mean_logprob` | log pᵢ(yᵢ) | nats |
//! | `negative_perplexity` | −exp(−mean over i of log pᵢ(yᵢ)), one number per response | |
//! | `negative_entropy` | Σⱼ pᵢ(j) log pᵢ(j) | nats |
//! | `gini` | Σⱼ pᵢ(j)² | |
//! | `distributional_perplexity` | −exp(H(pᵢ)) | |
//!
//! Higher is surer for all of them. Endpoints never report full distributions; see [`TopK`] for what is computed then.

use crate::{Candidate, EvaluateError, EvaluateInput, Evaluator, Needs, RoleNeeds};
use async_trait::async_trait;
use elenchus_trace::{Completion, Feedback, TokenDistribution, TopToken};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Log-probabilities below this are raised to it: a token that a filter masked would make KL(U‖p) infinite.
pub const LOWEST_LOGPROB: f64 = -60.0;

/// Least probability mass that the tokens outside the top k are taken to have.
pub const LEAST_MISSING_MASS: f64 = 1e-6;

/// What is averaged over the tokens of a response; the table of the module has the formulas.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CertaintyMeasure {
    /// Self-certainty: the divergence of the uniform distribution from the model's.
    #[default]
    KlUniform,
    /// Mean log-probability of the chosen tokens.
    MeanLogprob,
    /// Minus the perplexity of the response.
    NegativePerplexity,
    /// Minus the entropy.
    NegativeEntropy,
    /// Sum of squared probabilities.
    Gini,
    /// Minus the exponential of the entropy.
    DistributionalPerplexity,
}

impl CertaintyMeasure {
    /// Whether the measure looks at the chosen token only.
    pub fn only_chosen(self) -> bool {
        matches!(self, CertaintyMeasure::MeanLogprob | CertaintyMeasure::NegativePerplexity)
    }
}

/// Certainty from the k likeliest tokens, for endpoints.
///
/// The mass m that they leave, at least 10⁻⁶, is spread evenly over the other V − k tokens:
/// C ≈ −(1/V) [Σ_top log(V pⱼ) + (V−k) log(V m/(V−k))]. This is a lower bound of the true value (the logarithm is
/// concave) and behaves like −log m, so read it as *top-k certainty*. The entropy of the spread distribution is an
/// upper bound of the true entropy, its Σp² a lower bound of the true one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TopK {
    /// How many of the likeliest tokens to ask for.
    pub k: u8,
    /// Size V of the model's vocabulary; endpoints do not say it.
    pub vocabulary: u32,
}

/// Settings of the `certainty` evaluator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CertaintySettings {
    /// What is averaged.
    pub measure: CertaintyMeasure,
    /// Use the k likeliest tokens instead of full distributions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<TopK>,
    /// Leave out the first token, as the code released with the paper does: it reads the distributions *behind* each
    /// token of the text. Only for comparison with its numbers.
    pub shifted: bool,
}

/// Statistics of one distribution given by its log-probabilities over the whole vocabulary (natural logarithm,
/// normalised); log-probabilities below [`LOWEST_LOGPROB`] are raised to it in the KL term only, where a zero
/// probability would make the value infinite.
///
/// An empty slice gives zeros.
pub fn distribution_statistics(logprobs: &[f32]) -> TokenDistribution {
    if logprobs.is_empty() {
        return TokenDistribution { kl_from_uniform: 0.0, entropy: 0.0, gini: 0.0, max_logprob: 0.0 };
    }
    let size = logprobs.len() as f64;
    let (mut sum, mut entropy, mut gini, mut largest) = (0.0f64, 0.0f64, 0.0f64, f64::NEG_INFINITY);
    for &logprob in logprobs {
        let logprob = f64::from(logprob);
        let clamped = logprob.max(LOWEST_LOGPROB);
        let probability = logprob.exp();
        sum += clamped;
        entropy -= probability * clamped;
        gini += probability * probability;
        largest = largest.max(logprob);
    }
    TokenDistribution {
        kl_from_uniform: (-size.ln() - sum / size) as f32,
        entropy: entropy as f32,
        gini: gini as f32,
        max_logprob: largest as f32,
    }
}

/// Statistics of one position from its likeliest tokens; see [`TopK`] for what they mean.
///
/// `None` when no token is given, or when there are more than `vocabulary` tokens.
pub fn top_k_statistics(top: &[TopToken], vocabulary: u32) -> Option<TokenDistribution> {
    let size = f64::from(vocabulary);
    let others = size - top.len() as f64;
    if top.is_empty() || others < 0.0 {
        return None;
    }
    let (mut sum, mut entropy, mut gini, mut mass, mut largest) =
        (0.0f64, 0.0f64, 0.0f64, 0.0f64, f64::NEG_INFINITY);
    for token in top {
        let logprob = f64::from(token.logprob);
        let clamped = logprob.max(LOWEST_LOGPROB);
        let probability = logprob.exp();
        sum += clamped;
        entropy -= probability * clamped;
        gini += probability * probability;
        mass += probability;
        largest = largest.max(logprob);
    }
    if others > 0.0 {
        let missing = (1.0 - mass).max(LEAST_MISSING_MASS);
        let each = missing / others;
        sum += others * each.ln();
        entropy -= missing * each.ln();
        gini += missing * each;
    }
    Some(TokenDistribution {
        kl_from_uniform: (-size.ln() - sum / size) as f32,
        entropy: entropy as f32,
        gini: gini as f32,
        max_logprob: largest as f32,
    })
}

/// The certainty of one completion.
///
/// Errors: the words of an abstention when the completion carries no token, or not what the measure needs.
pub fn certainty(completion: &Completion, settings: &CertaintySettings) -> Result<f64, String> {
    let skip = usize::from(settings.shifted);
    if settings.measure.only_chosen() {
        let chosen = completion.logprobs.get(skip..).unwrap_or_default();
        if chosen.is_empty() {
            return Err(nothing_left(&completion.logprobs, skip, "log-probabilities"));
        }
        let mean =
            chosen.iter().map(|&l| f64::from(l).max(LOWEST_LOGPROB)).sum::<f64>() / chosen.len() as f64;
        let value = if settings.measure == CertaintyMeasure::MeanLogprob { mean } else { -(-mean).exp() };
        return finite(value);
    }
    match settings.top_k {
        None => {
            let used = completion.distributions.get(skip..).unwrap_or_default();
            if used.is_empty() {
                return Err(nothing_left(&completion.distributions, skip, "full token distributions"));
            }
            // KL is bounded by the clamp of the formula also when the backend did not clamp.
            let bound = -LOWEST_LOGPROB - completion.vocabulary.map_or(0.0, |size| f64::from(size).ln());
            average(settings.measure, used.iter().copied(), bound)
        }
        Some(TopK { vocabulary, .. }) => {
            let used = completion.top.get(skip..).unwrap_or_default();
            if used.is_empty() {
                return Err(nothing_left(&completion.top, skip, "likeliest tokens"));
            }
            let statistics: Option<Vec<_>> =
                used.iter().map(|top| top_k_statistics(top, vocabulary)).collect();
            let statistics = statistics.ok_or_else(|| {
                format!(
                    "a position reports no likely token, or more than the vocabulary of {vocabulary} holds"
                )
            })?;
            average(settings.measure, statistics.into_iter(), -LOWEST_LOGPROB)
        }
    }
}

fn average(
    measure: CertaintyMeasure,
    statistics: impl Iterator<Item = TokenDistribution>,
    kl_bound: f64,
) -> Result<f64, String> {
    let (mut sum, mut count) = (0.0f64, 0usize);
    for position in statistics {
        sum += match measure {
            CertaintyMeasure::KlUniform => f64::from(position.kl_from_uniform).min(kl_bound),
            CertaintyMeasure::NegativeEntropy => -f64::from(position.entropy),
            CertaintyMeasure::Gini => f64::from(position.gini),
            CertaintyMeasure::DistributionalPerplexity => -f64::from(position.entropy).exp(),
            CertaintyMeasure::MeanLogprob | CertaintyMeasure::NegativePerplexity => {
                return Err("chosen-token measures have no distribution form".into());
            }
        };
        count += 1;
    }
    finite(sum / count as f64)
}

fn finite(value: f64) -> Result<f64, String> {
    if value.is_finite() { Ok(value) } else { Err(format!("the certainty is not a finite number ({value})")) }
}

fn nothing_left<T>(tokens: &[T], skip: usize, what: &str) -> String {
    if tokens.is_empty() {
        format!("the completion carries no {what}")
    } else {
        format!("the completion has {} tokens and the shifted form leaves out {skip}", tokens.len())
    }
}

/// Scores each candidate by the mean certainty of its tokens. Costs no model call; the samples must carry what the
/// measure needs. It cannot judge texts that the model did not write itself.
#[derive(Debug, Clone, Copy)]
pub struct Certainty {
    settings: CertaintySettings,
}

impl Certainty {
    /// Errors: [`EvaluateError::Setting`] when `top_k` asks for no token or for more than the vocabulary.
    pub fn new(settings: CertaintySettings) -> Result<Self, EvaluateError> {
        if let Some(TopK { k, vocabulary }) = settings.top_k
            && (k == 0 || u32::from(k) > vocabulary)
        {
            return Err(EvaluateError::Setting {
                evaluator: "certainty".into(),
                field: "top_k".into(),
                problem: format!("k = {k} does not lie between 1 and the vocabulary of {vocabulary}"),
                hint: "endpoints report up to 20 likely tokens; `vocabulary` is the size of the model's token table"
                    .into(),
            });
        }
        Ok(Certainty { settings })
    }
}

#[async_trait]
impl Evaluator for Certainty {
    fn name(&self) -> &'static str {
        "certainty"
    }

    fn summary(&self) -> &'static str {
        "how far the token distributions of a response are from uniform, and five rivals"
    }

    fn needs(&self) -> Needs {
        let mut actor = RoleNeeds::new("actor");
        actor.logprobs = self.settings.measure.only_chosen();
        if !actor.logprobs {
            match self.settings.top_k {
                Some(TopK { k, .. }) => actor.top_logprobs = k,
                None => actor.distributions = true,
            }
        }
        Needs::role(actor)
    }

    async fn evaluate(&self, input: EvaluateInput<'_>) -> Result<Vec<Feedback>, EvaluateError> {
        Ok(input.candidates.iter().map(|candidate| self.one(candidate)).collect())
    }
}

impl Certainty {
    fn one(&self, candidate: &Candidate) -> Feedback {
        match certainty(&candidate.completion, &self.settings) {
            Ok(score) => Feedback::score(self.name(), score),
            Err(reason) => Feedback::abstain(self.name(), reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn logs(probabilities: &[f64]) -> Vec<f32> {
        probabilities.iter().map(|p| p.ln() as f32).collect()
    }

    fn tops(probabilities: &[f64]) -> Vec<TopToken> {
        probabilities.iter().map(|p| TopToken { token: "t".into(), logprob: p.ln() as f32 }).collect()
    }

    fn close(found: f64, wanted: f64) {
        assert!((found - wanted).abs() < 2e-6, "found {found}, wanted {wanted}");
    }

    fn completion(rows: &[&[f64]]) -> Completion {
        let mut completion = Completion::text("x");
        completion.distributions = rows.iter().map(|row| distribution_statistics(&logs(row))).collect();
        completion.vocabulary = Some(4);
        completion.top = rows.iter().map(|row| tops(&row[..2])).collect();
        completion.logprobs = rows.iter().map(|row| row[0].ln() as f32).collect();
        completion
    }

    const SURE: &[f64] = &[0.7, 0.1, 0.1, 0.1];
    const UNSURE: &[f64] = &[0.4, 0.3, 0.2, 0.1];

    fn value(measure: CertaintyMeasure, top_k: Option<TopK>, shifted: bool, rows: &[&[f64]]) -> f64 {
        certainty(&completion(rows), &CertaintySettings { measure, top_k, shifted }).unwrap()
    }

    #[test]
    fn the_numbers_of_the_sheet() {
        use CertaintyMeasure::KlUniform;
        close(value(KlUniform, None, false, &[SURE]), 0.4298131946);
        close(value(KlUniform, None, false, &[UNSURE]), 0.1217772743);
        close(value(KlUniform, None, false, &[SURE, UNSURE]), 0.2757952344);
        close(value(KlUniform, None, false, &[&[0.25; 4]]), 0.0);
        close(value(KlUniform, None, false, &[&[0.97, 0.01, 0.01, 0.01]]), 2.0751980802);
    }

    #[test]
    fn the_divergence_has_the_papers_direction() {
        // KL(p‖U) = log V − H would be 0.4458 here; the paper's KL(U‖p) is not.
        let reverse = (4.0f64).ln() + SURE.iter().map(|p| p * p.ln()).sum::<f64>();
        assert!((value(CertaintyMeasure::KlUniform, None, false, &[SURE]) - reverse).abs() > 0.01);
    }

    #[test]
    fn the_rivals() {
        let entropy = -SURE.iter().map(|p| p * p.ln()).sum::<f64>();
        close(value(CertaintyMeasure::NegativeEntropy, None, false, &[SURE]), -entropy);
        close(value(CertaintyMeasure::Gini, None, false, &[SURE]), 0.52);
        close(value(CertaintyMeasure::DistributionalPerplexity, None, false, &[SURE]), -entropy.exp());
        close(
            value(CertaintyMeasure::MeanLogprob, None, false, &[SURE, UNSURE]),
            (0.7f64.ln() + 0.4f64.ln()) / 2.0,
        );
        close(
            value(CertaintyMeasure::NegativePerplexity, None, false, &[SURE, UNSURE]),
            -1.0 / (0.28f64).sqrt(),
        );
    }

    #[test]
    fn the_shifted_form_leaves_out_the_first_token() {
        close(value(CertaintyMeasure::KlUniform, None, true, &[SURE, UNSURE]), 0.1217772743);
        let one = certainty(&completion(&[SURE]), &CertaintySettings { shifted: true, ..Default::default() });
        assert!(
            one.unwrap_err().contains("shifted"),
            "one token and a shift of one leave nothing to average"
        );
    }

    #[test]
    fn top_k_is_exact_when_the_rest_is_even_and_lower_otherwise() {
        let top = Some(TopK { k: 2, vocabulary: 4 });
        close(value(CertaintyMeasure::KlUniform, top, false, &[SURE]), 0.4298131946);
        assert!(value(CertaintyMeasure::KlUniform, top, false, &[UNSURE]) < 0.1217772743);
        let all = top_k_statistics(&tops(UNSURE), 4).unwrap();
        close(f64::from(all.kl_from_uniform), 0.1217772743);
    }

    #[test]
    fn missing_mass_is_floored() {
        // m = 1e-6 over 2 tokens: −(1/4)[2 log(4·0.5) + 2 log(4·0.5e-6)]
        let floored = top_k_statistics(&tops(&[0.5, 0.5]), 4).unwrap();
        let wanted = -0.25 * (2.0 * 2.0f64.ln() + 2.0 * 2e-6f64.ln());
        assert!((f64::from(floored.kl_from_uniform) - wanted).abs() < 1e-5);
        assert_eq!(top_k_statistics(&[], 4), None);
        assert_eq!(top_k_statistics(&tops(UNSURE), 3), None);
    }

    #[test]
    fn masked_tokens_are_clamped() {
        let statistics =
            distribution_statistics(&[0.0, f32::NEG_INFINITY, f32::NEG_INFINITY, f32::NEG_INFINITY]);
        close(f64::from(statistics.kl_from_uniform), 45.0 - 4.0f64.ln());
        assert_eq!(statistics.entropy, 0.0);
        let mut hostile = completion(&[SURE]);
        hostile.distributions[0].kl_from_uniform = f32::INFINITY;
        let clamped = certainty(&hostile, &CertaintySettings::default()).unwrap();
        close(clamped, 60.0 - 4.0f64.ln());
    }

    #[test]
    fn a_completion_without_tokens_abstains_in_words() {
        let empty = Completion::text("x");
        for (settings, word) in [
            (CertaintySettings::default(), "distributions"),
            (CertaintySettings { measure: CertaintyMeasure::MeanLogprob, ..Default::default() }, "log-prob"),
            (
                CertaintySettings { top_k: Some(TopK { k: 5, vocabulary: 99 }), ..Default::default() },
                "likeliest",
            ),
        ] {
            assert!(certainty(&empty, &settings).unwrap_err().contains(word));
        }
        let mut broken = completion(&[SURE]);
        broken.distributions[0].kl_from_uniform = f32::NAN;
        broken.distributions[0].entropy = f32::NAN;
        let settings = CertaintySettings { measure: CertaintyMeasure::NegativeEntropy, ..Default::default() };
        assert!(certainty(&broken, &settings).unwrap_err().contains("finite"));
    }

    proptest! {
        #[test]
        fn top_k_never_exceeds_the_full_certainty(weights in prop::collection::vec(0.001f64..1.0, 4..40), k in 1usize..4) {
            let total: f64 = weights.iter().sum();
            let mut p: Vec<f64> = weights.iter().map(|w| w / total).collect();
            p.sort_by(|a, b| b.total_cmp(a));
            let full = distribution_statistics(&logs(&p));
            let top = top_k_statistics(&tops(&p[..k]), p.len() as u32).unwrap();
            prop_assert!(full.kl_from_uniform >= -1e-5);
            prop_assert!(top.kl_from_uniform <= full.kl_from_uniform + 1e-4);
            prop_assert!(top.entropy >= full.entropy - 1e-4);
            prop_assert!(top.gini <= full.gini + 1e-4);
        }
    }
}
