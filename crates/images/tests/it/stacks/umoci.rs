//! The same stacks in `umoci raw unpack`, which others wrote from the same specification.
//!
//! umoci reads a layer from its beginning to its end and knows nothing of what is to come, so it does not always give what
//! the words of the specification (`layer.md`) do. What is known of this is a table of rewritings. Each says in another way
//! what the layers say, so that the model's tree, and ours, stays what it is, and takes away one cause of a difference. A
//! difference counts as known only if umoci agrees once its cause is gone. Anything else fails, and shrinks.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use unlade_test_support::{Odd, TreeSnapshot, write_layout};

use super::generate::{Bias, Meta, Op, pack, stacks};
use super::model::Model;
use super::shown::{Links, Shown};
use super::{agree, told};
use crate::support::{Fixture, image};

/// How many stacks each of the four tests tries.
const STACKS: u32 = 25;

/// A difference that is known: `docs/extraction.md` says who is right, by which sentence.
struct Known {
    name: &'static str,
    cause: Cause,
}

enum Cause {
    /// Removals that do not stand before all else.
    Order,
    /// Operations that are odd in these ways.
    Odd(&'static [Odd]),
}

/// In the order in which they are taken away if one alone does not do.
const KNOWN: [Known; 8] = [
    // "… is applied first, before creating the new version …, regardless of the ordering in which the whiteout file was
    // encountered": umoci applies removals where they stand.
    Known {
        name: "removals stand where they are applied",
        cause: Cause::Order,
    },
    // What a marker hides are "all siblings": what is in the directory that the layer has there, not where a link of a lower
    // layer leads that gives way to it.
    Known {
        name: "removals below a directory in the place of a link",
        cause: Cause::Odd(&[Odd::Spares]),
    },
    // No word on these.
    Known {
        name: "a removal through links in a circle",
        cause: Cause::Odd(&[Odd::Loops]),
    },
    Known {
        name: "a parent that is no directory",
        cause: Cause::Odd(&[Odd::ParentReplaced]),
    },
    Known {
        name: "a link through what is not there",
        cause: Cause::Odd(&[Odd::Dangles, Odd::ParentMadeThroughLink]),
    },
    Known {
        name: "an implied directory takes the set-group-ID bit and the group of that above",
        cause: Cause::Odd(&[Odd::ParentMadeInSetGid]),
    },
    Known {
        name: "a hard link to itself",
        cause: Cause::Odd(&[Odd::LinksToItself]),
    },
    Known {
        name: "a hard link in the place of a link to its target",
        cause: Cause::Odd(&[Odd::LinksThroughItself]),
    },
];

impl Cause {
    /// Says in another way what a stack says, without this cause.
    fn taken_from(&self, stack: &[Vec<Op>]) -> Vec<Vec<Op>> {
        let mut model = Model::new();
        let mut without = Vec::new();
        for layer in stack {
            let layer = model.apply(layer);
            without.push(match self {
                Self::Order => removals_first(layer),
                Self::Odd(ways) => {
                    let mut odd = model.odd();
                    odd.retain(|(_, way, _)| ways.contains(way));
                    plain(layer, &odd)
                }
            });
        }
        model_of(&without).1
    }
}

fn removals_first(layer: Vec<Op>) -> Vec<Op> {
    let path = |op: &Op| match op {
        Op::Whiteout(path, _) => Some((path.clone(), false)),
        Op::Opaque(path, _) => Some((path.clone(), true)),
        _ => None,
    };
    let (mut removals, entries): (Vec<_>, Vec<_>) = layer.into_iter().partition(|op| path(op).is_some());
    removals.sort_by_key(path);
    removals.into_iter().chain(entries).collect()
}

/// Leaves out what does nothing, puts entries for implied directories before what implies them, and names the targets of
/// hard links by where they are.
fn plain(layer: Vec<Op>, odd: &[(usize, Odd, String)]) -> Vec<Op> {
    let time = layer.first().map_or((0, 0), Op::time);
    let mut plain = Vec::new();
    for (at, op) in layer.into_iter().enumerate() {
        let mut op = Some(op);
        for (_, way, path) in odd.iter().filter(|(of, ..)| *of == at) {
            match way {
                Odd::Spares | Odd::Loops | Odd::Dangles | Odd::LinksToItself => op = None,
                Odd::ParentReplaced | Odd::ParentMadeThroughLink | Odd::ParentMadeInSetGid => {
                    plain.push(Op::Dir(path.clone(), Meta::implied(time)));
                }
                Odd::LinksThroughItself => {
                    if let Some(Op::Hard(_, target)) = &mut op {
                        target.clone_from(path);
                    }
                }
            }
        }
        plain.extend(op);
    }
    plain
}

fn model_of(stack: &[Vec<Op>]) -> (Model, Vec<Vec<Op>>) {
    let mut model = Model::new();
    let applied = stack.iter().map(|layer| model.apply(layer)).collect();
    (model, applied)
}

/// Compares umoci's tree of a stack with the model's. An error is a difference, or what umoci says.
fn compare(stack: &[Vec<Op>]) -> Result<(), String> {
    let (model, applied) = model_of(stack);
    let layers: Vec<_> = applied.iter().map(|layer| pack(layer)).collect();
    let fixture = Fixture::in_memory();
    let layout = fixture.directory().join("layout");
    write_layout(&layout, &[("stack", &image(&layers))]).unwrap();
    let tree = fixture.directory().join("tree");
    let mut umoci = Command::new("umoci");
    umoci.args(["raw", "unpack", "--image"]);
    umoci.arg(format!("{}:stack", layout.display())).arg(&tree);
    let output = umoci.stdin(Stdio::null()).output().expect("umoci is installed");
    if !output.status.success() {
        return Err(format!("umoci fails: {}", String::from_utf8_lossy(&output.stderr)));
    }
    let theirs = Shown::of_snapshot(&TreeSnapshot::of(&tree));
    // What no entry describes, and where such a thing is made, has the time of day with umoci.
    let lines = Shown::of_model(&model).differences(&theirs, Links::All, Some(&model.timeless()));
    fs::remove_dir_all(&layout).unwrap();
    if lines.is_empty() {
        Ok(())
    } else {
        Err(format!("umoci:\n{}", lines.join("\n")))
    }
}

/// Returns which of the known differences umoci has for a stack; an error tells one that is not known.
fn explained(ours: &Fixture, stack: &[Vec<Op>]) -> Result<Vec<&'static str>, String> {
    let (model, stack) = model_of(stack);
    agree(ours, &stack, false)?;
    let Err(difference) = compare(&stack) else {
        return Ok(Vec::new());
    };
    // As few as possible: a cause that need not go is none.
    let mut sets: Vec<u32> = (1..1 << KNOWN.len()).collect();
    sets.sort_by_key(|set| set.count_ones());
    for set in sets {
        let chosen: Vec<_> = (0..KNOWN.len())
            .filter(|at| set >> at & 1 == 1)
            .map(|at| &KNOWN[at])
            .collect();
        let Some(rewritten) = rewrite(&stack, &chosen) else {
            continue;
        };
        let same = Shown::of_model(&model_of(&rewritten).0);
        let lines = Shown::of_model(&model).differences(&same, Links::All, Some(&model.timeless()));
        if lines.is_empty() && compare(&rewritten).is_ok() {
            agree(ours, &rewritten, false)?;
            return Ok(chosen.iter().map(|known| known.name).collect());
        }
    }
    Err(difference)
}

