//! The directory in which benchmarks work: one at a time, and what a killed one has left goes before the next begins.

use std::fs::{self, File, TryLockError};
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use super::disk;

/// How the names of directories begin that benchmarks make here and remove when they end.
const PREFIXES: [&str; 6] = ["disk-", "registry-", "warm-", "memory-", "ranges-", "instructions-"];

/// Makes `work` this process's, and removes what others have left there. It is others' again when the file is closed.
pub(super) fn claim(work: &Path) -> Result<File> {
    fs::create_dir_all(work).with_context(|| format!("cannot make {}", work.display()))?;
    let path = work.join("lock");
    let lock = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => bail!("another benchmark is at work in {}", work.display()),
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("cannot lock {}", path.display()));
        }
    }
    for entry in fs::read_dir(work).with_context(|| format!("cannot list {}", work.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        let ours = PREFIXES
            .iter()
            .any(|prefix| name.as_encoded_bytes().starts_with(prefix.as_bytes()));
        if ours && entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    Ok(lock)
}

fn remove(left: &Path) -> Result<()> {
    println!("Removing {}, which a killed benchmark has left.", left.display());
    disk::unmount(&left.join("mount"))?;
    fs::remove_dir_all(left).with_context(|| format!("cannot remove {}", left.display()))
}

#[cfg(test)]
mod tests {
    use super::super::child;
    use super::super::disk::{Disk, Filesystem, is_mounted};
    use super::super::interrupt;
    use super::*;
    use std::path::PathBuf;
    use std::process::{Child, Command, ExitStatus, Stdio};
    use std::time::{Duration, Instant};

    use rustix::process::{Pid, Signal, kill_process};

    /// Set for a second process that runs the same test: the benchmark that is stopped.
    const BENCHMARK: &str = "UNLADE_TEST_BENCHMARK_IN";

    #[test]
    fn only_one_benchmark_works_here_and_only_its_own_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let work = directory.path().join("bench");
        for made in ["disk-a/mount", "registry-b/data", "others/disk-c"] {
            fs::create_dir_all(work.join(made)).unwrap();
        }
        fs::write(work.join("disk-file"), "").unwrap();
        let lock = claim(&work).unwrap();
        let mut left: Vec<_> = fs::read_dir(&work)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["disk-file", "lock", "others"]);
        assert!(work.join("others/disk-c").is_dir());
        let error = claim(&work).unwrap_err().to_string();
        assert!(error.starts_with("another benchmark is at work"), "{error}");
        drop(lock);
        claim(&work).unwrap();
    }

    /// A benchmark that is stopped while a program runs on its disk.
    fn benchmark(work: &Path) {
        let _lock = claim(work).unwrap();
        interrupt::listen().unwrap();
        let disk = Disk::make(Filesystem::Ext4, work).unwrap();
        let mut command = Command::new("setpriv");
        // Until it is there, nobody would kill it with its parent.
        command.args(["--pdeathsig", "KILL", "sh", "-c", "touch ready && exec sleep 60"]);
        let error = child::watch(command.current_dir(disk.path())).unwrap_err();
        assert_eq!(error.to_string(), "interrupted");
    }

    /// Sends `signal` to a benchmark as soon as a program runs on its disk, and returns what became of benchmark and disk.
    fn stopped_by(signal: Signal, work: &Path) -> (ExitStatus, PathBuf) {
        let test = "bench::leftovers::tests::privileged_real_a_stopped_benchmark_leaves_nothing_mounted";
        let mut benchmark = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test])
            .env(BENCHMARK, work)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mount = mounted(work, &mut benchmark);
        let pid = Pid::from_raw(benchmark.id().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
        (benchmark.wait().unwrap(), mount)
    }

    /// Waits until the benchmark has mounted its disk and a program runs on it.
    fn mounted(work: &Path, benchmark: &mut Child) -> PathBuf {
        let since = Instant::now();
        while since.elapsed() < Duration::from_mins(1) && benchmark.try_wait().unwrap().is_none() {
            let made = fs::read_dir(work)
                .unwrap()
                .map(|entry| entry.unwrap().path().join("mount"));
            if let Some(mount) = made
                .into_iter()
                .find(|mount| is_mounted(mount) && mount.join("ready").exists())
            {
                return mount;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("nothing was mounted below {}", work.display());
    }

    /// Says whether a loop device has a file below `work`.
    fn has_loop_device(work: &Path) -> bool {
        let devices = fs::read_dir("/sys/block").unwrap();
        devices
            .filter_map(|device| fs::read_to_string(device.unwrap().path().join("loop/backing_file")).ok())
            .any(|file| Path::new(&file).starts_with(work))
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "it tells the second process what it is")]
    fn privileged_real_a_stopped_benchmark_leaves_nothing_mounted() {
        if let Some(work) = std::env::var_os(BENCHMARK) {
            return benchmark(Path::new(&work));
        }
        let directory = tempfile::tempdir().unwrap();
        let work = directory.path().canonicalize().unwrap();
        let (status, mount) = stopped_by(Signal::TERM, &work);
        assert!(status.success(), "{status}");
        assert!(!mount.exists() && !has_loop_device(&work));

        let (status, mount) = stopped_by(Signal::KILL, &work);
        assert!(!status.success() && is_mounted(&mount) && has_loop_device(&work));
        // A child that was being started holds the lock until it is.
        let since = Instant::now();
        let claimed = loop {
            match claim(&work) {
                Err(_) if since.elapsed() < Duration::from_secs(30) => std::thread::sleep(Duration::from_millis(20)),
                claimed => break claimed,
            }
        };
        let _lock = claimed.unwrap();
        assert!(!mount.exists() && !has_loop_device(&work));
    }
}
