//! A store on a web server, behind a network that does its worst (HOSTILE.md, 20 to
//! 28): everything is resumed, repeated or refused.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use crate::support::*;
use servers::nginx::Nginx;
use servers::proxy::{Asked, Fault, Proxy};
use store::{Backend, ClientOptions, ErrorKind, Result, Store, StoreUrl};

/// A store with a megabyte that does not compress, on a server.
struct Web {
    example: Example,
    server: Nginx,
    image: store::Manifest,
}

impl Web {
    fn new() -> Self {
        let example = Example::new();
        fs::set_permissions(example.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(example.tree().join("big"), noise(77, 3_000_000)).unwrap();
        let image = publish(&example.store, &example.tree());
        fs::write(example.root().join("packs/text"), noise(5, 500_000)).unwrap();
        let server = Nginx::serve(example.root(), "");
        Self {
            example,
            server,
            image,
        }
    }

    fn behind(&self, handler: impl Fn(&Asked) -> Fault + Send + Sync + 'static) -> Proxy {
        Proxy::start(self.server.port(), handler)
    }

    fn pull(&self, proxy: &Proxy) -> Result<()> {
        let store = Store::open(backend(&proxy.url()))?;
        let manifest = store.manifest(&self.image.image)?;
        store.verify_image(&manifest)
    }

    fn text(&self) -> Vec<u8> {
        fs::read(self.example.root().join("packs/text")).unwrap()
    }
}

/// Quick to repeat, and a second of patience.
fn access() -> ClientOptions {
    let mut access = ClientOptions::default();
    access.pause = Duration::from_millis(2);
    access.patience = Duration::from_secs(1);
    access
}

fn backend(url: &str) -> Box<dyn Backend> {
    let place: StoreUrl = url.parse().unwrap();
    place.open(&access()).unwrap()
}

const TEXT: &str = "packs/text";

#[test]
fn what_breaks_is_resumed_and_not_fetched_twice() {
    let web = Web::new();
    // Every second answer ends after 60000 bytes of content.
    let proxy = web.behind(|asked| {
        if asked.number % 2 == 0 {
            Fault::Cut(60_000)
        } else {
            Fault::None
        }
    });
    let remote = backend(&proxy.url());
    assert_eq!(remote.get(TEXT, 1 << 20).unwrap().unwrap(), web.text());
    let asked = proxy.asked();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[1].start(), Some(60_000));
    assert!(
        asked[1]
            .header("if-range")
            .is_some_and(|tag| tag.starts_with('"')),
        "{asked:?}"
    );
    assert_eq!(remote.traffic().unwrap().repeated, 1);

    let range = remote.get_range(TEXT, 1000, 200_000).unwrap();
    assert_eq!(range, web.text()[1000..201_000]);
    assert_eq!(proxy.asked()[3].start(), Some(61_000));

    web.pull(&proxy).unwrap();
}

/// A proxy that cuts the first answer; before the second request is answered, there is another
/// object.
fn replaces_what_it_cut(web: &Web) -> Proxy {
    let root = web.example.root().to_owned();
    web.behind(move |asked| {
        if asked.number == 1 {
            // Another length, so another entity tag also within one second.
            fs::write(root.join("packs/new"), noise(6, 400_000)).unwrap();
            fs::rename(root.join("packs/new"), root.join(TEXT)).unwrap();
        }
        match asked.number {
            0 => Fault::Cut(60_000),
            _ => Fault::None,
        }
    })
}

#[test]
fn an_object_that_changes_while_it_is_fetched_is_fetched_anew() {
    let web = Web::new();
    let proxy = replaces_what_it_cut(&web);
    let remote = backend(&proxy.url());
    assert_eq!(
        remote.get(TEXT, 1 << 20).unwrap().unwrap(),
        noise(6, 400_000)
    );
}

