//! Values with more meaning than their text: modes, times, owners, numbers.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Serialize, Serializer};
use toml::Spanned;
use toml::de::DeValue;

use super::error::Fault;
use super::field::{Field, Reader};
use super::word::{Login, Unfit, string_field};

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
        bits.map(Mode).ok_or_else(|| Unfit {
            value: text.to_owned(),
            what: "a file mode",
            shape: "three or four octal digits, such as \"0755\"",
            hint: text
                .starts_with("0o")
                .then(|| "leave out the `o`: it is octal anyway".to_owned()),
        })
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl Field for Mode {
    const TAKES: &'static str = "a file mode";
    const LIST: &'static str = "a list of file modes";

    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Result<Self, Fault> {
        let fault = super::word::from_string(value, reader, "a string: a file mode");
        if let DeValue::Integer(digits) = value.get_ref() {
            // 0755 is not TOML at all, 755 and 0o755 are: both mean well, and so does 493,
            // which other programs write for 0o755.
            let typed = digits.as_str();
            let is_octal = typed.len() <= 4 && typed.bytes().all(|b| (b'0'..=b'7').contains(&b));
            let number = typed.parse::<u32>().ok().filter(|bits| *bits <= 0o7777);
            let mode = match number {
                Some(bits) if !is_octal => format!("{bits:04o}"),
                _ => format!("{typed:0>4}"),
            };
            return fault.map_err(|fault| fault.hint(format!("write it in quotes: \"{mode}\"")));
        }
        fault
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

    /// The time itself.
    pub fn duration(self) -> Duration {
        self.0
    }
}

impl FromStr for Timeout {
    type Err = Unfit;

    fn from_str(text: &str) -> Result<Self, Unfit> {
        const LONGEST: u64 = 7 * 24 * 3600;
        let unfit = |hint: Option<&str>| Unfit {
            value: text.to_owned(),
            what: "a time",
            shape: "a whole number with `s`, `m` or `h`, such as \"90s\", \"30m\" or \"1h\"",
            hint: hint.map(str::to_owned),
        };
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let scale = match &text[digits.len()..] {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "" if !digits.is_empty() => return Err(unfit(Some("add the unit: `s`, `m` or `h`"))),
            _ => return Err(unfit(None)),
        };
        if !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(unfit(None));
        }
        let number: u64 = digits.parse().map_err(|_| unfit(None))?;
        match number.checked_mul(scale) {
            Some(0) => Err(unfit(Some("a command needs some time"))),
            Some(seconds) if seconds <= LONGEST => Ok(Timeout::seconds(seconds)),
            _ => Err(unfit(Some("a week is the longest"))),
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

impl Field for Timeout {
    const TAKES: &'static str = "a time";
    const LIST: &'static str = "a list of times";

    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Result<Self, Fault> {
        let fault = super::word::from_string(value, reader, "a string: a time such as \"90s\"");
        if let DeValue::Integer(digits) = value.get_ref() {
            return fault.map_err(|fault| {
                fault.hint(format!(
                    "write it in quotes with its unit: \"{}s\"",
                    digits.as_str()
                ))
            });
        }
        fault
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
            _ => Err(Unfit {
                value: text.to_owned(),
                what: "an owner",
                shape: "`user` or `user:group`, such as `operador:operador`",
                hint: if text.starts_with(|c: char| c.is_ascii_digit()) {
                    Some("name the user: [[user]] gives a name its number".to_owned())
                } else if text.contains('.') {
                    Some("user and group are separated by `:`".to_owned())
                } else {
                    None
                },
            }),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.user, self.group)
    }
}

string_field!(Owner, "an owner", "a list of owners");

/// What debootstrap installs by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// Essential packages and apt.
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
            _ => Err(Unfit {
                value: text.to_owned(),
                what: "a variant",
                shape: "`minbase`, `buildd` or `standard`",
                hint: None,
            }),
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

string_field!(Variant, "a variant", "a list of variants");

macro_rules! serialize_as_text {
    ($($Name:ident)*) => {$(
        impl Serialize for $Name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )*};
}
serialize_as_text!(Mode Timeout Owner Variant);

/// Defines newtypes over integers within a range.
macro_rules! number {
    ($(
        $(#[$about:meta])*
        pub struct $Name:ident($Int:ty): $what:literal, $from:literal..=$to:literal, $why:literal;
    )*) => {$(
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
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

        impl Field for $Name {
            const TAKES: &'static str = $what;
            const LIST: &'static str = concat!("a list: ", $what);

            fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Result<Self, Fault> {
                let number = i64::read(value, reader)?;
                <$Int>::try_from(number)
                    .ok()
                    .filter(|number| ($from..=$to).contains(number))
                    .map($Name)
                    .ok_or_else(|| {
                        Fault::new(
                            value.span(),
                            format!(
                                "`{number}` is not {}: expected a whole number from {} to {}",
                                $what, $from, $to
                            ),
                        )
                        .hint($why)
                    })
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
}

impl Id {
    /// The first id for people.
    pub const FIRST: Id = Id(1000);
}
