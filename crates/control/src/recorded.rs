//! Selection among recorded samples (`samples.jsonl`), without any model.

use crate::{Ballot, ControlError, PathRule, Power, Rule};
use elenchus_trace::{Sample, SampleRow, Votes, nearest};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A way to choose one of the recorded samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RecordedMethod {
    /// The first sample that has an answer.
    First,
    /// The most frequent answer.
    #[serde(alias = "majority")]
    SelfConsistency,
    /// The sample with the highest score, among those with an answer.
    #[serde(alias = "argmax")]
    BestOfN,
    /// The heaviest answer by rank of score.
    Borda,
    /// The answer with the largest sum of scores.
    Sum,
    /// The answer with the largest mean score.
    Mean,
    /// The sample with the highest mean log-probability, among those with an answer: the least perplexity.
    #[serde(alias = "ppl")]
    Perplexity,
    /// The answer with the largest sum of probabilities of its distinct samples.
    #[serde(alias = "pc")]
    PerplexityConsistency,
    /// The same after improbable samples were dropped (arXiv 2502.00511).
    Rpc,
    /// Right when any sample is: an oracle that no method can beat.
    Pass,
}

/// Name, second name and one line of every method.
const METHODS: [(&str, Option<&str>, RecordedMethod, &str); 10] = [
    ("first", None, RecordedMethod::First, "the first sample that has an answer"),
    ("self-consistency", Some("majority"), RecordedMethod::SelfConsistency, "the most frequent answer"),
    ("best-of-n", Some("argmax"), RecordedMethod::BestOfN, "the sample with the highest score"),
    ("borda", None, RecordedMethod::Borda, "the heaviest answer by rank of score, weights (N − r + 1)^p"),
    ("sum", None, RecordedMethod::Sum, "the answer with the largest sum of scores"),
    ("mean", None, RecordedMethod::Mean, "the answer with the largest mean score"),
    (
        "perplexity",
        Some("ppl"),
        RecordedMethod::Perplexity,
        "the sample with the highest mean log-probability",
    ),
    (
        "perplexity-consistency",
        Some("pc"),
        RecordedMethod::PerplexityConsistency,
        "the answer with the largest sum of probabilities of its distinct samples",
    ),
    ("rpc", None, RecordedMethod::Rpc, "the same after improbable samples were dropped"),
    ("pass", None, RecordedMethod::Pass, "right when any sample is: the oracle above all methods"),
];

/// Name and one line of every selection method.
pub fn recorded_methods() -> impl Iterator<Item = (&'static str, &'static str)> {
    METHODS.iter().map(|(name, _, _, summary)| (*name, *summary))
}

impl RecordedMethod {
    /// The method of this name (`_` and `-` are the same). Errors with the nearest names.
    pub fn named(name: &str) -> Result<Self, ControlError> {
        let wanted = name.replace('_', "-");
        METHODS
            .iter()
            .find(|(known, second, ..)| *known == wanted || *second == Some(&wanted))
            .map(|(_, _, method, _)| *method)
            .ok_or_else(|| ControlError::Unknown {
                kind: "selection method",
                name: name.into(),
                hint: nearest(name, METHODS.iter().map(|(known, ..)| *known)),
            })
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        METHODS.iter().find(|(_, _, method, _)| *method == self).map_or("first", |(name, ..)| name)
    }

    /// The field whose numbers it compares when none is given; `None` for methods that compare no numbers.
    pub fn default_field(self) -> Option<ScoreField> {
        match self {
            RecordedMethod::BestOfN => Some(ScoreField::Score),
            RecordedMethod::Borda | RecordedMethod::Sum | RecordedMethod::Mean => Some(ScoreField::Certainty),
            RecordedMethod::Perplexity | RecordedMethod::PerplexityConsistency | RecordedMethod::Rpc => {
                Some(ScoreField::MeanLogprob)
            }
            RecordedMethod::First | RecordedMethod::SelfConsistency | RecordedMethod::Pass => None,
        }
    }
}

/// A number of a recorded sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScoreField {
    /// `score`
    Score,
    /// `certainty`
    Certainty,
    /// `mean_logprob`, or the mean of `token_logprobs`.
    MeanLogprob,
    /// `sum_logprob`, or the sum of `token_logprobs`.
    SumLogprob,
}

