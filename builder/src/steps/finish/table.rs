//! What is made equal in every image: path, action, reason.
//!
//! Rows of one action take effect in the order in which they stand here; see
//! [`super`] for the order of the actions. `docs/normalisation.md` is this
//! table as a page.

use super::rewrite;

/// What happens to the paths of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Gone, with everything below.
    Remove,
    /// Still there, without content.
    Empty,
    /// A directory without its content, cleared from outside of the tree: the
    /// sandbox mounts something over it.
    Clear,
    /// Changed by a script that gets the paths as arguments.
    Rewrite {
        /// What the script does, for the page.
        #[cfg_attr(not(test), allow(dead_code))]
        how: &'static str,
        /// The script, for `sh -eu`.
        shell: &'static str,
    },
    /// Python's byte code, made again.
    Compile,
    /// Equal from the start; what sees to that, for the page.
    Prevent(#[cfg_attr(not(test), allow(dead_code))] &'static str),
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    /// Paths: `*` and `?` within a name, `**` across names.
    pub(super) pattern: &'static str,
    /// What happens to them.
    pub(super) action: Action,
    /// Why; for the page.
    #[cfg_attr(not(test), allow(dead_code))]
    pub(super) reason: &'static str,
}

/// Rows of one subject.
#[derive(Clone, Copy, Debug)]
pub(super) struct Topic {
    /// The heading on the page.
    #[cfg_attr(not(test), allow(dead_code))]
    pub(super) title: &'static str,
    /// Its rows.
    pub(super) rows: &'static [Row],
}

const fn remove(pattern: &'static str, reason: &'static str) -> Row {
    Row {
        pattern,
        action: Action::Remove,
        reason,
    }
}

const fn empty(pattern: &'static str, reason: &'static str) -> Row {
    Row {
        pattern,
        action: Action::Empty,
        reason,
    }
}

const fn clear(pattern: &'static str, reason: &'static str) -> Row {
    Row {
        pattern,
        action: Action::Clear,
        reason,
    }
}

const fn rewrite(
    pattern: &'static str,
    how: &'static str,
    shell: &'static str,
    reason: &'static str,
) -> Row {
    Row {
        pattern,
        action: Action::Rewrite { how, shell },
        reason,
    }
}

const fn prevent(pattern: &'static str, what: &'static str, reason: &'static str) -> Row {
    Row {
        pattern,
        action: Action::Prevent(what),
        reason,
    }
}

