//! Three environments through the real binary: an image is built in dev, promoted to
//! staging, refused for prod, meets its policy, is promoted there by two people, and
//! revoked.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tests::bench::base_work;
use tests::binaries::{Ran, imgbuild};
use tests::fixtures::{copy_places, scratch};

pub(crate) struct Team {
    dir: tempfile::TempDir,
    /// The same for every command: the same tree is the same bytes.
    epoch: String,
}

impl Team {
    pub(crate) fn new() -> Self {
        let dir = scratch();
        let epoch = epoch();
        Self { dir, epoch }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs a command as somebody who has keys of their own.
    pub(crate) fn run(&self, who: &str, arguments: &[&str]) -> Ran {
        Ran::of(self.command(who).args(arguments))
    }

    pub(crate) fn command(&self, who: &str) -> Command {
        let mut command = Command::new(imgbuild());
        command
            .current_dir(self.dir.path())
            .env("IMGBUILD_STORE", self.path("store"))
            .env("IMGBUILD_WORK", self.path("work"))
            .env("IMGBUILD_KEYS", self.path(who))
            .env("SOURCE_DATE_EPOCH", &self.epoch);
        command
    }

    /// Gives the environment `prod`, whose one root key Ann has, another policy.
    pub(crate) fn change_policy(&self, policy: &str) {
        self.propose_policy(policy).expect(0);
        self.run("ann", &["env", "root", "publish", "policy.json"])
            .expect(0);
    }

    /// Proposes that, in `policy.json`.
    pub(crate) fn propose_policy(&self, policy: &str) -> Ran {
        fs::write(self.path("policy.toml"), policy).unwrap();
        let mut propose = vec!["env", "root", "propose", "prod"];
        propose.extend(["--policy", "policy.toml", "-o", "policy.json"]);
        self.run("ann", &propose)
    }

    /// Makes a key and returns its public half.
    pub(crate) fn key(&self, who: &str, name: &str) -> String {
        let made = self.run(who, &["key", "new", name, "--plain"]).expect(0);
        made.stdout.trim().to_owned()
    }

    fn json(&self, who: &str, arguments: &[&str]) -> Value {
        let said = self.run(who, arguments).expect(0).stdout;
        serde_json::from_str(said.lines().last().unwrap_or_default()).expect("it says JSON")
    }

    fn root(&self, env: &str) -> String {
        let status = self.json("ann", &["env", "status", env, "--json"]);
        status["environments"][0]["fingerprint"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// A root filesystem of one package, in this version.
    pub(crate) fn tree(&self, name: &str, version: &str) -> PathBuf {
        let tree = self.path(name);
        fs::create_dir_all(tree.join("etc")).unwrap();
        fs::create_dir_all(tree.join("var/lib/dpkg")).unwrap();
        let release = "ID=debian\nVERSION_CODENAME=bookworm\n";
        fs::write(tree.join("etc/os-release"), release).unwrap();
        let status = format!(
            "Package: libfoo\nStatus: install ok installed\nArchitecture: amd64\n\
             Version: {version}\nMaintainer: x\nDescription: x\n\n"
        );
        fs::write(tree.join("var/lib/dpkg/status"), status).unwrap();
        tree
    }

    pub(crate) fn import(&self, tree: &Path) -> String {
        let tree = tree.to_str().unwrap();
        let words = ["import", tree, "--name", "web", "--arch", "amd64"];
        self.run("ann", &words).expect(0).stdout.trim().to_owned()
    }
}

/// Yesterday: an image must have an age, and not too much of it.
fn epoch() -> String {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    (now.as_secs() - 86_400).to_string()
}

pub(crate) fn says(ran: &Ran, words: &[&str]) {
    for word in words {
        assert!(
            ran.stderr.contains(word),
            "`{word}` is not in:\n{}",
            ran.stderr
        );
    }
}

/// The whole way, with a real build and a real rebuild.
#[test]
fn from_a_build_to_prod_and_back() {
    let team = Team::new();
    fs::write(
        team.path("web.toml"),
        "name = \"web\"\n[bootstrap]\nsuite = \"bookworm\"\n\
         [[test]]\nname = \"it has a shell\"\nscript = \"test -x /bin/sh\"\n",
    )
    .unwrap();
    // Ann builds; her Debian was bootstrapped before.
    copy_places(&base_work(), &team.path("work"));
    let image = team
        .run("ann", &["web.toml"])
        .expect(0)
        .stdout
        .trim()
        .to_owned();
    let ci = team.json("ann", &["key", "show", "builder", "--json"]);
    let ci = ci["public"].as_str().unwrap();
    let (ann, bob, lab) = (
        team.key("ann", "ann"),
        team.key("bob", "bob"),
        team.key("lab", "lab"),
    );
    let policy = format!(
        "built = {{ keys = [\"ci\"] }}\ntested = {{ keys = [\"ci\"] }}\n\
         rebuilt = {{ keys = [\"lab\"] }}\n\
         approvals = {{ count = 2, keys = [\"ann\", \"bob\"] }}\n\
         suites = [\"bookworm\"]\nfrom = [\"staging\"]\n\
         [keys]\nci = \"{ci}\"\nann = \"{ann}\"\nbob = \"{bob}\"\nlab = \"{lab}\"\n"
    );
    fs::write(team.path("policy.toml"), policy).unwrap();

    team.run("ann", &["env", "init", "staging", "--plain"])
        .expect(0);
    // Prod takes two of two.
    let init = [
        "env",
        "init",
        "prod",
        "--root",
        "ann",
        "--root",
        &bob,
        "--root-threshold",
        "2",
        "--targets",
        "ann",
        "--targets",
        &bob,
        "--targets-threshold",
        "2",
        "--policy",
        "policy.toml",
    ];
    let begun = team.run("ann", &init).expect(0);
    says(&begun, &["waits for more signatures", "prod-root-1.json"]);
    // A key that has no say is refused, and those that have one are named.
    let wrong = team
        .run("lab", &["env", "root", "sign", "prod-root-1.json"])
        .expect(3);
    says(
        &wrong,
        &["there is no key in hand", "signed as root: 1 of 2"],
    );
    let signed = team
        .run("bob", &["env", "root", "sign", "prod-root-1.json"])
        .expect(0);
    says(&signed, &["it has all signatures"]);
    team.run("ann", &["env", "root", "publish", "prod-root-1.json"])
        .expect(0);

    // To staging, twice: the second time there is nothing to do.
    let promoted = team
        .run("ann", &["promote", "web", "--to", "staging"])
        .expect(0);
    says(&promoted, &["compared with every digest", "published"]);
    assert_eq!(promoted.stdout.trim(), image);
    let again = team
        .run("ann", &["promote", "web", "--to", "staging"])
        .expect(0);
    says(&again, &["is the newest release of staging already"]);

    // Prod: refused, point by point.
    team.run("ann", &["approve", "web", "--for", "prod", "--key", "ann"])
        .expect(0);
    let refused = team
        .run("ann", &["promote", "staging/web", "--to", "prod"])
        .expect(3);
    says(
        &refused,
        &[
            "does not meet the policy of prod",
            "rebuilt: 0 of 1; wanted of lab: imgbuild rebuild",
            "approvals: 1 of 2, by ann; wanted of bob: imgbuild approve",
        ],
    );
    assert!(!refused.stderr.contains(" built: 0"), "{}", refused.stderr);
    let releases = team.json("ann", &["env", "status", "prod", "--json"]);
    assert_eq!(
        releases["environments"][0]["releases"],
        Value::Array(vec![])
    );

    // Another builder, and the second approval.
    let rebuilt = team
        .run("lab", &["rebuild", "web", "--attest", "--key", "lab"])
        .expect(0);
    says(&rebuilt, &["the same bytes", "says so in attestations/"]);
    let approve = ["approve", "web", "--for", "prod", "--key", "bob"];
    says(
        &team.run("bob", &approve).expect(3),
        &["nobody here has vouched for the environment dev"],
    );
    // A digest means the same whoever made the environments.
    let approve = ["approve", &image, "--for", "prod", "--key", "bob"];
    team.run("bob", &approve).expect(0);
    let said = team
        .run("ann", &["show", "web", "--attestations"])
        .expect(0)
        .stdout;
    for kind in ["built", "tested", "rebuilt", "approved"] {
        assert!(said.contains(kind), "{said}");
    }

    // Two signatures: one file.
    let half = team
        .run("ann", &["promote", "staging/web", "--to", "prod"])
        .expect(0);
    says(
        &half,
        &[
            "the policy of prod is met",
            "imgbuild promote --sign prod-web-1.json",
        ],
    );
    // Bob was not there when prod was made; he asks, and vouches.
    let root = team.root("prod");
    team.run("bob", &["env", "trust", "prod", &root]).expect(0);
    let staging = team.root("staging");
    let unknown = team
        .run("bob", &["promote", "--sign", "prod-web-1.json"])
        .expect(3);
    says(
        &unknown,
        &["nobody here has vouched for the environment staging"],
    );
    team.run("bob", &["env", "trust", "staging", &staging])
        .expect(0);
    let whole = team
        .run("bob", &["promote", "--sign", "prod-web-1.json"])
        .expect(0);
    says(&whole, &["release 1 of web is", "has all signatures"]);
    team.run("ann", &["env", "root", "publish", "prod-web-1.json"])
        .expect(0);
    let twice = team
        .run("ann", &["env", "root", "publish", "prod-web-1.json"])
        .expect(0);
    says(&twice, &["was published already"]);

    // Revoked, by both, and not promoted again.
    let revoke = [
        "revoke",
        "prod/web",
        "--in",
        "prod",
        "--reason",
        "a hole",
        "-o",
        "revoke.json",
    ];
    team.run("ann", &revoke).expect(0);
    let second = team
        .run("bob", &["promote", "--sign", "revoke.json"])
        .expect(0);
    says(&second, &["must not run any more", "reason: a hole"]);
    team.run("ann", &["env", "root", "publish", "revoke.json"])
        .expect(0);
    let status = team.run("ann", &["env", "status", "prod"]).expect(0).stdout;
    assert!(
        status.contains(&format!("revoked    web  {image}")),
        "{status}"
    );
    let log = team.run("ann", &["env", "log", "prod"]).expect(0).stdout;
    let lines: Vec<_> = log.lines().collect();
    assert_eq!(lines.len(), 2, "{log}");
    assert!(
        lines[0].contains("revoke") && lines[0].contains("\"a hole\""),
        "{log}"
    );
    assert!(
        lines[1].contains("promote") && lines[1].contains("from staging/1"),
        "{log}"
    );
}

/// What changes is shown, a changed log is noticed, keys come and go.
#[test]
fn differences_logs_and_keys() {
    let team = Team::new();
    let first = team.import(&team.tree("one", "1.0"));
    team.run("ann", &["env", "init", "staging", "--plain"])
        .expect(0);
    team.run("ann", &["promote", "web", "--to", "staging"])
        .expect(0);
    let second = team.import(&team.tree("two", "1.1"));
    assert_ne!(first, second);
    let shown = team
        .run("ann", &["promote", "web", "--to", "staging", "--dry-run"])
        .expect(0);
    says(&shown, &["libfoo", "1.0", "1.1", "nothing was signed"]);
    let promoted = team.run(
        "ann",
        &["promote", "dev/web", "--to", "staging", "--min-seq", "2"],
    );
    says(
        &promoted.expect(0),
        &["nodes may not go back below release 2"],
    );

    // Of another one's environment nothing is signed before somebody vouches for it.
    let stranger = team.run(
        "eve",
        &["revoke", "web", "--in", "staging", "--reason", "x"],
    );
    says(&stranger.expect(3), &["nobody here has vouched"]);
    let wrong = format!("sha256:{}", "0".repeat(64));
    let stranger = team.run("eve", &["env", "trust", "staging", &wrong]);
    says(&stranger.expect(3), &["another environment"]);

    // The online key goes, in one command; the environment stays what it was.
    let root = team.root("staging");
    team.key("ann", "new-online");
    let rotate = [
        "env",
        "rotate-key",
        "staging",
        "--old",
        "staging.online",
        "--new",
        "new-online",
    ];
    team.run("ann", &rotate).expect(0);
    assert_eq!(team.root("staging"), root);
    let status = team.json("ann", &["env", "status", "staging", "--json"]);
    let roles = &status["environments"][0]["roles"];
    assert_eq!(roles[0]["version"], 2);
    assert_eq!(roles[3]["keys"][0]["name"], "new-online");
    team.run("ann", &["env", "refresh", "staging"]).expect(0);

    // One changed letter in an old entry.
    let entry = team.path("store/env/staging/log/1.json");
    team.run("ann", &["env", "log", "staging"]).expect(0);
    let text = fs::read_to_string(&entry)
        .unwrap()
        .replace("promote", "release");
    fs::write(&entry, text).unwrap();
    let log = team.run("ann", &["env", "log", "staging"]).expect(3);
    says(&log, &["entry 1 of the log cannot be believed"]);
}

/// dev in one store, prod in another: the image moves with what is said about it, and
/// the second one costs what changed.
#[test]
fn into_another_store() {
    let team = Team::new();
    let tree = team.tree("one", "1.0");
    fs::write(tree.join("etc/large"), vec![b'x'; 1 << 20]).unwrap();
    let image = team.import(&tree);
    let prod = team.path("prod");
    let prod = prod.to_str().unwrap();
    team.run("ann", &["env", "init", "prod", "--plain", "--store", prod])
        .expect(0);
    let approve = ["approve", &image, "--for", "prod", "--key", "builder"];
    team.run("ann", &[&approve[..], &["--elsewhere"]].concat())
        .expect(0);
    let promote = ["promote", "dev/web", "--to", "prod", "--store", prod];
    let dry = team
        .run("ann", &[&promote[..], &["--dry-run"]].concat())
        .expect(0);
    says(&dry, &["web is new in prod", "nothing was signed"]);
    assert!(!team.path("prod/images").join(&image[7..]).exists());
    team.run("ann", &["show", &image, "--store", prod])
        .expect(1);

    let promoted = team.run("ann", &promote).expect(0);
    says(&promoted, &["moved from", "published"]);
    let said = team.run(
        "ann",
        &["show", "prod/web", "--attestations", "--store", prod],
    );
    assert!(said.expect(0).stdout.contains("approved   by builder"));
    team.run("ann", &["store", "fsck", "--store", prod])
        .expect(0);
    let again = team.run("ann", &promote).expect(0);
    says(&again, &["is the newest release of prod already"]);

    // What the source has damaged is not released, and what prod has stays.
    let tree = team.tree("one", "1.1");
    fs::write(tree.join("etc/new"), vec![b'y'; 100_000]).unwrap();
    let before = packs(&team.path("store"));
    team.import(&tree);
    let after = packs(&team.path("store"));
    let pack = after.iter().find(|pack| !before.contains(pack)).unwrap();
    let mut bytes = fs::read(pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(pack, &bytes).unwrap();
    let hurt = team.run("ann", &promote).expect(3);
    says(&hurt, &["cannot copy", "store fsck"]);
    bytes[middle] ^= 1;
    fs::write(pack, &bytes).unwrap();
    let second = team.run("ann", &promote).expect(0);
    says(
        &second,
        &[
            "what changes in prod",
            "1.0 -> 1.1",
            " in place of ",
            "published",
        ],
    );
    assert!(team.path("prod/deltas").is_dir());
}

fn packs(store: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![store.join("packs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.extension().is_none() || path.extension().unwrap() == "pack" => {
                    found.push(path);
                }
                false => {}
            }
        }
    }
    found
}

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
            .current_dir(team.dir.path())
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

/// What was approved is what is started, and not only the bytes; what is revoked is bytes.
#[test]
fn an_approval_is_of_a_manifest_and_a_revocation_of_bytes() {
    let team = Team::new();
    let tree = team.tree("one", "1.0");
    let image = team.import(&tree);
    let ann = team.key("ann", "ann");
    let policy = format!("approvals = {{ keys = [\"ann\"] }}\n[keys]\nann = \"{ann}\"\n");
    fs::write(team.path("policy.toml"), policy).unwrap();
    let init = ["env", "init", "prod", "--plain", "--policy", "policy.toml"];
    team.run("ann", &init).expect(0);
    let approve = ["approve", "dev/web", "--for", "prod", "--key", "ann"];
    team.run("ann", &approve).expect(0);
    // The same bytes, described otherwise.
    let words = [
        "import",
        tree.to_str().unwrap(),
        "--name",
        "other",
        "--arch",
        "amd64",
    ];
    let same = team.run("ann", &words).expect(0).stdout;
    assert_eq!(same.trim(), image);
    let refused = team
        .run("ann", &["promote", "dev/other", "--to", "prod"])
        .expect(3);
    says(&refused, &["does not count", "what this one starts"]);
    let said = team
        .run("ann", &["show", "dev/other", "--attestations"])
        .expect(0)
        .stdout;
    assert!(
        said.contains("(of the bytes, not of what is started)"),
        "{said}"
    );
    team.run("ann", &["promote", "dev/web", "--to", "prod"])
        .expect(0);

    let approve = ["approve", "dev/other", "--for", "prod", "--key", "ann"];
    team.run("ann", &approve).expect(0);
    let revoke = ["revoke", &image, "--in", "prod", "--reason", "a hole"];
    team.run("ann", &revoke).expect(0);
    for signing in [
        &["promote", "dev/other", "--to", "prod"][..],
        &["approve", "dev/other", "--for", "prod", "--key", "ann"],
    ] {
        says(
            &team.run("ann", signing).expect(3),
            &["was revoked in prod"],
        );
    }
    // Under every name, and also where it is another environment that is asked about.
    let listed = team.run("ann", &["list"]).expect(0).stdout;
    let marked = listed
        .lines()
        .filter(|line| line.contains("revoked in prod"));
    assert_eq!(marked.count(), 2, "{listed}");
    let shown = team.run("ann", &["show", "dev/other"]).expect(0).stdout;
    assert!(shown.contains("revoked        in prod"), "{shown}");
    let mut approve = vec!["approve", "dev/other", "--for", "staging", "--key", "ann"];
    approve.push("--elsewhere");
    let warned = team.run("ann", &approve).expect(0);
    says(&warned, &["warning: it was revoked in prod"]);
}

/// What was released before is what is started, too.
#[test]
fn an_environment_before_released_this_manifest() {
    let team = Team::new();
    let tree = team.tree("one", "1.0");
    team.import(&tree);
    team.run("ann", &["env", "init", "staging", "--plain"])
        .expect(0);
    team.run("ann", &["promote", "dev/web", "--to", "staging"])
        .expect(0);
    fs::write(team.path("policy.toml"), "from = [\"staging\"]\n").unwrap();
    let init = ["env", "init", "prod", "--plain", "--policy", "policy.toml"];
    team.run("ann", &init).expect(0);
    let tree = tree.to_str().unwrap();
    let other = ["import", tree, "--name", "other", "--arch", "amd64"];
    team.run("ann", &other).expect(0);
    let refused = team
        .run("ann", &["promote", "dev/other", "--to", "prod"])
        .expect(3);
    says(&refused, &["from: it is not released in staging"]);
    team.run("ann", &["promote", "dev/web", "--to", "prod"])
        .expect(0);

    // Nor is it signed what somebody who can write to the store has made of it.
    let targets = team.path("store/env/dev/targets/other");
    let file = fs::read_dir(targets).unwrap().next().unwrap().unwrap();
    let text = fs::read_to_string(file.path()).unwrap();
    let changed = text.replace("\"bookworm\"", "\"trixie\"");
    assert_ne!(changed, text);
    fs::write(file.path(), changed).unwrap();
    let refused = team.run("ann", &["promote", "dev/other", "--to", "staging"]);
    says(&refused.expect(3), &["is not what was signed"]);
}

/// What changes is said from what was released, and not from what else is known of those bytes.
#[test]
fn differences_are_from_the_manifest_that_was_released() {
    let team = Team::new();
    let tree = team.tree("one", "1.0");
    let tree = tree.to_str().unwrap();
    for suite in ["bookworm", "trixie"] {
        let words = ["import", tree, "--name", "web", "--arch", "amd64"];
        team.run("ann", &[&words[..], &["--suite", suite]].concat())
            .expect(0);
    }
    team.run("ann", &["env", "init", "staging", "--plain"])
        .expect(0);
    let promote = |seq: &str| {
        let image = format!("dev/web/{seq}");
        let done = team.run("ann", &["promote", &image, "--to", "staging"]);
        done.expect(0)
    };
    promote("2");
    says(
        &promote("1"),
        &["web (trixie amd64)", "web (bookworm amd64)"],
    );
}
