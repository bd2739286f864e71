//! What runs where, as static HTML for people who ask.
//!
//! ```text
//! serve     the pages, on this machine, for one person
//! index     the first page: environments side by side
//! image     a page of one image
//! pair      a page of two images side by side
//! fleet     pages about nodes, where receipts are read
//! treemap   sizes as areas
//! facts     what a store says about its environments
//! site      the directory of the pages, written atomically
//! document  the frame of every page
//! html      markup in which all text is escaped
//! capability  file capabilities in words
//! ```
//!
//! The same store, keys and time are the same bytes, whenever and wherever they are written; of the
//! time counts only what has run out by then. What is slow is not done twice: a page of two images is
//! called by the digests of their manifests and stays, and so does what reading an image has brought.

mod capability;
mod document;
mod facts;
mod fleet;
mod html;
mod image;
mod index;
mod pair;
mod serve;
mod site;
#[cfg(test)]
mod tests;
mod treemap;

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use store::{EnvName, ImageId, Manifest, Store};

pub use self::fleet::{EnvNodes, FleetView};
pub use self::serve::Server;
pub use self::site::Outcome;

use self::facts::{Facts, Released};
use self::html::Notice;
use self::image::{Described, Standings};
use self::index::Shorts;
use self::site::Site;
use crate::error::{Error, ErrorKind, Result};
use crate::inspect::compare::{Side, compare};
use crate::inspect::survey::Survey;
use crate::interrupt;
use crate::release::keyring::Keyring;
use crate::stores::released;
use crate::ui::{Ui, Unit};

/// What differs between two manifests, by their digests: in a line, or why that is not known.
type Pairs = BTreeMap<(String, String), Result<String, String>>;

/// What to write.
pub struct PageRequest<'a> {
    /// The store that the pages are about.
    pub store: &'a Store,
    /// The environments, in the order of their columns; all when empty.
    pub environments: &'a [EnvName],
    /// What keys are called, and which environments somebody has vouched for.
    pub keyring: &'a Keyring,
    /// The nodes; none where nobody said where their receipts are.
    pub nodes: Option<FleetView<'a>>,
    /// What has run out by then is said to have.
    pub now: Timestamp,
    /// The directory.
    pub dir: &'a Path,
}

