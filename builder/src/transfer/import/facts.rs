//! What a stored image says about itself: packages, users, virtualenvs, suite.
//!
//! Read from the image and not from what came in: then it is the same for a
//! directory and a tar, and nothing of a foreign tree is ever looked at through
//! this machine's links.

use store::Image;
use store::manifest::{Package, User, Wheel};

use crate::dpkg_status;
use crate::inspect::files::{ImageFiles, os_release_field};
use crate::tree;

/// What a manifest says besides digests.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) suite: Option<String>,
    pub(super) arch: Option<String>,
    pub(super) packages: Vec<Package>,
    pub(super) users: Vec<User>,
    pub(super) wheels: Vec<Wheel>,
    /// The directory below which a whole system lies, and nothing beside it.
    pub(super) below: Option<String>,
}

impl Facts {
    pub(super) fn of(image: &Image) -> store::Result<Self> {
        let files = ImageFiles::list(image)?;
        let status = files.text("var/lib/dpkg/status")?.unwrap_or_default();
        let packages = dpkg_status::packages(&status);
        let passwd = files.text("etc/passwd")?.unwrap_or_default();
        let release = files.os_release()?;
        Ok(Self {
            suite: release.as_deref().and_then(suite),
            arch: match native(&packages) {
                Some(arch) => Some(arch),
                None => files.beginning("bin/sh")?.as_deref().and_then(machine),
            },
            users: tree::users(&passwd),
            wheels: wheels(&files),
            below: below(&files),
            packages,
        })
    }
}

fn below(files: &ImageFiles<'_>) -> Option<String> {
    // The root itself has an entry.
    let paths = files.paths().filter(|path| !path.is_empty());
    let mut tops = paths.map(|path| path.split('/').next());
    let top = tops.next()??;
    let is_system = [
        "etc/passwd",
        "etc/os-release",
        "usr/lib/os-release",
        "bin/sh",
        "var/lib/dpkg/status",
    ];
    // An image may have nothing but /usr.
    let alone = top != "usr" && tops.all(|other| other == Some(top));
    let is_system = is_system
        .iter()
        .any(|path| files.has(&format!("{top}/{path}")));
    (alone && is_system).then(|| top.to_owned())
}

/// The architecture of the packages that every Debian system has in its own.
fn native(packages: &[Package]) -> Option<String> {
    let named = |name| packages.iter().find(|p| p.name == name && p.arch != "all");
    let package = named("dpkg").or_else(|| named("base-files"));
    package.map(|package| package.arch.clone())
}

/// The code name of os-release(5), or what stands for it elsewhere.
fn suite(release: &str) -> Option<String> {
    let field = |name| os_release_field(release, name);
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

/// The Python distributions of all virtualenvs.
fn wheels(files: &ImageFiles<'_>) -> Vec<Wheel> {
    let wheels = files.paths().filter_map(|path| wheel(files, path));
    let mut wheels: Vec<Wheel> = wheels.collect();
    wheels.sort();
    wheels
}

/// What `V/lib/pythonX.Y/site-packages/NAME` says, if V is a virtualenv: one
/// has a `pyvenv.cfg` (PEP 405), or for older Pythons an activate script.
fn wheel(files: &ImageFiles<'_>, path: &str) -> Option<Wheel> {
    let (site, name) = path.rsplit_once('/')?;
    let (lib, python) = site.strip_suffix("/site-packages")?.rsplit_once('/')?;
    let virtualenv = lib
        .strip_suffix("/lib")
        .filter(|_| python.starts_with("python"))?;
    let has = |name: &str| files.has(&format!("{virtualenv}/{name}"));
    if !has("pyvenv.cfg") && !has("bin/activate") {
        return None;
    }
    tree::wheel(&format!("/{virtualenv}"), name)
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
