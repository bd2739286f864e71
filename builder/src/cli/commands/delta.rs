//! `imgbuild delta FROM TO`

use serde::Serialize;
use store::delta_writer::{self, CreatedDelta, Progress};

use crate::cli::args::DeltaArgs;
use crate::error::{Context, Error, Result};
use crate::settings::Settings;
use crate::stores;
use crate::stores::find;
use crate::ui::{self, Ui, Unit};

/// What `--json` says at the end.
#[derive(Serialize)]
struct Shown {
    schema: u32,
    event: &'static str,
    from: String,
    to: String,
    delta: String,
    size: u64,
    packs: u64,
    whole: u64,
    fresh: u64,
    frames: usize,
}

pub(super) fn run(args: &DeltaArgs, settings: &Settings, ui: &mut Ui) -> Result<()> {
    let store = stores::open_to_write(settings)?;
    let from = find::image(store.store(), &args.from)?;
    let to = find::image(store.store(), &args.to)?;
    if from.image == to.image {
        return Err(Error::usage(format!(
            "`{}` and `{}` are the same image",
            args.from.escape_default(),
            args.to.escape_default()
        )));
    }
    let phase = ui.phase("delta");
    let shown = std::sync::Mutex::new(phase);
    let progress = |progress: Progress| {
        if let Ok(mut phase) = shown.lock() {
            phase.progress(progress.done, progress.total, Unit::Bytes);
        }
    };
    let made = delta_writer::publish(store.store(), store.backend(), &from, &to, &progress)
        .context(|| format!("cannot make a delta from {} to {}", from.image, to.image))?;
    let phase = shown
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    phase.finish(&format!(
        "{} of changed content in {}",
        ui::size(made.fresh),
        ui::size(made.pair.size)
    ));
    report(&made, ui);
    Ok(())
}

fn report(made: &CreatedDelta, ui: &Ui) {
    let pair = &made.pair;
    if ui.is_json() {
        ui.result_json(&Shown {
            schema: 1,
            event: "delta",
            from: pair.from.to_string(),
            to: pair.to.to_string(),
            delta: pair.delta.to_string(),
            size: pair.size,
            packs: pair.packs,
            whole: pair.whole,
            fresh: made.fresh,
            frames: made.frames,
        });
        return;
    }
    for (what, bytes) in [
        ("delta", pair.size),
        ("packs", pair.packs),
        ("whole", pair.whole),
    ] {
        ui.result(&format!("{what:8} {:>10}", ui::size(bytes)));
    }
}
