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

use common::netrc;

use super::archives::credentials;
use crate::error::{Context, Result};
use crate::process::quote;

/// Directory inside the sandbox where the settings appear.
const INSIDE: &str = "/run/imgbuild/index";
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
    netrc: Option<PathBuf>,
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
        let config = config_files(environment, home);
        let bundle = ["PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"]
            .into_iter()
            .filter_map(environment)
            .chain(std::iter::once(
                "/etc/ssl/certs/ca-certificates.crt".to_owned(),
            ))
            .map(PathBuf::from)
            .find(|p| p.is_file());
        let netrc = match environment("NETRC") {
            Some(file) => vec![PathBuf::from(file)],
            None => home.map_or_else(Vec::new, |h| vec![h.join(".netrc"), h.join("_netrc")]),
        };
        Self {
            variables,
            config,
            bundle,
            netrc: netrc.into_iter().find(|p| p.is_file()),
        }
    }

    /// Writes the settings to a directory that the sandbox sees at
    /// `/run/imgbuild/index`, pip's environment as the script `environment`:
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
        let logins = self.logins();
        if !logins.is_empty() {
            let mut text = String::new();
            for (host, login) in &logins {
                let Login { name, password } = login;
                let _ = writeln!(text, "machine {host} login {name} password {password}");
            }
            put(&dir.join("netrc"), text.as_bytes())?;
            environment.insert("NETRC".into(), format!("{INSIDE}/netrc"));
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
        secrets.extend(self.logins().into_values().map(|login| login.password));
        secrets.retain(|secret| secret.len() > 4);
        secrets.sort();
        secrets.dedup();
        secrets
    }

    /// What `.netrc` says about the hosts of this machine's indexes. Its other
    /// entries have no business in a tree where the sources of packages run.
    fn logins(&self) -> BTreeMap<String, Login> {
        let Some(file) = &self.netrc else {
            return BTreeMap::new();
        };
        let text = fs::read_to_string(file).unwrap_or_default();
        let entries: Vec<(Option<&str>, Login)> = netrc::entries(&text)
            .into_iter()
            .filter_map(|entry| Some((entry.machine, Login::of(&entry)?)))
            .collect();
        let files = self.config.iter().map(fs::read_to_string);
        let mut texts: Vec<String> = files.map(Result::unwrap_or_default).collect();
        texts.extend(self.variables.values().cloned());
        let mut logins = BTreeMap::new();
        for text in &texts {
            for word in text.split(|c: char| c.is_whitespace() || c == '=') {
                let host = host_without_login(word);
                // An entry named after the host comes before `default`.
                let of = |name: Option<&str>| entries.iter().find(|(n, _)| *n == name);
                if let Some(host) = host
                    && let Some((_, login)) = of(Some(host)).or_else(|| of(None))
                {
                    logins.insert(host.to_owned(), login.clone());
                }
            }
        }
        logins
    }
}

/// The files that pip itself would read, the last one wins (pip documentation,
/// "Configuration"): a file named in `PIP_CONFIG_FILE` takes the place of the
/// user's own, and `/dev/null` there the place of all.
fn config_files(environment: &dyn Fn(&str) -> Option<String>, home: Option<&Path>) -> Vec<PathBuf> {
    let named = environment("PIP_CONFIG_FILE").map(PathBuf::from);
    if named.as_deref() == Some(Path::new("/dev/null")) {
        return Vec::new();
    }
    let named = named.filter(|file| file.is_file());
    let set = |name: &str| environment(name).filter(|value| !value.is_empty());
    let shared = set("XDG_CONFIG_DIRS").unwrap_or_else(|| "/etc/xdg".into());
    let mut files: Vec<PathBuf> = shared
        .split(':')
        .map(|dir| Path::new(dir).join("pip/pip.conf"))
        .collect();
    files.push("/etc/pip.conf".into());
    if named.is_none() {
        files.extend(home.map(|home| home.join(".pip/pip.conf")));
        let own = set("XDG_CONFIG_HOME").map(PathBuf::from);
        let own = own.or_else(|| home.map(|home| home.join(".config")));
        files.extend(own.map(|dir| dir.join("pip/pip.conf")));
    }
    files.extend(named);
    files.retain(|file| file.is_file());
    files
}

