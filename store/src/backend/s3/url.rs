//! The address of a store in a bucket.

use std::fmt;
use std::str::FromStr;

use crate::backend::is_key;
use crate::error::{Error, ErrorKind, Result};

/// `s3://BUCKET/PREFIX`; the prefix may be empty. Credentials are never part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketUrl {
    pub(super) bucket: String,
    /// Empty, or keys with a slash at the end.
    pub(super) prefix: String,
}

impl FromStr for BucketUrl {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        // Not repeated: somebody may have put a secret into it.
        let refused = |why: &str| {
            let text = format!("the address of the store {why}");
            Err(Error::new(ErrorKind::Invalid, text).with_hint("for example s3://BUCKET/images"))
        };
        let Some((scheme, rest)) = text.split_once("://") else {
            return refused("is not of the form s3://BUCKET/PREFIX");
        };
        if !scheme.eq_ignore_ascii_case("s3") {
            return refused("is not of the form s3://BUCKET/PREFIX");
        }
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let named = (3..=63).contains(&bucket.len()) && bucket.bytes().all(plain);
        if !named || !bucket.as_bytes()[0].is_ascii_alphanumeric() || bucket.contains("..") {
            return refused("names no bucket that there can be");
        }
        let prefix = prefix.trim_end_matches('/');
        if prefix.is_empty() {
            return Ok(Self {
                bucket: bucket.to_owned(),
                prefix: String::new(),
            });
        }
        if !is_key(prefix) {
            return refused("has a prefix other than letters, digits and `._-+=@/`");
        }
        Ok(Self {
            bucket: bucket.to_owned(),
            prefix: format!("{prefix}/"),
        })
    }
}

impl fmt::Display for BucketUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bucket, prefix } = self;
        write!(f, "s3://{bucket}/{}", prefix.trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_and_prefixes() {
        for (text, shown) in [
            ("s3://images", "s3://images/"),
            ("s3://images/", "s3://images/"),
            ("S3://images/a/b//", "s3://images/a/b"),
        ] {
            let location: BucketUrl = text.parse().unwrap();
            assert_eq!(location.to_string(), shown);
            assert_eq!(shown.parse::<BucketUrl>().unwrap(), location);
        }
        for text in [
            "s3://",
            "s3:///x",
            "s3://a/x",
            "s3://key:geheim@images/x",
            "s3://images/../geheim",
            "s3://images//geheim",
            "s3://images/geheim?x",
            "s3://im..ages/geheim",
            "s3://.images/geheim",
        ] {
            let error = text.parse::<BucketUrl>().unwrap_err();
            assert!(!format!("{error:?}").contains("geheim"), "{error:?}");
        }
    }
}
