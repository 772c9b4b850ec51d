//! Heat maps of a sweep: the last swept key across, everything else down.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::plot::{Area, Failure, Picture};
use super::result::{Report, Run, bare};
use super::simulated::Group;

const ROW: i32 = 26;
const HEAD: i32 = 60;
const CHARACTER: i32 = 8;
const MARGIN: i32 = 14;

/// Pixels that all rows need.
pub(super) fn height(report: &Report) -> u32 {
    let rows = i32::try_from(map(report, |_| None).rows.len()).unwrap_or(i32::MAX / ROW - HEAD);
    u32::try_from(HEAD + ROW * rows + MARGIN).unwrap_or(0)
}

/// Values by row and column.
struct Map {
    columns: Vec<String>,
    rows: Vec<(String, Vec<Option<f64>>)>,
}

fn map(report: &Report, value: fn(&Run) -> Option<f64>) -> Map {
    let Some((across, down)) = report.sweep().split_last() else {
        return Map { columns: Vec::new(), rows: Vec::new() };
    };
    let columns: Vec<String> = across.values.iter().map(|typed| bare(typed).to_owned()).collect();
    let mut rows: Vec<(String, Vec<Option<f64>>)> = Vec::new();
    for group in Group::all(report) {
        let mut name = group.contender().to_owned();
        for axis in down {
            name.push_str(&format!(", {} {}", axis.key, group.setting(&axis.key)));
        }
        let at = rows.iter().position(|(known, _)| *known == name).unwrap_or_else(|| {
            rows.push((name, vec![None; columns.len()]));
            rows.len() - 1
        });
        let column = columns.iter().position(|column| *column == group.setting(&across.key));
        if let Some(cell) =
            column.and_then(|column| rows.get_mut(at).and_then(|(_, cells)| cells.get_mut(column)))
        {
            *cell = group.median(value);
        }
    }
    Map { columns, rows }
}

pub(super) fn draw(
    report: &Report,
    picture: Picture,
    value: fn(&Run) -> Option<f64>,
    area: &Area<'_>,
) -> Result<(), Failure> {
    let map = map(report, value);
    let (width, _) = area.dim_in_pixel();
    let longest = map.rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let left = i32::try_from(longest)? * CHARACTER + 2 * MARGIN;
    let cell = (i32::try_from(width)? - left - MARGIN) / i32::try_from(map.columns.len().max(1))?;
    let values = || map.rows.iter().flat_map(|(_, cells)| cells).flatten().copied();
    let (low, high) = values().fold((f64::INFINITY, 0.0_f64), |(low, high), v| (low.min(v), high.max(v)));
    let font = |size: i32| ("sans-serif", size).into_font();
    let centre = |size| TextStyle::from(font(size)).pos(Pos::new(HPos::Center, VPos::Center));
    let end = TextStyle::from(font(13)).pos(Pos::new(HPos::Right, VPos::Center));

    area.draw(&Text::new(picture.title(), (i32::try_from(width)? / 2, 18), centre(18)))?;
    let across = report.sweep().last().map_or("", |axis| axis.key.as_str());
    area.draw(&Text::new(across, (left - MARGIN, HEAD - 14), end.clone()))?;
    for (index, name) in (0..).zip(&map.columns) {
        area.draw(&Text::new(name.as_str(), (left + cell * index + cell / 2, HEAD - 14), centre(13)))?;
    }
    for (line, (name, cells)) in (0..).zip(&map.rows) {
        let top = HEAD + ROW * line;
        area.draw(&Text::new(name.as_str(), (left - MARGIN, top + ROW / 2), end.clone()))?;
        for (index, value) in (0..).zip(cells) {
            let Some(value) = value else { continue };
            let place = (left + cell * index, top);
            let share = share(*value, low, high);
            let corners = [place, (place.0 + cell - 2, place.1 + ROW - 2)];
            area.draw(&Rectangle::new(corners, shade(share).filled()))?;
            let ink = if share > 0.55 { &WHITE } else { &BLACK };
            let middle = (place.0 + cell / 2, place.1 + ROW / 2);
            area.draw(&Text::new(format!("{value:.1}"), middle, centre(13).color(ink)))?;
        }
    }
    Ok(())
}

/// Where `value` is between the ends, on a logarithmic scale: delays span decades.
fn share(value: f64, low: f64, high: f64) -> f64 {
    let (low, high) = (low.max(1e-6), high.max(1e-6));
    if high <= low { 0.0 } else { ((value.max(low) / low).ln() / (high / low).ln()).clamp(0.0, 1.0) }
}

/// From nearly white to dark blue.
fn shade(share: f64) -> RGBColor {
    let mix = |from: f64, to: f64| (from + (to - from) * share).round() as u8;
    RGBColor(mix(240.0, 8.0), mix(246.0, 48.0), mix(252.0, 107.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shades_span_the_values_whatever_their_magnitude() {
        assert_eq!((share(1.0, 1.0, 100.0), share(100.0, 1.0, 100.0)), (0.0, 1.0));
        assert!((share(10.0, 1.0, 100.0) - 0.5).abs() < 1e-9);
        assert_eq!(share(5.0, 5.0, 5.0), 0.0);
    }
}
