//! The grid of the taxonomy (arXiv 2407.11511): every compatible triple of a generator, an evaluator and a controller as a
//! strategy, made equal in tokens.
//!
//! Knows: which strategy and settings stand for a triple, and how many samples, rounds or chains it may have for a number of
//! tokens. Does not know: how a strategy works, or which model is asked.

use crate::{Recipe, RecipeError};
use elenchus_control::{Strategy, Triple, strategy};
use elenchus_generate::{ACTOR, Voice};
use elenchus_measure::{Cell, Interval, Table};
use elenchus_trace::nearest;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;

/// How responses come about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Generator {
    /// The answer at once.
    Direct,
    /// A chain of steps, then the answer.
    Steps,
}

/// What judges them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Judging {
    /// Nothing.
    None,
    /// A fair coin: the control.
    Coin,
    /// The model itself.
    #[serde(rename = "self")]
    SelfAssessment,
    /// A tool that recomputes what is written, without the reference answer.
    Tool,
    /// Another model, in the role `judge`.
    Model,
}

/// What decides the next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Controller {
    /// One chain.
    Greedy,
    /// Many chains, one vote, weighted by the evaluator where there is one.
    Vote,
    /// Many chains, the best one by the evaluator.
    Select,
    /// Rounds of candidates in view of the best and the worst so far by the evaluator.
    Loop,
    /// Chains that grow step by step; the best by the evaluator go on.
    Beam,
    /// The problem solved again in view of the solution before, until the answer stays.
    UntilStable,
    /// Monte-Carlo tree search over steps; the evaluator judges finished chains.
    StepSearch,
}

/// The words of an axis, as on the command line.
macro_rules! axis {
    ($axis:ident, $what:literal, [$($value:ident => $name:literal),* $(,)?]) => {
        impl $axis {
            /// All values.
            pub const ALL: &[$axis] = &[$($axis::$value),*];

            /// The word.
            pub fn name(self) -> &'static str {
                match self {
                    $($axis::$value => $name),*
                }
            }

            /// The value of a word.
            ///
            /// # Errors
            /// No value has it; the nearest words are named.
            pub fn named(name: &str) -> Result<Self, RecipeError> {
                $axis::ALL.iter().copied().find(|value| value.name() == name).ok_or_else(|| RecipeError::Unknown {
                    what: $what,
                    name: name.into(),
                    hint: nearest(name, $axis::ALL.iter().map(|value| value.name())),
                })
            }
        }
    };
}

axis!(Generator, "generator", [Direct => "direct", Steps => "steps"]);
axis!(Judging, "evaluator", [None => "none", Coin => "coin", SelfAssessment => "self", Tool => "tool", Model => "model"]);
axis!(Controller, "controller", [
    Greedy => "greedy",
    Vote => "vote",
    Select => "select",
    Loop => "loop",
    Beam => "beam",
    UntilStable => "until-stable",
    StepSearch => "step-search",
]);

/// One triple of the grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Combination {
    /// How responses come about.
    pub generator: Generator,
    /// What judges them.
    pub evaluator: Judging,
    /// What decides the next step.
    pub controller: Controller,
}

/// Candidates of one round of the loop.
const PER_ROUND: usize = 2;
/// Next steps of each chain of the beam.
const EXPAND: usize = 2;
/// The role of the evaluator that is another model.
pub const EXTERNAL: &str = "judge";
/// More samples, rounds or chains than this are not tried.
pub const MOST_UNITS: usize = 1024;

