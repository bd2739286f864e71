//! Recipes and locks: what a person writes is read or refused, and what is read
//! has one form that is read again as the same.

use std::path::Path;

use builder::lockfile::Lock;
use builder::recipe::Recipe;

pub(crate) fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let file = Path::new("fuzz.toml");
    match Recipe::parse(text, file) {
        Ok(recipe) => {
            let form = recipe.canonical_json();
            let again = Recipe::from_canonical_json(&form, file).expect("its own form");
            assert_eq!(again.canonical_json(), form);
        }
        // The error points into the text; that must work for every text.
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if let Ok(lock) = Lock::parse(text) {
        let form = lock.to_text().expect("a text");
        let again = Lock::parse(&form).expect("its own form");
        assert_eq!(again.to_text().expect("a text"), form);
    }
}
