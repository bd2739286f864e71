//! What keys are called here.

use store::keys::PublicKey;
use store::tuf::Policy;

/// Names of public keys: of the keys here, of the public halves beside them, and of those
/// that a policy lists. The first one counts.
#[derive(Clone, Debug, Default)]
pub struct Names(Vec<(PublicKey, String)>);

impl Names {
    pub(super) fn add(&mut self, key: PublicKey, name: &str) {
        if self.of(&key).is_none() {
            self.0.push((key, name.to_owned()));
        }
    }

    /// Adds the names that a policy gives to keys which have none here.
    #[must_use]
    pub fn with(mut self, policy: Option<&Policy>) -> Self {
        for (name, hex) in policy.iter().flat_map(|policy| &policy.keys) {
            if let Ok(key) = hex.parse() {
                self.add(key, name);
            }
        }
        self
    }

    /// What a key is called.
    pub fn of(&self, key: &PublicKey) -> Option<&str> {
        let mut known = self.0.iter();
        let found = known.find(|(known, _)| known == key);
        found.map(|(_, name)| name.as_str())
    }

    /// Every key that has a name.
    pub fn keys(&self) -> Vec<PublicKey> {
        self.0.iter().map(|(key, _)| *key).collect()
    }

    /// Name and all 64 digits, as `imgbuild key list` shows them and people write them
    /// down.
    pub fn full(&self, key: &PublicKey) -> String {
        match self.of(key) {
            Some(name) => format!("{name} {}", key.hex()),
            None => key.hex(),
        }
    }

    /// The name, else the first digits.
    pub fn short(&self, key: &PublicKey) -> String {
        match self.of(key) {
            Some(name) => name.to_owned(),
            None => key.hex()[..16].to_owned(),
        }
    }

    /// A sentence about keys, with the names before the digits.
    pub fn sentence(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (key, name) in &self.0 {
            let hex = key.hex();
            text = text.replace(&format!(": key {hex} "), &format!(": key {name} {hex} "));
        }
        text
    }
}
