//! Settings: flag, then environment, then configuration file, then default; resolved once into plain values.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use unlade_oci::{ErrorClass, Platform};
use unlade_reference::{Defaults, ParseError};
use unlade_registry::ProxyError;

use crate::arguments::{
    AuthCommand, AuthFile, Command, Durability, Global, Limits, Login, Obtain, Ownership, Platforms, Whiteouts,
};
use crate::config_file::{ConfigError, ConfigFile, LimitsTable};
use crate::credentials::LoginSettings;
use crate::environment::{self, Environment, Variable};
use crate::network::{DownloadFlags, Network, NetworkFlags};
use crate::quantity::ByteSize;
use crate::registries::{Registries, RegistryFlags};

/// Where a value came from, from what decides first to what decides last.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// A flag.
    Flag(&'static str),
    /// An environment variable.
    Environment(&'static str),
    /// A configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// Nobody has set it.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => f.write_str(name),
            Self::Environment(name) => write!(f, "the variable {name}"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Default => f.write_str("the default"),
        }
    }
}

/// A value and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting<T> {
    /// The value.
    pub(crate) value: T,
    /// Where it came from.
    pub(crate) source: Source,
}

impl<T> Setting<T> {
    /// Changes the value and keeps its source.
    pub(crate) fn map<U>(self, change: impl FnOnce(T) -> U) -> Setting<U> {
        Setting {
            value: change(self.value),
            source: self.source,
        }
    }
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    /// A configuration file is no good.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A variable holds no registry.
    #[error("the variable {variable} names no registry")]
    Registry {
        /// The variable.
        variable: &'static str,
        /// What is wrong with the name.
        source: ParseError,
    },
    /// A variable holds no proxy.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// A variable is not text.
    #[error("the variable {variable} is not valid UTF-8")]
    NotUtf8 {
        /// The variable.
        variable: &'static str,
    },
    /// The store is needed and it is not known where it is.
    #[error("it is not known where the store is: neither {}, {} nor {} is set", environment::UNLADE_HOME.name, environment::XDG_DATA_HOME.name, environment::HOME.name)]
    NoHome,
    /// A login is to be written and it is not known where.
    #[error("it is not known where logins are kept: neither {}, {} nor {} is set", environment::REGISTRY_AUTH_FILE.name, environment::DOCKER_CONFIG.name, environment::HOME.name)]
    NoLoginFile,
    /// Of a name and a password, one is set.
    #[error("the variable {set} is set and {missing} is not")]
    HalfALogin {
        /// The variable that is set.
        set: &'static str,
        /// The one that is not.
        missing: &'static str,
    },
    /// One login, several registries.
    #[error("the login of the variables {} and {} is for one registry, and this is about {registries}", environment::UNLADE_USERNAME.name, environment::UNLADE_PASSWORD.name)]
    OneLoginForSeveral {
        /// The registries.
        registries: String,
    },
    /// There is no image group of that name.
    #[error("there is no image group {name:?}, {}", groups(known))]
    NoGroup {
        /// The name.
        name: String,
        /// The groups that there are.
        known: Vec<String>,
    },
    /// An image group holds something that is not a reference.
    #[error("the image group {group:?} in {place} has an invalid reference")]
    GroupReference {
        /// The group.
        group: String,
        /// Where it is written.
        place: Source,
        /// What is wrong.
        source: ParseError,
    },
    /// The filter for logging cannot be read.
    #[error("{what} is no filter for logging: {problem}")]
    Log {
        /// Where it is from.
        what: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

impl SettingsError {
    /// Returns the class of the failure.
    #[expect(clippy::unused_self, reason = "every error answers this question")]
    pub(crate) const fn class(&self) -> ErrorClass {
        ErrorClass::Invalid
    }
}

fn groups(known: &[String]) -> String {
    if known.is_empty() {
        "there are none".to_owned()
    } else {
        format!("there are: {}", known.join(", "))
    }
}

/// What a command's own flags say about settings.
#[derive(Debug, Default)]
struct Flags<'a> {
    layer_path: Option<&'a PathBuf>,
    platform: Option<&'a Platform>,
    whiteouts: Option<Whiteouts>,
    ownership: Option<Ownership>,
    durability: Option<Durability>,
    limits: Option<&'a Limits>,
    login: Login,
    registries: Option<&'a RegistryFlags>,
    network: Option<&'a NetworkFlags>,
    downloads: Option<&'a DownloadFlags>,
}

impl<'a> Flags<'a> {
    fn of(command: &'a Command) -> Self {
        match command {
            Command::Pull(pull) => Self {
                layer_path: pull.layer_path.as_ref(),
                platform: pull.platform.as_ref().and_then(Platforms::one),
                whiteouts: pull.whiteouts,
                ownership: pull.ownership,
                durability: pull.durability,
                limits: Some(&pull.limits),
                login: pull.login.clone(),
                registries: Some(&pull.registries),
                network: Some(&pull.network),
                downloads: Some(&pull.downloads),
            },
            Command::Unpack(unpack) => Self::of_obtain(&unpack.obtain),
            Command::Mount(mount) => Self::of_obtain(&mount.obtain),
            Command::Import(import) => Self {
                layer_path: import.layer_path.as_ref(),
                platform: import.platform.as_ref().and_then(Platforms::one),
                whiteouts: import.whiteouts,
                ownership: import.ownership,
                durability: import.durability,
                limits: Some(&import.limits),
                ..Self::default()
            },
            Command::Resolve(resolve) => Self {
                platform: resolve.platform.as_ref(),
                login: resolve.login.clone(),
                registries: Some(&resolve.registries),
                network: Some(&resolve.network),
                ..Self::default()
            },
            Command::Verify(verify) => Self {
                login: verify.login.clone(),
                registries: Some(&verify.registries),
                network: Some(&verify.network),
                ..Self::default()
            },
            Command::Referrers(referrers) => Self {
                login: referrers.login.clone(),
                registries: Some(&referrers.registries),
                network: Some(&referrers.network),
                ..Self::default()
            },
            Command::Explain(explain) => Self {
                platform: explain.platform.as_ref(),
                login: explain.login.clone(),
                registries: Some(&explain.registries),
                network: Some(&explain.network),
                ..Self::default()
            },
            Command::Tags(tags) => Self {
                login: tags.login.clone(),
                registries: Some(&tags.registries),
                network: Some(&tags.network),
                ..Self::default()
            },
            Command::Login(login) => {
                let mut flags = Self::of_file(login.authfile.as_ref());
                // What is kept has no say in whether another login is taken, and the file may not be there yet.
                flags.login.no_creds = true;
                flags.registries = Some(&login.registries);
                flags.network = Some(&login.network);
                flags
            }
            Command::Logout(logout) => Self::of_file(logout.authfile.as_ref()),
            Command::Auth(auth) => match &auth.command {
                AuthCommand::Status(status) => Self::of_file(status.authfile.authfile.as_ref()),
            },
            Command::Images
            | Command::Inspect(_)
            | Command::Rm(_)
            | Command::Umount(_)
            | Command::Prune(_)
            | Command::Export(_)
            | Command::Df
            | Command::Completions(_) => Self::default(),
        }
    }
}

impl<'a> Flags<'a> {
    fn of_obtain(obtain: &'a Obtain) -> Self {
        Self {
            layer_path: obtain.layer_path.as_ref(),
            platform: obtain.platform.as_ref(),
            ownership: obtain.ownership,
            durability: obtain.durability,
            limits: Some(&obtain.limits),
            login: obtain.login.clone(),
            registries: Some(&obtain.registries),
            network: Some(&obtain.network),
            downloads: Some(&obtain.downloads),
            ..Self::default()
        }
    }
}

impl Flags<'_> {
    /// Only which file holds logins.
    fn of_file(authfile: Option<&PathBuf>) -> Self {
        let authfile = AuthFile {
            authfile: authfile.cloned(),
        };
        Self {
            login: Login {
                authfile,
                ..Login::default()
            },
            ..Self::default()
        }
    }
}

