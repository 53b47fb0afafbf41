//! As much HTTP as it takes to receive blobs from a registry on loopback, and no more: the floor and the naive program
//! must not owe their figures to a client that does less or more than they need.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::TcpStream;

use anyhow::{Context as _, Result, bail, ensure};
use unlade_oci::Digest;

/// Types of documents that are asked for.
const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";

/// An image on a registry, taken apart from `host:port/repository:tag`.
#[derive(Clone, Debug)]
pub(super) struct Source {
    authority: String,
    repository: String,
    tag: String,
}

/// A layer as the manifest names it.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    pub(super) digest: Digest,
    pub(super) size: u64,
}

impl Source {
    pub(super) fn parse(reference: &str) -> Result<Self> {
        let (authority, rest) = reference
            .split_once('/')
            .context("a reference begins with the registry")?;
        let (repository, tag) = rest.rsplit_once(':').context("a reference ends with the tag")?;
        Ok(Self {
            authority: authority.to_owned(),
            repository: repository.to_owned(),
            tag: tag.to_owned(),
        })
    }

    /// Asks for the manifest and returns its layers, the lowest first.
    pub(super) fn layers(&self) -> Result<Vec<Layer>> {
        let (mut body, length) = self.get(&format!("manifests/{}", self.tag))?;
        let mut text = Vec::new();
        body.by_ref().take(length).read_to_end(&mut text)?;
        let document: serde_json::Value = serde_json::from_slice(&text).context("the manifest is not JSON")?;
        let layers = document["layers"]
            .as_array()
            .context("the document is not a manifest")?;
        let layer = |layer: &serde_json::Value| {
            Ok(Layer {
                digest: layer["digest"].as_str().unwrap_or_default().parse()?,
                size: layer["size"].as_u64().context("a layer has no size")?,
            })
        };
        layers.iter().map(layer).collect()
    }

    /// Asks for a blob and returns its bytes as they come.
    pub(super) fn blob(&self, layer: &Layer) -> Result<impl Read + use<>> {
        let (body, length) = self.get(&format!("blobs/{}", layer.digest))?;
        ensure!(
            length == layer.size,
            "{} has {length} bytes instead of {}",
            layer.digest,
            layer.size
        );
        Ok(body.take(length))
    }

    /// Returns the body and its declared length.
    fn get(&self, what: &str) -> Result<(BufReader<TcpStream>, u64)> {
        let mut stream =
            TcpStream::connect(&self.authority).with_context(|| format!("cannot reach {}", self.authority))?;
        // Version 1.0: the body is neither in chunks nor followed by anything.
        let (repository, authority) = (&self.repository, &self.authority);
        let request = format!("GET /v2/{repository}/{what} HTTP/1.0\r\nHost: {authority}\r\nAccept: {ACCEPT}\r\n\r\n");
        stream.write_all(request.as_bytes()).context("cannot send a request")?;
        let mut stream = BufReader::with_capacity(256 * 1024, stream);
        let mut line = String::new();
        stream.read_line(&mut line)?;
        if line.split(' ').nth(1) != Some("200") {
            bail!("GET {what}: {}", line.trim_end());
        }
        let mut length = None;
        loop {
            line.clear();
            ensure!(stream.read_line(&mut line)? > 0, "GET {what}: the headers do not end");
            let Some((name, value)) = line.trim_end().split_once(':') else {
                break;
            };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().ok();
            }
        }
        let length = length.with_context(|| format!("GET {what}: the answer does not say how long it is"))?;
        Ok((stream, length))
    }
}
