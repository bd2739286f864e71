//! What a base has installed, as its own dpkg status says it.

use store::Sha256;

use super::stages::{Installed, State};
use super::stanza::Candidate;
use crate::lockfile::Stage;

/// The installed packages of a dpkg status. Their files are not known: they are not installed
/// again.
pub(super) fn installed(status: &str) -> State {
    status.split("\n\n").filter_map(package).collect()
}

fn package(paragraph: &str) -> Option<(String, Installed)> {
    let field = |name: &str| {
        let of = |line: &&str| line.split_once(':').is_some_and(|(key, _)| key == name);
        let line = paragraph.lines().find(of)?;
        Some(line.split_once(':')?.1.trim())
    };
    let status = field("Status")?;
    if !status.ends_with(" ok installed") {
        return None;
    }
    let (name, architecture) = (field("Package")?, field("Architecture")?);
    let kept = paragraph
        .lines()
        .filter(|line| !line.starts_with("Status:"));
    let stanza = kept.collect::<Vec<_>>().join("\n");
    let package = Installed {
        id: (
            name.to_owned(),
            field("Version")?.to_owned(),
            architecture.to_owned(),
        ),
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
    Some((name.to_owned(), package))
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
