//! What an image needs from its node, found and put into a session.
//!
//! Everything is looked for before a session begins, so that what is missing is one error and nothing
//! has changed. In the session stand then: directories whose content is the node's, as bind mounts;
//! secrets, in a tmpfs that only the service's user reads; names of hosts. schroot unmounts all of it
//! when the session ends.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, ResolveFlags, StatVfsMountFlags, Uid, mkdirat, openat, openat2,
    renameat, symlinkat, unlinkat,
};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount, mount_bind, mount_remount};
use store::manifest::{DirectoryKind, Fences, Resolver, Run as Service, User};

use super::record::Session;
use crate::error::{Context, Error, Result};
use crate::host::provisions::{Bind, Provisions, SocketAccess};
use crate::node::Node;
use crate::system::SystemName;

/// Where processes of a session find secrets: `$CREDENTIALS_DIRECTORY`, as systemd.exec(5) calls it.
pub(super) const CREDENTIALS: &str = "/run/credentials";

/// What a tree that is read-only lets a service write, for the time of a session.
const EMPTY_WHERE_READ_ONLY: [&str; 3] = ["/run", "/tmp", "/var/tmp"];

/// What the build writes where a recipe has no `/etc/hosts` of its own.
const BUILT_HOSTS: &[u8] = b"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";

/// What the node gives to a system.
#[derive(Clone, Debug, Default)]
pub(super) struct Provided {
    /// Variables of the node's file.
    pub(super) environment: Vec<(String, String)>,
    directories: Vec<Directory>,
    binds: Vec<(String, Bind)>,
    secrets: Vec<(String, Vec<u8>)>,
    resolver: Option<Resolver>,
    owner: (u32, u32),
    /// What bounds its processes here.
    pub(super) fences: Fences,
    /// Whose its Unix sockets are.
    pub(super) sockets: SocketAccess,
}

/// A directory of the node's, with its path in the session.
#[derive(Clone, Debug)]
struct Directory {
    inside: String,
    outside: PathBuf,
}

impl Provided {
    /// Finds all that is needed, or says what is missing.
    pub(super) fn find(
        node: &Node<'_>,
        system: &SystemName,
        service: &Service,
        user: &User,
    ) -> Result<Self> {
        let needs = &service.needs;
        let provisions = &node.provisions;
        let mut file = provisions.read(system)?;
        let fences = file.fences.over(service.fences);
        let mut missing = Vec::new();
        for name in &needs.settings {
            if !file.environment.contains_key(name) {
                missing.push(format!(
                    "{name} has no value under [environment] of {}",
                    provisions.file(system).display()
                ));
            }
        }
        let mut secrets = Vec::new();
        for name in &needs.secrets {
            match provisions.secret(system, name, node.observer)? {
                Some(secret) => secrets.push((name.clone(), secret)),
                None => missing.push(no_secret(provisions, system, name)),
            }
        }
        for bind in file.bind.values() {
            if !bind.path.exists() {
                missing.push(format!(
                    "{}, which {} binds, is not there",
                    bind.path.display(),
                    provisions.file(system).display()
                ));
            }
        }
        let sockets = match file.sockets.find(node.observer)? {
            Ok(sockets) => sockets,
            Err(unknown) => {
                missing.push(format!(
                    "{unknown}, whom {} names under [sockets]",
                    provisions.file(system).display()
                ));
                SocketAccess::default()
            }
        };
        if !missing.is_empty() {
            let error = Error::usage(format!("{system} needs what this node does not give"));
            return Err(missing.into_iter().fold(error, Error::cause));
        }
        let mut directories = Vec::new();
        for (kind, inside) in needs.directories() {
            // The operator may keep it elsewhere.
            if file.bind.contains_key(inside) {
                continue;
            }
            directories.push(Directory {
                inside: inside.to_owned(),
                outside: data_directory(node, system, kind, inside),
            });
        }
        let mut binds: Vec<_> = std::mem::take(&mut file.bind).into_iter().collect();
        // What lies in another is mounted after it.
        binds.sort_by_key(|(inside, _)| inside.len());
        directories.sort_by_key(|directory| directory.inside.len());
        Ok(Self {
            environment: file.environment.into_iter().collect(),
            directories,
            binds,
            secrets,
            resolver: Some(needs.resolver),
            owner: (user.uid, user.gid),
            fences,
            sockets,
        })
    }

    /// What bounds a service here.
    pub(super) fn fences_of(
        node: &Node<'_>,
        system: &SystemName,
        service: &Service,
    ) -> Result<Fences> {
        let file = node.provisions.read(system)?;
        Ok(file.fences.over(service.fences))
    }

