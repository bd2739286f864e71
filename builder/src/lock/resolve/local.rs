//! What lies beside the recipe: files as they are, directories as one tar.
//!
//! A directory becomes a tar archive that depends on names, contents, modes and hard
//! links alone. A mode that only a umask made is 0644 or 0755, so that a checkout by
//! another user gives the same digest. What is left out is what the recipe says. Python
//! packages are read by their virtualenv's owner: they are taken without what running and
//! building them leaves behind, and readable.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File, Metadata};
use std::io::{BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use store::Inputs;
use store::digest::Sha256;

use super::ignored::Ignored;
use super::remembered::Remembered;
use crate::error::{Context, Error, Result};
use crate::lock::resolve::scheme::{self, Scheme};
use crate::lockfile::{LocalFile, LocalKind, Lock};
use crate::recipe::debris::{DEBRIS, is_debris, is_lock};
use crate::recipe::{Beside, Recipe, User, glob};
use crate::steps;

/// What differs from checkout to checkout.
const VERSION_CONTROL: [&str; 3] = [".git", ".hg", ".svn"];

/// How a directory is taken.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Taken<'r> {
    /// As it is, without what these patterns fit.
    Copied(Vec<&'r str>),
    /// As the source of a Python package.
    Package,
}

impl Taken<'_> {
    /// Whether what lies at `path`, and is called `inside` in the directory, is left out.
    fn leaves_out(&self, path: &Path, inside: &Path) -> bool {
        match self {
            Self::Copied(patterns) => patterns.iter().any(|pattern| leaves_out(pattern, inside)),
            Self::Package => is_debris(path) || is_lock(path),
        }
    }
}

/// Everything that a recipe names beside itself.
pub struct Found {
    /// One entry for each path.
    pub files: Vec<LocalFile>,
    /// What was left out, and what should perhaps be: sentences for people.
    pub notes: Vec<String>,
}

/// Reads everything that the recipe names beside itself. With `retain` it is
/// kept in the store as well.
pub fn read(
    recipe: &Recipe,
    beside: &Path,
    remembered: &Remembered,
    retain: Option<&Inputs>,
) -> Result<Found> {
    let mut found = Found {
        files: Vec::new(),
        notes: Vec::new(),
    };
    check_places(recipe)?;
    for path in recipe.besides() {
        let path = path.as_str();
        for taken in uses(recipe, path) {
            let place = Place {
                beside,
                remembered,
                retain,
            };
            let (file, inside) = place.read_one(path, &taken, &mut found.notes)?;
            found.files.push(file);
            if taken != Taken::Package {
                check_content(recipe, path, &inside)?;
            }
        }
    }
    found.files.sort();
    found.files.dedup();
    found.notes.sort();
    found.notes.dedup();
    match found
        .files
        .windows(2)
        .find(|two| two[0].path == two[1].path)
    {
        None => Ok(found),
        Some(two) => Err(Error::usage(format!(
            "`{}` is used twice, and each use leaves out something else",
            two[0].path
        ))
        .hint(format!(
            "give every [[file]] of it the same `exclude`; a Python package is taken without {}, \
             virtualenvs and caches",
            DEBRIS.join(", ")
        ))),
    }
}

/// The same as a lock has it, with what Git says of packages whose version comes from it.
/// What a lock has stays while the package is the same, also when other commits follow,
/// unless a tag is on this one now.
pub fn read_described(
    recipe: &Recipe,
    beside: &Path,
    remembered: &Remembered,
    old: Option<&Lock>,
) -> Result<Found> {
    let mut found = read(recipe, beside, remembered, None)?;
    for local in recipe.virtualenvs.iter().flat_map(|v| &v.local) {
        let mut files = found.files.iter_mut();
        let Some(file) = files.find(|f| f.path == local.as_str()) else {
            continue;
        };
        let dir = beside.join(local.as_path());
        let scheme = Scheme::of_directory(&dir);
        let locked = old.into_iter().flat_map(|old| &old.files);
        let mut locked = locked.filter(|f| f.path == file.path && f.sha256 == file.sha256);
        let locked = locked.next().and_then(|f| f.described.clone());
        if !scheme.is_git() {
            // Older locks have it for some whose version is stated: they still fit.
            file.described = locked;
            continue;
        }
        let now = scheme::of_checkout(&dir, &scheme);
        let is_tagged = now.as_ref().is_some_and(|now| now.tag().is_some());
        file.described = if is_tagged { now } else { locked.or(now) };
    }
    Ok(found)
}

