use std::process::Command;

use store::WritableStore;

use super::*;
use crate::recipe::Recipe;

const COLLEAGUE: &str = "[core]\n\tautocrlf = true\n\tabbrev = 12\n\
    [tar]\n\tumask = 0077\n\
    [filter \"shout\"]\n\tsmudge = tr a-z A-Z\n";

/// A repository, two homes and a store.
struct Place {
    dir: tempfile::TempDir,
    inputs: Inputs,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let inputs = WritableStore::open_or_create(dir.path().join("store"))
            .unwrap()
            .inputs();
        for name in ["app", "plain", "colleague"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let attributes = dir.path().join("attributes");
        fs::write(&attributes, "*.txt export-ignore\n").unwrap();
        let more = format!("[core]\n\tattributesFile = {}\n", attributes.display());
        let config = dir.path().join("colleague/.gitconfig");
        fs::write(config, format!("{COLLEAGUE}{more}")).unwrap();
        let here = Self { dir, inputs };
        here.git(&["init", "--quiet"]);
        here
    }

    fn git(&self, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .args(["-c", "user.name=a", "-c", "user.email=a@example.org"])
            .arg("-C")
            .arg(self.dir.path().join("app"))
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn commit(&self, files: &[(&str, &str)]) -> String {
        for (name, content) in files {
            fs::write(self.dir.path().join("app").join(name), content).unwrap();
        }
        self.git(&["add", "."]);
        self.git(&["commit", "--quiet", "-m", "x"]);
        self.git(&["rev-parse", "HEAD"])
    }

    fn source(&self, which: &str) -> Git {
        let url = format!("file://{}", self.dir.path().join("app").display());
        let text = format!(
            "name = \"a\"\n[bootstrap]\nsuite = \"trixie\"\n[[virtualenv]]\n\
             path = \"/srv/v\"\ngit = [{{ url = \"{url}\", {which} }}]\n"
        );
        let recipe = Recipe::parse(&text, Path::new("a.toml")).unwrap();
        recipe.virtualenvs[0].git[0].clone()
    }

    fn home(&self, name: &str) -> impl Fn(&str) -> Option<String> {
        let home = self.dir.path().join(name).display().to_string();
        move |variable| (variable == "HOME").then(|| home.clone())
    }

    fn resolve(&self, source: &Git, home: &str) -> Result<Locked> {
        self.bound(source, home, &|_| true)
    }

    fn bound(&self, source: &Git, home: &str, reach: Reach<'_>) -> Result<Locked> {
        let terms = Terms {
            is_told: false,
            may_be_branch: false,
            reach,
        };
        let place = ("/srv/v", 0);
        resolve(source, place, &terms, &self.home(home), &self.inputs)
    }
}

#[test]
fn a_commit_is_the_same_bytes_whatever_the_host_configures() {
    let place = Place::new();
    let commit = place.commit(&[
        (
            ".gitattributes",
            "v export-subst\n*.py text\nloud filter=shout\n",
        ),
        ("v", "$Format:%h %d$\n"),
        ("a.py", "x = 1\n"),
        ("a.txt", "text\n"),
        ("loud", "quiet\n"),
    ]);
    place.git(&["tag", "v1"]);
    let tag = place.source("tag = \"v1\"");
    let exact = place.source(&format!("commit = \"{commit}\""));
    let first = place.resolve(&tag, "plain").unwrap();
    assert_eq!(first.commit, commit);
    for (source, home) in [
        (&tag, "colleague"),
        (&exact, "plain"),
        (&exact, "colleague"),
    ] {
        let again = place.resolve(source, home).unwrap();
        assert_eq!(again.sha256, first.sha256, "{home}");
    }
    let tar = fs::read(place.inputs.path(&first.sha256)).unwrap();
    let tar = String::from_utf8_lossy(&tar);
    assert!(tar.contains(&commit) && tar.contains("quiet\n") && tar.contains("a.txt"));
}

#[test]
fn a_locked_commit_is_found_after_its_tag_moved_and_the_move_is_said() {
    let place = Place::new();
    let commit = place.commit(&[("a", "1")]);
    place.git(&["tag", "v1"]);
    let source = place.source("tag = \"v1\"");
    let locked = place.resolve(&source, "plain").unwrap();
    assert_eq!((locked.name().as_str(), &locked.commit), ("app", &commit));
    let home = place.home("plain");
    assert_eq!(moved(&source, &locked, &home), None);

    let other = place.commit(&[("a", "2")]);
    place.git(&["tag", "-f", "-a", "-m", "again", "v1"]);
    let said = moved(&source, &locked, &home).unwrap();
    assert!(
        said.contains(&other[..12]) && said.contains("--upgrade=app"),
        "{said}"
    );
    fs::remove_file(place.inputs.path(&locked.sha256)).unwrap();
    let found = fetch(source.url.as_str(), &locked, &home, &place.inputs).unwrap();
    assert_eq!(found, locked.sha256);
    assert_eq!(place.resolve(&source, "plain").unwrap().commit, other);

    fs::rename(place.dir.path().join("app"), place.dir.path().join("gone")).unwrap();
    let said = moved(&source, &locked, &home).unwrap();
    assert!(said.contains("does not answer"), "{said}");
}

#[test]
fn a_tree_of_an_older_lock_with_short_names_and_less_files_is_found_again() {
    let place = Place::new();
    place.commit(&[
        (".gitattributes", "v export-subst\nREADME export-ignore\n"),
        ("v", "$Format:%h$\n"),
        ("README", "of the package\n"),
    ]);
    place.git(&["tag", "v1"]);
    let source = place.source("tag = \"v1\"");
    let mut locked = place.resolve(&source, "plain").unwrap();
    // pip builds a checkout, which has what releases leave out.
    let readme = entries(&place, &locked).into_iter();
    assert_eq!(readme.filter(|(path, _)| path == "README").count(), 1);
    let old = place.dir.path().join("old.tar");
    place.git(&[
        "archive",
        "--format=tar",
        &format!("--output={}", old.display()),
        "v1",
    ]);
    let old = Sha256::of(&fs::read(&old).unwrap());
    assert_ne!(old, locked.sha256);
    (locked.sha256, locked.url) = (old, String::new());
    let found = fetch(
        source.url.as_str(),
        &locked,
        &place.home("plain"),
        &place.inputs,
    );
    assert_eq!(found.unwrap(), old);
}

#[test]
fn a_branch_and_a_missing_directory_are_named() {
    let place = Place::new();
    fs::create_dir_all(place.dir.path().join("app/lib/ü")).unwrap();
    let commit = place.commit(&[("lib/x", "x\n"), ("lib/ü/x", "x\n")]);
    let below = place.source(&format!("commit = \"{commit}\", subdirectory = \"lib/ü\""));
    place.resolve(&below, "plain").unwrap();
    place.git(&["branch", "next"]);
    let error = place
        .resolve(&place.source("tag = \"next\""), "plain")
        .unwrap_err();
    assert!(error.to_string().contains("is a branch"), "{error}");
    assert!(error.advice().unwrap().contains(&commit));
    // Where another package requires it, nobody here can write a tag instead.
    let (next, plain) = (place.source("tag = \"next\""), place.home("plain"));
    let terms = Terms {
        is_told: false,
        may_be_branch: true,
        reach: &|_| true,
    };
    let required = resolve(&next, ("/srv/v", 0), &terms, &plain, &place.inputs).unwrap();
    assert_eq!(
        (required.commit.as_str(), required.reference.as_str()),
        (&*commit, "next")
    );
    let source = place.source(&format!("commit = \"{commit}\", subdirectory = \"nope\""));
    let error = place.resolve(&source, "plain").unwrap_err();
    assert!(
        error.to_string().contains("has no directory `nope`"),
        "{error}"
    );
    assert_eq!(error.advice(), Some("it has lib"));
}

/// The files of a locked tree.
fn entries(place: &Place, locked: &Locked) -> Vec<(String, String)> {
    let file = fs::File::open(place.inputs.path(&locked.sha256)).unwrap();
    let mut archive = tar::Archive::new(file);
    let mut found = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        let mut text = String::new();
        if entry.header().entry_type().is_file() {
            std::io::Read::read_to_string(&mut entry, &mut text).unwrap();
            found.push((path, text));
        }
    }
    found
}

