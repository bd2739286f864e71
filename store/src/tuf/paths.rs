//! Where the files of an environment lie in a store.
//!
//! ```text
//! env/NAME/metadata/N.root.json       every root there ever was
//! env/NAME/metadata/N.targets.json    which releases there are
//! env/NAME/metadata/N.snapshot.json   which targets are current
//! env/NAME/metadata/timestamp.json    which snapshot is current; the only file that changes
//! env/NAME/targets/IMAGE-NAME/SHA256.SEQ.json   the manifest of a release
//! env/NAME/log/N.json                 what was done, one act a file
//! env/NAME/history.json               what old targets said, and who signed it
//! env/NAME/witness/KEYID.json         how far somebody else has seen the log
//! ```
//!
//! This is TUF's layout for consistent snapshots (TUF 6.2): a client gets
//! along with the two folders as its metadata and targets URLs. Names come from
//! [`EnvName`] and [`ImageName`] only, whose grammar has no `/` and no leading
//! dot, so no metadata can point outside of its environment.

#[cfg(feature = "write")]
use crate::keys::PublicKey;
use crate::name::{EnvName, ImageName};

/// The prefix of everything that belongs to one environment.
pub fn home(env: &EnvName) -> String {
    format!("env/{env}/")
}

/// A metadata file of the environment: `1.root.json`, `timestamp.json`.
pub fn metadata(env: &EnvName, file: &str) -> String {
    format!("env/{env}/metadata/{file}")
}

/// An entry of the environment's log.
pub fn log(env: &EnvName, number: u64) -> String {
    format!("env/{env}/log/{number}.json")
}

/// What old versions of targets said.
pub fn history(env: &EnvName) -> String {
    format!("env/{env}/history.json")
}

/// What the witness with a key has signed last.
#[cfg(feature = "write")]
pub fn witness(env: &EnvName, key: &PublicKey) -> String {
    format!("env/{env}/witness/{}.json", key.id())
}

/// The name of a release as a TUF target.
pub fn target_name(name: &ImageName, seq: u64) -> String {
    format!("{name}/{seq}.json")
}

/// The folder of releases' manifests, as a prefix of keys.
pub fn targets(env: &EnvName) -> String {
    format!("env/{env}/targets/")
}

/// The key of a release's manifest.
pub fn target(env: &EnvName, name: &ImageName, seq: u64, sha256: &str) -> String {
    format!("env/{env}/targets/{name}/{sha256}.{seq}.json")
}

/// Takes a target name apart; `None` if it is not of the form
/// `IMAGE-NAME/SEQ.json`, SEQ being 1 or more and without leading zeros.
pub fn parse_target_name(target: &str) -> Option<(ImageName, u64)> {
    let (name, file) = target.split_once('/')?;
    let digits = file.strip_suffix(".json")?;
    let seq: u64 = digits.parse().ok()?;
    let exact = seq > 0 && seq.to_string() == digits;
    Some((name.parse().ok()?, seq)).filter(|_| exact)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_names_come_back() {
        let name: ImageName = "fanery-node".parse().unwrap();
        let target = target_name(&name, 12);
        assert_eq!(target, "fanery-node/12.json");
        assert_eq!(parse_target_name(&target), Some((name, 12)));
    }

    #[test]
    fn what_is_no_release_is_none() {
        for target in [
            "",
            "a",
            "a/",
            "/1.json",
            "a/0.json",
            "a/01.json",
            "a/+1.json",
            "a/1",
            "a/1.json/x",
            "../1.json",
            "a/../1.json",
            "a/-1.json",
            "A/1.json",
            "a/18446744073709551616.json",
        ] {
            assert_eq!(parse_target_name(target), None, "{target}");
        }
    }
}
