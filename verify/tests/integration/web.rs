//! The real `imgnode` against real nginx: a node that follows a store on a web server.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::Once;

use crate::node::walk;
use crate::support::Farm;
use serde_json::Value;
use servers::nginx::Nginx;
use servers::proxy::{Fault, Proxy};
use store::WritableStore;
use store::delta::DeltaInfo;
use store::delta_writer;
use store::maintenance::{Collector, Policy};
use store::tuf::Environment;

/// A farm whose store everybody may read, because a server does.
fn farm(system: &str) -> Farm {
    let farm = Farm::without_init(system);
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(farm.directory.path(), open).unwrap();
    farm
}

fn init(url: &str, farm: &Farm) -> [String; 7] {
    let root = farm.str("root.json");
    ["init", "--env", "dev", "--repo", url, "--root", root].map(str::to_owned)
}

#[test]
fn install_and_upgrade_from_a_web_server() {
    for (name, settings, ranges) in [("ranges", "", true), ("whole", "max_ranges 0;", false)] {
        let farm = farm(&format!("web-{name}"));
        let server = Nginx::serve(&farm.path("store"), settings);
        farm.ok(&init(&server.url(), &farm).each_ref().map(String::as_str));
        farm.install();
        farm.ok(&["verify", &farm.system]);
        let before = server.log().len();
        farm.release(2);
        let said = farm.install();
        assert!(said.contains("generation 2"), "{said}");
        let log = server.log();
        let asked = &log[before..];
        assert!(asked.len() < 50, "{asked:#?}");
        assert_eq!(
            asked.iter().any(|line| line.contains(".pack 206")),
            ranges,
            "{asked:#?}"
        );
        let version = farm.path("images").join(&farm.system).join("2/etc/version");
        assert_eq!(fs::read_to_string(version).unwrap(), "2");
        assert_eq!(farm.status()["repository"], server.url());
        farm.close();
    }
}

#[test]
fn an_upgrade_without_news_costs_two_requests() {
    let farm = farm("web-news");
    let server = Nginx::serve(&farm.path("store"), "");
    farm.ok(&init(&server.url(), &farm).each_ref().map(String::as_str));
    farm.install();
    let before = server.log().len();
    farm.ok(&["upgrade", &farm.system]);
    // Whether there is a newer root, and whether there is anything new.
    let log = server.log()[before..].to_vec();
    assert_eq!(log.len(), 2, "{log:#?}");
    assert!(log[0].contains("/2.root.json 404"), "{log:#?}");
    assert!(log[1].contains("/timestamp.json 200"), "{log:#?}");
    // What the node was shown, for whoever compares it with another one.
    let shown = || farm.status()["metadata"].clone();
    let before = shown();
    assert_eq!(before["log"]["length"], 1, "{before}");
    assert_eq!(before["expires_first"], "timestamp", "{before}");
    farm.release(2);
    farm.ok(&["upgrade", &farm.system]);
    let after = shown();
    let store = WritableStore::open_or_create(farm.path("store")).unwrap();
    let env = Environment::open(&store, &"dev".parse().unwrap()).unwrap();
    let end = env.checkpoint(jiff::Timestamp::now());
    assert_eq!((after["log"]["length"].as_u64(), end.length), (Some(2), 2));
    assert_eq!(after["log"]["sha256"], end.sha256.to_string());
    assert_eq!(after["targets"]["version"], end.targets);
    assert_eq!(after["targets"]["sha256"], end.targets_sha256.to_string());
    farm.close();
}

/// A bucket whose readers may not list it forbids what it does not have.
#[test]
fn a_server_that_forbids_what_it_lacks() {
    let farm = farm("web-forbids");
    let forbids = "error_page 404 = @no; location @no { return 403; }";
    let server = Nginx::serve(&farm.path("store"), forbids);
    farm.ok(&init(&server.url(), &farm).each_ref().map(String::as_str));
    farm.install();
    farm.release(2);
    let said = farm.install();
    assert!(said.contains("generation 2"), "{said}");
    farm.close();
}