impl Combination {
    /// Why parts cannot stand together; `None` when they can.
    pub fn refused(self) -> Option<&'static str> {
        match (self.generator, self.evaluator, self.controller) {
            (_, Judging::None, Controller::Greedy | Controller::Vote) => None,
            (Generator::Steps, Judging::None, Controller::UntilStable) => None,
            (_, _, Controller::Greedy) => Some("one chain leaves nothing to evaluate"),
            (Generator::Steps, _, Controller::UntilStable) => Some("it stops by its own answers alone"),
            (_, Judging::None, _) => Some("it chooses by scores, and there are none"),
            (Generator::Direct, Judging::Tool, _) => Some("an answer without steps shows the tool nothing"),
            (
                Generator::Direct,
                _,
                Controller::Loop | Controller::Beam | Controller::UntilStable | Controller::StepSearch,
            ) => Some("it works on steps"),
            _ => None,
        }
    }

    /// Every compatible triple of some values of the axes.
    pub fn all(
        generators: &[Generator],
        evaluators: &[Judging],
        controllers: &[Controller],
    ) -> Vec<Combination> {
        let mut all = Vec::new();
        for &generator in generators {
            for &controller in controllers {
                for &evaluator in evaluators {
                    let one = Combination { generator, evaluator, controller };
                    if one.refused().is_none() {
                        all.push(one);
                    }
                }
            }
        }
        all
    }

    /// `steps/tool/beam`
    pub fn label(self) -> String {
        format!("{}/{}/{}", self.generator.name(), self.evaluator.name(), self.controller.name())
    }

    /// Whether it spends more when it is given more: all but one greedy chain.
    pub fn scales(self) -> bool {
        self.controller != Controller::Greedy
    }

    /// The role whose model judges; the actor's where no model does.
    pub fn role(self) -> &'static str {
        if self.evaluator == Judging::Model { EXTERNAL } else { ACTOR }
    }

    /// The strategy and its settings for a number of samples (vote, select), rounds (loop), kept chains (beam), further
    /// solutions (until-stable) or searches (step-search). A model that judges is asked in the voice of its [role](Self::role):
    /// the chat voice has a question for unfinished chains.
    pub fn part(self, units: usize, temperature: f32, voice: Voice) -> (&'static str, Value) {
        let skill = match self.generator {
            Generator::Direct => "direct",
            Generator::Steps => "solve",
        };
        let (evaluator, evaluator_settings) = match self.evaluator {
            Judging::None => (None, Value::Null),
            Judging::Coin => (Some("coin-flip"), Value::Null),
            Judging::Tool => (Some("recompute"), Value::Null),
            Judging::SelfAssessment | Judging::Model => {
                let unfinished = self.controller == Controller::Beam && voice == Voice::Chat;
                (Some(if unfinished { "outlook" } else { "judge" }), json!({"role": self.role()}))
            }
        };
        let (name, mut settings) = match self.controller {
            Controller::Greedy => ("single", json!({"temperature": 0.0})),
            Controller::Vote if evaluator.is_none() => {
                ("self-consistency", json!({"samples": units, "early_stop": false}))
            }
            Controller::Vote => ("borda", json!({"samples": units, "rule": "sum"})),
            Controller::Select => ("best-of-n", json!({"samples": units})),
            // A score that is never reached: no arm stops early.
            Controller::Loop => ("iad", json!({"samples": PER_ROUND, "rounds": units, "enough": 1e9})),
            Controller::Beam => ("beam", json!({"width": units, "expand": EXPAND})),
            Controller::UntilStable => ("until-stable", json!({"rounds": units + 1})),
            Controller::StepSearch => ("step-search", json!({"searches": units})),
        };
        if self.controller != Controller::Greedy {
            settings["temperature"] = json!(temperature);
            settings["top_p"] = json!(1.0);
        }
        if skill != "solve" {
            settings["skill"] = json!(skill);
        }
        if let Some(evaluator) = evaluator {
            settings["evaluator"] = json!(evaluator);
            if !evaluator_settings.is_null() {
                settings["evaluator_settings"] = evaluator_settings;
            }
        }
        (name, settings)
    }

    /// The strategy itself.
    ///
    /// # Errors
    /// A setting out of range.
    pub fn strategy(
        self,
        units: usize,
        temperature: f32,
        voice: Voice,
    ) -> Result<Arc<dyn Strategy>, RecipeError> {
        let (name, settings) = self.part(units, temperature, voice);
        Ok(strategy(name, settings)?)
    }
}

/// The number of units whose cost comes nearest to `tokens` per problem, and that cost. `cost` measures the mean tokens
/// of a number of units on some problems; their answers are not looked at. Costs grow about linearly: two points, and a
/// third one near the goal to mend what is not linear.
///
/// # Errors
/// Those of `cost`.
pub fn calibrate<E>(tokens: f64, mut cost: impl FnMut(usize) -> Result<f64, E>) -> Result<(usize, f64), E> {
    let bound =
        |units: f64| if units.is_finite() { units.round().clamp(1.0, MOST_UNITS as f64) as usize } else { 1 };
    let mut known: Vec<(usize, f64)> = Vec::new();
    let mut next = 2;
    for _ in 0..4 {
        if known.iter().any(|(units, _)| *units == next) {
            break;
        }
        known.push((next, cost(next)?));
        next = match known.as_slice() {
            [(_, first)] => bound(2.0 * tokens / first.max(1.0)).max(1),
            _ => {
                // Through the two points nearest to the goal.
                known.sort_by(|a, b| (a.1 - tokens).abs().total_cmp(&(b.1 - tokens).abs()));
                let ((u0, c0), (u1, c1)) = (known[0], known[1]);
                let slope = (c1 - c0) / (u1 as f64 - u0 as f64);
                if slope <= 0.0 { u0 } else { bound(u0 as f64 + (tokens - c0) / slope) }
            }
        };
    }
    known.sort_by(|a, b| (a.1 - tokens).abs().total_cmp(&(b.1 - tokens).abs()));
    Ok(known.first().copied().unwrap_or((1, 0.0)))
}

