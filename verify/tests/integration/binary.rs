//! The node runs as root on every machine of the farm: what is linked into it is a decision.

use std::collections::BTreeSet;
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
    "imgbuild-common",
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
    "serde_spanned",
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
    "toml",
    "toml_datetime",
    "toml_parser",
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
    "winnow",
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

/// Nothing of a service is in a home directory: what the page names is what the units read.
#[test]
fn the_units_read_the_credentials_that_the_page_names() {
    let top = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |path: &str| std::fs::read_to_string(top.join(path)).unwrap();
    let page = read("docs/packages.md");
    for (unit, place) in [
        ("verify/systemd/imgnode@.service", "/etc/imgnode"),
        ("verify/systemd/imgnode-upgrade@.service", "/etc/imgnode"),
        ("verify/systemd/imgnode-receipts.service", "/etc/imgnode"),
        ("builder/systemd/imgbuild-refresh@.service", "/etc/imgbuild"),
    ] {
        let unit = read(unit);
        let lines = unit
            .lines()
            .filter_map(|line| line.strip_prefix("Environment="));
        let named: BTreeSet<_> = lines
            .flat_map(str::split_whitespace)
            .filter_map(|word| {
                word.split_once('=')?
                    .1
                    .strip_prefix(place)?
                    .strip_prefix('/')
            })
            .collect();
        assert_eq!(
            named,
            BTreeSet::from(["aws-config", "aws-credentials", "netrc"])
        );
        assert!(
            named
                .iter()
                .all(|name| page.contains(&format!("| `{name}` |")))
        );
    }
}
