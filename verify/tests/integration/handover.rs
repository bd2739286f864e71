//! From one generation to another while clients ask all the time: no request fails, whatever the
//! next generation does.

mod kept;
mod unix_sockets;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::support::{Farm, install_program, wait_for};
use store::manifest::Health;

/// A web server for the socket that it is given; how well it works is in /etc/mode.
const SERVER: &str = r#"
sub line { open(my $file, '<', $_[0]) or return ''; my $line = <$file> // ''; chomp $line; $line }
my ($version, $mode) = (line('/etc/version'), line('/etc/mode'));
exit 3 if $mode eq 'crash';
die "no socket was passed\n" unless $ENV{LISTEN_FDS} == 1 && $ENV{LISTEN_PID} == $$;
open(my $listener, '+<&=', 3) or die "descriptor 3: $!\n";
my ($over, $served) = (0, 0);
$SIG{TERM} = sub { $over = 1 unless $mode eq 'stuck' };
$SIG{PIPE} = 'IGNORE';
$SIG{HUP} = sub { $mode = 'sick' } if $mode eq 'turns';
until ($over) {
    my $ready = '';
    vec($ready, 3, 1) = 1;
    next unless select($ready, undef, undef, 0.02) > 0;
    accept(my $client, $listener) or next;
    my $line = <$client>;
    while (defined(my $header = <$client>)) { last if $header =~ /^\r?$/ }
    select(undef, undef, undef, 2) if $line =~ m{ /slow };
    $mode = 'sick' if $mode eq 'tires' && ++$served > 2;
    my $status = $mode eq 'sick' ? '500 Sick' : '200 OK';
    print $client "HTTP/1.0 $status\r\nContent-Length: " . length($version) . "\r\n\r\n$version";
    close $client;
}
"#;

const APP: &str = "#!/bin/sh\n\
    case $1 in\n\
    start) echo $$ > /home/op/app.pid; exec /usr/bin/perl /srv/server.pl ;;\n\
    stop) read pid < /home/op/app.pid; kill -TERM $pid ;;\n\
    esac\n";

/// A farm whose image answers on a socket that it gets.
struct Served {
    farm: Farm,
    /// As `--listen` takes it.
    address: String,
}

impl Served {
    fn new(name: &str) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap().to_string();
        drop(free);
        Self::at(Farm::new(name), address, SERVER)
    }

    /// One that listens on a Unix socket, in a directory that is not there yet.
    fn at_a_file(name: &str) -> Self {
        let farm = Farm::new(name);
        let path = farm.path("run/web/app.sock");
        Self::at(farm, format!("unix:{}", path.display()), SERVER)
    }

    /// The path of its Unix socket.
    fn path(&self) -> PathBuf {
        self.address.strip_prefix("unix:").unwrap().into()
    }

    fn at(mut farm: Farm, address: String, program: &str) -> Self {
        let tree = farm.path("tree");
        install_program(&tree, Path::new("/usr/bin/perl"));
        for (path, text) in [("srv/app", APP), ("srv/server.pl", program)] {
            fs::remove_file(tree.join(path)).ok();
            fs::write(tree.join(path), text).unwrap();
        }
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(tree.join("srv/app"), open).unwrap();
        // Half of them are stopped by a signal.
        let name = farm.system.split('-').next().unwrap_or_default();
        farm.signals = ["sick", "cut", "turns"].contains(&name);
        farm.health = Some(Health {
            http: "/up".to_owned(),
            headers: vec!["X-Asked-By: imgnode".to_owned()],
            command: Vec::new(),
            within: 3,
            timeout: 1,
            bake: None,
        });
        let served = Self { farm, address };
        served.release(2, "well");
        served.farm.install();
        let system = served.farm.system.clone();
        served
            .farm
            .ok(&["start", &system, "--listen", &served.address]);
        served
    }

    fn release(&self, version: u32, mode: &str) {
        fs::write(self.farm.path("tree/etc/mode"), mode).unwrap();
        self.farm.release(version);
    }

    fn get(&self, path: &str) -> Result<String, String> {
        get(&self.address, path)
    }

    /// The generation that is active and the one that runs.
    fn generations(&self) -> (u64, u64) {
        let status = self.farm.status();
        let number = |path: &str| status.pointer(path).and_then(serde_json::Value::as_u64);
        (
            number("/systems/0/generation").unwrap_or(0),
            number("/systems/0/session/generation").unwrap_or(0),
        )
    }

    fn close(self) {
        self.farm.ok(&["stop", &self.farm.system, "--force"]);
        self.farm.close();
    }
}

