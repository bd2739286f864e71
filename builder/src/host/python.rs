//! How this machine's pip reaches a package index.
//!
//! pip's own files and `PIP_*` variables say it (pip documentation,
//! "Configuration"). They are lent to the pip inside the tree while inputs are
//! resolved and fetched, in a scratch layer that is thrown away.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::archives::credentials;
use crate::error::{Context, Result};
use crate::process::quote;

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
    /// `/run/imgbuild/pip`, pip's environment as the script `environment`:
    /// everybody on the machine may read the arguments of a program.
    pub fn lend(&self, dir: &Path) -> Result<()> {
        let mut environment = self.variables.clone();
        let mut merged = Merged::default();
        for file in &self.config {
            let part =
                fs::read_to_string(file).context(|| format!("cannot read {}", file.display()))?;
            merged.add(&part);
        }
        let text = merged.text();
        make_private(dir)?;
        put(&dir.join("pip.conf"), text.as_bytes())?;
        environment.insert("PIP_CONFIG_FILE".into(), format!("{INSIDE}/pip.conf"));
        if let Some(bundle) = &self.bundle {
            let pem = fs::read(bundle).context(|| format!("cannot read {}", bundle.display()))?;
            put(&dir.join("ca.pem"), &pem)?;
            for name in ["PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"] {
                environment.insert(name.into(), format!("{INSIDE}/ca.pem"));
            }
        }
        let export =
            |(name, value): (&String, &String)| format!("export {name}={}\n", quote(value));
        let script: String = environment.iter().map(export).collect();
        put(&dir.join("environment"), script.as_bytes())
    }

    /// Strings that must not reach a log or an image: credentials in the
    /// addresses of indexes and proxies, and those addresses themselves.
    pub fn secrets(&self) -> Vec<String> {
        let mut secrets = Vec::new();
        for (name, value) in &self.variables {
            let name = name.to_uppercase();
            if name.starts_with("NO_") || !(name.contains("URL") || name.ends_with("_PROXY")) {
                continue;
            }
            // Variables may hold several addresses.
            for address in value.split_whitespace() {
                secrets.push(address.to_owned());
                secrets.extend(credentials(address));
            }
        }
        for file in &self.config {
            let text = fs::read_to_string(file).unwrap_or_default();
            for word in text.split(|c: char| c.is_whitespace() || c == '=') {
                secrets.extend(credentials(word));
            }
        }
        secrets.retain(|secret| secret.len() > 4);
        secrets.sort();
        secrets.dedup();
        secrets
    }
}

/// pip's files as one: each section once, later files win (pip documentation,
/// "Configuration Files"; Python's `configparser`).
#[derive(Default)]
struct Merged {
    sections: BTreeMap<String, BTreeMap<String, String>>,
}

/// Settings that name paths of the host, which mean nothing inside the tree.
const HOST_PATHS: [&str; 7] = [
    "cert",
    "client-cert",
    "find-links",
    "target",
    "prefix",
    "log",
    "cache-dir",
];

impl Merged {
    fn add(&mut self, text: &str) {
        let (mut section, mut key) = (String::new(), String::new());
        for line in text.lines() {
            let bare = line.trim();
            if bare.is_empty() || bare.starts_with(['#', ';']) {
                continue;
            }
            if let Some(name) = bare.strip_prefix('[').and_then(|b| b.strip_suffix(']')) {
                name.clone_into(&mut section);
                key.clear();
                continue;
            }
            let settings = self.sections.entry(section.clone()).or_default();
            if line.starts_with([' ', '\t']) && !key.is_empty() {
                // A value goes on in indented lines.
                if let Some(value) = settings.get_mut(&key) {
                    value.push_str("\n    ");
                    value.push_str(bare);
                }
            } else if let Some((name, value)) = bare.split_once(['=', ':']) {
                name.trim()
                    .to_lowercase()
                    .replace('_', "-")
                    .clone_into(&mut key);
                if !HOST_PATHS.contains(&key.as_str()) {
                    settings.insert(key.clone(), value.trim().to_owned());
                }
            }
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (section, settings) in &self.sections {
            let _ = writeln!(text, "[{section}]");
            for (key, value) in settings {
                let _ = writeln!(text, "{key} = {value}");
            }
        }
        text
    }
}

/// Credentials are for root alone.
fn make_private(dir: &Path) -> Result<()> {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
        .context(|| format!("cannot protect {}", dir.display()))
}

fn put(path: &Path, text: &[u8]) -> Result<()> {
    fs::write(path, text).context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_one_section_become_one() {
        let mut merged = Merged::default();
        merged.add("[global]\nindex-url = http://a.example\ntimeout: 5\n# no\n");
        merged.add(
            "[global]\nIndex_URL = http://b.example\nextra-index-url =\n  http://c.example\n  \
             http://d.example\nfind-links =\n  /home/x\n[install]\nno-deps = yes\n",
        );
        assert_eq!(
            merged.text(),
            "[global]\nextra-index-url = \n    http://c.example\n    http://d.example\n\
             index-url = http://b.example\ntimeout = 5\n[install]\nno-deps = yes\n"
        );
    }

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
        settings.lend(dir.path()).unwrap();
        let lent = fs::read_to_string(dir.path().join("environment")).unwrap();
        let text = fs::read_to_string(dir.path().join("pip.conf")).unwrap();
        assert!(text.contains("index.example") && !text.contains("/home/me"));
        assert_eq!(
            fs::read_to_string(dir.path().join("ca.pem")).unwrap(),
            "PEM"
        );
        assert!(lent.contains("export PIP_CERT=/run/imgbuild/pip/ca.pem\n"));
        let secrets = ["http://u:secret@proxy.example", "secret", "u:secret"];
        assert_eq!(settings.secrets(), secrets);
    }
}
