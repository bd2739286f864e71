//! The scripts of docs/builders.md on a real Slurm: one machine that is builder and lab.

mod soak {
    use std::fs;
    use std::net::TcpListener;
    use std::path::Path;
    use std::process::Command;

    use tests::bench::{Bench, bench, wait_for};
    use tests::binaries::{Ran, imgbuild, repository};

    use crate::daemon::Daemon;
    use crate::lab::Lab;

    const CONFIGURATION: &str = "ClusterName=farm
SlurmctldHost=HOST(127.0.0.1)
SlurmctldPort=PORT_1
SlurmdPort=PORT_2
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=DIR/munge.socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobacctGatherType=jobacct_gather/none
StateSaveLocation=DIR/state
SlurmdSpoolDir=DIR/spool
SlurmctldPidFile=DIR/slurmctld.pid
SlurmdPidFile=DIR/slurmd.pid
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
NodeName=HOST NodeAddr=127.0.0.1 CPUs=2 Feature=lab State=UNKNOWN
PartitionName=build Nodes=ALL Default=YES State=UP
";

    /// A controller and a node, with the sockets and files of both in a directory of the bench.
    struct Slurm<'a> {
        bench: &'a Bench,
        _daemons: [Daemon; 3],
    }

    impl<'a> Slurm<'a> {
        fn start(bench: &'a Bench) -> Self {
            let dir = bench.path("slurm");
            for part in ["state", "spool"] {
                fs::create_dir_all(dir.join(part)).unwrap();
            }
            let free = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
            let ports = free.each_ref().map(|one| one.local_addr().unwrap().port());
            drop(free);
            let name = rustix::system::uname();
            let name = name.nodename().to_str().unwrap();
            let host = name.split('.').next().unwrap();
            let configuration = CONFIGURATION
                .replace("HOST", host)
                .replace("DIR", dir.to_str().unwrap())
                .replace("PORT_1", &ports[0].to_string())
                .replace("PORT_2", &ports[1].to_string());
            fs::write(dir.join("slurm.conf"), configuration).unwrap();
            fs::write(dir.join("munge.key"), [7; 32]).unwrap();
            let file =
                |option: &str, name: &str| format!("--{option}={}", dir.join(name).display());
            let munge = [
                "--foreground".to_owned(),
                "--force".to_owned(),
                file("key-file", "munge.key"),
                file("socket", "munge.socket"),
                file("pid-file", "munge.pid"),
                file("log-file", "munge.log"),
                file("seed-file", "munge.seed"),
            ];
            let munged = Daemon::start(Command::new("munged").args(munge), &dir.join("munged"));
            wait_for("munged", || dir.join("munge.socket").exists());
            let begin = |program: &str| {
                let mut command = bench.command(program, &["-D"]);
                command.env("SLURM_CONF", dir.join("slurm.conf"));
                Daemon::start(&mut command, &dir.join(format!("{program}.log")))
            };
            let daemons = [munged, begin("slurmctld"), begin("slurmd")];
            let slurm = Self {
                bench,
                _daemons: daemons,
            };
            wait_for("the node", || {
                Ran::of(&mut slurm.command("sinfo", &["--noheader", "--format=%t"])).stdout
                    == "idle\n"
            });
            slurm
        }

        fn command(&self, program: &str, words: &[&str]) -> Command {
            let own = imgbuild().parent().unwrap().display().to_string();
            let path = std::env::var("PATH").unwrap();
            let mut command = self.bench.command(program, words);
            command
                .env("SLURM_CONF", self.bench.path("slurm/slurm.conf"))
                .env("PATH", format!("{own}:{path}"));
            command
        }

        /// The states of all jobs, a word each.
        fn states(&self) -> Vec<String> {
            let words = ["--noheader", "--array", "--states=all", "--format=%T"];
            let said = Ran::of(&mut self.command("squeue", &words)).expect(0);
            said.stdout.lines().map(str::to_owned).collect()
        }
    }

    /// The blocks of the page's section on Slurm.
    fn blocks() -> [String; 3] {
        let page = fs::read_to_string(repository().join("docs/builders.md")).unwrap();
        let (_, section) = page.split_once("\n## Slurm\n").unwrap();
        let (section, _) = section.split_once("\n## ").unwrap();
        let blocks = section.split("```sh\n").skip(1);
        let blocks = blocks.map(|block| block.split_once("```").unwrap().0.to_owned());
        blocks.collect::<Vec<_>>().try_into().unwrap()
    }

    #[test]
    fn an_array_of_jobs_builds_recipes_and_another_job_attests_them() {
        let bench = bench();
        for name in ["web", "api", "site"] {
            let step = format!("[[run]]\nname = \"it\"\nscript = \"echo {name} >/etc/{name}\"\n");
            bench.write(name, &step);
        }
        bench.imgbuild(&["base.toml"]).expect(0);
        let lab = Lab::of(&bench);
        for work in ["work-0", "work-1", "work-2", "work-lab"] {
            bench.copy_of_work(work);
        }
        let [build, rebuild, submit] = blocks();
        let here = |script: &str| {
            let work = bench.path("work-");
            let script = script.replace("/var/tmp/imgbuild-", work.to_str().unwrap());
            script.replace("/srv/lab/keys", lab.keys.to_str().unwrap())
        };
        fs::write(bench.path("build.sh"), here(&build)).unwrap();
        fs::write(bench.path("rebuild.sh"), here(&rebuild)).unwrap();
        let slurm = Slurm::start(&bench);
        let logs = || {
            let entries = fs::read_dir(bench.dir()).unwrap();
            let paths = entries.map(|entry| entry.unwrap().path());
            let logs = paths.filter(|path| path.extension().is_some_and(|ext| ext == "out"));
            logs.map(|path: std::path::PathBuf| read(&path))
                .collect::<String>()
        };
        let built_by_slurm = |round: usize| {
            Ran::of(&mut slurm.command("sh", &["-euc", &submit])).expect(0);
            wait_for("all jobs", || {
                let states = slurm.states();
                assert!(
                    states.iter().all(|state| matches!(
                        state.as_str(),
                        "PENDING" | "CONFIGURING" | "RUNNING" | "COMPLETING" | "COMPLETED"
                    )),
                    "{states:?}\n{}",
                    logs()
                );
                let done = states.iter().filter(|state| *state == "COMPLETED");
                done.count() == 5 * round
            });
        };
        built_by_slurm(1);
        lab.assert_attested(&bench, &["base", "web", "api", "site"]);
        let log = || bench.imgbuild(&["env", "log", "dev"]).expect(0).stdout;
        let released = log();
        // Nothing has changed: nothing is released, and what was attested is attested.
        built_by_slurm(2);
        assert_eq!(log(), released);
        bench.assert_store_is_whole();
    }

    fn read(path: &Path) -> String {
        let text = fs::read_to_string(path).unwrap_or_default();
        format!("{}:\n{text}", path.display())
    }
}
