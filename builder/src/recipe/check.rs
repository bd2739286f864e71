//! What is wrong only between keys: names used twice, users nobody makes,
//! two ways to say one thing.

use super::Recipe;
use super::error::Fault;
use super::field::Spans;

/// Looks at the recipe as a whole.
pub(crate) fn check(_recipe: &Recipe, _spans: &Spans) -> Result<(), Fault> {
    Ok(())
}
