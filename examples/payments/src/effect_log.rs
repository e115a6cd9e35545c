//! The append-only log of what this service did: one JSON object a line, written before the answer is given.
//!
//! What one line promises: it is written with one `write(2)` on a file opened with `O_APPEND`, so lines never mix and
//! a line whose `write` returned is in the kernel's page cache. It then survives this process, SIGKILL included.
//! It does not survive power loss or a kernel crash before the kernel wrote the page back: that takes `--fsync`
//! ([`crate::group_commit`]). A process killed inside `write` may leave part of a line; nobody was given an
//! answer for it, and [`crate::log_recovery`] cuts it off at the next start.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::delivery::Delivery;
use crate::log_recovery::{self, Recovered};
use crate::order::{Currency, OrderPlaced};

/// What became of a delivery.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The money was taken.
    Applied,
    /// The key was known: the stored answer was given again.
    Repeat,
    /// The order was turned down for a business reason (see `code`).
    Refused,
    /// The worker that sent it no longer holds the key.
    Fenced,
}

/// One line of the log.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Entry {
    /// Number of the line, from 1.
    pub seq: u64,
    pub kind: Kind,
    /// Problem code of a refused or fenced delivery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    pub key: String,
    pub ce_id: String,
    pub order_id: String,
    pub customer_id: String,
    pub amount_cents: i64,
    pub currency: Currency,
    pub attempt: u64,
    pub crashes: u64,
    pub token: u64,
    pub replay_id: Option<String>,
    pub origin: String,
    /// When the line was written, in milliseconds since the epoch.
    pub at_ms: u64,
}

impl Entry {
    /// The line that says what became of this delivery of this order.
    pub fn new(seq: u64, kind: Kind, delivery: &Delivery, order: &OrderPlaced, at_ms: u64) -> Self {
        Self {
            seq,
            kind,
            code: None,
            key: delivery.key.clone(),
            ce_id: delivery.ce_id.clone(),
            order_id: order.order_id.clone(),
            customer_id: order.customer_id.clone(),
            amount_cents: order.amount_cents,
            currency: order.currency,
            attempt: delivery.attempt,
            crashes: delivery.crashes,
            token: delivery.token,
            replay_id: delivery.replay_id.clone(),
            origin: delivery.origin.clone(),
            at_ms,
        }
    }
}

/// The open log; this process is its only writer.
pub struct EffectLog {
    path: PathBuf,
    file: File,
    length: u64,
    /// Set when a failed write could not be undone: the file may end in half a line, so nothing may follow it.
    broken: bool,
}

impl EffectLog {
    /// Opens (or creates) the log, takes it for this process, and reads what it holds. Errors are one line for a person.
    pub fn open(path: &Path) -> Result<(Self, Recovered), String> {
        let said = |error: io::Error| format!("cannot use log {}: {error}", path.display());
        let file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(said)?;
        if !file.metadata().map_err(said)?.is_file() {
            return Err(format!("cannot use log {}: not a regular file", path.display()));
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(format!("log {} is in use by another process; stop it first", path.display()));
            }
            Err(TryLockError::Error(error)) => return Err(said(error)),
        }
        let recovered =
            log_recovery::read(&file).map_err(|error| format!("log {}: {error}", path.display()))?;
        if recovered.cut_bytes > 0 {
            file.set_len(recovered.valid_bytes).map_err(said)?;
        }
        let length = recovered.valid_bytes;
        Ok((Self { path: path.into(), file, length, broken: false }, recovered))
    }

    /// Appends one line with one `write(2)`. On an error nothing of it is in the log.
    pub fn append(&mut self, entry: &Entry) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other("an earlier write failed half way and could not be undone"));
        }
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        let result = match self.file.write(&line) {
            Ok(written) if written == line.len() => {
                self.length += written as u64;
                return Ok(());
            }
            Ok(written) => {
                Err(io::Error::other(format!("only {written} of {} bytes fitted (disk full?)", line.len())))
            }
            Err(error) => Err(error),
        };
        self.broken = self.file.set_len(self.length).is_err();
        result
    }

    /// A second handle on the same file, for `fdatasync` from another thread.
    pub fn sync_handle(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}
