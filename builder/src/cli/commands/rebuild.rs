//! `imgbuild rebuild IMAGE`

use serde::Serialize;

use store::Manifest;

use crate::cli::args::RebuildArgs;
use crate::error::{Error, ErrorKind, Result};
use crate::inspect::compare::Report;
use crate::rebuild::{Opinion, rebuild, show};
use crate::release::attest;
use crate::settings::Settings;
use crate::stores;
use crate::ui::{self, Ui};

/// What `--json` says at the end of a rebuild.
#[derive(Serialize)]
struct Outcome<'a> {
    schema: u32,
    event: &'static str,
    name: &'a str,
    /// The image that was to be made.
    image: String,
    /// The image that was made.
    rebuilt: String,
    equal: bool,
    seconds: f64,
    /// The store with the rebuilt image.
    #[serde(skip_serializing_if = "Option::is_none")]
    kept: Option<String>,
    /// As `imgbuild diff --json` has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    differences: Option<&'a Report>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    diffoscope: &'a [Opinion],
}

pub(super) fn run(args: &RebuildArgs, settings: &Settings, ui: &mut Ui) -> Result<()> {
    let verdict = rebuild(&args.image, args.keep, settings, ui)?;
    let (name, image) = (&verdict.manifest.name, verdict.manifest.image);
    let kept = verdict.kept.as_ref().map(|path| path.display().to_string());
    if ui.is_json() {
        ui.result_json(&Outcome {
            schema: ui::SCHEMA,
            event: "rebuilt",
            name: name.as_ref(),
            image: image.to_string(),
            rebuilt: verdict.rebuilt.image.to_string(),
            equal: verdict.differences.is_none() && verdict.described.is_empty(),
            seconds: verdict.took.as_secs_f64(),
            kept: kept.clone(),
            differences: verdict.differences.as_ref(),
            diffoscope: &verdict.opinions,
        });
    } else {
        show(&verdict, &mut |line| ui.result(line));
    }
    if let Some(store) = kept {
        ui.note(&format!("the rebuilt image is in the store {store}"));
    }
    if !verdict.described.is_empty() {
        let what = format!(
            "{name} is the same bytes, and its manifest says something else than its recipe: {}",
            verdict.described.join(", ")
        );
        return Err(Error::new(ErrorKind::Refused, what).hint(
            "`imgbuild show IMAGE` says what it starts; somebody may have changed the manifest, \
             or an older version wrote it: build the recipe again",
        ));
    }
    let Some(report) = &verdict.differences else {
        if args.attest {
            attested(args, &verdict.manifest, settings, ui)?;
        }
        ui.note(&format!(
            "{name}: the same bytes, rebuilt in a varied world in {:.1} s",
            verdict.took.as_secs_f64()
        ));
        if !ui.is_json() {
            ui.result(&image.to_string());
        }
        return Ok(());
    };
    let found = report.totals.found();
    let entries = if found == 1 {
        "entry differs"
    } else {
        "entries differ"
    };
    let error = Error::new(
        ErrorKind::Refused,
        format!("{name} is not reproducible: {found} {entries}"),
    )
    .detail(format!("the store has   {image}"))
    .detail(format!("rebuilt it is   {}", verdict.rebuilt.image));
    Err(if args.keep {
        error
    } else {
        error.hint("with --keep the rebuilt image and its trees stay to be looked at")
    })
}

/// Says, signed, that this machine came to the same bytes.
fn attested(args: &RebuildArgs, manifest: &Manifest, settings: &Settings, ui: &Ui) -> Result<()> {
    let file = args.secret.passphrase_file.as_ref();
    let key = attest::signing_key(args.key.as_deref(), file, settings)?;
    let at = attest::rebuilt(manifest, &*key, &stores::open_to_write(settings)?)?;
    let id = key.public().id();
    ui.note(&format!("key {id} says so in {at}"));
    Ok(())
}
