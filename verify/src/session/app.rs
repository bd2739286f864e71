//! How an image wants to be run: its manifest's `run`, made into words for schroot.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use store::manifest::{Fences, Manifest, Needs, Process, Resolver, Run as Service, Timer, User};

use super::needs::{CREDENTIALS, Provided, resolve_as_the_node};
use super::record::Session;
use super::seen::LABEL;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::host::commands::HostCommand;
use crate::node::Node;
use crate::state::record::{Generation, SystemRecord};
use crate::system::SystemName;

/// The app of one generation.
#[derive(Clone, Debug)]
pub(super) struct App {
    pub(super) service: Service,
    /// The users of the image.
    users: Vec<User>,
    user: User,
    /// The user of the service, whose the data and the secrets are.
    owner: User,
    /// Whether somebody enters as another than the service.
    by_hand: bool,
    /// What the node gives; nothing until [`App::with_given`].
    pub(super) provided: Provided,
}

impl App {
    /// Reads the signed manifest of a generation.
    pub(super) fn load(node: &Node<'_>, record: &SystemRecord, number: u64) -> Result<Self> {
        let system = &record.system;
        let generation = installed(record, number)?;
        let manifest = node.state.manifest(generation.manifest)?;
        Self::of(manifest, system)
    }

    /// The app of an image.
    pub(super) fn of(manifest: Manifest, system: &SystemName) -> Result<Self> {
        let Some(service) = manifest.run else {
            return Err(Error::usage(format!(
                "the image of {system} is not meant to be started"
            )));
        };
        let user = find_user(&service.user, &manifest.users)?;
        Ok(Self {
            service,
            owner: user.clone(),
            user,
            users: manifest.users,
            by_hand: false,
            provided: Provided::default(),
        })
    }

    /// Adds what the node gives, or says what it does not give.
    pub(super) fn with_given(self, node: &Node<'_>, system: &SystemName) -> Result<Self> {
        let provided = Provided::find(node, system, &self.service, &self.owner)?;
        Ok(Self { provided, ..self })
    }

    /// Adds what the node gives to a session that runs: what is not given any more hinders nobody there.
    pub(super) fn with_given_if_there(mut self, node: &Node<'_>, system: &SystemName) -> Self {
        match Provided::find(node, system, &self.service, &self.owner) {
            Ok(provided) => self.provided = provided,
            Err(error) => {
                node.observer.event(Event::Note(&error.to_string()));
                // What bounds it does not go with what is missing.
                self.provided.fences =
                    Provided::fences_of(node, system, &self.service).unwrap_or(self.service.fences);
            }
        }
        self
    }

    /// What a user of the image would run, as the app's own unless another is named.
    pub(super) fn of_user(
        node: &Node<'_>,
        record: &SystemRecord,
        number: u64,
        user: Option<&str>,
    ) -> Result<Self> {
        let generation = installed(record, number)?;
        let manifest = node.state.manifest(generation.manifest)?;
        let mut service = manifest.run.unwrap_or_else(|| Service {
            user: "root".to_owned(),
            directory: "/".to_owned(),
            start: Vec::new(),
            stop: Vec::new(),
            reload: Vec::new(),
            environment: BTreeMap::new(),
            health: None,
            before_switch: Vec::new(),
            processes: Vec::new(),
            timers: Vec::new(),
            needs: Needs::default(),
            fences: Fences::default(),
        });
        let owner = find_user(&service.user, &manifest.users)?;
        if let Some(user) = user {
            user.clone_into(&mut service.user);
        }
        let user = find_user(&service.user, &manifest.users).map_err(|error| match user {
            None => error,
            Some(name) => {
                let names = manifest.users.iter().map(|user| user.name.as_str());
                let names = names.collect::<Vec<_>>().join(" ");
                Error::usage(format!(
                    "the image of {} has no user `{}`",
                    record.system,
                    name.escape_debug()
                ))
                .hint(format!("it has: {names}"))
            }
        })?;
        if !is_root(&user) && user.name != owner.name {
            // Nobody else reads secrets.
            service.needs.secret_environment.clear();
        }
        Ok(Self {
            service,
            by_hand: user.name != owner.name,
            user,
            owner,
            users: manifest.users,
            provided: Provided::default(),
        })
    }

    /// The app of a session; nothing if its system is gone.
    pub(super) fn of_session(node: &Node<'_>, session: &Session) -> Result<Option<Self>> {
        let record = node.state.system(&session.system)?;
        record
            .map(|record| Self::load(node, &record, session.generation))
            .transpose()
    }

    /// How a further process is run.
    pub(super) fn of_process(&self, process: &Process, label: &str) -> Result<Self> {
        let Process {
            user,
            directory,
            environment,
            ..
        } = process;
        self.labelled(user, directory, environment, label)
    }

    /// How the job of a timer is run.
    pub(super) fn of_timer(&self, timer: &Timer, label: &str) -> Result<Self> {
        let Timer {
            user,
            directory,
            environment,
            ..
        } = timer;
        self.labelled(user, directory, environment, label)
    }

