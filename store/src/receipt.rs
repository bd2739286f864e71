//! Receipts: what a node says of itself, signed with a key of its own.
//!
//! After each operation, and now and then without one, a node says which images run on it. Each
//! receipt names the digest of the one before, so that one that is gone, or that somebody else wrote
//! with the same key, is missed. The page of the format is [`crate::format::receipt`].

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::digest::{ImageId, Sha256};
use crate::dsse::{self, Envelope};
use crate::error::{Error, ErrorKind, Result};
use crate::json;
use crate::keys::{PublicKey, Signer};
use crate::name::{EnvName, ImageName, NodeName};

/// The type of the payload.
pub const PAYLOAD_TYPE: &str = "application/vnd.imgbuild.receipt+json";

/// The folder of all receipts.
pub const FOLDER: &str = "receipts";

/// The longest receipt that is read.
pub const MAX_BYTES: u64 = dsse::MAX_BYTES;

/// The longest reason, in bytes; a longer one is cut.
pub const MAX_REASON: usize = 500;

/// The most systems of a node.
pub const MAX_SYSTEMS: usize = 400;

/// The most ranges of receipts that were dropped.
pub const MAX_DROPPED: usize = 64;

/// The version of the format.
const SCHEMA: u32 = 1;

/// Counters have at most twelve digits.
const MAX_COUNTER: u64 = 999_999_999_999;

/// What a node says of itself at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// The version of the format.
    schema: u32,
    /// What the node is called.
    pub node: NodeName,
    /// The group that it says it is in.
    pub group: NodeName,
    /// How many receipts it has written with this one.
    pub counter: u64,
    /// The digest of the one before; none of the first.
    pub previous: Option<Sha256>,
    /// When it was written, by the node's clock.
    pub time: Timestamp,
    /// The version of imgnode.
    pub imgnode: String,
    /// The environment that the node follows.
    pub environment: Option<EnvName>,
    /// What it has heard of that environment.
    pub metadata: Option<Metadata>,
    /// What it was written after.
    pub event: Event,
    /// The systems of the node, by name.
    pub systems: Vec<System>,
    /// Counters, first and last, of receipts that the node gave up before they were sent, said since
    /// the one before.
    pub dropped: Vec<(u64, u64)>,
}

/// What a node has heard of its environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// When it asked last and was answered.
    pub refreshed: Timestamp,
    /// When the first of the signed files runs out.
    pub expires: Option<Timestamp>,
    /// The version of the list of releases.
    pub targets: Option<u64>,
}

/// What an operation came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// The operation.
    pub operation: Operation,
    /// The system that it was on.
    pub system: Option<String>,
    /// What it came to.
    pub result: Outcome,
    /// Why; nothing where all went well.
    pub reason: Option<String>,
}

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// A release was installed for the first time.
    Install,
    /// The newest release was asked for.
    Upgrade,
    /// A tarball that was carried by hand was installed.
    BuildSchroot,
    /// The generation before became active.
    Rollback,
    /// Another generation became active.
    Switch,
    /// The installed tree was compared with what was signed.
    Verify,
    /// A system was removed.
    Uninstall,
    /// A session was begun.
    Start,
    /// The session was ended in order.
    Stop,
    /// A session that a service manager was to see running: it ended by itself.
    Run,
    /// Nothing: the node says that it lives.
    Heartbeat,
}

impl Operation {
    /// The word that the command line has for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Install => "install",
            Self::Upgrade => "upgrade",
            Self::BuildSchroot => "build-schroot",
            Self::Rollback => "rollback",
            Self::Switch => "switch",
            Self::Verify => "verify",
            Self::Uninstall => "uninstall",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Run => "run",
            Self::Heartbeat => "heartbeat",
        }
    }
}

/// What became of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was done.
    Done,
    /// There was nothing to do.
    Unchanged,
    /// It failed.
    Failed,
    /// A new generation did not work, and the one before goes on.
    WentBack,
}

impl Outcome {
    /// The word in receipts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Unchanged => "unchanged",
            Self::Failed => "failed",
            Self::WentBack => "went-back",
        }
    }
}

/// A system of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct System {
    /// Its name on the node.
    pub system: String,
    /// The name of its image in the environment.
    pub image_name: ImageName,
    /// The generation that new sessions get.
    pub active: Installed,
    /// The generation whose session runs, if one does; it was asked whether it works.
    pub runs: Option<Installed>,
    /// The generation to go back to.
    pub previous: Option<Installed>,
    /// Whether the node knows that the image that is active was revoked.
    pub revoked: bool,
    /// When the tree of the active generation was last compared with what was signed, and was it.
    pub verified: Option<Timestamp>,
    /// Room for further generations.
    pub free_bytes: Option<u64>,
    /// The last operation on it, other than a comparison or one that changed nothing; of a session
    /// only how it failed, until the next is begun or it is ended in order.
    pub last: Option<LastOperation>,
}

