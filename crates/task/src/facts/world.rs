//! The knowledge base: who is in it, what is known of whom, and how often each is taught.

use crate::Split;
use crate::arithmetic::vocabulary;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What kind of thing an entity is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Domain {
    /// People: age, badge, locker, score.
    People,
    /// Places: gates, houses, towers, rooms.
    Places,
}

/// Something that is known of an entity: a number from 10 to 99.
#[derive(Debug, PartialEq, Eq)]
pub struct Relation {
    /// One letter, for the compact notation.
    pub letter: char,
    /// In words, so that `the WORDS of NAME` can be asked for.
    pub words: &'static str,
    /// Whom it can be asked of.
    pub domain: Domain,
}

/// All relations.
pub static RELATIONS: [Relation; 8] = [
    Relation { letter: 'A', words: "age", domain: Domain::People },
    Relation { letter: 'B', words: "badge number", domain: Domain::People },
    Relation { letter: 'L', words: "locker number", domain: Domain::People },
    Relation { letter: 'P', words: "score", domain: Domain::People },
    Relation { letter: 'G', words: "number of gates", domain: Domain::Places },
    Relation { letter: 'H', words: "number of houses", domain: Domain::Places },
    Relation { letter: 'T', words: "number of towers", domain: Domain::Places },
    Relation { letter: 'R', words: "number of rooms", domain: Domain::Places },
];

/// Relations that can be asked of a domain.
pub fn relations(domain: Domain) -> impl Iterator<Item = &'static Relation> {
    RELATIONS.iter().filter(move |relation| relation.domain == domain)
}

/// The relation of a letter.
pub fn relation(letter: char) -> Option<&'static Relation> {
    RELATIONS.iter().find(|relation| relation.letter == letter)
}

/// One entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entity {
    /// Four lower-case letters, consonant and vowel in turn.
    pub name: String,
    /// Its kind. Strangers have one too, of which nobody knows.
    pub domain: Domain,
    /// Index into the frequencies; `None` for strangers, who are not in the knowledge base.
    pub tier: Option<usize>,
    /// The split of every question about it.
    pub split: Split,
}

/// Entities with their values; determined by a seed.
#[derive(Debug, Clone)]
pub struct World {
    seed: u64,
    /// Entities of the knowledge base, then strangers.
    entities: Vec<Entity>,
    known: usize,
}

impl World {
    /// `count` entities of each domain and as many strangers; every entity gets one of `tiers` tiers at random (the
    /// same number in each, up to one). `view` draws the tiers: two views of one world know different entities well.
    pub fn new(seed: u64, view: u64, count: usize, tiers: usize) -> Self {
        let mut names = names();
        names.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        let mut entities: Vec<Entity> = names
            .into_iter()
            .take(4 * count)
            .enumerate()
            .map(|(place, name)| {
                let domain = if place % 2 == 0 { Domain::People } else { Domain::Places };
                let split = crate::split_of(format!("facts {name}").as_bytes());
                Entity { name, domain, tier: None, split }
            })
            .collect();
        let known = entities.len() / 2;
        for domain in [Domain::People, Domain::Places] {
            let mut order: Vec<usize> = (0..known).filter(|&i| entities[i].domain == domain).collect();
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            random.set_stream(1 + view);
            order.shuffle(&mut random);
            for (place, index) in order.into_iter().enumerate() {
                entities[index].tier = Some(place % tiers.max(1));
            }
        }
        World { seed, entities, known }
    }

    /// Most entities per domain that a world can have.
    pub fn largest() -> usize {
        names().len() / 4
    }

    /// The entities of the knowledge base.
    pub fn known(&self) -> &[Entity] {
        &self.entities[..self.known]
    }

    /// Names that nothing is known of.
    pub fn strangers(&self) -> &[Entity] {
        &self.entities[self.known..]
    }

    /// The entity of a name.
    pub fn find(&self, name: &str) -> Option<&Entity> {
        self.entities.iter().find(|entity| entity.name == name)
    }

