//! The rules: rooms, things, a box with a lock, and what actions do.

use std::collections::{HashMap, VecDeque};

/// Most rooms.
pub const MOST_ROOMS: usize = 6;
/// Most things, the key included.
pub const MOST_THINGS: usize = 4;
/// Things that can be carried at once.
pub const HANDS: usize = 2;

/// Where a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// In a room.
    Room(u8),
    /// Carried.
    Carried,
    /// In the box.
    Box,
}

/// What does not change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Which rooms one can go to from each room.
    pub exits: Vec<Vec<u8>>,
    /// Things; thing 0 is the key where there is a box.
    pub things: usize,
    /// The room of the locked box, which thing 0 opens.
    pub locked_box: Option<u8>,
    /// Thing and room it shall be in.
    pub goals: Vec<(u8, u8)>,
}

/// What changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    /// The room.
    pub room: u8,
    /// Where each thing is.
    pub places: [Place; MOST_THINGS],
    /// Whether the box is open.
    pub open: bool,
}

/// Something that can be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// To a room.
    Go(u8),
    /// Pick up a thing.
    Take(u8),
    /// Put down a thing.
    Drop(u8),
    /// Open the box.
    Open,
}

impl Layout {
    fn carried(&self, state: &State) -> usize {
        state.places[..self.things].iter().filter(|place| **place == Place::Carried).count()
    }

    /// Whether a thing lies where it can be taken.
    fn reachable(&self, state: &State, thing: usize) -> bool {
        match state.places[thing] {
            Place::Room(room) => room == state.room,
            Place::Box => state.open && self.locked_box == Some(state.room),
            Place::Carried => false,
        }
    }

    /// The state after an action; why it cannot be done otherwise.
    pub fn act(&self, state: &State, action: Action) -> Result<State, &'static str> {
        let mut next = *state;
        match action {
            Action::Go(room) => {
                if !self.exits[usize::from(state.room)].contains(&room) {
                    return Err("there is no way to it from here");
                }
                next.room = room;
            }
            Action::Take(thing) => {
                let index = usize::from(thing);
                if index >= self.things || !self.reachable(state, index) {
                    return Err("it is not here, or not in reach");
                }
                if self.carried(state) >= HANDS {
                    return Err("both hands are full");
                }
                next.places[index] = Place::Carried;
            }
            Action::Drop(thing) => {
                let index = usize::from(thing);
                if index >= self.things || state.places[index] != Place::Carried {
                    return Err("it is not carried");
                }
                next.places[index] = Place::Room(state.room);
            }
            Action::Open => {
                if self.locked_box != Some(state.room) {
                    return Err("there is no box here");
                }
                if state.open {
                    return Err("the box is open");
                }
                if state.places[0] != Place::Carried {
                    return Err("the box is locked, and the key is not carried");
                }
                next.open = true;
            }
        }
        Ok(next)
    }

    /// What can be done, in a fixed order.
    pub fn possible(&self, state: &State) -> Vec<Action> {
        let things = 0..self.things as u8;
        let mut all: Vec<Action> =
            self.exits[usize::from(state.room)].iter().map(|room| Action::Go(*room)).collect();
        all.extend(things.clone().map(Action::Take));
        all.extend(things.map(Action::Drop));
        all.push(Action::Open);
        all.retain(|action| self.act(state, *action).is_ok());
        all
    }

    /// Whether every thing is where it shall be.
    pub fn reached(&self, state: &State) -> bool {
        self.goals.iter().all(|(thing, room)| state.places[usize::from(*thing)] == Place::Room(*room))
    }

    /// The expert: a shortest way to the goal, by breadth-first search; of several the first in the order of
    /// [`Layout::possible`]. `None` when there is no way.
    pub fn solve(&self, start: &State) -> Option<Vec<Action>> {
        let mut from: HashMap<State, Option<(State, Action)>> = HashMap::from([(*start, None)]);
        let mut queue = VecDeque::from([*start]);
        while let Some(state) = queue.pop_front() {
            if self.reached(&state) {
                let mut way = Vec::new();
                let mut at = state;
                while let Some(Some((before, action))) = from.get(&at) {
                    way.push(*action);
                    at = *before;
                }
                way.reverse();
                return Some(way);
            }
            for action in self.possible(&state) {
                if let Ok(next) = self.act(&state, action)
                    && !from.contains_key(&next)
                {
                    from.insert(next, Some((state, action)));
                    queue.push_back(next);
                }
            }
        }
        None
    }
}

/// A stage on the way to a goal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubGoal {
    /// Having had a thing in hand.
    Held(u8),
    /// The box is open.
    Opened,
    /// A thing lies where it shall be, now.
    Delivered(u8, u8),
}

impl Layout {
    /// The sub-goals from a start: for a thing in the box first the key and the lock, then the thing in hand, then its place.
    pub fn sub_goals(&self, start: &State) -> Vec<SubGoal> {
        let mut all = Vec::new();
        let boxed = |thing: u8| start.places[usize::from(thing)] == Place::Box;
        if !start.open && self.goals.iter().any(|(thing, _)| boxed(*thing)) {
            all.extend([SubGoal::Held(0), SubGoal::Opened]);
        }
        for &(thing, room) in &self.goals {
            if !all.contains(&SubGoal::Held(thing)) {
                all.push(SubGoal::Held(thing));
            }
            all.push(SubGoal::Delivered(thing, room));
        }
        all
    }

    /// Whether a sub-goal is reached in a state; those that are reached once and for all are kept by the episode.
    pub fn holds(&self, state: &State, goal: SubGoal) -> bool {
        match goal {
            SubGoal::Held(thing) => {
                let place = state.places[usize::from(thing)];
                // What lies where it shall be need not be picked up.
                place == Place::Carried
                    || self.goals.iter().any(|(of, room)| *of == thing && place == Place::Room(*room))
            }
            SubGoal::Opened => state.open,
            SubGoal::Delivered(thing, room) => state.places[usize::from(thing)] == Place::Room(room),
        }
    }
}
