//! What stands behind the door: makes plans into generations, one after the other.

use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use log::{error, info, warn};
use pingora_core::server::ShutdownWatch;
use tokio::sync::mpsc;

use super::door::{Author, Door, Errand, Pause, Request, Write};
use super::fit::check;
use super::gather::{Gathered, Gathering};
use super::merge::{Conflict, merge};
use super::record::{LastSaid, Others, entry, kept, last_said, state_of, steps};
use super::refused::RefusedError;
use crate::access_log::AccessLog;
use crate::clock;
use crate::config::reload::{Source, with_causes};
use crate::config::{self, Known, Loaded, secret};
use crate::entity::{self, Change, State};
use crate::health::{Observed, dns};
use crate::metrics::metrics;
use crate::model::Settings;
use crate::snapshot::{Builder, Published, Snapshot};
use crate::store::{self, BaseChange, Store, Transaction};

/// What is in force, for those who only look.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// The entities in force.
    pub(crate) state: State,
    /// What the file said last.
    pub(crate) file: State,
    /// What the file and the Admin API had both changed when the file was last read.
    pub(crate) conflicts: Vec<Conflict>,
    /// How the last attempt to load the files ended.
    pub(crate) outcome: Outcome,
}

/// How the last attempt to load the files ended.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    /// Content of the files in force.
    pub(crate) hash: u64,
    /// Unix time of the last attempt.
    pub(crate) at: Duration,
    /// What was wrong with them; empty when they were taken.
    pub(crate) problems: String,
    /// What `check` warned about in what is in force.
    pub(crate) warnings: Vec<String>,
}

/// Keeps what is in force, and puts changes of it in force.
#[derive(Debug)]
pub struct Keeper {
    source: Source,
    store: Arc<dyn Store>,
    door: Door,
    queue: mpsc::Receiver<Request>,
    gathering: Gathering,
    observed: Arc<Observed>,
    published: Arc<Published>,
    known: Known,
    file: State,
    conflicts: Vec<Conflict>,
    outcome: Outcome,
    settings: Settings,
    /// Settings the process was started with: what a change is compared with that needs a restart.
    started_with: Settings,
    revision: u64,
    /// The store failed and may have kept what was refused: to be looked at before anything else.
    is_in_doubt: bool,
}

/// What a candidate is committed with.
#[derive(Default)]
struct Commit {
    changes: Vec<Change>,
    entries: Vec<store::Entry>,
    base: Option<BaseChange>,
    forget: Vec<String>,
}

impl Keeper {
    /// Puts in force what the store has kept and what the files now say.
    ///
    /// # Errors
    /// When the store cannot be read or written, or what it holds cannot be put in force.
    pub async fn start(
        source: Source,
        loaded: Loaded,
        mut known: Known,
        store: Arc<dyn Store>,
        observed: Arc<Observed>,
        resolver: &TokioResolver,
    ) -> Result<Self, RefusedError> {
        let kept = store.load().await?;
        known.state = state_of(kept.entities);
        observed.releases.remember(kept.notes);
        let LastSaid { file, hash, others } = last_said(kept.bases, &source.name());
        let settings = loaded.configuration.settings.clone();
        let snapshot = Snapshot::empty(kept.revision);
        let outcome = Outcome {
            hash,
            ..Outcome::default()
        };
        let (door, queue) = Door::new(View::default());
        let mut keeper = Self {
            source,
            store,
            door,
            queue,
            gathering: Gathering::new(clock::monotonic()),
            observed,
            published: Arc::new(Published::new(snapshot)),
            known,
            file,
            conflicts: Vec::new(),
            outcome,
            started_with: settings.clone(),
            settings,
            revision: kept.revision,
            is_in_doubt: false,
        };
        keeper.take_file(loaded, others, resolver).await?;
        Ok(keeper)
    }

    /// Returns the door to it.
    pub fn door(&self) -> Door {
        self.door.clone()
    }

    /// Returns where its generations are published.
    pub fn published(&self) -> Arc<Published> {
        self.published.clone()
    }

