//! Charts as SVG: lines over linear or logarithmic axes, for `docs/plots`.
//!
//! Written by hand rather than with a crate: all that is needed is two axes, a grid, some lines and a legend, and a
//! crate that draws these would bring its own dependencies and would not know about light and dark. A page shows these
//! files as images, so a chart brings its background along and takes both sets of colours from what the reader prefers.
//! It is judged by eye; tests hold what the eye would not forgive.

use std::fmt::Write as _;

const WIDTH: f64 = 840.0;
const HEIGHT: f64 = 440.0;
/// Room around the field in which the lines are.
const LEFT: f64 = 78.0;
const RIGHT: f64 = 34.0;
const TOP: f64 = 74.0;
const BOTTOM: f64 = 58.0;
/// About the width of a letter of the legend, to place what comes after it.
const LETTER: f64 = 7.1;
/// About so many ticks on a linear axis.
const TICKS: f64 = 6.0;
/// A line of more points than the field has pixels only makes the file longer.
const POINTS_MAX: usize = 2_000;
/// Lines beyond these would share a colour.
const LINES_MAX: usize = 3;

const STYLE: &str = "\
text{font-family:system-ui,-apple-system,'Segoe UI','Noto Sans','DejaVu Sans',sans-serif;font-size:13px;fill:#57606a}
.title{font-size:16px;font-weight:600;fill:#1f2328}.legend{fill:#1f2328}
.ground{fill:#ffffff}.grid{stroke:#d8dee4;stroke-width:1}.axis{stroke:#8c959f;stroke-width:1}
polyline,.key{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
.dashed{stroke-dasharray:7 5}
.s0{stroke:#0969da}.s1{stroke:#bc4c00}.s2{stroke:#1a7f37}
@media (prefers-color-scheme:dark){
text{fill:#9198a1}.title,.legend{fill:#f0f6fc}
.ground{fill:#0d1117}.grid{stroke:#2a313a}.axis{stroke:#6e7681}
.s0{stroke:#58a6ff}.s1{stroke:#f0883e}.s2{stroke:#3fb950}}";

/// One chart.
pub struct Chart {
    pub title: String,
    pub x: Axis,
    pub y: Axis,
    pub lines: Vec<Line>,
}

/// What an axis measures, and how it is divided.
pub struct Axis {
    /// With its unit, if it has one.
    pub label: String,
    pub scale: Scale,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Begins at zero.
    Linear,
    /// Whole powers of ten; zero has no place on it.
    Logarithmic,
    /// Shares below one, in which 0.9, 0.99 and 0.999 are as far apart as one another.
    Percentile,
}

pub struct Line {
    pub label: String,
    pub points: Vec<(f64, f64)>,
    /// A bound, rather than something that happened.
    pub dashed: bool,
}

impl Chart {
    /// The whole file.
    pub fn svg(&self) -> String {
        assert!(self.lines.len() <= LINES_MAX, "there are colours for {LINES_MAX} lines");
        let all = || self.lines.iter().flat_map(|line| &line.points);
        let x = Range::of(self.x.scale, all().map(|point| point.0), false);
        let y = Range::of(self.y.scale, all().map(|point| point.1), true);
        let mut svg = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut svg, &x, &y);
        svg
    }

    fn write(&self, svg: &mut String, x: &Range, y: &Range) -> std::fmt::Result {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        let across = |value| LEFT + (right - LEFT) * x.part(value);
        let up = |value| bottom - (bottom - TOP) * y.part(value);
        let title = escape(&self.title);
        writeln!(
            svg,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
             viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">\n<style>{STYLE}</style>\n\
             <rect class=\"ground\" width=\"100%\" height=\"100%\" rx=\"6\"/>\n\
             <text class=\"title\" x=\"{LEFT}\" y=\"28\">{title}</text>"
        )?;
        for (tick, words) in x.ticks() {
            let at = across(tick);
            writeln!(svg, "<path class=\"grid\" d=\"M{at:.1} {TOP}V{bottom}\"/>")?;
            writeln!(
                svg,
                "<text x=\"{at:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{words}</text>",
                bottom + 19.0
            )?;
        }
        for (tick, words) in y.ticks() {
            let at = up(tick);
            writeln!(svg, "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{right}\"/>")?;
            let (before, middle) = (LEFT - 9.0, at + 4.5);
            writeln!(svg, "<text x=\"{before}\" y=\"{middle:.1}\" text-anchor=\"end\">{words}</text>")?;
        }
        writeln!(svg, "<path class=\"axis\" fill=\"none\" d=\"M{LEFT} {TOP}V{bottom}H{right}\"/>")?;
        let middle = LEFT.midpoint(right);
        let below = HEIGHT - 15.0;
        writeln!(
            svg,
            "<text x=\"{middle}\" y=\"{below}\" text-anchor=\"middle\">{}</text>",
            escape(&self.x.label)
        )?;
        let middle = TOP.midpoint(bottom);
        writeln!(
            svg,
            "<text transform=\"translate(20 {middle}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            escape(&self.y.label)
        )?;
        let mut legend = LEFT;
        for (number, line) in self.lines.iter().enumerate() {
            let class = if line.dashed { format!("s{number} dashed") } else { format!("s{number}") };
            let label = escape(&line.label);
            let (end, words) = (legend + 26.0, legend + 33.0);
            writeln!(svg, "<path class=\"key {class}\" d=\"M{legend:.0} 50H{end:.0}\"/>")?;
            writeln!(svg, "<text class=\"legend\" x=\"{words:.0}\" y=\"54.5\">{label}</text>")?;
            legend = words + LETTER * line.label.chars().count() as f64 + 22.0;
            let points = thinned(&line.points).filter(|point| x.holds(point.0) && y.holds(point.1));
            let places: Vec<String> =
                points.map(|point| format!("{:.1},{:.1}", across(point.0), up(point.1))).collect();
            writeln!(svg, "<polyline class=\"{class}\" points=\"{}\"/>", places.join(" "))?;
        }
        svg.push_str("</svg>\n");
        Ok(())
    }
}

/// What an axis reaches from and to, in the measure of its scale.
struct Range {
    scale: Scale,
    from: f64,
    to: f64,
}

impl Range {
    /// Around all values; a linear axis ends at a whole tick where lines would else run along the edge.
    fn of(scale: Scale, values: impl Iterator<Item = f64>, room: bool) -> Range {
        let places = values.filter_map(|value| place(scale, value));
        let (least, most) = places.fold((f64::MAX, f64::MIN), |(a, b), place| (a.min(place), b.max(place)));
        let (from, to) = match scale {
            // Nothing to show: an empty field is better than none.
            _ if least > most => (0.0, 1.0),
            Scale::Linear if room && most > 0.0 => {
                let step = round_step(most / TICKS);
                (0.0, (most / step * 1.02).ceil() * step)
            }
            Scale::Linear | Scale::Percentile => (0.0, most),
            Scale::Logarithmic => (least.floor(), most.ceil()),
        };
        Range { scale, from, to: if to > from { to } else { from + 1.0 } }
    }

    /// Whether a value has a place on the axis.
    fn holds(&self, value: f64) -> bool {
        place(self.scale, value).is_some()
    }

    /// How far along the axis a value is, 0 to 1.
    fn part(&self, value: f64) -> f64 {
        place(self.scale, value).map_or(0.0, |place| (place - self.from) / (self.to - self.from))
    }

    /// Where the grid is, and what stands there.
    fn ticks(&self) -> Vec<(f64, String)> {
        match self.scale {
            Scale::Linear => {
                let step = round_step((self.to - self.from) / TICKS);
                let steps = ((self.to - self.from) / step + 1e-9).floor() as u32;
                (0..=steps).map(|n| f64::from(n) * step).map(|tick| (tick, number(tick))).collect()
            }
            Scale::Logarithmic => {
                // Two powers alone would leave the reader to guess between them.
                let between: &[f64] = if self.to - self.from <= 2.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
                let powers = (self.from as i32..=self.to as i32).map(|power| 10f64.powi(power));
                let ticks = powers.flat_map(|power| between.iter().map(move |n| n * power));
                ticks.filter(|tick| self.part(*tick) <= 1.0 + 1e-9).map(|tick| (tick, number(tick))).collect()
            }
            Scale::Percentile => {
                const SHARES: [(f64, &str); 6] = [
                    (0.0, "0 %"),
                    (0.5, "50 %"),
                    (0.9, "90 %"),
                    (0.99, "99 %"),
                    (0.999, "99.9 %"),
                    (0.9999, "99.99 %"),
                ];
                let shown = SHARES.iter().filter(|(share, _)| self.part(*share) <= 1.0);
                shown.map(|(share, words)| (*share, (*words).to_string())).collect()
            }
        }
    }
}

/// Where a value is on a scale; nowhere if it cannot be shown.
fn place(scale: Scale, value: f64) -> Option<f64> {
    let place = match scale {
        Scale::Linear => value,
        Scale::Logarithmic => value.log10(),
        Scale::Percentile => -(1.0 - value).log10(),
    };
    place.is_finite().then_some(place)
}

/// One, two or five of a power of ten, at least as much as asked.
fn round_step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    let steps = [1.0, 2.0, 5.0].map(|n| n * power);
    steps.into_iter().find(|step| *step >= least * 0.999).unwrap_or(10.0 * power)
}

/// `1.5 M`, `200 k`, `0.05`: as few digits as say it.
pub fn number(value: f64) -> String {
    let (divisor, unit) = match value.abs() {
        1e9.. => (1e9, " G"),
        1e6.. => (1e6, " M"),
        1e4.. => (1e3, " k"),
        _ => (1.0, ""),
    };
    let (value, mut decimals) = (value / divisor, 0);
    while decimals < 4 && (value * 10f64.powi(decimals)).fract().abs() > 1e-6 {
        decimals += 1;
    }
    format!("{value:.*}{unit}", decimals as usize)
}

/// Of each stretch that is narrower than a pixel its least and its greatest point, so that no spike is lost.
fn thinned(points: &[(f64, f64)]) -> impl Iterator<Item = (f64, f64)> {
    let stretch = if points.len() > POINTS_MAX { points.len().div_ceil(POINTS_MAX / 2) } else { 1 };
    points.chunks(stretch).flat_map(|chunk| {
        let (mut low, mut high) = (0, 0);
        for (at, point) in chunk.iter().enumerate() {
            low = if point.1 < chunk[low].1 { at } else { low };
            high = if point.1 > chunk[high].1 { at } else { high };
        }
        let (first, second) = (low.min(high), low.max(high));
        let second = (second != first).then(|| chunk[second]);
        std::iter::once(chunk[first]).chain(second)
    })
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(label: &str, scale: Scale) -> Axis {
        Axis { label: label.into(), scale }
    }

    /// Ten minutes a tenth of a second apart, with one stall; written where a person can look at it.
    #[test]
    fn a_chart_has_all_its_parts() {
        let wave = |n: u32| 3.2e6 + 3e5 * (f64::from(n) / 9.0).sin() - if n == 70 { 2.6e6 } else { 0.0 };
        let chart = Chart {
            title: "Transfers a second <made up>".into(),
            x: axis("seconds", Scale::Linear),
            y: axis("transfers a second", Scale::Linear),
            lines: vec![
                Line {
                    label: "pabal & client".into(),
                    points: (0..100).map(|n| (f64::from(n) / 10.0, wave(n))).collect(),
                    dashed: false,
                },
                Line {
                    label: "ceiling of the same run".into(),
                    points: vec![(0.0, 4.6e6), (9.9, 4.6e6)],
                    dashed: true,
                },
            ],
        };
        let svg = chart.svg();
        std::fs::write(crate::target().join("plot.svg"), &svg).unwrap();
        for part in
            ["&lt;made up>", "pabal &amp; client", ">3 M<", ">0<", ">seconds<", "prefers-color-scheme:dark"]
        {
            assert!(svg.contains(part), "{part} is not in {svg}");
        }
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert_eq!(svg.matches("dashed\" ").count(), 2, "the line and its key");
        assert!(
            places(&svg)
                .all(|(x, y)| (LEFT..=WIDTH - RIGHT).contains(&x) && (TOP..=HEIGHT - BOTTOM).contains(&y))
        );
    }

    #[test]
    fn percentiles_are_as_far_apart_as_one_another() {
        let chart = Chart {
            title: "A batch".into(),
            x: axis("share of batches", Scale::Percentile),
            y: axis("milliseconds", Scale::Logarithmic),
            lines: vec![Line {
                label: "a".into(),
                points: vec![(0.0, 2.0), (0.9, 4.0), (0.99, 8.0), (0.999, 250.0), (1.0, 300.0)],
                dashed: false,
            }],
        };
        let svg = chart.svg();
        std::fs::write(crate::target().join("plot-percentiles.svg"), &svg).unwrap();
        let at: Vec<(f64, f64)> = places(&svg).collect();
        assert_eq!(at.len(), 4, "a share of one has no place");
        assert!((at[2].0 - at[1].0 - (at[3].0 - at[2].0)).abs() < 0.2, "{at:?}");
        for words in [">99.9 %<", ">1<", ">1000<"] {
            assert!(svg.contains(words), "{words}");
        }
        assert!(!svg.contains("99.99"), "beyond what there is");
    }

    #[test]
    fn an_axis_ends_at_a_tick_and_two_powers_are_divided() {
        let words = |scale, values: [f64; 2]| {
            let ticks = Range::of(scale, values.into_iter(), true).ticks();
            ticks.into_iter().map(|tick| tick.1).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(words(Scale::Linear, [3e6, 4.6e6]), "0 1 M 2 M 3 M 4 M 5 M");
        assert_eq!(words(Scale::Linear, [1.0, 5.0]), "0 1 2 3 4 5 6", "not along the edge");
        assert_eq!(words(Scale::Logarithmic, [8.0, 90.0]), "1 2 5 10 20 50 100");
        assert_eq!(words(Scale::Logarithmic, [8.0, 300.0]), "1 10 100 1000");
    }

    #[test]
    fn a_chart_of_nothing_is_empty() {
        let [x, y] = [Scale::Linear, Scale::Logarithmic].map(|scale| axis("", scale));
        let svg = Chart { title: "".into(), x, y, lines: Vec::new() }.svg();
        assert!(svg.ends_with("</svg>\n") && !svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn numbers_are_short() {
        for (value, words) in [
            (0.0, "0"),
            (0.05, "0.05"),
            (2.5, "2.5"),
            (1000.0, "1000"),
            (12_500.0, "12.5 k"),
            (200_000.0, "200 k"),
            (1_500_000.0, "1.5 M"),
            (0.1 + 0.2, "0.3"),
            (3e9, "3 G"),
        ] {
            assert_eq!(number(value), words);
        }
    }

    #[test]
    fn steps_are_round() {
        for (least, step) in [(0.9, 1.0), (1.0, 1.0), (1.1, 2.0), (2.2, 5.0), (6.0, 10.0), (730_000.0, 1e6)] {
            assert!((round_step(least) / step - 1.0).abs() < 1e-9, "{least}: {}", round_step(least));
        }
    }

    #[test]
    fn no_spike_is_thinned_away() {
        let mut points: Vec<(f64, f64)> = (0..50_000).map(|n| (f64::from(n), 1.0)).collect();
        (points[31_234].1, points[40_017].1) = (9.0, 0.1);
        let thin: Vec<(f64, f64)> = thinned(&points).collect();
        assert!(thin.len() <= POINTS_MAX, "{}", thin.len());
        assert!(thin.contains(&(31_234.0, 9.0)) && thin.contains(&(40_017.0, 0.1)));
        assert!(thin.is_sorted_by(|a, b| a.0 < b.0));
    }

    /// Every place of every line.
    fn places(svg: &str) -> impl Iterator<Item = (f64, f64)> {
        let lines = svg.lines().filter_map(|line| line.split_once("points=\"")?.1.split_once('"'));
        lines.flat_map(|(points, _)| points.split(' ')).map(|point| {
            let (x, y) = point.split_once(',').unwrap();
            (x.parse().unwrap(), y.parse().unwrap())
        })
    }
}