#[test]
fn submodules_are_part_of_the_tree() {
    let place = Place::new();
    let inner = Place::new();
    inner.commit(&[("inner", "deep")]);
    let middle = Place::new();
    middle.commit(&[("middle", "half")]);
    let add = |place: &Place, of: &Place, path: &str| {
        let url = format!("file://{}", of.dir.path().join("app").display());
        let protocol = ["-c", "protocol.file.allow=always"];
        place.git(&[&protocol[..], &["submodule", "--quiet", "add", &url, path]].concat());
    };
    add(&middle, &inner, "sub");
    middle.commit(&[]);
    add(&place, &middle, "vendor/x");
    let commit = place.commit(&[("own", "top")]);
    place.git(&["tag", "sub"]);
    let source = place.source("tag = \"sub\"");
    let locked = place.resolve(&source, "plain").unwrap();
    let files = entries(&place, &locked);
    for (path, text) in [
        ("own", "top"),
        ("vendor/x/middle", "half"),
        ("vendor/x/sub/inner", "deep"),
    ] {
        assert!(files.contains(&(path.into(), text.into())), "{files:?}");
    }
    let again = fetch(
        source.url.as_str(),
        &locked,
        &place.home("plain"),
        &place.inputs,
    );
    assert_eq!(again.unwrap(), locked.sha256);
    // Where a package requires it, they are bound, and so are theirs.
    let elsewhere = inner.dir.path().display().to_string();
    let refused = place.bound(&source, "plain", &|url| !url.contains(&elsewhere));
    let error = refused.unwrap_err().to_string();
    assert!(error.starts_with("the submodule `sub` of"), "{error}");
    // A link to a commit that nothing has an address of.
    let link = format!("160000,{commit},vendor/y");
    place.git(&["update-index", "--add", "--cacheinfo", &link]);
    place.git(&["commit", "--quiet", "-m", "x"]);
    place.git(&["tag", "lost"]);
    let lost = place.resolve(&place.source("tag = \"lost\""), "plain");
    let error = lost.unwrap_err().to_string();
    assert!(error.contains("`vendor/y`"), "{error}");
}

