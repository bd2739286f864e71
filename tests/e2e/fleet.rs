//! A fleet by its receipts: real nodes say what runs on them, and operators see it, also where
//! somebody else writes in their name.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use servers::nginx::Nginx;
use store::manifest::{Manifest, Run};
use store::tuf::{Environment, RoleKeys};
use store::{EnvName, WritableStore};
use tests::binaries::{Ran, imgbuild, imgnode};
use tests::fixtures;
use tests::terminal::Terminal;

use crate::page::Pages;
use crate::team::{Team, at, says};

/// An app that lives until it is told to end.
const APP: &str = "#!/bin/sh\ntrap 'exit 0' TERM\nwhile :; do sleep 1 & wait $!; done\n";

/// nginx takes new files, and no others.
const PUT: &str = "location / { dav_methods PUT; create_full_put_path on; dav_access all:r; \
    set $taken $request_method; if (-f $request_filename) { set $taken \"${taken}-taken\"; } \
    if ($taken = PUT-taken) { return 412; } }";

/// A team of one, Ann, who signs releases of dev, and Bob, who looks at its nodes.
pub(crate) struct Fleet {
    pub(crate) team: Team,
}

impl Fleet {
    pub(crate) fn new() -> Self {
        let fleet = Self { team: Team::new() };
        let team = &fleet.team;
        let tree = team.tree("tree", "1.0");
        for program in ["dash", "setpriv", "env", "sleep"] {
            install_program(&tree, &Path::new("/usr/bin").join(program));
        }
        for part in ["bin", "proc", "sys", "dev", "tmp", "home/op"] {
            fs::create_dir_all(tree.join(part)).unwrap();
        }
        std::os::unix::fs::symlink("../usr/bin/dash", tree.join("bin/sh")).unwrap();
        let users = "root:x:0:0:root:/root:/bin/sh\nop:x:4242:4242::/home/op:/bin/sh\n";
        fs::write(tree.join("etc/passwd"), users).unwrap();
        fs::write(tree.join("etc/group"), "root:x:0:\nop:x:4242:\n").unwrap();
        fs::create_dir_all(tree.join("srv")).unwrap();
        fs::write(tree.join("srv/app"), APP).unwrap();
        fs::set_permissions(tree.join("srv/app"), fs::Permissions::from_mode(0o755)).unwrap();
        // The first release cannot be started: it is there to make the environment.
        team.import(&tree);
        fs::create_dir(team.path("receipts")).unwrap();
        let root = team.root("dev");
        team.run("bob", &["env", "trust", "dev", &root]).expect(0);
        fleet
    }

    /// Releases the tree in another version; one that is bad does not get as far as to start.
    fn release(&self, version: &str, is_good: bool) {
        let before: &[&str] = if is_good {
            &[]
        } else {
            &["/bin/sh", "-c", "exit 4"]
        };
        self.release_with(version, &serde_json::json!({ "before_switch": before }));
    }

    /// Releases the tree in another version, which is started as `more` says; the number of the release.
    pub(crate) fn release_with(&self, version: &str, more: &Value) -> u64 {
        let team = &self.team;
        let image = team.import(&team.tree("tree", version));
        let store = WritableStore::open_or_create(team.path("store")).unwrap();
        let dev: EnvName = "dev".parse().unwrap();
        let keys = RoleKeys::load(&team.path("ann"), &dev).unwrap();
        let manifest = store.store().manifest(&image.parse().unwrap()).unwrap();
        let mut run = serde_json::json!({
            "user": "op", "directory": "/home/op", "start": ["/srv/app"], "stop": [],
            "reload": [], "environment": {},
        });
        run.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let run: Run = serde_json::from_value(run).unwrap();
        let manifest = Manifest {
            run: Some(run),
            ..manifest
        };
        let mut env = Environment::open(&store, &dev).unwrap();
        let release = env.release(&manifest, &keys, jiff::Timestamp::now());
        release.unwrap().seq
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.team.path(name).to_str().unwrap().to_owned()
    }

    fn node_command(&self, name: &str, words: &[&str]) -> Command {
        let mut command = Command::new(imgnode());
        command
            .current_dir(self.team.path(""))
            .args(["--state", &format!("state-{name}")])
            .args(words);
        command
    }

