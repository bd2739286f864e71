//! The store beside restic, borg, casync, ostree, zchunk and zstd, on the same
//! trees, on the same machine in the same run.
//!
//! ```sh
//! apt-get install -y b3sum borgbackup casync ostree restic zchunk zstd
//! cargo bench -p tests --bench stores                    # fanery, some 20 minutes
//! cargo bench -p tests --bench stores -- python-web      # another recipe
//! cargo bench -p tests --bench stores -- minbase imgbuild restic
//! ```
//!
//! The two versions are built first: the recipe without its security updates, then
//! with them and with another version of its app. Eight more follow from the second
//! one, each with a changed file of the app.
//!
//! Prints a table in Markdown. *First* and *second* are the publishing of the two
//! versions, *ten* is what versions three to ten add, *read* is the whole second
//! version unpacked into an empty directory, *check* is every byte of the store
//! read and compared. Seconds are from start to exit of the whole command, sizes are
//! those of the files of the store (`du --apparent-size`). All see the same tree at
//! the same path. `b3sum` over the store's files is the yardstick of *check*.
//!
//! A second table has what two versions cost in a bucket of `SeaweedFS`: requests of
//! any kind, and bytes of content in both directions.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use servers::proxy::{Fault, Proxy};
use servers::weed::{WRITER, Weed};
use tests::binaries::{imgbuild, repository};
use tests::measure::{mega, timed, without_security};

/// A program that keeps versions of a tree: what a shell runs, with the tree at
/// `tree`, the store at `store`, the version's number in `$n`.
struct Contender {
    name: &'static str,
    init: &'static str,
    publish: &'static str,
    /// Unpacks version 2 into `out`.
    read: &'static str,
    check: Option<&'static str>,
    /// Those that know nothing of earlier versions have no ten.
    keeps: bool,
}

const CONTENDERS: &[Contender] = &[
    Contender {
        name: "imgbuild",
        init: "",
        publish: "$imgbuild import tree --name v$n",
        read: "$imgbuild export v2 --format tar | tar -C out -xp --numeric-owner",
        check: Some("$imgbuild store fsck"),
        keeps: true,
    },
    Contender {
        name: "restic",
        init: "restic init",
        publish: "restic backup --tag v$n tree",
        read: "restic restore --tag v2 --target out latest",
        check: Some("restic check --read-data"),
        keeps: true,
    },
    Contender {
        name: "borg",
        init: "borg init -e none store",
        publish: "borg create -C zstd,9 store::v$n tree",
        read: "cd out && borg extract --numeric-ids ../store::v2",
        check: Some("borg check --verify-data store"),
        keeps: true,
    },
    Contender {
        name: "casync",
        init: "mkdir store",
        publish: "casync make --store=store/chunks store/v$n.caidx tree",
        read: "casync extract --store=store/chunks store/v2.caidx out/tree",
        check: None,
        keeps: true,
    },
    Contender {
        name: "ostree",
        init: "mkdir store && ostree init --repo=store --mode=archive",
        publish: "ostree commit --repo=store --branch=v$n --tree=dir=tree",
        read: "ostree checkout --repo=store v2 out/tree",
        check: Some("ostree fsck --repo=store"),
        keeps: true,
    },
    Contender {
        name: "zchunk",
        init: "mkdir store",
        publish: "tar -C tree --sort=name --numeric-owner -cf tar . && zck -o store/v$n.zck tar",
        read: "unzck -c store/v2.zck | tar -C out -xp --numeric-owner",
        check: None,
        keeps: false,
    },
    Contender {
        name: "zstd -9 -T2",
        init: "mkdir store",
        publish: "tar -C tree --sort=name --numeric-owner -c . | zstd -q -9 -T2 -o store/v$n.tar.zst",
        read: "zstd -dcq store/v2.tar.zst | tar -C out -xp --numeric-owner",
        check: None,
        keeps: false,
    },
];

fn main() {
    let mut recipe = "fanery".to_owned();
    let mut wanted: Vec<&Contender> = Vec::new();
    // Cargo adds `--bench`.
    for word in std::env::args().skip(1).filter(|w| w != "--bench") {
        match CONTENDERS.iter().find(|c| c.name.starts_with(&word)) {
            Some(contender) => wanted.push(contender),
            None => recipe = word,
        }
    }
    if wanted.is_empty() {
        wanted.extend(CONTENDERS);
    }
    let dir = tempfile::tempdir_in("/var/tmp").expect("/var/tmp is writable");
    let place = Place(dir.path());
    place.versions(&recipe);
    println!(
        "| {recipe} | first | size | second | growth | ten | growth | read | check | b3sum |\n\
         |---|---|---|---|---|---|---|---|---|---|"
    );
    for contender in wanted {
        println!("{}", place.measure(contender));
    }
    place.requests(&recipe);
}

/// The directory of the benchmark.
struct Place<'a>(&'a Path);

