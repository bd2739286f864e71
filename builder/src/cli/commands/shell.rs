//! `imgbuild shell RECIPE [--step N] [--keep]`

use std::fs;
use std::path::{Path, PathBuf};

use super::load_recipe;
use crate::build::{prepare, require_root};
use crate::caches::{Caches, Shared};
use crate::cli::args::ShellArgs;
use crate::error::{Context, Error, Result};
use crate::layers::Key;
use crate::run::{PlannedStep, Runner};
use crate::sandbox::{Command, Sandbox};
use crate::settings::Settings;
use crate::stores;
use crate::ui::Ui;
use crate::work_dir::WorkDir;

use super::plan::{numbered, planned};

pub(super) fn run(args: &ShellArgs, settings: &Settings, ui: &mut Ui) -> Result<()> {
    let recipe = load_recipe(&args.recipe)?;
    require_root()?;
    let store = stores::open_to_write(settings)?;
    let nearby = stores::open_nearby(&store)?;
    let near = nearby.as_ref().unwrap_or(&store);
    prepare(&recipe, false, ui)?;
    let (planned, layers, lock) = planned(&args.recipe, settings)?;
    let step = match args.step {
        Some(number) => numbered(&planned, number)?,
        None => interesting(&planned, |key| layers.is_started(key))?,
    };
    let mut stack: Vec<Key> = step.below.clone();
    if layers.is_started(&step.key) {
        stack.push(step.key.clone());
    } else if step.step.is_test() || layers.is_done(&step.key) {
        // A test leaves no tree of its own.
    } else {
        return Err(
            Error::failed(format!("the step `{}` has not run yet", step.step.name)).hint(format!(
                "build it first: imgbuild {}",
                args.recipe.display()
            )),
        );
    }
    let work = WorkDir::take(&settings.work, recipe.name.as_str())?;
    let caches = Caches::new(&Shared::default(), false, &store, near, settings)?;
    caches.inputs(lock.sized_inputs(), ui)?;
    let runner = Runner {
        layers: &layers,
        work: &settings.work,
        scratch: &work.scratch.join("run"),
        lock: &lock,
        inputs: &near.inputs(),
        images: store.store(),
        recipe: Some(&args.recipe),
        vary: false,
    };
    let binds = runner.lay_out(&step.step)?;
    let scratch = work.scratch.join("shell");
    let mounted = layers.scratch(&scratch, &stack)?;
    let state = if layers.is_done(&step.key) {
        "after"
    } else {
        "as left by the failed"
    };
    ui.note(&format!(
        "a shell in the tree {state} step `{}`; its script is {}/script; changes are {}",
        step.step.name,
        crate::steps::STEP_FILES,
        if args.keep { "kept" } else { "thrown away" }
    ));
    let mut environment = step.step.environment.clone();
    environment.insert(
        "TERM".into(),
        settings.variable("TERM").unwrap_or("dumb".into()),
    );
    environment.insert("PS1".into(), format!("[{}] \\w # ", recipe.name));
    let sandbox = Sandbox {
        root: mounted.root().to_owned(),
        binds,
        environment,
        network: false,
        vary: false,
        command: Command::Chroot {
            argv: vec!["/bin/bash".into(), "--norc".into(), "-i".into()],
            user: step.step.user.clone(),
            directory: "/".into(),
        },
    };
    sandbox.run_interactive()?;
    drop(mounted);
    if args.keep {
        let kept = keep_changes(&scratch, &settings.work, recipe.name.as_str())?;
        ui.note(&format!("the changes are in {}", kept.display()));
    }
    Ok(())
}

/// Moves what the shell wrote out of the scratch space; an overlay's upper
/// directory: only what changed is in it.
fn keep_changes(scratch: &Path, work: &Path, name: &str) -> Result<PathBuf> {
    let dir = work.join("kept");
    let failed = || format!("cannot keep the changes in {}", dir.display());
    fs::create_dir_all(&dir).context(failed)?;
    let kept = tempfile::Builder::new()
        .prefix(&format!("{name}-"))
        .tempdir_in(&dir)
        .context(failed)?
        .keep();
    fs::rename(scratch.join("fs"), &kept).context(failed)?;
    Ok(kept)
}

/// The first step that was started and not finished, else the last one done.
fn interesting(planned: &[PlannedStep], started: impl Fn(&Key) -> bool) -> Result<&PlannedStep> {
    let failed = planned.iter().find(|p| !p.cached && started(&p.key));
    let done = planned.iter().rev().find(|p| p.cached && !p.step.is_test());
    failed.or(done).ok_or_else(|| {
        Error::failed("nothing of this recipe was built on this machine yet")
            .hint("build it first; after a failure this command opens the failed step")
    })
}
