//! Caches between a store and its nodes: the origin and the caching proxy of docs/stores.md, and one that
//! keeps everything for an hour whatever it is told.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;
use servers::nginx::Nginx;
use tests::binaries::{Ran, repository};
use tests::http;

use crate::fleet::{self, Fleet};
use crate::team::says;

/// A proxy that keeps all that it gets, errors too, and goes by nothing that anybody says.
const WRONG: &str = "proxy_cache_path /var/cache/nginx/wrong keys_zone=wrong:1m;
server {
    listen 443 ssl;
    location / {
        proxy_pass https://images.example;
        proxy_cache wrong;
        proxy_cache_key $uri;
        proxy_ignore_headers Cache-Control Expires Vary Set-Cookie X-Accel-Expires;
        proxy_cache_valid any 1h;
    }
}
";

/// A store, its origin, and nodes.
struct Site {
    fleet: Fleet,
    origin: Nginx,
    /// The configuration of the proxy on the page.
    proxy: String,
    /// The first release.
    first: u64,
}

impl Site {
    /// With a release in dev.
    fn new() -> Self {
        let fleet = Fleet::new();
        // nginx is nobody.
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(fleet.team.path(""), open).unwrap();
        let page = fs::read_to_string(repository().join("docs/stores.md")).unwrap();
        let mut blocks = page.split("```nginx\n").skip(1).map(|rest| {
            let (block, _) = rest.split_once("```").unwrap();
            block.to_owned()
        });
        let (origin, proxy) = (blocks.next().unwrap(), blocks.next().unwrap());
        assert!(origin.contains("/var/lib/imgbuild;"), "{origin}");
        assert!(proxy.contains("https://images.example;"), "{proxy}");
        let origin = origin.replace("/var/lib/imgbuild", &fleet.path("store"));
        let origin = Nginx::configured(&origin);
        let mut site = Self {
            fleet,
            origin,
            proxy,
            first: 0,
        };
        site.first = site.release(1);
        site
    }

    /// A server before the origin.
    fn before(&self, configuration: &str) -> Nginx {
        let configuration = configuration.replace("https://images.example", &self.origin.url());
        Nginx::configured(&configuration)
    }

    /// Releases another version, most of which is in no other; its number.
    fn release(&self, version: u8) -> u64 {
        let mut state = u64::from(version);
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            state.to_be_bytes()[0]
        })
        .take(3_000_000)
        .collect();
        fs::write(self.fleet.team.path("tree/srv/data"), noise).unwrap();
        self.fleet.release_with(&format!("{version}.0"), &json!({}))
    }

    fn init(&self, name: &str, repo: &str) -> Ran {
        let root = self.fleet.path("store/env/dev/metadata/1.root.json");
        let words = ["init", "--env", "dev", "--repo", repo, "--root", &root];
        self.fleet.node(name, &words)
    }

    fn install(&self, name: &str) -> Ran {
        let target = format!("dir:{}", self.fleet.path(&format!("images-{name}")));
        let system = format!("Web-{name}");
        let words = ["install", "web", "--as", &system, "--target", &target];
        self.fleet.node(name, &words)
    }

    fn upgrade(&self, name: &str) -> Ran {
        self.fleet.node(name, &["upgrade", &format!("Web-{name}")])
    }

    /// Demands that a node has this release, byte by byte.
    #[track_caller]
    fn has(&self, name: &str, seq: u64) {
        let said = self.fleet.node(name, &["status", "--json"]).expect(0);
        let said: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
        assert_eq!(said["systems"][0]["seq"], seq, "{said}");
        self.fleet
            .node(name, &["verify", &format!("Web-{name}")])
            .expect(0);
    }

    fn ann(&self, words: &[&str]) -> Ran {
        self.fleet.team.run("ann", words).expect(0)
    }

    /// Ends releases below this one, of which the last is `old`, and removes what only they need.
    fn collect_below(&self, seq: u64, old: u64) {
        fleet::collect_below(|words| self.ann(words), seq, old);
    }

    /// What nodes and proxies have asked the origin for, with the status of the answer.
    fn asked(&self, what: &str) -> Vec<String> {
        let mut log = self.origin.log();
        log.retain(|line| line.contains(what));
        log
    }
}