/// Applies rewritings one after the other; nothing if one of them finds nothing to do.
fn rewrite(stack: &[Vec<Op>], chosen: &[&Known]) -> Option<Vec<Vec<Op>>> {
    let mut rewritten = stack.to_vec();
    for known in chosen {
        let next = known.cause.taken_from(&rewritten);
        if format!("{next:?}") == format!("{rewritten:?}") {
            return None;
        }
        rewritten = next;
    }
    Some(rewritten)
}

fn try_stacks(bias: Bias) {
    let ours = Fixture::in_memory();
    let config = Config {
        cases: told().unwrap_or(STACKS),
        max_shrink_iters: 500,
        failure_persistence: None,
        ..Config::default()
    };
    // Unless a longer run is asked for, the same stacks every time: what others do shall not fail in the hands of somebody
    // who changed nothing.
    let mut runner = match told() {
        Some(_) => TestRunner::new(config),
        None => TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha)),
    };
    let counts = RefCell::new(BTreeMap::<Vec<&str>, u32>::new());
    let outcome = runner.run(&stacks(bias, true), |stack| {
        let found = explained(&ours, &stack).map_err(TestCaseError::fail)?;
        *counts.borrow_mut().entry(found).or_default() += 1;
        Ok(())
    });
    let counts = counts.into_inner();
    #[expect(clippy::print_stderr, reason = "for whoever runs it longer by hand")]
    {
        eprintln!("how often umoci differed, and in what: {counts:#?}");
    }
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(reason, stack)) => panic!("{reason}\n\nthe stack: {:#?}", model_of(&stack).1),
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
    let same = counts.get(&Vec::new()).copied().unwrap_or_default();
    assert!(same > 0, "umoci differed in every stack");
}

#[test]
fn privileged_real_known_differences_of_umoci_are_such() {
    let ours = Fixture::in_memory();
    let meta = || Meta::implied((1, 0));
    let dir = |path: &str| Op::Dir(path.to_owned(), meta());
    let file = |path: &str| Op::File(path.to_owned(), meta(), Vec::new());
    let link = |path: &str, target: &str| Op::Link(path.to_owned(), meta(), target.to_owned());
    let hard = |path: &str, target: &str| Op::Hard(path.to_owned(), target.to_owned());
    let whiteout = |path: &str| Op::Whiteout(path.to_owned(), 1);
    let opaque = |path: &str| Op::Opaque(path.to_owned(), 1);
    let set_gid = Op::Dir("a".to_owned(), Meta { mode: 0o2755, ..meta() });
    let stacks = [
        vec![vec![file("a/b"), file("c/b")], vec![link("c", "a"), whiteout("c/b")]],
        vec![vec![file("a/b"), link("c", "a")], vec![opaque("c"), dir("c")]],
        vec![vec![link("a", "a")], vec![whiteout("a/b")]],
        vec![vec![file("a")], vec![file("a/b")]],
        vec![vec![link("a", "c/..")], vec![file("b"), file("a/d")]],
        vec![vec![set_gid, file("a/b/c")]],
        vec![vec![file("a"), hard("a", "a")]],
        vec![vec![file("b")], vec![link("a", "."), hard("a", "a/b")]],
    ];
    for (known, stack) in KNOWN.iter().zip(stacks) {
        assert_eq!(explained(&ours, &stack), Ok(vec![known.name]));
    }
}

#[test]
fn privileged_real_stacks_of_anything_in_umoci() {
    try_stacks(Bias::Anything);
}

#[test]
fn privileged_real_stacks_of_links_in_umoci() {
    try_stacks(Bias::Links);
}

#[test]
fn privileged_real_stacks_of_removals_in_umoci() {
    try_stacks(Bias::Removals);
}

#[test]
fn privileged_real_stacks_of_hard_links_in_umoci() {
    try_stacks(Bias::HardLinks);
}
