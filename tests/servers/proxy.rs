//! A proxy between a client and a real server, which does to answers what networks
//! and broken servers do.
//!
//! One request a connection (RFC 9112). A handler decides about each request before
//! it is passed on, or answered in the server's place.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// What a client asked for.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// How many requests came before this one.
    pub number: usize,
    /// `GET` and the like.
    pub method: String,
    /// The path with its leading slash.
    pub path: String,
    /// Every header, names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Asked {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The first byte of the range that is asked for.
    pub fn start(&self) -> Option<u64> {
        let range = self.header("range")?.strip_prefix("bytes=")?;
        range.split('-').next()?.parse().ok()
    }
}

/// What becomes of the answer.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Nothing happens to it.
    None,
    /// The connection ends without an answer, and the server learns nothing of it.
    Hangup,
    /// The server does what it is asked for; its answer is lost.
    Lost,
    /// One bit of this byte of what is sent to the server is another.
    Spoil(usize),
    /// The connection ends after so many bytes of content.
    Cut(usize),
    /// One bit of this byte of content is another.
    Flip(usize),
    /// The range is not passed on: the server sends everything.
    Whole,
    /// The range begins so many bytes later than it says.
    Shift(u64),
    /// As many bytes as these are announced and sent in addition.
    More(Vec<u8>),
    /// A byte now and then.
    Drip,
    /// This answer, with these headers.
    Status(u16, String),
    /// This answer, with these headers and this content.
    Answer(u16, String, String),
    /// A redirect to this address.
    Redirect(String),
    /// The answer for another path.
    Instead(String),
    /// The answer after so long.
    Late(Duration),
}

type Handler = dyn Fn(&Asked) -> Fault + Send + Sync;

struct Shared {
    server: SocketAddr,
    handler: Box<Handler>,
    asked: Mutex<Vec<Asked>>,
    moved: AtomicU64,
    over: AtomicBool,
}

/// The proxy; gone when dropped.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Starts it before the server on that port of loopback.
    pub fn start(server: u16, handler: impl Fn(&Asked) -> Fault + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback works");
        let port = listener.local_addr().expect("it is bound").port();
        let shared = Arc::new(Shared {
            server: SocketAddr::from(([127, 0, 0, 1], server)),
            handler: Box::new(handler),
            asked: Mutex::default(),
            moved: AtomicU64::new(0),
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

    /// Everything that was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        let asked = self.shared.asked.lock();
        asked.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Bytes of content that went to the server and came from it.
    pub fn moved(&self) -> u64 {
        self.shared.moved.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], self.port)));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn converse(client: &TcpStream, shared: &Shared) -> std::io::Result<()> {
    client.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut reader = BufReader::new(client);
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(());
    }
    let mut words = line.split(' ').map(str::to_owned);
    let mut asked = Asked {
        method: words.next().unwrap_or_default(),
        path: words.next().unwrap_or_default(),
        ..Asked::default()
    };
    asked.headers = headers(&mut reader)?;
    let length = asked.header("content-length").map(str::parse);
    let mut sent = vec![0; length.and_then(Result::ok).unwrap_or(0)];
    reader.read_exact(&mut sent)?;
    {
        let mut all = shared.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.number = all.len();
        all.push(asked.clone());
    }
    let fault = (shared.handler)(&asked);
    let mut client = client;
    match &fault {
        Fault::Hangup => return Ok(()),
        Fault::Status(status, more) => return say(client, *status, more, "no\n"),
        Fault::Answer(status, more, text) => return say(client, *status, more, text),
        Fault::Redirect(to) => {
            let head = "HTTP/1.1 302 such\r\nConnection: close\r\nContent-Length: 0\r\n";
            return client.write_all(format!("{head}Location: {to}\r\n\r\n").as_bytes());
        }
        Fault::Late(time) => std::thread::sleep(*time),
        Fault::Spoil(at) if !sent.is_empty() => {
            let at = at % sent.len();
            sent[at] ^= 0x10;
        }
        _ => {}
    }
    if let Fault::Instead(path) = &fault {
        asked.path.clone_from(path);
    }
    let mut asked_for = None;
    if let Fault::Shift(by) = &fault
        && let Some(range) = asked.headers.iter_mut().find(|(name, _)| name == "range")
    {
        let shifted = range.1.strip_prefix("bytes=").and_then(|both| {
            let (first, last) = both.split_once('-')?;
            let [first, last] = [first, last].map(|at| at.parse::<u64>().ok());
            Some((first?, last?))
        });
        if let Some((first, last)) = shifted {
            asked_for = Some(format!("{first}-{last}"));
            range.1 = format!("bytes={}-{}", first + by, last + by);
        }
    }
    let whole = matches!(fault, Fault::Whole);
    let (mut head, body) = pass_on(&asked, &sent, whole, shared.server)?;
    if let Some(range) = asked_for
        && let Some(line) = head
            .lines()
            .find(|line| line.starts_with("content-range: "))
        && let Some((_, size)) = line.rsplit_once('/')
    {
        head = head.replace(line, &format!("content-range: bytes {range}/{size}"));
    }
    let moved = sent.len() + body.as_ref().map_or(0, Vec::len);
    shared.moved.fetch_add(moved as u64, Ordering::SeqCst);
    if matches!(fault, Fault::Lost) {
        return Ok(());
    }
    answer(client, &fault, &head, body, &shared.over)
}

