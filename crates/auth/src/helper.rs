//! The protocol of credential helpers: a program `docker-credential-NAME` that is told an action by its argument, gets
//! what the action needs on its standard input, and answers on its standard output.
//!
//! The actions are `get`, `store`, `erase` and `list`. A secret is on the pipes only, never in an argument.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, Read, Write as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::json;

use crate::{Credential, Place, Secret, Warning};

/// How much of a helper's output is read: many times what a credential needs.
const MAX_OUTPUT_BYTES: u64 = 1 << 20;
/// How much of what a helper complains about is shown.
const SHOWN_BYTES: usize = 1024;
/// How long a helper that has ended may leave its output open (a child of its own may hold it).
const OUTPUT_GRACE: Duration = Duration::from_millis(500);
/// What helpers print when they hold nothing for a server; all common ones say it in these words.
const NOT_FOUND: &str = "credentials not found";

/// A helper that a configuration file names.
#[derive(Debug)]
pub(crate) struct Helper<'a> {
    /// The name without `docker-credential-`.
    pub(crate) name: &'a str,
    /// What names it.
    pub(crate) named_by: &'a Place,
    /// Where to look for the program, if not where the process would.
    pub(crate) search_path: Option<&'a OsStr>,
}

/// What came of asking.
#[derive(Debug)]
pub(crate) enum Answer {
    Found(Credential),
    NotFound,
    Failed(Warning),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Reply {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

struct Output {
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Helper<'_> {
    /// Returns the name of the program.
    pub(crate) fn program(&self) -> String {
        format!("docker-credential-{}", self.name)
    }

    /// Asks for the credential of `server`; blocks for at most about `limit`.
    pub(crate) fn get(&self, server: &str, limit: Duration) -> Answer {
        let output = match self.call("get", server, format!("{server}\n"), limit) {
            Ok(output) => output,
            Err(warning) => return Answer::Failed(warning),
        };
        if output.status.success() {
            return match parse(&output.stdout) {
                Ok(Some(credential)) => Answer::Found(credential),
                Ok(None) => Answer::NotFound,
                Err(reason) => Answer::Failed(Warning::HelperAnswer {
                    helper: self.program(),
                    server: server.to_owned(),
                    reason,
                }),
            };
        }
        let complaint = complaint(&output);
        if complaint.contains(NOT_FOUND) {
            return Answer::NotFound;
        }
        Answer::Failed(self.failed(server, &output, complaint))
    }

    /// Gives it the credential of `server` to keep.
    pub(crate) fn store(&self, server: &str, credential: &Credential, limit: Duration) -> Result<(), Warning> {
        let (username, secret) = credential.pair();
        let input = json!({"ServerURL": server, "Username": username, "Secret": secret.expose()});
        let output = self.call("store", server, input.to_string(), limit)?;
        if output.status.success() {
            return Ok(());
        }
        // It got the secret and may repeat it.
        let complaint = complaint(&output).replace(secret.expose(), "[redacted]");
        Err(self.failed(server, &output, complaint))
    }

    /// Makes it forget `server`; tells whether it knew it.
    pub(crate) fn erase(&self, server: &str, limit: Duration) -> Result<bool, Warning> {
        // Some helpers succeed whether there is something to erase or not.
        let knew = !matches!(self.get(server, limit), Answer::NotFound);
        let output = self.call("erase", server, format!("{server}\n"), limit)?;
        let complaint = complaint(&output);
        if output.status.success() || complaint.contains(NOT_FOUND) {
            return Ok(knew);
        }
        Err(self.failed(server, &output, complaint))
    }

    /// Returns the addresses that it knows.
    pub(crate) fn list(&self, limit: Duration) -> Result<Vec<String>, Warning> {
        const ALL: &str = "all servers";
        let output = self.call("list", ALL, String::new(), limit)?;
        if !output.status.success() {
            return Err(self.failed(ALL, &output, complaint(&output)));
        }
        let list: BTreeMap<String, serde_json::Value> =
            serde_json::from_slice(&output.stdout).map_err(|error| Warning::HelperAnswer {
                helper: self.program(),
                server: ALL.to_owned(),
                reason: not_json(&error),
            })?;
        Ok(list.into_keys().collect())
    }

    fn failed(&self, server: &str, output: &Output, complaint: String) -> Warning {
        Warning::HelperFailed {
            helper: self.program(),
            server: server.to_owned(),
            status: output.status.to_string(),
            output: complaint,
        }
    }

    /// Runs the program for one action.
    fn call(&self, action: &str, server: &str, input: String, limit: Duration) -> Result<Output, Warning> {
        let (helper, server) = (self.program(), server.to_owned());
        let missing = || Warning::HelperMissing {
            helper: self.program(),
            server: server.clone(),
            place: self.named_by.clone(),
        };
        if self.name.contains(['/', '\\', '\0']) {
            // The name would leave the search path, and no helper that works is called so.
            return Err(missing());
        }
        tracing::debug!(helper, server, action, "asking a credential helper");
        match self.run(action, input, limit) {
            Ok(Some(output)) => Ok(output),
            Ok(None) => Err(Warning::HelperTimedOut { helper, server, limit }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(missing()),
            Err(error) => Err(Warning::HelperFailed {
                helper,
                server,
                status: "it could not be run".to_owned(),
                output: error.to_string(),
            }),
        }
    }

    /// Runs the program; `None` if the time was up.
    fn run(&self, action: &str, input: String, limit: Duration) -> io::Result<Option<Output>> {
        let deadline = Instant::now() + limit;
        let mut command = Command::new(self.program());
        command
            .arg(action)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(path) = self.search_path {
            command.env("PATH", path);
        }
        own_group(&mut command);
        let mut child = command.spawn()?;
        let stdout = read_aside(child.stdout.take());
        let stderr = read_aside(child.stderr.take());
        if let Some(mut stdin) = child.stdin.take() {
            // On a thread, since a helper need not read and a token may be longer than a pipe's buffer. One that ends
            // without reading breaks the pipe; what it printed says more than that.
            thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
        }
        let Some(status) = wait_until(&mut child, deadline)? else {
            kill(&mut child);
            return Ok(None);
        };
        let rest = || deadline.saturating_duration_since(Instant::now()).max(OUTPUT_GRACE);
        let stdout = stdout.recv_timeout(rest()).unwrap_or_default();
        let stderr = stderr.recv_timeout(rest()).unwrap_or_default();
        Ok(Some(Output { status, stdout, stderr }))
    }
}

/// Reads a pipe to its end on a thread of its own, so that a program that fills one pipe never blocks on the other.
fn read_aside(pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    if let Some(pipe) = pipe {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            // What could be read is used; a pipe that fails has nothing to say that the exit status does not.
            drop(pipe.take(MAX_OUTPUT_BYTES).read_to_end(&mut bytes));
            drop(sender.send(bytes));
        });
    }
    receiver
}

fn wait_until(child: &mut Child, deadline: Instant) -> io::Result<Option<ExitStatus>> {
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        let now = Instant::now();
        if now >= deadline {
            return Ok(None);
        }
        thread::sleep(pause.min(deadline - now));
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Makes the helper the leader of a process group, so that what it starts can be killed with it.
#[cfg(unix)]
fn own_group(command: &mut Command) {
    use std::os::unix::process::CommandExt as _;
    command.process_group(0);
}

#[cfg(not(unix))]
fn own_group(_command: &mut Command) {}

fn kill(child: &mut Child) {
    #[cfg(unix)]
    {
        let group = rustix::process::Pid::from_child(child);
        if let Err(error) = rustix::process::kill_process_group(group, rustix::process::Signal::KILL) {
            tracing::debug!(%error, "a credential helper's process group is gone already");
        }
    }
    drop(child.kill());
    drop(child.wait());
}

fn parse(stdout: &[u8]) -> Result<Option<Credential>, String> {
    let reply: Reply = serde_json::from_slice(stdout).map_err(|error| not_json(&error))?;
    if reply.username.is_empty() && reply.secret.is_empty() {
        return Ok(None);
    }
    if reply.secret.is_empty() {
        return Err("the secret is empty".to_owned());
    }
    Ok(Some(Credential::from_pair(reply.username, Secret::new(reply.secret))))
}

/// Says that an answer is not what it should be, without the parser's text, which may quote it.
fn not_json(error: &serde_json::Error) -> String {
    let (line, column) = (error.line(), error.column());
    format!("not the expected JSON, line {line}, column {column}")
}

/// Returns what a failed helper said, on one line. Helpers complain on either stream.
fn complaint(output: &Output) -> String {
    // A helper that printed a reply and failed later must not have it shown.
    let stdout: &[u8] = if output.stdout.trim_ascii_start().starts_with(b"{") {
        &[]
    } else {
        &output.stdout
    };
    let mut words = String::new();
    for word in [output.stderr.as_slice(), stdout]
        .iter()
        .flat_map(|bytes| bytes.split(u8::is_ascii_whitespace))
    {
        let word = String::from_utf8_lossy(word);
        let clean: String = word.chars().filter(|c| !c.is_control()).collect();
        if clean.is_empty() {
            continue;
        }
        if words.len() + clean.len() > SHOWN_BYTES {
            words.push_str(" …");
            break;
        }
        if !words.is_empty() {
            words.push(' ');
        }
        words.push_str(&clean);
    }
    if words.is_empty() {
        "it said nothing".to_owned()
    } else {
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies() {
        let parse = |text: &str| parse(text.as_bytes());
        assert_eq!(
            parse(r#"{"ServerURL": "x", "Username": "u", "Secret": "p"}"#).unwrap(),
            Some(Credential::from_pair("u", "p"))
        );
        assert_eq!(
            parse(r#"{"Username": "<token>", "Secret": "i"}"#).unwrap(),
            Some(Credential::IdentityToken("i".into()))
        );
        assert_eq!(
            parse(r#"{"ServerURL": "", "Username": "", "Secret": ""}"#).unwrap(),
            None
        );
        assert_eq!(
            parse(r#"{"Username": "u", "Secret": ""}"#).unwrap_err(),
            "the secret is empty"
        );
        assert!(
            !parse(r#"{"Username": "u", "Secret": hunter2"#)
                .unwrap_err()
                .contains("hunter2")
        );
    }
}
