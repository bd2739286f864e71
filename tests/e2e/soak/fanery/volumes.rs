//! The same application on logical volumes, in a machine that has them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use tests::binaries::{Ran, imgnode, repository};
use tests::vm::Machine;

/// For what takes minutes, on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(2400);

#[test]
fn fanery_on_volumes() {
    let bench = super::bench();
    bench.serve("first");
    let write = |name: &str, text: &str| fs::write(bench.path(name), text).expect("it is ours");
    write("run", include_str!("volumes.sh"));
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(bench.path("run"), executable).expect("it is ours");
    fs::copy(imgnode(), bench.path("imgnode")).expect("it can be copied");
    fs::copy(
        bench.path("first/env/dev/metadata/1.root.json"),
        bench.path("root.json"),
    )
    .expect("it can be copied");
    let tarball = bench.path("fanery-node.tar.zst").display().to_string();
    let export: Ran = bench.build_from("first", &["export", "fanery-node", "-o", &tarball]);
    export.expect(0);

    let units = bench.path("systemd");
    fs::create_dir(&units).expect("it is new");
    for unit in fs::read_dir(repository().join("verify/systemd")).expect("the units") {
        let unit = unit.expect("it can be read");
        fs::copy(unit.path(), units.join(unit.file_name())).expect("it can be copied");
    }

    let machine = Machine::new("fanery");
    let mut boot = machine.boot(&bench.dir);
    boot.wait_for("wanted: the second release", PATIENCE);
    bench.serve("store");
    println!("{}", boot.end(PATIENCE));
    println!("{}", machine.boot(&bench.dir).end(PATIENCE));
}
