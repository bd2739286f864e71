//! Directories beside a recipe, and what becomes of them.

use store::ImageId;

use super::*;
use crate::lockfile::Base;
use crate::process::Tool;

struct Source {
    dir: tempfile::TempDir,
}

impl Source {
    /// A directory as one gets it under this umask.
    fn new(umask: u32) -> Self {
        let source = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        for dir in ["app", "app/sub"] {
            fs::create_dir(source.path(dir)).unwrap();
            source.mode(dir, 0o777 & !umask);
        }
        source.write("app/sub/a.py", 0o666 & !umask);
        source.write("app/run", 0o777 & !umask);
        source
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), PermissionsExt::from_mode(mode)).unwrap();
    }

    fn write(&self, name: &str, mode: u32) {
        fs::write(self.path(name), name).unwrap();
        self.mode(name, mode);
    }

    fn digest(&self, exclude: &[&str]) -> Sha256 {
        self.read(&Taken::Copied(exclude.to_vec())).0
    }

    fn notes(&self, exclude: &[&str]) -> Vec<String> {
        self.read(&Taken::Copied(exclude.to_vec())).1
    }

    fn read(&self, taken: &Taken<'_>) -> (Sha256, Vec<String>) {
        let mut notes = Vec::new();
        let remembered = Remembered::below(self.dir.path());
        let place = Place {
            beside: self.dir.path(),
            remembered: &remembered,
            retain: None,
        };
        let read = place.read_one("app", taken, &mut notes);
        (read.unwrap().0.sha256, notes)
    }

    /// Each entry of the package, with where it links to.
    fn package(&self) -> Result<Vec<String>> {
        let (app, mut spool) = (self.path("app"), tempfile::tempfile().unwrap());
        let meta = fs::metadata(&app).unwrap();
        Archive::of(&app, self.dir.path(), &meta, &Taken::Package, &mut spool)?;
        std::io::Seek::rewind(&mut spool).unwrap();
        let mut archive = tar::Archive::new(spool);
        let entries = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            match entry.link_name().unwrap() {
                Some(target) => format!("{path} -> {}", target.display()),
                None => path,
            }
        });
        Ok(entries.collect())
    }

    /// Each entry of the archive, with its mode.
    fn entries(&self) -> Vec<String> {
        let (app, mut spool) = (self.path("app"), tempfile::tempfile().unwrap());
        let as_it_is = Taken::Copied(Vec::new());
        let meta = fs::metadata(&app).unwrap();
        Archive::of(&app, self.dir.path(), &meta, &as_it_is, &mut spool).unwrap();
        std::io::Seek::rewind(&mut spool).unwrap();
        let mut archive = tar::Archive::new(spool);
        let entry = |entry: std::io::Result<tar::Entry<'_, File>>| {
            let entry = entry.unwrap();
            let link = entry.link_name().unwrap();
            let link = link.map_or(String::new(), |link| format!(" = {}", link.display()));
            let mode = entry.header().mode().unwrap();
            format!("{mode:04o} {}{link}", entry.path().unwrap().display())
        };
        archive.entries().unwrap().map(entry).collect()
    }
}

#[test]
fn a_directory_is_the_same_under_every_umask() {
    let usual = Source::new(0o022);
    for umask in [0o002, 0o027, 0o077, 0] {
        let other = Source::new(umask);
        assert_eq!(other.digest(&[]), usual.digest(&[]), "{umask:03o}");
    }
    // Shared by a group.
    let shared = Source::new(0o002);
    shared.mode("app", 0o2775);
    shared.mode("app/sub", 0o2775);
    assert_eq!(shared.digest(&[]), usual.digest(&[]));
    usual.mode("app/sub/a.py", 0o755);
    assert_ne!(shared.digest(&[]), usual.digest(&[]));
}

#[test]
fn a_directory_is_copied_as_it_is() {
    let source = Source::new(0o022);
    for (name, mode) in [
        ("app/secret", 0o600),
        ("app/fixed", 0o444),
        ("app/mine", 0o400),
        ("app/as-root", 0o4755),
        ("app/x.pyc", 0o644),
        ("app/.b.swp", 0o664),
    ] {
        source.write(name, mode);
    }
    fs::create_dir(source.path("app/a.egg-info")).unwrap();
    source.mode("app/a.egg-info", 0o1777);
    fs::hard_link(source.path("app/run"), source.path("app/sub/run")).unwrap();
    let expected = [
        "0664 .b.swp",
        "1777 a.egg-info",
        "4755 as-root",
        "0444 fixed",
        "0400 mine",
        "0755 run",
        "0600 secret",
        "0755 sub",
        "0644 sub/a.py",
        "0755 sub/run = run",
        "0644 x.pyc",
    ];
    assert_eq!(source.entries(), expected);
}

