//! Debian's `nginx` as the place to which a registry sends its clients for blobs.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::real;
use crate::registry::free_address;

/// How long it may take until it answers.
const PATIENCE: Duration = Duration::from_secs(30);

/// An nginx on a free loopback port that serves the files of a directory; it ends when dropped.
#[derive(Debug)]
pub struct Nginx {
    server: Child,
    address: SocketAddr,
    directory: TempDir,
}

/// A request that nginx has ended, as its log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// The path.
    pub path: String,
    /// The status of the answer.
    pub status: String,
    /// How many bytes of the body were sent.
    pub bytes: u64,
    /// The header `Range`.
    pub range: Option<String>,
    /// The header `Authorization`.
    pub authorization: Option<String>,
}

impl Nginx {
    /// Starts, with nothing to serve yet, and waits until it answers.
    pub fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory for nginx");
        // Between finding a free port and the server's taking it somebody else may take it; then there is another.
        for _ in 0..5 {
            let address = free_address();
            fs::write(directory.path().join("nginx.conf"), configuration(address)).expect("a configuration for nginx");
            let mut server = run(directory.path());
            let since = Instant::now();
            while since.elapsed() < PATIENCE && server.try_wait().expect("a child can be waited for").is_none() {
                if TcpStream::connect(address).is_ok() {
                    return Self {
                        server,
                        address,
                        directory,
                    };
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            drop(server.kill());
            drop(server.wait());
        }
        let log = fs::read_to_string(directory.path().join("error.log")).unwrap_or_default();
        panic!("nginx does not start:\n{log}");
    }

    /// Serves the files of `root` from now on.
    pub fn serve(&self, root: &Path) {
        symlink(root, self.directory.path().join("root")).expect("a link to what is served");
    }

    /// Returns `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Returns the requests that have ended so far.
    pub fn served(&self) -> Vec<Served> {
        let log = fs::read_to_string(self.directory.path().join("access.log")).expect("nginx keeps a log");
        // The last line may be half written.
        let lines = log.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        lines.map(|line| Served::parse(line.trim_end())).collect()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        drop(self.server.kill());
        drop(self.server.wait());
    }
}

impl Served {
    fn parse(line: &str) -> Self {
        let fields: Vec<_> = line.split('|').collect();
        let [path, status, bytes, range, authorization] = fields[..] else {
            panic!("a line of nginx's log is {line:?}");
        };
        let given = |field: &str| (field != "-").then(|| field.to_owned());
        Self {
            path: path.to_owned(),
            status: status.to_owned(),
            bytes: bytes.parse().expect("a number of bytes"),
            range: given(range),
            authorization: given(authorization),
        }
    }
}

/// Paths are below the prefix, the directory of this test.
fn configuration(address: SocketAddr) -> String {
    assert_eq!(address.ip(), Ipv4Addr::LOCALHOST);
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("  {name}_temp_path temporary-{name};\n"))
        .concat();
    // One process as the user of the test: a worker of a master of root's would be somebody else, and outlive a kill.
    format!(
        "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log error.log;\nevents {{}}\nhttp {{\n{temporary}  \
         log_format test '$uri|$status|$body_bytes_sent|$http_range|$http_authorization';\n  access_log access.log test;\n  \
         server {{\n    listen {address};\n    root root;\n  }}\n}}\n"
    )
}

fn run(directory: &Path) -> Child {
    Command::new("nginx")
        .arg("-p")
        .arg(directory)
        .args(["-c", "nginx.conf", "-e", "error.log"])
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| real::cannot_run("nginx", &error))
}
