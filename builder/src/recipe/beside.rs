//! The files beside a recipe: the only module here that touches the disk.
//!
//! A recipe's directory is the whole of it. What it names must be there, be of
//! the kind that the key wants, and still lie below that directory after every
//! symbolic link on the way: an image must not depend on what else is on the
//! machine that builds it. Nothing here is copied; the lock takes the digests.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::debris::is_debris;
use super::error::{Fault, RecipeError, RecipeErrorKind};
use super::read::{Spans, nearest};
use super::requirement::{ForeignLock, other_tools_file};
use super::requirements_file::{self, Purpose};
use super::{Beside, Recipe};

/// No recipe, and no list of requirements, is that long.
const LONGEST: u64 = 1 << 20;

/// No lock of another tool is longer.
const LONGEST_LOCK: u64 = 64 << 20;

/// What a key wants to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wants {
    /// A public key that signs an archive.
    Key,
    /// A Debian package.
    Deb,
    /// A directory whose content is copied; links in it are copied as links.
    Directory,
    /// A Python package: a directory that pip reads, following links.
    PythonPackage,
    /// A wheel or source archive of Python.
    Distribution,
    /// A file or directory to copy.
    Source,
    /// Lines for pip, or a lock of another tool.
    Requirements,
    /// Lines for pip that only limit.
    Constraints,
}

/// A path that the recipe names, and the key that names it.
pub(crate) struct Used<'r> {
    pub(crate) path: &'r Beside,
    key: String,
    wants: Wants,
}

/// Every path that the recipe names, section by section.
pub(crate) fn uses(recipe: &Recipe) -> Vec<Used<'_>> {
    let mut uses = Vec::new();
    for (i, source) in recipe.sources.iter().enumerate() {
        uses.extend(one(
            source.key.as_ref(),
            format!("source[{i}].key"),
            Wants::Key,
        ));
    }
    for (i, group) in recipe.packages.iter().enumerate() {
        uses.extend(list(&group.debs, format!("packages[{i}].debs"), Wants::Deb));
    }
    for (i, user) in recipe.users.iter().enumerate() {
        uses.extend(one(
            user.skeleton.as_ref(),
            format!("user[{i}].skeleton"),
            Wants::Directory,
        ));
    }
    for (i, file) in recipe.files.iter().enumerate() {
        uses.extend(one(
            file.source.as_ref(),
            format!("file[{i}].source"),
            Wants::Source,
        ));
    }
    for (i, virtualenv) in recipe.virtualenvs.iter().enumerate() {
        let key = |name: &str| format!("virtualenv[{i}].{name}");
        uses.extend(list(
            &virtualenv.requirements_files,
            key("requirements-files"),
            Wants::Requirements,
        ));
        uses.extend(list(
            &virtualenv.constraints_files,
            key("constraints-files"),
            Wants::Constraints,
        ));
        uses.extend(list(&virtualenv.local, key("local"), Wants::PythonPackage));
        uses.extend(list(
            &virtualenv.distributions,
            key("distributions"),
            Wants::Distribution,
        ));
    }
    uses
}

fn one(path: Option<&Beside>, key: String, wants: Wants) -> Option<Used<'_>> {
    path.map(|path| Used { path, key, wants })
}

fn list(paths: &[Beside], key: String, wants: Wants) -> impl Iterator<Item = Used<'_>> {
    paths.iter().enumerate().map(move |(index, path)| Used {
        path,
        key: format!("{key}[{index}]"),
        wants,
    })
}

/// Reads the text of a recipe.
pub(crate) fn read_recipe(path: &Path) -> Result<String, RecipeError> {
    let unreadable = |message: &str, hint: Option<&str>, source| {
        RecipeError::unreadable(path, message, hint, source)
    };
    let metadata = fs::metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => unreadable(
            "there is no such recipe",
            Some("a recipe is a .toml file"),
            None,
        ),
        _ => unreadable("the recipe cannot be read", None, Some(error)),
    })?;
    if metadata.is_dir() {
        let hint = "name the .toml file in it";
        return Err(unreadable(
            "this is a directory, not a recipe",
            Some(hint),
            None,
        ));
    }
    if metadata.len() > LONGEST {
        return Err(unreadable(
            "this is too long for a recipe, 1 MiB at most",
            None,
            None,
        ));
    }
    let bytes = fs::read(path)
        .map_err(|error| unreadable("the recipe cannot be read", None, Some(error)))?;
    // A script is for a shell, to which a carriage return is part of a word.
    let text = String::from_utf8(bytes).map(|text| text.replace("\r\n", "\n"));
    text.map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(error.as_bytes());
        Fault::new(good..good, "a recipe is written in UTF-8; this byte is not")
            .kind(RecipeErrorKind::Syntax)
            .at(path, &text)
    })
}

