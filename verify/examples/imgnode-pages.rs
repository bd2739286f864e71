//! Writes the manual pages and completions of imgnode; see `pages`.

// The command line belongs to the program and not to the library.
#[path = "../src/cli/typed.rs"]
#[allow(dead_code, reason = "only its words are of interest here")]
mod typed;

use clap::CommandFactory;
use pages::Manual;

const MANUAL: Manual = Manual {
    section: "8",
    exit_status: &[
        ("0", "Done."),
        (
            "1",
            "Failed; the first line on standard error says at what.",
        ),
        ("2", "The command line means nothing."),
        (
            "3",
            "Verification failed, or something that is not allowed was refused.",
        ),
        (
            "75",
            "Busy: another imgnode is at work, or processes will not end. Try later.",
        ),
    ],
    environment: &[
        ("IMGNODE_STATE", "What this node remembers, as --state."),
        (
            "AWS_ENDPOINT_URL_S3, AWS_REGION, AWS_PROFILE, AWS_...",
            "Buckets, as for AWS's own programs.",
        ),
        (
            "IMGBUILD_PATIENCE",
            "Seconds below 1 KiB/s until a download is given up; 60.",
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
            "/var/lib/imgnode",
            "What this node remembers: trusted metadata, generations, sessions, logs. Root's alone.",
        ),
        (
            "/etc/imgnode/hooks.d/pre-install, /etc/imgnode/hooks.d/post-install",
            "Executables that run before and after a system is changed.",
        ),
        (
            "/etc/imgnode/SYSTEM.env",
            "Variables for imgnode@SYSTEM.service and imgnode-upgrade@SYSTEM.service.",
        ),
        (
            "/etc/schroot/chroot.d/imgnode-SYSTEM.conf",
            "The chroot of a system; written by imgnode.",
        ),
        (
            "/usr/share/doc/imgnode/node.md.gz",
            "Targets, sessions and going over, at length.",
        ),
    ],
    see_also: &[
        "imgbuild(1)",
        "schroot(1)",
        "schroot.conf(5)",
        "lvmthin(7)",
        "systemd.service(5)",
    ],
};

fn main() -> std::io::Result<()> {
    pages::run(typed::LowArgs::command(), &MANUAL, std::env::args_os())
}
