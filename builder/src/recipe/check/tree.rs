//! Checks of what makes the tree: archives, packages, language, users, files.

use super::{DEBIAN_GROUPS, DEBIAN_USERS, Look, each, is_mounted};
use crate::recipe::error::Fault;
use crate::recipe::{
    Answer, File, PackageName, PackageSpec, Packages, Recipe, Suite, User, Variant,
};

/// Directories of every tree, which no file takes the place of.
const DIRECTORIES: [&str; 25] = [
    "/bin",
    "/boot",
    "/etc",
    "/etc/apt",
    "/etc/default",
    "/etc/init.d",
    "/home",
    "/lib",
    "/media",
    "/mnt",
    "/opt",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/tmp",
    "/usr",
    "/usr/bin",
    "/usr/lib",
    "/usr/local",
    "/usr/sbin",
    "/usr/share",
    "/var",
    "/var/lib",
    "/var/log",
];

impl Look<'_> {
    pub(super) fn sources(&self) -> Result<(), Fault> {
        let bootstrap = &self.recipe.bootstrap;
        if bootstrap.base.is_some() {
            // What is written out in a canonical recipe says nothing by itself.
            for (key, says_something) in [
                ("variant", bootstrap.variant != Variant::Minbase),
                ("include", !bootstrap.include.is_empty()),
                ("exclude", !bootstrap.exclude.is_empty()),
            ] {
                let path = format!("bootstrap.{key}");
                if says_something {
                    let what =
                        format!("`{key}` is about debootstrap, and `base` stands in its place");
                    let hint = "leave it out; [[packages]] installs and purges on top of the base";
                    return Err(self.fault(&path, what).hint(hint));
                }
            }
        }
        self.list(
            "the component",
            "bootstrap.components",
            &bootstrap.components,
        )?;
        self.list("the package", "bootstrap.include", &bootstrap.include)?;
        self.list("the package", "bootstrap.exclude", &bootstrap.exclude)?;
        for (index, package) in bootstrap.exclude.iter().enumerate() {
            if bootstrap.include.contains(package) {
                return Err(self.fault(
                    &format!("bootstrap.exclude[{index}]"),
                    format!("`{package}` is both included and excluded"),
                ));
            }
        }
        if bootstrap.suite.as_str().contains('/') {
            return Err(self
                .fault(
                    "bootstrap.suite",
                    format!("`{}` is not a suite to bootstrap from", bootstrap.suite),
                )
                .hint("a pocket such as security or backports goes under [[source]]"));
        }
        for (index, package) in bootstrap.include.iter().enumerate() {
            self.own_architecture(&format!("bootstrap.include[{index}]"), package.as_str())?;
        }
        let sources = &self.recipe.sources;
        let names = sources.iter().map(|source| &source.name);
        self.unique("the source", each("source", ".name").zip(names))?;
        for (index, source) in sources.iter().enumerate() {
            self.list(
                "the component",
                &format!("source[{index}].components"),
                &source.components,
            )?;
        }
        Ok(())
    }

    pub(super) fn suites_stand(&self) -> Result<(), Fault> {
        self.suite_stands("bootstrap.suite", &self.recipe.bootstrap.suite)?;
        for (index, source) in self.recipe.sources.iter().enumerate() {
            if ["debian", "debian-security"].contains(&source.archive.as_str()) {
                self.suite_stands(&format!("source[{index}].suite"), &source.suite)?;
            }
        }
        Ok(())
    }

    /// Refuses names of Debian's that mean another suite after each release.
    fn suite_stands(&self, path: &str, suite: &Suite) -> Result<(), Fault> {
        let first = suite.as_str().split(['-', '/']).next().unwrap_or_default();
        if !["stable", "oldstable", "oldoldstable", "testing", "unstable"].contains(&first) {
            return Ok(());
        }
        let name = if first == "unstable" { "sid" } else { "trixie" };
        Err(self
            .fault(
                path,
                format!("`{suite}` is another suite with each release of Debian"),
            )
            .hint(format!("name it by its code name, such as `{name}`")))
    }

    /// Refuses `name:arch` of another architecture than the image's.
    fn own_architecture(&self, path: &str, package: &str) -> Result<(), Fault> {
        let own = self.recipe.bootstrap.architecture.as_str();
        let name = package.split('=').next().unwrap_or_default();
        match name.split_once(':') {
            Some((_, arch)) if ![own, "all", "any", "native"].contains(&arch) => Err(self
                .fault(
                    path,
                    format!("`{name}` is of another architecture than the image, {own}"),
                )
                .hint("an image has packages of one architecture")),
            _ => Ok(()),
        }
    }

    pub(super) fn packages(&self) -> Result<(), Fault> {
        for (index, group) in self.recipe.packages.iter().enumerate() {
            let path = format!("packages[{index}]");
            let Packages {
                install,
                debs,
                hold,
                purge,
                ..
            } = group;
            if install.is_empty() && debs.is_empty() && hold.is_empty() && purge.is_empty() {
                return Err(self
                    .fault(&path, "[[packages]] does nothing")
                    .hint("give it `install`, `debs`, `hold` or `purge`"));
            }
            for (i, package) in install.iter().enumerate() {
                self.own_architecture(&format!("{path}.install[{i}]"), package.as_str())?;
            }
            let names = install.iter().map(PackageSpec::name);
            self.unique(
                "the package",
                each(&format!("{path}.install"), "").zip(names),
            )?;
            self.list("the file", &format!("{path}.debs"), debs)?;
            let questions = group.debconf.iter().map(Answer::question);
            self.unique(
                "the question",
                (0..)
                    .zip(questions)
                    .map(|(i, name): (usize, _)| (format!("{path}.debconf[{i}]"), name)),
            )?;
            self.list("the package", &format!("{path}.hold"), hold)?;
            self.list("the package", &format!("{path}.purge"), purge)?;
            for (i, package) in purge.iter().enumerate() {
                if install.iter().any(|spec| spec.name() == package.as_str()) {
                    return Err(self.fault(
                        &format!("{path}.purge[{i}]"),
                        format!("`{package}` is both installed and purged here"),
                    ));
                }
            }
            if install.is_empty() && debs.is_empty() {
                let pointless = [
                    ("recommends", group.recommends),
                    ("target-release", group.target_release.is_some()),
                    ("debconf", !group.debconf.is_empty()),
                ];
                if let Some((key, _)) = pointless.iter().find(|(_, there)| *there) {
                    return Err(self.fault(
                        &format!("{path}.{key}"),
                        format!("`{key}` means nothing without `install` or `debs`"),
                    ));
                }
            }
            if let Some(release) = &group.target_release {
                let known = std::iter::once(&self.recipe.bootstrap.suite)
                    .chain(self.recipe.sources.iter().map(|source| &source.suite));
                if !known.clone().any(|suite| suite == release) {
                    let known: Vec<_> = known.map(|suite| format!("`{suite}`")).collect();
                    return Err(self
                        .fault(
                            &format!("{path}.target-release"),
                            format!("no source of the recipe has the suite `{release}`"),
                        )
                        .hint(format!(
                            "add a [[source]] for it; there is {}",
                            known.join(", ")
                        )));
                }
            }
        }
        Ok(())
    }

    pub(super) fn system(&self) -> Result<(), Fault> {
        let system = &self.recipe.system;
        self.list("the locale", "system.locales", &system.locales)?;
        let generated = std::iter::once((String::from("system.locale"), &system.locale))
            .chain(each("system.locales", "").zip(&system.locales))
            .find(|(_, locale)| locale.needs_generating());
        let Some((path, locale)) = generated else {
            return Ok(());
        };
        if self.recipe.bootstrap.base.is_some() {
            return Ok(());
        }
        let includes = self.recipe.bootstrap.include.iter().map(PackageName::name);
        let installs = self
            .recipe
            .packages
            .iter()
            .flat_map(|group| group.install.iter().map(PackageSpec::name));
        if includes
            .chain(installs)
            .any(|name| name == "locales" || name == "locales-all")
        {
            return Ok(());
        }
        Err(self
            .fault(
                &path,
                format!("the locale `{locale}` needs the package `locales`"),
            )
            .hint("add \"locales\" to `include` of [bootstrap], or use \"C.UTF-8\""))
    }

    pub(super) fn users(&self) -> Result<(), Fault> {
        let users = &self.recipe.users;
        let key = |key| each("user", key).zip(users);
        self.unique(
            "the user",
            key(".name").map(|(path, user)| (path, &user.name)),
        )?;
        self.unique("the uid", key(".uid").map(|(path, user)| (path, user.uid)))?;
        self.unique(
            "the gid",
            key(".gid").map(|(path, user)| (path, user.gid())),
        )?;
        self.unique(
            "the home",
            key(".home").map(|(path, user)| (path, user.home())),
        )?;
        for (index, user) in users.iter().enumerate() {
            let (User { name, groups, .. }, home) = (user, user.home());
            let path = format!("user[{index}]");
            if name.as_str().contains(|c: char| c.is_ascii_uppercase()) {
                return Err(self
                    .fault(
                        &format!("{path}.name"),
                        format!("the name `{name}` has capital letters"),
                    )
                    .hint("those are for users that packages make, such as `Debian-exim`"));
            }
            let taken =
                DEBIAN_USERS.contains(&name.as_str()) || DEBIAN_GROUPS.contains(&name.as_str());
            if taken {
                return Err(self
                    .fault(
                        &format!("{path}.name"),
                        format!("`{name}` is a user or group of every Debian system"),
                    )
                    .hint("it can be used as it is, without a [[user]]"));
            }
            if home.as_str() == "/" || is_mounted(home.as_str()) {
                return Err(self.fault(
                    &format!("{path}.home"),
                    format!("`{home}` cannot be anybody's home"),
                ));
            }
            self.list("the group", &format!("{path}.groups"), groups)?;
            if let Some(i) = groups.iter().position(|group| group == name) {
                return Err(self
                    .fault(
                        &format!("{path}.groups[{i}]"),
                        format!("`{name}` is in the group `{name}` anyway"),
                    )
                    .hint("`groups` are the further ones"));
            }
        }
        Ok(())
    }

    pub(super) fn files(&self) -> Result<(), Fault> {
        let files = &self.recipe.files;
        // Lines may be added to one file several times, but it is made once.
        let made = files.iter().enumerate().filter(|(_, file)| !file.append);
        self.unique(
            "the path",
            made.map(|(i, file)| (format!("file[{i}].path"), file.path.as_str())),
        )?;
        for (index, file) in files.iter().enumerate() {
            self.file(&format!("file[{index}]"), file)?;
        }
        Ok(())
    }

    pub(super) fn downloads(&self) -> Result<(), Fault> {
        let Recipe {
            downloads, files, ..
        } = self.recipe;
        let whole = downloads.iter().enumerate().filter(|(_, one)| !one.unpack);
        let whole = whole.map(|(i, one)| (format!("download[{i}].path"), one.path.as_str()));
        let files = files.iter().enumerate().filter(|(_, file)| !file.append);
        let files = files.map(|(i, file)| (format!("file[{i}].path"), file.path.as_str()));
        self.unique("the path", whole.chain(files))?;
        for (index, download) in downloads.iter().enumerate() {
            let path = format!("download[{index}]");
            let target = download.path.as_str();
            self.can_be_put(&path, target, download.unpack)?;
            let pointless = if download.unpack {
                ("mode", download.mode.is_some(), "with")
            } else {
                ("strip", download.strip.is_some(), "without")
            };
            if let (key, true, with) = pointless {
                return Err(self.fault(
                    &format!("{path}.{key}"),
                    format!("`{key}` means nothing {with} `unpack`"),
                ));
            }
            if let Some(owner) = &download.owner {
                self.owner(&format!("{path}.owner"), owner)?;
            }
        }
        Ok(())
    }

    /// Whether something can be put there, and whether it is a directory.
    fn can_be_put(&self, path: &str, target: &str, directory: bool) -> Result<(), Fault> {
        if target == "/" || is_mounted(target) {
            return Err(self
                .fault(
                    &format!("{path}.path"),
                    format!("`{target}` is not part of an image"),
                )
                .hint("/proc, /sys and /dev are the machine's, mounted over the tree"));
        }
        if DIRECTORIES.contains(&target) && !directory {
            return Err(self
                .fault(
                    &format!("{path}.path"),
                    format!("`{target}` is a directory of every Debian system"),
                )
                .hint("name the file in it"));
        }
        Ok(())
    }

    fn file(&self, path: &str, file: &File) -> Result<(), Fault> {
        self.can_be_put(path, file.path.as_str(), file.source.is_some())?;
        self.exactly_one(path, "[[file]]", &["source", "content", "symlink"])?;
        if file.symlink.is_some() {
            let pointless = [("append", file.append), ("mode", file.mode.is_some())];
            if let Some((key, _)) = pointless.iter().find(|(_, there)| *there) {
                return Err(self.fault(
                    &format!("{path}.{key}"),
                    format!("`{key}` means nothing for a symbolic link"),
                ));
            }
        }
        self.list("the pattern", &format!("{path}.exclude"), &file.exclude)?;
        if file.source.is_none() && !file.exclude.is_empty() {
            return Err(self.fault(
                &format!("{path}.exclude"),
                "`exclude` means nothing without `source`",
            ));
        }
        if let Some(owner) = &file.owner {
            self.owner(&format!("{path}.owner"), owner)?;
        }
        Ok(())
    }
}