/// Every row, by subject.
pub(super) const TABLE: &[Topic] = &[
    Topic {
        title: "Identity of a machine",
        rows: &[
            empty(
                "/etc/machine-id",
                "must be the node's own; see machine-id(5)",
            ),
            remove("/var/lib/dbus/machine-id", "must be the node's own"),
            remove("/etc/ssh/ssh_host_*", "keys must be the node's own"),
            remove(
                "/etc/ssl/certs/ssl-cert-snakeoil.pem",
                "a random key must be the node's own",
            ),
            remove(
                "/etc/ssl/private/ssl-cert-snakeoil.key",
                "a random key must be the node's own",
            ),
            rewrite(
                "/etc/ssl/certs/*",
                "links that point nowhere are removed",
                rewrite::DANGLING,
                "aliases of certificates that were removed",
            ),
            remove("/var/lib/systemd/random-seed", "must be the node's own"),
            remove(
                "/var/lib/systemd/credential.secret",
                "must be the node's own",
            ),
            remove("/**/.gnupg/random_seed", "must be the node's own"),
            remove("/var/lib/libuuid/clock.txt", "must be the node's own"),
            remove("/etc/hostname", "the build's name, not the node's"),
            empty("/etc/resolv.conf", "resolvers are the node's"),
        ],
    },
    Topic {
        title: "Traces of the build",
        rows: &[
            clear("/dev", "what debootstrap makes there differs by version"),
            clear("/proc", "a mount point"),
            clear("/sys", "a mount point"),
            clear("/run", "state of the running system"),
            remove("/tmp/*", "scratch files of the build"),
            remove("/var/tmp/*", "scratch files of the build"),
            remove("/debootstrap", "debootstrap's scratch directory"),
            remove("/etc/debian_chroot", "schroot writes it at every entry"),
            remove(
                "/usr/sbin/policy-rc.d",
                "kept services from starting during the build",
            ),
            remove("/root/.cache", "caches of the build"),
            remove("/home/*/.cache", "caches of the build"),
            remove("/root/.*_history", "what somebody typed"),
            remove("/home/*/.*_history", "what somebody typed"),
            remove("/root/.wget-hsts", "addresses and times"),
            remove("/home/*/.wget-hsts", "addresses and times"),
        ],
    },
    Topic {
        title: "Logs",
        rows: &[
            remove(
                "/var/log/*.log",
                "logs of the build: dpkg, alternatives, bootstrap, fontconfig",
            ),
            remove("/var/log/munin/*.log", "logs of the build"),
            remove("/var/log/apt/*", "logs of the build"),
            remove("/var/log/journal/*", "logs of the build"),
            remove("/var/log/wtmp", "log-ins of the build"),
            remove("/var/log/btmp", "log-ins of the build"),
            empty("/var/log/lastlog", "log-ins of the build"),
            empty("/var/log/faillog", "log-ins of the build"),
        ],
    },
    Topic {
        title: "Users",
        rows: &[
            rewrite(
                "/etc/passwd",
                "lines by user id",
                rewrite::BY_ID,
                "the order in which users were made",
            ),
            rewrite(
                "/etc/group",
                "lines by group id, members by name",
                rewrite::GROUPS,
                "the order in which groups and members were made",
            ),
            rewrite(
                "/etc/shadow",
                "lines in the order of passwd; the day of the last change is the epoch's",
                rewrite::SHADOW,
                "the order in which users were made, and when",
            ),
            rewrite(
                "/etc/gshadow",
                "lines in the order of group, members by name",
                rewrite::GSHADOW,
                "the order in which groups and members were made",
            ),
            rewrite(
                "/etc/subuid",
                "lines by first id",
                rewrite::BY_START,
                "the order in which users were made",
            ),
            rewrite(
                "/etc/subgid",
                "lines by first id",
                rewrite::BY_START,
                "the order in which users were made",
            ),
            remove("/etc/passwd-", "backup"),
            remove("/etc/shadow-", "backup"),
            remove("/etc/group-", "backup"),
            remove("/etc/gshadow-", "backup"),
            remove("/etc/subuid-", "backup"),
            remove("/etc/subgid-", "backup"),
            remove("/etc/.pwd.lock", "lock file"),
        ],
    },
    Topic {
        title: "dpkg, apt and debconf",
        rows: &[
            remove("/var/lib/apt/lists/*", "downloaded indexes"),
            remove(
                "/var/cache/apt/*.bin",
                "caches that hold addresses and times",
            ),
            remove(
                "/var/cache/apt/archives/*.deb",
                "packages that are installed already",
            ),
            remove("/var/lib/apt/extended_states.*", "backup"),
            remove("/var/lib/apt/periodic/*", "times of downloads"),
            remove("/etc/apt/sources.list~", "backup"),
            remove("/etc/apt/trustdb.gpg", "holds a time"),
            remove("/var/lib/dpkg/*-old", "backup"),
            remove("/var/lib/dpkg/lock*", "lock files"),
            remove("/var/lib/dpkg/triggers/Lock", "lock file"),
            remove("/var/lib/dpkg/available", "debootstrap's scratch file"),
            remove("/var/cache/debconf/*-old", "backup"),
            remove("/var/lib/ucf/*.?", "backup"),
            remove("/var/backups/*", "backups by date"),
            prevent(
                "/var/lib/dpkg/info/*.list",
                "times after the epoch are the epoch in the tar",
                "the time of the installation",
            ),
        ],
    },
    Topic {
        title: "Caches that triggers write",
        rows: &[
            remove(
                "/var/cache/ldconfig/aux-cache",
                "a cache that holds inode numbers and times",
            ),
            remove(
                "/var/cache/man/**",
                "an index that holds times; man-db makes it again",
            ),
            remove("/var/cache/fontconfig/*", "a cache keyed by random ids"),
            remove("/usr/share/fonts/**/.uuid", "random ids"),
            remove("/usr/local/share/fonts/**/.uuid", "random ids"),
            remove(
                "/usr/share/icons/*/icon-theme.cache",
                "a cache in the order of the directory; programs do without",
            ),
            remove(
                "/var/lib/systemd/catalog/database",
                "a cache that holds times; systemd makes it again",
            ),
            remove("/usr/share/info/dir.old", "backup"),
            rewrite(
                "/usr/share/info/dir",
                "made again by update-info-dir, in the order of names",
                rewrite::INFO,
                "update-info-dir follows the order of the directory",
            ),
            rewrite(
                "/etc/aliases.db",
                "the file's id follows from its path, its time is the epoch",
                rewrite::BERKELEY,
                "Berkeley DB writes an inode number and times, postfix a time",
            ),
            rewrite(
                "/etc/postfix/*.db",
                "the file's id follows from its path, its time is the epoch",
                rewrite::BERKELEY,
                "Berkeley DB writes an inode number and times, postfix a time",
            ),
            remove("/etc/.updated", "the time at which caches were made"),
            remove("/var/.updated", "the time at which caches were made"),
            remove(
                "/var/lib/plocate/plocate.db",
                "names and times of the build",
            ),
            remove(
                "/var/lib/mlocate/mlocate.db",
                "names and times of the build",
            ),
            rewrite(
                "/etc/ssl/certs/java/cacerts",
                "entries by alias, with the epoch as their time",
                rewrite::KEY_STORE,
                "Java writes when it took a certificate",
            ),
            prevent(
                "/boot/initrd.img-*",
                "mkinitramfs follows SOURCE_DATE_EPOCH",
                "times of its files",
            ),
            prevent(
                "/usr/lib/locale/locale-archive",
                "locale-gen works in the order of the recipe",
                "places in the archive follow that order",
            ),
        ],
    },
    Topic {
        title: "Python",
        rows: &[
            remove("/**/*.dist-info/direct_url.json", "the path of the build"),
            rewrite(
                "/**/*.dist-info/RECORD",
                "without the line of a removed direct_url.json",
                rewrite::RECORD,
                "pip would miss the file",
            ),
            rewrite(
                "/**/pyvenv.cfg",
                "without `command`",
                rewrite::PYVENV,
                "the command line that made the virtualenv",
            ),
            rewrite(
                "/**/*.py",
                "a time after the epoch becomes the epoch",
                rewrite::CLAMP,
                "byte code of Python 2 names the time of its source, and the tar has no later one",
            ),
            Row {
                pattern: "/**/*.pyc",
                action: Action::Compile,
                reason: "times, the order of sets, and who imported what first",
            },
            prevent(
                "/**/*.so",
                "each Python of a virtualenv step counts its temporary names and UUIDs and reads directories by name (steps/sitecustomize.py)",
                "compilers write the random directory of a source into what they make, and link files in the order in which setup.py found them",
            ),
        ],
    },
    Topic {
        title: "The tar",
        rows: &[prevent(
            "/**",
            "entries by name, numeric owners, extended attributes by name, times at most the epoch, no time of access",
            "the order of a directory, the clock",
        )],
    },
];

/// Every row, in order.
pub(super) fn rows() -> impl Iterator<Item = &'static Row> {
    TABLE.iter().flat_map(|topic| topic.rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_is_absolute_unique_and_has_its_reason() {
        let mut seen = std::collections::BTreeSet::new();
        for row in rows() {
            assert!(row.pattern.starts_with('/'), "{}", row.pattern);
            assert!(row.reason.len() > 5, "{}", row.pattern);
            assert!(seen.insert(row.pattern), "{} twice", row.pattern);
        }
    }
}
