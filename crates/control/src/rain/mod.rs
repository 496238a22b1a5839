//! RAIN: a frozen model that judges its own unfinished text, rewinds, and commits what held up (arXiv 2309.07124).

mod explorer;
mod sets;
mod settings;

pub use settings::{RainSettings, SimilarityFrom, Simulate, StopRule};

use crate::tree::{Extremes, Puct, ShareAlike, Tree, search};
use crate::{
    ControlError, ControlKind, Estimate, EstimateInput, EvaluateKind, FeedbackLine, GenerateKind, Minimum,
    Strategy, Trail, Triple,
};
use async_trait::async_trait;
use elenchus_evaluate::{CandidateSize, EvaluateError, Evaluator, Judge, JudgeSettings, Needs, RoleNeeds};
use elenchus_generate::{ACTOR, Context, GenerateError, Voice};
use elenchus_task::Task;
use elenchus_trace::{Answer, Problem, Usage};
use explorer::Writer;
use serde_json::{Value, json};
use sets::TokenSet;
use std::sync::Arc;

const NAME: &str = "rain";

/// Values lie between −1 and 1, and the running extremes begin there.
const RANGE: Extremes = Extremes { low: -1.0, high: 1.0 };

/// Writes a reply set by set. Before a set of tokens is committed, a tree of sets behind the text so far is searched:
/// go down by qₙ + c·p·√n_parent / (1 + n), where qₙ = (q − q_min) / (q_max − q_min + 10⁻⁵) over the running extremes of
/// the tree; write the leaf on to the end of its clause; let the model judge that text, in both orders of two labels,
/// v = 2·((A₁ + A₂)/2 − ½) ∈ {−1, 0, 1}; take v into the running means on the path, and with weight 0.2·s into siblings whose
/// generated text is alike (cosine s > 0.95). A node has up to 10 sets of 1, 2, 4 and then 10 tokens by its depth: the
/// likeliest tokens, or one greedy and sampled ones; one more where all are alike and bad. The most truly visited child
/// is committed once it was visited more than `least_visits` times with a mean above `enough`, or after `searches`; it
/// becomes the root and its subtree stays. So nothing but the frozen model decides, and bad beginnings are rewound
/// before they are said.
///
/// Helps as far as the model judges better than it writes. What is judged is the property of `judge` (harmless by default):
/// a reply that keeps it by being empty has helped nobody, so look at a task's own verdict and at the length, too. The
/// judge never sees the task's verifier. A judge that cannot be read abstains: that search changes nothing, and where no
/// search of a set had a value the answer abstains.
///
/// Costs many small calls: up to `searches` per committed set, each with one simulated clause, one judgement and
/// at times ten sets. `max_tokens` bounds the reply, a budget the whole; when that ends, what was visited most is the
/// rest of the reply.
///
/// Needs a model that continues a prefix. Where an endpoint does not, sets are sentences that are asked for one by one.
/// Without likely tokens the first sets are sampled, too; without log-probabilities all priors are equal; without
/// embeddings words in common (Jaccard index) stand in for the cosine. The answer's trace says which of these held.
///
/// Differs from the released code: a leaf is expanded when a search comes back to it, which changes no tree that is searched;
/// the most visited child is the one with most true visits; the sign that ends a clause is not shown to the judge.
#[derive(Clone)]
pub struct Rain {
    settings: RainSettings,
    judge: Arc<dyn Evaluator>,
    /// The same without worked examples, for which the compact voice has no place.
    compact_judge: Arc<dyn Evaluator>,
}

impl std::fmt::Debug for Rain {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Rain").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Rain {
    /// Errors: [`ControlError::Setting`]; [`ControlError::Evaluate`] for a wrong setting of the judge.
    pub fn new(settings: RainSettings) -> Result<Self, ControlError> {
        let judge = Arc::new(Judge::new(settings.judge.clone())?);
        let bare = JudgeSettings { examples: Vec::new(), ..settings.judge.clone() };
        let compact_judge = Arc::new(Judge::new(bare)?);
        Rain::with_judges(settings, judge, compact_judge)
    }

