//! What dpkg knows of a package that it has unpacked, written as dpkg writes it.
//!
//! The paths are those of the tree: whoever calls this has made it their root
//! directory. A package that would need more than is done here is left to dpkg,
//! with all that come after it (dpkg(1), deb-triggers(5), dpkg-divert(1)).

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rayon::prelude::*;

use super::index::{Entry, Files, Kind};
use super::{LISTS, clash};
use crate::deb::{self, wrong};
use crate::dpkg_status::{self, field};
use crate::error::{Context, Result};

const DPKG: &str = "/var/lib/dpkg";
/// Where dpkg has the files of `control.tar` while a script of it runs.
const CONTROL_FILES: &str = "/var/lib/dpkg/tmp.ci";
/// The one of them that describes the package.
const CONTROL: &str = "control";
/// No file of `control.tar` is larger.
const MAX_CONTROL: u64 = 64 << 20;

/// What the tree's dpkg is told of a package, made from its two tar archives.
struct Package {
    /// The control file.
    control: String,
    /// As dpkg names its files: with the architecture where there may be several.
    name: String,
    /// The files of `control.tar`.
    files: Vec<ControlFile>,
    /// The paths that it has, a line each.
    list: Vec<u8>,
    /// Its files that belong to somebody.
    owned: String,
}

struct ControlFile {
    name: String,
    mode: u32,
    mtime: u64,
    content: Vec<u8>,
}

/// Keeps what `register` needs of a package's files.
pub(super) fn note(lists: &Path, deb: &Path, files: &Files) -> io::Result<()> {
    let mut list = b"/.\n".to_vec();
    let mut owned = String::new();
    let is_link = |entry: &&Entry| matches!(entry.kind, Kind::SymbolicLink(_));
    // dpkg makes the symbolic links last.
    let entries = files.entries.iter().filter(|entry| !is_link(entry));
    for entry in entries.chain(files.entries.iter().filter(is_link)) {
        let path = entry.path.as_os_str().as_bytes();
        list.extend_from_slice(b"/");
        list.extend_from_slice(path);
        list.push(b'\n');
        let is_root = |name: &str| name.is_empty() || name == "root";
        let is_file = !matches!(entry.kind, Kind::Directory | Kind::HardLink(_));
        if is_file && !(is_root(&entry.owner) && is_root(&entry.group)) {
            let path = String::from_utf8_lossy(path);
            let _ = writeln!(owned, "{}\t{}\t{path}", entry.owner, entry.group);
        }
    }
    let at = |extension| list_of(lists, deb, extension);
    fs::write(at(".list"), list)?;
    fs::write(at(".owned"), owned)
}

fn list_of(lists: &Path, deb: &Path, extension: &str) -> PathBuf {
    let mut name = deb.file_name().unwrap_or_default().to_owned();
    name.push(extension);
    lists.join(name)
}

/// Puts packages, whose files are there, into dpkg's database as unpacked. Returns those that
/// dpkg has to unpack.
pub(super) fn register(debs: &[PathBuf]) -> Result<&[PathBuf]> {
    let packages = debs.par_iter().map(|deb| {
        let read = Package::read(deb);
        read.context(|| format!("cannot read {}", deb.display()))
    });
    let packages = packages.collect::<Result<Vec<_>>>()?;
    let unread = || "cannot read dpkg's database".to_owned();
    let status = read(&Path::new(DPKG).join("status")).context(unread)?;
    let installed: Vec<_> = dpkg_status::installed(&status).map(|p| p.package).collect();
    let is_installed = |package: &Package| {
        let named = |name| field(&package.control, name);
        installed.iter().any(|other| {
            named("Package") == Some(&other.name) && named("Version") == Some(&other.version)
        })
    };
    let controls: Vec<&str> = packages.iter().map(|p| p.control.as_str()).collect();
    let interests = installed_interests();
    if clash::any(&controls) || packages.iter().any(|p| p.triggers_one_of(&interests)) {
        return Ok(debs);
    }
    let mut database = Database {
        paragraphs: String::new(),
        dpkg: installed
            .iter()
            .find(|p| p.name == "dpkg")
            .map(|p| p.version.as_str()),
    };
    for (number, package) in packages.iter().enumerate() {
        let failed = || format!("cannot enter {} into dpkg's database", package.name);
        let is_entered = if is_installed(package) {
            package.unconfigure().map(|()| true)
        } else {
            database.add(package)
        };
        if !is_entered.context(failed)? {
            database.flush().context(failed)?;
            return Ok(&debs[number..]);
        }
    }
    database
        .flush()
        .context(|| "cannot write dpkg's database".into())?;
    Ok(&[])
}

