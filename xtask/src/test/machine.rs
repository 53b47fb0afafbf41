//! What this machine offers to the tests, and how to add what is missing.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use super::tiers::Need;

/// A program that tests or fixtures use, and the Debian package that has it.
const PROGRAMS: [(&str, &str); 17] = [
    ("docker-registry", "docker-registry"),
    ("nginx", "nginx"),
    ("skopeo", "skopeo"),
    ("umoci", "umoci"),
    ("podman", "podman"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mkfs.xfs", "xfsprogs"),
    ("mmdebstrap", "mmdebstrap"),
    ("python3", "python3"),
    ("xz", "xz-utils"),
    ("setfattr", "attr"),
    ("strace", "strace"),
    ("valgrind", "valgrind"),
    ("newuidmap", "uidmap"),
    ("ip", "iproute2"),
    ("tinyproxy", "tinyproxy-bin"),
    ("microsocks", "microsocks"),
];

/// The user and the group for tests that must not have rights: Debian's `nobody` and `nogroup`.
const NOBODY: u32 = 65534;

/// Bits of `CapEff` in `/proc/self/status`.
const CAP_SYS_ADMIN: u64 = 1 << 21;
const CAP_MKNOD: u64 = 1 << 27;

/// What was found.
#[derive(Debug)]
pub(crate) struct Machine {
    /// Whether the effective user is root, whatever root may do here.
    pub(crate) is_root: bool,
    /// Whether root may really do what tests of root's work do.
    has_rights: bool,
    /// Programs of [`PROGRAMS`] that are not there.
    missing: BTreeSet<&'static str>,
    /// Whether there is an image of Debian's packages.
    has_debian_image: bool,
}

impl Machine {
    /// Looks around, and installs what is missing if that is wanted and possible. Prints what it does.
    pub(crate) fn prepare(install: bool) -> Result<Self> {
        let status = fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
        let is_root = effective_user(&status) == Some(0);
        let mut missing = missing_programs();
        if !missing.is_empty() && install && is_root && has_program("apt-get") {
            install_packages(&packages_of(&missing));
            missing = missing_programs();
        }
        if missing.is_empty() {
            println!(
                "every program is there: {}",
                PROGRAMS.map(|(program, _)| program).join(", ")
            );
        } else {
            println!(
                "missing: {}; as root: apt-get install --no-install-recommends {}",
                missing.iter().copied().collect::<Vec<_>>().join(", "),
                packages_of(&missing).join(" ")
            );
        }
        let has_rights = is_root && has_capabilities(&status) && can_make_devices();
        if is_root && !has_rights {
            println!("root may not mount or make device nodes here, so the privileged tests cannot run");
        }
        let has_debian_image = make_fixtures(!missing.contains("mmdebstrap"))?;
        Ok(Self {
            is_root,
            has_rights,
            missing,
            has_debian_image,
        })
    }

    /// Tells whether the machine offers it.
    pub(crate) fn has(&self, need: Need) -> bool {
        match need {
            Need::Root => self.has_rights,
            Need::RealPrograms => [
                "docker-registry",
                "nginx",
                "skopeo",
                "umoci",
                "podman",
                "python3",
                "setfattr",
                "strace",
                "mkfs.ext4",
                "mkfs.xfs",
                "newuidmap",
            ]
            .iter()
            .all(|p| !self.missing.contains(p)),
            Need::Proxies => ["ip", "tinyproxy", "microsocks"]
                .iter()
                .all(|p| !self.missing.contains(p)),
            Need::DebianImage => self.has_debian_image,
        }
    }

    /// A machine for tests of the plan.
    #[cfg(test)]
    pub(crate) fn made_up(is_root: bool, missing: &[&'static str]) -> Self {
        let missing: BTreeSet<_> = missing.iter().copied().collect();
        Self {
            is_root,
            has_rights: is_root,
            has_debian_image: !missing.contains("mmdebstrap"),
            missing,
        }
    }
}

/// A user without rights, with a home of its own.
#[derive(Debug)]
pub(crate) struct OtherUser {
    home: TempDir,
}

impl OtherUser {
    /// Makes a home for `nobody`. Gives a sentence if that user cannot run what was built in `target`.
    pub(crate) fn prepare(root: &Path, target: &Path) -> Result<Result<Self, String>> {
        if !has_program("setpriv") {
            return Ok(Err("setpriv (package util-linux) is missing".to_owned()));
        }
        let home = tempfile::tempdir().context("cannot make a home for the ordinary user")?;
        chown(home.path(), Some(NOBODY), Some(NOBODY)).context("cannot give the ordinary user its home")?;
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o700))
            .context("cannot set the mode of the ordinary user's home")?;
        let user = Self { home };
        for needed in [root, target] {
            let mut list = Command::new("setpriv");
            list.args(Self::setpriv_arguments())
                .arg("ls")
                .arg(needed)
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            if !list.status().context("cannot run setpriv")?.success() {
                return Ok(Err(format!("user {NOBODY} may not read {}", needed.display())));
            }
        }
        Ok(Ok(user))
    }

    /// The words that run a program as this user, for `CARGO_TARGET_…_RUNNER`.
    pub(crate) fn runner(&self) -> String {
        let home = self.home.path().display();
        let mut words = vec!["setpriv".to_owned()];
        words.extend(Self::setpriv_arguments());
        words.push("env".to_owned());
        words.extend([
            format!("HOME={home}"),
            format!("TMPDIR={home}"),
            "USER=nobody".to_owned(),
        ]);
        words.join(" ")
    }

    fn setpriv_arguments() -> [String; 3] {
        [
            format!("--reuid={NOBODY}"),
            format!("--regid={NOBODY}"),
            "--clear-groups".to_owned(),
        ]
    }
}

