//! Patterns of paths: `*` and `?` match within a name, `**` across names, and `/**/` also
//! nothing but a `/`.

/// Whether a pattern is the whole of a text.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    if let Some(rest) = pattern.strip_prefix("/**/") {
        let mut starts = text.match_indices('/').map(|(at, _)| at + 1);
        return text.starts_with('/') && starts.any(|at| matches(rest, &text[at..]));
    }
    if let Some(rest) = pattern.strip_prefix("**") {
        return ends(text).any(|end| matches(rest, end));
    }
    if let Some(rest) = pattern.strip_prefix('*') {
        let name = text.find('/').unwrap_or(text.len());
        let within = |end: &&str| text.len() - end.len() <= name;
        return ends(text).take_while(within).any(|end| matches(rest, end));
    }
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    match (pattern.next(), text.next()) {
        (None, None) => true,
        (Some(wanted), Some(found)) => {
            (wanted == found || wanted == '?' && found != '/')
                && matches(pattern.as_str(), text.as_str())
        }
        _ => false,
    }
}

/// Whether a pattern is a path, or a directory above it.
pub(crate) fn matches_above(pattern: &str, path: &str) -> bool {
    let ends = path.match_indices('/').map(|(at, _)| at);
    ends.chain([path.len()])
        .any(|end| matches(pattern, &path[..end]))
}

/// The text without the first 0, 1, 2, ... characters.
fn ends(text: &str) -> impl Iterator<Item = &str> {
    let starts = text.char_indices().map(|(at, _)| at);
    starts.chain([text.len()]).map(|at| &text[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_within_names_or_across() {
        for (pattern, text, expected) in [
            ("*.pyc", "b.pyc", true),
            ("*.pyc", "a/b.pyc", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("a?c", "a/c", false),
            ("a/*", "a/b", true),
            ("a/*", "a/b/c", false),
            ("a/*/c", "a/b/c", true),
            ("*a*b*", "xxaxxbxx", true),
            ("*", "", true),
            ("/tmp/*", "/tmp/ü", true),
            ("/a/**", "/a/b/c", true),
            ("/a/**", "/ab", false),
            ("/**/x", "/x", true),
            ("/**/x", "/a/b/x", true),
            ("/**/x", "/ax", false),
            ("/a/**/x", "/a/x", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
        assert!(matches_above("/home/*/.cache", "/home/op/.cache/pip/x"));
        assert!(!matches_above("/home/*/.cache", "/home/op/.cached"));
    }
}
