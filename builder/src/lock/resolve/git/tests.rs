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
        resolve(source, "/srv/v", 0, &self.home(home), &self.inputs)
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
    let found = fetch(&source, &locked, &home, &place.inputs).unwrap();
    assert_eq!(found, locked.sha256);
    assert_eq!(place.resolve(&source, "plain").unwrap().commit, other);

    fs::rename(place.dir.path().join("app"), place.dir.path().join("gone")).unwrap();
    let said = moved(&source, &locked, &home).unwrap();
    assert!(said.contains("does not answer"), "{said}");
}

#[test]
fn a_tree_of_an_older_lock_with_short_names_is_found_again() {
    let place = Place::new();
    place.commit(&[
        (".gitattributes", "v export-subst\n"),
        ("v", "$Format:%h$\n"),
    ]);
    place.git(&["tag", "v1"]);
    let source = place.source("tag = \"v1\"");
    let mut locked = place.resolve(&source, "plain").unwrap();
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
    let found = fetch(&source, &locked, &place.home("plain"), &place.inputs);
    assert_eq!(found.unwrap(), old);
}

#[test]
fn what_an_archive_would_lack_is_refused() {
    let place = Place::new();
    // A page about Git LFS is no pointer.
    let commit = place.commit(&[("page", "See:\nversion https://git-lfs.github.com/spec/v1\n")]);
    place.git(&["tag", "good"]);
    place
        .resolve(&place.source("tag = \"good\""), "plain")
        .unwrap();
    place.commit(&[(
        "model",
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    )]);
    place.git(&["tag", "lfs"]);
    let error = place
        .resolve(&place.source("tag = \"lfs\""), "plain")
        .unwrap_err();
    assert!(error.to_string().contains("`model`"), "{error}");
    place.git(&["rm", "--quiet", "model"]);
    let link = format!("160000,{commit},vendor/x");
    place.git(&["update-index", "--add", "--cacheinfo", &link]);
    place.git(&["commit", "--quiet", "-m", "x"]);
    place.git(&["tag", "sub"]);
    let error = place
        .resolve(&place.source("tag = \"sub\""), "plain")
        .unwrap_err();
    assert!(error.to_string().contains("`vendor/x`"), "{error}");
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
