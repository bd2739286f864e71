//! What policies ask for, and what meets it.

use super::*;
use crate::keys::{KeyPair, Signer};

fn keys() -> ([PublicKey; 3], Policy) {
    let keys = [(); 3].map(|()| KeyPair::generate().unwrap().public());
    let names = ["ci", "ann", "bob"].map(String::from);
    let policy = Policy {
        schema: SCHEMA,
        keys: names.into_iter().zip(keys.map(|key| key.hex())).collect(),
        ..Policy::default()
    };
    (keys, policy)
}

fn votes(count: u32, keys: &[&str]) -> Quorum {
    let keys = keys.iter().map(|name| (*name).to_owned()).collect();
    Quorum { count, keys }
}

#[test]
fn what_an_image_begins_with_is_asked_for_where_there_is_something() {
    let prod: EnvName = "prod".parse().unwrap();
    let policy = Policy {
        base_from: BTreeSet::from([prod.clone()]),
        base_newest: true,
        ..Policy::default()
    };
    let unmet = |base: BaseFact| {
        policy.violations(&Facts {
            base,
            ..Facts::default()
        })
    };
    let base = |released: &[&EnvName], newer: Option<&str>| BaseFact::Base {
        name: "prod/debian/7".into(),
        released: released.iter().map(|env| (*env).clone()).collect(),
        newer: newer.map(str::to_owned),
    };
    assert_eq!(unmet(BaseFact::None), []);
    assert_eq!(unmet(BaseFact::Unknown), [Violation::UnknownBase]);
    assert_eq!(unmet(base(&[&prod], None)), []);
    let (name, newer) = ("prod/debian/7".to_owned(), "prod/debian/9".to_owned());
    assert_eq!(
        unmet(base(&[], Some("prod/debian/9"))),
        [
            Violation::BaseFrom {
                base: name.clone(),
                from: vec![prod.clone()]
            },
            Violation::BaseOutdated { base: name, newer },
        ]
    );
    let lax = Policy::default();
    let facts = Facts {
        base: BaseFact::Unknown,
        ..Facts::default()
    };
    assert_eq!(lax.violations(&facts), []);
}

#[test]
fn a_key_may_be_written_in_capital_digits() {
    let ([_, ann, _], mut policy) = keys();
    policy.approvals = Some(votes(1, &["ann"]));
    policy.keys.insert("ann".into(), ann.hex().to_uppercase());
    policy.check().unwrap();
    let facts = Facts {
        words: vec![(Claim::Approved, ann)],
        ..Facts::default()
    };
    assert!(policy.violations(&facts).is_empty());
}

#[test]
fn a_key_takes_the_place_of_another_under_its_own_name() {
    let ([ci, _, bob], mut policy) = keys();
    policy.approvals = Some(votes(2, &["ann", "bob"]));
    let eve = KeyPair::generate().unwrap().public();
    assert_eq!(policy.listens_to(Claim::Approved, &eve), Some(false));
    assert!(policy.replace_key(&bob, &eve, Some("eve")));
    assert_eq!(policy.approvals, Some(votes(2, &["ann", "eve"])));
    assert_eq!(policy.names_of(Claim::Approved), ["ann", "eve"]);
    assert_eq!(policy.listens_to(Claim::Approved, &eve), Some(true));
    assert_eq!(policy.listens_to(Claim::Approved, &bob), Some(false));
    assert_eq!(policy.listens_to(Claim::Built, &eve), None);
    assert!(!policy.replace_key(&bob, &eve, Some("eve")));
    // A name that is somebody else's is not taken away, and nobody gets a second one.
    assert!(policy.replace_key(&eve, &bob, Some("ci")));
    assert_eq!(policy.names_of(Claim::Approved), ["ann", "eve"]);
    assert!(policy.replace_key(&bob, &eve, None));
    assert_eq!(policy.names_of(Claim::Approved), ["ann", "eve"]);
    assert!(policy.replace_key(&eve, &ci, Some("bob")));
    assert_eq!(policy.approvals, Some(votes(2, &["ann", "ci"])));
    assert_eq!(policy.keys.len(), 2);
    policy.check().unwrap();
}

