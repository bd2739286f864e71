//! SPDX 2.3.

use serde_json::{Value, json};
use store::{Manifest, Sha256};

use super::contents::{Contents, Deb, Distribution, OperatingSystem};
use super::purl;
use crate::error::Result;

/// The document and the image in it.
const DOCUMENT: &str = "SPDXRef-DOCUMENT";
const IMAGE: &str = "SPDXRef-Image";

pub(super) fn write(manifest: &Manifest, contents: &Contents) -> Result<Value> {
    let mut packages = vec![image(manifest), operating_system(&contents.system)];
    packages.extend(contents.debs.iter().map(package));
    packages.extend(contents.distributions.iter().map(distribution));
    let mut relationships = vec![relationship(DOCUMENT, "DESCRIBES", &IMAGE.into())];
    let contained = packages.iter().skip(1);
    relationships.extend(contained.map(|p| relationship(IMAGE, "CONTAINS", &p["SPDXID"])));
    Ok(json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": DOCUMENT,
        "name": manifest.name.as_str(),
        "documentNamespace": format!("urn:uuid:{}", super::serial(manifest)),
        "creationInfo": {
            "created": super::time(manifest)?,
            "creators": [format!("Tool: {}", manifest.builder.replace(' ', "-"))],
        },
        "packages": packages,
        "relationships": relationships,
    }))
}

/// A package with what is the same for all: nobody has looked at its licences.
fn entry(id: &str, name: &str, purpose: &str) -> Value {
    json!({
        "SPDXID": id,
        "name": name,
        "primaryPackagePurpose": purpose,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
    })
}

fn image(manifest: &Manifest) -> Value {
    let mut image = entry(IMAGE, manifest.name.as_str(), "CONTAINER");
    image["versionInfo"] = manifest.image.to_string().into();
    // Its BLAKE3 is the version: pyspdxtools counts the digits of that algorithm wrong.
    image["checksums"] = json!([checksum(&manifest.sha256)]);
    image
}

/// Scanners know it by how its identifier begins.
fn operating_system(system: &OperatingSystem) -> Value {
    let id = format!("SPDXRef-OperatingSystem-{}", fit(&system.id));
    let mut component = entry(&id, &system.id, "OPERATING-SYSTEM");
    if let Some(version) = &system.version {
        component["versionInfo"] = version.as_str().into();
    }
    component
}

fn package(deb: &Deb) -> Value {
    let package = &deb.package;
    let own = format!("deb:{}:{}", package.name, package.arch);
    let mut entry = entry(&identifier(&own), &package.name, "LIBRARY");
    entry["versionInfo"] = package.version.as_str().into();
    let source = &deb.source;
    entry["sourceInfo"] = format!("built package from: {} {}", source.name, source.version).into();
    add(&mut entry, deb.purl.as_deref(), deb.sha256.as_ref());
    entry
}

fn distribution(distribution: &Distribution) -> Value {
    let own = format!("python:{}:{}", distribution.site, distribution.name);
    let mut entry = entry(&identifier(&own), &distribution.name, "LIBRARY");
    entry["versionInfo"] = distribution.version.as_str().into();
    entry["sourceInfo"] = format!("installed in {}", distribution.site).into();
    let purl = purl::python(distribution);
    add(&mut entry, Some(&purl), distribution.sha256.as_ref());
    entry
}

fn add(entry: &mut Value, purl: Option<&str>, digest: Option<&Sha256>) {
    if let Some(purl) = purl {
        entry["externalRefs"] = json!([{
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": purl,
        }]);
    }
    if let Some(digest) = digest {
        entry["checksums"] = json!([checksum(digest)]);
    }
}

fn checksum(digest: &Sha256) -> Value {
    json!({ "algorithm": "SHA256", "checksumValue": digest.hex() })
}

fn relationship(from: &str, kind: &str, to: &Value) -> Value {
    json!({
        "spdxElementId": from,
        "relationshipType": kind,
        "relatedSpdxElement": to,
    })
}

/// The identifier of a package: letters, digits, `.` and `-` only, and no two the same.
fn identifier(own: &str) -> String {
    let digest = Sha256::of(own.as_bytes()).hex();
    format!("SPDXRef-Package-{}", &digest[..16])
}

fn fit(text: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || c == '.' {
            c
        } else {
            '-'
        }
    };
    text.chars().map(plain).collect()
}
