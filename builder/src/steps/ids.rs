//! Ids of system users and groups, as the lock has them.
//!
//! Debian's packages take the first free number, so that what a user is called on one
//! image is another user on the next one. What the lock has recorded stays with its name;
//! a newcomer that took such a number gets another one.

use std::collections::BTreeMap;

use super::{Content, Phase, STEP_FILES, Step};
use crate::lockfile::Lock;

/// Whether a package took a free number for its user or group (adduser(8)); Debian's own
/// group `users` always has one of these.
pub(crate) fn is_taken_by_package(name: &str, id: u32) -> bool {
    (100..=999).contains(&id) && name != "users"
}

/// Lines `OLD NEW` of what must change in a database, then the files, then the databases.
const MOVE: &str = r#"
mkdir /run/ids
moves() {
    awk -F: -v recorded="$handed/$1" '
        BEGIN {
            while ((getline line < recorded) > 0) {
                split(line, part, " ")
                wanted[part[1]] = part[2]
                used[part[2]] = 1
            }
        }
        { name[NR] = $1; id[NR] = $3; used_now[$3] = 1 }
        END {
            for (n = 1; n <= NR; n++) {
                new = id[n]
                if (name[n] in wanted) new = wanted[name[n]]
                else if (id[n] in used) {
                    for (new = 100; new in used || new in used_now; new++);
                    used[new] = 1
                }
                if (new != id[n]) print id[n], new
            }
        }' "/etc/$1" > "/run/ids/$1"
}
moves passwd
moves group
if [ -s /run/ids/passwd ] || [ -s /run/ids/group ]; then
    set -- -false
    while read -r old new; do set -- "$@" -o -uid "$old"; done < /run/ids/passwd
    while read -r old new; do set -- "$@" -o -gid "$old"; done < /run/ids/group
    find / -xdev \( "$@" \) -print0 > /run/ids/files
    xargs -0 -r sh -eu "$handed/own.sh" < /run/ids/files
    for database in passwd group; do
        awk -F: -v OFS=: -v database=$database '
            BEGIN {
                while ((getline line < "/run/ids/passwd") > 0) { split(line, part, " "); uid[part[1]] = part[2] }
                while ((getline line < "/run/ids/group") > 0) { split(line, part, " "); gid[part[1]] = part[2] }
            }
            database == "passwd" && ($3 in uid) { $3 = uid[$3] }
            database == "passwd" && ($4 in gid) { $4 = gid[$4] }
            database == "group" && ($3 in gid) { $3 = gid[$3] }
            { print }' /etc/$database > /run/ids/new
        cat /run/ids/new > /etc/$database
    done
fi
"#;

/// Gives files to whom they belong now. Another owner takes set-user-ID bits and
/// capabilities away: they are put back.
const OWN: &str = r#"moved() {
    id=$2
    while read -r old new; do
        if [ "$old" = "$2" ]; then id=$new; fi
    done < "/run/ids/$1"
}
for path; do
    meta=$(stat -c '%u %g %h %i' -- "$path")
    uid=${meta%% *} meta=${meta#* }
    gid=${meta%% *} meta=${meta#* }
    if [ "${meta%% *}" != 1 ] && ! [ -d "$path" ]; then
        # One file of several names changes once. On an overlay that parts them.
        first=/run/ids/first-${meta#* }
        if [ -L "$first" ]; then
            first=$(readlink -n -- "$first"; printf x)
            [ "${first%x}" -ef "$path" ] || ln -f -P -- "${first%x}" "$path"
            continue
        fi
        ln -s -- "$path" "$first"
    fi
    moved passwd "$uid"; uid=$id
    moved group "$gid"; gid=$id
    if [ -f "$path" ] && ! [ -L "$path" ]; then
        rm -f /run/ids/like
        : > /run/ids/like
        cp --attributes-only --preserve=mode,xattr -- "$path" /run/ids/like
        chown -- "$uid:$gid" "$path"
        cp --attributes-only --preserve=mode,xattr -- /run/ids/like "$path"
    else
        chown -h -- "$uid:$gid" "$path"
    fi
done
"#;

/// Gives recorded users and groups their numbers, after all packages are there.
pub(super) fn step(lock: &Lock) -> Option<Step> {
    if lock.system_users.is_empty() && lock.system_groups.is_empty() {
        return None;
    }
    let mut step = Step::new(Phase::Configure, "system users", lock.epoch);
    let lines = |ids: &BTreeMap<String, u32>| {
        let lines = ids.iter().map(|(name, id)| format!("{name} {id}\n"));
        Content::Text(lines.collect())
    };
    step.add_file("passwd", lines(&lock.system_users));
    step.add_file("group", lines(&lock.system_groups));
    step.add_file("own.sh", Content::Text(OWN.into()));
    step.script = format!("handed={STEP_FILES}{MOVE}");
    Some(step)
}
