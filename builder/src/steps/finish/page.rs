//! The table as a page of the documentation.

use std::fmt::Write as _;

use super::table::{Action, TABLE};

const HEAD: &str = "\
# What is made equal in every image

Two builds of one lock run at other times, in other directories, on other
machines. After the last step, everything that only time, place or chance made
different is removed, emptied or made again, so that the same lock gives the same
bytes. This page is the table in `builder/src/steps/finish/table.rs`; a test
compares the two, and `IMGBUILD_BLESS=1 cargo test -p builder --lib finish`
writes the page anew.

In a path `*` and `?` match within a name, `**` any number of names. The order
is: remove, empty, rewrite, compile; then what the recipe's `[clean] remove`
names. Paths in `[clean] keep` are left alone by every row that works on the
tree, with everything below them. A `[[file]]` that a row would remove or empty is refused
while locking, unless `keep` names it.

Database clusters that PostgreSQL, MariaDB and MySQL make while they are installed
have random identifiers. They are removed right after the packages; the service makes
one at its first start, with `pg_createcluster` or `mariadb-install-db`. What a
`[[run]]` step makes stays, and differs from build to build.

What a package makes at random and this table does not know shows as two digests
for one lock: `[clean] remove` or a `[[run]]` step is the place for it.
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
