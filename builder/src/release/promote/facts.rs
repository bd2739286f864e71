//! What is known of an image, compared with what an environment asks.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use store::attest::{self, Attestation, Kind};
use store::audit::Audit;
use store::keys::PublicKey;
use store::tuf::{
    AuditFault, BaseFact, Claim, Environment, Facts, Policy, Release, Violation, revoked_images,
};
use store::{EnvName, ImageId, Manifest, Store};

use crate::error::{Error, ErrorKind, Result};
use crate::lockfile::{self, Base};
use crate::release::ceremony;
use crate::release::keyring::Keyring;
use crate::stores::ancestry;
use crate::ui::Ui;

/// What came of a comparison.
#[derive(Debug)]
pub struct Checked {
    /// What is known.
    pub facts: Facts,
    /// What is not met.
    pub unmet: Vec<Violation>,
    /// Whether an audit counts only when it was compared with advisories.
    pub wants_advisories: bool,
}

/// Compares an image with the policy of an environment. Attestations and releases are
/// looked for in all `stores`.
pub fn check(
    manifest: &Manifest,
    env: &Environment<'_>,
    policy: &Policy,
    stores: &[&Store],
    keyring: &Keyring,
    ui: &Ui,
) -> Result<Checked> {
    let Said {
        mut words,
        audits,
        first,
    } = words(manifest, env, policy, stores, ui);
    if policy.witnessed.is_some() {
        words.extend(witnesses(env, policy, ui)?);
    }
    let mut facts = Facts {
        words,
        audits,
        now: now(),
        age_days: age_days(manifest.epoch, first),
        suite: manifest.suite.clone(),
        setuid: manifest
            .setuid
            .iter()
            .map(|file| file.path.clone())
            .collect(),
        released: BTreeSet::new(),
        base: BaseFact::None,
    };
    let digest = store::Sha256::of(&manifest.to_json()).hex();
    let same = |r: &Release| r.image == manifest.image && r.target_path.contains(&digest);
    facts.released = released_in(&policy.from, stores, keyring, &manifest.image, &same)?;
    if policy.asks_for_base() {
        facts.base = base_of(manifest, policy, stores, keyring)?;
    }
    let unmet = policy.violations(&facts);
    let audited = policy.audited.as_ref();
    Ok(Checked {
        facts,
        unmet,
        wants_advisories: audited.is_some_and(|audited| audited.advisories.is_some()),
    })
}

/// Times of files can be anything; what somebody signed about an image was said when it was there.
fn age_days(epoch: u64, first_word: Option<u64>) -> Option<u64> {
    let date = first_word.map_or(epoch, |first| first.min(epoch));
    Some(now().checked_sub(date)? / (24 * 60 * 60))
}

fn now() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or_default()
}

/// The words that count.
#[derive(Default)]
struct Said {
    words: Vec<(Claim, PublicKey)>,
    /// What those found who audited it.
    audits: Vec<(PublicKey, Audit)>,
    /// When the first of them was signed.
    first: Option<u64>,
}

fn words(
    manifest: &Manifest,
    env: &Environment<'_>,
    policy: &Policy,
    stores: &[&Store],
    ui: &Ui,
) -> Said {
    let keys = keys_of(policy);
    let Said {
        mut words,
        mut audits,
        mut first,
    } = Said::default();
    for store in stores {
        let mut odd = |key: &str, e: &store::Error| {
            ui.note(&format!(
                "warning: the attestation {key} is passed over: {e}"
            ));
        };
        match attest::of_image(store.backend(), manifest, &mut odd) {
            Ok(found) => {
                for said in &found {
                    let spoken = spoken(said, env, &keys);
                    if said.covers(manifest) {
                        let time = said.time().filter(|_| !spoken.is_empty());
                        first = first.into_iter().chain(time).min();
                        if let Some(audit) = said.audit() {
                            let by = spoken.iter().map(|(_, key)| (*key, audit.clone()));
                            audits.extend(by);
                        }
                        words.extend(spoken);
                    } else if !spoken.is_empty() {
                        ui.note(&format!(
                            "warning: the attestation {} that it was {} does not count: it is \
                             about the bytes, or about another manifest of them, and not about \
                             what this one starts",
                            said.key,
                            said.kind.map_or("known", Kind::name)
                        ));
                    }
                }
            }
            Err(e) => ui.note(&format!("warning: {e}")),
        }
    }
    Said {
        words,
        audits,
        first,
    }
}