/// How the recipe takes a path, each way once.
fn uses<'r>(recipe: &'r Recipe, path: &str) -> BTreeSet<Taken<'r>> {
    let files = recipe.files.iter().filter(|file| {
        let source = file.source.as_ref();
        source.is_some_and(|source| source.as_str() == path)
    });
    let copied = files.map(|file| file.exclude.iter().map(AsRef::as_ref).collect());
    let mut uses: BTreeSet<_> = copied.map(Taken::Copied).collect();
    let mut packages = recipe.virtualenvs.iter().flat_map(|v| &v.local);
    if packages.any(|local| local.as_str() == path) {
        uses.insert(Taken::Package);
    }
    let mut skeletons = recipe
        .users
        .iter()
        .filter_map(|user| user.skeleton.as_ref());
    if uses.is_empty() || skeletons.any(|skeleton| skeleton.as_str() == path) {
        uses.insert(Taken::Copied(Vec::new()));
    }
    uses
}

/// The recipe's directory, and what becomes of what is read there.
struct Place<'a> {
    beside: &'a Path,
    remembered: &'a Remembered,
    retain: Option<&'a Inputs>,
}

impl Place<'_> {
    /// Reads a file, or a directory with what is in it.
    fn read_one(
        &self,
        name: &str,
        taken: &Taken<'_>,
        notes: &mut Vec<String>,
    ) -> Result<(LocalFile, Vec<PathBuf>)> {
        let path = self.beside.join(name);
        let unreadable = || format!("cannot read {}", path.display());
        let meta = fs::metadata(&path).context(unreadable)?;
        let kind = match meta.permissions().mode() {
            _ if meta.is_dir() => LocalKind::Directory,
            mode if mode & 0o100 != 0 => LocalKind::Executable,
            _ => LocalKind::File,
        };
        let mut inside = Vec::new();
        let (sha256, size) = if meta.is_dir() {
            let mut spool =
                tempfile::tempfile().context(|| "cannot make a temporary file".into())?;
            let archive = Archive::of(&path, self.beside, &meta, taken, &mut spool)?;
            notes.extend(archive.notes(name));
            inside = archive.entries;
            std::io::Seek::rewind(&mut spool).context(unreadable)?;
            self.take(&mut spool, &path)?
        } else if let Some(known) = self.remembered.digest(&meta).filter(|d| self.has(d)) {
            (known, meta.len())
        } else {
            let file = File::open(&path).context(unreadable)?;
            let (sha256, size) = self.take(&mut BufReader::new(file), &path)?;
            if size == meta.len() {
                self.remembered.remember(&meta, &sha256, SystemTime::now());
            }
            (sha256, size)
        };
        let file = LocalFile {
            path: name.to_owned(),
            kind,
            described: None,
            size,
            sha256,
        };
        Ok((file, inside))
    }

    /// Whether it is retained, if it is to be.
    fn has(&self, digest: &Sha256) -> bool {
        self.retain.is_none_or(|inputs| inputs.has(digest))
    }

    fn take(&self, reader: &mut dyn std::io::Read, path: &Path) -> Result<(Sha256, u64)> {
        let unreadable = || format!("cannot read {}", path.display());
        if let Some(inputs) = self.retain {
            return inputs.insert(reader, None).context(unreadable);
        }
        let mut hasher = sha2::Sha256::default();
        let size = std::io::copy(reader, &mut HashWriter(&mut hasher)).context(unreadable)?;
        Ok((Sha256::finish(hasher), size))
    }
}

