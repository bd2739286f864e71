//! Copying, shown.

use store::copy::{Copied, Copier};
use store::{ImageId, WritableStore};

use crate::ui::{self, Ui};

/// Copies, shown as one phase.
pub(crate) fn copy(
    copier: &Copier<'_>,
    images: &[ImageId],
    to: &WritableStore,
    ui: &mut Ui,
) -> store::Result<Copied> {
    let mut phase = ui.phase("copy");
    let outcome = copier.run(images, to, &mut |progress| phase.copying(progress))?;
    phase.finish(&format!(
        "{} images, {} in {} packs, {} inputs of {}, {} logs and attestations",
        outcome.images.len(),
        ui::size(outcome.written),
        outcome.packs.len(),
        outcome.inputs,
        ui::size(outcome.inputs_bytes),
        outcome.beside
    ));
    for image in &outcome.unlisted {
        ui.note(&format!(
            "warning: what is attested of {image} was not copied: the source has no list of it; \
             `imgbuild store gc --delete` there writes one"
        ));
    }
    Ok(outcome)
}
