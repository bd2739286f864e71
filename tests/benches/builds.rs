//! Builds beside mmdebstrap and debootstrap, on the same machine in the same run.
//!
//! ```sh
//! apt-get install -y mmdebstrap
//! cargo bench -p tests --bench builds                 # both recipes, 3 rounds
//! cargo bench -p tests --bench builds -- minbase 1    # one recipe, 1 round
//! ```
//!
//! Prints a table in Markdown: the median of the rounds, in seconds from start to
//! exit, and how that compares with mmdebstrap. In each round every contender
//! has its turn.
//!
//! - *cold*: nothing is here but the program. Everything comes from the machine's
//!   own archives.
//! - *locked*: the store has the inputs that the lock names, and nothing else is
//!   here. The peers install the same packages from a local archive, signatures
//!   unchecked, which is the best that can happen to them.
//! - *nothing changed*: the same command again.
//! - *app changed*: another version of the app of `fanery.toml`, one more file in
//!   `minbase.toml`.
//!
//! Each contender has a new ext4 file system to itself, in a file: one on which many
//! files were just deleted finds free inodes slowly, whoever deleted them.
//!
//! The peers install the packages of the lock and stop there. What `imgbuild` does
//! beyond that is in its figures: virtualenvs, tests, the leak gate, the signed
//! image in the store.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tests::archive::{architecture, archive_address, sha256};
use tests::binaries::{imgbuild, repository};
use tests::measure::timed;

/// A recipe of `recipes/` and how its app changes.
struct Subject {
    name: &'static str,
    suite: &'static str,
    change: fn(&Path),
}

const SUBJECTS: &[Subject] = &[
    Subject {
        name: "minbase",
        suite: "bookworm",
        change: |recipes| {
            let file = "\n[[file]]\npath = \"/etc/app\"\ncontent = \"2\"\n";
            edit(&recipes.join("minbase.toml"), |text| text + file);
        },
    },
    Subject {
        name: "fanery",
        suite: "bullseye",
        change: |recipes| {
            for file in ["fanery.toml", "fanery/myproject/setup.py"] {
                edit(&recipes.join(file), |text| text.replace("0.0.1", "0.0.2"));
            }
        },
    },
];

fn main() {
    let mut rounds = 3;
    let mut wanted: Vec<&Subject> = Vec::new();
    // Cargo adds `--bench`.
    for word in std::env::args().skip(1).filter(|w| w != "--bench") {
        match (SUBJECTS.iter().find(|s| s.name == word), word.parse()) {
            (Some(subject), _) => wanted.push(subject),
            (None, Ok(number)) if number > 0 => rounds = number,
            _ => panic!("`{word}` is neither a recipe of this benchmark nor a number of rounds"),
        }
    }
    if wanted.is_empty() {
        wanted.extend(SUBJECTS);
    }

    let mut table = Table::default();
    for subject in wanted {
        for round in 0..rounds {
            eprintln!("{}: round {} of {rounds}", subject.name, round + 1);
            subject.round(&mut table);
        }
    }
    print!("{}", table.markdown());
}

impl Subject {
    /// Every contender once.
    fn round(&self, table: &mut Table) {
        let dir = tempfile::tempdir_in("/var/tmp").expect("/var/tmp is writable");
        let place = Place::new(dir.path());
        let recipes = place.recipes();
        let recipe = recipes.join(format!("{}.toml", self.name));
        let mut row = |what: &str, who: &'static str, seconds: Duration| {
            table.add(format!("{} {what}", self.name), who, seconds);
        };

        row("cold", "imgbuild", place.build(&recipe, "cold", &[]));
        let lock = fs::read_to_string(recipe.with_extension("lock")).expect("it was written");
        let debs = debs(&lock);
        let names: Vec<&str> = debs.iter().map(|deb| &*deb.name).collect();
        let main = format!("deb {} {} main", archive_address("/debian/"), self.suite);
        let mut sources = vec![main];
        if lock.contains("archive = \"debian-security\"") {
            let address = archive_address("/debian-security/");
            sources.push(format!("deb {address} {}-security main", self.suite));
        }
        row(
            "cold",
            "mmdebstrap",
            place.mmdebstrap(self.suite, &names, &sources),
        );
        let address = archive_address("/debian/");
        let cold = place.debootstrap(self.suite, &names, &address, &[]);
        row("cold", "debootstrap", cold);