    /// Returns the store.
    pub fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    /// Takes changes until shutdown.
    pub async fn run(&mut self, resolver: &TokioResolver, mut shutdown: ShutdownWatch) {
        loop {
            let first = tokio::select! {
                Some(request) = self.queue.recv() => request,
                _ = shutdown.changed() => {
                    // Who waits is told, and who comes later finds the door shut.
                    self.queue.close();
                    while self.queue.try_recv().is_ok() {}
                    return;
                }
            };
            let Gathered { writes, then } = self.gathering.gather(first, &mut self.queue).await;
            if !writes.is_empty() {
                let begun = clock::monotonic();
                self.write(writes, resolver).await;
                let ended = clock::monotonic();
                self.gathering.rest(ended, ended - begun);
            }
            let goes_on = match then {
                None => true,
                Some(Errand::Load(done)) => {
                    self.load(resolver).await;
                    let _ = done.send(self.known.certificate_files.clone());
                    true
                }
                Some(Errand::Pause(pause)) => self.stand_still(pause, resolver).await,
            };
            if !goes_on {
                self.queue.close();
                return;
            }
        }
    }

    /// Waits while another process may have the store; says whether to go on after that.
    async fn stand_still(&mut self, pause: Pause, resolver: &TokioResolver) -> bool {
        // Another process continues ramps from what is kept, not from what is known here.
        let marks = self.observed.releases.marks().into_iter();
        let marks = marks.map(|(plugin, mark)| (plugin, Some(mark))).collect();
        if let Err(error) = self.store.note(marks).await {
            warn!("cannot keep how far ramps have come: {}", with_causes(&error));
        }
        if pause.is_paused.send(()).is_err() {
            return true;
        }
        let Ok(done) = pause.resume.await else {
            return false;
        };
        self.is_in_doubt = true;
        if let Err(refused) = self.settle_doubt(resolver).await {
            error!(
                "cannot read what another process may have kept, generation {} stays: {}",
                self.revision,
                with_causes(&refused)
            );
        }
        let _ = done.send(());
        true
    }

    /// Makes one generation of all writes; when that cannot be, each is tried by itself.
    async fn write(&mut self, writes: Vec<Write>, resolver: &TokioResolver) {
        let Err((writes, refused)) = self.try_write(writes, resolver).await else {
            return;
        };
        let is_to_blame = matches!(*refused, RefusedError::Entity(_));
        if writes.len() == 1 || !is_to_blame {
            for write in writes {
                let _ = write.done.send(Err(refused.clone()));
            }
            return;
        }
        for write in writes {
            if let Err((alone, refused)) = self.try_write(vec![write], resolver).await {
                for write in alone {
                    let _ = write.done.send(Err(refused.clone()));
                }
            }
        }
    }

    /// Answers all writes, or returns those that led to what cannot be put in force.
    async fn try_write(
        &mut self,
        writes: Vec<Write>,
        resolver: &TokioResolver,
    ) -> Result<(), (Vec<Write>, Arc<RefusedError>)> {
        if let Err(refused) = self.settle_doubt(resolver).await {
            return Err((writes, Arc::new(refused)));
        }
        let mut draft = self.known.state.clone();
        let mut commit = Commit::default();
        let mut planned = Vec::with_capacity(writes.len());
        for write in writes {
            let Some(changes) = (write.plan)(&draft) else {
                let _ = write.done.send(Ok(None));
                continue;
            };
            if !changes.is_empty() {
                commit.entries.push(entry(&write.author, &draft, &changes));
                entity::apply(&mut draft, &changes);
                commit.changes.extend(changes);
            }
            planned.push(write);
        }
        let is_change = !commit.changes.is_empty();
        if is_change
            && let Err(refused) = self
                .put_in_force(draft, Some(commit), self.settings.clone(), resolver)
                .await
        {
            return Err((planned, Arc::new(refused)));
        }
        if let Some(first) = planned.first().filter(|_| is_change) {
            let Author { who, what } = &first.author;
            match planned.len() - 1 {
                0 => info!("generation {} is in force: {what} by {who}", self.revision),
                more => info!(
                    "generation {} is in force: {what} by {who}, and {more} more",
                    self.revision
                ),
            }
        }
        for write in planned {
            let _ = write.done.send(Ok(Some(self.revision)));
        }
        Ok(())
    }

