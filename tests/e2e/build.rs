//! Builds that go wrong, through the real binary: what is said, what is left,
//! how it goes on. One small Debian, bootstrapped once, is the ground of all.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tests::bench::{bench, end_process, runs, wait_for};
use tests::binaries::{Ran, imgbuild};
use tests::host::Host;
use tests::terminal::Terminal;

/// Files below a directory that hold the text.
fn holding(dir: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(&dir).unwrap().flatten() {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                pending.push(entry.path());
            } else if kind.is_file() {
                let bytes = fs::read(entry.path()).unwrap();
                if bytes.windows(text.len()).any(|w| w == text.as_bytes()) {
                    found.push(entry.path());
                }
            }
        }
    }
    found
}

#[test]
fn what_is_released_already_is_not_built_on_another_machine() {
    let bench = bench();
    let built = bench.imgbuild(&["base.toml"]).expect(0);
    let (work, keys) = (bench.path("elsewhere"), bench.path("strangers"));
    let program = imgbuild().to_str().unwrap();
    let asked = |more: &[&str]| {
        let mut command = bench.command(program, &["build", "base.toml", "--if-needed"]);
        Ran::of(command.args(more).env("IMGBUILD_WORK", &work))
    };
    let said = asked(&[]).expect(0);
    assert_eq!(said.stdout, built.stdout);
    let line = "base: up to date, nothing to do in ";
    assert!(said.stderr.starts_with(line), "{}", said.stderr);
    assert_eq!(said.stderr.lines().count(), 1, "{}", said.stderr);
    let json = asked(&["--json"]).expect(0).stdout;
    assert!(
        json.contains("\"up_to_date\":true") && json.contains("\"seq\":1,"),
        "{json}"
    );
    assert!(!work.exists(), "something was done");
    // Who has vouched for nothing is not told that somebody else's release will do.
    let refused = asked(&["--keys", keys.to_str().unwrap()]).expect(3);
    assert!(
        refused.stderr.contains("env trust dev"),
        "{}",
        refused.stderr
    );

    // Another recipe, a lock that does not fit, or a newest release of another recipe.
    let recipe = fs::read_to_string(bench.path("base.toml")).unwrap();
    let file = "[[file]]\npath = \"/etc/second\"\ncontent = \"2\\n\"\n";
    fs::write(bench.path("base.toml"), format!("{recipe}{file}")).unwrap();
    let needed = ["base.toml", "--if-needed"];
    let second = bench.imgbuild(&needed).expect(0);
    assert!(
        second.stderr.contains("release dev/base/2"),
        "{}",
        second.stderr
    );
    let refused = asked(&["--store", bench.path("none").to_str().unwrap(), "--frozen"]);
    assert!(refused.expect(3).stderr.contains("lacks"));
    fs::write(bench.path("base.toml"), recipe).unwrap();
    let back = bench.imgbuild(&needed).expect(0);
    assert_eq!(back.stdout, built.stdout);
    assert!(
        back.stderr.contains("release dev/base/3"),
        "{}",
        back.stderr
    );
    // One of two is left to do.
    fs::write(
        bench.path("more.toml"),
        fs::read_to_string(bench.path("base.toml"))
            .unwrap()
            .replace("\"base\"", "\"more\""),
    )
    .unwrap();
    fs::copy(bench.path("base.lock"), bench.path("more.lock")).unwrap();
    let both = bench.imgbuild(&["base.toml", "more.toml", "--if-needed"]);
    let both = both.expect(0);
    assert_eq!(both.stdout, built.stdout.repeat(2));
    assert!(
        both.stderr.contains(line) && both.stderr.contains("more: built in "),
        "{}",
        both.stderr
    );
    // What was revoked will not do: the build says so.
    let revoke = [
        "revoke", "dev/base", "--in", "dev", "--reason", "a hole", "--yes",
    ];
    bench.imgbuild(&revoke).expect(0);
    let refused = bench.imgbuild(&needed).expect(3).stderr;
    assert!(refused.contains("was revoked in dev"), "{refused}");
}

