//! Plots, in SVG.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{
    figure::{Figure, Kind},
    report::{Goal, Quantity, number},
    stats::Sample,
};

/// One for each case; the first ones are distinct for the colour-blind as well (Okabe and Ito).
const COLORS: [RGBColor; 13] = [
    RGBColor(0, 114, 178),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(120, 120, 120),
    RGBColor(240, 228, 66),
    RGBColor(0, 70, 60),
    RGBColor(130, 60, 20),
    RGBColor(150, 220, 190),
    RGBColor(90, 50, 130),
    RGBColor(200, 200, 200),
];
const FONT: &str = "sans-serif";
/// Room for a bar, in pixels; its number has to fit.
const BAR: u32 = 62;
/// Room for a bar that stands alone, with the name of its case below.
const WIDE_BAR: u32 = 150;
/// Dashes of the line at a goal.
const DASHES: u32 = 20;
/// Room for the names of parts of a stack, in pixels.
const LEGEND: u32 = 330;
/// The part of its room that a bar fills.
const FILLED: f64 = 0.8;

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// A bar.
struct Bar {
    case: String,
    median: f64,
    least: f64,
    greatest: f64,
}

/// The bars of each part of a figure that has any, with its goal.
fn bars_of<'a>(figure: &Figure<'a>) -> Vec<(&'a str, Option<Goal>, Vec<Bar>)> {
    let bar = |(case, sample): &(String, Sample)| {
        let ((least, greatest), median) = (sample.range()?, sample.median()?);
        Some(Bar { case: case.clone(), median, least, greatest })
    };
    let parts = figure.parts.iter();
    let parts = parts.map(|(part, quantity)| {
        (*part, quantity.goal, quantity.cases.iter().filter_map(bar).collect::<Vec<_>>())
    });
    parts.filter(|(.., bars)| !bars.is_empty()).collect()
}

/// Draws a figure. One without values becomes no file.
///
/// # Errors
///
/// Where the file cannot be written.
pub(super) fn draw(path: &Path, subject: &str, figure: &Figure<'_>) -> Result<()> {
    match figure.kind {
        Kind::Groups => bars(path, subject, figure),
        Kind::Stack => stack(path, subject, figure),
        Kind::Table => Ok(()),
    }
}

/// A bar for each case up to the median, and a line from the least to the greatest value; the bars of each part side by
/// side. A goal is a dashed line.
fn bars(path: &Path, subject: &str, figure: &Figure<'_>) -> Result<()> {
    let parts = bars_of(figure);
    let Some((_, Quantity { unit, .. })) = figure.parts.first().filter(|_| !parts.is_empty()) else {
        return Ok(());
    };
    let mut cases: Vec<&str> = Vec::new();
    for bar in parts.iter().flat_map(|(.., bars)| bars) {
        if !cases.contains(&bar.case.as_str()) {
            cases.push(&bar.case);
        }
    }
    let is_single = parts.len() == 1;
    let slots = u32::try_from(parts.iter().map(|(.., bars)| bars.len() + 1).sum::<usize>() - 1)?;
    let values = parts.iter().flat_map(|(.., bars)| bars.iter().map(|bar| bar.greatest));
    let goals = parts.iter().filter_map(|(_, goal, _)| goal.and_then(Goal::value));
    let greatest = values.chain(goals).fold(0.0, f64::max);
    let top = if greatest > 0.0 { greatest * 1.15 } else { 1.0 };
    let width = (slots * if is_single { WIDE_BAR } else { BAR }).max(560) + 110;
    let root = SVGBackend::new(path, (width, 450)).into_drawing_area();
    root.fill(&WHITE).map_err(|error| failed(&error))?;
    let goal = match parts.iter().find_map(|(_, goal, _)| *goal) {
        Some(goal) if is_single => format!(" (goal: {goal})"),
        Some(goal) if goal.value().is_some() => " (dashed: goal)".to_owned(),
        _ => String::new(),
    };
    let mut chart = ChartBuilder::on(&root)
        .caption(format!("{subject}: {}{goal}", figure.name), (FONT, 18))
        .margin(12)
        .x_label_area_size(if is_single { 45 } else { 90 })
        .y_label_area_size(80)
        .build_cartesian_2d(0.0..f64::from(slots), 0.0..top)
        .map_err(|error| failed(&error))?;
    configure(&mut chart, unit)?;
    let mut left = 0.0;
    for (part, goal, bars) in &parts {
        let begin = left;
        for bar in bars {
            let color = cases.iter().position(|case| *case == bar.case).unwrap_or_default() % COLORS.len();
            draw_bar(&mut chart, bar, left, COLORS[if is_single { 0 } else { color }], top)?;
            if is_single {
                below_axis(&root, &chart, left + 0.5, &bar.case)?;
            }
            left += 1.0;
        }
        if !is_single {
            below_axis(&root, &chart, f64::midpoint(begin, left), part)?;
        }
        if let Some(value) = goal.and_then(Goal::value) {
            let length = (left - begin) / f64::from(DASHES);
            let dash = |number| {
                let from = begin + length * f64::from(number);
                PathElement::new([(from, value), (from + length / 2.0, value)], BLACK)
            };
            chart.draw_series((0..DASHES).map(dash)).map_err(|error| failed(&error))?;
        }
        left += 1.0;
    }
    if !is_single {
        let step = (width.cast_signed() - 110) / i32::try_from(cases.len())?.max(1);
        draw_legend(&root, cases.iter().copied(), (100, 428), (step, 0))?;
    }
    root.present().map_err(|error| failed(&error))
}

