//! The canonical tar.
//!
//! ```text
//! tar     = root-entry entry* end
//! entry   = [pax-header pax-body padding] header [content padding]
//! end     = 1024 zero bytes, and nothing after them
//! padding = zero bytes up to a multiple of 512
//! ```
//!
//! # Order and names
//!
//! The root comes first and is spelled `./`. All other entries follow in ascending
//! order of the bytes of their names, compared as whole strings. A path is spelled
//! `./etc/passwd`; a directory's has a final slash, `./etc/`. So `tar -xf` unpacks
//! into the current directory, and no name looks like an option or an absolute
//! path. All that is below a directory follows it at once, without a neighbour such
//! as `./etc-old` in between: GNU tar sets a directory's time when it sees a name
//! that is not below it, and anything written there later would change it again.
//!
//! A path has at most 4095 bytes and 256 segments, a segment 1 to 255 bytes; none
//! is `.` or `..`; NUL is not allowed, every other byte is. Each entry's directory
//! comes before it as an entry. A path comes once. There are at most 2^20 entries.
//!
//! # The header
//!
//! POSIX ustar. Numbers are octal with leading zeros up to a final NUL; the
//! checksum is six octal digits, NUL, space. Text is followed by NULs.
//!
//! | field | value |
//! |---|---|
//! | name, prefix | the path. If it has at most 100 bytes, prefix is empty; else it is split at the first slash that leaves at most 100 and at least 1 bytes for name, if prefix then has at most 155; else name has the first 100 bytes and PAX has `path` |
//! | mode | the twelve permission bits; 0777 for a symlink |
//! | uid, gid | up to 2097151; beyond, 0 here and the number in PAX; at most 4294967294 |
//! | size | up to 8589934591 for a file; beyond, 0 here and `size` in PAX; 0 for all else |
//! | mtime | whole seconds since 1970, at most the image's epoch; earlier is 0 |
//! | typeflag | `0` file, `1` hard link, `2` symlink, `5` directory, `x` PAX |
//! | linkname | what a symlink says, untouched, 1 to 4095 bytes; for a hard link the target, spelled as its own entry is; beyond 100 bytes, the first 100 here and `linkpath` in PAX |
//! | magic, version | `ustar` NUL, `00` |
//! | uname, gname | empty |
//! | devmajor, devminor | 0 |
//!
//! # PAX
//!
//! Only before an entry that needs it, never for the whole archive. Its header has
//! the name `././@PaxHeader`, mode 0644, and 0 for owner and time. Its body has one
//! record for each value that ustar cannot say, `path`, `linkpath`, `size`, `uid`,
//! `gid` (decimal, no leading zeros), and `SCHILY.xattr.NAME` for each extended
//! attribute, sorted by the bytes of their keys, at most 1 MiB together.
//!
//! Extended attributes are the image's own: `security.capability`, `user.*`, ACLs
//! and others. Not among them are those that the build host's kernel sets or keeps for one
//! kind of file system: `trusted.overlay.*`, `user.overlay.*`, `security.selinux`,
//! `security.ima`, `security.evm`, `trusted.SGI_ACL_*`, `system.nfs4_*`, `system.cifs_*`,
//! `system.ntfs_*`, `system.richacl`, `btrfs.*`. A writer takes no attribute in either that a
//! kernel would give back changed: an ACL that says no more than the mode, or something else
//! (acl(5)), `user.*` on a symlink, other namespaces. A name is 1 to 255 printable ASCII characters without `=` and
//! `%`, which readers disagree about. A scan leaves the kernel's own out; a tar that
//! has one is refused, because a node's kernel would believe it.
//!
//! # Hard links
//!
//! The first path of a regular file is the file. Each further path is a hard link
//! to that first path; it repeats the file's mode, owner and time, has no content
//! and no extended attributes. Nothing but regular files is linked.
//!
//! # A reader refuses
//!
//! everything else. [`crate::canonical_tar::ErrorKind`] has one kind for each way.
//!
//! # Example
//!
//! A root and one file, from nothing but this page:
//!
//! ```
//! fn header(name: &[u8], mode: &[u8; 7], size: &[u8; 11], flag: u8) -> Vec<u8> {
//!     let mut block = vec![0; 512];
//!     let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
//!     put(0, name);
//!     put(100, mode);
//!     put(108, b"0000000"); // uid
//!     put(116, b"0000000"); // gid
//!     put(124, size);
//!     put(136, b"00000000000"); // mtime
//!     put(148, b"        "); // the checksum, taken as spaces
//!     put(156, &[flag]);
//!     put(257, b"ustar\x0000");
//!     put(329, b"0000000"); // devmajor
//!     put(337, b"0000000"); // devminor
//!     let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
//!     block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
//!     block
//! }
//!
//! let mut tar = header(b"./", b"0000755", b"00000000000", b'5');
//! tar.extend(header(b"./hi", b"0000644", b"00000000005", b'0'));
//! tar.extend(b"hello");
//! tar.resize(tar.len().next_multiple_of(512), 0);
//! tar.extend([0; 1024]);
//!
//! let mut reader = store::canonical_tar::Reader::new(&tar[..]);
//! assert_eq!(reader.next_entry()?.unwrap().path, b"");
//! assert_eq!(reader.next_entry()?.unwrap().path, b"hi");
//! assert_eq!(std::io::read_to_string(reader.content())?, "hello");
//! assert!(reader.next_entry()?.is_none());
//!
//! // The image is called:
//! assert_eq!(store::Blake3::of(&tar).hex(), "f429a3a0801662ddf9d7020af2e9fcd30b105a6762fa43968fb8ab7cd53235b2");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
