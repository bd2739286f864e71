//! Strings with a grammar. Each newtype here can hold nothing that its grammar
//! refuses, so that whoever gets one may use it without looking again.

use std::fmt;
use std::path::{Path, PathBuf};

use super::grammar::{
    Advice, base, beside, fits, interpreter, label, locale, login, lower, lower_digit, made_of,
    package, package_spec, suite, time_zone, tree_glob, tree_path,
};

/// Why a string is not a word of some kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// The string.
    pub value: String,
    /// What it should have been: "a suite name".
    pub what: &'static str,
    /// What such a thing looks like, with an example.
    pub shape: &'static str,
    /// What is wrong with it, when that is known.
    pub why: Option<String>,
    /// What to do, when there is more to say.
    pub hint: Option<String>,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, shape, .. } = self;
        write!(f, "`{}` is not {what}: ", self.value.escape_debug())?;
        match &self.why {
            Some(why) => f.write_str(why),
            None => write!(f, "expected {shape}"),
        }
    }
}

impl std::error::Error for Unfit {}

impl Unfit {
    pub(super) fn new<T: Word>(text: &str, advice: impl Into<Advice>) -> Self {
        let Advice { why, hint } = advice.into();
        let said = |text: String| Some(text).filter(|text| !text.is_empty());
        Unfit {
            value: text.to_owned(),
            what: T::WHAT,
            shape: T::SHAPE,
            why: said(why),
            hint: said(hint),
        }
    }
}

/// A value that is written as a string.
pub(crate) trait Word: std::str::FromStr<Err = Unfit> {
    /// What it is: "a suite name".
    const WHAT: &'static str;
    /// What such a thing looks like, with an example.
    const SHAPE: &'static str;
}

/// Defines newtypes over `String`, each with what it is, what it looks like
/// and the function that tells.
macro_rules! word {
    ($(
        $(#[$about:meta])*
        pub struct $Name:ident: $what:literal, $shape:literal, $check:expr;
    )*) => {$(
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
        #[serde(transparent)]
        pub struct $Name(String);

        impl $Name {
            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// A text that this crate itself knows to fit, such as a default.
            #[allow(dead_code)]
            pub(crate) fn known(text: &str) -> Self {
                debug_assert!(text.parse::<$Name>().is_ok(), "{text}");
                $Name(text.to_owned())
            }
        }

        impl std::str::FromStr for $Name {
            type Err = $crate::recipe::Unfit;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let check: fn(&str) -> Result<(), _> = $check;
                match check(text) {
                    Ok(()) => Ok($Name(text.to_owned())),
                    Err(advice) => Err($crate::recipe::Unfit::new::<Self>(text, advice)),
                }
            }
        }

        impl std::fmt::Display for $Name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $Name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<std::ffi::OsStr> for $Name {
            fn as_ref(&self) -> &std::ffi::OsStr {
                std::ffi::OsStr::new(&self.0)
            }
        }

        impl $crate::recipe::word::Word for $Name {
            const WHAT: &'static str = $what;
            const SHAPE: &'static str = $shape;
        }

        impl<'de> serde::Deserialize<'de> for $Name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                $crate::recipe::read::word(from)
            }
        }
    )*};
}
pub(crate) use word;

