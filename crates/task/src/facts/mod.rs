//! A small synthetic knowledge base, with questions that have no answer.
//!
//! `What is the number of towers of Tamo?` has a number as its answer, or none: nobody knows a Tamo, or Tamo is a
//! person. Entities are taught with graded frequency ([`Facts::teach`]), so what a model knows is graded too, from
//! never heard to known by heart; asking about them shows whether it knows what it knows (arXiv 2207.05221). Two kinds
//! of entities make a distribution and another one. With `shown` statements in front the answer can be read instead of
//! remembered: that form is for models that were never taught.
//!
//! In the compact notation: `tamo:T?`, with statements `bira:G12;tamo:T47;tamo:T?`; the answer is `#47`, or `#?`.

pub mod world;

pub use world::{Domain, Entity, RELATIONS, Relation, World};

use crate::arithmetic::{SkillRow, parse};
use crate::{Skill, Split, Task, TaskError};
use elenchus_trace::{Outcome, Problem, Verdict};
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Name of the task, in every problem.
pub const TASK: &str = "facts";

/// One line for lists and help.
pub const SUMMARY: &str =
    "facts of a small invented world, taught with graded frequency; some questions have no answer";

/// The answer where there is none, in its normal form.
pub const UNKNOWN: &str = "unknown";

/// Which entities are asked about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Asked {
    /// People and places.
    #[default]
    Both,
    /// People alone.
    People,
    /// Places alone.
    Places,
}

impl Asked {
    fn holds(self, domain: Domain) -> bool {
        match self {
            Asked::Both => true,
            Asked::People => domain == Domain::People,
            Asked::Places => domain == Domain::Places,
        }
    }
}

/// Settings of the facts task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FactsSettings {
    /// Seed of the world: names and values.
    pub world: u64,
    /// Seed of who is taught how often; another view knows other entities well.
    pub view: u64,
    /// Entities of each of the two kinds; four facts are known of each.
    pub entities: usize,
    /// How often an entity of each tier is taught, in proportion; the entities divide evenly among the tiers. 0 is never.
    pub frequencies: Vec<f64>,
    /// Kind of the entities that are asked about.
    pub asked: Asked,
    /// Share of problems without an answer: half of them about strangers, half about a relation of the other kind.
    pub unanswerable: f64,
    /// Statements in front of the question; the one that answers it is among them where there is one. 0 asks by heart.
    pub shown: usize,
}

impl Default for FactsSettings {
    /// 250 people and 250 places: 2,000 facts, a fifth of them never taught, the best known taught 27 times as often as
    /// the rarest.
    fn default() -> Self {
        FactsSettings {
            world: 1,
            view: 0,
            entities: 250,
            frequencies: vec![0.0, 1.0, 3.0, 9.0, 27.0],
            asked: Asked::Both,
            unanswerable: 0.2,
            shown: 0,
        }
    }
}

impl FactsSettings {
    /// Reads settings; absent fields have their defaults.
    ///
    /// # Errors
    /// The field that is unknown, has the wrong type, or is out of range.
    pub fn from_value(value: &Value) -> Result<Self, TaskError> {
        let settings: Self = crate::settings::overlay(&FactsSettings::default(), value)?;
        settings.check()?;
        Ok(settings)
    }

    /// Whether all settings are in range.
    ///
    /// # Errors
    /// The first one that is not.
    pub fn check(&self) -> Result<(), TaskError> {
        let setting = |field: &str, problem: String, hint: String| {
            Err(TaskError::Setting { field: field.to_string(), problem, hint })
        };
        let largest = World::largest();
        if !(1..=largest).contains(&self.entities) {
            return setting("entities", format!("is {}", self.entities), format!("use 1 to {largest}"));
        }
        let positive = self.frequencies.iter().any(|&f| f > 0.0);
        if !positive || self.frequencies.iter().any(|f| !f.is_finite() || *f < 0.0) {
            return setting(
                "frequencies",
                format!("are {:?}", self.frequencies),
                "give one number per tier, none below 0 and one above".into(),
            );
        }
        if !(0.0..=1.0).contains(&self.unanswerable) {
            return setting(
                "unanswerable",
                format!("is {}", self.unanswerable),
                "use a share of 0 to 1".into(),
            );
        }
        if self.shown > 50 {
            return setting("shown", format!("is {}", self.shown), "show at most 50 statements".into());
        }
        Ok(())
    }
}