#[test]
fn a_range_that_changes_while_it_is_fetched_is_of_one_object() {
    let web = Web::new();
    let proxy = replaces_what_it_cut(&web);
    // The second answer is 200: the whole of the new object, from which the range is taken.
    let remote = backend(&proxy.url());
    let range = remote.get_range(TEXT, 1000, 200_000).unwrap();
    assert_eq!(range, noise(6, 400_000)[1000..201_000]);
}

#[test]
fn a_flipped_bit_is_fetched_once_more_past_all_caches() {
    let web = Web::new();
    for ending in [".pack", ".index", ".json"] {
        let proxy = {
            let hurt = std::sync::Mutex::new(std::collections::HashSet::new());
            web.behind(move |asked| {
                let first = asked.path.ends_with(ending)
                    && hurt
                        .lock()
                        .unwrap()
                        .insert((asked.path.clone(), asked.start()));
                // A letter of a name, a number of an index, a byte of a frame.
                if first { Fault::Flip(100) } else { Fault::None }
            })
        };
        web.pull(&proxy)
            .unwrap_or_else(|error| panic!("{ending}: {error:?}"));
        let asked = proxy.asked();
        let fresh = asked.iter().filter(|asked| {
            asked.path.ends_with(ending)
                && asked.header("cache-control") == Some("no-cache, no-transform")
        });
        assert!(fresh.count() > 0, "{ending}: {asked:#?}");
    }
}

fn is_pack(asked: &Asked) -> bool {
    asked.path.contains(".pack")
}

#[test]
fn ranges_that_a_cache_shifts_are_taken_from_the_whole_object() {
    let web = Web::new();
    // One that keeps wrong ranges for ever, and one that says so.
    let say = "Content-Range: bytes 1-2/3000000\r\n";
    for fault in [Fault::Shift(16), Fault::Status(206, say.into())] {
        let proxy = web.behind(move |asked| match asked.start() {
            Some(_) if is_pack(asked) => fault.clone(),
            _ => Fault::None,
        });
        web.pull(&proxy).unwrap();
        let packs = proxy.asked();
        let whole = packs.iter().filter(|asked| asked.start().is_none());
        let whole = whole.filter(|asked| is_pack(asked)).count();
        assert!((1..4).contains(&whole), "{packs:#?}");
    }
    // Where the whole object is wrong too, the address and what to do are named.
    let proxy = web.behind(|asked| {
        if is_pack(asked) {
            Fault::Flip(100)
        } else {
            Fault::None
        }
    });
    let error = web.pull(&proxy).unwrap_err();
    assert!(error.to_string().contains(&proxy.url()), "{error}");
    assert!(error.hint().unwrap().contains("on the way"), "{error:?}");
}

#[test]
fn what_a_proxy_compresses_is_asked_for_past_it() {
    let web = Web::new();
    let proxy = web.behind(|asked| match asked.header("cache-control") {
        Some("no-transform") => Fault::Status(200, "Content-Encoding: gzip\r\n".into()),
        _ => Fault::None,
    });
    let far = backend(&proxy.url());
    assert_eq!(far.get(TEXT, 1 << 20).unwrap().unwrap(), web.text());
}

#[test]
fn a_cache_that_remembers_that_nothing_was_there_is_passed() {
    let web = Web::new();
    let proxy = web.behind(|asked| match asked.header("cache-control") {
        Some("no-transform") => Fault::Status(404, String::new()),
        _ => Fault::None,
    });
    web.pull(&proxy).unwrap();
    // What is not there for others either is asked for twice, and not for ever.
    let before = proxy.asked().len();
    let far = backend(&proxy.url());
    assert_eq!(far.get("packs/none", 1 << 20).unwrap(), None);
    assert_eq!(proxy.asked().len(), before + 2);
}

