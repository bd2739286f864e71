//! What is wrong only between keys: names used twice, users nobody makes,
//! two ways to say one thing.

mod run;
mod tree;

use std::collections::HashMap;
use std::fmt::Display;
use std::hash::Hash;

use super::Recipe;
use super::error::Fault;
use super::read::Spans;
use super::value::Owner;
use super::word::Login;

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
pub(crate) fn check(recipe: &Recipe, spans: &Spans<'_>) -> Result<(), Fault> {
    let look = Look { recipe, spans };
    look.sources()?;
    look.packages()?;
    look.system()?;
    look.users()?;
    look.files()?;
    look.downloads()?;
    look.virtualenvs()?;
    look.runs()?;
    look.tests()?;
    look.service()?;
    look.processes()?;
    look.timers()
}

/// Looks at what is refused in a recipe of a person. The recipes of images that were built
/// before may have it.
pub(crate) fn check_new(recipe: &Recipe, spans: &Spans) -> Result<(), Fault> {
    let look = Look { recipe, spans };
    look.suites_stand()?;
    look.requirements()?;
    look.scripts()
}

struct Look<'a> {
    recipe: &'a Recipe,
    spans: &'a Spans<'a>,
}

impl Look<'_> {
    /// What each pip refuses, or reads as something else than it says.
    fn requirements(&self) -> Result<(), Fault> {
        for (i, virtualenv) in self.recipe.virtualenvs.iter().enumerate() {
            let lists = [
                ("requirements", false, &virtualenv.requirements),
                ("constraints", true, &virtualenv.constraints),
                ("build-constraints", true, &virtualenv.build_constraints),
            ];
            for (key, is_limit, list) in lists {
                for (j, requirement) in list.iter().enumerate() {
                    let fault =
                        |what: String| self.fault(&format!("virtualenv[{i}].{key}[{j}]"), what);
                    requirement.check_new().map_err(|unfit| {
                        fault(unfit.to_string()).hint(unfit.hint.unwrap_or_default())
                    })?;
                    if is_limit {
                        requirement
                            .check_limit()
                            .map_err(|advice| fault(advice.why).hint(advice.hint))?;
                    }
                }
            }
        }
        Ok(())
    }

    fn fault(&self, path: &str, message: impl Into<String>) -> Fault {
        Fault::new(self.spans.at(path), message)
    }

    /// Refuses the second of two equal values.
    fn unique<V: Display + Eq + Hash>(
        &self,
        what: &str,
        values: impl IntoIterator<Item = (String, V)>,
    ) -> Result<(), Fault> {
        let mut first: HashMap<V, String> = HashMap::new();
        for (path, value) in values {
            if let Some(earlier) = first.get(&value) {
                let message = format!("{what} `{value}` is there twice");
                return Err(self.fault(&path, message).earlier(self.spans.at(earlier)));
            }
            first.insert(value, path);
        }
        Ok(())
    }

    /// A list whose items are all different.
    fn list<T: Display + Eq + Hash>(
        &self,
        what: &str,
        path: &str,
        items: &[T],
    ) -> Result<(), Fault> {
        self.unique(what, each(path, "").zip(items))
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
            || self
                .recipe
                .users
                .iter()
                .any(|user| user.name == owner.group);
        if known || self.recipe.installs_packages() {
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
        // A package may make it: the build looks when its packages are installed.
        if known || self.recipe.installs_packages() {
            return Ok(());
        }
        Err(self
            .fault(path, format!("there is no user `{user}`"))
            .hint(format!(
                "make it with [[user]], or install the package that makes it{}",
                self.own_users()
            )))
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

/// The paths of a key in each item of a list.
fn each(list: &str, key: &str) -> impl Iterator<Item = String> {
    (0..).map(move |index| format!("{list}[{index}]{key}"))
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
