//! Reading a store.

use std::collections::HashSet;
use std::io::{self, Read};
use std::sync::Arc;

use sha2::Digest as _;

use crate::backend::{Backend, MARKER, ObjectRange, get_checked};
use crate::build_log::{self, BuildLog};
use crate::cache::{Cache, CachedBackend};
use crate::canonical_tar::{END, padding};
use crate::catalogue::{self, Catalogue, ListedImage};
use crate::chunk::ChunkRef;
use crate::delta::{self, DeltaInfo, PreviousImage};
use crate::digest::{Blake3, ImageId, Sha256};
use crate::error::{Error, ErrorKind, Result};
use crate::hint::{self, Hint};
use crate::image::{Image, hinted, read_index};
use crate::manifest::{self, Manifest, SpecialFile, XattrEntry};
use crate::name::ImageName;
use crate::pack;

/// What the marker says before the version of the format.
const MARKER_PREFIX: &str = "imgbuild store ";

/// The version of the format that this crate reads and writes.
const VERSION: u32 = 1;

/// Folder of manifests, as a prefix of keys.
pub(crate) const IMAGES: &str = "images/";

/// Bytes of an input that are in memory at once.
const PIECE: u64 = 4 << 20;

/// The fewest digits by which an image may be named.
const MIN_PREFIX: usize = 8;

/// The read side of a store, on any backend.
#[derive(Clone)]
pub struct Store {
    source: CachedBackend,
}

impl Store {
    /// Opens the store at `backend`, after a look at its format marker.
    pub fn open(backend: Box<dyn Backend>) -> Result<Self> {
        Self::open_shared(backend.into())
    }

    /// Opens the store on a backend, if one was made there.
    pub fn open_if_made(backend: Box<dyn Backend>) -> Result<Option<Self>> {
        match backend.get(MARKER, 64)? {
            Some(_) => Self::open(backend).map(Some),
            None => Ok(None),
        }
    }

    /// Opens the store on a backend that is shared.
    pub fn open_shared(backend: Arc<dyn Backend>) -> Result<Self> {
        let foreign = |why: String| Err(Error::new(ErrorKind::Foreign, why));
        let place = backend.describe();
        let mut marker = backend.get(MARKER, 64)?;
        let odd = marker.as_ref().is_some_and(|m| parse_marker(m).is_none());
        if odd && backend.invalidate(MARKER, 0..u64::MAX) {
            marker = backend.get(MARKER, 64)?;
        }
        let Some(marker) = marker else {
            return foreign(format!("{place} is not a store: it has no `{MARKER}`"));
        };
        match parse_marker(&marker) {
            Some(VERSION) => Ok(Self {
                source: CachedBackend {
                    backend,
                    cache: None,
                },
            }),
            Some(other) => foreign(format!(
                "{place} is a store of format {other}; this program reads format {VERSION}"
            )),
            None => foreign(format!(
                "{place} is not a store: its `{MARKER}` says something else"
            )),
        }
    }

    /// Adds a cache, which keeps what further versions of an image share.
    #[must_use]
    pub fn with_cache(self, cache: Arc<dyn Cache>) -> Self {
        Self {
            source: CachedBackend {
                cache: Some(cache),
                ..self.source
            },
        }
    }

    pub(crate) fn cache(&self) -> Option<&dyn Cache> {
        self.source.cache()
    }

    /// Of the indexes that an image's hint names, the bytes that are in the cache.
    pub fn cached_index_bytes(&self, image: &ImageId) -> Result<u64> {
        let Some(cache) = self.cache() else {
            return Ok(0);
        };
        let packs = hinted(self.backend(), image)?;
        Ok(packs.iter().filter_map(|pack| cache.index_size(pack)).sum())
    }

    /// Gives the backend and its cache to whoever reads images of this store.
    pub(crate) fn source(&self) -> CachedBackend {
        self.source.clone()
    }

    /// Where the store's bytes come from.
    pub fn backend(&self) -> &dyn Backend {
        self.source.backend()
    }

