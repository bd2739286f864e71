//! A stage of waves, and which nodes it covers.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::Sha256;
use crate::name::{EnvName, ImageName, NodeName};

/// What comes before the names whose hash is a node's place in a release.
const DOMAIN: &[u8] = b"imgbuild-wave-1";

/// The nodes that a stage covers, beside those of the stages before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Stage {
    /// The nodes of these groups.
    Groups(Vec<NodeName>),
    /// Of a hundred nodes so many, by a hash of their names.
    Percent(u8),
}

/// A node, as stages know it.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// Its name; a node without one is covered by its group, and by a stage of 100 %.
    pub name: Option<&'a NodeName>,
    /// The group that it is in.
    pub group: Option<&'a NodeName>,
}

impl Stage {
    /// Whether this stage alone covers a node, whose place is that for the release.
    pub(super) fn covers(&self, node: Member<'_>, place: Option<u64>) -> bool {
        match self {
            Self::Groups(groups) => node.group.is_some_and(|group| groups.contains(group)),
            Self::Percent(100) => true,
            Self::Percent(percent) => place.is_some_and(|place| is_below(place, *percent)),
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percent(percent) => write!(f, "{percent} %"),
            Self::Groups(names) => {
                let names: Vec<_> = names.iter().map(NodeName::as_str).collect();
                let noun = if names.len() == 1 { "group" } else { "groups" };
                write!(f, "{noun} {}", names.join(" and "))
            }
        }
    }
}

/// `10%`, the name of a group, or several with `+` between them.
impl FromStr for Stage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(number) = text.strip_suffix('%') {
            let percent = number.trim().parse().ok();
            let percent = percent.filter(|percent| (1..=100).contains(percent));
            let wrong = || format!("`{}` is not 1% to 100%", text.escape_debug());
            return percent.map(Self::Percent).ok_or_else(wrong);
        }
        let names = text.split('+').map(|name| name.trim().parse::<NodeName>());
        let names = names.collect::<Result<_, _>>();
        names.map(Self::Groups).map_err(|e| e.to_string())
    }
}

/// The place of a node among all, for one release: another release asks other nodes first.
pub(super) fn place(environment: &EnvName, image: &ImageName, seq: u64, node: &NodeName) -> u64 {
    let seq = seq.to_string();
    let parts = [environment.as_str(), image.as_str(), &seq, node.as_str()];
    let mut text = DOMAIN.to_vec();
    for part in parts {
        // No name has this byte.
        text.push(0);
        text.extend_from_slice(part.as_bytes());
    }
    // The first eight bytes, big-endian.
    u64::from_str_radix(&Sha256::of(&text).hex()[..16], 16).unwrap_or(u64::MAX)
}

/// Whether a place is among the first so many of a hundred.
pub(super) fn is_below(place: u64, percent: u8) -> bool {
    u128::from(place) * 100 < u128::from(percent) << 64
}
