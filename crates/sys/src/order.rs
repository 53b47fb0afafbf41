//! The order in which kinds of locks are taken, checked while debug builds run.
//!
//! Who waits for a lock while it holds another one may be waited for in turn, in a circle. Where everybody takes locks in one
//! order there is no circle. The order is written down by those who have the locks; here it is looked after: [`enter`] says
//! that a thread takes a lock of some kind, or works under one, and panics in debug builds if the thread is at work under one
//! that comes later. In release builds it does nothing.
//!
//! A lock that goes from thread to thread with the work it protects is not bound to the thread that has taken it. It counts for
//! a thread as long as that works under it.

use std::marker::PhantomData;

/// A kind of lock, and its place in the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockRank {
    place: u8,
    name: &'static str,
    is_waited_for: bool,
}

impl LockRank {
    /// A kind of lock that is waited for. A thread has one of the kind at most: it would wait for itself.
    pub const fn waited_for(place: u8, name: &'static str) -> Self {
        Self {
            place,
            name,
            is_waited_for: true,
        }
    }

    /// A kind of lock that is only tried for. A thread may have several.
    pub const fn tried(place: u8, name: &'static str) -> Self {
        Self {
            place,
            name,
            is_waited_for: false,
        }
    }

    /// Tells whether one of this kind may not be taken under one of the kind `held`.
    #[cfg(debug_assertions)]
    const fn is_violation(self, held: Self) -> bool {
        held.place > self.place || (held.place == self.place && self.is_waited_for)
    }
}

/// That a thread is at work under a lock, until this is dropped. It stays on its thread.
#[derive(Debug)]
#[must_use = "the work ends when this is dropped"]
pub struct Entered {
    #[cfg(debug_assertions)]
    rank: LockRank,
    _on_its_thread: PhantomData<*const ()>,
}

#[cfg(debug_assertions)]
thread_local! {
    static HELD: std::cell::RefCell<Vec<LockRank>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// Says that this thread takes a lock of this kind, or begins to work under one. Before the lock is waited for.
///
/// # Panics
/// In debug builds, if the thread is at work under a lock that comes later in the order, or under the same one where that is
/// waited for.
#[cfg_attr(not(debug_assertions), expect(unused_variables, reason = "nothing is checked"))]
pub fn enter(rank: LockRank) -> Entered {
    #[cfg(debug_assertions)]
    {
        let held = HELD.with_borrow(|held| held.iter().copied().find(|held| rank.is_violation(*held)));
        if let Some(held) = held {
            panic!(
                "the lock `{}` is taken under the lock `{}`, which comes after it in the order of locks",
                rank.name, held.name
            );
        }
        HELD.with_borrow_mut(|held| held.push(rank));
    }
    Entered {
        #[cfg(debug_assertions)]
        rank,
        _on_its_thread: PhantomData,
    }
}

#[cfg(debug_assertions)]
impl Drop for Entered {
    fn drop(&mut self) {
        HELD.with_borrow_mut(|held| {
            if let Some(at) = held.iter().rposition(|held| *held == self.rank) {
                held.remove(at);
            }
        });
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::*;

    const FIRST: LockRank = LockRank::waited_for(1, "the first");
    const SECOND: LockRank = LockRank::tried(2, "the second");
    const THIRD: LockRank = LockRank::waited_for(3, "the third");

    /// Takes locks of these kinds, each under those before it. Returns what is said about it.
    fn take(ranks: &'static [LockRank]) -> Option<String> {
        let taken = std::thread::spawn(|| {
            let entered: Vec<_> = ranks.iter().copied().map(enter).collect();
            drop(entered);
        });
        let panic = taken.join().err()?;
        panic.downcast_ref::<String>().cloned()
    }

    #[test]
    fn locks_are_taken_in_their_order() {
        assert_eq!(take(&[FIRST, SECOND, SECOND, THIRD]), None);
        assert_eq!(take(&[FIRST, THIRD]), None);
        for (wrong, first, second) in [
            (&[SECOND, FIRST][..], "the first", "the second"),
            (&[FIRST, THIRD, SECOND], "the second", "the third"),
            (&[THIRD, THIRD], "the third", "the third"),
        ] {
            let said = take(wrong).expect("a panic");
            assert!(
                said.starts_with(&format!("the lock `{first}` is taken under the lock `{second}`")),
                "{said}"
            );
        }
    }

    #[test]
    fn what_was_left_does_not_count() {
        drop(enter(THIRD));
        let one = enter(SECOND);
        let other = enter(SECOND);
        drop(one);
        drop(other);
        drop(enter(FIRST));
    }
}
