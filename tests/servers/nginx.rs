//! Real nginx on loopback, as nobody, with a configuration of its own.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The user and group `nobody` of Debian.
const NOBODY: u32 = 65534;

/// A server of one directory; ended when dropped.
pub struct Nginx {
    process: Child,
    place: tempfile::TempDir,
    port: u16,
}

impl Nginx {
    /// Serves `root`, which everybody must be able to enter. `settings` are nginx
    /// directives for the server, such as `max_ranges 0;`.
    pub fn serve(root: &Path, settings: &str) -> Self {
        let root = root.display();
        Self::configured(&format!(
            "server {{ listen 443 ssl; root {root}; {settings} }}\n"
        ))
    }

    /// Serves what a configuration says, from inside its `http`. It is one for a machine that serves
    /// nothing else: here `listen 443 ssl;` is a free port of loopback without TLS, and caches are
    /// in a directory of their own in place of `/var/cache/nginx`.
    pub fn configured(configuration: &str) -> Self {
        let place = tempfile::tempdir().expect("a temporary directory can be made");
        // Its workers are nobody.
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o777)).expect("it is ours");
        let port = free_port();
        let here = place.path().display();
        let plain = |line: &&str| {
            let line = line.trim_start();
            !line.starts_with("ssl_") && !line.starts_with("proxy_ssl_")
        };
        let lines: Vec<_> = configuration.lines().filter(plain).collect();
        let servers = lines
            .join("\n")
            .replace("listen 443 ssl;", &format!("listen 127.0.0.1:{port};"))
            .replace("/var/cache/nginx", &here.to_string());
        let text = format!(
            "daemon off;\nworker_processes 1;\npid {here}/pid;\nerror_log {here}/error.log;\n\
             events {{ worker_connections 900; }}\n\
             http {{\n\
             log_format t '$request_method $uri $status $body_bytes_sent';\n\
             access_log {here}/access.log t;\n\
             client_body_temp_path {here}/1; proxy_temp_path {here}/2;\n\
             fastcgi_temp_path {here}/3; uwsgi_temp_path {here}/4; scgi_temp_path {here}/5;\n\
             default_type application/octet-stream;\nsendfile on;\n\
             {servers}\n}}\n"
        );
        let configuration = place.path().join("nginx.conf");
        fs::write(&configuration, text).expect("the directory is ours");
        let process = Command::new("nginx")
            .arg("-e")
            .arg(place.path().join("error.log"))
            .arg("-p")
            .arg(place.path())
            .arg("-c")
            .arg(&configuration)
            .uid(NOBODY)
            .gid(NOBODY)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx is needed: apt-get install --no-install-recommends nginx");
        let mut server = Self {
            process,
            place,
            port,
        };
        server.wait_until_up();
        server
    }

    fn wait_until_up(&mut self) {
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(address).is_err() {
            let ended = self.process.try_wait().expect("it is our child");
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "nginx does not serve: {}",
                fs::read_to_string(self.place.path().join("error.log")).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Its port on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What was asked so far: `METHOD PATH STATUS BYTES`, one a line.
    pub fn log(&self) -> Vec<String> {
        let text = fs::read_to_string(self.place.path().join("access.log"));
        text.unwrap_or_default()
            .lines()
            .map(str::to_owned)
            .collect()
    }
}

/// The bytes that were sent as answers, in lines of a log.
pub fn sent(log: &[String]) -> u64 {
    let found = log.iter().filter(|line| !line.contains(" 404 "));
    found
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // The master does not leave its worker behind after this signal.
        let pid = self.process.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        let deadline = Instant::now() + Duration::from_secs(5);
        while self.process.try_wait().is_ok_and(|ended| ended.is_none()) {
            if Instant::now() > deadline {
                let _ = self.process.kill();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A port of loopback that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback works");
    let address = listener.local_addr();
    address.expect("a bound socket has an address").port()
}

/// The settings for a second port with TLS, and its address.
pub fn tls(key: &Path, certificate: &Path) -> (String, String) {
    let port = free_port();
    let settings = format!(
        "listen 127.0.0.1:{port} ssl; ssl_certificate {}; ssl_certificate_key {};",
        certificate.display(),
        key.display()
    );
    (format!("https://127.0.0.1:{port}"), settings)
}
