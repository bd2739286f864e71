//! Releases in waves: each step is signed and told, and nothing else of them changes.

use serde_json::json;

use super::drafts::{Forge, custom, list, refuses, relog, unlog};
use super::*;
use crate::name::ImageName;
use crate::tuf::waves::{Rule, Step};

/// An environment whose second release has waves.
fn in_waves(ours: &RoleKeys) -> Memory {
    let store = Memory::default();
    let mut env = Environment::init(&store, &dev(), ours, time()).unwrap();
    env.release(&manifest("a", "one"), ours, time()).unwrap();
    let draft = env.draft_release(&manifest("a", "two"), &origin(), time());
    let (draft, release) = draft.unwrap().unwrap();
    assert_eq!(release.custom.waves.as_ref().unwrap().reached(), 1);
    publish(&mut env, draft, ours);
    store
}

fn origin() -> ReleaseOrigin {
    let stages = ["canary", "10%", "50%", "100%"].map(|one| one.parse().unwrap());
    ReleaseOrigin {
        waves: Some(WavePlan {
            stages: stages.into(),
            rule: Some(Rule {
                minutes: 120,
                nodes: 2,
            }),
        }),
        ..ReleaseOrigin::default()
    }
}

fn publish(env: &mut Environment<'_>, mut draft: Proposal, ours: &RoleKeys) -> Vec<String> {
    let review = env.sign(&mut draft, &[&*ours.targets]).unwrap();
    env.publish(&draft, &[&*ours.online], time()).unwrap();
    env.log_tells_all().unwrap();
    review.changes
}

fn a() -> ImageName {
    "a".parse().unwrap()
}

fn halt() -> Step {
    Step::Halt {
        reason: "it burns".to_owned(),
    }
}

#[test]
fn a_release_goes_through_its_stages_and_stands_still() {
    let ours = keys();
    let store = in_waves(&ours);
    let mut env = Environment::open(&store, &dev()).unwrap();
    let mut step = |step: &Step, now| {
        let (draft, _) = env.draft_waves(&a(), step, now)?;
        Ok::<_, Error>(publish(&mut env, draft, &ours))
    };
    let said = step(&Step::Widen, days_later(1)).unwrap();
    assert_eq!(said[0], "a 2: its waves go on, now at stage 2 of 4 (10 %)");
    let said = step(&halt(), days_later(2)).unwrap();
    assert_eq!(
        said[0],
        "a 2 is halted at stage 2 of 4 (10 %): nobody gets it who does not have it"
    );
    assert_eq!(said[1], "reason: it burns");
    let e = step(&Step::Widen, days_later(2)).unwrap_err();
    assert!(e.to_string().ends_with("in dev: it is halted"), "{e}");
    let said = step(&Step::Resume, days_later(3)).unwrap();
    assert_eq!(said[0], "a 2: the halt is over, at stage 2 of 4 (10 %)");
    step(&Step::Widen, days_later(4)).unwrap();
    step(&Step::Widen, days_later(5)).unwrap();
    let e = step(&Step::Widen, days_later(6)).unwrap_err();
    assert!(e.to_string().contains("its last stage"), "{e}");
    let acts: Vec<_> = env.log(5).unwrap().iter().map(|entry| entry.act).collect();
    let [widen, resume, halt] = [Action::Widen, Action::Resume, Action::Halt];
    assert_eq!(acts, [widen, widen, resume, halt, widen]);
    // The next release has waves of its own, or none.
    let next = env.draft_release(&manifest("a", "three"), &ReleaseOrigin::default(), time());
    let (draft, _) = next.unwrap().unwrap();
    publish(&mut env, draft, &ours);
    let e = env.draft_waves(&a(), &Step::Widen, time()).unwrap_err();
    assert!(e.to_string().contains("3 of a in dev has no waves"), "{e}");
    assert!(env.releases().unwrap()[1].custom.waves.is_some());
    // A release without waves says nothing of them.
    let bare = store.json("env/dev/metadata/8.targets.json");
    let targets = &bare["signed"]["targets"];
    assert!(targets["a/3.json"]["custom"].get("waves").is_none());
    assert!(targets["a/2.json"]["custom"].get("waves").is_some());
}

