//! A user namespace with the subordinate ids of whoever runs this: files can have real owners without root.
//!
//! # How it is entered
//! The kernel lets a process of one thread move itself into a new user namespace; of one with more it refuses that, so no
//! state can be torn. Which ids there are inside is written from outside: by `newuidmap` and `newgidmap`, which belong to
//! root and give what `/etc/subuid` and `/etc/subgid`, or the name service, allow. They have to run outside, so they are
//! started before, by a shell that waits for a line, and go ahead once this process is inside. Nothing is forked by hand,
//! and no memory is shared with a child.
//!
//! Inside, the user is root over the mapped ids and over nothing else. The way back out does not exist.
#![expect(
    unsafe_code,
    reason = "moving into a namespace is declared unsafe for what other flags do"
)]

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::io::Errno;
use rustix::thread::UnshareFlags;

/// Where the ranges of subordinate ids are.
const SUBUID: &str = "/etc/subuid";
const SUBGID: &str = "/etc/subgid";

/// Tells the ranges that a user has from elsewhere, where the system's name service is set up so.
const GETSUBIDS: &str = "getsubids";

/// Tells the name of a user from elsewhere, likewise.
const ID: &str = "id";

/// Waits for a line, then becomes the program.
const WAIT: &str = "read -r go && exec \"$0\" \"$@\"";

/// Why a user namespace could not be entered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UserNamespaceError {
    /// Root is outside of all limits already.
    #[error("root needs no user namespace: it can give files to anybody")]
    Root,
    /// The process has more than one thread.
    #[error("only a process of a single thread can enter a user namespace")]
    Threads,
    /// No range of ids is set for the user.
    #[error(
        "{user} has no subordinate ids in {}; as root, `usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}` adds some", path.display()
    )]
    NoRange {
        /// The user's name, or number if it has none.
        user: String,
        /// The file that has none.
        path: PathBuf,
    },
    /// A program is not installed.
    #[error("the program {program} is missing, which a user namespace takes; Debian's package `uidmap` has it")]
    Missing {
        /// Its name.
        program: &'static str,
    },
    /// A program refused the ids.
    #[error("{program} refused the subordinate ids: {problem}")]
    Refused {
        /// Its name.
        program: &'static str,
        /// What it said.
        problem: String,
    },
    /// The kernel refused the namespace.
    #[error("the kernel permits no user namespace")]
    Kernel {
        /// What it said.
        source: io::Error,
    },
    /// A file or a program could not be worked with.
    #[error("a user namespace could not be prepared")]
    Io {
        /// What went wrong.
        source: crate::Error,
    },
}

/// A range of subordinate ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    start: u32,
    count: u32,
}

/// Moves this process into a new user namespace, in which its user and group are 0 and the subordinate ids follow from 1 on.
///
/// After an error other than those before the kernel's the process may be in a namespace without ids, and should end.
///
/// # Errors
/// The user is root, has no subordinate ids, or the programs that give them are missing; the process has other threads;
/// the kernel permits no user namespaces.
pub fn enter_user_namespace() -> Result<(), UserNamespaceError> {
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    if uid == 0 {
        return Err(UserNamespaceError::Root);
    }
    let name = user_name(uid)?;
    let uids = ranges_of(Path::new(SUBUID), &[], name.as_deref(), uid)?;
    let gids = ranges_of(Path::new(SUBGID), &["-g"], name.as_deref(), uid)?;
    let helpers = [
        Helper::start("newuidmap", uid, &uids)?,
        Helper::start("newgidmap", gid, &gids)?,
    ];
    // SAFETY: the one thing that is dangerous about it is to stop sharing file descriptors with other threads, and neither
    // does the flag ask for that, nor does the kernel accept this flag from a process that has other threads.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER) }.map_err(|errno| match errno {
        Errno::INVAL => UserNamespaceError::Threads,
        errno => UserNamespaceError::Kernel { source: errno.into() },
    })?;
    for helper in helpers {
        helper.finish()?;
    }
    Ok(())
}

/// A program that will map ids, once it is let go.
struct Helper {
    program: &'static str,
    child: Child,
}

