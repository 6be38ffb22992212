//! Plots as SVG, without a background and in middle tones: they read on a light page and on a dark one. The legend stands
//! below, where no line is.

use anyhow::{Result, anyhow};
use plotters::{
    coord::Shift,
    element::DashedPathElement,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use super::{Destination, Figures, Report};
use crate::{cluster::Position, contestants::Kind, probe::client::Operation};

/// Of the plot, without its legend.
const SIZE: (u32, u32) = (760, 420);
/// Of one name of the legend, and what it has before it.
const ROW: i32 = 20;
const STROKE: i32 = 26;
/// Where the legend begins: below the axis.
const LEFT: i32 = 72;
const MARGIN: i32 = 10;
/// What a character of the legend takes at most.
const CHARACTER: i32 = 7;
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
    let packets = |figures: &Figures| Some(figures.flood(random)?.per_second_ratio.median);
    let mut plots = vec![
        ("connect.svg", plot(report, "connect() to a random service: times the direct path", connect)?),
        ("programming.svg", plot(report, "milliseconds to program all services", programming)?),
        ("change.svg", plot(report, "milliseconds until one endpoint has changed", change)?),
    ];
    if report.has_floods() {
        let title = "packets per second to a random service: times the direct path";
        plots.push(("packets.svg", plot(report, title, packets)?));
    }
    Ok(plots)
}

const fn colour(kind: Kind) -> RGBColor {
    match kind {
        Kind::Direct => TEXT,
        Kind::Millrace => RGBColor(0x1a, 0x9a, 0x8a),
        Kind::MillraceTc | Kind::MillraceXdpGeneric => RGBColor(0x5a, 0xb0, 0x3c),
        Kind::MillraceStack | Kind::MillraceXdpNative => RGBColor(0x2f, 0x7d, 0xd1),
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
    /// With gaps, and its points are rings: it goes with a whole line of its colour.
    pub dashed: bool,
    pub points: Vec<(f64, f64)>,
}

impl Line {
    fn style(&self) -> ShapeStyle {
        self.colour.stroke_width(self.width)
    }
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
        dashed: false,
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
    let legend = Legend::of(lines);
    let root = SVGBackend::with_string(text, (SIZE.0, SIZE.1 + legend.height())).into_drawing_area();
    let (area, below) = root.split_vertically(SIZE.1);
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
        let points = line.points.iter().copied();
        if line.dashed {
            chart.draw_series(DashedLineSeries::new(points.clone(), 7, 5, line.style()))?;
            chart.draw_series(points.map(|point| Circle::new(point, 4, line.style())))?;
        } else {
            chart.draw_series(LineSeries::new(points.clone(), line.style()))?;
            chart.draw_series(points.map(|point| Circle::new(point, 3, line.colour.filled())))?;
        }
    }
    for (line, place) in lines.iter().zip(legend.places(lines.len())) {
        name(&below, line, place)?;
    }
    root.present()?;
    Ok(())
}

fn font(size: i32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&TEXT)
}

/// Names in columns, as many as there is room for.
struct Legend {
    rows: i32,
    column: i32,
}

impl Legend {
    fn of(lines: &[Line]) -> Self {
        let longest = lines.iter().map(|line| line.name.chars().count() as i32).max().unwrap_or(0);
        let column = STROKE + CHARACTER * (longest + 2);
        let columns = ((SIZE.0 as i32 - LEFT) / column).max(1);
        Self { rows: (lines.len() as i32 + columns - 1) / columns, column }
    }

    const fn height(&self) -> u32 {
        (self.rows * ROW + MARGIN) as u32
    }

    /// The left end of each name's stroke, down the columns, so that what belongs together stands together.
    fn places(&self, names: usize) -> impl Iterator<Item = (i32, i32)> + use<> {
        let (rows, column) = (self.rows.max(1), self.column);
        (0..names as i32).map(move |i| (LEFT + i / rows * column, i % rows * ROW + ROW / 2))
    }
}

