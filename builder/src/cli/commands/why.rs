//! `imgbuild why NODE [SYSTEM]`

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Value;
use store::attest::{self, Attestation, Kind};
use store::keys::PublicKey;
use store::receipt::{self, FOLDER, Installed, MAX_BYTES, Receipt, SignedReceipt, System};
use store::tuf::{Action, Environment, Release, revoked_images};
use store::{Manifest, Store};

use super::fleet::{Found, find};
use crate::cli::args::WhyArgs;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::fleet::Place;
use crate::release::ceremony::{self, failed};
use crate::release::keyring::{Keyring, Names, Passphrase};
use crate::settings::Settings;
use crate::stores;
use crate::stores::released;
use crate::ui::{self, Ui};

/// How many receipts are looked through for what ran before.
const LOOKED_THROUGH: usize = 500;

#[derive(Serialize)]
struct Shown {
    schema: u32,
    node: String,
    environment: String,
    systems: Vec<ShownSystem>,
}

#[derive(Serialize)]
struct ShownSystem {
    system: String,
    lines: Vec<Line>,
}

/// Something that is said, and who says it.
#[derive(Serialize)]
struct Line {
    /// What it is about: `runs`, `release`, `recipe`, `built`, ...
    what: &'static str,
    /// What is said.
    text: String,
    /// The keys whose signatures it rests on; none where nothing vouches for it.
    signed_by: Vec<Vouches>,
}

/// A key that vouches for something.
#[derive(Clone, Serialize)]
struct Vouches {
    /// Its public half.
    key: String,
    /// What it is called here.
    name: Option<String>,
}

/// Where what is said of a node comes from.
struct Sources<'a> {
    found: &'a Found<'a>,
    store: &'a Store,
    names: Names,
    releases: Vec<Release>,
    /// Receipts of the node that have its signature, the newest first.
    receipts: Vec<Receipt>,
}

pub(super) fn run(args: &WhyArgs, settings: &Settings, ui: &Ui) -> Result<()> {
    let store = stores::open(settings)?;
    let place = Place::open(args.from.receipts.as_deref(), settings)?;
    let found = find(&args.node, args.env.as_deref(), &place, &store, settings)?;
    let name = found.env.name();
    let keyring = Keyring::new(settings, Passphrase::Terminal, None);
    let sources = Sources {
        names: keyring.names(found.policy())?,
        releases: ceremony::releases(&found.env)?,
        receipts: receipts(&found, &place)?,
        found: &found,
        store: &store,
    };
    let Some(newest) = found.seen.newest.as_ref().map(|newest| &newest.receipt) else {
        return Err(
            Error::failed(format!("{} has written no receipt", found.node.name))
                .hint("imgnode receipts send on the node writes one"),
        );
    };
    let wanted = |system: &&System| {
        args.system
            .as_ref()
            .is_none_or(|name| *name == system.system)
    };
    let shown: Vec<_> = newest.systems.iter().filter(wanted).collect();
    if shown.is_empty() {
        let known: Vec<_> = newest.systems.iter().map(|one| &*one.system).collect();
        let text = format!("{} says nothing of such a system", found.node.name);
        return Err(Error::usage(text).hint(format!("it has: {}", known.join(", "))));
    }
    let mut systems = Vec::new();
    for system in shown {
        systems.push(ShownSystem {
            system: system.system.clone(),
            lines: sources.lines(system, newest, ui)?,
        });
    }
    if ui.is_json() {
        ui.result_json(&Shown {
            schema: ui::SCHEMA,
            node: found.node.name.to_string(),
            environment: name.to_string(),
            systems,
        });
    } else {
        for system in &systems {
            ui.result(&format!("{} {}", found.node.name, system.system));
            for line in &system.lines {
                ui.result(&format!(
                    "  {:<9} {}  [{}]",
                    line.what,
                    line.text,
                    line.vouched()
                ));
            }
        }
    }
    if found.seen.faults.is_empty() {
        return Ok(());
    }
    let mut error = Error::new(
        ErrorKind::Refused,
        format!("receipts of {} cannot be believed", found.node.name),
    );
    for fault in &found.seen.faults {
        error = error.detail(fault.to_string());
    }
    Err(error.hint("what it says of itself may be another machine's word"))
}