/// A generation of a system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Installed {
    /// Its number.
    pub generation: u64,
    /// The environment that released it.
    pub environment: EnvName,
    /// The number of the release there.
    pub seq: u64,
    /// The image.
    pub image: ImageId,
}

/// An operation that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LastOperation {
    /// The operation.
    pub operation: Operation,
    /// What it came to.
    pub result: Outcome,
    /// Why; nothing where all went well.
    pub reason: Option<String>,
    /// When it ended.
    pub time: Timestamp,
}

impl Receipt {
    /// A receipt that says nothing yet but who wrote it, when, and after what.
    pub fn new(node: NodeName, group: NodeName, imgnode: &str, time: Timestamp) -> Self {
        Self {
            schema: SCHEMA,
            node,
            group,
            counter: 0,
            previous: None,
            time: whole_seconds(time),
            imgnode: imgnode.to_owned(),
            environment: None,
            metadata: None,
            event: Event {
                operation: Operation::Heartbeat,
                system: None,
                result: Outcome::Done,
                reason: None,
            },
            systems: Vec::new(),
            dropped: Vec::new(),
        }
    }

    /// Signs it. What could not be read back is not signed.
    pub fn sign(&self, key: &dyn Signer) -> Result<SignedReceipt> {
        self.check().map_err(|why| {
            let text = format!("the receipt {} cannot be written: {why}", self.counter);
            Error::new(ErrorKind::Invalid, text)
        })?;
        let mut envelope = Envelope::new(PAYLOAD_TYPE, self.to_json());
        envelope.sign(key).map_err(|error| {
            Error::new(ErrorKind::Invalid, "the receipt cannot be signed").with_source(error)
        })?;
        SignedReceipt::read(&envelope.to_json())
    }

    /// The payload, byte for byte.
    fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a receipt has a JSON form")
    }

    /// Says what is against the format.
    fn check(&self) -> Result<(), String> {
        if self.schema != SCHEMA {
            return Err(format!("its schema is {}", self.schema));
        }
        if !(1..=MAX_COUNTER).contains(&self.counter) {
            return Err(format!("its counter is {}", self.counter));
        }
        if (self.counter == 1) != self.previous.is_none() {
            return Err("the first receipt, and no other, has none before it".to_owned());
        }
        text("imgnode", &self.imgnode, 64)?;
        for reason in [&self.event.reason].into_iter().flatten() {
            text("event.reason", reason, MAX_REASON)?;
        }
        if let Some(name) = &self.event.system {
            system_name(name)?;
        }
        if self.systems.len() > MAX_SYSTEMS {
            return Err(format!("it has more than {MAX_SYSTEMS} systems"));
        }
        if !self.systems.is_sorted_by(|a, b| a.system < b.system) {
            return Err("its systems are not in the order of their names".to_owned());
        }
        for system in &self.systems {
            system_name(&system.system)?;
            if let Some(reason) = system.last.as_ref().and_then(|last| last.reason.as_ref()) {
                text("last.reason", reason, MAX_REASON)?;
            }
        }
        if self.dropped.len() > MAX_DROPPED {
            return Err(format!(
                "it has more than {MAX_DROPPED} ranges of dropped receipts"
            ));
        }
        let mut end = 0;
        for (first, last) in &self.dropped {
            if *first <= end || last < first || *last >= self.counter {
                return Err("its ranges of dropped receipts make no sense".to_owned());
            }
            end = *last;
        }
        Ok(())
    }
}

/// A time without its fraction, which is how receipts have it.
pub fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or_default()
}

/// A reason, as long as a receipt takes it.
pub fn reason(text: &str) -> String {
    let mut end = text.len().min(MAX_REASON);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

fn text(field: &str, text: &str, most: usize) -> Result<(), String> {
    if text.is_empty() || text.len() > most {
        return Err(format!("`{field}` has not 1 to {most} bytes"));
    }
    Ok(())
}

/// Systems are named as imgnode names them.
fn system_name(name: &str) -> Result<(), String> {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
    let begins = name
        .as_bytes()
        .first()
        .is_some_and(u8::is_ascii_alphanumeric);
    if begins && name.len() <= 64 && name.as_bytes().iter().all(plain) {
        return Ok(());
    }
    Err(format!(
        "`{}` is not the name of a system",
        name.escape_default()
    ))
}

/// A receipt with its signature, as it lies in a folder. Not believed: see [`is_by`](Self::is_by).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedReceipt {
    /// What it says.
    pub receipt: Receipt,
    /// Its digest, which the next one names.
    pub sha256: Sha256,
    envelope: Envelope,
}

