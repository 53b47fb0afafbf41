//! Credentials out of files and helper programs, as they lie on a disk.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod files;
mod helpers;
mod login_file;
mod logins;

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use tempfile::TempDir;
use unlade_auth::{ConfigFiles, Credential};
use unlade_reference::{Defaults, Repository};

/// A directory with configuration files and helper programs.
struct Home {
    directory: TempDir,
}

impl Home {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    /// Writes a helper; each run of it adds its standard input as a line to `calls`.
    fn helper(&self, name: &str, body: &str) {
        let calls = self.path("calls");
        let script = format!(
            "#!/bin/sh\nread -r server\necho \"$1 $server\" >> '{}'\n{body}\n",
            calls.display()
        );
        let path = self.write(&format!("docker-credential-{name}"), &script);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn calls(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.path("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Reads `config.json` of this directory; helpers are looked for here and where the shell's commands are.
    fn config(&self, text: &str) -> ConfigFiles {
        let path = self.write("config.json", text);
        let search_path = format!("{}:/usr/bin:/bin", self.directory.path().display());
        ConfigFiles::new(vec![path]).unwrap().with_search_path(search_path)
    }
}

fn repository(text: &str) -> Repository {
    Repository::parse(text, &Defaults::standard()).unwrap()
}

fn basic(username: &str, password: &str) -> Credential {
    Credential::from_pair(username, password)
}