impl ScoreField {
    const ALL: [(ScoreField, &'static str); 4] = [
        (ScoreField::Score, "score"),
        (ScoreField::Certainty, "certainty"),
        (ScoreField::MeanLogprob, "mean_logprob"),
        (ScoreField::SumLogprob, "sum_logprob"),
    ];

    /// The field of this name (`_` and `-` are the same). Errors with the nearest names.
    pub fn named(name: &str) -> Result<Self, ControlError> {
        let wanted = name.replace('-', "_");
        Self::ALL.iter().find(|(_, known)| *known == wanted).map(|(field, _)| *field).ok_or_else(|| {
            ControlError::Unknown {
                kind: "score field",
                name: name.into(),
                hint: format!("known are {}", Self::ALL.map(|(_, known)| format!("`{known}`")).join(", ")),
            }
        })
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(field, _)| *field == self).map_or("score", |(_, name)| name)
    }

    /// The number of a sample; `None` where it has none, or none that is finite.
    pub fn of(self, sample: &Sample) -> Option<f64> {
        let tokens = || sample.token_logprobs.as_deref().filter(|tokens| !tokens.is_empty());
        let sum = || Some(tokens()?.iter().map(|&l| f64::from(l)).sum::<f64>());
        let value = match self {
            ScoreField::Score => sample.score,
            ScoreField::Certainty => sample.certainty,
            ScoreField::SumLogprob => sample.sum_logprob.or_else(sum),
            ScoreField::MeanLogprob => sample.mean_logprob.or_else(|| Some(sum()? / tokens()?.len() as f64)),
        };
        value.filter(|value| value.is_finite())
    }

    /// The first field, in the order certainty, score, mean_logprob, sum_logprob, that every row has somewhere: what to
    /// take for a whole file when neither a field is given nor the method's own one is there.
    pub fn common<'a>(rows: impl IntoIterator<Item = &'a SampleRow>) -> Option<ScoreField> {
        let mut left =
            vec![ScoreField::Certainty, ScoreField::Score, ScoreField::MeanLogprob, ScoreField::SumLogprob];
        for row in rows {
            left.retain(|field| row.samples.iter().any(|sample| field.of(sample).is_some()));
        }
        left.first().copied()
    }
}

/// How to select.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordedSettings {
    /// The method.
    pub method: RecordedMethod,
    /// The number that is compared; absent, `score` for best-of-n, `certainty` for borda, sum and mean, and
    /// `mean_logprob` for perplexity, perplexity-consistency and rpc, which take log-probabilities only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<ScoreField>,
    /// The exponent p of Borda weights: a number, or `auto`.
    #[serde(default)]
    pub power: Power,
    /// Leave samples without an answer out before Borda ranks are given.
    #[serde(default)]
    pub drop_unanswered: bool,
    /// Use only the first so many samples of each question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<usize>,
}

impl RecordedSettings {
    /// A method with its defaults.
    pub fn new(method: RecordedMethod) -> Self {
        RecordedSettings { method, by: None, power: Power::ByCount, drop_unanswered: false, samples: None }
    }

    /// Errors: [`ControlError::Setting`] for a number out of range, or a setting that the method does not look at.
    pub fn check(&self) -> Result<(), ControlError> {
        let name = self.method.name();
        if self.method.default_field().is_none() && self.by.is_some() {
            let hint = "leave it out, or take `best-of-n`, `borda`, `sum` or `mean`";
            return Err(ControlError::setting(name, "by", "this method compares no numbers", hint));
        }
        if self.method != RecordedMethod::Borda && (self.drop_unanswered || self.power != Power::ByCount) {
            let hint = "leave `power` and `drop_unanswered` out, or take `borda`";
            return Err(ControlError::setting(name, "power", "this method has no ranks to weigh", hint));
        }
        if self.method.default_field() == Some(ScoreField::MeanLogprob)
            && let Some(by @ (ScoreField::Score | ScoreField::Certainty)) = self.by
        {
            let problem = format!("`{}` is no log-probability", by.name());
            return Err(ControlError::setting(name, "by", problem, "take `mean_logprob` or `sum_logprob`"));
        }
        self.power.check(name)?;
        if self.samples == Some(0) {
            return Err(ControlError::setting(
                name,
                "samples",
                "0 leaves nothing to choose from",
                "take 1 or more",
            ));
        }
        Ok(())
    }

    /// The field that is compared.
    pub fn field(&self) -> Option<ScoreField> {
        self.method.default_field().map(|field| self.by.unwrap_or(field))
    }

