//! How schroot learns of a system, and how we talk to it.
//!
//! A system is one file in `/etc/schroot/chroot.d` and one profile directory:
//!
//! ```text
//! /etc/schroot/chroot.d/imgnode-SYSTEM.conf   the chroot [SYSTEM]; which generation is active
//! /etc/schroot/imgnode/SYSTEM/fstab           /proc, /sys, /dev; nor /home, /tmp, /dev/shm of the host
//! /etc/schroot/imgnode/SYSTEM/copyfiles       empty: nothing of the host is copied in
//! /etc/schroot/imgnode/SYSTEM/nssdatabases    empty: the users are those of the image
//! ```
//! The profile is written once and then the operator's to change. The chroot file is ours: its
//! content follows from the system's record alone, so recovery can always write it again, and
//! switching to another generation is one rename. A file without our mark, or another file that
//! defines a chroot of the same name, is never touched. schroot refuses to work at all when any of
//! its files is wrong, so after each change we ask it whether it still reads them.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use store::ImageId;

use super::commands::HostCommand;
use crate::atomic_file;
use crate::error::{Context, Error, Result};
use crate::event::{Event, Observer};
use crate::system::SystemName;

const MARK: &str = "# imgnode system=";

/// How often schroot is asked whether it knows a chroot, and the pause in between.
const ATTEMPTS: usize = 10;
const PAUSE: Duration = Duration::from_millis(100);

/// The files of a profile as they are written.
const PROFILE: [(&str, &str); 3] = [
    ("fstab", FSTAB),
    ("copyfiles", COPYFILES),
    ("nssdatabases", NSSDATABASES),
];

const FSTAB: &str = "\
# What a session sees of the host. Not its /home, not its /tmp and not its shared memory.
/proc     /proc     none   rw,bind                         0  0
/sys      /sys      none   rw,bind                         0  0
/dev      /dev      none   rw,bind                         0  0
/dev/pts  /dev/pts  none   rw,bind                         0  0
shm       /dev/shm  tmpfs  rw,nosuid,nodev,mode=1777       0  0
";
/// The fstab of earlier versions, which is replaced where nobody changed it.
const OLD_FSTAB: &str = "\
# What a session sees of the host. Not its /home and not its /tmp.
/proc     /proc     none  rw,bind  0  0
/sys      /sys      none  rw,bind  0  0
/dev      /dev      none  rw,bind  0  0
/dev/pts  /dev/pts  none  rw,bind  0  0
/dev/shm  /dev/shm  none  rw,bind  0  0
";
const COPYFILES: &str = "\
# Files copied from the host into each session. None, so that a session is its image;
# a line `/etc/resolv.conf` gives it the resolver of the host.
";
const NSSDATABASES: &str = "\
# Databases copied from the host into each session. None: the users are those of the image.
";

/// A chroot as it is registered: the generation of a system that new sessions see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chroot {
    /// The name of the system and of the chroot.
    pub system: SystemName,
    /// The number of the generation.
    pub generation: u64,
    /// The image of the generation.
    pub image: ImageId,
    /// The words for `schroot --info`.
    pub description: String,
    /// The keys of schroot.conf(5) that the target asks for: `type` and what belongs to it.
    pub keys: Vec<(&'static str, String)>,
    /// Who may enter it besides root.
    pub access: Access,
}

/// Users of the host who may enter a chroot besides root.
///
/// Names of the host and of the image have nothing to do with each other, so nobody is let in
/// because the image has a user of that name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Access {
    /// Those who may begin sessions, as themselves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<String>,
    /// Those who may begin sessions as root of the chroot.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub root_users: Vec<String>,
}

impl Access {
    /// Whether only root may.
    pub fn is_root_only(&self) -> bool {
        *self == Self::default()
    }
}

/// schroot's configuration directory.
#[derive(Clone, Debug)]
pub struct Schroot {
    etc: PathBuf,
}

impl Default for Schroot {
    fn default() -> Self {
        Self::new("/etc/schroot")
    }
}

impl Schroot {
    /// The schroot that is configured in `etc`.
    pub fn new(etc: impl Into<PathBuf>) -> Self {
        Self { etc: etc.into() }
    }

    /// The file that registers `system`.
    pub fn file(&self, system: &SystemName) -> PathBuf {
        self.etc
            .join("chroot.d")
            .join(format!("imgnode-{system}.conf"))
    }

