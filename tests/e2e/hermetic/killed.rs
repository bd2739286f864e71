//! kill -9 of imgbuild in the middle of each long phase, and Ctrl-C twice: the
//! machine is clean, the store whole, and the next build has the same digest.

use std::fs;
use std::path::Path;

use tests::bench::{bench, runs, wait_for};
use tests::host::Host;

/// The kernel takes the namespaces down after the process is gone.
fn settle(words: &str) {
    wait_for("its processes are gone", || !runs(words));
}

#[test]
fn killed_while_bootstrapping_or_packing_the_next_build_is_the_same() {
    let bench = bench();
    let before = Host::look();
    let wanted = bench.imgbuild(&["--frozen", "base.toml"]).expect(0).stdout;
    let work = bench.path("killed-work").display().to_string();
    let store = bench.copy_of_inputs("killed-store").display().to_string();
    let arguments = ["--frozen", "base.toml", "--work", &work, "--store", &store];
    let tmp = Path::new(&store).join("tmp");
    let unpacks = || runs("unpack-packages files");
    let writes = || fs::read_dir(&tmp).is_ok_and(|mut found| found.next().is_some());
    for (phase, inside) in [
        ("bootstrap ...\n", &unpacks as &dyn Fn() -> bool),
        ("pack ...\n", &writes),
    ] {
        let mut running = bench.start_until(&arguments, phase);
        running.wait_until(phase, inside);
        running.signal("-KILL");
        assert_eq!(running.end().0, -1, "it was still in {phase}");
        settle(&work);
        Host::look().assert_clean_since(&before);
    }
    let built = bench.imgbuild(&arguments).expect(0);
    assert_eq!(built.stdout, wanted);
    assert!(!built.stderr.contains("bootstrap ..."), "{}", built.stderr);
    tests::bench::assert_whole(store.as_ref());
}

/// A `virtualenv` that is slow stands for pip: what matters is the user, the
/// files it was handed and the processes.
#[test]
fn killed_while_making_a_virtualenv_the_next_build_is_the_same() {
    let bench = bench();
    let before = Host::look();
    let recipe = |seconds: &str| {
        format!(
            "[[user]]\nname = \"web\"\nuid = 1000\n\
             [[file]]\npath = \"/usr/local/bin/python3.99\"\nmode = \"0755\"\n\
             content = \"#!/bin/sh\\n\"\n\
             [[file]]\npath = \"/usr/local/bin/virtualenv\"\nmode = \"0755\"\ncontent = '''#!/bin/sh -eu\n\
             for last; do :; done\n(setsid sleep {seconds} &); sleep {seconds}\n\
             mkdir -p \"$last/bin\" \"$last/lib\"; ln -s /usr/local/bin/python3.99 \"$last/bin/python\"; id -un > \"$last/who\"\n'''\n\
             [[virtualenv]]\npath = \"/home/web/venv\"\nowner = \"web\"\npython = \"python3.99\"\n"
        )
    };
    bench.write("slow-venv", &recipe("3.991"));
    let mut running = bench.start_until(&["slow-venv.toml"], "virtualenvs ...\n");
    running.wait_until("the virtualenv", || runs("sleep 3.991"));
    running.signal("-KILL");
    assert_eq!(running.end().0, -1);
    settle("sleep 3.991");
    Host::look().assert_clean_since(&before);
    let built = bench.imgbuild(&["--frozen", "slow-venv.toml"]).expect(0);
    // From the bootstrap, in one go.
    let other = bench.copy_of_work("venv-work").display().to_string();
    let again = bench
        .imgbuild(&["--frozen", "slow-venv.toml", "--work", &other])
        .expect(0);
    assert_eq!(built.stdout, again.stdout);
    bench.assert_store_is_whole();
    Host::look().assert_clean_since(&before);
}

#[test]
fn a_second_interrupt_ends_at_once_with_one_message() {
    let bench = bench();
    let before = Host::look();
    bench.write("waits-again", "[[run]]\nscript = \"sleep 4325\"\n");
    let running = bench.start("waits-again.toml", "sleep 4325");
    running.signal("-INT");
    running.signal("-INT");
    let (code, said) = running.end();
    assert_eq!((code, said.as_str()), (130, "error: interrupted\n"));
    settle("sleep 4325");
    Host::look().assert_clean_since(&before);
}
