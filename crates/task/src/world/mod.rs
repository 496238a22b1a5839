//! A small text world: rooms, things, a locked box; things are to be brought somewhere.
//!
//! A problem shows the whole world, and its answer is a plan: `gb;tk;gc;o;tx;gb;dx#7` in the compact notation (see
//! [`notation`]), or one action a line. The plan is played and judged exactly, action by action, with the share of sub-goals
//! it reached. The same world can be acted in one action at a time ([`crate::Environment`], through
//! [`Task::environment`]); then only the room one stands in is described. Each compact observation is a problem of its own,
//! so a model that plans can also act: it does the first action of its plan.

pub mod episode;
pub mod notation;
pub mod state;

pub use episode::Episode;
pub use state::{Action, Layout, Place, State, SubGoal};

use crate::{Environment, Recheck, Split, Task, TaskError};
use elenchus_trace::{Outcome, Problem, Step, StepVerdict, Verdict};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use state::{MOST_ROOMS, MOST_THINGS};
use std::collections::HashSet;
use std::sync::Arc;

/// Name of the task, in every problem.
pub const TASK: &str = "world";

/// One line for lists and help.
pub const SUMMARY: &str = "a small text world: bring things where they belong, by a plan or action by action";

/// Settings of the world task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WorldSettings {
    /// Fewest and most rooms, within 2 to 6.
    pub rooms: [usize; 2],
    /// Fewest and most things beside the key, within 1 to 3.
    pub things: [usize; 2],
    /// Fewest and most things that are to be brought somewhere, no more than there are things.
    pub goals: [usize; 2],
    /// Share of worlds in which one of those things lies in a locked box.
    pub locked: f64,
    /// Fewest and most actions of a shortest plan.
    pub actions: [usize; 2],
    /// An episode ends after this many times the actions of a shortest plan.
    pub patience: f64,
}

impl Default for WorldSettings {
    fn default() -> Self {
        WorldSettings {
            rooms: [3, 5],
            things: [1, 3],
            goals: [1, 2],
            locked: 0.5,
            actions: [3, 14],
            patience: 3.0,
        }
    }
}

impl WorldSettings {
    /// Reads settings; absent fields have their defaults.
    ///
    /// # Errors
    /// The field that is unknown, has the wrong type, or is out of range.
    pub fn from_value(value: &Value) -> Result<Self, TaskError> {
        let settings: Self = crate::settings::overlay(&WorldSettings::default(), value)?;
        settings.check()?;
        Ok(settings)
    }

    /// Whether all settings are in range.
    ///
    /// # Errors
    /// The first one that is not.
    pub fn check(&self) -> Result<(), TaskError> {
        let wrong = |field: &str, problem: String, hint: &str| {
            Err(TaskError::Setting { field: field.to_string(), problem, hint: hint.to_string() })
        };
        let ranges = [
            ("rooms", self.rooms, 2, MOST_ROOMS),
            ("things", self.things, 1, MOST_THINGS - 1),
            ("goals", self.goals, 1, self.things[1]),
            ("actions", self.actions, 1, 60),
        ];
        for (field, [fewest, most], least, largest) in ranges {
            if fewest < least || most > largest || fewest > most {
                let problem = format!("is {fewest} to {most}");
                return wrong(field, problem, &format!("use [fewest, most] within {least} to {largest}"));
            }
        }
        if !(0.0..=1.0).contains(&self.locked) {
            return wrong("locked", format!("is {}", self.locked), "use a share from 0 to 1");
        }
        if !(1.0..=100.0).contains(&self.patience) {
            return wrong("patience", format!("is {}", self.patience), "use 1 to 100");
        }
        Ok(())
    }
}

/// The world task.
#[derive(Debug, Clone)]
pub struct World {
    settings: WorldSettings,
}

/// What a plan came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Played {
    /// Per written action: its text and place, and why it did nothing, if it did not.
    pub actions: Vec<(Step, Option<String>)>,
    /// Share of the sub-goals reached.
    pub progress: f64,
    /// Whether every thing is where it shall be.
    pub success: bool,
    /// Where everything is at the end.
    pub state: State,
}

/// Layout and start of a problem.
///
/// # Errors
/// The problem is not of this task, or its world cannot be.
pub fn given(problem: &Problem) -> Result<(Layout, State), TaskError> {
    let wrong = || TaskError::Problem {
        id: problem.id.clone(),
        problem: "is not a world problem".to_string(),
        hint: "its `task` is `world` and its `data` has exits, things, goals and the start".to_string(),
    };
    if problem.task != TASK {
        return Err(wrong());
    }
    let world: Written = serde_json::from_value(problem.data.clone()).map_err(|_| wrong())?;
    world.read().ok_or_else(wrong)
}

