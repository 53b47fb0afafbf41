//! Running what needs the network, until it is done, its time is over, or somebody interrupts it.

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use unlade_extract::Progress;
use unlade_oci::ErrorClass;

use crate::error::Error;

/// How long the threads of an interrupted pull may take to clean up. What they leave is removed by the next pull.
const CLEANUP: Duration = Duration::from_millis(800);

/// Runs a future on a runtime of its own.
///
/// SIGINT and SIGTERM drop the future, which stops everything below it, and give the threads a moment to remove what they
/// have begun. A second signal ends the process at once. When `limit` is over, that is as one signal.
pub(crate) fn run<T>(limit: Option<Duration>, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime = Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|source| Error::Runtime { source })?;
    let interrupted = listen()?;
    let result = runtime.block_on(async {
        tokio::select! {
            // A result that is there counts, even if a signal came in the same moment.
            biased;
            result = work => result,
            Ok(()) = interrupted => Err(Error::Interrupted),
            limit = over(limit) => Err(Error::TimeLimit { limit }),
        }
    });
    match result {
        Err(Error::Interrupted | Error::TimeLimit { .. }) => runtime.shutdown_timeout(CLEANUP),
        // Nothing is left to do but for connections that idle.
        Ok(_) | Err(_) => runtime.shutdown_background(),
    }
    result
}

/// Runs blocking work, which `progress` stops.
///
/// SIGINT and SIGTERM stop it, and it is waited for, as it removes what it has begun. A second signal ends the process at
/// once.
pub(crate) fn run_blocking<T>(progress: &Progress, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    let interrupted = listen()?;
    let stopped = progress.clone();
    thread::Builder::new()
        .name("interrupt".into())
        .spawn(move || {
            if interrupted.blocking_recv().is_ok() {
                stopped.cancel();
            }
        })
        .map_err(|source| Error::Runtime { source })?;
    match work() {
        Err(_) if progress.is_cancelled() => Err(Error::Interrupted),
        result => result,
    }
}

/// Lets signals pass from now on: they are somebody else's matter.
pub(crate) fn ignore() -> Result<(), Error> {
    listen()?;
    LISTENER.lock().unwrap_or_else(PoisonError::into_inner).ignores = true;
    Ok(())
}

/// Whom the next signal is told.
static LISTENER: Mutex<Listener> = Mutex::new(Listener {
    sender: None,
    is_started: false,
    ignores: false,
});

struct Listener {
    sender: Option<oneshot::Sender<()>>,
    is_started: bool,
    ignores: bool,
}

/// Returns what is told of the next signal. Whoever listened until now is not told any more.
fn listen() -> Result<oneshot::Receiver<()>, Error> {
    let (sender, receiver) = oneshot::channel();
    let mut listener = LISTENER.lock().unwrap_or_else(PoisonError::into_inner);
    listener.sender = Some(sender);
    if !listener.is_started {
        watch_signals()?;
        listener.is_started = true;
    }
    Ok(receiver)
}

/// Waits until the time is over, and returns how long that was.
async fn over(limit: Option<Duration>) -> Duration {
    match limit {
        Some(limit) => {
            tokio::time::sleep(limit).await;
            limit
        }
        None => std::future::pending().await,
    }
}

/// Starts the thread that receives the signals; it lasts as long as the process.
fn watch_signals() -> Result<(), Error> {
    let failed = |source| Error::Runtime { source };
    let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let signals = {
        let _context = runtime.enter();
        (
            signal(SignalKind::interrupt()).map_err(failed)?,
            signal(SignalKind::terminate()).map_err(failed)?,
        )
    };
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || wait_twice(&runtime, signals))
        .map_err(failed)?;
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "a second signal means now, whatever is left unfinished"
)]
#[expect(clippy::exit, reason = "as above")]
fn wait_twice(runtime: &Runtime, mut signals: (Signal, Signal)) {
    let mut next = || {
        runtime.block_on(async {
            tokio::select! {
                _ = signals.0.recv() => {}
                _ = signals.1.recv() => {}
            }
        });
    };
    let mut was_told = false;
    loop {
        next();
        let mut listener = LISTENER.lock().unwrap_or_else(PoisonError::into_inner);
        if listener.ignores {
            continue;
        }
        let told = listener.sender.take().is_some_and(|sender| sender.send(()).is_ok());
        if was_told || !told {
            break;
        }
        was_told = true;
    }
    std::process::exit(ErrorClass::Interrupted.exit_code().into());
}

#[cfg(test)]
mod tests {
    use rustix::process::{getpid, kill_process};

    use super::*;

    #[test]
    fn a_signal_is_told_to_who_listens_last() {
        run(None, async { Ok(()) }).unwrap();
        let progress = Progress::new();
        let result: Result<(), Error> = run_blocking(&progress, || {
            kill_process(getpid(), rustix::process::Signal::TERM).unwrap();
            while !progress.is_cancelled() {
                thread::sleep(Duration::from_millis(1));
            }
            Err(Error::Damaged { count: 1 })
        });
        assert!(matches!(result, Err(Error::Interrupted)), "{result:?}");
    }
}