#[test]
fn what_is_in_lfs_is_part_of_the_tree() {
    let place = Place::new();
    // A page about Git LFS is no pointer.
    place.commit(&[("page", "See:\nversion https://git-lfs.github.com/spec/v1\n")]);
    fs::write(place.dir.path().join("app/model.bin"), "weights").unwrap();
    let attributes = place.dir.path().join("app/.gitattributes");
    fs::write(attributes, "*.bin filter=lfs -text\n").unwrap();
    let clean = ["-c", "filter.lfs.clean=git-lfs clean -- %f"];
    let required = ["-c", "filter.lfs.required=true"];
    place.git(&[&clean[..], &required, &["add", "."]].concat());
    place.git(&["commit", "--quiet", "-m", "x"]);
    place.git(&["tag", "lfs"]);
    let pointer = place.git(&["show", "lfs:model.bin"]);
    assert!(pointer.starts_with("version https://git-lfs"), "{pointer}");
    let source = place.source("tag = \"lfs\"");
    let locked = place.resolve(&source, "plain").unwrap();
    let files = entries(&place, &locked);
    assert!(
        files.contains(&("model.bin".into(), "weights".into())),
        "{files:?}"
    );
    fs::remove_dir_all(place.dir.path().join("app/.git/lfs")).unwrap();
    let error = place.resolve(&source, "plain").unwrap_err();
    assert!(
        error.advice().unwrap_or_default().contains("Git LFS"),
        "{error}"
    );
}

#[test]
fn only_settings_that_reach_servers_are_lent() {
    let listed = "core.autocrlf\ntrue\0core.abbrev\n12\0tar.umask\n0077\0\
                  filter.x.smudge\nrev\0core.sshcommand\nssh -i \"k\"\0\
                  url.https://a.b/.insteadof\ngit@a:\0http.sslverify\0";
    assert_eq!(
        lent_settings(listed),
        "[core]\n\tsshcommand = \"ssh -i \\\"k\\\"\"\n\
         [url \"https://a.b/\"]\n\tinsteadof = \"git@a:\"\n\
         [http]\n\tsslverify = \"true\"\n"
    );
}

