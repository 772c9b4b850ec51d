//! The pictures, as SVG.

use std::collections::BTreeMap;

use plotters::coord::Shift;
use plotters::prelude::*;

use super::error::Error;
use super::heat;
use super::result::{Report, Run};
use crate::experiment::contender;

/// One colour per contender, the same in every picture: Okabe and Ito's palette for the lab's, told apart by everyone; Tol's
/// "muted" and "bright" ones for those that only the simulator has.
const COLOURS: [RGBColor; 18] = [
    RGBColor(213, 94, 0),
    RGBColor(110, 110, 110),
    RGBColor(230, 159, 0),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(0, 158, 115),
    RGBColor(0, 84, 166),
    RGBColor(136, 34, 85),
    RGBColor(17, 119, 51),
    RGBColor(153, 153, 51),
    RGBColor(221, 204, 119),
    RGBColor(170, 68, 153),
    RGBColor(102, 204, 238),
    RGBColor(204, 187, 68),
    RGBColor(51, 34, 136),
    RGBColor(68, 170, 153),
    RGBColor(238, 102, 119),
    RGBColor(0, 0, 0),
];
const LABEL: (&str, i32) = ("sans-serif", 14);
const GRID: RGBColor = RGBColor(225, 228, 232);
const AXIS: RGBColor = RGBColor(120, 120, 120);

/// A picture of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Picture {
    /// One-way delay over the time of sending, on a logarithmic scale.
    DelayOverTime,
    /// Frames in the TX ring over time.
    RingOverTime,
    /// The share of probes that took longer than a delay, both on logarithmic scales.
    DelayDistribution,
    /// Drops by cause, stacked, for each contender.
    Drops,
    /// The 95th percentile of the delay over the values of a sweep.
    HeatOfDelay,
    /// The link's utilisation over the values of a sweep.
    HeatOfUtilisation,
}

impl Picture {
    /// All, in the order of a page.
    pub const ALL: [Self; 6] = [
        Self::DelayOverTime,
        Self::RingOverTime,
        Self::DelayDistribution,
        Self::Drops,
        Self::HeatOfDelay,
        Self::HeatOfUtilisation,
    ];

    /// Its title.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::DelayOverTime => "One-way delay over time",
            Self::RingOverTime => "Frames in the TX ring over time",
            Self::DelayDistribution => "Share of probes that took longer",
            Self::Drops => "Drops by cause",
            Self::HeatOfDelay => "One-way delay, 95th percentile, ms",
            Self::HeatOfUtilisation => "Utilisation of the slow link, %",
        }
    }

    /// Whether `report` has anything to draw in it.
    #[must_use]
    pub fn has_data(self, report: &Report) -> bool {
        match self {
            Self::DelayOverTime | Self::DelayDistribution => {
                report.runs.iter().any(|run| !run.samples.delay.is_empty())
            }
            Self::RingOverTime => report.runs.iter().any(|run| !run.samples.ring.is_empty()),
            Self::Drops => report.sampled().any(|run| run.silent_drops > 0 || run.dropped() > 0),
            Self::HeatOfDelay => {
                !report.sweep().is_empty() && report.runs.iter().any(|run| run.delay_ns.is_some())
            }
            Self::HeatOfUtilisation => !report.sweep().is_empty(),
        }
    }

    /// Pixels in which it is easily read.
    #[must_use]
    pub fn height(self, report: &Report) -> u32 {
        match self {
            Self::DelayOverTime | Self::RingOverTime | Self::DelayDistribution | Self::Drops => 380,
            Self::HeatOfDelay | Self::HeatOfUtilisation => heat::height(report),
        }
    }
}