/// Those of the policy's keys that have signed the environment's log as it stands.
fn witnesses(env: &Environment<'_>, policy: &Policy, ui: &Ui) -> Result<Vec<(Claim, PublicKey)>> {
    let mut odd = |e: &store::tuf::Error| ui.note(&format!("warning: {e}"));
    let found = env.witnesses(&keys_of(policy), &mut odd);
    let found = found.map_err(|e| super::failed("cannot ask for witnesses", &e))?;
    Ok(found
        .into_iter()
        .map(|key| (Claim::Witnessed, key))
        .collect())
}

fn keys_of(policy: &Policy) -> Vec<PublicKey> {
    let keys = policy.keys.values();
    keys.filter_map(|hex| hex.parse().ok()).collect()
}

fn spoken(
    said: &Attestation,
    env: &Environment<'_>,
    keys: &[PublicKey],
) -> Vec<(Claim, PublicKey)> {
    let word = match said.kind {
        Some(Kind::Provenance) => Claim::Built,
        Some(Kind::TestResult) => Claim::Tested,
        Some(Kind::Rebuild) => Claim::Rebuilt,
        Some(Kind::Approval) => Claim::Approved,
        Some(Kind::Audit) => Claim::Audited,
        None => return Vec::new(),
    };
    if !said.applies_to(env.name(), &env.fingerprint()) {
        return Vec::new();
    }
    said.signers(keys)
        .into_iter()
        .map(|key| (word, key))
        .collect()
}

/// What the image begins with, and what became of that in its environment.
fn base_of(
    manifest: &Manifest,
    policy: &Policy,
    stores: &[&Store],
    keyring: &Keyring,
) -> Result<BaseFact> {
    let has_lock = |store: &&&Store| {
        let lock = store.input(&manifest.lock, lockfile::MAX_SIZE);
        lock.is_ok_and(|lock| lock.is_some())
    };
    let Some(with_lock) = stores.iter().find(has_lock) else {
        return Ok(BaseFact::Unknown);
    };
    let Some(base) = ancestry::base(with_lock, manifest)? else {
        return Ok(BaseFact::None);
    };
    let same = |r: &Release| r.image == base.image;
    let mut newer = None;
    let env = base
        .release
        .as_deref()
        .and_then(|name| name.split('/').next()?.parse().ok());
    if let Some(env) = env.filter(|_| policy.base_newest) {
        // What it does not show cannot be newer: it is vouched for, and nothing has run out.
        released_in(&BTreeSet::from([env]), stores, keyring, &base.image, &same)?;
        newer = stores
            .iter()
            .find_map(|store| ancestry::standing(store, &base).newer);
    }
    let mut released = released_in(&policy.base_from, stores, keyring, &base.image, &same)?;
    let mut name = base.to_string();
    // What the base stands on is in the image as well.
    let mut seen = BTreeSet::from([base.image]);
    let mut below = base_below(stores, &base.image)?;
    while let Some(base) = below.filter(|base| !released.is_empty() && seen.insert(base.image)) {
        let same = |r: &Release| r.image == base.image;
        released = released_in(&policy.base_from, stores, keyring, &base.image, &same)?;
        if released.is_empty() {
            name = base.to_string();
        }
        below = base_below(stores, &base.image)?;
    }
    Ok(BaseFact::Base {
        released,
        newer,
        name,
    })
}

/// The base of a base, as far as its manifest is there.
fn base_below(stores: &[&Store], image: &ImageId) -> Result<Option<Base>> {
    for store in stores {
        if let Ok(manifest) = store.manifest(image)
            && let Some(base) = ancestry::base(store, &manifest)?
        {
            return Ok(Some(base));
        }
    }
    Ok(None)
}

