//! The benchmark: questions with their samples, a right and a wrong response of each, and what critics say of them.

use super::PerModel;
use elenchus_control::{checked_vote, majority};
use elenchus_measure::vote_certainty;
use elenchus_trace::{Feedback, Usage};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// One sample of a question.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Drawn {
    pub text: String,
    pub answer: Option<String>,
    pub right: bool,
    pub steps: usize,
    pub usage: Usage,
}

/// What a critic said of a sample or an item, as shares of the judgments that it was asked for: called right, called wrong,
/// and neither, since it cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Said {
    pub right: f64,
    pub wrong: f64,
    pub unread: f64,
    pub usage: Usage,
}

impl Said {
    /// Of the feedback of so many judgments. Its score is a share of those that can be read; how many cannot stands in front
    /// of the verdict's reason.
    pub fn of(feedback: &Feedback, votes: usize) -> Self {
        let count = |reason: &str| reason.split(' ').next()?.parse::<usize>().ok();
        let unread = match (&feedback.verdict, feedback.score) {
            (Some(verdict), Some(_)) => verdict.reason.as_deref().and_then(count).unwrap_or(0).min(votes),
            _ => votes,
        };
        let unread = unread as f64 / votes.max(1) as f64;
        let right = feedback.score.unwrap_or(0.0) * (1.0 - unread);
        Said { right, wrong: 1.0 - unread - right, unread, usage: feedback.usage }
    }

    /// Whether it is called wrong more often than right; a tie discards nothing.
    pub fn discards(&self) -> bool {
        self.wrong > self.right
    }

    /// Share of the judgments that are right about a response, as the paper takes the mean over its runs; what cannot be read
    /// is not.
    pub fn accuracy(&self, right: bool) -> f64 {
        if right { self.right } else { self.wrong }
    }

    /// The same by the paper's rule: what cannot be read counts as `correct`.
    pub fn accuracy_of_the_paper(&self, right: bool) -> f64 {
        self.accuracy(right) + if right { self.unread } else { 0.0 }
    }

    /// ln(f1/f2) over the verdicts, f1 those of the more frequent kind; 0 without any.
    pub fn certainty(&self, votes: usize) -> f64 {
        let count = |share: f64| (share * votes as f64).round() as usize;
        vote_certainty(&[count(self.right), count(self.wrong)]).unwrap_or(0.0)
    }
}

/// The samples of one question, and what the critic says of the first N.
pub(super) struct Question {
    pub drawn: Vec<Drawn>,
    pub said: Vec<Said>,
}

impl Question {
    fn answers(&self, samples: usize) -> Vec<Option<&str>> {
        self.drawn.iter().take(samples).map(|d| d.answer.as_deref()).collect()
    }

    pub fn certainty(&self, samples: usize) -> f64 {
        // Answers are in the task's normal form, so equal means the same text.
        let vote = majority(&self.answers(samples), |a, b| a == b);
        vote_certainty(&vote.counts).unwrap_or(0.0)
    }

    pub fn vote(&self, samples: usize) -> bool {
        let vote = majority(&self.answers(samples), |a, b| a == b);
        vote.sample().is_some_and(|sample| self.drawn[sample].right)
    }

    pub fn checked(&self, samples: usize, discarded: &[bool]) -> bool {
        let (vote, _) = checked_vote(&self.answers(samples), discarded, |a, b| a == b);
        vote.sample().is_some_and(|sample| self.drawn[sample].right)
    }

    /// The vote that checks itself below the threshold.
    pub fn self_check(&self, samples: usize, threshold: f64) -> bool {
        if self.certainty(samples) >= threshold {
            return self.vote(samples);
        }
        let discarded: Vec<bool> = self.said.iter().map(Said::discards).collect();
        self.checked(samples, &discarded)
    }

    /// Critiques that the check of this question makes.
    pub fn critiques(&self, samples: usize, threshold: f64) -> usize {
        let checked = self.certainty(samples) < threshold;
        if checked { self.answers(samples).iter().flatten().count() } else { 0 }
    }

    /// What samples cost, and with a threshold the critiques below it.
    pub fn spent(&self, samples: usize, threshold: f64) -> Usage {
        let drawn: Usage = self.drawn.iter().take(samples).map(|drawn| drawn.usage).sum();
        // All samples are one request.
        let drawn = Usage { calls: drawn.calls.max(1), ..drawn };
        if self.critiques(samples, threshold) == 0 {
            return drawn;
        }
        let answered = self.drawn.iter().zip(&self.said).filter(|(drawn, _)| drawn.answer.is_some());
        drawn + answered.map(|(_, said)| said.usage).sum::<Usage>()
    }
}