#[test]
fn a_failed_step_is_explained_opened_and_resumed() {
    let bench = bench();
    let before = Host::look();
    let first = "[[run]]\nname = \"first\"\nscript = \"touch /first\"\n";
    let second =
        |script: &str| format!("{first}[[run]]\nname = \"second\"\nscript = '''{script}'''\n");
    bench.write(
        "fails",
        &second(r"touch /half; echo one; printf '\033[31mtwo\033[0m\n' >&2; exit 7"),
    );
    let failed = bench.imgbuild(&["--frozen", "fails.toml"]).expect(1);
    let work = bench.path("work").display().to_string();
    let lines: Vec<&str> = failed.stderr.lines().collect();
    let at = lines.iter().position(|l| l.starts_with("error: ")).unwrap();
    assert_eq!(lines[at], "error: the step `run: second` failed");
    assert_eq!(lines[at + 1], "  its script failed with exit code 7");
    assert_eq!(lines[at + 2..at + 4], ["  | one", "  | two"]);
    let log = lines[at + 4].strip_prefix("  log:  ").unwrap();
    assert!(log.starts_with(&work) && Path::new(log).is_file(), "{log}");
    let tree = lines[at + 5].strip_prefix("  tree: ").unwrap();
    assert!(Path::new(tree).join("half").is_file(), "{tree}");
    assert_eq!(
        lines[at + 6],
        "hint: look inside with `imgbuild shell fails.toml`; the next build resumes at this step"
    );
    assert_eq!(lines.len(), at + 7);
    assert!(
        bench
            .imgbuild(&["log", "fails.toml", "4"])
            .expect(0)
            .stdout
            .contains("one\n")
    );

    // Another recipe's success does not take the failed tree away.
    bench.build_step("other", "touch /other", "").expect(0);
    assert!(Path::new(tree).join("half").is_file(), "{tree}");

    // A shell on a terminal; Ctrl-C there is the shell's business.
    let shell = format!("{} shell fails.toml", imgbuild().display());
    let mut terminal = Terminal::start(&shell, &bench.command("true", &[]));
    terminal.type_keys("ls -d /half /first; touch /mine; echo made$((0+1))\n");
    assert!(terminal.shows("made1"));
    terminal.type_keys("sleep 4320\n");
    wait_for("the shell's child", || runs("sleep 4320"));
    terminal.type_keys("\x03");
    wait_for("its end", || !runs("sleep 4320"));
    terminal.type_keys("echo back$((1+1))\n");
    assert!(terminal.shows("back2"));
    terminal.type_keys("exit\n");
    let (_, said) = terminal.end();
    assert!(
        said.contains("as left by the failed step `run: second`"),
        "{said}"
    );
    assert!(
        ["/first  /half", "/first\t/half"]
            .iter()
            .any(|l| said.contains(l)),
        "{said}"
    );
    assert!(said.contains("back2"), "{said}");

    bench.write(
        "fails",
        &second("test ! -e /half; test ! -e /mine; test -e /first"),
    );
    let resumed = bench.imgbuild(&["--frozen", "fails.toml"]).expect(0);
    assert!(
        resumed.stderr.contains("1 step, 1 from the cache"),
        "{}",
        resumed.stderr
    );
    Host::look().assert_clean_since(&before);
}

#[test]
fn hanging_printing_and_forking_steps_come_to_an_end() {
    let bench = bench();
    let before = Host::look();
    for (name, script) in [("hangs", "echo begun; sleep 4321"), ("prints", "yes begun")] {
        let ran = bench
            .build_step(name, script, "timeout = \"2s\"\n")
            .expect(1);
        assert!(
            ran.stderr
                .contains("its script was ended after its time limit of 2 s\n  | begun"),
            "{}",
            ran.stderr
        );
    }
    // A daemon outlives neither the step nor, once stopped, its own process.
    let daemon = "(setsid sh -c 'sleep 4321' </dev/null >/dev/null 2>&1 &)\n\
                  (sleep 1 & echo $! > /tmp/pid); i=0\n\
                  while kill -0 \"$(cat /tmp/pid)\"; do\n\
                  i=$((i+1)); if [ $i = 1000 ]; then echo zombie; exit 1; fi; sleep 0.1; done\n";
    bench.build_step("forks", daemon, "").expect(0);
    let much = "seq 1 3000000; i=0; while [ $i -lt 50 ]; do head -c 1000000 /dev/zero; i=$((i+1)); done; \
                seq 1 5000000; echo last words; exit 3";
    let ran = bench.build_step("much", much, "").expect(1);
    assert!(ran.stderr.contains("  | last words\n"), "{}", ran.stderr);
    let log = ran
        .stderr
        .lines()
        .find_map(|l| l.strip_prefix("  log:  "))
        .unwrap();
    assert!(fs::metadata(log).unwrap().len() < 70_000_000);
    assert!(fs::read(log).unwrap().ends_with(b"\nlast words\n"));
    assert!(!runs("sleep 4321"));
    Host::look().assert_clean_since(&before);
}

