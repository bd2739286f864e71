//! The proof that what a lock has from source can be built: it is built once, without network.
//!
//! The steps of the build itself do it, so the build after it finds their layers. What was
//! proved stays so: another lock with the same sources, built with the same files in the same
//! tree, needs no proof.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use store::Sha256;

use super::LockRequest;
use crate::atomic_file::remove;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::layers::Key;
use crate::lockfile::{Lock, Python};
use crate::process::Output;
use crate::recipe::{Beside, ForeignLock, Virtualenv, variables};
use crate::run::{self, PlannedStep};
use crate::sandbox::{Command, Failure, Sandbox};
use crate::steps;
use crate::ui::Ui;

/// The script that prints which requirements of a virtualenv are not met.
const MISSING: &str = include_str!("missing.py");
/// How each line of that script begins.
const LACKS: &str = "lacks";
/// How long that script may take.
const TIMEOUT: Duration = Duration::from_secs(600);

/// A virtualenv that was resolved just now.
pub(super) struct Unproven {
    /// Its path.
    pub(super) virtualenv: String,
    /// All that its sources are built with.
    pub(super) built_with: BTreeSet<Sha256>,
}

impl LockRequest<'_> {
    /// Builds what no earlier lock has built.
    pub(super) fn prove(&self, lock: &mut Lock, resolved: &[Unproven], ui: &mut Ui) -> Result<()> {
        let mut due = Vec::new();
        for virtualenv in &self.recipe.virtualenvs {
            let path = virtualenv.path.as_str();
            if let Some(one) = resolved.iter().find(|one| one.virtualenv == path)
                && let Some(file) = self.proof_file(lock, virtualenv, one)?
                && !file.exists()
            {
                due.push((virtualenv, file));
            }
        }
        if due.is_empty() {
            return Ok(());
        }
        // The build's steps begin with these.
        self.look_up_ids(lock, ui)?;
        let steps = steps::up_to_virtualenvs(self.recipe, lock)?;
        let planned = run::plan_steps(steps, &self.work.layers)?;
        if let Err(error) = self.run_steps(lock, &planned, ui) {
            if error.kind() == ErrorKind::Interrupted {
                return Err(error);
            }
            for (virtualenv, _) in due {
                self.build_each(lock, virtualenv, ui)?;
            }
            return Err(error);
        }
        for (virtualenv, file) in due {
            self.check_complete(lock, virtualenv, &planned, ui)?;
            let dir = file.parent().unwrap_or(&file);
            fs::create_dir_all(dir).context(|| format!("cannot make {}", dir.display()))?;
            fs::write(&file, "").context(|| format!("cannot write {}", file.display()))?;
        }
        Ok(())
    }

    /// Refuses a virtualenv whose packages require what nothing brought: a source may say only
    /// when it is built what it takes from its own directory.
    fn check_complete(
        &self,
        lock: &Lock,
        virtualenv: &Virtualenv,
        planned: &[PlannedStep],
        ui: &Ui,
    ) -> Result<()> {
        let path = &virtualenv.path;
        let scratch = self.work.scratch.join("complete");
        let layers = run::tree_layers(planned);
        let mounted = self.work.layers.scratch(&scratch, &layers)?;
        let python = format!("{path}/bin/python");
        let sandbox = Sandbox {
            root: mounted.root().to_owned(),
            binds: Vec::new(),
            environment: steps::base_environment(lock.epoch),
            network: false,
            vary: false,
            command: Command::Chroot {
                argv: vec![python, "-c".into(), MISSING.into()],
                user: "root".into(),
                directory: "/".into(),
            },
        };
        let mut missing: Vec<(String, String)> = Vec::new();
        let listen = &mut |line: &str| {
            let mut words = line.split(' ');
            if let (Some(LACKS), Some(name), Some(wanted)) =
                (words.next(), words.next(), words.next())
            {
                missing.push((name.to_owned(), wanted.to_owned()));
            }
        };
        let ran = sandbox.run(TIMEOUT, Output { log: None, listen });
        drop(mounted);
        remove(&scratch)?;
        ran?.map_err(Failure::into_error)?;
        let lines = missing.iter();
        let lines = lines.map(|(name, wanted)| format!("{name} requires {wanted}"));
        let foreign = virtualenv.requirements_files.iter();
        let is_foreign = |path: &Beside| ForeignLock::of(path.as_str()).is_some();
        if foreign.into_iter().any(is_foreign) {
            // Whoever made that lock may know better.
            for line in lines {
                ui.note(&format!("warning: {path}: {line}, which is not there"));
            }
            return Ok(());
        }
        let Some((_, wanted)) = missing.first() else {
            return Ok(());
        };
        let error = Error::usage(format!(
            "the virtualenv {path} lacks what its packages require"
        ));
        let error = lines.fold(error, Error::detail);
        Err(error.hint(format!(
            "name {wanted} under `requirements`, or its directory under `local`"
        )))
    }

    /// Names the source that does not build.
    fn build_each(&self, lock: &Lock, virtualenv: &Virtualenv, ui: &mut Ui) -> Result<()> {
        let sources = self.unpack_sources(virtualenv, lock)?;
        let locked: Vec<&Python> = own(lock, virtualenv).collect();
        self.with_pip(lock, virtualenv, ui, |pip, ui| {
            let mut phase = ui.phase("build each source");
            let listen = &mut |line: &str| phase.output(line);
            pip.build_each(virtualenv, &sources, &locked, listen)?;
            phase.finish("all of them build by themselves");
            Ok(())
        })?;
        remove(&self.work.scratch.join("sources"))
    }

    /// The file that is there once this was proved; none for a virtualenv without sources.
    fn proof_file(
        &self,
        lock: &Lock,
        virtualenv: &Virtualenv,
        resolved: &Unproven,
    ) -> Result<Option<PathBuf>> {
        let archives = own(lock, virtualenv).filter(|python| !python.is_wheel());
        let archives: BTreeSet<Sha256> = archives.map(|python| python.sha256).collect();
        let is_local = |path: &str| virtualenv.local.iter().any(|l| l.as_str() == path);
        let locals = lock.files.iter().filter(|file| is_local(&file.path));
        let locals: Vec<_> = locals.map(|f| (&f.path, f.sha256, &f.described)).collect();
        let path = virtualenv.path.as_str();
        let gits = lock.git.iter().filter(|git| git.virtualenv == path);
        let gits: Vec<_> = gits.map(|g| (g.index, g.sha256, &g.described)).collect();
        if archives.is_empty() && locals.is_empty() && gits.is_empty() {
            return Ok(None);
        }
        let foundation = steps::foundation(self.recipe, lock);
        let planned = run::plan_steps(foundation, &self.work.layers)?;
        let tree = run::tree_layers(&planned);
        let what = json!({
            "proof": 2,
            "tree": tree.last().map(Key::as_str),
            "python": virtualenv.python,
            "system-site-packages": virtualenv.system_site_packages,
            "environment": variables(&virtualenv.environment).collect::<Vec<_>>(),
            "subdirectories": virtualenv.git.iter().map(|g| &g.subdirectory).collect::<Vec<_>>(),
            "sources": (archives, locals, gits),
            "built-with": resolved.built_with,
        });
        let name = Sha256::of(what.to_string().as_bytes()).hex();
        Ok(Some(self.settings.work.join("proved").join(name)))
    }
}

/// What a lock has for a virtualenv.
fn own<'l>(lock: &'l Lock, virtualenv: &'l Virtualenv) -> impl Iterator<Item = &'l Python> {
    let path = virtualenv.path.as_str();
    lock.python.iter().filter(move |p| p.virtualenv == path)
}
