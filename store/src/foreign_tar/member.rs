//! The members of an archive: headers, and what other headers before them add.

use std::collections::BTreeMap;

use base64ct::{Base64Unpadded, Encoding};
use common::percent;
use tar::Header;

use super::error::{broken, refuse};
use super::pax::{self, Records, last, number};
use super::source::Source;
use super::sparse::{Data, Map};
use crate::canonical_tar::{self, BLOCK, Change, Changes};
use crate::error::Result;

/// One member, as the archive states it.
#[derive(Debug)]
pub(super) struct Member {
    /// The path, without `.`, `..` and slashes at either end.
    pub(super) path: Vec<u8>,
    pub(super) kind: MemberKind,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Seconds since 1970.
    pub(super) mtime: i64,
    /// Whether there was a fraction of a second.
    pub(super) fraction: bool,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Where its header is, for errors.
    pub(super) offset: u64,
}

#[derive(Debug)]
pub(super) enum MemberKind {
    Directory,
    File {
        size: u64,
        data: Data,
    },
    Symlink {
        target: Vec<u8>,
    },
    /// The target is a path as [`Member::path`] is.
    Hardlink {
        target: Vec<u8>,
    },
    /// What no image has.
    Dropped(Change),
}

/// The most bytes that headers for the whole archive may leave in force.
const MAX_GLOBAL: usize = 64 << 10;

/// The most bytes of names, targets, attributes and maps of holes of all members: they
/// are in memory until the image is packed, and a small archive can state any of them a
/// million times.
const MAX_STATED: usize = 256 << 20;

/// The most bytes of holes of all files. They are packed as zeros are.
const MAX_HOLES: u64 = 256 << 30;

/// Reads members, and remembers what holds for all that follow.
#[derive(Debug, Default)]
pub(super) struct Members {
    global: Records,
    entries: u64,
    stated: usize,
    holes: u64,
}

/// What the headers before a member's own say about it.
#[derive(Default)]
struct ExtendedHeaders {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    local: Option<Records>,
}

impl ExtendedHeaders {
    fn is_empty(&self) -> bool {
        self.name.is_none() && self.link.is_none() && self.local.is_none()
    }
}