    /// The manifest of an image.
    pub fn manifest(&self, image: &ImageId) -> Result<Manifest> {
        let key = manifest_key(image);
        let read = |json: Vec<u8>| {
            let manifest = Manifest::from_json(&json)?;
            if manifest.image != *image {
                let why = format_args!("it is the manifest of {}", manifest.image);
                return Err(Error::corrupt(
                    format_args!("{key} in {}", self.backend().describe()),
                    why,
                ));
            }
            Ok(manifest)
        };
        get_checked(self.backend(), &key, manifest::MAX_BYTES, read)?.ok_or_else(|| {
            Error::missing(format_args!("the image {image}"), self.backend().describe())
        })
    }

    /// Every image here, the newest first. Where the backend cannot list, every image
    /// of its catalogue.
    pub fn images(&self) -> Result<Vec<ListedImage>> {
        let Some(ids) = self.ids()? else {
            return self.catalogue();
        };
        let mut images = Vec::new();
        for image in ids {
            let name = self.manifest(&image)?.name;
            let published = self.hint(&image)?.map_or(0, |hint| hint.published);
            images.push(ListedImage {
                image,
                name,
                published,
            });
        }
        sort(&mut images);
        Ok(images)
    }

    /// The image that `text` means: a digest, a unique prefix of one with 8 or
    /// more digits, or a name (its newest image).
    pub fn resolve(&self, text: &str) -> Result<ImageId> {
        if let Ok(image) = text.parse() {
            return Ok(image);
        }
        let digits = text.strip_prefix("blake3:");
        if let Some(found) = self.by_prefix(digits.unwrap_or(text))? {
            return Ok(found);
        }
        let none = || {
            Error::missing(
                format_args!("an image called `{}`", text.escape_default()),
                self.backend().describe(),
            )
        };
        if digits.is_some() {
            return Err(none());
        }
        let name: ImageName = text
            .parse()
            .map_err(|error| Error::new(ErrorKind::Invalid, format!("{error}")))?;
        let newest = self
            .images()?
            .into_iter()
            .find(|listed| listed.name == name);
        newest.map(|listed| listed.image).ok_or_else(none)
    }

    /// A retained input, compared with its digest; `None` if it is not here. An
    /// error if it has more than `limit` bytes: this is for texts such as locks.
    pub fn input(&self, digest: &Sha256, limit: u64) -> Result<Option<Vec<u8>>> {
        let key = input_key(digest);
        get_checked(self.backend(), &key, limit, |bytes| {
            let found = Sha256::of(&bytes);
            if found == *digest {
                return Ok(bytes);
            }
            let place = self.backend().describe();
            Err(Error::corrupt(
                format_args!("{key} in {place}"),
                format_args!("its digest is {found}"),
            ))
        })
    }

