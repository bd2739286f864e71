//! `imgbuild export IMAGE --format FORMAT [-o FILE]`

use serde::Serialize;
use store::EnvName;

use crate::cli::args::ExportArgs;
use crate::error::{Error, Result};
use crate::settings::Settings;
use crate::stores::FIRST_ENVIRONMENT;
use crate::transfer::export::{ExportRequest, Format, export};
use crate::ui::{self, Ui};

/// What `--json` says at the end of an export.
#[derive(Serialize)]
struct Shown<'a> {
    schema: u32,
    event: &'static str,
    file: String,
    sha256: String,
    blake3: String,
    #[serde(flatten)]
    about: &'a store::export::ExportInfo,
}

pub(super) fn run(args: &ExportArgs, settings: &Settings, ui: &mut Ui) -> Result<()> {
    if args.output.is_none() && ui.is_json() {
        return Err(
            Error::usage("--json and the tar cannot both go to standard output")
                .hint("name a file with -o FILE"),
        );
    }
    // `prod/web` is prod's release, unless somebody else's is asked for.
    let of_image = args.image.split_once('/').map(|(env, _)| env);
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
        image: &args.image,
        format: args.format.or(by_name).unwrap_or(Format::Tar),
        to: args.output.as_deref(),
        env,
    };
    let (Some(export), Some(file)) = (export(&request, settings, ui)?, &args.output) else {
        return Ok(());
    };
    let about = &export.about;
    if ui.is_json() {
        ui.result_json(&Shown {
            schema: ui::SCHEMA,
            event: "exported",
            file: file.display().to_string(),
            sha256: export.file_sha256.to_string(),
            blake3: export.file_blake3.to_string(),
            about,
        });
        return Ok(());
    }
    ui.note(&format!(
        "{}/{}/{} in {}; manifest, checksum and signature beside it",
        about.environment,
        about.name,
        about.seq,
        ui::size(about.file_size)
    ));
    ui.result(&format!("{}  {}", export.file_sha256, file.display()));
    Ok(())
}
