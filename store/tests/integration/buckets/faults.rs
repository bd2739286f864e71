//! A proxy between a writer and its bucket: what is lost, refused or hurt on the way is
//! repeated, and never done twice where once is meant.

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::Duration;

use store::{ErrorKind, Manifest, WritableStore};

use super::{Bench, access, place, requests, tar};
use crate::support::*;
use servers::proxy::{Asked, Fault, Proxy};
use servers::weed::WRITER;

impl Bench {
    fn behind(&self, handler: impl Fn(&Asked) -> Fault + Send + Sync + 'static) -> Proxy {
        Proxy::start(self.weed.port(), handler)
    }

    fn through(&self, proxy: &Proxy, prefix: &str, cache: &str) -> WritableStore {
        let mut variables = self.weed.environment(WRITER);
        variables[0].1 = proxy.url();
        let mut access = access(&variables);
        access.patience = Duration::from_secs(5);
        let cache = self.dir.path().join(cache);
        WritableStore::open(&place(prefix), &access, &cache).unwrap()
    }
}

type Decide = fn(&Asked) -> Fault;

/// True for the first request of its kind for each object.
#[derive(Default)]
struct First(Mutex<HashSet<(String, String)>>);

impl First {
    fn is(&self, asked: &Asked) -> bool {
        let path = asked.path.split("X-Amz-").next().unwrap_or_default();
        let seen = (asked.method.clone(), path.to_owned());
        self.0.lock().unwrap().insert(seen)
    }
}

#[test]
fn a_store_is_written_over_a_network_that_breaks() {
    let bench = Bench::new();
    let tree = bench.tree("tree");
    for file in 0..30 {
        std::fs::write(tree.join(format!("big{file}")), noise(file, 900_000)).unwrap();
    }
    let local = WritableStore::open_or_create(bench.dir.path().join("local")).unwrap();
    let expected = publish(&local, &tree);
    let kinds: [(&str, Decide); 3] = [
        // The server did it, and nobody learns of it.
        ("lost", |_| Fault::Lost),
        // What arrives is not what was sent: the server compares.
        ("spoilt", |asked| match asked.method.as_str() {
            "PUT" => Fault::Spoil(1000),
            _ => Fault::Hangup,
        }),
        ("refused", |asked| match asked.number % 5 {
            0 => Fault::Status(500, String::new()),
            1 => Fault::Status(503, "Retry-After: 0\r\n".into()),
            2 => Fault::Status(429, String::new()),
            3 => Fault::Hangup,
            _ => Fault::Late(Duration::from_millis(100)),
        }),
    ];
    for (kind, fault) in kinds {
        let first = First::default();
        let proxy = bench.behind(move |asked| {
            if first.is(asked) {
                fault(asked)
            } else {
                Fault::None
            }
        });
        let store = bench.through(&proxy, kind, &format!("cache-{kind}"));
        let made = publish(&store, &tree);
        assert_eq!(made, expected, "{kind}");
        let said = store.store().backend().traffic().unwrap();
        assert!(said.repeated > 10, "{kind}: {said:?}");
        drop(store);
        let read = bench.read(kind);
        assert_eq!(read.images().unwrap().len(), 1, "{kind}");
        read.verify_image(&made).unwrap();
        read.verify_objects(&made).unwrap();
        assert_eq!(tar(&read, &made), tar(local.store(), &expected), "{kind}");
        assert!(has_row(&read, &made), "{kind}");
    }
}

fn has_row(store: &store::Store, manifest: &Manifest) -> bool {
    let catalogue = store.backend().get("catalogue.json", 1 << 20).unwrap();
    let text = String::from_utf8(catalogue.unwrap()).unwrap();
    text.contains(&manifest.image.hex())
}

#[test]
fn once_is_once_when_the_answer_is_lost() {
    let bench = Bench::new();
    let first = First::default();
    let proxy = bench.behind(move |asked| {
        if asked.method == "PUT" && asked.path.contains("pins/") && first.is(asked) {
            Fault::Lost
        } else {
            Fault::None
        }
    });
    let store = bench.through(&proxy, "p", "cache");
    let direct = bench.open("p", "direct");
    let (place, other) = (store.backend(), direct.backend());
    // It was there after the attempt whose answer was lost: that was ours.
    assert!(place.put_new("pins/new", b"ours").unwrap());
    assert!(!place.put_new("pins/new", b"again").unwrap());
    // It was there before: that was somebody else's.
    assert!(other.put_new("pins/theirs", b"theirs").unwrap());
    assert!(!place.put_new("pins/theirs", b"ours").unwrap());
    let (_, seen) = other.get_versioned("pins/theirs", 9).unwrap().unwrap();
    assert!(other.replace("pins/theirs", b"third", &seen).unwrap());
    assert!(!place.replace("pins/theirs", b"ours", &seen).unwrap());
    assert_eq!(other.get("pins/theirs", 9).unwrap().unwrap(), b"third");
    let (_, seen) = other.get_versioned("pins/new", 9).unwrap().unwrap();
    assert!(place.replace("pins/new", b"mine", &seen).unwrap());
    assert!(!place.replace("pins/new", b"twice", &seen).unwrap());
    assert_eq!(other.get("pins/new", 9).unwrap().unwrap(), b"mine");
}

