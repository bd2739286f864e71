//! What runs: free steps, tests, the service, and the cleaning after all.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::value::{Count, Memory, OpenFiles, Resolver, Share, Tasks, Timeout};
use super::word::{
    Login, ProcessName, Script, SecretName, SignalName, TimeOfDay, Title, TreeGlob, TreePath,
    Variable,
};

/// A script for what no other section covers. Scripts run in order, after
/// virtualenvs and before tests. A script runs again when it, or anything
/// before it, changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Run {
    /// The commands, for `sh -eu`.
    ///
    /// Example: `script = "fc-cache -f"`
    pub script: Script,
    /// The name shown while it runs. Default: the first line of the script.
    ///
    /// Example: `name = "warm the cache"`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Title>,
    /// Who runs it. Default: root.
    ///
    /// Example: `user = "operador"`
    #[serde(default = "Login::root")]
    pub user: Login,
    /// The working directory. Default: /.
    ///
    /// Example: `directory = "/tmp"`
    #[serde(default = "TreePath::root")]
    pub directory: TreePath,
    /// Environment variables, in addition to the fixed ones.
    ///
    /// Example: `environment = { MODE = "fast" }`
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<Variable, String>,
    /// The time after which it is stopped and counts as failed. Default: `1h`.
    ///
    /// Example: `timeout = "30m"`
    #[serde(default = "Timeout::hour")]
    pub timeout: Timeout,
}

/// A command that must succeed in the finished tree, or no image is made.
/// What it writes is discarded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Test {
    /// The name shown while it runs.
    ///
    /// Example: `name = "the app imports"`
    pub name: Title,
    /// Program and arguments. Either this or `script`.
    ///
    /// Example: `command = ["/usr/bin/python3", "-c", "import app"]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<Argument>,
    /// Commands for `sh -eu`. Either this or `command`.
    ///
    /// Example: `script = "test -x /usr/bin/git"`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub script: Option<Script>,
    /// Who runs it. Default: root.
    ///
    /// Example: `user = "operador"`
    #[serde(default = "Login::root")]
    pub user: Login,
    /// The working directory. Default: /tmp.
    ///
    /// Example: `directory = "/home/operador"`
    #[serde(default = "TreePath::tmp")]
    pub directory: TreePath,
    /// Environment variables, in addition to the fixed ones.
    ///
    /// Example: `environment = { DEBUG = "1" }`
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<Variable, String>,
    /// The time after which it is stopped and counts as failed. Default: `10m`.
    ///
    /// Example: `timeout = "90s"`
    #[serde(default = "Timeout::ten_minutes")]
    pub timeout: Timeout,
}

/// How the image's application is run on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Service {
    /// Who runs it. Default: root.
    ///
    /// Example: `user = "operador"`
    #[serde(default = "Login::root")]
    pub user: Login,
    /// Program and arguments. The program must stay in the foreground.
    ///
    /// Example: `start = ["/home/operador/bin/project", "start", "MyProject", "myproject:app"]`
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub start: Vec<Argument>,
    /// The command that stops it. Default: SIGTERM to the process that start began.
    ///
    /// Example: `stop = ["/home/operador/bin/project", "stop", "MyProject"]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<Argument>,
    /// The command that makes it reload its code without dropping a request.
    /// Default: SIGHUP to the process that start began.
    ///
    /// Example: `reload = ["/home/operador/bin/project", "reload", "MyProject"]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reload: Vec<Argument>,
    /// The working directory. Default: /.
    ///
    /// Example: `directory = "/home/operador"`
    #[serde(default = "TreePath::root")]
    pub directory: TreePath,
    /// Environment variables for all three.
    ///
    /// Example: `environment = { BIND = "127.0.0.1:8000" }`
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<Variable, String>,
    /// Directories of data, which outlive upgrades, rollbacks and the system: on a node
    /// their content is the node's, bound into each session. They are made with the owner
    /// and mode that they have in the image, else for `user` alone, and begin empty.
    ///
    /// Example: `state = ["/var/lib/myproject"]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub state: Vec<TreePath>,
    /// The same for what can be made again.
    ///
    /// Example: `cache = ["/var/cache/myproject"]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cache: Vec<TreePath>,
    /// The same for logs.
    ///
    /// Example: `logs = ["/var/log/myproject"]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logs: Vec<TreePath>,
    /// Names of secrets. A node gives their values, which are in no image; processes find
    /// them as files of these names in the directory `$CREDENTIALS_DIRECTORY`, readable by
    /// `user` alone.
    ///
    /// Example: `secrets = ["database-url"]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretName>,
    /// Environment variables whose values are secrets, for programs that read no files.
    ///
    /// Example: `secret-environment = { DATABASE_URL = "database-url" }`
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secret_environment: BTreeMap<Variable, SecretName>,
    /// Environment variables that each node must give a value.
    ///
    /// Example: `settings = ["ALLOWED_HOSTS"]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<Variable>,
    /// Whose `/etc/resolv.conf` a session has, and whose `/etc/hosts` unless the image has
    /// one of its own: `node` or `image`. Default: `node`.
    ///
    /// Example: `resolver = "image"`
    #[serde(default, skip_serializing_if = "Resolver::is_default")]
    pub resolver: Resolver,
    /// A command that runs once in a new generation, as `user`, before its service starts
    /// there; such as a migration. If it fails, the generation before stays the active one.
    ///
    /// Example: `before-switch = ["/srv/myproject/bin/manage", "migrate"]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before_switch: Vec<Argument>,
    /// How a node checks that the service works, before sending it traffic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// What bounds its processes on a node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fences: Option<Fences>,
}

