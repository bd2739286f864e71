//! How a path is shown to a person.

use common::display::is_hidden;

/// A path as a person, or a JSON document, sees it: UTF-8 stays, and each hidden
/// character ([`is_hidden`]), line break, backslash or byte that is not UTF-8 becomes `\xNN`. Two paths never
/// look the same.
pub fn display(path: &[u8]) -> String {
    use std::fmt::Write as _;

    let mut shown = String::with_capacity(path.len());
    let escape = |shown: &mut String, bytes: &[u8]| {
        for byte in bytes {
            // Writing to a string cannot fail.
            let _ = write!(shown, "\\x{byte:02x}");
        }
    };
    for piece in path.utf8_chunks() {
        for char in piece.valid().chars() {
            if is_hidden(char) || matches!(char, '\n' | '\t' | '\\') {
                escape(&mut shown, char.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                shown.push(char);
            }
        }
        escape(&mut shown, piece.invalid());
    }
    shown
}

/// A path in an error: its beginning and its end where it is longer than a few lines.
pub(crate) fn display_short(path: &[u8]) -> String {
    const MOST: usize = 200;
    if path.len() <= MOST {
        return display(path);
    }
    let (first, last) = (&path[..MOST / 2], &path[path.len() - MOST / 4..]);
    let [first, last] = [first, last].map(display);
    format!("{first}[...]{last} (a name of {} bytes)", path.len())
}
