//! What was measured, as curves over the size of the tenant.

use std::{ops::Range, path::Path};

use plotters::{
    coord::Shift,
    prelude::{
        BLACK, BLUE, ChartBuilder, Circle, DrawingArea, GREEN, IntoDrawingArea, IntoLogRange,
        LineSeries, PathElement, RED, RGBColor, SVGBackend, SeriesLabelPosition, WHITE,
    },
    style::Color,
};

use crate::{Row, measure::Measured};

const SIZE: (u32, u32) = (960, 420);
const FONT: &str = "sans-serif";
const VERBS: [(&str, RGBColor); 3] = [("exchange", BLUE), ("list", GREEN), ("store", RED)];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws requests a second and the latency of the slowest hundredth, side by side.
pub(crate) fn draw(file: &Path, rows: &[Row]) {
    let area = SVGBackend::new(file, SIZE).into_drawing_area();
    area.fill(&WHITE).expect("the file that was asked for");
    let (left, right) = area.split_horizontally(SIZE.0 / 2);
    panel(&left, "requests a second, 16 clients", rows, |one| {
        one.requests_per_second
    });
    panel(&right, "p99, ms", rows, |one| one.p99_ms);
    area.present().expect("the file that was asked for");
}

fn panel(area: &Area<'_>, caption: &str, rows: &[Row], value: fn(&Measured) -> f64) {
    let highest = rows
        .iter()
        .map(|row| value(&row.median))
        .fold(0.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption(caption, (FONT, 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(56)
        .build_cartesian_2d(sizes(rows).log_scale(), 0.0..highest * 1.15)
        .expect("there are numbers");
    chart
        .configure_mesh()
        .x_desc("credentials of the tenant")
        .x_labels(8)
        .x_label_formatter(&|size| named(*size))
        .y_label_formatter(&|value| value.to_string())
        .label_style((FONT, 12))
        .light_line_style(WHITE)
        .draw()
        .expect("there is room");
    for (verb, colour) in VERBS {
        let of_verb = rows.iter().filter(|row| row.verb == verb);
        let points: Vec<(f64, f64)> = of_verb
            .map(|row| (f64::from(row.credentials), value(&row.median)))
            .collect();
        let line = LineSeries::new(points.clone(), colour.stroke_width(2));
        chart
            .draw_series(line)
            .expect("there is room")
            .label(verb)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
        let dots = points.into_iter();
        let dots = dots.map(|point| Circle::new(point, 3, colour.filled()));
        chart.draw_series(dots).expect("there is room");
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerLeft)
        .border_style(BLACK)
        .background_style(WHITE)
        .label_font((FONT, 12))
        .draw()
        .expect("there is room");
}

/// From the smallest tenant to the largest, with some room.
fn sizes(rows: &[Row]) -> Range<f64> {
    let sizes = rows.iter().map(|row| f64::from(row.credentials));
    let smallest = sizes.clone().fold(f64::INFINITY, f64::min);
    smallest / 1.5..sizes.fold(0.0, f64::max) * 1.5
}

/// As people say it.
fn named(size: f64) -> String {
    if size >= 1e6 {
        format!("{} million", size / 1e6)
    } else if size >= 1e3 {
        format!("{} thousand", size / 1e3)
    } else {
        size.to_string()
    }
}
