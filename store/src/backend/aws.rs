//! Settings of AWS: credentials, region and endpoint, from where AWS's own programs
//! have them.
//!
//! | what | from, the first that is there |
//! |---|---|
//! | credentials | `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` (with `AWS_SESSION_TOKEN`), the profile in the file of credentials, the profile in the file of settings |
//! | the file of credentials | `AWS_SHARED_CREDENTIALS_FILE`, `~/.aws/credentials` |
//! | the file of settings | `AWS_CONFIG_FILE`, `~/.aws/config` |
//! | the profile | `AWS_PROFILE`, `default` |
//! | the region | `AWS_REGION`, `AWS_DEFAULT_REGION`, `region` of the profile; `us-east-1` where there is an endpoint |
//! | the endpoint | `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`, `endpoint_url` of the profile; AWS in that region |
//!
//! Programs that make credentials (`credential_process`, single sign-on, roles of
//! machines) are not asked.

use std::collections::HashMap;
use std::path::PathBuf;
use std::{fmt, fs, io};

use rusty_s3::Credentials;

use crate::error::{Error, ErrorKind, Result};

/// What the environment says about S3.
#[derive(Clone, Default)]
pub(crate) struct AwsSettings {
    key: Option<String>,
    secret: Option<String>,
    token: Option<String>,
    profile: Option<String>,
    region: Option<String>,
    endpoint: Option<String>,
    credentials_file: Option<PathBuf>,
    config_file: Option<PathBuf>,
}

/// An account: credentials, region and endpoint.
pub(super) struct Account {
    pub(super) credentials: Credentials,
    pub(super) region: String,
    /// A server of one's own.
    pub(super) endpoint: Option<String>,
}

impl AwsSettings {
    /// Reads environment variables; files are read when they are needed.
    pub(crate) fn from_environment(variable: &dyn Fn(&str) -> Option<String>) -> Self {
        let get = |name: &str| {
            variable(name)
                .map(|value| value.trim().to_owned())
                .filter(|value| !value.is_empty())
        };
        let file = |name: &str, usual: &str| {
            get(name)
                .map(PathBuf::from)
                .or_else(|| Some(PathBuf::from(get("HOME")?).join(".aws").join(usual)))
        };
        Self {
            key: get("AWS_ACCESS_KEY_ID"),
            secret: get("AWS_SECRET_ACCESS_KEY"),
            token: get("AWS_SESSION_TOKEN"),
            profile: get("AWS_PROFILE"),
            region: get("AWS_REGION").or_else(|| get("AWS_DEFAULT_REGION")),
            endpoint: get("AWS_ENDPOINT_URL_S3").or_else(|| get("AWS_ENDPOINT_URL")),
            credentials_file: file("AWS_SHARED_CREDENTIALS_FILE", "credentials"),
            config_file: file("AWS_CONFIG_FILE", "config"),
        }
    }

    /// Everything that a request needs, or what is missing.
    pub(super) fn account(&self) -> Result<Account> {
        let profile = self.profile.as_deref().unwrap_or("default");
        let secrets = section(self.credentials_file.as_ref(), &[profile])?;
        let long = format!("profile {profile}");
        let settings = section(self.config_file.as_ref(), &[&long, profile])?;
        if self.profile.is_some() && secrets.is_none() && settings.is_none() {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("there is no profile `{}` for S3", profile.escape_default()),
            )
            .with_hint("AWS_PROFILE names a section of ~/.aws/credentials or ~/.aws/config"));
        }
        let (secrets, settings) = (secrets.unwrap_or_default(), settings.unwrap_or_default());
        let here = (self.key.clone(), self.secret.clone(), self.token.clone());
        let from = |section: &HashMap<String, String>| {
            let get = |name: &str| section.get(name).cloned();
            (
                get("aws_access_key_id"),
                get("aws_secret_access_key"),
                get("aws_session_token"),
            )
        };
        let found = [here, from(&secrets), from(&settings)];
        let found = found.into_iter().find_map(|found| match found {
            (Some(key), Some(secret), token) => Some(match token {
                Some(token) => Credentials::new_with_token(key, secret, token),
                None => Credentials::new(key, secret),
            }),
            _ => None,
        });
        let credentials = found.ok_or_else(|| {
            Error::new(ErrorKind::Invalid, "there are no credentials for S3").with_hint(
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE and \
                 ~/.aws/credentials",
            )
        })?;
        let setting = |name: &str| settings.get(name).cloned();
        let endpoint = self.endpoint.clone().or_else(|| setting("endpoint_url"));
        let region = self.region.clone().or_else(|| setting("region"));
        // Servers of one's own seldom have regions, and accept this one.
        let region = region.or_else(|| endpoint.as_ref().map(|_| "us-east-1".to_owned()));
        let region = region.ok_or_else(|| {
            Error::new(
                ErrorKind::Invalid,
                "neither a region nor an endpoint of S3 is known",
            )
            .with_hint(
                "set AWS_REGION for a bucket of AWS, or AWS_ENDPOINT_URL_S3=https://HOST for a \
                 server of your own",
            )
        })?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if !region.bytes().all(plain) {
            return Err(
                Error::new(ErrorKind::Invalid, "the region of S3 is not a valid one")
                    .with_hint("for example AWS_REGION=eu-central-1"),
            );
        }
        Ok(Account {
            credentials,
            region,
            endpoint,
        })
    }
}

