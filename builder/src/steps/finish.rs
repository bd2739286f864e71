//! The last step: clean up, then make equal what only time or chance made
//! different.
//!
//! What is removed, emptied or rewritten is the table [`RULES`], each row with
//! its reason; what needs more than a path is in [`REWRITE`] and
//! [`BYTE_CODE`]. A recipe adds patterns with `clean.remove` and keeps
//! something that the table would remove with `clean.keep`.

use std::fmt::Write as _;

use super::{Content, HANDED, Phase, Step};
use crate::lock::Lock;
use crate::recipe::Recipe;

/// What happens to the paths of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Gone, with everything below.
    Remove,
    /// Still there, without content.
    Empty,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    /// Paths: `*` and `?` within a name, `**` across names.
    pub pattern: &'static str,
    /// What happens to them.
    pub action: Action,
    /// Why; for whoever reads the table.
    #[cfg_attr(not(test), allow(dead_code))]
    pub reason: &'static str,
}

const fn remove(pattern: &'static str, reason: &'static str) -> Rule {
    Rule {
        pattern,
        action: Action::Remove,
        reason,
    }
}

/// What is removed or emptied in every image.
pub(super) const RULES: &[Rule] = &[
    remove("/tmp/*", "scratch files of the build"),
    remove("/tmp/.*", "scratch files of the build"),
    remove("/var/tmp/*", "scratch files of the build"),
    remove("/root/.bash_history", "what somebody typed"),
    remove("/root/.cache", "caches of the build"),
    remove("/home/*/.cache", "caches of the build"),
    remove("/home/*/.bash_history", "what somebody typed"),
    remove("/var/log/wtmp", "log-ins of the build"),
    remove("/var/log/btmp", "log-ins of the build"),
    remove(
        "/var/log/*.log",
        "logs of the build: dpkg, alternatives, bootstrap, fontconfig",
    ),
    remove("/var/log/apt/*", "logs of the build"),
    remove("/var/log/journal/*", "logs of the build"),
    Rule {
        pattern: "/var/log/lastlog",
        action: Action::Empty,
        reason: "log-ins of the build",
    },
    Rule {
        pattern: "/var/log/faillog",
        action: Action::Empty,
        reason: "log-ins of the build",
    },
    remove("/etc/ssh/ssh_host_*", "keys must be the node's own"),
    remove(
        "/etc/ssl/certs/ssl-cert-snakeoil.pem",
        "a random key must be the node's own",
    ),
    remove(
        "/etc/ssl/private/ssl-cert-snakeoil.key",
        "a random key must be the node's own",
    ),
    Rule {
        pattern: "/etc/machine-id",
        action: Action::Empty,
        reason: "must be the node's own; see machine-id(5)",
    },
    remove("/var/lib/dbus/machine-id", "must be the node's own"),
    remove("/var/lib/systemd/random-seed", "must be the node's own"),
    remove(
        "/var/lib/systemd/credential.secret",
        "must be the node's own",
    ),
    remove(
        "/var/lib/systemd/catalog/database",
        "a cache that holds times",
    ),
    remove("/etc/hostname", "the build's name, not the node's"),
    remove("/etc/debian_chroot", "schroot writes it at every entry"),
    Rule {
        pattern: "/etc/resolv.conf",
        action: Action::Empty,
        reason: "resolvers are the node's",
    },
    remove(
        "/usr/sbin/policy-rc.d",
        "kept services from starting during the build",
    ),
    remove("/etc/apt/sources.list~", "backup"),
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
    remove(
        "/var/cache/ldconfig/aux-cache",
        "a cache that holds inode numbers and times",
    ),
    remove("/var/cache/debconf/*-old", "backup"),
    remove("/var/lib/dpkg/*-old", "backup"),
    remove("/var/lib/dpkg/lock*", "lock files"),
    remove("/var/lib/dpkg/triggers/Lock", "lock files"),
    remove("/var/lib/dpkg/available", "debootstrap's scratch file"),
    remove("/var/backups/*", "backups by date"),
    remove("/etc/passwd-", "backup"),
    remove("/etc/shadow-", "backup"),
    remove("/etc/group-", "backup"),
    remove("/etc/gshadow-", "backup"),
    remove("/etc/subuid-", "backup"),
    remove("/etc/subgid-", "backup"),
    remove("/etc/.pwd.lock", "lock file"),
    remove(
        "/var/cache/man/**",
        "an index that holds times; man-db makes it again",
    ),
    remove("/var/cache/fontconfig/*", "a cache keyed by random ids"),
    remove("/usr/share/fonts/**/.uuid", "random ids"),
    remove("/usr/share/fonts/.uuid", "random ids"),
    remove("/usr/local/share/fonts/.uuid", "random ids"),
    remove(
        "/usr/share/icons/*/icon-theme.cache",
        "a cache that holds times",
    ),
    remove("/etc/apt/trustdb.gpg", "holds a time"),
    remove(
        "/**/site-packages/*.dist-info/direct_url.json",
        "the path of the build",
    ),
    remove("/debootstrap", "debootstrap's scratch directory"),
];

