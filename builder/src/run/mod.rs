//! Runs steps, each on top of the layers of those before it.

mod planned;

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use store::{ImageId, Inputs, Store, manifest::Package};

pub use self::planned::{PlannedStep, phase_name, plan_steps, tree_layers};
pub(crate) use self::planned::{all_keys, tests_of};
use crate::atomic_file::remove;
use crate::compression::Compression;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::layers::{Building, Key, Layers};
use crate::lockfile::{Deb, Lock};
use crate::mirror::{self, Ahead};
use crate::process::{Output, Tool};
use crate::sandbox::{Bind, Command, Failure, Sandbox};
use crate::steps::{Content, Mirror, Phase, Step};
use crate::stores;
use crate::tree::{Tree, log_line, unpack};
use crate::ui::{Ui, Unit};

/// What steps run with.
pub struct Runner<'a> {
    /// The layers of the work directory.
    pub layers: &'a Layers,
    /// The work directory.
    pub work: &'a Path,
    /// A directory of this build alone.
    pub scratch: &'a Path,
    /// The lock.
    pub lock: &'a Lock,
    /// Its retained inputs.
    pub inputs: &'a Inputs,
    /// Where the image is that the tree begins with.
    pub images: &'a Store,
    /// The recipe's path; none before its lock is written: `imgbuild shell` opens no step then.
    pub recipe: Option<&'a Path>,
    /// Whether the steps run in a varied sandbox; then only on layers that did.
    pub vary: bool,
}

