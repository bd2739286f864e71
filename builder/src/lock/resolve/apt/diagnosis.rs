//! What is wrong with an archive, by what can be measured of it.
//!
//! The messages of apt's methods tell how each file arrived; signature, dates,
//! components and digests of the Release file are looked at here. What apt says
//! about it is shown as evidence and decides nothing: it is said differently in
//! each version.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use store::Sha256;

use super::Apt;
use super::index::parse_date;
use super::openpgp;
use super::settings::Suite;
use super::verify::{Signed, Verdict, verify};
use crate::error::{ErrorKind, Result};
use crate::lock::acquire::{Failure, Outcome, REPORT, Report};
use crate::process::watch::Watch;
use crate::process::{Output, Tool};

/// No Release file is larger.
const MAX_RELEASE: u64 = 64 << 20;
/// How far ahead of this machine's clock an archive's may be, as for apt.
const SKEW: u64 = 10;

/// What is wrong, what to do, and whether it is a refusal.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Meaning {
    pub(super) what: &'static str,
    pub(super) hint: &'static str,
    pub(super) kind: ErrorKind,
}

const CREDENTIALS: Meaning = Meaning {
    what: "wants other credentials",
    hint: "put them into the address of the archive or into /etc/apt/auth.conf.d",
    kind: ErrorKind::Failed,
};
const OUT_OF_ORDER: Meaning = Meaning {
    what: "is on a server that is out of order",
    hint: "try again later, or use another mirror: --archive NAME=URL",
    kind: ErrorKind::Failed,
};
const REDIRECTS: Meaning = Meaning {
    what: "redirects to where apt does not follow",
    hint: "name the address where the archive really is: --archive NAME=URL",
    kind: ErrorKind::Failed,
};
const EXPIRED: Meaning = Meaning {
    what: "has expired",
    hint: "check this machine's clock, or use a mirror that is up to date; an archive that shall \
           stay as it was gets a `snapshot` or `release` in the recipe",
    kind: ErrorKind::Refused,
};
const NOT_DATED: Meaning = Meaning {
    what: "is newer than the snapshot that the recipe names",
    hint: "check this machine's address for dated archives: @SNAPSHOTID@ stands for the date in it",
    kind: ErrorKind::Refused,
};
const KEY_EXPIRED: Meaning = Meaning {
    what: "is signed by a key that has expired",
    hint: "check this machine's clock, or get the archive's key anew",
    kind: ErrorKind::Refused,
};
const FROM_THE_FUTURE: Meaning = Meaning {
    what: "is from the future",
    hint: "check this machine's clock: `date` against the time above",
    kind: ErrorKind::Refused,
};
const FOREIGN: Meaning = Meaning {
    what: "is not signed by the key that it should be",
    hint: "name the archive's own key as `key` in [[source]], or use a mirror that changes nothing",
    kind: ErrorKind::Refused,
};
const UNSIGNED: Meaning = Meaning {
    what: "is not signed",
    hint: "use a mirror that signs its Release file; unsigned archives are never used",
    kind: ErrorKind::Refused,
};
const UNLIKE: Meaning = Meaning {
    what: "does not fit its own Release file",
    hint: "a mirror in the middle of an update, or a damaged one: try again later or use another",
    kind: ErrorKind::Refused,
};
const CUT: Meaning = Meaning {
    what: "breaks off before its end",
    hint: "the network or the server failed halfway: try again, or use another mirror",
    kind: ErrorKind::Failed,
};
const NO_COMPONENT: Meaning = Meaning {
    what: "lacks a component that the recipe names",
    hint: "check `components` in the recipe",
    kind: ErrorKind::Failed,
};
const ABSENT: Meaning = Meaning {
    what: "is not there",
    hint: "check `suite` in the recipe and the address of the archive; old suites move to other \
           archives: --archive NAME=URL",
    kind: ErrorKind::Failed,
};

/// What was found out about an archive.
pub(super) struct Finding {
    pub(super) meaning: &'static Meaning,
    /// What was measured, for people.
    pub(super) measured: Option<String>,
    /// The address of the file that it is about.
    pub(super) url: Option<String>,
}

impl Finding {
    fn new(meaning: &'static Meaning, measured: impl Into<String>) -> Self {
        Self {
            meaning,
            measured: Some(measured.into()),
            url: None,
        }
    }

    fn at(meaning: &'static Meaning, url: &str) -> Self {
        Self {
            meaning,
            measured: None,
            url: Some(url.to_owned()),
        }
    }
}