/// Draws `picture` as a self-contained SVG of `width` by `height` pixels.
///
/// # Errors
/// [`Error`] with what the drawing library said.
pub fn svg(report: &Report, picture: Picture, width: u32, height: u32) -> Result<String, Error> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (width, height)).into_drawing_area();
        let drawn = area.fill(&WHITE).map_err(Into::into).and_then(|()| match picture {
            Picture::DelayOverTime => delay_over_time(report, &area),
            Picture::RingOverTime => ring_over_time(report, &area),
            Picture::DelayDistribution => delay_distribution(report, &area),
            Picture::Drops => drops(report, &area),
            Picture::HeatOfDelay => heat::draw(report, picture, p95_ms, &area),
            Picture::HeatOfUtilisation => heat::draw(report, picture, percent_used, &area),
        });
        drawn
            .and_then(|()| area.present().map_err(Into::into))
            .map_err(|error: Failure| Error { picture: picture.title(), reason: error.to_string() })?;
    }
    Ok(text)
}

fn p95_ms(run: &Run) -> Option<f64> {
    run.delay_ns.map(|delay| milliseconds(delay.p95))
}

fn percent_used(run: &Run) -> Option<f64> {
    run.simulated.as_ref().map(|simulated| simulated.utilisation * 100.0)
}

pub(super) type Failure = Box<dyn std::error::Error>;
pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn colour(run: &Run) -> RGBColor {
    let index = contender::all().position(|name| name == run.contender).unwrap_or(COLOURS.len() - 1);
    COLOURS.get(index).copied().unwrap_or(BLACK)
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

fn milliseconds(ns: u64) -> f64 {
    ns as f64 / 1e6
}

/// The least and the most delay of all samples in milliseconds, widened to make room, never empty.
fn delay_range(report: &Report) -> std::ops::Range<f64> {
    let delays = || report.runs.iter().flat_map(|run| &run.samples.delay).map(|s| milliseconds(s.delay_ns));
    let low = delays().fold(f64::INFINITY, f64::min);
    let high = delays().fold(0.0, f64::max);
    let low = if low.is_finite() { low.max(0.001) } else { 0.1 };
    low * 0.8..high.max(low * 2.0) * 1.2
}

fn number(value: &f64) -> String {
    if *value >= 10.0 || *value == 0.0 { format!("{value:.0}") } else { format!("{value}") }
}

/// A chart with the house's margins and grid; the legend is drawn by the caller, after the series.
macro_rules! chart {
    ($area:expr, $picture:expr, $x:expr, $y:expr, $x_label:expr, $y_label:expr) => {{
        let mut chart = ChartBuilder::on($area)
            .caption($picture.title(), ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(42)
            .y_label_area_size(64)
            .build_cartesian_2d($x, $y)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(AXIS)
            .x_desc($x_label)
            .y_desc($y_label)
            .x_label_formatter(&number)
            .y_label_formatter(&number)
            .label_style(LABEL)
            .draw()?;
        chart
    }};
}

macro_rules! series {
    ($chart:expr, $run:expr, $points:expr) => {{
        let colour = colour($run);
        $chart
            .draw_series(LineSeries::new(
                $points,
                colour.stroke_width(if $run.contender == "weir" { 2 } else { 1 }),
            ))?
            .label($run.contender.clone())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(3)));
    }};
}

macro_rules! legend {
    ($chart:expr, $position:ident) => {
        $chart
            .configure_series_labels()
            .position(SeriesLabelPosition::$position)
            .background_style(WHITE.mix(0.85))
            .border_style(GRID)
            .label_font(LABEL)
            .draw()?
    };
}

fn delay_over_time(report: &Report, area: &Area<'_>) -> Result<(), Failure> {
    let duration = seconds(report.setup.duration_ns);
    let range = delay_range(report).log_scale();
    let mut chart = chart!(area, Picture::DelayOverTime, 0.0..duration, range, "seconds", "ms");
    for run in report.sampled() {
        let samples = run.samples.decimated().delay;
        series!(chart, run, samples.into_iter().map(|s| (seconds(s.at_ns), milliseconds(s.delay_ns))));
    }
    legend!(chart, MiddleRight);
    Ok(())
}

fn ring_over_time(report: &Report, area: &Area<'_>) -> Result<(), Failure> {
    let duration = seconds(report.setup.duration_ns);
    let slots = f64::from(report.setup.ring_slots) * 1.05;
    let mut chart = chart!(area, Picture::RingOverTime, 0.0..duration, 0.0..slots, "seconds", "frames");
    for run in report.runs.iter().filter(|run| !run.samples.ring.is_empty()) {
        let points = run.samples.decimated().ring;
        series!(chart, run, points.into_iter().map(|p| (seconds(p.at_ns), f64::from(p.occupancy))));
    }
    legend!(chart, MiddleRight);
    Ok(())
}

