//! `imgbuild export IMAGE --format FORMAT [-o FILE]` and `imgbuild export --sign FILE.dsse.json`

use std::path::Path;

use serde::Serialize;
use store::EnvName;
use store::export::SIGNATURE_SUFFIX;

use super::promote::{consent, keyring};
use crate::cli::args::ExportArgs;
use crate::error::{Error, Result};
use crate::settings::Settings;
use crate::stores::FIRST_ENVIRONMENT;
use crate::transfer::export::{ExportRequest, Format, Signed, Signing, export, sign};
use crate::ui::{self, Ui};

/// What `--json` says at the end of an export.
#[derive(Serialize)]
struct Shown<'a> {
    schema: u32,
    event: &'static str,
    file: String,
    sha256: String,
    blake3: String,
    /// Signatures that a node still misses.
    missing: u64,
    #[serde(flatten)]
    about: &'a store::export::ExportInfo,
}

pub(super) fn run(args: &ExportArgs, settings: &Settings, ui: &mut Ui) -> Result<()> {
    let signing = Signing {
        keyring: keyring(&args.signing, settings)?,
        consent: consent(args.consenting),
    };
    if let Some(file) = &args.sign {
        if let Some(signed) = sign(file, &signing, settings, ui)? {
            let of = file.with_file_name(&signed.export.file);
            show(&signed, &of, "signed", ui);
        }
        return Ok(());
    }
    let Some(image) = &args.image else {
        return Err(Error::usage("IMAGE is missing"));
    };
    if args.output.is_none() && ui.is_json() {
        return Err(
            Error::usage("--json and the tar cannot both go to standard output")
                .hint("name a file with -o FILE"),
        );
    }
    // `prod/web` is prod's release, unless somebody else's is asked for.
    let of_image = image.split_once('/').map(|(env, _)| env);
    let env = args
        .env
        .as_deref()
        .or(of_image)
        .unwrap_or(FIRST_ENVIRONMENT);
    let env: EnvName = env.parse().map_err(|e| {
        Error::usage(format!("`{}` is not an environment", env.escape_default())).because(&e)
    })?;
    let by_name = args
        .output
        .as_deref()
        .and_then(|path| Format::of_name(path.file_name()?.to_str()?));
    let request = ExportRequest {
        image,
        format: args.format.or(by_name).unwrap_or(Format::Tar),
        to: args.output.as_deref(),
        env,
        signing,
    };
    if let (Some(signed), Some(file)) = (export(&request, settings, ui)?, &args.output) {
        show(&signed, file, "exported", ui);
    }
    Ok(())
}

/// Shows what was signed about a file.
fn show(signed: &Signed, file: &Path, event: &'static str, ui: &Ui) {
    let export = &signed.export;
    let about = &export.about;
    let missing = signed.needs.missing();
    if ui.is_json() {
        ui.result_json(&Shown {
            schema: ui::SCHEMA,
            event,
            missing,
            file: file.display().to_string(),
            sha256: export.file_sha256.to_string(),
            blake3: export.file_blake3.to_string(),
            about,
        });
        return;
    }
    ui.note(&format!(
        "{}/{}/{} in {}; manifest, checksum and signatures beside it",
        about.environment,
        about.name,
        about.seq,
        ui::size(about.file_size)
    ));
    if missing > 0 {
        ui.note(&format!(
            "{} of {} signatures: imgbuild export --sign {}{SIGNATURE_SUFFIX} adds more",
            signed.needs.threshold - missing,
            signed.needs.threshold,
            file.display()
        ));
    }
    ui.result(&format!("{}  {}", export.file_sha256, file.display()));
}
