//! What an upgrade costs: deltas beside packs, zstd, xdelta3, borg, casync and zchunk, on
//! the same versions, on the same machine in the same run.
//!
//! ```sh
//! apt-get install -y borgbackup casync nginx-light xdelta3 zchunk zstd
//! cargo bench -p tests --bench deltas                # both subjects, an hour
//! cargo bench -p tests --bench deltas -- kernel      # one of them
//! cargo bench -p tests --bench deltas -- imgbuild    # without the others
//! cargo bench -p tests --bench deltas -- fanery zstd # beside one of them
//! ```
//!
//! Three versions are built first: the recipe without its security updates, then with
//! them, then with one more file. `fanery` is Python-heavy, `kernel` has a kernel and
//! big libraries.
//!
//! Prints a table in Markdown, a row for each way and step. *Fetched* is what a machine
//! that has the first version takes for the second: what nginx sent to `imgnode`, the
//! size of the patch, what a repository or store of chunks grew by, what
//! `zck_delta_size` says. *Make* is what the publisher does for that, *apply* what the
//! machine does: `imgnode upgrade` verifies, writes and registers a whole tree, the
//! others write one file or unpack a tree. MiB are those of the largest process.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use servers::nginx::Nginx;
use tests::binaries::repository;
use tests::measure::{mega, without_security};
use tests::shell::{Cost, Shell};

/// A recipe that this benchmark has to itself.
const KERNEL: &str = r#"name = "kernel"

[bootstrap]
suite = "bookworm"

[[source]]
name = "security"
archive = "debian-security"
suite = "bookworm-security"

[[packages]]
install = ["linux-image-cloud-amd64", "libwebkit2gtk-4.1-0", "openjdk-17-jre-headless", "postgresql-15", "ffmpeg"]
"#;

/// One more file, of the third version.
const THIRD: &str = "\n[[file]]\npath = \"/etc/third\"\ncontent = \"3\"\n";

/// A program that makes a machine's step from one version to another small: what a shell
/// runs, with `v1.tar`, `v2.tar` and `v1/`, `v2/` at hand, for itself in `here`.
struct Peer {
    name: &'static str,
    /// What is there before the step.
    before: &'static str,
    make: &'static str,
    /// Prints the bytes that are fetched.
    fetched: &'static str,
    apply: &'static str,
}

const PEERS: &[Peer] = &[
    Peer {
        name: "zstd -9 --patch-from",
        before: "",
        make: "zstd -q -9 -T2 --long=31 --patch-from=v1.tar v2.tar -o here/patch",
        fetched: "stat -c %s here/patch",
        apply: "zstd -dq --long=31 --patch-from=v1.tar here/patch -o here/out",
    },
    Peer {
        name: "xdelta3 -9",
        before: "",
        make: "xdelta3 -e -9 -B 1073741824 -s v1.tar v2.tar here/patch",
        fetched: "stat -c %s here/patch",
        apply: "xdelta3 -d -B 1073741824 -s v1.tar here/patch here/out",
    },
    Peer {
        name: "borg",
        before: "borg init -e none here/repo; cp -a v1 tree; \
                 borg create -C zstd,9 here/repo::v1 tree; du -sb here/repo > here/size; \
                 rm -rf tree; cp -a v2 tree",
        make: "borg create -C zstd,9 here/repo::v2 tree",
        fetched: "expr $(du -sb here/repo | cut -f1) - $(cut -f1 here/size)",
        apply: "mkdir here/out; cd here/out; borg extract --numeric-ids ../repo::v2",
    },
    Peer {
        name: "casync",
        before: "casync make --store=here/chunks here/v1.caidx v1; du -sb here > here/size",
        make: "casync make --store=here/chunks here/v2.caidx v2",
        fetched: "expr $(du -sb here | cut -f1) - $(cut -f1 here/size)",
        apply: "casync extract --store=here/chunks --seed=v1 here/v2.caidx here/out",
    },
    Peer {
        name: "zchunk",
        before: "zck -o here/v1.zck v1.tar",
        make: "zck -o here/v2.zck v2.tar",
        fetched: "zck_delta_size here/v1.zck here/v2.zck | \
                  sed -n 's/^Would download \\([0-9]*\\) .*/\\1/p'",
        apply: "unzck -c here/v2.zck > here/out",
    },
];

