//! What the operator of this node gives to a system.
//!
//! ```text
//! /etc/imgnode/SYSTEM.toml             settings, and directories of the host
//! /etc/imgnode/secrets/SYSTEM/NAME       a secret, readable by root alone
//! /etc/imgnode/secrets/SYSTEM/NAME.cred  the same, encrypted by systemd-creds(1)
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::num::NonZeroU64;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use store::manifest::{Fences, bytes_of, is_plain_path, percent_of};

use super::commands::HostCommand;
use crate::error::{Context, Error, Result};
use crate::event::Observer;
use crate::system::SystemName;

/// The longest secret and the longest file, in bytes.
const LIMIT: u64 = 1 << 20;

/// The directory with what the operator of this node gives to its systems, `/etc/imgnode`.
#[derive(Clone, Debug)]
pub struct Provisions {
    directory: PathBuf,
}

/// The file of one system.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct NodeFile {
    /// Environment variables of its processes.
    pub environment: BTreeMap<String, String>,
    /// What of the host its sessions see, by its path in the session.
    pub bind: BTreeMap<String, Bind>,
    /// What bounds its processes, in place of what the image says.
    pub fences: NodeFences,
    /// Whose its Unix sockets are.
    pub sockets: NodeSockets,
}

/// Who may connect to Unix sockets, as the operator writes it.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct NodeSockets {
    user: Option<String>,
    group: Option<String>,
    mode: Option<SocketMode>,
}

/// Who may connect to Unix sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketAccess {
    /// The user of the host that they belong to.
    pub uid: u32,
    /// The group of the host that they belong to.
    pub gid: u32,
    /// Their mode.
    pub mode: u32,
}

impl Default for SocketAccess {
    /// Root's, and everybody may connect, as for systemd.socket(5).
    fn default() -> Self {
        Self {
            uid: 0,
            gid: 0,
            mode: 0o666,
        }
    }
}

impl NodeSockets {
    /// What that means on this host; the inner error names the user or group that it does not have.
    pub fn find(
        &self,
        observer: &dyn Observer,
    ) -> Result<std::result::Result<SocketAccess, String>> {
        let mut access = SocketAccess::default();
        if let Some(mode) = &self.mode {
            access.mode = mode.0;
        }
        for (kind, database, name, number) in [
            ("user", "passwd", &self.user, &mut access.uid),
            ("group", "group", &self.group, &mut access.gid),
        ] {
            let Some(name) = name else { continue };
            let Some(found) = number_of(database, name, observer)? else {
                let name = name.escape_debug();
                return Ok(Err(format!("this host has no {kind} `{name}`")));
            };
            *number = found;
        }
        Ok(Ok(access))
    }
}

/// The number of a user or group of the host, however that finds them.
fn number_of(database: &str, name: &str, observer: &dyn Observer) -> Result<Option<u32>> {
    if let Ok(number) = name.parse() {
        return Ok(Some(number));
    }
    let found = HostCommand::new("getent")
        .args([database, "--", name])
        .finish(observer)?;
    let line = found.stdout.lines().next().unwrap_or_default();
    let number = line
        .split(':')
        .nth(2)
        .and_then(|number| number.parse().ok());
    Ok(number.filter(|_| found.success()))
}

/// The mode of a socket: octal digits, as chmod(1) takes them.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct SocketMode(u32);

impl TryFrom<String> for SocketMode {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        let octal = text.bytes().all(|byte| byte.is_ascii_digit());
        let mode = u32::from_str_radix(&text, 8).ok();
        let mode = mode.filter(|mode| octal && *mode <= 0o777);
        mode.map(Self)
            .ok_or_else(|| format!("`{}` is not a mode such as \"0660\"", text.escape_debug()))
    }
}

/// Fences that the operator sets, higher or lower than the image's own.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct NodeFences {
    memory: Option<Amount>,
    cpu: Option<Percent>,
    tasks: Option<NonZeroU64>,
    open_files: Option<NonZeroU64>,
    no_new_privileges: Option<bool>,
    private_network: Option<bool>,
    read_only: Option<bool>,
}

