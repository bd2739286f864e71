//! Changed lines of short text files.

use similar::{Algorithm, TextDiff};
use store::chunk::ChunkRef;

use super::report::{Kind, Report};
use super::{Reading, content};
use crate::error::Result;

/// Lines around a change.
const CONTEXT: usize = 2;

/// The most bytes of the diff of one file, and of all together.
const MOST: usize = 4 << 10;
const MOST_TOGETHER: usize = 2 << 20;

/// The most lines of a file that is compared line by line: the time grows with
/// lines times differences.
const MOST_LINES: usize = 20_000;

/// Adds the changed lines of text files to the report, and says of each whether
/// its lines are only in another order.
pub(super) fn read(
    report: &mut Report,
    texts: &[(String, [Option<ChunkRef>; 2])],
    old: Reading<'_>,
    new: Reading<'_>,
) -> Result<()> {
    let mut together = 0;
    for (path, [before, after]) in texts {
        let read = |side, chunk: &Option<ChunkRef>| match chunk {
            Some(chunk) => content::fetch(side, chunk),
            None => Ok(Vec::new()),
        };
        let (before, after) = (read(old, before)?, read(new, after)?);
        let (Some(before), Some(after)) = (text(&before), text(&after)) else {
            continue;
        };
        let found = report.files.binary_search_by(|file| file.path.cmp(path));
        let Ok(number) = found else { continue };
        let file = &mut report.files[number];
        if reordered(before, after) {
            file.kinds.push(Kind::Order);
            file.kinds.sort_unstable();
        }
        if together < MOST_TOGETHER {
            let lines = unified(before, after);
            together += lines.len();
            file.text = Some(lines);
        }
    }
    Ok(())
}

/// The bytes as text, if they are some.
fn text(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let lines = memchr::memchr_iter(b'\n', bytes).count();
    (lines <= MOST_LINES && !text.contains('\0')).then_some(text)
}

fn reordered(old: &str, new: &str) -> bool {
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    old.len() == new.len() && sorted(old) == sorted(new)
}

/// The changed lines with those around them, cut at [`MOST`] bytes.
fn unified(old: &str, new: &str) -> String {
    let diff = TextDiff::configure()
        .algorithm(Algorithm::Myers)
        .diff_lines(old, new);
    let whole = diff.unified_diff().context_radius(CONTEXT).to_string();
    if whole.len() <= MOST {
        return whole;
    }
    let mut short = String::new();
    for line in whole.split_inclusive('\n') {
        if short.len() + line.len() > MOST {
            break;
        }
        short.push_str(line);
    }
    short.push_str("...\n");
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_their_order() {
        let diff = unified("a\nb\nc\n", "a\nB\nc\n");
        assert_eq!(diff, "@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n");
        assert!(reordered("a\nb\n", "b\na\n"));
        assert!(!reordered("a\nb\n", "b\nb\n"));
        assert_eq!(text(b"a\0b"), None);
        assert_eq!(text(b"\xff"), None);
    }

    #[test]
    fn a_long_difference_is_cut_at_a_line() {
        let long: String = (0..9_999).map(|n| format!("line {n}\n")).collect();
        let diff = unified("", &long);
        assert!(diff.len() <= MOST + 4 && diff.ends_with("\n...\n"));
        // One line longer than all that is shown.
        assert!(unified("", &"x".repeat(99_999)).ends_with("...\n"));
    }
}
