//! A small local archive with exactly the locked packages.
//!
//! debootstrap and apt read it through `file:`. Its index is made from the
//! control files of the packages themselves (deb-control(5)), so nothing but
//! the retained .debs is needed, years later and without a network.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use rayon::prelude::*;
use store::Inputs;
use store::digest::Sha256;

use crate::error::{Context, Result};
use crate::interrupt;
use crate::layers::remove;
use crate::lock::{Lock, Stage};
use crate::process::Tool;
use crate::steps::Mirror;

/// Where control files are remembered, below the work directory.
pub(crate) const CONTROLS: &str = "controls";

/// Makes the archive in `dir`.
pub fn make(mirror: &Mirror, lock: &Lock, inputs: &Inputs, cache: &Path, dir: &Path) -> Result<()> {
    remove(dir)?;
    let pool = dir.join("pool");
    let index_dir = format!("main/binary-{}", lock.architecture);
    let dists = dir.join("dists").join(&mirror.suite);
    make_dir(&pool)?;
    make_dir(&dists.join(&index_dir))?;
    let digests: Vec<Sha256> = mirror.debs.iter().map(|d| d.0).collect();
    let stanzas = controls(&digests, inputs, cache)?;
    let mut packages = String::new();
    for ((digest, stage), control) in mirror.debs.iter().zip(stanzas) {
        let name = format!("{}.deb", digest.hex());
        link_or_copy(&inputs.path(digest), &pool.join(&name))?;
        let size = fs::metadata(pool.join(&name))
            .context(|| format!("cannot read {name}"))?
            .len();
        // debootstrap unpacks by priority; an archive's overrides decided it.
        let priority = if *stage == Stage::Required {
            "required"
        } else {
            "optional"
        };
        let fields = control.lines().filter(|l| !l.starts_with("Priority:"));
        for line in fields {
            packages.push_str(line);
            packages.push('\n');
        }
        let _ = write!(
            packages,
            "Priority: {priority}\nFilename: pool/{name}\nSize: {size}\nSHA256: {}\n\n",
            digest.hex()
        );
    }
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
    let out = Tool::new("dpkg-deb")
        .arg("--field")
        .arg(inputs.path(digest))
        .output()?;
    let text = String::from_utf8_lossy(&out).into_owned();
    let temporary = cache.join(format!(".{}", digest.hex()));
    fs::write(&temporary, &text)
        .and_then(|()| fs::rename(&temporary, &remembered))
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