/// A connection to a server.
trait Connection: Read + Write + Send {}

impl<C: Read + Write + Send> Connection for C {}

fn connect(address: &str) -> std::io::Result<Box<dyn Connection>> {
    let timeout = Some(Duration::from_secs(20));
    if let Some(path) = address.strip_prefix("unix:") {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(timeout)?;
        return Ok(Box::new(stream));
    }
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(timeout)?;
    Ok(Box::new(stream))
}

/// The content of a page.
fn get(address: &str, path: &str) -> Result<String, String> {
    let talk = || -> std::io::Result<String> {
        let mut stream = connect(address)?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = talk().map_err(|error| error.to_string())?;
    let (head, content) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
    if head.starts_with("HTTP/1.0 200 ") {
        Ok(content.to_owned())
    } else {
        Err(head.to_owned())
    }
}

/// Clients that ask all the time.
struct Clients {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Asked>>,
}

/// How many answers each version gave, and what failed.
type Asked = (BTreeMap<String, u64>, Vec<String>);

impl Clients {
    fn of(served: &Served) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let client = |over: Arc<AtomicBool>, address: String| {
            let (mut answers, mut failures) = (BTreeMap::new(), Vec::new());
            while !over.load(Ordering::Relaxed) {
                match get(&address, "/") {
                    Ok(version) => *answers.entry(version).or_default() += 1,
                    Err(error) => failures.push(error),
                }
            }
            (answers, failures)
        };
        let threads = (0..4).map(|_| {
            let (over, address) = (Arc::clone(&over), served.address.clone());
            thread::spawn(move || client(over, address))
        });
        Self {
            threads: threads.collect(),
            over,
        }
    }

    /// How many answers each version gave. No request may have failed.
    #[track_caller]
    fn end(self) -> BTreeMap<String, u64> {
        self.over.store(true, Ordering::Relaxed);
        let (mut all, mut failed) = (BTreeMap::new(), Vec::new());
        for thread in self.threads {
            let (answers, failures) = thread.join().unwrap();
            for (version, count) in answers {
                *all.entry(version).or_default() += count;
            }
            failed.extend(failures);
        }
        assert!(failed.is_empty(), "{} of {all:?}: {failed:?}", failed.len());
        all
    }
}

#[test]
fn a_generation_that_breaks_while_it_is_watched_goes_back_by_itself() {
    let mut served = Served::new("tired");
    let system = served.farm.system.clone();
    served.farm.health.as_mut().unwrap().bake = Some(3600);
    served.release(3, "tires");
    let said = served.farm.fails(&["upgrade", &system], 1);
    assert!(said.contains("went back to generation 1"), "{said}");
    assert_eq!(served.generations(), (1, 1));
    assert_eq!(served.get("/up").unwrap(), "2");
    // It is remembered, and not tried again by itself.
    let status = served.farm.status();
    assert_eq!(status["systems"][0]["failed_release"]["seq"], 3, "{status}");
    served.farm.health.as_mut().unwrap().bake = Some(2);
    served.release(4, "well");
    served.farm.ok(&["upgrade", &system]);
    assert_eq!(served.generations(), (3, 3));
    served.close();
}

