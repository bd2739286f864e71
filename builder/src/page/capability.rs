//! File capabilities in words, as `getcap` shows them.

/// Of `linux/capability.h`, by their numbers.
const NAMES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// The extended attribute that they are in.
pub(super) const ATTRIBUTE: &str = "security.capability";

/// The capabilities of a value of `security.capability` (capabilities(7)) in hexadecimal; `None` for
/// what is not one.
pub(super) fn words(value_hex: &str) -> Option<String> {
    let bytes = common::hex::decode(value_hex)?;
    let (words, rest) = bytes.as_chunks::<4>();
    let word = |at: usize| words.get(at).map(|word| u32::from_le_bytes(*word));
    let magic = word(0)?;
    let (count, owner) = match magic >> 24 {
        1 => (1, false),
        2 => (2, false),
        3 => (2, true),
        _ => return None,
    };
    if !rest.is_empty() || words.len() != 1 + 2 * count + usize::from(owner) {
        return None;
    }
    // Permitted and inheritable, the low halves before the high ones.
    let set = |first: usize| -> Option<u64> {
        let high = if count == 2 { word(first + 2)? } else { 0 };
        Some(u64::from(high) << 32 | u64::from(word(first)?))
    };
    let (permitted, inheritable) = (set(1)?, set(2)?);
    let mut shown = Vec::new();
    let effective = if magic & 1 == 1 { "e" } else { "" };
    for (set, flags) in [
        (permitted & !inheritable, "p"),
        (permitted & inheritable, "ip"),
        (inheritable & !permitted, "i"),
    ] {
        let names: Vec<String> = (0..64).filter(|n| set >> n & 1 == 1).map(name).collect();
        if !names.is_empty() {
            shown.push(format!("{}={effective}{flags}", names.join(",")));
        }
    }
    if owner {
        shown.push(format!("for the root user {}", word(1 + 2 * count)?));
    }
    Some(if shown.is_empty() {
        "none".to_owned()
    } else {
        shown.join(" ")
    })
}

fn name(number: usize) -> String {
    NAMES
        .get(number)
        .map_or_else(|| number.to_string(), |name| format!("cap_{name}"))
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn values_are_shown_as_getcap_does() {
        for (hex, shown) in [
            // ping of Debian.
            (
                "0100000200200000000000000000000000000000",
                Some("cap_net_raw=ep"),
            ),
            (
                "0000000200040000000400000000000000000000",
                Some("cap_net_bind_service=ip"),
            ),
            ("010000020004000000000000c00100000000000", None),
            (
                "010000020000000000000000c001000000000000",
                Some("cap_perfmon,cap_bpf,cap_checkpoint_restore=ep"),
            ),
            ("010000030020000000000000000000000000000000e8030000", None),
            (
                "0100000300200000000000000000000000000000a0860100",
                Some("cap_net_raw=ep for the root user 100000"),
            ),
            ("010000010020000000000000", Some("cap_net_raw=ep")),
            ("0000000200000000000000000000000000000000", Some("none")),
            ("01ff", None),
            ("", None),
        ] {
            let expected = shown.map(str::to_owned);
            // The first byte of the version says which it is.
            assert_eq!(words(hex), expected, "{hex}");
        }
    }
}
