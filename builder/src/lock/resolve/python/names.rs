//! Names of projects and of their files.

use crate::recipe::Virtualenv;

/// Python 2's pip builds sources with the virtualenv's own setuptools.
pub(super) fn is_python2(virtualenv: &Virtualenv) -> bool {
    virtualenv
        .python
        .as_str()
        .rsplit('/')
        .next()
        .is_some_and(|n| n.starts_with("python2"))
}

/// Project and version from the name of a wheel or source archive.
pub(super) fn split_name(file: &str) -> Option<(String, String)> {
    let (name, version) = if let Some(stem) = file.strip_suffix(".whl") {
        let mut parts = stem.split('-');
        (parts.next()?.to_owned(), parts.next()?.to_owned())
    } else {
        let endings = [".tar.gz", ".tar.bz2", ".tar.xz", ".tgz", ".zip"];
        let stem = endings.iter().find_map(|e| file.strip_suffix(e))?;
        // A version starts with a digit; names may have dashes and digits too.
        let (at, _) = stem
            .match_indices('-')
            .rfind(|(i, _)| stem.as_bytes().get(i + 1).is_some_and(u8::is_ascii_digit))?;
        let (name, version) = (&stem[..at], &stem[at + 1..]);
        match name.rsplit_once('-') {
            // `1.0-1` is how PEP 440 lets `1.0.post1` be written.
            Some((name, release))
                if version.bytes().all(|b| b.is_ascii_digit())
                    && release.contains('.')
                    && release.bytes().all(|b| b.is_ascii_digit() || b == b'.') =>
            {
                (name.to_owned(), format!("{release}.post{version}"))
            }
            _ => (name.to_owned(), version.to_owned()),
        }
    };
    (!name.is_empty() && !version.is_empty()).then(|| (normalise(&name), version))
}

/// PEP 503.
pub(super) fn normalise(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        let c = if matches!(c, '-' | '_' | '.') {
            '-'
        } else {
            c.to_ascii_lowercase()
        };
        if c != '-' || !out.ends_with('-') {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_tell_project_and_version() {
        for (file, name, version) in [
            (
                "zope.interface-5.5.2-cp27-cp27mu-linux_x86_64.whl",
                "zope-interface",
                "5.5.2",
            ),
            ("msgpack-python-0.4.8.tar.gz", "msgpack-python", "0.4.8"),
            (
                "backports.shutil_get_terminal_size-1.0.0-py2.py3-none-any.whl",
                "backports-shutil-get-terminal-size",
                "1.0.0",
            ),
            ("ujson-1.35.tar.gz", "ujson", "1.35"),
            ("linesman-0.3.2.zip", "linesman", "0.3.2"),
            ("foo-2-bar-1.0rc1.tar.gz", "foo-2-bar", "1.0rc1"),
            ("postver-1.0-1.tar.gz", "postver", "1.0.post1"),
            ("foo-2-1.tar.gz", "foo-2", "1"),
        ] {
            assert_eq!(
                split_name(file),
                Some((name.into(), version.into())),
                "{file}"
            );
        }
        assert_eq!(split_name("README"), None);
        assert_eq!(split_name("noversion.tar.gz"), None);
    }
}
