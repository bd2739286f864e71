//! Exactly the locked packages, as debootstrap and apt take them.
//!
//! apt reads a small archive through `file:`. Its index is made from the
//! control files of the packages themselves (deb-control(5)), so nothing but
//! the retained .debs is needed, years later and without a network.
//! debootstrap unpacks a tarball, as its own `--make-tarball` writes one: it
//! would copy and hash each package of an archive again, in shell. Those that dpkg
//! unpacks are not compressed.
//!
//! ```text
//! ahead    packages decompressed while the steps before theirs run
//! plain    packages without their compression
//! content  files of a package, read without unpacking it
//! ```

mod ahead;
mod content;
mod plain;

pub use self::ahead::Ahead;
pub(crate) use self::content::{Content, content_of};

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use rayon::prelude::*;
use store::Inputs;
use store::digest::Sha256;

use crate::atomic_file;
use crate::atomic_file::remove;
use crate::deb;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::interrupt;
use crate::lockfile::{InstallStage, Lock};
use crate::steps::{Form, Mirror, TARBALL, mirror_path};

/// Where control files are remembered, below the work directory.
pub(crate) const CONTROLS: &str = "controls";

/// The packages of a lock.
pub struct Packages<'a> {
    /// What names them.
    pub lock: &'a Lock,
    /// Where they are retained.
    pub inputs: &'a Inputs,
    /// Where their control files are remembered.
    pub controls: &'a Path,
    /// Those of them that are decompressed.
    pub ahead: &'a Ahead,
}

/// Makes the archive of a step in `dir`.
pub fn make(mirror: &Mirror, packages: &Packages<'_>, dir: &Path) -> Result<()> {
    remove(dir)?;
    match mirror.form {
        Form::Archive => archive(mirror, packages, dir),
        Form::Tarball => {
            make_dir(dir)?;
            tarball(mirror, packages, &dir.join(TARBALL))
        }
    }
}

/// What `debootstrap --unpack-tarball` takes: the packages and their index
/// where apt keeps them, and the lists of what is installed when.
fn tarball(mirror: &Mirror, packages: &Packages<'_>, path: &Path) -> Result<()> {
    const PACKAGES: &str = "var/cache/apt/archives";
    const LISTS: &str = "var/lib/apt/lists";
    let Packages { lock, inputs, .. } = *packages;
    let failed = || format!("cannot write {}", path.display());
    let file = fs::File::create(path).context(failed)?;
    let mut tar = tar::Builder::new(std::io::BufWriter::with_capacity(1 << 20, file));
    for dir in ["debootstrap", LISTS, PACKAGES] {
        let mut header = entry(tar::EntryType::Directory, 0o755, 0);
        tar.append_data(&mut header, dir, std::io::empty())
            .context(failed)?;
    }
    let digests: Vec<Sha256> = mirror.debs.iter().map(|d| d.0).collect();
    let controls = controls(&digests, inputs, packages.controls)?;
    let plain_deb = |digest: &Sha256| path.with_file_name(format!("{}.deb", digest.hex()));
    let is_plain = |stage: &InstallStage| *stage != InstallStage::Required;
    mirror.debs.par_iter().try_for_each(|(digest, stage)| {
        interrupt::check()?;
        if !is_plain(stage) {
            return Ok(());
        }
        plain::write(&inputs.path(digest), &plain_deb(digest))
    })?;
    let (mut required, mut base, mut paths) = (String::new(), String::new(), String::new());
    for ((digest, stage), control) in mirror.debs.iter().zip(&controls) {
        interrupt::check()?;
        // Its own name for itself: the step's key knows the package by digest.
        let package = control
            .lines()
            .find_map(|l| l.strip_prefix("Package: "))
            .unwrap_or_default();
        let list = match stage {
            InstallStage::Required => &mut required,
            InstallStage::Base | InstallStage::Packages(_) => &mut base,
        };
        let _ = write!(list, "{package} ");
        // debootstrap shows what stands before the first `_`.
        let name = format!("{PACKAGES}/{package}_{:.16}.deb", digest.hex());
        let _ = writeln!(paths, "{package} /{name}");
        let content = if is_plain(stage) {
            plain_deb(digest)
        } else {
            inputs.path(digest)
        };
        let content = fs::File::open(&content).context(failed)?;
        let size = content.metadata().context(failed)?.len();
        let mut header = entry(tar::EntryType::Regular, 0o644, size);
        tar.append_data(&mut header, &name, content)
            .context(failed)?;
        if is_plain(stage) {
            fs::remove_file(plain_deb(digest)).context(failed)?;
        }
    }
    if base.is_empty() {
        // debootstrap cannot unpack nothing; its own list has apt in any case.
        base.push_str("apt");
    }
    let files = digests
        .iter()
        .map(|digest| Ok((*digest, size(&inputs.path(digest))?)));
    let files = files.collect::<Result<Vec<_>>>()?;
    // Named by the address that debootstrap is given, as apt does.
    let index_path = format!(
        "{LISTS}/{}_dists_{}_main_binary-{}_Packages",
        mirror_path().display().to_string().replace('/', "_"),
        mirror.suite,
        lock.architecture
    );
    for (name, text) in [
        ("debootstrap/required", required),
        ("debootstrap/base", base),
        ("debootstrap/debpaths", paths),
        (&index_path, index(lock, &digests, &controls, &files)?),
    ] {
        let mut header = entry(tar::EntryType::Regular, 0o644, text.len() as u64);
        tar.append_data(&mut header, name, text.as_bytes())
            .context(failed)?;
    }
    let mut file = tar.into_inner().context(failed)?;
    std::io::Write::flush(&mut file).context(failed)
}

