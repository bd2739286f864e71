//! A client for one request at a time, without a library between.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// A port of loopback that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback works");
    listener
        .local_addr()
        .expect("a bound socket has an address")
        .port()
}

/// Status and body of a GET.
pub fn get(port: u16, path: &str, header: &str) -> std::io::Result<(u16, String)> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(
        stream,
        "GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n{header}\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok());
    let status = status.ok_or_else(|| std::io::Error::other(format!("no answer: {head:?}")))?;
    Ok((status, body.to_owned()))
}

/// Asks until there is an answer or the time is over.
pub fn wait_for(port: u16, path: &str, header: &str, limit: Duration) -> (u16, String) {
    let deadline = Instant::now() + limit;
    loop {
        match get(port, path, header) {
            Ok(answer) => return answer,
            Err(error) if Instant::now() > deadline => panic!("no answer on port {port}: {error}"),
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}