    pub(crate) fn node(&self, name: &str, words: &[&str]) -> Ran {
        Ran::of(&mut self.node_command(name, words))
    }

    /// A node that follows dev and has its newest release, and the file that enrols it.
    fn join(&self, name: &str, group: &str, to: &str) -> String {
        self.follow("dev", name, group, to)
    }

    /// A node that follows an environment and has its newest release, and the file that enrols it.
    pub(crate) fn follow(&self, env: &str, name: &str, group: &str, to: &str) -> String {
        let (store, root) = (
            self.path("store"),
            self.path(&format!("store/env/{env}/metadata/1.root.json")),
        );
        let init = ["init", "--env", env, "--repo", &store, "--root", &root];
        self.node(name, &[&init[..], &["--receipts", to]].concat())
            .expect(0);
        let words = ["receipts", "key", "--name", name, "--group", group];
        let line = self.node(name, &words).expect(0).stdout;
        let file = format!("{name}.node");
        fs::write(self.team.path(&file), line).unwrap();
        let target = format!("dir:{}", self.path(&format!("images-{name}")));
        let system = format!("Web-{name}");
        self.node(
            name,
            &["install", "web", "--as", &system, "--target", &target],
        )
        .expect(0);
        file
    }

    fn enrol(&self, files: &[&str]) -> Ran {
        let words = [
            "fleet",
            "enrol",
            "--env",
            "dev",
            "--receipts",
            "receipts",
            "--yes",
        ];
        self.team.run("ann", &[&words[..], files].concat())
    }

    fn status(&self, words: &[&str]) -> Ran {
        let all = [&["fleet", "status", "--receipts", "receipts"], words].concat();
        self.team.run("bob", &all)
    }

    /// The kinds of what is found of a node.
    fn findings(&self, name: &str) -> Vec<String> {
        let said = self.status(&["--json"]).stdout;
        let said: Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
        let nodes = said["environments"][0]["nodes"].as_array().unwrap();
        let node = nodes.iter().find(|node| node["node"] == name).unwrap();
        let found = node["findings"].as_array().unwrap().iter();
        found
            .map(|one| one["kind"].as_str().unwrap().to_owned())
            .collect()
    }

    /// The object of a receipt.
    fn receipt(&self, name: &str, counter: u64) -> std::path::PathBuf {
        self.team
            .path(&format!("receipts/receipts/{name}/{counter:012}.json"))
    }
}

/// Ends releases of web in dev below `seq`, of which the last is `old`, and removes at once what only
/// they need.
pub(crate) fn collect_below(run: impl Fn(&[&str]) -> Ran, seq: u64, old: u64) {
    let (old, least) = (format!("dev/web/{old}"), seq.to_string());
    let revoke = ["revoke", &old, "--in", "dev", "--reason", "old"];
    run(&[&revoke[..], &["--min-seq", &least, "--yes"]].concat());
    let collect = ["store", "gc", "--delete", "--grace", "0"];
    run(&[&collect[..], &["--keep-last", "0", "--waste", "10"]].concat());
}

