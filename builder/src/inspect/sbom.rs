//! The bill of materials of an image, as `CycloneDX` 1.6 JSON.
//!
//! It says what the lock and the manifest say, in a language that scanners read:
//! every locked input with its digest, and every Python distribution that a
//! virtualenv has besides. What was needed for the build and is not in the image
//! (a package purged later, a wheel that only builds others) has the scope
//! `excluded`. Nothing in it depends on when or where it is written: its time is
//! the lock's epoch, its serial number a digest of the manifest.
//!
//! Names of packages are package URLs (purl); a file beside the recipe and a
//! package of one's own have none, because no registry knows them.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use store::{Blake3, Manifest};

use crate::error::{Error, Result};
use crate::lockfile::{Deb, Lock, Python};

/// The reference of the image itself within the document.
const IMAGE: &str = "image";

/// The bill of materials of the image, made of the lock that its manifest names.
pub fn cyclonedx(manifest: &Manifest, lock: &Lock) -> Result<Value> {
    let mut components: Vec<Value> = Vec::new();
    let installed: BTreeSet<(&str, &str, &str)> = manifest
        .packages
        .iter()
        .map(|p| (p.name.as_str(), p.version.as_str(), p.arch.as_str()))
        .collect();
    let (mut listed, mut names) = (BTreeSet::new(), BTreeSet::new());
    for deb in &lock.debs {
        let id = (
            deb.name.as_str(),
            deb.version.as_str(),
            deb.architecture.as_str(),
        );
        // One that is removed and comes back has two entries.
        if !listed.insert(id) {
            continue;
        }
        let mut component = package(deb, &manifest.suite, installed.contains(&id));
        if !names.insert((id.0, id.2)) {
            // A later stage brings another version.
            component["bom-ref"] = format!("deb:{}:{}:{}", id.0, id.2, id.1).into();
        }
        components.push(component);
    }
    let mut seen = BTreeSet::new();
    for python in &lock.python {
        let installed = !python.build_only;
        if installed {
            seen.insert((python.virtualenv.as_str(), normal(&python.name)));
        }
        components.push(distribution(python, installed));
    }
    for git in &lock.git {
        components.push(json!({
            "type": "library",
            "bom-ref": format!("git:{}:{}", git.virtualenv, git.index),
            "name": format!("Git source {} of {}", git.index + 1, git.virtualenv),
            "version": git.commit,
            "hashes": [sha256(&git.sha256)],
            "properties": [
                property("virtualenv", &git.virtualenv),
                property("reference", &git.reference),
            ],
        }));
    }
    for file in &lock.files {
        components.push(json!({
            "type": "file",
            "bom-ref": format!("file:{}", file.path),
            "name": file.path,
            "hashes": [sha256(&file.sha256)],
        }));
    }
    // Packages of one's own, and what virtualenv brings from Debian's wheels.
    for wheel in &manifest.wheels {
        if seen.insert((wheel.virtualenv.as_str(), normal(&wheel.name))) {
            components.push(json!({
                "type": "library",
                "bom-ref": format!("wheel:{}:{}", wheel.virtualenv, wheel.name),
                "name": wheel.name,
                "version": wheel.version,
                "properties": [property("virtualenv", &wheel.virtualenv)],
            }));
        }
    }
    let depends: Vec<Value> = components.iter().map(|c| c["bom-ref"].clone()).collect();
    Ok(json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": format!("urn:uuid:{}", serial(manifest)),
        "version": 1,
        "metadata": {
            "timestamp": time(lock.epoch)?,
            "lifecycles": [{ "phase": "build" }],
            "tools": { "components": [tool(&manifest.builder)] },
            "component": image(manifest, lock),
        },
        "components": components,
        "dependencies": [{ "ref": IMAGE, "dependsOn": depends }],
    }))
}

fn image(manifest: &Manifest, lock: &Lock) -> Value {
    let mut properties = vec![
        property("suite", &manifest.suite),
        property("architecture", &manifest.arch),
        property("size", &manifest.size.to_string()),
        property("recipe", &manifest.recipe.to_string()),
        property("lock", &manifest.lock.to_string()),
        property("bootstrapper", &lock.bootstrapper),
    ];
    for release in &lock.releases {
        let words = format!("{} {} {}", release.archive, release.suite, release.sha256);
        properties.push(property("release", &words));
    }
    json!({
        "type": "container",
        "bom-ref": IMAGE,
        "name": manifest.name.as_str(),
        "version": manifest.image.to_string(),
        "hashes": [
            { "alg": "BLAKE3", "content": manifest.image.hex() },
            sha256(&manifest.sha256),
        ],
        "properties": properties,
    })
}

