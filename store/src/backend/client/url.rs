//! The address of a store on a web server.

use std::fmt;
use std::str::FromStr;

use common::percent;
use reqwest::Url;

use crate::error::{Error, ErrorKind, Result};

/// `http://` or `https://`, host and folder, and perhaps who asks. Shown without
/// the latter, in every form.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpUrl {
    /// Without credentials, with a slash at the end.
    base: Url,
    credentials: Option<Credentials>,
}

/// A name and a password for a server.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) user: String,
    pub(super) password: Option<String>,
}

impl HttpUrl {
    /// The URL of an object.
    pub(super) fn object(&self, key: &str) -> Url {
        let mut url = self.base.clone();
        // Keys are plain segments: nothing in them is changed by this.
        let path = format!("{}{key}", self.base.path());
        url.set_path(&path);
        url
    }

    pub(super) fn host(&self) -> &str {
        self.base.host_str().unwrap_or_default()
    }

    /// The folder itself.
    #[cfg(feature = "s3")]
    pub(crate) fn folder(&self) -> &Url {
        &self.base
    }

    pub(super) fn is_https(&self) -> bool {
        self.base.scheme() == "https"
    }

    pub(super) fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    /// The whole address, credentials included.
    pub(crate) fn secret(&self) -> String {
        let mut url = self.base.clone();
        if let Some(Credentials { user, password }) = &self.credentials {
            // Cannot fail for these schemes.
            let _ = url.set_username(user);
            let _ = url.set_password(password.as_deref());
        }
        url.as_str().trim_end_matches('/').to_owned()
    }
}

impl FromStr for HttpUrl {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        // The text is not repeated: whatever is wrong with it, it may have a password.
        let refused = |why: &str| {
            Err(Error::new(
                ErrorKind::Invalid,
                format!("the address of the store {why}"),
            )
            .with_hint("for example https://store.example/images"))
        };
        let Ok(mut base) = Url::parse(text) else {
            return refused("is no URL");
        };
        if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
            return refused("is not of the form https://HOST/PATH");
        }
        if base.query().is_some() || base.fragment().is_some() {
            return refused("has a `?` or `#`: it names a folder, to which names are added");
        }
        let (Some(user), Some(password)) = (
            decoded(base.username()),
            base.password()
                .map(decoded)
                .map_or(Some(None), |p| p.map(Some)),
        ) else {
            return refused("has credentials that are not UTF-8");
        };
        let credentials =
            (!user.is_empty() || password.is_some()).then_some(Credentials { user, password });
        let _ = base.set_username("");
        let _ = base.set_password(None);
        let path = format!("{}/", base.path().trim_end_matches('/'));
        base.set_path(&path);
        Ok(Self { base, credentials })
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.base.as_str().trim_end_matches('/'))
    }
}

impl fmt::Debug for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn decoded(text: &str) -> Option<String> {
    String::from_utf8(percent::decode_leniently(text.as_bytes())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_below_the_folder() {
        for (text, object) in [
            ("http://h.example", "http://h.example/packs/a.pack"),
            ("http://h.example/", "http://h.example/packs/a.pack"),
            (
                "https://u:p@h.example:8443/s/t//",
                "https://h.example:8443/s/t/packs/a.pack",
            ),
            ("http://[::1]:80/x", "http://[::1]/x/packs/a.pack"),
        ] {
            let address: HttpUrl = text.parse().unwrap();
            assert_eq!(address.object("packs/a.pack").as_str(), object);
        }
    }

    #[test]
    fn credentials_are_decoded_and_come_back() {
        let address: HttpUrl = "https://me%40x:a%2Fb%3a@h.example/s".parse().unwrap();
        let Credentials { user, password } = address.credentials().unwrap();
        assert_eq!((user.as_str(), password.as_deref()), ("me@x", Some("a/b:")));
        assert_eq!(address.secret().parse::<HttpUrl>().unwrap(), address);
    }

    #[test]
    fn what_is_refused_is_not_repeated() {
        for text in [
            "http://",
            "http://u:geheim@",
            "https://u:geheim@h.example/?x=1",
            "https://u:geheim@h.example/#x",
            "https://u:geheim%ff@h.example/",
            "ftp://u:geheim@h.example/",
            "https://u:geheim@h.example:999999/",
        ] {
            let error = text.parse::<HttpUrl>().unwrap_err();
            assert!(!format!("{error:?}").contains("geheim"), "{error:?}");
        }
    }
}