impl Runner<'_> {
    /// Runs what is not done yet.
    pub fn run(&self, planned: &[PlannedStep], ui: &mut Ui) -> Result<()> {
        let due = planned.iter().filter(|p| !self.layers.is_done(&p.key));
        let mirrors: Vec<&Mirror> = due.filter_map(|p| p.step.mirror.as_ref()).collect();
        let stop = AtomicBool::new(false);
        let ahead = self.ahead()?;
        let ran = std::thread::scope(|scope| {
            scope.spawn(|| ahead.work(mirrors.iter().copied(), self.inputs, &stop));
            let mut phases = planned.chunk_by(|one, next| one.step.phase == next.step.phase);
            let ran = phases.try_for_each(|steps| self.run_phase(steps[0].step.phase, steps, ui));
            stop.store(true, Ordering::Relaxed);
            ran
        });
        let removed = remove(&self.plain());
        ran.and(removed)
    }

    fn ahead(&self) -> Result<Ahead> {
        Ahead::new(&self.plain())
    }

    /// Where decompressed packages are; what else is in the scratch space goes after each step.
    fn plain(&self) -> PathBuf {
        self.scratch.with_file_name("plain")
    }

    fn run_phase(&self, phase: Phase, steps: &[PlannedStep], ui: &mut Ui) -> Result<()> {
        let due: Vec<&PlannedStep> = steps
            .iter()
            .filter(|p| !self.layers.is_done(&p.key))
            .collect();
        if due.is_empty() {
            return Ok(());
        }
        let cached = steps.len() - due.len();
        let mut shown = ui.phase(phase_name(phase));
        for (index, planned) in due.iter().enumerate() {
            if steps.len() > 1 {
                shown.progress((cached + index) as u64, steps.len() as u64, Unit::Steps);
            }
            shown.output(&planned.step.name);
            let total = planned.step.packages();
            let mut configured = 0;
            self.run_step(planned, &mut |line| {
                if total > 0 && is_configured(line) {
                    configured = total.min(configured + 1);
                    shown.progress(configured, total, Unit::Packages);
                }
                shown.output(line);
            })?;
        }
        let done = match (due.len(), cached) {
            (1, 0) => due[0].step.name.clone(),
            (ran, 0) => format!("{ran} steps"),
            (1, cached) => format!("1 step, {cached} from the cache"),
            (ran, cached) => format!("{ran} steps, {cached} from the cache"),
        };
        shown.finish(&done);
        Ok(())
    }

    fn run_step(&self, planned: &PlannedStep, listen: &mut dyn FnMut(&str)) -> Result<()> {
        let PlannedStep {
            step, key, below, ..
        } = planned;
        let mut waiting = || listen("another build is making the same step: waiting for it");
        let Some(building) = self.layers.begin(key, below, &mut waiting)? else {
            return Ok(());
        };
        let mut log = building.create_log()?;
        let binds = self.lay_out(step)?;
        let root = building.root().to_owned();
        let mut failure = None;
        if let Some(image) = &step.base {
            self.begin_with(image, &root)?;
        }
        if !step.host.is_empty() {
            let argv = step
                .host
                .iter()
                .map(|a| a.replace("@ROOT@", &root.display().to_string()));
            let command = Command::Host {
                argv: argv.collect(),
            };
            failure = self
                .execute(step, &building, &binds, command, &mut log, listen)?
                .err();
        }
        if failure.is_none() {
            let command = Command::Chroot {
                argv: vec![
                    "sh".into(),
                    "-eu".into(),
                    format!("{}/script", crate::steps::STEP_FILES),
                ],
                user: step.user.clone(),
                directory: step.directory.clone(),
            };
            failure = self
                .execute(step, &building, &binds, command, &mut log, listen)?
                .err();
        }
        if let Some(failure) = failure {
            append_bootstrap_log(&root, &mut log);
            return Err(self.explain(step, key, failure));
        }
        self.check_packages(planned, &root)?;
        if let Some(mirror) = &step.mirror {
            self.ahead()?.forget(mirror, self.inputs);
        }
        building.finish(self.layers, &step.name)?;
        if step.is_test() {
            remove(&self.layers.changes(key))?;
        }
        remove(self.scratch)
    }

    /// Unpacks an image; its bytes are compared with its name on the way.
    fn begin_with(&self, image: &ImageId, root: &Path) -> Result<()> {
        let failed = || format!("cannot unpack the base {image}");
        let unread = |error| stores::failed(failed(), &error);
        let manifest = self.images.manifest(image).map_err(unread)?;
        let image = self.images.image(&manifest).map_err(unread)?;
        let tar = Tool::new("tar")
            .tied()
            .args(["--extract", "--file=-", "--numeric-owner", "--same-owner"])
            .args([
                "--same-permissions",
                "--xattrs",
                "--xattrs-include=*",
                "--acls",
            ])
            .arg(format!("--directory={}", root.display()));
        tar.feed(&mut |input| image.copy_tar(input).map_err(unread))
            .map_err(|error| {
                if error.kind() == ErrorKind::Interrupted || !is_full(root) {
                    return error;
                }
                Error::failed(failed())
                    .detail(format!("no space is left in {}", root.display()))
                    .hint("make room there, or choose another place with --work DIR")
            })
    }

    /// Lays out the files of a step; returns what its sandbox must bind.
    pub fn lay_out(&self, step: &Step) -> Result<Vec<Bind>> {
        let dir = self.scratch.join("step");
        remove(&dir)?;
        make_dir(&dir)?;
        put(&dir.join("script"), &step.script)?;
        for item in &step.files {
            let path = dir.join(&item.name);
            if let Some(parent) = path.parent() {
                make_dir(parent)?;
            }
            match &item.content {
                Content::Text(text) => put(&path, text)?,
                Content::Input(digest) => {
                    // A copy: the step may be run by a user who cannot read the store.
                    fs::copy(self.inputs.path(digest), &path)
                        .context(|| format!("cannot lay out {}", item.name))?;
                    readable(&path)?;
                }
                Content::Tree(digest) => unpack(&self.inputs.path(digest), &path)?,
                Content::Archive(digest) => {
                    decompress(&self.inputs.path(digest), &path)
                        .context(|| format!("cannot decompress {}", item.name))?;
                    readable(&path)?;
                }
            }
        }
        let mut binds = vec![Bind {
            source: dir,
            name: "step".into(),
            writable: false,
        }];
        if let Some(wanted) = &step.mirror {
            let dir = self.scratch.join("mirror");
            let packages = mirror::Packages {
                lock: self.lock,
                inputs: self.inputs,
                controls: &self.work.join(mirror::CONTROLS),
                ahead: &self.ahead()?,
            };
            mirror::make(wanted, &packages, &dir)?;
            binds.push(Bind {
                source: dir,
                name: "mirror".into(),
                writable: false,
            });
        }
        Ok(binds)
    }

    /// After packages were installed, they are those of the lock.
    fn check_packages(&self, planned: &PlannedStep, root: &Path) -> Result<()> {
        let Some(mirror) = &planned.step.mirror else {
            return Ok(());
        };
        let of_base = match planned.below.first() {
            Some(base) if self.lock.base.is_some() => {
                Tree::open(&self.layers.changes(base))?.packages()?
            }
            _ => Vec::new(),
        };
        let until = mirror.stage;
        let debs = self.lock.debs_at(until).into_iter();
        let locked: Vec<&Deb> = debs
            .filter(|deb| !self.lock.removes(until, &deb.name))
            .collect();
        let installed = Tree::open(root)?.packages()?;
        let is = |deb: &Deb, package: &Package| {
            deb.name == package.name
                && deb.version == package.version
                && deb.architecture == package.arch
        };
        let replaced = |p: &Package| locked.iter().any(|deb| deb.name == p.name);
        let stays = |p: &Package| of_base.contains(p) && !replaced(p);
        let is_known = |p: &Package| stays(p) || locked.iter().any(|d| is(d, p));
        let gone = |p: &&Package| {
            let removed = self.lock.removed.values();
            let mut removed = removed.flat_map(|names| names.split(' '));
            !installed.contains(p) && !replaced(p) && !removed.any(|name| name == p.name)
        };
        let gone = of_base.iter().find(gone);
        let other = installed.iter().find(|p| !is_known(p));
        let lacking = locked.iter().find(|deb| {
            deb.stage == until && mirror.is_complete && !installed.iter().any(|p| is(deb, p))
        });
        if let Some(p) = gone {
            let what = format!("{} {} of the base was removed", p.name, p.version);
            return Err(Error::failed(what)
                .detail("the lock does not say so")
                .hint("this should not happen: please report it with the step's log"));
        }
        let what = match (other, lacking) {
            (Some(p), _) => format!("{} {} was installed, which", p.name, p.version),
            (None, Some(d)) => format!("{} {} was not installed, which", d.name, d.version),
            (None, None) => return Ok(()),
        };
        let does = if other.is_some() {
            "the lock does not name then"
        } else {
            "the lock names"
        };
        Err(Error::failed(format!("{what} {does}"))
            .hint("this should not happen: please report it with the step's log"))
    }

    fn execute(
        &self,
        step: &Step,
        building: &Building,
        binds: &[Bind],
        command: Command,
        log: &mut fs::File,
        listen: &mut dyn FnMut(&str),
    ) -> Result<std::result::Result<(), Failure>> {
        let sandbox = Sandbox {
            root: building.root().to_owned(),
            binds: binds.to_vec(),
            environment: step.environment.clone(),
            network: false,
            vary: self.vary,
            command,
        };
        sandbox.run(
            step.timeout,
            Output {
                log: Some(log),
                listen,
            },
        )
    }

    fn explain(&self, step: &Step, key: &Key, failure: Failure) -> Error {
        let reached = failure.reached().join(", ");
        let cause = failure.into_error();
        let mut error = Error::failed(format!("the step `{}` failed", step.name));
        error = error.detail(cause.to_string());
        for line in cause.causes() {
            error = error.detail(format!("| {line}"));
        }
        let mut advice = String::new();
        if !reached.is_empty() {
            error = error.detail(format!("it tried to reach {reached}"));
            advice.push_str(
                "steps have no network: what one needs is a package, a requirement, a git \
                 source or a file of the recipe; ",
            );
        }
        let tree = self.layers.changes(key);
        if let Some(layer) = tree.parent().filter(|dir| is_full(dir)) {
            error = error.detail(format!("no space is left in {}", layer.display()));
            advice.push_str("make room there, or choose another place with --work DIR; ");
        }
        error = error.detail(format!("log:  {}", self.layers.log(key).display()));
        error = error.detail(format!("tree: {}", tree.display()));
        if self.vary {
            return error.hint("the varied world is described in `imgbuild build --help`");
        }
        let look = self.recipe.map_or_else(
            || "the log has all that it said".to_owned(),
            |recipe| format!("look inside with `imgbuild shell {}`", recipe.display()),
        );
        error.hint(format!(
            "{advice}{look}; the next build resumes at this step"
        ))
    }
}