fn package(deb: &Deb, suite: &str, installed: bool) -> Value {
    let qualifiers = format!(
        "arch={}&distro={}",
        escape(&deb.architecture),
        escape(suite)
    );
    let purl = deb.archive.as_ref().map(|archive| {
        let archive = archive.split('@').next().unwrap_or(archive);
        // Debian's archives are several, the vendor is one.
        let vendor = if archive == "debian" || archive.starts_with("debian-") {
            "debian"
        } else {
            archive
        };
        let (vendor, name) = (escape(vendor), escape(&deb.name));
        format!(
            "pkg:deb/{vendor}/{name}@{}?{qualifiers}",
            escape(&deb.version)
        )
    });
    let mut component = json!({
        "type": "library",
        "bom-ref": format!("deb:{}:{}", deb.name, deb.architecture),
        "name": deb.name,
        "version": deb.version,
        "scope": scope(installed),
        "hashes": [sha256(&deb.sha256)],
        "properties": [property("stage", &deb.stage.to_string())],
    });
    if let Some(purl) = purl {
        component["purl"] = purl.into();
    }
    component
}

fn distribution(python: &Python, installed: bool) -> Value {
    let purl = format!(
        "pkg:pypi/{}@{}?file_name={}",
        escape(&normal(&python.name)),
        escape(&python.version),
        escape(&python.file)
    );
    json!({
        "type": "library",
        "bom-ref": format!("python:{}:{}", python.virtualenv, python.file),
        "name": python.name,
        "version": python.version,
        "scope": scope(installed),
        "purl": purl,
        "hashes": [sha256(&python.sha256)],
        "properties": [property("virtualenv", &python.virtualenv)],
    })
}

fn scope(installed: bool) -> &'static str {
    if installed { "required" } else { "excluded" }
}

fn sha256(digest: &store::Sha256) -> Value {
    json!({ "alg": "SHA-256", "content": digest.hex() })
}

fn property(name: &str, value: &str) -> Value {
    json!({ "name": format!("imgbuild:{name}"), "value": value })
}

fn tool(builder: &str) -> Value {
    match builder.split_once(' ') {
        Some((name, version)) => {
            json!({ "type": "application", "name": name, "version": version })
        }
        None => json!({ "type": "application", "name": builder }),
    }
}

/// A UUID of our own making (RFC 9562, version 8): the manifest's digest.
fn serial(manifest: &Manifest) -> String {
    let digest = Blake3::of(&manifest.to_json());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.bytes()[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let parts = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    parts.join("-")
}

fn time(epoch: u64) -> Result<String> {
    let time = i64::try_from(epoch).ok().map(jiff::Timestamp::from_second);
    match time {
        Some(Ok(time)) => Ok(time.strftime("%FT%TZ").to_string()),
        _ => Err(Error::failed(format!("the epoch {epoch} is no time"))),
    }
}

/// A project's name as indexes compare it (PEP 503).
fn normal(name: &str) -> String {
    let words = name.split(['-', '_', '.']).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-").to_lowercase()
}

/// Percent-encoding as package URLs have it: a colon stays.
fn escape(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' | b':' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lockfile::Stage;

    #[test]
    fn names_and_versions_become_package_urls() {
        let deb = Deb {
            name: "libstdc++6".into(),
            version: "1:12.2.0-14+deb12u1~x".into(),
            architecture: "amd64".into(),
            stage: Stage::Required,
            archive: Some("debian-security".into()),
            path: "pool/x.deb".into(),
            size: 1,
            sha256: store::Sha256::of(b"x"),
        };
        let purl =
            "pkg:deb/debian/libstdc%2B%2B6@1:12.2.0-14%2Bdeb12u1~x?arch=amd64&distro=bookworm";
        assert_eq!(package(&deb, "bookworm", true)["purl"], purl);
        assert_eq!(package(&deb, "bookworm", false)["scope"], "excluded");
        let own = Deb {
            archive: None,
            ..deb
        };
        assert_eq!(package(&own, "bookworm", true).get("purl"), None);
        assert_eq!(normal("Old_Egg.name"), "old-egg-name");
    }
}
