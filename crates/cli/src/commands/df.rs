//! `unlade df`: how much room the store takes, and each image of it.

use std::io::{self, Write};
use std::time::SystemTime;

use serde::Serialize;
use unlade_images::Usage;

use crate::error::Error;
use crate::quantity::{ago, bytes, rfc3339};
use crate::session::{Report, Session};
use crate::table;

/// Runs the command.
pub(crate) fn run(session: &Session) -> Result<(), Error> {
    let store = session.store()?;
    Session::enter_user_namespace(&store)?;
    session.print(&Room::new(&store.usage()?))?;
    Session::settle(&store, &[]);
    Ok(())
}

/// All numbers are bytes of disk.
#[derive(Serialize)]
struct Room {
    images: Vec<Image>,
    blobs: u64,
    directories: u64,
    partial_downloads: u64,
    other: u64,
    total: u64,
}

#[derive(Serialize)]
struct Image {
    reference: String,
    platform: String,
    last_used_at: Option<String>,
    own: u64,
    shared: u64,
    #[serde(skip)]
    row: [String; 6],
}

impl Room {
    fn new(usage: &Usage) -> Self {
        let now = SystemTime::now();
        let image = |image: &unlade_images::ImageUsage| Image {
            reference: image.reference.to_string(),
            platform: image.platform.to_string(),
            last_used_at: rfc3339(image.last_used_at),
            own: image.own,
            shared: image.shared,
            row: [
                image.reference.repository().to_string(),
                image
                    .reference
                    .tag()
                    .map_or_else(|| "-".to_owned(), ToString::to_string),
                image.platform.to_string(),
                bytes(image.own),
                bytes(image.shared),
                ago(image.last_used_at, now),
            ],
        };
        Self {
            images: usage.images.iter().map(image).collect(),
            blobs: usage.blobs,
            directories: usage.directories,
            partial_downloads: usage.partial,
            other: usage.other,
            total: usage.total,
        }
    }
}

impl Report for Room {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let rows = self.images.iter().map(|image| image.row.clone());
        table::write(
            out,
            ["REPOSITORY", "TAG", "PLATFORM", "OWN", "SHARED", "LAST USED"],
            rows,
        )?;
        let parts = [
            ("blobs", self.blobs),
            ("layer directories", self.directories),
            ("partial downloads", self.partial_downloads),
            ("other", self.other),
            ("total", self.total),
        ];
        writeln!(out)?;
        for (what, count) in parts {
            writeln!(out, "{what:17}  {}", bytes(count))?;
        }
        Ok(())
    }
}
