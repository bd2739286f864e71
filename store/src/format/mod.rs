//! The formats, one page each.
//!
//! These modules contain no code and exist only in the documentation. Each page
//! has the grammar, the version, and what a reader must refuse. All integers in
//! binary formats are little-endian; `digest` is the 32 bytes of a blake3 digest.
//!
//! | page | object | may change |
//! |---|---|---|
//! | [`tar`] | none: it is what an image expands to | never |
//! | [`pack`] | `packs/HEX.pack` | never |
//! | [`index`] | `packs/HEX.index` | never |
//! | [`layout`] | chunks in packs | never |
//! | [`manifest`] | `images/HEX.json` | never |
//! | [`hint`] | `hints/HEX.json` | yes |
//! | [`build_log`] | `logs/HEX.json.zst` | yes |
//! | [`attestation`] | `attestations/HEX/SHA256.json`, `attestations/HEX.json` | the list |
//! | [`environment`] | `env/NAME/...` | `timestamp.json` and `history.json` |
//! | [`delta`] | `deltas/HEX.delta`, `deltas/HEX/HEX.json` | the description |
//! | [`receipt`] | `receipts/NODE/N.json`, `fleet/ENV.json` | `fleet/` |
//! | [`export`] | none: files that are carried by hand | never |
//! | [`store`] | `imgbuild-store` | never |
//! | [`maintenance`] | `pins/HEX.json`, `quarantine/KEY` | yes |
//! | [`inventory`] | `inventory/HEX.json` | yes |
//! | [`catalogue`] | `catalogue.json` | yes |
//!
//! `HEX` is 64 lower-case hexadecimal digits: of the pack's digest for packs and
//! indexes, of the image's for manifests, hints, logs and inventories.
//!
//! # A store, byte by byte
//!
//! The image of [`tar`]'s example in a store that no program of ours has written:
//! whoever writes these bytes has a store, and a reader that reads them reads the
//! formats as they are described.
//!
//! ```
//! use store::canonical_tar::{Entry, Kind, encode};
//! use store::{Blake3, LocalReader, Sha256, Store};
//!
//! let entry = |path: &str, kind, mode| Entry {
//!     path: path.into(), kind, mode, uid: 0, gid: 0, mtime: 0, xattrs: Default::default(),
//! };
//! let root = encode(&entry("", Kind::Directory, 0o755))?;
//! let file = encode(&entry("hi", Kind::File { size: 5 }, 0o644))?;
//! let end = [0; 1024];
//! let tar = [&root[..], &file, b"hello", &[0; 507], &end].concat();
//! let image = Blake3::of(&tar);
//!
//! // The layout: the tar's headers, and where its content was, what it consists of.
//! let hello = [&Blake3::of(b"hello").bytes()[..], &5_u32.to_le_bytes()].concat();
//! let layout = [b"imglyt\x00\x01", &root[..], &file, &hello, &end].concat();
//! let whole = [&Blake3::of(&layout).bytes()[..], &2092_u32.to_le_bytes()].concat();
//!
//! // The pack: two chunks, each in a frame of its own and not compressed.
//! let zstd = b"\x28\xb5\x2f\xfd";
//! let pack = [
//!     &b"imgpak\x00\x01"[..],
//!     zstd, b"\x20\x05", b"\x29\x00\x00", b"hello",
//!     zstd, b"\x60\x2c\x07", b"\x61\x41\x00", &layout,
//! ]
//! .concat();
//! let name = Blake3::of(&pack);
//!
//! // Its index: for each frame the stored bytes, the number of chunks, the chunks.
//! let number = |number: u32| number.to_le_bytes();
//! let mut index = [b"imgidx\x00\x01", &name.bytes()[..], &number(2)].concat();
//! index.extend([&number(14)[..], &number(1), &hello].concat());
//! index.extend([&number(2102)[..], &number(1), &whole].concat());
//! index.extend(*Blake3::of(&index).bytes());
//! assert_eq!((pack.len(), index.len()), (22 + 2102, 164));
//!
//! let hint = format!(r#"{{"packs":["{name}"],"published":1700000000}}"#);
//! let manifest = format!(
//!     r#"{{
//!   "schema": 1, "name": "example", "image": "{image}", "sha256": "{}", "size": 2560,
//!   "entries": 2,
//!   "layout": {{"digest": "{}", "size": 2092, "chunks": ["{}:2092"]}},
//!   "arch": "amd64", "suite": "bookworm", "epoch": 0, "packages": [], "wheels": [],
//!   "users": [], "setuid": [], "xattrs": [], "recipe": "{}", "lock": "{}",
//!   "builder": "by hand"
//! }}"#,
//!     Sha256::of(&tar), Blake3::of(&layout), Blake3::of(&layout),
//!     Sha256::of(b"recipe"), Sha256::of(b"lock"),
//! );
//!
//! let place = tempfile::tempdir()?;
//! let put = |key: String, bytes: &[u8]| -> std::io::Result<()> {
//!     let path = place.path().join(key);
//!     std::fs::create_dir_all(path.parent().unwrap())?;
//!     std::fs::write(path, bytes)
//! };
//! put("imgbuild-store".into(), b"imgbuild store 1\n")?;
//! put(format!("packs/{}.pack", name.hex()), &pack)?;
//! put(format!("packs/{}.index", name.hex()), &index)?;
//! put(format!("hints/{}.json", image.hex()), hint.as_bytes())?;
//! put(format!("images/{}.json", image.hex()), manifest.as_bytes())?;
//!
//! let store = Store::open(Box::new(LocalReader::open(place.path())?))?;
//! let manifest = store.manifest(&image)?;
//! store.verify_image(&manifest)?;
//! store.verify_objects(&manifest)?;
//! let mut copied = Vec::new();
//! store.image(&manifest)?.copy_tar(&mut copied)?;
//! assert_eq!(copied, tar);
//!
//! assert_eq!(name.hex(), "0164bb8765242b89f34f37897241d18990ba0723c41c8a4de540fadf0e4ea415");
//! assert_eq!(Blake3::of(&layout).hex(), "bdbf27722bd86a282a409ec488919ef0646584de7978a796ac552598cdf2f5eb");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod attestation;
pub mod build_log;
pub mod catalogue;
pub mod delta;
pub mod environment;
pub mod export;
pub mod hint;
pub mod index;
pub mod inventory;
pub mod layout;
pub mod maintenance;
pub mod manifest;
pub mod pack;
pub mod receipt;
pub mod store;
pub mod tar;
