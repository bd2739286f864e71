//! What a stored image says about itself: packages, users, virtualenvs, suite.
//!
//! Read from the image and not from what came in: then it is the same for a
//! directory and a tar, and nothing of a foreign tree is ever looked at through
//! this machine's links.

use std::collections::BTreeMap;

use store::Image;
use store::canonical_tar::Kind;
use store::chunk::ChunkRef;
use store::manifest::{Package, User, Wheel};

use crate::tree;

/// No file that is read here is larger.
const MAX_FILE: u64 = 64 << 20;

/// Symbolic links that are followed on one way, as many as Linux does.
const MAX_LINKS: usize = 40;

/// What a manifest says besides digests.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) suite: Option<String>,
    pub(super) arch: Option<String>,
    pub(super) packages: Vec<Package>,
    pub(super) users: Vec<User>,
    pub(super) wheels: Vec<Wheel>,
}

impl Facts {
    pub(super) fn of(image: &Image) -> store::Result<Self> {
        let files = Files::list(image)?;
        let status = files.text("var/lib/dpkg/status")?.unwrap_or_default();
        let packages = tree::packages(&status);
        let passwd = files.text("etc/passwd")?.unwrap_or_default();
        let release = match files.text("etc/os-release")? {
            Some(text) => Some(text),
            None => files.text("usr/lib/os-release")?,
        };
        Ok(Self {
            suite: release.as_deref().and_then(suite),
            arch: match native(&packages) {
                Some(arch) => Some(arch),
                None => files.beginning("bin/sh")?.as_deref().and_then(machine),
            },
            users: tree::users(&passwd),
            wheels: files.wheels(),
            packages,
        })
    }
}

/// The architecture of the packages that every Debian system has in its own.
fn native(packages: &[Package]) -> Option<String> {
    let named = |name| packages.iter().find(|p| p.name == name && p.arch != "all");
    let package = named("dpkg").or_else(|| named("base-files"));
    package.map(|package| package.arch.clone())
}

/// The code name of os-release(5), or what stands for it elsewhere.
fn suite(release: &str) -> Option<String> {
    let field = |name: &str| {
        let value = release
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
        let value = value.trim().trim_matches(['"', '\'']);
        (!value.is_empty()).then(|| value.to_owned())
    };
    field("VERSION_CODENAME").or_else(|| match (field("ID"), field("VERSION_ID")) {
        (Some(id), Some(version)) => Some(format!("{id}-{version}")),
        (id, _) => id,
    })
}

/// Debian's name for the machine of an ELF file (elf(5), `e_machine`).
fn machine(elf: &[u8]) -> Option<String> {
    let (class, data) = (*elf.get(4)?, *elf.get(5)?);
    let bytes = elf.get(18..20)?.first_chunk::<2>()?;
    if !elf.starts_with(b"\x7fELF") {
        return None;
    }
    let machine = match data {
        1 => u16::from_le_bytes(*bytes),
        _ => u16::from_be_bytes(*bytes),
    };
    let name = match (machine, class, data) {
        (62, 2, _) => "amd64",
        (3, ..) => "i386",
        (183, ..) => "arm64",
        (40, ..) => "armhf",
        (21, 2, 1) => "ppc64el",
        (22, 2, _) => "s390x",
        (243, 2, _) => "riscv64",
        _ => return None,
    };
    Some(name.to_owned())
}

/// The files of an image by path.
struct Files<'i> {
    image: &'i Image,
    entries: BTreeMap<Vec<u8>, What>,
}

enum What {
    Directory,
    File(Vec<ChunkRef>),
    Symlink(Vec<u8>),
    Hardlink(Vec<u8>),
}

impl<'i> Files<'i> {
    fn list(image: &'i Image) -> store::Result<Self> {
        let mut entries = BTreeMap::new();
        for item in image.entries()? {
            let (entry, chunks) = item?;
            let what = match entry.kind {
                Kind::Directory => What::Directory,
                Kind::File { .. } => What::File(chunks),
                Kind::Symlink { target } => What::Symlink(target),
                Kind::Hardlink { target } => What::Hardlink(target),
            };
            entries.insert(entry.path, what);
        }
        Ok(Self { image, entries })
    }