/// The directory of a recipe.
pub(super) fn directory_of(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Whether a file is called as wheels (PEP 427) and source archives (PEP 625) are.
pub(crate) fn is_distribution(path: &str) -> bool {
    let file = path.rsplit('/').next().unwrap_or_default();
    if let Some(stem) = file.strip_suffix(".whl") {
        return (5..=6).contains(&stem.split('-').count());
    }
    let ends = [".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip"];
    let stem = ends.iter().find_map(|end| file.strip_suffix(end));
    let mut parts = stem.unwrap_or_default().split('-').skip(1);
    parts.any(|part| part.starts_with(|c: char| c.is_ascii_digit()))
}

/// Whether a directory holds a Python package.
pub(super) fn is_package(dir: &Path) -> bool {
    dir.join("setup.py").exists() || dir.join("pyproject.toml").exists()
}

/// Looks at everything that the recipe names.
pub(crate) fn check(
    recipe: &Recipe,
    spans: &Spans<'_>,
    file: &Path,
    text: &str,
) -> Result<(), RecipeError> {
    let uses = uses(recipe);
    if uses.is_empty() {
        return Ok(());
    }
    let parent = directory_of(file);
    let root = fs::canonicalize(parent).map_err(|error| {
        RecipeError::unreadable(
            file,
            "the recipe's directory cannot be read",
            None,
            Some(error),
        )
    })?;
    for used in &uses {
        let fault = |message: String| {
            Fault::new(spans.at(&used.key), message).kind(RecipeErrorKind::Beside)
        };
        if used.path.as_str() == "." && used.wants != Wants::PythonPackage {
            return Err(fault(
                "the recipe's own directory can only be a Python package".to_owned(),
            )
            .hint("put what the image needs into a directory beside the recipe")
            .at(file, text));
        }
        let found = locate(used.path, &root)
            .map_err(|missing| missing.into_fault(&fault).at(file, text))?;
        kind(used, &found, &root)
            .map_err(|(message, hint)| fault(message).hint(hint).at(file, text))?;
        if matches!(used.wants, Wants::Requirements | Wants::Constraints) {
            if let Some(hint) = other_tools_file(used.path.as_str()) {
                let hint = match used.wants {
                    Wants::Constraints => "name a file of lines such as `urllib3<2`".to_owned(),
                    _ => hint,
                };
                let message = format!("`{}` is no file of pip's requirements", used.path);
                return Err(fault(message).hint(hint).at(file, text));
            }
            let is_lock = ForeignLock::of(used.path.as_str()).is_some();
            if is_lock && used.wants == Wants::Constraints {
                return Err(
                    fault(format!("`{}` does not only limit versions", used.path))
                        .hint("a lock of another tool goes under `requirements-files`")
                        .at(file, text),
                );
            }
            let purpose = match used.wants {
                Wants::Constraints => Purpose::Constraints,
                _ => Purpose::Requirements,
            };
            requirements(&parent.join(used.path.as_path()), is_lock, purpose, || {
                fault(format!("`{}` is no text in UTF-8", used.path))
                    .hint("save it as UTF-8 (iconv -f latin1 -t utf-8), at most 1 MiB")
                    .at(file, text)
            })?;
        }
    }
    directory_sources(recipe, spans, &root).map_err(|fault| fault.at(file, text))
}

/// Why a path cannot be used.
struct Missing {
    message: String,
    hint: String,
}

impl Missing {
    fn into_fault(self, fault: &dyn Fn(String) -> Fault) -> Fault {
        fault(self.message).hint(self.hint)
    }
}

/// The real place of a path, which must be below the recipe's directory.
fn locate(path: &Beside, root: &Path) -> Result<PathBuf, Missing> {
    let real = fs::canonicalize(root.join(path.as_path())).map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            Missing {
                message: format!("there is no `{path}` beside the recipe"),
                hint: similar(path, root),
            }
        } else {
            Missing {
                message: format!("`{path}` cannot be read: {error}"),
                hint: String::new(),
            }
        }
    })?;
    if real.starts_with(root) {
        return Ok(real);
    }
    Err(Missing {
        message: format!(
            "`{path}` leads out of the recipe's directory, to {}",
            real.display()
        ),
        hint: "a recipe uses only what lies beside it: put a copy there instead of the link"
            .to_owned(),
    })
}

