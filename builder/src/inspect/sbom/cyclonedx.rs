//! `CycloneDX` 1.6.

use serde_json::{Value, json};
use store::{Manifest, Sha256};

use super::contents::{Contents, Deb, Distribution, OperatingSystem};
use super::origin::Origin;
use super::purl;
use crate::error::Result;
use crate::lockfile::Lock;

/// The references of the image and of its system within the document.
const IMAGE: &str = "image";
const SYSTEM: &str = "operating-system";

pub(super) fn write(
    manifest: &Manifest,
    lock: Option<&Lock>,
    contents: &Contents,
) -> Result<Value> {
    let system = &contents.system;
    let debs: Vec<Value> = contents
        .debs
        .iter()
        .map(|deb| package(deb, system))
        .collect();
    let mut others: Vec<Value> = contents.distributions.iter().map(distribution).collect();
    if let Some(lock) = lock {
        others.extend(sources(lock));
    }
    let references = |components: &[Value]| -> Vec<Value> {
        components.iter().map(|c| c["bom-ref"].clone()).collect()
    };
    let mut of_image = vec![Value::from(SYSTEM)];
    of_image.extend(references(&others));
    let of_system = references(&debs);
    let mut components = vec![operating_system(system)];
    components.extend(debs);
    components.extend(others);
    Ok(json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": format!("urn:uuid:{}", super::serial(manifest)),
        "version": 1,
        "metadata": {
            "timestamp": super::time(manifest)?,
            "lifecycles": [{ "phase": "build" }],
            "tools": { "components": [tool(&manifest.builder)] },
            "component": image(manifest, lock),
        },
        "components": components,
        "dependencies": [
            { "ref": IMAGE, "dependsOn": of_image },
            { "ref": SYSTEM, "dependsOn": of_system },
        ],
    }))
}

fn image(manifest: &Manifest, lock: Option<&Lock>) -> Value {
    let mut properties = vec![
        property("suite", &manifest.suite),
        property("architecture", &manifest.arch),
        property("size", &manifest.size.to_string()),
        property("recipe", &manifest.recipe.to_string()),
        property("lock", &manifest.lock.to_string()),
    ];
    if let Some(lock) = lock {
        properties.push(property("bootstrapper", &lock.bootstrapper));
        for release in &lock.releases {
            let words = format!("{} {} {}", release.archive, release.suite, release.sha256);
            properties.push(property("release", &words));
        }
    }
    json!({
        "type": "container",
        "bom-ref": IMAGE,
        "name": manifest.name.as_str(),
        "version": manifest.image.to_string(),
        "hashes": [
            { "alg": "BLAKE3", "content": manifest.image.hex() },
            hash(&manifest.sha256),
        ],
        "properties": properties,
    })
}

fn operating_system(system: &OperatingSystem) -> Value {
    let mut component = json!({
        "type": "operating-system",
        "bom-ref": SYSTEM,
        "name": system.id,
    });
    if let Some(version) = &system.version {
        component["version"] = version.as_str().into();
    }
    component
}

fn package(deb: &Deb, system: &OperatingSystem) -> Value {
    let package = &deb.package;
    let mut component = json!({
        "type": "library",
        "bom-ref": format!("deb:{}:{}", package.name, package.arch),
        "name": package.name,
        "version": package.version,
        "properties": [
            // By these Trivy finds the advisories, which are about sources.
            trivy("PkgType", &system.id),
            trivy("SrcName", &deb.source.name),
            trivy("SrcVersion", &deb.source.version),
        ],
    });
    if let Some(purl) = &deb.purl {
        component["purl"] = purl.as_str().into();
    }
    add_hash(&mut component, deb.sha256.as_ref());
    component
}

fn distribution(distribution: &Distribution) -> Value {
    let mut component = json!({
        "type": "library",
        "bom-ref": format!("python:{}:{}", distribution.site, distribution.name),
        "name": distribution.name,
        "version": distribution.version,
        "purl": purl::python(distribution),
        "properties": [property("directory", &distribution.site)],
    });
    if distribution.origin == Origin::Index {
        let kind = trivy("PkgType", "python-pkg");
        component["properties"] = json!([kind, property("directory", &distribution.site)]);
    }
    add_hash(&mut component, distribution.sha256.as_ref());
    component
}

/// What the recipe brought besides packages: Git sources, downloads, and files beside it.
fn sources(lock: &Lock) -> Vec<Value> {
    let gits = lock.git.iter().map(|git| {
        json!({
            "type": "library",
            "bom-ref": format!("git:{}:{}", git.virtualenv, git.index),
            "name": format!("Git source {} of {}", git.index + 1, git.virtualenv),
            "version": git.commit,
            "hashes": [hash(&git.sha256)],
            "properties": [
                property("virtualenv", &git.virtualenv),
                property("reference", &git.reference),
            ],
        })
    });
    let files = lock.files.iter().map(|file| {
        json!({
            "type": "file",
            "bom-ref": format!("file:{}", file.path),
            "name": file.path,
            "hashes": [hash(&file.sha256)],
        })
    });
    let downloads = lock.downloads.iter().map(|download| {
        json!({
            "type": "file",
            "bom-ref": format!("download:{}:{}", download.sha256.hex(), download.url),
            "name": download.url,
            "hashes": [hash(&download.sha256)],
        })
    });
    gits.chain(downloads).chain(files).collect()
}

fn add_hash(component: &mut Value, digest: Option<&Sha256>) {
    if let Some(digest) = digest {
        component["hashes"] = json!([hash(digest)]);
    }
}

fn hash(digest: &Sha256) -> Value {
    json!({ "alg": "SHA-256", "content": digest.hex() })
}

fn property(name: &str, value: &str) -> Value {
    json!({ "name": format!("imgbuild:{name}"), "value": value })
}

fn trivy(name: &str, value: &str) -> Value {
    json!({ "name": format!("aquasecurity:trivy:{name}"), "value": value })
}

fn tool(builder: &str) -> Value {
    match builder.split_once(' ') {
        Some((name, version)) => {
            json!({ "type": "application", "name": name, "version": version })
        }
        None => json!({ "type": "application", "name": builder }),
    }
}
