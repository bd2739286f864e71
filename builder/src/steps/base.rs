//! The tree of another image in place of debootstrap's.

use store::ImageId;

use super::{Phase, Step};

/// No service starts during the build, and apt finds its directories, as after a bootstrap: a
/// finished image has neither.
const BEGIN: &str = r"printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
mkdir -p /var/lib/apt/lists/partial /var/cache/apt/archives/partial
";

/// The first step of a recipe on a base: unpacks that image. Nothing of the recipe is in it, so that
/// every recipe on a base begins with the same layer.
pub(crate) fn step(image: &ImageId) -> Step {
    let mut step = Step::new(Phase::Bootstrap, format!("base {:.12}", image.hex()), 0);
    step.base = Some(*image);
    step.script = BEGIN.into();
    step
}
