//! Start and stop: open the log, bind the address, serve until a signal, drain, leave.

use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::command_line::ServeOptions;
use crate::effect_log::EffectLog;
use crate::faults::Faults;
use crate::group_commit::GroupCommit;
use crate::ledger::Ledger;
use crate::service::{self, Service};

/// How long requests in flight may take to end after a signal.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// Why the service did not start, or stopped by itself: one line for stderr.
#[derive(Debug)]
pub enum Failure {
    Log(String),
    Listen(SocketAddr, io::Error),
    Runtime(io::Error),
}

impl Failure {
    /// Exit status, as `--help` says.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Log(_) | Self::Runtime(_) => 1,
            Self::Listen(..) => 2,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log(message) => out.write_str(message),
            Self::Listen(address, error) if error.kind() == io::ErrorKind::AddrInUse => {
                write!(out, "cannot listen on {address}: taken by another process; choose another --listen")
            }
            Self::Listen(address, error) => write!(out, "cannot listen on {address}: {error}"),
            Self::Runtime(error) => write!(out, "{error}"),
        }
    }
}

/// Runs the service until SIGTERM or SIGINT.
pub fn run(options: &ServeOptions) -> Result<(), Failure> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::Runtime)?;
    let result = runtime.block_on(serve(options));
    // Requests that outlived the drain are dropped here; what they wrote is in the log.
    runtime.shutdown_background();
    result
}

async fn serve(options: &ServeOptions) -> Result<(), Failure> {
    // Handlers first: a signal during the start then ends the process in order, too.
    let mut signals = Signals::listen().map_err(Failure::Runtime)?;
    // The address before the log: a second copy started by mistake is told so without touching the first one's file.
    let failed = |error| Failure::Listen(options.listen, error);
    let listener = TcpListener::bind(options.listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let (service, recovery) = open(options).map_err(Failure::Log)?;
    say(&format!("listening on http://{address}, log {} ({recovery})", options.log.display()));

    let (stop, stopped) = watch::channel(false);
    let serving = axum::serve(
        listener.tap_io(|connection| {
            // Answers are small and each is awaited: never hold one back for the next. An error here shows at the write.
            let _ = connection.set_nodelay(true);
        }),
        service::routes(service).into_make_service_with_connect_info::<SocketAddr>(),
    )
    .with_graceful_shutdown(wait_until_set(stopped));
    let mut serving = tokio::spawn(serving.into_future());

    let signal_name = tokio::select! {
        name = signals.next() => name,
        ended = &mut serving => return ended.map_err(io::Error::other).flatten().map_err(Failure::Runtime),
    };
    say(&format!("{signal_name}: no new connections; requests in flight may finish"));
    stop.send_replace(true);
    if tokio::time::timeout(DRAIN_LIMIT, serving).await.is_err() {
        say(&format!("requests still open after {} s are dropped", DRAIN_LIMIT.as_secs()));
    }
    Ok(())
}

fn open(options: &ServeOptions) -> Result<(Arc<Service>, String), String> {
    let (log, recovered) = EffectLog::open(&options.log)?;
    let group_commit = match options.fsync {
        true => Some(log.sync_handle().and_then(GroupCommit::start).map_err(|error| error.to_string())?),
        false => None,
    };
    let ledger = Ledger::new(log, &recovered);
    let mut recovery = format!("{} lines, {} applied", recovered.entries.len(), ledger.applied());
    if recovered.cut_bytes > 0 {
        recovery += &format!("; a half-written last line of {} bytes was cut off", recovered.cut_bytes);
    }
    let faults = Faults::new(options.fault_seed, options.accept_declined);
    let service = Service { ledger: Mutex::new(ledger), faults, dedupe: options.dedupe, group_commit };
    Ok((Arc::new(service), recovery))
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

async fn wait_until_set(mut flag: watch::Receiver<bool>) {
    // Err: the sender is gone, which only happens when the service is going down anyway.
    let _ = flag.wait_for(|set| *set).await;
}

/// A line for whoever started the service. A closed stdout is no reason to stop.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "payments: {line}");
}
