//! The tar archive of a directory beside a recipe.
//!
//! It depends on names, contents, modes and hard links alone. A mode that only a umask made is 0644
//! or 0755, so that a checkout by another user gives the same digest.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use crate::error::{Context, Error, Result};
use crate::lock::resolve::ignored::Ignored;
use crate::recipe::debris::{is_debris, is_lock};
use crate::recipe::glob;

/// What differs from checkout to checkout.
const VERSION_CONTROL: [&str; 3] = [".git", ".hg", ".svn"];

/// How a directory is taken.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Taken<'r> {
    /// As it is, without what these patterns fit.
    Copied(Vec<&'r str>),
    /// As the source of a Python package.
    Package,
}

impl Taken<'_> {
    /// Whether what lies at `path`, and is called `inside` in the directory, is left out.
    pub(super) fn leaves_out(&self, path: &Path, inside: &Path) -> bool {
        match self {
            Self::Copied(patterns) => patterns.iter().any(|pattern| leaves_out(pattern, inside)),
            Self::Package => is_debris(path) || is_lock(path),
        }
    }
}

/// What a tar archive of a directory came to, besides its bytes.
pub(super) struct Archive<'a> {
    taken: &'a Taken<'a>,
    /// The recipe's directory, which no link of a package may leave.
    root: PathBuf,
    /// Mode of the directory itself: it tells the umask.
    mode: u32,
    /// The first name of each file that has several.
    names: HashMap<(u64, u64), PathBuf>,
    /// All but directories.
    pub(super) entries: Vec<PathBuf>,
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
    pub(super) fn of(
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

    pub(super) fn notes(&self, name: &str) -> impl Iterator<Item = String> + use<> {
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
