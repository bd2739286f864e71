//! A node that follows one environment.

use std::path::Path;

use jiff::Timestamp;
use store::backend::Backend;
use store::digest::ImageId;
use store::name::{EnvName, ImageName};

use super::error::{Error, ErrorKind, Result};
use super::release::{self, Asker, Found, Held, VerifiedRelease};
use super::remembered::Remembered;
use super::repository::{StoreRepository, twice};
use super::state::{Floor, State, not_initialised};
use super::workflow::{self, Trusted};

/// Follows one environment, from a directory of trusted state that it keeps
/// locked.
pub struct Client {
    state: State,
    env: EnvName,
    trusted: Option<Trusted>,
}

impl Client {
    /// Starts to follow `env` from a root file that a person vouches for.
    ///
    /// The root must be one of `env` and signed by its own keys. Repeating the
    /// call with the same arguments is fine; state of another environment or
    /// another root is not overwritten (see [`reset`](Self::reset)).
    pub fn init(state_dir: &Path, root: &[u8], env: &EnvName) -> Result<Self> {
        workflow::examine_root(root, Some(env))?;
        let state = State::create(state_dir)?;
        if let Some(present) = state.read("root.json")? {
            let followed = state.environment()?;
            if present == root && followed == *env {
                return Ok(Self {
                    state,
                    env: followed,
                    trusted: None,
                });
            }
            let text = format!("{} follows {followed} already", state_dir.display());
            return Err(Error::new(ErrorKind::AlreadyInitialised, text)
                .with_hint("to start again from this root file: imgnode init --reset"));
        }
        // The root comes last: without it the rest counts as never written.
        state.write("environment", format!("{env}\n").as_bytes())?;
        state.write_floor(&Floor::default())?;
        state.write("root.json", root)?;
        Ok(Self {
            state,
            env: env.clone(),
            trusted: None,
        })
    }

    /// Opens what [`init`](Self::init) has made.
    pub fn open(state_dir: &Path) -> Result<Self> {
        let state = State::open(state_dir)?;
        if state.read("root.json")?.is_none() {
            return Err(not_initialised(state_dir));
        }
        let env = state.environment()?;
        Ok(Self {
            state,
            env,
            trusted: None,
        })
    }

    /// Forgets all trusted state, the floors against rollback included: what a
    /// person does who has a root file at hand, knowing why.
    pub fn reset(state_dir: &Path) -> Result<()> {
        State::open(state_dir)?.reset()
    }

    /// When a refresh last succeeded, by the state in `state_dir`. Takes no lock:
    /// a look is always possible.
    pub fn last_refresh(state_dir: &Path) -> Result<Option<Timestamp>> {
        State::peek(state_dir).map(|floor| floor.and_then(|floor| floor.last_seen))
    }

    /// The environment that is followed.
    pub fn env(&self) -> &EnvName {
        &self.env
    }

    /// Brings the trusted metadata up to date from the store behind `backend`,
    /// as of `now`. When it fails, nothing that was trusted before has changed,
    /// except that metadata which passed every check may have been kept.
    pub fn refresh(&mut self, backend: &dyn Backend, now: Timestamp) -> Result<()> {
        self.trusted = None;
        let repository = StoreRepository::new(backend, &self.env);
        let trusted = twice(&repository, || {
            workflow::refresh(&self.state, Some(&self.env), &repository, now)
        })?;
        self.trusted = Some(trusted);
        Ok(())
    }

    /// The newest release of `name`, verified. Needs a [`refresh`](Self::refresh)
    /// before.
    pub fn release(&self, backend: &dyn Backend, name: &ImageName) -> Result<VerifiedRelease> {
        self.verified(backend, name, None)
    }

