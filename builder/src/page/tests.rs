//! Pages of images whose every field is hostile.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use store::{ImageId, Manifest};

use super::Pairs;
use super::facts::{Env, Facts, Revocation};
use super::html::{Html, Notice};
use super::image::{self, Described};
use super::{index, pair};
use crate::inspect::compare::{
    Change, FileChange, FileType, Kind, Looks, Owner, PackageChange, Pair, Privilege,
    PrivilegeChange, Report, Summary, Totals, UserChange, WheelChange,
};
use crate::inspect::survey::Survey;
use crate::release::keyring::Names;

/// What nobody may find as markup.
const HOSTILE: &str = "<script>alert('x\"&')</script>\u{202e}\u{0}\u{1b}[31m";

/// Each field with a mark of its own, by which it is found on the page.
#[derive(Default)]
pub(in crate::page) struct Marks(usize);

impl Marks {
    pub(in crate::page) fn text(&mut self) -> String {
        self.0 += 1;
        format!("[{}]{HOSTILE}", self.0)
    }

    /// Demands that each mark is there, with what follows it shown and not obeyed.
    pub(in crate::page) fn check(&self, page: &str) {
        for bad in ["<script", "\u{202e}", "\u{0}", "\u{1b}", "'x"] {
            assert!(!page.contains(bad), "{bad:?}");
        }
        let shown = "&lt;script&gt;alert(&#39;x&quot;&amp;&#39;)&lt;/script&gt;\
                     \\u{202e}\\u{0}\\u{1b}[31m";
        for mark in 1..=self.0 {
            assert!(page.contains(&format!("[{mark}]{shown}")), "field {mark}");
        }
    }
}

fn manifest(marks: &mut Marks) -> Manifest {
    let mut next = || marks.text();
    let digest = format!("blake3:{}", "ab".repeat(32));
    let sha256 = format!("sha256:{}", "cd".repeat(32));
    let json = json!({
        "schema": store::manifest::SCHEMA, "name": "web", "image": digest, "sha256": sha256,
        "size": 10_240, "entries": 1,
        "layout": { "digest": digest, "size": 0, "chunks": [] },
        "arch": "amd64", "suite": next(), "epoch": 1,
        "packages": [{ "name": next(), "version": next(), "arch": next() }],
        "wheels": [{ "virtualenv": next(), "name": next(), "version": next() }],
        "users": [{ "name": next(), "uid": 1, "gid": 1, "home": next(), "shell": next() }],
        "setuid": [{ "path": next(), "mode": 0o4755, "uid": 9, "gid": 9 }],
        "xattrs": [{ "path": next(), "name": next(), "value_hex": next() }],
        "recipe": sha256, "lock": sha256, "builder": next(),
        "run": {
            "user": next(), "directory": next(), "start": [next()], "stop": [next()],
            "reload": [next()], "environment": { (next()): next() },
            "health": { "http": next(), "headers": [next()], "within": 1, "timeout": 1 },
            "before_switch": [next()],
            "fences": { "memory": 536_870_912 },
        },
    });
    serde_json::from_value(json).unwrap()
}

pub(in crate::page) fn facts(
    notices: Vec<Notice>,
    revoked: BTreeMap<ImageId, Revocation>,
) -> Facts {
    let env = Env {
        name: "prod".parse().unwrap(),
        fingerprint: "sha256:00".to_owned(),
        expiries: Vec::new(),
        policy: Vec::new(),
        releases: BTreeMap::new(),
        revoked,
        notices,
    };
    Facts {
        environments: vec![env],
        names: Names::default(),
        newest: None,
    }
}

#[test]
fn no_field_of_an_image_is_markup() {
    let mut marks = Marks::default();
    let manifest = manifest(&mut marks);
    let survey: Survey = serde_json::from_value(json!({
        "schema": 1, "image": manifest.image, "total": { "files": 1, "size": 99 },
        "packages": [{
            "name": manifest.packages[0].name, "source": marks.text(),
            "source_version": marks.text(), "space": { "files": 1, "size": 50 },
        }],
        "distributions": [{
            "virtualenv": "v", "name": marks.text(), "space": { "files": 1, "size": 30 },
        }],
        "directories": [{ "path": marks.text(), "space": { "files": 1, "size": 19 } }],
        "rest": { "files": 0, "size": 0 },
        "groups": [{ "name": marks.text(), "gid": 1, "members": [marks.text()] }],
    }))
    .unwrap();
    let image = manifest.image;
    let revocation = Revocation {
        time: None,
        reason: Some(marks.text()),
    };
    let facts = facts(Vec::new(), BTreeMap::from([(image, revocation)]));
    let all = [Described::of(manifest)];
    let page = image::page(&image, &all, Ok(&survey), &facts, &Pairs::new());
    marks.check(&page);
    assert!(page.contains("memory 512M"), "{page}");
    let why = Notice::bad(marks.text());
    let page = image::page(&image, &all, Err(why), &facts, &Pairs::new());
    assert!(page.contains(&format!("[{}]&lt;script&gt;", marks.0)));
}

