//! Writes the manual pages and completions of imgbuild; see `pages`.

use builder::cli::args::LowArgs;
use clap::CommandFactory;
use pages::Manual;

const MANUAL: Manual = Manual {
    section: "1",
    exit_status: &[
        ("0", "Done."),
        (
            "1",
            "Failed; the first line on standard error says at what.",
        ),
        (
            "2",
            "The command line, a recipe or a setting means nothing.",
        ),
        ("3", "Verification failed, or a policy refused."),
        ("75", "Busy: another one is at work. Try later."),
        ("130", "Interrupted."),
    ],
    environment: &[
        ("IMGBUILD_STORE", "The store, as --store."),
        ("IMGBUILD_WORK", "Layers and logs, as --work."),
        ("IMGBUILD_KEYS", "Private keys, as --keys."),
        ("IMGBUILD_RECEIPTS", "Receipts of nodes, as --receipts."),
        (
            "IMGBUILD_ARCHIVE_NAME",
            "Address of the archive NAME, as --archive; else that of apt's sources.",
        ),
        (
            "IMGBUILD_PASSPHRASE, IMGBUILD_PASSPHRASE_FILE",
            "The passphrase of a key, or a file whose first line it is.",
        ),
        (
            "IMGBUILD_CACHE, IMGBUILD_TRUST",
            "Shared stores and the roots that are trusted there, as --cache and --trust; with commas.",
        ),
        (
            "IMGBUILD_DELTAS",
            "From how many earlier releases promote makes deltas, as --deltas.",
        ),
        (
            "IMGBUILD_PATIENCE",
            "Seconds below 1 KiB/s until a download is given up; 60.",
        ),
        (
            "SOURCE_DATE_EPOCH",
            "Seconds since 1970: import lets no time of a file be later.",
        ),
        (
            "XDG_DATA_HOME, XDG_CACHE_HOME, XDG_CONFIG_HOME",
            "Where the places of users other than root are.",
        ),
        (
            "AWS_ENDPOINT_URL_S3, AWS_REGION, AWS_PROFILE, AWS_...",
            "Buckets, as for AWS's own programs.",
        ),
        ("TMPDIR", "What is fetched is kept there meanwhile."),
        (
            "http_proxy, https_proxy, no_proxy, NETRC, SSL_CERT_FILE",
            "How web servers are reached and trusted.",
        ),
        ("NO_COLOR", "If it is not empty, nothing is coloured."),
    ],
    files: &[
        (
            "/var/lib/imgbuild",
            "The store of root; $XDG_DATA_HOME/imgbuild of others.",
        ),
        (
            "/var/cache/imgbuild",
            "Layers and logs of root, which may be removed; $XDG_CACHE_HOME/imgbuild of others.",
        ),
        (
            "/etc/imgbuild/keys",
            "Private keys of root; $XDG_CONFIG_HOME/imgbuild/keys of others.",
        ),
        (
            "NAME.lock",
            "Beside a recipe NAME.toml: every input that it was built from.",
        ),
        (
            "/etc/imgbuild/refresh.env",
            "Variables for imgbuild-refresh@ENV.service, which renews the signatures of ENV.",
        ),
    ],
    see_also: &["imgnode(8)", "debootstrap(8)", "schroot(1)", "apt-get(8)"],
};

fn main() -> std::io::Result<()> {
    pages::run(LowArgs::command(), &MANUAL, std::env::args_os())
}
