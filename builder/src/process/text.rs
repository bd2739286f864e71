//! Output and words of programs as they may be shown.

/// How many last lines an error quotes.
pub(super) const TAIL: usize = 15;

/// The last lines of output as they may be shown.
pub fn last_lines(output: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(output);
    let lines = text.lines().rev().map(plain);
    let mut tail: Vec<String> = lines.filter(|l| !l.trim().is_empty()).take(TAIL).collect();
    tail.reverse();
    tail
}

/// A line as it may be shown: what a carriage return leaves to see, without
/// escape sequences (ECMA-48) and other controls, which belong to a terminal.
pub(super) fn plain(line: &str) -> String {
    let line = line.trim_end_matches(['\n', '\r']);
    let line = line.rsplit('\r').next().unwrap_or(line);
    let mut out = String::with_capacity(line.len());
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == '\x1b' {
            match chars.next() {
                Some('[') => while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {},
                Some(']') => while chars.next().is_some_and(|c| c != '\x07' && c != '\\') {},
                _ => {}
            }
        } else if c == '\t' || !c.is_control() {
            out.push(c);
        }
    }
    out
}

/// Quotes a word for `sh`.
pub fn quote(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-./=:,+@%".contains(&b);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}