impl Apt<'_> {
    /// Looks for what is wrong after apt could not read a suite.
    pub(super) fn diagnose(&self, suite: &Suite, report: &Report) -> Result<Option<Finding>> {
        let base = format!("/dists/{}/", suite.name);
        let decisive = decisive(report, &base);
        for (url, failure) in &decisive {
            if let Some(meaning) = self.transport(url, failure)? {
                return Ok(Some(Finding::at(meaning, url)));
            }
        }
        if !decisive.is_empty() {
            // It did not arrive for another reason, such as the connection.
            return Ok(None);
        }
        let address = self.archives.site(&suite.archive)?;
        let arrived = |name: &str| {
            let outcome = report.of(&format!("{base}{name}"));
            matches!(outcome, Some(Outcome::Done(_)))
        };
        let bring = |name: &str| {
            if arrived(name) {
                self.bring(&format!("{address}{base}{name}"))
            } else {
                Ok(None)
            }
        };
        let signed = match bring("InRelease")? {
            Some(bytes) => Signed::Inline(bytes),
            None => match (bring("Release")?, bring("Release.gpg")?) {
                (Some(text), Some(signature)) => Signed::Detached(text, signature),
                (Some(_), None) => {
                    return Ok(Some(Finding::new(
                        &UNSIGNED,
                        "it has a Release file, and neither InRelease nor Release.gpg",
                    )));
                }
                (None, _) => return Ok(None),
            },
        };
        if let Some(found) = self.weigh(suite, &signed)? {
            return Ok(Some(found));
        }
        let release = Release::parse(&signed);
        let unlike = report.outcomes().find(|(url, outcome)| {
            let path = url.split_once(&base).map(|(_, path)| path);
            match (path, outcome) {
                (Some(path), Outcome::Done(Some(hash))) => release.contradicts(path, hash),
                _ => false,
            }
        });
        Ok(unlike.map(|(url, _)| Finding::at(&UNLIKE, url)))
    }

    /// Looks at a suite that apt has read, with the same eyes.
    pub(super) fn recheck(&self, suite: &Suite) -> Result<Option<Finding>> {
        let lists = self.lists(suite)?;
        let kept = |name: &str| {
            let file = lists.iter().find(|(ending, _)| ending == name);
            file.and_then(|(_, path)| fs::read(path).ok())
        };
        let signed = match (kept("InRelease"), kept("Release"), kept("Release.gpg")) {
            (Some(bytes), ..) => Signed::Inline(bytes),
            (_, Some(text), Some(signature)) => Signed::Detached(text, signature),
            // What apt keeps is asked for by those who read it.
            _ => return Ok(None),
        };
        if !super::verify::can_verify() {
            return Ok(None);
        }
        self.weigh(suite, &signed)
    }

    /// Signature, dates and components of a Release file.
    pub(super) fn weigh(&self, suite: &Suite, signed: &Signed) -> Result<Option<Finding>> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |since| since.as_secs());
        let keyring = &suite.keyring;
        match verify(signed, Path::new(keyring), &self.dir, now)? {
            Verdict::Good => {}
            Verdict::Expired(why) => return Ok(Some(Finding::new(&KEY_EXPIRED, why))),
            Verdict::Foreign(why) => {
                let why = format!("{why}; the key that it should be is in {}", suite.key);
                return Ok(Some(Finding::new(&FOREIGN, why)));
            }
            Verdict::Unsigned => {
                return Ok(Some(Finding::new(
                    &UNSIGNED,
                    "there is no OpenPGP signature in what the server calls InRelease or Release.gpg",
                )));
            }
        }
        let release = Release::parse(signed);
        let until = release.time("Valid-Until").filter(|(_, at)| *at < now);
        if let Some((until, _)) = until.filter(|_| !suite.is_fixed()) {
            let found = match signed {
                Signed::Inline(bytes) | Signed::Detached(bytes, _) => Sha256::of(bytes),
            };
            return Ok(Some(Finding::new(
                &EXPIRED,
                format!(
                    "Valid-Until: {until}; its Release file is sha256:{}",
                    found.hex()
                ),
            )));
        }
        let newer = |at: u64| suite.snapshot.is_some_and(|snapshot| at > snapshot);
        if let Some((date, _)) = release.time("Date").filter(|(_, at)| newer(*at)) {
            return Ok(Some(Finding::new(&NOT_DATED, format!("Date: {date}"))));
        }
        if let Some((date, _)) = release.time("Date").filter(|(_, at)| *at > now + SKEW) {
            return Ok(Some(Finding::new(
                &FROM_THE_FUTURE,
                format!("Date: {date}"),
            )));
        }
        let mut components = suite.components.split(' ').filter(|word| !word.is_empty());
        let lacking = components.find(|component| !release.has(component));
        Ok(lacking.map(|component| {
            let known = release.fields.get("Components").cloned();
            let known = known.unwrap_or_default();
            let what = format!("it has no component `{component}`, only: {known}");
            Finding::new(&NO_COMPONENT, what)
        }))
    }

    /// What it means that a file did not arrive; None: it could not be asked for.
    fn transport(&self, url: &str, failure: &Failure) -> Result<Option<&'static Meaning>> {
        if let Some(path) = url.strip_prefix("file:") {
            let path = format!("/{}", path.trim_start_matches('/'));
            return Ok((!Path::new(&path).exists()).then_some(&ABSENT));
        }
        Ok(match failure.status() {
            Some(401 | 403 | 407) => Some(&CREDENTIALS),
            Some(404 | 410) => Some(&ABSENT),
            Some(300..=399) => Some(&REDIRECTS),
            Some(500..) => Some(&OUT_OF_ORDER),
            None if failure.is("RedirectionLoop") => Some(&REDIRECTS),
            None if failure.is("MaximumSizeExceeded") => Some(&UNLIKE),
            None if failure.is_cut() => Some(&CUT),
            None if failure.reason.is_none() && self.is_redirected(url)? => Some(&REDIRECTS),
            _ => None,
        })
    }

    /// Whether a server answers with another address.
    fn is_redirected(&self, url: &str) -> Result<bool> {
        let mut report = Report::default();
        let stay =
            ["http", "https"].map(|scheme| format!("Acquire::{scheme}::AllowRedirect=false"));
        let tool = self.helper().args(["-o", &stay[0], "-o", &stay[1]]);
        let _ = self.download(tool, url, &mut report)?;
        let outcomes: Vec<_> = report.outcomes().collect();
        Ok(outcomes.iter().any(|(_, outcome)| match outcome {
            Outcome::Failed(failure) => matches!(failure.status(), Some(300..=399)),
            Outcome::Done(_) => false,
        }))
    }

    /// A file of the archive, over apt, with its proxies and credentials.
    fn bring(&self, url: &str) -> Result<Option<Vec<u8>>> {
        self.download(self.helper(), url, &mut Report::default())
    }

    fn helper(&self) -> Tool {
        let tool = Tool::new("/usr/lib/apt/apt-helper").tied();
        let tool = tool.env("APT_CONFIG", self.dir.join("apt.conf"));
        self.network.with_proxies(tool).args(["-o", REPORT])
    }

    fn download(&self, tool: Tool, url: &str, report: &mut Report) -> Result<Option<Vec<u8>>> {
        let dir = self.dir.join("looked-at");
        crate::atomic_file::remove(&dir)?;
        crate::host::Network::private_dir(&dir)?;
        let file = dir.join("file");
        let ran = tool
            .args(["download-file", url])
            .arg(&file)
            .watch(Watch::new(&dir, self.network.patience(), MAX_RELEASE))
            .run(Output {
                log: None,
                listen: &mut |line| {
                    report.hear(line);
                },
            })?;
        Ok(ran.ok().and_then(|()| fs::read(&file).ok()))
    }
}

