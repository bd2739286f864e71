//! Running a system: schroot sessions.
//!
//! ```text
//! start     note the session -> schroot --begin-session -> run `start` detached -> watch it for a moment
//! handover  begin a session of another generation -> check it -> move the traffic -> end the old one
//! reload    run `reload` in the session
//! watch     wait until it ends, whoever ends it
//! stop      run `stop` in the session -> wait -> end what remains -> schroot --end-session -> forget
//! ```
//! The session is noted before it begins, so that a killed `start` is found and cleaned up. What
//! runs is not noted anywhere: it is looked up in /proc each time (see `processes`), and a session
//! that schroot no longer knows, or whose mount is gone, as after a reboot, is stale and is
//! forgotten by the next command.
//!
//! schroot itself can only become users that the *host* knows. The users of an image are the
//! image's own, so schroot enters as root and `setpriv` of the image takes the numbers that the
//! signed manifest gives.
//!
//! ```text
//! watch      what becomes of a session that somebody watches
//! supervisor further processes that are started again
//! handover   a session of the active generation takes over from the one that runs
//! exec       a command of the operator's in a system
//! start      a session begins, and the app in it
//! reload     the app is told to reload
//! sweep      what was left of dead sessions goes
//! stop       the app is stopped, its session ended
//! health     whether an app works that was started
//! timers     jobs from time to time
//! further    processes beside the main one
//! app        how the image wants to be run
//! needs      what the image needs from the node, put into a session
//! traffic    which of two sessions gets connections
//! sockets    sockets that an app listens on
//! socket_file files of Unix sockets
//! log        what the app printed
//! scope      the unit of systemd, or the control group, in which the app lives
//! cgroup     control groups, where systemd does not run the machine
//! record     what is noted of a session
//! seen       further processes, found in /proc
//! processes  the processes of a session
//! address    what a system listens on
//! ```

pub mod address;
mod app;
mod cgroup;
mod exec;
mod further;
mod handover;
mod health;
mod log;
mod needs;
pub mod processes;
mod record;
mod reload;
mod scope;
mod seen;
mod socket_file;
pub mod sockets;
mod start;
mod stop;
mod supervisor;
mod sweep;
mod timers;
mod traffic;
mod watch;

pub use self::address::Address;
pub use self::app::follow_resolver;
pub use self::exec::{ExecRequest, exec, joined};
pub use self::further::{Further, all as further};
pub use self::handover::{Handover, bake, hand_over};
pub use self::log::bound as bound_log;
pub use self::needs::{NodeNames, data_directory};
pub use self::record::{Session, StartOptions, Timeouts, adopt, alive, endings, read};
pub use self::reload::reload;
pub use self::start::{check_needs, start};
pub use self::stop::{Stopped, stop};
pub use self::supervisor::Supervisor;
pub use self::sweep::{end_dead, sweep};
pub use self::timers::{Last, TimerStatus, Timers, timers};
pub use self::watch::{Outcome, Watch, WatchState, is_watched, note_watcher};
