//! Seconds since 1970.

use std::time::UNIX_EPOCH;

use jiff::Timestamp;

/// Seconds since 1970 by this machine's clock; 0 when it stands before that.
pub fn now() -> u64 {
    UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs())
}

/// A time as RFC 3339 has it, in UTC: `2026-09-01T00:00:00Z`. `None` if it is after the year 9999.
pub fn rfc3339(seconds: u64) -> Option<String> {
    let time = Timestamp::from_second(i64::try_from(seconds).ok()?).ok()?;
    Some(time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_to_the_second() {
        assert_eq!(rfc3339(0).as_deref(), Some("1970-01-01T00:00:00Z"));
        let time = rfc3339(1_788_220_800);
        assert_eq!(time.as_deref(), Some("2026-09-01T00:00:00Z"));
        assert_eq!(rfc3339(253_402_300_800), None);
        assert_eq!(rfc3339(u64::MAX), None);
    }
}
