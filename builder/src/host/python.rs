//! How this machine's pip reaches a package index.
//!
//! pip's own files and `PIP_*` variables say it (pip documentation,
//! "Configuration"). They are lent to the pip inside the tree while inputs are
//! resolved and fetched, in a scratch layer that is thrown away.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Context, Result};

/// Directory inside the sandbox where the settings appear.
const INSIDE: &str = "/run/imgbuild/pip";
/// Variables for servers' certificates and proxies that pip honours.
const PROXIES: [&str; 8] = [
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
];

/// What pip needs from this machine.
#[derive(Clone, Debug, Default)]
pub struct PipSettings {
    variables: BTreeMap<String, String>,
    config: Vec<PathBuf>,
    bundle: Option<PathBuf>,
}

impl PipSettings {
    /// Reads the settings of the calling user.
    pub fn read(environment: &dyn Fn(&str) -> Option<String>, home: Option<&Path>) -> Self {
        let mut variables = BTreeMap::new();
        for name in [
            "PIP_INDEX_URL",
            "PIP_EXTRA_INDEX_URL",
            "PIP_TRUSTED_HOST",
            "PIP_PROXY",
            "PIP_DEFAULT_TIMEOUT",
            "PIP_TIMEOUT",
            "PIP_RETRIES",
        ]
        .into_iter()
        .chain(PROXIES)
        {
            if let Some(value) = environment(name) {
                variables.insert(name.to_owned(), value);
            }
        }
        let mut config = vec![PathBuf::from("/etc/pip.conf")];
        if let Some(home) = home {
            config.push(home.join(".pip/pip.conf"));
            config.push(home.join(".config/pip/pip.conf"));
        }
        config.retain(|p| p.is_file());
        let bundle = ["PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"]
            .into_iter()
            .filter_map(environment)
            .chain(std::iter::once(
                "/etc/ssl/certs/ca-certificates.crt".to_owned(),
            ))
            .map(PathBuf::from)
            .find(|p| p.is_file());
        Self {
            variables,
            config,
            bundle,
        }
    }

    /// Writes the settings to a directory that the sandbox sees at
    /// `/run/imgbuild/pip`; returns the environment for pip.
    pub fn lend(&self, dir: &Path) -> Result<BTreeMap<String, String>> {
        let mut environment = self.variables.clone();
        let mut text = String::new();
        for file in &self.config {
            let part =
                fs::read_to_string(file).context(|| format!("cannot read {}", file.display()))?;
            // Paths of the host mean nothing inside the tree.
            let foreign = |l: &&str| {
                let key = l.split(['=', ':']).next().unwrap_or("").trim();
                ![
                    "cert",
                    "client-cert",
                    "find-links",
                    "target",
                    "prefix",
                    "log",
                    "cache-dir",
                ]
                .contains(&key)
            };
            text.extend(part.lines().filter(foreign).map(|l| format!("{l}\n")));
        }
        put(&dir.join("pip.conf"), text.as_bytes())?;
        environment.insert("PIP_CONFIG_FILE".into(), format!("{INSIDE}/pip.conf"));
        if let Some(bundle) = &self.bundle {
            let pem = fs::read(bundle).context(|| format!("cannot read {}", bundle.display()))?;
            put(&dir.join("ca.pem"), &pem)?;
            for name in ["PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"] {
                environment.insert(name.into(), format!("{INSIDE}/ca.pem"));
            }
        }
        Ok(environment)
    }

    /// Strings that must not reach a log or an image: whatever was set.
    pub fn secrets(&self) -> Vec<String> {
        let urls = ["PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_PROXY"];
        let wanted = |name: &str| {
            urls.contains(&name)
                || PROXIES[..2].contains(&name)
                || name.to_uppercase().ends_with("_PROXY")
        };
        self.variables
            .iter()
            .filter(|(name, value)| {
                wanted(name) && !name.to_uppercase().starts_with("NO_") && value.len() > 4
            })
            .map(|(_, value)| value.clone())
            .collect()
    }
}

fn put(path: &Path, text: &[u8]) -> Result<()> {
    fs::write(path, text).context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_paths_stay_on_the_host() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir_all(home.path().join(".config/pip")).unwrap();
        fs::write(
            home.path().join(".config/pip/pip.conf"),
            "[global]\nindex-url = https://index.example/simple\ncert = /home/me/ca.pem\n",
        )
        .unwrap();
        let ca = home.path().join("ca.pem");
        fs::write(&ca, "PEM").unwrap();
        let ca_name = ca.to_str().unwrap().to_owned();
        let environment = move |name: &str| match name {
            "PIP_CERT" => Some(ca_name.clone()),
            "PIP_PROXY" => Some("http://u:secret@proxy.example".to_owned()),
            _ => None,
        };
        let settings = PipSettings::read(&environment, Some(home.path()));
        let dir = tempfile::tempdir().unwrap();
        let lent = settings.lend(dir.path()).unwrap();
        let text = fs::read_to_string(dir.path().join("pip.conf")).unwrap();
        assert!(text.contains("index.example") && !text.contains("/home/me"));
        assert_eq!(
            fs::read_to_string(dir.path().join("ca.pem")).unwrap(),
            "PEM"
        );
        assert_eq!(lent["PIP_CERT"], "/run/imgbuild/pip/ca.pem");
        assert_eq!(settings.secrets(), ["http://u:secret@proxy.example"]);
    }
}
