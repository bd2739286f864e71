//! The name of an installed system.
//!
//! A system is what the operator starts and stops: `MyProject`. Its name is also the name of a
//! schroot chroot, of a directory below the target and of our state files, so its grammar is what
//! all of them allow: schroot's chroot names (schroot.conf(5), "Chroot names"), without a path
//! separator, at most 64 bytes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// A name that is safe as a file name and as a chroot name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SystemName(String);

const LIMIT: usize = 64;
/// schroot ignores files with these endings, and gives `-source` a meaning of its own.
const RESERVED: [&str; 5] = ["-source", "dpkg-old", "dpkg-dist", "dpkg-new", "dpkg-tmp"];

impl SystemName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SystemName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let good = !text.is_empty()
            && text.len() <= LIMIT
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if !good {
            return Err(
                Error::usage(format!("`{}` cannot name a system", text.escape_debug())).hint(
                    "use up to 64 letters, digits, `.`, `_`, `-`; the first one a letter or digit",
                ),
            );
        }
        if let Some(end) = RESERVED.iter().find(|end| text.ends_with(**end)) {
            return Err(Error::usage(format!(
                "`{text}` cannot name a system: schroot keeps names that end in `{end}` for itself"
            ))
            .hint("choose another name with --as"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for SystemName {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<SystemName> for String {
    fn from(name: SystemName) -> Self {
        name.0
    }
}

impl fmt::Display for SystemName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_schroot_accepts() {
        for name in ["MyProject", "a", "web-1.2_x", "0day", &"x".repeat(64)] {
            assert!(name.parse::<SystemName>().is_ok(), "{name}");
        }
    }

    #[test]
    fn refuses_everything_else() {
        let long = "x".repeat(65);
        for name in [
            "",
            ".a",
            "-a",
            "a/b",
            "a b",
            "a+b",
            "a\n",
            "..",
            "web-source",
            "a.dpkg-new",
            "é",
            &long,
        ] {
            assert!(name.parse::<SystemName>().is_err(), "{name:?}");
        }
    }
}
