//! Addresses that a system listens on.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use store::manifest::is_plain_path;

/// What stands before the path of a Unix socket, as for nginx and gunicorn.
const UNIX: &str = "unix:";

/// The longest path of a Unix socket, in bytes. The kernel takes 107, and the file to which a session binds
/// is called like it and 14 bytes longer.
pub const LONGEST_PATH: usize = 93;

/// An address that a system listens on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Address {
    /// An address of TCP, with its port.
    Tcp(SocketAddr),
    /// The path of a Unix socket on the host.
    Unix(String),
}

impl Address {
    /// The address of TCP; none of a Unix socket.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// The path of a Unix socket; none of TCP.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Tcp(_) => None,
            Self::Unix(path) => Some(Path::new(path)),
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(path) = text.strip_prefix(UNIX) else {
            return text.parse().map(Self::Tcp).map_err(|_| {
                format!(
                    "`{}` is no address to listen on, such as 0.0.0.0:8000, [::]:8000 or \
                     unix:/run/app.sock",
                    text.escape_debug()
                )
            });
        };
        // A line of an environment file has several, separated by commas.
        let odd = |c: char| c == ',' || c.is_whitespace() || c.is_control();
        if !is_plain_path(path) || path.contains(odd) {
            return Err(format!(
                "`{}` needs an absolute path without `.`, `..`, spaces and commas behind `unix:`",
                text.escape_debug()
            ));
        }
        if path.len() > LONGEST_PATH {
            return Err(format!(
                "`{text}` is too long: the path of a socket has at most {LONGEST_PATH} bytes"
            ));
        }
        Ok(Self::Unix(path.to_owned()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "{UNIX}{path}"),
        }
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_written() {
        for text in ["127.0.0.1:80", "[::1]:80", "unix:/run/app.sock"] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
            let json = serde_json::to_string(&address).unwrap();
            assert_eq!(json, format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<Address>(&json).unwrap(), address);
        }
        let longest = format!("unix:/{}", "x".repeat(LONGEST_PATH - 1));
        assert!(longest.parse::<Address>().is_ok());
        for text in [
            "/run/app.sock",
            "localhost:80",
            "unix:",
            "unix:/",
            "unix:run/app.sock",
            "unix:@app",
            "unix:/run/../app.sock",
            "unix:/run/app.sock/",
            "unix:/run/a,b",
            "unix:/run/a b",
            &format!("{longest}x"),
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }
}