struct Database<'p> {
    /// What is not yet in the status file.
    paragraphs: String,
    /// The version of the tree's dpkg.
    dpkg: Option<&'p str>,
}

impl Database<'_> {
    /// Enters a package; `false` where that is for dpkg to do.
    fn add(&mut self, package: &Package) -> io::Result<bool> {
        let info = Path::new(DPKG).join("info");
        let conffiles = package.text("conffiles");
        let is_odd =
            package.lacks_digests() || conffiles.lines().any(|line| !package.has_file(line));
        // Before its script runs, which dpkg would run again.
        if is_odd || package.is_redirected()? {
            return Ok(false);
        }
        if package.files.iter().any(|file| file.name == "preinst") {
            self.flush()?;
            // Its own files may be redirected now.
            if !self.before_install(package)? || package.is_redirected()? {
                return Ok(false);
            }
        }
        package.give_away()?;
        for path in conffiles.lines() {
            copy_new(Path::new(path))?;
        }
        for file in package.files.iter().filter(|file| file.name != CONTROL) {
            file.write(&info.join(format!("{}.{}", package.name, file.name)))?;
        }
        fs::write(info.join(format!("{}.list", package.name)), &package.list)?;
        package.declare_interests()?;
        self.paragraphs.push_str(&package.paragraph(&conffiles));
        Ok(true)
    }

    /// Writes what has come together. A script may ask dpkg.
    fn flush(&mut self) -> io::Result<()> {
        let status = Path::new(DPKG).join("status");
        let mut file = fs::OpenOptions::new().append(true).open(status)?;
        file.write_all(self.paragraphs.as_bytes())?;
        self.paragraphs.clear();
        Ok(())
    }

    /// Runs the script that comes before a package is unpacked, as dpkg runs it; `false` where
    /// it failed.
    fn before_install(&self, package: &Package) -> io::Result<bool> {
        const SCRIPT: &str = "preinst";
        fs::create_dir(CONTROL_FILES)?;
        for file in &package.files {
            file.write(&Path::new(CONTROL_FILES).join(&file.name))?;
        }
        let named = |name| field(&package.control, name).unwrap_or_default();
        let status = Command::new(Path::new(CONTROL_FILES).join(SCRIPT))
            .arg("install")
            .env("PATH", "/sbin:/usr/sbin:/bin:/usr/bin")
            .env("DPKG_MAINTSCRIPT_PACKAGE", named("Package"))
            .env("DPKG_MAINTSCRIPT_PACKAGE_REFCOUNT", "1")
            .env("DPKG_MAINTSCRIPT_ARCH", named("Architecture"))
            .env("DPKG_MAINTSCRIPT_NAME", SCRIPT)
            .env("DPKG_MAINTSCRIPT_DEBUG", "0")
            .env("DPKG_RUNNING_VERSION", self.dpkg.unwrap_or_default())
            .env("DPKG_ADMINDIR", DPKG)
            .env("DPKG_ROOT", "")
            .stdin(Stdio::null())
            // Standard output says which packages are left.
            .stdout(io::stderr())
            .status()?;
        fs::remove_dir_all(CONTROL_FILES)?;
        Ok(status.success())
    }
}

impl Package {
    fn read(deb: &Path) -> io::Result<Self> {
        let mut files = Vec::new();
        let mut control = None;
        for entry in tar::Archive::new(deb::member(deb, deb::CONTROL)?).entries()? {
            let mut entry = entry?;
            let path = entry.path()?.into_owned();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if name.is_empty() || !entry.header().entry_type().is_file() {
                continue;
            }
            let mut content = Vec::new();
            entry.by_ref().take(MAX_CONTROL).read_to_end(&mut content)?;
            if name == CONTROL {
                control = Some(String::from_utf8_lossy(&content).into_owned());
            }
            files.push(ControlFile {
                name,
                mode: entry.header().mode()? & 0o7777,
                mtime: entry.header().mtime()?,
                content,
            });
        }
        let control = control.ok_or_else(|| wrong("it has no control file"))?;
        let named = |name| field(&control, name).unwrap_or_default();
        let name = if named("Multi-Arch") == "same" {
            format!("{}:{}", named("Package"), named("Architecture"))
        } else {
            named("Package").to_owned()
        };
        let lists = Path::new("/").join(LISTS);
        Ok(Self {
            name,
            files,
            list: fs::read(list_of(&lists, deb, ".list"))?,
            owned: fs::read_to_string(list_of(&lists, deb, ".owned"))?,
            control,
        })
    }

