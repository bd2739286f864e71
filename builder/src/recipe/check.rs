//! What is wrong only between keys: names used twice, users nobody makes,
//! two ways to say one thing.

use std::collections::HashMap;

use super::error::Fault;
use super::field::Spans;
use super::value::Owner;
use super::word::{Login, PackageName, PackageSpec};
use super::{File, Git, Packages, Recipe, Test, User, Virtualenv};

/// Users that Debian's base-passwd makes in every tree, and apt's own.
const DEBIAN_USERS: &[&str] = &[
    "root", "daemon", "bin", "sys", "sync", "games", "man", "lp", "mail", "news", "uucp", "proxy",
    "www-data", "backup", "list", "irc", "gnats", "nobody", "_apt",
];

/// Groups that base-passwd makes besides those named like a user.
const DEBIAN_GROUPS: &[&str] = &[
    "adm", "tty", "disk", "kmem", "dialout", "fax", "voice", "cdrom", "floppy", "tape", "sudo",
    "audio", "dip", "operator", "src", "shadow", "utmp", "video", "sasl", "plugdev", "staff",
    "users", "nogroup",
];

/// Directories that are not part of an image: something is mounted there
/// while it is built and while it runs.
const MOUNTED: &[&str] = &["/proc", "/sys", "/dev"];

/// Looks at the recipe as a whole.
pub(crate) fn check(recipe: &Recipe, spans: &Spans) -> Result<(), Fault> {
    let look = Look { recipe, spans };
    look.sources()?;
    look.packages()?;
    look.system()?;
    look.users()?;
    look.files()?;
    look.virtualenvs()?;
    look.runs()?;
    look.tests()?;
    look.service()
}

struct Look<'a> {
    recipe: &'a Recipe,
    spans: &'a Spans,
}