    /// Builds, commits if there is anything to keep, publishes. Nothing has changed when it fails.
    async fn put_in_force(
        &mut self,
        draft: State,
        commit: Option<Commit>,
        settings: Settings,
        resolver: &TokioResolver,
    ) -> Result<(), RefusedError> {
        let mut snapshot = self.compile(&draft, settings.clone(), resolver).await?;
        snapshot.generation = match commit {
            Some(commit) => {
                let transaction = Transaction {
                    changes: commit.changes.iter().map(kept).collect(),
                    base: commit.base,
                    forget: commit.forget,
                    entries: commit.entries,
                };
                let committed = self.store.commit(transaction, self.revision).await;
                committed.inspect_err(|_| self.is_in_doubt = true)?
            }
            None => self.revision,
        };
        self.settings = settings;
        self.publish(draft, snapshot);
        Ok(())
    }

    fn publish(&mut self, state: State, snapshot: Snapshot) {
        self.revision = snapshot.generation;
        self.published.publish(snapshot);
        self.known.memo.retain(&state);
        self.known.state = state;
        self.show();
    }

    fn show(&self) {
        self.door.show(View {
            state: self.known.state.clone(),
            file: self.file.clone(),
            conflicts: self.conflicts.clone(),
            outcome: self.outcome.clone(),
        });
    }

    async fn compile(
        &mut self,
        draft: &State,
        settings: Settings,
        resolver: &TokioResolver,
    ) -> Result<Snapshot, RefusedError> {
        let (configuration, findings) =
            config::build::build(&draft.in_order(), settings, &mut self.known.memo);
        if let Some(error) = findings.first_error() {
            return Err(error.into());
        }
        let previous = self.published.current();
        let secret = secret::obtain(&configuration)?;
        let access_log = match &configuration.settings.access_log {
            None => None,
            Some(wanted) => {
                let open = previous.settings.access_log.as_ref();
                Some(match open.filter(|log| log.is_opened_for(wanted)) {
                    Some(log) => log.clone(),
                    None => AccessLog::open(wanted)?,
                })
            }
        };
        let names = configuration.host_names().map(str::to_owned);
        dns::learn(&self.observed.names, resolver, names).await;
        let builder = Builder {
            previous: Some(&previous),
            secret: secret.as_ref(),
            access_log,
            observed: &self.observed,
            now: clock::now(),
        };
        Ok(builder.build(configuration, self.revision + 1))
    }

    /// After a failure of the store, takes over what it really holds.
    async fn settle_doubt(&mut self, resolver: &TokioResolver) -> Result<(), RefusedError> {
        if !self.is_in_doubt {
            return Ok(());
        }
        if self.store.revision().await? != self.revision {
            let kept = self.store.load().await?;
            let state = state_of(kept.entities);
            let mut snapshot = self.compile(&state, self.settings.clone(), resolver).await?;
            snapshot.generation = kept.revision;
            self.file = last_said(kept.bases, &self.source.name()).file;
            // Of the file's settings nothing is kept, so whatever it says now is new.
            self.outcome.hash = 0;
            self.publish(state, snapshot);
            warn!(
                "the store holds what was not known to be kept: generation {} is in force",
                self.revision
            );
        }
        self.is_in_doubt = false;
        Ok(())
    }