/// A world as problems carry it. Places: a room by number, `carried`, `box`.
#[derive(Debug, Serialize, Deserialize)]
struct Written {
    exits: Vec<Vec<u8>>,
    places: Vec<Value>,
    locked_box: Option<u8>,
    goals: Vec<(u8, u8)>,
    room: u8,
    open: bool,
}

impl Written {
    fn of(layout: &Layout, state: &State) -> Self {
        let place = |place: &Place| match place {
            Place::Room(room) => json!(room),
            Place::Carried => json!("carried"),
            Place::Box => json!("box"),
        };
        Written {
            exits: layout.exits.clone(),
            places: state.places[..layout.things].iter().map(place).collect(),
            locked_box: layout.locked_box,
            goals: layout.goals.clone(),
            room: state.room,
            open: state.open,
        }
    }

    fn read(self) -> Option<(Layout, State)> {
        let (rooms, things) = (self.exits.len(), self.places.len());
        let is_room = |room: u8| usize::from(room) < rooms;
        let fits = (1..=MOST_ROOMS).contains(&rooms)
            && (1..=MOST_THINGS).contains(&things)
            && is_room(self.room)
            && self.locked_box.is_none_or(is_room)
            && self.exits.iter().flatten().all(|room| is_room(*room))
            && self.goals.iter().all(|(thing, room)| usize::from(*thing) < things && is_room(*room));
        if !fits {
            return None;
        }
        let mut places = [Place::Carried; MOST_THINGS];
        for (place, written) in places.iter_mut().zip(&self.places) {
            *place = match written {
                Value::String(word) if word == "carried" => Place::Carried,
                Value::String(word) if word == "box" && self.locked_box.is_some() => Place::Box,
                other => Place::Room(u8::try_from(other.as_u64()?).ok().filter(|room| is_room(*room))?),
            };
        }
        let layout = Layout { exits: self.exits, things, locked_box: self.locked_box, goals: self.goals };
        Some((layout, State { room: self.room, places, open: self.open }))
    }
}

/// A problem from a world.
pub fn problem(layout: &Layout, state: &State) -> Result<Problem, TaskError> {
    let compact = notation::compact(layout, state);
    let id = blake3::hash(compact.as_bytes()).to_hex()[..16].to_string();
    let mut problem = Problem::new(id, TASK, notation::question(layout, state));
    problem.compact = Some(compact);
    problem.data = serde_json::to_value(Written::of(layout, state)).map_err(|error| TaskError::Problem {
        id: problem.id.clone(),
        problem: format!("cannot be written: {error}"),
        hint: "report this".to_string(),
    })?;
    Ok(problem)
}

impl World {
    /// The task with these settings.
    ///
    /// # Errors
    /// A setting out of range.
    pub fn new(settings: WorldSettings) -> Result<Self, TaskError> {
        settings.check()?;
        Ok(World { settings })
    }

    /// A random world, and whether it fits the settings.
    fn draw(&self, random: &mut ChaCha8Rng) -> Option<(Layout, State)> {
        let WorldSettings { rooms, things, goals, locked, actions, .. } = &self.settings;
        let count = random.random_range(rooms[0]..=rooms[1]);
        let mut exits: Vec<Vec<u8>> = vec![Vec::new(); count];
        let mut join = |one: usize, other: usize| {
            if one != other && !exits[one].contains(&(other as u8)) {
                exits[one].push(other as u8);
                exits[other].push(one as u8);
            }
        };
        // A tree, and sometimes one way more.
        for room in 1..count {
            join(room, random.random_range(0..room));
        }
        if random.random_bool(0.3) {
            join(random.random_range(0..count), random.random_range(0..count));
        }
        exits.iter_mut().for_each(|exits| exits.sort_unstable());
        let room = |random: &mut ChaCha8Rng| random.random_range(0..count) as u8;
        let is_locked = random.random_bool(*locked);
        let others = random.random_range(things[0]..=things[1]);
        let number = others + usize::from(is_locked);
        let mut places = [Place::Carried; MOST_THINGS];
        for place in &mut places[..number] {
            *place = Place::Room(room(random));
        }
        let first = usize::from(is_locked);
        let locked_box = is_locked.then(|| room(random));
        if is_locked {
            places[first] = Place::Box;
        }
        let wanted = random.random_range(goals[0]..=goals[1].min(others).max(goals[0]));
        if wanted > others {
            return None;
        }
        let goals = (first..first + wanted).map(|thing| (thing as u8, room(random))).collect();
        let layout = Layout { exits, things: number, locked_box, goals };
        let state = State { room: room(random), places, open: false };
        let plan = layout.solve(&state)?;
        let inside = |(thing, to): &(u8, u8)| places[usize::from(*thing)] == Place::Room(*to);
        let idle = layout.goals.iter().any(inside);
        ((actions[0]..=actions[1]).contains(&plan.len()) && !idle).then_some((layout, state))
    }