impl SignedReceipt {
    /// Reads a receipt. Its signature is not looked at.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        let wrong = |why: &dyn fmt::Display| Error::corrupt("the receipt", why);
        let envelope = Envelope::from_json(bytes)?;
        if envelope.kind() != PAYLOAD_TYPE {
            return Err(wrong(&"its payload is no receipt"));
        }
        if envelope.keyids().count() != 1 || envelope.to_json() != bytes {
            return Err(wrong(&"it is not written as receipts are"));
        }
        let value = json::parse(envelope.payload()).map_err(|e| wrong(&e))?;
        let receipt: Receipt = serde_json::from_value(value).map_err(|e| wrong(&e))?;
        receipt.check().map_err(|why| wrong(&why))?;
        if receipt.to_json() != envelope.payload() {
            return Err(wrong(&"its payload is not written as receipts are"));
        }
        Ok(Self {
            receipt,
            sha256: Sha256::of(bytes),
            envelope,
        })
    }

    /// The bytes that [`read`](Self::read) reads.
    pub fn to_json(&self) -> Vec<u8> {
        self.envelope.to_json()
    }

    /// Whether it has the signature of this key.
    pub fn is_by(&self, key: &PublicKey) -> bool {
        self.envelope.verify(&[*key], 1).is_ok()
    }

    /// The name of the object that it belongs into.
    pub fn key(&self) -> String {
        key(&self.receipt.node, self.receipt.counter)
    }

    /// Its name where another receipt has the first one: somebody else has the key of this node.
    pub fn second_key(&self) -> String {
        let Receipt { node, counter, .. } = &self.receipt;
        let digest = &self.sha256.hex()[..16];
        format!("{FOLDER}/{node}/{counter:012}-{digest}.json")
    }
}

/// The name of a node's receipt.
pub fn key(node: &NodeName, counter: u64) -> String {
    format!("{FOLDER}/{node}/{counter:012}.json")
}

/// The counter that the name of an object in a node's folder says; none for other objects.
pub fn counter(name: &str) -> Option<u64> {
    let stem = name.strip_suffix(".json")?;
    let (digits, digest) = match stem.split_once('-') {
        Some((digits, digest)) => (digits, Some(digest)),
        None => (stem, None),
    };
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let plain = digits.len() == 12 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let named = digest.is_none_or(|digest| digest.len() == 16 && digest.bytes().all(hex));
    (plain && named).then(|| digits.parse().ok()).flatten()
}

/// What enrols a node: a line of its name, its group and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolment {
    /// What the node is called.
    pub name: NodeName,
    /// The group that it is in.
    pub group: NodeName,
    /// The key that its receipts are signed with.
    pub key: PublicKey,
}

impl fmt::Display for Enrolment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.name, self.group, self.key.hex())
    }
}

impl FromStr for Enrolment {
    type Err = Error;

    fn from_str(line: &str) -> Result<Self> {
        let wrong = |why: &dyn fmt::Display| {
            let text = format!("this line enrols no node: {why}");
            Error::new(ErrorKind::Invalid, text)
                .with_hint("`imgnode receipts key` on the node prints it: NAME GROUP KEY")
        };
        let words: Vec<_> = line.split_whitespace().collect();
        let [name, group, key] = words[..] else {
            return Err(wrong(&format_args!("it has {} words, not 3", words.len())));
        };
        Ok(Self {
            name: name.parse().map_err(|e| wrong(&e))?,
            group: group.parse().map_err(|e| wrong(&e))?,
            key: key.parse().map_err(|e| wrong(&e))?,
        })
    }
}

#[cfg(all(test, feature = "write"))]
mod tests {
    use super::*;
    use crate::digest::Blake3;
    use crate::keys::KeyPair;