    fn profile(&self, system: &SystemName) -> PathBuf {
        self.etc.join("imgnode").join(system.as_str())
    }

    /// Refuses names that somebody else has given to a chroot.
    pub fn check(&self, system: &SystemName) -> Result<()> {
        let directory = self.etc.join("chroot.d");
        if !directory.is_dir() {
            return Err(
                Error::failed(format!("there is no {}", directory.display()))
                    .cause("schroot is not installed on this node")
                    .hint("apt-get install schroot"),
            );
        }
        let own = self.file(system);
        if let Some(bytes) = read(&own)?
            && !String::from_utf8_lossy(&bytes).starts_with(&format!("{MARK}{system} "))
        {
            return Err(
                Error::refused(format!("{} was not written by imgnode", own.display()))
                    .hint("move it away, or choose another name with --as"),
            );
        }
        let mut files = vec![self.etc.join("schroot.conf")];
        for entry in
            fs::read_dir(&directory).context(|| format!("cannot list {}", directory.display()))?
        {
            let entry = entry.context(|| format!("cannot list {}", directory.display()))?;
            // schroot looks past hidden files; ours are left by a kill while one is written.
            if !entry.file_name().as_bytes().starts_with(b".") {
                files.push(entry.path());
            }
        }
        for file in files.iter().filter(|file| **file != own && file.is_file()) {
            let Some(bytes) = read(file)? else { continue };
            if defines(&String::from_utf8_lossy(&bytes), system.as_str()) {
                return Err(Error::refused(format!(
                    "{} already defines a chroot `{system}`",
                    file.display()
                ))
                .hint("choose another name with --as"));
            }
        }
        Ok(())
    }

    /// The generation that the registered chroot uses; `None` when the system is not registered.
    pub fn registered(&self, system: &SystemName) -> Result<Option<PathBuf>> {
        let Some(bytes) = read(&self.file(system))? else {
            return Ok(None);
        };
        let text = String::from_utf8_lossy(&bytes);
        Ok(text
            .lines()
            .find_map(|line| {
                let directory = line.strip_prefix("directory=");
                directory.or_else(|| line.strip_prefix("device="))
            })
            .map(PathBuf::from))
    }

    /// Registers a chroot, or points it at another generation.
    pub fn register(&self, chroot: &Chroot, observer: &dyn Observer) -> Result<()> {
        let _alone = self.alone()?;
        self.check(&chroot.system)?;
        let profile = self.profile(&chroot.system);
        atomic_file::create_directory(&profile, 0o755)?;
        for (name, text) in PROFILE {
            let path = profile.join(name);
            let found = read(&path)?;
            if found.is_none_or(|found| found == OLD_FSTAB.as_bytes()) {
                atomic_file::write(&path, text.as_bytes(), 0o644)?;
            }
        }
        atomic_file::write(
            &self.file(&chroot.system),
            chroot.render().as_bytes(),
            0o644,
        )?;
        self.confirm(&chroot.system, observer)
    }

    /// Keeps other imgnodes from changing this configuration until it is dropped: schroot reads all of
    /// it or nothing.
    fn alone(&self) -> Result<Option<File>> {
        let directory = self.etc.join("chroot.d");
        match File::open(&directory) {
            // `check` says what is missing.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            opened => opened
                .and_then(|file| file.lock().map(|()| Some(file)))
                .context(|| format!("cannot lock {}", directory.display())),
        }
    }

