//! What runs: free steps, tests, the service, and the cleaning after all.

use std::collections::BTreeMap;

use super::section::section;
use super::value::Timeout;
use super::word::{Login, Script, Title, TreeGlob, TreePath};

section! {
    /// A free step for what no other section covers. Any number, in order,
    /// after virtualenvs and before tests. Its text is part of its key: it
    /// runs again when it, or anything before it, changes.
    pub struct Run "[[run]]" {
        /// The commands, for `sh -eu`.
        ///
        /// Example: `script = "fc-cache -f"`
        script: Script = "script" required;
        /// The name shown while it runs.
        ///
        /// Example: `name = "warm the cache"`
        name: Title = "name" default(first_line(&script)) "the first line of the script";
        /// Who runs it.
        ///
        /// Example: `user = "operador"`
        user: Login = "user" default(Login::root()) "root";
        /// The working directory.
        ///
        /// Example: `directory = "/tmp"`
        directory: TreePath = "directory" default(TreePath::known("/")) "/";
        /// Environment variables besides the fixed ones.
        ///
        /// Example: `environment = { MODE = "fast" }`
        environment: BTreeMap<String, String> = "environment" optional;
        /// After how long it is ended and has failed.
        ///
        /// Example: `timeout = "30m"`
        timeout: Timeout = "timeout" default(Timeout::seconds(3600)) "1h";
    }
}

section! {
    /// A command that must succeed in the finished tree, or no image is made.
    /// What it writes is thrown away.
    pub struct Test "[[test]]" {
        /// The name shown while it runs.
        ///
        /// Example: `name = "the app imports"`
        name: Title = "name" required;
        /// Program and arguments. Either this or `script`.
        ///
        /// Example: `command = ["/usr/bin/python3", "-c", "import app"]`
        command: Vec<Argument> = "command" optional;
        /// Commands for `sh -eu`. Either this or `command`.
        ///
        /// Example: `script = "test -x /usr/bin/git"`
        script: Option<Script> = "script" optional;
        /// Who runs it.
        ///
        /// Example: `user = "operador"`
        user: Login = "user" default(Login::root()) "root";
        /// The working directory.
        ///
        /// Example: `directory = "/home/operador"`
        directory: TreePath = "directory" default(TreePath::known("/tmp")) "/tmp";
        /// Environment variables besides the fixed ones.
        ///
        /// Example: `environment = { DEBUG = "1" }`
        environment: BTreeMap<String, String> = "environment" optional;
        /// After how long it is ended and has failed.
        ///
        /// Example: `timeout = "90s"`
        timeout: Timeout = "timeout" default(Timeout::seconds(600)) "10m";
    }
}

section! {
    /// How a session of the image is run on a node.
    pub struct Service "[service]" {
        /// Who runs it.
        ///
        /// Example: `user = "operador"`
        user: Login = "user" default(Login::root()) "root";
        /// Program and arguments; it stays in the foreground.
        ///
        /// Example: `start = ["/home/operador/bin/project", "start", "MyProject", "myproject:app"]`
        start: Vec<Argument> = "start" required;
        /// What ends it.
        ///
        /// Example: `stop = ["/home/operador/bin/project", "stop", "MyProject"]`
        stop: Vec<Argument> = "stop" default(Vec::new()) "SIGTERM to the process that start began";
        /// What makes it load its code again without dropping a request.
        ///
        /// Example: `reload = ["/home/operador/bin/project", "reload", "MyProject"]`
        reload: Vec<Argument> = "reload" default(Vec::new()) "SIGHUP to the process that start began";
        /// The working directory.
        ///
        /// Example: `directory = "/home/operador"`
        directory: TreePath = "directory" default(TreePath::known("/")) "/";
        /// Environment variables for all three.
        ///
        /// Example: `environment = { BIND = "127.0.0.1:8000" }`
        environment: BTreeMap<String, String> = "environment" optional;
        /// How a node finds out that it works, before it gets any traffic.
        health: Option<Health> = "health" optional;
    }
}

section! {
    /// How a node finds out that a session works. One that does not never gets
    /// traffic: the generation before it goes on. Either `http` or `command`.
    pub struct Health "[service.health]" {
        /// The path of a page that answers with 200 to 399 where the service listens.
        ///
        /// Example: `http = "/version.txt"`
        http: Option<RequestPath> = "http" optional;
        /// Further headers of the request for that page.
        ///
        /// Example: `headers = ["Host: www.example"]`
        headers: Vec<Header> = "headers" optional;
        /// A program and its arguments that succeed in the session, as its user.
        ///
        /// Example: `command = ["/home/operador/bin/check"]`
        command: Vec<Argument> = "command" optional;
        /// It is asked each second, and has failed after so long.
        ///
        /// Example: `within = "2m"`
        within: Timeout = "within" default(Timeout::seconds(60)) "1m";
        /// How long one attempt may take.
        ///
        /// Example: `timeout = "2s"`
        timeout: Timeout = "timeout" default(Timeout::seconds(5)) "5s";
    }
}

section! {
    /// What is removed before packing, besides the default list.
    pub struct Clean "[clean]" {
        /// Paths to remove; `*` and `?` match within a name, `**` any number
        /// of names.
        ///
        /// Example: `remove = ["/usr/share/doc/**"]`
        remove: Vec<TreeGlob> = "remove" optional;
        /// Paths that stay although the default list removes them.
        ///
        /// Example: `keep = ["/var/log/app/**"]`
        keep: Vec<TreeGlob> = "keep" optional;
        /// Whether packages that nothing needs any more are removed.
        ///
        /// Example: `autoremove = false`
        autoremove: bool = "autoremove" default(true) "true";
    }
}

super::word::word! {
    /// One argument of a command.
    pub struct Argument: "an argument", "a list of strings: a program and its arguments",
        "a string without NUL", |text| super::grammar::fits(!text.contains('\0'));
    /// A header of a request (RFC 9112, 5).
    pub struct Header: "a header", "a list of headers",
        "name, colon and value, such as `Host: www.example`",
        |text| super::grammar::fits(text.split_once(": ").is_some_and(|(name, value)| {
            let in_name = |b: u8| b.is_ascii_alphanumeric() || b"-_.!#$%&'*+^`|~".contains(&b);
            !name.is_empty() && name.bytes().all(in_name)
                && value.bytes().all(|b| b == b' ' || b.is_ascii_graphic())
        }));
    /// What stands behind the host in a URL: path and query (RFC 9112, 3.2.1).
    pub struct RequestPath: "the path of a page", "a list of paths of pages",
        "a path with its leading `/`, such as `/health?full=1`",
        |text| super::grammar::fits(
            text.starts_with('/') && text.bytes().all(|b| b.is_ascii_graphic() && b != b'#')
        );
}

/// The first line of a script that says something.
fn first_line(script: &Script) -> Title {
    let lines = || script.as_str().lines().map(str::trim);
    let line = lines()
        .find(|line| !line.is_empty() && !line.starts_with('#') && !line.starts_with("set -"))
        .or_else(|| lines().find(|line| !line.is_empty()))
        .unwrap_or_default();
    let shown: String = line.chars().filter(|c| !c.is_control()).take(60).collect();
    Title::known(shown.trim())
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
