//! What takes how much space in an image, which sources its packages are of, and its groups.
//!
//! The layout is read twice, entry by entry. Of each file a digest of its path, its size and its
//! owner are in memory; of content, dpkg's lists and status, the RECORDs of virtualenvs and
//! `etc/group` are read. A [`Survey`] depends on the image alone, so it can be kept: its JSON form is
//! read strictly.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::{Deserialize, Serialize};
use store::canonical_tar::{self, Kind};
use store::chunk::ChunkRef;
use store::{ImageId, Manifest, Store};

use super::compare::content;
use super::compare::owners::{self, Inventory};
use super::compare::{Owner, Reading, unreadable};
use crate::dpkg_status;
use crate::error::{Error, Result};

/// The version of the JSON form.
const SCHEMA: u32 = 1;

/// The longest JSON form that is read.
pub const MAX_BYTES: u64 = 64 << 20;

/// dpkg's status and `etc/group` are not read beyond this.
const MAX_FILE: usize = 64 << 20;

/// Directories of files that nobody brought; what is in smaller ones is added up.
const MOST_DIRECTORIES: usize = 200;

/// What an image is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Survey {
    schema: u32,
    /// The image.
    pub image: ImageId,
    /// Files, and bytes of their content.
    pub total: Space,
    /// Debian packages, by name.
    pub packages: Vec<SurveyedPackage>,
    /// Python distributions of virtualenvs.
    pub distributions: Vec<SurveyedDistribution>,
    /// Files that no package brought, by the first two directories that they are in; the largest
    /// first.
    pub directories: Vec<SurveyedDirectory>,
    /// The files of further directories.
    pub rest: Space,
    /// Groups, in the order of `etc/group`.
    pub groups: Vec<Group>,
}

/// Files and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Space {
    /// How many files.
    pub files: u64,
    /// Bytes of content. A file of several names counts once.
    pub size: u64,
}

/// An installed Debian package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SurveyedPackage {
    /// Its name.
    pub name: String,
    /// The source package; empty for what dpkg's status does not know.
    pub source: String,
    /// Version of the source.
    pub source_version: String,
    /// What it takes.
    pub space: Space,
}

/// An installed Python distribution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SurveyedDistribution {
    /// Path of the virtualenv.
    pub virtualenv: String,
    /// Its name.
    pub name: String,
    /// What it takes.
    pub space: Space,
}

/// A directory with files that no package brought.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SurveyedDirectory {
    /// Its path without a leading slash; empty for the root.
    pub path: String,
    /// What it takes.
    pub space: Space,
}

/// A line of group(5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its number.
    pub gid: u32,
    /// Users that have it besides their own group.
    pub members: Vec<String>,
}

impl Survey {
    /// Reads an image of a store.
    pub fn of(store: &Store, manifest: &Manifest) -> Result<Self> {
        let image = store.image(manifest);
        let image = image.map_err(|error| unreadable(manifest, &error))?;
        Surveyor::default().run((manifest, &image))
    }

    /// The one JSON form.
    ///
    /// # Panics
    /// Never: every field has a JSON form.
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec(self).expect("a survey has a JSON form");
        json.push(b'\n');
        json
    }

    /// Reads the JSON form, strictly.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        let wrong = |why: String| Error::failed("this is not the survey of an image").detail(why);
        let survey: Self = serde_json::from_slice(json).map_err(|e| wrong(e.to_string()))?;
        if survey.schema != SCHEMA {
            return Err(wrong(format!("its schema is {}", survey.schema)));
        }
        if survey.to_json() != json {
            return Err(wrong("it is written in another way".to_owned()));
        }
        Ok(survey)
    }
}

impl Space {
    fn add(&mut self, size: u64) {
        self.files += 1;
        self.size += size;
    }
}

/// What is known of a file.
struct Known {
    size: u64,
    /// The number of its owner; none yet where it is [`NOBODY`].
    owner: u32,
}

const NOBODY: u32 = u32::MAX;

#[derive(Default)]
struct Surveyor {
    files: HashMap<u64, Known>,
    owners: Vec<(Owner, Space)>,
    numbers: HashMap<Owner, u32>,
    status: Vec<ChunkRef>,
    group: Vec<ChunkRef>,
}

impl Surveyor {
    fn run(mut self, side: Reading<'_>) -> Result<Survey> {
        let wrong = |error: store::Error| unreadable(side.0, &error);
        let mut inventory = Inventory::default();
        let mut total = Space::default();
        for item in side.1.entries().map_err(wrong)? {
            let (entry, chunks) = item.map_err(wrong)?;
            inventory.look(&entry, &chunks);
            let Kind::File { size } = entry.kind else {
                continue;
            };
            total.add(size);
            let path = canonical_tar::display(&entry.path);
            let owner = NOBODY;
            self.files.insert(digest(&path), Known { size, owner });
            match path.as_str() {
                "var/lib/dpkg/status" => self.status = chunks,
                "etc/group" => self.group = chunks,
                _ => {}
            }
        }
        inventory.each(side, &mut |path, owner| self.own(&path, owner))?;
        let (directories, rest) = self.unowned(side)?;
        let status = content::read(side, &self.status, MAX_FILE)?;
        let group = content::read(side, &self.group, MAX_FILE)?;
        Ok(Survey {
            schema: SCHEMA,
            image: side.0.image,
            total,
            packages: self.packages(side.0, &String::from_utf8_lossy(&status)),
            distributions: self.distributions(),
            directories,
            rest,
            groups: groups(&String::from_utf8_lossy(&group)),
        })
    }

