//! Text from outside as a person may see it.
//!
//! Names in archives, words of other programs and arguments can hold what a terminal obeys:
//! escape sequences, and characters that turn the direction of text or show nothing. Both
//! programs send all that they print through here.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a terminal obeys this character, or shows what follows it in another order or
/// place, or shows nothing. Line breaks and tabs are none of that.
pub fn is_hidden(char: char) -> bool {
    match char {
        '\n' | '\t' => false,
        // Marks and overrides of direction, joiners, separators, tags, and the mark of
        // byte order.
        '\u{ad}'
        | '\u{61c}'
        | '\u{180e}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}' => true,
        _ => char.is_control(),
    }
}

/// The text with each hidden character as `\u{NN}`.
pub fn escape(text: &str) -> Cow<'_, str> {
    escape_with(text, |shown, char| {
        let _ = write!(shown, "{}", char.escape_unicode());
    })
}

/// A JSON document with each hidden character as `\uNNNN`: the same document.
pub fn escape_json(json: &str) -> Cow<'_, str> {
    escape_with(json, |shown, char| {
        for unit in char.encode_utf16(&mut [0; 2]) {
            let _ = write!(shown, "\\u{unit:04x}");
        }
    })
}

fn escape_with(text: &str, one: impl Fn(&mut String, char)) -> Cow<'_, str> {
    if !text.chars().any(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for char in text.chars() {
        if is_hidden(char) {
            one(&mut shown, char);
        } else {
            shown.push(char);
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_escaped() {
        for (text, shown) in [
            ("Debian 12 (ä, 中)\n\ttwo", "Debian 12 (ä, 中)\n\ttwo"),
            ("\x1b[31mred\x07", "\\u{1b}[31mred\\u{7}"),
            ("a\u{202e}b\u{2066}c\rd", "a\\u{202e}b\\u{2066}c\\u{d}d"),
            ("\u{9b}1m\u{7f}\u{feff}", "\\u{9b}1m\\u{7f}\\u{feff}"),
        ] {
            assert_eq!(escape(text), shown);
        }
        let value = "a\u{202e}b\u{e0041}\u{9b}\"";
        let json = serde_json::to_string(value).unwrap();
        let escaped = escape_json(&json);
        assert!(escaped.is_ascii(), "{escaped}");
        assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), value);
    }
}