/// A header of its own for each entry: a reused one keeps parts of long names.
fn entry(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header
}

fn archive(mirror: &Mirror, packages: &Packages<'_>, dir: &Path) -> Result<()> {
    let Packages {
        lock,
        inputs,
        ahead,
        ..
    } = *packages;
    let pool = dir.join("pool");
    let index_dir = format!("main/binary-{}", lock.architecture);
    let dists = dir.join("dists").join(&mirror.suite);
    make_dir(&pool)?;
    make_dir(&dists.join(&index_dir))?;
    let digests: Vec<Sha256> = mirror.debs.iter().map(|d| d.0).collect();
    let plain: HashSet<Sha256> = Ahead::wanted(mirror, inputs).into_iter().collect();
    let files = digests.par_iter().map(|digest| {
        interrupt::check()?;
        let to = pool.join(format!("{}.deb", digest.hex()));
        if !plain.contains(digest) {
            link_or_copy(&inputs.path(digest), &to)?;
            let size = size(&to)?;
            return Ok((*digest, size));
        }
        // Where there is no room for that, it stays as it is.
        let plain = ahead.package(digest, inputs);
        interrupt::check()?;
        link_or_copy(&plain.unwrap_or_else(|_| inputs.path(digest)), &to)?;
        let failed = || format!("cannot read {}", to.display());
        let mut file = fs::File::open(&to).context(failed)?;
        Sha256::of_reader(&mut file).context(failed)
    });
    let files: Vec<(Sha256, u64)> = files.collect::<Result<_>>()?;
    let controls = controls(&digests, inputs, packages.controls)?;
    let packages = index(lock, &digests, &controls, &files)?;
    put(&dists.join(&index_dir).join("Packages"), &packages)?;
    let suite = &mirror.suite;
    let release = format!(
        "Origin: imgbuild\nLabel: imgbuild\nSuite: {suite}\nCodename: {suite}\n\
         Date: {date}\nArchitectures: {arch}\nComponents: main\nSHA256:\n {hash} {size} {index_dir}/Packages\n",
        date = release_date(lock.epoch),
        arch = lock.architecture,
        hash = Sha256::of(packages.as_bytes()).hex(),
        size = packages.len(),
    );
    put(&dists.join("Release"), &release)
}

/// The index of the packages (Packages of an archive). What their files are now, digest and
/// size, is in `files`.
fn index(
    lock: &Lock,
    digests: &[Sha256],
    controls: &[String],
    files: &[(Sha256, u64)],
) -> Result<String> {
    let mut text = String::new();
    for ((digest, control), (now, size)) in digests.iter().zip(controls).zip(files) {
        check_identity(lock, digest, control)?;
        let _ = write!(
            text,
            "{}\nFilename: pool/{}.deb\nSize: {size}\nSHA256: {}\n\n",
            control.trim_end(),
            digest.hex(),
            now.hex()
        );
    }
    Ok(text)
}

fn size(path: &Path) -> Result<u64> {
    let found = fs::metadata(path).context(|| format!("cannot read {}", path.display()))?;
    Ok(found.len())
}

/// The package must be the one that the lock gives this digest to.
fn check_identity(lock: &Lock, digest: &Sha256, control: &str) -> Result<()> {
    let field = |name: &str| {
        let mut lines = control.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.unwrap_or_default().trim()
    };
    let found = [field("Package"), field("Version"), field("Architecture")];
    let mut locked = lock.debs.iter().filter(|deb| deb.sha256 == *digest);
    let unlike = locked.find(|deb| {
        found
            != [
                deb.name.as_str(),
                deb.version.as_str(),
                deb.architecture.as_str(),
            ]
    });
    let Some(deb) = unlike else { return Ok(()) };
    let what = format!(
        "the lock's digest of {} {} is that of another package",
        deb.name, deb.version
    );
    Err(Error::new(ErrorKind::Refused, what)
        .detail(format!("of {} {} {}", found[0], found[1], found[2]))
        .hint("take the lock from version control again, or run `imgbuild lock --upgrade`"))
}

/// The control file of each package, in order; remembered by digest.
pub(crate) fn controls(debs: &[Sha256], inputs: &Inputs, cache: &Path) -> Result<Vec<String>> {
    make_dir(cache)?;
    debs.par_iter()
        .map(|digest| {
            interrupt::check()?;
            control(digest, inputs, cache)
        })
        .collect()
}

fn control(digest: &Sha256, inputs: &Inputs, cache: &Path) -> Result<String> {
    let remembered = cache.join(digest.hex());
    if let Ok(text) = fs::read_to_string(&remembered) {
        return Ok(text);
    }
    let input = inputs.path(digest);
    let text = deb::control(&input).context(|| format!("cannot read {}", input.display()))?;
    atomic_file::replace(&remembered, &text)
        .context(|| format!("cannot write {}", remembered.display()))?;
    Ok(text)
}

/// Same file system: no copy. The sandbox sees it read-only.
pub(crate) fn link_or_copy(from: &Path, to: &Path) -> Result<()> {
    if fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    fs::copy(from, to)
        .map(|_| ())
        .context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}

fn release_date(epoch: u64) -> String {
    let second = i64::try_from(epoch).unwrap_or(i64::MAX);
    let time = jiff::Timestamp::from_second(second).unwrap_or(jiff::Timestamp::MAX);
    time.strftime("%a, %d %b %Y %H:%M:%S UTC").to_string()
}

fn make_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).context(|| format!("cannot make {}", path.display()))
}

fn put(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).context(|| format!("cannot write {}", path.display()))
}
