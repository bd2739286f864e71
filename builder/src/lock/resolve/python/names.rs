//! Names of projects and of their files.

/// The project of a requirement, as it is written there.
pub(super) fn written_name(requirement: &str) -> &str {
    let end = requirement.find(|c: char| !c.is_ascii_alphanumeric() && !"._-".contains(c));
    &requirement[..end.unwrap_or(requirement.len())]
}

/// The project of a requirement, normalised.
pub(super) fn name_of(requirement: &str) -> String {
    normalise(written_name(requirement))
}

/// Project and version from the name of a wheel or source archive; of an archive whose
/// project is known, the version is what follows that name.
pub(super) fn split_name(file: &str, project: Option<&str>) -> Option<(String, String)> {
    let (name, version) = if let Some(stem) = file.strip_suffix(".whl") {
        let mut parts = stem.split('-');
        (parts.next()?.to_owned(), parts.next()?.to_owned())
    } else {
        let endings = [".tar.gz", ".tar.bz2", ".tar.xz", ".tgz", ".zip"];
        let stem = endings.iter().find_map(|e| file.strip_suffix(e))?;
        let mut dashes = stem.match_indices('-').map(|(at, _)| at);
        let known = project.and_then(|p| dashes.rfind(|at| normalise(&stem[..*at]) == p));
        if let Some(at) = known {
            let version = stem[at + 1..].trim_start_matches(['v', 'V']);
            return Some((normalise(&stem[..at]), post_release(version)));
        }
        // A version starts with a digit; names may have dashes and digits too.
        let (at, _) = stem
            .match_indices('-')
            .rfind(|(i, _)| stem.as_bytes().get(i + 1).is_some_and(u8::is_ascii_digit))?;
        let (name, version) = (&stem[..at], &stem[at + 1..]);
        match name.rsplit_once('-') {
            Some((name, release))
                if version.bytes().all(|b| b.is_ascii_digit())
                    && release.contains('.')
                    && release.bytes().all(|b| b.is_ascii_digit() || b == b'.') =>
            {
                (
                    name.to_owned(),
                    post_release(&format!("{release}-{version}")),
                )
            }
            _ => (name.to_owned(), version.to_owned()),
        }
    };
    (!name.is_empty() && !version.is_empty()).then(|| (normalise(&name), version))
}

/// `1.0-1` is how PEP 440 lets `1.0.post1` be written.
fn post_release(version: &str) -> String {
    match version.rsplit_once('-') {
        Some((release, number))
            if release.ends_with(|c: char| c.is_ascii_digit())
                && number.bytes().all(|b| b.is_ascii_digit()) =>
        {
            format!("{release}.post{number}")
        }
        _ => version.to_owned(),
    }
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
                split_name(file, None),
                Some((name.into(), version.into())),
                "{file}"
            );
        }
        for (file, name, version) in [
            ("foo-2-1.tar.gz", "foo", "2.post1"),
            ("foo-2-1.tar.gz", "foo-2", "1"),
            ("Foo.Bar-v1.0.zip", "foo-bar", "1.0"),
            ("foo-1.0-beta-2.tar.gz", "foo", "1.0-beta-2"),
            ("foo-1.0-rc1.tar.gz", "foo", "1.0-rc1"),
        ] {
            let found = split_name(file, Some(name));
            assert_eq!(found, Some((name.into(), version.into())), "{file}");
        }
        assert_eq!(split_name("README", None), None);
        assert_eq!(split_name("noversion.tar.gz", None), None);
    }
}
