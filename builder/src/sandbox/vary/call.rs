//! What is changed at a watched call, before the kernel sees it and after.

use super::AHEAD;
use super::filter;
use super::process::Tracee;

/// A time that is later than this is a time of day: no machine runs for thirty
/// years, so no deadline of its monotonic clock is.
const DAYS_NOT_UPTIME: i64 = 1_000_000_000;
/// No directory is read in larger pieces.
const MAX_BLOCK: u64 = 64 << 20;

/// A watched call, by what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// Writes the time of day where an argument points: seconds first.
    Time { argument: usize },
    /// Returns the time of day, and writes it where the first argument points.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    TimeReturned,
    /// Writes names of a directory where the second argument points.
    Directory,
    /// Waits until the time of day that is at `offset` from where an argument
    /// points.
    Deadline { argument: usize, offset: u64 },
}

/// A call that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pending {
    /// The time of day will be at this address.
    Time(u64),
    /// The time of day will be returned, and be at this address unless it is 0.
    TimeReturned(u64),
    /// Names will be at this address.
    Directory(u64),
    /// These seconds belong back to this address.
    Deadline(u64, i64),
}

impl Call {
    /// A process stands before a watched call; what is to be done after it.
    pub(super) fn entered(tracee: Tracee) -> Option<Pending> {
        let (verdict, arguments) = tracee.call()?;
        match filter::call(verdict)? {
            Self::Time { argument } => {
                let at = *arguments.get(argument)?;
                (at != 0).then_some(Pending::Time(at))
            }
            Self::TimeReturned => Some(Pending::TimeReturned(arguments[0])),
            Self::Directory => Some(Pending::Directory(arguments[1])),
            Self::Deadline { argument, offset } => {
                let pointer = *arguments.get(argument)?;
                let at = pointer.checked_add(offset).filter(|_| pointer != 0)?;
                let seconds = tracee.read_word(at)?.cast_signed();
                if seconds < DAYS_NOT_UPTIME {
                    return None;
                }
                tracee.write_word(at, (seconds - ahead()).cast_unsigned());
                Some(Pending::Deadline(at, seconds))
            }
        }
    }
}

impl Pending {
    /// The call has returned.
    pub(super) fn returned(self, tracee: Tracee) {
        // What was lent is given back in any case.
        if let Self::Deadline(at, seconds) = self {
            tracee.write_word(at, seconds.cast_unsigned());
            return;
        }
        let Some(result) = tracee
            .result()
            .and_then(|result| u64::try_from(result).ok())
        else {
            return;
        };
        match self {
            Self::Time(at) => later(tracee, at),
            Self::TimeReturned(at) => {
                tracee.write_result(result.wrapping_add(AHEAD.as_secs()));
                if at != 0 {
                    later(tracee, at);
                }
            }
            Self::Directory(at) if result > 0 && result <= MAX_BLOCK => {
                let Some(names) = tracee.read(at, result as usize) else {
                    return;
                };
                if let Some(reversed) = reversed(&names) {
                    tracee.write(at, &reversed);
                }
            }
            Self::Directory(_) | Self::Deadline(..) => {}
        }
    }
}

fn later(tracee: Tracee, at: u64) {
    if let Some(seconds) = tracee.read_word(at) {
        tracee.write_word(at, seconds.wrapping_add(AHEAD.as_secs()));
    }
}

fn ahead() -> i64 {
    AHEAD.as_secs().cast_signed()
}

/// The entries of a block of getdents(2) in reverse, `.` and `..` first as every
/// file system has them. `None` when it is not a block of entries.
///
/// Both forms of an entry begin with the inode number, the position after it,
/// and its own length; the positions stay where they are in the block.
fn reversed(block: &[u8]) -> Option<Vec<u8>> {
    let mut entries: Vec<&[u8]> = Vec::new();
    let mut rest = block;
    while !rest.is_empty() {
        let length = u16::from_ne_bytes(rest.get(16..18)?.try_into().ok()?);
        let (entry, after) = rest.split_at_checked(usize::from(length))?;
        (entry.len() > 19).then_some(())?;
        entries.push(entry);
        rest = after;
    }
    let positions: Vec<&[u8]> = entries.iter().map(|entry| &entry[8..16]).collect();
    let (dots, mut names): (Vec<&[u8]>, Vec<&[u8]>) = entries.iter().partition(|e| is_dots(e));
    names.reverse();
    let mut out = Vec::with_capacity(block.len());
    for (entry, position) in dots.into_iter().chain(names).zip(positions) {
        out.extend_from_slice(&entry[..8]);
        out.extend_from_slice(position);
        out.extend_from_slice(&entry[16..]);
    }
    Some(out)
}

/// Whether the name is `.` or `..`; it begins after the length, in the newer
/// form after one byte more, the type, which is no dot.
fn is_dots(entry: &[u8]) -> bool {
    let name = if entry[18] == b'.' {
        &entry[18..]
    } else {
        &entry[19..]
    };
    name.starts_with(b".\0") || name.starts_with(b"..\0")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(entries: &[(u64, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (position, (inode, name)) in entries.iter().enumerate() {
            let length = (19 + name.len() + 1).next_multiple_of(8);
            let start = out.len();
            out.extend(inode.to_ne_bytes());
            out.extend((position as u64 + 1).to_ne_bytes());
            out.extend((length as u16).to_ne_bytes());
            out.push(4);
            out.extend(name.as_bytes());
            out.resize(start + length, 0);
        }
        out
    }

    #[test]
    fn names_are_reversed_and_positions_stay() {
        let before = block(&[
            (1, "."),
            (2, ".."),
            (3, "a"),
            (4, "a-longer-name"),
            (5, ".c"),
        ]);
        let after = block(&[
            (1, "."),
            (2, ".."),
            (5, ".c"),
            (4, "a-longer-name"),
            (3, "a"),
        ]);
        assert_eq!(reversed(&before).unwrap(), after);
        assert_eq!(reversed(&after).unwrap(), before);
        assert_eq!(reversed(&[]), Some(Vec::new()));
    }

    #[test]
    fn what_is_no_block_is_left_alone() {
        let mut torn = block(&[(1, "a"), (2, "b")]);
        torn.pop();
        assert_eq!(reversed(&torn), None);
        torn[16] = 0;
        assert_eq!(reversed(&torn), None);
        assert_eq!(reversed(&[1; 10]), None);
    }
}
