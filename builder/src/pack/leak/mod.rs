//! The leak gate: nothing of the build machine may be in an image.
//!
//! Contents of files, names and targets of links are searched for [`patterns`].
//! What is found is an error that names file and pattern. A file that still is
//! what its Debian package brought is no finding: the archive's own host, say,
//! may stand in documentation; dpkg's digests tell.

mod owned;
mod patterns;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use aho_corasick::AhoCorasick;
use rayon::prelude::*;

use crate::error::{Context, Error, ErrorKind, Result};
use crate::interrupt;
use crate::layers::ACLS;

use owned::Owned;

pub use patterns::{Pattern, patterns};

/// How much of a file is in memory at once.
const WINDOW: u64 = 1 << 20;
/// How many findings are shown.
const SHOWN: usize = 20;

/// Searches the tree; returns how many files were looked at.
pub fn check(root: &Path, patterns: &[Pattern]) -> Result<u64> {
    let bytes = patterns.iter().map(|p| &p.bytes);
    let automaton = AhoCorasick::new(bytes).context(|| "too many leak patterns".into())?;
    let gate = Gate {
        root,
        patterns,
        automaton,
        overlap: patterns.iter().map(|p| p.bytes.len()).max().unwrap_or(0),
    };
    inherits_acl(root)?;
    let mut found = Vec::new();
    let files = gate.walk(&mut found)?;
    let hits: Vec<BTreeSet<&str>> = files
        .par_iter()
        .map_init(Vec::new, |buffer, path| {
            interrupt::check()?;
            gate.search(path, buffer)
                .context(|| format!("cannot read {}", path.display()))
        })
        .collect::<Result<_>>()?;
    let hits: Vec<_> = files.iter().zip(hits).filter(|h| !h.1.is_empty()).collect();
    if !hits.is_empty() {
        let owned = Owned::of(root)?;
        for (path, names) in hits {
            if owned.has(path)? {
                continue;
            }
            let lines = names
                .iter()
                .map(|name| format!("{} has {name}", gate.shown(path)));
            found.extend(lines);
        }
    }
    if found.is_empty() {
        return Ok(files.len() as u64);
    }
    found.sort();
    let mut error = Error::new(
        ErrorKind::Refused,
        "the image would carry facts of this machine",
    );
    for line in found.iter().take(SHOWN) {
        error = error.detail(line.clone());
    }
    if found.len() > SHOWN {
        error = error.detail(format!("and {} more", found.len() - SHOWN));
    }
    Err(error.hint("remove the file with [clean] remove, or keep the step from writing it"))
}

/// Refuses a tree that inherited the ACL of a directory of this machine: its top
/// then has it too, where no package and no step sets one.
fn inherits_acl(root: &Path) -> Result<()> {
    // No ACL is longer on the file systems that Debian offers.
    let mut value = vec![0; 64 << 10];
    for name in ACLS {
        if rustix::fs::lgetxattr(root, name, &mut value[..]).is_ok() {
            return Err(Error::new(
                ErrorKind::Refused,
                format!("the image would carry an ACL of this machine: / has {name}"),
            )
            .hint(
                "if no [[run]] of the recipe sets it, an earlier build inherited it from a \
                 directory around the work directory: build with an empty --work DIR",
            ));
        }
    }
    Ok(())
}

struct Gate<'a> {
    root: &'a Path,
    patterns: &'a [Pattern],
    automaton: AhoCorasick,
    overlap: usize,
}

