//! Credentials in addresses and in the environment: they open archive and
//! index, and are then found in no output, file or image.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use store::{LocalReader, Store};
use tests::archive::{Archive, Release, SUITE, sha256};
use tests::binaries::Ran;
use tests::server::{Answer, Server, base64, file};

use super::{Place, ground};

const SECRET: &str = "geheim-0815-geheim";

/// A wheel of the project `secretive` with one module.
fn wheel(dir: &Path) -> (String, Vec<u8>) {
    const MAKE: &str = r#"
import sys, zipfile
info = "secretive-1.0.dist-info/"
files = {
    "secretive.py": "ANSWER = 42\n",
    info + "METADATA": "Metadata-Version: 2.1\nName: secretive\nVersion: 1.0\n",
    info + "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
}
files[info + "RECORD"] = "".join(name + ",,\n" for name in [*files, info + "RECORD"])
with zipfile.ZipFile(sys.argv[1], "w") as z:
    for name, text in files.items():
        z.writestr(name, text)
"#;
    let name = "secretive-1.0-py3-none-any.whl";
    let path = dir.join(name);
    let made = Command::new("python3")
        .args(["-c", MAKE])
        .arg(&path)
        .status();
    assert!(made.unwrap().success());
    (name.to_owned(), fs::read(&path).unwrap())
}

/// Files below a directory that hold one of the texts.
fn holding(dir: &Path, texts: &[&str]) -> Vec<PathBuf> {
    let mut grep = Command::new("grep");
    grep.args(["-rlaF"]);
    for text in texts {
        grep.args(["-e", text]);
    }
    let out = grep.arg(dir).output().unwrap();
    assert!(out.status.code() < Some(2), "{out:?}");
    let names = String::from_utf8(out.stdout).unwrap();
    names.lines().map(PathBuf::from).collect()
}

/// An archive below `/ours`, an index below `/simple`, for those who know the
/// password; the project `broken` has none.
fn serve(root: PathBuf, wheel: (String, Vec<u8>), authorization: String) -> Server {
    Server::start(move |request| {
        if request.authorization.as_deref() != Some(&authorization) {
            return Answer::Status(401);
        }
        let (name, bytes) = &wheel;
        match request.path.trim_end_matches('/') {
            "/simple/secretive" => Answer::Page(format!(
                "<a href=\"/files/{name}#sha256={}\">{name}</a>",
                sha256(bytes)
            )),
            "/simple/broken" => Answer::Status(500),
            path if path == format!("/files/{name}") => Answer::Bytes(bytes.clone()),
            path if path.starts_with("/ours/") => file(&root, path),
            _ => Answer::Status(404),
        }
    })
}

fn run(place: &Place, server: &Server, home: &Path, arguments: &[&str]) -> Ran {
    let ours = format!("ours={}/ours", server.url_for(&format!("user:{SECRET}")));
    let mut command = place.command(arguments);
    command
        .args(["--archive", &ground().debian(), "--archive", &ours])
        .env("HOME", home)
        .env("AWS_SECRET_ACCESS_KEY", SECRET)
        .env("PIP_TRUSTED_HOST", "127.0.0.1")
        .env("PIP_RETRIES", "0")
        .env("https_proxy", format!("http://user:{SECRET}@127.0.0.1:1"))
        .env_remove("PIP_FIND_LINKS")
        .env_remove("PIP_INDEX_URL");
    Ran::of(&mut command)
}

#[test]
fn credentials_open_doors_and_are_found_nowhere() {
    let place = ground().bootstrapped("secrets");
    let elsewhere = tempfile::tempdir().unwrap();
    let root = elsewhere.path().join("served");
    let mut archive = Archive::new(&root.join("ours"));
    archive.add("guarded", "");
    archive.publish(&Release::good(&ground().key));
    let credentials = base64(&format!("user:{SECRET}"));
    let server = serve(
        root,
        wheel(elsewhere.path()),
        format!("Basic {credentials}"),
    );
    let config = elsewhere.path().join("home/.config/pip");
    fs::create_dir_all(&config).unwrap();
    let index = server.url_for(&format!("user:{SECRET}"));
    fs::write(
        config.join("pip.conf"),
        format!("[global]\nindex-url = {index}/simple\n"),
    )
    .unwrap();
    let home = elsewhere.path().join("home");
    let write = |name: &str, requirement: &str| {
        place.write(
            name,
            &format!(
                "[[source]]\nname = \"ours\"\narchive = \"ours\"\nsuite = \"{SUITE}\"\n\
                 key = \"ours.asc\"\n[[packages]]\ninstall = [\"python3-venv\", \"guarded\"]\n\
                 [[virtualenv]]\npath = \"/srv/app\"\nrequirements = [\"{requirement}\"]\n\
                 [[test]]\nname = \"it works\"\n\
                 command = [\"/srv/app/bin/python\", \"-c\", \"import secretive\"]\n"
            ),
        );
    };
    write("guarded", "secretive==1.0");
    write("broken", "broken==1.0");
    write("absent", "absent==1.0");
    let runs = [
        run(&place, &server, &home, &["lock", "guarded.toml", "-v"]).expect(0),
        run(&place, &server, &home, &["build", "guarded.toml", "-v"]).expect(0),
        run(&place, &server, &home, &["lock", "broken.toml", "-v"]).expect(1),
        run(&place, &server, &home, &["lock", "absent.toml"]).expect(1),
    ];
    let asked = server.requests();
    for door in [
        "/ours/pool/guarded",
        "/simple/secretive",
        "/files/secretive",
    ] {
        assert!(asked.iter().any(|r| r.path.starts_with(door)), "{door}");
    }

    for ran in &runs {
        let said = format!("{}{}", ran.stdout, ran.stderr);
        assert!(!said.contains(SECRET), "{said}");
        assert!(!said.contains(&credentials), "{said}");
    }
    let texts = [SECRET, credentials.as_str()];
    assert_eq!(holding(&place.dir, &texts), Vec::<PathBuf>::new());
    // The image is compressed in the store.
    let store = Store::open(Box::new(LocalReader::open(place.store()).unwrap())).unwrap();
    let manifest = store
        .manifest(&runs[1].stdout.trim().parse().unwrap())
        .unwrap();
    let tar = elsewhere.path().join("image/tar");
    fs::create_dir(tar.parent().unwrap()).unwrap();
    let mut file = File::create(&tar).unwrap();
    store.image(&manifest).unwrap().copy_tar(&mut file).unwrap();
    assert_eq!(file.metadata().unwrap().len(), manifest.size);
    assert_eq!(
        holding(tar.parent().unwrap(), &texts),
        Vec::<PathBuf>::new()
    );
    assert_eq!(
        holding(tar.parent().unwrap(), &["ANSWER = 42"]),
        [tar],
        "the search finds what is there"
    );
}