    fn remove_profile(&self, system: &SystemName, observer: &dyn Observer) -> Result<()> {
        let profile = self.profile(system);
        for (name, text) in PROFILE {
            let path = profile.join(name);
            let ours = [text, OLD_FSTAB].map(str::as_bytes);
            if read(&path)?.is_some_and(|found| ours.contains(&&found[..])) {
                atomic_file::remove(&path)?;
            }
        }
        match fs::remove_dir(&profile) {
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {
                observer.event(Event::Note(&format!(
                    "{} stays: somebody changed what is in it",
                    profile.display()
                )));
                Ok(())
            }
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).context(|| format!("cannot remove {}", profile.display()))
            }
            _ => Ok(()),
        }
    }

    fn confirm(&self, system: &SystemName, observer: &dyn Observer) -> Result<()> {
        let line = format!("chroot:{system}");
        let mut last = None;
        // It reads all files, and fails over one that another imgnode is just replacing.
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                thread::sleep(PAUSE);
            }
            match schroot(["--list", "--all-chroots"]).run(observer) {
                Ok(listed) if listed.stdout.lines().any(|listed| listed == line) => return Ok(()),
                Ok(_) => last = None,
                Err(error) => last = Some(error),
            }
        }
        if let Some(error) = last {
            return Err(error.under("schroot does not read its configuration"));
        }
        Err(
            Error::failed(format!("schroot does not know the chroot {system}"))
                .cause(format!("{} was written", self.file(system).display())),
        )
    }

    /// Removes a system's chroot and profile; files of the profile that somebody changed or added
    /// stay.
    pub fn unregister(&self, system: &SystemName, observer: &dyn Observer) -> Result<()> {
        let _alone = self.alone()?;
        let file = self.file(system);
        let ours = |bytes: Vec<u8>| bytes.starts_with(format!("{MARK}{system} ").as_bytes());
        if read(&file)?.is_none_or(ours) {
            atomic_file::remove(&file)?;
        }
        self.remove_profile(system, observer)?;
        match fs::remove_dir(self.etc.join("imgnode")) {
            Err(error)
                if !matches!(
                    error.kind(),
                    ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty
                ) =>
            {
                Err(error).context(|| "cannot remove the profile directory")
            }
            _ => Ok(()),
        }
    }
}

/// A schroot command; nothing it does may take longer than two minutes.
pub fn schroot<'a>(words: impl IntoIterator<Item = &'a str>) -> HostCommand {
    HostCommand::new("schroot")
        .args(words)
        .timeout(Duration::from_secs(120))
}

/// The identifiers of all sessions of this machine.
pub fn sessions(observer: &dyn Observer) -> Result<Vec<String>> {
    let listed = schroot(["--list", "--all-sessions"]).run(observer)?;
    Ok(listed
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix("session:"))
        .map(str::to_owned)
        .collect())
}

/// The sessions of this machine that use a directory or device, whoever began them.
pub fn users_of(place: &Path) -> Result<Vec<String>> {
    let directory = Path::new("/var/lib/schroot/session");
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.context(|| format!("cannot list {}", directory.display()))?,
    };
    let wanted = [
        format!("directory={}", place.display()),
        format!("device={}", place.display()),
    ];
    let mut users = Vec::new();
    for entry in entries {
        let path = entry
            .context(|| format!("cannot list {}", directory.display()))?
            .path();
        // A session may end while we look.
        let Some(bytes) = read(&path)? else { continue };
        let text = String::from_utf8_lossy(&bytes);
        if text
            .lines()
            .any(|line| wanted.iter().any(|key| key == line))
            && let Some(name) = path.file_name()
        {
            users.push(name.to_string_lossy().into_owned());
        }
    }
    Ok(users)
}

fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    atomic_file::read(path)
}

/// Whether a file of schroot names a chroot, as a group or as an alias.
fn defines(text: &str, name: &str) -> bool {
    text.lines()
        .map(str::trim)
        .any(|line| match line.strip_prefix('[') {
            Some(group) => group.strip_suffix(']') == Some(name),
            None => line
                .strip_prefix("aliases")
                .and_then(|rest| rest.trim_start().strip_prefix('='))
                .is_some_and(|list| list.split(',').any(|alias| alias.trim() == name)),
        })
}