impl Look<'_> {
    fn fault(&self, path: &str, message: impl Into<String>) -> Fault {
        Fault::new(self.spans.at(path), message)
    }

    /// Refuses the second of two equal values.
    fn unique<'v>(
        &self,
        what: &str,
        values: impl IntoIterator<Item = (String, &'v str)>,
    ) -> Result<(), Fault> {
        let mut first: HashMap<&str, String> = HashMap::new();
        for (path, value) in values {
            if let Some(earlier) = first.insert(value, path.clone()) {
                return Err(self
                    .fault(&path, format!("{what} `{value}` is there twice"))
                    .hint(format!("the first one is {}", self.place(&earlier))));
            }
        }
        Ok(())
    }

    /// `user[0].name` as a person would say it.
    fn place(&self, path: &str) -> String {
        let Some((section, rest)) = path.split_once('[') else {
            return format!("`{path}`");
        };
        match rest.split_once("].") {
            Some((index, key)) => {
                let index: usize = index.parse().unwrap_or_default();
                format!("`{key}` of [[{section}]] number {}", index + 1)
            }
            None => format!("`{path}`"),
        }
    }

    /// A list whose items are all different.
    fn list<T: AsRef<str>>(&self, what: &str, path: &str, items: &[T]) -> Result<(), Fault> {
        self.unique(
            what,
            items
                .iter()
                .enumerate()
                .map(|(index, item)| (format!("{path}[{index}]"), item.as_ref())),
        )
    }

    fn sources(&self) -> Result<(), Fault> {
        let bootstrap = &self.recipe.bootstrap;
        self.list("the component", "bootstrap.components", &bootstrap.components)?;
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
        let sources = &self.recipe.sources;
        self.unique(
            "the source",
            (0..).zip(sources).map(|(i, s): (usize, _)| (format!("source[{i}].name"), s.name.as_str())),
        )?;
        for (index, source) in sources.iter().enumerate() {
            self.list(
                "the component",
                &format!("source[{index}].components"),
                &source.components,
            )?;
        }
        Ok(())
    }

    fn packages(&self) -> Result<(), Fault> {
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
            let names = install.iter().map(PackageSpec::name);
            self.unique(
                "the package",
                (0..)
                    .zip(names)
                    .map(|(i, name): (usize, _)| (format!("{path}.install[{i}]"), name)),
            )?;
            self.list("the file", &format!("{path}.debs"), debs)?;
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
                for key in ["recommends", "target-release"] {
                    let path = format!("{path}.{key}");
                    if self.spans.has(&path) {
                        return Err(self.fault(
                            &path,
                            format!("`{key}` means nothing without `install` or `debs`"),
                        ));
                    }
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

    fn system(&self) -> Result<(), Fault> {
        let system = &self.recipe.system;
        self.list("the locale", "system.locales", &system.locales)?;
        let generated = std::iter::once((&system.locale, "system.locale".to_owned()))
            .chain(
                (0..)
                    .zip(&system.locales)
                    .map(|(i, l): (usize, _)| (l, format!("system.locales[{i}]"))),
            )
            .find(|(locale, _)| locale.needs_generating());
        let Some((locale, path)) = generated else {
            return Ok(());
        };
        let includes = self.recipe.bootstrap.include.iter().map(PackageName::name);
        let installs = self
            .recipe
            .packages
            .iter()
            .flat_map(|group| group.install.iter().map(PackageSpec::name));
        if includes.chain(installs).any(|name| name == "locales" || name == "locales-all") {
            return Ok(());
        }
        Err(self
            .fault(
                &path,
                format!("the locale `{locale}` needs the package `locales`"),
            )
            .hint("add \"locales\" to `include` of [bootstrap], or use \"C.UTF-8\""))
    }

    fn users(&self) -> Result<(), Fault> {
        let users = &self.recipe.users;
        let ids: Vec<_> = users
            .iter()
            .map(|user| (user.uid.to_string(), user.gid.to_string()))
            .collect();
        let each = |key: &'static str| (0..users.len()).map(move |i| format!("user[{i}].{key}"));
        self.unique("the user", each("name").zip(users.iter().map(|user| user.name.as_str())))?;
        self.unique("the uid", each("uid").zip(ids.iter().map(|(uid, _)| uid.as_str())))?;
        self.unique("the gid", each("gid").zip(ids.iter().map(|(_, gid)| gid.as_str())))?;
        self.unique("the home", each("home").zip(users.iter().map(|user| user.home.as_str())))?;
        for (index, User { name, groups, home, .. }) in users.iter().enumerate() {
            let path = format!("user[{index}]");
            let taken = DEBIAN_USERS.contains(&name.as_str()) || DEBIAN_GROUPS.contains(&name.as_str());
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

    fn files(&self) -> Result<(), Fault> {
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

    fn file(&self, path: &str, file: &File) -> Result<(), Fault> {
        let target = file.path.as_str();
        if target == "/" || is_mounted(target) {
            return Err(self
                .fault(&format!("{path}.path"), format!("`{target}` is not part of an image"))
                .hint("/proc, /sys and /dev are the machine's, mounted over the tree"));
        }
        self.exactly_one(path, "[[file]]", &["source", "content", "symlink"])?;
        if file.symlink.is_some() {
            for key in ["append", "mode"] {
                let path = format!("{path}.{key}");
                if self.spans.has(&path) {
                    return Err(
                        self.fault(&path, format!("`{key}` means nothing for a symbolic link"))
                    );
                }
            }
        }
        if let Some(owner) = &file.owner {
            self.owner(&format!("{path}.owner"), owner)?;
        }
        Ok(())
    }

    fn virtualenvs(&self) -> Result<(), Fault> {
        let all = &self.recipe.virtualenvs;
        self.unique(
            "the virtualenv",
            (0..).zip(all).map(|(i, v): (usize, _)| (format!("virtualenv[{i}].path"), v.path.as_str())),
        )?;
        for (index, virtualenv) in all.iter().enumerate() {
            self.virtualenv(&format!("virtualenv[{index}]"), virtualenv)?;
        }
        Ok(())
    }

    fn virtualenv(&self, path: &str, virtualenv: &Virtualenv) -> Result<(), Fault> {
        let place = virtualenv.path.as_str();
        if place == "/" || is_mounted(place) {
            return Err(self.fault(
                &format!("{path}.path"),
                format!("`{place}` is not part of an image"),
            ));
        }
        self.owner(&format!("{path}.owner"), &virtualenv.owner)?;
        if virtualenv.wrapper && virtualenv.owner.user.as_str() == "root" {
            return Err(self
                .fault(&format!("{path}.wrapper"), "virtualenvwrapper is for a user's own virtualenvs")
                .hint("name the user under `owner`"));
        }
        let lines = virtualenv.requirements.iter().map(|line| line.project());
        let lines: Vec<(String, String)> = (0..)
            .zip(lines)
            .map(|(i, line): (usize, _)| (format!("{path}.requirements[{i}]"), line))
            .collect();
        self.unique(
            "the requirement",
            lines.iter().map(|(path, line)| (path.clone(), line.as_str())),
        )?;
        self.list("the file", &format!("{path}.requirements-files"), &virtualenv.requirements_files)?;
        self.list("the file", &format!("{path}.constraints-files"), &virtualenv.constraints_files)?;
        self.list("the directory", &format!("{path}.local"), &virtualenv.local)?;
        for (index, Git { tag, commit, .. }) in virtualenv.git.iter().enumerate() {
            let path = format!("{path}.git[{index}]");
            if tag.is_some() == commit.is_some() {
                self.exactly_one(&path, "a Git requirement", &["tag", "commit"])?;
            }
        }
        Ok(())
    }

    fn runs(&self) -> Result<(), Fault> {
        let runs = &self.recipe.runs;
        let named = runs
            .iter()
            .enumerate()
            .map(|(i, run)| (format!("run[{i}].name"), run.name.as_str()))
            .filter(|(path, _)| self.spans.has(path));
        self.unique("the step", named)?;
        for (index, run) in runs.iter().enumerate() {
            self.user(&format!("run[{index}].user"), &run.user)?;
        }
        Ok(())
    }

    fn tests(&self) -> Result<(), Fault> {
        let tests = &self.recipe.tests;
        self.unique(
            "the test",
            (0..).zip(tests).map(|(i, t): (usize, _)| (format!("test[{i}].name"), t.name.as_str())),
        )?;
        for (index, Test { user, command, .. }) in tests.iter().enumerate() {
            let path = format!("test[{index}]");
            self.exactly_one(&path, "[[test]]", &["command", "script"])?;
            self.program(&format!("{path}.command"), command)?;
            self.user(&format!("{path}.user"), user)?;
        }
        Ok(())
    }

    fn service(&self) -> Result<(), Fault> {
        let Some(service) = &self.recipe.service else {
            return Ok(());
        };
        self.user("service.user", &service.user)?;
        self.program("service.start", &service.start)?;
        self.program("service.stop", &service.stop)?;
        self.program("service.reload", &service.reload)
    }

    /// The first of a command's words is a program.
    fn program(&self, path: &str, command: &[super::Argument]) -> Result<(), Fault> {
        let Some(program) = command.first() else {
            return Ok(());
        };
        let path = format!("{path}[0]");
        if program.as_str().trim().is_empty() {
            return Err(self.fault(&path, "the program of a command is empty"));
        }
        if command.len() == 1 && program.as_str().contains(char::is_whitespace) {
            return Err(self
                .fault(&path, format!("no program is called `{program}`"))
                .hint("write each argument as a string of its own: [\"program\", \"argument\"]"));
        }
        Ok(())
    }

    /// Of these keys, one is there.
    fn exactly_one(&self, path: &str, what: &str, keys: &[&str]) -> Result<(), Fault> {
        let there: Vec<&&str> = keys
            .iter()
            .filter(|key| self.spans.has(&format!("{path}.{key}")))
            .collect();
        let choice = choice(keys);
        match there[..] {
            [_] => Ok(()),
            [] => Err(self.fault(path, format!("{what} lacks {choice}"))),
            [first, second, ..] => Err(self
                .fault(
                    &format!("{path}.{second}"),
                    format!("`{second}` stands beside `{first}`"),
                )
                .hint(format!("{what} has one of {choice}"))),
        }
    }

    fn owner(&self, path: &str, owner: &Owner) -> Result<(), Fault> {
        self.user(path, &owner.user)?;
        let group = owner.group.as_str();
        let known = DEBIAN_USERS.contains(&group)
            || DEBIAN_GROUPS.contains(&group)
            || self.recipe.users.iter().any(|user| user.name == owner.group);
        if known {
            return Ok(());
        }
        Err(self
            .fault(path, format!("there is no group `{group}`"))
            .hint(format!(
                "each [[user]] has a group of the same name{}",
                self.own_users()
            )))
    }

    fn user(&self, path: &str, user: &Login) -> Result<(), Fault> {
        let known = DEBIAN_USERS.contains(&user.as_str())
            || self.recipe.users.iter().any(|known| known.name == *user);
        if known {
            return Ok(());
        }
        Err(self
            .fault(path, format!("there is no user `{user}`"))
            .hint(format!("make it with [[user]]{}", self.own_users())))
    }

    fn own_users(&self) -> String {
        let names: Vec<_> = self
            .recipe
            .users
            .iter()
            .map(|user| format!("`{}`", user.name))
            .collect();
        match names.len() {
            0 => "; the recipe has none yet".to_owned(),
            _ => format!("; the recipe has {}", names.join(", ")),
        }
    }
}

/// `a`, `b` or `c`.
fn choice(keys: &[&str]) -> String {
    let quoted: Vec<_> = keys.iter().map(|key| format!("`{key}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

/// Whether a path is under something that is mounted over the tree.
fn is_mounted(path: &str) -> bool {
    MOUNTED.iter().any(|mount| {
        path.strip_prefix(mount)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}
