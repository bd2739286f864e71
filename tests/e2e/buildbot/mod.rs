//! The farm of builders of docs/buildbot.md: a real master, two real workers.

mod soak {
    use std::fs;
    use std::net::TcpListener;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use tests::bench::{Bench, bench, wait_for};
    use tests::binaries::{Ran, imgbuild, repository};
    use tests::pip;

    use crate::daemon::Daemon;
    use crate::lab::Lab;

    const REQUIREMENTS: &str = include_str!("requirements.txt");

    /// How many builds and steps are over, and how many of those were not good.
    const STATE: &str = "
import sqlite3, sys
base = sqlite3.connect(sys.argv[1])
for table, name in ('builds', ''), ('steps', \" and name like 'imgbuild %'\"):
    for bad in '', ' and results <> 0':
        print(*base.execute('select count(*) from %s where complete_at is not null%s%s' % (table, name, bad)).fetchone())
";

    struct Farm {
        bench: Bench,
        programs: PathBuf,
        port: u16,
    }

    impl Farm {
        fn program(&self, name: &str) -> Command {
            let mut command = Command::new(self.programs.join(name));
            let path = std::env::var("PATH").unwrap();
            let own = imgbuild().parent().unwrap().display().to_string();
            command
                .current_dir(self.bench.dir())
                .env("HOME", self.bench.path("home"))
                .env("PATH", format!("{own}:{path}"))
                .env("IMGBUILD_STORE", self.bench.path("store"))
                .env("BUILDBOT_PASSWORD", "secret")
                .env(
                    "BUILDBOT_PORT",
                    format!("tcp:{}:interface=127.0.0.1", self.port),
                );
            command
        }

        fn start(&self, command: &mut Command, name: &str) -> Daemon {
            Daemon::start(command, &self.bench.path(&format!("{name}.log")))
        }

        /// A worker with keys and a work directory of its own.
        fn worker(&self, name: &str, work: &Path, keys: &Path) -> Daemon {
            let master = format!("127.0.0.1:{}", self.port);
            let directory = format!("worker-{name}");
            let create = ["create-worker", &directory, &master, name, "secret"];
            Ran::of(self.program("buildbot-worker").args(create)).expect(0);
            let mut start = self.program("buildbot-worker");
            start.args(["start", "--nodaemon", &directory]);
            start.env("IMGBUILD_WORK", work).env("IMGBUILD_KEYS", keys);
            self.start(&mut start, name)
        }

        /// Builds, bad builds, steps of imgbuild and bad ones that are over.
        fn over(&self) -> [usize; 4] {
            let mut ask = self.program("python");
            let said = Ran::of(ask.args(["-c", STATE, "master/state.sqlite"])).expect(0);
            let numbers = said
                .stdout
                .split_whitespace()
                .map(|word| word.parse().unwrap());
            numbers.collect::<Vec<usize>>().try_into().unwrap()
        }

        fn changed(&self) -> bool {
            let mut send = self.program("buildbot");
            let master = format!("127.0.0.1:{}", self.port);
            send.args(["sendchange", "--master", &master, "--auth", "hook:secret"]);
            send.args([
                "--who",
                "ann",
                "--branch",
                "main",
                "--repository",
                "here",
                "web.toml",
            ]);
            Ran::of(&mut send).code == 0
        }

        fn logs(&self) -> String {
            let logs = ["master", "ann", "lab"].map(|name| {
                let text = fs::read_to_string(self.bench.path(&format!("{name}.log")));
                format!("{name}:\n{}", text.unwrap_or_default())
            });
            logs.concat()
        }
    }

    /// The one configuration on the page, for this repository.
    fn configuration(repository_of_recipes: &Path) -> String {
        let page = fs::read_to_string(repository().join("docs/buildbot.md")).unwrap();
        let (_, code) = page.split_once("```python\n").unwrap();
        let (code, _) = code.split_once("```").unwrap();
        let of_page = "https://git.example/images.git";
        assert!(code.contains(of_page));
        code.replace(of_page, repository_of_recipes.to_str().unwrap())
    }

    #[test]
    fn one_worker_builds_and_another_one_attests_the_same_bytes() {
        let bench = bench();
        bench.write(
            "web",
            "[[run]]\nname = \"it\"\nscript = \"echo hello >/etc/hello\"\n",
        );
        let recipes = bench.path("recipes");
        fs::create_dir(&recipes).unwrap();
        for file in ["base.toml", "base.lock", "web.toml", "web.lock"] {
            fs::copy(bench.path(file), recipes.join(file)).unwrap();
        }
        let git = |words: &[&str]| {
            let who = ["-c", "user.name=a", "-c", "user.email=a@example.org"];
            let mut git = bench.command("git", &who);
            Ran::of(git.arg("-C").arg(&recipes).args(words)).expect(0);
        };
        git(&["init", "--quiet", "--initial-branch=main"]);
        git(&["add", "."]);
        git(&["commit", "--quiet", "--message", "x"]);
        // What ann releases in is known at the lab.
        bench.imgbuild(&["base.toml"]).expect(0);
        let lab = Lab::of(&bench);

        let programs = pip::environment(bench.dir(), "programs", REQUIREMENTS).join("bin");
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let farm = Farm {
            bench,
            programs,
            port,
        };
        Ran::of(farm.program("buildbot").args(["create-master", "master"])).expect(0);
        fs::write(
            farm.bench.path("master/master.cfg"),
            configuration(&recipes),
        )
        .unwrap();
        let check = ["checkconfig", "master/master.cfg"];
        Ran::of(farm.program("buildbot").args(check)).expect(0);
        let mut master = farm.program("buildbot");
        let _master = farm.start(master.args(["start", "--nodaemon", "master"]), "master");
        let _ann = farm.worker("ann", &farm.bench.path("work"), &farm.bench.path("keys"));
        let _lab = farm.worker("lab", &farm.bench.path("work-lab"), &lab.keys);
        wait_for("the master takes a change", || farm.changed());
        // The build, and the rebuild of both.
        wait_for("both workers are done", || {
            let [builds, bad, ..] = farm.over();
            assert_eq!(bad, 0, "{}", farm.logs());
            builds == 2
        });
        assert_eq!(farm.over(), [2, 0, 3, 0], "{}", farm.logs());
        lab.assert_attested(&farm.bench, &["base", "web"]);
        // Nothing has changed: nothing is built and released.
        let log = || farm.bench.imgbuild(&["env", "log", "dev"]).expect(0).stdout;
        let before = log();
        assert!(farm.changed());
        wait_for("it was asked again", || {
            let [builds, bad, ..] = farm.over();
            assert_eq!(bad, 0, "{}", farm.logs());
            builds >= 3
        });
        assert_eq!(log(), before);
    }
}