#[test]
fn a_bit_that_is_always_flipped_is_refused() {
    let web = Web::new();
    for ending in [".pack", ".index", "images/"] {
        let proxy = web.behind(move |asked| {
            let hit = asked.path.ends_with(ending) || asked.path.contains(ending);
            if hit { Fault::Flip(100) } else { Fault::None }
        });
        let error = web.pull(&proxy).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Missing),
            "{ending}: {error:?}"
        );
        // Once more, and not for ever.
        assert!(
            proxy.asked().len() < 30,
            "{ending}: {}",
            proxy.asked().len()
        );
    }
}

#[test]
fn more_than_announced_asked_for_or_allowed_is_refused() {
    let web = Web::new();
    let proxy = web.behind(|_| Fault::More(vec![b'x'; 1000]));
    let error = backend(&proxy.url()).get_range(TEXT, 0, 1000).unwrap_err();
    assert!(
        error.to_string().contains("more than it was asked for"),
        "{error:?}"
    );
    let error = backend(&proxy.url()).get(TEXT, 500_000).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
    // Refused by what is announced: nothing of it was read.
    let remote = backend(&web.server.url());
    assert!(remote.get(TEXT, 1000).is_err());
    assert_eq!(remote.traffic().unwrap().received, 0);
}

#[test]
fn a_server_that_sends_everything_instead_of_a_range() {
    let web = Web::new();
    let proxy = web.behind(|_| Fault::Whole);
    let remote = backend(&proxy.url());
    for (offset, len) in [(1000, 10), (0, 500_000), (499_999, 1), (77_777, 200_000)] {
        let range = remote.get_range(TEXT, offset, len).unwrap();
        assert_eq!(range, web.text()[offset as usize..][..len as usize]);
    }
    // It came once.
    assert_eq!(proxy.asked().len(), 1);
    let error = remote.get_range(TEXT, 499_999, 2).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    web.pull(&proxy).unwrap();

    // The same with a connection that breaks: it begins anew, and ends.
    let proxy = web.behind(|asked| {
        if asked.number == 0 {
            Fault::Cut(100_000)
        } else {
            Fault::None
        }
    });
    let whole = Proxy::start(port(&proxy), |_| Fault::Whole);
    assert_eq!(
        backend(&whole.url()).get_range(TEXT, 5, 5).unwrap(),
        web.text()[5..10]
    );
}

fn port(proxy: &Proxy) -> u16 {
    proxy.url().rsplit(':').next().unwrap().parse().unwrap()
}

#[test]
fn other_bytes_than_were_asked_for_are_refused() {
    let web = Web::new();
    let head = "Content-Range: bytes 7-9/500000\r\n";
    let proxy = web.behind(move |_| Fault::Status(206, head.into()));
    for remote in [
        backend(&proxy.url()).get_range(TEXT, 0, 3),
        backend(&proxy.url()).get_range(TEXT, 6, 4),
    ] {
        let error = remote.unwrap_err();
        assert!(error.to_string().contains("other bytes"), "{error}");
    }
    let proxy = web.behind(move |_| Fault::Status(206, String::new()));
    let error = backend(&proxy.url()).get_range(TEXT, 0, 3).unwrap_err();
    assert!(error.to_string().contains("which bytes"), "{error}");
    let proxy = web.behind(|_| Fault::Status(200, "Content-Encoding: gzip\r\n".into()));
    let error = backend(&proxy.url()).get(TEXT, 99).unwrap_err();
    assert!(error.to_string().contains("compressed"), "{error}");
    assert_eq!(proxy.asked()[0].header("accept-encoding"), Some("identity"));
}

