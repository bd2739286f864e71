//! The archives' indexes, brought and verified by apt, and what it means when
//! apt will not have them.

use std::fs;

use super::Apt;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::process::{Output, ToolFailure};
use crate::watch::Watch;

/// No archive's indexes are larger, unpacked and together.
const MAX_INDEXES: u64 = 4 << 30;

/// What apt says, what it means, what to do, and whether it is a refusal.
const MEANINGS: [(&[&str], &str, &str, ErrorKind); 11] = [
    (
        &["  401  ", "  403  ", "  407  "],
        "wants other credentials",
        "put them into the address of the archive or into /etc/apt/auth.conf.d",
        ErrorKind::Failed,
    ),
    (
        &["  500  ", "  502  ", "  503  ", "  504  "],
        "is on a server that is out of order",
        "try again later, or use another mirror: --archive NAME=URL",
        ErrorKind::Failed,
    ),
    (
        &["Redirection"],
        "redirects to where apt does not follow",
        "name the address where the archive really is: --archive NAME=URL",
        ErrorKind::Failed,
    ),
    (
        &["is expired", "EXPSIG", "EXPKEYSIG"],
        "has expired",
        "check this machine's clock, or use a mirror that is up to date",
        ErrorKind::Refused,
    ),
    (
        &["is not valid yet"],
        "is from the future",
        "check this machine's clock: `date` against the time in apt's line",
        ErrorKind::Refused,
    ),
    (
        &[
            "NO_PUBKEY",
            "BADSIG",
            "couldn't be verified",
            "signatures were invalid",
            "GPG error",
        ],
        "is not signed by the key that it should be",
        "name the archive's own key as `key` in [[source]], or use a mirror that changes nothing",
        ErrorKind::Refused,
    ),
    (
        &["is not signed", "NOSPLIT", "NODATA"],
        "is not signed",
        "use a mirror that signs its Release file; unsigned archives are never used",
        ErrorKind::Refused,
    ),
    (
        &["Hash Sum mismatch", "unexpected size"],
        "does not fit its own Release file",
        "a mirror in the middle of an update, or a damaged one: try again later or use another",
        ErrorKind::Refused,
    ),
    (
        &[
            "Undetermined Error",
            "Connection failed",
            "Connection closed",
        ],
        "breaks off before its end",
        "the network or the server failed halfway: try again, or use another mirror",
        ErrorKind::Failed,
    ),
    (
        &["doesn't have the component"],
        "lacks a component that the recipe names",
        "check `components` in the recipe",
        ErrorKind::Failed,
    ),
    (
        &["does not have a Release file", "  404  ", "File not found"],
        "is not there",
        "check `suite` in the recipe and the address of the archive; old suites move to other \
         archives: --archive NAME=URL",
        ErrorKind::Failed,
    ),
];

impl Apt<'_> {
    /// Reads one archive after the other, so that what goes wrong is known to be
    /// the fault of that one; the recipe's own, which are small, before Debian's.
    pub(super) fn update(&self, listen: &mut dyn FnMut(&str)) -> Result<()> {
        let path = self.dir.join("sources.list");
        let sources =
            fs::read_to_string(&path).context(|| format!("cannot read {}", path.display()))?;
        let suites = self.suites();
        for (index, line) in sources.lines().enumerate().collect::<Vec<_>>().iter().rev() {
            let whose = match suites.get(*index) {
                Some((archive, suite, ..)) => {
                    format!("the suite {suite} of the archive `{archive}`")
                }
                None => "the index of the retained packages".to_owned(),
            };
            listen(&format!("reading {whose}"));
            self.write("one.list", &format!("{line}\n"))?;
            self.update_one(&whose, listen)?;
        }
        Ok(())
    }

    fn update_one(&self, whose: &str, listen: &mut dyn FnMut(&str)) -> Result<()> {
        let lists = self.dir.join("lists");
        let one = format!(
            "Dir::Etc::sourcelist={}",
            self.dir.join("one.list").display()
        );
        let mut said = Vec::new();
        let ran = self
            .network
            .with_proxies(self.tool())
            // Keeps what was read before.
            .args(["--quiet", "-o", "APT::Get::List-Cleanup=false", "-o", &one])
            .arg("update")
            .watch(Watch::new(&lists, self.network.patience(), MAX_INDEXES))
            .run(Output {
                log: None,
                listen: &mut |line| {
                    said.push(line.to_owned());
                    listen(line);
                },
            })?;
        ran.map_err(|failure| explain(whose, &failure, &said))
    }
}

fn explain(whose: &str, failure: &ToolFailure, said: &[String]) -> Error {
    let complaints = complaints(said);
    let meant = MEANINGS.iter().find_map(|meaning| {
        let has = |text: &&Vec<&str>| {
            let mut words = meaning.0.iter();
            words.any(|word| text.iter().any(|line| line.contains(word)))
        };
        Some((meaning, complaints.iter().find(has)?))
    });
    let (what, hint, kind) = match meant {
        Some(((_, what, hint, kind), _)) => (format!("{whose} {what}"), *hint, *kind),
        None => (
            format!("cannot read {whose}"),
            "check the address of the archive and the network of this machine",
            ErrorKind::Failed,
        ),
    };
    let mut error = Error::new(kind, what);
    match meant.map(|(_, complaint)| complaint).or(complaints.first()) {
        // It was ended, and what it said before need not be the reason.
        _ if failure.is_ended() => error = error.detail(failure.what()),
        None => error = error.detail(failure.what()),
        Some(lines) => {
            for line in lines {
                error = error.detail(*line);
            }
        }
    }
    error.hint(hint)
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
    found.retain(|lines| !lines[0].contains("Some index files failed to download"));
    found.sort_by_key(|lines| !lines[0].starts_with(['E', 'W']) || lines[0].starts_with("Err"));
    found
}