/// A bar for each case, with the medians of the parts one upon the other.
fn stack(path: &Path, subject: &str, figure: &Figure<'_>) -> Result<()> {
    let mut parts = bars_of(figure);
    parts.retain(|(.., bars)| bars.iter().any(|bar| bar.median > 0.0));
    let Some((_, Quantity { unit, cases, .. })) = figure.parts.first().filter(|_| !parts.is_empty()) else {
        return Ok(());
    };
    let height = |case: &str| -> f64 {
        let bars = parts.iter().flat_map(|(.., bars)| bars);
        bars.filter(|bar| bar.case == case).map(|bar| bar.median).sum()
    };
    let top = cases.iter().map(|(case, _)| height(case)).fold(0.0, f64::max) * 1.1;
    let slots = u32::try_from(cases.len())?;
    let width = slots * WIDE_BAR + 90;
    let root = SVGBackend::new(path, (width + LEGEND, 520)).into_drawing_area();
    root.fill(&WHITE).map_err(|error| failed(&error))?;
    let (left, _) = root.split_horizontally(width);
    let mut chart = ChartBuilder::on(&left)
        .caption(format!("{subject}: {}", figure.name), (FONT, 18))
        .margin(12)
        .x_label_area_size(45)
        .y_label_area_size(70)
        .build_cartesian_2d(0.0..f64::from(slots), 0.0..top)
        .map_err(|error| failed(&error))?;
    configure(&mut chart, unit)?;
    for (place, (case, _)) in (0_u32..).zip(cases) {
        let (from, to) = (f64::from(place) + 0.2, f64::from(place) + 0.8);
        let mut below = 0.0;
        for (color, (.., bars)) in COLORS.iter().cycle().zip(&parts) {
            let part = bars.iter().find(|bar| bar.case == *case).map_or(0.0, |bar| bar.median);
            let body = Rectangle::new([(from, below), (to, below + part)], color.filled());
            chart.draw_series([body]).map_err(|error| failed(&error))?;
            below += part;
        }
        label(&mut chart, &number(below), (f64::from(place) + 0.5, below + top * 0.01))?;
        below_axis(&root, &chart, f64::from(place) + 0.5, case)?;
    }
    let names = parts.iter().map(|(part, ..)| *part);
    let lowest = 60 + 22 * (i32::try_from(parts.len())? - 1);
    // In the order of the bars, the lowest below.
    draw_legend(&root, names, (width.cast_signed() + 10, lowest), (0, -22))?;
    root.present().map_err(|error| failed(&error))
}

fn configure(chart: &mut Chart<'_, '_>, unit: &str) -> Result<()> {
    chart
        .configure_mesh()
        .disable_x_mesh()
        .disable_x_axis()
        .light_line_style(TRANSPARENT)
        .y_desc(unit)
        .y_label_formatter(&|value| number(*value))
        .draw()
        .map_err(|error| failed(&error))
}

fn draw_bar(chart: &mut Chart<'_, '_>, bar: &Bar, left: f64, color: RGBColor, top: f64) -> Result<()> {
    let Bar { median, least, greatest, .. } = *bar;
    let (from, middle, to) = (left + (1.0 - FILLED) / 2.0, left + 0.5, left + f64::midpoint(1.0, FILLED));
    let body = Rectangle::new([(from, 0.0), (to, median)], color.filled());
    chart.draw_series([body]).map_err(|error| failed(&error))?;
    let cap = |height| PathElement::new([(middle - 0.06, height), (middle + 0.06, height)], BLACK);
    let spread = PathElement::new([(middle, least), (middle, greatest)], BLACK);
    chart.draw_series([spread, cap(least), cap(greatest)]).map_err(|error| failed(&error))?;
    label(chart, &number(median), (middle, greatest + top * 0.01))
}

/// A text above a place.
fn label(chart: &mut Chart<'_, '_>, text: &str, place: (f64, f64)) -> Result<()> {
    let style = (FONT, 13).into_font().color(&BLACK).pos(Pos::new(HPos::Center, VPos::Bottom));
    chart.draw_series([Text::new(text.to_owned(), place, style)]).map_err(|error| failed(&error))?;
    Ok(())
}

/// A text below the axis, with a line for each part between commas.
fn below_axis(root: &Area<'_>, chart: &Chart<'_, '_>, middle: f64, text: &str) -> Result<()> {
    let (x, mut y) = chart.backend_coord(&(middle, 0.0));
    for line in text.split(", ") {
        y += 16;
        let style = (FONT, 13).into_font().color(&BLACK).pos(Pos::new(HPos::Center, VPos::Bottom));
        root.draw(&Text::new(line.to_owned(), (x, y + 2), style)).map_err(|error| failed(&error))?;
    }
    Ok(())
}

/// Names, each behind a square of its colour; the first at a place, and each next one a step away.
fn draw_legend<'a>(
    root: &Area<'_>,
    names: impl Iterator<Item = &'a str>,
    (mut x, mut y): (i32, i32),
    step: (i32, i32),
) -> Result<()> {
    for (name, color) in names.zip(COLORS.iter().cycle()) {
        root.draw(&Rectangle::new([(x, y), (x + 11, y + 11)], color.filled()))
            .map_err(|error| failed(&error))?;
        let style = (FONT, 13).into_font().color(&BLACK).pos(Pos::new(HPos::Left, VPos::Center));
        root.draw(&Text::new(name.to_owned(), (x + 16, y + 6), style)).map_err(|error| failed(&error))?;
        (x, y) = (x + step.0, y + step.1);
    }
    Ok(())
}

fn failed(error: &dyn std::fmt::Display) -> anyhow::Error {
    anyhow!("{error}")
}