    /// An episode of a problem's world, from its start.
    ///
    /// # Errors
    /// The problem is not of this task.
    pub fn episode(&self, problem: &Problem) -> Result<Episode, TaskError> {
        let (layout, start) = given(problem)?;
        let shortest = layout.solve(&start).map_or(20, |plan| plan.len());
        let most = (shortest as f64 * self.settings.patience).ceil() as usize;
        Ok(Episode::new(Arc::new(layout), start, most.max(1)))
    }

    /// Plays the actions of a response from the start. It goes on behind the goal: what is brought and taken away again is
    /// not brought. The patience of episodes does not bound it, a plan is as long as it is.
    ///
    /// # Errors
    /// The problem is not of this task.
    pub fn play(&self, problem: &Problem, response: &str) -> Result<Played, TaskError> {
        let (layout, start) = given(problem)?;
        let mut state = start;
        let goals = layout.sub_goals(&start);
        let mut reached: Vec<bool> = goals.iter().map(|goal| layout.holds(&state, *goal)).collect();
        let mut actions = Vec::new();
        for step in written(response) {
            let result = match notation::parse_action(&layout, bare(&step.text)) {
                Some(action) => layout.act(&state, action).map_err(str::to_string),
                None => Err("is no action".to_string()),
            };
            let fault = match result {
                Ok(next) => {
                    state = next;
                    None
                }
                Err(why) => Some(why),
            };
            actions.push((step, fault));
            for (goal, reached) in goals.iter().zip(&mut reached) {
                let now = layout.holds(&state, *goal);
                *reached = now || (*reached && !matches!(goal, SubGoal::Delivered(..)));
            }
        }
        let count = reached.iter().filter(|reached| **reached).count();
        let progress = count as f64 / reached.len().max(1) as f64;
        Ok(Played { actions, progress, success: layout.reached(&state), state })
    }
}

/// A line without the number or sign of a list in front of it, and without marks around it.
fn bare(line: &str) -> &str {
    let line = line.trim().trim_matches(|c: char| "*`_\"'".contains(c)).trim();
    let rest = line.trim_start_matches(|c: char| c.is_ascii_digit());
    let rest = if rest.len() < line.len() { rest.trim_start_matches(['.', ')', ':']) } else { rest };
    rest.trim_start_matches(|c: char| c.is_whitespace() || "-*>`".contains(c)).trim_matches('`')
}

fn is_compact(response: &str) -> bool {
    !response.trim().contains(char::is_whitespace)
}

/// The actions of a response. Compact: the pieces between `;` before `#`. Others: the lines that begin like an action, behind
/// the last `</think>`.
fn written(response: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    if is_compact(response) {
        let body = response.split('#').next().unwrap_or_default();
        let mut start = 0;
        for piece in body.split(';') {
            if !piece.trim().is_empty() {
                steps.push(Step { text: piece.to_string(), start, end: start + piece.len() });
            }
            start += piece.len() + 1;
        }
        return steps;
    }
    let begin = response.rfind("</think>").map_or(0, |at| at + 8);
    let mut start = begin;
    for line in response[begin..].split_inclusive('\n') {
        let text = line.trim_end();
        let first = bare(text).split(|c: char| !c.is_alphabetic()).next().unwrap_or_default().to_lowercase();
        let verbs =
            ["go", "walk", "move", "take", "get", "pick", "grab", "drop", "put", "leave", "open", "unlock"];
        // Prose begins with such a word, too, but is longer.
        if verbs.contains(&first.as_str()) && text.split_whitespace().count() <= 8 {
            steps.push(Step { text: text.to_string(), start, end: start + text.len() });
        }
        start += line.len();
    }
    steps
}

