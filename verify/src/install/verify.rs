//! Comparing an installed generation with what was signed.

use crate::error::{Error, Result};
use crate::node::Node;
use crate::state::record::{Generation, SystemRecord};
use crate::tree::compare::{Difference, differences};
use crate::tree::packages::name_packages;

/// Every path of a generation that is not as it was signed, sorted, with its Debian package.
pub fn verify(
    node: &Node<'_>,
    record: &SystemRecord,
    generation: &Generation,
) -> Result<Vec<Difference>> {
    let manifest = node.state.manifest(generation.manifest)?;
    if manifest.image != generation.image {
        return Err(Error::refused(format!(
            "the record of {} and its manifest name different images",
            record.system
        )));
    }
    let config = node.config()?;
    let image = node.store(&config)?.image(&manifest)?;
    let context = node.context(&record.system);
    let tree = record.target.driver().open(&context, generation.number)?;
    let mut different = differences(tree.reopen()?, image.entries()?, node.cancel)?;
    name_packages(&tree.root, &mut different);
    Ok(different)
}