/// A name in the same directory that may have been meant.
fn similar(path: &Beside, root: &Path) -> String {
    let wanted = path.as_path();
    let directory = wanted.parent().unwrap_or(Path::new(""));
    let Some(name) = wanted.file_name().and_then(|name| name.to_str()) else {
        return String::new();
    };
    let Ok(entries) = fs::read_dir(root.join(directory)) else {
        return format!("there is no `{}` either", directory.display());
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    nearest(name, names.iter().map(String::as_str)).map_or_else(String::new, |name| {
        format!("did you mean `{}`?", directory.join(name).display())
    })
}

/// Whether what was found is what the key wants; else a sentence and a hint.
fn kind(used: &Used<'_>, found: &Path, root: &Path) -> Result<(), (String, String)> {
    let path = used.path;
    let cannot = |error: io::Error| (format!("`{path}` cannot be read: {error}"), String::new());
    let metadata = fs::metadata(found).map_err(cannot)?;
    let (wants_file, wants_directory) = match used.wants {
        Wants::Key
        | Wants::Deb
        | Wants::Distribution
        | Wants::Requirements
        | Wants::Constraints => (true, false),
        Wants::Directory | Wants::PythonPackage => (false, true),
        Wants::Source => (true, true),
    };
    if metadata.is_dir() && !wants_directory {
        return Err((
            format!("`{path}` is a directory; a file is needed"),
            String::new(),
        ));
    }
    if metadata.is_file() && !wants_file {
        let is_distribution = is_distribution(path.as_str());
        return Err((
            format!("`{path}` is a file; a directory is needed"),
            if used.wants == Wants::PythonPackage && is_distribution {
                format!("a wheel or source archive stands elsewhere: distributions = [\"{path}\"]")
            } else {
                String::new()
            },
        ));
    }
    if !metadata.is_dir() && !metadata.is_file() {
        let (what, hint) = special(metadata.file_type());
        return Err((
            format!("`{path}` is {what}, which cannot be part of an image"),
            hint.to_owned(),
        ));
    }
    match used.wants {
        Wants::Key => {
            let key = fs::read(found).map_err(cannot)?;
            if contains(&key, b"PRIVATE KEY BLOCK") {
                return Err((
                    format!("`{path}` is a private key"),
                    "take it away from here at once, and export the public one".to_owned(),
                ));
            }
        }
        Wants::Deb => {
            let mut magic = [0; 8];
            let read = fs::File::open(found)
                .and_then(|mut file| io::Read::read(&mut file, &mut magic))
                .map_err(cannot)?;
            if &magic[..read] != b"!<arch>\n" {
                return Err((format!("`{path}` is not a Debian package"), String::new()));
            }
        }
        Wants::Distribution if !is_distribution(path.as_str()) => {
            return Err((
                format!("`{path}` is not named like a Python distribution"),
                "a wheel is called NAME-VERSION-PYTHON-ABI-PLATFORM.whl, a source archive \
                 NAME-VERSION.tar.gz (.zip, .tar.bz2, .tar.xz)"
                    .to_owned(),
            ));
        }
        Wants::PythonPackage if !is_package(found) => {
            return Err((
                format!("`{path}` is not a Python package"),
                "it has neither pyproject.toml nor setup.py".to_owned(),
            ));
        }
        Wants::PythonPackage
        | Wants::Distribution
        | Wants::Directory
        | Wants::Source
        | Wants::Requirements
        | Wants::Constraints => {}
    }
    if metadata.is_dir() {
        walk(found, root, used.wants == Wants::PythonPackage).map_err(|(inside, why, hint)| {
            let inside = inside.strip_prefix(root).unwrap_or(&inside);
            (format!("`{}` {why}", inside.display()), hint.to_owned())
        })?;
    }
    Ok(())
}

/// Looks through a directory for what cannot be part of an input: which entry, why, what to do.
fn walk(
    directory: &Path,
    root: &Path,
    follows: bool,
) -> Result<(), (PathBuf, String, &'static str)> {
    let cannot = |error: io::Error| (directory.to_owned(), format!("cannot be read: {error}"), "");
    for entry in fs::read_dir(directory).map_err(cannot)? {
        let entry = entry.map_err(cannot)?;
        let path = entry.path();
        if follows && is_debris(&path) {
            continue;
        }
        let kind = entry.file_type().map_err(cannot)?;
        if kind.is_dir() {
            walk(&path, root, follows)?;
        } else if kind.is_symlink() && follows {
            // One that leads nowhere is no less for pip.
            let leads_out = fs::canonicalize(&path).is_ok_and(|real| !real.starts_with(root));
            if leads_out {
                let why = "is a link that leads out of the recipe's directory: a recipe uses only \
                           what lies beside it, so put a copy there";
                return Err((path, why.to_owned(), ""));
            }
        } else if !kind.is_symlink() && !kind.is_file() {
            let (what, hint) = special(kind);
            return Err((
                path,
                format!("is {what}, which cannot be part of an image"),
                hint,
            ));
        }
    }
    Ok(())
}

/// What people call an entry that is neither a file, a directory nor a link, and what to do.
fn special(kind: fs::FileType) -> (&'static str, &'static str) {
    const MADE: &str = "remove it; the program that made it can have it outside of this directory, \
                        such as below /run";
    if kind.is_socket() {
        ("a socket", MADE)
    } else if kind.is_fifo() {
        ("a FIFO", MADE)
    } else {
        ("a device", "remove it")
    }
}

/// Checks the lines of a requirements or constraints file, or that a lock is TOML.
fn requirements(
    path: &Path,
    is_lock: bool,
    purpose: Purpose,
    unreadable: impl Fn() -> RecipeError,
) -> Result<(), RecipeError> {
    let metadata = fs::metadata(path).map_err(|_| unreadable())?;
    if metadata.len() > if is_lock { LONGEST_LOCK } else { LONGEST } {
        return Err(unreadable());
    }
    let bytes = fs::read(path).map_err(|_| unreadable())?;
    let text = requirements_file::decode(&bytes).ok_or_else(unreadable)?;
    if is_lock {
        return DeTable::parse(&text).map(drop).map_err(|error| {
            Fault::new(
                error.span().unwrap_or(0..0),
                format!("not TOML: {}", error.message()),
            )
            .kind(RecipeErrorKind::Syntax)
            .hint("let the tool that wrote it write it again")
            .at(path, &text)
        });
    }
    requirements_file::read(&text, purpose)
        .map(drop)
        .map_err(|bad| bad.at(path, &text))
}

/// A directory is copied as it is: nothing can be appended, and one mode does
/// not fit all of its files. Of a file, nothing can be left out.
fn directory_sources(recipe: &Recipe, spans: &Spans<'_>, root: &Path) -> Result<(), Fault> {
    for (index, file) in recipe.files.iter().enumerate() {
        let Some(source) = &file.source else { continue };
        if !root.join(source.as_path()).is_dir() {
            if file.exclude.is_empty() {
                continue;
            }
            return Err(Fault::new(
                spans.at(&format!("file[{index}].exclude")),
                format!("`exclude` means nothing for the file `{source}`"),
            )
            .kind(RecipeErrorKind::Beside)
            .hint("it says what of a directory is left out"));
        }
        let pointless = [("append", file.append), ("mode", file.mode.is_some())];
        if let Some((key, _)) = pointless.iter().find(|(_, there)| *there) {
            return Err(Fault::new(
                spans.at(&format!("file[{index}].{key}")),
                format!("`{key}` means nothing for the directory `{source}`"),
            )
            .kind(RecipeErrorKind::Beside)
            .hint("each file in it keeps its own mode"));
        }
    }
    Ok(())
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_is_named_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let app = dir.path().join("app");
        fs::create_dir_all(app.join("run/.venv")).unwrap();
        fs::write(app.join("setup.py"), "").unwrap();
        fs::write(app.join("run/.venv/pyvenv.cfg"), "").unwrap();
        let recipe = dir.path().join("r.toml");
        let text = "name = \"x\"\n[bootstrap]\nsuite = \"trixie\"\n[[virtualenv]]\n\
                    path = \"/v\"\nlocal = [\"app\"]\n";
        fs::write(&recipe, text).unwrap();
        // What is left out may be anything.
        let _in_debris =
            std::os::unix::net::UnixListener::bind(app.join("run/.venv/control")).unwrap();
        Recipe::load(&recipe).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(app.join("run/control")).unwrap();
        let said = |what: &str| {
            let error = Recipe::load(&recipe).unwrap_err();
            assert_eq!(error.message(), what);
            assert!(error.hint().unwrap().starts_with("remove it"));
        };
        said("`app/run/control` is a socket, which cannot be part of an image");
        fs::remove_file(app.join("run/control")).unwrap();
        let status = std::process::Command::new("mkfifo")
            .arg(app.join("pipe"))
            .status();
        assert!(status.unwrap().success());
        said("`app/pipe` is a FIFO, which cannot be part of an image");
    }
}