fn delay_distribution(report: &Report, area: &Area<'_>) -> Result<(), Failure> {
    let x = delay_range(report).log_scale();
    let mut chart =
        chart!(area, Picture::DelayDistribution, x, (0.000_5..1.2).log_scale(), "one-way delay, ms", "share");
    for run in report.sampled() {
        series!(chart, run, exceedance(run));
    }
    legend!(chart, LowerLeft);
    Ok(())
}

/// The complementary distribution of a run's delays: (milliseconds, share that took longer), by rising delay.
fn exceedance(run: &Run) -> Vec<(f64, f64)> {
    const POINTS: usize = 400;
    let mut delays: Vec<u64> = run.samples.delay.iter().map(|s| s.delay_ns).collect();
    delays.sort_unstable();
    let count = delays.len();
    let mut points = Vec::with_capacity(POINTS);
    for step in 0..POINTS {
        // Evenly spread over the logarithm of the share, where the tail is.
        let share = 10_f64.powf(-3.3 * step as f64 / POINTS as f64);
        let rank = count.saturating_sub((share * count as f64).ceil() as usize);
        if let Some(delay) = delays.get(rank) {
            points.push((milliseconds(*delay), share));
        }
    }
    points
}

fn drops(report: &Report, area: &Area<'_>) -> Result<(), Failure> {
    let runs: Vec<&Run> = report.sampled().collect();
    let stacks: Vec<BTreeMap<&str, u64>> = runs.iter().map(|run| causes(run)).collect();
    let highest = stacks.iter().map(|stack| stack.values().sum::<u64>()).max().unwrap_or(0).max(1) as f64;
    let columns = runs.len() as f64;
    let mut names: Vec<&str> = stacks.iter().flat_map(|stack| stack.keys().copied()).collect();
    names.sort_unstable();
    names.dedup();

    let mut chart = ChartBuilder::on(area)
        .caption(Picture::Drops.title(), ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(42)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..columns, 0.0..highest * 1.35)?;
    let name_of = |x: &f64| {
        let middle = (x.fract() - 0.5).abs() < 0.01;
        let run = runs.get(x.floor() as usize).filter(|_| middle);
        run.map_or_else(String::new, |run| run.contender.clone())
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(AXIS)
        .x_labels(runs.len() * 2 + 1)
        .x_label_formatter(&name_of)
        .y_label_formatter(&number)
        .y_desc("packets")
        .label_style(LABEL)
        .draw()?;
    for (index, name) in names.iter().enumerate() {
        let shade = cause_colour(name, index);
        let bars = stacks.iter().enumerate().filter_map(|(column, stack)| {
            let height = *stack.get(name)? as f64;
            let below: u64 = stack.iter().take_while(|(cause, _)| *cause < name).map(|(_, n)| *n).sum();
            let (left, base) = (column as f64 + 0.2, below as f64);
            Some(Rectangle::new([(left, base), (left + 0.6, base + height)], shade.filled()))
        });
        chart
            .draw_series(bars)?
            .label(name.replace('_', " "))
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 14, y + 5)], shade.filled()));
    }
    legend!(chart, UpperRight);
    Ok(())
}

/// The cause of the packets that no counter explains.
const SILENT: &str = "silent (in no counter)";

fn causes(run: &Run) -> BTreeMap<&str, u64> {
    let known = run.drops.iter().map(|(cause, n)| (cause.as_str(), *n));
    known.chain([(SILENT, run.silent_drops)]).filter(|(_, n)| *n > 0).collect()
}

fn cause_colour(name: &str, index: usize) -> RGBColor {
    if name == SILENT {
        return RGBColor(190, 30, 45);
    }
    const SHADES: [usize; 6] = [6, 4, 5, 2, 3, 1];
    let shade = SHADES.get(index % SHADES.len()).copied().unwrap_or(0);
    COLOURS.get(shade).copied().unwrap_or(BLACK)
}