#[test]
fn what_is_not_given_or_not_prepared_gets_no_traffic() {
    let mut served = Served::new("needy");
    let system = served.farm.system.clone();
    served.farm.needs.settings = vec!["SITE".to_owned()];
    served.release(3, "well");
    let said = served.farm.fails(&["upgrade", &system], 2);
    assert!(said.contains("SITE has no value"), "{said}");
    // Nothing was written: there is no second generation.
    assert_eq!(served.generations(), (1, 1));
    served.farm.fails(&["switch", &system, "2"], 2);
    served.farm.needs.settings.clear();
    served.farm.before_switch = ["/bin/sh", "-c", "echo no table >&2; exit 5"]
        .map(str::to_owned)
        .to_vec();
    served.release(4, "well");
    let said = served.farm.fails(&["upgrade", &system], 1);
    assert!(
        said.contains("the before-switch command of") && said.contains("no table"),
        "{said}"
    );
    assert_eq!(served.generations(), (1, 1));
    assert!(served.get("/").is_ok());
    served.farm.before_switch = ["/bin/sh", "-c", ":"].map(str::to_owned).to_vec();
    served.release(5, "well");
    served.farm.ok(&["upgrade", &system]);
    assert_eq!(served.generations(), (3, 3));
    served.close();
}

#[test]
fn no_request_fails_through_upgrade_rollback_and_switch() {
    goes_back_and_forth(Served::new("served"));
}

#[test]
fn no_request_fails_at_a_unix_socket_either() {
    let served = Served::at_a_file("filed");
    let (farm, system, path) = (&served.farm, served.farm.system.clone(), served.path());
    assert!(
        farm.ok(&["status"])
            .contains(&format!("listens    {}", served.address))
    );
    // Whoever serves the web may connect, unless the operator says who.
    let access = |path: &Path| {
        let found = fs::metadata(path).unwrap();
        (found.uid(), found.gid(), found.mode() & 0o7777)
    };
    assert_eq!(access(&path), (0, 0, 0o666));
    assert_eq!(access(path.parent().unwrap()), (0, 0, 0o755));
    // A name that somebody removed comes back.
    fs::remove_file(&path).unwrap();
    farm.ok(&["reload", &system]);
    served.get("/").unwrap();
    let directory = path.parent().unwrap().to_owned();
    let stopped = goes_back_and_forth(served);
    // What is stopped leaves no file.
    assert_eq!(stopped, Some(0), "{}", directory.display());
}

/// Says how many files there were beside the Unix socket when the system was stopped.
fn goes_back_and_forth(served: Served) -> Option<usize> {
    let system = served.farm.system.clone();
    let clients = Clients::of(&served);
    served.release(3, "well");
    // One that is underway when the traffic moves.
    let address = served.address.clone();
    let slow = thread::spawn(move || get(&address, "/slow"));
    thread::sleep(Duration::from_millis(200));
    let said = served.farm.run(&["upgrade", &system]);
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("generation 2 has the traffic"), "{said}");
    assert_eq!(slow.join().unwrap().unwrap(), "2");
    assert_eq!(served.get("/").unwrap(), "3");
    assert_eq!(served.generations(), (2, 2));
    served.farm.ok(&["rollback", &system]);
    assert_eq!(served.get("/").unwrap(), "2");
    assert_eq!(served.generations(), (1, 1));
    served.farm.ok(&["switch", &system, "2"]);
    assert_eq!(served.get("/").unwrap(), "3");
    // One that is told to wait does.
    served.farm.ok(&["rollback", &system, "--keep-session"]);
    assert_eq!(served.get("/").unwrap(), "3");
    assert_eq!(served.generations(), (1, 2));
    served.farm.ok(&["switch", &system, "1"]);
    assert_eq!(served.get("/").unwrap(), "2");
    let answers = clients.end();
    assert!(answers["2"] > 10 && answers["3"] > 10, "{answers:?}");
    // As it was started last, without saying it again.
    served.farm.ok(&["stop", &system]);
    assert!(served.get("/").is_err());
    let path = served.address.strip_prefix("unix:").map(Path::new);
    let left = path.map(|path| fs::read_dir(path.parent().unwrap()).unwrap().count());
    served.farm.ok(&["start", &system]);
    assert_eq!(served.get("/").unwrap(), "2");
    served.close();
    left
}