/// What bounds the main process on a node, and each further one, with all that it starts
/// itself. The node's own file may say otherwise, key by key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Fences {
    /// Memory. What needs more is killed.
    ///
    /// Example: `memory = "512M"`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// Time of processors: `100%` is all of one.
    ///
    /// Example: `cpu = "150%"`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Share>,
    /// Processes and threads.
    ///
    /// Example: `tasks = 64`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tasks: Option<Tasks>,
    /// Files that one process may have open, sockets too.
    ///
    /// Example: `open-files = 4096`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_files: Option<OpenFiles>,
    /// Whether no program gains rights by set-user-ID bits or file capabilities.
    ///
    /// Example: `no-new-privileges = true`
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_new_privileges: bool,
    /// Whether the service has no network but the sockets that the node listens on for it.
    ///
    /// Example: `private-network = true`
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub private_network: bool,
    /// Whether the tree cannot be written, not even for one session: all but the directories
    /// that the node gives, and `/tmp`, `/var/tmp` and `/run`, which begin empty.
    ///
    /// Example: `read-only = true`
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
}

/// How a node checks that a new session works. If it does not, the session gets
/// no traffic, and the generation before it stays in use. Give either `http` or
/// `command`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Health {
    /// A path that the service must answer with a status from 200 to 399.
    ///
    /// Example: `http = "/version.txt"`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<RequestPath>,
    /// Additional headers of that request.
    ///
    /// Example: `headers = ["Host: www.example"]`
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<Header>,
    /// A command that must succeed in the session; it runs as the service's user.
    ///
    /// Example: `command = ["/home/operador/bin/check"]`
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<Argument>,
    /// The check is repeated every second, and has failed after this time. Default: `1m`.
    ///
    /// Example: `within = "2m"`
    pub within: Timeout,
    /// How long one attempt may take. Default: `5s`.
    ///
    /// Example: `timeout = "2s"`
    pub timeout: Timeout,
    /// For how long it is asked again each second after an upgrade or a switch. If it does not
    /// work for as long as `within` says, or dies, the generation before comes back by itself.
    ///
    /// Example: `bake = "5m"`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bake: Option<Timeout>,
}

/// A process that runs beside the one of `[service]`, such as a worker: with the same data,
/// secrets and settings. It is started after that one works, and stopped before it. Its
/// environment has `IMGNODE_PROCESS=NAME.NUMBER`. `docs/node.md` says in which order processes
/// start and stop when a node switches generations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Process {
    /// Its name, in the log and in `imgnode status`.
    ///
    /// Example: `name = "worker"`
    pub name: ProcessName,
    /// Program and arguments. The program must stay in the foreground.
    ///
    /// Example: `command = ["/srv/myproject/bin/celery", "worker"]`
    pub command: Vec<Argument>,
    /// The user that it runs as; another one than the service's reads no secrets. Default: the
    /// service's.
    ///
    /// Example: `user = "worker"`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<Login>,
    /// The working directory. Default: the service's.
    ///
    /// Example: `directory = "/srv/myproject"`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<TreePath>,
    /// Environment variables, in addition to the service's.
    ///
    /// Example: `environment = { QUEUE = "mail" }`
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<Variable, String>,
    /// How many of it run. Default: 1.
    ///
    /// Example: `count = 2`
    #[serde(default)]
    pub count: Count,
    /// The signal that asks it to end. Default: `TERM`.
    ///
    /// Example: `stop-signal = "INT"`
    #[serde(default)]
    pub stop_signal: SignalName,
    /// The signal that makes it reload. Without it, `imgnode reload` leaves it alone.
    ///
    /// Example: `reload-signal = "HUP"`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reload_signal: Option<SignalName>,
    /// Whether it may run in two generations at once. If not, that of the old generation ends
    /// before that of the new one starts. Default: false.
    ///
    /// Example: `overlap = true`
    #[serde(default)]
    pub overlap: bool,
}

