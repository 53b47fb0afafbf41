//! The inputs that were found to matter, fed again.

use std::fs;
use std::path::Path;

use unlade_fuzz::TARGETS;

#[test]
fn every_input_of_the_corpus_keeps_the_promises() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, target) in TARGETS {
        let inputs: Vec<_> = fs::read_dir(corpus.join(name))
            .unwrap_or_else(|error| panic!("no inputs for {name}: {error}"))
            .map(|entry| entry.expect("an entry").path())
            .collect();
        assert!(inputs.len() >= 10, "{name} has {} inputs", inputs.len());
        for input in inputs {
            let bytes = fs::read(&input).expect("an input");
            // A panic names the input in the captured output.
            println!("{}", input.display());
            target(&bytes);
        }
    }
}

#[test]
fn nothing_and_anything_is_taken() {
    let anything: Vec<u8> = (0..2048_u32)
        .map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    for (_, target) in TARGETS {
        target(&[]);
        target(&anything);
        for choice in 0..=15 {
            target(&[&[choice], &[0; 1024][..]].concat());
        }
    }
}