#[test]
fn no_field_of_a_difference_is_markup() {
    let mut marks = Marks::default();
    let (old, new) = (manifest(&mut Marks::default()), {
        let mut other = manifest(&mut Marks(50));
        other.image = ImageId::of(b"other");
        other
    });
    let summary = |manifest: &Manifest| Summary {
        name: manifest.name.to_string(),
        image: manifest.image.to_string(),
        suite: manifest.suite.clone(),
        architecture: manifest.arch.clone(),
        epoch: manifest.epoch,
        recipe: manifest.recipe.to_string(),
        lock: manifest.lock.to_string(),
    };
    let user = |marks: &mut Marks| store::manifest::User {
        name: "u".to_owned(),
        uid: 1,
        gid: 1,
        home: marks.text(),
        shell: marks.text(),
    };
    let privilege = |marks: &mut Marks| Privilege {
        mode: 0o4755,
        uid: 0,
        gid: 0,
        xattrs: BTreeMap::from([(marks.text(), marks.text())]),
    };
    let looks = |marks: &mut Marks| Looks {
        kind: FileType::Symlink,
        mode: 0o777,
        uid: 0,
        gid: 0,
        mtime: 0,
        size: 0,
        target: Some(marks.text()),
        xattrs: BTreeMap::new(),
    };
    let mut report = Report {
        schema: 1,
        equal: false,
        old: summary(&old),
        new: summary(&new),
        totals: Totals {
            changed: 1,
            unnamed: 7,
            ..Totals::default()
        },
        packages: vec![PackageChange {
            name: marks.text(),
            architecture: marks.text(),
            old: Some(marks.text()),
            new: Some(marks.text()),
            files: 1,
            growth: -1,
        }],
        wheels: vec![WheelChange {
            virtualenv: marks.text(),
            name: marks.text(),
            old: None,
            new: Some(marks.text()),
            files: 1,
            growth: 1,
        }],
        users: vec![UserChange {
            name: marks.text(),
            old: Some(user(&mut marks)),
            new: Some(user(&mut marks)),
        }],
        service: Some(Pair {
            old: old.run.clone(),
            new: new.run.clone(),
        }),
        privileged: vec![PrivilegeChange {
            path: marks.text(),
            old: Some(privilege(&mut marks)),
            new: None,
        }],
        files: vec![FileChange {
            path: marks.text(),
            change: Change::Changed,
            kinds: vec![Kind::LinkTarget],
            owner: Some(Owner::Package(marks.text())),
            old: Some(looks(&mut marks)),
            new: Some(looks(&mut marks)),
            text: None,
        }],
    };
    let page = pair::page(&report, &old, &new);
    marks.check(&page);
    assert!(
        page.contains("<p>7 further files are left out here.</p>"),
        "{page}"
    );
    assert_eq!(
        pair::summary(&report),
        "packages: 1 changed; Python distributions: 1 added; 1 file differs; run in another way"
    );
    // A list has an end, and says how much is behind it.
    let file = report.files[0].clone();
    report.files.extend((0..2000).map(|number| FileChange {
        path: format!("file-{number:04}"),
        ..file.clone()
    }));
    let page = pair::page(&report, &old, &new);
    assert!(page.contains("<p>1508 further files are left out here.</p>"));
    assert!(page.len() < 400_000, "{}", page.len());
}

#[test]
fn no_word_of_an_audit_or_an_environment_is_markup() {
    let mut marks = Marks::default();
    let audit = json!({
        "time": "1970-01-01T00:00:20Z", "asOf": "1970-01-01T00:00:10Z",
        "pending": [{
            "source": marks.text(), "cves": [{ "id": marks.text(), "severity": "high" }],
        }],
        "advisories": [{
            "id": marks.text(), "aliases": [], "package": marks.text(), "severity": "low",
        }],
        "data": [{ "kind": "osv" }],
    });
    let audit = store::audit::Audit::read(&audit).unwrap();
    let mut html = Html::default();
    image::findings(&mut html, "Pending", &audit.pending);
    image::findings(&mut html, "Advisories", &audit.advisories);
    let warning = Notice::warning(marks.text());
    let revocation = Revocation {
        time: None,
        reason: Some(marks.text()),
    };
    let revoked = BTreeMap::from([(ImageId::of(b"image"), revocation)]);
    let mut facts = facts(vec![warning], revoked);
    facts.environments[0].policy = vec![marks.text()];
    let page = index::page(&facts, &BTreeMap::new(), &Pairs::new(), None);
    marks.check(&(html.into_string() + &page));
    assert!(page.contains("Nothing is released yet."), "{page}");
}

#[test]
fn commits_are_those_of_the_provenance() {
    let predicate: Value = json!({
        "buildDefinition": { "resolvedDependencies": [
            { "name": "lock", "digest": { "sha256": "00" } },
            { "name": "git b", "digest": { "sha256": "00", "gitCommit": "b" } },
            { "name": "git a", "digest": { "sha256": "00", "gitCommit": "a" } },
            { "name": "git a", "digest": { "sha256": "01", "gitCommit": "a" } },
            { "name": "odd", "digest": { "gitCommit": 7 } },
        ] },
    });
    let found = image::commits_of([&predicate].into_iter());
    assert_eq!(found, ["a", "b"]);
}