impl Chroot {
    /// The content of the file that registers the chroot.
    pub fn render(&self) -> String {
        let Self {
            system,
            generation,
            image,
            description,
            keys,
            access,
        } = self;
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{MARK}{system} generation={generation} image={image}");
        let _ = writeln!(
            text,
            "# Written by imgnode, which replaces it at every switch. The profile is yours to change."
        );
        let _ = writeln!(text, "[{system}]");
        let _ = writeln!(text, "description={description}");
        for (key, value) in keys {
            let _ = writeln!(text, "{key}={value}");
        }
        let _ = writeln!(text, "profile=imgnode/{system}");
        for (key, more) in [("users", &access.users), ("root-users", &access.root_users)] {
            let names: Vec<&str> = std::iter::once("root")
                .chain(more.iter().map(String::as_str))
                .collect();
            let _ = writeln!(text, "{key}={}", names.join(","));
        }
        // Only root writes into a generation.
        for key in ["source-users", "source-root-users"] {
            let _ = writeln!(text, "{key}=root");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Silent;

    fn chroot() -> Chroot {
        Chroot {
            system: "MyProject".parse().unwrap(),
            generation: 2,
            image: ImageId::of(b"image"),
            description: "web, generation 2, release 2 of dev".to_owned(),
            keys: vec![
                ("type", "directory".to_owned()),
                ("union-type", "overlay".to_owned()),
                ("directory", "/srv/images/MyProject/2".to_owned()),
            ],
            access: Access {
                users: vec!["anna".to_owned()],
                root_users: Vec::new(),
            },
        }
    }

    fn etc() -> (tempfile::TempDir, Schroot) {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("chroot.d")).unwrap();
        let schroot = Schroot::new(directory.path());
        (directory, schroot)
    }

    #[test]
    fn the_chroot_file_word_for_word() {
        let text = chroot().render();
        let (mark, rest) = text.split_once('\n').unwrap();
        assert!(mark.starts_with("# imgnode system=MyProject generation=2 image=blake3:"));
        assert_eq!(
            rest,
            "# Written by imgnode, which replaces it at every switch. The profile is yours to change.\n\
             [MyProject]\n\
             description=web, generation 2, release 2 of dev\n\
             type=directory\n\
             union-type=overlay\n\
             directory=/srv/images/MyProject/2\n\
             profile=imgnode/MyProject\n\
             users=root,anna\n\
             root-users=root\n\
             source-users=root\n\
             source-root-users=root\n"
        );
    }

    #[test]
    fn a_foreign_file_of_our_name_is_refused_and_kept() {
        let (_directory, schroot) = etc();
        let web: SystemName = "web".parse().unwrap();
        fs::write(schroot.file(&web), "[web]\ntype=plain\n").unwrap();
        assert_eq!(schroot.check(&web).unwrap_err().exit_code(), 3);
        schroot.unregister(&web, &Silent).unwrap();
        assert!(schroot.file(&web).exists());
    }

    #[test]
    fn a_profile_that_somebody_changed_stays() {
        let (directory, schroot) = etc();
        let web: SystemName = "web".parse().unwrap();
        let write = |fstab: &str| {
            let profile = schroot.profile(&web);
            atomic_file::create_directory(&profile, 0o755).unwrap();
            for (name, text) in PROFILE {
                let text = if name == "fstab" { fstab } else { text };
                fs::write(profile.join(name), text).unwrap();
            }
            profile
        };
        let profile = write("/srv/data /srv/data none rw,bind 0 0\n");
        schroot.unregister(&web, &Silent).unwrap();
        assert!(profile.join("fstab").exists() && !profile.join("copyfiles").exists());
        let profile = write(FSTAB);
        schroot.unregister(&web, &Silent).unwrap();
        assert!(!profile.exists() && !directory.path().join("imgnode").exists());
        schroot.unregister(&web, &Silent).unwrap();
    }

    #[test]
    fn a_chroot_or_alias_of_that_name_elsewhere_is_refused() {
        let (directory, schroot) = etc();
        let web: SystemName = "web".parse().unwrap();
        schroot.check(&web).unwrap();
        // What a kill left of our own file.
        let left = directory.path().join("chroot.d/.imgnode-web.conf.new");
        fs::write(left, "[web]\n").unwrap();
        schroot.check(&web).unwrap();
        for text in ["[web]\n", "[sid]\n aliases = unstable, web\n"] {
            fs::write(directory.path().join("schroot.conf"), text).unwrap();
            let error = schroot.check(&web).unwrap_err();
            assert!(error.what().contains("already defines"), "{error}");
        }
        fs::write(
            directory.path().join("schroot.conf"),
            "[web2]\n#[web]\ndescription=web\n",
        )
        .unwrap();
        schroot.check(&web).unwrap();
    }

    #[test]
    fn what_we_wrote_we_recognise() {
        let (_directory, schroot) = etc();
        let chroot = chroot();
        let system = &chroot.system;
        atomic_file::write(&schroot.file(system), chroot.render().as_bytes(), 0o644).unwrap();
        schroot.check(system).unwrap();
        assert_eq!(
            schroot.registered(system).unwrap().unwrap(),
            Path::new("/srv/images/MyProject/2")
        );
        schroot.unregister(system, &Silent).unwrap();
        assert_eq!(schroot.registered(system).unwrap(), None);
    }
}