impl Members {
    /// The next member; `None` at the end.
    pub(super) fn next(
        &mut self,
        source: &mut Source<'_>,
        changes: &mut Changes,
    ) -> Result<Option<Member>> {
        let mut before = ExtendedHeaders::default();
        loop {
            let offset = source.at();
            let Some(block) = source.block()? else {
                return Err(broken("the archive is cut short: it has no end", offset));
            };
            if block == [0; BLOCK] {
                return if before.is_empty() {
                    Ok(None)
                } else {
                    Err(broken(
                        "a long name or PAX header is followed by nothing",
                        offset,
                    ))
                };
            }
            check(&block, offset)?;
            let header = Header::from_byte_slice(&block);
            let size = field(&header.as_old().size)
                .ok_or_else(|| broken("a size is not a number", offset))?;
            let text = |source: &mut Source<'_>| {
                if size > pax::MAX_NAME {
                    return Err(broken("a name is too long", offset));
                }
                let mut name = source.bytes(size)?;
                let len = name.iter().position(|byte| *byte == 0);
                name.truncate(len.unwrap_or(name.len()));
                Ok(name)
            };
            match block[156] {
                b'L' => before.name = Some(text(source)?),
                b'K' => before.link = Some(text(source)?),
                b'x' | b'X' => before.local = Some(records(source, size, offset)?),
                b'g' => {
                    let records = records(source, size, offset)?;
                    for (key, value) in records {
                        if [&b"path"[..], b"linkpath", b"size"].contains(&key.as_slice())
                            || key.starts_with(b"GNU.sparse.")
                        {
                            let why = "a header for the whole archive names or sizes one file";
                            return Err(broken(why, offset));
                        }
                        self.global.retain(|(known, _)| *known != key);
                        self.global.push((key, value));
                    }
                    let bytes = self
                        .global
                        .iter()
                        .map(|(key, value)| key.len() + value.len());
                    if bytes.sum::<usize>() > MAX_GLOBAL {
                        let why = "the headers for the whole archive state too much";
                        return Err(broken(why, offset));
                    }
                }
                b'V' => {
                    changes.add(Change::NotContent, &header.path_bytes());
                    source.keep(size)?;
                }
                b'M' | b'N' => {
                    return Err(refuse(
                        &header.path_bytes(),
                        "it goes on from another volume of the archive",
                        offset,
                    ));
                }
                flag => {
                    self.entries += 1;
                    // More entries than an image may have are not read: a name may
                    // come twice, but not without end.
                    if self.entries > 2 * canonical_tar::MAX_ENTRIES {
                        return Err(broken("there are too many entries", offset));
                    }
                    let head = Head {
                        header,
                        flag,
                        size,
                        offset,
                    };
                    let member = self.member(&head, before, source, changes)?;
                    self.count(&member)?;
                    return Ok(Some(member));
                }
            }
        }
    }

    /// Adds what a member states to that of all before it; an error if it is too much.
    fn count(&mut self, member: &Member) -> Result<()> {
        let mut stated = member.path.len();
        for (name, value) in &member.xattrs {
            stated += name.len() + value.len();
        }
        match &member.kind {
            MemberKind::Symlink { target } | MemberKind::Hardlink { target } => {
                stated += target.len();
            }
            MemberKind::File {
                size,
                data: Data::Sparse(extents),
            } => {
                stated += size_of_val(&**extents);
                let stored: u64 = extents.iter().map(|extent| extent.len).sum();
                self.holes = self.holes.saturating_add(size - stored);
            }
            _ => {}
        }
        self.stated += stated;
        let fail = |why| Err(refuse(&member.path, why, member.offset));
        if self.holes > MAX_HOLES {
            return fail("the holes of files are more than 256 GiB up to here");
        }
        if self.stated > MAX_STATED {
            return fail("names and attributes are more than 256 MiB up to here");
        }
        Ok(())
    }

    fn member(
        &self,
        head: &Head<'_>,
        before: ExtendedHeaders,
        source: &mut Source<'_>,
        changes: &mut Changes,
    ) -> Result<Member> {
        let offset = head.offset;
        let mut records = self.global.clone();
        records.extend(before.local.into_iter().flatten());
        let get = |key: &[u8]| last(&records, key);

        // The name first: every other error can then say whose it is.
        let stated = head.header.path_bytes().into_owned();
        let long = get(b"GNU.sparse.name").or(get(b"path")).map(<[u8]>::to_vec);
        let name = one(long, before.name).ok_or_else(|| {
            let why = "its PAX header and its long name are two different names";
            refuse(&stated, why, offset)
        })?;
        let name = name.unwrap_or(stated);
        let path = relative(&name, offset)?;
        if name.first() == Some(&b'/') {
            changes.add(Change::AbsoluteName, &name);
        }
        let fail = |why: &str| refuse(&path, why, offset);

        let mut stored = head.size;
        if let Some(text) = get(b"size") {
            let size = pax::decimal(text).ok_or_else(|| fail("its size is not a number"))?;
            // Beyond 8 GiB ustar cannot say it, and says anything.
            let ustar_can = size < 1 << 33;
            if ustar_can && ![0, size].contains(&stored) {
                return Err(fail("its PAX header and its header state two sizes"));
            }
            stored = size;
        }
        let link = || -> Result<Vec<u8>> {
            let long = get(b"linkpath").map(<[u8]>::to_vec);
            let link = one(long, before.link.clone()).ok_or_else(|| {
                fail("its PAX header and its long link are two different targets")
            })?;
            let link = link.or_else(|| {
                head.header
                    .link_name_bytes()
                    .map(std::borrow::Cow::into_owned)
            });
            Ok(link.unwrap_or_default())
        };
        let announced = stored;
        let nothing_stored = || match announced {
            0 => Ok(()),
            _ => Err(fail(
                "it is not a file and has content: readers disagree on what follows",
            )),
        };

        let kind = match head.flag {
            // Before there was a type for them, directories ended in a slash.
            0 | b'0' if name.last() == Some(&b'/') => {
                nothing_stored()?;
                MemberKind::Directory
            }
            0 | b'0' | b'7' => match Map::pax(&records, source, &mut stored)? {
                Some(map) => sparse(map, &path, stored, source, offset)?,
                None => MemberKind::File {
                    size: stored,
                    data: Data::At(source.keep(stored)?),
                },
            },
            b'S' => {
                let map = Map::gnu(head.header, source)?;
                sparse(map, &path, stored, source, offset)?
            }
            b'1' => {
                nothing_stored()?;
                let target = link()?;
                let target = relative(&target, offset).map_err(|_| {
                    fail("the hard link's target is outside the tree, or no path at all")
                })?;
                MemberKind::Hardlink { target }
            }
            b'2' => {
                nothing_stored()?;
                let target = link()?;
                canonical_tar::check_target(&target).map_err(|kind| fail(&kind.to_string()))?;
                MemberKind::Symlink { target }
            }
            b'3' | b'4' => MemberKind::Dropped(Change::Device),
            b'5' => {
                nothing_stored()?;
                MemberKind::Directory
            }
            b'6' => MemberKind::Dropped(Change::Fifo),
            b'D' => {
                // An incremental archive's list of the names in it.
                source.keep(stored)?;
                MemberKind::Directory
            }
            other => {
                let other = char::from(other).escape_default();
                return Err(fail(&format!("its type `{other}` is unknown")));
            }
        };
        if matches!(kind, MemberKind::Dropped(_)) {
            nothing_stored()?;
        }

        let old = head.header.as_old();
        let id = |key: &[u8], field: &[u8]| {
            let number = match get(key) {
                Some(text) => pax::decimal(text),
                None => self::field(field),
            };
            number
                .and_then(|number| u32::try_from(number).ok())
                .ok_or_else(|| fail("its owner is out of range"))
        };
        let (uid, gid) = (id(b"uid", &old.uid)?, id(b"gid", &old.gid)?);
        let time = match get(b"mtime") {
            Some(text) => pax::time(text),
            None => number(&old.mtime).map(|seconds| (seconds, false)),
        };
        let (mtime, fraction) = time.ok_or_else(|| fail("its time is not a number"))?;
        let mode = field(&old.mode).ok_or_else(|| fail("its mode is not a number"))?;
        let xattrs = xattrs(&records, &path, changes);
        Ok(Member {
            path,
            kind,
            // Some archives have the file's type there, too.
            mode: (mode & 0o7777) as u32,
            uid,
            gid,
            mtime,
            fraction,
            xattrs,
            offset,
        })
    }
}

