//! The list of an environment's nodes, signed by one who signs its releases.
//!
//! Each version is an object of its own, put once, so that of two operators who change the list at
//! the same time one is told. `ENV.json` is where a reader begins; versions after it are looked for.
//!
//! What was seen last of it is remembered beside the keys, in `ENV.fleet`: whoever can write to the
//! folder could put an earlier list back, in which a key still counts that was taken off.

use std::fs;
use std::io::ErrorKind::NotFound;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use store::fleet::{Fleet, MAX_BYTES};
use store::keys::PublicKey;
use store::tuf::{Environment, KeyGroup};
use store::{EnvName, Sha256};

use super::Place;
use crate::atomic_file;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::settings::Settings;
use crate::stores;

/// The version of the file.
const SCHEMA: u32 = 1;

/// A list, and who has signed it.
pub struct Members {
    /// The list.
    pub fleet: Fleet,
    /// Its signature; none of a list that is not there yet.
    pub signer: Option<PublicKey>,
}

/// What was seen of lists of one name.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seen {
    schema: u32,
    lists: Vec<SeenList>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SeenList {
    root: Sha256,
    version: u64,
    sha256: Sha256,
}

/// Reads the list of an environment that somebody here has vouched for. A list that is not there
/// is empty, unless there was one.
pub fn read(place: &Place, env: &Environment<'_>, settings: &Settings) -> Result<Members> {
    let name = env.name();
    let what = || format!("cannot read the nodes of {name} in {}", place.url);
    let keys = env.key_set(KeyGroup::Targets).context(what)?.keys;
    let get = |object: &str| {
        let found = place.folder.get(object, MAX_BYTES);
        found.map_err(|e| stores::failed(what(), &e))
    };
    let load = |bytes: &[u8]| {
        let list = Fleet::read(bytes, name, &env.fingerprint(), &keys);
        list.map_err(|e| Error::new(ErrorKind::Refused, what()).because(&e))
    };
    let mut newest = None;
    let mut next = get(&Fleet::object(name))?;
    if next.is_none() {
        next = get(&Fleet::version_object(name, 1))?;
    }
    while let Some(bytes) = next {
        let (fleet, signer) = load(&bytes)?;
        let version = fleet.version;
        // An earlier list under a later name would lead back here.
        let last = newest
            .as_ref()
            .map(|(list, ..): &(Fleet, _, _)| list.version);
        if last.is_some_and(|last| version != last + 1) {
            let asked = last.unwrap_or_default() + 1;
            return Err(Error::new(ErrorKind::Refused, what())
                .detail(format!("list {version} is called {asked}"))
                .hint("somebody with write access put it there: remove that file"));
        }
        newest = Some((fleet, signer, Sha256::of(&bytes)));
        next = get(&Fleet::version_object(name, version + 1))?;
    }
    let seen = seen(name, settings)?;
    let before = seen.lists.iter().find(|one| one.root == env.fingerprint());
    let refused = |why: String| {
        let hint = "somebody put an earlier list there, or another one: look at another copy, or \
                    begin anew by moving the file that remembers it away";
        let path = memory_path(name, settings);
        let why = format!("{why}; {} remembers that", path.display());
        Err(Error::new(ErrorKind::Refused, what())
            .detail(why)
            .hint(hint))
    };
    let Some((fleet, signer, sha256)) = newest else {
        return match before {
            Some(before) => refused(format!(
                "version {} was seen, and none is there",
                before.version
            )),
            None => Ok(Members {
                fleet: Fleet::new(name.clone(), env.fingerprint()),
                signer: None,
            }),
        };
    };
    match before {
        Some(before) if fleet.version < before.version => {
            return refused(format!(
                "its version is {}, and {} was seen",
                fleet.version, before.version
            ));
        }
        Some(before) if fleet.version == before.version && sha256 != before.sha256 => {
            return refused(format!(
                "another list of version {} was seen",
                before.version
            ));
        }
        _ => remember(&fleet, sha256, settings)?,
    }
    Ok(Members {
        fleet,
        signer: Some(signer),
    })
}

/// Puts a list that was just signed, and remembers it. Where somebody else has put one of that
/// version meanwhile, nothing is changed.
pub fn publish(place: &Place, list: &Fleet, bytes: &[u8], settings: &Settings) -> Result<()> {
    let name = &list.environment;
    let object = Fleet::version_object(name, list.version);
    let failed = |object: &str, e: &store::Error| {
        stores::failed(format!("cannot write {object} to {}", place.url), e)
    };
    let put = place.folder.put_new(&object, bytes);
    if !put.map_err(|e| failed(&object, &e))? {
        let text = format!("somebody else has changed the nodes of {name} meanwhile");
        return Err(Error::new(ErrorKind::Busy, text)
            .detail(format!("list {} is there", list.version))
            .hint("run the same command again: it begins with their list"));
    }
    remember(list, Sha256::of(bytes), settings)?;
    let object = Fleet::object(name);
    let put = place.folder.put(&object, bytes);
    put.map_err(|e| failed(&object, &e))
}

/// Remembers a list as the newest.
fn remember(fleet: &Fleet, sha256: Sha256, settings: &Settings) -> Result<()> {
    let mut all = seen(&fleet.environment, settings)?;
    let new = SeenList {
        root: fleet.root,
        version: fleet.version,
        sha256,
    };
    if all.lists.contains(&new) {
        return Ok(());
    }
    all.schema = SCHEMA;
    all.lists.retain(|one| one.root != new.root);
    all.lists.push(new);
    let path = memory_path(&fleet.environment, settings);
    let what = || format!("cannot write {}", path.display());
    fs::create_dir_all(&settings.keys).context(what)?;
    let json = serde_json::to_vec(&all).context(what)?;
    atomic_file::write(&path, &json)
}

fn memory_path(env: &EnvName, settings: &Settings) -> PathBuf {
    settings.keys.join(format!("{env}.fleet"))
}

fn seen(env: &EnvName, settings: &Settings) -> Result<Seen> {
    let path = memory_path(env, settings);
    let what = || format!("cannot read {}", path.display());
    let bytes = match fs::read(&path) {
        Err(e) if e.kind() == NotFound => return Ok(Seen::default()),
        bytes => bytes.context(what)?,
    };
    let seen: Seen = serde_json::from_slice(&bytes).context(what)?;
    if seen.schema != SCHEMA {
        return Err(Error::failed(what()).detail(format!("its schema is {}", seen.schema)));
    }
    Ok(seen)
}

/// The environments that have a list in a folder; `None` where it lists nothing.
pub fn environments(place: &Place) -> Result<Option<Vec<EnvName>>> {
    let what = || format!("cannot list what is in {}", place.url);
    let listed = place.folder.list(store::fleet::FOLDER).context(what)?;
    let name = |object: store::backend::Listed| {
        // The one that is no list.
        let stem = object
            .name
            .strip_suffix(".json")
            .filter(|stem| *stem != "kept")?;
        stem.parse().ok()
    };
    Ok(listed.map(|listed| listed.into_iter().filter_map(name).collect()))
}
