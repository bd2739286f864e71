//! Addresses of sockets and questions of name lookups, as bytes of a process.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The port of name servers (RFC 1035, 4.2.1).
pub(super) const NAME_SERVER: u16 = 53;

/// Somebody a packet is sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) address: IpAddr,
    /// Zero where there are no ports.
    pub(super) port: u16,
}

impl Peer {
    /// Reads a `sockaddr_in` or `sockaddr_in6` (ip(7), ipv6(7)); other families
    /// do not leave the machine.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let family = u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?);
        let port = u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?);
        let address = match i32::from(family) {
            libc::AF_INET => {
                let bytes: [u8; 4] = bytes.get(4..8)?.try_into().ok()?;
                IpAddr::from(Ipv4Addr::from(bytes))
            }
            libc::AF_INET6 => {
                let bytes: [u8; 16] = bytes.get(8..24)?.try_into().ok()?;
                IpAddr::from(Ipv6Addr::from(bytes)).to_canonical()
            }
            _ => return None,
        };
        Some(Self { address, port })
    }

    /// Whether it is in the sandbox itself.
    pub(super) fn is_here(&self) -> bool {
        self.address.is_loopback() || self.address.is_unspecified()
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            0 => write!(f, "{}", self.address),
            port => write!(f, "{} port {port}", self.address),
        }
    }
}

/// The name that a query asks for (RFC 1035, 4.1); characters that no name of
/// a host has become `?`.
pub(super) fn question(packet: &[u8]) -> Option<String> {
    let header = packet.get(..12)?;
    // A query, a standard one, with one question and no answers.
    if header[2] & 0xf8 != 0 || header[4..6] != [0, 1] || header[6..8] != [0, 0] {
        return None;
    }
    let mut name = String::new();
    let mut rest = &packet[12..];
    loop {
        let (&length, after) = rest.split_first()?;
        if length == 0 {
            break;
        }
        // Longer ones are pointers, which a question does not need.
        let label = after.get(..usize::from(length)).filter(|_| length < 64)?;
        if !name.is_empty() {
            name.push('.');
        }
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        name.extend(
            label
                .iter()
                .map(|&b| if plain(b) { b as char } else { '?' }),
        );
        rest = &after[usize::from(length)..];
    }
    (1..=253).contains(&name.len()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_the_kernel_reads_them() {
        let mut four = libc::AF_INET.to_ne_bytes()[..2].to_vec();
        four.extend([1, 187, 192, 0, 2, 7, 0, 0, 0, 0, 0, 0, 0, 0]);
        let peer = Peer::parse(&four).unwrap();
        assert_eq!(peer.to_string(), "192.0.2.7 port 443");
        assert!(!peer.is_here());
        assert_eq!(Peer::parse(&four[..7]), None);
        let mut six = libc::AF_INET6.to_ne_bytes()[..2].to_vec();
        six.extend([0, 0, 0, 0, 0, 0]);
        six.extend("::ffff:127.0.0.1".parse::<Ipv6Addr>().unwrap().octets());
        let peer = Peer::parse(&six).unwrap();
        assert_eq!(peer.to_string(), "127.0.0.1");
        assert!(peer.is_here());
        let local = libc::AF_UNIX.to_ne_bytes();
        assert_eq!(Peer::parse(&[&local[..2], b"/run/socket"].concat()), None);
    }

    #[test]
    fn a_question_is_read_and_other_bytes_are_not() {
        let mut packet = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        packet.extend(b"\x06mirror\x07example\x00\x00\x01\x00\x01");
        assert_eq!(question(&packet).unwrap(), "mirror.example");
        for end in 0..packet.len() - 4 {
            assert_eq!(question(&packet[..end]), None, "{end}");
        }
        let mut odd = packet.clone();
        odd[13] = b'\x1b';
        assert_eq!(question(&odd).unwrap(), "?irror.example");
        packet[2] = 0x81;
        assert_eq!(question(&packet), None, "an answer");
    }
}
