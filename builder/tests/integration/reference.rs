//! The pages that are made from the code are those that are committed.

use std::path::Path;

/// Set to write the pages instead of comparing them.
const BLESS: &str = "IMGBUILD_BLESS";

fn compare(page: &str, made: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs")
        .join(page);
    if std::env::var_os(BLESS).is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, made).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == made,
        "docs/{page} lags behind the code: {BLESS}=1 cargo test -p builder --test reference"
    );
}

#[test]
fn the_recipe_reference_names_every_key() {
    compare("recipe.md", &builder::recipe::reference());
}
