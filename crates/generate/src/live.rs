//! The text of an answer, told while it is written.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

type Tell = dyn Fn(usize, &str) + Send + Sync;

/// Where the text of an answer goes while a model writes it, for the call whose text is the answer. What was told cannot
/// be taken back: the answer begins with it, whatever a strategy decides afterwards ([`LiveAnswer::settled`]).
pub struct LiveAnswer {
    choice: usize,
    said: Mutex<String>,
    tell: Arc<Tell>,
}

impl fmt::Debug for LiveAnswer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("LiveAnswer").field("choice", &self.choice).finish_non_exhaustive()
    }
}

impl LiveAnswer {
    /// An answer of which nothing was told yet. `tell` gets the number of the choice, 0 unless there are several, and the
    /// next piece of its text; it must not block.
    pub fn new(tell: impl Fn(usize, &str) + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(LiveAnswer { choice: 0, said: Mutex::default(), tell: Arc::new(tell) })
    }

    /// The same place for another one of several answers.
    pub fn choice(&self, choice: usize) -> Arc<Self> {
        Arc::new(LiveAnswer { choice, said: Mutex::default(), tell: Arc::clone(&self.tell) })
    }

    /// The next piece.
    pub fn add(&self, piece: &str) {
        // Under the lock, so that the pieces are told in the order in which they are kept.
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.push_str(piece);
        (self.tell)(self.choice, piece);
    }

    /// The text of the whole answer: `text` where that begins with what was told; else what was told, and `text` behind
    /// it, after an empty line.
    pub fn settled(&self, text: String) -> String {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if text.starts_with(said.as_str()) { text } else { format!("{said}\n\n{text}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_stands_at_the_beginning_of_the_answer() {
        let heard: Arc<Mutex<Vec<(usize, String)>>> = Arc::default();
        let ears = Arc::clone(&heard);
        let live = LiveAnswer::new(move |choice, piece| ears.lock().unwrap().push((choice, piece.into())));
        let other = live.choice(1);
        assert_eq!(live.settled("all at once".into()), "all at once");
        live.add("I ");
        live.add("think");
        other.add("so");
        assert_eq!(live.settled("I think so".into()), "I think so");
        assert_eq!(live.settled("four".into()), "I think\n\nfour");
        assert_eq!(other.settled("so".into()), "so", "each choice has its own");
        let heard = heard.lock().unwrap();
        assert_eq!(*heard, [(0, "I ".into()), (0, "think".into()), (1, "so".into())]);
    }
}