    /// Loads the files once and puts what they say in force if it is good and new.
    async fn load(&mut self, resolver: &TokioResolver) {
        let loaded = config::load(&self.source.paths, &self.source.overrides, &mut self.known);
        let result = match loaded {
            Ok(loaded) => match self.settle_doubt(resolver).await {
                Ok(()) if loaded.hash == self.outcome.hash => {
                    info!("configuration unchanged, generation {} stays", self.revision);
                    self.end("unchanged", None);
                    return;
                }
                Ok(()) => self.take_file(loaded, Others::default(), resolver).await,
                Err(refused) => Err(refused),
            },
            Err(report) => Err(RefusedError::Problems(report)),
        };
        match result {
            Ok(()) => {
                info!("generation {} is in force", self.revision);
                self.end("applied", None);
            }
            Err(refused) => {
                let text = with_causes(&refused);
                error!(
                    "configuration refused, generation {} stays:\n{text}",
                    self.revision
                );
                self.end("refused", Some(text));
            }
        }
    }

    fn end(&mut self, label: &str, problems: Option<String>) {
        metrics().reloads.with_label_values(&[label]).inc();
        metrics().reload_successful.set(i64::from(problems.is_none()));
        self.outcome.problems = problems.unwrap_or_default();
        self.outcome.at = clock::unix();
        self.show();
    }

    /// Merges what the files say into what is in force.
    async fn take_file(
        &mut self,
        loaded: Loaded,
        others: Others,
        resolver: &TokioResolver,
    ) -> Result<(), RefusedError> {
        let Loaded {
            configuration,
            entities,
            warnings,
            hash,
            ..
        } = loaded;
        let file = self.file.changed_to(&entities);
        let now = clock::unix().as_secs_f64();
        let merged = merge(&self.file, &self.known.state, &file, &entities, now);
        let mut draft = self.known.state.clone();
        entity::apply(&mut draft, &merged.changes);
        check(&merged, &self.known.state, &draft, &file)?;
        let author = Author {
            who: "file".to_owned(),
            what: self.source.name(),
        };
        let mut entries = Vec::new();
        if !merged.changes.is_empty() {
            entries.push(entry(&author, &self.known.state, &merged.changes));
        }
        let base = BaseChange {
            source: self.source.name(),
            hash,
            changes: match others.are_replaced {
                true => steps(&State::default(), &file),
                false => steps(&self.file, &file),
            },
        };
        // A start with the files of last time is not a change.
        let is_new = hash != self.outcome.hash
            || !others.names.is_empty()
            || !merged.changes.is_empty()
            || !base.changes.is_empty();
        let commit = is_new.then_some(Commit {
            changes: merged.changes,
            entries,
            base: Some(base),
            forget: others.names,
        });
        let outcome = Outcome {
            hash,
            at: clock::unix(),
            problems: String::new(),
            warnings: warnings.iter().map(ToString::to_string).collect(),
        };
        let before = (
            std::mem::replace(&mut self.file, file),
            std::mem::replace(&mut self.conflicts, merged.conflicts),
            std::mem::replace(&mut self.outcome, outcome),
        );
        let settings = configuration.settings;
        if let Err(refused) = self.put_in_force(draft, commit, settings, resolver).await {
            (self.file, self.conflicts, self.outcome) = before;
            return Err(refused);
        }
        self.report_restart_required();
        for conflict in &self.conflicts {
            warn!("conflict: {conflict}");
        }
        Ok(())
    }

    /// Tells of what a reload cannot change: sockets, threads and the store are set up once.
    fn report_restart_required(&self) {
        let (settings, started) = (&self.settings, &self.started_with);
        let changed: Vec<&str> = [
            ("threads", settings.threads != started.threads),
            ("listeners", settings.listeners != started.listeners),
            ("tls", settings.tls_min_version != started.tls_min_version),
            ("admin", settings.admin != started.admin),
            ("status", settings.status != started.status),
            ("store", settings.store != started.store),
            ("dns", settings.dns != started.dns),
            (
                "upgrade.socket",
                settings.upgrade_socket() != started.upgrade_socket(),
            ),
        ]
        .into_iter()
        .filter_map(|(name, is_changed)| is_changed.then_some(name))
        .collect();
        metrics().restart_required.set(i64::from(!changed.is_empty()));
        if !changed.is_empty() {
            warn!(
                "server.{} changed and needs a restart; the rest is in force",
                changed.join(", server.")
            );
        }
    }
}
