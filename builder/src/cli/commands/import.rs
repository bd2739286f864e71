//! `imgbuild import TAR|DIR --name N`

use serde::Serialize;
use store::canonical_tar::Changes;
use store::{EnvName, ImageName};

use crate::cli::args::ImportArgs;
use crate::error::{Error, Result};
use crate::settings::Settings;
use crate::stores::FIRST_ENVIRONMENT;
use crate::transfer::import::{ImportRequest, Imported, import};
use crate::ui::{self, Ui};

/// What `--json` says at the end of an import.
#[derive(Serialize)]
struct Shown<'a> {
    schema: u32,
    event: &'static str,
    name: &'a str,
    image: String,
    sha256: String,
    size: u64,
    entries: u64,
    suite: &'a str,
    architecture: &'a str,
    releases: Vec<String>,
    changes: &'a Changes,
}

pub(super) fn run(args: &ImportArgs, settings: &Settings, ui: &mut Ui) -> Result<()> {
    let name: ImageName = args.name.parse().map_err(|e| {
        Error::usage(format!(
            "`{}` is not an image name",
            args.name.escape_default()
        ))
        .because(&e)
    })?;
    let mut environments = Vec::new();
    for env in &args.env {
        let env: EnvName = env.parse().map_err(|e| {
            Error::usage(format!("`{}` is not an environment", env.escape_default())).because(&e)
        })?;
        if !environments.contains(&env) {
            environments.push(env);
        }
    }
    let request = ImportRequest {
        from: &args.from,
        name,
        environments,
        suite: args.suite.clone(),
        arch: args.arch.clone(),
        // No time is later.
        epoch: settings
            .source_date_epoch()
            .map_err(|e| e.hint("unset SOURCE_DATE_EPOCH to keep the times as they are"))?,
    };
    let imported = import(&request, settings, ui)?;
    report(&imported, settings, ui);
    Ok(())
}

fn report(imported: &Imported, settings: &Settings, ui: &Ui) {
    let Imported {
        manifest,
        releases,
        changes,
    } = imported;
    let name = &manifest.name;
    let releases: Vec<String> = releases
        .iter()
        .map(|(env, seq)| format!("{env}/{name}/{seq}"))
        .collect();
    if ui.is_json() {
        ui.result_json(&Shown {
            schema: ui::SCHEMA,
            event: "imported",
            name: name.as_str(),
            image: manifest.image.to_string(),
            sha256: manifest.sha256.to_string(),
            size: manifest.size,
            entries: manifest.entries,
            suite: &manifest.suite,
            architecture: &manifest.arch,
            releases,
            changes,
        });
        return;
    }
    for (change, found) in changes.iter() {
        let mut shown = found
            .paths
            .iter()
            .take(3)
            .cloned()
            .collect::<Vec<_>>()
            .join(", ");
        if found.count > 3 {
            shown.push_str(", ...");
        }
        ui.note(&format!(
            "{:>8} {}: {shown}",
            found.count,
            change.sentence()
        ));
    }
    ui.note(&format!(
        "{name}: imported, {} {}, {} in {} entries; release {}",
        manifest.suite,
        manifest.arch,
        ui::size(manifest.size),
        manifest.entries,
        releases.join(", ")
    ));
    ui.result(&manifest.image.to_string());
    if releases
        .iter()
        .any(|r| r.starts_with(&format!("{FIRST_ENVIRONMENT}/")))
    {
        ui.note(&format!(
            "next: imgbuild show {name}, or on a node: imgnode install {name} --as SYSTEM \
             --target dir:/srv/imgnode (store: {})",
            settings.store_url
        ));
    }
}
