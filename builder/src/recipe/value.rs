//! Values with more meaning than their text: modes, times, owners, numbers.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use store::manifest;

use super::read::HINT;
use super::word::{Login, Unfit, Word};

/// The mode of a file: the twelve low bits, written as an octal string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mode(u32);

impl Mode {
    /// The bits, at most `0o7777`.
    pub fn bits(self) -> u32 {
        self.0
    }
}

impl FromStr for Mode {
    type Err = Unfit;

    fn from_str(text: &str) -> Result<Self, Unfit> {
        let octal =
            (3..=4).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
        let bits = octal.then(|| u32::from_str_radix(text, 8).ok()).flatten();
        bits.map(Mode).ok_or_else(|| {
            let octal = text.starts_with("0o");
            Unfit::new::<Self>(
                text,
                if octal {
                    "leave out the `o`: it is octal anyway"
                } else {
                    ""
                },
            )
        })
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

/// How long a command may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timeout(Duration);

impl Timeout {
    /// So many seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Timeout(Duration::from_secs(seconds))
    }

    pub(super) fn hour() -> Self {
        Timeout::seconds(3600)
    }

    pub(super) fn ten_minutes() -> Self {
        Timeout::seconds(600)
    }

    /// The time itself.
    pub fn duration(self) -> Duration {
        self.0
    }
}

impl FromStr for Timeout {
    type Err = Unfit;

    fn from_str(text: &str) -> Result<Self, Unfit> {
        const LONGEST: u64 = 7 * 24 * 3600;
        let unfit = |hint: &str| Unfit::new::<Self>(text, hint);
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let scale = match &text[digits.len()..] {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "" if !digits.is_empty() => return Err(unfit("add the unit: `s`, `m` or `h`")),
            _ => return Err(unfit("")),
        };
        if !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(unfit(""));
        }
        let number: u64 = digits.parse().map_err(|_| unfit(""))?;
        match number.checked_mul(scale) {
            Some(0) => Err(unfit("a command needs some time")),
            Some(seconds) if seconds <= LONGEST => Ok(Timeout::seconds(seconds)),
            _ => Err(unfit("a week is the longest")),
        }
    }
}

impl fmt::Display for Timeout {
    /// In the largest unit that says it exactly.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs() {
            seconds if seconds % 3600 == 0 => write!(f, "{}h", seconds / 3600),
            seconds if seconds % 60 == 0 => write!(f, "{}m", seconds / 60),
            seconds => write!(f, "{seconds}s"),
        }
    }
}

/// Who owns a file: `user` or `user:group`. The group is by default the one
/// named like the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub user: Login,
    /// The group.
    pub group: Login,
}

impl Owner {
    /// `root:root`.
    pub(crate) fn root() -> Self {
        Owner {
            user: Login::root(),
            group: Login::root(),
        }
    }
}

impl FromStr for Owner {
    type Err = Unfit;

    fn from_str(text: &str) -> Result<Self, Unfit> {
        let (user, group) = text.split_once(':').unwrap_or((text, text));
        match (user.parse(), group.parse()) {
            (Ok(user), Ok(group)) => Ok(Owner { user, group }),
            _ if text.starts_with(|c: char| c.is_ascii_digit()) => Err(Unfit::new::<Self>(
                text,
                "name the user: [[user]] gives a name its number",
            )),
            _ if text.contains('.') => Err(Unfit::new::<Self>(
                text,
                "user and group are separated by `:`",
            )),
            _ => Err(Unfit::new::<Self>(text, "")),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.user, self.group)
    }
}

/// What debootstrap installs by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Variant {
    /// Essential packages and apt.
    #[default]
    Minbase,
    /// Minbase and build-essential.
    Buildd,
    /// Everything of priority `required` and `important`.
    Standard,
}

impl FromStr for Variant {
    type Err = Unfit;

    fn from_str(text: &str) -> Result<Self, Unfit> {
        match text {
            "minbase" => Ok(Variant::Minbase),
            "buildd" => Ok(Variant::Buildd),
            "standard" => Ok(Variant::Standard),
            _ => Err(Unfit::new::<Self>(text, "")),
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Variant::Minbase => "minbase",
            Variant::Buildd => "buildd",
            Variant::Standard => "standard",
        })
    }
}

/// An amount of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Memory(u64);

impl Memory {
    /// In bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Memory {
    type Err = Unfit;

    fn from_str(text: &str) -> Result<Self, Unfit> {
        match manifest::bytes_of(text) {
            Some(bytes) if bytes >= 1 << 20 => Ok(Memory(bytes)),
            Some(_) => Err(Unfit::new::<Self>(text, "nothing runs in less than 1M")),
            None => Err(Unfit::new::<Self>(text, "")),
        }
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&manifest::in_units(self.0))
    }
}

/// A share of the time of processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share(u64);

impl Share {
    /// In percent of one processor.
    pub fn percent(self) -> u64 {
        self.0
    }
}

