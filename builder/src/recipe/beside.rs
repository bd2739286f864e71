//! The files beside a recipe: the only room here that touches the disk.

use std::path::Path;

use super::error::RecipeError;
use super::field::Spans;
use super::{Beside, Recipe};

/// A path that the recipe names.
pub(crate) struct Used<'r> {
    pub(crate) path: &'r Beside,
}

/// Reads the text of a recipe.
pub(crate) fn read_recipe(path: &Path) -> Result<String, RecipeError> {
    std::fs::read_to_string(path)
        .map_err(|e| RecipeError::unreadable(path, "cannot be read", None, Some(e)))
}

pub(crate) fn uses(_recipe: &Recipe) -> Vec<Used<'_>> {
    Vec::new()
}

pub(crate) fn check(
    _recipe: &Recipe,
    _spans: &Spans,
    _path: &Path,
    _text: &str,
) -> Result<(), RecipeError> {
    Ok(())
}
