//! `imgnode run` as a service manager sees it: real sessions, a real socket for notifications.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::Write;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use crate::receipts::{receipts, told};
use crate::support::{Farm, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use store::receipt::{Operation, Outcome};

/// An `imgnode run` and what it told its manager.
struct Service<'a> {
    farm: &'a Farm,
    child: Child,
    socket: UnixDatagram,
    heard: RefCell<String>,
    errors: String,
}

impl<'a> Service<'a> {
    fn begin(farm: &'a Farm, words: &[&str], listen: Option<&str>) -> Self {
        let name = format!("imgnode-{}-{}", farm.system, unique());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        Self::with_socket(farm, words, listen, socket, &format!("@{name}"))
    }

    fn with_socket(
        farm: &'a Farm,
        words: &[&str],
        listen: Option<&str>,
        socket: UnixDatagram,
        name: &str,
    ) -> Self {
        socket.set_nonblocking(true).unwrap();
        let errors = format!("run-{}.log", unique());
        let mut command = farm.command(&[&["run", &farm.system], words].concat());
        command
            .env("NOTIFY_SOCKET", name)
            .stderr(File::create(farm.path(&errors)).unwrap());
        if let Some(listen) = listen {
            command.env("IMGNODE_LISTEN", listen);
        }
        Self {
            farm,
            child: command.spawn().unwrap(),
            socket,
            heard: RefCell::default(),
            errors,
        }
    }

    /// All that the manager was told so far.
    fn heard(&self) -> String {
        let mut buffer = [0; 4096];
        while let Ok(len) = self.socket.recv(&mut buffer) {
            let text = std::str::from_utf8(&buffer[..len]).unwrap();
            self.heard.borrow_mut().push_str(text);
        }
        self.heard.borrow().clone()
    }

    fn hears(&self, what: &str) {
        wait_for(&format!("{what} after {}", self.said()), || {
            self.heard().contains(what)
        });
    }

    fn said(&self) -> String {
        fs::read_to_string(self.farm.path(&self.errors)).unwrap()
    }

    fn tell(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end; its exit code and all that it said.
    fn end(mut self) -> (Option<i32>, String) {
        let mut code = None;
        wait_for("its end", || {
            code = self.child.try_wait().unwrap();
            code.is_some()
        });
        (code.unwrap().code(), self.said())
    }
}

impl Drop for Service<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A number that no other service of this test has.
fn unique() -> u128 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos()
}

/// Kills the app, all of it.
fn kill_app(farm: &Farm) {
    wait_for("its death", || {
        let status = farm.status();
        let session = &status["systems"][0]["session"];
        let processes = session["processes"].as_array().cloned().unwrap_or_default();
        for process in &processes {
            let pid = i32::try_from(process["pid"].as_i64().unwrap()).unwrap();
            let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
        }
        processes.is_empty()
    });
}

fn session(farm: &Farm) -> String {
    let status = farm.status();
    let id = &status["systems"][0]["session"]["id"];
    id.as_str().unwrap_or_default().to_owned()
}

fn log(farm: &Farm) -> String {
    farm.ok(&["logs", &farm.system])
}

/// An address that nobody has.
fn free() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// Processor time of a process, in ticks of 10 ms: proc(5), `stat`.
fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn it_gets_ready_reloads_and_stops_the_app() {
    let farm = Farm::new("service");
    farm.install();
    let path = farm.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let name = path.to_str().unwrap();
    let words = ["--", "--log-level", "debug"];
    let service = Service::with_socket(&farm, &words, None, socket, name);
    service.hears("READY=1");
    let id = session(&farm);
    let status = format!(
        "STATUS=generation 1 of {} runs in the session {id}\n",
        farm.system
    );
    assert!(service.heard().contains(&status), "{}", service.heard());
    assert!(log(&farm).contains("words=--log-level debug"));
    // While nothing happens it costs nothing.
    let before = ticks(service.child.id());
    std::thread::sleep(Duration::from_secs(3));
    let spent = ticks(service.child.id()) - before;
    assert!(spent <= 3, "{spent} ticks in 3 s");
    service.tell(Signal::HUP);
    wait_for("the reload", || log(&farm).contains("reloaded"));
    service.hears("RELOADING=1\nMONOTONIC_USEC=");
    wait_for("the end of the reload", || {
        service.heard().matches("READY=1").count() == 2
    });
    service.tell(Signal::TERM);
    service.hears("STOPPING=1");
    let (code, said) = service.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(log(&farm).contains("stopping"));
    assert_eq!(session(&farm), "");
    farm.close();
}