/// What became of one triple.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GridRow {
    /// The triple.
    #[serde(flatten)]
    pub combination: Combination,
    /// The strategy that stood for it.
    pub strategy: &'static str,
    /// Its place on the axes, in the survey's words.
    pub axes: Triple,
    /// Samples, rounds or kept chains.
    pub units: usize,
    /// Share of right answers.
    pub accuracy: Interval,
    /// Problems without an answer.
    pub abstained: usize,
    /// Tokens read and written, per problem.
    pub tokens: f64,
    /// Model calls per problem.
    pub calls: f64,
    /// Tokens of all problems for each one that was solved; `None` where none was.
    pub tokens_per_solved: Option<f64>,
}

/// Tokens for each solved problem, of the mean tokens and the share of solved ones; `None` where none is solved.
pub fn tokens_per_solved(tokens: f64, solved: f64) -> Option<f64> {
    (solved > 0.0).then(|| tokens / solved)
}

/// The table over three axes; `budget` is the number of tokens that all but the greedy chains were made equal to.
pub fn grid_table(title: &str, budget: f64, rows: &[GridRow]) -> Table {
    let columns = [
        "generate",
        "evaluate",
        "control",
        "strategy",
        "n",
        "accuracy",
        "abstained",
        "tokens",
        "calls",
        "budget",
        "per solved",
    ];
    let note = format!(
        "n: samples of vote and select, rounds of {PER_ROUND} of the loop, kept chains of the beam, further solutions of \
         until-stable (which ends before), searches of step-search, chosen so that the mean tokens per problem come near \
         {budget:.0}. Budget: tokens as a share of that; a greedy chain is given as the unit. Per solved: tokens of all \
         problems for each solved one."
    );
    rows.iter().fold(Table::new(title, columns).note(note), |table, row| {
        let Combination { generator, evaluator, controller } = row.combination;
        table.row([
            Cell::Text(generator.name().into()),
            Cell::Text(evaluator.name().into()),
            Cell::Text(controller.name().into()),
            Cell::Text(row.strategy.into()),
            Cell::Count(row.units as u64),
            Cell::PercentInterval(row.accuracy),
            Cell::Count(row.abstained as u64),
            Cell::Number(row.tokens, 0),
            Cell::Number(row.calls, 1),
            Cell::Percent(row.tokens / budget.max(1.0)),
            row.tokens_per_solved.map_or_else(|| Cell::Text("–".into()), |tokens| Cell::Number(tokens, 0)),
        ])
    })
}

