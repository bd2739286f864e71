//! `imgnode run`: a system in the foreground, for a service manager.

use std::fmt::Write as _;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ::verify::error::{Context, Error, Kind, Result};
use ::verify::host::commands::describe as describe_end;
use ::verify::install::journal;
use ::verify::node::Node;
use ::verify::session::{
    self, Address, NodeNames, Outcome, Session, StartOptions, Supervisor, Timeouts, Timers, Watch,
    WatchState,
};
use ::verify::state::Lock;
use ::verify::system::SystemName;
use ::verify::trust::allowed;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::WaitOptions;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::receipts;
use crate::cli::notify::Manager;
use crate::cli::ui::Ui;

/// The pause between two looks whether another session took over, while nothing happens.
const TICK: Duration = Duration::from_secs(1);

/// The pause between two attempts to get the lock, and before a look at an app of which a process has ended:
/// there are some that begin new ones all the time.
const PAUSE: Duration = Duration::from_millis(100);

/// Signals that tell us something, and a pipe that wakes us.
struct Signals {
    stop: &'static AtomicBool,
    reload: Arc<AtomicBool>,
    pipe: UnixStream,
}

impl Signals {
    /// Listens for signals; `stop` is set already by those that end other commands.
    fn listen(stop: &'static AtomicBool) -> Result<Self> {
        let attempt = || {
            let reload = Arc::new(AtomicBool::new(false));
            signal_hook::flag::register(SIGHUP, Arc::clone(&reload))?;
            let (pipe, end) = UnixStream::pair()?;
            pipe.set_nonblocking(true)?;
            for signal in [SIGHUP, SIGINT, SIGTERM] {
                signal_hook::low_level::pipe::register(signal, end.try_clone()?)?;
            }
            Ok(Self { stop, reload, pipe })
        };
        attempt().map_err(|error: std::io::Error| {
            Error::failed("cannot listen for signals").source(&error)
        })
    }

    fn stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Waits for a signal, for what is watched, or until the time is over; says whether a process
    /// that is watched has ended.
    fn wait(&mut self, watch: Option<&Watch>, timeout: Duration) -> Result<bool> {
        let handles = watch.map_or(&[][..], Watch::handles);
        let mut each = vec![PollFd::new(&self.pipe, PollFlags::IN)];
        each.extend(handles.iter().map(|one| PollFd::new(one, PollFlags::IN)));
        let timeout = Timespec {
            tv_sec: timeout.as_secs().cast_signed(),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        match poll(&mut each, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context(|| "cannot wait for the app"),
        }
        let ended = each[1..].iter().any(|one| !one.revents().is_empty());
        // One byte for each signal; the flags say which.
        while matches!((&self.pipe).read(&mut [0; 16]), Ok(1..)) {}
        Ok(ended)
    }
}

/// A run of `imgnode run`.
struct Service<'a> {
    node: &'a Node<'a>,
    ui: &'a Ui,
    system: &'a SystemName,
    timeouts: Timeouts,
    manager: Manager,
    signals: Signals,
    /// What the session has of the node's names of hosts.
    names: NodeNames,
    supervisor: Supervisor,
    timers: Timers,
}

/// Runs a system until it is stopped or dies.
pub(crate) fn run(
    node: &Node<'_>,
    ui: &Ui,
    system: &SystemName,
    listen: Vec<Address>,
    words: Vec<String>,
    timeouts: Timeouts,
    stop: &'static AtomicBool,
) -> Result<ExitCode> {
    let mut service = Service {
        node,
        ui,
        system,
        timeouts,
        manager: Manager::from_env()?,
        signals: Signals::listen(stop)?,
        names: NodeNames::look(),
        supervisor: Supervisor::default(),
        timers: Timers::default(),
    };
    let ran = session::alive(node, system).map(|session| session.id);
    let session = match service.begin(listen, words) {
        Ok(Some(session)) => session,
        // Whatever had begun was ended.
        Ok(None) => return Ok(ExitCode::SUCCESS),
        Err(error) if error.kind() == Kind::Interrupted && service.signals.stop() => {
            return Ok(ExitCode::SUCCESS);
        }
        Err(error) => {
            receipts::service_began(node, ui, system, ran.as_deref(), Some(&error));
            return Err(error);
        }
    };
    // What is only for `status` to say ends no service, on a full disk either.
    if let Err(error) = session::note_watcher(node, system) {
        ui.note(&format!("note: {error}"));
    }
    service.manager.ready(&describe(&session));
    receipts::service_began(node, ui, system, ran.as_deref(), None);
    // From here on a signal ends nothing half-way.
    let node = Node {
        state: node.state.clone(),
        schroot: node.schroot.clone(),
        hooks: node.hooks.clone(),
        provisions: node.provisions.clone(),
        observer: node.observer,
        cancel: &AtomicBool::new(false),
    };
    Service {
        node: &node,
        ..service
    }
    .watch(session)
}