#[test]
fn what_was_revoked_is_halted_and_not_widened() {
    let ours = keys();
    let store = in_waves(&ours);
    let mut env = Environment::open(&store, &dev()).unwrap();
    let image = manifest("a", "two").image;
    let draft = env.draft_revocation(&image, "hole", None, time()).unwrap();
    publish(&mut env, draft, &ours);
    let e = env.draft_waves(&a(), &Step::Widen, time()).unwrap_err();
    assert!(e.to_string().contains("was revoked"), "{e}");
    let (draft, _) = env.draft_waves(&a(), &halt(), time()).unwrap();
    publish(&mut env, draft, &ours);
    let e = env.draft_waves(&a(), &Step::Resume, time()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Untrusted);
}

#[test]
fn nodes_without_a_release_are_warned_of() {
    let ours = keys();
    let store = in_waves(&ours);
    let env = Environment::open(&store, &dev()).unwrap();
    let only = ReleaseOrigin {
        min_seq: Some(3),
        ..origin()
    };
    let draft = env.draft_release(&manifest("a", "three"), &only, time());
    let (draft, _) = draft.unwrap().unwrap();
    let warnings = env.review(&draft).unwrap().warnings;
    assert!(
        warnings[0].contains("can install no release"),
        "{warnings:?}"
    );
    for stages in [&["canary"][..], &[], &["50%", "10%", "100%"]] {
        let stages = stages.iter().map(|one| one.parse().unwrap()).collect();
        let wrong = ReleaseOrigin {
            waves: Some(WavePlan { stages, rule: None }),
            ..ReleaseOrigin::default()
        };
        let e = env.draft_release(&manifest("a", "three"), &wrong, time());
        assert_eq!(e.unwrap_err().kind(), ErrorKind::Range);
    }
}

fn of_release<'d>(draft: &'d mut Value, path: &str) -> &'d mut Value {
    &mut custom(draft, path)["waves"]
}

#[test]
fn forged_waves_are_refused() {
    let ours = keys();
    let store = in_waves(&ours);
    let mut env = Environment::open(&store, &dev()).unwrap();
    let (draft, _) = env.draft_waves(&a(), &Step::Widen, time()).unwrap();
    publish(&mut env, draft, &ours);
    let (widen, _) = env.draft_waves(&a(), &Step::Widen, days_later(1)).unwrap();
    let told: &[(&str, Forge)] = &[
        ("its log says nothing of the waves of a 2", unlog),
        ("its log has \"widen\" of a 1", |draft| {
            relog(draft, |entry| entry["seq"] = json!(1));
        }),
        ("its log has \"resume\"", |draft| {
            relog(draft, |entry| entry["act"] = json!("resume"));
        }),
        ("its log has \"widen\" of a 2", |draft| {
            relog(draft, |entry| entry["waves"]["reached"] = json!(2));
        }),
        ("its log has \"widen\" of a 2", |draft| {
            relog(draft, |entry| entry["waves"] = Value::Null);
        }),
        ("its log has \"widen\" of a 2", |draft| {
            relog(draft, |entry| entry["reason"] = json!("because"));
        }),
        ("its log has \"widen\" of a 2", |draft| {
            relog(draft, |entry| entry["time"] = json!("2030-01-01T12:00:00Z"));
        }),
        ("is no release, is new or changed", |draft| {
            of_release(draft, "a/2.json")["also"] = json!(1);
        }),
        ("is no release, is new or changed", |draft| {
            of_release(draft, "a/2.json")["reached"] = json!(5);
        }),
    ];
    refuses(&env, &widen, told);
    let steps: &[(&str, Forge)] = &[
        ("and not by one stage", |draft| {
            of_release(draft, "a/2.json")["reached"] = json!(1);
        }),
        ("and not by one stage", |draft| {
            of_release(draft, "a/2.json")["reached"] = json!(4);
        }),
        ("and not by one stage", |draft| {
            of_release(draft, "a/2.json")["stages"][2]["percent"] = json!(51);
        }),
        ("and not by one stage", |draft| {
            of_release(draft, "a/2.json")["rule"]["nodes"] = json!(1);
        }),
        ("and not by one stage", |draft| {
            let custom = custom(draft, "a/2.json").as_object_mut().unwrap();
            custom.remove("waves");
        }),
        // A release that reaches everybody gets no waves afterwards, and no other one than the
        // newest changes.
        ("the waves of a/1.json change", |draft| {
            let waves = of_release(draft, "a/2.json").take();
            let custom = custom(draft, "a/2.json").as_object_mut().unwrap();
            custom.remove("waves");
            *of_release(draft, "a/1.json") = waves;
        }),
    ];
    refuses(&env, &widen, steps);
    let next = env.draft_release(&manifest("a", "three"), &origin(), time());
    let (next, _) = next.unwrap().unwrap();
    let begin: &[(&str, Forge)] = &[
        ("its waves do not begin: they are at stage 2", |draft| {
            of_release(draft, "a/3.json")["reached"] = json!(2);
        }),
        ("its waves do not begin", |draft| {
            of_release(draft, "a/3.json")["halted"] = json!("no");
        }),
        ("its log has \"release\" of a 3", |draft| {
            relog(draft, |entry| entry["waves"] = Value::Null);
        }),
        ("its log has \"release\" of a 3", |draft| {
            let custom = custom(draft, "a/3.json").as_object_mut().unwrap();
            custom.remove("waves");
        }),
        ("a/2.json changes, and release 3 is", |draft| {
            of_release(draft, "a/2.json")["reached"] = json!(3);
        }),
    ];
    // A step of the release before is one of a release that nobody asks any more.
    let (last, rest) = begin.split_last().unwrap();
    refuses(&env, &next, rest);
    publish(&mut env, next, &ours);
    let (widen, _) = env.draft_waves(&a(), &Step::Widen, time()).unwrap();
    refuses(&env, &widen, &[*last]);
}