struct HashWriter<'a>(&'a mut sha2::Sha256);

impl Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        sha2::Digest::update(self.0, bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What a tar archive of a directory came to, besides its bytes.
struct Archive<'a> {
    taken: &'a Taken<'a>,
    /// The recipe's directory, which no link of a package may leave.
    root: PathBuf,
    /// Mode of the directory itself: it tells the umask.
    mode: u32,
    /// The first name of each file that has several.
    names: HashMap<(u64, u64), PathBuf>,
    /// All but directories.
    entries: Vec<PathBuf>,
    left_out: Vec<PathBuf>,
    version_control: Option<PathBuf>,
    /// What has extended attributes, and the name of one.
    attributed: Vec<(PathBuf, String)>,
    /// Directories outside of this one that links of a package lead to, as far as it is in them,
    /// and the names that they have here.
    followed: Vec<(PathBuf, PathBuf)>,
    /// What a package's backend leaves out because Git ignores it.
    ignored: Ignored,
}

impl<'a> Archive<'a> {
    /// Writes a directory as a tar archive.
    fn of(
        dir: &Path,
        root: &Path,
        meta: &Metadata,
        taken: &'a Taken<'a>,
        out: &mut File,
    ) -> Result<Self> {
        let root = fs::canonicalize(root);
        let mut archive = Self {
            taken,
            root: root.context(|| format!("cannot read {}", dir.display()))?,
            mode: meta.mode() & 0o7777,
            names: HashMap::new(),
            entries: Vec::new(),
            left_out: Vec::new(),
            version_control: None,
            attributed: Vec::new(),
            followed: Vec::new(),
            ignored: match taken {
                Taken::Package => Ignored::of(dir),
                Taken::Copied(_) => Ignored::default(),
            },
        };
        let mut builder = tar::Builder::new(std::io::BufWriter::new(out));
        archive.append(&mut builder, dir, Path::new(""))?;
        if let Some(rules) = &archive.ignored.rules {
            let mut header = tar::Header::new_ustar();
            header.set_mtime(0);
            header.set_mode(0o644);
            header.set_size(rules.len() as u64);
            builder
                .append_data(&mut header, ".gitignore", &rules[..])
                .context(|| format!("cannot archive {}", dir.display()))?;
        }
        builder
            .into_inner()
            .and_then(|mut out| out.flush())
            .context(|| format!("cannot archive {}", dir.display()))?;
        Ok(archive)
    }

    fn notes(&self, name: &str) -> impl Iterator<Item = String> + use<> {
        let left_out = self.left_out.first().map(|first| {
            let more = match self.left_out.len() {
                1 => String::new(),
                all => format!(" and {} more", all - 1),
            };
            format!("left out of {name}: {}{more}", first.display())
        });
        let version_control = self.version_control.as_ref().map(|path| {
            let last = path.file_name().unwrap_or_default().display();
            format!(
                "{name} has {}, which differs from checkout to checkout: \
                 exclude = [\"{last}\"] leaves it out",
                path.display()
            )
        });
        let attributed = self.attributed.first().map(|(path, attribute)| {
            let more = match self.attributed.len() {
                1 => String::new(),
                all => format!(", and {} more have some", all - 1),
            };
            format!(
                "{name}: the extended attribute {attribute} of {} is not copied{more}; \
                 set what the image needs in a [[run]], such as `setcap`",
                path.display()
            )
        });
        left_out
            .into_iter()
            .chain(version_control)
            .chain(attributed)
    }