    /// A receipt in which every field says something.
    fn full() -> Receipt {
        let time = Timestamp::from_second(1_795_406_400).unwrap();
        let installed = |generation: u64, image: &[u8]| Installed {
            generation,
            environment: "prod".parse().unwrap(),
            seq: generation + 4,
            image: Blake3::of(image),
        };
        let node = "web07".parse().unwrap();
        let mut receipt = Receipt::new(node, "eu".parse().unwrap(), "0.1.0", time);
        receipt.counter = 42;
        receipt.previous = Some(Sha256::of(b"before"));
        receipt.environment = Some("prod".parse().unwrap());
        receipt.metadata = Some(Metadata {
            refreshed: time,
            expires: Some(time),
            targets: Some(9),
        });
        receipt.event = Event {
            operation: Operation::Upgrade,
            system: Some("MyProject".into()),
            result: Outcome::WentBack,
            reason: Some("the page /up answers with 500".into()),
        };
        receipt.systems = vec![System {
            system: "MyProject".into(),
            image_name: "web".parse().unwrap(),
            active: installed(2, b"two"),
            runs: Some(installed(2, b"two")),
            previous: Some(installed(1, b"one")),
            revoked: false,
            verified: Some(time),
            free_bytes: Some(1 << 40),
            last: Some(LastOperation {
                operation: Operation::Upgrade,
                result: Outcome::WentBack,
                reason: Some("the page /up answers with 500".into()),
                time,
            }),
        }];
        receipt.dropped = vec![(30, 33), (40, 40)];
        receipt
    }

    #[test]
    fn a_receipt_is_one_form_of_bytes() {
        let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let signed = full().sign(&key).unwrap();
        let read = SignedReceipt::read(&signed.to_json()).unwrap();
        assert_eq!(read, signed);
        assert!(read.is_by(&key.public()) && !read.is_by(&other.public()));
        assert_eq!(read.key(), "receipts/web07/000000000042.json");
        for name in [read.key(), read.second_key()] {
            let name = name.strip_prefix("receipts/web07/").unwrap();
            assert_eq!(counter(name), Some(42), "{name}");
        }
        for name in [
            "42.json",
            "000000000042",
            "0000000000-2.json",
            "00000000004x.json",
        ] {
            assert_eq!(counter(name), None, "{name}");
        }
        // The same in other words, or with a second signature.
        let loose = String::from_utf8(signed.to_json())
            .unwrap()
            .replace('\n', " ");
        SignedReceipt::read(loose.as_bytes()).unwrap_err();
        let mut twice = signed.envelope.clone();
        twice.sign(&other).unwrap();
        SignedReceipt::read(&twice.to_json()).unwrap_err();
        let spaced = [signed.envelope.payload(), b" "].concat();
        let mut spaced = Envelope::new(PAYLOAD_TYPE, spaced);
        spaced.sign(&key).unwrap();
        SignedReceipt::read(&spaced.to_json()).unwrap_err();
    }

    #[test]
    fn what_makes_no_sense_is_neither_signed_nor_read() {
        let key = KeyPair::generate().unwrap();
        let changes: [fn(&mut Receipt); 11] = [
            |receipt| receipt.schema = 2,
            |receipt| receipt.counter = 0,
            |receipt| receipt.counter = MAX_COUNTER + 1,
            |receipt| receipt.previous = None,
            |receipt| receipt.counter = 1,
            |receipt| receipt.event.reason = Some("x".repeat(MAX_REASON + 1)),
            |receipt| receipt.systems[0].system = "../x".into(),
            |receipt| receipt.systems.push(receipt.systems[0].clone()),
            |receipt| receipt.dropped = vec![(5, 4)],
            |receipt| receipt.dropped = vec![(4, 5), (5, 6)],
            |receipt| receipt.dropped = vec![(42, 42)],
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut receipt = full();
            change(&mut receipt);
            receipt.sign(&key).unwrap_err();
            let mut envelope = Envelope::new(PAYLOAD_TYPE, receipt.to_json());
            envelope.sign(&key).unwrap();
            let read = SignedReceipt::read(&envelope.to_json());
            assert!(read.is_err(), "change {number}");
        }
        let ten = "ä".repeat(MAX_REASON);
        assert_eq!(reason(&ten).len(), MAX_REASON);
        assert_eq!(reason("short"), "short");
    }

    #[test]
    fn a_line_enrols_a_node() {
        let key = KeyPair::generate().unwrap().public();
        let one = Enrolment {
            name: "web07".parse().unwrap(),
            group: "eu".parse().unwrap(),
            key,
        };
        assert_eq!(one.to_string().parse::<Enrolment>().unwrap(), one);
        let hex = key.hex();
        for line in [
            "",
            "web07 eu",
            &format!("Web07 eu {hex}"),
            &format!("web07 eu {hex} x"),
        ] {
            assert!(line.parse::<Enrolment>().is_err(), "{line}");
        }
    }
}
