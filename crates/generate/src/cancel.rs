//! A flag that stops work in flight.

use std::sync::Arc;
use tokio::sync::watch;

/// Cancels everything that holds a clone of it or a child of it. Cheap to clone.
///
/// Dropping a future cancels one call; the token cancels all calls of a context from outside (Ctrl-C, a client that
/// went away).
#[derive(Debug, Clone)]
pub struct CancelToken {
    own: Arc<watch::Sender<bool>>,
    parents: Vec<Arc<watch::Sender<bool>>>,
}

impl Default for CancelToken {
    fn default() -> Self {
        CancelToken { own: Arc::new(watch::Sender::new(false)), parents: Vec::new() }
    }
}

impl CancelToken {
    /// A token that is not cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// A token that is cancelled with this one, and can be cancelled alone.
    pub fn child(&self) -> Self {
        let mut parents = self.parents.clone();
        parents.push(Arc::clone(&self.own));
        CancelToken { own: Arc::new(watch::Sender::new(false)), parents }
    }

    /// Cancels; further calls do nothing.
    pub fn cancel(&self) {
        self.own.send_replace(true);
    }

    /// Whether this token or one above it is cancelled.
    pub fn is_cancelled(&self) -> bool {
        *self.own.borrow() || self.parents.iter().any(|parent| *parent.borrow())
    }

    /// Returns when the token is cancelled.
    pub async fn cancelled(&self) {
        let waits = std::iter::once(&self.own).chain(&self.parents).map(|sender| {
            let mut receiver = sender.subscribe();
            Box::pin(async move {
                // The sender lives as long as `self`, so waiting ends only by the value.
                let _ = receiver.wait_for(|cancelled| *cancelled).await;
            })
        });
        futures::future::select_all(waits).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_parent_cancels_its_children_and_not_the_other_way() {
        let parent = CancelToken::new();
        let child = parent.child();
        let grandchild = child.child();
        child.cancel();
        assert!(child.is_cancelled() && grandchild.is_cancelled() && !parent.is_cancelled());
        let other = parent.child();
        let waiting = tokio::spawn(async move { other.cancelled().await });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        parent.cancel();
        waiting.await.unwrap();
    }
}
