//! Database clusters that packages make while they are installed. Their identifiers, keys
//! and logs are random, so no two builds have the same: they are removed at once, and whoever
//! runs the service makes one of his own. A later step of the recipe may make one as well.

use super::{Phase, Step};
use crate::lockfile::Lock;

/// A package, and what its installation makes at random.
const CLUSTERS: [(&str, &str); 5] = [
    (
        "postgresql-common",
        "/var/lib/postgresql/*/main /etc/postgresql/*/main",
    ),
    ("mariadb-server", "/var/lib/mysql/*"),
    ("mariadb-server-10.5", "/var/lib/mysql/*"),
    ("mysql-server-8.0", "/var/lib/mysql/*"),
    ("mysql-server-8.4", "/var/lib/mysql/*"),
];

/// Removes the clusters of all packages that the lock has.
pub(super) fn step(lock: &Lock) -> Option<Step> {
    let is_there = |package: &str| lock.debs.iter().any(|deb| deb.name == package);
    let made = CLUSTERS.iter().filter(|(package, _)| is_there(package));
    let paths: Vec<&str> = made.map(|(_, paths)| *paths).collect();
    if paths.is_empty() {
        return None;
    }
    let mut step = Step::new(Phase::Configure, "database clusters", lock.epoch);
    step.script = format!("rm -rf -- {}\n", paths.join(" "));
    Some(step)
}
