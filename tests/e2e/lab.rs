//! A second builder, who rebuilds what the first has released and attests it with a key of its own.

use std::path::PathBuf;

use serde_json::Value;
use store::keys::PublicKey;
use tests::bench::Bench;
use tests::binaries::{Ran, imgbuild};

/// Its keys, which trust the bench's dev.
pub(crate) struct Lab {
    pub(crate) keys: PathBuf,
    key: PublicKey,
}

impl Lab {
    /// Makes a lab beside a bench in which something was released.
    pub(crate) fn of(bench: &Bench) -> Self {
        let status = bench
            .imgbuild(&["env", "status", "dev", "--json"])
            .expect(0);
        let status: Value = serde_json::from_str(status.stdout.lines().last().unwrap()).unwrap();
        let root = status["environments"][0]["fingerprint"].as_str().unwrap();
        let keys = bench.path("keys-lab");
        let at_lab = |words: &[&str]| {
            let mut command = bench.command(imgbuild().to_str().unwrap(), words);
            Ran::of(command.env("IMGBUILD_KEYS", &keys)).expect(0)
        };
        let key = at_lab(&["key", "new", "lab", "--plain"]).stdout;
        let key = key.trim().parse().unwrap();
        at_lab(&["env", "trust", "dev", root]);
        Self { keys, key }
    }

    /// Fails the test unless it, and nobody else, has attested that each image was rebuilt.
    pub(crate) fn assert_attested(&self, bench: &Bench, names: &[&str]) {
        for name in names {
            let said = bench.imgbuild(&["show", name, "--attestations", "--json"]);
            let said: Value = serde_json::from_str(&said.expect(0).stdout).unwrap();
            let all = said["attestations"].as_array().unwrap().iter();
            let rebuilt = all.filter(|one| one["kind"] == "rebuilt");
            let rebuilt: Vec<_> = rebuilt.map(ToString::to_string).collect();
            assert_eq!(rebuilt.len(), 1, "{said}");
            assert!(rebuilt[0].contains(&self.key.id()), "{said}");
        }
    }
}
