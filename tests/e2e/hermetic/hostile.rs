//! Steps that misbehave: the machine stays clean, the error says what happened,
//! the next build works.

use std::fs;
use std::time::Duration;

use tests::bench::{bench, runs};
use tests::binaries::{Ran, imgbuild, is_soak};
use tests::host::Host;

#[test]
fn daemons_that_hold_files_and_refused_mounts_leave_nothing() {
    let bench = bench();
    let before = Host::look();
    let script = "
        for what in '-t tmpfs t' '--bind /srv' '-t proc p' '-t overlay -o lowerdir=/srv:/opt o'; do
            if mount $what /mnt 2>/dev/null; then echo \"mounted: $what\"; exit 1; fi
        done
        # Forked twice, in sessions of their own, deaf to signals, with files
        # open, deleted, locked, and as working directory.
        mkdir /srv/held
        for i in 1 2 3; do
            (cd /srv/held; setsid sh -c '
                trap \"\" TERM HUP INT
                exec 8> held.$0; rm held.$0; exec 9> /srv/locked; flock -n 9
                sleep 4400.$0 & sleep 4400.$0' $i < /dev/null > /dev/null 2>&1 &)
        done
        while [ \"$(pgrep -fc '^sleep 4400' || true)\" != 6 ]; do sleep 0.05; done
        touch /done";
    // pgrep is not in every tree.
    let script = script.replace(
        "\"$(pgrep -fc '^sleep 4400' || true)\"",
        "\"$(cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' | grep -c '^4400')\"",
    );
    bench
        .build_step("holds", &script, "timeout = \"60s\"\n")
        .expect(0);
    assert!(!runs("sleep 4400"));
    Host::look().assert_clean_since(&before);
}

#[test]
fn a_step_that_fills_the_disk_is_named_and_the_next_build_goes_on() {
    let bench = bench();
    let program = imgbuild().to_str().unwrap();
    bench.write(
        "fills",
        "[[run]]\nname = \"it\"\nscript = \"dd if=/dev/zero of=/big bs=1M count=64 status=none || exit 9\"\n",
    );
    // The step's layer on a file system of its own, and a small one.
    let plan = bench
        .imgbuild(&["plan", "fills.toml", "--json"])
        .expect(0)
        .stdout;
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    let steps = plan["steps"].as_array().unwrap();
    let step = steps.iter().find(|s| s["name"] == "run: it").unwrap();
    let layer = bench
        .path("work/layers")
        .join(step["key"].as_str().unwrap());
    fs::create_dir_all(&layer).unwrap();
    let script = format!(
        "mount -t tmpfs -o size=16m small {} && exec {program} --frozen fills.toml",
        layer.display()
    );
    let ran = Ran::of(&mut bench.command("unshare", &["--mount", "sh", "-c", &script])).expect(1);
    let said = &ran.stderr;
    assert!(
        said.contains("error: the step `run: it` failed\n  its script failed with exit code 9\n"),
        "{said}"
    );
    assert!(said.contains("No space left on device"), "{said}");
    assert!(
        said.contains(&format!("  no space is left in {}\n", layer.display())),
        "{said}"
    );
    assert!(
        said.contains("\nhint: make room there, or choose another place with --work DIR; "),
        "{said}"
    );
    // With room again.
    bench.imgbuild(&["--frozen", "fills.toml"]).expect(0);
    bench.assert_store_is_whole();
}

#[test]
fn a_flood_of_output_costs_neither_memory_nor_disk() {
    let bench = bench();
    // More than may be in memory, and than is kept.
    let each = if is_soak() { 500_000_000 } else { 100_000_000 };
    // Short lines, then lines without an end.
    let script = format!(
        "yes 'a line like many others, of sixty-three characters and an end' | head -c {each}
         head -c {each} /dev/zero | tr '\\0' x; echo; echo last words; exit 3"
    );
    bench.write(
        "floods",
        &format!("[[run]]\nname = \"it\"\nscript = '''{script}'''\n"),
    );
    let running = bench.start_until(&["--frozen", "floods.toml"], "run ...\n");
    let mut peak = 0;
    // A process that has ended has no memory and no such line.
    while let Some(now) = running.peak_memory() {
        peak = peak.max(now);
        std::thread::sleep(Duration::from_millis(100));
    }
    let (code, said) = running.end();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("  | last words\n"), "{said}");
    let log = said
        .lines()
        .find_map(|l| l.strip_prefix("  log:  "))
        .unwrap();
    assert!(fs::metadata(log).unwrap().len() < 70_000_000);
    assert!(peak > 0 && peak < 64 << 20, "{peak} bytes");
    println!("peak {} kB", peak >> 10);
}