#[test]
fn a_server_in_trouble_is_asked_again() {
    let web = Web::new();
    for status in [408, 429, 500, 502, 503, 504] {
        let proxy = web.behind(move |asked| {
            if asked.number < 2 {
                Fault::Status(status, String::new())
            } else {
                Fault::None
            }
        });
        let remote = backend(&proxy.url());
        assert_eq!(
            remote.get_range(TEXT, 7, 9).unwrap(),
            web.text()[7..16],
            "{status}"
        );
        assert_eq!(remote.traffic().unwrap().repeated, 2);
    }
    let proxy = web.behind(|asked| {
        if asked.number < 3 {
            Fault::Hangup
        } else {
            Fault::None
        }
    });
    assert!(backend(&proxy.url()).get(TEXT, 1 << 20).unwrap().is_some());
    // All of it at once, and images are read all the same.
    let proxy = web.behind(|asked| match asked.number % 7 {
        1 => Fault::Hangup,
        2 => Fault::Status(503, "Retry-After: 0\r\n".into()),
        3 => Fault::Cut(40_000),
        4 => Fault::Status(429, String::new()),
        5 => Fault::Late(Duration::from_millis(50)),
        _ => Fault::None,
    });
    web.pull(&proxy).unwrap();
}

#[test]
fn a_server_that_stays_in_trouble_is_given_up() {
    let web = Web::new();
    let proxy = web.behind(|_| Fault::Status(503, String::new()));
    let error = backend(&proxy.url()).get(TEXT, 99).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(
        error.to_string().contains("503") && error.to_string().contains("6 attempts"),
        "{error}"
    );
    assert!(error.hint().is_some());
    assert_eq!(proxy.asked().len(), 6);

    // It wants an hour: that is said now.
    let proxy = web.behind(|_| Fault::Status(503, "Retry-After: 3600\r\n".into()));
    assert!(backend(&proxy.url()).get(TEXT, 99).is_err());
    assert_eq!(proxy.asked().len(), 1);

    // A second: waited for.
    let proxy = web.behind(|asked| match asked.number {
        0 => Fault::Status(503, "Retry-After: 1\r\n".into()),
        _ => Fault::None,
    });
    let started = Instant::now();
    assert!(backend(&proxy.url()).get(TEXT, 1 << 20).is_ok());
    assert!(started.elapsed() >= Duration::from_secs(1));

    // Nobody there.
    let gone = proxy.url();
    drop(proxy);
    let error = backend(&gone).get(TEXT, 99).unwrap_err();
    assert!(error.to_string().contains("refused"), "{error}");
}

#[test]
fn a_server_that_refuses_is_not_asked_again() {
    let web = Web::new();
    for (status, hint) in [(401, "netrc"), (403, "404"), (407, "proxy")] {
        let proxy = web.behind(move |_| Fault::Status(status, String::new()));
        let error = backend(&proxy.url()).get(TEXT, 99).unwrap_err();
        assert!(
            error.hint().is_some_and(|h| h.contains(hint)),
            "{status}: {error:?}"
        );
        assert_eq!(proxy.asked().len(), 1, "{status}");
    }
    let proxy = web.behind(|_| Fault::Status(410, String::new()));
    assert_eq!(backend(&proxy.url()).get(TEXT, 99).unwrap(), None);
}