/// The environments of these that have an image released and not revoked.
fn released_in(
    environments: &BTreeSet<EnvName>,
    stores: &[&Store],
    keyring: &Keyring,
    image: &ImageId,
    same: &dyn Fn(&Release) -> bool,
) -> Result<BTreeSet<EnvName>> {
    let mut found = BTreeSet::new();
    for name in environments {
        for store in stores {
            if has_released(store, name, image, same, keyring)? {
                found.insert(name.clone());
            }
        }
    }
    Ok(found)
}

/// Whether an environment that was vouched for has such a release of an image, and has not
/// revoked it.
fn has_released(
    store: &Store,
    name: &EnvName,
    image: &ImageId,
    same: &dyn Fn(&Release) -> bool,
    keyring: &Keyring,
) -> Result<bool> {
    let Ok(true) = Environment::exists(store, name) else {
        return Ok(false);
    };
    let what = || format!("cannot read the environment {name}");
    let env = ceremony::admitted(store, name, keyring)?;
    if let Some((role, time)) = super::ran_out(&env) {
        return Err(Error::new(ErrorKind::Refused, what())
            .detail(format!(
                "its {role} ran out at {time}: what it revoked since may be missing"
            ))
            .hint(match role {
                "root" => format!("imgbuild env root propose {name}, then sign and publish"),
                "targets" => format!("imgbuild env refresh --all {name}, or its next release"),
                _ => format!("imgbuild env refresh {name}, where its online key is"),
            }));
    }
    let releases = ceremony::releases(&env)?;
    let revoked = revoked_images(&releases).contains(image);
    Ok(!revoked && releases.iter().any(same))
}

impl Checked {
    /// An error that names each unmet point and what would meet it, if there is one.
    pub fn refuse(&self, manifest: &Manifest, env: &EnvName) -> Result<()> {
        if self.unmet.is_empty() {
            return Ok(());
        }
        let what = format!("{} does not meet the policy of {env}", manifest.name);
        let mut error = Error::new(ErrorKind::Refused, what);
        for point in &self.unmet {
            error = error.detail(sentence(point, manifest, env, self.wants_advisories));
        }
        let lack_advisories = self.unmet.iter().any(|point| match point {
            Violation::Audits { faults, .. } => {
                let mut faults = faults.iter().flat_map(|(_, faults)| faults);
                faults.any(|fault| matches!(fault, AuditFault::NoAdvisories))
            }
            _ => false,
        });
        Err(error.hint(if lack_advisories {
            "--advisories FILE takes advisories of OSV and of Debian's tracker that you have fetched: \
             imgbuild audit --help"
                .to_owned()
        } else {
            format!(
                "imgbuild show {} --attestations shows what is said about it",
                short(manifest)
            )
        }))
    }
}

fn short(manifest: &Manifest) -> String {
    manifest.image.hex()[..16].to_owned()
}

