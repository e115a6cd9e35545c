//! `--fsync`: one `fdatasync` for all the lines that were written while the last one ran.
//!
//! ```text
//! request 1   write ── ask ─────────────────┐ answered
//! request 2        write ── ask ─ ─ ─ ─ ─ ─ ┊ ─ ─ ─ ─ ─ ─ ┐ answered
//! request 3           write ── ask  ─ ─ ─ ─ ┊ ─ ─ ─ ─ ─ ─ ┤ answered
//! sync thread           └─ fdatasync (1) ───┘─ fdatasync (2, 3)
//! ```
//! A line is written before it is asked for, so the sync that answers a request started after the line was there.

use std::fs::File;
use std::io;
use std::sync::mpsc;
use std::thread;

use tokio::sync::oneshot;

/// Asks the sync thread and waits for it. The thread ends when the last of these is dropped.
pub struct GroupCommit {
    requests: mpsc::Sender<oneshot::Sender<bool>>,
}

impl GroupCommit {
    /// Starts the sync thread for this file.
    pub fn start(file: File) -> io::Result<Self> {
        let (requests, waiting) = mpsc::channel();
        thread::Builder::new().name("fdatasync".into()).spawn(move || sync_loop(&file, &waiting))?;
        Ok(Self { requests })
    }

    /// Returns once everything written before the call is on the disk; false if the disk said no.
    pub async fn settled(&self) -> bool {
        let (done, answer) = oneshot::channel();
        self.requests.send(done).is_ok() && answer.await.unwrap_or(false)
    }
}

fn sync_loop(file: &File, waiting: &mpsc::Receiver<oneshot::Sender<bool>>) {
    let mut healthy = true;
    while let Ok(first) = waiting.recv() {
        let batch: Vec<_> = std::iter::once(first).chain(waiting.try_iter()).collect();
        // After a failed fdatasync the kernel may have dropped the pages: a later success would prove nothing.
        healthy = healthy && file.sync_data().is_ok();
        for request in batch {
            // Err: the client went away and nobody waits any more.
            let _ = request.send(healthy);
        }
    }
}
