//! An exported tarball, carried by hand, as the source of an install (`build-schroot`).
//!
//! ```text
//! refresh            where the environment can be reached: which keys sign releases by now
//! verify_signature   FILE.dsse.json is signed by the keys that this node's root lists for targets,
//!                    and FILE.manifest.json is the one that was signed for
//! check_allowed      the release is allowed by the environment, or by its last word
//! check_digest       FILE is the one that was signed for; every byte is hashed
//! unpack             the tar is decompressed and unpacked as strictly as content from a store
//! ```
//! Nothing is written before these four. From there on it is an install like any other: the
//! finished tree is read back, and must be the image, whatever happened to FILE meanwhile.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use sha2::Digest as _;
use store::Sha256;
use store::canonical_tar::{Entry, Reader};
use store::dsse::Envelope;
use store::export::{Export, MANIFEST_SUFFIX, SIGNATURE_SUFFIX};
use store::manifest::Manifest;

use super::fetch::TransferStats;
use crate::atomic_file;
use crate::error::{Context, Error, Kind, Result, check_cancelled};
use crate::event::{Event, Observer};
use crate::host::commands::{HostCommand, OutputStream};
use crate::node::Node;
use crate::state::NodeConfig;
use crate::storage::Staging;
use crate::tree::extract::Extractor;
use crate::trust::{self, Environment, VerifiedRelease};

/// Bytes read from the tarball at a time.
const PIECE: usize = 256 << 10;

/// An open tarball whose every byte was verified.
pub(super) struct Tarball {
    file: File,
    export: Export,
}

impl Tarball {
    /// Verifies an exported tarball by the manifest and the signature beside it. Nothing is written.
    pub(super) fn verify(
        node: &Node<'_>,
        config: &NodeConfig,
        path: &Path,
    ) -> Result<(Self, VerifiedRelease)> {
        let file = File::open(path).map_err(|error| {
            Error::usage(format!("cannot open {}", path.display())).source(&error)
        })?;
        // First: a key that signs no more must not be believed.
        let environment = trust::refresh_if_reachable(node, config)?;
        let (export, release) = verify_signature(node, config, path)?;
        // The environment is not kept: others wait for it, and hashing may take a while.
        check_allowed(node, config, environment, &release)?;
        node.observer
            .event(Event::Phase(&format!("checking {}", path.display())));
        check_digest(&file, &export, node.observer, node.cancel)?;
        Ok((Self { file, export }, release))
    }

    /// Fills an empty staging tree with the content of the tarball.
    pub(super) fn unpack(
        self,
        node: &Node<'_>,
        manifest: &Manifest,
        staging: &Staging,
    ) -> Result<TransferStats> {
        let source = open_tar(self.file, &self.export, node.observer)?;
        unpack(source, manifest, staging.tree.reopen()?, node)
    }
}

/// Reads a file that lies beside the tarball.
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

/// Verifies what was signed about the tarball, and gives it as the release that it is.
fn verify_signature(
    node: &Node<'_>,
    config: &NodeConfig,
    tarball: &Path,
) -> Result<(Export, VerifiedRelease)> {
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
    let release = VerifiedRelease {
        seq: export.about.seq,
        image: manifest.image,
        min_seq: 0,
        json,
        manifest,
    };
    Ok((export, release))
}

/// Hashes the whole file before anything of it is used.
fn check_digest(
    mut file: &File,
    export: &Export,
    observer: &dyn Observer,
    cancel: &AtomicBool,
) -> Result<()> {
    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0; PIECE];
    let mut done = 0;
    loop {
        check_cancelled(cancel)?;
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

/// Adds what an operator can do about a tarball that is refused.
fn refused(error: store::Error) -> Error {
    Error::from(error).hint("nothing was written; carry over all files of the export again")
}

/// Refuses a release that may not run, by the word of the environment, or by its last one.
fn check_allowed(
    node: &Node<'_>,
    config: &NodeConfig,
    environment: Result<Environment>,
    release: &VerifiedRelease,
) -> Result<()> {
    let allowed = match environment {
        Ok(environment) => environment.admits(release),
        Err(why) => {
            node.observer.event(Event::Note(&format!(
                "the environment {} cannot be asked whether release {} may still run, so its last \
                 word counts: {why}",
                config.environment, release.seq
            )));
            trust::remembers_nothing_against(node, config, release)
        }
    };
    allowed.map_err(|error| {
        if error.kind() != Kind::Refused {
            return error;
        }
        let name = &release.manifest.name;
        Error::refused(format!(
            "release {} of {name} may not run in {}",
            release.seq, config.environment
        ))
        .cause(error.to_string())
    })
}

/// Opens the tar inside the file.
fn open_tar(mut file: File, export: &Export, observer: &dyn Observer) -> Result<OutputStream> {
    file.rewind()
        .context(|| format!("cannot read {}", export.file))?;
    let run = match export.about.format.as_str() {
        "tar" => return Ok(OutputStream::plain(file)),
        "tar.zst" => {
            let decoder = zstd::stream::read::Decoder::new(file);
            let decoder = decoder.context(|| format!("cannot decompress {}", export.file))?;
            return Ok(OutputStream::plain(decoder));
        }
        "tar.xz" => HostCommand::new("xz").args(["--decompress", "--stdout", "--threads=0"]),
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
    source: OutputStream,
    manifest: &Manifest,
    root: std::os::fd::OwnedFd,
    node: &Node<'_>,
) -> Result<TransferStats> {
    let privileges = manifest.privileges();
    let privilege = |entry: &Entry| privileges.check(entry).map_err(Error::from);
    let mut extractor = Extractor::new(root, &privilege);
    let mut stats = TransferStats::default();
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
        node.check_cancelled()?;
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
            stats.written += count as u64;
        }
        node.observer.event(Event::Progress {
            done,
            total: manifest.size,
        });
    }
    extractor.finish()?;
    Ok(stats)
}