/// Everything that can be set.
#[derive(Debug)]
pub(crate) struct Settings {
    home: Option<Setting<PathBuf>>,
    /// How names are completed.
    pub(crate) defaults: Setting<Defaults>,
    /// Where layers are extracted, if not in the store.
    pub(crate) layer_path: Option<Setting<PathBuf>>,
    /// The platform wanted, if not this machine's.
    pub(crate) platform: Option<Setting<Platform>>,
    /// The form of whiteouts.
    pub(crate) whiteouts: Setting<Whiteouts>,
    /// Whom the files of layers belong to, if not to whom they do by default.
    pub(crate) ownership: Option<Setting<Ownership>>,
    /// Whether a command waits for the disk.
    pub(crate) durability: Setting<Durability>,
    /// Groups of images.
    pub(crate) image_groups: BTreeMap<String, Setting<Vec<String>>>,
    /// What one layer may hold.
    pub(crate) limits: unlade_extract::Limits,
    /// How much may happen at once, as far as anybody has said so.
    pub(crate) budget: BudgetSettings,
    /// Which logins are used.
    pub(crate) login: LoginSettings,
    /// Where registries are served.
    pub(crate) registries: Registries,
    /// How the network is used.
    pub(crate) network: Network,
}

impl Settings {
    /// Resolves all settings.
    pub(crate) fn resolve(
        global: &Global,
        command: &Command,
        environment: &Environment,
        uid: u32,
    ) -> Result<Self, SettingsError> {
        let is_root = uid == 0;
        let file = read_files(global, environment)?;
        let flags = Flags::of(command);
        let network = Network::resolve(
            flags.network.unwrap_or(&NetworkFlags::default()),
            flags.downloads.unwrap_or(&DownloadFlags::default()),
            environment,
            &file.network,
            &file.proxy,
        )?;
        Ok(Self {
            home: home(global, environment, file.home, is_root),
            defaults: defaults(environment, file.default_registry, file.aliases)?,
            layer_path: from_flag("--layer-path", flags.layer_path.cloned()).or(file.layer_path),
            platform: from_flag("--platform", flags.platform.cloned()).or(file.platform),
            whiteouts: from_flag("--whiteouts", flags.whiteouts)
                .or(file.whiteouts)
                .unwrap_or(Setting {
                    value: Whiteouts::Overlay,
                    source: Source::Default,
                }),
            ownership: from_flag("--ownership", flags.ownership).or(file.ownership),
            durability: from_flag("--durability", flags.durability)
                .or(file.durability)
                .unwrap_or(Setting {
                    value: Durability::Lazy,
                    source: Source::Default,
                }),
            image_groups: file.image_groups,
            limits: limits(flags.limits.unwrap_or(&Limits::default()), &file.limits),
            budget: BudgetSettings {
                connections: network.connections.or(file.connections.map(|setting| setting.value)),
                workers: file.workers.map(|setting| setting.value),
                ranges: network.ranges,
            },
            login: LoginSettings::resolve(&flags.login, environment, uid)?,
            registries: Registries::resolve(
                flags.registries.unwrap_or(&RegistryFlags::default()),
                environment,
                file.registries,
                config_home(environment).as_deref(),
            ),
            network,
        })
    }

