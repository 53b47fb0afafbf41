//! Work that reads files or runs programs, kept off the threads that move bytes.

/// Runs `work` on a thread of its own. A panic in it goes on in the caller.
pub(crate) async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only a runtime that is shutting down cancels such work, and with it whoever waits here.
            Err(_cancelled) => std::future::pending().await,
        },
    }
}
