//! Being asked to stop: an error that goes up as any other, so that filesystems are unmounted and servers ended on the way.
//!
//! Ctrl-C or SIGTERM, once: what runs is killed, and the benchmark ends. Twice: it ends at once, and the next one cleans up.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, ensure};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

/// How a shell says that a program was ended by Ctrl-C.
pub(super) const EXIT: u8 = 130;

static SEEN: AtomicBool = AtomicBool::new(false);

/// From here on signals are noticed by [`check`] instead of ending this process.
pub(super) fn listen() -> Result<()> {
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // In this order: the first signal sets what the second one finds.
        flag::register_conditional_shutdown(signal, EXIT.into(), &SEEN)
            .and_then(|_| flag::register(signal, &SEEN))
            .context("cannot listen for signals")?;
    }
    Ok(())
}

/// Fails if this process was asked to stop.
pub(super) fn check() -> Result<()> {
    ensure!(!is_seen(), "interrupted");
    Ok(())
}

/// Says whether this process was asked to stop.
pub(super) fn is_seen() -> bool {
    SEEN.load(Ordering::SeqCst)
}