#[test]
fn a_server_that_drips_or_is_silent_is_given_up() {
    let web = Web::new();
    let proxy = web.behind(|_| Fault::Drip);
    let started = Instant::now();
    let error = backend(&proxy.url()).get(TEXT, 1 << 20).unwrap_err();
    assert!(error.to_string().contains("bytes a second"), "{error}");
    assert!(error.hint().unwrap().contains("IMGBUILD_PATIENCE"));
    assert!(started.elapsed() < Duration::from_secs(10));

    let proxy = web.behind(|_| Fault::Late(Duration::from_secs(8)));
    let started = Instant::now();
    let error = backend(&proxy.url()).get(TEXT, 1 << 20).unwrap_err();
    assert!(error.to_string().contains("no answer for 1 s"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(15));
}

#[test]
fn redirects_stay_where_they_are_safe() {
    let web = Web::new();
    let target = format!("{}/{TEXT}", web.server.url());
    let to = target.clone();
    let proxy = web.behind(move |_| Fault::Redirect(to.clone()));
    assert_eq!(
        backend(&proxy.url()).get_range(TEXT, 3, 9).unwrap(),
        web.text()[3..12]
    );

    let circle = web.behind(|asked| Fault::Redirect(asked.path.clone()));
    let error = backend(&circle.url()).get(TEXT, 99).unwrap_err();
    assert!(error.to_string().contains("circle"), "{error}");
    let longer = web.behind(|asked| Fault::Redirect(format!("{}x", asked.path)));
    let error = backend(&longer.url()).get(TEXT, 99).unwrap_err();
    assert!(error.to_string().contains("too often"), "{error}");
    assert!(longer.asked().len() <= 7);
    for elsewhere in [
        "https://127.0.0.1:1/x",
        "ftp://127.0.0.1/x",
        "file:///etc/passwd",
    ] {
        let proxy = web.behind(move |_| Fault::Redirect(elsewhere.into()));
        let error = backend(&proxy.url()).get(TEXT, 99).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{elsewhere}");
        assert_eq!(proxy.asked().len(), 1, "{elsewhere}: {error:?}");
    }
}

#[test]
fn credentials_reach_the_server_and_nobody_else() {
    let web = Web::new();
    let stranger = web.behind(|_| Fault::None);
    let to = format!("{}/{TEXT}", stranger.url());
    let proxy = web.behind(move |asked| {
        // "me:geheim"
        match asked.header("authorization") {
            Some("Basic bWU6Z2VoZWlt") => Fault::Redirect(to.clone()),
            _ => Fault::Status(401, String::new()),
        }
    });
    let url = proxy.url().replace("http://", "http://me:geheim@");
    assert!(backend(&url).get(TEXT, 1 << 20).unwrap().is_some());
    // Another port is another server.
    assert_eq!(stranger.asked()[0].header("authorization"), None);

    let home = tempfile::tempdir().unwrap();
    let netrc = home.path().join("netrc");
    fs::write(&netrc, "machine 127.0.0.1 login me password geheim\n").unwrap();
    let environment = |name: &str| (name == "NETRC").then(|| netrc.display().to_string());
    let access = ClientOptions::from_environment(&environment).unwrap();
    let place: StoreUrl = proxy.url().parse().unwrap();
    assert!(
        place
            .open(&access)
            .unwrap()
            .get(TEXT, 1 << 20)
            .unwrap()
            .is_some()
    );

    let wrong = proxy.url().replace("http://", "http://me:geheimnis@");
    let remote = backend(&wrong);
    let error = remote.get(TEXT, 99).unwrap_err();
    for text in [format!("{error:?}"), error.to_string(), remote.describe()] {
        assert!(!text.contains("geheim"), "{text}");
    }
}

#[test]
fn proxies_of_the_environment_are_used() {
    let web = Web::new();
    let proxy = web.behind(|_| Fault::None);
    let read = |name: &str| match name {
        "http_proxy" => Some(proxy.url().replace("http://", "http://p:geheim@")),
        "no_proxy" => Some("direct.example".to_owned()),
        _ => None,
    };
    let access = ClientOptions::from_environment(&read).unwrap();
    // The name does not resolve here; the proxy is asked for all of it.
    let place: StoreUrl = "http://store.example".parse().unwrap();
    let _ = place.open(&access).unwrap().get(TEXT, 1 << 20);
    let asked = proxy.asked();
    assert_eq!(asked[0].path, format!("http://store.example/{TEXT}"));
    assert!(asked[0].header("proxy-authorization").is_some());
    let direct: StoreUrl = format!("http://direct.example:1/{TEXT}").parse().unwrap();
    let mut access = access;
    access.pause = Duration::from_millis(1);
    let error = direct.open(&access).unwrap().get(TEXT, 1).unwrap_err();
    assert!(!format!("{error:?}").contains("geheim"));
    assert_eq!(proxy.asked().len(), asked.len());
}
