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
mod vary;

/// The manifest of a published tree, of which nothing else is known.
fn manifest_of(published: store::Published, epoch: u64) -> store::Manifest {
    store::Manifest {
        schema: store::manifest::SCHEMA,
        name: "small".parse().unwrap(),
        image: published.image,
        sha256: published.sha256,
        size: published.size,
        entries: published.entries,
        layout: published.layout,
        arch: "amd64".into(),
        suite: "bookworm".into(),
        epoch,
        packages: Vec::new(),
        wheels: Vec::new(),
        users: Vec::new(),
        setuid: published.setuid,
        xattrs: published.xattrs,
        recipe: store::Sha256::of(b"recipe"),
        lock: store::Sha256::of(b"lock"),
        builder: "test".into(),
        run: None,
    }
}
