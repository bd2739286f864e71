//! What takes debootstrap longest, done on all processors: unpacking.
//!
//! debootstrap unpacks the required packages twice, one after the other: with
//! tar, so that there is something to run, and with dpkg, so that they are in its
//! database. Its own script for the suite stays in charge here, with some of its
//! functions replaced: the files of all packages are written at once; then what
//! dpkg would have written about them is, and the scripts run that dpkg would have
//! run. dpkg itself configures them, and unpacks what is not as simple.
//!
//! ```text
//! files     the files of many packages, written into a tree side by side
//! database  what dpkg knows of a package that it has unpacked
//! clash     packages that do not go together
//! index     what a package brings to the tree
//! ```

mod clash;
mod database;
mod files;
mod index;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::error::{Context, Error, Result};

/// The hidden subcommand that debootstrap's functions call.
pub const COMMAND: &str = "unpack-packages";
/// debootstrap's script for a suite; finds our own program in `OWN_PROGRAM` of `sandbox`.
pub(crate) const SCRIPT: &str = include_str!("debootstrap.sh");

/// What was learned of packages while their files were written, below the tree.
const LISTS: &str = "debootstrap/lists";

/// Does what debootstrap's script asks for: `files TREE DEB...` or `database TREE DEB...`,
/// with packages by their paths in the tree. The second prints those that are left to dpkg.
pub fn run(mut arguments: impl Iterator<Item = OsString>) -> Result<()> {
    let (Some(what), Some(tree)) = (arguments.next(), arguments.next()) else {
        return Err(Error::usage("unpack-packages is not for people"));
    };
    let tree = PathBuf::from(tree);
    let debs: Vec<PathBuf> = arguments.map(PathBuf::from).collect();
    if what == "files" {
        return write_files(&tree, &debs);
    }
    std::os::unix::fs::chroot(&tree)
        .and_then(|()| std::env::set_current_dir("/"))
        .context(|| format!("cannot enter {}", tree.display()))?;
    let mut out = io::stdout().lock();
    for deb in database::register(&debs)? {
        writeln!(out, "{}", deb.display()).context(|| "cannot say what is left".into())?;
    }
    Ok(())
}

fn write_files(tree: &Path, debs: &[PathBuf]) -> Result<()> {
    let scratch = tree.join("debootstrap");
    let lists = tree.join(LISTS);
    std::fs::create_dir_all(&lists).context(|| format!("cannot make {}", lists.display()))?;
    let in_tree = |deb: &PathBuf| tree.join(deb.strip_prefix("/").unwrap_or(deb));
    let mut paths: Vec<(usize, PathBuf)> = debs.iter().map(in_tree).enumerate().collect();
    // The largest first, so that no processor has one left when the other is done.
    paths.sort_by_cached_key(|(_, path)| {
        let size = path.metadata().map_or(0, |found| found.len());
        std::cmp::Reverse(size)
    });
    let read = |(number, path): &(usize, PathBuf)| {
        let failed = || format!("cannot unpack {}", path.display());
        let files = index::read(path, &scratch).context(failed)?;
        database::note(&lists, path, &files).context(failed)?;
        Ok((*number, files))
    };
    let packages = paths.par_iter().with_max_len(1).map(read);
    let mut packages = packages.collect::<Result<Vec<_>>>()?;
    packages.sort_by_key(|(number, _)| *number);
    let packages: Vec<_> = packages.into_iter().map(|(_, files)| files).collect();
    files::write(tree, &packages).context(|| "cannot write the files of the packages".into())
}