    /// The content of a retained input of `size` bytes, piece by piece. Whoever takes
    /// all of it compares it with its digest.
    pub fn read_input(&self, digest: &Sha256, size: u64) -> impl Read + '_ {
        Pieces {
            backend: self.backend(),
            key: input_key(digest),
            next: 0,
            size,
            piece: io::Cursor::default(),
        }
    }

    /// Announces that these inputs, with their sizes, are going to be read.
    pub fn prefetch_inputs(&self, inputs: impl IntoIterator<Item = (Sha256, u64)>) {
        let wanted = inputs.into_iter().map(|(digest, size)| ObjectRange {
            key: input_key(&digest),
            range: 0..size,
        });
        self.backend().prefetch(wanted.collect());
    }

    /// What the last build of an image printed, if the store keeps that.
    pub fn log(&self, image: &ImageId) -> Result<Option<BuildLog>> {
        get_checked(
            self.backend(),
            &BuildLog::key(image),
            build_log::MAX_BYTES,
            |bytes| BuildLog::decode(&bytes),
        )
    }

    /// The image that `manifest` describes, ready to be read.
    pub fn image(&self, manifest: &Manifest) -> Result<Image> {
        Image::open(self.source(), manifest)
    }

    /// What the store says about a delta between two images, if it has one that can be read.
    pub fn delta(&self, from: &ImageId, to: &ImageId) -> Result<Option<DeltaInfo>> {
        let read = |json: Vec<u8>| DeltaInfo::from_json(&json);
        let key = DeltaInfo::key(from, to);
        let pair = get_checked(self.backend(), &key, delta::pair_limit(), read)?;
        Ok(pair.filter(|pair| pair.is_current() && pair.from == *from && pair.to == *to))
    }

    /// The image that `manifest` describes, to be read where another image is: as far
    /// as the delta goes, its chunks are made from those of `previous`.
    pub fn image_with_delta(
        &self,
        manifest: &Manifest,
        pair: &DeltaInfo,
        previous: Arc<dyn PreviousImage>,
    ) -> Result<Image> {
        Image::with_delta(self.source(), manifest, pair, previous)
    }

    /// Reads every byte of an image and compares it with its manifest: the layout,
    /// each chunk, both digests of the tar, its size, the number of entries and
    /// the lists of privileged files.
    pub fn verify_image(&self, manifest: &Manifest) -> Result<()> {
        let image = self.image(manifest)?;
        Self::verify_tar(manifest, &image, &mut |_| {})?;
        Self::verify_lists(manifest, &image)
    }

    /// Expands the image that `manifest` describes and compares both digests of the tar, telling
    /// `each` how many bytes of it came by.
    pub(crate) fn verify_tar(
        manifest: &Manifest,
        image: &Image,
        each: &mut dyn FnMut(u64),
    ) -> Result<()> {
        let (mut blake3, mut sha256) = (blake3::Hasher::new(), sha2::Sha256::new());
        image.expand(&mut |bytes| {
            blake3.update(bytes);
            sha256.update(bytes);
            each(bytes.len() as u64);
            Ok(())
        })?;
        image.check_digest(Blake3::from(blake3.finalize()))?;
        if Sha256::finish(sha256) == manifest.sha256 {
            return Ok(());
        }
        Err(wrong(manifest, "sha256"))
    }

    /// Compares what `manifest` says of the image's entries with the layout.
    pub(crate) fn verify_lists(manifest: &Manifest, image: &Image) -> Result<()> {
        let wrong = |what| Err(wrong(manifest, what));
        let (mut entries, mut size) = (0, END.len() as u64);
        let (mut setuid, mut xattrs) = (manifest.setuid.iter(), manifest.xattrs.iter());
        for item in image.entries()? {
            let (entry, _) = item?;
            entries += 1;
            size += entry.size() + padding(entry.size()) as u64;
            size += crate::canonical_tar::encode(&entry)?.len() as u64;
            // Compared one by one: an image may have more of them than fit into memory.
            if SpecialFile::of(&entry).is_some_and(|special| setuid.next() != Some(&special)) {
                return wrong("list of setuid files");
            }
            if XattrEntry::all_of(&entry).any(|xattr| xattrs.next() != Some(&xattr)) {
                return wrong("list of extended attributes");
            }
        }
        if entries != manifest.entries {
            return wrong("number of entries");
        }
        if size != manifest.size {
            return wrong("size");
        }
        if setuid.next().is_some() {
            return wrong("list of setuid files");
        }
        if xattrs.next().is_some() {
            return wrong("list of extended attributes");
        }
        Ok(())
    }

    /// Reads the objects that an image is stored in, and compares each with its
    /// own name or checksum: also bytes that no reader of this image needs.
    pub fn verify_objects(&self, manifest: &Manifest) -> Result<()> {
        let backend = self.backend();
        let key = Hint::key(&manifest.image);
        let json = backend.get(&key, hint::MAX_BYTES)?;
        let json = json.ok_or_else(|| Error::missing(&key, backend.describe()))?;
        for pack in &Hint::from_json(&json)?.packs {
            let index = read_index(backend, None, pack)?
                .ok_or_else(|| Error::missing(pack::index_key(pack), backend.describe()))?;
            let key = pack::pack_key(pack);
            let (mut hasher, mut offset, size) = (blake3::Hasher::new(), 0, index.pack_size());
            while offset < size {
                let len = (size - offset).min(pack::FRAME_MAX as u64);
                hasher.update(&backend.get_range(&key, offset, len)?);
                offset += len;
            }
            if Blake3::from(hasher.finalize()) != *pack {
                return Err(Error::corrupt(
                    format_args!("{key} in {}", backend.describe()),
                    "its digest is not its name",
                ));
            }
        }
        Ok(())
    }

    /// Whether the objects that an image needs are all here: its manifest, and the
    /// packs of its hint in full length with their indexes, the layout among them.
    /// Cheap: no content is read, so damage inside a pack is not noticed.
    pub fn has_image_objects(&self, manifest: &Manifest) -> Result<bool> {
        let backend = self.backend();
        let present = backend.get(&manifest_key(&manifest.image), manifest::MAX_BYTES)?;
        let Some(hint) = self.hint(&manifest.image)?.filter(|_| present.is_some()) else {
            return Ok(false);
        };
        // A set of the few that are needed, not an index of all that are there.
        let mut wanted: HashSet<ChunkRef> = manifest.layout.chunks.iter().copied().collect();
        for pack in &hint.packs {
            let Some(index) = read_index(backend, None, pack)? else {
                return Ok(false);
            };
            // The last byte is there only if all are.
            let last = index.pack_size() - 1;
            if backend.get_range(&pack::pack_key(pack), last, 1).is_err() {
                return Ok(false);
            }
            for chunk in index.chunks() {
                wanted.remove(chunk);
            }
        }
        Ok(wanted.is_empty())
    }

    /// The hint of an image; a damaged one is as good as none.
    pub(crate) fn hint(&self, image: &ImageId) -> Result<Option<Hint>> {
        let json = self.backend().get(&Hint::key(image), hint::MAX_BYTES)?;
        Ok(json.and_then(|json| Hint::from_json(&json).ok()))
    }

    /// The images that the store lists; `None` where it cannot.
    pub(crate) fn ids(&self) -> Result<Option<Vec<ImageId>>> {
        let image = |key: &String| {
            let hex = key.strip_prefix(IMAGES)?.strip_suffix(".json")?;
            ImageId::from_hex(hex).ok()
        };
        let keys = self.backend().list(IMAGES)?;
        Ok(keys.map(|keys| keys.iter().filter_map(image).collect()))
    }

    /// The images that the catalogue lists.
    pub(crate) fn catalogue(&self) -> Result<Vec<ListedImage>> {
        let read = |json: Vec<u8>| Catalogue::from_json(&json);
        let listed = get_checked(self.backend(), catalogue::KEY, catalogue::MAX_BYTES, read)?;
        listed.ok_or_else(|| {
            Error::missing(catalogue::KEY, self.backend().describe()).with_hint(
                "name images by ENV/NAME or whole digests; the next build into that store, or \
                 `imgbuild store gc --delete` there, makes the catalogue",
            )
        })
    }

    /// What a catalogue should say: the rows of the one `before` where they are still
    /// true, and what the store says about the other images. `changed` is looked at
    /// in any case.
    #[cfg(feature = "write")]
    pub(crate) fn current_catalogue(
        &self,
        changed: Option<&ImageId>,
        before: Option<&[u8]>,
    ) -> Result<Vec<ListedImage>> {
        // A damaged one is made anew.
        let known = before
            .and_then(|json| Catalogue::from_json(json).ok())
            .unwrap_or_default();
        let mut known: std::collections::HashMap<ImageId, ListedImage> =
            known.into_iter().map(|row| (row.image, row)).collect();
        let mut images = Vec::new();
        for image in self.ids()?.unwrap_or_default() {
            let row = known.remove(&image).filter(|_| Some(&image) != changed);
            // An image whose manifest is damaged is not worth finding by its name.
            let row = row.or_else(|| {
                Some(ListedImage {
                    image,
                    name: self.manifest(&image).ok()?.name,
                    published: self.hint(&image).ok()?.map_or(0, |hint| hint.published),
                })
            });
            images.extend(row);
        }
        sort(&mut images);
        Ok(images)
    }

    /// The one image whose digest begins with `digits`, if that is what they are.
    fn by_prefix(&self, digits: &str) -> Result<Option<ImageId>> {
        let hex = digits
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if digits.len() < MIN_PREFIX || !hex {
            return Ok(None);
        }
        let ids = match self.ids()? {
            Some(ids) => ids,
            // A whole digest needs no list.
            None => match ImageId::from_hex(digits) {
                Ok(image) => vec![image],
                Err(_) => self.catalogue()?.into_iter().map(|row| row.image).collect(),
            },
        };
        let mut found = ids
            .into_iter()
            .filter(|image| image.hex().starts_with(digits));
        match (found.next(), found.next()) {
            (Some(_), Some(_)) => Err(Error::new(
                ErrorKind::Ambiguous,
                format!("more than one image begins with {digits}"),
            )),
            (first, _) => Ok(first),
        }
    }
}