#[test]
fn it_follows_the_system_through_upgrade_and_rollback() {
    let farm = Farm::new("follow");
    let system = farm.system.clone();
    farm.install();
    let (one, other) = (free(), free());
    let listen = format!("{one}, {other},");
    let mut service = Service::begin(&farm, &[], Some(&listen));
    service.hears("READY=1");
    let listening = format!("listening on {one}, listening on {other}");
    assert!(service.heard().contains(&listening), "{}", service.heard());
    farm.release(2);
    farm.ok(&["upgrade", &system]);
    service.hears(&format!("STATUS=generation 2 of {system}"));
    farm.ok(&["rollback", &system]);
    wait_for("the way back", || {
        let heard = service.heard();
        let last = heard.lines().last().unwrap_or_default();
        last.starts_with(&format!("STATUS=generation 1 of {system}"))
    });
    assert!(service.runs(), "{}", service.said());
    // What a manager stops is what runs now.
    service.tell(Signal::INT);
    let (code, said) = service.end();
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(session(&farm), "");
    // The next one needs no addresses.
    let service = Service::begin(&farm, &[], None);
    service.hears(&listening);
    farm.ok(&["stop", &system]);
    assert_eq!(service.end().0, Some(0));
    farm.close();
}

#[test]
fn one_port_serves_both_families() {
    let farm = Farm::new("both");
    let system = farm.system.clone();
    farm.install();
    farm.release(2);
    let port = free().rsplit_once(':').unwrap().1.to_owned();
    for listen in [
        format!("0.0.0.0:{port},[::]:{port}"),
        format!("[::]:{port}, 127.0.0.1:{port}"),
    ] {
        let service = Service::begin(&farm, &[], Some(&listen));
        service.hears("READY=1");
        farm.ok(&["upgrade", &system]);
        service.hears(&format!("STATUS=generation 2 of {system}"));
        for host in ["127.0.0.1", "[::1]"] {
            std::net::TcpStream::connect(format!("{host}:{port}")).unwrap();
        }
        farm.ok(&["stop", &system]);
        assert_eq!(service.end().0, Some(0));
        farm.ok(&["rollback", &system]);
    }
    // One address alone has both.
    farm.ok(&["start", &system, "--listen", &format!("[::]:{port}")]);
    std::net::TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    farm.ok(&["stop", &system]);
    farm.close();
}

#[test]
fn an_app_that_dies_is_never_silent() {
    let farm = Farm::new("dies");
    let system = farm.system.clone();
    farm.install();
    let service = Service::begin(&farm, &[], None);
    service.hears("READY=1");
    kill_app(&farm);
    let (code, said) = service.end();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!("error: {system} died")), "{said}");
    assert!(said.contains("  hello from op"), "{said}");
    // What the manager does next.
    let mut service = Service::begin(&farm, &[], None);
    service.hears("READY=1");
    // Whoever has the lock may be about to start it again.
    let lock = File::open(farm.path("state/lock")).unwrap();
    lock.lock().unwrap();
    kill_app(&farm);
    service.hears("STATUS=waiting for another imgnode");
    std::thread::sleep(Duration::from_millis(500));
    assert!(service.runs(), "{}", service.said());
    drop(lock);
    assert_eq!(service.end().0, Some(1));
    // Another command cleans up after the dead one before we look: it died all the same.
    let service = Service::begin(&farm, &[], None);
    service.hears("READY=1");
    service.tell(Signal::STOP);
    kill_app(&farm);
    farm.release(2);
    farm.ok(&["upgrade", &system]);
    assert_eq!(session(&farm), "");
    service.tell(Signal::CONT);
    assert_eq!(service.end().0, Some(1));
    farm.close();
}

