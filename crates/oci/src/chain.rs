//! The chain ID: the name of a stack of layers.

use crate::Digest;

/// Returns the chain ID of a stack of layers given by their diff IDs, lowest first; [`None`] for an empty stack.
///
/// The chain ID of one layer is its diff ID; that of a taller stack is the SHA-256 of the chain ID below, a space and
/// the diff ID on top (image-spec, `config.md`, *Layer `ChainID`*). Unlike a diff ID it tells apart the same layer on
/// different grounds.
pub fn layer_stack_chain_id(diff_ids: &[Digest]) -> Option<Digest> {
    let (lowest, others) = diff_ids.split_first()?;
    Some(others.iter().fold(lowest.clone(), |below, diff_id| {
        Digest::sha256(format!("{below} {diff_id}"))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacks() {
        let [a, b, c] = ["a", "b", "c"].map(Digest::sha256);
        let ab = Digest::sha256(format!("{a} {b}"));
        let abc = Digest::sha256(format!("{ab} {c}"));
        assert_eq!(layer_stack_chain_id(&[]), None);
        assert_eq!(layer_stack_chain_id(std::slice::from_ref(&a)), Some(a.clone()));
        assert_eq!(layer_stack_chain_id(&[a.clone(), b.clone()]), Some(ab));
        assert_eq!(layer_stack_chain_id(&[a, b, c]), Some(abc));
    }

    /// The values were computed with `sha256sum`.
    #[test]
    fn known_value() {
        let zeros: Digest = format!("sha256:{}", "0".repeat(64)).parse().expect("well formed");
        let ones: Digest = format!("sha256:{}", "1".repeat(64)).parse().expect("well formed");
        let chain = layer_stack_chain_id(&[zeros, ones]).expect("two layers");
        assert_eq!(
            chain.to_string(),
            "sha256:f94b891e05f6e37c90d87edfd5bb98a02d618a437c35f3a94b3b00e48e894631"
        );
    }
}
