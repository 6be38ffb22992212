//! Plots as SVG, without a background and in middle tones: they read on a light page and on a dark one.

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::{Destination, Figures, Report};
use crate::{cluster::Position, contestants::Kind, probe::client::Operation};

const SIZE: (u32, u32) = (760, 420);
const TEXT: RGBColor = RGBColor(0x80, 0x86, 0x8f);

/// File name and content of each.
///
/// # Errors
/// What the plotting library says.
pub fn plots(report: &Report) -> Result<Vec<(&'static str, String)>> {
    let random = Destination::Service(Position::Random);
    let connect = |figures: &Figures| Some(figures.traffic(Operation::Connect, random)?.p50_ratio.median);
    let programming = |figures: &Figures| Some(figures.programming?.median * 1000.0);
    let change = |figures: &Figures| Some(figures.change?.median);
    Ok(vec![
        ("connect.svg", plot(report, "connect() to a random service: times the direct path", connect)?),
        ("programming.svg", plot(report, "milliseconds to program all services", programming)?),
        ("change.svg", plot(report, "milliseconds until one endpoint has changed", change)?),
    ])
}

const fn colour(kind: Kind) -> RGBColor {
    match kind {
        Kind::Direct => TEXT,
        Kind::Millrace => RGBColor(0x1a, 0x9a, 0x8a),
        Kind::MillraceTc | Kind::MillraceXdpGeneric => RGBColor(0x5a, 0xb0, 0x3c),
        Kind::MillraceXdpNative => RGBColor(0x2f, 0x7d, 0xd1),
        Kind::IptablesLegacy => RGBColor(0xd9, 0x5f, 0x43),
        Kind::IptablesNft => RGBColor(0xd6, 0x8a, 0x1f),
        Kind::Nftables => RGBColor(0x7f, 0x6a, 0xd8),
        Kind::Ipvs => RGBColor(0xc9, 0x5a, 0xa6),
    }
}

/// What a line stands for, how it looks, and its value at each number of services.
pub(crate) struct Line {
    pub name: String,
    pub colour: RGBColor,
    pub width: u32,
    pub points: Vec<(f64, f64)>,
}

fn lines(report: &Report, value: impl Fn(&Figures) -> Option<f64>) -> Vec<Line> {
    let points = |kind| -> Vec<_> {
        let sizes = report.sizes.iter();
        sizes.filter_map(|size| Some((f64::from(size.services), value(size.of(kind)?)?))).collect()
    };
    let line = |kind: Kind| Line {
        name: kind.name().to_owned(),
        colour: colour(kind),
        // What is promised about comes out among its rivals.
        width: if kind.is_millrace() { 3 } else { 2 },
        points: points(kind),
    };
    Kind::ALL.into_iter().map(line).filter(|line| !line.points.is_empty()).collect()
}

fn plot(report: &Report, title: &str, value: impl Fn(&Figures) -> Option<f64>) -> Result<String> {
    let title = if report.is_emulated() { &format!("{title} (emulated)") } else { title };
    drawn(title, &lines(report, value))
}

/// A plot by number of services.
///
/// # Errors
/// What the plotting library says.
pub(crate) fn drawn(title: &str, lines: &[Line]) -> Result<String> {
    let mut text = String::new();
    draw(&mut text, title, lines).map_err(|error| anyhow!("cannot draw \"{title}\": {error}"))?;
    Ok(text)
}

fn draw(text: &mut String, title: &str, lines: &[Line]) -> Result<(), Box<dyn std::error::Error>> {
    let points = || lines.iter().flat_map(|line| line.points.iter().copied());
    let extent = |of: fn((f64, f64)) -> f64| {
        // Nobody took part: an empty plot, and axes that end.
        if lines.is_empty() {
            return (1.0, 10.0);
        }
        points().map(of).fold((f64::MAX, f64::MIN_POSITIVE), |(low, high), v| (low.min(v), high.max(v)))
    };
    let ((left, right), (bottom, top)) = (extent(|point| point.0), extent(|point| point.1));
    let area = SVGBackend::with_string(text, SIZE).into_drawing_area();
    let font = |size| ("sans-serif", size).into_font().color(&TEXT);
    let mut chart = ChartBuilder::on(&area)
        .caption(title, font(17))
        .margin(10)
        .margin_right(40)
        .x_label_area_size(38)
        .y_label_area_size(62)
        .build_cartesian_2d((left..right.max(left * 10.0)).log_scale(), (bottom / 1.2..top * 1.2).log_scale())?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(TEXT.mix(0.25))
        .light_line_style(TRANSPARENT)
        .y_labels(14)
        .axis_style(TEXT)
        .label_style(font(13))
        .x_desc("services")
        .x_label_formatter(&|x| super::markdown::thousands(x.round() as u32))
        .y_label_formatter(&label)
        .draw()?;
    for line in lines {
        let colour = line.colour;
        let style = colour.stroke_width(line.width);
        chart
            .draw_series(LineSeries::new(line.points.iter().copied(), style))?
            .label(line.name.as_str())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
        chart.draw_series(line.points.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
    }
    chart.configure_series_labels().position(SeriesLabelPosition::UpperLeft).label_font(font(13)).draw()?;
    area.present()?;
    Ok(())
}

fn label(value: &f64) -> String {
    if *value >= 1.0 { format!("{value:.1}").trim_end_matches(".0").to_owned() } else { format!("{value}") }
}