#[test]
fn an_app_whose_main_process_dies_has_died() {
    let farm = Farm::new("main");
    let system = farm.system.clone();
    farm.install();
    let kill_main = || {
        let path = farm.path(&format!("state/sessions/{system}.json"));
        let session: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        let pid = i32::try_from(session["main"]["pid"].as_i64().unwrap()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    };
    let state = || farm.status()["systems"][0]["session"]["state"].clone();
    // What it began lives on, and goes with it.
    let service = Service::begin(&farm, &["--", "family"], None);
    service.hears("READY=1");
    service.tell(Signal::HUP);
    wait_for("the end of the reload", || {
        service.heard().matches("READY=1").count() == 2
    });
    kill_main();
    let (code, said) = service.end();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("the main process of"), "{said}");
    assert_eq!(session(&farm), "");
    // Nobody watches: it is said, not reloaded, and started anew.
    farm.ok(&["start", &system]);
    assert_eq!(state(), "running");
    kill_main();
    wait_for("its state", || state() == "broken");
    farm.fails(&["reload", &system], 1);
    let old = session(&farm);
    farm.ok(&["start", &system]);
    assert_eq!(state(), "running");
    assert_ne!(session(&farm), old);
    farm.ok(&["stop", &system]);
    farm.close();
}

#[test]
fn receipts_tell_of_a_session_and_how_it_ended() {
    let farm = Farm::new("tells");
    farm.install();
    let to = farm.str("receipts");
    fs::create_dir(to).unwrap();
    farm.ok(&["receipts", "set", to, "--name", "web01"]);
    let service = Service::begin(&farm, &[], None);
    service.hears("READY=1");
    kill_app(&farm);
    assert_eq!(service.end().0, Some(1));
    let service = Service::begin(&farm, &[], None);
    service.hears("READY=1");
    service.tell(Signal::TERM);
    assert_eq!(service.end().0, Some(0));
    // One that cannot begin says so before it ends.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    assert_eq!(Service::begin(&farm, &[], Some(&listen)).end().0, Some(1));
    assert_eq!(
        told(&receipts(to.as_ref(), "web01")).last(),
        Some(&(Operation::Start, Outcome::Failed))
    );
    // What two senders were at, goes with the next.
    farm.ok(&["receipts", "send"]);
    let found = receipts(to.as_ref(), "web01");
    assert_eq!(
        told(&found),
        [
            (Operation::Start, Outcome::Done),
            (Operation::Run, Outcome::Failed),
            (Operation::Start, Outcome::Done),
            (Operation::Stop, Outcome::Done),
            (Operation::Start, Outcome::Failed),
            (Operation::Heartbeat, Outcome::Done),
        ]
    );
    let system = |at: usize| &found[at].1.receipt.systems[0];
    let ran = found
        .iter()
        .map(|one| one.1.receipt.systems[0].runs.is_some());
    assert_eq!(
        ran.collect::<Vec<_>>(),
        [true, false, true, false, false, false]
    );
    let why = system(1).last.as_ref().unwrap().reason.as_ref().unwrap();
    assert!(why.contains("died"), "{why}");
    assert_eq!(system(2).last, None);
    farm.close();
}

#[test]
fn an_app_that_somebody_stops_is_stopped() {
    let farm = Farm::new("stopped");
    let system = farm.system.clone();
    farm.install();
    let service = Service::begin(&farm, &[], None);
    service.hears("READY=1");
    farm.ok(&["stop", &system]);
    let (code, said) = service.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&format!("{system} was stopped")), "{said}");
    // Also if it looks only when everything is over, and if the stop took its time.
    let service = Service::begin(&farm, &["--", "stubborn"], None);
    service.hears("READY=1");
    service.tell(Signal::STOP);
    farm.fails(&["stop", &system, "--timeout", "1"], 75);
    kill_app(&farm);
    service.tell(Signal::CONT);
    assert_eq!(service.end().0, Some(0));
    // What was stopped can be gone by then.
    let service = Service::begin(&farm, &["--", "plain"], None);
    service.hears("READY=1");
    service.tell(Signal::STOP);
    farm.ok(&["stop", &system]);
    farm.ok(&["uninstall", &system]);
    service.tell(Signal::CONT);
    let (code, said) = service.end();
    assert_eq!(code, Some(0), "{said}");
    farm.install();
    // A stop that was in vain is over when somebody wants it to run again.
    let service = Service::begin(&farm, &["--", "stubborn"], None);
    service.hears("READY=1");
    service.tell(Signal::KILL);
    assert_eq!(service.end().0, None);
    farm.fails(&["stop", &system, "--timeout", "1"], 75);
    let service = Service::begin(&farm, &[], None);
    service.hears("READY=1");
    kill_app(&farm);
    assert_eq!(service.end().0, Some(1));
    // Whoever is told to stop kills what will not.
    let service = Service::begin(&farm, &["--timeout", "1", "--", "stubborn"], None);
    service.hears("READY=1");
    service.tell(Signal::TERM);
    let (code, said) = service.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("killed ") && said.contains("/srv/app"),
        "{said}"
    );
    assert_eq!(session(&farm), "");
    farm.close();
}

