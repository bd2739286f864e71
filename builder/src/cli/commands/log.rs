//! `imgbuild log RECIPE|IMAGE [STEP]`

use std::borrow::Cow;
use std::fs::File;
use std::io::{IsTerminal, Write};
use std::path::Path;

use store::BuildLog;

use super::plan::{numbered, planned};
use crate::cli::args::LogArgs;
use crate::error::{Context, Error, Result};
use crate::inspect::logs;
use crate::run::PlannedStep;
use crate::settings::Settings;
use crate::stores;
use crate::stores::find;
use crate::ui::Ui;

pub(super) fn run(args: &LogArgs, settings: &Settings, ui: &mut Ui) -> Result<()> {
    match image(&args.of) {
        Some(image) => of_image(image, args.step, settings, ui),
        None => of_recipe(args, settings, ui),
    }
}

/// The image that is meant, unless it is a recipe: that is a file.
fn image(of: &Path) -> Option<&str> {
    let recipe = of.is_file() || of.extension().is_some_and(|e| e == "toml");
    of.to_str().filter(|_| !recipe)
}

fn of_image(image: &str, step: Option<usize>, settings: &Settings, ui: &Ui) -> Result<()> {
    let store = stores::open(settings)?;
    let manifest = find::image(&store, image)?;
    let log = store
        .log(&manifest.image)
        .context(|| format!("cannot read the log of {}", manifest.image))?;
    let mut log = log.ok_or_else(|| {
        Error::failed(format!("the store keeps no log of {}", manifest.image)).hint(
            "on the machine that built it, the recipe's logs may be left: imgbuild log RECIPE",
        )
    })?;
    if let Some(number) = step {
        let count = log.steps.len();
        let index = number.checked_sub(1).filter(|index| *index < count);
        let index = index.ok_or_else(|| {
            Error::usage(format!("there is no step {number}: the image has {count}"))
                .hint("without a number all are shown")
        })?;
        log.steps = vec![log.steps.swap_remove(index)];
    }
    if ui.is_json() {
        ui.result_json(&log);
        return Ok(());
    }
    show(&log, ui)
}

fn show(log: &BuildLog, ui: &Ui) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    let terminal = stdout.is_terminal();
    for step in &log.steps {
        ui.note(&format!("--- {}", step.name));
        let text = if terminal {
            harmless(&step.text)
        } else {
            Cow::Borrowed(step.text.as_str())
        };
        match stdout.write_all(text.as_bytes()) {
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
            other => other.context(|| "cannot write the log".into())?,
        }
    }
    Ok(())
}

/// The text without what a terminal would obey: a store may be somebody else's.
fn harmless(text: &str) -> Cow<'_, str> {
    let obeyed = common::display::is_hidden;
    if text.contains(obeyed) {
        text.replace(obeyed, "").into()
    } else {
        text.into()
    }
}

fn of_recipe(args: &LogArgs, settings: &Settings, ui: &mut Ui) -> Result<()> {
    let (planned, layers, _) = planned(&args.of, settings)?;
    let wanted: Vec<PlannedStep> = match args.step {
        Some(number) => vec![numbered(&planned, number)?.clone()],
        None => planned,
    };
    let there = |step: &PlannedStep| layers.log(&step.key).is_file();
    if !wanted.iter().any(there) {
        return Err(Error::failed("no such step has run on this machine")
            .hint(format!("build it first: imgbuild {}", args.of.display())));
    }
    if ui.is_json() {
        let name = args.of.file_stem().unwrap_or_default().to_string_lossy();
        ui.result_json(&logs::read(&name, &wanted, &layers));
        return Ok(());
    }
    for step in wanted {
        let path = layers.log(&step.key);
        let Ok(mut file) = File::open(&path) else {
            continue;
        };
        ui.note(&format!("--- {} ({})", step.step.name, path.display()));
        match std::io::copy(&mut file, &mut std::io::stdout().lock()) {
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
            other => other.context(|| format!("cannot read {}", path.display()))?,
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipes_are_files() {
        let dir = tempfile::tempdir().unwrap();
        let recipe = dir.path().join("odd-name");
        std::fs::write(&recipe, "").unwrap();
        assert_eq!(image(&recipe), None);
        assert_eq!(image(Path::new("missing.toml")), None);
        assert_eq!(image(dir.path()), dir.path().to_str());
        assert_eq!(image(Path::new("dev/name")), Some("dev/name"));
    }

    #[test]
    fn a_log_cannot_speak_to_the_terminal() {
        assert_eq!(harmless("a\x1b[2J\r\nb\tc\u{9b}"), "a[2J\nb\tc");
    }
}
