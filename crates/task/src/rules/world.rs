//! What the advice is about: things of five kinds, the people who lend them, the places where the people are.
//!
//! A kind of things is lent in some places more than in others and by some people there more than by others, so where
//! a reply goes first decides how likely it is to name a forbidden thing many words later.

/// A kind of things that a rule forbids: its name, and the things. A thing may be of two kinds, or of none.
pub(super) const KINDS: [(&str, &[&str]); 5] = [
    ("sharp", &["axe", "knife", "saw", "scythe", "chisel"]),
    ("hot", &["torch", "kettle", "iron", "lantern", "coal"]),
    ("loud", &["drum", "horn", "bell", "fife", "hammer", "saw"]),
    ("heavy", &["anvil", "barrel", "anchor", "hammer", "iron"]),
    ("live", &["goat", "dog", "mule", "hen", "bee"]),
];

/// Things of no kind.
pub(super) const HARMLESS: [&str; 8] = ["rope", "ladder", "bucket", "key", "cloth", "map", "glue", "broom"];

/// Somebody who lends four things, the first ones much more often.
pub(super) struct Person {
    pub name: &'static str,
    pub lends: [&'static str; 4],
}

/// How often a person lends each of the four, in proportion.
pub(super) const LENDING: [f64; 4] = [0.55, 0.25, 0.12, 0.08];

/// A place with the two people who are there, the first one asked more often.
pub(super) struct Location {
    pub name: &'static str,
    pub people: [Person; 2],
}

/// Share of the first person of a place.
pub(super) const FIRST_PERSON: f64 = 0.6;

const fn person(name: &'static str, lends: [&'static str; 4]) -> Person {
    Person { name, lends }
}

pub(super) const PLACES: [Location; 6] = [
    Location {
        name: "shed",
        people: [
            person("joiner", ["saw", "chisel", "glue", "ladder"]),
            person("reaper", ["scythe", "axe", "broom", "rope"]),
        ],
    },
    Location {
        name: "kitchen",
        people: [
            person("cook", ["kettle", "knife", "coal", "cloth"]),
            person("maid", ["broom", "cloth", "lantern", "bucket"]),
        ],
    },
    Location {
        name: "barn",
        people: [
            person("farmer", ["mule", "goat", "bucket", "bell"]),
            person("milker", ["hen", "dog", "bee", "rope"]),
        ],
    },
    Location {
        name: "forge",
        people: [
            person("smith", ["hammer", "iron", "anvil", "coal"]),
            person("guard", ["torch", "key", "horn", "lantern"]),
        ],
    },
    Location {
        name: "cellar",
        people: [
            person("scribe", ["map", "glue", "key", "torch"]),
            person("vintner", ["barrel", "rope", "bucket", "map"]),
        ],
    },
    Location {
        name: "dock",
        people: [
            person("sailor", ["anchor", "rope", "horn", "ladder"]),
            person("piper", ["fife", "drum", "bell", "dog"]),
        ],
    },
];

pub(super) const VERBS: [&str; 10] =
    ["open", "fix", "cross", "paint", "catch", "move", "clean", "find", "raise", "mend"];
pub(super) const OBJECTS: [&str; 10] =
    ["door", "roof", "river", "wall", "thief", "cart", "pond", "ring", "flag", "net"];

/// The other words of a reply.
pub(super) const FRAME: [&str; 4] = ["go", "ask", "take", "then"];

/// The things that a rule forbids.
pub(super) fn forbidden(rule: &str) -> Option<&'static [&'static str]> {
    KINDS.iter().find(|(name, _)| *name == rule).map(|(_, things)| *things)
}

/// All things, each once, in a fixed order.
pub(super) fn things() -> Vec<&'static str> {
    let mut all: Vec<&str> = Vec::new();
    for thing in KINDS.iter().flat_map(|(_, things)| things.iter()).chain(&HARMLESS) {
        if !all.contains(thing) {
            all.push(thing);
        }
    }
    all
}

/// Every word that compact problems and replies use beside the vocabulary of the other tasks.
pub(super) fn words() -> Vec<&'static str> {
    let kinds = KINDS.iter().map(|(name, _)| *name);
    let places = PLACES.iter().map(|place| place.name);
    let people = PLACES.iter().flat_map(|place| place.people.iter().map(|person| person.name));
    kinds.chain(FRAME).chain(VERBS).chain(OBJECTS).chain(places).chain(people).chain(things()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arithmetic::vocabulary;

    #[test]
    fn everything_lent_is_a_thing_and_every_thing_is_lent() {
        let all = things();
        let lent: Vec<&str> =
            PLACES.iter().flat_map(|p| p.people.iter().flat_map(|person| person.lends)).collect();
        assert!(lent.iter().all(|thing| all.contains(thing)));
        assert!(all.iter().all(|thing| lent.contains(thing)), "a thing nobody lends says nothing");
    }

    #[test]
    fn texts_without_spaces_read_back_as_the_same_words() {
        let mut pieces: Vec<String> = vocabulary();
        pieces.extend(words().iter().map(|word| word.to_string()));
        pieces.sort();
        pieces.dedup();
        let cut = |text: &str| -> Vec<String> {
            let (mut rest, mut found) = (text, Vec::new());
            while !rest.is_empty() {
                let longest =
                    pieces.iter().filter(|piece| rest.starts_with(piece.as_str())).max_by_key(|p| p.len());
                let length = longest.map_or(1, |piece| piece.len());
                found.push(rest[..length].to_string());
                rest = &rest[length..];
            }
            found
        };
        let words = words();
        for left in &words {
            for right in words.iter().copied().chain([",", ".", "!", "?", ":", "1", "Ann"]) {
                assert_eq!(cut(&format!("{left}{right}")), [*left, right], "{left}{right}");
            }
        }
    }
}