/// Whether nothing more can be written there.
fn is_full(dir: &Path) -> bool {
    // Less than this helps nobody, and some file systems never reach zero.
    const NOTHING: u64 = 1 << 20;
    let stat = rustix::fs::statvfs(dir);
    stat.is_ok_and(|s| s.f_bavail * s.f_frsize < NOTHING || s.f_files > 0 && s.f_favail == 0)
}

/// Whether dpkg or debootstrap says that a package is done.
fn is_configured(line: &str) -> bool {
    line.starts_with("Setting up ") || line.starts_with("I: Configuring ")
}

/// debootstrap keeps what went wrong to itself.
fn append_bootstrap_log(root: &Path, log: &mut fs::File) {
    let Ok(tree) = Tree::open(root) else { return };
    if let Ok(Some(text)) = tree.read("debootstrap/debootstrap.log") {
        log_line(log, "--- debootstrap.log:");
        log_line(log, &text);
    }
}

fn readable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
        .context(|| format!("cannot lay out {}", path.display()))
}

/// A tar archive as it is inside its compression.
fn decompress(archive: &Path, to: &Path) -> std::io::Result<()> {
    let mut file = BufReader::new(File::open(archive)?);
    let compression = Compression::of(file.fill_buf()?)
        .map_err(|_| std::io::Error::other("it is no tar archive that is read here"))?;
    std::io::copy(&mut compression.decoder(file)?, &mut File::create(to)?)?;
    Ok(())
}

fn make_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).context(|| format!("cannot make {}", path.display()))
}

fn put(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).context(|| format!("cannot write {}", path.display()))
}
