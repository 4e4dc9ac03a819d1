//! The background service that keeps the configuration in force equal to its source.
//!
//! Three things make it look: a change in a watched folder (editors and Kubernetes replace files,
//! so the folder is watched, not the file), SIGHUP, and a poll for file systems that report no
//! changes. A good configuration is compiled and published; a bad one is printed as `serin check`
//! prints it, shows in metrics and `/status`, and changes nothing.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use log::{error, info, warn};
use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecursiveMode, Watcher};
use pingora_core::server::ShutdownWatch;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::{Loaded, Overrides, load, secret};
use crate::access_log::AccessLog;
use crate::clock;
use crate::health::{Observed, dns};
use crate::metrics::metrics;
use crate::model::Settings;
use crate::snapshot::{Builder, Published, Snapshot};

/// A file is written in several steps; the source is read when none came for this long.
const QUIET: Duration = Duration::from_millis(15);
/// But no later than this after the first, so that a file written without end is read too.
const MAX_QUIET: Duration = Duration::from_millis(60);
/// How often the source's size and times are looked at where no event tells of a change.
const POLL: Duration = Duration::from_secs(2);

/// Where the configuration comes from.
#[derive(Debug, Clone)]
pub struct Source {
    /// Files and folders.
    pub paths: Vec<PathBuf>,
    /// What command line and environment say about `server`.
    pub overrides: Overrides,
}

/// What tells that a file may have other content: which one it is, its size and its times.
pub type Fingerprint = Vec<(PathBuf, Option<[i64; 5]>)>;

impl Source {
    /// Returns the fingerprint of every file, taken without reading one.
    pub fn fingerprint(&self) -> Fingerprint {
        let mut files = Vec::new();
        for path in &self.paths {
            match std::fs::read_dir(path) {
                Ok(entries) => files.extend(entries.flatten().map(|entry| entry.path())),
                Err(_) => files.push(path.clone()),
            }
        }
        files.sort_unstable();
        let of = |path: &PathBuf| {
            let file = std::fs::metadata(path).ok()?;
            Some([
                file.ino() as i64,
                file.size() as i64,
                file.mtime(),
                file.mtime_nsec(),
                file.ctime_nsec(),
            ])
        };
        files.into_iter().map(|path| (path.clone(), of(&path))).collect()
    }
}

/// A configuration could not be put in force.
#[derive(Debug, thiserror::Error)]
pub enum RefusedError {
    /// The source has problems; prints as `serin check` does.
    #[error("{0}")]
    Problems(super::Report),
    /// A secret is needed and there is none.
    #[error(transparent)]
    Secret(#[from] secret::SecretError),
    /// The access log cannot be opened.
    #[error(transparent)]
    AccessLog(#[from] crate::access_log::OpenError),
}

/// How the last attempt to load the source ended.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Content of the source in force.
    pub hash: u64,
    /// Unix time of the last attempt.
    pub at: Duration,
    /// What was wrong with it; empty when it was taken.
    pub problems: String,
    /// What `check` warned about in what is in force.
    pub warnings: Vec<String>,
}

/// Drives the pipeline and reports how it went.
pub struct Reload {
    source: Source,
    published: Arc<Published>,
    observed: Arc<Observed>,
    outcome: Mutex<Outcome>,
    /// Settings the process was started with: what a change is compared with that needs a restart.
    started_with: Settings,
    /// The source as it was just before it was first read, so that no change is missed in between.
    loaded_from: Fingerprint,
}

/// Compiles what was loaded: the rest of the way of a change but its last step.
///
/// # Errors
///
/// When the configuration cannot be put in force; nothing has changed then.
pub async fn compile(
    loaded: Loaded,
    observed: &Observed,
    resolver: &TokioResolver,
    previous: Option<&Snapshot>,
) -> Result<(Snapshot, Outcome), RefusedError> {
    let Loaded {
        configuration,
        warnings,
        hash,
        ..
    } = loaded;
    let secret = secret::obtain(&configuration)?;
    let access_log = match (&configuration.settings.access_log, previous) {
        (None, _) => None,
        (Some(wanted), previous) => {
            let open = previous.and_then(|snapshot| snapshot.settings.access_log.as_ref());
            Some(match open.filter(|log| log.is_opened_for(wanted)) {
                Some(log) => log.clone(),
                None => AccessLog::open(wanted)?,
            })
        }
    };
    dns::learn(
        &observed.names,
        resolver,
        configuration.host_names().map(str::to_owned),
    )
    .await;
    let builder = Builder {
        previous,
        secret: secret.as_ref(),
        access_log,
        observed,
        now: clock::now(),
    };
    let generation = previous.map_or(1, |snapshot| snapshot.generation + 1);
    let outcome = Outcome {
        hash,
        at: clock::unix(),
        problems: String::new(),
        warnings: warnings.iter().map(ToString::to_string).collect(),
    };
    Ok((builder.build(configuration, generation), outcome))
}

impl Reload {
    /// Continues from the configuration that the process was started with; `loaded_from` is the
    /// fingerprint of the source taken before that was read.
    pub fn new(
        source: Source,
        published: Arc<Published>,
        observed: Arc<Observed>,
        first: Outcome,
        loaded_from: Fingerprint,
    ) -> Self {
        let started_with = published.current().source.settings.clone();
        Self {
            source,
            published,
            observed,
            outcome: Mutex::new(first),
            started_with,
            loaded_from,
        }
    }

