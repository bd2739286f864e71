//! The host programs a build needs, and how to get them.

use std::path::Path;

use crate::error::{Context, Error, Result};
use crate::process::{Output, PATH, Tool};

/// Program or file, the Debian package that has it, what it is for.
const NEEDED: [(&str, &str, &str); 7] = [
    ("debootstrap", "debootstrap", "bootstraps the tree"),
    ("schroot", "schroot", "runs the steps inside the tree"),
    ("unshare", "util-linux", "makes the namespaces of the build"),
    ("setpriv", "util-linux", "ends the build with its parent"),
    ("apt-get", "apt", "resolves and downloads packages"),
    (
        "/usr/share/keyrings/debian-archive-keyring.gpg",
        "debian-archive-keyring",
        "verifies the archive's signatures",
    ),
    (
        "/etc/ssl/certs/ca-certificates.crt",
        "ca-certificates",
        "verifies https servers",
    ),
];
/// Needed only by recipes that name Git repositories.
const GIT: (&str, &str, &str) = ("git", "git", "fetches Git sources of the recipe");

/// A program that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Program or file.
    pub what: String,
    /// The Debian package that has it.
    pub package: String,
    /// What it is for.
    pub purpose: String,
}

/// The state of the needed programs.
#[derive(Clone, Debug, Default)]
pub struct Tools {
    /// Those that are there, with their paths.
    pub present: Vec<(String, String)>,
    /// Those that are not.
    pub missing: Vec<Missing>,
}

impl Tools {
    /// Looks for everything a build needs.
    pub fn look(with_git: bool) -> Self {
        let mut tools = Self::default();
        for (what, package, purpose) in NEEDED.into_iter().chain(with_git.then_some(GIT)) {
            match locate(what) {
                Some(path) => tools.present.push((what.to_owned(), path)),
                None => tools.missing.push(Missing {
                    what: what.to_owned(),
                    package: package.to_owned(),
                    purpose: purpose.to_owned(),
                }),
            }
        }
        tools
    }

    /// The packages that bring what is missing, each once.
    pub fn packages(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.missing.iter().map(|m| m.package.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Fails with the command that brings what is missing.
    pub fn require(&self) -> Result<()> {
        if self.missing.is_empty() {
            return Ok(());
        }
        let mut error = Error::failed("this machine lacks programs that a build needs");
        for missing in &self.missing {
            error = error.detail(format!("{} ({})", missing.what, missing.purpose));
        }
        let packages = self.packages().join(" ");
        Err(error.hint(format!(
            "run `apt-get update && apt-get install {packages}`, or add --setup to let imgbuild do it"
        )))
    }

    /// Installs what is missing with apt.
    pub fn install(&self, listen: &mut dyn FnMut(&str)) -> Result<()> {
        let update = Tool::new("apt-get").arg("update");
        update.run(Output { log: None, listen })??;
        Tool::new("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["install", "--yes", "--no-install-recommends"])
            .args(self.packages())
            .run(Output { log: None, listen })??;
        Ok(())
    }
}

/// The path of a program on the search path, or of a file named by its path.
pub fn locate(what: &str) -> Option<String> {
    if what.starts_with('/') {
        return Path::new(what).exists().then(|| what.to_owned());
    }
    PATH.split(':')
        .map(|dir| format!("{dir}/{what}"))
        .find(|path| Path::new(path).is_file())
}

/// This machine's Debian architecture, e.g. `amd64`.
pub fn architecture() -> Result<String> {
    let out = Tool::new("dpkg").arg("--print-architecture").output()?;
    let text = String::from_utf8(out).context(|| "dpkg names no architecture".into())?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_brings_what_the_doctor_asks_for() {
        let control = include_str!("../../debian/control");
        let (_, depends) = control.split_once("\nDepends:").unwrap();
        // Continued lines are indented.
        let (depends, _) = depends.split_once("\nSuggests:").unwrap();
        let name = |entry: &str| {
            entry
                .trim()
                .split(' ')
                .next()
                .unwrap_or_default()
                .to_owned()
        };
        let depends: Vec<String> = depends.split(',').map(name).collect();
        for (what, package, _) in NEEDED.into_iter().chain([GIT]) {
            assert!(depends.contains(&package.to_owned()), "{what}: {package}");
        }
    }
}