fn name<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    line: &Line,
    (x, y): (i32, i32),
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    let stroke = [(x, y), (x + STROKE - 8, y)];
    if line.dashed {
        area.draw(&DashedPathElement::new(stroke, 7, 5, line.style()))?;
    } else {
        area.draw(&PathElement::new(stroke, line.style()))?;
    }
    let style = font(13).pos(Pos::new(HPos::Left, VPos::Center));
    area.draw(&Text::new(line.name.as_str(), (x + STROKE, y), style))
}

fn label(value: &f64) -> String {
    if *value >= 1.0 { format!("{value:.1}").trim_end_matches(".0").to_owned() } else { format!("{value}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, dashed: bool, points: &[(f64, f64)]) -> Line {
        Line { name: name.to_owned(), colour: RGBColor(0x1a, 0x9a, 0x8a), width: 2, dashed, points: points.to_vec() }
    }

    /// Values of an attribute of all elements of a kind.
    fn values(svg: &str, element: &str, attribute: &str) -> Vec<f64> {
        let elements = svg.split('<').filter(|text| text.starts_with(&format!("{element} ")));
        let value = |text: &str| text.split_once(&format!(" {attribute}=\""))?.1.split('"').next()?.parse().ok();
        elements.filter_map(value).collect()
    }

    fn with_names<'a>(svg: &'a str, lines: &[Line]) -> Vec<&'a str> {
        let texts = svg.split("<text ").skip(1);
        texts.filter(|text| lines.iter().any(|line| text.contains(&format!("\n{}\n", line.name)))).collect()
    }

    /// Lines that fill the plotting area, also its corners.
    fn crowded() -> Vec<Line> {
        let corners = [(1.0, 1.0), (1.0, 9000.0), (100_000.0, 9000.0), (100_000.0, 1.0)];
        (0..8).map(|i| line(&format!("XDP, established, services {i}"), i % 2 == 1, &corners)).collect()
    }

    #[test]
    fn the_legend_is_where_no_line_is() {
        let lines = crowded();
        let svg = drawn("a plot", &lines).unwrap();
        let data = values(&svg, "circle", "cy").into_iter().fold(0.0, f64::max);
        let names = with_names(&svg, &lines);
        assert_eq!(names.len(), lines.len());
        let (height, width) = (values(&svg, "svg", "height")[0], values(&svg, "svg", "width")[0]);
        for name in names {
            let at = |attribute| values(&format!("<text {name}"), "text", attribute)[0];
            let (top, right) = (at("y") - f64::from(ROW / 2), at("x") + f64::from(CHARACTER) * 27.0);
            assert!(top > data && top >= f64::from(SIZE.1), "{name} is at {top}, data goes down to {data}");
            assert!(at("y") < height && right <= width, "{name} leaves the picture");
        }
    }

    #[test]
    fn no_two_names_of_a_legend_overlap() {
        for count in [1, 3, 5, 8] {
            let legend = Legend::of(&crowded()[..count]);
            let places: Vec<_> = legend.places(count).collect();
            assert!(places.iter().all(|(_, y)| *y < legend.height() as i32), "{places:?}");
            for (i, one) in places.iter().enumerate() {
                for other in &places[..i] {
                    let apart = (one.0 - other.0).abs() >= legend.column || (one.1 - other.1).abs() >= ROW;
                    assert!(apart, "{one:?} and {other:?}");
                }
            }
        }
    }

    #[test]
    fn a_dashed_line_differs_from_a_whole_one_in_its_stroke_and_in_its_points() {
        let points = [(1.0, 50.0), (1000.0, 60.0)];
        let [whole, dashed] = [false, true].map(|dashed| drawn("a plot", &[line("one", dashed, &points)]).unwrap());
        let strokes = |svg: &str| svg.matches("<polyline").count();
        assert!(strokes(&dashed) > strokes(&whole) + 10, "{} and {}", strokes(&dashed), strokes(&whole));
        let rings =
            |svg: &str| svg.split('<').filter(|e| e.starts_with("circle") && e.contains("fill=\"none\"")).count();
        assert_eq!((rings(&whole), rings(&dashed)), (0, points.len()), "{dashed}");
    }
}
