//! What a step may not do although it is root in its tree.
//!
//! Namespaces hide the host, but root with every capability reaches through
//! them: it can set the clock, mount the host's devices, make what it was
//! handed writable, or leave its chroot. So capabilities are dropped twice,
//! for good (capabilities(7), "bounding set"):
//!
//! ```text
//! imgbuild (init, PID 1)                     all
//!  └ setpriv … schroot                       OUTER: mounts, devices, chroot
//!     └ setpriv … command in the tree        INNER: what a package's scripts need
//! ```
//!
//! Each has fewer than the one above, so that none can look into the one above
//! through /proc (ptrace(2), "access mode checking"). The settings of the
//! kernel in /proc and /sys are read-only.

use std::path::Path;

/// Of root's capabilities, what debootstrap and schroot need.
const OUTER: &str = "-all,+chown,+dac_override,+dac_read_search,+fowner,+fsetid,+kill,+setgid,\
                     +setuid,+setpcap,+net_bind_service,+net_raw,+sys_chroot,+sys_admin,+mknod,\
                     +audit_write,+setfcap";
/// Of those, what the scripts of packages and recipes need.
const INNER: &str = "-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap,\
                     +net_bind_service,+net_raw,+audit_write,+setfcap";
/// Where the kernel's settings are changed; below /proc, made read-only.
const SETTINGS: [&str; 5] = ["sys", "sysrq-trigger", "irq", "bus", "fs"];
/// What tells about the machine and is no step's business; the list that
/// container runtimes hide.
const MASKED: [&str; 14] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/kernel/debug",
    "/sys/kernel/tracing",
];
/// Where setpriv(1) is in trees since Debian 10.
const SETPRIV: [&str; 2] = ["usr/bin/setpriv", "bin/setpriv"];

/// What to put before a program of the host that works on the tree.
pub(super) fn outer() -> [&'static str; 4] {
    ["setpriv", "--bounding-set", OUTER, "--"]
}

/// What to put before a program inside the tree at `root`; none where the
/// tree is older than setpriv(1), or broken.
pub(super) fn inner(root: &Path) -> Option<[&'static str; 4]> {
    SETPRIV
        .iter()
        .any(|path| root.join(path).exists())
        .then_some(["setpriv", "--bounding-set", INNER, "--"])
}

/// Lines of schroot's fstab that make the kernel's settings read-only.
pub(super) fn read_only_settings() -> String {
    SETTINGS
        .iter()
        .map(|name| format!("/proc/{name}"))
        .filter(|path| Path::new(path).exists())
        .map(|path| format!("{path} {path} none ro,bind 0 0\n"))
        .collect()
}

/// Lines of schroot's fstab that hide [`MASKED`]: files behind the device
/// `null`, directories behind empty ones.
pub(super) fn masks(null: &str) -> String {
    let masked = MASKED.iter().map(|path| (path, Path::new(path)));
    masked
        .filter_map(|(name, path)| match path.metadata() {
            Ok(meta) if meta.is_dir() => Some(format!(
                "mask {name} tmpfs ro,nosuid,nodev,noexec,size=4k,mode=555 0 0\n"
            )),
            Ok(_) => Some(format!("{null} {name} none rw,bind 0 0\n")),
            Err(_) => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inner_set_is_a_true_subset_of_the_outer_one() {
        let outer: Vec<&str> = OUTER.split(',').collect();
        let inner: Vec<&str> = INNER.split(',').collect();
        assert!(inner.iter().all(|c| outer.contains(c)));
        for dangerous in ["+sys_admin", "+sys_chroot", "+mknod", "+dac_read_search"] {
            assert!(!inner.contains(&dangerous), "{dangerous}");
        }
        for dangerous in ["+sys_time", "+sys_module", "+sys_rawio", "+sys_ptrace"] {
            assert!(!outer.contains(&dangerous), "{dangerous}");
        }
    }
}