#[test]
fn what_is_left_out_is_said() {
    let source = Source::new(0o022);
    let plain = source.digest(&[]);
    assert!(source.notes(&["*.pyc"]).is_empty());
    fs::create_dir(source.path("app/.git")).unwrap();
    source.write("app/sub/a.pyc", 0o644);
    source.write("app/a.pyc", 0o644);
    assert_eq!(source.digest(&[".git", "*.pyc"]), plain);
    assert_ne!(source.digest(&[".git", "sub/*.pyc"]), plain);
    let said = source.notes(&[".git", "*.pyc"]);
    assert_eq!(said, ["left out of app: .git and 2 more"]);
    let said = source.notes(&[]);
    assert!(
        said[0].starts_with("app has .git, which differs"),
        "{said:?}"
    );
}

#[test]
fn a_python_package_is_readable_and_without_debris() {
    let source = Source::new(0o022);
    let (plain, said) = source.read(&Taken::Package);
    assert!(said.is_empty());
    source.write("app/a.pyc", 0o600);
    source.mode("app/sub/a.py", 0o600);
    fs::create_dir(source.path("app/.git")).unwrap();
    let (digest, said) = source.read(&Taken::Package);
    assert_eq!(digest, plain);
    assert_eq!(said, ["left out of app: .git and 1 more"]);
}

#[test]
fn patterns_fit_names_or_paths() {
    for (pattern, path, expected) in [
        ("*.pyc", "a/b.pyc", true),
        ("*.pyc", "a.pyc/b", false),
        ("a/*", "a/b", true),
        ("a/b", "x/a/b", false),
    ] {
        assert_eq!(
            Taken::Copied(vec![pattern]).leaves_out(Path::new(path), Path::new(path)),
            expected,
            "{pattern} {path}"
        );
    }
}

#[test]
fn what_git_said_of_a_part_of_the_history_gives_way_to_what_it_says_of_all() {
    let dir = tempfile::tempdir().unwrap();
    let app = dir.path().join("app");
    fs::create_dir(&app).unwrap();
    let project = "[build-system]\nrequires = [\"setuptools-scm\"]\n[project]\nname = \"app\"\n\
                   dynamic = [\"version\"]\n[tool.setuptools_scm]\n";
    fs::write(app.join("pyproject.toml"), project).unwrap();
    let git = |words: &str| {
        let git = Tool::new("git").env("GIT_CONFIG_GLOBAL", "/dev/null");
        let git = git.args(["-C", app.to_str().unwrap()]);
        let git = git.args(["-c", "user.name=a", "-c", "user.email=a@a.example"]);
        let out = git.args(words.split(' ')).output().unwrap();
        String::from_utf8(out).unwrap().trim().to_owned()
    };
    git("init -q");
    git("add -A");
    for message in ["one", "two", "three"] {
        git(&format!("commit -q --allow-empty -m {message}"));
    }
    let commit = git("rev-parse --short=7 HEAD");
    let text = "name = \"x\"\n[bootstrap]\nsuite = \"bookworm\"\n\
                [[virtualenv]]\npath = \"/srv/v\"\nlocal = [\"app\"]\n";
    let recipe = Recipe::parse(text, Path::new("x.toml")).unwrap();
    let remembered = Remembered::below(dir.path());
    let base = Base {
        image: ImageId::of(b"x"),
        sha256: Sha256::of(b"x"),
        release: None,
        lock: Sha256::of(b"x"),
        virtualenvs: Vec::new(),
    };
    let relocked = |described: &str| {
        let described = Described::new(described, "2026-01-01T00:00:00Z").unwrap();
        let mut old = Lock::on(&base, "amd64");
        old.files = read(&recipe, dir.path(), &remembered, None).unwrap().files;
        old.files[0].described = Some(described);
        let found = read_described(&recipe, dir.path(), &remembered, Some(&old)).unwrap();
        let described = found.files[0].described.as_ref().unwrap().to_string();
        described.split_once("-g").unwrap().0.to_owned()
    };
    // Fewer commits, as a shallow checkout counted them.
    assert_eq!(relocked(&format!("0.0-1-g{commit}")), "0.0-3");
    git("tag v0.1 HEAD~1");
    assert_eq!(relocked(&format!("0.0-3-g{commit}")), "v0.1-1");
    // This checkout may lack a tag, or be of another commit: what is locked stays.
    assert_eq!(relocked(&format!("v0.2-1-g{commit}")), "v0.2-1");
    assert_eq!(relocked(&format!("v0.1-2-g{commit}")), "v0.1-2");
    assert_eq!(relocked("v0.1-0-g1234567"), "v0.1-0");
}

