//! What this machine and its people say about images, signed and put beside them.
//!
//! A build signs with the *builder's* key, `KEYS/builder.pem`, which is made on first
//! use without a passphrase: a build must not stop to ask. What such a key is worth is
//! decided where a policy lists it.

use std::path::PathBuf;

use serde_json::{Value, json};
use store::attest::{self, Kind};
use store::dsse::Envelope;
use store::keys::{KeyFile, Signer};
use store::tuf::Policy;
use store::{EnvName, Manifest, Sha256, WritableStore};

use crate::error::{Context, Error, Result};
use crate::inspect::audit::Report;
use crate::inspect::sbom;
use crate::lockfile::Lock;
use crate::release::keyring::{self, Keyring, Passphrase};
use crate::settings::Settings;

/// What the builder's key is called.
pub const BUILDER: &str = "builder";

/// The way of building that our provenance describes.
const BUILD_TYPE: &str = "urn:imgbuild:build:1";

/// The way of importing that our provenance describes.
const IMPORT_TYPE: &str = "urn:imgbuild:import:1";

/// This program.
const PROGRAM: &str = concat!("imgbuild ", env!("CARGO_PKG_VERSION"));

/// The builder's key, made if it is not there.
pub fn builder_key(settings: &Settings) -> Result<Box<dyn Signer>> {
    let file = KeyFile::at(settings.keys.join(format!("{BUILDER}.pem")));
    let pair = file.load_or_create().map_err(|e| {
        let error = keyring::failed(&e);
        match e.kind() {
            store::keys::ErrorKind::Encrypted => error.hint(
                "builds sign with this key and ask nobody: make it without a passphrase, with \
                 `imgbuild key new builder --plain`",
            ),
            _ => error,
        }
    })?;
    Ok(Box::new(pair))
}

/// Signs a statement and puts it beside the image.
pub fn attest(
    kind: Kind,
    manifest: &Manifest,
    predicate: Value,
    key: &dyn Signer,
    store: &WritableStore,
) -> Result<String> {
    let failed = || format!("cannot attest that {} was {}", manifest.image, kind.name());
    let mut envelope = attest::statement(kind, manifest, predicate).context(failed)?;
    envelope.sign(key).map_err(|e| keyring::failed(&e))?;
    attest::put(store.backend(), manifest, &envelope).context(failed)
}

/// The key of that name, or the builder's.
pub fn signing_key(
    name: Option<&str>,
    passphrase_file: Option<&PathBuf>,
    settings: &Settings,
) -> Result<Box<dyn Signer>> {
    let Some(name) = name else {
        return builder_key(settings);
    };
    let passphrase = Passphrase::find(passphrase_file, settings)?;
    let keyring = Keyring::new(settings, passphrase, None);
    keyring.open_entry(&keyring.entry(name)?)
}

/// A bill of materials as a signed statement about its image.
pub fn bill(
    manifest: &Manifest,
    bill: Value,
    format: sbom::Format,
    key: &dyn Signer,
) -> Result<Envelope> {
    let failed = || format!("cannot sign what is in {}", manifest.image);
    let statement = attest::statement_of_type(format.predicate_type(), manifest, bill);
    let mut envelope = statement.context(failed)?;
    envelope.sign(key).map_err(|e| keyring::failed(&e))?;
    Ok(envelope)
}

/// What a build says about its image: SLSA v1 provenance, and what the recipe's tests
/// came to if there are any.
pub fn built(
    manifest: &Manifest,
    lock: &Lock,
    tests: &[String],
    started: jiff::Timestamp,
    settings: &Settings,
    store: &WritableStore,
) -> Result<()> {
    let key = builder_key(settings)?;
    let provenance = provenance(manifest, lock, started, &key.public().id());
    attest(Kind::Provenance, manifest, provenance, &*key, store)?;
    if !tests.is_empty() {
        attest(
            Kind::TestResult,
            manifest,
            test_result(manifest, tests),
            &*key,
            store,
        )?;
    }
    Ok(())
}

/// Says of an image that was built here before what [`built`] says, if nothing that this
/// builder's key has signed covers its manifest: as of images that an older version built.
pub fn built_before(
    manifest: &Manifest,
    lock: &Lock,
    tests: &[String],
    settings: &Settings,
    store: &WritableStore,
) -> Result<()> {
    let key = builder_key(settings)?.public();
    let failed = || format!("cannot read what is attested of {}", manifest.image);
    let said = attest::of_image(store.backend(), manifest, &mut |_, _| {}).context(failed)?;
    let covered = said
        .iter()
        .filter(|one| one.kind == Some(Kind::Provenance) && one.covers(manifest))
        .any(|one| !one.signers(&[key]).is_empty());
    if covered {
        return Ok(());
    }
    built(
        manifest,
        lock,
        tests,
        jiff::Timestamp::now(),
        settings,
        store,
    )
}

fn run_details(started: jiff::Timestamp, key: &str) -> Value {
    json!({
        "builder": { "id": format!("urn:imgbuild:key:{key}"), "version": { "imgbuild": env!("CARGO_PKG_VERSION") } },
        "metadata": { "startedOn": seconds(started), "finishedOn": seconds(jiff::Timestamp::now()) },
    })
}

fn seconds(time: jiff::Timestamp) -> String {
    jiff::Timestamp::from_second(time.as_second())
        .unwrap_or(time)
        .to_string()
}

