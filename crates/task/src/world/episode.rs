//! An episode: state, actions so far, sub-goals reached.

use super::notation::{self, ROOMS, thing_name};
use super::state::{Action, Layout, Place, State, SubGoal};
use crate::{Ended, Environment, Observation};
use std::sync::Arc;

/// One run through a world.
#[derive(Debug, Clone)]
pub struct Episode {
    layout: Arc<Layout>,
    start: State,
    state: State,
    goals: Vec<SubGoal>,
    reached: Vec<bool>,
    done: Vec<String>,
    refused: Option<String>,
    most: usize,
}

impl Episode {
    /// At the beginning; it ends after `most` actions.
    pub fn new(layout: Arc<Layout>, start: State, most: usize) -> Self {
        let goals = layout.sub_goals(&start);
        let mut episode = Episode {
            start,
            state: start,
            reached: vec![false; goals.len()],
            goals,
            done: Vec::new(),
            refused: None,
            most,
            layout,
        };
        episode.note();
        episode
    }

    /// The state.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Share of the sub-goals reached: those of having done something stay, those of where things are must hold now.
    pub fn progress(&self) -> f64 {
        let count = self.reached.iter().filter(|reached| **reached).count();
        count as f64 / self.reached.len().max(1) as f64
    }

    /// Why it is over, when it is.
    pub fn ended(&self) -> Option<Ended> {
        if self.layout.reached(&self.state) {
            Some(Ended::Success)
        } else if self.done.len() >= self.most {
            Some(Ended::OutOfActions)
        } else {
            None
        }
    }

    fn note(&mut self) {
        for (goal, reached) in self.goals.iter().zip(&mut self.reached) {
            let now = self.layout.holds(&self.state, *goal);
            *reached = now || (*reached && !matches!(goal, SubGoal::Delivered(..)));
        }
    }

    fn describe(&self) -> String {
        let (layout, state) = (&self.layout, &self.state);
        let list = |names: Vec<String>| match names.as_slice() {
            [] => "nothing".to_string(),
            [one] => one.clone(),
            [first @ .., last] => format!("{} and {last}", first.join(", ")),
        };
        let things = |wanted: Place| -> Vec<String> {
            let at = |thing: &usize| state.places[*thing] == wanted;
            (0..layout.things)
                .filter(at)
                .map(|thing| format!("the {}", thing_name(layout, thing as u8)))
                .collect()
        };
        let room = usize::from(state.room);
        let exits =
            layout.exits[room].iter().map(|exit| format!("the {}", ROOMS[usize::from(*exit)])).collect();
        let mut text = format!("You are in the {}. From here you can go to {}.", ROOMS[room], list(exits));
        let here = things(Place::Room(state.room));
        if !here.is_empty() {
            text.push_str(&format!(" Here you see {}.", list(here)));
        }
        if layout.locked_box == Some(state.room) {
            match state.open {
                true => text.push_str(&format!(" The open box holds {}.", list(things(Place::Box)))),
                false => text.push_str(" There is a locked box."),
            }
        }
        text.push_str(&format!(" You carry {}.", list(things(Place::Carried))));
        text
    }
}

impl Environment for Episode {
    fn reset(&mut self) -> Observation {
        *self = Episode::new(Arc::clone(&self.layout), self.start, self.most);
        self.observe()
    }

    fn observe(&self) -> Observation {
        let ended = self.ended();
        let possible = if ended.is_some() { Vec::new() } else { self.layout.possible(&self.state) };
        Observation {
            text: self.describe(),
            compact: notation::compact(&self.layout, &self.state),
            actions: possible
                .into_iter()
                .map(|action| notation::action_in_words(&self.layout, action))
                .collect(),
            refused: self.refused.clone(),
            progress: self.progress(),
            ended,
        }
    }

    fn step(&mut self, action: &str) -> Observation {
        if self.ended().is_some() {
            return self.observe();
        }
        let read: Option<Action> = notation::parse_action(&self.layout, action);
        let result = match read {
            Some(action) => self.layout.act(&self.state, action).map_err(str::to_string),
            None => Err(format!("`{}` is no action", action.trim().chars().take(40).collect::<String>())),
        };
        let letters = read.map(|action| notation::action_in_letters(&self.layout, action));
        self.done.push(letters.unwrap_or_else(|| "?".to_string()));
        self.refused = None;
        match result {
            Ok(next) => {
                self.state = next;
                self.note();
            }
            Err(why) => self.refused = Some(why),
        }
        self.observe()
    }

    fn done(&self) -> &[String] {
        &self.done
    }

    fn copy(&self) -> Box<dyn Environment> {
        Box::new(self.clone())
    }
}
