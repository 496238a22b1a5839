//! A world in words and in the compact notation.
//!
//! Compact: rooms `a` to `f`, each with its exits and what lies in it, `a:bc,k`; a locked box with what is in it in
//! parentheses, `(x)`, an open one in `<x>`; then where one stands `_a`, what one carries `+k`, and the goals `>xb`: thing x
//! into room b. Things: `k` the key, `x`, `y`, `z` others. Actions: `gb` go, `tx` take, `dx` drop, `o` open.

use super::state::{Action, Layout, MOST_ROOMS, MOST_THINGS, Place, State};
use std::fmt::Write;

/// Rooms in words.
pub const ROOMS: [&str; MOST_ROOMS] = ["kitchen", "garden", "cellar", "library", "attic", "hall"];
const THINGS: [&str; MOST_THINGS] = ["lamp", "book", "rope", "cup"];
const LETTERS: [char; MOST_THINGS] = ['w', 'x', 'y', 'z'];

fn room_letter(room: u8) -> char {
    char::from(b'a' + room)
}

fn thing_letter(layout: &Layout, thing: u8) -> char {
    if thing == 0 && layout.locked_box.is_some() { 'k' } else { LETTERS[usize::from(thing) % MOST_THINGS] }
}

/// A thing in words.
pub fn thing_name(layout: &Layout, thing: u8) -> &'static str {
    if thing == 0 && layout.locked_box.is_some() { "key" } else { THINGS[usize::from(thing) % MOST_THINGS] }
}

fn letters(layout: &Layout, state: &State, place: Place) -> String {
    let there = |thing: &usize| state.places[*thing] == place;
    (0..layout.things).filter(there).map(|thing| thing_letter(layout, thing as u8)).collect()
}

/// The whole state in the compact notation, with the goals and `?`.
pub fn compact(layout: &Layout, state: &State) -> String {
    let mut text = String::new();
    for (room, exits) in layout.exits.iter().enumerate() {
        let exits: String = exits.iter().map(|exit| room_letter(*exit)).collect();
        // Writing to a text cannot fail.
        let _ = write!(text, "{}:{exits}", room_letter(room as u8));
        let mut things = letters(layout, state, Place::Room(room as u8));
        if layout.locked_box == Some(room as u8) {
            let inside = letters(layout, state, Place::Box);
            things.push_str(&if state.open { format!("<{inside}>") } else { format!("({inside})") });
        }
        if !things.is_empty() {
            let _ = write!(text, ",{things}");
        }
        text.push(';');
    }
    let _ = write!(text, "_{}", room_letter(state.room));
    let carried = letters(layout, state, Place::Carried);
    if !carried.is_empty() {
        let _ = write!(text, "+{carried}");
    }
    for (thing, room) in &layout.goals {
        let _ = write!(text, ">{}{}", thing_letter(layout, *thing), room_letter(*room));
    }
    text.push('?');
    text
}

/// The whole world in words: nothing is hidden but what a plan must find out by thinking.
pub fn question(layout: &Layout, state: &State) -> String {
    let mut text = String::new();
    for (room, exits) in layout.exits.iter().enumerate() {
        let exits: Vec<String> =
            exits.iter().map(|exit| format!("the {}", ROOMS[usize::from(*exit)])).collect();
        let _ = write!(text, "From the {} you can go to {}.", ROOMS[room], exits.join(" and "));
        let names = |place: Place| -> Vec<String> {
            let there = |thing: &usize| state.places[*thing] == place;
            (0..layout.things).filter(there).map(|t| format!("the {}", thing_name(layout, t as u8))).collect()
        };
        let here = names(Place::Room(room as u8));
        if !here.is_empty() {
            let verb = if here.len() == 1 { "is" } else { "are" };
            let _ = write!(text, " There {verb} {}.", here.join(" and "));
        }
        if layout.locked_box == Some(room as u8) {
            let inside = names(Place::Box).join(" and ");
            let _ =
                write!(text, " There is a locked box with {inside} in it; who carries the key can open it.");
        }
        text.push('\n');
    }
    let _ = write!(text, "You are in the {} and can carry two things.\n\n", ROOMS[usize::from(state.room)]);
    let goals: Vec<String> = layout
        .goals
        .iter()
        .map(|(thing, room)| {
            format!("the {} to the {}", thing_name(layout, *thing), ROOMS[usize::from(*room)])
        })
        .collect();
    let _ = write!(
        text,
        "Bring {}. Write your actions, one a line: `go to the ROOM`, `take the THING`, `drop the THING`, `open the box`.",
        goals.join(" and ")
    );
    text
}

/// An action in words.
pub fn action_in_words(layout: &Layout, action: Action) -> String {
    match action {
        Action::Go(room) => format!("go to the {}", ROOMS[usize::from(room) % MOST_ROOMS]),
        Action::Take(thing) => format!("take the {}", thing_name(layout, thing)),
        Action::Drop(thing) => format!("drop the {}", thing_name(layout, thing)),
        Action::Open => "open the box".to_string(),
    }
}

/// An action in the compact notation.
pub fn action_in_letters(layout: &Layout, action: Action) -> String {
    match action {
        Action::Go(room) => format!("g{}", room_letter(room)),
        Action::Take(thing) => format!("t{}", thing_letter(layout, thing)),
        Action::Drop(thing) => format!("d{}", thing_letter(layout, thing)),
        Action::Open => "o".to_string(),
    }
}

/// The action that a text names, in either notation; `None` when it names none or several.
pub fn parse_action(layout: &Layout, text: &str) -> Option<Action> {
    let text = text.trim().trim_end_matches('.');
    let room = |letter: char| (0..layout.exits.len() as u8).find(|room| room_letter(*room) == letter);
    let thing = |letter: char| (0..layout.things as u8).find(|thing| thing_letter(layout, *thing) == letter);
    let mut characters = text.chars();
    match (characters.next(), characters.next(), characters.next()) {
        (Some('o'), None, _) => return Some(Action::Open),
        (Some('g'), Some(letter), None) => return room(letter).map(Action::Go),
        (Some('t'), Some(letter), None) => return thing(letter).map(Action::Take),
        (Some('d'), Some(letter), None) => return thing(letter).map(Action::Drop),
        _ => {}
    }
    let lower = text.to_lowercase();
    let words: Vec<&str> =
        lower.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty()).collect();
    let named_room =
        || words.last().and_then(|word| ROOMS[..layout.exits.len()].iter().position(|r| r == word));
    let named_thing =
        || words.last().and_then(|word| (0..layout.things as u8).find(|t| thing_name(layout, *t) == *word));
    match *words.first()? {
        "go" | "walk" | "move" => named_room().map(|room| Action::Go(room as u8)),
        "take" | "get" | "pick" | "grab" => named_thing().map(Action::Take),
        "drop" | "put" | "leave" => named_thing().map(Action::Drop),
        "open" | "unlock" => (words.last() == Some(&"box")).then_some(Action::Open),
        _ => None,
    }
}
