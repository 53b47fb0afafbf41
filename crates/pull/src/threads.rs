//! Blocking work on threads of its own, which a pull never leaves behind.

use std::panic::resume_unwind;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Runs blocking closures off the executor and knows when the last of them has ended.
///
/// A future that waits for a thread can be dropped, the thread cannot: it has to be told to stop, and then it removes what
/// it had begun. [`Threads::ended`] waits for that, so that a pull that has failed leaves nothing that still writes.
#[derive(Debug)]
pub(crate) struct Threads {
    alive: mpsc::Sender<()>,
    ended: mpsc::Receiver<()>,
}

/// A handle to start threads with.
#[derive(Clone, Debug)]
pub(crate) struct Spawner {
    alive: mpsc::Sender<()>,
}

impl Threads {
    pub(crate) fn new() -> Self {
        let (alive, ended) = mpsc::channel(1);
        Self { alive, ended }
    }

    pub(crate) fn spawner(&self) -> Spawner {
        Spawner {
            alive: self.alive.clone(),
        }
    }

    /// Waits until every closure started has returned, what it returned to nobody is dropped, and every [`Spawner`] is gone.
    pub(crate) async fn ended(mut self) {
        drop(self.alive);
        // Nothing is ever sent: this returns when the last sender is dropped.
        let _closed: Option<()> = self.ended.recv().await;
    }
}

impl Spawner {
    /// Runs `work` on a thread and waits for it. A panic there goes on here.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        finish(self.start(work)).await
    }

    /// Runs `work` on a thread that only [`Threads::ended`] waits for.
    pub(crate) fn start_aside(&self, work: impl FnOnce() + Send + 'static) {
        drop(self.start(work));
    }

    fn start<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<Outcome<T>> {
        let alive = self.alive.clone();
        tokio::task::spawn_blocking(move || Outcome {
            value: work(),
            _alive: alive,
        })
    }
}

/// What a closure returned. Where nobody waits for it any more it is dropped after the closure has ended, which can be work, too:
/// a tree that was made is removed. So the thread counts as alive until then; the fields are dropped in this order.
struct Outcome<T> {
    value: T,
    _alive: mpsc::Sender<()>,
}

async fn finish<T>(handle: JoinHandle<Outcome<T>>) -> T {
    match handle.await {
        Ok(outcome) => outcome.value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // A blocking task that has begun is never cancelled; one that has not is cancelled only when the runtime goes
            // away, and then nobody polls this.
            Err(_cancelled) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_dropped_future_does_not_hide_its_thread() {
        let threads = Threads::new();
        let spawner = threads.spawner();
        let ended = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&ended);
        let work = spawner.run(move || {
            std::thread::sleep(Duration::from_millis(100));
            flag.store(true, Ordering::SeqCst);
        });
        assert!(tokio::time::timeout(Duration::from_millis(10), work).await.is_err());
        drop(spawner);
        threads.ended().await;
        assert!(ended.load(Ordering::SeqCst));
    }

    #[tokio::test]
    async fn what_nobody_waits_for_is_gone_at_the_end() {
        struct Slow(Arc<AtomicBool>);
        impl Drop for Slow {
            fn drop(&mut self) {
                std::thread::sleep(Duration::from_millis(100));
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let threads = Threads::new();
        let spawner = threads.spawner();
        let dropped = Arc::new(AtomicBool::new(false));
        let (slow, (returned, wait)) = (Slow(Arc::clone(&dropped)), std::sync::mpsc::channel::<()>());
        let work = spawner.run(move || {
            wait.recv().unwrap();
            slow
        });
        assert!(tokio::time::timeout(Duration::from_millis(10), work).await.is_err());
        returned.send(()).unwrap();
        drop(spawner);
        threads.ended().await;
        assert!(dropped.load(Ordering::SeqCst));
    }

    #[tokio::test]
    async fn a_panic_is_not_turned_into_an_error() {
        let threads = Threads::new();
        let spawner = threads.spawner();
        let mut set = tokio::task::JoinSet::new();
        set.spawn(async move { spawner.run(|| panic!("as it was")).await });
        let error = set.join_next().await.unwrap().unwrap_err();
        assert_eq!(error.into_panic().downcast_ref::<&str>(), Some(&"as it was"));
    }
}
