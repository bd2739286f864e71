//! The pages as one path: from an empty fleet to a lost key. Everything that they show is typed at
//! terminals, page by page, each from what the one before left.

use std::fs;
use std::path::Path;

use tests::bench::bench;
use tests::binaries::is_soak;
use tests::fixtures::copy;
use tests::rebuilt::attest_rebuilt;

use super::fleet::{Fleet, MACHINES};
use super::text::{Block, Page};

/// An application that says its version to everybody, in place of a large one.
const APP: &str = r#"#!/usr/bin/perl
use Socket;
open(my $door, "+<&=", 3) or die "no socket: $!";
while (accept(my $guest, $door)) {
    while (<$guest>) { last if /^\r?\n/ }
    print $guest "HTTP/1.0 200 OK\r\nContent-Length: 10\r\n\r\nversion VV\n";
    close $guest;
}
"#;

const RECIPE: &str = r#"name = "web"
[bootstrap]
suite = "bookworm"
[[user]]
name = "web"
uid = 900
[[file]]
path = "/srv/app"
source = "app"
mode = "0755"
[[test]]
name = "it compiles"
script = "perl -c /srv/app"
[service]
user = "web"
directory = "/"
start = ["/srv/app"]
[service.health]
http = "/version"
"#;

/// The fleet, and what its people have learned on the way.
struct Story {
    fleet: Fleet,
    /// What the lab types for a release, and then everybody.
    rebuilt: Vec<String>,
    released: Vec<String>,
    /// The digest of the first root of prod.
    root: String,
    /// The newest image.
    image: String,
}

#[test]
fn from_an_empty_fleet_to_a_lost_key() {
    let fleet = Fleet::start(warm);
    let mut story = Story {
        fleet,
        rebuilt: Vec::new(),
        released: Vec::new(),
        root: String::new(),
        image: String::new(),
    };
    operators(&mut story);
    promotion(&mut story);
    keys(&story);
    stores(&story);
}

/// What the builder has before: the inputs of a minimal Debian, and its first layers. No mirror is
/// asked.
fn warm(fleet: &Path) {
    let bench = bench();
    let builder = fleet.join("builder");
    fs::create_dir_all(builder.join("root")).unwrap();
    copy(&bench.copy_of_inputs("inputs-only"), &builder.join("store"));
    copy(&bench.path("work"), &builder.join("layers"));
    fs::copy(bench.path("base.lock"), builder.join("root/web.lock")).unwrap();
    for machine in MACHINES {
        let home = fleet.join(machine).join("root");
        fs::create_dir_all(home.join("OFFLINE")).unwrap();
        for package in ["imgbuild_0.1.0_amd64.deb", "imgnode_0.1.0_amd64.deb"] {
            fs::write(home.join(package), "").unwrap();
        }
    }
}