    /// The value of a relation; `None` where there is none: for strangers and for relations of another domain.
    pub fn value(&self, entity: &Entity, relation: &Relation) -> Option<i64> {
        if entity.tier.is_none() || entity.domain != relation.domain {
            return None;
        }
        let content = format!("{} {} {}", self.seed, entity.name, relation.letter);
        let hash = blake3::hash(content.as_bytes());
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&hash.as_bytes()[..8]);
        // 90 values out of 2^64: no bias that could be seen.
        Some(10 + (u64::from_le_bytes(bytes) % 90) as i64)
    }

    /// An entity of the knowledge base, drawn in proportion to the frequency of its tier; `None` when all are 0.
    pub fn draw(&self, frequencies: &[f64], random: &mut ChaCha8Rng) -> Option<&Entity> {
        let weight =
            |entity: &Entity| entity.tier.and_then(|tier| frequencies.get(tier)).copied().unwrap_or(0.0);
        let total: f64 = self.known().iter().map(weight).sum();
        let mut at = random.random::<f64>() * total;
        self.known().iter().find(|entity| {
            at -= weight(entity);
            at < 0.0
        })
    }
}

/// All names, in a fixed order. Names that end in a word of the vocabulary would be read as that word.
fn names() -> Vec<String> {
    const CONSONANTS: &[u8] = b"bcdfghjklmnpqrstvwxz";
    const VOWELS: &[u8] = b"aeiou";
    let words: Vec<String> = vocabulary().into_iter().filter(|word| word.len() > 1).collect();
    let mut names = Vec::new();
    for &first in CONSONANTS {
        for &second in VOWELS {
            for &third in CONSONANTS {
                for &fourth in VOWELS {
                    let name: String = [first, second, third, fourth].map(char::from).iter().collect();
                    if !words.iter().any(|word| name.ends_with(word.as_str())) {
                        names.push(name);
                    }
                }
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_world_follows_from_its_seed_and_a_view_moves_only_the_tiers() {
        let (world, again) = (World::new(1, 0, 100, 5), World::new(1, 0, 100, 5));
        assert_eq!(world.entities, again.entities);
        let other_view = World::new(1, 1, 100, 5);
        let names = |w: &World| w.entities.iter().map(|e| e.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&world), names(&other_view));
        let moved = world.known().iter().zip(other_view.known()).filter(|(a, b)| a.tier != b.tier).count();
        assert!((120..200).contains(&moved), "4 in 5 of 200 entities move: {moved}");
        for (a, b) in world.known().iter().zip(other_view.known()) {
            for relation in &RELATIONS {
                assert_eq!(world.value(a, relation), other_view.value(b, relation), "values do not move");
            }
        }
        assert_ne!(names(&world), names(&World::new(2, 0, 100, 5)));
    }

    #[test]
    fn tiers_and_domains_are_even_and_strangers_have_no_values() {
        let world = World::new(3, 0, 100, 5);
        assert_eq!((world.known().len(), world.strangers().len()), (200, 200));
        for domain in [Domain::People, Domain::Places] {
            for tier in 0..5 {
                let of = |e: &&Entity| e.domain == domain && e.tier == Some(tier);
                assert_eq!(world.known().iter().filter(of).count(), 20);
            }
        }
        let distinct: HashSet<&str> = world.entities.iter().map(|e| e.name.as_str()).collect();
        assert_eq!(distinct.len(), 400);
        let tower = relation('T').unwrap();
        for entity in world.known() {
            let value = world.value(entity, tower);
            assert_eq!(value.is_some(), entity.domain == Domain::Places, "{entity:?}");
            assert!(value.is_none_or(|value| (10..=99).contains(&value)));
        }
        assert!(world.strangers().iter().all(|e| RELATIONS.iter().all(|r| world.value(e, r).is_none())));
    }

    #[test]
    fn entities_are_drawn_in_proportion_to_their_frequency() {
        let world = World::new(1, 0, 50, 3);
        let mut random = ChaCha8Rng::seed_from_u64(5);
        let mut seen = [0usize; 3];
        for _ in 0..4000 {
            let entity = world.draw(&[0.0, 1.0, 3.0], &mut random).unwrap();
            seen[entity.tier.unwrap()] += 1;
        }
        assert_eq!(seen[0], 0, "never taught");
        // 34 + 34 + 32 entities: the tier sizes differ by two at most.
        let ratio = seen[2] as f64 / seen[1] as f64;
        assert!((2.5..3.5).contains(&ratio), "{seen:?}");
        assert!(world.draw(&[0.0], &mut random).is_none(), "nothing is taught at all");
    }
}
