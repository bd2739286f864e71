//! What people and machines have signed about an image.

use std::fmt::Write as _;

use common::clock::rfc3339;
use jiff::Timestamp;
use serde_json::Value;
use store::attest::{Attestation, Kind};
use store::audit::{Audit, Finding};

use super::Described;
use crate::page::html::{Html, Notice};

/// Findings of an audit that are listed, and statements by unknown keys.
const MOST_FINDINGS: usize = 200;

pub(super) fn audit_notice(audit: &Audit) -> Notice {
    let as_of = rfc3339(audit.as_of).unwrap_or_default();
    let day = as_of.split('T').next().unwrap_or_default();
    let mut text = format!("pending security updates: {}", audit.pending.len());
    if audit.has_advisories {
        let _ = write!(text, ", advisories that fit: {}", audit.advisories.len());
    }
    let _ = write!(text, ", as of {day}");
    if audit.pending.is_empty() && audit.advisories.is_empty() {
        Notice::plain(text)
    } else {
        Notice::warning(text)
    }
}

pub(super) fn said(html: &mut Html, one: &Described) {
    if one.said.is_empty() {
        html.raw("<p>Nobody whose key has a name here says anything about it.</p>\n");
    } else {
        let columns = ["What", "By", "When", "In words"];
        html.table(
            "What is signed about this image and its manifest",
            &columns,
            |html| {
                for said in &one.said {
                    let attestation = &said.attestation;
                    let what = attestation.kind.map(Kind::name);
                    html.row(
                        |html| html.outside(what.unwrap_or(&attestation.predicate_type)),
                        |html| {
                            html.tag_outside("td", &said.by.join(", "));
                            html.element("td", &[], |html| {
                                let time =
                                    attestation.time().and_then(|time| i64::try_from(time).ok());
                                match time.map(Timestamp::from_second) {
                                    Some(Ok(time)) => html.day(time),
                                    _ => html.text("not said"),
                                }
                            });
                            html.tag_outside("td", &in_words(attestation));
                        },
                    );
                }
            },
        );
    }
    if !one.unknown.is_empty() {
        html.tag(
            "p",
            format_args!(
                "Not counted: {} that keys without a name here have signed.",
                one.unknown.len()
            ),
        );
        html.table("Signed by unknown keys", &["What", "Key"], |html| {
            for (kind, ids) in one.unknown.iter().take(MOST_FINDINGS) {
                html.row(
                    |html| html.outside(kind),
                    |html| html.tag_outside("td", ids),
                );
            }
        });
    }
}

/// What an attestation says, in a line.
fn in_words(attestation: &Attestation) -> String {
    let predicate = &attestation.predicate;
    let text = |at: &str| {
        predicate
            .pointer(at)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let count = |at: &str| {
        predicate
            .pointer(at)
            .and_then(Value::as_array)
            .map_or(0, Vec::len)
    };
    match attestation.kind {
        Some(Kind::Provenance) => {
            let inputs = count("/buildDefinition/resolvedDependencies");
            let started = text("/runDetails/metadata/startedOn");
            match text("/buildDefinition/buildType") {
                "urn:imgbuild:import:1" => format!("imported, begun at {started}"),
                "urn:imgbuild:build:1" => {
                    format!("built of {inputs} inputs that its lock names, begun at {started}")
                }
                other => format!("{other}, of {inputs} inputs, begun at {started}"),
            }
        }
        Some(Kind::TestResult) => {
            let passed = count("/passedTests");
            format!("result {}; tests that passed: {passed}", text("/result"))
        }
        Some(Kind::Rebuild) => format!("the same bytes again, by {}", text("/builder")),
        Some(Kind::Approval) => {
            let comment = text("/comment");
            let env = text("/environment");
            match comment {
                "" => format!("for {env}"),
                comment => format!("for {env}: {comment}"),
            }
        }
        Some(Kind::Audit) => attestation.audit().map_or_else(
            || "unreadable".to_owned(),
            |audit| audit_notice(&audit).text,
        ),
        None => String::new(),
    }
}

pub(super) fn audit(html: &mut Html, one: &Described) {
    let Some((audit, said)) = one.newest_audit() else {
        html.raw(
            "<p>No audit of it is signed by a key that has a name here. Whoever has one makes it \
             with <code>imgbuild audit --sign</code>.</p>\n",
        );
        return;
    };
    html.element("p", &[], |html| {
        html.text(format_args!(
            "As of {}, by ",
            rfc3339(audit.as_of).unwrap_or_default()
        ));
        html.outside(&said.by.join(", "));
        html.text(".");
    });
    findings(
        html,
        "Sources with pending security updates",
        &audit.pending,
    );
    if audit.has_advisories {
        findings(html, "Advisories that fit", &audit.advisories);
    } else {
        html.raw("<p>It was not compared with advisories.</p>\n");
    }
}

pub(in crate::page) fn findings(html: &mut Html, what: &str, all: &[Finding]) {
    if all.is_empty() {
        html.tag("p", format_args!("{what}: none."));
        return;
    }
    let caption = format!("{what}: {}", all.len());
    html.table(caption, &["Package", "Severity", "Ids"], |html| {
        for finding in all.iter().take(MOST_FINDINGS) {
            html.row(
                |html| html.outside(&finding.package),
                |html| {
                    let worst = finding.issues.iter().map(|issue| issue.severity).max();
                    html.tag("td", worst.unwrap_or_default().name());
                    let ids = finding.issues.iter().filter_map(|issue| issue.ids.first());
                    let ids: Vec<&str> = ids.map(String::as_str).collect();
                    html.tag_outside("td", &ids.join(" "));
                },
            );
        }
    });
    let more = all.len().saturating_sub(MOST_FINDINGS);
    if more > 0 {
        html.tag("p", format_args!("{more} further ones are left out here."));
    }
}
