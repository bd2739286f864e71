//! A bucket in memory whose server keeps its word, or does not.
//!
//! It checks no signature: what a test wants of it is that it lies.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// What the server does other than it should.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lie {
    /// Nothing.
    #[default]
    None,
    /// Writes whatever `If-None-Match` says.
    IfNoneMatch,
    /// Writes whatever `If-Match` says.
    IfMatch,
    /// Writes although it answers 412.
    Refuses,
    /// Refuses every `If-Match`.
    NoMatch,
    /// Answers 501 to conditions.
    Unknown,
    /// Makes an object for `If-Match` where none is.
    Creates,
    /// Sends all for a range.
    Range,
    /// Lists what was there when it was started: nothing.
    List,
}

struct Shared {
    lie: Lie,
    objects: Mutex<BTreeMap<String, (Vec<u8>, u64)>>,
    /// Method and key of each request.
    asked: Mutex<Vec<String>>,
}

/// The server; it ends with the test's process.
pub struct MemoryBucket {
    port: u16,
    shared: Arc<Shared>,
}

impl MemoryBucket {
    /// Starts a server with an empty bucket.
    ///
    /// # Panics
    ///
    /// If it cannot listen.
    pub fn start(lie: Lie) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared {
            lie,
            objects: Mutex::default(),
            asked: Mutex::default(),
        });
        let served = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let served = Arc::clone(&served);
                thread::spawn(move || while served.serve(&stream).is_some() {});
            }
        });
        Self { port, shared }
    }

    /// The variables with which a client asks this server.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            (
                "AWS_ENDPOINT_URL_S3",
                format!("http://127.0.0.1:{}", self.port),
            ),
            ("AWS_ACCESS_KEY_ID", "key".into()),
            ("AWS_SECRET_ACCESS_KEY", "secret".into()),
            ("AWS_REGION", "us-east-1".into()),
        ]
    }

    /// The keys that are there, with the bucket's name before them.
    ///
    /// # Panics
    ///
    /// If a request panicked.
    pub fn keys(&self) -> Vec<String> {
        self.shared
            .objects
            .lock()
            .unwrap()
            .keys()
            .cloned()
            .collect()
    }

    /// Puts an object there, by the bucket's name and its key.
    ///
    /// # Panics
    ///
    /// If a request panicked.
    pub fn put(&self, key: &str, bytes: &[u8]) {
        let mut objects = self.shared.objects.lock().unwrap();
        objects.insert(key.to_owned(), (bytes.to_vec(), 1));
    }

    /// Method and key of each request so far.
    ///
    /// # Panics
    ///
    /// If a request panicked.
    pub fn asked(&self) -> Vec<String> {
        self.shared.asked.lock().unwrap().clone()
    }
}

impl Shared {
    /// Answers one request; `None` at the end of the connection.
    fn serve(&self, stream: &TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|len| *len > 0)?;
        let mut words = line.split(' ');
        let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim().split_once(':') else {
                break;
            };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let length = headers
            .get("content-length")
            .and_then(|text| text.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut body).ok()?;
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let key = path.trim_matches('/').to_owned();
        self.asked.lock().unwrap().push(format!("{method} {key}"));
        let (status, head, content) = self.answer(&method, &key, query, &headers, body);
        let mut answer = format!("HTTP/1.1 {status} X\r\n{head}").into_bytes();
        let now = "Date: Mon, 23 Nov 2026 05:00:00 GMT\r\n";
        let rest = format!("{now}Content-Length: {}\r\n\r\n", content.len());
        answer.extend(rest.into_bytes());
        if method != "HEAD" {
            answer.extend(content);
        }
        (&mut &*stream).write_all(&answer).ok()
    }

    fn answer(
        &self,
        method: &str,
        key: &str,
        query: &str,
        headers: &BTreeMap<String, String>,
        body: Vec<u8>,
    ) -> (u16, String, Vec<u8>) {
        let mut objects = self.objects.lock().unwrap();
        let nothing = |status| (status, String::new(), Vec::new());
        let there = objects.get(key).cloned();
        match method {
            "PUT" => {
                let new = headers.contains_key("if-none-match");
                let wanted = headers.get("if-match");
                if self.lie == Lie::Unknown && (new || wanted.is_some()) {
                    return nothing(501);
                }
                let tag = there.as_ref().map(|(_, version)| format!("\"{version}\""));
                let refused = (new && tag.is_some() && self.lie != Lie::IfNoneMatch)
                    || wanted.is_some_and(|wanted| match (&tag, self.lie) {
                        (Some(_), Lie::NoMatch) => true,
                        (Some(_), Lie::IfMatch) | (None, Lie::Creates) => false,
                        _ => tag.as_ref() != Some(wanted),
                    });
                if refused && self.lie != Lie::Refuses {
                    return nothing(if tag.is_some() { 412 } else { 404 });
                }
                let version = there.map_or(1, |(_, version)| version) + 1;
                objects.insert(key.to_owned(), (body, version));
                let head = format!("ETag: \"{version}\"\r\n");
                (if refused { 412 } else { 200 }, head, Vec::new())
            }
            "DELETE" => {
                objects.remove(key);
                nothing(204)
            }
            _ if query.contains("list-type=2") => {
                let prefix = query
                    .split('&')
                    .find_map(|part| part.strip_prefix("prefix="));
                let prefix = prefix.unwrap_or_default().replace("%2F", "/");
                let mut text = String::from(
                    "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><IsTruncated>false</IsTruncated><MaxKeys>1000</MaxKeys>\
                     <EncodingType>url</EncodingType>",
                );
                for (name, (bytes, version)) in objects.iter() {
                    let name = name.strip_prefix(&format!("{key}/")).unwrap_or(name);
                    if !name.starts_with(&prefix) || self.lie == Lie::List {
                        continue;
                    }
                    let _ = write!(
                        text,
                        "<Contents><Key>{name}</Key><ETag>\"{version}\"</ETag><Size>{}</Size>\
                         <LastModified>2026-11-23T05:00:00.000Z</LastModified></Contents>",
                        bytes.len()
                    );
                }
                text += "</ListBucketResult>";
                (200, String::new(), text.into_bytes())
            }
            _ => {
                let Some((bytes, version)) = there else {
                    return nothing(404);
                };
                let head = format!(
                    "ETag: \"{version}\"\r\nLast-Modified: Mon, 23 Nov 2026 05:00:00 GMT\r\n"
                );
                let range = headers.get("range").filter(|_| self.lie != Lie::Range);
                let range = range.and_then(|text| text.strip_prefix("bytes=")?.split_once('-'));
                let Some((first, last)) = range else {
                    return (200, head, bytes);
                };
                let first: usize = first.parse().unwrap_or(0);
                let end = last.parse().map_or(bytes.len(), |last: usize| last + 1);
                let end = end.min(bytes.len());
                let head = format!(
                    "{head}Content-Range: bytes {first}-{}/{}\r\n",
                    end.saturating_sub(1),
                    bytes.len()
                );
                (206, head, bytes[first.min(end)..end].to_vec())
            }
        }
    }
}
