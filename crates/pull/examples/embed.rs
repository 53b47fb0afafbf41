//! Pulls an image with progress: `embed STORE REFERENCE` prints its layer directories, the lowest first.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use unlade_images::{Store, StoreOptions};
use unlade_pull::{Activity, Event, Observer, Options, Outcome, Puller};
use unlade_reference::Reference;
use unlade_registry::Client;

/// Says when something begins and ends. A display would keep the tasks and sample `task.bytes()`.
struct Lines;

impl Observer for Lines {
    #[expect(clippy::print_stderr, reason = "this program's user reads it there")]
    fn event(&self, event: &Event<'_>) {
        match event {
            Event::Planned { plan } => {
                let missing = plan.layers - plan.layers_present;
                eprintln!("{missing} layers to bring in, {} bytes to fetch", plan.bytes_to_fetch);
            }
            Event::Finished { task, outcome } => {
                let outcome = if *outcome == Outcome::Done { "done" } else { "stopped" };
                match task.activity() {
                    Activity::Download { digest, .. } => eprintln!("{} received, {outcome}", digest.short()),
                    Activity::Extract { digest, .. } => {
                        eprintln!("{} extracted, {} entries, {outcome}", digest.short(), task.entries());
                    }
                    _ => {}
                }
            }
            Event::Warning { warning } => eprintln!("warning: {warning}"),
            _ => {}
        }
    }
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "the result")]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let root = arguments
        .next()
        .context("the first argument is the store's directory")?;
    let reference: Reference = arguments.next().context("the second argument is the image")?.parse()?;

    let store = Store::open(&StoreOptions::at(root))?;
    let client = Client::builder().build()?;
    let puller = Puller::new(store, client).with_observer(Arc::new(Lines));
    for pulled in puller.pull(&[reference], &Options::default()).await? {
        for layer in &pulled.image.layers {
            println!(
                "{}",
                layer.directory.as_ref().context("every layer is extracted")?.display()
            );
        }
    }
    Ok(())
}
