//! Settings of the HTTP client: proxies, credentials, time limits.

use std::path::PathBuf;
use std::time::Duration;
use std::{fmt, fs, io};

use super::netrc;
use super::url::{Credentials, HttpUrl};
#[cfg(feature = "s3")]
use crate::backend::aws::AwsSettings;
use crate::error::{Error, ErrorKind, Result};

/// Names the patience in seconds.
const PATIENCE: &str = "IMGBUILD_PATIENCE";

/// Settings of this machine for stores on a network.
#[derive(Clone)]
pub struct ClientOptions {
    /// How long a server may send less than a kibibyte a second.
    pub patience: Duration,
    /// The first wait before a request is repeated; each further one is twice as long.
    pub pause: Duration,
    /// How many attempts in a row may fail before a request does.
    pub attempts: u32,
    /// Where content is kept while an image is read: a directory on a disk.
    pub scratch: PathBuf,
    /// How long others wait for a writer that does not say that it lives, where no
    /// kernel tells them: in a bucket.
    #[cfg(feature = "s3")]
    pub lease: Duration,
    pub(super) proxies: Proxies,
    netrc: String,
    #[cfg(feature = "s3")]
    pub(crate) aws: AwsSettings,
}

/// Addresses of proxies, as the environment has them.
#[derive(Clone, Default)]
pub(super) struct Proxies {
    pub(super) http: Option<String>,
    pub(super) https: Option<String>,
    pub(super) all: Option<String>,
    /// Hosts that are reached directly.
    pub(super) none_for: Option<String>,
}

impl Default for ClientOptions {
    /// No proxy, no credentials, a minute of patience.
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(60),
            pause: Duration::from_millis(250),
            attempts: 6,
            scratch: "/var/tmp".into(),
            #[cfg(feature = "s3")]
            lease: Duration::from_secs(180),
            proxies: Proxies::default(),
            netrc: String::new(),
            #[cfg(feature = "s3")]
            aws: AwsSettings::default(),
        }
    }
}

impl ClientOptions {
    /// What an environment says: `http_proxy`, `https_proxy`, `all_proxy`, `no_proxy`
    /// (in lower case, else in upper case), `NETRC` or `HOME` for a netrc file,
    /// `TMPDIR`, and `IMGBUILD_PATIENCE` in seconds.
    ///
    /// `SSL_CERT_FILE` and `SSL_CERT_DIR` are read where the certificates are.
    pub fn from_environment(environment: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let variable = |name: &str| environment(name).filter(|value| !value.is_empty());
        let either = |name: &str| variable(name).or_else(|| variable(&name.to_ascii_uppercase()));
        let mut access = Self {
            proxies: Proxies {
                http: either("http_proxy"),
                https: either("https_proxy"),
                all: either("all_proxy"),
                none_for: either("no_proxy"),
            },
            #[cfg(feature = "s3")]
            aws: AwsSettings::from_environment(&variable),
            ..Self::default()
        };
        if let Some(dir) = variable("TMPDIR") {
            access.scratch = dir.into();
        }
        if let Some(text) = variable(PATIENCE) {
            let Ok(seconds @ 1..=86_400) = text.parse() else {
                let text = format!("{PATIENCE} is not a number of seconds: {text}");
                return Err(Error::new(ErrorKind::Invalid, text)
                    .with_hint(format!("for example {PATIENCE}=60, the default")));
            };
            access.patience = Duration::from_secs(seconds);
        }
        let named = variable("NETRC").map(PathBuf::from);
        let usual = || Some(PathBuf::from(variable("HOME")?).join(".netrc"));
        if let Some(path) = named.clone().or_else(usual) {
            access.netrc = match fs::read_to_string(&path) {
                Ok(text) => text,
                // One that nobody named need not be there.
                Err(error) if named.is_none() || error.kind() == io::ErrorKind::NotFound => {
                    String::new()
                }
                Err(error) => return Err(Error::io("read", path, error)),
            };
        }
        Ok(access)
    }

    /// The credentials for a server: those of its URL, completed by the netrc file.
    pub(super) fn credentials(&self, address: &HttpUrl) -> Option<Credentials> {
        match address.credentials() {
            Some(whole) if whole.password.is_some() => Some(whole.clone()),
            Some(half) => netrc::find(&self.netrc, address.host(), Some(&half.user))
                .or_else(|| Some(half.clone())),
            None => netrc::find(&self.netrc, address.host(), None),
        }
    }
}

impl fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("patience", &self.patience)
            .field("scratch", &self.scratch)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_decides() {
        let home = tempfile::tempdir().unwrap();
        fs::write(
            home.path().join(".netrc"),
            "machine s.example login me password one",
        )
        .unwrap();
        let read = |name: &str| match name {
            "HTTP_PROXY" => Some("http://big.example:1".to_owned()),
            "http_proxy" => Some("http://small.example:1".to_owned()),
            "https_proxy" => Some(String::new()),
            "NO_PROXY" => Some("localhost".to_owned()),
            "HOME" => Some(home.path().display().to_string()),
            "IMGBUILD_PATIENCE" => Some("5".to_owned()),
            _ => None,
        };
        let access = ClientOptions::from_environment(&read).unwrap();
        assert_eq!(access.patience, Duration::from_secs(5));
        assert_eq!(
            access.proxies.http.as_deref(),
            Some("http://small.example:1")
        );
        assert_eq!(access.proxies.https, None);
        assert_eq!(access.proxies.none_for.as_deref(), Some("localhost"));
        let password = |text: &str| access.credentials(&text.parse().unwrap())?.password;
        assert_eq!(password("https://s.example/x").as_deref(), Some("one"));
        assert_eq!(password("https://me@s.example/x").as_deref(), Some("one"));
        assert_eq!(
            password("https://me:two@s.example/x").as_deref(),
            Some("two")
        );
        assert_eq!(password("https://you@s.example/x"), None);
        assert!(!format!("{access:?}").contains("one"));
        let bad = |name: &str| (name == PATIENCE).then(|| "soon".to_owned());
        assert_eq!(
            ClientOptions::from_environment(&bad).unwrap_err().kind(),
            ErrorKind::Invalid
        );
    }
}
