//! Running what needs the network, until it is done or somebody interrupts it.

use std::future::Future;
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use unlade_oci::ErrorClass;

use crate::error::Error;

/// How long the threads of an interrupted pull may take to clean up. What they leave is removed by the next pull.
const CLEANUP: Duration = Duration::from_millis(800);

/// Runs a future on a runtime of its own.
///
/// SIGINT and SIGTERM drop the future, which stops everything below it, and give the threads a moment to remove what they
/// have begun. A second signal ends the process at once.
pub(crate) fn run<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime = Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|source| Error::Runtime { source })?;
    let interrupted = watch_signals()?;
    let result = runtime.block_on(async {
        tokio::select! {
            // A result that is there counts, even if a signal came in the same moment.
            biased;
            result = work => result,
            Ok(()) = interrupted => Err(Error::Interrupted),
        }
    });
    match result {
        Err(Error::Interrupted) => runtime.shutdown_timeout(CLEANUP),
        // Nothing is left to do but for connections that idle.
        Ok(_) | Err(_) => runtime.shutdown_background(),
    }
    result
}

/// Starts the thread that receives the signals; it lasts as long as the process.
fn watch_signals() -> Result<oneshot::Receiver<()>, Error> {
    let failed = |source| Error::Runtime { source };
    let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let signals = {
        let _context = runtime.enter();
        (
            signal(SignalKind::interrupt()).map_err(failed)?,
            signal(SignalKind::terminate()).map_err(failed)?,
        )
    };
    let (first, receiver) = oneshot::channel();
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || wait_twice(&runtime, signals, first))
        .map_err(failed)?;
    Ok(receiver)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a second signal means now, whatever is left unfinished"
)]
#[expect(clippy::exit, reason = "as above")]
fn wait_twice(runtime: &Runtime, mut signals: (Signal, Signal), first: oneshot::Sender<()>) {
    let mut next = || {
        runtime.block_on(async {
            tokio::select! {
                _ = signals.0.recv() => {}
                _ = signals.1.recv() => {}
            }
        });
    };
    next();
    if first.send(()).is_ok() {
        next();
    }
    std::process::exit(ErrorClass::Interrupted.exit_code().into());
}
