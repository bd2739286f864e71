//! The last step: clean up, then make equal what only time or chance made
//! different.
//!
//! Everything that happens is a row of the [`table`]; [`rewrite`] has the
//! scripts of the rows that need one, [`page`] the table for people. Paths are
//! matched and carried with NUL behind each, so that no name is beyond it. The
//! order is: what the table removes and empties, what it rewrites, byte code,
//! what the recipe removes (`clean.remove`). What `clean.keep` names, with all
//! below, stays as it is.

#[cfg(test)]
mod page;
mod rewrite;
mod table;

use std::fmt::Write as _;

use self::table::{Action, Row, rows};
use super::{Content, Phase, STEP_FILES, Step};
use crate::lockfile::Lock;
use crate::recipe::{Recipe, TreeGlob, glob};

/// `matching LIST`: of the tree's paths, those that match a line of a handed
/// list, into /run/matching. `paths` looks at the tree again.
const FUNCTIONS: &str = r#"paths() {
    find / -xdev -mindepth 1 "$@" -print0 | LC_ALL=C sort -z > /run/paths
}
matching() {
    LC_ALL=C grep -z -x -E -f "$handed/$1" < /run/paths > /run/found || [ $? = 1 ]
    if [ -s "$handed/keep" ]; then
        LC_ALL=C grep -z -v -x -E -f "$handed/keep" < /run/found > /run/matching || [ $? = 1 ]
    else
        mv /run/found /run/matching
    fi
}
removing() {
    paths ! -type d
    matching "$1"
    xargs -0 -r rm -f -- < /run/matching
    # Below first; a directory in which something is kept stays.
    paths -type d
    matching "$1"
    LC_ALL=C sort -z -r /run/matching | xargs -0 -r rmdir --ignore-fail-on-non-empty --
}
"#;

/// Why a path of the finished tree would not be in the image as it was written, and
/// whether `clean.keep` helps.
pub(crate) fn loses(recipe: &Recipe, path: &str) -> Option<(&'static str, bool)> {
    let kept = |keep: &TreeGlob| glob::matches_above(keep.as_str(), path);
    let is_kept = recipe.clean.keep.iter().any(kept);
    rows().find_map(|row| {
        let (is_lost, can_be_kept) = match row.action {
            Action::Clear => (glob::matches_above(row.pattern, path), false),
            Action::Remove => (glob::matches_above(row.pattern, path), true),
            Action::Empty => (glob::matches(row.pattern, path), true),
            Action::Rewrite { .. } | Action::Compile | Action::Prevent(_) => (false, false),
        };
        (is_lost && !(can_be_kept && is_kept)).then_some((row.reason, can_be_kept))
    })
}

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
    let cleared = rows().filter(|r| r.action == Action::Clear);
    step.host
        .extend(cleared.map(|r| format!("@ROOT@{}", r.pattern)));

    let of = |action: Action| {
        let rows = rows().filter(move |r| r.action == action);
        rows.map(|r| r.pattern)
    };
    let keep = recipe.clean.keep.iter().map(TreeGlob::as_str);
    step.add_file("keep", Content::Text(with_below(keep)));
    step.add_file("remove", Content::Text(with_below(of(Action::Remove))));
    let own = recipe.clean.remove.iter().map(TreeGlob::as_str);
    step.add_file("remove-own", Content::Text(with_below(own)));
    step.add_file("empty", Content::Text(lines(of(Action::Empty))));
    step.add_file("compile", Content::Text(lines(of(Action::Compile))));
    let virtualenvs = recipe.virtualenvs.iter().map(|v| format!("{}\n", v.path));
    step.add_file("virtualenvs", Content::Text(virtualenvs.collect()));
    step.add_file("compile.sh", Content::Text(rewrite::COMPILE.into()));

    let mut script = format!("handed={STEP_FILES}\n{FUNCTIONS}");
    if recipe.clean.autoremove {
        script.push_str("apt-get -q --yes -o DPkg::Use-Pty=false autoremove\n");
    }
    script.push_str(
        "apt-get clean\n\
         removing remove\n\
         paths -type f\n\
         matching empty\n\
         xargs -0 -r truncate -s 0 -- < /run/matching\n\
         paths ! -type d\n",
    );
    for (number, (row, shell)) in rewrites().enumerate() {
        let name = format!("rewrite-{number}");
        step.add_file(&name, Content::Text(lines([row.pattern])));
        step.add_file(format!("{name}.sh"), Content::Text(shell.into()));
        let _ = write!(
            script,
            "matching {name}\n\
             xargs -0 -r sh -eu \"$handed/{name}.sh\" < /run/matching\n"
        );
    }
    script.push_str(
        "matching compile\n\
         virtualenvs=\"$handed/virtualenvs\" sh -eu \"$handed/compile.sh\"\n\
         removing remove-own\n",
    );
    step.script = script;
    step
}

/// Rows that rewrite, each with its script.
fn rewrites() -> impl Iterator<Item = (&'static Row, &'static str)> {
    rows().filter_map(|row| match row.action {
        Action::Rewrite { shell, .. } => Some((row, shell)),
        _ => None,
    })
}

fn lines<'a>(patterns: impl IntoIterator<Item = &'a str>) -> String {
    patterns.into_iter().map(|p| regex(p) + "\n").collect()
}

/// Regular expressions, a line each, for paths and everything below them.
fn with_below<'a>(patterns: impl Iterator<Item = &'a str>) -> String {
    patterns.map(|p| regex(p) + "(/.*)?\n").collect()
}

/// A pattern of the table as an extended regular expression of a whole path.
fn regex(pattern: &str) -> String {
    let mut out = String::new();
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("/**/") {
            out.push_str("/(.*/)?");
            rest = after;
            continue;
        }
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
        assert_eq!(regex("/a/**/b.c"), "/a/(.*/)?b\\.c");
        assert_eq!(regex("/a/**"), "/a/.*");
        assert_eq!(regex("/x?[1]+"), "/x[^/]\\[1\\]\\+");
    }
}