    fn append<W: Write>(
        &mut self,
        builder: &mut tar::Builder<W>,
        dir: &Path,
        inside: &Path,
    ) -> Result<()> {
        let unreadable = || format!("cannot read {}", dir.display());
        let mut entries = fs::read_dir(dir)
            .and_then(Iterator::collect::<std::io::Result<Vec<_>>>)
            .context(unreadable)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let name = entry.file_name();
            let (path, inside) = (entry.path(), inside.join(&name));
            if self.taken.leaves_out(&path, &inside) || self.ignored.files.contains(&inside) {
                self.left_out.push(inside);
                continue;
            }
            if VERSION_CONTROL.iter().any(|known| name == *known) {
                self.version_control.get_or_insert_with(|| inside.clone());
            }
            let failed = || format!("cannot archive {}", path.display());
            let mut meta = fs::symlink_metadata(&path).context(failed)?;
            let mut followed = false;
            if meta.is_symlink() && *self.taken == Taken::Package {
                let target = fs::read_link(&path).context(failed)?;
                // Where the package is built, only itself is there.
                let base = self.followed.last().map(|(_, inside)| inside.as_path());
                let base = base.unwrap_or(Path::new(""));
                if !stays_inside(inside.strip_prefix(base).unwrap_or(&inside), &target)
                    && let Ok(found) = fs::metadata(&path)
                {
                    let real = fs::canonicalize(&path).context(failed)?;
                    if !real.starts_with(&self.root) {
                        return Err(Error::usage(format!(
                            "{} is a link that leads out of the recipe's directory, to {}",
                            path.display(),
                            real.display()
                        ))
                        .hint("a recipe uses only what lies beside it: put a copy there"));
                    }
                    if self.taken.leaves_out(&real, &inside) {
                        self.left_out.push(inside);
                        continue;
                    }
                    followed = found.is_dir();
                    meta = found;
                }
            }
            let mut header = tar::Header::new_ustar();
            header.set_mtime(0);
            header.set_size(0);
            if !meta.is_dir() {
                self.entries.push(inside.clone());
            }
            if let Some(attribute) = first_attribute(&path) {
                self.attributed.push((inside.clone(), attribute));
            }
            if meta.is_dir() {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(self.mode_of(&meta));
                builder
                    .append_data(&mut header, &inside, std::io::empty())
                    .context(failed)?;
                if followed {
                    self.append_followed(builder, &path, &inside)?;
                } else {
                    self.append(builder, &path, &inside)?;
                }
            } else if meta.is_symlink() {
                let target = fs::read_link(&path).context(failed)?;
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_mode(0o777);
                builder
                    .append_link(&mut header, &inside, target)
                    .context(failed)?;
            } else if meta.is_file() {
                header.set_mode(self.mode_of(&meta));
                let identity = (meta.dev(), meta.ino());
                if let Some(first) = self.names.get(&identity) {
                    header.set_entry_type(tar::EntryType::Link);
                    builder
                        .append_link(&mut header, &inside, first)
                        .context(failed)?;
                    continue;
                }
                if meta.nlink() > 1 {
                    self.names.insert(identity, inside.clone());
                }
                header.set_size(meta.len());
                let file = File::open(&path).context(failed)?;
                builder
                    .append_data(&mut header, &inside, BufReader::new(file))
                    .context(failed)?;
            } else {
                return Err(Error::usage(format!(
                    "{} is neither file nor directory",
                    path.display()
                ))
                .hint("an image takes files, directories and symbolic links"));
            }
        }
        Ok(())
    }

    /// Appends a directory that a link leads to, which must not lead back.
    fn append_followed<W: Write>(
        &mut self,
        builder: &mut tar::Builder<W>,
        link: &Path,
        inside: &Path,
    ) -> Result<()> {
        let failed = || format!("cannot archive {}", link.display());
        let real = fs::canonicalize(link).context(failed)?;
        let here = link.parent().map(fs::canonicalize);
        let leads_back = here.is_some_and(|here| here.is_ok_and(|here| here.starts_with(&real)));
        if leads_back || self.followed.iter().any(|(followed, _)| *followed == real) {
            return Err(Error::usage(format!(
                "the link {} leads to a directory that it lies in",
                link.display()
            ))
            .hint(
                "a package is built where only it is: copy there what it needs of its surroundings",
            ));
        }
        self.followed.push((real, inside.to_owned()));
        self.append(builder, link, inside)?;
        self.followed.pop();
        Ok(())
    }

    /// The mode in the archive: as it is, unless the umask under which the directory was
    /// made would have given it as well.
    fn mode_of(&self, meta: &Metadata) -> u32 {
        let mode = meta.mode() & 0o7777;
        let is_package = *self.taken == Taken::Package;
        // A set-group-ID directory hands that on to those below it.
        if meta.is_dir() {
            return if is_package || mode == self.mode {
                0o755
            } else {
                mode
            };
        }
        let executable = mode & 0o100 != 0;
        let plain = if executable { 0o777 } else { 0o666 };
        if is_package || mode == plain & self.mode {
            if executable { 0o755 } else { 0o644 }
        } else {
            mode
        }
    }
}

