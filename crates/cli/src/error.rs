//! Failures: one place that maps an error to its exit code, its text and its hint.

use std::error::Error as _;
use std::io;
use std::iter::successors;
use std::time::Duration;

use clap::builder::styling::{AnsiColor, Style};
use serde::Serialize;
use unlade_oci::ErrorClass;
use unlade_pull::Cause;
use unlade_reference::{ParseError, Registry};
use unlade_registry::{CredentialsNote, TlsProblem};

use crate::settings::SettingsError;
use crate::stderr::{Stderr, printable};

const ERROR: Style = AnsiColor::Red.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default().bold();

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The command line is wrong, and clap says how.
    #[error("{message}")]
    Usage {
        /// What is wrong.
        message: String,
        /// What clap proposes.
        hint: Option<String>,
    },
    /// The settings cannot be used.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A text is no reference.
    #[error(transparent)]
    Reference(#[from] ParseError),
    /// An argument is not text.
    #[error("the reference {shown:?} is not valid UTF-8")]
    NotUtf8 {
        /// The argument, as far as it can be shown.
        shown: String,
    },
    /// The pull failed.
    #[error(transparent)]
    Pull(#[from] unlade_pull::Error),
    /// The store failed.
    #[error(transparent)]
    Images(#[from] unlade_images::Error),
    /// The registry failed, outside of a pull.
    #[error(transparent)]
    Registry(#[from] unlade_registry::Error),
    /// What is written about registries cannot be used.
    #[error(transparent)]
    Registries(#[from] unlade_registry::ConfigError),
    /// A file with credentials is no good.
    #[error(transparent)]
    Auth(#[from] unlade_auth::Error),
    /// A password, or what was asked at the terminal, could not be read.
    #[error("cannot read what was typed or piped in")]
    Input {
        /// What the system said.
        source: io::Error,
    },
    /// The threads for the network could not be started.
    #[error("cannot start what the network needs")]
    Runtime {
        /// What the system said.
        source: io::Error,
    },
    /// A file that was asked for could not be written.
    #[error("cannot write {}", path.display())]
    File {
        /// Which.
        path: std::path::PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The result could not be written.
    #[error("cannot write the result to the standard output")]
    Output {
        /// What the system said.
        source: io::Error,
    },
    /// Something in the store is damaged, as the report says.
    #[error("the store is damaged: {count} of the things in it")]
    Damaged {
        /// How many things are.
        count: usize,
    },
    /// Somebody stopped the command.
    #[error("interrupted")]
    Interrupted,
    /// The time that the network was given is over.
    #[error("not done within {} s, which is all the time that there was", limit.as_secs_f64())]
    TimeLimit {
        /// The time.
        limit: Duration,
    },
}

/// An error as a program reads it.
#[derive(Serialize)]
struct Object<'a> {
    class: ErrorClass,
    message: &'a str,
    causes: &'a [String],
    retryable: bool,
    hint: Option<&'a str>,
}

impl Error {
    /// Returns the class, which decides the exit code.
    pub(crate) fn class(&self) -> ErrorClass {
        match self {
            Self::Usage { .. } => ErrorClass::Usage,
            Self::Settings(error) => error.class(),
            Self::Reference(_) | Self::NotUtf8 { .. } => ErrorClass::Invalid,
            Self::Pull(error) => error.class(),
            Self::Images(error) => error.class(),
            Self::Registry(error) => error.class(),
            Self::Registries(error) => error.class(),
            Self::Auth(error) => error.class(),
            Self::Runtime { .. } | Self::Input { .. } => ErrorClass::Other,
            Self::Output { .. } | Self::File { .. } => ErrorClass::Storage,
            Self::Damaged { .. } => ErrorClass::Store,
            Self::Interrupted => ErrorClass::Interrupted,
            Self::TimeLimit { .. } => ErrorClass::Timeout,
        }
    }

    fn is_retryable(&self) -> bool {
        match self {
            Self::Pull(error) => error.is_retryable(),
            Self::Registry(error) => error.is_retryable(),
            Self::Interrupted | Self::TimeLimit { .. } => true,
            _ => false,
        }
    }

    fn causes(&self) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
        successors(self.source(), |&cause| cause.source())
    }

    /// Whether the reader of the standard output went away, which is no failure of ours.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output { source } if source.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Writes the error to stderr, in the form that was asked for.
    pub(crate) fn report(&self, stderr: &Stderr) {
        let message = self.to_string();
        let mut causes = Vec::new();
        for cause in self.causes().map(ToString::to_string) {
            // Some errors of other libraries have their source's text in their own.
            if causes.last().unwrap_or(&message) != &cause {
                causes.push(cause);
            }
        }
        let hint = self.hint();
        if stderr.is_json() {
            let object = Object {
                class: self.class(),
                message: &message,
                causes: &causes,
                retryable: self.is_retryable(),
                hint: hint.as_deref(),
            };
            if let Ok(line) = serde_json::to_string(&object) {
                stderr.line(&line);
            }
            return;
        }
        let mut lines = vec![format!("{ERROR}error:{ERROR:#} {}", printable(&message))];
        lines.extend(causes.iter().map(|cause| format!("  caused by: {}", printable(cause))));
        lines.extend(hint.map(|hint| format!("{HINT}hint:{HINT:#} {}", printable(&hint).replace('\n', "\n      "))));
        stderr.line(&lines.join("\n"));
    }

    /// Returns what a person can do about it, in the words of this command.
    fn hint(&self) -> Option<String> {
        if let Some(hint) = self.hint_files() {
            return Some(hint.to_owned());
        }
        if let Some(limit) = self.exceeded_limit() {
            let flag = limit.replace('_', "-");
            return Some(format!(
                "if you trust the image, raise it with --max-{flag}, or `{flag}` in the table `limits` of the configuration file"
            ));
        }
        match self {
            Self::Usage { hint, .. } => return hint.clone(),
            Self::Reference(error)
            | Self::Settings(
                SettingsError::Registry { source: error, .. } | SettingsError::GroupReference { source: error, .. },
            ) => return Some(error.pointer()),
            Self::Settings(SettingsError::NoHome) => {
                return Some("say where with --home DIR or the variable UNLADE_HOME".to_owned());
            }
            Self::Settings(SettingsError::NoGroup { .. }) => {
                return Some("groups are set in the table `image-groups` of the configuration file; without -G the names are images".to_owned());
            }
            Self::Pull(unlade_pull::Error::NoPlatform { .. } | unlade_pull::Error::WrongPlatform { .. }) => {
                return Some("choose one that there is with --platform".to_owned());
            }
            Self::Pull(unlade_pull::Error::Document { source, .. })
                if matches!(**source, unlade_oci::DocumentError::NotAnImage { .. }) =>
            {
                return Some("`unlade pull --artifact` keeps the blobs of an artifact".to_owned());
            }
            _ if self.is_owner_refused() => {
                return Some(
                    "without root, `--ownership record` keeps owners in an attribute, and `--ownership squash` leaves them out"
                        .to_owned(),
                );
            }
            Self::Pull(unlade_pull::Error::NotLocal { .. }) => {
                return Some("without --policy never it is fetched".to_owned());
            }
            _ if self.lacks_blob() => return Some("without --policy never it is fetched again".to_owned()),
            Self::Damaged { .. } => {
                return Some("`unlade verify --repair` makes images good, from the blobs or from the registry; an artifact is pulled again, with `unlade pull --artifact`".to_owned());
            }
            Self::Images(unlade_images::Error::TargetInUse { path }) if path.is_dir() => {
                return Some("--replace puts the new tree in its place, in one step".to_owned());
            }
            Self::Images(unlade_images::Error::Files { source })
                if source.operation == "mount an overlay at" && source.raw_os_error() == Some(1) =>
            {
                return Some(
                    "mounting takes root; `unlade mount REF DIR -- COMMAND` runs a command that alone sees the mount, and `unlade unpack` makes a directory"
                        .to_owned(),
                );
            }
            Self::Images(unlade_images::Error::Files { source })
                if source.operation == "make namespaces for a mount at" =>
            {
                return Some(
                    "this system does not let users have namespaces; `unlade unpack` makes a directory".to_owned(),
                );
            }
            Self::Images(unlade_images::Error::BlobMissing { .. }) => {
                return Some("`unlade pull --no-extract` fetches it again".to_owned());
            }
            Self::Images(unlade_images::Error::NoImage { .. }) => {
                return Some("`unlade images` lists what is in the store, `unlade pull` brings an image in".to_owned());
            }
            _ => {}
        }
        let hint = match self.class() {
            ErrorClass::NotFound => self.hint_not_found(),
            ErrorClass::Auth => self.hint_auth(),
            ErrorClass::Network => self.hint_tls().unwrap_or_else(|| {
                "check the network and the registry's name; what is fetched already is kept, a later pull continues it"
                    .to_owned()
            }),
            ErrorClass::Timeout | ErrorClass::Interrupted => {
                "the same command again continues where this one stopped".to_owned()
            }
            ErrorClass::Integrity => {
                "nothing of it was kept; if it fails again, tell whoever runs the registry, or the proxy on the way"
                    .to_owned()
            }
            ErrorClass::Storage => self.hint_storage()?,
            ErrorClass::RateLimited => format!(
                "wait a while, use a mirror, or log in: registries allow more to those they know ({})",
                login(self.registry().as_ref())
            ),
            ErrorClass::Store => {
                "if another process works on the store, wait for it; another store is chosen with --home DIR".to_owned()
            }
            _ => return None,
        };
        Some(hint)
    }

    /// What to do about images that come from files or go to them.
    const fn hint_files(&self) -> Option<&'static str> {
        Some(match self {
            Self::Pull(unlade_pull::Error::Nameless { .. }) => "name it with --name REF",
            Self::Pull(unlade_pull::Error::OneNameForMany { .. }) => {
                "without --name each is called what it is called there"
            }
            Self::Pull(unlade_pull::Error::SuppliedName { .. }) => "--name REF gives it another name",
            Self::Pull(unlade_pull::Error::NotSupplied { .. }) => "the archive or layout is not whole; write it anew",
            Self::Images(unlade_images::Error::NotWhole { .. }) => {
                "`unlade pull --platform all` fetches what is missing"
            }
            Self::Images(unlade_images::Error::OneImageOnly { .. }) => "choose one with --platform, or another form",
            _ => return None,
        })
    }

    /// What to do about a server that no TLS connection can be made to.
    fn hint_tls(&self) -> Option<String> {
        let unlade_registry::Error::Transport { source, exchange, .. } = self.registry_error()? else {
            return None;
        };
        let host = exchange.url.host();
        let bypass = format!("--insecure-skip-verify={host} accepts any certificate and with it any impostor");
        Some(match source.tls_problem()? {
            TlsProblem::UnknownAuthority => format!(
                "if the authority is your own, name it with --ca-file FILE or put it into certs.d/{host}/ca.crt; {bypass}"
            ),
            TlsProblem::Expired => format!("check this machine's clock, and tell whoever runs {host}; {bypass}"),
            TlsProblem::OtherName => format!("use a name that the certificate has; {bypass}"),
            TlsProblem::NotTls => format!("if {host} speaks plain http, say so with --plain-http={host}"),
            TlsProblem::WantsCertificate => {
                format!("give one with --client-cert FILE and --client-key FILE, or in certs.d/{host}/client.cert")
            }
            _ => return None,
        })
    }

    /// Whether the blob of a layer that has to be extracted once more is gone, and may not be fetched.
    fn lacks_blob(&self) -> bool {
        let Self::Pull(unlade_pull::Error::Layer { source, .. }) = self else {
            return false;
        };
        matches!(&**source, Cause::Images(unlade_images::Error::BlobMissing { .. }))
    }

    fn hint_not_found(&self) -> String {
        let registry_error = self.registry_error();
        let is_anonymous = registry_error.is_some_and(|error| {
            matches!(error, unlade_registry::Error::NotFound { credentials, .. }
                if !matches!(**credentials, CredentialsNote::Sent { .. }))
        });
        let mut hints = vec!["check the spelling".to_owned()];
        if let Self::Pull(unlade_pull::Error::Resolve { reference, .. }) = self {
            hints.push(format!(
                "`unlade tags {}` lists the tags there are",
                reference.repository()
            ));
        }
        if is_anonymous {
            hints.push(format!(
                "a private repository needs a login ({})",
                login(self.registry().as_ref())
            ));
        }
        hints.join("; ")
    }

    fn hint_auth(&self) -> String {
        let login = login(self.registry().as_ref());
        match self.registry_error() {
            Some(
                unlade_registry::Error::Denied { credentials, .. }
                | unlade_registry::Error::TokenRefused { credentials, .. },
            ) if matches!(**credentials, CredentialsNote::Sent { .. }) => {
                format!("the login that was sent may be outdated or not allowed to read this; log in again ({login})")
            }
            _ => format!("log in ({login}); what docker, podman and skopeo have stored is used, too"),
        }
    }

    fn hint_storage(&self) -> Option<String> {
        if let Self::Pull(unlade_pull::Error::NoSpace { .. }) = self {
            return Some("`unlade rm` removes images; --home and --layer-path choose other places".to_owned());
        }
        if let Self::Pull(unlade_pull::Error::DiskFull { .. }) = self {
            return Some(
                "make room, `unlade rm` removes images; then the same pull goes on with what is there".to_owned(),
            );
        }
        let kind = self
            .causes()
            .filter_map(|cause| cause.downcast_ref::<io::Error>())
            .last()?
            .kind();
        let hint = match kind {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "make room, `unlade rm` removes images; the same pull then continues where this one stopped"
            }
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::NotADirectory => {
                "choose a store that you can write to with --home DIR or the variable UNLADE_HOME"
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }

    /// The limit that a layer went beyond.
    fn exceeded_limit(&self) -> Option<&'static str> {
        match self {
            Self::Pull(unlade_pull::Error::Layer { source, .. }) => match &**source {
                Cause::Extract(unlade_extract::Error::Limit { limit, .. }) => Some(limit),
                _ => None,
            },
            Self::Images(unlade_images::Error::Layer { source, .. } | unlade_images::Error::Extract { source }) => {
                match &**source {
                    unlade_extract::Error::Limit { limit, .. } => Some(limit),
                    _ => None,
                }
            }
            Self::Pull(unlade_pull::Error::Supply { source }) => match &**source {
                unlade_images::Error::Archive { source } => match &**source {
                    // Of an archive of images it is what all of them may hold together.
                    unlade_extract::Error::Limit { limit: "raw_bytes", .. } => Some("total_raw_bytes"),
                    unlade_extract::Error::Limit { limit: "ratio", .. } => Some("ratio"),
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether a user who is not root was to give a file away.
    fn is_owner_refused(&self) -> bool {
        let refused = |error: &unlade_extract::Error| matches!(error, unlade_extract::Error::OwnerRefused { .. });
        match self {
            Self::Pull(unlade_pull::Error::Layer { source, .. } | unlade_pull::Error::Store { source }) => {
                match &**source {
                    Cause::Extract(error) => refused(error),
                    Cause::Images(unlade_images::Error::Layer { source, .. }) => refused(source),
                    _ => false,
                }
            }
            _ => false,
        }
    }

    /// What the registry, or the last of its servers, did.
    fn registry_error(&self) -> Option<&unlade_registry::Error> {
        let error = match self {
            Self::Registry(error) => error,
            Self::Pull(unlade_pull::Error::Resolve { source, .. }) => source,
            Self::Pull(unlade_pull::Error::Layer { source, .. }) => match &**source {
                Cause::Registry(error) => error,
                _ => return None,
            },
            _ => return None,
        };
        Some(error.main())
    }

    /// The registry that it is about, if that is known.
    fn registry(&self) -> Option<Registry> {
        if let Self::Pull(unlade_pull::Error::Resolve { reference, .. }) = self {
            return Some(reference.registry().clone());
        }
        let host = self.registry_error()?.exchange()?.url.host();
        // Docker Hub has one name for logins and several for its servers.
        if host.ends_with(".docker.io") {
            Some(Registry::docker_hub())
        } else {
            host.parse().ok()
        }
    }
}

/// Returns the command that logs in to a registry.
fn login(registry: Option<&Registry>) -> String {
    match registry {
        Some(registry) => format!("`unlade login {registry}`"),
        None => "`unlade login REGISTRY`".to_owned(),
    }
}

impl From<clap::Error> for Error {
    /// Takes clap's text apart, which has the form `error: …`, an empty line, and the usage.
    fn from(error: clap::Error) -> Self {
        let text = error.render().to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text);
        let (message, rest) = text.split_once("\n\n").unwrap_or((text, ""));
        // What follows is the usage, and where there is help; a program has no use for the latter.
        let rest = rest.split("\n\nFor more information").next().unwrap_or_default();
        let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let hint = Some(one_line(rest)).filter(|hint| !hint.is_empty());
        Self::Usage {
            message: one_line(message),
            hint,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stderr::tests::captured;

    fn reported(error: &Error, json: bool) -> String {
        let (stderr, written) = captured(json);
        error.report(&stderr);
        written()
    }

    fn limit() -> Error {
        let limit = unlade_extract::Error::Limit {
            limit: "raw_bytes",
            value: 10,
            path: None,
        };
        Error::Pull(unlade_pull::Error::Layer {
            digest: unlade_oci::Digest::sha256("x"),
            stage: unlade_pull::Stage::Extract,
            source: Box::new(Cause::Extract(limit)),
        })
    }

    #[test]
    fn the_hint_names_the_flag_of_a_limit() {
        insta::assert_snapshot!(reported(&limit(), false), @r#"
        error: extracting layer sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881 failed
          caused by: the limit `raw_bytes` of 10 is exceeded
        hint: if you trust the image, raise it with --max-raw-bytes, or `raw-bytes` in the table `limits` of the configuration file
        "#);
        assert_eq!(limit().class().exit_code(), 8);
    }

    #[test]
    fn every_limit_has_a_flag_and_a_key() {
        use clap::CommandFactory as _;
        let command = crate::arguments::Arguments::command();
        let pull = command.find_subcommand("pull").unwrap();
        for limit in [
            "raw_bytes",
            "total_raw_bytes",
            "ratio",
            "file_bytes",
            "entries",
            "path_bytes",
            "depth",
            "xattr_bytes",
            "extension_bytes",
            "deferred_bytes",
            "zstd_window_log",
        ] {
            let id = format!("max_{limit}");
            assert!(
                pull.get_arguments().any(|argument| argument.get_id() == id.as_str()),
                "{id}"
            );
        }
    }

    #[test]
    fn a_reference_is_shown_with_a_caret() {
        let error = Error::Reference("alpine:x y".parse::<unlade_reference::Reference>().unwrap_err());
        insta::assert_snapshot!(reported(&error, false), @r#"
        error: invalid reference "alpine:x y": the tag has ' ' at position 8; a tag is made of letters, digits, '_', '.' and '-'
        hint: alpine:x y
                      ^
        "#);
        let object: serde_json::Value = reported(&error, true).parse().unwrap();
        assert_eq!(object["class"], "invalid");
        assert_eq!(object["hint"], "alpine:x y\n        ^");
        assert_eq!(
            (&object["retryable"], &object["causes"]),
            (&false.into(), &serde_json::json!([]))
        );
    }
}
