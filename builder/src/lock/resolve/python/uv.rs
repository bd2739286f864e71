//! uv, which decides versions faster than pip: one version of it, fetched once.
//!
//! It comes from this machine's own index and is known by its digest. It is lent to the sandbox
//! while a virtualenv is resolved, and is in no lock, layer or image. It decides versions alone: the
//! files of those are pip's choice, and where it has no answer pip is asked.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use store::Sha256;

use super::keep::Kept;
use super::project::{Build, Project};
use super::run::{LENT, OUT, PipRun, Work};
use super::{PYTHON, Pip, Rest};
use crate::atomic_file::remove;
use crate::error::{Context, ErrorKind, Result};
use crate::lockfile::Python;
use crate::recipe::Virtualenv;

/// The version of it.
const VERSION: &str = "0.13.9";
/// Its wheel for this machine: the end of the name, the digest.
const WHEEL: Option<(&str, &str)> = if cfg!(target_arch = "x86_64") {
    Some((
        "manylinux_2_17_x86_64.manylinux2014_x86_64",
        "d7f459fe4fd247d830351c75686d3996ace3c6f3f728eb0e85a30b7ada0cef19",
    ))
} else if cfg!(target_arch = "aarch64") {
    Some((
        "manylinux_2_17_aarch64.manylinux2014_aarch64.musllinux_1_1_aarch64",
        "5435c5ce14a56431208ca0996416d310f1598e8c2c8ba707688985a16bb82dbe",
    ))
} else {
    None
};
/// Where the sandbox has room for sources.
const TREE: &str = "/tmp/imgbuild-tree";
/// The file that it reads, and its name there.
pub(super) const SPEC: &str = "uv.json";
pub(super) const PROGRAM: &str = "uv";

/// Whether it is asked for these: options and digests of requirements files, addresses, and projects
/// of which only their `setup.py` or backend can say everything, are for pip.
pub(super) fn takes(virtualenv: &Virtualenv, rest: &Rest<'_>, projects: &[Project]) -> bool {
    !virtualenv.is_python2()
        && rest.is_plain()
        && rest.constraints.iter().all(|line| !line.contains("://"))
        && projects.iter().all(Project::is_plain)
}

/// Lets it try before what pip does. `is_kept`: first whether everything that is needed is here.
pub(super) fn first(is_kept: bool, pip: Work) -> Work {
    let Work::Strange {
        command, explain, ..
    } = pip
    else {
        return pip;
    };
    let script = format!("{LENT}/ask_uv.py");
    let words = [PYTHON, &script, &format!("{LENT}/{SPEC}"), OUT, TREE].map(str::to_owned);
    let command = format!("if {}\nthen exit 0\nfi\n{command}", words.join(" "));
    let mut before = Vec::new();
    if is_kept {
        before.extend(words);
        before.push("offline".to_owned());
    }
    Work::Strange {
        before,
        command,
        explain,
    }
}

/// What it is told about what may stay.
fn kept(kept: &Kept<'_>) -> Value {
    let files = kept.files();
    let one = |p: &Python| {
        (
            p.name.clone(),
            json!({ "version": p.version, "file": p.file }),
        )
    };
    Value::Object(files.map(one).collect())
}

impl Pip<'_> {
    /// The program, fetched if it is not here yet; none where it cannot be had.
    pub(super) fn uv(
        &self,
        virtualenv: &Virtualenv,
        listen: &mut dyn FnMut(&str),
    ) -> Result<Option<&Path>> {
        if self.uv.get().is_none() {
            let found = self.find_uv(virtualenv, listen)?;
            self.uv.get_or_init(|| found);
        }
        Ok(self.uv.get().and_then(Option::as_deref))
    }

    fn find_uv(
        &self,
        virtualenv: &Virtualenv,
        listen: &mut dyn FnMut(&str),
    ) -> Result<Option<PathBuf>> {
        let Some((platform, digest)) = WHEEL else {
            return Ok(None);
        };
        let place = self.tools.join(format!("uv-{VERSION}-{}", &digest[..16]));
        if place.exists() {
            return Ok(Some(place));
        }
        let file = format!("uv-{VERSION}-py3-none-{platform}.whl");
        let wanted = json!({ "files": [{ "name": "uv", "file": file, "sha256": digest }] });
        let run = PipRun {
            files: BTreeMap::from([("files.json", wanted.to_string())]),
            retained: Vec::new(),
            building: Vec::new(),
            direct: Vec::new(),
            uv: None,
            sources: None,
            work: Work::Fetch { choose: false },
        };
        let before = self.warnings.borrow().clone();
        let found = self.run(virtualenv, &run, listen);
        *self.warnings.borrow_mut() = before;
        match found {
            Ok(found) => {
                let wheel = found.file(&file);
                let wheel = wheel.filter(|wheel| is_it(wheel, digest));
                wheel.map(|wheel| self.unpack_uv(wheel, &place)).transpose()
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Err(error),
            // Of an index that is not there, pip's failure will tell.
            Err(_) => Ok(None),
        }
    }

    fn unpack_uv(&self, wheel: &Path, place: &Path) -> Result<PathBuf> {
        let failed = || format!("cannot unpack uv to {}", place.display());
        fs::create_dir_all(self.tools).context(failed)?;
        let file = File::open(wheel).context(failed)?;
        let mut archive = zip::ZipArchive::new(file).context(failed)?;
        let member = format!("uv-{VERSION}.data/scripts/uv");
        let mut program = archive.by_name(&member).context(failed)?;
        let mut unpacked = tempfile::Builder::new()
            .permissions(PermissionsExt::from_mode(0o755))
            .tempfile_in(self.tools)
            .context(failed)?;
        io::copy(&mut program, unpacked.as_file_mut()).context(failed)?;
        unpacked.as_file().sync_all().context(failed)?;
        unpacked
            .persist(place)
            .map_err(|e| e.error)
            .context(failed)?;
        // Those of other versions.
        for entry in fs::read_dir(self.tools).context(failed)?.flatten() {
            if entry.path() != place && entry.file_name().to_string_lossy().starts_with("uv-") {
                remove(&entry.path())?;
            }
        }
        Ok(place.to_owned())
    }

    /// Says once that pip does what uv would do faster.
    pub(super) fn note_slow(&self) {
        let said = format!(
            "this machine's index does not have uv {VERSION}: pip resolves, which takes longer"
        );
        self.warnings.borrow_mut().insert(said);
    }
}

/// The specification for the script that asks it.
pub(super) fn spec(
    fixed: &[Python],
    kept_now: &Kept<'_>,
    builds: &[Build],
    building: &Kept<'_>,
) -> String {
    let reused = building.files().map(|p| (p.name.clone(), json!(p.file)));
    let fixed: Vec<&str> = fixed.iter().map(|python| python.name.as_str()).collect();
    json!({
        "program": format!("{LENT}/{PROGRAM}"),
        "fixed": fixed,
        "kept": kept(kept_now),
        "builds": builds,
        "kept_builds": kept(building),
        "reused": Value::Object(reused.collect()),
    })
    .to_string()
}

fn is_it(wheel: &Path, digest: &str) -> bool {
    fs::read(wheel).is_ok_and(|bytes| Sha256::of(&bytes).hex() == digest)
}