#[test]
fn a_generation_that_does_not_work_never_answers() {
    never_answers(Served::new("sick"));
}

#[test]
fn a_generation_that_does_not_work_never_answers_at_a_unix_socket() {
    never_answers(Served::at_a_file("sickfile"));
}

fn never_answers(served: Served) {
    let system = served.farm.system.clone();
    let clients = Clients::of(&served);
    for (version, mode, why) in [
        (3, "sick", "GET /up answered 500"),
        (4, "crash", "ended with exit code 3"),
    ] {
        served.release(version, mode);
        let said = served.farm.fails(&["upgrade", &system], 1);
        assert!(said.contains("stays on generation 1"), "{said}");
        assert!(said.contains(why), "{said}");
        assert_eq!(served.generations(), (1, 1), "{mode}");
        // Nobody goes back to what never worked.
        let previous = served.farm.status()["systems"][0]["previous"].clone();
        assert!(previous.is_null(), "{mode}: {previous}");
    }
    // The next good one is not in their way.
    served.release(5, "well");
    served.farm.ok(&["upgrade", &system]);
    assert_eq!(served.get("/").unwrap(), "5");
    let answers = clients.end();
    let versions: Vec<&str> = answers.keys().map(String::as_str).collect();
    assert_eq!(versions, ["2", "5"], "{answers:?}");
    served.close();
}

#[test]
fn a_release_that_did_not_work_is_remembered() {
    let served = Served::new("tried");
    let (farm, system) = (&served.farm, served.farm.system.clone());
    served.release(3, "sick");
    farm.fails(&["upgrade", &system], 1);
    let failed = farm.status()["systems"][0]["failed_release"].clone();
    assert_eq!(failed["seq"], 3, "{failed}");
    assert!(
        failed["why"].as_str().unwrap().contains("generation 1"),
        "{failed}"
    );
    // The timer tries it no more; who wants to, does.
    let asked = farm.run(&["upgrade", &system]);
    let said = String::from_utf8_lossy(&asked.stderr).into_owned();
    assert!(
        said.contains("--again") && !said.contains("asking generation"),
        "{said}"
    );
    assert_eq!(served.generations(), (1, 1));
    farm.fails(&["upgrade", &system, "--again"], 1);
    served.release(4, "well");
    farm.ok(&["upgrade", &system]);
    assert_eq!(served.get("/").unwrap(), "4");
    // What does not run is asked by nobody, and that is said.
    farm.ok(&["stop", &system]);
    served.release(5, "well");
    let asked = farm.run(&["upgrade", &system]);
    let said = String::from_utf8_lossy(&asked.stderr).into_owned();
    assert!(asked.status.success(), "{said}");
    assert!(said.contains("nobody asked this generation"), "{said}");
    farm.ok(&["start", &system]);
    assert_eq!(served.get("/").unwrap(), "5");
    served.close();
}

#[test]
fn what_does_not_work_after_a_reload_is_an_error() {
    let served = Served::new("turns");
    let system = served.farm.system.clone();
    served.release(3, "turns");
    served.farm.ok(&["upgrade", &system]);
    let said = served.farm.fails(&["reload", &system], 1);
    assert!(said.contains("GET /up answered 500"), "{said}");
    // One that a signal ends.
    served.release(4, "well");
    served.farm.ok(&["upgrade", &system]);
    let said = served.farm.fails(&["reload", &system], 1);
    assert!(said.contains("did not survive its reload"), "{said}");
    served.farm.ok(&["start", &system]);
    served.close();
}