/// A manifest that says something else of its image than is true.
fn wrong(manifest: &Manifest, what: &str) -> Error {
    let image = format_args!("the manifest of {}", manifest.image);
    Error::corrupt(image, format_args!("its {what} is not the image's"))
}

/// An object, read in pieces that fit into memory.
struct Pieces<'a> {
    backend: &'a dyn Backend,
    key: String,
    next: u64,
    size: u64,
    piece: io::Cursor<Vec<u8>>,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.piece.read(buffer)?;
        if len > 0 || buffer.is_empty() || self.next == self.size {
            return Ok(len);
        }
        let len = (self.size - self.next).min(PIECE);
        let piece = self.backend.get_range(&self.key, self.next, len);
        self.piece = io::Cursor::new(piece.map_err(io::Error::other)?);
        self.next += len;
        self.piece.read(buffer)
    }
}

/// The newest first.
fn sort(images: &mut [ListedImage]) {
    images.sort_by(|a, b| b.published.cmp(&a.published).then(a.image.cmp(&b.image)));
}

/// The key of an image's manifest.
pub(crate) fn manifest_key(image: &ImageId) -> String {
    format!("{IMAGES}{}.json", image.hex())
}

/// Folder of pins, as a prefix of keys.
#[cfg(feature = "write")]
pub(crate) const PINS: &str = "pins/";

