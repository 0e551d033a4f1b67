//! What a report of the bench shows, drawn: transfers a second over time, and how long a batch took.
//!
//! Reads of each side's median turn `throughput_samples`, `[[seconds, transfers a second], …]`, and
//! `latency_quantiles_ms`, `[[share, milliseconds], …]`; a side that has none is left out, and said.

use anyhow::Context as _;
use serde_json::Value;
use std::fs;
use std::path::Path;

use crate::plot::{Axis, Chart, Line, Scale};

/// The sides of a report, and what they are called.
const SIDES: [(&str, &str); 2] = [("pabal", "Pabal"), ("postgresql", "PostgreSQL")];
/// Shares at which the latency is drawn: so many for every factor of ten of what is left.
const SHARES_A_DECADE: u32 = 40;

/// Writes the charts of a report into a folder.
pub fn draw(report: &Value, folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    let accounts = report["accounts"].as_u64().context("no `accounts` in the report")?;
    for (side, name) in SIDES {
        let points = samples(&report[side], "throughput_samples")?;
        if points.is_empty() {
            eprintln!("no `throughput_samples` of {name}: its chart is left as it was");
            continue;
        }
        let chart = throughput(name, accounts, points, report[side]["ceiling_per_second"].as_f64());
        write(folder, &format!("{side}-throughput-{accounts}.svg"), &chart)?;
    }
    let mut lines = Vec::new();
    for (side, name) in SIDES {
        let points = samples(&report[side], "latency_quantiles_ms")?;
        if !points.is_empty() {
            lines.push(Line { label: name.into(), points, dashed: false });
        }
    }
    if lines.is_empty() {
        eprintln!("no `latency_quantiles_ms`: their chart is left as it was");
        return Ok(());
    }
    let chart = Chart {
        title: format!("From sending a batch to its answer, {} accounts", grouped(accounts)),
        x: Axis { label: "share of batches answered within".into(), scale: Scale::Percentile },
        y: Axis { label: "milliseconds".into(), scale: Scale::Logarithmic },
        lines,
    };
    write(folder, &format!("batch-latency-{accounts}.svg"), &chart)
}

fn throughput(name: &str, accounts: u64, points: Vec<(f64, f64)>, ceiling: Option<f64>) -> Chart {
    let ends = [0.0, points.last().map_or(1.0, |point| point.0)];
    let mut lines = vec![Line { label: name.into(), points, dashed: false }];
    lines.extend(ceiling.map(|ceiling| Line {
        label: "ceiling of the same run: its bytes, no ledger".into(),
        points: ends.map(|end| (end, ceiling)).to_vec(),
        dashed: true,
    }));
    Chart {
        title: format!("{name}: transfers a second, {} accounts", grouped(accounts)),
        x: Axis { label: "seconds".into(), scale: Scale::Linear },
        y: Axis { label: "transfers a second".into(), scale: Scale::Linear },
        lines,
    }
}

fn write(folder: &Path, name: &str, chart: &Chart) -> anyhow::Result<()> {
    let path = folder.join(name);
    fs::write(&path, chart.svg()).with_context(|| path.display().to_string())?;
    eprintln!("drawn: {}", path.display());
    Ok(())
}

/// A list of pairs; none if the key is not there, an error if it is something else.
fn samples(side: &Value, key: &str) -> anyhow::Result<Vec<(f64, f64)>> {
    match side.get(key) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(list) => serde_json::from_value(list.clone()).with_context(|| format!("`{key}`")),
    }
}

/// For each share of the batches, the time within which they were answered; up to the share that one batch is.
pub fn percentiles(mut taken: Vec<f64>) -> Vec<(f64, f64)> {
    taken.sort_by(f64::total_cmp);
    let decades = (taken.len() as f64).log10();
    let steps = (decades * f64::from(SHARES_A_DECADE)).floor() as u32;
    let shares = (0..=steps).map(|step| 1.0 - 10f64.powf(-f64::from(step) / f64::from(SHARES_A_DECADE)));
    shares.map(|share| (share, at_share(&taken, share))).collect()
}

/// Of sorted values, the least within which a share of them lies.
pub fn at_share(sorted: &[f64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

/// `1,000,000`
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_share_is_told_by_its_rank() {
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        for (share, value) in [(0.0, 1.0), (0.5, 50.0), (0.99, 99.0), (0.991, 100.0), (1.0, 100.0)] {
            assert_eq!(at_share(&hundred, share), value, "{share}");
        }
        let points = percentiles(hundred);
        assert_eq!((points[0], points.len()), ((0.0, 1.0), 81));
        assert!((points[80].0 - 0.99).abs() < 1e-9, "one batch of a hundred says no more: {:?}", points[80]);
    }

    #[test]
    fn what_was_sampled_is_drawn_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let mut report = json!({
            "accounts": 1_000_000,
            "pabal": { "ceiling_per_second": 5e6 },
            "postgresql": { "throughput_samples": [[1.0, 5e4], [2.0, 6e4]], "latency_quantiles_ms": [[0.5, 99.0]] },
        });
        let names = || {
            let files = fs::read_dir(folder.path()).unwrap();
            let mut names: Vec<String> =
                files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        draw(&report, folder.path()).unwrap();
        assert_eq!(names(), ["batch-latency-1000000.svg", "postgresql-throughput-1000000.svg"]);
        report["pabal"]["throughput_samples"] = json!([[0.1, 3e6]]);
        draw(&report, folder.path()).unwrap();
        let drawn = fs::read_to_string(folder.path().join("pabal-throughput-1000000.svg")).unwrap();
        assert!(drawn.contains("1,000,000 accounts") && drawn.contains("dashed"), "{drawn}");
        report["pabal"]["throughput_samples"] = json!("fast");
        assert!(draw(&report, folder.path()).is_err());
    }
}