#[test]
fn when_both_fail_the_old_one_is_started_again() {
    let served = Served::new("both");
    let system = served.farm.system.clone();
    served.release(3, "sick");
    let old = served.farm.path("images").join(&system).join("1");
    let upgrade = served.farm.command(&["upgrade", &system]);
    let mut upgrade = { upgrade }.stderr(Stdio::piped()).spawn().unwrap();
    // While the new one is asked.
    wait_for("two servers", || servers(&system).len() == 2);
    let first = servers(&system)[0];
    Command::new("kill")
        .args(["-KILL", &first.to_string()])
        .status()
        .unwrap();
    let mut said = String::new();
    upgrade
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert_eq!(upgrade.wait().unwrap().code(), Some(1), "{said}");
    assert!(said.contains("had died, and was started again"), "{said}");
    assert_eq!(served.get("/").unwrap(), "2");
    assert_eq!(served.generations(), (1, 1));
    assert!(old.exists());
    served.close();
}

/// What workers said, in order.
fn said_by_workers(served: &Served) -> Vec<String> {
    let log = served
        .farm
        .ok(&["logs", &served.farm.system, "--lines", "1000"]);
    let lines = log
        .lines()
        .filter_map(|line| line.strip_prefix("worker.1: "));
    let words = lines.map(|line| line.split(':').next().unwrap_or_default().to_owned());
    words.collect()
}

#[test]
fn workers_follow_the_traffic_one_generation_at_a_time() {
    let mut served = Served::new("follow");
    let system = served.farm.system.clone();
    served.farm.workers(1, "well");
    // One that may run in two generations at once.
    let both = store::manifest::Process {
        name: "both".to_owned(),
        overlap: true,
        ..served.farm.processes[0].clone()
    };
    served.farm.processes.push(both);
    served.release(3, "well");
    served.farm.ok(&["upgrade", &system]);
    let clients = Clients::of(&served);
    served.release(4, "well");
    served.farm.ok(&["upgrade", &system]);
    let said = ["works in 3", "ends in 3", "works in 4"];
    assert_eq!(said_by_workers(&served), said);
    let log = served.farm.ok(&["logs", &system, "--lines", "1000"]);
    let at = |text: &str| log.find(text).unwrap_or_else(|| panic!("{text}: {log}"));
    assert!(at("both.1: works in 4") < at("both.1: ends in 3"), "{log}");
    assert!(
        at("both.1: works in 4") < at("worker.1: works in 4"),
        "{log}"
    );
    // One that ends at once takes all back, with the traffic.
    served.farm.workers(1, "crash");
    served.release(5, "well");
    let fault = served.farm.fails(&["upgrade", &system], 1);
    for part in [
        "stays on generation 3",
        "the process worker.1 of generation 4",
        "no queue",
    ] {
        assert!(fault.contains(part), "{fault}");
    }
    assert_eq!(served.generations(), (3, 3));
    assert_eq!(served.get("/").unwrap(), "4");
    let answers = clients.end();
    assert!(answers.contains_key("4"), "{answers:?}");
    let said = said_by_workers(&served);
    assert_eq!(said[3..], ["ends in 4", "no queue", "works in 4"]);
    assert!(served.farm.further()["worker.1"].is_some());
    assert_eq!(
        served.farm.status()["systems"][0]["failed_release"]["seq"],
        5
    );
    served.close();
}

#[test]
fn a_worker_that_ends_while_its_generation_is_watched_takes_it_back() {
    let mut served = Served::new("tiring");
    let system = served.farm.system.clone();
    served.farm.workers(1, "well");
    served.release(3, "well");
    served.farm.ok(&["upgrade", &system]);
    served.farm.workers(1, "tires");
    served.farm.health.as_mut().unwrap().bake = Some(3600);
    served.release(4, "well");
    let clients = Clients::of(&served);
    let fault = served.farm.fails(&["upgrade", &system], 1);
    for part in [
        "went back to generation 2",
        "the process worker.1 of generation 3",
    ] {
        assert!(fault.contains(part), "{fault}");
    }
    assert_eq!(served.generations(), (2, 2));
    clients.end();
    assert!(served.farm.further()["worker.1"].is_some());
    served.close();
}