/// Folder of attestations, as a prefix of keys.
#[cfg(feature = "write")]
pub(crate) const ATTESTATIONS: &str = "attestations/";

/// The key of an image's pin.
#[cfg(feature = "write")]
pub(crate) fn pin_key(image: &ImageId) -> String {
    format!("{PINS}{}.json", image.hex())
}

/// Folder of retained inputs, as a prefix of keys.
pub(crate) const INPUTS: &str = "inputs/sha256/";

/// The key of a retained input.
pub(crate) fn input_key(digest: &Sha256) -> String {
    format!("{INPUTS}{}", digest.hex())
}

/// The bytes of the marker.
#[cfg(feature = "write")]
pub(crate) fn marker() -> String {
    format!("{MARKER_PREFIX}{VERSION}\n")
}

fn parse_marker(marker: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(marker).ok()?;
    let version = text.strip_prefix(MARKER_PREFIX)?.strip_suffix('\n')?;
    // `+1` and `01` parse as numbers; only one spelling may.
    let number: u32 = version.parse().ok()?;
    (number.to_string() == version).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::parse_marker;

    #[test]
    fn a_marker_has_one_spelling() {
        assert_eq!(parse_marker(b"imgbuild store 1\n"), Some(1));
        assert_eq!(parse_marker(b"imgbuild store 20\n"), Some(20));
        for wrong in [
            "", "1", "+1\n", "01\n", "-1\n", " 1\n", "1 \n", "1\n\n", "\n",
        ] {
            let marker = format!("imgbuild store {wrong}");
            assert_eq!(parse_marker(marker.as_bytes()), None, "{marker:?}");
        }
    }
}
