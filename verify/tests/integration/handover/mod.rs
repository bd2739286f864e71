//! From one generation to another while clients ask all the time: no request fails, whatever the
//! next generation does.

mod faulty;
mod interrupted;
mod kept;
mod traffic;
mod unix_sockets;
mod workers;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::support::{Farm, install_program};
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