#[test]
fn each_key_counts_once_and_a_builder_is_no_other_builder() {
    let ([ci, ann, bob], mut policy) = keys();
    policy.built = Some(votes(1, &["ci"]));
    policy.rebuilt = Some(votes(1, &[]));
    policy.approvals = Some(votes(2, &["ann", "bob"]));
    policy.check().unwrap();
    let mut facts = Facts {
        words: vec![
            (Claim::Built, ci),
            (Claim::Rebuilt, ci),
            (Claim::Approved, ann),
            (Claim::Approved, ann),
            (Claim::Approved, ci),
        ],
        ..Facts::default()
    };
    let list = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
    let expected = [
        Violation::Words {
            word: Claim::Rebuilt,
            needed: 1,
            given: vec![],
            missing: list(&["ann", "bob"]),
        },
        Violation::Words {
            word: Claim::Approved,
            needed: 2,
            given: list(&["ann"]),
            missing: list(&["bob"]),
        },
    ];
    assert_eq!(policy.violations(&facts), expected);
    facts
        .words
        .extend([(Claim::Approved, bob), (Claim::Rebuilt, ann)]);
    assert_eq!(policy.violations(&facts), []);
}

#[test]
fn age_suite_setuid_and_the_environment_before() {
    let policy = Policy {
        max_age_days: Some(30),
        suites: ["bookworm".to_owned()].into(),
        forbidden_setuid: ["/usr/bin/su".to_owned()].into(),
        from: ["staging".parse().unwrap()].into(),
        ..keys().1
    };
    let bad = Facts {
        age_days: Some(31),
        suite: "buster".into(),
        setuid: vec!["usr/bin/su".into(), "usr/bin/passwd".into()],
        released: ["dev".parse().unwrap()].into(),
        ..Facts::default()
    };
    assert_eq!(policy.violations(&bad).len(), 4);
    assert!(
        policy
            .violations(&bad)
            .contains(&Violation::Setuid(vec!["usr/bin/su".into()]))
    );
    let good = Facts {
        age_days: Some(30),
        suite: "bookworm".into(),
        setuid: vec!["usr/bin/passwd".into()],
        released: ["staging".parse().unwrap()].into(),
        ..Facts::default()
    };
    assert_eq!(policy.violations(&good), []);
    let future = Facts {
        age_days: None,
        ..good
    };
    let age = Violation::Age {
        days: None,
        most: 30,
    };
    assert_eq!(policy.violations(&future), [age]);
    assert_eq!(Policy::default().violations(&bad), []);
}

#[test]
fn what_nothing_can_meet_is_no_policy() {
    let (_, policy) = keys();
    for bad in [
        Policy {
            built: Some(votes(0, &[])),
            ..policy.clone()
        },
        Policy {
            approvals: Some(votes(3, &["ann", "bob"])),
            ..policy.clone()
        },
        Policy {
            built: Some(votes(1, &["ci"])),
            rebuilt: Some(votes(1, &["ci"])),
            ..policy.clone()
        },
        Policy {
            built: Some(votes(2, &[])),
            rebuilt: Some(votes(2, &[])),
            ..policy.clone()
        },
        Policy {
            tested: Some(votes(1, &["eve"])),
            ..policy.clone()
        },
        Policy {
            schema: 2,
            ..policy.clone()
        },
        Policy {
            keys: [("x".to_owned(), "00".to_owned())].into(),
            ..policy.clone()
        },
        Policy {
            keys: ["a", "b"]
                .map(|n| (n.to_owned(), policy.keys["ci"].clone()))
                .into(),
            ..policy.clone()
        },
    ] {
        assert_eq!(bad.check().unwrap_err().kind(), ErrorKind::Range, "{bad:?}");
    }
}