    /// A file of `control.tar` as text; empty where there is none.
    fn text(&self, name: &str) -> String {
        let file = self.files.iter().find(|file| file.name == name);
        file.map_or_else(String::new, |file| {
            String::from_utf8_lossy(&file.content).into_owned()
        })
    }

    /// Whether that path, with a slash before it, is one of its own.
    fn has(&self, path: &str) -> bool {
        self.list
            .split(|b| *b == b'\n')
            .any(|line| line == path.as_bytes())
    }

    /// Whether it has a plain file at that path.
    fn has_file(&self, path: &str) -> bool {
        self.has(path)
            && Path::new(path)
                .symlink_metadata()
                .is_ok_and(|found| found.is_file())
    }

    /// Leaves it as one that was unpacked again: dpkg configures packages in an order that
    /// depends on which are not.
    fn unconfigure(&self) -> io::Result<()> {
        const INSTALLED: &str = "\nStatus: install ok installed\n";
        let path = Path::new(DPKG).join("status");
        let status = read(&path)?;
        let name = field(&self.control, "Package");
        let paragraphs = status.split("\n\n").map(|text| {
            let version = field(text, "Version").unwrap_or_default();
            let now = format!("\nStatus: install ok unpacked\nConfig-Version: {version}\n");
            if field(text, "Package") == name {
                text.replacen(INSTALLED, &now, 1)
            } else {
                text.to_owned()
            }
        });
        fs::write(path, paragraphs.collect::<Vec<_>>().join("\n\n"))
    }

    /// Whether dpkg has to compute the digests of its files.
    fn lacks_digests(&self) -> bool {
        let paths = || self.list.split(|b| *b == b'\n').map(OsStr::from_bytes);
        let is_file = |path| {
            Path::new(path)
                .symlink_metadata()
                .is_ok_and(|found| found.is_file())
        };
        !self.files.iter().any(|file| file.name == "md5sums") && paths().any(is_file)
    }

    /// Its paragraph of the status file.
    fn paragraph(&self, conffiles: &str) -> String {
        let mut text = String::from("\n");
        for line in self.control.lines().filter(|line| !line.trim().is_empty()) {
            let _ = writeln!(text, "{line}");
            if line.starts_with("Package:") {
                text.push_str("Status: install ok unpacked\n");
            }
        }
        if !conffiles.is_empty() {
            text.push_str("Conffiles:\n");
        }
        for path in conffiles.lines() {
            // The digest comes when the package is configured.
            let _ = writeln!(text, " {path} newconffile");
        }
        text
    }

    /// Whether its files do not all go where it says, or belong to others than it says.
    fn is_redirected(&self) -> io::Result<bool> {
        // A line for each: user, group, mode, path.
        let overrides = read(&Path::new(DPKG).join("statoverride"))?;
        let mut paths = overrides
            .lines()
            .filter_map(|line| line.splitn(4, ' ').nth(3));
        if paths.any(|path| self.has(path)) {
            return Ok(true);
        }
        // Three lines for each: from where, to where, for the files of all packages but which.
        let diversions = read(&Path::new(DPKG).join("diversions"))?;
        let lines: Vec<&str> = diversions.lines().collect();
        let own = field(&self.control, "Package");
        Ok(lines.chunks(3).any(|one| {
            let [from, to, by] = one else { return true };
            own != Some(by) && self.has(from) || self.has(to)
        }))
    }

