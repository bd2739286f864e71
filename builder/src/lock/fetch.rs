//! Brings locked inputs into the store: bytes whose digest is already known.
//!
//! Debian packages come through the machine's own apt (apt-helper
//! download-file), with its proxies and credentials, many to a connection and
//! some connections at once; apt resumes what is cut and tries again, waiting
//! longer each time. What it brings is hashed again on its way into the store.
//! Why something did not come is read from what its methods report, see
//! [`crate::lock::acquire`].
//! Python files come through the tree's pip, see [`crate::lock::resolve::python`].

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use store::{Inputs, Sha256};

use crate::atomic_file::remove;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::host::{Archives, Network};
use crate::lock::acquire::{self, Failure, Outcome, REPORT, Report};
use crate::lockfile::{Deb, Lock};
use crate::process::watch::Watch;
use crate::process::{Output, Tool, ToolFailure};

/// How many packages one apt-helper gets; they share its connection.
const BATCH: usize = 40;
/// How many of them run at once: one connection is seldom all of a line.
const LANES: usize = 4;
const TIMEOUT: Duration = Duration::from_secs(3600);
/// What else apt-helper writes beside the packages.
const SLACK: u64 = 1 << 20;
/// No file from the network is larger.
const MAX_DOWNLOAD: u64 = 64 << 30;
/// How often bytes that are not the locked ones are asked for.
const ATTEMPTS: u32 = 2;

/// What the store lacks of the lock's Debian packages.
pub fn missing_debs<'l>(lock: &'l Lock, inputs: &Inputs) -> Vec<&'l Deb> {
    let mut seen = BTreeSet::new();
    lock.debs
        .iter()
        .filter(|deb| !inputs.has(&deb.sha256) && seen.insert(deb.sha256))
        .collect()
}

/// The machine's side of a download.
pub struct Source<'a> {
    /// Where archives are.
    pub archives: &'a Archives,
    /// How apt reaches them.
    pub network: &'a Network,
    /// Where packages of the recipe's own are.
    pub beside: &'a Path,
}

/// Fetches Debian packages; `progress` hears of the bytes that arrived.
pub fn debs(
    missing: &[&Deb],
    source: &Source<'_>,
    inputs: &Inputs,
    scratch: &Path,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<()> {
    let (local, remote): (Vec<&Deb>, Vec<&Deb>) = missing
        .iter()
        .copied()
        .partition(|deb| deb.archive.is_none());
    for deb in local {
        keep(deb, &source.beside.join(&deb.path), inputs)?;
        progress(deb.size);
    }
    let batch = remote.len().div_ceil(LANES).clamp(1, BATCH);
    let batches = Mutex::new(remote.chunks(batch));
    let progress = Mutex::new(progress);
    let lane = |number: usize| -> Result<()> {
        let scratch = scratch.join(number.to_string());
        let next = || {
            batches
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .next()
        };
        while let Some(debs) = next() {
            let fetched = fetch(debs, source, inputs, &scratch, &mut |bytes| {
                progress.lock().unwrap_or_else(PoisonError::into_inner)(bytes);
            });
            if fetched.is_err() {
                // The others end with what they have begun.
                while next().is_some() {}
                return fetched;
            }
        }
        Ok(())
    };
    let lane = &lane;
    thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES).map(|n| scope.spawn(move || lane(n))).collect();
        // All of them must end before one error is shown.
        let ends = lanes.into_iter().map(thread::ScopedJoinHandle::join);
        let ends: Vec<_> = ends.collect();
        ends.into_iter()
            .try_for_each(|end| end.unwrap_or_else(|panic| resume_unwind(panic)))
    })?;
    remove(scratch)
}

