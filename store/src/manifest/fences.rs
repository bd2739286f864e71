//! What bounds the processes of an application on a node.

use serde::{Deserialize, Serialize};

/// Bounds of each process that a node starts, with all that it starts itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fences {
    /// Bytes of memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Time of processors, in percent of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<u64>,
    /// Processes and threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tasks: Option<u64>,
    /// Open files of one process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_files: Option<u64>,
    /// Whether no program gains rights by set-user-ID bits and file capabilities.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_new_privileges: bool,
    /// Whether the network is empty, but for the sockets that are passed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub private_network: bool,
    /// Whether the tree of a session cannot be written.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
}

impl Fences {
    /// Whether nothing is bounded.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Each of them as a recipe says it.
    pub fn lines(&self) -> Vec<String> {
        let number = |name: &str, value: Option<u64>| value.map(|value| format!("{name} {value}"));
        let flag = |name: &str, set: bool| set.then(|| name.to_owned());
        let all = [
            self.memory
                .map(|bytes| format!("memory {}", in_units(bytes))),
            self.cpu.map(|percent| format!("cpu {percent}%")),
            number("tasks", self.tasks),
            number("open-files", self.open_files),
            flag("no-new-privileges", self.no_new_privileges),
            flag("private-network", self.private_network),
            flag("read-only", self.read_only),
        ];
        all.into_iter().flatten().collect()
    }

    /// Refuses what lets nothing run, and what no node could keep.
    pub fn check(&self) -> Result<(), String> {
        let bounds = [
            ("memory", self.memory, 1 << 20, u64::MAX, "1M or more"),
            ("cpu", self.cpu, 1, 1_000_000, "1% to 1000000%"),
            ("tasks", self.tasks, 8, 1 << 22, "8 to 4194304"),
            ("open-files", self.open_files, 16, 1 << 20, "16 to 1048576"),
        ];
        for (name, value, least, most, words) in bounds {
            if value.is_some_and(|value| !(least..=most).contains(&value)) {
                return Err(format!("the fence `{name}` is {words}"));
            }
        }
        Ok(())
    }
}

/// The binary units of `systemd.resource-control(5)`, as powers of two.
const UNITS: [(&str, u32); 4] = [("T", 40), ("G", 30), ("M", 20), ("K", 10)];

/// Bytes from a whole number with `K`, `M`, `G` or `T`, of 1024 each; not none.
pub fn bytes_of(text: &str) -> Option<u64> {
    let (unit, shift) = UNITS.into_iter().find(|(unit, _)| text.ends_with(unit))?;
    let number = whole(text.strip_suffix(unit)?)?;
    number.checked_mul(1 << shift)
}

/// The number before `%`; not none.
pub fn percent_of(text: &str) -> Option<u64> {
    whole(text.strip_suffix('%')?)
}

fn whole(digits: &str) -> Option<u64> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.parse().ok().filter(|number| *number > 0);
    number.filter(|_| plain)
}

/// Bytes in the largest unit that says them exactly.
pub fn in_units(bytes: u64) -> String {
    let exact = UNITS
        .into_iter()
        .find(|(_, shift)| bytes.is_multiple_of(1 << shift));
    exact.map_or_else(
        || format!("{bytes} bytes"),
        |(unit, shift)| format!("{}{unit}", bytes >> shift),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_they_are_written() {
        for (text, bytes) in [("512M", 512 << 20), ("1G", 1 << 30), ("1536K", 1536 << 10)] {
            assert_eq!(bytes_of(text), Some(bytes));
            assert_eq!(in_units(bytes), text);
        }
        for wrong in [
            "",
            "M",
            "0M",
            "1.5G",
            "-1M",
            "+1M",
            "512",
            "99999999999T",
            "1m",
        ] {
            assert_eq!(bytes_of(wrong), None, "{wrong}");
        }
        assert_eq!(percent_of("150%"), Some(150));
        for wrong in ["%", "0%", "150", "1.5%"] {
            assert_eq!(percent_of(wrong), None, "{wrong}");
        }
    }
}