/// Makes and checks the fixtures, the Debian one if that is wanted. Tells whether that one is there.
///
/// A fixture with a wrong digest is an error. That the Debian image cannot be made is not: it needs a mirror.
fn make_fixtures(debian: bool) -> Result<bool> {
    let own = std::env::current_exe().context("cannot find this program")?;
    let run_fixtures = |arguments: &[&str]| -> Result<bool> {
        let mut command = Command::new(&own);
        command.arg("fixtures").args(arguments).stdin(Stdio::null());
        Ok(command.status().context("cannot run this program again")?.success())
    };
    if debian && run_fixtures(&["--debian"])? {
        return Ok(true);
    }
    if !run_fixtures(&[])? {
        bail!("the fixtures are not what they should be");
    }
    if debian {
        println!("only the Debian image cannot be made here");
    }
    Ok(false)
}

/// Tells whether a program is found on the path.
pub(crate) fn has_program(name: &str) -> bool {
    let script = "command -v -- \"$1\" >/dev/null";
    Command::new("sh")
        .args(["-c", script, "sh", name])
        .status()
        .is_ok_and(|status| status.success())
}

fn missing_programs() -> BTreeSet<&'static str> {
    PROGRAMS
        .iter()
        .map(|(program, _)| *program)
        .filter(|program| !has_program(program))
        .collect()
}

fn packages_of(programs: &BTreeSet<&'static str>) -> Vec<&'static str> {
    PROGRAMS
        .iter()
        .filter(|(program, _)| programs.contains(program))
        .map(|(_, package)| *package)
        .collect()
}

/// Installs Debian packages; when that fails, once more with fresh lists. A failure is seen by what is still missing.
fn install_packages(packages: &[&str]) {
    println!("installing {}", packages.join(", "));
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(["-q", "-y", "--no-install-recommends"]).args(arguments);
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let mut install = vec!["install"];
    install.extend_from_slice(packages);
    if !apt(&install) {
        println!("apt-get does not find them all, so it fetches the lists of packages");
        if apt(&["update"]) {
            apt(&install);
        }
    }
}

/// Reads the effective user from `/proc/self/status`.
fn effective_user(status: &str) -> Option<u32> {
    field(status, "Uid:")?.split_whitespace().nth(1)?.parse().ok()
}

/// Tells whether the effective capabilities hold those that root's work needs.
fn has_capabilities(status: &str) -> bool {
    let effective = field(status, "CapEff:")
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    effective & CAP_SYS_ADMIN != 0 && effective & CAP_MKNOD != 0
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name))
}

/// Tries to make a device node; inside a user namespace the capability alone does not tell.
fn can_make_devices() -> bool {
    tempfile::tempdir().is_ok_and(|directory| {
        let mut mknod = Command::new("mknod");
        mknod
            .arg(directory.path().join("device"))
            .args(["c", "0", "0"])
            .stderr(Stdio::null());
        mknod.status().is_ok_and(|status| status.success())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_capabilities_are_read_from_the_status() {
        let root = "Name:\tx\nUid:\t0\t0\t0\t0\nCapInh:\t0000000000000000\nCapEff:\t000001ffffffffff\n";
        assert_eq!(effective_user(root), Some(0));
        assert!(has_capabilities(root));
        let container = "Uid:\t1000\t0\t0\t0\nCapEff:\t00000000a80425fb\n";
        assert_eq!(effective_user(container), Some(0));
        assert!(!has_capabilities(container), "CAP_MKNOD alone is not enough");
        let user = "Uid:\t1000\t1000\t1000\t1000\nCapEff:\t0000000000000000\n";
        assert_eq!(effective_user(user), Some(1000));
        assert!(!has_capabilities(user));
        assert_eq!(effective_user("Name:\tx\n"), None);
    }

    #[test]
    fn programs_are_looked_for_on_the_path() {
        assert!(has_program("sh"));
        assert!(!has_program("no-such-program-anywhere"));
        assert!(!has_program("-x"));
    }

    #[test]
    fn packages_follow_from_programs() {
        assert_eq!(
            packages_of(&BTreeSet::from(["xz", "setfattr", "umoci"])),
            ["umoci", "xz-utils", "attr"]
        );
    }
}