/// What a mirror has while rsync brings it up to date: it is incomplete, not damaged, and the
/// node stays as it is until the rest is there.
#[test]
fn a_mirror_in_the_middle_of_its_update_is_tried_again_later() {
    let farm = farm("web-mirror");
    let mirror = farm.path("mirror");
    let copy = |options: &[&str]| {
        let mut rsync = Command::new("cp");
        rsync.arg("-rT").args(options);
        rsync.arg(farm.path("store")).arg(&mirror);
        assert!(rsync.status().unwrap().success());
    };
    copy(&[]);
    let server = Nginx::serve(&mirror, "");
    farm.ok(&init(&server.url(), &farm).each_ref().map(String::as_str));
    farm.install();
    let before = walk(&mirror);
    farm.release(2);
    copy(&[]);
    let new: Vec<_> = walk(&mirror)
        .into_iter()
        .filter(|path| !before.contains(path))
        .collect();
    let aside = farm.path("aside");
    let mut tried = Vec::new();
    for kind in [
        "snapshot.json",
        "targets.json",
        ".2.json",
        // Before the pack: what a node has read of an index it keeps.
        ".index",
        ".pack",
    ] {
        let found = new
            .iter()
            .find(|path| path.to_str().unwrap().ends_with(kind));
        let Some(path) = found else { continue };
        println!("without {}", path.display());
        fs::rename(path, &aside).unwrap();
        let said = farm.install_fails(75);
        assert!(said.contains("try again later"), "{kind}: {said}");
        assert_eq!(farm.status()["systems"][0]["generation"], 1, "{kind}");
        fs::rename(&aside, path).unwrap();
        tried.push(kind);
    }
    assert!(tried.len() >= 4, "{tried:?} of {new:#?}");
    let said = farm.install();
    assert!(said.contains("generation 2"), "{said}");
    farm.close();
}

/// Makes the delta between the two newest releases.
fn delta(farm: &Farm) -> DeltaInfo {
    let store = WritableStore::open_or_create(farm.path("store")).unwrap();
    let releases = Environment::open(&store, &"dev".parse().unwrap())
        .unwrap()
        .releases()
        .unwrap();
    let newest = |back: usize| {
        let image = releases[releases.len() - back].image;
        store.store().manifest(&image).unwrap()
    };
    let made = delta_writer::publish(
        store.store(),
        store.backend(),
        &newest(2),
        &newest(1),
        &|_| (),
    );
    made.unwrap().pair
}

/// Changes a few bytes in each of twenty files of the next release.
fn edit(farm: &Farm, version: u8) {
    for file in 0..20 {
        let path = farm.path(&format!("tree/data/{file:03}"));
        let mut bytes = fs::read(&path).unwrap();
        bytes[40_000..40_016].fill(version);
        fs::write(path, bytes).unwrap();
    }
}

#[test]
fn an_upgrade_takes_the_delta_and_does_without_a_bad_one() {
    let farm = farm("web-delta");
    let server = Nginx::serve(&farm.path("store"), "");
    farm.ok(&init(&server.url(), &farm).each_ref().map(String::as_str));
    farm.install();
    let upgrade = |way: &str, deltas: bool| -> Value {
        let before = server.log().len();
        let said = farm.ok(&["upgrade", &farm.system, "--json"]);
        let said: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(said["way"], way, "{said}");
        let log = server.log()[before..].to_vec();
        // The server counted the same. The environment comes first, from the same store opened
        // for it alone; what is not there is no content.
        let content = log.iter().rposition(|line| line.contains("/env/")).unwrap() + 1;
        let sent = log[content..].iter().filter(|line| !line.contains(" 404 "));
        let sent = sent.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        assert_eq!(said["fetched_bytes"], sent.sum::<u64>(), "{log:#?}");
        farm.ok(&["verify", &farm.system]);
        let used = log.iter().any(|line| line.contains(".delta 206"));
        assert_eq!(used, deltas, "{log:#?}");
        said
    };
    let fetched = |said: &Value| said["fetched_bytes"].as_u64().unwrap();

    // Without a delta: twenty files.
    edit(&farm, 2);
    farm.release(2);
    let packs = upgrade("packs", false);
    assert!(fetched(&packs) > 20 * 96_000, "{packs}");

    // With one: what changed in them.
    edit(&farm, 3);
    farm.release(3);
    let pair = delta(&farm);
    let small = upgrade("delta", true);
    assert_eq!(small["delta_bytes"], pair.size);
    // Less the indexes that are here already.
    assert!(small["packs_bytes"].as_u64() < Some(pair.packs), "{small}");
    assert!(fetched(&small) < fetched(&packs) / 10, "{small}");

    // One that is damaged, one that is gone: packs give what it cannot.
    for (version, gone) in [(4, false), (5, true)] {
        edit(&farm, version);
        farm.release(version.into());
        let pair = delta(&farm);
        let path = farm.path("store").join(pair.delta_key());
        if gone {
            fs::remove_file(path).unwrap();
        } else {
            let mut bytes = fs::read(&path).unwrap();
            let middle = (bytes.len() - pair.table as usize) / 2;
            bytes[middle] ^= 1;
            fs::write(&path, bytes).unwrap();
        }
        let said = upgrade(if gone { "packs" } else { "delta" }, !gone);
        assert!(fetched(&said) > fetched(&small), "{said}");
    }

    // What the delta builds on was changed on the node.
    edit(&farm, 6);
    farm.release(6);
    delta(&farm);
    for file in 0..20 {
        let path = format!("images/{}/5/data/{file:03}", farm.system);
        fs::write(farm.path(&path), "somebody was here").unwrap();
    }
    upgrade("delta", true);
    let version = farm.path("images").join(&farm.system).join("6/etc/version");
    assert_eq!(fs::read_to_string(version).unwrap(), "6");
    farm.close();
}

