//! Asks a running server whether it is ready: the check of containers that hold no other program.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// For each step.
const PATIENCE: Duration = Duration::from_secs(3);
/// The line that the answer must begin with.
const READY: &[u8] = b"HTTP/1.1 200 ";

/// Asks the server that listens on an address.
///
/// # Errors
/// When nobody answers there, or not that recordings are recognised.
pub fn run(host: IpAddr, port: u16) -> Result<(), String> {
    // Who listens on all addresses is reached on the loopback one.
    let host = match host {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    };
    let address = SocketAddr::new(host, port);
    let begin = ask(address).map_err(|e| format!("no answer from {address}: {e}"))?;
    match begin == READY {
        true => Ok(()),
        false => Err(format!("the server on {address} is not ready")),
    }
}

fn ask(address: SocketAddr) -> std::io::Result<[u8; READY.len()]> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // A loopback name is taken whichever names the server goes by.
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut begin = [0; READY.len()];
    stream.read_exact(&mut begin)?;
    Ok(begin)
}
