//! `imgbuild list` and `imgbuild show IMAGE`

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::Serialize;
use store::{EnvName, Manifest, Store};

use super::base::ShownBase;
use super::maintenance;
use crate::cli::args::{ListArgs, ShowArgs};
use crate::error::{Error, Result};
use crate::inspect::sbom;
use crate::release::attest;
use crate::release::keyring::{Keyring, Passphrase};
use crate::settings::Settings;
use crate::stores;
use crate::stores::{ancestry, environments, find};
use crate::ui::{self, Ui};

#[derive(Serialize)]
struct Shown {
    schema: u32,
    images: Vec<ShownImage>,
}

#[derive(Serialize)]
struct ShownImage {
    name: String,
    image: String,
    size: u64,
    suite: String,
    architecture: String,
    epoch: u64,
    /// When it was published here, in seconds since 1970; 0 when not known.
    published: u64,
    /// `ENV/NAME SEQ`, the last of each.
    released: Vec<String>,
    /// The environments in which it was revoked.
    revoked: Vec<String>,
    /// The reason; null when it is not pinned.
    pinned: Option<String>,
    /// The image that it begins with; null for most.
    base: Option<ShownBase>,
}

pub(super) fn list(args: &ListArgs, settings: &Settings, ui: &mut Ui) -> Result<()> {
    let store = stores::open(settings)?;
    let unreadable = |e: store::Error| {
        let failed = Error::failed("cannot list the images").because(&e);
        match e.own_hint() {
            Some(hint) => failed.hint(hint),
            None => failed,
        }
    };
    let listed = store.images().map_err(unreadable)?;
    let here: BTreeMap<_, _> = listed.iter().map(|l| (l.image, l.published)).collect();
    let mut names: BTreeSet<_> = listed.into_iter().map(|l| (l.name, l.image)).collect();
    // One image may have been released under several names.
    let released = environments::released_names(&store).into_iter();
    names.extend(
        released
            .map(|r| (r.name, r.image))
            .filter(|r| here.contains_key(&r.1)),
    );
    let wanted = maintenance::wanted(settings).unwrap_or_else(|error| {
        ui.note(&format!(
            "where images are released cannot be told: {error}"
        ));
        BTreeMap::new()
    });
    let revoked = environments::revocations(&store, "");
    let mut images = Vec::new();
    for (name, image) in names {
        let manifest = store.manifest(&image).map_err(unreadable)?;
        images.push(ShownImage {
            name: name.to_string(),
            image: manifest.image.to_string(),
            size: manifest.size,
            suite: manifest.suite.clone(),
            architecture: manifest.arch.clone(),
            epoch: manifest.epoch,
            published: here.get(&image).copied().unwrap_or(0),
            released: maintenance::releases(wanted.get(&image)),
            revoked: names_of(revoked.get(&image)),
            pinned: maintenance::pinned(wanted.get(&image)),
            base: ShownBase::of(&store, &manifest).unwrap_or_else(|error| {
                let image = manifest.image;
                ui.note(&format!(
                    "warning: what {image} begins with cannot be told: {error}"
                ));
                None
            }),
        });
    }
    images.sort_by(|a, b| (&a.name, a.epoch, &a.image).cmp(&(&b.name, b.epoch, &b.image)));
    if ui.is_json() {
        ui.result_json(&Shown {
            schema: ui::SCHEMA,
            images,
        });
        return Ok(());
    }
    let now = jiff::Timestamp::now().as_second();
    let rows = if args.tree {
        tree(images)
    } else {
        let rows = images.into_iter().map(|image| (String::new(), image));
        rows.collect()
    };
    for (indent, image) in rows {
        let mut notes = image.released;
        if !image.revoked.is_empty() {
            notes.push(format!("revoked in {}", image.revoked.join(" and ")));
        }
        notes.extend(image.base.map(|base| format!("on {}", base.line())));
        notes.extend(image.pinned.map(|reason| match &*reason {
            "" => "pinned".to_owned(),
            _ => format!("pinned: {reason}"),
        }));
        ui.result(
            format!(
                "{:<20} {}  {:>9}  {} {}  {:>8}  {}",
                format!("{indent}{}", image.name),
                image.image,
                ui::size(image.size),
                image.suite,
                image.architecture,
                age(now, image.published),
                notes.join(", ")
            )
            .trim_end(),
        );
    }
    Ok(())
}