    fn rule(&self) -> Rule {
        match self.method {
            RecordedMethod::First | RecordedMethod::Pass => Rule::First,
            RecordedMethod::SelfConsistency => Rule::Majority,
            RecordedMethod::BestOfN | RecordedMethod::Perplexity => Rule::Argmax { allow_unanswered: false },
            RecordedMethod::PerplexityConsistency => {
                Rule::Path(PathRule { prune: false, ..PathRule::default() })
            }
            RecordedMethod::Rpc => Rule::Path(PathRule::default()),
            RecordedMethod::Borda => Rule::Borda { power: self.power, drop_unanswered: self.drop_unanswered },
            RecordedMethod::Sum => Rule::Sum,
            RecordedMethod::Mean => Rule::Mean,
        }
    }
}

/// What was chosen for one question.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RecordedChoice {
    /// Identifier of the question.
    pub id: String,
    /// Index of the chosen sample.
    pub sample: Option<usize>,
    /// Its answer.
    pub answer: Option<String>,
    /// Whether it is right, where the row or its reference answer says so. A question without a choice is not right.
    pub correct: Option<bool>,
    /// Credit for it: 1 when right and 0 when not; where answers tie for the largest weight, the share of right ones
    /// among them, so that the order of samples does not decide an accuracy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credit: Option<f64>,
    /// Share of the answer in the vote, for methods that vote with positive weights.
    pub confidence: Option<f64>,
    /// The vote table.
    pub votes: Vec<Votes>,
    /// Why there is no choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub abstained: Option<String>,
}