/// Who holds the keys of releases could sign what this program does not draft: a witness finds it.
#[test]
fn a_reach_without_an_entry_is_found() {
    let ours = keys();
    let store = in_waves(&ours);
    let mut env = Environment::open(&store, &dev()).unwrap();
    let (draft, _) = env.draft_waves(&a(), &Step::Widen, time()).unwrap();
    publish(&mut env, draft, &ours);
    let log = env.log(usize::MAX).unwrap();
    let mut list = env.current.targets.signed.clone();
    let mut found = |edit: &dyn Fn(&mut Value)| {
        let before = list.clone();
        let target = list.targets.get_mut("a/2.json").unwrap();
        edit(&mut target.custom);
        let found = consistency::contradiction(&list, &log).unwrap().unwrap();
        list = before;
        found
    };
    let wider = found(&|custom| custom["waves"]["reached"] = json!(3));
    assert_eq!(
        wider,
        "its log tells that a 2 is at stage 2 of 4 (10 %), and the list that it is at stage 3 of 4 (50 %)"
    );
    let everywhere = found(&|custom| {
        custom.as_object_mut().unwrap().remove("waves");
    });
    assert!(
        everywhere.ends_with("that it is everywhere"),
        "{everywhere}"
    );
    let other = found(&|custom| custom["waves"]["stages"][2]["percent"] = json!(60));
    assert_eq!(other, "its log tells other waves of a 2 than the list");
    let halted = found(&|custom| custom["waves"]["halted"] = json!("no"));
    assert!(halted.contains("halted at stage 2"), "{halted}");
    let earlier: Vec<_> = log
        .iter()
        .filter(|entry| entry.number < 3)
        .cloned()
        .collect();
    let untold = consistency::contradiction(&list, &earlier)
        .unwrap()
        .unwrap();
    assert!(
        untold.contains("is at stage 1 of 4 (group canary)"),
        "{untold}"
    );
}

#[test]
fn a_draft_shows_where_its_list_is() {
    let ours = keys();
    let store = in_waves(&ours);
    let env = Environment::open(&store, &dev()).unwrap();
    let (draft, release) = env.draft_waves(&a(), &halt(), time()).unwrap();
    let waves = release.custom.waves.unwrap();
    assert_eq!(waves.halted(), Some("it burns"));
    let mut value = serde_json::to_value(&draft).unwrap();
    let shown = &list(&mut value)["targets"]["a/2.json"]["custom"]["waves"];
    assert_eq!(*shown, serde_json::to_value(&waves).unwrap());
    let unknown = "b".parse().unwrap();
    let e = env.draft_waves(&unknown, &halt(), time()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Missing);
}