    /// The first who lists a file has brought it.
    fn own(&mut self, path: &str, owner: &Owner) {
        let Some(known) = self.files.get_mut(&digest(path)) else {
            return;
        };
        if known.owner != NOBODY {
            return;
        }
        let number = if let Some(number) = self.numbers.get(owner) {
            *number
        } else {
            let number = self.owners.len() as u32;
            self.numbers.insert(owner.clone(), number);
            self.owners.push((owner.clone(), Space::default()));
            number
        };
        known.owner = number;
        self.owners[number as usize].1.add(known.size);
    }

    /// Reads the layout once more, for the paths of what nobody lists.
    fn unowned(&mut self, side: Reading<'_>) -> Result<(Vec<SurveyedDirectory>, Space)> {
        let wrong = |error: store::Error| unreadable(side.0, &error);
        let mut found: BTreeMap<String, Space> = BTreeMap::new();
        for item in side.1.entries().map_err(wrong)? {
            let (entry, _) = item.map_err(wrong)?;
            let Kind::File { size } = entry.kind else {
                continue;
            };
            let path = canonical_tar::display(&entry.path);
            let is_owned = |path: &str| {
                let known = self.files.get(&digest(path))?;
                (known.owner != NOBODY).then_some(known.owner)
            };
            if is_owned(&path).is_some() {
                continue;
            }
            let package = owners::described(&path).map(|name| Owner::Package(name.to_owned()));
            let number = package
                .and_then(|owner| self.numbers.get(&owner).copied())
                .or_else(|| is_owned(&owners::source(&path)?));
            match number {
                Some(number) => self.owners[number as usize].1.add(size),
                None => found
                    .entry(directory(&path).to_owned())
                    .or_default()
                    .add(size),
            }
        }
        let all = found.into_iter();
        let mut all: Vec<_> = all
            .map(|(path, space)| SurveyedDirectory { path, space })
            .collect();
        all.sort_by(|a, b| (b.space.size, &a.path).cmp(&(a.space.size, &b.path)));
        let mut rest = Space::default();
        for one in all.drain(MOST_DIRECTORIES.min(all.len())..) {
            rest.files += one.space.files;
            rest.size += one.space.size;
        }
        Ok((all, rest))
    }

    fn packages(&self, manifest: &Manifest, status: &str) -> Vec<SurveyedPackage> {
        let sources = dpkg_status::packages_and_sources(status).into_iter();
        let sources: HashMap<String, dpkg_status::SourcePackage> = sources
            .map(|(package, source)| (package.name, source))
            .collect();
        let mut names: Vec<&String> = manifest.packages.iter().map(|p| &p.name).collect();
        names.sort_unstable();
        names.dedup();
        let surveyed = names.into_iter().map(|name| {
            let source = sources.get(name);
            SurveyedPackage {
                source: source.map(|s| s.name.clone()).unwrap_or_default(),
                source_version: source.map(|s| s.version.clone()).unwrap_or_default(),
                space: self.space(&Owner::Package(name.clone())),
                name: name.clone(),
            }
        });
        surveyed.collect()
    }

    fn space(&self, owner: &Owner) -> Space {
        let number = self.numbers.get(owner);
        number.map_or_else(Space::default, |number| self.owners[*number as usize].1)
    }

    fn distributions(self) -> Vec<SurveyedDistribution> {
        let mut found: Vec<SurveyedDistribution> = Vec::new();
        for (owner, space) in self.owners {
            if let Owner::Distribution { virtualenv, name } = owner {
                found.push(SurveyedDistribution {
                    virtualenv,
                    name,
                    space,
                });
            }
        }
        found.sort_by(|a, b| (&a.virtualenv, &a.name).cmp(&(&b.virtualenv, &b.name)));
        found
    }
}

/// A digest of a path, equal on every machine.
fn digest(path: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}

/// The first two directories of a file's path.
fn directory(path: &str) -> &str {
    let above = path.rsplit_once('/').map_or("", |(above, _)| above);
    let mut slashes = above.match_indices('/').map(|(at, _)| at);
    slashes.nth(1).map_or(above, |end| &above[..end])
}

fn groups(text: &str) -> Vec<Group> {
    let group = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, gid, members] = fields[..] else {
            return None;
        };
        let members = members.split(',').filter(|member| !member.is_empty());
        Some(Group {
            name: name.to_owned(),
            gid: gid.parse().ok()?,
            members: members.map(str::to_owned).collect(),
        })
    };
    text.lines().filter_map(group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_groups_and_directories_of_files() {
        let found = groups("root:x:0:\nops:x:7:ann,bob\nbroken\nx:x:-1:\n");
        assert_eq!(found.len(), 2);
        assert_eq!((found[1].gid, found[1].members.len()), (7, 2));
        for (path, expected) in [
            ("file", ""),
            ("etc/file", "etc"),
            ("srv/app/file", "srv/app"),
            ("srv/app/deep/er/file", "srv/app"),
        ] {
            assert_eq!(directory(path), expected, "{path}");
        }
    }

    #[test]
    fn a_survey_has_one_spelling() {
        let survey = Survey {
            schema: SCHEMA,
            image: ImageId::of(b"image"),
            total: Space { files: 1, size: 2 },
            packages: Vec::new(),
            distributions: Vec::new(),
            directories: Vec::new(),
            rest: Space::default(),
            groups: Vec::new(),
        };
        let json = survey.to_json();
        assert_eq!(Survey::from_json(&json).unwrap(), survey);
        let text = String::from_utf8(json).unwrap();
        for wrong in [
            text.trim_end().to_owned(),
            text.replace("\"schema\":1", "\"schema\":2"),
            text.replace("\"rest\"", "\"more\":1,\"rest\""),
            text.replace(',', ", "),
        ] {
            assert!(Survey::from_json(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
