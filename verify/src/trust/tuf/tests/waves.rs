//! Which release a node takes where releases come in waves.

use serde_json::{Value, json};
use store::digest::ImageId;
use store::name::NodeName;
use store::tuf::waves::Member;

use super::forge::Forge;
use super::node::Node;
use super::releases::{a, manifest, three};
use crate::trust::tuf::{Asker, Error, ErrorKind};

/// Waves of a canary and then everybody, as far as this.
fn waves(reached: u64) -> Value {
    json!({
        "stages": [{ "groups": ["canary"] }, { "percent": 100 }],
        "reached": reached, "since": "2030-01-01T12:00:00Z",
    })
}

fn halted() -> Value {
    let mut waves = waves(1);
    waves["halted"] = json!("it burns");
    waves
}

fn image(seq: u64) -> ImageId {
    manifest("a", &seq.to_string()).image
}

/// Somebody who asks.
struct Who {
    group: &'static str,
    /// The number of the release that is active there.
    has: u64,
    ahead: bool,
}

const OTHER: Who = Who {
    group: "eu",
    has: 0,
    ahead: false,
};

const CANARY: Who = Who {
    group: "canary",
    ..OTHER
};

/// The release that a node gets, and the one that has not reached it.
fn asks(forge: &Forge, node: &mut Node, who: &Who) -> Result<(u64, Option<u64>), Error> {
    let (name, group): (NodeName, NodeName) = ("n1".parse().unwrap(), who.group.parse().unwrap());
    let asker = Asker {
        node: Member {
            name: Some(&name),
            group: Some(&group),
        },
        has: (who.has > 0).then(|| (who.has, image(who.has))),
        ahead: who.ahead,
    };
    let client = node.client();
    let (release, held) = client.reached(&forge.files, &a(), asker, &|_, _| None)?;
    assert_eq!(release.manifest.image, image(release.seq));
    Ok((release.seq, held.map(|held| held.seq)))
}

#[test]
fn a_node_takes_the_newest_release_that_reaches_it() {
    let (forge, mut node) = three(&|seq, target| {
        if seq > 1 {
            target["custom"]["waves"] = waves(if seq == 2 { 2 } else { 1 });
        }
    });
    let mut asks = |who: Who| asks(&forge, &mut node, &who).unwrap();
    assert_eq!(asks(CANARY), (3, None));
    assert_eq!(asks(OTHER), (2, Some(3)));
    // What it has, it keeps.
    assert_eq!(asks(Who { has: 3, ..OTHER }), (3, None));
    assert_eq!(asks(Who { has: 1, ..OTHER }), (2, Some(3)));
    assert_eq!(
        asks(Who {
            ahead: true,
            ..OTHER
        }),
        (3, None)
    );
}

#[test]
fn a_halted_release_is_for_those_who_have_it() {
    let (forge, mut node) = three(&|seq, target| {
        if seq == 3 {
            target["custom"]["waves"] = halted();
        }
    });
    let mut asks = |who: Who| asks(&forge, &mut node, &who).unwrap();
    for who in [
        CANARY,
        OTHER,
        Who {
            ahead: true,
            ..CANARY
        },
        Who { has: 2, ..CANARY },
    ] {
        assert_eq!(asks(who), (2, Some(3)));
    }
    for who in [Who { has: 3, ..CANARY }, Who { has: 3, ..OTHER }] {
        assert_eq!(asks(who), (3, None));
    }
    // One that is carried by hand is not taken either.
    let third = manifest("a", "3");
    let e = node.client().admits(&a(), 3, &third.to_json()).unwrap_err();
    assert_eq!(
        (e.kind(), e.class().exit_code()),
        (ErrorKind::NotReached, 3)
    );
    assert!(
        e.to_string()
            .ends_with("halted at stage 1 of 2 (group canary): it burns"),
        "{e}"
    );
    let e = node
        .client()
        .remembers_nothing_against(&a(), 3, &third.image, &third.to_json());
    assert_eq!(e.unwrap_err().kind(), ErrorKind::NotReached);
    node.client()
        .admits(&a(), 2, &manifest("a", "2").to_json())
        .unwrap();
}

#[test]
fn where_nothing_reaches_a_node_it_is_told_why() {
    let (forge, mut node) = three(&|_, target| target["custom"]["waves"] = waves(1));
    let e = asks(&forge, &mut node, &OTHER).unwrap_err();
    assert_eq!(
        (e.kind(), e.class().exit_code()),
        (ErrorKind::NotReached, 3)
    );
    assert_eq!(
        e.to_string(),
        "no release of a is for this node yet: release 3 of a is at stage 1 of 2 (group canary) \
         and has not reached this node"
    );
    assert!(e.hint().unwrap().contains("--ahead"));
    let (forge, mut node) = three(&|_, target| target["custom"]["waves"] = halted());
    let e = asks(
        &forge,
        &mut node,
        &Who {
            ahead: true,
            ..CANARY
        },
    )
    .unwrap_err();
    assert!(e.hint().unwrap().contains("the end of the halt"));
}

/// Revocations and the oldest release that is allowed are those of the newest release, whether it
/// reaches the node or not.
#[test]
fn the_newest_release_speaks_for_those_that_reach() {
    let second = image(2);
    let (forge, mut node) = three(&|seq, target| {
        if seq == 3 {
            target["custom"]["waves"] = waves(1);
            target["custom"]["revoked"] = json!([second]);
        }
    });
    assert_eq!(asks(&forge, &mut node, &OTHER).unwrap(), (1, Some(3)));
    // Nobody is moved back from what was revoked.
    let e = asks(&forge, &mut node, &Who { has: 2, ..OTHER }).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Revoked);
    let (forge, mut node) = three(&|seq, target| {
        if seq == 3 {
            target["custom"]["waves"] = waves(1);
            target["custom"]["min_seq"] = json!(3);
        }
    });
    let e = asks(&forge, &mut node, &OTHER).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotReached);
}

#[test]
fn waves_of_a_wrong_shape_are_refused() {
    for (field, value) in [
        ("/custom/waves", json!([])),
        ("/custom/waves/stages", json!([{ "percent": 50 }])),
        ("/custom/waves/reached", json!(3)),
        ("/custom/waves/also", json!(1)),
        ("/custom/waves/since", json!("2030-01-01T14:00:00+02:00")),
    ] {
        let (forge, mut node) = three(&|seq, target| {
            if seq == 3 {
                target["custom"]["waves"] = waves(1);
                let (parent, key) = field.rsplit_once('/').unwrap();
                target.pointer_mut(parent).unwrap()[key] = value.clone();
            }
        });
        for who in [OTHER, CANARY, Who { has: 2, ..OTHER }] {
            let e = asks(&forge, &mut node, &who).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Release, "{field}: {e}");
        }
    }
}
