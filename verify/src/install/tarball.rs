//! `build-schroot`: an exported tarball, carried by hand, becomes a generation.
//!
//! ```text
//! believe   FILE.dsse.json is signed by the keys that this node's root of trust lists for targets
//! read      FILE.manifest.json and FILE are the ones that were signed for; every byte is hashed
//! ask       where the environment can be reached, the release must still be allowed
//! write     the tar is decompressed and unpacked as strictly as content from a store
//! recheck   the finished tree is read back: it must be the image, whatever happened to FILE meanwhile
//! ```
//! Nothing is written before the first three. From there on it is an install like any other, and
//! `upgrade`, `switch` and the rest work with what it made.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use sha2::Digest as _;
use store::Sha256;
use store::canon::{Entry, Reader};
use store::dsse::Envelope;
use store::export::{Export, MANIFEST_SUFFIX, SIGNATURE_SUFFIX};
use store::manifest::Manifest;

use super::journal;
use super::local_changes;
use super::switch;
use super::{Installed, Request, Step, Tally, Writing, finish, journaled, plan, settle};
use crate::atomic_file;
use crate::error::{Context, Error, Result};
use crate::event::{Event, Observer};
use crate::host::commands::{Run, Stream};
use crate::node::{Node, go_on};
use crate::session;
use crate::state::NodeConfig;
use crate::storage::{Desk, Target};
use crate::system::SystemName;
use crate::tree::extract::Extractor;
use crate::trust::{self, Verified};

/// Bytes read from the tarball at a time.
const PIECE: usize = 256 << 10;

/// What an operator carries in.
#[derive(Debug)]
pub struct Carried {
    /// The exported file; manifest and signature lie beside it.
    pub tarball: PathBuf,
    /// What it is called here.
    pub system: SystemName,
    /// Where it goes.
    pub target: Target,
}

/// Makes an exported tarball the active generation of a system.
pub fn build(node: &Node<'_>, carried: &Carried) -> Result<Installed> {
    let lock = node.state.lock()?;
    journal::recover(node, &lock)?;
    let config = node.config()?;
    let file = File::open(&carried.tarball).map_err(|error| {
        Error::usage(format!("cannot open {}", carried.tarball.display())).source(&error)
    })?;
    let (export, release) = believe(node, &config, &carried.tarball)?;
    node.observer.event(Event::Phase(&format!(
        "checking {}",
        carried.tarball.display()
    )));
    check(&file, &export, node.observer, node.cancel)?;
    ask(node, &config, &release)?;
    let request = Request {
        name: release.manifest.name.clone(),
        system: carried.system.clone(),
        target: Some(carried.target.clone()),
        patience: None,
        again: false,
    };
    let plan = plan(node, &config, &request, &release)?;
    let (record, changed, tally) = match (&plan.step, &plan.before) {
        (Step::Write(after), before) => {
            if let Some(before) = before {
                let so = format!("generation {} will have none of that", after.active);
                local_changes::tell(node, before, before.active, &so);
            }
            let mut pending = plan.pending(after);
            let tally = journaled(node, &lock, &mut pending, |pending| {
                let (system, number) = (pending.system.clone(), pending.generation);
                let target = pending.target.clone();
                let desk = Desk::of(node, &system);
                let staging = target.keeper().prepare(&desk, number, None)?;
                Writing::of(&release.manifest).announce(node.observer);
                let source = open(file, &export, node.observer)?;
                let tally = unpack(source, &release.manifest, staging.tree.reopen()?, node)?;
                let manifest = &release.manifest;
                settle(manifest, None, &staging.tree, node.observer, node.cancel)?;
                finish(node, &lock, &release.json, staging, pending)?;
                Ok(tally)
            })?;
            (node.state.installed(&carried.system)?, true, tally)
        }
        (Step::Switch(number), Some(before)) => {
            let record = switch::carry_out(node, &lock, before, *number)?;
            (record, true, Tally::default())
        }
        (Step::Nothing, Some(before)) => {
            node.schroot.register(before, node.observer)?;
            (before.clone(), false, Tally::default())
        }
        (_, None) => return Err(Error::failed("the plan has no record")),
    };
    let traffic = session::take_over(node, &lock, plan.before.as_ref(), &record, None)?;
    Ok(Installed {
        record,
        changed,
        tally,
        traffic,
    })
}

fn beside(tarball: &Path, suffix: &str) -> Result<Vec<u8>> {
    let mut path = tarball.as_os_str().to_owned();
    path.push(suffix);
    let path = PathBuf::from(path);
    atomic_file::read(&path)?.ok_or_else(|| {
        Error::refused(format!("there is no {}", path.display()))
            .cause("an export is believed by what was signed about it")
            .hint("carry over all files that `imgbuild export -o` wrote")
    })
}

