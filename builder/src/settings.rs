//! Where things are, resolved once: flag, then environment, then default.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use store::{ClientOptions, StoreUrl};

use crate::error::{Error, Result};
use crate::host::{Archives, MOMENT, Network, PipSettings, credentials};

/// What the command line and the environment say about places.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// `--store`.
    pub store: Option<PathBuf>,
    /// `--work`.
    pub work: Option<PathBuf>,
    /// `--keys`.
    pub keys: Option<PathBuf>,
    /// `--archive NAME=URL`, each.
    pub archives: Vec<String>,
    /// The environment of the call.
    pub environment: BTreeMap<String, String>,
}

/// Where things are.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The artifact store, wherever it is.
    pub store_url: StoreUrl,
    /// The artifact store, if it is a directory; else a path that leads nowhere.
    pub store: PathBuf,
    /// How stores on servers are reached.
    pub access: ClientOptions,
    /// Trees, layers, logs: local to this machine, safe to remove.
    pub work: PathBuf,
    /// Private keys.
    pub keys: PathBuf,
    /// Addresses of archives.
    pub archives: Archives,
    /// Where pip finds its index.
    pub pip: PipSettings,
    /// How apt reaches servers.
    pub network: Network,
    environment: BTreeMap<String, String>,
}

impl Settings {
    /// Resolves everything; `root` tells whether the system's places are ours.
    pub fn resolve(given: Given, root: bool) -> Result<Self> {
        let Given {
            store,
            work,
            keys,
            archives,
            environment,
        } = given;
        let home = environment.get("HOME").map(PathBuf::from);
        let xdg = |name: &str, below: &str| -> Result<PathBuf> {
            match (environment.get(name), &home) {
                (Some(dir), _) if dir.starts_with('/') => Ok(PathBuf::from(dir)),
                (_, Some(home)) => Ok(home.join(below)),
                _ => Err(Error::usage("neither HOME nor the XDG variables are set")
                    .hint("name the places with --store, --work and --keys")),
            }
        };
        let place =
            |given: Option<PathBuf>, system: &str, name: &str, below: &str| -> Result<PathBuf> {
                match given {
                    Some(path) => Ok(path),
                    None if root => Ok(PathBuf::from(system)),
                    None => Ok(xdg(name, below)?.join("imgbuild")),
                }
            };
        let store = place(store, "/var/lib/imgbuild", "XDG_DATA_HOME", ".local/share")?;
        let work = place(work, "/var/cache/imgbuild", "XDG_CACHE_HOME", ".cache")?;
        let keys = match keys {
            Some(path) => path,
            None if root => PathBuf::from("/etc/imgbuild/keys"),
            None => xdg("XDG_CONFIG_HOME", ".config")?.join("imgbuild/keys"),
        };
        let named = named_archives(&archives, &environment)?;
        let lookup = |name: &str| environment.get(name).cloned();
        let pip = PipSettings::read(&lookup, home.as_deref());
        let etc_apt = Path::new("/etc/apt");
        let archives = Archives::read(etc_apt, &named)?;
        let network = Network::read(&lookup, etc_apt)?;
        let store_url = match store.to_str() {
            Some(text) if text.contains("://") => text.parse().map_err(|e| unusable(&e))?,
            _ => StoreUrl::Directory(absolute(&store)?),
        };
        let access = ClientOptions::from_environment(&lookup).map_err(|e| unusable(&e))?;
        Ok(Self {
            store: store_url
                .directory()
                .map(Path::to_owned)
                .unwrap_or_default(),
            store_url,
            access,
            work: absolute(&work)?,
            keys: absolute(&keys)?,
            archives,
            pip,
            network,
            environment,
        })
    }

    /// Credentials in the addresses that this machine uses; never shown, never
    /// in an image.
    pub fn secrets(&self) -> Vec<String> {
        let mut secrets = self.pip.secrets();
        secrets.extend(self.archives.secrets());
        secrets.extend_from_slice(self.network.secrets());
        secrets.extend(credentials(&self.store_url.with_password()));
        secrets.sort();
        secrets.dedup();
        secrets
    }

    /// These, and what the address of another store says of that kind.
    pub fn secrets_of(&self, url: &StoreUrl) -> Vec<String> {
        let mut secrets = self.secrets();
        secrets.extend(credentials(&url.with_password()));
        secrets
    }

    /// Whether the store is on a web server, which neither lists nor takes anything.
    pub fn is_web(&self) -> bool {
        matches!(self.store_url, StoreUrl::Web(_))
    }

    /// Fails for a store that no command can change.
    pub fn require_writable(&self) -> Result<()> {
        if !self.is_web() {
            return Ok(());
        }
        Err(
            Error::usage(format!("{} can only be read", self.store_url)).hint(
                "this command changes a store, or looks at all of it: name the directory that \
             is served, or a bucket, with --store",
            ),
        )
    }