    /// With another evaluator in the judge's place: for controls in experiments. Its score is between 0 and 1.
    ///
    /// Errors: [`ControlError::Setting`].
    pub fn with_evaluator(settings: RainSettings, judge: Arc<dyn Evaluator>) -> Result<Self, ControlError> {
        Rain::with_judges(settings, Arc::clone(&judge), judge)
    }

    fn with_judges(
        settings: RainSettings,
        judge: Arc<dyn Evaluator>,
        compact_judge: Arc<dyn Evaluator>,
    ) -> Result<Self, ControlError> {
        let settings = RainSettings { draw: settings.draw.clone().or_sampling(1.0, 1.0), ..settings };
        settings.check(NAME)?;
        Ok(Rain { settings, judge, compact_judge })
    }

    /// Searches below the root until a child may be committed. An error leaves the tree as far as it came.
    async fn search(&self, tree: &mut Tree<TokenSet>, writer: &mut Writer<'_>) -> Result<u64, ControlError> {
        let puct = Puct { exploration: self.settings.exploration, normalise: true };
        let sharing = ShareAlike { least: self.settings.similarity, share: self.settings.share };
        let rule = self.settings.stop_rule();
        let inherited = tree.statistics(tree.root()).true_visits;
        let (mut done, mut silent) = (0, 0);
        loop {
            let value = search(tree, &puct, &sharing, writer).await?;
            done += 1;
            silent = if value.is_some() { 0 } else { silent + 1 };
            let best = tree.most_visited(tree.root()).map(|child| tree.statistics(child));
            // A judge that says nothing again and again is not asked for as long as the rule allows.
            if rule.ends(done, inherited, best) || silent >= self.settings.fresh_searches {
                return Ok(done);
            }
        }
    }
}

/// Whether a budget ended (`Some(true)`) or a server went away (`Some(false)`); `None` for what is a failure of ours.
fn end_of_means(error: &ControlError) -> Option<bool> {
    let cause = match error {
        ControlError::Generate(cause) | ControlError::Evaluate(EvaluateError::Generate(cause)) => cause,
        _ => return None,
    };
    match cause {
        GenerateError::Budget { .. } => Some(true),
        GenerateError::Unavailable { .. } => Some(false),
        _ => None,
    }
}

