//! Five signals of each response, the forest of their scores, and the evidence that chains of thought have lost sight of
//! (arXiv 2506.07971).

use crate::vote::{VoteResult, tally};
use elenchus_evaluate::group_answers;
use elenchus_task::evidence::Stream;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// The probability of an answer that is not found or not among the likely tokens.
pub const LEAST_PROBABILITY: f64 = 1e-4;
/// A chain's answer probability may fall by this share of the direct one's.
const FALL_LIMIT: f64 = -0.5;
/// The attention on the evidence may fall by this much.
const DRIFT_LIMIT: f64 = -0.1;
/// Length in characters of a text that comes back, and how often it must.
const REPEATED: (usize, usize) = (15, 5);

/// What a response is judged by. With i the response, 1 the direct one, N their number:
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// s1: the probability of the answer's token.
    Probability,
    /// s2: 0 if (prob_i − prob_1)/prob_1 < −0.5, else 1.
    Fall,
    /// s3: 0 if a text of 15 characters or more comes back five times, else 1.
    Repetition,
    /// s4: 1 for the direct response; 0 if drift_i < −0.1 or attention is missing, else 1.
    Attention,
    /// s5: rank_i / N, the rank by rising probability, N for the highest.
    Rank,
}

impl Signal {
    /// All five, in the order s1 to s5.
    pub const ALL: [Signal; 5] =
        [Signal::Probability, Signal::Fall, Signal::Repetition, Signal::Attention, Signal::Rank];
}

/// What is sensed of one response.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sensed {
    /// Its answer; none where it holds none.
    pub answer: Option<String>,
    /// Probability of the answer's token; `LEAST_PROBABILITY` where there is none.
    pub probability: f64,
    /// Whether a text comes back five times.
    pub repeats: bool,
    /// Attention of the answer's token on each segment, mean over the heads of the last layer.
    pub attention: Option<Vec<f64>>,
}

/// Scores of N responses and their vote.
#[derive(Debug, Clone, PartialEq)]
pub struct Forest {
    /// Each signal of each response, in the order of the signals in use.
    pub signals: Vec<Vec<f64>>,
    /// Score of each response, the mean of its signals, in [0, 1].
    pub scores: Vec<f64>,
    /// S(y): the scores summed by answer. Responses without an answer weigh nothing.
    pub vote: VoteResult,
    /// The response with the highest score among those with the best answer.
    pub representative: Option<usize>,
}

impl Forest {
    /// Scores responses; the first one is the direct answer. `used` names the signals, each with the same weight: all
    /// five weigh 0.2, without attention the other four weigh 0.25. `shares` says that the probabilities are shares of
    /// the vote, so that a fall of them means nothing and s2 is 1.
    pub fn of(
        sensed: &[Sensed],
        used: &[Signal],
        shares: bool,
        equivalent: impl FnMut(&str, &str) -> bool,
    ) -> Self {
        let n = sensed.len() as f64;
        let first = sensed.first().map_or(LEAST_PROBABILITY, |first| first.probability);
        let signals: Vec<Vec<f64>> = sensed
            .iter()
            .enumerate()
            .map(|(index, one)| {
                let value = |signal: &Signal| match signal {
                    Signal::Probability => one.probability,
                    Signal::Fall => flag(shares || (one.probability - first) / first >= FALL_LIMIT),
                    Signal::Repetition => flag(!one.repeats),
                    Signal::Attention => {
                        flag(index == 0 || drift(sensed, index).is_some_and(|drift| drift >= DRIFT_LIMIT))
                    }
                    Signal::Rank => {
                        sensed.iter().filter(|other| other.probability <= one.probability).count() as f64 / n
                    }
                };
                used.iter().map(value).collect()
            })
            .collect();
        let scores: Vec<f64> =
            signals.iter().map(|values| values.iter().sum::<f64>() / values.len().max(1) as f64).collect();
        let answers: Vec<Option<&str>> = sensed.iter().map(|one| one.answer.as_deref()).collect();
        let vote = tally(group_answers(&answers, equivalent), |index| scores[index]);
        let mut representative: Option<usize> = None;
        for (index, group) in vote.groups.of.iter().enumerate() {
            let in_best = group.is_some() && *group == vote.winner;
            if in_best && representative.is_none_or(|best| scores[index] > scores[best]) {
                representative = Some(index);
            }
        }
        Forest { signals, scores, vote, representative }
    }

    /// S of the best answer; 0 where no response has one.
    pub fn best_sum(&self) -> f64 {
        self.vote.winner.map_or(0.0, |winner| self.vote.weights[winner])
    }

    /// Whether the best answer stands as it is: S(best) > N θ. The limit grows with all responses, so from θ = 0.5 on a
    /// divided vote never passes.
    pub fn accepts(&self, threshold: f64) -> bool {
        self.representative.is_some() && self.best_sum() > self.scores.len() as f64 * threshold
    }
}

fn flag(yes: bool) -> f64 {
    f64::from(u8::from(yes))
}

