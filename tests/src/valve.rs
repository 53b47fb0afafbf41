//! A port in front of a server, which holds back what the server sends until a test has seen what it waits for.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;

/// A port that passes on to another one; it ends when dropped.
#[derive(Debug)]
pub struct Valve {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// How many bytes each connection gets from the server.
    limit: Option<u64>,
    passed: u64,
    ended: bool,
}

impl Valve {
    /// Starts, open, before the server at `host:port`, which need not be there yet.
    pub fn start(host: &str) -> Self {
        let target: SocketAddr = host.parse().unwrap_or_else(|_| panic!("{host} is no address"));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, target, &accepting));
        Self { address, shared }
    }

    /// Returns `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Lets each connection have that many bytes from the server, and no more before [`Self::open`].
    pub fn hold_after(&self, bytes: u64) {
        self.shared.lock().limit = Some(bytes);
    }

    /// Lets everything through. If the server is gone by now, its clients get what is on the way and then the end.
    pub fn open(&self) {
        self.shared.lock().limit = None;
        self.shared.changed.notify_all();
    }

    /// Returns how many bytes went from the server to its clients, all in all.
    pub fn passed(&self) -> u64 {
        self.shared.lock().passed
    }
}

impl Drop for Valve {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.open();
        // Wakes the thread that accepts; if it has ended, there is nobody to wake.
        drop(TcpStream::connect(self.address));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread has panicked with the lock")
    }

    /// Waits until a connection that has had `passed` bytes may have more, and takes up to `wanted` of them.
    fn take(&self, passed: u64, wanted: usize) -> usize {
        let state = self.lock();
        let full = |state: &mut State| state.limit.is_some_and(|limit| passed >= limit);
        let mut state = self.changed.wait_while(state, full).expect("no thread has panicked");
        let left = state.limit.map_or(u64::MAX, |limit| limit - passed);
        let taken = wanted.min(usize::try_from(left).unwrap_or(usize::MAX));
        state.passed += taken as u64;
        taken
    }
}

fn accept(listener: &TcpListener, target: SocketAddr, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.lock().ended {
            return;
        }
        // Without a server the client's connection is closed, which is all that there is to tell it.
        let (Ok(client), Ok(server)) = (client, TcpStream::connect(target)) else {
            continue;
        };
        let shared = Arc::clone(shared);
        let back = (client.try_clone(), server.try_clone());
        if let (Ok(to_client), Ok(from_server)) = back {
            thread::spawn(move || {
                // An error is the end of one side, and then of the other.
                drop(pass_back(&from_server, &to_client, &shared));
                drop(from_server.shutdown(Shutdown::Both));
                drop(to_client.shutdown(Shutdown::Both));
            });
            thread::spawn(move || {
                drop(io::copy(&mut &client, &mut &server));
                drop(server.shutdown(Shutdown::Write));
            });
        }
    }
}

fn pass_back(mut server: &TcpStream, mut client: &TcpStream, shared: &Shared) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    let mut passed = 0;
    loop {
        let read = server.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        let mut rest = &buffer[..read];
        while !rest.is_empty() {
            let taken = shared.take(passed, rest.len());
            client.write_all(&rest[..taken])?;
            passed += taken as u64;
            rest = &rest[taken..];
        }
    }
}