impl fmt::Debug for AwsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aws").finish_non_exhaustive()
    }
}

/// The first section of one of these names; `None` if there is neither file nor
/// section.
fn section(file: Option<&PathBuf>, names: &[&str]) -> Result<Option<HashMap<String, String>>> {
    let Some(path) = file else { return Ok(None) };
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read", path, error)),
    };
    Ok(names.iter().find_map(|name| parse(&text, name)))
}

/// The settings of a section: `[NAME]`, and `KEY = VALUE` below it. Indented lines
/// belong to a setting of several parts, of which none is needed here.
fn parse(text: &str, wanted: &str) -> Option<HashMap<String, String>> {
    let mut found: Option<HashMap<String, String>> = None;
    let mut inside = false;
    for line in text.lines() {
        if line.trim().is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.trim_start().strip_prefix('[') {
            let name = name.split(']').next().unwrap_or_default();
            let name: Vec<_> = name.split_whitespace().collect();
            inside = name.join(" ") == wanted;
            if inside {
                found.get_or_insert_default();
            }
            continue;
        }
        if !inside || line.starts_with([' ', '\t']) {
            continue;
        }
        if let (Some((key, value)), Some(found)) = (line.split_once('='), found.as_mut()) {
            let (key, value) = (key.trim().to_ascii_lowercase(), value.trim());
            if !value.is_empty() {
                found.insert(key, value.to_owned());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
# people's
[default]
aws_access_key_id = DEFAULTKEY
aws_secret_access_key=geheim1

[ profile  ci ]
region = eu-x-1
s3 =
  endpoint_url = http://nested.example
endpoint_url = http://s3.example
[ci]
aws_access_key_id = CIKEY
aws_secret_access_key = geheim2
aws_session_token = geheim3
";

    fn account(home: &std::path::Path, more: &[(&str, &str)]) -> Result<Account> {
        let read = |name: &str| {
            let found = more.iter().find(|(variable, _)| *variable == name);
            match name {
                "HOME" => Some(home.display().to_string()),
                _ => found.map(|(_, value)| (*value).to_owned()),
            }
        };
        let aws = AwsSettings::from_environment(&read);
        assert!(!format!("{aws:?}").contains("geheim"));
        aws.account()
    }

    #[test]
    fn variables_come_before_files() {
        let home = tempfile::tempdir().unwrap();
        let none = account(home.path(), &[]).err().unwrap();
        assert!(none.hint().unwrap().contains("AWS_ACCESS_KEY_ID"));
        fs::create_dir(home.path().join(".aws")).unwrap();
        for file in ["credentials", "config"] {
            fs::write(home.path().join(".aws").join(file), FILE).unwrap();
        }
        let nowhere = account(home.path(), &[]).err().unwrap();
        assert!(nowhere.hint().unwrap().contains("AWS_REGION"), "{nowhere}");
        let found = account(home.path(), &[("AWS_DEFAULT_REGION", "eu-y-2")]).unwrap();
        assert_eq!(found.credentials.key(), "DEFAULTKEY");
        assert_eq!((found.region.as_str(), found.endpoint), ("eu-y-2", None));
        let found = account(home.path(), &[("AWS_PROFILE", "ci")]).unwrap();
        assert_eq!(found.credentials.key(), "CIKEY");
        assert_eq!(found.credentials.token(), Some("geheim3"));
        assert_eq!(found.endpoint.as_deref(), Some("http://s3.example"));
        assert_eq!(found.region, "eu-x-1");
        let variables = [
            ("AWS_PROFILE", "ci"),
            ("AWS_ACCESS_KEY_ID", "MINE"),
            ("AWS_SECRET_ACCESS_KEY", "geheim4"),
            ("AWS_ENDPOINT_URL", "http://b.example"),
            ("AWS_ENDPOINT_URL_S3", "http://a.example"),
            ("AWS_REGION", " "),
        ];
        let found = account(home.path(), &variables).unwrap();
        assert_eq!(found.credentials.key(), "MINE");
        assert_eq!(found.credentials.token(), None);
        assert_eq!(found.endpoint.as_deref(), Some("http://a.example"));
        let wrong = account(home.path(), &[("AWS_PROFILE", "nobody")]);
        assert!(wrong.err().unwrap().to_string().contains("nobody"));
    }
}
