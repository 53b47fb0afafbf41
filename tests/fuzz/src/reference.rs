//! What a person typed.

use unlade_reference::{Defaults, Reference};

/// Parses `data` as a reference. What was parsed reads the same when it is parsed again, and an error points into the text.
///
/// # Panics
/// If that is not so.
pub fn reference(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Reference::parse(text, &Defaults::standard()) {
        Ok(reference) => {
            for written in [reference.to_string(), reference.familiar()] {
                let again = written
                    .parse::<Reference>()
                    .unwrap_or_else(|error| panic!("{text:?} is {written:?}, which does not parse: {error}"));
                assert_eq!(again, reference, "{text:?} is {written:?}");
            }
            assert!(reference.tag().is_some() || reference.digest().is_some());
        }
        Err(error) => {
            assert!(text.is_char_boundary(error.position()), "{error:?}");
            assert!(!error.to_string().is_empty() && !error.pointer().is_empty());
        }
    }
}
