//! System calls, counted by strace in a run of its own: a traced program is slow.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::child;

/// How long strace may take to get hold of a process.
const PATIENCE: Duration = Duration::from_secs(10);

/// Counts the system calls of one run with all its threads and children, if strace is there to count them.
pub(super) fn count(command: &Command, home: &Path) -> Result<Option<u64>> {
    let counts = home.join("system-calls");
    let mut strace = Command::new("strace");
    strace
        .args(["-c", "-f", "-o"])
        .arg(&counts)
        .arg(command.get_program())
        .args(command.get_args());
    strace.env_clear();
    strace.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if child::time(&mut strace).is_err() {
        return Ok(None);
    }
    let text = fs::read_to_string(&counts).context("cannot read what strace has counted")?;
    Ok(total_calls(&text))
}

/// A strace that looks at a process which was there before.
#[derive(Debug)]
pub(super) struct Attached {
    strace: Child,
    counts: PathBuf,
}

impl Attached {
    /// Attaches to all threads of `process`. Returns nothing if strace is not there.
    pub(super) fn to(process: u32, counts: &Path) -> Result<Option<Self>> {
        let mut command = Command::new("strace");
        command.args(["-c", "-f", "-p", &process.to_string(), "-o"]).arg(counts);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let Ok(strace) = command.spawn() else { return Ok(None) };
        let attached = Self {
            strace,
            counts: counts.to_owned(),
        };
        let since = Instant::now();
        while since.elapsed() < PATIENCE {
            let status = fs::read_to_string(format!("/proc/{process}/status"))?;
            if status
                .lines()
                .any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
            {
                // The other threads follow at once.
                std::thread::sleep(Duration::from_millis(100));
                return Ok(Some(attached));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!("strace does not get hold of process {process}");
    }

    /// Detaches and returns how many calls there were.
    pub(super) fn finish(mut self) -> Result<Option<u64>> {
        let pid = Pid::from_raw(self.strace.id().cast_signed()).context("strace has no number")?;
        kill_process(pid, Signal::INT).context("cannot stop strace")?;
        self.strace.wait().context("cannot wait for strace")?;
        let text = fs::read_to_string(&self.counts).context("cannot read what strace has counted")?;
        Ok(total_calls(&text))
    }
}

/// Finds the sum in the table of `strace -c`: share, seconds, microseconds a call, calls, perhaps errors, name.
fn total_calls(text: &str) -> Option<u64> {
    let line = text.lines().rev().find(|line| line.ends_with(" total"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::total_calls;

    #[test]
    fn the_sum_of_calls_is_found_with_and_without_errors() {
        let head = "% time     seconds  usecs/call     calls    errors syscall\n";
        let with = format!("{head}100.00    0.001234           3       345        12 total\n");
        let without = format!("{head}100.00    0.001234           3       345            total\n");
        assert_eq!(total_calls(&with), Some(345));
        assert_eq!(total_calls(&without), Some(345));
        assert_eq!(total_calls(head), None);
    }
}
