//! What a base has installed, as its own dpkg status says it.

use store::Sha256;
use store::manifest::Package;

use super::stages::{Installed, State};
use super::stanza::Candidate;
use crate::dpkg_status::{self, InstalledPackage};
use crate::lockfile::InstallStage;

/// The installed packages of a dpkg status. Their files are not known: they are not installed
/// again.
pub(super) fn installed(status: &str) -> State {
    let installed = dpkg_status::installed(status).filter(InstalledPackage::is_sound);
    installed.map(|one| package(&one)).collect()
}

fn package(installed: &InstalledPackage<'_>) -> (String, Installed) {
    let lines = installed.text.lines();
    let kept = lines.filter(|line| !line.starts_with("Status:"));
    let stanza = kept.collect::<Vec<_>>().join("\n");
    let Package {
        name,
        version,
        arch,
    } = installed.package.clone();
    let package = Installed {
        id: (name.clone(), version, arch),
        found: Candidate {
            sha256: Sha256::of(stanza.as_bytes()),
            stanza,
            archive: Some("base".to_owned()),
            path: String::new(),
            size: 0,
            defect: None,
        },
        stage: InstallStage::Base,
        is_held: installed.is_held(),
    };
    (name, package)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_installed_counts_and_keeps_its_hold() {
        let status = "Package: a\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1-2\n\
                      Conffiles:\n /etc/a 0123\n\n\
                      Package: b\nStatus: hold ok installed\nArchitecture: all\nVersion: 3\n\n\
                      Package: c\nStatus: deinstall ok config-files\nArchitecture: all\nVersion: 4\n";
        let state = installed(status);
        assert_eq!(state.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(state["a"].id, ("a".into(), "1-2".into(), "amd64".into()));
        assert!(state["b"].is_held && !state["a"].is_held);
        assert!(!state["a"].found.stanza.contains("Status:"));
    }
}
