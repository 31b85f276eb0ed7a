//! Plots, in SVG.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::report::{Goal, Quantity, number};

/// One for each case, distinct for the colour-blind as well (Okabe and Ito).
const COLORS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(120, 120, 120),
];
const FONT: &str = "sans-serif";
/// Room for a bar, in pixels; its number has to fit.
const BAR: u32 = 62;
/// Room for a bar that stands alone, with the name of its case below.
const WIDE_BAR: u32 = 150;
/// Dashes of the line at a goal.
const DASHES: u32 = 60;
/// The part of its room that a bar fills.
const FILLED: f64 = 0.8;

type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// A bar.
struct Bar {
    case: String,
    median: f64,
    least: f64,
    greatest: f64,
}

/// The bars of each variant that has any.
fn bars_of<'a>(group: &[(&'a str, &Quantity)]) -> Vec<(&'a str, Vec<Bar>)> {
    let bar = |(case, sample): &(String, super::stats::Sample)| {
        let ((least, greatest), median) = (sample.range()?, sample.median()?);
        Some(Bar { case: case.clone(), median, least, greatest })
    };
    let variants =
        group.iter().map(|(variant, quantity)| (*variant, quantity.cases.iter().filter_map(bar).collect()));
    variants.filter(|(_, bars): &(_, Vec<Bar>)| !bars.is_empty()).collect()
}

/// Whether there is anything to draw.
pub(super) fn has_bars(group: &[(&str, &Quantity)]) -> bool {
    !bars_of(group).is_empty()
}

/// A bar for each case up to the median, and a line from the least to the greatest value; the bars of each of several
/// variants side by side. A goal is a dashed line.
///
/// # Errors
///
/// Where the file cannot be written.
pub(super) fn bars(path: &Path, subject: &str, name: &str, group: &[(&str, &Quantity)]) -> Result<()> {
    let variants = bars_of(group);
    let Some((_, Quantity { unit, .. })) = group.first() else { return Ok(()) };
    if variants.is_empty() {
        return Ok(());
    }
    let goal = group.iter().find_map(|(_, quantity)| quantity.goal);
    let mut cases: Vec<&str> = Vec::new();
    for bar in variants.iter().flat_map(|(_, bars)| bars) {
        if !cases.contains(&bar.case.as_str()) {
            cases.push(&bar.case);
        }
    }
    let is_single = variants.len() == 1;
    let slots = u32::try_from(variants.iter().map(|(_, bars)| bars.len() + 1).sum::<usize>() - 1)?;
    let bars = variants.iter().flat_map(|(_, bars)| bars);
    let greatest = bars.map(|bar| bar.greatest).fold(goal.and_then(Goal::value).unwrap_or(0.0), f64::max);
    let top = if greatest > 0.0 { greatest * 1.15 } else { 1.0 };
    let width = (slots * if is_single { WIDE_BAR } else { BAR }).max(560) + 110;
    let root = SVGBackend::new(path, (width, 440)).into_drawing_area();
    root.fill(&WHITE).map_err(|error| failed(&error))?;
    let caption = goal.map_or_else(String::new, |goal| format!(" (goal: {goal})"));
    let mut chart = ChartBuilder::on(&root)
        .caption(format!("{subject}: {name}{caption}"), (FONT, 18))
        .margin(12)
        .x_label_area_size(if is_single { 30 } else { 60 })
        .y_label_area_size(80)
        .build_cartesian_2d(0.0..f64::from(slots), 0.0..top)
        .map_err(|error| failed(&error))?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .disable_x_axis()
        .y_desc(*unit)
        .y_label_formatter(&|value| number(*value))
        .draw()
        .map_err(|error| failed(&error))?;
    let mut left = 0.0;
    for (variant, bars) in &variants {
        let begin = left;
        for bar in bars {
            let color = cases.iter().position(|case| *case == bar.case).unwrap_or_default() % COLORS.len();
            draw_bar(&mut chart, bar, left, COLORS[if is_single { 0 } else { color }], top)?;
            if is_single {
                label(&mut chart, &bar.case, (left + 0.5, -top * 0.02), VPos::Top)?;
            }
            left += 1.0;
        }
        if !is_single {
            let text = format!("window {variant}");
            label(&mut chart, &text, (f64::midpoint(begin, left), -top * 0.02), VPos::Top)?;
        }
        left += 1.0;
    }
    if let Some(value) = goal.and_then(Goal::value) {
        let dashes = (0..DASHES).map(|dash| {
            let begin = f64::from(slots) * f64::from(dash) / f64::from(DASHES);
            PathElement::new(
                [(begin, value), (begin + f64::from(slots) / f64::from(DASHES) / 2.0, value)],
                BLACK,
            )
        });
        chart.draw_series(dashes).map_err(|error| failed(&error))?;
    }
    if !is_single {
        draw_legend(&root, &cases, width)?;
    }
    root.present().map_err(|error| failed(&error))
}

fn draw_bar(chart: &mut Chart<'_, '_>, bar: &Bar, left: f64, color: RGBColor, top: f64) -> Result<()> {
    let Bar { median, least, greatest, .. } = *bar;
    let (from, middle, to) = (left + (1.0 - FILLED) / 2.0, left + 0.5, left + f64::midpoint(1.0, FILLED));
    let body = Rectangle::new([(from, 0.0), (to, median)], color.filled());
    chart.draw_series([body]).map_err(|error| failed(&error))?;
    let cap = |height| PathElement::new([(middle - 0.06, height), (middle + 0.06, height)], BLACK);
    let spread = PathElement::new([(middle, least), (middle, greatest)], BLACK);
    chart.draw_series([spread, cap(least), cap(greatest)]).map_err(|error| failed(&error))?;
    label(chart, &number(median), (middle, greatest + top * 0.01), VPos::Bottom)
}

fn label(chart: &mut Chart<'_, '_>, text: &str, place: (f64, f64), vertical: VPos) -> Result<()> {
    let style = (FONT, 13).into_font().color(&BLACK).pos(Pos::new(HPos::Center, vertical));
    chart.draw_series([Text::new(text.to_owned(), place, style)]).map_err(|error| failed(&error))?;
    Ok(())
}

/// The names of the cases in a row at the foot, each behind a square of its colour.
fn draw_legend(
    root: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    cases: &[&str],
    width: u32,
) -> Result<()> {
    let step = (width.cast_signed() - 110) / i32::try_from(cases.len())?.max(1);
    for (place, case) in (0_i32..).zip(cases) {
        let (x, y) = (100 + place * step, 415);
        let color = COLORS[usize::try_from(place)? % COLORS.len()];
        root.draw(&Rectangle::new([(x, y), (x + 11, y + 11)], color.filled()))
            .map_err(|error| failed(&error))?;
        let style = (FONT, 13).into_font().color(&BLACK).pos(Pos::new(HPos::Left, VPos::Center));
        root.draw(&Text::new((*case).to_owned(), (x + 16, y + 6), style)).map_err(|error| failed(&error))?;
    }
    Ok(())
}

fn failed(error: &dyn std::fmt::Display) -> anyhow::Error {
    anyhow!("{error}")
}