#[test]
fn what_would_not_reach_the_image_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for path in ["root/etc", "root/var/log/apt"] {
        fs::create_dir_all(dir.path().join(path)).unwrap();
    }
    fs::write(dir.path().join("root/etc/hostname"), "x").unwrap();
    let read = |rest: &str| {
        let text = format!("name = \"x\"\n[bootstrap]\nsuite = \"bookworm\"\n{rest}");
        let recipe = Recipe::parse(&text, Path::new("x.toml")).unwrap();
        let remembered = Remembered::below(dir.path());
        read(&recipe, dir.path(), &remembered, None).map(|_| ())
    };
    let file = |path: &str| format!("[[file]]\npath = \"{path}\"\ncontent = \"\"\n");
    for path in [
        "/etc/resolv.conf",
        "/etc/hostname",
        "/etc/machine-id",
        "/run/app/x",
        "/tmp/x",
        "/var/tmp/x/y",
        "/var/log/app.log",
        "/var/log/lastlog",
        "/root/.cache/x",
        "/etc/passwd-",
        "/usr/lib/a/b/x.dist-info/direct_url.json",
    ] {
        let error = read(&file(path)).unwrap_err();
        let expected = format!("[[file]]: `{path}` is not part of an image: ");
        assert!(error.to_string().starts_with(&expected), "{error}");
        let keep = format!("{}[clean]\nkeep = [\"{path}\"]\n", file(path));
        assert_eq!(read(&keep).is_ok(), !path.starts_with("/run"), "{path}");
    }
    for path in [
        "/etc/hosts",
        "/var/log/app/x.log",
        "/var/log/x",
        "/srv/tmp/x",
    ] {
        read(&file(path)).unwrap();
    }
    let tree = |path: &str| format!("[[file]]\npath = \"{path}\"\nsource = \"root/etc\"\n");
    let error = read(&tree("/etc")).unwrap_err().to_string();
    let expected = "the directory `root/etc`: `/etc/hostname` is not part of an image: ";
    assert!(error.starts_with(expected), "{error}");
    read(&(tree("/etc") + "exclude = [\"hostname\"]\n")).unwrap();
    read(&tree("/srv")).unwrap();
    for rest in [
        "[[user]]\nname = \"op\"\nuid = 1000\nhome = \"/run/op\"\n",
        "[[virtualenv]]\npath = \"/tmp/v\"\nrequirements = [\"x\"]\n",
    ] {
        assert!(read(rest).is_err(), "{rest}");
    }
}

#[test]
fn links_of_a_package_bring_what_lies_beside_it() {
    let source = Source::new(0o022);
    let link = |target: &str, path: &str| {
        std::os::unix::fs::symlink(target, source.path(path)).unwrap();
    };
    fs::create_dir_all(source.path("shared/deep")).unwrap();
    source.write("shared/deep/x.py", 0o644);
    source.write("data.txt", 0o644);
    link("../shared", "app/shared");
    link("../../data.txt", "app/sub/data.txt");
    let absolute = source.path("data.txt");
    link(absolute.to_str().unwrap(), "app/absolute");
    link("a.py", "app/sub/b.py");
    link("../run", "app/sub/run");
    link("nowhere/at/all", "app/dangling");
    link("../../nowhere", "app/sub/out");
    let entries = source.package().unwrap();
    assert_eq!(
        entries,
        [
            "absolute",
            "dangling -> nowhere/at/all",
            "run",
            "shared",
            "shared/deep",
            "shared/deep/x.py",
            "sub",
            "sub/a.py",
            "sub/b.py -> a.py",
            "sub/data.txt",
            "sub/out -> ../../nowhere",
            "sub/run -> ../run",
        ]
    );
    // Nothing that has no end.
    for (target, path) in [("../..", "app/sub/up"), ("../app", "shared/app")] {
        link(target, path);
        let error = source.package().unwrap_err().to_string();
        assert!(
            error.contains("leads to a directory that it lies in"),
            "{error}"
        );
        fs::remove_file(source.path(path)).unwrap();
    }
    // Nothing from elsewhere, on whatever way, and nothing that is left out.
    link("/etc/passwd", "shared/deep/key");
    let error = source.package().unwrap_err().to_string();
    assert!(
        error.contains("leads out of the recipe's directory"),
        "{error}"
    );
    fs::remove_file(source.path("shared/deep/key")).unwrap();
    source.write(".env", 0o600);
    link("../.env", "app/settings");
    assert_eq!(source.package().unwrap(), entries);
}
