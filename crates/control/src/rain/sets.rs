//! Sets of tokens: what stands at a node, their priors, and where texts are cut.

use crate::tree::{Alike, Likeness};
use elenchus_trace::TopToken;

/// A node: some tokens behind its parent.
#[derive(Debug, Clone, Default)]
pub(super) struct TokenSet {
    pub text: String,
    pub tokens: u64,
    /// The reply ends here.
    pub terminal: bool,
    /// Product of the token probabilities, where known.
    pub probability: Option<f64>,
    /// What the texts generated behind it are like.
    pub likeness: Option<Likeness>,
    /// How often one more child was drawn.
    pub widenings: usize,
}

impl Alike for TokenSet {
    fn likeness(&self) -> Option<&Likeness> {
        self.likeness.as_ref()
    }
}

/// A set that does not stand in the tree yet.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Draft {
    pub text: String,
    pub tokens: u64,
    pub terminal: bool,
    pub probability: Option<f64>,
}

impl From<Draft> for TokenSet {
    fn from(draft: Draft) -> Self {
        TokenSet {
            text: draft.text,
            tokens: draft.tokens,
            terminal: draft.terminal,
            probability: draft.probability,
            ..TokenSet::default()
        }
    }
}

/// Priors that add up to 1: the probabilities of the sets; that of the greedy one, in the first place, brought between
/// max + min and the sum of the others first. Uniform where a probability is not known.
pub(super) fn priors(drafts: &[Draft], greedy: bool) -> Vec<f64> {
    let known: Option<Vec<f64>> = drafts.iter().map(|draft| draft.probability).collect();
    let uniform = || vec![1.0 / drafts.len().max(1) as f64; drafts.len()];
    let Some(mut all) = known else { return uniform() };
    if let [first, others @ ..] = &mut all[..]
        && greedy
        && !others.is_empty()
    {
        let (low, high) = others.iter().fold((f64::INFINITY, 0.0f64), |(l, h), &p| (l.min(p), h.max(p)));
        let sum: f64 = others.iter().sum();
        // With one other set the lower bound, twice its probability, is above the upper one, which wins.
        *first = first.max(high + low).min(sum);
    }
    let total: f64 = all.iter().sum();
    if total > 0.0 { all.iter().map(|p| p / total).collect() } else { uniform() }
}

/// Written forms of tokens that end a reply.
const ENDS: [&str; 9] = [
    "<eos>",
    "</s>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<end_of_turn>",
    "<|end|>",
    "<|return|>",
];

/// Likely tokens as sets of one token, those left out that have less than `min_p` times the probability of the likeliest.
/// Pieces of a character are no text, so they are left out, too.
pub(super) fn first_tokens(top: &[TopToken], most: u32, min_p: f32) -> Vec<Draft> {
    let mut drafts: Vec<Draft> = Vec::new();
    let likeliest = top.iter().map(|top| top.logprob).fold(f32::NEG_INFINITY, f32::max);
    for TopToken { token, logprob } in top {
        let end = ENDS.contains(&token.as_str());
        if *logprob < likeliest + min_p.ln() {
            continue;
        }
        if token.is_empty() || token.contains('\u{fffd}') || !end && token.starts_with("<|") {
            continue;
        }
        let text = if end { String::new() } else { token.clone() };
        let (terminal, probability) = (end || most <= 1, f64::from(*logprob).exp());
        match drafts.iter_mut().find(|known| known.text == text && known.terminal == terminal) {
            Some(known) => known.probability = known.probability.map(|p| p + probability),
            None => drafts.push(Draft { text, tokens: 1, terminal, probability: Some(probability) }),
        }
    }
    drafts
}

/// The text before the first of these ends.
pub(super) fn until<'t>(text: &'t str, ends: &[String]) -> &'t str {
    let at = ends.iter().filter(|end| !end.is_empty()).filter_map(|end| text.find(end.as_str())).min();
    &text[..at.unwrap_or(text.len())]
}