impl Gate<'_> {
    /// All files; what names and links have is found on the way.
    fn walk(&self, found: &mut Vec<String>) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        let mut pending = vec![self.root.to_owned()];
        while let Some(dir) = pending.pop() {
            interrupt::check()?;
            let unreadable = || format!("cannot read {}", dir.display());
            for entry in fs::read_dir(&dir).context(unreadable)? {
                let entry = entry.context(unreadable)?;
                let path = entry.path();
                let kind = entry.file_type().context(unreadable)?;
                for name in self.hits(entry.file_name().as_bytes()) {
                    found.push(format!("the name {} has {name}", self.shown(&path)));
                }
                if kind.is_symlink() {
                    let target = fs::read_link(&path).context(unreadable)?;
                    for name in self.hits(target.as_os_str().as_bytes()) {
                        found.push(format!("the link {} has {name}", self.shown(&path)));
                    }
                } else if kind.is_dir() {
                    pending.push(path);
                } else if kind.is_file() {
                    files.push(path);
                }
            }
        }
        Ok(files)
    }

    /// The patterns in a file, read in windows that overlap by the longest.
    fn search(&self, path: &Path, buffer: &mut Vec<u8>) -> std::io::Result<BTreeSet<&str>> {
        let mut file = File::open(path)?;
        let mut hits = BTreeSet::new();
        buffer.clear();
        loop {
            let read = file.by_ref().take(WINDOW).read_to_end(buffer)?;
            hits.extend(self.hits(buffer));
            if (read as u64) < WINDOW {
                return Ok(hits);
            }
            buffer.drain(..buffer.len().saturating_sub(self.overlap));
        }
    }

    fn hits<'s>(&'s self, bytes: &[u8]) -> BTreeSet<&'s str> {
        let matches = self.automaton.find_overlapping_iter(bytes);
        matches
            .map(|m| self.patterns[m.pattern().as_usize()].name.as_str())
            .collect()
    }

    /// The path as the image will have it.
    fn shown(&self, path: &Path) -> String {
        let inside = path.strip_prefix(self.root).unwrap_or(path);
        format!("/{}", inside.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for dir in ["var/lib/dpkg/info", "usr/bin", "etc"] {
            fs::create_dir_all(root.path().join(dir)).unwrap();
        }
        fs::write(root.path().join("var/lib/dpkg/status"), "").unwrap();
        root
    }

    fn pattern() -> [Pattern; 1] {
        [Pattern::new("the archive's host", "mirror.example").unwrap()]
    }

    #[test]
    fn a_planted_secret_is_named_wherever_it_is() {
        let root = tree();
        fs::write(root.path().join("etc/leak"), "x mirror.example y").unwrap();
        let error = check(root.path(), &pattern()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert_eq!(error.causes(), ["/etc/leak has the archive's host"]);
        // Across the border of two windows, and at the very end.
        let mut big = vec![b'.'; WINDOW as usize - 5];
        big.extend(b"mirror.example");
        fs::write(root.path().join("etc/leak"), big).unwrap();
        assert!(check(root.path(), &pattern()).is_err());
        fs::remove_file(root.path().join("etc/leak")).unwrap();
        std::os::unix::fs::symlink("//mirror.example/x", root.path().join("etc/link")).unwrap();
        fs::write(root.path().join("etc/of-mirror.example"), "").unwrap();
        let error = check(root.path(), &pattern()).unwrap_err();
        assert_eq!(
            error.causes(),
            [
                "the link /etc/link has the archive's host",
                "the name /etc/of-mirror.example has the archive's host"
            ]
        );
    }

    #[test]
    fn an_acl_of_the_machine_is_refused() {
        let root = tree();
        let mut acl = 2u32.to_le_bytes().to_vec();
        for (tag, rights, id) in [
            (1u16, 7u16, u32::MAX),
            (2, 7, 1234),
            (4, 5, u32::MAX),
            (16, 7, u32::MAX),
            (32, 5, u32::MAX),
        ] {
            acl.extend(tag.to_le_bytes());
            acl.extend(rights.to_le_bytes());
            acl.extend(id.to_le_bytes());
        }
        let set = |path: &Path, name| {
            rustix::fs::setxattr(path, name, &acl, rustix::fs::XattrFlags::empty())
        };
        // What a recipe sets below the top is its own.
        if set(&root.path().join("etc"), ACLS[0]) == Err(rustix::io::Errno::OPNOTSUPP) {
            return;
        }
        check(root.path(), &pattern()).unwrap();
        for name in ACLS {
            set(root.path(), name).unwrap();
            let error = check(root.path(), &pattern()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused);
            crate::layers::forget_acl(root.path()).unwrap();
        }
        check(root.path(), &pattern()).unwrap();
    }

    #[test]
    fn what_a_package_brought_may_name_a_host_until_somebody_changes_it() {
        let root = tree();
        let info = root.path().join("var/lib/dpkg/info");
        let tool = root.path().join("usr/bin/tool");
        fs::write(&tool, "see mirror.example").unwrap();
        let digest = owned::md5(&tool).unwrap();
        fs::write(
            info.join("tool:amd64.md5sums"),
            format!("{digest}  bin/tool\n"),
        )
        .unwrap();
        assert!(check(root.path(), &pattern()).is_ok());
        fs::write(&tool, "see  mirror.example").unwrap();
        assert!(check(root.path(), &pattern()).is_err());
        // Configuration files are in dpkg's status.
        fs::remove_file(&tool).unwrap();
        let conf = root.path().join("etc/tool.conf");
        fs::write(&conf, "at mirror.example").unwrap();
        let digest = owned::md5(&conf).unwrap();
        fs::write(
            root.path().join("var/lib/dpkg/status"),
            format!("Package: tool\nConffiles:\n /etc/tool.conf {digest}\n /etc/x y obsolete\n"),
        )
        .unwrap();
        assert!(check(root.path(), &pattern()).is_ok());
        fs::write(&conf, "or mirror.example").unwrap();
        assert!(check(root.path(), &pattern()).is_err());
    }
}
