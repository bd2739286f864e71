//! Reading a finished tree from outside, as data.
//!
//! A tree is made by programs we do not trust with the host: its links may
//! point anywhere. Files are opened with openat2(2) `RESOLVE_IN_ROOT`, so that
//! every link stays inside.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, open, openat2};
use store::manifest::{Package, User, Wheel};

use crate::dpkg_status;
use crate::error::{Context, Error, Result};

/// No file that is read here is larger.
const MAX_FILE: u64 = 64 << 20;

/// A tree's root directory.
#[derive(Debug)]
pub struct Tree {
    root: OwnedFd,
    path: PathBuf,
}

impl Tree {
    /// Opens the tree at `path`.
    pub fn open(path: &Path) -> Result<Self> {
        let root = open(path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .context(|| format!("cannot open {}", path.display()))?;
        Ok(Self {
            root,
            path: path.to_owned(),
        })
    }

    /// The text of a file of the tree; `None` when it is not there.
    pub fn read(&self, name: &str) -> Result<Option<String>> {
        let failed = || format!("cannot read {name} of the tree {}", self.path.display());
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = match openat2(
            &self.root,
            name,
            flags,
            Mode::empty(),
            ResolveFlags::IN_ROOT,
        ) {
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            other => other.context(failed)?,
        };
        let mut bytes = Vec::new();
        File::from(fd)
            .take(MAX_FILE)
            .read_to_end(&mut bytes)
            .context(failed)?;
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// The installed Debian packages, sorted.
    pub fn packages(&self) -> Result<Vec<Package>> {
        let status = self.read("var/lib/dpkg/status")?.ok_or_else(|| {
            Error::failed(format!(
                "the tree {} has no dpkg database",
                self.path.display()
            ))
        })?;
        Ok(dpkg_status::packages(&status))
    }

    /// The users, in the order of the file.
    pub fn users(&self) -> Result<Vec<User>> {
        let text = self.read("etc/passwd")?.unwrap_or_default();
        Ok(users(&text))
    }

    /// The groups with their ids, in the order of the file.
    pub(crate) fn groups(&self) -> Result<Vec<(String, u32)>> {
        let text = self.read("etc/group")?.unwrap_or_default();
        let group = |line: &str| {
            let mut fields = line.split(':');
            Some((fields.next()?.to_owned(), fields.nth(1)?.parse().ok()?))
        };
        Ok(text.lines().filter_map(group).collect())
    }

    /// The Python distributions of a virtualenv, sorted.
    pub fn wheels(&self, virtualenv: &str) -> Result<Vec<Wheel>> {
        let lib = format!("{}/lib", virtualenv.trim_start_matches('/'));
        let mut wheels = Vec::new();
        for python in self.names(&lib)? {
            for name in self.names(&format!("{lib}/{python}/site-packages"))? {
                wheels.extend(wheel(virtualenv, &name));
            }
        }
        wheels.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
        Ok(wheels)
    }

    /// The names in a directory, sorted; none when it is not there.
    fn names(&self, dir: &str) -> Result<Vec<String>> {
        let failed = || format!("cannot list {dir} of the tree {}", self.path.display());
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = match openat2(&self.root, dir, flags, Mode::empty(), ResolveFlags::IN_ROOT) {
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(Vec::new()),
            other => other.context(failed)?,
        };
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&fd).context(failed)? {
            let entry = entry.context(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }
}

/// The users of /etc/passwd, in its order.
pub(crate) fn users(passwd: &str) -> Vec<User> {
    passwd.lines().filter_map(user).collect()
}

/// What the name of an entry of `site-packages` says is installed.
pub(crate) fn wheel(virtualenv: &str, name: &str) -> Option<Wheel> {
    let stem = name
        .strip_suffix(".dist-info")
        .or(name.strip_suffix(".egg-info"))?;
    let (project, version) = stem.split_once('-')?;
    // Eggs add the interpreter: name-1.0-py2.7
    let version = version.split("-py").next().unwrap_or(version);
    Some(Wheel {
        virtualenv: virtualenv.to_owned(),
        name: project.to_owned(),
        version: version.to_owned(),
    })
}

/// A line of /etc/passwd.
fn user(line: &str) -> Option<User> {
    let fields: Vec<&str> = line.split(':').collect();
    let [name, _, uid, gid, _, home, shell] = fields[..] else {
        return None;
    };
    Some(User {
        name: name.to_owned(),
        uid: uid.parse().ok()?,
        gid: gid.parse().ok()?,
        home: home.to_owned(),
        shell: shell.to_owned(),
    })
}

/// Unpacks a retained tar archive below an empty directory.
pub(crate) fn unpack(archive: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).context(|| format!("cannot make {}", to.display()))?;
    let file = File::open(archive).context(|| format!("cannot read {}", archive.display()))?;
    let mut archive = tar::Archive::new(std::io::BufReader::new(file));
    archive.set_preserve_mtime(false);
    archive.set_preserve_permissions(true);
    // unpack() refuses paths and links that leave the directory.
    archive
        .unpack(to)
        .context(|| format!("cannot unpack into {}", to.display()))
}

/// Appends a line to a log, if it can.
pub(crate) fn log_line(log: &mut File, line: &str) {
    let _ = writeln!(log, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_a_tree_stay_inside() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::write(dir.path().join("secret"), "outside").unwrap();
        std::os::unix::fs::symlink("/secret", root.join("etc/passwd")).unwrap();
        let tree = Tree::open(&root).unwrap();
        assert_eq!(tree.read("etc/passwd").unwrap(), None);
        assert_eq!(tree.read("../secret").unwrap(), None);
        std::fs::write(root.join("secret"), "op:x:1000:1000::/home/op:/bin/sh\n").unwrap();
        assert_eq!(tree.users().unwrap()[0].name, "op");
    }

    #[test]
    fn distributions_are_found() {
        let root = tempfile::tempdir().unwrap();
        let site = root.path().join("v/lib/python2.7/site-packages");
        for name in [
            "fanery-0.2.5.dist-info",
            "old_egg-1.0-py2.7.egg-info",
            "fanery",
        ] {
            std::fs::create_dir_all(site.join(name)).unwrap();
        }
        let wheels = Tree::open(root.path()).unwrap().wheels("/v").unwrap();
        let found: Vec<_> = wheels
            .iter()
            .map(|w| format!("{} {}", w.name, w.version))
            .collect();
        assert_eq!(found, ["fanery 0.2.5", "old_egg 1.0"]);
    }
}