/// Whether a link at `link` in a directory leads to somewhere in that directory, wherever it lies.
fn stays_inside(link: &Path, target: &Path) -> bool {
    let mut depth = link.components().count().saturating_sub(1);
    target.components().all(|part| match part {
        Component::Normal(_) => {
            depth += 1;
            true
        }
        Component::CurDir => true,
        Component::ParentDir => {
            let above = depth.checked_sub(1);
            depth = above.unwrap_or_default();
            above.is_some()
        }
        Component::RootDir | Component::Prefix(_) => false,
    })
}

/// Whether a pattern fits a path: one without `/` fits a name at any depth, one with `/`
/// the path from the directory on.
fn leaves_out(pattern: &str, inside: &Path) -> bool {
    let whole = Some(inside.as_os_str());
    let part = if pattern.contains('/') {
        whole
    } else {
        inside.file_name()
    };
    part.is_some_and(|part| glob::matches(pattern, &part.to_string_lossy()))
}

/// Refuses what the image would lack although the recipe puts it there.
fn check_reaches(recipe: &Recipe, section: &str, path: &str) -> Result<()> {
    let Some((reason, can_be_kept)) = steps::loses(recipe, path) else {
        return Ok(());
    };
    let error = Error::usage(format!(
        "{section}: `{path}` is not part of an image: {reason}"
    ));
    Err(if can_be_kept {
        error.hint(format!(
            "`keep = [\"{path}\"]` under [clean] keeps it as it is"
        ))
    } else {
        error.hint("make it when the service starts")
    })
}

/// An extended attribute that somebody set, as far as this user can see. What a security
/// module labels is the machine's.
fn first_attribute(path: &Path) -> Option<String> {
    let mut names = [0; 4096];
    let length = match rustix::fs::llistxattr(path, &mut names[..]) {
        Ok(length) => length,
        Err(rustix::io::Errno::RANGE) => return Some("(one of very many)".to_owned()),
        Err(_) => return None,
    };
    let names = names.get(..length)?.split(|&byte| byte == 0);
    let names = names.filter(|name| !name.is_empty());
    let names = names.map(|name| String::from_utf8_lossy(name).into_owned());
    let label = [
        "security.selinux",
        "security.SMACK64",
        "security.ima",
        "security.evm",
    ];
    let mut set = names.filter(|name| {
        !label.contains(&name.as_str())
            && !name.starts_with("trusted.")
            && !name.starts_with("btrfs.")
    });
    set.next()
}

/// Looks at what is in a source directory or skeleton.
fn check_content(recipe: &Recipe, path: &str, inside: &[PathBuf]) -> Result<()> {
    let is_it = |beside: &Option<Beside>| beside.as_ref().is_some_and(|b| b.as_str() == path);
    let files = recipe.files.iter().filter(|file| is_it(&file.source));
    let users = recipe.users.iter().filter(|user| is_it(&user.skeleton));
    let section = format!("the directory `{path}`");
    for to in files
        .map(|file| file.path.clone())
        .chain(users.map(User::home))
    {
        for name in inside {
            let to = to.as_path().join(name);
            check_reaches(recipe, &section, &to.to_string_lossy())?;
        }
    }
    Ok(())
}