    fn labelled(
        &self,
        user: &str,
        directory: &str,
        environment: &BTreeMap<String, String>,
        label: &str,
    ) -> Result<Self> {
        let user = find_user(user, &self.users)?;
        let mut app = self.clone();
        directory.clone_into(&mut app.service.directory);
        let own = environment.clone().into_iter();
        let label = (LABEL.to_owned(), label.to_owned());
        app.service.environment.extend(own.chain([label]));
        if !is_root(&user) && user.name != app.owner.name {
            // Nobody else reads secrets.
            app.service.needs.secret_environment.clear();
        }
        app.user = user;
        Ok(app)
    }

    /// Adds variables.
    pub(super) fn with_environment(mut self, more: &[(String, String)]) -> Self {
        self.service.environment.extend(more.iter().cloned());
        self
    }

    /// The shell of the user.
    pub(super) fn shell(&self) -> &str {
        match self.user.shell.as_str() {
            "" => "/bin/sh",
            shell => shell,
        }
    }

    /// The program of the image that becomes its user, in the tree of a session; root needs none.
    fn setpriv(&self, root: &Path) -> Result<Option<&'static str>> {
        if is_root(&self.user) && !self.gains_nothing() {
            return Ok(None);
        }
        let places = ["/usr/bin/setpriv", "/bin/setpriv"];
        let found = places.into_iter().find(|place| {
            fs::symlink_metadata(root.join(&place[1..])).is_ok_and(|found| found.is_file())
        });
        found.map(Some).ok_or_else(|| {
            let name = &self.user.name;
            let what = if is_root(&self.user) {
                "the image cannot set no-new-privileges: it has no setpriv".to_owned()
            } else {
                format!("the image cannot become the user {name}: it has no setpriv")
            };
            Error::failed(what).hint("build the image with the package util-linux")
        })
    }

    /// Whether its programs gain no rights.
    fn gains_nothing(&self) -> bool {
        self.provided.fences.no_new_privileges && !self.by_hand
    }

    /// The start command of the app in a session that has begun, with sockets to listen on passed
    /// as `sd_listen_fds(3)` has it. Only the program itself knows its number, so a shell of the
    /// image says it.
    pub(super) fn start(&self, session: &Session, sockets: Vec<OwnedFd>) -> Result<HostCommand> {
        let mut words = Vec::new();
        if !sockets.is_empty() {
            let count = format!("LISTEN_FDS={}", sockets.len());
            let shell = ["/bin/sh", "-c", "export LISTEN_PID=$$; exec \"$@\"", "sh"];
            words.push(count);
            words.extend(shell.map(str::to_owned));
        }
        words.extend_from_slice(&self.service.start);
        words.extend_from_slice(&session.words);
        Ok(self.enter(session, &words)?.sockets(sockets))
    }

    /// A command of the app in a session that has begun, beside what runs in it.
    pub(super) fn enter(&self, session: &Session, command: &[String]) -> Result<HostCommand> {
        let setpriv = self.setpriv(&session.root())?;
        let run = self.words(
            &["--run-session", "--chroot", &session.id],
            setpriv,
            command,
        );
        let run = match self.provided.fences.open_files {
            Some(files) => run.wrapped_by(["prlimit", &format!("--nofile={files}:{files}"), "--"]),
            None => run,
        };
        Ok(match session.any_process() {
            // Whatever the fences say by now, a session has one network.
            Some(pid) => run.wrapped_by([
                "nsenter",
                &format!("--ipc=/proc/{pid}/ns/ipc"),
                &format!("--net=/proc/{pid}/ns/net"),
                "--",
            ]),
            None => run,
        })
    }

    /// Gives a command that begins a session queues, semaphores and shared memory of its own, as a user of
    /// the image may have the number of one of the host; and a network, where it is to have none.
    pub(super) fn with_own_namespaces(&self, run: HostCommand) -> HostCommand {
        if self.provided.fences.private_network {
            let loopback = "ip link set lo up && exec \"$@\"";
            run.wrapped_by([
                "unshare", "--ipc", "--net", "--", "sh", "-c", loopback, "sh",
            ])
        } else {
            run.wrapped_by(["unshare", "--ipc", "--"])
        }
    }

    fn words(&self, chroot: &[&str], setpriv: Option<&str>, command: &[String]) -> HostCommand {
        let mut run = HostCommand::new("schroot")
            .args(chroot.iter().copied())
            .args(["--user", "root", "--directory"])
            .arg(&self.service.directory)
            .arg("--");
        if let Some(setpriv) = setpriv {
            run = run
                .arg(setpriv)
                .arg(format!("--reuid={}", self.user.uid))
                .arg(format!("--regid={}", self.user.gid))
                .arg("--init-groups");
            if self.gains_nothing() {
                run = run.arg("--no-new-privs");
            }
            run = run.arg("--");
        }
        let User {
            name, home, shell, ..
        } = &self.user;
        let own = [
            ("HOME", home),
            ("SHELL", shell),
            ("USER", name),
            ("LOGNAME", name),
        ];
        let more = self.service.environment.iter();
        let more = more.map(|(name, value)| (name.as_str(), value));
        let given = self.provided.environment.iter();
        let given = given.map(|(name, value)| (name.as_str(), value));
        let needs = &self.service.needs;
        let credentials = CREDENTIALS.to_owned();
        let credentials = (!needs.secrets.is_empty())
            .then_some(("CREDENTIALS_DIRECTORY", &credentials))
            .into_iter();
        run = run.arg("/usr/bin/env").args(
            own.into_iter()
                .chain(more)
                .chain(given)
                .chain(credentials)
                .map(|(name, value)| format!("{name}={value}")),
        );
        if !needs.secret_environment.is_empty() {
            // Arguments are for everybody to see, so the program itself reads the files.
            run = run.args(["/bin/sh", "-c", EXPORT_SECRETS, "sh"]);
            for (name, secret) in &needs.secret_environment {
                run = run.arg(name).arg(secret);
            }
            run = run.arg("--");
        }
        run.args(command)
    }
}

