//! `imgbuild list` and `imgbuild show IMAGE`

use serde::Serialize;
use store::{DirBackend, Store};

use crate::args::ImageArgs;
use crate::error::{Error, Result};
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

fn open(settings: &Settings) -> Result<Store> {
    let failed = |e: store::Error| {
        Error::failed(format!(
            "cannot read the store {}",
            settings.store.display()
        ))
        .because(&e)
        .hint("name the store with --store PATH, or build an image first")
    };
    let backend = DirBackend::open(&settings.store).map_err(failed)?;
    Store::open(Box::new(backend)).map_err(failed)
}

pub(super) fn list(settings: &Settings, ui: &mut Ui) -> Result<()> {
    let store = open(settings)?;
    let unreadable = |e: store::Error| Error::failed("cannot list the images").because(&e);
    let mut images = Vec::new();
    for listed in store.images().map_err(unreadable)? {
        let manifest = store.manifest(&listed.image).map_err(unreadable)?;
        images.push(ShownImage {
            name: manifest.name.to_string(),
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

pub(super) fn show(args: &ImageArgs, settings: &Settings, ui: &mut Ui) -> Result<()> {
    let store = open(settings)?;
    let image = store.resolve(&args.image).map_err(|e| {
        Error::failed(format!("the store has no image `{}`", args.image))
            .because(&e)
            .hint("`imgbuild list` shows them")
    })?;
    let manifest = store
        .manifest(&image)
        .map_err(|e| Error::failed("cannot read the image's manifest").because(&e))?;
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
