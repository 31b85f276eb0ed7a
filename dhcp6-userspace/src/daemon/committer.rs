//! Commits, in a thread of their own: messages are handled while the disk is at work, and share the next commit.

use std::{
    io,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use crate::lease::{Change, Store, StoreError};

/// The store, and the thread that commits. At most one commit is under way.
pub(super) struct Committer {
    /// `None` while a commit is under way.
    store: Option<Box<dyn Store>>,
    /// When the last commit began.
    begun: Instant,
    jobs: Sender<Job>,
    ends: Receiver<End>,
    /// Told of each end.
    bell: Arc<Notify>,
}

struct Job {
    store: Box<dyn Store>,
    work: Work,
}

/// What the thread is to do.
pub(super) enum Work {
    /// Store this.
    Commit(Vec<Change>),
    /// Some of what commits have left for later.
    Tidy,
}

struct End {
    store: Box<dyn Store>,
    outcome: Outcome,
}

/// How a piece of work has ended.
pub(super) struct Outcome {
    /// What was to be done.
    pub(super) work: Work,
    /// Whether it is.
    pub(super) result: Result<(), StoreError>,
}

impl Committer {
    /// Starts the thread. It ends with the committer.
    ///
    /// # Errors
    ///
    /// The system's, where it has no thread to give.
    pub(super) fn start(store: Box<dyn Store>) -> io::Result<Self> {
        let (jobs, todo) = channel::<Job>();
        let (done, ends) = channel();
        let bell = Arc::new(Notify::new());
        let door = Arc::clone(&bell);
        thread::Builder::new().name("commit".to_owned()).spawn(move || {
            for Job { mut store, work } in todo {
                let result = match &work {
                    Work::Commit(changes) => store.commit(changes),
                    Work::Tidy => store.tidy(),
                };
                let end = End { store, outcome: Outcome { work, result } };
                if done.send(end).is_err() {
                    break;
                }
                door.notify_one();
            }
        })?;
        Ok(Self { store: Some(store), begun: Instant::now(), jobs, ends, bell })
    }

    /// The store, while no commit is under way.
    pub(super) fn store(&mut self) -> Option<&mut (dyn Store + 'static)> {
        self.store.as_deref_mut()
    }

    /// Whether no commit is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.store.is_some()
    }

    /// For how long a commit has been under way; `None` where none is.
    pub(super) fn under_way_for(&self) -> Option<Duration> {
        (!self.is_idle()).then(|| self.begun.elapsed())
    }

    /// Begins a piece of work. Nothing where one is under way.
    pub(super) fn begin(&mut self, work: Work) {
        if let Some(store) = self.store.take() {
            self.begun = Instant::now();
            self.jobs.send(Job { store, work }).expect("the thread lives as long as this");
        }
    }

    /// What is told when a commit may have ended.
    pub(super) fn bell(&self) -> Arc<Notify> {
        Arc::clone(&self.bell)
    }

    /// How the commit has ended; `None` where none is under way, or has not ended yet.
    pub(super) fn outcome(&mut self) -> Option<Outcome> {
        self.ends.try_recv().ok().map(|end| self.take_back(end))
    }

    /// The same, but waits for the end, until `deadline` where there is one.
    pub(super) fn wait(&mut self, deadline: Option<Instant>) -> Option<Outcome> {
        if self.is_idle() {
            return None;
        }
        let end = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
            Some(patience) => match self.ends.recv_timeout(patience) {
                Err(RecvTimeoutError::Timeout) => return None,
                end => end.ok(),
            },
            None => self.ends.recv().ok(),
        };
        Some(self.take_back(end.expect("the thread lives as long as this")))
    }

    fn take_back(&mut self, End { store, outcome }: End) -> Outcome {
        self.store = Some(store);
        outcome
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{runtime::Builder, time::timeout};

    use super::{Committer, Work};
    use crate::{
        lease::{Change, ClockReading, MemoryStore},
        time::Time,
    };

    #[test]
    fn one_commit_at_a_time_and_each_comes_to_its_end() {
        let memory = MemoryStore::new();
        let mut committer = Committer::start(Box::new(memory.clone())).unwrap();
        let seen = |seconds| ClockReading {
            boot_id: [1; 16],
            booted_at: Time::EPOCH,
            seen: Time::from_millis(seconds),
        };
        assert!(committer.wait(None).is_none() && committer.outcome().is_none());
        memory.fail_next(1);
        for (round, succeeds) in [(1, false), (2, true)] {
            committer.begin(Work::Commit(vec![Change::PutClock(seen(round))]));
            assert!(!committer.is_idle() && committer.store().is_none());
            assert!(committer.under_way_for().is_some());
            // Not begun.
            committer.begin(Work::Commit(vec![Change::PutClock(seen(9))]));
            let outcome = committer.wait(None).expect("it is under way");
            assert!(
                matches!(outcome.work, Work::Commit(changes) if changes == [Change::PutClock(seen(round))])
            );
            assert_eq!(outcome.result.is_ok(), succeeds);
            assert!(committer.is_idle() && committer.wait(None).is_none());
            assert_eq!(committer.under_way_for(), None);
        }
        assert_eq!(committer.store().unwrap().clock().unwrap(), Some(seen(2)));
    }

    #[test]
    fn the_end_of_a_commit_wakes_who_waits() {
        let mut committer = Committer::start(Box::new(MemoryStore::new())).unwrap();
        let bell = committer.bell();
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        for _ in 0..100 {
            committer.begin(Work::Tidy);
            let outcome = runtime.block_on(async {
                loop {
                    timeout(Duration::from_secs(5), bell.notified()).await.expect("the bell rings");
                    if let Some(outcome) = committer.outcome() {
                        break outcome;
                    }
                }
            });
            assert!(outcome.result.is_ok());
        }
    }
}
