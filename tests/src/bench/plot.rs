//! Plots, in SVG.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::report::{Quantity, number};

const BAR: RGBColor = RGBColor(70, 110, 170);
const FONT: &str = "sans-serif";

/// A bar for each case up to the median, and a line from the least to the greatest value.
///
/// # Errors
///
/// Where the file cannot be written.
pub(super) fn bars(path: &Path, subject: &str, quantity: &Quantity) -> Result<()> {
    let Quantity { name, unit, goal, cases } = quantity;
    let measured: Vec<_> =
        cases.iter().filter_map(|(case, sample)| Some((case, sample.median()?, sample.range()?))).collect();
    if measured.is_empty() {
        return Ok(());
    }
    let greatest = measured.iter().map(|(_, _, (_, greatest))| *greatest).fold(0.0, f64::max);
    let top = if greatest > 0.0 { greatest * 1.15 } else { 1.0 };
    let width = u32::try_from(measured.len())?;
    let root = SVGBackend::new(path, ((160 * width).max(480) + 100, 420)).into_drawing_area();
    let failed = |error: &dyn std::fmt::Display| anyhow!("{error}");
    root.fill(&WHITE).map_err(|error| failed(&error))?;
    let goal = goal.map_or_else(String::new, |goal| format!(" (goal: {goal})"));
    let mut chart = ChartBuilder::on(&root)
        .caption(format!("{subject}: {name}{goal}"), (FONT, 18))
        .margin(12)
        .x_label_area_size(30)
        .y_label_area_size(80)
        .build_cartesian_2d(0.0..f64::from(width), 0.0..top)
        .map_err(|error| failed(&error))?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .disable_x_axis()
        .y_desc(*unit)
        .y_label_formatter(&|value| number(*value))
        .draw()
        .map_err(|error| failed(&error))?;
    let centered = |vertical| (FONT, 14).into_font().color(&BLACK).pos(Pos::new(HPos::Center, vertical));
    for (place, (case, median, (least, greatest))) in (0_u32..).zip(measured) {
        let (left, middle) = (f64::from(place) + 0.2, f64::from(place) + 0.5);
        let right = f64::from(place) + 0.8;
        chart
            .draw_series([Rectangle::new([(left, 0.0), (right, median)], BAR.filled())])
            .map_err(|error| failed(&error))?;
        let cap = |height| PathElement::new([(middle - 0.05, height), (middle + 0.05, height)], BLACK);
        let spread = PathElement::new([(middle, least), (middle, greatest)], BLACK);
        chart.draw_series([spread, cap(least), cap(greatest)]).map_err(|error| failed(&error))?;
        chart
            .draw_series([Text::new(number(median), (middle, greatest + top * 0.01), centered(VPos::Bottom))])
            .map_err(|error| failed(&error))?;
        chart
            .draw_series([Text::new(case.clone(), (middle, -top * 0.02), centered(VPos::Top))])
            .map_err(|error| failed(&error))?;
    }
    root.present().map_err(|error| failed(&error))
}
