//! Names that people give to images and environments.
//!
//! A name becomes a file name, a URL segment, a TUF role and a word on a
//! terminal. One narrow grammar, `[a-z0-9][a-z0-9._-]{0,63}`, is safe in all four
//! and cannot be spelled in two ways on any file system.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The most bytes that a name may have.
pub const MAX_LEN: usize = 64;

/// The text is outside the grammar of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseNameError {
    what: &'static str,
    text: String,
}

impl fmt::Display for ParseNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is not the name of an {}: expected 1 to {MAX_LEN} of a-z, 0-9, `.`, `_` and `-`, \
             beginning with a letter or digit",
            self.text.escape_default(),
            self.what
        )
    }
}

impl std::error::Error for ParseNameError {}

macro_rules! name {
    ($(#[$meta:meta])* $name:ident, $what:literal) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The name as it was given.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = ParseNameError;

            fn from_str(text: &str) -> Result<Self, ParseNameError> {
                if is_name(text.as_bytes()) {
                    return Ok(Self(text.to_owned()));
                }
                let text = text.chars().take(MAX_LEN + 1).collect();
                Err(ParseNameError { what: $what, text })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    };
}

name! {
    /// What a recipe calls the image that it makes.
    ImageName, "image"
}

name! {
    /// What an environment (dev, staging, prod, ...) is called.
    EnvName, "environment"
}

name! {
    /// What a machine of a farm, or a group of them, is called.
    NodeName, "node or group"
}

fn is_name(text: &[u8]) -> bool {
    let letter_or_digit = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.len() <= MAX_LEN
        && text.first().is_some_and(letter_or_digit)
        && text
            .iter()
            .all(|byte| letter_or_digit(byte) || b"._-".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grammar() {
        let longest = "a".repeat(MAX_LEN);
        for good in ["a", "0", "fanery-node", "python3.11_web", longest.as_str()] {
            assert_eq!(good.parse::<ImageName>().unwrap().as_str(), good);
        }
        let too_long = "a".repeat(MAX_LEN + 1);
        for bad in [
            "",
            ".",
            "..",
            "-a",
            ".a",
            "_a",
            "A",
            "a/b",
            "a b",
            "ä",
            "a\n",
            "a\0",
            too_long.as_str(),
        ] {
            assert!(bad.parse::<EnvName>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn errors_name_the_noun() {
        let error = "No".parse::<EnvName>().unwrap_err().to_string();
        assert!(
            error.starts_with("`No` is not the name of an environment"),
            "{error}"
        );
    }
}
