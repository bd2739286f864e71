//! Package URLs as statements name products by, <https://github.com/package-url/purl-spec>.

use common::percent;

use super::Ecosystem;
use crate::inspect::sbom::purl::normal;

/// A package, in some version or in any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::inspect::audit) struct Purl {
    ecosystem: Ecosystem,
    name: String,
    version: Option<String>,
    /// `debian-12` or a code name.
    distro: Option<String>,
}

/// An installed package, as it is looked for among products.
pub(in crate::inspect::audit) struct Product<'a> {
    pub(in crate::inspect::audit) ecosystem: Ecosystem,
    /// Names and versions: of the source, and of each binary package.
    pub(in crate::inspect::audit) names: &'a [(&'a str, &'a str)],
    /// The release in its ways to be written.
    pub(in crate::inspect::audit) distros: &'a [String],
}

impl Purl {
    /// Reads a URL of a Debian package or a Python project; of others there is none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let rest = text.trim().strip_prefix("pkg:")?.trim_start_matches('/');
        let rest = rest.split('#').next()?;
        let (path, qualifiers) = rest.split_once('?').unwrap_or((rest, ""));
        let (path, version) = match path.rsplit_once('@') {
            Some((path, version)) => (path, Some(decoded(version)?)),
            None => (path, None),
        };
        let mut segments = path.split('/').filter(|segment| !segment.is_empty());
        let ecosystem = match segments.next()?.to_ascii_lowercase().as_str() {
            "deb" => Ecosystem::Debian,
            "pypi" => Ecosystem::PyPi,
            _ => return None,
        };
        let name = decoded(segments.next_back()?)?;
        let distro = qualifiers.split('&').find_map(|qualifier| {
            let value = qualifier.strip_prefix("distro=")?;
            decoded(value)
        });
        Some(Self {
            name: match ecosystem {
                Ecosystem::Debian => name,
                Ecosystem::PyPi => normal(&name),
            },
            ecosystem,
            version,
            distro,
        })
    }

    /// Whether it names that package.
    pub(in crate::inspect::audit) fn names(&self, product: &Product<'_>) -> bool {
        let ecosystem = self.ecosystem;
        let same = |(name, version): &(&str, &str)| {
            let wanted = self.version.as_ref();
            let fits = |wanted: &String| ecosystem.compare(wanted, version).is_eq();
            self.name == *name && wanted.is_none_or(fits)
        };
        let distro = self.distro.as_ref();
        ecosystem == product.ecosystem
            && distro.is_none_or(|distro| product.distros.contains(distro))
            && product.names.iter().any(same)
    }
}

fn decoded(text: &str) -> Option<String> {
    String::from_utf8(percent::decode(text.as_bytes())?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_named_as_in_our_own_bills() {
        let names = [("openssl", "3.0.17-1"), ("libssl3", "3.0.17-1+b1")];
        let distros = ["debian-12".to_owned(), "bookworm".to_owned()];
        let product = Product {
            ecosystem: Ecosystem::Debian,
            names: &names,
            distros: &distros,
        };
        for (url, is_it) in [
            ("pkg:deb/debian/openssl", true),
            ("pkg:deb/debian/openssl@3.0.17-1?arch=source", true),
            (
                "pkg:deb/debian/libssl3@3.0.17-1%2Bb1?arch=amd64&distro=debian-12",
                true,
            ),
            ("pkg:deb/debian/libssl3@3.0.17-1", false),
            ("pkg:deb/debian/openssl?distro=debian-11", false),
            ("pkg:deb/debian/openssl?distro=bookworm", true),
            ("pkg:pypi/openssl", false),
            ("pkg:deb/debian/libssl", false),
        ] {
            let purl = Purl::parse(url).unwrap();
            assert_eq!(purl.names(&product), is_it, "{url}");
        }
        let python = Product {
            ecosystem: Ecosystem::PyPi,
            names: &[("zope-interface", "5.0")],
            distros: &[],
        };
        assert!(
            Purl::parse("pkg:pypi/Zope.Interface@5.0.0")
                .unwrap()
                .names(&python)
        );
        for odd in [
            "",
            "pkg:",
            "pkg:deb",
            "openssl",
            "pkg:npm/a",
            "pkg:deb/debian/%zz",
        ] {
            assert_eq!(Purl::parse(odd), None, "{odd}");
        }
    }
}