/// Each line must fail: root in the tree is not root of the machine.
#[test]
fn a_step_cannot_reach_out_of_its_tree() {
    let bench = bench();
    let before = Host::look();
    let attempts = "
        refused() { if sh -c \"$1\" 2>/dev/null; then echo \"possible: $1\" >&2; exit 1; fi; }
        refused 'mount -t tmpfs t /mnt'
        refused 'mount -o remount,rw /sys'
        refused 'mount -o remount,rw,bind /run/imgbuild/step'
        refused 'touch /run/imgbuild/step/x'
        refused 'mknod /tmp/disk b 254 0'
        refused 'chroot /tmp true'
        refused 'unshare -m true'
        refused 'unshare -Ur true'
        refused 'ls /proc/1/root/'
        refused 'test -w /proc/sys/kernel/core_pattern && echo core > /proc/sys/kernel/core_pattern'
        refused 'for p in /proc/[0-9]*; do ls $p/root/etc/schroot/schroot.conf; done | grep .'
        refused 'dmesg'
        # No SYS_TIME (25), SYS_MODULE (16), SYS_RAWIO (17), SYS_ADMIN (21), SYS_PTRACE (19).
        has=$((0x$(sed -n 's/^CapEff:\\t//p' /proc/self/status)))
        for bit in 16 17 19 21 25; do
            if [ $((has >> bit & 1)) = 1 ]; then echo \"capability $bit\" >&2; exit 1; fi
        done
        # And what packages need does work.
        touch /tmp/y; chown 33:33 /tmp/y; chmod 4755 /tmp/y
        test \"$(runuser -u www-data -- id -un)\" = www-data
    ";
    bench.build_step("fenced", attempts, "").expect(0);
    Host::look().assert_clean_since(&before);
}

#[test]
fn an_interrupt_ends_a_build_at_once_with_one_message() {
    let bench = bench();
    let before = Host::look();
    bench.write("waits", "[[run]]\nscript = \"sleep 4322\"\n");
    for signal in ["-INT", "-TERM", "-HUP"] {
        let running = bench.start("waits.toml", "sleep 4322");
        running.signal(signal);
        let (code, said) = running.end();
        assert_eq!(
            (code, said.as_str()),
            (130, "error: interrupted\n"),
            "{signal}"
        );
        // The kernel takes the namespaces down after the process is gone.
        wait_for("its end", || !runs("sleep 4322"));
        Host::look().assert_clean_since(&before);
    }
}

#[test]
fn kill_9_leaves_the_machine_clean_and_the_next_build_works() {
    let bench = bench();
    let before = Host::look();
    bench.write("dies", "[[run]]\nscript = \"sleep 4.323\"\n");
    let running = bench.start("dies.toml", "sleep 4.323");
    running.signal("-KILL");
    assert_eq!(running.end().0, -1);
    // The kernel takes the namespaces down after the process is gone.
    wait_for("its end", || !runs("sleep 4.323"));
    Host::look().assert_clean_since(&before);
    bench.imgbuild(&["--frozen", "dies.toml"]).expect(0);
    Host::look().assert_clean_since(&before);
}

#[test]
fn builds_side_by_side_are_busy_or_wait() {
    let bench = bench();
    let step = "[[run]]\nscript = \"sleep 4324 || true\"\n";
    bench.write("slow", step);
    let running = bench.start("slow.toml", "sleep 4324");
    let second = bench.imgbuild(&["--frozen", "slow.toml"]).expect(75);
    assert_eq!(
        second.stderr,
        "error: another build of slow is running\n\
         hint: wait for it to end, or give this one its own --work DIR\n"
    );
    // The same step in another recipe: waits, and takes the result.
    bench.write("slow-too", step);
    let too = bench.start_until(
        &["-v", "--frozen", "slow-too.toml"],
        "another build is making the same step: waiting for it",
    );
    end_process(&["sleep", "4324"]);
    assert_eq!(running.end().0, 0);
    assert_eq!(too.end().0, 0);
}

#[test]
fn one_tree_under_two_names_is_two_releases() {
    let bench = bench();
    let digest = |ran: &Ran| ran.stdout.trim().to_owned();
    let one = bench.build_step("one", "touch /same", "").expect(0);
    let two = bench.build_step("two", "touch /same", "").expect(0);
    assert_eq!(digest(&one), digest(&two));
    assert!(two.stderr.contains("release dev/two/1"), "{}", two.stderr);
    let again = bench.imgbuild(&["--frozen", "two.toml"]).expect(0);
    assert!(again.stderr.contains("two: up to date"), "{}", again.stderr);
    let plan = bench.imgbuild(&["plan", "two.toml"]).expect(0).stdout;
    let first = "two: nothing to do: release dev/two/";
    assert!(plan.starts_with(first), "{plan}");
    // A change that leaves the tree alone is released as well.
    let start = "[service]\nstart = [\"/bin/sleep\", \"9\"]\n";
    let changed = bench.build_step("two", "touch /same", start).expect(0);
    assert!(
        changed.stderr.contains("release dev/two/2"),
        "{}",
        changed.stderr
    );
}

#[test]
fn locked_frozen_and_offline_refuse_what_they_must() {
    let bench = bench();
    bench.write("strict", "[[packages]]\ninstall = [\"less\"]\n");
    for flag in ["--locked", "--frozen"] {
        let ran = bench.imgbuild(&[flag, "strict.toml"]).expect(3);
        assert_eq!(
            ran.stderr,
            "error: strict.lock does not fit the recipe any more\n  changed since: packages\n\
             hint: run `imgbuild lock`, look at the difference, and commit it\n"
        );
    }
    let ran = bench.imgbuild(&["--offline", "strict.toml"]).expect(1);
    assert_eq!(
        ran.stderr,
        "error: resolving needs the network, which --offline forbids\n  to resolve: packages\n"
    );
    fs::remove_file(bench.path("strict.lock")).unwrap();
    let ran = bench.imgbuild(&["--locked", "strict.toml"]).expect(3);
    assert!(
        ran.stderr.starts_with("error: there is no strict.lock\n"),
        "{}",
        ran.stderr
    );
    // A digest that the store does not have, and nobody else either.
    bench.write("altered", "");
    let lock = fs::read_to_string(bench.path("altered.lock")).unwrap();
    let at = lock.find("name = \"bash\"").unwrap();
    let digit = at + lock[at..].find("sha256:").unwrap() + 7;
    let altered = format!(
        "{}{}{}",
        &lock[..digit],
        "0".repeat(64),
        &lock[digit + 64..]
    );
    fs::write(bench.path("altered.lock"), altered).unwrap();
    let ran = bench.imgbuild(&["--frozen", "altered.toml"]).expect(3);
    assert!(
        ran.stderr.starts_with("error: the store lacks 1 locked inputs, and --frozen forbids fetching\n  for example bash "),
        "{}",
        ran.stderr
    );
    let ran = bench.imgbuild(&["altered.toml"]).expect(3);
    assert!(
        ran.stderr
            .contains("error: the archive `debian` delivers other bytes for bash "),
        "{}",
        ran.stderr
    );
}

#[test]
fn secrets_of_the_machine_stay_on_it() {
    const SECRET: &str = "geheim-4711";
    let bench = bench();
    let program = imgbuild().to_str().unwrap();
    bench.write("secret", "[[run]]\nscript = \"env; cat /proc/self/environ /proc/1/cmdline /proc/1/environ || true\"\n");
    let address = format!("http://user:{SECRET}@127.0.0.1:1/x");
    let with_secrets = |arguments: &[&str]| {
        let mut command = bench.command(program, arguments);
        for name in [
            "PIP_INDEX_URL",
            "http_proxy",
            "HTTPS_PROXY",
            "IMGBUILD_ARCHIVE_OURS",
        ] {
            command.env(name, &address);
        }
        Ran::of(&mut command)
    };
    let built = with_secrets(&["-v", "--frozen", "secret.toml"]).expect(0);
    bench.write("unlocked", "");
    fs::remove_file(bench.path("unlocked.lock")).unwrap();
    let archive = format!("debian=http://user:{SECRET}@127.0.0.1:1/debian");
    let unreachable = with_secrets(&["-v", "--archive", &archive, "unlocked.toml"]).expect(1);
    for ran in [built, unreachable] {
        let said = ran.stdout + &ran.stderr;
        assert!(!said.contains(SECRET), "{said}");
    }
    assert_eq!(holding(bench.dir(), SECRET), Vec::<PathBuf>::new());
    // A step that knows it anyhow does not get it into an image.
    bench
        .build_step("leaks", &format!("echo {SECRET} > /etc/leak"), "")
        .expect(0);
    let script = format!("echo {SECRET} > /etc/leak; true");
    bench.write(
        "leaks",
        &format!("[[run]]\nname = \"it\"\nscript = '''{script}'''\n"),
    );
    let refused = with_secrets(&["--frozen", "leaks.toml"]).expect(3);
    assert!(
        refused
            .stderr
            .contains("error: the image would carry facts of this machine\n  /etc/leak has "),
        "{}",
        refused.stderr
    );
}

#[test]
fn a_full_disk_is_named_and_ends_the_build() {
    let bench = bench();
    let program = imgbuild().to_str().unwrap();
    bench.write("full", "[[run]]\nscript = \"touch /full\"\n");
    let small = bench.path("small");
    fs::create_dir(&small).unwrap();
    // The inputs fit, the packed image does not.
    let script = format!(
        "mount -t tmpfs -o size=60m small {0} && exec timeout 100 {program} --store {0}/store full.toml",
        small.display()
    );
    let ran = Ran::of(&mut bench.command("unshare", &["--mount", "sh", "-c", &script])).expect(1);
    assert!(
        ran.stderr.contains("No space left on device"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_source_directory_is_copied_as_it_is() {
    let bench = bench();
    let mode = |name: &str, mode| {
        fs::set_permissions(bench.path(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    for dir in ["app", "app/.git", "app/it.egg-info"] {
        fs::create_dir(bench.path(dir)).unwrap();
        mode(dir, 0o755);
    }
    for (name, bits) in [
        ("app/plain", 0o644),
        ("app/secret", 0o400),
        ("app/tool", 0o4755),
        ("app/it.pyc", 0o644),
        ("app/.it.swp", 0o600),
        ("app/.git/config", 0o644),
    ] {
        fs::write(bench.path(name), name).unwrap();
        mode(name, bits);
    }
    fs::hard_link(bench.path("app/plain"), bench.path("app/same")).unwrap();
    let value = "0sAQAAAgAgAAAAAAAAAAAAAAAAAAA=";
    let words = ["-n", "security.capability", "-v", value];
    let mut set = bench.command("setfattr", &words);
    Ran::of(set.arg(bench.path("app/tool"))).expect(0);
    let rest = "600 1 www-data .it.swp\n755 2 www-data it.egg-info\n644 1 www-data it.pyc\n\
                644 2 www-data plain\n644 2 www-data same\n400 1 www-data secret\n\
                4755 1 www-data tool";
    let build = |exclude: &str, expected: &str, said: &str| {
        let recipe = format!(
            "[[file]]\npath = \"/srv/app\"\nsource = \"app\"\nowner = \"www-data\"\n{exclude}\
             [[test]]\nname = \"it\"\nenvironment = {{ EXPECTED = '''{expected}''' }}\n\
             script = '''cd /srv/app\nfound=$(stat -c '%a %h %U %n' -- .[!.]* *)\n\
             [ \"$found\" = \"$EXPECTED\" ] || {{ echo \"$found\"; exit 1; }}'''\n"
        );
        bench.write("copied", &recipe);
        let built = bench.imgbuild(&["--offline", "copied.toml"]).expect(0);
        assert!(built.stderr.contains(said), "{}", built.stderr);
    };
    let all = format!("755 2 www-data .git\n{rest}");
    build("", &all, "app has .git, which differs from checkout");
    build("exclude = [\".git\"]\n", rest, "left out of app: .git\n");
    build(
        "exclude = [\".git\", \"none\"]\n",
        rest,
        "app: the extended attribute security.capability of tool is not copied; set",
    );
}
