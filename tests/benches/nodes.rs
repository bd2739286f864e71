//! What a node does with fanery: install and upgrade beside tar, zstd, borg and curl, on the same
//! machine in the same run.
//!
//! ```sh
//! apt-get install -y borgbackup curl nginx-light zstd xz-utils
//! cargo bench -p tests --bench nodes          # 3 rounds
//! cargo bench -p tests --bench nodes -- 1     # 1 round
//! ```
//!
//! Version 2 has the security updates of the suite. In each round every contender has its turn, on a
//! new ext4 file system; the table in Markdown has the medians of seconds from start to exit, MiB of
//! the largest process, and MB of what was fetched.
//!
//! `imgnode` refreshes and verifies the signed metadata, compares every chunk and reads the finished
//! tree back; all it wrote is on the disk when it exits. The peers unpack, believe what they read, and
//! leave writing to the kernel; *synced* are those that wait for it with sync(1) like imgnode.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use servers::nginx::Nginx;
use tests::binaries::repository;
use tests::measure::{mega, without_security};
use tests::shell::{Cost, Shell};

/// One who puts a tree on a node: what a shell runs in a directory of the benchmark, for itself in
/// `here`, a file system of its own.
struct Contender {
    name: &'static str,
    /// What is there before.
    before: &'static str,
    run: &'static str,
    /// Prints the bytes that were fetched; for ours and curl, nginx knows.
    fetched: &'static str,
}

const INIT: &str = "$imgnode --state here/state init --env dev --repo $url --root root.json";

const CONTENDERS: &[Contender] = &[
    Contender {
        name: "install: imgnode, store on this disk",
        before: "ln -sfn first served; \
                 $imgnode --state here/state init --env dev --repo $PWD/served --root root.json",
        run: "$imgnode --state here/state install fanery-node --as bench --target dir:$PWD/here/nodes",
        fetched: "",
    },
    Contender {
        name: "install: imgnode, HTTP",
        before: "ln -sfn first served; INIT",
        run: "$imgnode --state here/state install fanery-node --as bench --target dir:$PWD/here/nodes",
        fetched: "nginx",
    },
    Contender {
        name: "install: tar --zstd -x",
        before: "mkdir here/out",
        run: "tar -C here/out --zstd -xpf v1.tar.zst",
        fetched: "",
    },
    Contender {
        name: "install: tar --zstd -x, synced",
        before: "mkdir here/out",
        run: "tar -C here/out --zstd -xpf v1.tar.zst; sync -f here",
        fetched: "",
    },
    Contender {
        name: "install: tar -Jx",
        before: "mkdir here/out",
        run: "tar -C here/out -Jxpf v1.tar.xz",
        fetched: "",
    },
    Contender {
        name: "install: curl, tar --zstd -x, synced",
        before: "mkdir here/out",
        run: "curl -sS --fail $files/v1.tar.zst | tar -C here/out --zstd -xpf -; sync -f here",
        fetched: "nginx",
    },
    Contender {
        name: "upgrade: imgnode, packs",
        before: "ln -sfn first served; INIT\n\
                 $imgnode --state here/state install fanery-node --as bench --target dir:$PWD/here/nodes\n\
                 ln -sfn packs served",
        run: "$imgnode --state here/state upgrade bench",
        fetched: "nginx",
    },
    Contender {
        name: "upgrade: imgnode, delta",
        before: "ln -sfn first served; INIT\n\
                 $imgnode --state here/state install fanery-node --as bench --target dir:$PWD/here/nodes\n\
                 ln -sfn store served",
        run: "$imgnode --state here/state upgrade bench",
        fetched: "nginx",
    },
    Contender {
        name: "upgrade: zstd --patch-from, tar -x, synced",
        before: "mkdir here/out; cp v1.tar here/",
        run: "zstd -dqc --long=31 --patch-from=here/v1.tar v2.patch | tar -C here/out -xpf -; sync -f here",
        fetched: "stat -c %s v2.patch",
    },
    Contender {
        name: "upgrade: borg, growth and extract, synced",
        before: "mkdir here/out",
        run: "cd here/out; borg extract --numeric-ids ../../repo::v2; sync -f .",
        fetched: "cat borg.growth",
    },
    Contender {
        name: "upgrade: curl, tar --zstd -x, synced",
        before: "mkdir here/out",
        run: "curl -sS --fail $files/v2.tar.zst | tar -C here/out --zstd -xpf -; sync -f here",
        fetched: "nginx",
    },
];