    /// Returns where the store is.
    pub(crate) fn home(&self) -> Result<&Setting<PathBuf>, SettingsError> {
        self.home.as_ref().ok_or(SettingsError::NoHome)
    }
}

fn from_flag<T>(name: &'static str, value: Option<T>) -> Option<Setting<T>> {
    value.map(|value| Setting {
        value,
        source: Source::Flag(name),
    })
}

fn from_environment(environment: &Environment, variable: &Variable) -> Option<Setting<PathBuf>> {
    let value = environment.get(variable)?;
    Some(Setting {
        value: value.into(),
        source: Source::Environment(variable.name),
    })
}

/// A directory that a variable names; one that is not absolute is to be ignored (XDG base directory specification).
fn directory(environment: &Environment, variable: &Variable) -> Option<PathBuf> {
    environment
        .get(variable)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
}

fn user_home(environment: &Environment) -> Option<PathBuf> {
    environment.get(&environment::HOME).map(PathBuf::from)
}

fn config_home(environment: &Environment) -> Option<PathBuf> {
    directory(environment, &environment::XDG_CONFIG_HOME)
        .or_else(|| user_home(environment).map(|home| home.join(".config")))
}

fn read_files(global: &Global, environment: &Environment) -> Result<ConfigFile, ConfigError> {
    let named = global
        .config
        .as_deref()
        .or_else(|| environment.get(&environment::UNLADE_CONFIG).map(Path::new));
    if let Some(path) = named {
        return ConfigFile::read(path);
    }
    let mut file = ConfigFile::default();
    if let Some(directory) = config_home(environment) {
        file = ConfigFile::read_if_there(&directory.join("unlade/config.toml"))?;
    }
    Ok(file.over(ConfigFile::read_if_there(Path::new("/etc/unlade/config.toml"))?))
}

