//! `imgbuild store pin` and `unpin`

use store::maintenance;

use super::survey;
use crate::cli::args::{PinArgs, UnpinArgs};
use crate::error::{Error, Result};
use crate::settings::Settings;
use crate::stores;
use crate::stores::find;
use crate::ui::Ui;

pub(super) fn pin(args: &PinArgs, settings: &Settings, ui: &mut Ui) -> Result<()> {
    let manifest = find::image(&survey(settings)?.0, &args.image)?;
    let store = stores::open_to_write(settings)?;
    let what = || format!("cannot pin {}", manifest.image);
    maintenance::pin(store.backend(), &manifest.image, &args.reason)
        .map_err(|e| stores::failed(what(), &e))?;
    ui.note(&format!("{} stays until it is unpinned", manifest.name));
    ui.result(&manifest.image.to_string());
    Ok(())
}

pub(super) fn unpin(args: &UnpinArgs, settings: &Settings, ui: &mut Ui) -> Result<()> {
    let manifest = find::image(&survey(settings)?.0, &args.image)?;
    let store = stores::open_to_write(settings)?;
    let what = || format!("cannot unpin {}", manifest.image);
    let was = maintenance::unpin(store.backend(), &manifest.image)
        .map_err(|e| stores::failed(what(), &e))?;
    if !was {
        return Err(Error::failed(format!("{} is not pinned", manifest.image))
            .hint("`imgbuild store stats` shows what is"));
    }
    ui.result(&manifest.image.to_string());
    Ok(())
}