impl PageRequest<'_> {
    /// Writes the pages. An image that cannot be read is named on its page, and in an error when all
    /// is written.
    pub fn run(&self, ui: &mut Ui) -> Result<Outcome> {
        let facts = Facts::read(self.store, self.environments, self.keyring, self.now)?;
        let mut site = Site::open(self.dir)?;
        let mut unread = Vec::new();
        if let Err(error) = self.put_all(&facts, &mut site, &mut unread, ui) {
            // The reason is known already; a second one would not help.
            let _ = site.keep_finished();
            return Err(error);
        }
        let outcome = site.finish(&mut |text| ui.note(&text))?;
        if unread.is_empty() {
            return Ok(outcome);
        }
        unread.sort();
        unread.dedup();
        let what = "the pages are written, and some of what they are about cannot be read";
        let mut error = Error::new(ErrorKind::Refused, what);
        for line in unread {
            error = error.detail(line);
        }
        Err(error.hint("`imgbuild store fsck` says what is damaged"))
    }

    /// Adds every page to the directory's new ones.
    fn put_all(
        &self,
        facts: &Facts,
        site: &mut Site,
        unread: &mut Vec<String>,
        ui: &mut Ui,
    ) -> Result<()> {
        let pairs = self.pairs(facts, site, unread, ui)?;
        let shorts = self.images(facts, &pairs, site, unread, ui)?;
        let nodes = self.nodes.as_ref();
        if let Some(nodes) = nodes {
            fleet::put_all(nodes, facts, site, ui)?;
        }
        let index = index::page(facts, &shorts, &pairs, nodes);
        site.put(site::INDEX, &index, None)
    }

    /// A page for each pair of neighbours: releases of a name in an environment, and the newest
    /// ones of a name in two environments.
    fn pairs(
        &self,
        facts: &Facts,
        site: &mut Site,
        unread: &mut Vec<String>,
        ui: &mut Ui,
    ) -> Result<Pairs> {
        let wanted = neighbours(facts);
        let total = wanted.len() as u64;
        let mut phase = ui.phase("compare images");
        let (mut pairs, mut compared, edition) = (Pairs::new(), 0, document::edition());
        for (number, (key, (old, new))) in wanted.into_iter().enumerate() {
            interrupt::check()?;
            phase.progress(number as u64, total, Unit::Steps);
            let path = pair::path(&key.0, &key.1);
            let summary = match site.reuse(&path, &edition) {
                Some(summary) => Ok(summary),
                None => match self.compare(old, new)? {
                    Ok((page, summary)) => {
                        compared += 1;
                        site.put(&path, &page, Some((&edition, &summary)))?;
                        Ok(summary)
                    }
                    Err(Gone::Missing) => Err("not both images are in this store".to_owned()),
                    Err(Gone::Damaged(why)) => {
                        unread.push(why);
                        Err("an image cannot be read".to_owned())
                    }
                },
            };
            pairs.insert(key, summary);
        }
        phase.finish(&format!("{compared} of {total} compared"));
        Ok(pairs)
    }

    /// The page of two releases and its summary; what is missing or damaged does not end the run.
    fn compare(&self, old: &Released, new: &Released) -> Result<Result<(String, String), Gone>> {
        let old = released::manifest(self.store, &old.release)?;
        let new = released::manifest(self.store, &new.release)?;
        for manifest in [&old, &new] {
            if let Err(gone) = self.has(manifest) {
                return Ok(Err(gone));
            }
        }
        let side = |manifest| Side {
            store: self.store,
            manifest,
        };
        match compare(side(&old), side(&new), false) {
            Ok(report) => Ok(Ok((
                pair::page(&report, &old, &new),
                pair::summary(&report),
            ))),
            Err(error) => Ok(Err(damaged(&error))),
        }
    }

    fn images(
        &self,
        facts: &Facts,
        pairs: &Pairs,
        site: &mut Site,
        unread: &mut Vec<String>,
        ui: &mut Ui,
    ) -> Result<Shorts> {
        let mut images: BTreeMap<ImageId, Vec<&Released>> = BTreeMap::new();
        for one in facts.releases() {
            let of_image = images.entry(one.image()).or_default();
            if !of_image.iter().any(|known| known.manifest == one.manifest) {
                of_image.push(one);
            }
        }
        let total = images.len() as u64;
        let (mut shorts, mut standings, mut read) = (Shorts::new(), Standings::new(), 0);
        let mut phase = ui.phase("describe images");
        for (number, (image, released)) in images.into_iter().enumerate() {
            interrupt::check()?;
            phase.progress(number as u64, total, Unit::Steps);
            let mut all = Vec::new();
            for one in released {
                let mut note = |text: &str| phase.note(text);
                let (release, standings) = (&one.release, &mut standings);
                let of_one = Described::read(self.store, facts, release, standings, &mut note)?;
                shorts.insert(of_one.digest.clone(), of_one.short());
                all.push(of_one);
            }
            let survey = match site.survey(&image) {
                Some(survey) => Ok(survey),
                None => self.survey(&all[0].manifest).inspect(|_| read += 1),
            };
            let survey = match survey {
                Ok(survey) => {
                    site.keep_survey(&survey)?;
                    Ok(survey)
                }
                Err(Gone::Missing) => Err(Notice::plain(
                    "the image is not in this store any more; what is here is from its manifest",
                )),
                Err(Gone::Damaged(why)) => {
                    let text = format!("the image cannot be read: {why}");
                    unread.push(why);
                    Err(Notice::bad(text))
                }
            };
            let survey = survey.as_ref().map_err(Clone::clone);
            let page = image::page(&image, &all, survey, facts, pairs);
            site.put(&image::path(&image), &page, None)?;
        }
        phase.finish(&format!("{read} of {total} read"));
        Ok(shorts)
    }

    fn survey(&self, manifest: &Manifest) -> Result<Survey, Gone> {
        self.has(manifest)?;
        Survey::of(self.store, manifest).map_err(|error| damaged(&error))
    }

    /// Whether the store has the image: a collector may have taken it, and that is no damage.
    fn has(&self, manifest: &Manifest) -> Result<(), Gone> {
        match self.store.manifest(&manifest.image) {
            Ok(_) => Ok(()),
            Err(e) if e.kind() == store::ErrorKind::Missing => Err(Gone::Missing),
            Err(e) => Err(Gone::Damaged(format!("{}: {e}", manifest.image))),
        }
    }
}

/// Why an image cannot be read.
enum Gone {
    /// It is not in the store.
    Missing,
    /// Something is wrong with it.
    Damaged(String),
}

fn damaged(error: &Error) -> Gone {
    let causes = error.causes().first().map(|cause| format!(": {cause}"));
    Gone::Damaged(format!("{error}{}", causes.unwrap_or_default()))
}

/// Neighbours with different manifests, by the digests of those.
fn neighbours(facts: &Facts) -> BTreeMap<(String, String), (&Released, &Released)> {
    let mut found = BTreeMap::new();
    let key = |old: &Released, new: &Released| {
        (old.manifest != new.manifest).then(|| (old.manifest.clone(), new.manifest.clone()))
    };
    for (at, env) in facts.environments.iter().enumerate() {
        for (name, all) in &env.releases {
            for two in all.windows(2) {
                if let Some(key) = key(&two[0], &two[1]) {
                    found.insert(key, (&two[0], &two[1]));
                }
            }
            let before = at.checked_sub(1).map(|at| &facts.environments[at]);
            let before = before.and_then(|env| env.newest(name));
            if let (Some(before), Some(here)) = (before, env.newest(name))
                && let Some(key) = key(before, here)
            {
                found.insert(key, (before, here));
            }
        }
    }
    found
}