/// How much less a response looks at the evidence than the direct one, summed over segments; `None` where attention of
/// either is missing.
pub fn drift(sensed: &[Sensed], index: usize) -> Option<f64> {
    let (first, own) = (sensed.first()?.attention.as_ref()?, sensed.get(index)?.attention.as_ref()?);
    Some(own.iter().zip(first).map(|(own, first)| own - first).sum())
}

/// Σ over the chains of (A_i − A_1), by segment: negative where evidence was lost from sight. `None` without attention of
/// the direct response and a chain.
pub fn lost_attention(sensed: &[Sensed]) -> Option<Vec<f64>> {
    let first = sensed.first()?.attention.as_ref()?;
    let chains: Vec<&Vec<f64>> = sensed.iter().skip(1).filter_map(|one| one.attention.as_ref()).collect();
    if chains.is_empty() {
        return None;
    }
    let by_segment = first.iter().enumerate();
    let lost = by_segment.map(|(place, before)| {
        chains.iter().map(|chain| chain.get(place).copied().unwrap_or(0.0) - before).sum()
    });
    Some(lost.collect())
}

/// Whether a text of 15 characters (so any longer one) occurs five times without overlap.
pub fn repeats(text: &str) -> bool {
    let (length, times) = REPEATED;
    let signs: Vec<char> = text.chars().collect();
    let mut seen: HashMap<&[char], (usize, usize)> = HashMap::new();
    for (start, window) in signs.windows(length).enumerate() {
        let (count, free) = seen.entry(window).or_insert((0, 0));
        if start >= *free {
            (*count, *free) = (*count + 1, start + length);
            if *count >= times {
                return true;
            }
        }
    }
    false
}

/// How many segments are shown again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyLimits {
    /// Most frames, images, passages by their own change; also most lines of subtitles.
    pub segments: usize,
    /// Most frames that are taken because a chosen line of subtitles is spoken over them.
    pub by_subtitle: usize,
}

