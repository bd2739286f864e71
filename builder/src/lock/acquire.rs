//! What apt reports about each file that it downloads.
//!
//! apt's download methods answer in a protocol of numbers and fields that is the
//! same in every version: `201 URI Done` with size and digests, `400 URI Failure`
//! with a `FailReason`, `103 Redirect`. The sentences beside them are for people,
//! and each version has others. With [`REPORT`], apt repeats the messages on its
//! standard error; [`Report`] reads them there.

use std::collections::BTreeMap;

use common::percent;

/// The option that makes apt-get and apt-helper repeat what its methods say.
pub const REPORT: &str = "Debug::pkgAcquire::Worker=true";

/// Methods that work on files which are here already.
const LOCAL_WORK: [&str; 5] = ["gpgv", "sqv", "store", "rred", "copy"];

/// How the download of one file ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It arrived whole, with this SHA-256 in hex if apt computed one.
    Done(Option<String>),
    /// It did not.
    Failed(Failure),
}

/// Why a file did not arrive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    /// `FailReason`, such as `HttpError404` or `ConnectionRefused`.
    pub reason: Option<String>,
    /// Whether the method says that a later try may succeed.
    pub transient: bool,
    /// Whether the server had begun to send the file.
    pub started: bool,
}

impl Failure {
    /// The status of the server's answer, where that is the reason.
    pub fn status(&self) -> Option<u16> {
        self.reason
            .as_ref()?
            .strip_prefix("HttpError")?
            .parse()
            .ok()
    }

    /// Whether the reason is this one.
    pub fn is(&self, reason: &str) -> bool {
        self.reason.as_deref() == Some(reason)
    }

    /// Whether a connection stood and then broke: a method that has no reason
    /// to give, and would try again, was cut off.
    pub fn is_cut(&self) -> bool {
        self.transient && (self.started || self.reason.is_none())
    }
}

/// How all downloads of one run ended, by the address that was asked for.
#[derive(Debug, Default)]
pub struct Report {
    outcomes: BTreeMap<String, Outcome>,
    started: BTreeMap<String, bool>,
    redirected: BTreeMap<String, String>,
}

impl Report {
    /// Takes a line of apt's output; true when it is for people.
    pub fn hear(&mut self, line: &str) -> bool {
        if let Some(message) = line.strip_prefix(" <- ") {
            self.take(message);
            return false;
        }
        // Of the rest, what is not progress or a complaint belongs to the messages.
        let people = ["Get:", "Hit:", "Ign:", "Err:", "E: ", "W: ", "N: ", "  "];
        people.iter().any(|start| line.starts_with(start))
    }

    /// The files that were asked for, and how that ended.
    pub fn outcomes(&self) -> impl Iterator<Item = (&str, &Outcome)> {
        self.outcomes.iter().map(|(url, o)| (url.as_str(), o))
    }

    /// How a file ended whose address, decoded, ends like this.
    pub fn of(&self, ending: &str) -> Option<&Outcome> {
        self.find(ending).map(|(_, outcome)| outcome)
    }

    /// The address, and how the file ended, whose address ends like this.
    pub fn find(&self, ending: &str) -> Option<(&str, &Outcome)> {
        self.outcomes().find(|(url, _)| url.ends_with(ending))
    }

    fn take(&mut self, message: &str) {
        let Some((method, rest)) = message.split_once(':') else {
            return;
        };
        if LOCAL_WORK.contains(&method) {
            return;
        }
        let text = decoded(rest);
        let mut lines = text.lines();
        let code = lines.next().and_then(|line| line.split(' ').next());
        let fields: BTreeMap<&str, &str> = lines.filter_map(|l| l.split_once(": ")).collect();
        let Some(url) = fields.get("URI").map(|url| decoded(url)) else {
            return;
        };
        let asked = self.redirected.get(&url).cloned().unwrap_or(url);
        match code {
            Some("103") => {
                if let Some(to) = fields.get("New-URI") {
                    self.redirected.insert(decoded(to), asked);
                }
            }
            // Without a size it has only looked for the file.
            Some("200") => {
                self.started.insert(asked, fields.contains_key("Size"));
            }
            Some("201") => {
                let sha256 = fields.get("SHA256-Hash").map(|hash| (*hash).to_owned());
                self.outcomes.insert(asked, Outcome::Done(sha256));
            }
            Some("400") => {
                let failure = Failure {
                    reason: fields.get("FailReason").map(|r| (*r).to_owned()),
                    transient: fields.get("Transient-Failure") == Some(&"true"),
                    started: self.started.remove(&asked).unwrap_or_default(),
                };
                self.outcomes.insert(asked, Outcome::Failed(failure));
            }
            _ => {}
        }
    }
}

/// Without percent-encoding, as apt reads its own messages: what is wrongly encoded stays.
pub fn decoded(text: &str) -> String {
    String::from_utf8_lossy(&percent::decode_leniently(text.as_bytes())).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(lines: &[&str]) -> Report {
        let mut report = Report::default();
        for line in lines {
            assert!(!report.hear(line), "{line}");
        }
        report
    }

    #[test]
    fn messages_of_methods_are_read() {
        let report = heard(&[
            " -> http:600%20URI%20Acquire%0aURI:%20http://a/x%0a%0a",
            "Starting method '/usr/lib/apt/methods/http'",
            " <- http:100%20Capabilities%0aVersion:%201.2",
            " <- http:200%20URI%20Start%0aSize:%209%0aURI:%20http://a/x",
            " <- http:400%20URI%20Failure%0aTransient-Failure:%20true%0aMessage:%20Oh%0aURI:%20http://a/x",
            " <- http:201%20URI%20Done%0aSHA256-Hash:%20ab%0aURI:%20http://a/y%252b",
            " <- http:400%20URI%20Failure%0aFailReason:%20HttpError404%0aURI:%20http://a/z",
            " <- sqv:400%20URI%20Failure%0aMessage:%20no%0aURI:%20sqv:/x",
        ]);
        assert_eq!(report.of("/y+"), Some(&Outcome::Done(Some("ab".into()))));
        let Some(Outcome::Failed(cut)) = report.of("/x") else {
            panic!("{report:?}");
        };
        assert!(cut.is_cut() && cut.status().is_none());
        let Some(Outcome::Failed(gone)) = report.of("/z") else {
            panic!("{report:?}");
        };
        assert_eq!((gone.status(), gone.is_cut()), (Some(404), false));
        assert_eq!(report.outcomes().count(), 3);
    }

    #[test]
    fn a_redirected_file_is_known_by_the_address_that_was_asked_for() {
        let report = heard(&[
            " <- http:103%20Redirect%0aNew-URI:%20http://b/x%0aURI:%20http://a/x",
            " <- http:400%20URI%20Failure%0aFailReason:%20RedirectionLoop%0aURI:%20http://b/x",
        ]);
        let urls: Vec<&str> = report.outcomes().map(|o| o.0).collect();
        assert_eq!(urls, ["http://a/x"]);
    }

    #[test]
    fn a_connection_that_was_never_made_is_not_cut() {
        let report = heard(&[
            " <- http:400%20URI%20Failure%0aTransient-Failure:%20true%0aFailReason:%20ConnectionRefused%0aURI:%20http://a/x",
        ]);
        let Some(Outcome::Failed(failure)) = report.of("/x") else {
            panic!("{report:?}");
        };
        assert!(!failure.is_cut());
        let mut report = Report::default();
        assert!(report.hear("Err:1 http://a x") && report.hear("  a reason"));
    }
}
