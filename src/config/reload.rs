//! The background service that keeps the configuration in force equal to its source.
//!
//! Three things make it look: a change in a watched folder (editors and Kubernetes replace files,
//! so the folder is watched, not the file), SIGHUP, and a poll for file systems that report no
//! changes. What the source then says goes through the one door (`control`): a good configuration is merged
//! into what is in force; a bad one is printed as `serin check` prints it, shows in metrics and `/status`,
//! and changes nothing.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use log::{error, warn};
use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecursiveMode, Watcher};
use pingora_core::server::ShutdownWatch;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::Overrides;
use crate::control::Door;
use crate::notify as manager;

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
    /// Returns what the store and the audit trail know it by: the paths as they were given.
    pub fn name(&self) -> String {
        let paths: Vec<_> = self.paths.iter().map(|path| path.display().to_string()).collect();
        paths.join(" ")
    }

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
        files.into_iter().map(fingerprint_of).collect()
    }
}

/// Looks at the files of certificates that are named under `server`, right or wrong.
pub(super) fn fingerprint_certificates(server: &Value) -> Fingerprint {
    let certificates = server.get("certificates").and_then(Value::as_array);
    let certificates = certificates.map(Vec::as_slice).unwrap_or_default();
    let names = certificates
        .iter()
        .flat_map(|files| ["cert_file", "key_file"].map(|field| files.get(field)));
    let names = names.flatten().filter_map(Value::as_str);
    names.map(|name| fingerprint_of(name.into())).collect()
}

/// Returns what tells that this file may have other content.
fn fingerprint_of(path: PathBuf) -> (PathBuf, Option<[i64; 5]>) {
    let of = |file: std::fs::Metadata| {
        [
            file.ino() as i64,
            file.size() as i64,
            file.mtime(),
            file.mtime_nsec(),
            file.ctime_nsec(),
        ]
    };
    let found = std::fs::metadata(&path).ok().map(of);
    (path, found)
}

fn have_changed(files: &Fingerprint) -> bool {
    files
        .iter()
        .any(|(path, known)| fingerprint_of(path.clone()).1 != *known)
}

/// Watches the source and has it loaded when it changes.
#[derive(Debug)]
pub struct Reload {
    source: Source,
    door: Door,
    /// The source as it was just before it was first read, so that no change is missed in between.
    loaded_from: Fingerprint,
    /// So the certificates in files, which may lie anywhere: a change is found by the poll.
    certificates: Fingerprint,
}

impl Reload {
    /// Continues from the source that the process was started with; `loaded_from` and `certificates` are the
    /// fingerprints of its files and of those that these name, taken before they were read.
    pub fn new(source: Source, door: Door, loaded_from: Fingerprint, certificates: Fingerprint) -> Self {
        Self {
            source,
            door,
            loaded_from,
            certificates,
        }
    }

    /// Reloads on every change of the source and on SIGHUP until shutdown.
    ///
    /// Calls `watching` as soon as neither a change nor a signal can be missed.
    pub async fn run(&self, mut shutdown: ShutdownWatch, watching: impl FnOnce()) {
        let (tell, mut changes) = mpsc::channel(1);
        let _watcher = self.watch_folders(tell);
        let Ok(mut hangup) =
            signal(SignalKind::hangup()).inspect_err(|error| error!("cannot watch for SIGHUP: {error}"))
        else {
            return;
        };
        watching();
        let mut seen = self.loaded_from.clone();
        let mut certificates = self.certificates.clone();
        let mut is_asked_for = false;
        loop {
            // First of all for a change since the source was read, of which no event told.
            let now = self.source.fingerprint();
            if is_asked_for || now != seen || have_changed(&certificates) {
                seen = now;
                // The manager waits for the end of a reload only that it has been told of.
                if is_asked_for {
                    manager::reloading();
                }
                // What is named now is watched, not what was: a file that is missing may come.
                if let Some(named) = self.door.load().await {
                    certificates = named;
                }
                if is_asked_for {
                    manager::reloaded();
                }
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
