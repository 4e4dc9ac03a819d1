//! The access log: off the request path, never blocking.
//!
//! A worker formats a line into a buffer and offers it to a bounded queue. One thread writes. When
//! the reader of the log stalls the queue fills, further lines are dropped and counted in
//! `serin_access_log_dropped_total`, and requests go on as if nothing had happened.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use log::error;

use crate::metrics::metrics;
use crate::model::{self, AccessLogFormat};

/// Lines that may wait. At 300 bytes a line this bounds the queue to some 10 MiB.
const QUEUE_LINES: usize = 32 * 1024;
/// Lines are written together up to this size.
const BATCH_BYTES: usize = 64 * 1024;

/// The way to the writer of an access log; cheap to clone.
#[derive(Debug, Clone)]
pub struct AccessLog {
    /// Shape of a line.
    pub format: AccessLogFormat,
    path: Arc<Path>,
    queue: SyncSender<Message>,
}

#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

/// The file of the access log could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the access log {path}")]
pub struct OpenError {
    path: PathBuf,
    source: std::io::Error,
}

impl AccessLog {
    /// Opens the file and starts the writer, which ends when the last clone is dropped.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened for appending.
    pub fn open(settings: &model::AccessLog) -> Result<Self, OpenError> {
        let path = &settings.path;
        let failed = |source| OpenError {
            path: path.clone(),
            source,
        };
        let file = open(path).map_err(failed)?;
        let (queue, lines) = sync_channel(QUEUE_LINES);
        std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || write_lines(file, &lines))
            .map_err(failed)?;
        Ok(Self {
            format: settings.format,
            path: path.as_path().into(),
            queue,
        })
    }

    /// Says whether this log is what the settings ask for.
    pub fn is_opened_for(&self, settings: &model::AccessLog) -> bool {
        self.format == settings.format && *self.path == *settings.path
    }

    /// Offers a line, which ends in a newline; drops and counts it when the queue is full.
    pub fn offer(&self, line: Vec<u8>) {
        if self.queue.try_send(Message::Line(line)).is_err() {
            metrics().access_log_dropped.inc();
        }
    }

    /// Waits until everything offered so far is written, but no longer than `limit`.
    pub fn flush(&self, limit: Duration) {
        let (done, written) = sync_channel(1);
        match self.queue.try_send(Message::Flush(done)) {
            Ok(()) => drop(written.recv_timeout(limit)),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }
}

/// Opens a file for appending. The two standard streams are duplicated instead: they may be
/// sockets (as under systemd), which cannot be opened by name.
fn open(path: &Path) -> std::io::Result<File> {
    match path.to_str() {
        Some("/dev/stdout") => Ok(File::from(rustix::io::dup(std::io::stdout())?)),
        Some("/dev/stderr") => Ok(File::from(rustix::io::dup(std::io::stderr())?)),
        _ => OpenOptions::new().append(true).create(true).open(path),
    }
}

fn write_lines(mut file: File, queue: &Receiver<Message>) {
    let mut batch = Vec::with_capacity(BATCH_BYTES);
    let mut is_failing = false;
    while let Ok(first) = queue.recv() {
        let mut waiting = Vec::new();
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Line(line) => batch.extend_from_slice(&line),
                Message::Flush(done) => waiting.push(done),
            }
            next = if batch.len() < BATCH_BYTES {
                queue.try_recv().ok()
            } else {
                None
            };
        }
        match file.write_all(&batch) {
            Ok(()) => is_failing = false,
            Err(error) => {
                let lines = batch.iter().filter(|byte| **byte == b'\n').count();
                metrics().access_log_dropped.inc_by(lines as u64);
                if !is_failing {
                    error!("cannot write the access log: {error}; lines are dropped until it works again");
                }
                is_failing = true;
            }
        }
        batch.clear();
        for done in waiting {
            let _ = done.send(());
        }
    }
}
