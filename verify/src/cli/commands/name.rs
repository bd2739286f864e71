//! `imgnode name`: what this node is called, and the group that it is in.

use std::process::ExitCode;

use ::verify::error::Result;
use ::verify::node::Node;
use ::verify::receipts;
use ::verify::state::NodeNames;
use serde::Serialize;
use store::name::NodeName;

use crate::cli::args::Names;
use crate::cli::report::{JSON_SCHEMA, called};
use crate::cli::ui::Ui;

#[derive(Serialize)]
struct Report {
    schema: u32,
    /// Nothing where the machine has no name that a node can have.
    node: Option<NodeName>,
    /// Nothing where nobody has put it into one.
    group: Option<NodeName>,
}

pub(super) fn run(node: &Node<'_>, ui: &Ui, names: Names, json: bool) -> Result<ExitCode> {
    if names.are_given() {
        set(node, ui, names)?;
    }
    let NodeNames { name, group } = node.state.names()?.or_machine();
    if json {
        let schema = JSON_SCHEMA;
        ui.json(&Report {
            schema,
            node: name,
            group,
        });
    } else {
        ui.data(&called(name.as_ref(), group.as_ref()));
    }
    Ok(ExitCode::SUCCESS)
}

/// Sets the names that are given.
pub(super) fn set(node: &Node<'_>, ui: &Ui, names: Names) -> Result<()> {
    receipts::rename(node, names.name, names.group)?;
    if receipts::settings(node)?.is_some() {
        ui.note("its receipts say so from now on; to enrol it anew: imgnode receipts key");
    }
    Ok(())
}