    /// Gives its files to the users and groups of those names that the tree has, which may have
    /// other ids than where the package was built.
    fn give_away(&self) -> io::Result<()> {
        if self.owned.is_empty() {
            return Ok(());
        }
        let (passwd, group) = (
            read(Path::new("/etc/passwd"))?,
            read(Path::new("/etc/group"))?,
        );
        for line in self.owned.lines() {
            let mut parts = line.splitn(3, '\t');
            let mut part = || parts.next().unwrap_or_default();
            let (uid, gid) = (id(&passwd, part()), id(&group, part()));
            let path = Path::new("/").join(part());
            let found = path.symlink_metadata()?;
            let is = |wanted: Option<u32>, now| wanted.is_none_or(|id| id == now);
            if is(uid, found.uid()) && is(gid, found.gid()) {
                continue;
            }
            std::os::unix::fs::lchown(&path, uid, gid)?;
            if !found.is_symlink() {
                fs::set_permissions(&path, found.permissions())?;
            }
        }
        Ok(())
    }

    /// Its lines of `triggers`, each in two.
    fn triggers(&self) -> Vec<(String, String)> {
        let text = self.text("triggers");
        let lines = text.lines().map(str::trim);
        lines
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once(char::is_whitespace))
            .map(|(directive, name)| (directive.to_owned(), name.trim().to_owned()))
            .collect()
    }

    /// Whether it activates a trigger in which an installed package is interested.
    fn triggers_one_of(&self, interests: &[String]) -> bool {
        let own = self.triggers();
        let activates = |name: &str| {
            let mut own = own.iter();
            own.any(|(directive, own)| directive.starts_with("activate") && own == name)
        };
        let is_below = |name: &str| {
            let mut lines = self.list.split(|b| *b == b'\n');
            lines.any(|line| Path::new(OsStr::from_bytes(line)).starts_with(name))
        };
        interests
            .iter()
            .any(|name| activates(name) || name.starts_with('/') && is_below(name))
    }

    /// Says in which triggers it is interested.
    fn declare_interests(&self) -> io::Result<()> {
        let triggers = Path::new(DPKG).join("triggers");
        for (directive, name) in self.triggers() {
            let Some(how) = directive.strip_prefix("interest") else {
                continue;
            };
            let how = if how == "-noawait" { "/noawait" } else { "" };
            let (file, line) = if name.starts_with('/') {
                ("File", format!("{name} {}{how}\n", self.name))
            } else {
                (name.as_str(), format!("{}{how}\n", self.name))
            };
            let mut options = fs::OpenOptions::new();
            let mut file = options
                .append(true)
                .create(true)
                .open(triggers.join(file))?;
            file.write_all(line.as_bytes())?;
        }
        Ok(())
    }
}

impl ControlFile {
    fn write(&self, path: &Path) -> io::Result<()> {
        fs::write(path, &self.content)?;
        fs::set_permissions(path, fs::Permissions::from_mode(self.mode))?;
        set_mtime(path, self.mtime)
    }
}

/// In which triggers packages are interested.
fn installed_interests() -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(Path::new(DPKG).join("triggers"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        match name.as_str() {
            "File" => names.extend(
                text.lines()
                    .filter_map(|line| Some(line.split_once(' ')?.0.to_owned())),
            ),
            "Lock" | "Unincorp" => {}
            _ if text.trim().is_empty() => {}
            _ => names.push(name),
        }
    }
    names
}

/// Lays a configuration file beside itself, where dpkg looks for a new one.
fn copy_new(path: &Path) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".dpkg-new");
    let new = Path::new(&new);
    let found = path.symlink_metadata()?;
    fs::copy(path, new)?;
    std::os::unix::fs::lchown(new, Some(found.uid()), Some(found.gid()))?;
    fs::set_permissions(new, found.permissions())?;
    set_mtime(new, found.mtime().try_into().unwrap_or_default())
}

fn set_mtime(path: &Path, seconds: u64) -> io::Result<()> {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    fs::File::open(path)?.set_modified(time)
}

/// The id of a name in passwd(5) or group(5).
fn id(database: &str, name: &str) -> Option<u32> {
    let mut lines = database.lines().map(|line| line.split(':'));
    lines.find_map(|mut line| {
        (line.next() == Some(name))
            .then(|| line.nth(1)?.parse().ok())
            .flatten()
    })
}

/// The text of a file; empty where there is none.
fn read(path: &Path) -> io::Result<String> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        other => other,
    }
}