/// A member's own header.
struct Head<'h> {
    header: &'h Header,
    flag: u8,
    /// The size that it states.
    size: u64,
    offset: u64,
}

fn sparse(
    map: Map,
    path: &[u8],
    stored: u64,
    source: &mut Source<'_>,
    offset: u64,
) -> Result<MemberKind> {
    let at = source.keep(stored)?;
    Ok(MemberKind::File {
        size: map.size,
        data: map.data(path, stored, at, offset)?,
    })
}

/// Merges two optional values of one field; `None` if they contradict each other.
#[expect(clippy::option_option, reason = "nothing said is not a contradiction")]
fn one(a: Option<Vec<u8>>, b: Option<Vec<u8>>) -> Option<Option<Vec<u8>>> {
    match (a, b) {
        (Some(a), Some(b)) if a != b => None,
        (a, b) => Some(a.or(b)),
    }
}

fn records(source: &mut Source<'_>, size: u64, offset: u64) -> Result<Records> {
    if size > pax::MAX_BODY {
        return Err(broken("a PAX header is too long", offset));
    }
    pax::parse(&source.bytes(size)?).ok_or_else(|| broken("a PAX header is malformed", offset))
}

/// The checksum; old programs added signed bytes.
fn check(block: &[u8; BLOCK], offset: u64) -> Result<()> {
    let sums = block.iter().enumerate().fold((0, 0), |sums, (at, byte)| {
        let byte = if (148..156).contains(&at) {
            b' '
        } else {
            *byte
        };
        (
            sums.0 + i64::from(byte),
            sums.1 + i64::from(byte.cast_signed()),
        )
    });
    let stated = number(&block[148..156]);
    if stated == Some(sums.0) || stated == Some(sums.1) {
        return Ok(());
    }
    let why = if offset == 0 {
        "this is not a tar"
    } else {
        "a header's checksum is wrong: the archive is damaged"
    };
    Err(broken(why, offset))
}

fn field(field: &[u8]) -> Option<u64> {
    number(field).and_then(|number| u64::try_from(number).ok())
}

/// A name as a path of the tree.
fn relative(name: &[u8], offset: u64) -> Result<Vec<u8>> {
    let mut path = Vec::with_capacity(name.len());
    for segment in name.split(|byte| *byte == b'/') {
        match segment {
            b"" | b"." => {}
            b".." => return Err(refuse(name, "the path contains `..`", offset)),
            _ => {
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(segment);
            }
        }
    }
    if name.is_empty() {
        return Err(refuse(name, "it has no name", offset));
    }
    canonical_tar::check_path(&path).map_err(|kind| refuse(name, &kind.to_string(), offset))?;
    Ok(path)
}

/// The extended attributes among the records, in the two forms that are in use.
fn xattrs(records: &Records, path: &[u8], changes: &mut Changes) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut second = BTreeMap::new();
    for (key, value) in records {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            found.insert(name.to_vec(), value.clone());
        } else if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
            let text = value.iter().filter(|byte| **byte != b'=').copied();
            let text = String::from_utf8(text.collect()).unwrap_or_default();
            match (percent::decode(name), Base64Unpadded::decode_vec(&text)) {
                (Some(name), Ok(value)) => {
                    second.insert(name, value);
                }
                _ => changes.add(Change::Xattr, path),
            }
        } else if key.starts_with(b"SCHILY.acl.") && !value.is_empty() {
            changes.add(Change::Acl, path);
        } else if key.starts_with(b"RHT.security.") {
            changes.add(Change::Xattr, path);
        }
    }
    // bsdtar writes both forms; the first is the value itself.
    for (name, value) in second {
        found.entry(name).or_insert(value);
    }
    found.retain(|name, _| {
        let keep = canonical_tar::is_xattr_name(name);
        if !keep {
            changes.add(Change::Xattr, path);
        }
        keep
    });
    found
}
