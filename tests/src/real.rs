//! Other people's programs: `skopeo` copies and inspects images, `umoci` unpacks them.
//!
//! They were written by others from the same specifications, so what they make of an image is the reference for what we do.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use unlade_test_support::{Artifact, TreeSnapshot, write_layout};

use crate::home::Home;
use crate::registry::RealRegistry;

/// Where `cargo xtask fixtures` puts what takes long to make.
const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/fixtures");

/// Begins a command line of `skopeo` that sees none of the user's logins and policies.
pub(crate) fn skopeo(work: &Path) -> Command {
    let mut command = Command::new("skopeo");
    command.arg("--insecure-policy").arg("--tmpdir").arg(work);
    command
        .env("HOME", work)
        .env("REGISTRY_AUTH_FILE", work.join("no-logins.json"));
    command
}

/// Begins a command line of `skopeo` that sees none of the user's logins and policies, and stages in `work`.
pub fn skopeo_command(work: &Path) -> Command {
    skopeo(work)
}

/// Runs a program to its end and returns what it printed; that it fails, or is not there, fails the test.
pub fn output_of(command: &mut Command) -> String {
    run(command)
}

/// Runs a program to its end and returns what it printed; that it fails, or is not there, fails the test.
pub(crate) fn run(command: &mut Command) -> String {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| cannot_run(&name, &error));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?} failed: {}\n{stderr}",
        output.status
    );
    String::from_utf8(output.stdout).unwrap_or_else(|_| panic!("{name} prints no UTF-8"))
}

/// Fails the test because of a program that is not there.
pub(crate) fn cannot_run(name: &str, error: &io::Error) -> ! {
    panic!("cannot run {name} ({error}); Debian's package {name} has it, `cargo xtask test` installs it as root");
}

/// Writes an image or index below `directory` and returns how skopeo names it there.
///
/// Docker's forms are not allowed in an OCI layout, so they go into skopeo's own kind of directory.
pub(crate) fn skopeo_source(directory: &Path, artifact: &dyn Artifact) -> String {
    let top = artifact.digest().clone();
    let media_type = &artifact.manifests()[&top].media_type;
    if media_type.starts_with("application/vnd.oci.") {
        write_layout(directory, &[("pushed", artifact)]).expect("a layout to push");
        return format!("oci:{}:pushed", directory.display());
    }
    let write = |name: &str, bytes: &[u8]| fs::write(directory.join(name), bytes).expect("a file to push");
    write("version", b"Directory Transport Version: 1.1\n");
    for (digest, manifest) in artifact.manifests() {
        let name = if digest == top {
            "manifest.json".to_owned()
        } else {
            format!("{}.manifest.json", digest.hex())
        };
        write(&name, &manifest.bytes);
    }
    for (digest, bytes) in artifact.blobs() {
        write(digest.hex(), bytes);
    }
    format!("dir:{}", directory.display())
}

/// Fetches an image from the registry with skopeo, unpacks it with umoci, and takes the tree.
///
/// `architecture` chooses from an index, in Go's words. As root owners, devices and all attributes are real.
pub fn reference_tree(registry: &RealRegistry, repository: &str, tag: &str, architecture: &str) -> TreeSnapshot {
    let work = tempfile::tempdir().expect("a directory for the reference");
    let mut copy = skopeo(work.path());
    copy.args(["--override-os", "linux", "--override-arch", architecture]);
    copy.args(["copy", "--src-tls-verify=false"]);
    copy.arg(format!("docker://{}", registry.reference(repository, tag)));
    let layout = work.path().join("layout");
    run(copy.arg(format!("oci:{}:reference", layout.display())));
    unpack(&layout, "reference", work.path())
}

/// Unpacks one tag of an OCI layout with umoci below `work` and takes the tree.
pub fn unpack(layout: &Path, tag: &str, work: &Path) -> TreeSnapshot {
    let tree = work.join("rootfs");
    let mut umoci = Command::new("umoci");
    umoci.args(["raw", "unpack", "--image"]);
    run(umoci.arg(format!("{}:{tag}", layout.display())).arg(&tree));
    TreeSnapshot::of(tree)
}

/// Logs in with skopeo, which writes `file` below the home.
pub fn skopeo_login(home: &Home, file: &str, host: &str, user: &str, password: &str) {
    let mut login = skopeo(&home.path(""));
    login.args([
        "login",
        "--tls-verify=false",
        "--username",
        user,
        "--password",
        password,
    ]);
    run(login.arg("--authfile").arg(home.path(file)).arg(host));
}

/// Returns whether skopeo may read an image with the logins of `file`.
pub fn skopeo_may_read(home: &Home, file: &Path, reference: &str) -> bool {
    let mut inspect = skopeo(&home.path(""));
    inspect.args(["inspect", "--tls-verify=false", "--authfile"]).arg(file);
    inspect.arg(format!("docker://{reference}")).stdin(Stdio::null());
    let output = inspect.output().unwrap_or_else(|error| cannot_run("skopeo", &error));
    output.status.success()
}

/// Returns whom skopeo finds in `file` for a registry. Asks nobody.
pub fn skopeo_logged_in(file: &Path, host: &str) -> Option<String> {
    let work = tempfile::tempdir().expect("a directory for skopeo");
    let mut login = skopeo(work.path());
    login.args(["login", "--get-login", "--authfile"]).arg(file).arg(host);
    let output = login.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| cannot_run("skopeo", &error));
    let name = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !name.is_empty()).then_some(name)
}

/// Returns the names that umoci finds in the store, in place.
pub fn umoci_names(home: &Home) -> Vec<String> {
    let mut umoci = Command::new("umoci");
    let listed = run(umoci.arg("ls").arg("--layout").arg(home.store()));
    listed.lines().map(str::to_owned).collect()
}

/// Returns what skopeo says about an image in the store, in place.
pub fn skopeo_inspect(home: &Home, name: &str) -> Value {
    let work = home.path("skopeo");
    fs::create_dir_all(&work).expect("a directory for skopeo");
    let printed = run(skopeo(&work).arg("inspect").arg(store_image(home, name)));
    serde_json::from_str(&printed).expect("skopeo prints JSON")
}

/// Copies an image out of the store with skopeo into a new layout, where it is tagged `copied`.
pub fn skopeo_copy(home: &Home, name: &str) -> PathBuf {
    let work = home.path("skopeo");
    fs::create_dir_all(&work).expect("a directory for skopeo");
    let layout = work.join("layout");
    let mut copy = skopeo(&work);
    copy.args(["copy", "--preserve-digests"]).arg(store_image(home, name));
    run(copy.arg(format!("oci:{}:copied", layout.display())));
    layout
}

fn store_image(home: &Home, name: &str) -> String {
    format!("oci:{}:{name}", home.store().display())
}

/// Returns the layout of the real Debian image, tag `latest`. Makes it unless it is there, which takes minutes and a
/// mirror of Debian's archive.
pub fn debian_layout() -> PathBuf {
    let layout = Path::new(FIXTURES).join("debian");
    if !layout.join("index.json").exists() {
        let mut xtask = Command::new(env!("CARGO"));
        xtask.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        run(xtask.args(["xtask", "fixtures", "--debian"]));
    }
    layout
}
