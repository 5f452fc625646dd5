//! Draws the growth curves from the lines that the scenario `growth` prints, and prints them as a table.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clap::Args;
use plotters::coord::Shift;
use plotters::prelude::*;
use serde_json::Value;

/// Input files and the output folder.
#[derive(Args)]
pub(crate) struct Plot {
    /// Lines of JSON, as `xdsload growth` prints them.
    #[arg(required = true)]
    lines: Vec<PathBuf>,
    /// Folder for the drawings.
    #[arg(long, default_value = "docs/performance")]
    folder: PathBuf,
}

/// The field that a drawing varies. The other two have the values of the mesh in docs/performance.md.
struct Axis {
    file: &'static str,
    field: &'static str,
    title: &'static str,
}

const AXES: [Axis; 3] = [
    Axis { file: "growth-proxies.svg", field: "proxies", title: "proxies (20 outbounds, 5 instances)" },
    Axis { file: "growth-outbounds.svg", field: "outbounds", title: "outbounds of each (1,000 proxies, 5 instances)" },
    Axis {
        file: "growth-instances.svg",
        field: "instances",
        title: "instances of a service (1,000 proxies, 20 outbounds)",
    },
];

/// The values of the fields that a drawing does not vary.
const BASE: [(&str, u64); 3] = [("proxies", 1000), ("outbounds", 20), ("instances", 5)];

/// One panel of a drawing: curves of (name, place in the line, what to multiply by).
struct Panel {
    title: &'static str,
    curves: &'static [(&'static str, &'static str, f64)],
}

const PANELS: [Panel; 6] = [
    Panel {
        title: "a change, request to last ACK: p99, ms",
        curves: &[
            ("endpoint", "/endpoint/p99_ms", 1.0),
            ("policy of one service", "/policy_service/p99_ms", 1.0),
            ("policy of all", "/policy_mesh/p99_ms", 1.0),
        ],
    },
    Panel {
        title: "a change: CPU of kuma-cp, ms",
        curves: &[
            ("endpoint", "/endpoint/cpu_ms", 1.0),
            ("policy of one service", "/policy_service/cpu_ms", 1.0),
            ("policy of all", "/policy_mesh/cpu_ms", 1.0),
        ],
    },
    Panel {
        title: "a change: proxies concerned",
        curves: &[
            ("endpoint", "/endpoint/concerned", 1.0),
            ("policy of one service", "/policy_service/concerned", 1.0),
            ("policy of all", "/policy_mesh/concerned", 1.0),
        ],
    },
    Panel {
        title: "all connect, 5,000 at a time: CPU of kuma-cp, ms per proxy",
        curves: &[("connect", "/connect/cpu_us_per_proxy", 1e-3)],
    },
    Panel { title: "all connect, 5,000 at a time: s to the last", curves: &[("connect", "/connect/s_to_last", 1.0)] },
    Panel { title: "memory of kuma-cp, KB per proxy", curves: &[("memory", "/memory/rss_per_proxy", 1e-3)] },
];

const COLORS: [RGBColor; 3] = [RGBColor(31, 119, 180), RGBColor(44, 160, 44), RGBColor(214, 39, 40)];

/// Columns and rows of panels, and the size of each.
const GRID: (usize, usize) = (3, 2);
const PANEL: (u32, u32) = (400, 290);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws all.
pub(crate) fn run(arguments: &Plot) -> anyhow::Result<()> {
    let mut runs = Vec::new();
    for path in &arguments.lines {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        for (index, line) in text.lines().enumerate() {
            let run: Value =
                serde_json::from_str(line).with_context(|| format!("{}, line {}", path.display(), index + 1))?;
            if run["scenario"] == "growth" && run["failure"].is_null() {
                runs.push(run);
            }
        }
    }
    print!("{}", table(&runs));
    std::fs::create_dir_all(&arguments.folder).with_context(|| arguments.folder.display().to_string())?;
    for axis in &AXES {
        let points = points(&runs, axis);
        ensure!(points.len() >= 2, "{} needs at least two sizes of `{}` that count", axis.file, axis.field);
        let path = arguments.folder.join(axis.file);
        draw(&path, axis, &points).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
    }
    Ok(())
}

/// The figures as Markdown, for docs/performance.md.
fn table(runs: &[Value]) -> String {
    const COLUMNS: [(&str, &str, f64); 12] = [
        ("proxies", "/proxies", 1.0),
        ("outbounds", "/outbounds", 1.0),
        ("instances", "/instances", 1.0),
        ("endpoint: p99, ms", "/endpoint/p99_ms", 1.0),
        ("CPU, ms", "/endpoint/cpu_ms", 1.0),
        ("policy of one service: p99, ms", "/policy_service/p99_ms", 1.0),
        ("CPU, ms", "/policy_service/cpu_ms", 1.0),
        ("policy of all: p99, ms", "/policy_mesh/p99_ms", 1.0),
        ("CPU, ms", "/policy_mesh/cpu_ms", 1.0),
        ("all connect: last, s", "/connect/s_to_last", 1.0),
        ("CPU, ms per proxy", "/connect/cpu_us_per_proxy", 1e-3),
        ("memory, KB per proxy", "/memory/rss_per_proxy", 1e-3),
    ];
    let titles = COLUMNS.map(|(title, ..)| title).join(" | ");
    let mut text = format!("| {titles} |\n|{}\n", " --- |".repeat(COLUMNS.len()));
    for run in runs {
        let cell = |(_, place, factor): (&str, &str, f64)| match run.pointer(place) {
            Some(Value::Number(value)) if value.is_u64() && factor == 1.0 => value.to_string(),
            value => value.and_then(Value::as_f64).map_or_else(|| "?".to_owned(), |value| number(value * factor)),
        };
        text += &format!("| {} |\n", COLUMNS.map(cell).join(" | "));
    }
    text
}