/// The segments that are shown again, in their order. `change` is negative for what counts: the most negative ones, and
/// none from 0 on. A chosen line of subtitles stands for the frames over which it is spoken; where both together are more
/// than half of all frames, only those chosen by their own change are kept. Lines of a stream without frames stand for
/// themselves.
pub fn key_segments(change: &[f64], stream: &Stream, limits: KeyLimits) -> Vec<usize> {
    let frames = stream.segments.iter().filter(|segment| !segment.subtitle).count();
    let lowest = |subtitle: bool| {
        let mut places: Vec<usize> = (0..change.len().min(stream.segments.len()))
            .filter(|&place| stream.segments[place].subtitle == subtitle && change[place] < 0.0)
            .collect();
        places.sort_by(|&a, &b| change[a].total_cmp(&change[b]).then(a.cmp(&b)));
        places.truncate(limits.segments);
        places
    };
    let mut chosen = lowest(false);
    let lines = lowest(true);
    if frames == 0 {
        chosen = lines;
    } else {
        let spoken = |place: usize| {
            let Some([from, to]) = stream.segments[place].seconds else { return false };
            lines
                .iter()
                .filter_map(|&line| stream.segments[line].seconds)
                .any(|[start, end]| start < to && from < end)
        };
        let also: Vec<usize> = (0..stream.segments.len())
            .filter(|&place| !stream.segments[place].subtitle && !chosen.contains(&place) && spoken(place))
            .take(limits.by_subtitle)
            .collect();
        if 2 * (chosen.len() + also.len()) <= frames {
            chosen.extend(also);
        }
    }
    chosen.sort_unstable();
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use elenchus_task::evidence::Segment;
    use proptest::prelude::*;

    /// A response whose attention lies on two segments; the direct one has 0.3 on each.
    fn sensed(answer: &str, probability: f64, drift: f64) -> Sensed {
        Sensed {
            answer: (!answer.is_empty()).then(|| answer.to_string()),
            probability,
            repeats: false,
            attention: Some(vec![0.3 + drift / 2.0, 0.3 + drift / 2.0]),
        }
    }

    fn example() -> Vec<Sensed> {
        vec![sensed("A", 0.9, 0.0), sensed("B", 0.6, 0.05), sensed("B", 0.4, -0.2), sensed("A", 0.8, -0.02)]
    }

    fn forest(sensed: &[Sensed], used: &[Signal], shares: bool) -> Forest {
        Forest::of(sensed, used, shares, |left, right| left == right)
    }

    fn close(left: &[f64], right: &[f64]) {
        let off = left.iter().zip(right).map(|(l, r)| (l - r).abs()).fold(0.0, f64::max);
        assert!(left.len() == right.len() && off < 1e-9, "{left:?} {right:?}");
    }

    #[test]
    fn the_example_of_the_sheet() {
        let found = forest(&example(), &Signal::ALL, false);
        let column = |k: usize| -> Vec<f64> { found.signals.iter().map(|s| s[k]).collect() };
        close(&column(1), &[1.0, 1.0, 0.0, 1.0]);
        close(&column(3), &[1.0, 1.0, 0.0, 1.0]);
        close(&column(4), &[1.0, 0.5, 0.25, 0.75]);
        close(&found.scores, &[0.98, 0.82, 0.33, 0.91]);
        close(&found.vote.weights, &[1.89, 1.15]);
        assert_eq!(found.representative, Some(0));
        assert!(found.accepts(0.3), "1.89 > 4 × 0.3");
        assert!(!found.accepts(0.5), "1.89 ≤ 4 × 0.5");
    }

    #[test]
    fn without_attention_four_signals_share_the_weight() {
        let used = [Signal::Probability, Signal::Fall, Signal::Repetition, Signal::Rank];
        let mut blind = example();
        blind.iter_mut().for_each(|one| one.attention = None);
        let found = forest(&blind, &used, false);
        close(&found.scores, &[0.975, 0.775, 0.4125, 0.8875]);
        // With all five, missing attention costs every chain its fourth signal.
        close(&forest(&blind, &Signal::ALL, false).scores, &[0.98, 0.62, 0.33, 0.71]);
        assert_eq!(forest(&blind, &used, true).signals[2][1], 1.0, "a share of the vote cannot fall");
    }

    #[test]
    fn no_answer_weighs_nothing_and_repetition_costs_a_signal() {
        let mut one = example();
        one[1].answer = None;
        one[2].answer = None;
        one[0].repeats = true;
        let found = forest(&one, &Signal::ALL, false);
        close(&[found.best_sum(), found.scores[0]], &[0.78 + 0.91, 0.78]);
        assert_eq!(found.representative, Some(3), "the highest score of its answer");
        one.iter_mut().for_each(|one| one.answer = None);
        let none = forest(&one, &Signal::ALL, false);
        assert!(none.representative.is_none() && !none.accepts(0.0));
    }

    #[test]
    fn a_text_that_comes_back_five_times_repeats() {
        let phrase = "fifteen letters";
        assert_eq!(phrase.len(), 15);
        assert!(repeats(&phrase.repeat(5)) && !repeats(&phrase.repeat(4)));
        assert!(!repeats(&"a".repeat(74)) && repeats(&"a".repeat(75)), "without overlap");
        assert!(!repeats("short") && !repeats(""));
    }

    fn stream(frames: usize, lines: &[[f64; 2]]) -> Stream {
        let frame = |i: usize| Segment { seconds: Some([i as f64, i as f64 + 1.0]), ..Segment::new("f") };
        let line =
            |&seconds: &[f64; 2]| Segment { seconds: Some(seconds), subtitle: true, ..Segment::new("s") };
        Stream { segments: (0..frames).map(frame).chain(lines.iter().map(line)).collect() }
    }

    const LIMITS: KeyLimits = KeyLimits { segments: 2, by_subtitle: 10 };

    #[test]
    fn the_most_negative_segments_are_shown_again() {
        let change = [-0.1, 0.2, -0.5, -0.3, 0.0, 0.0, 0.0, 0.0];
        assert_eq!(key_segments(&change, &stream(8, &[]), LIMITS), [2, 3]);
        assert!(key_segments(&[0.0, 0.4], &stream(2, &[]), LIMITS).is_empty(), "nothing was lost");
        // The line from 5.5 to 7 is spoken over the frames 5 and 6.
        let change = [-0.1, 0.2, -0.5, 0.3, 0.0, 0.0, 0.0, 0.0, -0.2, 0.1];
        let with = |lines: &[[f64; 2]]| key_segments(&change, &stream(8, lines), LIMITS);
        assert_eq!(with(&[[5.5, 7.0], [0.0, 1.0]]), [0, 2, 5, 6]);
        assert_eq!(
            with(&[[3.5, 7.0], [0.0, 1.0]]),
            [0, 2],
            "more than half of the frames: the visual ones alone"
        );
        assert_eq!(key_segments(&[-0.1, 0.2, -0.3], &stream(0, &[[0.0, 1.0]; 3]), LIMITS), [0, 2]);
        let direct = Sensed { attention: Some(vec![0.5, 0.1]), ..sensed("A", 0.9, 0.0) };
        let chain = Sensed { attention: Some(vec![0.1, 0.2]), ..sensed("A", 0.9, 0.0) };
        close(&lost_attention(&[direct.clone(), chain.clone(), chain]).unwrap(), &[-0.8, 0.2]);
        assert!(lost_attention(&[direct]).is_none(), "no chain");
    }

    proptest! {
        #[test]
        fn scores_stay_between_0_and_1_and_the_sum_below_n(
            all in prop::collection::vec((0usize..4, 1e-4f64..1.0, -0.5f64..0.5, any::<bool>()), 1..12)
        ) {
            let sensed: Vec<Sensed> = all.iter().map(|&(answer, probability, drift, repeats)| Sensed {
                repeats, ..sensed(["", "A", "B", "C"][answer], probability, drift)
            }).collect();
            let found = forest(&sensed, &Signal::ALL, false);
            prop_assert!(found.scores.iter().all(|score| (0.0..=1.0).contains(score)));
            prop_assert!(!found.accepts(1.0), "a threshold of 1 always corrects");
            prop_assert_eq!(found.accepts(0.0), found.representative.is_some());
        }

        #[test]
        fn any_text_is_searched(text in "\\PC{0,120}") {
            let _ = repeats(&text);
        }
    }
}
