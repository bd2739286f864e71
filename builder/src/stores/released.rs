//! Releases as they were signed, with their manifests.

use store::tuf::{Environment, Release, revoked_images};
use store::{EnvName, ImageName, Manifest, Sha256, Store};

use super::environments::releases_in;
use crate::error::{Context, Error, ErrorKind, Result};

/// The manifest as it was released: a later one may tell another start command
/// of the same image.
pub fn manifest(store: &Store, release: &Release) -> Result<Manifest> {
    released_json(store, release).map(|(manifest, _)| manifest)
}

fn released_json(store: &Store, release: &Release) -> Result<(Manifest, Vec<u8>)> {
    let failed = || format!("cannot read release {} of {}", release.seq, release.name);
    let json = store
        .backend()
        .get(&release.target_path, store::manifest::MAX_BYTES)
        .context(failed)?
        .ok_or_else(|| {
            Error::failed(failed()).detail(format!(
                "{} is missing from {}",
                release.target_path,
                store.backend().describe()
            ))
        })?;
    // Its name says its digest, and that is signed.
    if !release.target_path.contains(&Sha256::of(&json).hex()) {
        let other = format!("{} is not what was signed", release.target_path);
        return Err(Error::new(ErrorKind::Refused, failed())
            .detail(other)
            .hint("`imgbuild store fsck` says what is damaged"));
    }
    let manifest = Manifest::from_json(&json).context(failed)?;
    if manifest.image != release.image {
        let other = format!("{} describes {}", release.target_path, manifest.image);
        return Err(Error::failed(failed()).detail(other));
    }
    Ok((manifest, json))
}

/// A release of an image, byte for byte.
pub struct Released {
    /// What the image is called there.
    pub name: ImageName,
    /// The number of the release.
    pub seq: u64,
    /// Its manifest.
    pub manifest: Manifest,
    /// The bytes of the manifest, as they were signed.
    pub json: Vec<u8>,
}

/// The newest release of an image in an environment, under the manifest's name if
/// there is one. An image that was revoked there is refused.
pub fn released_in(store: &Store, env: &Environment<'_>, manifest: &Manifest) -> Result<Released> {
    let all = releases_in(env)?;
    let of_image = all.iter().filter(|r| r.image == manifest.image);
    let release = of_image
        .max_by_key(|r| (r.name == manifest.name, r.seq))
        .ok_or_else(|| {
            let (image, env) = (manifest.image, env.name());
            Error::failed(format!("{image} is not released in {env}")).hint(
                "name the environment with --env ENV, or leave -o out: standard output is \
                 not signed",
            )
        })?;
    not_revoked(store, env.name(), &all, release)
}

/// The release, byte for byte; refused if its image was revoked.
pub(super) fn not_revoked(
    store: &Store,
    env: &EnvName,
    all: &[Release],
    release: &Release,
) -> Result<Released> {
    let revoked = revoked_images(all);
    if revoked.contains(&release.image) {
        let (name, seq) = (&release.name, release.seq);
        let what = format!(
            "{} was revoked in {env}, where it is {name}/{seq}",
            release.image
        );
        let older = all
            .iter()
            .filter(|one| one.name == *name && one.seq < seq && !revoked.contains(&one.image))
            .max_by_key(|one| one.seq);
        let older = older.map_or(String::new(), |one| {
            format!("; until then {env}/{name}/{} is there", one.seq)
        });
        return Err(Error::new(ErrorKind::Refused, what).hint(format!(
            "release an image that mends what the revocation was for{older}"
        )));
    }
    let (manifest, json) = released_json(store, release)?;
    Ok(Released {
        name: release.name.clone(),
        seq: release.seq,
        manifest,
        json,
    })
}