fn main() {
    let mut wanted: Vec<String> = std::env::args().skip(1).collect();
    wanted.retain(|word| word != "--bench");
    let named = |peer: &Peer| peer.name.split(' ').next();
    let subjects = ["fanery", "kernel"];
    let mut peers: Vec<&Peer> = PEERS.iter().collect();
    if wanted.iter().any(|word| !subjects.contains(&&**word)) {
        peers.retain(|peer| wanted.iter().any(|word| named(peer) == Some(word)));
        wanted.retain(|word| subjects.contains(&&**word));
    }
    for subject in subjects {
        if wanted.is_empty() || wanted.iter().any(|word| word == subject) {
            let dir = tempfile::tempdir_in("/var/tmp").expect("/var/tmp is writable");
            Place(Shell::new(dir.path())).compare(subject, &peers);
        }
    }
}

/// The directory of a subject.
struct Place(Shell);

impl Place {
    fn compare(&self, subject: &str, peers: &[&Peer]) {
        // nginx is nobody.
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&self.0.dir, open).expect("it is ours");
        let recipes = repository().join("recipes");
        self.0
            .run(&format!("cp -R '{}' recipes", recipes.display()));
        self.0.run("rm -f recipes/*.lock");
        let path = self.0.dir.join(format!("recipes/{subject}.toml"));
        if subject == "kernel" {
            fs::write(&path, KERNEL).expect("it is ours");
        }
        let whole = fs::read_to_string(&path).expect("a recipe of this repository");
        let image = whole.lines().find_map(|line| line.strip_prefix("name = "));
        let image = image.expect("a recipe has a name").trim_matches('"');
        let build = |text: &str, version: u32| {
            eprintln!("{subject}: build version {version}");
            fs::write(&path, text).expect("it is ours");
            // A lock that is there keeps its versions.
            self.0.run(&format!(
                "rm -f recipes/{subject}.lock\n\
                 $imgbuild recipes/{subject}.toml > v{version}.id\n\
                 $imgbuild export \"$(cat v{version}.id)\" --format tar > v{version}.tar"
            ));
        };
        println!(
            "| {subject} | fetched | make | memory | apply | memory |\n|---|---|---|---|---|---|"
        );

        build(&without_security(&whole), 1);
        let server = Nginx::serve(&self.0.dir.join("store"), "");
        // Each is a node of its own, with what it has kept.
        let systems = ["delta", "packs", "skip"];
        for system in systems {
            self.0.run(&format!(
                "export IMGNODE_STATE=$PWD/state-{system}\n\
                 $imgnode init --env dev --repo {} --root store/env/dev/metadata/1.root.json\n\
                 $imgnode install {image} --as bench-{system} --target dir:$PWD/nodes",
                server.url()
            ));
        }
        build(&whole, 2);
        self.upgrade("delta", "delta 1 to 2", Some((1, 2)), &server);
        self.upgrade("packs", "packs 1 to 2", None, &server);
        build(&format!("{whole}{THIRD}"), 3);
        self.upgrade("delta", "delta 2 to 3", Some((2, 3)), &server);
        self.upgrade("packs", "packs 2 to 3", None, &server);
        self.upgrade("skip", "delta 1 to 3", Some((1, 3)), &server);
        for system in systems {
            self.0.run(&format!(
                "$imgnode --state state-{system} uninstall bench-{system}"
            ));
        }
        drop(server);

        self.0
            .run("rm -rf store work; for n in 1 2; do mkdir v$n; tar -C v$n -xpf v$n.tar; done");
        for peer in peers {
            eprintln!("{subject}: {}", peer.name);
            self.0.run("rm -rf here tree; mkdir here");
            self.0.run(peer.before);
            let make = self.0.measure(peer.make);
            let fetched = self.0.number(peer.fetched);
            let apply = self.0.measure(peer.apply);
            row(peer.name, fetched, &make, &apply);
        }
    }

    /// A node's way from the version it has to the newest.
    fn upgrade(&self, system: &str, name: &str, delta: Option<(u32, u32)>, server: &Nginx) {
        eprintln!("{name}");
        self.0.run("rm -rf store/deltas");
        let make = delta.map_or(Cost::default(), |(from, to)| {
            self.0.measure(&format!(
                "$imgbuild delta \"$(cat v{from}.id)\" \"$(cat v{to}.id)\""
            ))
        });
        let before = server.log().len();
        let apply = self.0.measure(&format!(
            "$imgnode --state state-{system} upgrade bench-{system}"
        ));
        let log = server.log();
        let used = log[before..].iter().any(|line| line.contains(".delta "));
        assert!(used || delta.is_none(), "{name}: the delta was not used");
        let name = format!("{name}, {} requests", log.len() - before);
        row(&name, servers::nginx::sent(&log[before..]), &make, &apply);
    }
}

fn row(name: &str, fetched: u64, make: &Cost, apply: &Cost) {
    println!(
        "| {name} | {:.1} MB | {:.1} s | {:.0} MiB | {:.1} s | {:.0} MiB |",
        mega(fetched),
        make.seconds,
        make.memory,
        apply.seconds,
        apply.memory
    );
}
