//! The list of pages that this program has written.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use store::name::NodeName;
use store::{EnvName, Sha256};

use super::folders::read;
use super::{FLEET, INDEX};
use crate::atomic_file;
use crate::error::{Error, Result};

/// The version of the list.
pub(super) const SCHEMA: u32 = 1;

/// The longest list that is read.
const MAX_LIST: u64 = 64 << 20;

/// The list of pages.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct List {
    pub(super) schema: u32,
    pub(super) pages: BTreeMap<String, Listed>,
}

/// A page that this program has written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listed {
    /// Its digest; two while it is replaced.
    pub(super) sha256: Vec<Sha256>,
    /// What it was made from and by, of a page that is not made twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) edition: Option<String>,
    /// What other pages say of it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) summary: String,
}

/// Reads the list; none where there is none. One that this program would write otherwise is refused.
pub(super) fn read_list(path: &Path) -> Result<Option<List>> {
    let wrong = |why: String| {
        Error::failed(format!("{} is not the list of pages", path.display()))
            .detail(why)
            .hint("name another directory, or remove this one with its pages")
    };
    match path.symlink_metadata() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(wrong(e.to_string())),
        Ok(_) => {}
    }
    let json = read(path, MAX_LIST).ok_or_else(|| wrong("it cannot be read".to_owned()))?;
    let list: List = serde_json::from_slice(&json).map_err(|e| wrong(e.to_string()))?;
    if list.schema != SCHEMA {
        return Err(wrong(format!("its schema is {}", list.schema)));
    }
    if let Some(path) = list.pages.keys().find(|path| !is_page(path)) {
        return Err(wrong(format!("`{}` is no page", path.escape_default())));
    }
    if to_json(&list) != json {
        return Err(wrong("it is written in another way".to_owned()));
    }
    Ok(Some(list))
}

/// Replaces the list.
pub(super) fn write_list(path: &Path, list: &List) -> Result<()> {
    atomic_file::write(path, &to_json(list))
}

fn to_json(list: &List) -> Vec<u8> {
    let mut json = serde_json::to_vec(list).expect("a list has a JSON form");
    json.push(b'\n');
    json
}

/// Whether that is the path of a page: nothing else is replaced or removed, whatever a list says.
fn is_page(path: &str) -> bool {
    let is_digest = |text: &str| {
        text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let Some((folder, file)) = path.split_once('/') else {
        return path == INDEX || path == FLEET;
    };
    let Some(name) = file.strip_suffix(".html") else {
        return false;
    };
    match folder {
        "image" => is_digest(name),
        "diff" => name
            .split_once('-')
            .is_some_and(|(old, new)| is_digest(old) && is_digest(new)),
        "fleet" => match name.split('~').collect::<Vec<_>>()[..] {
            [env, group, number] => {
                let number = number.parse::<u32>().map(|read| read.to_string() == number);
                is_node(env, group) && number == Ok(true)
            }
            _ => false,
        },
        "node" => name
            .split_once('~')
            .is_some_and(|(env, node)| is_node(env, node)),
        _ => false,
    }
}

/// Whether these name an environment and a node, or a group of them.
fn is_node(env: &str, node: &str) -> bool {
    env.parse::<EnvName>().is_ok() && node.parse::<NodeName>().is_ok()
}
