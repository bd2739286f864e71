//! A virtualenv from the machine's own package index: locked with hashes, installed without
//! network, and the same image again from the store alone.

mod addresses;
mod asked_once;
mod byte_code;
mod foreign_locks;
mod git_versions;
mod soak;
mod unavailable;
mod uv;

use tests::bench::Bench;
use tests::binaries::Ran;
use tests::server::Server;

/// Runs `imgbuild` with an index of the test's own, and its logins in a home.
fn lock_from(bench: &Bench, server: &Server, arguments: &[&str]) -> Ran {
    let mut command = bench.command(tests::binaries::imgbuild().to_str().unwrap(), arguments);
    command
        .env("HOME", bench.path("home"))
        .env("PIP_INDEX_URL", format!("{}/simple", server.url()))
        .env("PIP_TRUSTED_HOST", "127.0.0.1")
        .env("PIP_RETRIES", "0")
        .env_remove("PIP_FIND_LINKS");
    Ran::of(&mut command)
}

/// Writes a recipe with one virtualenv.
fn write_virtualenv(bench: &Bench, name: &str, keys: &str) {
    bench.write(
        name,
        &format!("[[virtualenv]]\npath = \"/srv/venv\"\n{keys}\n"),
    );
}

/// The Python files in a lock.
fn locked(bench: &Bench, name: &str) -> String {
    let lock = std::fs::read_to_string(bench.path(&format!("{name}.lock"))).unwrap();
    let files = lock.lines().filter_map(|l| l.strip_prefix("file = \""));
    let files = files.map(|f| f.trim_end_matches('"').to_owned());
    files.collect::<Vec<_>>().join(" ")
}