fn say(mut client: &TcpStream, status: u16, more: &str, text: &str) -> std::io::Result<()> {
    let head = format!("HTTP/1.1 {status} such\r\nConnection: close\r\n{more}");
    let head = format!("{head}Content-Length: {}\r\n\r\n", text.len());
    client.write_all((head + text).as_bytes())
}

fn headers(reader: &mut impl BufRead) -> std::io::Result<Vec<(String, String)>> {
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            return Ok(headers);
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

/// Asks the server; the status line and headers, and the content.
fn pass_on(
    asked: &Asked,
    sent: &[u8],
    whole: bool,
    server: SocketAddr,
) -> std::io::Result<(String, Option<Vec<u8>>)> {
    let mut stream = TcpStream::connect(server)?;
    let Asked { method, path, .. } = asked;
    // Nobody sends chunks to such an old client.
    let mut request = format!("{method} {path} HTTP/1.0\r\nConnection: close\r\n");
    for (name, value) in &asked.headers {
        if name != "connection" && !(whole && (name == "range" || name == "if-range")) {
            request.extend([name, ": ", value, "\r\n"]);
        }
    }
    stream.write_all(format!("{request}\r\n").as_bytes())?;
    stream.write_all(sent)?;
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    reader.read_line(&mut head)?;
    // The lengths of these are not those of a content.
    let bodiless = method == "HEAD" || head.contains(" 204 ");
    let mut head = head.replacen("HTTP/1.0", "HTTP/1.1", 1);
    for (name, value) in headers(&mut reader)? {
        if name != "content-length" || bodiless {
            head.extend([&name, ": ", &value, "\r\n"]);
        }
    }
    let mut body = Vec::new();
    reader.read_to_end(&mut body)?;
    Ok((head, (!bodiless).then_some(body)))
}

fn answer(
    mut client: &TcpStream,
    fault: &Fault,
    head: &str,
    body: Option<Vec<u8>>,
    over: &AtomicBool,
) -> std::io::Result<()> {
    let Some(mut body) = body else {
        return client.write_all(format!("{head}\r\n").as_bytes());
    };
    let mut sent = body.len();
    match fault {
        Fault::Cut(after) => sent = sent.min(*after),
        Fault::Flip(at) if !body.is_empty() => {
            let at = at % body.len();
            body[at] ^= 0x10;
        }
        Fault::More(more) => {
            body.extend_from_slice(more);
            sent = body.len();
        }
        _ => {}
    }
    let head = format!("{head}Content-Length: {}\r\n\r\n", body.len());
    client.write_all(head.as_bytes())?;
    if matches!(fault, Fault::Drip) {
        for byte in body {
            if over.load(Ordering::SeqCst) {
                break;
            }
            client.write_all(&[byte])?;
            std::thread::sleep(Duration::from_millis(100));
        }
        return Ok(());
    }
    client.write_all(&body[..sent])
}