impl NodeFences {
    /// What holds on this node.
    pub fn over(&self, image: Fences) -> Fences {
        Fences {
            memory: self.memory.as_ref().map(|amount| amount.0).or(image.memory),
            cpu: self.cpu.as_ref().map(|percent| percent.0).or(image.cpu),
            tasks: self.tasks.map(NonZeroU64::get).or(image.tasks),
            open_files: self.open_files.map(NonZeroU64::get).or(image.open_files),
            no_new_privileges: self.no_new_privileges.unwrap_or(image.no_new_privileges),
            private_network: self.private_network.unwrap_or(image.private_network),
            read_only: self.read_only.unwrap_or(image.read_only),
        }
    }
}

/// Bytes, as a recipe writes them.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct Amount(u64);

impl TryFrom<String> for Amount {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        let wanted = "is not a whole number with `K`, `M`, `G` or `T`, such as \"512M\"";
        bytes_of(&text)
            .map(Self)
            .ok_or_else(|| format!("`{}` {wanted}", text.escape_debug()))
    }
}

/// A share of the time of processors, as a recipe writes it.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct Percent(u64);

impl TryFrom<String> for Percent {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        let wanted = "is not a whole number with `%`, such as \"150%\"";
        percent_of(&text)
            .map(Self)
            .ok_or_else(|| format!("`{}` {wanted}", text.escape_debug()))
    }
}

/// A directory or file of the host.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "Written")]
pub struct Bind {
    /// Its path on the host.
    pub path: PathBuf,
    /// Whether sessions may not write to it.
    pub read_only: bool,
}

/// The two forms that a bind has in the file.
#[derive(Deserialize)]
#[serde(untagged, rename_all_fields = "kebab-case", deny_unknown_fields)]
enum Written {
    Path(PathBuf),
    Full {
        path: PathBuf,
        #[serde(default)]
        read_only: bool,
    },
}

impl From<Written> for Bind {
    fn from(written: Written) -> Self {
        match written {
            Written::Path(path) => Self {
                path,
                read_only: false,
            },
            Written::Full { path, read_only } => Self { path, read_only },
        }
    }
}

impl Default for Provisions {
    fn default() -> Self {
        Self::new("/etc/imgnode")
    }
}

impl Provisions {
    /// Those in `directory`.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
        }
    }

    /// The path of a system's file.
    pub fn file(&self, system: &SystemName) -> PathBuf {
        self.directory.join(format!("{system}.toml"))
    }

    /// The path of a secret that is not encrypted.
    pub fn secret_file(&self, system: &SystemName, name: &str) -> PathBuf {
        let secrets = self.directory.join("secrets");
        secrets.join(system.as_str()).join(name)
    }

    /// A system's file; an empty one where there is none.
    pub fn read(&self, system: &SystemName) -> Result<NodeFile> {
        let path = self.file(system);
        let Some(bytes) = read_trusted(&path, 0o022)? else {
            return Ok(NodeFile::default());
        };
        let wrong = || format!("{} cannot be used", path.display());
        let text = String::from_utf8(bytes).context(wrong)?;
        let file: NodeFile = toml::from_str(&text).map_err(|error| {
            // The parser's own words have the place and the line itself.
            Error::usage(wrong()).cause(error.to_string().trim_end().to_owned())
        })?;
        file.fences
            .over(Fences::default())
            .check()
            .map_err(|error| Error::usage(wrong()).cause(error))?;
        let paths = file.bind.iter().flat_map(|(inside, bind)| {
            let outside = bind.path.to_string_lossy().into_owned();
            [inside.clone(), outside]
        });
        for place in paths {
            if !is_plain_path(&place) {
                return Err(Error::usage(wrong())
                    .cause(format!(
                        "`{}` is not an absolute path",
                        place.escape_debug()
                    ))
                    .hint("write both paths of [bind] without `.` and `..`"));
            }
        }
        Ok(file)
    }

    /// A secret; `None` when nobody gave it.
    pub fn secret(
        &self,
        system: &SystemName,
        name: &str,
        observer: &dyn Observer,
    ) -> Result<Option<Vec<u8>>> {
        let plain = self.secret_file(system, name);
        if let Some(bytes) = read_trusted(&plain, 0o077)? {
            return Ok(Some(bytes));
        }
        let encrypted = plain.with_file_name(format!("{name}.cred"));
        if !encrypted.exists() {
            return Ok(None);
        }
        let decrypt = HostCommand::new("systemd-creds")
            .args(["decrypt", &format!("--name={name}")])
            .arg(encrypted.display().to_string())
            .arg("-");
        let failed = || format!("cannot decrypt {}", encrypted.display());
        let nothing = File::open("/dev/null").context(failed)?;
        let mut bytes = Vec::new();
        decrypt
            .stream(nothing, observer)
            .map_err(|error| error.under(failed()))?
            .take(LIMIT)
            .read_to_end(&mut bytes)
            .context(failed)?;
        Ok(Some(bytes))
    }
}