/// Each image below the one that it begins with, as deep as it stands, with the lines that are drawn
/// before its name; one whose base is not here stands by itself.
fn tree(images: Vec<ShownImage>) -> Vec<(String, ShownImage)> {
    let here: BTreeSet<String> = images.iter().map(|image| image.image.clone()).collect();
    let mut on: BTreeMap<Option<String>, Vec<ShownImage>> = BTreeMap::new();
    for image in images {
        let base = image.base.as_ref().map(|base| base.image.clone());
        // An image that is its own base adds nothing to it.
        let base = base.filter(|base| here.contains(base) && *base != image.image);
        on.entry(base).or_default().push(image);
    }
    let mut rows = Vec::new();
    // What stands before the name of an image, and before those of what stands on it.
    let mut pending: Vec<(String, String, ShownImage)> = Vec::new();
    let begin = on.remove(&None).unwrap_or_default().into_iter().rev();
    pending.extend(begin.map(|image| (String::new(), String::new(), image)));
    while let Some((own, below, image)) = pending.pop() {
        // Several names of one image: what stands on it comes below the first.
        let above = on.remove(&Some(image.image.clone())).unwrap_or_default();
        let above = above.into_iter().rev().enumerate();
        pending.extend(above.map(|(from_end, image)| {
            let (corner, line) = if from_end == 0 {
                ("└ ", "  ")
            } else {
                ("├ ", "│ ")
            };
            (format!("{below}{corner}"), format!("{below}{line}"), image)
        }));
        rows.push((own, image));
    }
    rows
}

fn names_of(envs: Option<&Vec<EnvName>>) -> Vec<String> {
    envs.into_iter().flatten().map(EnvName::to_string).collect()
}

/// How long ago something was, in the largest unit of which there are two.
fn age(now: i64, then: u64) -> String {
    let Some(seconds) = i64::try_from(then).ok().filter(|then| *then > 0) else {
        return "?".to_owned();
    };
    let seconds = (now - seconds).max(0);
    for (unit, length) in [("d", 24 * 60 * 60), ("h", 60 * 60), ("min", 60)] {
        if seconds >= 2 * length {
            return format!("{} {unit}", seconds / length);
        }
    }
    format!("{seconds} s")
}

pub(super) fn show(args: &ShowArgs, settings: &Settings, ui: &mut Ui) -> Result<()> {
    let store = stores::open(settings)?;
    let manifest = find::image(&store, &args.image)?;
    if let Some(format) = args.sbom {
        let built = ancestry::built_from(&store, &manifest)?;
        let bill = sbom::bill(&store, &manifest, &built, format)?;
        if args.sign {
            let file = args.secret.passphrase_file.as_ref();
            let key = attest::signing_key(args.key.as_deref(), file, settings)?;
            let signed = attest::bill(&manifest, bill, format, &*key)?;
            ui.result(String::from_utf8_lossy(&signed.to_json()).trim_end());
            ui.note(&format!("signed with the key {}", key.public().id()));
        } else {
            ui.result(&format!("{bill:#}"));
        }
        return Ok(());
    }
    if args.attestations {
        return attestations(&store, &manifest, settings, ui);
    }
    if ui.is_json() {
        ui.result(String::from_utf8_lossy(&manifest.to_json()).trim_end());
        return Ok(());
    }
    let line = |name: &str, value: String| ui.result(&format!("{name:<14} {value}"));
    line("name", manifest.name.to_string());
    line("image", manifest.image.to_string());
    let revoked = environments::revocations(&store, &args.image);
    if let Some(envs) = revoked.get(&manifest.image) {
        line(
            "revoked",
            format!("in {}", names_of(Some(envs)).join(" and ")),
        );
    }
    line("sha256", manifest.sha256.to_string());
    line(
        "size",
        format!("{} ({} bytes)", ui::size(manifest.size), manifest.size),
    );
    line("entries", manifest.entries.to_string());
    line("suite", format!("{} {}", manifest.suite, manifest.arch));
    line("builder", manifest.builder.clone());
    line("recipe", manifest.recipe.to_string());
    line("lock", manifest.lock.to_string());
    if let Some(base) = ShownBase::of(&store, &manifest)? {
        line("base", base.line());
        line("base image", base.image);
    }
    if let Some(run) = &manifest.run {
        line(
            "start",
            format!("{} (as {})", run.start.join(" "), run.user),
        );
        if !run.before_switch.is_empty() {
            line("before switch", run.before_switch.join(" "));
        }
        for process in &run.processes {
            let (command, user) = (process.command.join(" "), &process.user);
            let text = format!("{} x{}: {command} (as {user})", process.name, process.count);
            line("process", text);
        }
        for timer in &run.timers {
            let (command, user) = (timer.command.join(" "), &timer.user);
            let text = format!("{} {}: {command} (as {user})", timer.name, timer.schedule());
            line("timer", text);
        }
        for (kind, path) in run.needs.directories() {
            line(kind.name(), path.to_owned());
        }
        for name in &run.needs.secrets {
            line("secret", name.clone());
        }
        for name in &run.needs.settings {
            line("setting", name.clone());
        }
        for fence in run.fences.lines() {
            line("fence", fence);
        }
    }
    for wheel in &manifest.wheels {
        line(
            "wheel",
            format!("{} {} in {}", wheel.name, wheel.version, wheel.virtualenv),
        );
    }
    for file in &manifest.setuid {
        line(
            "setuid",
            format!("{:04o} {}:{} {}", file.mode, file.uid, file.gid, file.path),
        );
    }
    for attribute in &manifest.xattrs {
        line("xattr", format!("{} on {}", attribute.name, attribute.path));
    }
    for package in &manifest.packages {
        line(
            "package",
            format!("{} {} {}", package.name, package.version, package.arch),
        );
    }
    Ok(())
}

