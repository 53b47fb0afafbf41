//! The chain ID: the name of a stack of layers.

use crate::Digest;

/// Returns the chain ID of a stack with the layer `diff_id` on top of the stack `below`.
///
/// The chain ID of one layer is its diff ID; that of a taller stack is the SHA-256 of the chain ID below, a space and
/// the diff ID on top (image-spec, `config.md`, *Layer `ChainID`*). Unlike a diff ID it tells apart the same layer on
/// different grounds.
pub fn chain_id_on(below: Option<&Digest>, diff_id: &Digest) -> Digest {
    below.map_or_else(|| diff_id.clone(), |below| Digest::sha256(format!("{below} {diff_id}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacks() {
        let [a, b, c] = ["a", "b", "c"].map(Digest::sha256);
        let on_a = chain_id_on(None, &a);
        assert_eq!(on_a, a);
        let on_b = chain_id_on(Some(&on_a), &b);
        assert_eq!(on_b, Digest::sha256(format!("{a} {b}")));
        assert_eq!(chain_id_on(Some(&on_b), &c), Digest::sha256(format!("{on_b} {c}")));
    }

    /// The values were computed with `sha256sum`.
    #[test]
    fn known_value() {
        let zeros: Digest = format!("sha256:{}", "0".repeat(64)).parse().expect("well formed");
        let ones: Digest = format!("sha256:{}", "1".repeat(64)).parse().expect("well formed");
        assert_eq!(
            chain_id_on(Some(&zeros), &ones).to_string(),
            "sha256:f94b891e05f6e37c90d87edfd5bb98a02d618a437c35f3a94b3b00e48e894631"
        );
    }
}
