//! The times that a client allows, and whom it trusts.

use std::time::Duration;

/// How long the parts of a request may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For name lookup, proxy, TCP and TLS together.
    pub connect: Duration,
    /// From when there is a connection, new or kept, to the response's headers. The time that it took to connect does not
    /// count.
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

/// Which certificate authorities are trusted for every server. An endpoint's own come on top.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Roots {
    /// Those of the system, or of `SSL_CERT_FILE` and `SSL_CERT_DIR` where these are set, as the system's other programs do
    /// it; the built-in ones if there are none. They are read when TLS is first spoken.
    #[default]
    System,
    /// Those of the web (Mozilla's list) as of when this program was built. Neither files nor the environment are read.
    BuiltIn,
}
