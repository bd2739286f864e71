//! The same application on logical volumes, in a machine that has them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use tests::binaries::{Ran, imgnode, repository};
use tests::vm::{Disks, HOST, Machine};

use servers::nginx::Nginx;

/// An emulated machine is slow, and more so beside others.
const PATIENCE: Duration = Duration::from_secs(2400);

#[test]
fn fanery_on_volumes() {
    let bench = super::bench();
    bench.serve("first");
    let server = Nginx::serve(&bench.dir, "");
    let job = bench.path("job");
    fs::create_dir(&job).expect("it is new");
    let write = |name: &str, text: &str| fs::write(job.join(name), text).expect("it is ours");
    let url = format!("http://{HOST}:{}/served", server.port());
    write("settings", &format!("repository={url}\n"));
    write("run", include_str!("volumes.sh"));
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(job.join("run"), executable).expect("it is ours");
    fs::copy(imgnode(), job.join("imgnode")).expect("it can be copied");
    fs::copy(
        bench.path("first/env/dev/metadata/1.root.json"),
        job.join("root.json"),
    )
    .expect("it can be copied");
    let tarball = job.join("fanery-node.tar.zst").display().to_string();
    let export: Ran = bench.build_from("first", &["export", "fanery-node", "-o", &tarball]);
    export.expect(0);

    let units = job.join("systemd");
    fs::create_dir(&units).expect("it is new");
    for unit in fs::read_dir(repository().join("verify/systemd")).expect("the units") {
        let unit = unit.expect("it can be read");
        fs::copy(unit.path(), units.join(unit.file_name())).expect("it can be copied");
    }

    let machine = Machine::new("fanery", Disks::Fast);
    let mut boot = machine.boot(&job);
    boot.wait_for("wanted: the second release", PATIENCE);
    bench.serve("store");
    println!("{}", boot.end(PATIENCE));
    println!("{}", machine.boot(&job).end(PATIENCE));
    fs::remove_dir_all(job).expect("it is ours");
}