impl Line {
    fn vouched(&self) -> String {
        if self.signed_by.is_empty() {
            return "nothing vouches for this".to_owned();
        }
        let names = self.signed_by.iter().map(|one| match &one.name {
            Some(name) => name.clone(),
            None => one.key[..16].to_owned(),
        });
        names.collect::<Vec<_>>().join(", ")
    }
}

/// The receipts of a node that are its own, the newest first.
fn receipts(found: &Found<'_>, place: &Place) -> Result<Vec<Receipt>> {
    let node = &found.node;
    let what = || format!("cannot read the receipts of {}", node.name);
    let folder = format!("{FOLDER}/{}", node.name);
    let last = found
        .seen
        .newest
        .as_ref()
        .map_or(0, |newest| newest.receipt.counter);
    let names: Vec<String> = match place.folder.list(&folder).context(what)? {
        Some(listed) => listed.into_iter().map(|one| one.name).rev().collect(),
        None => (1..=last)
            .rev()
            .map(|counter| format!("{counter:012}.json"))
            .collect(),
    };
    let mut read = Vec::new();
    for name in names.iter().take(LOOKED_THROUGH) {
        let Some(counter) = receipt::counter(name) else {
            continue;
        };
        let object = format!("{folder}/{name}");
        let Some(bytes) = place.folder.get(&object, MAX_BYTES).context(what)? else {
            // Nothing lists them, and older ones were removed.
            break;
        };
        if let Ok(one) = SignedReceipt::read(&bytes)
            && one.is_by(&node.key())
            && (&one.receipt.node, one.receipt.counter) == (&node.name, counter)
        {
            read.push(one.receipt);
        }
    }
    Ok(read)
}

