//! The smallest HTTP client: one request a connection, nothing interpreted that need not be.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// What came back, as far as it came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// Returns a header of the response.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    /// Reads the body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// Sends one request and reads until the connection closes. `None`: it closed without an answer.
pub(crate) fn send(host: &str, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Option<Answer> {
    let mut stream = TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut request = format!("{method} {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&[*name, ": ", *value, "\r\n"].concat());
    }
    if !body.is_empty() {
        request.push_str(&["content-length: ", &body.len().to_string(), "\r\n"].concat());
    }
    stream.write_all(format!("{request}\r\n{body}").as_bytes()).unwrap();
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    let split = received.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8(received[..split].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Some(Answer {
        status,
        head,
        body: received[split + 4..].to_vec(),
    })
}

/// Sends a GET without headers of its own.
pub(crate) fn get(host: &str, target: &str) -> Answer {
    get_with(host, target, &[])
}

/// Sends a GET.
pub(crate) fn get_with(host: &str, target: &str, headers: &[(&str, &str)]) -> Answer {
    send(host, "GET", target, headers, "").expect("an answer")
}
