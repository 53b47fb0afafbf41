//! The chart of `docs/performance.md`: the wall time of every program on every image, beside the floor, as an SVG.
//!
//! It is drawn from the figures as `--json` writes them, of this run or of earlier ones, so that the chart and the table
//! come from the same numbers. Each image has a scale of its own, which ends at its slowest program.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

const WIDTH: f64 = 860.0;
const LEFT: f64 = 170.0;
const BAR_WIDTH: f64 = 500.0;
const ROW: f64 = 20.0;
const BAR: f64 = 13.0;
const TITLE: f64 = 34.0;
const MARGIN: f64 = 12.0;

/// Colours for light and for dark pages; the picture brings its own background, so that it can be read on any.
const STYLE: &str = "\
.page{fill:#fff}.text{fill:#1f2328}.faint{fill:#59636e}.bar{fill:#afb8c1}.own{fill:#1a7f37}.other{fill:#d8dee4}\
.floor{stroke:#cf222e;stroke-width:1.5;stroke-dasharray:3 3}.floor-text{fill:#cf222e}\
@media(prefers-color-scheme:dark){.page{fill:#0d1117}.text{fill:#e6edf3}.faint{fill:#9198a1}.bar{fill:#656c76}\
.own{fill:#3fb950}.other{fill:#3d444d}.floor{stroke:#ff7b72}.floor-text{fill:#ff7b72}}\
text{font:13px system-ui,sans-serif}.title{font-weight:600}";

/// One image.
#[derive(Debug, PartialEq)]
struct Panel {
    title: String,
    floor: f64,
    bars: Vec<Bar>,
}

#[derive(Debug, PartialEq)]
struct Bar {
    program: String,
    seconds: f64,
    makes_files: bool,
}

/// Draws the pulls of `reports` into the file `path`.
pub(super) fn write(path: &Path, reports: &[Value]) -> Result<()> {
    let mut panels = Vec::new();
    for image in reports
        .iter()
        .filter_map(|report| report["pull"]["images"].as_array())
        .flatten()
    {
        panels.push(Panel::of(image)?);
    }
    ensure!(!panels.is_empty(), "there are no figures of `pull` to draw");
    fs::write(path, draw(&panels)).with_context(|| format!("cannot write {}", path.display()))?;
    println!("\nThe chart is in {}.", path.display());
    Ok(())
}

/// Reads the figures of an earlier run.
pub(super) fn read(path: &Path) -> Result<Value> {
    let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} does not have figures", path.display()))
}

impl Panel {
    fn of(image: &Value) -> Result<Self> {
        let text = |value: &Value| value.as_str().map(str::to_owned).context("figures without a name");
        let number = |value: &Value| value.as_f64().context("figures without a number");
        let rows = image["rows"].as_array().context("figures without programs")?;
        let bar = |row: &Value| {
            Ok(Bar {
                program: text(&row["program"])?,
                seconds: number(&row["wall_s"]["median"])?,
                makes_files: row["makes_files"].as_bool().unwrap_or(true),
            })
        };
        let mut bars = rows.iter().map(bar).collect::<Result<Vec<_>>>()?;
        bars.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
        Ok(Self {
            title: format!("{}: {}", text(&image["name"])?, text(&image["image"])?),
            floor: number(&image["floor"]["wall_s"])?,
            bars,
        })
    }

    fn height(&self) -> f64 {
        self.bars.iter().fold(TITLE, |height, _| height + ROW) + MARGIN
    }

    fn draw(&self, top: f64, svg: &mut String) {
        let longest = self.bars.iter().map(|bar| bar.seconds).fold(self.floor, f64::max);
        let length = |seconds: f64| seconds / longest * BAR_WIDTH;
        let title = escape(&self.title);
        let _infallible = writeln!(
            svg,
            r#"<text class="text title" x="{MARGIN}" y="{}">{title}</text>"#,
            top + 20.0
        );
        let mut y = top + TITLE;
        for bar in &self.bars {
            let class = match bar.program.as_str() {
                program if program.starts_with("unlade") => "own",
                _ if bar.makes_files => "bar",
                _ => "other",
            };
            let (name, end) = (escape(&bar.program), length(bar.seconds));
            let _infallible = writeln!(
                svg,
                r#"<text class="text" x="{}" y="{}" text-anchor="end">{name}</text><rect class="{class}" x="{LEFT}" y="{y}" width="{end:.1}" height="{BAR}" rx="2"/><text class="faint" x="{:.1}" y="{}">{:.2} s, {:.1} × the floor</text>"#,
                LEFT - 8.0,
                y + 11.0,
                LEFT + end + 8.0,
                y + 11.0,
                bar.seconds,
                bar.seconds / self.floor,
            );
            y += ROW;
        }
        let x = LEFT + length(self.floor);
        let _infallible = writeln!(
            svg,
            r#"<line class="floor" x1="{x:.1}" y1="{:.1}" x2="{x:.1}" y2="{y:.1}"/><text class="floor-text" x="{:.1}" y="{:.1}" text-anchor="end">the floor {:.2} s</text>"#,
            top + TITLE - 4.0,
            WIDTH - MARGIN,
            top + 20.0,
            self.floor,
        );
    }
}

fn draw(panels: &[Panel]) -> String {
    let height = panels.iter().map(Panel::height).sum::<f64>() + MARGIN;
    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="Seconds that programs take to pull images, beside the least that the machine needs">
<style>{STYLE}</style>
<rect class="page" width="{WIDTH}" height="{height}" rx="6"/>
"#
    );
    let mut top = MARGIN / 2.0;
    for panel in panels {
        panel.draw(top, &mut svg);
        top += panel.height();
    }
    svg.push_str("</svg>\n");
    svg
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_has_a_bar_for_each_program_the_fastest_first() {
        let image: Value = serde_json::from_str(
            r#"{"name": "dev", "image": "a < b", "floor": {"wall_s": 2.0}, "rows": [
                {"program": "naive", "wall_s": {"median": 8.0}},
                {"program": "unlade", "wall_s": {"median": 4.0}, "makes_files": true},
                {"program": "erofs", "wall_s": {"median": 6.0}, "makes_files": false}]}"#,
        )
        .unwrap();
        let panel = Panel::of(&image).unwrap();
        let order: Vec<&str> = panel.bars.iter().map(|bar| bar.program.as_str()).collect();
        assert_eq!(order, ["unlade", "erofs", "naive"]);
        let svg = draw(&[panel]);
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{svg}");
        assert!(svg.contains("dev: a &lt; b"), "{svg}");
        assert!(svg.contains(r#"class="own" x="170" y="40" width="250.0""#), "{svg}");
        assert!(svg.contains("4.00 s, 2.0 × the floor"), "{svg}");
        assert_eq!(svg.matches("<rect").count(), 4);
    }

    #[test]
    fn what_is_no_report_is_refused() {
        assert!(write(Path::new("/nowhere"), &[Value::Null]).is_err());
        assert!(Panel::of(&serde_json::json!({"rows": []})).is_err());
    }
}