    /// The caller's environment.
    pub fn environment(&self) -> &BTreeMap<String, String> {
        &self.environment
    }

    /// `SOURCE_DATE_EPOCH`, which every tool of the reproducible builds project reads: seconds since
    /// 1970.
    pub fn source_date_epoch(&self) -> Result<Option<u64>> {
        const NAME: &str = "SOURCE_DATE_EPOCH";
        let Some(text) = self.variable(NAME).filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        text.parse().map(Some).map_err(|_| {
            let shown = text.escape_default();
            Error::usage(format!("{NAME} is `{shown}`, no number of seconds"))
        })
    }

    /// A variable of the caller's environment.
    pub fn variable(&self, name: &str) -> Option<String> {
        self.environment.get(name).cloned()
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    if path.to_string_lossy().contains("://") {
        return Err(
            Error::usage(format!("{} is not a directory", path.display()))
                .hint("--work and --keys name directories of this machine"),
        );
    }
    std::path::absolute(path)
        .map_err(|e| Error::usage(format!("{} is not a usable path", path.display())).because(&e))
}

fn unusable(error: &store::Error) -> Error {
    let usage = Error::usage("the store or the way to it cannot be used").because(error);
    match error.own_hint() {
        Some(hint) => usage.hint(hint),
        None => usage,
    }
}

fn named_archives(
    flags: &[String],
    environment: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>> {
    let mut named = BTreeMap::new();
    for (name, value) in environment {
        if let Some(archive) = name.strip_prefix("IMGBUILD_ARCHIVE_")
            && !value.is_empty()
        {
            named.insert(archive.to_lowercase().replace('_', "-"), value.clone());
        }
        if let Some(archive) = name.strip_prefix("IMGBUILD_SNAPSHOT_")
            && !value.is_empty()
        {
            named.insert(
                archive.to_lowercase().replace('_', "-") + "@",
                value.clone(),
            );
        }
    }
    for flag in flags {
        let Some((name, url)) = flag.split_once('=') else {
            return Err(Error::usage(format!("--archive {flag} is not NAME=URL"))
                .hint("for example --archive debian=http://mirror.example/debian"));
        };
        let dated = if url.contains(MOMENT) { "@" } else { "" };
        named.insert(format!("{name}{dated}"), url.to_owned());
    }
    for (name, url) in &named {
        if name.ends_with('@') != url.contains(MOMENT) {
            return Err(Error::usage(format!(
                "the address `{}` has {MOMENT} where none belongs, or lacks it",
                name.trim_end_matches('@')
            ))
            .hint("IMGBUILD_SNAPSHOT_NAME is the address of dated archives, IMGBUILD_ARCHIVE_NAME the other"));
        }
        if !(url.contains("://") || url.starts_with("file:/")) || url.contains(char::is_whitespace)
        {
            return Err(
                Error::usage(format!("the address of the archive `{name}` is no URL"))
                    .hint("for example http://mirror.example/debian or file:/srv/mirror/debian"),
            );
        }
    }
    Ok(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(pairs: &[(&str, &str)]) -> Given {
        let environment = pairs
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect();
        Given {
            environment,
            ..Given::default()
        }
    }

    #[test]
    fn defaults_depend_on_who_asks() {
        let root = Settings::resolve(given(&[("HOME", "/root")]), true).unwrap();
        assert_eq!(root.store, Path::new("/var/lib/imgbuild"));
        assert_eq!(root.keys, Path::new("/etc/imgbuild/keys"));
        let user = Settings::resolve(
            given(&[("HOME", "/home/u"), ("XDG_DATA_HOME", "/d")]),
            false,
        )
        .unwrap();
        assert_eq!(user.store, Path::new("/d/imgbuild"));
        assert_eq!(user.work, Path::new("/home/u/.cache/imgbuild"));
        assert!(Settings::resolve(given(&[]), false).is_err());
    }

    #[test]
    fn archives_come_from_flags_before_the_environment() {
        let mut given = given(&[("IMGBUILD_ARCHIVE_MY_OWN", "http://env.example/x")]);
        let settings = Settings::resolve(given.clone(), true).unwrap();
        assert_eq!(
            settings.archives.url("my-own").unwrap(),
            "http://env.example/x"
        );
        given.archives = vec!["my-own=http://flag.example/y/".into()];
        let settings = Settings::resolve(given.clone(), true).unwrap();
        assert_eq!(
            settings.archives.url("my-own").unwrap(),
            "http://flag.example/y"
        );
        given.archives = vec!["my-own=http://then.example/@SNAPSHOTID@".into()];
        let settings = Settings::resolve(given.clone(), true).unwrap();
        let then = settings.archives.url("my-own@20260901T000000Z").unwrap();
        assert_eq!(then, "http://then.example/20260901T000000Z");
        given.archives = vec!["nonsense".into()];
        assert!(Settings::resolve(given, true).is_err());
    }
}