impl Place<'_> {
    /// Builds the two versions and unpacks them as `v1` and `v2`.
    fn versions(&self, recipe: &str) {
        self.shell(&format!(
            "cp -R '{}' recipes && rm -f recipes/*.lock",
            repository().join("recipes").display()
        ));
        let path = self.0.join(format!("recipes/{recipe}.toml"));
        let whole = fs::read_to_string(&path).expect("a recipe of this repository");
        let before = without_security(&whole);
        assert_ne!(before, whole, "{recipe} has no security updates");
        fs::write(&path, before).expect("it is ours");
        for version in ["v1", "v2"] {
            eprintln!("{recipe}: build {version}");
            if version == "v2" {
                fs::write(&path, &whole).expect("it is ours");
                // A lock that is there keeps its versions.
                self.shell("rm recipes/*.lock; grep -rlF 0.0.1 recipes | xargs -r sed -i 's/0\\.0\\.1/0.0.2/'");
            }
            self.shell(&format!(
                "$imgbuild recipes/{recipe}.toml --store built --work work > image\n\
                 mkdir {version}\n\
                 $imgbuild export \"$(cat image)\" --format tar --store built |\n\
                     tar -C {version} -xp --numeric-owner"
            ));
        }
        self.shell("rm -rf built work recipes");
    }

    fn measure(&self, contender: &Contender) -> String {
        eprintln!("{}", contender.name);
        self.shell("rm -rf store out cache tree tar");
        self.shell(contender.init);
        let mut row = format!("| {}", contender.name);
        let mut before = 0;
        let mut publish = |numbers: std::ops::RangeInclusive<u32>, row: &mut String| {
            let mut taken = Duration::ZERO;
            for n in numbers {
                match n {
                    // At the same path, as a machine's root is.
                    1 | 2 => self.shell(&format!("rm -rf tree && cp -a v{n} tree")),
                    _ => self.shell(&format!(
                        "find tree -path '*/site-packages/*' -name __init__.py | sort |\n\
                             head -n 1 | xargs sed -i '$ a # {n}'"
                    )),
                };
                taken += self.shell(&format!("n={n}; {}", contender.publish));
            }
            let size = self.size();
            let grown = size.saturating_sub(before);
            before = size;
            let _ = write!(
                row,
                " | {:.1} s | {:.1} MB",
                taken.as_secs_f64(),
                mega(grown)
            );
        };
        publish(1..=1, &mut row);
        publish(2..=2, &mut row);
        if contender.keeps {
            publish(3..=10, &mut row);
        } else {
            row.push_str(" | | ");
        }
        let seconds = |taken: Duration| format!(" | {:.1} s", taken.as_secs_f64());
        row += &seconds(self.shell(&format!("mkdir out; {}", contender.read)));
        match contender.check {
            Some(check) => row += &seconds(self.shell(check)),
            None => row.push_str(" |"),
        }
        let b3sum = "find store -type f -print0 | xargs -0 b3sum > sums";
        row += &seconds(self.shell(b3sum));
        row.push_str(" |");
        row
    }

    /// What the second version costs in a bucket, counted by a proxy before it.
    fn requests(&self, recipe: &str) {
        self.shell("rm -rf store out cache tree");
        let weed = Weed::start();
        let proxy = Proxy::start(weed.port(), |_| Fault::None);
        let through = |script: &str| {
            let (asked, moved) = (proxy.asked().len(), proxy.moved());
            let mut variables = weed.environment(WRITER);
            variables[0].1 = proxy.url();
            let variables = variables.map(|(name, value)| format!("export {name}={value}; "));
            self.shell(&format!("{}{script}", variables.concat()));
            let asked = &proxy.asked()[asked..];
            let ranges = asked.iter().filter(|asked| asked.start().is_some()).count();
            let moved = mega(proxy.moved() - moved);
            format!("{} | {ranges} | {moved:.1} MB |", asked.len())
        };
        println!(
            "\n| {recipe} in a bucket | requests | of them ranges | moved |\n|---|---|---|---|"
        );
        for (n, version) in [(1, "first"), (2, "second")] {
            let import =
                format!("$imgbuild import v{n} --name web --store s3://images/a > v{n}.id");
            println!("| publish the {version} version | {}", through(&import));
        }
        for (n, version) in [(1, "first"), (2, "second")] {
            let copy = format!("$imgbuild store copy s3://images/a store \"$(cat v{n}.id)\"");
            println!("| pull the {version} version | {}", through(&copy));
        }
    }

    /// Runs a line of shell in the directory.
    fn shell(&self, script: &str) -> Duration {
        let dir = |name: &str| self.0.join(name);
        let mut command = Command::new("sh");
        command
            .current_dir(self.0)
            .args(["-euc", script])
            .env("imgbuild", imgbuild())
            .env("IMGBUILD_STORE", dir("store"))
            .env("IMGBUILD_KEYS", dir("keys"))
            .env("RESTIC_REPOSITORY", dir("store"))
            .env("RESTIC_PASSWORD", "of this benchmark")
            .env("RESTIC_CACHE_DIR", dir("cache"))
            .env("BORG_BASE_DIR", dir("cache"))
            .env("BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK", "yes");
        timed(&mut command)
    }

    /// Bytes of the files of the store.
    fn size(&self) -> u64 {
        let mut command = Command::new("du");
        let out = command.args(["-sb", "--"]).arg(self.0.join("store"));
        let out = out.output().expect("du is there").stdout;
        let text = String::from_utf8_lossy(&out).into_owned();
        let number = text.split_whitespace().next().unwrap_or_default();
        number.parse().expect("du prints a number")
    }
}