#[test]
fn a_switch_that_is_interrupted_between_two_workers_goes_back() {
    let mut served = Served::new("turnback");
    let system = served.farm.system.clone();
    served.farm.workers(1, "stubborn");
    served.release(3, "well");
    served.farm.ok(&["upgrade", &system]);
    let before = served.farm.further();
    let clients = Clients::of(&served);
    served.release(4, "well");
    let words = ["upgrade", &system, "--timeout", "3"];
    let mut upgrade = served.farm.command(&words);
    let mut upgrade = upgrade.stderr(Stdio::null()).spawn().unwrap();
    wait_for("its word", || {
        said_by_workers(&served).contains(&"does not end".to_owned())
    });
    let pid = upgrade.id().to_string();
    Command::new("kill").args(["-INT", &pid]).status().unwrap();
    assert!(!upgrade.wait().unwrap().success());
    assert_eq!(served.generations(), (2, 2));
    assert_eq!(served.get("/").unwrap(), "3");
    clients.end();
    let after = served.farm.further();
    assert!(after["worker.1"].is_some() && after != before, "{after:?}");
    served.close();
}

#[test]
fn a_switch_that_is_killed_between_two_workers_is_made_whole() {
    let mut served = Served::new("halfway");
    let system = served.farm.system.clone();
    served.farm.workers(1, "stubborn");
    served.release(3, "well");
    served.farm.ok(&["upgrade", &system]);
    let before = served.farm.further();
    served.farm.workers(1, "well");
    served.release(4, "well");
    let mut upgrade = served.farm.command(&["upgrade", &system]);
    let mut upgrade = upgrade.stderr(Stdio::null()).spawn().unwrap();
    // The old one was told to end, and does not.
    wait_for("its word", || {
        said_by_workers(&served).contains(&"does not end".to_owned())
    });
    upgrade.kill().unwrap();
    upgrade.wait().unwrap();
    assert_eq!(served.get("/").unwrap(), "4");
    let fault = served.farm.fails(&["status", "--check"], 1);
    assert!(fault.contains("the process worker.1 of"), "{fault}");
    // The next command ends it and starts the new one, never both.
    served.farm.ok(&["upgrade", &system, "--timeout", "2"]);
    assert_eq!(served.generations(), (3, 3));
    let after = served.farm.further();
    assert!(after["worker.1"].is_some() && after != before, "{after:?}");
    let old = before["worker.1"].unwrap();
    assert!(!Path::new(&format!("/proc/{old}/root/srv/worker")).exists());
    served.farm.ok(&["status", "--check"]);
    served.close();
}

/// The servers of a system, in the order in which they were started.
fn servers(system: &str) -> Vec<i32> {
    let mut found: Vec<i32> = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| {
            let root = fs::read_link(format!("/proc/{pid}/root")).unwrap_or_default();
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            root.to_string_lossy().contains(&format!("/{system}-"))
                && line.starts_with(b"/usr/bin/perl\0")
        })
        .collect();
    found.sort_unstable();
    found
}

#[test]
fn an_interrupted_upgrade_leaves_everything_as_it_was() {
    let served = Served::new("ctrl-c");
    let system = served.farm.system.clone();
    let listen = served.address.clone();
    served.release(3, "sick");
    let mut upgrade = served.farm.command(&["upgrade", &system]);
    let mut upgrade = upgrade.stderr(Stdio::null()).spawn().unwrap();
    wait_for("two servers", || servers(&system).len() == 2);
    let pid = upgrade.id().to_string();
    Command::new("kill").args(["-INT", &pid]).status().unwrap();
    assert!(!upgrade.wait().unwrap().success());
    assert_eq!(served.generations(), (1, 1));
    assert_eq!(servers(&system).len(), 1);
    assert_eq!(served.get("/").unwrap(), "2");
    // It was not the release's fault.
    let failed = &served.farm.status()["systems"][0]["failed_release"];
    assert!(failed.is_null(), "{failed}");
    // An address that somebody has is not shared with him.
    served.farm.ok(&["stop", &system]);
    let somebody = TcpListener::bind(&served.address).unwrap();
    let said = served
        .farm
        .fails(&["start", &system, "--listen", &listen], 1);
    assert!(
        said.contains("cannot listen on") && said.contains("in use"),
        "{said}"
    );
    drop(somebody);
    served.farm.ok(&["start", &system]);
    served.close();
}

