//! dpkg's status file: which packages are installed, and what they were built from.

use store::manifest::Package;

/// A package of a status file that is installed.
pub(crate) struct InstalledPackage<'a> {
    /// Its paragraph.
    pub(crate) text: &'a str,
    /// What is wanted of it, its error flag, and that it is installed.
    status: &'a str,
    /// Its name, version and architecture.
    pub(crate) package: Package,
}

/// The installed packages, in the order of the file.
pub(crate) fn installed(status: &str) -> impl Iterator<Item = InstalledPackage<'_>> {
    status.split("\n\n").filter_map(InstalledPackage::read)
}

impl<'a> InstalledPackage<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let status = field(text, "Status")?;
        let package = Package {
            name: field(text, "Package")?.to_owned(),
            version: field(text, "Version")?.to_owned(),
            arch: field(text, "Architecture")?.to_owned(),
        };
        status.ends_with(" installed").then_some(Self {
            text,
            status,
            package,
        })
    }

    /// Whether nothing is wrong with it: it need not be installed again.
    pub(crate) fn is_sound(&self) -> bool {
        self.status.ends_with(" ok installed")
    }

    /// Whether its version is to stay.
    pub(crate) fn is_held(&self) -> bool {
        self.status.starts_with("hold ")
    }

    /// What it was built from.
    pub(crate) fn source(&self) -> SourcePackage {
        SourcePackage::of_paragraph(self.text, &self.package)
    }
}

/// The value of a field that has one line.
pub(crate) fn field<'a>(paragraph: &'a str, name: &str) -> Option<&'a str> {
    let fields = paragraph.lines().filter_map(|line| line.split_once(':'));
    let mut values = fields.filter_map(|(key, value)| (key == name).then_some(value.trim()));
    values.next()
}

/// The installed packages, sorted.
pub(crate) fn packages(status: &str) -> Vec<Package> {
    let sorted = packages_and_sources(status).into_iter();
    sorted.map(|(package, _)| package).collect()
}

/// The installed packages, sorted, each with its source package.
pub(crate) fn packages_and_sources(status: &str) -> Vec<(Package, SourcePackage)> {
    let all = installed(status).map(|one| {
        let source = one.source();
        (one.package, source)
    });
    let mut all: Vec<_> = all.collect();
    all.sort_by(|(a, _), (b, _)| (&a.name, &a.arch).cmp(&(&b.name, &b.arch)));
    all
}

/// What a package was built from (deb-control(5), `Source`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SourcePackage {
    pub(crate) name: String,
    pub(crate) version: String,
}

impl SourcePackage {
    /// The source of a package whose paragraph that is: of a status file, an index or a control
    /// file.
    pub(crate) fn of_paragraph(paragraph: &str, package: &Package) -> Self {
        Self::of(field(paragraph, "Source"), package)
    }

    /// `NAME` or `NAME (VERSION)`; what is left out is as the package has it.
    pub(crate) fn of(field: Option<&str>, package: &Package) -> Self {
        let field = field.unwrap_or(&package.name);
        let (name, version) = match field.split_once(" (") {
            Some((name, version)) => (name, version.trim_end_matches(')')),
            None => (field, package.version.as_str()),
        };
        Self {
            name: name.to_owned(),
            version: version.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_installed_packages_count() {
        let text = "Package: a\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n";
        let first = |text: &str| packages_and_sources(text).into_iter().next();
        let (package, source) = first(text).unwrap();
        assert_eq!(package.version, "1");
        assert_eq!((source.name.as_str(), source.version.as_str()), ("a", "1"));
        let (_, source) = first(&format!("{text}Source: b (2-1)\n")).unwrap();
        assert_eq!(
            (source.name.as_str(), source.version.as_str()),
            ("b", "2-1")
        );
        let gone = text.replace("ok installed", "ok config-files");
        assert!(first(&gone).is_none());
        let held = text.replace("install ok", "hold ok");
        assert!(first(&held).is_some());
        let broken = text.replace("install ok", "install reinstreq");
        let sound = |text: &str| installed(text).all(|one| one.is_sound());
        assert!(first(&broken).is_some() && !sound(&broken) && sound(&held));
    }
}
