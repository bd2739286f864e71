//! Which paths an image may contain, and how they are spelled in a tar.

use super::ErrorKind;

/// The longest path, without the leading `./`: what Linux can open in one call.
pub const MAX_PATH: usize = 4095;

/// The most segments of a path.
pub const MAX_DEPTH: usize = 256;

/// The longest segment, as on every Linux file system.
const MAX_SEGMENT: usize = 255;

/// Checks a path in the form of [`super::Entry::path`]; the root is empty.
pub(crate) fn check(path: &[u8]) -> Result<(), ErrorKind> {
    if path.is_empty() {
        return Ok(());
    }
    if path.contains(&0) {
        return Err(ErrorKind::Nul);
    }
    if path[0] == b'/' {
        return Err(ErrorKind::AbsolutePath);
    }
    if path.len() > MAX_PATH {
        return Err(ErrorKind::TooLong);
    }
    let mut depth = 0;
    for segment in path.split(|byte| *byte == b'/') {
        depth += 1;
        match segment {
            b"" => return Err(ErrorKind::EmptySegment),
            b"." | b".." => return Err(ErrorKind::DotSegment),
            _ if segment.len() > MAX_SEGMENT => return Err(ErrorKind::TooLong),
            _ if depth > MAX_DEPTH => return Err(ErrorKind::TooDeep),
            _ => {}
        }
    }
    Ok(())
}

/// Checks what a symlink says: anything, so long as there is such a symlink.
pub(crate) fn check_target(target: &[u8]) -> Result<(), ErrorKind> {
    match target {
        b"" => Err(ErrorKind::EmptyTarget),
        _ if target.contains(&0) => Err(ErrorKind::Nul),
        _ if target.len() > MAX_PATH => Err(ErrorKind::TooLong),
        _ => Ok(()),
    }
}

/// The spelling in a tar: `./etc/` for a directory, `./etc/passwd` for all else.
pub(super) fn spell(path: &[u8], directory: bool) -> Vec<u8> {
    let mut name = Vec::with_capacity(path.len() + 3);
    name.extend_from_slice(b"./");
    name.extend_from_slice(path);
    if directory && !path.is_empty() {
        name.push(b'/');
    }
    name
}

/// The path that a tar spells as `name`. Only the spelling is checked here, and
/// only as far as it decides which error is reported: [`check`] has the rest.
pub(super) fn unspell(name: &[u8], directory: bool) -> Result<Vec<u8>, ErrorKind> {
    if name.first() == Some(&b'/') {
        return Err(ErrorKind::AbsolutePath);
    }
    if name
        .split(|byte| *byte == b'/')
        .any(|segment| segment == b"..")
    {
        return Err(ErrorKind::DotSegment);
    }
    let path = name.strip_prefix(b"./").ok_or(ErrorKind::Spelling)?;
    match path {
        b"" if directory => Ok(Vec::new()),
        b"" => Err(ErrorKind::Spelling),
        _ if directory => Ok(path.strip_suffix(b"/").ok_or(ErrorKind::Spelling)?.to_vec()),
        _ => Ok(path.to_vec()),
    }
}

/// The directory that `path` is in; `None` for the root.
pub(crate) fn parent(path: &[u8]) -> Option<&[u8]> {
    if path.is_empty() {
        return None;
    }
    let slash = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    Some(&path[..slash])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canonical_tar::display;

    #[test]
    fn what_a_path_may_be() {
        let deep = vec!["d"; MAX_DEPTH].join("/");
        let long = vec!["s".repeat(MAX_SEGMENT); 15].join("/");
        for good in ["", "a", "a/b", "...", "-", " ", "a\n", &deep, &long] {
            assert_eq!(check(good.as_bytes()), Ok(()), "{good:?}");
        }
        let too_deep = format!("{deep}/d");
        let long_segment = "s".repeat(MAX_SEGMENT + 1);
        let too_long = vec!["s".repeat(MAX_SEGMENT); 17].join("/");
        for (bad, kind) in [
            ("/", ErrorKind::AbsolutePath),
            ("a/", ErrorKind::EmptySegment),
            ("a//b", ErrorKind::EmptySegment),
            ("a/../b", ErrorKind::DotSegment),
            (".", ErrorKind::DotSegment),
            ("a\0", ErrorKind::Nul),
            (&too_deep, ErrorKind::TooDeep),
            (&long_segment, ErrorKind::TooLong),
            (&too_long, ErrorKind::TooLong),
        ] {
            assert_eq!(check(bad.as_bytes()), Err(kind), "{bad:?}");
        }
    }

    #[test]
    fn spelling_is_reversible() {
        for (path, directory, name) in [
            ("", true, "./"),
            ("etc", true, "./etc/"),
            ("etc/x", false, "./etc/x"),
        ] {
            assert_eq!(spell(path.as_bytes(), directory), name.as_bytes());
            assert_eq!(
                unspell(name.as_bytes(), directory),
                Ok(path.as_bytes().to_vec())
            );
        }
        for (name, directory, kind) in [
            ("", true, ErrorKind::Spelling),
            ("./", false, ErrorKind::Spelling),
            ("./etc", true, ErrorKind::Spelling),
            ("etc/", true, ErrorKind::Spelling),
            ("/etc/", true, ErrorKind::AbsolutePath),
            ("./../etc/", true, ErrorKind::DotSegment),
            ("..", false, ErrorKind::DotSegment),
        ] {
            assert_eq!(unspell(name.as_bytes(), directory), Err(kind), "{name:?}");
        }
    }

    #[test]
    fn display_is_injective() {
        assert_eq!(display("ünï".as_bytes()), "ünï");
        assert_eq!(display(b"a\\xff"), r"a\x5cxff");
        assert_eq!(display(b"a\xff\n\x1b[0m"), r"a\xff\x0a\x1b[0m");
        assert_eq!(display("\u{85}".as_bytes()), r"\xc2\x85");
    }
}
