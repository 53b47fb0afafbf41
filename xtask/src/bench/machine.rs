//! The machine that measures, and how busy all of it was.

use std::fmt;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::statistics::mebibytes;

/// A load average from which on figures are not to be believed.
const BUSY: f64 = 0.5;

/// What a reader needs to know of the machine.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Machine {
    pub(super) cores: usize,
    pub(super) processor: String,
    pub(super) kernel: String,
    pub(super) memory_mib: f64,
    /// The load of the last minute when the benchmark began.
    pub(super) load: f64,
}

impl Machine {
    pub(super) fn look() -> Result<Self> {
        let processors = fs::read_to_string("/proc/cpuinfo").context("cannot read /proc/cpuinfo")?;
        let value = |line: &str| line.split_once(':').map(|(_, value)| value.trim().to_owned());
        let memory = fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
        let memory = memory.lines().find_map(|line| kibibytes(line, "MemTotal:"));
        let load = fs::read_to_string("/proc/loadavg").context("cannot read /proc/loadavg")?;
        Ok(Self {
            cores: std::thread::available_parallelism()?.get(),
            processor: processors
                .lines()
                .find(|line| line.starts_with("model name"))
                .and_then(value)
                .unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
                .context("cannot read the kernel's version")?
                .trim()
                .to_owned(),
            memory_mib: mebibytes(memory.unwrap_or(0) * 1024),
            load: load.split(' ').next().unwrap_or_default().parse().unwrap_or(f64::NAN),
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} cores ({}), {:.0} GiB of memory, Linux {}",
            self.cores,
            self.processor,
            self.memory_mib / 1024.0,
            self.kernel
        )?;
        if self.load > BUSY {
            writeln!(
                f,
                "The machine is busy with other things (load {:.2}): times will be too long.",
                self.load
            )?;
        }
        Ok(())
    }
}

/// Reads the number of a line `NAME:   123 kB` of a file below `/proc`.
pub(super) fn kibibytes(line: &str, name: &str) -> Option<u64> {
    line.strip_prefix(name)?.split_whitespace().next()?.parse().ok()
}

/// Converts clock ticks, in which the kernel counts processor time, here always 100 a second.
pub(super) fn ticks(count: u64) -> Duration {
    Duration::from_millis(count.saturating_mul(10))
}

/// Returns how long the machine's processors were busy since it started, all of them together.
pub(super) fn busy_time() -> Result<Duration> {
    let text = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    busy_ticks(&text)
        .map(ticks)
        .context("/proc/stat has no line for the processors")
}

fn busy_ticks(stat: &str) -> Option<u64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let counts: Vec<u64> = line.split_whitespace().map_while(|count| count.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq; what follows is time of other machines, or counted already.
    let [user, nice, system, _idle, _iowait, irq, softirq, ..] = counts[..] else {
        return None;
    };
    Some(user + nice + system + irq + softirq)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_and_idling_are_not_work() {
        let stat = "cpu  10 1 20 5000 600 3 4 50 0 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(busy_ticks(stat), Some(38));
        assert_eq!(busy_ticks("intr 1\n"), None);
    }

    #[test]
    fn numbers_of_status_lines() {
        assert_eq!(kibibytes("VmHWM:\t   12345 kB", "VmHWM:"), Some(12345));
        assert_eq!(kibibytes("VmRSS:\t   12345 kB", "VmHWM:"), None);
    }
}
