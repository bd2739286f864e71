//! Requirements with an address: archives on a web server, repositories of Git.

use std::collections::BTreeMap;

use tests::bench::{Bench, python_bench};
use tests::binaries::Ran;
use tests::index::{self, Packages};
use tests::server::{Answer, Server};

use super::{lock_from, locked, write_virtualenv};

/// A server with files and with a repository for a git that knows nothing of servers.
fn elsewhere(bench: &Bench) -> (Server, String) {
    let mut packages = Packages::default();
    let archives = [
        ("zeta", "1.5", "zeta/archive/refs/tags/v1.0.tar.gz"),
        ("theta", "0.1", "theta/tarball/v1.0"),
    ];
    let mut files = BTreeMap::new();
    for (name, version, path) in archives {
        packages.source(name, version, "");
        let bytes = packages.take(&format!("{name}-{version}.tar.gz"));
        files.insert(format!("/{path}"), bytes);
    }
    let eta = "eta-1.0-py3-none-any.whl";
    packages.wheel("eta", "1.0", &[]);
    files.insert(format!("/{eta}"), packages.take(eta));
    let repository = bench.path("kappa");
    index::project(&repository.join("py"), "kappa", &["alpha"], "");
    let git = |words: &[&str]| {
        let who = ["-c", "user.name=a", "-c", "user.email=a@example.org"];
        let mut git = bench.command("git", &who);
        Ran::of(git.arg("-C").arg(&repository).args(words))
            .expect(0)
            .stdout
    };
    git(&["init", "--quiet"]);
    git(&["add", "."]);
    git(&["commit", "--quiet", "--message", "x"]);
    git(&["update-server-info"]);
    let commit = git(&["rev-parse", "HEAD"]).trim().to_owned();
    let bare = repository.join(".git");
    let server = Server::start(move |request| {
        if let Some(path) = request.path.strip_prefix("/kappa.git/") {
            let path = path.split('?').next().unwrap_or_default();
            return std::fs::read(bare.join(path)).map_or(Answer::Status(404), Answer::Bytes);
        }
        let file = files.get(&request.path).cloned();
        file.map_or(Answer::Status(404), Answer::Bytes)
    });
    (server, commit)
}

#[test]
fn what_requirements_take_from_addresses_is_locked() {
    let bench = python_bench();
    let (server, commit) = elsewhere(&bench);
    let url = server.url();
    let mut packages = Packages::default();
    packages.wheel("alpha", "1.0", &[]);
    packages.wheel("gamma", "1.0", &[]);
    packages.wheel(
        "beta",
        "1.0",
        &[&format!("eta @ {url}/eta-1.0-py3-none-any.whl")],
    );
    packages.wheel("leads", "1.0", &["x @ http://h.example"]);
    packages.wheel("clones", "1.0", &["x @ git+http://g.example"]);
    let index = packages.serve(None);
    std::fs::create_dir(bench.path("home")).unwrap();
    let imgbuild = |arguments: &[&str]| lock_from(&bench, &index, arguments);
    // What it requires, only its backend says.
    let zeta = format!("zeta @ {url}/zeta/archive/refs/tags/v1.0.tar.gz");
    let kappa = format!("kappa @ git+{url}/kappa.git@{commit}#subdirectory=py");
    let never = format!("never @ {url}/gone.zip ; python_version < '3'");
    let app = bench.path("app");
    let more = "gamma ; extra == 'more'";
    index::project(&app, "app", &[&zeta, &kappa, &never, "beta", more], "");
    let lines = format!(
        "{url}/theta/tarball/v1.0#egg=theta\n./app[nope]\n\
         nowhere @ git+https://gone.example/x@v1 ; python_version < '3.8'\n"
    );
    std::fs::write(bench.path("lines.txt"), lines).unwrap();
    let keys = "requirements-files = [\"lines.txt\"]\n[[test]]\nname = \"all are there\"\n\
                command = [\"/srv/venv/bin/python\", \"-c\", \
                \"import alpha, app, beta, eta, kappa, theta, zeta; assert zeta.VERSION == '1.5'\"]";
    write_virtualenv(&bench, "first", keys);
    let built = imgbuild(&["first.toml"]).expect(0);
    assert!(
        built
            .stderr
            .contains("has the extra `nope`: there are more"),
        "{}",
        built.stderr
    );
    let files = "alpha-1.0-py3-none-any.whl beta-1.0-py3-none-any.whl \
                 eta-1.0-py3-none-any.whl theta-0.1.tar.gz zeta-1.5.tar.gz";
    assert_eq!(locked(&bench, "first"), files);
    let text = std::fs::read_to_string(bench.path("first.lock")).unwrap();
    assert!(text.contains(&commit), "{text}");
    // Nobody's advisory is about the project and the repository; what has an address was published.
    let bill = imgbuild(&["show", "first", "--sbom"]).expect(0).stdout;
    for purl in [
        "pkg:generic/app@1.0",
        "pkg:generic/kappa@1.0",
        "pkg:pypi/alpha@1.0",
        "pkg:pypi/eta@1.0",
        "pkg:pypi/pip@",
    ] {
        assert!(
            bill.contains(&format!("\"purl\": \"{purl}")),
            "{purl}: {bill}"
        );
    }
    // Another requirement moves none of them, also when nobody has them any more.
    drop(server);
    let keys = keys.replace("[[test]]", "requirements = [\"gamma\"]\n[[test]]");
    write_virtualenv(&bench, "first", &keys);
    std::fs::write(bench.path("first.lock"), text).unwrap();
    imgbuild(&["lock", "first.toml"]).expect(0);
    let with_gamma = files.replace("theta", "gamma-1.0-py3-none-any.whl theta");
    assert_eq!(locked(&bench, "first"), with_gamma);
    // The recipe's own word is taken at its word.
    let refused = |name: &str, keys: &str, code: i32, said: &str| {
        write_virtualenv(&bench, name, keys);
        let ran = imgbuild(&["lock", &format!("{name}.toml")]).expect(code);
        assert!(ran.stderr.contains(said), "{said}: {}", ran.stderr);
    };
    index::project(&app, "app", &[more], "");
    let keys = "local = [\"app\"]\nextras = [\"nope\"]";
    refused("nope", keys, 2, "there are more");
    let gone = format!("gone @ {url}/gone.zip");
    index::project(&app, "app", &[&gone], "");
    let keys = "local = [\"app\"]";
    refused("gone", keys, 1, "/gone.zip is required and cannot be had");
    let inside = format!("gone @ {url}/gone.zip#subdirectory=py");
    index::project(&app, "app", &[&inside], "");
    let said = "gone.zip#subdirectory=py is required, a directory inside an archive";
    refused("inside", keys, 1, said);
    // Where only a package of an index leads, nobody goes: neither for a file nor for a repository.
    for (name, file) in [("leads", "h.example"), ("clones", "g.example")] {
        let requirements = format!("requirements = [\"{name}\"]");
        refused(
            name,
            &requirements,
            1,
            &format!("{file}, at a host that neither"),
        );
    }
    // Two projects that only their backends name.
    index::project(&app, "app", &[], "");
    index::project(&bench.path("same"), "app", &[], "");
    let said = "are called app: app and same";
    refused("two", "local = [\"app\", \"same\"]", 2, said);
}