impl FromStr for Share {
    type Err = Unfit;

    fn from_str(text: &str) -> Result<Self, Unfit> {
        match manifest::percent_of(text) {
            Some(percent) if percent <= 1_000_000 => Ok(Share(percent)),
            Some(_) => Err(Unfit::new::<Self>(
                text,
                "no machine has so many processors",
            )),
            None => Err(Unfit::new::<Self>(text, "")),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

/// Whose names of hosts a session has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Resolver {
    /// The node's.
    #[default]
    Node,
    /// The image's own.
    Image,
}

impl Resolver {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl FromStr for Resolver {
    type Err = Unfit;

    fn from_str(text: &str) -> Result<Self, Unfit> {
        match text {
            "node" => Ok(Resolver::Node),
            "image" => Ok(Resolver::Image),
            _ => Err(Unfit::new::<Self>(text, "")),
        }
    }
}

impl fmt::Display for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Resolver::Node => "node",
            Resolver::Image => "image",
        })
    }
}

/// Which of the machine's package indexes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Index {
    /// `index-url`.
    Main,
    /// One of `extra-index-url`.
    Extra,
}

impl FromStr for Index {
    type Err = Unfit;

    fn from_str(text: &str) -> Result<Self, Unfit> {
        match text {
            "main" => Ok(Index::Main),
            "extra" => Ok(Index::Extra),
            _ => Err(Unfit::new::<Self>(text, "")),
        }
    }
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Index::Main => "main",
            Index::Extra => "extra",
        })
    }
}

macro_rules! text_form {
    ($($Name:ident: $what:literal, $shape:literal;)*) => {$(
        impl Word for $Name {
            const WHAT: &'static str = $what;
            const SHAPE: &'static str = $shape;
        }

        impl Serialize for $Name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $Name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                super::read::word(deserializer)
            }
        }
    )*};
}
text_form! {
    Mode: "a file mode", "three or four octal digits, such as \"0755\"";
    Timeout: "a time", "a whole number with `s`, `m` or `h`, such as \"90s\", \"30m\" or \"1h\"";
    Owner: "an owner", "`user` or `user:group`, such as `operador:operador`";
    Variant: "a variant", "`minbase`, `buildd` or `standard`";
    Resolver: "a resolver", "`node` or `image`";
    Memory: "an amount of memory", "a whole number with `K`, `M`, `G` or `T`, such as \"512M\"";
    Share: "a share of processors", "a whole number with `%`, such as \"150%\", of one processor";
    Index: "an index", "`main` (index-url) or `extra` (extra-index-url)";
}

/// Defines newtypes over integers within a range.
macro_rules! number {
    ($(
        $(#[$about:meta])*
        pub struct $Name:ident($Int:ty): $what:literal, $from:literal..=$to:literal, $why:literal;
    )*) => {$(
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "i64", into = "i64")]
        pub struct $Name($Int);

        impl $Name {
            /// The number.
            pub fn get(self) -> $Int {
                self.0
            }
        }

        impl fmt::Display for $Name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<$Name> for i64 {
            fn from(number: $Name) -> Self {
                number.0.into()
            }
        }

        impl TryFrom<i64> for $Name {
            type Error = String;

            fn try_from(number: i64) -> Result<Self, String> {
                match <$Int>::try_from(number) {
                    Ok(fits) if ($from..=$to).contains(&fits) => Ok($Name(fits)),
                    _ => Err(format!(
                        "`{number}` is not {}: expected a whole number from {} to {}{HINT}{}",
                        $what, $from, $to, $why
                    )),
                }
            }
        }
    )*};
}

number! {
    /// The numeric id of a user or group that the recipe makes.
    pub struct Id(u32): "a user or group id", 100..=59999,
        "ids below 100 are Debian's own, those above 59999 are reserved; people begin at 1000";
    /// How much apt prefers a source; packages have 500 unless told otherwise.
    pub struct Priority(i32): "a pin priority", -32767..=32767,
        "500 is normal, 990 preferred, above 1000 also downgrades, below 0 never installs";
    /// How many leading directories of an archive are left out.
    pub struct Strip(u32): "a number of directories", 0..=32, "1 is usual: `tool-1.2/bin/tool` becomes `bin/tool`";
    /// How many processes and threads there may be.
    pub struct Tasks(u32): "a number of tasks", 8..=4_194_304, "two or three of them are the node's own; leave the key out for no bound";
    /// How many files may be open.
    pub struct OpenFiles(u32): "a number of files", 16..=1_048_576, "leave the key out for the node's own bound";
    /// How many processes of one name run.
    pub struct Count(u32): "a number of processes", 1..=64, "leave the section out for none";
}

impl Default for Count {
    fn default() -> Self {
        Count(1)
    }
}

impl Id {
    /// The first id for people.
    pub const FIRST: Id = Id(1000);
}