#[test]
fn nodes_behind_the_proxy_of_the_page_hear_of_everything_at_once() {
    let site = Site::new();
    let proxy = site.before(&site.proxy);
    for name in ["n1", "n2"] {
        let before = site.asked(" /packs/").len();
        site.init(name, &proxy.url()).expect(0);
        site.install(name).expect(0);
        site.has(name, site.first);
        let new = site.asked(" /packs/").len() - before;
        // The second node has all of it from the proxy.
        assert_eq!(new > 0, name == "n1", "{:#?}", site.origin.log());
    }
    let second = site.release(2);
    site.upgrade("n1").expect(0);
    site.has("n1", second);

    // What was not there is there a moment later: any file, and a new root.
    let later = site.fleet.team.path("store/packs/later.pack");
    let get = || http::get(proxy.port(), "/packs/later.pack", "").unwrap();
    assert_eq!(get().0, 404);
    fs::write(&later, "later").unwrap();
    assert_eq!(get(), (200, "later".to_owned()));
    // And it is kept, now that it is there.
    fs::remove_file(&later).unwrap();
    assert_eq!(get(), (200, "later".to_owned()));
    fs::write(site.fleet.team.path("policy.toml"), "").unwrap();
    site.ann(&[
        "env",
        "root",
        "propose",
        "dev",
        "--policy",
        "policy.toml",
        "-o",
        "root.json",
    ]);
    site.ann(&["env", "root", "publish", "root.json"]);
    assert!(site.asked("/2.root.json 206").is_empty());
    site.upgrade("n1").expect(0);
    assert_eq!(site.asked("/2.root.json 206").len(), 1);

    // A revocation arrives, and what replaces it.
    let bad = format!("dev/web/{second}");
    site.ann(&["revoke", &bad, "--in", "dev", "--reason", "hole", "--yes"]);
    says(&site.upgrade("n1").expect(3), &["was revoked"]);
    let third = site.release(3);
    site.upgrade("n1").expect(0);
    site.has("n1", third);

    // What was collected and is still in the cache does no harm.
    site.collect_below(third, second);
    let log = site.asked(".pack 206");
    let mut packs = log.iter().map(|line| line.split(' ').nth(1).unwrap());
    let gone = |pack: &&str| !site.fleet.team.path(&format!("store{pack}")).exists();
    let pack = packs
        .find(gone)
        .expect("a pack was removed or written anew");
    let first = |server: &Nginx| {
        http::get(server.port(), pack, "Range: bytes=0-9")
            .unwrap()
            .0
    };
    assert_eq!((first(&site.origin), first(&proxy)), (404, 206));
    site.upgrade("n2").expect(0);
    site.has("n2", third);
    site.init("n3", &proxy.url()).expect(0);
    site.install("n3").expect(0);
    site.has("n3", third);
}

#[test]
fn a_cache_that_keeps_everything_for_an_hour_holds_news_up_and_does_no_more() {
    let site = Site::new();
    let wrong = site.before(WRONG);
    site.init("n1", &wrong.url()).expect(0);
    site.install("n1").expect(0);
    let second = site.release(2);
    // It hears of nothing, and keeps what it has.
    site.upgrade("n1").expect(0);
    site.has("n1", site.first);
    // Who has seen more does not believe it.
    site.init("n2", &site.origin.url()).expect(0);
    site.install("n2").expect(0);
    site.has("n2", second);
    let said = site.init("n2", &wrong.url()).expect(3);
    says(&said, &["timestamp.json has version", "was trusted before"]);
    site.has("n2", second);
    // The origin has nothing of the first release any more. The cache has: it is old, and it is right.
    site.collect_below(second, site.first);
    site.init("n3", &wrong.url()).expect(0);
    site.install("n3").expect(0);
    site.has("n3", site.first);
    // An hour later there is nothing in the cache.
    let later = site.before(WRONG);
    for name in ["n1", "n3"] {
        site.init(name, &later.url()).expect(0);
        site.upgrade(name).expect(0);
        site.has(name, second);
    }
    // It remembers that there was no second root, and no third release.
    site.release(3);
    site.upgrade("n1").expect(0);
    site.has("n1", second);
}