/// What was signed about the tarball, as the release that it is.
fn believe(node: &Node<'_>, config: &NodeConfig, tarball: &Path) -> Result<(Export, Verified)> {
    let statement = beside(tarball, SIGNATURE_SUFFIX)?;
    let json = beside(tarball, MANIFEST_SUFFIX)?;
    let (keys, threshold) = trust::targets_keys(node)?;
    let believed = Envelope::from_json(&statement)
        .and_then(|envelope| Export::verify(&envelope, &config.environment, &keys, threshold))
        .and_then(|export| Ok((export.manifest(&json)?, export)));
    let (manifest, export) = believed.map_err(refused)?;
    if manifest.name != export.about.name || manifest.arch != export.about.arch {
        return Err(Error::refused(
            "what was signed about the tarball contradicts its manifest",
        ));
    }
    let release = Verified {
        seq: export.about.seq,
        image: manifest.image,
        min_seq: 0,
        json,
        manifest,
    };
    Ok((export, release))
}

/// Hashes the whole file before anything of it is used.
fn check(
    mut file: &File,
    export: &Export,
    observer: &dyn Observer,
    cancel: &AtomicBool,
) -> Result<()> {
    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0; PIECE];
    let mut done = 0;
    loop {
        go_on(cancel)?;
        let count = file
            .read(&mut buffer)
            .context(|| format!("cannot read {}", export.file))?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
        done += count as u64;
        observer.event(Event::Progress {
            done,
            total: export.about.file_size,
        });
    }
    let sha256 = Sha256::new(hasher.finalize().into());
    export.check_file(done, &sha256).map_err(refused)
}

/// What an operator can do about a tarball that is not believed.
fn refused(error: store::Error) -> Error {
    Error::from(error).hint("nothing was written; carry over all files of the export again")
}

/// Asks the environment, if it can be reached, whether the release may still run.
fn ask(node: &Node<'_>, config: &NodeConfig, release: &Verified) -> Result<()> {
    let name = &release.manifest.name;
    let bar = match trust::ask_if_it_answers(node, config)? {
        Ok(asked) => asked.bar(name, release.seq, &release.image)?,
        Err(why) => {
            node.observer.event(Event::Note(&format!(
                "the environment {} cannot be asked whether release {} may still run: {why}",
                config.environment, release.seq
            )));
            None
        }
    };
    match bar {
        None => Ok(()),
        Some(bar) => Err(Error::refused(format!(
            "release {} of {name} may not run in {}",
            release.seq, config.environment
        ))
        .cause(bar.why)),
    }
}

/// The tar inside the file.
fn open(file: File, export: &Export, observer: &dyn Observer) -> Result<Stream> {
    use std::io::Seek;
    let mut file = file;
    file.rewind()
        .context(|| format!("cannot read {}", export.file))?;
    let run = match export.about.format.as_str() {
        "tar" => return Ok(Stream::plain(file)),
        "tar.zst" => {
            let decoder = zstd::stream::read::Decoder::new(file);
            let decoder = decoder.context(|| format!("cannot decompress {}", export.file))?;
            return Ok(Stream::plain(decoder));
        }
        "tar.xz" => Run::new("xz").args(["--decompress", "--stdout", "--threads=0"]),
        other => {
            return Err(Error::refused(format!(
                "{} is a `{}`, which this imgnode does not know",
                export.file,
                other.escape_debug()
            )));
        }
    };
    run.stream(file, observer)
}

/// Writes the tree of a canonical tar into an empty directory.
fn unpack(
    source: Stream,
    manifest: &Manifest,
    root: std::os::fd::OwnedFd,
    node: &Node<'_>,
) -> Result<Tally> {
    let privileges = manifest.privileges();
    let privilege = |entry: &Entry| privileges.check(entry).map_err(Error::from);
    let mut extractor = Extractor::new(root, &privilege);
    let mut tally = Tally::default();
    let broken = |error: &dyn std::error::Error| {
        Error::refused("the tarball does not hold the tar that was signed for")
            .cause(error.to_string())
    };
    // However little a compressed file may be, it cannot become more than was signed for.
    let limited = source.take(manifest.size);
    let mut reader = Reader::new(BufReader::with_capacity(PIECE, limited));
    let mut buffer = vec![0; PIECE];
    let mut done = 0;
    while let Some(entry) = reader.next_entry().map_err(|error| broken(&error))? {
        node.go_on()?;
        extractor.entry(&entry)?;
        done += reader.header().len() as u64;
        loop {
            let count = reader.content().read(&mut buffer);
            let count = count.map_err(|error| broken(&error))?;
            if count == 0 {
                break;
            }
            extractor.content(&buffer[..count])?;
            done += count as u64;
            tally.written += count as u64;
        }
        node.observer.event(Event::Progress {
            done,
            total: manifest.size,
        });
    }
    extractor.finish()?;
    Ok(tally)
}
