//! What part of the others' time, and of the floor, unlade takes; and what part it may take at most.
//!
//! The aims are those that the project has set itself, whether they are met or not.

use serde::Serialize;

use super::super::floor::Floor;
use super::super::images::Image;
use super::super::memory::BUDGET_MIB;
use super::super::table::table;
use super::Row;

/// Of the wall time of the fastest that makes files, whatever it leaves out; and of anybody's with a zstd image.
const OF_FASTEST: f64 = 0.5;
/// Of the processor time of any that makes files.
const OF_PROCESSOR_TIME: f64 = 1.0;
/// Over the floor.
const OVER_FLOOR: f64 = 1.25;
/// Over the floor with an image of one layer, which is one chain.
const OVER_FLOOR_OF_ONE_LAYER: f64 = 1.4;

/// One build of unlade against one other program, or against the floor.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Comparison {
    program: String,
    against: String,
    /// Whether that is the fastest of those that make files.
    is_fastest: bool,
    wall: Ratio,
    /// None against the floor.
    cpu: Option<Ratio>,
}

/// One figure of unlade over that of another.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Ratio {
    share: f64,
    at_most: Option<f64>,
    met: Option<bool>,
}

impl Ratio {
    fn of(figure: f64, other: f64, at_most: Option<f64>) -> Self {
        let share = figure / other;
        Self {
            share,
            at_most,
            met: at_most.map(|most| share <= most),
        }
    }

    fn cells(ratio: Option<Self>) -> [String; 2] {
        let Some(Self { share, at_most, met }) = ratio else {
            return Default::default();
        };
        let missed = if met == Some(false) { ", missed" } else { "" };
        let most = at_most.map_or_else(String::new, |most| format!("{most:.2}{missed}"));
        [format!("{share:.2}"), most]
    }
}

/// Compares each build of unlade among `rows` with everybody else, and with the floor.
pub(super) fn compare(image: Image, rows: &[Row], floor: &Floor) -> Vec<Comparison> {
    let fastest = rows
        .iter()
        .filter(|row| !row.is_unlade && row.makes_files)
        .min_by(|a, b| a.wall_s.median.total_cmp(&b.wall_s.median))
        .map(|row| row.program.as_str());
    let over_floor = if image.has_one_layer() {
        OVER_FLOOR_OF_ONE_LAYER
    } else {
        OVER_FLOOR
    };
    let mut comparisons = Vec::new();
    for unlade in rows.iter().filter(|row| row.is_unlade) {
        comparisons.extend(rows.iter().filter(|row| !row.is_unlade).map(|other| {
            let is_fastest = fastest == Some(&other.program);
            let of_it = other.aim.map(|aim| if image.is_zstd() { OF_FASTEST } else { aim });
            let aim = of_it.or(is_fastest.then_some(OF_FASTEST));
            let of_cpu = other.makes_files.then_some(OF_PROCESSOR_TIME);
            Comparison {
                program: unlade.program.clone(),
                against: other.program.clone(),
                is_fastest,
                wall: Ratio::of(unlade.wall_s.median, other.wall_s.median, aim),
                cpu: Some(Ratio::of(unlade.cpu_s.median, other.cpu_s.median, of_cpu)),
            }
        }));
        let over = |against: &str, floor: f64, at_most| Comparison {
            program: unlade.program.clone(),
            against: against.to_owned(),
            is_fastest: false,
            wall: Ratio::of(unlade.wall_s.median, floor, at_most),
            cpu: None,
        };
        comparisons.push(over("the floor", floor.wall_s(), Some(over_floor)));
        comparisons.push(over("the floor with all cores at work", floor.busy_wall_s(), None));
    }
    comparisons
}

/// Says what is more than it may be.
pub(super) fn over_budget<'a>(
    image: &'a str,
    rows: &'a [Row],
    comparisons: &'a [Comparison],
) -> impl Iterator<Item = String> + 'a {
    let missed = |ratio: Option<Ratio>| ratio.filter(|ratio| ratio.met == Some(false));
    let ratios = comparisons.iter().flat_map(move |comparison| {
        let Comparison { program, against, .. } = comparison;
        let line = move |what: &str, missed: Ratio| {
            let Ratio { share, at_most, .. } = missed;
            let most = at_most.unwrap_or_default();
            format!("{program}, pull of {image}: {share:.2} of the {what} of {against}, the aim is at most {most}")
        };
        let wall = missed(Some(comparison.wall)).map(|missed| line("wall time", missed));
        let cpu = missed(comparison.cpu).map(|missed| line("processor time", missed));
        wall.into_iter().chain(cpu)
    });
    let memory = rows
        .iter()
        .filter(|row| row.is_unlade && row.peak_mib.max > BUDGET_MIB)
        .map(move |row| {
            let (program, peak) = (&row.program, row.peak_mib.max);
            format!("{program}, pull of {image}: a peak of {peak:.0} MiB, the budget is {BUDGET_MIB}")
        });
    ratios.chain(memory)
}

