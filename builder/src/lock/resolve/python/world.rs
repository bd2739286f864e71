//! The sandboxes of one run.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};

use super::Sources;
use super::run::{
    CHOSEN, DECIDED, DESCRIBED, Dirs, FACTS, FAILED, LENT, METADATA, OUT, SOURCES, put,
};
use crate::error::{Context, Result};
use crate::process::Output;
use crate::sandbox::{Bind, Command, Failure, Sandbox};
use crate::steps::RESOLVING_PYTHON as PYTHON;

/// How long it may take for one virtualenv.
const TIMEOUT: Duration = Duration::from_secs(1800);
/// Where the sandboxes have the machine's settings, and what root writes.
const INDEX: &str = "/run/imgbuild/index";
const META: &str = "/run/imgbuild/meta";
/// How often somebody looks whether the gateway is there.
const POLL: Duration = Duration::from_millis(20);
/// The gateway's socket, and the pipe that ends it: only root may use them.
const SOCKET: &str = "socket";
const END: &str = "end";
/// What appears where the gateway has ended.
const GONE: &str = "gone";

/// How a sandbox ended.
pub(super) type Ran = std::result::Result<(), Failure>;

/// A tree with a scratch layer, and what is lent to those who work in it.
pub(super) struct World<'a> {
    pub(super) dirs: &'a Dirs,
    pub(super) root: &'a Path,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) sources: Option<&'a Sources>,
}