        place.store_of_inputs("cold", "warm");
        let frozen = |store| place.build(&recipe, store, &["--frozen"]);
        row("locked", "imgbuild", frozen("warm"));
        let archive = place.local_archive(self.suite, &debs);
        let source = format!("deb [trusted=yes] copy://{archive} {} main", self.suite);
        row(
            "locked",
            "mmdebstrap",
            place.mmdebstrap(self.suite, &names, &[source]),
        );
        let address = format!("file://{archive}");
        let locked = place.debootstrap(self.suite, &names, &address, &["--no-check-gpg"]);
        row("locked", "debootstrap", locked);

        row("nothing changed", "imgbuild", frozen("warm"));
        (self.change)(&recipes);
        row("app changed", "imgbuild", place.build(&recipe, "warm", &[]));
    }
}

/// One package of a lock.
struct Deb {
    name: String,
    path: String,
    sha256: String,
}

fn debs(lock: &str) -> Vec<Deb> {
    let section = |text: &str| {
        let field = |name: &str| {
            let start = format!("{name} = \"");
            let line = text.lines().find_map(|l| l.strip_prefix(&start));
            line.and_then(|l| l.strip_suffix('"')).map(str::to_owned)
        };
        Some(Deb {
            name: field("name")?,
            path: field("path")?,
            sha256: field("sha256")?.strip_prefix("sha256:")?.to_owned(),
        })
    };
    let sections = lock.split("\n[[").filter(|s| s.starts_with("deb]]"));
    sections.filter_map(section).collect()
}

/// The directory of one round, and the file systems in it.
struct Place<'a> {
    dir: &'a Path,
    mounted: RefCell<Vec<PathBuf>>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        for path in self.mounted.borrow().iter() {
            // A peer that fails may leave mounts of its own inside.
            let ended = Command::new("umount").arg("--recursive").arg(path).status();
            if !ended.is_ok_and(|status| status.success()) {
                eprintln!("{} stays mounted: end it by hand", path.display());
            }
        }
    }
}

