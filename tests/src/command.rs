//! One run of the command: its arguments, its end, and what it printed.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Seek as _, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::network;

/// A run that takes longer than this is killed, and the test fails.
const TIME_LIMIT: Duration = Duration::from_mins(4);

/// A run of `unlade` that has not begun.
#[derive(Debug)]
#[must_use = "nothing happens before `run` or `start`"]
pub struct Command {
    process: std::process::Command,
    /// Where the standard output goes, if it is not to be looked at.
    stdout: Option<Stdio>,
    /// For the error message.
    line: String,
}

impl Command {
    /// Begins a command line. Nothing of this process's environment is passed on.
    pub(crate) fn new(program: &Path) -> Self {
        let mut command = std::process::Command::new(program);
        command.env_clear().stdin(Stdio::null());
        Self {
            process: command,
            stdout: None,
            line: "unlade".to_owned(),
        }
    }

    /// Adds arguments.
    pub fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        for argument in arguments {
            self.line.push(' ');
            self.line.push_str(&argument.as_ref().to_string_lossy());
            self.process.arg(argument);
        }
        self
    }

    /// Adds an argument.
    pub fn arg(self, argument: impl AsRef<OsStr>) -> Self {
        self.args([argument])
    }

    /// Sets a variable of the environment.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.process.env(name, value);
        self
    }

    /// Gives it this on its standard input.
    pub fn stdin(mut self, text: &str) -> Self {
        let mut file = tempfile::tempfile().expect("a file for the input");
        file.write_all(text.as_bytes())
            .and_then(|()| file.rewind())
            .expect("the input can be written");
        self.process.stdin(file);
        self
    }

    /// Gives it a file, or the end of a pipe, on its standard input.
    pub fn stdin_from(mut self, input: impl Into<Stdio>) -> Self {
        self.process.stdin(input);
        self
    }

    /// Sends its standard output to a file, or into a pipe.
    pub fn stdout_to(mut self, output: impl Into<Stdio>) -> Self {
        self.stdout = Some(output.into());
        self
    }

    /// Runs as another user, in the group of the same number alone: the standard library drops the other groups of root.
    pub(crate) fn user(mut self, id: u32) -> Self {
        self.process.uid(id).gid(id);
        self
    }

    /// Runs in another network namespace.
    #[must_use = "nothing happens before `run` or `start`"]
    pub(crate) fn in_namespace(mut self, namespace: &str) -> Self {
        let mut outer = network::inside(namespace, &self.process);
        outer.stdin(Stdio::null());
        self.process = outer;
        self
    }

    /// Runs where the file `boot` stands for the kernel's identifier of the boot. Takes root.
    pub(crate) fn under_boot(mut self, boot: &Path) -> Self {
        let mut outer = std::process::Command::new("unshare");
        let bind = "mount --bind \"$0\" /proc/sys/kernel/random/boot_id && exec \"$@\"";
        outer.args(["--mount", "sh", "-c", bind]).arg(boot);
        self.process = network::wrapped(outer, &self.process);
        self.process.stdin(Stdio::null());
        self
    }

    /// Runs as another user whose ranges of subordinate ids are those of this file, in the form of subuid(5). Takes root.
    pub fn with_subordinate_ids(mut self, user: u32, file: &Path) -> Self {
        const SCRIPT: &str = "mount --bind \"$1\" /etc/subuid && mount --bind \"$1\" /etc/subgid && id=$2 && shift 2 \
             && exec setpriv --reuid \"$id\" --regid \"$id\" --clear-groups \"$@\"";
        let mut outer = std::process::Command::new("unshare");
        outer
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .args(["--mount", "sh", "-c", SCRIPT, "sh"])
            .arg(file)
            .arg(user.to_string())
            .args(["env", "-i"]);
        for (name, value) in self.process.get_envs() {
            if let Some(value) = value {
                let mut setting = name.to_owned();
                setting.push("=");
                setting.push(value);
                outer.arg(setting);
            }
        }
        outer.arg(self.process.get_program()).args(self.process.get_args());
        self.process = outer;
        self
    }

    /// Runs under `strace`, which follows all threads, with these arguments.
    pub fn under_strace(mut self, arguments: &[&str]) -> Self {
        let mut outer = std::process::Command::new("strace");
        outer.args(["-f", "-qq"]).args(arguments).arg("--");
        self.process = network::wrapped(outer, &self.process);
        self.process.stdin(Stdio::null());
        self
    }

    /// Runs in a network namespace of its own that has no interface which is up. Takes root.
    pub fn without_network(mut self) -> Self {
        let mut outer = std::process::Command::new("unshare");
        outer.arg("--net");
        self.process = network::wrapped(outer, &self.process);
        self.process.stdin(Stdio::null());
        self
    }

    /// Runs to the end.
    #[must_use = "a failure is seen only by looking"]
    pub fn run(self) -> Finished {
        self.start().wait()
    }

    /// Starts and returns at once.
    pub fn start(mut self) -> Running {
        // Files rather than pipes: nothing blocks when a lot is printed and nobody reads.
        let output = tempfile::tempdir().expect("a directory for the output");
        let file = |name| File::create(output.path().join(name)).expect("a file for the output");
        let stdout = file("stdout");
        match self.stdout.take() {
            Some(other) => self.process.stdout(other),
            None => self.process.stdout(stdout),
        };
        self.process.stderr(file("stderr"));
        let child = self
            .process
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", self.line));
        Running {
            child,
            output,
            line: self.line,
            started: Instant::now(),
        }
    }
}

