//! Moving retained inputs: recipe, lock, and all that the lock names.

use std::collections::BTreeMap;

use sha2::Digest as _;

use super::failure::sentence;
use super::pipe;
use crate::WritableStore;
use crate::backend::Backend;
use crate::backend::WritableBackend;
use crate::digest::Sha256;
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::{MAX_LOCK, Manifest};
use crate::store::{Store, input_key};

/// Inputs that are moved at once.
const LANES: usize = 4;

/// Bytes of an input that are in memory at once.
const PIECE: u64 = 4 << 20;

/// A parser of locks: returns the inputs that one names and the bytes of each, or why
/// it cannot be read. The format of locks is the builder's.
pub type LockedInputs<'a> = &'a (dyn Fn(&[u8]) -> Result<Vec<(Sha256, u64)>, String> + Sync);

/// The inputs of an image.
#[derive(Clone, Debug, Default)]
pub(super) struct ImageInputs {
    /// Recipe and lock, as far as the source has them.
    texts: BTreeMap<Sha256, Vec<u8>>,
    /// The inputs that the lock names, with their sizes.
    named: BTreeMap<Sha256, u64>,
    /// What the source cannot give.
    lacking: Vec<(Sha256, String)>,
}

impl ImageInputs {
    /// Every input, with its size.
    pub(super) fn all(&self) -> impl Iterator<Item = (Sha256, u64)> + '_ {
        let texts = self.texts.iter();
        let texts = texts.map(|(digest, text)| (*digest, text.len() as u64));
        texts.chain(self.named.iter().map(|(digest, size)| (*digest, *size)))
    }
}

/// Inputs that were moved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopiedInputs {
    /// How many.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Those that the source does not have, or has damaged, and why.
    pub lacking: Vec<(Sha256, String)>,
}

/// Copies inputs, each with its size, as far as `from` has them and `to` does not.
/// Each is compared with its digest before it is there.
pub fn copy_inputs(
    from: &Store,
    to: &WritableStore,
    named: impl IntoIterator<Item = (Sha256, u64)>,
    each: &mut dyn FnMut(u64),
) -> Result<CopiedInputs> {
    let wanted = ImageInputs {
        named: named.into_iter().collect(),
        ..ImageInputs::default()
    };
    copy(from, to.backend(), &wanted, each)
}

/// Copies inputs from a store that can be written: what it has is held there as well,
/// and one listing shows what it lacks.
pub fn copy_held_inputs(
    from: &WritableStore,
    to: &WritableStore,
    named: impl IntoIterator<Item = (Sha256, u64)>,
    each: &mut dyn FnMut(u64),
) -> Result<CopiedInputs> {
    let named: Vec<(Sha256, u64)> = named.into_iter().collect();
    let keys: Vec<String> = named.iter().map(|(digest, _)| input_key(digest)).collect();
    let there = from.backend().hold(&keys)?;
    let there = named.into_iter().zip(there).filter(|(_, there)| *there);
    copy_inputs(from.store(), to, there.map(|(input, _)| input), each)
}

/// Reads recipe and lock. An image whose lock the source has not, or not whole, has no
/// other inputs that could be known.
pub(super) fn wanted(
    from: &Store,
    manifest: &Manifest,
    locked: LockedInputs<'_>,
) -> Result<ImageInputs> {
    let mut wanted = ImageInputs::default();
    for digest in [manifest.recipe, manifest.lock] {
        match from.input(&digest, MAX_LOCK) {
            Ok(Some(text)) => drop(wanted.texts.insert(digest, text)),
            Ok(None) => wanted.lacking.push((digest, missing(from, &digest))),
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                wanted.lacking.push((digest, sentence(&error)));
            }
            Err(error) => return Err(error),
        }
    }
    if let Some(text) = wanted.texts.get(&manifest.lock) {
        let named = locked(text).map_err(|why| {
            let what = format_args!("the lock of the image {}", manifest.image);
            Error::corrupt(what, why)
        })?;
        wanted.named = named.into_iter().collect();
    }
    Ok(wanted)
}

fn missing(from: &Store, digest: &Sha256) -> String {
    Error::missing(
        format_args!("the input {digest}"),
        from.backend().describe(),
    )
    .to_string()
}

/// Moves the inputs that `backend` lacks, and holds all of them.
pub(super) fn copy(
    from: &Store,
    backend: &dyn WritableBackend,
    wanted: &ImageInputs,
    each: &mut dyn FnMut(u64),
) -> Result<CopiedInputs> {
    let mut moved = CopiedInputs {
        lacking: wanted.lacking.clone(),
        ..CopiedInputs::default()
    };
    let all: Vec<(Sha256, u64)> = wanted.all().collect();
    let keys: Vec<String> = all.iter().map(|(digest, _)| input_key(digest)).collect();
    let there = backend.hold(&keys)?;
    let lacked = all.iter().zip(there).filter(|(_, there)| !there);
    let lacked: Vec<(Sha256, u64)> = lacked.map(|(input, _)| *input).collect();
    for (digest, _) in &lacked {
        if let Some(text) = wanted.texts.get(digest) {
            backend.put(&input_key(digest), text)?;
            moved.count += 1;
            moved.bytes += text.len() as u64;
            each(text.len() as u64);
        }
    }
    let named: Vec<(Sha256, u64)> = lacked
        .into_iter()
        .filter(|(digest, _)| !wanted.texts.contains_key(digest))
        .collect();
    from.prefetch_inputs(named.iter().copied());
    let fetch = |(): &mut (), (digest, size): &(Sha256, u64)| match one(
        from.backend(),
        backend,
        digest,
        *size,
    ) {
        Ok(()) => Ok((*digest, *size, None)),
        Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Missing) => {
            Ok((*digest, *size, Some(sentence(&error))))
        }
        Err(error) => Err(error),
    };
    let fetched = pipe::ordered(
        &named,
        LANES,
        || Ok(()),
        fetch,
        |(digest, size, why)| {
            if let Some(why) = why {
                moved.lacking.push((digest, why));
            } else {
                moved.count += 1;
                moved.bytes += size;
                each(size);
            }
            Ok(())
        },
    );
    backend.sync()?;
    fetched?;
    Ok(moved)
}

/// Moves one input, compared with its digest before it gets its name. One that was hurt
/// on its way is fetched once more.
pub(super) fn one(
    from: &dyn Backend,
    backend: &dyn WritableBackend,
    digest: &Sha256,
    size: u64,
) -> Result<()> {
    let key = input_key(digest);
    let attempt = || -> Result<()> {
        let mut draft = backend.create()?;
        let (mut hasher, mut at) = (sha2::Sha256::new(), 0);
        while at < size {
            let len = (size - at).min(PIECE);
            let piece = from.get_range(&key, at, len)?;
            hasher.update(&piece);
            draft.write(&piece)?;
            at += len;
        }
        let found = Sha256::finish(hasher);
        if found != *digest {
            let what = format_args!("{key} in {}", from.describe());
            return Err(Error::corrupt(what, format_args!("its digest is {found}")));
        }
        draft.finish(&key)
    };
    match attempt() {
        Err(error) if error.kind() == ErrorKind::Corrupt && from.invalidate(&key, 0..size) => {
            attempt()
        }
        other => other,
    }
}