    /// Returns how the last attempt ended.
    pub fn outcome(&self) -> Outcome {
        self.lock().clone()
    }

    /// Reloads on every change of the source and on SIGHUP until shutdown.
    ///
    /// Calls `watching` as soon as neither a change nor a signal can be missed.
    pub async fn run(&self, resolver: &TokioResolver, mut shutdown: ShutdownWatch, watching: impl FnOnce()) {
        let (tell, mut changes) = mpsc::channel(1);
        let _watcher = self.watch_folders(tell);
        let Ok(mut hangup) =
            signal(SignalKind::hangup()).inspect_err(|error| error!("cannot watch for SIGHUP: {error}"))
        else {
            return;
        };
        watching();
        let mut seen = self.loaded_from.clone();
        let mut is_asked_for = false;
        loop {
            // First of all for a change since the source was read, of which no event told.
            let now = self.source.fingerprint();
            if is_asked_for || now != seen {
                seen = now;
                self.reload(resolver).await;
            }
            is_asked_for = tokio::select! {
                _ = hangup.recv() => true,
                Some(()) = changes.recv() => {
                    let quiet = async { while tokio::time::timeout(QUIET, changes.recv()).await.is_ok() {} };
                    let _ = tokio::time::timeout(MAX_QUIET, quiet).await;
                    false
                }
                () = tokio::time::sleep(POLL) => false,
                _ = shutdown.changed() => return,
            };
        }
    }

    /// Loads the source once and puts it in force if it is good and new.
    async fn reload(&self, resolver: &TokioResolver) {
        let previous = self.published.current();
        let outcome = match load(&self.source.paths, &self.source.overrides) {
            Ok(loaded) if loaded.hash == self.lock().hash => {
                info!(
                    "configuration unchanged, generation {} stays",
                    previous.generation
                );
                self.end("unchanged", Ok(None));
                return;
            }
            Ok(loaded) => compile(loaded, &self.observed, resolver, Some(&previous)).await,
            Err(report) => Err(RefusedError::Problems(report)),
        };
        match outcome {
            Ok((snapshot, outcome)) => {
                self.report_restart_required(&snapshot.source.settings);
                let generation = snapshot.generation;
                self.published.publish(snapshot);
                info!("generation {generation} is in force");
                self.end("applied", Ok(Some(outcome)));
            }
            Err(refused) => {
                let text = with_causes(&refused);
                error!(
                    "configuration refused, generation {} stays:\n{text}",
                    previous.generation
                );
                self.end("refused", Err(text));
            }
        }
    }

    fn end(&self, label: &str, result: Result<Option<Outcome>, String>) {
        metrics().reloads.with_label_values(&[label]).inc();
        metrics().reload_successful.set(i64::from(result.is_ok()));
        let mut outcome = self.lock();
        match result {
            Ok(Some(new)) => *outcome = new,
            Ok(None) => outcome.problems.clear(),
            Err(problems) => outcome.problems = problems,
        }
        outcome.at = clock::unix();
    }

    /// Tells of what a reload cannot change: sockets and threads are set up once.
    fn report_restart_required(&self, settings: &Settings) {
        let started = &self.started_with;
        let changed: Vec<&str> = [
            ("threads", settings.threads != started.threads),
            ("listeners", settings.listeners != started.listeners),
            ("status", settings.status != started.status),
            ("dns", settings.dns != started.dns),
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

    fn watch_folders(&self, tell: mpsc::Sender<()>) -> Option<notify::RecommendedWatcher> {
        let on_event = move |event: notify::Result<notify::Event>| {
            let is_read = |kind: &EventKind| matches!(kind, EventKind::Access(access) if *access != AccessKind::Close(AccessMode::Write));
            // A full queue already says that something changed; an error may hide a change.
            if event.map_or(true, |event| !is_read(&event.kind)) {
                let _ = tell.try_send(());
            }
        };
        let watched = notify::recommended_watcher(on_event).and_then(|mut watcher| {
            for folder in self.folders() {
                watcher.watch(&folder, RecursiveMode::NonRecursive)?;
            }
            Ok(watcher)
        });
        watched
            .inspect_err(|error| warn!("cannot watch for changes: {error}; looking every {POLL:?}"))
            .ok()
    }

    fn folders(&self) -> BTreeSet<PathBuf> {
        let folder_of = |path: &PathBuf| match path.parent() {
            _ if path.is_dir() => path.clone(),
            Some(parent) if parent != Path::new("") => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        self.source.paths.iter().map(folder_of).collect()
    }

    /// No holder of this lock can panic half-way through a change, so a poisoned one is still whole.
    fn lock(&self) -> std::sync::MutexGuard<'_, Outcome> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An error with its causes, as one text.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