#[test]
fn a_session_that_runs_is_taken_on() {
    let farm = Farm::new("adopt");
    let system = farm.system.clone();
    farm.install();
    farm.ok(&["start", &system, "--", "mine"]);
    let id = session(&farm);
    let service = Service::begin(&farm, &[], None);
    service.hears("READY=1");
    assert!(
        service.said().contains("runs already"),
        "{}",
        service.said()
    );
    assert_eq!(session(&farm), id);
    // What the app prints does not fill the disk.
    let (path, older) = (
        farm.path(&format!("state/logs/{system}.log")),
        farm.path(&format!("state/logs/{system}.log.1")),
    );
    let mut file = File::options().append(true).open(&path).unwrap();
    for _ in 0..17 {
        file.write_all(&vec![b'x'; 1 << 20]).unwrap();
    }
    let long = |path: &Path| fs::metadata(path).map_or(0, |found| found.len());
    wait_for("a shorter log", || {
        long(&path) == 0 && long(&older) > 16 << 20
    });
    farm.ok(&["reload", &system]);
    wait_for("what it says then", || long(&path) > 0);
    assert!(!log(&farm).contains('\0'));
    // Killed itself, it leaves the app alone, and the next one takes it on again.
    service.tell(Signal::KILL);
    assert_eq!(service.end().0, None);
    let mut service = Service::begin(&farm, &["--", "other"], None);
    service.hears("READY=1");
    assert!(
        service.said().contains("started in another way"),
        "{}",
        service.said()
    );
    assert_eq!(session(&farm), id);
    assert!(service.runs());
    service.tell(Signal::TERM);
    assert_eq!(service.end().0, Some(0));
    assert_eq!(session(&farm), "");
    farm.close();
}

#[test]
fn a_start_that_fails_ends_as_start_does() {
    let farm = Farm::new("failing");
    farm.install();
    let service = Service::begin(&farm, &["--", "crash"], None);
    wait_for("its end", || service.said().contains("hint: "));
    assert!(!service.heard().contains("READY"), "{}", service.heard());
    let (code, said) = service.end();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("cannot bind: address in use"), "{said}");
    let wrong = Service::begin(&farm, &[], Some("0.0.0.0"));
    let (code, said) = wrong.end();
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("`0.0.0.0` is no address"), "{said}");
    // TEST-NET-1 of RFC 5737.
    let absent = Service::begin(&farm, &[], Some("192.0.2.1:8000"));
    let (code, said) = absent.end();
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("hint: this machine has no such address"),
        "{said}"
    );
    // One that waits for its turn can be told to go, and can get it.
    let lock = File::open(farm.path("state/lock")).unwrap();
    lock.lock().unwrap();
    let first = Service::begin(&farm, &[], Some(""));
    first.hears("waiting for another imgnode");
    let second = Service::begin(&farm, &[], None);
    second.hears("waiting for another imgnode");
    first.tell(Signal::TERM);
    assert_eq!(first.end().0, Some(0));
    drop(lock);
    second.hears("READY=1");
    let begun = Instant::now();
    second.tell(Signal::TERM);
    assert_eq!(second.end().0, Some(0));
    assert!(begun.elapsed() < Duration::from_secs(20));
    farm.close();
}
