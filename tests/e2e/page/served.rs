//! Pages served to a browser of this machine.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use serde_json::Value;
use tests::http;

use super::Bench;
use crate::team::says;

/// A server that is ended when a test fails.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn pages_are_served_to_this_machine_until_ctrl_c() {
    let bench = Bench::new();
    let scratch = bench.team.path("scratch");
    fs::create_dir(&scratch).unwrap();
    let mut command = bench.team.command("ann");
    command
        .args(["page", "--serve=127.0.0.1:0", "--json"])
        .env("TMPDIR", &scratch);
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut serving = Serving(child);
    let lines = BufReader::new(serving.0.stdout.take().unwrap()).lines();
    let url = lines
        .map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap())
        .find_map(|event| Some(event.get("url")?.as_str()?.to_owned()))
        .unwrap();
    let port = url
        .trim_end_matches('/')
        .rsplit(':')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let get = |path: &str| http::get(port, path, "").unwrap();
    let (status, index) = get("/");
    assert_eq!(status, 200);
    assert!(index.contains("What is released where"), "{index}");
    let link = index
        .split("href=\"image/")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    let (status, image) = get(&format!("/image/{link}"));
    assert!(
        status == 200 && image.contains("Where it is released"),
        "{image}"
    );
    for path in [
        "/.imgbuild/pages.json",
        "/../../../../etc/passwd",
        "/image/",
        "/favicon.ico",
    ] {
        assert_eq!(get(path).0, 404, "{path}");
    }
    // A name that somebody else made lead here.
    let (status, _) = http::get(port, "/", "Host: evil.example").unwrap();
    assert_eq!(status, 421);
    // One that says nothing keeps nobody else from reading.
    let _idle = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    assert_eq!(get("/index.html").0, 200);
    let process = rustix::process::Pid::from_child(&serving.0);
    rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
    assert_eq!(serving.0.wait().unwrap().code(), Some(0));
    let left: Vec<_> = fs::read_dir(&scratch).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    // And by name, where no directory was named.
    let usage = bench.team.run("ann", &["page"]).expect(2);
    says(&usage, &["--out <DIR>"]);
}
