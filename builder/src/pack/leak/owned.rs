//! Which files are as their Debian package brought them: dpkg's MD5 digests
//! (dpkg-query(1), `--control-show` md5sums; `Conffiles` in its status).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use md5::{Digest, Md5};

use crate::error::{Context, Result};

/// Digests by path without the first slash; `/usr` is merged or not.
pub(super) struct Owned {
    root: PathBuf,
    digests: BTreeMap<Vec<u8>, Vec<String>>,
}

impl Owned {
    /// Reads dpkg's digests of the tree. Only done when something was found.
    pub(super) fn of(root: &Path) -> Result<Self> {
        let mut digests: BTreeMap<Vec<u8>, Vec<String>> = BTreeMap::new();
        let mut learn = |path: &[u8], digest: &[u8]| {
            let digest = String::from_utf8_lossy(digest).into_owned();
            let known = digests.entry(merged(path)).or_default();
            known.push(digest);
        };
        let info = root.join("var/lib/dpkg/info");
        let unreadable = || format!("cannot read {}", info.display());
        for entry in fs::read_dir(&info).context(unreadable)? {
            let path = entry.context(unreadable)?.path();
            if path.extension().is_none_or(|e| e != "md5sums") {
                continue;
            }
            for line in fs::read(&path).context(unreadable)?.split(|&b| b == b'\n') {
                if let Some((digest, rest)) = line.split_at_checked(32) {
                    learn(rest.trim_ascii_start(), digest);
                }
            }
        }
        let status = fs::read(root.join("var/lib/dpkg/status")).unwrap_or_default();
        for line in status.split(|&b| b == b'\n') {
            let Some(conffile) = line.strip_prefix(b" /") else {
                continue;
            };
            let mut words = conffile.split(|&b| b == b' ');
            if let (Some(path), Some(digest)) = (words.next(), words.next()) {
                learn(path, digest);
            }
        }
        Ok(Self {
            root: root.to_owned(),
            digests,
        })
    }

    /// Whether the file still is what a package brought.
    pub(super) fn has(&self, path: &Path) -> Result<bool> {
        let inside = path.strip_prefix(&self.root).unwrap_or(path);
        // dpkg's copies of control files are of the packages themselves.
        if inside.starts_with("var/lib/dpkg/info") {
            return Ok(true);
        }
        let Some(known) = self.digests.get(&merged(inside.as_os_str().as_bytes())) else {
            return Ok(false);
        };
        let digest = md5(path).context(|| format!("cannot read {}", path.display()))?;
        Ok(known.contains(&digest))
    }
}

/// `bin/x` and `usr/bin/x` are one file where `/usr` is merged.
fn merged(path: &[u8]) -> Vec<u8> {
    for top in [
        &b"bin/"[..],
        b"sbin/",
        b"lib/",
        b"lib32/",
        b"lib64/",
        b"libx32/",
    ] {
        if path.starts_with(top) {
            return [b"usr/", path].concat();
        }
    }
    path.to_owned()
}

/// The digest as dpkg writes it.
pub(super) fn md5(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Md5::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
    }
    Ok(common::hex::encode(&hasher.finalize()))
}