/// Fetches some packages over one connection.
fn fetch(
    debs: &[&Deb],
    source: &Source<'_>,
    inputs: &Inputs,
    scratch: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<()> {
    let mut attempt = 1;
    loop {
        let lacking = |deb: &&&Deb| !inputs.has(&deb.sha256);
        let wanted: Vec<&Deb> = debs.iter().filter(lacking).copied().collect();
        let ran = download(&wanted, source, inputs, scratch, progress)?;
        let lost = wanted.iter().copied().find(|deb| !inputs.has(&deb.sha256));
        let (Err(lacks), Some(first)) = (ran, lost) else {
            return Ok(());
        };
        let lost: Vec<&Deb> = debs.iter().filter(lacking).copied().collect();
        // A bit that flipped on its way will not flip again.
        if attempt == ATTEMPTS || !lost.iter().any(|deb| lacks.of(deb) == Some(Why::Unlike)) {
            return Err(explain(&lost, first, &lacks));
        }
        attempt += 1;
    }
}

/// apt-helper in a new directory, before what it is to download.
fn apt_helper(archives: &Archives, network: &Network, scratch: &Path, most: u64) -> Result<Tool> {
    remove(scratch)?;
    Network::private_dir(scratch)?;
    let conf = scratch.join("apt.conf");
    let text = network.lend(archives, scratch)?;
    fs::write(&conf, text).context(|| format!("cannot write {}", conf.display()))?;
    let tool = Tool::new("/usr/lib/apt/apt-helper")
        .tied()
        .env("APT_CONFIG", &conf)
        .args(["-o", REPORT, "download-file"])
        .timeout(TIMEOUT)
        .watch(Watch::new(scratch, network.patience(), most));
    Ok(network.with_proxies(tool))
}

/// How a run of apt-helper ended, and what it said.
struct Heard {
    ran: std::result::Result<(), ToolFailure>,
    report: Report,
    said: Vec<String>,
}

fn hear(tool: Tool) -> Result<Heard> {
    let (mut report, mut said) = (Report::default(), Vec::new());
    let ran = tool.run(Output {
        log: None,
        listen: &mut |line| {
            if report.hear(line) {
                said.push(line.to_owned());
            }
        },
    })?;
    Ok(Heard { ran, report, said })
}

/// Fetches one file whose digest somebody has written down; its size.
pub fn file(
    url: &str,
    sha256: Sha256,
    archives: &Archives,
    network: &Network,
    inputs: &Inputs,
    scratch: &Path,
) -> Result<u64> {
    let file = scratch.join(sha256.hex());
    let tool = apt_helper(archives, network, scratch, MAX_DOWNLOAD)?
        .arg(url)
        .arg(&file)
        .arg(format!("SHA256:{}", sha256.hex()));
    let Heard { ran, report, said } = hear(tool)?;
    if let Err(failure) = ran {
        return Err(not_downloaded(url, &report, &said, &failure));
    }
    let mut reader = File::open(&file).context(|| format!("cannot read {}", file.display()))?;
    let kept = inputs.insert(&mut reader, Some(&sha256));
    let (_, size) = kept.map_err(|error| match error.kind() {
        store::ErrorKind::Corrupt => other_bytes(url, &error.to_string()),
        _ => Error::failed(format!("cannot keep {url} in the store")).because(&error),
    })?;
    remove(scratch)?;
    Ok(size)
}

fn other_bytes(url: &str, detail: &str) -> Error {
    Error::new(
        ErrorKind::Refused,
        format!("{url} has other bytes than the recipe names"),
    )
    .detail(detail)
    .hint(
        "if whoever publishes it has replaced it, look at the new file before you write its \
         sha256 into the recipe",
    )
}

fn not_downloaded(url: &str, report: &Report, said: &[String], failure: &ToolFailure) -> Error {
    // apt writes `file:/PATH`.
    let asked = url.replacen("file://", "file:", 1);
    let outcome = report.of(&acquire::decoded(&asked));
    let outcome = outcome.filter(|_| !failure.is_ended());
    if let Some(Outcome::Done(Some(other))) = outcome {
        return other_bytes(url, &format!("its sha256 is {other}"));
    }
    let is_absent = matches!(outcome, Some(Outcome::Failed(failure)) if is_absent(&asked, failure));
    let mut error = Error::failed(format!("cannot fetch {url}")).hint(if is_absent {
        "correct `url` of [[download]], or use a store that retains the file (--cache STORE)"
    } else {
        "check the network of this machine and try again"
    });
    let complaints: Vec<&String> = said.iter().filter(|line| line.starts_with("E: ")).collect();
    if complaints.is_empty() {
        error = error.detail(failure.what());
    }
    for line in complaints {
        error = error.detail(line.trim_end());
    }
    error
}

/// One run of apt-helper; keeps what arrived in whole.
fn download(
    wanted: &[&Deb],
    source: &Source<'_>,
    inputs: &Inputs,
    scratch: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<std::result::Result<(), Lacks>> {
    let most = wanted
        .iter()
        .map(|d| d.size)
        .fold(SLACK, u64::saturating_add);
    let mut tool = apt_helper(source.archives, source.network, scratch, most)?;
    for deb in wanted {
        let archive = deb.archive.as_deref().unwrap_or_default();
        let url = format!("{}/{}", source.archives.site(archive)?, deb.path);
        let file = scratch.join(deb.sha256.hex());
        tool = tool
            .arg(url)
            .arg(file)
            .arg(format!("SHA256:{}", deb.sha256.hex()));
    }
    let Heard { ran, report, said } = hear(tool)?;
    let ran = ran.map_err(|failure| Lacks {
        failure,
        report,
        said,
    });
    for deb in wanted {
        let file = scratch.join(deb.sha256.hex());
        // After a failure what is there may be half of it.
        let whole = ran.is_ok() || fs::metadata(&file).is_ok_and(|m| m.len() == deb.size);
        if whole && file.exists() && keep(deb, &file, inputs).or_else(|e| or_lost(e, &ran))? {
            progress(deb.size);
        }
    }
    Ok(ran)
}

/// After a failure, a file that is not what it should be counts as not there.
fn or_lost(error: Error, ran: &std::result::Result<(), Lacks>) -> Result<bool> {
    match ran {
        Err(_) if error.kind() == ErrorKind::Refused => Ok(false),
        _ => Err(error),
    }
}

/// What one run of apt-helper says about what it did not bring.
struct Lacks {
    failure: ToolFailure,
    report: Report,
    said: Vec<String>,
}

/// Why a package did not come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    /// Other bytes came.
    Unlike,
    /// The archive does not have it.
    Absent,
    /// Something else.
    Other,
}

impl Lacks {
    fn of(&self, deb: &Deb) -> Option<Why> {
        let ending = format!("/{}", acquire::decoded(&deb.path));
        let (url, outcome) = self.report.find(&ending)?;
        Some(match outcome {
            Outcome::Done(Some(sha256)) if *sha256 != deb.sha256.hex() => Why::Unlike,
            Outcome::Failed(failure) if failure.is("MaximumSizeExceeded") => Why::Unlike,
            Outcome::Failed(failure) if is_absent(url, failure) => Why::Absent,
            Outcome::Done(_) | Outcome::Failed(_) => Why::Other,
        })
    }
}

/// A `file:` address has no status to answer with.
fn is_absent(url: &str, failure: &Failure) -> bool {
    match url.strip_prefix("file:") {
        Some(path) => !Path::new(&format!("/{}", path.trim_start_matches('/'))).exists(),
        None => matches!(failure.status(), Some(404 | 410)),
    }
}

fn explain(lost: &[&Deb], first: &Deb, lacks: &Lacks) -> Error {
    // apt reports on each; bytes that are others weigh more than those that are not there.
    let of = |why: Why| lost.iter().find(|deb| lacks.of(deb) == Some(why));
    let found = [Why::Unlike, Why::Absent, Why::Other].into_iter();
    let mut found = found.filter(|_| !lacks.failure.is_ended());
    let (why, deb) = found
        .find_map(|why| Some((why, *of(why)?)))
        .unwrap_or((Why::Other, first));
    let about = |line: &&String| acquire::decoded(line).contains(&acquire::decoded(&deb.path));
    let complaints = lacks.said.iter().filter(|line| line.starts_with("E: "));
    let lines: Vec<&String> = complaints.filter(about).collect();
    let archive = deb.archive.as_deref().unwrap_or_default();
    let name = format!("{} {}", deb.name, deb.version);
    let mut error = if why == Why::Unlike {
        Error::new(
            ErrorKind::Refused,
            format!("the archive `{archive}` delivers other bytes for {name} than the lock names"),
        )
        .hint(
            "take the lock from version control again if somebody edited it; otherwise the \
             mirror's file is damaged or another: use another --archive NAME=URL",
        )
    } else {
        let more = match lost.len() {
            0 | 1 => String::new(),
            n => format!(" and {} more", n - 1),
        };
        Error::failed(format!(
            "cannot fetch {name}{more} from the archive `{archive}`"
        ))
        .hint(if why == Why::Absent {
            "a mirror drops old versions: use a store that retains them, another --archive \
             NAME=URL, or `imgbuild lock --upgrade`"
        } else {
            "check the network of this machine and try again, or use another --archive NAME=URL"
        })
    };
    if lines.is_empty() {
        error = error.detail(lacks.failure.what());
    }
    for line in lines {
        error = error.detail(line.trim_end());
    }
    error
}

/// Retains a file, if it is the locked one in digest and size.
fn keep(deb: &Deb, file: &Path, inputs: &Inputs) -> Result<bool> {
    let name = format!("{} {}", deb.name, deb.version);
    let unlike = |what: String| {
        Error::new(
            ErrorKind::Refused,
            format!("{name} is not what the lock names"),
        )
        .detail(what)
        .hint("run `imgbuild lock --upgrade`, look at the difference, and commit it")
    };
    let size = fs::metadata(file)
        .context(|| format!("cannot read {}", file.display()))?
        .len();
    if size != deb.size {
        return Err(unlike(format!(
            "it has {size} bytes, the lock says {}",
            deb.size
        )));
    }
    let mut reader = File::open(file).context(|| format!("cannot read {}", file.display()))?;
    match inputs.insert(&mut reader, Some(&deb.sha256)) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == store::ErrorKind::Corrupt => Err(unlike(e.to_string())),
        Err(e) => Err(Error::failed(format!("cannot keep {name} in the store")).because(&e)),
    }
}
