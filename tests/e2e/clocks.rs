//! Times that cannot be right: of files, and of the machine that signs.

use std::fs;

use tests::binaries::Ran;

use crate::team::{Team, at, says};

/// Times of files can be anything: an image from the future would never be too old.
#[test]
fn no_image_is_from_the_future() {
    let team = Team::new();
    let tree = team.tree("one", "1.0");
    let in_2090 = std::time::UNIX_EPOCH + std::time::Duration::from_secs(3_786_912_000);
    let file = fs::File::options()
        .append(true)
        .open(tree.join("etc/os-release"))
        .unwrap();
    file.set_modified(in_2090).unwrap();
    let words = ["import", "one", "--name", "web", "--arch", "amd64"];
    let import = |epoch: Option<&str>| {
        let mut command = team.command("ann");
        match epoch {
            Some(epoch) => command.env("SOURCE_DATE_EPOCH", epoch),
            None => command.env_remove("SOURCE_DATE_EPOCH"),
        };
        Ran::of(command.args(words))
    };
    for epoch in [None, Some("3786912000")] {
        let refused = import(epoch).expect(3);
        says(&refused, &["is of 2090-01-01", "SOURCE_DATE_EPOCH"]);
        assert!(!team.path("store/env").exists());
    }
    import(Some("1700000000")).expect(0);
}

/// A clock that stands before the last signature signs nothing.
#[test]
fn a_clock_that_is_behind_signs_nothing() {
    let team = Team::new();
    team.import(&team.tree("one", "1.0"));
    team.run("ann", &["env", "init", "prod", "--plain"])
        .expect(0);
    team.run("ann", &["promote", "dev/web", "--to", "prod"])
        .expect(0);
    team.key("ann", "ann");
    team.import(&team.tree("two", "2.0"));
    for words in [
        &["promote", "dev/web", "--to", "prod"][..],
        &["approve", "dev/web", "--for", "prod", "--key", "ann"],
        &["revoke", "prod/web", "--in", "prod", "--reason", "x"],
        &["env", "root", "propose", "prod"],
        &["export", "prod/web", "-o", "web.tar"],
    ] {
        let refused = at(&team, "-30d", "ann", words).expect(3);
        says(
            &refused,
            &["the clock of this machine says", "set the clock"],
        );
    }
}
