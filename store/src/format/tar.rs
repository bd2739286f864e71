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
//! | uid, gid | up to 2097151; beyond, 0 here and the number in PAX |
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
//! and others. Not among them are those that the build host's kernel sets,
//! `trusted.overlay.*`, `user.overlay.*`, `security.selinux`, `security.ima`,
//! `security.evm`. A name is 1 to 255 printable ASCII characters without `=` and
//! `%`, which readers disagree about.
//!
//! # Hard links
//!
//! The first path of a regular file is the file. Each further path is a hard link
//! to that first path; it repeats the file's mode, owner and time, has no content
//! and no extended attributes. Nothing but regular files is linked.
//!
//! # A reader refuses
//!
//! everything else. [`crate::canon::ErrorKind`] has one kind for each way.