    /// The newest release of `name` that reaches this node and may run, verified, and the newest of
    /// all where that is another one; a release whose signed manifest `known` has costs no request.
    pub fn reached(
        &self,
        backend: &dyn Backend,
        name: &ImageName,
        asker: Asker<'_>,
        known: &dyn Fn(u64, &ImageId) -> Option<Vec<u8>>,
    ) -> Result<(VerifiedRelease, Option<Held>)> {
        let list = self.trusted()?.list();
        let ((seq, target, custom), held) = release::reached(list, &self.env, name, asker)?;
        let known = known(seq, &custom.image).filter(|json| release::is_signed(&target, json));
        let release = match known {
            Some(json) => release::believe(name, seq, &custom, json)?,
            None => self.verified(backend, name, Some(seq))?,
        };
        Ok((release, held))
    }

    /// Release `seq` of `name`, verified, if the newest release allows it.
    pub fn release_seq(
        &self,
        backend: &dyn Backend,
        name: &ImageName,
        seq: u64,
    ) -> Result<VerifiedRelease> {
        self.verified(backend, name, Some(seq))
    }

    /// The image of release `seq` of `name`, if the newest release allows it; by the metadata alone.
    pub fn allowed(&self, name: &ImageName, seq: u64) -> Result<ImageId> {
        let (_, _, custom) = release::find(self.trusted()?.list(), &self.env, name, Some(seq))?;
        Ok(custom.image)
    }

    /// Refuses a release that came by another way than the store (a manifest in a file) unless the
    /// newest list of releases has it, with this manifest. Needs a [`refresh`](Self::refresh) before.
    pub fn admits(&self, name: &ImageName, seq: u64, manifest: &[u8]) -> Result<()> {
        let list = self.trusted()?.list();
        let found = release::find(list, &self.env, name, Some(seq))?;
        may_be_carried(&found, name, manifest)
    }

    /// Does what [`admits`](Self::admits) does, offline: by the list that was trusted last, expired or not.
    /// A release that it does not have may be newer and is accepted; one that it revoked is refused.
    pub fn remembers_nothing_against(
        &self,
        name: &ImageName,
        seq: u64,
        image: &ImageId,
        manifest: &[u8],
    ) -> Result<()> {
        let Some(list) = Remembered::read(&self.state)? else {
            return Ok(());
        };
        if release::is_revoked(&list, &self.env, image)? {
            let text = format!(
                "release {seq} of {name} ({image}) was revoked in {}",
                self.env
            );
            return Err(Error::new(ErrorKind::Revoked, text));
        }
        let floor = self.state.floor()?;
        match release::find((&list, &floor), &self.env, name, Some(seq)) {
            Ok(found) => may_be_carried(&found, name, manifest),
            Err(error) if error.kind() == ErrorKind::NoRelease => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn trusted(&self) -> Result<&Trusted> {
        self.trusted.as_ref().ok_or_else(|| {
            let text = format!("the metadata of {} was not refreshed", self.env);
            Error::new(ErrorKind::NotRefreshed, text)
        })
    }

    fn verified(
        &self,
        backend: &dyn Backend,
        name: &ImageName,
        seq: Option<u64>,
    ) -> Result<VerifiedRelease> {
        let trusted = self.trusted()?;
        let repository = StoreRepository::new(backend, &self.env);
        twice(&repository, || {
            let found = release::find(trusted.list(), &self.env, name, seq)?;
            workflow::audit(&self.state, trusted, &repository)?;
            release::fetch(&repository, name, found)
        })
    }

    #[cfg(test)]
    pub(super) fn state(&self) -> &State {
        &self.state
    }
}

/// Refuses a manifest that is not the one that the list of releases has, and a release that is
/// halted. Who carries one by hand does not wait for its waves.
fn may_be_carried((seq, target, custom): &Found, name: &ImageName, manifest: &[u8]) -> Result<()> {
    if release::is_signed(target, manifest) {
        return release::is_not_halted(name, *seq, custom);
    }
    let text = format!("release {seq} of {name} was released with another manifest");
    Err(Error::new(ErrorKind::Mismatch, text))
}