pub(super) fn print(comparisons: &[Comparison]) {
    let cells: Vec<Vec<String>> = comparisons
        .iter()
        .map(|comparison| {
            let fastest = if comparison.is_fastest {
                ", the fastest that makes files"
            } else {
                ""
            };
            let name = format!("{} to {}{fastest}", comparison.program, comparison.against);
            let [wall, wall_aim] = Ratio::cells(Some(comparison.wall));
            let [cpu, cpu_aim] = Ratio::cells(comparison.cpu);
            vec![name, wall, wall_aim, cpu, cpu_aim]
        })
        .collect();
    print!("\n{}", table(&["ratios", "wall", "at most", "cpu", "at most"], &cells));
}

#[cfg(test)]
mod tests {
    use super::super::super::disk::Census;
    use super::super::super::statistics::Spread;
    use super::*;

    fn row(program: &str, wall: f64, cpu: f64, aim: Option<f64>) -> Row {
        Row {
            program: program.to_owned(),
            is_unlade: program == "unlade",
            aim,
            version: String::new(),
            does: "",
            leaves_out: "",
            wall_s: Spread::of([wall]),
            cpu_s: Spread::of([cpu]),
            machine_cpu_s: Spread::of([cpu]),
            peak_mib: Spread::of([70.0]),
            written_mib: Spread::of([1.0]),
            system_calls: None,
            makes_files: program != "erofs",
            made: Census::default(),
            over_floor: 0.0,
        }
    }

    /// What is said of 4 s and 8 s of processor beside others, with a floor of 3 s.
    fn compared(image: Image) -> (Vec<Row>, Vec<Comparison>) {
        let rows = vec![
            row("unlade", 4.0, 8.0, None),
            row("naive", 9.0, 14.0, None),
            row("erofs", 6.0, 7.0, None),
            row("quick", 7.0, 7.5, None),
            row("daemon", 10.0, 20.0, Some(0.3)),
        ];
        let comparisons = compare(image, &rows, &Floor::made_up(3.0, 3.5));
        (rows, comparisons)
    }

    #[test]
    fn the_fastest_that_makes_files_and_those_named_have_aims() {
        let (_, comparisons) = compared(Image::Dev);
        let seen = |against: &str| comparisons.iter().find(|one| one.against == against).unwrap();
        let aims = |against| {
            (
                seen(against).wall.at_most,
                seen(against).cpu.and_then(|cpu| cpu.at_most),
            )
        };
        assert_eq!(aims("naive"), (None, Some(1.0)));
        assert_eq!(aims("erofs"), (None, None));
        assert_eq!(aims("quick"), (Some(0.5), Some(1.0)));
        assert_eq!(aims("daemon"), (Some(0.3), Some(1.0)));
        assert_eq!(aims("the floor"), (Some(1.25), None));
        assert!(seen("quick").is_fastest && !seen("erofs").is_fastest);
        assert_eq!(seen("quick").wall.met, Some(false));
        assert!((seen("the floor with all cores at work").wall.share - 4.0 / 3.5).abs() < 1e-9);
    }

    #[test]
    fn zstd_and_single_layers_have_aims_of_their_own() {
        let (_, comparisons) = compared(Image::MonoZstd);
        let aims: Vec<_> = comparisons.iter().map(|one| one.wall.at_most).collect();
        assert_eq!(aims, [None, None, Some(0.5), Some(0.5), Some(1.4), None]);
    }

    #[test]
    fn what_is_missed_is_said() {
        let (rows, comparisons) = compared(Image::Dev);
        let lines: Vec<String> = over_budget("dev", &rows, &comparisons).collect();
        assert_eq!(
            lines,
            [
                "unlade, pull of dev: 0.57 of the wall time of quick, the aim is at most 0.5",
                "unlade, pull of dev: 1.07 of the processor time of quick, the aim is at most 1",
                "unlade, pull of dev: 0.40 of the wall time of daemon, the aim is at most 0.3",
                "unlade, pull of dev: 1.33 of the wall time of the floor, the aim is at most 1.25",
                "unlade, pull of dev: a peak of 70 MiB, the budget is 64",
            ]
        );
    }
}
