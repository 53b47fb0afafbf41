//! `unlade verify`: is everything there, and as it should be?

use std::io::{self, Write};
use std::sync::Arc;

use serde::Serialize;
use unlade_extract::RawPath;
use unlade_images::{Damage, DamageKind, Depth, DirectoryProblem, Lost, Mending, Store, Verification};
use unlade_oci::Digest;
use unlade_pull::{Budget, Puller};

use crate::arguments;
use crate::error::Error;
use crate::interrupt;
use crate::progress::Mode;
use crate::quantity::bytes;
use crate::session::{Report, Session, json_path};

/// Runs the command. Damage that stays is an error, after the report.
pub(crate) fn run(session: &Session, arguments: &arguments::Verify) -> Result<(), Error> {
    let store = session.store()?;
    Session::enter_user_namespace(&store)?;
    let depth = if arguments.deep { Depth::Deep } else { Depth::Quick };
    let verification = store.verify(depth)?;
    let mut repairs = None;
    let mut failure = None;
    if arguments.repair && !verification.damage.is_empty() {
        let repaired = repair(session, &store, &verification)?;
        let ended = repaired.into_iter().map(|result| match result {
            Ok(repaired) => repaired,
            Err(error) => {
                failure.get_or_insert(error);
                false
            }
        });
        repairs = Some(ended.collect::<Vec<_>>());
    }
    let report = Verified::new(&verification, repairs);
    let left = report.damage.iter().filter(|item| item.repaired != Some(true)).count();
    session.print(&report)?;
    match failure {
        Some(error) => Err(error),
        None if left > 0 => Err(Error::Damaged { count: left }),
        None => {
            Session::settle(&store, &[]);
            Ok(())
        }
    }
}

/// Repairs what can be repaired; says of each damage whether it was.
fn repair(session: &Session, store: &Store, verification: &Verification) -> Result<Vec<Result<bool, Error>>, Error> {
    let mendings = store.set_aside(verification)?;
    let lost = mendings.iter().filter_map(|mending| match mending {
        Mending::BringIn(lost) => Some(Lost::clone(lost)),
        _ => None,
    });
    let lost: Vec<Lost> = lost.collect();
    let mut ended = bring_back(session, store, &lost)?.into_iter();
    let result = |mending: &Mending| match mending {
        Mending::Done => Ok(true),
        Mending::BringIn(_) => match ended.next() {
            Some(Ok(())) => Ok(true),
            Some(Err(error)) => Err(error.into()),
            None => Ok(false),
        },
        _ => Ok(false),
    };
    Ok(mendings.iter().map(result).collect())
}

fn bring_back(session: &Session, store: &Store, lost: &[Lost]) -> Result<Vec<Result<(), unlade_pull::Error>>, Error> {
    if lost.is_empty() {
        return Ok(Vec::new());
    }
    let progress = session.progress(if session.stderr.is_terminal() && !session.has_log {
        Mode::Terminal
    } else {
        Mode::Plain
    });
    let registries = lost.iter().map(|lost| lost.repository().registry());
    let puller = Puller::new(store.clone(), session.client(registries, &progress.watcher())?)
        .with_budget(Budget::new(session.settings.budget.limits()))
        .with_observer(Arc::new(progress.watcher()));
    let limits = &session.settings.limits;
    let result = interrupt::run(session.settings.network.limit, async {
        Ok(puller.bring_back(lost, limits).await)
    });
    progress.finish(result.is_ok());
    result
}

#[derive(Serialize)]
struct Verified {
    depth: &'static str,
    blobs: u64,
    blob_bytes: u64,
    directories: u64,
    entries: u64,
    not_compared: u64,
    unreadable: u64,
    doubtful: u64,
    damage: Vec<Item>,
}

#[derive(Serialize)]
struct Item {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<RawPath>,
    /// Where a layer directory differs from its layer, the first of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    differences: Vec<String>,
    message: String,
    images: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    repaired: Option<bool>,
}

impl Verified {
    fn new(verification: &Verification, repairs: Option<Vec<bool>>) -> Self {
        let mut damage: Vec<Item> = verification.damage.iter().map(Item::new).collect();
        for (item, repaired) in damage.iter_mut().zip(repairs.unwrap_or_default()) {
            item.repaired = Some(repaired);
        }
        Self {
            depth: match verification.depth {
                Depth::Quick => "quick",
                Depth::Deep => "deep",
            },
            blobs: verification.blobs,
            blob_bytes: verification.blob_bytes,
            directories: verification.directories,
            entries: verification.entries,
            not_compared: verification.not_compared,
            unreadable: verification.unreadable,
            doubtful: verification.doubtful,
            damage,
        }
    }
}

impl Item {
    fn new(damage: &Damage) -> Self {
        let (mut digest, mut path, mut differences) = (None, None, Vec::new());
        let kind = match &damage.kind {
            DamageKind::Index => "index",
            DamageKind::Document { digest: found, .. } => {
                digest = Some(found.clone());
                "document"
            }
            DamageKind::Blob { digest: found, .. } => {
                digest = Some(found.clone());
                "blob"
            }
            DamageKind::Directory {
                path: found,
                diff_id,
                problem,
                ..
            } => {
                digest = Some(diff_id.clone());
                path = Some(json_path(found));
                if let DirectoryProblem::Differs { differences: found, .. } = problem {
                    differences = found.iter().map(ToString::to_string).collect();
                }
                "directory"
            }
            DamageKind::Layer { diff_id } => {
                digest = Some(diff_id.clone());
                "layer"
            }
            _ => "database",
        };
        Self {
            kind,
            digest,
            path,
            differences,
            message: damage.kind.to_string(),
            images: damage.images.iter().map(ToString::to_string).collect(),
            repaired: None,
        }
    }
}

impl Report for Verified {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        for item in &self.damage {
            let state = match item.repaired {
                Some(true) => "repaired",
                Some(false) => "not repaired",
                None => "damaged",
            };
            write!(out, "{state}: {}", item.message)?;
            if item.images.is_empty() {
                writeln!(out)?;
            } else {
                writeln!(out, " (in {})", item.images.join(", "))?;
            }
        }
        write!(
            out,
            "looked at {} blobs ({}) and {} layer directories",
            self.blobs,
            bytes(self.blob_bytes),
            self.directories
        )?;
        if self.depth == "deep" {
            write!(out, " ({} entries)", self.entries)?;
        }
        writeln!(out, ": {}", verdict(self.damage.len()))?;
        for (count, what) in [
            (self.not_compared, "layer directories could not be held against a blob"),
            (self.unreadable, "files or directories may not be read by this user"),
            (
                self.doubtful,
                "may have been lost in a power loss and are read again before they are used",
            ),
        ] {
            if count > 0 {
                writeln!(out, "{count} {what}")?;
            }
        }
        Ok(())
    }
}

fn verdict(damage: usize) -> String {
    match damage {
        0 => "nothing is damaged".to_owned(),
        1 => "1 thing is damaged".to_owned(),
        count => format!("{count} things are damaged"),
    }
}
