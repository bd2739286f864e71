//! Waves of releases: one form, and a node that a stage covers is covered by all that follow.

use jiff::Timestamp;
use store::name::NodeName;
use store::tuf::waves::{Member, Step, Waves};
use store::{EnvName, ImageName};

use crate::memory;

/// Waves, if the input is some.
pub fn read(bytes: &[u8]) -> Option<Waves> {
    let value = store::json::parse(bytes).ok()?;
    serde_json::from_value(value).ok()
}

pub(crate) fn run(bytes: &[u8]) {
    let Some(waves) = memory::bounded(bytes, 64 << 10, 128, read) else {
        return;
    };
    let form = serde_json::to_vec(&waves).expect("waves have a JSON form");
    assert_eq!(read(&form).as_ref(), Some(&waves), "one form");
    let value = store::json::parse(bytes).expect("it was parsed");
    assert_eq!(
        serde_json::to_value(&waves).expect("JSON"),
        value,
        "no field is lost"
    );
    let (environment, image): (EnvName, ImageName) = (
        "prod".parse().expect("a name"),
        "web".parse().expect("a name"),
    );
    let nodes: Vec<NodeName> = ["web01", "web02", "canary"]
        .map(|name| name.parse().expect("a name"))
        .into();
    let now = Timestamp::from_second(1_800_000_000).expect("a time");
    let halt = Step::Halt {
        reason: "it does not start".to_owned(),
    };
    let mut at = match waves.halted() {
        Some(_) => waves.after(&Step::Resume, now).expect("a halt ends"),
        None => waves,
    };
    loop {
        let halted = at.after(&halt, now).expect("what goes on can be halted");
        let next = at.after(&Step::Widen, now);
        assert_eq!(next.is_err(), at.is_last());
        for name in &nodes {
            let member = Member {
                name: Some(name),
                group: Some(name),
            };
            let covered = at.covers(&environment, &image, 7, member);
            assert!(!halted.reaches(&environment, &image, 7, member));
            assert_eq!(halted.covers(&environment, &image, 7, member), covered);
            match &next {
                Ok(next) => assert!(!covered || next.covers(&environment, &image, 7, member)),
                Err(_) => assert!(covered, "the last stage is for everybody"),
            }
        }
        match next {
            Ok(next) => at = next,
            Err(_) => break,
        }
    }
}
