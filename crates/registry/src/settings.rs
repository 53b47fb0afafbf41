//! The times that a client allows.

use std::time::Duration;

/// How long the parts of a request may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For name lookup, TCP and TLS together.
    pub connect: Duration,
    /// From the request's last byte to the response's headers.
    pub response: Duration,
    /// For `min_progress` bytes of a body to arrive; a body that is slower is a stall.
    pub idle: Duration,
    /// How many bytes must arrive within `idle`. With 1, only silence is a stall.
    pub min_progress: u64,
}

impl Default for Timeouts {
    /// 10 s to connect, 30 s for an answer, and 16 KiB every 30 s: slower than any modem, faster than any dead line.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            response: Duration::from_secs(30),
            idle: Duration::from_secs(30),
            min_progress: 16 << 10,
        }
    }
}