#[async_trait]
impl Strategy for Rain {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "searches sets of next tokens, judges its own unfinished text, rewinds, and commits what held up"
    }

    fn triple(&self) -> Triple {
        let needs = self.judge.needs();
        Triple {
            generate: GenerateKind::HandWritten,
            evaluate: if needs.oracle { EvaluateKind::Tool } else { EvaluateKind::SelfAssessment },
            control: ControlKind::Reinforcement,
            line: Some(FeedbackLine::MitigatingWhileGenerating),
        }
    }

    fn needs(&self) -> Needs {
        Needs::role(RoleNeeds::new(ACTOR)).and(self.judge.needs())
    }

    fn minimum(&self) -> Minimum {
        // A first clause with its judgement, one expansion (at most two calls) and one child with its judgement.
        Minimum { calls: 4, tokens: 4 }
    }

    fn estimate(&self, input: &EstimateInput) -> Estimate {
        let c = input.completion_tokens.max(1);
        let searches = self.settings.searches.max(self.settings.fresh_searches);
        let sets = self.settings.children as u64 * u64::from(self.settings.length(usize::MAX));
        let clause = u64::from(self.settings.clause_tokens);
        let judged = self.judge.cost(CandidateSize {
            candidates: c * searches,
            prompt_tokens: input.prompt_tokens,
            completion_tokens: c,
        });
        let drawn = Usage {
            calls: c * searches * 4,
            prompt_tokens: c * searches * 3 * (input.prompt_tokens + c),
            completion_tokens: c * searches * (sets + clause),
            ..Usage::default()
        };
        let formula = format!(
            "at most cT searches, T = {searches}, each with 3(p + c) read and {sets} + {clause} written in 4 calls, and one \
             judgement in both orders; with a judge that is sure at once about c(T_min + 1)/2 searches, T_min = {}",
            self.settings.least_visits
        );
        Estimate { usage: drawn + judged, formula }
    }

    async fn attempt(
        &self,
        context: &Context,
        task: &dyn Task,
        problem: &Problem,
    ) -> Result<Answer, ControlError> {
        let mut trail = Trail::new(context, NAME, problem);
        let judge = match context.voice_of(&self.settings.judge.role) {
            Voice::Chat => &self.judge,
            Voice::Compact => &self.compact_judge,
        };
        let mut writer = Writer::new(&self.settings, context, task, problem, judge.as_ref())?;
        let mut tree = Tree::new(TokenSet::default(), RANGE);
        let mut cut: Option<String> = None;
        let mut commits = 0u64;
        let mut silent = false;
        while !tree.data(tree.root()).terminal {
            let started = trail.now();
            let before = std::mem::take(&mut writer.account.usage);
            let searched = match cut {
                None => self.search(&mut tree, &mut writer).await,
                Some(_) => Ok(0),
            };
            let spent = writer.account.usage;
            writer.account.usage += before;
            let done = match searched {
                Ok(done) => done,
                Err(error) => {
                    let root = tree.root();
                    let known = tree.most_visited(root).is_some_and(|c| tree.statistics(c).true_visits > 0);
                    // A server that is away from the beginning is an error; a budget was begun on, and is told.
                    match end_of_means(&error) {
                        Some(is_budget) if is_budget || commits > 0 || known => {}
                        _ => return Err(error),
                    }
                    cut = Some(error.to_string());
                    trail.failed(None, error.to_string());
                    0
                }
            };
            let sets: Vec<Value> = tree
                .children(tree.root())
                .iter()
                .map(|&child| {
                    let found = tree.statistics(child);
                    json!({
                        "text": tree.data(child).text, "value": found.value, "visits": found.visits,
                        "true_visits": found.true_visits, "prior": found.prior,
                    })
                })
                .collect();
            let data = json!({ "sets": sets, "judged": std::mem::take(&mut writer.judged) });
            let stage = trail.called(None, format!("{done} searches"), started, spent, data);
            let best = tree.most_visited(tree.root()).filter(|best| tree.statistics(*best).true_visits > 0);
            let Some(best) = best else {
                silent = cut.is_none();
                break;
            };
            let statistics = *tree.statistics(best);
            trail.decided(
                Some(stage),
                format!("commits {:?}", tree.data(best).text),
                None,
                json!({
                    "value": statistics.value, "visits": statistics.visits, "true_visits": statistics.true_visits,
                    "prior": statistics.prior, "children": tree.children(tree.root()).len(), "searches": done,
                }),
            );
            writer.commit(&mut tree, best);
            commits += 1;
        }
        let account = &writer.account;
        let similarity = match writer.words {
            false => "embeddings",
            true => "words in common (a substitute for embeddings)",
        };
        let data = json!({
            "account": account, "commits": commits, "sets": writer.unit, "similarity": similarity, "cut": cut,
        });
        let mut decision = format!("{commits} sets committed after {} searches", account.searches);
        if let Some(why) = &cut {
            decision.push_str(&format!("; the rest is what was visited most: {why}"));
        }
        trail.decided(None, decision, None, data);
        let text = writer.committed.trim().to_string();
        let answer = task.extract(problem, &text);
        let abstained = match (silent, &answer) {
            (true, _) => Some(format!(
                "no search had a value{}",
                account
                    .why_abstained
                    .as_ref()
                    .map(|why| format!(": the judge abstained, {why}"))
                    .unwrap_or_default()
            )),
            (false, None) => Some(match cut.filter(|_| commits == 0) {
                Some(why) => format!("not one set was seen: {why}"),
                None => "the task finds no answer in the reply".to_string(),
            }),
            (false, Some(_)) => None,
        };
        Ok(trail.answer(text, answer.filter(|_| !silent), None, Vec::new(), abstained))
    }
}

#[cfg(test)]
mod tests;