/// Where recipes stand on the axes.
pub fn axes_table(recipes: &[Recipe]) -> Table {
    let columns = ["recipe", "sheet", "generate", "evaluate", "control", "line of self-feedback", "learner"];
    let note = "In the survey's words; `reinforcement` there means search and feedback loops too, with no weights changed. \
                The figures of the recipes come from different models and tasks and are not to be ranked against each other.";
    recipes.iter().fold(Table::new("Recipes on the axes", columns).note(note), |table, recipe| {
        let [generate, evaluate, control, line] =
            recipe.axes().map_or_else(|| [const { String::new() }; 4], |axes| axes.words());
        table.row([
            Cell::Text(recipe.name.clone()),
            Cell::Text(recipe.sheet.to_string()),
            Cell::Text(generate),
            Cell::Text(evaluate),
            Cell::Text(control),
            Cell::Text(line),
            Cell::Text(recipe.triple.learner.clone()),
        ])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use elenchus_control::{ControlKind, EvaluateKind};

    #[test]
    fn every_compatible_triple_is_a_strategy_with_the_place_it_claims() {
        let all = Combination::all(Generator::ALL, Judging::ALL, Controller::ALL);
        assert_eq!(all.len(), 31);
        for one in all {
            for voice in [Voice::Chat, Voice::Compact] {
                let made = one.strategy(3, 0.8, voice).unwrap();
                let axes = made.triple();
                let evaluate = match one.evaluator {
                    Judging::Coin => EvaluateKind::None,
                    Judging::Tool => EvaluateKind::Tool,
                    Judging::SelfAssessment => EvaluateKind::SelfAssessment,
                    Judging::Model => EvaluateKind::ExternalModel,
                    // A vote is the samples' own agreement, and so is an answer that stays.
                    Judging::None if matches!(one.controller, Controller::Vote | Controller::UntilStable) => {
                        EvaluateKind::SelfAssessment
                    }
                    Judging::None => EvaluateKind::None,
                };
                assert_eq!(axes.evaluate, evaluate, "{}", one.label());
                let control = match one.controller {
                    Controller::Greedy => ControlKind::Greedy,
                    Controller::Vote | Controller::Select => ControlKind::Ensemble,
                    Controller::Loop
                    | Controller::Beam
                    | Controller::UntilStable
                    | Controller::StepSearch => ControlKind::Reinforcement,
                };
                assert_eq!(axes.control, control, "{}", one.label());
                assert!(!made.needs().oracle, "{}: no triple may look at the reference answer", one.label());
            }
        }
        let steps = Combination::all(&[Generator::Steps], Judging::ALL, Controller::ALL);
        let nine = steps.iter().filter(|one| one.evaluator != Judging::None).count();
        assert_eq!(nine, 20, "five controllers by four evaluators");
    }

    #[test]
    fn another_model_judges_in_its_own_role_and_the_model_itself_in_none() {
        for one in Combination::all(Generator::ALL, Judging::ALL, Controller::ALL) {
            let made = one.strategy(1, 0.8, Voice::Chat).unwrap();
            let roles: Vec<String> = made.needs().roles.into_iter().map(|needs| needs.role).collect();
            assert_eq!(
                roles.contains(&EXTERNAL.to_string()),
                one.evaluator == Judging::Model,
                "{}",
                one.label()
            );
        }
        let refused = |evaluator, controller| {
            Combination { generator: Generator::Steps, evaluator, controller }.refused()
        };
        assert!(refused(Judging::Tool, Controller::UntilStable).is_some());
        assert!(refused(Judging::None, Controller::StepSearch).is_some());
    }

    #[test]
    fn the_cost_of_a_solved_problem_is_that_of_all_problems() {
        // 100 tokens a problem and one of four solved: 400 tokens were spent for it.
        assert_eq!(tokens_per_solved(100.0, 0.25), Some(400.0));
        assert_eq!(tokens_per_solved(100.0, 0.0), None);
        let row = |solved: f64| GridRow {
            combination: Combination {
                generator: Generator::Steps,
                evaluator: Judging::None,
                controller: Controller::UntilStable,
            },
            strategy: "until-stable",
            axes: elenchus_control::Triple::SELF_VOTE,
            units: 2,
            accuracy: Interval::exact(solved),
            abstained: 0,
            tokens: 100.0,
            calls: 2.0,
            tokens_per_solved: tokens_per_solved(100.0, solved),
        };
        let table = grid_table("t", 100.0, &[row(0.25), row(0.0)]);
        assert_eq!(table.columns.last().map(String::as_str), Some("per solved"));
        let last = |at: usize| table.rows[at].last().cloned();
        assert_eq!(last(0), Some(Cell::Number(400.0, 0)));
        assert_eq!(last(1), Some(Cell::Text("–".into())), "no problem solved is no price of 0");
    }

    #[test]
    fn the_number_of_units_comes_near_the_budget() {
        let near = |tokens: f64, cost: &dyn Fn(usize) -> f64| {
            calibrate(tokens, |units| Ok::<f64, ()>(cost(units))).unwrap()
        };
        assert_eq!(near(1000.0, &|n| 40.0 + 60.0 * n as f64), (16, 1000.0));
        // Not linear: chains that end early.
        let (units, cost) = near(1000.0, &|n| 30.0 * n as f64 * (1.0 + 4.0 / n as f64));
        assert!((cost - 1000.0).abs() < 60.0, "{units} at {cost}");
        assert_eq!(near(10.0, &|n| 100.0 * n as f64).0, 1, "one is the least");
        assert_eq!(near(1e9, &|n| n as f64).0, MOST_UNITS);
        let failed: Result<(usize, f64), &str> = calibrate(10.0, |_| Err("away"));
        assert_eq!(failed, Err("away"));
    }

    #[test]
    fn words_are_read_and_mistakes_name_the_nearest() {
        for one in Combination::all(Generator::ALL, Judging::ALL, Controller::ALL) {
            assert_eq!(Generator::named(one.generator.name()).unwrap(), one.generator);
            assert_eq!(Judging::named(one.evaluator.name()).unwrap(), one.evaluator);
            assert_eq!(Controller::named(one.controller.name()).unwrap(), one.controller);
            assert_eq!(serde_json::to_value(one.evaluator).unwrap(), one.evaluator.name());
        }
        assert!(Controller::named("beem").unwrap_err().to_string().contains("`beam`"));
    }

    #[test]
    fn all_recipes_are_mapped() {
        let recipes = crate::built_in_recipes().unwrap();
        let table = axes_table(&recipes);
        assert_eq!(table.rows.len(), recipes.len());
        for row in &table.rows {
            for cell in &row[2..5] {
                assert!(matches!(cell, Cell::Text(word) if !word.is_empty()), "{row:?}");
            }
        }
    }
}