/// The failures that made apt give up, without those it expects on the way:
/// `InRelease` before `Release`, no `Release.gpg` beside it.
fn decisive<'r>(report: &'r Report, base: &str) -> Vec<(&'r str, &'r Failure)> {
    let of = |name: &str| report.of(&format!("{base}{name}"));
    let inline = matches!(of("InRelease"), Some(Outcome::Done(_)));
    let plain = of("Release").is_some();
    let failures = report.outcomes().filter_map(|(url, outcome)| {
        let path = url.split_once(base).map_or(url, |(_, path)| path);
        let Outcome::Failed(failure) = outcome else {
            return None;
        };
        let expected = match path {
            "InRelease" => plain,
            "Release" => inline,
            "Release.gpg" => {
                url.starts_with("file:") || matches!(failure.status(), Some(404 | 410))
            }
            _ => false,
        };
        (!expected).then_some((url, failure))
    });
    failures.collect()
}

/// The fields of a Release file, and what it says about the indexes.
#[derive(Debug)]
pub(super) struct Release {
    fields: BTreeMap<String, String>,
    /// The digest of each file, by its path.
    pub(super) sha256: BTreeMap<String, String>,
}

impl Release {
    pub(super) fn parse(signed: &Signed) -> Self {
        let text = match signed {
            Signed::Inline(bytes) => openpgp::cleartext(bytes).unwrap_or_default(),
            Signed::Detached(text, _) => String::from_utf8_lossy(text).into_owned(),
        };
        let (mut fields, mut sha256) = (BTreeMap::new(), BTreeMap::new());
        let mut inside = String::new();
        for line in text.lines() {
            if line.starts_with([' ', '\t']) {
                let words: Vec<&str> = line.split_whitespace().collect();
                if let ("SHA256", [hash, _, path]) = (inside.as_str(), words.as_slice()) {
                    sha256.insert((*path).to_owned(), hash.to_ascii_lowercase());
                }
            } else if let Some((name, value)) = line.split_once(':') {
                name.clone_into(&mut inside);
                fields.insert(name.to_owned(), value.trim().to_owned());
            }
        }
        Self { fields, sha256 }
    }

