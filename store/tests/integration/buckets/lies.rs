//! Servers that do not keep what writers rely on: nothing is written there.

use store::{ErrorKind, Store, StoreUrl, WritableStore};

use super::access;
use servers::bucket::{Lie, MemoryBucket};

fn url() -> StoreUrl {
    "s3://images/p".parse().unwrap()
}

fn open(bucket: &MemoryBucket) -> (tempfile::TempDir, store::Result<WritableStore>) {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    let opened = WritableStore::open(&url(), &access(&bucket.environment()), &cache);
    (dir, opened)
}

#[test]
fn a_bucket_that_ignores_conditions_is_not_written() {
    for (lie, said) in [
        (Lie::IfNoneMatch, "ignores If-None-Match"),
        (Lie::Refuses, "ignores If-None-Match"),
        (Lie::IfMatch, "ignores If-Match"),
        (Lie::NoMatch, "refuses If-Match"),
        (Lie::Creates, "ignores If-Match where nothing is"),
        (Lie::Unknown, "does not know If-Match and If-None-Match"),
        (Lie::Range, "ignores Range"),
        (Lie::List, "lists late"),
    ] {
        let bucket = MemoryBucket::start(lie);
        let (_dir, opened) = open(&bucket);
        let error = opened.err().expect("it is refused");
        assert_eq!(error.kind(), ErrorKind::ReadOnly, "{lie:?}: {error:?}");
        assert!(error.to_string().contains(said), "{lie:?}: {error:?}");
        assert!(error.hint().unwrap().contains("it can be read"), "{lie:?}");
        assert_eq!(bucket.keys(), Vec::<String>::new(), "{lie:?}");
    }
}

#[test]
fn what_was_found_is_remembered_and_reading_stays_possible() {
    let bucket = MemoryBucket::start(Lie::None);
    let (_dir, opened) = open(&bucket);
    drop(opened.unwrap());
    let probed = |asked: &[String]| {
        asked
            .iter()
            .filter(|one| one.contains("locks/probe-"))
            .count()
    };
    let first = bucket.asked();
    assert!(probed(&first) > 10, "{first:#?}");
    let (_dir, opened) = open(&bucket);
    opened.unwrap().put("pins/x", b"x").unwrap();
    assert_eq!(probed(&bucket.asked()), probed(&first), "probed once");
    let checks = url().probe(&access(&bucket.environment())).unwrap();
    assert!(
        checks.len() > 3 && checks.iter().all(|check| check.fault.is_none()),
        "{checks:?}"
    );

    let lying = MemoryBucket::start(Lie::IfMatch);
    let (_dir, opened) = open(&lying);
    assert!(opened.is_err());
    let seen = url().probe(&access(&lying.environment())).unwrap();
    assert!(seen.iter().any(|check| check.fault.is_some()), "{seen:?}");
    lying.put("images/p/imgbuild-store", b"imgbuild store 1\n");
    let read = Store::open(url().open(&access(&lying.environment())).unwrap()).unwrap();
    assert!(read.images().unwrap().is_empty());
    let listed = url().open_listable(&access(&lying.environment())).unwrap();
    assert!(
        listed.try_share("gc").unwrap().is_some(),
        "who only looks may look"
    );
}