#[test]
fn what_versions_share_is_fetched_once() {
    let farm = farm("web-kept");
    // Names enough for a layout of several chunks.
    fs::create_dir(farm.path("tree/many")).unwrap();
    for number in 0_u64..5_000 {
        // Hardly compressible.
        let name: String = (0..12)
            .map(|word| {
                format!(
                    "{:016x}",
                    (number * 12 + word + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
                )
            })
            .collect();
        fs::write(farm.path(&format!("tree/many/{name}")), b"").unwrap();
    }
    farm.release(2);
    let server = Nginx::serve(&farm.path("store"), "");
    farm.ok(&init(&server.url(), &farm).each_ref().map(String::as_str));
    farm.install();
    let upgrade = |version: u32| -> (u64, usize) {
        farm.release(version);
        let before = server.log().len();
        let said = farm.ok(&["upgrade", &farm.system, "--json"]);
        let said: Value = serde_json::from_str(&said).unwrap();
        farm.ok(&["verify", &farm.system]);
        let log = server.log()[before..].to_vec();
        let indexes = log.iter().filter(|line| line.contains(".index "));
        (said["fetched_bytes"].as_u64().unwrap(), indexes.count())
    };
    let (little, indexes) = upgrade(3);
    assert_eq!(indexes, 1, "the new one");

    let kept = farm.path("state/kept");
    fs::remove_dir_all(&kept).unwrap();
    let (much, indexes) = upgrade(4);
    assert!(
        indexes > 1 && much > little + 10_000,
        "{much} after {little}"
    );

    // What was damaged is not believed, and mended.
    for file in fs::read_dir(&kept).unwrap() {
        let path = file.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).unwrap();
    }
    let (again, indexes) = upgrade(5);
    assert!(
        indexes > 1 && again > little + 10_000,
        "{again} after {little}"
    );
    let (less, indexes) = upgrade(6);
    assert!(indexes == 1 && less < again / 2, "{less} after {again}");
    farm.close();
}

/// A collection writes a pack anew and removes the old one, after a node has read where its
/// content is and before it fetches that.
#[test]
fn content_that_moves_while_it_is_fetched_is_found_where_it_is_now() {
    const NOTHING_STAYS: Policy = Policy {
        grace: 0,
        keep_last: 0,
        waste: 50,
    };
    let farm = farm("web-moves");
    // A pack of which the next release uses the tenth part, and nobody the rest.
    fs::create_dir(farm.path("other")).unwrap();
    for file in 0..100 {
        let mut bytes = fs::read(farm.path(&format!("tree/data/{file:03}"))).unwrap();
        for byte in &mut bytes {
            *byte ^= 0x55;
        }
        let names = [
            format!("other/{file:03}"),
            format!("tree/data/new{file:03}"),
        ];
        for name in &names[..if file % 10 == 0 { 2 } else { 1 }] {
            fs::write(farm.path(name), &bytes).unwrap();
        }
    }
    let store = WritableStore::open_or_create(farm.path("store")).unwrap();
    store.publish_tree(&farm.path("other"), 0, &|_| ()).unwrap();
    farm.release(2);
    let copied = Command::new("cp")
        .arg("-a")
        .args([farm.path("store"), farm.path("collected")])
        .status();
    assert!(copied.unwrap().success());
    let collected = WritableStore::open_or_create(farm.path("collected")).unwrap();
    let no_inputs = |_: &[u8]| Ok(Vec::new());
    let collector = Collector::new(collected.store(), NOTHING_STAYS, &no_inputs);
    let done = collector.run(collected.backend(), &mut |_| {}).unwrap();
    assert!(done.rewritten > 5_000_000, "{done:?}");

    let server = Nginx::serve(&farm.path("store"), "");
    let (here, there) = (farm.path("store"), farm.path("collected"));
    let moved = Once::new();
    let proxy = Proxy::start(server.port(), move |asked| {
        if asked.path.contains(".pack") {
            moved.call_once(|| {
                for part in ["packs", "hints"] {
                    fs::rename(here.join(part), here.join(part).with_extension("old")).unwrap();
                    fs::rename(there.join(part), here.join(part)).unwrap();
                }
            });
        }
        Fault::None
    });
    farm.ok(&init(&proxy.url(), &farm).each_ref().map(String::as_str));
    farm.install();
    farm.ok(&["verify", &farm.system]);
    let log = server.log();
    let lost = log.iter().filter(|line| line.contains(".pack 404"));
    assert!(lost.count() > 0, "nothing moved: {log:#?}");
    farm.close();
}