/// Rewritten by value instead of by path.
const REWRITE: &str = r#"# The day of the last password change is the day of the build.
day=$((SOURCE_DATE_EPOCH / 86400))
awk -F: -v OFS=: -v day="$day" '$3 != "" && $3 > 0 { $3 = day } 1' /etc/shadow > /run/shadow
cat /run/shadow > /etc/shadow
# The records of wheels name the file that the table removes.
find / -xdev -type f -path '*.dist-info/RECORD' -exec sed -i '/direct_url\.json,/d' {} +
# Aliases of certificates that were removed.
find /etc/ssl/certs -xtype l -delete 2>/dev/null || true
"#;

/// Byte code again, from sources with their final times, in a fixed order.
/// Python 3 checks nothing at run time (PEP 552, unchecked), Python 2 only
/// knows times.
const BYTE_CODE: &str = r#"find / -xdev \( -name '*.py' -o -name '*.pyc' \) -type f -newermt "@$SOURCE_DATE_EPOCH" \
    -exec touch --no-dereference -d "@$SOURCE_DATE_EPOCH" {} +
find / -xdev -type f -name '*.pyc' | LC_ALL=C sort > /run/compiled
while IFS= read -r venv; do
    interpreter=$(readlink -f "$venv/bin/python")
    find "$venv/lib" -type f -name '*.py' | LC_ALL=C sort |
        sed "s|^|$interpreter |" >> /run/sources
done < "$virtualenvs"
# X/__pycache__/name.cpython-39.pyc comes from X/name.py, X/name.pyc from X/name.py.
sed -n -E 's|^(.*)/__pycache__/([^/]+)\.cpython-([0-9])([0-9]+)(\.opt-[0-9])?\.pyc$|/usr/bin/python\3.\4 \1/\2.py|p' \
    /run/compiled >> /run/sources
grep -v /__pycache__/ /run/compiled | sed -E 's|^(.*)\.pyc$|/usr/bin/python2.7 \1.py|' >> /run/sources
xargs -d '\n' -r rm -f -- < /run/compiled
LC_ALL=C sort -u /run/sources > /run/all
for interpreter in $(cut -d' ' -f1 /run/all | sort -u); do
    [ -x "$interpreter" ] || continue
    case "$interpreter" in
        *python2*) options= ;;
        *) options='--invalidation-mode unchecked-hash' ;;
    esac
    # Packages ship templates and tests that are no valid source.
    sed -n "s|^$interpreter ||p" /run/all | while IFS= read -r source; do
        [ -f "$source" ] && printf '%s\n' "$source"
    done > /run/list
    env -u PYTHONDONTWRITEBYTECODE "$interpreter" -m compileall -q $options -i /run/list \
        > /run/compile.log 2>&1 || true
done
# New byte code belongs to whom its source belongs to.
while IFS= read -r venv; do
    chown -R --reference="$venv" -- "$venv/lib"