/// Looks at every place in the tree that the recipe names to put something there.
fn check_places(recipe: &Recipe) -> Result<()> {
    for user in &recipe.users {
        check_reaches(recipe, "the home in [[user]]", user.home().as_str())?;
    }
    for file in &recipe.files {
        check_reaches(recipe, "[[file]]", file.path.as_str())?;
    }
    for download in &recipe.downloads {
        check_reaches(recipe, "[[download]]", download.path.as_str())?;
    }
    for virtualenv in &recipe.virtualenvs {
        check_reaches(recipe, "[[virtualenv]]", virtualenv.path.as_str())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Source {
        dir: tempfile::TempDir,
    }

    impl Source {
        /// A directory as one gets it under this umask.
        fn new(umask: u32) -> Self {
            let source = Self {
                dir: tempfile::tempdir().unwrap(),
            };
            for dir in ["app", "app/sub"] {
                fs::create_dir(source.path(dir)).unwrap();
                source.mode(dir, 0o777 & !umask);
            }
            source.write("app/sub/a.py", 0o666 & !umask);
            source.write("app/run", 0o777 & !umask);
            source
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        fn mode(&self, name: &str, mode: u32) {
            fs::set_permissions(self.path(name), PermissionsExt::from_mode(mode)).unwrap();
        }

        fn write(&self, name: &str, mode: u32) {
            fs::write(self.path(name), name).unwrap();
            self.mode(name, mode);
        }

        fn digest(&self, exclude: &[&str]) -> Sha256 {
            self.read(&Taken::Copied(exclude.to_vec())).0
        }

        fn notes(&self, exclude: &[&str]) -> Vec<String> {
            self.read(&Taken::Copied(exclude.to_vec())).1
        }

        fn read(&self, taken: &Taken<'_>) -> (Sha256, Vec<String>) {
            let mut notes = Vec::new();
            let remembered = Remembered::below(self.dir.path());
            let place = Place {
                beside: self.dir.path(),
                remembered: &remembered,
                retain: None,
            };
            let read = place.read_one("app", taken, &mut notes);
            (read.unwrap().0.sha256, notes)
        }

        /// Each entry of the package, with where it links to.
        fn package(&self) -> Result<Vec<String>> {
            let (app, mut spool) = (self.path("app"), tempfile::tempfile().unwrap());
            let meta = fs::metadata(&app).unwrap();
            Archive::of(&app, self.dir.path(), &meta, &Taken::Package, &mut spool)?;
            std::io::Seek::rewind(&mut spool).unwrap();
            let mut archive = tar::Archive::new(spool);
            let entries = archive.entries().unwrap().map(|entry| {
                let entry = entry.unwrap();
                let path = entry.path().unwrap().display().to_string();
                match entry.link_name().unwrap() {
                    Some(target) => format!("{path} -> {}", target.display()),
                    None => path,
                }
            });
            Ok(entries.collect())
        }

        /// Each entry of the archive, with its mode.
        fn entries(&self) -> Vec<String> {
            let (app, mut spool) = (self.path("app"), tempfile::tempfile().unwrap());
            let as_it_is = Taken::Copied(Vec::new());
            let meta = fs::metadata(&app).unwrap();
            Archive::of(&app, self.dir.path(), &meta, &as_it_is, &mut spool).unwrap();
            std::io::Seek::rewind(&mut spool).unwrap();
            let mut archive = tar::Archive::new(spool);
            let entry = |entry: std::io::Result<tar::Entry<'_, File>>| {
                let entry = entry.unwrap();
                let link = entry.link_name().unwrap();
                let link = link.map_or(String::new(), |link| format!(" = {}", link.display()));
                let mode = entry.header().mode().unwrap();
                format!("{mode:04o} {}{link}", entry.path().unwrap().display())
            };
            archive.entries().unwrap().map(entry).collect()
        }
    }

    #[test]
    fn a_directory_is_the_same_under_every_umask() {
        let usual = Source::new(0o022);
        for umask in [0o002, 0o027, 0o077, 0] {
            let other = Source::new(umask);
            assert_eq!(other.digest(&[]), usual.digest(&[]), "{umask:03o}");
        }
        // Shared by a group.
        let shared = Source::new(0o002);
        shared.mode("app", 0o2775);
        shared.mode("app/sub", 0o2775);
        assert_eq!(shared.digest(&[]), usual.digest(&[]));
        usual.mode("app/sub/a.py", 0o755);
        assert_ne!(shared.digest(&[]), usual.digest(&[]));
    }

    #[test]
    fn a_directory_is_copied_as_it_is() {
        let source = Source::new(0o022);
        for (name, mode) in [
            ("app/secret", 0o600),
            ("app/fixed", 0o444),
            ("app/mine", 0o400),
            ("app/as-root", 0o4755),
            ("app/x.pyc", 0o644),
            ("app/.b.swp", 0o664),
        ] {
            source.write(name, mode);
        }
        fs::create_dir(source.path("app/a.egg-info")).unwrap();
        source.mode("app/a.egg-info", 0o1777);
        fs::hard_link(source.path("app/run"), source.path("app/sub/run")).unwrap();
        let expected = [
            "0664 .b.swp",
            "1777 a.egg-info",
            "4755 as-root",
            "0444 fixed",
            "0400 mine",
            "0755 run",
            "0600 secret",
            "0755 sub",
            "0644 sub/a.py",
            "0755 sub/run = run",
            "0644 x.pyc",
        ];
        assert_eq!(source.entries(), expected);
    }

    #[test]
    fn what_is_left_out_is_said() {
        let source = Source::new(0o022);
        let plain = source.digest(&[]);
        assert!(source.notes(&["*.pyc"]).is_empty());
        fs::create_dir(source.path("app/.git")).unwrap();
        source.write("app/sub/a.pyc", 0o644);
        source.write("app/a.pyc", 0o644);
        assert_eq!(source.digest(&[".git", "*.pyc"]), plain);
        assert_ne!(source.digest(&[".git", "sub/*.pyc"]), plain);
        let said = source.notes(&[".git", "*.pyc"]);
        assert_eq!(said, ["left out of app: .git and 2 more"]);
        let said = source.notes(&[]);
        assert!(
            said[0].starts_with("app has .git, which differs"),
            "{said:?}"
        );
    }

    #[test]
    fn a_python_package_is_readable_and_without_debris() {
        let source = Source::new(0o022);
        let (plain, said) = source.read(&Taken::Package);
        assert!(said.is_empty());
        source.write("app/a.pyc", 0o600);
        source.mode("app/sub/a.py", 0o600);
        fs::create_dir(source.path("app/.git")).unwrap();
        let (digest, said) = source.read(&Taken::Package);
        assert_eq!(digest, plain);
        assert_eq!(said, ["left out of app: .git and 1 more"]);
    }

    #[test]
    fn patterns_fit_names_or_paths() {
        for (pattern, path, expected) in [
            ("*.pyc", "a/b.pyc", true),
            ("*.pyc", "a.pyc/b", false),
            ("a/*", "a/b", true),
            ("a/b", "x/a/b", false),
        ] {
            assert_eq!(
                leaves_out(pattern, Path::new(path)),
                expected,
                "{pattern} {path}"
            );
        }
    }

    #[test]
    fn what_would_not_reach_the_image_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["root/etc", "root/var/log/apt"] {
            fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        fs::write(dir.path().join("root/etc/hostname"), "x").unwrap();
        let read = |rest: &str| {
            let text = format!("name = \"x\"\n[bootstrap]\nsuite = \"bookworm\"\n{rest}");
            let recipe = Recipe::parse(&text, Path::new("x.toml")).unwrap();
            let remembered = Remembered::below(dir.path());
            read(&recipe, dir.path(), &remembered, None).map(|_| ())
        };
        let file = |path: &str| format!("[[file]]\npath = \"{path}\"\ncontent = \"\"\n");
        for path in [
            "/etc/resolv.conf",
            "/etc/hostname",
            "/etc/machine-id",
            "/run/app/x",
            "/tmp/x",
            "/var/tmp/x/y",
            "/var/log/app.log",
            "/var/log/lastlog",
            "/root/.cache/x",
            "/etc/passwd-",
            "/usr/lib/a/b/x.dist-info/direct_url.json",
        ] {
            let error = read(&file(path)).unwrap_err();
            let expected = format!("[[file]]: `{path}` is not part of an image: ");
            assert!(error.to_string().starts_with(&expected), "{error}");
            let keep = format!("{}[clean]\nkeep = [\"{path}\"]\n", file(path));
            assert_eq!(read(&keep).is_ok(), !path.starts_with("/run"), "{path}");
        }
        for path in [
            "/etc/hosts",
            "/var/log/app/x.log",
            "/var/log/x",
            "/srv/tmp/x",
        ] {
            read(&file(path)).unwrap();
        }
        let tree = |path: &str| format!("[[file]]\npath = \"{path}\"\nsource = \"root/etc\"\n");
        let error = read(&tree("/etc")).unwrap_err().to_string();
        let expected = "the directory `root/etc`: `/etc/hostname` is not part of an image: ";
        assert!(error.starts_with(expected), "{error}");
        read(&(tree("/etc") + "exclude = [\"hostname\"]\n")).unwrap();
        read(&tree("/srv")).unwrap();
        for rest in [
            "[[user]]\nname = \"op\"\nuid = 1000\nhome = \"/run/op\"\n",
            "[[virtualenv]]\npath = \"/tmp/v\"\nrequirements = [\"x\"]\n",
        ] {
            assert!(read(rest).is_err(), "{rest}");
        }
    }

    #[test]
    fn links_of_a_package_bring_what_lies_beside_it() {
        let source = Source::new(0o022);
        let link = |target: &str, path: &str| {
            std::os::unix::fs::symlink(target, source.path(path)).unwrap();
        };
        fs::create_dir_all(source.path("shared/deep")).unwrap();
        source.write("shared/deep/x.py", 0o644);
        source.write("data.txt", 0o644);
        link("../shared", "app/shared");
        link("../../data.txt", "app/sub/data.txt");
        let absolute = source.path("data.txt");
        link(absolute.to_str().unwrap(), "app/absolute");
        link("a.py", "app/sub/b.py");
        link("../run", "app/sub/run");
        link("nowhere/at/all", "app/dangling");
        link("../../nowhere", "app/sub/out");
        let entries = source.package().unwrap();
        assert_eq!(
            entries,
            [
                "absolute",
                "dangling -> nowhere/at/all",
                "run",
                "shared",
                "shared/deep",
                "shared/deep/x.py",
                "sub",
                "sub/a.py",
                "sub/b.py -> a.py",
                "sub/data.txt",
                "sub/out -> ../../nowhere",
                "sub/run -> ../run",
            ]
        );
        // Nothing that has no end.
        for (target, path) in [("../..", "app/sub/up"), ("../app", "shared/app")] {
            link(target, path);
            let error = source.package().unwrap_err().to_string();
            assert!(
                error.contains("leads to a directory that it lies in"),
                "{error}"
            );
            fs::remove_file(source.path(path)).unwrap();
        }
        // Nothing from elsewhere, on whatever way, and nothing that is left out.
        link("/etc/passwd", "shared/deep/key");
        let error = source.package().unwrap_err().to_string();
        assert!(
            error.contains("leads out of the recipe's directory"),
            "{error}"
        );
        fs::remove_file(source.path("shared/deep/key")).unwrap();
        source.write(".env", 0o600);
        link("../.env", "app/settings");
        assert_eq!(source.package().unwrap(), entries);
    }
}
