//! A small HTTP server that behaves as badly as a test wants.
//!
//! One thread a connection, one request a connection (RFC 9112). The handler
//! decides about every request; what was asked is remembered.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// What a client asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// The path with its leading slash, or what a proxy is asked: a whole URL.
    pub path: String,
    /// `Authorization` or `Proxy-Authorization`, as it was sent.
    pub authorization: Option<String>,
    /// Whether the latter of the two it was.
    pub to_proxy: bool,
    /// The first byte that is wanted, where a range is (RFC 9110, 14.2).
    pub from: Option<usize>,
}

/// What the server does about it.
#[derive(Clone, Debug)]
pub enum Answer {
    /// 200 and these bytes.
    Bytes(Vec<u8>),
    /// 200 and a page of HTML.
    Page(String),
    /// Another status with a short body.
    Status(u16),
    /// Bytes that are no HTTP.
    Garbage,
    /// The whole length is announced, half of it is sent.
    Truncated(Vec<u8>),
    /// The same, but who then asks for the rest gets it.
    Cut(Vec<u8>),
    /// A tebibyte is announced and sent.
    Endless,
    /// The whole length is announced and a byte is sent now and then.
    Drip(Vec<u8>),
    /// 302 to this address.
    Redirect(String),
}

type Handler = dyn Fn(&Request) -> Answer + Send + Sync;

struct Shared {
    handler: Box<Handler>,
    requests: Mutex<Vec<Request>>,
    over: AtomicBool,
}

/// A server on loopback; gone when dropped.
pub struct Server {
    port: u16,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts it on a free port.
    pub fn start(handler: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback works");
        let port = listener.local_addr().expect("it is bound").port();
        let shared = Arc::new(Shared {
            handler: Box::new(handler),
            requests: Mutex::default(),
            over: AtomicBool::new(false),
        });
        let ours = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ours.over.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let ours = Arc::clone(&ours);
                // A client that hangs up early is no matter.
                std::thread::spawn(move || drop(converse(&stream, &ours)));
            }
        });
        Self {
            port,
            shared,
            thread: Some(thread),
        }
    }

    /// Its address without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The same with credentials in it.
    pub fn url_for(&self, credentials: &str) -> String {
        format!("http://{credentials}@127.0.0.1:{}", self.port)
    }

    /// Everything that was asked so far.
    pub fn requests(&self) -> Vec<Request> {
        let requests = self.shared.requests.lock();
        requests.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], self.port)));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// `base64(1)`.
pub fn base64(text: &str) -> String {
    let out = std::process::Command::new("sh")
        .args(["-c", "printf %s \"$1\" | base64 -w0", "sh", text])
        .output()
        .unwrap();
    String::from_utf8(out.stdout).unwrap()
}

/// The file of that name below a directory, or 404.
pub fn file(root: &Path, name: &str) -> Answer {
    let name = decoded(name.trim_start_matches('/'));
    if name.split('/').any(|part| part == "..") {
        return Answer::Status(400);
    }
    match std::fs::read(root.join(name)) {
        Ok(bytes) => Answer::Bytes(bytes),
        Err(_) => Answer::Status(404),
    }
}

/// Without percent-encoding (RFC 3986, 2.1).
fn decoded(name: &str) -> String {
    let mut parts = name.split('%');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part
            .get(..2)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match code {
            Some(code) if code.is_ascii() => {
                text.push(char::from(code));
                text.push_str(&part[2..]);
            }
            _ => text.push_str(part),
        }
    }
    text
}

fn converse(stream: &TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut request = Request {
        path: line.split(' ').nth(1).unwrap_or_default().to_owned(),
        authorization: None,
        to_proxy: false,
        from: None,
    };
    loop {
        let mut header = String::new();
        reader.by_ref().take(1 << 16).read_line(&mut header)?;
        let Some((name, value)) = header.trim_end().split_once(':') else {
            break;
        };
        if name.eq_ignore_ascii_case("range") {
            let from = value.trim().strip_prefix("bytes=");
            request.from = from.and_then(|v| v.strip_suffix('-')?.parse().ok());
        }
        let to_proxy = name.eq_ignore_ascii_case("proxy-authorization");
        if to_proxy || name.eq_ignore_ascii_case("authorization") {
            request.authorization = Some(value.trim().to_owned());
            request.to_proxy = to_proxy;
        }
    }
    let answer = (shared.handler)(&request);
    let from = request.from;
    let requests = shared.requests.lock();
    requests
        .unwrap_or_else(PoisonError::into_inner)
        .push(request);
    reply(stream, answer, from, &shared.over)
}

fn reply(
    mut stream: &TcpStream,
    answer: Answer,
    from: Option<usize>,
    over: &AtomicBool,
) -> std::io::Result<()> {
    let head = |status: u16, more: &str| {
        format!("HTTP/1.1 {status} such\r\nConnection: close\r\n{more}\r\n")
    };
    let sized = |bytes: &[u8]| head(200, &format!("Content-Length: {}\r\n", bytes.len()));
    match answer {
        Answer::Bytes(bytes) => {
            stream.write_all(sized(&bytes).as_bytes())?;
            stream.write_all(&bytes)
        }
        Answer::Page(text) => {
            let length = format!(
                "Content-Type: text/html\r\nContent-Length: {}\r\n",
                text.len()
            );
            stream.write_all(head(200, &length).as_bytes())?;
            stream.write_all(text.as_bytes())
        }
        Answer::Status(status) => {
            let more = match status {
                401 => "WWW-Authenticate: Basic realm=\"x\"\r\n",
                407 => "Proxy-Authenticate: Basic realm=\"x\"\r\n",
                _ => "",
            };
            let more = format!("{more}Content-Length: 3\r\n");
            stream.write_all(head(status, &more).as_bytes())?;
            stream.write_all(b"no\n")
        }
        Answer::Garbage => stream.write_all(&[b"\x00\x17\xfe garbage ".as_slice(); 99].concat()),
        Answer::Truncated(bytes) => {
            stream.write_all(sized(&bytes).as_bytes())?;
            stream.write_all(&bytes[..bytes.len() / 2])
        }
        Answer::Cut(bytes) => {
            const SINCE: &str = "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT";
            let (len, half) = (bytes.len(), bytes.len() / 2);
            let (status, sent, range) = match from {
                None => (200, &bytes[..half], String::new()),
                Some(from) => {
                    let range = format!("Content-Range: bytes {from}-{}/{len}\r\n", len - 1);
                    (206, &bytes[from..], range)
                }
            };
            let length = len - from.unwrap_or_default();
            let more =
                format!("Accept-Ranges: bytes\r\n{SINCE}\r\n{range}Content-Length: {length}\r\n");
            stream.write_all(head(status, &more).as_bytes())?;
            stream.write_all(sent)
        }
        Answer::Endless => {
            let length = format!("Content-Length: {}\r\n", 1u64 << 40);
            stream.write_all(head(200, &length).as_bytes())?;
            while !over.load(Ordering::SeqCst) {
                stream.write_all(&[b'x'; 1 << 14])?;
            }
            Ok(())
        }
        Answer::Drip(bytes) => {
            stream.write_all(sized(&bytes).as_bytes())?;
            for byte in bytes {
                if over.load(Ordering::SeqCst) {
                    break;
                }
                stream.write_all(&[byte])?;
                std::thread::sleep(Duration::from_millis(200));
            }
            Ok(())
        }
        Answer::Redirect(to) => {
            let more = format!("Location: {to}\r\nContent-Length: 0\r\n");
            stream.write_all(head(302, &more).as_bytes())
        }
    }
}