done < "$virtualenvs"
"#;

pub(super) fn step(recipe: &Recipe, lock: &Lock) -> Step {
    let mut step = Step::new(Phase::Finish, "clean and normalise", lock.epoch);
    // Mount points and devices as debootstrap left them, which versions of it
    // do differently. The sandbox mounts over these: cleared from outside.
    step.host = vec![
        "sh".into(),
        "-euc".into(),
        "find \"$@\" -xdev -mindepth 1 -delete; touch -d \"@$SOURCE_DATE_EPOCH\" -- \"$@\"".into(),
        "sh".into(),
    ];
    step.host
        .extend(["dev", "proc", "sys", "run"].map(|d| format!("@ROOT@/{d}")));

    let mut script = String::new();
    if recipe.clean.autoremove {
        script.push_str("apt-get -q --yes -o DPkg::Use-Pty=false autoremove\n");
    }
    script.push_str("apt-get clean\n");
    script.push_str(REWRITE);
    let virtualenvs = recipe.virtualenvs.iter().map(|v| v.path.to_string());
    step.hand("virtualenvs", Content::Text(lines(virtualenvs)));
    let _ = writeln!(script, ": > /run/sources\nvirtualenvs={HANDED}/virtualenvs");
    script.push_str(BYTE_CODE);
    let keep: Vec<String> = recipe
        .clean
        .keep
        .iter()
        .map(|g| regex(g.as_str()))
        .collect();
    let own = recipe.clean.remove.iter().map(|g| regex(g.as_str()));
    let paths = |action: Action| {
        RULES
            .iter()
            .filter(move |r| r.action == action)
            .map(|r| regex(r.pattern))
    };
    step.hand(
        "remove",
        Content::Text(lines(paths(Action::Remove).chain(own))),
    );
    step.hand("empty", Content::Text(lines(paths(Action::Empty))));
    step.hand("keep", Content::Text(lines(keep.into_iter())));
    let _ = write!(
        script,
        "match() {{ grep -z -x -E -f {HANDED}/\"$1\" || true; }}\n\
         kept() {{ if [ -s {HANDED}/keep ]; then grep -z -v -x -E -f {HANDED}/keep || true; else cat; fi; }}\n\
         find / -xdev -mindepth 1 -print0 | LC_ALL=C sort -z -r > /run/paths\n\
         match remove < /run/paths | kept | xargs -0 -r rm -rf --\n\
         find / -xdev -type f -print0 > /run/paths\n\
         match empty < /run/paths | kept | xargs -0 -r truncate -s 0 --\n"
    );
    step.script = script;
    step
}

fn lines(patterns: impl Iterator<Item = String>) -> String {
    patterns.map(|p| p + "\n").collect()
}

/// A pattern of the table as an extended regular expression of a whole path.
fn regex(pattern: &str) -> String {
    let mut out = String::new();
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("**") {
            out.push_str(".*");
            rest = after;
            continue;
        }
        match c {
            '*' => out.push_str("[^/]*"),
            '?' => out.push_str("[^/]"),
            '.' | '+' | '(' | ')' | '[' | ']' | '{' | '}' | '^' | '$' | '|' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            _ => out.push(c),
        }
        rest = &rest[c.len_utf8()..];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_within_names_or_across() {
        assert_eq!(regex("/tmp/*"), "/tmp/[^/]*");
        assert_eq!(regex("/a/**/b.c"), "/a/.*/b\\.c");
        assert_eq!(regex("/x?[1]+"), "/x[^/]\\[1\\]\\+");
    }

    #[test]
    fn each_rule_is_absolute_unique_and_has_its_reason() {
        let mut seen = std::collections::BTreeSet::new();
        for rule in RULES {
            assert!(rule.pattern.starts_with('/'), "{}", rule.pattern);
            assert!(rule.reason.len() > 5, "{}", rule.pattern);
            assert!(seen.insert(rule.pattern), "{} twice", rule.pattern);
        }
    }
}
