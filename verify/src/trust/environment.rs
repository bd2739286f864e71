//! An environment whose newest metadata was verified a moment ago.

use jiff::Timestamp;
use store::{ImageId, ImageName, Store};

use super::tuf::{Client, ErrorKind, VerifiedRelease};
use crate::error::{Error, Result};
use crate::node::Node;
use crate::state::NodeConfig;

/// An environment and its store, freshly verified.
pub struct Environment {
    client: Client,
    store: Store,
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
    let store = node.store(config)?;
    let mut client = open_client(node, config)?;
    client.refresh(store.backend(), Timestamp::now())?;
    Ok(Environment { client, store })
}

/// Does what [`refresh`] does; an environment that cannot be reached, whose metadata has expired,
/// or whose store answers something else (an error page, nothing, another environment, an older
/// copy) is no error but gives the reason for that: what is remembered counts. Only this node's own
/// memory must be sound.
pub fn refresh_if_reachable(
    node: &Node<'_>,
    config: &NodeConfig,
) -> Result<Result<Environment, Error>> {
    let store = match node.store(config) {
        Ok(store) => store,
        Err(error) => return Ok(Err(error)),
    };
    let mut client = open_client(node, config)?;
    match client.refresh(store.backend(), Timestamp::now()) {
        Ok(()) => Ok(Ok(Environment { client, store })),
        Err(error) if matches!(error.kind(), ErrorKind::Clock | ErrorKind::Busy) => {
            Err(error.into())
        }
        Err(error) => Ok(Err(error.into())),
    }
}

impl Environment {
    /// The newest release of an image, with its verified manifest.
    pub fn newest_release(&self, name: &ImageName) -> Result<VerifiedRelease> {
        Ok(self.client.release(self.store.backend(), name)?)
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

/// Opens the trusted metadata of this node; refuses that of another environment.
fn open_client(node: &Node<'_>, config: &NodeConfig) -> Result<Client> {
    let client = Client::open(&node.state.trust())?;
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
