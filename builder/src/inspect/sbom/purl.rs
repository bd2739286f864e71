//! Package URLs, <https://github.com/package-url/purl-spec>, with the qualifiers by which
//! scanners find advisories.

use common::percent;
use store::manifest::Package;

use super::contents::{Distribution, OperatingSystem};
use super::origin::Origin;
use crate::dpkg_status::SourcePackage;

/// A Debian package. `upstream` names the source where it is another one, `distro` the release
/// with its number: a code name alone is taken for a distribution.
pub(super) fn deb(
    package: &Package,
    source: &SourcePackage,
    vendor: &str,
    system: &OperatingSystem,
) -> String {
    let distro = match &system.version {
        Some(version) => format!("{}-{version}", system.id),
        None => system.id.clone(),
    };
    let upstream = if source.version != package.version {
        format!(
            "&upstream={}",
            escape(&format!("{}@{}", source.name, source.version))
        )
    } else if source.name != package.name {
        format!("&upstream={}", escape(&source.name))
    } else {
        String::new()
    };
    format!(
        "pkg:deb/{}/{}@{}?arch={}&distro={}{upstream}",
        escape(vendor),
        escape(&package.name),
        escape(&package.version),
        escape(&package.arch),
        escape(&distro)
    )
}

/// A Python distribution: by `PyPI`'s name only where it comes from an index, as far as can be told.
pub(super) fn python(distribution: &Distribution) -> String {
    let version = escape(&distribution.version);
    let generic =
        |more: &str| format!("pkg:generic/{}@{version}{more}", escape(&distribution.name));
    match &distribution.origin {
        Origin::Index => format!("pkg:pypi/{}@{version}", escape(&normal(&distribution.name))),
        Origin::Own => generic(""),
        Origin::Repository(address) => generic(&format!("?vcs_url={}", escape(address))),
    }
}

/// A project's name as indexes compare it (PEP 503).
pub(in crate::inspect) fn normal(name: &str) -> String {
    let words = name.split(['-', '_', '.']).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-").to_lowercase()
}

/// Percent-encoding as package URLs have it: a colon stays.
fn escape(text: &str) -> String {
    percent::encode(text, b":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_named_as_scanners_look_them_up() {
        let package = |name: &str, version: &str| Package {
            name: name.into(),
            version: version.into(),
            arch: "amd64".into(),
        };
        let source = |name: &str, version: &str| SourcePackage {
            name: name.into(),
            version: version.into(),
        };
        let bookworm = OperatingSystem {
            id: "debian".into(),
            version: Some("12".into()),
        };
        for (package, source, expected) in [
            (
                package("libssl3", "3.0.17-1~deb12u2"),
                source("openssl", "3.0.17-1~deb12u2"),
                "libssl3@3.0.17-1~deb12u2?arch=amd64&distro=debian-12&upstream=openssl",
            ),
            (
                package("libstdc++6", "1:12.2.0-14+b1"),
                source("gcc-12", "12.2.0-14"),
                "libstdc%2B%2B6@1:12.2.0-14%2Bb1?arch=amd64&distro=debian-12&upstream=gcc-12%4012.2.0-14",
            ),
            (
                package("bash", "5.2.15-2"),
                source("bash", "5.2.15-2"),
                "bash@5.2.15-2?arch=amd64&distro=debian-12",
            ),
        ] {
            let url = deb(&package, &source, "debian", &bookworm);
            assert_eq!(url, format!("pkg:deb/debian/{expected}"));
        }
        assert_eq!(normal("Old_Egg.name"), "old-egg-name");
    }
}
