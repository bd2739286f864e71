//! The leak gate: nothing of the build machine may be in an image.
//!
//! Every file that no Debian package brought is searched for strings that only
//! this machine could have put there: credentials and proxies, addresses of
//! mirrors, password hashes, the machine's id and name, paths of the build.
//! What is found is an error that names file and pattern.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::error::{Context, Error, ErrorKind, Result};
use crate::interrupt;
use crate::settings::Settings;

/// How much of a file is in memory at once.
const WINDOW: u64 = 1 << 20;

/// A string that must not be in an image.
#[derive(Clone, Debug)]
pub struct Pattern {
    /// What it is, without the secret itself.
    pub name: String,
    bytes: Vec<u8>,
}

impl Pattern {
    fn new(name: impl Into<String>, text: &str) -> Option<Self> {
        // Short strings would be found everywhere.
        (text.len() >= 6).then(|| Self {
            name: name.into(),
            bytes: text.as_bytes().to_owned(),
        })
    }
}

/// What must not leave this machine.
pub fn patterns(settings: &Settings) -> Result<Vec<Pattern>> {
    let mut patterns = Vec::new();
    for host in settings.archives.hosts() {
        patterns.extend(Pattern::new(format!("the archive's host {host}"), &host));
    }
    for secret in settings.pip.secrets() {
        patterns.extend(Pattern::new("an address of pip's configuration", &secret));
    }
    patterns.extend(Pattern::new(
        "the path of the build",
        &settings.work.display().to_string(),
    ));
    if let Ok(id) = fs::read_to_string("/etc/machine-id") {
        patterns.extend(Pattern::new("this machine's machine-id", id.trim()));
    }
    let shadow = fs::read_to_string("/etc/shadow").unwrap_or_default();
    for line in shadow.lines() {
        let mut fields = line.split(':');
        if let (Some(user), Some(hash)) = (fields.next(), fields.next())
            && hash.starts_with('$')
        {
            patterns.extend(Pattern::new(
                format!("the password hash of this machine's {user}"),
                hash,
            ));
        }
    }
    if let Ok(keys) = fs::read_dir("/etc/ssh") {
        for key in keys
            .flatten()
            .map(|e| e.path())
            .filter(|p| p.extension().is_some_and(|e| e == "pub"))
        {
            if let Some(body) = fs::read_to_string(&key)
                .ok()
                .as_deref()
                .and_then(|t| t.split(' ').nth(1))
            {
                patterns.extend(Pattern::new("an ssh host key of this machine", body));
            }
        }
    }
    patterns.sort_by(|a, b| a.bytes.cmp(&b.bytes));
    patterns.dedup_by(|a, b| a.bytes == b.bytes);
    Ok(patterns)
}

/// Searches the tree; returns how many files were looked at.
pub fn check(root: &Path, patterns: &[Pattern]) -> Result<u64> {
    let owned = packaged(root)?;
    let mut scanned = 0;
    let mut found = Vec::new();
    let mut pending = vec![root.to_owned()];
    let mut buffer = Vec::new();
    while let Some(dir) = pending.pop() {
        interrupt::check()?;
        let unreadable = || format!("cannot read {}", dir.display());
        for entry in fs::read_dir(&dir).context(unreadable)? {
            let entry = entry.context(unreadable)?;
            let path = entry.path();
            let kind = entry.file_type().context(unreadable)?;
            if kind.is_dir() {
                pending.push(path);
            } else if kind.is_file() {
                let inside = path.strip_prefix(root).unwrap_or(&path);
                if owned.contains(inside.as_os_str().as_bytes()) {
                    continue;
                }
                scanned += 1;
                let hits = search(&path, patterns, &mut buffer)
                    .context(|| format!("cannot read {}", path.display()))?;
                for name in hits {
                    found.push(format!("/{} has {name}", inside.display()));
                }
            }
        }
    }
    if found.is_empty() {
        return Ok(scanned);
    }
    found.sort();
    let mut error = Error::new(
        ErrorKind::Refused,
        "the image would carry facts of this machine",
    );
    for line in found.iter().take(20) {
        error = error.detail(line.clone());
    }
    Err(error.hint("remove the file with [clean] remove, or keep the step from writing it"))
}

/// Paths that Debian packages brought, as dpkg's lists name them, and their
/// real places on a merged /usr.
fn packaged(root: &Path) -> Result<BTreeSet<Vec<u8>>> {
    let info = root.join("var/lib/dpkg/info");
    let unreadable = || format!("cannot read {}", info.display());
    let mut owned = BTreeSet::new();
    for entry in fs::read_dir(&info).context(unreadable)? {
        let path = entry.context(unreadable)?.path();
        // The database itself comes from the packages as well.
        if let Ok(inside) = path.strip_prefix(root) {
            owned.insert(inside.as_os_str().as_bytes().to_owned());
        }
        if path.extension().is_some_and(|e| e == "list") {
            for line in fs::read(&path).context(unreadable)?.split(|&b| b == b'\n') {
                let Some(name) = line.strip_prefix(b"/") else {
                    continue;
                };
                owned.insert(name.to_owned());
                for merged in [&b"bin/"[..], b"sbin/", b"lib"] {
                    if name.starts_with(merged) {
                        owned.insert([&b"usr/"[..], name].concat());
                    }
                }
            }
        }
    }
    Ok(owned)
}

/// The patterns that a file contains, read in windows that overlap by the
/// longest pattern.
fn search<'p>(
    path: &Path,
    patterns: &'p [Pattern],
    buffer: &mut Vec<u8>,
) -> std::io::Result<BTreeSet<&'p str>> {
    let overlap = patterns.iter().map(|p| p.bytes.len()).max().unwrap_or(0);
    let mut file = File::open(path)?;
    let mut hits = BTreeSet::new();
    buffer.clear();
    loop {
        let read = file.by_ref().take(WINDOW).read_to_end(buffer)?;
        for pattern in patterns {
            if memchr::memmem::find(buffer, &pattern.bytes).is_some() {
                hits.insert(pattern.name.as_str());
            }
        }
        if read == 0 {
            return Ok(hits);
        }
        buffer.drain(..buffer.len().saturating_sub(overlap));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_planted_secret_is_named_and_packaged_files_are_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let info = root.path().join("var/lib/dpkg/info");
        fs::create_dir_all(&info).unwrap();
        fs::create_dir_all(root.path().join("usr/bin")).unwrap();
        fs::create_dir_all(root.path().join("etc")).unwrap();
        fs::write(info.join("tool.list"), "/.\n/bin/tool\n").unwrap();
        fs::write(root.path().join("usr/bin/tool"), "see mirror.example").unwrap();
        let patterns = [Pattern::new("the archive's host", "mirror.example").unwrap()];
        assert_eq!(check(root.path(), &patterns).unwrap(), 0);
        fs::write(root.path().join("etc/leak"), "x mirror.example y").unwrap();
        let error = check(root.path(), &patterns).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert_eq!(error.causes(), ["/etc/leak has the archive's host"]);
        // Across the border of two windows.
        let mut big = vec![b'.'; WINDOW as usize - 5];
        big.extend(b"mirror.example");
        fs::write(root.path().join("etc/leak"), big).unwrap();
        assert!(check(root.path(), &patterns).is_err());
    }
}