/// A name and a password of `.netrc`.
#[derive(Clone, Debug)]
struct Login {
    name: String,
    password: String,
}

impl Login {
    fn of(entry: &netrc::Entry<'_>) -> Option<Self> {
        Some(Self {
            name: entry.login.unwrap_or_default().to_owned(),
            password: entry.password.filter(|word| !word.is_empty())?.to_owned(),
        })
    }
}

/// The host of an address without credentials: those in an address come first.
fn host_without_login(address: &str) -> Option<&str> {
    let (login, host) = super::authority(address)?;
    login.is_none().then_some(host)
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
        assert!(lent.contains("export PIP_CERT=/run/imgbuild/index/ca.pem\n"));
        let secrets = ["http://u:secret@proxy.example", "secret", "u:secret"];
        assert_eq!(settings.secrets(), secrets);
    }

    #[test]
    fn the_files_that_pip_would_read() {
        let home = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let file = home.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, "[global]\n").unwrap();
            file
        };
        let (shared, own) = (file("shared/pip/pip.conf"), file("own/pip/pip.conf"));
        let (old, usual) = (file(".pip/pip.conf"), file(".config/pip/pip.conf"));
        let named = file("named.conf");
        let files = |variables: &[(&str, &Path)]| {
            let value = |name: &str| {
                let found = variables.iter().find(|(n, _)| *n == name);
                found.map(|(_, value)| value.display().to_string())
            };
            let mut files = config_files(&value, Some(home.path()));
            files.retain(|file| file.starts_with(home.path()));
            files
        };
        let dirs = ("XDG_CONFIG_DIRS", shared.ancestors().nth(2).unwrap());
        let config = ("XDG_CONFIG_HOME", own.ancestors().nth(2).unwrap());
        assert_eq!(files(&[]), [old.clone(), usual.clone()]);
        assert_eq!(files(&[dirs, config]), [shared.clone(), old.clone(), own]);
        let named_file = ("PIP_CONFIG_FILE", named.as_path());
        assert_eq!(files(&[dirs, named_file]), [shared.clone(), named.clone()]);
        let missing = ("PIP_CONFIG_FILE", Path::new("/no/such/file"));
        assert_eq!(files(&[missing]), [old, usual]);
        let none = ("PIP_CONFIG_FILE", Path::new("/dev/null"));
        assert!(files(&[dirs, none]).is_empty());
    }

    #[test]
    fn netrc_is_lent_for_the_hosts_of_indexes_only() {
        let home = tempfile::tempdir().unwrap();
        let text = "# notes\nmachine index.example\n  login me\n  password hidden-word\n\
                    machine mail.example login me password other-word\n";
        fs::write(home.path().join(".netrc"), text).unwrap();
        let environment = |name: &str| match name {
            "PIP_CONFIG_FILE" => Some("/dev/null".to_owned()),
            "PIP_INDEX_URL" => Some("https://index.example:8443/simple".to_owned()),
            _ => None,
        };
        let settings = PipSettings::read(&environment, Some(home.path()));
        let dir = tempfile::tempdir().unwrap();
        settings.lend(dir.path()).unwrap();
        assert_eq!(
            fs::read_to_string(dir.path().join("netrc")).unwrap(),
            "machine index.example login me password hidden-word\n"
        );
        let lent = fs::read_to_string(dir.path().join("environment")).unwrap();
        assert!(lent.contains("export NETRC=/run/imgbuild/index/netrc\n"));
        assert!(settings.secrets().contains(&"hidden-word".to_owned()));
    }
}