#[test]
fn one_that_will_not_stop_is_named_and_waited_for() {
    let served = Served::new("stuck");
    let system = served.farm.system.clone();
    served.release(3, "stuck");
    served.farm.ok(&["upgrade", &system]);
    let stuck = servers(&system)[0];
    served.release(4, "well");
    let run = served.farm.run(&["upgrade", &system, "--timeout", "1"]);
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(run.status.success(), "{said}");
    assert!(said.contains(&format!("process {stuck} goes on")), "{said}");
    assert_eq!(served.get("/").unwrap(), "4");
    // It has its socket still: a third generation would not be told apart.
    let said = served
        .farm
        .fails(&["rollback", &system, "--timeout", "1"], 75);
    assert!(said.contains(&stuck.to_string()), "{said}");
    assert_eq!(served.get("/").unwrap(), "4");
    // Trying again later is the same command.
    assert_eq!(served.generations(), (3, 3));
    Command::new("kill")
        .args(["-KILL", &stuck.to_string()])
        .status()
        .unwrap();
    wait_for("its end", || servers(&system).len() == 1);
    served.farm.ok(&["switch", &system, "1"]);
    assert_eq!(served.get("/").unwrap(), "2");
    assert_eq!(
        served.farm.status()["systems"][0]["ending"],
        serde_json::json!([])
    );
    served.close();
}

#[test]
fn a_killed_handover_is_put_in_order() {
    stays_in_order(Served::new("cut"));
}

#[test]
fn a_killed_handover_of_a_unix_socket_is_put_in_order() {
    stays_in_order(Served::at_a_file("cutfile"));
}

fn stays_in_order(served: Served) {
    let system = served.farm.system.clone();
    served.release(3, "well");
    served.farm.ok(&["upgrade", &system]);
    let rounds = if std::env::var_os("IMGBUILD_SOAK").is_some() {
        100
    } else {
        6
    };
    let mut random = u64::from(std::process::id()) << 20 | 1;
    for round in 0..rounds {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let moment = Duration::from_millis(random % 3000);
        let begun = Instant::now();
        let mut rollback = served.farm.command(&["rollback", &system]);
        let mut rollback = rollback
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while begun.elapsed() < moment && rollback.try_wait().unwrap().is_none() {
            thread::sleep(Duration::from_millis(5));
        }
        rollback.kill().unwrap();
        rollback.wait().unwrap();
        // Somebody answers, always.
        let version = served
            .get("/")
            .unwrap_or_else(|e| panic!("{round}, {moment:?}: {e}"));
        assert!(version == "2" || version == "3", "{version}");
        // The next command moves it to where the record says, and ends the rest.
        let (active, _) = served.generations();
        served.farm.ok(&["switch", &system, &active.to_string()]);
        assert_eq!(
            served.generations(),
            (active, active),
            "{round}, {moment:?}"
        );
        let expected = (active + 1).to_string();
        for _ in 0..20 {
            assert_eq!(served.get("/").unwrap(), expected, "{round}, {moment:?}");
        }
        assert_eq!(servers(&system).len(), 1, "{round}, {moment:?}");
        if let Some(path) = served.address.strip_prefix("unix:").map(Path::new) {
            // The name, and the file of the one session.
            let left = fs::read_dir(path.parent().unwrap()).unwrap().count();
            assert_eq!(left, 2, "{round}, {moment:?}");
        }
    }
    served.close();
}
