//! From a tree to an image in the store, in one pass.
//!
//! ```text
//!            +--> TarHasher: blake3 and sha256 of the tar     (one thread)
//! producer --+
//!   |        +--> frames of new chunks --> zstd --> packs
//!   |                                (all cores)  (one thread)
//! reads files in order, cuts, names chunks, skips those that are known,
//! writes the layout
//! ```
//!
//! Every arrow is a short queue, so memory does not depend on the image: whoever
//! is ahead waits. Frames are numbered, and the pack writer puts them in that
//! order again, so the same tree makes the same packs however the threads ran.
//!
//! When all is written and durable, the image is read back: see `check`.

mod check;
mod frames;
mod source;
mod tar_hasher;

use std::path::Path;
use std::thread;

use common::clock;

use self::frames::{Lane, Packed, Packer};
use self::source::{Files, Source};
use self::tar_hasher::{Tar, TarHasher};
use crate::canonical_tar::{self, Changes, END, HeaderReader, Kind, ListedEntry, padding};
use crate::chunk::ChunkRef;
use crate::chunker;
use crate::digest::{Blake3, ImageId, Sha256};
use crate::error::{Error, ErrorKind, Result};
use crate::foreign_tar::ForeignTar;
use crate::hint::Hint;
use crate::image::{Locations, read_index};
use crate::layout;
use crate::manifest::{LayoutRef, SpecialFile, XattrEntry};
use crate::pack::{self, PackWriter};
use crate::parallel;
use crate::verified::Fact;
use crate::writer::WritableStore;

/// How far a publication is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// The tree was listed: so many entries, and bytes of content.
    Scanned {
        /// Entries of the tree.
        entries: u64,
        /// Bytes of content in it.
        bytes: u64,
    },
    /// So many bytes of content were read so far.
    Read {
        /// Bytes read.
        bytes: u64,
    },
    /// The image is being read back from the store; so many bytes so far.
    Checked {
        /// Bytes of the tar that were compared.
        bytes: u64,
        /// Bytes of the whole tar.
        total: u64,
    },
}

/// What a publication made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The image.
    pub image: ImageId,
    /// The sha256 of its canonical tar.
    pub sha256: Sha256,
    /// Bytes of its canonical tar.
    pub size: u64,
    /// Its entries.
    pub entries: u64,
    /// The latest time that one of them has, in seconds since 1970.
    pub newest: u64,
    /// Its layout.
    pub layout: LayoutRef,
    /// Its setuid and setgid files.
    pub setuid: Vec<SpecialFile>,
    /// Its extended attributes.
    pub xattrs: Vec<XattrEntry>,
    /// Bytes of the packs and indexes that the store gained.
    pub written: u64,
    /// Chunks that the store lacked.
    pub chunks_new: u64,
    /// The packs that hold the image's chunks.
    pub packs: Vec<Blake3>,
}

/// How often a publication begins anew because of a collector.
const ATTEMPTS: u32 = 5;

