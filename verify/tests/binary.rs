//! The node runs as root on every machine of the farm: what is linked into it is a decision, and so
//! is that it needs nothing of the machine.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// Every package that may be linked into imgnode. A new one needs a reason in its commit.
const ALLOWED: &[&str] = &[
    "anstream",
    "anstyle",
    "anstyle-parse",
    "anstyle-query",
    "arrayvec",
    "base64",
    "base64ct",
    "bitflags",
    "blake3",
    "block-buffer",
    "cc",
    "cfg-if",
    "clap",
    "clap_builder",
    "clap_derive",
    "clap_lex",
    "colorchoice",
    "const-oid",
    "constant_time_eq",
    "cpufeatures",
    "crypto-common",
    "curve25519-dalek",
    "curve25519-dalek-derive",
    "der",
    "der_derive",
    "digest",
    "ed25519",
    "ed25519-dalek",
    "errno",
    "fastrand",
    "find-msvc-tools",
    "flagset",
    "futures-io",
    "getrandom",
    "glob",
    "heck",
    "hex",
    "hybrid-array",
    "imgbuild-store",
    "is_terminal_polyfill",
    "itoa",
    "jiff",
    "jiff-core",
    "jobserver",
    "libc",
    "linux-raw-sys",
    "memchr",
    "once_cell",
    "pem",
    "pem-rfc7468",
    "pin-project-lite",
    "pkcs8",
    "pkg-config",
    "proc-macro2",
    "quote",
    "rustc_version",
    "rustix",
    "rustls-pki-types",
    "semver",
    "serde",
    "serde_core",
    "serde_derive",
    "serde_json",
    "sha2",
    "shlex",
    "signal-hook",
    "signal-hook-registry",
    "signature",
    "sigstore-crypto",
    "sigstore-tuf",
    "sigstore-types",
    "spki",
    "strsim",
    "subtle",
    "syn",
    "tempfile",
    "terminal_size",
    "thiserror",
    "thiserror-impl",
    "tracing",
    "tracing-attributes",
    "tracing-core",
    "typenum",
    "unicode-ident",
    "utf8parse",
    "verify",
    "x509-cert",
    "zeroize",
    "zmij",
    "zstd",
    "zstd-safe",
    "zstd-sys",
];

#[test]
fn only_known_packages_are_linked_into_the_node() {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let listed = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--locked",
            "--offline",
            "--manifest-path",
            manifest,
            "--package",
            "verify",
        ])
        .args([
            "--edges",
            "normal,build",
            "--target",
            "x86_64-unknown-linux-musl",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ])
        .output()
        .unwrap();
    assert!(
        listed.status.success(),
        "{}",
        String::from_utf8_lossy(&listed.stderr)
    );
    let text = String::from_utf8(listed.stdout).unwrap();
    let linked: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.split(' ').next())
        .filter(|name| !name.is_empty())
        .collect();
    let allowed: BTreeSet<&str> = ALLOWED.iter().copied().collect();
    let added: Vec<_> = linked.difference(&allowed).collect();
    let gone: Vec<_> = allowed.difference(&linked).collect();
    assert!(
        added.is_empty(),
        "new in the node, not in the list above: {added:?}"
    );
    assert!(
        gone.is_empty(),
        "in the list above, no longer in the node: {gone:?}"
    );
}

#[test]
fn the_release_binary_is_static_and_small() {
    // Built here, because a binary that somebody built yesterday proves nothing.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let built = Command::new(env!("CARGO"))
        .args([
            "build",
            "--locked",
            "--offline",
            "--package",
            "verify",
            "--bin",
            "imgnode",
            "--release",
        ])
        .args([
            "--target",
            "x86_64-unknown-linux-musl",
            "--message-format",
            "json-render-diagnostics",
        ])
        .current_dir(root)
        .output()
        .unwrap();
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    let messages = String::from_utf8(built.stdout).unwrap();
    let binary = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .find_map(|message| message["executable"].as_str().map(str::to_owned))
        .expect("cargo names the binary it built");
    let bytes = std::fs::read(&binary).unwrap();
    assert!(bytes.len() <= 8 << 20, "{binary} has {} bytes", bytes.len());
    // Segments of the type PT_INTERP name a dynamic loader; a static program has none.
    let count = u16::from_le_bytes([bytes[56], bytes[57]]) as usize;
    let table = usize::try_from(u64::from_le_bytes(bytes[32..40].try_into().unwrap())).unwrap();
    let kinds = (0..count).map(|index| bytes[table + index * 56]);
    assert!(kinds.clone().any(|kind| kind == 1), "not an ELF program");
    assert!(
        !kinds.clone().any(|kind| kind == 3),
        "{binary} needs a dynamic loader"
    );
}