    /// Puts it into a session that has begun and in which nothing runs.
    pub(super) fn enter(&self, session: &Session) -> Result<()> {
        let root = open_root(&session.root())?;
        let in_image = self.directories.iter();
        let in_image: Vec<_> = in_image.map(|one| owner_in(&root, &one.inside)).collect();
        if self.fences.read_only {
            for place in EMPTY_WHERE_READ_ONLY {
                mount_empty(&root, place).context(|| format!("cannot mount a tmpfs at {place}"))?;
            }
        }
        for (directory, in_image) in self.directories.iter().zip(in_image) {
            self.bind_data(&root, directory, in_image)?;
        }
        for (inside, bind) in &self.binds {
            let failed = || format!("cannot bind {} at {inside}", bind.path.display());
            if bind.path.is_dir() {
                make_directories(&root, inside).context(failed)?;
            } else {
                make_file(&root, inside).context(failed)?;
            }
            let flags = if bind.read_only {
                MountFlags::RDONLY
            } else {
                MountFlags::empty()
            };
            bind_at(&root, inside, &bind.path, flags).context(failed)?;
        }
        if !self.secrets.is_empty() {
            self.write_secrets(&root)
                .context(|| format!("cannot put secrets into {}", session.id))?;
        }
        if self.resolver == Some(Resolver::Node) {
            resolve_as_the_node(&session.root())?;
            if self.fences.read_only {
                link_names(&root)
                    .context(|| format!("cannot link names of hosts in {}", session.id))?;
            }
        }
        if self.fences.read_only {
            let flags = MountFlags::BIND | MountFlags::RDONLY;
            flags_of(&root)
                .and_then(|own| mount_remount(by_fd(&root), flags | own, ""))
                .context(|| format!("cannot make {} read-only", session.root().display()))?;
        }
        Ok(())
    }

    /// Binds a directory of the node's, which is made when it is not there.
    fn bind_data(
        &self,
        root: &OwnedFd,
        directory: &Directory,
        in_image: rustix::io::Result<Option<(u32, u32, u32)>>,
    ) -> Result<()> {
        let Directory { inside, outside } = directory;
        let failed = || format!("cannot give {} at {inside}", outside.display());
        let in_image = in_image.context(failed)?;
        let (uid, gid, mode) = in_image.unwrap_or((self.owner.0, self.owner.1, 0o750));
        match fs::symlink_metadata(outside) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                make_data(outside, (uid, gid), mode).context(failed)?;
            }
            found => {
                let found = found.context(failed)?;
                if !found.is_dir() {
                    let what = format!("{} is not a directory", outside.display());
                    return Err(Error::refused(what));
                }
                if (found.uid(), found.gid()) != (uid, gid) {
                    let has = format!("{}:{}", found.uid(), found.gid());
                    let place = outside.display();
                    return Err(Error::failed(format!(
                        "{place} belongs to {has}, and in the image {inside} to {uid}:{gid}"
                    ))
                    .cause("the users of this image have other numbers than those before")
                    .hint(format!(
                        "stop the system, and give what is in it to them: \
                         chown -R --from={has} {uid}:{gid} {place}"
                    )));
                }
            }
        }
        make_directories(root, inside).context(failed)?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        bind_at(root, inside, outside, flags).context(failed)
    }

    fn write_secrets(&self, root: &OwnedFd) -> std::io::Result<()> {
        make_directories(root, CREDENTIALS)?;
        let (uid, gid) = self.owner;
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        let data = format!("mode=0500,uid={uid},gid={gid},size=16m");
        mount_tmpfs(root, CREDENTIALS, flags, &data)?;
        let inside = open_in(root, CREDENTIALS, OFlags::DIRECTORY)?;
        for (name, secret) in &self.secrets {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            let file = openat(&inside, name.as_str(), flags, Mode::from_raw_mode(0o400))?;
            rustix::fs::fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
            fs::File::from(file).write_all(secret)?;
        }
        mount_remount(by_fd(&inside), flags | MountFlags::RDONLY, data)?;
        Ok(())
    }
}

