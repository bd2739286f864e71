//! `imgbuild store copy`

use serde::Serialize;
use store::copy::{Copied, Copier, CopyProgress, Plan};
use store::tuf::Environment;
use store::{EnvName, ImageId, Store, StoreUrl};

use crate::cli::args::CopyArgs;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::lockfile::sized_inputs_of;
use crate::settings::Settings;
use crate::stores;
use crate::stores::{ancestry, find};
use crate::ui::{self, Ui, Unit};

#[derive(Serialize)]
struct Shown {
    schema: u32,
    from: String,
    to: String,
    dry_run: bool,
    /// Images that are at the destination now, or would be, and were not before.
    images: Vec<ShownImage>,
    /// Images that were there before.
    there: Vec<ShownImage>,
    failed: Vec<ShownFailure>,
    described_otherwise: Vec<String>,
    frames: u64,
    /// Bytes of frames and inputs that were moved, or would be.
    bytes: u64,
    packs: u64,
    inputs: u64,
    inputs_bytes: u64,
    inputs_lacking: Vec<ShownFailure>,
    /// Logs and attestations.
    beside: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    requests: Option<u64>,
    seconds: f64,
}

#[derive(Serialize)]
struct ShownImage {
    name: String,
    image: String,
}

#[derive(Serialize)]
struct ShownFailure {
    what: String,
    why: String,
}

pub(super) fn run(args: &CopyArgs, settings: &Settings, ui: &mut Ui) -> Result<()> {
    let started = std::time::Instant::now();
    let (from_place, to_place) = (stores::parse_url(&args.from)?, stores::parse_url(&args.to)?);
    if from_place == to_place {
        return Err(Error::usage("FROM and TO are the same store"));
    }
    ui.hide(
        [&from_place, &to_place]
            .into_iter()
            .flat_map(|place| settings.secrets_of(place))
            .collect(),
    );
    let from = stores::open_at(&from_place, settings)?;
    let mut copier = Copier::new(&from);
    if !args.no_inputs {
        copier = copier.with_inputs(&sized_inputs_of);
    }
    let images = wanted(args, &from, &copier)?;
    let what = || format!("cannot copy from {from_place} to {to_place}");
    let shown = if args.dry_run {
        let plan = dry_run(&copier, &images, &to_place, settings, ui)
            .map_err(|e| stores::failed(what(), &e))?;
        let total = plan.bytes();
        ui.note(&format!(
            "nothing was moved; without --dry-run it would be {} in {} frames and {} inputs",
            ui::size(total),
            plan.images.iter().map(|image| image.frames).sum::<u64>(),
            plan.images.iter().map(|image| image.inputs).sum::<u64>()
        ));
        planned(&plan)
    } else {
        let to = stores::destination(&to_place, settings)?;
        let outcome = stores::copy::copy(&copier, &images, &to, ui)
            .map_err(|e| stores::failed(what(), &e))?;
        done(&outcome)
    };
    let shown = Shown {
        from: from_place.to_string(),
        to: to_place.to_string(),
        requests: from.backend().traffic().map(|traffic| traffic.requests),
        seconds: started.elapsed().as_secs_f64(),
        ..shown
    };
    show(&shown, ui);
    let damaged = shown.failed.len() + shown.inputs_lacking.len();
    if damaged == 0 {
        return Ok(());
    }
    let text = format!(
        "{} images and {} inputs are not whole in {from_place} and could not be copied",
        shown.failed.len(),
        shown.inputs_lacking.len()
    );
    Err(Error::new(ErrorKind::Refused, text).hint(
        "`imgbuild store fsck` there says what is damaged, and --repair-from mends it; \
         --no-inputs copies images without what they were built from",
    ))
}

fn wanted(args: &CopyArgs, from: &Store, copier: &Copier<'_>) -> Result<Vec<ImageId>> {
    if args.images.is_empty() && args.env.is_empty() {
        let what = || format!("cannot list the images of {}", from.backend().describe());
        return copier.all().map_err(|error| stores::failed(what(), &error));
    }
    let mut images = Vec::new();
    for name in &args.images {
        images.push(find::image(from, name)?.image);
    }
    for env in &args.env {
        let env: EnvName = env
            .parse()
            .map_err(|e| Error::usage(format!("`{env}` is not an environment")).because(&e))?;
        let releases = Environment::open(from, &env)
            .and_then(|environment| environment.releases())
            .context(|| format!("cannot read the environment {env}"))?;
        images.extend(releases.into_iter().map(|release| release.image));
    }
    if !args.no_inputs {
        // What an image stands on is one of its inputs.
        let mut bases = Vec::new();
        for image in &images {
            if let Ok(manifest) = from.manifest(image) {
                bases.extend(ancestry::bases(from, &manifest)?);
            }
        }
        images.extend(bases);
        let mut seen = std::collections::BTreeSet::new();
        images.retain(|image| seen.insert(*image));
    }
    Ok(images)
}

