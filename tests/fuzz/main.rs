//! The targets under libFuzzer. The variable `FUZZ` names the target; if
//! `FUZZ_SEEDS` names a directory, the target's seeds are written there first.
#![no_main]

use std::sync::OnceLock;

use fuzz::{TARGETS, Target};
use libfuzzer_sys::fuzz_target;

static CHOSEN: OnceLock<Target> = OnceLock::new();

fuzz_target!(init: choose(), |bytes: &[u8]| {
    (CHOSEN.get().expect("libFuzzer calls the first function first").run)(bytes);
});

fn choose() {
    let name = std::env::var("FUZZ").unwrap_or_default();
    let names = TARGETS.map(|target| target.name).join(", ");
    let target = Target::named(&name).unwrap_or_else(|| panic!("FUZZ must be one of {names}"));
    if let Some(folder) = std::env::var_os("FUZZ_SEEDS") {
        for (number, seed) in (target.seeds)().into_iter().enumerate() {
            let path = std::path::Path::new(&folder).join(format!("seed-{number}"));
            std::fs::write(path, seed).expect("the seeds must be written");
        }
    }
    CHOSEN.get_or_init(|| target);
}