impl Helper {
    fn start(program: &'static str, own: u32, ranges: &[Range]) -> Result<Self, UserNamespaceError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => UserNamespaceError::Missing { program },
            _ => UserNamespaceError::Io {
                source: crate::Error::new("run", program, source),
            },
        };
        // Without arguments it says how it is used, and that it is there.
        let mut probe = Command::new(program);
        probe.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        probe.status().map_err(failed)?;
        let child = Command::new("sh")
            .args(["-c", WAIT, program])
            .arg(std::process::id().to_string())
            .args(map_arguments(own, ranges))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        Ok(Self { program, child })
    }

    /// Lets it map, and waits until it has.
    fn finish(mut self) -> Result<(), UserNamespaceError> {
        let program = self.program;
        let failed = |source| UserNamespaceError::Io {
            source: crate::Error::new("run", program, source),
        };
        if let Some(mut stdin) = self.child.stdin.take() {
            stdin.write_all(b"\n").map_err(failed)?;
        }
        let output = self.child.wait_with_output().map_err(failed)?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(UserNamespaceError::Refused {
            program,
            problem: said.trim().to_owned(),
        })
    }
}

/// Returns triples of first id inside, first id outside, count: the own id becomes 0, the ranges follow.
fn map_arguments(own: u32, ranges: &[Range]) -> Vec<String> {
    let mut arguments = vec!["0".to_owned(), own.to_string(), "1".to_owned()];
    let mut inside = 1_u32;
    for range in ranges {
        // Ids have 32 bits, and the last one means none.
        let count = range.count.min(u32::MAX - 1 - inside);
        if count > 0 {
            arguments.extend([inside.to_string(), range.start.to_string(), count.to_string()]);
            inside += count;
        }
    }
    arguments
}

/// Returns the ranges of a user from a file or, if it has none, from elsewhere.
fn ranges_of(path: &Path, kind: &[&str], name: Option<&str>, uid: u32) -> Result<Vec<Range>, UserNamespaceError> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        read => read.map_err(|source| UserNamespaceError::Io {
            source: crate::Error::new("read", path, source),
        })?,
    };
    let mut ranges = parse_ranges(&text, name, uid);
    if let (true, Some(name)) = (ranges.is_empty(), name) {
        ranges = ranges_from_elsewhere(Path::new(GETSUBIDS), kind, name);
    }
    if ranges.is_empty() {
        return Err(UserNamespaceError::NoRange {
            user: name.map_or_else(|| uid.to_string(), str::to_owned),
            path: path.to_owned(),
        });
    }
    Ok(ranges)
}

/// Reads lines of the form `USER:FIRST:COUNT`, the user by name or number (subuid(5)).
fn parse_ranges(text: &str, name: Option<&str>, uid: u32) -> Vec<Range> {
    let number = uid.to_string();
    let range = |line: &str| {
        let mut fields = line.trim().split(':');
        let user = fields.next()?;
        if Some(user) != name && user != number {
            return None;
        }
        let (start, count) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        (count > 0).then_some(Range { start, count })
    };
    text.lines().filter_map(range).collect()
}

/// Asks the program that knows where the name service has ranges (the line `subid` of nsswitch.conf(5)). It need not be
/// installed, and then, or if it knows of none, there are none.
fn ranges_from_elsewhere(program: &Path, kind: &[&str], name: &str) -> Vec<Range> {
    let text = output_of(Command::new(program).args(kind).arg(name));
    text.map_or_else(Vec::new, |text| parse_listed(&text, name))
}

/// Reads lines of the form `0: USER FIRST COUNT` (getsubids(1)).
fn parse_listed(text: &str, name: &str) -> Vec<Range> {
    let range = |line: &str| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        fields.next().filter(|user| *user == name)?;
        let (start, count) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        (count > 0).then_some(Range { start, count })
    };
    text.lines().filter_map(range).collect()
}