impl World<'_> {
    /// Chooses files from other tools' locks, if there are any, and fetches them.
    pub(super) fn fetch(&self, choose: bool, listen: &mut dyn FnMut(&str)) -> Result<Ran> {
        let chosen = format!("{META}/{CHOSEN}");
        let (first, chosen) = if choose {
            (
                format!("{PYTHON} {LENT}/read_lock.py {LENT}/locks.json {chosen}\n"),
                chosen,
            )
        } else {
            (String::new(), String::new())
        };
        let script = format!(
            "{first}( . {INDEX}/environment; exec {PYTHON} {LENT}/fetch.py {LENT}/retained {OUT} \
             {META}/{FACTS} {chosen} {LENT}/files.json )\n{}",
            read_sources()
        );
        self.sandbox(script, Reach::Network)
            .run(TIMEOUT, Output { log: None, listen })
    }

    /// Runs a command as nobody, with nothing outside.
    pub(super) fn offline(&self, command: &str, listen: &mut dyn FnMut(&str)) -> Result<Ran> {
        let script = self.inside((&[], command), None)?;
        self.sandbox(script, Reach::Nothing)
            .run(TIMEOUT, Output { log: None, listen })
    }

    /// Runs a command as nobody, with the indexes behind a gateway.
    pub(super) fn behind_gateway(
        &self,
        (before, command): (&[String], &str),
        explain: bool,
        listen: &mut dyn FnMut(&str),
    ) -> Result<Ran> {
        let (socket, end) = (self.dirs.gate.join(SOCKET), self.dirs.gate.join(END));
        mknodat(CWD, &end, FileType::Fifo, Mode::from_raw_mode(0o600), 0)
            .context(|| format!("cannot make {}", end.display()))?;
        // Settings are read by the one process that asks the indexes.
        let script = format!(
            ". {INDEX}/environment\nexec {PYTHON} {LENT}/gateway.py {} {} \
             {META}/{FACTS} {OUT} {LENT}\n",
            gate(SOCKET),
            gate(END)
        );
        let gateway = self.sandbox(script, Reach::Network);
        let script = self.inside((before, command), Some(explain))?;
        let inside = self.sandbox(script, Reach::Nothing);
        // Both begin at once: who is inside waits for the socket, or hears that there will be none.
        let gone = self.dirs.gate.join(GONE);
        std::thread::scope(|scope| {
            let gateway = scope.spawn(move || {
                let served = gateway.run(
                    TIMEOUT,
                    Output {
                        log: None,
                        listen: &mut |_| (),
                    },
                );
                let told = put(&gone, "");
                served.and_then(|served| told.map(|()| served))
            });
            let ran = inside.run(TIMEOUT, Output { log: None, listen });
            let ran = Some(ran).filter(|_| socket.exists());
            let code: &[u8] = if matches!(ran, Some(Ok(Ok(())))) {
                b"0"
            } else {
                b"1"
            };
            // Nobody reads before the gateway serves, and after it has ended.
            while !gateway.is_finished() {
                let pipe = OpenOptions::new()
                    .write(true)
                    .custom_flags(nonblocking())
                    .open(&end);
                if let Ok(mut pipe) = pipe {
                    let _ = pipe.write_all(code);
                    break;
                }
                std::thread::sleep(POLL);
            }
            let served = gateway
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            match (ran, served) {
                (Some(ran), Ok(())) => ran,
                (_, served) => Ok(served),
            }
        })
    }

    /// The lines that run a command as nobody, and what goes before it. With a gateway, whether a
    /// failure is explained.
    fn inside(
        &self,
        (before, command): (&[String], &str),
        explain: Option<bool>,
    ) -> Result<String> {
        put(&self.dirs.lent.join("inside.sh"), command)?;
        let trees = self.sources.into_iter().flat_map(|sources| &sources.trees);
        let trees: Vec<String> = trees
            .map(|t| format!("{SOURCES}/{}", t.path.display()))
            .collect();
        let mut write = vec![OUT];
        write.extend(self.sources.map(|_| SOURCES));
        let spec = serde_json::json!({
            "before": before,
            "command": ["sh", "-eu", format!("{LENT}/inside.sh")],
            "failed": format!("{META}/{FAILED}"),
            "described": format!("{META}/{DESCRIBED}"),
            "metadata": format!("{META}/{METADATA}"),
            "decided": format!("{META}/{DECIDED}"),
            "socket": explain.map(|_| gate(SOCKET)),
            "gone": gate(GONE),
            "out": OUT,
            "sources": trees,
            "try": format!("{LENT}/try_sources.py"),
            "why": explain.unwrap_or(true),
            "write": write,
        });
        put(&self.dirs.lent.join("inside.json"), &spec.to_string())?;
        // The gateway ends while this sandbox is put away. Nobody is waited for: it may be gone.
        let told = explain.map(|_| format!("printf 0 1<> {}\n", gate(END)));
        Ok(format!(
            "{PYTHON} {LENT}/inside.py {LENT}/inside.json\n{}{}",
            read_sources(),
            told.unwrap_or_default()
        ))
    }

    fn sandbox(&self, script: String, reach: Reach) -> Sandbox {
        let bind = |source: &Path, name: &str, writable| Bind {
            source: source.to_owned(),
            name: name.into(),
            writable,
        };
        let mut binds = vec![
            bind(&self.dirs.lent, "pip", false),
            bind(&self.dirs.out, "out", true),
            bind(&self.dirs.meta, "meta", true),
            bind(&self.dirs.gate, "gate", true),
        ];
        match reach {
            Reach::Network => binds.push(bind(&self.dirs.index, "index", false)),
            // Backends write into what they build.
            Reach::Nothing => {
                binds.extend(
                    self.sources
                        .map(|sources| bind(&sources.dir, "sources", true)),
                );
            }
        }
        Sandbox {
            root: self.root.to_owned(),
            binds,
            environment: self.environment.clone(),
            network: reach == Reach::Network,
            vary: false,
            command: Command::Chroot {
                argv: vec!["sh".into(), "-eu".into(), "-c".into(), script],
                user: "root".into(),
                directory: "/tmp".into(),
            },
        }
    }
}

/// What a sandbox of a run sees of the world.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// The network and the machine's settings.
    Network,
    /// The sources, which are nobody's.
    Nothing,
}

fn gate(file: &str) -> String {
    format!("/run/imgbuild/gate/{file}")
}

fn read_sources() -> String {
    format!("{PYTHON} {LENT}/read_sources.py {OUT} {META}/sources\n")
}

fn nonblocking() -> i32 {
    OFlags::NONBLOCK.bits().cast_signed()
}