#[test]
fn parts_that_are_lost_or_hurt_are_sent_again() {
    let bench = Bench::new();
    let long = noise(3, 40 << 20);
    for (number, fault) in [Fault::Lost, Fault::Spoil(77), Fault::Hangup]
        .into_iter()
        .enumerate()
    {
        let first = First::default();
        let proxy = bench.behind(move |asked| {
            if asked.path.contains("packs/") && first.is(asked) {
                fault.clone()
            } else {
                Fault::None
            }
        });
        let store = bench.through(&proxy, "parts", "cache");
        let key = format!("packs/long{number}");
        let mut draft = store.backend().create().unwrap();
        for piece in long.chunks(1 << 20) {
            draft.write(piece).unwrap();
        }
        draft.finish(&key).unwrap();
        let sent = proxy.asked();
        let parts = sent
            .iter()
            .filter(|asked| asked.path.contains("partNumber="));
        assert!(parts.count() > 5, "every part went twice: {sent:#?}");
        drop(proxy);
        let direct = bench.read("parts");
        let there = direct.backend().get(&key, 1 << 30).unwrap().unwrap();
        assert!(there == long, "{key}");
        assert!(requests(&direct) > 0);
    }
}

#[test]
fn a_bucket_that_stays_in_trouble_is_given_up_and_nothing_shows() {
    let bench = Bench::new();
    let tree = bench.tree("tree");
    drop(bench.open("p", "direct"));
    let proxy = bench.behind(|asked| {
        if asked.method == "PUT" && asked.path.contains("/packs/") {
            Fault::Status(503, String::new())
        } else {
            Fault::None
        }
    });
    let store = bench.through(&proxy, "p", "cache");
    let error = store
        .publish_tree(&tree, EPOCH, &|_| {})
        .expect_err("packs cannot be written");
    assert_eq!(error.kind(), ErrorKind::Io, "{error:?}");
    let said = error.to_string();
    assert!(
        said.contains("503") && said.contains("6 attempts"),
        "{said}"
    );
    assert!(said.contains("s3://images/p"), "{said}");
    drop(store);
    let read = bench.read("p");
    assert!(read.images().unwrap().is_empty());
    // The next one is not in its way.
    let store = bench.open("p", "direct");
    let made = publish(&store, &tree);
    bench.read("p").verify_image(&made).unwrap();
}

/// What AWS answers (its documentation, "Error responses"), which other servers do not
/// all check: said once, with the way out.
#[test]
fn regions_and_clocks_are_named() {
    let bench = Bench::new();
    let date = "Date: Mon, 23 Nov 2009 05:00:00 GMT\r\n";
    let cases = [
        (
            301,
            "x-amz-bucket-region: eu-south-2\r\n",
            "<Error><Code>PermanentRedirect</Code></Error>",
            "AWS_REGION=eu-south-2",
        ),
        (
            400,
            "",
            "<Error><Code>AuthorizationHeaderMalformed</Code><Region>us-west-2</Region></Error>",
            "AWS_REGION=us-west-2",
        ),
        (
            400,
            "",
            "<Error><Code>AuthorizationHeaderMalformed</Code><Region>$(id)</Region></Error>",
            "AWS_REGION=REGION",
        ),
        (
            403,
            date,
            "<Error><Code>RequestTimeTooSkewed</Code></Error>",
            "clock",
        ),
        (
            403,
            date,
            "<Error><Code>AccessDenied</Code></Error>",
            "clock",
        ),
    ];
    for (status, head, text, hint) in cases {
        let proxy = bench.behind(move |_| Fault::Answer(status, head.into(), text.into()));
        let mut variables = bench.weed.environment(WRITER);
        variables[0].1 = proxy.url();
        let cache = bench.dir.path().join("cache");
        let opened = WritableStore::open(&place("p"), &access(&variables), &cache);
        let error = opened.err().expect("it is refused");
        assert!(
            error.hint().is_some_and(|said| said.contains(hint)),
            "{text}: {error:?}"
        );
        assert_eq!(proxy.asked().len(), 1, "{text}");
    }
}