fn main() {
    let words: Vec<_> = std::env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    let rounds: usize = words
        .first()
        .map_or(3, |word| word.parse().expect("a number of rounds"));
    let dir = tempfile::tempdir_in("/var/tmp").expect("/var/tmp is writable");
    let place = Place(Shell::new(dir.path()));
    place.prepare();
    let server = Nginx::serve(dir.path(), "");
    let mut costs: BTreeMap<&str, Vec<(Cost, u64)>> = BTreeMap::new();
    for round in 1..=rounds {
        for contender in CONTENDERS {
            eprintln!("round {round} of {rounds}: {}", contender.name);
            let cost = place.turn(contender, &server);
            costs.entry(contender.name).or_default().push(cost);
        }
    }
    println!("| | time | memory | fetched |\n|---|---|---|---|");
    for contender in CONTENDERS {
        let costs = costs.get_mut(contender.name).expect("it had its turns");
        costs.sort_by(|(a, _), (b, _)| a.seconds.total_cmp(&b.seconds));
        let (cost, fetched) = costs[costs.len() / 2];
        let fetched = match fetched {
            0 => String::new(),
            bytes => format!("{:.1} MB", mega(bytes)),
        };
        println!(
            "| {} | {:.1} s | {:.0} MiB | {fetched} |",
            contender.name, cost.seconds, cost.memory
        );
    }
}

/// The directory of the benchmark.
struct Place(Shell);

impl Place {
    /// Two versions in every form. `packs` is the store without deltas.
    fn prepare(&self) {
        // nginx is nobody.
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&self.0.dir, open).expect("it is ours");
        let recipe = self.0.dir.join("recipes/fanery.toml");
        self.0.run(&format!(
            "cp -R '{}' recipes; rm -f recipes/*.lock",
            repository().join("recipes").display()
        ));
        let whole = fs::read_to_string(&recipe).expect("a recipe of this repository");
        for (version, text) in [(1, without_security(&whole)), (2, whole)] {
            eprintln!("build version {version}");
            fs::write(&recipe, text).expect("it is ours");
            // A lock that is there keeps its versions.
            self.0.run(&format!(
                "rm -f recipes/fanery.lock; $imgbuild recipes/fanery.toml >v{version}.id"
            ));
            if version == 1 {
                self.0
                    .run("cp -al store first; cp store/env/dev/metadata/1.root.json root.json");
            }
            for format in ["tar", "tar.zst", "tar.xz"] {
                self.0.run(&format!(
                    "$imgbuild export \"$(cat v{version}.id)\" --format {format} >v{version}.{format}"
                ));
            }
        }
        self.0.run(
            "rm -rf store/deltas; cp -al store packs; $imgbuild delta \"$(cat v1.id)\" \"$(cat v2.id)\"\n\
             zstd -q -9 -T2 --long=31 --patch-from=v1.tar v2.tar -o v2.patch\n\
             borg init -e none repo\n\
             for n in 1 2; do\n\
                 rm -rf tree; mkdir tree; tar -C tree -xpf v$n.tar; du -sb repo >borg.before\n\
                 borg create -C zstd,9 repo::v$n tree\n\
             done\n\
             expr $(du -sb repo | cut -f1) - $(cut -f1 borg.before) >borg.growth; rm -rf tree",
        );
    }

    /// A contender on a file system of its own.
    fn turn(&self, contender: &Contender, server: &Nginx) -> (Cost, u64) {
        let disk = Disk::mount(&self.0.dir);
        let url = format!("export url={0}/served files={0}\n", server.url());
        let before = contender.before.replace("INIT", INIT);
        self.0.run(&format!("{url}{before}"));
        let asked = server.log().len();
        let cost = self.0.measure(&format!("{url}{}", contender.run));
        let fetched = match contender.fetched {
            "" => 0,
            "nginx" => servers::nginx::sent(&server.log()[asked..]),
            script => self.0.number(script),
        };
        if contender.name.contains("imgnode") {
            self.0.run("$imgnode --state here/state uninstall bench");
        }
        drop(disk);
        (cost, fetched)
    }
}

/// A new ext4 at `here`; gone when dropped.
struct Disk {
    mounted: PathBuf,
    image: PathBuf,
}

impl Disk {
    fn mount(dir: &Path) -> Self {
        let (mounted, image) = (dir.join("here"), dir.join("disk"));
        fs::create_dir(&mounted).expect("it is not there");
        let file = fs::File::create(&image).expect("it is not there");
        file.set_len(16 << 30).expect("it may be sparse");
        let run = |program: &str, words: &[&str], paths: &[&Path]| {
            let ended = Command::new(program).args(words).args(paths).status();
            assert!(ended.is_ok_and(|status| status.success()), "{program}");
        };
        run("mkfs.ext4", &["-q", "-E", "lazy_itable_init=0"], &[&image]);
        run("mount", &["-o", "loop"], &[&image, &mounted]);
        Self { mounted, image }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg("--recursive")
            .arg(&self.mounted)
            .status();
        let _ = fs::remove_dir(&self.mounted);
        let _ = fs::remove_file(&self.image);
    }
}