fn home(
    global: &Global,
    environment: &Environment,
    file: Option<Setting<PathBuf>>,
    is_root: bool,
) -> Option<Setting<PathBuf>> {
    let default = || {
        if is_root {
            return Some(PathBuf::from("/var/lib/unlade"));
        }
        let data = directory(environment, &environment::XDG_DATA_HOME)
            .or_else(|| user_home(environment).map(|home| home.join(".local/share")));
        data.map(|data| data.join("unlade"))
    };
    from_flag("--home", global.home.clone())
        .or_else(|| from_environment(environment, &environment::UNLADE_HOME))
        .or(file)
        .or_else(|| {
            Some(Setting {
                value: default()?,
                source: Source::Default,
            })
        })
}

fn defaults(
    environment: &Environment,
    file_registry: Option<Setting<unlade_reference::Registry>>,
    aliases: BTreeMap<unlade_reference::Registry, Setting<unlade_reference::Registry>>,
) -> Result<Setting<Defaults>, SettingsError> {
    let variable = environment::OCI_REGISTRY_DOMAIN.name;
    let from_variable = match environment.get(&environment::OCI_REGISTRY_DOMAIN) {
        None => None,
        Some(value) => {
            let text = value.to_str().ok_or(SettingsError::NotUtf8 { variable })?;
            let value = text
                .parse()
                .map_err(|source| SettingsError::Registry { variable, source })?;
            Some(Setting {
                value,
                source: Source::Environment(variable),
            })
        }
    };
    let mut defaults = Defaults::standard();
    for (name, target) in aliases {
        defaults = defaults.with_alias(name, target.value);
    }
    Ok(match from_variable.or(file_registry) {
        Some(registry) => registry.map(|registry| defaults.with_default_registry(registry)),
        None => Setting {
            value: defaults,
            source: Source::Default,
        },
    })
}

fn limits(flags: &Limits, file: &LimitsTable) -> unlade_extract::Limits {
    let bytes = |flag: Option<ByteSize>, file: Option<ByteSize>| flag.or(file).map(|size| size.0);
    let mut limits = unlade_extract::Limits::default();
    limits.raw_bytes = bytes(flags.max_raw_bytes, file.raw_bytes).or(limits.raw_bytes);
    limits.total_raw_bytes = bytes(flags.max_total_raw_bytes, file.total_raw_bytes).or(limits.total_raw_bytes);
    limits.ratio = flags.max_ratio.or(file.ratio).or(limits.ratio);
    limits.file_bytes = bytes(flags.max_file_bytes, file.file_bytes).or(limits.file_bytes);
    limits.entries = flags.max_entries.or(file.entries).unwrap_or(limits.entries);
    limits.path_bytes = bytes(flags.max_path_bytes, file.path_bytes).unwrap_or(limits.path_bytes);
    limits.depth = flags.max_depth.or(file.depth).unwrap_or(limits.depth);
    limits.xattr_bytes = bytes(flags.max_xattr_bytes, file.xattr_bytes).unwrap_or(limits.xattr_bytes);
    limits.extension_bytes = bytes(flags.max_extension_bytes, file.extension_bytes).unwrap_or(limits.extension_bytes);
    limits.deferred_bytes = bytes(flags.max_deferred_bytes, file.deferred_bytes).unwrap_or(limits.deferred_bytes);
    limits.zstd_window_log = flags
        .max_zstd_window_log
        .or(file.zstd_window_log)
        .unwrap_or(limits.zstd_window_log);
    limits
}

