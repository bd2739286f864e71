//! The pages that are made from the code are those that are committed.

use std::fmt::Write as _;
use std::path::Path;

use crate::schema::{Key, Section, sections};

/// Set to write the pages instead of comparing them.
const BLESS: &str = "IMGBUILD_BLESS";

const HEAD: &str = "\
# Recipe reference

Every section and key of a recipe. This page is made from the definitions that recipes are
read by (`builder/src/recipe`). A recipe is TOML 1.0. An unknown key, a wrong type or an empty
list is an error that shows the line.

Sections with two brackets, such as `[[packages]]`, may be repeated. An image is made in this
order: bootstrap, packages, system, users, downloads, files, virtualenvs, runs, clean-up, tests. Sections
of the same name are processed in the order in which they are written.
";

fn compare(page: &str, made: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs")
        .join(page);
    if std::env::var_os(BLESS).is_some() {
        std::fs::write(&path, made).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == made,
        "docs/{page} lags behind the code: {BLESS}=1 cargo test -p builder --test integration reference"
    );
}

#[test]
fn the_recipe_reference_names_every_key() {
    let mut page = HEAD.to_owned();
    for section in sections() {
        describe(&section, &mut page);
    }
    compare("recipe.md", &page);
}

fn describe(section: &Section, page: &mut String) {
    let title = match section.header.as_str() {
        "" => "At the top".to_owned(),
        header if header.starts_with('[') => format!("`{header}`"),
        header => header.to_owned(),
    };
    let _ = write!(page, "\n## {title}\n\n{}\n", section.doc);
    let at_top = section.header.is_empty();
    for key in section
        .keys
        .iter()
        .filter(|key| !(at_top && key.is_section))
    {
        let Key { name, takes, .. } = key;
        let needed = if key.required { "required" } else { "optional" };
        let doc = key.doc.replace('\n', "\n  ").replace("\n  \n", "\n\n");
        let _ = write!(page, "\n- **`{name}`**: {takes}; {needed}.\n\n  {doc}\n");
    }
}
