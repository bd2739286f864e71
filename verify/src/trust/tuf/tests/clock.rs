//! HOSTILE.md, clock: 17 to 19.

use jiff::{SignedDuration, Timestamp};

use super::forge::{Forge, STRAIGHT, days, noon};
use super::node::Node;
use crate::trust::tuf::{Client, ErrorKind};

/// 17
#[test]
fn a_clock_at_the_beginning_of_time() {
    let forge = Forge::new();
    let epoch = Timestamp::UNIX_EPOCH;
    // Also on a node that has seen nothing yet.
    let mut node = Node::new(&forge);
    let e = node.refuses_at(&forge.files, epoch, ErrorKind::Clock, &[]);
    assert!(e.to_string().contains("1970-01-01T00:00:00Z"), "{e}");

    node.refresh(&forge.files).unwrap();
    let e = node.refuses_at(&forge.files, epoch, ErrorKind::Clock, &[]);
    let text = e.to_string();
    assert!(
        text.contains("1970-01-01T00:00:00Z") && text.contains("2030-01-01T12:00:00Z"),
        "{text}"
    );
    assert!(e.hint().unwrap().contains("set the clock"));
}

/// 17: far enough back to make metadata look fresh that has run out.
#[test]
fn a_clock_that_falls_back() {
    let mut forge = Forge::new();
    let old = forge.files.clone();
    let mut node = Node::following(&forge);
    let later = noon() + days(6);
    forge.publish(STRAIGHT);
    node.refresh_at(&forge.files, later).unwrap();
    node.refuses_at(&old, later - days(1), ErrorKind::Clock, &[]);
    node.refuses_at(
        &forge.files,
        later - SignedDuration::from_millis(1001),
        ErrorKind::Clock,
        &[],
    );
}

/// 18
#[test]
fn a_small_step_back_is_tolerated_and_not_remembered() {
    let forge = Forge::new();
    let mut node = Node::following(&forge);
    let before = node.state();
    for step in [1, 400, 1000] {
        node.refresh_at(&forge.files, noon() - SignedDuration::from_millis(step))
            .unwrap();
    }
    assert!(
        node.state() == before,
        "many small steps must not add up to a large one"
    );
}

/// 19
#[test]
fn a_clock_far_ahead_leaves_no_trace() {
    let forge = Forge::new();
    let mut node = Node::following(&forge);
    for ahead in [days(8), days(20), days(100), days(10_000)] {
        let e = node.refuses_at(&forge.files, noon() + ahead, ErrorKind::Expired, &[]);
        assert!(e.to_string().contains(&(noon() + ahead).to_string()), "{e}");
        assert!(e.hint().unwrap().contains("clock"));
    }
    node.refresh(&forge.files).unwrap();
    assert_eq!(
        Client::last_refresh(&node.directory()).unwrap(),
        Some(noon())
    );
}