impl Sources<'_> {
    fn env(&self) -> &Environment<'_> {
        &self.found.env
    }

    fn vouches(&self, key: &PublicKey) -> Vouches {
        Vouches {
            key: key.hex(),
            name: self.names.of(key).map(str::to_owned),
        }
    }

    /// What the node says, with its signature.
    fn node(&self) -> Vec<Vouches> {
        vec![Vouches {
            key: self.found.node.key().hex(),
            name: Some(format!("node {}", self.found.node.name)),
        }]
    }

    fn lines(&self, system: &System, newest: &Receipt, ui: &Ui) -> Result<Vec<Line>> {
        let shown = system.runs.as_ref().unwrap_or(&system.active);
        let word = if system.runs.is_some() {
            "runs"
        } else {
            "would run"
        };
        let mut lines = vec![Line {
            what: "runs",
            text: format!(
                "{}, generation {}; it {word} by receipt {} of {}",
                shown.image, shown.generation, newest.counter, newest.time
            ),
            signed_by: self.node(),
        }];
        if let Some(at) = system.verified {
            lines.push(Line {
                what: "verified",
                text: format!("its tree was as it was signed at {at}"),
                signed_by: self.node(),
            });
        }
        lines.push(self.enrolled());
        lines.push(self.release(system, shown)?);
        lines.extend(self.said_of_image(system, shown, ui)?);
        lines.push(self.replaced(system));
        lines.push(self.way_back(system));
        Ok(lines)
    }

    /// Who says that the key is the node's.
    fn enrolled(&self) -> Line {
        let node = &self.found.node;
        Line {
            what: "node",
            text: format!(
                "{} in the group {} has that key since {}, by list {}",
                node.name, node.group, node.added, self.found.members.fleet.version
            ),
            signed_by: self
                .found
                .members
                .signer
                .iter()
                .map(|key| self.vouches(key))
                .collect(),
        }
    }

    fn listed(&self, system: &System, installed: &Installed) -> Option<&Release> {
        let here = installed.environment == *self.env().name();
        self.releases.iter().find(|release| {
            here && (&release.name, release.seq, release.image)
                == (&system.image_name, installed.seq, installed.image)
        })
    }

    fn release(&self, system: &System, shown: &Installed) -> Result<Line> {
        let env = self.env();
        let what = || format!("cannot read the log of {}", env.name());
        let mut text = format!("{}/{}/{}", shown.environment, system.image_name, shown.seq);
        let Some(listed) = self.listed(system, shown) else {
            let _ = write!(text, " is not a release of {} now", env.name());
            return Ok(Line {
                what: "release",
                text,
                signed_by: Vec::new(),
            });
        };
        if revoked_images(&self.releases).contains(&shown.image) {
            text += ", revoked";
        }
        let entries = env.log(usize::MAX).map_err(|e| failed(what(), &e))?;
        let released = entries.into_iter().find(|entry| {
            (&entry.name, entry.seq, entry.image) == (&system.image_name, shown.seq, shown.image)
                && matches!(entry.act, Action::Release | Action::Promote)
        });
        let mut signed_by = Vec::new();
        if let Some(entry) = released {
            let _ = write!(text, " of {}", entry.time);
            if let Some(from) = &entry.from {
                let _ = write!(text, ", from {}/{}", from.env, from.seq);
            }
            let signers = env.log_signers(&[entry]).map_err(|e| failed(what(), &e))?;
            signed_by.extend(signers.iter().flatten().map(|key| self.vouches(key)));
        }
        if let Some(waves) = &listed.custom.waves {
            let _ = write!(text, ", {}", waves.standing());
        }
        Ok(Line {
            what: "release",
            text,
            signed_by,
        })
    }

    /// Who built, tested, rebuilt, approved and audited an image.
    fn said_of_image(&self, system: &System, shown: &Installed, ui: &Ui) -> Result<Vec<Line>> {
        let manifest = match self.listed(system, shown) {
            Some(release) => released::manifest(self.store, release).ok(),
            None => self.store.manifest(&shown.image).ok(),
        };
        let Some(manifest) = manifest else {
            return Ok(vec![Line {
                what: "image",
                text: "the store has nothing of it".to_owned(),
                signed_by: Vec::new(),
            }]);
        };
        let mut odd = |key: &str, e: &store::Error| {
            ui.note(&format!(
                "warning: the attestation {key} is passed over: {e}"
            ));
        };
        let what = || format!("cannot read what is said about {}", manifest.image);
        let said = attest::of_image(self.store.backend(), &manifest, &mut odd).context(what)?;
        let (env, root) = (self.env().name(), self.env().fingerprint());
        let mut lines = Vec::new();
        for kind in [
            Kind::Provenance,
            Kind::TestResult,
            Kind::Rebuild,
            Kind::Approval,
            Kind::Audit,
        ] {
            let mut of_kind: Vec<&Attestation> = said
                .iter()
                .filter(|one| one.kind == Some(kind))
                .filter(|one| kind != Kind::Approval || one.applies_to(env, &root))
                .collect();
            of_kind.sort_by_key(|one| one.time());
            if kind == Kind::Audit {
                // An older one says less.
                of_kind = of_kind.pop().into_iter().collect();
            }
            if of_kind.is_empty() {
                lines.push(Line {
                    what: kind.name(),
                    text: "by nobody".to_owned(),
                    signed_by: Vec::new(),
                });
            }
            for one in of_kind {
                lines.push(self.attested(kind, one, &manifest));
            }
        }
        Ok(lines)
    }

    fn attested(&self, kind: Kind, one: &Attestation, manifest: &Manifest) -> Line {
        let signers = one.signers(&self.names.keys());
        let mut text = match kind {
            Kind::Provenance => provenance(&one.predicate),
            Kind::TestResult => {
                let field = |name: &str| one.predicate.get(name);
                let result = field("result")
                    .and_then(Value::as_str)
                    .unwrap_or("no result");
                let tests = field("passedTests")
                    .and_then(Value::as_array)
                    .map_or(0, Vec::len);
                format!("{result}, {tests} tests")
            }
            Kind::Rebuild => "another build came to the same bytes".to_owned(),
            Kind::Approval => {
                let comment = one.predicate.get("comment").and_then(Value::as_str);
                let comment = comment.map(|comment| format!(": {comment}"));
                format!("for {}{}", self.env().name(), comment.unwrap_or_default())
            }
            Kind::Audit => match one.audit() {
                Some(audit) => {
                    let advisories = if audit.has_advisories {
                        format!(", {} advisories", audit.advisories.len())
                    } else {
                        String::new()
                    };
                    let as_of = common::clock::rfc3339(audit.as_of).unwrap_or_default();
                    let pending: Vec<_> = audit.pending.iter().map(|one| &*one.package).collect();
                    let mut names = pending
                        .iter()
                        .take(6)
                        .copied()
                        .collect::<Vec<_>>()
                        .join(", ");
                    if pending.len() > 6 {
                        names += ", ...";
                    }
                    format!(
                        "{} security updates were pending{}{names}{advisories}, as of {as_of}",
                        pending.len(),
                        if pending.is_empty() { "" } else { ": " }
                    )
                }
                None => "an audit that does not say what one must".to_owned(),
            },
        };
        if let Some(at) = one.time().and_then(common::clock::rfc3339) {
            let _ = write!(text, ", {at}");
        }
        if !one.covers(manifest) {
            text += " (of the bytes, not of what is started)";
        }
        if signers.is_empty() {
            let claimed: Vec<String> = one
                .claimed_key_ids()
                .map(|id| id.chars().take(16).collect())
                .collect();
            let _ = write!(
                text,
                " (by a key that is not known here, {})",
                claimed.join(", ")
            );
        }
        Line {
            what: kind.name(),
            text,
            signed_by: signers.iter().map(|key| self.vouches(key)).collect(),
        }
    }

    /// What was active before, as far back as receipts go.
    fn replaced(&self, system: &System) -> Line {
        let of = |receipt: &Receipt| {
            let found = receipt
                .systems
                .iter()
                .find(|one| one.system == system.system);
            found.map(|one| one.active.clone())
        };
        let mut since = None;
        for receipt in &self.receipts {
            let before = of(receipt);
            match before {
                Some(before) if before.image == system.active.image => since = Some(receipt),
                Some(before) => {
                    let at = since
                        .map(|since| since.time.to_string())
                        .unwrap_or_default();
                    return Line {
                        what: "replaced",
                        text: format!(
                            "{}/{}/{} {} at {at}",
                            before.environment, system.image_name, before.seq, before.image
                        ),
                        signed_by: self.node(),
                    };
                }
                None => break,
            }
        }
        Line {
            what: "replaced",
            text: match since {
                Some(since) => format!(
                    "not known; it was there by receipt {} of {}",
                    since.counter, since.time
                ),
                None => "not known".to_owned(),
            },
            signed_by: since.map(|_| self.node()).unwrap_or_default(),
        }
    }

    fn way_back(&self, system: &System) -> Line {
        let Some(previous) = &system.previous else {
            return Line {
                what: "back to",
                text: "nothing that may run is on the node".to_owned(),
                signed_by: self.node(),
            };
        };
        let barred = if revoked_images(&self.releases).contains(&previous.image) {
            ", revoked since"
        } else if self.listed(system, previous).is_none() {
            ", which is not a release any more"
        } else {
            ""
        };
        Line {
            what: "back to",
            text: format!(
                "{}/{}/{} {}, generation {}{barred}: imgnode rollback {}",
                previous.environment,
                system.image_name,
                previous.seq,
                previous.image,
                previous.generation,
                system.system
            ),
            signed_by: self.node(),
        }
    }
}

/// From what an image was built.
fn provenance(predicate: &Value) -> String {
    let kind = predicate
        .pointer("/buildDefinition/buildType")
        .and_then(Value::as_str);
    if kind == Some("urn:imgbuild:import:1") {
        return "imported, from bytes that nobody here knows".to_owned();
    }
    let recipe = predicate.pointer("/buildDefinition/externalParameters/recipe");
    let recipe = recipe.and_then(Value::as_str).unwrap_or("not said");
    let mut text = format!("from the recipe {recipe}");
    let inputs = predicate.pointer("/buildDefinition/resolvedDependencies");
    let commits = inputs
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|input| input.pointer("/digest/gitCommit").and_then(Value::as_str));
    for commit in commits.take(4) {
        let _ = write!(text, ", commit {commit}");
    }
    text
}