/// Returns the name of a user, which is the one who runs this, if the system's list or the name service has it.
fn user_name(uid: u32) -> Result<Option<String>, UserNamespaceError> {
    let path = Path::new("/etc/passwd");
    let listed = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        read => {
            let failed = |source| UserNamespaceError::Io {
                source: crate::Error::new("read", path, source),
            };
            parse_name(&read.map_err(failed)?, uid)
        }
    };
    Ok(listed.or_else(|| name_from_elsewhere(Path::new(ID))))
}

/// Asks the program that asks the name service for the name of whoever runs it.
fn name_from_elsewhere(program: &Path) -> Option<String> {
    let text = output_of(Command::new(program).arg("-un"))?;
    Some(text.trim_end().to_owned()).filter(|name| !name.is_empty())
}

/// Returns what a program prints; nothing if it is not installed, or fails.
fn output_of(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let is_valid = output.status.success();
    is_valid.then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn parse_name(text: &str, uid: u32) -> Option<String> {
    let number = uid.to_string();
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == number).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn ranges_are_found_by_name_and_by_number() {
        let text = "other:1:2\nme:100000:65536\n# me:1:1\n1000:300000:10\nme:x:1\nme:5:0\n\n";
        let expected = [
            Range {
                start: 100_000,
                count: 65536,
            },
            Range {
                start: 300_000,
                count: 10,
            },
        ];
        assert_eq!(parse_ranges(text, Some("me"), 1000), expected);
        assert_eq!(parse_ranges(text, None, 1000), expected[1..]);
        assert!(parse_ranges(text, Some("nobody"), 65534).is_empty());
    }

    /// Makes a program of a shell's commands.
    fn program(directory: &Path, commands: &str) -> PathBuf {
        let program = directory.join("program");
        fs::write(&program, format!("#!/bin/sh\n{commands}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        program
    }

    #[test]
    fn ranges_from_elsewhere_are_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let listing = "[ \"$*\" = '-g me' ] || exit 1; echo '0: me 100000 65536'; echo '1: me 300000 10'; \
                       echo '2: you 1 2'; echo '3: me 5 0'; echo 'Error'";
        let program = program(directory.path(), listing);
        let expected = [(100_000, 65536), (300_000, 10)].map(|(start, count)| Range { start, count });
        assert_eq!(ranges_from_elsewhere(&program, &["-g"], "me"), expected);
        assert!(ranges_from_elsewhere(&program, &[], "me").is_empty());
        assert!(ranges_from_elsewhere(&directory.path().join("none"), &[], "me").is_empty());
    }

    #[test]
    fn a_name_from_elsewhere_is_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let known = program(directory.path(), "[ \"$*\" = -un ] && echo me@example");
        assert_eq!(name_from_elsewhere(&known).as_deref(), Some("me@example"));
        let unknown = program(directory.path(), "echo 54321; exit 1");
        assert_eq!(name_from_elsewhere(&unknown), None);
        assert_eq!(name_from_elsewhere(&directory.path().join("none")), None);
    }

    #[test]
    fn the_own_id_is_root_and_the_ranges_follow() {
        let ranges = [
            Range {
                start: 100_000,
                count: 65536,
            },
            Range {
                start: 300_000,
                count: u32::MAX,
            },
        ];
        let triples = map_arguments(1000, &ranges).join(" ");
        assert_eq!(triples, "0 1000 1 1 100000 65536 65537 300000 4294901757");
    }

    #[test]
    fn names_are_in_the_list() {
        let text = "root:x:0:0::/root:/bin/sh\nme:x:1000:1000::/home/me:/bin/sh\n";
        assert_eq!(parse_name(text, 1000).as_deref(), Some("me"));
        assert_eq!(parse_name(text, 1001), None);
    }

    #[test]
    fn a_process_with_threads_stays_outside() {
        // The test harness has threads, and may be run by root or by a user without ids.
        let error = enter_user_namespace().unwrap_err();
        let expected = matches!(
            error,
            UserNamespaceError::Root
                | UserNamespaceError::Threads
                | UserNamespaceError::NoRange { .. }
                | UserNamespaceError::Missing { .. }
        );
        assert!(expected, "{error}");
    }
}
