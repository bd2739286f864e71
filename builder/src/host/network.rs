//! How this machine's apt reaches servers: its settings, the proxies of the
//! environment, credentials, and how long a silent server is waited for.
//!
//! Credentials in an archive's address go to apt in a file of the form that
//! `apt_auth.conf(5)` describes: everybody on the machine may read the
//! arguments of a program, and apt repeats an address in what it says.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use common::netrc;

use super::archives::{Archives, credentials};
use crate::error::{Context, Error, Result};
use crate::process::Tool;

/// Variables that apt's methods honour.
const PROXIES: [&str; 4] = ["http_proxy", "https_proxy", "all_proxy", "no_proxy"];
/// Names the patience in seconds.
const PATIENCE: &str = "IMGBUILD_PATIENCE";
/// How long a server may send next to nothing.
const DEFAULT_PATIENCE: Duration = Duration::from_secs(60);

/// What apt is lent of this machine.
#[derive(Clone, Debug)]
pub struct Network {
    proxies: BTreeMap<String, String>,
    netrc: String,
    secrets: Vec<String>,
    patience: Duration,
}

impl Network {
    /// Reads it from the environment and the files below `etc_apt`.
    pub fn read(environment: &dyn Fn(&str) -> Option<String>, etc_apt: &Path) -> Result<Self> {
        let mut proxies = BTreeMap::new();
        for name in PROXIES {
            if let Some(value) = environment(name) {
                proxies.insert(name.to_owned(), value);
            }
        }
        let patience = match environment(PATIENCE) {
            None => DEFAULT_PATIENCE,
            Some(text) => match text.parse() {
                Ok(seconds @ 1..=86_400) => Duration::from_secs(seconds),
                _ => {
                    return Err(Error::usage(format!(
                        "{PATIENCE} is not a number of seconds: {text}"
                    ))
                    .hint(format!("for example {PATIENCE}=60, the default")));
                }
            },
        };
        // What apt reads as well; only root may.
        let netrc = fs::read_to_string(etc_apt.join("auth.conf")).unwrap_or_default();
        let mut secrets: Vec<String> = passwords(&netrc).collect();
        for (dir, ending) in [("auth.conf.d", "conf"), ("apt.conf.d", "")] {
            let Ok(entries) = fs::read_dir(etc_apt.join(dir)) else {
                continue;
            };
            for path in entries.flatten().map(|entry| entry.path()) {
                let text = fs::read_to_string(&path).unwrap_or_default();
                if ending.is_empty() {
                    secrets.extend(in_addresses(&text));
                } else {
                    secrets.extend(passwords(&text));
                }
            }
        }
        let conf = fs::read_to_string(etc_apt.join("apt.conf")).unwrap_or_default();
        secrets.extend(in_addresses(&conf));
        secrets.extend(proxies.values().flat_map(|url| credentials(url)));
        secrets.retain(|secret| secret.len() > 3);
        Ok(Self {
            proxies,
            netrc,
            secrets,
            patience,
        })
    }

    /// How long a server may send less than a kibibyte a second.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// Credentials that must not be shown.
    pub fn secrets(&self) -> &[String] {
        &self.secrets
    }

    /// Makes a directory that only we can read, for settings with credentials.
    pub fn private_dir(dir: &Path) -> Result<()> {
        let failed = || format!("cannot make {}", dir.display());
        if let Some(parent) = dir.parent() {
            fs::create_dir_all(parent).context(failed)?;
        }
        fs::DirBuilder::new()
            .mode(0o700)
            .create(dir)
            .context(failed)
    }

    /// Settings in the syntax of apt.conf(5); writes the credentials beside
    /// them, into `dir`.
    pub fn lend(&self, archives: &Archives, dir: &Path) -> Result<String> {
        let path = dir.join("auth.conf");
        let failed = || format!("cannot write {}", path.display());
        let text = format!("{}\n{}", archives.netrc(), self.netrc);
        let mut file = fs::File::options()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .context(failed)?;
        std::io::Write::write_all(&mut file, text.as_bytes()).context(failed)?;
        Ok(format!(
            "APT::Sandbox::User \"root\";\nAcquire::Retries \"3\";\n\
             Dir::Etc::netrc \"{}\";\nDir::Etc::netrcparts \"/etc/apt/auth.conf.d\";\n{}",
            path.display(),
            acquire_settings()?
        ))
    }

    /// The tool with the environment that apt's methods need.
    pub fn with_proxies(&self, tool: Tool) -> Tool {
        let proxies = self.proxies.iter();
        proxies.fold(tool, |tool, (name, value)| tool.env(name, value))
    }
}

/// The machine's apt settings for reaching servers (proxies, time-outs, client
/// certificates).
pub fn acquire_settings() -> Result<String> {
    let dump = Tool::new("apt-config").arg("dump").output()?;
    let dump = String::from_utf8(dump).context(|| "apt-config prints no UTF-8".into())?;
    let wanted = [
        "Acquire::http",
        "Acquire::https",
        "Acquire::Retries",
        "Acquire::ForceIPv",
    ];
    let lines = dump
        .lines()
        .filter(|l| wanted.iter().any(|w| l.starts_with(w)));
    Ok(lines.map(|l| format!("{l}\n")).collect())
}

/// The passwords of a netrc file.
fn passwords(text: &str) -> impl Iterator<Item = String> + '_ {
    let entries = netrc::entries(text).into_iter();
    entries.filter_map(|entry| entry.password.map(str::to_owned))
}

/// The credentials in the addresses of a configuration file.
fn in_addresses(text: &str) -> Vec<String> {
    let words = text.split(|c: char| c.is_whitespace() || c == '"');
    words.flat_map(credentials).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_of_the_machine_are_known() {
        let etc = tempfile::tempdir().unwrap();
        fs::create_dir(etc.path().join("auth.conf.d")).unwrap();
        fs::create_dir(etc.path().join("apt.conf.d")).unwrap();
        for (name, text) in [
            ("auth.conf", "machine a.example\nlogin me password first1\n"),
            (
                "auth.conf.d/x.conf",
                "machine b.example login me password second2",
            ),
            (
                "apt.conf.d/01",
                "Acquire::http::Proxy \"http://u:third3@p.example:1/\";",
            ),
        ] {
            fs::write(etc.path().join(name), text).unwrap();
        }
        let environment =
            |name: &str| (name == "http_proxy").then(|| "http://u:fourth4@q.example".to_owned());
        let network = Network::read(&environment, etc.path()).unwrap();
        for secret in ["first1", "second2", "third3", "fourth4"] {
            assert!(network.secrets().contains(&secret.to_owned()), "{secret}");
        }
        let environment = |name: &str| (name == PATIENCE).then(|| "soon".to_owned());
        assert!(Network::read(&environment, etc.path()).is_err());
    }
}
