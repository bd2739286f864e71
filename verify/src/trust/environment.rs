//! An environment whose newest metadata was verified a moment ago.

use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use store::{Backend, ImageId, ImageName};

use super::tuf::{Asker, Client, ErrorKind, Held, VerifiedRelease};
use crate::error::{Error, Result};
use crate::node::Node;
use crate::state::NodeConfig;

/// How long another command may take to refresh the metadata.
const PATIENCE: Duration = Duration::from_secs(120);

/// An environment and its store, freshly verified.
pub struct Environment {
    client: Client,
    backend: Box<dyn Backend>,
}

/// The reason why a release may not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAllowed {
    /// The reason in words.
    pub why: String,
    /// Whether its image was revoked: then it may not be started either.
    pub revoked: bool,
}

impl NotAllowed {
    /// A reason not to go back to a generation that may go on running.
    pub fn to_return(why: String) -> Self {
        Self {
            why,
            revoked: false,
        }
    }
}

/// Fetches and verifies the newest metadata of the environment.
pub fn refresh(node: &Node<'_>, config: &NodeConfig) -> Result<Environment> {
    let backend = node.backend(config)?;
    let mut client = open_client(node, config)?;
    client.refresh(&*backend, Timestamp::now())?;
    Ok(Environment { client, backend })
}

/// Does what [`refresh`] does; an environment that cannot be reached, whose metadata has expired,
/// or whose store answers something else (an error page, nothing, another environment, an older
/// copy) is no error but gives the reason for that: what is remembered counts. Only this node's own
/// memory must be sound.
pub fn refresh_if_reachable(
    node: &Node<'_>,
    config: &NodeConfig,
) -> Result<Result<Environment, Error>> {
    let backend = match node.backend(config) {
        Ok(backend) => backend,
        Err(error) => return Ok(Err(error)),
    };
    let mut client = open_client(node, config)?;
    match client.refresh(&*backend, Timestamp::now()) {
        Ok(()) => Ok(Ok(Environment { client, backend })),
        Err(error) if error.kind() == ErrorKind::Clock || error.kind() == ErrorKind::Busy => {
            Err(error.into())
        }
        Err(error) => Ok(Err(error.into())),
    }
}

impl Environment {
    /// The newest release of an image that reaches this node and may run, with its verified manifest,
    /// which is not fetched if `known` has it: that of a release that is here. And the newest of all,
    /// where that is another one.
    pub fn release_for(
        &self,
        name: &ImageName,
        asker: Asker<'_>,
        known: &dyn Fn(u64, &ImageId) -> Option<Vec<u8>>,
    ) -> Result<(VerifiedRelease, Option<Held>)> {
        let backend = &*self.backend;
        Ok(self.client.reached(backend, name, asker, known)?)
    }

    /// Refuses a release that was carried here by hand unless it is listed with this manifest, and
    /// may run.
    pub fn admits(&self, release: &VerifiedRelease) -> Result<()> {
        let name = &release.manifest.name;
        Ok(self.client.admits(name, release.seq, &release.json)?)
    }

    /// The reason why a release may not run; `None` if it may.
    pub fn not_allowed(
        &self,
        name: &ImageName,
        seq: u64,
        image: &ImageId,
    ) -> Result<Option<NotAllowed>> {
        match self.client.allowed(name, seq) {
            Ok(released) if released == *image => Ok(None),
            Ok(_) => Ok(Some(NotAllowed::to_return(format!(
                "release {seq} of {name} is another image"
            )))),
            Err(error) => match error.kind() {
                kind @ (ErrorKind::Revoked | ErrorKind::TooOld | ErrorKind::NoRelease) => {
                    Ok(Some(NotAllowed {
                        why: error.to_string(),
                        revoked: kind == ErrorKind::Revoked,
                    }))
                }
                _ => Err(Error::from(error)),
            },
        }
    }
}

/// Refuses a release that was carried here by hand where this node knows already that it may not
/// run: for an environment that cannot be asked.
pub fn remembers_nothing_against(
    node: &Node<'_>,
    config: &NodeConfig,
    release: &VerifiedRelease,
) -> Result<()> {
    let client = open_client(node, config)?;
    let (name, json) = (&release.manifest.name, &release.json);
    Ok(client.remembers_nothing_against(name, release.seq, &release.image, json)?)
}

/// Opens the trusted metadata of this node; refuses that of another environment.
fn open_client(node: &Node<'_>, config: &NodeConfig) -> Result<Client> {
    // Another command refreshes it, for another system.
    let until = Instant::now() + PATIENCE;
    let client = loop {
        match Client::open(&node.state.trust()) {
            Err(error) if error.kind() == ErrorKind::Busy && Instant::now() < until => {
                node.check_cancelled()?;
                thread::sleep(Duration::from_millis(50));
            }
            opened => break opened?,
        }
    };
    if *client.env() != config.environment {
        return Err(Error::refused(format!(
            "{} holds the trust of another environment",
            node.state.trust().display()
        ))
        .cause(format!(
            "it is {}, this node follows {}",
            client.env(),
            config.environment
        ))
        .hint("imgnode init --reset"));
    }
    Ok(client)
}