    /// The path that a path leads to, inside the image, whatever links say.
    fn resolve(&self, path: &[u8]) -> Option<Vec<u8>> {
        let mut todo: Vec<Vec<u8>> = segments(path);
        let mut at: Vec<u8> = Vec::new();
        let mut links = 0;
        while let Some(segment) = todo.pop() {
            if segment == b".." {
                let slash = at.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                at.truncate(slash);
                continue;
            }
            let parent = at.len();
            if !at.is_empty() {
                at.push(b'/');
            }
            at.extend_from_slice(&segment);
            if let What::Symlink(target) = self.entries.get(&at)? {
                links += 1;
                if links > MAX_LINKS {
                    return None;
                }
                at.truncate(if target.first() == Some(&b'/') {
                    0
                } else {
                    parent
                });
                todo.extend(segments(target));
            }
        }
        Some(at)
    }

    /// The chunks of the file that a path leads to.
    fn file(&self, path: &str) -> Option<&[ChunkRef]> {
        let path = self.resolve(path.as_bytes())?;
        match self.entries.get(&path)? {
            What::File(chunks) => Some(chunks),
            What::Hardlink(target) => match self.entries.get(target)? {
                What::File(chunks) => Some(chunks),
                _ => None,
            },
            _ => None,
        }
    }

    /// A file's text; `None` when there is none, or one that is too long.
    fn text(&self, path: &str) -> store::Result<Option<String>> {
        let Some(chunks) = self.file(path) else {
            return Ok(None);
        };
        if chunks
            .iter()
            .map(|chunk| u64::from(chunk.len()))
            .sum::<u64>()
            > MAX_FILE
        {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        for chunk in chunks {
            bytes.extend(self.image.fetch(chunk)?);
        }
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn beginning(&self, path: &str) -> store::Result<Option<Vec<u8>>> {
        let first = self.file(path).and_then(<[ChunkRef]>::first);
        first.map(|chunk| self.image.fetch(chunk)).transpose()
    }

    /// The Python distributions of all virtualenvs.
    fn wheels(&self) -> Vec<Wheel> {
        let mut wheels: Vec<Wheel> = self
            .entries
            .keys()
            .filter_map(|path| self.wheel(std::str::from_utf8(path).ok()?))
            .collect();
        wheels.sort();
        wheels
    }

    /// What `V/lib/pythonX.Y/site-packages/NAME` says, if V is a virtualenv: one
    /// has a `pyvenv.cfg` (PEP 405), or for older Pythons an activate script.
    fn wheel(&self, path: &str) -> Option<Wheel> {
        let (site, name) = path.rsplit_once('/')?;
        let (lib, python) = site.strip_suffix("/site-packages")?.rsplit_once('/')?;
        let virtualenv = lib
            .strip_suffix("/lib")
            .filter(|_| python.starts_with("python"))?;
        let has = |name: &str| {
            let path = format!("{virtualenv}/{name}");
            self.entries.contains_key(path.as_bytes())
        };
        if !has("pyvenv.cfg") && !has("bin/activate") {
            return None;
        }
        tree::wheel(&format!("/{virtualenv}"), name)
    }
}

/// The segments of a path, the last one first.
fn segments(path: &[u8]) -> Vec<Vec<u8>> {
    let parts = path.split(|byte| *byte == b'/');
    let parts = parts.filter(|part| !matches!(*part, b"" | b"."));
    parts.rev().map(<[u8]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_of_several_systems() {
        for (text, expected) in [
            ("ID=debian\nVERSION_CODENAME=bookworm\n", Some("bookworm")),
            (
                "NAME=\"Alpine Linux\"\nID=alpine\nVERSION_ID=3.20.1\n",
                Some("alpine-3.20.1"),
            ),
            ("ID=\"arch\"\n", Some("arch")),
            ("VERSION_CODENAME=\n", None),
        ] {
            assert_eq!(suite(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn machines_by_their_headers() {
        let elf = |class: u8, data: u8, machine: [u8; 2]| {
            let mut elf = b"\x7fELF".to_vec();
            elf.extend([class, data]);
            elf.resize(18, 0);
            elf.extend(machine);
            elf
        };
        for (bytes, expected) in [
            (elf(2, 1, [62, 0]), Some("amd64")),
            (elf(1, 1, [3, 0]), Some("i386")),
            (elf(2, 1, [183, 0]), Some("arm64")),
            (elf(2, 2, [0, 22]), Some("s390x")),
            (elf(2, 1, [0xff, 0xff]), None),
            (b"#!/bin/sh\nexec busybox sh\n".to_vec(), None),
            (b"\x7fELF".to_vec(), None),
        ] {
            assert_eq!(machine(&bytes).as_deref(), expected);
        }
    }
}