/// Lets a session that runs follow the resolver of the node, when that changes.
pub fn follow_resolver(node: &Node<'_>, session: &Session) -> Result<()> {
    let Some(record) = node.state.system(&session.system)? else {
        return Ok(());
    };
    let app = App::load(node, &record, session.generation)?;
    match app.service.needs.resolver {
        Resolver::Node => resolve_as_the_node(&session.root()),
        Resolver::Image => Ok(()),
    }
}

/// Reads pairs of a variable and a secret up to `--`, and becomes the command after that.
const EXPORT_SECRETS: &str = "\
while [ \"$1\" != -- ]; do
    value=$(cat \"$CREDENTIALS_DIRECTORY/$2\") || exit
    export \"$1=$value\"
    shift 2
done
shift
exec \"$@\"";

fn installed(record: &SystemRecord, number: u64) -> Result<&Generation> {
    record.generation(number).ok_or_else(|| {
        Error::failed(format!(
            "generation {number} of {} is not installed any more",
            record.system
        ))
    })
}

fn is_root(user: &User) -> bool {
    (user.uid, user.gid) == (0, 0)
}

fn find_user(name: &str, users: &[User]) -> Result<User> {
    if let Some(user) = users.iter().find(|user| user.name == name) {
        return Ok(user.clone());
    }
    if name == "root" {
        let (name, home, shell) = (name.to_owned(), "/root".to_owned(), "/bin/sh".to_owned());
        return Ok(User {
            name,
            uid: 0,
            gid: 0,
            home,
            shell,
        });
    }
    Err(Error::failed(format!(
        "the image runs as {name}, a user that its manifest does not list"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(name: &str, id: u32) -> App {
        let service = Service {
            user: name.to_owned(),
            directory: "/srv".to_owned(),
            start: vec!["run".to_owned()],
            stop: vec![],
            reload: vec![],
            environment: [("A".to_owned(), "b c".to_owned())].into(),
            health: None,
            before_switch: Vec::new(),
            processes: Vec::new(),
            timers: Vec::new(),
            needs: Needs::default(),
            fences: Fences::default(),
        };
        let (name, home, shell) = (
            name.to_owned(),
            format!("/home/{name}"),
            "/bin/sh".to_owned(),
        );
        let user = User {
            name,
            uid: id,
            gid: id,
            home,
            shell,
        };
        App {
            service,
            owner: user.clone(),
            users: vec![user.clone()],
            user,
            by_hand: false,
            provided: Provided::default(),
        }
    }

    #[test]
    fn the_words_for_schroot() {
        let shown = format!(
            "{:?}",
            app("op", 1000).words(
                &["--run-session", "--chroot", "web-1-a"],
                Some("/usr/bin/setpriv"),
                &["run".to_owned(), "x".to_owned()]
            )
        );
        for part in [
            "\"--run-session\", \"--chroot\", \"web-1-a\", \"--user\", \"root\"",
            "\"--directory\", \"/srv\", \"--\", \"/usr/bin/setpriv\"",
            "\"--reuid=1000\", \"--regid=1000\"",
            "\"HOME=/home/op\"",
            "\"A=b c\", \"run\", \"x\"",
        ] {
            assert!(shown.contains(part), "{part} in {shown}");
        }
        let root = format!(
            "{:?}",
            app("root", 0).words(&["--chroot", "chroot:web"], None, &["run".to_owned()])
        );
        assert!(!root.contains("setpriv"), "{root}");
    }

    #[test]
    fn users_are_those_that_were_signed() {
        let op = app("op", 1000).user;
        assert_eq!(find_user("op", std::slice::from_ref(&op)).unwrap(), op);
        assert_eq!(find_user("root", &[]).unwrap().uid, 0);
        assert!(find_user("www-data", &[op]).is_err());
    }
}