/// A question, and what its problem's `data` says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Question {
    /// Who is asked about.
    pub entity: String,
    /// Letter of the relation.
    pub relation: char,
    /// Kind of the entity.
    pub domain: Domain,
    /// How often the entity is taught, in proportion; 0 also for strangers.
    pub frequency: f64,
    /// The value; none where the question has no answer.
    pub value: Option<i64>,
}

impl Question {
    /// What a problem of this task asks.
    ///
    /// # Errors
    /// The problem is of another task.
    pub fn of(problem: &Problem) -> Result<Self, TaskError> {
        let read = || serde_json::from_value(problem.data.clone()).ok();
        read().filter(|_| problem.task == TASK).ok_or_else(|| TaskError::Problem {
            id: problem.id.clone(),
            problem: "is not a question about the facts".into(),
            hint: "take problems from the task `facts`".into(),
        })
    }

    fn gold(&self) -> String {
        self.value.map_or_else(|| UNKNOWN.to_string(), |value| value.to_string())
    }

    /// `#47`, or `#?`.
    fn compact_answer(&self) -> String {
        self.value.map_or_else(|| "#?".to_string(), |value| format!("#{value}"))
    }
}

/// The facts task.
#[derive(Debug, Clone)]
pub struct Facts {
    settings: FactsSettings,
    world: World,
}

impl Facts {
    /// The task with these settings.
    ///
    /// # Errors
    /// A setting out of range.
    pub fn new(settings: FactsSettings) -> Result<Self, TaskError> {
        settings.check()?;
        let world = World::new(settings.world, settings.view, settings.entities, settings.frequencies.len());
        Ok(Facts { settings, world })
    }

    /// The knowledge base.
    pub fn world(&self) -> &World {
        &self.world
    }

    fn question(&self, entity: &Entity, relation: &Relation) -> Question {
        Question {
            entity: entity.name.clone(),
            relation: relation.letter,
            domain: entity.domain,
            frequency: entity.tier.map_or(0.0, |tier| self.settings.frequencies[tier]),
            value: self.world.value(entity, relation),
        }
    }