impl Service<'_> {
    /// Finds or starts the session; `None` if this process was told to stop before.
    fn begin(&mut self, listen: Vec<Address>, words: Vec<String>) -> Result<Option<Session>> {
        let (node, system) = (self.node, self.system);
        let asked = !listen.is_empty() || !words.is_empty();
        let Some(lock) = self.lock(true)? else {
            return Ok(None);
        };
        journal::recover_if_possible(node, &lock, system, true)?;
        let record = node.state.installed(system)?;
        session::sweep(node, &lock, system, self.timeouts)?;
        session::end_dead(node, &lock, system, self.timeouts)?;
        let options = if asked {
            StartOptions::new(listen, words)
        } else {
            StartOptions::remembered(node, system)?
        };
        if let Some(session) = session::read(node, system)? {
            self.ui
                .note(&format!("it runs already: {}", describe(&session)));
            if asked && (&session.listen, &session.words) != (&options.listen, &options.words) {
                self.ui.note(&format!(
                    "note: it was started in another way; to change that: imgnode stop {system}"
                ));
            }
            session::adopt(node, &lock, &session)?;
            return Ok(Some(session));
        }
        allowed::may_start(&record)?;
        let session = session::start(node, &lock, &record, &options, self.timeouts)?;
        self.ui.note(&describe(&session));
        Ok(Some(session))
    }

    /// Takes the lock when whoever has it is done. With `unless_stopped`, nothing if we are told to
    /// stop meanwhile.
    fn lock(&mut self, unless_stopped: bool) -> Result<Option<Lock>> {
        let mut said = false;
        loop {
            if unless_stopped && self.signals.stop() {
                return Ok(None);
            }
            match self.node.state.lock(self.system) {
                Err(error) if error.kind() == Kind::Busy => {
                    if !said {
                        self.ui.note("another imgnode is at work; waiting for it");
                        self.manager.status("waiting for another imgnode");
                        said = true;
                    }
                }
                lock => return lock.map(Some),
            }
            self.signals.wait(None, PAUSE)?;
        }
    }

    /// Follows the system from session to session until it ends.
    fn watch(&mut self, session: Session) -> Result<ExitCode> {
        let mut watch = Watch::new(session);
        loop {
            if self.signals.stop() {
                return self.stop(&watch.session().id);
            }
            if self.signals.reload.swap(false, Ordering::Relaxed) {
                self.reload(&watch)?;
                continue;
            }
            let mut seen = watch.check(self.node)?;
            if seen == WatchState::Gone {
                let Some(lock) = self.lock(true)? else {
                    continue;
                };
                match watch.outcome(self.node, &lock)? {
                    Outcome::Runs(now) => seen = now,
                    Outcome::Stopped => {
                        self.manager.stopping();
                        self.ui.note(&format!("{} was stopped", self.system));
                        return Ok(ExitCode::SUCCESS);
                    }
                    Outcome::Died(error) => {
                        self.manager.status("died");
                        session::end_dead(self.node, &lock, self.system, self.timeouts)?;
                        drop(lock);
                        let session = &watch.session().id;
                        receipts::service_ended(
                            self.node,
                            self.ui,
                            self.system,
                            session,
                            Some(&error),
                        );
                        return Err(error);
                    }
                }
                self.manager.status(&describe(watch.session()));
            }
            if seen == WatchState::Replaced {
                let now = describe(watch.session());
                self.ui.note(&now);
                self.manager.status(&now);
            }
            // What we started ourselves is our child.
            while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
                let (pid, status) = (
                    pid.as_raw_nonzero().get(),
                    ExitStatus::from_raw(status.as_raw()),
                );
                self.supervisor.child_ended(pid, describe_end(status));
                self.timers.child_ended(pid, status);
            }
            if seen != WatchState::Gone {
                let (node, session) = (self.node, watch.session());
                let looked = self.supervisor.look(node, session, self.timeouts);
                for error in [looked, self.timers.look(node, session, self.timeouts.end)]
                    .into_iter()
                    .filter_map(Result::err)
                {
                    self.ui.note(&format!("note: {error}"));
                }
            }
            let now = NodeNames::look();
            if now != self.names {
                self.names = now;
                if let Err(error) = session::follow_resolver(self.node, watch.session()) {
                    self.ui.note(&format!("note: {error}"));
                }
            }
            if let Err(error) = session::bound_log(self.node, self.system) {
                self.ui.note(&format!("note: {error}"));
            }
            if self.signals.wait(Some(&watch), TICK)? {
                self.signals.wait(None, PAUSE)?;
            }
        }
    }

    fn reload(&mut self, watch: &Watch) -> Result<()> {
        let Some(lock) = self.lock(true)? else {
            return Ok(());
        };
        self.manager.reloading();
        let record = self.node.state.installed(self.system)?;
        match session::reload(self.node, &record, self.timeouts) {
            Ok(_) => self.ui.note(&format!("{} was told to reload", self.system)),
            // If the app did not survive it, we are about to see that.
            Err(error) => {
                self.ui.fail(&error);
            }
        }
        drop(lock);
        self.manager.ready(&describe(watch.session()));
        Ok(())
    }

    /// Stops the system, whichever session it has now.
    fn stop(&mut self, session: &str) -> Result<ExitCode> {
        self.manager.stopping();
        let (node, system) = (self.node, self.system);
        let Some(lock) = self.lock(false)? else {
            return Ok(ExitCode::FAILURE);
        };
        journal::recover_if_possible(node, &lock, system, false)?;
        let record = node.state.installed(system)?;
        let nothing =
            session::read(node, system)?.is_none() && session::endings(node, system)?.is_empty();
        if !nothing {
            // A service manager that says stop does not ask twice.
            let stopped = session::stop(node, &record, self.timeouts, true)?;
            for process in stopped.killed {
                self.ui
                    .note(&format!("killed {}: {}", process.pid, process.command));
            }
        }
        drop(lock);
        self.ui.note(&format!("{system} is stopped"));
        receipts::service_ended(node, self.ui, system, session, None);
        Ok(ExitCode::SUCCESS)
    }
}

/// A running session in one line.
fn describe(session: &Session) -> String {
    let Session {
        system,
        generation,
        id,
        ..
    } = session;
    let mut line = format!("generation {generation} of {system} runs in the session {id}");
    for address in &session.listen {
        let _ = write!(line, ", listening on {address}");
    }
    line
}
