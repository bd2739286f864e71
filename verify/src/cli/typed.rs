//! What was typed: the command line as clap sees it. Nothing in it was looked at.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use verify::session::Address;

const ABOUT: &str = "Installs, verifies and runs signed images on this node";

const EXAMPLES: &str = "\
Examples:
  imgnode init --env dev --repo /srv/store --root dev.root.json
  imgnode install fanery-node --as MyProject --target dir:/srv/images
  imgnode start MyProject
  imgnode status
  imgnode reload MyProject
  imgnode stop MyProject
  imgnode upgrade MyProject
  imgnode rollback MyProject
  imgnode gc --keep 1

Exit codes:
  0 done   1 failed   2 wrong usage   3 verification failed or refused   75 busy, try later";

/// The command line as typed.
#[derive(Debug, Parser)]
#[command(name = "imgnode", version, about = ABOUT, after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct LowArgs {
    /// Directory that holds what this node remembers
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "IMGNODE_STATE",
        default_value = "/var/lib/imgnode"
    )]
    pub(crate) state: PathBuf,
    /// Show each command of the host that is run
    #[arg(long, short, global = true)]
    pub(crate) verbose: bool,
    /// Say nothing on stderr but errors
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    #[command(subcommand)]
    pub(crate) command: LowCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LowCommand {
    /// Make this node follow an environment
    ///
    /// Trusts the root metadata in FILE, which must have reached this node in a way that nobody
    /// could tamper with, and reads the environment's metadata once. A node follows one environment.
    /// Given another address of the same one, it keeps its trust, and FILE is not read.
    #[command(
        after_help = "Example:\n  imgnode init --env prod --repo /srv/store --root prod.root.json"
    )]
    Init {
        /// Environment whose releases this node runs
        #[arg(long, value_name = "ENV")]
        env: String,
        /// Store that holds them: an absolute path, or the URL of a web server's folder or a bucket
        #[arg(long, value_name = "PATH|URL")]
        repo: String,
        /// Root metadata of the environment, as it was handed to you
        #[arg(long, value_name = "FILE")]
        root: PathBuf,
        /// Forget whom this node followed before; installed systems stay
        #[arg(long)]
        reset: bool,
        /// Where this node's receipts go: see `imgnode receipts set`
        #[arg(long, value_name = "PATH|URL")]
        receipts: Option<String>,
        #[command(flatten)]
        names: LowNames,
    },
    /// Install the newest release of an image and make it the active generation
    ///
    /// Where releases come in waves, the newest one that has reached this node.
    ///
    /// Fetches the environment's metadata, verifies signatures and every byte, writes the tree into
    /// a fresh directory, checks the finished tree against what was signed, registers it with
    /// schroot, and only then switches. Sessions that run keep the generation they began with. If
    /// anything fails or is interrupted, nothing has changed.
    ///
    /// Executables in /etc/imgnode/hooks.d/pre-install run before the first byte is written, those
    /// in /etc/imgnode/hooks.d/post-install afterwards, whatever happened.
    #[command(
        after_help = "Example:\n  imgnode install fanery-node --as MyProject --target dir:/srv/images"
    )]
    Install {
        /// Name of the image in the environment
        #[arg(value_name = "NAME")]
        name: String,
        /// Name of the system on this node [default: NAME]
        #[arg(long = "as", value_name = "SYSTEM")]
        system: Option<String>,
        /// Where generations are kept [default for an installed system: where it is]
        ///
        /// dir:PATH                            directories; sessions get an overlay
        /// btrfs:PATH                          subvolumes, the next a snapshot of the one before
        /// lvm:VG/LV:SIZE[:xfs|ext4[:SNAP]]    a volume each; a session is a snapshot of size SNAP
        /// lvm-thin:VG/POOL:SIZE[:xfs|ext4]    thin volumes, the next a snapshot of the one before
        // The brackets are for readers of the help.
        #[allow(rustdoc::broken_intra_doc_links)]
        #[arg(long, value_name = "TARGET", verbatim_doc_comment)]
        target: Option<String>,
        /// Take the newest release before its waves reach this node, unless it is halted
        #[arg(long)]
        ahead: bool,
        #[command(flatten)]
        output: LowOutput,
    },
    /// Install the newest release of an installed system's image
    ///
    /// As install does, into the same target. A release that is active here stays, wherever its waves
    /// are. What the active generation has already is taken from
    /// there, compared with its digest, and only the rest is fetched.
    ///
    /// A system that was started with --listen goes over to the new generation without losing a
    /// request: the new one is started and asked whether it works, then it gets the traffic, then
    /// the old one answers what it has and stops. One that does not work never gets traffic; the old
    /// one goes on and stays active. Other sessions keep the generation they began with.
    #[command(after_help = "Example:\n  imgnode upgrade MyProject")]
    Upgrade {
        /// Name of the system
        system: String,
        /// Write the newest release anew if it is installed: without what was changed in place
        #[arg(long)]
        again: bool,
        /// Take the newest release before its waves reach this node, unless it is halted
        #[arg(long)]
        ahead: bool,
        #[command(flatten)]
        traffic: LowTraffic,
        #[command(flatten)]
        output: LowOutput,
    },
    /// Make another installed generation the active one
    ///
    /// One rename; nothing is fetched or written. The environment is asked first which releases may
    /// still run; where it cannot be reached, what it said last counts. A generation whose image was
    /// revoked, or whose release is older than the oldest allowed one, stays barred. A system that
    /// was started with --listen goes over without losing a request, as in upgrade.
    #[command(after_help = "Example:\n  imgnode switch MyProject 3")]
    Switch {
        /// Name of the system
        system: String,
        /// Number of the generation; `imgnode status` lists them
        generation: u64,
        #[command(flatten)]
        traffic: LowTraffic,
        #[command(flatten)]
        output: LowOutput,
    },
    /// Go back to the generation that was active before
    #[command(after_help = "Example:\n  imgnode rollback MyProject")]
    Rollback {
        /// Name of the system
        system: String,
        #[command(flatten)]
        traffic: LowTraffic,
        #[command(flatten)]
        output: LowOutput,
    },
    /// Remove old generations
    ///
    /// The active generation, the previous one and those that a session uses always stay, and of
    /// the others the newest N.
    #[command(after_help = "Example:\n  imgnode gc MyProject --keep 1")]
    Gc {
        /// Only this system
        system: Option<String>,
        /// How many of the generations that nothing needs stay
        #[arg(long, value_name = "N", default_value_t = 0)]
        keep: usize,
        #[command(flatten)]
        output: LowOutput,
    },
    /// Install an exported tarball, carried by hand, on a logical volume
    ///
    /// TARBALL is what `imgbuild export -o` wrote; its manifest and signature must lie beside it.
    /// Nothing is written before signature, manifest and every byte of the tarball are verified with
    /// the keys of the environment that this node follows. The words are those of the script of the
    /// same name that this replaces. A system that is installed already gets a further generation.
    #[command(
        after_help = "Example:\n  imgnode build-schroot MyProject-node.tar.xz MyProject vg0 web 10G xfs"
    )]
    BuildSchroot {
        /// The exported file: .tar, .tar.zst or .tar.xz (needs xz)
        tarball: PathBuf,
        /// Name of the system on this node
        system: String,
        /// Volume group
        vg: String,
        /// Logical volume to make in it
        lv: String,
        /// Size of the volume, as in 10G
        size: String,
        /// File system on it: xfs or ext4
        #[arg(default_value = "xfs")]
        fstype: String,
        #[command(flatten)]
        output: LowOutput,
    },
    /// Start a system in a schroot session
    ///
    /// Runs the start command of the image, as the user it names, detached from this terminal, and
    /// returns when the app has stayed alive for a moment, and works if the image says how to find
    /// out. Its output goes to `imgnode logs SYSTEM`.
    ///
    /// With --listen the app gets sockets that listen already, by the protocol of systemd,
    /// which gunicorn and many others know. Another generation can then take over while requests
    /// come in. Addresses and words are remembered: without any, they are those of the last start.
    #[command(
        after_help = "Examples:\n  imgnode start MyProject --listen 0.0.0.0:8000\n  imgnode start MyProject -- --log-level debug"
    )]
    Start {
        /// Name of the system
        system: String,
        #[arg(
            long,
            value_name = "ADDRESS",
            help = "Where it listens, as 0.0.0.0:8000 or unix:/run/app.sock; repeatable"
        )]
        listen: Vec<Address>,
        /// Words added to the start command
        #[arg(last = true, value_name = "ARGS")]
        words: Vec<String>,
        /// Seconds the app must stay alive
        #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
        settle: f64,
    },
    /// Run a system in the foreground, for a service manager
    ///
    /// Starts it as start does, or takes on the session that runs already, tells its manager that it is
    /// ready, as `sd_notify(3)` has it, and stays. It follows the system from one generation to another, whoever
    /// upgrades or switches. When somebody stops the system it ends with 0; when the app dies it says
    /// so, with the last lines of its log, and ends with 1.
    ///
    /// SIGTERM and SIGINT stop the system, SIGHUP tells it to reload. While another imgnode is at
    /// work, run waits.
    #[command(
        after_help = "Examples:\n  imgnode run MyProject --listen 0.0.0.0:8000\n  imgnode run MyProject -- --log-level debug\n  systemctl enable --now imgnode@MyProject        # the unit that does it"
    )]
    Run {
        /// Name of the system
        system: String,
        #[arg(
            long,
            help = "Where it listens, as 0.0.0.0:8000 or unix:/run/app.sock; repeatable, or separated by commas",
            value_name = "ADDRESS",
            env = "IMGNODE_LISTEN",
            value_delimiter = ','
        )]
        listen: Vec<String>,
        /// Words added to the start command
        #[arg(last = true, value_name = "ARGS")]
        words: Vec<String>,
        /// Seconds the app must stay alive before it counts as ready
        #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
        settle: f64,
        /// Seconds the app may take to stop, or to reload; what has not stopped then is killed
        #[arg(long, value_name = "SECONDS", default_value_t = 30.0)]
        timeout: f64,
    },
    /// Stop a system and end its session
    ///
    /// Runs the stop command of the image and waits until the last process has ended. Processes that
    /// will not are named, and the session stays (exit code 75).
    #[command(after_help = "Example:\n  imgnode stop MyProject --timeout 120")]
    Stop {
        /// Kill what does not end in time, and say what that was
        #[arg(long)]
        force: bool,
        /// Name of the system
        system: String,
        /// Seconds the app may take to stop
        #[arg(long, value_name = "SECONDS", default_value_t = 30.0)]
        timeout: f64,
    },
    /// Tell a running system to reload
    #[command(after_help = "Example:\n  imgnode reload MyProject")]
    Reload {
        /// Name of the system
        system: String,
        /// Seconds the reload command may take
        #[arg(long, value_name = "SECONDS", default_value_t = 60.0)]
        timeout: f64,
    },
    /// Show what is installed and what runs
    #[command(
        after_help = "Examples:\n  imgnode status\n  imgnode status MyProject --json\n  imgnode status --check"
    )]
    Status {
        /// Only this system
        system: Option<String>,
        /// Write metrics for Prometheus to FILE instead
        #[arg(long, value_name = "FILE", conflicts_with = "json")]
        prometheus: Option<PathBuf>,
        /// End with 1 when something does not work, and say what
        #[arg(long)]
        check: bool,
        #[command(flatten)]
        output: LowOutput,
    },
    /// Compare an installed tree with the layout that was signed
    ///
    /// Names each file that differs, how, and the package it belongs to. Exit code 3 when any does.
    /// Reads the signed layout from the store; the tree is not changed.
    #[command(after_help = "Example:\n  imgnode verify MyProject")]
    Verify {
        /// Name of the system
        system: String,
        /// Another generation than the active one
        #[arg(long, value_name = "N")]
        generation: Option<u64>,
        #[command(flatten)]
        output: LowOutput,
    },
    /// Print what the processes of a system wrote
    #[command(
        after_help = "Examples:\n  imgnode logs MyProject -n 100\n  imgnode logs MyProject -n 10 -f"
    )]
    Logs {
        /// Name of the system
        system: String,
        /// Only the last N lines
        #[arg(long, short = 'n', value_name = "N")]
        lines: Option<usize>,
        /// Go on printing what they write, until Ctrl-C
        #[arg(long, short = 'f')]
        follow: bool,
    },
    /// Run a command in a system
    ///
    /// In the session that runs, beside the app, else in one of its own that ends with the command.
    /// The users are those of the image, whatever users this machine has. Ends as the command does.
    #[command(
        after_help = "Examples:\n  imgnode exec MyProject\n  imgnode exec MyProject --user root -- cat /etc/shadow\n  imgnode exec MyProject --timer nightly"
    )]
    Exec {
        /// Name of the system
        system: String,
        /// User of the image [default: the one of its service]
        #[arg(long, value_name = "USER")]
        user: Option<String>,
        /// Take a session of its own although one runs
        #[arg(long)]
        fresh: bool,
        /// Run the job of this timer now, unless it runs already, and note how it ended
        #[arg(long, value_name = "NAME", conflicts_with_all = ["user", "command"])]
        timer: Option<String>,
        /// Command and its words [default: the shell of the user]
        #[arg(last = true, value_name = "CMD")]
        command: Vec<String>,
    },
    /// Show or set who of this host may enter a system's sessions besides root
    ///
    /// Users and root of an image are its own: a user of the host is not let in because the image
    /// has one of that name. Nobody but root may change a generation. Without an option it shows
    /// who may.
    #[command(after_help = "Example:\n  imgnode access MyProject --users anna,bert")]
    Access {
        /// Name of the system
        system: String,
        /// Users who may begin sessions, instead of those who could before
        #[arg(long, value_name = "USER", value_delimiter = ',', num_args = 0..)]
        users: Option<Vec<String>>,
        /// Users who may begin sessions as root of the chroot, instead of those who could before
        #[arg(long, value_name = "USER", value_delimiter = ',', num_args = 0..)]
        root_users: Option<Vec<String>>,
    },
    /// Show what this node is called, or change it
    ///
    /// The waves of a release cover nodes by their groups and by a hash of their names. Both are this
    /// node's own word; who looks at receipts goes by the list of nodes that somebody signed.
    #[command(after_help = "Example:\n  imgnode name --group canary")]
    Name {
        #[command(flatten)]
        names: LowNames,
        #[command(flatten)]
        output: LowOutput,
    },
    /// Say after each operation, signed, what runs on this node
    ///
    /// A receipt is a small file, signed with a key of this node's own: which images run, since
    /// which operation, and how that went. It is written after each operation and with each upgrade
    /// that finds nothing new, and put into a folder that `imgbuild fleet status` reads. Nothing
    /// waits for it: what cannot be sent goes the next time.
    #[command(
        after_help = "Examples:\n  imgnode receipts set https://receipts.example/ --group eu\n  imgnode receipts key > web07.node       # for imgbuild fleet enrol\n  imgnode receipts send\n  imgnode receipts show"
    )]
    Receipts {
        #[command(subcommand)]
        command: LowReceipts,
    },
    /// Remove a system that does not run, with all its generations
    #[command(after_help = "Example:\n  imgnode stop MyProject && imgnode uninstall MyProject")]
    Uninstall {
        /// Name of the system
        system: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum LowReceipts {
    /// Set where receipts go from now on
    ///
    /// A directory, which has to be there, the folder of a web server that takes PUT, or a bucket.
    /// Whoever writes there needs the right to put new files, and no other.
    Set {
        /// An absolute path, or the URL of a web server's folder or a bucket
        #[arg(value_name = "PATH|URL")]
        to: String,
        #[command(flatten)]
        names: LowNames,
    },
    /// Write no more receipts; the key stays
    Off,
    /// Print the line that enrols this node: its name, its group and its public key
    Key {
        #[command(flatten)]
        names: LowNames,
        /// Make another key first; what waits to be sent is forgotten
        #[arg(long)]
        new: bool,
    },
    /// Write that this node lives, and send what waits
    Send,
    /// Show where receipts go, and what waits
    Show {
        #[command(flatten)]
        output: LowOutput,
    },
}

#[derive(Debug, Args)]
pub(crate) struct LowNames {
    /// Name of this node, in receipts and for waves [default: as before, else the machine's]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Group that this node is in [default: as before; in receipts else `default`]
    #[arg(long, value_name = "GROUP")]
    pub(crate) group: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct LowTraffic {
    /// Leave a session that runs on the generation it has
    #[arg(long)]
    pub(crate) keep_session: bool,
    /// Seconds the old generation may take to answer what it has
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0)]
    pub(crate) timeout: f64,
}

#[derive(Debug, Args)]
pub(crate) struct LowOutput {
    /// Print JSON instead of text
    #[arg(long)]
    pub(crate) json: bool,
}