#[test]
fn a_network_that_does_its_worst_leaves_the_right_bytes_or_nothing() {
    let farm = farm("web-worst");
    let server = Nginx::serve(&farm.path("store"), "");
    // Content is cut, then comes; now and then the server is in trouble.
    let proxy = Proxy::start(server.port(), |asked| match asked.number % 5 {
        1 => Fault::Cut(70_000),
        3 => Fault::Status(503, "Retry-After: 0\r\n".into()),
        _ => Fault::None,
    });
    farm.ok(&init(&proxy.url(), &farm).each_ref().map(String::as_str));
    farm.install();
    farm.ok(&["verify", &farm.system]);
    farm.ok(&["uninstall", &farm.system]);
    fs::remove_dir(farm.path("images")).unwrap_or_default();

    let liar = Proxy::start(server.port(), |asked| {
        // The whole object as well, which is asked for last.
        if asked.start().is_some() || asked.path.contains(".pack") {
            Fault::Flip(5000)
        } else {
            Fault::None
        }
    });
    let mut words = init(&liar.url(), &farm).to_vec();
    words.push("--reset".into());
    farm.ok(&words.iter().map(String::as_str).collect::<Vec<_>>());
    let said = farm.install_fails(3);
    assert!(said.contains("is damaged"), "{said}");
    farm.assert_nothing_installed();
}

#[test]
fn passwords_of_a_store_are_kept_and_not_shown() {
    let farm = farm("web-secret");
    let password = farm.path("passwords");
    // "geheim", as crypt(3) has it; nginx reads this form.
    fs::write(&password, "me:{PLAIN}geheim\n").unwrap();
    let settings = format!("auth_basic x; auth_basic_user_file {};", password.display());
    let server = Nginx::serve(&farm.path("store"), &settings);
    let said = farm.fails(
        &init(&server.url(), &farm).each_ref().map(String::as_str),
        1,
    );
    assert!(said.contains("401") && said.contains("netrc"), "{said}");
    let url = server.url().replace("http://", "http://me:geheim@");
    let words = init(&url, &farm);
    let output = farm.run(&words.each_ref().map(String::as_str));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    farm.install();
    let status = farm.ok(&["status"]);
    for text in [said, status] {
        assert!(
            text.contains("127.0.0.1") && !text.contains("geheim"),
            "{text}"
        );
    }
    let state = fs::metadata(farm.path("state"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(state & 0o077, 0, "the state directory has the password");
    farm.close();
}

#[test]
fn certificates_are_those_that_the_machine_trusts() {
    let farm = farm("web-tls");
    let (key, certificate) = (farm.path("key.pem"), farm.path("certificate.pem"));
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
        ])
        .args(["-nodes", "-days", "2", "-subj", "/CN=test", "-addext"])
        .arg("subjectAltName=IP:127.0.0.1")
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .expect("openssl is needed: apt-get install openssl");
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let (secure, settings) = servers::nginx::tls(&key, &certificate);
    let server = Nginx::serve(&farm.path("store"), &settings);
    let _ = &server;
    let words = init(&secure, &farm);
    let words = words.each_ref().map(String::as_str);
    let said = farm.fails(&words, 1);
    assert!(
        said.contains("certificate") && said.contains("SSL_CERT_FILE"),
        "{said}"
    );
    let trusting = |words: &[&str]| {
        let output = farm
            .command(words)
            .env("SSL_CERT_FILE", &certificate)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    trusting(&words);
    trusting(&farm.install_words().each_ref().map(String::as_str));
    farm.close();
}
