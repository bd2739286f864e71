//! Work on many things at once, whose results are taken one by one in the order of
//! the things.
//!
//! Whoever is ahead waits, so there are never more than a few results in memory.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::error::{Error, ErrorKind, Result};

struct State<R> {
    /// The next item that nobody works on.
    next: usize,
    /// The next item whose result is to be taken.
    taken: usize,
    ready: BTreeMap<usize, Result<R>>,
    /// Set when no more results are wanted, or a worker has died.
    over: bool,
}

struct Shared<R> {
    state: Mutex<State<R>>,
    moved: Condvar,
}

impl<R> Shared<R> {
    fn state(&self) -> MutexGuard<'_, State<R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends everybody's waiting when its thread ends, however it does.
struct Ends<'a, R>(&'a Shared<R>);

impl<R> Drop for Ends<'_, R> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.over |= thread::panicking();
        drop(state);
        self.0.moved.notify_all();
    }
}

/// Calls `work` for each of `items` on `lanes` threads, each with a tool of its own,
/// and `take` with every result. Ends with the first error.
pub(super) fn ordered<T: Sync, S, R: Send>(
    items: &[T],
    lanes: usize,
    tool: impl Fn() -> Result<S> + Sync,
    work: impl Fn(&mut S, &T) -> Result<R> + Sync,
    mut take: impl FnMut(R) -> Result<()>,
) -> Result<()> {
    let lanes = lanes.clamp(1, items.len().max(1));
    let window = lanes * 2;
    let shared = Shared {
        state: Mutex::new(State {
            next: 0,
            taken: 0,
            ready: BTreeMap::new(),
            over: false,
        }),
        moved: Condvar::new(),
    };
    let lane = || {
        let _ends = Ends(&shared);
        let mut kit = None;
        loop {
            let mut state = shared.state();
            while !state.over && state.next < items.len() && state.next >= state.taken + window {
                state = shared
                    .moved
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            if state.over || state.next == items.len() {
                return;
            }
            let number = state.next;
            state.next += 1;
            drop(state);
            let result = match &mut kit {
                Some(kit) => work(kit, &items[number]),
                none => tool().and_then(|tool| work(none.insert(tool), &items[number])),
            };
            shared.state().ready.insert(number, result);
            shared.moved.notify_all();
        }
    };
    let mut receive = || {
        for number in 0..items.len() {
            let mut state = shared.state();
            let result = loop {
                if let Some(result) = state.ready.remove(&number) {
                    break result?;
                }
                if state.over {
                    return Err(Error::new(ErrorKind::Io, "a worker thread has died"));
                }
                state = shared
                    .moved
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            };
            state.taken = number + 1;
            drop(state);
            shared.moved.notify_all();
            take(result)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        for _ in 0..lanes {
            scope.spawn(lane);
        }
        let received = receive();
        shared.state().over = true;
        shared.moved.notify_all();
        received
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn results_come_in_order_and_never_far_ahead() {
        let items: Vec<usize> = (0..500).collect();
        let (begun, mut taken) = (AtomicUsize::new(0), Vec::new());
        let work = |(): &mut (), item: &usize| {
            begun.fetch_add(1, Ordering::SeqCst);
            Ok(*item * 2)
        };
        let take = |result: usize| {
            // Those that are being worked on count as begun.
            assert!(begun.load(Ordering::SeqCst) <= taken.len() + 1 + 3 * 2 + 3);
            taken.push(result);
            Ok(())
        };
        ordered(&items, 3, || Ok(()), work, take).unwrap();
        assert!(taken.iter().copied().eq((0..500).map(|n| n * 2)));
    }

    #[test]
    fn the_first_error_ends_it() {
        let items: Vec<usize> = (0..500).collect();
        let fails = |number: usize| Error::new(ErrorKind::Invalid, format!("item {number}"));
        let work = |(): &mut (), item: &usize| match *item {
            70 | 90 => Err(fails(*item)),
            _ => Ok(*item),
        };
        let mut seen = 0;
        let count = |_| {
            seen += 1;
            Ok(())
        };
        let error = ordered(&items, 4, || Ok(()), work, count).unwrap_err();
        assert_eq!((error.to_string().as_str(), seen), ("item 70", 70));

        let refuse = |number| Err(fails(number));
        let error = ordered(&items, 4, || Ok(()), |(), item| Ok(*item), refuse).unwrap_err();
        assert_eq!(error.to_string(), "item 0");
        ordered(
            &[0; 0],
            4,
            || Ok(()),
            |(), item: &usize| Ok(*item),
            |_| Ok(()),
        )
        .unwrap();
    }
}
