//! Sources that stay locked are not asked again what they are and need.

use tests::bench::python_bench;
use tests::index::{Packages, project};

use super::{lock_from, locked, write_virtualenv};

/// A source that needs something else once this file lies in a project beside it.
const FICKLE: &str = "import glob\n\
                      REQUIRES += ['beta'] if glob.glob('/run/imgbuild/sources/*/asked') else []\n";

#[test]
fn what_a_source_said_is_remembered_while_it_stays() {
    let bench = python_bench();
    let mut packages = Packages::default();
    packages.source("gamma", "1.0", FICKLE);
    packages.wheel("alpha", "1.0", &[]);
    packages.wheel("beta", "1.0", &[]);
    let server = packages.serve(None);
    std::fs::create_dir(bench.path("home")).unwrap();
    write_virtualenv(&bench, "asked-once", "local = [\"app\"]");
    let lock = |requires: &[&str], more: &str| {
        project(&bench.path("app"), "app", requires, more);
        let before = server.requests().len();
        lock_from(&bench, &server, &["lock", "--verbose", "asked-once.toml"]).expect(0);
        let asked = server.requests().split_off(before);
        (locked(&bench, "asked-once"), asked)
    };
    assert_eq!(lock(&["gamma"], "").0, "gamma-1.0.tar.gz");

    std::fs::write(bench.path("app/asked"), "").unwrap();
    let (files, asked) = lock(&["gamma"], "# changed\n");
    assert_eq!(files, "gamma-1.0.tar.gz");
    for request in asked {
        assert!(request.path.starts_with("/simple/"), "{}", request.path);
    }
    // Nor where something else is new.
    let (files, _) = lock(&["gamma", "alpha"], "");
    assert_eq!(files, "alpha-1.0-py3-none-any.whl gamma-1.0.tar.gz");

    // On another machine it is asked, and this one says something else there.
    std::fs::remove_dir_all(bench.path("work/metadata")).unwrap();
    let (files, _) = lock(&["gamma", "alpha"], "# changed again\n");
    let all = "alpha-1.0-py3-none-any.whl beta-1.0-py3-none-any.whl gamma-1.0.tar.gz";
    assert_eq!(files, all);
}
