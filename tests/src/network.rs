//! Network namespaces and Debian's proxies: a far side of the network that is reached in no other way.

use std::fs::{self, File};
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::real;

/// The address of the far side's end of the cable.
const FAR: &str = "10.213.77.2";
const PATIENCE: Duration = Duration::from_secs(30);

/// Two network namespaces and a cable between them. What listens on the loopback interface of the far one is reached from
/// the near one only by way of something that listens at the cable. Takes root.
#[derive(Debug)]
pub struct FarSide {
    near: String,
    far: String,
}

impl FarSide {
    /// Makes the namespaces.
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = |side| format!("unlade-{}-{number}-{side}", process::id());
        // From here on dropping it removes what there is by then.
        let sides = Self {
            near: name("near"),
            far: name("far"),
        };
        let (near, far) = (sides.near.as_str(), sides.far.as_str());
        ip(&["netns", "add", near]);
        ip(&["netns", "add", far]);
        let cable = [
            "link", "add", "cable", "netns", near, "type", "veth", "peer", "name", "cable",
        ];
        ip(&[&cable[..], &["netns", far]].concat());
        for (side, address) in [(near, "10.213.77.1/30"), (far, "10.213.77.2/30")] {
            ip(&["-n", side, "address", "add", address, "dev", "cable"]);
            ip(&["-n", side, "link", "set", "cable", "up"]);
            ip(&["-n", side, "link", "set", "lo", "up"]);
        }
        sides
    }

    /// Returns the name of the far namespace.
    pub fn far(&self) -> &str {
        &self.far
    }

    /// Lets a command run in the near namespace.
    pub fn near(&self, command: crate::Command) -> crate::Command {
        command.in_namespace(&self.near)
    }
}

impl Default for FarSide {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for FarSide {
    fn drop(&mut self) {
        for name in [&self.near, &self.far] {
            drop(Command::new("ip").args(["netns", "delete", name]).output());
        }
    }
}

/// A proxy at the far end of the cable; it ends when dropped.
#[derive(Debug)]
pub struct RealProxy {
    server: Child,
    directory: TempDir,
    port: u16,
}

impl RealProxy {
    /// Starts `tinyproxy`, which wants this login if there is one.
    pub fn tinyproxy(sides: &FarSide, login: Option<(&str, &str)>) -> Self {
        let directory = tempfile::tempdir().expect("a directory for the proxy");
        let config = directory.path().join("tinyproxy.conf");
        let port = next_port();
        let login = login.map_or_else(String::new, |(username, password)| {
            format!("BasicAuth {username} {password}\n")
        });
        let text = format!("Port {port}\nListen {FAR}\nTimeout 600\nMaxClients 100\nLogLevel Connect\n{login}");
        fs::write(&config, text).expect("a configuration for the proxy");
        let mut command = Command::new("tinyproxy");
        command.arg("-d").arg("-c").arg(config);
        Self::start(sides, &command, directory, port)
    }

    /// Starts `microsocks`, which wants this login if there is one.
    pub fn microsocks(sides: &FarSide, login: Option<(&str, &str)>) -> Self {
        let directory = tempfile::tempdir().expect("a directory for the proxy");
        let port = next_port();
        let mut command = Command::new("microsocks");
        command.args(["-i", FAR, "-p", &port.to_string()]);
        if let Some((username, password)) = login {
            command.args(["-u", username, "-P", password]);
        }
        Self::start(sides, &command, directory, port)
    }

    fn start(sides: &FarSide, command: &Command, directory: TempDir, port: u16) -> Self {
        let log = File::create(directory.path().join("log")).expect("a log for the proxy");
        let name = command.get_program().to_string_lossy().into_owned();
        let server = inside(&sides.far, command)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log twice"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| real::cannot_run(&name, &error));
        wait_for_listener(&sides.far, port, PATIENCE);
        Self {
            server,
            directory,
            port,
        }
    }

    /// Returns `host:port`, as it is reached from the near side.
    pub fn host(&self) -> String {
        format!("{FAR}:{}", self.port)
    }

    /// Returns what the proxy has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

impl Drop for RealProxy {
    fn drop(&mut self) {
        drop(self.server.kill());
        drop(self.server.wait());
    }
}

/// Returns a port for one more proxy. The namespaces are the test's own, so nobody else has it.
fn next_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(8000);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Returns the same command for another network namespace. The pipes are not taken over.
pub(crate) fn inside(namespace: &str, command: &Command) -> Command {
    let mut outer = Command::new("ip");
    outer.args(["netns", "exec", namespace]);
    wrapped(outer, command)
}

/// Returns the same command as the arguments of another one. The pipes are not taken over.
pub(crate) fn wrapped(mut outer: Command, command: &Command) -> Command {
    outer.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    outer
}

/// Waits until something listens on the port in the namespace.
pub(crate) fn wait_for_listener(namespace: &str, port: u16, patience: Duration) {
    let since = Instant::now();
    let mut list = Command::new("ss");
    list.args(["-Hltn", &format!("sport = :{port}")]);
    while real::run(&mut inside(namespace, &list)).is_empty() {
        assert!(
            since.elapsed() < patience,
            "nothing listens on port {port} in {namespace}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn ip(arguments: &[&str]) {
    real::run(Command::new("ip").args(arguments));
}
