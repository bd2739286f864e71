//! `imgbuild audit` through the real binary, with a small security archive of the test's own that
//! passes for Debian's.

mod advisories;
mod ended_support;
mod pending;
mod policy;
mod unusable_files;

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use tests::archive::{Archive, Release, SigningKey};
use tests::binaries::Ran;

use crate::team::Team;

const SUITE: &str = "bookworm-security";

const CHANGELOG: &str = "\
foo (1.1-1) bookworm-security; urgency=high

  * Mend CVE-2026-1111 and CVE-2026-2222.

 -- A <a@debian.example>  Mon, 02 Nov 2026 10:00:00 +0000

foo (1.0-1) bookworm; urgency=medium

  * Mend CVE-2025-3333.

 -- A <a@debian.example>  Mon, 03 Nov 2025 10:00:00 +0000
";

/// An image `web`, and the archive that has updates for it.
struct Audit {
    team: Team,
    key: SigningKey,
    root: PathBuf,
}

impl Audit {
    fn new() -> Self {
        let team = Team::new();
        let key = SigningKey::new(&team.path("gpg"));
        let keyring = team.path("debian.gpg");
        fs::write(&keyring, SigningKey::dearmored(&key.public())).unwrap();
        SigningKey::pass_for_debian(&keyring);
        let root = team.path("security");
        let audit = Self { team, key, root };
        audit.publish(&Release::good(&audit.key));
        audit.team.import(&audit.tree());
        audit
    }

    /// What the archive has: two sources of which one has an update.
    fn publish(&self, release: &Release<'_>) {
        let mut archive = Archive::new(&self.root);
        archive.add_version("libfoo", "1.1-1+b1", "Source: foo (1.1-1)\n");
        // Not installed, and the smallest: its documentation is in another package.
        archive.add_documented("afoo", "1.1-1", "Source: foo\n", ("afoo", "foo-doc"));
        archive.add_documented("bfoo", "1.1-1", "Source: foo\n", ("bfoo/copyright", "x"));
        let doc = ("foo-doc/changelog.Debian.gz", CHANGELOG);
        archive.add_documented("foo-doc", "1.1-1", "Source: foo\n", doc);
        archive.add_version("bar", "2.0-1", "");
        archive.add_version("baz", "2.9-1", "");
        archive.add("stranger", "");
        archive.publish_as(SUITE, release);
    }

    fn tree(&self) -> PathBuf {
        let tree = self.team.path("tree");
        let put = |path: &str, text: String| {
            let path = tree.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let release = "ID=debian\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\n";
        put("etc/os-release", release.to_owned());
        let package = |name: &str, version: &str, more: &str| {
            format!(
                "Package: {name}\nStatus: install ok installed\nArchitecture: all\n\
                 Version: {version}\n{more}Maintainer: x\nDescription: x\n\n"
            )
        };
        let status = [
            package("libfoo", "1.0-1+b2", "Source: foo (1.0-1)\n"),
            package("bar", "2.0-1", ""),
            // Rebuilt here: newer than what the archive has.
            package("baz", "3.0-1", "Source: bazaar\n"),
        ];
        put("var/lib/dpkg/status", status.concat());
        put(
            "srv/v/lib/python3.11/site-packages/Flask_Foo-1.4.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: Flask_Foo\nVersion: 1.4\n".to_owned(),
        );
        tree
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let archive = format!("debian-security=file:{}", self.root.display());
        let mut command = self.team.command("ann");
        command.arg("audit").args(arguments);
        Ran::of(command.args(["--archive", &archive]))
    }

    /// The report of the one image that was found to have faults, or none.
    fn report(&self, code: i32, arguments: &[&str]) -> Value {
        let mut words = arguments.to_vec();
        words.push("--json");
        let said = self.run(&words).expect(code).stdout;
        let lines = said.lines().map(|line| serde_json::from_str(line).unwrap());
        let mut reports = lines.filter(|line: &Value| line["event"] == "audited");
        let report = reports.next().unwrap();
        assert_eq!(reports.next(), None);
        report
    }

    fn write(&self, name: &str, value: &Value) -> String {
        let path = self.team.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, value.to_string()).unwrap();
        path.display().to_string()
    }
}

fn texts<'v>(list: &'v Value, field: &str) -> Vec<&'v str> {
    let list = list.as_array().unwrap().iter();
    list.map(|one| one[field].as_str().unwrap()).collect()
}

/// An advisory of OSV.
fn osv(id: &str, ecosystem: &str, name: &str, events: &Value, more: &Value) -> Value {
    let mut advisory = json!({
        "schema_version": "1.7.0", "id": id, "modified": "2026-11-01T00:00:00Z",
        "summary": format!("{name} has a fault"), "field of tomorrow": [1, {}],
        "affected": [{
            "package": { "ecosystem": ecosystem, "name": name, "purl": "pkg:x/y" },
            "ranges": [{ "type": "ECOSYSTEM", "events": events }],
        }],
    });
    for (key, value) in more.as_object().unwrap() {
        advisory[key] = value.clone();
    }
    advisory
}

fn before(fixed: &str) -> Value {
    json!([{ "introduced": "0" }, { "fixed": fixed }])
}
