//! `imgbuild diff A B`

use crate::cli::args::DiffArgs;
use crate::error::{Error, ErrorKind, Result};
use crate::inspect::compare::{How, Side, compare, show};
use crate::settings::Settings;
use crate::stores;
use crate::stores::find;
use crate::ui::Ui;

pub(super) fn run(args: &DiffArgs, settings: &Settings, ui: &mut Ui) -> Result<()> {
    let store = stores::open(settings)?;
    let (old, new) = (
        find::image(&store, &args.old)?,
        find::image(&store, &args.new)?,
    );
    let side = |manifest| Side {
        store: &store,
        manifest,
    };
    let report = compare(side(&old), side(&new), args.text)?;
    if ui.is_json() {
        ui.result_json(&report);
    } else {
        let how = How {
            every_file: args.files,
        };
        show(&report, how, &mut |line| ui.result(line));
    }
    if args.exit_code && !report.equal {
        return Err(Error::new(ErrorKind::Refused, "the images differ"));
    }
    Ok(())
}
