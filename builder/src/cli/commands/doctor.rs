//! `imgbuild doctor`

use serde::Serialize;

use crate::build::install_tools;
use crate::cli::args::DoctorArgs;
use crate::error::{Error, Result};
use crate::host::{Tools, architecture};
use crate::settings::Settings;
use crate::ui::{self, Ui};

#[derive(Serialize)]
struct Report {
    schema: u32,
    ok: bool,
    checks: Vec<Check>,
}

#[derive(Serialize)]
struct Check {
    what: String,
    ok: bool,
    found: String,
    fix: Option<String>,
}

pub(super) fn run(args: &DoctorArgs, settings: &Settings, ui: &mut Ui) -> Result<()> {
    let mut tools = Tools::look(true);
    if args.setup && !tools.missing.is_empty() {
        install_tools(&tools, ui)?;
        tools = Tools::look(true);
    }
    let mut checks = checks(&tools, settings);
    if args.common.store.is_some() {
        checks.extend(store_checks(settings));
    }
    let ok = checks.iter().all(|c| c.ok);
    if ui.is_json() {
        ui.result_json(&Report {
            schema: ui::SCHEMA,
            ok,
            checks,
        });
    } else {
        for check in &checks {
            let state = if check.ok { "ok     " } else { "MISSING" };
            ui.result(&format!("{state}  {:<52} {}", check.what, check.found));
            if let Some(fix) = &check.fix {
                ui.result(&format!("         fix: {fix}"));
            }
        }
    }
    if ok {
        return Ok(());
    }
    Err(Error::failed("this machine cannot build yet").hint("the fixes are listed above"))
}

fn checks(tools: &Tools, settings: &Settings) -> Vec<Check> {
    let mut checks = Vec::new();
    let root = rustix::process::geteuid().is_root();
    checks.push(Check {
        what: "root".into(),
        ok: root,
        found: if root { "yes" } else { "no" }.into(),
        fix: (!root).then(|| "run imgbuild with sudo".into()),
    });
    for (what, path) in &tools.present {
        checks.push(Check {
            what: what.clone(),
            ok: true,
            found: path.clone(),
            fix: None,
        });
    }
    for missing in &tools.missing {
        checks.push(Check {
            what: format!("{} ({})", missing.what, missing.purpose),
            ok: false,
            found: "not there".into(),
            fix: Some(format!(
                "apt-get install {}   (or: imgbuild doctor --setup)",
                missing.package
            )),
        });
    }
    let own = architecture();
    checks.push(Check {
        what: "architecture".into(),
        ok: own.is_ok(),
        found: own.unwrap_or_else(|e| e.to_string()),
        fix: None,
    });
    for name in ["debian", "debian-security"] {
        let site = settings.archives.site(name);
        let from = match settings.archives.file(name) {
            Some(file) => file.display().to_string(),
            None => "a flag or variable".to_owned(),
        };
        checks.push(Check {
            what: format!("address of the archive {name}"),
            ok: site.is_ok(),
            found: match &site {
                Ok(site) => format!("{site} (from {from})"),
                Err(_) => "unknown".to_owned(),
            },
            fix: site.err().and_then(|e| e.advice().map(str::to_owned)),
        });
    }
    checks.push(overlay());
    checks
}

/// What the store's place must keep for several writers.
fn store_checks(settings: &Settings) -> Vec<Check> {
    let place = &settings.store_url;
    let found = place.probe(&settings.access).unwrap_or_else(|error| {
        vec![store::ProbeCheck {
            what: "the store can be used",
            fault: Some(error.to_string()),
        }]
    });
    let check = |found: store::ProbeCheck| Check {
        what: format!("{place}: {}", found.what),
        ok: found.fault.is_none(),
        fix: (found.fault.is_some())
            .then(|| "only read it; write to a directory or to another server".into()),
        found: found.fault.unwrap_or_else(|| "yes".into()),
    };
    found.into_iter().map(check).collect()
}

/// Steps are layers of overlayfs(5).
fn overlay() -> Check {
    let known = std::fs::read_to_string("/proc/filesystems")
        .is_ok_and(|text| text.lines().any(|l| l.ends_with("\toverlay")));
    let module = std::path::Path::new("/sys/module/overlay").exists();
    let ok = known || module;
    Check {
        what: "overlayfs in the kernel".into(),
        ok,
        found: if ok { "yes" } else { "no" }.into(),
        fix: (!ok).then(|| "modprobe overlay".into()),
    }
}
