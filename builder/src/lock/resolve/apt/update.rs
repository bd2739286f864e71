//! The archives' indexes, brought and verified by apt, and what is shown when
//! apt will not have them.

use super::Apt;
use super::diagnosis::Finding;
use super::settings::Suite;
use crate::error::{Error, ErrorKind, Result};
use crate::lock::acquire::{REPORT, Report};
use crate::process::watch::Watch;
use crate::process::{Output, ToolFailure};

/// No archive's indexes are larger, unpacked and together.
const MAX_INDEXES: u64 = 4 << 30;

impl Apt<'_> {
    /// Reads one archive after the other, so that what goes wrong is known to be
    /// the fault of that one; the recipe's own, which are small, before Debian's.
    pub(super) fn update(&self, listen: &mut dyn FnMut(&str)) -> Result<()> {
        for suite in self.suites().iter().rev() {
            let whose = format!(
                "the suite {} of the archive `{}`",
                suite.name, suite.archive
            );
            listen(&format!("reading {whose}"));
            self.write("one.list", &self.line(suite)?)?;
            self.update_one(&whose, suite, listen)?;
        }
        Ok(())
    }

    /// Reads one suite, verified; `whose` is how errors call it.
    pub(super) fn update_one(
        &self,
        whose: &str,
        suite: &Suite,
        listen: &mut dyn FnMut(&str),
    ) -> Result<()> {
        let lists = self.dir.join("lists");
        let one = format!(
            "Dir::Etc::sourcelist={}",
            self.dir.join("one.list").display()
        );
        let mut said = Vec::new();
        let mut report = Report::default();
        let ran = self
            .network
            .with_proxies(self.tool())
            // Keeps what was read before.
            .args(["--quiet", "-o", "APT::Get::List-Cleanup=false", "-o", &one])
            // Nobody asks about the whole of them.
            .args(["-o", "pkgCacheFile::Generate=false"])
            .args(["-o", REPORT, "update"])
            .watch(Watch::new(&lists, self.network.patience(), MAX_INDEXES))
            .run(Output {
                log: None,
                listen: &mut |line| {
                    if report.hear(line) {
                        said.push(line.to_owned());
                        listen(line);
                    }
                },
            })?;
        let Err(failure) = ran else {
            return match self.recheck(suite)? {
                Some(found) => Err(explain(whose, Some(&found), &[], None)),
                None => Ok(()),
            };
        };
        // If it was ended, what came before need not be the reason.
        let found = if failure.is_ended() {
            None
        } else {
            self.diagnose(suite, &report)?
        };
        let address = self.archives.site(&suite.archive).ok();
        let shown = if failure.is_ended() {
            Vec::new()
        } else {
            evidence(&said, found.as_ref(), address.as_deref())
        };
        Err(explain(whose, found.as_ref(), &shown, Some(&failure)))
    }
}

pub(super) fn explain(
    whose: &str,
    found: Option<&Finding>,
    shown: &[&str],
    failure: Option<&ToolFailure>,
) -> Error {
    let (what, hint, kind) = match found.map(|found| found.meaning) {
        Some(meaning) => (
            format!("{whose} {}", meaning.what),
            meaning.hint,
            meaning.kind,
        ),
        None => (
            format!("cannot read {whose}"),
            "check the address of the archive and the network of this machine",
            ErrorKind::Failed,
        ),
    };
    let mut error = Error::new(kind, what);
    let measured = found.and_then(|found| found.measured.as_ref());
    for line in measured
        .map(String::as_str)
        .into_iter()
        .chain(shown.iter().copied())
    {
        error = error.detail(line);
    }
    if let (None, [], Some(failure)) = (measured, shown, failure) {
        error = error.detail(failure.what());
    }
    error.hint(hint)
}

/// What apt says about it: of its complaints, the first that names the file,
/// else the archive.
fn evidence<'s>(said: &'s [String], found: Option<&Finding>, site: Option<&str>) -> Vec<&'s str> {
    let mut complaints = complaints(said);
    let names = |lines: &Vec<&str>, url: &str| lines.iter().any(|line| line.contains(url));
    let url = found.and_then(|found| found.url.as_deref());
    let at = [url, site]
        .into_iter()
        .flatten()
        .find_map(|url| complaints.iter().position(|lines| names(lines, url)));
    match at.or((!complaints.is_empty()).then_some(0)) {
        Some(at) => complaints.swap_remove(at),
        None => Vec::new(),
    }
}

/// What apt complains about, with the lines that belong to each complaint;
/// what it sums up with at the end goes first.
fn complaints(said: &[String]) -> Vec<Vec<&str>> {
    let mut found: Vec<Vec<&str>> = Vec::new();
    let mut inside = false;
    for line in said.iter().map(|line| line.trim_end()) {
        let goes_on = line.starts_with(' ');
        if ["E: ", "W: ", "Err:", "Ign:"]
            .iter()
            .any(|start| line.starts_with(start))
        {
            found.push(vec![line]);
            inside = true;
        } else if let Some(last) = found.last_mut().filter(|_| inside && goes_on) {
            last.push(line);
        } else {
            inside = false;
        }
    }
    found.sort_by_key(|lines| !lines[0].starts_with(['E', 'W']) || lines[0].starts_with("Err"));
    found
}