/// Copies a program and the libraries it needs.
fn install_program(tree: &Path, program: &Path) {
    let listed = Ran::of(Command::new("ldd").arg(program)).expect(0).stdout;
    let libraries = listed
        .split_whitespace()
        .filter(|word| word.starts_with('/'));
    for file in libraries.map(Path::new).chain([program]) {
        let to = tree.join(file.strip_prefix("/").unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(file, to).unwrap();
    }
}

#[test]
fn operators_see_what_runs_where_and_why() {
    let fleet = Fleet::new();
    fleet.release("2.0", true);
    let to = fleet.path("receipts");
    let files: Vec<String> = ["web01", "web02", "web03"]
        .map(|name| fleet.join(name, if name == "web03" { "us" } else { "eu" }, &to))
        .into();
    let none = fleet.status(&["dev"]).expect(0);
    assert!(
        none.stdout.contains("no nodes are enrolled"),
        "{}",
        none.stdout
    );
    // Who has vouched for nothing is told nothing; who signs no releases enrols nobody.
    let words = ["fleet", "status", "dev", "--receipts", "receipts"];
    says(&fleet.team.run("eve", &words).expect(3), &["env trust dev"]);
    let words = [
        "fleet",
        "enrol",
        "--env",
        "dev",
        "--receipts",
        "receipts",
        "-y",
        &files[0],
    ];
    says(
        &fleet.team.run("bob", &words).expect(3),
        &["no key here signs"],
    );

    fleet.enrol(&[&files[0], &files[1]]).expect(0);
    let said = fleet.status(&[]).expect(3);
    assert!(
        said.stdout.contains("eu: 2 of 2 current"),
        "{}",
        said.stdout
    );
    assert!(
        said.stdout.contains("web03: nobody has enrolled it"),
        "{}",
        said.stdout
    );
    fs::write(fleet.team.path("ghost.node"), {
        let key = fleet.team.key("ann", "ghost");
        format!("# not there yet\nghost eu {key}\n")
    })
    .unwrap();
    fleet.enrol(&[&files[2], "ghost.node"]).expect(0);
    assert_eq!(fleet.findings("ghost"), ["never-seen"]);
    fleet.status(&[]).expect(4);
    fleet.enrol(&["--remove", "ghost"]).expect(0);
    fleet.status(&[]).expect(0);

    let listen = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listen.local_addr().unwrap().to_string();
    drop(listen);
    fleet
        .node("web01", &["start", "Web-web01", "--listen", &address])
        .expect(0);
    fleet.release("3.0", true);
    let behind = fleet.status(&[]).expect(4);
    assert!(
        behind.stdout.contains("eu: 0 of 2 current, 2 behind"),
        "{}",
        behind.stdout
    );
    assert!(
        behind.stdout.contains("2 releases behind"),
        "{}",
        behind.stdout
    );
    for name in ["web01", "web02"] {
        fleet
            .node(name, &["upgrade", &format!("Web-{name}")])
            .expect(0);
    }
    fleet.node("web02", &["rollback", "Web-web02"]).expect(0);
    assert_eq!(fleet.findings("web01"), [""; 0]);
    assert_eq!(fleet.findings("web02"), ["rolled-back"]);
    assert_eq!(fleet.findings("web03"), ["behind"]);
    // A release that does not work stays out, and the node says why.
    fleet.release("4.0", false);
    fleet.node("web01", &["upgrade", "Web-web01"]).expect(1);
    let mut found = fleet.findings("web01");
    found.sort();
    assert_eq!(found, ["behind", "failed"]);
    let said = fleet.status(&[]).expect(4).stdout;
    assert!(
        said.contains("did not work, and the generation before goes on"),
        "{said}"
    );
    assert!(said.contains("ended with exit code 4"), "{said}");
    // What was revoked is said of who runs it.
    let revoke = [
        "revoke",
        "dev/web/3",
        "--in",
        "dev",
        "--reason",
        "hole",
        "--yes",
    ];
    fleet.team.run("ann", &revoke).expect(0);
    assert!(fleet.findings("web03").contains(&"revoked".to_owned()));
    assert!(!fleet.findings("web01").contains(&"revoked".to_owned()));

    let file = fleet.path("fleet.prom");
    fleet.status(&["--prometheus", &file]).expect(4);
    let metrics = fs::read_to_string(file).unwrap();
    for line in [
        "imgbuild_fleet_nodes{environment=\"dev\",group=\"eu\"} 2",
        "imgbuild_fleet_node_finding{environment=\"dev\",group=\"eu\",node=\"web01\",kind=\"failed\"} 1",
        "imgbuild_fleet_node_finding{environment=\"dev\",group=\"us\",node=\"web03\",kind=\"failed\"} 0",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }

    let why = fleet
        .team
        .run("bob", &["why", "web01", "--receipts", "receipts"])
        .expect(0)
        .stdout;
    for line in [
        "it runs by receipt",
        "[node web01]",
        "dev/web/5 of ",
        "imported, from bytes that nobody here knows",
        "approved  by nobody  [nothing vouches for this]",
        "replaced  dev/web/3",
        ", revoked since: imgnode rollback Web-web01",
    ] {
        assert!(why.contains(line), "{line}\n{why}");
    }
    let page = ["page", "--out", "www", "--receipts", "receipts"];
    fleet.team.run("bob", &page).expect(0);
    let pages = Pages::read(&fleet.team.path("www"));
    pages.check();
    let overview = pages.text("fleet.html");
    for words in [
        "Nodes of dev by group and state; list 3 of them, signed by ",
        "ended with exit code 4",
        "rolled-back",
    ] {
        assert!(overview.contains(words), "{words}\n{overview}");
    }
    let of_node = pages.text("node/dev~web02");
    assert!(
        of_node.contains("rollback") && of_node.contains("upgrade"),
        "{of_node}"
    );
    let show = fleet
        .team
        .run("bob", &["fleet", "show", "web02", "--receipts", "receipts"]);
    let show = show.expect(0).stdout;
    assert!(show.contains("rollback Web-web02  done"), "{show}");
    fleet.node("web01", &["stop", "Web-web01"]).expect(0);
}

#[test]
fn what_is_not_a_nodes_own_word_is_named() {
    let fleet = Fleet::new();
    fleet.release("2.0", true);
    let to = fleet.path("receipts");
    let names = [
        "gap", "old", "copy", "forged", "early", "late", "silent", "gone",
    ];
    let files = names.map(|name| fleet.join(name, "eu", &to));
    fleet.enrol(&files.each_ref().map(String::as_str)).expect(0);
    fleet.status(&[]).expect(0);
    let send = |name: &str| {
        fleet.node(name, &["receipts", "send"]).expect(0);
    };
    for name in names {
        send(name);
        send(name);
    }
    // One that nobody may miss.
    fs::remove_file(fleet.receipt("gap", 2)).unwrap();
    fs::copy(fleet.receipt("old", 1), fleet.receipt("old", 9)).unwrap();
    fixtures::copy(
        &fleet.team.path("state-copy"),
        &fleet.team.path("state-clone"),
    );
    send("copy");
    fleet
        .node("clone", &["receipts", "key", "--group", "us"])
        .expect(0);
    says(
        &fleet.node("clone", &["receipts", "send"]).expect(0),
        &["another receipt 4 of this node was there already"],
    );
    fs::copy(fleet.receipt("gap", 3), fleet.receipt("forged", 4)).unwrap();
    for (name, by) in [("early", "+2h"), ("late", "-2h")] {
        let node = fleet.node_command(name, &["receipts", "send"]);
        let mut elsewhen = Command::new("faketime");
        elsewhen
            .args(["-f", by])
            .arg(node.get_program())
            .args(node.get_args());
        Ran::of(elsewhen.current_dir(node.get_current_dir().unwrap())).expect(0);
    }
    let said = fleet.status(&[]).expect(3);
    for (name, kind) in [
        ("gap", "gap"),
        ("old", "replayed"),
        ("copy", "copied-key"),
        ("forged", "not-believed"),
        ("early", "clock-ahead"),
        ("late", "clock-behind"),
    ] {
        assert_eq!(fleet.findings(name), [kind], "{name}\n{}", said.stdout);
    }
    assert_eq!(fleet.findings("silent"), [""; 0]);
    says(
        &said,
        &["receipts of copy, forged, gap, old cannot be believed"],
    );
    // Once more, from what was read: the same.
    let again = fleet.status(&[]).expect(3);
    assert_eq!(again.stdout, said.stdout);
    // What was there is missed.
    fs::remove_file(fleet.receipt("gone", 3)).unwrap();
    assert_eq!(fleet.findings("gone"), ["gap"]);
    // An earlier list of nodes, in which somebody counts who was taken off.
    let list = fleet.team.path("receipts/fleet/dev.json");
    let old = fs::read(&list).unwrap();
    fleet.enrol(&["--remove", "copy"]).expect(0);
    fleet.status(&[]).expect(3);
    fs::write(&list, &old).unwrap();
    fs::remove_file(fleet.team.path("receipts/fleet/dev/2.json")).unwrap();
    says(
        &fleet.status(&[]).expect(3),
        &["its version is 1, and 2 was seen"],
    );
    fs::remove_dir_all(fleet.team.path("receipts/fleet")).unwrap();
    says(&fleet.status(&["dev"]).expect(3), &["none is there"]);
}

/// Of two who enrol nodes at once one is told, and nothing of the other's is lost. Later nobody hears
/// of the nodes any more.
#[test]
fn two_enrol_at_once_and_nodes_fall_silent() {
    let fleet = Fleet::new();
    fleet.release("2.0", true);
    let to = fleet.path("receipts");
    let [one, two, three] = ["web01", "web02", "web03"].map(|name| fleet.join(name, "eu", &to));
    fleet.enrol(&[&one]).expect(0);
    let first = fs::read(fleet.team.path("receipts/fleet/dev.json")).unwrap();
    let words = format!("fleet enrol --env dev --receipts receipts {two}");
    let line = format!("{} {words}", imgbuild().display());
    let mut screen = Terminal::start(&line, &fleet.team.command("ann"));
    assert!(screen.shows("[y/N] "));
    fleet.enrol(&[&three]).expect(0);
    screen.type_keys("y\n");
    let (code, said) = screen.end();
    assert_eq!(code, 75, "{said}");
    assert!(
        said.contains("somebody else has changed the nodes of dev meanwhile"),
        "{said}"
    );
    fleet.status(&[]).expect(3);
    says(
        &fleet.enrol(&[&two]).expect(0),
        &["list 3 of dev has 3 nodes"],
    );
    // Somebody was killed between the two objects of a list.
    fs::write(fleet.team.path("receipts/fleet/dev.json"), first).unwrap();
    let said = fleet.status(&[]).expect(0).stdout;
    assert!(said.contains("3 nodes, list 3 signed by"), "{said}");
    // Somebody who can write calls an earlier list the next one.
    let lists = fleet.team.path("receipts/fleet/dev");
    fs::copy(lists.join("1.json"), lists.join("4.json")).unwrap();
    says(&fleet.status(&["dev"]).expect(3), &["list 1 is called 4"]);
    fs::remove_file(lists.join("4.json")).unwrap();

    let status = ["fleet", "status", "--receipts", "receipts", "--json"];
    let found = |ahead: &str| {
        let said = at(&fleet.team, ahead, "bob", &status).stdout;
        ["overdue", "expired"].map(|kind| said.contains(&format!("\"kind\":\"{kind}\"")))
    };
    assert_eq!(found("+25h"), [false, false]);
    assert_eq!(found("+27h"), [true, false]);
    assert_eq!(found("+40d"), [true, true]);
}

/// Nobody is there at first; then a web server is, which neither lists nor replaces anything.
#[test]
fn receipts_come_later_and_over_http() {
    let fleet = Fleet::new();
    fleet.release("2.0", true);
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let nowhere = format!("http://{}/", free.local_addr().unwrap());
    drop(free);
    let file = fleet.join("web01", "eu", &nowhere);
    fleet.enrol(&[&file]).expect(0);
    fleet.release("3.0", true);
    says(
        &fleet.node("web01", &["upgrade", "Web-web01"]).expect(0),
        &["2 receipts could not be sent"],
    );
    assert_eq!(fleet.findings("web01"), ["never-seen"]);
    let folder = fleet.team.path("receipts");
    for open in [folder.clone(), folder.parent().unwrap().to_owned()] {
        fs::set_permissions(open, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let server = Nginx::serve(&folder, PUT);
    fleet
        .node("web01", &["receipts", "set", &server.url()])
        .expect(0);
    fleet.node("web01", &["receipts", "send"]).expect(0);
    let url = server.url();
    let words = ["fleet", "status", "dev", "--receipts", &url, "--all"];
    let said = fleet.team.run("bob", &words).expect(0).stdout;
    assert!(said.contains("receipt 3 of "), "{said}");
    assert!(said.contains("web/5 "), "{said}");
    // Where old ones were removed, a first look finds the others.
    let prune = [
        "fleet",
        "prune",
        "dev",
        "--receipts",
        "receipts",
        "--keep",
        "1",
    ];
    says(
        &fleet.team.run("bob", &prune).expect(0),
        &["2 receipts would be removed"],
    );
    fleet
        .team
        .run("bob", &[&prune[..], &["--delete"]].concat())
        .expect(0);
    assert!(!fleet.receipt("web01", 2).exists() && fleet.receipt("web01", 3).exists());
    fs::remove_dir_all(fleet.team.path("work/fleet")).unwrap();
    let said = fleet.team.run("bob", &words).expect(0).stdout;
    assert!(said.contains("receipt 3 of "), "{said}");
    assert_eq!(fleet.findings("web01"), [""; 0]);
}