impl<'a> Place<'a> {
    fn new(dir: &'a Path) -> Self {
        let mounted = RefCell::default();
        Self { dir, mounted }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A new file system, mounted at `name`.
    fn mount(&self, name: &str) -> PathBuf {
        let (path, image) = (self.path(name), self.path(&format!("{name}.ext4")));
        fs::create_dir(&path).expect("it is new");
        let file = fs::File::create(&image).expect("it is new");
        file.set_len(32 << 30).expect("it may be sparse");
        let mut format = Command::new("mkfs.ext4");
        timed(format.args(["-q", "-E", "lazy_itable_init=0"]).arg(&image));
        let mut mount = Command::new("mount");
        timed(mount.args(["-o", "loop"]).arg(&image).arg(&path));
        self.mounted.borrow_mut().push(path.clone());
        path
    }

    /// The recipes, without locks.
    fn recipes(&self) -> PathBuf {
        let mut copy = Command::new("cp");
        timed(
            copy.arg("-R")
                .arg(repository().join("recipes"))
                .arg(self.dir),
        );
        let recipes = self.path("recipes");
        for subject in SUBJECTS {
            let _ = fs::remove_file(recipes.join(subject.name).with_extension("lock"));
        }
        recipes
    }

    /// A build in the file system of that name, with store and work directory there.
    fn build(&self, recipe: &Path, place: &str, more: &[&str]) -> Duration {
        if !self.path(place).exists() {
            self.mount(place);
        }
        let mut command = Command::new(imgbuild());
        command
            .env("IMGBUILD_STORE", self.path(place).join("store"))
            .env("IMGBUILD_WORK", self.path(place).join("work"))
            .env("IMGBUILD_KEYS", self.path("keys"));
        timed(command.arg(recipe).args(more))
    }

    fn mmdebstrap(&self, suite: &str, names: &[&str], sources: &[String]) -> Duration {
        let dir = self.mount(&format!("mmdebstrap-{}", self.mounted.borrow().len()));
        let mut command = Command::new("mmdebstrap");
        command
            .env("TMPDIR", &dir)
            .arg("--variant=minbase")
            // As debootstrap decides it: by the suite.
            .arg("--hook-dir=/usr/share/mmdebstrap/hooks/maybe-merged-usr")
            .arg(format!("--include={}", names.join(",")))
            .arg(suite)
            .arg(dir.join("tar"))
            .args(sources);
        timed(&mut command)
    }

    fn debootstrap(&self, suite: &str, names: &[&str], address: &str, more: &[&str]) -> Duration {
        let dir = self.mount(&format!("debootstrap-{}", self.mounted.borrow().len()));
        let mut command = Command::new("debootstrap");
        command
            .arg("--variant=minbase")
            .arg(format!("--include={}", names.join(",")))
            .args(more)
            .arg(suite)
            .arg(dir.join("root"))
            .arg(address);
        timed(&mut command)
    }

    /// A store that has what another has fetched.
    fn store_of_inputs(&self, from: &str, to: &str) {
        let (from, to) = (self.path(from).join("store"), self.mount(to).join("store"));
        fs::create_dir(&to).expect("it is new");
        for item in ["imgbuild-store", "inputs"] {
            let mut copy = Command::new("cp");
            timed(copy.arg("-a").arg(from.join(item)).arg(&to));
        }
    }

    /// An unsigned archive of exactly these packages.
    fn local_archive(&self, suite: &str, debs: &[Deb]) -> String {
        let root = self.path("archive");
        for deb in debs {
            let path = root.join(&deb.path);
            fs::create_dir_all(path.parent().expect("below the pool")).expect("it is ours");
            let inputs = self.path("warm/store/inputs/sha256");
            fs::copy(inputs.join(&deb.sha256), path).expect("the store retains it");
        }
        let mut scan = Command::new("dpkg-scanpackages");
        let scanned = scan.current_dir(&root).args(["--multiversion", "pool"]);
        let packages = scanned
            .output()
            .expect("tests/run installs dpkg-dev")
            .stdout;
        let index = format!("main/binary-{}/Packages", architecture());
        let dists = root.join("dists").join(suite);
        let path = dists.join(&index);
        fs::create_dir_all(path.parent().expect("below dists")).expect("it is ours");
        fs::write(path, &packages).expect("it is ours");
        let release = format!(
            "Suite: {suite}\nCodename: {suite}\nComponents: main\nArchitectures: {}\n\
             SHA256:\n {} {} {index}\n",
            architecture(),
            sha256(&packages),
            packages.len(),
        );
        fs::write(dists.join("Release"), release).expect("it is ours");
        root.display().to_string()
    }
}

fn edit(path: &Path, change: impl FnOnce(String) -> String) {
    let text = fs::read_to_string(path).expect("the recipe is there");
    fs::write(path, change(text)).expect("it is ours");
}

/// Times by row and contender.
#[derive(Default)]
struct Table {
    rows: Vec<String>,
    times: BTreeMap<(String, &'static str), Vec<Duration>>,
}

impl Table {
    fn add(&mut self, row: String, who: &'static str, taken: Duration) {
        eprintln!("  {row:24} {who:12} {:8.2} s", taken.as_secs_f64());
        if !self.rows.contains(&row) {
            self.rows.push(row.clone());
        }
        self.times.entry((row, who)).or_default().push(taken);
    }

    fn median(&self, row: &str, who: &'static str) -> Option<f64> {
        let mut times = self.times.get(&(row.to_owned(), who))?.clone();
        times.sort();
        Some(times[times.len() / 2].as_secs_f64())
    }

    fn markdown(&self) -> String {
        let mut out = "| build | imgbuild | mmdebstrap | debootstrap | imgbuild / mmdebstrap |\n\
                       |---|---|---|---|---|\n"
            .to_owned();
        for row in &self.rows {
            let cell = |who| {
                let median = self.median(row, who);
                median.map_or_else(String::new, |s| format!("{s:.1} s"))
            };
            let ours = self.median(row, "imgbuild");
            let theirs = self.median(row, "mmdebstrap");
            let ratio = ours.zip(theirs).map(|(a, b)| format!("{:.2}", a / b));
            let _ = writeln!(
                out,
                "| {row} | {} | {} | {} | {} |",
                cell("imgbuild"),
                cell("mmdebstrap"),
                cell("debootstrap"),
                ratio.unwrap_or_default()
            );
        }
        out
    }
}