#[derive(Serialize)]
struct Said {
    schema: u32,
    attestations: Vec<SaidOne>,
}

#[derive(Serialize)]
struct SaidOne {
    /// Where it is in the store.
    key: String,
    /// `built`, `tested`, `rebuilt`, `approved`; null for others.
    kind: Option<&'static str>,
    predicate_type: String,
    predicate: serde_json::Value,
    /// What verified keys of this keyring are called.
    signers: Vec<String>,
    /// Their public halves.
    public: Vec<String>,
    /// Ids of keys that it says have signed it.
    claimed: Vec<String>,
    /// Whether it is about this manifest, and not about the bytes alone.
    covers_manifest: bool,
}

/// What is said about an image. A signature is verified where its key is known here.
fn attestations(store: &Store, manifest: &Manifest, settings: &Settings, ui: &Ui) -> Result<()> {
    let keyring = Keyring::new(settings, Passphrase::Terminal, None);
    let mut names = keyring.names(None)?;
    for policy in environments::policies(store) {
        names = names.with(Some(&policy));
    }
    let keys = names.keys();
    let mut odd = |key: &str, e: &store::Error| {
        ui.note(&format!(
            "warning: the attestation {key} is passed over: {e}"
        ));
    };
    let found = store::attest::of_image(store.backend(), manifest, &mut odd).map_err(|e| {
        let failed = Error::failed("cannot read what is said about the image").because(&e);
        match e.own_hint() {
            Some(hint) => failed.hint(hint),
            None => failed,
        }
    })?;
    let said: Vec<_> = found
        .into_iter()
        .map(|one| {
            let good = one.signers(&keys);
            SaidOne {
                covers_manifest: one.covers(manifest),
                kind: one.kind.map(store::attest::Kind::name),
                signers: good.iter().map(|key| names.short(key)).collect(),
                public: good.iter().map(store::keys::PublicKey::hex).collect(),
                claimed: one.claimed_key_ids().map(str::to_owned).collect(),
                key: one.key,
                predicate_type: one.predicate_type,
                predicate: one.predicate,
            }
        })
        .collect();
    if ui.is_json() {
        ui.result_json(&Said {
            schema: ui::SCHEMA,
            attestations: said,
        });
        return Ok(());
    }
    for one in said {
        let by = if one.signers.is_empty() {
            let ids = one
                .claimed
                .iter()
                .map(|id| id.chars().take(16).collect::<String>());
            let ids: Vec<_> = ids.collect();
            format!(
                "by a key that is not known here, {}",
                ids.join(", ").escape_default()
            )
        } else {
            format!("by {}", one.signers.join(", "))
        };
        let text = |name: &str| one.predicate.get(name).and_then(serde_json::Value::as_str);
        let mut about = String::new();
        for name in ["result", "environment", "time", "comment"] {
            if let Some(value) = text(name) {
                let _ = write!(about, "  {name}: {}", value.escape_default());
            }
        }
        let what = one.kind.map_or_else(
            || one.predicate_type.escape_default().to_string(),
            str::to_owned,
        );
        if !one.covers_manifest {
            about.push_str("  (of the bytes, not of what is started)");
        }
        ui.result(&format!("{what:<10} {by}{about}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_short() {
        let now = 10_000_000;
        for (then, shown) in [
            (0, "?"),
            (9_999_999, "1 s"),
            (9_999_881, "119 s"),
            (9_999_880, "2 min"),
            (9_990_000, "2 h"),
            (9_800_000, "2 d"),
            (10_000_100, "0 s"),
        ] {
            assert_eq!(age(now, then), shown, "{then}");
        }
    }

    #[test]
    fn a_tree_has_a_corner_at_its_last_branches_alone() {
        let shown = |name: &str, base: Option<&str>| ShownImage {
            name: name.to_owned(),
            image: name.to_owned(),
            size: 1,
            suite: "bookworm".to_owned(),
            architecture: "amd64".to_owned(),
            epoch: 1,
            published: 1,
            released: Vec::new(),
            revoked: Vec::new(),
            pinned: None,
            base: base.map(|base| ShownBase {
                image: base.to_owned(),
                release: None,
                newer: None,
                revoked: false,
            }),
        };
        let rows = tree(vec![
            shown("a", Some("base")),
            shown("a1", Some("a")),
            shown("a2", Some("a")),
            shown("a21", Some("a2")),
            shown("b", Some("base")),
            shown("b1", Some("b")),
            shown("base", None),
            shown("c", Some("elsewhere")),
            shown("d", Some("d")),
        ]);
        let lines = rows
            .iter()
            .map(|(lines, image)| format!("{lines}{}", image.name));
        let lines: Vec<String> = lines.collect();
        let expected = [
            "base",
            "├ a",
            "│ ├ a1",
            "│ └ a2",
            "│   └ a21",
            "└ b",
            "  └ b1",
            "c",
            "d",
        ];
        assert_eq!(lines, expected);
    }
}