/// A response of the benchmark.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub question: usize,
    pub generator: usize,
    pub right: bool,
    pub text: String,
    /// Of the vote of its generator on the question.
    pub certainty: f64,
}

/// How the wrong response of a question is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Wrong {
    /// Among those with the most frequent wrong answer, the one with the most steps.
    Convincing,
    /// Any.
    Uniform,
}

/// One right and one wrong response of a question, where there are both.
pub(super) fn pair<'q>(
    question: &'q Question,
    wrong: Wrong,
    random: &mut ChaCha8Rng,
) -> Option<[&'q Drawn; 2]> {
    let most_steps = |of: &[&'q Drawn]| -> Option<&'q Drawn> {
        let most = of.iter().map(|drawn| drawn.steps).max()?;
        of.iter().find(|drawn| drawn.steps == most).copied()
    };
    let right: Vec<&Drawn> = question.drawn.iter().filter(|drawn| drawn.right).collect();
    let others: Vec<&Drawn> =
        question.drawn.iter().filter(|drawn| !drawn.right && drawn.answer.is_some()).collect();
    let chosen = match wrong {
        Wrong::Uniform if others.is_empty() => None,
        Wrong::Uniform => Some(others[random.random_range(0..others.len())]),
        Wrong::Convincing => {
            let answers: Vec<Option<&str>> = others.iter().map(|drawn| drawn.answer.as_deref()).collect();
            let vote = majority(&answers, |a, b| a == b);
            let same: Vec<&Drawn> = others
                .iter()
                .zip(&vote.groups.of)
                .filter(|(_, group)| **group == vote.winner)
                .map(|(drawn, _)| *drawn)
                .collect();
            most_steps(&same)
        }
    };
    Some([most_steps(&right)?, chosen?])
}

/// A benchmark of one seed with what each critic says of its items.
pub(super) struct Bench {
    pub items: Vec<Item>,
    /// Per critic and item.
    pub said: Vec<Vec<Said>>,
    /// Test questions, of which the items are some.
    pub questions: usize,
}

impl Bench {
    /// The items of all generators; `found` are the models of one seed.
    pub fn items(found: &[PerModel], wrong: Wrong, random: &mut ChaCha8Rng, samples: usize) -> Vec<Item> {
        let mut items = Vec::new();
        for (generator, model) in found.iter().enumerate() {
            for (index, question) in model.test.iter().enumerate() {
                let certainty = question.certainty(samples);
                for drawn in pair(question, wrong, random).into_iter().flatten() {
                    let (right, text) = (drawn.right, drawn.text.clone());
                    items.push(Item { question: index, generator, right, text, certainty });
                }
            }
        }
        items
    }

    /// What a critic said of the items; with `generator`, of those of one model.
    pub fn judged(&self, critic: usize, generator: Option<usize>) -> impl Iterator<Item = (Said, &Item)> {
        let said = self.said[critic].iter().copied().zip(&self.items);
        said.filter(move |(_, item)| generator.is_none_or(|wanted| item.generator == wanted))
    }

    /// Sums per question, the two items of a question together: they are no independent evidence.
    pub fn per_question<const N: usize>(
        &self,
        critic: usize,
        generator: Option<usize>,
        of: impl Fn(Said, &Item) -> [f64; N],
    ) -> Vec<[f64; N]> {
        let mut rows = vec![[0.0; N]; self.questions];
        for (said, item) in self.judged(critic, generator) {
            for (sum, part) in rows[item.question].iter_mut().zip(of(said, item)) {
                *sum += part;
            }
        }
        rows
    }

    /// Right judgments and items, per question.
    pub fn accuracy(&self, critic: usize, generator: Option<usize>) -> Vec<[f64; 2]> {
        self.per_question(critic, generator, |said, item| [said.accuracy(item.right), 1.0])
    }
}

/// Tercile of each value, 0 the lowest. Equal ones are in one tercile.
pub(super) fn terciles(values: &[f64]) -> Vec<usize> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let bound = |third: usize| sorted.get(sorted.len() * third / 3).copied().unwrap_or(f64::INFINITY);
    let (low, high) = (bound(1), bound(2));
    let of = |&value: &f64| usize::from(value >= low) + usize::from(value >= high && high > low);
    values.iter().map(of).collect()
}
