//! Running another program and measuring it from outside.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Seek as _};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::interrupt;
use super::machine::{kibibytes, ticks};

/// How often a running program is looked at. Its peak is kept by the kernel, so only what it adds in the last such moment
/// of its life can be missed.
const INTERVAL: Duration = Duration::from_millis(2);

/// What a program took.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    pub(super) wall: Duration,
    /// Processor time of its threads, in the kernel or not, and of children it has waited for.
    pub(super) cpu: Duration,
    /// The most memory it had resident, in bytes: program text and shared pages included.
    pub(super) peak: u64,
    /// What it has made the kernel send to storage, now or later, in bytes; nothing of that on a filesystem in memory. `None`
    /// where that is not told: some kernels tell only root of a process that has ended.
    pub(super) written: Option<u64>,
}

/// What the kernel has counted of a process so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counters {
    pub(super) cpu: Duration,
    pub(super) peak: u64,
    pub(super) written: u64,
}

impl Counters {
    /// Looks at a running process.
    pub(super) fn of(process: u32) -> Result<Self> {
        let path = format!("/proc/{process}/status");
        let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let peak = status.lines().find_map(|line| kibibytes(line, "VmHWM:"));
        Ok(Self {
            cpu: cpu_time(process)?,
            peak: peak.unwrap_or(0) * 1024,
            written: written(process)?.with_context(|| format!("cannot see what process {process} writes"))?,
        })
    }
}

impl Usage {
    /// Returns what two programs took, one after the other.
    pub(super) fn then(self, next: Self) -> Self {
        Self {
            wall: self.wall + next.wall,
            cpu: self.cpu + next.cpu,
            peak: self.peak.max(next.peak),
            written: self.written.zip(next.written).map(|(one, other)| one + other),
        }
    }
}

/// Runs a program to its end and returns how long it took, from before it is started until it was waited for.
pub(super) fn time(command: &mut Command) -> Result<Duration> {
    let mut errors = quiet(command)?;
    let started = Instant::now();
    let status = command.status().with_context(|| cannot_run(command))?;
    let wall = started.elapsed();
    check(command, status, &mut errors)?;
    Ok(wall)
}

/// Runs a program to its end and watches it.
pub(super) fn watch(command: &mut Command) -> Result<Usage> {
    let mut errors = quiet(command)?;
    let started = Instant::now();
    let mut child = command.spawn().with_context(|| cannot_run(command))?;
    let process = format!("/proc/{}", child.id());
    let mut peak = 0;
    // A dead process that nobody has waited for has no memory any more, but its processor time still stands there.
    let wall = loop {
        let status = fs::read_to_string(format!("{process}/status"))
            .with_context(|| format!("cannot look at the running {}", name(command)))?;
        peak = status
            .lines()
            .find_map(|line| kibibytes(line, "VmHWM:"))
            .unwrap_or(0)
            .max(peak);
        if status.lines().any(|line| line.starts_with("State:\tZ")) {
            break started.elapsed();
        }
        // Asked once: a signal that comes between two questions would leave the child behind.
        if let Err(interrupted) = interrupt::check() {
            child.kill().and_then(|()| child.wait()).context("cannot end a child")?;
            return Err(interrupted);
        }
        std::thread::sleep(INTERVAL);
    };
    let (cpu, written) = (cpu_time(child.id())?, written(child.id())?);
    let status = child.wait().context("cannot wait for a child")?;
    check(command, status, &mut errors)?;
    Ok(Usage {
        wall,
        cpu,
        peak: peak * 1024,
        written,
    })
}

/// Returns the processor time of a process, and of its children that it has waited for.
pub(super) fn cpu_time(process: u32) -> Result<Duration> {
    let path = format!("/proc/{process}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    cpu_ticks(&text)
        .map(ticks)
        .with_context(|| format!("{path} is not as expected: {text}"))
}

/// Returns how many bytes a process, and its children that it has waited for, have made the kernel send to storage.
///
/// `None` if the kernel does not tell us: root is always told.
fn written(process: u32) -> Result<Option<u64>> {
    let path = format!("/proc/{process}/io");
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(None),
        text => text.with_context(|| format!("cannot read {path}"))?,
    };
    let line = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    let count = line.and_then(|count| count.parse().ok());
    Ok(Some(
        count.with_context(|| format!("{path} is not as expected: {text}"))?,
    ))
}

fn cpu_ticks(stat: &str) -> Option<u64> {
    // The name in parentheses may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    // Behind the name: state, parent, …; the times of the process and of its children are the 12th to 15th.
    let times: Vec<u64> = rest
        .split_whitespace()
        .skip(11)
        .take(4)
        .map_while(|time| time.parse().ok())
        .collect();
    (times.len() == 4).then(|| times.iter().sum())
}

/// Takes the program's input and output away; its error output goes to a file, where it waits to be shown.
fn quiet(command: &mut Command) -> Result<File> {
    let errors = tempfile::tempfile().context("cannot make a temporary file")?;
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(errors.try_clone().context("cannot share a file with a child")?);
    Ok(errors)
}

fn check(command: &Command, status: ExitStatus, errors: &mut File) -> Result<()> {
    interrupt::check()?;
    if status.success() {
        return Ok(());
    }
    let mut text = String::new();
    errors.rewind()?;
    errors
        .read_to_string(&mut text)
        .context("cannot read what a child had to say")?;
    bail!("{} failed ({status}):\n{text}", name(command));
}

fn cannot_run(command: &Command) -> String {
    format!("cannot run {}", name(command))
}

fn name(command: &Command) -> String {
    command.get_program().display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_stand_behind_the_name() {
        let stat = "42 (a) b) S 1 42 42 0 -1 4194560 100 200 0 0 7 5 3 2 20 0 1 0 100 200 300";
        assert_eq!(cpu_ticks(stat), Some(17));
        assert_eq!(cpu_ticks("42 (a) S 1"), None);
    }

    #[test]
    fn a_program_is_watched_to_its_end() {
        let usage = watch(Command::new("sh").args(["-c", "sleep 0.05"])).unwrap();
        assert!(usage.wall >= Duration::from_millis(50));
        assert!(usage.peak > 0);
        assert!(usage.written.is_some() || !rustix::process::geteuid().is_root());
        let error = watch(Command::new("sh").args(["-c", "echo why >&2; exit 3"])).unwrap_err();
        assert!(error.to_string().contains("why"), "{error}");
    }
}
