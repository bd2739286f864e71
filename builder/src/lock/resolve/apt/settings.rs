//! What apt is told: its directories, the recipe's archives, their priorities.

use std::fmt::Write as _;

use super::Apt;
use crate::error::Result;

/// The keyring of the distribution.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

impl Apt<'_> {
    pub(super) fn configuration(&self, network: &str) -> String {
        let dir = self.dir.display();
        format!(
            "Dir \"{dir}\";\nDir::Etc \"{dir}\";\nDir::Etc::main \"/dev/null\";\n\
             Dir::Etc::parts \"{dir}/empty\";\nDir::Etc::sourcelist \"{dir}/sources.list\";\n\
             Dir::Etc::sourceparts \"{dir}/empty\";\nDir::Etc::preferences \"{dir}/preferences\";\n\
             Dir::Etc::preferencesparts \"{dir}/preferences.d\";\n\
             Dir::Etc::trusted \"/dev/null\";\nDir::Etc::trustedparts \"{dir}/empty\";\n\
             Dir::State \"{dir}\";\nDir::State::lists \"{dir}/lists\";\n\
             Dir::State::status \"{dir}/status\";\nDir::Cache \"{dir}/cache\";\n\
             APT::Architecture \"{arch}\";\nAPT::Architectures {{ \"{arch}\"; }};\n\
             APT::Get::AllowUnauthenticated \"false\";\n\
             APT::Update::Error-Mode \"any\";\nAcquire::Languages \"none\";\n\
             Acquire::AllowInsecureRepositories \"false\";\n\
             Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled \"false\";\n{network}",
            arch = self.architecture,
        )
    }

    /// Every archive of the recipe: (archive, suite, components, keyring).
    pub(super) fn suites(&self) -> Vec<(String, String, String, String)> {
        let bootstrap = &self.recipe.bootstrap;
        let mut suites = vec![(
            "debian".to_owned(),
            bootstrap.suite.to_string(),
            join(&bootstrap.components),
            KEYRING.to_owned(),
        )];
        for source in &self.recipe.sources {
            let key = source
                .key
                .as_ref()
                .map(|k| self.beside.join(k.as_path()).display().to_string());
            suites.push((
                source.archive.to_string(),
                source.suite.to_string(),
                join(&source.components),
                key.unwrap_or_else(|| KEYRING.to_owned()),
            ));
        }
        suites
    }

    pub(super) fn sources(&self) -> Result<String> {
        let mut text = String::new();
        for (archive, suite, components, key) in self.suites() {
            let url = self.archives.site(&archive)?;
            let arch = self.architecture;
            let _ = writeln!(
                text,
                "deb [arch={arch} signed-by={key}] {url} {suite} {components}"
            );
        }
        Ok(text)
    }

    pub(super) fn preferences(&self) -> String {
        self.recipe.apt_preferences()
    }
}

pub(super) fn join<T: ToString>(words: &[T]) -> String {
    words
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" ")
}