fn sentence(
    point: &Violation,
    manifest: &Manifest,
    env: &EnvName,
    wants_advisories: bool,
) -> String {
    let image = short(manifest);
    match point {
        Violation::Words {
            word,
            needed,
            given,
            missing,
        } => {
            let mut text = format!("{}: {} of {needed}", word.point(), given.len());
            if !given.is_empty() {
                let _ = write!(text, ", by {}", given.join(", "));
            }
            let who = missing.join(" or ");
            let command = match word {
                Claim::Built => "imgbuild RECIPE".to_owned(),
                Claim::Tested => "imgbuild RECIPE, with `[[test]]` in it".to_owned(),
                Claim::Rebuilt => format!("imgbuild rebuild {image} --attest"),
                Claim::Approved => format!("imgbuild approve {image} --for {env} --key NAME"),
                Claim::Witnessed => format!("imgbuild env witness {env} --key NAME"),
                Claim::Audited => audit_command(&image, wants_advisories),
            };
            let _ = write!(text, "; wanted of {who}: {command}");
            text
        }
        Violation::Audits {
            needed,
            given,
            missing,
            faults,
        } => {
            let mut text = format!("audited: {} of {needed}", given.len());
            if !given.is_empty() {
                let _ = write!(text, ", by {}", given.join(", "));
            }
            let who: Vec<&str> = missing
                .iter()
                .chain(faults.iter().map(|f| &f.0))
                .map(String::as_str)
                .collect();
            let _ = write!(
                text,
                "; wanted of {}: {}",
                who.join(" or "),
                audit_command(&image, wants_advisories)
            );
            for (name, faults) in faults {
                for fault in faults {
                    let _ = write!(text, "\n  by {name}: {}", audit_fault(fault));
                }
            }
            text
        }
        Violation::Age { days: None, most } => format!(
            "age: it is dated in the future of this machine's clock, at most {most} days are \
             allowed: set the clock, or import it with SOURCE_DATE_EPOCH"
        ),
        Violation::Age {
            days: Some(days),
            most,
        } => format!(
            "age: its packages are {days} days old, at most {most} are allowed: \
             imgbuild lock RECIPE --upgrade, then build"
        ),
        Violation::Suite { suite, allowed } => {
            format!("suite: it is {suite}, allowed is {}", allowed.join(", "))
        }
        Violation::Setuid(paths) => format!(
            "setuid: it must not have {}: remove the bit in the recipe, then build",
            paths.join(", ")
        ),
        Violation::UnknownBase => {
            "base: the store has its lock no more, which says what it begins \
             with: copy the image with its inputs"
                .to_owned()
        }
        Violation::BaseFrom { base, from } => {
            let names: Vec<_> = from.iter().map(ToString::to_string).collect();
            format!(
                "base-from: {base}, with which it begins, is not released in {}, or was revoked there",
                names.join(" or ")
            )
        }
        Violation::BaseOutdated { base, newer } => format!(
            "base-newest: it begins with {base}, and {newer} is newer: imgbuild lock RECIPE \
             --upgrade=base, then build"
        ),
        Violation::From(envs) => {
            let names: Vec<_> = envs.iter().map(ToString::to_string).collect();
            format!(
                "from: it is not released in {}: imgbuild promote {image} --to {}",
                names.join(" or "),
                names[0]
            )
        }
    }
}

fn audit_command(image: &str, wants_advisories: bool) -> String {
    let advisories = if wants_advisories {
        " --advisories FILE"
    } else {
        ""
    };
    format!("imgbuild audit {image}{advisories} --sign --key NAME")
}

fn audit_fault(fault: &AuditFault) -> String {
    const SHOWN: usize = 20;
    let list = |found: &[String]| {
        let mut text = found[..found.len().min(SHOWN)].join(", ");
        if found.len() > SHOWN {
            let _ = write!(text, " and {} more", found.len() - SHOWN);
        }
        text
    };
    match fault {
        AuditFault::Age { days: None, .. } => {
            "it is dated in the future of this machine's clock".to_owned()
        }
        AuditFault::Age {
            days: Some(days),
            most,
        } => {
            format!("what it knows is {days} days old, at most {most} are allowed: audit it again")
        }
        AuditFault::Pending { found, most } => format!(
            "sources with pending security updates: {}, at most {most} are allowed: {}; imgbuild \
             lock RECIPE --upgrade=security, then build",
            found.len(),
            list(found)
        ),
        AuditFault::NoAdvisories => "it was compared with no advisories".to_owned(),
        AuditFault::Advisories { found, most } => format!(
            "advisories that fit: {}, at most {most} are allowed: {}",
            found.len(),
            list(found)
        ),
        AuditFault::Expired(except) => format!(
            "the policy's exception for {} expired on {}: imgbuild env root propose ENV --policy \
             FILE makes another one",
            except.id, except.expires
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::age_days;

    #[test]
    fn an_image_is_as_old_as_the_first_word_about_it() {
        let days = |days: i64| {
            let now = jiff::Timestamp::now().as_second();
            u64::try_from(now - days * 24 * 60 * 60 - 60).unwrap()
        };
        assert_eq!(age_days(days(5), None), Some(5));
        assert_eq!(age_days(days(5), Some(days(2))), Some(5));
        assert_eq!(age_days(days(-5), Some(days(2))), Some(2));
        assert_eq!(age_days(days(-5), None), None);
        assert_eq!(age_days(u64::MAX, Some(days(-5))), None);
    }
}