fn dry_run(
    copier: &Copier<'_>,
    images: &[ImageId],
    to: &StoreUrl,
    settings: &Settings,
    ui: &mut Ui,
) -> store::Result<Plan> {
    let mut phase = ui.phase("look");
    let mut watch = |progress: CopyProgress| {
        if let CopyProgress::Look { done, total } = progress {
            phase.progress(done, total, Unit::Steps);
        }
    };
    let unused = to
        .directory()
        .is_some_and(|path| !path.join("imgbuild-store").exists());
    let there = if unused {
        None
    } else {
        let store = Store::open(to.open(&settings.access)?);
        match store {
            // A bucket in which nothing is yet.
            Err(error) if error.kind() == store::ErrorKind::Foreign => None,
            store => Some((store?, to.open_listable(&settings.access)?)),
        }
    };
    let here = there.as_ref().map(|(store, place)| (store, &**place));
    let plan = copier.plan(images, here, &mut watch)?;
    phase.finish(&format!("{} images", plan.images.len()));
    Ok(plan)
}

fn planned(plan: &Plan) -> Shown {
    let (there, new): (Vec<_>, Vec<_>) = plan.images.iter().partition(|image| image.present);
    let image = |planned: &&store::copy::PlannedImage| ShownImage {
        name: planned.name.to_string(),
        image: planned.image.to_string(),
    };
    Shown {
        schema: ui::SCHEMA,
        from: String::new(),
        to: String::new(),
        dry_run: true,
        images: new.iter().map(image).collect(),
        there: there.iter().map(image).collect(),
        failed: failures(&plan.failed),
        described_otherwise: Vec::new(),
        frames: plan.images.iter().map(|image| image.frames).sum(),
        bytes: plan.bytes(),
        packs: 0,
        inputs: plan.images.iter().map(|image| image.inputs).sum(),
        inputs_bytes: plan.images.iter().map(|image| image.inputs_bytes).sum(),
        inputs_lacking: Vec::new(),
        beside: 0,
        requests: None,
        seconds: 0.0,
    }
}

fn done(copied: &Copied) -> Shown {
    let image = |(image, name): &(ImageId, store::ImageName)| ShownImage {
        name: name.to_string(),
        image: image.to_string(),
    };
    Shown {
        schema: ui::SCHEMA,
        from: String::new(),
        to: String::new(),
        dry_run: false,
        images: copied.images.iter().map(image).collect(),
        there: copied.there.iter().map(image).collect(),
        failed: failures(&copied.failed),
        described_otherwise: copied
            .manifest_differs
            .iter()
            .map(ToString::to_string)
            .collect(),
        frames: copied.frames,
        bytes: copied.moved,
        packs: copied.packs.len() as u64,
        inputs: copied.inputs,
        inputs_bytes: copied.inputs_bytes,
        inputs_lacking: failures(&copied.inputs_lacking),
        beside: copied.beside,
        requests: None,
        seconds: 0.0,
    }
}

fn failures<T: ToString>(failed: &[(T, String)]) -> Vec<ShownFailure> {
    let one = |(what, why): &(T, String)| ShownFailure {
        what: what.to_string(),
        why: why.clone(),
    };
    failed.iter().map(one).collect()
}

fn show(shown: &Shown, ui: &Ui) {
    if ui.is_json() {
        ui.result_json(shown);
        return;
    }
    let verb = if shown.dry_run {
        "would copy"
    } else {
        "copied"
    };
    for image in &shown.images {
        ui.result(&format!("{verb:<10} {:<20} {}", image.name, image.image));
    }
    for image in &shown.there {
        ui.result(&format!(
            "{:<10} {:<20} {}",
            "there", image.name, image.image
        ));
    }
    for failure in shown.failed.iter().chain(&shown.inputs_lacking) {
        ui.result(&format!(
            "{:<10} {}: {}",
            "not whole", failure.what, failure.why
        ));
    }
    for image in &shown.described_otherwise {
        ui.note(&format!(
            "{image} has another manifest at the destination, which stays"
        ));
    }
}