/// What was said of how much may happen at once. The rest follows from the machine, which costs a look at it: that is done
/// where something is to happen at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BudgetSettings {
    connections: Option<NonZeroUsize>,
    workers: Option<NonZeroUsize>,
    ranges: Option<NonZeroUsize>,
}

impl BudgetSettings {
    /// Returns the whole budget, for this machine.
    pub(crate) fn limits(&self) -> unlade_pull::Limits {
        let default = unlade_pull::Limits::default();
        unlade_pull::Limits {
            connections: self.connections.unwrap_or(default.connections),
            workers: self.workers.unwrap_or(default.workers),
            ranges: self.ranges.unwrap_or(default.ranges),
            ..default
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use clap::Parser as _;

    use super::*;
    use crate::arguments::Arguments;

    fn resolve(line: &str, variables: &[(&'static str, &str)], is_root: bool) -> Settings {
        let line = format!("unlade --config /dev/null {line}");
        let Arguments { global, command } = Arguments::try_parse_from(line.split(' ')).unwrap();
        let environment = Environment::of(variables.iter().map(|(name, value)| (*name, OsString::from(value))));
        Settings::resolve(&global, &command, &environment, if is_root { 0 } else { 1000 }).unwrap()
    }

    #[test]
    fn the_store_is_where_the_first_says() {
        let home = |line, variables, is_root| {
            let settings = resolve(line, variables, is_root);
            settings
                .home()
                .map(|home| (home.value.to_str().unwrap().to_owned(), home.source.to_string()))
                .ok()
        };
        let all = [("UNLADE_HOME", "/e"), ("XDG_DATA_HOME", "/x"), ("HOME", "/h")];
        let some = |path: &str, source: &str| Some((path.to_owned(), source.to_owned()));
        assert_eq!(home("images --home /f", &all, false), some("/f", "--home"));
        assert_eq!(home("images", &all, true), some("/e", "the variable UNLADE_HOME"));
        assert_eq!(home("images", &all[1..], true), some("/var/lib/unlade", "the default"));
        assert_eq!(home("images", &all[1..], false), some("/x/unlade", "the default"));
        assert_eq!(
            home("images", &all[2..], false),
            some("/h/.local/share/unlade", "the default")
        );
        assert_eq!(
            home("images", &[("XDG_DATA_HOME", "relative"), ("UNLADE_HOME", "")], false),
            None
        );
    }

    #[test]
    fn logins_are_looked_for_where_they_are_written() {
        let files = |line, variables, is_root| {
            let settings = resolve(line, variables, is_root);
            let files = settings.login.locations.files().into_iter();
            files
                .filter_map(|path| path.to_str().map(str::to_owned))
                .collect::<Vec<_>>()
        };
        let variables = [("HOME", "/h"), ("REGISTRY_AUTH_FILE", "/a.json")];
        assert_eq!(
            files("tags x --authfile /f.json", &variables, true),
            [
                "/f.json",
                "/a.json",
                "/run/containers/0/auth.json",
                "/h/.config/containers/auth.json",
                "/h/.docker/config.json"
            ]
        );
        assert_eq!(
            files("login --authfile /f.json", &[("XDG_RUNTIME_DIR", "/r")], false),
            ["/f.json", "/r/containers/auth.json"]
        );
    }

    #[test]
    fn no_secret_is_shown() {
        let settings = resolve(
            "tags x",
            &[
                ("UNLADE_USERNAME", "u"),
                ("UNLADE_PASSWORD", "hunter2"),
                ("DOCKER_AUTH_CONFIG", "{\"hunter2\": 1}"),
            ],
            false,
        );
        assert!(!format!("{settings:?}").contains("hunter2"), "{settings:?}");
        let environment = Environment::of([("UNLADE_PASSWORD", "hunter2".into())]);
        assert_eq!(format!("{environment:?}"), r#"{"UNLADE_PASSWORD"}"#);
    }

    #[test]
    fn proxies_come_from_variables_and_can_be_left_out() {
        let proxy = |line, variables: &[(&'static str, &str)]| {
            let url = "https://registry.example".parse().unwrap();
            let settings = resolve(line, variables, false).network.proxies;
            settings.for_url(&url).map(ToString::to_string)
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(proxy("tags x", &[("HTTPS_PROXY", "p:1")]), some("http://p:1"));
        assert_eq!(
            proxy("tags x", &[("all_proxy", "socks5h://p:1")]),
            some("socks5h://p:1")
        );
        assert_eq!(proxy("tags x --no-proxy", &[("HTTPS_PROXY", "p:1")]), None);
        assert_eq!(
            proxy("tags x", &[("HTTPS_PROXY", "p:1"), ("no_proxy", ".example")]),
            None
        );
    }

    #[test]
    fn what_concerns_the_network_reaches_the_libraries() {
        let line = "pull x --retries 2 --max-wait 5s --connect-timeout 1s --stall-timeout 2s --min-speed 1k \
                    --max-connections 3 --max-connections-per-host 2 --ranges 8 --limit-rate 10M";
        let settings = resolve(line, &[], false);
        let network = &settings.network;
        assert_eq!((network.retry.attempts, network.retry.max_wait.as_secs()), (3, 5));
        let timeouts = network.timeouts;
        assert_eq!((timeouts.connect.as_secs(), timeouts.idle.as_secs()), (1, 2));
        assert_eq!(timeouts.min_progress, 2048);
        assert_eq!(network.rate.map(std::num::NonZero::get), Some(10 << 20));
        assert_eq!(network.per_host.map(std::num::NonZero::get), Some(2));
        let budget = settings.budget.limits();
        assert_eq!((budget.connections.get(), budget.ranges.get()), (3, 8));
        let settings = resolve("pull x", &[], false);
        assert_eq!(settings.network.retry, unlade_registry::RetryPolicy::default());
        assert_eq!(settings.network.timeouts, unlade_registry::Timeouts::default());
        assert_eq!(settings.budget.limits(), unlade_pull::Limits::default());
    }

    #[test]
    fn the_default_registry_and_the_alias() {
        let canonical = |settings: &Settings, text: &str| {
            unlade_reference::Reference::parse(text, &settings.defaults.value)
                .unwrap()
                .to_string()
        };
        let plain = resolve("images", &[], false);
        assert_eq!(canonical(&plain, "alpine"), "docker.io/library/alpine:latest");
        assert_eq!(canonical(&plain, "sandboxes.io/a/b"), "docker.io/a/b:latest");
        let other = resolve("images", &[("OCI_REGISTRY_DOMAIN", "registry.example")], false);
        assert_eq!(canonical(&other, "a/b"), "registry.example/a/b:latest");
    }

    #[test]
    fn flags_reach_the_limits_by_name() {
        let settings = resolve(
            "pull x --max-raw-bytes 1k --max-entries 2 --max-path-bytes 3 --max-extension-bytes 4 --max-deferred-bytes 5 --max-zstd-window-log 20 \
             --max-total-raw-bytes 6 --max-ratio 7 --max-file-bytes 8 --max-depth 9 --max-xattr-bytes 10",
            &[],
            false,
        );
        let expected = unlade_extract::Limits {
            raw_bytes: Some(1024),
            total_raw_bytes: Some(6),
            ratio: Some(7),
            file_bytes: Some(8),
            entries: 2,
            path_bytes: 3,
            depth: 9,
            xattr_bytes: 10,
            extension_bytes: 4,
            deferred_bytes: 5,
            zstd_window_log: 20,
        };
        assert_eq!(settings.limits, expected);
        assert_eq!(resolve("pull x", &[], false).limits, unlade_extract::Limits::default());
    }
}
