//! When a request is repeated, and after how long.

use std::time::Duration;

/// Attempts for one piece of content, whatever each of them brings.
const IN_ALL: u32 = 30;

/// The longest wait between two attempts that we decide on.
const LONGEST: Duration = Duration::from_secs(8);

/// The longest wait that a server may demand, and the longest time that all waits
/// for one piece of content take together.
const DEMANDED: Duration = Duration::from_secs(60);
const ALTOGETHER: Duration = Duration::from_secs(120);

/// The attempts for one piece of content.
pub(super) struct Backoff {
    pause: Duration,
    /// Attempts in a row that may bring nothing.
    most: u32,
    in_a_row: u32,
    in_all: u32,
    waited: Duration,
}

impl Backoff {
    pub(super) fn new(pause: Duration, most: u32) -> Self {
        Self {
            pause,
            most,
            in_a_row: 0,
            in_all: 0,
            waited: Duration::ZERO,
        }
    }

    /// How many attempts have failed.
    pub(super) fn failed(&self) -> u32 {
        self.in_all
    }

    /// After an attempt failed: how long to wait before the next, or `None` when it
    /// was the last. `demanded` is what the server asks for (`Retry-After`), `random`
    /// any number.
    pub(super) fn next(
        &mut self,
        progress: bool,
        demanded: Option<Duration>,
        random: u32,
    ) -> Option<Duration> {
        self.in_all += 1;
        self.in_a_row = if progress { 1 } else { self.in_a_row + 1 };
        if self.in_a_row >= self.most || self.in_all >= IN_ALL {
            return None;
        }
        let longest = self
            .pause
            .saturating_mul(1 << (self.in_a_row - 1))
            .min(LONGEST);
        // Between half and all of it, so that many clients do not come back at once.
        let share = 0.5 + 0.5 * f64::from(random) / f64::from(u32::MAX);
        let wait = longest.mul_f64(share);
        let wait = match demanded {
            Some(demanded) if demanded > DEMANDED => return None,
            Some(demanded) => wait.max(demanded),
            None => wait,
        };
        self.waited += wait;
        (self.waited <= ALTOGETHER).then_some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUARTER: Duration = Duration::from_millis(250);

    #[test]
    fn waits_grow_and_end() {
        let mut tries = Backoff::new(QUARTER, 6);
        let waits: Vec<_> = std::iter::from_fn(|| tries.next(false, None, u32::MAX)).collect();
        let millis: Vec<_> = waits.iter().map(Duration::as_millis).collect();
        assert_eq!(millis, [250, 500, 1000, 2000, 4000]);
        let half = Backoff::new(QUARTER, 6).next(false, None, 0).unwrap();
        assert_eq!(half, QUARTER / 2);
    }

    #[test]
    fn progress_earns_patience_but_not_for_ever() {
        let mut tries = Backoff::new(QUARTER, 6);
        let waits = std::iter::from_fn(|| tries.next(true, None, u32::MAX));
        assert!(waits.inspect(|wait| assert_eq!(*wait, QUARTER)).count() < 30);
    }

    #[test]
    fn a_server_may_ask_for_time_within_reason() {
        let demand = |seconds| {
            let mut tries = Backoff::new(QUARTER, 6);
            tries.next(false, Some(Duration::from_secs(seconds)), 0)
        };
        assert_eq!(demand(0), Some(QUARTER / 2));
        assert_eq!(demand(30), Some(Duration::from_secs(30)));
        assert_eq!(demand(3600), None);
        let mut tries = Backoff::new(QUARTER, 6);
        let waits = std::iter::from_fn(|| tries.next(true, Some(DEMANDED), 0));
        assert_eq!(waits.count(), 2);
    }
}