/// The first sentence of a text with its sign, and whether that is all of it.
pub(super) fn sentence(text: &str) -> (&str, bool) {
    let text = text.trim();
    let mut signs = text.char_indices().peekable();
    while let Some((at, sign)) = signs.next() {
        let next = signs.peek().map(|(_, next)| *next);
        let ends = matches!(sign, '.' | '!' | '?') && next.is_none_or(char::is_whitespace);
        if ends || sign == '\n' {
            let end = if sign == '\n' { at } else { at + sign.len_utf8() };
            return (text[..end].trim_end(), end == text.len());
        }
    }
    (text, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(text: &str, probability: Option<f64>) -> Draft {
        Draft { text: text.into(), tokens: 1, terminal: false, probability }
    }

    fn of(probabilities: &[f64], greedy: bool) -> Vec<f64> {
        let drafts: Vec<Draft> = probabilities.iter().map(|&p| draft("x", Some(p))).collect();
        priors(&drafts, greedy)
    }

    fn close(left: &[f64], right: &[f64]) -> bool {
        left.len() == right.len() && left.iter().zip(right).all(|(l, r)| (l - r).abs() < 1e-12)
    }

    #[test]
    fn priors_are_normalised_and_the_greedy_one_is_bounded_by_the_others() {
        assert!(close(&of(&[0.6, 0.2, 0.2], false), &[0.6, 0.2, 0.2]));
        assert!(close(&of(&[0.3, 0.1], false), &[0.75, 0.25]));
        // Others 0.2 and 0.1 and 0.1: between 0.3 and 0.4.
        assert!(close(&of(&[0.9, 0.2, 0.1, 0.1], true), &[0.5, 0.25, 0.125, 0.125]));
        let low = of(&[0.01, 0.2, 0.1, 0.1], true);
        assert!((low[0] - 0.3 / 0.7).abs() < 1e-12);
        let between = of(&[0.35, 0.2, 0.1, 0.1], true);
        assert!((between[0] - 0.35 / 0.75).abs() < 1e-12);
        assert!(close(&of(&[0.9, 0.1], true), &[0.5, 0.5]), "one other: as likely as that");
        assert!(close(&of(&[0.9], true), &[1.0]));
        assert!(close(&of(&[0.0, 0.0], false), &[0.5, 0.5]));
        let unknown = [draft("a", Some(0.9)), draft("b", None)];
        assert!(close(&priors(&unknown, true), &[0.5, 0.5]), "uniform where one is not known");
        assert!(priors(&[], true).is_empty());
    }

    #[test]
    fn likely_tokens_become_sets_and_an_end_is_an_end() {
        let top = |token: &str, p: f32| TopToken { token: token.into(), logprob: p.ln() };
        let tokens =
            [top("go", 0.5), top("<eos>", 0.2), top("\u{fffd}", 0.1), top("</s>", 0.1), top("<|x|>", 0.05)];
        let found = first_tokens(&tokens, 5, 0.0);
        let seen: Vec<(&str, bool)> = found.iter().map(|d| (d.text.as_str(), d.terminal)).collect();
        assert_eq!(seen, [("go", false), ("", true)]);
        assert!((found[1].probability.unwrap() - 0.3).abs() < 1e-6, "two ends are one");
        assert!(first_tokens(&[top("go", 0.5)], 1, 0.0)[0].terminal, "no token is left behind it");
        let likely = |min_p| first_tokens(&tokens, 5, min_p).len();
        assert_eq!([likely(0.3), likely(0.5), likely(1.0)], [2, 1, 1], "by their share of the likeliest");
    }

    #[test]
    fn texts_are_cut_at_the_first_end() {
        let ends: Vec<String> = [",", ".", "\n"].map(String::from).into();
        assert_eq!(until("go to the shed, ask.", &ends), "go to the shed");
        assert_eq!(until(".", &ends), "");
        assert_eq!(until("go on", &ends), "go on");
        assert_eq!(sentence("It costs 3.50 now. Then go."), ("It costs 3.50 now.", false));
        assert_eq!(sentence("  One line\nand another"), ("One line", false));
        assert_eq!(sentence("All of it!"), ("All of it!", true));
        assert_eq!(sentence("no sign"), ("no sign", true));
        assert_eq!(sentence(""), ("", true));
    }
}
