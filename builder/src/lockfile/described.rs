//! What Git says of a commit, for packages that take their version from it.
//!
//! Trees in a lock have no history. Build backends that look for one read, in its place,
//! the files that `git archive` fills in, or a variable; both are made from this.

use std::fmt;

use serde::{Deserialize, Serialize};

/// `TAG-DISTANCE-gCOMMIT DATE`: `git describe --tags --long`, and when it was committed
/// (ISO 8601).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Described(String);

/// The tag that stands for none.
pub const NO_TAG: &str = "0.0";

/// Its parts.
struct Parts<'a> {
    tag: &'a str,
    distance: &'a str,
    commit: &'a str,
    date: &'a str,
}

impl Described {
    /// From what git wrote; nothing when it is of another form.
    pub fn new(describe: &str, date: &str) -> Option<Self> {
        let one = Self(format!("{} {}", describe.trim(), date.trim()));
        one.is_sound().then_some(one)
    }

    fn parts(&self) -> Option<Parts<'_>> {
        let (describe, date) = self.0.split_once(' ')?;
        let (rest, commit) = describe.rsplit_once("-g")?;
        let (tag, distance) = rest.rsplit_once('-')?;
        Some(Parts {
            tag,
            distance,
            commit,
            date,
        })
    }

    /// Whether it has the right form: it becomes text of files.
    pub(super) fn is_sound(&self) -> bool {
        let is_plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\' | b'\'' | b'$');
        self.parts().is_some_and(|parts| {
            !parts.tag.is_empty()
                && parts.tag.bytes().all(is_plain)
                && !parts.distance.is_empty()
                && parts.distance.bytes().all(|b| b.is_ascii_digit())
                && (4..=64).contains(&parts.commit.len())
                && parts.commit.bytes().all(|b| b.is_ascii_hexdigit())
                && parts
                    .date
                    .bytes()
                    .all(|b| b.is_ascii_digit() || b"-:+TZ".contains(&b))
        })
    }

    /// The tag that is on the very commit.
    pub fn tag(&self) -> Option<&str> {
        let parts = self.parts()?;
        (parts.distance == "0").then_some(parts.tag)
    }

    /// Whether it says more of the same commit: a tag where the other found none, or more commits
    /// since the same one, because that was said of a part of the history.
    pub fn completes(&self, other: &Self) -> bool {
        let (Some(own), Some(other)) = (self.parts(), other.parts()) else {
            return false;
        };
        let is_same = own.commit.starts_with(other.commit) || other.commit.starts_with(own.commit);
        let distance = |parts: &Parts<'_>| parts.distance.parse().unwrap_or(0_u64);
        let is_longer = own.tag == other.tag && distance(&own) > distance(&other);
        is_same && (is_longer || own.tag != NO_TAG && other.tag == NO_TAG)
    }

    /// The version that this tag says: `v1.2` and `app-1.2` say 1.2.
    pub fn version(&self) -> Option<&str> {
        let tag = self.tag()?;
        let version = match tag.rsplit_once('-') {
            Some((name, version))
                if !name.starts_with(|c: char| c.is_ascii_digit()) && !is_version(name) =>
            {
                version
            }
            _ => tag,
        };
        let version = version.strip_prefix(['v', 'V']).unwrap_or(version);
        is_version(version).then_some(version)
    }

    /// The files that git would have filled in, by name: for `setuptools_scm` and what
    /// builds on it, and for dunamai.
    pub fn files(&self) -> Vec<(&'static str, String)> {
        let Some(Parts {
            tag,
            distance,
            commit,
            date,
        }) = self.parts()
        else {
            return Vec::new();
        };
        let refs = self
            .tag()
            .map_or(String::new(), |tag| format!("tag: {tag}"));
        let describe = match self.tag() {
            Some(tag) => tag.to_owned(),
            None => format!("{tag}-{distance}-g{commit}"),
        };
        let json = serde_json::json!({
            "hash-full": commit, "hash-short": commit, "timestamp": date,
            "refs": refs, "describe": describe,
        });
        let text = format!(
            "node: {commit}\nnode-date: {date}\ndescribe-name: {describe}\nref-names: {refs}\n"
        );
        vec![
            (".git_archival.txt", text),
            (".git_archival.json", format!("{json}\n")),
        ]
    }

    /// The variables for backends that read only those: pdm-backend and pbr.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let version = self.version().map(str::to_owned);
        let names = ["PDM_BUILD_SCM_VERSION", "PBR_VERSION"];
        names
            .into_iter()
            .filter_map(|name| Some((name, version.clone()?)))
            .collect()
    }
}

impl fmt::Display for Described {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.split(' ').next().unwrap_or_default())
    }
}

fn is_version(text: &str) -> bool {
    let text = text.strip_prefix(['v', 'V']).unwrap_or(text);
    text.starts_with(|c: char| c.is_ascii_digit())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b".+!_".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &str = "2026-11-29T03:28:22+00:00";

    #[test]
    fn a_tag_says_a_version() {
        for (describe, version) in [
            ("v1.2.3-0-gabcdef1", Some("1.2.3")),
            ("1.2rc1-0-gabcdef1", Some("1.2rc1")),
            ("my-app-v2-0-gabcdef1", Some("2")),
            ("v1.2.3-4-gabcdef1", None),
            ("newest-0-gabcdef1", None),
        ] {
            let described = Described::new(describe, DATE).unwrap();
            assert_eq!(described.version(), version, "{describe}");
        }
        let off = Described::new("v1.2-4-gabcdef1", DATE).unwrap();
        let text = &off.files()[0].1;
        assert!(
            text.contains("describe-name: v1.2-4-gabcdef1\nref-names: \n"),
            "{text}"
        );
        for bad in [
            "v1.2",
            "v1\n-0-gabcdef1",
            "$(x)-0-gabcdef1",
            "v1-x-gabcdef1",
        ] {
            assert!(Described::new(bad, DATE).is_none(), "{bad}");
        }
    }
}
