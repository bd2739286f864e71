//! Connections that clients keep, while generations take turns.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::{Connection, Served, connect};
use crate::support::Farm;

/// A web server that keeps connections, and closes them as one should that was told to stop: after the next
/// answer, or when nobody asks.
const KEEPER: &str = r#"
sub line { open(my $file, '<', $_[0]) or return ''; my $line = <$file> // ''; chomp $line; $line }
my $version = line('/etc/version');
open(my $listener, '+<&=', 3) or die "descriptor 3: $!\n";
my ($over, %kept) = (0);
$SIG{TERM} = sub { $over = time };
$SIG{PIPE} = 'IGNORE';
until ($over && !%kept) {
    my $ready = '';
    vec($ready, 3, 1) = 1 unless $over;
    vec($ready, $_, 1) = 1 for keys %kept;
    # A signal leaves the bits as they were.
    $ready = '' unless select($ready, undef, undef, 0.1) > 0;
    if (vec($ready, 3, 1) && accept(my $client, $listener)) {
        $kept{fileno $client} = { socket => $client, text => '' };
    }
    for my $number (keys %kept) {
        my $one = $kept{$number};
        if (!vec($ready, $number, 1)) {
            delete $kept{$number} if $over && time - $over > 2;
            next;
        }
        my $length = sysread $one->{socket}, $one->{text}, 4096, length $one->{text};
        if (!$length) { delete $kept{$number}; next }
        next unless $one->{text} =~ s/^(.*?\r\n\r\n)//s;
        my $last = $over || $1 =~ /^Connection: close/mi;
        my $how = $last ? 'close' : 'keep-alive';
        my $size = length $version;
        syswrite $one->{socket}, "HTTP/1.1 200 OK\r\nContent-Length: $size\r\nConnection: $how\r\n\r\n$version";
        delete $kept{$number} if $last;
    }
}
"#;

/// A client that keeps its connection, and asks no request a second time.
struct Keeping {
    address: String,
    connection: Option<Box<dyn Connection>>,
    /// How many connections it made.
    made: u64,
}

impl Keeping {
    fn new(address: &str) -> Self {
        Self {
            address: address.to_owned(),
            connection: None,
            made: 0,
        }
    }

    fn get(&mut self) -> std::io::Result<String> {
        let mut connection = if let Some(kept) = self.connection.take() {
            kept
        } else {
            self.made += 1;
            connect(&self.address)?
        };
        connection.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        let mut answer = Vec::new();
        let (head, content) = loop {
            let mut buffer = [0; 512];
            let length = connection.read(&mut buffer)?;
            if length == 0 {
                let said = String::from_utf8_lossy(&answer).into_owned();
                return Err(std::io::Error::other(format!("closed after `{said}`")));
            }
            answer.extend_from_slice(&buffer[..length]);
            let text = String::from_utf8_lossy(&answer).into_owned();
            // Versions have one digit.
            match text.split_once("\r\n\r\n") {
                Some((head, content)) if content.len() == 1 => {
                    break (head.to_owned(), content.to_owned());
                }
                _ => {}
            }
        };
        if head.contains("Connection: keep-alive") {
            self.connection = Some(connection);
        }
        Ok(content)
    }
}

#[test]
fn connections_that_are_kept_lose_no_request() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp = free.local_addr().unwrap().to_string();
    drop(free);
    let farm = Farm::new("keepfile");
    let path = format!("unix:{}", farm.path("app.sock").display());
    for (farm, address) in [(Farm::new("keep"), tcp), (farm, path)] {
        let served = Served::at(farm, address, KEEPER);
        let system = served.farm.system.clone();
        let over = Arc::new(AtomicBool::new(false));
        let client = |over: Arc<AtomicBool>, mut client: Keeping| {
            let (mut answers, mut failures) = (BTreeMap::<String, u64>::new(), Vec::new());
            while !over.load(Ordering::Relaxed) {
                match client.get() {
                    Ok(version) => *answers.entry(version).or_default() += 1,
                    Err(error) => failures.push(error.to_string()),
                }
                thread::sleep(Duration::from_millis(1));
            }
            (answers, failures, client.made)
        };
        let clients: Vec<_> = (0..4)
            .map(|_| {
                let (over, keeping) = (Arc::clone(&over), Keeping::new(&served.address));
                thread::spawn(move || client(over, keeping))
            })
            .collect();
        // One that asked once, and is silent from then on.
        let mut idle = Keeping::new(&served.address);
        assert_eq!(idle.get().unwrap(), "2");
        served.release(3, "well");
        served.farm.ok(&["upgrade", &system]);
        let mut end = [0; 1];
        let ended = idle.connection.take().unwrap().read(&mut end);
        assert_eq!(ended.unwrap(), 0, "it is closed, not reset");
        assert_eq!(idle.get().unwrap(), "3");
        served.farm.ok(&["rollback", &system]);
        served.farm.ok(&["switch", &system, "2"]);
        over.store(true, Ordering::Relaxed);
        let mut all = BTreeMap::<String, u64>::new();
        let mut made = 0;
        for client in clients {
            let (answers, failures, connections) = client.join().unwrap();
            assert!(failures.is_empty(), "{failures:?} of {answers:?}");
            made += connections;
            for (version, count) in answers {
                *all.entry(version).or_default() += count;
            }
        }
        let asked: u64 = all.values().sum();
        assert!(all["2"] > 10 && all["3"] > 10, "{all:?}");
        assert!(asked > 5 * made, "{asked} requests on {made} connections");
        served.close();
    }
}
