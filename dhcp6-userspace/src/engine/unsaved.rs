//! Changes that the store has yet to take.

use hashbrown::HashSet;

use crate::{
    lease::{Change, Lease, LeaseState},
    pool::Resource,
};

/// The changes of a batch that must not get lost when its commit fails, because no message asks for them again:
/// a lease that has ended would hold its client's next one back after a restart, and what is in conflict would
/// be given out.
#[derive(Debug, Default)]
pub(super) struct Unsaved(Vec<Change>);

impl Unsaved {
    /// Puts what earlier commits failed to store in front of the changes of this round, and notes what must be
    /// stored of all that.
    pub(super) fn lead(&mut self, changes: &mut Vec<Change>) {
        changes.splice(..0, std::mem::take(&mut self.0));
        // The last change of each row says what is in it.
        let mut rows = HashSet::new();
        let lasting = changes.iter().filter(|change| !is_asked_for_again(change)).rev();
        self.0 = lasting.filter(|change| rows.insert(row(change))).cloned().collect();
        self.0.reverse();
    }

    /// The commit succeeded.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// Whether the change comes again by itself: the client, which was not answered, repeats its message, and what the daemon
/// notes of itself it notes again.
fn is_asked_for_again(change: &Change) -> bool {
    matches!(
        change,
        Change::PutLease(Lease { state: LeaseState::Bound, .. })
            | Change::PutClock(_)
            | Change::PutServerDuid(_)
    )
}

/// The row that a change is about, if it is one of many; the flag tells the two tables apart.
fn row(change: &Change) -> Option<(bool, Resource)> {
    Some(match change {
        Change::PutLease(_) | Change::RemoveLease(_) => (false, change.lease()?),
        Change::PutConflict(conflict) => (true, conflict.resource),
        Change::RemoveConflict(resource) => (true, *resource),
        Change::PutClock(_) | Change::PutServerDuid(_) => return None,
    })
}
