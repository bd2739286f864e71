use proptest::prelude::*;
use serde_json::json;

use super::stage::{is_below, place};
use super::*;
use crate::digest::Sha256;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn stages(text: &str) -> Vec<Stage> {
    text.split(',').map(|one| one.parse().unwrap()).collect()
}

fn waves(text: &str) -> Waves {
    Waves::begin(stages(text), None, at("2030-01-01T12:00:00Z")).unwrap()
}

fn halt(reason: &str) -> Step {
    let reason = reason.to_owned();
    Step::Halt { reason }
}

fn covers(waves: &Waves, seq: u64, name: &str, group: &str) -> bool {
    let (name, group) = (name.parse().unwrap(), group.parse().ok());
    let node = Member {
        name: Some(&name),
        group: group.as_ref(),
    };
    let (env, image) = ("prod".parse().unwrap(), "web".parse().unwrap());
    waves.covers(&env, &image, seq, node)
}

#[test]
fn a_place_is_what_the_format_says() {
    let (env, image) = ("prod".parse().unwrap(), "web".parse().unwrap());
    let name = "web07".parse().unwrap();
    let digest = Sha256::of(b"imgbuild-wave-1\0prod\0web\x007\0web07").hex();
    let place = place(&env, &image, 7, &name);
    assert_eq!(format!("{place:016x}"), digest[..16]);
    assert!(is_below(u64::MAX, 100) && is_below(0, 1));
    let half = 1 << 63;
    assert!(is_below(half - 1, 50) && !is_below(half, 50));
}

#[test]
fn a_percentage_is_about_that_many_nodes_and_others_for_each_release() {
    let mut of_release = Vec::new();
    for seq in [7, 8] {
        let mut all = waves("10%,50%,100%");
        for (percent, reached) in [(10, 1), (50, 2), (100, 3)] {
            all.reached = reached;
            let nodes = (0..10_000).filter(|n| covers(&all, seq, &format!("n{n}"), ""));
            let nodes: Vec<_> = nodes.collect();
            let expected = percent * 100;
            let off = nodes.len().abs_diff(expected);
            // Five standard deviations of such a draw are at most 250.
            assert!(off <= 250, "{percent} %: {}", nodes.len());
            if percent == 10 {
                of_release.push(nodes);
            }
        }
    }
    assert_ne!(of_release[0], of_release[1]);
}

proptest! {
    #[test]
    fn whom_a_stage_covers_the_next_covers(
        name in "[a-z0-9][a-z0-9._-]{0,63}", group in "(canary|eu|us)", seq in 1..1000_u64,
        first in 1..50_u8, second in 50..100_u8,
    ) {
        let mut all = waves(&format!("canary,{first}%,eu,{second}%,100%"));
        let mut before = false;
        for reached in 1..=5 {
            all.reached = reached;
            let now = covers(&all, seq, &name, &group);
            prop_assert!(now || !before);
            prop_assert!(now || group != "canary");
            before = now;
        }
        prop_assert!(before);
    }

    #[test]
    fn what_is_read_is_written_the_same(reached in 1..=4_usize, minutes in 0..9000_u32,
                                        nodes in 1..900_u32, halted in "[ -~]{0,20}") {
        let mut all = waves("canary+eu,10%,50%,100%");
        all.reached = reached;
        all.rule = Some(Rule { minutes, nodes });
        let trimmed = halted.trim();
        all.halted = (!trimmed.is_empty()).then(|| trimmed.to_owned());
        let value = serde_json::to_value(&all).unwrap();
        prop_assert_eq!(serde_json::from_value::<Waves>(value).unwrap(), all);
    }
}

#[test]
fn a_group_without_a_name_counts_and_a_hash_needs_one() {
    let mut all = waves("canary,99%,100%");
    let group = "canary".parse().unwrap();
    let (env, image) = ("prod".parse().unwrap(), "web".parse().unwrap());
    let covers =
        |waves: &Waves, group| waves.reaches(&env, &image, 1, Member { name: None, group });
    assert!(covers(&all, Some(&group)) && !covers(&all, None));
    all.reached = 2;
    assert!(!covers(&all, None));
    all.reached = 3;
    assert!(covers(&all, None));
    all.halted = Some("it burns".to_owned());
    assert!(!covers(&all, None) && !covers(&all, Some(&group)));
}

#[test]
fn each_step_is_the_next_one() {
    let later = at("2030-01-02T12:00:00.5Z");
    let first = waves("canary,100%");
    assert_eq!(first.standing(), "at stage 1 of 2 (group canary)");
    let second = first.after(&Step::Widen, later).unwrap();
    assert_eq!(
        (second.reached, second.since),
        (2, at("2030-01-02T12:00:00Z"))
    );
    assert!(second.after(&Step::Widen, later).is_err());
    assert!(first.after(&Step::Resume, later).is_err());
    assert!(first.after(&halt(" "), later).is_err());
    let halted = first.after(&halt("no "), later).unwrap();
    assert_eq!((halted.halted(), halted.since), (Some("no"), first.since));
    assert!(halted.after(&Step::Widen, later).is_err());
    assert!(halted.after(&halt("no"), later).is_err());
    let resumed = halted.after(&Step::Resume, later).unwrap();
    assert_eq!((resumed.reached, resumed.since), (1, second.since));
}