impl WritableStore {
    /// Stores the tree at `tree` as an image.
    ///
    /// The tree is read once. Chunks that the store lacks are written, durably, and
    /// at the end the image is read back from the store and each of its chunks
    /// compared with its digest. The image becomes visible only with its manifest
    /// ([`WritableStore::put_manifest`]).
    ///
    /// Nothing else may be mounted inside the tree, and nobody may write to it.
    pub fn publish_tree(
        &self,
        tree: &Path,
        epoch: u64,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Published> {
        let scanned = canonical_tar::scan(tree, epoch)?;
        publish(self, &Files { tree, scanned }, progress)
    }

    /// The same for a tree that comes from elsewhere: what no image can have is
    /// left out and noted. Times later than `epoch`, if there is one, become it.
    pub fn publish_foreign_tree(
        &self,
        tree: &Path,
        epoch: Option<u64>,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<(Published, Changes)> {
        let mut changes = Changes::default();
        let scanned = canonical_tar::scan_lenient(tree, epoch, &mut changes)?;
        let published = publish(self, &Files { tree, scanned }, progress)?;
        Ok((published, changes))
    }

    /// Stores a tar as an image, as [`WritableStore::publish_tree`] does a tree.
    pub fn publish_tar(
        &self,
        tar: &ForeignTar,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Published> {
        publish(self, tar, progress)
    }
}

fn publish(
    store: &WritableStore,
    source: &impl Source,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Published> {
    let list = source.entries();
    let (mut bytes, mut newest) = (0, 0);
    let (mut setuid, mut xattrs) = (Vec::new(), Vec::new());
    for ListedEntry { entry, .. } in list.iter() {
        bytes += entry.size();
        newest = newest.max(entry.mtime);
        setuid.extend(SpecialFile::of(&entry));
        xattrs.extend(XattrEntry::all_of(&entry));
    }
    let entries = list.len();
    progress(Progress::Scanned { entries, bytes });

    let again = known_image(store, source)?;
    let Stored {
        tar,
        layout,
        packs,
        written,
        chunks_new,
    } = match again {
        Some(stored) => stored,
        None => store_image(store, source, progress)?,
    };
    if let (Some(verified), Some(seal)) = (store.verified(), source.seal()) {
        let image = &tar.blake3;
        verified.keep([Fact::Tree { seal, image }]);
    }
    Ok(Published {
        image: tar.blake3,
        sha256: tar.sha256,
        size: tar.size,
        entries,
        newest,
        layout,
        setuid,
        xattrs,
        written,
        chunks_new,
        packs,
    })
}

/// An image whose chunks are in the store.
struct Stored {
    tar: Tar,
    layout: LayoutRef,
    packs: Vec<Blake3>,
    written: u64,
    chunks_new: u64,
}

/// The image as which this machine has published the very same tree before, if all of it is
/// still there.
fn known_image(store: &WritableStore, source: &impl Source) -> Result<Option<Stored>> {
    let known = store.verified().zip(source.seal());
    let Some(image) = known.and_then(|(verified, seal)| verified.image_of(seal)) else {
        return Ok(None);
    };
    if !store.hold_image(&image)? {
        return Ok(None);
    }
    let Ok(manifest) = store.store().manifest(&image) else {
        return Ok(None);
    };
    let tar = Tar {
        blake3: image,
        sha256: manifest.sha256,
        size: manifest.size,
    };
    // Whatever is wrong with it: publishing it as if for the first time says so, or mends it.
    let Ok(packs) = check::check(store, &tar, &manifest.layout, &|_| {}) else {
        return Ok(None);
    };
    let held = store.backend().hold(&pack::keys(packs.iter().copied()))?;
    Ok((!held.contains(&false)).then_some(Stored {
        tar,
        layout: manifest.layout,
        packs,
        written: 0,
        chunks_new: 0,
    }))
}

/// Stores what the store lacks, and reads the image back.
fn store_image(
    store: &WritableStore,
    source: &impl Source,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Stored> {
    let (mut written, mut attempts) = (0, 0);
    let (tree, tar, packs) = loop {
        let known = known_chunks(store)?;
        let mut writer = PackWriter::new(store.backend());
        let (packed, tar) = pack(source, &known, &mut writer, progress)?;
        let (new_packs, gained) = writer.commit()?;
        written += gained;
        let old = pack::keys(packed.packs.iter().copied());
        if !store.backend().hold(&old)?.contains(&false) {
            let mut packs = packed.packs.clone();
            packs.extend(new_packs);
            break (packed, tar, packs.into_iter().collect::<Vec<Blake3>>());
        }
        // What was found at the beginning was collected since, before it was held.
        attempts += 1;
        if attempts == ATTEMPTS {
            return Err(Error::new(
                ErrorKind::Busy,
                "what this image shares with others was collected, again and again",
            ));
        }
    };
    store.hold_image(&tar.blake3)?;
    let published = clock::now();
    let hint = Hint {
        packs: packs.clone(),
        published,
    };
    store.put(&Hint::key(&tar.blake3), &hint.to_json())?;

    check::check(store, &tar, &tree.layout, progress)?;
    let (layout, chunks_new) = (tree.layout, tree.chunks_new);
    Ok(Stored {
        tar,
        layout,
        packs,
        written,
        chunks_new,
    })
}

/// What the store has already. An index that is damaged, or whose pack is not
/// there in full, counts for nothing: its chunks are written again.
fn known_chunks(store: &WritableStore) -> Result<Locations> {
    let mut known = Locations::default();
    let packs = store.backend().list_all(pack::FOLDER)?;
    let packs = packs
        .iter()
        .filter_map(|object| Some((pack::parse_pack_key(&object.key)?, object.size)));
    let packs: Vec<(Blake3, u64)> = packs.collect();
    let indexes = parallel::each(&packs, store.backend().is_remote(), |(pack, size)| {
        let index = read_index(store.backend(), None, pack).ok().flatten()?;
        (index.pack_size() == *size).then_some(index)
    });
    known.add(indexes.into_iter().flatten());
    Ok(known)
}

/// Runs the pipeline.
fn pack(
    source: &impl Source,
    known: &Locations,
    packs: &mut PackWriter<'_>,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<(Packed, Tar)> {
    thread::scope(|scope| {
        let (hasher, hashing) = TarHasher::start(scope);
        let packed = packs.fill(|frames| {
            Producer::new(source, hasher, Packer::new(known, frames)).run(progress)
        })?;
        Ok((packed, hashing.join().map_err(|_| died())?))
    })
}

fn died() -> Error {
    Error::new(ErrorKind::Io, "a thread of the publication has died")
}

/// The first stage.
struct Producer<'a, S> {
    source: &'a S,
    buffer: Vec<u8>,
    rules: HeaderReader,
    hasher: TarHasher,
    packer: Packer<'a>,
    layout: LayoutWriter,
    read: u64,
}

impl<'a, S: Source> Producer<'a, S> {
    fn new(source: &'a S, hasher: TarHasher, packer: Packer<'a>) -> Self {
        Self {
            source,
            buffer: Vec::new(),
            rules: HeaderReader::default(),
            hasher,
            packer,
            layout: LayoutWriter::new(),
            read: 0,
        }
    }

    fn run(mut self, progress: &(dyn Fn(Progress) + Sync)) -> Result<Packed> {
        self.layout.write(&layout::MAGIC, &mut self.packer)?;
        let source = self.source;
        for listed in source.entries().iter() {
            let entry = &listed.entry;
            self.rules.admit(entry)?;
            let header = canonical_tar::encode(entry)?;
            self.hasher.write(&header)?;
            self.layout.write(&header, &mut self.packer)?;
            if let Kind::File { size } = entry.kind {
                self.content(&listed)?;
                self.hasher.write(&END[..padding(size)])?;
                self.read += size;
                progress(Progress::Read { bytes: self.read });
            }
        }
        self.hasher.write(&END)?;
        self.layout.write(&END, &mut self.packer)?;
        let layout = self.layout.finish(&mut self.packer)?;
        self.packer.finish(layout)
    }

    fn content(&mut self, file: &ListedEntry) -> Result<()> {
        let Self {
            source,
            buffer,
            hasher,
            packer,
            layout,
            ..
        } = self;
        source.read(file, buffer, &mut |bytes| {
            let chunk = ChunkRef::of(bytes);
            hasher.write(bytes)?;
            packer.add(Lane::Content, chunk, bytes)?;
            layout.write(&chunk.encode(), packer)
        })
    }
}

/// Cuts the layout into chunks while it is written.
struct LayoutWriter {
    hasher: blake3::Hasher,
    size: u64,
    chunks: Vec<ChunkRef>,
    buffer: Vec<u8>,
}

impl LayoutWriter {
    /// Bytes that are gathered before they are cut, so that what is left over is
    /// moved seldom.
    const BUFFER: usize = 1 << 20;

    fn new() -> Self {
        Self {
            hasher: blake3::Hasher::new(),
            size: 0,
            chunks: Vec::new(),
            buffer: Vec::new(),
        }
    }

    fn write(&mut self, bytes: &[u8], packer: &mut Packer<'_>) -> Result<()> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() < Self::BUFFER {
            Ok(())
        } else {
            self.cut(false, packer)
        }
    }

    fn cut(&mut self, last: bool, packer: &mut Packer<'_>) -> Result<()> {
        let mut done = 0;
        while done < self.buffer.len()
            && let Some(len) = chunker::LAYOUT.cut(&self.buffer[done..], last)
        {
            let bytes = &self.buffer[done..done + len];
            let chunk = ChunkRef::of(bytes);
            packer.add(Lane::Layout, chunk, bytes)?;
            self.chunks.push(chunk);
            done += len;
        }
        self.hasher.update(&self.buffer[..done]);
        self.size += done as u64;
        self.buffer.drain(..done);
        Ok(())
    }

    fn finish(&mut self, packer: &mut Packer<'_>) -> Result<LayoutRef> {
        self.cut(true, packer)?;
        let chunks = std::mem::take(&mut self.chunks);
        Ok(LayoutRef {
            digest: self.hasher.finalize().into(),
            size: self.size,
            chunks,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Manifest;
    use crate::verified::Verified;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn manifest(published: &Published) -> Manifest {
        Manifest {
            schema: crate::manifest::SCHEMA,
            name: "example".parse().unwrap(),
            image: published.image,
            sha256: published.sha256,
            size: published.size,
            entries: published.entries,
            layout: published.layout.clone(),
            arch: "amd64".into(),
            suite: "bookworm".into(),
            epoch: 1,
            packages: Vec::new(),
            wheels: Vec::new(),
            users: Vec::new(),
            setuid: published.setuid.clone(),
            xattrs: published.xattrs.clone(),
            recipe: Sha256::of(b"recipe"),
            lock: Sha256::of(b"lock"),
            builder: "test".into(),
            run: None,
        }
    }

    /// A tree that is as it was is known again; one that is not is read.
    #[test]
    fn an_unchanged_tree_is_not_read_again() {
        // On tmpfs: where /tmp is on an overlay, no tree has a seal.
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let (root, tree) = (dir.path().join("store"), dir.path().join("tree"));
        fs::create_dir_all(tree.join("d")).unwrap();
        fs::write(tree.join("d/a"), "one").unwrap();
        fs::write(tree.join("b"), "two").unwrap();
        let open = || {
            let store = WritableStore::open_or_create(&root).unwrap();
            store.trusting(Verified::open(&dir.path().join("cache")))
        };
        // How many bytes of content were read, and what came of it.
        let publish_at = |store: &WritableStore, scanned| {
            let read = std::sync::atomic::AtomicU64::new(0);
            let published = publish(
                store,
                &Files {
                    tree: &tree,
                    scanned,
                },
                &|progress| {
                    if let Progress::Read { bytes } = progress {
                        read.store(bytes, std::sync::atomic::Ordering::Relaxed);
                    }
                },
            );
            let published = published.unwrap();
            store.put_manifest(&manifest(&published)).unwrap();
            (read.into_inner(), published)
        };
        let settled = || canonical_tar::scan_settled(&tree, 1).unwrap();
        // Changed a moment ago: a write now would leave the same time.
        let scanned = canonical_tar::scan(&tree, 1).unwrap();
        assert_eq!(scanned.seal, None);
        let (read, first) = publish_at(&open(), settled());
        assert_eq!(read, 6);
        let (read, again) = publish_at(&open(), settled());
        assert_eq!(read, 0);
        assert_eq!(again.written, 0);
        let told = |p: &Published| (p.image, p.sha256, p.size, p.layout.clone(), p.packs.clone());
        assert_eq!(told(&first), told(&again));

        // The same length, the same time of modification: only the time of change differs.
        let time = fs::metadata(tree.join("b")).unwrap().modified().unwrap();
        fs::write(tree.join("b"), "owt").unwrap();
        let file = fs::File::options()
            .write(true)
            .open(tree.join("b"))
            .unwrap();
        file.set_modified(time).unwrap();
        let (read, other) = publish_at(&open(), settled());
        assert_eq!(read, 6);
        assert_ne!(other.image, first.image);
        fs::set_permissions(tree.join("d"), fs::Permissions::from_mode(0o700)).unwrap();
        let (read, third) = publish_at(&open(), settled());
        assert_eq!(read, 6);
        assert_ne!(third.image, other.image);

        // Nothing is believed of a store that has lost the image.
        for pack in fs::read_dir(root.join("packs")).unwrap() {
            fs::remove_file(pack.unwrap().path()).unwrap();
        }
        let (read, mended) = publish_at(&open(), settled());
        assert_eq!((read, mended.image), (6, third.image));
        let store = open();
        let manifest = store.store().manifest(&third.image).unwrap();
        store.store().verify_image(&manifest).unwrap();
    }
}
