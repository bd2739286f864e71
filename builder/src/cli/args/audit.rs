//! `imgbuild audit`, as typed.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::Common;
use super::signing::Secret;
use crate::inspect::audit::Severity;

const AUDIT_HELP: &str = "\
WHAT is an IMAGE (a digest, its first 8 or more hex digits, NAME, or ENV/NAME[/SEQ]), an ENV (the
newest release of each of its names), or a RECIPE file (what its lock names; nothing is built).

Shows the security updates that Debian's archive has and the image has not, by source package, with
the CVE ids in the changelogs of the new packages. The archive is this machine's `debian-security`,
read and verified as for a lock; what was read is kept below --work for --offline.

--advisories takes files of OSV (JSON, a list of it, the all.zip of an ecosystem), the JSON of
Debian's security tracker, and directories of them; --vex takes OpenVEX and CSAF. Debian packages
are matched by source, Python distributions by name, versions as dpkg and pip compare them. imgbuild
fetches no advisories itself.

Exit code 4: something was found that counts. Without --severity all counts; what nobody has given a
severity counts always. 3: an index is not what its archive signed. 1, 2: nothing is known.

Examples: imgbuild audit prod
          imgbuild audit dev/web --advisories all.zip --vex ours.vex.json --severity high --json";

fn severity() -> impl TypedValueParser<Value = Severity> {
    let names = Severity::THRESHOLDS.map(Severity::name);
    PossibleValuesParser::new(names).map(|typed| {
        let mut known = Severity::THRESHOLDS.into_iter();
        known
            .find(|severity| severity.name() == typed)
            .unwrap_or_default()
    })
}

/// `audit`.
#[derive(Args, Debug)]
#[command(after_help = AUDIT_HELP)]
pub struct AuditArgs {
    /// Images, environments or recipes
    #[arg(value_name = "WHAT", required = true)]
    pub of: Vec<String>,
    /// A file or directory with advisories: OSV, Debian's security tracker; repeatable
    #[arg(long, value_name = "FILE|DIR")]
    pub advisories: Vec<PathBuf>,
    /// Statements about advisories.
    #[arg(
        long,
        value_name = "FILE",
        help = "A file that says which advisories do not concern you: OpenVEX, CSAF; repeatable"
    )]
    pub vex: Vec<PathBuf>,
    /// Show whose security support has ended, by debian-security-support of the archive, or by a
    /// list of it; where it is installed in an image, its list there is read anyway
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    pub support_ended: Option<Option<PathBuf>>,
    /// The least severity that counts
    #[arg(long, value_name = "LEVEL", value_parser = severity())]
    pub severity: Option<Severity>,
    /// Read nothing from the network: the archive's index is the one that was kept
    #[arg(long)]
    pub offline: bool,
    /// Sign what was found, and put it beside each image
    #[arg(long)]
    pub sign: bool,
    /// The key that signs that; `builder`, made if it is not there, when left out
    #[arg(long, value_name = "NAME", requires = "sign")]
    pub key: Option<String>,
    /// Where passphrases come from.
    #[command(flatten)]
    pub secret: Secret,
    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
}
