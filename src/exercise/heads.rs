//! Whose turn it is on a timeline.

use std::collections::{BTreeSet, HashMap};

use crate::exercise::causes::Place;

/// What hosts have told next: one event of each, by its time and the host.
#[derive(Default)]
pub(super) struct Heads {
    /// Those whose cause has its place.
    ready: BTreeSet<(i64, usize)>,
    /// Those whose cause has none yet.
    waiting: BTreeSet<(i64, usize)>,
    /// The same, by that cause.
    by_cause: HashMap<Place, Vec<(i64, usize)>>,
}

impl Heads {
    pub(super) fn enter(&mut self, head: (i64, usize), waits_for: Option<Place>) {
        match waits_for {
            None => {
                self.ready.insert(head);
            }
            Some(cause) => {
                self.waiting.insert(head);
                self.by_cause.entry(cause).or_default().push(head);
            }
        }
    }

    /// Takes the earliest of those that are ready, and tells its host.
    pub(super) fn take(&mut self) -> Option<usize> {
        // Causes cannot go in a circle; if what agents tell did, it would be shown by the clocks.
        self.ready.pop_first().or_else(|| self.waiting.pop_first()).map(|(_, host)| host)
    }

    /// What was caused by this event waits no longer.
    pub(super) fn free(&mut self, cause: Place) {
        for head in self.by_cause.remove(&cause).unwrap_or_default() {
            if self.waiting.remove(&head) {
                self.ready.insert(head);
            }
        }
    }
}