fn provenance(manifest: &Manifest, lock: &Lock, started: jiff::Timestamp, key: &str) -> Value {
    let input = |name: String, sha256: &store::Sha256, media: &str| json!({ "name": name, "digest": { "sha256": sha256.hex() }, "mediaType": media });
    let mut inputs = vec![
        input("recipe".into(), &manifest.recipe, "application/json"),
        input("lock".into(), &manifest.lock, "application/toml"),
    ];
    if let Some(base) = &lock.base {
        let mut input = input(format!("base {base}"), &base.sha256, "application/x-tar");
        input["digest"]["blake3"] = json!(base.image.hex());
        inputs.push(input);
    }
    for deb in &lock.debs {
        let name = format!("{}_{}_{}.deb", deb.name, deb.version, deb.architecture);
        inputs.push(input(
            name,
            &deb.sha256,
            "application/vnd.debian.binary-package",
        ));
    }
    for file in &lock.python {
        inputs.push(input(
            file.file.clone(),
            &file.sha256,
            "application/octet-stream",
        ));
    }
    for commit in &lock.git {
        let mut input = input(
            format!("git {}", commit.commit),
            &commit.sha256,
            "application/octet-stream",
        );
        input["digest"]["gitCommit"] = json!(commit.commit);
        inputs.push(input);
    }
    for download in &lock.downloads {
        inputs.push(input(
            download.url.clone(),
            &download.sha256,
            "application/octet-stream",
        ));
    }
    for file in &lock.files {
        inputs.push(input(
            file.path.clone(),
            &file.sha256,
            "application/octet-stream",
        ));
    }
    json!({
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": { "recipe": manifest.recipe.to_string(), "name": manifest.name },
            "internalParameters": {
                "lock": manifest.lock.to_string(),
                "architecture": manifest.arch,
                "suite": manifest.suite,
                "epoch": manifest.epoch,
            },
            "resolvedDependencies": inputs,
        },
        "runDetails": run_details(started, key),
    })
}

/// What an import says: these bytes came in, and nobody here knows from what.
pub fn imported(
    manifest: &Manifest,
    started: jiff::Timestamp,
    settings: &Settings,
    store: &WritableStore,
) -> Result<()> {
    let key = builder_key(settings)?;
    let predicate = json!({
        "buildDefinition": {
            "buildType": IMPORT_TYPE,
            "externalParameters": { "record": manifest.lock.to_string(), "name": manifest.name },
            "internalParameters": { "suite": manifest.suite, "architecture": manifest.arch },
            "resolvedDependencies": [],
        },
        "runDetails": run_details(started, &key.public().id()),
    });
    attest(Kind::Provenance, manifest, predicate, &*key, store).map(drop)
}

fn test_result(manifest: &Manifest, tests: &[String]) -> Value {
    json!({
        "result": "PASSED",
        "configuration": [{ "name": "recipe", "digest": { "sha256": manifest.recipe.hex() } }],
        "passedTests": tests,
    })
}

/// What another build says that came to the same bytes.
pub fn rebuilt(manifest: &Manifest, key: &dyn Signer, store: &WritableStore) -> Result<String> {
    let predicate = json!({
        "image": manifest.image.to_string(),
        "recipe": manifest.recipe.to_string(),
        "lock": manifest.lock.to_string(),
        "varied": true,
        "builder": PROGRAM,
        "time": seconds(jiff::Timestamp::now()),
    });
    attest(Kind::Rebuild, manifest, predicate, key, store)
}

/// What an audit found in an image.
pub fn audited(
    manifest: &Manifest,
    report: &Report,
    key: &dyn Signer,
    store: &WritableStore,
) -> Result<String> {
    let pending = report.pending.iter().map(|found| {
        json!({
            "source": found.source, "installed": found.installed, "fixed": found.fixed,
            "cves": found.cves,
        })
    });
    let advisories = report.advisories.iter().map(|found| {
        let mut said = json!({
            "id": found.id, "aliases": found.aliases, "ecosystem": found.ecosystem,
            "package": found.package, "installed": found.installed, "severity": found.severity,
        });
        if let Some(fixed) = &found.fixed {
            said["fixed"] = json!(fixed);
        }
        said
    });
    let settled = report.settled.iter();
    let settled = settled.map(|found| {
        json!({ "id": found.id, "package": found.package, "status": found.status, "why": found.why })
    });
    let predicate = json!({
        "image": manifest.image.to_string(),
        "name": manifest.name,
        "time": report.time,
        "asOf": report.as_of,
        "pending": pending.collect::<Vec<_>>(),
        "advisories": advisories.collect::<Vec<_>>(),
        "ended": report.ended.iter().filter(|ended| ended.over).map(|ended| json!({ "source": ended.source, "date": ended.date })).collect::<Vec<_>>(),
        "settled": settled.collect::<Vec<_>>(),
        "data": report.data,
        "auditor": PROGRAM,
    });
    attest(Kind::Audit, manifest, predicate, key, store)
}

/// What somebody says who approves of an image.
pub fn approval(
    manifest: &Manifest,
    (env, first_root): (&EnvName, Option<Sha256>),
    comment: Option<&str>,
    key: &dyn Signer,
    store: &WritableStore,
) -> Result<String> {
    let mut predicate = json!({
        "environment": env,
        "image": manifest.image.to_string(),
        "name": manifest.name,
        "time": seconds(jiff::Timestamp::now()),
    });
    if let Some(root) = first_root {
        predicate["root"] = json!(root.to_string());
    }
    if let Some(comment) = comment {
        predicate["comment"] = json!(comment);
    }
    attest(Kind::Approval, manifest, predicate, key, store)
}

/// Reads a policy that a person wrote.
pub fn policy(path: &std::path::Path) -> Result<Policy> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).context(|| format!("cannot read {shown}"))?;
    let unusable = || Error::usage(format!("{shown} is not a policy"));
    // Some editors begin a file with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let policy: Policy = toml::from_str(text).map_err(|e| unusable().because(&e))?;
    policy.check().map_err(|e| unusable().because(&e))?;
    Ok(policy)
}
