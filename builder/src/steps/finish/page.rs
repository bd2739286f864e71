//! The table as a page of the documentation.

use std::fmt::Write as _;

use super::table::{Action, TABLE};

const HEAD: &str = "\
# Normalisation

Two builds of one lock run at different times, in different directories and on different
machines. After the last step, `imgbuild` removes, empties or rewrites everything that
differs only for that reason, so that the same lock gives the same bytes. This page lists
what it changes.

In a path, `*` and `?` match within a name, and `**` any number of names. The order is:
remove, empty, rewrite, compile; then the paths of the recipe's `[clean] remove`. Paths in
`[clean] keep`, and everything below them, are never touched by a row that changes the tree.
A `[[file]]` that a row would remove or empty is refused while locking, unless `keep` names it.

Database clusters that PostgreSQL, MariaDB and MySQL make while they are installed have random
identifiers. They are removed right after the packages; the service makes one at its first start,
with `pg_createcluster` or `mariadb-install-db`. What a `[[run]]` step makes stays, and differs
from build to build.

If two builds of one lock still have different digests, a package creates something at random
that this list does not know: remove it with `[clean] remove`, or fix it in a `[[run]]`.

The list is `builder/src/steps/finish/table.rs`. A test compares the two;
`IMGBUILD_BLESS=1 cargo test -p builder --lib finish` writes this page.
";

/// The whole page, in Markdown.
pub(super) fn page() -> String {
    let mut text = HEAD.to_owned();
    for topic in TABLE {
        let _ = write!(
            text,
            "\n## {}\n\n| path | action | reason |\n|---|---|---|\n",
            topic.title
        );
        for row in topic.rows {
            let action = match row.action {
                Action::Remove => "removed".to_owned(),
                Action::Empty => "emptied".to_owned(),
                Action::Clear => "cleared".to_owned(),
                Action::Rewrite { how, .. } => format!("rewritten: {how}"),
                Action::Compile => "compiled again, without times".to_owned(),
                Action::Prevent(what) => format!("never differs: {what}"),
            };
            let _ = writeln!(text, "| `{}` | {action} | {} |", row.pattern, row.reason);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_committed_page_is_that_of_the_table() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/normalisation.md");
        if std::env::var_os("IMGBUILD_BLESS").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, page()).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == page(),
            "docs/normalisation.md is not the table's text; write it anew with\n\
             IMGBUILD_BLESS=1 cargo test -p builder --lib finish"
        );
    }

    #[test]
    fn cells_are_plain() {
        for row in super::super::table::rows() {
            let plain = |text: &str| !text.contains(['|', '\n']);
            assert!(plain(row.pattern) && plain(row.reason), "{}", row.pattern);
        }
    }
}