impl Task for World {
    fn name(&self) -> &'static str {
        TASK
    }

    fn summary(&self) -> &'static str {
        SUMMARY
    }

    fn problems(&self, wanted: Split, count: usize, seed: u64) -> Result<Vec<Problem>, TaskError> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(1 + wanted as u64);
        let mut seen = HashSet::with_capacity(count);
        let mut problems = Vec::with_capacity(count);
        let mut fruitless = 0usize;
        while problems.len() < count {
            fruitless += 1;
            if fruitless > 100_000 {
                return Err(TaskError::Setting {
                    field: "count".to_string(),
                    problem: format!(
                        "asks for {count} problems, but these settings give only about {} distinct ones in this split",
                        problems.len()
                    ),
                    hint: "ask for fewer, or allow more rooms, things or actions".to_string(),
                });
            }
            let Some((layout, state)) = self.draw(&mut random) else { continue };
            let compact = notation::compact(&layout, &state);
            if crate::split_of(compact.as_bytes()) == wanted && seen.insert(compact) {
                problems.push(problem(&layout, &state)?);
                fruitless = 0;
            }
        }
        Ok(problems)
    }

    /// The plan, one action after another in words; `None` when no action is written.
    fn extract(&self, problem: &Problem, response: &str) -> Option<String> {
        let (layout, _) = given(problem).ok()?;
        let actions: Vec<String> = written(response)
            .iter()
            .map(|step| match notation::parse_action(&layout, bare(&step.text)) {
                Some(action) => notation::action_in_letters(&layout, action),
                None => "?".to_string(),
            })
            .collect();
        (!actions.is_empty()).then(|| actions.join(";"))
    }

    /// Two plans mean the same when they leave the world in the same state.
    fn equivalent(&self, problem: &Problem, left: &str, right: &str) -> bool {
        let end = |plan: &str| self.play(problem, plan).ok().map(|played| played.state);
        left == right || (end(left).is_some() && end(left) == end(right))
    }

    fn verify(&self, problem: &Problem, response: &str) -> Result<Verdict, TaskError> {
        let played = self.play(problem, response)?;
        let answer = self.extract(problem, response);
        let outcome = match (&answer, played.success) {
            (None, _) => Outcome::NoAnswer,
            (Some(_), true) => Outcome::Correct,
            (Some(_), false) => Outcome::Wrong,
        };
        let faulty = played.actions.iter().find_map(|(step, fault)| Some((step, fault.as_ref()?)));
        let reason = match (outcome, faulty) {
            (Outcome::Correct, _) => None,
            (Outcome::NoAnswer, _) => Some("no action is written".to_string()),
            (Outcome::Wrong, fault) => {
                let fault = fault.map(|(step, why)| format!("; `{}`: {why}", bare(&step.text)));
                let share = 100.0 * played.progress;
                Some(format!("{share:.0} % of the sub-goals are reached{}", fault.unwrap_or_default()))
            }
        };
        let steps = played
            .actions
            .into_iter()
            .map(|(step, fault)| StepVerdict { step, correct: fault.is_none(), expected: None })
            .collect();
        Ok(Verdict { outcome, answer, steps, reason })
    }

    /// The rules of the world stand in the problem, so that playing a plan is a tool here and no oracle. A plan without its
    /// end (no `#`) is judged by its actions alone.
    fn recheck(&self, problem: &Problem, response: &str) -> Result<Recheck, TaskError> {
        let verdict = self.verify(problem, response)?;
        let finished = !is_compact(response) || response.contains('#');
        let answer = (finished && verdict.answer.is_some()).then_some(verdict.outcome == Outcome::Correct);
        Ok(Recheck { steps: verdict.steps, answer, reason: verdict.reason })
    }

    /// A shortest plan, with the number of its actions behind `#`.
    fn reference(&self, problem: &Problem) -> Option<String> {
        let (layout, state) = given(problem).ok()?;
        let plan = layout.solve(&state)?;
        let actions: Vec<String> = plan.iter().map(|a| notation::action_in_letters(&layout, *a)).collect();
        Some(format!("{}#{}", actions.join(";"), actions.len()))
    }

    fn steps(&self, _: &Problem, response: &str) -> Vec<Step> {
        written(response)
    }

    fn environment(&self, problem: &Problem) -> Result<Option<Box<dyn Environment>>, TaskError> {
        Ok(Some(Box::new(self.episode(problem)?)))
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
