//! What differs between two locks, input by input.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use store::manifest::Package;

use super::Lock;

/// All differences, and what they weigh.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// By kind and name.
    pub changes: Vec<Change>,
    /// Bytes of all inputs before.
    pub bytes_before: u64,
    /// Bytes of all inputs now.
    pub bytes_after: u64,
}

/// One input that came, went or changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// `deb`, `python`, `git`, `download`, `file`, or `lock` for what the lock says of itself.
    pub kind: &'static str,
    /// Its name; a Python distribution is named with its virtualenv.
    pub name: String,
    /// What it was, with its bytes.
    pub before: Option<(String, u64)>,
    /// What it is, with its bytes.
    pub after: Option<(String, u64)>,
}

/// What a lock has, as far as people compare it: version, bytes, digest.
type Inputs = BTreeMap<(&'static str, String), (String, u64, String)>;

impl Changes {
    /// From no lock or an older one to a newer one.
    pub fn between(old: Option<&Lock>, new: &Lock) -> Self {
        let (before, after) = (old.map(inputs).unwrap_or_default(), inputs(new));
        Self {
            bytes_before: before.values().map(|i| i.1).sum(),
            bytes_after: after.values().map(|i| i.1).sum(),
            changes: compare(&before, &after),
        }
    }

    /// What differs between the packages of two images, of which no bytes are known.
    pub(crate) fn of_packages(before: &[Package], after: &[Package]) -> Vec<Change> {
        let inputs = |packages: &[Package]| -> Inputs {
            let input = |p: &Package| {
                (
                    ("deb", p.name.clone()),
                    (p.version.clone(), 0, String::new()),
                )
            };
            packages.iter().map(input).collect()
        };
        compare(&inputs(before), &inputs(after))
    }

    /// How many inputs came, went and changed.
    pub fn counts(&self) -> (usize, usize, usize) {
        let count = |wanted: (bool, bool)| {
            let of = |c: &&Change| (c.before.is_some(), c.after.is_some()) == wanted;
            self.changes
                .iter()
                .filter(|c| c.kind != "lock")
                .filter(of)
                .count()
        };
        (
            count((false, true)),
            count((true, false)),
            count((true, true)),
        )
    }
}

/// What differs between two sets of inputs, by kind and name.
fn compare(before: &Inputs, after: &Inputs) -> Vec<Change> {
    let mut keys: Vec<_> = before.keys().chain(after.keys()).collect();
    keys.sort();
    keys.dedup();
    let seen = |input: &(String, u64, String)| (input.0.clone(), input.1);
    keys.into_iter()
        .filter(|key| before.get(*key) != after.get(*key))
        .map(|key| Change {
            kind: key.0,
            name: key.1.clone(),
            before: before.get(key).map(seen),
            after: after.get(key).map(seen),
        })
        .collect()
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, name, .. } = self;
        match (&self.before, &self.after) {
            (None, Some((version, _))) => write!(f, "added    {kind} {name} {version}"),
            (Some((version, _)), None) => write!(f, "removed  {kind} {name} {version}"),
            (Some((old, _)), Some((new, _))) if old != new => {
                write!(f, "changed  {kind} {name} {old} -> {new}")
            }
            (_, Some((version, _))) => {
                write!(f, "changed  {kind} {name} {version}, other bytes")
            }
            (None, None) => Ok(()),
        }
    }
}

fn inputs(lock: &Lock) -> Inputs {
    let mut inputs = Inputs::new();
    for deb in &lock.debs {
        // A name has one entry for each stage that installs it.
        let mut of_name = lock.debs.iter().filter(|other| other.name == deb.name);
        let name = if of_name.any(|other| other.stage < deb.stage) {
            format!("{} ({})", deb.name, deb.stage)
        } else {
            deb.name.clone()
        };
        let about = (deb.version.clone(), deb.size, deb.sha256.hex());
        inputs.insert(("deb", name), about);
    }
    for python in &lock.python {
        let only = if python.build_only {
            ", to build others"
        } else {
            ""
        };
        let name = format!("{} ({}{only})", python.name, python.virtualenv);
        let about = (python.version.clone(), python.size, python.sha256.hex());
        inputs.insert(("python", name), about);
    }
    for git in &lock.git {
        let name = format!("{} source {}", git.virtualenv, git.index + 1);
        let version = format!("{} {:.12}", git.reference, git.commit);
        inputs.insert(("git", name), (version, git.size, git.sha256.hex()));
    }
    for download in &lock.downloads {
        let hex = download.sha256.hex();
        let about = (format!("{hex:.12}"), download.size, hex);
        inputs.insert(("download", download.url.clone()), about);
    }
    for file in &lock.files {
        let version = format!("{:.12}", file.sha256.hex());
        inputs.insert(
            ("file", file.path.clone()),
            (version, file.size, file.sha256.hex()),
        );
    }
    if let Some(base) = &lock.base {
        let about = (base.to_string(), 0, base.image.hex());
        inputs.insert(("base", "image".to_owned()), about);
    }
    for (name, value) in [
        ("epoch", lock.epoch.to_string()),
        ("bootstrapper", lock.bootstrapper.clone()),
    ] {
        inputs.insert(("lock", name.to_owned()), (value, 0, String::new()));
    }
    inputs
}

#[cfg(test)]
mod tests {
    use store::Sha256;

    use super::*;
    use crate::lockfile::tests::sample;
    use crate::lockfile::{Deb, InstallStage};

    fn lock(debs: &[(&str, &str, u64)]) -> Lock {
        let deb = |(name, version, size): &(&str, &str, u64)| Deb {
            name: (*name).to_owned(),
            version: (*version).to_owned(),
            architecture: "amd64".into(),
            stage: InstallStage::Base,
            archive: Some("debian".into()),
            path: format!("pool/{name}"),
            size: *size,
            sha256: Sha256::of(format!("{name}{size}").as_bytes()),
        };
        Lock {
            epoch: 7,
            debs: debs.iter().map(deb).collect(),
            ..sample()
        }
    }

    #[test]
    fn each_input_is_named_once_with_its_versions() {
        let old = lock(&[("a", "1", 10), ("b", "1", 20), ("c", "1", 30)]);
        let new = lock(&[("b", "2", 25), ("c", "1", 31), ("d", "1", 5)]);
        let changes = Changes::between(Some(&old), &new);
        let lines: Vec<String> = changes.changes.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "removed  deb a 1",
                "changed  deb b 1 -> 2",
                "changed  deb c 1, other bytes",
                "added    deb d 1"
            ]
        );
        assert_eq!(changes.counts(), (1, 1, 2));
        assert_eq!((changes.bytes_before, changes.bytes_after), (60, 61));
        assert_eq!(Changes::between(Some(&old), &old).changes, []);
    }
}
