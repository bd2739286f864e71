//! `imgbuild audit`

use std::path::Path;

use store::tuf::Environment;
use store::{EnvName, Inputs, Manifest, Store};

use super::load_recipe;
use crate::cli::args::AuditArgs;
use crate::error::{Context, Error, Result};
use crate::inspect::audit::{self, AuditRequest, Installed, SupportList};
use crate::lockfile::Lock;
use crate::release::attest;
use crate::settings::Settings;
use crate::stores;
use crate::stores::find;
use crate::ui::Ui;

pub(super) fn run(args: &AuditArgs, settings: &Settings, ui: &mut Ui) -> Result<()> {
    let mut audited = Vec::new();
    for of in &args.of {
        if is_recipe(of) {
            if args.sign {
                let what = format!("what is found in {of} cannot be signed: it is no image");
                return Err(Error::usage(what).hint("build it, and audit the image"));
            }
            audited.push((of_recipe(Path::new(of), settings)?, None));
        } else {
            let store = stores::open(settings)?;
            for manifest in manifests(&store, of)? {
                let installed = Installed::of_image(&store, &manifest)?;
                audited.push((installed, Some(manifest)));
            }
        }
    }
    let (images, manifests): (Vec<Installed>, Vec<Option<Manifest>>) = audited.into_iter().unzip();
    let now = jiff::Timestamp::now().as_second();
    let request = AuditRequest {
        settings,
        offline: args.offline,
        advisories: &args.advisories,
        vex: &args.vex,
        support: &match &args.support_ended {
            None => SupportList::Image,
            Some(None) => SupportList::Archive,
            Some(Some(file)) => SupportList::File(file.clone()),
        },
        least: args.severity,
        now: u64::try_from(now).context(|| "this machine's clock is before 1970".into())?,
    };
    let reports = request.run(&images, ui)?;
    for report in &reports {
        for note in &report.notes {
            ui.note(&format!("warning: {}: {note}", report.name));
        }
        if ui.is_json() {
            ui.result_json(report);
        } else {
            report.lines().iter().for_each(|line| ui.result(line));
        }
    }
    if args.sign {
        let file = args.secret.passphrase_file.as_ref();
        let key = attest::signing_key(args.key.as_deref(), file, settings)?;
        let store = stores::open_to_write(settings)?;
        for (report, manifest) in reports.iter().zip(&manifests) {
            let Some(manifest) = manifest else { continue };
            let at = attest::audited(manifest, report, &*key, &store)?;
            ui.note(&format!("key {} says so in {at}", key.public().id()));
        }
    }
    audit::found(&reports).map_or(Ok(()), Err)
}

/// A recipe is a file.
fn is_recipe(of: &str) -> bool {
    let path = Path::new(of);
    path.is_file() || path.extension().is_some_and(|end| end == "toml")
}

fn of_recipe(path: &Path, settings: &Settings) -> Result<Installed> {
    let recipe = load_recipe(path)?;
    let lock = Lock::path_for(path);
    let locked = Lock::load(&lock)?.ok_or_else(|| {
        Error::failed(format!("there is no {}", lock.display()))
            .hint(format!("imgbuild lock {}", path.display()))
    })?;
    let inputs = inputs(settings)?;
    let own = Installed::of_lock(&recipe, &locked, inputs.as_ref(), &settings.work)?;
    let Some(base) = &locked.base else {
        return Ok(own);
    };
    let store = stores::open(settings)?;
    let manifest = store.manifest(&base.image).map_err(|error| {
        Error::failed(format!(
            "the store has no image {}, the base {base}",
            base.image
        ))
        .because(&error)
        .hint("copy it from the store that has it: imgbuild store copy")
    })?;
    Ok(own.on(Installed::of_image(&store, &manifest)?, &locked))
}

/// The inputs that are here; none where there is no store, or one that can only be read.
fn inputs(settings: &Settings) -> Result<Option<Inputs>> {
    if stores::open_if_made(settings)?.is_none() {
        return Ok(None);
    }
    let Ok(store) = stores::open_to_write(settings) else {
        return Ok(None);
    };
    let nearby = stores::open_nearby(&store)?;
    Ok(Some(nearby.as_ref().unwrap_or(&store).inputs()))
}

/// The image that is meant, or the newest of each name in an environment.
fn manifests(store: &Store, of: &str) -> Result<Vec<Manifest>> {
    if let Ok(env) = of.parse::<EnvName>()
        && Environment::exists(store, &env)
            .context(|| format!("cannot look for the environment {env}"))?
    {
        let found = find::newest_in(store, &env)?;
        if found.is_empty() {
            return Err(Error::failed(format!("nothing is released in {env}"))
                .hint("`imgbuild list` shows the images"));
        }
        return Ok(found);
    }
    Ok(vec![find::image(store, of)?])
}
