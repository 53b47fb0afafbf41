//! What a registry answers.

use bytes::Bytes;
use unlade_oci::{Descriptor, Digest, MediaType, Parsed, parse_config, parse_manifest};

/// Media types that a registry may name, or not.
const TYPES: [Option<&str>; 7] = [
    None,
    Some("application/vnd.oci.image.manifest.v1+json"),
    Some("application/vnd.oci.image.index.v1+json"),
    Some("application/vnd.docker.distribution.manifest.v2+json"),
    Some("application/vnd.docker.distribution.manifest.list.v2+json"),
    Some("application/json"),
    Some("text/html"),
];

/// Parses `data`, behind a byte that chooses a media type, as a manifest or index and as a configuration.
///
/// # Panics
/// If a parsed document does not keep its bytes, or has another digest than they have.
pub fn document(data: &[u8]) {
    let Some((choice, bytes)) = data.split_first() else {
        return;
    };
    let bytes = Bytes::copy_from_slice(bytes);
    let digest = Digest::sha256(&bytes);
    let media_type = TYPES[usize::from(*choice) % TYPES.len()].map(MediaType::new);
    match parse_manifest(bytes.clone(), media_type.as_ref(), None) {
        Ok(parsed) => {
            assert_eq!((parsed.bytes(), parsed.digest()), (&bytes, &digest));
            assert_eq!(parsed.descriptor().size, bytes.len() as u64);
            parse_manifest(bytes.clone(), Some(parsed.media_type()), Some(&digest)).expect("it parses as what it is");
            if let Parsed::Manifest(manifest) = &parsed {
                let config = Descriptor::new(manifest.config.media_type.clone(), digest.clone(), bytes.len() as u64);
                if let Ok(config) = parse_config(bytes.clone(), &config) {
                    let _checked = manifest.check_against_config(&config);
                }
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
