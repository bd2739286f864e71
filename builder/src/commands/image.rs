//! `imgbuild list` and `imgbuild show IMAGE`

use std::collections::BTreeSet;

use serde::Serialize;

use crate::args::ShowArgs;
use crate::error::{Error, Result};
use crate::find;
use crate::sbom;
use crate::settings::Settings;
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
}

pub(super) fn list(settings: &Settings, ui: &mut Ui) -> Result<()> {
    let store = find::open(settings)?;
    let unreadable = |e: store::Error| {
        let failed = Error::failed("cannot list the images").because(&e);
        match e.own_hint() {
            Some(hint) => failed.hint(hint),
            None => failed,
        }
    };
    let listed = store.images().map_err(unreadable)?;
    let here: BTreeSet<_> = listed.iter().map(|l| l.image).collect();
    let mut names: BTreeSet<_> = listed.into_iter().map(|l| (l.name, l.image)).collect();
    // One image may have been released under several names.
    let released = find::released_names(&store).into_iter();
    names.extend(
        released
            .map(|r| (r.name, r.image))
            .filter(|r| here.contains(&r.1)),
    );
    let mut images = Vec::new();
    for (name, image) in names {
        let manifest = store.manifest(&image).map_err(unreadable)?;
        images.push(ShownImage {
            name: name.to_string(),
            image: manifest.image.to_string(),
            size: manifest.size,
            suite: manifest.suite,
            architecture: manifest.arch,
            epoch: manifest.epoch,
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
    for image in images {
        let second = i64::try_from(image.epoch).unwrap_or(0);
        let day = jiff::Timestamp::from_second(second)
            .unwrap_or_default()
            .strftime("%F");
        ui.result(&format!(
            "{:<20} {}  {:>9}  {} {}  {day}",
            image.name,
            image.image,
            ui::size(image.size),
            image.suite,
            image.architecture,
        ));
    }
    Ok(())
}

pub(super) fn show(args: &ShowArgs, settings: &Settings, ui: &mut Ui) -> Result<()> {
    let store = find::open(settings)?;
    let manifest = find::image(&store, &args.image)?;
    if args.sbom {
        let bill = sbom::cyclonedx(&manifest, &find::lock(&store, &manifest)?)?;
        ui.result(&format!("{bill:#}"));
        return Ok(());
    }
    if ui.is_json() {
        ui.result(String::from_utf8_lossy(&manifest.to_json()).trim_end());
        return Ok(());
    }
    let line = |name: &str, value: String| ui.result(&format!("{name:<14} {value}"));
    line("name", manifest.name.to_string());
    line("image", manifest.image.to_string());
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
    if let Some(run) = &manifest.run {
        line(
            "start",
            format!("{} (as {})", run.start.join(" "), run.user),
        );
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
