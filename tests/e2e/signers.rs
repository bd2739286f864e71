//! Keys with passphrases, and keys that are elsewhere.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use tests::binaries::imgbuild;

use crate::team::{Team, says};

/// A passphrase is asked of a file or the environment, and never shown.
#[test]
fn passphrases() {
    let team = Team::new();
    let word = "swordfish and more";
    fs::write(team.path("word"), format!("{word}\n")).unwrap();
    let chmod = |mode: u32| {
        fs::set_permissions(team.path("word"), fs::Permissions::from_mode(mode)).unwrap();
    };
    let new = ["key", "new", "ann", "--passphrase-file", "word"];
    chmod(0o644);
    let open = team.run("ann", &new).expect(1);
    says(&open, &["others can read the passphrase", "chmod 600"]);
    chmod(0o600);
    team.run("ann", &new).expect(0);
    let listed = team.run("ann", &["key", "list"]).expect(0).stdout;
    assert!(listed.contains("encrypted"), "{listed}");
    let image = team.import(&team.tree("one", "1.0"));
    let approve = [
        "approve",
        &image,
        "--for",
        "prod",
        "--key",
        "ann",
        "--elsewhere",
        "--passphrase-file",
    ];
    team.run("ann", &[&approve[..], &["word"]].concat())
        .expect(0);
    fs::write(team.path("wrong"), "sword\n").unwrap();
    fs::set_permissions(team.path("wrong"), fs::Permissions::from_mode(0o600)).unwrap();
    let wrong = team
        .run("ann", &[&approve[..], &["wrong"]].concat())
        .expect(1);
    says(&wrong, &["the passphrase does not open it"]);
    assert!(!wrong.stderr.contains("sword"), "{}", wrong.stderr);
    // A key that others could read is not used.
    let key = team.path("ann/ann.pem");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    let open = team
        .run("ann", &[&approve[..], &["word"]].concat())
        .expect(3);
    says(&open, &["mode 0640", "chmod 600"]);
}

/// A passphrase that is typed is not shown, and Ctrl-C there is one.
#[test]
fn a_passphrase_on_a_terminal() {
    let team = Team::new();
    let typed = |words: &str, answers: &[(&str, &str)]| -> (i32, String) {
        // script(1) gives it a terminal; what appears on it comes back.
        let mut command = Command::new("script");
        let line = format!("{} {words}", imgbuild().display());
        let mut script = command
            .args(["-qec", &line, "/dev/null"])
            .current_dir(team.path(""))
            .env("IMGBUILD_STORE", team.path("store"))
            .env("IMGBUILD_WORK", team.path("work"))
            .env("IMGBUILD_KEYS", team.path("ann"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script is there");
        let mut keyboard = script.stdin.take().unwrap();
        let mut screen = script.stdout.take().unwrap();
        let (mut said, mut seen) = (String::new(), 0);
        let mut buffer = [0; 4096];
        let mut answers = answers.iter().peekable();
        loop {
            let len = screen.read(&mut buffer).unwrap();
            if len == 0 {
                break;
            }
            said.push_str(&String::from_utf8_lossy(&buffer[..len]));
            if let Some((prompt, answer)) = answers.peek()
                && let Some(at) = said[seen..].find(prompt)
            {
                seen += at + prompt.len();
                keyboard.write_all(answer.as_bytes()).unwrap();
                answers.next();
            }
        }
        (script.wait().unwrap().code().unwrap_or(-1), said)
    };
    let (new, again) = ("new passphrase for the key ann: ", "the same again: ");
    let (code, said) = typed("key new ann", &[(new, "open up\n"), (again, "open it\n")]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("are not the same"), "{said}");
    let (code, said) = typed("key new ann", &[(new, "open up\n"), (again, "\x03")]);
    assert_eq!(code, 130, "{said}");
    assert!(!team.path("ann/ann.pem").exists(), "{said}");
    let (code, said) = typed("key new ann", &[(new, "open up\n"), (again, "open up\n")]);
    assert_eq!(code, 0, "{said}");
    assert!(!said.contains("open up"), "{said}");
    let image = team.import(&team.tree("one", "1.0"));
    let approve = format!("approve {image} --for prod --key ann --elsewhere");
    let yes = ("[y/N] ", "y\n");
    let (code, said) = typed(&approve, &[yes, ("key ann: ", "open up\n")]);
    assert_eq!(code, 0, "{said}");
    assert!(!said.contains("open up"), "{said}");
    let (right, wrong) = (("key ann: ", "open up\n"), ("key ann: ", "open it\n"));
    let (code, said) = typed(&approve, &[yes, wrong, wrong, right]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(said.matches("that is not its passphrase").count(), 2);
    let (code, said) = typed(&approve, &[yes, wrong, wrong, wrong]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("the passphrase does not open it"), "{said}");
}

/// A key behind a command signs like one in a file; its answers are verified.
#[test]
fn a_signer_elsewhere() {
    let team = Team::new();
    let image = team.import(&team.tree("one", "1.0"));
    let public = team.key("token", "inside");
    let script = team.path("sign");
    let pem = team.path("token/inside.pem");
    let write = |body: &str| {
        fs::write(&script, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    };
    // openssl stands in for a token.
    write(&format!(
        "t=$(mktemp) && cat > $t && openssl pkeyutl -sign -rawin -inkey {} -in $t; rm -f $t",
        pem.display()
    ));
    let described = format!(
        "public = \"{public}\"\ncommand = [\"{}\"]\n",
        script.display()
    );
    fs::create_dir_all(team.path("ann")).unwrap();
    fs::write(team.path("ann/token.signer"), described).unwrap();
    let mut approve = vec!["approve", &image, "--for", "prod", "--key", "token"];
    approve.push("--elsewhere");
    team.run("ann", &approve).expect(0);
    let said = team
        .run("ann", &["show", &image, "--attestations"])
        .expect(0)
        .stdout;
    assert!(said.contains("approved   by token"), "{said}");
    for (body, why) in [
        ("cat >/dev/null; exit 1", "failed"),
        ("head -c 64", "not a signature by"),
    ] {
        write(body);
        let wrong = team.run("ann", &approve);
        assert_ne!(wrong.code, 0);
        says(&wrong, &["did not sign", why]);
    }
}