/// A run that goes on. Dropping it kills the process.
#[derive(Debug)]
pub struct Running {
    child: Child,
    output: TempDir,
    line: String,
    started: Instant,
}

impl Running {
    /// Waits for the end.
    #[must_use = "a failure is seen only by looking"]
    pub fn wait(self) -> Finished {
        self.wait_within(TIME_LIMIT)
    }

    /// Waits for the end, and fails the test if it does not come in time.
    #[must_use = "a failure is seen only by looking"]
    pub fn wait_within(mut self, limit: Duration) -> Finished {
        let since = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                break status;
            }
            assert!(
                since.elapsed() < limit,
                "{} goes on after {limit:?}; so far:\n{}",
                self.line,
                self.stderr()
            );
            thread::sleep(Duration::from_millis(2));
        };
        Finished {
            took: self.started.elapsed(),
            status,
            stdout: self.printed("stdout"),
            stderr: self.stderr(),
            line: std::mem::take(&mut self.line),
        }
    }

    /// Tells whether it has ended, and well.
    pub fn has_succeeded(&mut self) -> bool {
        let ended = self.child.try_wait().expect("a child can be waited for");
        ended.is_some_and(|status| status.success())
    }

    /// Sends SIGINT, as Ctrl-C does.
    pub fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    /// Sends SIGSTOP: it keeps what it holds, and does nothing more.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Returns whether it goes on.
    pub fn goes_on(&mut self) -> bool {
        self.child.try_wait().expect("a child can be waited for").is_none()
    }

    /// Waits for the end, and returns how many bytes of memory the process had at most, its threads together.
    pub fn wait_for_peak(mut self) -> (Finished, u64) {
        let mut peak = 0;
        while self.goes_on() {
            // None in the moment in which it ends.
            peak = self.peak_memory().unwrap_or_default().max(peak);
            thread::sleep(Duration::from_millis(1));
        }
        (self.wait(), peak)
    }

    fn peak_memory(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(kibibytes << 10)
    }

    /// Sends SIGKILL and waits until the process is gone.
    #[must_use = "a failure is seen only by looking"]
    pub fn kill(self) -> Finished {
        self.signal(Signal::KILL);
        self.wait()
    }

    /// Sends SIGKILL if the process has not ended by now, and waits until it is gone.
    #[must_use = "a failure is seen only by looking"]
    pub fn kill_or_end(mut self) -> Finished {
        // One that has ended stays a zombie until somebody waits for it, and a signal to it is lost.
        drop(self.child.kill());
        self.wait()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the process is there");
    }

    /// Returns what was printed to stderr so far.
    pub fn stderr(&self) -> String {
        self.printed("stderr")
    }

    fn printed(&self, name: &str) -> String {
        let bytes = fs::read(self.output.path().join(name)).expect("the output can be read");
        String::from_utf8(bytes).expect("the command prints UTF-8")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail if the process has ended, which is what is wanted.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A run that has ended.
#[derive(Debug)]
pub struct Finished {
    /// How long it took, the start of the process included.
    pub took: Duration,
    /// What it printed to stdout.
    pub stdout: String,
    /// What it printed to stderr.
    pub stderr: String,
    status: ExitStatus,
    line: String,
}

impl Finished {
    /// Tells whether the command succeeded.
    #[must_use = "a failure is seen only by looking"]
    pub fn succeeded(&self) -> bool {
        self.status.success()
    }

    /// Fails the test unless the command succeeded.
    #[expect(
        clippy::return_self_not_must_use,
        reason = "that it succeeded may be all that matters"
    )]
    pub fn success(self) -> Self {
        assert!(self.status.success(), "{self}");
        self
    }

    /// Fails the test unless the command failed with this exit code.
    #[expect(clippy::return_self_not_must_use, reason = "that it failed may be all that matters")]
    pub fn failure(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "{self}");
        assert!(self.stdout.is_empty(), "a failure prints no result: {self}");
        assert!(!self.stderr.is_empty(), "a failure says why: {self}");
        self
    }

    /// Returns the exit code, none if a signal ended the process.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Fails the test unless a signal ended the process.
    pub fn killed(self) {
        assert_eq!(self.status.signal(), Some(Signal::KILL.as_raw()), "{self}");
    }

    /// Returns the result as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("no JSON: {error}; {self}"))
    }

    /// Returns the error object, which is the last line on stderr.
    pub fn error(&self) -> Value {
        let last = self.stderr.lines().last().unwrap_or_default();
        serde_json::from_str(last).unwrap_or_else(|error| panic!("no error as JSON: {error}; {self}"))
    }
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            line,
            status,
            stdout,
            stderr,
            ..
        } = self;
        write!(f, "{line}\nended with {status}\nstdout:\n{stdout}\nstderr:\n{stderr}")
    }
}