#[cfg(feature = "write")]
#[test]
fn what_is_no_step_is_found() {
    let later = at("2030-01-02T12:00:00Z");
    let first = waves("canary,10%,100%");
    let second = first.after(&Step::Widen, later).unwrap();
    let halted = first.after(&halt("no"), later).unwrap();
    let third = second.after(&Step::Widen, later).unwrap();
    assert_eq!(first.step_to(&second), Some(Step::Widen));
    assert_eq!(first.step_to(&halted), Some(halt("no")));
    let resumed = halted.after(&Step::Resume, later).unwrap();
    assert_eq!(halted.step_to(&resumed), Some(Step::Resume));
    let other = waves("canary,20%,100%").after(&Step::Widen, later).unwrap();
    let mut ruled = second.clone();
    ruled.rule = Some(Rule {
        minutes: 0,
        nodes: 1,
    });
    let mut dated = halted.clone();
    dated.since = later;
    for next in [&first, &third, &other, &ruled, &dated] {
        assert_eq!(first.step_to(next), None, "{next:?}");
    }
    assert_eq!(second.step_to(&first), None);
}

#[test]
fn wrong_shapes_are_refused() {
    let good = json!({
        "stages": [{ "groups": ["canary"] }, { "percent": 10 }, { "percent": 100 }],
        "rule": { "minutes": 120, "nodes": 2 }, "reached": 1,
        "since": "2030-01-01T12:00:00Z", "halted": "no",
    });
    serde_json::from_value::<Waves>(good.clone()).unwrap();
    let many: Vec<_> = (0..=MAX_STAGES)
        .map(|n| json!({ "groups": [format!("g{n}")] }))
        .collect();
    for (path, value, why) in [
        ("/reached", json!(0), "no stage 0"),
        ("/reached", json!(4), "no stage 4"),
        ("/reached", json!("1"), "invalid type"),
        ("/stages", json!([]), "1 to 20 stages"),
        ("/stages", json!(many), "1 to 20 stages"),
        ("/stages/2/percent", json!(99), "last stage is 100"),
        (
            "/stages/2/percent",
            json!(10),
            "10 % does not come after 10 %",
        ),
        ("/stages/1/percent", json!(0), "1 to 100 %, not 0"),
        ("/stages/1/percent", json!(101), "1 to 100 %, not 101"),
        ("/stages/1/percent", json!(300), "invalid value"),
        ("/stages/0/groups", json!([]), "names no group"),
        ("/stages/0/groups", json!(["a", "a"]), "stands twice"),
        ("/stages/0/groups", json!(["A b"]), "not the name"),
        (
            "/stages/0",
            json!({ "percent": 1, "groups": ["a"] }),
            "single key",
        ),
        ("/stages/0", json!({ "nodes": ["a"] }), "unknown variant"),
        (
            "/since",
            json!("2030-01-01T12:00:00.5Z"),
            "more than seconds",
        ),
        (
            "/since",
            json!("2030-01-01T13:00:00+01:00"),
            "not written as they should be",
        ),
        ("/rule/nodes", json!(0), "at least 1 node"),
        ("/rule/minutes", json!(MAX_MINUTES + 1), "at most 90 days"),
        ("/rule", json!({ "nodes": 1 }), "missing field"),
        ("/rule", Value::Null, "not written as they should be"),
        ("/halted", json!(""), "a reason"),
        ("/halted", json!("x".repeat(MAX_REASON + 1)), "a reason"),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(path).unwrap() = value;
        let e = serde_json::from_value::<Waves>(bad)
            .unwrap_err()
            .to_string();
        assert!(e.contains(why), "{path} {why}: {e}");
    }
    let mut more = good;
    more["also"] = json!(1);
    let e = serde_json::from_value::<Waves>(more)
        .unwrap_err()
        .to_string();
    assert!(e.contains("unknown field `also`"), "{e}");
}

#[test]
fn stages_are_typed_as_people_say_them() {
    assert_eq!(stages("canary,eu+us,10%").len(), 3);
    assert_eq!(
        waves("eu+us,100%").to_string(),
        "groups eu and us, then 100 %"
    );
    for bad in ["0%", "101%", "%", "ten%", "A", "a+", ""] {
        assert!(bad.parse::<Stage>().is_err(), "{bad}");
    }
    let rule = Rule {
        minutes: 90,
        nodes: 1,
    };
    assert_eq!(
        rule.to_string(),
        "90 min have passed, 1 node runs the release and none has failed"
    );
}