    pub(super) fn time(&self, field: &str) -> Option<(&str, u64)> {
        let text = self.fields.get(field)?;
        Some((text, parse_date(text)?))
    }

    /// Whether it has a component: by name, or by an index. One that names none
    /// at all has not said.
    fn has(&self, component: &str) -> bool {
        let Some(known) = self.fields.get("Components") else {
            return true;
        };
        let own = |known: &str| {
            let last = known.rsplit('/').next();
            known == component || last == component.rsplit('/').next()
        };
        let index = format!("{component}/");
        known.split_whitespace().any(own) || self.sha256.keys().any(|path| path.starts_with(&index))
    }

    /// Whether a file is another one than it says.
    fn contradicts(&self, path: &str, sha256: &str) -> bool {
        let said = match path.rsplit_once("/by-hash/SHA256/") {
            Some((_, hash)) => Some(hash),
            None => self.sha256.get(path).map(String::as_str),
        };
        said.is_some_and(|said| !said.eq_ignore_ascii_case(sha256))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(text: &str) -> Release {
        Release::parse(&Signed::Detached(text.as_bytes().to_vec(), Vec::new()))
    }

    #[test]
    fn a_release_file_is_compared_with_what_came() {
        let release = release(
            "Date: Sat, 09 Aug 2025 09:16:30 UTC\nComponents: updates/main contrib\nMD5Sum:\n \
             00 7 main/a\nSHA256:\n aB 7 main/a\n cd 8 extra/binary-amd64/Packages\n",
        );
        assert_eq!(release.time("Date").unwrap().1, 1_754_730_990);
        assert!(release.time("Valid-Until").is_none());
        for (component, has) in [
            ("main", true),
            ("updates/main", true),
            ("contrib", true),
            ("extra", true),
            ("mian", false),
        ] {
            assert_eq!(release.has(component), has, "{component}");
        }
        assert!(!release.contradicts("main/a", "ab"));
        assert!(release.contradicts("main/a", "00"));
        assert!(!release.contradicts("main/unknown", "00"));
        assert!(release.contradicts("main/by-hash/SHA256/ab", "00"));
    }

    #[test]
    fn what_apt_expects_on_the_way_decides_nothing() {
        let report = |answers: &[(&str, &str)]| {
            let mut report = Report::default();
            for (name, answer) in answers {
                let what = match *answer {
                    "ok" => "201%20URI%20Done".to_owned(),
                    reason => format!("400%20URI%20Failure%0aFailReason:%20{reason}"),
                };
                report.hear(&format!(" <- http:{what}%0aURI:%20http://a/dists/s/{name}"));
            }
            report
        };
        let names = |answers: &[(&str, &str)]| -> Vec<String> {
            let report = report(answers);
            let found = decisive(&report, "/dists/s/").into_iter();
            found
                .map(|(url, _)| url["http://a/dists/s/".len()..].to_owned())
                .collect()
        };
        let gone = "HttpError404";
        let unsigned = [
            ("InRelease", gone),
            ("Release", "ok"),
            ("Release.gpg", gone),
        ];
        assert!(names(&unsigned).is_empty());
        let absent = [("InRelease", gone), ("Release", gone)];
        assert_eq!(names(&absent), ["Release"]);
        assert_eq!(names(&[("InRelease", "HttpError401")]), ["InRelease"]);
        let index = [("InRelease", "ok"), ("main/Packages", gone)];
        assert_eq!(names(&index), ["main/Packages"]);
    }
}