/// A file that only root can change, and of which nobody has the rights in `forbidden`; `None` when
/// there is none.
fn read_trusted(path: &Path, forbidden: u32) -> Result<Option<Vec<u8>>> {
    let failed = || format!("cannot read {}", path.display());
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.context(failed)?,
    };
    let found = file.metadata().context(failed)?;
    let ours = rustix::process::geteuid().as_raw();
    if !found.is_file() || found.uid() != ours || found.mode() & forbidden != 0 {
        let mode = if forbidden & 0o044 == 0 {
            "0644"
        } else {
            "0600"
        };
        let what = format!("{} is not a file that is root's alone", path.display());
        let hint = format!("chown root and chmod {mode} {}", path.display());
        return Err(Error::refused(what).hint(hint));
    }
    let mut bytes = Vec::new();
    file.take(LIMIT + 1)
        .read_to_end(&mut bytes)
        .context(failed)?;
    if bytes.len() as u64 > LIMIT {
        return Err(Error::refused(format!(
            "{} is longer than {LIMIT} bytes",
            path.display()
        )));
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::event::Silent;

    fn web() -> SystemName {
        "web".parse().unwrap()
    }

    #[test]
    fn the_file_of_a_system() {
        let directory = tempfile::tempdir().unwrap();
        let provisions = Provisions::new(directory.path());
        assert_eq!(provisions.read(&web()).unwrap(), NodeFile::default());
        let text = "[environment]\nSITE = \"one\"\n[bind]\n\"/srv/a\" = \"/data/a\"\n\
                    \"/srv/b\" = { path = \"/data/b\", read-only = true }\n\
                    [fences]\nmemory = \"1G\"\nread-only = false\n\
                    [sockets]\nuser = \"root\"\ngroup = \"33\"\nmode = \"0660\"\n";
        fs::write(provisions.file(&web()), text).unwrap();
        let file = provisions.read(&web()).unwrap();
        assert_eq!(file.environment["SITE"], "one");
        assert!(!file.bind["/srv/a"].read_only && file.bind["/srv/b"].read_only);
        let image = Fences {
            memory: Some(1 << 20),
            tasks: Some(5),
            read_only: true,
            ..Fences::default()
        };
        let here = file.fences.over(image);
        assert_eq!((here.memory, here.tasks), (Some(1 << 30), Some(5)));
        assert!(!here.read_only);
        let access = SocketAccess {
            uid: 0,
            gid: 33,
            mode: 0o660,
        };
        assert_eq!(file.sockets.find(&Silent).unwrap(), Ok(access));
        let unknown = NodeSockets {
            group: Some("no-such-group".to_owned()),
            ..NodeSockets::default()
        };
        let unknown = unknown.find(&Silent).unwrap().unwrap_err();
        assert_eq!(unknown, "this host has no group `no-such-group`");
        for wrong in [
            "[environement]\n",
            "[fences]\nmemory = \"1m\"\n",
            "[fences]\ntasks = 0\n",
            "[fences]\nopen-files = 3\n",
            "[sockets]\nmode = \"888\"\n",
            "[sockets]\nmode = \"+660\"\n",
            "[sockets]\nmode = \"4755\"\n",
            "[bind]\n\"srv\" = \"/data\"\n",
            "[bind]\n\"/srv\" = \"/data/../etc\"\n",
        ] {
            fs::write(provisions.file(&web()), wrong).unwrap();
            let error = provisions.read(&web()).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{error}");
            assert!(error.what().contains("web.toml"), "{error}");
        }
    }

    #[test]
    fn a_secret_is_roots_alone() {
        let directory = tempfile::tempdir().unwrap();
        let provisions = Provisions::new(directory.path());
        let secret = || provisions.secret(&web(), "key", &Silent);
        assert_eq!(secret().unwrap(), None);
        let path = provisions.secret_file(&web(), "key");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, [0, 255, 10]).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(secret().unwrap_err().exit_code(), 3);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(secret().unwrap().unwrap(), [0, 255, 10]);
    }
}