/// A job that a node runs in the session from time to time, such as a nightly clean-up: with
/// the same data, secrets and settings as the service, never twice at once. `imgnode run` starts
/// it, after a time in which the node was off once. Give either `every` or `at`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Timer {
    /// Its name, in the log and in `imgnode status`.
    ///
    /// Example: `name = "nightly"`
    pub name: ProcessName,
    /// Program and arguments.
    ///
    /// Example: `command = ["/srv/myproject/bin/manage", "clearsessions"]`
    pub command: Vec<Argument>,
    /// The user that it runs as; another one than the service's reads no secrets. Default: the
    /// service's.
    ///
    /// Example: `user = "worker"`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<Login>,
    /// The working directory. Default: the service's.
    ///
    /// Example: `directory = "/srv/myproject"`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<TreePath>,
    /// Environment variables, in addition to the service's.
    ///
    /// Example: `environment = { MODE = "nightly" }`
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<Variable, String>,
    /// The time from one start to the next, at least a minute.
    ///
    /// Example: `every = "15m"`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<Timeout>,
    /// The time of day of UTC, which has every time of day once a day.
    ///
    /// Example: `at = "03:30"`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<TimeOfDay>,
    /// How long it may run: then it gets SIGTERM, and whatever is left of it half a minute later is
    /// killed. Without it a job that hangs keeps those after it from starting. Default: none.
    ///
    /// Example: `limit = "1h"`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<Timeout>,
}

/// What to remove before packing, in addition to the default list
/// (`docs/normalisation.md`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Clean {
    /// Paths to remove; `*` and `?` match within a name, `**` any number
    /// of names.
    ///
    /// Example: `remove = ["/usr/share/doc/**"]`
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<TreeGlob>,
    /// Paths to keep although the default list would remove them.
    ///
    /// Example: `keep = ["/var/log/app/**"]`
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keep: Vec<TreeGlob>,
    /// Whether to remove packages that nothing depends on any more. Default: true.
    ///
    /// Example: `autoremove = false`
    pub autoremove: bool,
}

super::word::word! {
    /// One argument of a command.
    pub struct Argument: "an argument",
        "a string without NUL", |text| super::grammar::fits(!text.contains('\0'));
    /// A header of a request (RFC 9112, 5).
    pub struct Header: "a header",
        "name, colon and value, such as `Host: www.example`",
        |text| super::grammar::fits(text.split_once(": ").is_some_and(|(name, value)| {
            let in_name = |b: u8| b.is_ascii_alphanumeric() || b"-_.!#$%&'*+^`|~".contains(&b);
            !name.is_empty() && name.bytes().all(in_name)
                && value.bytes().all(|b| b == b' ' || b.is_ascii_graphic())
        }));
    /// What stands behind the host in a URL: path and query (RFC 9112, 3.2.1).
    pub struct RequestPath: "the path of a page",
        "a path with its leading `/`, such as `/health?full=1`",
        |text| super::grammar::fits(
            text.starts_with('/') && text.bytes().all(|b| b.is_ascii_graphic() && b != b'#')
        );
}

/// Environment variables as plain names and values.
pub(crate) fn variables(
    environment: &BTreeMap<Variable, String>,
) -> impl Iterator<Item = (String, String)> {
    let variables = environment.iter();
    variables.map(|(name, value)| (name.to_string(), value.clone()))
}

impl Run {
    /// The name shown while it runs: by default the first line of the script that says something.
    pub fn name(&self) -> Title {
        let lines = || self.script.as_str().lines().map(str::trim);
        let first = || {
            let line = lines()
                .find(|line| {
                    !line.is_empty() && !line.starts_with('#') && !line.starts_with("set -")
                })
                .or_else(|| lines().find(|line| !line.is_empty()))
                .unwrap_or_default();
            let shown: String = line.chars().filter(|c| !c.is_control()).take(60).collect();
            Title::known(shown.trim())
        };
        self.name.clone().unwrap_or_else(first)
    }
}

impl Default for Health {
    fn default() -> Self {
        Health {
            http: None,
            headers: Vec::new(),
            command: Vec::new(),
            within: Timeout::seconds(60),
            timeout: Timeout::seconds(5),
            bake: None,
        }
    }
}

impl Default for Clean {
    fn default() -> Self {
        Clean {
            remove: Vec::new(),
            keep: Vec::new(),
            autoremove: true,
        }
    }
}

impl Test {
    /// What to run: the command, or a shell with the script.
    pub fn argv(&self) -> Vec<&str> {
        match &self.script {
            Some(script) => vec!["/bin/sh", "-eu", "-c", script.as_str()],
            None => self.command.iter().map(Argument::as_str).collect(),
        }
    }
}