/// Chooses among the samples of one question.
///
/// `extract` finds the answer in a text, for samples that carry none; `equivalent` compares two answers. The answer of a
/// sample counts as missing when it is empty. Right or wrong is taken from the chosen sample's `correct`, else from any
/// sample with an equivalent answer that has it, else from the reference answer by `equivalent`.
///
/// Errors: [`ControlError::Recorded`] when no sample carries the number that the method compares.
pub fn select_recorded(
    row: &SampleRow,
    settings: &RecordedSettings,
    extract: impl Fn(&str) -> Option<String>,
    equivalent: impl Fn(&str, &str) -> bool,
) -> Result<RecordedChoice, ControlError> {
    let count = settings.samples.unwrap_or(row.samples.len()).min(row.samples.len());
    let samples = &row.samples[..count];
    let answers: Vec<Option<String>> = samples
        .iter()
        .map(|sample| {
            let given = sample.answer.clone().or_else(|| extract(&sample.text));
            given.filter(|answer| !answer.trim().is_empty())
        })
        .collect();
    let field = settings.field();
    let scores: Vec<Option<f64>> =
        samples.iter().map(|sample| field.and_then(|field| field.of(sample))).collect();
    if let Some(field) = field
        && !samples.is_empty()
        && scores.iter().all(Option::is_none)
    {
        let there: Vec<&str> = ScoreField::ALL
            .iter()
            .filter(|(other, _)| samples.iter().any(|sample| other.of(sample).is_some()))
            .map(|(_, name)| *name)
            .collect();
        return Err(ControlError::Recorded {
            question: row.id.clone(),
            problem: format!(
                "`{}` compares `{}`, and no sample has it",
                settings.method.name(),
                field.name()
            ),
            hint: match there.is_empty() {
                true => "take `self-consistency`, which needs only answers".into(),
                false => format!("compare another number: the samples have `{}`", there.join("`, `")),
            },
        });
    }
    let right = |sample: usize| -> Option<bool> {
        let answer = answers[sample].as_deref();
        let judged = samples[sample].correct.or_else(|| {
            let same =
                |other: usize| answers[other].as_deref().zip(answer).is_some_and(|(o, a)| equivalent(o, a));
            (0..count)
                .find(|&other| samples[other].correct.is_some() && same(other))
                .and_then(|o| samples[o].correct)
        });
        judged
            .or_else(|| {
                Some(answer.is_some_and(|answer| row.gold.as_deref().is_some_and(|g| equivalent(g, answer))))
            })
            .filter(|_| judged.is_some() || row.gold.is_some())
    };
    let paths: Vec<&str> = samples.iter().map(|sample| sample.text.as_str()).collect();
    let ballot = Ballot { answers: &answers, scores: &scores, paths: &paths };
    let chosen = ballot.choose(settings.rule(), &equivalent);
    let nobody_knows = row.gold.is_none() && samples.iter().all(|sample| sample.correct.is_none());
    let mut choice = RecordedChoice {
        id: row.id.clone(),
        sample: None,
        answer: None,
        correct: (!nobody_knows).then_some(false),
        credit: (!nobody_knows).then_some(0.0),
        confidence: None,
        votes: Vec::new(),
        abstained: None,
    };
    match chosen {
        Err(reason) => choice.abstained = Some(reason),
        Ok(found) => {
            let oracle = settings.method == RecordedMethod::Pass;
            let sample = match oracle {
                true => (0..count).find(|&sample| right(sample) == Some(true)).unwrap_or(found.sample),
                false => found.sample,
            };
            choice.sample = Some(sample);
            choice.answer = answers[sample].clone();
            choice.correct = right(sample);
            let judged: Option<Vec<bool>> = match found.tied.len() {
                0 | 1 => choice.correct.map(|right| vec![right]),
                _ => found.tied.iter().map(|&sample| right(sample)).collect(),
            };
            choice.credit = judged
                .map(|judged| judged.iter().filter(|right| **right).count() as f64 / judged.len() as f64);
            choice.confidence = found.share;
            choice.votes = found.votes;
        }
    }
    Ok(choice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(samples: serde_json::Value) -> SampleRow {
        serde_json::from_value(json!({"id": 1, "question": "q", "gold": "7", "samples": samples})).unwrap()
    }

    fn select(row: &SampleRow, settings: &RecordedSettings) -> Result<RecordedChoice, ControlError> {
        settings.check()?;
        let extract = |text: &str| text.rsplit_once('#').map(|(_, answer)| answer.to_string());
        select_recorded(row, settings, extract, |left, right| left == right)
    }

    fn by(method: &str) -> RecordedSettings {
        RecordedSettings::new(RecordedMethod::named(method).unwrap())
    }

    fn sheet() -> SampleRow {
        row(json!([
            {"text": "x#8", "certainty": 9, "score": 1},
            {"text": "x#8", "certainty": 8, "score": 1},
            {"text": "x", "answer": "7", "certainty": 3, "score": 4},
            {"text": "x#7", "certainty": 2, "score": 2},
            {"text": "x#7", "certainty": 1, "score": 2}
        ]))
    }

    #[test]
    fn path_probabilities_of_recorded_samples() {
        let samples: Vec<serde_json::Value> =
            [("8", 0.85), ("8", 0.80), ("7", 0.62), ("7", 0.55), ("7", 0.50), ("9", 0.30)]
                .iter()
                .enumerate()
                .map(|(i, (answer, p))| {
                    json!({"text": format!("{i}#{answer}"), "mean_logprob": f64::ln(*p), "sum_logprob": 5.0 * f64::ln(*p)})
                })
                .collect();
        let row_of = row(json!(samples));
        let answer = |settings: &RecordedSettings| select(&row_of, settings).unwrap();
        let consistent = answer(&by("perplexity-consistency"));
        assert_eq!(consistent.answer.as_deref(), Some("7"));
        assert!((consistent.confidence.unwrap() - 0.461326).abs() < 1e-6, "the numbers of the sheet");
        assert_eq!(answer(&by("ppl")).sample, Some(0));
        let summed = RecordedSettings { by: Some(ScoreField::SumLogprob), ..by("pc") };
        assert_eq!(answer(&summed).answer.as_deref(), Some("8"), "0.85^5 + 0.8^5 is the largest");
        let wrong = RecordedSettings { by: Some(ScoreField::Score), ..by("rpc") };
        assert!(wrong.check().unwrap_err().to_string().contains("mean_logprob"));
        let silent = select(&sheet(), &by("rpc")).unwrap_err().to_string();
        assert!(silent.contains("`mean_logprob`") && silent.contains("`certainty`"), "{silent}");
    }

    #[test]
    fn recorded_paths_are_pruned() {
        let high = (0..6).map(|i| ("7", 0.93 + 0.01 * f64::from(i)));
        let low = (0..12).map(|i| ("8", 0.50 + 0.01 * f64::from(i)));
        let samples: Vec<serde_json::Value> = high
            .chain(low)
            .map(|(answer, p)| json!({"text": "", "answer": answer, "mean_logprob": p.ln()}))
            .collect();
        let found = select(&row(json!(samples)), &by("rpc")).unwrap();
        assert_eq!((found.answer.as_deref(), found.confidence), (Some("7"), Some(1.0)));
        assert_eq!(select(&row(json!(samples)), &by("majority")).unwrap().answer.as_deref(), Some("8"));
    }

    #[test]
    fn ties_share_the_credit() {
        let tied = row(json!([{"text": "x#8"}, {"text": "x#7"}, {"text": "x#7"}, {"text": "x#8"}]));
        let found = select(&tied, &by("self-consistency")).unwrap();
        assert_eq!((found.correct, found.credit), (Some(false), Some(0.5)));
    }

    #[test]
    fn every_method_on_one_row() {
        for (method, sample, correct) in [
            ("first", 0, false),
            ("self-consistency", 2, true),
            ("majority", 2, true),
            ("best-of-n", 2, true),
            ("argmax", 2, true),
            ("sum", 0, false),
            ("mean", 0, false),
            ("pass", 2, true),
        ] {
            let choice = select(&sheet(), &by(method)).unwrap();
            assert_eq!((choice.sample, choice.correct), (Some(sample), Some(correct)), "{method}");
        }
        let borda = RecordedSettings { power: Power::Given(1.0), ..by("borda") };
        let choice = select(&sheet(), &borda).unwrap();
        assert_eq!((choice.answer.as_deref(), choice.confidence), (Some("8"), Some(0.6)));
        let borda = RecordedSettings { by: Some(ScoreField::Score), ..borda };
        assert_eq!(select(&sheet(), &borda).unwrap().answer.as_deref(), Some("7"));
    }

    #[test]
    fn log_probabilities_of_tokens_stand_in_for_their_mean_and_sum() {
        let samples = row(json!([
            {"text": "x#8", "token_logprobs": [-0.1, -0.1, -0.1, -0.1, -0.1]},
            {"text": "x#7", "token_logprobs": [-0.25]},
            {"text": "x#6", "token_logprobs": []}
        ]));
        let mean = RecordedSettings { by: Some(ScoreField::MeanLogprob), ..by("best-of-n") };
        assert_eq!(select(&samples, &mean).unwrap().sample, Some(0));
        let sum = RecordedSettings { by: Some(ScoreField::SumLogprob), ..by("best-of-n") };
        assert_eq!(select(&samples, &sum).unwrap().sample, Some(1));
        assert_eq!(ScoreField::common([&samples]), Some(ScoreField::MeanLogprob));
    }

    #[test]
    fn what_is_known_of_one_sample_holds_for_equal_answers() {
        let samples = row(json!([{"text": "x#9"}, {"text": "y#9", "correct": true}, {"text": "#7"}]));
        assert_eq!(
            select(&samples, &by("first")).unwrap().correct,
            Some(true),
            "a recorded label beats the gold"
        );
        let mut unknown = row(json!([{"text": "x#9"}]));
        unknown.gold = None;
        assert_eq!(select(&unknown, &by("first")).unwrap().correct, None);
        assert_eq!(select(&unknown, &by("pass")).unwrap().correct, None);
    }

    #[test]
    fn questions_without_answers_abstain_and_are_not_right() {
        for method in ["first", "self-consistency", "pass"] {
            let choice =
                select(&row(json!([{"text": "hm"}, {"text": "", "answer": " "}])), &by(method)).unwrap();
            assert_eq!((choice.sample, choice.correct), (None, Some(false)), "{method}");
            assert!(choice.abstained.is_some());
        }
        assert!(select(&row(json!([])), &by("first")).unwrap().abstained.is_some());
    }

    #[test]
    fn missing_numbers_and_settings_without_meaning_are_errors_with_a_hint() {
        let message = |result: Result<RecordedChoice, ControlError>| result.unwrap_err().to_string();
        let bare = row(json!([{"text": "x#7", "mean_logprob": -1}]));
        let said = message(select(&bare, &by("borda")));
        assert!(said.contains("question `1`") && said.contains("`mean_logprob`"), "{said}");
        let said = message(select(&row(json!([{"text": "x#7"}])), &by("best-of-n")));
        assert!(said.contains("self-consistency"), "{said}");
        for settings in [
            RecordedSettings { by: Some(ScoreField::Score), ..by("first") },
            RecordedSettings { power: Power::Given(1.0), ..by("sum") },
            RecordedSettings { power: Power::Given(-1.0), ..by("borda") },
            RecordedSettings { samples: Some(0), ..by("first") },
        ] {
            assert!(message(select(&sheet(), &settings)).contains("hint:"));
        }
        assert!(RecordedMethod::named("bordda").unwrap_err().to_string().contains("`borda`"));
        assert!(ScoreField::named("certanty").unwrap_err().to_string().contains("`certainty`"));
        assert_eq!(ScoreField::named("mean-logprob").unwrap().name(), "mean_logprob");
    }

    #[test]
    fn only_the_first_samples_count_when_asked() {
        let settings = RecordedSettings { samples: Some(2), ..by("self-consistency") };
        assert_eq!(select(&sheet(), &settings).unwrap().answer.as_deref(), Some("8"));
    }

    #[test]
    fn names_and_words_agree() {
        for (name, summary) in recorded_methods() {
            let method = RecordedMethod::named(name).unwrap();
            assert_eq!((method.name(), summary.is_empty()), (name, false));
            assert_eq!(serde_json::to_value(method).unwrap(), json!(name));
        }
    }
}
