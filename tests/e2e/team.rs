//! People who sign together: their keys, their store, their trees.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tests::binaries::{Ran, imgbuild};
use tests::fixtures::scratch;

/// People with keys of their own who share one store.
pub(crate) struct Team {
    dir: tempfile::TempDir,
    /// The same for every command: the same tree is the same bytes.
    epoch: String,
}

impl Team {
    pub(crate) fn new() -> Self {
        let dir = scratch();
        let epoch = epoch();
        Self { dir, epoch }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs a command as somebody who has keys of their own.
    pub(crate) fn run(&self, who: &str, arguments: &[&str]) -> Ran {
        Ran::of(self.command(who).args(arguments))
    }

    pub(crate) fn command(&self, who: &str) -> Command {
        let mut command = Command::new(imgbuild());
        command
            .current_dir(self.dir.path())
            .env("IMGBUILD_STORE", self.path("store"))
            .env("IMGBUILD_WORK", self.path("work"))
            .env("IMGBUILD_KEYS", self.path(who))
            .env("SOURCE_DATE_EPOCH", &self.epoch);
        command
    }

    /// Gives the environment `prod`, whose one root key Ann has, another policy.
    pub(crate) fn change_policy(&self, policy: &str) {
        self.propose_policy(policy).expect(0);
        self.run("ann", &["env", "root", "publish", "policy.json"])
            .expect(0);
    }

    /// Proposes that, in `policy.json`.
    pub(crate) fn propose_policy(&self, policy: &str) -> Ran {
        fs::write(self.path("policy.toml"), policy).unwrap();
        let mut propose = vec!["env", "root", "propose", "prod"];
        propose.extend(["--policy", "policy.toml", "-o", "policy.json"]);
        self.run("ann", &propose)
    }

    /// Makes a key and returns its public half.
    pub(crate) fn key(&self, who: &str, name: &str) -> String {
        let made = self.run(who, &["key", "new", name, "--plain"]).expect(0);
        made.stdout.trim().to_owned()
    }

    pub(crate) fn json(&self, who: &str, arguments: &[&str]) -> Value {
        let said = self.run(who, arguments).expect(0).stdout;
        serde_json::from_str(said.lines().last().unwrap_or_default()).expect("it says JSON")
    }

    pub(crate) fn root(&self, env: &str) -> String {
        let status = self.json("ann", &["env", "status", env, "--json"]);
        status["environments"][0]["fingerprint"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// A root filesystem of one package, in this version.
    pub(crate) fn tree(&self, name: &str, version: &str) -> PathBuf {
        let tree = self.path(name);
        fs::create_dir_all(tree.join("etc")).unwrap();
        fs::create_dir_all(tree.join("var/lib/dpkg")).unwrap();
        let release = "ID=debian\nVERSION_CODENAME=bookworm\n";
        fs::write(tree.join("etc/os-release"), release).unwrap();
        let status = format!(
            "Package: libfoo\nStatus: install ok installed\nArchitecture: amd64\n\
             Version: {version}\nMaintainer: x\nDescription: x\n\n"
        );
        fs::write(tree.join("var/lib/dpkg/status"), status).unwrap();
        tree
    }

    /// Imports a tree as the image `web`, and returns its digest.
    pub(crate) fn import(&self, tree: &Path) -> String {
        let tree = tree.to_str().unwrap();
        let words = ["import", tree, "--name", "web", "--arch", "amd64"];
        self.run("ann", &words).expect(0).stdout.trim().to_owned()
    }
}

/// Yesterday: an image must have an age, and not too much of it.
fn epoch() -> String {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    (now.as_secs() - 86_400).to_string()
}

/// Demands that a command has said each of these on stderr.
pub(crate) fn says(ran: &Ran, words: &[&str]) {
    for word in words {
        assert!(
            ran.stderr.contains(word),
            "`{word}` is not in:\n{}",
            ran.stderr
        );
    }
}

/// Runs a command of somebody whose clock is so far ahead.
pub(crate) fn at(team: &Team, ahead: &str, who: &str, words: &[&str]) -> Ran {
    let mut late = std::process::Command::new("faketime");
    let command = team.command(who);
    late.args(["-f", ahead]).arg(command.get_program());
    late.args(words)
        .current_dir(command.get_current_dir().unwrap());
    let variables = command.get_envs();
    late.envs(variables.filter_map(|(name, value)| Some((name, value?))));
    Ran::of(&mut late)
}