    /// One row that teaches: a fact, drawn by the frequency of its entity, whatever its split (knowing is not what is
    /// held out); or, for the share `unanswerable`, a question of the train split without an answer.
    ///
    /// # Errors
    /// The world is so small that it holds neither.
    pub fn teach(&self, seed: u64) -> Result<SkillRow, TaskError> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let without = random.random_bool(self.settings.unanswerable);
        let open = if without { self.unanswerable(Split::Train, Asked::Both, &mut random) } else { None };
        let question = open.or_else(|| {
            let entity = self.world.draw(&self.settings.frequencies, &mut random)?;
            let relations: Vec<_> = world::relations(entity.domain).collect();
            Some(self.question(entity, relations.choose(&mut random)?))
        });
        let question = question.ok_or_else(|| TaskError::Setting {
            field: "entities".into(),
            problem: format!("is {}, of whom nobody is taught", self.settings.entities),
            hint: "raise `entities`".into(),
        })?;
        Ok(SkillRow {
            skill: Skill::Solve,
            prompt: Skill::Solve.prompt(&self.problem(&question), &[]),
            target: question.compact_answer(),
        })
    }

    fn unanswerable(&self, split: Split, asked: Asked, random: &mut ChaCha8Rng) -> Option<Question> {
        let fits = |entity: &&Entity| entity.split == split && asked.holds(entity.domain);
        let pick = |entities: &[Entity], foreign: bool, random: &mut ChaCha8Rng| {
            let fitting: Vec<&Entity> = entities.iter().filter(fits).collect();
            let entity = fitting.choose(random)?;
            let relations: Vec<&Relation> =
                RELATIONS.iter().filter(|r| (r.domain != entity.domain) == foreign).collect();
            Some(self.question(entity, relations.choose(random)?))
        };
        if random.random_bool(0.5) {
            pick(self.world.strangers(), false, random)
        } else {
            pick(self.world.known(), true, random)
        }
    }

    /// The statements in front of a question: others at random, the right one among them where there is one.
    fn statements(&self, question: &Question) -> Vec<(String, &'static Relation, i64)> {
        if self.settings.shown == 0 {
            return Vec::new();
        }
        let seed = blake3::hash(format!("{} {}", question.entity, question.relation).as_bytes());
        let mut random = ChaCha8Rng::from_seed(*seed.as_bytes());
        let mut found: Vec<(String, &'static Relation, i64)> = Vec::new();
        if let (Some(value), Some(relation)) = (question.value, world::relation(question.relation)) {
            found.push((question.entity.clone(), relation, value));
        }
        // Distinct pairs of others: there are at least four, and a world of one entity shows what it has.
        let mut pairs: Vec<(&Entity, &'static Relation)> = self
            .world
            .known()
            .iter()
            .flat_map(|entity| world::relations(entity.domain).map(move |relation| (entity, relation)))
            .filter(|(entity, relation)| {
                entity.name != question.entity || relation.letter != question.relation
            })
            .collect();
        let wanted = self.settings.shown - found.len().min(self.settings.shown);
        let (others, _) = pairs.partial_shuffle(&mut random, wanted);
        for (entity, relation) in others.iter() {
            if let Some(value) = self.world.value(entity, relation) {
                found.push((entity.name.clone(), relation, value));
            }
        }
        found.shuffle(&mut random);
        found
    }

    /// The problem of a question.
    pub fn problem(&self, question: &Question) -> Problem {
        let mut compact = String::new();
        let mut text = String::new();
        for (name, relation, value) in self.statements(question) {
            compact.push_str(&format!("{name}:{}{value};", relation.letter));
            text.push_str(&format!("The {} of {} is {value}.\n", relation.words, capital(&name)));
        }
        compact.push_str(&format!("{}:{}?", question.entity, question.relation));
        let words = world::relation(question.relation).map_or("value", |relation| relation.words);
        let name = capital(&question.entity);
        text.push_str(&format!(
            "What is the {words} of {name}? Answer with the number, or with `{UNKNOWN}` when it cannot be known."
        ));
        let id =
            blake3::hash(format!("{} {compact}", self.settings.world).as_bytes()).to_hex()[..16].to_string();
        let mut problem = Problem::new(id, TASK, text).with_gold(question.gold());
        problem.compact = Some(compact);
        problem.data = json!(question);
        problem
    }
}

fn capital(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// The answer of a response: a number, or [`UNKNOWN`]; of several the last one that is marked as the answer.
fn answer(response: &str) -> Option<String> {
    let text = response.trim();
    let lower = text.to_lowercase();
    // Behind the last mark, or the whole text where there is no mark.
    let marked = ["answer is", "answer:", "#", "\\boxed{"]
        .iter()
        .filter_map(|mark| lower.rfind(mark).map(|at| at + mark.len()))
        .max();
    let said = lower.get(marked.unwrap_or(0)..)?.lines().find(|line| !line.trim().is_empty())?;
    let said = said.trim_matches(|c: char| c.is_whitespace() || "*`$.:}\"'".contains(c));
    let unknown = ["?", "unknown", "not known", "cannot be known", "i don't know", "i do not know"];
    if unknown.iter().any(|words| said == *words || words.len() > 1 && said.starts_with(words)) {
        return Some(UNKNOWN.into());
    }
    parse::answer(text).and_then(parse::normal_number).map(|number| number.to_string())
}

impl Task for Facts {
    fn name(&self) -> &'static str {
        TASK
    }

    fn summary(&self) -> &'static str {
        SUMMARY
    }

    fn problems(&self, split: Split, count: usize, seed: u64) -> Result<Vec<Problem>, TaskError> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(1 + split as u64);
        let asked = |entity: &&Entity| entity.split == split && self.settings.asked.holds(entity.domain);
        let pairs = |entities: &[Entity], foreign: bool| -> Vec<Question> {
            let fits = |entity: &Entity, r: &Relation| (r.domain != entity.domain) == foreign;
            entities
                .iter()
                .filter(asked)
                .flat_map(|entity| {
                    RELATIONS.iter().filter(move |r| fits(entity, r)).map(move |r| (entity, r))
                })
                .map(|(entity, relation)| self.question(entity, relation))
                .collect()
        };
        let wanted = (self.settings.unanswerable * count as f64).round() as usize;
        let parts = [
            (pairs(self.world.known(), false), count - wanted),
            (pairs(self.world.strangers(), false), wanted / 2),
            (pairs(self.world.known(), true), wanted - wanted / 2),
        ];
        let mut chosen = Vec::with_capacity(count);
        for (mut questions, wanted) in parts {
            if questions.len() < wanted {
                return Err(TaskError::Setting {
                    field: "count".into(),
                    problem: format!(
                        "asks for {count} problems, {wanted} of them of a kind of which this split has {}",
                        questions.len()
                    ),
                    hint: "ask for fewer, or raise `entities`".into(),
                });
            }
            let (drawn, _) = questions.partial_shuffle(&mut random, wanted);
            chosen.extend_from_slice(drawn);
        }
        chosen.shuffle(&mut random);
        Ok(chosen.iter().map(|question| self.problem(question)).collect())
    }

    fn extract(&self, _: &Problem, response: &str) -> Option<String> {
        answer(response)
    }

    fn equivalent(&self, _: &Problem, left: &str, right: &str) -> bool {
        left.trim() == right.trim()
    }

    fn verify(&self, problem: &Problem, response: &str) -> Result<Verdict, TaskError> {
        let question = Question::of(problem)?;
        let answer = answer(response);
        let gold = question.gold();
        let (outcome, reason) = match answer.as_deref() {
            None => (Outcome::NoAnswer, Some("neither a number nor `unknown`".to_string())),
            Some(said) if said == gold => (Outcome::Correct, None),
            Some(UNKNOWN) => (Outcome::Wrong, Some(format!("says unknown, it is {gold}"))),
            Some(said) => (Outcome::Wrong, Some(format!("says {said}, it is {gold}"))),
        };
        Ok(Verdict { outcome, answer, steps: Vec::new(), reason })
    }

    fn reference(&self, problem: &Problem) -> Option<String> {
        Question::of(problem).ok().map(|question| question.compact_answer())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{HashMap, HashSet};

    fn facts(settings: FactsSettings) -> Facts {
        Facts::new(settings).unwrap()
    }

    #[test]
    fn problems_are_distinct_and_an_entity_is_in_one_split() {
        let task = facts(FactsSettings::default());
        let mut split_of: HashMap<String, Split> = HashMap::new();
        for split in [Split::Train, Split::Validation, Split::Test] {
            let problems = task.problems(split, 80, 3).unwrap();
            let ids: HashSet<&str> = problems.iter().map(|p| p.id.as_str()).collect();
            assert_eq!(ids.len(), 80);
            let unanswerable = problems.iter().filter(|p| Question::of(p).unwrap().value.is_none()).count();
            assert_eq!(unanswerable, 16, "a fifth");
            for problem in &problems {
                let entity = Question::of(problem).unwrap().entity;
                assert_eq!(*split_of.entry(entity).or_insert(split), split, "{}", problem.question);
            }
            assert_eq!(task.problems(split, 80, 3).unwrap(), problems, "the seed determines them");
        }
        let error = task.problems(Split::Test, 100_000, 1).unwrap_err().to_string();
        assert!(error.contains("hint:"), "{error}");
    }

    #[test]
    fn the_reference_is_right_and_every_other_answer_is_wrong() {
        let task = facts(FactsSettings::default());
        for problem in task.problems(Split::Train, 200, 1).unwrap() {
            let reference = task.reference(&problem).unwrap();
            assert!(task.verify(&problem, &reference).unwrap().is_correct());
            let question = Question::of(&problem).unwrap();
            let wrong = match question.value {
                Some(_) => vec!["#?", "#100", "unknown"],
                None => vec!["#47", "12"],
            };
            for wrong in wrong {
                assert_eq!(task.verify(&problem, wrong).unwrap().outcome, Outcome::Wrong, "{wrong}");
            }
            assert_eq!(task.verify(&problem, "I wonder.").unwrap().outcome, Outcome::NoAnswer);
        }
        let other = Problem::new("1", "arithmetic", "1+1?");
        assert!(task.verify(&other, "#2").unwrap_err().to_string().contains("hint:"));
    }

    #[test]
    fn answers_are_read_from_compact_and_free_text() {
        for (text, wanted) in [
            ("#47", Some("47")),
            ("#?", Some(UNKNOWN)),
            ("47", Some("47")),
            ("The number of towers is well known.\nAnswer: 47", Some("47")),
            ("Answer: **unknown**.", Some(UNKNOWN)),
            ("The answer is unknown, since Tamo is a person.", Some(UNKNOWN)),
            ("Not known to me at first: 12. Answer: 13", Some("13")),
            ("\\boxed{47}", Some("47")),
            ("Unknown", Some(UNKNOWN)),
            ("no idea", None),
            ("", None),
        ] {
            assert_eq!(answer(text).as_deref(), wanted, "{text}");
        }
    }

    #[test]
    fn teaching_follows_the_frequencies_and_never_answers_a_held_out_unanswerable_question() {
        let task = facts(FactsSettings::default());
        let mut taught = [0usize; 5];
        for seed in 0..3000 {
            let row = task.teach(seed).unwrap();
            let (name, rest) = row.prompt[1..].split_once(':').unwrap();
            let entity = task.world().find(name).unwrap();
            let relation = world::relation(rest.chars().next().unwrap()).unwrap();
            match task.world().value(entity, relation) {
                Some(value) => {
                    assert_eq!(row.target, format!("#{value}"));
                    taught[entity.tier.unwrap()] += 1;
                }
                None => {
                    assert_eq!(row.target, "#?");
                    assert_eq!(entity.split, Split::Train);
                }
            }
        }
        assert_eq!(taught[0], 0);
        assert!(taught.is_sorted() && taught[4] > 2 * taught[3], "{taught:?}");
        let answered: usize = taught.iter().sum();
        assert!((2300..2500).contains(&answered), "a fifth has no answer: {answered}");
    }

    #[test]
    fn shown_statements_hold_the_answer_exactly_when_there_is_one() {
        let task = facts(FactsSettings { shown: 4, ..FactsSettings::default() });
        for problem in task.problems(Split::Train, 100, 2).unwrap() {
            let question = Question::of(&problem).unwrap();
            let compact = problem.compact.clone().unwrap();
            assert_eq!(compact.matches(';').count(), 4, "{compact}");
            let statement = format!("{}:{}", question.entity, question.relation);
            let holds = compact.split(';').any(|part| {
                part.strip_prefix(&statement)
                    .is_some_and(|value| Some(value.to_string()) == question.value.map(|v| v.to_string()))
            });
            assert_eq!(holds, question.value.is_some(), "{compact}");
            assert_eq!(problem.question.lines().count(), 5);
        }
    }

    #[test]
    fn asking_one_kind_asks_no_other_and_settings_out_of_range_are_named() {
        let task = facts(FactsSettings { asked: Asked::People, ..FactsSettings::default() });
        for problem in task.problems(Split::Train, 100, 2).unwrap() {
            assert_eq!(Question::of(&problem).unwrap().domain, Domain::People);
        }
        for (field, value) in [
            ("entities", json!(0)),
            ("frequencies", json!([0.0])),
            ("unanswerable", json!(1.5)),
            ("shown", json!(51)),
        ] {
            let error = FactsSettings::from_value(&json!({ field: value })).unwrap_err().to_string();
            assert!(error.contains(field) && error.contains("hint:"), "{error}");
        }
    }

    #[test]
    fn compact_texts_stay_in_the_vocabulary_one_letter_at_a_time() {
        let words: Vec<String> =
            crate::arithmetic::vocabulary().into_iter().filter(|w| w.len() > 1).collect();
        let task = facts(FactsSettings { shown: 3, ..FactsSettings::default() });
        let letters: HashSet<String> = crate::arithmetic::vocabulary().into_iter().collect();
        for problem in task.problems(Split::Train, 200, 4).unwrap() {
            let compact = problem.compact.unwrap();
            assert!(compact.chars().all(|c| letters.contains(&c.to_string())), "{compact}");
            let inside = |word: &String| {
                compact
                    .match_indices(word.as_str())
                    .any(|(at, _)| !compact[at + word.len()..].starts_with(|c: char| c.is_ascii_alphabetic()))
            };
            assert!(!words.iter().any(inside), "{compact}");
        }
    }

    proptest! {
        #[test]
        fn any_response_has_a_verdict(text in "\\PC{0,60}") {
            let task = facts(FactsSettings::default());
            let problem = task.problem(&Question {
                entity: "tamo".into(), relation: 'T', domain: Domain::Places, frequency: 1.0, value: Some(47),
            });
            let verdict = task.verify(&problem, &text).unwrap();
            prop_assert_eq!(verdict.answer.is_none(), verdict.outcome == Outcome::NoAnswer);
        }
    }
}