fn operators(story: &mut Story) {
    let mut page = Page::open(&story.fleet, "operators.md");
    page.types("builder", "apt-get install ./imgbuild");
    page.types("builder", "cp -r /usr/share/doc/imgbuild/examples");
    story.write_application("1");
    story.image = last_image(&page.types("builder", "imgbuild web.toml"));
    page.types("builder", "imgbuild env init staging");

    // Keys and the policy.
    let keys = page.next("apt-get install ./imgbuild");
    let lines = keys.commands();
    for machine in ["ann", "bob", "lab"] {
        story.fleet.types(machine, &lines[0]);
    }
    let made = [
        ("ann", 1, "66d9..."),
        ("bob", 2, "8bd3..."),
        ("lab", 3, "e46a..."),
    ];
    for (machine, line, word) in made {
        let key = last_key(&story.fleet.types(machine, &lines[line]));
        story.fleet.means(word, &key);
        story.fleet.means(&machine.to_uppercase(), &key);
    }
    let key = last_key(&story.fleet.types("builder", &lines[4]));
    story.fleet.means("6300...", &key);
    let policy = page.next("# prod.toml").text;
    // The image is another one, without a security archive.
    let policy = story.fleet.written(&policy).replace("trixie", "bookworm");
    let policy = policy.replace("max-age-days = 60", "max-age-days = 10000");
    fs::write(story.fleet.path("builder/root/prod.toml"), policy).unwrap();
    story.root = ceremony(&story.fleet);

    page.types("builder", "systemctl enable --now imgbuild-refresh@dev");
    let saved = page.types("builder", "imgbuild env root save prod");
    assert!(saved.contains(&story.root), "{saved}");
    let server = page.next("server {").text;
    story.serve("builder", &server);
    let seen = "imgbuild show dev/web --store https://images.example/";
    story.fleet.types("ann", seen);

    // The first release.
    let trust = page.next("imgbuild env trust prod").commands();
    let status = story.fleet.types("builder", "imgbuild env status staging");
    for (line, root) in trust.iter().zip([&story.root, &fingerprint(&status)]) {
        story.fleet.means("sha256:...", root);
        for machine in ["ann", "bob"] {
            story.fleet.types(machine, line);
        }
    }
    story.rebuilt = page.next("imgbuild store copy https://images").commands();
    story.released = page.next("imgbuild promote dev/web").commands();
    for line in &story.rebuilt {
        story.fleet.types("lab", line);
    }
    story.serve("lab", &server.replace("images.example", "lab.example"));
    story.release(1);

    // Nodes.
    page.types("web01", "apt-get install ./imgnode");
    let said = page.types("web01", "echo 'IMGNODE_LISTEN");
    assert!(said.contains("version 1"), "{said}");
    page.types("builder", "for n in $(seq -w 2 10); do\n    scp");
    story.answers("version 1");
    story.write_application("2");
    let built = story.fleet.types("builder", "imgbuild web.toml");
    story.image = last_image(&built);
    for line in &story.rebuilt {
        story.lab_types(line);
    }
    story.release(2);
    page.types("builder", "ssh web01 imgnode upgrade Web");
    story.answers("version 2");
    let said = page.types("builder", "ssh web02 imgnode status Web");
    assert_eq!(said.matches("running\ttrue").count(), 2, "{said}");
    let said = page.types("builder", "imgbuild show prod/web --attestations");
    for part in [
        "rebuilt    by lab",
        "approved   by ann",
        "from staging/2  by ",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    page.types("builder", "ssh web01 imgnode rollback Web");
    story.answers("version 1");
    let three = ["ann", "bob", "builder"];
    page.types_each(&three, "imgbuild promote staging/web/1 --to prod");
    page.types_each(&three, "imgbuild revoke prod/web/2");
    for node in ["web01", "web02"] {
        story.fleet.types(node, "imgnode upgrade Web");
        let status = story.fleet.types(node, "imgnode status Web");
        assert!(status.contains("barred"), "{status}");
    }
    story.answers("version 1");

    // Timers.
    page.types("web01", "systemctl enable --now imgnode-upgrade@Web");
    page.types("builder", "imgbuild env status --json | jq");
    story.unit(
        "builder",
        &page.next("# /etc/systemd/system/imgbuild-gc.service"),
    );
    let mut timer = page.next("# /etc/systemd/system/imgbuild-gc.timer");
    story.unit("builder", &timer);
    timer.text = timer
        .text
        .replace("imgbuild-gc.timer", "imgnode-verify@.timer");
    story.unit("web01", &timer);
    story.unit("web01", &page.next("# /etc/systemd/system/imgnode-verify@"));
    page.types_each(&["builder", "web01"], "systemctl enable --now imgbuild-gc");
    page.ends();
}

/// The ceremony of the page about keys; the digest of the first root of prod.
fn ceremony(fleet: &Fleet) -> String {
    let mut page = Page::open(fleet, "keys.md");
    fleet.types("root", "apt-get install ./imgbuild_0.1.0_amd64.deb");
    let own = page.next("imgbuild key new root1").text;
    for number in ["1", "2", "3"] {
        let medium = format!("mkdir -p /media/root{number} /media/root{number}-copy");
        fleet.types("root", &medium);
        let said = fleet.types("root", &own.replace("root1", &format!("root{number}")));
        fleet.means(&format!("ROOT{number}"), &last_key(&said));
    }
    page.types("builder", "imgbuild env init prod");
    page.types("root", "imgbuild env root sign prod-root-1.json");
    let sign = page.next("imgbuild env root sign prod-root-1.json --store OFFLINE");
    for machine in ["ann", "bob"] {
        fleet.types(machine, &sign.text);
    }
    fingerprint(&page.types("builder", "imgbuild env root publish prod-root-1.json"))
}

fn promotion(story: &mut Story) {
    let mut page = Page::open(&story.fleet, "promotion.md");
    page.session(&[]);
    page.session(&[]);
    story.write_application("3");
    let built = story.fleet.types("builder", "imgbuild web.toml");
    story.image = last_image(&built);
    page.session(&[]);
    page.session(&[("imgbuild promote staging/web --to prod", 3)]);
    page.session_by(|machine, command| match machine {
        "lab" => story.lab_types(command),
        _ => story.fleet.types(machine, command),
    });
    page.skips("what changes in prod, from release 3:");
    page.session(&[]);
    page.types("builder", "systemctl enable --now imgbuild-refresh@qa");
    page.session(&[]);
    // A witness, and the file that it sends.
    story.fleet.means("sha256:...", &story.root);
    page.session(&[]);
    let [from, to] = ["lab", "builder"].map(|who| story.fleet.path(who).join("root/seen.json"));
    fs::copy(from, to).unwrap();
    page.session(&[]);
    let said = page.types("ann", "cd /var/lib/imgbuild");
    assert!(said.contains("Signature Verified Successfully"), "{said}");
    page.ends();
}

/// What the page about keys shows after the ceremony.
fn keys(story: &Story) {
    let fleet = &story.fleet;
    let mut page = Page::open(fleet, "keys.md");
    for begins in [
        "imgbuild key new root1",
        "imgbuild env init prod",
        "imgbuild env root sign prod-root-1.json",
        "imgbuild env root sign prod-root-1.json --store OFFLINE",
        "imgbuild env root publish prod-root-1.json",
    ] {
        page.next(begins);
    }
    // A change of the policy, by carried files.
    page.types("builder", "imgbuild env root propose prod --policy");
    fleet.means("sha256:...", &story.root);
    let offline = page.next("rm -rf offline").text;
    let carry = || {
        fleet.types("builder", &offline);
        let [from, to] = ["builder", "root"].map(|who| fleet.path(who).join("root/offline"));
        copy(&from, &to);
    };
    carry();
    let sign = page.next("imgbuild env trust prod");
    fleet.types("root", &sign.text);
    let two_roots = |file: &str| {
        carry();
        for line in &sign.commands()[1..] {
            fleet.types("root", &line.replace("prod-root-2.json", file));
        }
    };
    page.types("builder", "imgbuild env root publish prod-root-2.json");
    // Another online key.
    page.types("builder", "imgbuild key new prod.online2");
    two_roots("prod-root-3.json");
    let publish = "imgbuild env root publish prod-root-3.json";
    fleet.types("builder", publish);
    let backup = page.next("[ -e BACKUP ]");
    fleet.types("builder", &backup.text);
    // A lost key.
    fleet.types("eve", "apt-get install ./imgbuild_0.1.0_amd64.deb");
    let lost = page.next("imgbuild key new eve").commands();
    fleet.types("eve", &lost[0]);
    let sent = fleet.path("eve").join("etc/imgbuild/keys/eve.pub");
    fs::copy(sent, fleet.path("builder").join("root/eve.pub")).unwrap();
    fleet.means("EVE", "eve.pub");
    fleet.types("eve", &lost[1]);
    fleet.types("builder", &lost[2]);
    two_roots("bob-eve.json");
    let three = ["ann", "eve", "builder"];
    page.types_each(&three, "imgbuild env root sign bob-eve.json");
    // Nodes follow.
    fleet.types("web01", "imgnode upgrade Web");
    let said = fleet.types("web01", "curl http://127.0.0.1:8000/version");
    assert!(said.contains("version 3"), "{said}");
    // All root keys are lost: another environment takes the place of prod.
    for number in ["4", "5"] {
        let own = format!("imgbuild key new root{number} --keys /media/root{number}");
        let medium = format!("mkdir /media/root{number}");
        fleet.types("root", &medium);
        fleet.means(
            &format!("ROOT{number}"),
            &last_key(&fleet.types("root", &own)),
        );
    }
    page.types("builder", "imgbuild env init prod2");
    let sign = "imgbuild env root sign prod2-root-1.json --store OFFLINE";
    fleet.types("root", &format!("{sign} --keys /media/root4"));
    fleet.types("root", &format!("{sign} --keys /media/root5"));
    fleet.types("ann", sign);
    fleet.types("eve", sign);
    let publish = "imgbuild env root publish prod2-root-1.json; imgbuild env status prod2";
    let root = fingerprint(&fleet.types("builder", publish));
    fleet.means("sha256:...", &root);
    let trusted = fleet.types("builder", "imgbuild env status staging");
    let trusted = format!("imgbuild env trust staging {}", fingerprint(&trusted));
    fleet.types("eve", &trusted);
    let each = ["ann", "eve", "ann", "ann", "eve", "builder", "builder"];
    page.types_each(&each, "imgbuild env trust prod2");
    page.types("web01", "imgnode init --reset");
    let status = fleet.types("web01", "imgnode status");
    assert!(status.contains("prod2"), "{status}");
    // The store is lost.
    fleet.types("builder", &backup.text);
    fleet.types("builder", "rm -r /var/lib/imgbuild/*");
    page.types("builder", "imgbuild store fsck --store BACKUP");
    fleet.types("web02", "imgnode upgrade Web");
    // The builder is not believed any more.
    let shown = fleet.types("lab", "imgbuild key new prod.online3 --plain");
    fleet.means("NEW", &last_key(&shown));
    let shown = fleet.types("builder", "imgbuild key show prod.online2");
    fleet.means("OLD", &last_key(&shown));
    page.types("builder", "imgbuild env root propose prod --add online=NEW");
    let shown = fleet.types("builder", "imgbuild key show builder");
    fleet.means("ID", shown.split_whitespace().nth(1).unwrap());
    let said = page.types("builder", "for i in $(imgbuild list --json");
    assert_eq!(said.matches("blake3:").count(), 3, "{said}");
    page.skips("imgbuild store copy https://images.example/ /srv/store");
    // A node without its state.
    fleet.types("web02", "rm -r /var/lib/imgnode/*");
    let sessions = fleet.types("web02", "schroot -l --all-sessions");
    let session = sessions.trim().trim_start_matches("session:");
    fleet.means("Web-7-c2fb07a9f50b", session);
    page.types("web02", "imgnode init --env prod --repo");
    let said = fleet.types("web02", "curl http://127.0.0.1:8000/version");
    assert!(said.contains("version 3"), "{said}");
    page.ends();
}

fn stores(story: &Story) {
    let fleet = &story.fleet;
    let mut page = Page::open(fleet, "stores.md");
    let said = page.types("builder", "imgbuild list");
    assert!(said.contains("pinned") || said.contains("audit"), "{said}");
    page.types("builder", "imgbuild delta prod/web/1");
    page.types_each(&["lab", "lab", "web02"], "imgbuild show dev/web");
    // e2e::caches runs both.
    page.skips("# origin: images.example");
    page.skips("# proxy: images.site.example");
    page.skips("export AWS_ENDPOINT_URL_S3");
    page.types("builder", "imgbuild store copy /var/lib/imgbuild /mnt/usb");
    page.types("builder", "rsync -a --exclude=/env");
    let mirror = "imgbuild store fsck --quick --store /srv/mirror";
    fleet.types("builder", mirror);
    // The other builder has the recipe and its lock from git.
    for name in ["web.toml", "web.lock", "app"] {
        let [from, to] = ["builder", "lab"].map(|who| fleet.path(who).join("root").join(name));
        fs::copy(from, to).unwrap();
    }
    let each = ["builder", "builder", "builder", "lab"];
    let said = page.types_each(&each, "imgbuild store copy /var/lib/imgbuild /mnt/shared");
    assert!(said[3].contains("images.example"), "{}", said[3]);
    page.ends();
}

impl Story {
    /// Writes the application and its recipe in the place of those that the page copies.
    fn write_application(&self, version: &str) {
        let at = |name: &str| self.fleet.path("builder/root").join(name);
        fs::write(at("app"), APP.replace("VV", version)).unwrap();
        fs::write(at("web.toml"), RECIPE).unwrap();
    }

    /// Starts a web server with the block of the page.
    fn serve(&self, machine: &str, server: &str) {
        let home = self.fleet.path(machine).join("root");
        fs::write(home.join("images.conf"), server).unwrap();
        for name in ["server.crt", "server.key"] {
            fs::copy(self.fleet.path(name), home.join(name)).unwrap();
        }
        self.fleet.types(
            machine,
            "mkdir -p /etc/ssl/private /etc/nginx/conf.d
             mv server.crt /etc/ssl/images.pem
             mv server.key /etc/ssl/private/images.key
             mv images.conf /etc/nginx/conf.d
             nginx",
        );
    }

    /// What the lab types once more. A rebuild of half a minute says again what the first one said,
    /// so here its key says so; the soak tier waits for it.
    fn lab_types(&self, command: &str) -> String {
        if is_soak() || !command.starts_with("imgbuild rebuild") {
            return self.fleet.types("lab", command);
        }
        let key = self.fleet.path("lab/etc/imgbuild/keys/lab.pem");
        attest_rebuilt(&self.fleet.path("lab/store"), &self.image, &key);
        "web: the same bytes, rebuilt in a varied world in 0 s".to_owned()
    }

    /// The lines of the first release, for another one.
    fn release(&self, number: u32) {
        let who = ["builder", "builder", "ann", "ann", "bob", "builder"];
        assert_eq!(who.len(), self.released.len());
        for (machine, line) in who.iter().zip(&self.released) {
            let line = line.replace("prod-web-1", &format!("prod-web-{number}"));
            self.fleet.types(machine, &line);
        }
    }

    /// Every node answers so.
    fn answers(&self, version: &str) {
        for node in ["web01", "web02"] {
            let said = self.fleet.types(node, "curl http://127.0.0.1:8000/version");
            assert!(said.contains(version), "{node}: {said}");
        }
    }

    /// Writes a unit of the page where its first line says, and runs what it would.
    fn unit(&self, machine: &str, block: &Block) {
        let (first, text) = block.text.split_once('\n').unwrap();
        let path = first.trim_start_matches("# ").split(',').next().unwrap();
        fs::write(self.fleet.path(machine).join("root/unit"), text).unwrap();
        let place = format!("mkdir -p /etc/systemd/system; mv unit '{path}'");
        self.fleet.types(machine, &place);
        for line in text
            .lines()
            .filter_map(|line| line.strip_prefix("ExecStart=/usr/bin/"))
        {
            self.fleet.types(machine, &line.replace("%i", "Web"));
        }
    }
}

/// The last word of 64 digits on a screen.
#[track_caller]
fn last_key(screen: &str) -> String {
    let is_key = |word: &&str| word.len() == 64 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let found = screen.split_whitespace().rfind(is_key);
    found
        .unwrap_or_else(|| panic!("no key:\n{screen}"))
        .to_owned()
}

/// The image that a build printed last.
#[track_caller]
fn last_image(screen: &str) -> String {
    let is_image = |word: &&str| word.starts_with("blake3:");
    screen
        .split_whitespace()
        .rfind(is_image)
        .unwrap()
        .to_owned()
}

/// The digest of an environment's first root, from its status.
#[track_caller]
fn fingerprint(status: &str) -> String {
    let (_, rest) = status.split_once("first root ").expect("it shows that");
    rest.split_whitespace().next().unwrap().to_owned()
}