/// The runs in which nothing but the axis differs from the base, by size; the last counts.
fn points<'a>(runs: &'a [Value], axis: &Axis) -> BTreeMap<u64, &'a Value> {
    let fits = |run: &&Value| BASE.iter().all(|(field, value)| *field == axis.field || run[field] == *value);
    runs.iter().filter(fits).filter_map(|run| Some((run[axis.field].as_u64()?, run))).collect()
}

fn draw(path: &Path, axis: &Axis, points: &BTreeMap<u64, &Value>) -> Result<(), Box<dyn std::error::Error>> {
    let size = (PANEL.0 * GRID.0 as u32, PANEL.1 * GRID.1 as u32);
    let root = SVGBackend::new(path, size).into_drawing_area();
    root.fill(&WHITE)?;
    for (area, panel) in root.split_evenly((GRID.1, GRID.0)).iter().zip(&PANELS) {
        draw_panel(area, axis, panel, points)?;
    }
    root.present()?;
    Ok(())
}

fn draw_panel(
    area: &Area<'_>,
    axis: &Axis,
    panel: &Panel,
    points: &BTreeMap<u64, &Value>,
) -> Result<(), Box<dyn std::error::Error>> {
    let curve = |place: &str, factor: f64| -> Vec<(f64, f64)> {
        let value = |run: &Value| run.pointer(place).and_then(Value::as_f64).filter(|value| *value > 0.0);
        points.iter().filter_map(|(&size, run)| Some((size as f64, value(run)? * factor))).collect()
    };
    let curves: Vec<(&str, Vec<(f64, f64)>)> =
        panel.curves.iter().map(|(name, place, factor)| (*name, curve(place, *factor))).collect();
    let values = || curves.iter().flat_map(|(_, curve)| curve.iter().map(|(_, value)| *value));
    let (least, most) = (values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
    let sizes = || points.keys().map(|&size| size as f64);
    let (smallest, largest) = (sizes().fold(f64::INFINITY, f64::min), sizes().fold(0.0, f64::max));
    if !least.is_finite() {
        return Ok(());
    }
    let mut chart = ChartBuilder::on(area)
        .caption(panel.title, ("sans-serif", 15))
        .margin(8)
        .x_label_area_size(34)
        .y_label_area_size(48)
        .build_cartesian_2d(
            (smallest * 0.9..largest * 1.1).log_scale(),
            // At least a decade, so that slow growth looks slow.
            ((least * 0.7).min(most / 8.0)..most * 1.5).log_scale(),
        )?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(RGBColor(225, 225, 225))
        .x_desc(axis.title)
        .x_labels(6)
        .y_labels(6)
        .x_label_formatter(&|size| format!("{size:.0}"))
        .y_label_formatter(&|value| number(*value))
        .label_style(("sans-serif", 11))
        .draw()?;
    for ((name, curve), color) in curves.iter().zip(COLORS) {
        chart
            .draw_series(LineSeries::new(curve.iter().copied(), color.stroke_width(2)))?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 14, y)], color.stroke_width(2)));
        chart.draw_series(curve.iter().map(|&point| Circle::new(point, 3, color.filled())))?;
        let label = |&(x, y): &(f64, f64)| {
            EmptyElement::at((x, y)) + Text::new(number(y), (2, -13), ("sans-serif", 10).into_font().color(&color))
        };
        chart.draw_series(curve.iter().map(label))?;
    }
    if curves.len() > 1 {
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .label_font(("sans-serif", 11))
            .draw()?;
    }
    Ok(())
}

/// Formats a number with a useful number of digits.
fn number(value: f64) -> String {
    let digits = if value >= 20.0 {
        0
    } else if value >= 2.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn curves_are_drawn_from_the_runs_that_count() {
        let run = |proxies: u64, outbounds: u64, instances: u64, failure: Option<&str>| {
            let change = json!({"p99_ms": 1.5 * proxies as f64, "cpu_ms": 2.0, "concerned": outbounds});
            json!({
                "scenario": "growth", "proxies": proxies, "outbounds": outbounds, "instances": instances,
                "failure": failure,
                "endpoint": change, "policy_service": change, "policy_mesh": change,
                "connect": {"cpu_us_per_proxy": 600, "s_to_last": 0.5}, "memory": {"rss_per_proxy": 40_000},
            })
        };
        let runs = [run(100, 20, 5, None), run(1000, 20, 5, None), run(1000, 5, 5, None), run(1000, 20, 50, None)];
        assert_eq!(points(&runs, &AXES[0]).keys().copied().collect::<Vec<_>>(), [100, 1000]);
        assert_eq!(points(&runs, &AXES[1]).keys().copied().collect::<Vec<_>>(), [5, 20]);

        let folder = tempfile::tempdir().expect("a folder");
        let lines = folder.path().join("lines");
        let mut text: String = runs.iter().map(|run| format!("{run}\n")).collect();
        text += &format!("{}\n", run(5000, 20, 5, Some("something was missing")));
        std::fs::write(&lines, text).expect("writes");
        run_in(&lines, folder.path());
        let drawing = std::fs::read_to_string(folder.path().join("growth-proxies.svg")).expect("a drawing");
        assert!(drawing.contains("1500") && !drawing.contains("7500"), "{drawing}");
    }

    fn run_in(lines: &Path, folder: &Path) {
        super::run(&Plot { lines: vec![lines.to_owned()], folder: folder.to_owned() }).expect("draws");
    }
}
