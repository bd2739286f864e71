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
    "atomic-waker",
    "base64",
    "base64ct",
    "bitflags",
    "blake3",
    "block-buffer",
    "bytes",
    "cc",
    "cfg-if",
    "clap",
    "clap_builder",
    "clap_derive",
    "clap_lex",
    "cmov",
    "colorchoice",
    "const-oid",
    "constant_time_eq",
    "cpufeatures",
    "crypto-common",
    "ctutils",
    "curve25519-dalek",
    "curve25519-dalek-derive",
    "der",
    "der_derive",
    "digest",
    "displaydoc",
    "ed25519",
    "ed25519-dalek",
    "errno",
    "fastrand",
    "find-msvc-tools",
    "flagset",
    "form_urlencoded",
    "futures-channel",
    "futures-core",
    "futures-io",
    "futures-sink",
    "futures-task",
    "futures-util",
    "getrandom",
    "glob",
    "heck",
    "hex",
    "hmac",
    "http",
    "http-body",
    "http-body-util",
    "httparse",
    "hybrid-array",
    "hyper",
    "hyper-rustls",
    "hyper-util",
    "icu_collections",
    "icu_locale_core",
    "icu_normalizer",
    "icu_normalizer_data",
    "icu_properties",
    "icu_properties_data",
    "icu_provider",
    "idna",
    "idna_adapter",
    "imgbuild-store",
    "instant-xml",
    "instant-xml-macros",
    "ipnet",
    "is_terminal_polyfill",
    "itoa",
    "jiff",
    "jiff-core",
    "jobserver",
    "libc",
    "linux-raw-sys",
    "litemap",
    "log",
    "memchr",
    "mio",
    "once_cell",
    "openssl-probe",
    "pem",
    "pem-rfc7468",
    "percent-encoding",
    "pin-project-lite",
    "pkcs8",
    "pkg-config",
    "potential_utf",
    "proc-macro2",
    "quote",
    "reqwest",
    "ring",
    "rustc_version",
    "rustix",
    "rustls",
    "rustls-native-certs",
    "rustls-pki-types",
    "rustls-platform-verifier",
    "rustls-webpki",
    "rusty-s3",
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
    "slab",
    "smallvec",
    "socket2",
    "spki",
    "stable_deref_trait",
    "strsim",
    "subtle",
    "syn",
    "sync_wrapper",
    "synstructure",
    "tempfile",
    "terminal_size",
    "thiserror",
    "thiserror-impl",
    "tinystr",
    "tokio",
    "tokio-rustls",
    "tower",
    "tower-http",
    "tower-layer",
    "tower-service",
    "tracing",
    "tracing-attributes",
    "tracing-core",
    "try-lock",
    "typenum",
    "unicode-ident",
    "untrusted",
    "url",
    "utf8_iter",
    "utf8parse",
    "utf_types",
    "verify",
    "want",
    "writeable",
    "x509-cert",
    "xmlparser",
    "yoke",
    "yoke-derive",
    "zerofrom",
    "zerofrom-derive",
    "zeroize",
    "zerotrie",
    "zerovec",
    "zerovec-derive",
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