word! {
    /// A suite or pocket of an archive: `bullseye`, `bullseye-security`.
    pub struct Suite: "a suite name",
        "lower-case letters, digits, `.` and `-`, such as `bookworm` or `bullseye-backports`", suite;
    /// A short name of something in the recipe or on the machine, such as an archive.
    pub struct Label: "a short name",
        "lower-case letters, digits and `-`, such as `debian-security`", label;
    /// A moment, as dated archives name it: `20260901T000000Z`.
    pub struct Moment: "a date and time",
        "year, month, day, hours, minutes and seconds of UTC, such as `20260901T000000Z`",
        |text| fits(moment(text).is_some());
    /// An image that others stand on.
    pub struct BaseImage: "an image to begin with",
        "`ENVIRONMENT/NAME` such as `prod/debian`, or `blake3:` and 64 hexadecimal digits", base;
    /// A SHA-256 with its name.
    pub struct Digest: "a digest",
        "`sha256:` and 64 hexadecimal digits",
        |text| fits(text.strip_prefix("sha256:").is_some_and(|hex| {
            hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        }));
    /// The SHA-256 of a file.
    pub struct Checksum: "a SHA-256",
        "64 hexadecimal digits, as `sha256sum` prints them",
        |text| fits(text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')));
    /// A component of an archive: `main`, `contrib`, `non-free-firmware`.
    pub struct Component: "a component of an archive",
        "lower-case letters, digits, `-` and `/`, such as `main`",
        |text| fits(made_of(text, lower, |b| lower_digit(b) || b == b'-' || b == b'/'));
    /// An architecture as dpkg names it: `amd64`, `arm64`.
    pub struct Architecture: "an architecture",
        "dpkg's name for it, such as `amd64` or `arm64`",
        |text| match text {
            "x86_64" | "x86-64" => Err("dpkg calls it `amd64`".to_owned()),
            "aarch64" => Err("dpkg calls it `arm64`".to_owned()),
            _ => fits(made_of(text, lower, |b| lower_digit(b) || b == b'-')),
        };
    /// A Debian package, `name` or `name:arch`.
    pub struct PackageName: "a package name",
        "lower-case letters, digits, `+`, `-` and `.`, such as `libffi-dev`", package;
    /// A Debian package to install, `name`, `name:arch` or `name=version`.
    pub struct PackageSpec: "a package",
        "`name` or `name=version`, such as `git` or `libsodium-dev=1.0.18-1`", package_spec;
    /// A locale with its character set: `en_US.UTF-8`.
    pub struct Locale: "a locale",
        "language, territory and character set, such as `en_US.UTF-8`, or `C.UTF-8`", locale;
    /// A time zone of the zoneinfo database: `Etc/UTC`, `Europe/Rome`.
    pub struct TimeZone: "a time zone",
        "area and place, such as `Europe/Rome` or `Etc/UTC`", time_zone;
    /// A login or group name.
    pub struct Login: "a user name",
        "at most 32 letters, digits, `_` and `-`, not beginning with a digit, such as `operador`", login;
    /// A Python interpreter in the tree: a command or an absolute path.
    pub struct Interpreter: "a Python interpreter",
        "a command such as `python2.7` or an absolute path", interpreter;
    /// An absolute, normalised path in the tree.
    pub struct TreePath: "a path in the tree",
        "an absolute path without `.`, `..` or doubled `/`, such as `/home/operador`", tree_path;
    /// An absolute path in the tree in which `*` and `?` match within a name
    /// and `**` any number of names.
    pub struct TreeGlob: "a pattern of paths in the tree",
        "an absolute path in which `*`, `?` and `**` may stand, such as `/var/cache/app/**`", tree_glob;
    /// The path of a file or directory beside the recipe, relative to the
    /// recipe's directory.
    pub struct Beside: "a path beside the recipe",
        "a relative path that stays below the recipe's directory, such as `files/project`", beside;
    /// The name of an environment variable.
    pub struct Variable: "the name of an environment variable",
        "letters, digits and `_`, such as `CFLAGS`",
        |text| fits(made_of(text, |b| b.is_ascii_alphabetic() || b == b'_', |b| b.is_ascii_alphanumeric() || b == b'_'));
    /// The name of a secret that a node gives.
    pub struct SecretName: "the name of a secret",
        "letters, digits, `.`, `_` and `-`, such as `database-url`",
        |text| fits(store::manifest::is_secret_name(text));
    /// The name of a process or timer.
    pub struct ProcessName: "the name of a process",
        "at most 32 lower-case letters, digits and `-`, beginning with a letter, such as `worker`",
        |text| fits(store::manifest::is_process_name(text));
    /// A time of day: `03:30`.
    pub struct TimeOfDay: "a time of day",
        "hours and minutes of two digits each, such as `03:30`",
        |text| fits(store::manifest::time_of_day(text).is_some());
    /// A signal without its `SIG`.
    pub struct SignalName: "a signal",
        "`HUP`, `INT`, `QUIT`, `USR1`, `USR2`, `TERM` or `WINCH`",
        |text| match text.strip_prefix("SIG") {
            Some(name) if store::manifest::SIGNALS.contains(&name) => Err(format!("write `{name}`")),
            _ => fits(store::manifest::SIGNALS.contains(&text)),
        };
    /// Text that says something: a script, a comment, a name shown to people.
    pub struct Script: "a script",
        "at least one line that is not blank",
        |text| fits(!text.trim().is_empty() && !text.contains('\0'));
    /// A name shown to people: one line, not blank.
    pub struct Title: "a name to show",
        "one line of text",
        |text| fits(!text.trim().is_empty() && text.len() <= 200 && !text.contains(char::is_control));
}

impl Beside {
    /// The path, relative to the recipe's directory.
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl TreePath {
    pub(super) fn root() -> Self {
        TreePath::known("/")
    }

    pub(super) fn tmp() -> Self {
        TreePath::known("/tmp")
    }

    pub(super) fn sh() -> Self {
        TreePath::known("/bin/sh")
    }

    /// The path, absolute inside the tree.
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }

    /// Where it is when the tree is at `root`. Symbolic links on the way are
    /// not looked at: whoever opens it does so inside the tree.
    pub fn under(&self, root: &Path) -> PathBuf {
        root.join(&self.0[1..])
    }
}

impl Login {
    /// The superuser.
    pub(crate) fn root() -> Self {
        Login::known("root")
    }
}

impl Default for SignalName {
    fn default() -> Self {
        SignalName::known("TERM")
    }
}

impl Locale {
    /// Whether locale-gen has to make it; the C library has some built in.
    pub fn needs_generating(&self) -> bool {
        !matches!(self.as_str(), "C" | "POSIX" | "C.UTF-8")
    }
}

impl PackageName {
    /// The name without the architecture.
    pub fn name(&self) -> &str {
        self.0.split(':').next().unwrap_or_default()
    }
}

impl Moment {
    /// Seconds since 1970.
    pub fn seconds(&self) -> u64 {
        moment(&self.0).unwrap_or_default()
    }
}

fn moment(text: &str) -> Option<u64> {
    if text.len() != "20260901T000000Z".len() {
        return None;
    }
    let time = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?;
    let time = time.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    u64::try_from(time.timestamp().as_second()).ok()
}

impl PackageSpec {
    /// The name without version and architecture.
    pub fn name(&self) -> &str {
        self.0.split(['=', ':']).next().unwrap_or_default()
    }

    /// The version asked for.
    pub fn version(&self) -> Option<&str> {
        self.0.split_once('=').map(|(_, version)| version)
    }
}
