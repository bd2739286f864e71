//! A virtualenv from the machine's own package index: locked with hashes, installed without
//! network, and the same image again from the store alone.

use tests::bench::bench;

/// Pure Python, without requirements of its own.
const RECIPE: &str = r#"
[[packages]]
install = ["python3-venv"]
[[user]]
name = "web"
uid = 1000
[[virtualenv]]
path = "/home/web/venv"
owner = "web"
requirements = ["itsdangerous==2.2.0"]
[[test]]
name = "it signs"
command = ["/home/web/venv/bin/python", "-c", """
from itsdangerous import Signer
assert Signer('key').unsign(Signer('key').sign('text')) == b'text'
"""]
user = "web"
"#;

#[test]
fn a_virtualenv_is_locked_installed_and_made_again() {
    let bench = bench();
    bench.write("app", RECIPE);
    let built = bench.imgbuild(&["app.toml"]).expect(0);
    let lock = std::fs::read_to_string(bench.path("app.lock")).unwrap();
    let wheel = "itsdangerous-2.2.0-py3-none-any.whl";
    assert!(lock.contains(wheel), "{lock}");
    let shown = bench.imgbuild(&["show", "app"]).expect(0).stdout;
    assert!(shown.contains("itsdangerous"), "{shown}");
    // Another work directory, no network, the same bytes.
    let work = bench.path("again").display().to_string();
    let program = tests::binaries::imgbuild().to_str().unwrap();
    let words = [
        "--net", "--", program, "--frozen", "--work", &work, "app.toml",
    ];
    let again = tests::binaries::Ran::of(&mut bench.command("unshare", &words)).expect(0);
    assert_eq!(again.stdout, built.stdout);
}