/// Owner and mode of a directory of the image; `None` where it has none.
fn owner_in(root: &OwnedFd, inside: &str) -> rustix::io::Result<Option<(u32, u32, u32)>> {
    match open_in(root, inside, OFlags::DIRECTORY) {
        Ok(found) => {
            let found = rustix::fs::fstat(&found)?;
            Ok(Some((found.st_uid, found.st_gid, found.st_mode & 0o7777)))
        }
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What a mount forbids already, which mounting it again would lift.
fn flags_of(mounted: &OwnedFd) -> rustix::io::Result<MountFlags> {
    let flags = rustix::fs::fstatvfs(mounted)?.f_flag;
    let kept = [
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
    ];
    let kept = kept.into_iter().filter(|(found, _)| flags.contains(*found));
    Ok(kept.fold(MountFlags::empty(), |all, (_, flag)| all | flag))
}

/// Where the node keeps a directory of a system, unless the operator binds another.
pub fn data_directory(
    node: &Node<'_>,
    system: &SystemName,
    kind: DirectoryKind,
    inside: &str,
) -> PathBuf {
    let place = node.state.data(system).join(kind.name());
    place.join(escape(inside))
}

/// A path as one name, as `systemd-escape --path` makes it. No directory of a system may lie in another:
/// a service can put links into its own, and we are root.
fn escape(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b":_.".contains(&byte);
    let bytes = path.trim_start_matches('/').bytes().enumerate();
    let escaped = bytes.map(|(at, byte)| match byte {
        b'/' => "-".to_owned(),
        b'.' if at == 0 => "\\x2e".to_owned(),
        _ if plain(byte) => char::from(byte).to_string(),
        _ => format!("\\x{byte:02x}"),
    });
    escaped.collect()
}

fn no_secret(provisions: &Provisions, system: &SystemName, name: &str) -> String {
    let path = provisions.secret_file(system, name);
    format!("the secret {name}: there is no {}", path.display())
}

/// Gives a session the names of hosts that the node has: its resolver, and its hosts unless the image
/// has a list of its own.
///
/// In a tree that is read-only they are links to files in `/run`, which only we write.
pub(super) fn resolve_as_the_node(root: &Path) -> Result<()> {
    let directory = open_root(root)?;
    let failed = || format!("cannot write names of hosts into {}", root.display());
    let etc = match open_in(&directory, "/etc", OFlags::DIRECTORY) {
        Err(Errno::NOENT) => return Ok(()),
        opened => opened.context(failed)?,
    };
    let linked = open_in(&directory, NAMES, OFlags::DIRECTORY).ok();
    for name in ["resolv.conf", "hosts"] {
        let Ok(ours) = fs::read(Path::new("/etc").join(name)) else {
            continue;
        };
        if let Some(linked) = &linked
            && read_in(linked, name).is_some()
        {
            replace_in(linked, name, &ours).context(failed)?;
            continue;
        }
        let theirs = read_in(&etc, name);
        let own = name == "hosts" && theirs.as_ref().is_some_and(|text| is_own(&etc, text));
        if own || theirs.as_deref() == Some(&ours[..]) {
            continue;
        }
        replace_in(&etc, name, &ours).context(failed)?;
        if name == "hosts" {
            replace_in(&etc, OURS, b"").context(failed)?;
        }
    }
    Ok(())
}

/// The directory of a session to which names of hosts are linked where its tree is read-only.
const NAMES: &str = "/run/imgnode";

/// Moves the files with names of hosts to where they can be replaced later, and links to them.
fn link_names(root: &OwnedFd) -> std::io::Result<()> {
    let Ok(etc) = open_in(root, "/etc", OFlags::DIRECTORY) else {
        return Ok(());
    };
    make_directories(root, NAMES)?;
    let names = open_in(root, NAMES, OFlags::DIRECTORY)?;
    // Whatever the umask of whoever starts it, everybody resolves names.
    fs::set_permissions(by_fd(&names), fs::Permissions::from_mode(0o755))?;
    for name in ["resolv.conf", "hosts"] {
        // The node may have none yet, and the image none or a link.
        let text = read_in(&etc, name).unwrap_or_default();
        if name == "hosts" && is_own(&etc, &text) {
            continue;
        }
        let new = format!(".{name}.imgnode");
        let _ = unlinkat(&etc, new.as_str(), AtFlags::empty());
        symlinkat(format!("..{NAMES}/{name}"), &etc, new.as_str())?;
        match renameat(&etc, new.as_str(), &etc, name) {
            Ok(()) => replace_in(&names, name, &text)?,
            // Somebody mounted a file there: it is theirs.
            Err(Errno::BUSY) => unlinkat(&etc, new.as_str(), AtFlags::empty())?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The files of the node that say the names of hosts, as they are now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeNames([Option<(u64, i64, i64)>; 2]);

impl NodeNames {
    /// Looks at them.
    pub fn look() -> Self {
        Self(["/etc/resolv.conf", "/etc/hosts"].map(|path| {
            let found = fs::metadata(path).ok()?;
            Some((found.ino(), found.mtime(), found.mtime_nsec()))
        }))
    }
}

/// Marks a list of hosts that came from the node, so that it follows the node's.
const OURS: &str = ".imgnode-hosts";

/// Whether a list of hosts is the image's own.
fn is_own(etc: &OwnedFd, text: &[u8]) -> bool {
    !text.is_empty() && text != BUILT_HOSTS && read_in(etc, OURS).is_none()
}

fn read_in(directory: &OwnedFd, name: &str) -> Option<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = fs::File::from(openat(directory, name, flags, Mode::empty()).ok()?);
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(file, 1 << 20), &mut bytes).ok()?;
    Some(bytes)
}

/// Replaces a file of a session, whatever stands there.
fn replace_in(directory: &OwnedFd, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let new = format!(".{name}.imgnode");
    let _ = unlinkat(directory, new.as_str(), AtFlags::empty());
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = openat(directory, new.as_str(), flags, Mode::from_raw_mode(0o644))?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(0o644))?;
    fs::File::from(file).write_all(bytes)?;
    renameat(directory, new.as_str(), directory, name)?;
    Ok(())
}

/// Makes a directory of the node's, which is there with its owner and mode or not at all.
fn make_data(path: &Path, (uid, gid): (u32, u32), mode: u32) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = Path::new(&new);
    match fs::remove_dir(new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::create_dir(new)?;
    std::os::unix::fs::chown(new, Some(uid), Some(gid))?;
    fs::set_permissions(new, fs::Permissions::from_mode(mode))?;
    fs::rename(new, path)
}

fn open_root(root: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(root, flags, Mode::empty())
        .context(|| format!("cannot look into the session at {}", root.display()))
}

/// Opens a path of a session; its links lead where they lead for its processes.
fn open_in(root: impl AsFd, path: &str, more: OFlags) -> rustix::io::Result<OwnedFd> {
    let path = path.trim_start_matches('/');
    let path = if path.is_empty() { "." } else { path };
    let flags = OFlags::PATH | OFlags::CLOEXEC | more;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    openat2(root, path, flags, Mode::empty(), resolve)
}

fn make_directories(root: &OwnedFd, path: &str) -> std::io::Result<()> {
    let mut done = String::new();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        let parent = open_in(root, &done, OFlags::DIRECTORY)?;
        done.push('/');
        done.push_str(part);
        match open_in(root, &done, OFlags::DIRECTORY) {
            Ok(_) => {}
            Err(Errno::NOENT) => mkdirat(&parent, part, Mode::from_raw_mode(0o755))?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn make_file(root: &OwnedFd, path: &str) -> std::io::Result<()> {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    make_directories(root, parent)?;
    if open_in(root, path, OFlags::empty()).is_ok() {
        return Ok(());
    }
    let parent = open_in(root, parent, OFlags::DIRECTORY)?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    openat(&parent, name, flags, Mode::from_raw_mode(0o644))?;
    Ok(())
}

fn bind_at(root: &OwnedFd, inside: &str, outside: &Path, flags: MountFlags) -> std::io::Result<()> {
    let place = open_in(root, inside, OFlags::empty())?;
    mount_bind(outside, by_fd(&place))?;
    if !flags.is_empty() {
        // What is open is what lies below the mount.
        let mounted = open_in(root, inside, OFlags::empty())?;
        mount_remount(by_fd(&mounted), flags | MountFlags::BIND, "")?;
    }
    Ok(())
}

/// Mounts an empty tmpfs with the mode of what it hides.
fn mount_empty(root: &OwnedFd, inside: &str) -> std::io::Result<()> {
    make_directories(root, inside)?;
    let place = open_in(root, inside, OFlags::DIRECTORY)?;
    let mode = rustix::fs::fstat(&place)?.st_mode & 0o7777;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount_tmpfs(root, inside, flags, &format!("mode={mode:o}"))
}

fn mount_tmpfs(root: &OwnedFd, inside: &str, flags: MountFlags, data: &str) -> std::io::Result<()> {
    let place = open_in(root, inside, OFlags::DIRECTORY)?;
    let data = std::ffi::CString::new(data)?;
    mount(
        "imgnode",
        by_fd(&place),
        "tmpfs",
        flags,
        Some(data.as_c_str()),
    )?;
    Ok(())
}

fn by_fd(file: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_directory_of_the_node_lies_in_another() {
        for (path, name) in [
            ("/var/lib/app", "var-lib-app"),
            ("/var/lib/app/sub", "var-lib-app-sub"),
            ("/srv/my-app", "srv-my\\x2dapp"),
            ("/.hidden/\u{e4}", "\\x2ehidden-\\xc3\\xa4"),
        ] {
            assert_eq!(escape(path), name);
        }
    }
}
