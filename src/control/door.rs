//! How a change is handed in.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};

use super::keeper::View;
use super::refused::RefusedError;
use crate::config::reload::Fingerprint;
use crate::entity::{Change, State};

/// Changes that may wait; who comes when it is full waits before the door.
const QUEUE: usize = 1024;

/// Hands changes in, and shows what is in force.
#[derive(Debug, Clone)]
pub struct Door {
    requests: mpsc::Sender<Request>,
    view: Arc<arc_swap::ArcSwap<View>>,
}

/// Who changes something, and by what.
#[derive(Debug, Clone)]
pub(crate) struct Author {
    /// Such as the address of a client.
    pub(crate) who: String,
    /// Such as `PATCH /services/checkout`.
    pub(crate) what: String,
}

/// Why a write changed nothing.
#[derive(Debug)]
pub(crate) enum WriteError<E> {
    /// The plan found a reason.
    Plan(E),
    /// What it would have led to could not be put in force.
    Refused(Arc<RefusedError>),
}

/// Makes steps of the entities in force; `None` when it refuses, which the plan keeps for itself.
pub(super) type Plan = Box<dyn Fn(&State) -> Option<Vec<Change>> + Send>;

/// What waits before the door.
pub(super) enum Request {
    Write(Write),
    Errand(Errand),
}

/// What is done by itself, between writes.
pub(super) enum Errand {
    Load(oneshot::Sender<Fingerprint>),
    Pause(Pause),
}

/// What holds the keeper up, and for how long.
pub(super) struct Pause {
    /// Told when the keeper stands still.
    pub(super) is_paused: oneshot::Sender<()>,
    /// Told when it is to go on; gone when it is never to go on again.
    pub(super) resume: oneshot::Receiver<oneshot::Sender<()>>,
}

/// Holds changes of every origin up while it lives. Dropped without [`Paused::resume`], it leaves the
/// keeper standing for good: another process has taken over.
#[derive(Debug)]
pub(crate) struct Paused(oneshot::Sender<oneshot::Sender<()>>);

impl Paused {
    /// Lets changes go on; returns when what another process may have kept meanwhile is in force here.
    pub(crate) async fn resume(self) {
        let (done, is_done) = oneshot::channel();
        if self.0.send(done).is_ok() {
            let _ = is_done.await;
        }
    }
}

pub(super) struct Write {
    pub(super) author: Author,
    pub(super) plan: Plan,
    /// The generation that serves it; `Ok(None)` when the plan has refused.
    pub(super) done: oneshot::Sender<Result<Option<u64>, Arc<RefusedError>>>,
}

impl Door {
    /// Makes a door and what stands behind it.
    pub(super) fn new(view: View) -> (Self, mpsc::Receiver<Request>) {
        let (requests, queue) = mpsc::channel(QUEUE);
        let view = Arc::new(arc_swap::ArcSwap::from_pointee(view));
        (Self { requests, view }, queue)
    }

    /// Returns what is in force.
    pub(crate) fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    pub(super) fn show(&self, view: View) {
        self.view.store(Arc::new(view));
    }

    /// Loads the files again; returns when what they say is in force or refused, with the files of
    /// certificates that they name. `None` when the process is about to end.
    pub(crate) async fn load(&self) -> Option<Fingerprint> {
        let (done, is_done) = oneshot::channel();
        self.requests
            .send(Request::Errand(Errand::Load(done)))
            .await
            .ok()?;
        is_done.await.ok()
    }

    /// Holds changes up; returns when none is under way. `None` when the process is about to end.
    pub(crate) async fn pause(&self) -> Option<Paused> {
        let (told, is_paused) = oneshot::channel();
        let (paused, resume) = oneshot::channel();
        let pause = Pause {
            is_paused: told,
            resume,
        };
        self.requests
            .send(Request::Errand(Errand::Pause(pause)))
            .await
            .ok()?;
        is_paused.await.ok()?;
        Some(Paused(paused))
    }

    /// Makes a change; returns what the plan made and the generation with it, once every request that
    /// begins is served by that generation or a later one.
    ///
    /// The plan may be made several times, each time on what is then in force; it is to have no other
    /// effect than its result.
    ///
    /// # Errors
    /// When the plan refuses, or what it leads to cannot be put in force; nothing has changed then.
    pub(crate) async fn write<T, E>(
        &self,
        author: Author,
        plan: impl Fn(&State) -> Result<(Vec<Change>, T), E> + Send + 'static,
    ) -> Result<(T, u64), WriteError<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        let result = Arc::new(Mutex::new(None));
        let slot = result.clone();
        let plan = Box::new(move |state: &State| {
            let (changes, result) = match plan(state) {
                Ok((changes, made)) => (Some(changes), Ok(made)),
                Err(reason) => (None, Err(reason)),
            };
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
            changes
        });
        let (done, answer) = oneshot::channel();
        let write = Write { author, plan, done };
        let gone = || WriteError::Refused(Arc::new(RefusedError::ShuttingDown));
        (self.requests.send(Request::Write(write)).await).map_err(|_| gone())?;
        let generation = match answer.await {
            Ok(answer) => answer.map_err(WriteError::Refused)?,
            Err(_) => return Err(gone()),
        };
        let made = result.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (made, generation) {
            (Some(Ok(made)), Some(generation)) => Ok((made, generation)),
            (Some(Err(reason)), _) => Err(WriteError::Plan(reason)),
            _ => Err(gone()),
        }
    }
}