#[test]
fn a_version_is_the_same_by_tag_and_by_commit() {
    let place = Place::new();
    let first = place.commit(&[
        (
            "pyproject.toml",
            "[build-system]\nrequires = [\"setuptools-scm\"]\n",
        ),
        ("names", "$Format:%d$\n"),
        (".gitattributes", "names export-subst\n"),
    ]);
    place.git(&["tag", "v1.2"]);
    place.git(&["tag", "newest"]);
    let second = place.commit(&[("more", "x")]);
    let locked = |which: &str| {
        let source = place.source(which);
        let locked = place.resolve(&source, "plain").unwrap();
        let again = fetch(
            source.url.as_str(),
            &locked,
            &place.home("plain"),
            &place.inputs,
        )
        .unwrap();
        assert_eq!(again, locked.sha256);
        locked
    };
    let by_tag = locked("tag = \"v1.2\"");
    let by_commit = locked(&format!("commit = \"{first}\""));
    assert_eq!(by_tag.described.as_ref().unwrap().version(), Some("1.2"));
    assert_eq!(by_tag.described, by_commit.described);
    assert_eq!(by_tag.sha256, by_commit.sha256);
    let tree = fs::read(place.inputs.path(&by_tag.sha256)).unwrap();
    assert!(String::from_utf8_lossy(&tree).contains(" (tag: v1.2)\n"));
    let later = locked(&format!("commit = \"{second}\""));
    let described = later.described.unwrap();
    assert_eq!(described.to_string(), format!("v1.2-1-g{}", &second[..7]));
    // Whoever wants no version of Git gets no history, and the bytes as ever.
    place.commit(&[(
        "pyproject.toml",
        "[project]\nname = \"a\"\nversion = \"1\"\n",
    )]);
    place.git(&["tag", "v2"]);
    assert_eq!(locked("tag = \"v2\"").described, None);
    // Without any tag it counts from 0.0, as the backends themselves do.
    place.git(&["tag", "--delete", "v1.2", "newest", "v2"]);
    let untagged = locked(&format!("commit = \"{second}\"")).described.unwrap();
    assert_eq!(untagged.to_string(), format!("0.0-2-g{}", &second[..7]));
}

#[test]
fn a_version_is_of_the_package_and_not_of_what_is_beside_it() {
    let place = Place::new();
    fs::create_dir(place.dir.path().join("app/lib")).unwrap();
    let by_git = "[build-system]\nrequires = [\"setuptools-scm\"]\n[tool.setuptools_scm]\n";
    let stated = "[project]\nname = \"a\"\nversion = \"1\"\n";
    for (root, below, is_git) in [(by_git, stated, false), (stated, by_git, true)] {
        let commit = place.commit(&[("pyproject.toml", root), ("lib/pyproject.toml", below)]);
        let source = place.source(&format!("commit = \"{commit}\", subdirectory = \"lib\""));
        let described = place.resolve(&source, "plain").unwrap().described;
        assert_eq!(described.is_some(), is_git, "{below}");
    }
}

#[test]
fn a_shallow_repository_says_no_version_that_it_would_have_to_count() {
    let by_git = "[build-system]\nrequires = [\"setuptools-scm\"]\n[tool.setuptools_scm]\n";
    let stated = "[project]\nname = \"a\"\nversion = \"1\"\n";
    for (text, is_git) in [(by_git, true), (stated, false)] {
        let whole = Place::new();
        whole.commit(&[("pyproject.toml", text)]);
        whole.git(&["tag", "v0.1"]);
        let commit = whole.commit(&[("more", "x\n")]);
        whole.git(&["tag", "-a", "-m", "x", "newest"]);
        let place = Place::new();
        fs::remove_dir_all(place.dir.path().join("app")).unwrap();
        let url = format!("file://{}", whole.dir.path().join("app").display());
        let to = place.dir.path().join("app").display().to_string();
        whole.git(&["clone", "-q", "--depth=1", &url, &to]);
        for which in [
            "tag = \"newest\"".to_owned(),
            format!("commit = \"{commit}\""),
        ] {
            let source = place.source(&which);
            let resolved = place.resolve(&source, "plain");
            if !is_git {
                assert_eq!(resolved.unwrap().commit, commit, "{which}");
                continue;
            }
            let error = resolved.unwrap_err();
            assert!(
                error.to_string().contains("but the repository is shallow"),
                "{which}: {error}"
            );
            let advice = error.advice().unwrap();
            assert!(advice.contains("git fetch --unshallow --tags"), "{advice}");
        }
        // A tag on the very commit says all.
        place.git(&["tag", "v0.2"]);
        let on_it = place
            .resolve(&place.source("tag = \"v0.2\""), "plain")
            .unwrap();
        assert_eq!(on_it.commit, commit);
        assert_eq!(
            on_it.described.and_then(|d| d.tag().map(str::to_owned)),
            is_git.then(|| "v0.2".to_owned())
        );
        place.git(&["tag", "-d", "v0.2"]);
        place.git(&["fetch", "-q", "--unshallow", "--tags"]);
        let source = place.source(&format!("commit = \"{commit}\""));
        let described = place.resolve(&source, "plain").unwrap().described;
        assert_eq!(
            described.map(|d| d.to_string()),
            is_git.then(|| format!("v0.1-1-g{}", &commit[..7]))
        );
    }
}
