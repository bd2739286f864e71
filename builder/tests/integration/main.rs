//! `imgbuild` without building anything: recipes, keys of steps, stores and copies.

mod buckets;
mod cli;
mod compare;
mod copying;
mod keys;
mod maintenance;
mod recipe;
mod recipe_property;
mod reference;
mod schema;
mod support;
mod vary;
